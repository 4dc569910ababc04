"""Adam and its relatives."""

from __future__ import annotations

from typing import Any

from .rule import rule


def _state(flags: dict) -> tuple:
    return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if flags["amsgrad"] else ("exp_avg", "exp_avg_sq")


def _flags(o: dict) -> dict:
    return {
        "amsgrad": bool(o["amsgrad"]),
        "maximize": bool(o["maximize"]),
        "decay": None if o["weight_decay"] == 0 else "decoupled" if o["decoupled_weight_decay"] else "l2",
    }


def correction(m: Any, beta: Any, step: Any) -> Any:
    """1 - beta ** step, exact also where beta ** step is close to 1."""
    return -m.expm1(step * m.log(m.maximum(beta, 1e-300)))


def _scalars(m: Any, o: dict, step: Any) -> tuple:
    beta1, beta2 = o["betas"]
    root = m.sqrt(correction(m, beta2, step))
    return (
        1.0 - beta1,
        beta2,
        1.0 - beta2,
        o["lr"] / correction(m, beta1, step) * root,
        o["eps"] * root,
        1.0 - o["lr"] * o["weight_decay"] if o["decoupled_weight_decay"] else o["weight_decay"],
    )


@rule(
    state=_state,
    flags=_flags,
    scalars=_scalars,
    names=("rest1", "beta2", "rest2", "rate", "eps", "weight_decay"),
)
def adam(xp, p, g, *rest, amsgrad, maximize, decay):
    """p - lr / c1 * m / (sqrt(v) / sqrt(c2) + eps), with m and v the running means of g and g * g, and c = 1 - beta^t.

    Written as p - rate * m / (sqrt(v) + eps'), with rate = lr / c1 * sqrt(c2) and eps' = eps * sqrt(c2) computed on the host.

    Kingma and Ba, 2015 (arXiv:1412.6980), AMSGrad by Reddi et al., 2018, decoupled
    decay by Loshchilov and Hutter, 2019 (arXiv:1711.05101); the numbers of `torch.optim.Adam` and `AdamW`.
    """
    m, v = rest[0], rest[1]
    rest1, beta2, rest2, rate, eps, weight_decay = rest[-6:]
    if maximize:
        g = -g
    if decay == "decoupled":
        p = p * weight_decay  # 1 - lr * weight_decay
    elif decay == "l2":
        g = g + weight_decay * p
    m = m + rest1 * (g - m)
    v = beta2 * v + rest2 * (g * g)
    if amsgrad:
        top = xp.maximum(rest[2], v)
        return p - rate * (m / (xp.sqrt(top) + eps)), m, v, top
    return p - rate * (m / (xp.sqrt(v) + eps)), m, v
