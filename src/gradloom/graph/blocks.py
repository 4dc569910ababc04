"""Blocks: the functions that loops and branches call, as graphs of their own.

A block is made once, is not changed after, and is equal to another one of the same structure: so equal loops are
merged, printed once, and compiled once when they are run eagerly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import passes
from .graph import Graph, Node, Value


class Block(Graph):
    """A graph whose inputs and outputs are those of a function that returns a tuple.

    An input's `label` is its name in the printed function; inputs without one get the operand's.
    """

    def __init__(self):
        super().__init__()
        self._key: Any = None

    def key(self) -> tuple:
        """What two blocks of the same meaning have in common."""
        if self._key is None:
            number: dict[Value, int] = {v: i for i, v in enumerate(self.inputs)}
            rows = []
            for node in self.nodes:
                operands = tuple(("value", number[v]) if type(v) is Value else (type(v), v) for v in node.inputs)
                rows.append((node.op, operands, passes.freeze(node.attrs), node.phase))
                for v in node.outputs:
                    number[v] = len(number)
            specs = tuple((v.shape, v.dtype) for v in self.inputs)
            self._key = (specs, tuple(rows), tuple(number[v] for v in self.outputs))
        return self._key

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Block) and self.key() == other.key())

    def __hash__(self) -> int:
        return hash(self.key())

    def select(self, inputs: list[bool], outputs: list[bool]) -> Block:
        """The block with some of its inputs and outputs only."""
        kept = [v for v, keep in zip(self.inputs, inputs, strict=True) if keep]
        return copy(kept, self.nodes, [v for v, keep in zip(self.outputs, outputs, strict=True) if keep])


def needed(nodes: list[Node], outputs: Iterable[Value]) -> tuple[set[Node], dict[Value, None]]:
    """The nodes that the outputs depend on, and the values that no node makes, in the order in which they are met."""
    outputs = list(outputs)
    used = set(outputs)
    found = set()
    for node in reversed(nodes):
        if any(v in used for v in node.outputs):
            found.add(node)
            used.update(v for v in node.inputs if type(v) is Value)
    made = {v for node in found for v in node.outputs}
    met = [v for node in nodes if node in found for v in node.inputs if type(v) is Value] + outputs
    return found, {v: None for v in met if v not in made}


def copy(inputs: list[Value], nodes: list[Node], outputs: list[Value]) -> Block:
    """A Block with copies of what the outputs need. `inputs` holds all values that no node makes."""
    block = Block()
    new: dict[Value, Value] = {}
    for v in inputs:
        new[v] = block.input(v.shape, v.dtype, "")
        new[v].label = v.label
    found, _ = needed(nodes, outputs)
    for node in nodes:
        if node not in found:
            continue
        operands = [new[v] if type(v) is Value else v for v in node.inputs]
        made = Node(node.op, operands, node.attrs, node.phase, node.scope)
        made.several = node.several
        for v in node.outputs:
            new[v] = Value(block, v.shape, v.dtype, made, v.index)
            new[v].label = v.label
            made.outputs.append(new[v])
        block.nodes.append(made)
    block.outputs = [new[v] for v in outputs]
    passes.dead(block)  # also inside the loops of this block
    passes.common(block)
    passes.simplify(block)
    passes.dead(block)
    return block


# ------------------------------------------------------------------------------------- what a loop need not compute


def _keep(node: Node, operands: list[bool], results: list[bool]) -> None:
    node.inputs = [v for v, keep in zip(node.inputs, operands, strict=True) if keep]
    node.outputs = [v for v, keep in zip(node.outputs, results, strict=True) if keep]
    for i, v in enumerate(node.outputs):
        v.index = i


def trim_scan(node: Node, used: set[Value]) -> None:
    """Drops results that nobody uses, carries that only they need, and operands that the rest does not read."""
    block, n = node.attrs["body"], node.attrs["carries"]
    live = [v in used for v in node.outputs]
    while True:
        _, reads = needed(block.nodes, [v for v, keep in zip(block.outputs, live, strict=True) if keep])
        grown = [keep or (k < n and block.inputs[k] in reads) for k, keep in enumerate(live)]
        if grown == live:
            break
        live = grown
    operands = [live[k] if k < n else v in reads for k, v in enumerate(block.inputs)]
    if all(live) and all(operands):
        return
    m = node.attrs["sequences"]
    counts = {"carries": sum(live[:n]), "sequences": sum(operands[n : n + m])}
    node.attrs = {**node.attrs, "body": block.select(operands, live), **counts}
    _keep(node, operands, live)


def trim_cond(node: Node, used: set[Value]) -> None:
    """Drops results that nobody uses, and operands that neither branch reads then."""
    branches = {key: node.attrs[key] for key in ("true", "false")}
    live = [v in used for v in node.outputs]
    reads: list[bool] = [False] * (len(node.inputs) - 1)
    for block in branches.values():
        _, found = needed(block.nodes, [v for v, keep in zip(block.outputs, live, strict=True) if keep])
        reads = [r or v in found for r, v in zip(reads, block.inputs, strict=True)]
    if all(live) and all(reads):
        return
    node.attrs = {key: block.select(reads, live) for key, block in branches.items()}
    _keep(node, [True, *reads], live)


passes.TRIM.update(scan=trim_scan, cond=trim_cond)
