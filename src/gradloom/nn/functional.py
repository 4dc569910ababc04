"""Layers and losses as functions, with PyTorch's names and arguments. They check and translate; the maths is in ops."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from .. import ops
from ..dtypes import dtype as to_dtype
from ..dtypes import finfo, int64
from ..errors import OptionError, ShapeError, explain
from ..ops.attention import scaled_dot_product_attention as _attention
from ..ops.conv import conv as _conv
from ..ops.loss import binary_cross_entropy as _bce
from ..ops.loss import binary_cross_entropy_with_logits as _bce_logits
from ..ops.loss import cross_entropy as _cross_entropy
from ..ops.loss import cross_entropy_soft as _cross_entropy_soft
from ..ops.loss import huber_loss as _huber
from ..ops.loss import kl_div as _kl_div
from ..ops.loss import l1_loss as _l1
from ..ops.loss import mse_loss as _mse
from ..ops.loss import nll_loss as _nll
from ..ops.loss import smooth_l1_loss as _smooth_l1
from ..ops.norm import batch_norm as _batch_norm
from ..ops.norm import batch_norm_inference as _batch_norm_inference
from ..ops.norm import group_norm as _group_norm
from ..ops.norm import layer_norm as _layer_norm
from ..ops.norm import rms_norm as _rms_norm
from ..ops.pool import adaptive_avg_pool as _adaptive_avg_pool
from ..ops.pool import avg_pool as _avg_pool
from ..ops.pool import max_pool as _max_pool
from ..ops.random import dropout as _dropout
from ..tensor.arrays import backend_name
from ..tensor.grad_mode import no_grad
from ..tensor.inplace import store
from ..tensor.masks import random_mask
from ..tensor.selecting import check_index

linear = ops.linear
sigmoid = ops.sigmoid
tanh = ops.tanh


def each(value: Any, k: int) -> tuple:
    """An option as one value for each of k axes; a sequence of one value stands for all axes too."""
    if isinstance(value, (tuple, list)):
        return tuple(value) * k if len(value) == 1 else tuple(value)
    return (value,) * k


def _given(x: Any, inplace: bool, result: Any) -> Any:
    return store(x, result) if inplace else result


# ------------------------------------------------------------------------------------------------------ linear algebra


def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Any:
    """`input1 @ weight[k] @ input2 + bias[k]` for each k: (..., i), (..., j), (k, i, j) give (..., k)."""
    lead = tuple(input1.shape[:-1])
    if lead != tuple(input2.shape[:-1]):
        raise ShapeError(
            explain(
                "bilinear: the leading axes differ", expected="(..., i) and (..., j)",
                given=f"{list(input1.shape)} and {list(input2.shape)}",
            )
        )  # fmt: skip
    a, b = input1.reshape(-1, input1.shape[-1]), input2.reshape(-1, input2.shape[-1])
    out = ops.einsum(a, weight, b, equation="ni,kij,nj->nk").reshape(*lead, weight.shape[0])
    return out if bias is None else out + bias


def scaled_dot_product_attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    """softmax(query @ key.T * scale + attn_mask) @ value.

    Args:
        query: (..., L, E).
        key, value: (..., S, E) and (..., S, D).
        attn_mask: Broadcasts to (..., L, S): bool, True to attend; or floats, which are added.
        dropout_p: Share of the probabilities that is dropped.
        is_causal: Query i attends to keys 0 to i; not together with a mask.
        scale: Default: 1 / sqrt(E).
        enable_gqa: Axis -3 of key and value may be smaller; each head serves several of query's.

    Returns:
        (..., L, D).
    """
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    lead = np.broadcast_shapes(*(tuple(t.shape[:-2]) for t in (query, key, value)))
    query, key, value = (
        t if tuple(t.shape[:-2]) == lead else t.expand(*lead, *t.shape[-2:]) for t in (query, key, value)
    )
    if not dropout_p:
        return _attention(query, key, value, attn_mask, causal=is_causal, scale=scale)[0]
    if not 0 <= dropout_p <= 1:
        raise OptionError(f"dropout probability has to be between 0 and 1, but got {dropout_p}")
    scores = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        if attn_mask is not None:
            raise OptionError("scaled_dot_product_attention takes attn_mask or is_causal=True, not both")
        attn_mask = ops.tril(ops.ones_like(scores.detach(), dtype="bool"))
    if attn_mask is not None:
        scores = ops.where(attn_mask, scores, -math.inf) if attn_mask.dtype.kind == "bool" else scores + attn_mask
    return dropout(ops.softmax(scores, axis=-1), dropout_p) @ value


# -------------------------------------------------------------------------------------------------------- convolution


def conv(k: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """Convolution over k spatial axes; x (N, C, *L), or (C, *L)."""
    if input.ndim not in (k + 1, k + 2):
        raise ShapeError(
            f"Expected {k + 1}D (unbatched) or {k + 2}D (batched) input to conv{k}d, but got input of size: "
            f"{list(input.shape)}"
        )
    stride, dilation = each(stride, k), each(dilation, k)
    widths: Any
    if padding == "same":
        if any(s != 1 for s in stride):
            raise OptionError("padding='same' is not supported for strided convolutions")
        totals = [d * (s - 1) for d, s in zip(dilation, weight.shape[2:], strict=True)]
        widths = tuple((t // 2, t - t // 2) for t in totals)
    elif padding == "valid":
        widths = ((0, 0),) * k
    elif isinstance(padding, str):
        raise OptionError(f"Invalid padding string {padding!r}, should be one of {{'valid', 'same'}}")
    else:
        widths = tuple((p, p) for p in each(padding, k))
    x = input if input.ndim == k + 2 else input.unsqueeze(0)
    out = _conv(x, weight, bias, stride=stride, padding=widths, dilation=dilation, groups=groups)
    return out if x is input else out.squeeze(0)


def conv1d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Cross-correlation of (N, C, L) with (O, C / groups, k)."""
    return conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Cross-correlation of (N, C, H, W) with (O, C / groups, k, k)."""
    return conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Cross-correlation of (N, C, D, H, W) with (O, C / groups, k, k, k)."""
    return conv(3, input, weight, bias, stride, padding, dilation, groups)


