"""Functional optimizers: `init(params)`, `update(params, gradients, state)`; see `optim.functional` for what they take.

Each runs the rule of the class of the same name in `gradloom.optim` (`RMSProp`: `RMSprop`, `AdaGrad`: `Adagrad`), with its options and
numbers. Options go by the names given here or by PyTorch's (`learning_rate` or `lr`, `beta1` and `beta2` or `betas`, `epsilon` or
`eps`), never by both. Any option may be a function of the number of updates (`gradloom.optim.schedules`).

Example:
    >>> import numpy as np
    >>> from gradloom.training.optimizers import Adam
    >>> optimizer = Adam(learning_rate=0.1, beta1=0.9)
    >>> params = {"w": np.array([1.0, -1.0])}
    >>> state = optimizer.init(params)
    >>> params, state = optimizer.update(params, {"w": 2 * params["w"]}, state)
    >>> params["w"].round(6), int(state["w"]["step"])
    (array([ 0.9, -0.9]), 1)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import ops, optim
from ..errors import OptionError, ShapeError, explain
from ..optim.clip import clip_gradients
from ..optim.functional import Optimizer, RuleOptimizer, State, like, number, raw, same_container, some
from ..optim.wrappers import EMA, SAM, Accumulate, Clip, Lookahead, Partition, SkipNonFinite, WeightDecay, Wrapper

__all__ = [
    "ADOPT",
    "ASGD",
    "Accumulate",
    "AdEMAMix",
    "AdaBelief",
    "AdaGrad",
    "Adadelta",
    "Adafactor",
    "Adam",
    "AdamW",
    "AdamWScheduleFree",
    "Adamax",
    "Adan",
    "Clip",
    "EMA",
    "LAMB",
    "LARS",
    "Lion",
    "Lookahead",
    "Muon",
    "NAdam",
    "NovoGrad",
    "Optimizer",
    "Partition",
    "Prodigy",
    "RAdam",
    "RMSProp",
    "Rprop",
    "RuleOptimizer",
    "SAM",
    "SGD",
    "SGDScheduleFree",
    "SOAP",
    "ScheduleFree",
    "Shampoo",
    "SkipNonFinite",
    "SophiaG",
    "WeightDecay",
    "Wrapper",
    "Yogi",
    "clip_gradients",
]

BETAS = {"beta1": ("betas", 0), "beta2": ("betas", 1)}
BETAS3 = {**BETAS, "beta3": ("betas", 2)}
EPS = {"epsilon": "eps"}
DECAY = {"weight_decay": "weight_decay"}


def same(*names: str) -> dict[str, str]:
    """Options that go by the names of the bound class, at these places."""
    return {name: name for name in names}


# --- of PyTorch


class SGD(RuleOptimizer, of=optim.SGD, lr=0.01, names=same("momentum", "dampening", "weight_decay", "nesterov")):
    """Stochastic gradient descent: p - lr * b with b = momentum * b + g; see `gradloom.optim.SGD` (there lr is 0.001 by default).

    Example:
        >>> import numpy as np
        >>> optimizer = SGD(0.5, momentum=0.9, nesterov=True)
        >>> params = {"w": np.array([1.0])}
        >>> optimizer.update(params, {"w": np.array([1.0])}, optimizer.init(params))[0]
        {'w': array([0.05])}
    """


class Adam(RuleOptimizer, of=optim.Adam, names={**BETAS, **EPS, **DECAY}):
    """Adam: p - lr * m / (sqrt(v) + eps), of corrected running means; `weight_decay` is L2; see `gradloom.optim.Adam`."""


class AdamW(RuleOptimizer, of=optim.AdamW, names={**BETAS, **EPS, **DECAY}):
    """Adam with decoupled weight decay, p shrinks by lr * weight_decay * p first; see `gradloom.optim.AdamW`."""


class NAdam(RuleOptimizer, of=optim.NAdam, names={**BETAS, **EPS, **DECAY}):
    """Adam with Nesterov's momentum (Dozat, 2016); see `gradloom.optim.NAdam`."""


class RAdam(RuleOptimizer, of=optim.RAdam, names={**BETAS, **EPS, **DECAY}):
    """Adam with a rectified variance (arXiv:1908.03265); see `gradloom.optim.RAdam`."""


class Adamax(RuleOptimizer, of=optim.Adamax, names={**BETAS, **EPS, **DECAY}):
    """Adam with the running maximum of |g| in place of sqrt(v) (arXiv:1412.6980); see `gradloom.optim.Adamax`."""


