"""Choosing a backend, errors, conversions, devices, float64 and int64 on JAX, and how arrays find their engine."""

import importlib.util
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from gradloom import dtypes
from gradloom.backends import registry
from gradloom.backends.base import Backend
from gradloom.backends.registry import (
    BACKENDS,
    backend_class,
    backend_of,
    default_backend,
    get_backend,
    set_default_backend,
    using_backend,
)
from gradloom.dtypes import bfloat16, float32, float64, int32, int64
from gradloom.errors import BackendError, DTypeError, MissingExtraError
from gradloom.ops.op import KINDS, Op, kind_of

ENGINES = ["numpy", "jax", "torch", "mlx"]
DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


def installed(name):
    return importlib.util.find_spec(name) is not None


@pytest.fixture(params=ENGINES)
def engine(request):
    if not installed(request.param):
        pytest.skip(f"the engine {request.param} is not installed")
    return request.param


@pytest.fixture
def jax_backend():
    pytest.importorskip("jax")
    return backend_class("jax")


@pytest.fixture(autouse=True)
def _keep_default(monkeypatch):
    """Whatever a test sets as the default goes away with it."""
    monkeypatch.setattr(registry, "_default", None)
    monkeypatch.delenv("GRADLOOM_BACKEND", raising=False)


def add_op():
    """An op as the registry has it, but outside of the registry."""
    return Op("add", lambda xp, x, y: xp.add(x, y), ("x", "y"), (), promote="same", broadcasts=True)


def call(record, *args, **attrs):
    return record.entry[type(args[0])](*args, **attrs)


# --- choosing ---


def test_numpy_is_the_default_and_get_backend_shares_one():
    assert default_backend().name == "numpy"
    assert get_backend() is get_backend("numpy") is default_backend()


def test_a_backend_by_name(engine):
    backend = get_backend(engine)
    assert backend.name == engine
    assert get_backend(engine) is backend
    assert get_backend(backend) is backend
    assert type(backend) is backend_class(engine)
    assert backend.dtype is float32


def test_set_default_backend(engine):
    set_default_backend(engine)
    assert default_backend() is get_backend(engine)


def test_using_backend_nests_and_restores(engine):
    with using_backend(engine) as outer:
        assert default_backend() is outer
        with using_backend("numpy"):
            assert default_backend().name == "numpy"
        assert default_backend() is outer
        with pytest.raises(ZeroDivisionError), using_backend("numpy"):
            1 / 0  # noqa: B018
        assert default_backend() is outer
    assert default_backend().name == "numpy"


def test_using_backend_is_of_one_thread():
    seen = []
    chosen = backend_class("numpy")(dtype="float64")
    with using_backend(chosen):
        thread = threading.Thread(target=lambda: seen.append(default_backend()))
        thread.start()
        thread.join()
        assert default_backend() is chosen
    assert seen == [get_backend("numpy")]


def in_python(code, **variables):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)


def test_the_environment_variable_chooses(engine):
    code = "from gradloom.backends.registry import default_backend; print(default_backend().name)"
    assert in_python(code, GRADLOOM_BACKEND=engine).stdout.strip() == engine


def test_an_unknown_name_in_the_environment_variable():
    code = "from gradloom.backends.registry import default_backend; default_backend()"
    done = in_python(code, GRADLOOM_BACKEND="nunpy")
    assert done.returncode != 0
    assert "unknown backend 'nunpy'" in done.stderr


def test_no_engine_is_imported_before_it_is_asked_for():
    code = (
        "import sys, numpy; from gradloom.backends import registry; registry.default_backend(); "
        "print(sorted({'jax', 'torch', 'mlx'} & set(sys.modules)))"
    )
    assert in_python(code).stdout.strip() == "[]"


def test_unknown_backend():
    with pytest.raises(BackendError) as error:
        get_backend("tensorflow")
    assert "unknown backend 'tensorflow'" in str(error.value)
    assert "'numpy', 'jax', 'torch', 'mlx'" in str(error.value)


def test_missing_extra(monkeypatch):
    monkeypatch.setitem(BACKENDS, "other", ("no_such_engine:OtherBackend", ("other",), "other"))
    # A missing file of our own is a bug, and shows as such.
    with pytest.raises(ModuleNotFoundError) as error:
        backend_class("other")
    assert not isinstance(error.value, MissingExtraError)


