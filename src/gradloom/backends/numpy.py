"""The NumPy backend: the default, always installed. float64, float32, float16 and the integers; the CPU only.

bfloat16 is there where the package ml_dtypes is (numpy_bfloat16.py). Sums of float16 are added up in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import DType, bfloat16, dtype, to_numpy_dtype
from ..ops.linalg import sums_alone
from ..ops.namespace import fill
from .base import Backend, register
from .numpy_bfloat16 import Bfloat16, to_bfloat16

#: Floats of so many bytes as integers. Times 0 or 1 these are exact, also of infinities and NaN.
_BITS = {2: np.int16, 4: np.int32, 8: np.int64}
#: What these are summed in; all others in themselves.
_SUMS: dict[np.dtype, type] = {np.dtype(d): np.int64 for d in ("bool", "uint8", "int8", "int16", "int32", "int64")}
_SUMS[np.dtype("float16")] = np.float32
_HALF = np.dtype("float16").num


class xp:
    """NumPy under the names of `namespace.NAMESPACE`."""

    # The functions that NumPy has under the same name and meaning.
    abs, negative, sign, square, sqrt = np.absolute, np.negative, np.sign, np.square, np.sqrt
    reciprocal = np.reciprocal
    exp, expm1, log, log1p, log2, logaddexp = np.exp, np.expm1, np.log, np.log1p, np.log2, np.logaddexp
    sin, cos, tan, asin, acos, atan, atan2 = np.sin, np.cos, np.tan, np.arcsin, np.arccos, np.arctan, np.arctan2
    sinh, cosh, tanh, asinh, acosh, atanh = np.sinh, np.cosh, np.tanh, np.arcsinh, np.arccosh, np.arctanh
    floor, ceil, round, trunc = np.floor, np.ceil, np.rint, np.trunc
    isnan, isinf, isfinite = np.isnan, np.isinf, np.isfinite
    logical_not, bitwise_not = np.logical_not, np.invert
    add, subtract, multiply, divide = np.add, np.subtract, np.multiply, np.true_divide
    floor_divide, remainder, pow = np.floor_divide, np.remainder, np.power
    maximum, minimum = np.maximum, np.minimum
    equal, not_equal, less, less_equal = np.equal, np.not_equal, np.less, np.less_equal
    greater, greater_equal = np.greater, np.greater_equal
    logical_and, logical_or, logical_xor = np.logical_and, np.logical_or, np.logical_xor
    bitwise_and, bitwise_or, bitwise_xor = np.bitwise_and, np.bitwise_or, np.bitwise_xor
    matmul = np.matmul

    @staticmethod
    def dtype(x):
        return dtype(x.dtype)

    @staticmethod
    def zeros(*, shape, dtype, like=None):
        out = np.zeros(shape, to_numpy_dtype(dtype))
        return to_bfloat16(out) if dtype is bfloat16 else out

    @staticmethod
    def ones(*, shape, dtype, like=None):
        out = np.ones(shape, to_numpy_dtype(dtype))
        return to_bfloat16(out) if dtype is bfloat16 else out

    @staticmethod
    def full(*, shape, value, dtype, like=None):
        out = np.full(shape, value, to_numpy_dtype(dtype))
        return to_bfloat16(out) if dtype is bfloat16 else out

    @staticmethod
    def arange(*, start, stop, step=1, dtype, like=None):
        out = np.arange(start, stop, step, dtype=to_numpy_dtype(dtype))
        return to_bfloat16(out) if dtype is bfloat16 else out

    @staticmethod
    def eye(*, n, m=None, dtype, like=None):
        out = np.eye(n, m, dtype=to_numpy_dtype(dtype))
        return to_bfloat16(out) if dtype is bfloat16 else out

    @staticmethod
    def zeros_like(x, *, dtype=None):
        return like(np.zeros(x.shape, x.dtype), x) if dtype is None else xp.zeros(shape=x.shape, dtype=dtype)

    @staticmethod
    def ones_like(x, *, dtype=None):
        return like(np.ones(x.shape, x.dtype), x) if dtype is None else xp.ones(shape=x.shape, dtype=dtype)

    @staticmethod
    def rsqrt(x):
        return 1 / np.sqrt(x)

    @staticmethod
    def sigmoid(x):
        # exp of a negative number only: no overflow, and exact to the last bits at both ends.
        e = np.exp(-np.abs(x))
        return np.maximum(e, x >= 0) / (1 + e)  # 1 or e; e is at most 1

    @staticmethod
    def erf(x):
        from scipy.special import erf

        return erf(x).astype(x.dtype)  # SciPy gives float32 for float16

    @staticmethod
    def erfinv(x):
        from scipy.special import erfinv

        return erfinv(x).astype(x.dtype)

    @staticmethod
    def astype(x, *, dtype):
        out = x.astype(to_numpy_dtype(dtype))
        return to_bfloat16(out) if dtype is bfloat16 else out

    @staticmethod
    def where(condition, x, y):
        # np.where takes a branch for each element: on conditions without a pattern it is 10 to 15 times slower.
        if type(x) is np.ndarray and x.size > 500 and x.dtype.kind == "f" and condition.dtype == bool:
            bits = _BITS.get(x.dtype.itemsize)
            chosen = np.asarray(condition).view(np.int8)
            if bits is not None and type(y) is int and y == 0:
                return np.multiply(chosen, x.view(bits), dtype=bits).view(x.dtype)
            if bits is not None and type(y) is np.ndarray and y.dtype == x.dtype:
                other = y.view(bits)
                return ((x.view(bits) ^ other) * chosen ^ other).view(x.dtype)
        return np.where(condition, x, y)

    # NumPy sums unsigned integers in uint64, which gradloom does not have, and float16 in float16.

    @staticmethod
    def sum(x, *, axis=None, keepdims=False):
        total = np.add.reduce(x, axis=axis, keepdims=keepdims, dtype=_SUMS.get(x.dtype))
        return total if x.dtype.num != _HALF else total.astype(x.dtype)

    @staticmethod
    def prod(x, *, axis=None, keepdims=False):
        total = np.multiply.reduce(x, axis=axis, keepdims=keepdims, dtype=_SUMS.get(x.dtype))
        return total if x.dtype.num != _HALF else total.astype(x.dtype)

    @staticmethod
    def amax(x, *, axis=None, keepdims=False):
        return np.maximum.reduce(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def amin(x, *, axis=None, keepdims=False):
        return np.minimum.reduce(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def any(x, *, axis=None, keepdims=False):
        return np.logical_or.reduce(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def all(x, *, axis=None, keepdims=False):
        return np.logical_and.reduce(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def mean(x, *, axis=None, keepdims=False):
        if x.dtype.kind != "f" or x.dtype.itemsize == 2:  # float16 is summed in float32
            return np.mean(x, axis=axis, keepdims=keepdims)
        total = np.add.reduce(x, axis=axis, keepdims=keepdims)
        return total / (x.size // max(total.size, 1))

    @staticmethod
    def logsumexp(x, *, axis=None, keepdims=False):
        if x.dtype.itemsize == 2:
            return xp.logsumexp(x.astype(np.float32), axis=axis, keepdims=keepdims).astype(x.dtype)
        top = np.maximum.reduce(x, axis=axis, keepdims=True)
        safe = np.where(np.isfinite(top), top, 0)  # -inf - -inf would be NaN
        total = np.log(np.add.reduce(np.exp(x - safe), axis=axis, keepdims=True)) + safe
        return total if keepdims else np.squeeze(total, axis=axis)

    @staticmethod
    def argmax(x, *, axis=None, keepdims=False):
        return np.argmax(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def argmin(x, *, axis=None, keepdims=False):
        return np.argmin(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def cumsum(x, *, axis):
        total = np.cumsum(x, axis=axis, dtype=_SUMS.get(x.dtype))
        return total if x.dtype.num != _HALF else total.astype(x.dtype)

    @staticmethod
    def cumprod(x, *, axis):
        total = np.cumprod(x, axis=axis, dtype=_SUMS.get(x.dtype))
        return total if x.dtype.num != _HALF else total.astype(x.dtype)

    @staticmethod
    def sort(x, *, axis=-1, descending=False):
        return (
            np.take_along_axis(x, xp.argsort(x, axis=axis, descending=True), axis)
            if descending
            else np.sort(x, axis=axis, kind="stable")
        )

    @staticmethod
    def argsort(x, *, axis=-1, descending=False):
        if not descending:
            return np.argsort(x, axis=axis, kind="stable")
        # Stable and descending: sort the reversed array ascending, and reverse.
        last = x.shape[axis] - 1
        return last - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)

    @staticmethod
    def einsum(*arrays, equation):
        if arrays[0].dtype.kind in "bui" and sums_alone(equation):
            arrays = tuple(a.astype(np.int64) for a in arrays)
        return np.einsum(equation, *arrays, optimize=True)

    @staticmethod
    def reshape(x, *, shape):
        return x.reshape(shape)

    @staticmethod
    def transpose(x, *, axes):
        return x.transpose(axes)

    @staticmethod
    def broadcast_to(x, *, shape):
        if x.ndim:
            return np.broadcast_to(x, shape)
        view: np.ndarray = np.ndarray(shape, x.dtype, x, 0, (0,) * len(shape))  # a fifth of the time
        view.flags.writeable = False
        return like(view, x)

    @staticmethod
    def expand_dims(x, *, axis):
        return np.expand_dims(x, axis)

    @staticmethod
    def squeeze(x, *, axis):
        return np.squeeze(x, axis)

    @staticmethod
    def concat(*arrays, axis):
        return np.concatenate(arrays, axis)

    @staticmethod
    def stack(*arrays, axis):
        if axis in (0, -1) and not any(a.ndim for a in arrays):
            return np.array(arrays)  # a tenth of the time
        return np.stack(arrays, axis)

    @staticmethod
    def flip(x, *, axis):
        return np.flip(x, axis).copy()  # not a view: its elements must not follow later writes to x

    @staticmethod
    def roll(x, *, shift, axis):
        return np.roll(x, shift, axis)

    @staticmethod
    def pad(x, *, widths, value=0):
        shape = tuple(n + before + after for n, (before, after) in zip(x.shape, widths, strict=True))
        out = np.full(shape, value, x.dtype) if value else np.zeros(shape, x.dtype)
        out[tuple(slice(max(b, 0), n - max(a, 0)) for n, (b, a) in zip(shape, widths, strict=True))] = x[
            tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, widths, strict=True))
        ]
        return like(out, x)

    @staticmethod
    def repeat(x, *, repeats, axis):
        return np.repeat(x, repeats, axis)

    @staticmethod
    def tril(x, *, k=0):
        return np.tril(x, k)

    @staticmethod
    def triu(x, *, k=0):
        return np.triu(x, k)

    @staticmethod
    def windows(x, *, size, stride, dilation):
        k = len(size)
        lead, spatial = x.shape[: x.ndim - k], x.shape[x.ndim - k :]
        out = tuple((n - d * (s - 1) - 1) // t + 1 for n, s, t, d in zip(spatial, size, stride, dilation, strict=True))
        steps = x.strides[x.ndim - k :]
        return np.lib.stride_tricks.as_strided(
            x,
            (*lead, *out, *size),
            (
                *x.strides[: x.ndim - k],
                *(b * t for b, t in zip(steps, stride, strict=True)),
                *(b * d for b, d in zip(steps, dilation, strict=True)),
            ),
            writeable=False,
        )

    @staticmethod
    def fold(x, *, shape, size, stride, dilation):
        k = len(size)
        # Laid out in memory as x is: windows of which the batch is innermost are added twice as fast so.
        order = sorted(range(len(shape)), key=lambda a: -x.strides[a])
        out = np.zeros([shape[a] for a in order], x.dtype).transpose(np.argsort(order))
        counts = x.shape[x.ndim - 2 * k : x.ndim - k]
        for offset in np.ndindex(*size):
            where: Any = tuple(
                slice(o * d, o * d + t * (n - 1) + 1, t)
                for o, d, t, n in zip(offset, dilation, stride, counts, strict=True)
            )
            out[(..., *where)] += x[(..., *offset)]
        return like(out, x)

    @staticmethod
    def getitem(x, *indices, key):
        return x[fill(key, indices)]

    @staticmethod
    def put(x, value, *indices, key):
        out = x.copy()
        out[fill(key, indices)] = value
        return out

    @staticmethod
    def add_at(x, value, *indices, key):
        out = x.copy()
        if indices:
            np.add.at(out, fill(key, indices), value)
        else:
            out[key] += value
        return out

    @staticmethod
    def take(x, indices, *, axis):
        return np.take(x, indices, axis)

    @staticmethod
    def take_along_axis(x, indices, *, axis):
        return np.take_along_axis(x, indices, axis)

    @staticmethod
    def scatter_add(x, indices, values, *, axis):
        out = x.copy()
        axis %= x.ndim
        where = [
            np.arange(n).reshape([-1 if i == j else 1 for j in range(x.ndim)]) for i, n in enumerate(indices.shape)
        ]
        where[axis] = indices
        np.add.at(out, tuple(where), values)
        return out


def like(array, x):
    """An array of x's dtype, as a Bfloat16 if x is one."""
    return to_bfloat16(array) if type(x) is Bfloat16 else array


