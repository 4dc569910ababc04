"""Convolution over 1, 2 or 3 spatial axes, by one body.

The windows of x are laid out as columns, (C * prod(k), prod(O) * N), so that one 2-d product with the weight gives the
whole result. The batch is the *last* axis of the columns: each copy then has the contiguous batch as its inner loop,
which on NumPy makes the columns 2 to 4 times and their adjoint 1.5 times faster than orders that end in the image's
axes. The result is a transposed view of (O, *L, N) memory, and NumPy's elementwise functions keep that order, so chains
of layers pay for it once.

The columns are not saved for the weight's gradient: making them again takes a quarter of that gradient's time, saving
them prod(k) times the memory of x.
"""

from __future__ import annotations

import math

from ..errors import OptionError, ShapeError, explain
from .op import op

__all__ = ["conv"]


@op(promote="same")
def conv(xp, x, weight, bias=None, *, stride, padding, dilation, groups=1):
    """Cross-correlation of x with weight; `torch.nn.functional.conv1d`, `conv2d` and `conv3d`.

    Args:
        x: (N, C, *L).
        weight: (O, C / groups, *k).
        bias: (O,) or None.
        stride: One int for each spatial axis.
        padding: (before, after) zeros for each spatial axis.
        dilation: One int for each spatial axis.
        groups: Channels are split into this many groups, each with its own O / groups filters.

    Returns:
        (N, O, *((L + before + after - dilation * (k - 1) - 1) // stride + 1)).

    Raises:
        ShapeError: The shapes do not fit together.

    Example:
        >>> import numpy as np
        >>> x, weight = np.ones((1, 1, 4, 4), "float32"), np.ones((2, 1, 3, 3), "float32")
        >>> conv(x, weight, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1)).shape
        (1, 2, 2, 2)
    """
    out = conv_shape(x.shape, weight.shape, None if bias is None else bias.shape, stride, padding, dilation, groups)
    n, o, k = x.shape[0], weight.shape[0], len(stride)
    columns = _columns(xp, x, weight.shape[2:], stride, padding, dilation, groups)
    y = xp.matmul(_matrix(xp, weight, groups), columns)
    if bias is not None:
        y = y + xp.reshape(bias, shape=(*_split(o, groups), 1))
    return xp.transpose(xp.reshape(y, shape=(o, *out[2:], n)), axes=(k + 1, *range(k + 1)))


@conv.vjp("x")
def _(xp, g, weight, x_shape, stride, padding, dilation, groups):
    n, c, *lengths = x_shape
    size, k = weight.shape[2:], len(stride)
    d = xp.matmul(_swap(xp, _matrix(xp, weight, groups)), _cotangent_matrix(xp, g, groups))
    d = xp.reshape(d, shape=(c, *size, *g.shape[2:], n))
    d = xp.transpose(d, axes=(2 * k + 1, 0, *range(k + 1, 2 * k + 1), *range(1, k + 1)))  # (N, C, *O, *k)
    padded = tuple(m + before + after for m, (before, after) in zip(lengths, padding, strict=True))
    d = xp.fold(d, shape=(n, c, *padded), size=size, stride=stride, dilation=dilation)
    return crop(d, padding, lengths)


@conv.vjp("weight")
def _(xp, g, x, weight_shape, stride, padding, dilation, groups):
    columns = _columns(xp, x, weight_shape[2:], stride, padding, dilation, groups)
    # (columns @ g.T).T rather than g @ columns.T: the long operand untransposed is up to twice as fast.
    d = xp.matmul(columns, _swap(xp, _cotangent_matrix(xp, g, groups)))
    return xp.reshape(_swap(xp, d), shape=weight_shape)


@conv.vjp("bias")
def _(xp, g):
    return xp.sum(g, axis=(0, *range(2, g.ndim)))


def _columns(xp, x, size, stride, padding, dilation, groups):
    """x (N, C, *L) as (C * prod(k), prod(O) * N), or with groups (groups, C / groups * prod(k), prod(O) * N)."""
    k, c = len(size), x.shape[1]
    if any(p != (0, 0) for p in map(tuple, padding)):
        x = xp.transpose(x, axes=(*range(1, k + 2), 0))  # (C, *L, N), in which order `pad` lays out its copy
        x = xp.pad(x, widths=((0, 0), *padding, (0, 0)))
        x = xp.transpose(x, axes=(k + 1, *range(k + 1)))
    w = xp.windows(x, size=size, stride=stride, dilation=dilation)  # (N, C, *O, *k)
    columns = math.prod(w.shape[2 : k + 2]) * w.shape[0]
    w = xp.transpose(w, axes=(1, *range(k + 2, 2 * k + 2), *range(2, k + 2), 0))  # (C, *k, *O, N)
    return xp.reshape(w, shape=(*_split(c, groups, math.prod(size)), columns))


