"""Gradients of plain functions: `grad` and `value_and_grad`."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import tree
from ..errors import GradientError, explain
from ..ops.op import SCALARS, kind_of
from . import autograd
from .grad_mode import enable_grad
from .tape import Leaf, Raw
from .tensor import Tensor


class _Depth(threading.local):
    """How many of these functions this thread is inside of."""

    value = 0


_DEPTH = _Depth()


def value_and_grad(fn: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable:
    """The function that gives `(fn(...), gradient)`.

    Args:
        fn: A function of trees (dicts, lists, tuples) of Tensors or arrays, that gives one number.
        argnums: The positions of the arguments that the gradient is for; a tuple gives a tuple of gradients.
        has_aux: fn gives `(number, more)`; the value is that pair.

    Returns:
        A function of the same arguments. Gradients have the structure of the arguments: Tensors for Tensors, arrays for arrays.

    Raises:
        GradientError: fn does not give one number, or that does not depend on the arguments through gradloom's operations.

    Example:
        >>> import gradloom as gl
        >>> loss, g = gl.value_and_grad(lambda p, x: (p["w"] * x).sum())(
        ...     {"w": gl.tensor([1.0, 2.0])}, gl.tensor([3.0, 4.0])
        ... )
        >>> loss.item(), g["w"]
        (11.0, tensor([3., 4.]))
    """
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @functools.wraps(fn)
    def run(*args: Any, **kwargs: Any) -> Any:
        leaves: list[Any] = []
        new = list(args)
        kinds = []
        for i in positions:
            flat, treedef = tree.flatten(args[i])
            tensors = [_leaf(x, i) for x in flat]
            kinds.append((treedef, [isinstance(x, Tensor) for x in flat], len(flat)))
            leaves += tensors
            new[i] = tree.unflatten(treedef, tensors)
        with enable_grad():
            _DEPTH.value += 1
            try:
                value = fn(*new, **kwargs)
            finally:
                _DEPTH.value -= 1
            if has_aux and not (isinstance(value, (tuple, list)) and len(value) == 2):
                raise GradientError(
                    explain(
                        f"has_aux=True needs a function that gives (number, more); {getattr(fn, '__name__', 'fn')} does not",
                        given=f"a {type(value).__name__}",
                    )
                )
            out = value[0] if has_aux else value
            if not isinstance(out, Tensor) or out.numel() != 1:
                raise GradientError(
                    explain(
                        f"value_and_grad needs a function that gives one number; {getattr(fn, '__name__', 'fn')} does not",
                        given=f"a Tensor of shape {list(out.shape)}" if isinstance(out, Tensor) else type(out).__name__,
                        do="reduce its result (.mean(), .sum()), and compute it with gradloom's operations",
                    )
                )
            # Inside another gradient this one is recorded too: fn may have taken that one's arguments from its surroundings.
            nested = _DEPTH.value > 0 or any(type(t._node) is not Leaf for t in leaves)
            grads = (
                autograd.grad(out, leaves, create_graph=nested, allow_unused=True, materialize_grads=True)
                if out._node
                else [None] * len(leaves)
            )
        if not out._node:
            raise GradientError(
                "the value of the function does not depend on the arguments that its gradient is wanted for"
            )
        result, start = [], 0
        for treedef, were_tensors, count in kinds:
            part = [g if t else g._array for g, t in zip(grads[start : start + count], were_tensors, strict=True)]
            result.append(tree.unflatten(treedef, part))
            start += count
        detached = value if nested else tree.map(lambda x: x.detach() if isinstance(x, Tensor) else x, value)
        return detached, result[0] if isinstance(argnums, int) else tuple(result)

    return run


def grad(fn: Callable, argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable:
    """The function that gives the gradient of `fn`; see `value_and_grad`. With `has_aux`: (gradient, more).

    Example:
        >>> import gradloom as gl
        >>> gl.grad(lambda x: x**3)(gl.tensor(2.0))
        tensor(12.)
    """
    both = value_and_grad(fn, argnums, has_aux)

    @functools.wraps(fn)
    def run(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return run


def _leaf(x: Any, position: int) -> Tensor:
    if isinstance(x, Tensor):
        t = x.detach() if x._node is None else x * 1  # inside another gradient: keeps the history
        return t.requires_grad_() if t._node is None else t
    if type(x) in SCALARS:
        return Raw.wrap(Tensor(float(x))._array).requires_grad_()
    if kind_of(type(x)) is not None or isinstance(x, np.ndarray):
        return Raw.wrap(x).requires_grad_()
    raise GradientError(
        explain(
            f"argument {position} has a leaf that is no array",
            given=type(x).__name__,
            do="give Tensors, arrays or floats",
        )
    )
