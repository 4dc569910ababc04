"""Parts: what a model is made of. A layer, a function, or another model."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from ..backends.registry import get_backend
from ..errors import OptionError, explain, user_frame
from ..nn.module import Module
from ..ops.op import KINDS, adopt, kind_of
from ..tensor.creation import as_tensor
from ..tensor.tensor import Tensor
from .connection import Connection, Expression, IOKey, Port, function

Shape = tuple[int | None, ...]
#: What is known of the shapes of a part's connections: key -> shape; None where even the number of axes is unknown.
Shapes = dict[str, Shape | None]

#: What network.py, which imports this module, does for parts: "run", "to_module".
HOOKS: dict[str, Callable] = {}


class Part:
    """The base of layers and models. Calling one with names wires it; calling it with arrays runs it.

    `layer(input="x", output="y")` and `layer.connect(input="x", output="y")` are the same. `layer.output` is the connection
    of that key.

    Attributes:
        name: Its name in a model, and so the first part of its parameters' names. Default: from its class, with a number.
    """

    name: str | None = None
    frozen: bool = False

    @property
    def input_keys(self) -> tuple[str, ...]:
        """Keys of the data that it takes; the first is the one that `+=` connects."""
        raise NotImplementedError

    @property
    def output_keys(self) -> tuple[str, ...]:
        """Keys of what it gives; the first is the one that `+=` connects."""
        raise NotImplementedError

    @property
    def parameter_keys(self) -> tuple[str, ...]:
        """Keys of the parameters that can be connected: `weight`, `bias`."""
        return ()

    @property
    def optional_keys(self) -> tuple[str, ...]:
        """Keys of inputs that may be left out."""
        return ()

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that can be connected."""
        return (*self.input_keys, *self.optional_keys, *self.parameter_keys, *self.output_keys)

    @property
    def label(self) -> str:
        """The name, or what a name is made of where there is none: the class's in snake case."""
        return self.name or snake(type(self).__name__)

    def freeze(self) -> Any:
        """Its parameters are not trained in models compiled from now on. Returns the part."""
        self.frozen = True
        return self

    def unfreeze(self) -> Any:
        """Its parameters are trained again. Returns the part."""
        self.frozen = False
        return self

    def connect(self, **connections: Any) -> Wired:
        """The part with some of its keys connected, to be added to a model.

        Args:
            connections: For each key a name, an `IOKey`, a connection, an expression, or a value (an array, a number).
        """
        for key in connections:
            if key not in self.keys:
                raise unknown_key(self, key)
        return Wired(self, connections)

    def __call__(self, *args: Any, **connections: Any) -> Any:
        values = [*args, *connections.values()]
        if args and len(args) > len(self.input_keys):
            raise TypeError(f"{self.label} takes {len(self.input_keys)} inputs, but {len(args)} were given")
        connections = {**dict(zip(self.input_keys, args, strict=False)), **connections}
        if values and all(
            _is_array(v) or (isinstance(v, (list, tuple)) and v and all(map(_is_array, v))) for v in values
        ):
            return HOOKS["run"](self, connections)
        return self.connect(**connections)

    def to_module(self, shapes: dict[str, Any] | None = None, backend: Any = None, seed: int | None = None) -> Module:
        """An `nn.Module` of the structure of this model, with parameters of its own.

        Args:
            shapes: {input: shape}, with None for sizes that no layer needs to know.
            backend: Where its parameters are. Default: the default backend.
            seed: For the initial values. Default: drawn from gradloom's generator.

        Raises:
            ShapeError: The shapes do not tell all that the layers need to know, or do not fit.

        Example:
            >>> import gradloom as gl
            >>> net = gl.models.Model()
            >>> net |= gl.models.Linear(8)
            >>> net += gl.models.Relu()
            >>> module = net.to_module({"input": [None, 4]})
            >>> module(gl.ones(2, 4)).shape
            gradloom.Size([2, 8])
        """
        return HOOKS["to_module"](self, dict(shapes or {}), get_backend(backend), seed)

    def __getattr__(self, key: str) -> Any:  # only called for what is no attribute
        if key.startswith("_"):
            raise AttributeError(key)
        if key in self.keys:
            return Port(self, key)
        raise AttributeError(f"'{self.label}' has no connection '{key}'; it has {', '.join(self.keys)}")


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor) or (not isinstance(value, Connection) and kind_of(type(value)) is not None)


class Wired(Connection):
    """A part with connections. As a connection it is the part's main output.

    Attributes:
        part: The part.
        connections: {key: what it is connected to}.
        line: The user's line.
    """

    __slots__ = ("connections", "line", "part")

    def __init__(self, part: Part, connections: dict[str, Any]):
        self.part, self.connections, self.line = part, connections, user_frame()

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in self.part.keys:
            return Result(self, name)
        return super().__getattr__(name)

    def __repr__(self) -> str:
        return f"<{self.part.label}>"


