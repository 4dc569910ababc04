"""Losses of margins, of distances, and of given likelihoods. None of them broadcasts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ... import ops
from ...errors import DTypeError, OptionError, ShapeError, explain
from ...graph.graph import PLACE
from ...ops.loss import check_same
from .activations import logsigmoid
from .distances import pairwise_distance
from .losses import reduction_of


def _reduced(values: Any, reduction: str) -> Any:
    if reduction == "mean":
        return values.mean()
    if reduction == "sum":
        return values.sum()
    if reduction == "none":
        return values
    raise OptionError(explain("unknown reduction of a loss", expected="'mean', 'sum' or 'none'", given=repr(reduction)))


def _same_shapes(name: str, **tensors: Any) -> None:
    if len({tuple(t.shape) for t in tensors.values()}) > 1:
        raise ShapeError(
            explain(
                f"{name}: the operands have different shapes, and a loss does not broadcast",
                given=", ".join(f"{k} {tuple(t.shape)}" for k, t in tensors.items()),
            )
        )


# --------------------------------------------------------------------------------------------------------- likelihoods


def poisson_nll_loss(
    input: Any, target: Any, log_input: bool = True, full: bool = False, size_average: bool | None = None,
    eps: float = 1e-8, reduce: bool | None = None, reduction: str = "mean",
) -> Any:  # fmt: skip
    """exp(input) - target * input: the negative log-likelihood of counts without the part that input has none in.

    Args:
        input: The logarithm of the expected count, or with log_input=False the count itself.
        target: Counts, the shape of input.
        full: Add Stirling's approximation of log(target!), where target > 1.
        eps: Added within the logarithm of the input.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    check_same("poisson_nll_loss", input, target)
    loss = ops.exp(input) - target * input if log_input else input - target * ops.log(input + eps)
    if full:
        n = ops.where(target > 1, target, 1)
        stirling = n * ops.log(n) - n + 0.5 * ops.log(n * (2 * math.pi))
        loss = loss + ops.where(target > 1, stirling, 0)
    return _reduced(loss, reduction)


def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Any:
    """(log(var) + (input - target)**2 / var) / 2; Nix and Weigend 1994.

    Args:
        input: The expected value.
        target: The shape of input.
        var: The variance: a number, the shape of input, or this with one axis of 1 or without its last axis. It is taken
            as at least eps; the gradient does not see that.
        full: Add log(2 * pi) / 2.

    Raises:
        OptionError: A variance is negative (not checked in a compiled step).
    """
    check_same("gaussian_nll_loss", input, target)
    if isinstance(var, (int, float)):
        if var < 0:
            raise OptionError("var has negative entry/entries")
        var = ops.full(shape=tuple(input.shape), value=float(var), dtype=input.dtype, like=input)
    shape, own = tuple(input.shape), tuple(var.shape)
    if own != shape:
        if own == shape[:-1]:
            var = var.unsqueeze(-1)
        elif len(own) != len(shape) or sorted(m for m, n in zip(own, shape, strict=True) if m != n) != [1]:
            expected = f"{shape}, {shape[:-1]}, or {shape} with one axis of 1"
            raise ShapeError(explain("var is of incorrect size", expected=expected, given=f"input {shape}, var {own}"))
    if PLACE.graph is None and bool((var < 0).any()):
        raise OptionError("var has negative entry/entries")
    held = var.detach()
    var = var + (ops.clip(held, min=eps) - held)
    loss = 0.5 * (ops.log(var) + (input - target) ** 2 / var)
    return _reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


# ------------------------------------------------------------------------------------------------------- two operands


