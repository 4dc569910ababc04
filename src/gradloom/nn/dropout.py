"""Dropout."""

from __future__ import annotations

from typing import Any

from ..errors import OptionError
from . import functional as F
from .module import Module


class _Dropout(Module):
    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        if p < 0 or p > 1:
            raise OptionError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p, self.inplace = p, inplace

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """In training mode sets elements to 0 with probability p and scales the others by 1 / (1 - p); Hinton et al. 2012.

    Args:
        p: The probability, which is rounded to a multiple of 1/65536.
        inplace: Change the argument.
    """

    def forward(self, input: Any) -> Any:
        return F.dropout(input, self.p, self.training, self.inplace)


class Dropout1d(_Dropout):
    """`Dropout` of whole channels of x (N, C, L) or (C, L); Tompson et al. 2015."""

    def forward(self, input: Any) -> Any:
        return F.dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(_Dropout):
    """`Dropout` of whole channels of x (N, C, H, W); Tompson et al. 2015. Axis 1 holds the channels, as in PyTorch."""

    def forward(self, input: Any) -> Any:
        return F.dropout2d(input, self.p, self.training, self.inplace)


class Dropout3d(_Dropout):
    """`Dropout` of whole channels of x (N, C, D, H, W) or (C, D, H, W); Tompson et al. 2015."""

    def forward(self, input: Any) -> Any:
        return F.dropout3d(input, self.p, self.training, self.inplace)


class AlphaDropout(_Dropout):
    """Dropout for `SELU`, which keeps mean 0 and variance 1; Klambauer et al. 2017.

    In training mode elements are set to SELU's lowest value with probability p, and all are scaled and shifted.
    """

    def forward(self, input: Any) -> Any:
        return F.alpha_dropout(input, self.p, self.training, self.inplace)


class FeatureAlphaDropout(_Dropout):
    """`AlphaDropout` of whole channels (axis 1)."""

    def forward(self, input: Any) -> Any:
        return F.feature_alpha_dropout(input, self.p, self.training, self.inplace)
