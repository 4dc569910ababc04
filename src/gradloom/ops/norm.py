"""Normalization: over the batch, over trailing axes, over groups of channels. Half precision is computed in float32.

The vjps return the cotangents of x, weight and bias together, as they share their sums; those of a weight or bias that
is None are not used. `batch_norm` alone returns its statistics too, as the running ones are made of them; the others
make theirs again in the backward pass, as saved ones would be constants to a second derivative.
"""

from __future__ import annotations

import math

from ..errors import ShapeError, explain
from .op import op

__all__ = ["batch_norm", "batch_norm_inference", "group_norm", "layer_norm", "rms_norm"]


@op(wide=True, promote="float", outputs=("out", "mean", "var"), differentiable=1)
def batch_norm(xp, x, weight=None, bias=None, *, eps=1e-5):
    """(x - mean) / sqrt(var + eps) * weight + bias with the batch's statistics; PyTorch's `batch_norm(training=True)`.

    Args:
        x: (N, C, ...), of floats.
        weight, bias: (C,) or None.

    Returns:
        The result like x; the mean (C,) and the biased variance (C,) over all other axes, which carry no gradient. Of
        float16 and bfloat16 these two are float32.

    Example:
        >>> import numpy as np
        >>> out, mean, var = batch_norm(np.array([[1.0], [3.0]]))
        >>> mean.tolist(), var.tolist()
        ([2.0], [1.0])
    """
    axes = _check_channels("batch_norm", x, weight=weight, bias=bias)
    mean = xp.mean(x, axis=axes)
    centered = x - _channels(xp, mean, x.ndim)
    var = xp.mean(xp.square(centered), axis=axes)
    scale = xp.rsqrt(var + eps)
    out = centered * _channels(xp, scale if weight is None else scale * weight, x.ndim)
    if bias is not None:
        out = out + _channels(xp, bias, x.ndim)
    return out, mean, var


@batch_norm.vjp("x", "weight", "bias")
def _(xp, g, x, weight, mean, var, eps):
    axes = (0, *range(2, x.ndim))
    rstd = xp.rsqrt(var + eps)
    normed = (x - _channels(xp, mean, x.ndim)) * _channels(xp, rstd, x.ndim)
    d_bias = xp.sum(g, axis=axes)
    d_weight = xp.sum(g * normed, axis=axes)
    count = math.prod(x.shape[a] for a in axes)
    inner = g - _channels(xp, d_bias / count, x.ndim) - normed * _channels(xp, d_weight / count, x.ndim)
    return inner * _channels(xp, rstd if weight is None else rstd * weight, x.ndim), d_weight, d_bias


@op(wide=True, promote="float")
def batch_norm_inference(xp, x, mean, var, weight=None, bias=None, *, eps=1e-5):
    """(x - mean) / sqrt(var + eps) * weight + bias with given statistics; PyTorch's `batch_norm(training=False)`.

    Args:
        x: (N, C, ...), of floats.
        mean, var: (C,).
        weight, bias: (C,) or None.

    Returns:
        Like x.

    Example:
        >>> import numpy as np
        >>> batch_norm_inference(np.array([[3.0]]), np.array([1.0]), np.array([4.0]), eps=0.0).tolist()
        [[1.0]]
    """
    _check_channels("batch_norm_inference", x, mean=mean, var=var, weight=weight, bias=bias)
    scale = _scale(xp, var, weight, eps)
    shift = -mean * scale
    if bias is not None:
        shift = shift + bias
    return x * _channels(xp, scale, x.ndim) + _channels(xp, shift, x.ndim)


@batch_norm_inference.vjp("x")
def _(xp, g, var, weight, eps):
    return g * _channels(xp, _scale(xp, var, weight, eps), g.ndim)


@batch_norm_inference.vjp("mean")
def _(xp, g, var, weight, eps):
    return -xp.sum(g, axis=(0, *range(2, g.ndim))) * _scale(xp, var, weight, eps)


