"""The DataLoader's batches of arrays in memory beside NumPy's take, and PyTorch's. ``python -m benchmarks.loader``."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from benchmarks.harness import compare
from benchmarks.report import Claim, Table
from gradloom.random import key, permutation
from gradloom.training.data import DataLoader

CASES = {  # name: (samples, a sample's shape, batch size)
    "28x28_64": (60_000, (28, 28), 64),
    "28x28_256": (60_000, (28, 28), 256),
    "224x224x3_64": (1_024, (224, 224, 3), 64),
    "224x224x3_256": (1_024, (224, 224, 3), 256),
}
SHARE = 0.8  # of the bandwidth of take


@functools.cache
def arrays(case: str) -> tuple[np.ndarray, np.ndarray]:
    """float32 images and int64 labels."""
    count, shape, _ = CASES[case]
    images = np.empty((count, *shape), np.float32)
    images[...] = np.arange(count, dtype=np.float32).reshape(-1, *[1] * len(shape))
    return images, np.arange(count)


def reader(epoch: Callable[[], Iterable[Any]]) -> Callable[[], None]:
    """A step that reads an epoch: with the drawing of its order, and holding each batch until the next has come."""

    def step() -> None:
        for batch in epoch():
            assert len(batch[0]) > 0

    return step


def take(case: str) -> Callable[[], None]:
    """The most that NumPy can do: one order for all epochs, one output for all batches, no check of indices."""
    images, labels = arrays(case)
    size = CASES[case][2]
    order = permutation(key(0), len(images))
    out = np.empty((size, *images.shape[1:]), images.dtype), np.empty(size, labels.dtype)

    def epoch() -> Iterator[Any]:
        for start in range(0, len(images) - size + 1, size):
            chosen = order[start : start + size]
            yield images.take(chosen, 0, out[0], "clip"), labels.take(chosen, 0, out[1], "clip")

    return reader(epoch)


def fresh_take(case: str) -> Callable[[], None]:
    """``x[indices]``, as one writes it by hand; the order is drawn anew in each epoch."""
    images, labels = arrays(case)
    size = CASES[case][2]
    generator = np.random.default_rng(0)

    def epoch() -> Iterator[Any]:
        order = generator.permutation(len(images))
        for start in range(0, len(images) - size + 1, size):
            yield images[order[start : start + size]], labels[order[start : start + size]]

    return reader(epoch)


def ours(case: str) -> Callable[[], None]:
    """Shuffled anew in each epoch, each batch in memory of its own."""
    loader = DataLoader(arrays(case), batch_size=CASES[case][2], shuffle=True, drop_last=True)
    return reader(lambda: iter(loader))


def torch(case: str) -> Callable[[], None]:
    """PyTorch's DataLoader over the same arrays as tensors."""
    import torch
    from torch.utils.data import DataLoader as TorchLoader
    from torch.utils.data import TensorDataset

    dataset = TensorDataset(*map(torch.from_numpy, arrays(case)))
    loader = TorchLoader(dataset, batch_size=CASES[case][2], shuffle=True, drop_last=True)
    return reader(lambda: iter(loader))


def run(quick: bool = False) -> list[Table]:
    """A table for each size of sample and batch."""
    tables = []
    for case in CASES:
        makers = {"np.take(out=)": take, "gradloom": ours, "x[indices]": fresh_take, "torch": torch}
        comparison = compare(
            {label: functools.partial(make, case) for label, make in makers.items()},
            name=f"loader_{case}",
            title=f"An epoch in memory: {CASES[case][0]} images, {case.replace('_', ', batch ')}",
            baseline="np.take(out=)",
            blocks=3 if quick else 9,
            seconds=0.2 if quick else 1.0,
            claims=[Claim("gradloom", "np.take(out=)", 1 / SHARE), Claim("gradloom", "torch", 1.0)],
        )
        tables.append(comparison.table())
        arrays.cache_clear()
    return tables


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    run(parser.parse_args().quick)
