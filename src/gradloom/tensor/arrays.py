"""Native arrays of anything that a Tensor can be made from, and the checks of axes and sizes."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..backends.base import Backend, backend_of, get_backend
from ..dtypes import DType, bool_, int64, promote
from ..dtypes import dtype as to_dtype
from ..errors import BackendError, DTypeError, IndexOutOfRangeError, ShapeError, explain
from ..ops.op import SCALARS, kind_of
from . import tape


def engine(backend: Any = None, device: Any = None) -> Backend:
    """The backend of that name (default: the current one), on that device if one is given.

    Raises:
        BackendError: There is no such backend or device.
    """
    found = get_backend(backend)
    if device is None:
        return found
    inner = getattr(found, "inner", found)  # while a function is being compiled: the engine that it is compiled for
    moved = type(inner)(dtype=inner._dtype, device=device)
    if moved.device == inner.device:
        return found
    if inner is not found:
        raise BackendError(
            explain("a compiled function runs on one device", expected=str(inner.device), given=str(device))
        )
    return moved


def backend_name(t: Any) -> str | None:
    """The name of the backend of a Tensor's array; None (the default one) for a traced value."""
    x = t._array
    return backend_of(x).name if kind_of(type(x)).rank == 0 else None  # type: ignore[union-attr]


def known(array: Any) -> np.ndarray | None:
    """The elements of a native array; None where there are none yet: a traced value, an engine's tracer."""
    if getattr(array, "concrete", None) is not None:
        return None
    try:
        return backend_of(array).to_numpy(array)
    except Exception:  # inside jax.jit, jax.grad, mx.compile
        return None


def wrap(array: Any) -> Any:
    """A Tensor without history over a native array."""
    t = object.__new__(tape.Tensor)
    t._array, t._node = array, None
    return t


def frozen(t: Any) -> Any:
    """A Tensor with t's elements and history of now, which in-place changes of t do not reach."""
    f = object.__new__(tape.Tensor)
    f._array, f._node = t._array, t._node
    return f


def cast(t: Any, dtype: DType) -> Any:
    """The Tensor in a dtype; itself where it has it. What is no float has no history."""
    if t.dtype is dtype:
        return t
    if t._node is not None and dtype.kind != "float":
        t = wrap(t._array)
    return ops.astype(t, dtype=dtype)


def as_array(data: Any, dtype: Any = None, backend: Any = None, copy: bool = True, device: Any = None) -> Any:
    """The elements of `data` as an array of an engine.

    Args:
        data: A Python number; a nested sequence of numbers; a NumPy array or scalar, which keeps its dtype; an array
            of an
            engine; a Tensor.
        dtype: The dtype wanted. Default: that of `data`; Python floats get the backend's float dtype, ints int64.
        backend: Name or instance. Default: that of a Tensor, for all else the current default backend.
        copy: Give memory of its own also where `data` could be shared.
        device: The engine's name of a device.

    Raises:
        ShapeError: A ragged sequence.
        DTypeError: Elements that are no numbers, or a dtype that the engine does not have (never a narrower one
            instead).
    """
    if isinstance(data, tape.Tensor):
        data = data._array
        if backend is None and kind_of(type(data)).rank == 0:  # type: ignore[union-attr]
            backend = backend_of(data).name
    chosen = engine(backend, device)
    wanted = None if dtype is None else to_dtype(dtype)
    t = type(data)
    if isinstance(data, (np.ndarray, np.generic)):
        return _from_numpy(np.asarray(data), wanted, chosen, copy)
    if t is not list and t is not tuple:
        kind = kind_of(t)
        if kind is not None:
            return _from_engine(data, kind, wanted, chosen, copy, device)
    return _from_numpy(*_from_python(data, wanted, chosen), chosen, False)