@pytest.mark.parametrize("name", ["jax", "torch", "mlx"])
def test_an_engine_that_is_not_installed(monkeypatch, name):
    monkeypatch.delitem(registry._loaded, name, raising=False)
    monkeypatch.delitem(registry._instances, name, raising=False)
    monkeypatch.delitem(sys.modules, f"gradloom.backends.{name}", raising=False)
    for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError) as error:
        get_backend(name)
    assert f"the backend '{name}' needs {name}" in str(error.value)
    assert f"pip install 'gradloom[{name}]'" in str(error.value)


# --- the record ---


def test_dtype_and_default_dtype(engine):
    cls = backend_class(engine)
    assert cls(dtype="float64").dtype is float64
    assert cls(default_dtype=np.float32).dtype is float32
    assert cls(bfloat16).dtype is bfloat16
    assert "dtype=float16" in repr(cls(dtype="float16"))
    with pytest.raises(TypeError, match="not both"):
        cls(dtype="float32", default_dtype="float32")
    with pytest.raises(DTypeError, match="needs a float dtype"):
        cls(dtype="int64")
    with pytest.raises(DTypeError):
        cls(dtype="complex64")


def test_the_dtype_follows_the_default_dtype(engine):
    backend = backend_class(engine)()
    dtypes.set_default_dtype("float64")
    try:
        assert backend.dtype is float64
    finally:
        dtypes.set_default_dtype("float32")
    assert backend.dtype is float32


def test_devices(engine):
    cls = backend_class(engine)
    assert cls(device="cpu").device == "cpu"
    for unknown in ("tpu9", "cpux", "cpu:77" if engine != "torch" else "cuda:77"):
        with pytest.raises(BackendError) as error:
            cls(device=unknown)
        assert f"{engine} has no device '{unknown}'" in str(error.value)
        assert "cpu" in str(error.value).partition("expected:")[2]


def test_cuda_that_is_not_there():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(BackendError, match="torch has no device 'cuda:0' here"):
        backend_class("torch")(device="cuda:0")


@pytest.mark.gpu
def test_a_gpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device")
    backend = backend_class("torch")(device="cuda:0")
    array = backend.from_numpy(np.ones(3, np.float32))
    assert array.device.type == "cuda"
    backend.synchronize(array)
    assert backend.to_numpy(array).tolist() == [1, 1, 1]
    with backend.context():
        assert backend.xp.zeros(shape=(2,), dtype=float32).device.type == "cuda"


def test_an_engine_device_object():
    torch = pytest.importorskip("torch")
    assert backend_class("torch")(device=torch.device("cpu")).device == "cpu"


def test_a_jax_device(jax_backend):
    import jax

    device = jax.devices("cpu")[0]
    for given in (device, "cpu:0", "cpu"):
        backend = jax_backend(device=given)
        assert backend.from_numpy(np.ones(2, np.float32)).devices() == {device}
        with backend.context():
            assert backend.xp.zeros(shape=(2,), dtype=float32).devices() == {device}


# --- conversions ---


@pytest.mark.parametrize("name", DTYPES)
def test_numpy_and_back(engine, name):
    d = dtypes.dtype(name)
    backend = backend_class(engine)(dtype="float64" if name == "float64" else None)
    values = np.array([[0, 1, 2], [3, 0, 1]]).astype(dtypes.to_numpy_dtype(d))
    for array in (values, values.T, values[::-1, ::2], values[0, 1], values[:0]):
        made = backend.from_numpy(array)
        assert isinstance(made, backend.array_types)
        wanted = int64 if engine == "jax" and d is int32 else d
        assert backend.dtype_of(made) is wanted
        back = backend.to_numpy(made)
        assert back.dtype == dtypes.to_numpy_dtype(wanted)
        np.testing.assert_array_equal(back, array)
    native = backend.native_dtype(d)
    assert dtypes.dtype(native) is (int32 if engine == "jax" and d is int64 else d)


def test_from_numpy_into_a_dtype(engine):
    backend = backend_class(engine)(dtype="float64")
    values = np.array([1, 2, 3])
    for name in ("float16", "bfloat16", "float32", "float64", "int8"):
        made = backend.from_numpy(values, dtypes.dtype(name))
        assert backend.dtype_of(made) is dtypes.dtype(name)
        assert backend.to_numpy(made).astype(int).tolist() == [1, 2, 3]


