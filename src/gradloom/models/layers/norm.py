"""Normalization and dropout."""

from __future__ import annotations

from typing import Any, ClassVar

from ... import nn
from ...errors import ShapeError, explain
from ..part import Layer, Shape, Shapes, size
from ..shapes import merged
from .base import Direct, at, at_least, first, one_shape, probability, replaced


class _Norm(Layer):
    use_weight: bool = True
    use_bias: bool = True

    @property
    def parameter_keys(self) -> tuple[str, ...]:
        return (("weight",) if self.use_weight else ()) + (("bias",) if self.use_weight and self.use_bias else ())


class _LastAxes(_Norm):
    """A norm over the last axes, whose weight has their shape."""

    axes: int

    def _sizes(self, input: Shape | None, weight: Shape | None) -> tuple[int, ...]:
        source, key = (weight, "weight") if weight else (input, "input")
        return tuple(size(source, k - self.axes, key) for k in range(self.axes))

    def relate(self, shapes: Shapes) -> Shapes:
        k = self.axes
        x = merged(shapes.get("input"), shapes.get("output"))
        tail = merged(shapes.get("weight"), shapes.get("bias"))
        if x is not None and len(x) >= k:
            tail = merged(tail, x[-k:])
            if tail is not None and len(tail) == k:
                x = (*x[:-k], *tail)
        return {"input": x, "output": x, "weight": tail, "bias": tail}


class LayerNorm(_LastAxes):
    """(input - mean) / sqrt(var + eps) * weight + bias over the last axes.

    Args:
        axes: How many axes, from the last.
        eps: Added to the variance.
        use_weight: Have a weight (and a bias).
        use_bias: Have a bias.
        name: Its name in models.
    """

    def __init__(
        self,
        axes: int = 1,
        eps: float = 1e-05,
        use_weight: bool = True,
        use_bias: bool = True,
        name: str | None = None,
    ):
        at_least(self, 1, axes=axes)
        self.axes, self.eps, self.use_weight, self.use_bias, self.name = axes, eps, use_weight, use_bias, name

    def make(self, input: Any = None, weight: Any = None, **_: Any) -> nn.Module:
        return nn.LayerNorm(self._sizes(input, weight), self.eps, self.use_weight, self.use_bias)


class RMSNorm(_LastAxes):
    """input / sqrt(mean(input**2) + eps) * weight over the last axes.

    Args:
        axes: How many axes, from the last.
        eps: Default: the step above 1 of the input's dtype.
        use_weight: Have a weight.
        name: Its name in models.
    """

    use_bias = False

    def __init__(self, axes: int = 1, eps: float | None = None, use_weight: bool = True, name: str | None = None):
        at_least(self, 1, axes=axes)
        self.axes, self.eps, self.use_weight, self.name = axes, eps, use_weight, name

    def make(self, input: Any = None, weight: Any = None, **_: Any) -> nn.Module:
        return nn.RMSNorm(self._sizes(input, weight), self.eps, self.use_weight)


class _ByChannel(_Norm):
    """A norm of input (N, C, ...) whose weight has the size of the channels."""

    def _channels(self, input: Shape | None, weight: Shape | None) -> int:
        return size(weight, 0, "weight") if weight else size(input, 1)

    def relate(self, shapes: Shapes) -> Shapes:
        x = merged(shapes.get("input"), shapes.get("output"))
        n = first(at(shapes.get("weight"), 0), at(shapes.get("bias"), 0), at(x, 1))
        if x is not None and len(x) > 1:
            x = replaced(x, 1, n)
        return {"input": x, "output": x, "weight": (n,), "bias": (n,)}


class GroupNorm(_ByChannel):
    """The channels of each sample of input (N, C, ...) normalized in groups of neighbours, * weight + bias.

    Args:
        num_groups: Number of groups, a divisor of C.
        eps: Added to the variance.
        use_weight: Have a weight (and a bias).
        use_bias: Have a bias.
        name: Its name in models.
    """

    def __init__(
        self,
        num_groups: int,
        eps: float = 1e-05,
        use_weight: bool = True,
        use_bias: bool = True,
        name: str | None = None,
    ):
        at_least(self, 1, num_groups=num_groups)
        self.num_groups, self.eps, self.use_weight, self.use_bias, self.name = (
            num_groups, eps, use_weight, use_bias, name
        )  # fmt: skip

    def make(self, input: Any = None, weight: Any = None, **_: Any) -> nn.Module:
        channels = self._channels(input, weight)
        return nn.GroupNorm(self.num_groups, channels, self.eps, self.use_weight, bias=self.use_bias)


