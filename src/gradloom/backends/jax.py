"""The JAX backend: every device that JAX has, float64 in a mode of its own.

JAX holds no 64-bit number unless its x64 mode is on, and that mode is a flag of the whole process. gradloom never
sets the flag; it enters the mode for the calls that need it:

- float64. `JaxBackend(dtype="float64")` makes float64 arrays, and enters x64 around its calls (`context`). Every op
  enters it by itself when an operand is float64. The op `astype` gives float64 while the default backend's dtype is
  float64, or x64 is on; else asking for float64 raises DTypeError: nothing is ever truncated to float32.
- int64. Index results are int64 on every engine, and JAX without x64 holds them as int32. So here **int32 and int64
  are one dtype, and its name is int64**: asked for int32 or int64, an array holds int32 (where x64 is on: int64 for
  int64), `dtype_of` says int64, and `to_numpy` gives int64. Bringing in an integer that int32 cannot hold raises,
  unless x64 is on. Through DLPack goes what is held.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..dtypes import DType, bool_, dtype, float64, int32, int64
from ..errors import BackendError, DTypeError, explain
from ..ops.conv import conv_shape
from ..ops.linalg import sums_alone
from ..ops.namespace import fill
from ..ops.op import VJPS
from .base import Backend, register
from .registry import default_backend

# jax.experimental's name goes away; jax has its own since 0.8.
_enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64

_NATIVE = {name: getattr(jnp, name) for name in ("uint8", "int8", "int16", "float16", "bfloat16", "float32")}


def to_jax_dtype(d: Any) -> Any:
    """JAX's dtype for a gradloom dtype; int32 for int64 unless x64 is on.

    Raises:
        DTypeError: For float64 while x64 is off.
    """
    d = dtype(d)
    if d is int32 or d is int64:
        return jnp.int64 if d is int64 and jax.config.jax_enable_x64 else jnp.int32
    if d is bool_:
        return jnp.bool_
    if d is float64:
        if not jax.config.jax_enable_x64:
            raise no_float64()
        return jnp.float64
    return _NATIVE[d.name]


def no_float64() -> DTypeError:
    return DTypeError(
        explain(
            "float64 on JAX must be asked for",
            given="float64 while JAX's 64-bit mode is off",
            do="use gradloom.JaxBackend(dtype='float64'), e.g. with gradloom.using_backend(...)",
        )
    )


class xp:
    """JAX under the names of `namespace.NAMESPACE`."""

    # The functions that JAX has under the same name and meaning.
    abs, negative, sign, square, sqrt, rsqrt = jnp.abs, jnp.negative, jnp.sign, jnp.square, jnp.sqrt, jax.lax.rsqrt
    reciprocal = jnp.reciprocal
    exp, expm1, log, log1p, log2, logaddexp = jnp.exp, jnp.expm1, jnp.log, jnp.log1p, jnp.log2, jnp.logaddexp
    sin, cos, tan, asin, acos, atan, atan2 = jnp.sin, jnp.cos, jnp.tan, jnp.arcsin, jnp.arccos, jnp.arctan, jnp.arctan2
    sinh, cosh, tanh, asinh, acosh, atanh = jnp.sinh, jnp.cosh, jnp.tanh, jnp.arcsinh, jnp.arccosh, jnp.arctanh
    sigmoid, erf, erfinv = jax.nn.sigmoid, jax.lax.erf, jax.lax.erf_inv
    floor, ceil, round, trunc = jnp.floor, jnp.ceil, jnp.rint, jnp.trunc
    isnan, isinf, isfinite = jnp.isnan, jnp.isinf, jnp.isfinite
    logical_not, bitwise_not = jnp.logical_not, jnp.bitwise_not
    add, subtract, multiply, divide = jnp.add, jnp.subtract, jnp.multiply, jnp.true_divide
    floor_divide, remainder, pow = jnp.floor_divide, jnp.remainder, jnp.power
    maximum, minimum = jnp.maximum, jnp.minimum
    equal, not_equal, less, less_equal = jnp.equal, jnp.not_equal, jnp.less, jnp.less_equal
    greater, greater_equal = jnp.greater, jnp.greater_equal
    logical_and, logical_or, logical_xor = jnp.logical_and, jnp.logical_or, jnp.logical_xor
    bitwise_and, bitwise_or, bitwise_xor = jnp.bitwise_and, jnp.bitwise_or, jnp.bitwise_xor
    where, matmul = jnp.where, jnp.matmul
    amax, amin, any, all, mean, logsumexp = jnp.max, jnp.min, jnp.any, jnp.all, jnp.mean, jax.nn.logsumexp
    argmax, argmin = jnp.argmax, jnp.argmin
    sort, argsort = jnp.sort, jnp.argsort  # stable by default
    expand_dims, squeeze, flip, roll, repeat = jnp.expand_dims, jnp.squeeze, jnp.flip, jnp.roll, jnp.repeat
    tril, triu, take_along_axis = jnp.tril, jnp.triu, jnp.take_along_axis

    @staticmethod
    def dtype(x):
        return int64 if x.dtype == jnp.int32 else dtype(x.dtype)

    @staticmethod
    def zeros(*, shape, dtype, like=None):
        return jnp.zeros(shape, to_jax_dtype(dtype))

    @staticmethod
    def ones(*, shape, dtype, like=None):
        return jnp.ones(shape, to_jax_dtype(dtype))

    @staticmethod
    def full(*, shape, value, dtype, like=None):
        return jnp.full(shape, value, to_jax_dtype(dtype))

    @staticmethod
    def arange(*, start, stop, step=1, dtype, like=None):
        return jnp.arange(start, stop, step, to_jax_dtype(dtype))

    @staticmethod
    def eye(*, n, m=None, dtype, like=None):
        return jnp.eye(n, m, dtype=to_jax_dtype(dtype))

    @staticmethod
    def zeros_like(x, *, dtype=None):
        return jnp.zeros(x.shape, x.dtype if dtype is None else to_jax_dtype(dtype))

    @staticmethod
    def ones_like(x, *, dtype=None):
        return jnp.ones(x.shape, x.dtype if dtype is None else to_jax_dtype(dtype))

    @staticmethod
    def astype(x, *, dtype):
        return x.astype(to_jax_dtype(dtype))

    # dtype=int is JAX's default integer: int32, or int64 where x64 is on.

    @staticmethod
    def sum(x, *, axis=None, keepdims=False):
        return jnp.sum(x, axis=axis, keepdims=keepdims, dtype=int if x.dtype.kind in "bui" else None)

    @staticmethod
    def prod(x, *, axis=None, keepdims=False):
        return jnp.prod(x, axis=axis, keepdims=keepdims, dtype=int if x.dtype.kind in "bui" else None)

    @staticmethod
    def cumsum(x, *, axis):
        if x.dtype.itemsize == 2 and x.dtype.kind not in "ui":  # float16 and bfloat16: JAX rounds each step
            return jnp.cumsum(x.astype(jnp.float32), axis).astype(x.dtype)
        return jnp.cumsum(x, axis, dtype=int if x.dtype.kind in "bui" else None)

    @staticmethod
    def cumprod(x, *, axis):
        if x.dtype.itemsize == 2 and x.dtype.kind not in "ui":  # float16 and bfloat16: JAX rounds each step
            return jnp.cumprod(x.astype(jnp.float32), axis).astype(x.dtype)
        return jnp.cumprod(x, axis, dtype=int if x.dtype.kind in "bui" else None)

    @staticmethod
    def einsum(*arrays, equation):
        if arrays[0].dtype.kind in "bui" and sums_alone(equation):
            arrays = tuple(a.astype(int) for a in arrays)
        return jnp.einsum(equation, *arrays)

    @staticmethod
    def reshape(x, *, shape):
        return jnp.reshape(x, shape)

    @staticmethod
    def transpose(x, *, axes):
        return jnp.transpose(x, axes)

    @staticmethod
    def broadcast_to(x, *, shape):
        return jnp.broadcast_to(x, shape)

    @staticmethod
    def concat(*arrays, axis):
        return jnp.concatenate(arrays, axis)

    @staticmethod
    def stack(*arrays, axis):
        return jnp.stack(arrays, axis)

    @staticmethod
    def pad(x, *, widths, value=0):
        return jax.lax.pad(x, jnp.asarray(value, x.dtype), [(before, after, 0) for before, after in widths])

    # Windows of one axis after the other, as shifted strided slices: XLA's gather is slower by far.

    @staticmethod
    def windows(x, *, size, stride, dilation):
        first = x.ndim - len(size)
        for i, (s, t, d) in enumerate(zip(size, stride, dilation, strict=True)):
            last = t * ((x.shape[first + i] - d * (s - 1) - 1) // t) + 1
            parts = [jax.lax.slice_in_dim(x, o * d, o * d + last, t, first + i) for o in range(s)]
            x = jnp.stack(parts, axis=-1)
        return x

    @staticmethod
    def fold(x, *, shape, size, stride, dilation):
        k = len(size)
        zero = jnp.zeros((), x.dtype)
        for i in reversed(range(k)):
            # x (..., Oi, ..., s1, ..., si): add the slices of the last axis, spread out along Oi's.
            axis = len(shape) - k + i
            n, s, t, d = shape[len(shape) - k + i], size[i], stride[i], dilation[i]
            spread = t * (x.shape[axis] - 1) + 1
            total = zero
            for o in range(s):
                widths = [(0, 0, 0)] * (x.ndim - 1)
                widths[axis] = (o * d, n - spread - o * d, t - 1)
                total = total + jax.lax.pad(x[..., o], zero, widths)
            x = total
        return x

    @staticmethod
    def getitem(x, *indices, key):
        return x[fill(key, indices)]

    @staticmethod
    def put(x, value, *indices, key):
        return x.at[fill(key, indices)].set(value)

    @staticmethod
    def add_at(x, value, *indices, key):
        return x.at[fill(key, indices)].add(value)

    @staticmethod
    def take(x, indices, *, axis):
        return jnp.take(x, indices, axis)

    @staticmethod
    def scatter_add(x, indices, values, *, axis):
        axis %= x.ndim
        where = [
            np.arange(n).reshape([-1 if i == j else 1 for j in range(x.ndim)]) for i, n in enumerate(indices.shape)
        ]
        return x.at[(*where[:axis], indices, *where[axis + 1 :])].add(values)


def is_wide(a: Any) -> bool:
    """Whether a value is an array of 64-bit numbers."""
    d = getattr(a, "dtype", None)
    return d is not None and d.itemsize == 8


def in_x64(fn: Callable) -> Callable:
    """The kernel, run inside x64 where an operand or a static dtype is of 64 bits."""

    @functools.wraps(fn, updated=())
    def call(*args, **statics):
        wide = False
        for a in args:
            if is_wide(a):
                wide = True
                break
        else:
            for name, value in statics.items():
                if value is float64:
                    # `dtype=` is a request; `x_dtype` and its like say what an operand was.
                    if name == "dtype" and not jax.config.jax_enable_x64 and default_backend().dtype is not float64:
                        raise no_float64()
                    wide = True
        if wide:
            with _enable_x64(True):
                return fn(*args, **statics)
        return fn(*args, **statics)

    return call


# Kernels. Their parameters are those of the op or vjp. On the CPU the bodies of conv and conv_vjp_x are faster.


def channels_last_conv(x, weight, stride, padding, dilation, groups):
    """(N, C, *L) and (O, C / groups, *k), computed with the channels last, which XLA's CPU code prefers."""
    k = len(stride)
    axes = "DHW"[3 - k :]
    y = jax.lax.conv_general_dilated(
        jnp.moveaxis(x, 1, -1),
        jnp.transpose(weight, (*range(2, k + 2), 1, 0)),
        stride,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        feature_group_count=groups,
    )
    return jnp.moveaxis(y, -1, 1)


