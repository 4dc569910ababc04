"""Pooling over 1, 2 and 3 spatial axes."""

from __future__ import annotations

from typing import Any, ClassVar

from ... import nn
from ...errors import GradloomError
from ...ops.pool import pool_shape
from ..part import Shapes
from .base import Direct, at_least, each, first, whole, windows


class _Pool(Direct):
    _axes: ClassVar[int] = 0
    kernel_size: Any
    stride: Any
    padding: Any
    ceil_mode: bool
    dilation: Any = 1

    def _set(self, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> None:
        at_least(self, 1, kernel_size=kernel_size, stride=stride, dilation=dilation)
        at_least(self, 0, padding=padding)
        self.kernel_size, self.stride, self.padding = whole(kernel_size), whole(stride), whole(padding)

    def relate(self, shapes: Shapes) -> Shapes:
        k = self._axes
        sizes = each(self.kernel_size, k)
        strides = sizes if self.stride is None else each(self.stride, k)
        paddings, dilations = each(self.padding, k), each(self.dilation, k)

        def count(n: int, i: int) -> int | None:
            p = paddings[i]
            try:
                out, _ = pool_shape(
                    type(self).__name__, (n,), sizes[i : i + 1], strides[i : i + 1], ((p, p),), dilations[i : i + 1],
                    self.ceil_mode,
                )  # fmt: skip
            except GradloomError:  # it is raised when the layer runs, with what gives its input
                return None
            return out[0]

        return windows(shapes, k, (), count)


class _MaxPool(_Pool):
    """The maximum of each window of input (N, C, *L).

    Args:
        kernel_size: Size of the windows: an int, or one for each spatial axis.
        stride: Step from window to window. Default: kernel_size.
        padding: At both ends of each spatial axis, at most half of the window; never wins.
        dilation: Step from element to element in a window.
        ceil_mode: A last window may reach beyond the input.
        name: Its name in models.
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        name: str | None = None,
    ):
        self._set(kernel_size, stride, padding, dilation)
        self.dilation, self.ceil_mode, self.name = whole(dilation), ceil_mode, name


class MaxPool1D(_MaxPool):
    __doc__ = _MaxPool.__doc__
    _axes = 1
    wires = nn.MaxPool1d


class MaxPool2D(_MaxPool):
    __doc__ = _MaxPool.__doc__
    _axes = 2
    wires = nn.MaxPool2d


class MaxPool3D(_MaxPool):
    __doc__ = _MaxPool.__doc__
    _axes = 3
    wires = nn.MaxPool3d


class _AvgPool(_Pool):
    """The mean of each window of input (N, C, *L).

    Args:
        kernel_size: Size of the windows: an int, or one for each spatial axis.
        stride: Step from window to window. Default: kernel_size.
        padding: Zeros at both ends of each spatial axis, at most half of the window.
        ceil_mode: A last window may reach beyond the input.
        count_include_pad: Padding counts as elements.
        name: Its name in models.
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        name: str | None = None,
    ):
        self._set(kernel_size, stride, padding, 1)
        self.ceil_mode, self.count_include_pad, self.name = ceil_mode, count_include_pad, name


class AvgPool1D(_AvgPool):
    __doc__ = _AvgPool.__doc__
    _axes = 1
    wires = nn.AvgPool1d


class AvgPool2D(_AvgPool):
    __doc__ = _AvgPool.__doc__
    _axes = 2
    wires = nn.AvgPool2d


class AvgPool3D(_AvgPool):
    __doc__ = _AvgPool.__doc__
    _axes = 3
    wires = nn.AvgPool3d


class _AdaptivePool(Direct):
    """The means, or maxima, of a given number of bins along each spatial axis of input (N, C, *L).

    Args:
        output_size: An int, or for each spatial axis an int or None (its size stays).
        name: Its name in models.
    """

    _axes: ClassVar[int] = 0

    def __init__(self, output_size: Any, name: str | None = None):
        at_least(self, 1, output_size=output_size)
        self.output_size, self.name = whole(output_size), name

    def relate(self, shapes: Shapes) -> Shapes:
        k = self._axes
        sizes = each(self.output_size, k)
        found = windows(shapes, k, (), lambda n, i: first(sizes[i], n), lambda n, i: n if sizes[i] is None else None)
        if found:
            out = found["output"] or ()
            found["output"] = (*out[:-k], *map(first, sizes, out[-k:]))
        return found


class AdaptiveAvgPool1D(_AdaptivePool):
    __doc__ = _AdaptivePool.__doc__
    _axes = 1
    wires = nn.AdaptiveAvgPool1d


class AdaptiveAvgPool2D(_AdaptivePool):
    __doc__ = _AdaptivePool.__doc__
    _axes = 2
    wires = nn.AdaptiveAvgPool2d


class AdaptiveAvgPool3D(_AdaptivePool):
    __doc__ = _AdaptivePool.__doc__
    _axes = 3
    wires = nn.AdaptiveAvgPool3d


class AdaptiveMaxPool1D(_AdaptivePool):
    __doc__ = _AdaptivePool.__doc__
    _axes = 1
    wires = nn.AdaptiveMaxPool1d


class AdaptiveMaxPool2D(_AdaptivePool):
    __doc__ = _AdaptivePool.__doc__
    _axes = 2
    wires = nn.AdaptiveMaxPool2d


class AdaptiveMaxPool3D(_AdaptivePool):
    __doc__ = _AdaptivePool.__doc__
    _axes = 3
    wires = nn.AdaptiveMaxPool3d
