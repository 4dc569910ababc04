"""A composed model as an `nn.Module`: its layers' modules under their paths, and `forward`, which calls them in order."""

from __future__ import annotations

import contextlib
import copy
import fnmatch
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from .. import random
from ..backends.base import Backend
from ..backends.registry import backend_of, default_backend, get_backend, using_backend
from ..backends.shapes import Spec
from ..errors import OptionError, ShapeError, explain, user_frame
from ..graph.trace import Trace
from ..nn import init
from ..nn.module import Module
from ..nn.parameter import Buffer, Parameter
from ..tensor.arrays import wrap
from ..tensor.creation import default_generator, empty
from ..tensor.grad_mode import no_grad
from ..tensor.tensor import Tensor
from .model import Model
from .net import Flat, Leaf, Net, lay_out
from .part import HOOKS, ModuleLayer, Part, Shape, Unknown
from .shapes import Inference, text


class Group(Module):
    """The modules of a nested model; it only holds them."""


class Network(Module):
    """A composed model, as a module: it trains and saves like any other.

    `forward` takes the inputs by position, in the order of `input_keys`, or by name. It gives a Tensor, or a dict where the
    model has several outputs.

    Attributes:
        input_keys, output_keys: Names.
        trainable: {name of a parameter: whether it is trained}.
    """

    def __init__(self, net: Net, modules: dict[Leaf, Any], shapes: dict[Flat, Shape], dtypes: dict, backend: Backend):
        super().__init__()
        self.__dict__["net"] = net
        self.input_keys, self.output_keys = tuple(net.inputs), tuple(net.outputs)
        self.__dict__["_own"] = own = {}
        with using_backend(backend):
            for name, wire in net.parameters.items():
                own[wire] = self._put(name, self._parameter(wire, shapes, dtypes))
            for k, wire in enumerate(w for w in net.wires if w.kind == "value" and w.readers):
                if isinstance(wire.value, (bool, int, float)):
                    own[wire] = wire.value
                else:
                    value = constant(wire.value, backend, wire.dtype)
                    own[wire] = self._put(f"values.{k}", Buffer(value, persistent=False))
        for leaf in net.leaves:
            module = modules[leaf.shared or leaf]
            if isinstance(module, Module) and leaf.shared is None:
                self._put(leaf.path or "layer", module)
        self.__dict__["_tied"] = set()  # (module, key) of parameters that are the network's
        self.__dict__["_spared"] = {}  # (module, key) -> its own parameter, which is not used
        calls: dict[Leaf, list[Leaf]] = {}
        for leaf in net.leaves:
            calls.setdefault(leaf.shared or leaf, []).append(leaf)
        for leaf, leaves in calls.items():
            self._tie(leaves, modules[leaf])
        self.__dict__["_calls"] = [self._call(leaf, modules[leaf.shared or leaf]) for leaf in net.leaves]
        self.__dict__["_made_elsewhere"] = tuple(
            (leaf.path or "layer") + "." for leaf in net.leaves if isinstance(leaf.layer, ModuleLayer)
        )
        names = [self.public(name) for name, _ in self.named_parameters()]
        for pattern in net.patterns:
            if not fnmatch.filter(names, pattern):
                raise OptionError(explain(f"freeze: no parameter is called {pattern!r}", expected=", ".join(names)))
        for name, parameter in self.named_parameters():
            if net.is_frozen(self.public(name)):
                parameter.requires_grad_(False)

    # ------------------------------------------------------------------------------------------------------ building

    def public(self, name: str) -> str:
        """The name that users see of a parameter: a layer that is compiled by itself has no path."""
        return name.removeprefix("layer.") if len(self.net.leaves) == 1 and not self.net.leaves[0].path else name

    def _put(self, path: str, value: Any) -> Any:
        """Sets a parameter, buffer or module at a path; groups are made on the way."""
        *groups, name = path.split(".")
        module: Module = self
        for group in groups:
            inner = module._modules.get(group)
            if inner is None:
                inner = Group()
                module.register_module(group, inner)
            module = inner
        if isinstance(value, Parameter):
            module.register_parameter(name, value)
        elif isinstance(value, Buffer):
            module.register_buffer(name, value, persistent=False)
        else:
            module.register_module(name, value)
        return module, name

    @staticmethod
    def _parameter(wire: Flat, shapes: dict[Flat, Shape], dtypes: dict) -> Parameter:
        if wire.value is not None:
            data = constant(wire.value, default_backend(), wire.dtype)
            return Parameter(data, requires_grad=data.is_floating_point())
        shape = shapes.get(wire)
        if shape is None or None in shape:
            raise Unknown(wire.name, 0)
        return Parameter(empty(shape, dtype=wire.dtype or dtypes.get(wire)))

    def _tie(self, leaves: list[Leaf], module: Any) -> None:
        """Puts the network's parameters, or nothing, in the place of those of a module that are connected.

        Args:
            leaves: Those that run the module.
        """
        for key in dict.fromkeys(key for leaf in leaves for key in leaf.parameters):
            wires = {leaf.parameters.get(key) for leaf in leaves}
            if None in wires:
                continue  # one of several calls uses the module's own
            (wire, *others) = wires
            if not others and wire.kind == "parameter":  # type: ignore[union-attr]
                group, name = self._own[wire]
                dict.__setitem__(module._parameters, key, group._parameters[name])
                self._tied.add((module, key))
            else:
                self._spared[module, key] = module._parameters[key]
                dict.__setitem__(module._parameters, key, None)

    def _call(self, leaf: Leaf, module: Any) -> tuple:
        layer = leaf.layer
        keys = [*layer.input_keys, *layer.optional_keys]
        while keys and keys[-1] not in leaf.inputs:
            keys.pop()
        wires = [leaf.inputs.get(k) for k in keys]
        # Parameters of the module that are wires of the network are put in its place for the call.
        given = {key: wire for key, wire in leaf.parameters.items() if (module, key) not in self._tied}
        if layer.reads_parameters:
            layer.check([self.public(n) for n, _ in self.named_parameters()])
        return leaf, module, wires, given, list(leaf.outputs.values())

    # ------------------------------------------------------------------------------------------------------- running

    def forward(self, *args: Any, **inputs: Any) -> Any:
        if len(args) > len(self.input_keys):
            raise TypeError(f"the model takes {len(self.input_keys)} inputs, but {len(args)} were given")
        found = self.run({**dict(zip(self.input_keys, args, strict=False)), **inputs})
        return found if len(found) > 1 else next(iter(found.values()))

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The outputs by name, from the inputs by name."""
        net = self.net
        check_inputs(inputs, self.input_keys)
        values: dict[Flat, Any] = {wire: inputs[name] for name, wire in net.inputs.items()}
        for wire, place in self._own.items():
            values[wire] = getattr(*place) if type(place) is tuple else place
        for leaf, module, wires, given, outs in self._calls:
            args = [[values[w] for w in a] if type(a) is list else None if a is None else values[a] for a in wires]
            if leaf.layer.reads_parameters:
                args.append({self.public(n): p for n, p in self.named_parameters()})
            with replaced(module, {k: values[w] for k, w in given.items()}) if given else _NOTHING:
                result = module(*args)
            results = leaf.layer.results(result)
            if len(results) < len(outs):
                raise OptionError(
                    explain(
                        f"{leaf.title} gives {len(results)} results, not {len(outs)}",
                        where=leaf.line,
                        do="name its outputs",
                    )
                )
            for wire, value in zip(outs, results, strict=False):
                values[wire] = value
        return {name: values[wire] for name, wire in net.outputs.items()}

    # -------------------------------------------------------------------------------------------------------- values

    def initialize(self, seed: int, keep: bool = True) -> None:
        """Gives parameters and buffers initial values, drawn by the layers' own rules; the same for the same seed.

        Args:
            seed: The seed.
            keep: Modules that were made elsewhere keep their values.
        """
        state = default_generator.get_state()
        for (module, key), own in self._spared.items():
            dict.__setitem__(module._parameters, key, own)
        try:
            with no_grad():
                for path, module in self.named_modules():
                    reset = getattr(module, "reset_parameters", None)
                    if reset is not None and not (keep and self.kept(path)):
                        default_generator.manual_seed(random.key(seed, path))
                        reset()
                for name, wire in self.net.parameters.items():
                    parameter = self.get_parameter(name)
                    if wire.value is not None:
                        parameter.copy_(constant(wire.value, default_backend(), parameter.dtype).to(parameter))
                    elif not any(key in leaf.layer.parameter_keys for leaf, key in wire.readers):
                        default_generator.manual_seed(random.key(seed, name))
                        # As a Linear draws its weight.
                        bound = 1 / math.sqrt(max(parameter.shape[-1] if parameter.ndim else 1, 1))
                        init.uniform_(parameter, -bound, bound)
        finally:
            default_generator.set_state(state)
            for module, key in self._spared:
                dict.__setitem__(module._parameters, key, None)

    def kept(self, path: str) -> bool:
        """Whether the module at a path is, or is in, one that was made elsewhere."""
        return any((path + ".").startswith(prefix) for prefix in self._made_elsewhere)


_NOTHING = contextlib.nullcontext()


@contextlib.contextmanager
def replaced(module: Module, values: dict[str, Any]) -> Iterator[None]:
    """The module has these values in the place of parameters."""
    parameters = module._parameters if values else {}
    before = {key: parameters[key] for key in values}
    try:
        for key, value in values.items():
            dict.__setitem__(parameters, key, value)  # no change of structure that compiled steps would have to know
        yield
    finally:
        for key, value in before.items():
            dict.__setitem__(parameters, key, value)


def constant(value: Any, backend: Backend, dtype: Any = None) -> Tensor:
    """A given value as a Tensor: floats in the backend's dtype unless told otherwise."""
    if isinstance(value, Tensor):
        made = value.detach().to(backend=backend)
    elif isinstance(value, (list, tuple, bool, int, float, np.ndarray, np.generic)):
        array = np.asarray(value)
        made = wrap(backend.from_numpy(array, backend.dtype if array.dtype.kind == "f" and dtype is None else dtype))
    else:
        other = backend_of(value)
        made = wrap(value if other.name == backend.name else backend.from_numpy(other.to_numpy(value), dtype))
    return made if dtype is None else made.to(dtype=dtype)


