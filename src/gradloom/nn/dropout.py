"""Dropout."""

from __future__ import annotations

from typing import Any

from ..errors import OptionError
from . import functional as F
from .module import Module


class Dropout(Module):
    """In training mode sets elements to 0 with probability p and scales the others by 1 / (1 - p); Hinton et al. 2012.

    Args:
        p: The probability, which is rounded to a multiple of 1/65536.
        inplace: Change the argument.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        if p < 0 or p > 1:
            raise OptionError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p, self.inplace = p, inplace

    def forward(self, input: Any) -> Any:
        return F.dropout(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
