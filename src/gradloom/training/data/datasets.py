"""Datasets with PyTorch's names: arrays side by side, a part of a dataset, datasets one after the other."""

from __future__ import annotations

import bisect
import itertools
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...errors import IndexOutOfRangeError, OptionError, ShapeError, explain


class TensorDataset:
    """Arrays of equal length side by side; sample i is the tuple of their rows i. (A plain tuple of arrays does as well.)

    Args:
        *tensors: Tensors, NumPy arrays or arrays of an engine, (n, ...) each.

    Raises:
        ShapeError: The lengths differ.

    Example:
        >>> dataset = TensorDataset(np.arange(6).reshape(3, 2), np.array([0, 1, 0]))
        >>> len(dataset), dataset[1]
        (3, (array([2, 3]), np.int64(1)))
    """

    def __init__(self, *tensors: Any):
        if not tensors:
            raise OptionError(explain("a TensorDataset needs at least one array"))
        check_lengths([(f"tensors[{i}]", t) for i, t in enumerate(tensors)])
        self.tensors = tensors

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def __getitem__(self, index: Any) -> tuple:
        return tuple(tensor[index] for tensor in self.tensors)


class Subset:
    """Some samples of a dataset, in the order of the indices.

    Args:
        dataset: All that `DataLoader` takes and that has a length: a dataset, or a tuple or dict of arrays.
        indices: Integers; may repeat.

    Raises:
        IndexOutOfRangeError: An index that the dataset does not have.

    Example:
        >>> part = Subset(["a", "b", "c"], [2, 0])
        >>> len(part), part[0]
        (2, 'c')
    """

    def __init__(self, dataset: Any, indices: Iterable[int]):
        self.dataset = dataset
        self.indices = checked_indices(indices, size_of(dataset))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return row(self.dataset, int(self.indices[index]))


class ConcatDataset:
    """Datasets one after the other.

    Args:
        datasets: Objects with `len()` and integer indices.

    Example:
        >>> both = ConcatDataset([["a", "b"], ["c"]])
        >>> len(both), both[2], both[-1]
        (3, 'c', 'c')
    """

    def __init__(self, datasets: Iterable[Any]):
        self.datasets = list(datasets)
        if not self.datasets:
            raise OptionError("datasets should not be an empty iterable")
        self.cumulative_sizes = list(itertools.accumulate(len(d) for d in self.datasets))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> Any:
        index = int(checked_indices([index], len(self))[0])
        which = bisect.bisect_right(self.cumulative_sizes, index)
        before = self.cumulative_sizes[which - 1] if which else 0
        return self.datasets[which][index - before]


def size_of(data: Any) -> int:
    """The number of samples of a dataset, or of arrays side by side."""
    if isinstance(data, tuple) or type(data) is dict:
        return check_lengths(named(data))
    try:
        return len(data)
    except TypeError:
        raise OptionError(
            explain(
                "samples are chosen by index, which this data does not allow",
                expected="a dataset with len() and [i], or a tuple or dict of arrays",
                given=type(data).__name__,
            )
        ) from None


def row(data: Any, index: int) -> Any:
    """One sample of a dataset, or the rows of arrays side by side."""
    if isinstance(data, dict):
        return {key: row(value, index) for key, value in data.items()}
    if isinstance(data, tuple):
        rows = [row(value, index) for value in data]
        return type(data)(*rows) if hasattr(data, "_fields") else tuple(rows)
    return data[index]


def named(data: Any) -> list[tuple[str, Any]]:
    """The arrays of a tuple or dict, nested or not, with their places in it."""
    if isinstance(data, dict):
        return [(f"[{key!r}]{path}", x) for key, value in data.items() for path, x in named(value)]
    if isinstance(data, tuple):
        return [(f"[{i}]{path}", x) for i, value in enumerate(data) for path, x in named(value)]
    return [("", data)]


def check_lengths(arrays: Sequence[tuple[str, Any]]) -> int:
    """The length that named arrays share.

    Raises:
        ShapeError: They differ, or one has none.
    """
    for name, array in arrays:
        if not len(getattr(array, "shape", ())):
            given = "a number (shape ())" if hasattr(array, "shape") else f"{type(array).__name__} without a shape"
            raise ShapeError(
                explain(
                    "data is given as arrays whose first axis counts the samples",
                    given=f"{given} at {name or 'data'}",
                    do="make an array of it with numpy.asarray; a dataset of samples is a list or has len() and [i]",
                )
            )
    lengths = {array.shape[0] for _, array in arrays}
    if len(lengths) != 1:
        raise ShapeError(
            explain(
                "Size mismatch between tensors",
                expected="arrays with the same number of samples on their first axis",
                given=", ".join(f"{name or 'data'} {tuple(array.shape)}" for name, array in arrays) or "no arrays",
            )
        )
    return lengths.pop()


def checked_indices(indices: Any, size: int) -> np.ndarray:
    """Indices as int64, counted from the front.

    Raises:
        IndexOutOfRangeError: One is not in the data.
        OptionError: One is no integer.
    """
    array = np.asarray(indices if hasattr(indices, "__array__") else list(indices))
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.dtype == bool or not np.issubdtype(array.dtype, np.integer) or array.ndim != 1:
        raise OptionError(
            explain("indices are integers", expected="a flat sequence of ints", given=f"{array.dtype} {array.shape}")
        )
    array = array.astype(np.int64)
    wrong = (array < -size) | (array >= size)
    if wrong.any():
        at = operator.index(wrong.argmax())
        raise IndexOutOfRangeError(
            explain("there is no such sample", expected=f"from {-size} to {size - 1}", given=f"index {array[at]}")
        )
    return np.where(array < 0, array + size, array)
