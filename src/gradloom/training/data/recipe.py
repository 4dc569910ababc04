"""How one batch is made from the numbers of its samples; what a thread or a worker process runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...random import key
from .collate import default_collate
from .sources import rows_of


class Task(NamedTuple):
    """One batch to make.

    Attributes:
        epoch, number: Which batch of which epoch it is.
        indices: Numbers of its samples, int64.
        samples: Those samples, where they have been read.
        batch: They as arrays, where those have been taken.
    """

    epoch: int
    number: int
    indices: np.ndarray
    samples: list[Any] | None = None
    batch: Any = None


@dataclass
class Recipe:
    """Reads the samples of a task, transforms each, puts them together and transforms the batch.

    Attributes:
        source: Where samples are read; None in a worker whose tasks bring them.
        single: A batch is one sample, as it is.
    """

    source: Any
    transform: Callable | None
    batch_transform: Callable | None
    collate_fn: Callable | None
    seed: int
    single: bool

    def __post_init__(self) -> None:
        self._random, self._batch_random = takes_rng(self.transform), takes_rng(self.batch_transform)

    @property
    def whole(self) -> bool:
        """Whether no sample has to be looked at where the source gives whole batches."""
        return self.transform is None and self.collate_fn is None and not self.single

    def load(self, task: Task) -> Any:
        """The batch of a task."""
        try:
            batch = self._batch(task)
            if self.batch_transform is None:
                return batch
            if not self._batch_random:
                return self.batch_transform(batch)
            return self.batch_transform(batch, self._rng("batch_transform", task.epoch, task.number))
        except Exception as error:
            error.add_note(f"in batch {task.number} of epoch {task.epoch} of the DataLoader")
            raise

    def _batch(self, task: Task) -> Any:
        samples = task.samples
        if samples is None:
            if task.batch is not None:
                if self.whole:
                    return task.batch
                samples = rows_of(task.batch, len(task.indices))
            elif self.whole and self.source.batched:
                return self.source.batch(task.indices)
            else:
                samples = self.source.samples(task.indices)
        numbers = task.indices.tolist()
        if self.transform is not None:
            samples = [self._transformed(s, task.epoch, i) for s, i in zip(samples, numbers, strict=True)]
        if self.single:
            return samples[0] if self.collate_fn is None else self.collate_fn(samples[0])
        if self.collate_fn is None:
            return default_collate(samples, indices=numbers)
        return self.collate_fn(samples)

    def _transformed(self, sample: Any, epoch: int, index: int) -> Any:
        assert self.transform is not None
        try:
            if self._random:
                return self.transform(sample, self._rng("transform", epoch, index))
            return self.transform(sample)
        except Exception as error:
            error.add_note(f"while transforming sample {index}")
            raise

    def _rng(self, name: str, epoch: int, index: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=key(self.seed, name, epoch, index)))


def takes_rng(fn: Callable | None) -> bool:
    """Whether a transform wants random numbers: its second parameter is called `rng`, or is one that must be given.

    Example:
        >>> takes_rng(lambda sample, rng: sample), takes_rng(lambda sample, size=3: sample)
        (True, False)
    """
    if fn is None:
        return False
    try:
        parameters = list(inspect.signature(fn).parameters.values())[1:2]
    except (TypeError, ValueError):  # some functions written in C
        return False
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.kind in by_position and (p.name == "rng" or p.default is p.empty) for p in parameters)
