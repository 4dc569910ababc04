"""Losses of distances and margins, and of distributions. As in `loss`, none of them broadcasts."""

from __future__ import annotations

from typing import Any

from ...dtypes import int64
from ...nn import functional as F
from ...ops.loss_checks import check_same
from ..part import Shapes
from ..shapes import merged
from .base import at_least, choice
from .loss import _Classes, _Loss


class HingeEmbedding(_Loss):
    """For distances: input where target is 1, max(0, margin - input) where it is -1."""

    def __init__(self, margin: float = 1.0, reduction: str = "mean", name: str | None = None):
        self.margin = margin
        self._reduce(reduction, name)

    @staticmethod
    def wires(input: Any, target: Any, **options: Any) -> Any:
        check_same("HingeEmbedding", input, target)
        return F.hinge_embedding_loss(input, target, **options)


class SoftMargin(_Loss):
    """log(1 + exp(-target * input)), for targets -1 and 1."""

    @staticmethod
    def wires(input: Any, target: Any, reduction: str) -> Any:
        check_same("SoftMargin", input, target)
        return F.soft_margin_loss(input, target, reduction=reduction)


class PoissonNLL(_Loss):
    """exp(input) - target * input, for counts.

    Args:
        log_input: The input is the logarithm of the expected count, rather than the count.
        full: Add Stirling's approximation of log(target!).
        eps: Added to counts whose logarithm is taken.
        reduction: "mean", "sum" or "none".
        name: Its name in models.
    """

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        eps: float = 1e-08,
        reduction: str = "mean",
        name: str | None = None,
    ):
        self.log_input, self.full, self.eps = log_input, full, eps
        self._reduce(reduction, name)

    @staticmethod
    def wires(input: Any, target: Any, **options: Any) -> Any:
        check_same("PoissonNLL", input, target)
        return F.poisson_nll_loss(input, target, **options)


class GaussianNLL(_Loss):
    """(log(variance) + (input - target)**2 / variance) / 2, for inputs of one shape.

    Args:
        full: Add log(2 * pi) / 2.
        eps: The least variance.
        reduction: "mean", "sum" or "none".
        name: Its name in models.
    """

    inputs = ("input", "target", "variance")

    def __init__(self, full: bool = False, eps: float = 1e-06, reduction: str = "mean", name: str | None = None):
        self.full, self.eps = full, eps
        self._reduce(reduction, name)

    @staticmethod
    def wires(input: Any, target: Any, variance: Any, **options: Any) -> Any:
        check_same("GaussianNLL", input, target)
        check_same("GaussianNLL", input, variance, "expand the variance: variance.expand(input.shape)")
        return F.gaussian_nll_loss(input, target, variance, **options)

    def relate(self, shapes: Shapes) -> Shapes:
        found = super().relate({**shapes, "input": merged(shapes.get("input"), shapes.get("variance"))})
        return {**found, "variance": found["input"]}


class MarginRanking(_Loss):
    """max(0, -target * (left - right) + margin): a target of 1 wants left to be larger, -1 right."""

    inputs = ("left", "right", "target")

    def __init__(self, margin: float = 0.0, reduction: str = "mean", name: str | None = None):
        self.margin = margin
        self._reduce(reduction, name)

    @staticmethod
    def wires(left: Any, right: Any, target: Any, **options: Any) -> Any:
        check_same("MarginRanking", left, right)
        check_same("MarginRanking", left, target)
        return F.margin_ranking_loss(left, right, target, **options)

    def relate(self, shapes: Shapes) -> Shapes:
        x = merged(shapes.get("left"), shapes.get("right"))
        found = super().relate({**shapes, "input": x})
        return {**found, "left": found["input"], "right": found["input"]}


class _Rows(_Loss):
    """A loss of rows (N, D) or (D,) of several inputs; `scalars` have one value for each."""

    vectors: Any = ()
    scalars: Any = ()

    def relate(self, shapes: Shapes) -> Shapes:
        rows = None
        for key in (*self.scalars, *(("output",) if self.reduction == "none" else ())):
            rows = merged(rows, shapes.get(key))
        x = None if rows is None else (*rows, None)
        for key in self.vectors:
            x = merged(x, shapes.get(key))
        rows = rows if x is None else x[:-1]
        found: Shapes = {**dict.fromkeys(self.vectors, x), **dict.fromkeys(self.scalars, rows)}
        return {**found, "output": rows if self.reduction == "none" else ()}


class CosineEmbedding(_Rows):
    """1 - cos(left, right) where target is 1, max(0, cos - margin) where it is -1; left and right (N, D) or (D,)."""

    inputs = ("left", "right", "target")
    vectors, scalars = ("left", "right"), ("target",)

    def __init__(self, margin: float = 0.0, reduction: str = "mean", name: str | None = None):
        self.margin = margin
        self._reduce(reduction, name)

    @staticmethod
    def wires(left: Any, right: Any, target: Any, **options: Any) -> Any:
        check_same("CosineEmbedding", left, right)
        return F.cosine_embedding_loss(left, right, target, **options)


class TripletMargin(_Rows):
    """max(0, margin + |anchor - positive| - |anchor - negative|), for (N, D) or (D,).

    Args:
        margin: The margin.
        p: Of the norm.
        swap: Use the distance of positive and negative where it is the smaller one.
        reduction: "mean", "sum" or "none".
        name: Its name in models.
    """

    inputs = vectors = ("anchor", "positive", "negative")

    def __init__(
        self, margin: float = 1.0, p: float = 2.0, swap: bool = False, reduction: str = "mean", name: str | None = None
    ):
        at_least(self, 0, margin=margin)
        self.margin, self.p, self.swap = margin, p, swap
        self._reduce(reduction, name)

    @staticmethod
    def wires(anchor: Any, positive: Any, negative: Any, **options: Any) -> Any:
        check_same("TripletMargin", anchor, positive)
        check_same("TripletMargin", anchor, negative)
        return F.triplet_margin_loss(anchor, positive, negative, **options)


class MultiMargin(_Classes):
    """The sum over all classes but the target of max(0, margin - input[target] + input)**p, divided by C.

    input (N, C) or (C,), target class indices (N,) or ().

    Args:
        p: 1 or 2.
        margin: The margin.
        reduction: "mean", "sum" or "none".
        name: Its name in models.
    """

    dtypes = {"target": int64}
    relate = _Classes._rows

    def __init__(self, p: int = 1, margin: float = 1.0, reduction: str = "mean", name: str | None = None):
        self.p, self.margin = choice(self, "p", p, (1, 2)), margin
        self._reduce(reduction, name)

    @staticmethod
    def wires(input: Any, target: Any, weight: Any = None, *, p: int, margin: float, reduction: str) -> Any:
        return F.multi_margin_loss(input, target, p, margin, weight, reduction=reduction)
