"""A compiled function: the emitted source, what it reads and writes, and one run of it."""

from __future__ import annotations

import functools
import itertools
import operator
import sys
import time
from collections.abc import Callable
from typing import Any

from .. import tree
from ..backends.base import Backend
from ..errors import GradientError, explain
from ..ops.op import REGISTRY, Op
from ..tensor import storage
from ..tensor.storage import STRUCTURE
from ..tensor.tape import _new
from ..tensor.tensor import Tensor
from . import emit, passes, plan, updates
from .graph import Graph, Value
from .trace import NOT_KEPT, Trace


def _no_history(xp: Any, g: Any) -> Any:
    raise GradientError(
        explain(
            "this Tensor is the result of a compiled function, which does not keep its history",
            do="call backward() inside the function that gradloom.jit compiles",
        )
    )


# What a run has written gets a version that no Tensor had: setting one takes a fraction of adding 1 to each.
_versions = itertools.count(1 << 20, 1 << 20).__next__

_RESULT = Op("compiled_result", lambda xp, x: x, ("x",), ())
_RESULT.define_vjp(("x",), _no_history)
_RESULT_NODE = (1, _RESULT.plan((True,)), (None,), None, None, None)


class Compiled:
    """The form of a function for one set of shapes and settings.

    Attributes:
        source, emitted: The emitted text, and its function as Python's own.
        node_count: Nodes of the graph as traced.
        engine_seconds: What passing the text to the engine took (not counted as tracing).
        simple_key, mode: Shapes and dtypes of the arguments and the gradient mode of the last lookup, for the short path.
    """

    def __init__(self, name: str, trace: Trace, inputs: list[Value], result: Any, keep_grads: bool):
        self.backend = trace.backend
        self.node_count = len(trace.graph.nodes)
        self.simple_key: Any = None
        self.mode = True
        self._marked = self._cells = -1  # counts of STRUCTURE at which there is nothing to do
        self._checks = trace.checks
        self._afters = trace.afters
        self._hosts = trace.hosts
        # Numbers of the optimizers, by the dtype of what they are for: an engine that takes them as one array has one a dtype.
        self._scalars: dict[Any, list[Callable]] = {}
        for compute, values in trace.scalars:
            self._scalars.setdefault(values[0].dtype, []).append(compute)
        self._grad_states = [(e.before is None, t) for _, t, e in trace.entry_grads if e.read]
        self._results(trace, result, keep_grads)
        self._emit(emit.identifier(name), trace, inputs)

    # --- building

    def _results(self, trace: Trace, result: Any, keep_grads: bool) -> None:
        """Sorts out what the function returns, and which slots it changed."""
        leaves, self._treedef = tree.flatten(result)
        self._statics: list[Any] = []  # (position, what is returned as it is)
        self._outs: list[tuple[int, Value, bool]] = []  # (position, value, whether it would require a gradient)
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor) and type(leaf._array) is Value:
                self._outs.append((i, leaf._array, leaf._node is not None))
            elif type(leaf) is Value:
                self._outs.append((i, leaf, False))
            else:
                self._statics.append((i, leaf))
        # A function that returns a parameter: its Tensor holds an array again, but its last value is known.
        self._changed = []
        self._followed: list[Tensor] = []  # an optimizer keeps them up to date
        for (name, t, value), final in zip(trace.tensors, trace.finals, strict=True):
            if final is not value and trace.follows.get(id(t)) is final:
                self._followed.append(t)
            elif final is not value:
                self._changed.append((name, t, final))
        self._touched = {id(t) for t in self._followed} | {id(t) for _, t, _ in self._changed}
        self._new_states: dict[str, tuple[Any, list[Value]]] = {}
        for (container, _, label, values), finals in zip(trace.states, trace.final_states, strict=True):
            if any(f is not v for f, v in zip(finals, values, strict=True)):
                self._new_states[label] = (container, finals)
        self._grad_outs: list[tuple[Tensor, Value]] = []
        self._grad_none: list[Tensor] = []
        self._grad_lost: list[Tensor] = []
        for _, t, grad in trace.final_grads:
            if grad is None:
                self._grad_none.append(t)
            elif type(grad) is Tensor:
                if keep_grads:
                    self._grad_outs.append((t, grad._array))
                else:
                    self._grad_lost.append(t)

    def _emit(self, name: str, trace: Trace, inputs: list[Value]) -> None:
        backend, graph = self.backend, trace.graph
        graph.outputs = [
            *(v for _, v, _ in self._outs),
            *(v for _, _, v in self._changed),
            *(v for _, values in self._new_states.values() for v in values),
            *(v for _, v in self._grad_outs),
        ]
        with backend.context():
            passes.dead(graph)
            passes.common(graph)
            passes.fold(graph, lambda node, values: compute(backend, node, values))
            passes.simplify(graph)
            passes.dead(graph)
        rest = iter(graph.outputs)
        outs = [next(rest) for _ in self._outs]
        changed = [(n, next(rest)) for n, _, _ in self._changed]
        states = {label: [next(rest) for _ in values] for label, (_, values) in self._new_states.items()}
        grads = [next(rest) for _ in self._grad_outs]

        used = {v for node in graph.nodes for v in node.inputs if type(v) is Value} | set(graph.outputs)
        self._slots(trace, used)
        self._grad_reads = [(n, t) for n, t, v in trace.grads if v in used]
        self._states = {label: container for container, _, label, _ in trace.states}
        scalar_values = [[v for _, values in trace.scalars for v in values if v.dtype is d] for d in self._scalars]

        helpers = emit.Helpers(backend)
        parameters = ["p"] if self._given or self._reads or self._views else []
        parameters += ["g"] if self._grad_reads else []
        parameters += ["s"] if self._states else []
        parameters += [v.name for v in inputs]
        parameters += ["h"] if scalar_values else []
        parameters += ["random"] if self._hosts else []
        reserved = set(parameters) | {v.name for values in scalar_values for v in values} | {"xp", name}
        reserved |= set(REGISTRY)
        self._name_groups(graph, reserved)
        emit.name_values(graph, reserved)
        if backend.plans:
            outputs = graph.outputs
            with backend.context():
                passes.lower(graph, lambda node: whole(backend, node))
                passes.common(graph, apart=1 << 20)
                passes.fold(graph, lambda node, values: compute(backend, node, values))
                passes.simplify(graph)
                passes.dead(graph)
            new = dict(zip(outputs, graph.outputs, strict=True))
            outs, grads = [new[v] for v in outs], [new[v] for v in grads]
            changed = [(n, new[v]) for n, v in changed]
            states = {label: [new[v] for v in values] for label, values in states.items()}
        reserved |= emit.prepare(graph, helpers)
        emit.name_values(graph, reserved)
        self._name_constants(graph, helpers)
        lines = [
            f"{', '.join(v.name for v in values)}{',' if len(values) == 1 else ''} = h{f'[{k}]' if len(scalar_values) > 1 else ''}"
            for k, values in enumerate(scalar_values)
        ]
        if backend.plans:
            self.plan = plan.Plan(graph, helpers, set(outs), trace.memory)
            line = self.plan.line
        else:
            names = {name for name, _ in changed}
            line = functools.partial(_rule_line, graph=graph, helpers=helpers, memory=trace.memory, changed=names)
        lines += emit.body(graph, helpers, line, planned=self.plan.arrays if backend.plans else ())
        pairs = ", ".join(f'"{n}": {v.name}' for n, v in changed)
        new_s = ", ".join(f'"{label}": {column(values)}' for label, values in states.items())
        roots = {
            v for v in outs if backend.plans and self.plan.owner(v) in graph.inputs
        }  # views of what the next run writes

        def tuple_of(vs: list) -> str:
            return (
                "("
                + ", ".join(f"{v.name}.copy()" if v in roots else v.name for v in vs)
                + ("," if len(vs) == 1 else "")
                + ")"
            )

        lines += emit.comment(f"return ({tuple_of(outs)}, {{{pairs}}}, {{{new_s}}}, {tuple_of(grads)})", "", 100)
        text = f"def {name}({', '.join(parameters)}):\n" + "\n".join("    " + line for line in lines)
        self.source = emit.module_text(helpers, text)
        start = time.perf_counter()
        self.emitted = emit.build(name, self.source, helpers.namespace)
        fn = self.in_lists(self.emitted)
        donate = tuple(i + bool(self._given and self._reads) for i, p in enumerate(parameters) if p == "s")
        donate = (0, *donate) if self._given else donate
        # A branch that is Python's own cannot be part of what MLX compiles.
        branches = {node.op.name for node, _ in passes.blocks(graph)} - {"scan"}
        self._fn = backend.compile(fn, donate) if branches <= backend.loops.keys() else fn
        self.engine_seconds = time.perf_counter() - start

    def _slots(self, trace: Trace, used: set[Value]) -> None:
        """Sorts the captured Tensors by how they are read at each run."""
        reads = [(n, t, v) for n, t, v in trace.tensors if v in used]
        self._written = [t for _, t, _ in self._changed]
        self._lists = type(self.backend).compile is not Backend.compile
        given = {id(t) for t in self._written} if self.backend.donates else ()
        # What is given to the engine for its results; what it only reads; and what lies in an array of an optimizer, which sees to it
        # that it is there before each run: (names, the optimizer's list of views, positions in it).
        self._given = [t for _, t, _ in reads if id(t) in given]
        self._given_names = [n for n, t, _ in reads if id(t) in given]
        kept = [(n, t) for n, t, v in reads if id(t) not in given and v not in trace.lies]
        self._reads, self._read_names = [t for _, t in kept], [n for n, _ in kept]
        self._views: dict[int, tuple[list[str], list, list[int]]] = {}
        for n, _, v in reads:
            if v in trace.lies:
                views, k = trace.lies[v]
                names, _, positions = self._views.setdefault(id(views), ([], views, []))
                names.append(n)
                positions.append(k)
        self._p: dict[str, Any] = {}
        self._seen: list = []  # what `_p` was made of
        self._seen_views: list = []

    def in_lists(self, fn: Callable) -> Callable:
        """The emitted function as an engine's compiler is given it: with lists of arrays, what is donated apart, in place of dicts."""
        if not self._lists:
            return fn

        def call(*args: Any) -> Any:
            rest, p = list(args), dict[str, Any]()
            for names in filter(None, (self._given_names, self._read_names)):
                p.update(zip(names, rest.pop(0), strict=True))
            outs, new_p, new_s, grads = fn(*([p] if p else []), *rest)
            return outs, list(new_p.values()), new_s, grads

        return call

    def _name_groups(self, graph: Graph, reserved: set[str]) -> None:
        """Results of an update rule are columns: `new_params[0]`."""
        for node in graph.nodes:
            rule = getattr(node.op, "rule", None)
            if rule is None:
                continue
            count = node.attrs["count"]
            names = ["new_params", *(f"new_{s}" for s in updates.state_names(node))]
            for i, base in enumerate(names):
                unique, k = base, 1
                while unique in reserved:
                    k += 1
                    unique = f"{base}_{k}"
                reserved.add(unique)
                for j in range(count):
                    node.outputs[i * count + j].name = f"{unique}[{j}]"

    def _name_constants(self, graph: Graph, helpers: emit.Helpers) -> None:
        constants = {v for node in graph.nodes for v in node.inputs if type(v) is Value and v.constant is not None}
        constants |= {v for v in graph.outputs if v.constant is not None}
        for k, v in enumerate(sorted(constants, key=id)):
            v.name = f"constant_{k}"
            helpers.namespace[v.name] = v.constant

    # --- what must hold

    def grads_hold(self) -> bool:
        """Whether the gradients that the function reads are there, or missing, as they were when it was traced."""
        for missing, t in self._grad_states:
            if (t._grad is None) is not missing or type(t._grad) is not (type(None) if missing else Tensor):
                return False
        return True

    def valid(self) -> bool:
        """Whether gradients and the settings of optimizers are as they were when it was compiled."""
        for check in self._checks:
            if not check():
                return False
        return not self._grad_states or self.grads_hold()

    def changes(self, cell: Any) -> bool:
        """Whether a run changes a Tensor of this cell."""
        return any(id(r()) in self._touched for r in cell.members)

    # --- a run

    def bare(self, leaves: list) -> Callable[[], Any]:
        """A function that runs only the emitted function, again and again on what it gave before: what benchmarks compare with."""
        copy = self.backend.copy
        args: list[Any] = [
            [copy(t._array) for t in column] for column in (self._given, self._reads) if column and self._lists
        ]
        p: dict[str, Any] = {} if self._lists else {n: copy(a) for n, a in self._read().items()}
        s = {label: [copy(a) for a in container] for label, container in self._states.items()}
        g = {n: copy(t._grad._array) for n, t in self._grad_reads}
        args += [x for x in (p, g, s) if x]
        args += leaves
        if self._scalars:
            args.append(self._numbers())
        if self._hosts:
            args.append([self.backend.from_numpy(draw()) for draw, _ in self._hosts])
        places = {id(t): k for k, t in enumerate(self._written)}
        given = [places[id(t)] for t in self._given]
        same = given == list(range(len(self._written)))

        def call() -> Any:
            outs, new_p, new_s, _ = self._fn(*args)
            if given:
                args[0] = new_p if same else [new_p[k] for k in given]
            elif not self._lists:
                p.update(new_p)
            s.update(new_s)
            return outs

        return call

    def _read(self) -> dict[str, Any]:
        """`p`, for engines that run the text itself: made anew where an array is another one than at the last run."""
        now, views = [t._array for t in self._reads], [views[0] for _, views, _ in self._views.values()]
        seen = (*self._seen, *self._seen_views)
        if len(seen) != len(now) + len(views) or not all(map(operator.is_, (*now, *views), seen)):
            self._seen, self._seen_views = now, views
            self._p = dict(zip(self._read_names, now, strict=True))
            for names, arrays, positions in self._views.values():
                self._p.update((n, arrays[k]) for n, k in zip(names, positions, strict=True))
        return self._p

    def _numbers(self) -> Any:
        """The numbers of the optimizers for this run."""
        numbers = [self.backend.scalars([x for f in fs for x in f()], d) for d, fs in self._scalars.items()]
        return numbers[0] if len(numbers) == 1 else numbers

    def _give(self, arrays: list, references: int) -> list:
        """The arrays, but copies of those that somebody else holds: what is donated to the engine cannot be read afterwards.

        Args:
            references: Those to each array that are ours.
        """
        if sum(map(sys.getrefcount, arrays)) == references * len(arrays):
            return arrays
        return [
            a if n == references else self.backend.copy(a)
            for a, n in zip(arrays, list(map(sys.getrefcount, arrays)), strict=True)
        ]

    def run(self, leaves: list) -> Any:
        """Reads the slots, runs the function, writes the slots."""
        backend = self.backend
        args: list[Any] = []
        if not self._lists:
            if self._reads or self._views:
                args.append(self._read())
        else:
            if self._given:
                args.append(self._give([t._array for t in self._given], 3))
            if self._reads:
                args.append([t._array for t in self._reads])
        if self._grad_reads:
            args.append({n: t._grad._array for n, t in self._grad_reads})
        if self._states:
            if backend.donates:
                for container in self._states.values():
                    container[:] = self._give(container, 2)
            args.append(self._states)
        args += leaves
        if self._scalars:
            args.append(self._numbers())
        if self._hosts:
            args.append([backend.from_numpy(draw(), value.dtype) for draw, value in self._hosts])
        outs, new_p, new_s, grads = self._fn(*args)
        alone = STRUCTURE.cells == self._cells  # nobody has made an alias since none of what is written had one
        t: Any
        pairs = zip(self._written, new_p if self._lists else new_p.values())  # noqa: B905  (half the time)
        if alone:
            version = _versions()
            for t, t._array in pairs:
                t._version = version
        else:
            for t, array in pairs:
                t._array = array
                storage.bump(t)
        for label, (container, _) in self._new_states.items():
            container[:] = new_s[label]
        for after in self._afters:
            after()
        if alone:
            for t in self._followed:
                t._version = version
        else:
            for t in self._followed:
                storage.bump(t)
            if all(t._cell is None for t in (*self._written, *self._followed)):
                self._cells = STRUCTURE.cells
        for (t, _), array in zip(self._grad_outs, grads, strict=True):
            if type(t._grad) is not Tensor:
                STRUCTURE.version += 1  # another compiled function may have to be told
            t._grad = g = _new(Tensor)
            g._array, g._node = array, None
        if STRUCTURE.version != self._marked:  # else the marks of the last run still stand
            for t in self._grad_lost:
                t._grad = NOT_KEPT
            for t in self._grad_none:
                t._grad = None
            self._marked = STRUCTURE.version
        results: list[Any] = [None] * (len(self._outs) + len(self._statics))
        for (i, _, requires), array in zip(self._outs, outs, strict=True):
            results[i] = t = _new(Tensor)
            t._array = array
            t._node = _RESULT_NODE if requires else None
        for i, x in self._statics:
            results[i] = x
        return tree.unflatten(self._treedef, results)


def whole(backend: Backend, node: Any) -> bool:
    """Ops that the plan takes as they are: update rules, what has a kernel, loops, and the flat gradient."""
    name = node.op.name
    return hasattr(node.op, "rule") or name in backend.fast or name in ("flat", "scan", "cond", "while_loop")


def _rule_line(node: Any, graph: Graph, helpers: emit.Helpers, memory: dict, changed: set) -> list[str] | None:
    if not hasattr(node.op, "rule"):
        return None
    in_place = helpers.backend.mutable and not updates.old_values_are_read(graph, node, memory, changed)
    return updates.rule_lines(node, helpers, in_place)


def compute(backend: Backend, node: Any, values: list) -> Any:
    """Runs one node on constants."""
    lead = next((type(v) for v in values if hasattr(v, "shape")), backend.array_types[0])
    return node.op.kernels[lead](*values, **node.attrs)


def column(values: list[Value]) -> str:
    """A list of values; the results of an update rule by the name of their column."""
    base, bracket, _ = values[0].name.partition("[")
    if bracket and all(v.name == f"{base}[{i}]" for i, v in enumerate(values)):
        return base
    return "[" + ", ".join(v.name for v in values) + "]"
