"""Ops that select elements by position, and that write to or add at positions.

In a `key`, a tuple of ints, slices, None, Ellipsis and INDEX, each INDEX stands for the next of the index arrays
(integers or a bool mask).
"""

from __future__ import annotations

from .namespace import INDEX
from .op import op
from .reduce import summed_to

__all__ = [
    "getitem", "put", "add_at", "take", "take_along_axis", "scatter_add", "embedding", "one_hot",
]  # fmt: skip


def _put_item(xp, base, value, key):
    return xp.put(base, value, key=key)


@op(put=_put_item)
def getitem(xp, x, *indices, key):
    """`x[key]`; in PyTorch a view where there are no index arrays."""
    return xp.getitem(x, *indices, key=key)


@getitem.vjp("x")
def _(xp, g, *indices, x_shape, key):
    zeros = xp.zeros(shape=x_shape, dtype=xp.dtype(g), like=g)
    # Without index arrays no element is selected twice, and writing is enough.
    return xp.add_at(zeros, g, *indices, key=key) if indices else xp.put(zeros, g, key=key)


@op
def put(xp, x, value, *indices, key):
    """A copy of x with `x[key] = value`; value (of x's dtype, or a scalar) broadcasts.

    Which of several values for one element is written is open; each of them gets the element's gradient, as in PyTorch.
    """
    return xp.put(x, value, *indices, key=key)


@put.vjp("x")
def _(xp, g, *indices, key):
    return xp.put(g, 0, *indices, key=key)


@put.vjp("value")
def _(xp, g, *indices, value_shape, key):
    return summed_to(xp, xp.getitem(g, *indices, key=key), value_shape)


@op
def add_at(xp, x, value, *indices, key):
    """A copy of x with `x[key] += value`, where the values for one element all add up; value broadcasts."""
    return xp.add_at(x, value, *indices, key=key)


@add_at.vjp("x")
def _(xp, g):
    return g


@add_at.vjp("value")
def _(xp, g, *indices, value_shape, key):
    return summed_to(xp, xp.getitem(g, *indices, key=key), value_shape)


@op
def take(xp, x, indices, *, axis):
    """The slices of x at the indices (int, of any shape) along an axis; the indices' axes replace it."""
    return xp.take(x, indices, axis=axis)


@take.vjp("x")
def _(xp, g, indices, x_shape, axis):
    zeros = xp.zeros(shape=x_shape, dtype=xp.dtype(g), like=g)
    return xp.add_at(zeros, g, indices, key=(slice(None),) * (axis % len(x_shape)) + (INDEX,))


@op
def take_along_axis(xp, x, indices, *, axis):
    """For each index (int; x's shape but for the axis) the element of x there along the axis; `torch.gather`."""
    return xp.take_along_axis(x, indices, axis=axis)


@take_along_axis.vjp("x")
def _(xp, g, indices, x_shape, axis):
    zeros = xp.zeros(shape=x_shape, dtype=xp.dtype(g), like=g)
    return xp.scatter_add(zeros, indices, g, axis=axis)


@op
def scatter_add(xp, x, indices, values, *, axis):
    """A copy of x to which each value is added at its index along the axis; indices and values have one shape."""
    return xp.scatter_add(x, indices, values, axis=axis)


@scatter_add.vjp("x")
def _(xp, g):
    return g


@scatter_add.vjp("values")
def _(xp, g, indices, axis):
    return xp.take_along_axis(g, indices, axis=axis)


@op
def embedding(xp, weight, indices, *, padding_idx=None):
    """The rows of weight (number, width) at the indices (int, of any shape): (..., width).

    Args:
        padding_idx: The row that gets no gradient; negative ones count from the end.
    """
    return xp.take(weight, indices, axis=0)


@embedding.vjp("weight")
def _(xp, g, indices, weight_shape, padding_idx):
    if padding_idx is not None:
        g = xp.where(xp.expand_dims(xp.equal(indices, padding_idx % weight_shape[0]), axis=-1), 0, g)
    zeros = xp.zeros(shape=weight_shape, dtype=xp.dtype(g), like=g)
    return xp.add_at(zeros, g, indices, key=(INDEX,))


@op(differentiable=False)
def one_hot(xp, indices, *, classes, dtype):
    """Rows (..., classes) of a dtype that are 1 at the index (int) and 0 elsewhere; all 0 for an index out of range."""
    numbers = xp.arange(start=0, stop=classes, dtype=xp.dtype(indices), like=indices)
    return xp.astype(xp.equal(xp.expand_dims(indices, axis=-1), numbers), dtype=dtype)
