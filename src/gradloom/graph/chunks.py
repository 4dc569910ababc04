"""Update rules on NumPy: a loop over chunks of flat arrays, printed from the rule's own leaf, for compiled and for eager steps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..backends.registry import get_backend
from ..dtypes import DType, to_numpy_dtype
from . import emit, passes
from .graph import PLACE, Graph, Value

CHUNK = 32768  # elements: the arrays of a rule's chunk stay in the second-level cache


class Lines(NamedTuple):
    """A rule on elements as a graph of namespace functions.

    Attributes:
        names: Of the arrays: "p", "g" and those of the state.
        inputs: Their values, in that order.
        scalars: The values of the rule's scalars.
        targets: {new value: the value of the array that it replaces}; an array that stays as it is has none.
    """

    graph: Graph
    names: tuple[str, ...]
    inputs: list[Value]
    scalars: list[Value]
    targets: dict[Value, Value]


def traced(rule: Any, flags: dict, dtype: Any) -> Lines:
    """The rule's leaf, traced on one chunk."""
    names = ("p", "g", *rule.state(flags))
    graph = Graph()
    inputs = [graph.input((CHUNK,), dtype, n) for n in names]
    scalars = [graph.input((), dtype, n) for n in rule.scalar_names]
    before = (PLACE.graph, PLACE.phase, PLACE.scope)
    PLACE.graph, PLACE.phase, PLACE.scope = graph, "update", ""
    try:
        graph.outputs = list(rule.leaf(ops.xp, *inputs, *scalars, **flags))
    finally:
        PLACE.graph, PLACE.phase, PLACE.scope = before
    passes.lower(graph, lambda node: False)
    passes.dead(graph)
    passes.common(graph)
    targets = {new: old for new, old in zip(graph.outputs, (inputs[0], *inputs[2:]), strict=True) if new is not old}
    return Lines(graph, names, inputs, scalars, targets)


def chunked(rule: Any, flags: dict, dtype: Any, helpers: emit.Helpers) -> str:
    """Makes the helper that updates flat arrays in place, chunk by chunk, and gives its name.

    The rule is traced on one chunk and printed with `out=`; a new value is computed where the old one lies as soon as that is not needed.
    """
    key = (rule.name, tuple(sorted(flags.items(), key=str)), dtype)
    function = helpers.unique(rule.name, key)
    if function in helpers.sources:
        return function
    graph, names, inputs, scalars, targets = traced(rule, flags, dtype)
    last = {v: i for i, node in enumerate(graph.nodes) for v in node.inputs if type(v) is Value}
    last.update((new, len(graph.nodes)) for new in targets if new.node is None)  # an array that becomes another one
    free: list[str] = []
    scratch = 0
    text: dict[Value, str] = {v: v.name for v in (*inputs, *scalars)}
    lines, copies = [], [(old.name, new) for new, old in targets.items() if new.node is None]
    for i, node in enumerate(graph.nodes):
        v = node.outputs[0]
        fn = getattr(helpers.backend.xp, node.op.name)
        args = ", ".join(text[u] if type(u) is Value else emit.literal(u) for u in node.inputs)
        if v.dtype is not dtype:  # a condition
            text[v] = f"c{i}"
            lines.append(f"c{i} = np.{fn.__name__}({args})")
            continue
        old = targets.get(v)
        ending = [
            u
            for u in dict.fromkeys(node.inputs)
            if type(u) is Value and last[u] == i and text[u].startswith("t") and u not in targets
        ]
        if old is not None and last.get(old, -1) <= i:
            place = text[old]
        elif ending:
            place = text[ending.pop()]
        elif free:
            place = free.pop()
        else:
            place, scratch = f"t{scratch}", scratch + 1
        if old is not None and place != text[old]:
            copies.append((text[old], v))
        free += [text[u] for u in ending if text[u] != place]
        text[v] = place
        if isinstance(fn, np.ufunc):
            lines.append(f"np.{fn.__name__}({args}, out={place})")
        else:  # where
            lines.append(f"np.copyto({place}, {emit.call('xp.' + node.op.name, [args], node.attrs)})")
        if v not in last and v not in targets:
            free.append(place)
    lines += [f"np.copyto({old}, {text[v]})" for old, v in copies]
    params = ("params", "grads", *(f"{n}s" for n in rule.state(flags)))
    d = to_numpy_dtype(dtype)
    temporaries = [f"t{k}" for k in range(scratch)]
    for t in temporaries:
        helpers.namespace[f"{function}_{t}"] = np.empty(CHUNK, d)
    views = [f"{n} = {p}[0][start : start + {CHUNK}]" for n, p in zip(names, params, strict=True)]
    views += [f"{t} = {function}_{t}[: p.size]" for t in temporaries]
    helpers.namespace["np"] = np
    body = "\n".join("        " + line for line in (*views, *lines))
    returned = ", ".join(p for p in params if p != "grads")
    helpers.sources[function] = (
        f"def {function}({', '.join((*params, *rule.scalar_names))}):\n"
        f'    """Updates the arrays in place, in chunks that stay in cache."""\n'
        f"    for start in range(0, params[0].size, {CHUNK}):\n{body}\n"
        f"    return {returned}{',' if ',' not in returned else ''}"
    )
    return function


class _Loops(threading.local):
    """The loops of one thread: they have arrays for what lies between."""

    def __init__(self) -> None:
        self.found: dict[Any, tuple[Callable, np.ndarray]] = {}


_LOOPS = _Loops()


def loop(rule: Any, flags: dict, dtype: DType) -> tuple[Callable, np.ndarray]:
    """The function of `chunked` for eager updates (what compiled steps run as well), and an array of one chunk."""
    key = (rule, dtype, *flags.values())
    found = _LOOPS.found.get(key)
    if found is None:
        helpers = emit.Helpers(get_backend("numpy"))
        name = chunked(rule, flags, dtype, helpers)
        made = emit.build(name, helpers.sources[name] + "\n", helpers.namespace)
        found = _LOOPS.found[key] = (made, np.empty(CHUNK, to_numpy_dtype(dtype)))
    return found


def groups(sizes: list[int]) -> list[tuple[int, int, int, int]]:
    """Parts of a flat array that are updated at once, (start, stop, first piece, last + 1): one piece, or small ones up to a chunk."""
    made: list[tuple[int, int, int, int]] = []
    start = first = stop = 0
    for k, size in enumerate(sizes):
        if stop > start and stop + size - start > CHUNK:
            made.append((start, stop, first, k))
            start, first = stop, k
        stop += size
    return [*made, (start, stop, first, len(sizes))]


def update(
    rule: Any, flags: dict, dtype: DType, whole: np.ndarray, grads: list, states: list, scalars: tuple, parts: list
) -> None:
    """Updates flat arrays in place.

    Args:
        grads: One after the other the gradients of the whole; read where they lie, or brought together by the chunk.
        states: Flat arrays.
        parts: What `groups` gives for the sizes of the gradients.
    """
    run, gathered = loop(rule, flags, dtype)
    if any(g.base is whole for g in grads):  # parameters that are the gradients of others
        grads = [g.copy() for g in grads]
    for start, stop, first, last in parts:
        if last == first + 1:
            g = grads[first].ravel()
        else:
            g = np.concatenate([g.ravel() for g in grads[first:last]], out=gathered[: stop - start])
        run([whole[start:stop]], [g], *([s[start:stop]] for s in states), *scalars)
