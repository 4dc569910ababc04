"""The NumPy plan: results go into buffers that are made once, and values that are not alive together share them.

The graph is lowered to namespace functions, each of which becomes a NumPy call with `out=`. Views of buffers are made once as well and
are globals of the emitted module, so in a step of the steady state nothing is allocated but what the function returns and a few
small or irregular results. A result that has the shape of an operand that dies takes its place; a buffer has the memory
order of the operands, since a change of order costs more than the arithmetic. Gradients that an update rule takes together
are computed where they lie in its flat gradient.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import to_numpy_dtype
from . import emit
from .graph import VIEWS, Graph, Node, Value
from .updates import rule_lines

_SMALL = 512  # bytes: NumPy keeps small blocks at hand, a buffer would gain nothing
_REDUCTIONS = {
    "sum": "add",
    "prod": "multiply",
    "amax": "maximum",
    "amin": "minimum",
    "any": "logical_or",
    "all": "logical_and",
}
_FILLS = {"zeros": 0, "ones": 1, "zeros_like": 0, "ones_like": 1}


class Plan:
    """Buffers for the values of a lowered graph, and the lines that fill them.

    Attributes:
        arrays: {value: the array that it is computed into}, of planned values and their views.
        bytes: Size of all buffers together.
    """

    def __init__(self, graph: Graph, helpers: emit.Helpers, fresh: set[Value], memory: dict[Value, set[Value]]):
        self.graph, self.helpers, self._memory_of = graph, helpers, memory
        self.arrays: dict[Value, np.ndarray] = {}
        self.bytes = 0
        self._fresh = fresh  # results that leave the function: never in a buffer
        self._free: list[tuple[int, np.ndarray]] = []
        self._memory: dict[Value, tuple[int, np.ndarray]] = {}  # owner -> its buffer
        self._owner: dict[Value, Value] = {}
        self._last: dict[Value, int] = {}
        self._placed: dict[Value, np.ndarray] = {}
        self._number = {node: i for i, node in enumerate(graph.nodes)}
        self._lifetimes()
        self._place_gradients()
        self._lines: dict[Node, list[str] | None] = {}
        for i, node in enumerate(graph.nodes):
            self._lines[node] = self._node(i, node)
            self._release(i)
        helpers.namespace["np"] = np

    # --- lifetimes and memory

    def owner(self, v: Value) -> Value:
        """The value whose memory v is a view of."""
        return self._owner.get(v, v)

    def _lifetimes(self) -> None:
        for i, node in enumerate(self.graph.nodes):
            for v in node.inputs:
                if type(v) is Value:
                    self._last[self.owner(v)] = i
            if node.op.name in VIEWS and type(node.inputs[0]) is Value and len(node.inputs) == 1:
                self._owner[node.outputs[0]] = self.owner(node.inputs[0])
        for v in self.graph.outputs:
            self._last[self.owner(v)] = len(self.graph.nodes)
            self._fresh.add(v)
            self._fresh.add(self.owner(v))
        self._ends: dict[int, list[Value]] = {}
        for v, i in self._last.items():
            self._ends.setdefault(i, []).append(v)

    def _place_gradients(self) -> None:
        """Gives the flat gradient of an update rule a buffer of its own, and its parts to the gradients where that can be."""
        for node in self.graph.nodes:
            if node.op.name != "flat" or node.outputs[0] in self._fresh:
                continue
            total = node.outputs[0]
            array = self._new(total.shape, total.dtype)
            self.arrays[total] = array
            start = 0
            for v in node.inputs:
                end = start + math.prod(v.shape)
                owner = self.owner(v)
                if (
                    owner.node is not None
                    and owner not in self._placed
                    and owner not in self._fresh
                    and self._straight(v, owner)
                ):
                    self._placed[owner] = array[start:end].reshape(owner.shape)
                start = end

    def _straight(self, v: Value, owner: Value) -> bool:
        """Whether v has the elements of its owner in the same order."""
        while v is not owner:
            if v.node.op.name != "reshape":  # type: ignore[union-attr]
                return False
            v = v.node.inputs[0]  # type: ignore[union-attr]
        return owner.node.op.name not in VIEWS  # type: ignore[union-attr]

    def _new(self, shape: tuple, dtype: Any) -> np.ndarray:
        d = to_numpy_dtype(dtype)
        size = math.prod(shape) * d.itemsize
        raw = np.empty(size + 64, np.uint8)
        self.bytes += raw.nbytes
        start = -raw.ctypes.data % 64
        return raw[start : start + size].view(d).reshape(shape)

    def _buffer_for(self, v: Value, i: int, like: list[Value], elementwise: bool) -> np.ndarray | None:
        """The array for a result; None where it is allocated at each call."""
        d = to_numpy_dtype(v.dtype)
        size = math.prod(v.shape) * d.itemsize
        if v in self._placed:
            return self._placed[v]
        if v in self._fresh or size < _SMALL or self._last.get(v, i) == i:
            return None
        order = self._order(v, like, elementwise)
        if elementwise:  # in the place of an operand that dies here
            for u in like:
                o = self.owner(u)
                a = self.arrays.get(u)
                dies = (
                    o in self._memory and self._last[o] == i and not any(self.owner(w) is o for w in like if w is not u)
                )
                if a is not None and dies and u.shape == v.shape and a.dtype == d and _laid_out(a, order):
                    self._memory[v] = self._memory.pop(o)
                    return a
        best = None
        for k, (n, _) in enumerate(self._free):
            if n >= size and (best is None or n < self._free[best][0]):
                best = k
        if best is not None and self._free[best][0] <= 4 * size + 4096:
            memory = self._free.pop(best)
        else:
            raw = np.empty(size + 64, np.uint8)
            self.bytes += raw.nbytes
            start = -raw.ctypes.data % 64
            memory = (size, raw[start : start + size])
        self._memory[v] = memory
        flat = memory[1][:size].view(d)
        return flat.reshape([v.shape[k] for k in order]).transpose(np.argsort(order))

    def _order(self, v: Value, like: list[Value], elementwise: bool) -> list[int]:
        """Axes of v from the slowest to the fastest, as its operands have them."""
        n = len(v.shape)
        for u in like:
            a = self.arrays.get(u)
            if a is not None and n > 1 and (a.shape == v.shape or (not elementwise and a.ndim >= n)):
                strides = a.strides
                return sorted(range(n), key=lambda k: (-abs(strides[k]), k))
        return list(range(n))

    def _release(self, i: int) -> None:
        for v in self._ends.get(i, ()):
            memory = self._memory.pop(v, None)
            if memory is not None:
                self._free.append(memory)

    # --- lines

    def line(self, node: Node) -> list[str] | None:
        return self._lines[node]

    def _bind(self, name: str, array: np.ndarray) -> str:
        self.helpers.namespace[name] = array
        return name

    def _node(self, i: int, node: Node) -> list[str] | None:
        name = node.op.name
        if hasattr(node.op, "rule"):
            return rule_lines(node, self.helpers, self._in_place(i, node))
        if name == "flat" and node.outputs[0] in self.arrays:
            return self._flat(node)
        v = node.outputs[0]
        operands = [u for u in node.inputs if type(u) is Value]
        if name in VIEWS and len(node.inputs) == 1:
            made = self._view(i, node, v)
            if made is not None:
                return made
        fn = getattr(self.helpers.backend.xp, name, None)
        if isinstance(fn, np.ufunc) and name != "matmul" and len(node.outputs) == 1:
            out = self._buffer_for(v, i, operands, True)
            return (
                self._emit(node, v, out, [f"np.{fn.__name__}({self._args(node)}, out={v.name})"])
                if out is not None
                else None
            )
        special = getattr(self, f"_{name}", None) or (
            self._reduction if name in _REDUCTIONS else self._fill if name in _FILLS else None
        )
        if special is not None and len(node.outputs) == 1:
            elementwise = name in ("where", "astype", "rsqrt")
            out = self._buffer_for(
                v,
                i,
                [] if name in ("matmul", "concat", "stack", "full") or name in _REDUCTIONS else operands,
                elementwise,
            )
            if out is not None:
                lines = special(node, v, out)
                if lines is not None:
                    return self._emit(node, v, out, lines)
        return None

    def _emit(self, node: Node, v: Value, out: np.ndarray, lines: list[str]) -> list[str]:
        self.arrays[v] = out
        self._bind(v.name, out)
        *first, last = lines
        return [*first, *emit.comment(last, str(v.shape), 100)]

    def _args(self, node: Node) -> str:
        return ", ".join(emit.operand(u) for u in node.inputs)

    def _view(self, i: int, node: Node, v: Value) -> list[str] | None:
        """A view of a buffer is made once; of anything else at each call. A reshape that must copy gets a buffer."""
        x = node.inputs[0]
        a = self.arrays.get(x)
        if a is None:
            return None
        made = getattr(self.helpers.backend.xp, node.op.name)(a, **node.attrs)
        if node.op.name == "reshape" and not np.shares_memory(made, a):
            self._copied(i, v)
            out = self._buffer_for(v, i, [], False)
            if out is None:
                return None
            target = self._bind(f"{v.name}_parts", out.reshape(x.shape))
            return self._emit(node, v, out, [f"np.copyto({target}, {x.name})"])
        if v in self._fresh:
            return None
        self.arrays[v] = made
        self._bind(v.name, made)
        return []

    def _copied(self, i: int, v: Value) -> None:
        """A reshape turned out to be a copy: it, not its operand, owns the memory of the views of it."""
        members, last = {v}, i
        self._owner.pop(v, None)
        for k, node in enumerate(self.graph.nodes[i + 1 :], i + 1):
            if any(u in members for u in node.inputs if type(u) is Value):
                last = k
                if node.op.name in VIEWS and len(node.inputs) == 1:
                    self._owner[node.outputs[0]] = v
                    members.add(node.outputs[0])
        if any(u in members for u in self.graph.outputs):
            last = len(self.graph.nodes)
        self._last[v] = last
        self._ends.setdefault(last, []).append(v)

    def _in_place(self, i: int, node: Node) -> bool:
        """Whether an update rule may write parameters and state where they lie: nobody reads the old ones later."""
        if node.attrs["count"] != 1:
            return False
        columns = [v for k, v in enumerate(node.inputs[: node.attrs["columns"]]) if k != 1]
        if any(v.node is not None or not (v.name or "").startswith("s[") for v in columns):
            return False  # no arrays of the optimizer: arguments, or what a first update in the same step gave
        written = set(columns)
        for v in columns:
            written |= self._memory_of.get(v, set())
        later = (u for n in self.graph.nodes[i + 1 :] for u in n.inputs if type(u) is Value)
        return not any(self.owner(u) in written for u in (*later, *self.graph.outputs))

    def _flat(self, node: Node) -> list[str]:
        """Gradients that could not be computed in their place are copied there."""
        total, lines, start = node.outputs[0], [], 0
        array = self.arrays[total]
        self._bind(total.name, array)
        for v in node.inputs:
            end = start + math.prod(v.shape)
            placed = self._placed.get(self.owner(v))
            # What makes a value may not take out=.
            made = placed is not None and self.arrays.get(self.owner(v)) is placed
            # One value may be the gradient of several parameters, and has only one place.
            if not made or placed.ctypes.data != array[start:end].ctypes.data:  # type: ignore[union-attr]
                part = self._bind(f"{total.name}_{start}", array[start:end].reshape(v.shape))
                lines.append(f"np.copyto({part}, {v.name})")
            start = end
        return lines

    def _matmul(self, node: Node, v: Value, out: np.ndarray) -> list[str]:
        return [f"np.matmul({self._args(node)}, out={v.name})"]

    def _reduction(self, node: Node, v: Value, out: np.ndarray) -> list[str]:
        return [f"np.{_REDUCTIONS[node.op.name]}.reduce({self._args(node)}, {_axis(node)}, out={v.name})"]

    def _mean(self, node: Node, v: Value, out: np.ndarray) -> list[str]:
        count = math.prod(node.inputs[0].shape) // max(math.prod(v.shape), 1)
        return [
            f"np.add.reduce({self._args(node)}, {_axis(node)}, out={v.name})",
            f"np.divide({v.name}, {count}, out={v.name})",
        ]

    def _rsqrt(self, node: Node, v: Value, out: np.ndarray) -> list[str]:
        return [f"np.sqrt({self._args(node)}, out={v.name})", f"np.divide(1, {v.name}, out={v.name})"]

    def _astype(self, node: Node, v: Value, out: np.ndarray) -> list[str]:
        return [f'np.copyto({v.name}, {self._args(node)}, casting="unsafe")']

    def _where(self, node: Node, v: Value, out: np.ndarray) -> list[str]:
        condition, x, y = node.inputs
        c = emit.operand(condition)
        if (
            type(y) in (int, float)
            and y == 0
            and math.copysign(1, y) > 0
            and type(x) is Value
            and x.shape == v.shape == condition.shape
        ):
            # Selection as a product of bits: exact, also for inf and NaN, and 20 times faster on masks that nobody can predict.
            bits = {2: "int16", 4: "int32", 8: "int64"}.get(out.dtype.itemsize)
            if bits and x.dtype is v.dtype and x.dtype.kind == "float":
                target = self._bind(f"{v.name}_bits", out.view(bits))
                return [
                    f"np.multiply({c}.view(np.int8), {emit.operand(x)}.view(np.{bits}), out={target}, dtype=np.{bits})"
                ]
        if any(type(u) is Value and self.arrays.get(u) is out for u in (condition, x)):
            return [f"np.copyto({v.name}, np.where({self._args(node)}))"]
        first = [] if type(y) is Value and self.arrays.get(y) is out else [f"np.copyto({v.name}, {emit.operand(y)})"]
        return [*first, f"np.copyto({v.name}, {emit.operand(x)}, where={c})"]

    def _fill(self, node: Node, v: Value, out: np.ndarray) -> list[str]:
        return [f"{v.name}.fill({_FILLS[node.op.name]})"]

    def _full(self, node: Node, v: Value, out: np.ndarray) -> list[str]:
        return [f"{v.name}.fill({emit.literal(node.attrs['value'])})"]

    def _concat(self, node: Node, v: Value, out: np.ndarray) -> list[str]:
        return [f"np.concatenate(({self._args(node)},), {node.attrs['axis']}, out={v.name})"]

    def _stack(self, node: Node, v: Value, out: np.ndarray) -> list[str]:
        return [f"np.stack(({self._args(node)},), {node.attrs['axis']}, out={v.name})"]

    def _pad(self, node: Node, v: Value, out: np.ndarray) -> list[str] | None:
        widths = node.attrs["widths"]
        if any(n < 0 for pair in widths for n in pair):
            return None
        inner = tuple(slice(b, n - a) for n, (b, a) in zip(v.shape, widths, strict=True))
        target = self._bind(f"{v.name}_inner", out[inner])
        return [
            f"{v.name}.fill({emit.literal(node.attrs.get('value', 0))})",
            f"np.copyto({target}, {self._args(node)})",
        ]

    def _fold(self, node: Node, v: Value, out: np.ndarray) -> list[str] | None:
        x = self.arrays.get(node.inputs[0])
        if x is None:
            return None
        size, stride, dilation = node.attrs["size"], node.attrs["stride"], node.attrs["dilation"]
        k = len(size)
        counts = x.shape[x.ndim - 2 * k : x.ndim - k]
        pairs = []
        for offset in np.ndindex(*size):
            where: Any = tuple(
                slice(o * d, o * d + t * (n - 1) + 1, t)
                for o, d, t, n in zip(offset, dilation, stride, counts, strict=True)
            )
            pairs.append((out[(..., *where)], x[(..., *offset)]))
        name = f"{v.name}_windows"
        self.helpers.namespace[name] = pairs
        return [f"{v.name}.fill(0)", f"for part, window in {name}:", "    np.add(part, window, out=part)"]


def _laid_out(a: np.ndarray, order: list[int]) -> bool:
    """Whether a is dense, with its axes in this order."""
    step = a.itemsize
    for k in reversed(order):
        if a.shape[k] > 1 and a.strides[k] != step:
            return False
        step *= a.shape[k]
    return True


def _axis(node: Node) -> str:
    axis = node.attrs.get("axis")
    keep = ", keepdims=True" if node.attrs.get("keepdims") else ""
    return f"axis={emit.literal(axis)}{keep}"
