"""Convolutions and their transposes over 1, 2 and 3 spatial axes."""

from __future__ import annotations

from typing import Any, ClassVar

from ... import nn
from ...errors import OptionError, explain, user_frame
from ..part import Layer, Shapes, size
from .base import at, at_least, choice, each, first, whole, windows


class _Convolution(Layer):
    """A convolution of input (N, C, *L) with weight (out_channels, C / groups, *kernel_size): (N, out_channels, *L').

    L' = (L + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1. The number of channels C is found out.

    Args:
        kernel_size, stride, dilation: One int, or one for each spatial axis.
        out_channels: Channels of the result. Default: from the shape of a given weight or of the output.
        padding: Zeros at both ends of each spatial axis: an int, one for each axis, "valid" (none) or "same" (the result has
            the size of the input; for stride 1).
        groups: Channels are split into this many groups with filters of their own.
        use_bias: Add a bias.
        name: Its name in models.
    """

    _axes: ClassVar[int] = 0

    def __init__(
        self,
        kernel_size: Any,
        out_channels: int | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        use_bias: bool = True,
        name: str | None = None,
    ):
        at_least(self, 1, kernel_size=kernel_size, out_channels=out_channels, stride=stride, dilation=dilation)
        at_least(self, 1, groups=groups)
        if isinstance(padding, str):
            choice(self, "padding", padding, ("same", "valid"))
        else:
            at_least(self, 0, padding=padding)
        if padding == "same" and any(s != 1 for s in each(stride, self._axes)):
            raise OptionError(
                explain(
                    f"{type(self).__name__}: padding='same' needs stride 1",
                    given=f"stride={stride!r}",
                    where=user_frame(),
                )
            )
        self.kernel_size, self.out_channels, self.stride = whole(kernel_size), out_channels, whole(stride)
        self.padding, self.dilation, self.groups = whole(padding), whole(dilation), groups
        self.use_bias, self.name = use_bias, name

    @property
    def parameter_keys(self) -> tuple[str, ...]:
        return ("weight", "bias") if self.use_bias else ("weight",)

    def make(self, input: Any = None, weight: Any = None, output: Any = None, **_: Any) -> nn.Module:
        k = self._axes
        inside = size(weight, 1, "weight") * self.groups if weight else size(input, -k - 1)
        outside = self.out_channels or (size(weight, 0, "weight") if weight else size(output, -k - 1, "output"))
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[k - 1]
        return kind(
            inside, outside, self.kernel_size, self.stride, self.padding, self.dilation, self.groups, self.use_bias
        )

    def relate(self, shapes: Shapes) -> Shapes:
        k = self._axes
        weight = shapes.get("weight") or (None,) * (k + 2)
        outside = first(self.out_channels, weight[0], at(shapes.get("output"), -k - 1))
        inside = first(None if weight[1] is None else weight[1] * self.groups, at(shapes.get("input"), -k - 1))
        size, stride = each(self.kernel_size, k), each(self.stride, k)
        reach = [d * (s - 1) for s, d in zip(size, each(self.dilation, k), strict=True)]  # of a window, less 1
        if isinstance(self.padding, str):
            ends = reach if self.padding == "same" else [0] * k
        else:
            ends = [2 * p for p in each(self.padding, k)]

        def count(n: int, i: int) -> int | None:
            room = n + ends[i] - reach[i] - 1
            return room // stride[i] + 1 if room >= 0 else None

        def back(n: int, i: int) -> int | None:
            return n - ends[i] + reach[i] if stride[i] == 1 else None

        found = windows(shapes, k, (inside, outside), count, back)
        per_group = None if inside is None else inside // self.groups
        return {**found, "weight": (outside, per_group, *size), "bias": (outside,)}


class Convolution1D(_Convolution):
    __doc__ = _Convolution.__doc__
    _axes = 1


class Convolution2D(_Convolution):
    __doc__ = _Convolution.__doc__
    _axes = 2


