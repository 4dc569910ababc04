"""The methods that every backend has for native arrays, each on each engine against NumPy; conversions; errors."""

import importlib.util
import inspect
import math

import numpy as np
import pytest

import gradloom as gl
from gradloom import dtypes
from gradloom.backends.base import Backend
from gradloom.backends.methods import ArrayMethods
from gradloom.backends.registry import backend_class, get_backend
from gradloom.errors import BackendError, DTypeError, IndexOutOfRangeError, OptionError, ShapeError

ENGINES = ["numpy", "jax", "torch", "mlx"]
A = np.array([[0.5, -1.25, 2.0], [3.5, 0.25, -0.75]], np.float32)
B = np.array([[1.5, 2.0, 0.5]], np.float32)
P = np.abs(A) + np.float32(0.5)
N = np.array([[3, -1, 2], [0, 5, 2]])
M = np.array([[True, False, True], [False, False, True]])
ODD = np.array([np.nan, np.inf, -np.inf, 0.0, -1.5], np.float32)
f32, i64 = np.float32, np.int64


def installed(name):
    return importlib.util.find_spec(name) is not None


@pytest.fixture(params=ENGINES)
def engine(request):
    if not installed(request.param):
        pytest.skip(f"the engine {request.param} is not installed")
    return request.param


@pytest.fixture
def b(engine):
    return get_backend(engine)


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


erf = np.vectorize(math.erf)

#: (method, call on a backend and native arrays, NumPy inputs, what NumPy gives).
CASES = []


def case(name, call, inputs, expected):
    CASES.append(pytest.param(name, call, inputs, expected, id=f"{name}-{len(CASES)}"))


def same(name, *inputs, expected=None, **options):
    """The method, called with these options, against the NumPy function of that name or the expected result."""
    if expected is None:
        expected = getattr(np, name)(*inputs, **options)
    case(name, lambda b, *xs: getattr(b, name)(*xs, **options), inputs, expected)


for name in ("abs", "negative", "sign", "square"):
    same(name, A)
    same(name, N)
for name in ("exp", "expm1", "sin", "cos", "tan", "tanh", "floor", "ceil", "round", "trunc"):
    same(name, A)
for name in ("sqrt", "log", "log1p", "log2", "reciprocal"):
    same(name, P)
for name in ("exp", "sin", "tanh"):  # of integers: floats
    same(name, N, expected=getattr(np, name)(N).astype(f32))
for name in ("isnan", "isinf", "isfinite"):
    same(name, ODD)
same("logical_not", M)
same("rsqrt", P, expected=1 / np.sqrt(P))
same("sigmoid", A, expected=1 / (1 + np.exp(-A)))
same("erf", A, expected=erf(A).astype(f32))
same("relu", A, expected=np.maximum(A, 0))
same("silu", A, expected=A / (1 + np.exp(-A)))
same("gelu", A, expected=(A * 0.5 * (1 + erf(A / math.sqrt(2)))).astype(f32))
same("leaky_relu", A, negative_slope=0.1, expected=np.where(A > 0, A, A * f32(0.1)))
same("softplus", A, expected=np.log1p(np.exp(A)))
same("clip", A, min=-0.5, max=1, expected=np.clip(A, -0.5, 1))
case("clip", lambda b, x: b.clip(x, 0), (N,), np.maximum(N, 0))
for name in ("add", "subtract", "multiply", "maximum", "minimum"):
    same(name, A, B)
    same(name, N, N[:1])
    case(name, lambda b, x, f=name: getattr(b, f)(x, 1.5), (A,), getattr(np, name)(A, f32(1.5)))
for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
    same(name, A, B)
    same(name, N, N[:1])
    case(name, lambda b, x, f=name: getattr(b, f)(x, 2), (N,), getattr(np, name)(N, 2))
