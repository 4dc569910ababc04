"""What metrics remember: sums, moments, stored rows. All can be cleared, joined, and saved as plain arrays.

Counts are integers, and sums of floats are compensated, so that the order and the split of the data do not show.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from ...errors import FileFormatError, explain

Arrays = dict[str, np.ndarray]


class State(Protocol):
    """A part of what a metric remembers."""

    def clear(self) -> None:
        """Forgets everything."""

    def join(self, other: Any) -> None:
        """Adds what another state of this kind remembers; the other is not changed."""

    def save(self) -> Arrays:
        """Copies of the values as plain arrays."""

    def load(self, arrays: Arrays) -> None:
        """Takes what `save` gave."""


class Count:
    """An integer, or an array of integers, that grows by adding."""

    def __init__(self, shape: tuple[int, ...] = ()):
        self.shape = shape
        self.clear()

    def clear(self) -> None:
        self.value: Any = np.zeros(self.shape, np.int64) if self.shape else 0

    def add(self, x: Any) -> None:
        self.value += x

    def join(self, other: Count) -> None:
        self.value = self.value + other.value

    def save(self) -> Arrays:
        return {"": np.array(self.value, np.int64)}

    def load(self, arrays: Arrays) -> None:
        value = loaded(arrays, "", self.shape)
        self.value = value.astype(np.int64) if self.shape else int(value)


class Total:
    """A sum of floats with its rounding error (Neumaier 1974): one number, or an array of them.

    Example:
        >>> total = Total()
        >>> for x in (1e16, 1.0, -1e16):
        ...     total.add(x)
        >>> total.value
        1.0
    """

    def __init__(self, shape: tuple[int, ...] = ()):
        self.shape = shape
        self.clear()

    def clear(self) -> None:
        self.high: Any = np.zeros(self.shape) if self.shape else 0.0
        self.low: Any = np.zeros(self.shape) if self.shape else 0.0

    def add(self, x: Any) -> None:
        high = self.high
        if self.shape:
            with np.errstate(invalid="ignore"):  # inf - inf; `value` leaves the rest out then
                total = high + x
                self.low = self.low + np.where(abs(high) >= abs(x), (high - total) + x, (x - total) + high)
        else:
            x = float(x)
            total = high + x
            self.low += (high - total) + x if abs(high) >= abs(x) else (x - total) + high
        self.high = total

    @property
    def value(self) -> Any:
        """The sum."""
        if self.shape:
            return np.where(np.isfinite(self.high), self.high + self.low, self.high)
        return self.high + self.low if math.isfinite(self.high) else self.high

    def join(self, other: Total) -> None:
        self.add(other.high)
        self.low = self.low + other.low

    def save(self) -> Arrays:
        return {"high": np.array(self.high), "low": np.array(self.low)}

    def load(self, arrays: Arrays) -> None:
        high, low = (loaded(arrays, name, self.shape) for name in ("high", "low"))
        self.high, self.low = (high, low) if self.shape else (float(high), float(low))


class Extreme:
    """The largest (or smallest) number so far; NaN once there was one."""

    def __init__(self, largest: bool):
        self.largest = largest
        self.clear()

    def clear(self) -> None:
        self.value = -math.inf if self.largest else math.inf

    def add(self, x: float) -> None:
        if x != x or (x > self.value if self.largest else x < self.value):
            self.value = x

    def join(self, other: Extreme) -> None:
        self.add(other.value)

    def save(self) -> Arrays:
        return {"": np.array(self.value)}

    def load(self, arrays: Arrays) -> None:
        self.value = float(loaded(arrays, "", ()))


class Moments:
    """Number, means and centred second moments of pairs (x, y), joined without cancellation.

    Means are kept as differences from the first row, so that a large common part of the data costs no digits.
    Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).

    Attributes:
        count: Number of pairs.
        second: (3, outputs): the sums of dx*dx, dy*dy and dx*dy, with dx and dy the differences from the means.
    """

    def __init__(self, outputs: int = 1):
        self.outputs = outputs
        self.clear()

    def clear(self) -> None:
        self.count = 0
        self._origin, self._offset = np.zeros((2, self.outputs)), np.zeros((2, self.outputs))
        self.second = np.zeros((3, self.outputs))

    @property
    def mean(self) -> np.ndarray:
        """(2, outputs)."""
        return self._origin + self._offset

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Adds rows (n, outputs) of float64."""
        if not self.count:
            self._origin = np.array([x[0], y[0]])
        x, y = x - self._origin[0], y - self._origin[1]
        offset = np.array([sums(x), sums(y)]) / len(x)
        x, y = x - offset[0], y - offset[1]
        self._join(len(x), offset, np.array([products(x, x), products(y, y), products(x, y)]))

    def join(self, other: Moments) -> None:
        if other.count:
            if not self.count:
                self._origin = other._origin
            self._join(other.count, other._offset + (other._origin - self._origin), other.second)

    def _join(self, count: int, offset: np.ndarray, second: np.ndarray) -> None:
        both = self.count + count
        d = offset - self._offset
        spread = np.array([d[0] * d[0], d[1] * d[1], d[0] * d[1]])
        self.second = self.second + second + spread * (self.count / both * count)
        self._offset = self._offset + d * (count / both)
        self.count = both

    def save(self) -> Arrays:
        arrays = {"origin": self._origin, "offset": self._offset, "second": self.second}
        return {"count": np.array(self.count), **{name: a.copy() for name, a in arrays.items()}}

    def load(self, arrays: Arrays) -> None:
        self.count = int(loaded(arrays, "count", ()))
        self._origin, self._offset = (loaded(arrays, name, (2, self.outputs)) for name in ("origin", "offset"))
        self.second = loaded(arrays, "second", (3, self.outputs))