def check_inputs(given: Any, expected: tuple[str, ...]) -> None:
    """Raises unless the inputs have exactly these names."""
    if len(given) == len(expected) and all(name in given for name in expected):
        return
    unknown = [n for n in given if n not in expected]
    missing = [n for n in expected if n not in given]
    parts = [f"unknown: {', '.join(unknown)}"] if unknown else []
    parts += [f"missing: {', '.join(missing)}"] if missing else []
    raise OptionError(
        explain(
            "the inputs are not those of the model",
            expected=", ".join(expected) or "none",
            given="; ".join(parts),
            where=user_frame(),
        )
    )


class Builder:
    """Makes the modules of a network's layers, as far as shapes are known.

    Args:
        net: The network.
        backend: Where parameters are made.
        copies: Modules that were made elsewhere are copied; else they are used, and trained, as they are.
    """

    def __init__(self, net: Net, backend: Backend, copies: bool):
        self.net, self.backend, self.copies = net, backend, copies
        self.modules: dict[Leaf, Any] = {}
        self.made_for: dict[Leaf, Any] = {}

    def infer(self, shapes: dict[str, Any], parameters: dict[str, Any] | None = None) -> Inference:
        """What follows from the shapes of inputs and other named connections.

        Args:
            shapes: {name: shape}.
            parameters: {name: shape} of layers' own parameters, where they are made already.

        Raises:
            ShapeError: Two sides do not agree.
        """
        found = Inference(self.net, self.backend.dtype, self.run)
        for leaf in self.net.leaves if parameters else ():
            prefix = (leaf.shared or leaf).path
            found.owned[leaf] = {
                key: parameters[name]  # type: ignore[index]
                for key in leaf.layer.parameter_keys
                if (name := f"{prefix}.{key}" if prefix else key) in parameters  # type: ignore[operator]
            }
        named = {w.name: w for w in self.net.wires} | self.net.inputs | self.net.outputs | self.net.parameters
        for wire in self.net.wires:
            if wire.dtype is not None:
                found.dtypes[wire] = wire.dtype
            for leaf, key in wire.readers:
                if key in leaf.layer.dtypes and wire.dtype is None:
                    found.dtypes[wire] = leaf.layer.dtypes[key]
            if wire.value is not None and not isinstance(wire.value, (bool, int, float)):
                found.set(
                    wire,
                    np.shape(wire.value) if isinstance(wire.value, (list, tuple)) else tuple(wire.value.shape),
                    "of its value",
                )
            for shape, line in wire.shapes.items():
                found.set(wire, shape, f"set at {line}")
        for name, shape in shapes.items():
            if name in named:
                found.set(named[name], shape, "as it was given")
        found.settle()
        return found

    def module(self, leaf: Leaf, shapes: dict[Flat, Shape]) -> Any:
        """The leaf's module for these shapes.

        Raises:
            Unknown: A size is missing.
        """
        leaf = leaf.shared or leaf
        given = {
            key: [shapes.get(w) for w in found] if isinstance(found, list) else shapes.get(found)
            for key, found in (*leaf.inputs.items(), *leaf.parameters.items(), *leaf.outputs.items())
        }
        marks = {k: tuple(s) if isinstance(s, list) else s for k, s in given.items()}
        if leaf not in self.modules or (self.made_for[leaf] != marks and not isinstance(leaf.layer, ModuleLayer)):
            with init.skipped(), using_backend(self.backend):
                made: Any = leaf.layer.make(**given)  # type: ignore[arg-type]
                if isinstance(leaf.layer, ModuleLayer):
                    elsewhere = any(t.backend != self.backend.name for _, t in made.__jit_slots__())
                    made = copy.deepcopy(made).to(backend=self.backend) if self.copies or elsewhere else made
            self.modules[leaf], self.made_for[leaf] = made, marks
        return self.modules[leaf]

    def run(self, leaf: Leaf, shapes: dict[Flat, Shape], given: dict[Flat, Spec]) -> list:
        """The Specs of a layer's results on these inputs; what is known of `shapes` makes the layer."""
        module = self.module(leaf, shapes)
        network = _single(leaf, module)
        trace = Trace(self.backend, {})
        captured = list(module.__jit_slots__()) if isinstance(module, Module) else []
        values = {w: wrap(trace.graph.input(s.shape, s.dtype, "x")) for w, s in given.items()}
        owners = [("", module)] if isinstance(module, Module) else []

        def call() -> Any:
            with no_grad():
                return network(values)

        results = trace.run(call, (), {}, captured, owners)
        return [Spec(r._array.shape, r._array.dtype) if isinstance(r, Tensor) else None for r in results]

    def network(self, found: Inference) -> Network:
        """The network.

        Raises:
            Unknown: A size is missing.
        """
        modules = {leaf: self.module(leaf, found.shapes) for leaf in self.net.leaves if leaf.shared is None}
        return Network(self.net, modules, found.shapes, found.dtypes, self.backend)


