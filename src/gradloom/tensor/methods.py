"""The methods of Tensors under PyTorch's names. They check and translate arguments; the maths is in `ops`.

`dim=` and `keepdim=` may be called `axis=` and `keepdims=`, as in NumPy.
"""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable
from typing import Any

from .. import ops
from ..dtypes import default_dtype
from ..errors import DTypeError, OptionError, ShapeError, explain
from . import tape
from .arrays import axes, axis, named
from .inplace import InPlace, torch_name
from .selecting import Selecting
from .shaping import Shaping

Extreme = namedtuple("Extreme", ("values", "indices"))  # what max(dim), min(dim), sort and topk give
Extreme.__doc__ = "Values, and the indices where they were along the dimension."


def along(x: Any, dim: int, run: Callable) -> Any:
    """`run(x, axis)` for an operation along one axis; a 0-d Tensor is taken as one element."""
    d = axis(dim, x.ndim)
    if x.ndim:
        return run(x, d)
    out = run(x.reshape(1), 0)
    return Extreme(*(o[0] for o in out)) if isinstance(out, tuple) else out[0]


def floating(x: Any, name: str) -> None:
    if x.dtype.kind != "float":
        raise DTypeError(
            explain(
                f"{name}(): could not infer output dtype. Input dtype must be a floating point dtype. "
                f"Got: {torch_name(x.dtype)}",
                do=f"x.float().{name}()",
            )
        )


def _none_left(x: Any, dim: Any, name: str) -> None:
    if not x.numel():
        if dim is None:
            raise ShapeError(
                f"{name}(): Expected reduction dim to be specified for input.numel() == 0. "
                "Specify the reduction dim with the 'dim' argument."
            )
        for d in dim if isinstance(dim, (tuple, list)) else (dim,):
            if x.shape[axis(d, x.ndim)] == 0:
                raise IndexError(f"{name}(): Expected reduction dim {axis(d, x.ndim)} to have non-zero size.")


