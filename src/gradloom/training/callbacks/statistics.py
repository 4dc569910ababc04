"""Norms of gradients and parameters, and what activations look like, now and then."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ... import tree
from ...errors import OptionError, explain
from ...nn.module import Module
from ...tensor.creation import default_generator
from ...tensor.grad_mode import enable_grad, no_grad
from ...tensor.tensor import Tensor
from ..step import compute_loss, forward, train_step
from .base import Callback
from .monitor import Updates


class Statistics(Callback):
    """Base of the callbacks that run a batch once more, line by line, before its step; the run is not changed by that.

    Attributes:
        steps: The steps that were looked at.
        history: {name: values}, one value for each of these steps.
    """

    def __init__(self, every: int):
        self._updates = Updates(every, type(self).__name__, "every")
        self.every = int(every)
        self.steps: list[int] = []
        self.history: dict[str, list[float]] = {}
        self._last: int | None = None

    def on_train_begin(self) -> None:
        """Looks for the loop, whose batches it needs."""
        if self.loop is None:
            raise OptionError(
                explain(
                    f"{type(self).__name__} runs the loop's batches again",
                    do="use it in TrainingLoop(callbacks=[...]), or call its measure(...) in your loop",
                )
            )

    def on_step_begin(self, step: int) -> None:
        """Looks, each `every` steps from the first."""
        if step % self.every or step == self._last or self.loop is None or self.loop.last_batch is None:
            return
        self._last = step
        loop = self.loop
        if loop._own_step is not train_step:
            raise OptionError(
                explain(
                    f"{type(self).__name__} runs forward and loss of gradloom's own step, and the loop has another",
                    do="leave train_step out, or call measure(...) in your step's code",
                )
            )
        inputs, targets = loop.last_batch
        found = self.measure(loop.model, loop.loss_fn, inputs, targets)
        self.steps.append(step)
        for name in {**self.history, **found}:
            values = self.history.setdefault(name, [float("nan")] * (len(self.steps) - 1))
            values.append(found.get(name, float("nan")))

    def measure(self, model: Any, loss_fn: Any, inputs: Any, targets: Any) -> dict[str, float]:
        """The statistics of one batch; model and random stream are left as they are."""
        raise NotImplementedError

    def latest(self) -> dict[str, float]:
        """The last values."""
        return {n: v[-1] for n, v in self.history.items()}

    def state_dict(self) -> dict[str, Any]:
        """What was found."""
        return {"steps": list(self.steps), "history": {n: list(v) for n, v in self.history.items()}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.steps = list(state_dict["steps"])
        self.history = {n: list(v) for n, v in state_dict["history"].items()}


@contextlib.contextmanager
def undone(model: Module) -> Iterator[None]:
    """What is run inside leaves buffers, gradients and the random stream as they were."""
    with no_grad():
        buffers = [(b, b.clone()) for b in model.buffers()]
    grads = [(p, p._grad) for p in model.parameters()]
    generator = default_generator.get_state()
    try:
        yield
    finally:
        with no_grad():
            for b, before in buffers:
                b.copy_(before)
        for p, grad in grads:
            p._grad = grad
        default_generator.set_state(generator)


class GradientStatistics(Statistics):
    """Norms of the gradients and of the parameters, by name: what vanishes, explodes, or does not learn.

    Each `every` steps the gradients of the batch (before clipping) are computed once more, so that the compiled step does not
    have to hand them out.

    Args:
        every: Steps between two looks.

    Attributes:
        steps: The steps that were looked at.
        history: {"grad_norm": values of all together, "grad_norm/fc.weight": ..., "param_norm/fc.weight": ...}.

    Example:
        >>> import gradloom as gl
        >>> from gradloom.training.callbacks import GradientStatistics
        >>> model = gl.nn.Linear(1, 1, bias=False)
        >>> with gl.no_grad():
        ...     _ = model.weight.fill_(2.0)
        >>> GradientStatistics().measure(model, gl.nn.MSELoss(), gl.ones(1, 1), gl.zeros(1, 1))
        {'grad_norm': 4.0, 'grad_norm/weight': 4.0, 'param_norm/weight': 2.0}
    """

    def __init__(self, every: int = 100):
        super().__init__(every)

    def measure(self, model: Any, loss_fn: Any, inputs: Any, targets: Any) -> dict[str, float]:
        """The norms of one batch."""
        with undone(model):
            for p in model.parameters():
                p._grad = None
            with enable_grad():
                compute_loss(loss_fn, forward(model, inputs), targets).backward()
            found = [(n, p, p.grad) for n, p in model.named_parameters()]
        grads = {n: norm(g) for n, _, g in found if g is not None}
        return {
            "grad_norm": float(np.sqrt(sum(v * v for v in grads.values()))),
            **{f"grad_norm/{n}": v for n, v in grads.items()},
            **{f"param_norm/{n}": norm(p) for n, p, _ in found},
        }


class ActivationStatistics(Statistics):
    """Mean, deviation and the share of zeros of what modules give: dead units, and scales that grow or vanish.

    Args:
        every: Steps between two looks.
        modules: Paths of the modules to look at. Default: those without children.

    Attributes:
        steps: The steps that were looked at.
        history: {"mean/0": values, "std/0": values, "zeros/0": values, ...}.

    Example:
        >>> import gradloom as gl
        >>> from gradloom.training.callbacks import ActivationStatistics
        >>> model = gl.nn.Sequential(gl.nn.ReLU())
        >>> ActivationStatistics().measure(model, None, gl.tensor([-1.0, -2.0, 0.0, 4.0]), None)
        {'mean/0': 1.0, 'std/0': 1.7320508075688772, 'zeros/0': 0.75}
    """

    def __init__(self, every: int = 100, modules: Any = None):
        super().__init__(every)
        self.modules = None if modules is None else [modules] if isinstance(modules, str) else list(modules)

    def measure(self, model: Any, loss_fn: Any, inputs: Any, targets: Any) -> dict[str, float]:
        """The statistics of one batch."""
        named = dict(model.named_modules())
        unknown = [n for n in self.modules or () if n not in named]
        if unknown:
            raise OptionError(
                explain(
                    f"ActivationStatistics: the model has no module '{unknown[0]}'",
                    expected=", ".join(n for n in named if n),
                )
            )
        leaves = [n for n, m in named.items() if not list(m.children())]
        found: dict[str, float] = {}

        def hook_of(name: str) -> Any:
            def hook(module: Any, args: Any, out: Any) -> None:
                tensors = [t for t in tree.flatten(out)[0] if isinstance(t, Tensor) and t.dtype.kind == "float"]
                if tensors:
                    x = np.concatenate([t.detach().numpy().astype(np.float64).ravel() for t in tensors])
                    found[f"mean/{name}"], found[f"std/{name}"] = float(x.mean()), float(x.std())
                    found[f"zeros/{name}"] = float((x == 0).mean())

            return hook

        handles = [named[n].register_forward_hook(hook_of(n or type(model).__name__)) for n in (self.modules or leaves)]
        try:
            with undone(model), no_grad():
                forward(model, inputs)
        finally:
            for handle in handles:
                handle.remove()
        return found


def norm(t: Any) -> float:
    """The root of the sum of squares, in float64."""
    return float(np.linalg.norm(t.detach().numpy().astype(np.float64)))
