"""Scaled dot-product attention."""

from __future__ import annotations

import math

from ..dtypes import bool_
from ..errors import OptionError, ShapeError, explain
from .op import op

__all__ = ["scaled_dot_product_attention"]


@op(promote="float", promoted=("q", "k", "v"), outputs=("out", "probabilities"), differentiable=1)
def scaled_dot_product_attention(xp, q, k, v, mask=None, *, causal=False, scale=None):
    """softmax(q @ k.T * scale + mask) @ v; `torch.nn.functional.scaled_dot_product_attention`.

    Args:
        q: (..., L, E), of floats.
        k: (..., S, E).
        v: (..., S, D).
        mask: Broadcasts to (..., L, S). bool: True to attend; a row of only False gives 0. Floats, of q's dtype: added.
        causal: Query i attends to keys 0 to i. Not together with a mask.
        scale: Default: 1 / sqrt(E).

    Returns:
        (..., L, D), and the probabilities (..., L, S), which carry no gradient.

    Example:
        >>> import numpy as np
        >>> q = k = v = np.ones((1, 3, 2))
        >>> scaled_dot_product_attention(q, k, v, causal=True)[1].round(2).tolist()
        [[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.33, 0.33, 0.33]]]
    """
    _check(q, k, v, mask, causal)
    scores = xp.matmul(q * _scale(q, scale), _swap(xp, k))
    if causal:
        keep = xp.tril(xp.ones(shape=tuple(scores.shape[-2:]), dtype=bool_, like=q))
        scores = xp.where(keep, scores, -math.inf)
    elif mask is not None:
        scores = xp.where(mask, scores, -math.inf) if xp.dtype(mask).kind == "bool" else scores + mask
    top = xp.amax(scores, axis=-1, keepdims=True)
    if mask is not None:
        top = xp.where(xp.isinf(top), 0, top)  # a row without any key: exp(-inf - 0) is 0, exp(-inf + inf) NaN
    weights = xp.exp(scores - top)
    total = xp.sum(weights, axis=-1, keepdims=True)
    if mask is not None:
        total = xp.where(xp.equal(total, 0), 1, total)
    probabilities = weights / total
    return xp.matmul(probabilities, v), probabilities


@scaled_dot_product_attention.vjp("q", "k", "v")
def _(xp, g, q, k, v, out, probabilities, scale):
    d_scores = _d_scores(xp, g, v, out, probabilities) * _scale(q, scale)
    return xp.matmul(d_scores, k), xp.matmul(_swap(xp, d_scores), q), xp.matmul(_swap(xp, probabilities), g)


@scaled_dot_product_attention.vjp("mask")
def _(xp, g, v, out, probabilities, mask_shape):
    d = _d_scores(xp, g, v, out, probabilities)
    d = xp.sum(d, axis=tuple(range(d.ndim - len(mask_shape)))) if d.ndim > len(mask_shape) else d
    axes = tuple(i for i, (m, n) in enumerate(zip(mask_shape, d.shape, strict=True)) if m != n)
    return xp.sum(d, axis=axes, keepdims=True) if axes else d


def _d_scores(xp, g, v, out, probabilities):
    # The sum over keys of probability times its cotangent is the sum of g * out, which is the smaller array.
    inner = xp.matmul(g, _swap(xp, v)) - xp.sum(g * out, axis=-1, keepdims=True)
    return probabilities * inner


def _scale(q, scale) -> float:
    return 1 / math.sqrt(q.shape[-1]) if scale is None else scale


def _swap(xp, m):
    return xp.transpose(m, axes=(*range(m.ndim - 2), m.ndim - 1, m.ndim - 2))


def _check(q, k, v, mask, causal) -> None:
    given = ", ".join(
        f"{n} {tuple(a.shape)}" for n, a in (("q", q), ("k", k), ("v", v), ("mask", mask)) if a is not None
    )
    lead = tuple(q.shape[:-2])
    if (
        not q.ndim == k.ndim == v.ndim >= 2
        or not lead == tuple(k.shape[:-2]) == tuple(v.shape[:-2])
        or q.shape[-1] != k.shape[-1]
        or k.shape[-2] != v.shape[-2]
    ):
        raise ShapeError(
            explain(
                "scaled_dot_product_attention: the shapes do not fit together",
                expected="q (..., L, E), k (..., S, E), v (..., S, D) with the same leading axes",
                given=given,
                do="repeat keys and values that several heads share, and give all three the same batch and head axes",
            )
        )
    if mask is None:
        return
    if causal:
        raise OptionError(
            explain(
                "scaled_dot_product_attention takes a mask or causal=True, not both",
                given=f"{given}, causal=True",
                do="put the causal part into the mask",
            )
        )
    scores = (*lead, q.shape[-2], k.shape[-2])
    if mask.ndim > len(scores) or any(
        m not in (1, n) for m, n in zip(mask.shape, scores[len(scores) - mask.ndim :], strict=True)
    ):
        raise ShapeError(
            explain(
                "scaled_dot_product_attention: the mask does not broadcast to the scores",
                expected=f"a shape that broadcasts to {scores}",
                given=given,
            )
        )