def test_odd_numpy_arrays(engine):
    backend = backend_class(engine)()
    frozen = np.arange(3, dtype=np.float32)
    frozen.flags.writeable = False
    for array in (frozen, np.arange(3).astype(">i4"), np.arange(6.0).astype(">f4")[::-2], np.float32(3)):
        np.testing.assert_array_equal(backend.to_numpy(backend.from_numpy(array)), array)
    for unknown in (np.array([1j]), np.array(["a"]), np.array([None]), np.array([1], np.uint16)):
        with pytest.raises(DTypeError):
            backend.from_numpy(unknown)


def test_torch_shares_memory_where_it_may():
    pytest.importorskip("torch")
    backend = get_backend("torch")
    array = np.zeros(3, np.float32)
    made = backend.from_numpy(array)
    array[0] = 5
    assert made[0] == 5
    assert np.shares_memory(backend.to_numpy(made), array)
    array.flags.writeable = False
    made = backend.from_numpy(array)
    made[0] = 9
    assert array[0] == 5


def test_jax_and_mlx_do_not_see_later_writes(engine):
    if engine not in ("jax", "mlx"):
        pytest.skip("its arrays can be written, and share memory")
    backend = get_backend(engine)
    array = np.zeros(1000, np.float32)
    made = backend.from_numpy(array)
    array[:] = 5
    assert backend.to_numpy(made).max() == 0


def test_torch_to_numpy_of_an_array_with_a_gradient():
    torch = pytest.importorskip("torch")
    x = torch.ones(2, requires_grad=True)
    assert backend_class("torch").to_numpy(x * 2).tolist() == [2, 2]


def test_copy_has_its_own_memory(engine):
    backend = get_backend(engine)
    x = backend.from_numpy(np.zeros(3, np.float32))
    y = backend.copy(x)
    assert y is not x
    if backend.mutable:
        x[0] = 1
    assert backend.to_numpy(y).tolist() == [0, 0, 0]


@pytest.mark.parametrize("other", ENGINES)
@pytest.mark.parametrize("name", ["float32", "float64", "int64", "int8", "bool"])
def test_dlpack_between_engines(engine, other, name):
    if not installed(other):
        pytest.skip(f"the engine {other} is not installed")
    source, target = (backend_class(e)(dtype="float64" if name == "float64" else None) for e in (engine, other))
    values = np.array([[1, 0], [0, 1], [1, 1]]).astype(name)
    made = source.from_numpy(values)
    moved = target.from_dlpack(made)
    assert isinstance(moved, target.array_types)
    # What JAX calls int64 it hands over as the int32 that it holds.
    held = "int32" if engine == "jax" and name == "int64" and other != "jax" else name
    assert target.dtype_of(moved) is dtypes.dtype(held)
    np.testing.assert_array_equal(target.to_numpy(moved), values)


def test_dlpack_into_torch_copies_nothing():
    pytest.importorskip("torch")
    backend = get_backend("torch")
    x = backend.from_numpy(np.zeros(3, np.float32))
    assert backend.from_dlpack(x).data_ptr() == x.data_ptr()


def test_compile_and_synchronize(engine):
    backend = get_backend(engine)
    fn = backend.compile(lambda p, xs: {"new": p["a"] + xs[0], "old": p["a"]}, donate=())
    one = backend.from_numpy(np.ones(3, np.float32))
    out = fn({"a": one}, [one])
    backend.synchronize(out["new"], out["old"])
    assert backend.to_numpy(out["new"]).tolist() == [2, 2, 2]


def test_jax_donates(jax_backend):
    backend = jax_backend()
    fn = backend.compile(lambda p, x: p + x, donate=(0,))
    p, x = (backend.from_numpy(np.ones(3, np.float32)) for _ in range(2))
    assert fn(p, x).tolist() == [2, 2, 2]
    assert p.is_deleted() and not x.is_deleted()


# --- finding the engine of an array ---


def test_arrays_are_adopted(engine):
    backend = get_backend(engine)
    x = backend.from_numpy(np.ones(2, np.float32))
    assert backend_of(x) is type(backend)
    kind = kind_of(type(x))
    assert kind.rank == 0
    assert kind.dtype(x) is float32
    assert KINDS[type(x)] is kind