def _single(leaf: Leaf, module: Any) -> Callable:
    """One layer as a function of {wire: value} that gives its results."""

    def call(values: dict[Flat, Any]) -> tuple:
        def of(wire: Flat) -> Any:
            return values.get(wire, wire.value)

        keys = [*leaf.layer.input_keys, *leaf.layer.optional_keys]
        while keys and keys[-1] not in leaf.inputs:
            keys.pop()
        args = [
            [of(w) for w in a] if isinstance(a, list) else None if a is None else of(a)
            for a in map(leaf.inputs.get, keys)
        ]
        with replaced(module, {k: of(w) for k, w in leaf.parameters.items()}):
            return leaf.layer.results(module(*args))

    return call


def to_module(
    part: Part, shapes: dict[str, Any], backend: Backend, seed: int | None = None, optional: Iterable[str] = ()
) -> Network:
    """A composed model as a module with initial values.

    Args:
        part, shapes, backend, seed: As for `Part.to_module`.
        optional: Inputs of a layer that may be left out, and are given.

    Raises:
        ShapeError: The shapes do not tell all that the layers need to know.
    """
    net = lay_out(part, optional=optional)
    builder = Builder(net, backend, copies=False)
    found = builder.infer(shapes)
    try:
        network = builder.network(found)
    except Unknown as missing:
        raise unknown_sizes(net, found, missing) from None
    network.initialize(default_generator.next_key("module") if seed is None else seed)
    return network


