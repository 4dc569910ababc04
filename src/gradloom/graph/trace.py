"""Tracing: runs a function once with traced values in its Tensors, and puts everything back as it was."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from .. import ops
from ..backends.base import Backend
from ..backends.registry import using_backend
from ..backends.shapes import Spec
from ..dtypes import DType
from ..errors import GradientError, TraceError, explain, user_frame
from ..tensor.storage import STRUCTURE, refresh
from ..tensor.tape import Leaf, Raw
from ..tensor.tensor import Tensor
from .graph import PLACE, Graph, Value
from .passes import CREATION


class NotKept:
    """In the place of a gradient that a compiled step computed and did not keep: reading it raises."""

    def __call__(self) -> Any:
        raise GradientError(
            explain(
                "this gradient was computed by a compiled step, which did not keep it",
                where=user_frame(),
                do="read .grad inside the compiled function, or compile it with gradloom.jit(keep_grads=True)",
            )
        )


NOT_KEPT = NotKept()


class EntryGrad:
    """Stands for a parameter's gradient as it was before the traced function ran; notes whether it is read."""

    def __init__(self, before: Any, make: Callable[[], Tensor]):
        self.before, self.make = before, make
        self.read = False

    def __call__(self) -> Any:
        self.read = True
        if self.before is None:
            return None
        if type(self.before) is NotKept:
            return self.before()
        return self.make()


class TraceBackend(Backend):
    """The default backend while tracing: what is made inside the function is a constant, or a node, of the graph."""

    xp = SimpleNamespace(**{name: ops.REGISTRY[name].kernels[Value] for name in CREATION})

    def __init__(self, inner: Backend, graph: Graph):
        self.inner, self.graph = inner, graph
        self._dtype, self.device = inner._dtype, inner.device
        # The class attributes of a backend, for this instance: those of the engine.
        vars(self).update(name=inner.name, fast=inner.fast, array_types=(Value,))

    def native_dtype(self, d: DType) -> Any:
        return self.inner.native_dtype(d)

    def from_numpy(self, array: np.ndarray, d: DType | None = None) -> Any:
        return PLACE.graph.constant(self.inner.from_numpy(array, d))  # type: ignore[union-attr]

    def from_dlpack(self, array: Any) -> Any:
        return PLACE.graph.constant(self.inner.from_dlpack(array))  # type: ignore[union-attr]

    @classmethod
    def copy(cls, array: Any) -> Any:
        return array


