"""Classical models of a few layers, and the kernels that they use."""

from __future__ import annotations

from typing import Any

from ... import ops
from ..connection import IOKey
from ..model import Model
from ..part import Shapes
from .activation import Sigmoid
from .base import Direct, at, at_least, first
from .elementwise import Sign
from .linear import Linear


class _Kernel(Direct):
    inputs = ("left", "right")

    def relate(self, shapes: Shapes) -> Shapes:
        x, y, out = shapes.get("left"), shapes.get("right"), shapes.get("output")
        width = first(at(x, 1), at(y, 1))
        n, m = first(at(x, 0), at(out, 0)), first(at(y, 0), at(out, 1))
        return {"left": (n, width), "right": (m, width), "output": (n, m)}


class RBFKernel(_Kernel):
    """exp(-|x - y|**2 / (2 * length_scale**2)) of each row x of left (n, d) and y of right (m, d): (n, m).

    Args:
        length_scale: The scale of distances.
        name: Its name in models.
    """

    def __init__(self, length_scale: float = 1.0, name: str | None = None):
        at_least(self, 0, length_scale=length_scale)
        self.length_scale, self.name = length_scale, name

    @staticmethod
    def wires(left: Any, right: Any, length_scale: float) -> Any:
        squares = ops.square(left.unsqueeze(1) - right.unsqueeze(0)).sum(-1)
        return ops.exp(squares * (-0.5 / length_scale**2))


class PolynomialKernel(_Kernel):
    """(x @ y + coefficient) ** degree of each row x of left (n, d) and y of right (m, d): (n, m).

    Args:
        degree: The power.
        coefficient: Added to the products.
        name: Its name in models.
    """

    def __init__(self, degree: float = 2, coefficient: float = 1.0, name: str | None = None):
        self.degree, self.coefficient, self.name = degree, coefficient, name

    @staticmethod
    def wires(left: Any, right: Any, degree: float, coefficient: float) -> Any:
        return (left @ right.t() + coefficient) ** degree


class LogisticRegression(Model):
    """A `Linear` layer and the sigmoid of its result: outputs `output` (logits) and `probabilities`.

    Args:
        dimension: Number of results.
        name: Its name in models.
    """

    def __init__(self, dimension: int = 1, name: str | None = None):
        super().__init__(name)
        self.dimension = dimension
        self |= Linear(dimension)(input="input", output=IOKey("output", expose=True))
        self |= Sigmoid()(input="output", output="probabilities")

    def options(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"dimension": self.dimension, "name": self.name}


class LinearSVM(Model):
    """A `Linear` layer with one result and its sign: outputs `output` (to train with `HingeLoss`) and `decision`.

    Args:
        name: Its name in models.
    """

    def __init__(self, name: str | None = None):
        super().__init__(name)
        self |= Linear(1)(input="input", output=IOKey("output", expose=True))
        self |= Sign()(input="output", output="decision")

    def options(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"name": self.name}


class KernelizedSVM(Model):
    """A kernel of the input's rows with those of `support`, and a `Linear` layer with one result.

    Args:
        kernel: `RBFKernel()`, `PolynomialKernel()`, or another layer of `left` and `right`.
        name: Its name in models.

    Example:
        >>> from gradloom.models import KernelizedSVM, RBFKernel
        >>> model = KernelizedSVM(RBFKernel(2.0))
        >>> model.input_keys, model.output_keys
        (('input', 'support'), ('output',))
    """

    def __init__(self, kernel: Any, name: str | None = None):
        super().__init__(name)
        self.kernel = kernel
        self |= kernel(left="input", right="support")
        self += Linear(1)(output="output")

    def options(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"kernel": self.kernel, "name": self.name}
