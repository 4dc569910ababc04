"""The graph of a traced function: values, nodes, and how an op on a traced value becomes a node.

While a function is traced its Tensors hold `Value`s in place of arrays. To op dispatch a Value is one more kind of array, whose
kernel adds a node: tape, modules and optimizers run unchanged. Nodes are ops and vjps (`conv`, `conv_vjp_x`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from .. import ops
from ..backends.registry import backend_of
from ..backends.shapes import Spec, infer
from ..dtypes import DType, default_dtype
from ..errors import TraceError, explain, user_frame
from ..ops.op import SCALARS, Kind, Op, adopt, dispatch, kind_of, promote

#: Ops whose results may share the memory of their operand.
VIEWS = frozenset(("reshape", "transpose", "broadcast_to", "expand_dims", "squeeze", "getitem", "windows"))


class Value:
    """A value of the graph: an input, a constant, or a result of a node.

    Attributes:
        graph: The graph it belongs to.
        shape, dtype: Known while tracing.
        node, index: The node that makes it and which of its results it is; None and 0 for inputs and constants.
        name: Given by the tracer to inputs, by the printer to the rest.
        label: Path of the module whose result it is, if any.
        constant: The array of a constant, else None.
    """

    __slots__ = ("__weakref__", "constant", "dtype", "graph", "index", "label", "name", "node", "shape")

    def __init__(
        self, graph: Graph, shape: tuple, dtype: DType, node: Node | None = None, index: int = 0, name: Any = None
    ):
        self.graph, self.shape, self.dtype = graph, shape, dtype
        self.node, self.index, self.name = node, index, name
        self.constant: Any = None
        self.label: str | None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __repr__(self) -> str:
        return f"<{self.name or 'value'} {self.shape} {self.dtype.name}>"

    def concrete(self, what: str) -> Any:
        """Raises: while a function is traced its values are not known."""
        raise TraceError(
            explain(
                f"{what} needs the value of a Tensor that is computed inside a compiled function",
                given=f"a traced Tensor of shape {list(self.shape)}, {self.dtype.name}",
                where=user_frame(),
                do="move this line out of the function compiled by gradloom.jit, or use gradloom.where / gradloom.cond / "
                "gradloom.while_loop in place of Python's `if` and `while`",
            )
        )

    # Operators, for op bodies that are run over values (see passes.lower).
    __add__ = __radd__ = ops.add
    __mul__ = __rmul__ = ops.multiply
    __sub__, __truediv__, __floordiv__, __mod__ = ops.subtract, ops.divide, ops.floor_divide, ops.remainder
    __pow__, __matmul__, __neg__, __abs__ = ops.pow, ops.matmul, ops.negative, ops.abs
    __and__, __or__, __xor__, __invert__ = ops.bitwise_and, ops.bitwise_or, ops.bitwise_xor, ops.bitwise_not
    __lt__, __le__, __gt__, __ge__ = ops.less, ops.less_equal, ops.greater, ops.greater_equal
    __rsub__ = lambda self, other: ops.subtract(other, self)
    __rtruediv__ = lambda self, other: ops.divide(other, self)
    __rpow__ = lambda self, other: ops.pow(other, self)

    def __getitem__(self, key: Any) -> Value:
        return ops.getitem(self, key=key if type(key) is tuple else (key,))

    __bool__ = lambda self: self.concrete("a Python condition")
    __float__ = lambda self: self.concrete("float()")
    __int__ = lambda self: self.concrete("int()")
    __array__ = lambda self, *a, **k: self.concrete("a conversion to NumPy")


class Node:
    """One operation of the graph.

    Attributes:
        op: The op, or a vjp.
        inputs: Values, Python scalars and None, in the op's order.
        attrs: Static attributes.
        outputs: Its Values.
        several: Whether the op gives a tuple.
        phase: "forward", "backward" or "update".
        scope: Path of the module that ran it, such as "features.0".
    """

    __slots__ = ("attrs", "inputs", "op", "outputs", "phase", "scope", "several")

    def __init__(self, op: Op, inputs: list, attrs: dict, phase: str, scope: str):
        self.op, self.inputs, self.attrs, self.phase, self.scope = op, inputs, attrs, phase, scope
        self.outputs: list[Value] = []
        self.several = False

    def __repr__(self) -> str:
        return f"<{self.op.name} -> {self.outputs}>"


class Graph:
    """Inputs, constants and nodes in the order in which they were recorded, and the outputs."""

    def __init__(self):
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self.outputs: list[Value] = []
        self._constants: dict[int, Value] = {}
        self._specs: dict[Any, Any] = {}

    def input(self, shape: tuple, dtype: DType, name: str) -> Value:
        """A new input."""
        value = Value(self, tuple(shape), dtype, name=name)
        self.inputs.append(value)
        return value

    def constant(self, array: Any) -> Value:
        """The Value of an array that is fixed when the function is compiled; the same one for the same array."""
        value = self._constants.get(id(array))
        if value is None:
            value = Value(self, tuple(array.shape), backend_of(array).dtype_of(array))
            value.constant = array
            self._constants[id(array)] = value  # value.constant keeps the array, and so its id, alive
        return value

    def add(self, op: Op, inputs: list, attrs: dict, specs: Any = None) -> Any:
        """Adds a node and gives its Value, or a tuple of them. `specs` are inferred unless given."""
        if specs is None:
            specs = self._infer(op, inputs, attrs)
        node = Node(op, inputs, attrs, PLACE.phase, PLACE.scope)
        self.nodes.append(node)
        several = type(specs) in (tuple, list)
        node.several = several
        for k, spec in enumerate(specs if several else (specs,)):
            node.outputs.append(Value(self, spec.shape, spec.dtype, node, k))
        return tuple(node.outputs) if several else node.outputs[0]

    def _infer(self, op: Op, inputs: list, attrs: dict) -> Any:
        """The results' specs; a model repeats its layers, and so its shapes."""
        like = [(v.shape, v.dtype) if type(v) is Value else (type(v), v) for v in inputs]
        key: Any
        try:
            key = (op, default_dtype(), *like, *attrs.items(), *map(type, attrs.values()))
            found = self._specs.get(key)
        except TypeError:  # slices and lists among the attributes
            key = found = None
        if found is None:
            found = infer(op, *(Spec(v.shape, v.dtype) if type(v) is Value else v for v in inputs), **attrs)
            if key is not None:
                self._specs[key] = found
        return found


