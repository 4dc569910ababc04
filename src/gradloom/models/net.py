"""A composed model laid out flat: its layers in the order in which they run, and the wires between them.

`lay_out` follows nested models down to their layers, gives wires and parameters their final names, and finds what cannot
be: inputs that nobody connected, cycles, keys that do not exist.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable
from typing import Any

from ..errors import OptionError, explain, user_frame
from .interface import Step, Wire, dangling, interface
from .model import Model
from .part import Layer, Part


class Flat:
    """A wire of the whole network: an input, a parameter, a value, or a layer's output.

    Attributes:
        name: Of inputs, outputs and parameters; else the path of what gives it.
        shapes: What was set in the model and those around it: {shape: the user's line}.
        dtype, value, trainable: What was set.
        source: (leaf, key) that gives it.
        readers: [(leaf, key)].
        kind: "input", "parameter", "value" or "result".
    """

    __slots__ = ("dtype", "kind", "name", "readers", "shapes", "source", "trainable", "value")

    def __init__(self, name: str):
        self.name = name
        self.shapes: dict[Any, str] = {}
        self.dtype: Any = None
        self.value: Any = None
        self.trainable: bool | None = None
        self.source: tuple[Leaf, str] | None = None
        self.readers: list[tuple[Leaf, str]] = []
        self.kind = "result"

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"


class Leaf:
    """A layer of the network.

    Attributes:
        path: "encoder.linear"; "" for a layer that is compiled by itself.
        layer, line: The layer and the user's line that added it.
        inputs: {key: Flat, or a list of them}. parameters: {key: Flat} of those that were connected. outputs: {key: Flat}.
        shared: The first leaf of the same layer, whose parameters it uses; or None.
    """

    __slots__ = ("inputs", "layer", "line", "outputs", "parameters", "path", "shared")

    def __init__(self, path: str, layer: Layer, line: str):
        self.path, self.layer, self.line = path, layer, line
        self.inputs: dict[str, Any] = {}
        self.parameters: dict[str, Flat] = {}
        self.outputs: dict[str, Flat] = {}
        self.shared: Leaf | None = None

    @property
    def title(self) -> str:
        """Its path, for messages."""
        return self.path or self.layer.label

    def sources(self) -> Iterable[Flat]:
        """All wires that it reads."""
        for found in (*self.inputs.values(), *self.parameters.values()):
            yield from found if isinstance(found, list) else (found,)

    def __repr__(self) -> str:
        return f"<{self.title}>"


class Net:
    """The network: leaves in an order in which they can run; inputs, parameters and outputs by name."""

    def __init__(self) -> None:
        self.leaves: list[Leaf] = []
        self.inputs: dict[str, Flat] = {}
        self.outputs: dict[str, Flat] = {}
        self.parameters: dict[str, Flat] = {}  # wires that are parameters; those of layers are the layers'
        self.wires: list[Flat] = []
        self.frozen: list[str] = []
        self.patterns: list[str] = []  # those among them that name parameters, which there have to be

    def is_frozen(self, name: str) -> bool:
        """Whether the parameter of this name was frozen."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.frozen)


def lay_out(
    part: Part,
    trainable: Iterable[str] = (),
    data: Iterable[str] = (),
    constants: dict[str, Any] | None = None,
    discard: Iterable[str] = (),
    optional: Iterable[str] = (),
) -> Net:
    """The network of a model or a layer.

    Args:
        part: The model.
        trainable: Inputs that are to be parameters.
        data: Parameters that are to be inputs.
        constants: {input or parameter: its value}.
        discard: Outputs that are left out.
        optional: Inputs of a layer that may be left out, and are given.

    Raises:
        OptionError: Inputs are not connected, there is a cycle, or a key is unknown or in two sets.
    """
    return _Layout(part, set(optional)).run(set(trainable), set(data), dict(constants or {}), set(discard))


class _Layout:
    def __init__(self, part: Part, optional: set[str]):
        self.part, self.optional = part, optional
        self.net = Net()
        self.first: dict[Part, Leaf] = {}
        self.owned: dict[Wire, Flat] = {}  # parameters of models that are in the network more than once

    def run(self, trainable: set[str], data: set[str], constants: dict[str, Any], discard: set[str]) -> Net:
        net = self.net
        if isinstance(self.part, Model):
            bound = self.expand(self.part, "", {})
            outputs = {key: bound[key] for key in interface(self.part).outputs}
        else:
            given = {key: self.flat(key) for key in self.part.optional_keys if key in self.optional}
            leaf = self.leaf(self.part, "", user_frame(), given)
            outputs = leaf.outputs
        if not outputs:
            raise OptionError(explain("the model has no outputs", where=user_frame(), do="add a part to it"))
        self.order()
        self.kinds(outputs)
        for name, flat in outputs.items():
            flat.name, net.outputs[name] = name, flat
        self.choose(trainable, data, constants, discard)
        self.prune()
        return net

    # ------------------------------------------------------------------------------------------------------ expanding

    def flat(self, name: str) -> Flat:
        made = Flat(name)
        self.net.wires.append(made)
        return made

    def expand(self, model: Model, prefix: str, bound: dict[str, Flat]) -> dict[str, Flat]:
        """Lays out a model whose keys are bound to wires of its surroundings. Gives the wires of all its keys."""
        inputs, outputs, problems = interface(model)
        loose = [p for p in problems if p[1 : p.index("'", 1)] not in bound]
        if loose:
            raise OptionError(
                explain(
                    "inputs of the model are not connected, and cannot be told apart",
                    given="\n".join(loose),
                    do='name them: model |= layer(input="x")',
                )
            )
        for step in dangling(model):
            raise OptionError(
                explain(
                    f"{prefix}{step.name} goes nowhere: its output is neither read nor named",
                    where=step.line,
                    do='name it to make it an output of the model (output="y"), or leave the part out',
                )
            )
        self.net.frozen += [prefix + pattern for pattern in model._frozen]
        self.net.patterns += [prefix + pattern for pattern in model._frozen if pattern != "*"]
        if model.frozen:
            self.net.frozen.append(prefix + "*")
        table: dict[Any, Flat] = {}
        for key, slot in inputs.items():
            wire = slot[0].wires.get(slot[1]) if isinstance(slot, tuple) else slot
            table[slot if wire is None else wire] = bound.get(key) or self.flat(key if not prefix else prefix + key)
        for key, wire in outputs.items():
            if key in bound:
                table[wire] = bound[key]
        for key in model.parameter_keys:
            if key in bound:
                table[model._names[key]] = bound[key]

        def of(wire: Wire, step: Step, key: str) -> Flat:
            found = table.get(wire)
            if found is None:
                found = self.owned.get(wire)
            if found is None:
                found = self.flat(prefix + (wire.name or (f"{step.name}.{key}")))
                if wire.source is None:
                    self.owned[wire] = found
            table[wire] = found
            self.merge(found, wire)
            return found

        for step in model._steps:
            keys: dict[str, Any] = {}
            for key, wires in step.wires.items():
                keys[key] = [of(w, step, key) for w in wires] if isinstance(wires, list) else of(wires, step, key)
            for key in step.part.input_keys:
                if key not in keys:  # a free input; of several with one name only the first has a slot of its own
                    keys[key] = table.get((step, key)) or next(
                        flat for slot, flat in table.items() if type(slot) is tuple and slot[1] == key
                    )
                    if getattr(step.part, "variadic", False):
                        keys[key] = [keys[key]]
            path = prefix + step.name
            if isinstance(step.part, Model):
                inner = self.expand(step.part, path + ".", keys)
                for key, wires in step.wires.items():
                    if key in inner and key not in step.part.input_keys:
                        table[wires] = inner[key]
            else:
                self.leaf(step.part, path, step.line, keys)
        result = {key: table[wire] for key, wire in outputs.items() if wire in table}
        for key, wire in outputs.items():  # an output that nobody in the model reads may not have been met
            if key not in result:
                result[key] = of(wire, wire.source[0], wire.source[1])  # type: ignore[index]
        return result

    def merge(self, flat: Flat, wire: Wire) -> None:
        """Takes over what is known of a model's wire."""
        if wire.shape is not None:
            flat.shapes.setdefault(wire.shape, wire.line)
        flat.dtype = flat.dtype or wire.dtype
        flat.value = wire.value if flat.value is None else flat.value
        flat.trainable = wire.trainable if flat.trainable is None else flat.trainable

    def leaf(self, layer: Any, path: str, line: str, keys: dict[str, Any]) -> Leaf:
        leaf = Leaf(path, layer, line)
        leaf.shared = self.first.setdefault(layer, leaf)
        if leaf.shared is leaf:
            leaf.shared = None
            if layer.frozen:
                self.net.frozen.append(f"{path}.*" if path else "*")
        for key in (*layer.input_keys, *layer.optional_keys):
            if key in keys:
                leaf.inputs[key] = keys[key]
            elif key in layer.input_keys:
                leaf.inputs[key] = self.flat(key)
        for key in layer.parameter_keys:
            if key in keys:
                leaf.parameters[key] = keys[key]
        for key in layer.output_keys:
            out = keys.get(key)
            leaf.outputs[key] = out = self.flat(f"{path}.{key}" if path else key) if out is None else out
            out.source = (leaf, key)
        for group in (leaf.inputs, leaf.parameters):
            for key, found in group.items():
                for flat in found if isinstance(found, list) else (found,):
                    flat.readers.append((leaf, key))
        self.net.leaves.append(leaf)
        return leaf

    # --------------------------------------------------------------------------------------------------- the whole

    def order(self) -> None:
        """Sorts the leaves so that each runs after what it reads; as they were added, where that is possible."""
        done: set[Leaf] = set()
        ordered: list[Leaf] = []
        for root in self.net.leaves:
            stack: list[tuple[Leaf, Any]] = [(root, None)]
            open_leaves: dict[Leaf, None] = {}
            while stack:
                leaf, rest = stack.pop()
                if rest is None:
                    if leaf in done:
                        continue
                    if leaf in open_leaves:
                        cycle = [*list(open_leaves)[list(open_leaves).index(leaf) :], leaf]
                        raise OptionError(
                            explain(
                                "the model's connections form a cycle",
                                given=" -> ".join(x.title for x in reversed(cycle)),
                                where="\n".join(x.line for x in cycle[:-1]),
                                do="connect one of them to something else; for loops over time use a recurrent layer",
                            )
                        )
                    open_leaves[leaf] = None
                    rest = iter([w.source[0] for w in leaf.sources() if w.source is not None])
                follow = next(rest, None)
                if follow is None:
                    open_leaves.pop(leaf, None)
                    done.add(leaf)
                    ordered.append(leaf)
                else:
                    stack.append((leaf, rest))
                    if follow not in done:
                        stack.append((follow, None))
        self.net.leaves = ordered

    def kinds(self, outputs: dict[str, Flat]) -> None:
        for wire in self.net.wires:
            if wire.source is not None:
                wire.kind = "result"
            elif wire.trainable or (wire.value is None and wire.trainable is None and self.only_parameters(wire)):
                wire.kind = "parameter"
                self.net.parameters[wire.name] = wire
            elif wire.value is not None:
                wire.kind = "value"
            else:
                wire.kind = "input"
                self.net.inputs[wire.name] = wire

    @staticmethod
    def only_parameters(wire: Flat) -> bool:
        return bool(wire.readers) and all(key in leaf.parameters for leaf, key in wire.readers)

    def choose(self, trainable: set[str], data: set[str], constants: dict[str, Any], discard: set[str]) -> None:
        """Applies the key sets of `compile`."""
        net = self.net
        sets = {
            "trainable_keys": trainable, "data_keys": data, "constant_keys": set(constants), "discard_keys": discard
        }  # fmt: skip
        names = list(sets)
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                both = sets[a] & sets[b]
                if both:
                    raise OptionError(
                        explain(f"{a} and {b} overlap", given=", ".join(sorted(both)), where=user_frame())
                    )
        for name in trainable:
            wire = self.known(name, {**net.inputs, **net.parameters}, "trainable_keys")
            net.inputs.pop(name, None)
            wire.kind, net.parameters[name] = "parameter", wire
        for name in data:
            wire = self.known(name, {**net.inputs, **net.parameters, **self.layer_parameters()}, "data_keys")
            net.parameters.pop(name, None)
            wire = self.freed(name) if not isinstance(wire, Flat) else wire
            wire.kind, net.inputs[name] = "input", wire
        for name, value in constants.items():
            wire = self.known(name, {**net.inputs, **net.parameters, **self.layer_parameters()}, "constant_keys")
            net.inputs.pop(name, None)
            net.parameters.pop(name, None)
            wire = self.freed(name) if not isinstance(wire, Flat) else wire
            wire.kind, wire.value = "value", value
        for name in discard:
            self.known(name, net.outputs, "discard_keys")
            del net.outputs[name]
        if not net.outputs:
            raise OptionError(explain("discard_keys leaves the model no output", where=user_frame()))

    def layer_parameters(self) -> dict[str, Any]:
        """{name: (leaf, key)} of parameters of layers that can be connected."""
        return {
            f"{leaf.path}.{key}" if leaf.path else key: (leaf, key)
            for leaf in self.net.leaves
            if leaf.shared is None
            for key in leaf.layer.parameter_keys
            if key not in leaf.parameters
        }

    def freed(self, name: str) -> Flat:
        """A wire for a layer's own parameter, so that it can be given from outside."""
        first, key = self.layer_parameters()[name]
        wire = self.flat(name)
        for leaf in self.net.leaves:
            if leaf is first or leaf.shared is first:
                leaf.parameters[key] = wire
                wire.readers.append((leaf, key))
        return wire

    def known(self, name: str, among: dict[str, Any], what: str) -> Any:
        if name not in among:
            near = difflib.get_close_matches(name, among, 1)
            raise OptionError(
                explain(
                    f"{what} names '{name}', which the model does not have",
                    expected=", ".join(among) or "none",
                    where=user_frame(),
                    do=f"did you mean '{near[0]}'?" if near else None,
                )
            )
        return among[name]

    def prune(self) -> None:
        """Leaves out layers whose results no output needs."""
        needed: set[Leaf] = set()
        stack = [w.source[0] for w in self.net.outputs.values() if w.source]
        while stack:
            leaf = stack.pop()
            if leaf not in needed:
                needed.add(leaf)
                stack += [w.source[0] for w in leaf.sources() if w.source]
        if len(needed) < len(self.net.leaves):
            self.net.leaves = [leaf for leaf in self.net.leaves if leaf in needed]
            for wire in self.net.wires:
                wire.readers = [(leaf, key) for leaf, key in wire.readers if leaf in needed]
            for table in (self.net.inputs, self.net.parameters):
                for name in [n for n, w in table.items() if not w.readers]:
                    del table[name]
