"""The base of all metrics: values that are empty, take data, merge, and are computed.

A `Metric` is a formula over an `Accumulator`, which holds what was seen. Metrics of one accumulator (precision and recall of
one confusion matrix) can share it, which `MetricCollection` does.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np

from ...errors import FileFormatError, OptionError, ShapeError, explain
from .inputs import bring, describe, host
from .state import Arrays, State

M = TypeVar("M", bound="Metric")
_ndarray = np.ndarray

#: Arrays of other devices wait in a metric until there are so many of them, or so many bytes.
QUEUE_ENTRIES, QUEUE_BYTES = 1024, 64 << 20
#: Rows that are collected before they are reduced together, and the size of the parts in which large batches are reduced:
#: temporaries of 64 KiB stay in the cache, and the allocator keeps them.
ROWS = 8192


class Accumulator:
    """What a metric has seen: states, and data that waits to be added to them.

    Args:
        states: The states by name.
    """

    def __init__(self, **states: State):
        self.states: dict[str, Any] = states
        self._queue: list[tuple] = []
        self._queued = 0

    def update(self, *args: Any) -> None:
        """Takes one batch: arrays of NumPy at once, those of other devices later."""
        found = [bring(a) for a in args]
        if any(deferred for _, deferred in found):
            self._later(tuple(array for array, _ in found))
        else:
            self._take(*[array for array, _ in found])

    def _take(self, *arrays: np.ndarray) -> None:
        """Checks and adds a batch."""
        raise NotImplementedError

    def _later(self, arrays: tuple) -> None:
        self._queue.append(arrays)
        self._queued += sum(a.nbytes for a in arrays)
        if len(self._queue) >= QUEUE_ENTRIES or self._queued >= QUEUE_BYTES:
            self.settle()

    def settle(self) -> None:
        """Adds what waits; afterwards the states are all there is."""
        if self._queue:
            queue, self._queue, self._queued = self._queue, [], 0
            for arrays in queue:
                self._take(*map(host, arrays))

    def reset(self) -> None:
        """Forgets everything."""
        self._queue, self._queued = [], 0
        for state in self.states.values():
            state.clear()

    def join(self, other: Any) -> None:
        """Adds what another accumulator has seen."""
        self.settle()
        other.settle()
        for name, state in self.states.items():
            state.join(other.states[name])

    def save(self) -> Arrays:
        """All states as plain arrays."""
        self.settle()
        return {
            f"{name}.{key}" if key else name: array
            for name, state in self.states.items()
            for key, array in state.save().items()
        }

    def load(self, arrays: Mapping[str, Any]) -> None:
        """Takes what `save` gave."""
        self.reset()
        parts: dict[str, Arrays] = {name: {} for name in self.states}
        for name, array in arrays.items():
            state, _, key = name.partition(".")
            if state not in parts:
                raise FileFormatError(
                    explain("the state of a metric does not fit", expected=", ".join(parts), given=name)
                )
            parts[state][key] = np.asarray(array)
        for name, state in self.states.items():
            state.load(parts[name])


class Pairs(Accumulator):
    """Takes pairs of arrays with one row per sample. Small batches are collected (copied) and reduced many at a time.

    A subclass says in `check` what it takes, and adds rows to the states in `reduce`.
    """

    def __init__(self, **states: State):
        super().__init__(**states)
        self._fill = 0
        self._room: list[np.ndarray] | None = None
        self._ready: list[np.ndarray] | None = None  # the room, while rows go there as they come
        self._key: Any = None
        self._narrow: Callable | None = None

    def check(self, a: np.ndarray, b: np.ndarray) -> Callable | None:
        """Raises where arrays of these shapes and dtypes do not fit; returns what makes rows of them (None: they are rows).

        It is asked again only when dtypes or the shapes of rows change.
        """
        raise NotImplementedError

    def reduce(self, a: np.ndarray, b: np.ndarray) -> None:
        """Adds rows to the states."""
        raise NotImplementedError

    def update(self, a: Any, b: Any) -> None:
        ready = self._ready
        if ready is not None and type(a) is _ndarray and type(b) is _ndarray and a.ndim:
            # Rows like those before, with room left: places of just their shapes and dtypes.
            end = self._fill + len(a)
            place_a, place_b = ready[0][self._fill : end], ready[1][self._fill : end]
            if (
                place_a.shape == a.shape
                and place_b.shape == b.shape
                and place_a.dtype is a.dtype
                and place_b.dtype is b.dtype
            ):
                place_a[...] = a
                place_b[...] = b
                self._fill = end
                return
        super().update(a, b)

    def _later(self, arrays: tuple) -> None:
        a, b = arrays
        if tuple(a.shape[:1]) != tuple(b.shape[:1]):
            raise _lengths(a, b)
        super()._later(arrays)

    def _take(self, a: np.ndarray, b: np.ndarray) -> None:  # type: ignore[override]
        if a.ndim == b.ndim == 0:
            a, b = a.reshape(1), b.reshape(1)
        key = (a.dtype, a.shape[1:], b.dtype, b.shape[1:])
        if not (a.ndim and b.ndim):
            raise _lengths(a, b)
        if key != self._key:
            if a.dtype.kind not in "fib" or b.dtype.kind not in "fib":
                a, b = bring(a)[0], bring(b)[0]
                key = (a.dtype, a.shape[1:], b.dtype, b.shape[1:])
            if len(a) != len(b):
                raise _lengths(a, b)
            self._narrow, self._key = self.check(a, b), key
            self._ready = None
        elif len(a) != len(b):
            raise _lengths(a, b)
        if self._narrow is not None:
            a, b = self._narrow(a, b)
        self._push(a, b)

    def _push(self, a: np.ndarray, b: np.ndarray) -> None:
        n, rows = len(a), max(64, ROWS // max(1, a[:1].size))
        if n > rows // 2:
            self._flush()
            for i in range(0, n, rows):
                self.reduce(a[i : i + rows], b[i : i + rows])
            return
        if self._room is None or any(
            r.dtype != x.dtype or r.shape[1:] != x.shape[1:] for r, x in zip(self._room, (a, b), strict=True)
        ):
            self._flush()
            self._room = [np.empty((rows, *x.shape[1:]), x.dtype) for x in (a, b)]
        room_a, room_b = self._room
        if self._fill + n > len(room_a):
            self._flush()
        room_a[self._fill : self._fill + n] = a
        room_b[self._fill : self._fill + n] = b
        self._fill += n
        if self._narrow is None:
            self._ready = self._room

    def _flush(self) -> None:
        if self._fill:
            fill, self._fill = self._fill, 0
            a, b = self._room  # type: ignore[misc]
            self.reduce(a[:fill], b[:fill])

    def settle(self) -> None:
        super().settle()
        self._flush()

    def reset(self) -> None:
        super().reset()
        self._fill, self._key, self._ready = 0, None, None


class Metric:
    """A measure of many predictions, taken a batch at a time.

    - `update(...)` takes a batch: Tensors, arrays of any engine, numbers, lists. Arrays that an accelerator may still be
      computing (those of JAX and MLX, PyTorch's on other devices) are kept, and read when there are many or a value is
      asked for: the training step does not wait. Others are read at once, and may be changed afterwards. Shapes and dtypes are
      checked at once, values (classes, NaN) when rows are reduced, which is for several small batches together.
    - `compute()` gives a Python float, an array, or a dict of them; NaN where nothing was seen. It changes nothing: more
      updates may follow.
    - `merge(other)` is a new metric that has seen what both have. Over any split of the data the merged parts equal the
      whole: counts are integers, sums are compensated.
    - `reset()` forgets everything; `empty(**options)` is a new metric; `clone()` is a copy.
    - `state_dict()` and `load_state_dict()` are plain arrays, to go on in the middle of an epoch.

    Inside a compiled step, metrics with `has_in_step` give their share of a batch as 0-d values, and take them later:
    `shares = metric.in_step(outputs, targets)` inside, `metric.absorb(shares)` outside.

    Class attributes:
        name: What logs call it.
        takes: What `update` is given, of "outputs", "targets", "loss", "batch_size".
        higher_is_better: None where neither is.
        has_in_step: Whether there is `in_step`.

    Options keep the names of the constructor's arguments as attributes, and are not changed.

    Example:
        >>> from gradloom.training.metrics import Accuracy
        >>> first, second = Accuracy(), Accuracy()
        >>> first.update([[0.1, 0.9], [0.8, 0.2]], [1, 1])
        >>> second.update([[0.3, 0.7]], [1])
        >>> first.compute(), first.merge(second).compute()
        (0.5, 0.6666666666666666)
    """

    name: str = ""
    takes: ClassVar[tuple[str, ...]] = ("outputs", "targets")
    higher_is_better: ClassVar[bool | None] = None
    has_in_step: ClassVar[bool] = False

    _acc: Any

    def __init__(self) -> None:
        self._acc = self._accumulator()

    # What a metric defines.

    def _accumulator(self) -> Accumulator:
        """A new accumulator with nothing in it, for these options."""
        raise NotImplementedError

    def _result(self, seen: Any) -> Any:
        """The value, of an accumulator in which nothing waits."""
        raise NotImplementedError

    def _sharing(self) -> Any:
        """Metrics with equal keys can use one accumulator; None: only this one."""
        return None

    # What all have.

    @classmethod
    def empty(cls: type[M], **options: Any) -> M:
        """A metric that has seen nothing: what `merge` leaves unchanged."""
        return cls(**options)

    def update(self, *args: Any) -> None:
        """Takes a batch."""
        self._acc.update(*args)

    def compute(self) -> Any:
        """The value for all that was seen since `reset`."""
        self._acc.settle()
        return self._result(self._acc)

    def reset(self) -> None:
        """Forgets what was seen."""
        self._acc.reset()

    def merge(self: M, *others: M) -> M:
        """A new metric that has seen what this one and the others have; none of them changes.

        Raises:
            OptionError: Another class, or other options.
        """
        made = self.clone()
        for other in others:
            if type(other) is not type(self) or not _same(other.options, self.options):
                raise OptionError(
                    explain("these metrics do not merge", expected=f"another {self!r}", given=repr(other))
                )
            made._acc.join(other._acc)
        return made

    def clone(self: M) -> M:
        """A copy that shares nothing with this metric."""
        made = type(self)(**self.options)
        if self.name != type(self).name:
            made.name = self.name
        made._acc.join(self._acc)
        return made

    def state_dict(self) -> Arrays:
        """What was seen, as a dict of plain arrays."""
        return self._acc.save()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` of a metric with the same options gave.

        Raises:
            FileFormatError: Arrays are missing, unknown, or of other shapes.
        """
        self._acc.load(state)

    def in_step(self, *args: Any) -> dict[str, Any]:
        """The share of one batch as 0-d values (Tensors for Tensors), of ops only: for use inside a compiled step.

        Shares of several steps may be added up before they are absorbed.

        Raises:
            OptionError: This metric, or this form of it, has none.
        """
        raise OptionError(
            explain(
                f"{self!r} has no in_step",
                expected="a metric that is a ratio of sums (`metric.has_in_step`)",
                do="return the outputs from the compiled step and call update(outputs, targets)",
            )
        )

    def absorb(self, shares: Mapping[str, Any]) -> None:
        """Takes what `in_step` gave; does not wait for it."""
        raise OptionError(explain(f"{self!r} has no in_step, and so nothing to absorb", do="call update"))

    @property
    def options(self) -> dict[str, Any]:
        """The arguments with which an equal metric is made."""
        own: Any = type(self)
        return {name: getattr(self, name) for name in _parameters(own)}

    def __reduce__(self) -> tuple:
        return _rebuilt, (type(self), self.options, self.name, self.state_dict())

    def __repr__(self) -> str:
        own: Any = type(self)
        defaults = _parameters(own)
        shown = [f"{k}={v!r}" for k, v in self.options.items() if not _same(v, defaults[k])]
        return f"{type(self).__name__}({', '.join(shown)})"


def _rebuilt(cls: type[M], options: dict[str, Any], name: str, state: Arrays) -> M:
    made = cls(**options)
    if name != cls.name:
        made.name = name
    made.load_state_dict(state)
    return made


class Shares:
    """0-d values of compiled steps, which wait on their devices until they are asked for. They may be sums of several steps."""

    def __init__(self, names: tuple[str, ...]):
        self.names = names
        self.waiting: list[list[Any]] = []

    def put(self, shares: Mapping[str, Any]) -> bool:
        """Keeps one step's; True where there are many by now.

        Raises:
            OptionError: Other names.
        """
        if set(shares) != set(self.names):
            raise OptionError(
                explain("these are not the shares of this metric", expected=self.names, given=tuple(shares))
            )
        self.waiting.append([bring(shares[name])[0] for name in self.names])
        return len(self.waiting) >= QUEUE_ENTRIES

    def take(self) -> list[list[float]]:
        """What waited, as numbers."""
        waiting, self.waiting = self.waiting, []
        return [[host(x).item() for x in row] for row in waiting]


@functools.cache
def _parameters(cls: Any) -> dict[str, Any]:
    """The arguments of a class's constructor, and of its bases' where it passes them on, with their defaults."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if "__init__" in vars(base):
            own = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            found |= {p.name: p.default for p in own if p.kind is not p.VAR_KEYWORD and p.name not in found}
            if all(p.kind is not p.VAR_KEYWORD for p in own):
                break
    return found


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(np.asarray(a), np.asarray(b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    return bool(a is b or a == b)


def _lengths(a: Any, b: Any) -> ShapeError:
    return ShapeError(
        explain(
            "predictions and targets are not as many",
            expected="one row of each for every sample",
            given=f"predictions {describe(a)}, targets {describe(b)}",
            do="metrics do not broadcast: give both for the same samples",
        )
    )


def choice(metric: str, option: str, value: Any, allowed: tuple) -> Any:
    """The value, if it is allowed.

    Raises:
        OptionError: It is not.
    """
    if value not in allowed:
        raise OptionError(
            explain(f"{metric}: unknown {option}", expected=", ".join(map(repr, allowed)), given=repr(value))
        )
    return value


def at_least(metric: str, low: int, **options: int | None) -> None:
    """Raises where an option that is given is no integer of at least `low`."""
    for option, value in options.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low):
            raise OptionError(
                explain(f"{metric}: {option} is too small", expected=f"an integer of at least {low}", given=repr(value))
            )
