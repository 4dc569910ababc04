"""How Tensors are printed, against PyTorch's own texts."""

import math

import numpy as np
import pytest

from gradloom.errors import OptionError
from gradloom.tensor import creation
from gradloom.tensor.formatting import OPTIONS, set_printoptions

torch = pytest.importorskip("torch")

rng = np.random.default_rng(0)
f32 = lambda a: np.asarray(a, "float32")
nan, inf = math.nan, math.inf

SAMPLES = [
    f32([[1, 2], [3, 4]]), f32(1.5), np.array(3), np.array(True), np.array([1, 20, -3]), np.array([True, False]),
    f32([1.5, nan, inf]), f32([1, nan]), f32([1e-5, 1]), f32([1e6, 1]),
    f32([123456.0, 0.5]), f32([1e9, 2]), f32([1e8]), f32([1e8, 1]), f32([1e5]), f32([1e-4, 0.1]), f32([1e-5]), f32([]),
    f32(np.zeros((2, 0))), np.zeros((0, 2), "int64"), f32(rng.standard_normal((3, 4))),
    f32(rng.standard_normal((2, 2, 2))), np.arange(30), f32(rng.standard_normal(20)), f32(np.arange(1500)),
    f32(rng.standard_normal((40, 40))), f32(rng.standard_normal(1001)), np.array([1.0, 2.0]),
    np.array([1, 2], "int32"), f32(rng.standard_normal((3, 4)) * 1000), f32(rng.standard_normal((3, 4)) * 1e-3),
    f32([[-1, 2], [3, 4.5]]), f32(rng.standard_normal((2, 30))), f32(nan), f32(1e10), f32(1e-10),
    np.array(1e10), f32(-0.0), f32(rng.standard_normal((1200, 2))), f32(rng.standard_normal((12, 10, 12))), f32([inf]),
    f32([nan, -inf]), np.zeros(3, "uint8"), np.zeros((1, 1, 1), "float16"), np.arange(2000).reshape(40, 50),
    rng.random((30, 40)) > 0.5, np.zeros((5, 3, 80), "int64"), f32(rng.standard_normal((3, 400))), np.arange(5.0)[:,
    None] * [[1e-7, 1]], np.arange(12, dtype="int16"),
]  # fmt: skip


def text(x):
    return repr(x).replace("torch.", "gradloom.")


@pytest.mark.parametrize("a", SAMPLES, ids=lambda a: f"{a.dtype}{list(a.shape)}")
def test_as_pytorch(a):
    assert repr(creation.tensor(a)) == text(torch.tensor(a))
    if a.dtype == np.float32:
        assert repr(creation.tensor(a, requires_grad=True)) == text(torch.tensor(a, requires_grad=True))
        assert repr(creation.tensor(a).bfloat16()) == text(torch.tensor(a).bfloat16())


def test_on_engines(backend):
    assert repr(creation.tensor([[1.0, 2.0], [3.0, 4.0]])) == "tensor([[1., 2.],\n        [3., 4.]])"
    assert repr(creation.tensor([1, 2])) == "tensor([1, 2])"
    assert str(creation.tensor(True)) == "tensor(True)"


def test_grad_fn():
    x = creation.tensor([1.0, 2.0], requires_grad=True)
    assert repr(x * 2) == "tensor([2., 4.], grad_fn=<multiply>)"
    assert repr(x.max(0).values) == "tensor(2., grad_fn=<max>)"
    assert repr((x * 2).detach()) == "tensor([2., 4.])"


def test_format():
    x = creation.tensor(3.14159)
    assert f"{x:.2f}" == "3.14"
    assert f"{x}" == "tensor(3.1416)"
    assert f"{creation.tensor([1, 2])}" == "tensor([1, 2])"


@pytest.mark.parametrize(
    "options",
    [{"precision": 2}, {"threshold": 10}, {"edgeitems": 1, "threshold": 5}, {"linewidth": 30}, {"threshold": math.inf}],
    ids=repr,
)
def test_printoptions(options):
    before = dict(vars(OPTIONS))
    torch.set_printoptions(**options)
    set_printoptions(**options)
    try:
        for a in SAMPLES:
            assert repr(creation.tensor(a)) == text(torch.tensor(a))
    finally:
        torch.set_printoptions(profile="default")
        set_printoptions(**before)


def test_bad_printoptions():
    with pytest.raises(OptionError, match="precision"):
        set_printoptions(precision=-1)


def test_traced_values_show_shape_and_dtype():
    jax = pytest.importorskip("jax")
    seen = []

    def f(a):
        seen.append(repr(creation.as_tensor(a, backend="jax")))
        return a

    jax.jit(f)(jax.numpy.zeros((2, 3)))
    assert seen == ["tensor(..., size=(2, 3), dtype=gradloom.float32)"]
