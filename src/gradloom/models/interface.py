"""What a model looks like from outside: its inputs and outputs, found from how its parts are connected."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from .part import Part


class Wire:
    """A connection inside of one model: what it is called, what is known of it, what gives it.

    Attributes:
        name: None for one that was not named.
        shape, dtype, value, trainable, expose: As in `IOKey`.
        line: Where the shape was set.
        source: (step, output key) that gives it; None for an input.
    """

    __slots__ = ("dtype", "expose", "line", "name", "shape", "source", "trainable", "value")

    def __init__(self, name: str | None = None):
        self.name = name
        self.shape: Any = None
        self.dtype: Any = None
        self.value: Any = None
        self.trainable: bool | None = None
        self.expose = False
        self.line = ""
        self.source: tuple[Step, str] | None = None


class Step:
    """A part in a model.

    Attributes:
        part, name, line: The part, its name here, and the user's line that added it.
        wires: {key: Wire, or a list of them}; the keys that are connected.
    """

    __slots__ = ("line", "name", "part", "wires")

    def __init__(self, part: Part, name: str, line: str):
        self.part, self.name, self.line = part, name, line
        self.wires: dict[str, Any] = {}

    def flat(self, key: str) -> list[Wire]:
        """The wires of a key."""
        found = self.wires.get(key, [])
        return found if isinstance(found, list) else [found]


class Interface(NamedTuple):
    """The keys of a model.

    Attributes:
        inputs: {name: Wire, or (step, key) where nothing was connected yet}.
        outputs: {name: Wire}.
        problems: Inputs that cannot be told apart.
    """

    inputs: dict[str, Any]
    outputs: dict[str, Wire]
    problems: list[str]


_ASKED = threading.local()  # .seen: {model: its interface}, while one is asked for


def interface(model: Any) -> Interface:
    """The keys of a model.

    A model asks its parts several times each; within one question from outside, a model inside is looked at once.
    """
    seen = _ASKED.__dict__.setdefault("seen", {})
    outermost = not seen
    try:
        if model not in seen:
            seen[model] = None  # not empty: the question is open
            seen[model] = _looked_at(model)
        return seen[model]
    finally:
        if outermost:
            seen.clear()


def _looked_at(model: Any) -> Interface:
    from_data: dict[Wire, bool] = {}  # wires that are read: as data, or only as parameters
    slots: list[tuple[Step, str, Wire | None]] = []  # in the order in which they are read
    for step in model._steps:
        part = step.part
        parameters = set(part.parameter_keys)
        for key in (*part.input_keys, *part.optional_keys, *part.parameter_keys):
            for w in step.flat(key):
                from_data[w] = from_data.get(w, False) or key not in parameters
                slots.append((step, key, w))
            if key in part.input_keys and key not in step.wires:
                slots.append((step, key, None))
    inputs: dict[str, Any] = {}
    loose: dict[str, list[tuple[Step, str, Wire | None]]] = {}
    for step, key, wire in slots:
        if wire is None:
            loose.setdefault(key, []).append((step, key, wire))
            inputs.setdefault(key, (step, key))
        elif wire.source is None and wire.value is None and not wire.trainable:
            if not from_data[wire] and wire.trainable is None:
                continue  # it feeds parameters of layers only: it is one
            if wire.name is None:
                loose.setdefault(key, []).append((step, key, wire))
                inputs.setdefault(key, (step, key))
            elif not isinstance(inputs.get(wire.name), Wire):
                inputs[wire.name] = wire
    problems: list[str] = []
    for key, found in loose.items():
        several = len({id(step if wire is None else wire) for step, _, wire in found}) > 1
        if several or key in model._names:
            places = " and of ".join(f"{step.name} ({step.line})" for step, _, _ in found)
            also = ", which is also the name of another connection" if key in model._names else ""
            problems.append(f"'{key}' of {places}{also}")
    return Interface(inputs, _results(model, set(from_data)), problems)


def dangling(model: Any) -> list[Step]:
    """Parts that give nothing: their outputs are neither read, nor named, nor the model's."""
    outputs = set(interface(model).outputs.values())
    read = {
        w for step in model._steps for key in step.wires if key not in step.part.output_keys for w in step.flat(key)
    }
    return [
        step
        for step in model._steps
        if not any(w in read or w in outputs or w.name for key in step.part.output_keys for w in step.flat(key))
    ]


def _results(model: Any, read: set[Wire]) -> dict[str, Wire]:
    """The outputs: what is named and not read, or exposed; and the last main output that is neither."""
    outputs: dict[str, Wire] = {}
    last: Wire | None = None
    for step in model._steps:
        for i, key in enumerate(step.part.output_keys):
            wire = step.wires.get(key)
            if wire is not None and wire.name is not None:
                if wire not in read or wire.expose:
                    outputs[wire.name] = wire
            elif i == 0 and (wire is None or wire not in read):
                last = model._output(step, key)
    if last is not None and "output" not in model._names:
        outputs["output"] = last
    return outputs
