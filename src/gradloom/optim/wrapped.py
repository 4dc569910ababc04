"""PyTorch's face for any functional optimizer: wrappers, several optimizers for parts, optimizers of one's own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from ..backends.registry import backend_of
from ..graph.graph import PLACE, Value
from ..graph.slots import Retrace
from ..tensor.grad_mode import enable_grad
from ..tensor.storage import STRUCTURE
from ..tensor.tape import Raw
from ..tensor.tensor import Tensor
from .block import put
from .bound import Optimizer
from .functional import Optimizer as Functional
from .state import raw
from .wrappers import Partition, Wrapper


class Column(NamedTuple):
    """A slot of all parameters: {name: position in the list}, and the arrays; a counter that parameters share is one entry."""

    at: dict[str, int]
    arrays: list[Any]


class Bound(Optimizer):
    """A functional optimizer that owns its state and changes Tensors: `step`, `zero_grad`, `param_groups`, `state_dict`.

    Args:
        params: Tensors, or pairs of their names and them (`model.named_parameters()`), which masks and `Partition` go by.
        optimizer: One of `gradloom.training.optimizers`. Its options become those of the groups: of one group, or of one for each
            part of a `Partition`.

    Attributes:
        optimizer: The functional optimizer.
        skipped: Whether the last update was left out (`SkipNonFinite`).

    Example:
        >>> import gradloom as gl
        >>> from gradloom.training.optimizers import Adam, Clip, Lookahead
        >>> model = gl.nn.Linear(2, 1)
        >>> optimizer = gl.optim.Bound(model.named_parameters(), Clip(Lookahead(Adam(1e-3)), norm=1.0))
        >>> model(gl.ones(4, 2)).sum().backward()
        >>> optimizer.step()
        >>> optimizer.param_groups[0]["lr"]
        0.001
    """

    def __init__(self, params: Iterable, optimizer: Functional):
        named = [p if isinstance(p, tuple) else (str(i), p) for i, p in enumerate(params)]
        self.optimizer = optimizer
        self._names = {p: n for n, p in named}
        self._columns: dict[str, Column] = {}
        inmost = optimizer
        while isinstance(inmost, Wrapper):
            inmost = inmost.inner
        names = [n for n, _ in named]
        parts = inmost.parts(names) if isinstance(inmost, Partition) else {"": names}
        by_name: dict[str, Tensor] = dict(named)
        super().__init__(
            [
                {"params": [(n, by_name[n]) for n in names], **group}
                for names, group in zip(parts.values(), optimizer.param_groups, strict=True)
            ],
            {},
        )
        parts_of = list(inmost.optimizers.values()) if isinstance(inmost, Partition) else [optimizer]
        for part, group in zip(parts_of, self.param_groups, strict=True):
            part.param_groups[0] = group  # one dict: a scheduler's write is seen by both
        self._keep(optimizer.init({n: p._array for n, p in named}))

    def __repr__(self) -> str:
        return f"Bound({self.optimizer!r})"

    @property
    def skipped(self) -> bool:
        """Whether the last update was left out."""
        return bool(getattr(self.optimizer, "skipped", False))

    # --- state: for each slot a list of arrays, which compiled steps hold

    def _keep(self, state: dict[str, dict[str, Any]]) -> None:
        """Takes over the state after an update.

        Raises:
            Retrace: In a trace, counters of several parameters that were one differ now.
        """
        for name, slots in state.items():
            for slot in slots:
                if slot not in self._columns:
                    self._columns[slot] = Column({}, [])
                column = self._columns[slot]
                if name not in column.at:  # when it is made: what is one object is one entry
                    same = (k for k, other in enumerate(column.arrays) if other is slots[slot])
                    column.at[name] = next(same, len(column.arrays))
                    if column.at[name] == len(column.arrays):
                        column.arrays.append(slots[slot])
        for slot, column in self._columns.items():
            entries: dict[int, Any] = {}
            for name, k in column.at.items():
                x = raw(state[name][slot])
                if entries.setdefault(k, x) is not x:
                    if PLACE.graph is not None:
                        raise Retrace(functools.partial(self._part, slot))
                    self._part(slot)
                    return self._keep(state)
            homes = {k: name for name, k in column.at.items()}
            column.arrays[:] = [self._home(homes[k], entries[k]) for k in sorted(entries)]
        return None

    def _part(self, slot: str) -> None:
        """Gives each parameter an entry of its own."""
        column = self._columns[slot]
        column.arrays[:] = [column.arrays[k] for k in column.at.values()]
        column.at.update({name: i for i, name in enumerate(column.at)})
        STRUCTURE.version += 1

    def _home(self, name: str, x: Any) -> Any:
        """A counter on the engine of its parameter; other arrays are there."""
        like = self._by_name[name]._array
        if not isinstance(x, np.ndarray | np.generic) or type(like) is Value:
            return x
        home = backend_of(like)
        if home.name == "numpy":
            return np.asarray(x)
        x = np.asarray(x, np.int32 if x.dtype.kind == "i" else np.float32)
        return home(device=device_of(home, like)).from_numpy(x)

    @functools.cached_property
    def _by_name(self) -> dict[str, Tensor]:
        return {n: p for p, n in self._names.items()}

    def _state(self) -> dict[str, dict[str, Any]]:
        state: dict[str, dict[str, Any]] = {n: {} for n in self._by_name}
        for slot, column in self._columns.items():
            wrapped = list(map(traced, column.arrays))
            for name, k in column.at.items():
                state[name][slot] = wrapped[k]
        return state

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        """{parameter: {slot: Tensor}}; a copy."""
        return {
            self._by_name[n]: {k: Raw.wrap(backend_of(x).copy(x)) for k, x in slots.items()}
            for n, slots in self._state().items()
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave; compiled steps go on."""
        self._loaded = self._state()
        self._shared: dict[tuple, Any] = {}
        super().load_state_dict(state_dict)
        self._keep(self._loaded)

    def _load_own(self, p: Tensor, state: dict[str, Any]) -> None:
        slots = self._loaded[self._names[p]]
        for slot, old in slots.items():
            if slot in state:
                home, value = backend_of(old), _numpy(state[slot])
                made = home(dtype=p.dtype, device=device_of(home, old))
                with made.context():
                    new = home.copy(made.from_numpy(value, home.dtype_of(old)))
                # Counters that are equal are one, as they were.
                slots[slot] = new if value.ndim else self._shared.setdefault((slot, id(home), value.item()), new)

    # --- the update

    def _step(self, closure: Callable | None = None) -> Any:
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        params = {n: traced(p._array) for p, n in self._names.items()}
        if PLACE.graph is not None:
            for slot, column in self._columns.items():
                PLACE.state(column.arrays, slot)
            PLACE.check(functools.partial(self._same_code, self.optimizer.__jit_key__()))
        more = () if closure is None else (functools.partial(self._again, closure),)
        new, state = self.optimizer.update(params, self._gradients(), self._state(), *more)
        for p, name in self._names.items():
            array = raw(new[name])
            if array is not p._array:
                put(p, array)
        self._keep(state)
        return loss

    def _gradients(self) -> dict[str, Any]:
        return {n: traced(p.grad._array) for p, n in self._names.items() if p._grad is not None and p.grad is not None}

    def _again(self, closure: Callable, at: dict[str, Any]) -> dict[str, Any]:
        """The gradients at other parameters."""
        before = {p: p._array for p in self._names}
        try:
            for p, name in self._names.items():
                put(p, raw(at[name]))
            with enable_grad():
                closure()
            return self._gradients()
        finally:
            for p, array in before.items():
                put(p, array)

    # --- what gradloom.jit asks

    def _same_code(self, key: tuple) -> bool:
        return self.optimizer.__jit_key__() == key

    def __jit_key__(self) -> tuple:
        return (*self.optimizer.__jit_key__(), *(len(c.arrays) for c in self._columns.values()))


def traced(x: Any) -> Any:
    """A traced value as a Tensor, which has all operators; an array as it is."""
    return Raw.wrap(x) if type(x) is Value else x


def device_of(home: Any, array: Any) -> str | None:
    """The device of an array, as the backend takes it."""
    device = home.device_of(array)
    return None if device == "cpu" else device


def _numpy(x: Any) -> np.ndarray:
    x = raw(x)
    return backend_of(x).to_numpy(x) if hasattr(x, "shape") else np.asarray(x)
