"""Splits of datasets: against PyTorch and scikit-learn, and their properties."""

import re
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold, StratifiedKFold

import gradloom as gl
from gradloom.errors import OptionError, ShapeError
from gradloom.training.data import (
    DataLoader,
    Subset,
    k_fold,
    random_split,
    stratified_k_fold,
    stratified_split,
)
from training.data_samples import flat

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(
    "lengths", [[7, 3], [0.7, 0.3], [0.5, 0.3, 0.2], [1 / 3] * 3, [0.1] * 10, [0.26, 0.74], [1.0], [10], [0.0, 1.0]]
)
@pytest.mark.parametrize("n", [10, 11, 97])
def test_sizes_of_parts_are_pytorchs(n, lengths):
    def sizes(split, error):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                return [len(part) for part in split(range(n), lengths)], [str(w.message) for w in caught]
            except error as e:
                return str(e).splitlines()[0], []

    assert sizes(random_split, OptionError) == sizes(torch.utils.data.random_split, ValueError)


def test_random_split_covers_the_data_and_depends_on_the_seed():
    x = np.arange(40).reshape(20, 2)
    parts = random_split((x, x[:, 0]), [0.5, 0.25, 0.25], seed=4)
    assert all(type(part) is Subset for part in parts)
    chosen = [i for part in parts for i in part.indices.tolist()]
    assert sorted(chosen) == list(range(20)) and chosen != sorted(chosen)
    assert flat(parts[1][0]) == [x[chosen[10]].tolist(), x[chosen[10], 0]]
    again = [p.indices.tolist() for p in random_split(range(20), [10, 5, 5], seed=4)]
    assert again == [p.indices.tolist() for p in parts]
    assert again != [p.indices.tolist() for p in random_split(range(20), [10, 5, 5], seed=5)]
    (batch,) = DataLoader(parts[2], batch_size=5)
    np.testing.assert_array_equal(batch[0], x[chosen[15:]])


def test_lengths_that_do_not_fit():
    text = "Sum of input lengths does not equal the length of the input dataset!\n  expected: integers with the sum 10"
    for lengths in ([3, 3], [0.5, 0.2], [12, -2], [3.5, 6.5], []):
        with pytest.raises(OptionError, match=re.escape(text)):
            random_split(range(10), lengths)
    with pytest.raises(OptionError, match="Fraction at index 0 is not between 0 and 1"):
        random_split(range(10), [-0.5, 1.5])


@given(n=st.integers(2, 40), k=st.integers(2, 12), shuffle=st.booleans(), seed=st.integers(0, 3))
def test_folds(n, k, shuffle, seed):
    if k > n:
        with pytest.raises(OptionError, match=rf"no such folds\n.*2 <= k <= {n}, the number of samples\n.*k={k}"):
            k_fold(n, k)
        return
    folds = k_fold(n, k, shuffle=shuffle, seed=seed)
    assert sorted(np.concatenate([v for _, v in folds])) == list(range(n))
    for train, validation in folds:
        assert sorted([*train, *validation]) == list(range(n))
    theirs = [validation for _, validation in KFold(k).split(np.zeros(n))]
    assert [len(v) for _, v in folds] == [len(v) for v in theirs]
    if not shuffle:
        for (_, validation), other in zip(folds, theirs, strict=True):
            np.testing.assert_array_equal(validation, other)


def test_folds_of_data_are_subsets():
    x, y = np.arange(12).reshape(6, 2), np.arange(6)
    (train, validation), _ = k_fold((x, y), 2)
    assert type(train) is Subset and train.indices.tolist() == [3, 4, 5]
    assert [flat(b) for b in DataLoader(validation, 3)] == [[x[:3].tolist(), [0, 1, 2]]]
    shuffled = [k_fold(20, 4, shuffle=True, seed=s)[0][1].tolist() for s in (0, 0, 1)]
    assert shuffled[0] == shuffled[1] != shuffled[2] and shuffled[0] != [0, 1, 2, 3, 4]
    with pytest.raises(OptionError, match="k=1"):
        k_fold(5, 1)