def unknown_sizes(net: Net, found: Inference, missing: Unknown) -> ShapeError:
    """The error for a model whose inputs' shapes are not known well enough."""
    known = [f"{name}: {text(found.shapes[w]) if w in found.shapes else 'unknown'}" for name, w in net.inputs.items()]
    return ShapeError(
        explain(
            "the shapes of the model's parameters are not known",
            expected="shapes of the inputs, or of what they feed",
            given="; ".join(known),
            where=user_frame(),
            do=f"give shapes={{...}}: {missing}",
        )
    )


def run_part(part: Part, given: dict[str, Any]) -> Any:
    """Runs a layer or model on arrays. Its parameters are made at the first call, and stay."""
    lists = {k: v for k, v in given.items() if isinstance(v, (list, tuple))}
    if lists:  # of a layer that takes several: as a model with a name for each
        names = {k: [f"{k}_{i}" for i in range(len(v))] for k, v in lists.items()}
        model = Model()
        model |= part.connect(**{k: names.get(k, k) for k in given})
        flat = {n: a for k, v in lists.items() for n, a in zip(names[k], v, strict=True)}
        return run_part(model, {**flat, **{k: v for k, v in given.items() if k not in lists}})
    tensors = {k: v if isinstance(v, Tensor) else wrap(v) for k, v in given.items()}
    engine = backend_of(next(iter(tensors.values()))._array).name
    backend = default_backend() if default_backend().name == engine else get_backend(engine)
    made = part.__dict__.setdefault("_modules", {})
    optional = tuple(k for k in part.optional_keys if k in tensors)
    network = made.get(optional)
    if network is None:
        if made:  # the same layer with other inputs has the same parameters
            raise OptionError(
                explain(
                    f"{part.label} was run with other inputs before",
                    expected=", ".join(next(iter(made))) or "none of the inputs that may be left out",
                    given=", ".join(optional) or "none of them",
                    where=user_frame(),
                    do="use part.to_module(...), or a layer of its own",
                )
            )
        shapes = {k: tuple(t.shape) for k, t in tensors.items()}
        network = made[optional] = to_module(part, shapes, backend, optional=optional)
    result = network(**tensors)
    if any(isinstance(v, Tensor) for v in given.values()):
        return result
    return {k: t._array for k, t in result.items()} if isinstance(result, dict) else result._array


HOOKS.update(run=run_part, to_module=to_module)
