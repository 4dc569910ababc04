"""Aliases in a compiled function: what a Tensor shares with a parameter, an argument or a captured Tensor follows it, as eagerly."""

import numpy as np
import pytest

import gradloom as gl
from gradloom import nn

ALIASES = {
    "detach": lambda w: w.detach(),
    "data": lambda w: w.data,
    "view": lambda w: w.view(-1),
    "transpose": lambda w: w.t(),
    "row": lambda w: w[1],
    "slice": lambda w: w[:2, 1:],
    "slice of detach": lambda w: w.detach()[:, ::2],
    "detach of slice": lambda w: w[1:].detach(),
    "data of view": lambda w: w.view(6, 2).data,
}
OPTIMIZERS = {
    "sgd": lambda params: gl.optim.SGD(params, lr=0.1),
    "momentum": lambda params: gl.optim.SGD(params, lr=0.1, momentum=0.9),
    "adam": lambda params: gl.optim.Adam(params, lr=0.1),
}


def parameters():
    rng = np.random.default_rng(0)
    return [gl.tensor(rng.normal(size=s).astype("float32"), requires_grad=True) for s in ((3, 4), (4,))]


def both(run, calls=3):
    """What `run(jit)` returns from each call, eagerly and compiled."""
    results = []
    for compile in (lambda f: f, gl.jit):
        f = run(compile)
        results.append([[np.array(t.detach().numpy()) for t in f(gl.ones(3) * (k + 1.0))] for k in range(calls)])
    for eager, compiled in zip(*results, strict=True):
        for a, b in zip(eager, compiled, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    return results[0]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("alias", ALIASES)
def test_taken_before_an_update_and_read_after(backend, alias, optimizer):
    def run(compile):
        w, b = parameters()
        o = OPTIMIZERS[optimizer]([w, b])

        def step(x):
            o.zero_grad()
            a, second = ALIASES[alias](w), b.detach()
            before = a.clone() * 1
            ((x @ w + b) ** 2).sum().backward()
            o.step()
            return a * 1, a.sum(), before, second + 0, w * 1, ALIASES[alias](w) - a

        return compile(step)

    first = both(run)[0]
    assert not np.allclose(first[0], first[2])
    np.testing.assert_array_equal(first[5], np.zeros_like(first[5]))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("alias", ALIASES)
def test_taken_outside(backend, alias, optimizer):
    """The alias is captured, and its name comes before the parameter's."""

    def run(compile):
        w, b = parameters()
        o = OPTIMIZERS[optimizer]([w, b])
        a = ALIASES[alias](w)

        def step(x):
            o.zero_grad()
            before = a.detach() * 1
            ((x @ w + b) ** 2).sum().backward()
            o.step()
            return a.detach() * 1, before

        f = compile(step)

        def call(x):
            inside = f(x)
            np.testing.assert_array_equal(inside[0].numpy(), a.detach().numpy())
            np.testing.assert_array_equal(ALIASES[alias](w).detach().numpy(), a.detach().numpy())
            return inside

        return call

    both(run)


def test_two_updates_in_one_call(backend):
    def run(compile):
        w, b = parameters()
        o = gl.optim.Adam([w, b], lr=0.1)

        def step(x):
            a, seen = w.detach(), []
            for _ in range(2):
                o.zero_grad()
                ((x @ w + b) ** 2).sum().backward()
                o.step()
                seen += [a * 1, a[0] * w[1].detach()]
            return seen

        return compile(step)

    both(run)


def test_an_alias_that_is_changed_changes_the_parameter(backend):
    def run(compile):
        w, b = parameters()
        o = gl.optim.SGD([w, b], lr=0.1)

        def step(x):
            o.zero_grad()
            ((x @ w + b) ** 2).sum().backward()
            o.step()
            with gl.no_grad():
                w.detach()[0].mul_(0.5)
                b.data.clamp_(-0.1, 0.1)
            return w * 1, b * 1

        return compile(step)

    both(run)


def test_parameters_that_are_views(backend):
    def run(compile):
        whole = gl.tensor(np.arange(6, dtype="float32"))
        a, b = whole[:4].requires_grad_(), whole[4:].requires_grad_()
        o = gl.optim.Adam([a, b], lr=0.1)

        def step(x):
            o.zero_grad()
            ((a * a).sum() * x.sum() + (b**3).sum()).backward()
            o.step()
            return whole * 1, a * 1, b * 1

        return compile(step)

    both(run)


def test_captured_views_that_nobody_changes(backend):
    w = gl.tensor([1.0, 2.0, 3.0, 4.0])
    head = w[1:][:2]
    f = gl.jit(lambda x: head * x)
    np.testing.assert_array_equal(f(gl.ones(2)).numpy(), [2, 3])
    w.mul_(2)
    np.testing.assert_array_equal(f(gl.ones(2)).numpy(), [4, 6])
    assert f.compiles == 1


def test_a_view_of_a_parameter_has_a_gradient(backend):
    def run(compile):
        w, _ = parameters()
        row = w[1]

        def step(x):
            w.grad = None
            (row * row * x.sum()).sum().backward()
            return (w.grad * 1,)

        return compile(step)

    both(run)


def test_an_update_spoils_what_backward_needs(backend):
    def step(x):
        o.zero_grad()
        loss = (w * w * x.sum()).sum()
        loss.backward(retain_graph=True)
        o.step()
        loss.backward()

    for compile in (lambda f: f, gl.jit):
        w, _ = parameters()
        o = gl.optim.SGD([w], lr=0.1)
        with pytest.raises(gl.errors.GradientError, match="modified by an inplace operation"):
            compile(step)(gl.ones(3))


def test_aliases_outside_survive_a_failed_trace(backend):
    w, b = parameters()
    o = gl.optim.SGD([w, b], lr=0.1)
    holder = type("Opaque", (), {"__slots__": ("alias",)})()
    holder.alias = w.detach()
    before = holder.alias.numpy().copy()

    @gl.jit
    def step(x):
        ((x @ w + b) ** 2).sum().backward()
        o.step()
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        step(gl.ones(3))
    np.testing.assert_array_equal(holder.alias.numpy(), before)
    np.testing.assert_array_equal(w.detach().numpy(), before)


def test_an_argument_that_is_changed_in_place():
    def f(x):
        nn.functional.relu(x, inplace=True)
        return x * 1

    with pytest.raises(gl.errors.TraceError, match="changes its argument 'x' in place"):
        gl.jit(f)(gl.ones(2))


@pytest.mark.parametrize("alias", ["detach", "row"])
def test_an_argument_that_aliases_what_is_changed(backend, alias):
    w, b = parameters()
    o = gl.optim.SGD([w], lr=0.1)

    @gl.jit
    def step(x):
        o.zero_grad()
        (w * w).sum().backward()
        o.step()
        return x * 1

    step(gl.ones(3, 4)), step(gl.ones(4))
    with pytest.raises(gl.errors.TraceError, match="argument 'x' shares memory"):
        step(ALIASES[alias](w.detach()))
    step(ALIASES[alias](w.detach()).clone())
    read = gl.jit(lambda x: x + w.detach())
    np.testing.assert_array_equal(read(w.detach()).numpy(), 2 * w.detach().numpy())
    data = gl.ones(8, 4)
    step(data[1])
    compiles = step.compiles
    for k in range(8):
        step(data[k])
    assert step.compiles == compiles
