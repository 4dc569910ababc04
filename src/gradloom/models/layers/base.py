"""What the layers share: a base of those that wire something as it is, checks of options, and rules of shapes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from ...errors import OptionError, explain, user_frame
from ...nn import functional as F
from ...nn.module import Module
from ..part import Layer, Shape, Shapes
from ..shapes import merged, same


class Direct(Layer):
    """A layer whose module or function needs no sizes.

    Attributes:
        wires: A class of `nn`, which is called with the options; or a function of Tensors, which gets them at each call.
        renamed: {option: what `wires` calls it}.
    """

    wires: ClassVar[Any]
    renamed: ClassVar[dict[str, str]] = {}

    def __init__(self, name: str | None = None):
        self.name = name

    def make(self, **_: Any) -> Module | Callable:
        options = {self.renamed.get(k, k): v for k, v in self.options().items() if k != "name"}
        made = type(self).wires
        if isinstance(made, type):
            return made(**options)
        return functools.partial(made, **options) if options else made


# ----------------------------------------------------------------------------------------------------- checks of options


def choice(layer: Layer, option: str, value: Any, allowed: Iterable[Any]) -> Any:
    """The value, if it is one of those that are allowed.

    Raises:
        OptionError: It is not.
    """
    allowed = tuple(allowed)
    if value in allowed:
        return value
    raise OptionError(
        explain(
            f"{type(layer).__name__}: {option} has a value that does not exist",
            expected=" or ".join(map(repr, allowed)),
            given=f"{option}={value!r}",
            where=user_frame(),
        )
    )


def at_least(layer: Layer, least: float, **options: Any) -> None:
    """Raises unless these options are numbers (or sequences of them) of at least this; None is left out.

    Raises:
        OptionError: One is not.
    """
    for option, value in options.items():
        for n in value if isinstance(value, (tuple, list)) else (value,):
            if n is not None and (isinstance(n, bool) or not isinstance(n, (int, float)) or not n >= least):
                raise OptionError(
                    explain(
                        f"{type(layer).__name__}: {option} is too small, or no number",
                        expected=f"{least} or more",
                        given=f"{option}={value!r}",
                        where=user_frame(),
                    )
                )


def probability(layer: Layer, option: str, value: Any) -> Any:
    """The value, if it lies between 0 and 1.

    Raises:
        OptionError: It does not.
    """
    if isinstance(value, (int, float)) and 0 <= value <= 1:
        return value
    raise OptionError(
        explain(
            f"{type(layer).__name__}: {option} is a probability",
            expected="0 to 1",
            given=f"{option}={value!r}",
            where=user_frame(),
        )
    )


def whole(value: Any) -> Any:
    """An option that is an int, a tuple of them, or None; lists, as documents have them, become tuples."""
    return tuple(value) if isinstance(value, list) else value


# ------------------------------------------------------------------------------------------------------- rules of shapes


#: The rule of layers whose output has the shape of the input.
one_shape: Any = same("input", "output")


def broadcast(*keys: str, output: str = "output") -> Any:
    """The rule of layers whose inputs broadcast: the output's sizes, as far as those of the inputs tell."""

    def relate(self: Any, shapes: Shapes) -> Shapes:
        return {output: broadcasted([shapes.get(key) for key in keys])}

    return relate


def broadcasted(shapes: Iterable[Shape | None]) -> Shape | None:
    """The common shape: an unknown size beside one that is larger than 1 is that one, or 1."""
    shapes = list(shapes)
    if any(s is None for s in shapes):
        return None
    found: list[int | None] = []
    for k in range(max(len(s) for s in shapes if s is not None)):
        sizes = {s[-1 - k] for s in shapes if s is not None and k < len(s)} - {1}
        large = [n for n in sizes if n is not None]
        found.insert(0, large[0] if len(large) == 1 else 1 if not sizes else None)
    return tuple(found)


def positive(axis: int, ndim: int) -> int | None:
    """The axis counted from the front; None where there is no such axis, which is found out when the layer runs."""
    return axis % ndim if -ndim <= axis < ndim else None


def replaced(shape: Shape, axis: int, n: int | None) -> Shape:
    """The shape with another size of an axis."""
    axis %= len(shape)
    return (*shape[:axis], n, *shape[axis + 1 :])


def along(shapes: Shapes, axis: int, inside: int | None, outside: int | None) -> Shapes:
    """Input and output that differ in one axis only, whose sizes are these."""
    x, y = shapes.get("input"), shapes.get("output")
    known = x if x is not None else y
    if known is None or positive(axis, len(known)) is None or (x is not None and y is not None and len(x) != len(y)):
        return {}
    lead = merged(None if x is None else replaced(x, axis, None), None if y is None else replaced(y, axis, None))
    assert lead is not None
    return {"input": replaced(lead, axis, inside), "output": replaced(lead, axis, outside)}


def at(shape: Shape | None, axis: int) -> int | None:
    """The size of an axis; None where it is not known."""
    return None if shape is None or positive(axis, len(shape)) is None else shape[axis]


def first(*sizes: int | None) -> int | None:
    """The first size that is known."""
    return next((n for n in sizes if n is not None), None)


def windows(shapes: Shapes, k: int, channels: tuple, count: Callable, back: Callable | None = None) -> Shapes:
    """Input and output (N, C, *L), or (C, *L), of layers that slide over the last k axes.

    Args:
        shapes: What is known.
        k: Number of spatial axes.
        channels: Of input and output; or () where these have the same.
        count: (size of the input, i) -> size of the output on spatial axis i, or None.
        back: The same from output to input; None where an output does not tell.
    """
    x, y = shapes.get("input"), shapes.get("output")
    known = x if x is not None else y
    if known is None or len(known) not in (k + 1, k + 2) or (x is not None and y is not None and len(x) != len(y)):
        return {}
    empty: Shape = (None,) * len(known)
    x, y = x or empty, y or empty
    batch = tuple(first(a, b) for a, b in zip(x[: -k - 1], y[: -k - 1], strict=True))
    inside, outside = channels or ((first(x[-k - 1], y[-k - 1]),) * 2)
    out = tuple(None if n is None else count(n, i) for i, n in enumerate(x[-k:]))
    inner = tuple(None if n is None or back is None else back(n, i) for i, n in enumerate(y[-k:]))
    return {"input": (*batch, inside, *inner), "output": (*batch, outside, *out)}


def each(value: Any, k: int) -> tuple:
    """An option as one value for each of k axes."""
    return F.each(value, k)
