"""The scheduler that looks at a metric."""

from __future__ import annotations

import math
import warnings
from typing import Any

from .base import EPOCH_IS_DEPRECATED, LRScheduler, check

_MISSING: Any = object()


class ReduceLROnPlateau(LRScheduler):
    """The rate times `factor` when a metric has stopped to get better; as `torch.optim.lr_scheduler.ReduceLROnPlateau`.

    Args:
        optimizer: The optimizer.
        mode: "min" or "max": what is better.
        factor: Below 1.
        patience: Epochs without improvement that are accepted.
        threshold: What counts as an improvement: a part of the best value,
        threshold_mode: or, with "abs" in place of "rel", a difference.
        cooldown: Epochs after a reduction in which nothing is counted.
        min_lr: The least rate; a list for a rate a group.
        eps: A reduction by less is left out.

    Raises:
        TypeError: That is no optimizer; `step()` without a metric (with a functional optimizer: a warning, and nothing is done).
        ValueError: An option out of range.

    Example:
        >>> import gradloom as gl
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=1.0)
        >>> scheduler = gl.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
        >>> for loss in (3.0, 2.0, 2.0, 2.0):
        ...     scheduler.step(loss)
        >>> scheduler.get_last_lr()
        [0.5]
    """

    def __init__(
        self,
        optimizer: Any,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ):
        if factor >= 1.0:
            raise ValueError("Factor should be < 1.0.")
        if mode not in ("min", "max"):
            raise ValueError(f"mode {mode} is unknown!")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold mode {threshold_mode} is unknown!")
        self.optimizer = check(optimizer, rates=True)
        count = len(optimizer.param_groups)
        one = not isinstance(min_lr, (list, tuple))
        self.default_min_lr = min_lr if one else None
        self.min_lrs = [min_lr] * count if one else list(min_lr)  # type: ignore[arg-type]
        if len(self.min_lrs) != count:
            raise ValueError(f"expected {count} min_lrs, got {len(self.min_lrs)}")
        self.factor, self.patience, self.cooldown, self.eps = factor, patience, cooldown, eps
        self.mode, self.threshold, self.threshold_mode = mode, threshold, threshold_mode
        self.last_epoch = 0
        self._last_lr = self._options()
        self.mode_worse = math.inf if mode == "min" else -math.inf
        self._reset()

    def _reset(self) -> None:
        self.best, self.cooldown_counter, self.num_bad_epochs = self.mode_worse, 0, 0

    @property
    def in_cooldown(self) -> bool:
        """Whether the last reduction was so lately that nothing is counted."""
        return self.cooldown_counter > 0

    def step(self, metrics: Any = _MISSING, epoch: int | None = None) -> None:  # type: ignore[override]
        """Looks at the metric after an epoch, and reduces the rate if it is time to.

        It follows the metric, whether or not the last update was left out.
        """
        if metrics is _MISSING:
            if not getattr(self.optimizer, "functional", False):
                raise TypeError("ReduceLROnPlateau.step() missing 1 required positional argument: 'metrics'")
            warnings.warn(
                "ReduceLROnPlateau.step() did nothing: it needs the metric, as in scheduler.step(val_loss).",
                UserWarning,
                stacklevel=2,
            )
            return
        current = float(metrics)
        if epoch is not None:
            warnings.warn(EPOCH_IS_DEPRECATED, UserWarning, stacklevel=2)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(current, self.best):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self._options()

    def _is_better(self, a: float, best: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        if self.threshold_mode == "rel":
            return sign * a < sign * best * (1 - sign * self.threshold)
        return sign * a < sign * best - self.threshold

    def _reduce(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):
            if self.default_min_lr is None:
                raise RuntimeError(
                    f"The number of param groups in the `optimizer` ({len(groups)}) differs from when `ReduceLROnPlateau` was "
                    f"initialized ({len(self.min_lrs)}), usually due to a new param group being added to the optimizer. "
                    "Please modify the `min_lrs` field to match the length of the `optimizer` param groups."
                )
            self.min_lrs = [self.default_min_lr] * len(groups)
        for group, least in zip(groups, self.min_lrs, strict=True):
            lr = max(group["lr"] * self.factor, least)
            if group["lr"] - lr > self.eps:
                group["lr"] = lr
