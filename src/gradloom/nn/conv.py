"""Convolutions over 1, 2 and 3 spatial axes."""

from __future__ import annotations

import math
from typing import Any

from ..errors import OptionError, ShapeError
from ..tensor.creation import empty
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter


class _Conv(Module):
    """Cross-correlation; `torch.nn.Conv1d`, `Conv2d` and `Conv3d`.

    Args:
        in_channels, out_channels: Sizes of axis 1 of x (N, C, *L) and of the result.
        kernel_size, stride, dilation: One int, or one for each spatial axis.
        padding: Zeros at both ends of each spatial axis: an int, one for each axis, "valid" (none) or "same" (the
            result has the size of x; for stride 1).
        groups: Channels are split into this many groups with filters of their own.
        bias: Add a bias.
        padding_mode: "zeros", or "reflect", "replicate" or "circular": with what is padded instead; see `F.pad`.
        device, dtype: Of the parameters. Default: the backend's.

    Attributes:
        weight: (out_channels, in_channels / groups, *kernel_size), uniform in ±1 / sqrt(fan_in) at first.
        bias: (out_channels,), likewise; or None.
    """

    _axes = 0
    output_padding: tuple[int, ...] = ()

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
        dtype: Any = None,
    ):  # fmt: skip
        super().__init__()
        k = self._axes
        if groups <= 0:
            raise OptionError("groups must be a positive integer")
        if in_channels % groups != 0:
            raise OptionError("in_channels must be divisible by groups")
        if out_channels % groups != 0:
            raise OptionError("out_channels must be divisible by groups")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.dilation = (F.each(v, k) for v in (kernel_size, stride, dilation))
        self.padding = padding if isinstance(padding, str) else F.each(padding, k)
        self.groups, self.padding_mode = groups, padding_mode
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise OptionError(f"Invalid padding string {padding!r}, should be one of {{'valid', 'same'}}")
            if padding == "same" and any(s != 1 for s in self.stride):
                raise OptionError("padding='same' is not supported for strided convolutions")
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise OptionError(
                "padding_mode must be one of {'zeros', 'reflect', 'replicate', 'circular'}, but got "
                f"padding_mode='{padding_mode}'"
            )
        self.weight = Parameter(empty((*self._channels(), *self.kernel_size), device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def _channels(self) -> tuple[int, int]:
        """The sizes of the first axes of the weight."""
        return self.out_channels, self.in_channels // self.groups

    def reset_parameters(self) -> None:
        """Draws new values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init.fans(self.weight)
            if fan_in != 0:
                init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def forward(self, input: Any) -> Any:
        if self.padding_mode != "zeros":
            widths = self._widths()
            x = F.pad(input, widths, self.padding_mode) if any(widths) else input
            return F.conv(self._axes, x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        return F.conv(self._axes, input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def _widths(self) -> list[int]:
        """(before, after) of the last axis, then of the one before it, and so on."""
        if self.padding == "valid":
            return []
        if self.padding == "same":
            totals = [d * (s - 1) for d, s in zip(self.dilation, self.kernel_size, strict=True)]
            return [w for t in reversed(totals) for w in (t // 2, t - t // 2)]
        pads: Any = self.padding
        return [w for p in reversed(pads) for w in (p, p)]

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * len(self.padding):
            text += f", padding={self.padding}"
        if self.dilation != (1,) * len(self.dilation):
            text += f", dilation={self.dilation}"
        if any(self.output_padding):
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        return text if self.padding_mode == "zeros" else f"{text}, padding_mode={self.padding_mode}"


class Conv1d(_Conv):
    __doc__ = _Conv.__doc__
    _axes = 1


class Conv2d(_Conv):
    __doc__ = _Conv.__doc__
    _axes = 2


class Conv3d(_Conv):
    __doc__ = _Conv.__doc__
    _axes = 3


class _ConvTranspose(_Conv):
    """The transpose of a convolution, as in its gradient; `torch.nn.ConvTranspose1d`, `2d` and `3d`.

    Args:
        in_channels, out_channels: Sizes of axis 1 of x (N, C, *L) and of the result.
        kernel_size: Size of the filters: an int, or one for each spatial axis.
        stride: Step of the convolution whose transpose this is: how far the elements of x are apart in the result.
        padding: What is cut at both ends of each spatial axis of the result.
        output_padding: What is added at the end; smaller than stride or dilation.
        groups: Channels are split into this many groups with filters of their own.
        bias: Add a bias.
        dilation: Step from element to element of a filter.
        padding_mode: "zeros".
        device, dtype: Of the parameters. Default: the backend's.

    Attributes:
        weight: (in_channels, out_channels / groups, *kernel_size), uniform in ±1 / sqrt(fan_in) at first, fan_in being
            the size of weight[0].
        bias: (out_channels,), likewise; or None.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        output_padding: Any = 0, groups: int = 1, bias: bool = True, dilation: Any = 1, padding_mode: str = "zeros",
        device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        if padding_mode != "zeros":
            raise OptionError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        super().__init__(
            in_channels, out_channels, kernel_size, stride, F.each(padding, self._axes), dilation, groups, bias,
            padding_mode, device, dtype,
        )  # fmt: skip
        self.output_padding = F.each(output_padding, self._axes)

    def _channels(self) -> tuple[int, int]:
        return self.in_channels, self.out_channels // self.groups

    def forward(self, input: Any, output_size: Any = None) -> Any:
        """The result (N, out_channels, *O), O = (L - 1) * stride - 2 * padding + dilation * (k - 1) + output_padding + 1.

        Args:
            input: (N, C, *L) or (C, *L).
            output_size: O, from which output_padding is found instead.
        """
        more = self.output_padding if output_size is None else self._missing(input, tuple(output_size))
        return F.conv_transpose(
            self._axes, input, self.weight, self.bias, self.stride, self.padding, more, self.groups, self.dilation
        )

    def _missing(self, input: Any, size: tuple) -> tuple[int, ...]:
        """The output_padding that gives the size."""
        k, lead = self._axes, input.ndim - self._axes
        wanted = size[lead:] if len(size) == lead + k else size
        if len(wanted) != k:
            raise ShapeError(
                f"ConvTranspose{k}D: for {input.ndim}D input, output_size must have {k} or {lead + k} elements (got "
                f"{len(size)})"
            )
        low = [
            (n - 1) * s - 2 * p + d * (w - 1) + 1
            for n, s, p, d, w in zip(
                input.shape[lead:], self.stride, self.padding, self.dilation, self.kernel_size, strict=True
            )
        ]
        high = [n + s - 1 for n, s in zip(low, self.stride, strict=True)]
        if any(not a <= n <= b for n, a, b in zip(wanted, low, high, strict=True)):
            raise ShapeError(
                f"requested an output size of {wanted}, but valid sizes range from {low} to {high} (for an input of "
                f"{list(input.shape[lead:])})"
            )
        return tuple(n - a for n, a in zip(wanted, low, strict=True))


class ConvTranspose1d(_ConvTranspose):
    __doc__ = _ConvTranspose.__doc__
    _axes = 1


class ConvTranspose2d(_ConvTranspose):
    __doc__ = _ConvTranspose.__doc__
    _axes = 2


class ConvTranspose3d(_ConvTranspose):
    __doc__ = _ConvTranspose.__doc__
    _axes = 3
