"""Prodigy: Adam whose rate is estimated from the way travelled."""

from __future__ import annotations

from typing import Any

from .adam import correction
from .rule import rule


def _as_scalar(xp: Any, p: Any, value: float) -> Any:
    return xp.full(shape=(), value=value, dtype=xp.dtype(p), like=p)


def _flags(o: dict) -> dict:
    return {
        "decay": None if o["weight_decay"] == 0 else "decoupled" if o["decouple"] else "l2",
        "safeguard_warmup": bool(o["safeguard_warmup"]),
        "maximize": bool(o["maximize"]),
    }


def _scalars(m: Any, o: dict, step: Any) -> tuple:
    beta1, beta2 = o["betas"]
    beta3 = m.sqrt(beta2) if o["beta3"] is None else o["beta3"]
    scale = m.sqrt(correction(m, beta2, step)) / correction(m, beta1, step) if o["use_bias_correction"] else 1.0
    growth = m.minimum(o["growth_rate"], 1e30)  # without a bound it is inf: d * 1e30 is above any d_max, too
    return (
        o["lr"] * scale, beta1, 1.0 - beta1, beta2, 1.0 - beta2, beta3, o["eps"], o["weight_decay"],
        o["d0"], 1.0 / o["d0"], o["d_coef"], growth,
    )  # fmt: skip


@rule(
    state=lambda flags: ("exp_avg", "exp_avg_sq", "s", "p0", "d", "d_max", "d_numerator"),
    start={
        "p0": lambda xp, p, o: p,
        "d": lambda xp, p, o: _as_scalar(xp, p, o["d0"]),
        "d_max": lambda xp, p, o: _as_scalar(xp, p, o["d0"]),
        "d_numerator": lambda xp, p, o: _as_scalar(xp, p, 0.0),
    },
    flags=_flags,
    scalars=_scalars,
    names=(
        "rate", "beta1", "rest1", "beta2", "rest2", "beta3", "eps", "weight_decay",
        "d0", "per_d0", "d_coef", "growth_rate",
    ),
    per="tree",
)  # fmt: skip
def prodigy(xp, params, grads, *rest, decay, safeguard_warmup, maximize):
    """p - lr * d * m / (sqrt(v) + d * eps), with m and v the running means of d * g and d^2 * g * g, and d an estimate of |p0 - p*|.

    d is the largest so far of d_coef * r / sum |s|, at most growth_rate times what it was, with r = beta3 * r + lr * d^2 / d0 * <g, p0 - p>
    and s = beta3 * s + lr * d^2 / d0 * g over all parameters; `safeguard_warmup` leaves lr out of s.

    Mishchenko and Defazio, 2023 (arXiv:2306.06101), algorithm 4; the numbers of the authors' `prodigyopt`, and with `use_bias_correction`
    those of `optax.contrib.prodigy`. At a rate of 0 the means go on, as in optax; the authors' code leaves such steps out.
    """
    ms, vs, ss, starts, d, d_max, numerator = *rest[:4], *(column[0] for column in rest[4:7])
    rate, beta1, rest1, beta2, rest2, beta3, eps, weight_decay, d0, per_d0, d_coef, growth = rest[7:]
    if maximize:
        grads = [-g for g in grads]
    if decay == "l2":
        grads = [g + weight_decay * p for p, g in zip(params, grads, strict=True)]
    step = rate * d
    weight = d * per_d0 * (d if safeguard_warmup else step)
    ways = [xp.sum(g * (p0 - p)) for p, g, p0 in zip(params, grads, starts, strict=True)]
    ss = [beta3 * s + weight * g for s, g in zip(ss, grads, strict=True)]
    below = total(xp, [xp.sum(xp.abs(s)) for s in ss])
    moved = below > 0  # not before the first gradient
    numerator = xp.where(moved, beta3 * numerator + d * per_d0 * step * total(xp, ways), numerator)
    estimate = xp.where(moved, d_coef * numerator / xp.where(moved, below, xp.ones_like(below)), d)
    new_d = xp.where(d <= d0, xp.maximum(d, estimate), d)
    d_max = xp.maximum(d_max, estimate)
    new_d = xp.where(moved, xp.minimum(d_max, new_d * growth), d)
    ms = [beta1 * m + rest1 * d * g for m, g in zip(ms, grads, strict=True)]
    vs = [beta2 * v + rest2 * d * d * (g * g) for v, g in zip(vs, grads, strict=True)]
    step = xp.where(moved, step, xp.zeros_like(step))
    if decay == "decoupled":
        params = [p * (1.0 - weight_decay * step) for p in params]
    # Where all squares were 0, so is m: 0 / 0 is not meant.
    roots = [xp.sqrt(v) + new_d * eps for v in vs]
    new = [p - step * (m / xp.where(b > 0, b, xp.ones_like(b))) for p, m, b in zip(params, ms, roots, strict=True)]
    return [new, ms, vs, ss, starts, *(copies(xp, x, len(new)) for x in (new_d, d_max, numerator))]


def total(xp, numbers):
    """The sum of arrays of shape ()."""
    return xp.sum(xp.stack(*numbers, axis=0))


def copies(xp, number, count):
    """An array of shape () `count` times, each with memory of its own: engines may write over what they are given."""
    column = xp.broadcast_to(number, shape=(count,)) + xp.zeros(shape=(count,), dtype=xp.dtype(number), like=number)
    return [column[i] for i in range(count)]
