"""Losses of predictions, and their gradients with respect to them, as pure functions: for loops over `CompiledModel.evaluate`.

They take arrays of any engine (inside `jax.jit` and `jax.grad`, and with PyTorch's graph, too) and Tensors, and give
what ops give: a 0-d array that prints with `f"{loss:.4f}"`, and a gradient like the predictions. Nothing broadcasts. Both
are of the predictions' dtype, to which targets are cast.

Where probabilities are expected, those outside of 0 to 1 count as 0 or 1, and losses are finite. For logits there are
functions of their own, which are exact where a probability would round to 0 or 1.

Example:
    >>> import numpy as np
    >>> from gradloom.training.losses import mse_loss, mse_loss_gradient
    >>> predictions, targets = np.array([1.0, 2.0]), np.array([1.0, 4.0])
    >>> print(f"{mse_loss(predictions, targets):.4f}", mse_loss_gradient(predictions, targets))
    2.0000 [ 0. -2.]
"""

from __future__ import annotations

import math
from typing import Any

from .. import ops
from ..dtypes import default_dtype, finfo
from ..ops.loss_checks import check_classes, check_same, class_axis
from ..ops.op import VJPS, dispatch, kind_of, not_an_array
from ..tensor.tensor import Tensor

__all__ = [
    "mse_loss", "cross_entropy_loss", "binary_cross_entropy", "cross_entropy_with_logits",
    "binary_cross_entropy_with_logits", "mse_loss_gradient", "cross_entropy_loss_gradient",
    "binary_cross_entropy_gradient", "cross_entropy_with_logits_gradient", "binary_cross_entropy_with_logits_gradient",
]  # fmt: skip


def mse_loss(predictions: Any, targets: Any) -> Any:
    """The mean of (predictions - targets)**2 over all elements.

    Args:
        predictions, targets: Arrays of one shape.

    Raises:
        ShapeError: They have different shapes.
    """
    return ops.mse_loss(*_pair("mse_loss", predictions, targets))


def mse_loss_gradient(predictions: Any, targets: Any) -> Any:
    """2 * (predictions - targets) / the number of elements."""
    return _vjp("mse_loss", *_pair("mse_loss_gradient", predictions, targets))


def cross_entropy_loss(predictions: Any, targets: Any) -> Any:
    """-log(p) of the target's class, or -sum(targets * log(p)) over classes: the mean over rows.

    Args:
        predictions: Probabilities (N, C), (N, C, ...) or (C,). Those below the dtype's smallest normal number (about 1e-38 in
            float32) count as that number, so that their logarithms are finite, and have a gradient of 0.
        targets: Probabilities or one-hot rows, of the predictions' shape; or class indices, integers (N,), (N, ...) or (). An
            index that is no class makes the loss NaN; rows with the index -100 do not count.

    Raises:
        ShapeError: Shapes do not fit.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.5, 0.5], [0.25, 0.75]])
        >>> float(cross_entropy_loss(p, np.array([0, 1]))) == float(cross_entropy_loss(p, np.eye(2)))
        True
    """
    p, targets, axis, indices = _classes("cross_entropy_loss", predictions, targets)
    logs = ops.log(ops.clip(p, min=_smallest(p), max=1))
    if indices:
        return ops.nll_loss(logs, targets)
    return ops.negative(ops.mean(ops.sum(ops.multiply(targets, logs), axis=axis)))


def cross_entropy_loss_gradient(predictions: Any, targets: Any) -> Any:
    """The gradient of `cross_entropy_loss`: -targets / predictions / the number of rows."""
    p, targets, axis, indices = _classes("cross_entropy_loss_gradient", predictions, targets)
    low = _smallest(p)
    if indices:
        of_logs = _vjp("nll_loss", p, targets, None, ignore_index=-100)
    else:
        of_logs = ops.divide(targets, -max(math.prod((*p.shape[:axis], *p.shape[axis + 1 :])), 1))
    return _inside(p, ops.divide(of_logs, ops.clip(p, min=low, max=1)), low)


def cross_entropy_with_logits(logits: Any, targets: Any) -> Any:
    """`cross_entropy_loss(softmax(logits), targets)`, exact for logits of any size.

    Args:
        logits: (N, C), (N, C, ...) or (C,).
        targets: As for `cross_entropy_loss`.
    """
    x, targets, _, indices = _classes("cross_entropy_with_logits", logits, targets)
    return ops.cross_entropy(x, targets) if indices else ops.cross_entropy_soft(x, targets)


