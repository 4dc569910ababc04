"""Reductions over axes, and what runs along one axis: arg-reductions, cumulative sums and products, sorting, softmax.

`axis` is None (all axes), an int or a tuple of ints; an int where one axis is meant. Negative ones count from the end.
"""

from __future__ import annotations

import builtins
import math

from .op import op

__all__ = [
    "sum", "prod", "amax", "amin", "any", "all", "mean", "logsumexp", "argmax", "argmin", "cumsum", "cumprod", "sort",
    "argsort", "max", "min", "var", "norm", "softmax", "log_softmax", "sum_to",
]  # fmt: skip


def axes_of(axis, ndim):
    """The axes that `axis` names, as a sorted tuple of non-negative ints."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(sorted(a % ndim for a in ((axis,) if isinstance(axis, int) else axis))) if ndim else ()


def kept_shape(shape, axis):
    """The shape of a reduction's result with keepdims=True."""
    axes = axes_of(axis, len(shape))
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def count_of(shape, axis):
    """The number of elements that a reduction takes for one element of its result."""
    return math.prod(shape[i] for i in axes_of(axis, len(shape)))


# --- over axes ---


@op
def sum(xp, x, *, axis=None, keepdims=False):
    """The sum of the elements; integers and bools sum in int64."""
    return xp.sum(x, axis=axis, keepdims=keepdims)


@sum.vjp("x")
def _(xp, g, x_shape, axis):
    return xp.broadcast_to(xp.reshape(g, shape=kept_shape(x_shape, axis)), shape=x_shape)


@op(promote="float")
def mean(xp, x, *, axis=None, keepdims=False):
    """The mean of the elements; NaN for none."""
    return xp.mean(x, axis=axis, keepdims=keepdims)


@mean.vjp("x")
def _(xp, g, x_shape, axis):
    # No elements, no gradient: what is divided by does not matter then.
    share = g / builtins.max(count_of(x_shape, axis), 1)
    return xp.broadcast_to(xp.reshape(share, shape=kept_shape(x_shape, axis)), shape=x_shape)


@op(wide=True)
def prod(xp, x, *, axis=None, keepdims=False):
    """The product of the elements; the gradient is right at zeros too."""
    return xp.prod(x, axis=axis, keepdims=keepdims)


@prod.vjp("x")
def _(xp, g, x, axis):
    # For each element the product of all others, without a division: of those before it times those after it.
    axes = axes_of(axis, x.ndim)
    order = tuple(i for i in range(x.ndim) if i not in axes) + axes
    moved = xp.transpose(x, axes=order)
    flat = xp.reshape(moved, shape=(*moved.shape[: x.ndim - len(axes)], count_of(x.shape, axis)))
    others = products_before(xp, flat) * xp.flip(products_before(xp, xp.flip(flat, axis=-1)), axis=-1)
    others = xp.transpose(xp.reshape(others, shape=moved.shape), axes=tuple(order.index(i) for i in range(x.ndim)))
    return xp.reshape(g, shape=kept_shape(x.shape, axis)) * others


def products_before(xp, x):
    """For each element the product of those before it along the last axis."""
    if not x.shape[-1]:
        return x
    return xp.cumprod(xp.pad(x, widths=((0, 0),) * (x.ndim - 1) + ((1, -1),), value=1), axis=-1)


@op
def amax(xp, x, *, axis=None, keepdims=False):
    """The largest element, or NaN; equal ones share the gradient evenly."""
    return xp.amax(x, axis=axis, keepdims=keepdims)


@amax.vjp("x")
def _(xp, g, x, out, axis):
    return shared_by_equals(xp, g, x, out, axis)


@op
def amin(xp, x, *, axis=None, keepdims=False):
    """The smallest element, or NaN; equal ones share the gradient evenly."""
    return xp.amin(x, axis=axis, keepdims=keepdims)


@amin.vjp("x")
def _(xp, g, x, out, axis):
    return shared_by_equals(xp, g, x, out, axis)


def shared_by_equals(xp, g, x, out, axis):
    """The cotangent of a reduction to an extreme: each in equal parts to the elements that are equal to the result."""
    kept = kept_shape(x.shape, axis)
    hit = xp.astype(xp.equal(x, xp.reshape(out, shape=kept)), dtype=xp.dtype(g))
    return hit * (xp.reshape(g, shape=kept) / xp.sum(hit, axis=axis, keepdims=True))


@op(differentiable=False)
def any(xp, x, *, axis=None, keepdims=False):
    """Whether an element is non-zero (bool)."""
    return xp.any(x, axis=axis, keepdims=keepdims)


