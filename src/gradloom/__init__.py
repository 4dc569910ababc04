"""gradloom trains models: on NumPy, JAX, PyTorch and MLX, with every operation defined once.

Write a model and a step as in PyTorch (`gradloom.nn`, `gradloom.optim`, `loss.backward()`), and compile the step with
`gradloom.jit` to one readable function (`step.source`).
"""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from . import autograd, dtypes, errors, nn, ops, optim, random, tree
from .backends.base import Backend
from .backends.numpy import NumpyBackend
from .backends.registry import backend_class as _backend_class
from .backends.registry import default_backend, get_backend, set_default_backend, using_backend
from .dtypes import (
    DType,
    bfloat16,
    default_dtype,
    double,
    dtype,
    finfo,
    float16,
    float32,
    float64,
    half,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    long,
    promote,
    set_default_dtype,
    uint8,
)
from .dtypes import bool_ as bool
from .errors import GradloomError
from .graph.control import cond, scan, while_loop
from .graph.jit import jit
from .tensor.convert import from_jax, from_mlx, from_torch, to_jax, to_mlx, to_numpy, to_torch
from .tensor.creation import *  # noqa: F403
from .tensor.formatting import set_printoptions
from .tensor.functions import *  # noqa: F403
from .tensor.grad_mode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from .tensor.serialization import load, save
from .tensor.tensor import Size, Tensor
from .tensor.transforms import grad, value_and_grad

get_default_dtype, promote_types = default_dtype, promote

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import models, training
    from .models import Linear, Model, compile
    from .optim.plot import plot_schedule

_BACKENDS = {"JaxBackend": "jax", "TorchBackend": "torch", "MlxBackend": "mlx"}
_LATER = {
    "models": "", "training": "", "Model": "models", "Linear": "models", "compile": "models", "plot_schedule": "optim.plot",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """What is imported when it is first asked for: the backends' classes, with their engines; composed models; training."""
    if name in _BACKENDS:
        return _backend_class(_BACKENDS[name])
    if name not in _LATER:
        raise AttributeError(f"module 'gradloom' has no attribute '{name}'")
    module = _import_module(f".{_LATER[name] or name}", __name__)
    found = getattr(module, name) if _LATER[name] else module
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *_BACKENDS, *_LATER])
