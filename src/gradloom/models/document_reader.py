"""Reads documents of models (document.py has their form): every field is checked, and nothing in them is run or imported."""

from __future__ import annotations

import inspect
import re
from typing import Any

from ..errors import FileFormatError, OptionError
from .codec import (
    IN_EXPRESSIONS,
    IN_OPTIONS,
    IN_VALUES,
    Decoder,
    dtype_named,
    fault,
    fields,
    fits,
    hint_text,
    hints,
    identifier,
    is_value,
    near,
    of_type,
    registry,
    shape_of,
    short,
    strings,
)
from .connection import OPERATORS, function
from .interface import Step, Wire
from .model import Model
from .part import Apply, Layer, Part
from .train import FinalCost, TrainModel

FORMAT, VERSION = "gradloom model", 1
#: Names of parts become names of parameters, which are printed into the emitted source.
NAME = re.compile(r"\w+(\.\w+)*")
_DEEPEST = 50  # models inside of models
_MOST = 1_000_000  # layers, counting those of shared models each time


def read(document: Any, origin: str) -> Part:
    """The model of a document; `origin` is the file that it is from, or ""."""
    try:
        return _Reader(origin).whole(document)
    except FileFormatError as error:
        if not origin:
            raise
        raise FileFormatError(f"cannot load {origin}: {error}") from None


