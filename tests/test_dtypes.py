"""The dtypes: one object each, every library's names, and PyTorch's promotion."""

import copy
import itertools
import pickle
import sys

import numpy as np
import pytest

from gradloom import dtypes
from gradloom.dtypes import DType, default_dtype, dtype, finfo, iinfo, promote, result_type, set_default_dtype
from gradloom.dtypes import to_numpy_dtype as to_numpy
from gradloom.errors import DTypeError, MissingExtraError

ALL = [value for name, value in vars(dtypes).items() if isinstance(value, DType) and name.rstrip("_") == value.name]
NAMES = [d.name for d in ALL]
FLOATS = [d for d in ALL if d.kind == "float"]


@pytest.fixture
def restore_default():
    before = default_dtype()
    yield
    set_default_dtype(before)


def test_there_are_ten():
    assert len(ALL) == 10
    assert {d.kind for d in ALL} == {"bool", "uint", "int", "float"}
    assert (dtypes.half, dtypes.double, dtypes.long) == (dtypes.float16, dtypes.float64, dtypes.int64)


@pytest.mark.parametrize("d", ALL, ids=NAMES)
def test_a_dtype_is_one_object(d):
    assert dtype(d) is dtype(d.name) is dtype(f"torch.{d.name}") is d
    assert copy.copy(d) is copy.deepcopy(d) is pickle.loads(pickle.dumps(d)) is d
    assert d == d and {d: 1}[d] == 1 and repr(d) == f"gradloom.{d.name}"
    assert d != d.name and d != DType(d.name, d.kind, d.itemsize)
    with pytest.raises(AttributeError):
        d.name = "other"


@pytest.mark.parametrize("d", ALL, ids=NAMES)
def test_numpy_there_and_back(d):
    pytest.importorskip("ml_dtypes")
    assert to_numpy(d).itemsize == d.itemsize and to_numpy(d).name == d.name
    assert dtype(to_numpy(d)) is dtype(to_numpy(d).type) is d
    assert dtype(np.zeros(1, to_numpy(d)).dtype) is d


@pytest.mark.parametrize("library", ["torch", "jax.numpy", "mlx.core"])
def test_other_libraries(library):
    module = pytest.importorskip(library)
    for d in ALL:
        foreign = getattr(module, {"bool": "bool" if library == "torch" else "bool_"}.get(d.name, d.name), None)
        if foreign is not None:
            assert dtype(foreign) is d
    assert dtype(module.float32) is dtypes.float32
    with pytest.raises(DTypeError, match="complex64"):
        dtype(module.complex64)


def test_python_types_mean_what_they_mean_in_numpy_and_torch():
    assert (dtype(bool), dtype(int), dtype(float)) == (dtypes.bool_, dtypes.int64, dtypes.float64)


class float32:
    """Not a dtype, whatever its name."""


@pytest.mark.parametrize("wrong", ["float", "int", "f4", "", 3, None, [1], np.zeros(2), np.dtype("uint16"), np.uint32])
def test_what_is_no_dtype(wrong):
    with pytest.raises(DTypeError, match=r"expected: one of bool, uint8, .*, float64"):
        dtype(wrong)


def test_a_class_of_that_name_is_no_dtype():
    with pytest.raises(DTypeError, match="test_dtypes"):
        dtype(float32)


def test_bfloat16_without_ml_dtypes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(MissingExtraError, match="pip install ml_dtypes"):
        to_numpy("bfloat16")


# --- promotion ---


def test_promote_is_torchs():
    torch = pytest.importorskip("torch")
    for a, b in itertools.product(ALL, ALL):
        expected = torch.promote_types(getattr(torch, a.name), getattr(torch, b.name))
        assert promote(a, b) is dtype(expected), (a, b)


def test_promote_takes_names_and_refuses_others():
    assert promote("int8", "float16") is dtypes.float16
    with pytest.raises(DTypeError):
        promote(dtypes.int8, "complex64")


@pytest.mark.parametrize("default", ["float32", "float64", "float16", "bfloat16"])
def test_result_type_is_torchs(default, restore_default):
    torch = pytest.importorskip("torch")
    set_default_dtype(default)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, default))
    try:
        dims = {d: torch.ones(1, dtype=getattr(torch, d.name)) for d in ALL}
        zeros = {d: torch.ones((), dtype=getattr(torch, d.name)) for d in ALL}
        for a, b in itertools.product(ALL, ALL):
            assert result_type([a, b]) is dtype(torch.result_type(dims[a], dims[b])), (a, b)
            assert result_type([a], [b]) is dtype(torch.result_type(dims[a], zeros[b])), (a, b)
            assert result_type([], [a, b]) is dtype(torch.result_type(zeros[a], zeros[b])), (a, b)
        for a, scalar in itertools.product(ALL, (True, 1, 1.0)):
            assert result_type([a], [], [type(scalar)]) is dtype(torch.result_type(dims[a], scalar)), (a, scalar)
            assert result_type([], [a], [type(scalar)]) is dtype(torch.result_type(zeros[a], scalar)), (a, scalar)
        for a, b in itertools.product((True, 1, 1.0), repeat=2):
            assert result_type([], [], [type(a), type(b)]) is dtype(torch.result_type(a, b)), (a, b)
    finally:
        torch.set_default_dtype(before)


def test_result_type_of_three_groups():
    torch = pytest.importorskip("torch")
    for a, b, scalar in itertools.product(ALL, ALL, (True, 1, 1.0)):
        operands = torch.ones(1, dtype=getattr(torch, a.name)), torch.ones((), dtype=getattr(torch, b.name))
        # torch.result_type takes two operands; PyTorch joins the two lower groups first, then the dims.
        inner = torch.result_type(operands[1], scalar)
        expected = torch.result_type(operands[0], torch.ones((), dtype=inner))
        assert result_type([a], [b], [type(scalar)]) is dtype(expected), (a, b, scalar)


def test_result_type_needs_operands_with_dtypes():
    with pytest.raises(DTypeError, match="at least one"):
        result_type([])
    with pytest.raises(DTypeError, match="complex"):
        result_type([dtypes.int8], [], [complex])


# --- the default, and limits ---


def test_default_dtype(restore_default):
    assert default_dtype() is dtypes.float32
    set_default_dtype(np.float64)
    assert default_dtype() is result_type([dtypes.int64], [], [float]) is dtypes.float64
    with pytest.raises(DTypeError, match="int32"):
        set_default_dtype("int32")
    assert default_dtype() is dtypes.float64


@pytest.mark.parametrize("d", FLOATS, ids=str)
def test_finfo(d):
    expected = pytest.importorskip("ml_dtypes").finfo(to_numpy(d))
    got = finfo(d)
    assert got == (
        expected.bits,
        float(expected.eps),
        float(expected.max),
        float(expected.min),
        float(expected.smallest_normal),
    )
    assert finfo(d.name) == got


@pytest.mark.parametrize("d", [d for d in ALL if "int" in d.kind], ids=str)
def test_iinfo(d):
    expected = np.iinfo(to_numpy(d))
    assert iinfo(d) == (expected.bits, expected.max, expected.min)


def test_limits_of_the_other_kind():
    with pytest.raises(DTypeError, match="iinfo"):
        finfo("int8")
    for wrong in ("float32", bool):
        with pytest.raises(DTypeError, match="finfo"):
            iinfo(wrong)
