"""Calls of scan and cond as the tape knows them, and their gradients.

The gradient of a scan is a scan in the other direction over the carries that the first one kept; a cond's is a cond of
the gradients of its branches. Both are made by the same code as the first, so they can be differentiated again.
"""

from __future__ import annotations

from typing import Any

from .. import ops
from ..backends.shapes import Spec
from ..errors import GradientError, explain, user_frame
from ..ops.control import cond as cond_op
from ..ops.control import scan as scan_op
from ..ops.op import Op
from ..tensor import tape
from ..tensor.arrays import wrap
from ..tensor.grad_mode import MODE, set_grad_enabled
from ..tensor.tape import Leaf, Output
from ..tensor.tensor import Tensor
from .bodies import Traced, call, close, d_name, name_of, nothing, zeros
from .graph import PLACE, Value


def _gradient(name: str) -> Op:
    """What the tape notes for a loop: its gradient is that of the call that it is given."""
    made = Op(
        name,
        lambda xp, *values, call: values,
        ("values",),
        ("call",),
        variadic=True,
        outputs=("*results",),
        differentiable=2,
    )

    def vjp(xp, g, *values, call):
        return call.vjp(list(g), list(values), xp is ops.xp)

    made.define_vjp(("values",), vjp)
    made.vjps[0].op.kernels[Value] = lambda g, *values, call: call.vjp(list(g), list(values), False)
    return made


_SCAN, _COND = _gradient("scan"), _gradient("cond")


def _no_gradient(xp, g, *values):
    raise GradientError(
        explain(
            "while_loop has no gradient: its number of steps is not known before",
            where=user_frame(),
            do="use gradloom.scan with a fixed number of steps, or detach() what goes into the loop",
        )
    )


_WHILE = Op("while_loop", lambda xp, *values: values[0], ("values",), (), variadic=True)
_WHILE.define_vjp(("values",), _no_gradient)


def without_gradient(tensors: list[Tensor], parents: list) -> list[Tensor]:
    """The Tensors with a history that raises when it is asked for a gradient, if there is any."""
    if not parents or not MODE.enabled:
        return tensors
    tensors = [wrap(t._array) for t in tensors]
    for t in tensors:
        if t.is_floating_point():
            t._node = (tape._next(), _WHILE.plan((True,)), tuple(parents), None, None, [[], [], None])
    return tensors


class _Recording:
    """What scan and cond have in common: the node of the tape.

    Attributes:
        outer: The nodes, made outside of the functions, of what they depend on.
        live: Which results carry a gradient.
    """

    record: Op
    outer: list
    live: list[bool]

    def note(self, arrays: list, operands: list[Tensor], saved: list[Tensor]) -> list[Tensor]:
        """The results, with their history."""
        results = [wrap(x) for x in arrays]
        parents = (*(t._node for t in operands), *self.outer)
        if not MODE.enabled or not any(self.live) or all(p is None for p in parents):
            return results
        # A leaf among what the functions took is saved for its version: it must not be changed before backward.
        saved = [*saved, *(leaf for n in self.outer if type(n) is Leaf and (leaf := n.tensor()) is not None)]
        chosen = [t for t, live in zip(results, self.live, strict=True) if live]
        attrs = {"": [(tuple(t.shape), t.dtype) for t in chosen], "call": self}
        node = (
            tape._next(),
            self.record.plan((True,)),
            parents,
            attrs,
            None,
            [saved, [t._version for t in saved], None],
        )
        for k, t in enumerate(chosen):
            t._node = Output(node, k)
        return results


