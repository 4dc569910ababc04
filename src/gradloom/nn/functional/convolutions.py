"""Convolutions."""

from __future__ import annotations

from typing import Any

from ... import ops
from ...errors import OptionError, ShapeError, explain
from ...ops.conv import conv as _conv
from .layouts import pad
from .shared import each


def conv(k: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """Convolution over k spatial axes; x (N, C, *L), or (C, *L)."""
    if input.ndim not in (k + 1, k + 2):
        raise ShapeError(
            f"Expected {k + 1}D (unbatched) or {k + 2}D (batched) input to conv{k}d, but got input of size: "
            f"{list(input.shape)}"
        )
    stride, dilation = each(stride, k), each(dilation, k)
    widths: Any
    if padding == "same":
        if any(s != 1 for s in stride):
            raise OptionError("padding='same' is not supported for strided convolutions")
        totals = [d * (s - 1) for d, s in zip(dilation, weight.shape[2:], strict=True)]
        widths = tuple((t // 2, t - t // 2) for t in totals)
    elif padding == "valid":
        widths = ((0, 0),) * k
    elif isinstance(padding, str):
        raise OptionError(f"Invalid padding string {padding!r}, should be one of {{'valid', 'same'}}")
    else:
        widths = tuple((p, p) for p in each(padding, k))
    x = input if input.ndim == k + 2 else input.unsqueeze(0)
    out = _conv(x, weight, bias, stride=stride, padding=widths, dilation=dilation, groups=groups)
    return out if x is input else out.squeeze(0)


def conv1d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Cross-correlation of (N, C, L) with (O, C / groups, k)."""
    return conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Cross-correlation of (N, C, H, W) with (O, C / groups, k, k)."""
    return conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Cross-correlation of (N, C, D, H, W) with (O, C / groups, k, k, k)."""
    return conv(3, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose(
    k: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, output_padding: Any, groups: int,
    dilation: Any,
) -> Any:  # fmt: skip
    """The transpose of a convolution over k spatial axes: x (N, C, *L) or (C, *L), weight (C, O / groups, *k)."""
    if input.ndim not in (k + 1, k + 2):
        raise ShapeError(
            f"Expected {k + 1}D (unbatched) or {k + 2}D (batched) input to conv_transpose{k}d, but got input of size: "
            f"{list(input.shape)}"
        )
    stride, padding, more, dilation = (each(v, k) for v in (stride, padding, output_padding, dilation))
    if any(m >= max(s, d) for m, s, d in zip(more, stride, dilation, strict=True)):
        raise OptionError(
            "output padding must be smaller than either stride or dilation, but got "
            f"output_padding={more}, stride={stride}, dilation={dilation}"
        )
    x = input if input.ndim == k + 2 else input.unsqueeze(0)
    n, c, *lengths = x.shape
    size, out = tuple(weight.shape[2:]), weight.shape[1] * groups
    if weight.ndim != k + 2 or weight.shape[0] != c or c % groups or (bias is not None and tuple(bias.shape) != (out,)):
        raise ShapeError(
            explain(
                f"conv_transpose{k}d: the shapes do not fit together",
                expected=f"weight ({c}, O / groups, ...) of {k + 2} axes, bias (O,)",
                given=f"input {list(input.shape)}, weight {list(weight.shape)}, groups={groups}"
                + ("" if bias is None else f", bias {list(bias.shape)}"),
            )
        )
    matrix = weight.reshape(groups, c // groups, -1).mT
    columns = matrix @ x.reshape(n, groups, c // groups, -1)  # (N, groups, O / groups * prod(k), prod(L))
    columns = columns.reshape(n, out, *size, *lengths)
    columns = columns.permute(0, 1, *range(k + 2, 2 * k + 2), *range(2, k + 2))
    full = tuple((m - 1) * s + d * (w - 1) + 1 for m, s, d, w in zip(lengths, stride, dilation, size, strict=True))
    y = ops.fold(columns, shape=(n, out, *full), size=size, stride=stride, dilation=dilation)
    if any(padding) or any(more):
        y = pad(y, [w for p, m in zip(reversed(padding), reversed(more), strict=True) for w in (-p, m - p)])
    if bias is not None:
        y = y + bias.reshape(-1, *(1,) * k)
    return y if x is input else y.squeeze(0)


def conv_transpose1d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
    groups: int = 1, dilation: Any = 1,
) -> Any:  # fmt: skip
    """The transpose of `conv1d`: (N, C, L) with (C, O / groups, k)."""
    return conv_transpose(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
    groups: int = 1, dilation: Any = 1,
) -> Any:  # fmt: skip
    """The transpose of `conv2d`: (N, C, H, W) with (C, O / groups, k, k)."""
    return conv_transpose(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
    groups: int = 1, dilation: Any = 1,
) -> Any:  # fmt: skip
    """The transpose of `conv3d`: (N, C, D, H, W) with (C, O / groups, k, k, k)."""
    return conv_transpose(3, input, weight, bias, stride, padding, output_padding, groups, dilation)
