"""Attention and transformers.

Sequences are (L, N, E), with `batch_first` (N, L, E); N may be missing.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ... import nn
from ...errors import OptionError, explain
from ...nn import functional as F
from ...tensor.creation import ones
from ..part import Layer, Shapes, size
from ..shapes import merged
from .base import Direct, at, at_least, choice, first, one_shape, probability


def _causal_mask(layer: str, given: Any, queries: int, keys: int) -> Any:
    """The mask (queries, keys) of what comes later: True where no attention is paid."""
    if given is not None:
        raise OptionError(explain(f"{layer} takes a mask or causal=True, not both", do="leave out one of them"))
    return ones(queries, keys, dtype="bool").triu(1)


class ScaledDotProduct(Direct):
    """softmax(query @ key.T * scale + mask) @ value, for query (..., L, E), key (..., S, E) and value (..., S, D).

    The mask broadcasts to (..., L, S): bool, True to attend; or floats, which are added.

    Args:
        causal: Query i attends to keys 0 to i; not together with a mask.
        scale: Default: 1 / sqrt(E).
        name: Its name in models.
    """

    inputs = ("query", "key", "value")
    optional = ("mask",)

    def __init__(self, causal: bool = False, scale: float | None = None, name: str | None = None):
        self.causal, self.scale, self.name = causal, scale, name

    @staticmethod
    def wires(query: Any, key: Any, value: Any, mask: Any = None, *, causal: bool, scale: float | None) -> Any:
        return F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal, scale=scale)

    def relate(self, shapes: Shapes) -> Shapes:
        q, k, v, y = (shapes.get(key) for key in ("query", "key", "value", "output"))
        length, width = first(at(q, -2), at(y, -2)), first(at(q, -1), at(k, -1))
        keys, out = first(at(k, -2), at(v, -2)), first(at(v, -1), at(y, -1))
        sizes = {"query": (q, length, width), "key": (k, keys, width), "value": (v, keys, out)}
        found: Shapes = {key: (*s[:-2], *tail) for key, (s, *tail) in sizes.items() if s is not None and len(s) > 1}
        if y is not None and len(y) > 1:
            found["output"] = (*y[:-2], length, out)
        return found


class _Attention(nn.MultiheadAttention):
    causal = need_weights = False

    def forward(self, query: Any, key: Any, value: Any, mask: Any = None, key_padding_mask: Any = None) -> Any:  # type: ignore[override]
        if self.causal:
            axis = 1 if self.batch_first and query.ndim == 3 else 0
            mask = _causal_mask("MultiheadAttention", mask, query.shape[axis], key.shape[axis])
        found = super().forward(
            query, key, value, key_padding_mask, need_weights=self.need_weights, attn_mask=mask, is_causal=self.causal
        )
        return found if self.need_weights else found[0]


class MultiheadAttention(Layer):
    """Attention with several heads: query (L, N, E), key (S, N, K), value (S, N, V); output (L, N, E).

    mask (L, S) or (N * num_heads, L, S) and key_padding_mask (N, S) are bool, True where no attention is paid; or floats,
    which are added to the scores. `weights` (N, L, S) are the means over the heads.

    Args:
        num_heads: A divisor of E.
        dropout: Probability of dropout on the attention weights, in training.
        use_bias: Add biases to the projections.
        add_bias_kv: Add a learned key and value to each sequence.
        add_zero_attn: Add a key and a value of zeros.
        batch_first: Sequences are (N, L, E).
        causal: Query i attends to keys 0 to i; not together with a mask.
        need_weights: There is an output `weights`.
        name: Its name in models.
    """

    inputs = ("query", "key", "value")
    optional = ("mask", "key_padding_mask")

    def __init__(
        self,
        num_heads: int,
        dropout: float = 0.0,
        use_bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        batch_first: bool = False,
        causal: bool = False,
        need_weights: bool = False,
        name: str | None = None,
    ):
        at_least(self, 1, num_heads=num_heads)
        self.num_heads, self.dropout, self.use_bias = num_heads, probability(self, "dropout", dropout), use_bias
        self.add_bias_kv, self.add_zero_attn, self.batch_first = add_bias_kv, add_zero_attn, batch_first
        self.causal, self.need_weights, self.name = causal, need_weights, name

    @property
    def output_keys(self) -> tuple[str, ...]:
        return ("output", "weights") if self.need_weights else ("output",)

    def results(self, value: Any) -> tuple:
        return tuple(value) if self.need_weights else (value,)

    def make(self, query: Any = None, key: Any = None, value: Any = None, **_: Any) -> nn.Module:
        made = _Attention(
            size(query, -1, "query"), self.num_heads, self.dropout, self.use_bias, self.add_bias_kv, self.add_zero_attn,
            size(key, -1, "key"), size(value, -1, "value"), self.batch_first,
        )  # fmt: skip
        made.causal, made.need_weights = self.causal, self.need_weights
        return made

    def relate(self, shapes: Shapes) -> Shapes:
        q = merged(shapes.get("query"), shapes.get("output"))
        k, v = shapes.get("key"), shapes.get("value")
        if q is None and k is None and v is None:
            return {}
        lead = merged(None if k is None else k[:-1], None if v is None else v[:-1])
        if q is not None and len(q) == 3:
            n = 0 if self.batch_first else 1
            rows = first(q[n], at(lead, n))
            q = (rows, *q[1:]) if n == 0 else (q[0], rows, q[2])
            lead = merged(lead, (rows, None) if n == 0 else (None, rows))
        elif q is None:
            q = None if lead is None else (None,) * (len(lead) + 1)
        found: Shapes = {"query": q, "output": q}
        if lead is not None:
            found |= {"key": (*lead, at(k, -1)), "value": (*lead, at(v, -1))}
        return found


# ---------------------------------------------------------------------------------------------------------- transformers


class _EncoderLayer(nn.TransformerEncoderLayer):
    causal = False

    def forward(self, src: Any, mask: Any = None, padding: Any = None) -> Any:  # type: ignore[override]
        if self.causal:
            mask = _of_sequence("TransformerEncoderLayer", mask, src, self.self_attn.batch_first)
        return super().forward(src, mask, padding, self.causal)


class _Encoder(nn.TransformerEncoder):
    causal = False

    def forward(self, src: Any, mask: Any = None, padding: Any = None) -> Any:  # type: ignore[override]
        if self.causal:
            mask = _of_sequence("TransformerEncoder", mask, src, self.layers[0].self_attn.batch_first)
        return super().forward(src, mask, padding, self.causal)


class _DecoderLayer(nn.TransformerDecoderLayer):
    causal = False

    def forward(  # type: ignore[override]
        self, tgt: Any, memory: Any, mask: Any = None, memory_mask: Any = None, padding: Any = None,
        memory_padding: Any = None,
    ) -> Any:  # fmt: skip
        if self.causal:
            mask = _of_sequence("TransformerDecoderLayer", mask, tgt, self.self_attn.batch_first)
        return super().forward(tgt, memory, mask, memory_mask, padding, memory_padding, self.causal)


class _Decoder(nn.TransformerDecoder):
    causal = False

    def forward(  # type: ignore[override]
        self, tgt: Any, memory: Any, mask: Any = None, memory_mask: Any = None, padding: Any = None,
        memory_padding: Any = None,
    ) -> Any:  # fmt: skip
        if self.causal:
            mask = _of_sequence("TransformerDecoder", mask, tgt, self.layers[0].self_attn.batch_first)
        return super().forward(tgt, memory, mask, memory_mask, padding, memory_padding, self.causal)


def _of_sequence(layer: str, mask: Any, x: Any, batch_first: bool) -> Any:
    n = x.shape[1 if batch_first and x.ndim == 3 else 0]
    return _causal_mask(layer, mask, n, n)


class _Block(Layer):
    optional: ClassVar[tuple[str, ...]] = ("mask", "key_padding_mask")

    def __init__(
        self,
        num_heads: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        eps: float = 1e-05,
        batch_first: bool = False,
        norm_first: bool = False,
        use_bias: bool = True,
        causal: bool = False,
        name: str | None = None,
    ):
        at_least(self, 1, num_heads=num_heads, dim_feedforward=dim_feedforward)
        self.num_heads, self.dim_feedforward, self.dropout = num_heads, dim_feedforward, dropout
        self.activation, self.eps = choice(self, "activation", activation, ("relu", "gelu")), eps
        self.batch_first, self.norm_first, self.use_bias = batch_first, norm_first, use_bias
        self.causal, self.name = causal, name
        probability(self, "dropout", dropout)

    def _layer(self, kind: type[nn.Module], input: Any) -> Any:
        return kind(
            size(input, -1), self.num_heads, self.dim_feedforward, self.dropout, self.activation, self.eps,
            self.batch_first, self.norm_first, self.use_bias,
        )  # fmt: skip

    relate = one_shape


class _Stack(_Block):
    def __init__(
        self,
        num_layers: int,
        num_heads: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        eps: float = 1e-05,
        batch_first: bool = False,
        norm_first: bool = False,
        use_bias: bool = True,
        causal: bool = False,
        final_norm: bool = False,
        name: str | None = None,
    ):
        super().__init__(
            num_heads, dim_feedforward, dropout, activation, eps, batch_first, norm_first, use_bias, causal, name
        )
        at_least(self, 1, num_layers=num_layers)
        self.num_layers, self.final_norm = num_layers, final_norm

    def _last(self, input: Any) -> nn.Module | None:
        return nn.LayerNorm(size(input, -1), self.eps, bias=self.use_bias) if self.final_norm else None


class TransformerEncoderLayer(_Block):
    """Self-attention and a feed-forward network, each with a residual connection and layer normalization.

    input and output are (L, N, E). mask (L, L) and key_padding_mask (N, L) are as for `MultiheadAttention`.

    Args:
        num_heads: A divisor of E.
        dim_feedforward: Width of the feed-forward network.
        dropout: Probability of dropout, in training.
        activation: "relu" or "gelu".
        eps: Of the normalizations.
        batch_first: Sequences are (N, L, E).
        norm_first: Normalize what goes into attention and network, rather than the sums after them.
        use_bias: Have biases.
        causal: Position i attends to 0 to i; not together with a mask.
        name: Its name in models.
    """

    def make(self, input: Any = None, **_: Any) -> nn.Module:
        made = self._layer(_EncoderLayer, input)
        made.causal = self.causal
        return made


class TransformerEncoder(_Stack):
    """Several `TransformerEncoderLayer`s on top of each other, with values of their own.

    Args:
        num_layers: How many.
        num_heads, dim_feedforward, dropout, activation, eps, batch_first, norm_first, use_bias, causal: Of each layer.
        final_norm: A `LayerNorm` at the end.
        name: Its name in models.
    """

    def make(self, input: Any = None, **_: Any) -> nn.Module:
        made = _Encoder(self._layer(nn.TransformerEncoderLayer, input), self.num_layers, self._last(input))
        made.causal = self.causal
        return made


class TransformerDecoderLayer(_Block):
    """Self-attention, attention to memory (S, N, E), and a feed-forward network, each with a residual connection.

    input and output are (L, N, E). mask (L, L), memory_mask (L, S), key_padding_mask (N, L) and memory_key_padding_mask
    (N, S) are as for `MultiheadAttention`.

    Args:
        num_heads: A divisor of E.
        dim_feedforward: Width of the feed-forward network.
        dropout: Probability of dropout, in training.
        activation: "relu" or "gelu".
        eps: Of the normalizations.
        batch_first: Sequences are (N, L, E).
        norm_first: Normalize what goes into attention and network, rather than the sums after them.
        use_bias: Have biases.
        causal: Position i of the input attends to 0 to i; not together with a mask.
        name: Its name in models.
    """

    inputs = ("input", "memory")
    optional = ("mask", "memory_mask", "key_padding_mask", "memory_key_padding_mask")

    def make(self, input: Any = None, **_: Any) -> nn.Module:
        made = self._layer(_DecoderLayer, input)
        made.causal = self.causal
        return made


class TransformerDecoder(_Stack):
    """Several `TransformerDecoderLayer`s on top of each other, with values of their own.

    Args:
        num_layers: How many.
        num_heads, dim_feedforward, dropout, activation, eps, batch_first, norm_first, use_bias, causal: Of each layer.
        final_norm: A `LayerNorm` at the end.
        name: Its name in models.
    """

    inputs = ("input", "memory")
    optional = ("mask", "memory_mask", "key_padding_mask", "memory_key_padding_mask")

    def make(self, input: Any = None, **_: Any) -> nn.Module:
        made = _Decoder(self._layer(nn.TransformerDecoderLayer, input), self.num_layers, self._last(input))
        made.causal = self.causal
        return made
