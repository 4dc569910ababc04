"""The methods of Tensors that move and convert elements: shapes and views, dtypes and backends.

What is a view in PyTorch is made of the view ops (those with a `put`), so that it is one here; what is a copy there is
a copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import dtypes, ops
from ..backends.registry import backend_of
from ..dtypes import dtype as to_dtype
from ..errors import DTypeError, IndexOutOfRangeError, OptionError, ShapeError, explain
from ..ops.op import kind_of
from . import creation, tape
from .arrays import as_array, axis, backend_name, cast, engine, infer, named, sizes, wrap
from .convert import moved
from .strides import is_contiguous, strides_of, view_strides


class Shaping:
    """Shapes, views, dtypes and backends."""

    if TYPE_CHECKING:  # what Tensor has

        def __getattr__(self, name: str) -> Any: ...

    # -------------------------------------------------------------------------------------------------- layout

    def view(self, *shape: Any) -> Any:
        """The same elements in another shape, in the same memory; one size may be -1.

        Raises:
            ShapeError: Another number of elements, or a Tensor (transposed, ...) that has no such view: use `reshape`.
        """
        if len(shape) == 1 and not isinstance(shape[0], (tuple, list)) and not hasattr(shape[0], "__index__"):
            raise OptionError(
                explain(
                    "view(dtype) is not supported",
                    do="convert the elements with to(dtype), or their bits in NumPy: t.numpy().view(...)",
                )
            )
        new = infer(sizes(shape), self.numel())
        if self._base is not None and view_strides(tuple(self.shape), strides_of(self), new) is None:
            raise ShapeError(
                "view size is not compatible with input tensor's size and stride (at least one dimension spans "
                "across two contiguous subspaces). Use .reshape(...) instead."
            )
        return ops.reshape(self, shape=new)

    def reshape(self, *shape: Any) -> Any:
        """The same elements in another shape: a view where PyTorch has one, else a copy; one size may be -1."""
        new = infer(sizes(shape), self.numel())
        if self._base is not None and view_strides(tuple(self.shape), strides_of(self), new) is None:
            return ops.reshape(self.clone(), shape=new)
        return ops.reshape(self, shape=new)

    def view_as(self, other: Any) -> Any:
        """A view in another Tensor's shape."""
        return self.view(tuple(other.shape))

    def reshape_as(self, other: Any) -> Any:
        """`reshape` to another Tensor's shape."""
        return self.reshape(tuple(other.shape))

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Any:
        """The dimensions from start_dim to end_dim as one."""
        if not self.ndim:
            return self.reshape(1)
        a, b = axis(start_dim, self.ndim), axis(end_dim, self.ndim)
        if a > b:
            raise ShapeError("flatten() has invalid args: start_dim cannot come after end_dim")
        if a == b:
            return self
        shape = tuple(self.shape)
        return self.reshape(*shape[:a], math.prod(shape[a : b + 1]), *shape[b + 1 :])

    def ravel(self) -> Any:
        """All elements in one dimension."""
        return self.reshape(-1)

    def unflatten(self, dim: int, sizes: Any) -> Any:
        """Dimension `dim` as several, of the given sizes; one may be -1."""
        d, shape = axis(dim, self.ndim), tuple(self.shape)
        try:
            new = infer(tuple(sizes), shape[d])
        except ShapeError:
            raise ShapeError(
                f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {d} "
                f"({shape[d]}) in the input tensor"
            ) from None
        return self.view(*shape[:d], *new, *shape[d + 1 :])

    def permute(self, *dims: Any) -> Any:
        """The dimensions in another order."""
        wanted = sizes(dims)
        if len(wanted) != self.ndim:
            raise ShapeError(
                "permute: number of dimensions in the tensor input does not match the length of the desired "
                f"ordering of dimensions i.e. input.dim() = {self.ndim} is not equal to len(dims) = {len(wanted)}"
            )
        order = tuple(axis(d, self.ndim) for d in wanted)
        if len(set(order)) != len(order):
            raise ShapeError("permute(): duplicate dims are not allowed.")
        return ops.transpose(self, axes=order)

    def transpose(self, dim0: int, dim1: int) -> Any:
        """Two dimensions exchanged."""
        a, b = axis(dim0, self.ndim), axis(dim1, self.ndim)
        order = list(range(self.ndim))
        if order:
            order[a], order[b] = b, a
        return ops.transpose(self, axes=tuple(order))

    swapaxes = swapdims = transpose

    def movedim(self, source: Any, destination: Any) -> Any:
        """Dimensions moved to other places; the others keep their order."""
        src = [axis(d, self.ndim) for d in (source if isinstance(source, (tuple, list)) else (source,))]
        dst = [axis(d, self.ndim) for d in (destination if isinstance(destination, (tuple, list)) else (destination,))]
        if len(set(src)) != len(src) or len(set(dst)) != len(dst) or len(src) != len(dst):
            raise ShapeError(
                f"movedim: source {src} and destination {dst} must be distinct dimensions, as many of each"
            )
        order = [d for d in range(self.ndim) if d not in src]
        for d, s in sorted(zip(dst, src, strict=True)):
            order.insert(d, s)
        return ops.transpose(self, axes=tuple(order))

    moveaxis = movedim

    def t(self) -> Any:
        """The transpose of a matrix; vectors stay."""
        if self.ndim > 2:
            raise ShapeError(f"t() expects a tensor with <= 2 dimensions, but self is {self.ndim}D")
        return self.T

    @property
    def T(self) -> Any:
        """All dimensions in reverse order."""
        return ops.transpose(self, axes=tuple(range(self.ndim - 1, -1, -1)))

    @property
    def mT(self) -> Any:
        """The last two dimensions exchanged."""
        if self.ndim < 2:
            raise ShapeError(
                f"tensor.mT is only supported on matrices or batches of matrices. Got {self.ndim}-D tensor."
            )
        return self.transpose(-2, -1)

    @named
    def squeeze(self, dim: Any = None) -> Any:
        """Without the dimensions of size 1: all of them, or those of `dim`, an int or a tuple, that have it."""
        shape = tuple(self.shape)
        dims = (
            range(self.ndim)
            if dim is None
            else [axis(d, self.ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))]
        )
        gone = tuple(d for d in dims if self.ndim and shape[d] == 1)
        return ops.squeeze(self, axis=gone) if gone else ops.reshape(self, shape=shape)

    @named
    def unsqueeze(self, dim: int) -> Any:
        """A new dimension of size 1 at position `dim` of the result."""
        return ops.expand_dims(self, axis=axis(dim, self.ndim + 1))

    def expand(self, *sizes_: Any) -> Any:
        """Dimensions of size 1 repeated, and new ones in front, without memory; -1 keeps a size."""
        wanted, shape = sizes(sizes_), tuple(self.shape)
        new = len(wanted) - len(shape)
        if new < 0:
            raise ShapeError(
                f"expand({list(shape)}, size={list(wanted)}): the number of sizes provided ({len(wanted)}) must be "
                f"greater or equal to the number of dimensions in the tensor ({len(shape)})"
            )
        target = []
        for i, n in enumerate(wanted):
            have = shape[i - new] if i >= new else 1
            if n == -1 and i < new:
                raise ShapeError(
                    f"The expanded size of the tensor (-1) isn't allowed in a leading, non-existing dimension {i}"
                )
            if n != -1 and have not in (1, n):
                raise ShapeError(
                    f"The expanded size of the tensor ({n}) must match the existing size ({have}) at non-singleton "
                    f"dimension {i}.  Target sizes: {list(wanted)}.  Tensor sizes: {list(shape)}"
                )
            target.append(have if n == -1 else n)
        return ops.broadcast_to(self, shape=tuple(target))

    broadcast_to = expand

    def expand_as(self, other: Any) -> Any:
        """`expand` to another Tensor's shape."""
        return self.expand(tuple(other.shape))

    def clone(self) -> Any:
        """A copy with memory of its own; gradients pass through it."""
        out = ops.astype(self, dtype=self.dtype)
        x = self._array
        if kind_of(type(x)).rank == 0 and (out._array is x or not isinstance(x, np.ndarray)):  # type: ignore[union-attr]
            out._array = backend_of(x).copy(out._array)
        return out

    def contiguous(self) -> Any:
        """The Tensor itself where PyTorch would have it in one row-major piece, else a copy."""
        return self if self.is_contiguous() else self.clone()

    def is_contiguous(self) -> bool:
        """Whether PyTorch would have the elements in one row-major piece."""
        return self._base is None or is_contiguous(tuple(self.shape), strides_of(self))

    def stride(self, dim: int | None = None) -> Any:
        """The strides, in elements, that PyTorch would have, or the one of `dim`."""
        steps = strides_of(self)
        return steps if dim is None else steps[axis(dim, self.ndim)]

    # ----------------------------------------------------------------------------------------- parts and copies

    def _slice(self, d: int, index: Any) -> Any:
        return ops.getitem(self, key=(slice(None),) * d + (index,))

    @named
    def narrow(self, dim: int, start: int, length: int) -> Any:
        """`length` elements along `dim` from `start`."""
        d = axis(dim, self.ndim)
        n = self.shape[d]
        start = start + n if start < 0 else start
        if start < 0 or start > n:
            raise IndexOutOfRangeError(f"start out of range (expected to be in range of [{-n}, {n}], but got {start})")
        if length < 0 or start + length > n:
            raise ShapeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
        return self._slice(d, slice(int(start), int(start + length), None))

    @named
    def select(self, dim: int, index: int) -> Any:
        """The slice at an index along `dim`, which is dropped."""
        d = axis(dim, self.ndim)
        if not self.ndim or not -self.shape[d] <= index < self.shape[d]:
            raise IndexOutOfRangeError(
                f"select(): index {index} out of range for tensor of size {list(self.shape)} at dimension {d}"
            )
        return self._slice(d, int(index))

    @named
    def split(self, split_size: Any, dim: int = 0) -> tuple:
        """Parts along `dim`: of `split_size` elements each (the last may be shorter), or of the sizes in a list."""
        d = axis(dim, self.ndim)
        n = self.shape[d]
        if isinstance(split_size, int):
            if split_size < 0 or (split_size == 0 and n):
                raise ShapeError(f"split expects split_size be non-negative, but got split_size={split_size}")
            lengths = [min(split_size, n - s) for s in range(0, n, split_size or 1)] or [0]
        else:
            lengths = [int(s) for s in split_size]
            if sum(lengths) != n or min(lengths, default=0) < 0:
                raise ShapeError(
                    f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at "
                    f"dimension {d}), but got split_sizes={lengths}"
                )
        parts, start = [], 0
        for length in lengths:
            parts.append(self._slice(d, slice(start, start + length, None)))
            start += length
        return tuple(parts)

    @named
    def chunk(self, chunks: int, dim: int = 0) -> tuple:
        """At most `chunks` parts of equal size along `dim`; the last may be shorter."""
        if chunks <= 0:
            raise ShapeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
        n = self.shape[axis(dim, self.ndim)]
        return self.split(-(-n // chunks), dim) if n else self.split([0] * chunks, dim)

    @named
    def unbind(self, dim: int = 0) -> tuple:
        """All slices along `dim`."""
        d = axis(dim, self.ndim)
        return tuple(self._slice(d, i) for i in range(self.shape[d]))

    def repeat(self, *repeats: Any) -> Any:
        """The whole Tensor repeated along each dimension; new ones come in front."""
        counts = sizes(repeats)
        new = len(counts) - self.ndim
        if new < 0:
            raise ShapeError(
                "Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor"
            )
        x = ops.reshape(self, shape=(1,) * new + tuple(self.shape)) if new else self
        for d, n in enumerate(counts):
            if n == 0:
                x = x._slice(d, slice(0, 0, None))
            elif n > 1:
                x = ops.concat(*[x] * n, axis=d)
        return x if x._base is None and x is not self else x.clone()

    def tile(self, *repeats: Any) -> Any:
        """`repeat`, with missing counts in front taken as 1."""
        counts = sizes(repeats)
        return self.repeat(*(1,) * (self.ndim - len(counts)), *counts)

    @named
    def repeat_interleave(self, repeats: Any, dim: int | None = None, *, output_size: int | None = None) -> Any:
        """Each element repeated along `dim` (None: of the flattened Tensor); by an int, or a count for each element.

        `output_size`, where it is given, has to be the size that comes out; nothing is saved by it here.
        """
        out = self._repeated(repeats, dim)
        size = out.shape[0 if dim is None else dim]
        if output_size is not None and output_size != size:
            raise ShapeError(f"repeat_interleave: output_size is {output_size}, and the repeats give {size}")
        return out

    def _repeated(self, repeats: Any, dim: int | None) -> Any:
        x = self.reshape(-1) if dim is None else self
        d = 0 if dim is None else axis(dim, x.ndim)
        if isinstance(repeats, int):
            return ops.repeat(x, repeats=repeats, axis=d)
        counts = repeats.numpy() if isinstance(repeats, tape.Tensor) else np.asarray(repeats)
        if counts.size == 1:
            return ops.repeat(x, repeats=int(counts.reshape(-1)[0]), axis=d)
        if counts.shape != (x.shape[d],):
            raise ShapeError("repeats must have the same size as input along dim")
        where = np.repeat(np.arange(x.shape[d]), counts)
        return ops.take(x, wrap(as_array(where, None, self.backend, False)), axis=d)

    def flip(self, *axes: Any, dims: Any = None) -> Any:
        """A copy with the order reversed along dimensions: `flip(0, 1)`, `flip((0, 1))` or `flip(dims=(0, 1))`."""
        found = tuple(axis(d, self.ndim) for d in sizes(axes if dims is None else (dims,)))
        if len(set(found)) != len(found):
            raise ShapeError(
                f"dim {next(d for d in found if found.count(d) > 1)} appears multiple times in the list of dims"
            )
        return ops.flip(self, axis=found) if found and self.ndim else self.clone()

    @named
    def roll(self, shifts: Any, dim: Any = None, *, dims: Any = None) -> Any:
        """The elements moved along dimensions (None: of the flattened Tensor); what leaves enters at the other end."""
        dims = dim if dims is None else dims
        if dims is None:
            return ops.roll(self.reshape(-1), shift=int(shifts), axis=0).reshape(tuple(self.shape))
        dims = dims if isinstance(dims, (tuple, list)) else (dims,)
        shifts = shifts if isinstance(shifts, (tuple, list)) else (shifts,)
        if len(dims) != len(shifts):
            raise ShapeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}")
        x = self
        for s, d in zip(shifts, dims, strict=True):
            x = ops.roll(x, shift=int(s), axis=axis(d, self.ndim))
        return x

    def tril(self, diagonal: int = 0) -> Any:
        """Matrices with what lies above a diagonal set to 0."""
        return ops.tril(self, k=diagonal)

    def triu(self, diagonal: int = 0) -> Any:
        """Matrices with what lies below a diagonal set to 0."""
        return ops.triu(self, k=diagonal)

    def diagonal(self, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
        """A view of a diagonal of dim1 and dim2, as the last dimension."""
        a, b = axis(dim1, self.ndim), axis(dim2, self.ndim)
        if a == b:
            raise ShapeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
        return ops.diagonal(self, offset=offset, axis1=a, axis2=b)

    # ------------------------------------------------------------------------------------- dtypes and backends

    def to(
        self,
        *args: Any,
        dtype: Any = None,
        device: Any = None,
        backend: Any = None,
        copy: bool = False,
        non_blocking: bool = False,
    ) -> Any:
        """The Tensor in another dtype, on another device or backend; itself where that changes nothing. Gradients pass.

        Args:
            args: A dtype, a device, a device and a dtype, or a Tensor whose dtype, backend and device are taken.
            backend: Name or instance of a backend.
            copy: Make a copy in any case.
            non_blocking: Allowed; engines that can compute later do so in any case.

        Raises:
            BackendError: There is no such device or backend.
            DTypeError: The backend does not have the dtype.
        """
        for a in args:
            if isinstance(a, tape.Tensor):
                dtype, backend = a.dtype, a.backend
            elif isinstance(a, str) and a not in dtypes._CACHE:
                device = a
            elif isinstance(a, bool):
                raise TypeError("to(): give copy= and non_blocking= by name")
            else:
                try:
                    dtype = to_dtype(a)
                except DTypeError:
                    device = a
        out = self
        x = self._array
        if (device is not None or backend is not None) and kind_of(type(x)).rank == 0:  # type: ignore[union-attr]
            out = moved(out, engine(backend_of(x).name if backend is None else backend, device), device is not None)
        if dtype is not None:
            out = cast(out, to_dtype(dtype))
        return out.clone() if copy and out is self else out

    def type(self, dtype: Any = None) -> Any:
        """The name of the dtype; with `dtype`, the Tensor in it."""
        return f"gradloom.{self.dtype.name}" if dtype is None else self.to(dtype=to_dtype(dtype))

    def type_as(self, other: Any) -> Any:
        """The Tensor in another one's dtype."""
        if not isinstance(other, tape.Tensor):
            raise TypeError(f"type_as(): argument 'other' (position 1) must be Tensor, not {type(other).__name__}")
        return self.to(dtype=other.dtype)

    def cpu(self) -> Any:
        """The Tensor on the CPU."""
        return self.to(device="cpu")

    # -------------------------------------------------------------------------------- Tensors on the same backend

    def _new(self, name: str, *args: Any, dtype: Any, device: Any, requires_grad: bool) -> Any:
        where = {"device": device, "backend": backend_name(self)}
        return getattr(creation, name)(*args, dtype=dtype or self.dtype, requires_grad=requires_grad, **where)

    def new_zeros(self, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
        """Zeros on this Tensor's backend, in its dtype unless given."""
        return self._new("zeros", *size, dtype=dtype, device=device, requires_grad=requires_grad)

    def new_ones(self, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
        """Ones on this Tensor's backend, in its dtype unless given."""
        return self._new("ones", *size, dtype=dtype, device=device, requires_grad=requires_grad)

    def new_empty(self, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
        """A Tensor on this one's backend whose values nobody should rely on."""
        return self._new("zeros", *size, dtype=dtype, device=device, requires_grad=requires_grad)

    def new_full(
        self, size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
    ) -> Any:
        """A Tensor filled with a number on this one's backend, in its dtype unless given."""
        return self._new("full", size, fill_value, dtype=dtype, device=device, requires_grad=requires_grad)

    def new_tensor(self, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Any:
        """`tensor(data)` on this Tensor's backend, in its dtype unless given."""
        return self._new("tensor", data, dtype=dtype, device=device, requires_grad=requires_grad)


def _converter(name: str, wanted: Any) -> Callable:
    def method(self):
        return self.to(dtype=wanted)

    method.__name__, method.__qualname__ = name, f"Shaping.{name}"
    method.__doc__ = f"The elements as {wanted.name}."
    return method


for _name, _wanted in {
    "float": dtypes.float32, "double": dtypes.float64, "half": dtypes.float16, "bfloat16": dtypes.bfloat16,
    "int": dtypes.int32, "long": dtypes.int64, "short": dtypes.int16, "char": dtypes.int8, "byte": dtypes.uint8,
    "bool": dtypes.bool_,
}.items():  # fmt: skip
    setattr(Shaping, _name, _converter(_name, _wanted))
