"""Scores in their order: exact counts of positives and negatives above each score, by sorting integers.

A score and its label are packed into one 64-bit integer whose order is that of the scores, and those are sorted as they
are: NumPy sorts plain integers several times faster than it finds the order of floats (`argsort`), and there is
nothing to gather afterwards.
"""

from __future__ import annotations

import numpy as np

_ONE = np.uint64(1)


def packed(scores: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Sorted keys, ascending, in one or two parts: the order of a score in the upper 63 bits, its label in the lowest.

    A float's bits, read as an integer, are in the order of the numbers, if it is not negative; of negative ones, inverted.
    63 bits hold all of a float32, and all but the sign of a float64, whose negatives make a part of their own.

    Args:
        scores: (N,), float32 or float64, without NaN.
        labels: (N,), bool.
    """
    scores = scores + scores.dtype.type(0)  # -0.0 becomes 0.0, as both are the same score
    if scores.dtype == np.float32:
        bits = scores.view(np.uint32)
        # All bits are inverted where the sign bit is set, which the shift spreads; the sign bit always.
        keys = bits ^ ((scores.view(np.int32) >> 31).view(np.uint32) | np.uint32(0x80000000))
        return [_sorted(keys.astype(np.uint64), labels)]
    bits = scores.view(np.uint64)
    negative = np.signbit(scores)
    if not negative.any():
        return [_sorted(bits, labels)]
    return [_sorted(~bits[negative], labels[negative]), _sorted(bits[~negative], labels[~negative])]


def _sorted(keys: np.ndarray, labels: np.ndarray) -> np.ndarray:
    keys = keys << _ONE
    keys |= labels
    keys.sort()
    return keys


def floats(keys: np.ndarray, dtype: np.dtype, negative: bool) -> np.ndarray:
    """The scores of packed keys; `negative`: they are of the part of negative float64."""
    keys = keys >> _ONE
    if dtype == np.float32:
        bits = keys.astype(np.uint32)
        return (bits ^ np.where(bits >> np.uint32(31), np.uint32(0x80000000), np.uint32(0xFFFFFFFF))).view(np.float32)
    return (~keys if negative else keys).view(np.float64)


def _ends(keys: np.ndarray) -> np.ndarray:
    """Indices of the last of each run of equal scores."""
    upper = keys >> _ONE
    return np.append(np.flatnonzero(upper[1:] != upper[:-1]), len(keys) - 1)


def curve(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False and true positives at each distinct score as the threshold (>=), and these scores, descending."""
    parts = packed(as_floats(scores), labels)
    dtype = as_floats(scores[:0]).dtype
    found = [(keys, len(parts) == 2 and i == 0) for i, keys in enumerate(parts) if len(keys)]
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, dtype)
    below_of: list[tuple[np.ndarray, np.ndarray]] = []
    values, positives, count = [], 0, 0
    for keys, negative in found:
        ends = _ends(keys)
        upto = np.cumsum(keys & _ONE, dtype=np.int64)
        below_of.append((upto[ends] + positives, ends + (1 + count)))
        values.append(floats(keys[ends], dtype, negative))
        positives, count = positives + int(upto[-1]), count + len(keys)
    # Counts of those up to each score, ascending; from above they are what is left.
    tps = positives - np.concatenate([[0], *[p for p, _ in below_of]])[:-1]
    total = count - np.concatenate([[0], *[n for _, n in below_of]])[:-1]
    return (total - tps)[::-1], tps[::-1], np.concatenate(values)[::-1]


def area(scores: np.ndarray, labels: np.ndarray) -> float:
    """The probability that a positive scores above a negative, equal scores counting half; NaN without one of them.

    All in integers until the last division: the result does not depend on the order of the data.
    """
    twice, positives, negatives = 0, 0, 0
    for keys in packed(as_floats(scores), labels):
        if not len(keys):
            continue
        own = keys & _ONE
        n, p = len(keys), int(own.sum())
        # Of each positive: the negatives before it, plus those up to the end of its run. Both are halves of its part.
        upper = keys >> _ONE
        same = upper[1:] == upper[:-1]
        if same.any():
            ends = np.append(np.flatnonzero(~same), n - 1)
            upto = np.cumsum(own, dtype=np.int64)[ends]
            below = ends + 1 - upto  # negatives up to the end of each run
            of_run, start = np.diff(upto, prepend=0), np.concatenate([[0], below[:-1]])
            twice += int((of_run * (start + below)).sum())
        else:
            # The i-th positive (from 0) at place q has q - i negatives before it.
            places = np.flatnonzero(own)
            twice += 2 * (int(places.sum()) - p * (p - 1) // 2)
        twice += 2 * p * negatives
        positives, negatives = positives + p, negatives + n - p
    whole = 2 * positives * negatives
    return twice / whole if whole else float("nan")


def as_floats(x: np.ndarray) -> np.ndarray:
    """Integers as float64."""
    return x if x.dtype.kind == "f" else x.astype(np.float64)
