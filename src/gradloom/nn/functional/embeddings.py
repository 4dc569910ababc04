"""Embeddings."""

from __future__ import annotations

import math
from typing import Any

from ... import ops
from ...dtypes import int64
from ...errors import OptionError, ShapeError, explain
from ...tensor.functions import cat
from ...tensor.selecting import check_index


def plain_embedding(max_norm: Any, norm_type: float, scale_grad_by_freq: bool, sparse: bool) -> None:
    """Refuses the options that embeddings do not have."""
    if max_norm is not None or norm_type != 2.0 or scale_grad_by_freq or sparse:
        raise OptionError(
            explain(
                "embedding does not support these options",
                expected="max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False",
                given=f"max_norm={max_norm}, norm_type={norm_type}, scale_grad_by_freq={scale_grad_by_freq}, "
                f"sparse={sparse}",
                do="leave them at their defaults",
            )
        )


def embedding(
    input: Any, weight: Any, padding_idx: int | None = None, max_norm: float | None = None, norm_type: float = 2.0,
    scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Any:  # fmt: skip
    """The rows of weight (number, width) at the indices input; the row padding_idx gets no gradient.

    Raises:
        IndexOutOfRangeError: There is no such row (not checked in a compiled step).
        OptionError: Another option than its default.
    """
    plain_embedding(max_norm, norm_type, scale_grad_by_freq, sparse)
    check_index(input, weight, 0, "embedding")
    return ops.embedding(weight, input, padding_idx=padding_idx)


def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """Rows (..., num_classes) of int64 that are 1 at the index; by default as many as the largest index needs."""
    if num_classes == -1:
        num_classes = int(tensor.max().item()) + 1
    return ops.one_hot(tensor, classes=num_classes, dtype=int64)


def embedding_bag(
    input: Any, weight: Any, offsets: Any = None, max_norm: float | None = None, norm_type: float = 2,
    scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False, per_sample_weights: Any = None,
    include_last_offset: bool = False, padding_idx: int | None = None,
) -> Any:  # fmt: skip
    """Sums, means or maxima of the rows of weight (number, width) at the indices of each bag; an empty bag gives 0.

    Args:
        input: (B, L), a bag in each row; or all bags one after the other (n,).
        offsets: For a 1-d input, where each bag starts (B,).
        mode: "sum", "mean" or "max".
        per_sample_weights: Like input, what each row counts; for "sum".
        include_last_offset: The last of the offsets is the end of the last bag.
        padding_idx: This row counts nothing.

    Raises:
        IndexOutOfRangeError: There is no such row (not checked in a compiled step).
        OptionError: max_norm, norm_type, scale_grad_by_freq or sparse is not at its default.
    """
    plain_embedding(max_norm, norm_type, scale_grad_by_freq, sparse)
    if mode not in ("sum", "mean", "max"):
        raise OptionError("mode has to be one of sum, mean or max")
    if weight.ndim != 2:
        raise ShapeError(f"weight has to be a 2D Tensor, but got Tensor of dimension {weight.ndim}")
    if per_sample_weights is not None:
        if mode != "sum":
            raise OptionError(
                "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for mode='sum' "
                f"(got mode='{mode}')."
            )
        if tuple(per_sample_weights.shape) != tuple(input.shape):
            raise ShapeError(
                f"embedding_bag: If per_sample_weights ({list(per_sample_weights.shape)}) is not None, then it must "
                f"have the same shape as the input ({list(input.shape)})"
            )
    if input.ndim == 2 and offsets is not None:
        raise OptionError("if input is 2D, then offsets has to be None, as input is treated as bags of one length")
    if input.ndim == 1 and (offsets is None or offsets.ndim != 1):
        raise ShapeError("offsets has to be a 1D Tensor when input is 1D")
    if input.ndim not in (1, 2):
        raise ShapeError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.ndim}")
    check_index(input, weight, 0, "embedding_bag")
    rows = ops.embedding(weight, input.reshape(-1), padding_idx=padding_idx)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(-1, 1)
    counts = ops.ones_like(rows.detach()[:, 0], dtype=weight.dtype)
    if padding_idx is not None:
        counts = ops.where(input.reshape(-1) == padding_idx % weight.shape[0], 0, counts)
    if input.ndim == 2:
        bags, length = input.shape
        return _bagged(rows.reshape(bags, length, -1), counts.reshape(bags, length), mode)
    bags = offsets.shape[0] - bool(include_last_offset)
    # Row i belongs to bag b if offsets[b] <= i < offsets[b + 1].
    places = ops.arange(start=0, stop=rows.shape[0], dtype=offsets.dtype, like=offsets)
    started = (places >= offsets[:bags].unsqueeze(1)).to(weight.dtype)  # (B, n)
    inside = started - cat([started[1:], started[:1] * 0])
    if mode == "max":
        wide = rows.unsqueeze(0).expand(bags, *rows.shape)
        return _bagged(wide, inside * counts, mode)
    inside = inside * counts
    total = inside @ rows
    return total if mode == "sum" else total / inside.sum(1, keepdim=True).clamp_min(1)


def _bagged(rows: Any, counts: Any, mode: str) -> Any:
    """(B, L, width) reduced over L, where counts (B, L) are 1 rather than 0."""
    kept = counts.unsqueeze(-1)
    if mode == "max":
        if not rows.shape[1]:
            return rows.sum(1)
        low = ops.where(kept > 0, rows, -math.inf)
        best = low.detach().argmax(1).unsqueeze(1)  # the gradient goes to the first of equal elements
        return ops.where(counts.sum(1, keepdim=True) > 0, rows.gather(1, best).squeeze(1), 0)
    total = (rows * kept).sum(1)
    return total if mode == "sum" else total / counts.sum(1, keepdim=True).clamp_min(1)
