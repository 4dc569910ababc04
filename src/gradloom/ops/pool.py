"""Pooling over the last axes: maximum, average, and average to a given size.

Maxima and sums are taken axis by axis over strided slices, which on NumPy is up to 30 times faster than reducing
windows.
"""

from __future__ import annotations

import functools
import itertools
import math

from ..dtypes import iinfo
from ..errors import OptionError, ShapeError, explain
from .conv import crop
from .op import op

__all__ = ["adaptive_avg_pool", "avg_pool", "max_pool"]


@op
def max_pool(xp, x, *, size, stride, padding, dilation, ceil_mode=False):
    """The maximum of each window over the last len(size) axes; `torch.nn.functional.max_pool1d`, `2d` and `3d`.

    The gradient goes to one element of each window, the first of equal maxima in row-major order. (To none where the
    maximum is NaN.)

    Args:
        x: (..., *L).
        size, stride, dilation: One int for each spatial axis.
        padding: (before, after) for each spatial axis, at most half of the window; padding never wins.
        ceil_mode: A last window may reach beyond the padded input, if it starts before the padding at the end.

    Returns:
        (..., *O), O = (L + before + after - dilation * (size - 1) - 1) // stride + 1, in ceil_mode rounded up.

    Example:
        >>> import numpy as np
        >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
        >>> max_pool(x, size=(2, 2), stride=(2, 2), padding=((0, 0), (0, 0)), dilation=(1, 1))[0, 0].tolist()
        [[5.0, 7.0], [13.0, 15.0]]
    """
    out, widths = pool_shape("max_pool", x.shape, size, stride, padding, dilation, ceil_mode)
    return _slide(_pad(xp, x, widths, _lowest(xp, x)), xp.maximum, out, size, stride, dilation)


@max_pool.vjp("x")
def _(xp, g, x, out, size, stride, padding, dilation, ceil_mode):
    counts, lengths = out.shape[out.ndim - len(size) :], x.shape[x.ndim - len(size) :]
    _, widths = pool_shape("max_pool", x.shape, size, stride, padding, dilation, ceil_mode)
    x = _pad(xp, x, widths, _lowest(xp, x))
    taken, parts = None, []
    for offset in itertools.product(*map(range, size)):
        hit = xp.equal(x[_slices(offset, counts, stride, dilation)], out)
        parts.append(xp.where(hit if taken is None else hit & ~taken, g, 0))
        taken = hit if taken is None else taken | hit
    windows = xp.transpose(xp.stack(*parts, axis=0), axes=(*range(1, g.ndim + 1), 0))
    windows = xp.reshape(windows, shape=(*g.shape, *size))
    return crop(xp.fold(windows, shape=x.shape, size=size, stride=stride, dilation=dilation), widths, lengths)


@op(promote="float")
def avg_pool(xp, x, *, size, stride, padding, ceil_mode=False, count_include_pad=True, divisor=None):
    """The mean of each window over the last len(size) axes; `torch.nn.functional.avg_pool1d`, `2d` and `3d`.

    Args:
        x: (..., *L), of floats.
        size, stride: One int for each spatial axis.
        padding: (before, after) zeros for each spatial axis, at most half of the window.
        ceil_mode: As for `max_pool`; what lies beyond the padding never counts.
        count_include_pad: Padding counts as elements.
        divisor: Divides each sum, in place of the number of elements.

    Returns:
        (..., *O), O as for `max_pool`.

    Example:
        >>> import numpy as np
        >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
        >>> avg_pool(x, size=(2, 2), stride=(2, 2), padding=((0, 0), (0, 0)))[0, 0].tolist()
        [[2.5, 4.5], [10.5, 12.5]]
    """
    ones = (1,) * len(size)
    out, widths = pool_shape("avg_pool", x.shape, size, stride, padding, ones, ceil_mode)
    total = _slide(_pad(xp, x, widths, 0), xp.add, out, size, stride, ones)
    return total / (divisor or _counts(xp, x, x.shape, size, stride, padding, widths, out, count_include_pad))


