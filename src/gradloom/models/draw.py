"""Drawings of models: Mermaid text, Graphviz text, and images through the program `dot`.

Both texts are printed from one `Chart`: nodes for inputs, parameters, values, layers and outputs; models inside of the
model are boxes around their layers. Nodes are called n0, n1, ..., so that any name can be a label.
"""

from __future__ import annotations

import difflib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import MissingExtraError, OptionError, explain, user_frame
from .compiled import compile
from .net import Flat, Leaf
from .part import HOOKS, Apply, ModuleLayer, Part
from .shapes import text

__all__ = ["dot", "draw", "mermaid"]

_LONGEST = 300  # seconds that Graphviz may take


class Chart:
    """What is drawn.

    Attributes:
        nodes: {number: (kind, label)}; kinds are "input", "parameter", "value", "layer" and "output". Lines of a label are
            separated by newlines.
        groups: {path of a model inside: its title}; `inside` has {number of a node: path of its group}.
        edges: [(number, number, label)]; `ties` are between layers that share parameters.
    """

    def __init__(self, part: Part, shapes: Mapping[str, Any] | None):
        if not isinstance(part, Part):
            raise OptionError(
                explain("this is no model or layer of gradloom.models", given=type(part).__name__, where=user_frame())
            )
        compiled = compile(part, "numpy", shapes)
        self.net, self.shapes = compiled._net, compiled._found.shapes
        self.nodes: dict[int, tuple[str, str]] = {}
        self.groups: dict[str, str] = {}
        self.inside: dict[int, str] = {}
        self.edges: list[tuple[int, int, str]] = []
        self.ties: list[tuple[int, int]] = []
        self.of: dict[Any, int] = {}
        for wire in self.net.wires:
            if wire.kind != "result" and wire.readers:
                self.add(wire, wire.kind, self.source(wire))
        for leaf in self.net.leaves:
            self.layer(leaf)
        for leaf in self.net.leaves:
            for key, found in (*leaf.inputs.items(), *leaf.parameters.items()):
                for wire in found if isinstance(found, list) else (found,):
                    self.edges.append((self.start(wire), self.of[leaf], self.label(wire, leaf, key)))
            if leaf.shared is not None:
                self.ties.append((self.of[leaf.shared], self.of[leaf]))
        for name, wire in self.net.outputs.items():
            number = self.add(("output", name), "output", name)
            self.edges.append((self.start(wire), number, self.shape(wire)))

    def add(self, what: Any, kind: str, label: str) -> int:
        self.of[what] = number = len(self.nodes)
        self.nodes[number] = (kind, label)
        return number

    def layer(self, leaf: Leaf) -> None:
        """The node of a layer, and the groups that it is in."""
        layer, (group, _, name) = leaf.layer, leaf.path.rpartition(".")
        kind = type(layer.module if isinstance(layer, ModuleLayer) else layer).__name__
        if isinstance(layer, Apply):
            kind = layer.target.partition(":")[2]
        lines = [name or layer.label] if kind == (name or layer.label) else [name or layer.label, kind]
        number = self.add(leaf, "layer", "\n".join(lines))
        if group:
            self.inside[number] = group
            pieces = group.split(".")
            for k in range(len(pieces)):
                self.groups.setdefault(".".join(pieces[: k + 1]), pieces[k])

    def source(self, wire: Flat) -> str:
        """The label of an input, parameter or value."""
        if wire.kind == "value":
            if isinstance(wire.value, (bool, int, float)):
                return repr(wire.value)
            return f"value {self.shape(wire)}".strip()
        return wire.name

    def start(self, wire: Flat) -> int:
        return self.of[wire.source[0] if wire.source else wire]

    def shape(self, wire: Flat) -> str:
        return text(self.shapes[wire]) if wire in self.shapes else ""

    def label(self, wire: Flat, leaf: Leaf, key: str) -> str:
        """The connection's name, the key of the layer where there are several, and the shape."""
        name = wire.name.rpartition(".")[2]
        if wire.source is None or name == wire.source[1]:  # an input has its name in its node; "output" says nothing
            name = ""
        several = len(leaf.inputs) + len(leaf.parameters) > 1 and not isinstance(leaf.layer, Apply)
        if several and key != (name or wire.name):
            name = f"{name} → {key}" if name else key
        return f"{name} {self.shape(wire)}".strip()

    def members(self, group: str) -> tuple[list[int], list[str]]:
        """The nodes that are right in a group ("": in none), and the groups in it."""
        nodes = [n for n in self.nodes if self.inside.get(n, "") == group]
        return nodes, [g for g in self.groups if g.rpartition(".")[0] == group]


