"""Clipping of gradients and vectors of parameters, against torch.nn.utils."""

import math

import numpy as np
import pytest

import gradloom as gl
from gradloom import nn
from gradloom.errors import BackendError, GradientError, ShapeError, TraceError
from gradloom.nn import utils

SHAPES = [(3, 2), (4,), (), (2, 1, 3)]
ORDERS = [2.0, 1, 3.0, 0.5, math.inf, "inf", -math.inf, 0, -2.0]


def arrays(seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return [scale * rng.normal(size=s) for s in SHAPES]


def with_gradients(values, make=gl.tensor):
    """Parameters whose gradients these are; one more has none."""
    found = [make(np.zeros_like(a), requires_grad=True) for a in values]
    for p, a in zip(found, values, strict=True):
        p.grad = make(a)
    return [*found[:1], make(np.zeros(2), requires_grad=True), *found[1:]]


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def as_torch(torch):
    return lambda a, requires_grad=False: torch.tensor(a, requires_grad=requires_grad)


def check(mine, other, rtol=1e-12):
    for p, q in zip(mine, other, strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            np.testing.assert_allclose(gl.to_numpy(p.grad), q.grad.numpy(), rtol=rtol)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("foreach", [None, False])
def test_norms_against_torch(torch, order, foreach):
    for values in (arrays(), arrays()[:1], arrays()[2:3]):
        found = utils.get_total_norm([gl.tensor(a) for a in values], order, False, foreach)
        expected = torch.nn.utils.get_total_norm([torch.tensor(a) for a in values], order)
        assert found.dtype is gl.float64 and tuple(found.shape) == () and not found.requires_grad
        assert found.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("order", ORDERS[:6])
@pytest.mark.parametrize("limit", [0.5, 1e9])
@pytest.mark.parametrize("foreach", [None, False])
def test_clip_against_torch(torch, order, limit, foreach):
    mine, other = with_gradients(arrays()), with_gradients(arrays(), as_torch(torch))
    held = mine[0].grad
    a = utils.clip_grad_norm_(mine, limit, order, foreach=foreach)
    b = torch.nn.utils.clip_grad_norm_(other, limit, order)
    assert a.item() == pytest.approx(b.item(), rel=1e-12) and mine[0].grad is held
    check(mine, other)
    if limit < 1 and order in (2.0, 1, 3.0):
        assert utils.get_total_norm([p.grad for p in mine if p.grad is not None], order).item() == pytest.approx(0.5)
    assert utils.clip_grad_value_(mine, limit / 10, foreach) is None
    torch.nn.utils.clip_grad_value_(other, limit / 10)
    check(mine, other)


@pytest.mark.parametrize("total", [0.1, 7.0])
def test_clip_with_a_known_norm_against_torch(torch, total):
    mine, other = with_gradients(arrays()), with_gradients(arrays(), as_torch(torch))
    utils.clip_grads_with_norm_(mine, 2.0, gl.tensor(total, dtype="float64"))
    torch.nn.utils.clip_grads_with_norm_(other, 2.0, torch.tensor(total, dtype=torch.float64))
    check(mine, other)
    plain = with_gradients(arrays())
    utils.clip_grads_with_norm_(plain, 2.0, total)  # a number
    check(plain, other, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, of inf * 0
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("order", [2.0, 1.0, math.inf])
def test_not_finite_against_torch(torch, bad, order):
    values = arrays()
    values[1][2] = bad
    mine, other = with_gradients(values), with_gradients(values, as_torch(torch))
    text = f"The total norm of order {order} for gradients from `parameters` is non-finite, so it cannot be clipped. "
    for module, params, error in ((utils, mine, GradientError), (torch.nn.utils, other, RuntimeError)):
        with pytest.raises(error, match=text) as caught:
            module.clip_grad_norm_(params, 1.0, order, error_if_nonfinite=True)
        assert isinstance(caught.value, RuntimeError)
        assert str(caught.value).endswith("set `error_if_nonfinite=False`")
        with pytest.raises(error, match=text):
            module.get_total_norm([p.grad for p in params if p.grad is not None], order, True)
    np.testing.assert_array_equal(mine[0].grad.numpy(), values[0])  # nothing was changed
    a, b = utils.clip_grad_norm_(mine, 1.0, order), torch.nn.utils.clip_grad_norm_(other, 1.0, order)
    np.testing.assert_array_equal(a.item(), b.item())
    check(mine, other)
    mine, other = with_gradients(values), with_gradients(values, as_torch(torch))
    utils.clip_grad_value_(mine, 0.3), torch.nn.utils.clip_grad_value_(other, 0.3)
    check(mine, other)


def test_nothing_to_clip():
    none = [gl.ones(2, requires_grad=True)]
    for params in ([], none, iter(none), none[0]):
        assert utils.clip_grad_norm_(params, 1.0, error_if_nonfinite=True).item() == 0
    utils.clip_grad_value_([], 1.0), utils.clip_grads_with_norm_([], 1.0, gl.ones(()))
    utils.clip_grad_value_(none, 1.0), utils.clip_grads_with_norm_(none, 1.0, gl.ones(()))
    assert none[0].grad is None
    assert utils.get_total_norm([]).item() == 0
    assert utils.get_total_norm([gl.zeros(0), gl.full((2,), 3.0)], 1).item() == 6
    with pytest.warns(UserWarning, match="`parameters` is an empty generator, no gradient clipping will occur"):
        utils.clip_grad_norm_((p for p in ()), 1.0)


def test_one_tensor_and_a_generator(torch):
    for form in (lambda ps: ps[0], lambda ps: (p for p in ps), tuple):
        mine, other = with_gradients(arrays()), with_gradients(arrays(), as_torch(torch))
        a = utils.clip_grad_norm_(form(mine), 0.5)
        b = torch.nn.utils.clip_grad_norm_(form(other), 0.5)
        assert a.item() == pytest.approx(b.item(), rel=1e-12)
        check(mine, other)
        utils.clip_grad_value_(form(mine), 0.05), torch.nn.utils.clip_grad_value_(form(other), 0.05)
        check(mine, other)
    assert utils.get_total_norm(gl.tensor([3.0, 4.0])).item() == 5


def test_several_dtypes_and_engines(torch):
    values = [a.astype(d) for a, d in zip(arrays(), ("float32", "float64", "float16", "float32"), strict=True)]
    mine, other = with_gradients(values), with_gradients(values, as_torch(torch))
    a, b = utils.clip_grad_norm_(mine, 0.5), torch.nn.utils.clip_grad_norm_(other, 0.5)
    assert a.dtype is gl.float64 and b.dtype is torch.float64 and a.item() == pytest.approx(b.item(), rel=1e-3)
    assert [p.grad.dtype.name for p in mine if p.grad is not None] == ["float32", "float64", "float16", "float32"]
    check(mine, other, rtol=2e-3)
    moved = with_gradients(arrays())
    moved[2] = gl.nn.Parameter(moved[2].detach().to(backend="torch"))
    moved[2].grad = gl.tensor(arrays()[1]).to(backend="torch")
    whole = with_gradients(arrays())
    norm = utils.clip_grad_norm_(moved, 0.5)
    assert norm.backend == "numpy" and norm.item() == utils.clip_grad_norm_(whole, 0.5).item()
    assert moved[2].grad.backend == "torch"
    for p, q in zip(moved, whole, strict=True):
        if q.grad is not None:
            np.testing.assert_allclose(gl.to_numpy(p.grad), gl.to_numpy(q.grad), rtol=1e-12)


def test_a_kernel_that_does_not_exist_is_refused():
    params = with_gradients(arrays())
    text = "foreach=True was passed, and there is no kernel that takes all gradients at once\n  do:       leave foreach out"
    for call in (
        lambda: utils.clip_grad_norm_(params, 0.1, foreach=True),
        lambda: utils.clip_grad_value_(params, 0.1, foreach=True),
        lambda: utils.clip_grads_with_norm_(params, 0.1, gl.ones(()), foreach=True),
        lambda: utils.get_total_norm([params[0].grad], foreach=True),
    ):
        with pytest.raises(BackendError, match=text):
            call()
    np.testing.assert_array_equal(params[0].grad.numpy(), arrays()[0])


# --------------------------------------------------------------------------------------------------- every engine, gl.jit


def trained(clip, compiled, **options):
    """Two layers after three steps with clipped gradients, and what the clipping gave."""
    gl.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    unused = nn.Parameter(gl.ones(2))
    optimizer = gl.optim.SGD([*net.parameters(), unused], lr=0.2)
    x = gl.tensor(np.random.default_rng(0).normal(size=(8, 3)).astype("float32"))

    def step(x):
        optimizer.zero_grad()
        (net(x) ** 2).sum().backward()
        norm = clip([*net.parameters(), unused])
        after = utils.get_total_norm([p.grad for p in net.parameters()])
        optimizer.step()
        return norm, after

    run = gl.jit(step) if compiled else step
    norms = [[float("nan") if v is None else v.item() for v in run(x)] for _ in range(3)]
    return np.concatenate([np.ravel(norms), *(gl.to_numpy(p).ravel() for p in net.parameters())])


CLIPS = {
    "norm": lambda ps: utils.clip_grad_norm_(ps, 0.3),
    "norm of order 1": lambda ps: utils.clip_grad_norm_(ps, 0.3, 1),
    "largest": lambda ps: utils.clip_grad_norm_(ps, 0.3, math.inf),
    "high limit": lambda ps: utils.clip_grad_norm_(ps, 1e6),
    "generator": lambda ps: utils.clip_grad_norm_((p for p in ps), 0.3),
    "value": lambda ps: utils.clip_grad_value_(ps, 0.05),
}


@pytest.mark.parametrize("name", CLIPS)
def test_on_every_engine(backend, name):
    with gl.using_backend("numpy"):
        expected = trained(CLIPS[name], False)
    eager, compiled = trained(CLIPS[name], False), trained(CLIPS[name], True)
    np.testing.assert_allclose(eager, expected, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(compiled, expected, rtol=2e-4, atol=1e-5)
    if name == "norm":
        assert expected[0] > 0.3 and expected[1] == pytest.approx(0.3, rel=1e-4)


def test_a_check_of_the_norm_cannot_be_compiled(backend):
    with pytest.raises(TraceError) as caught:
        trained(lambda ps: utils.clip_grad_norm_(ps, 0.3, error_if_nonfinite=True), True)
    lines = str(caught.value).split("\n")
    assert lines[0].startswith("error_if_nonfinite=True needs the value of the norm")
    assert "test_clip.py" in lines[1] and lines[2].startswith("  do:       leave it out, return the norm")


# --------------------------------------------------------------------------------------------------------------- vectors


def test_vectors_against_torch(torch):
    values = arrays()
    mine = [gl.tensor(a, requires_grad=True) for a in values]
    other = [torch.tensor(a, requires_grad=True) for a in values]
    a, b = utils.parameters_to_vector(p for p in mine), torch.nn.utils.parameters_to_vector(other)
    np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
    (a**2).sum().backward(), (b**2).sum().backward()
    check(mine, other)
    vec = np.arange(20.0)  # more than there are elements
    utils.vector_to_parameters(gl.tensor(vec), mine), torch.nn.utils.vector_to_parameters(torch.tensor(vec), other)
    for p, q in zip(mine, other, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


def test_vectors_on_every_engine(backend):
    net = nn.Linear(3, 2)
    vec = utils.parameters_to_vector(net.parameters())
    assert vec.backend == backend and vec.shape == (8,) and vec.requires_grad
    weight = net.weight
    given = gl.arange(8.0)
    utils.vector_to_parameters(given, (p for p in net.parameters()))
    assert net.weight is weight and weight.tolist() == [[0, 1, 2], [3, 4, 5]] and net.bias.tolist() == [6, 7]
    gl.optim.SGD(net.parameters(), lr=1.0).step()
    with gl.no_grad():
        weight.fill_(9.0)
    assert given.tolist() == list(range(8))
    assert utils.parameters_to_vector(net.parameters()).tolist() == [9.0] * 6 + [6, 7]

    @gl.jit
    def shrink():
        with gl.no_grad():
            v = utils.parameters_to_vector(net.parameters()) / 2
            utils.vector_to_parameters(v, net.parameters())
        return v

    assert shrink().tolist() == [4.5] * 6 + [3, 3.5] and shrink().tolist() == [2.25] * 6 + [1.5, 1.75]
    assert weight.tolist() == [[2.25] * 3] * 2 and net.bias.tolist() == [1.5, 1.75]


def test_vectors_that_do_not_fit():
    net = nn.Linear(3, 2)
    before = net.weight.tolist()
    with pytest.raises(TypeError, match=r"expected gradloom\.Tensor, but got: list"):
        utils.vector_to_parameters([1.0], net.parameters())
    text = r"does not fit the parameters\n  expected: a vector of 8 elements\n  given:    shape \[7\]"
    with pytest.raises(ShapeError, match=text):
        utils.vector_to_parameters(gl.zeros(7), net.parameters())
    with pytest.raises(ShapeError, match=r"shape \[8, 1\]"):
        utils.vector_to_parameters(gl.zeros(8, 1), net.parameters())
    assert net.weight.tolist() == before
    with pytest.raises(ValueError, match="expected a non-empty list of Tensors"):
        utils.parameters_to_vector([])
