"""The base of the schedulers: counting, PyTorch's warnings, and what goes into a state dict."""

from __future__ import annotations

import contextlib
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from ...errors import OptionError, explain

# PyTorch's texts
_USE_GET_LAST = "To get the last learning rate computed by the scheduler, please use `get_last_lr()`."
EPOCH_IS_DEPRECATED = (
    "The epoch parameter in `scheduler.step()` was not necessary and is being deprecated where possible. Please use "
    "`scheduler.step()` to step the scheduler. During the deprecation, if epoch is different from None, the closed form is used "
    "instead of the new chainable form, where available."
)
_ORDER = (
    "Detected call of `lr_scheduler.step()` before `optimizer.step()`. You should call them in the opposite order: "
    "`optimizer.step()` before `lr_scheduler.step()`.  Failure to do this will result in skipping the first value of the "
    "learning rate schedule."
)


class LRScheduler:
    """Base of the schedulers: a subclass defines `get_lr`, the rates of the groups after `self.last_epoch` steps.

    A scheduler steps after the optimizer. Building one steps it to 0, which writes the first rates. The count is of whatever
    `step()` is called after: updates or epochs.

    Where the optimizer says that it left out the last update (`optimizer.skipped`: gradients that were not finite), `step()`
    does nothing, so that a schedule counts the updates that were made. `step(epoch)` always sets the count.

    Args:
        optimizer: Has `param_groups`; one of `gradloom.optim`, or a functional one of `gradloom.training.optimizers`.
        last_epoch: Steps that were already done, less one, when training is resumed; then groups must have "initial_lr".

    Raises:
        KeyError: last_epoch is given, and a group has no "initial_lr".
        OptionError: The optimizer's rate is a function of the count, not a number.
        TypeError: That is no optimizer.

    Example:
        >>> import gradloom as gl
        >>> class Halving(gl.optim.lr_scheduler.LRScheduler):
        ...     def get_lr(self):
        ...         return [lr * 0.5**self.last_epoch for lr in self.base_lrs]
        >>> optimizer = gl.optim.SGD([gl.tensor([1.0], requires_grad=True)], lr=0.8)
        >>> scheduler = Halving(optimizer)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.4]
    """

    last_epoch: int
    base_lrs: list[float]
    _needs_rates: ClassVar[bool] = True
    _get_lr_called_within_step = False
    _is_initial = False
    _step_count = 0
    _last_lr: list[float]

    def __init__(self, optimizer: Any, last_epoch: int = -1):
        self.optimizer = check(optimizer, rates=self._needs_rates)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}] when resuming scheduler with last_epoch >= 0."
                )
        self.base_lrs = self._options("initial_lr")
        self.last_epoch = last_epoch
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    # --- what subclasses use

    def _options(self, name: str = "lr") -> list:
        """An option of all groups."""
        return [group[name] for group in self.optimizer.param_groups]

    def _times(self, factor: float) -> list[float]:
        """The groups' rates times a factor."""
        return [lr * factor for lr in self._options()]

    def _next(self) -> list:
        """The rates that `get_lr` gives."""
        raise NotImplementedError

    # --- what users call

    def get_lr(self) -> list[float]:
        """The rates of the groups at this count; it is for `step()`. See `get_last_lr`."""
        values = self._next()
        if not self._get_lr_called_within_step:
            warnings.warn(_USE_GET_LAST, UserWarning, stacklevel=2)
        return values

    def get_last_lr(self) -> list[float]:
        """The rates of the groups that the last step computed."""
        return self._last_lr

    def step(self, epoch: int | None = None) -> None:
        """Counts on by one (or to `epoch`, which is deprecated) and writes the rates."""
        if epoch is None and self._skips():
            return
        if self._step_count == 1:
            _check_order(self.optimizer)
        self._step_count += 1
        if epoch is not None:
            warnings.warn(EPOCH_IS_DEPRECATED, UserWarning, stacklevel=2)
        self._update_lr(epoch)

    def _skips(self) -> bool:
        """Whether there was no update to count."""
        return not self._is_initial and bool(getattr(self.optimizer, "skipped", False))

    def _update_lr(self, epoch: int | None = None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        closed = getattr(self, "_get_closed_form_lr", None)
        with self._within_step():
            values = self.get_lr() if epoch is None or closed is None else closed()
        self._write(values)

    @contextlib.contextmanager
    def _within_step(self) -> Iterator[None]:
        self._get_lr_called_within_step = True
        try:
            yield
        finally:
            self._get_lr_called_within_step = False

    def _write(self, values: list) -> None:
        for group, value in zip(self.optimizer.param_groups, values, strict=True):
            group["lr"] = value
        self._last_lr = self._options()

    def state_dict(self) -> dict[str, Any]:
        """All that changes and all settings, under PyTorch's names; of functions only those with attributes, as dicts of these.

        PyTorch's schedulers load it, and theirs can be loaded here.
        """
        return {k: v for k, v in vars(self).items() if k != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave; functions, which no state dict holds, stay as they were."""
        vars(self).update(state_dict)


def check(optimizer: Any, rates: bool = False) -> Any:
    """The optimizer; an error if it is none, or if its rates are no numbers where they are needed."""
    if not hasattr(optimizer, "param_groups"):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")  # PyTorch's text
    for group in optimizer.param_groups if rates else ():
        if callable(group["lr"]):
            raise OptionError(
                explain(
                    "this optimizer's learning rate is a schedule already, so there is nothing for a scheduler to start from",
                    given=f"learning_rate={group['lr']!r}",
                    do="give the optimizer a number, or leave the scheduler out",
                )
            )
    return optimizer


def for_groups(name: str, optimizer: Any, value: Any) -> list:
    """One value a group, of a value for all or a list."""
    count = len(check(optimizer).param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ValueError(
            f"{name} must have the same length as optimizer.param_groups. {name} has {len(value)} values, "
            f"param_groups has {count}."
        )
    return list(value)


def function_state(fn: Callable | None) -> dict[str, Any] | None:
    """What a state dict holds of a function: the attributes of an object that can be called, nothing of plain functions."""
    return None if fn is None or isinstance(fn, types.FunctionType) else vars(fn).copy()


# --- whether the optimizer's step was called


def _check_order(optimizer: Any) -> None:
    """Warns if the optimizer has made no step yet. A functional one updates elsewhere, and has no order to keep."""
    if not getattr(optimizer, "_updates", True):
        warnings.warn(_ORDER, UserWarning, stacklevel=3)
