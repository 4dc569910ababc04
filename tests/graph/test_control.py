"""scan, cond and while_loop: against plain Python loops and PyTorch, eagerly and compiled, on every engine."""

import numpy as np
import pytest

import gradloom as gl
from gradloom import errors, nn

T, B, F, H = 6, 3, 4, 5
CLOSE = {"rtol": 2e-5, "atol": 2e-5}


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def weights():
    """Of an RNN: W, U, b."""
    return [
        gl.tensor(array(*shape, seed=k) * 0.5, requires_grad=True) for k, shape in enumerate([(F, H), (H, H), (H,)])
    ]


def cell(h, x, w, u, b):
    return gl.tanh(x @ w + h @ u + b)


def rnn(ws, h, xs, reverse=False):
    def step(h, x):
        h = cell(h, x, *ws)
        return h, h * h

    return gl.scan(step, h, xs, reverse=reverse)


def unrolled(ws, h, xs, reverse=False):
    ys = {}
    for t in reversed(range(len(xs))) if reverse else range(len(xs)):
        h = cell(h, xs[t], *ws)
        ys[t] = h * h
    return h, gl.stack([ys[t] for t in sorted(ys)])


def loss_of(run, *args, **options):
    h, ys = run(*args, **options)
    return (h * 0.3).sum() + (ys * ys).mean()


def same(a, b, **tolerance):
    for x, y in zip(a, b, strict=True):
        x, y = (v.detach().numpy() if isinstance(v, gl.Tensor) else v for v in (x, y))
        np.testing.assert_allclose(x, y, **(tolerance or CLOSE))


# ------------------------------------------------------------------------------------------------------------ scan


def test_scan_is_the_loop(backend):
    for reverse in (False, True):
        h, ys = rnn(weights(), gl.zeros(B, H), gl.tensor(array(T, B, F)), reverse)
        h2, ys2 = unrolled(weights(), gl.zeros(B, H), gl.tensor(array(T, B, F)), reverse)
        same((h, ys), (h2, ys2))


def test_trees_integers_and_no_sequences(backend):
    init = {"n": gl.tensor(0), "s": (gl.tensor(0.0), None)}
    xs = [gl.tensor([1, 2, 3]), gl.tensor([0.5, 0.5, 2.0])]

    def step(c, x):
        s = c["s"][0] + x[1]
        return {"n": c["n"] + x[0], "s": (s, None)}, {"s": s, "n": c["n"], "none": None}

    carry, ys = gl.scan(step, init, xs)
    assert carry["n"].item() == 6 and carry["n"].dtype is gl.int64 and carry["s"][1] is None
    assert carry["s"][0].item() == 3.0
    assert ys["n"].tolist() == [0, 1, 3] and ys["s"].tolist() == [0.5, 1.0, 3.0] and ys["none"] is None
    total, powers = gl.scan(lambda c, _: (c * 2, c), gl.tensor(1.0), length=5)
    assert (total.item(), powers.tolist()) == (32.0, [1.0, 2.0, 4.0, 8.0, 16.0])
    carry, ys = gl.scan(lambda c, x: (c + x, None), 0.0, gl.tensor([1.0, 2.0]))
    assert carry.item() == 3.0 and ys is None


def test_no_steps(backend):
    c, ys = gl.scan(lambda c, x: (c + x.sum(), x * 2), gl.tensor(1.0), gl.zeros(0, 3))
    assert c.item() == 1.0 and ys.shape == (0, 3) and ys.dtype is gl.float32


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients(backend, reverse):
    """Of the weights that f takes from outside, of the first carry and of the sequence."""
    found = []
    for run in (rnn, unrolled):
        ws = weights()
        h, xs = (gl.tensor(array(*s, seed=9), requires_grad=True) for s in [(B, H), (T, B, F)])
        loss = loss_of(run, ws, h * 1.0, xs * 1.0, reverse)  # not leaves: gradients pass through what was made before
        loss.backward()
        found.append([loss, *(t.grad for t in (*ws, h, xs))])
    same(*found)


def test_gradients_against_torch():
    torch = pytest.importorskip("torch")
    ws = weights()
    h, ys = rnn(ws, gl.zeros(B, H), gl.tensor(array(T, B, F)))
    ((h * 0.3).sum() + (ys * ys).mean()).backward()
    tw = [torch.tensor(w.detach().numpy(), requires_grad=True) for w in ws]
    th, tys = torch.zeros(B, H), []
    for x in torch.tensor(array(T, B, F)):
        th = torch.tanh(x @ tw[0] + th @ tw[1] + tw[2])
        tys.append(th * th)
    ((th * 0.3).sum() + (torch.stack(tys) ** 2).mean()).backward()
    same([w.grad for w in ws], [w.grad.numpy() for w in tw])


