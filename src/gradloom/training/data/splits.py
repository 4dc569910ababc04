"""Parts of a dataset: at random, in folds, or with the same share of each class."""

from __future__ import annotations

import itertools
import math
import operator
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import OptionError, ShapeError, explain
from ...random import key, permutation
from .datasets import Subset, size_of

Pair = tuple[Any, Any]


def random_split(dataset: Any, lengths: Sequence[int | float], seed: int = 0) -> list[Subset]:
    """Parts of a dataset at random, as `torch.utils.data.random_split` cuts them, from our own random stream.

    Args:
        dataset: A dataset, or a tuple or dict of arrays.
        lengths: Numbers of samples, or fractions with the sum 1: each part gets the fraction rounded down, and what is left
            goes to the parts one by one, from the first.
        seed: Of the order.

    Raises:
        OptionError: The lengths do not sum up.

    Example:
        >>> train, test = random_split(range(10), [0.75, 0.25])
        >>> len(train), len(test), sorted([*train, *test]) == list(range(10))
        (8, 2, True)
    """
    size = size_of(dataset)
    counts = part_sizes(size, lengths)
    order = permutation(key(seed, "random_split"), size)
    return [Subset(dataset, order[end - n : end]) for end, n in zip(itertools.accumulate(counts), counts, strict=True)]


def part_sizes(size: int, lengths: Sequence[int | float]) -> list[int]:
    """Numbers of samples for lengths or fractions, by PyTorch's rule and with its messages."""
    total = math.fsum(lengths)
    if math.isclose(total, 1):
        for i, fraction in enumerate(lengths):
            if not 0 <= fraction <= 1:
                raise OptionError(f"Fraction at index {i} is not between 0 and 1")
        counts = [math.floor(size * fraction) for fraction in lengths]
        for i in range(size - sum(counts)):
            counts[i % len(counts)] += 1
        for i, count in enumerate(counts):
            if count == 0:
                warnings.warn(
                    f"Length of split at index {i} is 0. This might result in an empty dataset.", stacklevel=3
                )
        return counts
    try:
        counts = [operator.index(n) for n in lengths]  # type: ignore[arg-type]
    except TypeError:
        counts = []
    if sum(counts) != size or any(n < 0 for n in counts) or not counts:
        raise OptionError(
            explain(
                "Sum of input lengths does not equal the length of the input dataset!",
                expected=f"integers with the sum {size}, or fractions with the sum 1",
                given=list(lengths),
            )
        )
    return counts


