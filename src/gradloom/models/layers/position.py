"""Encodings of positions. Sequences are (L, N, E), with `batch_first` (N, L, E); N may be missing."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import nn
from ...backends.registry import default_backend
from ...errors import ShapeError, explain
from ...tensor.creation import tensor
from ..part import Layer, Shapes, size
from ..shapes import merged
from .base import at, at_least, first, one_shape


def _along_sequence(table: Any, input: Any, batch_first: bool) -> Any:
    """The first rows of a table (number, E), so that they broadcast to the input."""
    unbatched = input.ndim == 2
    n = input.shape[0 if unbatched or not batch_first else 1]
    if n > table.shape[0]:
        raise ShapeError(
            explain("a sequence is longer than the table of positions", expected=f"{table.shape[0]} or less", given=n)
        )
    rows = table[:n]
    return rows if unbatched or batch_first else rows.unsqueeze(1)


class _Sinusoids(nn.Module):
    def __init__(self, number: int, width: int, batch_first: bool):
        super().__init__()
        self.batch_first = batch_first
        angles = np.arange(number)[:, None] / 10000.0 ** (np.arange(0, width, 2) / width)
        table = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(number, -1)[:, :width]
        self.register_buffer("table", tensor(table, dtype=default_backend().dtype), persistent=False)

    def forward(self, input: Any) -> Any:
        return input + _along_sequence(self.table, input, self.batch_first)


class _Positions(nn.Embedding):
    batch_first = False

    def forward(self, input: Any) -> Any:
        return input + _along_sequence(self.weight, input, self.batch_first)


class PositionalEncoding(Layer):
    """input + sines and cosines of the positions; Vaswani et al. 2017.

    Column 2 i of position p is sin(p / 10000**(2 i / E)), column 2 i + 1 its cosine.

    Args:
        number: The longest sequence.
        batch_first: Sequences are (N, L, E).
        name: Its name in models.
    """

    relate = one_shape

    def __init__(self, number: int, batch_first: bool = False, name: str | None = None):
        at_least(self, 1, number=number)
        self.number, self.batch_first, self.name = number, batch_first, name

    def make(self, input: Any = None, **_: Any) -> nn.Module:
        return _Sinusoids(self.number, size(input, -1), self.batch_first)


class PositionEmbedding(Layer):
    """input + weight[:L]: a learned vector for each position.

    Args:
        number: The longest sequence, and rows of weight (number, E).
        batch_first: Sequences are (N, L, E).
        name: Its name in models.
    """

    parameters = ("weight",)

    def __init__(self, number: int, batch_first: bool = False, name: str | None = None):
        at_least(self, 1, number=number)
        self.number, self.batch_first, self.name = number, batch_first, name

    def make(self, input: Any = None, weight: Any = None, **_: Any) -> nn.Module:
        made = _Positions(self.number, size(weight, 1, "weight") if weight else size(input, -1))
        made.batch_first = self.batch_first
        return made

    def relate(self, shapes: Shapes) -> Shapes:
        x = merged(shapes.get("input"), shapes.get("output"))
        width = first(at(shapes.get("weight"), 1), at(x, -1))
        x = None if not x else (*x[:-1], width)
        return {"input": x, "output": x, "weight": (self.number, width)}