@given(labels=st.lists(st.integers(0, 4), min_size=4, max_size=40), k=st.integers(2, 4), shuffle=st.booleans())
def test_stratified_folds(labels, k, shuffle):
    counts = np.bincount(labels)
    if counts.max() < k:
        with pytest.raises(
            OptionError, match=rf"every class has fewer members than there are folds\n.*k <= {counts.max()}\n.*k={k}"
        ):
            stratified_k_fold(labels, k)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folds = stratified_k_fold(labels, k, shuffle=shuffle)
        theirs = list(StratifiedKFold(k).split(np.zeros(len(labels)), labels))
    assert sorted(np.concatenate([v for _, v in folds])) == list(range(len(labels)))
    table = np.array([np.bincount(np.array(labels)[v], minlength=5) for _, v in folds])
    assert (np.ptp(table, axis=0) <= 1).all() and np.ptp(table.sum(axis=1)) <= 1
    np.testing.assert_array_equal(table, [np.bincount(np.array(labels)[v], minlength=5) for _, v in theirs])
    for (train, validation), other in zip(folds, theirs, strict=True):
        assert sorted([*train, *validation]) == list(range(len(labels)))
        if not shuffle:
            np.testing.assert_array_equal(validation, other[1])


@given(
    labels=st.lists(st.integers(0, 4), min_size=4, max_size=60), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 3)
)
def test_stratified_split(labels, fraction, seed):
    counts = np.bincount(labels)
    n = len(labels)
    lengths = [round(n * fraction), n - round(n * fraction)]
    if 1 in counts:
        with pytest.raises(
            OptionError, match=f"at least 2 members of each class\n.*class {list(counts).index(1)} has 1"
        ):
            stratified_split(np.array(labels)[np.argsort(labels, kind="stable")], lengths)
        return
    parts = stratified_split(labels, lengths, seed=seed)
    assert [len(p) for p in parts] == lengths
    assert sorted(np.concatenate(parts)) == list(range(n))
    for part in parts:
        share = counts * len(part) / n
        assert (np.abs(np.bincount(np.array(labels)[part], minlength=len(counts)) - share) < 1).all()


def test_stratified_parts_of_data():
    labels = np.array(["cat", "dog"] * 10 + ["cat"] * 10)
    data = {"x": np.arange(30), "y": labels}
    train, test, rest = stratified_split(labels, [0.5, 0.3, 0.2], data=data)
    assert [sum(labels[p.indices] == "cat") for p in (train, test, rest)] == [10, 6, 4]
    assert sum(labels[train.indices][:7] == "cat") not in (0, 7)  # not class by class
    assert train.indices.tolist() != stratified_split(labels, [15, 9, 6], seed=1)[0].tolist()
    folds = stratified_k_fold(gl.tensor([0, 0, 1, 1]), 2, data=list("abcd"))
    assert [[*validation] for _, validation in folds] == [["a", "c"], ["b", "d"]]
    shuffled = [stratified_k_fold(labels, 3, shuffle=True, seed=s)[0][1].tolist() for s in (0, 0, 1)]
    assert shuffled[0] == shuffled[1] != shuffled[2]


def test_labels_that_are_none():
    with pytest.raises(OptionError, match=r"labels are the class of each sample\n.*\n.*int64 of shape \(2, 2\)"):
        stratified_k_fold(np.zeros((2, 2), int), 2)
    with pytest.raises(OptionError, match=r"float64 of shape \(2,\)"):
        stratified_split([0.5, 1.0], [0.5, 0.5])
    with pytest.raises(ShapeError, match=r"as many labels as samples are needed\n.*3 labels\n.*2"):
        stratified_split([0, 0], [0.5, 0.5], data=[1, 2, 3])
    with pytest.warns(UserWarning, match="class 'b' has 1 members, fewer than k=2 folds"):
        stratified_k_fold(["a", "a", "b"], 2)
