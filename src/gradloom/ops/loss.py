"""Losses, with PyTorch's names, arguments and numbers.

Nothing broadcasts silently: prediction and target have one shape, or the target holds one class index for each row.
`reduction` is "mean", "sum" or "none".
"""

from __future__ import annotations

import math

from ..errors import OptionError, explain
from .loss_checks import check_classes, check_same, check_weight, class_axis, per_element, reduced
from .op import op

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "cross_entropy_soft", "huber_loss",
    "kl_div", "l1_loss", "mse_loss", "nll_loss", "smooth_l1_loss",
]  # fmt: skip

# --- regression ---


@op(promote="float")
def mse_loss(xp, input, target, *, reduction="mean"):
    """(input - target)**2.

    Args:
        input, target: Floats of one shape.

    Returns:
        0-d, or like input for reduction "none".

    Example:
        >>> import numpy as np
        >>> float(mse_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
        2.0
    """
    check_same("mse_loss", input, target)
    return reduced(xp, xp.square(input - target), reduction)


@mse_loss.vjp("input")
def _(xp, g, input, target, reduction):
    return (input - target) * (g * (2 / (math.prod(input.shape) or 1) if reduction == "mean" else 2))


@mse_loss.vjp("target")
def _(xp, g, input, target, reduction):
    return (target - input) * (g * (2 / (math.prod(input.shape) or 1) if reduction == "mean" else 2))


@op(promote="float")
def l1_loss(xp, input, target, *, reduction="mean"):
    """|input - target|; the gradient at 0 is 0.

    Args:
        input, target: Floats of one shape.

    Returns:
        0-d, or like input for reduction "none".

    Example:
        >>> import numpy as np
        >>> float(l1_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
        1.0
    """
    check_same("l1_loss", input, target)
    return reduced(xp, xp.abs(input - target), reduction)


@l1_loss.vjp("input")
def _(xp, g, input, target, reduction):
    return xp.sign(input - target) * per_element(g, input, reduction)


@l1_loss.vjp("target")
def _(xp, g, input, target, reduction):
    return xp.sign(target - input) * per_element(g, input, reduction)


@op(promote="float")
def huber_loss(xp, input, target, *, delta=1.0, reduction="mean"):
    """d**2 / 2 where |d| < delta, delta * (|d| - delta / 2) elsewhere, for d = input - target.

    Args:
        input, target: Floats of one shape.
        delta: Above 0.

    Returns:
        0-d, or like input for reduction "none".

    Example:
        >>> import numpy as np
        >>> huber_loss(np.array([0.5, 3.0]), np.array([0.0, 0.0]), reduction="none").tolist()
        [0.125, 2.5]
    """
    check_same("huber_loss", input, target)
    if not delta > 0:
        raise OptionError(explain("huber_loss: delta has to be above 0", given=f"delta={delta}", do="use l1_loss"))
    d = xp.abs(input - target)
    near = xp.minimum(d, delta)
    return reduced(xp, near * (d - 0.5 * near), reduction)


@huber_loss.vjp("input")
def _(xp, g, input, target, delta, reduction):
    return xp.maximum(xp.minimum(input - target, delta), -delta) * per_element(g, input, reduction)


@huber_loss.vjp("target")
def _(xp, g, input, target, delta, reduction):
    return xp.maximum(xp.minimum(target - input, delta), -delta) * per_element(g, input, reduction)


@op(promote="float")
def smooth_l1_loss(xp, input, target, *, beta=1.0, reduction="mean"):
    """d**2 / (2 * beta) where |d| < beta, |d| - beta / 2 elsewhere, for d = input - target; l1_loss for beta 0.

    Args:
        input, target: Floats of one shape.
        beta: 0 or above.

    Returns:
        0-d, or like input for reduction "none".

    Example:
        >>> import numpy as np
        >>> smooth_l1_loss(np.array([0.5, 3.0]), np.array([0.0, 0.0]), reduction="none").tolist()
        [0.125, 2.5]
    """
    check_same("smooth_l1_loss", input, target)
    if not beta >= 0:
        raise OptionError(explain("smooth_l1_loss: beta has to be 0 or above", given=f"beta={beta}"))
    d = xp.abs(input - target)
    if beta > 0:
        near = xp.minimum(d, beta)
        d = near * (d - 0.5 * near) / beta
    return reduced(xp, d, reduction)


@smooth_l1_loss.vjp("input")
def _(xp, g, input, target, beta, reduction):
    return _smooth_sign(xp, input - target, beta) * per_element(g, input, reduction)


