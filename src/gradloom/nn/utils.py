"""Helpers for training: clipping of gradients, parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from .. import ops
from ..errors import GradientError
from ..tensor.creation import tensor
from ..tensor.grad_mode import no_grad
from ..tensor.tensor import Tensor

__all__ = [
    "clip_grad_norm_", "clip_grads_with_norm_", "clip_grad_value_", "get_total_norm", "parameters_to_vector",
    "vector_to_parameters",
]  # fmt: skip


def _listed(tensors: Any) -> list:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def get_total_norm(
    tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
) -> Any:
    """The norm of all elements of all Tensors together, 0-d.

    Args:
        tensors: A Tensor or an iterable of them.
        norm_type: The order; math.inf for the largest absolute value.
        error_if_nonfinite: Raise if it is NaN or infinite.
        foreach: Chooses a kernel in PyTorch; the result is the same.

    Raises:
        GradientError: The norm is not finite, and `error_if_nonfinite`.
    """
    tensors, order = _listed(tensors), float(norm_type)
    if not tensors:
        return tensor(0.0)
    with no_grad():
        norms = [ops.norm(t, ord=order) for t in tensors]
        total = ops.norm(ops.stack(*norms, axis=0), ord=order)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise GradientError(
            f"The total norm of order {order} for gradients from `parameters` is non-finite, so it cannot be clipped. "
            "To disable this error and scale the gradients by the non-finite norm anyway, set "
            "`error_if_nonfinite=False`"
        )
    return total


def clip_grads_with_norm_(parameters: Any, max_norm: float, total_norm: Any, foreach: bool | None = None) -> None:
    """Scales the gradients in place by max_norm / total_norm where that is below 1."""
    with no_grad():
        scale = ops.clip(float(max_norm) / (total_norm + 1e-6), max=1.0)
        for p in _listed(parameters):
            g = p.grad
            if g is not None:
                g.mul_(scale if scale.dtype is g.dtype else scale.to(g.dtype))


def clip_grad_norm_(
    parameters: Any,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Any:
    """Scales the gradients in place so that their norm, taken together, is at most max_norm.

    Args:
        parameters: A Tensor or an iterable of them; those without a gradient are left out.
        max_norm: The largest norm.
        norm_type: The order; math.inf for the largest absolute value.
        error_if_nonfinite: Raise if the norm is NaN or infinite.
        foreach: Chooses a kernel in PyTorch; the result is the same.

    Returns:
        The norm before, 0-d.

    Example:
        >>> import gradloom as gl
        >>> x = gl.tensor([3.0, 4.0], requires_grad=True)
        >>> (x * x / 2).sum().backward()
        >>> gl.nn.utils.clip_grad_norm_([x], max_norm=1.0)
        tensor(5.)
        >>> x.grad
        tensor([0.6000, 0.8000])
    """
    parameters = _listed(parameters)
    grads = [g for p in parameters if (g := p.grad) is not None]
    total = get_total_norm(grads, norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(parameters, max_norm, total, foreach)
    return total


def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Holds each element of the gradients within ±clip_value, in place."""
    bound = float(clip_value)
    with no_grad():
        for p in _listed(parameters):
            g = p.grad
            if g is not None:
                g.clamp_(-bound, bound)


def parameters_to_vector(parameters: Iterable[Any]) -> Any:
    """The elements of all parameters as one vector; gradients pass."""
    return ops.concat(*(p.reshape(-1) for p in parameters), axis=0)


def vector_to_parameters(vec: Any, parameters: Iterable[Any]) -> None:
    """Copies the parts of a vector into parameters, in place."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected gradloom.Tensor, but got: {type(vec).__name__}")
    at = 0
    with no_grad():
        for p in parameters:
            n = p.numel()
            p.copy_(vec[at : at + n].reshape(tuple(p.shape)).clone())
            at += n
