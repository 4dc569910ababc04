"""Initial values: PyTorch's distributions, drawn from the portable streams, so the same numbers on every backend.

All functions fill a Tensor in place, without recording, and return it. `generator` is a `gradloom.Generator`; default:
the one that `gradloom.manual_seed` seeds.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..dtypes import float64
from ..errors import OptionError, ShapeError
from ..tensor.arrays import as_array, backend_name, wrap
from ..tensor.creation import draw
from ..tensor.grad_mode import no_grad
from ..tensor.inplace import replaced

__all__ = [
    "calculate_gain", "uniform_", "normal_", "trunc_normal_", "constant_", "ones_", "zeros_", "eye_", "xavier_uniform_",
    "xavier_normal_", "kaiming_uniform_", "kaiming_normal_", "orthogonal_", "skipped",
]  # fmt: skip

_LINEAR = (
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "sigmoid",
)
_GAINS = {**dict.fromkeys(_LINEAR, 1.0), "tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}


class _Skipping(threading.local):
    on = False


_SKIPPING = _Skipping()


@contextlib.contextmanager
def skipped() -> Iterator[None]:
    """Within it, in this thread, the functions of this module return their Tensor untouched.

    A module that is made there allocates its parameters without drawing values, for one that is loaded anyway. What its
    parameters hold is not to be relied on.

    Example:
        >>> import gradloom as gl
        >>> with gl.nn.init.skipped():
        ...     layer = gl.nn.Linear(2, 2)
        >>> layer.load_state_dict({"weight": gl.eye(2), "bias": gl.zeros(2)})
        <All keys matched successfully>
    """
    before = _SKIPPING.on
    _SKIPPING.on = True
    try:
        yield
    finally:
        _SKIPPING.on = before


def _skippable(fn: Callable) -> Callable:
    @functools.wraps(fn)
    def call(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        return tensor if _SKIPPING.on else fn(tensor, *args, **kwargs)

    return call


def calculate_gain(nonlinearity: str, param: Any = None) -> float:
    """The gain that keeps the variance through a nonlinearity.

    Args:
        nonlinearity: Its name, such as "relu", "tanh" or "leaky_relu".
        param: The negative slope of "leaky_relu". Default: 0.01.

    Example:
        >>> calculate_gain("leaky_relu", 0.0) == 2**0.5
        True
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise OptionError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        raise OptionError(f"Unsupported nonlinearity {nonlinearity}")
    return _GAINS[nonlinearity]


@_skippable
def uniform_(tensor: Any, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Any:
    """Uniform numbers in [a, b)."""
    with no_grad():
        return tensor.uniform_(a, b, generator=generator)


@_skippable
def normal_(tensor: Any, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Any:
    """Normal numbers."""
    with no_grad():
        return tensor.normal_(mean, std, generator=generator)


@_skippable
def trunc_normal_(
    tensor: Any, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Any = None
) -> Any:
    """Normal numbers within the bounds a and b, which are values, not multiples of std."""
    return _fill(tensor, draw("truncated_normal", generator, tuple(tensor.shape), mean, std, a, b, dtype=float64))


@_skippable
def constant_(tensor: Any, val: float) -> Any:
    """One number everywhere."""
    with no_grad():
        return tensor.fill_(val)


@_skippable
def ones_(tensor: Any) -> Any:
    """Ones."""
    return constant_(tensor, 1.0)


@_skippable
def zeros_(tensor: Any) -> Any:
    """Zeros."""
    return constant_(tensor, 0.0)


@_skippable
def eye_(tensor: Any) -> Any:
    """The identity, for a matrix."""
    if tensor.ndim != 2:
        raise ShapeError("Only tensors with 2 dimensions are supported")
    return _fill(tensor, np.eye(*tensor.shape))


@_skippable
def xavier_uniform_(tensor: Any, gain: float = 1.0, generator: Any = None) -> Any:
    """Uniform in ±gain * sqrt(6 / (fan_in + fan_out)); Glorot and Bengio 2010."""
    bound = math.sqrt(3.0) * gain * math.sqrt(2.0 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


@_skippable
def xavier_normal_(tensor: Any, gain: float = 1.0, generator: Any = None) -> Any:
    """Normal with std gain * sqrt(2 / (fan_in + fan_out)); Glorot and Bengio 2010."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(fans(tensor))), generator)


@_skippable
def kaiming_uniform_(
    tensor: Any, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Any:
    """Uniform in ±gain * sqrt(3 / fan); He et al. 2015.

    Args:
        tensor: (out, in, ...).
        a: The negative slope, for "leaky_relu".
        mode: "fan_in" keeps the variance in the forward pass, "fan_out" in the backward pass.
        nonlinearity: See `calculate_gain`.
    """
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    bound = math.sqrt(3.0) * calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode))
    return uniform_(tensor, -bound, bound, generator)


@_skippable
def kaiming_normal_(
    tensor: Any, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Any:
    """Normal with std gain / sqrt(fan); arguments as for `kaiming_uniform_`; He et al. 2015."""
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)), generator)


@_skippable
def orthogonal_(tensor: Any, gain: float = 1, generator: Any = None) -> Any:
    """A (semi-)orthogonal matrix times gain, all axes but the first taken as one; Saxe et al. 2013."""
    if tensor.ndim < 2:
        raise ShapeError("Only tensors with 2 or more dimensions are supported")
    if not tensor.numel():
        return tensor
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    flat = draw("normal", generator, (rows, columns), dtype=float64)
    q, r = np.linalg.qr(flat.T if rows < columns else flat)
    q = q * np.sign(np.diagonal(r))
    return _fill(tensor, ((q.T if rows < columns else q) * gain).reshape(tuple(tensor.shape)))


def fans(tensor: Any) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, ...).

    Raises:
        ShapeError: Fewer than two axes.
    """
    if tensor.ndim < 2:
        raise ShapeError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _fan(tensor: Any, mode: str) -> int:
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise OptionError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    return fans(tensor)[mode == "fan_out"]


def _fill(tensor: Any, values: np.ndarray) -> Any:
    with no_grad():
        return replaced(tensor, wrap(as_array(values, tensor.dtype, backend_name(tensor), False)))
