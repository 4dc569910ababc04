"""Batches of whatever holds data, and a batch as inputs and targets, Tensors or an engine's arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ... import tree
from ...backends.conversion import as_native
from ...backends.registry import get_backend
from ...dtypes import dtype as to_dtype
from ...errors import OptionError, explain
from ...tensor.arrays import wrap
from ...tensor.tensor import Tensor
from .loader import DataLoader
from .sources import Stream, is_array, source_of

#: Keys of dicts, in lower case.
INPUTS = ("inputs", "input", "x")
TARGETS = ("targets", "target", "labels", "label", "y")


def adapt(data: Any, batch_size: int = 32, shuffle: bool = False, *, seed: int = 0) -> DataLoader:
    """A DataLoader over anything that a training loop is given.

    What gives batches is used as it is: a DataLoader of ours is returned itself; PyTorch's, one of Grain, a list of
    batches, any iterable, or a function that makes one is read in its own order. What gives samples is batched: arrays
    side by side in a tuple or dict, a dataset with `len()` and `[i]`, iterable datasets of PyTorch and Hugging Face.

    Args:
        batch_size, shuffle, seed: For samples; what gives batches has its own.

    Raises:
        OptionError: Nothing that can be read.

    Example:
        >>> [x.shape for x, y in adapt((np.zeros((5, 2)), np.zeros(5)), batch_size=4)]
        [(4, 2), (1, 2)]
        >>> list(adapt(["a batch", "another"]))
        ['a batch', 'another']
    """
    if isinstance(data, DataLoader):
        return data
    if isinstance(data, list):
        return DataLoader(data, batch_size=None, prefetch_factor=0)
    if isinstance(source_of(data), Stream):
        if not _gives_samples(data):
            return DataLoader(data, batch_size=None, prefetch_factor=0)
        return DataLoader(data, batch_size)
    return DataLoader(data, batch_size, shuffle, seed=seed)


def batches_of(data: Any, state: Any = None) -> DataLoader:
    """`adapt(data)`, at the position that an earlier one's `state_dict()` told.

    Example:
        >>> batches = batches_of([1, 2, 3])
        >>> next(iter(batches)), list(batches_of([1, 2, 3], batches.state_dict()))
        (1, [2, 3])
    """
    loader = adapt(data)
    if state is not None:
        loader.load_state_dict(state)
    return loader


def _gives_samples(data: Any) -> bool:
    """Whether an iterable is one of PyTorch's or Hugging Face's IterableDataset."""
    names = {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(data).__mro__}
    return bool(names & {("torch", "IterableDataset"), ("datasets", "IterableDataset")})


def unpack(batch: Any) -> tuple[Any, Any]:
    """A batch as (inputs, targets); targets are None where it has none.

    Args:
        batch: A pair; a dict whose targets are called "targets", "target", "labels", "label" or "y", and the rest are the
            inputs (the value itself if there is one key, else the dict of them); an object with `inputs` and `targets`;
            or inputs alone.

    Raises:
        OptionError: A tuple of more than two, a dict with several targets.

    Example:
        >>> unpack((1, 2)), unpack({"x": 1, "y": 2}), unpack({"ids": 1, "mask": 0, "labels": 2})
        ((1, 2), (1, 2), ({'ids': 1, 'mask': 0}, 2))
    """
    if isinstance(batch, Mapping):
        return _unpack_mapping(batch)
    if hasattr(batch, "inputs"):
        return batch.inputs, getattr(batch, "targets", None)
    if isinstance(batch, (tuple, list)):
        if len(batch) == 2:
            return batch[0], batch[1]
        if len(batch) == 1:
            return batch[0], None
        raise OptionError(
            explain(
                f"a batch of {len(batch)} parts: which are inputs and which targets?",
                expected="(inputs, targets), a dict, or an object with inputs and targets",
                given=f"a {type(batch).__name__} of {len(batch)}",
                do='nest it, ((a, b), targets), or give a dict, {"a": ..., "b": ..., "targets": ...}',
            )
        )
    return batch, None


def _unpack_mapping(batch: Mapping) -> tuple[Any, Any]:
    found = [key for key in batch if str(key).lower() in TARGETS]
    if len(found) > 1:
        raise OptionError(
            explain(
                "a batch with several targets",
                expected=f"one of {', '.join(TARGETS)}",
                given=f"keys {', '.join(map(str, batch))}",
                do='put them into one: {"inputs": ..., "targets": {...}}',
            )
        )
    rest = {key: value for key, value in batch.items() if key not in found}
    if not rest:
        raise OptionError(explain("a batch without inputs", given=f"keys {', '.join(map(str, batch))}"))
    targets = batch[found[0]] if found else None
    if len(rest) == 1 and (found or str(next(iter(rest))).lower() in INPUTS):
        return next(iter(rest.values())), targets
    return rest, targets


def to_engine(batch: Any, backend: Any = None, dtype: Any = None) -> Any:
    """A batch with arrays of one engine in place of all its arrays and Tensors; strings, numbers and None stay.

    Memory is shared where DLPack or NumPy can: between NumPy and PyTorch on the CPU always, to JAX and MLX from NumPy never
    (they compute later, and would see what is written to the array until then).

    Args:
        batch: Arrays in tuples, lists and dicts.
        backend: Name or instance. Default: the current one.
        dtype: What floats are cast to; they keep theirs without it.

    Raises:
        DTypeError: A dtype that the engine does not have (float64 on JAX).

    Example:
        >>> import torch
        >>> x = torch.ones(2, dtype=torch.float64)
        >>> to_engine({"x": x, "name": "a"}, "numpy", dtype="float32")
        {'x': array([1., 1.], dtype=float32), 'name': 'a'}
    """
    chosen = get_backend(backend)
    floats = None if dtype is None else to_dtype(dtype)
    return _mapped(lambda x: as_native(x, None, chosen, copy=False, place=True, floats=floats), batch)


def to_tensors(batch: Any, backend: Any = None, dtype: Any = None) -> Any:
    """As `to_engine`, but with Tensors, which lie over that memory.

    Example:
        >>> to_tensors((np.ones(2, np.float32), "a"), "numpy")
        (tensor([1., 1.]), 'a')
    """
    chosen = get_backend(backend)
    floats = None if dtype is None else to_dtype(dtype)
    return _mapped(lambda x: wrap(as_native(x, None, chosen, copy=False, place=True, floats=floats)), batch)


def _mapped(convert: Callable[[Any], Any], batch: Any) -> Any:
    if isinstance(batch, Mapping) and not isinstance(batch, dict):
        batch = dict(batch)

    def leaf(x: Any) -> Any:
        if isinstance(x, (np.ndarray, np.generic)):
            return convert(x) if x.dtype.kind in "biuf" or x.dtype.name == "bfloat16" else x
        return convert(x) if isinstance(x, Tensor) or is_array(x) else x

    return tree.map(leaf, batch)