class _Reader:
    """Makes the parts of a document, in their order: a part can only contain earlier ones."""

    def __init__(self, origin: str):
        self.origin = origin or "a document"
        self.parts: list[Part] = []
        self.keys: list[tuple[str, ...]] = []
        self.sizes: list[tuple[int, int]] = []  # (how deep, how many layers)
        self.inside: list[int] = []  # what the part that is being read contains

    def whole(self, document: Any) -> Part:
        if type(document) is not dict or document.get("format") != FORMAT:
            raise fault("", "it is no document of a model", f'an object with "format": "{FORMAT}"', short(document))
        version = of_type(document.get("version"), int, "version", "a number")
        if version != VERSION:
            do = "update gradloom" if version > VERSION else None
            raise fault("version", "this version of the format is not known", VERSION, short(version), do)
        fields(document, "", ("format", "version", "parts"))
        entries = of_type(document["parts"], list, "parts", "a list")
        if not entries:
            raise fault("parts", "it has no parts")
        for i, entry in enumerate(entries):
            path = f"parts[{i}]"
            self.inside = []
            part = self.part(entry, path)
            depth = 1 + max((self.sizes[n][0] for n in self.inside), default=0)
            count = sum(self.sizes[n][1] for n in self.inside) + 1
            if depth > _DEEPEST or count > _MOST:
                raise fault(path, f"models are nested more than {_DEEPEST} deep, or have more than {_MOST} layers")
            try:
                self.keys.append(part.keys)
            except Exception as error:
                raise fault(path, "this part cannot be used", given=_first(error)) from error
            self.parts.append(part)
            self.sizes.append((depth, count))
        return self.parts[-1]

    def part(self, entry: Any, path: str) -> Part:
        of_type(entry, dict, path, "an object")
        kind = of_type(entry.get("type"), str, f"{path}.type", "a string")
        special = {"Model": self.model, "TrainModel": self.model, "Apply": self.apply, "FinalCost": self.cost}
        if kind in special:
            return special[kind](entry, path)
        cls = registry().get(kind)
        if cls is None:
            known = [*registry(), *special]
            do = near(kind, known) or "see gradloom.models for the layers that there are"
            raise fault(f"{path}.type", "there is no such layer", given=short(kind), do=do)
        fields(entry, path, ("type", "options"), ("frozen",))
        return self.thaw(self.layer(cls, entry["options"], f"{path}.options"), entry, path)

    def layer(self, cls: type[Layer], options: Any, path: str) -> Layer:
        known = hints(cls)
        needed = [
            n for n, p in inspect.signature(cls.__init__).parameters.items() if p.default is p.empty and n in known
        ]
        fields(options, path, needed, [n for n in known if n not in needed])
        given: dict[str, Any] = {}
        for name, value in options.items():
            place = f"{path}.{name}"
            given[name] = found = Decoder(IN_OPTIONS, self.contained).decode(value, place)
            if not fits(found, known[name]):
                raise fault(place, "this is of another type than it should be", hint_text(known[name]), short(value))
            if name == "name" and found is not None:
                self.name(found, place)
        try:
            return cls(**given)
        except Exception as error:  # whatever a constructor does with options that make no sense
            raise fault(path, f"{cls.__name__} cannot be made of these options", given=_first(error)) from error

    @staticmethod
    def thaw(part: Any, entry: dict[str, Any], path: str) -> Any:
        """Freezes the layer, where that is said."""
        if "frozen" in entry:
            part.frozen = of_type(entry["frozen"], bool, f"{path}.frozen", "true or false")
        return part

    @staticmethod
    def name(value: Any, path: str) -> str:
        if type(value) is not str or not NAME.fullmatch(value):
            raise fault(
                path, "this is no name of a part", "letters, digits, underscores, and dots between them", short(value)
            )
        return value

    def contained(self, value: Any, path: str) -> Part:
        """The part of a number."""
        if type(value) is not int or not 0 <= value < len(self.parts):
            raise fault(path, "this is no number of an earlier part", f"0 to {len(self.parts) - 1}", short(value))
        self.inside.append(value)
        return self.parts[value]

    def apply(self, entry: dict[str, Any], path: str) -> Part:
        fields(entry, path, ("type", "target", "args", "kwargs"), ("name", "frozen"))
        target = of_type(entry["target"], str, f"{path}.target", "a string")
        try:
            function(target)
        except OptionError:
            expected = "an operator, a method of Tensors, or an op: 'operator:add', 'method:mean', 'op:relu'"
            raise fault(
                f"{path}.target", "there is no such operation", expected, short(target),
                near(target, [f"operator:{n}" for n in OPERATORS]),
            ) from None  # fmt: skip
        decoder = Decoder(IN_EXPRESSIONS)
        args = of_type(entry["args"], list, f"{path}.args", "a list")
        kwargs = fields(entry["kwargs"], f"{path}.kwargs", (), entry["kwargs"])
        if kwargs and target.startswith("operator:"):
            raise fault(f"{path}.kwargs", "an operator takes no keywords", "{}", short(kwargs))
        template = (
            tuple(decoder.decode(a, f"{path}.args[{i}]") for i, a in enumerate(args)),
            {self.name(k, f"{path}.kwargs"): decoder.decode(a, f"{path}.kwargs.{k}") for k, a in kwargs.items()},
        )
        count = len(decoder.operands)
        if not count or decoder.operands != set(range(count)):
            raise fault(path, "the operands of an expression are numbered from 0", given=sorted(decoder.operands))
        name = None if entry.get("name") is None else self.name(entry["name"], f"{path}.name")
        return self.thaw(Apply(target, template, count, name), entry, path)

    def cost(self, entry: dict[str, Any], path: str) -> Part:
        fields(entry, path, ("type", "coefficients", "regularizers"), ("frozen",))
        made = FinalCost()
        for i, value in enumerate(of_type(entry["coefficients"], list, f"{path}.coefficients", "a list")):
            made.coefficients.append(self.number(value, f"{path}.coefficients[{i}]"))
        for i, value in enumerate(of_type(entry["regularizers"], list, f"{path}.regularizers", "a list")):
            place = f"{path}.regularizers[{i}]"
            fields(value, place, ("part", "coefficient", "keys"))
            layer, keys = self.contained(value["part"], f"{place}.part"), value["keys"]
            if not isinstance(layer, Layer) or len(layer.input_keys) != 1:
                raise fault(f"{place}.part", "a regularizer is a layer of one input", given=short(layer))
            if type(keys) is not str:
                keys = tuple(strings(keys, f"{place}.keys"))
            coefficient = self.number(value["coefficient"], f"{place}.coefficient")
            made.regularizers.append((layer, coefficient, keys, f"{self.origin}, {place}"))
        return self.thaw(made, entry, path)

    @staticmethod
    def number(value: Any, path: str) -> float:
        found = Decoder(frozenset(("float",))).decode(value, path)
        return float(of_type(found, (int, float), path, "a number"))

    # ------------------------------------------------------------------------------------------------------- models

    def model(self, entry: dict[str, Any], path: str) -> Part:
        trains = entry["type"] == "TrainModel"
        more = ("main", "cost") if trains else ()
        fields(entry, path, ("type", "connections", "steps"), ("name", "frozen", "unnamed", *more))
        model: Any = Model.__new__(TrainModel if trains else Model)
        name = entry.get("name")
        Model.__init__(model, None if name is None else identifier(name, f"{path}.name"))
        model._frozen = strings(entry.get("frozen", []), f"{path}.frozen")
        for name, known in of_type(entry["connections"], dict, f"{path}.connections", "an object").items():
            place = f"{path}.connections.{name}"
            model._names[name] = self.wire(Wire(identifier(name, place)), known, place)
        listed = of_type(entry.get("unnamed", []), list, f"{path}.unnamed", "a list")
        unnamed = [self.wire(Wire(), known, f"{path}.unnamed[{i}]") for i, known in enumerate(listed)]
        for i, step in enumerate(of_type(entry["steps"], list, f"{path}.steps", "a list")):
            self.step(model, step, unnamed, f"{path}.steps[{i}]")
        if trains:
            main, cost = entry.get("main"), entry.get("cost")
            if type(main) is not str or main not in model._names:
                raise fault(f"{path}.main", "this is no connection of the model", given=short(main))
            model._main, model._cost = main, None
            if cost is not None:
                if type(cost) is not int or not 0 <= cost < len(model._steps) or not _costs(model._steps[cost]):
                    raise fault(f"{path}.cost", "this is no step with the cost", given=short(cost))
                model._cost = model._steps[cost]
        return model

    def wire(self, wire: Wire, known: Any, path: str) -> Wire:
        fields(known, path, (), ("shape", "dtype", "value", "trainable", "expose"))
        if "shape" in known:
            wire.shape, wire.line = shape_of(known["shape"], f"{path}.shape", unknown=True), f"{self.origin}, {path}"
        if "dtype" in known:
            wire.dtype = dtype_named(known["dtype"], f"{path}.dtype")
        if "value" in known:
            wire.value = Decoder(IN_VALUES).decode(known["value"], f"{path}.value")
            is_value(wire.value, f"{path}.value")
        if "trainable" in known:
            wire.trainable = of_type(known["trainable"], bool, f"{path}.trainable", "true or false")
        if "expose" in known:
            wire.expose = of_type(known["expose"], bool, f"{path}.expose", "true or false")
        return wire

    def step(self, model: Model, entry: Any, unnamed: list[Wire], path: str) -> None:
        fields(entry, path, ("name", "part", "connections"))
        name = self.name(entry["name"], f"{path}.name")
        if any(s.name == name for s in model._steps):
            raise fault(f"{path}.name", "the model has a part of this name already", given=name)
        part = self.contained(entry["part"], f"{path}.part")
        keys = self.keys[entry["part"]]
        step = Step(part, name, f"{self.origin}, {path}")
        several = part.input_keys if getattr(part, "variadic", False) else ()
        outputs = set(part.output_keys)
        for key, given in of_type(entry["connections"], dict, f"{path}.connections", "an object").items():
            place = f"{path}.connections.{key}"
            if key not in keys:
                raise fault(place, f"{name} has no such connection", ", ".join(keys), short(key), near(key, keys))
            if key in several:
                of_type(given, list, place, "a list")
                step.wires[key] = [_wire_of(g, model, unnamed, f"{place}[{i}]") for i, g in enumerate(given)]
                continue
            step.wires[key] = wire = _wire_of(given, model, unnamed, place)
            if key in outputs:
                if wire.source is not None or wire.value is not None:
                    raise fault(
                        place, "this connection has a value, or is an output of a part, already", given=short(given)
                    )
                wire.source = (step, key)
        if isinstance(part, FinalCost) and len(step.wires.get("losses", ())) != len(part.coefficients):
            raise fault(path, "the cost has not as many losses as coefficients")
        model._steps.append(step)
        model._of.setdefault(part, []).append(step)


def _costs(step: Step) -> bool:
    return isinstance(step.part, FinalCost)


def _first(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _wire_of(given: Any, model: Model, unnamed: list[Wire], path: str) -> Wire:
    """The connection of a name or number."""
    if type(given) is str and given in model._names:
        return model._names[given]
    if type(given) is int and 0 <= given < len(unnamed):
        return unnamed[given]
    do = near(given, model._names) if type(given) is str else None
    expected = "a name in connections, or a number of one in unnamed"
    raise fault(path, "the model has no such connection", expected, short(given), do)