@op(differentiable=False)
def all(xp, x, *, axis=None, keepdims=False):
    """Whether all elements are non-zero (bool)."""
    return xp.all(x, axis=axis, keepdims=keepdims)


@op(promote="float")
def logsumexp(xp, x, *, axis=None, keepdims=False):
    """`log(sum(exp(x)))` without overflow."""
    return xp.logsumexp(x, axis=axis, keepdims=keepdims)


@logsumexp.vjp("x")
def _(xp, g, x, out, axis):
    kept = kept_shape(x.shape, axis)
    return xp.reshape(g, shape=kept) * xp.exp(x - xp.reshape(out, shape=kept))


@op(wide=True, promote="float")
def var(xp, x, *, axis=None, correction=1, keepdims=False):
    """The sum of squared differences from the mean over `n - correction`; NaN or infinite where that is 0 or less."""
    d = x - xp.mean(x, axis=axis, keepdims=True)
    return xp.sum(d * d, axis=axis, keepdims=keepdims) / builtins.max(count_of(x.shape, axis) - correction, 0)


@var.vjp("x")
def _(xp, g, x, axis, correction):
    d = x - xp.mean(x, axis=axis, keepdims=True)
    share = 2 * g / builtins.max(count_of(x.shape, axis) - correction, 0)
    return xp.reshape(share, shape=kept_shape(x.shape, axis)) * d


@op(wide=True, promote="float")
def norm(xp, x, *, ord=2, axis=None, keepdims=False):
    """The vector norm `sum(|x| ** ord) ** (1 / ord)`, as `torch.linalg.vector_norm`; the gradient at 0 is 0.

    Args:
        ord: A number; inf and -inf give the largest and the smallest |x|, 0 the count of non-zeros.
    """
    if ord == 2:
        return xp.sqrt(xp.sum(x * x, axis=axis, keepdims=keepdims))
    if ord == 0:
        return xp.sum(xp.astype(xp.not_equal(x, 0), dtype=xp.dtype(x)), axis=axis, keepdims=keepdims)
    if ord == math.inf:
        return xp.amax(xp.abs(x), axis=axis, keepdims=keepdims)
    if ord == -math.inf:
        return xp.amin(xp.abs(x), axis=axis, keepdims=keepdims)
    total = xp.sum(xp.abs(x) if ord == 1 else xp.abs(x) ** ord, axis=axis, keepdims=keepdims)
    return total if ord == 1 else total ** (1 / ord)


@norm.vjp("x")
def _(xp, g, x, out, ord, axis):
    if ord == 0:
        return xp.zeros_like(x)
    kept = kept_shape(x.shape, axis)
    g, out = xp.reshape(g, shape=kept), xp.reshape(out, shape=kept)
    if ord == 1:
        return g * xp.sign(x)
    if ord in (math.inf, -math.inf):
        return shared_by_equals(xp, g, xp.abs(x), out, axis) * xp.sign(x)
    # At 0 the quotient is 0 / 0; both `where` are needed, the inner one for the gradient of this gradient.
    zero = xp.equal(out, 0)
    scale = xp.where(zero, 0, g / xp.where(zero, 1, out) ** (ord - 1))
    if ord == 2:
        return scale * x
    size = xp.abs(x)
    return scale * xp.sign(x) * xp.where(xp.equal(size, 0), 1, size) ** (ord - 1)


@op
def sum_to(xp, x, *, shape):
    """Sums over the axes that broadcasting from `shape` to x's shape added or stretched."""
    return summed_to(xp, x, shape)


@sum_to.vjp("x")
def _(xp, g, x_shape):
    return xp.broadcast_to(g, shape=x_shape)


def summed_to(xp, x, shape):
    """The body of `sum_to`, which vjps use too."""
    if x.shape == shape:
        return x
    added = x.ndim - len(shape)
    axes = tuple(i for i, n in enumerate(x.shape) if i < added or (n != 1 and shape[i - added] == 1))
    return xp.reshape(xp.sum(x, axis=axes, keepdims=True) if axes else x, shape=shape)


# --- along one axis ---


@op(differentiable=False)
def argmax(xp, x, *, axis=None, keepdims=False):
    """The index (int64) of the largest element, of equal ones the first; of the flattened array for axis=None."""
    return xp.argmax(x, axis=axis, keepdims=keepdims)


@op(differentiable=False)
def argmin(xp, x, *, axis=None, keepdims=False):
    """The index (int64) of the smallest element, of equal ones the first; of the flattened array for axis=None."""
    return xp.argmin(x, axis=axis, keepdims=keepdims)


