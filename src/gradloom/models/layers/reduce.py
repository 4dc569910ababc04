"""Reductions over axes, and running sums."""

from __future__ import annotations

from typing import Any

from ... import ops
from ...tensor.tensor import Tensor
from ..part import Shapes
from ..shapes import merged
from .base import Direct, one_shape, positive, whole


class _Reduction(Direct):
    """A reduction over `axis`: None (all axes), an int or several; with keepdim these axes stay, with size 1."""

    axis: Any
    keepdim: bool
    renamed = {"keepdim": "keepdims"}

    def __init__(self, axis: Any = None, keepdim: bool = False, name: str | None = None):
        self.axis, self.keepdim, self.name = whole(axis), keepdim, name

    def relate(self, shapes: Shapes) -> Shapes:
        x, y = shapes.get("input"), shapes.get("output")
        if self.axis is None:
            return {"output": () if not self.keepdim else None if x is None else (1,) * len(x)}
        axes = self.axis if isinstance(self.axis, tuple) else (self.axis,)
        if x is None and y is None:
            return {}
        ndim = len(x) if x is not None else len(y or ()) + (0 if self.keepdim else len(axes))
        gone = {positive(a, ndim) for a in axes}
        if None in gone:
            return {}
        stay = [k for k in range(ndim) if k not in gone]
        kept = None if x is None else tuple(x[k] for k in stay)
        if y is not None and len(y) == (ndim if self.keepdim else len(stay)):
            kept = merged(kept, tuple(y[k] for k in stay) if self.keepdim else y)
        sizes = dict(zip(stay, kept or (None,) * len(stay), strict=True))
        inside = tuple(sizes.get(k) if k in sizes else None if x is None else x[k] for k in range(ndim))
        return {"input": inside, "output": tuple(sizes.get(k, 1) for k in range(ndim) if self.keepdim or k in sizes)}


class Sum(_Reduction):
    """The sum over `axis`: None (all axes), an int or several; with keepdim these axes stay, with size 1."""

    wires = ops.sum


class Mean(_Reduction):
    """The mean over `axis`: None (all axes), an int or several; with keepdim these axes stay, with size 1."""

    wires = ops.mean


class Prod(_Reduction):
    """The product over `axis`: None (all axes), an int or several; with keepdim these axes stay, with size 1."""

    wires = ops.prod


class Max(_Reduction):
    """The largest elements over `axis`: None (all axes), an int or several; equal ones share the gradient."""

    wires = ops.amax


class Min(_Reduction):
    """The smallest elements over `axis`: None (all axes), an int or several; equal ones share the gradient."""

    wires = ops.amin


class LogSumExp(_Reduction):
    """log(sum(exp(input))) over `axis`: None (all axes), an int or several."""

    wires = ops.logsumexp


class ArgMax(_Reduction):
    """The index (int64) of the largest element along `axis`; None: in the flattened input. Of equal ones the first."""

    wires = ops.argmax
    dtyped = True

    def __init__(self, axis: int | None = None, keepdim: bool = False, name: str | None = None):
        super().__init__(axis, keepdim, name)


class ArgMin(_Reduction):
    """The index (int64) of the smallest element along `axis`; None: in the flattened input. Of equal ones the first."""

    wires = ops.argmin
    dtyped = True

    def __init__(self, axis: int | None = None, keepdim: bool = False, name: str | None = None):
        super().__init__(axis, keepdim, name)


class Variance(_Reduction):
    """Squared differences from the mean over n - correction, over `axis`: None (all axes), an int or several."""

    wires = ops.var

    def __init__(self, axis: Any = None, correction: float = 1, keepdim: bool = False, name: str | None = None):
        super().__init__(axis, keepdim, name)
        self.correction = correction


class StandardDeviation(_Reduction):
    """The root of `Variance`; the gradient where it is 0 is 0."""

    renamed = {"axis": "dim"}

    def __init__(self, axis: Any = None, correction: float = 1, keepdim: bool = False, name: str | None = None):
        super().__init__(axis, keepdim, name)
        self.correction = correction

    @staticmethod
    def wires(input: Any, **options: Any) -> Any:
        return Tensor.std(input, **options)


class Norm(_Reduction):
    """sum(|input| ** p) ** (1 / p) over `axis`: None (all axes), an int or several."""

    renamed = {"keepdim": "keepdims", "p": "ord"}
    wires = ops.norm

    def __init__(self, p: float = 2, axis: Any = None, keepdim: bool = False, name: str | None = None):
        super().__init__(axis, keepdim, name)
        self.p = p


class Cumsum(Direct):
    """The sums of the elements up to each along an axis."""

    relate = one_shape
    wires = ops.cumsum

    def __init__(self, axis: int, name: str | None = None):
        self.axis, self.name = axis, name


class Cumprod(Direct):
    """The products of the elements up to each along an axis."""

    relate = one_shape
    wires = ops.cumprod

    def __init__(self, axis: int, name: str | None = None):
        self.axis, self.name = axis, name