same("divide", A, B)
same("divide", N, P, expected=N.astype(f32) / P)
same("divide", N, np.full(3, 2), expected=(N / 2).astype(f32))
same("floor_divide", N, np.full(3, 2))
same("remainder", N, np.full(3, 2))
same("pow", P, B, expected=P**B)
same("logical_and", M, ~M[:, ::-1])
same("logical_or", M, M[:, ::-1])
same("logical_xor", M, M[:, ::-1])
same("where", M, A, B)
case("where", lambda b, m, x: b.where(m, x, 0), (M, A), np.where(M, A, f32(0)))
same("matmul", A, A.T.copy())
case("einsum", lambda b, x, y: b.einsum("ij,kj->ik", x, y), (A, B), A @ B.T)

for name in ("sum", "prod", "mean", "any", "all", "max", "min"):
    for axis, keepdims in ((None, False), (0, True), (-1, False), ((0, 1), True)):
        x = M if name in ("any", "all") else A
        same(name, x, axis=axis, keepdims=keepdims)
    numpy_result = getattr(np, name)(M if name in ("any", "all") else A, axis=1, keepdims=True)
    case(
        name,
        lambda b, x, f=name: getattr(b, f)(x, dim=1, keepdim=True),
        (M if name in ("any", "all") else A,),
        numpy_result,
    )
same("sum", N, axis=1)
same("sum", M, expected=np.sum(M, dtype=i64))
same("mean", N, axis=0, expected=N.mean(0).astype(f32))
same("max", N, axis=0)
same("var", A, axis=1, expected=A.var(1, ddof=1))
same("var", A, axis=1, correction=0, expected=A.var(1))
same("std", A, keepdims=True, axis=0, expected=A.std(0, ddof=1, keepdims=True))
same("std", A, correction=0, dim=0, expected=A.std(0))
same("logsumexp", A, axis=1, expected=np.log(np.exp(A).sum(1)))
same("norm", A, expected=np.sqrt((A * A).sum()))
same("norm", A, ord=1, axis=1, expected=np.abs(A).sum(1))
same("norm", A, ord=math.inf, dim=0, expected=np.abs(A).max(0))
for name in ("argmax", "argmin"):
    same(name, A)
    same(name, A, axis=1)
    same(name, N, axis=0, keepdims=True)
    same(name, A, dim=0, expected=getattr(np, name)(A, 0))
same("softmax", A, expected=softmax(A, -1))
same("softmax", A, dim=0, expected=softmax(A, 0))
same("log_softmax", A, axis=0, expected=np.log(softmax(A, 0)))
same("cumsum", A, axis=1)
same("cumsum", N)
same("cumprod", A, axis=0)
same("sort", A, axis=0)
same("sort", A)
same("sort", A, axis=None)
same("sort", A, descending=True, expected=np.sort(A)[:, ::-1])
same("argsort", A, axis=0)
same("argsort", A, descending=True, dim=1, expected=np.argsort(-A, 1))

