"""Schedule-Free SGD and AdamW."""

from __future__ import annotations

from typing import Any

from .adam import correction
from .rule import rule

NUMBERS = {"weight_sum": lambda o: 0.0, "lr_max": lambda o: 0.0}


def _rate(m: Any, o: dict, step: Any) -> Any:
    return o["lr"] * (m.minimum(step / o["warmup_steps"], 1.0) if o["warmup_steps"] else 1.0)


def _weight(m: Any, o: dict, step: Any, lr_max: Any) -> Any:
    """What the z of this step weighs in the average, with the largest rate so far."""
    return m.pow(step, o["r"]) * m.pow(lr_max, o["weight_lr_power"])


def _advance(m: Any, o: dict, step: Any, weight_sum: Any, lr_max: Any) -> tuple:
    lr_max = m.maximum(lr_max, _rate(m, o, step))
    return weight_sum + _weight(m, o, step, lr_max), lr_max


def _scalars(m: Any, o: dict, step: Any, weight_sum: Any, lr_max: Any, beta: Any) -> tuple:
    lr = _rate(m, o, step)
    weight = _weight(m, o, step, m.maximum(lr_max, lr))
    share = weight / m.maximum(weight_sum + weight, 1e-300)  # 0 as long as the rate is 0
    return (
        m.where(step == 1, 1.0, 0.0),
        m.where(step == 1, 0.0, share),  # z is p then
        lr * (1.0 - beta * (1.0 - share)),
        lr,
        o["weight_decay"],
    )


def _flags(o: dict) -> dict:
    return {"maximize": bool(o["maximize"]), "decay": o["weight_decay"] != 0}


def _sgd_scalars(m: Any, o: dict, step: Any, weight_sum: Any, lr_max: Any) -> tuple:
    return _scalars(m, o, step, weight_sum, lr_max, o["momentum"])


@rule(
    state=lambda flags: ("z",),
    flags=_flags,
    scalars=_sgd_scalars,
    names=("fresh", "share", "rate", "lr", "weight_decay"),
    numbers=NUMBERS,
    advance=_advance,
)
def sgd_schedule_free(xp, p, g, *rest, maximize, decay):
    """z - lr * g with the gradient at p = y = (1 - momentum) * z + momentum * x, and x the weighted average of all z.

    y is updated without x: y + share * (z - y) - lr * (1 - momentum * (1 - share)) * g, where `share` is the weight of this step's z in
    the average, t^r * lr_max^weight_lr_power over the sum of all weights. z starts as the parameter.

    Defazio et al., 2024 (arXiv:2405.15682); the numbers of the authors' `schedulefree.SGDScheduleFree`, and without warmup of
    `optax.contrib.schedule_free_sgd`, whose base optimizer starts the warmup one step later, at 0.
    """
    z = rest[0]
    fresh, share, rate, lr, weight_decay = rest[-5:]
    if maximize:
        g = -g
    if decay:
        g = g + weight_decay * p
    d = p - z
    return p - share * d - rate * g, z + fresh * d - lr * g


def _adamw_scalars(m: Any, o: dict, step: Any, weight_sum: Any, lr_max: Any) -> tuple:
    beta1, beta2 = o["betas"]
    root = m.sqrt(correction(m, beta2, step))
    return (beta2, 1.0 - beta2, root, o["eps"] * root, *_scalars(m, o, step, weight_sum, lr_max, beta1))


@rule(
    state=lambda flags: ("z", "exp_avg_sq"),
    flags=_flags,
    scalars=_adamw_scalars,
    names=("beta2", "rest2", "root", "eps", "fresh", "share", "rate", "lr", "weight_decay"),
    numbers=NUMBERS,
    advance=_advance,
)
def adamw_schedule_free(xp, p, g, *rest, maximize, decay):
    """`sgd_schedule_free` on g / (sqrt(v / c2) + eps) + weight_decay * p, with v the running mean of g^2, and beta1 for its momentum.

    Defazio et al., 2024 (arXiv:2405.15682); the numbers of the authors' `schedulefree.AdamWScheduleFree` 1.3, and without warmup of
    `optax.contrib.schedule_free_adamw`.
    """
    z, v = rest[0], rest[1]
    beta2, rest2, root, eps, fresh, share, rate, lr, weight_decay = rest[-9:]
    if maximize:
        g = -g
    v = beta2 * v + rest2 * (g * g)
    g = root * g / (xp.sqrt(v) + eps)
    if decay:
        g = g + weight_decay * p
    d = p - z
    return p - share * d - rate * g, z + fresh * d - lr * g, v
