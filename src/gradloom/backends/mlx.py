"""The MLX backend: the CPU, Metal and CUDA; float64 on the CPU only.

MLX has no boolean masks in keys (they are turned into indices, so not inside `mlx.core.compile`) and no integer
products of matrices (they run in float64 on the CPU: exact below 2**53). sign(NaN) is 0. It does not check indices.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from ..dtypes import DType, bfloat16, dtype, float64, to_numpy_dtype
from ..errors import BackendError, DTypeError, MissingExtraError, explain
from ..ops.conv import conv_shape
from ..ops.linalg import sums_alone
from ..ops.namespace import INDEX, fill
from ..ops.op import REGISTRY, VJPS
from .base import Backend, register

_NATIVE = {
    name: getattr(mx, name)
    for name in ("uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")
} | {"bool": mx.bool_}


_HALF = (mx.float16, mx.bfloat16)


def to_mlx_dtype(d: Any) -> mx.Dtype:
    """MLX's dtype for a gradloom dtype (or anything that `dtype()` takes)."""
    return _NATIVE[dtype(d).name]


class xp:
    """MLX under the names of `namespace.NAMESPACE`."""

    # The functions that MLX has under the same name and meaning.
    abs, negative, sign, square, sqrt, rsqrt = mx.abs, mx.negative, mx.sign, mx.square, mx.sqrt, mx.rsqrt
    reciprocal = mx.reciprocal
    expm1, log, log1p, log2 = mx.expm1, mx.log, mx.log1p, mx.log2
    tan, asin, acos, atan, atan2 = mx.tan, mx.arcsin, mx.arccos, mx.arctan, mx.arctan2
    sinh, cosh, tanh, asinh, acosh, atanh = mx.sinh, mx.cosh, mx.tanh, mx.arcsinh, mx.arccosh, mx.arctanh
    erf, erfinv = mx.erf, mx.erfinv  # of float64 to float32's precision
    floor, ceil, round = mx.floor, mx.ceil, mx.round
    isnan, isinf, isfinite = mx.isnan, mx.isinf, mx.isfinite
    logical_not = mx.logical_not
    add, subtract, multiply, divide = mx.add, mx.subtract, mx.multiply, mx.divide
    floor_divide, remainder, pow = mx.floor_divide, mx.remainder, mx.power
    maximum, minimum = mx.maximum, mx.minimum
    equal, not_equal, less, less_equal = mx.equal, mx.not_equal, mx.less, mx.less_equal
    greater, greater_equal = mx.greater, mx.greater_equal
    logical_and, logical_or = mx.logical_and, mx.logical_or
    bitwise_and, bitwise_or, bitwise_xor = mx.bitwise_and, mx.bitwise_or, mx.bitwise_xor
    where = mx.where
    amax, amin = mx.max, mx.min
    expand_dims, squeeze, roll, repeat = mx.expand_dims, mx.squeeze, mx.roll, mx.repeat
    tril, triu = mx.tril, mx.triu

    @staticmethod
    def dtype(x):
        return dtype(x.dtype)

    @staticmethod
    def zeros(*, shape, dtype, like=None):
        return mx.zeros(shape, to_mlx_dtype(dtype))

    @staticmethod
    def ones(*, shape, dtype, like=None):
        return mx.ones(shape, to_mlx_dtype(dtype))

    @staticmethod
    def full(*, shape, value, dtype, like=None):
        return mx.full(shape, value, to_mlx_dtype(dtype))

    @staticmethod
    def arange(*, start, stop, step=1, dtype, like=None):
        return mx.arange(start, stop, step, to_mlx_dtype(dtype))

    @staticmethod
    def eye(*, n, m=None, dtype, like=None):
        return mx.eye(n, m, dtype=to_mlx_dtype(dtype))

    @staticmethod
    def zeros_like(x, *, dtype=None):
        return mx.zeros(x.shape, x.dtype if dtype is None else to_mlx_dtype(dtype))

    @staticmethod
    def ones_like(x, *, dtype=None):
        return mx.ones(x.shape, x.dtype if dtype is None else to_mlx_dtype(dtype))

    @staticmethod
    def astype(x, *, dtype):
        return x.astype(to_mlx_dtype(dtype))

    # MLX computes these of float64 in float32; its power, tan and log1p are exact.

    @staticmethod
    def exp(x):
        return mx.power(math.e, x) if x.dtype == mx.float64 else mx.exp(x)

    @staticmethod
    def sin(x):
        if x.dtype != mx.float64:
            return mx.sin(x)
        t = mx.tan(x / 2)
        return 2 * t / (1 + t * t)

    @staticmethod
    def cos(x):
        if x.dtype != mx.float64:
            return mx.cos(x)
        t = mx.tan(x / 2)
        return (1 - t * t) / (1 + t * t)

    @staticmethod
    def sigmoid(x):
        if x.dtype != mx.float64:
            return mx.sigmoid(x)
        e = mx.power(math.e, -mx.abs(x))
        return mx.where(x >= 0, 1, e) / (1 + e)

    @staticmethod
    def logaddexp(x, y):
        out = mx.logaddexp(x, y)
        if out.dtype != mx.float64:
            return out
        top, low = mx.maximum(x, y), mx.minimum(x, y)
        # Equal infinities: their difference is NaN, and the sum is themselves.
        return top + mx.where(top == low, math.log(2), mx.log1p(mx.power(math.e, low - top)))

    @staticmethod
    def logsumexp(x, *, axis=None, keepdims=False):
        if x.size == 0:
            return _of_nothing(x, axis, keepdims, -math.inf)
        if x.dtype != mx.float64:
            return mx.logsumexp(x, axis=axis, keepdims=keepdims)
        top = mx.max(x, axis=axis, keepdims=True)
        top = mx.where(mx.isfinite(top), top, 0)  # -inf - -inf would be NaN
        total = mx.log(mx.sum(mx.power(math.e, x - top), axis=axis, keepdims=True)) + top
        return total if keepdims else mx.squeeze(total, axis=axis)

    @staticmethod
    def trunc(x):
        return mx.where(x < 0, mx.ceil(x), mx.floor(x))

    @staticmethod
    def bitwise_not(x):
        return mx.logical_not(x) if x.dtype == mx.bool_ else mx.bitwise_xor(x, -1 if x.dtype != mx.uint8 else 255)

    @staticmethod
    def logical_xor(x, y):
        return mx.not_equal(mx.not_equal(x, 0), mx.not_equal(y, 0))

    # MLX sums integers of up to 32 bits in 32, and its indices are uint32.

    @staticmethod
    def sum(x, *, axis=None, keepdims=False):
        x = x if mx.issubdtype(x.dtype, mx.floating) else x.astype(mx.int64)
        if x.size == 0:
            return _of_nothing(x, axis, keepdims, 0)
        return mx.sum(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def mean(x, *, axis=None, keepdims=False):
        if x.size == 0:
            return _of_nothing(x, axis, keepdims, float("nan"))
        if x.dtype in _HALF:  # MLX multiplies by 1 / n in x's dtype
            return mx.mean(x.astype(mx.float32), axis=axis, keepdims=keepdims).astype(x.dtype)
        return mx.mean(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def prod(x, *, axis=None, keepdims=False):
        x = x if mx.issubdtype(x.dtype, mx.floating) else x.astype(mx.int64)
        if x.size == 0:
            return _of_nothing(x, axis, keepdims, 1)
        return mx.prod(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def any(x, *, axis=None, keepdims=False):
        if x.size == 0:
            return _of_nothing(x.astype(mx.bool_), axis, keepdims, False)
        return mx.any(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def all(x, *, axis=None, keepdims=False):
        if x.size == 0:
            return _of_nothing(x.astype(mx.bool_), axis, keepdims, True)
        return mx.logical_not(mx.any(mx.logical_not(x), axis=axis, keepdims=keepdims))

    @staticmethod
    def argmax(x, *, axis=None, keepdims=False):
        return mx.argmax(x, axis=axis, keepdims=keepdims).astype(mx.int64)

    @staticmethod
    def argmin(x, *, axis=None, keepdims=False):
        return mx.argmin(x, axis=axis, keepdims=keepdims).astype(mx.int64)

    @staticmethod
    def cumsum(x, *, axis):
        if x.dtype in _HALF:  # which MLX adds up in itself
            return mx.cumsum(x.astype(mx.float32), axis=axis).astype(x.dtype)
        return mx.cumsum(x if mx.issubdtype(x.dtype, mx.floating) else x.astype(mx.int64), axis=axis)

    @staticmethod
    def cumprod(x, *, axis):
        if x.dtype in _HALF:
            return mx.cumprod(x.astype(mx.float32), axis=axis).astype(x.dtype)
        return mx.cumprod(x if mx.issubdtype(x.dtype, mx.floating) else x.astype(mx.int64), axis=axis)

    @staticmethod
    def sort(x, *, axis=-1, descending=False):
        out = mx.sort(x, axis=axis)
        return backwards(out, axis) if descending else out

    @staticmethod
    def argsort(x, *, axis=-1, descending=False):
        if not descending:
            return mx.argsort(x, axis=axis).astype(mx.int64)
        # Stable and descending: sort the reversed array ascending, and reverse.
        last = x.shape[axis] - 1
        return last - backwards(mx.argsort(backwards(x, axis), axis=axis).astype(mx.int64), axis)

    @staticmethod
    def matmul(x, y):
        if mx.issubdtype(x.dtype, mx.floating):
            return mx.matmul(x, y)
        wide = (a.astype(mx.float64, stream=mx.cpu) for a in (x, y))
        return mx.matmul(*wide, stream=mx.cpu).astype(x.dtype, stream=mx.cpu)

    @staticmethod
    def einsum(*arrays, equation):
        kind = arrays[0].dtype
        if mx.issubdtype(kind, mx.floating):
            return mx.einsum(equation, *arrays)
        kind = mx.int64 if sums_alone(equation) else kind
        wide = (a.astype(mx.float64, stream=mx.cpu) for a in arrays)
        return mx.einsum(equation, *wide, stream=mx.cpu).astype(kind, stream=mx.cpu)

    @staticmethod
    def reshape(x, *, shape):
        return mx.reshape(x, shape)

    @staticmethod
    def transpose(x, *, axes):
        return mx.transpose(x, axes)

    @staticmethod
    def broadcast_to(x, *, shape):
        return mx.broadcast_to(x, shape)

    @staticmethod
    def concat(*arrays, axis):
        return mx.concatenate(list(arrays), axis)

    @staticmethod
    def stack(*arrays, axis):
        return mx.stack(list(arrays), axis)

    @staticmethod
    def flip(x, *, axis):
        for a in (axis,) if isinstance(axis, int) else axis:
            x = backwards(x, a)
        return x

    @staticmethod
    def pad(x, *, widths, value=0):
        x = x[tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, widths, strict=True))]
        return mx.pad(x, [(max(b, 0), max(a, 0)) for b, a in widths], constant_values=mx.array(value, x.dtype))

    @staticmethod
    def windows(x, *, size, stride, dilation):
        k = len(size)
        lead, spatial = x.shape[: x.ndim - k], x.shape[x.ndim - k :]
        out = tuple((n - d * (s - 1) - 1) // t + 1 for n, s, t, d in zip(spatial, size, stride, dilation, strict=True))
        # as_strided counts in elements of the contiguous array.
        steps = [math.prod(x.shape[i + 1 :]) for i in range(x.ndim)]
        moves = [b * t for b, t in zip(steps[x.ndim - k :], stride, strict=True)]
        inner = [b * d for b, d in zip(steps[x.ndim - k :], dilation, strict=True)]
        return mx.as_strided(x, (*lead, *out, *size), (*steps[: x.ndim - k], *moves, *inner))

    @staticmethod
    def fold(x, *, shape, size, stride, dilation):
        k = len(size)
        out = mx.zeros(shape, x.dtype)
        counts = x.shape[x.ndim - 2 * k : x.ndim - k]
        for offset in np.ndindex(*size):
            where = tuple(
                slice(o * d, o * d + t * (n - 1) + 1, t)
                for o, d, t, n in zip(offset, dilation, stride, counts, strict=True)
            )
            out = out.at[(..., *where)].add(x[(..., *offset)])
        return out

    @staticmethod
    def getitem(x, *indices, key):
        return x[fill(*plain_key(key, indices))]

    @staticmethod
    def put(x, value, *indices, key):
        out = mx.array(x)
        out[fill(*plain_key(key, indices))] = value
        return out

    @staticmethod
    def add_at(x, value, *indices, key):
        return x.at[fill(*plain_key(key, indices))].add(value)

    @staticmethod
    def take(x, indices, *, axis):
        return mx.take(x, indices, axis)

    @staticmethod
    def take_along_axis(x, indices, *, axis):
        return mx.take_along_axis(x, indices, axis)

    @staticmethod
    def scatter_add(x, indices, values, *, axis):
        axis %= x.ndim
        where = [
            mx.arange(n).reshape([-1 if i == j else 1 for j in range(x.ndim)]) for i, n in enumerate(indices.shape)
        ]
        where[axis] = indices
        return x.at[tuple(where)].add(values)


def _of_nothing(x: mx.array, axis: Any, keepdims: bool, value: Any) -> mx.array:
    """A reduction of an array without elements. MLX must not run it: the kernel may read a shape that is not there, and never end."""
    axes = (
        range(x.ndim) if axis is None else [a % x.ndim for a in (axis if isinstance(axis, tuple | list) else (axis,))]
    )
    shape = [1 if a in axes else n for a, n in enumerate(x.shape) if keepdims or a not in axes]
    return mx.full(shape, value, x.dtype)


def backwards(x: mx.array, axis: int) -> mx.array:
    """x reversed along one axis."""
    return x[(slice(None),) * (axis % x.ndim) + (slice(None, None, -1),)]


def plain_key(key: tuple, indices: tuple) -> tuple[tuple, tuple]:
    """The key and the indices as MLX takes them: masks as indices, and no integers beside index arrays."""
    if not indices:
        return key, indices
    new_key, new_indices, rest = [], [], iter(indices)
    for k in key:
        if k is INDEX:
            i = next(rest)
            found = [mx.array(n) for n in np.nonzero(np.array(i))] if i.dtype == mx.bool_ else [i]
        else:
            # In writes MLX has other rules for integers than NumPy.
            found = [mx.array(k)] if isinstance(k, int) else []
        new_key += [INDEX] * len(found) if found else [k]
        new_indices += found
    return tuple(new_key), tuple(new_indices)


def _gpu() -> bool:
    return mx.metal.is_available() or (hasattr(mx, "cuda") and mx.cuda.is_available())


# Kernels. Their parameters are those of the op or vjp. On the CPU the bodies of conv and conv_vjp_x are faster.

conv_body = REGISTRY["conv"].forward
conv_vjp_x_body = VJPS["conv_vjp_x"].forward
conv_vjp_weight_body = VJPS["conv_vjp_weight"].forward


def channels_last_conv(x, weight, stride, padding, dilation, groups):
    """(N, C, *L) and (O, C / groups, *k); MLX has the channels last."""
    y = mx.conv_general(
        mx.moveaxis(x, 1, -1),
        mx.moveaxis(weight, 1, -1),
        stride=list(stride),
        padding=([before for before, _ in padding], [after for _, after in padding]),
        kernel_dilation=list(dilation),
        groups=groups,
    )
    return mx.moveaxis(y, -1, 1)


def conv_known(x, groups):
    """Whether MLX has that convolution: none with groups over 3 axes, and float64 only to float32's precision."""
    return (groups == 1 or x.ndim < 5) and x.dtype != mx.float64


def conv(x, weight, bias=None, *, stride, padding, dilation, groups=1):
    if not conv_known(x, groups):
        return conv_body(xp, x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
    conv_shape(x.shape, weight.shape, None if bias is None else bias.shape, stride, padding, dilation, groups)
    y = channels_last_conv(x, weight, stride, padding, dilation, groups)
    return y if bias is None else y + mx.reshape(bias, (-1,) + (1,) * len(stride))


# Lazy: neither the zeros nor the forward pass are computed.


def conv_vjp_x(g, weight, *, x_shape, stride, padding, dilation, groups):
    if not conv_known(g, groups):
        return conv_vjp_x_body(xp, g, weight, x_shape, stride, padding, dilation, groups)
    run = lambda x: channels_last_conv(x, weight, stride, padding, dilation, groups)
    return mx.vjp(run, [mx.zeros(x_shape, g.dtype)], [g])[1][0]


def conv_vjp_weight(g, x, *, weight_shape, stride, padding, dilation, groups):
    if not conv_known(g, groups):
        return conv_vjp_weight_body(xp, g, x, weight_shape, stride, padding, dilation, groups)
    run = lambda weight: channels_last_conv(x, weight, stride, padding, dilation, groups)
    return mx.vjp(run, [mx.zeros(weight_shape, g.dtype)], [g])[1][0]


KERNELS: dict[str, Callable] = {"conv_vjp_weight": conv_vjp_weight}
ACCELERATOR_KERNELS: dict[str, Callable] = {"conv": conv, "conv_vjp_x": conv_vjp_x}


class MlxBackend(Backend):
    """MLX. With dtype float64 it runs on the CPU, elsewhere by default on MLX's own default device.

    Example:
        >>> import gradloom as gl
        >>> gl.MlxBackend(device="cpu").device  # doctest: +SKIP
        'cpu'
    """

    name = "mlx"
    xp = xp
    fast = KERNELS if not _gpu() else KERNELS | ACCELERATOR_KERNELS
    array_types = (mx.array,)

    def check_device(self, device: Any) -> str:
        if device is None:
            # What MLX will run on, unless only the CPU can.
            return "cpu" if self.dtype is float64 or mx.default_device().type == mx.DeviceType.cpu else "gpu"
        name = str(device.type).rpartition(".")[2] if isinstance(device, mx.Device) else str(device)
        if name != "cpu" and (name != "gpu" or not _gpu()):
            has = "'cpu', 'gpu'" if _gpu() else "'cpu'"
            raise BackendError(explain(f"mlx has no device {name!r} here", expected=has, given=repr(name)))
        if name == "gpu" and self._dtype is float64:
            raise _no_float64()
        return name

    def native_dtype(self, d: DType) -> mx.Dtype:
        if d is float64 and self.device != "cpu":
            raise _no_float64()
        return to_mlx_dtype(d)

    def from_numpy(self, array: np.ndarray, d: DType | None = None) -> mx.array:
        array = np.asarray(array)
        native = self.native_dtype(dtype(array.dtype) if d is None else d)
        if not array.dtype.isnative or min(array.strides, default=0) < 0:  # MLX cannot look at these
            array = array.astype(array.dtype.newbyteorder("="), order="C")
        with self.context():
            return mx.array(array, dtype=native)

    @classmethod
    def to_numpy(cls, array: mx.array) -> np.ndarray:
        """bfloat16 needs the package ml_dtypes; without it the result is float32."""
        if array.dtype != mx.bfloat16:
            return np.array(array, copy=False)
        try:
            return np.array(array.view(mx.uint16), copy=False).view(to_numpy_dtype(bfloat16))
        except MissingExtraError:
            return np.array(array.astype(mx.float32), copy=False)

    @classmethod
    def copy(cls, array: mx.array) -> mx.array:
        return mx.array(array)

    def scalars(self, values: list, d: DType) -> mx.array:
        # Python numbers would be constants of the compiled function, which MLX compiles anew when they change.
        return mx.array(values, dtype=to_mlx_dtype(d))

    def compile(self, fn: Callable, donate: tuple[int, ...] = ()) -> Callable:
        """`mlx.core.compile` of the function. `donate` is not needed: MLX reuses memory that nothing else holds."""
        return mx.compile(fn)

    @classmethod
    def synchronize(cls, *arrays: mx.array) -> None:
        mx.eval(*arrays)

    def context(self) -> contextlib.AbstractContextManager:
        device = mx.cpu if self.device == "cpu" else mx.gpu
        return contextlib.nullcontext() if mx.default_device() == device else mx.stream(device)


def _no_float64() -> DTypeError:
    return DTypeError(
        explain(
            "MLX has float64 on the CPU only",
            given="device 'gpu'",
            do="use gradloom.MlxBackend(dtype='float64', device='cpu'), or float32",
        )
    )


register(MlxBackend)
