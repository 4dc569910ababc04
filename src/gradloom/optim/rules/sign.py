"""Lion: the sign of a running mean."""

from __future__ import annotations

from typing import Any

from .rule import rule


def _scalars(m: Any, o: dict, step: Any) -> tuple:
    beta1, beta2 = o["betas"]
    return o["lr"], beta1, 1.0 - beta1, beta2, 1.0 - beta2, 1.0 - o["lr"] * o["weight_decay"]


@rule(
    state=lambda flags: ("exp_avg",),
    flags=lambda o: {"maximize": bool(o["maximize"]), "decay": o["weight_decay"] != 0},
    scalars=_scalars,
    names=("lr", "beta1", "rest1", "beta2", "rest2", "weight_decay"),
    counts=False,
)
def lion(xp, p, g, *rest, maximize, decay):
    """p - lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * p), and then m = beta2 * m + (1 - beta2) * g.

    Chen et al., 2023 (arXiv:2302.06675); the numbers of the authors' PyTorch code and of `optax.lion`.
    """
    m = rest[0]
    lr, beta1, rest1, beta2, rest2, weight_decay = rest[-6:]
    if maximize:
        g = -g
    if decay:
        p = p * weight_decay  # 1 - lr * weight_decay
    return p - lr * xp.sign(beta1 * m + rest1 * g), beta2 * m + rest2 * g
