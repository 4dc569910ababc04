"""The array namespace `xp`: the closed list of functions that op bodies may call.

Names and meaning are the Python array API standard's where it has them. Arrays come first and by position, everything
static (`axis=`, `shape=`, ...) by keyword. Each engine implements the list once (`backends/<engine>.py`),
`backends/shapes.py` gives it to shapes, and for each name there is an op of the same name and parameters, which is what
Tensors and traced values use: so an op body that is run over Tensors is differentiable, and one that is run over shapes
gives its result's shape.

Besides these functions a body may use, of an array: `.shape`, `.ndim`, `.dtype`, the operators
`+ - * / // % ** @ & | ^ ~`, comparisons, unary minus, and `x[...]` with integers, slices, None and Ellipsis. dtypes are
gradloom's; `xp.dtype(x)` gives an array's. Operands of a binary function have one dtype, or one of them is a Python
scalar. An `axis` may be negative, and where marked `axes`, None (all), an int, or a tuple (() is no axis at all).
In a key an integer beside INDEX counts as an index array, as in NumPy (PyTorch takes it first).
"""

from __future__ import annotations

#: name -> parameters. `x`, `y`, ... are arrays (of several, all but one may be Python scalars); after `*` statics.
NAMESPACE: dict[str, str] = {
    # creation; like= gives the device (and for *_like the shape and, unless given, the dtype)
    "zeros": "*, shape, dtype, like=None",
    "ones": "*, shape, dtype, like=None",
    "full": "*, shape, value, dtype, like=None",
    "arange": "*, start, stop, step=1, dtype, like=None",
    "eye": "*, n, m=None, dtype, like=None",
    "zeros_like": "x, *, dtype=None",
    "ones_like": "x, *, dtype=None",
    # elementwise, one operand
    "abs": "x",
    "negative": "x",
    "sign": "x",
    "reciprocal": "x",
    "square": "x",
    "sqrt": "x",
    "rsqrt": "x",
    "exp": "x",
    "expm1": "x",
    "log": "x",
    "log1p": "x",
    "log2": "x",
    "sin": "x",
    "cos": "x",
    "tan": "x",
    "asin": "x",
    "acos": "x",
    "atan": "x",
    "sinh": "x",
    "cosh": "x",
    "tanh": "x",
    "asinh": "x",
    "acosh": "x",
    "atanh": "x",
    "sigmoid": "x",
    "erf": "x",
    "erfinv": "x",
    "floor": "x",
    "ceil": "x",
    "round": "x",  # half to even
    "trunc": "x",
    "isnan": "x",
    "isinf": "x",
    "isfinite": "x",
    "logical_not": "x",
    "bitwise_not": "x",
    "astype": "x, *, dtype",
    # elementwise, two or three operands, with broadcasting
    "add": "x, y",
    "subtract": "x, y",
    "multiply": "x, y",
    "divide": "x, y",
    "floor_divide": "x, y",
    "remainder": "x, y",  # sign of the divisor, as Python's %
    "pow": "x, y",
    "maximum": "x, y",  # NaN wins
    "minimum": "x, y",
    "atan2": "x, y",
    "logaddexp": "x, y",
    "equal": "x, y",
    "not_equal": "x, y",
    "less": "x, y",
    "less_equal": "x, y",
    "greater": "x, y",
    "greater_equal": "x, y",
    "logical_and": "x, y",
    "logical_or": "x, y",
    "logical_xor": "x, y",
    "bitwise_and": "x, y",
    "bitwise_or": "x, y",
    "bitwise_xor": "x, y",
    "where": "condition, x, y",
    # reductions (axes)
    "sum": "x, *, axis=None, keepdims=False",  # bool and small integers sum in int64
    "prod": "x, *, axis=None, keepdims=False",
    "amax": "x, *, axis=None, keepdims=False",  # NaN wins
    "amin": "x, *, axis=None, keepdims=False",
    "any": "x, *, axis=None, keepdims=False",
    "all": "x, *, axis=None, keepdims=False",
    "mean": "x, *, axis=None, keepdims=False",
    "logsumexp": "x, *, axis=None, keepdims=False",
    # along one axis
    "argmax": "x, *, axis=None, keepdims=False",  # int64; of the flattened array for None; the first of equals
    "argmin": "x, *, axis=None, keepdims=False",
    "cumsum": "x, *, axis",
    "cumprod": "x, *, axis",
    "sort": "x, *, axis=-1, descending=False",  # stable
    "argsort": "x, *, axis=-1, descending=False",  # stable; int64
    # products
    "matmul": "x, y",
    "einsum": "*arrays, equation",  # explicit form with ->, no ellipsis
    # layout
    "reshape": "x, *, shape",  # no -1 here
    "transpose": "x, *, axes",  # a permutation, array API's permute_dims
    "broadcast_to": "x, *, shape",
    "expand_dims": "x, *, axis",  # an int or a tuple of positions in the result
    "squeeze": "x, *, axis",  # an int or a tuple
    "concat": "*arrays, axis",
    "stack": "*arrays, axis",
    "flip": "x, *, axis",  # axes, not None; a copy
    "roll": "x, *, shift, axis",  # one axis
    "pad": "x, *, widths, value=0",  # ((before, after), ...) for each axis; negative widths crop
    "repeat": "x, *, repeats, axis",  # each element `repeats` times, an int
    "tril": "x, *, k=0",
    "triu": "x, *, k=0",
    # Sliding windows over the last len(size) axes: x (..., L1, ..., Lk) -> (..., O1, ..., Ok, s1, ..., sk) with
    # Oi = (Li - dilation_i * (size_i - 1) - 1) // stride_i + 1. `fold` is its transpose: it adds the windows into an
    # array of `shape`.
    "windows": "x, *, size, stride, dilation",
    "fold": "x, *, shape, size, stride, dilation",
    # indexing
    # key: a tuple of int, slice, None, Ellipsis and INDEX, which stands for the next of the indices
    "getitem": "x, *indices, key",
    "put": "x, value, *indices, key",  # a copy of x with x[key] = value (value broadcasts)
    "add_at": "x, value, *indices, key",  # a copy of x with x[key] += value; repeated indices add up
    "take": "x, indices, *, axis",  # indices (int) of any shape
    "take_along_axis": "x, indices, *, axis",  # indices from 0
    "scatter_add": "x, indices, values, *, axis",  # its transpose: x[..., indices along axis, ...] += values
}


class _Index:
    """Stands in a key for the next index array (integers or a bool mask)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "INDEX"

    def __reduce__(self) -> str:
        return "INDEX"


INDEX = _Index()


def fill(key: tuple, indices: tuple) -> tuple:
    """The key with each INDEX replaced by the next index array."""
    if not indices:
        return key
    rest = iter(indices)
    return tuple(next(rest) if k is INDEX else k for k in key)
