"""Relatives of Adam that PyTorch does not have: AdaBelief, Yogi, Adan, ADOPT, AdEMAMix."""

from __future__ import annotations

from typing import Any

from .adam import correction
from .rule import rule

# --- AdaBelief


def _belief_flags(o: dict) -> dict:
    return {
        "amsgrad": bool(o["amsgrad"]),
        "maximize": bool(o["maximize"]),
        "decay": None if o["weight_decay"] == 0 else "decoupled" if o["weight_decouple"] else "l2",
        "rectify": bool(o["rectify"]),
    }


def _belief_scalars(m: Any, o: dict, step: Any) -> tuple:
    (beta1, beta2), lr, decay = o["betas"], o["lr"], o["weight_decay"]
    c1, c2 = correction(m, beta1, step), correction(m, beta2, step)
    rate, eps, plain = lr / c1 * m.sqrt(c2), o["eps"] * m.sqrt(c2), 0.0
    if o["rectify"]:
        # The length of a simple average that the running mean of squares is worth; up to 5 its root says nothing yet.
        most = 2.0 / (1.0 - beta2) - 1.0
        length = most - 2.0 * step * (1.0 - c2) / c2
        tractable = length >= 5
        scale = (length - 4.0) * (length - 2.0) * most / max((most - 4.0) * (most - 2.0), 1e-300) / length
        rate = m.where(tractable, rate * m.sqrt(m.maximum(scale, 0.0)), 0.0)
        plain = m.where(tractable, 0.0, lr / c1 if o["degenerated_to_sgd"] else 0.0)
        eps = o["eps"]
    if o["weight_decouple"]:
        decay = 1.0 - (decay if o["fixed_decay"] else lr * decay)
    return 1.0 - beta1, beta2, 1.0 - beta2, rate, eps, o["eps"], plain, decay


@rule(
    state=lambda flags: ("exp_avg", "exp_avg_var", *(("max_exp_avg_var",) if flags["amsgrad"] else ())),
    flags=_belief_flags,
    scalars=_belief_scalars,
    names=("rest1", "beta2", "rest2", "rate", "eps", "eps_var", "plain", "weight_decay"),
)
def adabelief(xp, p, g, *rest, amsgrad, maximize, decay, rectify):
    """p - lr / c1 * m / (sqrt(s / c2) + eps): Adam with s = beta2 * s + (1 - beta2) * (g - m)^2 + eps in the place of v.

    Rectified as RAdam: the rate is lr / c1 * sqrt(c2) * r(t) without a correction in the root, and where r does not exist yet the step
    is lr / c1 * m (or none).

    Zhuang et al., 2020 (arXiv:2010.07468); the numbers of the authors' `adabelief_pytorch` 0.2, without `rectify` those of
    `optax.adabelief`. With `amsgrad` and `rectify` the authors' code leaves the maximum unused; here it is used.
    """
    m, s = rest[0], rest[1]
    rest1, beta2, rest2, rate, eps, eps_var, plain, weight_decay = rest[-8:]
    if maximize:
        g = -g
    if decay == "decoupled":
        p = p * weight_decay  # 1 - lr * weight_decay
    elif decay == "l2":
        g = g + weight_decay * p
    m = m + rest1 * (g - m)
    d = g - m
    s = beta2 * s + rest2 * (d * d) + eps_var
    top = xp.maximum(rest[2], s) if amsgrad else s
    p = p - rate * (m / (xp.sqrt(top) + eps))
    if rectify:
        p = p - plain * m
    return (p, m, s, top) if amsgrad else (p, m, s)


# --- Yogi


def _initial(xp: Any, p: Any, o: dict) -> Any:
    return xp.full(shape=tuple(p.shape), value=o["initial_accumulator"], dtype=xp.dtype(p), like=p)


def _yogi_scalars(m: Any, o: dict, step: Any) -> tuple:
    beta1, beta2 = o["betas"]
    root = m.sqrt(correction(m, beta2, step))
    return 1.0 - beta1, 1.0 - beta2, o["lr"] / correction(m, beta1, step) * root, o["eps"] * root, o["weight_decay"]