@smooth_l1_loss.vjp("target")
def _(xp, g, input, target, beta, reduction):
    return _smooth_sign(xp, target - input, beta) * per_element(g, input, reduction)


def _smooth_sign(xp, d, beta):
    return xp.maximum(xp.minimum(d / beta, 1), -1) if beta > 0 else xp.sign(d)


# --- classes ---


@op(wide=True, promote="float", promoted=("input", "weight"))
def cross_entropy(xp, input, target, weight=None, *, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    """-log softmax(input)[target]; `torch.nn.functional.cross_entropy` with class indices.

    Args:
        input: Logits (N, C, ...) or (C,).
        target: Class indices, integers (N, ...) or (). One that is neither in 0..C-1 nor `ignore_index` makes the loss
            NaN.
        weight: (C,), what rows of a class count; or None. It has no gradient.
        ignore_index: Rows with this target count nothing.
        label_smoothing: 0 to 1; this much of the target is spread over all classes.
        reduction: The "mean" is divided by the sum of the weights of the rows.

    Returns:
        0-d, or like target for reduction "none".

    Example:
        >>> import numpy as np
        >>> round(float(cross_entropy(np.zeros((2, 4)), np.array([0, 3]))), 4)
        1.3863
    """
    axis = check_classes("cross_entropy", xp, input, target, weight)
    if not 0 <= label_smoothing <= 1:
        given = f"label_smoothing={label_smoothing}"
        raise OptionError(explain("cross_entropy: label_smoothing is a share", expected="0 to 1", given=given))
    classes = input.shape[axis]
    index, each, ignored = _weights(xp, input, target, weight, axis, ignore_index)
    total = xp.logsumexp(input, axis=axis)
    loss = (total - _pick(xp, input, index, axis)) * each
    if label_smoothing:
        spread = classes * total - xp.sum(input, axis=axis)
        if weight is not None:
            column = _column(xp, weight, input.ndim)
            spread = xp.sum(weight) * total - xp.sum(input * column, axis=axis)
        loss = (1 - label_smoothing) * loss + label_smoothing / classes * spread
    loss = xp.where(ignored, 0, loss)
    return xp.sum(loss) / xp.sum(each) if reduction == "mean" else reduced(xp, loss, reduction)


@cross_entropy.vjp("input")
def _(xp, g, input, target, weight, ignore_index, label_smoothing, reduction):
    axis = 1 if input.ndim > 1 else 0
    classes = input.shape[axis]
    index, each, ignored = _weights(xp, input, target, weight, axis, ignore_index)
    g = g / xp.sum(each) if reduction == "mean" else g
    softmax = xp.exp(input - xp.logsumexp(input, axis=axis, keepdims=True))
    hard = each * g * (1 - label_smoothing)
    if not label_smoothing:
        return _add_at_target(xp, softmax * xp.expand_dims(hard, axis=axis), index, -hard, axis)
    soft = xp.where(ignored, 0, xp.ones_like(each) * g) * (label_smoothing / classes)
    column = xp.ones_like(input) if weight is None else _column(xp, weight, input.ndim)
    sum_of_weights = classes if weight is None else xp.sum(weight)
    d = softmax * xp.expand_dims(hard + soft * sum_of_weights, axis=axis) - column * xp.expand_dims(soft, axis=axis)
    return _add_at_target(xp, d, index, -hard, axis)


@op(wide=True, promote="float")
def cross_entropy_soft(xp, input, target, weight=None, *, label_smoothing=0.0, reduction="mean"):
    """-sum of target * log softmax(input) over classes; `torch.nn.functional.cross_entropy` with class probabilities.

    Args:
        input: Logits (N, C, ...) or (C,).
        target: Probabilities, the shape of input.
        weight: (C,), what each class counts; or None. It has no gradient.
        label_smoothing: 0 to 1; this much of the target is spread over all classes.
        reduction: The "mean" is over rows, whatever the weights.

    Returns:
        0-d, or (N, ...) for reduction "none".

    Example:
        >>> import numpy as np
        >>> round(float(cross_entropy_soft(np.zeros((1, 2)), np.array([[0.5, 0.5]]))), 4)
        0.6931
    """
    check_same("cross_entropy_soft", input, target, do="use cross_entropy for class indices")
    axis = class_axis("cross_entropy_soft", input, weight)
    if not 0 <= label_smoothing <= 1:
        given = f"label_smoothing={label_smoothing}"
        raise OptionError(explain("cross_entropy_soft: label_smoothing is a share", expected="0 to 1", given=given))
    target = _weighted(xp, target, weight, axis, label_smoothing)
    loss = xp.sum(target * (xp.logsumexp(input, axis=axis, keepdims=True) - input), axis=axis)
    return reduced(xp, loss, reduction)


@cross_entropy_soft.vjp("input")
def _(xp, g, input, target, weight, label_smoothing, reduction):
    axis = 1 if input.ndim > 1 else 0
    target = _weighted(xp, target, weight, axis, label_smoothing)
    softmax = xp.exp(input - xp.logsumexp(input, axis=axis, keepdims=True))
    return (softmax * xp.sum(target, axis=axis, keepdims=True) - target) * _each_row(xp, g, input, axis, reduction)


@cross_entropy_soft.vjp("target")
def _(xp, g, input, weight, label_smoothing, reduction):
    axis = 1 if input.ndim > 1 else 0
    d = (xp.logsumexp(input, axis=axis, keepdims=True) - input) * _each_row(xp, g, input, axis, reduction)
    return _weighted(xp, d, weight, axis, 0) * (1 - label_smoothing)


@op(wide=True, promote="float", promoted=("input", "weight"))
def nll_loss(xp, input, target, weight=None, *, ignore_index=-100, reduction="mean"):
    """-input[target]; `torch.nn.functional.nll_loss`.

    Args:
        input: Log-probabilities (N, C, ...) or (C,).
        target, weight, ignore_index, reduction: As for `cross_entropy`.

    Returns:
        0-d, or like target for reduction "none".

    Example:
        >>> import numpy as np
        >>> float(nll_loss(np.array([[-1.0, -2.0]]), np.array([1])))
        2.0
    """
    axis = check_classes("nll_loss", xp, input, target, weight)
    index, each, ignored = _weights(xp, input, target, weight, axis, ignore_index)
    loss = xp.where(ignored, 0, -_pick(xp, input, index, axis) * each)
    return xp.sum(loss) / xp.sum(each) if reduction == "mean" else reduced(xp, loss, reduction)


@nll_loss.vjp("input")
def _(xp, g, input, target, weight, ignore_index, reduction):
    axis = 1 if input.ndim > 1 else 0
    index, each, _ = _weights(xp, input, target, weight, axis, ignore_index)
    g = g / xp.sum(each) if reduction == "mean" else g
    return _add_at_target(xp, xp.zeros_like(input), index, -each * g, axis)


def _weights(xp, input, target, weight, axis, ignore_index):
    """For each row: an index that is safe to use, what the row counts, and whether it is ignored."""
    inside = (target >= 0) & (target < input.shape[axis])
    ignored = xp.equal(target, ignore_index)
    index = xp.where(inside, target, 0)
    if weight is None:
        each = xp.ones(shape=tuple(target.shape), dtype=xp.dtype(input), like=input)
    else:
        each = xp.take(weight, index, axis=0)
    # No engine can raise on values in a compiled step, and some would read another row: a wrong target gives NaN.
    return index, xp.where(ignored, 0, xp.where(inside, each, math.nan)), ignored


def _pick(xp, input, index, axis):
    """input at each row's index."""
    return xp.squeeze(xp.take_along_axis(input, xp.expand_dims(index, axis=axis), axis=axis), axis=axis)


def _add_at_target(xp, d, index, value, axis):
    return xp.scatter_add(d, xp.expand_dims(index, axis=axis), xp.expand_dims(value, axis=axis), axis=axis)


def _column(xp, weight, ndim):
    """(C,) as (C, 1, ...), which broadcasts against (N, C, ...)."""
    return xp.reshape(weight, shape=(weight.shape[0],) + (1,) * max(ndim - 2, 0))


def _weighted(xp, target, weight, axis, label_smoothing):
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / target.shape[axis]
    return target if weight is None else target * _column(xp, weight, target.ndim)


def _each_row(xp, g, input, axis, reduction):
    """The cotangent of each row's loss, which broadcasts against input."""
    if reduction == "none":
        return xp.expand_dims(g, axis=axis)
    rows = math.prod(input.shape) // input.shape[axis]
    return g / rows if reduction == "mean" else g


# --- probabilities ---


@op(wide=True, promote="float")
def binary_cross_entropy(xp, input, target, weight=None, *, reduction="mean"):
    """-(target * log(input) + (1 - target) * log(1 - input)), logarithms being at least -100, as in PyTorch.

    Args:
        input: Probabilities.
        target: Floats, the shape of input.
        weight: Rescales each element; broadcasts to input. It has no gradient.

    Returns:
        0-d, or like input for reduction "none".

    Example:
        >>> import numpy as np
        >>> float(binary_cross_entropy(np.array([1.0]), np.array([0.0])))
        100.0
    """
    check_same("binary_cross_entropy", input, target)
    check_weight("binary_cross_entropy", input, weight=weight)
    yes, no = _log_odds(xp, input)
    loss = (target - 1) * no - target * yes
    return reduced(xp, loss if weight is None else loss * weight, reduction)


@binary_cross_entropy.vjp("input")
def _(xp, g, input, target, weight, reduction):
    # 1e-12 is PyTorch's, and keeps the gradient finite for probabilities of 0 and 1.
    d = (input - target) / xp.maximum(input * (1 - input), 1e-12) * per_element(g, input, reduction)
    return d if weight is None else d * weight


@binary_cross_entropy.vjp("target")
def _(xp, g, input, weight, reduction):
    yes, no = _log_odds(xp, input)
    d = (no - yes) * per_element(g, input, reduction)
    return d if weight is None else d * weight


def _log_odds(xp, p):
    return xp.maximum(xp.log(p), -100), xp.maximum(xp.log1p(-p), -100)


@op(wide=True, promote="float")
def binary_cross_entropy_with_logits(xp, input, target, weight=None, pos_weight=None, *, reduction="mean"):
    """`binary_cross_entropy(sigmoid(input), target)`, exact for logits of any size.

    Args:
        input: Logits.
        target: Floats, the shape of input.
        weight: Rescales each element; broadcasts to input. It has no gradient.
        pos_weight: Rescales the part of the positives; broadcasts to input. It has no gradient.

    Returns:
        0-d, or like input for reduction "none".

    Example:
        >>> import numpy as np
        >>> float(binary_cross_entropy_with_logits(np.array([-1000.0]), np.array([1.0])))
        1000.0
    """
    check_same("binary_cross_entropy_with_logits", input, target)
    check_weight("binary_cross_entropy_with_logits", input, weight=weight, pos_weight=pos_weight)
    rest = _softplus_of_negative(xp, input)
    if pos_weight is not None:
        rest = rest * (target * (pos_weight - 1) + 1)
    loss = (1 - target) * input + rest
    return reduced(xp, loss if weight is None else loss * weight, reduction)


@binary_cross_entropy_with_logits.vjp("input")
def _(xp, g, input, target, weight, pos_weight, reduction):
    p = xp.sigmoid(input)
    if pos_weight is None:
        d = p - target
    else:
        positive = target * pos_weight
        d = (positive + (1 - target)) * p - positive
    d = d * per_element(g, input, reduction)
    return d if weight is None else d * weight


@binary_cross_entropy_with_logits.vjp("target")
def _(xp, g, input, weight, pos_weight, reduction):
    d = -input if pos_weight is None else _softplus_of_negative(xp, input) * (pos_weight - 1) - input
    d = d * per_element(g, input, reduction)
    return d if weight is None else d * weight


def _softplus_of_negative(xp, x):
    """log(1 + exp(-x)), with exponentials of negative numbers only."""
    return xp.log1p(xp.exp(-xp.abs(x))) - xp.minimum(x, 0)


@op(wide=True, promote="float")
def kl_div(xp, input, target, *, log_target=False, reduction="mean"):
    """target * (log(target) - input), 0 where target is 0; `torch.nn.functional.kl_div`.

    Args:
        input: Log-probabilities.
        target: Probabilities, or with `log_target` their logarithms; the shape of input.
        reduction: Also "batchmean", the sum divided by the length of the first axis, which is the divergence.

    Returns:
        0-d, or like input for reduction "none".

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.25, 0.75]])
        >>> float(kl_div(np.log(p), p, reduction="batchmean"))
        0.0
    """
    check_same("kl_div", input, target)
    if log_target:
        loss = xp.exp(target) * (target - input)
    else:
        loss = target * (xp.log(xp.where(xp.equal(target, 0), 1, target)) - input)
    return xp.sum(loss) / input.shape[0] if reduction == "batchmean" else reduced(xp, loss, reduction)


@kl_div.vjp("input")
def _(xp, g, target, log_target, reduction):
    return (xp.exp(target) if log_target else target) * -per_element(g, target, reduction)


@kl_div.vjp("target")
def _(xp, g, input, target, log_target, reduction):
    if log_target:
        d = xp.exp(target) * (target - input + 1)
    else:
        d = xp.log(xp.where(xp.equal(target, 0), 1, target)) - input + 1
        d = xp.where(xp.equal(target, 0), -input, d)
    return d * per_element(g, input, reduction)
