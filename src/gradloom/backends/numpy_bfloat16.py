"""NumPy arrays of bfloat16, which is no dtype of NumPy's own: the package ml_dtypes adds it, but not its promotion.

There a Python float makes float32 of bfloat16, `where` float64, a product of matrices float32, and `einsum` raises.
`Bfloat16` is the type of the arrays that the NumPy backend makes of that dtype: NumPy asks it before it computes, and
it has float32 computed and rounds the result, as PyTorch does. Arrays of other dtypes never come here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Functions that are computed in float32; all others only move elements.
_COMPUTE = {np.einsum, np.where, np.mean, np.cumsum, np.cumprod}


class Bfloat16(np.ndarray):
    """An array of bfloat16 that stays one under NumPy's functions."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        if method == "at":
            wide = np.asarray(inputs[0], np.float32)
            ufunc.at(wide, inputs[1], *map(widened, inputs[2:]))
            inputs[0][...] = wide
            return None
        results = getattr(ufunc, method)(*map(widened, inputs), **options)
        if out is None:
            return rounded(results, self.dtype)
        for target, result in zip(out, results if type(results) is tuple else (results,), strict=True):
            np.copyto(np.asarray(target), result, casting="unsafe")
        return out[0] if len(out) == 1 else out

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in _COMPUTE:
            return rounded(func(*map(widened, args), **{k: widened(v) for k, v in kwargs.items()}), self.dtype)
        return rounded(super().__array_function__(func, (np.ndarray,), args, kwargs), self.dtype)

    def __getitem__(self, key: Any) -> Any:
        return rounded(super().__getitem__(key), self.dtype)  # an element is a 0-d array too, not a scalar

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        return rounded(np.asarray(self).astype(dtype, *args, **kwargs), self.dtype, of=(self.dtype,))


_WIDE = (np.dtype(np.float32), np.dtype(np.float64))


def widened(x: Any) -> Any:
    """An array of bfloat16 in float32; everything else as it is."""
    if isinstance(x, Bfloat16) or getattr(getattr(x, "dtype", None), "name", "") == "bfloat16":
        return np.asarray(x, np.float32)
    return x


def to_bfloat16(x: Any) -> Bfloat16:
    """The same elements of bfloat16, as an array of that type."""
    return np.asarray(x).view(Bfloat16)


def rounded(x: Any, d: np.dtype, of: tuple = _WIDE) -> Any:
    """A result of float32 (or of bfloat16, `d`) as a Bfloat16; bools and integers as they are."""
    if type(x) in (tuple, list):
        return type(x)(rounded(each, d, of) for each in x)
    kind = getattr(x, "dtype", None)
    if kind == d:
        return to_bfloat16(x)
    return to_bfloat16(np.asarray(x).astype(d)) if kind in of else x
