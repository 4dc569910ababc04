"""Losses. None of them broadcasts: input and target have one shape, or the target holds one class for each row.

`reduction` is "mean", "sum" or "none".
"""

from __future__ import annotations

from typing import Any, ClassVar

from ... import ops
from ...dtypes import finfo, int64
from ...errors import OptionError, explain, user_frame
from ...ops.loss_checks import check_same, class_axis, reduced
from ..part import Shapes
from ..shapes import merged
from .base import Direct, at_least, choice, probability

_REDUCTIONS = ("mean", "sum", "none")


class _Loss(Direct):
    """A loss of each element, reduced."""

    inputs: ClassVar[tuple[str, ...]] = ("input", "target")
    reduction: str

    def __init__(self, reduction: str = "mean", name: str | None = None):
        self._reduce(reduction, name)

    def _reduce(self, reduction: str, name: str | None, allowed: tuple[str, ...] = _REDUCTIONS) -> None:
        self.reduction, self.name = choice(self, "reduction", reduction, allowed), name

    def relate(self, shapes: Shapes) -> Shapes:
        x = merged(shapes.get("input"), shapes.get("target"))
        if self.reduction == "none":
            x = merged(x, shapes.get("output"))
        return {"input": x, "target": x, "output": x if self.reduction == "none" else ()}


class SquaredError(_Loss):
    """(input - target)**2.

    Example:
        >>> import gradloom as gl
        >>> loss = gl.models.SquaredError()
        >>> loss(input=gl.tensor([1.0, 2.0]), target=gl.tensor([1.0, 4.0]))
        tensor(2.)
    """

    wires = ops.mse_loss


class AbsoluteError(_Loss):
    """|input - target|."""

    wires = ops.l1_loss


class HuberLoss(_Loss):
    """d**2 / 2 where |d| < delta, delta * (|d| - delta / 2) elsewhere, for d = input - target."""

    wires = ops.huber_loss

    def __init__(self, delta: float = 1.0, reduction: str = "mean", name: str | None = None):
        at_least(self, 0, delta=delta)
        self.delta = delta
        self._reduce(reduction, name)


class SmoothL1(_Loss):
    """d**2 / (2 * beta) where |d| < beta, |d| - beta / 2 elsewhere, for d = input - target."""

    wires = ops.smooth_l1_loss

    def __init__(self, beta: float = 1.0, reduction: str = "mean", name: str | None = None):
        at_least(self, 0, beta=beta)
        self.beta = beta
        self._reduce(reduction, name)


class QuantileLoss(_Loss):
    """max(quantile * d, (quantile - 1) * d), for d = target - input; the pinball loss of Koenker and Bassett 1978."""

    def __init__(self, quantile: float = 0.5, reduction: str = "mean", name: str | None = None):
        self.quantile = probability(self, "quantile", quantile)
        self._reduce(reduction, name)

    @staticmethod
    def wires(input: Any, target: Any, quantile: float, reduction: str) -> Any:
        check_same("QuantileLoss", input, target)
        d = target - input
        return reduced(ops, ops.maximum(d * quantile, d * (quantile - 1)), reduction)


class HingeLoss(_Loss):
    """max(margin - input * target, 0), for targets -1 and 1."""

    def __init__(self, margin: float = 1.0, reduction: str = "mean", name: str | None = None):
        self.margin = margin
        self._reduce(reduction, name)

    @staticmethod
    def wires(input: Any, target: Any, margin: float, reduction: str) -> Any:
        check_same("HingeLoss", input, target)
        return reduced(ops, ops.relu(margin - input * target), reduction)


class QuadHingeLoss(_Loss):
    """max(margin - input * target, 0)**2, for targets -1 and 1."""

    def __init__(self, margin: float = 1.0, reduction: str = "mean", name: str | None = None):
        self.margin = margin
        self._reduce(reduction, name)

    @staticmethod
    def wires(input: Any, target: Any, margin: float, reduction: str) -> Any:
        check_same("QuadHingeLoss", input, target)
        return reduced(ops, ops.square(ops.relu(margin - input * target)), reduction)


class KLDivergence(_Loss):
    """target * (log(target) - input), for log-probabilities `input`.

    Args:
        log_target: The target holds log-probabilities too.
        reduction: "mean", "sum", "none", or "batchmean": the sum over the number of rows, which is the divergence.
        name: Its name in models.
    """

    wires = ops.kl_div

    def __init__(self, log_target: bool = False, reduction: str = "mean", name: str | None = None):
        self.log_target = log_target
        self._reduce(reduction, name, (*_REDUCTIONS, "batchmean"))


class BinaryCrossEntropy(_Loss):
    """-(target * log(p) + (1 - target) * log(1 - p)), for p = sigmoid(input), or input itself.

    `weight` and `pos_weight` (of the positives; for logits) rescale elements and broadcast to the input.

    Args:
        from_logits: The input holds logits; else probabilities, whose logarithms are at least -100.
        reduction: "mean", "sum" or "none".
        name: Its name in models.
    """

    def __init__(self, from_logits: bool = True, reduction: str = "mean", name: str | None = None):
        self.from_logits = from_logits
        self._reduce(reduction, name)

    @property
    def optional_keys(self) -> tuple[str, ...]:
        return ("weight", "pos_weight") if self.from_logits else ("weight",)

    @staticmethod
    def wires(input: Any, target: Any, *weights: Any, from_logits: bool, reduction: str) -> Any:
        loss = ops.binary_cross_entropy_with_logits if from_logits else ops.binary_cross_entropy
        return loss(input, target, *weights, reduction=reduction)


