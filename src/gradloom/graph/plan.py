"""The NumPy plan: results go into buffers that are made once and shared by values that are not alive together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import emit
from .graph import Graph, Node, Value


def state_names(node: Node) -> tuple:
    """Names of the state arrays of an update rule."""
    rule = node.op.rule  # type: ignore[attr-defined]
    flags = {k: v for k, v in node.attrs.items() if k not in ("count", "columns")}
    return rule.state(flags)


def line_of(graph: Graph, helpers: emit.Helpers) -> Callable[[Node], list[str] | None] | None:
    def line(node: Node) -> list[str] | None:
        return group_line(node, helpers) if hasattr(node.op, "rule") else None

    return line


def group_line(node: Node, helpers: emit.Helpers) -> list[str]:
    """The line of an update rule on columns."""
    rule = node.op.rule  # type: ignore[attr-defined]
    count, width = node.attrs["count"], node.attrs["columns"]
    columns = [node.inputs[i * count : (i + 1) * count] for i in range(width)]
    scalars = node.inputs[width * count :]
    flags = {k: v for k, v in node.attrs.items() if k not in ("count", "columns")}
    kernel = helpers.backend.fast.get(rule.name)
    states = state_names(node)
    if kernel is not None:
        name = helpers.function(rule.name, kernel)
    else:
        name = rule.name
        leaf = helpers.function(f"{name}_rule", rule.leaf, drop_xp=True)
        columns_text = ", ".join(("params", "grads", *states))
        helpers.sources[name] = (
            f"def {name}({columns_text}, *scalars, **flags):\n"
            f"    rows = [{leaf}(*row, *scalars, **flags) for row in zip({columns_text})]\n"
            f"    return [list(column) for column in zip(*rows)]"
        )
    results = [node.outputs[i * count].name.partition("[")[0] for i in range(width - 1)]  # type: ignore[union-attr]
    args = [_list(c) for c in columns] + [emit.operand(v) for v in scalars]
    text = f"{', '.join(results)}{',' if len(results) == 1 else ''} = {emit.call(name, args, flags)}"
    return emit.comment(text, "", 100)


def _list(values: list) -> str:
    base, bracket, _ = values[0].name.rpartition("[")
    if bracket and base.startswith("s[") and all(v.name == f"{base}[{i}]" for i, v in enumerate(values)):
        return base
    return "[" + ", ".join(v.name for v in values) + "]"
