"""Several optimizers for parts of the parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from ...errors import OptionError, explain
from ..functional import Optimizer
from ..state import State, same_container, some, with_gradients


class Partition(Optimizer):
    """Several optimizers, each for a part of the parameters.

    Args:
        optimizers: {glob pattern of names: functional optimizer}; a parameter belongs to the first that matches.

    Attributes:
        param_groups: Those of all optimizers: a scheduler scales each rate.

    Raises:
        OptionError: At `init` or `update`, a parameter that no pattern matches, or a pattern that matches none.

    Example:
        >>> import numpy as np
        >>> from gradloom.training.optimizers import SGD, Adam, Partition
        >>> optimizer = Partition({"embedding.*": Adam(1e-4), "*": SGD(0.01, momentum=0.9)})
        >>> params = {"embedding.weight": np.ones((5, 2)), "linear.weight": np.ones((2, 2))}
        >>> [sorted(slots) for slots in optimizer.init(params).values()]
        [['exp_avg', 'exp_avg_sq', 'step'], ['momentum_buffer', 'step']]
    """

    def __init__(self, optimizers: Mapping[str, Optimizer]):
        if not optimizers:
            raise OptionError(explain("Partition got no optimizers", expected="{pattern: optimizer}"))
        self.optimizers = dict(optimizers)

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return [group for o in self.optimizers.values() for group in o.param_groups]

    def __jit_key__(self) -> tuple:
        return (id(self), *(k for o in self.optimizers.values() for k in o.__jit_key__()))

    @property
    def learning_rate(self) -> Any:
        """The rate, if it is one for all; setting it sets all."""
        rates = [o.learning_rate for o in self.optimizers.values()]
        if any(r is not rates[0] and r != rates[0] for r in rates):
            raise OptionError(
                explain(
                    "the parts of this Partition have several learning rates",
                    given=", ".join(f"{k}: {r}" for k, r in zip(self.optimizers, rates, strict=True)),
                    do="read them in param_groups, or from the optimizers",
                )
            )
        return rates[0]

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        for o in self.optimizers.values():
            o.learning_rate = value

    def parts(self, names: Iterable[str]) -> dict[str, list[str]]:
        """{pattern: names of its parameters}."""
        found: dict[str, list[str]] = {pattern: [] for pattern in self.optimizers}
        for name in names:
            for pattern in self.optimizers:
                if fnmatchcase(name, pattern):
                    found[pattern].append(name)
                    break
            else:
                raise OptionError(
                    explain(
                        f"no part of the Partition takes the parameter '{name}'",
                        expected=some(self.optimizers),
                        do="add a pattern for it, such as '*'",
                    )
                )
        return found

    def init(self, params: Mapping[str, Any]) -> State:
        """The states of all parts."""
        parts = self.parts(params)
        for pattern, names in parts.items():
            if not names:
                raise OptionError(explain(f"no parameter is left for the part {pattern!r}", expected=some(params)))
        state: State = {}
        for pattern, names in parts.items():
            state.update(self.optimizers[pattern].init({n: params[n] for n in names}))
        return {n: state[n] for n in params}

    def update(self, params: Any, gradients: Any, state: State, *more: Any) -> tuple[Any, State]:
        """One update of each part."""
        with_gradients("Partition", params, gradients)
        new, after = dict(params), dict(state)
        for pattern, names in self.parts(params).items():
            given = {n: gradients[n] for n in names if n in gradients}
            part, states = {n: params[n] for n in names}, {n: state[n] for n in names if n in state}
            values, states = self.optimizers[pattern].update(part, given, states, *more)
            new.update(values)
            after.update(states)
        return same_container(params, new), after

    def __repr__(self) -> str:
        return f"Partition({self.optimizers!r})"
