"""Where the time of a run goes: data, steps, callbacks, validation."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from ...errors import OptionError, explain
from .base import EVENTS, Callback


class Profiler(Callback):
    """Measures the time of data, steps, validation and each callback, and prints a table at the end.

    The first step, which is compiled, is a line of its own. Engines that compute later (JAX, MLX, GPUs) may still be busy when a
    step has returned; with `synchronize` each step is waited for, which makes its time its own, and the run slower.

    Args:
        synchronize: Wait for each step.
        file: Where the table is printed. Default: `sys.stdout`; False: nowhere.

    Attributes:
        times: {part: seconds of each time}, of the last run.

    Example:
        >>> from gradloom.training.callbacks import CallbackList, Profiler
        >>> profiler = Profiler(file=False)
        >>> callbacks = CallbackList([profiler])
        >>> callbacks.on_train_begin()
        >>> for step in range(3):
        ...     callbacks.on_step_begin(step)
        ...     callbacks.on_step_end(step)
        >>> callbacks.on_train_end()
        >>> {part: len(times) for part, times in profiler.times.items()}
        {'data': 3, 'first step': 1, 'step': 2}
    """

    def __init__(self, synchronize: bool = False, file: Any = None):
        self.synchronize, self.file = synchronize, file
        self.times: dict[str, list[float]] = {}
        self.seconds = 0.0
        self._mark = self._start = 0.0
        self._before: dict[str, list] | None = None

    def on_train_begin(self) -> None:
        """Puts its clocks around the other callbacks."""
        if self.owner is None:
            raise OptionError(explain("Profiler belongs to a list of callbacks", do="CallbackList([Profiler(), ...])"))
        self.times = {}
        self._put_back()
        listeners = self.owner._listeners
        self._before = {event: list(found) for event, found in listeners.items()}
        names = unique_names(self.owner.callbacks)
        for event in EVENTS:
            listeners[event] = [
                pair if pair[0] is self else (pair[0], self._timed(names[id(pair[0])], pair[1]))
                for pair in listeners[event]
            ]
        # Its own marks stand first, and again last where the callbacks' time must not count.
        marks = {
            "on_epoch_begin": (None, self._restart), "on_step_begin": (self._data_came, self._restart),
            "on_step_end": (self._step_ended, self._restart), "on_validation_end": (self._validated, self._restart),
        }  # fmt: skip
        for event, (first, last) in marks.items():
            listeners[event] = [
                *([] if first is None else [(self, first)]), *listeners[event], (self, last),
            ]  # fmt: skip
        self._start = self._mark = time.perf_counter()

    def on_train_end(self) -> None:
        """Prints the table."""
        self.seconds = time.perf_counter() - self._start
        self._put_back()
        if self.file is not False and self.times:
            print(self.table(), file=sys.stdout if self.file is None else self.file, flush=True)

    def _put_back(self) -> None:
        if self._before is not None and self.owner is not None:
            self.owner._listeners.update(self._before)
            self._before = None

    # --- clocks

    def _add(self, part: str, seconds: float) -> None:
        self.times.setdefault(part, []).append(seconds)

    def _timed(self, name: str, listener: Callable) -> Callable:
        def timed(*args: Any) -> None:
            start = time.perf_counter()
            try:
                listener(*args)
            finally:
                self._add(name, time.perf_counter() - start)

        return timed

    def _restart(self, *_: Any) -> None:
        self._mark = time.perf_counter()

    def _data_came(self, _: Any) -> None:
        self._add("data", time.perf_counter() - self._mark)

    def _step_ended(self, _: Any, logs: Any) -> None:
        if self.synchronize:
            for name in logs:
                logs[name]
                break
        self._add("step" if "first step" in self.times else "first step", time.perf_counter() - self._mark)

    def _validated(self, _: Any, logs: Any) -> None:
        self._add("validation", time.perf_counter() - self._mark)

    # --- the table

    def table(self) -> str:
        """The times as a table: total, share of the run, number, mean and median of each part; the largest first."""
        rows = [(part, sum(t), len(t), statistics.median(t)) for part, t in self.times.items()]
        rows.sort(key=lambda row: -row[1])
        whole = max(self.seconds, sum(row[1] for row in rows), 1e-12)
        rest = whole - sum(row[1] for row in rows)
        width = max(len("the rest"), *(len(row[0]) for row in rows))
        lines = [f"{'':{width}}  {'seconds':>9}  {'share':>6}  {'times':>7}  {'mean':>9}  {'median':>9}"]
        for part, total, count, median in rows:
            lines.append(
                f"{part:{width}}  {total:9.3f}  {total / whole:6.1%}  {count:7d}  {short(total / count):>9}  {short(median):>9}"
            )
        lines.append(f"{'the rest':{width}}  {rest:9.3f}  {rest / whole:6.1%}")
        lines.append(f"{'all':{width}}  {whole:9.3f}  {1:6.1%}")
        return "\n".join(lines)


def unique_names(callbacks: list[Callback]) -> dict[int, str]:
    """{id of a callback: its class's name, numbered where there are several}."""
    names: dict[int, str] = {}
    count: dict[str, int] = {}
    for c in callbacks:
        name = type(c).__name__
        count[name] = count.get(name, 0) + 1
        names[id(c)] = name if count[name] == 1 else f"{name} {count[name]}"
    return names


def short(seconds: float) -> str:
    """A short time in a unit that fits.

    Example:
        >>> short(0.00001234), short(0.0123), short(2.5)
        ('12.3 us', '12.3 ms', '2.50 s')
    """
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
