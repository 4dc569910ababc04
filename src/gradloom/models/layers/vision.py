"""Layers of images: other resolutions."""

from __future__ import annotations

from typing import Any

from ... import nn
from ...errors import OptionError, explain, user_frame
from ..part import Shapes
from .base import Direct, at, at_least, choice, each, first, whole, windows


class Upsample(Direct):
    """input (N, C, *L) resized.

    Args:
        size: The spatial size of the result: an int, or one for each axis.
        scale: What the sizes are multiplied with, instead.
        mode: "nearest", "linear", "bilinear", "bicubic" or "trilinear".
        align_corners: The centres of the corner elements stay where they are, rather than the corners of the image.
        name: Its name in models.
    """

    wires = nn.Upsample
    renamed = {"scale": "scale_factor"}

    def __init__(
        self,
        size: Any = None,
        scale: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        name: str | None = None,
    ):
        self.size, self.scale, self.align_corners, self.name = whole(size), whole(scale), align_corners, name
        self.mode = choice(self, "mode", mode, ("nearest", "linear", "bilinear", "bicubic", "trilinear"))
        if (size is None) == (scale is None):
            raise OptionError(
                explain(
                    "Upsample: the result has a size, or one that is a multiple of the input's",
                    expected="size or scale",
                    given=f"size={size!r}, scale={scale!r}",
                    where=user_frame(),
                )
            )

    def relate(self, shapes: Shapes) -> Shapes:
        x = shapes.get("input")
        known = x if x is not None else shapes.get("output")
        if known is None or len(known) < 3:
            return {}
        k = len(known) - 2
        sizes = (None,) * k if self.size is None else each(self.size, k)
        scales = each(self.scale, k)
        found = windows(shapes, k, (), lambda n, i: sizes[i] if self.scale is None else int(n * scales[i]))
        if found and self.size is not None:
            found["output"] = (*(found["output"] or ())[:-k], *sizes)
        return found


class PixelShuffle(Direct):
    """Channels as pixels: (..., C * factor**2, H, W) gives (..., C, H * factor, W * factor)."""

    wires = nn.PixelShuffle
    renamed = {"factor": "upscale_factor"}

    def __init__(self, factor: int, name: str | None = None):
        at_least(self, 1, factor=factor)
        self.factor, self.name = factor, name

    def relate(self, shapes: Shapes) -> Shapes:
        return _shuffled(shapes, "input", "output", self.factor)


class PixelUnshuffle(Direct):
    """Pixels as channels: (..., C, H * factor, W * factor) gives (..., C * factor**2, H, W)."""

    wires = nn.PixelUnshuffle
    renamed = {"factor": "downscale_factor"}

    def __init__(self, factor: int, name: str | None = None):
        at_least(self, 1, factor=factor)
        self.factor, self.name = factor, name

    def relate(self, shapes: Shapes) -> Shapes:
        return _shuffled(shapes, "output", "input", self.factor)


def _shuffled(shapes: Shapes, small: str, large: str, r: int) -> Shapes:
    """Shapes (..., C * r**2, H, W) and (..., C, H * r, W * r)."""
    x, y = shapes.get(small), shapes.get(large)
    known = x if x is not None else y
    if known is None or len(known) < 3 or (x is not None and y is not None and len(x) != len(y)):
        return {}
    lead = tuple(first(at(x, k), at(y, k)) for k in range(len(known) - 3))
    c, d = at(x, -3), at(y, -3)
    if c is not None and c % r**2:  # an error when it runs
        return {}
    channels = (first(c, None if d is None else d * r**2), first(d, None if c is None else c // r**2))
    sizes = [channels]
    for k in (-2, -1):
        a, b = at(x, k), at(y, k)
        sizes.append((first(a, None if b is None else b // r), first(b, None if a is None else a * r)))
    return {small: (*lead, *(a for a, _ in sizes)), large: (*lead, *(b for _, b in sizes))}
