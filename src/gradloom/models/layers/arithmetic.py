"""Operators: arithmetic, comparisons and logic of two inputs, which broadcast; products of matrices."""

from __future__ import annotations

from typing import Any

from ... import nn, ops
from ...dtypes import bool_
from ..part import Layer, Shapes, size
from .base import Direct, at, at_least, broadcast, broadcasted, first


class _Binary(Direct):
    inputs = ("left", "right")
    relate = broadcast("left", "right")


class Add(_Binary):
    """left + right."""

    wires = ops.add


class Subtract(_Binary):
    """left - right."""

    wires = ops.subtract


class Multiply(_Binary):
    """left * right."""

    wires = ops.multiply


class Divide(_Binary):
    """left / right."""

    wires = ops.divide


class FloorDivide(_Binary):
    """left // right."""

    wires = ops.floor_divide


class Remainder(_Binary):
    """left % right, with the sign of right."""

    wires = ops.remainder


class Power(_Binary):
    """left ** right."""

    wires = ops.pow


class Maximum(_Binary):
    """The larger of left and right."""

    wires = ops.maximum


class Minimum(_Binary):
    """The smaller of left and right."""

    wires = ops.minimum


class _Comparison(_Binary):
    dtyped = True


class Greater(_Comparison):
    """left > right, as bools."""

    wires = ops.greater


class GreaterEqual(_Comparison):
    """left >= right, as bools."""

    wires = ops.greater_equal


class Less(_Comparison):
    """left < right, as bools."""

    wires = ops.less


class LessEqual(_Comparison):
    """left <= right, as bools."""

    wires = ops.less_equal


class Equal(_Comparison):
    """left == right, as bools."""

    wires = ops.equal


class NotEqual(_Comparison):
    """left != right, as bools."""

    wires = ops.not_equal


class LogicalAnd(_Comparison):
    """Whether left and right are not zero."""

    wires = ops.logical_and


class LogicalOr(_Comparison):
    """Whether left or right is not zero."""

    wires = ops.logical_or


class LogicalXor(_Comparison):
    """Whether one of left and right is not zero."""

    wires = ops.logical_xor


class Where(Direct):
    """left where condition (bools) holds, right elsewhere."""

    inputs = ("condition", "left", "right")
    dtypes = {"condition": bool_}
    relate = broadcast("condition", "left", "right")
    wires = ops.where


class MatMul(Direct):
    """left @ right, for (..., n, k) and (..., k, m): (..., n, m). Leading axes broadcast."""

    inputs = ("left", "right")
    wires = ops.matmul

    def relate(self, shapes: Shapes) -> Shapes:
        x, y, out = shapes.get("left"), shapes.get("right"), shapes.get("output")
        if x is None or y is None or len(x) < 2 or len(y) < 2:
            return {}
        k = first(x[-1], y[-2])
        lead = broadcasted([x[:-2], y[:-2]]) or ()
        n, m = first(x[-2], at(out, -2)), first(y[-1], at(out, -1))
        return {"left": (*x[:-2], n, k), "right": (*y[:-2], k, m), "output": (*lead, n, m)}


MatrixMultiply = MatMul


class Dot(Direct):
    """The sum of left * right, for two vectors."""

    inputs = ("left", "right")

    @staticmethod
    def wires(left: Any, right: Any) -> Any:
        return left.dot(right)

    def relate(self, shapes: Shapes) -> Shapes:
        n = first(at(shapes.get("left"), 0), at(shapes.get("right"), 0))
        return {"left": (n,), "right": (n,), "output": ()}


class Outer(Direct):
    """left[:, None] * right, for two vectors."""

    inputs = ("left", "right")
    wires = ops.outer

    def relate(self, shapes: Shapes) -> Shapes:
        out = shapes.get("output")
        n, m = first(at(shapes.get("left"), 0), at(out, 0)), first(at(shapes.get("right"), 0), at(out, 1))
        return {"left": (n,), "right": (m,), "output": (n, m)}


class Bilinear(Layer):
    """left @ weight[k] @ right + bias[k] for each k.

    Args:
        dimension: Size of the result's last axis.
        use_bias: Add a bias.
        name: Its name in models.
    """

    inputs = ("left", "right")

    def __init__(self, dimension: int, use_bias: bool = True, name: str | None = None):
        at_least(self, 1, dimension=dimension)
        self.dimension, self.use_bias, self.name = dimension, use_bias, name

    @property
    def parameter_keys(self) -> tuple[str, ...]:
        return ("weight", "bias") if self.use_bias else ("weight",)

    def make(self, left: Any = None, right: Any = None, weight: Any = None, **_: Any) -> nn.Module:
        inside = [size(weight, 1, "weight"), size(weight, 2, "weight")] if weight else [size(left, -1, "left")]
        return nn.Bilinear(inside[0], inside[1] if weight else size(right, -1, "right"), self.dimension, self.use_bias)

    def relate(self, shapes: Shapes) -> Shapes:
        left, right, out = (shapes.get(key) for key in ("left", "right", "output"))
        weight = shapes.get("weight") or (None, None, None)
        n, m = first(weight[1], at(left, -1)), first(weight[2], at(right, -1))
        found: Shapes = {"weight": (self.dimension, n, m), "bias": (self.dimension,)}
        known = next((s[:-1] for s in (left, right, out) if s is not None), None)
        if known is not None:
            for s in (left, right, out):
                if s is not None and len(s) == len(known) + 1:
                    known = tuple(first(a, b) for a, b in zip(known, s, strict=False))
            found |= {"left": (*known, n), "right": (*known, m), "output": (*known, self.dimension)}
        return found


class CosineSimilarity(Direct):
    """left · right / (max(|left|, eps) * max(|right|, eps)) along an axis; left and right broadcast."""

    inputs = ("left", "right")
    wires = nn.CosineSimilarity
    renamed = {"axis": "dim"}

    def __init__(self, axis: int = 1, eps: float = 1e-08, name: str | None = None):
        self.axis, self.eps, self.name = axis, eps, name


class PairwiseDistance(Direct):
    """The p-norm of left - right + eps along the last axis; left and right broadcast."""

    inputs = ("left", "right")
    wires = nn.PairwiseDistance

    def __init__(self, p: float = 2.0, eps: float = 1e-06, keepdim: bool = False, name: str | None = None):
        self.p, self.eps, self.keepdim, self.name = p, eps, keepdim, name
