"""The methods that every backend has for the arrays of its engine: `backend.mean(x)`, `backend.where(c, x, y)`, ...

Each calls the op of that meaning, so there is one definition for all engines and for Tensors. Names and parameters are
NumPy's or PyTorch's. `conversion.py` has the methods that bring arrays in and out, `making.py` those that make arrays,
`elementwise.py` those that work element by element; here are all others.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from .. import ops
from ..dtypes import dtype as to_dtype
from ..errors import IndexOutOfRangeError, ShapeError, explain
from ..ops.op import SCALARS, kind_of, not_an_array
from .elementwise import Elementwise
from .making import sizes

Axis = int | None
Axes = int | Sequence[int] | None
F = TypeVar("F", bound=Callable)


def named(method: F) -> F:
    """Lets PyTorch's `dim=` and `keepdim=` stand for `axis=` and `keepdims=`; both of a pair raise TypeError."""
    parameters = list(inspect.signature(method).parameters)
    pairs = [
        (theirs, ours, parameters.index(ours))
        for theirs, ours in (("dim", "axis"), ("keepdim", "keepdims"))
        if ours in parameters
    ]

    @functools.wraps(method)
    def call(*args, **kwargs):
        for theirs, ours, place in pairs:
            if theirs in kwargs:
                if ours in kwargs or len(args) > place:
                    raise TypeError(f"{method.__name__}() got both {theirs}= and {ours}=, which mean the same")
                kwargs[ours] = kwargs.pop(theirs)
        return method(*args, **kwargs)

    return call  # type: ignore[return-value]


def axis_of(axis: Any, ndim: int) -> int:
    """An axis counted from the front.

    Raises:
        IndexOutOfRangeError: There is no such axis.

    Example:
        >>> axis_of(-1, 3)
        2
    """
    try:
        a = operator.index(axis)
    except TypeError:
        raise TypeError(f"axis must be an int, not {type(axis).__name__}") from None
    if not -ndim <= a < ndim:
        raise IndexOutOfRangeError(
            explain("there is no such axis", expected=f"from {-ndim} to {ndim - 1}", given=f"axis={a}")
            if ndim
            else explain("there is no such axis", expected="an array with axes", given=f"axis={a} of a 0-d array")
        )
    return a % ndim


def axes_of(axis: Axes, ndim: int) -> int | tuple[int, ...] | None:
    """Axes counted from the front: None (all), an int, or a tuple (() is no axis at all).

    Raises:
        IndexOutOfRangeError: There is no such axis.
        ShapeError: One is named twice.
    """
    if axis is None:
        return None
    if not isinstance(axis, (tuple, list)):
        return axis_of(axis, ndim)
    several = tuple(axis_of(a, ndim) for a in axis)
    if len(set(several)) != len(several):
        raise ShapeError(explain("an axis is named twice", given=f"axis={tuple(axis)}"))
    return several


