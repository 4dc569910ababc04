"""The namespace `xp` over shapes: an op's body run with it gives the shapes and dtypes of the op's results.

An array is a `Spec` here. Each function checks its arguments as NumPy and PyTorch do, and raises PyTorch's texts; what
one of the engines cannot do (`-mask`) is refused. Python scalars are weak, as everywhere: with 2.5 an integer array
becomes the default float dtype, a float array keeps its dtype. What depends on values (a bool mask as an index,
`if x > 0:`, `float(x)`) raises `TraceError`.

This runs for every node that is traced, so it takes no detours: a Spec is never changed, and is returned as it is
where the result looks like the operand.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NoReturn, final

from ..dtypes import _ALL, DType, bool_, default_dtype, int64
from ..dtypes import dtype as _dtype_of
from ..errors import DTypeError, IndexOutOfRangeError, OptionError, ShapeError, TraceError, explain, user_frame
from ..ops.namespace import INDEX
from ..ops.op import Op

Shape = tuple[int, ...]


# --- Spec ---


def _no_value(*args: Any, **kwargs: Any) -> NoReturn:
    raise TraceError(
        explain(
            "the value of an array is not known while shapes are inferred",
            expected="code that needs shapes and dtypes only",
            given=", ".join(repr(a) for a in args if isinstance(a, Spec)),
            where=user_frame(),
            do="use where or cond in place of `if`, and loops over .shape in place of loops over arrays",
        )
    )


@final
class Spec:
    """An array of which only the shape and the dtype are known.

    It takes the operators and the indexing that op bodies may use. `==` compares two Specs as objects, it is not
    elementwise (`xp.equal` is). Do not change one: Specs are shared.

    Example:
        >>> from gradloom.dtypes import float32
        >>> x = Spec((32, 1, 128), float32)
        >>> x[:, 0] + 1, x.size
        (Spec((32, 128), float32), 4096)
    """

    __slots__ = ("dtype", "shape")
    __array_ufunc__ = None  # `array + spec` is an error of ours, not an array of objects

    def __init__(self, shape: Shape, dtype: DType):
        self.shape = shape if type(shape) is tuple else tuple(shape)
        self.dtype = dtype if type(dtype) is DType else _dtype_of(dtype)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def T(self) -> Spec:
        if len(self.shape) != 2:
            raise _shape_error("x.T is for arrays of 2 dimensions", given=self, do="use xp.transpose(x, axes=...)")
        return Spec(self.shape[::-1], self.dtype)

    def __repr__(self) -> str:
        return f"Spec({self.shape}, {self.dtype.name})"

    def __eq__(self, other: object) -> bool:
        return type(other) is Spec and self.shape == other.shape and self.dtype is other.dtype

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))

    def __getitem__(self, key: Any) -> Spec:
        if type(key) is not tuple:
            key = (key,)
        indices = [k for k in key if type(k) is Spec]
        if indices:
            return xp.getitem(self, *indices, key=tuple(INDEX if type(k) is Spec else k for k in key))
        return Spec(key_shape(self.shape, key), self.dtype)

    __bool__ = __float__ = __int__ = __index__ = __complex__ = __iter__ = __contains__ = __array__ = _no_value


# --- errors and dtypes ---


def _error(kind: type[Exception], problem: str, **parts: Any) -> Exception:
    return kind(explain(problem, **parts))


_shape_error, _dtype_error = functools.partial(_error, ShapeError), functools.partial(_error, DTypeError)
_index_error, _option_error = functools.partial(_error, IndexOutOfRangeError), functools.partial(_error, OptionError)

_RANK: dict[Any, int] = {bool: 0, int: 1, float: 2, **{d: {"bool": 0, "float": 2}.get(d.kind, 1) for d in _ALL}}
_SUMS = {d: d if d.kind == "float" else int64 for d in _ALL}


def _not_array(name: str, value: Any) -> Exception:
    t = type(value)
    given = f"{t.__module__}.{t.__qualname__}".removeprefix("builtins.")
    return _dtype_error(f"{name} got a value that is not a Spec", expected="Specs, or bool, int, float", given=given)


def _refused(name: str, d: DType, expected: str, do: str | None = None) -> Exception:
    return _dtype_error(f"{name} is not defined for {d.name}", expected=expected, given=d.name, do=do)


def _mixed(name: str, *specs: Spec) -> Exception:
    names = " != ".join(s.dtype.name for s in specs)
    return _dtype_error(
        f"{name}: expected operands of the same dtype, but got: {names}",
        given=", ".join(map(repr, specs)),
        do="cast one with astype; ops do so before their bodies run if they are declared with promote=",
    )


def _weak(d: DType, scalar: Any, name: str) -> DType:
    """The dtype of an array of dtype `d` with a Python scalar."""
    rank = _RANK.get(type(scalar))
    if rank is None:
        raise _not_array(name, scalar)
    return d if rank <= _RANK[d] else int64 if rank == 1 else default_dtype()


def _join(x: Any, y: Any, name: str) -> tuple[Shape, DType]:
    """Shape and dtype in which two operands meet; one may be a Python scalar."""
    if type(x) is Spec:
        if type(y) is not Spec:
            return x.shape, _weak(x.dtype, y, name)
        if x.dtype is not y.dtype:
            raise _mixed(name, x, y)
        return x.shape if x.shape == y.shape else _broadcast(x.shape, y.shape), x.dtype
    if type(y) is not Spec:
        raise _not_array(name, x)
    return y.shape, _weak(y.dtype, x, name)


# --- shapes ---


def _whole(value: Any, what: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        message = explain(f"{what} must be an integer", expected="an int", given=repr(value))
        raise DTypeError(message) from None


def _sizes(shape: Any) -> Shape:
    """A shape given by the caller, as a tuple of ints >= 0."""
    shape = tuple(n if type(n) is int else _whole(n, "a size") for n in shape)
    for n in shape:
        if n < 0:
            raise _shape_error(f"invalid shape dimension {n}", expected="sizes of 0 or more", given=list(shape))
    return shape


def _axis(axis: Any, ndim: int) -> int:
    """The axis counted from the front."""
    if type(axis) is not int:
        axis = _whole(axis, "an axis")
    if axis < 0:
        if axis >= -ndim:
            return axis + ndim
    elif axis < ndim:
        return axis
    if not ndim:
        raise _index_error(f"Dimension specified as {axis} but tensor has no dimensions")
    raise _index_error(f"Dimension out of range (expected to be in range of [{-ndim}, {ndim - 1}], but got {axis})")


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Axes (an int or a tuple) counted from the front, each once."""
    if type(axis) is int:
        return (_axis(axis, ndim),)
    axes = tuple(_axis(a, ndim) for a in (axis if isinstance(axis, tuple | list) else (axis,)))
    if len(set(axes)) < len(axes):
        twice = next(a for a in axes if axes.count(a) > 1)
        raise _shape_error(f"dim {twice} appears multiple times in the list of dims", given=axis)
    return axes


