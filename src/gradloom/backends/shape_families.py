"""Families of alike functions of the namespace over shapes: each maker gives the function of one name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..dtypes import DType, bool_, default_dtype, int64
from .shape_rules import _axes, _axis, _join
from .spec import Shape, Spec, _index_error, _not_array, _refused, _shape_error


def _same(name: str) -> Callable:
    """One operand, whose dtype the result has; not for bool."""

    def fn(x):
        if type(x) is not Spec:
            raise _not_array(name, x)
        if x.dtype is bool_:
            raise _refused(name, bool_, "numbers", "use logical_not for a mask, or cast with astype")
        return x

    return fn


def _floating(name: str) -> Callable:
    """One operand; the result is floating."""

    def fn(x):
        if type(x) is not Spec:
            raise _not_array(name, x)
        return x if x.dtype.kind == "float" else Spec(x.shape, default_dtype())

    return fn


def _truth(name: str) -> Callable:
    """One operand of any dtype; the result is bool."""

    def fn(x):
        if type(x) is not Spec:
            raise _not_array(name, x)
        return Spec(x.shape, bool_)

    return fn


def _arithmetic(name: str, bools: bool = False, floats: bool = True) -> Callable:
    """Two operands; the result has their dtype."""

    def fn(x, y):
        shape, d = _join(x, y, name)
        if d is bool_ and not bools:
            raise _refused(name, d, "numbers", "use ^, logical_xor or logical_not for masks, or cast with astype")
        if not floats and d.kind == "float":
            raise _refused(name, d, "bool or an integer dtype")
        return Spec(shape, d)

    return fn


def _bitwise(name: str) -> Callable:
    return _arithmetic(name, bools=True, floats=False)


def _floating_2(name: str) -> Callable:
    """Two operands; the result is floating."""

    def fn(x, y):
        shape, d = _join(x, y, name)
        return Spec(shape, d if d.kind == "float" else default_dtype())

    return fn


def _comparison(name: str) -> Callable:
    """Two operands; the result is bool."""

    def fn(x, y):
        return Spec(_join(x, y, name)[0], bool_)

    return fn


def _reduced(x: Spec, axis: Any, keepdims: bool, name: str, empty: bool = True) -> Shape:
    shape = x.shape
    ndim = len(shape)
    if axis is None:
        if not empty and 0 in shape:
            text = f"{name}(): Expected reduction dim to be specified for input.numel() == 0."
            raise _shape_error(text, given=x)
        return (1,) * ndim if keepdims else ()
    axes = _axes(axis, ndim)
    if not empty:
        for a in axes:
            if not shape[a]:
                text = f"{name}(): Expected reduction dim {a} to have non-zero size."
                raise _index_error(text, given=x)
    if len(axes) == 1:
        a = axes[0]
        return (*shape[:a], 1, *shape[a + 1 :]) if keepdims else shape[:a] + shape[a + 1 :]
    if keepdims:
        return tuple([1 if i in axes else n for i, n in enumerate(shape)])
    return tuple([n for i, n in enumerate(shape) if i not in axes])


def _reduction(name: str, dtypes: dict[DType, DType], empty: bool = True) -> Callable:
    """Over axes; `empty`: also over none or no elements."""

    def fn(x, *, axis=None, keepdims=False):
        return Spec(_reduced(x, axis, keepdims, name, empty), dtypes[x.dtype])

    return fn


def _arg(name: str) -> Callable:
    def fn(x, *, axis=None, keepdims=False):
        if axis is not None:
            axis = _axis(axis, len(x.shape))
        return Spec(_reduced(x, axis, keepdims, name, empty=False), int64)

    return fn


def _cumulative(name: str) -> Callable:
    def fn(x, *, axis):
        _axis(axis, len(x.shape))
        return x if x.dtype.kind == "float" else Spec(x.shape, int64)

    return fn


def _triangle(name: str) -> Callable:
    def fn(x, *, k=0):
        if len(x.shape) < 2:
            raise _shape_error(f"{name}: input tensor must have at least 2 dimensions", given=x)
        return x

    return fn
