"""The methods of Tensors that select elements by index, and that write to or add at indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import ops
from ..errors import DTypeError, IndexOutOfRangeError, ShapeError
from ..ops.namespace import INDEX
from ..ops.op import SCALARS
from . import creation, tape
from .arrays import as_array, axis, backend_name, cast, known, named, wrap


class Selecting:
    """`gather`, `scatter`, `index_select` and their kin."""

    if TYPE_CHECKING:  # what Tensor has

        def __getattr__(self, name: str) -> Any: ...

    @named
    def gather(self, dim: int, index: Any) -> Any:
        """For each index (of self's number of dimensions) the element there along `dim`."""
        d = axis(dim, self.ndim)
        if not index.numel():  # of any number of dimensions
            return ops.take(self.reshape(-1), index.long(), axis=0)
        check_index(index, self, d, "gather", same=self.ndim > 0 and index.ndim > 0)
        if not self.ndim or not index.ndim:  # a 0-d Tensor is taken as one element
            if self.numel() != 1 and self.ndim > 1:
                raise ShapeError(
                    f"Index tensor must have the same number of dimensions as input tensor: {index.ndim} and {self.ndim}"
                )
            return ops.take(self.reshape(-1), index, axis=0)
        x = self
        for i, n in enumerate(index.shape):
            if i != d and n != x.shape[i]:
                x = x.narrow(i, 0, n)
        return ops.take_along_axis(x, index, axis=d)

    @named
    def take_along_dim(self, indices: Any, dim: int | None = None) -> Any:
        """As `gather`, but sizes of other dimensions broadcast; dim=None indexes the flattened Tensor."""
        if dim is None:
            return self.reshape(-1).gather(0, indices.reshape(-1))
        d = axis(dim, self.ndim)
        indices = ops.where(indices < 0, indices + self.shape[d], indices)  # which gather refuses
        other = np.broadcast_shapes(
            *(tuple(1 if i == d else n for i, n in enumerate(t.shape)) for t in (self, indices))
        )
        x = self.expand(*other[:d], -1, *other[d + 1 :])
        return x.gather(d, indices.expand(*other[:d], -1, *other[d + 1 :]))

    @named
    def index_select(self, dim: int, index: Any) -> Any:
        """The slices at the indices, a vector of ints, along `dim`."""
        d = axis(dim, self.ndim)
        if index.ndim > 1:
            raise ShapeError("index_select(): Index is supposed to be a vector")
        check_index(index, self, d, "index_select")
        if not self.ndim:
            if index.numel() != 1:
                raise ShapeError(f"index_select(): Index to scalar can have only 1 value, got {index.numel()} value(s)")
            return self.clone()
        return ops.take(self, index.reshape(-1), axis=d)

    def _at(self, dim: int, index: Any, name: str, how: Callable, value: Any) -> Any:
        """`how` on the slices at the indices; 0-d Tensors are taken as one element."""
        d = axis(dim, self.ndim)
        check_index(index, self, d, name)
        value = cast_to(self, value)
        index = index.reshape(-1)
        if not self.ndim:
            value = value.reshape(1) if isinstance(value, tape.Tensor) else value
            return how(self.reshape(1), value, index, key=(INDEX,)).reshape(())
        return how(self, value, index, key=(slice(None),) * d + (INDEX,))

    @named
    def index_add(self, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Any:
        """A copy to which each slice of `source` is added at its index along `dim`."""
        return self._at(dim, index, "index_add", ops.add_at, source if alpha == 1 else source * alpha)

    @named
    def index_copy(self, dim: int, index: Any, source: Any) -> Any:
        """A copy with the slices at the indices along `dim` replaced by those of `source`."""
        return self._at(dim, index, "index_copy", ops.put, source)

    @named
    def index_fill(self, dim: int, index: Any, value: Any) -> Any:
        """A copy with the slices at the indices along `dim` filled with a value."""
        d = axis(dim, self.ndim)
        check_index(index, self, d, "index_fill")
        shape = [n if i == d else 1 for i, n in enumerate(self.shape)]
        # A mask, as an index that is given twice counts once in the gradient of the value.
        n = self.shape[d] if self.ndim else 1
        there = ops.put(
            creation.zeros(n, dtype="bool", backend=backend_name(self)), True, index.reshape(-1), key=(INDEX,)
        )
        return self.masked_fill(there.reshape(shape), value)

    @named
    def scatter_add(self, dim: int, index: Any, src: Any) -> Any:
        """A copy to which each element of `src` is added at its index along `dim`; repeated indices add up."""
        return self._scattered(dim, index, src, ops.add_at)

    @named
    def scatter(self, dim: int, index: Any, src: Any = None, *, value: Any = None) -> Any:
        """A copy with the element at each index along `dim` replaced by that of `src`, or by a number."""
        if (src is None) == (value is None):
            raise TypeError("scatter() takes a src or a value")
        return self._scattered(dim, index, value if src is None else src, ops.put)

    def _scattered(self, dim: int, index: Any, src: Any, how: Callable) -> Any:
        d = axis(dim, self.ndim)
        check_index(index, self, d, "scatter", same=True)
        if isinstance(src, tape.Tensor):
            for i, n in enumerate(index.shape):
                if n > src.shape[i]:
                    raise ShapeError(
                        f"Expected index {list(index.shape)} to be no larger than src {list(src.shape)} "
                        f"apart from dimension {d}"
                    )
                if n != src.shape[i]:
                    src = src.narrow(i, 0, n)
            src = cast_to(self, src)
        if not self.ndim:
            return how(
                self.reshape(1), src.reshape(1) if isinstance(src, tape.Tensor) else src, index.reshape(1), key=(INDEX,)
            ).reshape(())
        places = []
        for i, n in enumerate(index.shape):
            shape = [1] * self.ndim
            shape[i] = n
            host = np.arange(n).reshape(shape)
            places.append(index if i == d else wrap(as_array(host, None, backend_name(self), False)))
        return how(self, src, *places, key=(INDEX,) * self.ndim)

    def nonzero(self, *, as_tuple: bool = False) -> Any:
        """The indices of the elements that are not 0: (number, ndim), or with as_tuple a vector for each dimension."""
        if not self.ndim:
            found = self.reshape(1).nonzero()
            return (found[:, 0],) if as_tuple else found[:, :0]
        found = np.nonzero(self.detach().numpy())
        parts = tuple(wrap(as_array(v, None, self.backend, False)) for v in found)
        return parts if as_tuple else ops.stack(*parts, axis=1)

    def masked_select(self, mask: Any) -> Any:
        """The elements where the mask (bool) holds, as a vector."""
        shape = np.broadcast_shapes(tuple(self.shape), tuple(mask.shape))
        return self.expand(shape)[mask.expand(shape)]


def cast_to(x: Any, value: Any) -> Any:
    """What is written into x: a Tensor in x's dtype, a number as it is."""
    if isinstance(value, tape.Tensor):
        return cast(value, x.dtype)
    return value if type(value) in SCALARS else wrap(as_array(value, x.dtype, backend_name(x), False))


def check_index(index: Any, x: Any, d: int, name: str, same: bool = False) -> None:
    """Dtype, shape and bounds of an index Tensor; JAX and MLX would clamp."""
    if not isinstance(index, tape.Tensor) or index.dtype.kind not in ("int", "uint"):
        given = index.dtype if isinstance(index, tape.Tensor) else type(index).__name__
        raise DTypeError(f"{name}(): Expected dtype int32/int64 for index, not {given}")
    if same and index.ndim != x.ndim:
        raise ShapeError(
            f"Index tensor must have the same number of dimensions as input tensor: {index.ndim} and {x.ndim}"
        )
    array = index._array
    if same:
        for i, n in enumerate(index.shape):
            if i != d and n > x.shape[i]:
                raise ShapeError(
                    f"Size does not match at dimension {i} expected index {list(index.shape)} to be no larger "
                    f"than self {list(x.shape)} apart from dimension {d}"
                )
    values = known(array) if index.numel() else None
    if values is not None:
        n = x.shape[d] if x.ndim else 1
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= n:
            raise IndexOutOfRangeError(
                f"index {low if low < 0 else high} is out of bounds for dimension {d} with size {n}"
            )
