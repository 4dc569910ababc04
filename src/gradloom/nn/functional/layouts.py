"""Functions that move elements: padding, shuffling, windows."""

from __future__ import annotations

import math
from typing import Any

from ... import ops
from ...errors import OptionError, ShapeError, explain
from ...tensor.functions import cat
from .shared import each


def pad(input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Any:
    """Puts elements around the last axes; a negative width cuts.

    Args:
        input: A Tensor.
        pad: (before, after) of the last axis, then of the one before it, and so on, in one sequence.
        mode: "constant"; or, for the last 1 to 3 axes, all but the batch and channels: "reflect" (mirrored at the edge
            elements), "replicate" (the edge elements) or "circular" (from the other end).
        value: The constant. Default: 0.
    """
    if len(pad) % 2 or len(pad) // 2 > input.ndim:
        raise OptionError(
            "Padding length must be divisible by 2 and at most twice the number of dimensions of the input"
        )
    pairs = [(0, 0)] * (input.ndim - len(pad) // 2) + [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    if mode != "constant":
        return _padded(input, pad, pairs, mode, value)
    if any(min(p) < 0 for p in pairs):
        input, pairs = _cropped(input, pairs)
    return ops.pad(input, widths=tuple(pairs), value=0 if value is None else value)


def _cropped(x: Any, pairs: list) -> tuple[Any, list]:
    """x without what negative widths cut, and the widths that are left."""
    x = x[tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, pairs, strict=True))]
    return x, [(max(a, 0), max(b, 0)) for a, b in pairs]


def _padded(x: Any, pad: Any, pairs: list, mode: str, value: float | None) -> Any:
    """Padding with elements of x."""
    if mode not in ("reflect", "replicate", "circular"):
        raise OptionError(
            explain(
                f"Unrecognised padding mode {mode}", expected="'constant', 'reflect', 'replicate' or 'circular'",
                given=repr(mode),
            )
        )  # fmt: skip
    if value:
        raise OptionError(f'Padding mode "{mode}" doesn\'t take in value argument')
    k = len(pad) // 2
    if not 1 <= k <= 3 or x.ndim not in (k + 1, k + 2):
        raise ShapeError(
            explain(
                "Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now",
                expected=f"widths for all axes but the channels and the batch (input of {k + 1} or {k + 2} axes)",
                given=f"input {list(x.shape)}, pad={tuple(pad)}",
            )
        )
    for axis, (n, (a, b)) in enumerate(zip(x.shape, pairs, strict=True)):
        most = {"reflect": n - 1, "circular": n, "replicate": max(a, b) if n else 0}[mode]
        if max(a, b) > most:
            what = "reflect" if mode == "reflect" else "wrap around" if mode == "circular" else "replicate"
            raise ShapeError(
                explain(
                    f"Padding size should be less than the corresponding input dimension: too few elements to {what}",
                    expected=f"at most {most} on axis {axis}", given=f"({a}, {b}), input {list(x.shape)}",
                )
            )  # fmt: skip
    if mode == "circular" and any(min(p) < 0 for p in pairs):
        x, pairs = _cropped(x, pairs)
    for axis, (a, b) in enumerate(pairs):
        if a > 0 or b > 0:
            x = _extended(x, axis, max(a, 0), max(b, 0), mode)
    return _cropped(x, [(min(a, 0), min(b, 0)) for a, b in pairs])[0] if any(min(p) < 0 for p in pairs) else x


def _extended(x: Any, axis: int, a: int, b: int, mode: str) -> Any:
    def part(start: int, stop: int) -> Any:
        return x[(slice(None),) * axis + (slice(start, stop),)]

    n = x.shape[axis]
    parts = [x]
    if mode == "circular":
        parts = [part(n - a, n), x, part(0, b)]
    elif mode == "reflect":
        parts = [part(1, a + 1).flip(axis), x, part(n - b - 1, n - 1).flip(axis)]
    else:
        shapes = [tuple(w if i == axis else m for i, m in enumerate(x.shape)) for w in (a, b)]
        parts = [part(0, 1).expand(shapes[0]), x, part(n - 1, n).expand(shapes[1])]
    return cat([p for p in parts if p.shape[axis]], axis)


# ---------------------------------------------------------------------------------------------------------- shuffling


