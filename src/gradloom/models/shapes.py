"""Shapes of a network's wires from what is known of some of them, forwards and backwards.

A layer tells what follows from partial knowledge (`Layer.relate`): a Linear knows its input's last axis from a given weight,
an activation its input from its output. Where the shapes of all inputs are known, a layer without such rules is run on
shapes alone. What two sides say of one wire is merged; where they disagree the error names both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ..backends.shapes import Spec
from ..dtypes import DType
from ..errors import GradloomError, ShapeError, explain
from .net import Flat, Leaf, Net
from .part import Shape, Unknown

# Stand for unknown sizes when a layer is run on shapes: a size of the result that differs between the runs is unknown.
# Small and large ones, as x[:5] or a window may not see the difference; those that a layer refuses do not count.
_TRIALS = (2, 6, 12, 1000)


class Inference:
    """Finds shapes of wires.

    Attributes:
        shapes: {wire: its shape, with None for sizes that are not known}; wires that are missing are of unknown rank.
        dtypes: {wire: dtype} where it is not the default float dtype.
    """

    def __init__(self, net: Net, default: DType, run: Callable[[Leaf, dict[Flat, Shape], dict[Flat, Spec]], list]):
        self.net, self.default, self.run = net, default, run
        self.shapes: dict[Flat, Shape] = {}
        self.dtypes: dict[Flat, DType] = {}
        self.because: dict[Flat, str] = {}  # who said so, for messages
        self.owned: dict[Leaf, dict[str, Shape]] = {}  # shapes of layers' own parameters
        self.tried: dict[Leaf, Any] = {}
        self.queue: deque[Leaf] = deque(net.leaves)
        self.waiting: set[Leaf] = set(net.leaves)

    def set(self, wire: Flat, shape: Any, because: str) -> None:
        """Merges what is said of a wire with what is known.

        Raises:
            ShapeError: They disagree.
        """
        if shape is None:
            return
        shape = tuple(shape)
        known = self.shapes.get(wire)
        if known is None:
            merged: Shape = shape
        else:
            if len(known) != len(shape) or any(
                a is not None and b is not None and a != b for a, b in zip(known, shape, strict=True)
            ):
                raise self.conflict(wire, known, shape, because)
            merged = tuple(b if a is None else a for a, b in zip(known, shape, strict=True))
            if merged == known:
                return
        self.shapes[wire] = merged
        self.because[wire] = because
        for leaf in (*(leaf for leaf, _ in wire.readers), *((wire.source[0],) if wire.source else ())):
            if leaf not in self.waiting:
                self.waiting.add(leaf)
                self.queue.append(leaf)

    def conflict(self, wire: Flat, known: Shape, shape: Shape, because: str) -> ShapeError:
        ends = [f"given by {wire.source[0].title} ({wire.source[0].line})"] if wire.source else []
        ends += [f"read by {leaf.title} as '{key}' ({leaf.line})" for leaf, key in wire.readers]
        return ShapeError(
            explain(
                f"the connection '{wire.name}' has two shapes",
                given=f"{text(known)}, {self.because[wire]}\n{text(shape)}, {because}",
                where="\n".join(ends),
                do="change one of the layers, or the shape that was set",
            )
        )

    def settle(self) -> None:
        """Runs until nothing more follows."""
        while self.queue:
            leaf = self.queue.popleft()
            self.waiting.discard(leaf)
            self.step(leaf)

    def step(self, leaf: Leaf) -> None:
        wires: dict[str, Flat] = {k: w for k, w in leaf.inputs.items() if isinstance(w, Flat)}
        wires |= leaf.outputs
        wires |= leaf.parameters
        known = {key: self.shapes.get(w) for key, w in wires.items()}
        found = leaf.layer.relate({**self.owned.get(leaf, {}), **known})
        for key, shape in found.items():
            if key in wires:
                self.set(wires[key], shape, f"as {leaf.title} has it ({leaf.line})")
        self.forward(leaf)

    def forward(self, leaf: Leaf) -> None:
        """Runs the layer on shapes where all its inputs are known, but for sizes."""
        if leaf.layer.reads_parameters:
            return
        shapes: list[Any] = []
        for wire in leaf.sources():
            shape = self.shapes.get(wire)
            if shape is None and wire.kind != "value":
                return
            shapes.append(shape)
        key = tuple(shapes)
        if self.tried.get(leaf) == key:
            return
        out = [self.shapes.get(w) for w in leaf.outputs.values()]
        dtyped = leaf.layer.dtyped or any(w in self.dtypes for w in leaf.sources())
        if not dtyped and all(o is not None and None not in o for o in out):
            return
        self.tried[leaf] = key
        partial = any(None in s for s in shapes if s is not None)
        results = []
        for trial in _TRIALS if partial else (None,):
            given = {
                w: Spec(filled(self.shapes[w], trial), self.dtypes.get(w, self.default))
                for w in leaf.sources()
                if w in self.shapes
            }
            try:
                results.append(self.run(leaf, self.shapes, given))
            except Unknown:
                return
            except GradloomError as error:
                if not partial:
                    raise self.refused(leaf, error) from error
        if len(results) < (2 if partial else 1):
            return
        for k, wire in enumerate(leaf.outputs.values()):
            specs = [r[k] for r in results]
            if specs[0] is None:
                continue
            self.dtypes[wire] = specs[0].dtype
            if all(len(s.shape) == len(specs[0].shape) for s in specs):
                shape = tuple(n if all(s.shape[i] == n for s in specs) else None for i, n in enumerate(specs[0].shape))
                self.set(wire, shape, f"as {leaf.title} gives it ({leaf.line})")

    def refused(self, leaf: Leaf, error: GradloomError) -> GradloomError:
        """The error of a layer that cannot run on the shapes that it gets, with where these come from."""
        given = [
            f"{key}: {text(self.shapes[w])}, {self.because[w]}"
            for key, found in (*leaf.inputs.items(), *leaf.parameters.items())
            for w in (found if isinstance(found, list) else (found,))
            if w in self.shapes
        ]
        message = str(error).splitlines()
        problem = f"{leaf.title} cannot take its inputs: {message[0]}"
        return type(error)(explain(problem, given="\n".join(given), where=leaf.line or None))


def filled(shape: Shape, size: int | None) -> tuple[int, ...]:
    """The shape with a size for those that are not known."""
    return tuple(size if n is None else n for n in shape)  # type: ignore[misc]


def text(shape: Any) -> str:
    """A shape as messages show it: [?, 784]."""
    return "[" + ", ".join("?" if n is None else str(n) for n in shape) + "]"


# ------------------------------------------------------------------------------------------------------ rules of layers


def same(*keys: str) -> Callable[[Any, dict], dict]:
    """The rule of layers whose inputs and outputs all have one shape."""

    def relate(self: Any, shapes: dict) -> dict:
        known = None
        for key in keys:
            known = merged(known, shapes.get(key))
        return {} if known is None else dict.fromkeys(keys, known)

    return relate


def merged(a: Shape | None, b: Shape | None) -> Shape | None:
    """What two partial shapes say together; where they disagree, the second is left to be found out."""
    if a is None or b is None:
        return b if a is None else a
    if len(a) != len(b):
        return a
    return tuple(y if x is None else x for x, y in zip(a, b, strict=True))


def last_axis(shapes: dict, inside: int | None, outside: int | None) -> dict:
    """Input and output that differ in the last axis only, whose sizes are these."""
    x, y = shapes.get("input"), shapes.get("output")
    lead = merged(None if x is None else x[:-1], None if y is None else y[:-1])
    if lead is None:
        return {}
    return {"input": (*lead, inside), "output": (*lead, outside)}