case("reshape", lambda b, x: b.reshape(x, 3, -1), (A,), A.reshape(3, -1))
case("reshape", lambda b, x: b.reshape(x, (6,)), (N,), N.reshape(6))
same("flatten", A, expected=A.reshape(-1))
same("flatten", A[None], start_dim=1, expected=A.reshape(1, -1))
same("flatten", np.array(2.0, f32), expected=np.array([2.0], f32))
same("transpose", A)
same("transpose", A[None], axes=(1, 0, -1), expected=A[:, None])
same("broadcast_to", B, shape=(2, 3))
same("squeeze", A[None, :, None])
same("squeeze", A[None, :, None], axis=0)
same("squeeze", A[None, :, None], dim=(0, -2), expected=A)
same("squeeze", A)
same("expand_dims", A, axis=1)
same("expand_dims", A, axis=(0, -1))
same("expand_dims", A, dim=-1, expected=A[..., None])
same("unsqueeze", A, dim=-1, expected=A[..., None])
case("concat", lambda b, x, y: b.concat([x, y]), (A, B), np.concatenate([A, B]))
case("concat", lambda b, x, y: b.concat((x, y), dim=-1), (A, N), np.concatenate([A, N], 1).astype(f32))
case("stack", lambda b, x, y: b.stack([x, y], axis=-1), (A, P), np.stack([A, P], -1))
case("split", lambda b, x: b.split(x, 2, axis=1), (A,), [A[:, :2], A[:, 2:]])
case(
    "split",
    lambda b, x: b.split(x, (1, 0, 2), dim=-1),
    (A,),
    [A[:, :1], A[:, :0], A[:, 1:]],
)
case("pad", lambda b, x: b.pad(x, 1, 7), (A,), np.pad(A, 1, constant_values=7))
case("pad", lambda b, x: b.pad(x, ((0, 1), (2, 0))), (A,), np.pad(A, ((0, 1), (2, 0))))
case("pad", lambda b, x: b.pad(x, (1, 2)), (A[0],), np.pad(A[0], (1, 2)))
case("take", lambda b, x, i: b.take(x, i, axis=1), (A, np.array([[2, 0]])), np.take(A, [[2, 0]], 1))
case("take", lambda b, x, i: b.take(x, i), (A, np.array([5, 0])), np.take(A, [5, 0]))
case(
    "take_along_axis",
    lambda b, x, i: b.take_along_axis(x, i, axis=1),
    (A, np.array([[2], [0]])),
    A[[0, 1], [2, 0]][:, None],
)
case("gather", lambda b, x, i: b.gather(x, 1, i), (A, np.array([[2], [0]])), A[[0, 1], [2, 0]][:, None])
case("one_hot", lambda b, i: b.one_hot(i, 4), (np.array([3, 0]),), np.eye(4, dtype=f32)[[3, 0]])
case("one_hot", lambda b, i: b.one_hot(i, 4, dtype="int64"), (np.array([3, 0]),), np.eye(4, dtype=i64)[[3, 0]])

case("astype", lambda b, x: b.astype(x, "int64"), (A,), A.astype(i64))
case("astype", lambda b, x: b.astype(x, gl.float16), (A,), A.astype(np.float16))
case("astype", lambda b, x: b.astype(x, bool), (N,), N.astype(bool))
case("cast", lambda b, x: b.cast(x, "float16"), (A,), A.astype(np.float16))
case("cast", lambda b, x: b.cast(x, "int64"), (A,), A.astype(i64))
case("copy", lambda b, x: b.copy(x), (A,), A)
case("block_until_ready", lambda b, x: b.block_until_ready(x), (A,), A)
case("to_device", lambda b, x: b.to_device(x, "cpu"), (A,), A)

case("zeros", lambda b: b.zeros(2, 3), (), np.zeros((2, 3), f32))
case("zeros", lambda b: b.zeros((2,), dtype="int64"), (), np.zeros(2, i64))
case("ones", lambda b: b.ones([2, 1], dtype=bool), (), np.ones((2, 1), bool))
case("ones", lambda b: b.ones(), (), np.ones((), f32))
case("full", lambda b: b.full((2, 2), 7), (), np.full((2, 2), 7))
case("full", lambda b: b.full(3, 0.5), (), np.full(3, 0.5, f32))
case("full", lambda b: b.full((), True), (), np.array(True))
case("eye", lambda b: b.eye(2, 3), (), np.eye(2, 3, dtype=f32))
case("arange", lambda b: b.arange(4), (), np.arange(4))
case("arange", lambda b: b.arange(3, 0, -1), (), np.arange(3, 0, -1))
case("arange", lambda b: b.arange(0.0, 1.0, 0.1), (), np.arange(0.0, 1.0, 0.1).astype(f32))
case("arange", lambda b: b.arange(3, dtype="float32"), (), np.arange(3, dtype=f32))
case("linspace", lambda b: b.linspace(0, 1, 5), (), np.linspace(0, 1, 5, dtype=f32))
case("zeros_like", lambda b, x: b.zeros_like(x), (A,), np.zeros_like(A))
case("zeros_like", lambda b, x: b.zeros_like(x, dtype="float32"), (N,), np.zeros_like(N, f32))
case("ones_like", lambda b, x: b.ones_like(x), (N,), np.ones_like(N))
case("full_like", lambda b, x: b.full_like(x, 2.5), (A,), np.full_like(A, 2.5))