class RMSProp(
    RuleOptimizer,
    of=optim.RMSprop,
    lr=0.001,
    alpha=0.9,
    names={"decay": "alpha", **EPS, **same("momentum", "weight_decay", "centered")},
):
    """p - lr * g / (sqrt(v) + eps), with v the running mean of g^2, or a momentum of that.

    The numbers of `gradloom.optim.RMSprop`, with other defaults: lr 0.001 and decay (there alpha) 0.9.

    Example:
        >>> import numpy as np
        >>> optimizer = RMSProp(learning_rate=0.1, decay=0.75)
        >>> params = {"w": np.array([1.0])}
        >>> optimizer.update(params, {"w": np.array([2.0])}, optimizer.init(params))[0]["w"].round(6)
        array([0.8])
    """


class AdaGrad(RuleOptimizer, of=optim.Adagrad, eps=1e-8, names={**EPS, **DECAY}):
    """p - lr * g / (sqrt(sum of all g^2) + eps); the numbers of `gradloom.optim.Adagrad`, whose eps is 1e-10 by default."""


class Adadelta(RuleOptimizer, of=optim.Adadelta, names={"rho": "rho", **EPS, **DECAY}):
    """Steps as large as the last ones were, for the size of the gradient (arXiv:1212.5701); see `gradloom.optim.Adadelta`."""


class Rprop(RuleOptimizer, of=optim.Rprop, names={}):
    """A step size for each element, which grows while the gradient keeps its sign; see `gradloom.optim.Rprop`."""


class ASGD(RuleOptimizer, of=optim.ASGD, names=same("lambd", "alpha", "t0", "weight_decay")):
    """SGD with an average of the parameters, the slot `ax`; see `gradloom.optim.ASGD`."""


class Adafactor(RuleOptimizer, of=optim.Adafactor, names=DECAY):
    """Second moments of a matrix in the memory of two vectors (arXiv:1804.04235); see `gradloom.optim.Adafactor`."""


class Muon(RuleOptimizer, of=optim.Muon, names={**same("weight_decay", "momentum"), **EPS}):
    """Momentum whose matrices are made orthogonal; for matrices only; see `gradloom.optim.Muon`."""


# --- of others


class Lion(RuleOptimizer, of=optim.Lion, names={**BETAS, **DECAY}):
    """The sign of a running mean (arXiv:2302.06675); see `gradloom.optim.Lion`."""


class AdaBelief(RuleOptimizer, of=optim.AdaBelief, names={**BETAS, **EPS, **DECAY}):
    """Adam with the variance about the running mean (arXiv:2010.07468); see `gradloom.optim.AdaBelief`."""


class Yogi(RuleOptimizer, of=optim.Yogi, names={**BETAS, **EPS, **DECAY}):
    """Adam whose second moment shrinks slowly (Zaheer et al., 2018); see `gradloom.optim.Yogi`."""


class Adan(RuleOptimizer, of=optim.Adan, names={**BETAS3, **EPS, **DECAY}):
    """Adam with Nesterov's momentum by differences of gradients (arXiv:2208.06677); see `gradloom.optim.Adan`."""


class ADOPT(RuleOptimizer, of=optim.ADOPT, names={**BETAS, **EPS, **DECAY}):
    """Adam whose gradient is divided by the root of the second moment before it (arXiv:2411.02853); see `gradloom.optim.ADOPT`."""


class AdEMAMix(RuleOptimizer, of=optim.AdEMAMix, names={**BETAS3, **EPS, **DECAY}):
    """Adam with a second, slow running mean of the gradient (arXiv:2409.03137); see `gradloom.optim.AdEMAMix`."""


class SophiaG(RuleOptimizer, of=optim.SophiaG, names={**BETAS, **same("rho", "weight_decay"), **EPS}):
    """Momentum divided by an estimate of the Hessian's diagonal, clipped (arXiv:2305.14342); see `gradloom.optim.SophiaG`.

    Example:
        >>> import numpy as np
        >>> optimizer = SophiaG(0.5, betas=(0.0, 0.0), rho=1.0, weight_decay=0.0, bs=1)
        >>> params, curvature = {"w": np.array([1.0, 1.0])}, np.array([1.0, 100.0])
        >>> state = optimizer.update_hessian({"w": curvature}, optimizer.init(params))
        >>> optimizer.update(params, {"w": curvature * params["w"]}, state)[0]
        {'w': array([0.5, 0.5])}
    """

    def update_hessian(self, estimates: Mapping[str, Any], state: State) -> State:
        """The state with new estimates of the Hessian's diagonal in its running mean; changes no argument.

        Args:
            estimates: {name: array of the parameter's shape}, such as u * (H u) for random signs u, or squares of gradients whose targets
                are drawn from the model's own output. Parameters without one keep theirs.
            state: What `init` or the last `update` gave.

        Raises:
            OptionError: The state has no such parameter.
            ShapeError: An estimate has another shape than its parameter.
        """
        new = dict(state)
        for name, estimate in estimates.items():
            if name not in state:
                raise OptionError(
                    explain(f"update_hessian: the state has no parameter '{name}'", expected=some(state), given=name)
                )
            slots = state[name]
            old, estimate = slots["hessian"], like(slots["hessian"], raw(estimate))
            if tuple(old.shape) != tuple(estimate.shape):
                raise ShapeError(
                    explain(
                        f"the Hessian's estimate of '{name}' has another shape than the parameter",
                        expected=list(old.shape),
                        given=list(estimate.shape),
                    )
                )
            beta2 = self.options(slots["step"])["betas"][1]
            new[name] = {**slots, "hessian": ops.add(ops.multiply(old, beta2), ops.multiply(estimate, 1.0 - beta2))}
        return new


