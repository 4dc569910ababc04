"""The PyTorch backend: CPU, CUDA, MPS; every dtype that gradloom has.

The functions are differentiable by PyTorch's own autograd, which follows them where an operand requires a gradient.
sign(NaN) is 0 here (NumPy: NaN).
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import numpy as np
import torch

from ..dtypes import DType, bfloat16, dtype, to_numpy_dtype
from ..errors import BackendError, MissingExtraError, explain
from ..ops.conv import conv_shape
from ..ops.loss import check_classes
from ..ops.namespace import INDEX, fill
from ..ops.norm import _check_channels, _check_trailing
from ..ops.op import REGISTRY, VJPS
from .base import Backend, register


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
        return torch.maximum(x, y) if isinstance(y, torch.Tensor) else torch.clamp(x, min=y)

    @staticmethod
    def minimum(x, y):
        if not isinstance(x, torch.Tensor):
            x, y = y, x
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


# Kernels; their parameters are those of the op or vjp. As their text is printed into emitted source, they refer only to
# `torch`, `xp` and functions. Batch norm, pooling and attention have none: on the CPU the bodies are faster.


def padding_of(x, padding):
    """x padded where one side has more than the other, and what is left for PyTorch to pad on both."""
    if all(before == after for before, after in padding):
        return x, [before for before, _ in padding]
    return torch.nn.functional.pad(x, [n for pair in reversed(padding) for n in pair]), [0] * len(padding)


def conv(x, weight, bias=None, *, stride, padding, dilation, groups=1):
    conv_shape(x.shape, weight.shape, None if bias is None else bias.shape, stride, padding, dilation, groups)
    x, pads = padding_of(x, padding)
    return torch.convolution(x, weight, bias, stride, pads, dilation, False, [0] * len(stride), groups)


def conv_vjp_x(g, weight, *, x_shape, stride, padding, dilation, groups):
    k = len(stride)
    same = all(before == after for before, after in padding)
    full = [n if same else n + before + after for n, (before, after) in zip(x_shape[2:], padding, strict=True)]
    x = g.new_empty((*x_shape[:2], *full))  # only its shape is looked at
    pads = [before if same else 0 for before, _ in padding]
    d = torch.ops.aten.convolution_backward(
        g, x, weight, None, stride, pads, dilation, False, [0] * k, groups, [True, False, False]
    )[0]
    inside = [slice(before, before + n) for n, (before, _) in zip(x_shape[2:], padding, strict=True)]
    return d if same else d[(..., *inside)]


def conv_vjp_weight(g, x, *, weight_shape, stride, padding, dilation, groups):
    x, pads = padding_of(x, padding)
    weight = g.new_empty(weight_shape)  # only its shape is looked at
    return torch.ops.aten.convolution_backward(
        g, x, weight, None, stride, pads, dilation, False, [0] * len(stride), groups, [False, True, False]
    )[1]


def linear(x, weight, bias=None):
    return torch.nn.functional.linear(x, weight, bias)


def relu_vjp_x(g, out):
    return torch.ops.aten.threshold_backward(g, out, 0)


def leaky_relu(x, *, negative_slope=0.01):
    return torch.nn.functional.leaky_relu(x, negative_slope)


def leaky_relu_vjp_x(g, x, *, negative_slope):
    return torch.ops.aten.leaky_relu_backward(g, x, negative_slope, False)


gelu_body = REGISTRY["gelu"].forward


def gelu(x, *, approximate="none"):
    if approximate not in ("none", "tanh"):
        return gelu_body(xp, x, approximate=approximate)  # which raises
    return torch.nn.functional.gelu(x, approximate=approximate)


def gelu_vjp_x(g, x, *, approximate):
    return torch.ops.aten.gelu_backward(g, x, approximate=approximate)


def silu(x):
    return torch.nn.functional.silu(x)


def silu_vjp_x(g, x):
    return torch.ops.aten.silu_backward(g, x)


def elu(x, *, alpha=1.0):
    return torch.nn.functional.elu(x, alpha)


def elu_vjp_x(g, x, *, alpha):
    return torch.ops.aten.elu_backward(g, alpha, 1, 1, False, x)


def softplus(x, *, beta=1.0, threshold=20.0):
    return torch.nn.functional.softplus(x, beta, threshold)


def softplus_vjp_x(g, x, *, beta, threshold):
    return torch.ops.aten.softplus_backward(g, x, beta, threshold)


def sigmoid_vjp_x(g, out):
    return torch.ops.aten.sigmoid_backward(g, out)


def tanh_vjp_x(g, out):
    return torch.ops.aten.tanh_backward(g, out)


def softmax(x, *, axis=-1):
    return torch.softmax(x, axis)


def softmax_vjp_x(g, out, *, axis):
    return torch.ops.aten._softmax_backward_data(g, out, axis, out.dtype)


def log_softmax(x, *, axis=-1):
    return torch.log_softmax(x, axis)


def log_softmax_vjp_x(g, out, *, axis):
    return torch.ops.aten._log_softmax_backward_data(g, out, axis, out.dtype)


def layer_norm(x, weight=None, bias=None, *, ndim=1, eps=1e-5):
    _check_trailing("layer_norm", x, ndim, weight=weight, bias=bias)
    return torch.nn.functional.layer_norm(x, x.shape[x.ndim - ndim :], weight, bias, eps)


def layer_norm_vjp_x_weight_bias(g, x, weight, *, ndim, eps):
    shape = x.shape[x.ndim - ndim :]
    weight = torch.ones(shape, dtype=x.dtype, device=x.device) if weight is None else weight
    _, mean, rstd = torch.ops.aten.native_layer_norm(x, shape, weight, None, eps)
    return torch.ops.aten.native_layer_norm_backward(g, x, shape, mean, rstd, weight, weight, [True, True, True])


def group_norm(x, weight=None, bias=None, *, groups, eps=1e-5):
    _check_channels("group_norm", x, groups, weight=weight, bias=bias)
    if weight is None and bias is not None:  # which PyTorch 2.13 cannot
        weight = torch.ones_like(bias)
    return torch.nn.functional.group_norm(x, groups, weight, bias, eps)


def batch_norm_vjp_x_weight_bias(g, x, weight, mean, var, *, eps):
    return torch.ops.aten.native_batch_norm_backward(
        g, x, weight, None, None, mean, torch.rsqrt(var + eps), True, eps, [True, True, True]
    )


cross_entropy_body = REGISTRY["cross_entropy"].forward
cross_entropy_vjp_body = VJPS["cross_entropy_vjp_input"].forward


def plain_classes(input, target, axis, ignore_index):
    """Whether all targets are classes and none is ignored. Not known elsewhere than on the CPU: a look would wait."""
    classes = input.shape[axis]
    if target.device.type != "cpu" or 0 <= ignore_index < classes or target.numel() == 0 or followed(target):
        return False
    low, high = torch.aminmax(target)
    return low.item() >= 0 and high.item() < classes


def cross_entropy(input, target, weight=None, *, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    axis = check_classes("cross_entropy", xp, input, target, weight)
    known = reduction in ("mean", "sum", "none") and 0 <= label_smoothing <= 1
    if known and plain_classes(input, target, axis, ignore_index):
        return torch.nn.functional.cross_entropy(
            input, target.to(torch.int64), weight, label_smoothing=label_smoothing, reduction=reduction
        )
    options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing, "reduction": reduction}
    return cross_entropy_body(xp, input, target, weight, **options)


def cross_entropy_vjp_input(g, input, target, weight, *, ignore_index, label_smoothing, reduction):
    axis = 1 if input.ndim > 1 else 0
    if weight is not None or label_smoothing or not plain_classes(input, target, axis, ignore_index):
        return cross_entropy_vjp_body(xp, g, input, target, weight, ignore_index, label_smoothing, reduction)
    index = target.to(torch.int64).unsqueeze(axis)
    g = g.unsqueeze(axis) if reduction == "none" else g / target.numel() if reduction == "mean" else g
    return (torch.softmax(input, axis) * g).scatter_add(axis, index, (-g).expand(index.shape))


def mse_loss_vjp_input(g, input, target, *, reduction):
    return torch.ops.aten.mse_loss_backward(g, input, target, {"none": 0, "mean": 1, "sum": 2}[reduction])


# Update rules write parameters and state where they lie. PyTorch's kernels run over memory: all of a column contiguous.


def contiguous(column):
    return column if all(map(torch.Tensor.is_contiguous, column)) else [x.contiguous() for x in column]


def adam(params, grads, exp_avg, exp_avg_sq, *rest, amsgrad, maximize, decay):
    """In place. PyTorch's corrections are 1 after infinitely many steps: the given rate and epsilon contain them."""
    *tops, rest1, beta2, _, rate, eps, weight_decay = rest
    columns = [contiguous(column) for column in (params, exp_avg, exp_avg_sq, *tops)]
    if decay is None:
        weight_decay = 0.0
    elif decay == "decoupled":  # PyTorch's is taken times the rate
        weight_decay = (1.0 - weight_decay) / rate if rate else 0.0
    step = torch.full((), float("inf"), dtype=torch.float32, device=params[0].device)
    update = torch._fused_adamw_ if decay == "decoupled" else torch._fused_adam_
    update(
        columns[0],
        contiguous(grads),
        columns[1],
        columns[2],
        columns[3] if amsgrad else [],
        [step] * len(params),
        lr=rate,
        beta1=1.0 - rest1,
        beta2=beta2,
        weight_decay=weight_decay,
        eps=eps,
        amsgrad=amsgrad,
        maximize=maximize,
    )
    return columns


