"""Convolutions over 1, 2 and 3 spatial axes."""

from __future__ import annotations

import math
from typing import Any

from ..errors import OptionError, explain
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
        padding_mode: "zeros"; other modes are refused.
        device, dtype: Of the parameters. Default: the backend's.

    Attributes:
        weight: (out_channels, in_channels / groups, *kernel_size), uniform in ±1 / sqrt(fan_in) at first.
        bias: (out_channels,), likewise; or None.
    """

    _axes = 0

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
        if padding_mode != "zeros":
            raise OptionError(
                explain(
                    f"{type(self).__name__} does not support padding_mode={padding_mode!r}",
                    expected="'zeros'",
                    given=repr(padding_mode),
                    do="pad the input with gradloom.nn.functional.pad or an index, and use padding=0",
                )
            )
        self.weight = Parameter(
            empty((out_channels, in_channels // groups, *self.kernel_size), device=device, dtype=dtype)
        )
        if bias:
            self.bias = Parameter(empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init.fans(self.weight)
            if fan_in != 0:
                init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def forward(self, input: Any) -> Any:
        return F.conv(self._axes, input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * len(self.padding):
            text += f", padding={self.padding}"
        if self.dilation != (1,) * len(self.dilation):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text + ("" if self.bias is not None else ", bias=False")


class Conv1d(_Conv):
    __doc__ = _Conv.__doc__
    _axes = 1


class Conv2d(_Conv):
    __doc__ = _Conv.__doc__
    _axes = 2


class Conv3d(_Conv):
    __doc__ = _Conv.__doc__
    _axes = 3
