"""Callbacks that end training: no more progress, a loss that is not finite, no time left."""

from __future__ import annotations

import datetime
import math
import re
import time
import warnings
from collections.abc import Mapping
from typing import Any

from ...errors import OptionError, explain
from .base import Callback
from .monitor import Monitor, Updates
from .replay import Recorder, bad_names


class EarlyStopping(Monitor):
    """Stops training when a log has not improved for `patience` epochs: a flat log ends it after 1 + patience epochs.

    Epochs without validation do not count. NaN is no improvement.

    Args:
        monitor: The log's name; it may be abbreviated where that is unambiguous (`val_acc`).
        patience: Epochs in a row without an improvement that end training; 0 is taken as 1.
        mode: "min": lower is better; "max"; "auto": as the log's name, or its metric, says.
        min_delta: An improvement is more than this.
        baseline: A value that has to be improved on from the start.
        restore_best: Give the model the parameters and buffers of the best epoch when training ends.

    Attributes:
        best, best_epoch: The best value, and its epoch.
        wait: Epochs since then.
        stopped_epoch: The epoch that ended training, or None.

    Raises:
        OptionError: No log is called so, or several are.

    Source:
        Guides and Keras: `keras.callbacks.EarlyStopping` counts so.

    Example:
        >>> from gradloom.training.callbacks import CallbackList, EarlyStopping
        >>> stopping = EarlyStopping(patience=2)
        >>> callbacks = CallbackList([stopping])
        >>> for epoch, loss in enumerate([3.0, 2.0, 2.5, 2.0, 1.0]):
        ...     callbacks.on_epoch_end(epoch, {"val_loss": loss})
        ...     if callbacks.should_stop:
        ...         break
        >>> callbacks.stop_reason
        'EarlyStopping: val_loss has not improved on 2 (epoch 1) for 2 epochs'
        >>> stopping.best_epoch, stopping.stopped_epoch
        (1, 3)
    """

    monitor: str

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        mode: str = "auto",
        *,
        min_delta: float = 0.0,
        baseline: float | None = None,
        restore_best: bool = False,
    ):
        super().__init__(monitor, mode, min_delta)
        if patience < 0 or patience != int(patience):
            raise OptionError(explain("EarlyStopping: patience counts epochs", expected="0 or more", given=patience))
        self.patience, self.restore_best = int(patience), restore_best
        self.best = baseline
        self.wait = 0
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._weights: dict[str, Any] | None = None
        self._seen = False

    def on_train_begin(self) -> None:
        """A run that goes on after it was stopped has its patience again."""
        if self.stopped_epoch is not None:
            self.wait, self.stopped_epoch = 0, None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Looks at the log."""
        value = self.value_of(logs)
        if value is None:
            return
        self._seen = True
        if self.improved(value):
            self.best, self.best_epoch, self.wait = value, epoch, 0
            if self.restore_best:
                self._weights = self._copy()
            return
        self.wait += 1
        if self.wait < max(self.patience, 1):
            return
        self.stopped_epoch = epoch
        best = "the baseline" if self.best_epoch is None else f"{self.best:.4g} (epoch {self.best_epoch})"
        if self.best is None:
            best = "NaN"
        n = f"{self.wait} epoch{'s' if self.wait > 1 else ''}"
        self.stop(f"EarlyStopping: {self.monitor} has not improved on {best} for {n}")
        if self.loop is None:
            self._restore()

    def on_train_end(self) -> None:
        """Restores the best parameters, if asked to."""
        loop, validates = self.loop, is_validation(self.monitor)
        if (
            validates
            and not self._seen
            and loop is not None
            and loop.epoch
            and not any(map(is_validation, loop.history))
        ):
            warnings.warn(
                explain(
                    f"EarlyStopping monitors '{self.monitor}', and there was no validation: it could not stop anything",
                    do="give fit validation data, or EarlyStopping(monitor='train_loss')",
                ),
                stacklevel=2,
            )
        self._restore()

    def _copy(self) -> dict[str, Any]:
        if self.model is None or not hasattr(self.model, "state_dict"):
            raise OptionError(
                explain(
                    "EarlyStopping(restore_best=True) needs the model",
                    do="give it to the list: CallbackList([...], model=model)",
                )
            )
        return {k: v.clone() for k, v in self.model.state_dict().items()}

    def _restore(self) -> None:
        if self.restore_best and self._weights is not None and self.model is not None:
            self.model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """Best value and count; the best parameters too, if they are to be restored."""
        state = {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "wait": self.wait,
            "stopped_epoch": self.stopped_epoch,
        }
        return {**state, "weights": self._weights} if self.restore_best else state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]
        self.wait, self.stopped_epoch = state_dict["wait"], state_dict["stopped_epoch"]
        self._weights = state_dict.get("weights")
        self._seen = self.best_epoch is not None


def is_validation(name: str) -> bool:
    """Whether a log is one of validation."""
    return name.startswith("val_")


class TerminateOnNaN(Callback):
    """Stops training when the loss is NaN or infinite, and says where that came from.

    The loss is looked at every so many updates only, as reading it waits for the engine. With `replay` it also notes there what
    the model and the optimizer hold, and keeps the batches that follow; when the loss is not finite, these steps are run again
    line by line, and the report names the first operation that made a value non-finite of finite ones: its module and the line
    of your source. That takes the memory of the parameters, the optimizer's state and `every` batches.

    In a loop of one's own it looks at the logs of `on_step_end` and `on_epoch_end` that are called "loss" or end with "_loss".

    Args:
        every: Updates between two looks.
        replay: Whether to find the operation; without it the report names the parameters that are not finite.

    Attributes:
        report: What was found, or None.

    Example:
        >>> from gradloom.training.callbacks import CallbackList, TerminateOnNaN
        >>> import warnings
        >>> callbacks = CallbackList([TerminateOnNaN(every=1)])
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     callbacks.on_step_end(7, {"train_loss": float("nan")})
        >>> callbacks.should_stop, callbacks.stop_reason
        (True, 'TerminateOnNaN: train_loss is nan at step 7')
    """

    def __init__(self, every: int = 20, replay: bool = True):
        self._updates = Updates(every, "TerminateOnNaN", "every")
        self.every, self.replay = int(every), replay
        self.report: str | None = None
        self._recorder: Recorder | None = None

    def on_train_begin(self) -> None:
        """Starts anew."""
        self._updates.start(self.loop)
        self.report = None
        self._recorder = Recorder(self.loop) if self.replay and self.loop is not None else None

    def on_step_begin(self, step: int) -> None:
        """Keeps the batch."""
        if self._recorder is not None:
            self._recorder.keep(step, (step + 1) % self.every == 0)

    def on_step_end(self, step: int, logs: Mapping[str, float]) -> None:
        """Looks at the loss, now and then."""
        if self._updates.due(step, self.loop) and not self._look(logs, step) and self._recorder is not None:
            self._recorder.passed()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Looks at the losses of the epoch."""
        if self.report is None:
            self._look(logs, self._updates.last)

    def on_train_end(self) -> None:
        """Lets go of the batches."""
        self._recorder = None

    def _look(self, logs: Mapping[str, float], step: int) -> bool:
        """Whether a loss is not finite; then it stops training."""
        for name in logs:
            if name != "loss" and not name.endswith("_loss"):
                continue
            value = logs[name]
            if isinstance(value, (int, float)) and not math.isfinite(value):
                self._stop(name, value, step)
                return True
        return False

    def _stop(self, name: str, value: float, step: int) -> None:
        reason = f"TerminateOnNaN: {name} is {value} at step {step}"
        self.report = reason
        self.stop(reason)
        found: dict[str, str] | None = None
        if name.startswith("val_"):
            found = {
                "given": "a finite training loss",
                "do": "look at the validation data, and at layers that differ in eval mode",
            }
        elif self._recorder is not None:
            found = self._recorder.find()
        elif self.model is not None:
            found = bad_parameters(self.model)
        if found is not None:
            self.report = explain(reason, **found)
        warnings.warn(self.report, RuntimeWarning, stacklevel=2)


