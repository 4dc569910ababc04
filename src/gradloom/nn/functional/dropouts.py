"""Dropout."""

from __future__ import annotations

import math
from typing import Any

from ... import ops
from ...errors import OptionError, ShapeError, explain
from ...ops.random import dropout as _dropout
from ...tensor.arrays import backend_name
from ...tensor.masks import random_mask
from .activations import SELU_ALPHA, SELU_SCALE
from .shared import given


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Sets elements to 0 with probability p and scales the others by 1 / (1 - p)."""
    return _dropped(input, p, training, inplace, tuple(input.shape))


def dropout1d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """`dropout` of whole channels of x (N, C, L) or (C, L)."""
    return _dropped_channels("dropout1d", input, p, training, inplace, 1)


def dropout2d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """`dropout` of whole channels of x (N, C, H, W). As in PyTorch axis 1 holds the channels, also of (C, H, W)."""
    return _dropped_channels("dropout2d", input, p, training, inplace, 2)


def dropout3d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """`dropout` of whole channels of x (N, C, D, H, W) or (C, D, H, W)."""
    return _dropped_channels("dropout3d", input, p, training, inplace, 3)


def alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """Dropout that keeps mean 0 and variance 1: elements are set to the lowest value of `selu`; Klambauer et al. 2017."""
    return _alpha_dropped(input, p, training, inplace, tuple(input.shape))


def feature_alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """`alpha_dropout` of whole channels (axis 1)."""
    if input.ndim < 2 and training and p > 0:
        raise ShapeError("Feature dropout requires at least 2 dimensions in the input")
    return _alpha_dropped(input, p, training, inplace, _channels(input))


def _channels(input: Any) -> tuple[int, ...]:
    return (*tuple(input.shape[:2]), *(1,) * (input.ndim - 2))


def _check(p: float) -> None:
    if p < 0.0 or p > 1.0:
        raise OptionError(f"dropout probability has to be between 0 and 1, but got {p}")


def _dropped(input: Any, p: float, training: bool, inplace: bool, shape: tuple[int, ...]) -> Any:
    """Dropout with a mask of the given shape."""
    _check(p)
    if not training or p == 0:
        return input
    mask = random_mask(shape, 1 - p, backend_name(input))
    return given(input, inplace, lambda x: _dropout(x, mask, p=p))


def _dropped_channels(name: str, input: Any, p: float, training: bool, inplace: bool, axes: int) -> Any:
    _check(p)
    if input.ndim not in (axes + 1, axes + 2):
        raise ShapeError(
            explain(f"{name} takes channels", expected=f"{axes + 1} or {axes + 2} axes", given=list(input.shape))
        )
    single = input.ndim == axes + 1 and axes != 2  # PyTorch's dropout2d takes axis 1 for the channels in any case
    shape = (input.shape[0], *(1,) * axes) if single else _channels(input)
    return _dropped(input, p, training, inplace, shape)


def _alpha_dropped(input: Any, p: float, training: bool, inplace: bool, shape: tuple[int, ...]) -> Any:
    _check(p)
    if not training or p == 0:
        return input
    if p == 1:
        return given(input, inplace, lambda x: x * 0)
    low = -SELU_ALPHA * SELU_SCALE
    a = 1 / math.sqrt((1 - p) * (1 + p * low**2))
    mask = random_mask(shape, 1 - p, backend_name(input))
    return given(input, inplace, lambda x: ops.where(mask, x, low) * a - a * p * low)
