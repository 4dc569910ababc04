"""Batch normalization."""

from __future__ import annotations

from typing import Any

from ..errors import ShapeError
from ..tensor.creation import empty, tensor
from ..tensor.grad_mode import no_grad
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter


class _BatchNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel; `torch.nn.BatchNorm1d`, `2d` and `3d`.

    In training mode mean and variance are the batch's; with `track_running_stats` their moving averages are kept, and
    are used in evaluation mode.

    Args:
        num_features: The channels C of x (N, C, ...).
        eps: Added to the variance.
        momentum: What the new batch counts in the averages; None: all batches count the same.
        affine: Have a weight (and bias).
        track_running_stats: Keep averages; without them evaluation mode too uses the batch's statistics.
        device, dtype: Of parameters and buffers. Default: the backend's.
        bias: Have a bias, if affine.

    Attributes:
        weight, bias: (C,), ones and zeros at first; or None.
        running_mean, running_var: (C,); the variance is the unbiased one.
        num_batches_tracked: 0-d, int64.
    """

    _ndims: tuple[int, ...] = ()

    def __init__(
        self, num_features: int, eps: float = 1e-05, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, device: Any = None, dtype: Any = None, *, bias: bool = True,
    ):  # fmt: skip
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            self.register_parameter(
                name, Parameter(empty(num_features, device=device, dtype=dtype)) if wanted else None
            )
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, empty(num_features, device=device, dtype=dtype) if track_running_stats else None)
        count = tensor(0, dtype="int64", device=device) if track_running_stats else None
        self.register_buffer("num_batches_tracked", count)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Starts the averages again."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Ones, zeros, and averages from the start."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Any) -> Any:
        if input.ndim not in self._ndims:
            expected = " or ".join(f"{n}D" for n in self._ndims)
            raise ShapeError(f"expected {expected} input (got {input.ndim}D input)")
        momentum: Any = self.momentum
        track = self.training and self.track_running_stats
        if track and self.num_batches_tracked is not None:
            with no_grad():
                self.num_batches_tracked.add_(1)
            if momentum is None:  # a Tensor, as a compiled step does not know the number
                momentum = 1.0 / self.num_batches_tracked.to(self.running_mean.dtype)
        use = track or not self.training
        mean, var = (self.running_mean, self.running_var) if use else (None, None)
        batch = self.training or (self.running_mean is None and self.running_var is None)
        return F.batch_norm(
            input, mean, var, self.weight, self.bias, batch, 0.0 if momentum is None else momentum, self.eps
        )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__
    _ndims = (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__
    _ndims = (4,)


class BatchNorm3d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__
    _ndims = (5,)
