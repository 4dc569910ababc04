"""Schedulers whose rate falls, or rises, along one curve; each step goes on from the rate that there is, so that they can be chained."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from .. import curves, schedules
from .base import LRScheduler, check, for_groups, function_state

Functions = Callable[[int], float] | list[Callable[[int], float]]


class LambdaLR(LRScheduler):
    """The initial rate times a function of the count; the numbers of `torch.optim.lr_scheduler.LambdaLR`.

    Args:
        optimizer: The optimizer.
        lr_lambda: Takes the count, gives a factor; or a list of functions, one a group.
        last_epoch: See `LRScheduler`.

    Raises:
        ValueError: Another number of functions than groups.

    Example:
        >>> import gradloom as gl
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = gl.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    def __init__(self, optimizer: Any, lr_lambda: Functions, last_epoch: int = -1):
        count = len(check(optimizer).param_groups)
        functions = list(lr_lambda) if isinstance(lr_lambda, (list, tuple)) else [lr_lambda] * count
        if len(functions) != count:
            raise ValueError(f"Expected {count} lr_lambdas, but got {len(functions)}")
        self.lr_lambdas: list[Callable[[int], float]] = functions
        super().__init__(optimizer, last_epoch)

    def _next(self) -> list[float]:
        return [lr * f(self.last_epoch) for f, lr in zip(self.lr_lambdas, self.base_lrs, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "lr_lambdas": [function_state(f) for f in self.lr_lambdas]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "lr_lambdas"})
        for f, state in zip(self.lr_lambdas, state_dict["lr_lambdas"], strict=True):
            if state is not None:
                vars(f).update(state)