def bad_parameters(model: Any) -> dict[str, str] | None:
    """The parameters and buffers that are not finite, as parts of a message."""
    bad = bad_names(model)
    return {"given": bad, "do": "TerminateOnNaN(replay=True) finds where they came from"} if bad else None


class TimeLimit(Callback):
    """Ends training after a time, at the end of the step: for machines that are lent for hours.

    Args:
        limit: Seconds, a `datetime.timedelta`, or a text such as "90s", "30m", "1h30m", "2d".

    Attributes:
        seconds: The limit.

    Example:
        >>> from gradloom.training.callbacks import TimeLimit
        >>> TimeLimit("1h30m").seconds
        5400.0
    """

    def __init__(self, limit: float | str | datetime.timedelta):
        self.seconds = seconds_of(limit)
        self._end = math.inf

    def on_train_begin(self) -> None:
        """Starts the clock."""
        self._end = time.perf_counter() + self.seconds

    def on_step_end(self, step: int, logs: Mapping[str, float]) -> None:
        """Looks at it."""
        if time.perf_counter() >= self._end:
            self.stop(f"TimeLimit: {self.seconds:g} s are over")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Looks at it, after validation."""
        if time.perf_counter() >= self._end:
            self.stop(f"TimeLimit: {self.seconds:g} s are over")


def seconds_of(limit: float | str | datetime.timedelta) -> float:
    """A duration in seconds."""
    units = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
    if isinstance(limit, datetime.timedelta):
        seconds = limit.total_seconds()
    elif isinstance(limit, str):
        parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", limit.replace(" ", ""))
        whole = "".join(n + u for n, u in parts) == limit.replace(" ", "") and parts
        seconds = sum(float(n) * units[u] for n, u in parts) if whole else math.nan
    else:
        seconds = float(limit)
    if not seconds > 0:
        raise OptionError(
            explain(
                "TimeLimit: that is no duration", expected="seconds > 0, or a text such as '1h30m'", given=repr(limit)
            )
        )
    return seconds
