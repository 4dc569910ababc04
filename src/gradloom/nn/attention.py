"""Multi-head attention."""

from __future__ import annotations

from typing import Any

from ..errors import OptionError
from ..tensor.creation import empty
from . import functional as F
from . import init
from .linear import Linear
from .module import Module
from .parameter import Parameter


class NonDynamicallyQuantizableLinear(Linear):
    """The output projection of attention: a `Linear` whose bias is 0 at first. The name is PyTorch's, for the repr."""

    def reset_parameters(self) -> None:
        """Draws new values."""
        super().reset_parameters()
        if self.bias is not None:
            init.zeros_(self.bias)


class MultiheadAttention(Module):
    """Attention with several heads, softmax(q @ k.T / sqrt(E / heads)) @ v; Vaswani et al. 2017.

    Args:
        embed_dim: E, the size of the last axis of query and of the result.
        num_heads: A divisor of E.
        dropout: Probability of dropout on the attention weights, in training mode.
        bias: Add biases to the projections.
        add_bias_kv: Add a learned key and value to each sequence.
        add_zero_attn: Add a key and a value of zeros.
        kdim, vdim: Sizes of the last axes of key and value. Default: E.
        batch_first: query, key, value and the result are (N, L, E) rather than (L, N, E).
        device, dtype: Of the parameters. Default: the backend's.

    Attributes:
        in_proj_weight: (3 * E, E): q, k and v, Xavier-uniform at first; None with kdim or vdim, which have
            q_proj_weight (E, E), k_proj_weight (E, kdim) and v_proj_weight (E, vdim).
        in_proj_bias: (3 * E,), zeros at first; or None.
        bias_k, bias_v: (1, 1, E), Xavier-normal at first; or None.
        out_proj: A Linear, with a bias of zeros at first.

    Example:
        >>> import gradloom as gl
        >>> out, weights = gl.nn.MultiheadAttention(8, 2, batch_first=True)(*[gl.ones(5, 3, 8)] * 3)
        >>> out.shape, weights.shape
        (gradloom.Size([5, 3, 8]), gradloom.Size([5, 3, 3]))
    """

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, add_bias_kv: bool = False,
        add_zero_attn: bool = False, kdim: int | None = None, vdim: int | None = None, batch_first: bool = False,
        device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise OptionError(
                "embed_dim and num_heads must be greater than 0, got "
                f"embed_dim={embed_dim} and num_heads={num_heads} instead"
            )
        if embed_dim % num_heads:
            raise OptionError(f"embed_dim must be divisible by num_heads: {embed_dim} by {num_heads}")
        self.embed_dim = embed_dim
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == embed_dim and self.vdim == embed_dim
        self.num_heads, self.dropout, self.batch_first = num_heads, dropout, batch_first
        self.head_dim = embed_dim // num_heads
        e, same = embed_dim, self._qkv_same_embed_dim
        shapes: dict[str, tuple | None] = {
            "q_proj_weight": None if same else (e, e),
            "k_proj_weight": None if same else (e, self.kdim),
            "v_proj_weight": None if same else (e, self.vdim),
            "in_proj_weight": (3 * e, e) if same else None,
            "in_proj_bias": (3 * e,) if bias else None,
            "bias_k": (1, 1, e) if add_bias_kv else None,
            "bias_v": (1, 1, e) if add_bias_kv else None,
        }
        for name, shape in shapes.items():
            value = None if shape is None else Parameter(empty(shape, device=device, dtype=dtype))
            self.register_parameter(name, value)
        self.out_proj = NonDynamicallyQuantizableLinear(e, e, bias=bias, device=device, dtype=dtype)
        self.add_zero_attn = add_zero_attn
        self._draw()

    def reset_parameters(self) -> None:
        """Draws new values."""
        self.out_proj.reset_parameters()
        self._draw()

    def _draw(self) -> None:
        for name, param in self._parameters.items():
            if param is None:
                continue
            if name == "in_proj_bias":
                init.zeros_(param)
            else:
                (init.xavier_normal_ if name.startswith("bias") else init.xavier_uniform_)(param)

    def forward(
        self, query: Any, key: Any, value: Any, key_padding_mask: Any = None, need_weights: bool = True,
        attn_mask: Any = None, average_attn_weights: bool = True, is_causal: bool = False,
    ) -> Any:  # fmt: skip
        """Attends.

        Args:
            query: (L, N, E), or without N; with batch_first (N, L, E). The same holds for key and value.
            key, value: (S, N, kdim) and (S, N, vdim).
            key_padding_mask: (N, S): bool, True for keys that are left out; or floats, which are added to the scores.
            need_weights: Return the attention weights.
            attn_mask: (L, S) or (N * num_heads, L, S): bool, True where no attention is paid; or floats, which are
                added.
            average_attn_weights: Return the mean of the weights over the heads.
            is_causal: attn_mask is the causal mask: it need not be read.

        Returns:
            (the result like query, weights (N, L, S), or (N, num_heads, L, S) unless averaged; or None).
        """
        swap = self.batch_first and query.ndim == 3
        if swap:  # what is one Tensor stays one
            moved = {id(t): t.transpose(0, 1) for t in (query, key, value)}
            query, key, value = (moved[id(t)] for t in (query, key, value))
        out, weights = F.multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads, self.in_proj_weight, self.in_proj_bias, self.bias_k,
            self.bias_v, self.add_zero_attn, self.dropout, self.out_proj.weight, self.out_proj.bias,
            training=self.training, key_padding_mask=key_padding_mask, need_weights=need_weights, attn_mask=attn_mask,
            use_separate_proj_weight=not self._qkv_same_embed_dim, q_proj_weight=self.q_proj_weight,
            k_proj_weight=self.k_proj_weight, v_proj_weight=self.v_proj_weight,
            average_attn_weights=average_attn_weights, is_causal=is_causal,
        )  # fmt: skip
        return (out.transpose(0, 1) if swap else out), weights
