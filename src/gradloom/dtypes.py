"""The dtypes, the promotion table and the default dtype.

A `DType` is a name that every backend translates into its own; promotion is PyTorch's (`torch.promote_types`,
`torch.result_type`).
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple, final

import numpy as np

from .errors import DTypeError, MissingExtraError, explain

__all__ = [
    "DType", "FInfo", "IInfo", "default_dtype", "dtype", "finfo", "iinfo", "promote", "result_type",
    "set_default_dtype", "to_numpy_dtype",
    "bool_", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64",
    "half", "float_", "double", "short", "int_", "long",
]  # fmt: skip


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False, slots=True)
class DType:
    """A dtype; one object each, compared by identity. Use the module's names or `dtype()`, do not construct.

    Attributes:
        name: "float32" and so on.
        kind: "bool", "uint", "int" or "float".
        itemsize: Bytes per element.

    Example:
        >>> float32, float32.itemsize, dtype("float32") is float32
        (gradloom.float32, 4, True)
    """

    name: str
    kind: str
    itemsize: int

    @property
    def is_floating_point(self) -> bool:
        """Whether the kind is "float"."""
        return self.kind == "float"

    def __repr__(self) -> str:
        return f"gradloom.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles give back the one object, else identity would not be equality.
        return dtype, (self.name,)


bool_ = DType("bool", "bool", 1)
uint8 = DType("uint8", "uint", 1)
int8 = DType("int8", "int", 1)
int16 = DType("int16", "int", 2)
int32 = DType("int32", "int", 4)
int64 = DType("int64", "int", 8)
float16 = DType("float16", "float", 2)
bfloat16 = DType("bfloat16", "float", 2)
float32 = DType("float32", "float", 4)
float64 = DType("float64", "float", 8)

# PyTorch's other names. `float_` and `int_` are its `float` and `int`, which would shadow the builtins here.
half, float_, double = float16, float32, float64
short, int_, long = int16, int32, int64

_ALL = (bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64)
_NAMES = {d.name: d for d in _ALL}

# What `dtype()` has seen; only what names a dtype gets in, so it stays small.
_CACHE: dict[Any, DType] = {
    **{d: d for d in _ALL},
    **_NAMES,
    **{f"torch.{d.name}": d for d in _ALL},
    **{"bool_": bool_, "half": half, "double": double, "short": short, "long": long},
    **{bool: bool_, int: int64, float: float64},
}


def dtype(x: Any) -> DType:
    """The gradloom dtype for anything that names one.

    Args:
        x: A DType; a name ("float32", "torch.float32", "half"); Python's bool, int (int64) or float (float64, as in
            PyTorch and NumPy); a dtype of NumPy, PyTorch, JAX, MLX or ml_dtypes. The names "float" and "int" are
            refused: NumPy and PyTorch disagree on them.

    Returns:
        The one DType object of that name.

    Raises:
        DTypeError: If it is none of these, or a dtype that gradloom does not have (complex64, uint16, ...).

    Example:
        >>> dtype(np.dtype("int32")), dtype("torch.bfloat16"), dtype(bool)
        (gradloom.int32, gradloom.bfloat16, gradloom.bool)
    """
    try:
        found = _CACHE.get(x)
    except TypeError:  # not hashable: a list, an array
        found = None
    if found is not None:
        return found
    found = _NAMES.get(_foreign_name(x))
    if found is None:
        named = isinstance(x, str | type | np.dtype) or type(x).__name__.lower() == "dtype"
        given = repr(x) if named else f"a value of type {type(x).__name__}"  # an array's repr may be long
        raise DTypeError(explain("not a dtype that gradloom has", expected=f"one of {', '.join(_NAMES)}", given=given))
    _CACHE[x] = found
    return found


def _foreign_name(x: Any) -> str:
    """The name of another library's dtype, or ""; goes by names, so that no framework need be imported."""
    if isinstance(x, np.dtype):
        return x.name
    if isinstance(x, type):
        if issubclass(x, np.generic):
            return np.dtype(x).name
        # jax.numpy.float32 and ml_dtypes.bfloat16 are classes; a user's class that is called float32 is not meant.
        return x.__name__ if x.__module__.partition(".")[0] in ("jax", "jaxlib", "ml_dtypes") else ""
    if type(x).__module__.partition(".")[0] in ("torch", "mlx") and type(x).__name__.lower() == "dtype":
        return str(x).rpartition(".")[2]
    return ""


_NUMPY = {d: np.dtype(d.name) for d in _ALL if d is not bfloat16}


def to_numpy_dtype(d: Any) -> np.dtype[Any]:
    """NumPy's dtype for a gradloom dtype (or anything that `dtype()` takes). The way back is `dtype()`.

    Raises:
        MissingExtraError: For bfloat16, if the package ml_dtypes (which gives NumPy that type) is not installed.

    Example:
        >>> to_numpy_dtype(float16)
        dtype('float16')
    """
    d = dtype(d)
    if d is not bfloat16:
        return _NUMPY[d]
    try:
        import ml_dtypes
    except ImportError as error:
        message = explain("NumPy has no bfloat16 of its own", do="pip install ml_dtypes, or use float32")
        raise MissingExtraError(message) from error
    return np.dtype(ml_dtypes.bfloat16)


# --- promotion ---

_CATEGORY = {"bool": 0, "uint": 1, "int": 1, "float": 2}