def _broadcast(a: Shape, b: Shape) -> Shape:
    extra = len(a) - len(b)
    if extra < 0:
        out, tail_a, tail_b = list(b[:-extra]), a, b[-extra:]
    else:
        out, tail_a, tail_b = list(a[:extra]), a[extra:], b
    for m, n in zip(tail_a, tail_b, strict=True):
        if m == n or n == 1:
            out.append(m)
        elif m == 1:
            out.append(n)
        else:
            raise _shape_error(
                f"The size of tensor a ({m}) must match the size of tensor b ({n}) "
                f"at non-singleton dimension {len(out)}",
                expected="sizes that are equal or 1, counted from the last dimension",
                given=f"{a} and {b}",
            )
    return tuple(out)


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The shape in which arrays of these shapes meet.

    Raises:
        ShapeError: They do not fit.

    Example:
        >>> broadcast_shapes((2, 1, 3), (4, 1), ())
        (2, 4, 3)
    """
    out: Shape = ()
    for shape in shapes:
        out = _broadcast(out, shape)
    return out


def _expands(shape: Shape, target: Shape) -> bool:
    """Whether an array of `shape` can be broadcast to `target`."""
    skip = len(target) - len(shape)
    return skip >= 0 and all(m == n or m == 1 for m, n in zip(shape, target[skip:], strict=True))


# --- keys ---


def _whole_index(k: Any, axis: int, n: int) -> None:
    """Checks an integer of a key."""
    if type(k) is not int:
        if isinstance(k, bool) or not hasattr(k, "__index__"):
            raise _index_error(
                "only integers, slices (`:`), ellipsis (`...`), None and INDEX are valid indices "
                f"(got {type(k).__name__})",
                do="pass index arrays as operands, with INDEX in their place in the key",
            )
        k = operator.index(k)
    if not -n <= k < n:
        raise _index_error(f"index {k} is out of bounds for dimension {axis} with size {n}")


def key_shape(shape: Shape, key: tuple, index_shapes: tuple[Shape, ...] = ()) -> Shape:
    """The shape of `x[key]`, by NumPy's rules.

    Index arrays broadcast together. Their dimensions come where the first of them stands if all stand side by side,
    else in front. Integers beside index arrays count as such.

    Args:
        shape: Of x.
        key: Integers, slices, None, Ellipsis, and INDEX for each index array.
        index_shapes: Shapes of the index arrays, in order.

    Raises:
        IndexOutOfRangeError: Too many indices, an integer out of bounds, index arrays that do not broadcast.

    Example:
        >>> from gradloom.ops.namespace import INDEX
        >>> key_shape((4, 5, 6), (slice(1, 3), None, 0)), key_shape((4, 5, 6), (0, slice(None), INDEX), ((7,),))
        ((2, 1, 6), (7, 5))
    """
    ndim = len(shape)
    used = sum([k is not None and k is not Ellipsis for k in key])
    if used > ndim:
        raise _index_error(f"too many indices for tensor of dimension {ndim}", given=f"{used} indices")
    out: list[int] = []
    axis, rest, first, gap, separated = 0, ndim - used, -1, False, False
    picked: list[int] = []  # sizes of the dimensions that index arrays pick from
    for k in key:
        if k is INDEX or (index_shapes and k is not None and k is not Ellipsis and type(k) is not slice):
            if k is INDEX:
                picked.append(shape[axis])
            else:
                _whole_index(k, axis, shape[axis])
            if first < 0:
                first = len(out)
            separated = separated or gap
            axis += 1
            continue
        gap = first >= 0
        if k is None:
            out.append(1)
        elif k is Ellipsis:
            if rest < 0:
                raise _index_error("an index can only have a single ellipsis ('...')")
            out += shape[axis : axis + rest]
            axis, rest = axis + rest, -1
        else:
            if type(k) is slice:
                out.append(len(range(*k.indices(shape[axis]))))
            else:
                _whole_index(k, axis, shape[axis])
            axis += 1
    out += shape[axis:]
    if not index_shapes and not picked:
        return tuple(out)
    at = 0 if separated else max(first, 0)
    return (*out[:at], *_index_result(index_shapes, picked), *out[at:])


def _index_result(index_shapes: tuple[Shape, ...], picked: list[int]) -> Shape:
    """The shape in which index arrays meet."""
    if len(index_shapes) != len(picked):
        raise _index_error(
            "the key and the index arrays do not fit", expected=f"{len(picked)} index arrays", given=len(index_shapes)
        )
    try:
        joined = broadcast_shapes(*index_shapes)
    except ShapeError:
        shapes = ", ".join(str(list(s)) for s in index_shapes)
        text = f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}"
        raise _index_error(text) from None
    if 0 in picked and 0 not in joined:
        raise _index_error("index is out of bounds for dimension with size 0")
    return joined


def _index_shape(index: Any) -> Shape:
    """The shape of an index array; integers only."""
    if type(index) is Spec:
        kind = index.dtype.kind
        if kind == "int" or kind == "uint":
            return index.shape
        if kind == "bool":
            raise TraceError(
                explain(
                    "the number of elements that a bool mask selects is not known while shapes are inferred",
                    expected="index arrays of integers",
                    given=index,
                    where=user_frame(),
                    do="use where(mask, x, other), or select outside of the traced function",
                )
            )
    elif type(index) is int:
        return ()
    raise _index_error("tensors used as indices must be long, int, byte or bool tensors", given=index)


def _without_masks(shape: Shape, key: tuple, indices: tuple) -> tuple[tuple, tuple[Shape, ...]]:
    """Key and index shapes for writing, where masks are fine: each counts as index arrays of one element.

    So a value has to have size 1 along what a mask selects.
    """
    rest = iter(indices)
    bound = [next(rest, k) if k is INDEX else k for k in key]
    widths = [
        k.ndim if type(k) is Spec and k.dtype is bool_ else int(k is not None and k is not Ellipsis) for k in bound
    ]
    new_key: list[Any] = []
    shapes: list[Shape] = []
    axis = 0
    for i, (k, width) in enumerate(zip(bound, widths, strict=True)):
        if type(k) is Spec and k.dtype is bool_:
            if k.shape != shape[axis : axis + width]:
                raise _index_error(
                    f"The shape of the mask {list(k.shape)} at index {i} does not match the shape of the "
                    f"indexed tensor {list(shape)} at index {axis}"
                )
            new_key += [INDEX] * width if width else [None]
            shapes += [(1,)] * width
        else:
            new_key.append(INDEX if type(k) is Spec else k)
            if type(k) is Spec:
                shapes.append(_index_shape(k))
        axis += len(shape) - sum(widths) if k is Ellipsis else width
    return tuple(new_key), tuple(shapes)


def _write(x: Spec, value: Any, indices: tuple, key: tuple, name: str) -> Spec:
    """Checks `x[key] = value`."""
    if indices:
        key, shapes = _without_masks(x.shape, key, indices)
        target = key_shape(x.shape, key, shapes)
    else:
        target = key_shape(x.shape, key)
    if type(value) is not Spec:
        _weak(x.dtype, value, name)  # a Python scalar is cast to the array's dtype
        return x
    if value.dtype is not x.dtype:
        raise _mixed(name, x, value)
    if not _expands(value.shape, target):
        raise _shape_error(
            f"shape mismatch: value tensor of shape {list(value.shape)} cannot be broadcast to indexing result of "
            f"shape {list(target)}"
        )
    return x


# --- families of functions ---


def _same(name: str) -> Callable:
    """One operand, whose dtype the result has; not for bool."""

    def fn(x):
        if type(x) is not Spec:
            raise _not_array(name, x)
        if x.dtype is bool_:
            raise _refused(name, bool_, "numbers", "use logical_not for a mask, or cast with astype")
        return x

    return fn


def _floating(name: str) -> Callable:
    """One operand; the result is floating."""

    def fn(x):
        if type(x) is not Spec:
            raise _not_array(name, x)
        return x if x.dtype.kind == "float" else Spec(x.shape, default_dtype())

    return fn


def _truth(name: str) -> Callable:
    """One operand of any dtype; the result is bool."""

    def fn(x):
        if type(x) is not Spec:
            raise _not_array(name, x)
        return Spec(x.shape, bool_)

    return fn


def _arithmetic(name: str, bools: bool = False, floats: bool = True) -> Callable:
    """Two operands; the result has their dtype."""

    def fn(x, y):
        shape, d = _join(x, y, name)
        if d is bool_ and not bools:
            raise _refused(name, d, "numbers", "use ^, logical_xor or logical_not for masks, or cast with astype")
        if not floats and d.kind == "float":
            raise _refused(name, d, "bool or an integer dtype")
        return Spec(shape, d)

    return fn


def _bitwise(name: str) -> Callable:
    return _arithmetic(name, bools=True, floats=False)


def _floating_2(name: str) -> Callable:
    """Two operands; the result is floating."""

    def fn(x, y):
        shape, d = _join(x, y, name)
        return Spec(shape, d if d.kind == "float" else default_dtype())

    return fn


def _comparison(name: str) -> Callable:
    """Two operands; the result is bool."""

    def fn(x, y):
        return Spec(_join(x, y, name)[0], bool_)

    return fn


def _reduced(x: Spec, axis: Any, keepdims: bool, name: str, empty: bool = True) -> Shape:
    shape = x.shape
    ndim = len(shape)
    if axis is None:
        if not empty and 0 in shape:
            text = f"{name}(): Expected reduction dim to be specified for input.numel() == 0."
            raise _shape_error(text, given=x)
        return (1,) * ndim if keepdims else ()
    axes = _axes(axis, ndim)
    if not empty:
        for a in axes:
            if not shape[a]:
                text = f"{name}(): Expected reduction dim {a} to have non-zero size."
                raise _index_error(text, given=x)
    if len(axes) == 1:
        a = axes[0]
        return (*shape[:a], 1, *shape[a + 1 :]) if keepdims else shape[:a] + shape[a + 1 :]
    if keepdims:
        return tuple([1 if i in axes else n for i, n in enumerate(shape)])
    return tuple([n for i, n in enumerate(shape) if i not in axes])


def _reduction(name: str, dtypes: dict[DType, DType], empty: bool = True) -> Callable:
    """Over axes; `empty`: also over none or no elements."""

    def fn(x, *, axis=None, keepdims=False):
        return Spec(_reduced(x, axis, keepdims, name, empty), dtypes[x.dtype])

    return fn


def _arg(name: str) -> Callable:
    def fn(x, *, axis=None, keepdims=False):
        if axis is not None:
            axis = _axis(axis, len(x.shape))
        return Spec(_reduced(x, axis, keepdims, name, empty=False), int64)

    return fn


def _cumulative(name: str) -> Callable:
    def fn(x, *, axis):
        _axis(axis, len(x.shape))
        return x if x.dtype.kind == "float" else Spec(x.shape, int64)

    return fn


def _triangle(name: str) -> Callable:
    def fn(x, *, k=0):
        if len(x.shape) < 2:
            raise _shape_error(f"{name}: input tensor must have at least 2 dimensions", given=x)
        return x

    return fn


def _window_counts(lengths: Shape, size: tuple, stride: tuple, dilation: tuple) -> Shape:
    if not len(lengths) == len(size) == len(stride) == len(dilation):
        given = f"size={size}, stride={stride}, dilation={dilation}"
        raise _shape_error("size, stride and dilation need one number for each windowed axis", given=given)
    counts = []
    for n, s, t, d in zip(lengths, size, stride, dilation, strict=True):
        if s < 1 or t < 1 or d < 1:
            given = f"size={size}, stride={stride}, dilation={dilation}"
            raise _option_error("size, stride and dilation of windows are at least 1", given=given)
        span = d * (s - 1) + 1
        if span > n:
            raise _shape_error(
                f"a window of {span} elements is larger than its axis of size {n}",
                expected="windows that fit",
                given=f"axes of {lengths}; size={size}, dilation={dilation}",
                do="pad the input, or make the window smaller",
            )
        counts.append((n - span) // t + 1)
    return tuple(counts)


@functools.lru_cache(maxsize=512)
def _parse_einsum(equation: str) -> tuple[tuple[str, ...], str]:
    left, arrow, right = equation.replace(" ", "").partition("->")
    if not arrow or not all(c.isalpha() or c == "," for c in left) or not all(c.isalpha() for c in right):
        raise _option_error(
            "einsum takes the explicit form without an ellipsis", expected="such as 'ij,jk->ik'", given=repr(equation)
        )
    for c in right:
        if right.count(c) > 1:
            raise _option_error(f"einsum(): output subscript {c} appears more than once in the output", given=equation)
        if c not in left:
            text = f"einsum(): output subscript {c} does not appear in the equation for any input operand"
            raise _option_error(text, given=equation)
    return tuple(left.split(",")), right


def _einsum_sizes(terms: tuple[str, ...], arrays: tuple[Spec, ...]) -> dict[str, int]:
    """Size of each letter."""
    sizes: dict[str, int] = {}
    for i, (term, x) in enumerate(zip(terms, arrays, strict=True)):
        if len(term) != len(x.shape):
            raise _shape_error(
                f"einsum(): the number of subscripts in the equation ({len(term)}) does not match the number of "
                f"dimensions ({len(x.shape)}) for operand {i} and no ellipsis was given"
            )
        own: dict[str, int] = {}
        for c, n in zip(term, x.shape, strict=True):
            if own.setdefault(c, n) != n:
                text = f"einsum(): subscript {c} is repeated for operand {i} but the sizes don't match, {n} != {own[c]}"
                raise _shape_error(text)
        for c, n in own.items():
            seen = sizes.get(c, 1)
            if n != seen and n != 1 and seen != 1:
                raise _shape_error(
                    f"einsum(): subscript {c} has size {n} for operand {i} which does not broadcast with previously "
                    f"seen size {seen}"
                )
            sizes[c] = n if seen == 1 else seen
    return sizes


def _one_dtype(name: str, arrays: tuple) -> DType:
    for x in arrays:
        if type(x) is not Spec:
            raise _not_array(name, x)
        if x.dtype is not arrays[0].dtype:
            raise _mixed(name, arrays[0], x)
    return arrays[0].dtype


def _beside(x: Spec, indices: Any, name: str) -> Shape:
    """Checks an index array that goes along one axis of x; the shape of the indices."""
    if type(indices) is not Spec or indices.dtype.kind not in ("int", "uint"):
        raise _dtype_error(f"{name}(): Expected dtype int32/int64 for index", given=indices)
    if len(indices.shape) != len(x.shape):
        text = "Index tensor must have the same number of dimensions as input tensor"
        raise _shape_error(text, given=f"{indices.shape} for {x.shape}")
    return indices.shape


class xp:
    """Shapes under the names of `namespace.NAMESPACE`; the families of alike functions are added below."""

    @staticmethod
    def dtype(x):
        return x.dtype

    @staticmethod
    def zeros(*, shape, dtype, like=None):
        return Spec(_sizes(shape), dtype)

    ones = zeros

    @staticmethod
    def full(*, shape, value, dtype, like=None):
        return Spec(_sizes(shape), dtype)

    @staticmethod
    def arange(*, start, stop, step=1, dtype, like=None):
        if not step:
            raise _option_error("step must be nonzero", given=f"arange({start}, {stop}, {step})")
        return Spec((max(math.ceil((stop - start) / step), 0),), dtype)

    @staticmethod
    def eye(*, n, m=None, dtype, like=None):
        return Spec(_sizes((n, n if m is None else m)), dtype)

    @staticmethod
    def zeros_like(x, *, dtype=None):
        return x if dtype is None else Spec(x.shape, dtype)

    ones_like = zeros_like

    @staticmethod
    def astype(x, *, dtype):
        return Spec(x.shape, dtype)

    @staticmethod
    def bitwise_not(x):
        if x.dtype.kind == "float":
            raise _dtype_error("~ (operator.invert) is only implemented on integer and Boolean-type tensors", given=x)
        return x

    @staticmethod
    def pow(x, y):
        if type(y) is int and y < 0 and x.dtype.kind != "float":
            text = "Integers to negative integer powers are not allowed."
            raise _dtype_error(text, given=f"{x} ** {y}", do="cast to a floating dtype")
        return _power(x, y)

    @staticmethod
    def where(condition, x, y):
        if type(condition) is not Spec or condition.dtype is not bool_:
            given = condition.dtype.name if type(condition) is Spec else type(condition).__name__
            raise _dtype_error(f"where expected condition to be a boolean tensor, but got a tensor with dtype {given}")
        if type(x) is Spec or type(y) is Spec:
            shape, d = _join(x, y, "where")
        else:
            shape, d = (), _weak(_weak(bool_, x, "where"), y, "where")
        return Spec(shape if shape == condition.shape else _broadcast(condition.shape, shape), d)

    @staticmethod
    def mean(x, *, axis=None, keepdims=False):
        if x.dtype.kind != "float":
            raise _dtype_error(
                "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
                f"Got: {x.dtype.name}",
                do="cast to a floating dtype",
            )
        return Spec(_reduced(x, axis, keepdims, "mean"), x.dtype)

    @staticmethod
    def logsumexp(x, *, axis=None, keepdims=False):
        d = x.dtype if x.dtype.kind == "float" else default_dtype()
        return Spec(_reduced(x, axis, keepdims, "logsumexp", empty=False), d)

    @staticmethod
    def sort(x, *, axis=-1, descending=False):
        _axis(axis, len(x.shape))
        return x

    @staticmethod
    def argsort(x, *, axis=-1, descending=False):
        _axis(axis, len(x.shape))
        return Spec(x.shape, int64)

    @staticmethod
    def matmul(x, y):
        if type(x) is not Spec or type(y) is not Spec:
            raise _not_array("matmul", y if type(x) is Spec else x)
        a, b, d = x.shape, y.shape, x.dtype
        if not a or not b:
            text = f"both arguments to matmul need to be at least 1D, but they are {len(a)}D and {len(b)}D"
            raise _shape_error(text)
        if d is not y.dtype:
            raise _mixed("matmul", x, y)
        if d is bool_:
            raise _refused("matmul", d, "numbers")
        if a[-1] != (b[-2] if len(b) > 1 else b[0]):
            rows = a[-2] if len(a) > 1 else 1
            right = f"{b[-2]}x{b[-1]}" if len(b) > 1 else f"{b[0]}x1"
            raise _shape_error(
                f"mat1 and mat2 shapes cannot be multiplied ({rows}x{a[-1]} and {right})",
                expected="the last size of the left to be the last but one of the right",
                given=f"{a} @ {b}",
            )
        lead = a[:-2] if a[:-2] == b[:-2] else _broadcast(a[:-2], b[:-2])
        return Spec((*lead, *a[-2:-1], *(b[-1:] if len(b) > 1 else ())), d)

    @staticmethod
    def einsum(*arrays, equation):
        terms, out = _parse_einsum(equation)
        d = _one_dtype("einsum", arrays)
        if len(terms) != len(arrays):
            few = "fewer" if len(arrays) < len(terms) else "more"
            text = f"einsum(): {few} operands were provided than specified in the equation"
            raise _shape_error(text, given=f"{len(arrays)} for {equation!r}")
        sizes = _einsum_sizes(terms, arrays)
        return Spec(tuple([sizes[c] for c in out]), d)

    @staticmethod
    def reshape(x, *, shape):
        shape = _sizes(shape)
        if math.prod(shape) != math.prod(x.shape):
            text = f"shape '{list(shape)}' is invalid for input of size {math.prod(x.shape)}"
            raise _shape_error(text, expected=f"{math.prod(x.shape)} elements, as in {x.shape}")
        return Spec(shape, x.dtype)

    @staticmethod
    def transpose(x, *, axes):
        shape = x.shape
        if len(axes) != len(shape):
            raise _shape_error(
                "permute: number of dimensions in the tensor input does not match the length of the desired ordering "
                f"of dimensions i.e. input.dim() = {len(shape)} is not equal to len(dims) = {len(axes)}"
            )
        order = [_axis(a, len(shape)) for a in axes]
        if len(set(order)) < len(order):
            raise _shape_error("permute(): duplicate dims are not allowed.", given=axes)
        return Spec(tuple([shape[a] for a in order]), x.dtype)

    @staticmethod
    def broadcast_to(x, *, shape):
        shape = _sizes(shape)
        if not _expands(x.shape, shape):
            raise _not_expanded(x.shape, shape)
        return Spec(shape, x.dtype)

    @staticmethod
    def expand_dims(x, *, axis):
        if isinstance(axis, tuple | list):
            ndim = len(x.shape) + len(axis)
            at, rest = _axes(axis, ndim), iter(x.shape)
            return Spec(tuple([1 if i in at else next(rest) for i in range(ndim)]), x.dtype)
        a = _axis(axis, len(x.shape) + 1)
        return Spec((*x.shape[:a], 1, *x.shape[a:]), x.dtype)

    @staticmethod
    def squeeze(x, *, axis):
        axes = _axes(axis, len(x.shape))
        for a in axes:
            if x.shape[a] != 1:
                text = "cannot select an axis to squeeze out which has size not equal to one"
                raise _shape_error(text, given=f"axis {a} of {x.shape}")
        return Spec(tuple([n for i, n in enumerate(x.shape) if i not in axes]), x.dtype)

    @staticmethod
    def concat(*arrays, axis):
        if not arrays:
            raise _shape_error("concat: expected a non-empty list of Tensors")
        d = _one_dtype("concat", arrays)
        first = arrays[0].shape
        for i, x in enumerate(arrays):
            if not x.shape:
                raise _shape_error(f"zero-dimensional tensor (at position {i}) cannot be concatenated", do="use stack")
            if len(x.shape) != len(first):
                text = f"Tensors must have same number of dimensions: got {len(first)} and {len(x.shape)}"
                raise _shape_error(text)
        a = _axis(axis, len(first))
        for i, x in enumerate(arrays):
            if x.shape[:a] != first[:a] or x.shape[a + 1 :] != first[a + 1 :]:
                m, n = next((m, n) for j, (m, n) in enumerate(zip(first, x.shape, strict=True)) if j != a and m != n)
                raise _shape_error(
                    f"Sizes of tensors must match except in dimension {a}. Expected size {m} but got size {n} for "
                    f"tensor number {i} in the list.",
                    given=", ".join(str(x.shape) for x in arrays),
                )
        return Spec((*first[:a], sum([x.shape[a] for x in arrays]), *first[a + 1 :]), d)

    @staticmethod
    def stack(*arrays, axis):
        if not arrays:
            raise _shape_error("stack expects a non-empty TensorList")
        d = _one_dtype("stack", arrays)
        first = arrays[0].shape
        for i, x in enumerate(arrays):
            if x.shape != first:
                raise _shape_error(
                    f"stack expects each tensor to be equal size, but got {list(first)} at entry 0 and {list(x.shape)} "
                    f"at entry {i}"
                )
        a = _axis(axis, len(first) + 1)
        return Spec((*first[:a], len(arrays), *first[a:]), d)

    @staticmethod
    def flip(x, *, axis):
        _axes(axis, len(x.shape))
        return x

    @staticmethod
    def roll(x, *, shift, axis):
        _whole(shift, "shift")
        _axis(axis, len(x.shape))
        return x

    @staticmethod
    def pad(x, *, widths, value=0):
        if len(widths) != len(x.shape):
            expected = f"(before, after) for each of the {len(x.shape)} axes"
            raise _shape_error("pad: one pair of widths for each axis", expected=expected, given=widths)
        shape = tuple([n + before + after for n, (before, after) in zip(x.shape, widths, strict=True)])
        if any(s < 0 or min(n + b, n + a) < 0 for s, n, (b, a) in zip(shape, x.shape, widths, strict=True)):
            raise _shape_error("pad crops more than there is", given=f"{x.shape} with widths {widths}")
        return Spec(shape, x.dtype)

    @staticmethod
    def repeat(x, *, repeats, axis):
        repeats = _whole(repeats, "repeats")
        if repeats < 0:
            raise _option_error("Repeats must be non-negative", given=repeats)
        a = _axis(axis, len(x.shape))
        return Spec((*x.shape[:a], x.shape[a] * repeats, *x.shape[a + 1 :]), x.dtype)

    @staticmethod
    def windows(x, *, size, stride, dilation):
        lead = len(x.shape) - len(size)
        if lead < 0:
            raise _shape_error(f"windows over {len(size)} axes need as many", given=x)
        return Spec((*x.shape[:lead], *_window_counts(x.shape[lead:], size, stride, dilation), *size), x.dtype)

    @staticmethod
    def fold(x, *, shape, size, stride, dilation):
        shape = _sizes(shape)
        lead = len(shape) - len(size)
        if lead < 0:
            raise _shape_error(f"windows over {len(size)} axes need as many", given=f"shape={shape}")
        expected = (*shape[:lead], *_window_counts(shape[lead:], size, stride, dilation), *size)
        if x.shape != expected:
            text = f"fold: these are not the windows of an array of shape {shape}"
            raise _shape_error(text, expected=expected, given=x.shape)
        return Spec(shape, x.dtype)

    @staticmethod
    def getitem(x, *indices, key):
        return Spec(key_shape(x.shape, key, tuple([_index_shape(i) for i in indices])), x.dtype)

    @staticmethod
    def put(x, value, *indices, key):
        return _write(x, value, indices, key, "put")

    @staticmethod
    def add_at(x, value, *indices, key):
        return _write(x, value, indices, key, "add_at")

    @staticmethod
    def take(x, indices, *, axis):
        a = _axis(axis, len(x.shape))
        inner = _index_shape(indices)
        if not x.shape[a] and 0 not in inner:
            raise _index_error("index is out of bounds for dimension with size 0")
        return Spec((*x.shape[:a], *inner, *x.shape[a + 1 :]), x.dtype)

    @staticmethod
    def take_along_axis(x, indices, *, axis):
        a = _axis(axis, len(x.shape))
        at = _beside(x, indices, "take_along_axis")
        return Spec(_broadcast((*x.shape[:a], at[a], *x.shape[a + 1 :]), at), x.dtype)

    @staticmethod
    def scatter_add(x, indices, values, *, axis):
        a = _axis(axis, len(x.shape))
        at = _beside(x, indices, "scatter_add")
        if type(values) is Spec:
            if values.dtype is not x.dtype:
                raise _mixed("scatter_add", x, values)
        else:
            _weak(x.dtype, values, "scatter_add")
        fits = all(i == a or m <= n for i, (m, n) in enumerate(zip(at, x.shape, strict=True)))
        if not fits or (type(values) is Spec and values.shape != at):
            given = list(values.shape) if type(values) is Spec else values
            raise _shape_error(
                f"Expected index {list(at)} to be no larger than self {list(x.shape)} apart from dimension {a} "
                f"and to have the shape of the values {given}"
            )
        return x


def _not_expanded(shape: Shape, target: Shape) -> Exception:
    sizes = f"Target sizes: {list(target)}.  Tensor sizes: {list(shape)}"
    if len(shape) > len(target):
        return _shape_error(
            f"expand: the number of sizes provided ({len(target)}) must be greater or equal to the number of "
            f"dimensions in the tensor ({len(shape)})",
            given=sizes,
        )
    skip = len(target) - len(shape)
    i = next(i for i, n in enumerate(shape) if n not in (1, target[skip + i]))
    return _shape_error(
        f"The expanded size of the tensor ({target[skip + i]}) must match the existing size ({shape[i]}) at "
        f"non-singleton dimension {skip + i}.  {sizes}"
    )


_power = _arithmetic("pow")
_KEPT = {d: d for d in _ALL}
_BOOLS = dict.fromkeys(_ALL, bool_)

_FAMILIES: tuple[tuple[Callable[[str], Callable], str], ...] = (
    (_same, "abs negative sign square floor ceil round trunc"),
    (_floating, "reciprocal sqrt rsqrt exp expm1 log log1p log2 sin cos tan asin acos atan sinh cosh tanh"),
    (_floating, "asinh acosh atanh sigmoid erf erfinv"),
    (_truth, "isnan isinf isfinite logical_not"),
    (functools.partial(_arithmetic, bools=True), "add multiply maximum minimum"),
    (_arithmetic, "subtract floor_divide remainder"),
    (_floating_2, "divide atan2 logaddexp"),
    (_comparison, "equal not_equal less less_equal greater greater_equal logical_and logical_or logical_xor"),
    (_bitwise, "bitwise_and bitwise_or bitwise_xor"),
    (functools.partial(_reduction, dtypes=_SUMS), "sum prod"),
    (functools.partial(_reduction, dtypes=_KEPT, empty=False), "amax amin"),
    (functools.partial(_reduction, dtypes=_BOOLS), "any all"),
    (_arg, "argmax argmin"),
    (_cumulative, "cumsum cumprod"),
    (_triangle, "tril triu"),
)
for _make, _names in _FAMILIES:
    for _name in _names.split():
        _fn = _make(_name)
        _fn.__name__, _fn.__qualname__ = _name, f"xp.{_name}"
        setattr(xp, _name, staticmethod(_fn))

_OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "pow", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or",
    "xor": "bitwise_xor",
}  # fmt: skip
for _name, _target in _OPERATORS.items():
    _fn = getattr(xp, _target)
    setattr(Spec, f"__{_name}__", _fn)
    setattr(Spec, f"__r{_name}__", lambda y, x, _fn=_fn: _fn(x, y))
for _name, _target in {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}.items():
    setattr(Spec, f"__{_name}__", getattr(xp, _target))
for _name, _target in {"neg": "negative", "invert": "bitwise_not", "abs": "abs"}.items():
    setattr(Spec, f"__{_name}__", getattr(xp, _target))


# --- entry points ---


def spec_of(array: Any) -> Any:
    """The Spec of an array of any engine; a Spec or a Python scalar is given back.

    Raises:
        DTypeError: It is no array, or has a dtype that gradloom does not have.

    Example:
        >>> import numpy as np
        >>> spec_of(np.zeros((2, 3), "int32")), spec_of(2.5)
        (Spec((2, 3), int32), 2.5)
    """
    if type(array) is Spec or type(array) in (bool, int, float):
        return array
    shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", None)
    if shape is None or dtype is None:
        raise _not_array("spec_of", array)
    return Spec(tuple(shape), _dtype_of(dtype))


def infer(record: Op, *values: Any, **attrs: Any) -> Any:
    """The Spec of an op's result, or a tuple of them if it has several; the op's body is run over shapes.

    Args:
        record: The op, or a vjp.
        *values: Specs, arrays, Python scalars; None where an optional operand is left out. Already promoted.
        **attrs: The op's attributes.

    Raises:
        ShapeError, DTypeError, IndexOutOfRangeError: The operands do not fit.
        TraceError: The body needs the value of an array.

    Example:
        >>> from gradloom.dtypes import float32
        >>> from gradloom.ops.op import Op
        >>> linear = Op("linear", lambda xp, x, w: xp.matmul(x, w.T), ("x", "w"), ())
        >>> infer(linear, Spec((32, 64), float32), Spec((10, 64), float32))
        Spec((32, 10), float32)
    """
    out = record.forward(xp, *[v if type(v) is Spec or v is None else spec_of(v) for v in values], **attrs)
    if type(out) is Spec:
        return out
    if isinstance(out, tuple | list) and all(type(o) is Spec or o is None for o in out):
        return tuple(out)
    raise _dtype_error(f"{record.name} did not return arrays", expected="a Spec or a tuple of Specs", given=repr(out))
