"""Models as JSON and back: the architecture, not the parameters (`gradloom.save` is for these).

A document is plain JSON:

    {"format": "gradloom model", "version": 1, "parts": [...]}

`parts` lists each part once, after those that it contains; the last one is the whole. A part that a model has twice is
referred to twice, and so stays one. A layer is `{"type": class, "options": {...}}`, where the class is one of those that
`gradloom.models` exports: nothing is imported or evaluated. An expression is
`{"type": "Apply", "target": "operator:add", "args": [...], "kwargs": {...}}`. A model has `connections` by name with what
is known of them, `unnamed` ones, which are referred to by their number, and `steps`: parts, their names in the model, and
what their keys are connected to.

What JSON does not have is an object of one field: `{"tuple": [...]}`, `{"slice": [start, stop, step]}`,
`{"ellipsis": true}`, `{"float": "nan"}`, `{"dtype": "float32"}`, `{"dict": {...}}`, `{"operand": 0}` (of an expression),
`{"part": 2}`, `{"array": {...}}` and `{"tensor": {...}}`. An array has a `dtype`, and `data` as nested lists, or
`shape` and `base64` (little-endian) where it is larger or holds infinities or NaN. bfloat16 is held as float32.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from typing import Any

from ..errors import FileFormatError, OptionError, explain, user_frame
from .codec import encode, fits, hint_text, hints, near, registry, short
from .document_reader import FORMAT, NAME, VERSION, read
from .interface import Wire, interface
from .model import Model
from .part import Apply, Function, Layer, ModuleLayer, Part
from .train import FinalCost, TrainModel

__all__ = ["from_document", "from_json", "load_model", "save_model", "to_document", "to_json"]


# ------------------------------------------------------------------------------------------------------------ the API


def to_document(part: Part) -> dict[str, Any]:
    """The architecture of a model as plain JSON types.

    Parameters are not in it; values that were set in the model are. A subclass of `Model` is written as the `Model` that
    it is.

    Args:
        part: A model, or a layer.

    Raises:
        OptionError: A part cannot be written: an `nn.Module`, a function, a layer of your own.

    Example:
        >>> from gradloom.models import Linear, Model
        >>> from gradloom.models.document import from_document, to_document
        >>> model = Model()
        >>> model |= Linear(2)(input="x", output="y")
        >>> document = to_document(model)
        >>> document["parts"][0]
        {'type': 'Linear', 'options': {'dimension': 2, 'use_bias': True, 'name': None}}
        >>> document["parts"][1]["steps"]
        [{'name': 'linear', 'part': 0, 'connections': {'input': 'x', 'output': 'y'}}]
        >>> from_document(document).input_keys
        ('x',)
    """
    if not isinstance(part, Part):
        raise OptionError(
            explain("this is no model or layer of gradloom.models", given=type(part).__name__, where=user_frame())
        )
    writer = _Writer()
    writer.part(part, part.label)
    return {"format": FORMAT, "version": VERSION, "parts": writer.parts}


def from_document(document: Any) -> Part:
    """The model of a document.

    Args:
        document: What `to_document` gave, also after a trip through JSON. It need not be trusted: each field is checked,
            and nothing in it is run.

    Raises:
        FileFormatError: Something in it is wrong; the message says where.
    """
    return read(document, "")


def to_json(part: Part, indent: int | None = 2) -> str:
    """The architecture of a model as JSON text.

    Args:
        part: A model, or a layer.
        indent: Spaces per level; None for all in one line.

    Raises:
        OptionError: As for `to_document`.
    """
    document = to_document(part)
    if indent is None:
        return json.dumps(document, allow_nan=False)
    return _pretty(document, " " * indent, "") + "\n"


def from_json(text: str | bytes) -> Part:
    """The model of a JSON text.

    Raises:
        FileFormatError: It is not valid; the message says where.

    Example:
        >>> from gradloom.models import Relu
        >>> from gradloom.models.document import from_json, to_json
        >>> from_json(to_json(Relu()))
        Relu()
    """
    return read(_parsed(text, ""), "")


def save_model(part: Part, path: Any) -> None:
    """Writes the architecture of a model to a JSON file, which appears whole or not at all.

    Args:
        part: A model, or a layer.
        path: Where.

    Raises:
        OptionError: As for `to_document`.
    """
    text = to_json(part)
    target = os.path.realpath(os.fspath(path))
    draft = f"{target}.{secrets.token_hex(4)}.tmp"
    try:
        with open(draft, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


def load_model(path: Any) -> Part:
    """The model that `save_model` wrote. The file need not be trusted.

    Raises:
        FileFormatError: The file is damaged, cut off, or no model.
        FileNotFoundError: There is no such file.
    """
    with open(path, "rb") as file:
        content = file.read()
    origin = os.fspath(path)
    return read(_parsed(content, origin), origin)


def _parsed(text: Any, origin: str) -> Any:
    """JSON, more strictly than `json` has it: no name twice, no NaN."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError(f"a name is twice in one object: {short([k for k, _ in pairs])}")
        return found

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        if isinstance(text, (bytes, bytearray)):
            text = bytes(text).decode("utf-8")
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, TypeError, RecursionError) as error:
        raise FileFormatError(
            explain(
                "this is no JSON text, or it is damaged",
                expected="what save_model or to_json wrote",
                given="values nested too deep" if isinstance(error, RecursionError) else error,
                where=origin or None,
                do="use another copy",
            )
        ) from None