def hinge_embedding_loss(
    input: Any, target: Any, margin: float = 1.0, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:  # fmt: skip
    """For distances: input where target is 1, max(0, margin - input) where it is -1."""
    reduction = reduction_of(size_average, reduce, reduction)
    check_same("hinge_embedding_loss", input, target)
    far = ops.where(ops.not_equal(target, 1), ops.clip(margin - input, min=0), 0)
    return _reduced(far + ops.where(ops.not_equal(target, -1), input, 0), reduction)


def soft_margin_loss(
    input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
) -> Any:  # fmt: skip
    """log(1 + exp(-target * input)) for targets of 1 and -1."""
    reduction = reduction_of(size_average, reduce, reduction)
    check_same("soft_margin_loss", input, target)
    return _reduced(-logsigmoid(target * input), reduction)


def multilabel_soft_margin_loss(
    input: Any, target: Any, weight: Any = None, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:  # fmt: skip
    """-(target * log(sigmoid(input)) + (1 - target) * log(sigmoid(-input))), averaged over the last axis, the classes.

    Args:
        input: Logits (N, C).
        target: 0 or 1, the shape of input.
        weight: (C,), what each class counts, or what broadcasts to input; or None.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    check_same("multilabel_soft_margin_loss", input, target)
    loss = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    if weight is not None:
        shape, full = tuple(weight.shape), tuple(input.shape)
        if len(shape) > len(full) or any(m not in (1, n) for m, n in zip(shape[::-1], full[::-1], strict=False)):
            given = f"input {full}, weight {shape}"
            raise ShapeError(explain("multilabel_soft_margin_loss: weight does not broadcast to input", given=given))
        loss = loss * weight
    return _reduced(loss.mean(-1), reduction)


def multi_margin_loss(
    input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None, size_average: bool | None = None,
    reduce: bool | None = None, reduction: str = "mean",
) -> Any:  # fmt: skip
    """The sum over all classes but the target of max(0, margin - input[target] + input)**p, divided by C.

    Args:
        input: Scores (N, C) or (C,).
        target: Class indices (N,) or ().
        p: 1 or 2.
        weight: (C,), what a row with this target counts; or None.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    if p not in (1, 2):
        raise OptionError("only p == 1 and p == 2 supported")
    if target.dtype.kind not in ("int", "uint"):
        raise DTypeError(explain("multi_margin_loss takes class indices", given=target.dtype))
    input = input if input.ndim else input.reshape(1)
    if input.ndim > 2 or tuple(target.shape) != tuple(input.shape[:-1]):
        raise ShapeError(
            explain(
                "multi_margin_loss: the target does not have one class index for each row of the prediction",
                expected="input (N, C) and target (N,), or input (C,) and target ()",
                given=f"input {tuple(input.shape)}, target {tuple(target.shape)}",
            )
        )
    _check_weight("multi_margin_loss", weight, input)
    index = target.unsqueeze(-1)
    values = ops.clip(margin - input.gather(-1, index) + input, min=0)
    values = values if p == 1 else values * values
    if weight is not None:
        values = values * ops.take(weight, index, axis=0)
    own = ops.one_hot(target, classes=input.shape[-1], dtype=input.dtype)
    return _reduced((values * (1 - own)).mean(-1), reduction)


def multilabel_margin_loss(
    input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
) -> Any:  # fmt: skip
    """The sum of max(0, 1 - input[y] + input[i]) over all targets y and all classes i that are no target, divided by C.

    Args:
        input: Scores (N, C) or (C,).
        target: The shape of input: class indices; what comes after the first -1 of a row counts nothing.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    check_same("multilabel_margin_loss", input, target)
    if input.ndim > 2:
        raise ShapeError(explain("multilabel_margin_loss", expected="input (N, C) or (C,)", given=list(input.shape)))
    input, target = (input, target) if input.ndim else (input.reshape(1), target.reshape(1))
    valid = ops.cumprod((target >= 0).to(input.dtype), axis=-1)
    index = ops.clip(target, min=0)
    hits = ops.one_hot(index, classes=input.shape[-1], dtype=input.dtype) * valid.unsqueeze(-1)
    other = 1 - hits.amax(-2)
    gaps = 1 - input.gather(-1, index).unsqueeze(-1) + input.unsqueeze(-2)  # (..., targets, classes)
    loss = (ops.clip(gaps, min=0) * valid.unsqueeze(-1) * other.unsqueeze(-2)).sum((-2, -1)) / input.shape[-1]
    return _reduced(loss, reduction)


def _check_weight(name: str, weight: Any, input: Any) -> None:
    if weight is not None and tuple(weight.shape) != tuple(input.shape[-1:]):
        raise ShapeError(
            explain(
                f"{name}: one weight for each class", expected=f"weight {tuple(input.shape[-1:])}",
                given=f"input {tuple(input.shape)}, weight {tuple(weight.shape)}",
            )
        )  # fmt: skip


# ----------------------------------------------------------------------------------------------------- three operands


def margin_ranking_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0, size_average: bool | None = None,
    reduce: bool | None = None, reduction: str = "mean",
) -> Any:  # fmt: skip
    """max(0, -target * (input1 - input2) + margin): a target of 1 wants the first to be larger, -1 the second."""
    reduction = reduction_of(size_average, reduce, reduction)
    _same_shapes("margin_ranking_loss", input1=input1, input2=input2, target=target)
    return _reduced(ops.clip(-target * (input1 - input2) + margin, min=0), reduction)


def cosine_embedding_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0, size_average: bool | None = None,
    reduce: bool | None = None, reduction: str = "mean",
) -> Any:  # fmt: skip
    """1 - cos where target is 1, max(0, cos - margin) where it is -1.

    Args:
        input1, input2: Vectors (N, D) or (D,).
        target: (N,) or ().
    """
    reduction = reduction_of(size_average, reduce, reduction)
    _same_shapes("cosine_embedding_loss", input1=input1, input2=input2)
    if input1.ndim not in (1, 2) or tuple(target.shape) != tuple(input1.shape[:-1]):
        raise ShapeError(
            explain(
                "cosine_embedding_loss: one target for each pair of vectors",
                expected="inputs (N, D) and target (N,), or inputs (D,) and target ()",
                given=f"inputs {tuple(input1.shape)}, target {tuple(target.shape)}",
            )
        )
    a, b = (input1 * input1).sum(-1) + 1e-12, (input2 * input2).sum(-1) + 1e-12
    cos = (input1 * input2).sum(-1) / ops.sqrt(a * b)
    apart = ops.where(ops.equal(target, -1), ops.clip(cos - margin, min=0), 0)
    return _reduced(ops.where(ops.equal(target, 1), 1 - cos, 0) + apart, reduction)


def triplet_margin_loss(
    anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2, eps: float = 1e-6,
    swap: bool = False, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
) -> Any:  # fmt: skip
    """max(0, margin + d(anchor, positive) - d(anchor, negative)), d being `pairwise_distance`; Balntas et al. 2016.

    Args:
        anchor, positive, negative: Vectors (N, D) or (D,).
        swap: Use d(positive, negative) in place of d(anchor, negative) where it is smaller.
    """

    def distance(a: Any, b: Any) -> Any:
        return pairwise_distance(a, b, p, eps)

    reduction = reduction_of(size_average, reduce, reduction)
    return _triplet("triplet_margin_loss", anchor, positive, negative, distance, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: Any, positive: Any, negative: Any, *, distance_function: Callable | None = None, margin: float = 1.0,
    swap: bool = False, reduction: str = "mean",
) -> Any:  # fmt: skip
    """`triplet_margin_loss` with a distance function of two Tensors; default: `pairwise_distance`."""
    name, distance = "triplet_margin_with_distance_loss", distance_function or pairwise_distance
    if margin <= 0:
        raise OptionError(f"margin must be greater than 0, got {margin}")
    return _triplet(name, anchor, positive, negative, distance, margin, swap, reduction)


def _triplet(
    name: str, anchor: Any, positive: Any, negative: Any, distance: Callable, margin: float, swap: bool, reduction: str
) -> Any:
    _same_shapes(name, anchor=anchor, positive=positive, negative=negative)
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = ops.minimum(far, distance(positive, negative))
    return _reduced(ops.clip(near - far + margin, min=0), reduction)
