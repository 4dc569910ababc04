"""Ops of random layers. They take what was drawn as an operand, so that they are pure."""

from __future__ import annotations

from ..errors import OptionError, ShapeError, explain
from .op import op

__all__ = ["dropout"]


@op
def dropout(xp, x, mask, *, p):
    """x / (1 - p) where mask, 0 elsewhere; `torch.nn.functional.dropout(training=True)` with a given mask.

    Args:
        x: Floats.
        mask: bool, True to keep; the shape of x, or one that broadcasts to it (dropping whole channels).
        p: The share that is dropped, 0 to 1.

    Returns:
        Like x.

    Example:
        >>> import numpy as np
        >>> dropout(np.array([1.0, 2.0]), np.array([True, False]), p=0.5).tolist()
        [2.0, 0.0]
    """
    if not 0 <= p <= 1:
        raise OptionError(explain("dropout: p is a share", expected="0 <= p <= 1", given=f"p={p}"))
    if mask.ndim != x.ndim or any(m not in (1, n) for m, n in zip(mask.shape, x.shape, strict=True)):
        raise ShapeError(
            explain(
                "dropout: the mask does not fit x",
                expected="the shape of x, or 1 on axes that are dropped together",
                given=f"x {tuple(x.shape)}, mask {tuple(mask.shape)}",
            )
        )
    return xp.where(mask, x * _rescale(p), 0)


@dropout.vjp("x")
def _(xp, g, mask, p):
    return xp.where(mask, g * _rescale(p), 0)


def _rescale(p: float) -> float:
    return 1 / (1 - p) if p < 1 else 0.0
