"""State in dicts, `{parameter: {slot: array}}`: made, filled when placeholders are, counted, and held against gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..backends.base import Backend
from ..backends.registry import backend_of
from ..dtypes import DType, float64
from ..errors import DTypeError, OptionError, ShapeError, explain
from ..graph.graph import Value
from ..models.parameters import Placeholder
from ..tensor.tape import Raw
from ..tensor.tensor import Tensor

State = dict[str, dict[str, Any]]


def raw(x: Any) -> Any:
    """The array of a Tensor; anything else as it is."""
    return x._array if isinstance(x, Tensor) else x


def as_tensor(x: Any) -> Any:
    return Raw.wrap(x) if type(x) is Value else x


def like(p: Any, array: Any) -> Any:
    """The array as a Tensor, where `p` is one."""
    return Raw.wrap(array) if isinstance(p, Tensor) and not isinstance(array, Tensor) else array


def counter(p: Any, value: float) -> Any:
    """A count, or another number that is kept, as a 0-d array of the parameter's engine: int32; float64 for float64, else float32.

    In PyTorch it lies on the CPU, so that reading it waits for nothing.
    """
    backend: Any = backend_of(raw(p))
    home = _home(backend, backend.dtype_of(raw(p)))
    kind = np.int32 if type(value) is int else np.float64 if home.dtype is float64 else np.float32
    return like(p, home.from_numpy(np.array(value, kind)))


@functools.cache
def _home(backend: type[Backend], dtype: DType) -> Backend:
    return backend(dtype=dtype)


def number(x: Any, kind: type) -> Any:
    """A 0-d array as a number; None where it is traced, by gradloom.jit or an engine."""
    x = raw(x)
    if type(x) is Value:
        return None
    try:
        return kind(x)
    except (TypeError, ValueError, RuntimeError):  # inside an engine's jit
        return None


def some(names: Iterable[str]) -> str:
    names = [str(n) for n in names]
    return ", ".join(names[:8]) + (f", ... ({len(names)} in all)" if len(names) > 8 else "")


def same_container(params: Any, values: dict[str, Any]) -> Any:
    """The values in the container class of `params`."""
    return values if type(params) is dict else type(params)(values)


def make_state(
    params: Mapping[str, Any], start: Callable[[str, Any], dict[str, Any]], state: State | None = None
) -> State:
    """{name: what `start(name, array)` gives}, added to `state` if given; of placeholders when they are filled."""
    state = {} if state is None else state
    if not isinstance(params, Mapping):
        raise OptionError(
            explain("init takes parameters by name", expected="a dict {name: array}", given=type(params).__name__)
        )
    for name, p in params.items():
        slots = state.setdefault(name, {})
        if type(p) is Placeholder:
            p.then(functools.partial(_fill, slots, start, name))
        else:
            slots.update(start(name, p))
    return state


def _fill(slots: dict, start: Callable, name: str, array: Any) -> None:
    slots.update(start(name, array))


def with_gradients(who: str, params: Any, gradients: Any) -> list[str]:
    """The names of the parameters that have a gradient, whose shape and dtype are checked."""
    names = [n for n in params if n in gradients]
    if not names and len(gradients):
        raise OptionError(
            explain(
                f"{who}: none of the gradients is of a parameter",
                expected=some(params),
                given=some(gradients),
                do="name gradients as the parameters are",
            )
        )
    for name in names:
        p, g = raw(params[name]), raw(gradients[name])
        if not hasattr(g, "shape"):
            raise DTypeError(
                explain(f"{who}: the gradient of '{name}' is no array", expected="an array", given=type(g).__name__)
            )
        if tuple(p.shape) != tuple(g.shape):
            raise ShapeError(
                explain(
                    f"{who}: the gradient of '{name}' has another shape than the parameter",
                    expected=list(p.shape),
                    given=list(g.shape),
                )
            )
        if p.dtype != g.dtype:
            raise DTypeError(
                explain(
                    f"{who}: the gradient of '{name}' has another dtype than the parameter",
                    expected=str(p.dtype),
                    given=str(g.dtype),
                    do="compute it in, or cast it to, the parameter's dtype",
                )
            )
    return names
