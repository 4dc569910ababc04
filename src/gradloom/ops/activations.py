"""Activations. Where one has a kink, the gradient is PyTorch's: 0 at 0 for `relu`."""

from __future__ import annotations

import math

from ..errors import OptionError, explain
from .op import op

__all__ = [
    "clip", "relu", "leaky_relu", "gelu", "silu", "softplus", "elu",
]  # fmt: skip


@op
def clip(xp, x, *, min=None, max=None):
    """x held between two numbers (None: no bound); the gradient at a bound passes. With min > max it is max."""
    if min is not None:
        x = xp.maximum(x, min)
    return x if max is None else xp.minimum(x, max)


@clip.vjp("x")
def _(xp, g, x, min, max):
    if min is not None:
        g = xp.where(x >= min, g, 0)
    return g if max is None else xp.where(x <= max, g, 0)


@op
def relu(xp, x):
    """`max(x, 0)`; the gradient at 0 is 0."""
    return xp.maximum(x, 0)


@relu.vjp("x")
def _(xp, g, out):
    return xp.where(out > 0, g, 0)


@op(promote="float")
def leaky_relu(xp, x, *, negative_slope=0.01):
    """x where it is positive, `negative_slope * x` elsewhere; the gradient at 0 is the slope."""
    return xp.where(x > 0, x, x * negative_slope)


@leaky_relu.vjp("x")
def _(xp, g, x, negative_slope):
    return xp.where(x > 0, g, g * negative_slope)


@op(promote="float")
def gelu(xp, x, *, approximate="none"):
    """x times the normal distribution's Φ(x); with `approximate="tanh"` by Hendrycks and Gimpel's formula (2016)."""
    if approximate == "none":
        return 0.5 * x * (1 + xp.erf(x * math.sqrt(0.5)))
    if approximate == "tanh":
        return 0.5 * x * (1 + xp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    raise OptionError(explain("gelu: unknown approximation", expected="'none' or 'tanh'", given=repr(approximate)))


@gelu.vjp("x")
def _(xp, g, x, approximate):
    if approximate == "none":
        density = xp.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
        return g * (0.5 * (1 + xp.erf(x * math.sqrt(0.5))) + x * density)
    k = math.sqrt(2 / math.pi)
    t = xp.tanh(k * (x + 0.044715 * x * x * x))
    return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * (k * (1 + 3 * 0.044715 * x * x)))


@op(promote="float")
def silu(xp, x):
    """`x * sigmoid(x)`."""
    return x * xp.sigmoid(x)


@silu.vjp("x")
def _(xp, g, x):
    s = xp.sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


@op(promote="float")
def softplus(xp, x, *, beta=1.0, threshold=20.0):
    """`log(1 + exp(beta * x)) / beta`, and x itself where `beta * x > threshold`."""
    return xp.where(x * beta > threshold, x, xp.logaddexp(x * beta, 0) / beta)


@softplus.vjp("x")
def _(xp, g, x, beta, threshold):
    return xp.where(x * beta > threshold, g, g * xp.sigmoid(x * beta))


@op(promote="float")
def elu(xp, x, *, alpha=1.0):
    """x where it is positive, `alpha * (exp(x) - 1)` elsewhere; the gradient at 0 is alpha."""
    low = xp.where(x > 0, 0, x)  # exp of a large x is infinite, and infinite times 0 is NaN
    return xp.where(x > 0, x, alpha * xp.expm1(low))


@elu.vjp("x")
def _(xp, g, x, alpha):
    low = xp.where(x > 0, 0, x)
    return xp.where(x > 0, g, g * (alpha * xp.exp(low)))
