"""Clipping of gradients in dicts, and what it needs: norms over all of them, and whether they are finite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import ops
from ..errors import OptionError, explain
from ..graph.graph import Value
from .state import raw, same_container


def clip_gradients(gradients: Any, clip_value: float | None = None, clip_norm: float | None = None) -> Any:
    """Clipped gradients, in the container class of `gradients`; pure.

    Args:
        gradients: {name: array}.
        clip_value: Each element is brought to between -clip_value and clip_value.
        clip_norm: All are scaled by clip_norm / (norm + 1e-6) where that is below 1, with the norm of all elements together
            (as `torch.nn.utils.clip_grad_norm_`).

    Raises:
        OptionError: Neither or both are given.
        ValueError: A negative limit.

    Example:
        >>> import numpy as np
        >>> from gradloom.training.optimizers import clip_gradients
        >>> clip_gradients({"w": np.array([3.0, -4.0])}, clip_norm=1.0)["w"].round(3)
        array([ 0.6, -0.8])
    """
    if (clip_value is None) == (clip_norm is None):
        raise OptionError(
            explain("clip_gradients takes one limit", given=f"clip_value={clip_value}, clip_norm={clip_norm}",
                    do="give clip_value= or clip_norm=")
        )  # fmt: skip
    limit: Any = clip_value if clip_norm is None else clip_norm
    if limit < 0:
        raise ValueError(f"Invalid clipping limit: {limit}")
    if clip_norm is None:
        clipped = {n: ops.clip(g, min=-limit, max=limit) for n, g in gradients.items()}
    elif gradients:
        scale = ops.clip(limit / (global_norm(gradients) + 1e-6), max=1.0)
        clipped = {n: g * ops.astype(scale, dtype=ops.dtype(g)) for n, g in gradients.items()}
    else:
        clipped = {}
    return _gradients_like(gradients, clipped)


def global_norm(gradients: Mapping[str, Any]) -> Any:
    """The Euclidean norm of all elements of all arrays together, 0-d."""
    squares = [ops.sum(g * g) for g in gradients.values()]
    total = squares[0]
    for s in squares[1:]:
        total = total + s
    return ops.sqrt(total)


def _gradients_like(gradients: Any, values: dict[str, Any]) -> Any:
    """The container of `gradients`, with what it knows of inputs' gradients."""
    made = same_container(gradients, values)
    later = getattr(gradients, "_input_gradient", None)
    if later is not None:
        made._input_gradient = later
    return made


def finite(gradients: Mapping[str, Any]) -> Any:
    """Whether all elements of all arrays are finite: a 0-d bool array."""
    total = None
    for g in gradients.values():
        one = ops.all(ops.isfinite(g))
        total = one if total is None else ops.logical_and(total, one)
    return total


def unfinished(value: Any) -> bool:
    """Whether a 0-d array is traced, so that its value is not known."""
    x = raw(value)
    if type(x) is Value:
        return True
    try:
        bool(x)
    except (TypeError, ValueError, RuntimeError):
        return True
    return False