KEY = gl.random.key(3, "test")
case("randn", lambda b: b.randn(2, 3, key=KEY), (), gl.random.normal(KEY, (2, 3)))
case("randn", lambda b: b.randn((4,), key=KEY, dtype="float16"), (), gl.random.normal(KEY, 4).astype(np.float16))
case("rand", lambda b: b.rand(5, key=KEY), (), gl.random.uniform(KEY, 5))
case("randint", lambda b: b.randint(2, 9, (5,), key=KEY), (), gl.random.randint(KEY, 5, 2, 9))
case("randint", lambda b: b.randint(9, (5,), key=KEY), (), gl.random.randint(KEY, 5, 0, 9))
case("randperm", lambda b: b.randperm(6, key=KEY), (), gl.random.permutation(KEY, 6))


def close(b, got, expected):
    assert isinstance(got, b.array_types)
    assert b.dtype_of(got) is dtypes.dtype(np.asarray(expected).dtype)
    got = b.to_numpy(got)
    assert got.shape == np.shape(expected)
    if got.dtype.kind == "f":
        np.testing.assert_allclose(got, expected, rtol=3e-5, atol=3e-6)
    else:
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("name", "call", "inputs", "expected"), CASES)
def test_against_numpy(b, name, call, inputs, expected):
    got = call(b, *(b.from_numpy(x) for x in inputs))
    if isinstance(expected, list):
        assert isinstance(got, tuple) and len(got) == len(expected)
        for one, wanted in zip(got, expected, strict=True):
            close(b, one, wanted)
    else:
        close(b, got, expected)


CONVERSIONS = {"array", "to_torch", "from_torch", "to_jax", "from_jax", "to_mlx", "from_mlx", "no_grad"}


def public():
    return [n for n, f in inspect.getmembers(ArrayMethods, inspect.isfunction) if not n.startswith("_")]


def test_every_method_has_a_case():
    tested = {p.values[0] for p in CASES}
    assert set(public()) - CONVERSIONS <= tested
    assert set(public()) >= CONVERSIONS


@pytest.mark.parametrize("name", public())
def test_every_method_is_documented_and_of_one_definition(name):
    method = getattr(ArrayMethods, name)
    assert method.__name__ == name
    assert inspect.getdoc(method)
    assert "kwargs" not in inspect.signature(method).parameters
    for engine in ENGINES:
        if installed(engine):
            assert getattr(backend_class(engine), name) is method
    assert getattr(Backend, name) is method


# --- array ---


@pytest.mark.parametrize(
    ("data", "dtype", "expected"),
    [
        ([1.0, 2.0], None, np.array([1, 2], f32)),
        ([[1, 2], [3, 4]], None, np.array([[1, 2], [3, 4]])),
        ([True, False], None, np.array([True, False])),
        (2.5, None, np.array(2.5, f32)),
        (3, None, np.array(3)),
        ([1, 2.5], None, np.array([1, 2.5], f32)),
        (np.array([0.1, 0.2]), None, np.array([0.1, 0.2]).astype(f32)),
        (np.float64(0.1), None, np.array(0.1, f32)),
        ([np.float64(0.1)], None, np.array([0.1], f32)),
        (np.array([1, 2], np.float16), None, np.array([1, 2], f32)),
        (np.array([1, 2], np.uint8), None, np.array([1, 2], np.uint8)),
        (np.array([True]), None, np.array([True])),
        ([1, 2], "float32", np.array([1, 2], f32)),
        (np.array([1.5, 2.5]), "int64", np.array([1, 2])),
        (np.array([1.5, 2.5]), "float16", np.array([1.5, 2.5], np.float16)),
        (np.arange(6.0).reshape(2, 3).T, None, np.arange(6.0, dtype=f32).reshape(2, 3).T),
        ([], None, np.zeros(0, f32)),
    ],
)
def test_array(b, data, dtype, expected):
    close(b, b.array(data, dtype), expected)


