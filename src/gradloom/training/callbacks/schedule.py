"""Callbacks that change the learning rate or the number of micro-batches, show the rate, or look for one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

from ...errors import MissingExtraError, OptionError, explain
from ...optim.lr_scheduler import ReduceLROnPlateau
from ..data import batches_of
from ..tracking import loss_of
from .base import Callback, find_monitor
from .monitor import Updates, plain_number
from .replay import put_back, snapshot


class LRSchedulerCallback(Callback):
    """Steps a scheduler after each epoch, or after each update.

    Args:
        scheduler: One of `gradloom.optim.lr_scheduler`; `ReduceLROnPlateau` gets the monitored log.
        every: "epoch" or "step": what the scheduler counts.
        monitor: The log for `ReduceLROnPlateau`; without validation it is the training loss.

    Example:
        >>> import gradloom as gl
        >>> from gradloom.training.callbacks import CallbackList, LRSchedulerCallback
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=0.8)
        >>> scheduler = gl.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        >>> callbacks = CallbackList([LRSchedulerCallback(scheduler, every="step")])
        >>> optimizer.step()
        >>> callbacks.on_step_end(0)
        >>> optimizer.param_groups[0]["lr"]
        0.4
    """

    def __init__(self, scheduler: Any, every: str = "epoch", monitor: str = "val_loss"):
        if every not in ("epoch", "step"):
            raise OptionError(explain("LRSchedulerCallback: every", expected="'epoch' or 'step'", given=repr(every)))
        if not hasattr(scheduler, "step"):
            raise OptionError(
                explain(
                    "LRSchedulerCallback: that is no scheduler",
                    expected="one of gradloom.optim.lr_scheduler",
                    given=type(scheduler).__name__,
                )
            )
        plateau = isinstance(scheduler, ReduceLROnPlateau)
        if plateau and every == "step":
            raise OptionError(
                explain("ReduceLROnPlateau looks at a log that is known after epochs", do="leave out every='step'")
            )
        self.scheduler, self.every, self.monitor, self._plateau = scheduler, every, monitor, plateau
        self._updates = Updates(1, "LRSchedulerCallback")

    def on_train_begin(self) -> None:
        """Begins to count."""
        self._updates.start(self.loop)

    def on_step_end(self, step: int, logs: Mapping[str, float]) -> None:
        """Steps, with every="step"."""
        if self.every == "step" and self._updates.new(step, self.loop):
            self.scheduler.step()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Steps, with every="epoch"."""
        if self.every != "epoch":
            return
        if not self._plateau:
            self.scheduler.step()
            return
        value = find_monitor(logs, self.monitor, "LRSchedulerCallback")
        if value is None and "train_loss" in logs:
            value = logs["train_loss"]
        if value is not None:
            self.scheduler.step(plain_number(value, f"LRSchedulerCallback: '{self.monitor}'"))

    def state_dict(self) -> dict[str, Any]:
        """The scheduler's."""
        return {"scheduler": self.scheduler.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Gives it to the scheduler."""
        self.scheduler.load_state_dict(state_dict["scheduler"])


class LearningRateMonitor(Callback):
    """Notes the learning rates of all groups, by update or by epoch.

    Args:
        every: "epoch", "step", or a number of updates.

    Attributes:
        steps: The updates, or epochs, that the values are of.
        rates: {"lr": values}; with several groups {"lr_0": values, "lr_1": values, ...}.

    Example:
        >>> import gradloom as gl
        >>> from gradloom.training.callbacks import CallbackList, LearningRateMonitor
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=0.8)
        >>> monitor = LearningRateMonitor()
        >>> CallbackList([monitor], optimizer=optimizer).on_epoch_begin(0)
        >>> monitor.rates
        {'lr': [0.8]}
    """

    def __init__(self, every: str | int = "epoch"):
        if every not in ("epoch", "step") and not isinstance(every, int):
            raise OptionError(
                explain(
                    "LearningRateMonitor: every", expected="'epoch', 'step' or a number of updates", given=repr(every)
                )
            )
        self.every = every
        self._updates = Updates(
            None if every == "epoch" else 1 if every == "step" else int(every), "LearningRateMonitor", "every"
        )
        self.steps: list[int] = []
        self.rates: dict[str, list[float]] = {}

    def on_train_begin(self) -> None:
        """Begins to count."""
        self._updates.start(self.loop)

    def on_epoch_begin(self, epoch: int) -> None:
        """Notes the rates of an epoch."""
        if self.every == "epoch" and getattr(self.optimizer, "param_groups", None):
            self._note(epoch)

    def on_step_end(self, step: int, logs: Mapping[str, float]) -> None:
        """Notes the rates of an update."""
        if self.every != "epoch" and self._updates.due(step, self.loop):
            self._note(step)

    def _note(self, at: int) -> None:
        groups = getattr(self.optimizer, "param_groups", None)
        if not groups:
            raise OptionError(
                explain(
                    "LearningRateMonitor needs the optimizer",
                    do="give it to the list: CallbackList([...], optimizer=optimizer)",
                )
            )
        self.steps.append(at)
        for i, group in enumerate(groups):
            self.rates.setdefault("lr" if len(groups) == 1 else f"lr_{i}", []).append(float(group["lr"]))

    def state_dict(self) -> dict[str, Any]:
        """What was noted."""
        return {"steps": list(self.steps), "rates": {n: list(v) for n, v in self.rates.items()}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.steps = list(state_dict["steps"])
        self.rates = {n: list(v) for n, v in state_dict["rates"].items()}


class GradientAccumulationSchedule(Callback):
    """Changes how many micro-batches make an update, at the start of epochs.

    Args:
        schedule: {epoch: micro-batches}; before the first epoch that is named the loop's own number holds.

    Example:
        >>> from gradloom.training.callbacks import GradientAccumulationSchedule
        >>> schedule = GradientAccumulationSchedule({0: 1, 5: 4})
        >>> schedule.at(4), schedule.at(7)
        (1, 4)
    """

    def __init__(self, schedule: Mapping[int, int]):
        bad = [(e, n) for e, n in schedule.items() if e < 0 or n < 1 or e != int(e) or n != int(n)]
        if not schedule or bad:
            raise OptionError(
                explain(
                    "GradientAccumulationSchedule: epochs and their micro-batches",
                    expected="{epoch: micro-batches}, such as {0: 1, 5: 4}",
                    given=dict(schedule),
                )
            )
        self.schedule = dict(sorted(schedule.items()))

    def at(self, epoch: int) -> int | None:
        """The micro-batches of an epoch; None before the first that is named."""
        return next((n for e, n in reversed(self.schedule.items()) if e <= epoch), None)

    def on_train_begin(self) -> None:
        """Looks for the loop, which accumulates."""
        if self.loop is None:
            raise OptionError(
                explain(
                    "GradientAccumulationSchedule changes a TrainingLoop", do="use it in TrainingLoop(callbacks=[...])"
                )
            )

    def on_epoch_begin(self, epoch: int) -> None:
        """Sets the number."""
        count = self.at(epoch)
        if count is not None and self.loop is not None and count != self.loop.accumulate:
            self.loop.set_accumulate(count)


class LearningRateFinder(Callback):
    """Tries rates on some steps before training, and sets the one where the loss falls fastest.

    From `min_lr` to `max_lr` the rate grows by a constant factor each step; the run ends early when the loss explodes. Then the
    model, the optimizer and the random stream are as before, bit for bit.

    Args:
        data: Batches to try on, such as the training data.
        min_lr, max_lr: The range.
        steps: Steps in it; data that has fewer batches is read again.
        smooth: How much of the smoothed loss stays at each step, 0 to 1.
        explodes: Ends when the smoothed loss is this many times its minimum.
        apply: Set the rate that was found; otherwise it is only told.

    Attributes:
        rates, losses: What was tried, and the losses.
        suggestion: The rate, or None where the loss never fell.

    Source:
        L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, section 3.3.

    Example:
        >>> import gradloom as gl
        >>> from gradloom.training.loops import TrainingLoop
        >>> from gradloom.training.callbacks import LearningRateFinder
        >>> generator = gl.manual_seed(0)
        >>> x = gl.randn(64, 3)
        >>> data = [(x, x.sum(1, keepdim=True))]
        >>> model = gl.nn.Linear(3, 1)
        >>> loop = TrainingLoop(model, gl.optim.SGD(model.parameters(), lr=1.0), gl.nn.MSELoss())
        >>> finder = LearningRateFinder(data, min_lr=1e-4, max_lr=10.0, steps=60)
        >>> 1e-3 < finder.find(loop) < 1
        True
    """

    def __init__(
        self,
        data: Any,
        min_lr: float = 1e-7,
        max_lr: float = 1.0,
        steps: int = 100,
        *,
        smooth: float = 0.9,
        explodes: float = 4.0,
        apply: bool = True,
    ):
        if not 0 < min_lr < max_lr or not math.isfinite(max_lr):
            raise OptionError(
                explain("LearningRateFinder: rates", expected="0 < min_lr < max_lr", given=f"{min_lr}, {max_lr}")
            )
        if steps < 10 or not 0 <= smooth < 1 or not explodes > 1:
            raise OptionError(
                explain(
                    "LearningRateFinder: options",
                    expected="steps >= 10, 0 <= smooth < 1, explodes > 1",
                    given=f"steps={steps}, smooth={smooth}, explodes={explodes}",
                )
            )
        self.data, self.min_lr, self.max_lr, self.steps = data, min_lr, max_lr, int(steps)
        self.smooth, self.explodes, self.apply = smooth, explodes, apply
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.suggestion: float | None = None

    def on_train_begin(self) -> None:
        """Tries the rates, if this is the start of the run."""
        if self.loop is None:
            raise OptionError(explain("LearningRateFinder trains with a TrainingLoop", do="call finder.find(loop)"))
        if self.loop.step:
            return
        found = self.find(self.loop)
        if found is None:
            warnings.warn(
                explain(
                    "LearningRateFinder: the loss fell at no rate, so the learning rate stays as it is",
                    given=f"{len(self.rates)} rates from {self.min_lr:g} to {self.rates[-1]:g}",
                    do="look at finder.plot(); try a lower min_lr",
                ),
                stacklevel=2,
            )
        elif self.apply:
            groups = self.loop.optimizer.param_groups
            factor = found / groups[0]["lr"] if groups[0]["lr"] else 0.0
            for group in groups:  # groups keep their proportions
                group["lr"] = group["lr"] * factor if factor else found
            schedulers = [self.loop.scheduler, *(getattr(c, "scheduler", None) for c in self.loop.callbacks)]
            for scheduler in schedulers:
                if hasattr(scheduler, "base_lrs"):
                    scheduler.base_lrs = [g["lr"] for g in groups]
            for group in groups:
                if "initial_lr" in group:
                    group["initial_lr"] = group["lr"]

    def find(self, loop: Any) -> float | None:
        """Tries the rates on a loop, which is left as it was; the rate where the loss falls fastest."""
        self.rates, self.losses = [], []
        batches = batches_of(self.data)
        position = batches.state_dict()
        state, averages, groups = None, [], []
        average, best = 0.0, math.inf
        factor = (self.max_lr / self.min_lr) ** (1 / (self.steps - 1))
        try:
            for i, (inputs, targets) in enumerate(self._batches(loop, batches)):
                if state is None:
                    state, groups = snapshot(loop), loop.optimizer.param_groups
                    loop.model.train()
                rate = self.min_lr * factor**i
                for group in groups:
                    group["lr"] = rate
                loss = self._step(loop, inputs, targets)
                average = self.smooth * average + (1 - self.smooth) * loss
                smoothed = average / (1 - self.smooth ** (i + 1))
                if not math.isfinite(smoothed) or (i and smoothed > self.explodes * best):
                    break
                best = min(best, smoothed)
                self.rates.append(rate)
                self.losses.append(loss)
                averages.append(smoothed)
        finally:
            if state is not None:
                put_back(loop, state)
            loop._waiting = []
            batches.load_state_dict(position)
        self.suggestion = steepest(self.rates, averages)
        return self.suggestion

    def _batches(self, loop: Any, batches: Any) -> Any:
        count = 0
        while count < self.steps:
            before = count
            for batch in batches:
                yield loop._taken(batch)
                count += 1
                if count == self.steps:
                    return
            if count == before:
                raise OptionError(explain("LearningRateFinder: the data gave no batches"))

    @staticmethod
    def _step(loop: Any, inputs: Any, targets: Any) -> float:
        seen, weight = loop._train(inputs, targets)
        if loop.accumulate > 1:
            loop._waiting = [weight]
            loop._finish_update()
        return loss_of(seen).item()

    def plot(self, file: Any = None) -> Any:
        """Draws the loss over the rate, with the suggestion; matplotlib's figure.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as missing:
            raise MissingExtraError(
                explain("LearningRateFinder.plot needs matplotlib", do="pip install 'gradloom[demo]'")
            ) from missing
        figure = Figure(figsize=(5.2, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses)
        axes.set_xscale("log")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        axes.grid(alpha=0.3)
        if self.suggestion is not None:
            axes.axvline(self.suggestion, color="tab:red", linestyle="--", label=f"{self.suggestion:.2g}")
            axes.legend(frameon=False)
        if file is not None:
            figure.savefig(file, dpi=120)
        return figure


def steepest(rates: list[float], losses: list[float]) -> float | None:
    """The rate where smoothed losses fall fastest over the logarithm of the rate, of those before their minimum.

    Example:
        >>> steepest([1e-3, 1e-2, 1e-1, 1.0, 10.0], [1.0, 0.9, 0.3, 0.2, 5.0])
        0.1
    """
    if len(rates) < 3:
        return None
    lowest = min(range(len(losses)), key=losses.__getitem__)
    slopes = [
        (losses[i + 1] - losses[i - 1]) / (math.log(rates[i + 1]) - math.log(rates[i - 1]))
        for i in range(1, min(lowest + 1, len(rates) - 1))
    ]
    if not slopes or min(slopes) >= 0:
        return None
    return rates[1 + min(range(len(slopes)), key=slopes.__getitem__)]
