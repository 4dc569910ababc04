"""Passes over a graph: each takes a graph and changes it in place; the numbers do not change.

`dead` removes what no output needs, `common` merges nodes that compute the same, `fold` computes what depends on constants only,
`simplify` drops arithmetic without effect, `lower` replaces ops by the namespace functions of their bodies (for the NumPy plan).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .. import ops
from ..ops.namespace import NAMESPACE
from .graph import PLACE, Graph, Node, Value

CREATION = frozenset(("zeros", "ones", "full", "arange", "eye"))
LOOPS = frozenset(("scan", "cond", "while_loop"))  # nodes with graphs among their attributes

#: name of an op -> `trim(node, used)`, which removes results that are not in `used`, and what only they need, from a node.
TRIM: dict[str, Callable[[Node, set[Value]], None]] = {}


def blocks(graph: Graph) -> Iterator[tuple[Node, Graph]]:
    """The loops and branches of a graph, each with its functions; those inside these functions, too."""
    for node in graph.nodes:
        if node.op.name in LOOPS:
            for inner in node.attrs.values():
                if isinstance(inner, Graph):
                    yield node, inner
                    yield from blocks(inner)


def substitute(graph: Graph, new: dict[Value, Value]) -> None:
    """Replaces values where they are used, following chains."""
    if not new:
        return

    def of(v: Any) -> Any:
        while type(v) is Value and v in new:
            v = new[v]
        return v

    for node in graph.nodes:
        node.inputs = [of(v) for v in node.inputs]
    graph.outputs = [of(v) for v in graph.outputs]


def dead(graph: Graph) -> None:
    """Removes nodes whose results nobody uses."""
    used = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if any(v in used for v in node.outputs):
            if node.op.name in TRIM:
                TRIM[node.op.name](node, used)
            kept.append(node)
            used.update(v for v in node.inputs if type(v) is Value)
    graph.nodes = kept[::-1]


def common(graph: Graph, apart: int | None = None) -> None:
    """Merges nodes with the same op, inputs and attributes. All ops are pure: random numbers are inputs.

    Args:
        apart: Results of more bytes are merged within a phase only. An op whose gradient computes a large value again (the columns of
            a convolution) does so to save memory; merging would keep it alive from the forward to the backward pass.
    """
    seen: dict[Any, Node] = {}
    new: dict[Value, Value] = {}
    kept = []
    for node in graph.nodes:
        node.inputs = [new.get(v, v) if type(v) is Value else v for v in node.inputs]
        inputs = tuple((id(v),) if type(v) is Value else (type(v), repr(v)) for v in node.inputs)  # 0.0 is not -0.0
        key: Any = (node.op, inputs, freeze(node.attrs))
        if apart is not None and sum(_size(v) * v.dtype.itemsize for v in node.outputs) > apart:
            key = (*key, node.phase)
        first = seen.setdefault(key, node)
        if first is node:
            kept.append(node)
        else:
            new.update(zip(node.outputs, first.outputs, strict=True))
    graph.nodes = kept
    substitute(graph, new)


def freeze(x: Any) -> Any:
    """A hashable form of static attributes (slices, lists, dicts); by identity where there is none."""
    if isinstance(x, dict):
        return tuple((k, freeze(v)) for k, v in sorted(x.items()))
    if isinstance(x, (tuple, list)):
        return tuple(freeze(v) for v in x)
    if isinstance(x, slice):
        return ("slice", x.start, x.stop, x.step)
    try:
        hash(x)
    except TypeError:
        return ("id", id(x))
    return (type(x), x)


def fold(graph: Graph, compute: Callable[[Node, list], Any], limit: int = 1 << 20) -> None:
    """Computes nodes that depend on constants only, while their results have at most `limit` elements.

    Args:
        compute: `compute(node, inputs)` runs a node on arrays.
    """
    new: dict[Value, Value] = {}
    kept = []
    for node in graph.nodes:
        node.inputs = [new.get(v, v) if type(v) is Value else v for v in node.inputs]
        values = [v for v in node.inputs if type(v) is Value]
        fixed = all(v.constant is not None for v in values) and (values or node.op.name in CREATION)
        if fixed and sum(_size(v) for v in node.outputs) <= limit and node.op.name not in LOOPS:
            result = compute(node, [v.constant if type(v) is Value else v for v in node.inputs])
            arrays = result if node.several else (result,)
            new.update((v, graph.constant(a)) for v, a in zip(node.outputs, arrays, strict=True))
        else:
            kept.append(node)
    graph.nodes = kept
    substitute(graph, new)


def simplify(graph: Graph) -> None:
    """Removes products and quotients with 1, which options at their defaults leave behind."""
    new: dict[Value, Value] = {}
    for node in graph.nodes:
        node.inputs = [new.get(v, v) if type(v) is Value else v for v in node.inputs]
        if node.op.name in ("multiply", "divide") and len(node.inputs) == 2:
            x, y = node.inputs
            if node.op.name == "multiply" and type(x) is not Value:
                x, y = y, x
            if type(y) in (int, float) and y == 1 and x.dtype is node.outputs[0].dtype:
                new[node.outputs[0]] = x
    substitute(graph, new)


def _size(v: Value) -> int:
    n = 1
    for k in v.shape:
        n *= k
    return n


def lower(graph: Graph, keep: Callable[[Node], bool]) -> None:
    """Replaces each op by the namespace functions that its body calls, but for the ops that `keep` wants whole."""
    new: dict[Value, Any] = {}
    nodes, graph.nodes = graph.nodes, []
    before = (PLACE.graph, PLACE.phase, PLACE.scope)
    PLACE.graph = graph
    try:
        for node in nodes:
            node.inputs = [new.get(v, v) if type(v) is Value else v for v in node.inputs]
            if node.op.name in NAMESPACE or node.op.name in LOOPS or keep(node):
                graph.nodes.append(node)
                continue
            PLACE.phase, PLACE.scope = node.phase, node.scope
            result = node.op.forward(ops.xp, *node.inputs, **node.attrs)
            results = result if type(result) in (tuple, list) else (result,)
            for old, r in zip(node.outputs, results, strict=True):
                new[old] = r
                if r.name is None:
                    r.name = old.name
    finally:
        PLACE.graph, PLACE.phase, PLACE.scope = before
    substitute(graph, new)
