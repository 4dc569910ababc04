"""Schedulers that go up and down, some of them together with the momentum."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import curves
from .base import LRScheduler, check, for_groups, function_state


class CosineAnnealingWarmRestarts(LRScheduler):
    """SGDR (https://arxiv.org/abs/1608.03983); the numbers of `torch.optim.lr_scheduler.CosineAnnealingWarmRestarts`.

    `step(epoch)` takes fractions too: `scheduler.step(epoch + batch / batches)`.

    Args:
        optimizer: The optimizer.
        T_0: Length of the first cycle.
        T_mult: How many times as long as the one before each cycle is.
        eta_min: The least rate.
        last_epoch: See `LRScheduler`.

    Raises:
        ValueError: A length or factor that is no positive integer; step() with a negative epoch.

    Example:
        >>> import gradloom as gl
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = gl.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2)
        >>> for epoch in range(3):
        ...     optimizer.step()
        ...     scheduler.step()
        ...     print(round(scheduler.get_last_lr()[0], 6))
        0.5
        1.0
        0.5
    """

    def __init__(self, optimizer: Any, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1):
        if not isinstance(T_0, int) or T_0 <= 0:
            raise ValueError(f"Expected positive integer T_0, but got {T_0}")
        if not isinstance(T_mult, int) or T_mult < 1:
            raise ValueError(f"Expected integer T_mult >= 1, but got {T_mult}")
        if not isinstance(eta_min, (float, int)):
            raise ValueError(f"Expected float or int eta_min, but got {eta_min} of type {type(eta_min)}")
        self.T_0, self.T_i, self.T_mult, self.eta_min = T_0, T_0, T_mult, eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def _next(self) -> list[float]:
        left = curves.half_cosine(math, self.T_cur / self.T_i)
        return [self.eta_min + (lr - self.eta_min) * left for lr in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Counts on by one, or to `epoch`, and writes the rates."""
        if epoch is None and self._skips():
            return
        if epoch is None and self.last_epoch >= 0:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        else:
            epoch = epoch or 0
            if epoch < 0:
                raise ValueError(f"Expected non-negative epoch, but got {epoch}")
            self._enter(epoch)
        self.last_epoch = math.floor(epoch)
        with self._within_step():
            self._write(self.get_lr())

    def _enter(self, epoch: float) -> None:
        """Finds the cycle of an epoch."""
        _, n = curves.cycle_at(curves.Numbers, epoch, self.T_0, self.T_mult)
        if self.T_mult == 1:
            self.T_cur, self.T_i = epoch % self.T_0, self.T_0
        else:
            start = self.T_0 * (self.T_mult ** int(n) - 1) // (self.T_mult - 1)
            self.T_cur, self.T_i = epoch - start, self.T_0 * self.T_mult ** int(n)


class _WithMomentum(LRScheduler):
    """Of schedulers that move the momentum (or the first of Adam's betas) against the rate."""

    cycle_momentum: bool
    use_beta1: bool

    def _start_momentum(self, optimizer: Any, base: Any, largest: Any, last_epoch: int) -> tuple[list, list]:
        """Checks that there is a momentum and writes its bounds into the groups; gives them, one a group."""
        options = optimizer.param_groups[0]
        if "momentum" not in options and "betas" not in options:
            raise ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
        self.use_beta1 = "betas" in options
        low, high = for_groups("base_momentum", optimizer, base), for_groups("max_momentum", optimizer, largest)
        if last_epoch == -1:
            for group, base_momentum, max_momentum in zip(optimizer.param_groups, low, high, strict=True):
                self._put_momentum(group, max_momentum)
                group["max_momentum"], group["base_momentum"] = max_momentum, base_momentum
        return low, high

    def _put_momentum(self, group: dict, value: float) -> None:
        if self.use_beta1:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value


