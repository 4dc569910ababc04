"""Schedulers of schedulers."""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from ...errors import explain
from .. import schedules
from .base import LRScheduler, for_groups
from .cycle import CyclicLR
from .plateau import ReduceLROnPlateau


class _Several(LRScheduler):
    """Of schedulers that hold others."""

    _schedulers: Sequence[LRScheduler]

    def _check(self, schedulers: Sequence[Any], optimizer: Any) -> None:
        """All are schedulers of this optimizer that step without a metric."""
        name = type(self).__name__
        for i, scheduler in enumerate(schedulers):
            if not hasattr(scheduler, "optimizer"):
                raise TypeError(f"{name} at index {i} should have `optimizer` as its attribute.")
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ValueError(
                    f"{name} does not support `ReduceLROnPlateau` scheduler as it requires additional kwargs to be specified "
                    f"when calling `step`, but got one at index {i} in the given schedulers sequence."
                )
            if optimizer is not scheduler.optimizer:
                raise ValueError(
                    f"{name} expects all schedulers to belong to the same optimizer, but got scheduler "
                    f"{type(scheduler).__name__} at index {i} has {scheduler.optimizer}, which is different from "
                    f"{type(optimizer).__name__}."
                )

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "_schedulers"})
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(state)


class ChainedScheduler(_Several):
    """Steps several schedulers one after the other, each from the rate that the one before left; as PyTorch's.

    Args:
        schedulers: Schedulers of one optimizer.
        optimizer: That optimizer.

    Raises:
        TypeError: Something else than a scheduler.
        ValueError: No scheduler, one of another optimizer, or a ReduceLROnPlateau.

    Example:
        >>> import gradloom as gl
        >>> from gradloom.optim import lr_scheduler
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> ramp = lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
        >>> scheduler = lr_scheduler.ChainedScheduler([ramp, lr_scheduler.ExponentialLR(optimizer, gamma=0.1)])
        >>> optimizer.step()
        >>> scheduler.step()
        >>> [round(lr, 6) for lr in scheduler.get_last_lr()]
        [0.075]
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Any = None):
        if len(schedulers) < 1:
            raise ValueError(
                f"{type(self).__name__} expects at least one scheduler to be chained, but got no scheduler."
            )
        if optimizer is None:
            optimizer = getattr(schedulers[0], "optimizer", None)
        self._check(schedulers, optimizer)
        self._schedulers, self.optimizer = schedulers, optimizer
        self._last_lr = self._options()

    def step(self) -> None:  # type: ignore[override]
        """Steps each of the schedulers."""
        if self._skips():
            return
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._options()


class SequentialLR(_Several):
    """One scheduler after the other, each from its milestone on; as `torch.optim.lr_scheduler.SequentialLR`.

    Args:
        optimizer: The optimizer.
        schedulers: Schedulers of it.
        milestones: Counts at which the next one begins, one less than schedulers.
        last_epoch: See `LRScheduler`.

    Raises:
        TypeError: Something else than a scheduler.
        ValueError: No scheduler, one of another optimizer, a ReduceLROnPlateau; another number of milestones; a chain or sequence that is
            not the first of the schedulers (it has no value to begin with).

    Example:
        >>> import gradloom as gl
        >>> from gradloom.optim import lr_scheduler
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> ramp = lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
        >>> decay = lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
        >>> scheduler = lr_scheduler.SequentialLR(optimizer, [ramp, decay], milestones=[2])
        >>> for epoch in range(4):
        ...     optimizer.step()
        ...     scheduler.step()
        ...     print(round(scheduler.get_last_lr()[0], 6))
        0.75
        1.0
        0.5
        0.0
    """

    def __init__(self, optimizer: Any, schedulers: list[LRScheduler], milestones: list[int], last_epoch: int = -1):
        if len(schedulers) < 1:
            raise ValueError(f"{type(self).__name__} expects at least one scheduler, but got no scheduler.")
        self._check(schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                "Sequential Schedulers expects number of schedulers provided to be one more than the number of milestone "
                f"points, but got number of schedulers {len(schedulers)} and the number of milestones to be equal to "
                f"{len(milestones)}"
            )
        for i, scheduler in enumerate(schedulers[1:], 1):
            if isinstance(scheduler, _Several):
                raise ValueError(
                    explain(
                        f"{type(self).__name__}: a {type(scheduler).__name__} cannot begin at a milestone",
                        given=f"one at index {i}",
                        do="put it first, or chain a SequentialLR of its parts",
                    )
                )
        self._schedulers, self._milestones = schedulers, milestones
        self.last_epoch = last_epoch + 1
        self.optimizer = optimizer
        # Each wrote its first rate when it was built: back to the start, and only the one whose turn it is writes it anew.
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        _undo(self)
        first = schedulers[bisect_right(milestones, 0)]
        with warnings.catch_warnings():
            # A chain steps its schedulers here; PyTorch then warns of an order that nobody has chosen yet.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            first._initial_step()
        self._last_lr = first.get_last_lr()

    def step(self) -> None:  # type: ignore[override]
        """Steps the scheduler whose turn it is."""
        if self._skips():
            return
        self.last_epoch += 1
        i = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[i]
        if i > 0 and self._milestones[i - 1] == self.last_epoch:
            scheduler._update_lr(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


def _undo(scheduler: LRScheduler) -> None:
    """Takes back the step that building a scheduler made."""
    inner = getattr(scheduler, "_schedulers", None)
    for s in inner or ():
        _undo(s)
    if inner is None and hasattr(scheduler, "last_epoch"):
        scheduler.last_epoch -= 1


class LinearWarmupScheduler(LRScheduler):
    """A linear warm-up, then another scheduler: after k <= warmup_steps steps the rate is start + (end - start) * k / warmup_steps.

    Args:
        optimizer: The optimizer; building the scheduler sets its rate to start_lr.
        warmup_steps: Length of the warm-up.
        start_lr, end_lr: The first rate, and the one that is reached; lists for rates a group.
        after_scheduler: A scheduler of the same optimizer, built before this one. It steps after the warm-up, from end_lr on: a
            decay in step 1 comes in step warmup_steps + 1. A ReduceLROnPlateau may be one: `step(metric)`.

    Raises:
        ValueError: after_scheduler is of another optimizer; a negative number of steps.

    Example:
        >>> import gradloom as gl
        >>> from gradloom.optim import lr_scheduler
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> after = lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        >>> scheduler = lr_scheduler.LinearWarmupScheduler(
        ...     optimizer, 2, start_lr=0.0, end_lr=1.0, after_scheduler=after
        ... )
        >>> for update in range(4):
        ...     optimizer.step()
        ...     scheduler.step()
        ...     print(scheduler.get_last_lr())
        [0.5]
        [1.0]
        [0.5]
        [0.25]
    """

    def __init__(
        self,
        optimizer: Any,
        warmup_steps: int,
        start_lr: float | list[float],
        end_lr: float | list[float],
        after_scheduler: LRScheduler | None = None,
        last_epoch: int = -1,
    ):
        self.start_lrs, self.end_lrs = (
            for_groups(name, optimizer, value) for name, value in (("start_lr", start_lr), ("end_lr", end_lr))
        )
        if after_scheduler is not None and after_scheduler.optimizer is not optimizer:
            raise ValueError(
                explain("LinearWarmupScheduler: after_scheduler is of another optimizer", do="build it on the same one")
            )
        if warmup_steps < 0:
            raise ValueError(explain("LinearWarmupScheduler: warmup_steps is negative", given=warmup_steps))
        self.warmup_steps, self.after_scheduler = warmup_steps, after_scheduler
        super().__init__(optimizer, last_epoch)

    def step(self, *metrics: Any) -> None:
        """Counts on by one and writes the rates. Arguments go to the scheduler after the warm-up."""
        after = self.after_scheduler
        if after is None or self.last_epoch < self.warmup_steps:
            super().step()
        elif not self._skips():
            if self.last_epoch == self.warmup_steps:
                _start_from(after, self.end_lrs)
            self.last_epoch += 1
            after.step(*metrics)
            self._last_lr = after.get_last_lr()

    def _next(self) -> list[float]:
        return [
            schedules.warmup(end, self.warmup_steps, start)(self.last_epoch)
            for start, end in zip(self.start_lrs, self.end_lrs, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        after = self.after_scheduler
        return {**super().state_dict(), "after_scheduler": None if after is None else after.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "after_scheduler"})
        if self.after_scheduler is not None:
            self.after_scheduler.load_state_dict(state_dict["after_scheduler"])


def _start_from(scheduler: LRScheduler, rates: list[float]) -> None:
    """Has a scheduler that was built, and not stepped, begin at these rates in place of those that it found.

    What it made of the rate when it was built (a LinearLR, say, multiplies it) it makes of the new one.
    """
    factors = [
        last / group["initial_lr"] if group.get("initial_lr") else 1.0
        for last, group in zip(scheduler.get_last_lr(), scheduler.optimizer.param_groups, strict=True)
    ]
    for group, rate, factor in zip(scheduler.optimizer.param_groups, rates, factors, strict=True):
        group["lr"] = rate * factor
    _rebase(scheduler, rates)


def _rebase(scheduler: LRScheduler, rates: list[float]) -> None:
    for inner in getattr(scheduler, "_schedulers", ()):
        _rebase(inner, rates)
    if hasattr(scheduler, "base_lrs") and not isinstance(scheduler, CyclicLR):  # whose base was given to it
        scheduler.base_lrs = list(rates)
