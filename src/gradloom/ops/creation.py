"""Ops that make arrays. `like=` names an array on whose engine and device the new one is made."""

from __future__ import annotations

from .op import op

__all__ = ["zeros", "ones", "full", "arange", "eye", "zeros_like", "ones_like"]


@op(differentiable=False)
def zeros(xp, *, shape, dtype, like=None):
    """Zeros of a shape and dtype."""
    return xp.zeros(shape=shape, dtype=dtype, like=like)


@op(differentiable=False)
def ones(xp, *, shape, dtype, like=None):
    """Ones of a shape and dtype."""
    return xp.ones(shape=shape, dtype=dtype, like=like)


@op(differentiable=False)
def full(xp, *, shape, value, dtype, like=None):
    """An array of a shape and dtype whose elements are all `value`, a Python scalar."""
    return xp.full(shape=shape, value=value, dtype=dtype, like=like)


@op(differentiable=False)
def arange(xp, *, start, stop, step=1, dtype, like=None):
    """The numbers from start, `step` apart, up to stop without it."""
    return xp.arange(start=start, stop=stop, step=step, dtype=dtype, like=like)


@op(differentiable=False)
def eye(xp, *, n, m=None, dtype, like=None):
    """A matrix (n, m), or (n, n), with ones on its main diagonal and zeros elsewhere."""
    return xp.eye(n=n, m=m, dtype=dtype, like=like)


@op(differentiable=False)
def zeros_like(xp, x, *, dtype=None):
    """Zeros of x's shape, and of its dtype unless another is given."""
    return xp.zeros_like(x, dtype=dtype)


@op(differentiable=False)
def ones_like(xp, x, *, dtype=None):
    """Ones of x's shape, and of its dtype unless another is given."""
    return xp.ones_like(x, dtype=dtype)
