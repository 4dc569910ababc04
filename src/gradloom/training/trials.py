"""Trials of a search, one after the other or in processes; a process that is killed is replaced, and none is left running."""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

from ..backends.registry import backend_class, default_backend, using_backend
from ..errors import DataError, OptionError, explain

_END_SECONDS = 5.0  # what a process is given to end by itself, with processes of its own, before it is killed


@dataclass
class Trial:
    """One trial of a search.

    Attributes:
        number: From 0 on.
        options: What `build` was given.
        value: Of the monitored log; None where the trial failed or was pruned.
        logs: All logs of that epoch; with folds their means.
        seconds: What it took, of the last attempt.
        error: What it raised, "ValueError: ..."; "pruned" where it was.
        traceback: Where that was raised.
        attempts: 1, and 1 more for each process that died with it.
    """

    number: int
    options: dict[str, Any]
    value: float | None = None
    logs: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None
    traceback: str | None = None
    attempts: int = 1


#: What a trial does with its options: gives (value, logs).
Task = Callable[[dict[str, Any]], tuple[float, dict[str, float]]]


def attempt(task: Task, trial: Trial) -> Trial:
    """Runs a trial; what it raises is recorded in it."""
    start = time.perf_counter()
    try:
        trial.value, trial.logs = task(trial.options)
    except Exception as error:
        trial.error = named(error)
        trial.traceback = "".join(traceback.format_exception(error))
    trial.seconds = time.perf_counter() - start
    return trial


def named(error: BaseException) -> str:
    """An error in words."""
    return f"{type(error).__name__}: {error}"


def run_trials(task: Task, trials: Iterable[Trial], workers: int, retries: int) -> Generator[Trial, None, None]:
    """The trials as they end.

    Args:
        task: What is done; for processes something that can be sent to them.
        trials: Them, in the order of their starts.
        workers: Processes; 1: none, all is done here.
        retries: How often a trial is begun again whose process died.

    Raises:
        DataError: Processes cannot be started.
        OptionError: The task cannot be sent to them.

    Example:
        >>> def task(options):
        ...     return 1 / options["x"], {}
        >>> [(t.value, t.error) for t in run_trials(task, [Trial(0, {"x": 2}), Trial(1, {"x": 0})], 1, 0)]
        [(0.5, None), (None, 'ZeroDivisionError: division by zero')]
    """
    if workers < 1 or workers != int(workers):
        raise OptionError(explain("workers counts processes", expected="1 or more", given=workers))
    if workers == 1:
        yield from (attempt(task, trial) for trial in trials)
        return
    waiting = collections.deque(trials)
    made: list[_Worker] = []
    free: list[_Worker] = []
    busy: dict[Any, tuple[_Worker, Trial]] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                worker = free.pop() if free else _Worker(task, made)
                busy[worker.pipe] = worker, waiting.popleft()
                worker.send(busy[worker.pipe][1])
            for pipe in multiprocessing.connection.wait(list(busy)):
                worker, trial = busy[pipe]
                found = worker.receive()
                if found is True:  # it has started
                    continue
                del busy[pipe]
                if isinstance(found, Trial):
                    free.append(worker)
                    yield found
                    continue
                worker.end()
                made.remove(worker)
                if trial.attempts <= retries:
                    trial.attempts += 1
                    waiting.appendleft(trial)
                else:
                    trial.error = found
                    yield trial
    finally:
        for worker in made:  # all are told before one is waited for
            worker.terminate()
        for worker in made:
            worker.end()


class _Worker:
    """A process that does one trial after the other."""

    def __init__(self, task: Task, made: list[_Worker]):
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads, which engines have, may hang
        self.pipe, other = context.Pipe()
        backend = default_backend()
        settings = backend.name, None if backend._dtype is None else backend._dtype.name, backend.device
        self.process = context.Process(target=_serve, args=(other, task, settings), name="gradloom-trials")
        self.ready = False
        made.append(self)  # before it starts: Ctrl-C may come at any time
        try:
            self.process.start()
        except Exception as error:
            if isinstance(error, OSError):
                raise
            raise OptionError(
                explain(
                    "the trials cannot be sent to worker processes",
                    given=f"{type(error).__name__}: {error}",
                    do="define build at the top of a module (no lambda, nothing inside of a function) and give the data as "
                    "NumPy arrays; or workers=1",
                )
            ) from error
        finally:
            other.close()

    def send(self, trial: Trial) -> None:
        """Gives it a trial; if it has died meanwhile, `receive` will say so."""
        with contextlib.suppress(OSError):
            self.pipe.send(trial)

    def receive(self) -> Any:
        """The trial that it has done, or that it is ready, or how it died."""
        try:
            found = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(_END_SECONDS)
            code = self.process.exitcode
            if not self.ready and code is not None and code > 0:
                raise DataError(
                    explain(
                        "a worker process of the search could not start",
                        given=f"exit code {code}; see what it printed",
                        do='in a script call searches with workers under `if __name__ == "__main__":`, and define build in a '
                        "file (a notebook's functions cannot be imported); or workers=1",
                    )
                ) from None
            how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
            return f"DataError: the process of the trial {how}"
        self.ready = True
        return found

    def terminate(self) -> None:
        """Asks it to end, which gives it time to end processes of its own."""
        if self.process.pid is not None:
            self.process.terminate()

    def end(self) -> None:
        """Ends it: asked to first, then by force."""
        self.terminate()
        if self.process.pid is not None:
            self.process.join(_END_SECONDS)
            if self.process.is_alive():
                self.process.kill()
            self.process.join()
        self.pipe.close()
        self.process.close()


# --- what runs in a process


def _serve(pipe: Any, task: Task, settings: tuple[str, str | None, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's affair, which ends this one
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    name, dtype, device = settings
    with contextlib.suppress(EOFError, KeyboardInterrupt), using_backend(backend_class(name)(dtype, device=device)):
        pipe.send(True)
        while True:
            pipe.send(attempt(task, pipe.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:  # to that thread, which it wakes
        signal.pthread_kill(main, signal.SIGTERM)
        time.sleep(_END_SECONDS)
    os._exit(1)
