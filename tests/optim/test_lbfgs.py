"""LBFGS against torch.optim.LBFGS: the same numbers, numbers of calls and state, and its errors."""

import numpy as np
import pytest

import gradloom as gl

torch = pytest.importorskip("torch")

EXACT = {"rtol": 1e-10, "atol": 1e-12}
CONFIGURATIONS = [
    {},
    {"lr": 0.01},
    {"lr": 0.1, "max_iter": 7, "history_size": 2},
    {"tolerance_grad": 1e-2, "lr": 0.1},
    {"tolerance_change": 1e-3, "lr": 0.1},
    {"line_search_fn": "strong_wolfe"},
    {"line_search_fn": "strong_wolfe", "lr": 5.0, "history_size": 3},
    {"line_search_fn": "strong_wolfe", "lr": 1e-3, "max_iter": 4},
    {"line_search_fn": "strong_wolfe", "lr": 1e-4, "max_iter": 3, "max_eval": 4},
    {"line_search_fn": "strong_wolfe", "lr": 50.0, "max_eval": 3},
]


def engine(name):
    """float64 on each engine: on JAX it is asked for."""
    return gl.JaxBackend(dtype="float64") if name == "jax" else name


def starts():
    rng = np.random.default_rng(0)
    return [rng.normal(size=s) for s in ((2, 3), (4,), ())]


def parameters():
    """The same in gradloom and in PyTorch; the last one is not in the loss."""
    values = [*starts(), np.ones(2)]
    ours = [gl.tensor(v, dtype=gl.float64, requires_grad=True) for v in values]
    return ours, [torch.tensor(v, requires_grad=True) for v in values]


def rosenbrock(params):
    """A curved valley through all elements, and a slope."""
    a, b, c, _ = params
    x, y = a.reshape(-1)[:4], b
    return ((1 - x) ** 2).sum() + 10 * ((y - x * x) ** 2).sum() + (a**4).sum() * 0.1 + (c - 2) ** 2


def double_well(params):
    """Not convex: no curvature to learn from in some steps."""
    return sum(((p * p - 1) ** 2).sum() + 0.3 * p.sum() for p in params[:3])


def closure_of(params, optimizer, loss, log):
    def closure():
        optimizer.zero_grad()
        value = loss(params)
        value.backward()
        log.append(value.item())
        return value

    return closure


def pair(**options):
    ours, theirs = parameters()
    return ours, theirs, gl.optim.LBFGS(ours, **options), torch.optim.LBFGS(theirs, **options)


def compare(ours, theirs):
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(p.detach().numpy()), q.detach().numpy(), **EXACT)


