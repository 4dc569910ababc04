"""`TrainModel`: a model with losses, regularizers and metrics, whose output `final_cost` is what is trained on."""

from __future__ import annotations

import copy
import fnmatch
import re
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import OptionError, explain, user_frame
from .connection import check_name
from .interface import Step, Wire, interface
from .model import Model
from .part import Layer, Part, Shapes, Wired, as_part


class FinalCost(Layer):
    """The weighted sum of losses, and of regularizers of parameters.

    Attributes:
        coefficients: One for each loss.
        regularizers: [(layer of one input, coefficient, pattern of parameters' names, the user's line)].
    """

    inputs = ("losses",)
    variadic = True
    reads_parameters = True

    def __init__(self) -> None:
        self.coefficients: list[float] = []
        self.regularizers: list[tuple[Layer, float, Any, str]] = []

    def make(self, **_: Any) -> Callable:
        penalties = [(layer.make(input=None), coef, pattern) for layer, coef, pattern, _ in self.regularizers]

        def final_cost(losses: list, parameters: dict[str, Any]) -> Any:
            total = None
            for loss, coef in zip(losses, self.coefficients, strict=True):
                term = loss if loss.ndim == 0 else loss.mean()
                term = term if coef == 1 else term * coef
                total = term if total is None else total + term
            for penalty, coef, pattern in penalties:
                for name, parameter in parameters.items():
                    if matches(pattern, name):
                        term = penalty(parameter)
                        term = term if coef == 1 else term * coef
                        total = term if total is None else total + term
            return total

        return final_cost

    def relate(self, shapes: Shapes) -> Shapes:
        return {"output": ()}

    def check(self, names: Iterable[str]) -> None:
        """Raises where a pattern matches no parameter."""
        for layer, _, pattern, line in self.regularizers:
            if not any(matches(pattern, name) for name in names):
                raise OptionError(
                    explain(
                        f"the regularizer {layer.label} has no parameter to work on",
                        expected=", ".join(names),
                        given=repr(getattr(pattern, "pattern", pattern)),
                        where=line,
                    )
                )


def matches(pattern: Any, name: str) -> bool:
    """Whether a parameter is meant: by a name as file names have patterns ("*.weight"), a regular expression, or one of several."""
    if isinstance(pattern, str):
        return fnmatch.fnmatchcase(name, pattern)
    if isinstance(pattern, re.Pattern):
        return pattern.search(name) is not None
    return any(matches(p, name) for p in pattern)


class TrainModel(Model):
    """A model with what it is trained for: losses, regularizers and metrics.

    Its outputs are those of the model, each loss and metric by its name, and `final_cost`: the sum of the losses and
    regularizers, each times its coefficient. Parameters are called as in the model, so that values can be exchanged. The
    model itself is not changed.

    Args:
        model: The model, or a layer.

    Example:
        >>> import numpy as np
        >>> import gradloom as gl
        >>> from gradloom.models import L2, Linear, Model, SquaredError, TrainModel
        >>> model = Model()
        >>> model |= Linear(1)
        >>> train = TrainModel(model)
        >>> train.add_loss(SquaredError(), target="y")
        >>> train.add_regularization(L2(), coef=0.1, keys="*.weight")
        >>> compiled = gl.compile(train, "numpy", shapes={"input": [4, 3]})
        >>> compiled.input_keys, compiled.output_keys
        (('input', 'y'), ('output', 'squared_error', 'final_cost'))
        >>> batch = {"input": np.ones((4, 3), "float32"), "y": np.zeros((4, 1), "float32")}
        >>> outputs, gradients = compiled.evaluate(
        ...     compiled.get_parameters(), batch, output_gradients={"final_cost": 1.0}
        ... )
        >>> list(gradients)
        ['linear.weight', 'linear.bias']
    """

    def __init__(self, model: Part):
        super().__init__(model.name)
        part = as_part(model)
        if isinstance(part, Model):
            # The structure is copied; the layers are the same.
            memo = {id(layer): layer for layer in _layers(part)}
            vars(self).update({k: v for k, v in vars(copy.deepcopy(part, memo)).items() if k != "_modules"})
        else:
            self |= part
        outputs = interface(self).outputs
        if not outputs:
            raise OptionError(explain("a model without outputs cannot be trained", where=user_frame()))
        self._main = self.output_keys[0]
        for name, wire in outputs.items():
            wire.name, wire.expose = name, True
            self._names[name] = wire
        self._cost: Step | None = None

    def add_loss(self, loss: Any, *, coef: float = 1.0, name: str | None = None, **connections: Any) -> None:
        """Adds a loss to the cost.

        Args:
            loss: A layer such as `SquaredError()`, or a function `(input, target)` over Tensors; its mean is taken if it
                is not a number.
            coef: Its weight in `final_cost`.
            name: Of the output that gives it. Default: the layer's name.
            connections: For its keys; by default its first input is the model's output, the second "target".
        """
        wire = self._attach(loss, name, connections)
        step = self._final()
        step.wires["losses"].append(wire)
        step.part.coefficients.append(float(coef))

    def add_regularization(self, regularizer: Any, *, coef: float = 1.0, keys: Any = "*.weight") -> None:
        """Adds a penalty of parameters to the cost.

        Args:
            regularizer: A layer of one input such as `L2()`, or a function of a Tensor, that gives a number.
            coef: Its weight in `final_cost`.
            keys: Which parameters: a name, a pattern such as "*.weight", a compiled regular expression, or a list of
                them.
        """
        layer = as_part(regularizer)
        if not isinstance(layer, Layer) or len(layer.input_keys) != 1:
            raise OptionError(explain("a regularizer has one input", given=repr(regularizer), where=user_frame()))
        pattern = keys if isinstance(keys, (str, re.Pattern)) else tuple(keys)
        self._final().part.regularizers.append((layer, float(coef), pattern, user_frame()))

    def add_metric(self, metric: Any, *, name: str | None = None, **connections: Any) -> None:
        """Adds an output that is no part of the cost; arguments as for `add_loss`."""
        self._attach(metric, name, connections)

    def _attach(self, layer: Any, name: str | None, connections: dict[str, Any]) -> Wire:
        wired = layer if isinstance(layer, Wired) else as_part(layer).connect(**connections)
        part = wired.part
        given = dict(wired.connections)
        defaults = dict(zip(part.input_keys, (self._main, "target"), strict=False))
        for key, default in defaults.items():
            given.setdefault(key, default)
        name = name or self._unused(part.label)
        check_name(name)
        if name in self._names:
            raise OptionError(
                explain(f"the model has a connection '{name}' already", where=user_frame(), do="give another name=")
            )
        step = self._put(wired, given)
        wire = self._output(step, part.output_keys[0])
        wire.name, wire.expose = wire.name or name, True
        self._names[wire.name] = wire
        return wire

    def _unused(self, base: str) -> str:
        k, name = 0, base
        while name in self._names:
            k += 1
            name = f"{base}_{k}"
        return name

    def _final(self) -> Step:
        if self._cost is None:
            step = self._put(Wired(FinalCost(), {}), {"losses": []})
            wire = self._output(step, "output")
            wire.name, wire.expose = "final_cost", True
            self._names["final_cost"] = wire
            self._cost = step
        return self._cost


def _layers(model: Model) -> Iterable[Part]:
    for _, part in model.parts():
        if isinstance(part, Model):
            yield from _layers(part)
        else:
            yield part
