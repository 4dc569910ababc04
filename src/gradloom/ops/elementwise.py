"""Elementwise ops: functions of one, two or three operands, and the activations.

Operands of several-operand ops broadcast; the tape sums each cotangent to its operand's shape, so the vjps here do not.
Where a function has a kink, the gradient is PyTorch's: 0 at 0 for `abs`, `sign` and `relu`, split evenly at the ties of
`maximum`.
"""

from __future__ import annotations

import math

from ..errors import OptionError, explain
from .op import SCALARS, op

__all__ = [
    "abs", "negative", "sign", "reciprocal", "square", "sqrt", "rsqrt", "exp", "expm1", "log", "log1p", "log2",
    "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "sigmoid",
    "erf", "erfinv", "floor", "ceil", "round", "trunc", "isnan", "isinf", "isfinite", "logical_not",
    "bitwise_not", "astype", "add", "subtract", "multiply", "divide", "floor_divide", "remainder", "pow",
    "maximum", "minimum", "atan2", "logaddexp", "equal", "not_equal", "less", "less_equal", "greater",
    "greater_equal", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor",
    "where", "masked_fill", "clip", "relu", "leaky_relu", "gelu", "silu", "softplus", "elu",
]  # fmt: skip

# --- one operand ---


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


# --- two and three operands ---


@op(promote="same", broadcasts=True)
def add(xp, x, y):
    """`x + y`."""
    return xp.add(x, y)


@add.vjp("x")
def _(xp, g):
    return g


@add.vjp("y")
def _(xp, g):
    return g


@op(promote="same", broadcasts=True)
def subtract(xp, x, y):
    """`x - y`."""
    return xp.subtract(x, y)


@subtract.vjp("x")
def _(xp, g):
    return g


@subtract.vjp("y")
def _(xp, g):
    return -g


@op(promote="same", broadcasts=True)
def multiply(xp, x, y):
    """`x * y`."""
    return xp.multiply(x, y)


@multiply.vjp("x")
def _(xp, g, y):
    return g * y


@multiply.vjp("y")
def _(xp, g, x):
    return g * x


@op(promote="float", broadcasts=True)
def divide(xp, x, y):
    """`x / y`; integers give floats."""
    return xp.divide(x, y)


@divide.vjp("x")
def _(xp, g, y):
    return g / y


@divide.vjp("y")
def _(xp, g, y, out):
    return -g * (out / y)


@op(promote="same", broadcasts=True, differentiable=False)
def floor_divide(xp, x, y):
    """`x // y`, rounded down."""
    return xp.floor_divide(x, y)


@op(promote="same", broadcasts=True)
def remainder(xp, x, y):
    """`x % y`, with the sign of y."""
    return xp.remainder(x, y)


@remainder.vjp("x")
def _(xp, g):
    return g


@remainder.vjp("y")
def _(xp, g, x, y):
    return -g * xp.floor(x / y)


@op(promote="same", broadcasts=True)
def pow(xp, x, y):
    """`x ** y`; the gradients at `0 ** 0` are 0."""
    return xp.pow(x, y)


@pow.vjp("x")
def _(xp, g, x, y):
    if type(y) in SCALARS:
        return g * (y * x ** (y - 1)) if y != 0 else xp.zeros_like(g)
    # 0 ** -1 is infinite, and 0 times that is NaN.
    base = xp.where(xp.logical_and(xp.equal(x, 0), xp.equal(y, 0)), 1, x)
    return g * (y * base ** (y - 1))


@pow.vjp("y")
def _(xp, g, x, y, out):
    if type(x) in SCALARS:
        x = xp.zeros_like(out) + x
    base = xp.where(xp.logical_and(xp.equal(x, 0), y >= 0), 1, x)  # log(0) is infinite
    return g * (out * xp.log(base))


@op(promote="same", broadcasts=True)
def maximum(xp, x, y):
    """The larger operand, or NaN; at ties each gets half of the gradient."""
    return xp.maximum(x, y)


@maximum.vjp("x")
def _(xp, g, x, y):
    return xp.where(x < y, 0, xp.where(xp.equal(x, y), g / 2, g))


@maximum.vjp("y")
def _(xp, g, x, y):
    return xp.where(y < x, 0, xp.where(xp.equal(x, y), g / 2, g))


