"""Aliasing: Tensors that share memory in PyTorch follow each other's in-place changes here, on every engine.

An array is never written in place by an operation: `x.add_(1)` gives x a new array. A Tensor that nobody aliases just takes it. When a
view or a detached Tensor is made, the Tensors involved become members of a `Cell`, which holds the array of the whole; a view
knows its base and the op that takes it out of the base (its lens: the op gives the view, the op's `put` writes it back).

A change goes from the view through the lenses to the root, and then all other members that are still alive are read again, bases
before their views. So reading costs nothing, and Tensors that are not aliased pay nothing for a change. (Marking aliases stale
and reading them again on demand was tried: the `__getattr__` that it takes slows every attribute of every Tensor.)
Lenses are ops: a change through a view is differentiable, and it is traced like any other operation.
"""

from __future__ import annotations

import weakref
from typing import Any

from .. import ops
from ..errors import GradientError, TraceError, explain, user_frame
from ..graph.graph import PLACE, Body, Value
from .arrays import as_array
from .grad_mode import MODE
from .tape import RETAIN, Leaf, Raw, hooks_of, retain, spoil


class Structure:
    """Counts the changes that a compiled step must look at.

    Attributes:
        version: Changes of which Tensors there are, which have gradients and want them, and of modules' settings.
        cells: Cells that were made.
    """

    version = 0
    cells = 0


STRUCTURE = Structure()


class Cell:
    """What aliasing Tensors share.

    Attributes:
        array: The whole: the array of the root members (those without a lens).
        members: Weak references to the Tensors.
    """

    __slots__ = ("array", "live", "members")

    def __init__(self, root: Any):
        self.array = root._array
        self.members = [weakref.ref(root)]
        self.live = 8
        root._cell = self
        STRUCTURE.cells += 1

    def add(self, t: Any) -> None:
        t._cell = self
        self.members.append(weakref.ref(t))
        if len(self.members) > self.live:
            self.members = [r for r in self.members if r() is not None]
            self.live = 2 * len(self.members) + 8

    def count(self) -> int:
        """How many members are alive."""
        return sum(r() is not None for r in self.members)

    def changed(self, writer: Any) -> None:
        """Gives all members a new version, and all but the writer the new elements."""
        for r in self.members:  # in the order in which they were made: a base comes before its views
            m = r()
            if m is not None:
                m._version += 1
                if m is not writer:
                    spoil(m._node)
                    refresh(m)


def make_view(base: Any, view: Any, op: Any, attrs: dict) -> None:
    """Makes `view`, the result of `op(base, **attrs)`, an alias of `base`."""
    cell = base._cell
    if cell is None:
        cell = Cell(base)
    view._base, view._lens = base, (op, attrs, MODE.enabled)
    cell.add(view)


def share(t: Any, alias: Any) -> Any:
    """Makes `alias`, a new Tensor, a detached alias of t. It keeps no part of t's graph alive."""
    chain = [t]
    while chain[-1]._base is not None:
        chain.append(chain[-1]._base)
    cell = t._cell or Cell(t)
    before: Any = None
    for original in reversed(chain):  # the alias of a view is a view of the alias of its base
        made = alias if original is t else object.__new__(type(alias))
        made._array, made._node = original._array, None
        if before is not None:
            op, attrs, _ = original._lens
            made._base, made._lens = before, (op, attrs, True)
        cell.add(made)
        before = made
    return alias


def copied(t: Any, made: Any, memo: dict) -> Any:
    """Makes `made`, a new Tensor, a detached copy of t. Copies with one memo share memory where their originals do."""
    cell = t._cell
    if cell is None:
        made._array, made._node = as_array(t, copy=True), None
        return made
    root = memo.get(id(cell))
    if root is None:
        root = memo[id(cell)] = Raw.wrap(as_array(Raw.wrap(cell.array), copy=True))
    chain = []
    while t._base is not None:
        chain.append(t._lens)
        t = t._base
    for op, attrs, _ in reversed(chain):
        root = op.entry[type(root)](root, **attrs)
    return share(root, made)


def refresh(t: Any) -> None:
    """Reads an alias again after its storage was changed."""
    if t._base is None:
        t._array = t._cell.array
        return
    op, attrs, recorded = t._lens
    before = MODE.enabled
    MODE.enabled = recorded
    try:
        fresh = op.entry[type(t._base)](t._base, **attrs)
    finally:
        MODE.enabled = before
    t._array = fresh._array
    if type(t._node) is not Leaf:  # a view that was made a leaf stays one
        moved(t, fresh._node)


def moved(t: Any, node: Any) -> None:
    """Gives t another history; `retain_grad` goes with it."""
    if t._retains and t._node is not None:
        hooks_of(t._node).pop(RETAIN, None)
        t._node = node
        retain(t)
    else:
        t._node = node


def assign(t: Any, value: Any) -> Any:
    """Gives t the array and the history of the Tensor `value`: the end of every in-place operation.

    Raises:
        GradientError: t is a leaf that requires a gradient, or a view of one, and gradients are recorded.
    """
    _check_body(t)
    if MODE.enabled:
        check_in_place(t)
        if value._node is not None and not t.dtype.is_floating_point:
            raise GradientError(f"a result that requires grad can't be stored in place in a Tensor of {t.dtype}")
    root = t
    while root._base is not None:
        op, attrs, recorded = root._lens
        root = root._base
        if MODE.enabled and not recorded and (value._node is not None or root._node is not None):
            raise GradientError(
                "A view was created in no_grad mode and is being modified inplace with grad mode enabled. Make the view and the "
                "change both inside of the no_grad block, or both outside."
            )
        _check_body(root)
        value = op.put(ops.xp, root, value, **attrs)
    spoil(root._node)
    root._array = value._array
    if MODE.enabled:
        moved(root, value._node)
    if root._cell is None:
        root._version += 1
    else:
        root._cell.array = root._array
        root._cell.changed(root)  # the views are read from the new elements
    return t


def _check_body(t: Any) -> None:
    """Raises if t is from outside of the body of a loop or branch that is being traced."""
    graph = PLACE.graph
    if isinstance(graph, Body) and not (type(t._array) is Value and t._array.graph is graph):
        raise TraceError(
            explain(
                "the body of a loop or branch changes a Tensor of its surroundings in place",
                where=user_frame(),
                do="return the new value from the body (as a part of the carry)",
            )
        )


def check_in_place(t: Any) -> None:
    """Raises where PyTorch refuses an in-place operation."""
    if type(t._node) is Leaf:
        raise GradientError(
            "a leaf Variable that requires grad is being used in an in-place operation. Wrap the change in gradloom.no_grad()."
        )
    base = t._base
    while base is not None:
        if type(base._node) is Leaf:
            raise GradientError(
                "a view of a leaf Variable that requires grad is being used in an in-place operation. Wrap the change in "
                "gradloom.no_grad()."
            )
        base = base._base


def bump(t: Any) -> None:
    """Notes that t's array was written in place, or replaced, by an optimizer."""
    cell = t._cell
    if cell is None:
        t._version += 1
        return
    cell.array = t._array
    cell.changed(t)
    if t._base is None and cell.count() == 1:
        t._cell = None  # its aliases are gone: from now on the short way again
