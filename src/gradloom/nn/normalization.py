"""Normalization within each sample."""

from __future__ import annotations

from typing import Any

from ..errors import OptionError
from ..tensor.creation import empty
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter


def _add_affine(module: Module, shape: Any, weight: bool, bias: bool | None, device: Any, dtype: Any) -> None:
    """Registers weight and bias (None: no such name), or None in their place."""
    for name, wanted in (("weight", weight), ("bias", bias)):
        if wanted is not None:
            module.register_parameter(name, Parameter(empty(shape, device=device, dtype=dtype)) if wanted else None)


class _Affine(Module):
    def reset_parameters(self) -> None:
        """Weights of 1, biases of 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self._parameters.get("bias") is not None:
            init.zeros_(self.bias)


class LayerNorm(_Affine):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes; `torch.nn.LayerNorm`.

    Args:
        normalized_shape: The sizes of these axes, or the size of the last one.
        eps: Added to the variance.
        elementwise_affine: Have a weight (and bias).
        bias: Have a bias.
        device, dtype: Of the parameters. Default: the backend's.

    Attributes:
        weight, bias: `normalized_shape`, ones and zeros at first; or None.

    Example:
        >>> import gradloom as gl
        >>> gl.nn.LayerNorm(2, eps=0.0)(gl.tensor([1.0, 3.0]))
        tensor([-1.,  1.], grad_fn=<layer_norm>)
    """

    def __init__(
        self, normalized_shape: Any, eps: float = 1e-05, elementwise_affine: bool = True, bias: bool = True,
        device: Any = None, dtype: Any = None,
    ):  # fmt: skip
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        _add_affine(self, self.normalized_shape, elementwise_affine, elementwise_affine and bias, device, dtype)
        self.reset_parameters()

    def forward(self, input: Any) -> Any:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class GroupNorm(_Affine):
    """Each sample's channels normalized in groups of neighbours; `torch.nn.GroupNorm`.

    Args:
        num_groups: Number of groups.
        num_channels: The channels C of x (N, C, ...), a multiple of it.
        eps: Added to the variance.
        affine: Have a weight (and bias).
        device, dtype: Of the parameters. Default: the backend's.
        bias: Have a bias, if affine.

    Attributes:
        weight, bias: (C,), ones and zeros at first; or None.
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-05, affine: bool = True, device: Any = None,
        dtype: Any = None, *, bias: bool = True,
    ):  # fmt: skip
        super().__init__()
        if num_channels % num_groups != 0:
            raise OptionError(f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        _add_affine(self, num_channels, affine, affine and bias, device, dtype)
        self.reset_parameters()

    def forward(self, input: Any) -> Any:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(_Affine):
    """x / sqrt(mean(x**2) + eps) * weight over the last axes; `torch.nn.RMSNorm`.

    Args:
        normalized_shape: The sizes of these axes, or the size of the last one.
        eps: Default: the step above 1 of x's dtype.
        elementwise_affine: Have a weight.
        device, dtype: Of the weight. Default: the backend's.

    Attributes:
        weight: `normalized_shape`, ones at first; or None.
    """

    def __init__(
        self, normalized_shape: Any, eps: float | None = None, elementwise_affine: bool = True, device: Any = None,
        dtype: Any = None,
    ):  # fmt: skip
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        _add_affine(self, self.normalized_shape, elementwise_affine, None, device, dtype)
        self.reset_parameters()

    def forward(self, input: Any) -> Any:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class LocalResponseNorm(Module):
    """x / (k + alpha * mean of x**2 over `size` neighbouring channels)**beta; Krizhevsky et al. 2012.

    Example:
        >>> import gradloom as gl
        >>> gl.nn.LocalResponseNorm(1, alpha=1.0, beta=1.0)(gl.ones(1, 2, 1))
        tensor([[[0.5000],
                 [0.5000]]])
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Any) -> Any:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
