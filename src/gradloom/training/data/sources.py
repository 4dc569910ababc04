"""Where samples come from: arrays in memory, tables, datasets read sample by sample, and streams, behind one face.

A source with a `size` gives the samples at any indices: `samples(indices)` as a list, and where it is `batched`
`batch(indices)`, which looks at none of them. A `Stream` gives them in its own order.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ... import ops, tree
from ...backends.registry import backend_of, get_backend
from ...errors import DataError, OptionError, ShapeError, explain
from ...ops.op import kind_of
from ...tensor.tensor import Tensor
from .buffers import RowTaker
from .collate import column
from .datasets import Subset, TensorDataset, check_lengths, named


class Arrays:
    """Arrays in memory, side by side in a tuple or dict (nested or not), or one alone."""

    in_memory = batched = True

    def __init__(self, data: Any):
        self.size = check_lengths(named(data))
        leaves, self._structure = tree.flatten(data)
        self._takes = [_taker(leaf) for leaf in leaves]
        self._pair = type(data) is tuple and len(data) == len(leaves)

    def batch(self, indices: np.ndarray) -> Any:
        taken = [take(indices) for take in self._takes]
        return tuple(taken) if self._pair else tree.unflatten(self._structure, taken)

    def samples(self, indices: np.ndarray) -> list[Any]:
        return rows_of(self.batch(indices), len(indices))


class Table:
    """A dataset of Hugging Face: `dataset[list]` gives a dict of columns."""

    in_memory, batched = False, True

    def __init__(self, data: Any):
        # Columns as arrays unless the user has chosen a format; as lists, images would be Python numbers.
        unformatted = (getattr(data, "format", None) or {}).get("type") is None
        self._data = data.with_format("numpy") if unformatted else data
        self.size = len(data)

    def batch(self, indices: np.ndarray) -> dict[str, Any]:
        numbers = indices.tolist()
        try:
            columns = self._data[numbers]
        except Exception as error:
            error.add_note(f"while reading samples {_listed(numbers)} of {type(self._data).__name__}")
            raise
        return {name: column(name, values, numbers) for name, values in columns.items()}

    def samples(self, indices: np.ndarray) -> list[Any]:
        return rows_of(self.batch(indices), len(indices))


class Rows:
    """A dataset with `len()` and `dataset[i]`."""

    in_memory = batched = False

    def __init__(self, data: Any):
        self._data = data
        self.size = len(data)

    def samples(self, indices: np.ndarray) -> list[Any]:
        data, numbers = self._data, indices.tolist()
        several = getattr(data, "__getitems__", None)  # PyTorch's way to read many at once
        if callable(several):
            try:
                return list(several(numbers))
            except Exception as error:
                error.add_note(f"while reading samples {_listed(numbers)} of {type(data).__name__}")
                raise
        samples = []
        for i in numbers:
            try:
                samples.append(data[i])
            except Exception as error:
                error.add_note(f"while reading sample {i} of {type(data).__name__}")
                raise
        return samples


class Part:
    """Some samples of another source."""

    def __init__(self, whole: Any, indices: np.ndarray):
        self._whole, self._indices = whole, indices
        self.size, self.in_memory, self.batched = len(indices), whole.in_memory, whole.batched

    def batch(self, indices: np.ndarray) -> Any:
        return self._whole.batch(self._indices[indices])

    def samples(self, indices: np.ndarray) -> list[Any]:
        return self._whole.samples(self._indices[indices])


class Stream:
    """Samples, or batches, in the order in which an iterable gives them.

    Attributes:
        once: It is an iterator: what it has given is gone.
    """

    size = None
    in_memory = batched = False

    def __init__(self, data: Any, make: Callable[[], Iterable] | None = None):
        self.data, self._make = data, make
        self.once = make is None and hasattr(data, "__next__")
        self._ended = False

    def set_epoch(self, epoch: int) -> None:
        """Tells the data, or its sampler, which epoch comes."""
        batches = getattr(self.data, "batch_sampler", None)
        for part in (self.data, getattr(self.data, "sampler", None), batches, getattr(batches, "sampler", None)):
            tell = getattr(part, "set_epoch", None)
            if callable(tell):
                tell(epoch)
                return

    def check(self) -> None:
        """Raises where there is nothing left to read."""
        if self.once and self._ended:
            raise DataError(
                explain(
                    f"the {type(self.data).__name__} is exhausted: an iterator gives its items once, so it lasts one epoch",
                    do="give a function that makes it anew, DataLoader(make_samples), or a dataset, or a list",
                )
            )

    def start(self, state: Any) -> tuple[Iterator[Any], Callable[[], Any] | None]:
        """An iterator from the state on, and the function that gives the state: None where the data has none to give."""
        data = self.data if self._make is None else self._make()
        stateful = _state_of(data)
        if stateful is not None and state is not None:
            stateful[1](state)
        items = iter(data)
        if stateful is None:
            stateful = _state_of(items)
            if stateful is not None and state is not None:
                stateful[1](state)
        return self._watched(items), None if stateful is None else stateful[0]

    def _watched(self, items: Iterator[Any]) -> Iterator[Any]:
        yield from items
        self._ended = True


def _state_of(x: Any) -> tuple[Callable, Callable] | None:
    """How an object tells and takes its position: as Hugging Face's and torchdata's do, or as Grain's."""
    for get, put in (("state_dict", "load_state_dict"), ("get_state", "set_state")):
        if callable(getattr(x, get, None)) and callable(getattr(x, put, None)):
            return getattr(x, get), getattr(x, put)
    return None