@op(outputs=("values", "indices"))
def max(xp, x, *, axis, keepdims=False):
    """The largest elements along one axis and their indices (int64); the first of equals gets the gradient."""
    indices = xp.argmax(x, axis=axis, keepdims=True)
    values = xp.take_along_axis(x, indices, axis=axis)
    return (values, indices) if keepdims else (xp.squeeze(values, axis=axis), xp.squeeze(indices, axis=axis))


@max.vjp("x")
def _(xp, g, indices, x_shape, axis):
    return to_index(xp, g, indices, x_shape, axis)


@op(outputs=("values", "indices"))
def min(xp, x, *, axis, keepdims=False):
    """The smallest elements along one axis and their indices (int64); the first of equals gets the gradient."""
    indices = xp.argmin(x, axis=axis, keepdims=True)
    values = xp.take_along_axis(x, indices, axis=axis)
    return (values, indices) if keepdims else (xp.squeeze(values, axis=axis), xp.squeeze(indices, axis=axis))


@min.vjp("x")
def _(xp, g, indices, x_shape, axis):
    return to_index(xp, g, indices, x_shape, axis)


def to_index(xp, g, indices, shape, axis):
    """Zeros of `shape` with g at the indices along the axis, one index for each slice."""
    kept = kept_shape(shape, axis)
    zeros = xp.zeros(shape=shape, dtype=xp.dtype(g), like=g)
    return xp.scatter_add(zeros, xp.reshape(indices, shape=kept), xp.reshape(g, shape=kept), axis=axis)


@op
def cumsum(xp, x, *, axis):
    """The sums of the elements up to each one along an axis."""
    return xp.cumsum(x, axis=axis)


@cumsum.vjp("x")
def _(xp, g, axis):
    return xp.flip(xp.cumsum(xp.flip(g, axis=axis), axis=axis), axis=axis)


@op(wide=True)
def cumprod(xp, x, *, axis):
    """The products of the elements up to each one along an axis; the gradient is right at zeros too."""
    return xp.cumprod(x, axis=axis)


@cumprod.vjp("x")
def _(xp, g, x, axis):
    # With b the products before each element, dx_i = b_i s_i, where s_i = g_i + x_(i+1) s_(i+1). The recurrence is
    # solved by doubling: after k rounds s covers 2**k terms, a is the product that leads on. Nothing is divided.
    if not x.shape[axis]:
        return g
    last = x.ndim - 1
    order = list(range(x.ndim))
    order[axis], order[last] = last, order[axis]
    x, s = xp.transpose(x, axes=tuple(order)), xp.transpose(g, axes=tuple(order))
    before = products_before(xp, x)
    a = ahead(xp, x, 1)
    step = 1
    while step < x.shape[last]:
        s, a, step = s + a * ahead(xp, s, step), a * ahead(xp, a, step), 2 * step
    return xp.transpose(before * s, axes=tuple(order))


def ahead(xp, x, step):
    """For each element the one `step` further along the last axis; 0 past the end."""
    return xp.pad(x, widths=((0, 0),) * (x.ndim - 1) + ((-step, step),))


@op
def sort(xp, x, *, axis=-1, descending=False):
    """The elements in order along an axis; stable."""
    return xp.sort(x, axis=axis, descending=descending)


@sort.vjp("x")
def _(xp, g, x, axis, descending):
    return xp.scatter_add(xp.zeros_like(g), xp.argsort(x, axis=axis, descending=descending), g, axis=axis)


@op(differentiable=False)
def argsort(xp, x, *, axis=-1, descending=False):
    """The indices (int64) that put the elements in order along an axis; stable."""
    return xp.argsort(x, axis=axis, descending=descending)


@op(wide=True, promote="float")
def softmax(xp, x, *, axis=-1):
    """`exp(x)` scaled to sum 1 along an axis, without overflow."""
    e = xp.exp(x - xp.amax(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


@softmax.vjp("x")
def _(xp, g, out, axis):
    weighted = g * out
    return weighted - out * xp.sum(weighted, axis=axis, keepdims=True)


@op(wide=True, promote="float")
def log_softmax(xp, x, *, axis=-1):
    """The logarithm of `softmax`, exact where that is close to 0 or 1."""
    shifted = x - xp.amax(x, axis=axis, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


@log_softmax.vjp("x")
def _(xp, g, out, axis):
    return g - xp.exp(out) * xp.sum(g, axis=axis, keepdims=True)