def pixel_shuffle(input: Any, upscale_factor: int) -> Any:
    """Channels as pixels: (..., C * r**2, H, W) gives (..., C, H * r, W * r); Shi et al. 2016."""
    r = upscale_factor
    _check_pixels("pixel_shuffle", input, r)
    *lead, c, h, w = input.shape
    if c % (r * r):
        raise ShapeError(
            f"pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, "
            f"but input.size(-3)={c} is not divisible by {r * r}"
        )
    x = input.reshape(math.prod(lead), c // (r * r), r, r, h, w).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(*lead, c // (r * r), h * r, w * r)


def pixel_unshuffle(input: Any, downscale_factor: int) -> Any:
    """The reverse of `pixel_shuffle`: (..., C, H * r, W * r) gives (..., C * r**2, H, W)."""
    r = downscale_factor
    _check_pixels("pixel_unshuffle", input, r)
    *lead, c, h, w = input.shape
    if h % r or w % r:
        raise ShapeError(
            f"pixel_unshuffle expects height and width to be divisible by downscale_factor, but input "
            f"{list(input.shape)} is not divisible by {r}"
        )
    x = input.reshape(math.prod(lead), c, h // r, r, w // r, r).permute(0, 1, 3, 5, 2, 4)
    return x.reshape(*lead, c * r * r, h // r, w // r)


def _check_pixels(name: str, x: Any, factor: int) -> None:
    if x.ndim < 3:
        raise ShapeError(
            f"{name} expects input to have at least 3 dimensions, but got input with {x.ndim} dimension(s)"
        )
    if factor <= 0:
        raise OptionError(f"{name} expects a positive factor, but got {factor}")


def channel_shuffle(input: Any, groups: int) -> Any:
    """The channels of x (N, C, ...), in `groups` groups of neighbours, taken in turn; Zhang et al. 2018."""
    if input.ndim < 3:
        raise ShapeError(f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(input.shape)}")
    n, c, *rest = input.shape
    if groups <= 0 or c % groups:
        raise ShapeError(f"Number of channels must be divisible by groups. Got {c} channels and {groups} groups.")
    return input.reshape(n, groups, c // groups, *rest).transpose(1, 2).reshape(n, c, *rest)


# ------------------------------------------------------------------------------------------------------------ windows


def unfold(input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """The windows of x (N, C, H, W) or (C, H, W) as columns: (N, C * prod(kernel_size), number of windows)."""
    if input.ndim not in (3, 4):
        raise ShapeError(f"Expected 3D or 4D (batch mode) tensor for unfold, but got {list(input.shape)}")
    size, step, gap, (p, q) = (each(v, 2) for v in (kernel_size, stride, dilation, padding))
    x = input if input.ndim == 4 else input.unsqueeze(0)
    x = ops.windows(ops.pad(x, widths=((0, 0), (0, 0), (p, p), (q, q))), size=size, stride=step, dilation=gap)
    n, c, h, w = x.shape[:4]
    x = x.permute(0, 1, 4, 5, 2, 3).reshape(n, c * size[0] * size[1], h * w)
    return x if input.ndim == 4 else x.squeeze(0)


def fold(input: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """The transpose of `unfold`: adds the columns (N, C * prod(kernel_size), L) into images (N, C, *output_size)."""
    if input.ndim not in (2, 3):
        raise ShapeError(f"Expected 2D or 3D (batch mode) tensor for fold, but got {list(input.shape)}")
    size, step, gap, pads, out = (each(v, 2) for v in (kernel_size, stride, dilation, padding, output_size))
    x = input if input.ndim == 3 else input.unsqueeze(0)
    full = tuple(n + 2 * p for n, p in zip(out, pads, strict=True))
    counts = tuple((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(full, size, step, gap, strict=True))
    n, rows, columns = x.shape
    if rows % (size[0] * size[1]) or columns != counts[0] * counts[1] or min(counts) < 1:
        raise ShapeError(
            explain(
                "fold: the columns do not fit the options",
                expected=f"(N, C * {size[0] * size[1]}, {counts[0]} * {counts[1]})", given=list(input.shape),
            )
        )  # fmt: skip
    c = rows // (size[0] * size[1])
    x = x.reshape(n, c, *size, *counts).permute(0, 1, 4, 5, 2, 3)
    x = ops.fold(x, shape=(n, c, *full), size=size, stride=step, dilation=gap)
    x = x[:, :, pads[0] : pads[0] + out[0], pads[1] : pads[1] + out[1]]
    return x if input.ndim == 3 else x.squeeze(0)
