"""Distances and similarities of vectors."""

from __future__ import annotations

from typing import Any

from . import functional as F
from .module import Module


class CosineSimilarity(Module):
    """x1 · x2 / (max(|x1|, eps) * max(|x2|, eps)) along axis `dim`; the operands broadcast.

    Example:
        >>> import gradloom as gl
        >>> gl.nn.CosineSimilarity()(gl.tensor([[3.0, 4.0]]), gl.tensor([[1.0, 0.0]]))
        tensor([0.6000])
    """

    def __init__(self, dim: int = 1, eps: float = 1e-8):
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x1: Any, x2: Any) -> Any:
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """The p-norm of x1 - x2 + eps along the last axis; the operands broadcast.

    Args:
        p: The order of the norm.
        eps: Added to the difference, so that the gradient at equal vectors is finite.
        keepdim: Keep the last axis, with size 1.
    """

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False):
        super().__init__()
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1: Any, x2: Any) -> Any:
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
