"""The Transformer of "Attention Is All You Need" (Vaswani et al. 2017), and its layers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from ..errors import OptionError, ShapeError, explain
from ..tensor.creation import full
from . import functional as F
from . import init
from .attention import MultiheadAttention
from .container import ModuleList
from .dropout import Dropout
from .linear import Linear
from .module import Module
from .normalization import LayerNorm


def _activation(activation: Any) -> Any:
    if not isinstance(activation, str):
        return activation
    if activation not in ("relu", "gelu"):
        raise OptionError(f"activation should be relu/gelu, not {activation}")
    return getattr(F, activation)


class _Layer(Module):
    """What the layers of encoder and decoder have in common."""

    self_attn: MultiheadAttention
    activation: Callable
    linear1: Linear
    linear2: Linear
    dropout: Dropout

    def _attend(
        self, attention: MultiheadAttention, x: Any, memory: Any, mask: Any, padding: Any, is_causal: bool
    ) -> Any:
        return attention(
            x, memory, memory, attn_mask=mask, key_padding_mask=padding, is_causal=is_causal, need_weights=False
        )[0]

    def _feed_forward(self, x: Any) -> Any:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerEncoderLayer(_Layer):
    """Self-attention and a feed-forward network, each with a residual connection and layer normalization.

    Args:
        d_model: E, the size of the last axis.
        nhead: Number of heads, a divisor of E.
        dim_feedforward: Width of the feed-forward network.
        dropout: Probability of dropout on the attention weights, in the network, and before each residual sum.
        activation: "relu", "gelu" or a function.
        layer_norm_eps: eps of the normalizations.
        batch_first: x is (N, L, E) rather than (L, N, E).
        norm_first: Normalize what goes into attention and network, rather than the sums after them.
        bias: Have biases.
        device, dtype: Of the parameters. Default: the backend's.

    Attributes:
        self_attn, linear1, linear2, norm1, norm2, dropout, dropout1, dropout2: The layers that it is made of.

    Example:
        >>> import gradloom as gl
        >>> gl.nn.TransformerEncoderLayer(8, 2, 16)(gl.ones(3, 5, 8)).shape
        gradloom.Size([3, 5, 8])
    """

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1, activation: Any = F.relu,
        layer_norm_eps: float = 1e-5, batch_first: bool = False, norm_first: bool = False, bias: bool = True,
        device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__()
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout=dropout, bias=bias, batch_first=batch_first, **place
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias=bias, **place)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias=bias, **place)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **place)
        self.norm2 = LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **place)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.activation = _activation(activation)

    def forward(self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False) -> Any:
        """x after the layer; masks as for `MultiheadAttention`."""

        def attend(x: Any) -> Any:
            return self.dropout1(self._attend(self.self_attn, x, x, src_mask, src_key_padding_mask, is_causal))

        x = src
        if self.norm_first:
            x = x + attend(self.norm1(x))
            return x + self.dropout2(self._feed_forward(self.norm2(x)))
        x = self.norm1(x + attend(x))
        return self.norm2(x + self.dropout2(self._feed_forward(x)))


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to the encoder's output, and a feed-forward network, each with a residual connection.

    Args: As for `TransformerEncoderLayer`.

    Attributes:
        self_attn, multihead_attn, linear1, linear2, norm1, norm2, norm3, dropout, dropout1, dropout2, dropout3: The
            layers that it is made of.

    Example:
        >>> import gradloom as gl
        >>> gl.nn.TransformerDecoderLayer(8, 2, 16)(gl.ones(3, 5, 8), gl.ones(7, 5, 8)).shape
        gradloom.Size([3, 5, 8])
    """

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1, activation: Any = F.relu,
        layer_norm_eps: float = 1e-5, batch_first: bool = False, norm_first: bool = False, bias: bool = True,
        device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__()
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout=dropout, bias=bias, batch_first=batch_first, **place
        )
        self.multihead_attn = MultiheadAttention(
            d_model, nhead, dropout=dropout, bias=bias, batch_first=batch_first, **place
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias=bias, **place)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias=bias, **place)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **place)
        self.norm2 = LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **place)
        self.norm3 = LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **place)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.dropout3 = Dropout(dropout)
        self.activation = _activation(activation)

    def forward(
        self, tgt: Any, memory: Any, tgt_mask: Any = None, memory_mask: Any = None, tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None, tgt_is_causal: bool = False, memory_is_causal: bool = False,
    ) -> Any:  # fmt: skip
        """x after the layer: tgt (L, N, E), memory (S, N, E) from the encoder; masks as for `MultiheadAttention`."""

        def attend(x: Any) -> Any:
            return self.dropout1(self._attend(self.self_attn, x, x, tgt_mask, tgt_key_padding_mask, tgt_is_causal))

        def look_up(x: Any) -> Any:
            return self.dropout2(
                self._attend(
                    self.multihead_attn, x, memory, memory_mask, memory_key_padding_mask, memory_is_causal
                )
            )  # fmt: skip

        x = tgt
        if self.norm_first:
            x = x + attend(self.norm1(x))
            x = x + look_up(self.norm2(x))
            return x + self.dropout3(self._feed_forward(self.norm3(x)))
        x = self.norm1(x + attend(x))
        x = self.norm2(x + look_up(x))
        return self.norm3(x + self.dropout3(self._feed_forward(x)))


def _copies(layer: Module, n: int) -> ModuleList:
    return ModuleList([copy.deepcopy(layer) for _ in range(n)])


