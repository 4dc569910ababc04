"""Wrappers that change gradients, or when they are used: clipping, weight decay, accumulation, skipping."""

from __future__ import annotations

from typing import Any

from ... import ops
from ...errors import OptionError, explain
from ..clip import clip_gradients, finite
from ..functional import Optimizer
from ..state import State, counter, same_container, with_gradients
from .base import Wrapper, chosen, chosen_state, joined, known, selected


class Clip(Wrapper):
    """Clips gradients before the update.

    Args:
        optimizer: What updates with the clipped gradients.
        value: Each element is brought to between -value and value.
        norm: All gradients are scaled so that the norm of all elements together is at most this.
        adaptive: The norm of each unit's gradient is at most this times the norm of its weights (Brock et al., 2021,
            arXiv:2102.06171; a unit is a row of a matrix, an output channel, or a whole vector).

    Raises:
        OptionError: Not exactly one limit is given.

    Example:
        >>> import numpy as np
        >>> from gradloom.training.optimizers import SGD, Clip
        >>> optimizer = Clip(SGD(1.0), norm=1.0)
        >>> params = {"w": np.array([1.0, 1.0])}
        >>> optimizer.update(params, {"w": np.array([30.0, 40.0])}, optimizer.init(params))[0]["w"].round(4)
        array([0.4, 0.2])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        value: float | None = None,
        norm: float | None = None,
        adaptive: float | None = None,
    ):
        super().__init__(optimizer)
        if sum(x is not None for x in (value, norm, adaptive)) != 1:
            raise OptionError(
                explain(
                    "Clip takes one limit",
                    given=f"value={value}, norm={norm}, adaptive={adaptive}",
                    do="give value=, norm= or adaptive=; nest two to have both",
                )
            )
        for limit in (value, norm, adaptive):
            if limit is not None and limit < 0:
                raise ValueError(f"Invalid clipping limit: {limit}")
        self.value, self.norm, self.adaptive = value, norm, adaptive

    def update(self, params: Any, gradients: Any, state: State, *more: Any) -> tuple[Any, State]:
        """One update with clipped gradients; those without a parameter do not count in the norm."""
        names = with_gradients("Clip", params, gradients)
        given = {n: gradients[n] for n in names}
        if self.adaptive is not None:
            given = {n: _adaptive(params[n], g, self.adaptive) for n, g in given.items()}
        elif given:
            given = clip_gradients(given, clip_value=self.value, clip_norm=self.norm)
        return self.inner.update(params, given, state, *more)


def _adaptive(p: Any, g: Any, limit: float) -> Any:
    """g, each unit of which is scaled to a norm of at most limit * max(norm of its weights, 1e-3)."""
    axes = tuple(range(1, p.ndim)) if p.ndim > 1 else tuple(range(p.ndim))

    def norm(x: Any) -> Any:
        return ops.sqrt(ops.sum(ops.square(x), axis=axes, keepdims=True)) if axes else ops.abs(x)

    most = ops.multiply(ops.maximum(norm(p), 1e-3), limit)
    of_gradient = norm(g)
    scale = ops.divide(most, ops.maximum(of_gradient, 1e-6))
    return ops.where(ops.greater(of_gradient, most), ops.multiply(g, scale), g)


class WeightDecay(Wrapper):
    """Weight decay of some parameters.

    Args:
        optimizer: What updates after it.
        rate: Decoupled, p shrinks by learning rate * rate * p before the update (AdamW's; Loshchilov and Hutter, 2019); coupled, rate * p
            is added to the gradient (L2).
        only: Which parameters: a glob pattern of names or several, {name: bool}, or a function `(name, array) -> bool`. Default: all.
        coupled: Which of the two.

    Example:
        >>> import numpy as np
        >>> from gradloom.training.optimizers import SGD, WeightDecay
        >>> optimizer = WeightDecay(SGD(0.5), rate=0.1, only=lambda name, p: p.ndim > 1)
        >>> params = {"weight": np.ones((1, 1)), "bias": np.ones(1)}
        >>> gradients = {"weight": np.zeros((1, 1)), "bias": np.zeros(1)}
        >>> optimizer.update(params, gradients, optimizer.init(params))[0]
        {'weight': array([[0.95]]), 'bias': array([1.])}
    """

    def __init__(self, optimizer: Optimizer, rate: float, only: Any = None, *, coupled: bool = False):
        super().__init__(optimizer)
        if rate < 0:
            raise ValueError(f"Invalid weight_decay value: {rate}")
        self.weight_decay, self.only, self.coupled = rate, only, coupled

    def update(self, params: Any, gradients: Any, state: State, *more: Any) -> tuple[Any, State]:
        """One update; parameters without a gradient do not decay."""
        names = selected(with_gradients("WeightDecay", params, gradients), params, self.only, "WeightDecay")
        if self.coupled:
            given = dict(gradients)
            for n in names:
                given[n] = ops.add(gradients[n], ops.multiply(params[n], self.weight_decay))
            return self.inner.update(params, given, state, *more)
        shrunk = dict(params)
        for n in names:
            rate = self.rate(state.get(n, {}))
            shrunk[n] = ops.multiply(params[n], 1 - rate * self.weight_decay)
        return self.inner.update(same_container(params, shrunk), gradients, state, *more)


class Accumulate(Wrapper):
    """Updates once for every `steps` gradients, with their mean.

    Args:
        optimizer: What updates then.
        steps: How many gradients make one update.
        mean: Their mean; else their sum.

    Example:
        >>> import numpy as np
        >>> from gradloom.training.optimizers import SGD, Accumulate
        >>> optimizer = Accumulate(SGD(1.0), steps=2)
        >>> params = {"w": np.array([1.0])}
        >>> state = optimizer.init(params)
        >>> for g in (0.2, 0.4):
        ...     params, state = optimizer.update(params, {"w": np.array([g])}, state)
        ...     print(params["w"])
        [1.]
        [0.7]
    """

    slots = ("accumulated", "micro_step")

    def __init__(self, optimizer: Optimizer, steps: int, *, mean: bool = True):
        super().__init__(optimizer)
        if steps < 1 or steps != int(steps):
            raise ValueError(f"Invalid number of steps to accumulate: {steps}")
        self.steps, self.mean = int(steps), mean

    def _start(self, name: str, p: Any) -> dict[str, Any]:
        return {"accumulated": ops.zeros_like(p), "micro_step": counter(p, 0)}

    def update(self, params: Any, gradients: Any, state: State, *more: Any) -> tuple[Any, State]:
        """Adds the gradients to what was accumulated; updates the parameters that have `steps` of them."""
        inner, own = self._split(state)
        given, full = {}, {}
        for n in with_gradients("Accumulate", params, gradients):
            share = ops.multiply(gradients[n], 1 / self.steps) if self.mean else gradients[n]
            total, count = ops.add(own[n]["accumulated"], share), own[n]["micro_step"] + 1
            full[n] = known(count == self.steps)
            if full[n] is not False:
                given[n] = total
            own[n] = {
                "accumulated": chosen(full[n], ops.zeros_like(total), total),
                "micro_step": chosen(full[n], count * 0, count),
            }
        new, after = self.inner.update(params, given, inner, *more)
        values = {n: chosen(full.get(n, True), new[n], params[n]) if n in given else new[n] for n in new}
        after = {n: chosen_state(full[n], {n: s}, inner)[n] if n in given else s for n, s in after.items()}
        return same_container(params, values), joined(after, own)


class SkipNonFinite(Wrapper):
    """Leaves parameters and state as they are where a gradient has an element that is infinite or NaN.

    Attributes:
        skipped: Whether the last update was left out (False while it is not known: inside an engine's jit). Schedulers do not advance
            then.

    Example:
        >>> import numpy as np
        >>> from gradloom.training.optimizers import SGD, SkipNonFinite
        >>> optimizer = SkipNonFinite(SGD(1.0))
        >>> params = {"w": np.array([1.0])}
        >>> new, state = optimizer.update(params, {"w": np.array([np.nan])}, optimizer.init(params))
        >>> new["w"], int(state["w"]["skipped"]), optimizer.skipped
        (array([1.]), 1, True)
    """

    slots = ("skipped",)

    def __init__(self, optimizer: Optimizer):
        super().__init__(optimizer)
        self.skipped = False

    def __jit_key__(self) -> tuple:
        return (id(self), *self.inner.__jit_key__())  # not by what the last update was

    def _start(self, name: str, p: Any) -> dict[str, Any]:
        return {"skipped": counter(p, 0)}

    def update(self, params: Any, gradients: Any, state: State, *more: Any) -> tuple[Any, State]:
        """One update, or none."""
        names = with_gradients("SkipNonFinite", params, gradients)
        inner, own = self._split(state)
        if not names:
            return same_container(params, dict(params)), state
        good = known(finite({n: gradients[n] for n in names}))
        self.skipped = good is False
        new, after = (params, inner) if good is False else self.inner.update(params, gradients, inner, *more)
        values = {n: chosen(good, new[n], params[n]) if n in names else new[n] for n in new}
        after = {n: chosen_state(good, {n: s}, inner)[n] if n in names else s for n, s in after.items()}
        for n in names:
            count = own[n]["skipped"]
            own[n] = {"skipped": chosen(good, count, count + 1)}
        return same_container(params, values), joined(after, own)