class _Classes(_Loss):
    """A loss of rows of classes, input (N, C, ...) or (C,)."""

    optional = ("weight",)

    def _rows(self, shapes: Shapes) -> Shapes:
        """Shapes where the target holds indices: the input's without the axis of the classes."""
        x, target, weight = shapes.get("input"), shapes.get("target"), shapes.get("weight")
        if self.reduction == "none":
            target = merged(target, shapes.get("output"))
        classes = None if not weight else weight[0]
        if x:
            axis = 1 if len(x) > 1 else 0
            rows = merged((*x[:axis], *x[axis + 1 :]), target)
            assert rows is not None
            classes = classes if x[axis] is None else x[axis]
        elif target is not None:
            rows = target
        else:
            return {} if self.reduction == "none" else {"output": ()}
        whole = (*rows[:1], classes, *rows[1:]) if rows else (classes,)
        return {
            "input": whole,
            "target": rows,
            "weight": (classes,),
            "output": rows if self.reduction == "none" else (),
        }


class NLL(_Classes):
    """-input[target], for log-probabilities `input` (N, C, ...) or (C,) and class indices `target` (N, ...) or ().

    Args:
        ignore_index: Rows with this target count nothing.
        reduction: "mean", "sum" or "none"; a mean is over the weights of the rows' classes.
        name: Its name in models.
    """

    dtypes = {"target": int64}
    wires = ops.nll_loss
    relate = _Classes._rows

    def __init__(self, ignore_index: int = -100, reduction: str = "mean", name: str | None = None):
        self.ignore_index = ignore_index
        self._reduce(reduction, name)


class CrossEntropy(_Classes):
    """-log(p)[target], for p = softmax(input), or input itself; input (N, C, ...) or (C,).

    `weight` (C,) says what rows of a class count.

    Args:
        from_logits: The input holds logits; else probabilities, of which none is taken as less than the dtype's smallest
            normal number.
        target_type: "index": the target holds class indices (N, ...), int64; "probabilities": it has the shape of the input, and
            holds the probabilities of the classes, or one-hot rows.
        ignore_index: Rows with this index count nothing.
        label_smoothing: 0 to 1; this much of the target is spread over all classes. For logits.
        reduction: "mean" (over rows), "sum" or "none".
        name: Its name in models.

    Example:
        >>> import gradloom as gl
        >>> loss = gl.models.CrossEntropy()
        >>> loss(input=gl.zeros(2, 4), target=gl.tensor([0, 3]))
        tensor(1.3863)
    """

    def __init__(
        self,
        from_logits: bool = True,
        target_type: str = "index",
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        name: str | None = None,
    ):
        self.from_logits, self.ignore_index = from_logits, ignore_index
        self.target_type = choice(self, "target_type", target_type, ("index", "probabilities"))
        self.label_smoothing = probability(self, "label_smoothing", label_smoothing)
        self._reduce(reduction, name)
        if label_smoothing and not from_logits:
            raise OptionError(
                explain(
                    "CrossEntropy: label_smoothing is for logits",
                    given=f"from_logits=False, label_smoothing={label_smoothing}",
                    where=user_frame(),
                    do="take the logits, or smooth the target",
                )
            )

    @property
    def dtypes(self) -> dict[str, Any]:  # type: ignore[override]
        return {"target": int64} if self.target_type == "index" else {}

    def relate(self, shapes: Shapes) -> Shapes:
        if self.target_type == "index":
            return self._rows(shapes)
        x = merged(shapes.get("input"), shapes.get("target"))
        found = self._rows({**shapes, "input": x, "target": None})
        return {**found, "target": found.get("input")}

    @staticmethod
    def wires(
        input: Any, target: Any, weight: Any = None, *, from_logits: bool, target_type: str, ignore_index: int,
        label_smoothing: float, reduction: str,
    ) -> Any:  # fmt: skip
        if target_type == "index":
            if from_logits:
                return ops.cross_entropy(
                    input, target, weight, ignore_index=ignore_index, label_smoothing=label_smoothing,
                    reduction=reduction,
                )  # fmt: skip
            logs = ops.log(ops.clip(input, min=finfo(input.dtype).tiny, max=None))
            return ops.nll_loss(logs, target, weight, ignore_index=ignore_index, reduction=reduction)
        target = target.to(input.dtype)
        if from_logits:
            return ops.cross_entropy_soft(input, target, weight, label_smoothing=label_smoothing, reduction=reduction)
        check_same("CrossEntropy", input, target)
        axis = class_axis("CrossEntropy", input, weight)
        logs = ops.log(ops.clip(input, min=finfo(input.dtype).tiny, max=None))
        if weight is not None:
            logs = logs * weight.reshape(-1, *[1] * (input.ndim - 1 - axis))
        return reduced(ops, -ops.sum(target * logs, axis=axis), reduction)
