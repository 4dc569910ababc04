"""Distances and similarities of vectors."""

from __future__ import annotations

from typing import Any


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """x1 · x2 / (max(|x1|, eps) * max(|x2|, eps)) along dim; the operands broadcast."""
    parts = []
    for x in (x1, x2):
        norm = x.norm(2, dim, keepdim=True)
        held = norm.detach()
        parts.append(x / (norm + (held.clamp_min(eps) - held)))  # as in PyTorch the gradient does not see the bound
    return (parts[0] * parts[1]).sum(dim)


def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    """The p-norm of x1 - x2 + eps along the last axis; the operands broadcast."""
    return (x1 - x2 + eps).norm(p, -1, keepdim=keepdim)
