"""State that an optimizer is given: checked, and brought to the engine, dtype and device of its parameter."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.registry import backend_of
from ..errors import explain
from ..tensor.tape import Raw
from ..tensor.tensor import Tensor
from .block import Kept
from .rules.rule import Rule


def kept_of(rule: Rule, options: dict, number: Any, p: Tensor, state: dict[str, Any]) -> Kept:
    """A parameter's part of a loaded state dict."""
    arrays = {}
    for name, value in state.items():
        if name == "step" or name in rule.numbers or value is None:
            continue
        given = value._array if isinstance(value, Tensor) else value
        array = bring(p, given)
        like = rule.first(name, p._array, options) if name in rule.start else p
        expected = tuple(like.shape)
        if tuple(array.shape) != expected:
            raise ValueError(
                explain(
                    f"the state '{name}' of parameter {number} has another shape than the parameter",
                    expected=list(expected),
                    given=list(array.shape),
                )
            )
        arrays[name] = backend_of(array).copy(array) if array is given else array
    numbers = tuple(float(state[n]) for n in rule.numbers if n in state)
    return Kept(int(float(state.get("step", 1))), numbers, arrays)


def columns(params: list[Tensor], rest: dict) -> dict[str, list]:
    """{name: the state's arrays of that name, one a parameter; None where a parameter has none}."""
    states = [rest[p].arrays if p in rest else {} for p in params]
    names = dict.fromkeys(n for s in states for n in s)
    return {n: [bring(p, s[n]) if n in s else None for p, s in zip(params, states, strict=True)] for n in names}


def bring(p: Tensor, value: Any) -> Any:
    """A state as an array of the parameter's engine and dtype, on its device: itself, if it is one, else a copy."""
    like = p._array
    if type(value) is type(like) and value.dtype == like.dtype:
        return value
    backend = backend_of(like)
    home, device = backend(dtype=p.dtype), backend.device_of(like)
    if home.device != device:
        home = backend(dtype=p.dtype, device=device)
    with home.context():
        array = backend_of(value).to_numpy(value) if hasattr(value, "shape") else np.asarray(value)
        return home.copy(home.from_numpy(array, p.dtype))


def own(p: Tensor, value: Any) -> Any:
    """A loaded value of the state of an optimizer without a rule: Tensors and arrays, also in lists, copied to the parameter's engine."""
    if isinstance(value, list):
        return [own(p, v) for v in value]
    if isinstance(value, Tensor) or hasattr(value, "shape"):
        given = value._array if isinstance(value, Tensor) else value
        array = bring(p, given)
        return Raw.wrap(backend_of(array).copy(array) if array is given else array)
    return value