class Trace:
    """One run of a function on traced values.

    Attributes:
        graph: What was recorded.
        tensors: Captured Tensors: [(name, Tensor, Value)]; gradients that were read: [(name, Tensor, Value)].
        states: Arrays of optimizers: [(their list, the arrays, its name, their Values)].
        memory: {array of an optimizer: captured values that are views of it}; lies: {such a value: (list that has it, position)}.
        follows: {id of a Tensor: what it holds when its optimizer keeps it up to date}.
        hosts: [(draw, Value)]; scalars: [(compute, [Value])].
        result: The function's result with Values in place of Tensors' arrays.
    """

    def __init__(self, backend: Backend, paths: dict[int, str]):
        self.backend, self.paths = backend, paths
        self.graph = Graph()
        self.tensors: list[tuple[str, Tensor, Value]] = []
        self.entry_grads: list[tuple[str, Tensor, EntryGrad]] = []
        self.grads: list[tuple[str, Tensor, Value]] = []
        self.states: list[tuple[list, list, str, list[Value]]] = []
        self.hosts: list[tuple[Callable, Value]] = []
        self.scalars: list[tuple[Callable, list[Value]]] = []
        self.afters: list[Callable] = []
        self.checks: list[Callable] = []
        self.follows: dict[int, Value] = {}
        self._state_values: dict[int, list[Value]] = {}
        self.memory: dict[Value, set[Value]] = {}
        self.lies: dict[Value, tuple[list, int]] = {}
        self._counts: dict[int, int] = {}

    # --- what the traced code asks of PLACE

    def host_input(self, draw: Callable, shape: tuple, dtype: DType, name: str = "mask") -> Value:
        value = self.graph.input(shape, dtype, f"random[{len(self.hosts)}]")
        self.hosts.append((draw, value))
        return value

    def host_scalars(self, compute: Callable, names: tuple[str, ...], dtype: DType) -> list[Value]:
        values = [self.graph.input((), dtype, _unique(n, self._scalar_names())) for n in names]
        self.scalars.append((compute, values))
        return values

    def _scalar_names(self) -> set:
        return {v.name for _, values in self.scalars for v in values}

    def state(self, container: list, label: str) -> list[Value]:
        """The Values of the arrays in an optimizer's list; what the list holds when the trace ends is written back at each run."""
        found = self._state_values.get(id(container))
        if found is None:
            label = _unique(label, {name for _, _, name, _ in self.states})
            found = []
            for k, array in enumerate(container):
                spec = spec_of(array, self.backend)
                found.append(self.graph.input(spec.shape, spec.dtype, f's["{label}"][{k}]'))
            self._state_values[id(container)] = found
            self.states.append((container, list(container), label, found))
            container[:] = found
        return found

    def follow(self, t: Tensor) -> None:
        """What t holds now is a part of an optimizer's array: its owner keeps t up to date after each run."""
        self.follows[id(t)] = t._array

    def parts(self, whole: Value, values: list[Value], views: list) -> None:
        """These values share the memory of that one. Before each run, those that are inputs will be the arrays in `views`."""
        inputs = {v: (views, k) for k, v in enumerate(values) if v.node is None}
        self.memory.setdefault(whole, set()).update(inputs)
        self.lies.update(inputs)

    def count(self, key: Any) -> int:
        """How often this was called with this object before."""
        self._counts[id(key)] = self._counts.get(id(key), -1) + 1
        return self._counts[id(key)]

    # --- the run

    def run(
        self, fn: Callable, args: tuple, kwargs: dict, captured: list[tuple[str, Tensor]], owners: list[tuple[str, Any]]
    ) -> Any:
        """Runs fn with `captured` traced. Returns its result; `finals` holds what the slots held at the end.

        Args:
            captured: Names and Tensors.
            owners: (prefix of its slots' names, module).
        """
        restore = [owner.__jit_snapshot__() for _, owner in owners if hasattr(owner, "__jit_snapshot__")]
        saved_place = dict(vars(PLACE))
        saved_structure = STRUCTURE.version
        cells = {id(t._cell): (t._cell, t._cell.array) for _, t in captured if t._cell is not None}
        aliases = [m for cell, _ in cells.values() for r in cell.members if (m := r()) is not None]
        every = {id(t): t for t in (*(t for _, t in captured), *aliases)}.values()
        saved = [(t, t._array, t._node, t._grad, t._version, t._cell) for t in every]
        try:
            PLACE.graph, PLACE.phase, PLACE.scope, PLACE.paths = self.graph, "forward", "", self.paths
            PLACE.host_input, PLACE.host_scalars, PLACE.state = self.host_input, self.host_scalars, self.state
            PLACE.follow, PLACE.parts, PLACE.count = self.follow, self.parts, self.count
            PLACE.after, PLACE.check = self.afters.append, self.checks.append
            self._enter(captured)
            with using_backend(TraceBackend(self.backend, self.graph)):
                result = fn(*args, **kwargs)
            # A buffer may have been given another Tensor: slots are looked up by name again.
            now = {name: t for prefix, owner in owners for name, t in owner.__jit_slots__(prefix)}
            self.finals = [now.get(name, t)._array for name, t, _ in self.tensors]
            self.final_grads = [(name, t, t._grad) for name, t in captured if t.is_leaf and t._node is not None]
            self.final_states = [list(container) for container, _, _, _ in self.states]
            return result
        finally:
            vars(PLACE).clear()
            vars(PLACE).update(saved_place)
            for put_back in restore:
                put_back()
            for t, array, node, grad, version, cell in saved:
                t._array, t._node, t._grad, t._version, t._cell = array, node, grad, version, cell
            for cell, array in cells.values():
                cell.array = array
            for container, arrays, _, _ in self.states:
                container[:] = arrays
            STRUCTURE.version = saved_structure

    def _enter(self, captured: list[tuple[str, Tensor]]) -> None:
        for name, t in captured:
            if t._base is None:
                self._enter_whole(name, t)
            if type(t._node) is Leaf:
                entry = EntryGrad(t._grad, functools.partial(self._entry_grad, name, t, t._grad))
                self.entry_grads.append((name, t, entry))
                t._grad = entry
        for cell in {id(t._cell): t._cell for _, t in captured if t._cell is not None}.values():
            for r in cell.members:
                m = r()
                if m is not None and m._base is not None:
                    refresh(m)

    def _enter_whole(self, name: str, t: Tensor) -> None:
        """A Tensor that is no view; views are read from it afterwards."""
        if t._cell is not None and type(t._cell.array) is Value:
            t._array = t._cell.array  # another name of memory that is captured already
            return
        if t._node is not None and type(t._node) is not Leaf:
            raise TraceError(
                explain(
                    f"the compiled function uses '{name}', which was computed with gradients outside of it",
                    do="detach() it, compute it inside the function, or pass it as an argument",
                )
            )
        spec = spec_of(t._array, self.backend)
        t._array = value = self.graph.input(spec.shape, spec.dtype, f'p["{name}"]')
        self.tensors.append((name, t, value))
        if t._cell is not None:
            t._cell.array = value

    def _entry_grad(self, name: str, t: Tensor, before: Tensor) -> Tensor:
        value = self.graph.input(before.shape, before.dtype, f'g["{name}"]')
        self.grads.append((name, t, value))
        return Raw.wrap(value)


def spec_of(array: Any, backend: Backend) -> Spec:
    return Spec(tuple(array.shape), backend.dtype_of(array))


def _unique(name: str, taken: set) -> str:
    k, result = 1, name
    while result in taken:
        k += 1
        result = f"{name}_{k}"
    return result
