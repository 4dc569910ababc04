"""Native arrays of anything that a Tensor can be made from, and the checks of axes and sizes."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..backends.base import Backend
from ..backends.conversion import as_native
from ..backends.making import sizes as sizes
from ..backends.registry import backend_of, get_backend
from ..dtypes import DType
from ..dtypes import dtype as to_dtype
from ..errors import BackendError, IndexOutOfRangeError, ShapeError, explain
from ..ops.op import kind_of
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
    return as_native(
        data, None if dtype is None else to_dtype(dtype), engine(backend, device), copy, device is not None
    )


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
