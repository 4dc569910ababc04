"""Samples put together into a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ... import ops
from ...errors import DTypeError, ShapeError, explain
from ...ops.op import kind_of

_PAD = "pad the samples to one shape in transform= or collate_fn=, or use batch_size=1"


def default_collate(batch: Sequence[Any], *, indices: Sequence[int] | None = None) -> Any:
    """A batch of samples, by PyTorch's rules, but with NumPy arrays for what has no engine, and tuples for tuples.

    Arrays and Tensors are stacked on their own engine along a new first axis; numbers become an array (ints int64, floats
    float64); tuples, lists and dicts are taken apart; strings stay in a list.

    Args:
        batch: Samples of one structure.
        indices: Their numbers in the data, for messages.

    Raises:
        ShapeError: Samples of different shapes, lengths or keys; says which.
        DTypeError: Something else than these.

    Example:
        >>> default_collate([(np.zeros(2), 1, "a"), (np.ones(2), 0, "b")])
        (array([[0., 0.],
               [1., 1.]]), array([1, 0]), ['a', 'b'])
    """
    return _collate(list(batch), "", indices)


def _collate(items: list[Any], path: str, indices: Sequence[int] | None) -> Any:
    first = items[0]
    if isinstance(first, (bool, int, float, complex, np.generic)):
        return _numbers(items, path, indices)
    if isinstance(first, np.ndarray) or kind_of(type(first)) is not None:
        _check_equal([tuple(np.shape(x)) for x in items], "shapes", path, indices)
        if all(isinstance(x, np.ndarray) for x in items):
            return np.stack(items)
        return ops.stack(*items, axis=0)
    if isinstance(first, (str, bytes)):
        return items
    if isinstance(first, Mapping):
        _check_equal([_keys(x) for x in items], "keys", path, indices)
        return {key: _collate([x[key] for x in items], f"{path}[{key!r}]", indices) for key in first}
    if isinstance(first, (tuple, list)):
        _check_equal([len(x) if isinstance(x, (tuple, list)) else -1 for x in items], "lengths", path, indices)
        parts = [_collate(list(x), f"{path}[{i}]", indices) for i, x in enumerate(zip(*items, strict=True))]
        if hasattr(first, "_fields"):
            return type(first)(*parts)
        return tuple(parts) if isinstance(first, tuple) else parts
    raise DTypeError(
        explain(
            "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; "
            f"found {type(first).__name__}",
            where=f"sample{path}" if path else None,
            do="convert it in transform=, or give a collate_fn",
        )
    )


def _numbers(items: list[Any], path: str, indices: Sequence[int] | None) -> np.ndarray:
    _check_equal([tuple(np.shape(x)) for x in items], "shapes", path, indices)
    return np.asarray(items)


def _keys(x: Any) -> Any:
    return sorted(x, key=str) if isinstance(x, Mapping) else type(x).__name__


def _check_equal(found: list[Any], what: str, path: str, indices: Sequence[int] | None) -> None:
    """Raises ShapeError where a sample differs from the first."""
    other = next((i for i, x in enumerate(found) if x != found[0]), None)
    if other is None:
        return
    numbers = range(len(found)) if indices is None else indices
    raise ShapeError(
        explain(
            f"the samples of a batch have different {what}",
            expected=f"{found[0]}, as sample {numbers[0]}" + (f" at sample{path}" if path else ""),
            given=f"{found[other]} in sample {numbers[other]}",
            do=_PAD if what != "keys" else "give every sample the same keys, or give a collate_fn",
        )
    )


def column(name: str, values: Any, indices: Sequence[int]) -> Any:
    """A column of a table as it came with a list of indices, as an array (strings and the like stay in a list)."""
    if isinstance(values, np.ndarray) and values.dtype == object:
        values = list(values)
    if not isinstance(values, list):
        return values
    if isinstance(values[0], list):  # rows of numbers, or of rows
        values = [_row(value) for value in values]
    return _collate(values, f"[{name!r}]", indices)


def _row(value: Any) -> Any:
    try:
        return np.asarray(value)
    except ValueError:  # ragged in itself
        return value