def sgd(params, grads, *rest, momentum_, decay, nesterov, maximize):
    """In place."""
    *buffers, lr, momentum, keep, weight_decay = rest
    columns = [contiguous(column) for column in (params, *buffers)]
    torch._fused_sgd_(
        columns[0],
        contiguous(grads),
        columns[1] if momentum_ else [],
        weight_decay=weight_decay if decay else 0.0,
        momentum=momentum if momentum_ else 0.0,
        lr=lr,
        dampening=1.0 - keep,
        nesterov=nesterov,
        maximize=maximize,
        is_first_step=False,
    )
    return columns


KERNELS = {
    k.__name__: k
    for k in (
        conv, conv_vjp_x, conv_vjp_weight, linear, relu_vjp_x, leaky_relu, leaky_relu_vjp_x, gelu, gelu_vjp_x, silu,
        silu_vjp_x, elu, elu_vjp_x, softplus, softplus_vjp_x, sigmoid_vjp_x, tanh_vjp_x, softmax, softmax_vjp_x,
        log_softmax, log_softmax_vjp_x, layer_norm, layer_norm_vjp_x_weight_bias, group_norm,
        batch_norm_vjp_x_weight_bias, cross_entropy, cross_entropy_vjp_input, mse_loss_vjp_input, adam, sgd,
    )
}  # fmt: skip


