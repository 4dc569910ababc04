"""Products of arrays: matmul, einsum, linear, outer; diagonal and trace."""

from __future__ import annotations

import functools
import math

from .op import op
from .reduce import summed_to

__all__ = ["matmul", "einsum", "linear", "outer", "diagonal", "trace"]


def swapped(xp, x):
    """x with its last two axes swapped."""
    return xp.transpose(x, axes=(1, 0) if x.ndim == 2 else (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def rows(xp, x):
    """x (..., n) as a matrix (m, n)."""
    return x if x.ndim == 2 else xp.reshape(x, shape=(math.prod(x.shape[:-1]), x.shape[-1]))


@op(promote="same")
def matmul(xp, x, y):
    """The matrix product `x @ y`: (..., m, k) and (..., k, n) give (..., m, n); the leading axes broadcast.

    A 1-d operand is a row (x) or a column (y), and its axis of length 1 is dropped from the result.
    """
    return xp.matmul(x, y)


@matmul.vjp("x")
def _(xp, g, y, x_shape):
    if y.ndim == 1:  # g (..., m): the outer product with y
        return summed_to(xp, xp.expand_dims(g, axis=-1) * y, x_shape)
    if len(x_shape) == 1:  # g (..., n): a product with each of y's matrices, summed
        return summed_to(xp, xp.matmul(y, xp.expand_dims(g, axis=-1))[..., 0], x_shape)
    return summed_to(xp, xp.matmul(g, swapped(xp, y)), x_shape)


@matmul.vjp("y")
def _(xp, g, x, y_shape):
    if x.ndim == 1:  # g (..., n): the outer product with x
        d = xp.expand_dims(x, axis=-1) * xp.expand_dims(g, axis=-2 if len(y_shape) > 1 else -1)
        return summed_to(xp, d if len(y_shape) > 1 else d[..., 0], y_shape)
    if len(y_shape) == 1:  # g (..., m)
        return xp.matmul(xp.reshape(g, shape=(math.prod(g.shape),)), rows(xp, x))
    if len(y_shape) == 2:  # one product instead of one for each leading index, and their sum
        return xp.matmul(swapped(xp, rows(xp, x)), rows(xp, g))
    return summed_to(xp, xp.matmul(swapped(xp, x), g), y_shape)


@op(promote="same")
def einsum(xp, *arrays, equation):
    """Einstein's summation, `einsum(x, y, equation="ij,jk->ik")`; with `->`, without an ellipsis.

    An operand may name an axis twice (its diagonal is taken), or name one that no other part has (it is summed over:
    integers in int64, as `sum`).
    """
    return xp.einsum(*arrays, equation=equation)


@functools.cache
def sums_alone(equation: str) -> bool:
    """Whether there is an axis that only one operand has, and that the result has not: there integers become int64."""
    left, result = equation.replace(" ", "").split("->")
    names = "".join("".join(set(term)) for term in left.split(","))
    return any(names.count(c) == 1 and c not in result for c in names)


@einsum.vjp("arrays")
def _(xp, g, *arrays, equation):
    left, result = equation.replace(" ", "").split("->")
    terms = left.split(",")
    return tuple(
        operand_cotangent(
            xp, g, result, arrays[:i] + arrays[i + 1 :], terms[:i] + terms[i + 1 :], terms[i], arrays[i].shape
        )
        for i in range(len(arrays))
    )


def operand_cotangent(xp, g, result, others, their_terms, term, shape):
    """The cotangent of one operand of einsum, by einsum.

    Args:
        g: The cotangent of the result, whose axes `result` names.
        others: The other operands, whose axes `their_terms` name.
        term: The names of this operand's axes.
        shape: Its shape.
    """
    names = list(dict.fromkeys(term))
    known = [c for c in names if c in result or any(c in t for t in their_terms)]
    d = xp.einsum(g, *others, equation=",".join([result, *their_terms]) + "->" + "".join(known))
    if known != names:  # axes that only this operand has: every element gets the same
        sizes = dict(zip(term, shape, strict=True))
        d = xp.reshape(d, shape=tuple(d.shape[known.index(c)] if c in known else 1 for c in names))
        d = xp.broadcast_to(d, shape=tuple(n if c in known else sizes[c] for c, n in zip(names, d.shape, strict=True)))
    if len(names) < len(term):  # an axis named twice: d lies on the diagonal, the rest is 0
        free = [c for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in names]
        target, eyes, pairs = "", [], []
        for i, c in enumerate(term):
            if c in term[:i]:
                eyes.append(xp.eye(n=shape[i], dtype=xp.dtype(d), like=d))
                pairs.append(c + free[-1])
                c = free.pop()
            target += c
        d = xp.einsum(d, *eyes, equation=",".join(["".join(names), *pairs]) + "->" + target)
    return d if d.shape == tuple(shape) else summed_to(xp, d, tuple(shape))


@op(promote="same")
def linear(xp, x, weight, bias=None):
    """`x @ weight.T + bias`: x (..., in), weight (out, in), bias (out,) or None give (..., out).

    The products, of the gradients too, are of two matrices whatever the leading axes of x.
    """
    out = xp.matmul(x if x.ndim == 2 else rows(xp, x), xp.transpose(weight, axes=(1, 0)))
    out = out if bias is None else out + bias
    return out if x.ndim == 2 else xp.reshape(out, shape=(*x.shape[:-1], weight.shape[0]))


@linear.vjp("x")
def _(xp, g, weight, x_shape):
    return xp.matmul(g, weight) if g.ndim == 2 else xp.reshape(xp.matmul(rows(xp, g), weight), shape=x_shape)


@linear.vjp("weight")
def _(xp, g, x):
    if g.ndim != 2:
        g, x = rows(xp, g), rows(xp, x)
    return xp.matmul(xp.transpose(g, axes=(1, 0)), x)


@linear.vjp("bias")
def _(xp, g):
    return xp.sum(g if g.ndim == 2 else rows(xp, g), axis=0)


@op(promote="same")
def outer(xp, x, y):
    """The products of each element of x (n,) with each of y (m,), (n, m)."""
    return xp.expand_dims(x, axis=1) * y


@outer.vjp("x")
def _(xp, g, y):
    return xp.matmul(g, y)


@outer.vjp("y")
def _(xp, g, x):
    return xp.matmul(x, g)


def diagonal_key(shape, offset):
    """Where the diagonals of matrices (..., m, n) lie after these are flattened to (..., m * n); as a key."""
    m, n = shape[-2:]
    length = max(min(m, n - offset) if offset >= 0 else min(m + offset, n), 0)
    start = offset if offset >= 0 else -offset * n
    return (..., slice(start, start + length * (n + 1) - n if length else start, n + 1))


def last_two(ndim, axis1, axis2):
    """The permutation that moves two axes to the end, and its inverse."""
    moved = (axis1 % ndim, axis2 % ndim)
    order = (*(i for i in range(ndim) if i not in moved), *moved)
    return order, tuple(order.index(i) for i in range(ndim))


def with_diagonal(xp, base, value, offset, axis1, axis2):
    """base with its diagonals replaced by value."""
    order, inverse = last_two(base.ndim, axis1, axis2)
    x = xp.transpose(base, axes=order)
    flat = xp.reshape(x, shape=(*x.shape[:-2], x.shape[-2] * x.shape[-1]))
    flat = xp.put(flat, value, key=diagonal_key(x.shape, offset))
    return xp.transpose(xp.reshape(flat, shape=x.shape), axes=inverse)


def _put_diagonal(xp, base, value, offset=0, axis1=0, axis2=1):
    return with_diagonal(xp, base, value, offset, axis1, axis2)


@op(put=_put_diagonal)
def diagonal(xp, x, *, offset=0, axis1=0, axis2=1):
    """The diagonals of the matrices that two axes span, as the last axis; `offset` > 0 is above the main diagonal."""
    x = xp.transpose(x, axes=last_two(x.ndim, axis1, axis2)[0])
    return xp.reshape(x, shape=(*x.shape[:-2], x.shape[-2] * x.shape[-1]))[diagonal_key(x.shape, offset)]


@diagonal.vjp("x")
def _(xp, g, x_shape, offset, axis1, axis2):
    zeros = xp.zeros(shape=x_shape, dtype=xp.dtype(g), like=g)
    return with_diagonal(xp, zeros, g, offset, axis1, axis2)


@op
def trace(xp, x):
    """The sum of the main diagonal of a matrix (m, n)."""
    return xp.sum(diagonal.op.forward(xp, x))


@trace.vjp("x")
def _(xp, g, x_shape):
    return g * xp.eye(n=x_shape[0], m=x_shape[1], dtype=xp.dtype(g), like=g)
