"""Blocks: parameters that an optimizer updates together, with their state."""

from __future__ import annotations

import itertools
from operator import is_
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..backends.base import Backend
from ..backends.registry import backend_of
from ..graph import chunks, fast
from ..graph.graph import PLACE
from ..tensor.grad_mode import no_grad
from ..tensor.storage import STRUCTURE, assign, bump
from ..tensor.tape import Raw
from ..tensor.tensor import Tensor
from .rules.rule import HOST, Rule

MANY, FEW = 64, 1 << 11  # parameters, and elements of one, from and up to which PyTorch's are put together

_numbers = itertools.count()


class Kept(NamedTuple):
    """State of one parameter: number of updates, the rule's numbers (none: as at the start), {name: array}."""

    step: int = 0
    numbers: tuple = ()
    arrays: dict[str, Any] = {}


class Block:
    """Parameters of a group that are updated together: of one dtype, engine and device, after the same number of updates.

    Attributes:
        number: Of no other block, ever: compiled steps know a block by it.
        ids: Those of its parameters.
        step: How often they were updated; numbers: the rule's numbers after that.
        state: {name: list of arrays, one a parameter}. In a flat block each list holds one array for all parameters,
            and `whole` holds one of the parameters themselves: their arrays are views into it, `views`. Compiled steps hold the lists.
        offsets, groups: Where the parameters of a flat block begin, and which are updated at once.
    """

    def __init__(self, rule: Rule, group: dict, params: list[Tensor], kept: Kept, state: dict[str, list], flat: bool):
        self.number = next(_numbers)
        self.ids = frozenset(map(id, params))
        self.rule, self.group, self.params, self.flat = rule, group, params, flat
        self.whole: list = []
        self.views: list = []
        self.bound: Any = None  # the array that `views` are views of
        self.offsets, self.groups = np.zeros(1, np.int64), []  # type: ignore[var-annotated]
        self.cells = -1  # the count of STRUCTURE at which no parameter had an alias
        self.state: dict[str, list] = {}
        if flat:
            self.flatten()
        self.load(kept, state)

    def load(self, kept: Kept, columns: dict[str, list]) -> None:
        """Takes over a state, in the lists that there are; what it does not have starts anew.

        Args:
            kept: Step and numbers of all parameters.
            columns: {name: arrays, one a parameter; None for what starts anew}.
        """
        self.step, self.numbers = kept.step, kept.numbers or self.rule.first_numbers(self.group)
        for name in dict.fromkeys((*self.state, *columns)):
            arrays = [
                self.rule.first(name, p._array, self.group) if a is None else a
                for p, a in zip(self.params, columns.get(name) or [None] * len(self.params), strict=True)
            ]
            self.state.setdefault(name, [])[:] = [joined(arrays)] if self.flat else arrays

    def fits(self, group: dict) -> bool:
        """Whether the parameters still are of the block's kind, and the group wants them together."""
        if len(self.params) > 1 and group.get("foreach") is False:
            return False
        likes = self.whole or next(iter(self.state.values()), [])
        first = self.params[0]._array
        # Not by type: of NumPy's numbers of shape () some are arrays and some scalars.
        return not likes or (backend_of(likes[0]) is backend_of(first) and likes[0].dtype == first.dtype)

    # --- flat blocks

    def flatten(self) -> None:
        """Moves the parameters into one array."""
        sizes = [p.numel() for p in self.params]
        self.offsets = np.cumsum([0, *sizes])
        self.groups = chunks.groups(sizes)
        self.whole[:] = [joined([p._array for p in self.params])]  # in place: compiled steps hold the list
        self.rebind()

    def rebind(self) -> None:
        """Makes the parameters' arrays views of `whole`."""
        self.bound = self.whole[0]
        self.views[:] = self.split(self.bound)
        for p, view in zip(self.params, self.views, strict=True):
            p._array = view
            if p._cell is not None:
                p._cell.array = view

    def slices(self) -> list[slice]:
        """Where the parameters lie in a flat array."""
        return [slice(a, b) for a, b in itertools.pairwise(self.offsets.tolist())]

    def split(self, array: Any) -> list:
        """The parameters' parts of a flat array."""
        return [array[s].reshape(p._array.shape) for p, s in zip(self.params, self.slices(), strict=True)]

    def parts(self, name: str) -> list:
        """A state's arrays, one a parameter."""
        if not self.flat:
            return list(self.state[name])
        return [backend_of(part).copy(part) for part in self.split(self.state[name][0])]

    def rest(self) -> dict[Tensor, Kept]:
        """What each parameter takes along when the block is given up."""
        columns = {name: self.parts(name) for name in self.state}
        return {
            p: Kept(self.step, self.numbers, {n: column[i] for n, column in columns.items()})
            for i, p in enumerate(self.params)
        }

    def clear(self) -> None:
        """Lets go of the arrays: compiled steps that nobody will run again hold the lists."""
        for column in (*self.state.values(), self.whole):
            column.clear()
        self.bound = None

    # --- updates

    def flags(self, rule: Rule, flags: dict, updates: int = 0) -> dict:
        """With those that the shape selects, and the step after `updates` more."""
        return {**flags, **rule.kind(tuple(self.params[0].shape), self.group), **self.phase(rule, updates)}

    def phase(self, rule: Rule, updates: int) -> dict:
        return rule.phase(self.group, self.step + updates + 1)

    def names(self, rule: Rule, flags: dict) -> tuple:
        """Names of the state arrays; makes those that a changed option asks for."""
        names = rule.state(flags)
        for name in names:
            if name not in self.state:
                arrays = self.whole or [p._array for p in self.params]
                self.state[name] = [rule.first(name, a, self.group) for a in arrays]
        return names

    def ahead(self, updates: int = 0) -> tuple:
        """The rule's scalars for the update after `updates` more."""
        o = plain_options(self.group)
        numbers = self.rule.numbers_after(HOST, o, self.step, self.numbers, updates)
        return self.rule.scalars(HOST, o, self.step + updates + 1, *numbers)

    def update(self, rule: Rule, flags: dict) -> None:
        """One update of the parameters by their gradients."""
        flags = self.flags(rule, flags)
        names = self.names(rule, flags)
        scalars = self.ahead()
        grads = [p._grad._array for p in self.params]
        self.ready()
        if self.flat:
            self.update_flat(rule, flags, names, grads, scalars)
        else:
            columns = [[p._array for p in self.params], grads, *(self.state[n] for n in names)]
            new, *states = rule.run(columns, scalars, flags)
            for p, array in zip(self.params, new, strict=True):
                put(p, array)
            for name, column in zip(names, states, strict=True):
                self.state[name][:] = column
        self.count()

    def update_flat(self, rule: Rule, flags: dict, names: tuple, grads: list, scalars: tuple) -> None:
        """The same of a flat block: on NumPy by a kernel or the loop that compiled steps run, elsewhere as one array."""
        (whole,), states = self.whole, [self.state[n] for n in names]
        dtype = self.params[0].dtype
        if type(whole) is not np.ndarray:  # of an engine, or of bfloat16
            new = rule.run([self.whole, [joined(grads)], *states], scalars, flags)
            for column, made in zip((self.whole, *states), new, strict=True):
                column[:] = made
            if self.whole[0] is not self.bound:
                self.rebind()
        elif fast.pays(rule, dtype, whole.size):
            fast.kernel(rule, flags, dtype)(self.whole, grads, *states, *scalars, offsets=self.offsets)
        else:
            chunks.update(rule, flags, dtype, whole, grads, [s[0] for s in states], scalars, self.groups)
        if STRUCTURE.cells == self.cells:  # nobody has made an alias since none of them had one
            for p in self.params:
                p._version += 1
            return
        for p, view in zip(self.params, self.views, strict=True):
            put(p, view)
        if all(p._cell is None for p in self.params):
            self.cells = STRUCTURE.cells

    def count(self) -> None:
        """After an update."""
        if self.numbers:
            self.numbers = self.rule.numbers_after(HOST, plain_options(self.group), self.step, self.numbers, 1)
        self.step += 1

    def trace(self, rule: Rule, flags: dict) -> None:
        """The same on traced values."""
        ahead = PLACE.count(self)
        flags = self.flags(rule, flags, ahead)
        names = self.names(rule, flags)
        phase = self.phase(rule, ahead)
        if phase:
            PLACE.check(lambda: self.phase(rule, ahead) == phase)
        scalars = PLACE.host_scalars(lambda: self.ahead(ahead), rule.scalar_names, self.params[0].dtype)
        states = [PLACE.state(self.state[n], n) and self.state[n] for n in names]
        grads = [p.grad._array for p in self.params]  # type: ignore[union-attr]
        params = [p._array for p in self.params]
        with PLACE.within("update"):
            if self.flat:
                (whole,) = PLACE.state(self.whole, "params")
                PLACE.parts(whole, params, self.views)
                params, grads = list(self.whole), [ops.flat(*grads)]
            new = rule.run([params, grads, *states], tuple(scalars), flags)
            if self.flat:
                self.whole[:] = new[0]
                parts = [ops.getitem(new[0][0], key=(s,)) for s in self.slices()]
                new[0] = [ops.reshape(part, shape=tuple(p.shape)) for p, part in zip(self.params, parts, strict=True)]
            for p, value in zip(self.params, new[0], strict=True):
                put(p, value)
                if self.flat:
                    PLACE.follow(p)
        for name, column in zip(names, new[1:], strict=True):
            self.state[name][:] = column
        if self.flat:
            PLACE.check(self.ready)
        PLACE.after(self.advance)

    def advance(self) -> None:
        """After a run of a compiled step, which has updated the arrays."""
        self.count()
        if self.flat and self.bound is not self.whole[0]:
            self.rebind()

    def ready(self) -> bool:
        """Whether the parameters' arrays are views of `whole`; if not, because they were given others, they are moved there."""
        if self.flat and not all(map(is_, [p._array for p in self.params], self.views)):
            self.flatten()
        return True