class Store:
    """Rows that are kept, in columns of NumPy arrays that grow in place."""

    def __init__(self, columns: int):
        self.number = columns
        self.clear()

    def clear(self) -> None:
        self.length = 0
        self._columns: list[np.ndarray] | None = None

    def add(self, *columns: np.ndarray) -> None:
        """Copies rows to the end; a column is as wide and as exact as the widest and most exact rows given."""
        n = self.length + len(columns[0])
        own = self._columns
        if own is None:
            self._columns = [np.array(c) for c in columns]
        else:
            for i, c in enumerate(columns):
                dtype = own[i].dtype if own[i].dtype == c.dtype else np.result_type(own[i].dtype, c.dtype)
                if len(own[i]) < n or dtype != own[i].dtype:
                    room = np.empty((max(n, 2 * len(own[i])), *c.shape[1:]), dtype)
                    room[: self.length] = own[i][: self.length]
                    own[i] = room
                own[i][self.length : n] = c
        self.length = n

    @property
    def columns(self) -> list[np.ndarray]:
        """Views of the rows so far. Empty float64 columns where there are none."""
        if self._columns is None:
            return [np.zeros(0) for _ in range(self.number)]
        return [c[: self.length] for c in self._columns]

    def join(self, other: Store) -> None:
        if other.length:
            self.add(*other.columns)

    def save(self) -> Arrays:
        return {str(i): c.copy() for i, c in enumerate(self.columns)} if self.length else {}

    def load(self, arrays: Arrays) -> None:
        self.clear()
        if arrays:
            self.add(*[loaded(arrays, str(i), None) for i in range(self.number)])


def sums(x: np.ndarray) -> np.ndarray:
    """The sums of columns (n, k); of a single one pairwise, as NumPy sums along contiguous memory."""
    return x.sum(0) if x.shape[1] > 1 else x[:, 0].sum(keepdims=True)


def products(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sums of x * y of columns (n, k). Not by BLAS, whose threads cost more than the sums of a block."""
    return np.einsum("ij,ij->j", x, y) if x.shape[1] > 1 else sums(x * y)


def loaded(arrays: Arrays, name: str, shape: tuple[int, ...] | None) -> np.ndarray:
    """A copy of a saved array.

    Raises:
        FileFormatError: It is missing or of another shape.
    """
    if name not in arrays:
        raise FileFormatError(
            explain("the state of a metric lacks an array", expected=repr(name), given=", ".join(map(repr, arrays)))
        )
    found = np.array(arrays[name])
    if shape is not None and found.shape != shape:
        raise FileFormatError(
            explain(
                "the state of a metric does not fit",
                expected=f"{name!r} of shape {shape}",
                given=f"shape {found.shape}",
                do="make the metric with the options that it was saved with",
            )
        )
    return found
