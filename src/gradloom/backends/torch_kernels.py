"""PyTorch's own functions for ops, vjps and update rules; the table `KERNELS` has them by name.

Their parameters are those of the op or vjp. As their text is printed into emitted source, they refer only to `torch`,
`xp` and functions. Batch norm, pooling and attention have none: on the CPU the bodies are faster.
"""

from __future__ import annotations

import torch

from ..ops.conv import conv_shape
from ..ops.loss_checks import check_classes
from ..ops.norm import _check_channels, _check_trailing
from ..ops.op import REGISTRY, VJPS
from .torch_xp import followed, xp


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


def relu(x):
    return torch.relu(x)  # not clamp: where PyTorch's own autograd goes through it, the gradient at 0 is 0


def relu_vjp_x(g, out):
    return torch.ops.aten.threshold_backward(g, out, 0)


def leaky_relu(x, *, negative_slope=0.01):
    return torch.nn.functional.leaky_relu(x, negative_slope)


def leaky_relu_vjp_x(g, x, *, negative_slope):
    return torch.ops.aten.leaky_relu_backward(g, x, negative_slope, False)


gelu_body = REGISTRY["gelu"].body


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
    if mean.dtype is not x.dtype:  # of float16 and bfloat16 the statistics are float32
        wide = None if weight is None else weight.to(mean.dtype)
        made = batch_norm_vjp_x_weight_bias(g.to(mean.dtype), x.to(mean.dtype), wide, mean, var, eps=eps)
        return tuple(d.to(x.dtype) for d in made)
    return torch.ops.aten.native_batch_norm_backward(
        g, x, weight, None, None, mean, torch.rsqrt(var + eps), True, eps, [True, True, True]
    )


cross_entropy_body = REGISTRY["cross_entropy"].body
cross_entropy_vjp_body = VJPS["cross_entropy_vjp_input"].body


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
    if input.dtype.itemsize == 2:
        weight = None if weight is None else weight.float()
        return cross_entropy_body(xp, input.float(), target, weight, **options).to(input.dtype)
    return cross_entropy_body(xp, input, target, weight, **options)


def cross_entropy_vjp_input(g, input, target, weight, *, ignore_index, label_smoothing, reduction):
    axis = 1 if input.ndim > 1 else 0
    if weight is not None or label_smoothing or not plain_classes(input, target, axis, ignore_index):
        if input.dtype.itemsize == 2:
            wide = None if weight is None else weight.float()
            d = cross_entropy_vjp_body(
                xp, g.float(), input.float(), target, wide, ignore_index, label_smoothing, reduction
            )
            return d.to(input.dtype)
        return cross_entropy_vjp_body(xp, g, input, target, weight, ignore_index, label_smoothing, reduction)
    index = target.to(torch.int64).unsqueeze(axis)
    g = g.unsqueeze(axis) if reduction == "none" else g / target.numel() if reduction == "mean" else g
    return (torch.softmax(input, axis) * g).scatter_add(axis, index, (-g).expand(index.shape))


def mse_loss_vjp_input(g, input, target, *, reduction):
    return torch.ops.aten.mse_loss_backward(g, input, target, {"none": 0, "mean": 1, "sum": 2}[reduction])


def flat(*arrays):
    if all(x.dim() == 1 for x in arrays):
        return torch.cat(arrays)
    return torch._C._nn.flatten_dense_tensors(arrays)  # a third of the time that views of all of them take


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
        momentum=max(momentum, 1e-38) if momentum_ else 0.0,  # with 0, as schedules may begin, it takes no buffers
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
        conv, conv_vjp_x, conv_vjp_weight, linear, relu, relu_vjp_x, leaky_relu, leaky_relu_vjp_x, gelu, gelu_vjp_x, silu,
        silu_vjp_x, elu, elu_vjp_x, softplus, softplus_vjp_x, sigmoid_vjp_x, tanh_vjp_x, softmax, softmax_vjp_x,
        log_softmax, log_softmax_vjp_x, layer_norm, layer_norm_vjp_x_weight_bias, group_norm,
        batch_norm_vjp_x_weight_bias, cross_entropy, cross_entropy_vjp_input, mse_loss_vjp_input, flat, adam, sgd,
    )
}  # fmt: skip