def as_number(value):
    """State as NumPy arrays."""
    if isinstance(value, list | tuple):
        return [as_number(v) for v in value]
    return value if value is None else np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def as_torch(value):
    if isinstance(value, gl.Tensor):
        return torch.tensor(np.array(value.numpy()))
    if isinstance(value, dict):
        return {k: as_torch(v) for k, v in value.items()}
    return [as_torch(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("loss", [rosenbrock, double_well])
@pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)
def test_equals_torch(options, loss):
    """Parameters, the losses at every call of the closure, and all that is kept."""
    ours, theirs, a, b = pair(**options)
    mine, other = [], []
    for _ in range(3):
        first = a.step(closure_of(ours, a, loss, mine))
        expected = b.step(closure_of(theirs, b, loss, other))
        np.testing.assert_allclose(first.item(), expected.item(), **EXACT)
    assert len(mine) == len(other)
    np.testing.assert_allclose(mine, other, rtol=1e-8, atol=1e-10)
    compare(ours, theirs)
    state, wanted = a.state_dict()["state"], b.state_dict()["state"]
    assert list(state) == list(wanted) == [0]
    assert set(state[0]) == set(wanted[0])
    for key in ("func_evals", "n_iter", "t", "prev_loss", "d", "prev_flat_grad"):
        np.testing.assert_allclose(as_number(state[0][key]), as_number(wanted[0][key]), rtol=1e-6, atol=1e-9)
    for key in ("old_dirs", "old_stps", "ro"):
        assert len(state[0][key]) == len(wanted[0][key])


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled closure"])
@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_on_every_engine(backend, search, compiled):
    with gl.using_backend(engine(backend)):
        options = {"lr": 0.5 if search else 0.05, "line_search_fn": search, "max_iter": 8}
        ours, theirs, a, b = pair(**options)

        def closure():
            a.zero_grad()
            loss = rosenbrock(ours)
            loss.backward()
            return loss

        f = gl.jit(closure, keep_grads=True) if compiled else closure
        for _ in range(2):
            a.step(f)
            b.step(closure_of(theirs, b, rosenbrock, []))
        compare(ours, theirs)
        assert not compiled or f.compiles == 1


def test_a_rate_that_is_a_tensor():
    ours, theirs, a, b = pair(lr=0.02)
    c = gl.optim.LBFGS(ours, lr=gl.tensor([0.02], dtype=gl.float64))
    c.step(closure_of(ours, c, rosenbrock, []))
    b.step(closure_of(theirs, b, rosenbrock, []))
    compare(ours, theirs)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize("direction", ["from PyTorch", "to PyTorch", "to gradloom"])
def test_state_dict_resumes(backend, direction, search):
    with gl.using_backend(engine(backend)):
        options = {"lr": 0.5 if search else 0.05, "line_search_fn": search, "max_iter": 3}
        ours, theirs, a, b = pair(**options)
        for _ in range(2):
            a.step(closure_of(ours, a, rosenbrock, []))
            b.step(closure_of(theirs, b, rosenbrock, []))
        if direction == "from PyTorch":
            c = gl.optim.LBFGS(ours)
            c.load_state_dict(b.state_dict())
            params = ours
        elif direction == "to PyTorch":
            c = torch.optim.LBFGS(theirs)
            c.load_state_dict(as_torch(a.state_dict()))
            params = theirs
        else:
            params = [p.detach().clone().requires_grad_() for p in ours]
            c = gl.optim.LBFGS(params)
            c.load_state_dict(a.state_dict())
        if params is not theirs:
            b.step(closure_of(theirs, b, rosenbrock, []))
            c.step(closure_of(params, c, rosenbrock, []))
            compare(params, theirs)
        else:
            a.step(closure_of(ours, a, rosenbrock, []))
            c.step(closure_of(theirs, c, rosenbrock, []))
            compare(ours, theirs)


def test_a_state_dict_stays_as_it_was():
    ours, _, a, _ = pair(lr=0.05, max_iter=3)
    a.step(closure_of(ours, a, rosenbrock, []))
    saved = a.state_dict()["state"][0]
    before = {k: as_number(v) for k, v in saved.items()}
    a.step(closure_of(ours, a, rosenbrock, []))
    for key, value in before.items():
        np.testing.assert_equal(as_number(saved[key]), value)


def test_gradients_of_nan():
    ours, theirs, a, b = pair()
    for params, optimizer in ((ours, a), (theirs, b)):
        optimizer.step(closure_of(params, optimizer, lambda ps: (ps[1] * float("nan")).sum(), []))
    compare(ours, theirs)
    assert np.isnan(ours[1].detach().numpy()).all()


def test_nothing_to_do():
    """At a stationary point the parameters stay."""
    for module, ones in ((gl, gl.ones), (torch, torch.ones)):
        w = ones(2, requires_grad=True)
        optimizer = module.optim.LBFGS([w])
        calls = []
        assert optimizer.step(closure_of([w], optimizer, lambda ps: ((ps[0] - 1) ** 2).sum(), calls)).item() == 0
        assert w.tolist() == [1, 1] and calls == [0]
        assert optimizer.state_dict()["state"][0] == {"func_evals": 1, "n_iter": 0}


def test_refusals():
    w, v = gl.ones(2, requires_grad=True), gl.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match=r"LBFGS doesn't support per-parameter options \(parameter groups\)"):
        gl.optim.LBFGS([{"params": [w]}, {"params": [v]}])
    optimizer = gl.optim.LBFGS([w], line_search_fn="armijo")
    with pytest.raises(ValueError, match="LBFGS doesn't support per-parameter options"):
        optimizer.add_param_group({"params": [v]})
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'closure'"):
        optimizer.step()
    with pytest.raises(RuntimeError, match="only 'strong_wolfe' is supported"):
        optimizer.step(closure_of([w], optimizer, lambda ps: (ps[0] ** 2).sum(), []))


def test_in_a_compiled_function():
    w = gl.ones(2, requires_grad=True)
    optimizer = gl.optim.LBFGS([w])
    with pytest.raises(
        gl.errors.TraceError, match=r"compile the closure instead: optimizer.step\(gradloom.jit\(closure\)\)"
    ):
        gl.jit(lambda: optimizer.step(lambda: (w * w).sum()))()
    assert w.tolist() == [1, 1]