def _promote(a: DType, b: DType) -> DType:
    if a is b:
        return a
    if _CATEGORY[a.kind] != _CATEGORY[b.kind]:
        return a if _CATEGORY[a.kind] > _CATEGORY[b.kind] else b
    if a.itemsize != b.itemsize:
        return a if a.itemsize > b.itemsize else b
    # Equal sizes: neither of the two holds the other, so the next larger one is taken.
    return float32 if a.kind == "float" else int16


_PROMOTED = {(a, b): _promote(a, b) for a in _ALL for b in _ALL}


def promote(a: DType, b: DType) -> DType:
    """The dtype that two tensors with dimensions meet in; the table of `torch.promote_types`.

    The higher category wins (bool < integer < float), within one the larger; float16 with bfloat16 gives float32, uint8
    with int8 int16.

    Example:
        >>> promote(int64, float16), promote(uint8, int8)
        (gradloom.float16, gradloom.int16)
    """
    try:
        return _PROMOTED[a, b]
    except (KeyError, TypeError):
        return _PROMOTED[dtype(a), dtype(b)]


def result_type(dims: Iterable[DType], zero_dims: Iterable[DType] = (), scalars: Iterable[type] = ()) -> DType:
    """The dtype in which an op runs; the rule of `torch.result_type`.

    The operands form three groups. A later group matters only if its category (bool < integer < float) is higher than
    that of those before.

    Args:
        dims: Dtypes of the operands with at least one dimension.
        zero_dims: Dtypes of the 0-dimensional tensors.
        scalars: Types of the Python scalars (bool, int, float). A float means `default_dtype()`, an int int64.

    Raises:
        DTypeError: If there is no operand, or a scalar of another type (complex).

    Example:
        >>> result_type([float16], [float64], [float]), result_type([int32], [], [float])
        (gradloom.float16, gradloom.float32)
    """
    result = None
    for group in (dims, zero_dims, map(_scalar_dtype, scalars)):
        joined = None
        for d in group:
            joined = d if joined is None else promote(joined, d)
        if result is None or (joined is not None and _CATEGORY[joined.kind] > _CATEGORY[result.kind]):
            result = joined
    if result is None:
        raise DTypeError(explain("result_type needs at least one operand"))
    return result


def _scalar_dtype(scalar: type) -> DType:
    if issubclass(scalar, bool):
        return bool_
    if issubclass(scalar, int):
        return int64
    if issubclass(scalar, float):
        return _default
    raise DTypeError(explain("not a scalar with a dtype", expected="bool, int or float", given=scalar.__name__))


# The one piece of mutable state in layer 0: a policy of the process, as in PyTorch. It belongs here because promotion
# depends on it; it is read at dispatch only, never by an op's body, and is part of the key of compiled functions.
_default = float32


def default_dtype() -> DType:
    """The dtype of new floating tensors, and of a Python float among integers; float32 unless set.

    Example:
        >>> default_dtype()
        gradloom.float32
    """
    return _default


def set_default_dtype(d: Any) -> None:
    """Sets `default_dtype()` for the process.

    Args:
        d: A floating dtype, or what `dtype()` turns into one.

    Raises:
        DTypeError: If it is not floating.

    Example:
        >>> set_default_dtype("float32")
    """
    global _default
    d = dtype(d)
    if d.kind != "float":
        raise DTypeError(explain("the default dtype is floating", expected="a floating dtype", given=d.name))
    _default = d


# --- limits ---


class FInfo(NamedTuple):
    """Limits of a floating dtype as Python floats; `tiny` is the smallest normal number, `eps` the step above 1."""

    bits: int
    eps: float
    max: float
    min: float
    tiny: float


class IInfo(NamedTuple):
    """Limits of an integer dtype."""

    bits: int
    max: int
    min: int


# (bits of the stored mantissa, largest exponent)
_FLOATS = {float16: (10, 15), bfloat16: (7, 127), float32: (23, 127), float64: (52, 1023)}


def finfo(d: Any) -> FInfo:
    """The limits of a floating dtype.

    Raises:
        DTypeError: If the dtype is not floating.

    Example:
        >>> finfo(bfloat16).eps, finfo("float16").max
        (0.0078125, 65504.0)
    """
    d = dtype(d)
    if d not in _FLOATS:
        raise DTypeError(explain("finfo is for floating dtypes", given=d.name, do="use iinfo for integers"))
    mantissa, exponent = _FLOATS[d]
    eps = 2.0**-mantissa
    largest = (2 - eps) * 2.0**exponent
    return FInfo(bits=8 * d.itemsize, eps=eps, max=largest, min=-largest, tiny=2.0 ** (1 - exponent))


def iinfo(d: Any) -> IInfo:
    """The limits of an integer dtype.

    Raises:
        DTypeError: If the dtype is not an integer.

    Example:
        >>> iinfo(uint8).max, iinfo(int8).min
        (255, -128)
    """
    d = dtype(d)
    if d.kind not in ("int", "uint"):
        raise DTypeError(explain("iinfo is for integer dtypes", given=d.name, do="use finfo for floats"))
    bits = 8 * d.itemsize
    if d.kind == "uint":
        return IInfo(bits=bits, max=2**bits - 1, min=0)
    return IInfo(bits=bits, max=2 ** (bits - 1) - 1, min=-(2 ** (bits - 1)))
