"""Elementwise ops of one operand. Where a function has a kink, the gradient is PyTorch's: 0 at 0 for `abs` and `sign`.

Those of several operands are in operators.py, the activations in activations.py.
"""

from __future__ import annotations

import math

from .op import op

__all__ = [
    "abs", "negative", "sign", "reciprocal", "square", "sqrt", "rsqrt", "exp", "expm1", "log", "log1p", "log2", "sin",
    "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "sigmoid", "erf", "erfinv",
    "floor", "ceil", "round", "trunc", "isnan", "isinf", "isfinite", "logical_not", "bitwise_not", "astype",
]  # fmt: skip


@op
def abs(xp, x):
    """The absolute value; the gradient at 0 is 0."""
    return xp.abs(x)


@abs.vjp("x")
def _(xp, g, x):
    return g * xp.sign(x)


@op
def negative(xp, x):
    """`-x`."""
    return xp.negative(x)


@negative.vjp("x")
def _(xp, g):
    return -g


@op
def sign(xp, x):
    """-1, 0 or 1; the gradient is 0 everywhere."""
    return xp.sign(x)


@sign.vjp("x")
def _(xp, g):
    return xp.zeros_like(g)


@op(promote="float")
def reciprocal(xp, x):
    """`1 / x`."""
    return xp.reciprocal(x)


@reciprocal.vjp("x")
def _(xp, g, out):
    return -g * out * out


@op
def square(xp, x):
    """`x * x`."""
    return xp.square(x)


@square.vjp("x")
def _(xp, g, x):
    return 2 * g * x


@op(promote="float")
def sqrt(xp, x):
    """The square root; the gradient at 0 is infinite."""
    return xp.sqrt(x)


@sqrt.vjp("x")
def _(xp, g, out):
    return g / (2 * out)


@op(promote="float")
def rsqrt(xp, x):
    """`1 / sqrt(x)`."""
    return xp.rsqrt(x)


@rsqrt.vjp("x")
def _(xp, g, out):
    return -0.5 * g * out * out * out


@op(promote="float")
def exp(xp, x):
    """e to the power of x."""
    return xp.exp(x)


@exp.vjp("x")
def _(xp, g, out):
    return g * out


@op(promote="float")
def expm1(xp, x):
    """`exp(x) - 1`, exact near 0."""
    return xp.expm1(x)


@expm1.vjp("x")
def _(xp, g, out):
    return g * (out + 1)


@op(promote="float")
def log(xp, x):
    """The natural logarithm."""
    return xp.log(x)


@log.vjp("x")
def _(xp, g, x):
    return g / x


@op(promote="float")
def log1p(xp, x):
    """`log(1 + x)`, exact near 0."""
    return xp.log1p(x)


@log1p.vjp("x")
def _(xp, g, x):
    return g / (1 + x)


@op(promote="float")
def log2(xp, x):
    """The logarithm to base 2."""
    return xp.log2(x)


@log2.vjp("x")
def _(xp, g, x):
    return g / (x * math.log(2))


@op(promote="float")
def sin(xp, x):
    """The sine of x in radians."""
    return xp.sin(x)


@sin.vjp("x")
def _(xp, g, x):
    return g * xp.cos(x)


@op(promote="float")
def cos(xp, x):
    """The cosine of x in radians."""
    return xp.cos(x)


@cos.vjp("x")
def _(xp, g, x):
    return -g * xp.sin(x)


@op(promote="float")
def tan(xp, x):
    """The tangent of x in radians."""
    return xp.tan(x)


@tan.vjp("x")
def _(xp, g, out):
    return g * (1 + out * out)


@op(promote="float")
def asin(xp, x):
    """The inverse sine, in radians."""
    return xp.asin(x)


@asin.vjp("x")
def _(xp, g, x):
    return g * xp.rsqrt(1 - x * x)


@op(promote="float")
def acos(xp, x):
    """The inverse cosine, in radians."""
    return xp.acos(x)


@acos.vjp("x")
def _(xp, g, x):
    return -g * xp.rsqrt(1 - x * x)