class Convolution3D(_Convolution):
    __doc__ = _Convolution.__doc__
    _axes = 3


class _ConvolutionTranspose(Layer):
    """The transpose of a convolution: input (N, C, *L) with weight (C, out_channels / groups, *kernel_size).

    The result is (N, out_channels, *L'), L' = (L - 1) * stride - 2 * padding + dilation * (kernel_size - 1) +
    output_padding + 1. The number of channels C is found out.

    Args:
        kernel_size, stride, dilation: One int, or one for each spatial axis.
        out_channels: Channels of the result. Default: from the shape of a given weight or of the output.
        padding: What is cut at both ends of each spatial axis of the result.
        output_padding: What is added at the end; smaller than stride or dilation.
        groups: Channels are split into this many groups with filters of their own.
        use_bias: Add a bias.
        name: Its name in models.
    """

    _axes: ClassVar[int] = 0

    def __init__(
        self,
        kernel_size: Any,
        out_channels: int | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        use_bias: bool = True,
        name: str | None = None,
    ):
        at_least(self, 1, kernel_size=kernel_size, out_channels=out_channels, stride=stride, dilation=dilation)
        at_least(self, 1, groups=groups)
        at_least(self, 0, padding=padding, output_padding=output_padding)
        self.kernel_size, self.out_channels, self.stride = whole(kernel_size), out_channels, whole(stride)
        self.padding, self.output_padding, self.dilation = whole(padding), whole(output_padding), whole(dilation)
        self.groups, self.use_bias, self.name = groups, use_bias, name

    @property
    def parameter_keys(self) -> tuple[str, ...]:
        return ("weight", "bias") if self.use_bias else ("weight",)

    def make(self, input: Any = None, weight: Any = None, output: Any = None, **_: Any) -> nn.Module:
        k = self._axes
        inside = size(weight, 0, "weight") if weight else size(input, -k - 1)
        outside = self.out_channels
        if outside is None:
            outside = size(weight, 1, "weight") * self.groups if weight else size(output, -k - 1, "output")
        kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[k - 1]
        return kind(
            inside, outside, self.kernel_size, self.stride, self.padding, self.output_padding, self.groups,
            self.use_bias, self.dilation,
        )  # fmt: skip

    def relate(self, shapes: Shapes) -> Shapes:
        k = self._axes
        weight = shapes.get("weight") or (None,) * (k + 2)
        given = None if weight[1] is None else weight[1] * self.groups
        outside = first(self.out_channels, given, at(shapes.get("output"), -k - 1))
        inside = first(weight[0], at(shapes.get("input"), -k - 1))
        sizes, strides = each(self.kernel_size, k), each(self.stride, k)
        options = (each(self.dilation, k), each(self.padding, k), each(self.output_padding, k))
        # L' - (L - 1) * stride
        ends = [d * (s - 1) - 2 * p + o + 1 for s, d, p, o in zip(sizes, *options, strict=True)]

        def count(n: int, i: int) -> int | None:
            return (n - 1) * strides[i] + ends[i] if n else None

        def back(n: int, i: int) -> int | None:
            whole_steps, rest = divmod(n - ends[i], strides[i])
            return None if rest else whole_steps + 1

        found = windows(shapes, k, (inside, outside), count, back)
        per_group = None if outside is None else outside // self.groups
        return {**found, "weight": (inside, per_group, *sizes), "bias": (outside,)}


class ConvolutionTranspose1D(_ConvolutionTranspose):
    __doc__ = _ConvolutionTranspose.__doc__
    _axes = 1


class ConvolutionTranspose2D(_ConvolutionTranspose):
    __doc__ = _ConvolutionTranspose.__doc__
    _axes = 2


class ConvolutionTranspose3D(_ConvolutionTranspose):
    __doc__ = _ConvolutionTranspose.__doc__
    _axes = 3