def test_array_takes_the_dtype_of_the_backend(engine):
    for name in ("float16", "float64"):
        backend = backend_class(engine)(dtype=name, device="cpu")
        for data in ([0.1, 0.2], np.array([0.1, 0.2], f32), gl.tensor([0.1, 0.2], backend="numpy")):
            assert backend.dtype_of(backend.array(data)) is dtypes.dtype(name)
        assert backend.dtype_of(backend.array([1])) is gl.int64
        if name == "float64":
            assert backend.to_numpy(backend.array([0.1]))[0] == 0.1
            x = backend.array([0.1, 0.2])
            assert backend.dtype_of(backend.mean(x)) is gl.float64
            assert backend.dtype_of(backend.zeros(2)) is backend.dtype_of(backend.randn(2)) is gl.float64
            assert backend.dtype_of(backend.astype(backend.array([1]), "float64")) is gl.float64
            assert backend.dtype_of(backend.cast(backend.array([1]), "float64")) is gl.float64


@pytest.mark.parametrize("other", ENGINES)
@pytest.mark.parametrize("name", ["float32", "float64", "float16", "int64", "bool"])
def test_array_of_another_engine(b, other, name):
    if not installed(other):
        pytest.skip(f"the engine {other} is not installed")
    values = np.array([[1, 0], [0, 1]]).astype(name)
    source = backend_class(other)(dtype="float64" if name == "float64" else None, device="cpu")
    expected = values.astype(f32) if values.dtype.kind == "f" else values
    close(b, b.array(source.from_numpy(values)), expected)
    close(b, b.array([source.from_numpy(values)]), expected[None])


def test_array_of_a_tensor(b):
    for other in ENGINES:
        if installed(other):
            close(b, b.array(gl.tensor([1.0, 2.0], backend=other, requires_grad=True)), np.array([1, 2], f32))


def test_array_does_not_copy_what_fits(b):
    x = b.array([1.0, 2.0])
    assert b.array(x) is x
    assert b.array(x, "float32") is x
    assert b.array(x, "float16") is not x
    assert b.astype(x, "float32") is x
    assert b.squeeze(x) is x


def test_array_shares_memory_with_numpy_where_it_can():
    x = np.zeros(3, f32)
    assert get_backend("numpy").array(x) is x
    if installed("torch"):
        assert np.shares_memory(get_backend("torch").array(x).numpy(), x)
        t = get_backend("torch").array(x)
        assert np.shares_memory(get_backend("numpy").array(t), x)


@pytest.mark.parametrize(
    ("data", "error"),
    [([[1], [1, 2]], ShapeError), (["a"], DTypeError), (object(), DTypeError), (np.array([1j]), DTypeError)],
)
def test_array_of_nonsense(b, data, error):
    with pytest.raises(error):
        b.array(data)


# --- from engine to engine ---


@pytest.mark.parametrize("target", ["torch", "jax", "mlx"])
def test_conversions_and_back(b, target):
    if not installed(target):
        pytest.skip(f"the engine {target} is not installed")
    other = get_backend(target)
    for values in (A, N, M):
        x = b.from_numpy(values)
        there = getattr(b, f"to_{target}")(x)
        close(other, there, values)
        assert (there is x) == (b.name == target)
        back = getattr(b, f"from_{target}")(there)
        close(b, back, values)
        assert (back is there) == (b.name == target)
    close(b, getattr(b, f"from_{target}")(other.from_numpy(A), dtype="float16"), A.astype(np.float16))
    close(other, getattr(b, f"to_{target}")(gl.tensor(A, backend=b.name)), A)
    with pytest.raises(BackendError) as error:
        getattr(b, f"from_{target}")([1.0])
    assert f"from_{target} got no array of {target}" in str(error.value)
    assert "list" in str(error.value)


