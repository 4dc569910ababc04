"""`summary`: a model as a table of its layers, shapes and parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..backends.base import Backend
from ..errors import OptionError, explain, user_frame
from ..nn.module import Module
from .compiled import CompiledModel, compile
from .net import Flat, Leaf
from .part import HOOKS, Apply, ModuleLayer, Part, Shape, Unknown
from .shapes import text

__all__ = ["Row", "Summary", "summary"]

_NARROWEST = 5


@dataclass(frozen=True)
class Row:
    """One layer of a summary, or one parameter of the model itself.

    Attributes:
        path: "encoder.linear".
        layer: The class; for expressions the operation, for parameters of the model "parameter".
        inputs, outputs: Shapes with None for unknown sizes; None where not even the number of axes is known.
        parameters: {name: shape}, None where it is not known. Not those of a layer whose parameters it shares.
        count: How many numbers these are; None where that is not known.
        frozen: The names of those that are not trained.
        shared: The path of the layer whose parameters it uses, or None.
    """

    path: str
    layer: str
    inputs: tuple[Shape | None, ...]
    outputs: tuple[Shape | None, ...]
    parameters: dict[str, Shape | None]
    count: int | None
    frozen: tuple[str, ...]
    shared: str | None


class Summary(str):
    """The table as text.

    Attributes:
        rows: Its lines as data.
        totals: {"parameters": ..., "trainable": ..., "bytes": ...}; None where shapes are not known.
    """

    rows: list[Row]
    totals: dict[str, int | None]

    def __repr__(self) -> str:
        return str(self)


def summary(
    model: Any,
    shapes: Mapping[str, Any] | None = None,
    backend: str | Backend | None = None,
    width: int = 100,
) -> Summary:
    """A table of a model's layers: shapes, parameters, what is frozen or shared.

    Args:
        model: A model or layer of `gradloom.models`, an `nn.Module`, or a compiled model.
        shapes: {input or other named connection: shape}, with None for unknown sizes. A compiled model has its own.
        backend: Whose dtype parameters have. A compiled model has its own.
        width: Of the text, in columns; longer names are cut.

    Raises:
        ShapeError: The shapes do not fit.
        OptionError: Inputs of the model are not connected, or there is a cycle.

    Example:
        >>> import gradloom as gl
        >>> from gradloom.models import Linear, Model, Relu
        >>> from gradloom.models.summary import summary
        >>> model = Model()
        >>> model |= Linear(8)(input="x")
        >>> model += Relu()
        >>> summary(model, shapes={"x": [None, 4]})
        Inputs:  x [?, 4]
        Outputs: output [?, 8]
        <BLANKLINE>
        Layer   Class   Shapes           Parameters               Count
        ------  ------  ---------------  -----------------------  -----
        linear  Linear  [?, 4] → [?, 8]  weight [8, 4], bias [8]     40
        relu    Relu    [?, 8] → [?, 8]
        <BLANKLINE>
        40 parameters, 40 of them trained, 160 bytes
    """
    if isinstance(model, CompiledModel):
        if shapes is not None or backend is not None:
            raise OptionError(
                explain("a compiled model has its own shapes and backend", where=user_frame(), do="leave them out")
            )
    elif isinstance(model, (Part, Module)):
        model = compile(model, backend, shapes)
    else:
        raise OptionError(
            explain(
                "a summary is of a model, a layer of gradloom.models, an nn.Module, or a compiled model",
                given=type(model).__name__,
                where=user_frame(),
            )
        )
    if width < 40:
        raise OptionError(
            explain("a summary needs columns", expected="40 or more", given=f"width={width}", where=user_frame())
        )
    table = _Table(model)
    made = Summary(table.text(width))
    made.rows, made.totals = table.rows, table.totals
    return made


class _Table:
    def __init__(self, model: CompiledModel):
        self.net, self.builder, self.found = model._net, model._builder, model._found
        self.shapes = self.found.shapes
        self.totals: dict[str, int | None] = {"parameters": 0, "trainable": 0, "bytes": 0}
        self.rows = [self.parameter(name, wire) for name, wire in self.net.parameters.items()]
        self.rows += [self.row(leaf) for leaf in self.net.leaves]

    def parameter(self, name: str, wire: Flat) -> Row:
        """The row of a parameter that is the model's own."""
        shape = self.shapes.get(wire)
        if shape is None and isinstance(wire.value, (bool, int, float)):
            shape = ()
        frozen = self.net.is_frozen(name)
        dtype = wire.dtype or self.found.dtypes.get(wire) or self.builder.backend.dtype
        count = self.add(shape, dtype.itemsize, not frozen)
        return Row(name, "parameter", (), (shape,), {}, count, (name,) if frozen else (), None)

    def row(self, leaf: Leaf) -> Row:
        layer = leaf.layer
        inputs = tuple(
            self.shapes.get(w) if w.value is None or w in self.shapes else ()
            for found in leaf.inputs.values()
            for w in (found if isinstance(found, list) else (found,))
        )
        outputs = tuple(self.shapes.get(w) for w in leaf.outputs.values())
        kind = layer.target.replace(":", " ") if isinstance(layer, Apply) else type(layer).__name__
        if isinstance(layer, ModuleLayer):
            kind = type(layer.module).__name__
        if leaf.shared is not None:
            return Row(leaf.path, kind, inputs, outputs, {}, 0, (), leaf.shared.title)
        parameters: dict[str, Shape | None] = {}
        frozen: list[str] = []
        count: int | None = 0
        for name, shape, itemsize, trained in self.own(leaf):
            parameters[name] = shape
            number = self.add(shape, itemsize, trained)
            count = None if count is None or number is None else count + number
            if not trained:
                frozen.append(name)
        return Row(leaf.path or layer.label, kind, inputs, outputs, parameters, count, tuple(frozen), None)

    def own(self, leaf: Leaf) -> list[tuple[str, Shape | None, int, bool]]:
        """(name, shape, bytes of an element, whether it is trained) of a layer's own parameters."""
        prefix = f"{leaf.path}." if leaf.path else ""
        itemsize = self.builder.backend.dtype.itemsize
        calls = [x for x in self.net.leaves if x is leaf or x.shared is leaf]
        connected = {key for key in leaf.parameters if all(key in x.parameters for x in calls)}
        try:
            module = self.builder.module(leaf, self.shapes)
        except Unknown:
            names = [n for n in leaf.layer.names() if n not in connected]
            return [(n, None, itemsize, not self.net.is_frozen(prefix + n)) for n in names]
        named = module.named_parameters() if isinstance(module, Module) else ()
        return [
            (n, tuple(p.shape), p.dtype.itemsize, p.requires_grad and not self.net.is_frozen(prefix + n))
            for n, p in named
            if n not in connected
        ]

    def add(self, shape: Shape | None, itemsize: int, trained: bool) -> int | None:
        """Counts a parameter."""
        count = None if shape is None or None in shape else math.prod(shape)  # type: ignore[arg-type]
        for key, factor in (("parameters", 1), ("trainable", int(trained)), ("bytes", itemsize)):
            old = self.totals[key]
            if factor:
                self.totals[key] = None if old is None or count is None else old + count * factor
        return count

    # ---------------------------------------------------------------------------------------------------------- text

    def text(self, width: int) -> str:
        lines = [
            _cut(f"{title:<9}" + ", ".join(f"{n} {_shape(self.shapes.get(w))}" for n, w in wires.items()), width)
            for title, wires in (("Inputs:", self.net.inputs), ("Outputs:", self.net.outputs))
            if wires
        ]
        head = ["Layer", "Class", "Shapes", "Parameters", "Count", "Notes"]
        cells = [self.cells(row) for row in self.rows]
        if not any(row[-1] for row in cells):
            head, cells = head[:-1], [row[:-1] for row in cells]
        widths = _widths([max(map(len, column)) for column in zip(head, *cells, strict=True)], head, width)
        rule = ["-" * n for n in widths]
        lines += ["", *(_line(row, widths) for row in (head, rule, *cells)), ""]
        return "\n".join([*lines, _cut(self.total(), width)])

    @staticmethod
    def cells(row: Row) -> list[str]:
        shapes = " → ".join(", ".join(map(_shape, side)) for side in (row.inputs, row.outputs) if side)
        parameters = ", ".join(f"{n} {_shape(s)}" for n, s in row.parameters.items())
        counted = row.parameters or row.layer == "parameter"
        count = "" if not counted else "?" if row.count is None else f"{row.count:,}"
        note = f"shares {row.shared}" if row.shared else ""
        if row.frozen:
            note = "frozen" if len(row.frozen) >= len(row.parameters) else f"{', '.join(row.frozen)} frozen"
        return [row.path, row.layer, shapes, parameters, count, note]

    def total(self) -> str:
        count, trained, size = self.totals.values()
        if count is None:
            return "The number of parameters is not known: give shapes of the inputs."
        return f"{count:,} parameters, {trained:,} of them trained, {size:,} bytes"


def _shape(shape: Any) -> str:
    return "?" if shape is None else text(shape)


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else cell[: width - 1] + "…"


def _widths(natural: list[int], head: list[str], width: int) -> list[int]:
    """Widths of the columns: the widest give way, but not the count."""
    widths = natural[:]
    while sum(widths) + 2 * (len(widths) - 1) > width:
        free = [i for i in range(len(widths)) if head[i] != "Count" and widths[i] > _NARROWEST]
        if not free:
            break
        widest = max(free, key=lambda i: widths[i])
        widths[widest] -= 1
    return widths


def _line(row: list[str], widths: list[int]) -> str:
    cells = [
        _cut(cell, n).rjust(n) if i == 4 else _cut(cell, n).ljust(n)
        for i, (cell, n) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


HOOKS["summary"] = summary
