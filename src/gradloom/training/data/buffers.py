"""Rows of an array, taken into memory that is used again once nobody looks at it."""

from __future__ import annotations

import collections
import weakref

import numpy as np

# Below this the C library's own free lists give memory back that is warm; above it each batch would be fresh pages of
# the system, and filling those takes up to three times as long as the copy (benchmarks/loader.py).
_LARGE = 1 << 19
_KEPT = 4  # buffers that wait for use
_PAGE = 4096


class RowTaker:
    """Takes rows of one NumPy array; each result has memory of its own for as long as anything refers to it.

    Args:
        array: (n, ...). Read at each call, so that later changes are seen.

    Example:
        >>> RowTaker(np.array([[1, 2], [3, 4], [5, 6]]))(np.array([2, 0]))
        array([[5, 6],
               [1, 2]])
    """

    def __init__(self, array: np.ndarray):
        if isinstance(array, np.memmap):  # results are to be plain arrays
            array = array.view(np.ndarray)
        self.array = array
        # NumPy's take would first copy the whole of an array that is not laid out like this.
        flags = array.flags
        self._plain = type(array) is np.ndarray and flags.c_contiguous and flags.aligned and array.dtype.isnative
        self._row_bytes = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
        self._pooled = self._plain and not array.dtype.hasobject
        self._free: collections.deque[np.ndarray] = collections.deque(maxlen=_KEPT)

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        """The rows at int64 indices (k,), which the caller has checked: (k, ...)."""
        array = self.array
        if not self._plain:
            return array[indices]
        shape = (len(indices), *array.shape[1:])
        size = shape[0] * self._row_bytes
        out = self._borrow(size).view(array.dtype).reshape(shape) if self._pooled and size >= _LARGE else None
        if out is None:
            out = np.empty(shape, array.dtype)
        # With mode="raise" NumPy fills a copy of `out` first.
        return array.take(indices, 0, out, "clip")

    def _borrow(self, size: int) -> np.ndarray:
        """Bytes that come back when the array over them, and all its views and those in other engines, are gone."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = None
        if memory is None or memory.size < size + _PAGE:
            memory = np.empty(size + _PAGE, np.uint8)
        # At the same place in a page as what is copied: else a processor may take its reads for reads of what it has just
        # written, which costs a quarter of the bandwidth.
        start = (self.array.ctypes.data - memory.ctypes.data) % _PAGE
        # A view of an array refers to the array's owner, but no further than to the first that is no array: so every
        # view of `lent` keeps `lent` alive, because a memoryview stands between it and the memory.
        lent = np.frombuffer(memory.data, np.uint8, size, start)
        weakref.finalize(lent, self._free.append, memory).atexit = False
        return lent
