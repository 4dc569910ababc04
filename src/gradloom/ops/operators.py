"""Elementwise ops of two and three operands: arithmetic, comparisons, logic, selection.

Operands broadcast; the tape sums each cotangent to its operand's shape, so the vjps here do not. At the ties of
`maximum` and `minimum` the gradient is split evenly, as PyTorch's.
"""

from __future__ import annotations

from .op import SCALARS, op

__all__ = [
    "add", "subtract", "multiply", "divide", "floor_divide", "remainder", "pow", "maximum", "minimum", "atan2",
    "logaddexp", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or",
    "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor", "where", "masked_fill",
]  # fmt: skip


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