def test_from_torch_keeps_the_dtype_or_raises(engine):
    torch = pytest.importorskip("torch")
    x = torch.ones(2, dtype=torch.float64)
    wide = backend_class(engine)(dtype="float64", device="cpu")
    assert wide.dtype_of(wide.from_torch(x)) is gl.float64
    if engine == "jax":
        with pytest.raises(DTypeError, match="float64"):
            get_backend("jax").from_torch(x)
    assert wide.dtype_of(wide.from_torch(x, dtype="float32")) is gl.float32


def test_torch_keeps_identity_and_graph():
    torch = pytest.importorskip("torch")
    b = get_backend("torch")
    w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    assert b.from_torch(w) is w and b.to_torch(w) is w and b.array(w) is w
    y = b.to_torch(b.sum(b.square(b.from_torch(w * 3))))
    y.backward()
    assert w.grad.tolist() == [18, 36]
    w.grad = None
    b.sum(b.from_torch(w, dtype="float64") * 2).backward()
    assert w.grad.tolist() == [2, 2]
    w.grad = None
    b.sum(b.array(w.double())).backward()
    assert w.grad.tolist() == [1, 1]


def test_torch_gradients_pass_through_methods():
    torch = pytest.importorskip("torch")
    b = get_backend("torch")
    x = torch.tensor(A, requires_grad=True)
    b.mean(b.where(b.greater(x, 0), b.log_softmax(x), 0.0)).backward()
    y = torch.tensor(A, requires_grad=True)
    torch.where(y > 0, torch.log_softmax(y, -1), 0.0).mean().backward()
    torch.testing.assert_close(x.grad, y.grad)
    assert get_backend("numpy").array(x).tolist() == A.tolist()  # its history is left behind


def test_jax_tracers():
    jax = pytest.importorskip("jax")
    b = get_backend("jax")

    def loss(x):
        assert b.to_jax(x) is x and b.from_jax(x) is x and b.array(x) is x
        h = b.softmax(b.reshape(x, -1, 3), axis=-1)
        h = b.concat([h, b.zeros_like(h), b.array(np.ones((1, 3)))])
        h = b.astype(h, "float16")
        h = b.array(h) * b.clip(h, 0, 0.5) + b.one_hot(b.argmax(h, axis=1), 3)
        return b.block_until_ready(b.sum(b.take(h, b.arange(2), axis=0)))

    x = b.array(A)
    value = loss(x)
    np.testing.assert_allclose(jax.jit(loss)(x), value, rtol=1e-3)
    assert jax.grad(loss)(x).shape == (2, 3)
    assert jax.vmap(loss)(b.stack([x, x])).shape == (2,)
    assert float(jax.jit(lambda x: b.max(x, dim=0))(x)[0]) == 3.5


def test_float64_and_int64_on_jax_inside_jit():
    jax = pytest.importorskip("jax")
    wide = backend_class("jax")(dtype="float64")
    x = wide.array([0.1, 0.2])
    with wide.context():
        out = jax.jit(lambda x: wide.mean(x * 3))(x)
    assert wide.to_numpy(out) == pytest.approx(0.45, abs=1e-16)
    n = wide.array([2**40, 1])
    assert wide.to_numpy(wide.sum(n)) == 2**40 + 1
    assert wide.to_numpy(wide.cumsum(n)).tolist() == [2**40, 2**40 + 1]
    assert not jax.config.jax_enable_x64


def test_float64_on_jax_must_be_asked_for():
    pytest.importorskip("jax")
    b = get_backend("jax")
    for ask in (
        lambda: b.zeros(2, dtype="float64"),
        lambda: b.astype(b.ones(2), "float64"),
        lambda: b.cast(b.ones(2), gl.float64),
        lambda: b.array([1.0], dtype="float64"),
        lambda: b.randn(2, dtype="float64"),
        lambda: get_backend("numpy").to_jax(np.ones(2)),
    ):
        with pytest.raises(DTypeError, match="float64 on JAX must be asked for"):
            ask()


# --- modes ---


