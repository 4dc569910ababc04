"""Schedulers over pure schedules: any schedule on any option, and the common ones by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import OptionError, explain
from .. import schedules
from .base import LRScheduler, check, for_groups
from .decay import _Factor


class ScheduleLR(LRScheduler):
    """Runs a schedule (a function of the count) on an option of the groups: the rate, weight decay, a beta, anything.

    Args:
        optimizer: The optimizer.
        schedule: A function of the number of steps (see `gradloom.optim.schedules`) that gives the option's value; or a list, one a group.
        option: Its name; "betas.0" or ("betas", 0) for a part of it.
        last_epoch: See `LRScheduler`.

    Raises:
        OptionError: A group has no such option; the message lists what it has.
        ValueError: Another number of schedules than groups.

    Example:
        >>> import gradloom as gl
        >>> from gradloom.optim import lr_scheduler, schedules
        >>> optimizer = gl.optim.Adam([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> rate = lr_scheduler.ScheduleLR(optimizer, schedules.linear(1.0, 0.0, 4))
        >>> beta = lr_scheduler.ScheduleLR(optimizer, schedules.linear(0.5, 0.9, 4), option="betas.0")
        >>> optimizer.step()
        >>> rate.step()
        >>> beta.step()
        >>> rate.get_last_lr(), beta.get_last_lr(), optimizer.param_groups[0]["betas"]
        ([0.75], [0.6], (0.6, 0.999))
    """

    _needs_rates = False

    def __init__(self, optimizer: Any, schedule: Any, option: str | tuple = "lr", last_epoch: int = -1):
        self.schedules = for_groups("schedule", optimizer, schedule)
        self.option = tuple(_part(p) for p in (option.split(".") if isinstance(option, str) else option))
        for i, group in enumerate(check(optimizer).param_groups):
            _look_up(group, self.option, f"param_groups[{i}]")
        super().__init__(optimizer, last_epoch)

    def _next(self) -> list[float]:
        return [schedule(self.last_epoch) for schedule in self.schedules]

    def _write(self, values: list) -> None:
        for group, value in zip(self.optimizer.param_groups, values, strict=True):
            _put(group, self.option, value)
        self._last_lr = values

    def get_last_lr(self) -> list[float]:
        """The values of the option, one a group, that the last step computed."""
        return super().get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """The count and the last values; the schedules are not in it."""
        return {k: v for k, v in super().state_dict().items() if k not in ("schedules", "option")}


def _part(part: Any) -> Any:
    return int(part) if isinstance(part, str) and part.lstrip("-").isdigit() else part


def _look_up(holder: Any, path: tuple, where: str) -> None:
    """Raises OptionError where the path leads nowhere."""
    for part in path:
        try:
            holder = holder[part]
        except (KeyError, IndexError, TypeError) as error:
            known: Any = None
            if isinstance(holder, (dict, list, tuple)):
                keys = [k for k in holder if k != "params"] if isinstance(holder, dict) else range(len(holder))
                known = ", ".join(map(str, keys))
            raise OptionError(
                explain(f"ScheduleLR: {where} has no option {'.'.join(map(str, path))!r}", expected=known, given=part)
            ) from error


def _put(holder: Any, path: tuple, value: Any) -> Any:
    """The holder with the value at the path; tuples on the way are made anew."""
    part = path[0]
    new = value if len(path) == 1 else _put(holder[part], path[1:], value)
    if isinstance(holder, tuple):
        items = list(holder)
        items[part] = new
        return tuple(items)
    holder[part] = new
    return holder


class _FromInitial(LRScheduler):
    """Of schedulers that run a schedule from each group's initial rate."""

    def _schedule(self, lr: float) -> Callable[[int], float]:
        raise NotImplementedError

    def _next(self) -> list[float]:
        return [self._schedule(lr)(self.last_epoch) for lr in self.base_lrs]


class WarmupStableDecayLR(_FromInitial):
    """WSD: a warm-up to the initial rate, that rate for a while, then down; `schedules.warmup_stable_decay`.

    Args:
        optimizer: The optimizer.
        warmup_steps, stable_steps, decay_steps: Lengths of the three parts.
        start_factor, end_factor: The first and the last rate, as parts of the initial one.
        shape: Of the decay: "linear", "cosine" or "sqrt".
        last_epoch: See `LRScheduler`.

    Example:
        >>> import gradloom as gl
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = gl.optim.lr_scheduler.WarmupStableDecayLR(optimizer, 2, 10, 5)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    def __init__(
        self,
        optimizer: Any,
        warmup_steps: int,
        stable_steps: int,
        decay_steps: int,
        start_factor: float = 0.0,
        end_factor: float = 0.0,
        shape: str = "linear",
        last_epoch: int = -1,
    ):
        self.warmup_steps, self.stable_steps, self.decay_steps = warmup_steps, stable_steps, decay_steps
        self.start_factor, self.end_factor, self.shape = start_factor, end_factor, shape
        super().__init__(optimizer, last_epoch)

    def _schedule(self, lr: float) -> Callable[[int], float]:
        parts = (self.warmup_steps, self.stable_steps, self.decay_steps)
        return schedules.warmup_stable_decay(lr, *parts, lr * self.start_factor, lr * self.end_factor, self.shape)


class InverseSqrtLR(_FromInitial):
    """A warm-up to the initial rate, then lr * sqrt(warmup_steps / count) (https://arxiv.org/abs/1706.03762); `schedules.inverse_sqrt`.

    Args:
        optimizer: The optimizer.
        warmup_steps: Length of the warm-up.
        start_factor: The first rate, as a part of the initial one.
        timescale: See `schedules.inverse_sqrt`.
        last_epoch: See `LRScheduler`.

    Example:
        >>> import gradloom as gl
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = gl.optim.lr_scheduler.InverseSqrtLR(optimizer, warmup_steps=4)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.25]
    """

    def __init__(
        self,
        optimizer: Any,
        warmup_steps: int,
        start_factor: float = 0.0,
        timescale: float | None = None,
        last_epoch: int = -1,
    ):
        self.warmup_steps, self.start_factor, self.timescale = warmup_steps, start_factor, timescale
        super().__init__(optimizer, last_epoch)

    def _schedule(self, lr: float) -> Callable[[int], float]:
        return schedules.inverse_sqrt(lr, self.warmup_steps, lr * self.start_factor, self.timescale)


class WarmupCosineLR(_FromInitial):
    """A warm-up to the initial rate, then a cosine down to `eta_min`, where it stays; `schedules.warmup_cosine`.

    Args:
        optimizer: The optimizer.
        warmup_steps: Length of the warm-up.
        total_steps: Length of all, the warm-up included.
        eta_min: The last rate.
        start_factor: The first rate, as a part of the initial one.
        cycles: In so many equal parts the rest falls anew from the top.
        last_epoch: See `LRScheduler`.

    Example:
        >>> import gradloom as gl
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = gl.optim.lr_scheduler.WarmupCosineLR(optimizer, warmup_steps=2, total_steps=10)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    def __init__(
        self,
        optimizer: Any,
        warmup_steps: int,
        total_steps: int,
        eta_min: float = 0.0,
        start_factor: float = 0.0,
        cycles: int = 1,
        last_epoch: int = -1,
    ):
        self.warmup_steps, self.total_steps, self.eta_min = warmup_steps, total_steps, eta_min
        self.start_factor, self.cycles = start_factor, cycles
        super().__init__(optimizer, last_epoch)

    def _schedule(self, lr: float) -> Callable[[int], float]:
        start = lr * self.start_factor
        return schedules.warmup_cosine(lr, self.warmup_steps, self.total_steps, start, self.eta_min, self.cycles)


class CooldownLR(_Factor):
    """From step `begin` on the rate falls in `steps` steps to a part of what it is; it can be chained after any other scheduler.

    Args:
        optimizer: The optimizer.
        begin: Where the fall begins.
        steps: How long it takes.
        end_factor: The last factor.
        shape: "linear", "cosine" or "sqrt".
        last_epoch: See `LRScheduler`.

    Example:
        >>> import gradloom as gl
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = gl.optim.lr_scheduler.CooldownLR(optimizer, begin=1, steps=2)
        >>> for update in range(3):
        ...     optimizer.step()
        ...     scheduler.step()
        ...     print(scheduler.get_last_lr())
        [1.0]
        [0.5]
        [0.0]
    """

    def __init__(
        self,
        optimizer: Any,
        begin: int,
        steps: int,
        end_factor: float = 0.0,
        shape: str = "linear",
        last_epoch: int = -1,
    ):
        self.begin, self.steps, self.end_factor, self.shape = begin, steps, end_factor, shape
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> Callable[[int], float]:
        return schedules.cooldown(1.0, self.begin, self.steps, self.end_factor, self.shape)

    def _next(self) -> list[float]:
        return self._options() if self._is_initial else self._growth()
