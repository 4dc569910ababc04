"""`DataLoader`: batches of a dataset, in an order that seed and epoch determine, from any position on."""

from __future__ import annotations

import itertools
import operator
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...backends.registry import default_backend
from ...errors import DataError, OptionError, explain
from ...random import key, permutation
from .background import Prefetch, Workers
from .datasets import checked_indices
from .recipe import Recipe, Task
from .sources import Stream, source_of

_AHEAD = 2  # batches, or batches per worker, made in advance unless told otherwise


@dataclass
class _Position:
    """How far an epoch is: batches handed out, and the data's own state after them."""

    epoch: int
    batch: int = 0
    source: Any = None
    done: bool = False


class DataLoader:
    """Batches of data. Options that PyTorch's DataLoader has too mean the same.

    The order of an epoch is a function of seed and epoch only: the same on every engine and for any number of workers.
    Each `iter(loader)` is the next epoch, from 0 on, unless `set_epoch` or `load_state_dict` has said which.

    Args:
        dataset: A tuple or dict of arrays of equal length (NumPy's, Tensors, an engine's), which are taken from without
            looking at samples; a dataset with `len()` and `[i]`; one of Hugging Face, read by columns; an iterable, or a
            function without parameters that makes one, read in its own order.
        batch_size: Samples in a batch. None: what the dataset gives is a batch already.
        shuffle: A new order in each epoch.
        sampler: Gives the indices of samples instead, for an epoch at a time.
        batch_sampler: Gives lists of indices, one for each batch.
        num_workers: Processes that read and transform. Arrays without transforms need none: they are taken in a thread.
        collate_fn: Makes a batch of a list of samples. Default: `default_collate`.
        drop_last: Leave out a last batch with fewer samples.
        prefetch_factor: Batches made in advance: by each worker, or by one thread. 0 turns the thread off. Default: 2, but
            0 for arrays without transforms, for iterators, whose items would be lost when a loop ends early, and on MLX,
            which does not compute in one thread what another one asked for.
        persistent_workers: Keep the processes from epoch to epoch.
        multiprocessing_context: How processes start ("forkserver", "spawn", "fork"). Default: "forkserver" where there is
            one, else "spawn".
        seed: Of shuffles and random transforms.
        transform: Applied to each sample; as `transform(sample, rng)` if it takes two: a `numpy.random.Generator` that
            depends on (seed, epoch, index of the sample) only.
        batch_transform: Applied to each batch; as `batch_transform(batch, rng)` if it takes two.

    Raises:
        OptionError: Options that exclude each other, or data that cannot be read.
        ShapeError: Arrays of different lengths.
        DataError: No samples, or none left for a batch.

    Example:
        >>> x, y = np.arange(10).reshape(5, 2), np.arange(5)
        >>> loader = DataLoader((x, y), batch_size=2, shuffle=True, seed=1)
        >>> [targets.tolist() for _, targets in loader]
        [[1, 0], [4, 3], [2]]
        >>> batches = iter(loader)  # epoch 1
        >>> next(batches)[1], loader.state_dict()["epoch"], loader.state_dict()["batch"]
        (array([4, 3]), 1, 1)
        >>> again = DataLoader((x, y), batch_size=2, shuffle=True, seed=1)
        >>> again.load_state_dict(loader.state_dict())
        >>> [b[1].tolist() for b in again] == [b[1].tolist() for b in batches]
        True
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[Iterable[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable | None = None,
        *,
        drop_last: bool = False,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        multiprocessing_context: Any = None,
        seed: int = 0,
        transform: Callable | None = None,
        batch_transform: Callable | None = None,
    ):
        self.dataset = dataset
        self.batch_size = batch_size if batch_sampler is None else None
        self.shuffle, self.drop_last, self.seed = bool(shuffle), drop_last, operator.index(seed)
        self.sampler, self.batch_sampler, self.collate_fn = sampler, batch_sampler, collate_fn
        self.num_workers, self.prefetch_factor = num_workers, prefetch_factor
        self.persistent_workers, self.multiprocessing_context = persistent_workers, multiprocessing_context
        self._source = source_of(dataset)
        self._check(batch_size)
        self._size = self.batch_size or 1
        single = batch_size is None and batch_sampler is None
        self._recipe = Recipe(self._source, transform, batch_transform, collate_fn, self.seed, single)
        self._check_not_empty()
        # Arrays that are taken as they are: there is nothing for workers to do.
        self._direct = self._source.in_memory and self._recipe.whole and batch_transform is None
        self._orders = _Orders()
        self._workers: Workers | None = None
        self._next = 0  # the epoch of the next iteration
        self._told = False  # somebody has said which epoch it is
        self._now: _Position | None = None  # of the newest iteration
        self._resume: _Position | None = None  # where the next one is to begin

    def __len__(self) -> int:
        """Batches in an epoch.

        Raises:
            TypeError: The data does not say how many samples it has.
        """
        if self.batch_sampler is not None:
            return len(self.batch_sampler)  # type: ignore[arg-type]
        if self.sampler is not None:
            size = len(self.sampler)  # type: ignore[arg-type]
        else:
            size = len(self.dataset) if self._source.size is None else self._source.size
        return size // self._size if self.drop_last else -(-size // self._size)

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self._source, Stream):
            self._source.check()
        position = self._resume or _Position(self._next)
        self._resume, self._next, self._now = None, position.epoch + 1, position
        return self._epoch(position)

    def set_epoch(self, epoch: int) -> None:
        """Makes the next iteration that epoch. A position in that epoch which `load_state_dict` has set stays."""
        epoch = operator.index(epoch)
        if self._resume is None or self._resume.epoch != epoch:
            self._resume = self._now = None
        self._next, self._told = epoch, True

    def state_dict(self) -> dict[str, Any]:
        """The position: batches that were handed out in this epoch, however many were made in advance."""
        at = self._resume or self._now
        if at is None or at.done:
            at = _Position(self._next)
        return {
            "epoch": at.epoch, "batch": at.batch, "seed": self.seed, "batch_size": self.batch_size,
            "size": self._source.size, "source": at.source,
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Makes the next iteration go on from a position. What was passed is not read again, but by an iterable without a
        state of its own, which has to be.

        Raises:
            OptionError: The state is of a loader of other data, or with another batch size.
        """
        own = {"batch_size": self.batch_size, "size": self._source.size}
        if not isinstance(state_dict, dict) or not {"epoch", "batch", "seed", "source", *own} <= set(state_dict):
            raise OptionError(
                explain("not the state of a DataLoader", expected="what state_dict() gave", given=state_dict)
            )
        saved = {name: state_dict[name] for name in own}
        if saved != own:
            raise OptionError(
                explain("the state is that of another DataLoader", expected=_options(own), given=_options(saved))
            )
        self._resume = _Position(state_dict["epoch"], state_dict["batch"], state_dict["source"])
        if self.seed != state_dict["seed"]:
            self._close_workers()  # which have the other
            self.seed = self._recipe.seed = state_dict["seed"]
            self._orders = _Orders()
        self._told = True

    # --- an epoch

    def _epoch(self, position: _Position) -> Iterator[Any]:
        results = self._results(position)
        try:
            for batch, state in results:
                position.batch += 1
                position.source = state
                yield batch
                batch = None  # so that its memory is free for the next, if the loop has dropped it too
        finally:
            results.close()
        if not position.batch:
            raise DataError(
                explain(
                    "the DataLoader has no batch",
                    given=f"{type(self.dataset).__name__} that gave no sample"
                    + (", or fewer than batch_size with drop_last=True" if self.drop_last else ""),
                    do="look at the data; an iterator can be read once only",
                )
            )
        position.done = True

    def _results(self, position: _Position) -> Any:
        """(batch, the data's state after it), made ahead where that is wanted."""
        ahead = self.prefetch_factor
        if self.num_workers and not self._direct:
            return self._from_workers(position, self.num_workers * (_AHEAD if ahead is None else ahead))
        if self._direct:
            results: Any = self._taken(position)
            ahead = (_AHEAD if self.num_workers else 0) if ahead is None else ahead
            ahead *= self.num_workers or 1
        else:
            load = self._recipe.load
            results = ((load(task), state) for task, state in self._tasks(position))
            if ahead is None:
                # MLX computes later, and only in the thread in which that was asked for.
                waits = getattr(self._source, "once", False) or default_backend().name == "mlx"
                ahead = 0 if waits else _AHEAD
        return Prefetch(results, ahead) if ahead else results

    def _taken(self, position: _Position) -> Iterator[tuple[Any, None]]:
        batch = self._source.batch
        for indices in self._indices(position):
            yield batch(indices), None

    def _tasks(self, position: _Position) -> Iterator[tuple[Task, Any]]:
        if isinstance(self._source, Stream):
            yield from self._stream_tasks(self._source, position)
            return
        for number, indices in enumerate(self._indices(position), position.batch):
            yield Task(position.epoch, number, indices), None

    def _stream_tasks(self, source: Stream, position: _Position) -> Iterator[tuple[Task, Any]]:
        epoch, number, size = position.epoch, position.batch, self._size
        if self._told or epoch:
            source.set_epoch(epoch)
        items, state_of = source.start(position.source)
        passed = 0 if position.source is not None else number * size
        found = sum(1 for _ in itertools.islice(items, passed))
        if found <= passed - (1 if self.drop_last else size):  # the last batch may have been a short one
            raise DataError(
                explain("the data ends before the saved position", expected=f"{passed} items", given=f"{found}")
            )
        while samples := list(itertools.islice(items, size)):
            if len(samples) < size and self.drop_last:
                return
            indices = np.arange(number * size, number * size + len(samples))
            yield Task(epoch, number, indices, samples), None if state_of is None else state_of()
            number += 1

    def _from_workers(self, position: _Position, ahead: int) -> Iterator[tuple[Any, Any]]:
        recipe, tasks = self._recipe, self._tasks(position)
        if self._source.in_memory:  # the rows of a batch are sent, not all arrays
            batch = self._source.batch
            tasks = ((task._replace(batch=batch(task.indices)), state) for task, state in tasks)
        if self._source.in_memory or isinstance(self._source, Stream):
            recipe = Recipe(
                None, recipe.transform, recipe.batch_transform, recipe.collate_fn, recipe.seed, recipe.single
            )
        workers, self._workers = self._workers, None  # another iteration at the same time gets its own
        workers = workers or Workers(recipe, self.num_workers, self.multiprocessing_context)
        usable = False
        try:
            yield from workers.map(tasks, ahead)
            usable = True
        except GeneratorExit:  # the loop ended early
            usable = True
            raise
        finally:
            if usable and self.persistent_workers:
                self._workers = workers
            else:
                workers.close()

    def _close_workers(self) -> None:
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    # --- the order

    def _indices(self, position: _Position) -> Iterator[np.ndarray]:
        """The samples' numbers of each batch from a position on."""
        first, size, count = position.batch, self._size, self._source.size
        sampler = self.sampler if self.batch_sampler is None else self.batch_sampler
        if sampler is not None and (self._told or position.epoch) and hasattr(sampler, "set_epoch"):
            sampler.set_epoch(position.epoch)
        if self.batch_sampler is not None:
            for numbers in itertools.islice(self.batch_sampler, first, None):
                yield checked_indices(numbers, count)
        elif self.sampler is not None:
            numbers = itertools.islice(self.sampler, first * size, None)
            while chosen := list(itertools.islice(numbers, size)):
                if len(chosen) < size and self.drop_last:
                    return
                yield checked_indices(chosen, count)
        elif self.shuffle:
            order = self._orders.of(self.seed, position.epoch, count, ahead=self._direct)
            for start in range(first * size, len(self) * size, size):
                yield order[start : start + size]
        else:
            for start in range(first * size, len(self) * size, size):
                yield np.arange(start, min(start + size, count))

    # --- checks

    def _check(self, batch_size: Any) -> None:
        if isinstance(self._source, Stream):
            chosen = {"shuffle": self.shuffle, "sampler": self.sampler, "batch_sampler": self.batch_sampler}
            for name, value in chosen.items():
                if value is not None and value is not False:
                    raise OptionError(
                        explain(
                            f"an iterable is read in its own order: {name} needs samples that can be chosen by index",
                            given=f"{name}={value} with {type(self.dataset).__name__}",
                            do="give a dataset with len() and [i], or shuffle inside of the iterable",
                        )
                    )
        if self.sampler is not None and self.shuffle:
            raise OptionError("sampler option is mutually exclusive with shuffle")
        if self.batch_sampler is not None:
            if batch_size != 1 or self.shuffle or self.sampler is not None or self.drop_last:
                raise OptionError(
                    "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last"
                )
        elif batch_size is None:
            if self.drop_last:
                raise OptionError(
                    "batch_size=None option disables auto-batching and is mutually exclusive with drop_last"
                )
        elif isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise OptionError(f"batch_size should be a positive integer value, but got batch_size={batch_size}")
        if self.num_workers < 0:
            raise OptionError(
                "num_workers option should be non-negative; use num_workers=0 to disable multiprocessing."
            )
        if self.prefetch_factor is not None and self.prefetch_factor < (1 if self.num_workers else 0):
            raise OptionError(
                explain(
                    "prefetch_factor counts batches made in advance",
                    expected="at least 1 for worker processes; 0 or more without",
                    given=f"prefetch_factor={self.prefetch_factor}, num_workers={self.num_workers}",
                )
            )
        if self.persistent_workers and not self.num_workers:
            raise OptionError("persistent_workers option needs num_workers > 0")
        if self.multiprocessing_context is not None and not self.num_workers:
            raise OptionError(
                "multiprocessing_context can only be used with multi-process loading (num_workers > 0), "
                f"but got num_workers={self.num_workers}"
            )

    def _check_not_empty(self) -> None:
        size = self._source.size
        if size == 0 or (size is not None and self.drop_last and self.sampler is None and size < self._size):
            raise DataError(
                explain(
                    "the DataLoader has no batch",
                    expected="at least one sample" if size == 0 else f"at least batch_size={self._size} samples",
                    given=f"{size} samples" + ("" if size == 0 else " and drop_last=True"),
                )
            )


class _Orders:
    """Permutations by epoch; the next one is drawn by a thread while batches of this one are handed out."""

    _MANY = 1 << 13  # samples from which sorting takes as long as some batches do

    def __init__(self) -> None:
        self._next: tuple[int, threading.Thread, list[np.ndarray]] | None = None

    def of(self, seed: int, epoch: int, size: int, ahead: bool) -> np.ndarray:
        """The order of an epoch. ahead: Begin with that of the next."""
        drawn, self._next = self._next, None
        if drawn is not None and drawn[0] == epoch:
            drawn[1].join()
            order = drawn[2][0]
        else:
            order = _shuffled(seed, epoch, size)
        if ahead and size >= self._MANY:
            box: list[np.ndarray] = []
            arguments = (box, seed, epoch + 1, size)
            thread = threading.Thread(target=_shuffle_into, args=arguments, name="gradloom-shuffle", daemon=True)
            thread.start()
            self._next = epoch + 1, thread, box
        return order


def _shuffled(seed: int, epoch: int, size: int) -> np.ndarray:
    return permutation(key(seed, "shuffle", epoch), size)


def _shuffle_into(box: list[np.ndarray], *which: int) -> None:
    box.append(_shuffled(*which))


def _options(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())
