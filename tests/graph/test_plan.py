"""The NumPy plan: nothing large is allocated in the steady state, and no buffer is used while somebody needs it."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradloom as gl
from gradloom import nn

F = nn.functional


def training(model, optimizer):
    criterion = nn.CrossEntropyLoss()

    @gl.jit
    def step(x, y):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def mlp():
    gl.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 10))
    return model, (128, 64)


def lenet():
    gl.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 5 * 5, 120), nn.ReLU(), nn.Linear(120, 10),
    )  # fmt: skip
    return model, (16, 1, 28, 28)


def batches(shape, count):
    rng = np.random.default_rng(0)
    return [
        (gl.tensor(rng.normal(size=shape).astype("float32")), gl.tensor(rng.integers(0, 10, shape[0])))
        for _ in range(count)
    ]


MODELS = {"mlp": mlp, "lenet": lenet}


@pytest.fixture(params=MODELS)
def planned(request):
    """(name, a compiled step that was run, batches, its graph and plan)."""
    model, shape = MODELS[request.param]()
    step = training(model, gl.optim.Adam(model.parameters(), lr=1e-3))
    found = batches(shape, 3)
    for batch in found:
        step(*batch)
    return request.param, step, found, step._last.plan


# --------------------------------------------------------------------------------------------------------- allocation

# Bytes that one step may hold at once, beyond its buffers: rows of the loss, small vectors, and what NumPy itself takes
# to change dtypes on the way (8,192 elements).
BOUND = {"mlp": 64_000, "lenet": 128_000}


def test_nothing_large_is_allocated(planned):
    name, step, (first, *_), plan = planned
    largest = max(math.prod(v.shape) * v.dtype.itemsize for node in plan.graph.nodes for v in node.outputs)
    assert largest > 2 * BOUND[name], "the model is too small for this test to mean anything"
    step(*first)
    tracemalloc.start()
    try:
        step(*first)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(3):
            step(*first)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < BOUND[name], f"{peak - before} bytes at once"
    assert after - before < 4_000, "memory grows from step to step"


def test_buffers_are_shared(planned):
    """All buffers together are much smaller than all values."""
    _, _, _, plan = planned
    values = [v for node in plan.graph.nodes for v in node.outputs]
    total = sum(math.prod(v.shape) * v.dtype.itemsize for v in values)
    assert 0 < plan.bytes < total / 2, f"{plan.bytes} of {total} bytes"


def test_results_and_state_are_not_buffers(planned):
    """What a step gives out shares no memory with what the next one writes."""
    _, step, (first, second, _), plan = planned
    buffers = list(step._last.plan.arrays.values())
    loss = step(*first).detach()
    copy = loss.numpy().copy()
    assert not any(np.shares_memory(loss.native, a) for a in buffers)
    step(*second)
    np.testing.assert_array_equal(loss.numpy(), copy)


# ----------------------------------------------------------------------------------------------------- random programs

# Values of 512 bytes and more get buffers.
SHAPES = [(16, 24), (24, 16), (16, 24)]


def both(a, b):
    """Two values in shapes that broadcast."""
    try:
        np.broadcast_shapes(tuple(a.shape), tuple(b.shape))
    except ValueError:
        return a, b.mean()
    return (a, b) if a.numel() * b.numel() < 4e6 and math.prod(
        np.broadcast_shapes(tuple(a.shape), tuple(b.shape))
    ) < 20_000 else (a, b.mean())  # fmt: skip


def _axis(a, k):
    return k % a.ndim


def _matmul(a, b, k):
    if a.ndim >= 2 and b.ndim == 2 and a.shape[-1] == b.shape[-1]:
        return (a @ b.t()) * 0.05
    return (a @ a.transpose(-1, -2)) * 0.05 if a.ndim >= 2 else a * 0.5


def _reshape(a, b, k):
    n = a.numel()
    for d in (k % 5 + 2, 8, 4, 2):
        if n % d == 0:
            return a.reshape(d, n // d)
    return a.reshape(-1)


def _slice(a, b, k):
    if not a.ndim:
        return a
    d = _axis(a, k)
    n = a.shape[d]
    return a if n < 3 else a[(slice(None),) * d + ((slice(1, None), slice(None, -1), slice(0, n, 2))[k % 3],)]


def _cat(a, b, k):
    if a.ndim and a.numel() < 4000:
        d = _axis(a, k)
        same = a.ndim == b.ndim and all(m == n for i, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)) if i != d)
        return gl.cat([a, b if same and b.numel() < 4000 else a * 2], d)
    return a


def _pool(a, b, k):
    if a.ndim == 2 and a.shape[1] > 3:
        return F.max_pool1d(a[None], 2, stride=1 + k % 2)[0]
    return a


def _conv(a, b, k):
    if a.ndim == 2 and a.shape[1] > 3 and a.shape[0] < 64:
        return F.conv1d(a[None], a[:, :3][None].tanh(), padding=k % 2)[0] * 0.1
    return a


def _in_place(a, b, k):
    c = a * 1
    if k % 4 == 0:
        c.mul_(1.5).add_(0.25)
    elif k % 4 == 1 and c.ndim:
        c[0] = 0.5
    elif k % 4 == 2 and c.ndim:
        c[1:].mul_(2)
    else:
        view = c.reshape(-1)
        view.tanh_()
    return c


def _masked(a, b, k):
    a, b = both(a, b)
    return gl.where(a > b, a, b) if k % 2 else gl.where(a > 0.1, a, 0)


STEPS = [
    lambda a, b, k: (a.relu(), a.tanh(), a.sigmoid(), a.abs(), -a, (a * 0.3).exp().tanh())[k % 6],
    lambda a, b, k: (lambda x, y: (x + y, x - y, (x * y).tanh(), x.maximum(y), x / (y.abs() + 1))[k % 5])(*both(a, b)),
    _matmul,
    _reshape,
    lambda a, b, k: a.transpose(_axis(a, k), _axis(a, k // 3)) if a.ndim else a,
    _slice,
    lambda a, b, k: a.sum(_axis(a, k), keepdim=k % 2 == 0) * 0.1 if a.ndim else a,
    lambda a, b, k: a.mean(_axis(a, k), keepdim=True) if a.ndim else a,
    lambda a, b, k: a.amax(_axis(a, k), keepdim=True) if a.ndim else a,
    lambda a, b, k: a.softmax(_axis(a, k)) if a.ndim else a,
    lambda a, b, k: a.cumsum(_axis(a, k)) * 0.1 if a.ndim else a,
    lambda a, b, k: F.pad(a, (k % 3, 1), value=0.5) if a.ndim and a.numel() < 4000 else a,
    _masked,
    _cat,
    _pool,
    _conv,
    _in_place,
    lambda a, b, k: a.flip(_axis(a, k)) if a.ndim else a,
    lambda a, b, k: gl.stack([a, a * 0.5], _axis(a, k)) if a.ndim and a.ndim < 3 and a.numel() < 4000 else a,
    lambda a, b, k: a.float() + (a > 0).float() * 0.5,
    lambda a, b, k: a.expand(3, *a.shape) if a.ndim < 2 else a * 1,
]
instruction = st.tuples(
    st.integers(0, len(STEPS) - 1), st.integers(0, 30), st.integers(0, 30), st.integers(0, 11)
)  # (what, operand, operand, detail); the operands count from the last value
programs = st.lists(instruction, min_size=2, max_size=14)


def interpreter(program, returned, gradients):
    """A function of Tensors that does what the instructions say."""

    def run(*inputs):
        if gradients:
            inputs = [x.detach().requires_grad_() for x in inputs]
        values = list(inputs)
        for what, i, j, k in program:
            values.append(STEPS[what](values[-1 - i % len(values)], values[-1 - j % len(values)], k))
        outs = [values[-1 - r % len(values)] for r in returned]
        if gradients:
            loss = sum((v * v).mean() for v in values[len(inputs) :])
            grads = gl.autograd.grad(loss, inputs, allow_unused=True)
            outs = [o.detach() for o in outs] + [g for g in grads if g is not None] + [loss.detach()]
        return outs

    return run


def drawn(t):
    rng = np.random.default_rng(t)
    return [gl.tensor(rng.standard_normal(s).astype("float32")) for s in SHAPES]


def close(mine, expected, what):
    assert tuple(mine.shape) == tuple(expected.shape) and mine.dtype is expected.dtype, what
    expected = expected.detach().numpy()
    size = float(np.max(np.abs(expected), initial=1.0))
    np.testing.assert_allclose(mine.detach().numpy(), expected, rtol=1e-5, atol=2e-6 * size, err_msg=what)


def check(program, returned, gradients):
    run = interpreter(program, returned, gradients)
    compiled = gl.jit(run)
    held = []
    for t in (0, 1, 2, 0):
        inputs = drawn(t)
        before = [x.numpy().copy() for x in inputs]
        found, expected = compiled(*inputs), run(*inputs)
        assert len(found) == len(expected)
        for i, (m, e) in enumerate(zip(found, expected, strict=True)):
            close(m, e, f"call {len(held)}, result {i}")
        for x, b in zip(inputs, before, strict=True):
            np.testing.assert_array_equal(x.numpy(), b, err_msg="an argument was changed")
        held.append((found, [m.detach().numpy().copy() for m in found]))
    assert compiled.compiles == 1
    for t, (found, copies) in enumerate(held):
        for i, (m, c) in enumerate(zip(found, copies, strict=True)):
            np.testing.assert_array_equal(m.detach().numpy(), c, err_msg=f"result {i} of call {t} was overwritten")


@settings(max_examples=120)
@given(programs, st.lists(st.integers(0, 30), min_size=1, max_size=3), st.booleans())
def test_random_programs(program, returned, gradients):
    """Compiled on NumPy, programs give what they give eagerly, call after call, and leave earlier results alone."""
    check(program, returned, gradients)


@settings(max_examples=30)
@given(programs)
def test_random_programs_with_state(program):
    """As above, with a captured Tensor that each call reads, and changes in place."""

    def build():
        state = gl.tensor(np.linspace(-1, 1, 16 * 24, dtype="float32").reshape(16, 24))
        run = interpreter(program, [0], False)

        def step(x):
            y = run(x, state, x * 0.5)[0]
            state.mul_(0.5).add_(x * 0.25)
            return y, state.mean()

        return state, step

    (mine, compiled), (theirs, eager) = build(), build()
    compiled = gl.jit(compiled)
    for t in range(3):
        x = drawn(t)[0]
        for m, e in zip(compiled(x), eager(x), strict=True):
            close(m, e, f"call {t}")
        close(mine, theirs, f"the state after call {t}")


@pytest.mark.parametrize("optimizers", [1, 2])
def test_one_gradient_of_two_parameters(optimizers):
    """Both biases of a(x) + b(y) have the same one: a single value, which is wanted in two places."""
    gl.manual_seed(0)
    a, b = gl.nn.Linear(5, 3), gl.nn.Linear(5, 3)
    groups = [[*a.parameters(), *b.parameters()]] if optimizers == 1 else [a.parameters(), b.parameters()]
    chosen = [gl.optim.SGD(group, lr=1.0) for group in groups]
    x = gl.randn(44, 5)
    before = [p.detach().numpy().copy() for p in (a.bias, b.bias)]

    @gl.jit
    def step(x):
        loss = ((a(x) + b(x * 2)) ** 2).mean()
        loss.backward()
        for optimizer in chosen:
            optimizer.step()
            optimizer.zero_grad()
        return loss

    loss = ((a(x) + b(x * 2)) ** 2).mean()
    expected = gl.autograd.grad(loss, [a.bias, b.bias])
    step(x)
    for p, old, g in zip((a.bias, b.bias), before, expected, strict=True):
        np.testing.assert_allclose(old - p.detach().numpy(), g.numpy(), rtol=1e-4, atol=1e-6)
