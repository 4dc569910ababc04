"""Muon: momentum whose matrices are made orthogonal."""

from __future__ import annotations

from typing import Any

from ...dtypes import float32
from .rule import rule

#: The most iterations that PyTorch allows.
MOST_STEPS = 100


def check(o: dict) -> None:
    """Raises ValueError, in PyTorch's words, for options of the iteration that are out of range."""
    if o["ns_steps"] >= MOST_STEPS:
        raise ValueError("Number of steps must be less than 100 for computational efficiency")
    if len(o["ns_coefficients"]) != 3:
        raise ValueError("Coefficients must be a tuple of exactly 3 values")


def _flags(o: dict) -> dict:
    check(o)
    return {
        "nesterov": bool(o["nesterov"]),
        "ns_steps": int(o["ns_steps"]),
        "match_rms": o["adjust_lr_fn"] == "match_rms_adamw",
    }


def _scalars(m: Any, o: dict, step: Any) -> tuple:
    momentum = o["momentum"]
    return o["lr"], 1.0 - o["lr"] * o["weight_decay"], momentum, 1.0 - momentum, *o["ns_coefficients"], o["eps"]


def orthogonalized(xp, u, a, b, c, eps, steps):
    """Singular values of the matrix brought near to 1: X <- a X + (b A + c A A) X with A = X X', from X = u / norm(u)."""
    x = u / xp.maximum(xp.sqrt(xp.sum(u * u)), eps)
    tall = u.shape[0] > u.shape[1]
    if tall:
        x = xp.transpose(x, axes=(1, 0))
    for _ in range(steps):
        gram = x @ xp.transpose(x, axes=(1, 0))
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return xp.transpose(x, axes=(1, 0)) if tall else x


@rule(
    state=lambda flags: ("momentum_buffer",),
    flags=_flags,
    scalars=_scalars,
    names=("lr", "shrink", "momentum", "keep", "a", "b", "c", "eps"),
    per="tensor",
    counts=False,
)
def muon(xp, p, g, *rest, nesterov, ns_steps, match_rms):
    """p * (1 - lr * weight_decay) - lr * r * O(u), with O the matrix made orthogonal by Newton-Schulz iterations.

    u = m, the running mean of g, or with Nesterov g + momentum * (m - g). For a matrix of A rows and B columns
    r = sqrt(max(1, A / B)), or to match the size of AdamW's updates 0.2 * sqrt(max(A, B)).

    Jordan et al., 2024 (kellerjordan.github.io/posts/muon), Liu et al., 2025 (arXiv:2502.16982); the numbers of `torch.optim.Muon`, which
    iterates in bfloat16; here it is the parameter's dtype, and float32 for dtypes of 16 bits.
    """
    m, lr, shrink, momentum, keep, a, b, c, eps = rest
    m = m + keep * (g - m)
    u = g + momentum * (m - g) if nesterov else m
    rows, columns = p.shape
    ratio = 0.2 * max(rows, columns) ** 0.5 if match_rms else max(1, rows / columns) ** 0.5
    if xp.dtype(p).itemsize == 2:
        wide = orthogonalized(xp, xp.astype(u, dtype=float32), a, b, c, eps, ns_steps)
        u = xp.astype(wide, dtype=xp.dtype(p))
    else:
        u = orthogonalized(xp, u, a, b, c, eps, ns_steps)
    return p * shrink - (lr * ratio) * u, m