# ----------------------------------------------------------------------------------------------------------- Mermaid

_SHAPES = {
    "input": ("([", "])"), "output": ("([", "])"), "parameter": ("[(", ")]"), "value": ("{{", "}}"), "layer": ("[", "]")
}  # fmt: skip
_ENTITIES = {c: f"#{ord(c)};" for c in '"#&;<>`\\{}|'}


def mermaid(part: Part, shapes: Mapping[str, Any] | None = None) -> str:
    """A model as a Mermaid flowchart, which GitHub and many editors show.

    Args:
        part: A model, or a layer.
        shapes: {input or other named connection: shape}, with None for unknown sizes; they are written at the edges.

    Raises:
        ShapeError: The shapes do not fit.
        OptionError: Inputs are not connected, or there is a cycle.

    Example:
        >>> from gradloom.models import Linear
        >>> from gradloom.models.draw import mermaid
        >>> print(mermaid(Linear(3), shapes={"input": [None, 2]}), end="")
        flowchart TD
          n0(["input"])
          n1["linear<br/>Linear"]
          n2(["output"])
          n0 -->|"[?, 2]"| n1
          n1 -->|"[?, 3]"| n2
    """
    chart = Chart(part, shapes)
    lines = ["flowchart TD"]

    def put(group: str, lead: str) -> None:
        nodes, groups = chart.members(group)
        for n in nodes:
            kind, label = chart.nodes[n]
            opening, closing = _SHAPES[kind]
            lines.append(f'{lead}n{n}{opening}"{_mermaid_text(label)}"{closing}')
        for g in groups:
            lines.append(f'{lead}subgraph g{list(chart.groups).index(g)}["{_mermaid_text(chart.groups[g])}"]')
            put(g, lead + "  ")
            lines.append(f"{lead}end")

    put("", "  ")
    for a, b, label in chart.edges:
        lines.append(f'  n{a} -->|"{_mermaid_text(label)}"| n{b}' if label else f"  n{a} --> n{b}")
    lines += [f'  n{a} -.-|"shared"| n{b}' for a, b in chart.ties]
    return "\n".join(lines) + "\n"


def _mermaid_text(label: str) -> str:
    return "".join(_ENTITIES.get(c, c) for c in _plain(label)).replace("\n", "<br/>")


