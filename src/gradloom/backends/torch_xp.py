"""PyTorch as the array namespace `xp`, and its dtypes.

The functions are differentiable by PyTorch's own autograd, which follows them where an operand requires a gradient.
sign(NaN) is 0 here (NumPy: NaN).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from ..dtypes import dtype
from ..ops.namespace import INDEX, fill


@functools.cache
def to_torch_dtype(d: Any) -> torch.dtype:
    """PyTorch's dtype for a gradloom dtype (or anything that `dtype()` takes)."""
    return getattr(torch, dtype(d).name)


#: Floats as integers of their size.
_BITS = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}


class xp:
    """PyTorch under the names of `namespace.NAMESPACE`."""

    # The functions that PyTorch has under the same meaning (those of two operands take a scalar in either place).
    abs, negative, sign, reciprocal, square = torch.abs, torch.neg, torch.sign, torch.reciprocal, torch.square
    sqrt, rsqrt, exp, expm1 = torch.sqrt, torch.rsqrt, torch.exp, torch.expm1
    log, log1p, log2 = torch.log, torch.log1p, torch.log2
    sin, cos, tan, asin, acos, atan = torch.sin, torch.cos, torch.tan, torch.asin, torch.acos, torch.atan
    sinh, cosh, tanh, asinh, acosh, atanh = torch.sinh, torch.cosh, torch.tanh, torch.asinh, torch.acosh, torch.atanh
    sigmoid, erf, erfinv = torch.sigmoid, torch.erf, torch.erfinv
    floor, ceil, round, trunc = torch.floor, torch.ceil, torch.round, torch.trunc
    isnan, isinf, isfinite = torch.isnan, torch.isinf, torch.isfinite
    logical_not, bitwise_not = torch.logical_not, torch.bitwise_not
    add, subtract, multiply, divide = torch.add, torch.sub, torch.mul, torch.div
    floor_divide, remainder, pow = torch.floor_divide, torch.remainder, torch.pow
    bitwise_and, bitwise_or, bitwise_xor = torch.bitwise_and, torch.bitwise_or, torch.bitwise_xor
    matmul = torch.matmul

    @staticmethod
    def dtype(x):
        return dtype(x.dtype)

    @staticmethod
    def zeros(*, shape, dtype, like=None):
        return torch.zeros(shape, dtype=to_torch_dtype(dtype), device=None if like is None else like.device)

    @staticmethod
    def ones(*, shape, dtype, like=None):
        return torch.ones(shape, dtype=to_torch_dtype(dtype), device=None if like is None else like.device)

    @staticmethod
    def full(*, shape, value, dtype, like=None):
        return torch.full(shape, value, dtype=to_torch_dtype(dtype), device=None if like is None else like.device)

    @staticmethod
    def arange(*, start, stop, step=1, dtype, like=None):
        # PyTorch refuses an empty range whose step points away from the stop.
        if (stop - start) * step <= 0:
            stop = start
        device = None if like is None else like.device
        return torch.arange(start, stop, step, dtype=to_torch_dtype(dtype), device=device)

    @staticmethod
    def eye(*, n, m=None, dtype, like=None):
        device = None if like is None else like.device
        return torch.eye(n, n if m is None else m, dtype=to_torch_dtype(dtype), device=device)

    @staticmethod
    def zeros_like(x, *, dtype=None):
        return torch.zeros(x.shape, dtype=x.dtype if dtype is None else to_torch_dtype(dtype), device=x.device)

    @staticmethod
    def ones_like(x, *, dtype=None):
        return torch.ones_like(x, dtype=None if dtype is None else to_torch_dtype(dtype))

    @staticmethod
    def astype(x, *, dtype):
        return x.to(to_torch_dtype(dtype))

    @staticmethod
    def where(condition, x, y):
        # On the CPU PyTorch takes a branch for each element: without a pattern in the condition it is 15 times slower
        # than a product of integers, which is exact also of infinities and NaN, but has no gradient.
        if type(y) is int and y == 0 and isinstance(x, torch.Tensor) and x.numel() > 2000 and x.device.type == "cpu":
            bits = _BITS.get(x.dtype)
            if bits is not None and condition.dtype is torch.bool and not followed(x):
                return (x.view(bits) * condition).view(x.dtype)
        return torch.where(condition, x, y)

    # PyTorch wants Tensors for both operands of these; `a == b` of Tensors and scalars is its own.

    @staticmethod
    def maximum(x, y):
        if not isinstance(x, torch.Tensor):
            x, y = y, x
        if not isinstance(x, torch.Tensor):
            return max(x, y)  # scalars of a step are Python numbers
        return torch.maximum(x, y) if isinstance(y, torch.Tensor) else torch.clamp(x, min=y)

    @staticmethod
    def minimum(x, y):
        if not isinstance(x, torch.Tensor):
            x, y = y, x
        if not isinstance(x, torch.Tensor):
            return min(x, y)
        return torch.minimum(x, y) if isinstance(y, torch.Tensor) else torch.clamp(x, max=y)

    @staticmethod
    def atan2(x, y):
        return torch.atan2(*tensors(x, y))

    @staticmethod
    def logaddexp(x, y):
        return torch.logaddexp(*tensors(x, y))

    @staticmethod
    def logical_and(x, y):
        return torch.logical_and(*tensors(x, y))

    @staticmethod
    def logical_or(x, y):
        return torch.logical_or(*tensors(x, y))

    @staticmethod
    def logical_xor(x, y):
        return torch.logical_xor(*tensors(x, y))

    @staticmethod
    def equal(x, y):
        return x == y

    @staticmethod
    def not_equal(x, y):
        return x != y

    @staticmethod
    def less(x, y):
        return x < y

    @staticmethod
    def less_equal(x, y):
        return x <= y

    @staticmethod
    def greater(x, y):
        return x > y

    @staticmethod
    def greater_equal(x, y):
        return x >= y

    # Reductions: PyTorch reads an empty tuple of axes as all of them.

    @staticmethod
    def sum(x, *, axis=None, keepdims=False):
        if axis == ():
            return x + 0 if x.is_floating_point() else x.to(torch.int64)
        return torch.sum(x, dim=axis, keepdim=keepdims)

    @staticmethod
    def prod(x, *, axis=None, keepdims=False):
        for i in every(x, axis):  # PyTorch has it for one axis
            x = torch.prod(x, dim=i, keepdim=True)
        if not keepdims:
            x = x.squeeze(every(x, axis))
        return x if x.is_floating_point() else x.to(torch.int64)

    @staticmethod
    def amax(x, *, axis=None, keepdims=False):
        return x if axis == () else torch.amax(x, dim=() if axis is None else axis, keepdim=keepdims)

    @staticmethod
    def amin(x, *, axis=None, keepdims=False):
        return x if axis == () else torch.amin(x, dim=() if axis is None else axis, keepdim=keepdims)

    @staticmethod
    def any(x, *, axis=None, keepdims=False):
        # Of uint8 PyTorch gives uint8.
        return (x if axis == () else torch.any(x, dim=axis, keepdim=keepdims)).to(torch.bool)

    @staticmethod
    def all(x, *, axis=None, keepdims=False):
        return (x if axis == () else torch.all(x, dim=axis, keepdim=keepdims)).to(torch.bool)

    @staticmethod
    def mean(x, *, axis=None, keepdims=False):
        return x if axis == () else torch.mean(x, dim=axis, keepdim=keepdims)

    @staticmethod
    def logsumexp(x, *, axis=None, keepdims=False):
        return x if axis == () else torch.logsumexp(x, dim=every(x, axis), keepdim=keepdims)

    @staticmethod
    def argmax(x, *, axis=None, keepdims=False):
        return torch.argmax(x.to(torch.uint8) if x.dtype is torch.bool else x, dim=axis, keepdim=keepdims)

    @staticmethod
    def argmin(x, *, axis=None, keepdims=False):
        return torch.argmin(x.to(torch.uint8) if x.dtype is torch.bool else x, dim=axis, keepdim=keepdims)

    @staticmethod
    def cumsum(x, *, axis):
        return torch.cumsum(x, dim=axis)

    @staticmethod
    def cumprod(x, *, axis):
        return torch.cumprod(x, dim=axis)

    @staticmethod
    def sort(x, *, axis=-1, descending=False):
        return torch.sort(x, dim=axis, descending=descending, stable=True).values

    @staticmethod
    def argsort(x, *, axis=-1, descending=False):
        return torch.argsort(x, dim=axis, descending=descending, stable=True)

    @staticmethod
    def einsum(*arrays, equation):
        return torch.einsum(equation, *arrays)

    @staticmethod
    def reshape(x, *, shape):
        return x.reshape(shape)

    @staticmethod
    def transpose(x, *, axes):
        return x.permute(axes)

    @staticmethod
    def broadcast_to(x, *, shape):
        return torch.broadcast_to(x, shape)

    @staticmethod
    def expand_dims(x, *, axis):
        if isinstance(axis, int):
            return x.unsqueeze(axis)
        n = x.ndim + len(axis)
        for i in sorted(a % n for a in axis):
            x = x.unsqueeze(i)
        return x

    @staticmethod
    def squeeze(x, *, axis):
        return x.squeeze(axis)

    @staticmethod
    def concat(*arrays, axis):
        return torch.cat(arrays, axis)

    @staticmethod
    def stack(*arrays, axis):
        return torch.stack(arrays, axis)

    @staticmethod
    def flip(x, *, axis):
        return torch.flip(x, (axis,) if isinstance(axis, int) else axis)

    @staticmethod
    def roll(x, *, shift, axis):
        return torch.roll(x, shift, axis)

    @staticmethod
    def pad(x, *, widths, value=0):
        return torch.nn.functional.pad(x, [n for pair in reversed(widths) for n in pair], value=value)

    @staticmethod
    def repeat(x, *, repeats, axis):
        return torch.repeat_interleave(x, repeats, dim=axis)

    @staticmethod
    def tril(x, *, k=0):
        return torch.tril(x, k)

    @staticmethod
    def triu(x, *, k=0):
        return torch.triu(x, k)

    @staticmethod
    def windows(x, *, size, stride, dilation):
        first = x.ndim - len(size)
        for i, (s, t, d) in enumerate(zip(size, stride, dilation, strict=True)):
            x = x.unfold(first + i, d * (s - 1) + 1, t)[..., ::d]  # a view
        return x

    @staticmethod
    def fold(x, *, shape, size, stride, dilation):
        k = len(size)
        out = x.new_zeros(shape)
        counts = x.shape[x.ndim - 2 * k : x.ndim - k]
        for offset in np.ndindex(*size):
            where = tuple(
                slice(o * d, o * d + t * (n - 1) + 1, t)
                for o, d, t, n in zip(offset, dilation, stride, counts, strict=True)
            )
            out[(..., *where)] += x[(..., *offset)]
        return out

    @staticmethod
    def getitem(x, *indices, key):
        x, key, _ = forward_steps(x, key, indices)
        return x[fill(*with_integers(key, indices))]

    @staticmethod
    def put(x, value, *indices, key):
        x, key, flipped = forward_steps(x, key, indices)
        out = x.clone()
        out[fill(*with_integers(key, indices))] = value
        return out.flip(flipped) if flipped else out

    @staticmethod
    def add_at(x, value, *indices, key):
        if not indices:
            x, key, flipped = forward_steps(x, key, indices)
            out = x.clone()
            out[key] += value
            return out.flip(flipped) if flipped else out
        value = torch.as_tensor(value, dtype=x.dtype, device=x.device)
        # index_put(accumulate=True) takes no slices, and 100 times as long as index_add.
        if key == (INDEX,) and indices[0].dtype is not torch.bool:
            rows, shape = indices[0] % x.shape[0], x.shape[1:]
            return x.index_add(0, rows.reshape(-1), value.expand(rows.shape + shape).reshape(-1, *shape))
        places = torch.arange(x.numel(), device=x.device).reshape(x.shape)
        places = xp.getitem(places, *indices, key=key)
        return x.reshape(-1).index_add(0, places.reshape(-1), value.expand(places.shape).reshape(-1)).reshape(x.shape)

    @staticmethod
    def take(x, indices, *, axis):
        return x[(slice(None),) * (axis % x.ndim) + (indices,)]

    @staticmethod
    def take_along_axis(x, indices, *, axis):
        return torch.gather(x, axis, indices.to(torch.int64))

    @staticmethod
    def scatter_add(x, indices, values, *, axis):
        return torch.scatter_add(x, axis, indices.to(torch.int64), values)