def source_of(data: Any) -> Any:
    """The source for whatever a DataLoader was given.

    Raises:
        OptionError: It is nothing that samples can be read from.
        ShapeError: Arrays of different lengths.
    """
    if isinstance(data, Subset):
        return Part(source_of(data.dataset), data.indices)
    if isinstance(data, TensorDataset) or _is_torch_tensor_dataset(data):
        return Arrays(tuple(data.tensors))
    if isinstance(data, tuple) or type(data) is dict or is_array(data):
        return Arrays(data)
    if isinstance(data, (str, bytes)):
        raise _not_data(data)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        if isinstance(data, dict):
            raise OptionError(
                explain(
                    "this dict is no dataset, but holds several",
                    given=f"{type(data).__name__} with {', '.join(map(repr, data))}",
                    do=f"give one of them: data[{next(iter(data), '...')!r}]",
                )
            )
        return Table(data) if hasattr(data, "with_format") and hasattr(data, "column_names") else Rows(data)
    if hasattr(data, "__iter__"):
        return Stream(data)
    if callable(data) and not inspect.isclass(data):
        return Stream(data, make=data)
    raise _not_data(data)


def _not_data(data: Any) -> OptionError:
    return OptionError(
        explain(
            "a DataLoader cannot read this",
            expected="a tuple or dict of arrays, a dataset with len() and [i], an iterable, or a function that makes one",
            given=f"{type(data).__name__}",
        )
    )


def is_array(x: Any) -> bool:
    """Whether it is an array of NumPy or an engine, or a Tensor."""
    return isinstance(x, (np.ndarray, Tensor)) or kind_of(type(x)) is not None


def _is_torch_tensor_dataset(data: Any) -> bool:
    cls = type(data)  # not a subclass, whose __getitem__ may do more
    return cls.__name__ == "TensorDataset" and cls.__module__ == "torch.utils.data.dataset"


def _taker(array: Any) -> Callable[[np.ndarray], Any]:
    """What takes rows of an array, on its engine."""
    if isinstance(array, np.ndarray):
        return RowTaker(array)
    if not is_array(array):
        raise ShapeError(
            explain(
                "data in a tuple or dict is given as arrays",
                expected="arrays of NumPy or an engine, or Tensors",
                given=type(array).__name__,
                do="make an array of it with numpy.asarray; a dataset of samples is a list or has len() and [i]",
            )
        )

    native = array.native if isinstance(array, Tensor) else array
    backend_of(native).synchronize(native)  # MLX cannot do it in another thread

    def take(indices: np.ndarray) -> Any:
        x = array.detach() if isinstance(array, Tensor) else array
        engine = get_backend(backend_of(x.native if isinstance(x, Tensor) else x).name)
        with engine.context():
            return ops.take(x, engine.from_numpy(indices), axis=0)

    return take


def rows_of(batch: Any, count: int) -> list[Any]:
    """The samples of a batch: its structure with each array's row i, for every i."""
    leaves, structure = tree.flatten(batch, is_leaf=lambda x: isinstance(x, list))
    return [tree.unflatten(structure, [leaf[i] for leaf in leaves]) for i in range(count)]


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
