"""Activations."""

from __future__ import annotations

import math
import warnings
from typing import Any

from ... import ops
from ...dtypes import dtype as to_dtype
from ...errors import OptionError, ShapeError, explain
from ...tensor.creation import rand_like
from .shared import given

sigmoid = ops.sigmoid
tanh = ops.tanh

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def relu(input: Any, inplace: bool = False) -> Any:
    """`max(x, 0)`."""
    return given(input, inplace, ops.relu)


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
    """x held between two values; the gradient at a bound is 0."""
    if min_val > max_val:
        raise OptionError(f"hardtanh: min_val cannot be greater than max_val: {min_val}, {max_val}")
    if input.dtype.kind != "float":
        min_val, max_val = int(min_val), int(max_val)

    def held(x: Any) -> Any:
        outside = (x <= min_val) | (x >= max_val)
        return ops.where(outside, ops.clip(x.detach(), min=min_val, max=max_val), x)

    return given(input, inplace, held)


def relu6(input: Any, inplace: bool = False) -> Any:
    """`min(max(x, 0), 6)`."""
    return hardtanh(input, 0, 6, inplace)


def hardsigmoid(input: Any, inplace: bool = False) -> Any:
    """`relu6(x + 3) / 6`."""
    return given(input, inplace, lambda x: relu6(x + 3) / 6)


def hardswish(input: Any, inplace: bool = False) -> Any:
    """`x * relu6(x + 3) / 6`; Howard et al. 2019."""
    return given(input, inplace, lambda x: x * relu6(x + 3) / 6)


def mish(input: Any, inplace: bool = False) -> Any:
    """`x * tanh(softplus(x))`; Misra 2019."""
    return given(input, inplace, lambda x: x * ops.tanh(ops.softplus(x, threshold=math.inf)))


def silu(input: Any, inplace: bool = False) -> Any:
    """`x * sigmoid(x)`."""
    return given(input, inplace, ops.silu)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    """x where it is positive, `negative_slope * x` elsewhere."""
    return given(input, inplace, lambda x: ops.leaky_relu(x, negative_slope=negative_slope))


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """x where it is positive, `alpha * (exp(x) - 1)` elsewhere."""
    return given(input, inplace, lambda x: ops.elu(x, alpha=alpha))


def selu(input: Any, inplace: bool = False) -> Any:
    """`scale * elu(x, alpha)` with the constants that keep mean 0 and variance 1; Klambauer et al. 2017."""
    return given(input, inplace, lambda x: ops.elu(x, alpha=SELU_ALPHA) * SELU_SCALE)


def celu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """x where it is positive, `alpha * (exp(x / alpha) - 1)` elsewhere; Barron 2017."""
    if alpha == 0:
        raise OptionError("ZeroDivisionError: alpha cannot be 0 for CELU")

    def bent(x: Any) -> Any:
        low = ops.where(x > 0, 0, x)  # exp of a large x is infinite, and infinite times 0 is NaN
        return ops.where(x > 0, x, ops.expm1(low / alpha) * alpha)

    return given(input, inplace, bent)


def prelu(input: Any, weight: Any) -> Any:
    """x where it is positive, `weight * x` elsewhere; weight has one element, or one for each channel (axis 1)."""
    if weight.ndim > 1 or (
        weight.numel() != 1 and (input.ndim < 1 or weight.numel() != input.shape[min(1, input.ndim - 1)])
    ):
        raise ShapeError(
            explain(
                "prelu: weight has one element, or one for each channel", expected="weight (1,) or (C,), input (N, C, ...)",
                given=f"weight {list(weight.shape)}, input {list(input.shape)}",
            )
        )  # fmt: skip
    if weight.numel() == 1:
        weight = weight.reshape(())
    elif input.ndim > 2:
        weight = weight.reshape(-1, *(1,) * (input.ndim - 2))
    return ops.where(input > 0, input, input * weight)


def rrelu(
    input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Any:
    """x where it is positive, slope times x elsewhere; Xu et al. 2015.

    The slope is the mean of lower and upper, or when training drawn between them for each element.
    """
    if lower > upper:
        raise OptionError(f"Lower bound should be less than or equal to the upper bound: {lower}, {upper}")
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    slope = rand_like(input) * (upper - lower) + lower
    return given(input, inplace, lambda x: ops.where(x > 0, x, x * slope))


def gelu(input: Any, approximate: str = "none") -> Any:
    """x times the normal distribution function of x; `approximate="tanh"`: by a formula."""
    return ops.gelu(input, approximate=approximate)


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """`log(1 + exp(beta * x)) / beta`, and x itself where `beta * x > threshold`."""
    return ops.softplus(input, beta=beta, threshold=threshold)


def logsigmoid(input: Any) -> Any:
    """The logarithm of sigmoid(x)."""
    return -ops.softplus(-input, threshold=math.inf)


def softsign(input: Any) -> Any:
    """`x / (1 + |x|)`."""
    return input / (ops.abs(input) + 1)


def tanhshrink(input: Any) -> Any:
    """`x - tanh(x)`."""
    return input - ops.tanh(input)


def softshrink(input: Any, lambd: float = 0.5) -> Any:
    """x moved towards 0 by lambd, and 0 where |x| is not above it."""
    if lambd < 0:
        raise OptionError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    low = ops.where(input < -lambd, input + lambd, input * 0)  # NaN stays NaN
    return ops.where(input > lambd, input - lambd, low)


def hardshrink(input: Any, lambd: float = 0.5) -> Any:
    """x where |x| is above lambd, 0 elsewhere."""
    return ops.where(ops.abs(input) <= lambd, 0, input)


def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Any:
    """x where it is above the threshold, `value` elsewhere."""
    return given(input, inplace, lambda x: ops.where(x <= threshold, value, x))


def glu(input: Any, dim: int = -1) -> Any:
    """a * sigmoid(b) for the halves a and b of x along dim; Dauphin et al. 2017."""
    if not input.ndim:
        raise ShapeError("glu does not support 0-dimensional tensors")
    if input.shape[dim] % 2:
        raise ShapeError(f"Halving dimension must be even, but dimension {dim} is size {input.shape[dim]}")
    a, b = input.chunk(2, dim)
    return a * ops.sigmoid(b)


def softmin(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """The softmax of -x."""
    dim = _softmax_dim("softmin", input.ndim, _stacklevel) if dim is None else dim
    return softmax(-input, dim, dtype=dtype)


def _softmax_dim(name: str, ndim: int, level: int) -> int:
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.",
        stacklevel=level,
    )
    return 0 if ndim in (0, 1, 3) else 1


def softmax(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """`exp(x)` scaled to sum 1 along dim."""
    dim = _softmax_dim("softmax", input.ndim, _stacklevel) if dim is None else dim
    return input.softmax(dim, dtype=None if dtype is None else to_dtype(dtype))


def log_softmax(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """The logarithm of `softmax`."""
    dim = _softmax_dim("log_softmax", input.ndim, _stacklevel) if dim is None else dim
    return input.log_softmax(dim, dtype=None if dtype is None else to_dtype(dtype))
