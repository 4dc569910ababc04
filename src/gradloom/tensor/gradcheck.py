"""Gradients against numeric differentiation: `gradcheck`, `gradgradcheck`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import GradientError, explain
from . import autograd
from .creation import tensor
from .tensor import Tensor


def gradcheck(
    func: Callable,
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Compares the gradients of `func` with central differences, entry by entry of the Jacobian.

    Args:
        func: A function of Tensors that gives a Tensor or a tuple of them.
        inputs: Its arguments; those that require a gradient are checked, and should be float64.
        eps: Step of the differences.
        atol, rtol: Tolerances.
        raise_exception: Raise on a difference; otherwise return False.

    Raises:
        GradientError: A gradient differs; the message says which and by how much.
        ValueError: No input requires a gradient.

    Example:
        >>> import gradloom as gl
        >>> x = gl.tensor([0.5, 2.0], dtype=gl.float64, requires_grad=True)
        >>> gl.autograd.gradcheck(lambda x: x.exp() * x, x)
        True
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    checked = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise ValueError("gradcheck expects at least one input that requires a gradient")
    results = _tuple(func(*inputs))
    recorded = [k for k, out in enumerate(results) if out._node is not None]
    # Where no result has a gradient, it should be zero: the function may have left the tape by mistake.
    for k in recorded or [k for k, out in enumerate(results) if out.is_floating_point()]:
        for i in checked:
            analytic = _analytic(func, inputs, i, k)
            numeric = _numeric(func, inputs, i, k, eps)
            error = np.abs(analytic - numeric)
            bad = ~(error <= atol + rtol * np.abs(numeric))
            if bad.any():
                if not raise_exception:
                    return False
                row, column = (int(v) for v in np.argwhere(bad)[0])
                raise GradientError(
                    explain(
                        f"Jacobian mismatch for output {k} with respect to input {i}: {int(bad.sum())} of {bad.size} entries",
                        expected=f"d input[{row}] -> d output[{column}]: {numeric[row, column]!r} (numeric)",
                        given=f"{analytic[row, column]!r} (analytic)",
                        do="look at the vjp; if float32 is the reason, pass float64 inputs",
                    )
                )
    return True


def gradgradcheck(func: Callable, inputs: Tensor | Sequence[Any], **options: Any) -> bool:
    """`gradcheck` of the gradients of `func`, computed with `create_graph=True`. The options are gradcheck's.

    Example:
        >>> import gradloom as gl
        >>> x = gl.tensor([0.5, 2.0], dtype=gl.float64, requires_grad=True)
        >>> gl.autograd.gradgradcheck(lambda x: x**3, x)
        True
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    rng = np.random.default_rng(0)
    outs = [t for t in _tuple(func(*inputs)) if t._node is not None]
    cotangents = [tensor(rng.standard_normal(tuple(t.shape)), dtype=t.dtype, requires_grad=True) for t in outs]
    n = len(inputs)

    def gradients(*values: Any) -> tuple:
        wanted = [x for x in values[:n] if isinstance(x, Tensor) and x.requires_grad]
        results = [t for t in _tuple(func(*values[:n])) if t._node is not None]
        grads = autograd.grad(results, wanted, values[n:], create_graph=True, allow_unused=True)
        return tuple(g for g in grads if g is not None and g.requires_grad)

    return gradcheck(gradients, (*inputs, *cotangents), **options)


def _tuple(result: Any) -> tuple:
    return result if isinstance(result, tuple) else (result,)


def _analytic(func: Callable, inputs: tuple, i: int, k: int) -> np.ndarray:
    """(elements of input i, elements of output k)."""
    out = _tuple(func(*inputs))[k]
    if out._node is None:
        return np.zeros((inputs[i].numel(), out.numel()))
    columns = []
    for j in range(out.numel()):
        unit = np.zeros(out.numel())
        unit[j] = 1
        seed = tensor(unit.reshape(tuple(out.shape)), dtype=out.dtype)
        (g,) = autograd.grad(out, inputs[i], seed, retain_graph=True, allow_unused=True)
        columns.append(np.zeros(inputs[i].numel()) if g is None else np.asarray(g.detach().numpy(), np.float64).ravel())
    return np.stack(columns, axis=1) if columns else np.zeros((inputs[i].numel(), 0))


def _numeric(func: Callable, inputs: tuple, i: int, k: int, eps: float) -> np.ndarray:
    base = np.array(inputs[i].detach().numpy(), np.float64)
    rows = []
    for j in range(base.size):
        ends = []
        for sign in (1, -1):
            moved = base.copy()
            moved.flat[j] += sign * eps
            x = tensor(moved, dtype=inputs[i].dtype, requires_grad=True)
            ends.append(
                np.asarray(_tuple(func(*inputs[:i], x, *inputs[i + 1 :]))[k].detach().numpy(), np.float64).ravel()
            )
        rows.append((ends[0] - ends[1]) / (2 * eps))
    return np.stack(rows) if rows else np.zeros((0, 0))
