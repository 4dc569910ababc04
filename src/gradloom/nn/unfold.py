"""Windows of images as columns, and back."""

from __future__ import annotations

from typing import Any

from . import functional as F
from .module import Module


class Unfold(Module):
    """The windows of x (N, C, H, W) as columns: (N, C * prod(kernel_size), number of windows).

    Args:
        kernel_size: Size of the windows: an int, or one for each axis.
        dilation: Step from element to element in a window.
        padding: Zeros at both ends of each axis.
        stride: Step from window to window.

    Example:
        >>> import gradloom as gl
        >>> gl.nn.Unfold(2)(gl.ones(1, 3, 4, 4)).shape
        gradloom.Size([1, 12, 9])
    """

    def __init__(self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1):
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Any) -> Any:
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Module):
    """The transpose of `Unfold`: adds the columns (N, C * prod(kernel_size), L) into images (N, C, *output_size).

    Args:
        output_size: Of the images: an int, or one for each axis.
        kernel_size, dilation, padding, stride: As for `Unfold`.
    """

    def __init__(self, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1):
        super().__init__()
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, input: Any) -> Any:
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"padding={self.padding}, stride={self.stride}"
        )
