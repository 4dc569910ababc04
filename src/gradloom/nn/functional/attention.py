"""Attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ... import ops
from ...errors import DTypeError, OptionError, ShapeError, explain
from ...ops.attention import scaled_dot_product_attention as _attention
from ...tensor.functions import cat
from .dropouts import dropout
from .layouts import pad
from .products import linear


def scaled_dot_product_attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    """softmax(query @ key.T * scale + attn_mask) @ value.

    Args:
        query: (..., L, E).
        key, value: (..., S, E) and (..., S, D).
        attn_mask: Broadcasts to (..., L, S): bool, True to attend; or floats, which are added.
        dropout_p: Share of the probabilities that is dropped.
        is_causal: Query i attends to keys 0 to i; not together with a mask.
        scale: Default: 1 / sqrt(E).
        enable_gqa: Axis -3 of key and value may be smaller; each head serves several of query's.

    Returns:
        (..., L, D).
    """
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    lead = np.broadcast_shapes(*(tuple(t.shape[:-2]) for t in (query, key, value)))
    query, key, value = (
        t if tuple(t.shape[:-2]) == lead else t.expand(*lead, *t.shape[-2:]) for t in (query, key, value)
    )
    if not dropout_p:
        return _attention(query, key, value, attn_mask, causal=is_causal, scale=scale)[0]
    if not 0 <= dropout_p <= 1:
        raise OptionError(f"dropout probability has to be between 0 and 1, but got {dropout_p}")
    scores = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        if attn_mask is not None:
            raise OptionError("scaled_dot_product_attention takes attn_mask or is_causal=True, not both")
        attn_mask = ops.tril(ops.ones_like(scores.detach(), dtype="bool"))
    if attn_mask is not None:
        scores = ops.where(attn_mask, scores, -math.inf) if attn_mask.dtype.kind == "bool" else scores + attn_mask
    return dropout(ops.softmax(scores, axis=-1), dropout_p) @ value


def multi_head_attention_forward(
    query: Any, key: Any, value: Any, embed_dim_to_check: int, num_heads: int, in_proj_weight: Any, in_proj_bias: Any,
    bias_k: Any, bias_v: Any, add_zero_attn: bool, dropout_p: float, out_proj_weight: Any, out_proj_bias: Any,
    training: bool = True, key_padding_mask: Any = None, need_weights: bool = True, attn_mask: Any = None,
    use_separate_proj_weight: bool = False, q_proj_weight: Any = None, k_proj_weight: Any = None,
    v_proj_weight: Any = None, static_k: Any = None, static_v: Any = None, average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Any:  # fmt: skip
    """What `gradloom.nn.MultiheadAttention` computes, with its parameters as arguments; Vaswani et al. 2017.

    Args:
        query, key, value: (L, N, E), (S, N, kdim), (S, N, vdim), or all three without N.
        embed_dim_to_check: E.
        in_proj_weight, in_proj_bias: (3 * E, E) and (3 * E,).
        bias_k, bias_v: (1, 1, E), one more key and value; or None.
        out_proj_weight, out_proj_bias: (E, E) and (E,).
        use_separate_proj_weight: Use q_proj_weight, k_proj_weight, v_proj_weight instead of in_proj_weight.
        static_k, static_v: (N * num_heads, S, E / num_heads), in place of the projected ones.

    For the rest, and what is returned, see the module.
    """
    batched = _check_operands(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        query, key, value = (t.unsqueeze(1) for t in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, n, width = query.shape
    _check_sizes(query, key, value, embed_dim_to_check, num_heads, use_separate_proj_weight)
    if is_causal and attn_mask is None:
        raise OptionError(
            "Need attn_mask if specifying the is_causal hint. You may use the Transformer module method "
            "`generate_square_subsequent_mask` to create this mask."
        )
    causal = is_causal and key_padding_mask is None and not need_weights
    mask = None if causal else _mask_of_scores(attn_mask, (length, key.shape[0]), n, num_heads, query.dtype)
    padding = _as_floats("key_padding_mask", key_padding_mask, query.dtype)
    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
    else:
        weights = in_proj_weight
    q, k, v = _projected(query, key, value, weights, in_proj_bias)
    more = 0
    if bias_k is not None and bias_v is not None:
        k, v = (cat([t, b.expand(1, n, width)]) for t, b in ((k, bias_k), (v, bias_v)))
        more += 1
    q, k, v = (t.reshape(t.shape[0], n, num_heads, width // num_heads).permute(1, 2, 0, 3) for t in (q, k, v))
    k, v = (t if s is None else s.reshape(n, num_heads, *s.shape[1:]) for t, s in ((k, static_k), (v, static_v)))
    if add_zero_attn:
        k, v = (cat([t, t.new_zeros((n, num_heads, 1, t.shape[-1]))], 2) for t in (k, v))
        more += 1
    if more:  # the added keys are seen by all
        mask = None if mask is None else pad(mask, (0, more))
        padding = None if padding is None else pad(padding, (0, more))
    if padding is not None:
        if tuple(padding.shape) != (n, k.shape[2]):
            expected, given = f"({n}, {k.shape[2] - more})", list(key_padding_mask.shape)
            raise ShapeError(explain("key_padding_mask does not fit the keys", expected=expected, given=given))
        padding = padding.reshape(n, 1, 1, k.shape[2])
        mask = padding if mask is None else mask + padding
    out, probabilities = _attended(q, k, v, mask, dropout_p if training else 0.0, causal, need_weights)
    out = linear(out.permute(2, 0, 1, 3).reshape(length, n, width), out_proj_weight, out_proj_bias)
    out = out if batched else out.squeeze(1)
    if probabilities is None:
        return out, None
    probabilities = probabilities.mean(1) if average_attn_weights else probabilities
    return out, probabilities if batched else probabilities.squeeze(0)


def _attended(q: Any, k: Any, v: Any, mask: Any, p: float, causal: bool, need_weights: bool) -> tuple[Any, Any]:
    """(out, probabilities): the latter only if wanted, as they are kept for the gradient then."""
    if not need_weights:
        return scaled_dot_product_attention(q, k, v, mask, p, causal), None
    scores = q * (1 / math.sqrt(q.shape[-1])) @ k.mT
    probabilities = ops.softmax(scores if mask is None else scores + mask, axis=-1)
    if p > 0:
        probabilities = dropout(probabilities, p)
    return probabilities @ v, probabilities


def _projected(query: Any, key: Any, value: Any, weights: Any, bias: Any) -> tuple:
    """q, k, v; one product for all that are the same Tensor."""
    b = (None, None, None) if bias is None else bias.chunk(3)
    if not isinstance(weights, tuple):
        if query is key and key is value:
            return tuple(linear(query, weights, bias).chunk(3, -1))
        w = weights.chunk(3)
        if key is value:
            e = weights.shape[0] // 3
            kv = linear(key, weights[e:], None if bias is None else bias[e:])
            return (linear(query, w[0], b[0]), *kv.chunk(2, -1))
        weights = w
    return tuple(linear(x, w, c) for x, w, c in zip((query, key, value), weights, b, strict=True))


def _mask_of_scores(mask: Any, size: tuple, n: int, heads: int, dtype: Any) -> Any:
    """attn_mask (L, S) or (N * heads, L, S) as floats (N or 1, heads or 1, L, S)."""
    if mask is None:
        return None
    expected = size if mask.ndim == 2 else (n * heads, *size)
    if tuple(mask.shape) != expected:
        raise ShapeError(
            f"The shape of the {mask.ndim}D attn_mask is {list(mask.shape)}, but should be {list(expected)}."
        )
    mask = _as_floats("attn_mask", mask, dtype)
    return mask.reshape(1, 1, *size) if mask.ndim == 2 else mask.reshape(n, heads, *size)


def _as_floats(name: str, mask: Any, dtype: Any) -> Any:
    """A mask as floats that are added: -inf where a bool is True."""
    if mask is None:
        return None
    if mask.dtype.kind == "bool":
        return mask.new_zeros(tuple(mask.shape), dtype=dtype).masked_fill(mask, -math.inf)
    if mask.dtype.kind != "float":
        raise DTypeError(f"only bool and floating types of {name} are supported")
    return mask.to(dtype)


def _check_operands(query: Any, key: Any, value: Any, padding: Any, mask: Any, heads: int) -> bool:
    """Whether there is a batch axis."""
    if query.ndim not in (2, 3):
        raise ShapeError(f"query should be unbatched 2D or batched 3D tensor but received {query.ndim}-D query tensor")
    batched = query.ndim == 3
    what = "For batched (3-D) `query`" if batched else "For unbatched (2-D) `query`"
    if key.ndim != query.ndim or value.ndim != query.ndim:
        raise ShapeError(
            f"{what}, expected `key` and `value` to be {query.ndim}-D but found {key.ndim}-D and {value.ndim}-D tensors "
            "respectively"
        )
    if padding is not None and padding.ndim != query.ndim - 1:
        raise ShapeError(
            f"{what}, expected `key_padding_mask` to be `None` or {query.ndim - 1}-D but found {padding.ndim}-D tensor "
            "instead"
        )
    if mask is not None and mask.ndim not in (2, 3):
        raise ShapeError(
            f"{what}, expected `attn_mask` to be `None`, 2-D or 3-D but found {mask.ndim}-D tensor instead"
        )
    return batched


def _check_sizes(query: Any, key: Any, value: Any, width: int, heads: int, separate: bool) -> None:
    if query.shape[-1] != width:
        raise ShapeError(f"was expecting embedding dimension of {width}, but got {query.shape[-1]}")
    if width % heads:
        raise ShapeError(f"embed_dim {width} not divisible by num_heads {heads}")
    k, v, q = tuple(key.shape), tuple(value.shape), tuple(query.shape)
    if separate and k[:2] != v[:2]:
        raise ShapeError(f"key's sequence and batch dims {k[:2]} do not match value's {v[:2]}")
    if not separate and k != v:
        raise ShapeError(f"key shape {k} does not match value shape {v}")
    if k[1] != q[1]:
        raise ShapeError(explain("query and key have different batches", given=f"query {q}, key {k}"))
