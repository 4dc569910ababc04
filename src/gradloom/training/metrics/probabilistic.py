"""Metrics of predicted probabilities: log loss, Brier score, calibration error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import DTypeError, ShapeError, explain
from .base import Metric, Pairs, at_least, choice
from .curves import sigmoid, softmax
from .inputs import MetricInputError, describe, kind_and_shape
from .labels import class_rows
from .state import Count, State, Total


class Probabilities(Pairs):
    """Rows of probabilities with their targets, for a function of a block of rows that adds to states.

    Args:
        owner: Name of the metric, for messages.
        task: "binary", "multiclass" or None.
        add: Called with the states, the probabilities ((n,) binary, (n, C) multiclass, float64) and the targets ((n,)).
        whole: Whether rows of probabilities have to sum to 1.
    """

    def __init__(self, owner: str, options: dict, add: Callable, whole: bool, **states: State):
        self.owner, self.task, self._add, self._whole = owner, options["task"], add, whole
        self.num_classes, self.from_logits = options["num_classes"], options["from_logits"]
        self.ignore_index = options["ignore_index"]
        if self.task is None and self.num_classes:
            self.task = "multiclass"
        super().__init__(**states)

    def fits(self, a: Any, b: Any) -> str:
        """The task; raises where shapes or dtypes do not fit."""
        (kind, shape), (target_kind, target_shape) = kind_and_shape(a), kind_and_shape(b)
        task = self.task or ("multiclass" if len(shape) == len(target_shape) + 1 else "binary")
        if kind != "float" or (task == "multiclass" and target_kind == "float"):
            raise DTypeError(
                explain(
                    f"{self.owner} takes probabilities" + ("" if kind == "float" else " of a float dtype"),
                    expected="floats (N, C, ...) with integers (N, ...)" if task == "multiclass" else "floats (N, ...)",
                    given=f"predictions {describe(a)}, targets {describe(b)}",
                )
            )
        if task == "multiclass":
            ok = len(shape) > 1 and shape[:1] + shape[2:] == target_shape and shape[1] == (self.num_classes or shape[1])
        else:
            ok = shape == target_shape
        if not ok:
            wanted = f"(N, {self.num_classes or 'C'}, ...) with classes (N, ...)"
            raise ShapeError(
                explain(
                    f"{self.owner}: predictions and targets do not fit together",
                    expected=wanted if task == "multiclass" else "the same shape for both",
                    given=f"predictions {describe(a)}, targets {describe(b)}",
                    do="metrics do not broadcast",
                )
            )
        return task

    def _later(self, arrays: tuple) -> None:
        self.fits(*arrays)
        super()._later(arrays)

    def check(self, a: np.ndarray, b: np.ndarray) -> Callable | None:
        if self.fits(a, b) == "binary":
            return None if a.ndim == 1 else lambda p, t: (p.reshape(-1), t.reshape(-1))
        return None if a.ndim == 2 else lambda p, t: (class_rows(p), t.reshape(-1))

    def reduce(self, p: np.ndarray, t: np.ndarray) -> None:
        if self.ignore_index is not None:
            p, t = p[t != self.ignore_index], t[t != self.ignore_index]
        if not p.size:
            return
        classes = p.shape[1] if p.ndim == 2 else 2
        if not ((t >= 0) & (t < classes) & (t == np.floor(t))).all():
            raise MetricInputError(
                explain(
                    f"{self.owner}: a target is no class",
                    expected=f"0 to {classes - 1}",
                    given=f"{t.min()} to {t.max()}",
                )
            )
        low, high = p.min(), p.max()
        if np.isnan(high) or (not self.from_logits and (low < 0 or high > 1)):
            raise MetricInputError(
                explain(
                    f"{self.owner}: predictions are no probabilities",
                    expected="0 to 1",
                    given="NaN" if np.isnan(high) else f"{low} to {high}",
                    do="from_logits=True takes logits",
                )
            )
        eps = float(np.finfo(p.dtype).eps)
        if self.from_logits:
            p = softmax(p) if p.ndim == 2 else sigmoid(p.astype(np.float64))
        elif self._whole and p.ndim == 2:
            off = np.abs(p.sum(1, dtype=np.float64) - 1).max()
            if off > eps**0.5:
                raise MetricInputError(
                    explain(
                        f"{self.owner}: rows of probabilities do not sum to 1",
                        expected="sums of 1",
                        given=f"a sum that is {off:.2g} off",
                        do="from_logits=True takes logits",
                    )
                )
        self._add(self.states, p.astype(np.float64, copy=False), t.astype(np.int64, copy=False), eps)


class _ProbabilityMetric(Metric):
    """The base of metrics of probabilities.

    `update(outputs, targets)`: binary: probabilities of class 1 (N, ...) with 0 and 1 of the same shape; multiclass: rows
    (N, C, ...) that sum to 1, with classes (N, ...), integers.

    Args:
        task: "binary" or "multiclass"; default: by the shapes.
        num_classes: C; default: that of the predictions.
        from_logits: Predictions are logits.
        ignore_index: Targets of this value are left out.

    Raises:
        MetricInputError: A prediction outside of 0 to 1, or NaN; no such class.
    """

    higher_is_better = False
    task: str | None

    def __init__(
        self,
        task: str | None = None,
        *,
        num_classes: int | None = None,
        from_logits: bool = False,
        ignore_index: int | None = None,
    ):
        owner = type(self).__name__
        self.task = choice(owner, "task", task, (None, "binary", "multiclass"))
        at_least(owner, 2, num_classes=num_classes)
        self.num_classes, self.from_logits, self.ignore_index = num_classes, from_logits, ignore_index
        super().__init__()

    def _probability_options(self) -> dict[str, Any]:
        return {k: getattr(self, k) for k in ("task", "num_classes", "from_logits", "ignore_index")}


class LogLoss(_ProbabilityMetric):
    """The mean of -log(p) of the targets' classes, natural logarithm.

    Probabilities are clipped to eps..1 - eps, where eps is that of their dtype, as scikit-learn does.

    Args:
        others: As for all metrics of probabilities: task, num_classes, from_logits, ignore_index.

    Source: scikit-learn's `log_loss`.

    Example:
        >>> loss = LogLoss()
        >>> loss.update([[0.25, 0.75], [0.5, 0.5]], [1, 0])
        >>> round(loss.compute(), 6)
        0.490415
    """

    name = "log_loss"

    def _accumulator(self) -> Probabilities:
        return Probabilities("LogLoss", self._probability_options(), _add_log_loss, True, total=Total(), count=Count())

    def _result(self, seen: Probabilities) -> float:
        count = seen.states["count"].value
        return seen.states["total"].value / count if count else float("nan")


def _add_log_loss(states: dict, p: np.ndarray, t: np.ndarray, eps: float) -> None:
    own = np.take_along_axis(p, t[:, None], 1)[:, 0] if p.ndim == 2 else np.where(t == 1, p, 1 - p)
    states["total"].add(-np.log(np.clip(own, eps, 1 - eps)).sum())
    states["count"].add(len(t))


class BrierScore(_ProbabilityMetric):
    """The mean squared difference of probabilities and outcomes: (p - y)**2 binary, summed over classes for several.

    Args:
        others: As for `LogLoss`.

    Source: scikit-learn's `brier_score_loss` (scale_by_half="auto"); Brier (1950).

    Example:
        >>> score = BrierScore()
        >>> score.update([0.9, 0.4], [1, 0])
        >>> round(score.compute(), 6)
        0.085
    """

    name = "brier_score"

    def _accumulator(self) -> Probabilities:
        return Probabilities("BrierScore", self._probability_options(), _add_brier, True, total=Total(), count=Count())

    _result = LogLoss._result


def _add_brier(states: dict, p: np.ndarray, t: np.ndarray, eps: float) -> None:
    if p.ndim == 2:
        p = p.copy()
        p[np.arange(len(t)), t] -= 1
        states["total"].add(np.einsum("ij,ij->", p, p))
    else:
        states["total"].add(((p - t) ** 2).sum())
    states["count"].add(len(t))


class CalibrationError(_ProbabilityMetric):
    """How far confidence is from accuracy, in bins of confidence: ECE ("l1"), its root mean square ("l2"), or the "max".

    The confidence is that of the largest class, binary that of class 1, as in torchmetrics.

    Args:
        n_bins: Number of bins of equal width from 0 to 1; a bin holds its lower edge.
        norm: "l1", "l2" or "max".
        others: As for `LogLoss`.

    Source: torchmetrics' `CalibrationError`; Naeini, Cooper and Hauskrecht (2015), Guo et al. (2017).

    Example:
        >>> error = CalibrationError(n_bins=2)
        >>> error.update([0.25, 0.25, 0.75, 1.0], [0, 1, 1, 1])
        >>> error.compute()
        0.1875
    """

    name = "calibration_error"

    def __init__(
        self,
        task: str | None = None,
        *,
        n_bins: int = 15,
        norm: str = "l1",
        num_classes: int | None = None,
        from_logits: bool = False,
        ignore_index: int | None = None,
    ):
        at_least("CalibrationError", 1, n_bins=n_bins)
        self.n_bins, self.norm = n_bins, choice("CalibrationError", "norm", norm, ("l1", "l2", "max"))
        super().__init__(task, num_classes=num_classes, from_logits=from_logits, ignore_index=ignore_index)

    def _accumulator(self) -> Probabilities:
        edges = np.linspace(0, 1, self.n_bins + 1)
        shape = (self.n_bins + 1,)  # the last bin: exactly 1

        def add(states: dict, p: np.ndarray, t: np.ndarray, eps: float) -> None:
            confidence, hit = (p.max(1), p.argmax(1) == t) if p.ndim == 2 else (p, t == 1)
            place = np.searchsorted(edges, confidence, side="right") - 1
            states["count"].add(np.bincount(place, minlength=len(edges)))
            states["hits"].add(np.bincount(place[hit], minlength=len(edges)))
            states["confidence"].add(np.bincount(place, confidence, minlength=len(edges)))

        return Probabilities(
            "CalibrationError", self._probability_options(), add, False,
            count=Count(shape), hits=Count(shape), confidence=Total(shape),
        )  # fmt: skip

    def _result(self, seen: Probabilities) -> float:
        count, hits = seen.states["count"].value, seen.states["hits"].value
        if not count.sum():
            return float("nan")
        filled = count > 0
        gap = np.abs(hits - seen.states["confidence"].value)[filled] / count[filled]
        share = count[filled] / count.sum()
        if self.norm == "max":
            return float(gap.max())
        return float((gap * share).sum()) if self.norm == "l1" else float((gap**2 * share).sum()) ** 0.5
