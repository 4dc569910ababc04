"""Pooling layers."""

from __future__ import annotations

from typing import Any

from . import functional as F
from .module import Module


class _MaxPool(Module):
    """The maximum of each window; `torch.nn.MaxPool1d`, `MaxPool2d` and `MaxPool3d`.

    Args:
        kernel_size: Size of the windows: an int, or one for each spatial axis.
        stride: Step from window to window. Default: kernel_size.
        padding: At both ends of each spatial axis, at most half of the window; never wins.
        dilation: Step from element to element in a window.
        return_indices: Refused.
        ceil_mode: A last window may reach beyond the input.
    """

    _axes = 0

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, return_indices: bool = False,
        ceil_mode: bool = False,
    ):  # fmt: skip
        super().__init__()
        F.no_indices(type(self).__name__, return_indices)
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.return_indices, self.ceil_mode = padding, dilation, return_indices, ceil_mode

    def forward(self, input: Any) -> Any:
        return F.max_pool(self._axes, input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    __doc__ = _MaxPool.__doc__
    _axes = 1


class MaxPool2d(_MaxPool):
    __doc__ = _MaxPool.__doc__
    _axes = 2


class MaxPool3d(_MaxPool):
    __doc__ = _MaxPool.__doc__
    _axes = 3


class _AvgPool(Module):
    """The mean of each window; `torch.nn.AvgPool1d`, `AvgPool2d` and `AvgPool3d`.

    Args:
        kernel_size: Size of the windows: an int, or one for each spatial axis.
        stride: Step from window to window. Default: kernel_size.
        padding: Zeros at both ends of each spatial axis, at most half of the window.
        ceil_mode: A last window may reach beyond the input.
        count_include_pad: Padding counts as elements.
        divisor_override: Divides each sum, in place of the number of elements.
    """

    _axes = 0
    divisor_override: int | None = None

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ):  # fmt: skip
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Any) -> Any:
        return F.avg_pool(
            self._axes, input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """The mean of each window; see `AvgPool2d`. All options are tuples of one."""

    _axes = 1

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        stride = kernel_size if stride is None else stride
        super().__init__(F.each(kernel_size, 1), F.each(stride, 1), F.each(padding, 1), ceil_mode, count_include_pad)


class AvgPool2d(_AvgPool):
    __doc__ = _AvgPool.__doc__
    _axes = 2


class AvgPool3d(_AvgPool):
    __doc__ = _AvgPool.__doc__
    _axes = 3


class _AdaptiveAvgPool(Module):
    """The means of a given number of bins along each spatial axis; `torch.nn.AdaptiveAvgPool1d`, `2d` and `3d`.

    Args:
        output_size: An int, or for each spatial axis an int or None (its size stays).
    """

    _axes = 0

    def __init__(self, output_size: Any):
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Any) -> Any:
        return F.adaptive_avg_pool(self._axes, input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    __doc__ = _AdaptiveAvgPool.__doc__
    _axes = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    __doc__ = _AdaptiveAvgPool.__doc__
    _axes = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    __doc__ = _AdaptiveAvgPool.__doc__
    _axes = 3


class _AdaptiveMaxPool(Module):
    """The maxima of a given number of bins along each spatial axis; `torch.nn.AdaptiveMaxPool1d`, `2d` and `3d`.

    Args:
        output_size: An int, or for each spatial axis an int or None (its size stays).
        return_indices: Refused.
    """

    _axes = 0

    def __init__(self, output_size: Any, return_indices: bool = False):
        super().__init__()
        F.no_indices(type(self).__name__, return_indices)
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, input: Any) -> Any:
        return F.adaptive_max_pool(self._axes, input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    __doc__ = _AdaptiveMaxPool.__doc__
    _axes = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    __doc__ = _AdaptiveMaxPool.__doc__
    _axes = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    __doc__ = _AdaptiveMaxPool.__doc__
    _axes = 3


class _LPPool(Module):
    """(sum of x**p)**(1 / p) over each window; `torch.nn.LPPool1d`, `2d` and `3d`.

    Args:
        norm_type: p.
        kernel_size: Size of the windows: an int, or one for each spatial axis.
        stride: Step from window to window. Default: kernel_size.
        ceil_mode: A last window may reach beyond the input.
    """

    _axes = 0

    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False):
        super().__init__()
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def forward(self, input: Any) -> Any:
        return F.lp_pool(self._axes, input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )


class LPPool1d(_LPPool):
    __doc__ = _LPPool.__doc__
    _axes = 1


class LPPool2d(_LPPool):
    __doc__ = _LPPool.__doc__
    _axes = 2


class LPPool3d(_LPPool):
    __doc__ = _LPPool.__doc__
    _axes = 3