def test_no_grad(b):
    x = gl.tensor([1.0], requires_grad=True, backend=b.name)
    with b.no_grad():
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad

    @b.no_grad()
    def double(t):
        return t * 2

    assert not double(x).requires_grad and not double(x).requires_grad


def test_no_grad_of_torch():
    torch = pytest.importorskip("torch")
    b = get_backend("torch")
    x = torch.ones(2, requires_grad=True)
    context = b.no_grad()
    assert b.sum(x).requires_grad  # not before it is entered
    with context:
        assert not b.sum(x).requires_grad
    assert b.sum(x).requires_grad


# --- random numbers ---


def test_random_numbers_are_those_of_tensors(b):
    gl.manual_seed(7)
    expected = [gl.randn(2, 3, backend="numpy"), gl.rand(4, backend="numpy"), gl.randint(0, 9, (5,), backend="numpy")]
    gl.manual_seed(7)
    for got, wanted in zip([b.randn(2, 3), b.rand(4), b.randint(0, 9, (5,))], expected, strict=True):
        close(b, got, wanted.numpy())


def test_random_numbers_of_a_compiled_function_are_drawn_at_each_run(b):
    plain = get_backend(b.name)

    with gl.using_backend(b.name):

        @gl.jit
        def step(x):
            return x + plain.randn(3)

        x = gl.zeros(3)
        first, second = step(x), step(x)
    assert first.tolist() != second.tolist()


def test_random_numbers_of_a_generator(b):
    one, two = gl.Generator(5), gl.Generator(5)
    close(b, b.randn(3, generator=one), gl.randn(3, generator=two, backend="numpy").numpy())
    close(b, b.randn(3, generator=one), gl.randn(3, generator=two, backend="numpy").numpy())
    with pytest.raises(TypeError, match="not both"):
        b.rand(2, generator=one, key=KEY)
    with pytest.raises(TypeError, match=r"gradloom\.Generator"):
        b.rand(2, generator=np.random.default_rng())
    with pytest.raises(DTypeError, match="randint"):
        b.randn(2, dtype="int64")
    with pytest.raises(TypeError, match="needs a size"):
        b.randint(5)


# --- Tensors, errors ---


def test_methods_take_tensors_and_record(b):
    x = gl.tensor(A, backend=b.name, requires_grad=True)
    b.mean(b.square(x)).backward()
    np.testing.assert_allclose(x.grad.numpy(), A / 3, rtol=1e-6)
    assert b.equal(x, x).dtype is gl.bool


@pytest.mark.parametrize("other", ENGINES)
def test_arrays_of_another_engine_are_refused(b, other):
    if other == b.name or not installed(other):
        pytest.skip("needs two engines")
    x, own = get_backend(other).ones(2), b.ones(2)
    for call in (
        lambda: b.mean(x),
        lambda: b.exp(x),
        lambda: b.argmax(x),
        lambda: b.maximum(own, x),
        lambda: b.maximum(1.0, x),
        lambda: b.where(own, own, x),
        lambda: b.concat([own, x]),
        lambda: b.reshape(x, 1, 2),
        lambda: b.zeros_like(x),
        lambda: b.full_like(x, 1),
        lambda: b.take(own, x),
        lambda: b.to_torch(x),
        lambda: b.to_jax(x),
        lambda: b.astype(x, "float32"),
        lambda: b.block_until_ready(x),
        lambda: b.sum(gl.tensor(x, backend=other)),
    ):
        with pytest.raises(BackendError) as error:
            call()
        assert f"of the {b.name} backend got an array of {other}" in str(error.value)
        assert "backend.array(x)" in str(error.value)


@pytest.mark.parametrize("value", [[1.0, 2.0], "a", None, 2.0])
def test_what_is_no_array(b, value):
    for call in (b.mean, b.exp, b.argmax, b.softmax, b.sort, b.flatten, b.squeeze):
        with pytest.raises(DTypeError, match="not an array"):
            call(value)