@rule(
    state=lambda flags: ("exp_avg", "exp_avg_sq"),
    start={"exp_avg": _initial, "exp_avg_sq": _initial},
    flags=lambda o: {"maximize": bool(o["maximize"]), "decay": o["weight_decay"] != 0},
    scalars=_yogi_scalars,
    names=("rest1", "rest2", "rate", "eps", "weight_decay"),
)
def yogi(xp, p, g, *rest, maximize, decay):
    """Adam with v - (1 - beta2) * sign(v - g^2) * g^2 as the new v, so that v grows fast and shrinks slowly.

    Zaheer et al., 2018 (Adaptive Methods for Nonconvex Optimization, NeurIPS); both running means start at `initial_accumulator`, and
    the numbers are those of `torch_optimizer.Yogi` and `optax.yogi`.
    """
    m, v = rest[0], rest[1]
    rest1, rest2, rate, eps, weight_decay = rest[-5:]
    if maximize:
        g = -g
    if decay:
        g = g + weight_decay * p
    m = m + rest1 * (g - m)
    squares = g * g
    v = v - rest2 * (xp.sign(v - squares) * squares)
    return p - rate * (m / (xp.sqrt(v) + eps)), m, v


# --- Adan


def _adan_flags(o: dict) -> dict:
    return {
        "maximize": bool(o["maximize"]),
        "decay": None if o["weight_decay"] == 0 else "before" if o["no_prox"] else "after",
    }


def _adan_scalars(m: Any, o: dict, step: Any) -> tuple:
    (beta1, beta2, beta3), lr, decay = o["betas"], o["lr"], o["lr"] * o["weight_decay"]
    root = m.sqrt(correction(m, beta3, step))
    return (
        1.0 - beta1,
        beta2,
        1.0 - beta2,
        beta3,
        1.0 - beta3,
        m.where(step == 1, 0.0, 1.0),
        lr / correction(m, beta1, step) * root,
        lr * beta2 / correction(m, beta2, step) * root,
        o["eps"] * root,
        1.0 - decay if o["no_prox"] else 1.0 / (1.0 + decay),
    )


@rule(
    state=lambda flags: ("exp_avg", "exp_avg_diff", "exp_avg_sq", "neg_pre_grad"),
    flags=_adan_flags,
    scalars=_adan_scalars,
    names=("rest1", "beta2", "rest2", "beta3", "rest3", "later", "rate", "rate_diff", "eps", "weight_decay"),
)
def adan(xp, p, g, *rest, maximize, decay):
    """(p - lr * (m / c1 + beta2 * v / c2) / (sqrt(n / c3) + eps)) / (1 + lr * weight_decay).

    With d the change of the gradient (0 at the first step), m, v and n are the running means of g, d and (g + beta2 * d)^2.

    Xie et al., 2022 (arXiv:2208.06677), whose betas are 1 - these; the numbers of the authors' PyTorch code. `optax.adan` takes
    (g + (1 - beta2) * d)^2 and decays as `no_prox`, so it differs unless beta2 = 0.5.
    """
    m, v, n, before = rest[:4]
    rest1, beta2, rest2, beta3, rest3, later, rate, rate_diff, eps, weight_decay = rest[-10:]
    if maximize:
        g = -g
    d = later * (g + before)
    m = m + rest1 * (g - m)
    v = v + rest2 * (d - v)
    ahead = g + beta2 * d
    n = beta3 * n + rest3 * (ahead * ahead)
    if decay == "before":
        p = p * weight_decay  # 1 - lr * weight_decay
    p = p - (rate * m + rate_diff * v) / (xp.sqrt(n) + eps)
    if decay == "after":
        p = p * weight_decay  # 1 / (1 + lr * weight_decay)
    return p, m, v, n, -g


# --- ADOPT


def _adopt_flags(o: dict) -> dict:
    return {
        "maximize": bool(o["maximize"]),
        "decay": None if o["weight_decay"] == 0 else "decoupled" if o["decoupled"] else "l2",
        "clip": o["clip_power"] is not None,
    }


def _adopt_scalars(m: Any, o: dict, step: Any) -> tuple:
    (beta1, beta2), lr = o["betas"], o["lr"]
    beta2 = m.where(step == 1, 0.0, beta2)  # the first step only fills v
    return (
        m.where(step == 1, 0.0, 1.0 - beta1),
        beta2,
        1.0 - beta2,
        lr,
        o["eps"],
        0.0 if o["clip_power"] is None else m.pow(step - 1.0, o["clip_power"]),
        1.0 - lr * o["weight_decay"] if o["decoupled"] else o["weight_decay"],
    )


