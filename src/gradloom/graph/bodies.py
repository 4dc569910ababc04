"""Bodies: the functions that loops and branches are given, traced with their tape, and how a loop is run.

A function is run once on traced values, into a graph of its own (`graph.Body`). What it takes from outside becomes
further operands of the loop. The tape runs along as everywhere, so its gradient is traced by running that tape, into
the same graph, down to where it leaves the function: at its arguments, and at the nodes of what it took from outside.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from .. import ops
from ..backends.registry import backend_of, default_backend, using_backend
from ..backends.shapes import Spec
from ..errors import TraceError, explain, user_frame
from ..ops.control import scan as scan_op
from ..ops.op import Op
from ..tensor import tape
from ..tensor.arrays import as_array, engine, wrap
from ..tensor.backprop import Recorded, run
from ..tensor.grad_mode import set_grad_enabled
from ..tensor.tape import Leaf, Output, Raw
from ..tensor.tensor import Tensor
from . import blocks, emit, passes
from .graph import PLACE, Body, Graph, Value, foreign, lift
from .trace import TraceBackend

_EDGE = Op("argument", lambda xp, x: x, ("x",), ()).plan((False,))  # of the nodes that stand for a function's arguments


def engine_of(lead: str | None) -> Any:
    """The default backend, or the one that the operands are on."""
    chosen = default_backend()
    return chosen if lead is None or chosen.name == lead else engine(lead)


class Traced:
    """A function's run on traced values, with its tape.

    Attributes:
        body: The graph that its nodes are in.
        nodes: Those of this run. (The gradient's run shares the body.)
        inputs, outputs: Tensors over values of the body. An input that gradients are for has a node that stands for
            the argument.
        start: Nodes of the tape with a smaller number were made outside.
    """

    def __init__(self, body: Body, nodes: list, inputs: list[Tensor], outputs: list[Tensor], start: int):
        self.body, self.nodes, self.inputs, self.outputs, self.start = body, nodes, inputs, outputs, start

    @staticmethod
    def of(what: str, fn: Callable, specs: list[Spec], names: list[str], edges: list[bool], lead: str | None) -> Traced:
        """Runs `fn(Tensors) -> list of Tensors`.

        Args:
            what: The public function, for errors.
            specs, names: Of the arguments.
            edges: Whether gradients may be wanted for them.
            lead: The engine of what the function makes.
        """
        t = Traced(Body(PLACE.graph), [], [], [], tape._next())
        with t.inside(what, engine_of(lead)):
            t.inputs = [t.argument(s, name, edge) for s, name, edge in zip(specs, names, edges, strict=True)]
            t.outputs = [t.own(leaf) for leaf in fn(t.inputs)]
        return t

    @contextlib.contextmanager
    def inside(self, what: str, chosen: Any = None) -> Iterator[None]:
        """What is computed here is added to the nodes."""
        saved = dict(vars(PLACE))
        PLACE.graph = self.body
        PLACE.host_input = _refuse(
            what, "draws random numbers", "draw them (masks, noise) before, and pass them as xs or operands"
        )
        update = _refuse(what, "runs an optimizer", "call optimizer.step() outside of it")
        PLACE.host_scalars = PLACE.state = PLACE.follow = PLACE.count = PLACE.after = PLACE.check = update
        self.body.nodes = self.nodes
        chosen = chosen or default_backend()
        try:
            with using_backend(chosen if isinstance(chosen, TraceBackend) else TraceBackend(chosen, self.body)):
                yield
        finally:
            vars(PLACE).clear()
            vars(PLACE).update(saved)

    def argument(self, like: Any, name: str | None, edge: bool) -> Tensor:
        """A further input."""
        value = self.body.input(tuple(like.shape), like.dtype, "")
        value.label = name
        t = wrap(value)
        if edge:
            t._node = (tape._next(), _EDGE, (None,), None, None, None)
        return t

    def own(self, leaf: Any) -> Tensor:
        """A result of the function as a Tensor over a value of the body."""
        t = leaf if isinstance(leaf, Tensor) else wrap(as_array(leaf))
        x = t._array
        if type(x) is not Value:
            x = foreign(scan_op.op, x)
        elif x.graph is not self.body:
            x = lift(x, self.body)
        made = wrap(x)
        made._node = t._node
        return made

    def reached(self, t: Tensor) -> list:
        """The nodes at which the history of t leaves the function: of its arguments, and of Tensors from outside."""
        found: dict[int, Any] = {}
        seen = set()
        stack = [t._node]
        while stack:
            node = stack.pop()
            if node is None or id(node) in seen:
                continue
            seen.add(id(node))
            if type(node) is Leaf:
                owner = node.tensor()
                made_inside = owner is None or (type(owner._array) is Value and owner._array.graph is self.body)
                if not made_inside:
                    found[id(node)] = node
            elif type(node) is Output:
                if node.number < self.start:
                    found[id(node)] = node
                else:
                    stack.append(node.node)
            elif node[0] < self.start or node[1] is _EDGE:
                found[id(node)] = node
            else:
                stack.extend(node[2])
        return list(found.values())

    def pull(self, given: list[int], wanted: list, recorded: bool) -> tuple[Traced, list[Tensor], dict[int, Tensor]]:
        """Traces the gradient: the tape is run from some outputs to where it leaves the function.

        Args:
            given: The outputs that have a cotangent.
            wanted: The nodes whose cotangents are asked for.
            recorded: The gradient will be differentiated.

        Returns:
            (the run so far, its inputs for the cotangents, {id of a node: its cotangent}).
        """
        how = Recorded if recorded else Raw
        t = Traced(self.body, list(self.nodes), self.inputs, self.outputs, self.start)
        with t.inside("a gradient"), PLACE.within("backward"), set_grad_enabled(recorded):
            gs = [t.argument(self.outputs[k], d_name(self.outputs[k]._array.label), recorded) for k in given]
            roots = [(self.outputs[k]._node, how.unwrap(g)) for k, g in zip(given, gs, strict=True)]
            found = run(roots, how, True, {id(n): n for n in wanted}, stop=True)
        return t, gs, {key: how.wrap(g) for key, (_, g) in found.items()}


def _refuse(what: str, does: str, advice: str) -> Callable:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise TraceError(explain(f"a function given to gradloom.{what} {does}", where=user_frame(), do=advice))

    return refuse


def d_name(name: str | None) -> str | None:
    return None if name is None else f"d_{name}"


def name_of(node: Any) -> str:
    """A name for the gradient of what a node of the tape made."""
    owner = node.tensor() if type(node) is Leaf else None
    name = getattr(owner._array, "name", None) if owner is not None else None
    return f"d_{emit.identifier(emit._bare(name))}" if name else "d_captured"


def close(parts: list[Traced]) -> tuple[list[blocks.Block], list[tuple[Any, bool]]]:
    """Blocks of the same inputs: those of the parts, then what any of them takes from outside.

    Returns:
        (blocks, [(outer value or array, whether it is a constant)]).
    """
    outside: dict[int, tuple[Any, bool]] = {}
    taken: list[dict[int, Value]] = []
    for t in parts:
        outer_of = {inner: outer for outer, inner in t.body.captured.values()}
        own = {x._array for x in t.inputs}
        mine: dict[int, Value] = {}
        _, leaves = blocks.needed(t.nodes, [x._array for x in t.outputs])
        for v in leaves:
            if v not in own:
                thing = v.constant if v.constant is not None else outer_of[v]
                mine[id(thing)] = v
                outside.setdefault(id(thing), (thing, v.constant is not None))
        taken.append(mine)
    made = []
    for t, mine in zip(parts, taken, strict=True):
        more = []
        for key in outside:
            if key not in mine:  # another part takes it
                like = next(m[key] for m in taken if key in m)
                mine[key] = Value(t.body, like.shape, like.dtype)
            more.append(mine[key])
        made.append(blocks.copy([x._array for x in t.inputs] + more, t.nodes, [x._array for x in t.outputs]))
    return made, list(outside.values())


def call(op: Op, arrays: list, outside: list[tuple[Any, bool]], attrs: dict, specs: list[Spec], names: list) -> list:
    """The results of a loop or branch on values (adds a node) or arrays (runs it)."""
    graph = PLACE.graph
    if graph is None:
        return _run(op, arrays + [x for x, _ in outside], attrs, specs)
    values = []
    for x, constant in [*((x, False) for x in arrays), *outside]:
        if constant:
            values.append(graph.constant(x))
        elif type(x) is Value:
            values.append(x if x.graph is graph else lift(x, graph))
        else:
            values.append(foreign(op, x))
    results = graph.add(op, values, attrs, specs)
    for v, name in zip(results, names, strict=True):
        v.label = name
    return list(results)


_PROGRAMS: dict[Any, Callable] = {}  # compiled loops of eager calls
_RUN = Op("run", lambda xp, *values, run: run(*values), ("values",), ("run",), variadic=True, outputs=("*results",))


def _run(op: Op, arrays: list, attrs: dict, specs: list[Spec]) -> list:
    """Runs a loop on arrays: it is printed and compiled, once for all loops that are equal."""
    lead = next((x for x in arrays if hasattr(x, "shape")), None)
    backend = default_backend()
    if lead is not None:
        kind = backend_of(lead)
        backend = engine(backend if backend.name == kind.name else kind.name)
        device = kind.device_of(lead)
        if device != str(backend.device):
            backend = engine(backend, device)
    key = (backend.name, op, passes.freeze(attrs))
    program = _PROGRAMS.get(key)
    if program is None:
        if len(_PROGRAMS) >= 512:
            _PROGRAMS.clear()
        graph = Graph()
        inputs = [graph.input(tuple(x.shape), backend_of(x).dtype_of(x), f"x{i}") for i, x in enumerate(arrays)]
        graph.outputs = list(graph.add(op, inputs, attrs, specs))
        helpers = emit.Helpers(backend)
        text = emit.function_text("run", graph, helpers)
        program = emit.build("run", emit.module_text(helpers, text), helpers.namespace)
        if op.name in backend.loops:  # the engine has its own form of a loop, and compiles it
            program = backend.compile(program)
        _PROGRAMS[key] = program
    with backend.context():
        return list(_RUN.kernels[type(lead)](*arrays, run=program) if lead is not None else program())


def zeros(like: list[Tensor], shape: tuple, dtype: Any) -> Any:
    """Zeros where the first of the Tensors is."""
    if PLACE.graph is not None:
        return ops.zeros.op.kernels[Value](shape=shape, dtype=dtype)
    x = like[0]._array
    return ops.zeros.op.kernels[type(x)](shape=shape, dtype=dtype, like=x)


def nothing(t: Any) -> bool:
    """Whether a traced cotangent is known to be zero: that of a result that nothing depends on."""
    x = t._array if isinstance(t, Tensor) else t
    return type(x) is Value and x.node is not None and x.node.op.name == "zeros"