def _cotangent_matrix(xp, g, groups):
    """g (N, O, *L) as (O, prod(L) * N), or with groups (groups, O / groups, prod(L) * N)."""
    n, o, *lengths = g.shape
    g = xp.transpose(g, axes=(*range(1, g.ndim), 0))
    return xp.reshape(g, shape=(*_split(o, groups), math.prod(lengths) * n))


def _matrix(xp, weight, groups):
    """weight (O, C / groups, *k) as (O, C / groups * prod(k)), or with groups (groups, O / groups, ...)."""
    return xp.reshape(weight, shape=(*_split(weight.shape[0], groups), math.prod(weight.shape[1:])))


def _split(n: int, groups: int, each: int = 1) -> tuple[int, ...]:
    return (n * each,) if groups == 1 else (groups, n // groups * each)


def _swap(xp, m):
    return xp.transpose(m, axes=(*range(m.ndim - 2), m.ndim - 1, m.ndim - 2))


def crop(x, padding, lengths):
    """x (..., *padded) without its padding: (..., *lengths)."""
    if tuple(x.shape[x.ndim - len(lengths) :]) == tuple(lengths):
        return x
    return x[(Ellipsis, *(slice(before, before + n) for n, (before, _) in zip(lengths, padding, strict=True)))]


def conv_shape(x, weight, bias, stride, padding, dilation, groups) -> tuple[int, ...]:
    """The shape of `conv`'s result from its operands' shapes; for kernels, which are to refuse what the body refuses.

    Raises:
        ShapeError: The shapes do not fit together.
        OptionError: A stride, dilation, padding or number of groups that cannot be.
    """
    x, weight, k = tuple(x), tuple(weight), len(stride)
    given = f"x {x}, weight {weight}" + ("" if bias is None else f", bias {tuple(bias)}")
    if len(x) != k + 2 or len(weight) != k + 2:
        raise ShapeError(
            explain(
                f"conv over {k} spatial axes takes operands of {k + 2} axes",
                expected=f"x (N, C, {', '.join('L' + str(i) for i in range(k))}) and weight (O, C / groups, ...)",
                given=given,
                do="add the missing axes, such as x[None] for a batch of one",
            )
        )
    if (
        len(padding) != k
        or len(dilation) != k
        or min(*stride, *dilation, groups) < 1
        or any(min(p) < 0 for p in padding)
    ):
        raise OptionError(
            explain(
                f"conv over {k} spatial axes cannot use these options",
                expected=f"{k} strides and dilations of at least 1, {k} pairs of padding, groups at least 1",
                given=f"stride={stride}, padding={padding}, dilation={dilation}, groups={groups}",
            )
        )
    if x[1] != weight[1] * groups or weight[0] % groups:
        raise ShapeError(
            explain(
                "conv: the channels of x and weight do not fit together",
                expected=f"weight (O, C / groups, ...) with C = {x[1]}, groups = {groups}, and O a multiple of groups",
                given=given,
                do=f"give x {weight[1] * groups} channels, or the layer in_channels={x[1]}",
            )
        )
    if bias is not None and tuple(bias) != weight[:1]:
        raise ShapeError(explain("conv: one bias for each filter", expected=f"bias {weight[:1]}", given=given))
    out = tuple(
        (n + before + after - d * (s - 1) - 1) // t + 1
        for n, s, t, (before, after), d in zip(x[2:], weight[2:], stride, padding, dilation, strict=True)
    )
    if min(out) < 1:
        spans = tuple(d * (s - 1) + 1 for s, d in zip(weight[2:], dilation, strict=True))
        raise ShapeError(
            explain(
                "conv: the kernel is larger than the padded input",
                expected=f"padded lengths of at least {spans}",
                given=f"{given}, padding={padding}, dilation={dilation}",
                do="use a larger input, more padding, or a smaller kernel",
            )
        )
    return (x[0], weight[0], *out)
