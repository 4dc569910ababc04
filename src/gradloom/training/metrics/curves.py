"""Metrics of scores at all thresholds: ROC and precision-recall curves, and the areas under them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import DTypeError, OptionError, ShapeError, explain
from . import ranking
from .base import Accumulator, Metric, at_least, choice
from .inputs import MetricInputError, describe, kind_and_shape
from .labels import TASKS, class_rows
from .state import Count, Store

Curve = tuple[np.ndarray, np.ndarray, np.ndarray]


class Scores(Accumulator):
    """Scores and targets of all samples, or, with thresholds, the counts of scores between each two of them.

    Args:
        owner: Name of the metric, for messages.
        options: `task`, `num_classes`, `num_labels`, `thresholds`, `ignore_index`, `from_logits`.
    """

    def __init__(self, owner: str, options: dict[str, Any]):
        self.owner = owner
        self.num_classes, self.num_labels = options["num_classes"], options["num_labels"]
        self.ignore_index, self.from_logits = options["ignore_index"], options["from_logits"]
        self.task: str | None = options["task"]
        if self.task is None:
            self.task = "multiclass" if self.num_classes else "multilabel" if self.num_labels else None
        self.grid = grid_of(owner, options["thresholds"])
        super().__init__(**self._states())

    def _states(self) -> dict[str, Any]:
        if self.grid is None:
            return {"rows": Store(2)}
        # The number of classes must be known: a histogram has a place for each.
        size = {"binary": 1, "multiclass": self.num_classes, "multilabel": self.num_labels}.get(self.task or "")
        if size is None:
            raise OptionError(
                explain(
                    f"{self.owner} with thresholds makes its counts at the start",
                    expected="task='binary', or num_classes=, or num_labels=",
                    given=f"task={self.task!r}",
                )
            )
        return {"bins": Count((size, 2, len(self.grid) + 1))}

    def task_of(self, a: Any, b: Any) -> str:
        """The task, by dtypes and shapes; raises where they do not fit."""
        (_, shape), (target_kind, target_shape) = kind_and_shape(a), kind_and_shape(b)
        task = self.task
        if task is None:
            task = "multiclass" if len(shape) == len(target_shape) + 1 else "binary"
        if task == "multiclass":
            fits = (
                len(shape) > 1 and shape[:1] + shape[2:] == target_shape and shape[1] == (self.num_classes or shape[1])
            )
            expected = f"scores (N, {self.num_classes or 'C'}, ...) with classes (N, ...)"
            if fits and target_kind == "float":
                raise DTypeError(
                    explain(
                        f"{self.owner}: the classes of the targets are no integers",
                        expected="integers",
                        given=describe(b),
                        do="cast the targets, e.g. targets.long()",
                    )
                )
        elif task == "multilabel":
            fits = shape == target_shape and len(shape) > 1 and shape[1] == (self.num_labels or shape[1])
            expected = f"(N, {self.num_labels or 'labels'}, ...) for both"
        else:
            fits, expected = shape == target_shape, "the same shape for both"
        if not fits:
            raise ShapeError(
                explain(
                    f"{self.owner}: predictions and targets do not fit together",
                    expected=expected,
                    given=f"predictions {describe(a)}, targets {describe(b)}",
                    do="metrics do not broadcast; say task= if the shapes were misread",
                )
            )
        return task

    def _later(self, arrays: tuple) -> None:
        self.task_of(*arrays)
        super()._later(arrays)

    def _take(self, x: np.ndarray, t: np.ndarray) -> None:  # type: ignore[override]
        task = self.task_of(x, t)
        x = x.reshape(-1) if task == "binary" else class_rows(x)
        t = class_rows(t) if task == "multilabel" else t.reshape(-1)
        if task == "multiclass" and self.ignore_index is not None:
            keep = t != self.ignore_index
            x, t = x[keep], t[keep]
        if not x.size:
            return
        self._check_values(task, x, t)
        if self.grid is not None:
            self._count(task, x, t)
        elif task == "multiclass" or (self.ignore_index is not None and not 0 <= self.ignore_index < 256):
            self.states["rows"].add(ranking.as_floats(x), t.astype(np.int64, copy=False))
        else:
            self.states["rows"].add(ranking.as_floats(x), t.astype(np.uint8))

    def _check_values(self, task: str, x: np.ndarray, t: np.ndarray) -> None:
        low, high = x.min(), x.max()
        if np.isnan(high):
            raise MetricInputError(
                explain(
                    f"{self.owner}: there is NaN among the predictions",
                    expected="scores that have an order",
                    given="NaN",
                    do="look at the loss: the model has diverged",
                )
            )
        if (self.grid is not None or self.from_logits is False) and not self.from_logits and (low < 0 or high > 1):
            raise MetricInputError(
                explain(
                    f"{self.owner}: predictions are no probabilities",
                    expected="0 to 1",
                    given=f"{low} to {high}",
                    do="from_logits=True takes logits",
                )
            )
        if task == "multiclass":
            allowed: Any = (t >= 0) & (t < x.shape[1])
        else:
            allowed = (t == 0) | (t == 1)
            if self.ignore_index is not None:
                allowed |= t == self.ignore_index
        if not allowed.all():
            raise MetricInputError(
                explain(
                    f"{self.owner}: a target is no class",
                    expected=f"0 to {x.shape[1] - 1 if task == 'multiclass' else 1}",
                    given=f"{t[~allowed][0]}",
                    do="ignore_index= leaves out targets of one value",
                )
            )

    def _count(self, task: str, x: np.ndarray, t: np.ndarray) -> None:
        bins, grid = self.states["bins"].value, np.asarray(self.grid)
        for c, (scores, labels) in enumerate(columns(task, self.probabilities(task, x), t, self.ignore_index)):
            place = np.searchsorted(grid, scores, side="right") + labels * (len(grid) + 1)
            bins[c] += np.bincount(place, minlength=bins[c].size).reshape(bins[c].shape)

    def probabilities(self, task: str, x: np.ndarray) -> np.ndarray:
        """x, or the probabilities of logits."""
        if not self.are_logits(x):
            return x
        return softmax(x) if task == "multiclass" else sigmoid(x)

    def are_logits(self, x: np.ndarray) -> bool:
        """Whether it is said that they are, or one lies outside of 0 to 1."""
        if self.from_logits is not None or not x.size:
            return bool(self.from_logits)
        return bool(x.min() < 0 or x.max() > 1)

    def rows(self) -> tuple[str, list[tuple[np.ndarray, np.ndarray]]]:
        """The task, and (scores, whether positive) of each class, of what is stored."""
        x, t = self.states["rows"].columns
        task = self.task or ("multiclass" if x.ndim == 2 else "binary")
        if not len(x):
            size = {"multiclass": self.num_classes, "multilabel": self.num_labels}.get(task) or 1
            return task, [(np.zeros(0), np.zeros(0, bool))] * size
        return task, columns(task, x, t, self.ignore_index)


class _CurveMetric(Metric):
    """The base of metrics of scores.

    What `update(outputs, targets)` takes: binary: scores (N, ...) with 0 and 1 of the same shape; multiclass: scores (N, C, ...)
    with classes (N, ...), each class against the others; multilabel (has to be said): (N, labels, ...) for both.
    Scores are probabilities, or logits if any lies outside of 0 to 1. NaN raises MetricInputError.

    Args:
        task, num_classes, num_labels, ignore_index, from_logits: As `LabelMetric`.
        thresholds: None: exact, all scores are kept. A number of evenly spaced thresholds from 0 to 1, or a list of them: only
            counts are kept; scores have to be probabilities (or `from_logits=True`).
    """

    takes = ("outputs", "targets")

    def __init__(
        self,
        task: str | None = None,
        *,
        num_classes: int | None = None,
        num_labels: int | None = None,
        thresholds: Any = None,
        ignore_index: int | None = None,
        from_logits: bool | None = None,
    ):
        owner = type(self).__name__
        self.task = choice(owner, "task", task, (*TASKS, None))
        at_least(owner, 2, num_classes=num_classes)
        at_least(owner, 1, num_labels=num_labels)
        self.num_classes, self.num_labels, self.thresholds = num_classes, num_labels, thresholds
        self.ignore_index, self.from_logits = ignore_index, from_logits
        super().__init__()

    def _accumulator(self) -> Scores:
        return Scores(type(self).__name__, self._score_options())

    def _score_options(self) -> dict[str, Any]:
        names = ("task", "num_classes", "num_labels", "thresholds", "ignore_index", "from_logits")
        return {name: getattr(self, name) for name in names}

    def _sharing(self) -> Any:
        grid = self._acc.grid
        return (Scores, *(v if k != "thresholds" else None if grid is None else tuple(grid)
                          for k, v in self._score_options().items()))  # fmt: skip

    def _curves(self, seen: Scores) -> tuple[str, list[Curve]]:
        """The task, and (false positives, true positives, thresholds), thresholds descending, of each class."""
        if seen.grid is None:
            x, t = seen.states["rows"].columns
            task, rows = seen.rows()
            logits = seen.are_logits(x)
            if logits and task == "multiclass":
                rows = columns(task, softmax(x), t, seen.ignore_index)
            found = [ranking.curve(scores, labels) for scores, labels in rows]
            if logits and task != "multiclass":  # a sigmoid keeps the order, but rounds large scores to one
                found = [(fps, tps, sigmoid(scores)) for fps, tps, scores in found]
            return task, found
        found = []
        for bins in seen.states["bins"].value:
            fps, tps = (np.cumsum(row[::-1])[:-1] for row in bins)
            found.append((fps, tps, seen.grid[::-1]))
        return seen.task or "binary", found


class ROC(_CurveMetric):
    """(false positive rates, true positive rates, thresholds), thresholds descending; a list of them for several classes.

    Exact curves start with a point (0, 0) whose threshold is inf, and keep all points. Without positives (or negatives) their
    rates are NaN.

    Args:
        others: As `AUROC`.

    Source: scikit-learn's `roc_curve(drop_intermediate=False)`; torchmetrics' `ROC` for given thresholds.

    Example:
        >>> roc = ROC(task="binary")
        >>> roc.update([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        >>> fpr, tpr, thresholds = roc.compute()
        >>> fpr.tolist(), tpr.tolist()
        ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    """

    name = "roc"

    def _result(self, seen: Scores) -> Any:
        task, found = self._curves(seen)
        if seen.grid is None:
            found = [(_start(fps), _start(tps), np.append(np.inf, t)) for fps, tps, t in found]
        curves = [(_share(fps, _last(fps, seen, c, 0)), _share(tps, _last(tps, seen, c, 1)), thresholds)
                  for c, (fps, tps, thresholds) in enumerate(found)]  # fmt: skip
        return curves[0] if task == "binary" else curves


class PrecisionRecallCurve(_CurveMetric):
    """(precisions, recalls, thresholds), thresholds ascending; a list of them for several classes.

    The first two have one more entry, (1, 0), at the end. Where nothing is predicted the precision is 0; without positives all
    recalls are NaN.

    Args:
        others: As `AUROC`.

    Source: scikit-learn's `precision_recall_curve`; torchmetrics' `PrecisionRecallCurve` for given thresholds.

    Example:
        >>> metric = PrecisionRecallCurve(task="binary")
        >>> metric.update([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        >>> precision, recall, thresholds = metric.compute()
        >>> recall.tolist(), thresholds.tolist()
        ([1.0, 1.0, 0.5, 0.5, 0.0], [0.1, 0.35, 0.4, 0.8])
    """

    name = "precision_recall_curve"

    def _result(self, seen: Scores) -> Any:
        task, found = self._curves(seen)
        curves = []
        for c, (fps, tps, thresholds) in enumerate(found):
            precision = tps / np.maximum(tps + fps, 1)
            recall = _share(tps, _last(tps, seen, c, 1))
            curves.append((np.append(precision[::-1], 1.0), np.append(recall[::-1], 0.0), thresholds[::-1]))
        return curves[0] if task == "binary" else curves


class _Averaged(_CurveMetric):
    """One number per class, averaged."""

    higher_is_better = True

    def __init__(self, task: str | None = None, *, average: str | None = "macro", **options: Any):
        self.average = choice(type(self).__name__, "average", average, ("micro", "macro", "weighted", "none", None))
        super().__init__(task, **options)
        if average == "micro" and self._acc.task not in ("multilabel", "binary"):
            raise OptionError(
                explain(
                    f"{type(self).__name__}: 'micro' is for labels",
                    expected="task='multilabel', or average='macro', 'weighted' or 'none'",
                    given=f"task={task!r}, average='micro'",
                )
            )

    def _result(self, seen: Scores) -> Any:
        if seen.grid is None:
            task, rows = seen.rows()
            if task == "multiclass" and len(seen.states["rows"].columns[0]):
                x, t = seen.states[
                    "rows"
                ].columns  # a softmax changes the order of a class's scores, a sigmoid does not
                rows = columns(task, seen.probabilities(task, x), t, seen.ignore_index)
            if self.average == "micro":
                every = [np.concatenate(part) for part in zip(*rows, strict=True)]
                rows = [(every[0], every[1])]
            scores = np.array([self._exact(x, labels) for x, labels in rows])
            support = np.array([labels.sum() for _, labels in rows])
        else:
            task, found = self._curves(seen)
            bins = seen.states["bins"].value.sum(-1)
            if self.average == "micro":
                found = [(sum(f for f, _, _ in found), sum(t for _, t, _ in found), seen.grid)]  # type: ignore[list-item]
                bins = bins.sum(0, keepdims=True)
            scores = np.array([self._binned(f, t, *map(int, b)) for (f, t, _), b in zip(found, bins, strict=True)])
            support = bins[:, 1]
        if task == "binary" or self.average == "micro":
            return float(scores[0])
        if self.average in ("none", None):
            return scores
        defined = ~np.isnan(scores)
        weights = np.where(defined, support if self.average == "weighted" else 1, 0)
        return float((scores[defined] * weights[defined]).sum() / weights.sum()) if weights.sum() else float("nan")

    def _exact(self, scores: np.ndarray, labels: np.ndarray) -> float:
        raise NotImplementedError

    def _binned(self, fps: np.ndarray, tps: np.ndarray, negatives: int, positives: int) -> float:
        raise NotImplementedError


class AUROC(_Averaged):
    """The area under the ROC curve: how often a positive scores above a negative, equal scores counting half.

    Exact, in integers, unless `thresholds` are given. A class without positives or negatives has none (NaN), and is left out
    of averages.

    Args:
        task: "binary", "multiclass" (each class against the others) or "multilabel".
        num_classes, num_labels, ignore_index, from_logits: As `LabelMetric`.
        average: "macro", "weighted" (by positives), "none"; "micro" for multilabel.
        thresholds: None: exact, and all scores are kept. A number of evenly spaced thresholds from 0 to 1, or a list:
            constant memory.

    Source: scikit-learn's `roc_auc_score(multi_class="ovr")`; torchmetrics' `AUROC` for given thresholds.

    Example:
        >>> auroc = AUROC(task="binary")
        >>> auroc.update([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        >>> auroc.compute()
        0.75
    """

    name = "auroc"

    def _exact(self, scores: np.ndarray, labels: np.ndarray) -> float:
        return ranking.area(scores, labels)

    def _binned(self, fps: np.ndarray, tps: np.ndarray, negatives: int, positives: int) -> float:
        if not (negatives and positives):
            return float("nan")
        return float(np.trapezoid(tps / positives, fps / negatives))


class AveragePrecision(_Averaged):
    """The mean of the precisions at the thresholds, weighted by the gain in recall; "macro" over classes is the mAP.

    A class without positives has none (NaN), and is left out of averages.

    Args:
        others: As `AUROC`.

    Source: scikit-learn's `average_precision_score`; torchmetrics' `AveragePrecision` for given thresholds.

    Example:
        >>> metric = AveragePrecision(task="binary")
        >>> metric.update([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        >>> round(metric.compute(), 4)
        0.8333
    """

    name = "average_precision"

    def _exact(self, scores: np.ndarray, labels: np.ndarray) -> float:
        fps, tps, _ = ranking.curve(scores, labels)
        return self._binned(fps, tps, 0, int(tps[-1]) if len(tps) else 0)

    def _binned(self, fps: np.ndarray, tps: np.ndarray, negatives: int, positives: int) -> float:
        if not positives:
            return float("nan")
        return float((np.diff(tps, prepend=0) * (tps / np.maximum(tps + fps, 1))).sum()) / positives


def columns(task: str, x: np.ndarray, t: np.ndarray, ignore: int | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """(scores, whether positive) of each class."""
    if task == "multiclass":
        return [(np.ascontiguousarray(x[:, c]), t == c) for c in range(x.shape[1])]
    x, t = (x[:, None], t[:, None]) if task == "binary" else (x, t)
    found = []
    for scores, labels in zip(x.T, t.T, strict=True):
        if ignore is not None:
            scores, labels = scores[labels != ignore], labels[labels != ignore]
        found.append((np.ascontiguousarray(scores), labels == 1))
    return found


def grid_of(owner: str, thresholds: Any) -> np.ndarray | None:
    """Ascending thresholds, of their number or a list of them."""
    if thresholds is None:
        return None
    if isinstance(thresholds, (int, np.integer)):
        at_least(owner, 2, thresholds=int(thresholds))
        return np.linspace(0, 1, int(thresholds))
    grid = np.sort(np.asarray(thresholds, np.float64))
    if grid.ndim != 1 or not len(grid) or not (grid[0] >= 0 and grid[-1] <= 1):
        raise OptionError(
            explain(f"{owner}: thresholds are probabilities", expected="numbers from 0 to 1", given=repr(thresholds))
        )
    return grid


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def softmax(x: np.ndarray) -> np.ndarray:
    """exp(x) / sum(exp(x)) of rows, in float64."""
    x = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


def _start(counts: np.ndarray) -> np.ndarray:
    return np.append(0, counts)


def _last(counts: np.ndarray, seen: Scores, c: int, label: int) -> int:
    """All of one label: the last point of an exact curve, all bins where thresholds are given."""
    if seen.grid is None:
        return int(counts[-1]) if len(counts) else 0
    return int(seen.states["bins"].value[c, label].sum())


def _share(counts: np.ndarray, whole: int) -> np.ndarray:
    return counts / whole if whole else np.full(len(counts), np.nan)
