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
from collections.abc import Callable
from typing import Any

from ..dtypes import _ALL, bool_, default_dtype, int64
from ..dtypes import dtype as _dtype_of
from ..ops.linalg import sums_alone
from ..ops.namespace import INDEX
from ..ops.op import Op
from .shape_families import (
    _arg,
    _arithmetic,
    _bitwise,
    _comparison,
    _cumulative,
    _floating,
    _floating_2,
    _reduced,
    _reduction,
    _same,
    _triangle,
    _truth,
)  # fmt: skip
from .shape_rules import (
    _axes,
    _axis,
    _beside,
    _broadcast,
    _einsum_sizes,
    _expands,
    _index_shape,
    _join,
    _not_expanded,
    _one_dtype,
    _parse_einsum,
    _sizes,
    _whole,
    _window_counts,
    _write,
    key_shape,
)  # fmt: skip
from .spec import (
    _SUMS,
    Spec,
    _dtype_error,
    _index_error,
    _mixed,
    _not_array,
    _option_error,
    _refused,
    _shape_error,
    _weak,
)  # fmt: skip


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
        wide = d.kind != "float" and sums_alone(equation)
        return Spec(tuple([sizes[c] for c in out]), int64 if wide else d)

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


def _getitem(x: Spec, key: Any) -> Spec:
    if type(key) is not tuple:
        key = (key,)
    indices = [k for k in key if type(k) is Spec]
    if indices:
        return xp.getitem(x, *indices, key=tuple(INDEX if type(k) is Spec else k for k in key))
    return Spec(key_shape(x.shape, key), x.dtype)


setattr(Spec, "__getitem__", _getitem)  # noqa: B010  (mypy knows only what the class has)

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
