"""Images of another size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ... import ops
from ...errors import OptionError, ShapeError, explain
from ...graph.graph import PLACE
from ...tensor.arrays import backend_name, engine, wrap
from .pools import adaptive_avg_pool

_AXES = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}


def interpolate(
    input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None, antialias: bool = False,
) -> Any:  # fmt: skip
    """x (N, C, *L) resized, with 1 to 3 spatial axes.

    Args:
        input: The Tensor.
        size: The spatial size of the result: an int, or one for each axis.
        scale_factor: What the sizes are multiplied with, instead.
        mode: "nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear" or "area".
        align_corners: For the linear and cubic modes: the centres of the corner elements stay where they are, rather
            than the corners of the image.
        recompute_scale_factor: Sample with the ratio of the sizes, which are whole, rather than with scale_factor.
        antialias: Refused.
    """
    k = input.ndim - 2
    if mode not in (*_AXES, "nearest", "nearest-exact", "area"):
        raise OptionError(f"interpolate: unknown mode {mode!r}")
    if mode not in _AXES and align_corners is not None:
        raise OptionError(
            "align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear"
        )
    if antialias:
        raise OptionError(
            explain("interpolate does not support antialias", expected="antialias=False", given=antialias)
        )
    if not 1 <= k <= 3 or _AXES.get(mode, k) != k:
        needs = f"{_AXES[mode] + 2}D" if mode in _AXES else "3D, 4D or 5D"
        raise ShapeError(f"Got {input.ndim}D input, but {mode} mode needs {needs} input")
    sizes, scales = _sizes(input, size, scale_factor, recompute_scale_factor or mode == "area", recompute_scale_factor)
    if mode == "area":
        return adaptive_avg_pool(k, input, sizes)
    for i, (m, scale) in enumerate(zip(sizes, scales, strict=True)):
        axis, n = i + 2, input.shape[i + 2]
        if not n or m < 1:
            raise ShapeError(f"Input and output sizes should be greater than 0, but got input {n} and output {m}")
        if mode.startswith("nearest"):
            input = _nearest(input, axis, m, scale, 0.5 if mode == "nearest-exact" else 0.0)
        elif n != m or scale not in (None, 1):
            input = _weighted(input, axis, *_taps(n, m, scale, bool(align_corners), mode == "bicubic"))
    return input


def _sizes(x: Any, size: Any, scale_factor: Any, recompute: Any, asked: Any) -> tuple[tuple, tuple]:
    """(the sizes of the result, for each axis the factor to sample with, or None)."""
    k, shape = x.ndim - 2, tuple(x.shape[2:])
    if (size is None) == (scale_factor is None):
        which = "only one of" if size is not None else "either"
        raise OptionError(f"{which} size or scale_factor should be defined")
    given = size if scale_factor is None else scale_factor
    values = tuple(given) if isinstance(given, (tuple, list)) else (given,) * k
    if len(values) != k:
        raise ShapeError(
            explain(
                "Input and output must have the same number of spatial dimensions",
                expected=f"one value for each axis of {list(shape)}", given=given,
            )
        )  # fmt: skip
    if scale_factor is None:
        if asked:
            raise OptionError("recompute_scale_factor is not meaningful with an explicit size.")
        return tuple(int(v) for v in values), (None,) * k
    sizes = tuple(math.floor(n * v) for n, v in zip(shape, values, strict=True))
    return sizes, (None,) * k if recompute else values


def _nearest(x: Any, axis: int, m: int, scale: Any, offset: float) -> Any:
    n = x.shape[axis]
    if m % n == 0 and scale in (None, m // n):
        return x if m == n else ops.repeat(x, repeats=m // n, axis=axis)
    step = np.float32(1 / scale if scale else n / m)  # PyTorch computes in float32
    index = np.floor((np.arange(m, dtype=np.float32) + np.float32(offset)) * step).astype(np.int64)
    return _taken(x, np.minimum(index, n - 1), axis)


def _taps(n: int, m: int, scale: Any, align: bool, cubic: bool) -> tuple[np.ndarray, np.ndarray]:
    """For each element of the result the indices (m, taps) that it is made of, and their weights."""
    steps = np.arange(m, dtype=np.float64)
    if align:
        at = steps * ((n - 1) / (m - 1) if m > 1 else 0.0)
    else:
        at = (steps + 0.5) * (1 / scale if scale else n / m) - 0.5
        at = at if cubic else np.maximum(at, 0)
    low = np.floor(at).astype(np.int64)
    t = (at - low)[:, None]
    if not cubic:
        low = np.minimum(low, n - 1)
        return np.stack([low, np.minimum(low + 1, n - 1)], 1), np.concatenate([1 - t, t], 1)
    a, d = -0.75, np.abs(t - np.array([-1, 0, 1, 2]))  # Keys 1981, with PyTorch's constant
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.clip(low[:, None] + np.array([-1, 0, 1, 2]), 0, n - 1), np.where(d <= 1, near, far)


def _weighted(x: Any, axis: int, indices: np.ndarray, weights: np.ndarray) -> Any:
    total: Any = None
    shape = (-1, *(1,) * (x.ndim - 1 - axis))
    for index, weight in zip(indices.T, weights.T, strict=True):
        part = _taken(x, index.copy(), axis) * _constant(x, weight.reshape(shape).copy(), x.dtype)
        total = part if total is None else total + part
    return total


def _taken(x: Any, index: np.ndarray, axis: int) -> Any:
    return ops.getitem(x, _constant(x, index), key=(slice(None),) * axis + (ops.INDEX,))


def _constant(x: Any, values: np.ndarray, dtype: Any = None) -> Any:
    """Values where x is; in a function that is being compiled, a constant of it."""
    chosen = engine(None if PLACE.graph is not None else backend_name(x))
    return wrap(chosen.from_numpy(values, dtype))
