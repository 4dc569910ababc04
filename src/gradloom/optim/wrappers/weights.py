"""Wrappers that keep other weights beside the parameters, or look at gradients elsewhere: averages, Lookahead, SAM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ... import ops
from ...errors import OptionError, explain
from ..clip import global_norm
from ..functional import Optimizer
from ..state import State, counter, same_container, with_gradients
from .base import Wrapper, chosen, joined, known


class EMA(Wrapper):
    """Keeps the exponential moving average of the parameters: decay * average + (1 - decay) * p after each update.

    Args:
        optimizer: What updates the parameters.
        decay: Near 1 for a slow average; or a function of the number of updates.

    Example:
        >>> import numpy as np
        >>> from gradloom.training.optimizers import EMA, SGD
        >>> optimizer = EMA(SGD(1.0), decay=0.5)
        >>> params = {"w": np.array([1.0])}
        >>> params, state = optimizer.update(params, {"w": np.array([1.0])}, optimizer.init(params))
        >>> params["w"], optimizer.average(params, state)["w"]
        (array([0.]), array([0.5]))
    """

    slots = ("ema", "ema_step")

    def __init__(self, optimizer: Optimizer, decay: float | Callable = 0.999):
        super().__init__(optimizer)
        if not callable(decay) and not 0 <= decay <= 1:
            raise ValueError(f"Invalid decay value: {decay}")
        self.decay = decay

    def _start(self, name: str, p: Any) -> dict[str, Any]:
        return {"ema": ops.multiply(p, 1), "ema_step": counter(p, 0)}

    def update(self, params: Any, gradients: Any, state: State, *more: Any) -> tuple[Any, State]:
        """One update, and the average after it."""
        inner, own = self._split(state)
        new, after = self.inner.update(params, gradients, inner, *more)
        for n in own:
            if n in new:
                d, old = self.decay, own[n]["ema"]
                d = d(own[n]["ema_step"]) if callable(d) else d
                mixed = ops.add(ops.multiply(old, d), ops.multiply(new[n], 1 - d))
                own[n] = {"ema": mixed, "ema_step": own[n]["ema_step"] + 1}
        return new, joined(after, own)

    def average(self, params: Any, state: State) -> Any:
        """The averages, in the container class of `params`: for evaluation."""
        _, own = self._split(state)
        return same_container(params, {n: own[n]["ema"] if n in own else p for n, p in params.items()})


class Lookahead(Wrapper):
    """Slow weights that follow the fast ones: after every `steps` updates slow += alpha * (p - slow), and p = slow.

    Zhang et al., 2019 (arXiv:1907.08610).

    Args:
        optimizer: What updates the fast weights.
        steps: Updates between two synchronisations.
        alpha: How far the slow weights go.

    Example:
        >>> import numpy as np
        >>> from gradloom.training.optimizers import SGD, Lookahead
        >>> optimizer = Lookahead(SGD(1.0), steps=2, alpha=0.5)
        >>> params = {"w": np.array([1.0])}
        >>> state = optimizer.init(params)
        >>> for _ in range(2):
        ...     params, state = optimizer.update(params, {"w": np.array([0.2])}, state)
        ...     print(params["w"])
        [0.8]
        [0.8]
    """

    slots = ("slow", "lookahead_step")

    def __init__(self, optimizer: Optimizer, steps: int = 5, alpha: float = 0.5):
        super().__init__(optimizer)
        if steps < 1 or steps != int(steps):
            raise ValueError(f"Invalid number of steps: {steps}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"Invalid alpha value: {alpha}")
        self.steps, self.alpha = int(steps), alpha

    def _start(self, name: str, p: Any) -> dict[str, Any]:
        return {"slow": ops.multiply(p, 1), "lookahead_step": counter(p, 0)}

    def update(self, params: Any, gradients: Any, state: State, *more: Any) -> tuple[Any, State]:
        """One update; of a parameter without a gradient neither weights move."""
        inner, own = self._split(state)
        new, after = self.inner.update(params, gradients, inner, *more)
        values = dict(new)
        for n in with_gradients("Lookahead", params, gradients):
            slow, count = own[n]["slow"], own[n]["lookahead_step"] + 1
            now = known(count % self.steps == 0)
            if now is not False:
                moved = ops.add(slow, ops.multiply(ops.subtract(new[n], slow), self.alpha))
                values[n], slow = chosen(now, moved, new[n]), chosen(now, moved, slow)
            own[n] = {"slow": slow, "lookahead_step": count}
        return same_container(params, values), joined(after, own)


class SAM(Wrapper):
    """Sharpness-aware minimisation: the update uses the gradients at p + rho * g / |g|.

    Foret et al., 2021 (arXiv:2010.01412); adaptive: Kwon et al., 2021 (arXiv:2102.11600), p + rho * p² * g / |p * g|.

    Args:
        optimizer: What updates with those gradients.
        rho: How far to go up.
        adaptive: In units of the parameters.

    Example:
        >>> import numpy as np
        >>> from gradloom.training.optimizers import SAM, SGD
        >>> optimizer = SAM(SGD(0.5), rho=1.0)
        >>> gradient = lambda params: {"w": 2 * params["w"]}
        >>> params = {"w": np.array([1.0])}
        >>> optimizer.update(params, gradient(params), optimizer.init(params), gradient)[0]
        {'w': array([-1.])}
    """

    asks_again: ClassVar[bool] = True

    def __init__(self, optimizer: Optimizer, rho: float = 0.05, *, adaptive: bool = False):
        super().__init__(optimizer)
        if rho < 0:
            raise ValueError(f"Invalid rho value: {rho}")
        self.rho, self.adaptive = rho, adaptive

    def perturb(self, params: Any, gradients: Any) -> Any:
        """The parameters uphill, in the container class of `params`."""
        names = with_gradients("SAM", params, gradients)
        uphill = dict(params)
        if names:
            scaled = {n: ops.multiply(gradients[n], params[n]) if self.adaptive else gradients[n] for n in names}
            scale = ops.divide(self.rho, ops.add(global_norm(scaled), 1e-12))
            for n in names:
                way = ops.multiply(scaled[n], params[n]) if self.adaptive else scaled[n]
                uphill[n] = ops.add(params[n], ops.multiply(way, scale))
        return same_container(params, uphill)

    def update(self, params: Any, gradients: Any, state: State, *more: Any) -> tuple[Any, State]:
        """One update.

        Args:
            more: A function of parameters that gives their gradients, of the same batch.
        """
        if not more or not callable(more[0]):
            raise OptionError(
                explain(
                    "SAM asks for gradients twice",
                    do="call update(params, gradients, state, gradient_function), or step(closure) of gradloom.optim.Bound",
                )
            )
        return self.inner.update(params, more[0](self.perturb(params, gradients)), state, *more[1:])
