"""Layers that change shapes, join, and take apart."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

from ... import nn, ops
from ...dtypes import int64
from ...errors import OptionError, ShapeError, explain, user_frame
from ...nn import functional as F
from ..part import Layer, Shape, Shapes
from ..shapes import merged
from .base import Direct, along, at, at_least, first, positive, replaced, whole


class Concat(Direct):
    """The inputs, a list of connections, one after the other along an axis.

    Example:
        >>> from gradloom.models import Concat, Model
        >>> model = Model()
        >>> model |= Concat(axis=1)(input=["a", "b"], output="both")
        >>> model.input_keys
        ('a', 'b')
    """

    variadic = True

    def __init__(self, axis: int = 0, name: str | None = None):
        self.axis, self.name = axis, name

    @staticmethod
    def wires(input: list, axis: int) -> Any:
        return ops.concat(*input, axis=axis)


class Stack(Direct):
    """The inputs, a list of connections of one shape, along a new axis."""

    variadic = True

    def __init__(self, axis: int = 0, name: str | None = None):
        self.axis, self.name = axis, name

    @staticmethod
    def wires(input: list, axis: int) -> Any:
        return ops.stack(*input, axis=axis)


class Split(Layer):
    """The input in parts along an axis: `output_0`, `output_1`, ...

    Args:
        parts: The number of equal parts, or the sizes of the parts.
        axis: The axis.
        name: Its name in models.
    """

    def __init__(self, parts: Any, axis: int = 0, name: str | None = None):
        at_least(self, 1, parts=parts)
        self.parts, self.axis, self.name = whole(parts), axis, name

    @property
    def output_keys(self) -> tuple[str, ...]:
        return tuple(f"output_{k}" for k in range(self.parts if isinstance(self.parts, int) else len(self.parts)))

    def results(self, value: Any) -> tuple:
        return tuple(value)

    def make(self, **_: Any) -> Callable:
        return functools.partial(_split, parts=self.parts, axis=self.axis)

    def relate(self, shapes: Shapes) -> Shapes:
        keys = self.output_keys
        x, parts = shapes.get("input"), [shapes.get(key) for key in keys]
        known = next((s for s in (x, *parts) if s is not None), None)
        if known is None or positive(self.axis, len(known)) is None:
            return {}
        lead: Shape | None = None
        for s in (x, *parts):
            lead = merged(lead, None if s is None or len(s) != len(known) else replaced(s, self.axis, None))
        assert lead is not None
        if isinstance(self.parts, int):
            n = at(x, self.axis)
            part = first(None if n is None else n // self.parts, *(at(s, self.axis) for s in parts))
            sizes: tuple = (part,) * self.parts
        else:
            sizes = self.parts
        total = None if None in sizes else sum(sizes)
        if isinstance(self.parts, int) and at(x, self.axis) is not None:
            total = at(x, self.axis)  # that it cannot be divided is found when the layer runs
        found: Shapes = {key: replaced(lead, self.axis, n) for key, n in zip(keys, sizes, strict=True)}
        return {**found, "input": replaced(lead, self.axis, total)}


def _split(input: Any, parts: Any, axis: int) -> tuple:
    n = input.shape[axis]
    if isinstance(parts, int):
        if n % parts:
            raise ShapeError(
                explain(
                    "Split: the axis cannot be divided into equal parts",
                    expected=f"a multiple of {parts}",
                    given=f"axis {axis} of {list(input.shape)}",
                    do="give the sizes of the parts",
                )
            )
        parts = (n // parts,) * parts
    return tuple(input.split(list(parts), axis))


class Reshape(Direct):
    """The elements in another shape.

    Args:
        shape: The sizes; one of them may be -1.
        name: Its name in models.
    """

    def __init__(self, shape: Any, name: str | None = None):
        self.shape, self.name = _sizes(shape), name
        at_least(self, -1, shape=self.shape)

    @staticmethod
    def wires(input: Any, shape: tuple[int, ...]) -> Any:
        return input.reshape(shape)

    def relate(self, shapes: Shapes) -> Shapes:
        out: tuple = tuple(None if n == -1 else n for n in self.shape)
        x = shapes.get("input")
        known = math.prod(n for n in out if n is not None)
        if x is not None and None not in x and None in out and known:
            left = math.prod(x) // known  # type: ignore[arg-type]
            out = tuple(left if n is None else n for n in out)
        return {"output": out}


class Flatten(Direct):
    """The axes from start_dim to end_dim as one."""

    wires = nn.Flatten

    def __init__(self, start_dim: int = 1, end_dim: int = -1, name: str | None = None):
        self.start_dim, self.end_dim, self.name = start_dim, end_dim, name

    def relate(self, shapes: Shapes) -> Shapes:
        x = shapes.get("input")
        if x is None:
            return {}
        a, b = positive(self.start_dim, len(x)), positive(self.end_dim, len(x))
        if a is None or b is None or a > b:
            return {}
        inner = x[a : b + 1]
        return {"output": (*x[:a], None if None in inner else math.prod(inner), *x[b + 1 :])}  # type: ignore[arg-type]


class Transpose(Direct):
    """The axes in another order: axis i of the output is axis `axes[i]` of the input. None: reversed."""

    def __init__(self, axes: Any = None, name: str | None = None):
        self.axes, self.name = whole(axes), name

    @staticmethod
    def wires(input: Any, axes: Any) -> Any:
        return ops.transpose(input, axes=_order(axes, input.ndim))

    def relate(self, shapes: Shapes) -> Shapes:
        x, y = shapes.get("input"), shapes.get("output")
        known = x if x is not None else y
        if known is None:
            return {}
        order = _order(self.axes, len(known))
        if sorted(order) != list(range(len(known))):
            return {}
        found: Shapes = {}
        if x is not None:
            found["output"] = tuple(x[k] for k in order)
        if y is not None and len(y) == len(order):
            found["input"] = tuple(y[order.index(k)] for k in range(len(order)))
        return found


def _order(axes: Any, ndim: int) -> tuple[int, ...]:
    return tuple(range(ndim))[::-1] if axes is None else tuple(a % ndim if -ndim <= a < ndim else a for a in axes)


class ExpandDims(Direct):
    """The input with a new axis of size 1 at a position of the output."""

    wires = ops.expand_dims

    def __init__(self, axis: int, name: str | None = None):
        self.axis, self.name = axis, name

    def relate(self, shapes: Shapes) -> Shapes:
        return _without(shapes, self.axis, "output", "input")


class Squeeze(Direct):
    """The input without an axis, whose size is 1."""

    wires = ops.squeeze

    def __init__(self, axis: int, name: str | None = None):
        self.axis, self.name = axis, name

    def relate(self, shapes: Shapes) -> Shapes:
        return _without(shapes, self.axis, "input", "output")


def _without(shapes: Shapes, axis: int, long: str, short: str) -> Shapes:
    """Two shapes of which the long one has an axis of size 1 more."""
    x, y = shapes.get(long), shapes.get(short)
    if x is not None:
        k = positive(axis, len(x))
        return {} if k is None or x[k] not in (None, 1) else {short: (*x[:k], *x[k + 1 :]), long: replaced(x, k, 1)}
    if y is not None:
        k = positive(axis, len(y) + 1)
        return {} if k is None else {long: (*y[:k], 1, *y[k:])}
    return {}


class BroadcastTo(Direct):
    """The input repeated along new leading axes and along its axes of size 1.

    Args:
        shape: The sizes.
        name: Its name in models.
    """

    wires = ops.broadcast_to

    def __init__(self, shape: Any, name: str | None = None):
        self.shape, self.name = _sizes(shape), name
        at_least(self, 0, shape=self.shape)

    def relate(self, shapes: Shapes) -> Shapes:
        return {"output": self.shape}


class Slice(Direct):
    """The elements start, start + step, ... before stop of an axis, as Python slices."""

    def __init__(
        self,
        start: int | None = None,
        stop: int | None = None,
        step: int | None = None,
        axis: int = 0,
        name: str | None = None,
    ):
        at_least(self, 1, step=step)
        self.start, self.stop, self.step, self.axis, self.name = start, stop, step, axis, name

    @staticmethod
    def wires(input: Any, start: Any, stop: Any, step: Any, axis: int) -> Any:
        k = positive(axis, input.ndim)
        if k is None:
            raise ShapeError(explain("Slice: there is no such axis", expected=f"axis {axis}", given=list(input.shape)))
        return input[(*(slice(None),) * k, slice(start, stop, step))]

    def relate(self, shapes: Shapes) -> Shapes:
        n = at(shapes.get("input"), self.axis)
        found = slice(self.start, self.stop, self.step)
        full = found == slice(None, None, found.step) and found.step in (None, 1)
        inside = at(shapes.get("output"), self.axis) if full else None
        return along(shapes, self.axis, inside, None if n is None else len(range(*found.indices(n))))


class Indexer(Direct):
    """`input[index]`.

    Args:
        index: An int, a slice, None (a new axis) or ..., or a tuple of them.
        name: Its name in models.
    """

    def __init__(self, index: Any, name: str | None = None):
        for part in index if isinstance(index, tuple) else (index,):
            if not (part is None or part is ... or isinstance(part, (int, slice))):
                raise OptionError(
                    explain(
                        "Indexer takes an index that is fixed",
                        expected="ints, slices, None and ...",
                        given=repr(index),
                        where=user_frame(),
                        do="for an index that is a connection write x[index], or use Take",
                    )
                )
        self.index, self.name = index, name

    @staticmethod
    def wires(input: Any, index: Any) -> Any:
        return operator.getitem(input, index)


class Take(Direct):
    """The slices of the input at indices (int64) along an axis."""

    inputs = ("input", "indices")
    dtypes = {"indices": int64}
    wires = ops.take

    def __init__(self, axis: int = 0, name: str | None = None):
        self.axis, self.name = axis, name

    def relate(self, shapes: Shapes) -> Shapes:
        x, k = shapes.get("input"), shapes.get("indices")
        axis = None if x is None else positive(self.axis, len(x))
        return {} if x is None or k is None or axis is None else {"output": (*x[:axis], *k, *x[axis + 1 :])}


class Pad(Direct):
    """The input with constant elements around its last axes.

    Args:
        padding: (before, after) of the last axis, then of the one before it, and so on, in one sequence; a negative width
            cuts.
        value: The elements.
        name: Its name in models.
    """

    renamed = {"padding": "pad"}
    wires = F.pad

    def __init__(self, padding: Any, value: float = 0.0, name: str | None = None):
        self.padding, self.value, self.name = whole(padding), value, name
        if not isinstance(self.padding, tuple) or len(self.padding) % 2:
            raise OptionError(
                explain(
                    "Pad: padding is a sequence of pairs",
                    expected="(before, after) of the last axis, then of the one before it, ...",
                    given=f"padding={padding!r}",
                    where=user_frame(),
                )
            )

    def relate(self, shapes: Shapes) -> Shapes:
        found: Shapes = {}
        for source, key, sign in (("input", "output", 1), ("output", "input", -1)):
            x = shapes.get(source)
            if x is None or len(x) < len(self.padding) // 2:
                continue
            for k in range(len(self.padding) // 2):
                n = x[-1 - k]
                width = self.padding[2 * k] + self.padding[2 * k + 1]
                x = replaced(x, -1 - k, None if n is None else n + sign * width)
            found[key] = x
        return found


class OneHot(Direct):
    """Rows (..., number) of int64 that are 1 at the index (int64) and 0 elsewhere."""

    dtypes = {"input": int64}
    dtyped = True
    renamed = {"number": "num_classes"}
    wires = F.one_hot

    def __init__(self, number: int, name: str | None = None):
        at_least(self, 1, number=number)
        self.number, self.name = number, name

    def relate(self, shapes: Shapes) -> Shapes:
        x, y = shapes.get("input"), shapes.get("output")
        found: Shapes = {} if x is None else {"output": (*x, self.number)}
        return found if y is None else {**found, "input": y[:-1]}


def _sizes(shape: Any) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)
