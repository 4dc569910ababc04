"""What compiled models ask of the engines besides running: gradients that go through them from outside."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..errors import GradientError, explain, user_frame


def is_traced(arrays: Iterable[Any]) -> bool:
    """Whether JAX is tracing these: the call is inside jax.jit, jax.grad, jax.vmap."""
    jax = sys.modules.get("jax")
    return jax is not None and any(isinstance(a, jax.core.Tracer) for a in arrays)


def unrecorded(engine: str) -> contextlib.AbstractContextManager:
    """A context in which the engine's own autograd records nothing."""
    return sys.modules["torch"].no_grad() if engine == "torch" else contextlib.nullcontext()


def differentiable(outputs: Callable, saving: Callable, saved: Callable) -> Callable:
    """A function that JAX differentiates by our gradients, which have PyTorch's conventions (relu's at 0 is 0).

    Args:
        outputs: `(params, inputs, *rest)` -> outputs. saving: the same, -> (outputs, what the gradients need, ...).
        saved: `(params, inputs, *rest, needed, cotangents)` -> {name: gradient}, of inputs as "<name>_grad".
    """
    import jax
    from jax.custom_derivatives import SymbolicZero

    @jax.custom_vjp
    def call(params: dict, inputs: dict, *rest: Any) -> Any:
        return outputs(params, inputs, *rest)

    def forward(*primals: Any) -> Any:
        if any(leaf.perturbed for leaf in jax.tree.leaves(primals[2:])):
            raise GradientError(
                explain(
                    "a compiled model has no gradient with respect to its state",
                    where=user_frame(),
                    do="pass jax.lax.stop_gradient(state) for each array of the state",
                )
            )
        params, inputs, *rest = jax.tree.map(lambda leaf: leaf.value, primals)
        out, needed, *more = saving(params, inputs, *rest)
        return (out, *more) if more else out, (params, inputs, rest, needed)

    def backward(kept: Any, cotangents: Any) -> Any:
        params, inputs, rest, needed = kept
        of_outputs = cotangents[0] if isinstance(cotangents, tuple) else cotangents
        given = {}
        for name, c in of_outputs.items():
            if isinstance(c, SymbolicZero):
                c = _nothing(jax, c.aval)
            if c.dtype != jax.dtypes.float0:
                given[name] = c
        found = saved(params, inputs, *rest, needed, given)
        return (
            {n: found.get(n, _nothing(jax, p)) for n, p in params.items()},
            {n: found.get(f"{n}_grad", _nothing(jax, x)) for n, x in inputs.items()},
            *(jax.tree.map(lambda x: _nothing(jax, x), r) for r in rest),
        )

    call.defvjp(forward, backward, symbolic_zeros=True)
    return call


def _nothing(jax: Any, x: Any) -> Any:
    """The gradient of what has none."""
    if jax.numpy.issubdtype(x.dtype, jax.numpy.inexact):
        return jax.numpy.zeros(x.shape, x.dtype)
    return np.zeros(x.shape, jax.dtypes.float0)