# ------------------------------------------------------------------------------------------------------------ pooling


def no_indices(name: str, return_indices: bool) -> None:
    """Refuses `return_indices`."""
    if return_indices:
        raise OptionError(
            explain(
                f"{name} does not give indices",
                expected="return_indices=False",
                given=f"return_indices={return_indices}",
            )
        )


def _check_pooled(name: str, k: int, x: Any) -> None:
    if x.ndim not in (k + 1, k + 2):
        raise ShapeError(f"{name}{k}d: Expected {k + 1}D or {k + 2}D input, but got input of size {list(x.shape)}")


def max_pool(k: int, input: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Any:
    """The maximum of each window over k spatial axes."""
    _check_pooled("max_pool", k, input)
    size = each(kernel_size, k)
    widths = tuple((p, p) for p in each(padding, k))
    return _max_pool(
        input, size=size, stride=size if stride is None or stride == () else each(stride, k), padding=widths,
        dilation=each(dilation, k), ceil_mode=ceil_mode,
    )  # fmt: skip


def max_pool1d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    """The maximum of each window of (N, C, L)."""
    no_indices("max_pool1d", return_indices)
    return max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    """The maximum of each window of (N, C, H, W)."""
    no_indices("max_pool2d", return_indices)
    return max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool3d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    """The maximum of each window of (N, C, D, H, W)."""
    no_indices("max_pool3d", return_indices)
    return max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool(
    k: int, input: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool,
    divisor_override: int | None = None,
) -> Any:  # fmt: skip
    """The mean of each window over k spatial axes."""
    _check_pooled("avg_pool", k, input)
    if divisor_override == 0:
        raise OptionError("divisor must be not zero")
    size = each(kernel_size, k)
    widths = tuple((p, p) for p in each(padding, k))
    return _avg_pool(
        input, size=size, stride=size if stride is None or stride == () else each(stride, k), padding=widths,
        ceil_mode=ceil_mode, count_include_pad=count_include_pad, divisor=divisor_override,
    )  # fmt: skip


def avg_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """The mean of each window of (N, C, L)."""
    return avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Any:  # fmt: skip
    """The mean of each window of (N, C, H, W)."""
    return avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Any:  # fmt: skip
    """The mean of each window of (N, C, D, H, W)."""
    return avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def adaptive_avg_pool(k: int, input: Any, output_size: Any) -> Any:
    """The means of output_size bins over k spatial axes."""
    _check_pooled("adaptive_avg_pool", k, input)
    return _adaptive_avg_pool(input, output_size=each(output_size, k))


def adaptive_avg_pool1d(input: Any, output_size: Any) -> Any:
    """The means of output_size bins of (N, C, L)."""
    return adaptive_avg_pool(1, input, output_size)


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Any:
    """The means of output_size bins of (N, C, H, W)."""
    return adaptive_avg_pool(2, input, output_size)


def adaptive_avg_pool3d(input: Any, output_size: Any) -> Any:
    """The means of output_size bins of (N, C, D, H, W)."""
    return adaptive_avg_pool(3, input, output_size)


# ------------------------------------------------------------------------------------------------------ normalization


def batch_norm(
    input: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None, training: bool = False,
    momentum: Any = 0.1, eps: float = 1e-05,
) -> Any:  # fmt: skip
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel.

    Args:
        input: (N, C, ...).
        running_mean, running_var: (C,). When training they are updated in place, unless None; else they are used.
        weight, bias: (C,) or None.
        training: Use the batch's statistics.
        momentum: What the new batch counts in the running statistics; a number or 0-d Tensor.
    """
    if input.ndim < 2:
        raise ShapeError(
            explain("batch_norm needs channels", expected="input (N, C, ...)", given=f"{list(input.shape)}")
        )
    if not training:
        return _batch_norm_inference(input, running_mean, running_var, weight, bias, eps=eps)
    n = input.numel() // max(input.shape[1], 1)
    if n == 1:
        raise ShapeError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
    if not input.numel():  # no statistics; PyTorch leaves the running ones as they are
        statistics = input.new_zeros(input.shape[1]), input.new_ones(input.shape[1])
        return _batch_norm_inference(input, *statistics, weight, bias, eps=eps)
    out, mean, var = _batch_norm(input, weight, bias, eps=eps)
    with no_grad():
        if running_mean is not None:
            store(running_mean, running_mean * (1 - momentum) + mean * momentum)
        if running_var is not None:
            store(running_var, running_var * (1 - momentum) + var * (momentum * n / (n - 1)))
    return out


def _check_trailing(input: Any, shape: Any) -> tuple:
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if tuple(input.shape)[max(input.ndim - len(shape), 0) :] != shape:
        wanted = ", ".join(map(str, shape))
        raise ShapeError(
            f"Given normalized_shape={list(shape)}, expected input with shape [*, {wanted}], but got input of size"
            f"{list(input.shape)}"
        )
    return shape


def layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-05) -> Any:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes, whose sizes are normalized_shape."""
    shape = _check_trailing(input, normalized_shape)
    return _layer_norm(input, weight, bias, ndim=len(shape), eps=eps)


def rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    """x / sqrt(mean(x**2) + eps) * weight over the last axes; eps is the step above 1 of x's dtype by default."""
    shape = _check_trailing(input, normalized_shape)
    return _rms_norm(input, weight, ndim=len(shape), eps=finfo(input.dtype).eps if eps is None else eps)


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-05) -> Any:
    """Each sample's channels normalized in groups of neighbours: input (N, C, ...)."""
    if input.ndim < 2:
        raise ShapeError(f"Expected at least 2 dimensions for input tensor but received {input.ndim}")
    return _group_norm(input, weight, bias, groups=num_groups, eps=eps)


