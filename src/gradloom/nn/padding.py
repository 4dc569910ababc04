"""Layers that pad the spatial axes of x (N, C, *L) or (C, *L)."""

from __future__ import annotations

from typing import Any

from . import functional as F
from .module import Module


class _Pad(Module):
    """Padding of the last axes.

    Args:
        padding: The width at both ends of each axis: an int; or (before, after) of the last axis, then of the one before
            it, and so on, in one tuple. A negative width cuts.
    """

    _axes = 0
    _mode = ""

    def __init__(self, padding: Any):
        super().__init__()
        self.padding = F.each(padding, 2 * self._axes)

    def forward(self, input: Any) -> Any:
        return F.pad(input, self.padding, self._mode)

    def extra_repr(self) -> str:
        return str(self.padding)


class _ConstantPad(_Pad):
    """`value` around the last axes of x.

    Args:
        padding: The width at both ends of each axis: an int; or (before, after) of the last axis, then of the one before
            it, and so on, in one tuple. A negative width cuts.
        value: The constant.
    """

    def __init__(self, padding: Any, value: float):
        super().__init__(padding)
        self.value = value

    def forward(self, input: Any) -> Any:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    __doc__ = _ConstantPad.__doc__
    _axes = 1


class ConstantPad2d(_ConstantPad):
    __doc__ = _ConstantPad.__doc__
    _axes = 2


class ConstantPad3d(_ConstantPad):
    __doc__ = _ConstantPad.__doc__
    _axes = 3


class ZeroPad1d(ConstantPad1d):
    """`ConstantPad1d` with zeros."""

    def __init__(self, padding: Any):
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return str(self.padding)


class ZeroPad2d(ConstantPad2d):
    """`ConstantPad2d` with zeros."""

    def __init__(self, padding: Any):
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return str(self.padding)


class ZeroPad3d(ConstantPad3d):
    """`ConstantPad3d` with zeros."""

    def __init__(self, padding: Any):
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return str(self.padding)


class ReflectionPad1d(_Pad):
    """The elements before the edge, mirrored, around the last axes of x; `padding` as for `ConstantPad1d`.

    Example:
        >>> import gradloom as gl
        >>> gl.nn.ReflectionPad1d(2)(gl.tensor([[1.0, 2.0, 3.0]]))
        tensor([[3., 2., 1., 2., 3., 2., 1.]])
    """

    _axes = 1
    _mode = "reflect"


class ReflectionPad2d(_Pad):
    """The elements before the edge, mirrored, around the last axes of x; `padding` as for `ConstantPad2d`."""

    _axes = 2
    _mode = "reflect"


class ReflectionPad3d(_Pad):
    """The elements before the edge, mirrored, around the last axes of x; `padding` as for `ConstantPad3d`."""

    _axes = 3
    _mode = "reflect"


class ReplicationPad1d(_Pad):
    """The edge elements again around the last axes of x; `padding` as for `ConstantPad1d`.

    Example:
        >>> import gradloom as gl
        >>> gl.nn.ReplicationPad1d(2)(gl.tensor([[1.0, 2.0, 3.0]]))
        tensor([[1., 1., 1., 2., 3., 3., 3.]])
    """

    _axes = 1
    _mode = "replicate"


class ReplicationPad2d(_Pad):
    """The edge elements again around the last axes of x; `padding` as for `ConstantPad2d`."""

    _axes = 2
    _mode = "replicate"


class ReplicationPad3d(_Pad):
    """The edge elements again around the last axes of x; `padding` as for `ConstantPad3d`."""

    _axes = 3
    _mode = "replicate"


class CircularPad1d(_Pad):
    """The elements from the other end around the last axes of x; `padding` as for `ConstantPad1d`.

    Example:
        >>> import gradloom as gl
        >>> gl.nn.CircularPad1d(2)(gl.tensor([[1.0, 2.0, 3.0]]))
        tensor([[2., 3., 1., 2., 3., 1., 2.]])
    """

    _axes = 1
    _mode = "circular"


class CircularPad2d(_Pad):
    """The elements from the other end around the last axes of x; `padding` as for `ConstantPad2d`."""

    _axes = 2
    _mode = "circular"


class CircularPad3d(_Pad):
    """The elements from the other end around the last axes of x; `padding` as for `ConstantPad3d`."""

    _axes = 3
    _mode = "circular"
