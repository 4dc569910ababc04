"""Creation against PyTorch: values, dtypes, errors; random numbers: the same on all engines."""

import numpy as np
import pytest

from gradloom import dtypes
from gradloom.backends.registry import get_backend, using_backend
from gradloom.errors import BackendError, DTypeError, OptionError, ShapeError
from gradloom.tensor import convert, creation
from gradloom.tensor.tensor import Tensor

torch = pytest.importorskip("torch")

DATA = [
    3, 2.5, True, [1, 2], [1.0, 2], [True, 2], [[1.5, True]], [], [[], []], (1, (2)), ((1, 2), [3, 4]), range(3),
    np.float64(3), np.int32(3), [np.float64(1)],
    [np.float32(1), 2.0], np.zeros((2, 3), "float64"), np.arange(3, dtype="int8"), np.array(True), [np.arange(2),
    np.arange(2)], np.zeros((0, 2), "float16"), float("inf"),
]  # fmt: skip


@pytest.mark.parametrize("data", DATA, ids=repr)
def test_tensor_as_pytorch(data):
    mine = creation.tensor(data)
    if isinstance(data, range):
        data = list(data)
    elif isinstance(data, list) and data and isinstance(data[0], np.ndarray):
        data = np.stack(data)
    theirs = torch.tensor(data)
    assert mine.dtype.name == str(theirs.dtype).removeprefix("torch.") or np.size(data) == 0
    assert tuple(mine.shape) == tuple(theirs.shape)
    assert mine.tolist() == theirs.tolist()


@pytest.mark.parametrize(
    "data", [3, 2.5, True, [[1, 2], [3, 4]], np.arange(6.0, dtype="float32").reshape(2, 3), []], ids=repr
)
def test_tensor_on_engines(backend, data):
    x = creation.tensor(data)
    assert x.backend == backend
    assert x.tolist() == np.asarray(data).tolist()
    assert x.device == "cpu"


def test_tensor_takes_any_array(backend):
    for source in ("numpy", "jax", "torch", "mlx"):
        with using_backend(source):
            other = creation.tensor([[1.0, 2.0], [3.0, 4.0]])
        for moved in (
            creation.tensor(other.native),
            creation.as_tensor(other, backend=backend),
            other.to(backend=backend),
        ):
            assert moved.backend == backend
            assert moved.tolist() == [[1.0, 2.0], [3.0, 4.0]]
            assert moved.dtype is dtypes.float32
    pieces = creation.tensor([creation.tensor(1.0), creation.tensor(2.0)])
    assert pieces.tolist() == [1.0, 2.0]


def test_copies():
    a = np.zeros(3, "float32")
    copied, shared = creation.tensor(a), creation.from_numpy(a)
    a += 1
    assert copied.tolist() == [0.0] * 3
    assert shared.tolist() == [1.0] * 3
    x = creation.tensor(a)
    assert creation.as_tensor(x) is x
    assert creation.as_tensor(x, dtype="float32") is x
    assert creation.as_tensor(x, dtype="int64").dtype is dtypes.int64
    y = creation.tensor(x)
    y.add_(1)
    assert x.tolist() == [1.0] * 3
    with pytest.raises(TypeError, match=r"expected np.ndarray \(got list\)"):
        creation.from_numpy([1])


BAD = [
    ([[1, 2], [3]], ShapeError, r"expected sequence of length 2 at dim 1 \(got 1\)"),
    ([[1, 2], 3], ShapeError, r"expected sequence of length 2 at dim 1 \(got a number\)"),
    ([[[1], [2]], [[3], [4, 5]]], ShapeError, r"expected sequence of length 1 at dim 2 \(got 2\)"),
    ("a", DTypeError, "could not infer the dtype of str"),
    ([None], DTypeError, "could not infer the dtype of NoneType"),
    (1 + 2j, DTypeError, "could not infer the dtype of complex"),
    (2**70, DTypeError, "cannot be converted to type int64 without overflow"),
    (np.zeros(2, "complex64"), DTypeError, "(?s)can't convert an array of this dtype.*complex64"),
    (np.array(["a"]), DTypeError, "can't convert an array of this dtype"),
    (np.zeros(2, "uint32"), DTypeError, "(?s)uint32.*astype"),
]


@pytest.mark.parametrize(("data", "error", "text"), BAD, ids=repr)
def test_bad_data(data, error, text):
    with pytest.raises(error, match=text):
        creation.tensor(data)


def test_overflow_is_no_wrap():
    with pytest.raises(DTypeError, match="uint8 without overflow"):
        creation.tensor(300, dtype="uint8")


def test_float64_is_never_cut():
    with using_backend("jax"), pytest.raises(DTypeError, match="float64"):
        creation.tensor(np.zeros(2))
    with using_backend("jax"):
        assert creation.tensor([1.0, 2.0]).dtype is dtypes.float32
        assert creation.tensor(np.ones(2), dtype="float32").dtype is dtypes.float32
    with using_backend(type(get_backend("jax"))(dtype="float64")):
        assert creation.tensor([1.0]).dtype is dtypes.float64
    with using_backend(type(get_backend("numpy"))(dtype="float64")):
        assert creation.zeros(2).dtype is dtypes.float64
        assert creation.tensor(1.0).dtype is dtypes.float64
        assert creation.rand(2).dtype is dtypes.float64


