"""Batches made ahead of their use: by a thread, or by worker processes; in order, and gone when nobody wants them."""

from __future__ import annotations

import collections
import concurrent.futures
import multiprocessing
import multiprocessing.reduction
import queue
import signal
import threading
import traceback
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from ... import tree
from ...backends.registry import backend_of, default_backend, using_backend
from ...errors import DataError, OptionError, explain
from ...tensor.tensor import Tensor
from .recipe import Recipe, Task
from .sources import is_array

_JOIN_SECONDS = 5.0  # how long the end of a loop waits for the sample that is being read


class Prefetch:
    """Runs an iterator in a thread, at most `depth` items ahead. Errors come out where the item would have.

    The thread ends when the iterator does, at `close()`, and when this object is no longer used.
    """

    def __init__(self, items: Iterator[Any], depth: int):
        self._ready: queue.SimpleQueue = queue.SimpleQueue()
        self._slots = threading.Semaphore(depth)
        stop = threading.Event()
        # The thread must not refer to this object, or it would never be collected.
        arguments = (items, self._ready, self._slots, stop, default_backend())
        thread = threading.Thread(target=_produce, args=arguments, name="gradloom-prefetch", daemon=True)
        self.close = weakref.finalize(self, _end, thread, self._slots, stop)
        thread.start()

    def __iter__(self) -> Prefetch:
        return self

    def __next__(self) -> Any:
        if not self.close.alive:
            raise StopIteration
        item, error = self._ready.get()
        if error is None:
            self._slots.release()
            return item
        self.close()
        try:
            raise error
        finally:
            del error  # else its traceback and this frame would keep each other


def _produce(items: Iterator[Any], ready: Any, slots: Any, stop: threading.Event, backend: Any) -> None:
    try:
        with using_backend(backend):  # which is a choice by thread
            while True:
                slots.acquire()
                if stop.is_set():
                    return
                ready.put((_computed(next(items)), None))
    except BaseException as error:  # StopIteration too: it is the end there as well as here
        ready.put((None, error))
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


def _computed(item: Any) -> Any:
    """The item, when engines that compute later have done so: MLX can do it only in the thread that asked."""
    for x in tree.flatten(item)[0]:
        array = x.native if isinstance(x, Tensor) else x
        if not isinstance(array, np.ndarray) and is_array(array):
            backend_of(array).synchronize(array)
    return item


def _end(thread: threading.Thread, slots: Any, stop: threading.Event) -> None:
    stop.set()
    slots.release()
    if thread is not threading.current_thread() and thread.ident is not None:
        thread.join(_JOIN_SECONDS)


class Workers:
    """Processes that make batches. They start without a copy of this one's memory.

    A forked copy of a process that has threads (engines do) may hang on a lock that some thread held. So processes are
    forked from a clean server, where the system has that, or started anew; both send the recipe to them.

    Raises:
        OptionError: The dataset or a function cannot be sent.
    """

    def __init__(self, recipe: Recipe, count: int, context: Any):
        if context is None:
            methods = multiprocessing.get_all_start_methods()
            context = "forkserver" if "forkserver" in methods else "spawn"
        if isinstance(context, str):
            context = multiprocessing.get_context(context)
        self._pool = concurrent.futures.ProcessPoolExecutor(count, context, _start, (recipe,))
        self.close = weakref.finalize(self, self._pool.shutdown, wait=True, cancel_futures=True)

    def map(self, tasks: Iterable[tuple[Task, Any]], ahead: int) -> Iterator[tuple[Any, Any]]:
        """(batch, state) for each (task, state), in order; `ahead` tasks are under way at a time.

        Raises:
            DataError: A process died.
        """
        waiting: collections.deque[tuple[Any, Task, Any]] = collections.deque()
        try:
            for task, state in tasks:
                waiting.append((self._submit(task), task, state))
                if len(waiting) >= ahead:
                    yield self._result(waiting), waiting.popleft()[2]
            while waiting:
                yield self._result(waiting), waiting.popleft()[2]
        finally:
            for future, _, _ in waiting:
                future.cancel()

    def _submit(self, task: Task) -> Any:
        try:
            return self._pool.submit(_work, task)
        except BrokenProcessPool as error:
            raise _died(task.number, task.number) from error
        except (AttributeError, TypeError, ValueError, multiprocessing.ProcessError, RecursionError) as error:
            raise _unsendable(error) from error
        except Exception as error:
            if type(error).__name__ != "PicklingError":
                raise
            raise _unsendable(error) from error

    def _result(self, waiting: Any) -> Any:
        future, task, _ = waiting[0]
        try:
            batch, error = future.result()
        except BrokenProcessPool as broken:
            raise _died(task.number, waiting[-1][1].number) from broken
        if error is not None:
            raise error
        return batch


def _died(first: int, last: int) -> DataError:
    return DataError(
        explain(
            "a worker process of the DataLoader ended unexpectedly",
            where=f"while batches {first} to {last} were being made",
            do="see what it printed; usual causes: too little memory, a crash in a library, a script that starts workers "
            'outside of `if __name__ == "__main__":`, functions that cannot be imported (defined in a notebook). '
            "num_workers=0 shows an error where it happens",
        )
    )


def _unsendable(error: Exception) -> OptionError:
    return OptionError(
        explain(
            "the dataset or a function of the DataLoader cannot be sent to worker processes",
            given=f"{type(error).__name__}: {error}",
            do="define functions and classes at the top of a module (no lambda, nothing inside of a function), or use "
            'num_workers=0, or multiprocessing_context="fork" where no thread is running',
        )
    )


# --- what runs in a worker

_recipe: Recipe | None = None


def _start(recipe: Recipe) -> None:
    global _recipe
    _recipe = recipe
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's affair, which ends this one


def _work(task: Task) -> tuple[Any, Exception | None]:
    assert _recipe is not None
    try:
        return _recipe.load(task), None
    except Exception as error:
        return None, _sendable(error)


def _sendable(error: Exception) -> Exception:
    """The error with its traceback as a note, as a traceback itself cannot be sent."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    error.add_note("in a worker process:\n" + "".join(lines))
    try:
        multiprocessing.reduction.ForkingPickler.loads(multiprocessing.reduction.ForkingPickler.dumps(error))
    except Exception:  # one whose __init__ takes something else than its message
        sent = DataError(f"{type(error).__name__}: {error}")
        for note in error.__notes__:
            sent.add_note(note)
        return sent
    return error
