"""Ops that move elements and compute nothing: shapes, order of axes, joining, padding, sliding windows.

Where PyTorch's result is a view, the op's `put` writes through it: the base with the viewed elements replaced.
"""

from __future__ import annotations

import math

from ..errors import ShapeError, explain
from .op import op
from .reduce import summed_to

__all__ = [
    "flat",
    "reshape", "transpose", "broadcast_to", "expand_dims", "squeeze", "concat", "stack", "flip", "roll", "pad",
    "repeat", "tril", "triu", "windows", "fold",
]  # fmt: skip


def _put_reshaped(xp, base, value, **_):
    return xp.reshape(value, shape=tuple(base.shape))


def inverse(axes):
    """The permutation that undoes a permutation of axes."""
    axes = [a % len(axes) for a in axes]
    return tuple(axes.index(i) for i in range(len(axes)))


def _put_transposed(xp, base, value, axes):
    return xp.transpose(value, axes=inverse(axes))


def _put_broadcast(xp, base, value, shape):
    if math.prod(shape) != math.prod(base.shape):  # PyTorch refuses it too
        raise ShapeError(
            explain(
                "cannot write to a broadcast view: several of its elements are one element of its base",
                given=f"base {tuple(base.shape)}, view {tuple(shape)}",
                do="write to the base, or to a copy of the view",
            )
        )
    return xp.reshape(value, shape=tuple(base.shape))


@op(put=_put_reshaped)
def reshape(xp, x, *, shape):
    """The elements in the same order in another shape; no -1 here."""
    return xp.reshape(x, shape=shape)


@reshape.vjp("x")
def _(xp, g, x_shape):
    return xp.reshape(g, shape=x_shape)


@op(put=_put_transposed)
def transpose(xp, x, *, axes):
    """The axes in another order: result axis i is axis `axes[i]` of x."""
    return xp.transpose(x, axes=axes)


@transpose.vjp("x")
def _(xp, g, axes):
    return xp.transpose(g, axes=inverse(axes))


@op(put=_put_broadcast)
def broadcast_to(xp, x, *, shape):
    """x repeated along new leading axes and along its axes of length 1."""
    return xp.broadcast_to(x, shape=shape)


@broadcast_to.vjp("x")
def _(xp, g, x_shape):
    return summed_to(xp, g, x_shape)


@op(put=_put_reshaped)
def expand_dims(xp, x, *, axis):
    """New axes of length 1 at position `axis`, an int or a tuple, of the result."""
    return xp.expand_dims(x, axis=axis)


@expand_dims.vjp("x")
def _(xp, g, x_shape):
    return xp.reshape(g, shape=x_shape)


@op(put=_put_reshaped)
def squeeze(xp, x, *, axis):
    """Without the axes `axis`, an int or a tuple, which have length 1."""
    return xp.squeeze(x, axis=axis)


@squeeze.vjp("x")
def _(xp, g, x_shape):
    return xp.reshape(g, shape=x_shape)


@op(promote="same")
def concat(xp, *arrays, axis):
    """Arrays one after the other along an axis that they have."""
    return xp.concat(*arrays, axis=axis)


@concat.vjp("arrays")
def _(xp, g, arrays_shapes, axis):
    axis %= g.ndim
    parts, start = [], 0
    for shape in arrays_shapes:
        parts.append(g[(slice(None),) * axis + (slice(start, start + shape[axis]),)])
        start += shape[axis]
    return tuple(parts)


@op(promote="same")
def stack(xp, *arrays, axis):
    """Arrays of one shape next to each other along a new axis, at position `axis` of the result."""
    return xp.stack(*arrays, axis=axis)


@stack.vjp("arrays")
def _(xp, g, axis):
    axis %= g.ndim
    return tuple(g[(slice(None),) * axis + (i,)] for i in range(g.shape[axis]))


@op
def flip(xp, x, *, axis):
    """The elements in reverse order along an axis or several; a copy."""
    return xp.flip(x, axis=axis)


@flip.vjp("x")
def _(xp, g, axis):
    return xp.flip(g, axis=axis)


@op
def roll(xp, x, *, shift, axis):
    """The elements moved `shift` places along one axis; those that leave at the end come back at the beginning."""
    return xp.roll(x, shift=shift, axis=axis)


@roll.vjp("x")
def _(xp, g, shift, axis):
    return xp.roll(g, shift=-shift, axis=axis)


@op
def pad(xp, x, *, widths, value=0):
    """`widths`, ((before, after), ...) for each axis, elements with a value put around x; negative widths take away."""
    return xp.pad(x, widths=widths, value=value)


@pad.vjp("x")
def _(xp, g, widths):
    return xp.pad(g, widths=tuple((-before, -after) for before, after in widths))


@op
def repeat(xp, x, *, repeats, axis):
    """Each element `repeats` times, an int, along an axis."""
    return xp.repeat(x, repeats=repeats, axis=axis)


@repeat.vjp("x")
def _(xp, g, x_shape, repeats, axis):
    axis %= len(x_shape)
    return xp.sum(xp.reshape(g, shape=(*x_shape[: axis + 1], repeats, *x_shape[axis + 1 :])), axis=axis + 1)


@op
def tril(xp, x, *, k=0):
    """Matrices (..., m, n) with what lies above diagonal k set to 0."""
    return xp.tril(x, k=k)


@tril.vjp("x")
def _(xp, g, k):
    return xp.tril(g, k=k)


@op
def triu(xp, x, *, k=0):
    """Matrices (..., m, n) with what lies below diagonal k set to 0."""
    return xp.triu(x, k=k)


@triu.vjp("x")
def _(xp, g, k):
    return xp.triu(g, k=k)


@op
def windows(xp, x, *, size, stride, dilation):
    """Sliding windows over the last len(size) axes: (..., L1, ..., Lk) gives (..., O1, ..., Ok, size1, ..., sizek).

    Oi = (Li - dilationi * (sizei - 1) - 1) // stridei + 1.
    """
    return xp.windows(x, size=size, stride=stride, dilation=dilation)


@windows.vjp("x")
def _(xp, g, x_shape, size, stride, dilation):
    return xp.fold(g, shape=x_shape, size=size, stride=stride, dilation=dilation)


@op
def fold(xp, x, *, shape, size, stride, dilation):
    """The transpose of `windows`: adds windows (..., O1, ..., Ok, size1, ..., sizek) into zeros of `shape`."""
    return xp.fold(x, shape=shape, size=size, stride=stride, dilation=dilation)


@fold.vjp("x")
def _(xp, g, size, stride, dilation):
    return xp.windows(g, size=size, stride=stride, dilation=dilation)


@op
def flat(xp, *arrays):
    """The elements of all arrays, in row-major order, as one axis: the gradients of a group of parameters."""
    return xp.concat(*[xp.reshape(a, shape=(math.prod(a.shape),)) for a in arrays], axis=0)


@flat.vjp("arrays")
def _(xp, g, arrays_shapes):
    parts, start = [], 0
    for shape in arrays_shapes:
        size = math.prod(shape)
        parts.append(xp.reshape(g[start : start + size], shape=shape))
        start += size
    return tuple(parts)
