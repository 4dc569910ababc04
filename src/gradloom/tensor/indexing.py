"""Index expressions: from what stands between the brackets to a static key and index arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..backends.namespace import INDEX
from ..errors import IndexOutOfRangeError
from ..ops.op import SCALARS, kind_of
from . import tape


def indexing(x: Any, key: Any) -> tuple[tuple, list]:
    """The key as a tuple of ints, slices, None, Ellipsis and INDEX, and the index arrays that the INDEX stand for.

    Integers and bounds are checked here, since not every engine does.
    """
    if type(key) is not tuple:
        key = (key,)
    result: list[Any] = []
    arrays: list[Any] = []
    shape = x._array.shape
    consumed = sum(_axes(k) for k in key)
    if consumed > len(shape):
        raise IndexOutOfRangeError(f"too many indices for tensor of dimension {len(shape)}")
    axis = 0
    for k in key:
        if k is None or k is Ellipsis:
            result.append(k)
            axis = axis if k is None else len(shape) - (consumed - axis)
            continue
        if type(k) is int or isinstance(k, np.integer):
            n = shape[axis]
            if not -n <= k < n:
                raise IndexOutOfRangeError(f"index {k} is out of bounds for dimension {axis} with size {n}")
            result.append(int(k))
        elif isinstance(k, slice):
            if k.step is not None and int(k.step) <= 0:
                raise ValueError("step must be greater than zero")
            result.append(slice(*(None if b is None else int(b) for b in (k.start, k.stop, k.step))))
        else:
            index = _index_array(k)
            if isinstance(index, int):
                result.append(index)
            else:
                result.append(INDEX)
                arrays.append(index)
                _check(index, shape, axis)
        axis += _axes(k)
    return tuple(result), arrays


def _axes(k: Any) -> int:
    """How many axes of x an entry of the key takes."""
    if k is None or k is Ellipsis:
        return 0
    if isinstance(k, (bool, np.bool_)):
        return 0
    if isinstance(k, (list, slice)) or not hasattr(k, "dtype"):
        return 1 if not (isinstance(k, list) and k and isinstance(k[0], bool)) else 1
    return k.ndim if str(k.dtype).rpartition(".")[2] in ("bool", "bool_") else 1


def _index_array(k: Any) -> Any:
    if isinstance(k, tape.Tensor):
        if k.dtype.kind == "float":
            raise IndexOutOfRangeError("tensors used as indices must be long, int, byte or bool tensors")
        return k
    if isinstance(k, (list, tuple, np.ndarray, np.bool_, bool)):
        from .creation import tensor

        t = tensor(np.asarray(k))
        if t.numel() == 0 and t.dtype.kind == "float":
            t = tensor(np.asarray(k, np.int64))
        return _index_array(t)
    if kind_of(type(k)) is not None:
        return _index_array(tape._operand(k))
    if hasattr(k, "__index__"):
        return k.__index__()
    raise IndexOutOfRangeError(
        f"only integers, slices (`:`), ellipsis (`...`), None and long or bool tensors are valid indices (got {type(k).__name__})"
    )


def _check(index: Any, shape: tuple, axis: int) -> None:
    """Bounds of an index array whose values are known; JAX and MLX would clamp."""
    array = index._array
    if index.dtype.kind == "bool":
        if tuple(array.shape) != tuple(shape[axis : axis + len(array.shape)]):
            raise IndexOutOfRangeError(
                f"The shape of the mask {list(array.shape)} at index 0 does not match the shape of the indexed tensor {list(shape)} at index {axis}"
            )
        return
    known = getattr(array, "concrete", None) is None and index.numel()
    if known:
        from ..backends.base import backend_of

        values = backend_of(array).to_numpy(array)
        low, high, n = int(values.min()), int(values.max()), shape[axis]
        if low < -n or high >= n:
            bad = low if low < -n else high
            raise IndexOutOfRangeError(f"index {bad} is out of bounds for dimension {axis} with size {n}")


def put_value(x: Any, value: Any) -> Any:
    """The right side of `x[...] = value` in x's dtype."""
    if isinstance(value, tape.Tensor):
        return value if value.dtype is x.dtype else ops.astype(value, dtype=x.dtype)
    if type(value) in SCALARS:
        return value
    from .creation import tensor

    return tensor(value, dtype=x.dtype)
