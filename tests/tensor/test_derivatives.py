"""Gradients through changes in place and views, and higher derivatives, against PyTorch's."""

import numpy as np
import pytest

import gradloom as gl

torch = pytest.importorskip("torch")

from tensor.programs import case, close, maker, plain, same, table  # noqa: E402

# ---------------------------------------------------------------------------------------------- changes in place, views


PROGRAMS: dict = {}


@case(PROGRAMS)
def in_place_arithmetic(L, T):
    x, w = T([1.0, 2.0, 3.0]), T([4.0, 5.0, 6.0])
    y = x * 2
    y.add_(w).mul_(w.detach()).sub_(1, alpha=2)
    y += x
    y /= 2
    (y * T([1.0, 2.0, 3.0], False)).sum().backward()
    return y, x.grad, w.grad


@case(PROGRAMS)
def copy_into_a_slice(L, T):
    x, w = T([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), T([7.0, 8.0])
    y = x * x
    y[:, 1].copy_(w * w)
    (y * y).sum().backward()
    return y, x.grad, w.grad


@case(PROGRAMS)
def broadcast_copy_into_zeros(L, T):
    w, buffer = T([7.0, 8.0]), T([[0.0, 0.0], [0.0, 0.0]], False)
    buffer.copy_(w)
    buffer[0] *= 3
    (buffer * buffer).sum().backward()
    return buffer.requires_grad, buffer, w.grad


@case(PROGRAMS)
def setitem_with_every_kind_of_key(L, T):
    x, w = T([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]), T([2.0, 3.0, 4.0])
    y = x * 1
    y[0] = w
    y[1:, ::2] = w[:2] * 2
    y[[2, 0], [1, 1]] = w[1:] * w[1:]
    y[y.detach() > 8] = 0.5
    y[..., 0] += w
    (y * y).sum().backward()
    return y, x.grad, w.grad


@case(PROGRAMS)
def change_through_a_transposed_view(L, T):
    x, w = T([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), T([10.0, 20.0])
    y = x * x
    t = y.t()
    t.mul_(w)
    t[0].add_(w)
    s = y.reshape(3, 2)[1:]
    (y * y).sum().backward(retain_graph=True)
    (s * s).sum().backward()
    return y, t, s, x.grad, w.grad


@case(PROGRAMS)
def change_through_views_of_views(L, T):
    x = T([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    y = x * 1
    a = y.view(2, 2, 2)
    b = a.permute(2, 0, 1)[1]
    c = b.unsqueeze(0)[0, 1]
    c.add_(x[0, :2])
    b.mul_(2)
    a[0, 0].zero_()
    (c * c).sum().backward(retain_graph=True)
    y.sin().sum().backward()
    return y, a, b, c, x.grad


@case(PROGRAMS)
def change_of_the_base_after_the_view_was_made(L, T):
    x = T([1.0, 2.0, 3.0, 4.0])
    y = x * 1
    v = y[1:3]
    y.mul_(x)
    v.mul_(2)
    y.add_(1)
    (v * v).sum().backward()
    return v, x.grad


@case(PROGRAMS)
def fills_cut_the_gradient(L, T):
    x = T([1.0, 2.0, 3.0, 4.0])
    y = x * 3
    y[:1].zero_()
    y[1:2].fill_(5.0)
    y.masked_fill_(y.detach() > 10, 0.0)
    z = x * 1
    z.zero_()
    ((y * y).sum() + z.sum()).backward()
    return z.requires_grad, y, x.grad


@case(PROGRAMS)
def diagonal_and_expanded_views(L, T):
    x = T([[1.0, 2.0], [3.0, 4.0]])
    y = x * x
    y.diagonal().mul_(T([5.0, 6.0], False))
    y.unsqueeze(0).squeeze(0).flatten()[1:3].add_(x[0])
    (y * y).sum().backward()
    return y, x.grad


@case(PROGRAMS)
def change_of_a_detached_view_by_what_requires_grad(L, T):
    x, w = T([1.0, 2.0, 3.0, 4.0]), T([5.0, 6.0])
    y = x * 1
    d, e = y[:2].detach(), y.detach()
    d.mul_(w)
    e.add_(w.sum())
    (d.sum() + e.sum()).backward()
    return d.requires_grad, y, w.grad, x.grad


@case(PROGRAMS)
def change_under_no_grad_keeps_the_history(L, T):
    x = T([1.0, 2.0, 3.0])
    y = x * 2
    v = y[1:]
    with L.no_grad():
        y.add_(100)
        v.mul_(2)
        x[0] = 50.0
    (y.sum() + (v * v).sum()).backward()
    return y, v, x, x.is_leaf, x.grad


@case(PROGRAMS)
def view_that_is_a_leaf_stays_one_when_its_memory_changes(L, T):
    flat = T([1.0, 2.0, 3.0], False)
    p = flat[1:]
    p.requires_grad_()
    with L.no_grad():
        p.sub_(1)
        flat.mul_(2)
    (p * p).sum().backward()
    return p.requires_grad, p.is_leaf, p, flat, p.grad


@case(PROGRAMS)
def second_derivative_through_a_change_in_place(L, T):
    x = T([1.0, 2.0, 3.0])
    y = x * x
    y[1:] *= x[1:]
    y.t()[0] = y[1] * 2
    (g,) = L.autograd.grad((y * y).sum(), x, create_graph=True)
    return g, L.autograd.grad((g * g).sum(), x)


@table(PROGRAMS)
def test_program_gives_what_pytorch_gives(program, dtype):
    same(program, dtype)
    assert torch.is_grad_enabled() and gl.is_grad_enabled()


# --------------------------------------------------------------------------------------------------- higher derivatives


def nf(L):
    return L.nn.functional


def normalized(x, w, axis):
    """batch_norm and layer_norm of operations: PyTorch's own are wrong from the third derivative on."""
    centered = x - x.mean(axis, keepdim=True)
    return centered / ((centered**2).mean(axis, keepdim=True) + 1e-5).sqrt() * w[:, 0] + w[:, 1]


SMOOTH = {
    "mul chain": lambda L, x, w: x * x * w.t() * x * (x * w.t()),
    "polynomial": lambda L, x, w: x**4 + 2 * x**3 - 1 / (x + 3),
    "exp": lambda L, x, w: (x * w.t()).exp(),
    "trigonometric": lambda L, x, w: x.sin() * w.t().cos() + (x * w.t()).tanh(),
    "log and sqrt": lambda L, x, w: (x * x + 1).log() * (w.t() * w.t() + 1).sqrt(),
    "pow of two": lambda L, x, w: (x * x + 0.5) ** w.t(),
    "matmul": lambda L, x, w: (x @ w) @ (x @ w),
    "batched matmul, broadcast": lambda L, x, w: x.reshape(3, 1, 4) * x @ (w * w),
    "einsum": lambda L, x, w: L.einsum("ij,jk,il->kl", x, w, x),
    "linear": lambda L, x, w: nf(L).linear(x * x, w.t(), w[0]),
    "softmax": lambda L, x, w: x.softmax(1) * w.t(),
    "log_softmax": lambda L, x, w: x.log_softmax(0) * w.t(),
    "logsumexp": lambda L, x, w: (x * w.t()).logsumexp(1) * x.logsumexp(0).sum(),
    "conv": lambda L, x, w: nf(L).conv2d((x * x)[None, None], w[None, None, :2, :2], w[0, :1], padding=1),
    "conv, strided": lambda L, x, w: nf(L).conv1d(x[None], w.t()[None] * 2, stride=1, padding=2),
    "batch_norm": lambda L, x, w: (
        nf(L).batch_norm(x, None, None, w[:, 0], w[:, 1], training=True) if L is gl else normalized(x, w, 0)
    ),
    "layer_norm": lambda L, x, w: nf(L).layer_norm(x, (4,), w[:, 0], w[:, 1]) if L is gl else normalized(x, w, 1),
    "norm": lambda L, x, w: x.norm() * w.norm(dim=0),
    "mean, var": lambda L, x, w: x.var(1) * x.mean(1) + w.std(0),
    "prod": lambda L, x, w: x.prod(1) * w.prod(0),
    "indexing": lambda L, x, w: x[1:, ::2] * x[[0, 2]][:, [1, 1]] * w[0, :2],
    "gather": lambda L, x, w: x.gather(1, L.tensor([[0, 0], [2, 3], [1, 1]])) * w[:3, :2],
    "masked": lambda L, x, w: (x * w.t())[L.tensor([True, False, True])] * x[:2],
    "scatter_add": lambda L, x, w: (x * x).scatter_add(1, L.tensor([[0, 0], [2, 3], [1, 1]]), w[:3, :2] * w[:3, :2]),
    "cumsum": lambda L, x, w: (x * w.t()).cumsum(1) * x,
    "cumprod": lambda L, x, w: (x + 2).cumprod(1) * w.t(),
    "where": lambda L, x, w: L.where(x > 0, x * x * w.t(), x.exp()),
    "max along an axis": lambda L, x, w: (x * x).max(1)[0] * w.t().max(1).values,
    "max of all": lambda L, x, w: (x * x).max() * w,
    "amax": lambda L, x, w: (x * x * x).amax(0) * x.amin(0),
    "sort": lambda L, x, w: (x * x).sort(1)[0] * w.t(),
    "maximum, clamp": lambda L, x, w: L.maximum(x * x, w.t()) * x.clamp(-0.5, 0.8),
    "cat, stack, split": lambda L, x, w: L.cat([x * x, w.t()]).split(2)[1] * L.stack([x[0], w[:, 0]]),
    "roll, flip, pad": lambda L, x, w: x.roll(1, 0) * x.flip(1) * nf(L).pad(x[:, :2], (1, 1)),
    "tril, outer": lambda L, x, w: (x @ w).tril() * L.outer(x[:, 0], w[0]),
    "gelu, silu, softplus": lambda L, x, w: nf(L).gelu(x) * nf(L).silu(w.t()) + nf(L).softplus(x * w.t()),
    "cross_entropy": lambda L, x, w: nf(L).cross_entropy(x * w.t(), L.tensor([1, 0, 3])),
    "mse, bce": lambda L, x, w: nf(L).mse_loss(x, w.t()) * nf(L).binary_cross_entropy_with_logits(x, w.t().sigmoid()),
    "attention": lambda L, x, w: nf(L).scaled_dot_product_attention(x[None], w.t()[None], x[None] * x[None]),
}  # fmt: skip


@pytest.mark.parametrize("f", SMOOTH.values(), ids=SMOOTH)
def test_derivatives_up_to_the_third(f, dtype):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((3, 4)), rng.standard_normal((4, 3))
    found = {}
    for L, d in ((torch, "float64"), (gl, dtype)):
        x, w = (maker(L, d)(v.tolist()) for v in values)
        total, derivatives = f(L, x, w), []
        for order in range(3):
            seeds = np.random.default_rng(order)
            parts = total if isinstance(total, tuple) else (total,)
            s = sum((t * maker(L, d)(seeds.standard_normal(tuple(t.shape)).tolist(), False)).sum() for t in parts)
            if not s.requires_grad:
                total = tuple(L.zeros_like(t) for t in (x, w))
                derivatives.append([plain(t) for t in total])
                continue
            total = L.autograd.grad(s, [x, w], create_graph=order < 2, materialize_grads=True)
            derivatives.append([plain(t) for t in total])
        found[L] = derivatives
    for mine, theirs in zip(found[gl], found[torch], strict=True):
        for m, t in zip(mine, theirs, strict=True):
            scale = max(1.0, np.abs(t).max())
            np.testing.assert_allclose(m, t, rtol=0, atol=scale * (1e-9 if dtype == "float64" else 1e-3))


def test_second_derivative_through_backward_with_create_graph(dtype):
    T = maker(gl, dtype)
    x = T([1.0, 2.0])
    (x**3).sum().backward(create_graph=True)
    g, x.grad = x.grad, None
    assert g.requires_grad
    (g * g).sum().backward()
    np.testing.assert_allclose(x.grad.tolist(), [36.0, 288.0], rtol=1e-5)  # d (3x²)² = 36 x³
    (x**2).sum().backward()
    assert not x.grad.requires_grad


def test_training_with_a_gradient_penalty(dtype):
    rng = np.random.default_rng(1)
    values = [rng.standard_normal(s).tolist() for s in ((5, 3), (3, 4), (4, 1))]
    losses = {}
    for L, d in ((torch, "float64"), (gl, dtype)):
        T = maker(L, d)
        x, ws = T(values[0]), [T(v) for v in values[1:]]
        optimizer = L.optim.SGD(ws, lr=0.1)
        losses[L] = []
        for _ in range(4):
            optimizer.zero_grad()
            score = (x @ ws[0]).tanh() @ ws[1]
            (g,) = L.autograd.grad(score.sum(), x, create_graph=True)
            loss = (score**2).mean() + ((g.norm(dim=1) - 1) ** 2).mean()
            loss.backward()
            optimizer.step()
            losses[L].append(loss.item())
        losses[L] += [plain(w) for w in ws] + [plain(x.grad)]
    tolerance = 1e-9 if dtype == "float64" else 1e-4
    assert close(losses[gl], losses[torch], tolerance), losses