def normalize(input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> Any:
    """input divided by its p-norm along dim, which is taken as at least eps."""
    return input / input.norm(p, dim, keepdim=True).clamp_min(eps)


# -------------------------------------------------------------------------------------------------------- activations


def relu(input: Any, inplace: bool = False) -> Any:
    """`max(x, 0)`."""
    return _given(input, inplace, ops.relu(input))


def relu6(input: Any, inplace: bool = False) -> Any:
    """`min(max(x, 0), 6)`."""
    return _given(input, inplace, ops.clip(input, min=0, max=6))


def silu(input: Any, inplace: bool = False) -> Any:
    """`x * sigmoid(x)`."""
    return _given(input, inplace, ops.silu(input))


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    """x where it is positive, `negative_slope * x` elsewhere."""
    return _given(input, inplace, ops.leaky_relu(input, negative_slope=negative_slope))


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """x where it is positive, `alpha * (exp(x) - 1)` elsewhere."""
    return _given(input, inplace, ops.elu(input, alpha=alpha))


def gelu(input: Any, approximate: str = "none") -> Any:
    """x times the normal distribution function of x; `approximate="tanh"`: by a formula."""
    return ops.gelu(input, approximate=approximate)


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """`log(1 + exp(beta * x)) / beta`, and x itself where `beta * x > threshold`."""
    return ops.softplus(input, beta=beta, threshold=threshold)


def logsigmoid(input: Any) -> Any:
    """The logarithm of sigmoid(x)."""
    return -ops.softplus(-input, threshold=math.inf)


def _softmax_dim(name: str, ndim: int, level: int) -> int:
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.",
        stacklevel=level,
    )
    return 0 if ndim in (0, 1, 3) else 1


