"""Rules of shapes: axes, broadcasting, keys, windows, einsum. They check as NumPy and PyTorch do, with PyTorch's texts."""

from __future__ import annotations

import functools
import operator
from typing import Any

from ..dtypes import DType, bool_
from ..errors import DTypeError, ShapeError, TraceError, explain, user_frame
from ..ops.namespace import INDEX
from .spec import Shape, Spec, _dtype_error, _index_error, _mixed, _not_array, _option_error, _shape_error, _weak

# --- axes and broadcasting ---


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


# --- windows, einsum, concatenation, indices along an axis ---


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
