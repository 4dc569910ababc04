"""How backends are found, chosen and told from their arrays.

A backend is one file of this package: `backends/<name>.py` defines one subclass of `base.Backend`, and is imported only
when it is asked for by `get_backend("jax")`, `set_default_backend("jax")`, `with using_backend("jax")`, the variable
GRADLOOM_BACKEND, an instance such as `JaxBackend(dtype="float32")`, or by the first array of that engine that an op is
given.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import BackendError, DTypeError, MissingExtraError, explain

if TYPE_CHECKING:
    from .base import Backend

#: name -> (module and class of the backend, first part of the engine's array types' modules, extra that installs it)
BACKENDS: dict[str, tuple[str, tuple[str, ...], str | None]] = {
    "numpy": ("numpy:NumpyBackend", ("numpy",), None),
    "jax": ("jax:JaxBackend", ("jax", "jaxlib"), "jax"),
    "torch": ("torch:TorchBackend", ("torch",), "torch"),
    "mlx": ("mlx:MlxBackend", ("mlx",), "mlx"),
}

_loaded: dict[str, type[Backend]] = {}
_instances: dict[str, Backend] = {}


def backend_class(name: str) -> type[Backend]:
    """The class of a backend; imports its engine.

    Raises:
        BackendError: There is no backend of that name.
        MissingExtraError: Its engine is not installed; the message says which extra to install.
    """
    found = _loaded.get(name)
    if found is None:
        if name not in BACKENDS:
            raise BackendError(
                explain(f"unknown backend {name!r}", expected=", ".join(map(repr, BACKENDS)), given=repr(name))
            )
        (module, _, cls), extra = BACKENDS[name][0].partition(":"), BACKENDS[name][2]
        try:
            found = getattr(importlib.import_module(f".{module}", __package__), cls)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("gradloom"):
                raise
            raise MissingExtraError(
                explain(
                    f"the backend {name!r} needs {error.name}, which is not installed",
                    do=f"pip install 'gradloom[{extra}]'",
                )
            ) from error
        _loaded[name] = found
    return found


def get_backend(backend: str | Backend | None = None) -> Backend:
    """The backend of that name (one shared instance), the given instance itself, or for None the current default.

    Example:
        >>> import gradloom as gl
        >>> gl.get_backend("numpy").name
        'numpy'
    """
    if backend is None:
        return default_backend()
    if not isinstance(backend, str):
        return backend
    if backend not in _instances:
        _instances[backend] = backend_class(backend)()
    return _instances[backend]


class _Choice(threading.local):
    override: Backend | None = None


_choice = _Choice()
_default: Backend | None = None


def default_backend() -> Backend:
    """The backend on which new Tensors are made: that of the innermost `using_backend`, else the default."""
    global _default
    if _choice.override is not None:
        return _choice.override
    if _default is None:
        _default = get_backend(os.environ.get("GRADLOOM_BACKEND") or "numpy")
    return _default


def set_default_backend(backend: str | Backend) -> None:
    """Sets the backend on which new Tensors are made, for the process.

    Args:
        backend: "numpy", "jax", "torch", "mlx", or an instance.

    Raises:
        BackendError: Unknown name.
        MissingExtraError: The engine is not installed.

    Example:
        >>> import gradloom as gl
        >>> gl.set_default_backend("numpy")
    """
    global _default
    _default = get_backend(backend)


@contextlib.contextmanager
def using_backend(backend: str | Backend) -> Iterator[Backend]:
    """New Tensors are made on this backend inside the `with` block, in this thread.

    Example:
        >>> import gradloom as gl
        >>> with gl.using_backend("numpy") as backend:
        ...     backend.name
        'numpy'
    """
    before = _choice.override
    _choice.override = chosen = get_backend(backend)
    try:
        yield chosen
    finally:
        _choice.override = before


def backend_of(array: Any) -> type[Backend]:
    """The backend class of an engine's array."""
    cls = type(array)
    found = _of_type.get(cls)
    if found is None:
        found = find(cls)
        if found is None:
            raise DTypeError(
                explain(
                    "expected an array of a backend",
                    expected=", ".join(BACKENDS),
                    given=f"{cls.__module__}.{cls.__qualname__}",
                )
            )
    return found


_of_type: dict[type, type[Backend]] = {}


def find(t: type) -> type[Backend] | None:
    """The backend class whose engine has arrays of this type; None for what is no array."""
    # A user's subclass of an engine's array has the engine's module further up.
    tops = {base.__module__.partition(".")[0] for base in t.__mro__}
    for name, (_, modules, _) in BACKENDS.items():
        if not tops.isdisjoint(modules):
            cls = backend_class(name)
            if issubclass(t, cls.array_types):
                _of_type[t] = cls
                return cls
    return None
