"""Functions of each element."""

from __future__ import annotations

from typing import Any

from ... import ops
from ...dtypes import dtype as to_dtype
from .base import Direct, one_shape


class _Elementwise(Direct):
    relate = one_shape


class Abs(_Elementwise):
    """|input|."""

    wires = ops.abs


class Ceil(_Elementwise):
    """The smallest integer that is not below input."""

    wires = ops.ceil


class Clip(_Elementwise):
    """min(max(input, low), high); None: no bound.

    Args:
        low, high: The bounds.
        name: Its name in models.
    """

    wires = ops.clip
    renamed = {"low": "min", "high": "max"}

    def __init__(self, low: float | None = None, high: float | None = None, name: str | None = None):
        self.low, self.high, self.name = low, high, name


class Cos(_Elementwise):
    """The cosine."""

    wires = ops.cos


class Erf(_Elementwise):
    """The error function."""

    wires = ops.erf


class Exp(_Elementwise):
    """exp(input)."""

    wires = ops.exp


class Floor(_Elementwise):
    """The largest integer that is not above input."""

    wires = ops.floor


class Log(_Elementwise):
    """The natural logarithm."""

    wires = ops.log


class LogicalNot(_Elementwise):
    """Whether input is zero."""

    wires = ops.logical_not
    dtyped = True


class Negate(_Elementwise):
    """-input."""

    wires = ops.negative


class Reciprocal(_Elementwise):
    """1 / input."""

    wires = ops.reciprocal


class Round(_Elementwise):
    """The nearest integer, of two the even one."""

    wires = ops.round


class Sign(_Elementwise):
    """-1, 0 or 1."""

    wires = ops.sign


class Sin(_Elementwise):
    """The sine."""

    wires = ops.sin


class Sqrt(_Elementwise):
    """The square root."""

    wires = ops.sqrt


class Square(_Elementwise):
    """input * input."""

    wires = ops.square


class Tan(_Elementwise):
    """The tangent."""

    wires = ops.tan


class Identity(_Elementwise):
    """input, unchanged: a place to name a connection."""

    @staticmethod
    def wires(input: Any) -> Any:
        return input


class StopGradient(_Elementwise):
    """input; no gradient passes."""

    @staticmethod
    def wires(input: Any) -> Any:
        return input.detach()


class Cast(_Elementwise):
    """input in another dtype.

    Args:
        dtype: "int64", `gradloom.float16`, or an engine's dtype.
        name: Its name in models.
    """

    dtyped = True

    def __init__(self, dtype: Any, name: str | None = None):
        self.dtype, self.name = to_dtype(dtype).name, name

    @staticmethod
    def wires(input: Any, dtype: str) -> Any:
        return input.to(to_dtype(dtype))