def conv(x, weight, bias=None, *, stride, padding, dilation, groups=1):
    conv_shape(x.shape, weight.shape, None if bias is None else bias.shape, stride, padding, dilation, groups)
    y = channels_last_conv(x, weight, stride, padding, dilation, groups)
    return y if bias is None else y + jnp.reshape(bias, (-1,) + (1,) * len(stride))


def conv_vjp_x(g, weight, *, x_shape, stride, padding, dilation, groups):
    run = lambda x: channels_last_conv(x, weight, stride, padding, dilation, groups)
    return jax.linear_transpose(run, jax.ShapeDtypeStruct(x_shape, g.dtype))(g)[0]


def conv_vjp_weight(g, x, *, weight_shape, stride, padding, dilation, groups):
    run = lambda weight: channels_last_conv(x, weight, stride, padding, dilation, groups)
    return jax.linear_transpose(run, jax.ShapeDtypeStruct(weight_shape, g.dtype))(g)[0]


max_pool_vjp_body = VJPS["max_pool_vjp_x"].forward


def max_pool_vjp_x(g, x, out, *, size, stride, padding, dilation, ceil_mode):
    k = len(size)
    lead, lengths = x.shape[: x.ndim - k], x.shape[x.ndim - k :]
    tiled = size == stride and set(dilation) == {1} and all(tuple(p) == (0, 0) for p in padding)
    if not tiled or any(n % s for n, s in zip(lengths, size, strict=True)):
        return max_pool_vjp_body(xp, g, x, out, size, stride, padding, dilation, ceil_mode)
    # Windows that tile x, as axes (..., O1, s1, O2, s2, ...): nothing is written twice.
    split = [m for n, s in zip(lengths, size, strict=True) for m in (n // s, s)]
    inner = tuple(range(len(lead) + 1, len(lead) + 2 * k, 2))
    hit = x.reshape(*lead, *split) == jnp.expand_dims(out, inner)
    # The first of equals is the one with the smallest number among the window's elements.
    numbers = jnp.arange(math.prod(size), dtype=jnp.int32)
    numbers = numbers.reshape([1] * len(lead) + [m if i % 2 else 1 for i, m in enumerate(split)])
    first = jnp.min(jnp.where(hit, numbers, math.prod(size)), axis=inner, keepdims=True)
    return jnp.where(numbers == first, jnp.expand_dims(g, inner), 0).reshape(x.shape)


KERNELS: dict[str, Callable] = {"conv_vjp_weight": conv_vjp_weight, "max_pool_vjp_x": max_pool_vjp_x}
ACCELERATOR_KERNELS: dict[str, Callable] = {"conv": conv, "conv_vjp_x": conv_vjp_x}


# JAX's own loops: compiled once, whatever the number of steps.


def scan(*values, body, carries, sequences, length, reverse=False):
    """Runs body at each step along the first axis of the sequences: the last carries, and its other results stacked."""
    xs, rest = values[carries : carries + sequences], values[carries + sequences :]

    def step(carry, x):
        out = body(*carry, *x, *rest)
        return out[:carries], out[carries:]

    carry, ys = jax.lax.scan(step, values[:carries], xs, length=length, reverse=reverse)
    return (*carry, *ys)


def cond(pred, *values, true, false):
    """The results of true(*values) where pred holds, else of false(*values); only that one is run."""
    return jax.lax.cond(pred, true, false, *values)


def while_loop(*values, condition, body, carries):
    """Runs body as long as condition holds, and gives the last carries."""
    rest = values[carries:]
    return jax.lax.while_loop(
        lambda carry: condition(*carry, *rest)[0], lambda carry: body(*carry, *rest), values[:carries]
    )


class JaxBackend(Backend):
    """JAX on any of its devices. See the module's text for float64 and int64.

    Example:
        >>> import gradloom as gl
        >>> gl.JaxBackend(dtype="float64").dtype  # doctest: +SKIP
        gradloom.float64
    """

    name = "jax"
    xp = xp
    donates = True
    fast = KERNELS if jax.default_backend() == "cpu" else KERNELS | ACCELERATOR_KERNELS
    loops = {"scan": scan, "cond": cond, "while_loop": while_loop}
    # Arrays, and what stands for them inside jax.jit, jax.grad and jax.vmap.
    array_types = (type(jax.device_put(np.zeros(0, np.float32))), jax.core.Tracer)

    def check_device(self, device: Any) -> str:
        self._device = None
        if device is None:
            return jax.default_backend()
        if isinstance(device, jax.Device):
            self._device = device
            return f"{device.platform}:{device.id}"
        platform, _, index = str(device).partition(":")
        try:
            self._device = jax.devices(platform)[int(index or 0)]
        except (RuntimeError, IndexError, ValueError) as error:
            raise BackendError(
                explain(
                    f"jax has no device {device!r} here",
                    expected=", ".join(repr(f"{d.platform}:{d.id}") for d in jax.devices()),
                    given=repr(device),
                )
            ) from error
        return str(device)

    @classmethod
    def dtype_of(cls, array: Any) -> DType:
        return xp.dtype(array)

    @classmethod
    def promoted(cls, array: Any, d: DType) -> Any:
        # The other operand is float64, so this one may become it.
        with _enable_x64(True) if d is float64 or is_wide(array) else contextlib.nullcontext():
            return xp.astype(array, dtype=d)

    def native_dtype(self, d: DType) -> Any:
        with self.context():
            return to_jax_dtype(d)

    def from_numpy(self, array: np.ndarray, d: DType | None = None) -> Any:
        array = np.asarray(array)
        with self.context():
            wanted = np.dtype(to_jax_dtype(dtype(array.dtype) if d is None else d))
            if array.dtype != wanted:
                if wanted == np.int32:
                    check_range(array)
                array = array.astype(wanted)
            # A copy: JAX computes later, and would see what is written into shared memory until then.
            return jnp.array(array, copy=True)

    @classmethod
    def to_numpy(cls, array: Any) -> np.ndarray:
        """Read-only where memory is shared. Integers that are held as int32 come as int64."""
        array = np.asarray(array)
        return array.astype(np.int64) if array.dtype == np.int32 else array

    def from_dlpack(self, array: Any) -> Any:
        if isinstance(array, np.ndarray):
            return self.from_numpy(array)
        with _enable_x64(True):
            made = jnp.from_dlpack(array)
        if is_wide(made) or self._device is not None:
            with self.context():
                wanted = to_jax_dtype(made.dtype)
                if wanted == jnp.int32:
                    check_range(np.asarray(made))
            with _enable_x64(True):
                made = jax.device_put(made.astype(wanted), self._device)
        return made

    @classmethod
    def copy(cls, array: Any) -> Any:
        with _enable_x64(True) if is_wide(array) else contextlib.nullcontext():
            return jnp.array(array, copy=True)

    def scalars(self, values: list, d: DType) -> np.ndarray:
        # One argument for XLA in place of many. The engine's own constants of that dtype are no more precise.
        return np.asarray(values, jnp.dtype(d.name))

    def compile(self, fn: Callable, donate: tuple[int, ...] = ()) -> Callable:
        """`jax.jit` of the function, called inside `context()`. 64-bit arguments need `JaxBackend(dtype="float64")`."""

        @functools.wraps(fn)
        def traced(*args):
            # Runs once per compilation, so this costs nothing per call.
            if not jax.config.jax_enable_x64 and any(map(is_wide, jax.tree.leaves(args))):
                raise no_float64()
            return fn(*args)

        jitted = jax.jit(traced, donate_argnums=donate)
        if self.dtype is not float64 and self._device is None:
            return jitted

        @functools.wraps(fn)
        def call(*args):
            with self.context():
                return jitted(*args)

        return call

    @classmethod
    def synchronize(cls, *arrays: Any) -> None:
        jax.block_until_ready(arrays)

    def context(self) -> contextlib.AbstractContextManager:
        wide = self.dtype is float64
        if self._device is None:
            return _enable_x64(True) if wide else contextlib.nullcontext()
        stack = contextlib.ExitStack()
        stack.enter_context(jax.default_device(self._device))
        if wide:
            stack.enter_context(_enable_x64(True))
        return stack


def check_range(array: np.ndarray) -> None:
    """Raises where integers do not fit into the int32 that holds them."""
    limits = np.iinfo(np.int32)
    if array.dtype.kind in "ui" and array.size and (array.min() < limits.min or array.max() > limits.max):
        raise DTypeError(
            explain(
                "JAX holds integers as int32 while its 64-bit mode is off",
                expected=f"values from {limits.min} to {limits.max}",
                given=f"values from {array.min()} to {array.max()}",
                do="use gradloom.JaxBackend(dtype='float64'), which turns that mode on for its calls",
            )
        )


register(JaxBackend, wrap=in_x64)
