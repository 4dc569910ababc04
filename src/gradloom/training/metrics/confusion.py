"""The confusion matrix, and what is computed of its whole: correlation and agreement."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .base import Metric, choice
from .labels import MATRIX, Labels, Tally


class LabelMetric(Metric):
    """The base of metrics of predicted and true classes.

    What `update(outputs, targets)` takes, and the task that is inferred where `task` and the numbers are not given:
        multiclass: floats (N, C, ...), probabilities or logits, with classes (N, ...), integers, or one-hot rows
            (N, C, ...); or classes (N, ...) for both. The largest score is the predicted class (of equal ones the first).
        binary: floats (N, ...) with 0 and 1 of the same shape; 1 is predicted above `threshold`.
        multilabel (has to be said): floats or 0 and 1 (N, labels, ...) for both.
    Predictions of binary and multilabel tasks are probabilities, or logits if any lies outside of 0 to 1 (in any batch).

    Args:
        task: "binary", "multiclass" or "multilabel".
        threshold: Probability above which a binary prediction counts as 1.
        num_classes: Number of classes; default: as many as were seen.
        num_labels: Number of labels.
        ignore_index: Targets of this value are left out.
        from_logits: True or False where it is known what binary predictions are.

    Raises:
        ShapeError: Shapes do not fit; nothing is broadcast.
        DTypeError: Targets that should be classes are floats.
        MetricInputError: NaN among the predictions, or no such class.
    """

    _detail: ClassVar[int] = MATRIX
    _any_task: ClassVar[bool] = True  # a binary task gives the same as two classes

    task: str | None
    threshold: float
    num_classes: int | None
    num_labels: int | None = None
    top_k: int = 1
    ignore_index: int | None
    from_logits: bool | None

    def _set(self, **options: Any) -> None:
        for name, value in options.items():
            setattr(self, name, value)
        super().__init__()

    def _label_options(self) -> dict[str, Any]:
        names = ("task", "threshold", "num_classes", "num_labels", "top_k", "ignore_index", "from_logits")
        return {name: getattr(self, name) for name in names}

    def _needs(self) -> int:
        return self._detail

    def _accumulator(self) -> Labels:
        return Labels(type(self).__name__, self._needs(), self._any_task, self._label_options())

    def _sharing(self) -> Any:
        return (Labels, *self._label_options().values())

    def _result(self, seen: Labels) -> Any:
        return self._of(seen.states["tally"])

    def _of(self, tally: Tally) -> Any:
        raise NotImplementedError


class ConfusionMatrix(LabelMetric):
    """Counts of (target, prediction): (C, C); binary (2, 2); multilabel (labels, 2, 2).

    Args:
        normalize: "true" divides by the number of targets of each class, "pred" of predictions, "all" by that of
            samples; a class without any gives zeros. Default: counts, int64.
        others: As `LabelMetric`.

    Source: scikit-learn's `confusion_matrix` and `multilabel_confusion_matrix`.

    Example:
        >>> matrix = ConfusionMatrix(num_classes=3)
        >>> matrix.update([0, 2, 1, 1], [0, 1, 1, 1])
        >>> matrix.compute()
        array([[1, 0, 0],
               [0, 2, 1],
               [0, 0, 0]])
    """

    name = "confusion_matrix"

    def __init__(
        self,
        task: str | None = None,
        *,
        threshold: float = 0.5,
        num_classes: int | None = None,
        num_labels: int | None = None,
        normalize: str | None = None,
        top_k: int = 1,
        ignore_index: int | None = None,
        from_logits: bool | None = None,
    ):
        self.normalize = choice("ConfusionMatrix", "normalize", normalize, (None, "none", "true", "pred", "all"))
        self._set(
            task=task, threshold=threshold, num_classes=num_classes, num_labels=num_labels, top_k=top_k,
            ignore_index=ignore_index, from_logits=from_logits,
        )  # fmt: skip

    def _of(self, tally: Tally) -> np.ndarray:
        matrix = tally.matrix()
        if self.normalize in (None, "none"):
            return matrix
        axis: Any = {"true": -1, "pred": -2, "all": (-2, -1)}[self.normalize]
        whole = matrix.sum(axis, keepdims=True)
        return matrix / np.maximum(whole, 1)


class _Agreement(LabelMetric):
    """Options of metrics of a whole matrix."""

    def __init__(
        self,
        task: str | None = None,
        *,
        threshold: float = 0.5,
        num_classes: int | None = None,
        num_labels: int | None = None,
        ignore_index: int | None = None,
        from_logits: bool | None = None,
    ):
        self._set(
            task=task, threshold=threshold, num_classes=num_classes, num_labels=num_labels, ignore_index=ignore_index,
            from_logits=from_logits,
        )  # fmt: skip


class MatthewsCorrCoef(_Agreement):
    """The correlation of targets and predictions; 0 where either has one class only. Multilabel: of all labels together.

    Source: scikit-learn's `matthews_corrcoef`; Gorodkin (2004), "Comparing two K-category assignments by a K-category
    correlation coefficient".

    Example:
        >>> metric = MatthewsCorrCoef()
        >>> metric.update([1, 0, 1, 1], [1, 0, 0, 1])
        >>> round(metric.compute(), 4)
        0.5774
    """

    name = "matthews_corrcoef"
    higher_is_better = True

    def _of(self, tally: Tally) -> float:
        matrix: Any = tally.matrix()
        matrix = matrix.sum(0) if matrix.ndim == 3 else matrix
        matrix = matrix.astype(object)  # Python's integers do not overflow
        predicted, support = matrix.sum(0), matrix.sum(1)
        total, hits = int(matrix.sum()), int(np.trace(matrix))
        if not total:
            return float("nan")
        of_both = hits * total - int((predicted * support).sum())
        spread = (total**2 - int((predicted**2).sum())) * (total**2 - int((support**2).sum()))
        return of_both / float(spread) ** 0.5 if spread else 0.0


class CohenKappa(LabelMetric):
    """Agreement beyond chance: 1 - disagreements / those expected of independent predictions; NaN where none are.

    Args:
        weights: How much the pair of classes (i, j) disagrees: "linear" |i - j|, "quadratic" its square; default: all the
            same.
        others: As `LabelMetric`; not for multilabel.

    Source: scikit-learn's `cohen_kappa_score`; Cohen (1960, 1968).

    Example:
        >>> metric = CohenKappa()
        >>> metric.update([1, 0, 1, 1], [1, 0, 0, 1])
        >>> metric.compute()
        0.5
    """

    name = "cohen_kappa"
    higher_is_better = True

    def __init__(
        self,
        task: str | None = None,
        *,
        threshold: float = 0.5,
        num_classes: int | None = None,
        weights: str | None = None,
        ignore_index: int | None = None,
        from_logits: bool | None = None,
    ):
        choice("CohenKappa", "task", task, (None, "binary", "multiclass"))
        self.weights = choice("CohenKappa", "weights", weights, (None, "none", "linear", "quadratic"))
        self._set(
            task=task, threshold=threshold, num_classes=num_classes, ignore_index=ignore_index, from_logits=from_logits
        )

    def _of(self, tally: Tally) -> float:
        matrix = tally.matrix().astype(np.float64)
        if not matrix.sum():
            return float("nan")
        expected = np.outer(matrix.sum(1), matrix.sum(0)) / matrix.sum()
        i, j = np.indices(matrix.shape)
        if self.weights in (None, "none"):
            cost = (i != j).astype(np.float64)
        else:
            cost = (np.abs(i - j) if self.weights == "linear" else (i - j) ** 2).astype(np.float64)
        chance = float((cost * expected).sum())
        return 1 - float((cost * matrix).sum()) / chance if chance else float("nan")