def _pretty(value: Any, indent: str, lead: str) -> str:
    """JSON text in which what fits into a line is in one."""
    flat = json.dumps(value, allow_nan=False)
    if not isinstance(value, (dict, list)) or len(flat) + len(lead) <= 100:
        return flat
    inside = lead + indent
    if isinstance(value, dict):
        items = [f"{json.dumps(k)}: {_pretty(v, indent, inside)}" for k, v in value.items()]
    else:
        items = [_pretty(v, indent, inside) for v in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{inside}" + f",\n{inside}".join(items) + f"\n{lead}{closing}"


# ----------------------------------------------------------------------------------------------------------- writing


class _Writer:
    """Parts as entries of a document."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Any]] = []
        self.numbers: dict[Part, int] = {}
        self.open: set[Part] = set()

    def part(self, part: Part, path: str) -> int:
        """The number of a part; it is written when it is first met."""
        if part not in self.numbers:
            if part in self.open:
                raise OptionError(explain("a part contains itself", where=path))
            self.open.add(part)
            entry = self.model(part, path) if isinstance(part, Model) else self.layer(part, path)
            self.open.discard(part)
            self.numbers[part] = len(self.parts)
            self.parts.append(entry)
        return self.numbers[part]

    def layer(self, part: Any, path: str) -> dict[str, Any]:
        if type(part) is Apply:
            args, kwargs = part.template
            entry: dict[str, Any] = {
                "type": "Apply",
                "target": part.target,
                "args": [encode(a, f"{path}, argument {i}") for i, a in enumerate(args)],
                "kwargs": {k: encode(a, f"{path}, {k}=") for k, a in kwargs.items()},
            }
            if part.name is not None:
                entry["name"] = _named(part.name, path)
        elif type(part) is FinalCost:
            entry = {"type": "FinalCost", "coefficients": [encode(c, path) for c in part.coefficients]}
            entry["regularizers"] = [
                {
                    "part": self.part(layer, f"{path}.{layer.label}"),
                    "coefficient": encode(c, path),
                    "keys": _keys(keys, path),
                }
                for layer, c, keys, _ in part.regularizers
            ]
        else:
            if registry().get(type(part).__name__) is not type(part):
                raise _refused(part, path)
            entry = {"type": type(part).__name__, "options": self.options(part, path)}
        if part.frozen:
            entry["frozen"] = True
        return entry

    def options(self, layer: Layer, path: str) -> dict[str, Any]:
        given, known = layer.options(), hints(type(layer))
        for name in known:
            if name not in given:
                raise OptionError(explain(f"{type(layer).__name__} does not keep its option '{name}'", where=path))
            if not fits(given[name], known[name]):
                raise OptionError(
                    explain(
                        f"the option '{name}' of {type(layer).__name__} is of another type than it should be",
                        expected=hint_text(known[name]),
                        given=short(given[name]),
                        where=path,
                    )
                )
        return {
            n: _named(v, path) if n == "name" and v else encode(v, f"{path}, {n}=", self.part) for n, v in given.items()
        }

    def model(self, model: Model, path: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "TrainModel" if isinstance(model, TrainModel) else "Model"}
        if model.name is not None:
            entry["name"] = model.name
        patterns = [*model._frozen, *(["*"] if model.frozen else [])]
        if patterns:
            entry["frozen"] = patterns
        interface(model)  # makes the wires of its outputs
        uses: dict[Wire, int] = {}
        for step in model._steps:
            for key in step.wires:
                for wire in step.flat(key):
                    uses[wire] = uses.get(wire, 0) + 1
        entry["connections"] = {n: _known(w, f"{path}.{n}") for n, w in model._names.items()}
        unnamed: list[dict[str, Any]] = []
        numbers: dict[Wire, Any] = {w: n for n, w in model._names.items()}
        steps = []
        for step in model._steps:
            place = f"{path}.{step.name}"
            connections: dict[str, Any] = {}
            keys = step.part.keys
            for key, wires in step.wires.items():
                if key not in keys:
                    raise OptionError(
                        explain(f"{step.name} no longer has the connection '{key}'", where=f"{path} ({step.line})")
                    )
                for wire in step.flat(key):
                    if wire in numbers:
                        continue
                    known = _known(wire, f"{place}.{key}")
                    if wire.source is None or uses[wire] > 1 or known:
                        numbers[wire] = len(unnamed)
                        unnamed.append(known)
                if isinstance(wires, list):
                    connections[key] = [numbers[w] for w in wires]
                elif wires in numbers:  # else an output that nobody reads
                    connections[key] = numbers[wires]
            steps.append(
                {"name": _named(step.name, path), "part": self.part(step.part, place), "connections": connections}
            )
        if unnamed:
            entry["unnamed"] = unnamed
        entry["steps"] = steps
        if isinstance(model, TrainModel):
            entry["main"] = model._main
            if model._cost is not None:
                entry["cost"] = model._steps.index(model._cost)
        return entry


def _known(wire: Wire, path: str) -> dict[str, Any]:
    """What is known of a connection."""
    found: dict[str, Any] = {}
    if wire.shape is not None:
        found["shape"] = list(wire.shape)
    if wire.dtype is not None:
        found["dtype"] = wire.dtype.name
    if wire.value is not None:
        found["value"] = encode(wire.value, path)
    if wire.trainable is not None:
        found["trainable"] = bool(wire.trainable)
    if wire.expose:
        found["expose"] = True
    return found


def _named(name: Any, path: str) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise OptionError(
            explain(
                "a document cannot hold a part of this name",
                expected="letters, digits, underscores, and dots between them",
                given=repr(name),
                where=path,
            )
        )
    return name


def _keys(keys: Any, path: str) -> Any:
    if isinstance(keys, str):
        return keys
    if isinstance(keys, (tuple, list)) and all(isinstance(k, str) for k in keys):
        return list(keys)
    raise OptionError(
        explain(
            "a document cannot hold a regular expression",
            expected="names of parameters, or patterns as file names have them",
            given=short(keys),
            where=path,
            do="give add_regularization keys='*.weight', or a list of such patterns",
        )
    )


def _refused(part: Part, path: str) -> OptionError:
    name = type(part).__name__
    if isinstance(part, Function):
        problem, given = "holds a Python function, which a document cannot", repr(part.fn)
        do = "write it with operators and ops of gradloom on connections, or as layers of gradloom.models"
    elif isinstance(part, ModuleLayer):
        problem, given = "is an nn.Module, which a document cannot hold", type(part.module).__name__
        do = "use the layer of gradloom.models in its place, or keep the code that makes it"
    else:
        problem, given = "is of a class of your own, which a document cannot hold", name
        do = near(name, registry()) or "compose it of layers of gradloom.models, or keep the code that makes it"
    return OptionError(explain(f"the part {path} {problem}", expected="layers of gradloom.models", given=given, do=do))