def softmax(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """`exp(x)` scaled to sum 1 along dim."""
    dim = _softmax_dim("softmax", input.ndim, _stacklevel) if dim is None else dim
    return input.softmax(dim, dtype=None if dtype is None else to_dtype(dtype))


def log_softmax(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """The logarithm of `softmax`."""
    dim = _softmax_dim("log_softmax", input.ndim, _stacklevel) if dim is None else dim
    return input.log_softmax(dim, dtype=None if dtype is None else to_dtype(dtype))


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Sets elements to 0 with probability p and scales the others by 1 / (1 - p)."""
    if p < 0.0 or p > 1.0:
        raise OptionError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0:
        return input
    mask = random_mask(tuple(input.shape), 1 - p, backend_name(input))
    return _given(input, inplace, _dropout(input, mask, p=p))


# -------------------------------------------------------------------------------------------- embeddings and shapes


def plain_embedding(max_norm: Any, norm_type: float, scale_grad_by_freq: bool, sparse: bool) -> None:
    """Refuses the options that embeddings do not have."""
    if max_norm is not None or norm_type != 2.0 or scale_grad_by_freq or sparse:
        raise OptionError(
            explain(
                "embedding does not support these options",
                expected="max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False",
                given=f"max_norm={max_norm}, norm_type={norm_type}, scale_grad_by_freq={scale_grad_by_freq}, "
                f"sparse={sparse}",
                do="leave them at their defaults",
            )
        )


def embedding(
    input: Any, weight: Any, padding_idx: int | None = None, max_norm: float | None = None, norm_type: float = 2.0,
    scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Any:  # fmt: skip
    """The rows of weight (number, width) at the indices input; the row padding_idx gets no gradient.

    Raises:
        IndexOutOfRangeError: There is no such row (not checked in a compiled step).
        OptionError: Another option than its default.
    """
    plain_embedding(max_norm, norm_type, scale_grad_by_freq, sparse)
    check_index(input, weight, 0, "embedding")
    return ops.embedding(weight, input, padding_idx=padding_idx)


def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """Rows (..., num_classes) of int64 that are 1 at the index; by default as many as the largest index needs."""
    if num_classes == -1:
        num_classes = int(tensor.max().item()) + 1
    return ops.one_hot(tensor, classes=num_classes, dtype=int64)


def pad(input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Any:
    """Puts constant elements around the last axes; a negative width cuts.

    Args:
        input: A Tensor.
        pad: (before, after) of the last axis, then of the one before it, and so on, in one sequence.
        mode: "constant"; others are refused.
        value: Default: 0.
    """
    if mode != "constant":
        raise OptionError(explain(f"pad does not support mode={mode!r}", expected="'constant'", given=repr(mode)))
    if len(pad) % 2 or len(pad) // 2 > input.ndim:
        raise OptionError(
            "Padding length must be divisible by 2 and at most twice the number of dimensions of the input"
        )
    pairs = [(0, 0)] * (input.ndim - len(pad) // 2) + [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    if any(min(p) < 0 for p in pairs):
        input = input[tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(input.shape, pairs, strict=True))]
        pairs = [(max(a, 0), max(b, 0)) for a, b in pairs]
    return ops.pad(input, widths=tuple(pairs), value=0 if value is None else value)


# ------------------------------------------------------------------------------------------------------------- losses


def reduction_of(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction, where it may be given by PyTorch's older arguments."""
    if size_average is None and reduce is None:
        return reduction
    found = "none" if reduce is False else "sum" if size_average is False else "mean"
    warnings.warn(
        f"size_average and reduce args will be deprecated, please use reduction='{found}' instead.", stacklevel=4
    )
    return found


def _weighted(loss: Any, input: Any, target: Any, weight: Any, reduction: str, by_weight: bool, **options: Any) -> Any:
    """A loss whose elements count as `weight` (of input's shape) says."""
    if weight is None:
        return loss(input, target, reduction=reduction, **options)
    if tuple(weight.shape) != tuple(input.shape):
        raise ShapeError("Weights and input must have the same size.")
    if reduction not in ("none", "mean", "sum"):
        raise OptionError(f"Invalid reduction mode: {reduction}. Expected one of 'none', 'mean', 'sum'.")
    values = loss(input, target, reduction="none", **options) * weight
    if reduction == "none":
        return values
    if reduction == "sum":
        return values.sum()
    return values.sum() / weight.sum() if by_weight else values.mean()


def mse_loss(
    input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
    weight: Any = None,
) -> Any:  # fmt: skip
    """(input - target)**2; a weighted mean is divided by the sum of the weights."""
    return _weighted(_mse, input, target, weight, reduction_of(size_average, reduce, reduction), True)


def l1_loss(
    input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
    weight: Any = None,
) -> Any:  # fmt: skip
    """|input - target|; a weighted mean is divided by the sum of the weights."""
    return _weighted(_l1, input, target, weight, reduction_of(size_average, reduce, reduction), True)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Any:
    """d**2 / 2 where |d| < delta, delta * (|d| - delta / 2) elsewhere; a weighted mean is divided by the number."""
    return _weighted(_huber, input, target, weight, reduction, False, delta=delta)


def smooth_l1_loss(
    input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
    beta: float = 1.0,
) -> Any:  # fmt: skip
    """d**2 / (2 * beta) where |d| < beta, |d| - beta / 2 elsewhere."""
    return _smooth_l1(input, target, beta=beta, reduction=reduction_of(size_average, reduce, reduction))


def cross_entropy(
    input: Any, target: Any, weight: Any = None, size_average: bool | None = None, ignore_index: int = -100,
    reduce: bool | None = None, reduction: str = "mean", label_smoothing: float = 0.0,
) -> Any:  # fmt: skip
    """-log softmax(input)[target]; see `CrossEntropyLoss`. A float target of input's shape holds probabilities."""
    reduction = reduction_of(size_average, reduce, reduction)
    if target.dtype.kind == "float":
        return _cross_entropy_soft(input, target, weight, label_smoothing=label_smoothing, reduction=reduction)
    return _cross_entropy(
        input, target, weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction
    )


def nll_loss(
    input: Any, target: Any, weight: Any = None, size_average: bool | None = None, ignore_index: int = -100,
    reduce: bool | None = None, reduction: str = "mean",
) -> Any:  # fmt: skip
    """-input[target] for log-probabilities (N, C, ...)."""
    reduction = reduction_of(size_average, reduce, reduction)
    return _nll(input, target, weight, ignore_index=ignore_index, reduction=reduction)


def binary_cross_entropy(
    input: Any, target: Any, weight: Any = None, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:  # fmt: skip
    """-(target * log(input) + (1 - target) * log(1 - input)); logarithms are at least -100."""
    return _bce(input, target, weight, reduction=reduction_of(size_average, reduce, reduction))


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean", pos_weight: Any = None,
) -> Any:  # fmt: skip
    """`binary_cross_entropy` of sigmoid(input), exact for logits of any size."""
    return _bce_logits(input, target, weight, pos_weight, reduction=reduction_of(size_average, reduce, reduction))


def kl_div(
    input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
    log_target: bool = False,
) -> Any:  # fmt: skip
    """target * (log(target) - input) for log-probabilities; `reduction="batchmean"` gives the divergence."""
    reduction = reduction_of(size_average, reduce, reduction)
    if reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size. 'batchmean' divides "
            "only by the batch size, and aligns with the KL div math definition.",
            stacklevel=2,
        )
    if reduction == "batchmean" and not input.ndim:
        reduction = "sum"
    return _kl_div(input, target, log_target=log_target, reduction=reduction)
