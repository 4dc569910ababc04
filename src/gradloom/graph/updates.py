"""Lines of emitted source for update rules: an engine's kernel, a loop over chunks that stay in cache, or the rule itself."""

from __future__ import annotations

from . import emit, fast
from .chunks import chunked
from .graph import VIEWS, Graph, Node, Value


def state_names(node: Node) -> tuple:
    """Names of the state arrays of an update rule."""
    return node.op.rule.state(_flags(node))  # type: ignore[attr-defined]


def _flags(node: Node) -> dict:
    return {k: v for k, v in node.attrs.items() if k not in ("count", "columns")}


def old_values_are_read(graph: Graph, node: Node, memory: dict[Value, set[Value]], changed: set[str]) -> bool:
    """Whether parameters or state, as they were before an update rule, are read or given out after it: it may not write in place then.

    Args:
        memory: {array of an optimizer: inputs that are views of it}.
        changed: Names of captured Tensors that the function gives new values. Other Tensors, and arguments, stay as they are.
    """
    owner: dict[Value, Value] = {}
    for n in graph.nodes:
        if (n.op.name in VIEWS or n.op.name == "astype") and type(
            n.inputs[0]
        ) is Value:  # what may share its operand's memory
            owner[n.outputs[0]] = owner.get(n.inputs[0], n.inputs[0])
    count = node.attrs["count"]
    written = {owner.get(v, v) for k, v in enumerate(node.inputs[: count * node.attrs["columns"]]) if k // count != 1}
    for v in node.inputs:
        written |= memory.get(v, set()) if v in written else set()
    ours = {f'p["{name}"]' for name in changed}
    if any(v.node is None and v.name not in ours and not (v.name or "").startswith("s[") for v in written):
        return True
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
    elif in_place and helpers.backend.plans and rule.per == "element":
        dtype = columns[0][0].dtype
        if fast.pays(rule, dtype, columns[0][0].shape[0]):
            made = fast.kernel(rule, flags, dtype)
            name = helpers.unique(rule.kernel_name, made)
            helpers.namespace[name] = made
        else:
            name = chunked(rule, flags, dtype, helpers)
        flags = {}
    else:
        leaf = helpers.function(f"{name}_rule", rule.leaf, drop_xp=True)
        name = helpers.unique(name, (name, states))
        if rule.per == "tree":
            name = leaf
        else:
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
    names = [v.name for v in values]
    base, bracket, _ = names[0].rpartition("[")
    every = [v.name for v in values[0].graph.inputs if (v.name or "").startswith(base + "[")]
    return base if bracket and base.startswith("s[") and every == names else f"[{', '.join(names)}]"
