"""PyTorch's functions of the root package: the methods of Tensors as functions, and what takes several Tensors."""

from __future__ import annotations

import builtins
import inspect
import string
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..errors import ShapeError, explain
from ..ops.op import SCALARS, kind_of
from . import tape
from .arrays import as_array, axis, wrap
from .methods import Methods

# Methods that are functions too, `f(input, ...)`.
_NAMES = [
    "abs", "absolute", "neg", "negative", "sign", "square", "sqrt", "rsqrt", "reciprocal", "exp", "expm1", "exp2",
    "log", "log1p", "log2", "log10", "sin", "cos", "tan", "sinh", "cosh", "tanh", "asin", "acos", "atan", "asinh",
    "acosh", "atanh", "arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh", "sigmoid", "erf", "erfc",
    "erfinv", "relu", "floor", "ceil", "trunc", "fix", "frac", "round", "isnan", "isinf", "isfinite", "logical_not",
    "bitwise_not", "add", "sub", "subtract", "mul", "multiply", "div", "divide", "true_divide", "floor_divide",
    "remainder", "pow", "maximum", "minimum", "atan2", "arctan2", "logaddexp", "eq", "ne", "not_equal", "lt",
    "less", "le", "less_equal", "gt", "greater", "ge", "greater_equal", "logical_and", "logical_or", "logical_xor",
    "bitwise_and", "bitwise_or", "bitwise_xor", "clamp", "clip", "clamp_min", "clamp_max", "lerp", "addcmul",
    "addcdiv", "masked_fill", "isclose", "allclose", "equal", "sum", "mean", "prod", "amax", "amin", "max", "min",
    "argmax", "argmin", "any", "all", "var", "std", "norm", "logsumexp", "softmax", "log_softmax", "cumsum",
    "cumprod", "sort", "argsort", "topk", "diff", "matmul", "mm", "mv", "dot", "inner", "bmm", "outer", "addmm",
    "trace", "reshape", "flatten", "ravel", "unflatten", "permute", "transpose", "swapaxes", "swapdims", "movedim",
    "moveaxis", "t", "squeeze", "unsqueeze", "broadcast_to", "narrow", "select", "split", "chunk", "unbind", "tile",
    "repeat_interleave", "flip", "roll", "tril", "triu", "diagonal", "gather", "take_along_dim", "index_select",
    "index_add", "index_copy", "index_fill", "scatter", "scatter_add", "nonzero", "masked_select", "clone", "numel",
]  # fmt: skip

__all__ = [
    *_NAMES, "cat", "concat", "concatenate", "stack", "hstack", "vstack", "where", "einsum", "meshgrid",
    "broadcast_tensors", "var_mean", "std_mean", "is_tensor", "is_floating_point", "tensordot",
]  # fmt: skip


def as_operand(value: Any) -> Any:
    """A Tensor as it is; an engine's array, a number or a nested sequence as a Tensor."""
    if isinstance(value, tape.Tensor):
        return value
    if type(value) not in SCALARS and not isinstance(value, (list, tuple)) and kind_of(type(value)) is not None:
        return tape._operand(value)
    return wrap(as_array(value))


