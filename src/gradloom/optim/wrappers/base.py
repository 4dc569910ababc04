"""The base of the wrappers, and choosing between the new and the old where an update may be left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from ... import ops
from ...errors import OptionError, explain
from ..functional import Optimizer
from ..state import State, make_state, number, some


class Wrapper(Optimizer):
    """Base of the wrappers: one optimizer inside, and slots of its own.

    Args:
        optimizer: A functional optimizer, or a wrapper.
    """

    slots: ClassVar[tuple[str, ...]] = ()

    def __init__(self, optimizer: Optimizer):
        if not getattr(optimizer, "functional", False):
            raise OptionError(
                explain(
                    f"{type(self).__name__} wraps functional optimizers",
                    expected="one of gradloom.training.optimizers",
                    given=type(optimizer).__name__,
                )
            )
        self.inner = optimizer

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return self.inner.param_groups

    def rate(self, slots: Mapping[str, Any]) -> Any:
        return self.inner.rate(slots)

    def __jit_key__(self) -> tuple:
        return (*super().__jit_key__(), *self.inner.__jit_key__())

    def _start(self, name: str, p: Any) -> dict[str, Any]:
        """The wrapper's own slots of a parameter."""
        return {}

    def init(self, params: Mapping[str, Any]) -> State:
        """The state of the optimizer inside, with this one's slots."""
        return make_state(params, self._start, self.inner.init(params))

    def _split(self, state: State) -> tuple[State, State]:
        """The state of the optimizer inside, and this one's slots."""
        for name, slots in state.items():
            missing = [s for s in self.slots if s not in slots]
            if missing:
                raise OptionError(
                    explain(
                        f"the state of the parameter '{name}' is not one of {type(self).__name__}",
                        expected=f"the slot '{missing[0]}', too",
                        given=some(slots),
                        do="give the state that this optimizer's init() or update() made",
                    )
                )
        inner = {n: {k: v for k, v in slots.items() if k not in self.slots} for n, slots in state.items()}
        return inner, {n: {k: slots[k] for k in self.slots} for n, slots in state.items()}

    def update(self, params: Any, gradients: Any, state: State, *more: Any) -> tuple[Any, State]:
        """One update; see `RuleOptimizer.update`."""
        raise NotImplementedError

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_") and k != "inner")
        return f"{type(self).__name__}({self.inner!r}{', ' if options else ''}{options})"


def joined(inner: State, own: State) -> State:
    """One state of two."""
    return {n: {**slots, **own.get(n, {})} for n, slots in inner.items()}


def chosen(flag: Any, new: Any, old: Any) -> Any:
    """`new` where the flag holds: one of the two, or, where the flag is traced, what selects one."""
    if isinstance(flag, bool):
        return new if flag else old
    return ops.where(flag, new, old)


def known(flag: Any) -> Any:
    """A 0-d bool array as a bool, if its value is known."""
    value = number(flag, bool)
    return flag if value is None else value


def chosen_state(flag: Any, new: State, old: State) -> State:
    """`chosen` of all slots."""
    if isinstance(flag, bool):
        return new if flag else old
    return {n: {k: chosen(flag, v, old[n][k]) for k, v in slots.items()} for n, slots in new.items()}


def selected(names: Iterable[str], params: Any, which: Any, who: str) -> set[str]:
    """The names that a mask selects.

    Args:
        which: None (all), a glob pattern or a list of them, a dict {name: bool}, or a function `(name, array) -> bool`.
    """
    names = list(names)
    if which is None:
        return set(names)
    if callable(which):
        return {n for n in names if which(n, params[n])}
    if isinstance(which, Mapping):
        return {n for n in names if which.get(n, False)}
    patterns = [which] if isinstance(which, str) else list(which)
    for pattern in patterns:
        if not any(fnmatchcase(n, pattern) for n in params):
            raise OptionError(explain(f"{who}: no parameter is called {pattern!r}", expected=some(params)))
    return {n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns)}