class LSTM(nn.Module):
    def __init__(self, unroll):
        super().__init__()
        self.x, self.h, self.out, self.unroll = (
            nn.Linear(F, 4 * H),
            nn.Linear(H, 4 * H, bias=False),
            nn.Linear(H, 2),
            unroll,
        )

    def step(self, carry, x):
        h, c = carry
        i, f, g, o = gl.split(self.x(x) + self.h(h), H, dim=-1)
        c = gl.sigmoid(f) * c + gl.sigmoid(i) * gl.tanh(g)
        h = gl.sigmoid(o) * gl.tanh(c)
        return (h, c), h

    def forward(self, xs):
        carry = (gl.zeros(xs.shape[1], H), gl.zeros(xs.shape[1], H))
        if not self.unroll:
            (h, _), _ = gl.scan(self.step, carry, xs)
            return self.out(h)
        for t in range(xs.shape[0]):
            carry, h = self.step(carry, xs[t])
        return self.out(h)


def training(unroll, compiled):
    gl.manual_seed(3)
    model = LSTM(unroll)
    optimizer = gl.optim.Adam(model.parameters(), lr=0.05)

    def step(xs, target):
        optimizer.zero_grad()
        loss = ((model(xs) - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    return model, gl.jit(step) if compiled else step


@pytest.mark.parametrize("compiled", [False, True])
def test_training_an_lstm(backend, compiled):
    """The whole step, eagerly and compiled, against the unrolled model."""
    xs, target = gl.tensor(array(T, B, F)), gl.tensor(array(B, 2, seed=1))
    a, step = training(False, compiled)
    b, plain = training(True, False)
    for _ in range(4):
        same([step(xs, target)], [plain(xs, target)])
    same(a.state_dict().values(), b.state_dict().values(), rtol=1e-3, atol=1e-4)


def test_the_graph_does_not_grow(backend):
    nodes = []
    for length in (3, 40):
        _, step = training(False, True)
        step(gl.tensor(array(length, B, F)), gl.tensor(array(B, 2)))
        nodes.append(step.node_count)
        text = step.source
    assert nodes[0] == nodes[1] < 80
    assert text.count(" scan(") == 3  # its definition, forward and backward
    assert "def scan_body(" in text and "def scan_body_1(" in text
    assert "jax.lax.scan(" in text if backend == "jax" else "for i in range(" in text


def test_what_is_not_used_is_not_computed():
    w = gl.tensor(2.0, requires_grad=True)

    @gl.jit
    def last(xs):
        (a, _), _ = gl.scan(
            lambda c, x: ((c[0] * w + x, c[1] + gl.exp(x)), gl.sin(x)), (gl.tensor(0.0), gl.tensor(0.0)), xs
        )
        return a

    assert last(gl.tensor([1.0, 2.0])).item() == 4.0
    body = last.source.partition("def scan_body(")[2].partition("def ")[0]
    assert "exp" not in body and "sin" not in body
    assert "carries=1, sequences=1" in last.source
    assert body.count("return (add_1,)") == 1  # the carries are not kept: nothing asks for a gradient


@pytest.mark.parametrize("compiled", [False, True])
def test_the_tape_of_f_decides(compiled):
    """detach, no_grad and a gradient of the user's own inside of f."""

    class Twice(gl.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 10

    w = gl.tensor(3.0, requires_grad=True)

    def run(loop, xs):
        def step(c, x):
            with gl.no_grad():
                k = w * 1.0
            y = Twice.apply(w * x) + c.detach() * w + k
            return y, y

        if loop:
            _, ys = gl.scan(step, gl.tensor(1.0), xs)
            return ys.sum()
        c, total = gl.tensor(1.0), 0.0
        for t in range(len(xs)):
            c, y = step(c, xs[t])
            total = total + y
        return total

    def grad(loop, xs):
        loss = run(loop, xs)
        return loss.detach(), gl.autograd.grad(loss, w)[0]

    xs = gl.tensor([0.5, -1.0, 2.0])
    found = gl.jit(grad)(True, xs) if compiled else grad(True, xs)
    same(found, grad(False, xs))


@pytest.mark.parametrize("compiled", [False, True])
def test_second_derivatives(backend, compiled):
    def penalty(run, ws, h, xs):
        (gx,) = gl.autograd.grad(loss_of(run, ws, h, xs), xs, create_graph=True)
        return (gx * gx).sum()

    found = []
    for run in (rnn, unrolled):
        ws = weights()
        h, xs = (gl.tensor(array(*s, seed=9), requires_grad=True) for s in [(B, H), (T, B, F)])

        def grads(h, xs, run=run, ws=ws):
            loss = penalty(run, ws, h, xs)
            return [loss.detach(), *gl.autograd.grad(loss, [*ws, h, xs])]

        found.append((gl.jit(grads) if compiled and run is rnn else grads)(h, xs))
    same(*found, rtol=1e-4, atol=1e-4)


def test_third_derivative():
    x = gl.tensor(0.7, requires_grad=True)
    c, _ = gl.scan(lambda c, _: (c * gl.sin(x), None), gl.tensor(1.0), length=3)  # sin(x)^3
    (a,) = gl.autograd.grad(c, x, create_graph=True)
    (b,) = gl.autograd.grad(a, x, create_graph=True)
    (d,) = gl.autograd.grad(b, x)
    s, k = np.sin(0.7), np.cos(0.7)
    same([a, b, d], [3 * s * s * k, 6 * s * k * k - 3 * s**3, 6 * k**3 - 21 * s * s * k], rtol=1e-4)


@pytest.mark.parametrize("compiled", [False, True])
def test_loops_inside_loops(backend, compiled):
    """Rows by a scan, each by a scan of its own with weights from outside, a branch inside."""
    w = gl.tensor(0.9, requires_grad=True)
    v = gl.tensor(-0.4, requires_grad=True)

    def row(c, x):
        def element(s, e):
            s = gl.cond(e > 0, lambda s: s * w + e, lambda s: s * v, s)
            return s, None

        s, _ = gl.scan(element, c, x)
        return s, s * v

    def grads(xs):
        c, ys = gl.scan(row, gl.tensor(1.0), xs)
        loss = c + (ys * ys).sum()
        return loss.detach(), *gl.autograd.grad(loss, [w, v])

    def plain(xs):
        c, loss = gl.tensor(1.0), 0.0
        for x in xs.numpy():
            for e in x:
                c = c * w + float(e) if e > 0 else c * v
            loss = loss + (c * v) ** 2
        loss = loss + c
        return loss.detach(), *gl.autograd.grad(loss, [w, v])

    xs = gl.tensor(array(3, 4))
    same((gl.jit(grads) if compiled else grads)(xs), plain(xs))


def test_eager_loops_are_compiled_once():
    from gradloom.graph.bodies import _PROGRAMS

    _PROGRAMS.clear()
    for _ in range(3):
        ws = weights()
        loss_of(rnn, ws, gl.zeros(B, H), gl.tensor(array(T, B, F))).backward()
    assert len(_PROGRAMS) == 2  # forward and backward


def test_in_place_changes_inside_and_after():
    w = gl.tensor([1.0, 2.0], requires_grad=True)

    def step(c, x):
        c = c * 1
        c[0] = x
        c.mul_(w)
        return c, c

    c, _ = gl.scan(step, gl.zeros(2), gl.tensor([1.0, 2.0, 3.0]))
    assert c.tolist() == [3.0, 0.0]
    c.sum().backward()
    assert w.grad.tolist() == [3.0, 0.0]
    loss = loss_of(rnn, ws := weights(), gl.zeros(B, H), gl.tensor(array(T, B, F)))
    with gl.no_grad():
        ws[1].mul_(2.0)
    with pytest.raises(errors.GradientError, match="modified by an inplace operation"):
        loss.backward()


def test_backward_twice():
    x = gl.tensor([1.0, 2.0], requires_grad=True)
    c, _ = gl.scan(lambda c, x: (c * x + x, None), gl.tensor(1.0), x)
    c.backward(retain_graph=True)
    c.backward()
    assert x.grad.tolist() == [8.0, 6.0]
    with pytest.raises(errors.GradientError, match="second time"):
        c.backward()


def test_only_what_depends_on_it_requires_a_gradient():
    w = gl.tensor(1.0, requires_grad=True)
    (a, b, n), (y, z) = gl.scan(
        lambda c, x: ((c[0] + x, c[1] * w, c[2] + 1), (x, c[1])),
        (gl.tensor(0.0), gl.tensor(1.0), gl.tensor(0)),
        gl.tensor([1.0, 2.0]),
    )
    assert [t.requires_grad for t in (a, b, n, y, z)] == [False, True, False, False, True]
    with gl.no_grad():
        assert not gl.scan(lambda c, x: (c * w, c), gl.tensor(1.0), gl.tensor([1.0]))[0].requires_grad


# ------------------------------------------------------------------------------------------------------------ cond


@pytest.mark.parametrize("compiled", [False, True])
def test_cond(backend, compiled):
    w = gl.tensor([2.0, 3.0], requires_grad=True)
    v = gl.tensor(5.0, requires_grad=True)

    def grads(x):
        y = gl.cond(x.sum() > 0, lambda t: {"y": t * w}, lambda t: {"y": t * t * v}, x)["y"]
        return y.detach(), *gl.autograd.grad(y.sum(), [x, w, v], allow_unused=True, materialize_grads=True)

    run = gl.jit(grads) if compiled else grads
    same(run(gl.tensor([1.0, 2.0], requires_grad=True)), ([2, 6], [2, 3], [1, 2], 0))
    same(run(gl.tensor([-1.0, -2.0], requires_grad=True)), ([5, 20], [-10, -20], [0, 0], 5))
    if compiled:
        assert run.compiles == 1
        assert "jax.lax.cond(" in run.source if backend == "jax" else " if pred else " in run.source
        assert "def cond_true(" in run.source and "def cond_false(" in run.source


def test_cond_runs_one_branch():
    w = gl.tensor(0.0, requires_grad=True)

    @gl.jit
    def safe(flag):
        loss = gl.cond(flag, lambda: gl.log(w), lambda: w * 3)
        loss.backward()
        return w.grad

    assert safe(gl.tensor(False)).item() == 3.0  # no 0 * inf
    assert safe.compiles == 1


def test_cond_takes_constants_and_static_operands(backend):
    @gl.jit
    def run(x, n):
        pair = lambda t, n: (t * n, gl.ones(2))
        return gl.cond(x > 0, pair, lambda t, n: (t, gl.zeros(2)), x, n), gl.cond(n == 2, pair, None, x, n)[0]

    (a, b), c = run(gl.tensor(3.0), 2)
    assert (a.item(), b.tolist(), c.item()) == (6.0, [1.0, 1.0], 6.0)
    (a, b), _ = run(gl.tensor(-3.0), 2)
    assert (a.item(), b.tolist()) == (-3.0, [0.0, 0.0])


def test_results_of_branches_are_matched_by_key():
    run = gl.jit(lambda x: gl.cond(x > 0, lambda: {"a": x, "b": x * 2}, lambda: {"b": x * 3, "a": -x}))
    out = run(gl.tensor(-1.0))
    assert (out["a"].item(), out["b"].item()) == (1.0, -3.0)


def test_second_derivative_of_cond():
    def second(x):
        y = gl.cond(x > 0, lambda x: x**3, lambda x: x**2, x)
        (g,) = gl.autograd.grad(y, x, create_graph=True)
        return gl.autograd.grad(g, x)[0]

    for run in (second, gl.jit(second)):
        assert run(gl.tensor(2.0, requires_grad=True)).item() == pytest.approx(12.0)
        assert run(gl.tensor(-2.0, requires_grad=True)).item() == pytest.approx(2.0)


# ------------------------------------------------------------------------------------------------------ while_loop


@pytest.mark.parametrize("compiled", [False, True])
def test_while_loop(backend, compiled):
    factor = gl.tensor(3.0)

    def run(x, limit):
        n, y = gl.while_loop(lambda c: c[1] < limit, lambda c: (c[0] + 1, c[1] * factor), (gl.tensor(0), x))
        return n, y

    step = gl.jit(run) if compiled else run
    for start, steps in ((1.0, 5), (50.0, 2), (500.0, 0)):
        n, y = step(gl.tensor(start), gl.tensor(200.0))
        assert (n.item(), y.item()) == (steps, start * 3**steps)
    if compiled:
        assert step.compiles == 1
        assert "jax.lax.while_loop(" in step.source if backend == "jax" else "while condition(" in step.source


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("of", ["init", "outside", "not run"])
def test_while_loop_has_no_gradient(compiled, of):
    x, w = gl.tensor(2.0, requires_grad=True), gl.tensor(2.0, requires_grad=True)

    def run(limit):
        y = gl.while_loop(
            lambda c: c < limit,
            lambda c: c * w.detach() if of != "outside" else c * w,
            x.detach() if of == "outside" else x,
        )
        y.backward()
        return y

    with pytest.raises(errors.GradientError, match="while_loop has no gradient"):
        (gl.jit(run) if compiled else run)(gl.tensor(1.0 if of == "not run" else 100.0))
    free = gl.while_loop(lambda c: c < 100, lambda c: c * w.detach(), x.detach())
    assert not free.requires_grad


# ---------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (
            lambda c, x: ({"h": gl.stack([c["h"], c["h"]])}, x),
            r"keep its shape[\s\S]*h: shape \[2\][\s\S]*h: shape \[2, 2\]",
        ),
        (lambda c, x: ({"h": c["h"].long()}, x), r"keep its shape and dtype[\s\S]*float32[\s\S]*int64"),
        (lambda c, x: ({"g": c["h"]}, x), r"structure of the carry[\s\S]*'h'[\s\S]*'g'"),
        (lambda c, x: ({"h": (c["h"], x)}, x), "structure of the carry"),
        (lambda c, x: c, r"expected: +\(carry, y\)"),
    ],
)
def test_the_carry_must_stay_what_it_is(f, expected):
    with pytest.raises(errors.GradloomError, match=expected) as caught:
        gl.scan(f, {"h": gl.zeros(2)}, gl.zeros(3))
    assert "test_control.py" in str(caught.value)