def _plain(label: str) -> str:
    """Without characters that cannot be seen, such as those that turn the direction of the text."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in label)


# ---------------------------------------------------------------------------------------------------------- Graphviz

_STYLES = {
    "input": "shape=oval", "output": "shape=oval", "parameter": "shape=cylinder", "value": "shape=hexagon",
    "layer": "shape=box",
}  # fmt: skip


def dot(part: Part, shapes: Mapping[str, Any] | None = None) -> str:
    """A model as Graphviz text.

    Args:
        part, shapes: As for `mermaid`.

    Raises:
        ShapeError: The shapes do not fit.
        OptionError: Inputs are not connected, or there is a cycle.
    """
    chart = Chart(part, shapes)
    lines = [
        "digraph model {",
        '  node [fontname="sans-serif", fontsize=11];',
        '  edge [fontname="sans-serif", fontsize=9];',
    ]

    def put(group: str, lead: str) -> None:
        nodes, groups = chart.members(group)
        for n in nodes:
            kind, label = chart.nodes[n]
            lines.append(f"{lead}n{n} [{_STYLES[kind]}, label={_quoted(label)}];")
        for g in groups:
            lines.append(f"{lead}subgraph cluster_{list(chart.groups).index(g)} {{")
            lines.append(f"{lead}  label={_quoted(chart.groups[g])};")
            put(g, lead + "  ")
            lines.append(f"{lead}}}")

    put("", "  ")
    for a, b, label in chart.edges:
        lines.append(f"  n{a} -> n{b}" + (f" [label={_quoted(label)}];" if label else ";"))
    lines += [f'  n{a} -> n{b} [style=dashed, dir=none, constraint=false, label="shared"];' for a, b in chart.ties]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(label: str) -> str:
    escaped = _plain(label).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("&", "&amp;")
    return f'"{escaped}"'


# -------------------------------------------------------------------------------------------------------------- files


def _markdown(part: Part, shapes: Any) -> str:
    return f"```mermaid\n{mermaid(part, shapes)}```\n"


_TEXTS: dict[str, Callable[[Part, Any], str]] = {
    "mermaid": mermaid, "mmd": mermaid, "md": _markdown, "dot": dot, "gv": dot
}  # fmt: skip
_IMAGES = ("svg", "png", "pdf")


def draw(
    part: Part,
    path: str | os.PathLike | None = None,
    format: str | None = None,
    shapes: Mapping[str, Any] | None = None,
) -> str:
    """Draws a model.

    Args:
        part: A model, or a layer.
        path: The file to write; None gives only the text.
        format: "mermaid", "md" (Mermaid in Markdown), "dot", "svg", "png" or "pdf". Default: as the name of the file ends,
            Mermaid without a file. Images are drawn by the program `dot` of Graphviz.
        shapes: {input or other named connection: shape}, with None for unknown sizes; they are written at the edges.

    Returns:
        The text: of images, the Graphviz text that they were drawn from.

    Raises:
        MissingExtraError: An image is wanted, and Graphviz is not installed.
        OptionError: The format is not known, or an image has no path; or the model cannot be compiled.
        ShapeError: The shapes do not fit.
    """
    kind = format or ("mermaid" if path is None else os.path.splitext(os.fspath(path))[1].removeprefix("."))
    kind = kind.lower()
    if kind not in _TEXTS and kind not in _IMAGES:
        known = [*_TEXTS, *_IMAGES]
        near = difflib.get_close_matches(kind, known, 1)
        raise OptionError(
            explain(
                "there is no such format of drawings",
                expected=", ".join(known),
                given=repr(kind) if kind else f"a path without an ending, {os.fspath(path or '')!r}",
                where=user_frame(),
                do=f"did you mean '{near[0]}'?" if near else "name the file such as model.svg, or give format=",
            )
        )
    if kind in _IMAGES and path is None:
        raise OptionError(
            explain(f"a drawing as {kind} needs a path", where=user_frame(), do=f"give path='model.{kind}'")
        )
    made = _TEXTS.get(kind, dot)(part, shapes)
    if kind in _IMAGES:
        content = _graphviz(made, kind)
    else:
        content = made.encode()
    if path is not None:
        with open(path, "wb") as file:
            file.write(content)
    return made


def _graphviz(made: str, kind: str) -> bytes:
    """The image that Graphviz draws from its text."""
    program = shutil.which("dot")
    if program is None:
        raise MissingExtraError(
            explain(
                f"a drawing as {kind} is made by the program 'dot', which is not installed",
                where=user_frame(),
                do="install 'graphviz' from your system's packages (apt install graphviz, brew install graphviz); "
                "or draw to model.md, which needs nothing",
            )
        )
    try:
        done = subprocess.run([program, f"-T{kind}"], input=made.encode(), capture_output=True, timeout=_LONGEST)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OptionError(
            explain("Graphviz did not draw the model", given=error, do="draw to model.md instead")
        ) from error
    if done.returncode != 0 or not done.stdout:
        message = done.stderr.decode("utf-8", "replace").strip()
        raise OptionError(explain("Graphviz did not draw the model", given=message, do="draw to model.md instead"))
    return done.stdout


HOOKS["draw"] = draw
