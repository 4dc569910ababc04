"""Metrics of one batch: numbers without a gradient. None of them broadcasts."""

from __future__ import annotations

from typing import Any

from ... import ops
from ...dtypes import int64
from ...ops.loss_checks import check_classes, check_same
from ..part import Shapes
from ..shapes import merged
from .base import Direct, at_least
from .loss import NLL


class _OfClasses(Direct):
    inputs = ("input", "target")
    dtypes = {"target": int64}

    def relate(self, shapes: Shapes) -> Shapes:
        return NLL()._rows(shapes)


class Accuracy(_OfClasses):
    """How often the class of the largest input (N, C, ...) or (C,) is the target (N, ...) or (), class indices."""

    @staticmethod
    def wires(input: Any, target: Any) -> Any:
        axis = check_classes("Accuracy", ops, input, target, None)
        return _share(ops.equal(ops.argmax(input, axis=axis), target), input)


class TopKAccuracy(_OfClasses):
    """How often the target, class indices (N, ...), is among the k largest of input (N, C, ...)."""

    def __init__(self, k: int = 5, name: str | None = None):
        at_least(self, 1, k=k)
        self.k, self.name = k, name

    @staticmethod
    def wires(input: Any, target: Any, k: int) -> Any:
        axis = check_classes("TopKAccuracy", ops, input, target, None)
        found = input.detach().topk(k, axis)[1]
        return _share(ops.any(ops.equal(found, target.unsqueeze(axis)), axis=axis), input)


class _OfElements(Direct):
    inputs = ("input", "target")

    def relate(self, shapes: Shapes) -> Shapes:
        x = merged(shapes.get("input"), shapes.get("target"))
        return {"input": x, "target": x, "output": ()}


class MeanAbsoluteError(_OfElements):
    """The mean of |input - target|."""

    @staticmethod
    def wires(input: Any, target: Any) -> Any:
        return ops.l1_loss(input.detach(), target.detach())


class _Binary(_OfElements):
    def __init__(self, threshold: float = 0.5, name: str | None = None):
        self.threshold, self.name = threshold, name


class BinaryAccuracy(_Binary):
    """How often input > threshold where target, 0 or 1, is 1, and input <= threshold where it is 0."""

    @staticmethod
    def wires(input: Any, target: Any, threshold: float) -> Any:
        found, wanted = _positives("BinaryAccuracy", input, target, threshold)
        return _share(ops.equal(found, wanted), input)


class Precision(_Binary):
    """Of the elements with input > threshold the share whose target, 0 or 1, is 1; 0 where there are none."""

    @staticmethod
    def wires(input: Any, target: Any, threshold: float) -> Any:
        found, wanted = _positives("Precision", input, target, threshold)
        return _ratio(_count(found & wanted, input), _count(found, input))


class Recall(_Binary):
    """Of the elements whose target, 0 or 1, is 1 the share with input > threshold; 0 where there are none."""

    @staticmethod
    def wires(input: Any, target: Any, threshold: float) -> Any:
        found, wanted = _positives("Recall", input, target, threshold)
        return _ratio(_count(found & wanted, input), _count(wanted, input))


class F1(_Binary):
    """The harmonic mean of `Precision` and `Recall`; 0 where both are."""

    @staticmethod
    def wires(input: Any, target: Any, threshold: float) -> Any:
        found, wanted = _positives("F1", input, target, threshold)
        return _ratio(2 * _count(found & wanted, input), _count(found, input) + _count(wanted, input))


def _positives(name: str, input: Any, target: Any, threshold: float) -> tuple:
    check_same(name, input, target)
    return ops.greater(input, threshold), ops.greater(target, 0.5)


def _share(hits: Any, like: Any) -> Any:
    return ops.mean(hits.to(like.dtype))


def _count(hits: Any, like: Any) -> Any:
    return ops.sum(hits.to(like.dtype))


def _ratio(part: Any, whole: Any) -> Any:
    return part / ops.maximum(whole, 1)
