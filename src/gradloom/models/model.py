"""`Model`: parts and how they are connected. A definition; it holds no arrays but those that it was given."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterator
from typing import Any, Self

from ..errors import OptionError, ShapeError, explain, user_frame
from ..ops.op import kind_of
from .connection import Connection, Expression, IOKey, Port, check_name, to_shape
from .interface import Step, Wire, interface
from .part import HOOKS, Part, Result, Wired, applied, as_part, unknown_key


class Model(Part):
    """A model composed of parts, compiled by `gradloom.compile` for a backend.

    `model |= part` adds a part, `model += part` adds one and connects its input with the last part's output. Names connect:
    two parts that name the same connection share it. A part that is added twice is one part: its parameters are shared.

    Args:
        name: Its name inside of other models.

    Example:
        >>> import gradloom as gl
        >>> from gradloom.models import Model, Linear, Relu
        >>> model = Model()
        >>> model |= Linear(128)(input="image")
        >>> model += Relu()
        >>> model += Linear(10)(output="logits")
        >>> model.input_keys, model.output_keys
        (('image',), ('logits',))
        >>> compiled = gl.compile(model, "numpy", shapes={"image": [32, 784]})
        >>> {name: p.shape for name, p in compiled.get_parameters().items()}
        {'linear.weight': (128, 784), 'linear.bias': (128,), 'linear_1.weight': (10, 128), 'linear_1.bias': (10,)}
    """

    def __init__(self, name: str | None = None):
        if name is not None:
            check_name(name)
        self.name = name
        self._steps: list[Step] = []
        self._taken: dict[str, int] = {}  # names of steps, with the number that the next one of the name gets
        self._names: dict[str, Wire] = {}
        self._wires: dict[Connection, Wire] = {}  # of unnamed keys and expressions
        self._of: dict[Part, list[Step]] = {}
        self._added: dict[Wired, Step] = {}
        self._frozen: list[str] = []

    # ------------------------------------------------------------------------------------------------------ building

    def __ior__(self, other: Any) -> Self:
        """Adds a part, a call of one, or an expression."""
        self._add(other, chain=False)
        return self

    def __iadd__(self, other: Any) -> Self:
        """Adds a part, and connects its input with the output of the last one."""
        self._add(other, chain=True)
        return self

    def add(self, part: Any, **connections: Any) -> Wired:
        """Adds a part with connections, as `|=` does; gives the call, whose outputs are connections."""
        wired = as_part(part).connect(**connections)
        self._add(wired, chain=False)
        return wired

    @classmethod
    def create(cls, *, name: str | None = None, **outputs: Any) -> Self:
        """The model that computes these outputs: the functional way to write one.

        Args:
            name: The model's name.
            outputs: {name of an output: connection, expression or called part}.

        Example:
            >>> from gradloom.models import Input, Linear, Model, Relu
            >>> x = Input("x")
            >>> h = Relu()(Linear(16)(x))
            >>> model = Model.create(output=Linear(4)(h) + Linear(4)(x))
            >>> model.input_keys, model.output_keys
            (('x',), ('output',))
        """
        model = cls(name=name)
        model.set_outputs(**outputs)
        return model

    def _add(self, other: Any, chain: bool) -> None:
        if isinstance(other, (Expression, Result)):
            self._wire(other)
            return
        if other is self or (isinstance(other, Wired) and other.part is self):
            raise OptionError(explain("a model cannot be a part of itself", where=user_frame()))
        wired = other if isinstance(other, Wired) else Wired(as_part(other), {})
        if wired in self._added:
            return
        last = self._steps[-1] if self._steps else None
        connections = dict(wired.connections)
        if chain and last is not None and wired.part.input_keys and wired.part.input_keys[0] not in connections:
            if not last.part.output_keys:
                raise OptionError(explain(f"{last.name} has no output that += could connect", where=wired.line))
            connections[wired.part.input_keys[0]] = self._output(last, last.part.output_keys[0])
        self._put(wired, connections)

    def _put(self, wired: Wired, connections: dict[str, Any]) -> Step:
        """Adds a step. Nothing is added when a connection is wrong."""
        part = wired.part
        wires: dict[str, Any] = {}
        outputs = set(part.output_keys)
        for key, value in connections.items():
            if key not in part.keys:
                raise unknown_key(part, key)
            if isinstance(value, (list, tuple)) and not _is_number_list(value):
                if not getattr(part, "variadic", False) or key not in part.input_keys:
                    raise OptionError(
                        explain(f"'{key}' of {part.label} takes one connection", given=repr(value), where=wired.line)
                    )
                wires[key] = [self._wire(v) for v in value]
            else:
                wires[key] = self._wire(value)
                if getattr(part, "variadic", False) and key in part.input_keys:
                    wires[key] = [wires[key]]
        step = Step(part, self._free_name(part), wired.line)
        for key in outputs & wires.keys():
            wire = wires[key]
            if wire.source is not None or wire.value is not None:
                by = (
                    f"the output of {wire.source[0].name}, added at {wire.source[0].line}" if wire.source else "a value"
                )
                raise OptionError(
                    explain(
                        f"the connection '{wire.name}' cannot be the output '{key}' of {step.name}: it is already {by}",
                        where=wired.line,
                        do="give the output another name",
                    )
                )
        for key in outputs & wires.keys():
            wires[key].source = (step, key)
        step.wires = wires
        self._steps.append(step)
        self._taken[step.name] = 1
        if step.name != part.label:
            self._taken[part.label] = int(step.name.rpartition("_")[2]) + 1
        self._of.setdefault(part, []).append(step)
        self._added[wired] = step
        return step

    def _free_name(self, part: Part) -> str:
        taken = self._taken
        if not re.fullmatch(r"\w+(\.\w+)*", part.label):  # names stand in the emitted source
            raise OptionError(
                explain(
                    "the name of a part is made of letters, digits and underscores",
                    given=repr(part.label),
                    where=user_frame(),
                )
            )
        if part.name is not None and part.name in taken and part not in self._of:
            raise OptionError(
                explain(
                    f"the model has a part '{part.name}' already", where=user_frame(), do="give this one another name"
                )
            )
        base = name = part.label
        k = taken.get(base, 0)
        while name in taken:
            name = f"{base}_{k}"
            k += 1
        return name

    # ----------------------------------------------------------------------------------------------------- resolving

    def _output(self, step: Step, key: str) -> Wire:
        """The wire of a step's output; made when somebody first asks."""
        wire = step.wires.get(key)
        if wire is None:
            wire = step.wires[key] = Wire()
            wire.source = (step, key)
        return wire

    def _wire(self, value: Any) -> Wire:
        """The wire that a name, connection, expression or value stands for."""
        if isinstance(value, Wire):
            return value
        if isinstance(value, str):
            check_name(value)
            return self._names.setdefault(value, Wire(value))
        if isinstance(value, IOKey):
            return self._key(value)
        if isinstance(value, Wired):
            step = self._added.get(value) or self._put(value, value.connections)
            return self._output(step, value.part.output_keys[0])
        if isinstance(value, Result):
            step = self._added.get(value.wired) or self._put(value.wired, value.wired.connections)
            return self._port(step, value.key)
        if isinstance(value, Expression):
            wire = self._wires.get(value)
            if wire is None:
                part, connections = applied(value)
                step = self._put(_at(Wired(part, {}), value.line), connections)
                wire = self._wires[value] = self._output(step, "output")
            return wire
        if isinstance(value, Port):
            return self._of_port(value)
        if isinstance(value, (bool, int, float)) or kind_of(type(value)) is not None or _is_number_list(value):
            wire = Wire()
            wire.value = value
            return wire
        raise OptionError(
            explain(
                "this is no connection",
                expected="a name, an IOKey, the output of a part, an expression, or a value (an array, a number)",
                given=repr(value),
                where=user_frame(),
            )
        )

    def _key(self, key: IOKey) -> Wire:
        wire = self._wires.get(key)
        if wire is None:
            wire = self._names.setdefault(key.name, Wire(key.name)) if key.name is not None else Wire()
            self._wires[key] = wire
            self._tell(wire, key.line, shape=key.shape, dtype=key.dtype, value=key.value, trainable=key.trainable)
            wire.expose = wire.expose or bool(key.expose)
        return wire

    def _tell(self, wire: Wire, line: str, **known: Any) -> None:
        """Notes what is known of a wire; raises if something else was known."""
        for what, new in known.items():
            if new is None:
                continue
            old = getattr(wire, what)
            if old is None or what == "value":
                setattr(wire, what, new)
                if what == "shape":
                    wire.line = line
            elif what == "shape":
                if len(old) != len(new) or any(
                    a is not None and b is not None and a != b for a, b in zip(old, new, strict=True)
                ):
                    raise ShapeError(
                        explain(
                            f"the connection '{wire.name}' is given two shapes",
                            given=f"{_text(old)}, set at {wire.line}\n{_text(new)}, set at {line}",
                        )
                    )
                wire.shape = tuple(b if a is None else a for a, b in zip(old, new, strict=True))
            elif old != new:
                raise OptionError(
                    explain(f"the connection '{wire.name}' has {what}={old} already", given=f"{what}={new}", where=line)
                )

    def _port(self, step: Step, key: str) -> Wire:
        if key in step.part.output_keys:
            return self._output(step, key)
        if key not in step.part.keys:
            raise unknown_key(step.part, key)
        wire = step.wires.get(key)
        if isinstance(wire, list):
            raise OptionError(explain(f"'{key}' of {step.name} takes several connections", where=user_frame()))
        if wire is None:
            wire = step.wires[key] = Wire()
        return wire

    def _of_port(self, port: Port) -> Wire:
        if port.part is self:
            wire = self._names.get(port.key)
            if wire is None:
                wire = next((w for k, w in interface(self).outputs.items() if k == port.key), None)
            if wire is None:
                slot = interface(self).inputs.get(port.key)
                wire = self._port(*slot) if isinstance(slot, tuple) else slot
            if wire is None:
                raise unknown_key(self, port.key)
            return wire
        steps = self._of.get(port.part, [])
        if len(steps) != 1:
            problem = "is not a part of this model" if not steps else f"is in this model {len(steps)} times"
            raise OptionError(
                explain(
                    f"{port.part.label}, whose connection '{port.key}' is used, {problem}",
                    where=user_frame(),
                    do="add it first (model |= ...)" if not steps else "connect by a name",
                )
            )
        return self._port(steps[0], port.key)

    # ----------------------------------------------------------------------------------------------------- interface

    @property
    def input_keys(self) -> tuple[str, ...]:
        """Names of the inputs that have to be given or connected."""
        return tuple(interface(self).inputs)

    @property
    def output_keys(self) -> tuple[str, ...]:
        """Names of the outputs; the last part's first, as that is what `+=` connects."""
        outputs = interface(self).outputs
        main = next((k for k, w in outputs.items() if w.source and w.source[0] is self._steps[-1]), None)
        return tuple(outputs) if main is None else (main, *(k for k in outputs if k != main))

    @property
    def parameter_keys(self) -> tuple[str, ...]:
        """Names of connections that are parameters of this model itself: trainable ones, and shared ones."""
        inputs, outputs, _ = interface(self)
        return tuple(
            n
            for n, w in self._names.items()
            if w.source is None and w.value is None and n not in inputs and n not in outputs
        )

    def __getitem__(self, name: str) -> Connection:
        """The connection of that name."""
        if name not in self._names and name not in self.keys:
            near = difflib.get_close_matches(name, [*self._names, *self.keys], 1)
            raise OptionError(
                explain(
                    f"the model has no connection '{name}'",
                    expected=", ".join(dict.fromkeys([*self._names, *self.keys])),
                    where=user_frame(),
                    do=f"did you mean '{near[0]}'?" if near else None,
                )
            )
        return Port(self, name)

    def __getattr__(self, key: str) -> Any:  # only called for what is no attribute
        if key.startswith("_"):
            raise AttributeError(key)
        if key in self._names:
            return Port(self, key)
        return super().__getattr__(key)

    def parts(self) -> Iterator[tuple[str, Part]]:
        """(name, part) in the order in which they were added."""
        for step in self._steps:
            yield step.name, step.part

    def __len__(self) -> int:
        return len(self._steps)

    def __bool__(self) -> bool:
        return True

    # ------------------------------------------------------------------------------------------------------ changing

    def set_outputs(self, *names: str, **outputs: Any) -> None:
        """Makes connections outputs of the model.

        Args:
            names: Connections that are outputs also if other parts read them.
            outputs: {name: connection, expression or called part}; they get that name.
        """
        for name in names:
            self._wire(self[name]).expose = True
        for name, connection in outputs.items():
            check_name(name)
            wire = self._wire(connection)
            other = self._names.get(name)
            if wire.name not in (None, name) or other not in (None, wire):
                raise OptionError(
                    explain(
                        f"the output cannot be called '{name}'",
                        given=f"it is called '{wire.name}' already"
                        if wire.name
                        else f"another connection is called '{name}'",
                        where=user_frame(),
                        do="use model.rename(old, new) first",
                    )
                )
            wire.name, wire.expose = name, True
            self._names[name] = wire

    def rename(self, old: str, new: str) -> None:
        """Gives a connection of this model another name."""
        check_name(new)
        wire = self._wire(self[old])
        if new in self._names:
            raise OptionError(explain(f"the model has a connection '{new}' already", where=user_frame()))
        if wire.name is not None:
            del self._names[wire.name]
        wire.name = new
        self._names[new] = wire

    def set_shapes(self, shapes: dict[str, Any] | None = None, **more: Any) -> None:
        """Sets shapes of connections, with None for unknown sizes."""
        for name, shape in {**(shapes or {}), **more}.items():
            self._tell(self._named(name), user_frame(), shape=to_shape(shape))

    def set_values(self, values: dict[str, Any] | None = None, **more: Any) -> None:
        """Sets values of inputs: they are fixed, and no longer inputs; a trainable connection starts with its value."""
        for name, value in {**(values or {}), **more}.items():
            wire = self._named(name)
            if wire.source is not None:
                raise OptionError(
                    explain(
                        f"'{name}' is the output of {wire.source[0].name}, so it has no value of its own",
                        where=user_frame(),
                    )
                )
            wire.value = value

    def set_dtypes(self, dtypes: dict[str, Any] | None = None, **more: Any) -> None:
        """Sets dtypes of connections."""
        for name, d in {**(dtypes or {}), **more}.items():
            self._tell(self._named(name), user_frame(), dtype=IOKey(dtype=d).dtype)

    def set_trainable(self, *names: str, trainable: bool = True) -> None:
        """Makes inputs parameters of the model, or with False data."""
        for name in names:
            self._named(name).trainable = trainable

    def _named(self, name: str) -> Wire:
        wire = self._wire(self[name])
        if wire.name is None:  # it had the name of a part's key only: now it is a name
            wire.name = name
            self._names[name] = wire
        return wire

    def freeze(self, *patterns: str) -> Self:
        """Parameters are not trained in models compiled from now on.

        Args:
            patterns: Of parameters' names, as file names have them: "encoder.*", "*.bias". Default: all.
        """
        self._frozen += patterns or ("*",)
        return self

    def unfreeze(self) -> Self:
        """Parameters are trained again, but those of parts that were frozen by themselves."""
        self._frozen.clear()
        return self

    def copy(self, name: str | None = None) -> Self:
        """A model of the same structure with parts, and so parameters, of its own."""
        made = copy.deepcopy(self)
        if name is not None:
            check_name(name)
            made.name = name
        return made

    def draw(self, path: Any = None, format: str | None = None, shapes: Any = None) -> str:
        """Draws the model: the Mermaid text, or with a path a file (.mmd, .md, .dot, .svg, .png, .pdf).

        Args:
            path, format, shapes: As for `gradloom.models.draw`.

        Example:
            >>> import gradloom as gl
            >>> model = gl.Model()
            >>> model |= gl.models.Relu()(input="x")
            >>> print(model.draw(), end="")
            flowchart TD
              n0(["x"])
              n1["relu<br/>Relu"]
              n2(["output"])
              n0 --> n1
              n1 --> n2
        """
        return HOOKS["draw"](self, path, format, shapes)

    def summary(self, shapes: Any = None, backend: Any = None, width: int = 100) -> Any:
        """A table of the model's layers, with `.rows` and `.totals` as data.

        Args:
            shapes, backend, width: As for `gradloom.models.summary`.
        """
        return HOOKS["summary"](self, shapes, backend, width)

    def __repr__(self) -> str:
        if not self._steps:
            return f"{type(self).__name__}()"
        lines = []
        for step in self._steps:
            inner = repr(step.part).replace("\n", "\n  ")
            lines.append(f"  ({step.name}): {inner}")
        return f"{type(self).__name__}(\n" + "\n".join(lines) + "\n)"


def _at(wired: Wired, line: str) -> Wired:
    wired.line = line
    return wired


def _is_number_list(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and bool(value)
        and all(isinstance(v, (bool, int, float)) or _is_number_list(v) for v in value)
    )


def _text(shape: Any) -> str:
    return "[" + ", ".join("?" if n is None else str(n) for n in shape) + "]"
