"""Sophia: steps by a clipped quotient of momentum and an estimate of the Hessian's diagonal."""

from __future__ import annotations

from typing import Any

from .rule import rule


def _scalars(m: Any, o: dict, step: Any) -> tuple:
    beta1 = o["betas"][0]
    return 1.0 - beta1, o["lr"], o["rho"] * o["bs"], o["eps"], 1.0 - o["lr"] * o["weight_decay"]


@rule(
    state=lambda flags: ("exp_avg", "hessian"),
    flags=lambda o: {"maximize": bool(o["maximize"]), "decay": o["weight_decay"] != 0},
    scalars=_scalars,
    names=("rest1", "lr", "scale", "eps", "weight_decay"),
)
def sophia(xp, p, g, *rest, maximize, decay):
    """p - lr * (clip(m / (rho * bs * max(h, 0) + eps), -1, 1) + weight_decay * p), with m the running mean of g, h the state `hessian`.

    The rule leaves h as it is: `SophiaG.update_hessian` changes it, every few steps.

    Liu et al., 2023 (arXiv:2305.14342); the numbers of the authors' PyTorch code, whose h has no negative elements.
    """
    m, h = rest[0], rest[1]
    rest1, lr, scale, eps, weight_decay = rest[-5:]
    if maximize:
        g = -g
    if decay:
        p = p * weight_decay  # 1 - lr * weight_decay
    m = m + rest1 * (g - m)
    step = m / (scale * xp.maximum(h, 0) + eps)
    return p - lr * xp.minimum(xp.maximum(step, -1), 1), m, h
