"""Rates scaled for each parameter by norms: LAMB, LARS, NovoGrad."""

from __future__ import annotations

from typing import Any

from ...dtypes import float32
from .adam import correction
from .rule import rule


def l2_norm(xp, x):
    """The root of the sum of squares, of shape (); of dtypes of 16 bits it is computed in float32."""
    if xp.dtype(x).itemsize == 2:
        return xp.astype(xp.sqrt(xp.sum(xp.square(xp.astype(x, dtype=float32)))), dtype=xp.dtype(x))
    return xp.sqrt(xp.sum(xp.square(x)))


def trust_ratio(xp, above, below, divisor):
    """above / divisor; 1 where one of the norms `above` and `below` is 0."""
    both = xp.logical_and(above > 0, below > 0)
    ones = xp.ones_like(above)
    return xp.where(both, above / xp.where(both, divisor, ones), ones)


# --- LAMB


def _lamb_scalars(m: Any, o: dict, step: Any) -> tuple:
    beta1, beta2 = o["betas"]
    root, scale = 1.0, 1.0
    if o["bias_correction"]:
        root = m.sqrt(correction(m, beta2, step))
        scale = root / correction(m, beta1, step)
    return 1.0 - beta1, beta2, 1.0 - beta2, scale, o["eps"] * root, o["weight_decay"], o["lr"]


@rule(
    state=lambda flags: ("exp_avg", "exp_avg_sq"),
    flags=lambda o: {
        "decay": o["weight_decay"] != 0,
        "adapt": bool(o["adapt"]),
        "trust_clip": bool(o["trust_clip"]),
        "maximize": bool(o["maximize"]),
    },
    scalars=_lamb_scalars,
    names=("rest1", "beta2", "rest2", "scale", "eps", "weight_decay", "lr"),
    per="tensor",
)
def lamb(xp, p, g, *rest, decay, adapt, trust_clip, maximize):
    """p - lr * |p| / |u| * u, with u = m / c1 / (sqrt(v / c2) + eps) + weight_decay * p, and m, v, c1, c2 as in Adam.

    Where |p| or |u| is 0 their ratio is taken as 1; `trust_clip` bounds it by 1.

    You et al., 2020 (arXiv:1904.00962), algorithm 2 with phi(z) = z; the numbers of `optax.lamb`.
    """
    m, v, rest1, beta2, rest2, scale, eps, weight_decay, lr = rest
    if maximize:
        g = -g
    m = m + rest1 * (g - m)
    v = beta2 * v + rest2 * (g * g)
    u = scale * (m / (xp.sqrt(v) + eps))
    if decay:
        u = u + weight_decay * p
    if adapt:
        size = l2_norm(xp, u)
        ratio = trust_ratio(xp, l2_norm(xp, p), size, size)
        lr = lr * (xp.minimum(ratio, 1.0) if trust_clip else ratio)
    return p - lr * u, m, v


# --- LARS


def _lars_flags(o: dict) -> dict:
    return {
        "momentum_": o["momentum"] != 0,
        "decay": o["weight_decay"] != 0,
        "nesterov": bool(o["nesterov"]),
        "adapt": bool(o["adapt"]),
        "trust_clip": bool(o["trust_clip"]),
        "maximize": bool(o["maximize"]),
    }


def _lars_scalars(m: Any, o: dict, step: Any) -> tuple:
    keep = 1.0 - m.where(step == 1, 0.0, o["dampening"])  # as in SGD: the buffer starts as the first gradient
    clip = 1.0 / m.maximum(o["lr"], 1e-30)
    return o["lr"], o["momentum"], keep, o["weight_decay"], o["trust_coeff"], o["eps"], clip


@rule(
    state=lambda flags: ("momentum_buffer",) if flags["momentum_"] else (),
    flags=_lars_flags,
    scalars=_lars_scalars,
    names=("lr", "momentum", "keep", "weight_decay", "trust_coeff", "eps", "clip"),
    per="tensor",
    counts=False,
)
def lars(xp, p, g, *rest, momentum_, decay, nesterov, adapt, trust_clip, maximize):
    """SGD with momentum by r * (g + weight_decay * p), r = trust_coeff * |p| / (|g| + weight_decay * |p| + eps).

    Where |p| or |g| is 0, r is 1. `trust_clip` takes min(r / lr, 1) in its place, so that the rate is at most lr (LARC).

    You et al., 2017 (arXiv:1708.03888); the numbers of timm's `Lars`: the rate multiplies the momentum buffer. The paper and `optax.lars`
    have it inside, which is the same as long as it does not change; optax divides by |g + weight_decay * p|.
    """
    lr, momentum, keep, weight_decay, trust_coeff, eps, clip = rest[-7:]
    if maximize:
        g = -g
    u = g + weight_decay * p if decay else g
    if adapt:
        size, slope = l2_norm(xp, p), l2_norm(xp, g)
        ratio = trust_ratio(xp, size, slope, (slope + weight_decay * size + eps) / trust_coeff)
        u = (xp.minimum(ratio * clip, 1.0) if trust_clip else ratio) * u
    if not momentum_:
        return (p - lr * u,)
    b = momentum * rest[0] + keep * u
    return p - lr * (u + momentum * b if nesterov else b), b


# --- NovoGrad


def _scalar_zero(xp: Any, p: Any, o: dict) -> Any:
    return xp.zeros(shape=(), dtype=xp.dtype(p), like=p)


def _novograd_scalars(m: Any, o: dict, step: Any) -> tuple:
    beta1, beta2 = o["betas"]
    return o["lr"], beta1, 1.0 - beta1 if o["grad_averaging"] else 1.0, beta2, 1.0 - beta2, o["eps"], o["weight_decay"]


@rule(
    state=lambda flags: ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if flags["amsgrad"] else ())),
    start={"exp_avg_sq": _scalar_zero, "max_exp_avg_sq": _scalar_zero},
    flags=lambda o: {
        "amsgrad": bool(o["amsgrad"]),
        "decay": o["weight_decay"] != 0,
        "maximize": bool(o["maximize"]),
    },
    scalars=_novograd_scalars,
    names=("lr", "beta1", "rest1", "beta2", "rest2", "eps", "weight_decay"),
    per="tensor",
    counts=False,
)
def novograd(xp, p, g, *rest, amsgrad, decay, maximize):
    """p - lr * m, with m = beta1 * m + g / (sqrt(v) + eps) + weight_decay * p, and v the running mean of the number |g|^2.

    v starts as the first |g|^2 that is not 0; `grad_averaging` multiplies what m is given by 1 - beta1.

    Ginsburg et al., 2019 (arXiv:1905.11286); the numbers of NVIDIA's code (timm's `NvNovoGrad`), and those of `optax.novograd` where no
    gradient before the first others is 0.
    """
    m, v = rest[0], rest[1]
    lr, beta1, rest1, beta2, rest2, eps, weight_decay = rest[-7:]
    if maximize:
        g = -g
    square = xp.square(l2_norm(xp, g))
    v = xp.where(v > 0, beta2 * v + rest2 * square, square)
    top = xp.maximum(rest[2], v) if amsgrad else v
    below = xp.sqrt(top) + eps
    u = g / xp.where(below > 0, below, xp.ones_like(below))
    if decay:
        u = u + weight_decay * p
    m = beta1 * m + rest1 * u
    return (p - lr * m, m, v, top) if amsgrad else (p - lr * m, m, v)