class BatchNorm(_ByChannel):
    """(input - mean) / sqrt(var + eps) * weight + bias for each channel of input (N, C), (N, C, L), ... (N, C, D, H, W).

    In training mode mean and variance are the batch's, and moving averages of them are kept, which evaluation uses.

    Args:
        eps: Added to the variance.
        momentum: What the new batch counts in the averages; None: all batches count the same.
        use_weight: Have a weight (and a bias).
        use_bias: Have a bias.
        track_running_stats: Keep averages; without them evaluation mode too uses the batch's statistics.
        name: Its name in models.
    """

    _kind: ClassVar[Any] = None

    def __init__(
        self,
        eps: float = 1e-05,
        momentum: float | None = 0.1,
        use_weight: bool = True,
        use_bias: bool = True,
        track_running_stats: bool = True,
        name: str | None = None,
    ):
        self.eps, self.momentum, self.use_weight, self.use_bias = eps, momentum, use_weight, use_bias
        self.track_running_stats, self.name = track_running_stats, name

    def make(self, input: Any = None, weight: Any = None, **_: Any) -> nn.Module:
        channels = self._channels(input, weight)
        kind = self._kind
        if kind is None:
            ndim = len(input) if input else size(None, 1)
            kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}.get(ndim)
        if kind is None:
            raise ShapeError(
                explain(
                    "BatchNorm: the input has a number of axes that it does not take", expected="2 to 5", given=ndim
                )
            )
        return kind(channels, self.eps, self.momentum, self.use_weight, self.track_running_stats, bias=self.use_bias)


class BatchNorm1D(BatchNorm):
    """`BatchNorm` of input (N, C) or (N, C, L)."""

    _kind = nn.BatchNorm1d


class BatchNorm2D(BatchNorm):
    """`BatchNorm` of input (N, C, H, W)."""

    _kind = nn.BatchNorm2d


class BatchNorm3D(BatchNorm):
    """`BatchNorm` of input (N, C, D, H, W)."""

    _kind = nn.BatchNorm3d


class _InstanceNorm(_Norm):
    """(input - mean) / sqrt(var + eps) * weight + bias for each channel of each sample; input (N, C, *L) or (C, *L).

    Args:
        eps: Added to the variance.
        momentum: What the new batch counts in the averages.
        use_weight: Have a weight (and a bias).
        use_bias: Have a bias.
        track_running_stats: Keep moving averages of mean and variance, which evaluation uses.
        name: Its name in models.
    """

    _axes: ClassVar[int] = 0

    def __init__(
        self,
        eps: float = 1e-05,
        momentum: float = 0.1,
        use_weight: bool = False,
        use_bias: bool = True,
        track_running_stats: bool = False,
        name: str | None = None,
    ):
        self.eps, self.momentum, self.use_weight, self.use_bias = eps, momentum, use_weight, use_bias
        self.track_running_stats, self.name = track_running_stats, name

    def make(self, input: Any = None, weight: Any = None, **_: Any) -> nn.Module:
        channels = size(weight, 0, "weight") if weight else size(input, -1 - self._axes)
        kind = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[self._axes - 1]
        return kind(channels, self.eps, self.momentum, self.use_weight, self.track_running_stats, bias=self.use_bias)

    def relate(self, shapes: Shapes) -> Shapes:
        x, axis = merged(shapes.get("input"), shapes.get("output")), -1 - self._axes
        n = first(at(shapes.get("weight"), 0), at(shapes.get("bias"), 0), at(x, axis))
        if x is not None and len(x) > self._axes:
            x = replaced(x, axis, n)
        return {"input": x, "output": x, "weight": (n,), "bias": (n,)}


class InstanceNorm1D(_InstanceNorm):
    __doc__ = _InstanceNorm.__doc__
    _axes = 1


class InstanceNorm2D(_InstanceNorm):
    __doc__ = _InstanceNorm.__doc__
    _axes = 2


class InstanceNorm3D(_InstanceNorm):
    __doc__ = _InstanceNorm.__doc__
    _axes = 3


class Dropout(Direct):
    """In training sets elements to 0 with probability p and scales the others by 1 / (1 - p); else input.

    Args:
        p: The probability.
        name: Its name in models.
    """

    relate = one_shape
    wires: ClassVar[Any] = nn.Dropout

    def __init__(self, p: float = 0.5, name: str | None = None):
        self.p, self.name = probability(self, "p", p), name


class Dropout1D(Dropout):
    """`Dropout` of whole channels of input (N, C, L) or (C, L)."""

    wires = nn.Dropout1d


class Dropout2D(Dropout):
    """`Dropout` of whole channels of input (N, C, H, W) or (C, H, W)."""

    wires = nn.Dropout2d


class Dropout3D(Dropout):
    """`Dropout` of whole channels of input (N, C, D, H, W) or (C, D, H, W)."""

    wires = nn.Dropout3d


class AlphaDropout(Dropout):
    """Dropout that keeps mean and variance of what `Selu` gives; Klambauer et al. 2017."""

    wires = nn.AlphaDropout
