"""Normalization."""

from __future__ import annotations

import math
from typing import Any

from ... import ops
from ...dtypes import finfo
from ...errors import OptionError, ShapeError, explain
from ...ops.norm import batch_norm as _batch_norm
from ...ops.norm import batch_norm_inference as _batch_norm_inference
from ...ops.norm import group_norm as _group_norm
from ...ops.norm import layer_norm as _layer_norm
from ...ops.norm import rms_norm as _rms_norm
from ...tensor.grad_mode import no_grad
from ...tensor.inplace import store


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


def instance_norm(
    input: Any, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None,
    use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-05,
) -> Any:  # fmt: skip
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel of each sample; Ulyanov et al. 2016.

    Args:
        input: (N, C, ...).
        running_mean, running_var: (C,) or None. With use_input_stats they are updated in place; else they are used.
        weight, bias: (C,) or None.
        use_input_stats: Use each sample's statistics.
        momentum: What the new batch counts in the running statistics.
    """
    if input.ndim < 2:
        raise ShapeError(f"Expected at least 2 dimensions for input tensor but received {input.ndim}")
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise OptionError("Expected running_mean and running_var to be defined when use_input_stats=False")
        return _batch_norm_inference(input, running_mean, running_var, weight, bias, eps=eps)
    n = math.prod(input.shape[2:])
    if n == 1:
        raise ShapeError(f"Expected more than 1 spatial element when training, got input size {list(input.shape)}")
    if running_mean is not None or running_var is not None:
        with no_grad():
            x = input.reshape(*input.shape[:2], n)
            if running_mean is not None:
                store(running_mean, running_mean * (1 - momentum) + x.mean((0, 2)) * momentum)
            if running_var is not None:
                store(running_var, running_var * (1 - momentum) + x.var(2).mean(0) * momentum)
    return _group_norm(input, weight, bias, groups=input.shape[1], eps=eps)


def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """x / (k + alpha * mean of x**2 over `size` neighbouring channels)**beta; Krizhevsky et al. 2012.

    Channels that are missing at the ends count as zeros.
    """
    if input.ndim < 3:
        raise ShapeError(f"Expected 3D or higher dimensionality input (got {input.ndim} dimensions)")
    if not input.numel():
        return input
    c, rest = input.shape[1], ((0, 0),) * (input.ndim - 2)
    squares = ops.pad(input * input, widths=((0, 0), (size // 2, (size - 1) // 2), *rest))
    total = squares[:, :c]
    for i in range(1, size):
        total = total + squares[:, i : i + c]
    return input / (total * (alpha / size) + k) ** beta


def normalize(input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> Any:
    """input divided by its p-norm along dim, which is taken as at least eps."""
    return input / input.norm(p, dim, keepdim=True).clamp_min(eps)