class ScheduleFree(RuleOptimizer):
    """Base of the Schedule-Free optimizers: parameters are y, where gradients are taken; `evaluation_parameters` gives the average x."""

    coded = ("r", "weight_lr_power")

    def _beta(self, options: dict[str, Any]) -> Any:
        """What x weighs in y."""
        raise NotImplementedError

    def evaluation_parameters(self, params: Any, state: State) -> Any:
        """The average x of the steps, to evaluate the model with, or to keep; in the container class of `params`.

        Args:
            params: What the last `update` gave.
            state: What it gave beside them.
        """
        new = dict(params)
        for name, p in params.items():
            slots = state.get(name)
            if slots is None:
                raise OptionError(
                    explain(
                        f"the state has no entry for the parameter '{name}'",
                        expected="what update() gave",
                        given=some(state),
                    )
                )
            updates = number(slots["step"], int)
            if updates == 0:
                continue  # z is not there yet
            steps = slots["step"] if updates is None else updates
            beta = self._beta(self.options(steps - 1))  # of the last update
            # y = (1 - beta) * z + beta * x
            x = ops.add(p, ops.multiply(ops.subtract(p, slots["z"]), 1.0 / beta - 1.0))
            new[name] = x if updates is not None else ops.where(ops.equal(steps, 0), p, x)
        return same_container(params, new)


class SGDScheduleFree(ScheduleFree, of=optim.SGDScheduleFree, names=same("momentum", "weight_decay")):
    """Schedule-Free SGD (arXiv:2405.15682); see `gradloom.optim.SGDScheduleFree`.

    Example:
        >>> import numpy as np
        >>> optimizer = SGDScheduleFree(0.25)
        >>> params = {"w": np.array([1.0])}
        >>> state = optimizer.init(params)
        >>> for _ in range(2):
        ...     params, state = optimizer.update(params, {"w": 2 * params["w"]}, state)
        >>> params["w"].round(4), optimizer.evaluation_parameters(params, state)["w"].round(4)
        (array([0.3625]), array([0.375]))
    """

    def _beta(self, options: dict[str, Any]) -> Any:
        return options["momentum"]


class AdamWScheduleFree(ScheduleFree, of=optim.AdamWScheduleFree, names={**BETAS, **EPS, **DECAY}):
    """Schedule-Free AdamW (arXiv:2405.15682); see `gradloom.optim.AdamWScheduleFree`."""

    def _beta(self, options: dict[str, Any]) -> Any:
        return options["betas"][0]


class LAMB(RuleOptimizer, of=optim.LAMB, names={**BETAS, **EPS, **DECAY}):
    """AdamW whose step has the size of the parameter, layer by layer (arXiv:1904.00962); see `gradloom.optim.LAMB`."""


class LARS(RuleOptimizer, of=optim.LARS, names={**same("momentum", "dampening", "weight_decay", "nesterov"), **EPS}):
    """SGD with a rate for each layer, by the norms of parameter and gradient (arXiv:1708.03888); see `gradloom.optim.LARS`."""


class NovoGrad(RuleOptimizer, of=optim.NovoGrad, names={**BETAS, **EPS, **DECAY}):
    """Adam with one second moment a layer (arXiv:1905.11286); see `gradloom.optim.NovoGrad`."""


class Shampoo(RuleOptimizer, of=optim.Shampoo, names={**same("momentum"), **EPS, **DECAY}):
    """Gradients preconditioned by a matrix for each axis (arXiv:1802.09568); see `gradloom.optim.Shampoo`."""

    coded = ("beta2",)


class SOAP(RuleOptimizer, of=optim.SOAP, names={**BETAS, **EPS, **DECAY}):
    """Adam in the eigenbasis of Shampoo's matrices (arXiv:2409.11321); see `gradloom.optim.SOAP`."""


class Prodigy(RuleOptimizer, of=optim.Prodigy, names={**BETAS, **EPS, **DECAY}):
    """Adam that finds its own rate (arXiv:2306.06101); all parameters together; see `gradloom.optim.Prodigy`."""
