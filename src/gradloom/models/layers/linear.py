"""Layers of weights: linear maps, embeddings, and stacks of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import nn
from ...dtypes import int64
from ...errors import OptionError, explain, user_frame
from ..model import Model
from ..part import Layer, Shapes, size
from ..shapes import last_axis
from .activation import Relu
from .base import at, at_least, first


class Linear(Layer):
    """`input @ weight.T + bias`: `nn.Linear` whose input size is found out.

    Args:
        dimension: Size of the result's last axis. Default: from the shape of a given weight or of the output.
        use_bias: Add a bias.
        name: Its name in models.

    Example:
        >>> import gradloom as gl
        >>> compiled = gl.compile(gl.models.Linear(10), "numpy", shapes={"input": [32, 20]})
        >>> {name: p.shape for name, p in compiled.get_parameters().items()}
        {'weight': (10, 20), 'bias': (10,)}
    """

    def __init__(self, dimension: int | None = None, use_bias: bool = True, name: str | None = None):
        at_least(self, 1, dimension=dimension)
        self.dimension, self.use_bias, self.name = dimension, use_bias, name

    @property
    def parameter_keys(self) -> tuple[str, ...]:
        return ("weight", "bias") if self.use_bias else ("weight",)

    def make(self, input: Any = None, weight: Any = None, output: Any = None, **_: Any) -> nn.Module:
        inside = size(weight, 1, "weight") if weight else size(input, -1)
        outside = self.dimension or (size(weight, 0, "weight") if weight else size(output, -1, "output"))
        return nn.Linear(inside, outside, bias=self.use_bias)

    def relate(self, shapes: Shapes) -> Shapes:
        weight = shapes.get("weight") or (None, None)
        outside = first(self.dimension, weight[0], at(shapes.get("output"), -1))
        inside = first(weight[1], at(shapes.get("input"), -1))
        return {**last_axis(shapes, inside, outside), "weight": (outside, inside), "bias": (outside,)}


class Embedding(Layer):
    """`weight[input]`: the rows of a table at indices (int64) of any shape.

    Args:
        number: Number of rows. Default: from the shape of a given weight.
        width: Width of a row. Default: from the shape of a given weight or of the output.
        padding_index: This row is 0 at first and gets no gradient.
        name: Its name in models.
    """

    dtypes = {"input": int64}
    dtyped = True
    parameters = ("weight",)

    def __init__(
        self,
        number: int | None = None,
        width: int | None = None,
        padding_index: int | None = None,
        name: str | None = None,
    ):
        at_least(self, 1, number=number, width=width)
        self.number, self.width, self.padding_index, self.name = number, width, padding_index, name

    def make(self, weight: Any = None, output: Any = None, **_: Any) -> nn.Module:
        width = self.width or (size(weight, 1, "weight") if weight else size(output, -1, "output"))
        return nn.Embedding(self.number or size(weight, 0, "weight"), width, self.padding_index)

    def relate(self, shapes: Shapes) -> Shapes:
        weight = shapes.get("weight") or (None, None)
        x, y = shapes.get("input"), shapes.get("output")
        width = first(self.width, weight[1], at(y, -1))
        found: Shapes = {"weight": (first(self.number, weight[0]), width)}
        if x is not None:
            found["output"] = (*x, width)
        if y is not None:
            found["input"] = y[:-1]
        return found


class MLP(Model):
    """Linear layers of these dimensions, each followed by its activation.

    Args:
        dimensions: Sizes of the last axes of the layers' results.
        activations: A layer, or None, for each of them. Default: `Relu`, and none for the last.
        use_bias: Add biases.
        name: Its name in models.

    Example:
        >>> import gradloom as gl
        >>> module = gl.models.MLP([8, 2]).to_module({"input": [None, 4]})
        >>> [(name, tuple(p.shape)) for name, p in module.named_parameters()]
        [('linear.weight', (8, 4)), ('linear.bias', (8,)), ('linear_1.weight', (2, 8)), ('linear_1.bias', (2,))]
    """

    def __init__(
        self,
        dimensions: Sequence[int],
        activations: Sequence[Any] | None = None,
        use_bias: bool = True,
        name: str | None = None,
    ):
        super().__init__(name)
        last = len(dimensions) - 1
        activations = [Relu() if k < last else None for k in range(last + 1)] if activations is None else activations
        if not dimensions or len(activations) != len(dimensions):
            raise OptionError(
                explain(
                    "MLP: each dimension has an activation, which may be None",
                    expected="one dimension or more, and as many activations",
                    given=f"dimensions={list(dimensions)}, {len(activations)} activations",
                    where=user_frame(),
                )
            )
        self.dimensions, self.activations, self.use_bias = tuple(dimensions), tuple(activations), use_bias
        for k, (dimension, activation) in enumerate(zip(dimensions, activations, strict=True)):
            linear = Linear(dimension, use_bias)
            if k == 0:
                self |= linear(input="input")
            else:
                self += linear
            if activation is not None:
                self += activation

    def options(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            "dimensions": self.dimensions,
            "activations": self.activations,
            "use_bias": self.use_bias,
            "name": self.name,
        }