CALLS = [
    lambda m: m.zeros(2, 3), lambda m: m.zeros((2, 3)), lambda m: m.zeros([2]), lambda m: m.zeros(()),
    lambda m: m.ones(2, dtype=m.int64),
    lambda m: m.full((2, 3), 7), lambda m: m.full((2,), 1.5), lambda m: m.full((), True), lambda m: m.full((2,), 1,
    dtype=m.float32), lambda m: m.eye(3), lambda m: m.eye(2, 3),
    lambda m: m.arange(5), lambda m: m.arange(1, 5), lambda m: m.arange(5, 1, -2), lambda m: m.arange(0, 1, 0.3),
    lambda m: m.arange(3.0), lambda m: m.arange(2, dtype=m.float32),
    lambda m: m.arange(0), lambda m: m.linspace(0, 1, 5), lambda m: m.linspace(-1, 1, 2), lambda m: m.linspace(2, 3,
    1), lambda m: m.zeros_like(m.ones(2, 3, dtype=m.int64)),
    lambda m: m.ones_like(m.zeros(2)), lambda m: m.full_like(m.zeros(2), 3), lambda m: m.full_like(m.zeros(2), 3,
    dtype=m.int64), lambda m: m.empty(2, 0), lambda m: m.empty_like(m.zeros(2)) * 0,
]  # fmt: skip


class gl:
    """Stands where `torch` stands."""

    int64, float32 = dtypes.int64, dtypes.float32


for _name in creation.__all__:
    setattr(gl, _name, getattr(creation, _name))


@pytest.mark.parametrize("call", CALLS)
def test_constants(backend, call):
    mine, theirs = call(gl), call(torch)
    assert mine.dtype.name == str(theirs.dtype).removeprefix("torch.")
    assert tuple(mine.shape) == tuple(theirs.shape)
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-6)
    assert mine.backend == backend


def test_options():
    x = creation.ones(2, requires_grad=True)
    assert x.requires_grad
    assert x.is_leaf
    assert creation.zeros(2, backend="torch").backend == "torch"
    assert creation.zeros_like(creation.zeros(2, backend="torch")).backend == "torch"
    with pytest.raises(BackendError, match="no device 'cuda'"):
        creation.zeros(2, device="cuda")
    with pytest.raises(BackendError, match="unknown backend 'tensorflow'"):
        creation.zeros(2, backend="tensorflow")
    with pytest.raises(OptionError, match="step must be nonzero"):
        creation.arange(0, 1, 0)
    with pytest.raises(OptionError, match="inconsistent with step sign"):
        creation.arange(0, 1, -1)
    with pytest.raises(TypeError, match="a size is made of ints"):
        creation.zeros(2.5)


RANDOM = {
    "rand": lambda: creation.rand(1000),
    "randn": lambda: creation.randn((10, 100)),
    "randint": lambda: creation.randint(-3, 9, (500,)),
    "randint_high": lambda: creation.randint(9, (500,)),
    "randperm": lambda: creation.randperm(100),
    "rand_like": lambda: creation.rand_like(creation.zeros(50)),
    "randn_like": lambda: creation.randn_like(creation.zeros(50)),
    "randint_like": lambda: creation.randint_like(creation.zeros(50), 4),
    "bernoulli": lambda: creation.bernoulli(creation.full((500,), 0.3)),
    "normal": lambda: creation.normal(2.0, 3.0, (100,)),
    "normal_tensors": lambda: creation.normal(creation.zeros(3, 1), creation.ones(4)),
}


@pytest.mark.parametrize("name", RANDOM)
def test_random_numbers_are_the_same_on_all_engines(backend, name):
    creation.manual_seed(7)
    found = RANDOM[name]()
    again = RANDOM[name]()
    with using_backend("numpy"):
        creation.manual_seed(7)
        expected = RANDOM[name]()
    assert found.backend == backend
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-6)
    assert found.dtype.name == expected.dtype.name
    assert found.tolist() != again.tolist()


def test_generators():
    g = creation.Generator(5)
    a = creation.rand(3, generator=g)
    creation.manual_seed(1)
    before = creation.default_generator.count
    g.manual_seed(5)
    assert creation.rand(3, generator=g).tolist() == a.tolist()
    assert creation.default_generator.count == before
    assert creation.initial_seed() == 1
    assert creation.seed() == creation.initial_seed()
    with pytest.raises(TypeError, match="generator must be"):
        creation.rand(3, generator=3)
    with pytest.raises(DTypeError, match="use randint"):
        creation.rand(3, dtype="int64")
    with pytest.raises(OptionError, match="probabilities"):
        creation.bernoulli(creation.full((2,), 1.5))
    assert creation.rand(3, dtype="bfloat16").dtype is dtypes.bfloat16


def test_moments():
    creation.manual_seed(0)
    x = creation.randn(20000)
    assert abs(float(x.mean())) < 0.03
    assert abs(float(x.std()) - 1) < 0.03
    u = creation.rand(20000)
    assert float(u.min()) >= 0
    assert float(u.max()) < 1
    assert abs(float(u.mean()) - 0.5) < 0.02
    assert sorted(creation.randperm(50).tolist()) == list(range(50))


@pytest.mark.parametrize("name", ["torch", "jax", "mlx"])
def test_conversions(name):
    x = creation.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    native = getattr(convert, f"to_{name}")(x)
    assert isinstance(native, get_backend(name).array_types)
    back = getattr(convert, f"from_{name}")(native)
    assert isinstance(back, Tensor)
    assert back.backend == "numpy"
    assert back.tolist() == x.tolist()
    assert getattr(convert, f"from_{name}")(native, backend=name).backend == name
    np.testing.assert_array_equal(convert.to_numpy(x), [[1, 2], [3, 4]])
    np.testing.assert_array_equal(convert.to_numpy(native), [[1, 2], [3, 4]])
    with pytest.raises(TypeError, match=f"expected an array of {name}"):
        getattr(convert, f"from_{name}")([1.0])