def test_both_names_of_a_parameter(b):
    x = b.array(A)
    for call in (
        lambda: b.mean(x, axis=0, dim=0),
        lambda: b.mean(x, 0, dim=0),
        lambda: b.mean(x, axis=None, dim=0),
        lambda: b.sum(x, 0, True, keepdim=True),
        lambda: b.sum(x, keepdims=False, keepdim=True),
        lambda: b.softmax(x, -1, dim=0),
        lambda: b.argmax(x, axis=1, dim=1),
        lambda: b.concat([x, x], 0, dim=1),
    ):
        with pytest.raises(TypeError, match="which mean the same"):
            call()
    with pytest.raises(TypeError):
        b.zeros(2, device_mesh=(2,))
    with pytest.raises(TypeError):
        b.array([1.0], tensor_split=(0,))


def test_axes_that_are_not_there(b):
    x = b.array(A)
    for call in (
        lambda: b.mean(x, axis=2),
        lambda: b.sum(x, axis=(0, -3)),
        lambda: b.argmax(x, axis=2),
        lambda: b.softmax(x, 2),
        lambda: b.sort(x, dim=5),
        lambda: b.concat([x, x], axis=2),
        lambda: b.stack([x, x], axis=4),
        lambda: b.expand_dims(x, 4),
        lambda: b.split(x, 1, axis=-3),
        lambda: b.transpose(x, (0, 2)),
        lambda: b.softmax(b.sum(x)),
    ):
        with pytest.raises(IndexOutOfRangeError, match="no such axis"):
            call()
    with pytest.raises(ShapeError, match="twice"):
        b.mean(x, axis=(0, -2))
    with pytest.raises(TypeError, match="axis must be an int"):
        b.argmax(x, axis="0")


def test_shapes_that_do_not_fit(b):
    x = b.array(A)
    for call in (
        lambda: b.reshape(x, 4),
        lambda: b.reshape(x, -1, 4),
        lambda: b.reshape(x, -1, -1),
        lambda: b.reshape(x, -2, -3),
        lambda: b.reshape(b.zeros(0, 3), -1, 0),
        lambda: b.squeeze(x, 0),
        lambda: b.transpose(x, (0, 0)),
        lambda: b.transpose(x, (0,)),
        lambda: b.split(x, (1, 1), axis=1),
        lambda: b.split(x, 0),
        lambda: b.split(x, (4, -1), axis=1),
        lambda: b.pad(x, ((1, 1),)),
        lambda: b.pad(x, (1, 2, 3)),
        lambda: b.flatten(x, 1, 0),
    ):
        with pytest.raises(ShapeError):
            call()
    with pytest.raises(TypeError, match="at least one"):
        b.concat([])
    with pytest.raises(TypeError, match="a list of arrays"):
        b.stack(x)
    with pytest.raises(TypeError, match="maximum and minimum"):
        b.clip(x, x)
    with pytest.raises(OptionError):
        b.arange(0, 1, 0)
    with pytest.raises(OptionError):
        b.linspace(0, 1, -1)
    with pytest.raises(BackendError, match="no device"):
        b.to_device(x, "nowhere")


def test_empty_arrays(b):
    x = b.zeros(0, 3)
    assert b.to_numpy(b.sum(x, axis=0)).tolist() == [0, 0, 0]
    assert b.reshape(x, 3, -1).shape == (3, 0)
    assert len(b.split(x, 2)) == 1
    assert b.flatten(x).shape == (0,)


@pytest.mark.gpu
def test_a_gpu_device():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device")
    b = backend_class("torch")(device="cuda")
    w = torch.ones(2, requires_grad=True)
    x = b.array(w)
    assert x.device.type == "cuda" and b.array(x) is x and b.from_torch(x) is x
    for made in (b.zeros(2), b.randn(2), b.arange(3), b.array([1.0]), b.one_hot(b.arange(2), 3), b.zeros_like(x)):
        assert made.device.type == "cuda"
    b.sum(b.square(x)).backward()
    assert w.grad.tolist() == [2, 2]
    assert b.to_device(x, "cpu").device.type == "cpu"
    assert b.to_numpy(x).tolist() == [1, 1]
