"""Datasets and functions for the tests of data; in a module of their own so that worker processes can import them."""

import os
import time

import numpy as np

import gradloom as gl
from gradloom.training.data import DataLoader


class Squares:
    """Sample i is (i as a row of three, i squared); keeps a list of what was read in this process."""

    def __init__(self, n, fails_at=None):
        self.n, self.fails_at, self.read = n, fails_at, []

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.read.append(i)
        if i == self.fails_at:
            raise KeyError(f"no file for {i}")
        return np.full(3, i, np.float32), i * i


class Columns:
    """A dataset with the interface of Hugging Face's: rows by number, columns by slice or list."""

    def __init__(self, columns, kind=None):
        self.columns, self.format, self.asked = columns, {"type": kind}, []

    @property
    def column_names(self):
        return list(self.columns)

    def with_format(self, kind):
        made = Columns(self.columns, kind)
        made.asked = self.asked
        return made

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key):
        self.asked.append(key)
        if isinstance(key, int):
            return {name: self._as(values[key]) for name, values in self.columns.items()}
        if isinstance(key, slice):
            key = range(*key.indices(len(self)))
        return {name: self._as([values[i] for i in key]) for name, values in self.columns.items()}

    def _as(self, values):
        if self.format["type"] != "numpy":
            return values
        try:
            return np.asarray(values)
        except ValueError:  # ragged: Hugging Face gives an array of objects
            made = np.empty(len(values), object)
            made[:] = [np.asarray(v) for v in values]
            return made


class Grain:
    """An iterable whose iterators have get_state and set_state, as Grain's do."""

    def __init__(self, n):
        self.n, self.read = n, []

    def __iter__(self):
        return GrainIterator(self)


class GrainIterator:
    def __init__(self, data):
        self.data, self.at = data, 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.at == self.data.n:
            raise StopIteration
        self.at += 1
        self.data.read.append(self.at - 1)
        return {"x": np.float32(self.at - 1)}

    def get_state(self):
        return {"next": self.at}

    def set_state(self, state):
        self.at = state["next"]


class Awkward(Exception):
    """An exception that does not survive being sent: its __init__ takes two."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")


def noisy(sample, rng):
    """A random transform."""
    x, y = sample
    return x + rng.standard_normal(3).astype(np.float32), y


def noisy_batch(batch, rng):
    return batch[0] * rng.uniform(), batch[1]


def with_process(sample):
    return sample[1], os.getpid()


def slow(sample):
    time.sleep(0.02)
    return sample


def dies(sample):
    if sample[1] == 25:
        os._exit(3)
    return sample


def awkward(sample):
    raise Awkward(7, "lost")


def loader_of(kind, workers=0):
    """The same loader in every process, by its name."""
    options = {"batch_size": 4, "shuffle": True, "seed": 3, "num_workers": workers}
    if kind == "arrays":
        x = np.arange(46, dtype=np.float32).reshape(23, 2)
        return DataLoader((x, np.arange(23)), **options)
    if kind == "tensors":
        return DataLoader((gl.tensor(np.arange(46.0).reshape(23, 2)), gl.tensor(np.arange(23))), **options)
    if kind == "transforms":
        return DataLoader(Squares(23), transform=noisy, batch_transform=noisy_batch, **options)
    if kind == "table":
        return DataLoader(Columns({"x": [[i, i + 1] for i in range(23)], "y": list(range(23))}), **options)
    assert kind == "stream"
    del options["shuffle"]
    return DataLoader(Grain(23), drop_last=True, **options)


def flat(batch):
    """A batch's numbers, for comparison."""
    parts = batch.values() if isinstance(batch, dict) else batch
    return [np.asarray(part).tolist() for part in parts]


if __name__ == "__main__":  # python -m training.data_samples KIND WORKERS STATE: goes on from a state, for some epochs
    import json
    import sys

    loader = loader_of(sys.argv[1], int(sys.argv[2]))
    loader.load_state_dict(json.loads(sys.argv[3]))
    print(json.dumps([[flat(batch) for batch in loader] for _ in range(3)]))