def joined(arrays: list) -> Any:
    """The elements of all arrays as one new array."""
    return ops.flat.op.kernels[type(arrays[0])](*arrays)


def lies_flat(rule: Rule, backend: type[Backend], params: list[Tensor]) -> bool:
    """Whether parameters that are updated together are to lie in one array.

    PyTorch's kernels take lists, and many small arrays are what makes them slow.
    """
    if rule.per != "element" or params[0]._base is not None:
        return False
    if backend.name == "torch":
        return len(params) >= MANY and sum(p.numel() for p in params) < FEW * len(params)
    return backend.name == "numpy"


def plain_options(group: dict) -> dict:
    """A group's options with numbers in place of Tensors."""
    values = group.values()
    if not any(hasattr(v, "item") for v in (*values, *(x for v in values if type(v) is tuple for x in v))):
        return group
    return {k: _plain(v) if k != "params" else v for k, v in group.items()}


def _plain(value: Any) -> Any:
    if type(value) is tuple:
        return tuple(map(_plain, value))
    return value.item() if hasattr(value, "item") else value


def put(p: Tensor, array: Any) -> None:
    """Gives a parameter its new array; aliases follow."""
    if p._cell is None:
        p._array = array
        p._version += 1
    elif p._base is None:
        p._array = array
        bump(p)
    else:  # a view of a Tensor: through its base
        with no_grad():
            assign(p, Raw.wrap(array))


def zeros(array: Any) -> Any:
    return ops.zeros_like.op.kernels[type(array)](array)


def engine_of(array: Any) -> tuple[type[Backend], str]:
    """The backend of an array and the device that holds it."""
    backend = backend_of(array)
    return backend, backend.device_of(array)