class Scan(_Recording):
    """One call of scan: `traced` run for each step, the first n of its inputs and outputs being the carry."""

    record = _SCAN

    def __init__(
        self, traced: Traced, n: int, carry: list[Tensor], sequences: list[Tensor], length: int, reverse: bool
    ):
        self.traced, self.n, self.length, self.reverse = traced, n, length, reverse
        self.carry, self.sequences = carry, sequences
        inputs, outputs = traced.inputs, traced.outputs
        ends = [traced.reached(t) for t in outputs]
        index = {id(t._node): k for k, t in enumerate(inputs) if t._node is not None}
        # A carry matters if its first value wants a gradient, or a later one depends on something that does.
        matters = [t._node is not None and x._node is not None for t, x in zip(inputs, carry + sequences, strict=True)]
        while True:
            self.live = [any(matters[index[id(e)]] if id(e) in index else True for e in end) for end in ends]
            grown = [m or (k < n and self.live[k]) for k, m in enumerate(matters)]
            if grown == matters:
                break
            matters = grown
        self.matters = matters
        found = {id(e): e for end, live in zip(ends, self.live, strict=True) if live for e in end if id(e) not in index}
        self.outer = list(found.values())

    def run(self) -> list[Tensor]:
        """The last carries and the stacked ys."""
        t, n = self.traced, self.n
        records = MODE.enabled and any(self.live)
        # For the gradient the carry before each step is one more result.
        part = t if not records else Traced(t.body, t.nodes, t.inputs, t.outputs + t.inputs[:n], t.start)
        (block,), outside = close([part])
        specs = [
            Spec(tuple(o.shape) if k < n else (self.length, *o.shape), o.dtype) for k, o in enumerate(part.outputs)
        ]
        names = [o._array.label for o in t.inputs[:n]] + [o._array.label or "ys" for o in t.outputs[n:]]
        names += [f"{o._array.label}s" for o in t.inputs[:n]] if records else []
        attrs = {
            "body": block,
            "carries": n,
            "sequences": len(t.inputs) - n,
            "length": self.length,
            "reverse": self.reverse,
        }
        operands = self.carry + self.sequences
        arrays = call(scan_op.op, [x._array for x in operands], outside, attrs, specs, names)
        m = len(t.outputs)
        kept = [wrap(x) for x in arrays[m:]]
        results = self.note(arrays[:m], operands, operands + kept)
        self.carry = self.sequences = []  # the tape keeps what it needs, and lets go of it after the backward pass
        return results

    def vjp(self, gs: list, values: list, recorded: bool) -> list:
        t, n = self.traced, self.n
        m = len(t.inputs) - n
        values = values if recorded else [wrap(x) for x in values]
        gs = gs if recorded else [wrap(g) for g in gs]
        rest = iter(gs)
        cotangent = {k: g for k, live in enumerate(self.live) if live and not (nothing(g := next(rest)) and k >= n)}
        xs = values[n : n + m]
        kept = values[n + m : n + m + n]
        if recorded:  # once more, with a history
            again = Traced(t.body, t.nodes, t.inputs, t.outputs[:n] + t.inputs[:n], t.start)
            kept = Scan(again, n, values[:n], xs, self.length, self.reverse).run()[n:]
        pulled, widths = self._pull([k for k in cotangent if k >= n], recorded)
        carry = [k for k in range(n) if self.matters[k]]
        first = [
            cotangent[k] if k in cotangent else wrap(zeros(gs, tuple(values[k].shape), values[k].dtype)) for k in carry
        ]
        sums = [wrap(zeros(gs, tuple(a.shape), a.dtype)) for a in pulled.inputs[len(carry) : widths[0]]]
        sequences = [*kept, *xs, *(g for k, g in cotangent.items() if k >= n)]
        found = Scan(pulled, widths[0], first + sums, sequences, self.length, not self.reverse).run()
        found = found if recorded else [x._array for x in found]
        result: list[Any] = [None] * (n + m + len(self.outer))
        for place, g in zip(carry + widths[1], found, strict=True):
            result[place] = g
        return result

    def _pull(self, ys: list[int], recorded: bool) -> tuple[Traced, tuple[int, list[int]]]:
        """The step of the gradient's loop.

        Its carry is the cotangent of the carry, then the sums for the Tensors from outside. Its xs are the carries that
        were kept, the xs, and the cotangents of the ys.

        Returns:
            (it, (size of its carry, places among the operands of its results after the carry's cotangents)).
        """
        t, n = self.traced, self.n
        carry = [k for k in range(n) if self.matters[k]]
        xs = [k for k in range(n, len(t.inputs)) if self.matters[k]]
        wanted = [t.inputs[k]._node for k in carry + xs if t.inputs[k]._node is not None] + self.outer
        given = [k for k in carry if self.live[k]] + ys
        new, gs, found = t.pull(given, wanted, recorded)
        with new.inside("a gradient"), PLACE.within("backward"), set_grad_enabled(recorded):
            slots = dict(zip(given, gs, strict=True))
            before = [
                slots[k] if k in slots else new.argument(t.inputs[k], d_name(t.inputs[k]._array.label), False)
                for k in carry
            ]
            after = [
                found[e] if (e := id(t.inputs[k]._node)) in found else wrap(ops.zeros_like(t.inputs[k]._array))
                for k in carry
            ]
            sums, totals, outer = [], [], []
            for place, node in enumerate(self.outer):
                g = found.get(id(node))
                if g is not None:
                    sums.append(new.argument(g, name_of(node), recorded))
                    totals.append(ops.add(sums[-1], g))
                    outer.append(len(t.inputs) + place)
            pieces = [(k, g) for k in xs if (g := found.get(id(t.inputs[k]._node))) is not None]
        for k, g in pieces:
            g._array.label = g._array.label or d_name(t.inputs[k]._array.label)
        new.inputs = before + sums + t.inputs + [slots[k] for k in ys]
        new.outputs = after + totals + [g for _, g in pieces]
        return new, (len(before) + len(sums), outer + [k for k, _ in pieces])