@avg_pool.vjp("x")
def _(xp, g, x_shape, size, stride, padding, ceil_mode, count_include_pad, divisor):
    k, ones = len(size), (1,) * len(size)
    lengths = x_shape[len(x_shape) - k :]
    out, widths = pool_shape("avg_pool", x_shape, size, stride, padding, ones, ceil_mode)
    g = g / (divisor or _counts(xp, g, x_shape, size, stride, padding, widths, out, count_include_pad))
    # Each element of a window has the same cotangent: a view with strides of 0, no copy.
    windows = xp.broadcast_to(xp.reshape(g, shape=(*g.shape, *ones)), shape=(*g.shape, *size))
    padded = tuple(n + before + after for n, (before, after) in zip(lengths, widths, strict=True))
    d = xp.fold(windows, shape=(*x_shape[: len(x_shape) - k], *padded), size=size, stride=stride, dilation=ones)
    return crop(d, widths, lengths)


@op(promote="float")
def adaptive_avg_pool(xp, x, *, output_size):
    """The means of output_size bins over the last axes; `torch.nn.functional.adaptive_avg_pool1d`, `2d` and `3d`.

    Bin i of m over an axis of n elements goes from floor(i * n / m) to ceil((i + 1) * n / m), so bins may overlap.

    Args:
        x: (..., *L), of floats.
        output_size: One int for each spatial axis, or None to keep that axis.

    Returns:
        (..., *output_size).

    Example:
        >>> import numpy as np
        >>> adaptive_avg_pool(np.arange(6.0).reshape(1, 1, 6), output_size=(2,))[0, 0].tolist()
        [1.0, 4.0]
    """
    _check_adaptive(x.shape, output_size)
    spatial = tuple(range(x.ndim - len(output_size), x.ndim))
    if all(m == 1 for m in output_size):
        return xp.mean(x, axis=spatial, keepdims=True)
    for axis, m in zip(spatial, output_size, strict=True):
        n = x.shape[axis]
        if m is None or m == n:
            continue
        if n % m == 0:
            x = xp.mean(xp.reshape(x, shape=(*x.shape[:axis], m, n // m, *x.shape[axis + 1 :])), axis=axis + 1)
        else:
            means = (xp.mean(x[_along(axis, *bin_)], axis=axis, keepdims=True) for bin_ in _bins(n, m))
            x = xp.concat(*means, axis=axis)
    return x


@adaptive_avg_pool.vjp("x")
def _(xp, g, x_shape, output_size):
    spatial = tuple(range(g.ndim - len(output_size), g.ndim))
    if all(m == 1 for m in output_size):
        return xp.broadcast_to(g / math.prod(x_shape[a] for a in spatial), shape=x_shape)
    for axis in spatial:
        n, m = x_shape[axis], g.shape[axis]
        if m == n:
            continue
        if n % m == 0:
            g = xp.repeat(g / (n // m), repeats=n // m, axis=axis)
        else:
            bins = _bins(n, m)
            each = [g[_along(axis, i, i + 1)] / (end - start) for i, (start, end) in enumerate(bins)]
            shared = ([d for d, (start, end) in zip(each, bins, strict=True) if start <= j < end] for j in range(n))
            g = xp.concat(*(functools.reduce(xp.add, ds) for ds in shared), axis=axis)
    return g


def pool_shape(name, x, size, stride, padding, dilation, ceil_mode):
    """The spatial shape of a pooled array, and the padding, (before, after) for each axis, that holds every window.

    Raises:
        ShapeError: x has too few axes, or is smaller than a window.
        OptionError: Options that cannot be.
    """
    k = len(size)
    given = f"size={size}, stride={stride}, padding={padding}, dilation={dilation}"
    if len(x) < k:
        raise ShapeError(explain(f"{name} over {k} axes", expected=f"x of at least {k} axes", given=f"x {tuple(x)}"))
    if not len(stride) == len(padding) == len(dilation) == k or min(*size, *stride, *dilation) < 1:
        raise OptionError(
            explain(f"{name} cannot use these options", expected=f"{k} values of 1 or more each", given=given)
        )
    if any(min(p) < 0 or 2 * max(p) > d * (s - 1) + 1 for s, p, d in zip(size, padding, dilation, strict=True)):
        raise OptionError(explain(f"{name}: padding has to be between 0 and half of the window", given=given))
    out, widths = [], []
    for n, s, t, (before, after), d in zip(x[len(x) - k :], size, stride, padding, dilation, strict=True):
        span = d * (s - 1) + 1
        room = n + before + after - span
        count = room // t + 1
        if ceil_mode and room % t and count * t < n + before:
            count += 1
        if count < 1 or room < 0:
            raise ShapeError(
                explain(
                    f"{name}: a window is larger than the padded input",
                    expected=f"at least {span - before - after} elements on each pooled axis",
                    given=f"x {tuple(x)}, {given}",
                    do="use a larger input or smaller windows",
                )
            )
        out.append(count)
        widths.append((before, max((count - 1) * t + span - n - before, 0)))
    return tuple(out), tuple(widths)


def _slices(offset, counts, stride, dilation) -> tuple:
    """The key of the elements at one offset of all windows."""
    return (
        Ellipsis,
        *(
            slice(o * d, o * d + t * (n - 1) + 1, t)
            for o, n, t, d in zip(offset, counts, stride, dilation, strict=True)
        ),
    )


def _slide(x, combine, out, size, stride, dilation):
    """The windows of x combined, one axis after the other."""
    k = len(size)
    for i, (n, s, t, d) in enumerate(zip(out, size, stride, dilation, strict=True)):
        rest = (slice(None),) * (k - 1 - i)
        x = functools.reduce(combine, (x[(*_slices((o,), (n,), (t,), (d,)), *rest)] for o in range(s)))
    return x


def _pad(xp, x, widths, value):
    if all(w == (0, 0) for w in widths):
        return x
    return xp.pad(x, widths=(*((0, 0),) * (x.ndim - len(widths)), *widths), value=value)


def _lowest(xp, x):
    dtype = xp.dtype(x)
    return -math.inf if dtype.kind == "float" else iinfo(dtype).min


def _counts(xp, like, x_shape, size, stride, padding, widths, out, include_pad):
    """By what the sums of `avg_pool` are divided: a number, or an array of them where windows differ."""
    k = len(size)
    beyond = tuple((0, w[1] - min(p[1], w[1])) for p, w in zip(padding, widths, strict=True))
    inside = tuple((w[0], w[1] - b[1]) for w, b in zip(widths, beyond, strict=True))
    if all(w == (0, 0) for w in (beyond if include_pad else widths)):
        return math.prod(size)
    ones = xp.ones(shape=tuple(x_shape[len(x_shape) - k :]), dtype=xp.dtype(like), like=like)
    ones = _pad(xp, _pad(xp, ones, inside, 1 if include_pad else 0), beyond, 0)
    return _slide(ones, xp.add, out, size, stride, (1,) * k)


def _bins(n: int, m: int) -> list[tuple[int, int]]:
    return [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]


def _along(axis: int, start: int, end: int) -> tuple:
    return (*(slice(None),) * axis, slice(start, end))


def _check_adaptive(x, output_size) -> None:
    k = len(output_size)
    if len(x) < k or any(m is not None and m < 1 for m in output_size) or 0 in x[len(x) - k :]:
        raise ShapeError(
            explain(
                "adaptive_avg_pool: the axes of x do not fit the output",
                expected=f"x with at least {k} axes, none of them empty, and sizes of 1 or more",
                given=f"x {tuple(x)}, output_size={output_size}",
            )
        )
