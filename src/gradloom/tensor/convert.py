"""Tensors from one backend, device or engine to another: `Tensor.to(backend=...)`, `to_torch`, `from_jax` and so on."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.base import Backend
from ..backends.registry import backend_of, get_backend
from ..ops.op import Op
from . import tape
from .arrays import as_array, wrap

__all__ = ["to_numpy", "to_torch", "from_torch", "to_jax", "from_jax", "to_mlx", "from_mlx"]


def _move(xp: Any, x: Any, *, target: Backend, source: Backend, place: bool) -> Any:
    """x on another backend or device. The one op that has no body over `xp`: two engines take part."""
    if isinstance(x, tape.Tensor):  # a backward pass that is recorded itself
        return moved(x, target, place)
    return as_array(x, None, target, False, target.device if place else None)


MOVE = Op("move", _move, ("x",), ("target", "source", "place"))


def _move_back(xp, g, target, source, place):
    return _move(xp, g, target=source, source=target, place=place)


MOVE.define_vjp(("x",), _move_back)


def moved(t: Any, target: Backend, place: bool = False) -> Any:
    """The Tensor on a backend; itself where it is there. Gradients pass back.

    Args:
        place: The device matters, not only the engine.
    """
    own = backend_of(t._array)
    if own is type(target) and (not place or t.device == str(target.device)):
        return t
    source = get_backend(own.name)
    if place and own is type(target):
        source = type(target)(device=t.device)
    return MOVE.entry[type(t)](t, target=target, source=source, place=place)


def to_numpy(t: Any) -> np.ndarray:
    """The elements of a Tensor, or of an engine's array, as a NumPy array, which may share memory."""
    return t.detach().numpy() if isinstance(t, tape.Tensor) else backend_of(t).to_numpy(t)


def _to(name: str, t: Any) -> Any:
    return as_array(t._array if isinstance(t, tape.Tensor) else t, None, name, False)


def _from(name: str, array: Any, backend: Any) -> Any:
    get_backend(name)  # says what to install
    if not isinstance(array, get_backend(name).array_types):
        raise TypeError(f"expected an array of {name}, not {type(array).__name__}")
    return wrap(as_array(array, None, backend, False))


def to_torch(t: Any) -> Any:
    """The elements of a Tensor as a `torch.Tensor`, which shares memory where it can. History is left behind.

    Raises:
        MissingExtraError: PyTorch is not installed.
    """
    return _to("torch", t)


def from_torch(tensor: Any, backend: Any = None) -> Any:
    """A Tensor of a `torch.Tensor`, on the default backend or the given one; memory is shared where it can be.

    Raises:
        MissingExtraError: PyTorch is not installed.
    """
    return _from("torch", tensor, backend)


def to_jax(t: Any) -> Any:
    """The elements of a Tensor as a `jax.Array`. History is left behind.

    Raises:
        MissingExtraError: JAX is not installed.
        DTypeError: float64 without `JaxBackend(dtype="float64")`.
    """
    return _to("jax", t)


def from_jax(array: Any, backend: Any = None) -> Any:
    """A Tensor of a `jax.Array`, on the default backend or the given one; memory is shared where it can be.

    Raises:
        MissingExtraError: JAX is not installed.
    """
    return _from("jax", array, backend)


def to_mlx(t: Any) -> Any:
    """The elements of a Tensor as an `mlx.core.array`. History is left behind.

    Raises:
        MissingExtraError: MLX is not installed.
    """
    return _to("mlx", t)


def from_mlx(array: Any, backend: Any = None) -> Any:
    """A Tensor of an `mlx.core.array`, on the default backend or the given one.

    Raises:
        MissingExtraError: MLX is not installed.
    """
    return _from("mlx", array, backend)