class ArrayMethods(Elementwise):
    """What a backend does with arrays of its engine: NumPy arrays, `jax.Array`, `torch.Tensor`, `mlx.core.array`.

    Results are such arrays again, of the dtype that the op gives, which is PyTorch's: sums of integers and bools and
    all indices are int64, functions like `exp` and `mean` make floats of integers. The methods work inside `jax.jit`,
    `jax.grad` and `jax.vmap`, keep PyTorch's graph, and take Tensors on the backend too. `axis=` and `keepdims=` may
    be called `dim=` and `keepdim=`. Results may share memory with the operands, as the engine has it.

    Raises:
        BackendError: Of every method: an array of another engine; `array` converts.

    Example:
        >>> import gradloom as gl
        >>> backend = gl.get_backend("numpy")
        >>> x = backend.array([[1.0, 2.0], [3.0, 5.0]])
        >>> backend.mean(x, axis=0)
        array([2. , 3.5], dtype=float32)
    """

    def _ndim(self, method: str, x: Any) -> int:
        """The number of axes of what has to be an array of this backend."""
        self._check(method, x)
        if type(x) in SCALARS or kind_of(type(x)) is None:
            raise not_an_array(method, type(x))
        return x.ndim

    def _reduce(self, op: Any, x: Any, axis: Axes, keepdims: bool, **statics: Any) -> Any:
        axis = axes_of(axis, self._ndim(op.op.name, x))
        return self._call(op, x, axis=axis, keepdims=bool(keepdims), **statics)

    def _flat(self, method: str, x: Any, axis: Axis) -> tuple[Any, int]:
        """x and an axis of it; all elements along one axis for None, as in NumPy."""
        ndim = self._ndim(method, x)
        if axis is None:
            return self._call(ops.reshape, x, shape=(math.prod(x.shape),)), 0
        return x, axis_of(axis, ndim)

    # --- dtype

    def astype(self, x: Any, dtype: Any) -> Any:
        """The array in a dtype; itself where it has it.

        Raises:
            DTypeError: A dtype that the engine does not have.

        Example:
            >>> import gradloom as gl
            >>> backend = gl.get_backend("numpy")
            >>> backend.astype(backend.array([1.5, 0.0]), "bool")
            array([ True, False])
        """
        wanted = to_dtype(dtype)
        self._ndim("astype", x)
        return x if ops.dtype(x) is wanted else self._call(ops.astype, x, dtype=wanted)

    def cast(self, x: Any, dtype: Any) -> Any:
        """Another name of `astype`."""
        return self.astype(x, dtype)

    # --- products

    def matmul(self, x: Any, y: Any) -> Any:
        """The matrix product `x @ y`; leading axes are batches, which broadcast."""
        return self._call(ops.matmul, x, y)

    def einsum(self, equation: str, *arrays: Any) -> Any:
        """Products and sums by an equation with `->`, such as "bij,bjk->bik"."""
        return self._call(ops.einsum, *arrays, equation=equation)

    # --- reductions: axis is None (all), an int or several

    @named
    def sum(self, x: Any, axis: Axes = None, keepdims: bool = False, *, dim: Axes = None, keepdim: bool = False) -> Any:
        """The sum; integers and bools sum in int64.

        Example:
            >>> import gradloom as gl
            >>> backend = gl.get_backend("numpy")
            >>> backend.sum(backend.ones(2, 3), axis=-1, keepdims=True).shape
            (2, 1)
        """
        return self._reduce(ops.sum, x, axis, keepdims)

    @named
    def prod(
        self, x: Any, axis: Axes = None, keepdims: bool = False, *, dim: Axes = None, keepdim: bool = False
    ) -> Any:
        """The product; of integers and bools in int64."""
        return self._reduce(ops.prod, x, axis, keepdims)

    @named
    def mean(
        self, x: Any, axis: Axes = None, keepdims: bool = False, *, dim: Axes = None, keepdim: bool = False
    ) -> Any:
        """The mean; of integers too a float."""
        return self._reduce(ops.mean, x, axis, keepdims)

    @named
    def var(
        self,
        x: Any,
        axis: Axes = None,
        keepdims: bool = False,
        *,
        correction: float = 1,
        dim: Axes = None,
        keepdim: bool = False,
    ) -> Any:
        """The variance, over `n - correction` as in PyTorch; 0 is NumPy's default."""
        return self._reduce(ops.var, x, axis, keepdims, correction=correction)

    @named
    def std(
        self,
        x: Any,
        axis: Axes = None,
        keepdims: bool = False,
        *,
        correction: float = 1,
        dim: Axes = None,
        keepdim: bool = False,
    ) -> Any:
        """The standard deviation, the square root of `var`."""
        return self._call(ops.sqrt, self._reduce(ops.var, x, axis, keepdims, correction=correction))

    @named
    def max(self, x: Any, axis: Axes = None, keepdims: bool = False, *, dim: Axes = None, keepdim: bool = False) -> Any:
        """The largest element, or NaN: the values alone, as in NumPy; `argmax` gives the indices."""
        return self._reduce(ops.amax, x, axis, keepdims)

    @named
    def min(self, x: Any, axis: Axes = None, keepdims: bool = False, *, dim: Axes = None, keepdim: bool = False) -> Any:
        """The smallest element, or NaN: the values alone, as in NumPy; `argmin` gives the indices."""
        return self._reduce(ops.amin, x, axis, keepdims)

    @named
    def any(self, x: Any, axis: Axes = None, keepdims: bool = False, *, dim: Axes = None, keepdim: bool = False) -> Any:
        """Whether an element is non-zero (bool)."""
        return self._reduce(ops.any, x, axis, keepdims)

    @named
    def all(self, x: Any, axis: Axes = None, keepdims: bool = False, *, dim: Axes = None, keepdim: bool = False) -> Any:
        """Whether all elements are non-zero (bool)."""
        return self._reduce(ops.all, x, axis, keepdims)

    @named
    def logsumexp(
        self, x: Any, axis: Axes = None, keepdims: bool = False, *, dim: Axes = None, keepdim: bool = False
    ) -> Any:
        """`log(sum(exp(x)))` without overflow."""
        return self._reduce(ops.logsumexp, x, axis, keepdims)

    @named
    def norm(
        self,
        x: Any,
        ord: float = 2,
        axis: Axes = None,
        keepdims: bool = False,
        *,
        dim: Axes = None,
        keepdim: bool = False,
    ) -> Any:
        """The vector norm `sum(|x| ** ord) ** (1 / ord)`; inf, -inf and 0 as in `torch.linalg.vector_norm`."""
        return self._reduce(ops.norm, x, axis, keepdims, ord=ord)

    @named
    def argmax(
        self, x: Any, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False
    ) -> Any:
        """The index (int64) of the largest element, of equal ones the first; of the flattened array for axis=None."""
        return self._arg(ops.argmax, x, axis, keepdims)

    @named
    def argmin(
        self, x: Any, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False
    ) -> Any:
        """The index (int64) of the smallest element, of equal ones the first; of the flattened array for axis=None."""
        return self._arg(ops.argmin, x, axis, keepdims)

    def _arg(self, op: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
        ndim = self._ndim(op.op.name, x)
        return self._call(op, x, axis=None if axis is None else axis_of(axis, ndim), keepdims=bool(keepdims))

    # --- along one axis

    @named
    def softmax(self, x: Any, axis: int = -1, *, dim: int = -1) -> Any:
        """`exp(x)` scaled to sum 1 along an axis, without overflow."""
        return self._call(ops.softmax, x, axis=axis_of(axis, self._ndim("softmax", x)))

    @named
    def log_softmax(self, x: Any, axis: int = -1, *, dim: int = -1) -> Any:
        """The logarithm of `softmax`, exact where that is close to 0 or 1."""
        return self._call(ops.log_softmax, x, axis=axis_of(axis, self._ndim("log_softmax", x)))

    @named
    def cumsum(self, x: Any, axis: Axis = None, *, dim: Axis = None) -> Any:
        """The sums of the elements up to each one along an axis; of the flattened array for None."""
        x, axis = self._flat("cumsum", x, axis)
        return self._call(ops.cumsum, x, axis=axis)

    @named
    def cumprod(self, x: Any, axis: Axis = None, *, dim: Axis = None) -> Any:
        """The products of the elements up to each one along an axis; of the flattened array for None."""
        x, axis = self._flat("cumprod", x, axis)
        return self._call(ops.cumprod, x, axis=axis)

    @named
    def sort(self, x: Any, axis: Axis = -1, descending: bool = False, *, dim: Axis = -1) -> Any:
        """The elements in order along an axis (stable), or of the flattened array for None: the values alone."""
        x, axis = self._flat("sort", x, axis)
        return self._call(ops.sort, x, axis=axis, descending=bool(descending))

    @named
    def argsort(self, x: Any, axis: Axis = -1, descending: bool = False, *, dim: Axis = -1) -> Any:
        """The indices (int64) that put the elements in order along an axis (stable); of the flattened array for None.

        Example:
            >>> import gradloom as gl
            >>> backend = gl.get_backend("numpy")
            >>> backend.argsort(backend.array([0.5, 2.0, 1.0]), descending=True)
            array([1, 2, 0])
        """
        x, axis = self._flat("argsort", x, axis)
        return self._call(ops.argsort, x, axis=axis, descending=bool(descending))

    # --- layout

    def reshape(self, x: Any, *shape: Any) -> Any:
        """The elements in the same order in another shape, `reshape(x, 2, -1)` or `reshape(x, (2, -1))`.

        Raises:
            ShapeError: It does not hold the elements, or more than one size is -1.

        Example:
            >>> import gradloom as gl
            >>> backend = gl.get_backend("numpy")
            >>> backend.reshape(backend.arange(6), 2, -1).shape
            (2, 3)
        """
        self._ndim("reshape", x)
        wanted, total = sizes(shape), math.prod(x.shape)
        known = math.prod(n for n in wanted if n != -1)
        if wanted.count(-1) == 1 and known > 0 and total % known == 0:
            wanted = tuple(total // known if n == -1 else n for n in wanted)
        if any(n < 0 for n in wanted) or math.prod(wanted) != total:
            raise ShapeError(
                explain(
                    "reshape: the shape does not hold the elements",
                    expected=f"{total} elements, at most one size -1",
                    given=f"shape {wanted} for an array of shape {tuple(x.shape)}",
                )
            )
        return self._call(ops.reshape, x, shape=wanted)

    def flatten(self, x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
        """The axes from start_dim to end_dim, both included, as one."""
        ndim = max(self._ndim("flatten", x), 1)
        shape = tuple(x.shape) or (1,)
        first, last = axis_of(start_dim, ndim), axis_of(end_dim, ndim)
        if first > last:
            raise ShapeError(explain("flatten: start_dim comes after end_dim", given=f"{start_dim}, {end_dim}"))
        merged = math.prod(shape[first : last + 1])
        return self._call(ops.reshape, x, shape=(*shape[:first], merged, *shape[last + 1 :]))

    def transpose(self, x: Any, axes: Sequence[int] | None = None) -> Any:
        """The axes in another order, by default the reverse; result axis i is axis `axes[i]` of x.

        Raises:
            ShapeError: axes is no permutation.
        """
        ndim = self._ndim("transpose", x)
        order = tuple(range(ndim))[::-1] if axes is None else tuple(axis_of(a, ndim) for a in axes)
        if sorted(order) != list(range(ndim)):
            raise ShapeError(
                explain("transpose: axes is no permutation", expected=f"of the {ndim} axes", given=f"axes={axes}")
            )
        return self._call(ops.transpose, x, axes=order)

    def broadcast_to(self, x: Any, shape: Sequence[int]) -> Any:
        """x repeated along new leading axes and along its axes of length 1."""
        self._ndim("broadcast_to", x)
        return self._call(ops.broadcast_to, x, shape=sizes((shape,)))

    @named
    def squeeze(self, x: Any, axis: Axes = None, *, dim: Axes = None) -> Any:
        """Without axes of length 1: all of them, or those given.

        Raises:
            ShapeError: A given axis has another length.
        """
        found = axes_of(axis, self._ndim("squeeze", x))
        if found is None:
            found = tuple(i for i, n in enumerate(x.shape) if n == 1)
        several = (found,) if isinstance(found, int) else found
        if any(x.shape[i] != 1 for i in several):
            raise ShapeError(
                explain("squeeze: an axis is longer than 1", given=f"axis={axis} of shape {tuple(x.shape)}")
            )
        return self._call(ops.squeeze, x, axis=several) if several else x

    @named
    def expand_dims(self, x: Any, axis: int | Sequence[int], *, dim: Axes = None) -> Any:
        """New axes of length 1 at these positions of the result.

        Example:
            >>> import gradloom as gl
            >>> backend = gl.get_backend("numpy")
            >>> backend.expand_dims(backend.ones(2, 3), 0).shape, backend.unsqueeze(backend.ones(2, 3), -1).shape
            ((1, 2, 3), (2, 3, 1))
        """
        added = 1 if not isinstance(axis, (tuple, list)) else len(axis)
        return self._call(ops.expand_dims, x, axis=axes_of(axis, self._ndim("expand_dims", x) + added))

    def unsqueeze(self, x: Any, dim: int) -> Any:
        """PyTorch's name of `expand_dims`."""
        return self.expand_dims(x, dim)

    @named
    def concat(self, arrays: Sequence, axis: int = 0, *, dim: int = 0) -> Any:
        """Arrays one after the other along an axis that they have.

        Example:
            >>> import gradloom as gl
            >>> backend = gl.get_backend("numpy")
            >>> backend.concat([backend.ones(2, 1), backend.zeros(2, 2)], axis=1)
            array([[1., 0., 0.],
                   [1., 0., 0.]], dtype=float32)
        """
        arrays = _several("concat", arrays)
        return self._call(ops.concat, *arrays, axis=axis_of(axis, self._ndim("concat", arrays[0])))

    @named
    def stack(self, arrays: Sequence, axis: int = 0, *, dim: int = 0) -> Any:
        """Arrays of one shape next to each other along a new axis, at position `axis` of the result."""
        arrays = _several("stack", arrays)
        return self._call(ops.stack, *arrays, axis=axis_of(axis, self._ndim("stack", arrays[0]) + 1))

    @named
    def split(self, x: Any, split_size: int | Sequence[int], axis: int = 0, *, dim: int = 0) -> tuple:
        """The parts of an array along an axis, as in PyTorch: of `split_size` elements each (the last may be smaller), or
        of these sizes.

        Raises:
            ShapeError: The sizes do not add up to the length of the axis, or a size is not positive.

        Example:
            >>> import gradloom as gl
            >>> backend = gl.get_backend("numpy")
            >>> backend.split(backend.arange(5), 2)
            (array([0, 1]), array([2, 3]), array([4]))
        """
        a = axis_of(axis, self._ndim("split", x))
        n = x.shape[a]
        if isinstance(split_size, (tuple, list)):
            parts = sizes((split_size,))
        else:
            size = operator.index(split_size)  # type: ignore[arg-type]
            parts = tuple(min(size, n - i) for i in range(0, max(n, 1), size)) if size > 0 else (size,)
        if sum(parts) != n or any(p < 0 for p in parts):
            raise ShapeError(
                explain("split: the sizes do not fit", expected=f"sizes that add up to {n}", given=split_size)
            )
        starts = [sum(parts[:i]) for i in range(len(parts))]
        keys = [(slice(None),) * a + (slice(i, i + p),) for i, p in zip(starts, parts, strict=True)]
        return tuple(self._call(ops.getitem, x, key=key) for key in keys)

    def pad(self, x: Any, widths: int | Sequence, value: float = 0) -> Any:
        """x with a number put around it.

        Args:
            widths: Elements for each axis, ((before, after), ...), or one (before, after), or one number, for all.
            value: The number.

        Raises:
            ShapeError: Another form of widths.

        Example:
            >>> import gradloom as gl
            >>> backend = gl.get_backend("numpy")
            >>> backend.pad(backend.ones(2), (1, 2))
            array([0., 1., 1., 0., 0.], dtype=float32)
        """
        ndim = self._ndim("pad", x)
        given: Any = (widths, widths) if isinstance(widths, int) else tuple(widths)
        if len(given) == 2 and all(isinstance(w, int) for w in given):
            given = (given,) * ndim
        if len(given) != ndim or any(isinstance(w, int) or len(w) != 2 for w in given):
            raise ShapeError(explain("pad: widths", expected=f"(before, after) for {ndim} axes", given=widths))
        return self._call(ops.pad, x, widths=tuple((int(b), int(a)) for b, a in given), value=value)

    # --- selecting

    @named
    def take(self, x: Any, indices: Any, axis: Axis = None, *, dim: Axis = None) -> Any:
        """The slices of x at the indices (int, of any shape) along an axis; of the flattened array for None.

        An index that is out of range is the engine's affair: NumPy and PyTorch raise, JAX gives NaN.
        """
        self._check("take", indices)
        x, axis = self._flat("take", x, axis)
        return self._call(ops.take, x, indices, axis=axis)

    @named
    def take_along_axis(self, x: Any, indices: Any, axis: int, *, dim: Axis = None) -> Any:
        """For each index (int, from 0; x's shape but for the axis) the element of x there along the axis."""
        return self._call(ops.take_along_axis, x, indices, axis=axis_of(axis, self._ndim("take_along_axis", x)))

    def gather(self, x: Any, dim: int, index: Any) -> Any:
        """`torch.gather`, PyTorch's name and order of `take_along_axis`."""
        return self.take_along_axis(x, index, dim)

    def one_hot(self, indices: Any, num_classes: int, dtype: Any = None) -> Any:
        """Rows (..., num_classes) that are 1 at the index (int) and 0 elsewhere; all 0 for an index out of range.

        Args:
            dtype: Default: the backend's dtype, as targets need it (PyTorch's gives integers).

        Example:
            >>> import gradloom as gl
            >>> backend = gl.get_backend("numpy")
            >>> backend.one_hot(backend.array([1, 0]), 3)
            array([[0., 1., 0.],
                   [1., 0., 0.]], dtype=float32)
        """
        return self._call(ops.one_hot, indices, classes=int(num_classes), dtype=self._target(dtype))


def _several(method: str, arrays: Any) -> tuple:
    if not isinstance(arrays, (tuple, list)) or not arrays:
        raise TypeError(f"{method}() needs a list of arrays, and at least one")
    return tuple(arrays)