def test_subclasses_are_adopted():
    class Mine(np.ndarray):
        pass

    assert backend_of(np.ones(2).view(Mine)).name == "numpy"
    assert backend_of(np.float32(1)).name == "numpy"
    if installed("torch"):
        import torch

        class Own(torch.Tensor):
            pass

        assert backend_of(torch.nn.Parameter(torch.ones(2))).name == "torch"
        assert backend_of(torch.ones(2).as_subclass(Own)).name == "torch"


def test_jax_tracers_are_arrays(jax_backend):
    import jax

    seen = []

    def f(x):
        seen.append(backend_of(x))
        return call(add_op(), x, 1.5).sum()

    assert jax.jit(f)(jax.numpy.ones(2)) == 5
    assert jax.grad(f)(jax.numpy.ones(2)).tolist() == [1, 1]
    assert jax.vmap(f)(jax.numpy.ones((3, 2))).tolist() == [5, 5, 5]
    assert set(seen) == {jax_backend}


@pytest.mark.parametrize("value", [[1.0], "a", object(), np.dtype("float32"), None])
def test_what_is_no_array(value):
    with pytest.raises(DTypeError) as error:
        backend_of(value)
    assert "expected an array of a backend" in str(error.value)
    assert type(value).__qualname__ in str(error.value)


def test_ops_run_on_the_engine_of_their_operands(engine):
    backend, add = get_backend(engine), add_op()
    x = backend.from_numpy(np.array([1, 2], np.float32))
    n = backend.from_numpy(np.array([1, 2], np.int64))
    for args, wanted, d in (
        ((x, x), [2, 4], float32),
        ((x, 1), [2, 3], float32),
        ((1, x), [2, 3], float32),
        ((1.5, x), [2.5, 3.5], float32),
        ((n, 1.5), [2.5, 3.5], float32),
        ((2, n), [3, 4], int64),
        ((n, x), [2, 4], float32),
    ):
        out = call(add, *args)
        assert backend.dtype_of(out) is d
        assert backend.to_numpy(out).tolist() == wanted


def test_a_fast_kernel_is_used(engine, monkeypatch):
    backend = get_backend(engine)
    monkeypatch.setattr(backend_class(engine), "fast", {"add": lambda x, y: x * y})
    x = backend.from_numpy(np.array([3], np.float32))
    assert backend.to_numpy(call(add_op(), x, x)).tolist() == [9]


def test_arrays_of_two_engines_do_not_mix(engine):
    if engine == "numpy":
        pytest.skip("needs two engines")
    x = get_backend(engine).from_numpy(np.ones(2, np.float32))
    for args in ((x, np.ones(2, np.float32)), (np.ones(2, np.float32), x)):
        with pytest.raises(BackendError) as error:
            call(add_op(), *args)
        assert "add got arrays of different backends" in str(error.value)
        assert engine in str(error.value)
        assert "numpy" in str(error.value)


# --- float64 and int64 ---


def test_the_jax_flag_is_never_set(jax_backend):
    import jax

    backend = jax_backend(dtype="float64")
    x = backend.from_numpy(np.ones(2))
    call(add_op(), x, x)
    with using_backend(backend), backend.context():
        backend.xp.zeros(shape=(2,), dtype=float64)
    assert not jax.config.jax_enable_x64
    assert jax.numpy.ones(2).dtype == np.float32


def test_ops_on_float64_stay_float64_on_jax(jax_backend):
    backend, add = jax_backend(dtype="float64"), add_op()
    x = backend.from_numpy(np.array([0.1, 0.2]))
    y = backend.from_numpy(np.array([1, 2], np.float32))
    for out in (call(add, x, x), call(add, x, 0.1), call(add, 0.1, x), call(add, x, y), call(add, y, x)):
        assert backend.dtype_of(out) is float64
    assert backend.to_numpy(call(add, x, 0.1))[0] == 0.1 + 0.1
    assert backend.dtype_of(call(add, y, 0.1)) is float32


def astype_op():
    return Op("astype", lambda xp, x, *, dtype: xp.astype(x, dtype=dtype), ("x",), ("dtype",))