def test_lengths_must_agree():
    with pytest.raises(errors.ShapeError, match=r"differ in length[\s\S]*a: 3, b: 4"):
        gl.scan(lambda c, x: (c, x), gl.zeros(()), {"a": gl.zeros(3), "b": gl.zeros(4)})
    with pytest.raises(errors.ShapeError, match="steps is not known"):
        gl.scan(lambda c, x: (c, x), gl.zeros(()))
    with pytest.raises(errors.ShapeError, match="no axis to run along"):
        gl.scan(lambda c, x: (c, x), gl.zeros(()), gl.zeros(()))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (lambda x: (x, x), "differ in the structure"),
        (lambda x: [gl.stack([x, x])], r"differ in their result 0[\s\S]*shape \[2\][\s\S]*shape \[2, 2\]"),
        (lambda x: [x > 0], r"differ in their result 0[\s\S]*float32[\s\S]*bool"),
    ],
)
def test_branches_must_agree(other, expected):
    @gl.jit
    def run(x):
        return gl.cond(x.sum() > 0, lambda x: [x], other, x)

    with pytest.raises(errors.ShapeError, match=expected) as caught:
        run(gl.zeros(2))
    assert "test_control.py" in str(caught.value)
    with pytest.raises(errors.ShapeError, match="pred is one bool"):
        gl.cond(gl.zeros(2) > 0, lambda: 1, lambda: 2)