@rule(
    state=lambda flags: ("exp_avg", "exp_avg_sq"),
    flags=_adopt_flags,
    scalars=_adopt_scalars,
    names=("rest1", "beta2", "rest2", "lr", "eps", "limit", "weight_decay"),
)
def adopt(xp, p, g, *rest, maximize, decay, clip):
    """p - lr * m, with m the running mean of g / max(sqrt(v), eps), v that of g^2 up to the step before; the first step only fills v.

    What enters m is clipped to +- (t - 1)^clip_power.

    Taniguchi et al., 2024 (arXiv:2411.02853); the numbers of `optax.contrib.adopt`.
    """
    m, v = rest[0], rest[1]
    rest1, beta2, rest2, lr, eps, limit, weight_decay = rest[-7:]
    if maximize:
        g = -g
    if decay == "decoupled":
        p = p * weight_decay  # 1 - lr * weight_decay
    elif decay == "l2":
        g = g + weight_decay * p
    n = g / xp.maximum(xp.sqrt(v), eps)
    if clip:
        n = xp.minimum(xp.maximum(n, -limit), limit)
    m = m + rest1 * (n - m)
    return p - lr * m, m, beta2 * v + rest2 * (g * g)


# --- AdEMAMix


def _warm_alpha(m: Any, o: dict, step: Any) -> Any:
    """alpha, which grows linearly from 0 over `alpha_warmup` steps."""
    return o["alpha"] * (m.minimum(step / o["alpha_warmup"], 1.0) if o["alpha_warmup"] else 1.0)


def _warm_beta3(m: Any, o: dict, step: Any) -> Any:
    """beta3, whose half-life grows linearly from that of beta1 over `beta3_warmup` steps."""
    beta1, _, beta3 = o["betas"]
    if not o["beta3_warmup"]:
        return beta3
    first, last = (m.log(0.5) / m.log(beta + 1e-8) - 1.0 for beta in (beta1, beta3))
    done = step / o["beta3_warmup"]
    half = (1.0 - done) * first + done * last
    return m.where(done < 1, m.pow(0.5, 1.0 / m.maximum(half + 1.0, 1e-300)), beta3)


def _ademamix_scalars(m: Any, o: dict, step: Any) -> tuple:
    beta1, beta2, _ = o["betas"]
    root = m.sqrt(correction(m, beta2, step))
    return (
        1.0 - beta1,
        beta2,
        1.0 - beta2,
        1.0 - _warm_beta3(m, o, step),
        1.0 / correction(m, beta1, step),
        _warm_alpha(m, o, step),
        o["lr"] * root,
        o["eps"] * root,
        1.0 - o["lr"] * o["weight_decay"],
    )


@rule(
    state=lambda flags: ("exp_avg_fast", "exp_avg_slow", "exp_avg_sq"),
    flags=lambda o: {"maximize": bool(o["maximize"]), "decay": o["weight_decay"] != 0},
    scalars=_ademamix_scalars,
    names=("rest1", "beta2", "rest2", "rest3", "fast", "slow", "rate", "eps", "weight_decay"),
)
def ademamix(xp, p, g, *rest, maximize, decay):
    """p - lr * ((m1 / c1 + alpha * m2) / (sqrt(v / c2) + eps) + weight_decay * p), with m1 and m2 fast and slow running means of g.

    Pagliardini et al., 2024 (arXiv:2409.03137); the numbers of the authors' PyTorch code and of `optax.contrib.ademamix`.
    """
    m1, m2, v = rest[:3]
    rest1, beta2, rest2, rest3, fast, slow, rate, eps, weight_decay = rest[-9:]
    if maximize:
        g = -g
    if decay:
        p = p * weight_decay  # 1 - lr * weight_decay
    m1 = m1 + rest1 * (g - m1)
    m2 = m2 + rest3 * (g - m2)
    v = beta2 * v + rest2 * (g * g)
    return p - rate * ((fast * m1 + slow * m2) / (xp.sqrt(v) + eps)), m1, m2, v
