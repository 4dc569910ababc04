"""Regularizers: one number from a parameter."""

from __future__ import annotations

from typing import Any

from ... import ops
from ..part import Shapes
from .base import Direct, at, first


class _Regularizer(Direct):
    def relate(self, shapes: Shapes) -> Shapes:
        return {"output": ()}


class L1(_Regularizer):
    """The sum of |input|."""

    @staticmethod
    def wires(input: Any) -> Any:
        return ops.sum(ops.abs(input))


class L2(_Regularizer):
    """Half of the sum of input**2."""

    @staticmethod
    def wires(input: Any) -> Any:
        return ops.sum(ops.square(input)) * 0.5


class QuadraticFormRegularizer(Direct):
    """Half of the sum of x @ kernel @ x over the rows x of input (..., n), for kernel (n, n)."""

    inputs = ("input", "kernel")

    @staticmethod
    def wires(input: Any, kernel: Any) -> Any:
        return ops.sum(ops.matmul(input, kernel) * input) * 0.5

    def relate(self, shapes: Shapes) -> Shapes:
        x, kernel = shapes.get("input"), shapes.get("kernel")
        n = first(at(x, -1), at(kernel, 0), at(kernel, 1))
        return {"input": None if not x else (*x[:-1], n), "kernel": (n, n), "output": ()}