def test_float64_on_jax_must_be_asked_for(jax_backend):
    backend, astype = jax_backend(), astype_op()
    x = backend.from_numpy(np.ones(2, np.float32))
    for ask in (
        lambda: call(astype, x, dtype=float64),
        lambda: backend.xp.astype(x, dtype=float64),
        lambda: backend.xp.zeros(shape=(2,), dtype=float64),
        lambda: backend.from_numpy(np.ones(2)),
        lambda: backend.from_numpy(np.ones(2, np.float32), float64),
        lambda: backend.native_dtype(float64),
    ):
        with pytest.raises(DTypeError) as error:
            ask()
        assert "float64 on JAX must be asked for" in str(error.value)
        assert "JaxBackend(dtype='float64')" in str(error.value)
    with using_backend(jax_backend(dtype="float64")) as wide:
        out = call(astype, x, dtype=float64)
        assert wide.dtype_of(out) is float64
    # Once it is there it goes both ways.
    assert backend.dtype_of(call(astype, out, dtype=float32)) is float32
    cast_back = Op("astype_vjp_x", lambda xp, g, *, x_dtype: xp.astype(g, dtype=x_dtype), ("g",), ("x_dtype",))
    assert backend.dtype_of(call(cast_back, x, x_dtype=float64)) is float64


def test_compiled_float64_on_jax(jax_backend):
    wide, narrow = jax_backend(dtype="float64"), jax_backend()
    x = wide.from_numpy(np.array([0.1, 0.2]))
    out = wide.compile(lambda a: a * 3)(x)
    assert wide.dtype_of(out) is float64
    assert wide.to_numpy(out)[0] == 0.1 * 3
    with pytest.raises(DTypeError, match="must be asked for"):
        narrow.compile(lambda a: a * 3)(x)


def test_int64_on_jax(jax_backend):
    """int32 and int64 are one public dtype on JAX, int64."""
    backend = jax_backend()
    xp = backend.xp
    for d in (np.int32, np.int64):
        x = backend.from_numpy(np.array([3, 1, 2], d))
        assert x.dtype == np.int32
        assert backend.dtype_of(x) is xp.dtype(x) is int64
        assert backend.to_numpy(x).dtype == np.int64
    for index in (xp.argmax(x), xp.argsort(x), xp.sum(xp.astype(x, dtype="bool")), xp.astype(x, dtype=int64)):
        assert backend.dtype_of(index) is int64
    with pytest.raises(DTypeError, match="int32") as error:
        backend.from_numpy(np.array([2**40]))
    assert f"given:    values from {2**40} to {2**40}" in str(error.value)
    wide = jax_backend(dtype="float64")
    large = wide.from_numpy(np.array([2**40, 1]))
    assert wide.to_numpy(call(add_op(), large, 1)).tolist() == [2**40 + 1, 2]


def test_torch_int64_into_jax_by_dlpack(jax_backend):
    torch = pytest.importorskip("torch")
    backend = jax_backend()
    assert backend.to_numpy(backend.from_dlpack(torch.tensor([1, 2]))).tolist() == [1, 2]
    with pytest.raises(DTypeError, match="int32"):
        backend.from_dlpack(torch.tensor([2**40]))
    with pytest.raises(DTypeError, match="float64"):
        backend.from_dlpack(torch.ones(2, dtype=torch.float64))


def test_float64_on_mlx_is_of_the_cpu():
    pytest.importorskip("mlx.core")
    backend = backend_class("mlx")(dtype="float64")
    assert backend.device == "cpu"
    assert backend.native_dtype(float64) == backend.from_numpy(np.ones(1)).dtype


def test_every_registered_backend_is_a_backend():
    for name in BACKENDS:
        if installed(name):
            cls = backend_class(name)
            assert issubclass(cls, Backend)
            assert cls.name == name
            assert cls.array_types


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
@pytest.mark.filterwarnings("ignore:invalid value")  # NumPy's mean
def test_reductions_of_nothing(engine, shape):
    """MLX's own sum of an array without elements reads a shape that is not there: now and then it never ended."""
    backend = get_backend(engine)
    for axis in (None, 0, -1):
        for keepdims in (False, True):
            expected = np.zeros(shape).sum(axis=axis, keepdims=keepdims)
            for _ in range(50):
                x = backend.xp.square(backend.from_numpy(np.zeros(shape, np.float32)))
                found = {
                    name: getattr(backend.xp, name)(x, axis=axis, keepdims=keepdims) for name in ("sum", "mean", "prod")
                }
                for name, value in (("sum", 0.0), ("prod", 1.0)):
                    np.testing.assert_array_equal(backend.to_numpy(found[name]), expected + value)
                assert backend.to_numpy(found["mean"]).shape == expected.shape