class _Place(threading.local):
    """Where the code that is being traced stands, and how it reaches the trace; `graph` is None when nothing is traced.

    Attributes:
        graph: The innermost graph that is being recorded.
        phase, scope: Noted in each node for the printer.
        paths: {id of a module: its path}.
        host_input: `host_input(draw, shape, dtype, name)` gives the Value of what `draw()` returns at each run of the
            compiled function: a NumPy array. Random masks come in this way.
        host_scalars: `host_scalars(compute, names, dtype)` gives the Values of the floats that `compute()` returns at each run.
        state: `state(arrays, name)` gives the Values of a list of arrays of an optimizer; what the list holds when the trace
            ends is written back at each run.
        follow: `follow(tensor)`: what it holds now is a part of such an array, and its optimizer keeps it up to date.
        parts: `parts(whole, values, views)`: these share the memory of that array; before each run they are what is in `views`.
        count: `count(key)`: how often it was called with this object before.
        after: `after(function)` has it called after each run.
        check: `check(function)`: the compiled function is used only while it returns True.
    """

    graph: Graph | None = None
    phase = "forward"
    scope = ""
    paths: dict[int, str] = {}
    host_input: Callable = None  # type: ignore[assignment]
    host_scalars: Callable = None  # type: ignore[assignment]
    state: Callable = None  # type: ignore[assignment]
    follow: Callable = None  # type: ignore[assignment]
    parts: Callable = None  # type: ignore[assignment]
    count: Callable = None  # type: ignore[assignment]
    after: Callable = None  # type: ignore[assignment]
    check: Callable = None  # type: ignore[assignment]

    def label(self, value: Any) -> None:
        """The value is what the module at `scope` gives; the printer names it so."""
        if type(value) is Value and value.node is not None and value.label is None and self.scope:
            value.label = self.scope

    @contextlib.contextmanager
    def within(self, phase: str) -> Iterator[None]:
        """Nodes that are recorded inside belong to this phase."""
        before, self.phase = self.phase, phase
        try:
            yield
        finally:
            self.phase = before


