"""Activations: elementwise, or along one axis."""

from __future__ import annotations

from typing import Any

from ... import nn
from ..part import Shapes
from .base import Direct, along, at, at_least, choice, one_shape


class _Activation(Direct):
    relate = one_shape


class Relu(_Activation):
    """max(input, 0)."""

    wires = nn.ReLU


class Relu6(_Activation):
    """min(max(input, 0), 6)."""

    wires = nn.ReLU6


class LeakyRelu(_Activation):
    """input where it is positive, slope * input elsewhere."""

    wires = nn.LeakyReLU
    renamed = {"slope": "negative_slope"}

    def __init__(self, slope: float = 0.01, name: str | None = None):
        self.slope, self.name = slope, name


class Elu(_Activation):
    """input where it is positive, alpha * (exp(input) - 1) elsewhere."""

    wires = nn.ELU

    def __init__(self, alpha: float = 1.0, name: str | None = None):
        self.alpha, self.name = alpha, name


class Celu(_Activation):
    """input where it is positive, alpha * (exp(input / alpha) - 1) elsewhere."""

    wires = nn.CELU

    def __init__(self, alpha: float = 1.0, name: str | None = None):
        self.alpha, self.name = alpha, name


class Selu(_Activation):
    """scale * (input where it is positive, alpha * (exp(input) - 1) elsewhere), with the constants of Klambauer et al. 2017."""

    wires = nn.SELU


class Gelu(_Activation):
    """input times the normal distribution function of it.

    Args:
        approximate: "none", or "tanh" for Hendrycks and Gimpel's formula.
        name: Its name in models.
    """

    wires = nn.GELU

    def __init__(self, approximate: str = "none", name: str | None = None):
        self.approximate, self.name = choice(self, "approximate", approximate, ("none", "tanh")), name


class Silu(_Activation):
    """input * sigmoid(input)."""

    wires = nn.SiLU


class Mish(_Activation):
    """input * tanh(softplus(input))."""

    wires = nn.Mish


class Sigmoid(_Activation):
    """1 / (1 + exp(-input))."""

    wires = nn.Sigmoid


class LogSigmoid(_Activation):
    """log(sigmoid(input))."""

    wires = nn.LogSigmoid


class HardSigmoid(_Activation):
    """min(max(input + 3, 0), 6) / 6."""

    wires = nn.Hardsigmoid


class HardSwish(_Activation):
    """input * min(max(input + 3, 0), 6) / 6."""

    wires = nn.Hardswish


class Tanh(_Activation):
    """The hyperbolic tangent."""

    wires = nn.Tanh


class HardTanh(_Activation):
    """min(max(input, low), high)."""

    wires = nn.Hardtanh
    renamed = {"low": "min_val", "high": "max_val"}

    def __init__(self, low: float = -1.0, high: float = 1.0, name: str | None = None):
        self.low, self.high, self.name = low, high, name


class Softplus(_Activation):
    """log(1 + exp(beta * input)) / beta, and input itself where beta * input > threshold."""

    wires = nn.Softplus

    def __init__(self, beta: float = 1.0, threshold: float = 20.0, name: str | None = None):
        self.beta, self.threshold, self.name = beta, threshold, name


class Softsign(_Activation):
    """input / (1 + |input|)."""

    wires = nn.Softsign


class Softmax(_Activation):
    """exp(input) / sum(exp(input)) along an axis."""

    wires = nn.Softmax
    renamed = {"axis": "dim"}

    def __init__(self, axis: int = -1, name: str | None = None):
        self.axis, self.name = axis, name


class LogSoftmax(_Activation):
    """input - log(sum(exp(input))) along an axis."""

    wires = nn.LogSoftmax
    renamed = {"axis": "dim"}

    def __init__(self, axis: int = -1, name: str | None = None):
        self.axis, self.name = axis, name


class Softmin(_Activation):
    """exp(-input) / sum(exp(-input)) along an axis."""

    wires = nn.Softmin
    renamed = {"axis": "dim"}

    def __init__(self, axis: int = -1, name: str | None = None):
        self.axis, self.name = axis, name


class SoftShrink(_Activation):
    """sign(input) * max(|input| - threshold, 0)."""

    wires = nn.Softshrink
    renamed = {"threshold": "lambd"}

    def __init__(self, threshold: float = 0.5, name: str | None = None):
        at_least(self, 0, threshold=threshold)
        self.threshold, self.name = threshold, name


class HardShrink(_Activation):
    """input where |input| > threshold, 0 elsewhere."""

    wires = nn.Hardshrink
    renamed = {"threshold": "lambd"}

    def __init__(self, threshold: float = 0.5, name: str | None = None):
        at_least(self, 0, threshold=threshold)
        self.threshold, self.name = threshold, name


class TanhShrink(_Activation):
    """input - tanh(input)."""

    wires = nn.Tanhshrink


class Glu(Direct):
    """a * sigmoid(b), where a and b are the halves of input along an axis."""

    wires = nn.GLU
    renamed = {"axis": "dim"}

    def __init__(self, axis: int = -1, name: str | None = None):
        self.axis, self.name = axis, name

    def relate(self, shapes: Shapes) -> Shapes:
        inside, outside = at(shapes.get("input"), self.axis), at(shapes.get("output"), self.axis)
        return along(
            shapes, self.axis, None if outside is None else 2 * outside, None if inside is None else inside // 2
        )


class PRelu(_Activation):
    """input where it is positive, weight * input elsewhere: a slope that is learned.

    Args:
        number: Size of weight: 1, or one for each of the channels, axis 1.
        start: What weight is at first.
        name: Its name in models.
    """

    parameters = ("weight",)
    wires = nn.PReLU
    renamed = {"number": "num_parameters", "start": "init"}

    def __init__(self, number: int = 1, start: float = 0.25, name: str | None = None):
        self.number, self.start, self.name = number, start, name

    def relate(self, shapes: Shapes) -> Shapes:
        found: Any = one_shape(self, shapes)
        if self.number != 1 and "input" in found and len(found["input"]) > 1:
            x = found["input"]
            found["input"] = (x[0], self.number, *x[2:])
        return {**found, "weight": (self.number,)}
