"""What callbacks that watch a log share: which way is better, whether a value improved, and when a count of updates is due."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...errors import OptionError, explain
from .base import Callback, find_monitor

LOWER = frozenset((
    "loss", "cost", "error", "err", "mae", "mse", "rmse", "nll", "msle", "mape", "smape", "perplexity", "ppl", "wer", "cer", "brier",
    "ece", "fid",
))  # fmt: skip
HIGHER = frozenset((
    "accuracy", "acc", "precision", "recall", "specificity", "sensitivity", "f1", "fbeta", "auc", "auroc", "roc", "ap", "map",
    "r2", "iou", "miou", "dice", "jaccard", "bleu", "rouge", "kappa", "mcc", "psnr", "ssim", "pearson", "spearman", "ndcg", "mrr",
))  # fmt: skip


def mode_of(monitor: str, mode: str, who: str, loop: Any = None) -> str:
    """ "min" or "max": as given; for "auto" what the metric says, or what the name says ("accuracy" is better when higher).

    Raises:
        OptionError: Another mode, or a name that does not say.

    Example:
        >>> mode_of("val_loss", "auto", "EarlyStopping"), mode_of("val_acc", "auto", "EarlyStopping")
        ('min', 'max')
    """
    if mode in ("min", "max"):
        return mode
    if mode != "auto":
        raise OptionError(explain(f"{who}: mode", expected="'min', 'max' or 'auto'", given=repr(mode)))
    words = monitor.lower().removeprefix("train_").removeprefix("val_").split("_")
    if words[-1] in LOWER or words[0] in LOWER:
        return "min"
    if words[0] in HIGHER or words[-1] in HIGHER:
        return "max"
    tracker = getattr(loop, "val_tracker", None)
    metric = {} if tracker is None else tracker.metrics
    higher = getattr(metric.get(monitor.partition("_")[2]), "higher_is_better", None)
    if higher is None:
        raise OptionError(
            explain(f"{who} cannot tell whether a high '{monitor}' is good", do="give mode='min' or mode='max'")
        )
    return "max" if higher else "min"


class Monitor(Callback):
    """Base of the callbacks that follow the best value of a log.

    Attributes:
        monitor: The log's name.
        mode: "min" or "max"; "auto" until the first value, where only the metric can tell.
        best: The best value so far, or None.
    """

    def __init__(self, monitor: str | None, mode: str, min_delta: float = 0.0):
        if min_delta < 0 or not math.isfinite(min_delta):
            raise OptionError(explain(f"{self.name}: min_delta", expected="a number of 0 or more", given=min_delta))
        self.monitor, self.min_delta = monitor, float(min_delta)
        self.best: float | None = None
        self.mode = mode
        if monitor is not None:
            try:
                self.mode = mode_of(monitor, mode, self.name)
            except OptionError:
                if mode != "auto":
                    raise

    @property
    def name(self) -> str:
        """The class's name, for messages."""
        return type(self).__name__

    def value_of(self, logs: Mapping[str, Any]) -> float | None:
        """The monitored log as a number; None where there is no validation yet."""
        value = None if self.monitor is None else find_monitor(logs, self.monitor, self.name)
        return None if value is None else plain_number(value, f"{self.name}: '{self.monitor}'")

    def improved(self, value: float) -> bool:
        """Whether it is better than the best so far by more than `min_delta`; NaN never is."""
        if self.mode == "auto":
            self.mode = mode_of(self.monitor or "", "auto", self.name, self.loop)
        if math.isnan(value):
            return False
        if self.best is None:
            return True
        return value < self.best - self.min_delta if self.mode == "min" else value > self.best + self.min_delta


def plain_number(value: Any, what: str) -> float:
    """A log's value as a float; an error where it is no single number."""
    try:
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError):
        raise OptionError(
            explain(
                f"{what} is not a number", given=f"{type(value).__name__}: {value!r}"[:200], do="monitor another log"
            )
        ) from None


class Updates:
    """Says of `on_step_end` events which are updates, and which of them are the n-th ones.

    With `accumulate` the loop tells of each micro-batch, with the number of the last update; only the first event of a number
    counts.
    """

    def __init__(self, every: int | None, who: str, what: str = "every_steps"):
        if every is not None and (every < 1 or every != int(every)):
            raise OptionError(explain(f"{who}: {what} counts updates", expected="1 or more", given=every))
        self.every = every
        self.last = -1

    def start(self, loop: Any) -> None:
        """Begins after the updates that a loop has made."""
        self.last = -1 if loop is None else loop.step - 1

    def new(self, step: int, loop: Any) -> bool:
        """Whether this is another update; in a loop of one's own each event is one."""
        if loop is not None and step == self.last:
            return False
        self.last = step
        return True

    def due(self, step: int, loop: Any) -> bool:
        """Whether this is the n-th update, 2n-th, ..."""
        return self.every is not None and self.new(step, loop) and (step + 1) % self.every == 0
