"""What losses share: the reduction, and the checks of predictions and targets; kernels of losses are to call these too."""

from __future__ import annotations

import math

from ..errors import DTypeError, OptionError, ShapeError, explain


def reduced(xp, loss, reduction):
    if reduction == "mean":
        return xp.mean(loss)
    if reduction == "sum":
        return xp.sum(loss)
    if reduction == "none":
        return loss
    expected = "'mean', 'sum' or 'none' (kl_div: also 'batchmean')"
    raise OptionError(explain("unknown reduction of a loss", expected=expected, given=repr(reduction)))


def per_element(g, input, reduction):
    """The cotangent of each element's loss, which broadcasts against input."""
    if reduction == "mean":
        return g / math.prod(input.shape)
    return g / input.shape[0] if reduction == "batchmean" else g


def check_same(name, input, target, do=None) -> None:
    """Raises ShapeError unless prediction and target have one shape; kernels are to call it too."""
    if tuple(input.shape) != tuple(target.shape):
        raise ShapeError(
            explain(
                f"{name}: prediction and target have different shapes, and a loss does not broadcast",
                expected=f"target {tuple(input.shape)}",
                given=f"input {tuple(input.shape)}, target {tuple(target.shape)}",
                do=do or "reshape one of them, such as target.reshape(input.shape) or input.squeeze(-1)",
            )
        )


def check_classes(name, xp, input, target, weight) -> int:
    """The axis of the classes; raises ShapeError or DTypeError unless target holds one class index for each row."""
    if xp.dtype(target).kind not in ("int", "uint"):
        raise DTypeError(
            explain(
                f"{name} takes class indices",
                expected="an integer target",
                given=f"input {tuple(input.shape)}, target {tuple(target.shape)} {xp.dtype(target).name}",
                do="pass integers, or use cross_entropy_soft for probabilities",
            )
        )
    axis = class_axis(name, input, weight)
    expected = (*input.shape[:axis], *input.shape[axis + 1 :])
    if tuple(target.shape) != expected:
        raise ShapeError(
            explain(
                f"{name}: the target does not have one class index for each row of the prediction",
                expected=f"target {expected}, that is input without its axis {axis} of classes",
                given=f"input {tuple(input.shape)}, target {tuple(target.shape)}",
                do="move the classes to axis 1, or flatten both: input.reshape(-1, C) and target.reshape(-1)",
            )
        )
    return axis


def class_axis(name, input, weight) -> int:
    axis = 1 if input.ndim > 1 else 0
    if input.ndim == 0 or (weight is not None and tuple(weight.shape) != (input.shape[axis],)):
        raise ShapeError(
            explain(
                f"{name}: one weight for each class",
                expected="input (N, C, ...) or (C,), weight (C,)",
                given=f"input {tuple(input.shape)}" + ("" if weight is None else f", weight {tuple(weight.shape)}"),
            )
        )
    return axis


def check_weight(name, input, **weights) -> None:
    """A weight may be smaller than the prediction, as its definition says; it never makes the loss larger."""
    for key, weight in weights.items():
        if weight is None:
            continue
        shape, full = tuple(weight.shape), tuple(input.shape)
        if len(shape) > len(full) or any(w not in (1, n) for w, n in zip(shape[::-1], full[::-1], strict=False)):
            raise ShapeError(
                explain(
                    f"{name}: {key} does not broadcast to the prediction",
                    expected=f"a shape that broadcasts to {full}",
                    given=f"input {full}, {key} {shape}",
                )
            )
