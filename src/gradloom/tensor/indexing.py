"""Index expressions: from what stands between the brackets to a static key and index arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import IndexOutOfRangeError
from ..ops.namespace import INDEX
from ..ops.op import SCALARS, kind_of
from . import tape
from .arrays import as_array, backend_name, cast, known, wrap


def indexing(x: Any, key: Any) -> tuple[tuple, list]:
    """The key as a tuple of ints, slices, None, Ellipsis and INDEX, and the index arrays that the INDEX stand for.

    Integers and bounds are checked here, since not every engine does.
    """
    key = [_entry(x, k) for k in (key if type(key) is tuple else (key,))]
    shape = x._array.shape
    consumed = sum(_axes(k) for k in key)
    if consumed > len(shape):
        raise IndexOutOfRangeError(f"too many indices for tensor of dimension {len(shape)}")
    result: list[Any] = []
    arrays: list[Any] = []
    axis = 0
    for k in key:
        if k is Ellipsis:
            if Ellipsis in result:
                raise IndexOutOfRangeError("an index can only have a single ellipsis ('...')")
            axis = len(shape) - (consumed - axis)
        elif type(k) is int:
            n = shape[axis]
            if not -n <= k < n:
                raise IndexOutOfRangeError(f"index {k} is out of bounds for dimension {axis} with size {n}")
        elif k is not None and type(k) is not slice:
            arrays.append(k)
            _check(k, shape, axis)
            k, axis = INDEX, axis + _axes(k) - 1
        result.append(k)
        axis += k is not None and k is not Ellipsis
    return tuple(result), arrays


def _entry(x: Any, k: Any) -> Any:
    """An entry of the key as None, Ellipsis, an int, a slice of ints, or an index Tensor."""
    t = type(k)
    if k is None or k is Ellipsis or t is int:
        return k
    if t is slice:
        step = None if k.step is None else int(k.step)
        if step is not None and step <= 0:
            raise ValueError("step must be greater than zero")
        return slice(None if k.start is None else int(k.start), None if k.stop is None else int(k.stop), step)
    if isinstance(k, tape.Tensor):
        if k.dtype.kind == "float":
            raise IndexOutOfRangeError("tensors used as indices must be long, int, byte or bool tensors")
        one = known(k._array) if not k.ndim and k.dtype.kind != "bool" else None
        return k if one is None else int(one)
    if isinstance(k, (list, tuple, range, np.ndarray, np.bool_, bool)):
        empty = isinstance(k, (list, tuple, range)) and not len(k)
        return _entry(x, wrap(as_array(k, "int64" if empty else None, backend_name(x), True)))
    if isinstance(k, np.integer):
        return int(k)
    if kind_of(t) is not None:
        return _entry(x, tape._operand(k))
    if hasattr(k, "__index__"):
        return k.__index__()
    raise IndexOutOfRangeError(
        f"only integers, slices (`:`), ellipsis (`...`), None and long or bool tensors are valid indices "
        f"(got {t.__name__})"
    )


def _axes(k: Any) -> int:
    """How many axes of x an entry of the key takes."""
    if k is None or k is Ellipsis:
        return 0
    return k.ndim if isinstance(k, tape.Tensor) and k.dtype.kind == "bool" else 1


def _check(index: Any, shape: tuple, axis: int) -> None:
    """Bounds of an index array whose values are known; JAX and MLX would clamp."""
    array = index._array
    if index.dtype.kind == "bool":
        for i, n in enumerate(array.shape):
            if n != shape[axis + i]:
                raise IndexOutOfRangeError(
                    f"The shape of the mask {list(array.shape)} at index {i} does not match the shape of the indexed "
                    f"tensor {list(shape)} at index {axis + i}"
                )
        return
    values = known(array) if index.numel() else None
    if values is not None:
        low, high, n = int(values.min()), int(values.max()), shape[axis]
        if low < -n or high >= n:
            bad = low if low < -n else high
            raise IndexOutOfRangeError(f"index {bad} is out of bounds for dimension {axis} with size {n}")


def put_value(x: Any, value: Any) -> Any:
    """The right side of `x[...] = value` in x's dtype."""
    if type(value) in SCALARS:
        kind = x.dtype.kind
        return value if kind == "float" else bool(value) if kind == "bool" else int(value)
    if not isinstance(value, tape.Tensor):
        value = wrap(as_array(value, x.dtype, backend_name(x), False))
    return cast(value, x.dtype)
