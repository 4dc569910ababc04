"""Counts of predicted and true classes: what a batch means (binary, multiclass, multilabel), and the tally that is kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import DTypeError, FileFormatError, OptionError, ShapeError, explain
from .base import Pairs, at_least, choice
from .inputs import MetricInputError, describe, kind_and_shape
from .state import Arrays, loaded

TASKS = ("binary", "multiclass", "multilabel")
AVERAGES = ("micro", "macro", "weighted", "none", None)
#: How much a tally holds: hits only, three counts per class, or the whole matrix.
HITS, CLASSES, MATRIX = 0, 1, 2
#: Up to so many classes the counts per class are read off a small matrix: one bincount for three.
SMALL = 128


class Tally:
    """Counts of (target, prediction), in 64-bit integers.

    Attributes:
        task: None until the first batch where it is inferred.
        table: multiclass: (target, prediction) for MATRIX; (3, C): hits, predictions, targets per class, for CLASSES; (2,): hits,
            samples, for HITS. binary and multilabel: (reading, 4, labels): tp, fp, fn, tn with the predictions read as
            probabilities and as logits.
        outside: Whether predictions outside of 0 to 1 came: then they are all logits, those of other batches too.
    """

    def __init__(self, detail: int, task: str | None, size: int | None):
        self.detail, self._task, self._size = detail, task, size
        self.clear()

    def clear(self) -> None:
        self.task, self.outside, self.size = self._task, False, 0
        self.table: Any = np.zeros(0, np.int64)
        if self.task is not None:
            self.prepare(self.task, self._size or 0)

    def prepare(self, task: str, size: int) -> None:
        """Makes room for classes (or labels) up to `size`."""
        size = 1 if task == "binary" else size
        if self.task is None or not self.table.size:
            self.task, self.size = task, size
            self.table = np.zeros(self._shape(task, size), np.int64)
        elif size > self.size:
            if task != "multiclass":
                raise ShapeError(
                    explain("the number of labels changed", expected=f"{self.size} labels", given=f"{size} labels")
                )
            old, self.size = self.table, size
            self.table = np.zeros(self._shape(task, size), np.int64)
            self.table[tuple(map(slice, old.shape))] = old

    def _shape(self, task: str, size: int) -> tuple[int, ...]:
        if task != "multiclass":
            return (2, 4, 1 if task == "binary" else size)
        return {HITS: (2,), CLASSES: (3, size), MATRIX: (size, size)}[self.detail]

    def counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """tp, fp, fn, tn per class or label."""
        if self.task is None:
            return (np.zeros(0, np.int64),) * 4
        if self.task != "multiclass":
            tp, fp, fn, tn = self.table[int(self.outside)]
            return tp, fp, fn, tn
        if self.detail == HITS:
            hits, total = self.table[:1], self.table[1:]
            return hits, total - hits, total - hits, np.zeros(1, np.int64)
        if self.detail == CLASSES:
            hits, predicted, support = self.table
        else:
            hits, predicted, support = np.diagonal(self.table), self.table.sum(0), self.table.sum(1)
        fp, fn = predicted - hits, support - hits
        return hits, fp, fn, support.sum() - hits - fp - fn

    def matrix(self) -> np.ndarray:
        """(C, C) counts of (target, prediction); multilabel: (labels, 2, 2)."""
        if self.task == "multiclass":
            return self.table.copy()
        tp, fp, fn, tn = self.counts()
        both = np.stack([tn, fp, fn, tp], -1).reshape(-1, 2, 2)
        return both if self.task == "multilabel" or self.task is None else both[0]

    def join(self, other: Tally) -> None:
        if other.task is None:
            return
        if self.task not in (None, other.task):
            raise OptionError(explain("these metrics do not merge", expected=self.task, given=other.task))
        self.prepare(other.task, other.size)
        self.outside |= other.outside
        table = other._reduced(self.detail)
        self.table[tuple(map(slice, table.shape))] += table

    def _reduced(self, detail: int) -> np.ndarray:
        """The table with less detail."""
        if self.task != "multiclass" or detail == self.detail:
            return self.table
        if detail > self.detail:
            raise OptionError(
                explain("these metrics do not merge", expected="counts for each class", given="counts of hits only")
            )
        hits, fp, fn, _ = self.counts()
        return (
            np.stack([hits, hits + fp, hits + fn]) if detail == CLASSES else np.array([hits.sum(), (hits + fn).sum()])
        )

    def save(self) -> Arrays:
        task = -1 if self.task is None else TASKS.index(self.task)
        return {"table": self.table.copy(), "outside": np.array(self.outside), "task": np.array(task)}

    def load(self, arrays: Arrays) -> None:
        table, task = loaded(arrays, "table", None), int(loaded(arrays, "task", ()))
        outside = bool(loaded(arrays, "outside", ()))
        self.clear()
        if task < 0:
            return
        name = TASKS[task]
        size = table.shape[-1] if table.ndim > 1 else self.size
        if self._task not in (None, name) or table.shape != self._shape(name, size) or self.size > size:
            raise FileFormatError(
                explain(
                    "the state of a metric does not fit",
                    expected=f"counts of {self._task or 'any task'}, for {self._size or 'any number of'} classes",
                    given=f"{name}, a table of shape {table.shape}",
                    do="make the metric with the options that it was saved with",
                )
            )
        self.task, self.size, self.table, self.outside = name, size, table.astype(np.int64), outside


class Labels(Pairs):
    """Makes classes of predictions, and tallies them.

    Args:
        owner: Name of the metric, for messages.
        detail: HITS, CLASSES or MATRIX.
        any_task: Integers for both are taken for classes even where the task is not said.
        others: The options of `LabelMetric`.
    """

    def __init__(self, owner: str, detail: int, any_task: bool, options: dict[str, Any]):
        self.owner, self.any_task = owner, any_task
        self.threshold, self.top_k = options["threshold"], options["top_k"]
        self.num_classes, self.num_labels = options["num_classes"], options["num_labels"]
        self.ignore_index, self.from_logits = options["ignore_index"], options["from_logits"]
        self.task: str | None = options["task"]
        choice(owner, "task", self.task, (*TASKS, None))
        at_least(owner, 2, num_classes=self.num_classes)
        at_least(owner, 1, top_k=self.top_k, num_labels=self.num_labels)
        at_least(owner, -(2**63), ignore_index=self.ignore_index)
        if not 0 <= self.threshold <= 1:
            raise OptionError(
                explain(f"{owner}: threshold is a probability", expected="0 to 1", given=repr(self.threshold))
            )
        if self.task is None:
            self.task = "multiclass" if self.num_classes else "multilabel" if self.num_labels else None
        with np.errstate(divide="ignore"):
            self._logit = float(np.log(self.threshold) - np.log1p(-self.threshold))
        size = self.num_classes if self.task == "multiclass" else self.num_labels
        super().__init__(tally=Tally(detail, self.task, size))

    # What a batch means.

    def meaning(self, a: Any, b: Any) -> str:
        """ "classes", "scores", "onehot", "binary" or "multilabel", by dtypes and shapes alone.

        Raises:
            ShapeError: They do not fit together.
            DTypeError: Class indices are no integers.
            OptionError: The task has to be said.
        """
        (kind, shape), (target_kind, target_shape) = kind_and_shape(a), kind_and_shape(b)
        floats, same = kind == "float", shape == target_shape
        task = self.task or self.states["tally"].task
        if task is None:
            if floats and (len(shape) == len(target_shape) + 1 or (same and shape[1:] not in ((), (1,)))):
                task = "multiclass"
            elif floats:
                task = "binary"
            elif self.any_task:
                task = "multiclass"
            else:
                raise OptionError(
                    explain(
                        f"{self.owner} of classes needs to know what they are",
                        expected="task='binary', task='multiclass' or 'multilabel'",
                        given=f"no task, predictions {describe(a)}",
                        do="for two classes 'binary' measures class 1, 'multiclass' both",
                    )
                )
        if task != "multiclass":
            fits = same and (task == "binary" or (len(shape) > 1 and shape[1] == (self.num_labels or shape[1])))
            if not fits:
                raise self._misfit(a, b, "the same shape for both" + ("" if task == "binary" else ": (N, labels, ...)"))
            return task
        if floats and same and len(shape) > 1 and shape[1] > 1:
            return "onehot"
        if floats and shape[:1] + shape[2:] == target_shape and len(shape) > 1:
            if target_kind == "float":
                raise DTypeError(
                    explain(
                        f"{self.owner}: the classes of the targets are no integers",
                        expected="integers (N, ...) with predictions (N, C, ...)",
                        given=describe(b),
                        do="cast the targets, e.g. targets.long()",
                    )
                )
            if shape[1] < 2 or shape[1] != (self.num_classes or shape[1]):
                raise self._misfit(a, b, f"predictions for {self.num_classes or 'at least 2'} classes")
            return "scores"
        if floats or not same or target_kind == "float":
            raise self._misfit(a, b, "predictions (N, C, ...) with classes (N, ...), or classes (N, ...) for both")
        if self.top_k > 1:
            raise self._misfit(a, b, f"scores (N, C, ...) of all classes, for top_k={self.top_k}")
        return "classes"

    def _misfit(self, a: Any, b: Any, expected: str) -> ShapeError:
        return ShapeError(
            explain(
                f"{self.owner}: predictions and targets do not fit together",
                expected=expected,
                given=f"predictions {describe(a)}, targets {describe(b)}",
                do="metrics do not broadcast; say task=, num_classes= or num_labels= if the shapes were misread",
            )
        )

    def _later(self, arrays: tuple) -> None:
        self.meaning(*arrays)
        super()._later(arrays)

    def check(self, a: np.ndarray, b: np.ndarray) -> Callable | None:
        meaning = self.meaning(a, b)
        task = meaning if meaning in TASKS else "multiclass"
        tally = self.states["tally"]
        if task == "multiclass":
            classes = a.shape[1] if meaning in ("scores", "onehot") else 0
            if self.top_k > max(classes, 1):
                raise OptionError(
                    explain(f"{self.owner}: top_k is too large", expected=f"up to {classes}", given=self.top_k)
                )
            tally.prepare(task, max(classes, self.num_classes or 0, tally.size))
        else:
            tally.prepare(task, a.shape[1] if task == "multilabel" else 1)
        if meaning == "scores":
            return self._classes
        if meaning == "onehot":
            return self._of_onehot
        if meaning == "multilabel":
            return None if a.ndim == 2 else _rows_of_labels
        return None if a.ndim == 1 else _flat

    # Scores to classes.

    def _classes(self, x: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, target = class_rows(x), target.reshape(-1)
        if x.size and np.isnan(x.max()):
            raise self._nan()
        found = x.argmax(1)
        if self.top_k > 1 and x.size:
            # A target outside of the classes is found when the rows are reduced.
            inside = np.clip(target, 0, x.shape[1] - 1).astype(np.int64)[:, None]
            own = np.take_along_axis(x, inside, 1)
            ahead = (x > own).sum(1) + ((x == own) & (np.arange(x.shape[1]) < inside)).sum(1)
            found = np.where(ahead < self.top_k, inside[:, 0], found)
        return found, target

    def _of_onehot(self, x: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = class_rows(target)
        if not (((rows == 0) | (rows == 1)).all() and (rows.sum(1) == 1).all()):
            raise MetricInputError(
                explain(
                    f"{self.owner}: targets of the predictions' shape are no one-hot rows",
                    expected="a single 1 in each row, and zeros",
                    given=f"targets {describe(target)}",
                    do="say task='multilabel' or task='binary', or give class indices (N, ...)",
                )
            )
        return self._classes(x, rows.argmax(1))

    # Rows to counts.

    def reduce(self, a: np.ndarray, b: np.ndarray) -> None:
        if self.states["tally"].task == "multiclass":
            self._count_classes(a, b)
        else:
            self._count_labels(a, b)

    def _count_classes(self, p: np.ndarray, t: np.ndarray) -> None:
        tally: Tally = self.states["tally"]
        if self.ignore_index is not None:
            keep = t != self.ignore_index
            p, t = p[keep], t[keep]
        if not len(t):
            return
        low, high = min(int(p.min()), int(t.min())), max(int(p.max()), int(t.max()))
        if low < 0 or (self.num_classes is not None and high >= self.num_classes):
            raise self._no_class(low if low < 0 else high, p)
        if tally.detail == HITS:
            tally.table += (np.count_nonzero(p == t), len(t))
            return
        if high >= tally.size:
            tally.prepare("multiclass", high + 1)
        p, t, size = p.astype(np.int64, copy=False), t.astype(np.int64, copy=False), tally.size
        if size <= SMALL:
            table: Any = np.bincount(t * size + p, minlength=size * size).reshape(size, size)
            if tally.detail == CLASSES:
                table = np.stack([np.diagonal(table), table.sum(0), table.sum(1)])
            tally.table += table
        elif tally.detail == CLASSES:
            for row, values in zip(tally.table, (p[p == t], p, t), strict=True):
                row += np.bincount(values, minlength=size)
        else:
            np.add.at(tally.table.reshape(-1), t * size + p, 1)

    def _count_labels(self, x: np.ndarray, t: np.ndarray) -> None:
        """Counts tp, fp, fn, tn with x read both ways, unless it is known what it is."""
        tally: Tally = self.states["tally"]
        if x.ndim == 1:
            x, t = x[:, None], t[:, None]
        keep = None if self.ignore_index is None else t != self.ignore_index
        true, allowed = t == 1, (t == 0) | (t == 1)
        if keep is not None:
            allowed |= ~keep
        if not allowed.all():
            raise MetricInputError(
                explain(
                    f"{self.owner}: targets are 0 or 1",
                    expected="0 and 1" + ("" if keep is None else f", or ignore_index={self.ignore_index}"),
                    given=f"{t[~allowed][0]}",
                )
            )
        for reading, found in self._positives(x):
            if keep is not None:
                found, right = found & keep, true & keep
            else:
                right = true
            tp = np.count_nonzero(found & right, axis=0)
            predicted, support = np.count_nonzero(found, axis=0), np.count_nonzero(right, axis=0)
            total = len(x) if keep is None else np.count_nonzero(keep, axis=0)
            tally.table[reading] += (tp, predicted - tp, support - tp, total - predicted - support + tp)

    def _positives(self, x: np.ndarray) -> list[tuple[int, np.ndarray]]:
        tally: Tally = self.states["tally"]
        if x.dtype.kind != "f":
            low, high = x.min(initial=0), x.max(initial=0)
            if low < 0 or high > 1:
                raise self._no_class(int(low if low < 0 else high), x)
            return [(0, x == 1), (1, x == 1)]
        low, high = x.min(initial=0), x.max(initial=0)
        if np.isnan(high):
            raise self._nan()
        outside = bool(low < 0 or high > 1)
        if outside and self.from_logits is False:
            raise MetricInputError(
                explain(
                    f"{self.owner}: predictions are no probabilities",
                    expected="0 to 1",
                    given=f"{low} to {high}",
                    do="from_logits=True takes logits",
                )
            )
        tally.outside |= outside or bool(self.from_logits)
        as_logits = x > self._logit
        return [(1, as_logits)] if tally.outside else [(0, x > self.threshold), (1, as_logits)]

    def _no_class(self, value: int, p: np.ndarray) -> MetricInputError:
        most = 1 if self.states["tally"].task != "multiclass" else (self.num_classes or 0) - 1
        return MetricInputError(
            explain(
                f"{self.owner}: there is no class {value}",
                expected=f"0 to {most}" if most > 0 else "0, 1, 2, ...",
                given=f"{value}, among {len(p)} samples that were checked together",
                do="ignore_index= leaves out targets of one value" if value < 0 else "num_classes= is their number",
            )
        )

    def _nan(self) -> MetricInputError:
        return MetricInputError(
            explain(
                f"{self.owner}: there is NaN among the predictions",
                expected="finite scores",
                given="NaN, which belongs to no class",
                do="look at the loss: the model has diverged",
            )
        )

    def logit_of_threshold(self) -> float:
        """The threshold for logits."""
        return self._logit if math.isfinite(self._logit) else math.copysign(math.inf, self._logit)


def class_rows(x: np.ndarray) -> np.ndarray:
    """(N, C, ...) as (N * ..., C)."""
    return x if x.ndim == 2 else np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def _flat(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return a.reshape(-1), b.reshape(-1)


def _rows_of_labels(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return class_rows(a), class_rows(b)
