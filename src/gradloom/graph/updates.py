"""Lines of emitted source for update rules: an engine's kernel, a loop over chunks that stay in cache, or the rule itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..dtypes import to_numpy_dtype
from . import emit, passes
from .graph import PLACE, VIEWS, Graph, Node, Value


def state_names(node: Node) -> tuple:
    """Names of the state arrays of an update rule."""
    return node.op.rule.state(_flags(node))  # type: ignore[attr-defined]


def _flags(node: Node) -> dict:
    return {k: v for k, v in node.attrs.items() if k not in ("count", "columns")}


def old_values_are_read(graph: Graph, node: Node) -> bool:
    """Whether parameters or state, as they were before an update rule, are read or given out after it: it may not write in place then."""
    owner: dict[Value, Value] = {}
    for n in graph.nodes:
        if (n.op.name in VIEWS or n.op.name == "astype") and type(
            n.inputs[0]
        ) is Value:  # what may share its operand's memory
            owner[n.outputs[0]] = owner.get(n.inputs[0], n.inputs[0])
    count = node.attrs["count"]
    written = {owner.get(v, v) for k, v in enumerate(node.inputs[: count * node.attrs["columns"]]) if k // count != 1}
    later = (u for n in graph.nodes[graph.nodes.index(node) + 1 :] for u in n.inputs if type(u) is Value)
    return any(owner.get(u, u) in written for u in (*later, *graph.outputs))


def rule_lines(node: Node, helpers: emit.Helpers, in_place: bool) -> list[str]:
    """The line of an update rule on columns: `new_params, new_exp_avg, ... = adam([...], [...], s["exp_avg"], ...)`.

    Its helper is the engine's kernel of that name; or, for NumPy's flat arrays, a loop over chunks; or the rule for each parameter.
    """
    rule = node.op.rule  # type: ignore[attr-defined]
    count, width = node.attrs["count"], node.attrs["columns"]
    columns = [node.inputs[i * count : (i + 1) * count] for i in range(width)]
    scalars = node.inputs[width * count :]
    flags = _flags(node)
    kernel = helpers.backend.fast.get(rule.name)
    states = state_names(node)
    columns_text = ", ".join(("params", "grads", *states))
    name = rule.name
    copied = kernel is not None and not in_place and helpers.backend.mutable  # it would write over what is read later
    if kernel is not None:
        name = helpers.function(name, kernel)
    elif in_place and helpers.backend.plans:
        name, flags = chunked(rule, flags, columns[0][0].dtype, helpers), {}
    else:
        leaf = helpers.function(f"{name}_rule", rule.leaf, drop_xp=True)
        name = helpers.unique(name, (name, states))
        helpers.sources[name] = (
            f"def {name}({columns_text}, *scalars, **flags):\n"
            f"    rows = [{leaf}(*row, *scalars, **flags) for row in zip({columns_text})]\n"
            f"    return [list(column) for column in zip(*rows)]"
        )
    results = [node.outputs[i * count].name.partition("[")[0] for i in range(width - 1)]
    args = [_column(c) for c in columns]
    if copied:
        copy = helpers.function("copy", helpers.backend.copy)
        args = [a if k == 1 else f"[{copy}(x) for x in {a}]" for k, a in enumerate(args)]
    args += [emit.operand(v) for v in scalars]
    text = f"{', '.join(results)}{',' if len(results) == 1 else ''} = {emit.call(name, args, flags)}"
    return emit.comment(text, "", 100)


def _column(values: list) -> str:
    """A list of values as text; the whole of a state's list by its name."""
    base, bracket, _ = values[0].name.rpartition("[")
    if bracket and base.startswith("s[") and all(v.name == f"{base}[{i}]" for i, v in enumerate(values)):
        return base
    return "[" + ", ".join(v.name for v in values) + "]"


CHUNK = 32768  # elements: the arrays of a rule's chunk stay in the second-level cache


def chunked(rule: Any, flags: dict, dtype: Any, helpers: emit.Helpers) -> str:
    """Makes the helper that updates flat arrays in place, chunk by chunk, and gives its name.

    The rule is traced on one chunk and printed with `out=`; a new value is computed where the old one lies as soon as that is not needed.
    """
    key = (rule.name, tuple(sorted(flags.items(), key=str)), dtype)
    function = helpers.unique(rule.name, key)
    if function in helpers.sources:
        return function
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
    last = {v: i for i, node in enumerate(graph.nodes) for v in node.inputs if type(v) is Value}
    targets = {new: old for new, old in zip(graph.outputs, (inputs[0], *inputs[2:]), strict=True) if new is not old}
    free: list[str] = []
    scratch = 0
    text: dict[Value, str] = {v: v.name for v in (*inputs, *scalars)}
    lines, copies = [], []
    for i, node in enumerate(graph.nodes):
        v = node.outputs[0]
        fn = getattr(helpers.backend.xp, node.op.name)
        args = ", ".join(text[u] if type(u) is Value else emit.literal(u) for u in node.inputs)
        if not isinstance(fn, np.ufunc):
            raise AssertionError(f"the rule {rule.name} uses xp.{node.op.name}, which is no elementwise function")
        old = targets.get(v)
        ending = [
            u for u in dict.fromkeys(node.inputs) if type(u) is Value and last[u] == i and text[u].startswith("t")
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
        lines.append(f"np.{fn.__name__}({args}, out={place})")
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