def _function(name: str) -> Callable:
    """The method as a function of `input`."""
    method = getattr(Methods, name, None)

    def call(input, *args, **kwargs):
        return getattr(as_operand(input), name)(*args, **kwargs)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = getattr(method, "__doc__", None) or "Number of elements."
    if method is not None:
        parameters = list(inspect.signature(method).parameters.values())
        first = inspect.Parameter("input", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        call.__signature__ = inspect.Signature([first, *parameters[1:]])  # type: ignore[attr-defined]
    return call


for _name in _NAMES:
    globals()[_name] = _function(_name)


def _tensors(tensors: Any, name: str) -> list:
    found = [as_operand(t) for t in tensors]
    if not found:
        raise ShapeError(f"{name} expects a non-empty sequence of Tensors")
    return found


def cat(tensors: Any, dim: int = 0, *, axis: int | None = None) -> Any:
    """Tensors one after the other along a dimension that they have.

    Raises:
        ShapeError: None are given, or other dimensions differ.

    Example:
        >>> import gradloom as gl
        >>> gl.cat([gl.ones(1, 2), gl.zeros(1, 2)])
        tensor([[1., 1.],
                [0., 0.]])
    """
    found = _tensors(tensors, "cat")
    kept = [t for t in found if tuple(t.shape) != (0,)] or found[:1]  # PyTorch lets empty vectors pass
    d = _axis(dim if axis is None else axis, kept[0].ndim)
    for i, t in enumerate(kept):
        a, b = list(kept[0].shape), list(t.shape)
        if not a or len(a) != len(b) or a[:d] + a[d + 1 :] != b[:d] + b[d + 1 :]:
            what = (
                "zero-dimensional Tensors cannot be concatenated"
                if not a
                else f"Sizes of tensors must match except in dimension {d}"
            )
            raise ShapeError(
                explain(
                    what,
                    expected=f"{a} but for dimension {d}",
                    given=f"{b} for Tensor number {i}",
                    do="use stack" if not a else None,
                )
            )
    return ops.concat(*kept, axis=d)


concat = concatenate = cat
_axis = axis


def stack(tensors: Any, dim: int = 0, *, axis: int | None = None) -> Any:
    """Tensors of one shape next to each other along a new dimension."""
    found = _tensors(tensors, "stack")
    shape = list(found[0].shape)
    for i, t in enumerate(found):
        if list(t.shape) != shape:
            raise ShapeError(
                f"stack expects each tensor to be equal size, but got {shape} at entry 0 and "
                f"{list(t.shape)} at entry {i}"
            )
    return ops.stack(*found, axis=_axis(dim if axis is None else axis, len(shape) + 1))


def hstack(tensors: Any) -> Any:
    """Tensors side by side: along the second dimension, vectors along the first."""
    found = [t.reshape(1) if not t.ndim else t for t in _tensors(tensors, "hstack")]
    return cat(found, 0 if found[0].ndim == 1 else 1)


def vstack(tensors: Any) -> Any:
    """Tensors below each other: along the first dimension; vectors are rows."""
    return cat([t.reshape(1, -1) if t.ndim < 2 else t for t in _tensors(tensors, "vstack")], 0)


def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """The elements of `input` where the condition holds, those of `other` elsewhere; alone its non-zero indices."""
    if input is None and other is None:
        return as_operand(condition).nonzero(as_tuple=True)
    return ops.where(as_operand(condition), input, other)


def einsum(equation: str, *operands: Any) -> Any:
    """Einstein's summation; the result's letters may be left out, `...` stands for dimensions that broadcast.

    Example:
        >>> import gradloom as gl
        >>> gl.einsum("ij,j->i", gl.ones(2, 3), gl.ones(3))
        tensor([3., 3.])
    """
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    tensors = [as_operand(t) for t in operands]
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise ShapeError(f"einsum: the equation has {len(terms)} operands, {len(tensors)} are given")
    if "..." in equation:
        free = iter(c for c in string.ascii_letters if c not in equation)
        counts = [
            t.ndim - len(term.replace("...", "")) if "..." in term else 0
            for term, t in zip(terms, tensors, strict=True)
        ]
        letters = [next(free) for _ in range(builtins.max(counts))]
        spread: dict[str, int] = {}
        for i, (term, n) in enumerate(zip(terms, counts, strict=True)):
            own = letters[len(letters) - n :]
            terms[i] = term.replace("...", "".join(own))
            if n:
                at = term.index("...")
                spread.update(
                    {
                        c: builtins.max(spread.get(c, 1), s)
                        for c, s in zip(own, tensors[i].shape[at : at + n], strict=True)
                    }
                )
        for i, (term, t) in enumerate(zip(terms, tensors, strict=True)):  # engines do not broadcast named dimensions
            ones = [c in spread and spread[c] != s for c, s in zip(term, t.shape, strict=True)]
            if any_(ones):
                tensors[i] = t.expand(*(spread[c] if one else s for c, s, one in zip(term, t.shape, ones, strict=True)))
        right = right.replace("...", "".join(letters)) if arrow else "".join(letters)
    if not arrow:
        joined = "".join(terms)
        known = set(right)
        right += "".join(sorted(c for c in set(joined) if joined.count(c) == 1 and c not in known))
    return ops.einsum(*tensors, equation=",".join(terms) + "->" + right)


any_ = builtins.any


def tensordot(a: Any, b: Any, dims: Any = 2) -> Any:
    """The sum of products over dimensions: the last `dims` of a with the first of b, or those of two lists."""
    a, b = as_operand(a), as_operand(b)
    if isinstance(dims, int):
        dims = (list(range(a.ndim - dims, a.ndim)), list(range(dims)))
    left, right = ([_axis(d, t.ndim) for d in ds] for d_, (t, ds) in enumerate(zip((a, b), dims, strict=True)))
    for i, j in zip(left, right, strict=True):  # a size of 1 stands for any
        if a.shape[i] == 1 != b.shape[j]:
            b = b.sum(j, keepdim=True)
        elif b.shape[j] == 1 != a.shape[i]:
            a = a.sum(i, keepdim=True)
    first = list(string.ascii_letters[: a.ndim])
    second = list(string.ascii_letters[a.ndim : a.ndim + b.ndim])
    for i, j in zip(left, right, strict=True):
        second[j] = first[i]
    result = [c for i, c in enumerate(first) if i not in left] + [c for j, c in enumerate(second) if j not in right]
    return ops.einsum(a, b, equation=f"{''.join(first)},{''.join(second)}->{''.join(result)}")


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple:
    """The coordinates of all points of a grid: one Tensor of the grid's shape for each vector.

    Args:
        indexing: "ij", or "xy" to exchange the first two dimensions.
    """
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    if indexing not in ("ij", "xy"):
        raise ShapeError(f"meshgrid: indexing must be one of 'ij' or 'xy', not {indexing!r}")
    vectors = [as_operand(t).reshape(-1) for t in tensors]
    shape = tuple(t.shape[0] for t in vectors)
    n = len(vectors)
    grid = [t.reshape(*(-1 if i == k else 1 for i in range(n))).expand(shape) for k, t in enumerate(vectors)]
    return tuple(g.transpose(0, 1) if indexing == "xy" and n > 1 else g for g in grid)


def broadcast_tensors(*tensors: Any) -> tuple:
    """The Tensors, each expanded to the shape that they broadcast to."""
    found = [as_operand(t) for t in tensors]
    shape = np.broadcast_shapes(*(tuple(t.shape) for t in found))
    return tuple(t.expand(shape) for t in found)


def var_mean(
    input: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> tuple:
    """The variance and the mean, see `var`."""
    t = as_operand(input)
    return t.var(dim, unbiased, keepdim, correction=correction), t.mean(None if isinstance(dim, bool) else dim, keepdim)


def std_mean(
    input: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> tuple:
    """The standard deviation and the mean, see `std`."""
    t = as_operand(input)
    return t.std(dim, unbiased, keepdim, correction=correction), t.mean(None if isinstance(dim, bool) else dim, keepdim)


def is_tensor(obj: Any) -> bool:
    """Whether it is a Tensor."""
    return isinstance(obj, tape.Tensor)


def is_floating_point(input: Any) -> bool:
    """Whether a Tensor's dtype is a float."""
    return as_operand(input).is_floating_point()