class TransformerEncoder(Module):
    """Copies of a `TransformerEncoderLayer` on top of each other. As in PyTorch all start with the same values.

    Args:
        encoder_layer: The layer; it is copied.
        num_layers: Number of copies.
        norm: A last layer, such as a `LayerNorm`; or None.
        enable_nested_tensor, mask_check: Of PyTorch's fast path for inference, which there is none of here: what belongs
            to padding is computed like everything else, and not set to 0.

    Example:
        >>> import gradloom as gl
        >>> layer = gl.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> gl.nn.TransformerEncoder(layer, 2)(gl.ones(5, 3, 8)).shape
        gradloom.Size([5, 3, 8])
    """

    def __init__(
        self, encoder_layer: Any, num_layers: int, norm: Module | None = None, enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ):  # fmt: skip
        super().__init__()
        self.layers = _copies(encoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm
        self.enable_nested_tensor, self.mask_check = enable_nested_tensor, mask_check

    def forward(
        self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool | None = None
    ) -> Any:
        """x (L, N, E) after all layers; masks as for `MultiheadAttention`. is_causal: the mask is the causal one."""
        x = src
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=is_causal is True, src_key_padding_mask=src_key_padding_mask)
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(Module):
    """Copies of a `TransformerDecoderLayer` on top of each other. As in PyTorch all start with the same values.

    Args:
        decoder_layer: The layer; it is copied.
        num_layers: Number of copies.
        norm: A last layer, such as a `LayerNorm`; or None.
    """

    def __init__(self, decoder_layer: Any, num_layers: int, norm: Module | None = None):
        super().__init__()
        self.layers = _copies(decoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self, tgt: Any, memory: Any, tgt_mask: Any = None, memory_mask: Any = None, tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None, tgt_is_causal: bool | None = None, memory_is_causal: bool = False,
    ) -> Any:  # fmt: skip
        """x (L, N, E) after all layers; see `TransformerDecoderLayer`."""
        x = tgt
        for layer in self.layers:
            x = layer(
                x, memory, tgt_mask=tgt_mask, memory_mask=memory_mask, tgt_key_padding_mask=tgt_key_padding_mask,
                memory_key_padding_mask=memory_key_padding_mask, tgt_is_causal=tgt_is_causal is True,
                memory_is_causal=memory_is_causal,
            )  # fmt: skip
        return x if self.norm is None else self.norm(x)


class Transformer(Module):
    """An encoder and a decoder.

    Args:
        d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias: See
            `TransformerEncoderLayer`.
        num_encoder_layers, num_decoder_layers: Numbers of layers.
        custom_encoder, custom_decoder: Modules to use instead.
        device, dtype: Of the parameters. Default: the backend's.

    Attributes:
        encoder, decoder: Their weights are Xavier-uniform at first.

    Example:
        >>> import gradloom as gl
        >>> model = gl.nn.Transformer(8, 2, 1, 1, 16)
        >>> mask = model.generate_square_subsequent_mask(3)
        >>> model(gl.ones(7, 5, 8), gl.ones(3, 5, 8), tgt_mask=mask).shape
        gradloom.Size([3, 5, 8])
    """

    def __init__(
        self, d_model: int = 512, nhead: int = 8, num_encoder_layers: int = 6, num_decoder_layers: int = 6,
        dim_feedforward: int = 2048, dropout: float = 0.1, activation: Any = F.relu, custom_encoder: Any = None,
        custom_decoder: Any = None, layer_norm_eps: float = 1e-5, batch_first: bool = False, norm_first: bool = False,
        bias: bool = True, device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__()
        options = (
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias, device,
            dtype,
        )  # fmt: skip

        def norm() -> LayerNorm:
            return LayerNorm(d_model, eps=layer_norm_eps, bias=bias, device=device, dtype=dtype)

        self.encoder = custom_encoder
        if custom_encoder is None:
            self.encoder = TransformerEncoder(TransformerEncoderLayer(*options), num_encoder_layers, norm())
        self.decoder = custom_decoder
        if custom_decoder is None:
            self.decoder = TransformerDecoder(TransformerDecoderLayer(*options), num_decoder_layers, norm())
        self._draw()
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first

    def reset_parameters(self) -> None:
        """Draws new values for all layers."""
        for module in self.modules():
            if module is not self and hasattr(module, "reset_parameters"):
                module.reset_parameters()
        self._draw()

    def _draw(self) -> None:
        for p in self.parameters():
            if p.ndim > 1:
                init.xavier_uniform_(p)

    def forward(
        self, src: Any, tgt: Any, src_mask: Any = None, tgt_mask: Any = None, memory_mask: Any = None,
        src_key_padding_mask: Any = None, tgt_key_padding_mask: Any = None, memory_key_padding_mask: Any = None,
        src_is_causal: bool | None = None, tgt_is_causal: bool | None = None, memory_is_causal: bool = False,
    ) -> Any:  # fmt: skip
        """The decoder's output (T, N, E) for src (S, N, E) and tgt (T, N, E); masks as for `MultiheadAttention`."""
        given = f"src {list(src.shape)}, tgt {list(tgt.shape)}"
        batch = 0 if self.batch_first else 1
        if src.ndim == 3 and (tgt.ndim != 3 or src.shape[batch] != tgt.shape[batch]):
            raise ShapeError(explain("the batch number of src and tgt must be equal", given=given))
        if src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model:
            raise ShapeError(
                explain(
                    "the feature number of src and tgt must be equal to d_model", expected=self.d_model, given=given
                )
            )
        memory = self.encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal)
        return self.decoder(
            tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask, tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask, tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
        )  # fmt: skip

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Any:
        """The causal mask (sz, sz): 0 where a position may be seen, -inf for later ones."""
        return full((sz, sz), -math.inf, device=device, dtype=dtype).triu(1)
