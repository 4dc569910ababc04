"""Adadelta, Adagrad, RMSprop, Rprop: rates of their own for each element; and averaged SGD."""

from __future__ import annotations

from typing import Any

from .rule import rule


def _common(o: dict) -> dict:
    return {"maximize": bool(o["maximize"]), "decay": bool(o["weight_decay"] != 0)}


@rule(
    state=lambda flags: ("square_avg", "acc_delta"),
    flags=_common,
    scalars=lambda m, o, step: (o["lr"], o["rho"], 1.0 - o["rho"], o["eps"], o["weight_decay"]),
    names=("lr", "rho", "keep", "eps", "weight_decay"),
)
def adadelta(xp, p, g, *rest, maximize, decay):
    """p - lr * d, with d = sqrt(u + eps) / sqrt(v + eps) * g; v and u are the running means of g * g and d * d.

    u is the mean before this step. Zeiler, 2012 (arXiv:1212.5701); the numbers of `torch.optim.Adadelta`.
    """
    v, u, lr, rho, keep, eps, weight_decay = rest
    if maximize:
        g = -g
    if decay:
        g = g + weight_decay * p
    v = rho * v + keep * (g * g)
    d = xp.sqrt(u + eps) / xp.sqrt(v + eps) * g
    return p - lr * d, v, rho * u + keep * (d * d)


def _adagrad_start(xp: Any, p: Any, o: dict) -> Any:
    return xp.zeros_like(p) + float(o["initial_accumulator_value"])


@rule(
    state=lambda flags: ("sum",),
    start={"sum": _adagrad_start},
    flags=_common,
    scalars=lambda m, o, step: (o["lr"] / (1.0 + (step - 1) * o["lr_decay"]), o["eps"], o["weight_decay"]),
    names=("rate", "eps", "weight_decay"),
)
def adagrad(xp, p, g, *rest, maximize, decay):
    """p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps), with s the sum of all g * g, from initial_accumulator_value on.

    Duchi et al., 2011 (jmlr.org/papers/v12/duchi11a.html); the numbers of `torch.optim.Adagrad`.
    """
    s, rate, eps, weight_decay = rest
    if maximize:
        g = -g
    if decay:
        g = g + weight_decay * p
    s = s + g * g
    return p - rate * (g / (xp.sqrt(s) + eps)), s


def _rmsprop_flags(o: dict) -> dict:
    return {"momentum_": bool(o["momentum"] > 0), "centered": bool(o["centered"]), **_common(o)}


def _rmsprop_state(flags: dict) -> tuple:
    return (
        "square_avg",
        *(("momentum_buffer",) if flags["momentum_"] else ()),
        *(("grad_avg",) if flags["centered"] else ()),
    )


@rule(
    state=_rmsprop_state,
    flags=_rmsprop_flags,
    scalars=lambda m, o, step: (o["lr"], o["alpha"], 1.0 - o["alpha"], o["eps"], o["momentum"], o["weight_decay"]),
    names=("lr", "alpha", "keep", "eps", "momentum", "weight_decay"),
)
def rmsprop(xp, p, g, *rest, momentum_, centered, maximize, decay):
    """p - lr * b, with b = momentum * b + g / (sqrt(v) + eps), and v the running mean of g * g; centered: its variance.

    Tieleman and Hinton, 2012 (lecture 6.5 of their course), centered by Graves, 2013 (arXiv:1308.0850); the numbers of
    `torch.optim.RMSprop`.
    """
    lr, alpha, keep, eps, momentum, weight_decay = rest[-6:]
    if maximize:
        g = -g
    if decay:
        g = g + weight_decay * p
    v = alpha * rest[0] + keep * (g * g)
    spread = v
    if centered:
        mean = rest[-7] + keep * (g - rest[-7])
        spread = v - mean * mean
    b = g / (xp.sqrt(spread) + eps)
    if momentum_:
        b = momentum * rest[1] + b
    return (p - lr * b, v, *((b,) if momentum_ else ()), *((mean,) if centered else ()))


def _rprop_start(xp: Any, p: Any, o: dict) -> Any:
    return xp.zeros_like(p) + float(o["lr"])


@rule(
    state=lambda flags: ("prev", "step_size"),
    start={"step_size": _rprop_start},
    flags=lambda o: {"maximize": bool(o["maximize"])},
    scalars=lambda m, o, step: (*o["etas"], *o["step_sizes"]),
    names=("etaminus", "etaplus", "smallest", "largest"),
)
def rprop(xp, p, g, *rest, maximize):
    """p - s * sign(g); s grows by etaplus where g has the sign that it had, and shrinks by etaminus where that changed.

    Where it changed, g counts as 0 in this step and the next; the sign of NaN is 0. s starts at lr. Riedmiller and Braun, 1993
    (doi:10.1109/ICNN.1993.298623); the numbers of `torch.optim.Rprop`.
    """
    prev, s, etaminus, etaplus, smallest, largest = rest
    if maximize:
        g = -g
    turn = g * prev
    none = xp.zeros_like(g)
    s = s * xp.where(turn > 0, etaplus, xp.where(turn < 0, etaminus, none + 1))
    s = xp.minimum(xp.maximum(s, smallest), largest)
    g = xp.where(turn < 0, none, g)
    return p - xp.where(g > 0, s, xp.where(g < 0, -s, none)), g, s


def _asgd_advance(m: Any, o: dict, step: Any, eta: Any, mu: Any) -> tuple:
    return (
        o["lr"] / m.pow(1.0 + o["lambd"] * o["lr"] * step, o["alpha"]),
        1.0 / m.maximum(1.0, step - o["t0"]),
    )


@rule(
    state=lambda flags: ("ax",),
    flags=_common,
    scalars=lambda m, o, step, eta, mu: (eta, 1.0 - o["lambd"] * eta, mu, 1.0 - mu, o["weight_decay"]),
    names=("eta", "shrink", "mu", "keep", "weight_decay"),
    numbers={"eta": lambda o: o["lr"], "mu": lambda o: 1.0},
    advance=_asgd_advance,
)
def asgd(xp, p, g, *rest, maximize, decay):
    """p * (1 - lambd * eta) - eta * g, and ax, the mean of the parameters from step t0 on: ax + mu * (p - ax).

    eta = lr / (1 + lambd * lr * t)^alpha and mu = 1 / max(1, t - t0), both one step late: the first are lr and 1.

    Polyak and Juditsky, 1992 (doi:10.1137/0330046); the numbers of `torch.optim.ASGD`, which holds eta and mu in float32 where they are
    in float64 here.
    """
    ax, eta, shrink, mu, keep, weight_decay = rest
    if maximize:
        g = -g
    if decay:
        g = g + weight_decay * p
    p = p * shrink - eta * g
    return p, keep * ax + mu * p