@batch_norm_inference.vjp("var")
def _(xp, g, x, mean, var, weight, eps):
    return -0.5 * _centered_sum(xp, g, x, mean) * _scale(xp, var, weight, eps) / (var + eps)


@batch_norm_inference.vjp("weight")
def _(xp, g, x, mean, var, eps):
    return _centered_sum(xp, g, x, mean) * xp.rsqrt(var + eps)


@batch_norm_inference.vjp("bias")
def _(xp, g):
    return xp.sum(g, axis=(0, *range(2, g.ndim)))


@op(wide=True, promote="float")
def layer_norm(xp, x, weight=None, bias=None, *, ndim=1, eps=1e-5):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last `ndim` axes; `torch.nn.functional.layer_norm`.

    Args:
        x: (..., *L), L being `ndim` axes, of floats.
        weight, bias: (*L) or None.

    Returns:
        Like x.

    Example:
        >>> import numpy as np
        >>> layer_norm(np.array([[1.0, 3.0]]), eps=0.0).tolist()
        [[-1.0, 1.0]]
    """
    _check_trailing("layer_norm", x, ndim, weight=weight, bias=bias)
    out = _normed(xp, x, tuple(range(-ndim, 0)), eps)[0]
    if weight is not None:
        out = out * weight
    return out if bias is None else out + bias


@layer_norm.vjp("x", "weight", "bias")
def _(xp, g, x, weight, ndim, eps):
    axes, lead = tuple(range(-ndim, 0)), tuple(range(x.ndim - ndim))
    normed, rstd = _normed(xp, x, axes, eps)
    product = g * normed
    d_weight, d_bias = (xp.sum(product, axis=lead), xp.sum(g, axis=lead)) if lead else (product, g)
    if weight is not None:
        g, product = g * weight, product * weight
    inner = g - xp.mean(g, axis=axes, keepdims=True) - normed * xp.mean(product, axis=axes, keepdims=True)
    return inner * rstd, d_weight, d_bias


@op(wide=True, promote="float")
def rms_norm(xp, x, weight=None, *, ndim=1, eps=1e-6):
    """x / sqrt(mean(x**2) + eps) * weight over the last `ndim` axes; `torch.nn.functional.rms_norm` with a given eps.

    Args:
        x: (..., *L), L being `ndim` axes, of floats.
        weight: (*L) or None.

    Returns:
        Like x.

    Example:
        >>> import numpy as np
        >>> rms_norm(np.array([[3.0, -3.0]]), eps=0.0).tolist()
        [[1.0, -1.0]]
    """
    _check_trailing("rms_norm", x, ndim, weight=weight)
    out = x * xp.rsqrt(xp.mean(xp.square(x), axis=tuple(range(-ndim, 0)), keepdims=True) + eps)
    return out if weight is None else out * weight


@rms_norm.vjp("x", "weight")
def _(xp, g, x, weight, ndim, eps):
    axes, lead = tuple(range(-ndim, 0)), tuple(range(x.ndim - ndim))
    rstd = xp.rsqrt(xp.mean(xp.square(x), axis=axes, keepdims=True) + eps)
    normed = x * rstd
    product = g * normed
    d_weight = xp.sum(product, axis=lead) if lead else product
    if weight is not None:
        g, product = g * weight, product * weight
    return (g - normed * xp.mean(product, axis=axes, keepdims=True)) * rstd, d_weight


@op(wide=True, promote="float")
def group_norm(xp, x, weight=None, bias=None, *, groups, eps=1e-5):
    """Each sample's channels normalized in `groups` groups of neighbours; `torch.nn.functional.group_norm`.

    With one group for each channel this is `torch.nn.functional.instance_norm`.

    Args:
        x: (N, C, ...), of floats; C a multiple of `groups`.
        weight, bias: (C,) or None.

    Returns:
        Like x.

    Example:
        >>> import numpy as np
        >>> group_norm(np.array([[1.0, 3.0, 5.0, 5.0]]), groups=2, eps=1e-12).round(3).tolist()
        [[-1.0, 1.0, 0.0, 0.0]]
    """
    _check_channels("group_norm", x, groups, weight=weight, bias=bias)
    out = xp.reshape(_normed(xp, _grouped(xp, x, groups), (2,), eps)[0], shape=x.shape)
    if weight is not None:
        out = out * _channels(xp, weight, x.ndim)
    return out if bias is None else out + _channels(xp, bias, x.ndim)


@group_norm.vjp("x", "weight", "bias")
def _(xp, g, x, weight, groups, eps):
    axes = (0, *range(2, x.ndim))
    normed, rstd = _normed(xp, _grouped(xp, x, groups), (2,), eps)
    d_bias = xp.sum(g, axis=axes)
    d_weight = xp.sum(g * xp.reshape(normed, shape=x.shape), axis=axes)
    if weight is not None:
        g = g * _channels(xp, weight, x.ndim)
    g = _grouped(xp, g, groups)
    inner = g - xp.mean(g, axis=2, keepdims=True) - normed * xp.mean(g * normed, axis=2, keepdims=True)
    return xp.reshape(inner * rstd, shape=x.shape), d_weight, d_bias


def _normed(xp, x, axes, eps):
    """(x - mean) / sqrt(var + eps) over axes, and 1 / sqrt(var + eps)."""
    centered = x - xp.mean(x, axis=axes, keepdims=True)
    rstd = xp.rsqrt(xp.mean(xp.square(centered), axis=axes, keepdims=True) + eps)
    return centered * rstd, rstd


def _channels(xp, v, ndim):
    """(C,) as (C, 1, ...), which broadcasts against (N, C, ...)."""
    return xp.reshape(v, shape=(v.shape[0],) + (1,) * (ndim - 2))


def _grouped(xp, x, groups):
    return xp.reshape(x, shape=(x.shape[0], groups, math.prod(x.shape[1:]) // groups))


def _scale(xp, var, weight, eps):
    rstd = xp.rsqrt(var + eps)
    return rstd if weight is None else rstd * weight


def _centered_sum(xp, g, x, mean):
    return xp.sum(g * (x - _channels(xp, mean, x.ndim)), axis=(0, *range(2, x.ndim)))


def _check_channels(name, x, groups=1, **vectors) -> tuple[int, ...]:
    """All axes of x but the channels; raises ShapeError unless the vectors have one element for each channel."""
    shapes = {k: tuple(v.shape) for k, v in vectors.items() if v is not None}
    if x.ndim < 2 or x.shape[1] % groups or any(s != (x.shape[1],) for s in shapes.values()):
        raise ShapeError(
            explain(
                f"{name}: one value of {', '.join(vectors)} for each channel"
                + (f", in {groups} groups of channels" if groups > 1 else ""),
                expected="x (N, C, ...) and the others (C,)" + (f", C a multiple of {groups}" if groups > 1 else ""),
                given=", ".join(f"{k} {s}" for k, s in {"x": tuple(x.shape), **shapes}.items()),
                do="give the layer the number of channels that x has on axis 1",
            )
        )
    return (0, *range(2, x.ndim))


def _check_trailing(name, x, ndim, **vectors) -> None:
    shapes = {k: tuple(v.shape) for k, v in vectors.items() if v is not None}
    if not 1 <= ndim <= x.ndim or any(s != tuple(x.shape[x.ndim - ndim :]) for s in shapes.values()):
        raise ShapeError(
            explain(
                f"{name}: {', '.join(vectors)} have to have the shape of the normalized axes, the last {ndim} of x",
                expected=f"x of at least {ndim} axes, the others {tuple(x.shape[max(x.ndim - ndim, 0) :])}",
                given=", ".join(f"{k} {s}" for k, s in {"x": tuple(x.shape), **shapes}.items()),
                do="give the layer the shape of x's last axes",
            )
        )