@op(promote="same", broadcasts=True)
def minimum(xp, x, y):
    """The smaller operand, or NaN; at ties each gets half of the gradient."""
    return xp.minimum(x, y)


@minimum.vjp("x")
def _(xp, g, x, y):
    return xp.where(x > y, 0, xp.where(xp.equal(x, y), g / 2, g))


@minimum.vjp("y")
def _(xp, g, x, y):
    return xp.where(y > x, 0, xp.where(xp.equal(x, y), g / 2, g))


@op(promote="float", broadcasts=True)
def atan2(xp, x, y):
    """The angle of the point (y, x) in radians, from -π to π; the gradients at the origin are 0."""
    return xp.atan2(x, y)


@atan2.vjp("x")
def _(xp, g, x, y):
    square = x * x + y * y
    return g * (y / xp.where(xp.equal(square, 0), 1, square))


@atan2.vjp("y")
def _(xp, g, x, y):
    square = x * x + y * y
    return -g * (x / xp.where(xp.equal(square, 0), 1, square))


@op(promote="float", broadcasts=True)
def logaddexp(xp, x, y):
    """`log(exp(x) + exp(y))` without overflow."""
    return xp.logaddexp(x, y)


@logaddexp.vjp("x")
def _(xp, g, x, y):
    return g * xp.sigmoid(x - y)


@logaddexp.vjp("y")
def _(xp, g, x, y):
    return g * xp.sigmoid(y - x)


@op(promote="same", broadcasts=True, differentiable=False)
def equal(xp, x, y):
    """`x == y` (bool)."""
    return xp.equal(x, y)


@op(promote="same", broadcasts=True, differentiable=False)
def not_equal(xp, x, y):
    """`x != y` (bool)."""
    return xp.not_equal(x, y)


@op(promote="same", broadcasts=True, differentiable=False)
def less(xp, x, y):
    """`x < y` (bool)."""
    return xp.less(x, y)


@op(promote="same", broadcasts=True, differentiable=False)
def less_equal(xp, x, y):
    """`x <= y` (bool)."""
    return xp.less_equal(x, y)


@op(promote="same", broadcasts=True, differentiable=False)
def greater(xp, x, y):
    """`x > y` (bool)."""
    return xp.greater(x, y)


@op(promote="same", broadcasts=True, differentiable=False)
def greater_equal(xp, x, y):
    """`x >= y` (bool)."""
    return xp.greater_equal(x, y)


@op(promote="same", broadcasts=True, differentiable=False)
def logical_and(xp, x, y):
    """Whether both operands are non-zero (bool)."""
    return xp.logical_and(x, y)


@op(promote="same", broadcasts=True, differentiable=False)
def logical_or(xp, x, y):
    """Whether an operand is non-zero (bool)."""
    return xp.logical_or(x, y)


@op(promote="same", broadcasts=True, differentiable=False)
def logical_xor(xp, x, y):
    """Whether one operand is non-zero and the other is not (bool)."""
    return xp.logical_xor(x, y)


@op(promote="same", broadcasts=True, differentiable=False)
def bitwise_and(xp, x, y):
    """`x & y`, bit by bit; of bools, both."""
    return xp.bitwise_and(x, y)


@op(promote="same", broadcasts=True, differentiable=False)
def bitwise_or(xp, x, y):
    """`x | y`, bit by bit; of bools, either."""
    return xp.bitwise_or(x, y)


@op(promote="same", broadcasts=True, differentiable=False)
def bitwise_xor(xp, x, y):
    """`x ^ y`, bit by bit; of bools, one of the two."""
    return xp.bitwise_xor(x, y)


@op(promote="same", promoted=("x", "y"), broadcasts=True)
def where(xp, condition, x, y):
    """x where the condition (bool) holds, y elsewhere; neither's gradient sees the other's NaN."""
    return xp.where(condition, x, y)


@where.vjp("x")
def _(xp, g, condition):
    return xp.where(condition, g, 0)


@where.vjp("y")
def _(xp, g, condition):
    return xp.where(condition, 0, g)


@op(broadcasts=True)
def masked_fill(xp, x, mask, *, value):
    """x with the number `value` where the mask (bool) holds."""
    return xp.where(mask, value, x)


@masked_fill.vjp("x")
def _(xp, g, mask):
    return xp.where(mask, 0, g)


# --- activations ---


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