def _from_numpy(array: np.ndarray, wanted: DType | None, chosen: Backend, copy: bool) -> Any:
    try:
        own = to_dtype(array.dtype)
    except DTypeError:
        raise DTypeError(
            explain(
                "can't convert an array of this dtype to a Tensor",
                expected="bool, uint8, int8, int16, int32, int64, float16, bfloat16, float32 or float64",
                given=f"numpy.ndarray of {array.dtype}",
                do="convert it first: array.astype('int64') or array.astype('float32')",
            )
        ) from None
    if wanted is not None and wanted is not own:
        if chosen.name == "numpy":
            return array.astype(chosen.native_dtype(wanted))
        if (
            own.itemsize == 8 and own.kind == "float"
        ):  # an engine without float64 is to see the array in the dtype it is to have
            array, own, copy = array.astype(np.float32 if wanted.kind == "float" else "int64"), wanted, False
    native = array.copy() if copy or not array.flags.c_contiguous else array
    return chosen.from_numpy(native, wanted or own)


def _from_engine(array: Any, kind: Any, wanted: DType | None, chosen: Backend, copy: bool, device: Any) -> Any:
    if kind.rank > 0:  # a traced value stays one
        return array if wanted is None or kind.dtype(array) is wanted else ops.astype(array, dtype=wanted)
    own = backend_of(array)
    if own is type(chosen) and device is None:
        if wanted is not None and kind.dtype(array) is not wanted:
            return own.xp.astype(array, dtype=wanted)
        return own.copy(array) if copy else array
    try:
        moved = chosen.from_dlpack(array)
        if backend_of(moved).dtype_of(moved) is not kind.dtype(array):
            raise TypeError("dtype changed")
        if copy:
            moved = type(chosen).copy(moved)
    except (
        TypeError,
        ValueError,
        RuntimeError,
        BufferError,
        AttributeError,
    ):  # no DLPack for this pair, dtype or device
        return _from_numpy(own.to_numpy(array), wanted, chosen, copy)
    if wanted is not None and wanted is not kind.dtype(moved):
        moved = type(chosen).xp.astype(moved, dtype=wanted)
    return moved


def _from_python(data: Any, wanted: DType | None, chosen: Backend) -> tuple[np.ndarray, DType]:
    """A NumPy array of Python numbers, and its gradloom dtype."""
    leaves: list[Any] = []
    shape = _walk(data, leaves, 0)
    found = wanted or _common_dtype(leaves, chosen)
    if found.kind == "bool":
        leaves = [bool(v) for v in leaves]
    elif found.kind != "float":
        leaves = [int(v) for v in leaves]
    host = np.float64 if found.name == "bfloat16" else np.dtype(found.name)  # bfloat16 is the engine's affair
    try:
        array = np.array(leaves, dtype=host).reshape(shape)
    except OverflowError as error:
        raise DTypeError(
            explain(f"value cannot be converted to type {found.name} without overflow", given=error)
        ) from None
    return (array.astype(np.float32) if found.name == "bfloat16" else array), found


def _walk(data: Any, leaves: list[Any], depth: int) -> tuple[int, ...]:
    """Collects the numbers of a nested sequence and gives its shape."""
    if isinstance(data, (list, tuple, range)):
        if SCALARS.issuperset(map(type, data)):  # the innermost level, fast
            leaves.extend(data)
            return (len(data),)
        shapes = []
        for item in data:
            shapes.append(_walk(item, leaves, depth + 1))
            if shapes[-1] != shapes[0]:
                a, b = shapes[0], shapes[-1]
                level = next((i for i, (m, n) in enumerate(zip(a, b, strict=False)) if m != n), min(len(a), len(b)))
                want = a[level] if level < len(a) else "a number"
                got = b[level] if level < len(b) else "a number"
                raise ShapeError(
                    explain(
                        f"expected sequence of length {want} at dim {depth + 1 + level} (got {got})",
                        expected="nested sequences of equal lengths",
                        do="pad the short ones, or keep a list of Tensors",
                    )
                )
        return (len(data), *shapes[0]) if shapes else (0,)
    if isinstance(data, (np.ndarray, np.generic)):
        leaves.extend(np.asarray(data).reshape(-1))
        return data.shape
    if isinstance(data, (bool, int, float)):
        leaves.append(data)
        return ()
    if isinstance(data, tape.Tensor) or kind_of(type(data)) is not None:
        array = data._array if isinstance(data, tape.Tensor) else data
        concrete = getattr(array, "concrete", None)
        if concrete is not None:
            concrete("tensor() of a list of Tensors; use stack()")
        host = backend_of(array).to_numpy(array)
        leaves.extend(host.reshape(-1))
        return host.shape
    if hasattr(data, "__array__"):
        return _walk(np.asarray(data), leaves, depth)
    raise DTypeError(
        explain(
            f"could not infer the dtype of {type(data).__name__}",
            expected="numbers, nested sequences of numbers, NumPy arrays, arrays of an engine, Tensors",
            given=f"{data!r:.80}",
        )
    )


