"""Metrics of the counts tp, fp, fn and tn of each class: accuracy, precision, recall and their relatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ... import ops
from ...errors import OptionError, explain
from .base import Shares, choice
from .confusion import LabelMetric
from .inputs import describe, kind_and_shape
from .labels import AVERAGES, CLASSES, HITS, Labels, Tally


class CountMetric(LabelMetric):
    """The base of scores of tp, fp, fn and tn, averaged over classes.

    Args:
        task, threshold, num_classes, num_labels, ignore_index, from_logits: As `LabelMetric`.
        average: "micro" (counts of all classes together), "macro" (mean over the classes that occur), "weighted" (by
            their numbers of targets), "none" or None (an array with a score for each class). A binary task has one score.
        top_k: A target among the k largest scores counts as predicted.
        zero_division: The score where it would be 0 / 0 for a class. Where nothing at all was seen it is NaN.

    Source: scikit-learn's functions of the same names.
    """

    _detail = CLASSES
    _any_task: ClassVar[bool] = False
    higher_is_better = True

    def __init__(
        self,
        task: str | None = None,
        *,
        threshold: float = 0.5,
        num_classes: int | None = None,
        num_labels: int | None = None,
        average: str | None = "micro",
        top_k: int = 1,
        ignore_index: int | None = None,
        zero_division: float = 0.0,
        from_logits: bool | None = None,
    ):
        self.average = choice(type(self).__name__, "average", average, AVERAGES)
        self.zero_division = zero_division
        self._set(
            task=task, threshold=threshold, num_classes=num_classes, num_labels=num_labels, top_k=top_k,
            ignore_index=ignore_index, from_logits=from_logits,
        )  # fmt: skip

    def _counts(self, tally: Tally) -> tuple[np.ndarray, ...]:
        return tally.counts()

    def _of(self, tally: Tally) -> Any:
        counts = self._counts(tally)
        per_class = self.average in ("none", None) and tally.task != "binary"
        if not sum(int(c.sum()) for c in counts[:3]) + int(counts[3].sum()):
            return np.full(len(counts[0]), np.nan) if per_class else float("nan")
        tp, fp, fn, tn = counts
        if self.average == "micro" and tally.task != "binary":
            tp, fp, fn, tn = (c.sum(keepdims=True) for c in counts)
        part, whole = self._ratio(tp, fp, fn, tn, tally.task)
        part, whole = part.astype(np.float64), whole.astype(np.float64)
        scores = np.divide(part, whole, out=np.full(part.shape, float(self.zero_division)), where=whole != 0)
        if per_class:
            return scores
        if tally.task == "binary" or self.average == "micro":
            return float(scores[0])
        weights = self._weights(tp, fp, fn, tally.task)
        return float((scores * weights).sum() / weights.sum()) if weights.sum() else float(self.zero_division)

    def _weights(self, tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, task: str | None) -> np.ndarray:
        if self.average == "weighted":
            return tp + fn
        return np.ones(len(tp)) if task == "multilabel" else (tp + fp + fn > 0).astype(np.float64)

    def _ratio(self, tp: Any, fp: Any, fn: Any, tn: Any, task: str | None) -> tuple[Any, Any]:
        """Numerator and denominator of the score."""
        raise NotImplementedError


class Accuracy(CountMetric):
    """The share of samples whose class is predicted right; "macro" is the mean over classes of the share of each.

    Binary and multilabel: the share of elements that are right. With "micro" (the default) and several classes, `in_step`
    works with floats (N, C, ...) and classes (N, ...), and with a binary task.

    Args:
        others: As `CountMetric`. Without any, the task is inferred from shapes and dtypes.

    Source: scikit-learn's `accuracy_score` and `top_k_accuracy_score`; torchmetrics' `Accuracy` for averages.

    Example:
        >>> accuracy = Accuracy()
        >>> accuracy.update([[2.0, -1.0, 0.5], [0.0, 0.1, 0.2]], [0, 1])
        >>> accuracy.compute()
        0.5
        >>> best_two = Accuracy(top_k=2)
        >>> best_two.update([[2.0, -1.0, 0.5], [0.0, 0.1, 0.2]], [0, 1])
        >>> best_two.compute()
        1.0
    """

    name = "accuracy"
    _any_task = True
    has_in_step = True

    def _needs(self) -> int:
        return HITS if self.average == "micro" else CLASSES

    def _accumulator(self) -> _AccuracyLabels:
        return _AccuracyLabels(type(self).__name__, self._needs(), self._any_task, self._label_options())

    def _ratio(self, tp: Any, fp: Any, fn: Any, tn: Any, task: str | None) -> tuple[Any, Any]:
        return (tp, tp + fn) if task == "multiclass" else (tp + tn, tp + fp + fn + tn)

    def _weights(self, tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, task: str | None) -> np.ndarray:
        if self.average == "macro" and self.top_k > 1:
            return (tp + fn > 0).astype(np.float64)
        return super()._weights(tp, fp, fn, task)

    def in_step(self, outputs: Any, targets: Any) -> dict[str, Any]:
        """Hits and samples, of ops. NaN is not looked for: a compiled step cannot raise.

        Raises:
            OptionError: An average over classes, top_k above 1, one-hot targets or labels.
        """
        meaning = self._acc.meaning(outputs, targets)
        if meaning in ("multilabel", "onehot") or self.average != "micro" or self.top_k > 1:
            raise OptionError(
                explain(
                    "this form of Accuracy has no in_step",
                    expected="average='micro', top_k=1, class indices as targets",
                    given=f"{self!r}, outputs {describe(outputs)}, targets {describe(targets)}",
                    do="return the outputs from the compiled step and call update(outputs, targets)",
                )
            )
        keep = None if self.ignore_index is None else ops.not_equal(targets, self.ignore_index)
        total: Any = int(np.prod(targets.shape)) if keep is None else ops.sum(keep)
        if meaning != "binary":
            found = ops.argmax(outputs, axis=1) if meaning == "scores" else outputs
            return {"hits": _kept(ops.equal(found, targets), keep), "total": total}
        right = ops.equal(targets, 1)
        if kind_and_shape(outputs)[0] == "float":
            found, as_logits = (
                ops.greater(outputs, self.threshold),
                ops.greater(outputs, self._acc.logit_of_threshold()),
            )
            outside = ops.any(ops.logical_or(ops.less(outputs, 0), ops.greater(outputs, 1)))
        else:
            found = as_logits = ops.equal(outputs, 1)
            outside = 0
        shares = {"support": _kept(right, keep), "total": total, "outside": outside}
        for name, positive in (("", found), ("_of_logits", as_logits)):
            shares[f"positive{name}"] = _kept(positive, keep)
            shares[f"hits{name}"] = _kept(ops.logical_and(positive, right), keep)
        return shares

    def absorb(self, shares: Mapping[str, Any]) -> None:
        self._acc.absorb(shares)


class _AccuracyLabels(Labels):
    """Labels that can be given counts."""

    _names = {
        "multiclass": ("hits", "total"),
        "binary": ("support", "total", "outside", "positive", "hits", "positive_of_logits", "hits_of_logits"),
    }

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._shares = {task: Shares(names) for task, names in self._names.items()}

    def absorb(self, shares: Mapping[str, Any]) -> None:
        if self.states["tally"].detail != HITS:
            raise OptionError(
                explain(
                    "this metric keeps counts of each class, and shares hold none",
                    expected="an Accuracy with average='micro', outside of a collection that shares its counts",
                    do="call update",
                )
            )
        if self._shares["binary" if "outside" in shares else "multiclass"].put(shares):
            self.settle()

    def settle(self) -> None:
        super().settle()
        tally: Tally = self.states["tally"]
        for task, waiting in self._shares.items():
            for row in waiting.take():
                tally.prepare(task, 1)
                values = [int(v) for v in row]
                if task == "multiclass":
                    tally.table += values
                    continue
                support, total, outside, *readings = values
                tally.outside |= bool(outside) or bool(self.from_logits)
                for reading in (0, 1):
                    positive, hits = readings[2 * reading : 2 * reading + 2]
                    counts = (hits, positive - hits, support - hits, total - positive - support + hits)
                    tally.table[reading] += np.array(counts)[:, None]

    def reset(self) -> None:
        super().reset()
        for waiting in self._shares.values():
            waiting.waiting = []


class BalancedAccuracy(CountMetric):
    """The mean over the classes that have targets of the share of each that is predicted right.

    Args:
        adjusted: Scaled so that chance is 0 and perfect is 1.
        others: As `LabelMetric`; not for multilabel.

    Source: scikit-learn's `balanced_accuracy_score`.

    Example:
        >>> metric = BalancedAccuracy()
        >>> metric.update([0, 0, 0, 1], [0, 0, 1, 1])
        >>> metric.compute()
        0.75
    """

    name = "balanced_accuracy"
    _any_task = True

    def __init__(
        self,
        task: str | None = None,
        *,
        threshold: float = 0.5,
        num_classes: int | None = None,
        adjusted: bool = False,
        ignore_index: int | None = None,
        from_logits: bool | None = None,
    ):
        choice("BalancedAccuracy", "task", task, (None, "binary", "multiclass"))
        self.adjusted = adjusted
        self._set(
            task=task, threshold=threshold, num_classes=num_classes, ignore_index=ignore_index, from_logits=from_logits
        )

    def _of(self, tally: Tally) -> float:
        tp, fp, fn, tn = tally.counts()
        if tally.task == "binary":
            tp, fn = np.concatenate([tn, tp]), np.concatenate([fp, fn])
        seen = tp + fn > 0
        if not seen.any():
            return float("nan")
        score = float((tp[seen] / (tp + fn)[seen]).mean())
        if not self.adjusted:
            return score
        chance = 1 / int(seen.sum())
        return (score - chance) / (1 - chance) if chance < 1 else float("nan")


class Precision(CountMetric):
    """tp / (tp + fp): of the samples predicted as a class, the share that is of it.

    Example:
        >>> metric = Precision(task="binary")
        >>> metric.update([0.9, 0.7, 0.2], [1, 0, 1])
        >>> metric.compute()
        0.5
    """

    name = "precision"

    def _ratio(self, tp: Any, fp: Any, fn: Any, tn: Any, task: str | None) -> tuple[Any, Any]:
        return tp, tp + fp


class Recall(CountMetric):
    """tp / (tp + fn): of the samples of a class, the share that is predicted as it.

    Example:
        >>> metric = Recall(task="multiclass", average="none")
        >>> metric.update([0, 1, 1], [0, 0, 1])
        >>> metric.compute()
        array([0.5, 1. ])
    """

    name = "recall"

    def _ratio(self, tp: Any, fp: Any, fn: Any, tn: Any, task: str | None) -> tuple[Any, Any]:
        return tp, tp + fn


class Specificity(CountMetric):
    """tn / (tn + fp): of the samples that are not of a class, the share that is not predicted as it.

    Source: torchmetrics' `Specificity`.

    Example:
        >>> metric = Specificity(task="binary")
        >>> metric.update([0.9, 0.7, 0.2], [1, 0, 0])
        >>> metric.compute()
        0.5
    """

    name = "specificity"

    def _ratio(self, tp: Any, fp: Any, fn: Any, tn: Any, task: str | None) -> tuple[Any, Any]:
        return tn, tn + fp


class FBetaScore(CountMetric):
    """(1 + b**2) tp / ((1 + b**2) tp + b**2 fn + fp): recall weighs b times as much as precision.

    Args:
        beta: b, above 0.
        others: As `CountMetric`.

    Example:
        >>> metric = FBetaScore(task="binary", beta=2.0)
        >>> metric.update([0.9, 0.7, 0.2], [1, 0, 1])
        >>> metric.compute()
        0.5
    """

    name = "fbeta_score"

    def __init__(self, task: str | None = None, beta: float = 1.0, **options: Any):
        if not beta > 0:
            raise OptionError(explain("FBetaScore: beta is too small", expected="above 0", given=repr(beta)))
        self.beta = beta
        super().__init__(task, **options)

    def _ratio(self, tp: Any, fp: Any, fn: Any, tn: Any, task: str | None) -> tuple[Any, Any]:
        square = self.beta**2
        return (1 + square) * tp, (1 + square) * tp + square * fn + fp


class F1Score(CountMetric):
    """2 tp / (2 tp + fn + fp): the harmonic mean of precision and recall.

    Example:
        >>> metric = F1Score(task="multiclass", average="macro")
        >>> metric.update([0, 1, 1], [0, 0, 1])
        >>> round(metric.compute(), 4)
        0.6667
    """

    name = "f1_score"

    def _ratio(self, tp: Any, fp: Any, fn: Any, tn: Any, task: str | None) -> tuple[Any, Any]:
        return 2 * tp, 2 * tp + fn + fp


class JaccardIndex(CountMetric):
    """tp / (tp + fp + fn): intersection over union, of classes of samples or of pixels.

    Args:
        average: As `CountMetric`, "macro" by default.
        others: As `CountMetric`. The class of `ignore_index` does not count in averages.

    Source: scikit-learn's `jaccard_score`; torchmetrics' `JaccardIndex`.

    Example:
        >>> metric = JaccardIndex(num_classes=2)
        >>> metric.update([[0, 1], [1, 1]], [[0, 0], [1, 1]])
        >>> round(metric.compute(), 4)
        0.5833
    """

    name = "jaccard_index"

    def __init__(self, task: str | None = None, *, average: str | None = "macro", **options: Any):
        super().__init__(task, average=average, **options)

    def _counts(self, tally: Tally) -> tuple[np.ndarray, ...]:
        tp, fp, fn, tn = tally.counts()
        if tally.task == "multiclass" and self.ignore_index is not None and 0 <= self.ignore_index < len(fp):
            fp = fp.copy()
            fp[self.ignore_index] = 0
        return tp, fp, fn, tn

    def _ratio(self, tp: Any, fp: Any, fn: Any, tn: Any, task: str | None) -> tuple[Any, Any]:
        return tp, tp + fp + fn


def _kept(mask: Any, keep: Any) -> Any:
    """How many are true, of those that are kept."""
    return ops.sum(mask if keep is None else ops.logical_and(mask, keep))