class OneCycleLR(_WithMomentum):
    """Up to `max_lr` and down to nearly nothing, stepped after each batch; the numbers of `torch.optim.lr_scheduler.OneCycleLR`.

    See https://arxiv.org/abs/1708.07120.

    Args:
        optimizer: The optimizer.
        max_lr: The largest rate; a list for a rate a group.
        total_steps: Length; or
        epochs, steps_per_epoch: whose product it is.
        pct_start: Part in which the rate rises.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: Move the momentum (or Adam's first beta) against the rate, between
        base_momentum, max_momentum: these.
        div_factor: The first rate is max_lr / div_factor,
        final_div_factor: the last one that / final_div_factor.
        three_phase: Fall as fast as it rose, back to the first rate, and then to the last.
        last_epoch: See `LRScheduler`.

    Raises:
        ValueError: No length; an option out of range; an optimizer without momentum; more steps than there are.

    Example:
        >>> import gradloom as gl
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=0.1, momentum=0.9)
        >>> scheduler = gl.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> round(optimizer.param_groups[0]["lr"], 6), round(optimizer.param_groups[0]["momentum"], 6)
        (0.52, 0.9)
    """

    def __init__(
        self,
        optimizer: Any,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ):
        check(optimizer)
        self.total_steps = _length(total_steps, epochs, steps_per_epoch)
        if not isinstance(pct_start, float) or not 0 <= pct_start <= 1:
            raise ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        self._anneal_func_type = anneal_strategy
        self._schedule_phases = _phases(self.total_steps, pct_start, three_phase)
        rates = for_groups("max_lr", optimizer, max_lr)
        if last_epoch == -1:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["initial_lr"], group["max_lr"] = rate / div_factor, rate
                group["min_lr"] = group["initial_lr"] / final_div_factor
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._start_momentum(optimizer, base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    def _next(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            raise ValueError(
                f"Tried to step {self.last_epoch} times. The specified number of total steps is {self.total_steps}"
            )
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                self._put_momentum(group, self._value(group, "start_momentum", "end_momentum"))
        return [self._value(group, "start_lr", "end_lr") for group in self.optimizer.param_groups]

    def _value(self, group: dict, start: str, end: str) -> float:
        """Where an option is by now, between the group's options that the phases name."""
        phases = self._schedule_phases
        boundaries = [0.0, *(phase["end_step"] for phase in phases)]
        values = [group[phases[0][start]], *(group[phase[end]] for phase in phases)]
        left = curves.SHAPES["cosine" if self._anneal_func_type == "cos" else "linear"]
        return curves.interpolated(curves.Numbers, self.last_epoch, boundaries, values, left)


def _length(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    """The number of steps, from what is given."""
    given = {"total_steps": total_steps}
    if total_steps is None:
        if epochs is None or steps_per_epoch is None:
            raise ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")
        given = {"epochs": epochs, "steps_per_epoch": steps_per_epoch}
    length = 1
    for name, value in given.items():
        if not isinstance(value, int) or value <= 0:
            raise ValueError(f"Expected positive integer {name}, but got {value}")
        length *= value
    return length


def _phases(steps: int, pct_start: float, three: bool) -> list[dict[str, Any]]:
    """The phases as a state dict of PyTorch has them: where each ends, and the names of the options that it goes between."""
    ends = [pct_start * steps - 1, *([2 * pct_start * steps - 2] if three else []), steps - 1]
    rates = ["initial_lr", "max_lr", *(["initial_lr"] if three else []), "min_lr"]
    momenta = ["max_momentum", "base_momentum", "max_momentum", *(["max_momentum"] if three else [])]
    return [
        {
            "end_step": end,
            "start_lr": rates[i],
            "end_lr": rates[i + 1],
            "start_momentum": momenta[i],
            "end_momentum": momenta[i + 1],
        }
        for i, end in enumerate(ends)
    ]


class CyclicLR(_WithMomentum):
    """Up and down between two rates, stepped after each batch; the numbers of `torch.optim.lr_scheduler.CyclicLR`.

    See https://arxiv.org/abs/1506.01186.

    Args:
        optimizer: The optimizer.
        base_lr, max_lr: The two rates; lists for rates a group.
        step_size_up, step_size_down: Lengths of the two parts of a cycle; the second is like the first where it is not given.
        mode: "triangular", "triangular2" (each cycle half as high as the one before) or "exp_range" (height gamma**count).
        gamma: For "exp_range".
        scale_fn: Gives a cycle's relative height in place of the mode.
        scale_mode: Its argument: "cycle", the cycle's number, from 1, or "iterations", the count.
        cycle_momentum: Move the momentum (or Adam's first beta) against the rate, between
        base_momentum, max_momentum: these.
        last_epoch: See `LRScheduler`.

    Raises:
        ValueError: An unknown mode; an optimizer without momentum.

    Example:
        >>> import gradloom as gl
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=0.1, momentum=0.9)
        >>> scheduler = gl.optim.lr_scheduler.CyclicLR(optimizer, base_lr=0.0, max_lr=1.0, step_size_up=2)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    def __init__(
        self,
        optimizer: Any,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ):
        base_lrs = for_groups("base_lr", optimizer, base_lr)
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, base_lrs, strict=True):
                group["lr"] = lr
        self.max_lrs = for_groups("max_lr", optimizer, max_lr)
        self.total_size = float(step_size_up) + float(step_size_up if step_size_down is None else step_size_down)
        self.step_ratio = step_size_up / self.total_size
        if mode not in curves.CYCLES and scale_fn is None:
            raise ValueError("mode is invalid and scale_fn is None")
        self.mode, self.gamma, self._scale_fn_custom = mode, gamma, scale_fn
        self.scale_mode = scale_mode if scale_fn is not None else curves.CYCLES[mode][1]
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            bounds = self._start_momentum(optimizer, base_momentum, max_momentum, last_epoch)
            self.base_momentums, self.max_momentums = bounds
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x: float) -> float:
        """The relative height of a cycle."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        return curves.CYCLES[self.mode][0](self.gamma)(curves.Numbers, x)

    def _next(self) -> list[float]:
        height, cycle = curves.triangle_at(curves.Numbers, self.last_epoch, self.total_size, self.step_ratio)
        height *= self.scale_fn(int(cycle) if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            bounds = zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums, strict=True)
            for group, low, high in bounds:
                self._put_momentum(group, high - (high - low) * height)
        return [low + (high - low) * height for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_scale_fn_custom": function_state(self._scale_fn_custom)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "_scale_fn_custom"})
        if state_dict["_scale_fn_custom"] is not None:
            vars(self._scale_fn_custom).update(state_dict["_scale_fn_custom"])