def _common_dtype(leaves: list[Any], chosen: Backend) -> DType:
    """PyTorch's choice for a list: Python numbers by kind, others by their own dtype, promoted."""
    if not leaves:
        return chosen.dtype
    return functools.reduce(
        promote, [_leaf_dtype(v, chosen) for v in {type(v): v for v in leaves}.values()]
    )  # one of each type


def _leaf_dtype(value: Any, chosen: Backend) -> DType:
    if isinstance(value, np.generic):
        return to_dtype(value.dtype)
    return bool_ if isinstance(value, bool) else int64 if isinstance(value, int) else chosen.dtype


# ------------------------------------------------------------------------------------------------- axes and sizes


def axis(dim: Any, ndim: int) -> int:
    """A dimension counted from the front.

    Raises:
        IndexOutOfRangeError: There is no such dimension.

    Example:
        >>> axis(-1, 3)
        2
    """
    try:
        d = operator.index(dim)
    except TypeError:
        raise TypeError(f"dim must be an int, not {type(dim).__name__}") from None
    n = ndim or 1  # a 0-d Tensor takes 0 and -1
    if not -n <= d < n:
        raise IndexOutOfRangeError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {d})")
    return d % n


def axes(dim: Any, ndim: int) -> int | tuple[int, ...] | None:
    """`dim` of a reduction, counted from the front: None (all), an int, or a tuple. An empty tuple is all, as in
    PyTorch.

    Raises:
        IndexOutOfRangeError: There is no such dimension.
        ShapeError: One is named twice.
    """
    if dim is None:
        return None
    if isinstance(dim, (tuple, list)):
        several = tuple(axis(d, ndim) for d in dim)
        if len(set(several)) != len(several):
            twice = next(d for d in several if several.count(d) > 1)
            raise ShapeError(f"dim {twice} appears multiple times in the list of dims")
        return several if several and ndim else None
    found = axis(dim, ndim)
    return found if ndim else None


def sizes(shape: tuple) -> tuple[int, ...]:
    """Sizes given as `f(2, 3)` or `f((2, 3))`, as a tuple of ints."""
    if len(shape) == 1 and not hasattr(shape[0], "__index__"):
        shape = shape[0]
    try:
        return tuple(operator.index(n) for n in shape)
    except TypeError:
        raise TypeError(f"a size is made of ints, not {shape!r}") from None


def infer(shape: tuple[int, ...], total: int) -> tuple[int, ...]:
    """The shape with its one -1 replaced.

    Raises:
        ShapeError: It does not hold `total` elements.
    """
    known, unknown = 1, None
    for i, n in enumerate(shape):
        if n == -1:
            if unknown is not None:
                raise ShapeError("only one dimension can be inferred")
            unknown = i
        elif n < 0:
            raise ShapeError(f"invalid shape dimension {n}")
        else:
            known *= n
    if unknown is None:
        if known != total:
            raise ShapeError(f"shape '{list(shape)}' is invalid for input of size {total}")
        return shape
    if not known:
        raise ShapeError(
            f"cannot reshape tensor of 0 elements into shape {list(shape)} because the "
            "unspecified dimension size -1 can be any value and is ambiguous"
        )
    if total % known:
        raise ShapeError(f"shape '{list(shape)}' is invalid for input of size {total}")
    return (*shape[:unknown], total // known, *shape[unknown + 1 :])


def named(method: Callable) -> Callable:
    """Lets a method be called with NumPy's `axis=` and `keepdims=` too."""

    @functools.wraps(method)
    def call(self, *args, **kwargs):
        if kwargs:
            for numpy_name, name in (("axis", "dim"), ("keepdims", "keepdim")):
                if numpy_name in kwargs:
                    if name in kwargs:
                        raise TypeError(f"{method.__name__}() got both {name}= and {numpy_name}=, which mean the same")
                    kwargs[name] = kwargs.pop(numpy_name)
        return method(self, *args, **kwargs)

    return call