class TorchBackend(Backend):
    """PyTorch on any of its devices.

    Example:
        >>> import gradloom as gl
        >>> gl.TorchBackend(dtype="float64", device="cpu")  # doctest: +SKIP
        TorchBackend(dtype=float64, device='cpu')
    """

    name = "torch"
    xp = xp
    fast = KERNELS
    array_types = (torch.Tensor,)
    mutable = True

    def check_device(self, device: Any) -> str:
        if device is None:
            return str(torch.get_default_device()) if hasattr(torch, "get_default_device") else "cpu"
        try:
            torch.empty(0, device=device)
        # What PyTorch raises depends on the device and on how it was built.
        except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
            has = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
            if torch.backends.mps.is_available():
                has.append("mps")
            raise BackendError(
                explain(
                    f"torch has no device {str(device)!r} here",
                    expected=", ".join(map(repr, has)),
                    given=repr(str(device)),
                )
            ) from error
        return str(torch.device(device))

    def native_dtype(self, d: DType) -> torch.dtype:
        return to_torch_dtype(d)

    def from_numpy(self, array: np.ndarray, d: DType | None = None) -> torch.Tensor:
        array = np.asarray(array)
        own = dtype(array.dtype)
        # PyTorch cannot look at foreign byte orders and negative strides, and would write into read-only memory.
        if not array.dtype.isnative or not array.flags.writeable or min(array.strides, default=0) < 0:
            array = array.astype(array.dtype.newbyteorder("="), order="C")
        if own is bfloat16:
            made = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        else:
            made = torch.from_numpy(array)
        return made.to(device=self.device, dtype=to_torch_dtype(own if d is None else d))

    @classmethod
    def to_numpy(cls, array: torch.Tensor) -> np.ndarray:
        """Shares memory on the CPU. bfloat16 needs the package ml_dtypes; without it the result is float32."""
        array = array.detach().cpu()
        if array.dtype is not torch.bfloat16:
            return array.numpy()
        try:
            return array.view(torch.int16).numpy().view(to_numpy_dtype(bfloat16))
        except MissingExtraError:
            return array.to(torch.float32).numpy()

    def from_dlpack(self, array: Any) -> torch.Tensor:
        if isinstance(array, np.ndarray):
            return self.from_numpy(array)
        made = torch.from_dlpack(array)
        dtype(made.dtype)  # raises for one that gradloom does not have
        return made.to(self.device)

    @classmethod
    def copy(cls, array: torch.Tensor) -> torch.Tensor:
        return array.clone()

    @classmethod
    def synchronize(cls, *arrays: torch.Tensor) -> None:
        for kind in {a.device.type for a in arrays}:
            if kind != "cpu":
                getattr(torch, kind).synchronize()

    def context(self) -> contextlib.AbstractContextManager:
        # Where creation functions make arrays. Only entered where it differs: PyTorch runs slower inside.
        if torch.device(self.device) == torch.empty(0).device:
            return contextlib.nullcontext()
        return torch.device(self.device)


register(TorchBackend)