def k_fold(data: Any, k: int = 5, *, shuffle: bool = False, seed: int = 0) -> list[Pair]:
    """(training, validation) for each of k folds; every sample is in one validation part.

    Args:
        data: A dataset, or a tuple or dict of arrays: the parts are Subsets; or the number of samples: they are int64 indices.
        k: Folds; the first n % k have a sample more, as scikit-learn's KFold.
        shuffle: Folds of a random order, not of neighbours.

    Raises:
        OptionError: Fewer than 2 folds, or than samples.

    Example:
        >>> [validation.tolist() for _, validation in k_fold(5, k=2)]
        [[0, 1, 2], [3, 4]]
    """
    size = _size(data)
    _check_folds(k, size)
    order = permutation(key(seed, "k_fold"), size) if shuffle else np.arange(size)
    fold = np.empty(size, np.int64)
    fold[order] = np.repeat(np.arange(k), [size // k + (i < size % k) for i in range(k)])
    return _pairs(data, fold, k)


def stratified_k_fold(labels: Any, k: int = 5, *, data: Any = None, shuffle: bool = False, seed: int = 0) -> list[Pair]:
    """As `k_fold`, but each class is spread over the folds: its numbers differ by at most one, and so do the folds' sizes.

    Without shuffle the folds are those of scikit-learn's StratifiedKFold.

    Args:
        labels: The class of each sample: integers or strings, (n,).
        data: What is divided, with n samples; without it the parts are indices.

    Raises:
        OptionError: Every class has fewer than k members.

    Example:
        >>> [validation.tolist() for _, validation in stratified_k_fold([0, 0, 0, 0, 1, 1], k=2)]
        [[0, 1, 4], [2, 3, 5]]
    """
    classes, names = _classes(labels, data)
    _check_folds(k, len(classes))
    counts = np.bincount(classes)
    if (counts < k).all():
        raise OptionError(
            explain(
                "every class has fewer members than there are folds", expected=f"k <= {counts.max()}", given=f"k={k}"
            )
        )
    if (counts < k).any():
        least = counts.argmin()
        warnings.warn(
            f"class {names[least]!r} has {counts[least]} members, fewer than k={k} folds: some folds have none",
            stacklevel=2,
        )
    fold = np.empty(len(classes), np.int64)
    start = 0  # dealing goes on from class to class, which keeps the folds' sizes equal
    for c, count in enumerate(counts):
        members = np.flatnonzero(classes == c)
        dealt = np.sort((start + np.arange(count)) % k)
        fold[members] = dealt[permutation(key(seed, "stratified_k_fold", c), count)] if shuffle else dealt
        start += count
    return _pairs(labels if data is None else data, fold, k, indices=data is None)


def stratified_split(labels: Any, lengths: Sequence[int | float], *, data: Any = None, seed: int = 0) -> list[Any]:
    """Parts at random in which each class has its share: of two parts, none is off by a whole sample.

    More parts are cut off one after the other, each with the shares of what is left.

    Args:
        labels: The class of each sample: integers or strings, (n,).
        lengths: As for `random_split`.
        data: What is divided, with n samples; without it the parts are int64 indices.

    Raises:
        OptionError: A class with a single member, or lengths that do not sum up.

    Example:
        >>> parts = stratified_split([0] * 8 + [1] * 4, [0.75, 0.25])
        >>> [sorted(part.tolist()) for part in parts]
        [[0, 1, 3, 4, 6, 7, 8, 9, 10], [2, 5, 11]]
    """
    classes, names = _classes(labels, data)
    sizes = part_sizes(len(classes), lengths)
    counts = np.bincount(classes)
    if (counts < 2).any():
        raise OptionError(
            explain(
                "a class with one member cannot be in several parts",
                expected="at least 2 members of each class",
                given=f"class {names[counts.argmin()]!r} has {counts.min()}",
                do="leave it out, join it to another, or use random_split",
            )
        )
    members = [
        np.flatnonzero(classes == c)[permutation(key(seed, "stratified_split", c), n)] for c, n in enumerate(counts)
    ]
    parts = []
    for i, size in enumerate(sizes):
        shares = _shares(np.array([len(m) for m in members]), size, key(seed, "stratified_split", "ties", i))
        chosen = np.concatenate([m[:n] for m, n in zip(members, shares, strict=True)])
        members = [m[n:] for m, n in zip(members, shares, strict=True)]
        parts.append(chosen[permutation(key(seed, "stratified_split", "order", i), size)])  # not class by class
    return parts if data is None else [Subset(data, part) for part in parts]


def _shares(counts: np.ndarray, size: int, stream: int) -> np.ndarray:
    """`size` divided among classes by their counts: rounded down, the rest by largest remainder, ties at random."""
    total = max(1, int(counts.sum()))
    shares, remainders = np.divmod(counts * size, total)
    order = permutation(stream, len(counts))
    order = order[np.argsort(-remainders[order], kind="stable")]
    shares[order[: size - shares.sum()]] += 1
    return shares


def _classes(labels: Any, data: Any) -> tuple[np.ndarray, list]:
    """Each sample's class as a number, in the order in which classes first appear; and their names."""
    array = np.asarray(labels)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind == "f":
        raise OptionError(
            explain(
                "labels are the class of each sample",
                expected="integers or strings of shape (n,)",
                given=f"{array.dtype} of shape {array.shape}",
            )
        )
    if data is not None and size_of(data) != len(array):
        raise ShapeError(
            explain("as many labels as samples are needed", expected=f"{size_of(data)} labels", given=len(array))
        )
    names, first, inverse = np.unique(array, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[inverse], names[order].tolist()


def _size(data: Any) -> int:
    return operator.index(data) if isinstance(data, (int, np.integer)) else size_of(data)


def _check_folds(k: int, size: int) -> None:
    if isinstance(k, bool) or operator.index(k) < 2 or k > size:
        raise OptionError(explain("no such folds", expected=f"2 <= k <= {size}, the number of samples", given=f"k={k}"))


def _pairs(data: Any, fold: np.ndarray, k: int, indices: bool = False) -> list[Pair]:
    pairs = [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k)]
    if indices or isinstance(data, (int, np.integer)):
        return pairs
    return [(Subset(data, train), Subset(data, validation)) for train, validation in pairs]
