"""Adafactor: second moments of a matrix in the memory of two vectors."""

from __future__ import annotations

from typing import Any

from ...dtypes import bfloat16, finfo, float16, float32, float64
from .rule import rule

#: The step above 1 of each dtype.
EPS = {d.name: finfo(d).eps for d in (float16, bfloat16, float32, float64)}


def _rows(xp: Any, p: Any, o: dict) -> Any:
    return xp.zeros(shape=(*p.shape[:-1], 1), dtype=xp.dtype(p), like=p)


def _columns(xp: Any, p: Any, o: dict) -> Any:
    return xp.zeros(shape=(*p.shape[:-2], 1, p.shape[-1]), dtype=xp.dtype(p), like=p)


def _scalars(m: Any, o: dict, step: Any) -> tuple:
    return (
        m.pow(step * 1.0, o["beta2_decay"]),
        m.minimum(o["lr"], 1.0 / m.sqrt(step)),
        o["eps"][0] or 0.0,
        o["eps"][1],
        o["d"],
        1.0 - o["lr"] * o["weight_decay"],
    )


@rule(
    state=lambda flags: ("row_var", "col_var") if flags["factored"] else ("variance",),
    start={"row_var": _rows, "col_var": _columns},
    flags=lambda o: {
        "maximize": bool(o["maximize"]),
        "decay": bool(o["weight_decay"] != 0),
        "own_eps": o["eps"][0] is None,
    },
    kind=lambda shape, o: {"factored": len(shape) > 1},
    scalars=_scalars,
    names=("keep", "rho", "eps1", "eps2", "d", "weight_decay"),
    per="tensor",
)
def adafactor(xp, p, g, *rest, maximize, decay, own_eps, factored):
    """p - a * u / max(1, rms(u) / d), with u = g / sqrt(v), a = max(eps2, rms(p)) * min(lr, 1 / sqrt(t)).

    v is the mean of g * g, with beta2 = 1 - t^beta2_decay; of matrices the outer product of the means over rows and over columns. v is
    at least eps1^2; where eps1 is None it is the step above 1 of the dtype.

    Shazeer and Stern, 2018 (arXiv:1804.04235); the numbers of `torch.optim.Adafactor`, where lr bounds the relative step and scales the
    decoupled decay, and eps1 is a bound in place of a summand.
    """
    keep, rho, eps1, eps2, d, weight_decay = rest[-6:]
    if own_eps:
        eps1 = EPS[xp.dtype(p).name]
    if maximize:
        g = -g
    scale = xp.sqrt(xp.mean(p * p))
    a = xp.where(scale > eps2, scale, eps2) * rho  # a scale of NaN counts as small, as in PyTorch
    if decay:
        p = p * weight_decay  # 1 - lr * weight_decay
    if factored:
        rows = rest[0] + keep * (xp.mean(g * g, axis=-1, keepdims=True) - rest[0])
        columns = rest[1] + keep * (xp.mean(g * g, axis=-2, keepdims=True) - rest[1])
        v = rows * columns / xp.maximum(xp.mean(rows, axis=-2, keepdims=True), eps1)
    else:
        v = rest[0] + keep * (g * g - rest[0])
    u = g / xp.sqrt(xp.maximum(v, eps1 * eps1))
    size = xp.sqrt(xp.mean(u * u)) / d
    p = p - a / xp.where(size > 1, size, xp.ones_like(size)) * u
    return (p, rows, columns) if factored else (p, v)