def followed(x: torch.Tensor) -> bool:
    """Whether PyTorch differentiates what is done with x, or maps it over an axis."""
    return (
        x.requires_grad
        or torch.autograd.forward_ad._current_level >= 0
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


def tensors(x: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Both operands as Tensors; a Python scalar takes the dtype of the other."""
    if not isinstance(x, torch.Tensor):
        return torch.full((), x, dtype=y.dtype, device=y.device), y
    if not isinstance(y, torch.Tensor):
        return x, torch.full((), y, dtype=x.dtype, device=x.device)
    return x, y


def every(x: torch.Tensor, axis: Any) -> tuple[int, ...]:
    """The axes as a tuple; None is all."""
    return tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis


def with_integers(key: tuple, indices: tuple) -> tuple[tuple, tuple]:
    """Next to an index array an integer counts as one, as in NumPy; PyTorch takes integers and 0-d arrays first."""
    if all(i.ndim == 0 for i in indices):
        return key, indices
    if not any(isinstance(k, int) for k in key) and all(i.ndim for i in indices):
        return key, indices
    device = indices[0].device
    key = tuple(torch.tensor([k], device=device) if isinstance(k, int) else k for k in key)
    return key, tuple(i if i.ndim else i.reshape(1) for i in indices)


def forward_steps(x: torch.Tensor, key: tuple, indices: tuple) -> tuple[torch.Tensor, tuple, list[int]]:
    """PyTorch has no slices of negative step: x flipped on their axes, the key that then picks the same, the axes."""
    if not any(isinstance(k, slice) and k.step is not None and k.step < 0 for k in key):
        return x, key, []
    rest = iter(indices)
    # How many axes of x each entry takes.
    spans = [
        0
        if k is None or k is Ellipsis
        else 1
        if k is not INDEX
        else i.ndim
        if (i := next(rest)).dtype is torch.bool
        else 1
        for k in key
    ]
    new, axis, flipped = [], 0, []
    for k, span in zip(key, spans, strict=True):
        if k is Ellipsis:
            axis += x.ndim - sum(spans)
        elif isinstance(k, slice) and k.step is not None and k.step < 0:
            start, stop, step = k.indices(n := x.shape[axis])
            flipped.append(axis)
            k = slice(n - 1 - start, n - 1 - stop, -step) if start > stop else slice(0, 0)
        axis += span
        new.append(k)
    return x.flip(flipped), tuple(new), flipped