class Result(Connection):
    """One of several outputs of a part that was called: `LSTM(8)(input=x).hidden`."""

    __slots__ = ("key", "wired")

    def __init__(self, wired: Wired, key: str):
        self.wired, self.key = wired, key

    def __repr__(self) -> str:
        return f"'{self.wired.part.label}.{self.key}'"


class Layer(Part):
    """A part that is one `nn` module, or a function over ops, made when the shapes of its inputs are known.

    A subclass is final and gives: its options in `__init__`, `make`, which builds the module for shapes, and, if shapes
    are to be known before all inputs are, `relate`.

    Attributes:
        inputs, optional, outputs: Its keys.
        parameters: Names of the module's parameters that can be connected, for any options.
        dtypes: {key: dtype} of inputs that are not of the default float dtype.
        variadic: The input takes a list of connections.
        dtyped: Its result's dtype may differ from its input's.
        reads_parameters: It is given {name: parameter} of the whole model after its inputs.
    """

    inputs: ClassVar[tuple[str, ...]] = ("input",)
    optional: ClassVar[tuple[str, ...]] = ()
    outputs: ClassVar[tuple[str, ...]] = ("output",)
    parameters: ClassVar[tuple[str, ...]] = ()
    dtypes: ClassVar[dict[str, Any]] = {}
    variadic: ClassVar[bool] = False
    dtyped: ClassVar[bool] = False
    reads_parameters: ClassVar[bool] = False

    def make(self, **shapes: Shape | None) -> Module | Callable:
        """The module, or a function of Tensors, for these shapes of the inputs; it is called with the inputs in order.

        Raises:
            Unknown: A size that it needs is not known.
        """
        raise NotImplementedError

    def relate(self, shapes: Shapes) -> Shapes:
        """What follows for some keys from what is known of others; forwards and backwards."""
        return {}

    def names(self) -> tuple[str, ...]:
        """Names of the module's parameters, which are known before their shapes are."""
        return self.parameter_keys

    def results(self, value: Any) -> tuple:
        """What the module returns, in the order of `outputs`."""
        return value if isinstance(value, tuple) and len(self.outputs) > 1 else (value,)

    def options(self) -> dict[str, Any]:
        """The arguments of the constructor, as attributes hold them; for documents and repr."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return {n: getattr(self, n) for n in names if n in vars(self)}

    @property
    def input_keys(self) -> tuple[str, ...]:
        return self.inputs

    @property
    def optional_keys(self) -> tuple[str, ...]:
        return self.optional

    @property
    def output_keys(self) -> tuple[str, ...]:
        return self.outputs

    @property
    def parameter_keys(self) -> tuple[str, ...]:
        return self.parameters

    def __repr__(self) -> str:
        given = {k: v for k, v in self.options().items() if k != "name" or v is not None}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in given.items())})"


class Unknown(Exception):
    """A size is needed that is not known."""

    def __init__(self, key: str, axis: int):
        super().__init__(f"the size of axis {axis} of '{key}' is not known")
        self.key, self.axis = key, axis


def size(shape: Shape | None, axis: int, key: str = "input") -> int:
    """The size of an axis.

    Raises:
        Unknown: It is not known.
    """
    if shape is not None and -len(shape) <= axis < len(shape):
        n = shape[axis]
        if n is not None:
            return n
    raise Unknown(key, axis)


class Apply(Layer):
    """An expression as a part: an operator, a method of Tensors, or an op, on connections and fixed values."""

    inputs = ()

    def __init__(self, target: str, template: tuple, count: int, name: str | None = None):
        self.target, self.template, self.count, self.name = target, template, count, name

    @property
    def input_keys(self) -> tuple[str, ...]:
        return tuple(f"operand_{i}" for i in range(self.count))

    @property
    def label(self) -> str:
        return self.name or self.target.partition(":")[2]

    def make(self, **shapes: Shape | None) -> Callable:
        fn, (args, kwargs) = function(self.target), self.template

        method = self.target.startswith("method:")

        def call(*operands: Any) -> Any:
            if method:  # of a number that was set as a value
                operands = tuple(as_tensor(o) if isinstance(o, (int, float)) else o for o in operands)
            filled = fill((args, kwargs), operands)
            return fn(*filled[0], **filled[1])

        return call


class Slot:
    """Stands for the i-th operand in the arguments of an expression."""

    __slots__ = ("index",)

    def __init__(self, index: int):
        self.index = index


def fill(template: Any, operands: Any) -> Any:
    """The arguments with the operands in place of slots."""
    if isinstance(template, Slot):
        return operands[template.index]
    if type(template) in (tuple, list):
        return type(template)(fill(t, operands) for t in template)
    if type(template) is dict:
        return {k: fill(t, operands) for k, t in template.items()}
    return template


def applied(expression: Expression) -> tuple[Apply, dict[str, Any]]:
    """An expression as a part and its connections; the same operand comes once."""
    operands: list[Connection] = []

    def opened(a: Any) -> Any:
        if isinstance(a, Connection):
            i = next((i for i, o in enumerate(operands) if o is a), len(operands))
            if i == len(operands):
                operands.append(a)
            return Slot(i)
        if isinstance(a, Tensor) or (not isinstance(a, (bool, int, float, complex)) and kind_of(type(a)) is not None):
            return opened(IOKey(value=a))
        if type(a) in (tuple, list):
            return type(a)(opened(x) for x in a)
        if type(a) is dict:
            return {k: opened(x) for k, x in a.items()}
        return a

    template = (opened(expression.args), opened(expression.kwargs))
    part = Apply(expression.target, template, len(operands))
    return part, {f"operand_{i}": o for i, o in enumerate(operands)}


class Function(Layer):
    """A function over Tensors as a part: its parameters without defaults are inputs.

    Args:
        fn: A function of Tensors that gives a Tensor, or a tuple of them.
        outputs: Names of its results.
        name: Its name in models. Default: the function's.
        options: Its other arguments, fixed.

    Example:
        >>> import gradloom as gl
        >>> scaled = gl.models.Function(lambda x, gain: x * gain.exp(), name="scaled")
        >>> scaled.input_keys, scaled.output_keys
        (('x', 'gain'), ('output',))
    """

    def __init__(self, fn: Callable, outputs: Iterable[str] = ("output",), name: str | None = None, **options: Any):
        self.fn, self.given = fn, options
        self.name = name
        self._label = identifier(getattr(fn, "__name__", type(fn).__name__))
        self._outputs = (outputs,) if isinstance(outputs, str) else tuple(outputs)
        self._inputs = tuple(
            p.name
            for p in inspect.signature(fn).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty and p.name not in options
        )
        if not self._inputs:
            raise OptionError(explain("a function in a model needs inputs", given=repr(fn), where=user_frame()))

    @property
    def label(self) -> str:
        return self.name or self._label

    @property
    def input_keys(self) -> tuple[str, ...]:
        return self._inputs

    @property
    def output_keys(self) -> tuple[str, ...]:
        return self._outputs

    def make(self, **shapes: Shape | None) -> Callable:
        return functools.partial(self.fn, **self.given) if self.given else self.fn

    def results(self, value: Any) -> tuple:
        return tuple(value) if len(self._outputs) > 1 else (value,)

    def __repr__(self) -> str:
        return f"Function({self._label})"


class ModuleLayer(Layer):
    """An `nn.Module` as a part: its parameters and their values are the module's own.

    Args:
        module: The module.
        outputs: Names of its results.
        name: Its name in models.
    """

    def __init__(self, module: Module, outputs: Iterable[str] = ("output",), name: str | None = None):
        self.module, self.name = module, name
        self._outputs = (outputs,) if isinstance(outputs, str) else tuple(outputs)
        parameters = inspect.signature(module.forward).parameters.values()
        self._inputs = tuple(p.name for p in parameters if p.kind in _POSITIONAL and p.default is p.empty)
        self._optional = tuple(p.name for p in parameters if p.kind in _POSITIONAL and p.default is not p.empty)

    @property
    def label(self) -> str:
        return self.name or snake(type(self.module).__name__)

    @property
    def input_keys(self) -> tuple[str, ...]:
        return self._inputs

    @property
    def optional_keys(self) -> tuple[str, ...]:
        return self._optional

    @property
    def output_keys(self) -> tuple[str, ...]:
        return self._outputs

    @property
    def parameter_keys(self) -> tuple[str, ...]:
        return tuple(name for name, p in self.module._parameters.items() if p is not None)

    def make(self, **shapes: Shape | None) -> Module:
        return self.module

    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.module.named_parameters())

    def results(self, value: Any) -> tuple:
        return tuple(value) if len(self._outputs) > 1 else (value,)

    def __repr__(self) -> str:
        return repr(self.module)


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def as_part(value: Any) -> Part:
    """A part, a module or a function as a part.

    Raises:
        OptionError: It is nothing that can be added to a model.
    """
    if isinstance(value, Part):
        return value
    if isinstance(value, Module):
        return ModuleLayer(value)
    if callable(value) and not isinstance(value, type):
        return Function(value)
    raise OptionError(
        explain(
            "this cannot be added to a model",
            expected="a layer or model of gradloom.models, a call of one, an expression, an nn.Module, or a function of Tensors",
            given=f"the class {value.__name__}; call it" if isinstance(value, type) else repr(value),
            where=user_frame(),
        )
    )


def unknown_key(part: Part, key: str) -> OptionError:
    """The error for a key that a part does not have."""
    near = difflib.get_close_matches(key, part.keys, 1)
    return OptionError(
        explain(
            f"{part.label} has no connection '{key}'",
            expected=", ".join(part.keys),
            given=key,
            where=user_frame(),
            do=f"did you mean '{near[0]}'?" if near else None,
        )
    )


def snake(name: str) -> str:
    """A class's name in snake case: "Convolution2D" gives "convolution2d", "LayerNorm" "layer_norm"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def identifier(text: str) -> str:
    """A name that may stand in a path: "<lambda>" gives "lambda"."""
    return re.sub(r"\W+", "_", text).strip("_") or "function"


adopt(Wired, Result, kind=KINDS[Connection])
