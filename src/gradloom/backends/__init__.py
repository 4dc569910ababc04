"""The engines. The classes of this package import their engine when they are asked for."""

from typing import Any

_CLASSES = {"NumpyBackend": "numpy", "JaxBackend": "jax", "TorchBackend": "torch", "MlxBackend": "mlx"}


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        from .registry import backend_class

        return backend_class(_CLASSES[name])
    raise AttributeError(f"module 'gradloom.backends' has no attribute '{name}'")