class MultiplicativeLR(LambdaLR):
    """Each step times a function of the count; the numbers of `torch.optim.lr_scheduler.MultiplicativeLR`.

    Args:
        optimizer: The optimizer.
        lr_lambda: Takes the count, gives the factor of this step; or a list of functions, one a group.
        last_epoch: See `LRScheduler`.

    Raises:
        TypeError: No function.
        ValueError: Another number of functions than groups.

    Example:
        >>> import gradloom as gl
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = gl.optim.lr_scheduler.MultiplicativeLR(optimizer, lambda epoch: 0.5)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    def __init__(self, optimizer: Any, lr_lambda: Functions, last_epoch: int = -1):
        for f in lr_lambda if isinstance(lr_lambda, (list, tuple)) else [lr_lambda]:
            if not callable(f):
                raise TypeError(f"lr_lambda should be a function, but got {type(f).__name__}")
        super().__init__(optimizer, lr_lambda, last_epoch)

    def _next(self) -> list[float]:
        if self._is_initial:
            return self._options()
        return [lr * f(self.last_epoch) for f, lr in zip(self.lr_lambdas, self._options(), strict=True)]


class _Factor(LRScheduler):
    """Of schedulers with a closed form: the initial rate times a factor."""

    def _factor(self) -> Callable[[int], float]:
        """The schedule of the factor."""
        raise NotImplementedError

    def _get_closed_form_lr(self) -> list[float]:
        factor = self._factor()(self.last_epoch)
        return [lr * factor for lr in self.base_lrs]

    def _growth(self) -> list[float]:
        """The rates times what the factor has grown by since the last count."""
        factor = self._factor()
        now, before = factor(self.last_epoch), factor(self.last_epoch - 1)
        return self._options() if now == before else self._times(now / before)


class StepLR(_Factor):
    """The rate times gamma every `step_size` steps; the numbers of `torch.optim.lr_scheduler.StepLR`.

    Args:
        optimizer: The optimizer.
        step_size: Steps between two changes.
        gamma: Factor.
        last_epoch: See `LRScheduler`.

    Example:
        >>> import gradloom as gl
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = gl.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
        >>> for epoch in range(4):
        ...     optimizer.step()
        ...     scheduler.step()
        ...     print(scheduler.get_last_lr())
        [1.0]
        [0.5]
        [0.5]
        [0.25]
    """

    def __init__(self, optimizer: Any, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> Callable[[int], float]:
        return schedules.step(1.0, self.step_size, self.gamma)

    def _next(self) -> list[float]:
        changes = self.last_epoch != 0 and self.last_epoch % self.step_size == 0
        return self._times(self.gamma if changes else 1)


class MultiStepLR(_Factor):
    """The rate times gamma at each milestone; the numbers of `torch.optim.lr_scheduler.MultiStepLR`.

    Args:
        optimizer: The optimizer.
        milestones: Counts; one that comes twice counts twice.
        gamma: Factor.
        last_epoch: See `LRScheduler`.

    Example:
        >>> import gradloom as gl
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = gl.optim.lr_scheduler.MultiStepLR(optimizer, [30, 80], gamma=0.5)
        >>> for epoch in range(30):
        ...     optimizer.step()
        ...     scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    def __init__(self, optimizer: Any, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1):
        self.milestones, self.gamma = Counter(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> Callable[[int], float]:
        return schedules.multistep(1.0, list(self.milestones.elements()), self.gamma)

    def _next(self) -> list[float]:
        return self._times(self.gamma ** self.milestones[self.last_epoch])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.milestones = Counter(self.milestones)  # a file gives a plain dict


class ConstantLR(_Factor):
    """The rate times a factor until `total_iters`; the numbers of `torch.optim.lr_scheduler.ConstantLR`.

    Args:
        optimizer: The optimizer.
        factor: From 0 to 1.
        total_iters: From this count on the rate is the initial one.
        last_epoch: See `LRScheduler`.

    Raises:
        ValueError: A factor out of range.

    Example:
        >>> import gradloom as gl
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> gl.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5).get_last_lr()
        [0.5]
    """

    def __init__(self, optimizer: Any, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1):
        if factor > 1.0 or factor < 0:
            raise ValueError("Constant multiplicative factor expected to be between 0 and 1.")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> Callable[[int], float]:
        return schedules.join([self.factor, 1.0], [self.total_iters])

    def _next(self) -> list[float]:
        if self.last_epoch == 0:
            return self._times(self.factor)
        return self._times(1.0 / self.factor) if self.last_epoch == self.total_iters else self._options()


class LinearLR(_Factor):
    """The rate times a factor that changes along a line; the numbers of `torch.optim.lr_scheduler.LinearLR`.

    Args:
        optimizer: The optimizer.
        start_factor: The first factor, above 0 and up to 1.
        end_factor: The last factor, from 0 to 1.
        total_iters: Steps in between.
        last_epoch: See `LRScheduler`.

    Raises:
        ValueError: A factor out of range.

    Example:
        >>> import gradloom as gl
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = gl.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.75]
    """

    def __init__(
        self,
        optimizer: Any,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ):
        if start_factor > 1.0 or start_factor <= 0:
            raise ValueError("Starting multiplicative factor expected to be greater than 0 and less or equal to 1.")
        if end_factor > 1.0 or end_factor < 0:
            raise ValueError("Ending multiplicative factor expected to be between 0 and 1.")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> Callable[[int], float]:
        return schedules.linear(self.start_factor, self.end_factor, self.total_iters)

    def _next(self) -> list[float]:
        if self.last_epoch == 0:
            return self._times(self.start_factor)
        done = self._is_initial or self.last_epoch > self.total_iters
        return self._options() if done else self._growth()


class ExponentialLR(_Factor):
    """The rate times gamma in each step; the numbers of `torch.optim.lr_scheduler.ExponentialLR`.

    Args:
        optimizer: The optimizer.
        gamma: Factor.
        last_epoch: See `LRScheduler`.

    Example:
        >>> import gradloom as gl
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = gl.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    def __init__(self, optimizer: Any, gamma: float, last_epoch: int = -1):
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> Callable[[int], float]:
        return schedules.exponential(1.0, self.gamma)

    def _next(self) -> list[float]:
        return self._times(1 if self._is_initial else self.gamma)


class PolynomialLR(_Factor):
    """The initial rate times (1 - count / total_iters)**power; the numbers of `torch.optim.lr_scheduler.PolynomialLR`.

    Args:
        optimizer: The optimizer.
        total_iters: Steps until the rate is 0.
        power: Of the polynomial.
        last_epoch: See `LRScheduler`.

    Example:
        >>> import gradloom as gl
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = gl.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=4, power=2.0)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5625]
    """

    def __init__(self, optimizer: Any, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1):
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> Callable[[int], float]:
        return schedules.polynomial(1.0, 0.0, self.total_iters, self.power)

    def _next(self) -> list[float]:
        return self._options() if self._is_initial else self._growth()


class CosineAnnealingLR(LRScheduler):
    """The rate along a cosine, down to `eta_min` in `T_max` steps, and up again; as `torch.optim.lr_scheduler.CosineAnnealingLR`.

    See `CosineAnnealingWarmRestarts` for restarts at the top, and `schedules.cosine` for a rate that stays at the end.

    Args:
        optimizer: The optimizer.
        T_max: Half a period.
        eta_min: The least rate.
        last_epoch: See `LRScheduler`.

    Example:
        >>> import gradloom as gl
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = gl.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
        >>> for epoch in range(4):
        ...     optimizer.step()
        ...     scheduler.step()
        ...     print(round(scheduler.get_last_lr()[0], 6))
        0.5
        0.0
        0.5
        1.0
    """

    def __init__(self, optimizer: Any, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def _left(self, count: int) -> float:
        return curves.half_cosine(math, count / self.T_max)

    def _get_closed_form_lr(self) -> list[float]:
        return [self.eta_min + (lr - self.eta_min) * self._left(self.last_epoch) for lr in self.base_lrs]

    def _next(self) -> list[float]:
        rates = self._options()
        if self._is_initial:
            return rates
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # from the lowest point there is no factor up
            rise = 1 - self._left(1)
            return [lr + (base - self.eta_min) * rise for lr, base in zip(rates, self.base_lrs, strict=True)]
        growth = self._left(self.last_epoch) / self._left(self.last_epoch - 1)
        return [self.eta_min + (lr - self.eta_min) * growth for lr in rates]


class SWALR(LRScheduler):
    """From the rate that there is to `swa_lr`, where it stays; the numbers of `torch.optim.swa_utils.SWALR`.

    Args:
        optimizer: The optimizer.
        swa_lr: The last rate; a list for a rate a group.
        anneal_epochs: Steps until it is reached.
        anneal_strategy: "cos" or "linear".
        last_epoch: See `LRScheduler`.

    Raises:
        ValueError: An unknown strategy, or no number of steps.

    Example:
        >>> import gradloom as gl
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = gl.optim.lr_scheduler.SWALR(optimizer, swa_lr=0.5, anneal_epochs=2, anneal_strategy="linear")
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.75]
    """

    def __init__(
        self,
        optimizer: Any,
        swa_lr: float,
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ):
        rates = for_groups("swa_lr", optimizer, swa_lr)
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["swa_lr"] = rate
        self._anneal_strategy, self.anneal_epochs = anneal_strategy, anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _next(self) -> list[float]:
        left = curves.SHAPES["cosine" if self._anneal_strategy == "cos" else "linear"]
        length = max(1, self.anneal_epochs)
        count = self._step_count - 1 if self.anneal_epochs else max(1, self._step_count - 1)
        now, before = (left(math, max(0, min(1, n / length))) for n in (count, count - 1))
        if before == 0:
            return self._options("swa_lr")
        # The way that is left shrinks from `before` to `now`, whatever the rate is by now.
        return [g["swa_lr"] + (g["lr"] - g["swa_lr"]) * (now / before) for g in self.optimizer.param_groups]