@op(promote="float")
def atan(xp, x):
    """The inverse tangent, in radians."""
    return xp.atan(x)


@atan.vjp("x")
def _(xp, g, x):
    return g / (1 + x * x)


@op(promote="float")
def sinh(xp, x):
    """The hyperbolic sine."""
    return xp.sinh(x)


@sinh.vjp("x")
def _(xp, g, x):
    return g * xp.cosh(x)


@op(promote="float")
def cosh(xp, x):
    """The hyperbolic cosine."""
    return xp.cosh(x)


@cosh.vjp("x")
def _(xp, g, x):
    return g * xp.sinh(x)


@op(promote="float")
def tanh(xp, x):
    """The hyperbolic tangent."""
    return xp.tanh(x)


@tanh.vjp("x")
def _(xp, g, out):
    return g * (1 - out * out)


@op(promote="float")
def asinh(xp, x):
    """The inverse hyperbolic sine."""
    return xp.asinh(x)


@asinh.vjp("x")
def _(xp, g, x):
    return g * xp.rsqrt(x * x + 1)


@op(promote="float")
def acosh(xp, x):
    """The inverse hyperbolic cosine."""
    return xp.acosh(x)


@acosh.vjp("x")
def _(xp, g, x):
    return g * xp.rsqrt(x * x - 1)


@op(promote="float")
def atanh(xp, x):
    """The inverse hyperbolic tangent."""
    return xp.atanh(x)


@atanh.vjp("x")
def _(xp, g, x):
    return g / (1 - x * x)


@op(promote="float")
def sigmoid(xp, x):
    """`1 / (1 + exp(-x))`."""
    return xp.sigmoid(x)


@sigmoid.vjp("x")
def _(xp, g, out):
    return g * out * (1 - out)


@op(promote="float")
def erf(xp, x):
    """The error function."""
    return xp.erf(x)


@erf.vjp("x")
def _(xp, g, x):
    return g * (2 / math.sqrt(math.pi)) * xp.exp(-x * x)


@op(promote="float")
def erfinv(xp, x):
    """The inverse of `erf`."""
    return xp.erfinv(x)


@erfinv.vjp("x")
def _(xp, g, out):
    return g * (math.sqrt(math.pi) / 2) * xp.exp(out * out)


@op
def floor(xp, x):
    """The largest integer not above x, in x's dtype; the gradient is 0."""
    return xp.floor(x)


@floor.vjp("x")
def _(xp, g):
    return xp.zeros_like(g)


@op
def ceil(xp, x):
    """The smallest integer not below x, in x's dtype; the gradient is 0."""
    return xp.ceil(x)


@ceil.vjp("x")
def _(xp, g):
    return xp.zeros_like(g)


@op
def round(xp, x):
    """The nearest integer, halves to even, in x's dtype; the gradient is 0."""
    return xp.round(x)


@round.vjp("x")
def _(xp, g):
    return xp.zeros_like(g)


@op
def trunc(xp, x):
    """x without its fraction, in x's dtype; the gradient is 0."""
    return xp.trunc(x)


@trunc.vjp("x")
def _(xp, g):
    return xp.zeros_like(g)


@op(differentiable=False)
def isnan(xp, x):
    """Whether x is NaN (bool)."""
    return xp.isnan(x)


@op(differentiable=False)
def isinf(xp, x):
    """Whether x is infinite (bool)."""
    return xp.isinf(x)


@op(differentiable=False)
def isfinite(xp, x):
    """Whether x is neither infinite nor NaN (bool)."""
    return xp.isfinite(x)


@op(differentiable=False)
def logical_not(xp, x):
    """Whether x is 0 or False (bool)."""
    return xp.logical_not(x)


@op(differentiable=False)
def bitwise_not(xp, x):
    """Each bit flipped; of a bool, its negation."""
    return xp.bitwise_not(x)


@op
def astype(xp, x, *, dtype):
    """x in another dtype."""
    return xp.astype(x, dtype=dtype)


@astype.vjp("x")
def _(xp, g, x_dtype):
    return xp.astype(g, dtype=x_dtype)
