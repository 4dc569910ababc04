"""Losses. None of them broadcasts."""

from __future__ import annotations

import warnings
from typing import Any

from ...errors import OptionError, ShapeError
from ...ops.loss import binary_cross_entropy as _bce
from ...ops.loss import binary_cross_entropy_with_logits as _bce_logits
from ...ops.loss import cross_entropy as _cross_entropy
from ...ops.loss import cross_entropy_soft as _cross_entropy_soft
from ...ops.loss import huber_loss as _huber
from ...ops.loss import kl_div as _kl_div
from ...ops.loss import l1_loss as _l1
from ...ops.loss import mse_loss as _mse
from ...ops.loss import nll_loss as _nll
from ...ops.loss import smooth_l1_loss as _smooth_l1


def reduction_of(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction, where it may be given by PyTorch's older arguments."""
    if size_average is None and reduce is None:
        return reduction
    found = "none" if reduce is False else "sum" if size_average is False else "mean"
    warnings.warn(
        f"size_average and reduce args will be deprecated, please use reduction='{found}' instead.", stacklevel=4
    )
    return found


def _weighted(loss: Any, input: Any, target: Any, weight: Any, reduction: str, by_weight: bool, **options: Any) -> Any:
    """A loss whose elements count as `weight` (of input's shape) says."""
    if weight is None:
        return loss(input, target, reduction=reduction, **options)
    if tuple(weight.shape) != tuple(input.shape):
        raise ShapeError("Weights and input must have the same size.")
    if reduction not in ("none", "mean", "sum"):
        raise OptionError(f"Invalid reduction mode: {reduction}. Expected one of 'none', 'mean', 'sum'.")
    values = loss(input, target, reduction="none", **options) * weight
    if reduction == "none":
        return values
    if reduction == "sum":
        return values.sum()
    return values.sum() / weight.sum() if by_weight else values.mean()


def mse_loss(
    input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
    weight: Any = None,
) -> Any:  # fmt: skip
    """(input - target)**2; a weighted mean is divided by the sum of the weights."""
    return _weighted(_mse, input, target, weight, reduction_of(size_average, reduce, reduction), True)


def l1_loss(
    input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
    weight: Any = None,
) -> Any:  # fmt: skip
    """|input - target|; a weighted mean is divided by the sum of the weights."""
    return _weighted(_l1, input, target, weight, reduction_of(size_average, reduce, reduction), True)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Any:
    """d**2 / 2 where |d| < delta, delta * (|d| - delta / 2) elsewhere; a weighted mean is divided by the number."""
    return _weighted(_huber, input, target, weight, reduction, False, delta=delta)


def smooth_l1_loss(
    input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
    beta: float = 1.0,
) -> Any:  # fmt: skip
    """d**2 / (2 * beta) where |d| < beta, |d| - beta / 2 elsewhere."""
    return _smooth_l1(input, target, beta=beta, reduction=reduction_of(size_average, reduce, reduction))


def cross_entropy(
    input: Any, target: Any, weight: Any = None, size_average: bool | None = None, ignore_index: int = -100,
    reduce: bool | None = None, reduction: str = "mean", label_smoothing: float = 0.0,
) -> Any:  # fmt: skip
    """-log softmax(input)[target]; see `CrossEntropyLoss`. A float target of input's shape holds probabilities."""
    reduction = reduction_of(size_average, reduce, reduction)
    if target.dtype.kind == "float":
        return _cross_entropy_soft(input, target, weight, label_smoothing=label_smoothing, reduction=reduction)
    return _cross_entropy(
        input, target, weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction
    )


def nll_loss(
    input: Any, target: Any, weight: Any = None, size_average: bool | None = None, ignore_index: int = -100,
    reduce: bool | None = None, reduction: str = "mean",
) -> Any:  # fmt: skip
    """-input[target] for log-probabilities (N, C, ...)."""
    reduction = reduction_of(size_average, reduce, reduction)
    return _nll(input, target, weight, ignore_index=ignore_index, reduction=reduction)


def binary_cross_entropy(
    input: Any, target: Any, weight: Any = None, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:  # fmt: skip
    """-(target * log(input) + (1 - target) * log(1 - input)); logarithms are at least -100."""
    return _bce(input, target, weight, reduction=reduction_of(size_average, reduce, reduction))


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean", pos_weight: Any = None,
) -> Any:  # fmt: skip
    """`binary_cross_entropy` of sigmoid(input), exact for logits of any size."""
    return _bce_logits(input, target, weight, pos_weight, reduction=reduction_of(size_average, reduce, reduction))


def kl_div(
    input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
    log_target: bool = False,
) -> Any:  # fmt: skip
    """target * (log(target) - input) for log-probabilities; `reduction="batchmean"` gives the divergence."""
    reduction = reduction_of(size_average, reduce, reduction)
    if reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size. 'batchmean' divides "
            "only by the batch size, and aligns with the KL div math definition.",
            stacklevel=2,
        )
    if reduction == "batchmean" and not input.ndim:
        reduction = "sum"
    return _kl_div(input, target, log_target=log_target, reduction=reduction)
