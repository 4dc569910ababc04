"""The data and initial weights that all contestants start from.

Weights are named as in a ``Sequential`` of the layers (``0.weight``, ``0.bias``, ``2.weight``, ...) and have
PyTorch's layouts (out, in) and (out, in, kh, kw); hand-written contestants take them in order.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEARNING_RATE = 1e-3
DROPOUT = 0.5
TINY_SIZES = (16, 32, 16)
MLP_SIZES = (784, 256, 128, 10)
LENET_CONVOLUTIONS = ((6, 1, 5, 5), (16, 6, 5, 5))  # out, in, kernel; the first padded by 2
LENET_LINEAR = (400, 120, 84, 10)


@dataclass(frozen=True)
class Workload:
    """Inputs, targets and named initial weights; float32, class targets int64."""

    x: np.ndarray
    y: np.ndarray
    weights: dict[str, np.ndarray]


def tiny() -> Workload:
    """MLP 16-32-16, batch 8, regression."""
    rng = np.random.default_rng(1)
    return Workload(
        x=_normal(rng, 8, TINY_SIZES[0]),
        y=_normal(rng, 8, TINY_SIZES[-1]),
        weights=_linear_weights(rng, TINY_SIZES, first=0, stride=2),
    )


def mlp(batch: int = 64, dropout: bool = False) -> Workload:
    """MLP 784-256-128-10, ten classes; ``dropout``: a layer more between two linear ones, for the names."""
    rng = np.random.default_rng(2)
    x, y = _labelled_twice(rng, batch, (MLP_SIZES[0],), classes=10)
    return Workload(
        x=x,
        y=y,
        weights=_linear_weights(rng, MLP_SIZES, first=0, stride=3 if dropout else 2),
    )


def lenet(batch: int = 64) -> Workload:
    """Images 1x28x28, ten classes; two convolutions (layers 0 and 3), three linear layers (7, 9, 11)."""
    rng = np.random.default_rng(3)
    weights = {}
    for index, shape in zip((0, 3), LENET_CONVOLUTIONS, strict=True):
        weights |= _weight_and_bias(rng, str(index), shape)
    weights |= _linear_weights(rng, LENET_LINEAR, first=7, stride=2)
    x, y = _labelled_twice(rng, batch, (1, 28, 28), classes=10)
    return Workload(x=x, y=y, weights=weights)


def deep_mlp(layers: int = 64, width: int = 32, batch: int = 64) -> Workload:
    """``layers`` linear layers with relus between them, ``width`` classes."""
    rng = np.random.default_rng(4)
    sizes = (width,) * (layers + 1)
    x, y = _labelled_twice(rng, batch, (width,), classes=width)
    return Workload(
        x=x,
        y=y,
        weights=_linear_weights(rng, sizes, first=0, stride=2, gain=6**0.5),
    )


def chain(tensors: int) -> Workload:
    """``tensors`` / 2 linear layers 4-4, batch 4, regression: little arithmetic, many arrays to hand over."""
    rng = np.random.default_rng(5)
    sizes = (4,) * (tensors // 2 + 1)
    return Workload(x=_normal(rng, 4, 4), y=_normal(rng, 4, 4), weights=_linear_weights(rng, sizes, first=0, stride=1))


def _labelled_twice(
    rng: np.random.Generator, batch: int, shape: tuple[int, ...], classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Every input twice, with two different labels.

    A batch that is trained on for thousands of steps would be learnt by heart; this keeps the loss above ln 2
    and the gradients of a size that training has.
    """
    half = batch // 2
    x = _normal(rng, half, *shape)
    y = rng.integers(0, classes, half)
    other = (y + rng.integers(1, classes, half)) % classes
    return np.concatenate([x, x]), np.concatenate([y, other])


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _linear_weights(
    rng: np.random.Generator, sizes: Sequence[int], first: int, stride: int, gain: float = 1.0
) -> dict[str, np.ndarray]:
    weights = {}
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        weights |= _weight_and_bias(rng, str(first + stride * number), (outputs, inputs), gain)
    return weights


def _weight_and_bias(
    rng: np.random.Generator, name: str, shape: tuple[int, ...], gain: float = 1.0
) -> dict[str, np.ndarray]:
    """Uniform within gain / sqrt(inputs of a unit), as PyTorch's layers start (gain 1)."""
    bound = 1 / np.sqrt(np.prod(shape[1:]))
    return {
        f"{name}.weight": rng.uniform(-gain * bound, gain * bound, shape).astype(np.float32),
        f"{name}.bias": rng.uniform(-bound, bound, shape[0]).astype(np.float32),
    }
