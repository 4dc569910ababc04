"""Instance normalization."""

from __future__ import annotations

import warnings
from typing import Any

from ..errors import ShapeError
from . import functional as F
from .batchnorm import _BatchNorm


class _InstanceNorm(_BatchNorm):
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel of each sample; Ulyanov et al. 2016.

    Args:
        num_features: The channels C of x (N, C, ...) or (C, ...).
        eps: Added to the variance.
        momentum: What the new batch counts in the averages.
        affine: Have a weight (and bias).
        track_running_stats: Keep moving averages of mean and variance, which are used in evaluation mode.
        device, dtype: Of parameters and buffers. Default: the backend's.
        bias: Have a bias, if affine.

    Attributes:
        weight, bias: (C,), ones and zeros at first; or None.
        running_mean, running_var: (C,), or None.
    """

    def __init__(
        self, num_features: int, eps: float = 1e-05, momentum: float = 0.1, affine: bool = False,
        track_running_stats: bool = False, device: Any = None, dtype: Any = None, *, bias: bool = True,
    ):  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input: Any) -> Any:
        axes = self._ndims[0]
        if input.ndim not in (axes - 1, axes):
            raise ShapeError(f"expected {axes - 1}D or {axes}D input (got {input.ndim}D input)")
        x = input if input.ndim == axes else input.unsqueeze(0)
        if x.shape[1] != self.num_features:
            place = input.ndim - axes + 1
            if self.affine or self.track_running_stats:
                raise ShapeError(
                    f"expected input's size at dim={place} to match num_features ({self.num_features}), but got: "
                    f"{x.shape[1]}."
                )
            warnings.warn(
                f"input's size at dim={place} does not match num_features. You can silence this warning by not passing "
                "in num_features, which is not used because affine=False",
                stacklevel=2,
            )
        momentum = 0.0 if self.momentum is None else self.momentum
        y = F.instance_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or not self.track_running_stats, momentum, self.eps,
        )  # fmt: skip
        return y if x is input else y.squeeze(0)


class InstanceNorm1d(_InstanceNorm):
    __doc__ = _InstanceNorm.__doc__
    _ndims = (3,)


class InstanceNorm2d(_InstanceNorm):
    __doc__ = _InstanceNorm.__doc__
    _ndims = (4,)


class InstanceNorm3d(_InstanceNorm):
    __doc__ = _InstanceNorm.__doc__
    _ndims = (5,)
