"""Pooling."""

from __future__ import annotations

import math
from typing import Any

from ...errors import OptionError, ShapeError, explain
from ...ops.pool import adaptive_avg_pool as _adaptive_avg_pool
from ...ops.pool import avg_pool as _avg_pool
from ...ops.pool import max_pool as _max_pool
from ...tensor.functions import cat
from .shared import each


def no_indices(name: str, return_indices: bool) -> None:
    """Refuses `return_indices`."""
    if return_indices:
        raise OptionError(
            explain(
                f"{name} does not give indices",
                expected="return_indices=False",
                given=f"return_indices={return_indices}",
            )
        )


def _check_pooled(name: str, k: int, x: Any) -> None:
    if x.ndim not in (k + 1, k + 2):
        raise ShapeError(f"{name}{k}d: Expected {k + 1}D or {k + 2}D input, but got input of size {list(x.shape)}")


def max_pool(k: int, input: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Any:
    """The maximum of each window over k spatial axes."""
    _check_pooled("max_pool", k, input)
    size = each(kernel_size, k)
    widths = tuple((p, p) for p in each(padding, k))
    return _max_pool(
        input, size=size, stride=size if stride is None or stride == () else each(stride, k), padding=widths,
        dilation=each(dilation, k), ceil_mode=ceil_mode,
    )  # fmt: skip


def max_pool1d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    """The maximum of each window of (N, C, L)."""
    no_indices("max_pool1d", return_indices)
    return max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    """The maximum of each window of (N, C, H, W)."""
    no_indices("max_pool2d", return_indices)
    return max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool3d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    """The maximum of each window of (N, C, D, H, W)."""
    no_indices("max_pool3d", return_indices)
    return max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool(
    k: int, input: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool,
    divisor_override: int | None = None,
) -> Any:  # fmt: skip
    """The mean of each window over k spatial axes."""
    _check_pooled("avg_pool", k, input)
    if divisor_override == 0:
        raise OptionError("divisor must be not zero")
    size = each(kernel_size, k)
    widths = tuple((p, p) for p in each(padding, k))
    return _avg_pool(
        input, size=size, stride=size if stride is None or stride == () else each(stride, k), padding=widths,
        ceil_mode=ceil_mode, count_include_pad=count_include_pad, divisor=divisor_override,
    )  # fmt: skip


def avg_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """The mean of each window of (N, C, L)."""
    return avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Any:  # fmt: skip
    """The mean of each window of (N, C, H, W)."""
    return avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Any:  # fmt: skip
    """The mean of each window of (N, C, D, H, W)."""
    return avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def adaptive_avg_pool(k: int, input: Any, output_size: Any) -> Any:
    """The means of output_size bins over k spatial axes."""
    _check_pooled("adaptive_avg_pool", k, input)
    return _adaptive_avg_pool(input, output_size=each(output_size, k))


def adaptive_avg_pool1d(input: Any, output_size: Any) -> Any:
    """The means of output_size bins of (N, C, L)."""
    return adaptive_avg_pool(1, input, output_size)


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Any:
    """The means of output_size bins of (N, C, H, W)."""
    return adaptive_avg_pool(2, input, output_size)


def adaptive_avg_pool3d(input: Any, output_size: Any) -> Any:
    """The means of output_size bins of (N, C, D, H, W)."""
    return adaptive_avg_pool(3, input, output_size)


def adaptive_max_pool(k: int, input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The maxima of output_size bins over k spatial axes; bins as for `adaptive_avg_pool`."""
    no_indices(f"adaptive_max_pool{k}d", return_indices)
    _check_pooled("adaptive_max_pool", k, input)
    sizes = each(output_size, k)
    if len(sizes) != k or any(m is not None and m < 1 for m in sizes) or 0 in input.shape[input.ndim - k :]:
        expected, given = f"{k} sizes of 1 or more, no empty axis", f"{tuple(sizes)} of {list(input.shape)}"
        raise ShapeError(explain(f"adaptive_max_pool{k}d: the sizes do not fit", expected=expected, given=given))
    for i, m in enumerate(sizes):
        axis, n = input.ndim - k + i, input.shape[input.ndim - k + i]
        if m is None or m == n:
            continue
        width = [n // m if j == i else 1 for j in range(k)]
        if n % m == 0:
            input = max_pool(k, input, width, width, 0, 1, False)
            continue
        bins = []
        for start, end in ((j * n // m, -(-(j + 1) * n // m)) for j in range(m)):
            width[i] = end - start
            bins.append(max_pool(k, input.narrow(axis, start, end - start), width, width, 0, 1, False))
        input = cat(bins, axis)
    return input


def adaptive_max_pool1d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The maxima of output_size bins of (N, C, L)."""
    return adaptive_max_pool(1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The maxima of output_size bins of (N, C, H, W)."""
    return adaptive_max_pool(2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The maxima of output_size bins of (N, C, D, H, W)."""
    return adaptive_max_pool(3, input, output_size, return_indices)


def lp_pool(k: int, input: Any, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Any:
    """The norms of the windows over k spatial axes."""
    if norm_type in (math.inf, -math.inf):
        sign = 1 if norm_type > 0 else -1
        return max_pool(k, input.abs() * sign, kernel_size, stride, 0, 1, ceil_mode) * sign
    mean = avg_pool(k, input**norm_type, kernel_size, stride, 0, ceil_mode, True)
    return (mean.sign() * mean.abs().relu() * math.prod(each(kernel_size, k))) ** (1.0 / norm_type)


def lp_pool1d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """(sum of x**p)**(1 / p) over each window of (N, C, L)."""
    return lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """(sum of x**p)**(1 / p) over each window of (N, C, H, W)."""
    return lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """(sum of x**p)**(1 / p) over each window of (N, C, D, H, W)."""
    return lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)
