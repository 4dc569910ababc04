"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from .rule import rule


def _flags(o: dict) -> dict:
    return {
        "momentum_": o["momentum"] != 0,
        "decay": o["weight_decay"] != 0,
        "nesterov": bool(o["nesterov"]),
        "maximize": bool(o["maximize"]),
    }


def _scalars(m: Any, o: dict, step: Any) -> tuple:
    # PyTorch's buffer starts as the first gradient itself, without dampening; zeros and a dampening of 0 give the same.
    dampening = m.where(step == 1, 0.0, o["dampening"])
    return o["lr"], o["momentum"], 1.0 - dampening, o["weight_decay"]


@rule(
    state=lambda flags: ("momentum_buffer",) if flags["momentum_"] else (),
    flags=_flags,
    scalars=_scalars,
    names=("lr", "momentum", "keep", "weight_decay"),
    counts=False,
)
def sgd(xp, p, g, *rest, momentum_, decay, nesterov, maximize):
    """p - lr * b, with b = momentum * b + (1 - dampening) * g; Nesterov: p - lr * (g + momentum * b).

    PyTorch's `torch.optim.SGD`: the rate multiplies the buffer, not the gradient; `weight_decay` adds to the gradient.
    """
    lr, momentum, keep, weight_decay = rest[-4:]
    if maximize:
        g = -g
    if decay:
        g = g + weight_decay * p
    if not momentum_:
        return (p - lr * g,)
    b = momentum * rest[0] + keep * g
    return p - lr * (g + momentum * b if nesterov else b), b