PLACE = _Place()


def record(op: Op) -> Callable:
    """The kernel of traced values: adds a node."""
    if not op.args:
        return lambda like=None, **attrs: PLACE.graph.add(op, [], attrs)  # type: ignore[union-attr]

    def kernel(*args: Any, **attrs: Any) -> Any:
        graph = PLACE.graph
        values = []
        for a in args:
            if type(a) is Value:
                if a.graph is not graph:
                    a = lift(a, graph)
            elif a is not None and type(a) not in SCALARS:
                a = foreign(op, a)
            values.append(a)
        return graph.add(op, values, attrs)  # type: ignore[union-attr]

    return kernel


def lift(value: Value, graph: Graph | None) -> Value:
    """A value of an enclosing graph as an input of the inner one (the body of a loop or a branch)."""
    if graph is None or not isinstance(graph, Body):
        raise TraceError(
            explain(
                "a traced Tensor was used after its function had been compiled",
                given=repr(value),
                where=user_frame(),
                do="return it from the compiled function; do not keep it in a list, an attribute or a global",
            )
        )
    return graph.capture(value)


class Body(Graph):
    """The body of a loop or a branch: a graph that takes what it uses of its surroundings as further inputs.

    Attributes:
        captured: {id of the outer value: (outer value or array, inner input)}.
    """

    def __init__(self, outer: Graph | None):
        super().__init__()
        self.outer = outer
        self.captured: dict[int, tuple[Any, Value]] = {}

    def capture(self, outer: Any) -> Value:
        found = self.captured.get(id(outer))
        if found is None:
            if type(outer) is Value:
                spec = (outer.shape, outer.dtype)
            else:
                spec = (tuple(outer.shape), backend_of(outer).dtype_of(outer))
            found = self.captured[id(outer)] = (outer, self.input(*spec, name=f"captured_{len(self.captured)}"))
        return found[1]


def foreign(op: Op, array: Any) -> Value:
    """An engine's array among traced operands: captured by the body of an eager loop, else an error."""
    graph = PLACE.graph
    if isinstance(graph, Body):
        return graph.capture(array)
    if type(array).__module__ == "numpy" and array.ndim == 0 and not hasattr(array, "flags"):
        return array.item()
    raise TraceError(
        explain(
            f"{op.name}: a compiled function uses a Tensor that gradloom.jit does not know",
            expected="Tensors that are arguments, made inside the function, or found in the modules, optimizers, lists, dicts and "
            "objects that the function's closure, globals and arguments name",
            given=f"an array of shape {list(array.shape)}",
            where=user_frame(),
            do="pass it as an argument, or register it with module.register_buffer",
        )
    )


def _entry(op: Op) -> Callable:
    kernel = op.kernels

    def call(*args: Any, **attrs: Any) -> Any:
        if any(kind is not None and kind.rank > 1 for kind in (kind_of(type(a)) for a in args)):
            return dispatch(op, *args, **attrs)
        if op.promote is not None:
            args = promote(op, args, _cast)
        return kernel[Value](*args, **attrs)

    return call


def _cast(value: Any, dtype: DType) -> Any:
    return ops.astype(value, dtype=dtype)


adopt(Value, kind=Kind(1, _entry, record, lambda v: v.dtype))
