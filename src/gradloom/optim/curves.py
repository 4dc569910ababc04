"""The formulas that schedules and schedulers share, over numbers or arrays.

Each takes `m` first: the maths, `Numbers` or `Arrays`, which have the same names. No formula looks at a count with `if`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .. import ops


class Numbers:
    """What bodies use, for Python numbers."""

    minimum, maximum, cos, log, exp, sqrt, pow = min, max, math.cos, math.log, math.exp, math.sqrt, math.pow

    @staticmethod
    def floor(x: float) -> float:
        return float(math.floor(x))

    @staticmethod
    def where(condition: bool, x: float, y: float) -> float:
        return x if condition else y

    @staticmethod
    def like(t: float, value: float) -> float:
        return value


class Arrays:
    """The same for arrays; one of `where`'s two values is an array."""

    minimum, maximum, where, floor = ops.minimum, ops.maximum, ops.where, ops.floor
    cos, log, exp, sqrt, pow = ops.cos, ops.log, ops.exp, ops.sqrt, ops.pow

    @staticmethod
    def like(t: Any, value: Any) -> Any:
        """The value, in the shape of the count."""
        return t * 0.0 + value


def half_cosine(m: Any, x: Any) -> Any:
    """From 1 at x = 0 to 0 at x = 1, along half a period of the cosine."""
    return (1 + m.cos(math.pi * x)) / 2


#: shape -> function of (m, x): what is left, from 1 at x = 0 to 0 at x = 1
SHAPES: dict[str, Callable[[Any, Any], Any]] = {
    "linear": lambda m, x: 1 - x,
    "cosine": half_cosine,
    "sqrt": lambda m, x: 1 - m.sqrt(m.maximum(x, 0.0)),
}


def interpolated(m: Any, t: Any, boundaries: Sequence[float], values: Sequence[float], left: Callable) -> Any:
    """From value to value between the boundaries; beyond the last boundary the last piece goes on.

    A piece without length, or one that ends before 0, takes no time.
    """
    out: Any = None
    for a, b, v, w in reversed(list(zip(boundaries, boundaries[1:], values, values[1:], strict=False))):
        piece = m.like(t, w) if a == b else w + (v - w) * left(m, (t - a) / (b - a))
        out = piece if out is None else m.where(t <= b, piece, out)
    return out


def cycle_at(m: Any, t: Any, first: float, factor: float) -> tuple[Any, Any]:
    """Where in its cycle a count is, from 0 to 1, and the cycle's number; each cycle is `factor` times as long as the one before."""
    if factor == 1:
        rest = t % first
        return rest / first, (t - rest) / first

    def start(n: Any) -> Any:
        return first * (m.pow(factor, n) - 1) / (factor - 1)

    n = m.floor(m.log(t / first * (factor - 1) + 1) / math.log(factor))
    # The logarithm may be off by a rounding just where a cycle begins.
    n = n + m.where(start(n + 1) <= t, 1.0, m.like(t, 0.0))
    n = n - m.where(start(n) > t, 1.0, m.like(t, 0.0))
    return (t - start(n)) / (first * m.pow(factor, n)), n


def triangle_at(m: Any, t: Any, total: float, ratio: float) -> tuple[Any, Any]:
    """The height, from 0 to 1, of cycles of length `total` that rise for a part `ratio` of it; and the cycle's number, from 1."""
    cycle = m.floor(1 + t / total)
    x = 1 + t / total - cycle
    up = x / ratio
    return (m.where(x <= ratio, up, (x - 1) / (ratio - 1)) if ratio < 1 else up), cycle


#: mode of a cyclic schedule -> (function of gamma that gives the function for a cycle's height, what that is a function of)
CYCLES: dict[str, tuple[Callable[[float], Callable], str]] = {
    "triangular": (lambda gamma: lambda m, n: 1.0, "cycle"),
    "triangular2": (lambda gamma: lambda m, n: m.pow(0.5, n - 1), "cycle"),
    "exp_range": (lambda gamma: lambda m, n: m.pow(gamma, n), "iterations"),
}
