"""What NumPy alone takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import workloads
from benchmarks.harness import Step


def tiny() -> Step:
    """Forward and backward of the tiny MLP, by hand; returns the loss and the gradients."""
    work = workloads.tiny()
    x, y = work.x, work.y
    w1, b1, w2, b2 = work.weights.values()
    scale = np.float32(2 / y.size)

    def step() -> tuple[Any, ...]:
        hidden = x @ w1.T
        hidden += b1
        np.maximum(hidden, 0, out=hidden)
        difference = hidden @ w2.T
        difference += b2
        difference -= y
        loss = np.dot(difference.ravel(), difference.ravel()) / difference.size
        difference *= scale
        d_w2 = difference.T @ hidden
        d_b2 = difference.sum(0)
        d_hidden = difference @ w2
        d_hidden *= hidden > 0
        return loss, d_hidden.T @ x, d_hidden.sum(0), d_w2, d_b2

    return step


def add() -> Step:
    """A bare sum of two small arrays."""
    work = workloads.tiny()
    a, b, np_add = work.x, work.y, np.add
    return lambda: np_add(a, b)