class Methods(Shaping, Selecting, InPlace):
    """The methods of `Tensor` but for those that PyTorch's core object has; see tensor.py."""

    # ------------------------------------------------------------------------- elementwise: the ops themselves

    abs = absolute = ops.abs
    neg = negative = ops.negative
    sign, sqrt, rsqrt, reciprocal = ops.sign, ops.sqrt, ops.rsqrt, ops.reciprocal
    exp, expm1, log, log1p, log2 = ops.exp, ops.expm1, ops.log, ops.log1p, ops.log2
    sin, cos, tan, sinh, cosh, tanh = ops.sin, ops.cos, ops.tan, ops.sinh, ops.cosh, ops.tanh
    asin, acos, atan, asinh, acosh, atanh = ops.asin, ops.acos, ops.atan, ops.asinh, ops.acosh, ops.atanh
    arcsin, arccos, arctan, arcsinh, arccosh, arctanh = asin, acos, atan, asinh, acosh, atanh
    sigmoid, erf, erfinv, relu = ops.sigmoid, ops.erf, ops.erfinv, ops.relu
    floor, ceil, trunc, fix = ops.floor, ops.ceil, ops.trunc, ops.trunc
    isnan, isinf, isfinite = ops.isnan, ops.isinf, ops.isfinite
    logical_not, bitwise_not = ops.logical_not, ops.bitwise_not
    mul = multiply = ops.multiply
    true_divide = ops.divide
    floor_divide, remainder, pow = ops.floor_divide, ops.remainder, ops.pow
    maximum, minimum, atan2, arctan2, logaddexp = ops.maximum, ops.minimum, ops.atan2, ops.atan2, ops.logaddexp
    eq, ne, not_equal = ops.equal, ops.not_equal, ops.not_equal
    lt = less = ops.less
    le = less_equal = ops.less_equal
    gt = greater = ops.greater
    ge = greater_equal = ops.greater_equal
    logical_and, logical_or, logical_xor = ops.logical_and, ops.logical_or, ops.logical_xor
    bitwise_and, bitwise_or, bitwise_xor = ops.bitwise_and, ops.bitwise_or, ops.bitwise_xor

    # ------------------------------------------------------------------------------------ elementwise, with options

    def add(self, other: Any, *, alpha: float = 1) -> Any:
        """`self + alpha * other`."""
        return ops.add(self, other if alpha == 1 else other * alpha)

    def sub(self, other: Any, *, alpha: float = 1) -> Any:
        """`self - alpha * other`."""
        return ops.subtract(self, other if alpha == 1 else other * alpha)

    subtract = sub

    def div(self, other: Any, *, rounding_mode: str | None = None) -> Any:
        """`self / other`; "trunc" rounds towards zero, "floor" down, and integers then stay integers."""
        if rounding_mode is None:
            return ops.divide(self, other)
        if rounding_mode == "floor":
            return ops.floor_divide(self, other)
        if rounding_mode != "trunc":
            raise OptionError(
                f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'"
            )
        if (
            self.dtype.kind == "float"
            or isinstance(other, float)
            or (isinstance(other, tape.Tensor) and other.dtype.kind == "float")
        ):
            return ops.trunc(ops.divide(self, other))
        down = ops.floor_divide(self, other)  # floor, one too low where signs differ and something is left
        return down + ops.logical_and(ops.remainder(self, other) != 0, down < 0).to(down.dtype)

    divide = div

    def square(self) -> Any:
        """`self * self`; of bools in int64."""
        return ops.square(self.long() if self.dtype.kind == "bool" else self)

    def exp2(self) -> Any:
        """2 to the power of each element."""
        return ops.exp(ops.multiply(self, math.log(2.0)))

    def log10(self) -> Any:
        """The logarithm to base 10."""
        return ops.log(self) / math.log(10.0)

    def erfc(self) -> Any:
        """`1 - erf(self)`."""
        return 1 - ops.erf(self)

    def frac(self) -> Any:
        """What is left of each element without its integer part."""
        return self - ops.trunc(self)

    def round(self, *, decimals: int = 0) -> Any:
        """Rounded, half to even, to a number of decimals."""
        if self.dtype.kind != "float":
            return self.clone()
        if not decimals:
            return ops.round(self)
        scale = 10.0 ** builtin_abs(decimals)
        if decimals > 0:
            return ops.divide(ops.round(ops.multiply(self, scale)), scale)
        return ops.multiply(ops.round(ops.divide(self, scale)), scale)

    def clamp(self, min: Any = None, max: Any = None) -> Any:
        """Held between two bounds, numbers or Tensors; None is no bound. With min > max it is max."""
        if min is None and max is None:
            raise OptionError("clamp: At least one of 'min' or 'max' must not be None")
        x = self
        if not isinstance(min, tape.Tensor) and not isinstance(max, tape.Tensor):
            if x.dtype.kind != "float" and (isinstance(min, float) or isinstance(max, float)):
                x = x.to(default_dtype())
            return ops.clip(x, min=min, max=max)
        if min is not None:
            x = ops.where(ops.less(x, min), min, x)
        return x if max is None else ops.where(ops.greater(x, max), max, x)

    clip = clamp

    def clamp_min(self, min: Any) -> Any:
        """At least `min`."""
        return self.clamp(min=min)

    def clamp_max(self, max: Any) -> Any:
        """At most `max`."""
        return self.clamp(max=max)

    def lerp(self, end: Any, weight: Any) -> Any:
        """`self + weight * (end - self)`, from the nearer end where the weight is a number: with weight 1 it is `end`."""
        if isinstance(weight, (int, float)) and weight >= 0.5:
            return end - (end - self) * (1 - weight)
        return self + weight * (end - self)

    def addcmul(self, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
        """`self + value * tensor1 * tensor2`."""
        product = ops.multiply(tensor1, tensor2)
        return self + (product if value == 1 else product * value)

    def addcdiv(self, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
        """`self + value * tensor1 / tensor2`."""
        quotient = ops.divide(tensor1, tensor2)
        return self + (quotient if value == 1 else quotient * value)

    def where(self, condition: Any, other: Any) -> Any:
        """The elements where the condition holds, those of `other` elsewhere."""
        return ops.where(condition, self, other)

    def masked_fill(self, mask: Any, value: Any) -> Any:
        """The elements with `value`, a number or 0-d Tensor, where the mask (bool) holds; the dtype stays."""
        if mask.dtype.kind != "bool":
            raise DTypeError(
                f"masked_fill_ only supports boolean masks, but got mask with dtype {torch_name(mask.dtype)}"
            )
        if isinstance(value, tape.Tensor):
            if value.ndim:
                raise ShapeError(
                    f"masked_fill_ only supports a 0-dimensional value tensor, "
                    f"but got tensor with {value.ndim} dimension(s)."
                )
            return ops.where(mask, value.to(self.dtype), self)
        if self.dtype.kind != "float":
            value = bool(value) if self.dtype.kind == "bool" else int(value)
        return ops.masked_fill(self, mask, value=value)

    def isclose(self, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Any:
        """Elementwise `|self - other| <= atol + rtol * |other|`; equal infinities are close, NaNs on request."""
        close = ops.equal(self, other)
        if self.dtype.kind == "float":
            near = ops.less_equal(ops.abs(self - other), atol + rtol * ops.abs(other))
            close = ops.logical_or(close, ops.logical_and(near, ops.isfinite(other)))
            if equal_nan:
                close = ops.logical_or(close, ops.logical_and(ops.isnan(self), ops.isnan(other)))
            return close
        return (
            ops.less_equal(ops.abs(self - other), atol + rtol * ops.abs(other)) if self.dtype.kind != "bool" else close
        )

    def allclose(self, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
        """Whether all elements are close, see `isclose`."""
        return bool(ops.all(self.isclose(other, rtol, atol, equal_nan)).item())

    def equal(self, other: Any) -> bool:
        """Whether two Tensors have the same shape and elements."""
        return tuple(self.shape) == tuple(other.shape) and bool(ops.all(ops.equal(self, other)).item())

    # ---------------------------------------------------------------------------------------------- reductions

    @named
    def sum(self, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
        """The sum over `dim`: None (all), an int or a tuple. Integers and bools sum in int64.

        Example:
            >>> import gradloom as gl
            >>> gl.ones(2, 3).sum(dim=1)
            tensor([3., 3.])
        """
        x = self if dtype is None else self.to(dtype)
        out = ops.sum(x, axis=axes(dim, x.ndim), keepdims=keepdim)
        return out if dtype is None else out.to(dtype)

    @named
    def mean(self, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
        """The mean over `dim`: None (all), an int or a tuple; of floats."""
        x = self if dtype is None else self.to(dtype)
        floating(x, "mean")
        return ops.mean(x, axis=axes(dim, x.ndim), keepdims=keepdim)

    @named
    def prod(self, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
        """The product over one dimension, or all."""
        x = self if dtype is None else self.to(dtype)
        out = ops.prod(x, axis=None if dim is None else axes(axis(dim, x.ndim), x.ndim), keepdims=keepdim)
        return out if dtype is None else out.to(dtype)

    @named
    def amax(self, dim: Any = None, keepdim: bool = False) -> Any:
        """The largest elements over `dim`; equal ones share the gradient."""
        _none_left(self, dim, "amax")
        return ops.amax(self, axis=axes(dim, self.ndim), keepdims=keepdim)

    @named
    def amin(self, dim: Any = None, keepdim: bool = False) -> Any:
        """The smallest elements over `dim`; equal ones share the gradient."""
        _none_left(self, dim, "amin")
        return ops.amin(self, axis=axes(dim, self.ndim), keepdims=keepdim)

    @named
    def max(self, dim: Any = None, keepdim: bool = False) -> Any:
        """The largest element; with `dim` (values, indices) along it; with another Tensor the elementwise maximum."""
        return self._extreme("max", ops.amax, ops.max, ops.maximum, dim, keepdim)

    @named
    def min(self, dim: Any = None, keepdim: bool = False) -> Any:
        """The smallest element; with `dim` (values, indices) along it; with another Tensor the elementwise minimum."""
        return self._extreme("min", ops.amin, ops.min, ops.minimum, dim, keepdim)

    def _extreme(self, name: str, whole: Callable, pair: Callable, other: Callable, dim: Any, keepdim: bool) -> Any:
        if isinstance(dim, tape.Tensor):
            return other(self, dim)
        _none_left(self, dim, name)
        if dim is None:
            return whole(self)
        return along(self, dim, lambda x, d: Extreme(*pair(x, axis=d, keepdims=keepdim or not self.ndim)))

    @named
    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """The index of the largest element along `dim` (of equal ones the first), or in the flattened Tensor."""
        _none_left(self, dim, "argmax")
        return ops.argmax(self, axis=None if dim is None else axes(dim, self.ndim), keepdims=keepdim)

    @named
    def argmin(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """The index of the smallest element along `dim` (of equal ones the first), or in the flattened Tensor."""
        _none_left(self, dim, "argmin")
        return ops.argmin(self, axis=None if dim is None else axes(dim, self.ndim), keepdims=keepdim)

    @named
    def any(self, dim: Any = None, keepdim: bool = False) -> Any:
        """Whether an element is non-zero."""
        return ops.any(self, axis=axes(dim, self.ndim), keepdims=keepdim)

    @named
    def all(self, dim: Any = None, keepdim: bool = False) -> Any:
        """Whether all elements are non-zero."""
        return ops.all(self, axis=axes(dim, self.ndim), keepdims=keepdim)

    @named
    def var(
        self, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
    ) -> Any:
        """The variance: squared differences from the mean over n - correction (default 1; 0 with `unbiased=False`)."""
        dim, correction = _corrected(self, "var", dim, unbiased, correction)
        return ops.var(self, axis=dim, correction=correction, keepdims=keepdim)

    @named
    def std(
        self, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
    ) -> Any:
        """The root of the variance, see `var`; the gradient where it is 0 is 0."""
        dim, correction = _corrected(self, "std", dim, unbiased, correction)
        count = math.prod(
            self.shape[d] for d in ((dim,) if isinstance(dim, int) else range(self.ndim) if dim is None else dim)
        )
        spread = ops.norm(self - ops.mean(self, axis=dim, keepdims=True), axis=dim, keepdims=keepdim)
        free = count - correction
        return spread / math.sqrt(free) if free > 0 else spread * math.inf * 0.0

    @named
    def norm(self, p: Any = "fro", dim: Any = None, keepdim: bool = False) -> Any:
        """The vector norm over `dim`, `sum(|x| ** p) ** (1 / p)`; "fro" is 2."""
        floating(self, "norm")
        if isinstance(p, str) and p != "fro":
            raise OptionError(explain(f"norm does not support p={p!r}", expected="a number or 'fro'", given=repr(p)))
        p = 2 if p is None or p == "fro" else float(p)
        if p == math.inf or p == -math.inf:
            _none_left(self, dim, "norm")
        return ops.norm(self, ord=p, axis=axes(dim, self.ndim), keepdims=keepdim)

    @named
    def logsumexp(self, dim: Any, keepdim: bool = False) -> Any:
        """`log(sum(exp(self)))` over `dim`, without overflow."""
        return ops.logsumexp(self, axis=axes(dim, self.ndim), keepdims=keepdim)

    # --------------------------------------------------------------------------------------- along one dimension

    @named
    def softmax(self, dim: int, dtype: Any = None) -> Any:
        """`exp(self)` scaled to sum 1 along `dim`."""
        x = self if dtype is None else self.to(dtype)
        return along(x, dim, lambda x, d: ops.softmax(x, axis=d) if x.numel() else x * 1)

    @named
    def log_softmax(self, dim: int, dtype: Any = None) -> Any:
        """The logarithm of `softmax`."""
        x = self if dtype is None else self.to(dtype)
        return along(x, dim, lambda x, d: ops.log_softmax(x, axis=d) if x.numel() else x * 1)

    @named
    def cumsum(self, dim: int, *, dtype: Any = None) -> Any:
        """The sums up to each element along `dim`; of integers in int64."""
        x = self if dtype is None else self.to(dtype)
        x = x if x.dtype.kind == "float" or dtype is not None else x.long()
        out = along(x, dim, lambda x, d: ops.cumsum(x, axis=d))
        return out if dtype is None else out.to(dtype)

    @named
    def cumprod(self, dim: int, *, dtype: Any = None) -> Any:
        """The products up to each element along `dim`; of integers in int64."""
        x = self if dtype is None else self.to(dtype)
        x = x if x.dtype.kind == "float" or dtype is not None else x.long()
        out = along(x, dim, lambda x, d: ops.cumprod(x, axis=d))
        return out if dtype is None else out.to(dtype)

    @named
    def sort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> Any:
        """The elements in order along `dim`, and where they were: (values, indices). Always stable."""

        def run(x, d):
            order = ops.argsort(x, axis=d, descending=descending)
            return Extreme(ops.take_along_axis(x, order, axis=d), order)

        return along(self, dim, run)

    @named
    def argsort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> Any:
        """The indices that put the elements in order along `dim`. Always stable."""
        return along(self, dim, lambda x, d: ops.argsort(x, axis=d, descending=descending))

    @named
    def topk(self, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
        """The k largest (or smallest) elements along `dim` and their indices, in order."""

        def run(x, d):
            if not 0 <= k <= x.shape[d]:
                raise ShapeError(
                    explain(
                        "selected index k out of range",
                        expected=f"0 <= k <= {x.shape[d]}, the size of dimension {d}",
                        given=f"k={k}",
                    )
                )
            order = ops.argsort(x, axis=d, descending=largest).narrow(d, 0, k).clone()
            return Extreme(ops.take_along_axis(x, order, axis=d), order)

        return along(self, dim, run)

    @named
    def diff(self, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
        """The differences of neighbours along `dim`, n times, of self between `prepend` and `append`; of bools: unequal."""
        if not self.ndim:
            raise ShapeError("diff expects input to be at least one-dimensional")
        if n < 0:
            raise OptionError(f"order must be non-negative but got {n}")
        d = axis(dim, self.ndim)
        parts = [t for t in (prepend, self, append) if t is not None]
        x = ops.concat(*parts, axis=d) if len(parts) > 1 and n else self
        change = ops.not_equal if self.dtype.kind == "bool" else ops.subtract
        for _ in range(builtin_min(n, x.shape[d])):
            size = builtin_max(x.shape[d] - 1, 0)
            x = change(x.narrow(d, x.shape[d] - size, size), x.narrow(d, 0, size))
        return x if x is not self else x.clone()

    # ------------------------------------------------------------------------------------------------- products

    matmul = ops.matmul

    def mm(self, mat2: Any) -> Any:
        """The product of two matrices."""
        if self.ndim != 2 or mat2.ndim != 2:
            raise ShapeError(f"mm takes two matrices, not {self.ndim}D and {mat2.ndim}D tensors")
        if self.shape[1] != mat2.shape[0]:
            a, b = "x".join(map(str, self.shape)), "x".join(map(str, mat2.shape))
            raise ShapeError(f"mat1 and mat2 shapes cannot be multiplied ({a} and {b})")
        return ops.matmul(self, mat2)

    def mv(self, vec: Any) -> Any:
        """The product of a matrix and a vector."""
        if self.ndim != 2 or vec.ndim != 1:
            raise ShapeError(f"mv takes a matrix and a vector, not {self.ndim}D and {vec.ndim}D tensors")
        return ops.matmul(self, vec)

    def dot(self, other: Any) -> Any:
        """The sum of the products of two vectors."""
        if self.ndim != 1 or other.ndim != 1:
            raise ShapeError(f"1D tensors expected, but got {self.ndim}D and {other.ndim}D tensors")
        return ops.matmul(self, other)

    def inner(self, other: Any) -> Any:
        """The sums of products over the last dimensions; a 0-d Tensor multiplies."""
        if not self.ndim or not other.ndim:
            return ops.multiply(self, other)
        if self.shape[-1] != other.shape[-1]:
            raise ShapeError(
                "inner() the last dimension must match on both input tensors but got shapes "
                f"{list(self.shape)} and {list(other.shape)}"
            )
        k, shape = self.shape[-1], (*self.shape[:-1], *other.shape[:-1])
        rows = math.prod(self.shape[:-1]), math.prod(other.shape[:-1])
        return ops.matmul(self.reshape(rows[0], k), other.reshape(rows[1], k).t()).reshape(shape)

    def bmm(self, mat2: Any) -> Any:
        """The products of two batches of matrices, (b, m, k) and (b, k, n)."""
        if self.ndim != 3 or mat2.ndim != 3 or self.shape[0] != mat2.shape[0]:
            raise ShapeError(
                f"bmm takes two batches of matrices of one length, not {list(self.shape)} and {list(mat2.shape)}"
            )
        return ops.matmul(self, mat2)

    def outer(self, vec2: Any) -> Any:
        """The products of all pairs of two vectors' elements."""
        if self.ndim != 1 or vec2.ndim != 1:
            raise ShapeError(f"outer: Expected 1-D argument self, but got {builtin_max(self.ndim, vec2.ndim)}-D")
        return ops.outer(self, vec2)

    def addmm(self, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
        """`beta * self + alpha * mat1 @ mat2`."""
        product = mat1.mm(mat2)
        return (self if beta == 1 else ops.multiply(self, beta)) + (product if alpha == 1 else product * alpha)

    trace = ops.trace

    # --------------------------------------------------------------------------------------------- what it is not

    def as_strided(self, size: Any, stride: Any, storage_offset: int | None = None) -> Any:
        """Refused: engines do not show how memory is laid out."""
        raise OptionError(
            explain(
                "as_strided is not supported: not every backend shows its memory",
                do="use narrow, transpose, expand or an index, which give views on all of them",
            )
        )

    def cuda(self, device: Any = None) -> Any:
        """On an NVIDIA GPU, where the backend sees one."""
        return self.to("cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else device)


builtin_abs, builtin_max, builtin_min = abs, max, min


def _corrected(x: Any, name: str, dim: Any, unbiased: bool, correction: float | None) -> tuple:
    if isinstance(dim, bool):  # var(False)
        dim, unbiased = None, dim
    floating(x, name)
    return axes(dim, x.ndim), (int(unbiased) if correction is None else correction)
