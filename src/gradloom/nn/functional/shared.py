"""What the functions share: options for several axes, and changes in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...tensor.arrays import frozen
from ...tensor.inplace import store


def each(value: Any, k: int) -> tuple:
    """An option as one value for each of k axes; a sequence of one value stands for all axes too."""
    if isinstance(value, (tuple, list)):
        return tuple(value) * k if len(value) == 1 else tuple(value)
    return (value,) * k


def given(x: Any, inplace: bool, fn: Callable) -> Any:
    """`fn(x)`, in place in x's memory if that is asked for; what fn saves for the gradient are the elements before."""
    return store(x, fn(frozen(x))) if inplace else fn(x)