class Cond(_Recording):
    """One call of cond: two functions of the same arguments."""

    record = _COND

    def __init__(self, pair: tuple[Traced, Traced], pred: Tensor, operands: list[Tensor]):
        self.pair, self.pred, self.operands = pair, pred, operands
        self.edges = [{id(t._node): k for k, t in enumerate(b.inputs) if t._node is not None} for b in pair]
        self.wanted = [x._node is not None for x in operands]
        self.live = [False] * len(pair[0].outputs)
        outer: dict[int, Any] = {}
        for b, index in zip(pair, self.edges, strict=True):
            for k, t in enumerate(b.outputs):
                ends = [e for e in b.reached(t) if id(e) not in index or self.wanted[index[id(e)]]]
                self.live[k] = self.live[k] or (bool(ends) and t.is_floating_point())
                outer.update((id(e), e) for e in ends if id(e) not in index)
        self.outer = list(outer.values())

    def run(self) -> list[Tensor]:
        first = self.pair[0]
        (true, false), outside = close(list(self.pair))
        specs = [Spec(tuple(o.shape), o.dtype) for o in first.outputs]
        arrays = [self.pred._array, *(x._array for x in self.operands)]
        names = [o._array.label or "chosen" for o in first.outputs]
        found = call(cond_op.op, arrays, outside, {"true": true, "false": false}, specs, names)
        pred, operands = self.pred, self.operands
        self.operands = []
        return self.note(found, operands, [wrap(pred._array), *operands])

    def vjp(self, gs: list, values: list, recorded: bool) -> list:
        pred, *operands = (
            values[: 1 + len(self.wanted)] if recorded else [wrap(x) for x in values[: 1 + len(self.wanted)]]
        )
        rest = iter(gs if recorded else [wrap(g) for g in gs])
        cotangents = [(k, g) for k, live in enumerate(self.live) if live and not nothing(g := next(rest))]
        count = len(self.wanted) + len(self.outer)
        pulls = []
        for b, index in zip(self.pair, self.edges, strict=True):
            node_of = {k: key for key, k in index.items()}
            given = [k for k, _ in cotangents if b.outputs[k]._node is not None]
            wanted = [t._node for t, w in zip(b.inputs, self.wanted, strict=True) if w] + self.outer
            new, inputs, found = b.pull(given, wanted, recorded)
            keys = [node_of[k] if w else 0 for k, w in enumerate(self.wanted)] + [id(n) for n in self.outer]
            pulls.append((new, dict(zip(given, inputs, strict=True)), [found.get(key) for key in keys]))
        likes: list[Any] = [next((g for _, _, gs in pulls if (g := gs[k]) is not None), None) for k in range(count)]
        places = [k for k, like in enumerate(likes) if like is not None]
        result: list[Any] = [None] * count
        if not places:
            return result
        pair = []
        for new, slots, pieces in pulls:
            with new.inside("a gradient"), PLACE.within("backward"):
                like = [
                    pieces[k] if pieces[k] is not None else zeros([], tuple(likes[k].shape), likes[k].dtype)
                    for k in places
                ]
                more = [slots[k] if k in slots else new.argument(g, None, False) for k, g in cotangents]
            new.inputs = new.inputs + more
            new.outputs = [g if isinstance(g, Tensor) else wrap(g) for g in like]
            for k, g in zip(places, new.outputs, strict=True):
                if k >= len(self.wanted):
                    g._array.label = g._array.label or name_of(self.outer[k - len(self.wanted)])
            pair.append(new)
        call = Cond((pair[0], pair[1]), pred, operands + [g for _, g in cotangents])
        for place, g in zip(places, call.run(), strict=True):
            result[place] = g if recorded else g._array
        return result