@pytest.mark.parametrize("compiled", [False, True])
def test_no_random_numbers_inside(compiled):
    drop = nn.Dropout(0.5)

    def run(xs):
        return gl.scan(lambda c, x: (drop(c) + x, None), gl.zeros(2), xs)[0]

    with pytest.raises(errors.TraceError, match=r"draws random numbers[\s\S]*test_control.py[\s\S]*pass them as xs"):
        (gl.jit(run) if compiled else run)(gl.zeros(3, 2))


def test_values_are_not_known_inside():
    with pytest.raises(errors.TraceError, match=r"test_control.py[\s\S]*gradloom.cond"):
        gl.scan(lambda c, x: (c + x if x > 0 else c, None), gl.tensor(0.0), gl.zeros(3))
    with pytest.raises(errors.TraceError, match=r"test_control\.py"):
        gl.scan(lambda c, x: (c + x[x > 0].sum(), None), gl.tensor(0.0), gl.zeros(3, 2))


def test_nothing_leaves_but_by_the_results():
    leaked = []

    def step(c, x):
        leaked.append(c * 2)
        return c + x, None

    gl.scan(step, gl.tensor(0.0), gl.zeros(3))
    with pytest.raises(errors.TraceError, match="return it"):
        leaked[0] + 1
    w = gl.tensor(1.0, requires_grad=True)
    w.grad = gl.tensor(1.0)
    optimizer = gl.optim.SGD([w], lr=0.1)
    with pytest.raises(errors.TraceError, match="runs an optimizer"):
        gl.scan(lambda c, x: (c, optimizer.step()), gl.tensor(0.0), gl.zeros(3))