def cross_entropy_with_logits_gradient(logits: Any, targets: Any) -> Any:
    """The gradient of `cross_entropy_with_logits`: (softmax(logits) - targets) / the number of rows."""
    x, targets, _, indices = _classes("cross_entropy_with_logits_gradient", logits, targets)
    if indices:
        return _vjp("cross_entropy", x, targets, None, ignore_index=-100, label_smoothing=0.0)
    return _vjp("cross_entropy_soft", x, targets, None, label_smoothing=0.0)


def binary_cross_entropy(predictions: Any, targets: Any) -> Any:
    """The mean of -(targets * log(p) + (1 - targets) * log(1 - p)) over all elements.

    Args:
        predictions: Probabilities. Logarithms are at least -100, as in PyTorch.
        targets: 0 to 1, of the predictions' shape.

    Raises:
        ShapeError: They have different shapes.

    Example:
        >>> import numpy as np
        >>> float(binary_cross_entropy(np.array([1.0, 0.0]), np.array([1.0, 1.0])))
        50.0
    """
    p, targets = _pair("binary_cross_entropy", predictions, targets)
    return ops.binary_cross_entropy(ops.clip(p, min=0, max=1), targets)


def binary_cross_entropy_gradient(predictions: Any, targets: Any) -> Any:
    """The gradient of `binary_cross_entropy`: (p - targets) / (p * (1 - p)) / the number of elements.

    As in PyTorch, p * (1 - p) is at least 1e-12.
    """
    p, targets = _pair("binary_cross_entropy_gradient", predictions, targets)
    return _inside(p, _vjp("binary_cross_entropy", ops.clip(p, min=0, max=1), targets, None), 0)


def binary_cross_entropy_with_logits(logits: Any, targets: Any) -> Any:
    """`binary_cross_entropy(sigmoid(logits), targets)`, exact for logits of any size."""
    return ops.binary_cross_entropy_with_logits(*_pair("binary_cross_entropy_with_logits", logits, targets))


def binary_cross_entropy_with_logits_gradient(logits: Any, targets: Any) -> Any:
    """The gradient of `binary_cross_entropy_with_logits`: (sigmoid(logits) - targets) / the number of elements."""
    x, targets = _pair("binary_cross_entropy_with_logits_gradient", logits, targets)
    return _vjp("binary_cross_entropy_with_logits", x, targets, None, None)


# --- what they share ---


def _pair(name: str, predictions: Any, targets: Any) -> tuple[Any, Any]:
    """Both in the predictions' dtype."""
    p = _floats(name, predictions)
    _array(name, targets)
    check_same(name, p, targets)
    return p, _cast(targets, ops.dtype(p))


def _classes(name: str, predictions: Any, targets: Any) -> tuple[Any, Any, int, bool]:
    """The same for rows of classes: both, the axis of the classes, and whether the targets are indices."""
    p = _floats(name, predictions)
    _array(name, targets)
    if targets.ndim == p.ndim - 1 and ops.dtype(targets).kind in ("int", "uint"):
        return p, targets, check_classes(name, ops, p, targets, None), True
    check_same(name, p, targets, do="give one-hot rows, or class indices: integers, one for each row")
    return p, _cast(targets, ops.dtype(p)), class_axis(name, p, None), False


def _array(name: str, value: Any) -> None:
    if kind_of(type(value)) is None:
        raise not_an_array(name, type(value))


def _floats(name: str, predictions: Any) -> Any:
    _array(name, predictions)
    return predictions if ops.dtype(predictions).kind == "float" else _cast(predictions, default_dtype())


def _cast(x: Any, dtype: Any) -> Any:
    return x if ops.dtype(x) is dtype else ops.astype(x, dtype=dtype)


def _smallest(p: Any) -> float:
    # Not larger: the gradient of a softmax whose probability is clamped is lost.
    return finfo(ops.dtype(p)).tiny


def _inside(p: Any, gradient: Any, low: float) -> Any:
    """0 where p is clamped to low or 1."""
    return _run("clip_vjp_x", gradient, p, min=low, max=1)


def _vjp(name: str, p: Any, *values: Any, **attrs: Any) -> Any:
    """The op's own gradient with respect to its first argument, where its mean is the end of the computation."""
    one = ops.ones_like(ops.sum(p))  # of a value: on JAX, float64 that is asked for by dtype= is refused
    return _run(f"{name}_vjp_input", one, p, *values, reduction="mean", **attrs)


def _run(name: str, *values: Any, **attrs: Any) -> Any:
    if any(isinstance(v, Tensor) for v in values):
        return VJPS[name].forward(ops.xp, *values, **attrs)  # recorded, so that it can be differentiated again
    return dispatch(VJPS[name], *values, **attrs)