class NumpyBackend(Backend):
    """NumPy on the CPU.

    Example:
        >>> import gradloom as gl
        >>> gl.NumpyBackend(dtype="float64").dtype
        gradloom.float64
    """

    name = "numpy"
    xp = xp
    # Reductions and arithmetic of 0-d arrays give NumPy scalars: they are arrays here.
    array_types = (np.ndarray, np.generic)
    mutable = True
    plans = True

    def native_dtype(self, d: DType) -> Any:
        return to_numpy_dtype(d)

    def from_numpy(self, array: np.ndarray, d: DType | None = None) -> Any:
        array = np.asarray(array)
        # Native byte order; raises for a dtype that gradloom does not have.
        d = dtype(array.dtype) if d is None else d
        array = np.asarray(array, to_numpy_dtype(d))
        return to_bfloat16(array) if d is bfloat16 else array

    @classmethod
    def to_numpy(cls, array: Any) -> np.ndarray:
        return np.asarray(array)

    def scalars(self, values: list, d: DType) -> Any:
        # Of their dtype: what is computed of Python's numbers alone would be float64.
        return list(map(to_numpy_dtype(d).type, values))

    @classmethod
    def copy(cls, array: Any) -> Any:
        return np.array(array, subok=True)


register(NumpyBackend)
