"""Adam and its relatives."""

from __future__ import annotations

from typing import Any

from .rule import rule


def _state(flags: dict) -> tuple:
    return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if flags["amsgrad"] else ("exp_avg", "exp_avg_sq")


def _common(o: dict) -> dict:
    """The flags of the whole family."""
    return {
        "maximize": bool(o["maximize"]),
        "decay": None if o["weight_decay"] == 0 else "decoupled" if o.get("decoupled_weight_decay") else "l2",
    }


def _flags(o: dict) -> dict:
    return {"amsgrad": bool(o["amsgrad"]), **_common(o)}


def _weight_decay(o: dict) -> Any:
    """The factor of the parameter: what it shrinks to, or what is added to the gradient."""
    return 1.0 - o["lr"] * o["weight_decay"] if o.get("decoupled_weight_decay") else o["weight_decay"]


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
        _weight_decay(o),
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


def _momentum(m: Any, o: dict, step: Any) -> Any:
    """NAdam's momentum at a step."""
    return o["betas"][0] * (1.0 - 0.5 * m.pow(0.96, step * o["momentum_decay"]))


def _nadam_product(m: Any, o: dict, step: Any, product: Any) -> tuple:
    return (product * _momentum(m, o, step),)


def _nadam_scalars(m: Any, o: dict, step: Any, product: Any) -> tuple:
    beta1, beta2 = o["betas"]
    root = m.sqrt(correction(m, beta2, step))
    mu, after = _momentum(m, o, step), _momentum(m, o, step + 1)
    product = product * mu
    return (
        1.0 - beta1,
        beta2,
        1.0 - beta2,
        o["lr"] * after / (1.0 - product * after) * root,
        o["lr"] * (1.0 - mu) / (1.0 - product) * root,
        o["eps"] * root,
        _weight_decay(o),
    )


@rule(
    state=lambda flags: ("exp_avg", "exp_avg_sq"),
    flags=_common,
    scalars=_nadam_scalars,
    names=("rest1", "beta2", "rest2", "rate", "grad_rate", "eps", "weight_decay"),
    numbers={"mu_product": lambda o: 1.0},
    advance=_nadam_product,
)
def nadam(xp, p, g, *rest, maximize, decay):
    """p - lr * (mu' / (1 - prod mu') * m + (1 - mu) / (1 - prod mu) * g) / (sqrt(v / c2) + eps).

    m and v are the running means of g and g * g, mu = beta1 * (1 - 0.96^(t * momentum_decay) / 2), mu' that of the next step, and
    prod the product over all steps up to it. As in `adam`, the correction c2 of v is in the rates and in eps.

    Dozat, 2016 (openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ); the numbers of `torch.optim.NAdam`, whose product is held in float32
    there and in float64 here.
    """
    m, v, rest1, beta2, rest2, rate, grad_rate, eps, weight_decay = rest
    if maximize:
        g = -g
    if decay == "decoupled":
        p = p * weight_decay  # 1 - lr * weight_decay
    elif decay == "l2":
        g = g + weight_decay * p
    m = m + rest1 * (g - m)
    v = beta2 * v + rest2 * (g * g)
    return p - (rate * m + grad_rate * g) / (xp.sqrt(v) + eps), m, v


def _radam_scalars(m: Any, o: dict, step: Any) -> tuple:
    beta1, beta2 = o["betas"]
    c2 = correction(m, beta2, step)
    longest = 2.0 / (1.0 - beta2) - 1.0
    length = longest - 2.0 * step * m.pow(beta2, step) / c2
    rectified = length > 5.0
    # Where it is not rectified the numbers below are not used; they only have to exist.
    top, now = m.maximum(longest, 5.0), m.maximum(length, 5.0)
    factor = m.sqrt((now - 4.0) * (now - 2.0) * top / ((top - 4.0) * (top - 2.0) * now) * c2)
    return (
        1.0 - beta1,
        beta2,
        1.0 - beta2,
        o["lr"] / correction(m, beta1, step) * m.where(rectified, factor, 1.0),
        o["eps"],
        m.where(rectified, 0.0, 1.0),
        m.where(rectified, float("inf"), 1.0),
        _weight_decay(o),
    )


@rule(
    state=lambda flags: ("exp_avg", "exp_avg_sq"),
    flags=_common,
    scalars=_radam_scalars,
    names=("rest1", "beta2", "rest2", "rate", "eps", "low", "high", "weight_decay"),
)
def radam(xp, p, g, *rest, maximize, decay):
    """p - lr / c1 * r * sqrt(c2) * m / (sqrt(v) + eps) where the variance can be rectified, else p - lr / c1 * m.

    m and v are the running means of g and g * g, c = 1 - beta^t; r rectifies the variance of the first steps, which is possible
    once the length of the average, n - 2 t beta2^t / c2 with n = 2 / (1 - beta2) - 1, is above 5. Until then the bounds of the
    denominator, which are scalars, make it 1: the code is the same at each step.

    Liu et al., 2020 (arXiv:1908.03265); the numbers of `torch.optim.RAdam`.
    """
    m, v, rest1, beta2, rest2, rate, eps, low, high, weight_decay = rest
    if maximize:
        g = -g
    if decay == "decoupled":
        p = p * weight_decay  # 1 - lr * weight_decay
    elif decay == "l2":
        g = g + weight_decay * p
    m = m + rest1 * (g - m)
    v = beta2 * v + rest2 * (g * g)
    return p - rate * (m / xp.minimum(xp.maximum(xp.sqrt(v) + eps, low), high)), m, v


def _adamax_scalars(m: Any, o: dict, step: Any) -> tuple:
    beta1, beta2 = o["betas"]
    return 1.0 - beta1, beta2, o["lr"] / correction(m, beta1, step), o["eps"], o["weight_decay"]


@rule(
    state=lambda flags: ("exp_avg", "exp_inf"),
    flags=_common,
    scalars=_adamax_scalars,
    names=("rest1", "beta2", "rate", "eps", "weight_decay"),
)
def adamax(xp, p, g, *rest, maximize, decay):
    """p - lr / c1 * m / u, with m the running mean of g, u = max(beta2 * u, |g| + eps), and c1 = 1 - beta1^t.

    Kingma and Ba, 2015 (arXiv:1412.6980), section 7; the numbers of `torch.optim.Adamax`, with eps inside the maximum.
    """
    m, u, rest1, beta2, rate, eps, weight_decay = rest
    if maximize:
        g = -g
    if decay:
        g = g + weight_decay * p
    m = m + rest1 * (g - m)
    u = xp.maximum(beta2 * u, xp.abs(g) + eps)
    return p - rate * (m / u), m, u
