"""SGD, Adam and AdamW against torch.optim: the same numbers over 20 steps in float64, and the same refusals."""

import numpy as np
import pytest

import gradloom as gl

torch = pytest.importorskip("torch")

TOLERANCE = 1e-10  # relative, float64
CONFIGURATIONS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "maximize": True}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.2, "amsgrad": True}),
]
SHAPES = [(3, 4), (5,), ()]


def engine(name):
    """float64 on each engine: on JAX it is asked for."""
    return gl.JaxBackend(dtype="float64") if name == "jax" else name


def parameters(seed=0):
    rng = np.random.default_rng(seed)
    values = [rng.normal(size=s) for s in SHAPES]
    ours = [gl.tensor(v, dtype=gl.float64, requires_grad=True) for v in values]
    theirs = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]
    return ours, theirs


def gradients(step):
    rng = np.random.default_rng(100 + step)
    return [rng.normal(size=s) for s in SHAPES]


def give(ours, theirs, step, skip=()):
    for i, g in enumerate(gradients(step)):
        ours[i].grad = None if i in skip else gl.tensor(g, dtype=gl.float64)
        theirs[i].grad = None if i in skip else torch.tensor(g, dtype=torch.float64)


def assert_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(a.detach().numpy()), b.detach().numpy(), rtol=TOLERANCE, atol=1e-13)


@pytest.mark.parametrize(("name", "options"), CONFIGURATIONS, ids=str)
def test_equals_torch(backend, name, options):
    with gl.using_backend(engine(backend)):
        ours, theirs = parameters()
        a, b = getattr(gl.optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
        for step in range(20):
            give(ours, theirs, step)
            a.step()
            b.step()
        assert_equal(ours, theirs)


def test_parameters_without_a_gradient_in_some_steps():
    ours, theirs = parameters()
    a, b = gl.optim.Adam(ours, lr=0.1), torch.optim.Adam(theirs, lr=0.1)
    for step in range(8):
        give(ours, theirs, step, skip={1} if step in (0, 3) else {0, 2} if step == 5 else ())
        a.step()
        b.step()
    assert_equal(ours, theirs)
    assert [s["step"] for s in a.state.values()] == [7, 6, 7]


def test_groups_and_changed_rates():
    ours, theirs = parameters()
    a = gl.optim.SGD([{"params": ours[:1], "lr": 0.5}, {"params": ours[1:], "momentum": 0.9}], lr=0.1)
    b = torch.optim.SGD([{"params": theirs[:1], "lr": 0.5}, {"params": theirs[1:], "momentum": 0.9}], lr=0.1)
    for step in range(6):
        for optimizer in (a, b):
            for group in optimizer.param_groups:
                group["lr"] *= 0.7
        give(ours, theirs, step)
        a.step()
        b.step()
    assert_equal(ours, theirs)


def test_a_state_of_torch_loads():
    ours, theirs = parameters()
    a, b = gl.optim.AdamW(ours, lr=0.1), torch.optim.AdamW(theirs, lr=0.1)
    for step in range(3):
        give(ours, theirs, step)
        b.step()
    with gl.no_grad():
        for p, q in zip(ours, theirs, strict=True):
            p.copy_(gl.tensor(q.detach().numpy(), dtype=gl.float64))
    state = b.state_dict()
    arrays = {n: {k: v.numpy().copy() for k, v in s.items()} for n, s in state["state"].items()}
    a.load_state_dict({"state": arrays, "param_groups": state["param_groups"]})
    for step in range(3, 6):
        give(ours, theirs, step)
        a.step()
        b.step()
    assert_equal(ours, theirs)


def test_state_dict_resumes(backend):
    params = [gl.tensor(g.astype("float32"), requires_grad=True) for g in gradients(0)]
    a = gl.optim.Adam(params, lr=0.1)

    def run(optimizer, leaves, steps):
        for step in steps:
            for p, g in zip(leaves, gradients(step), strict=True):
                p.grad = gl.tensor(g.astype("float32"))
            optimizer.step()

    run(a, params, range(3))
    copies = [p.detach().clone().requires_grad_() for p in params]
    b = gl.optim.Adam(copies, lr=0.5)
    b.load_state_dict(a.state_dict())
    run(a, params, range(3, 6))
    run(b, copies, range(3, 6))
    for p, q in zip(params, copies, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


def test_backward_after_a_step_raises():
    w = gl.tensor([1.0, 2.0], requires_grad=True)
    optimizer = gl.optim.SGD([w], lr=0.1)
    loss = (w * w).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(gl.errors.GradientError, match="modified by an inplace operation"):
        loss.backward()


def test_closure():
    w = gl.tensor([1.0], requires_grad=True)
    optimizer = gl.optim.SGD([w], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with gl.no_grad():
        assert optimizer.step(closure).item() == 1
    assert w.item() == 0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"lr": -1.0}),
        ("SGD", {"lr": 0.1, "momentum": -0.5}),
        ("SGD", {"lr": 0.1, "nesterov": True}),
        ("Adam", {"lr": -1.0}),
        ("Adam", {"betas": (1.0, 0.9)}),
        ("Adam", {"eps": -1.0}),
        ("AdamW", {"weight_decay": -1.0}),
    ],
)
def test_refused_options(name, options):
    ours, theirs = parameters()
    with pytest.raises(ValueError) as expected:
        getattr(torch.optim, name)(theirs, **options)
    with pytest.raises(ValueError) as given:
        getattr(gl.optim, name)(ours, **options)
    assert str(given.value) == str(expected.value)


def test_refused_parameters():
    w = gl.tensor([1.0], requires_grad=True)
    with pytest.raises(ValueError, match="empty parameter list"):
        gl.optim.SGD([], lr=0.1)
    with pytest.raises(TypeError, match="iterable of Tensors"):
        gl.optim.SGD(w, lr=0.1)
    with pytest.raises(ValueError, match="non-leaf"):
        gl.optim.SGD([w * 2], lr=0.1)
    with pytest.raises(ValueError, match="more than one parameter group"):
        gl.optim.SGD([{"params": [w]}, {"params": [w]}], lr=0.1)
    with pytest.raises(TypeError, match="can only optimize Tensors"):
        gl.optim.SGD([1.0], lr=0.1)


def test_state_of_another_model_is_refused_whole():
    a = gl.optim.Adam([gl.ones(2, requires_grad=True)])
    b = gl.optim.Adam([gl.ones(2, requires_grad=True), gl.ones(3, requires_grad=True)])
    before = a.state_dict()
    with pytest.raises(ValueError, match="doesn't match the size"):
        a.load_state_dict(b.state_dict())
    assert a.state_dict() == before
