"""The DataLoader: batches, order, epochs, positions, threads, iterables, errors."""

import gc
import itertools
import re
import threading
import time
import weakref

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradloom as gl
from gradloom.errors import DataError, DTypeError, IndexOutOfRangeError, OptionError, ShapeError
from gradloom.random import key, permutation
from gradloom.training.data import ConcatDataset, DataLoader, Subset, TensorDataset, default_collate
from gradloom.training.data.buffers import RowTaker
from training.data_samples import Columns, Grain, Squares, flat, noisy, noisy_batch

torch = pytest.importorskip("torch")


def threads(seconds=5):
    """Threads of loaders; waits for those that are about to end."""
    end = time.monotonic() + seconds
    while True:
        found = [t for t in threading.enumerate() if t.name.startswith("gradloom")]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.01)


def labels(loader):
    return [np.asarray(batch[1]).tolist() for batch in loader]


# --- batches ---


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_of_arrays_are_rows_in_order(shuffle, drop_last):
    x, y = np.random.rand(11, 3, 2), np.arange(11)
    loader = DataLoader((x, y), batch_size=4, shuffle=shuffle, drop_last=drop_last, seed=5)
    for epoch in range(3):
        order = permutation(key(5, "shuffle", epoch), 11) if shuffle else np.arange(11)
        chosen = [order[:4], order[4:8]] + ([] if drop_last else [order[8:]])
        batches = list(loader)
        assert len(batches) == len(loader) == len(chosen)
        for (a, b), indices in zip(batches, chosen, strict=True):
            np.testing.assert_array_equal(a, x[indices])
            np.testing.assert_array_equal(b, y[indices])


def test_structure_of_arrays_is_kept():
    x = np.arange(12).reshape(6, 2)
    (batch,) = DataLoader({"a": x, "b": (x[:, 0], {"c": x})}, batch_size=6)
    assert list(batch) == ["a", "b"] and type(batch["b"]) is tuple
    np.testing.assert_array_equal(batch["b"][1]["c"], x)
    (batch,) = DataLoader(x, batch_size=6)
    np.testing.assert_array_equal(batch, x)
    (batch,) = DataLoader(TensorDataset(x, x[:, 1]), batch_size=6)
    assert type(batch) is tuple and batch[1].tolist() == [1, 3, 5, 7, 9, 11]


def test_every_engine_has_the_same_order_and_keeps_its_arrays(backend):
    engine = gl.get_backend(backend)
    x, y = np.arange(40, dtype=np.float32).reshape(20, 2), np.arange(20)
    options = {"batch_size": 6, "shuffle": True, "seed": 1}
    expected = [flat(b) for b in DataLoader((x, y), **options)]
    native = (engine.array(x), engine.array(y))
    batches = list(DataLoader(native, **options))
    assert [flat(b) for b in batches] == expected
    assert type(batches[0][0]) is type(native[0])
    tensors = list(DataLoader((gl.tensor(x), gl.tensor(y)), **options))
    assert [flat(b) for b in tensors] == expected
    assert type(tensors[0][0]) is gl.Tensor and tensors[0][0].backend == backend
    rows = list(DataLoader([(gl.tensor(a), int(b)) for a, b in zip(x, y, strict=True)], **options))
    assert [flat(b) for b in rows] == expected
    assert type(rows[0][0]) is gl.Tensor and rows[0][0].backend == backend


def test_tensors_that_require_gradients_give_batches_without_history():
    w = gl.ones(4, 2, requires_grad=True)
    (batch,) = DataLoader(w * 2, batch_size=4)
    assert not batch.requires_grad


def test_datasets_and_lists_are_read_by_index():
    data = Squares(5)
    batches = list(DataLoader(data, batch_size=2))
    assert labels(batches) == [[0, 1], [4, 9], [16]]
    assert batches[0][0].dtype == np.float32 and batches[0][0].shape == (2, 3)
    assert data.read == [0, 1, 2, 3, 4]
    assert list(DataLoader(["a", "b", "c"], batch_size=2)) == [["a", "b"], ["c"]]
    assert [b.tolist() for b in DataLoader(range(3))] == [[0], [1], [2]]  # PyTorch's batch_size is 1 too


def test_batch_size_none_gives_samples_as_they_are():
    assert list(DataLoader(["a", "b"], batch_size=None)) == ["a", "b"]
    assert list(DataLoader(iter(["a", "b"]), batch_size=None)) == ["a", "b"]
    assert list(DataLoader([1, 2], None, transform=lambda s: s + 1, collate_fn=lambda s: -s)) == [-2, -3]
    loader = DataLoader((np.arange(6).reshape(3, 2), np.arange(3)), batch_size=None)
    assert [flat(s) for s in loader] == [[[0, 1], 0], [[2, 3], 1], [[4, 5], 2]]
    assert len(loader) == 3


def test_collate_fn_gets_the_samples():
    got = list(DataLoader((np.arange(3), np.arange(3) * 2), batch_size=2, collate_fn=lambda s: [tuple(p) for p in s]))
    assert got == [[(0, 0), (1, 2)], [(2, 4)]]


def test_samplers():
    data = np.arange(10)
    assert [b.tolist() for b in DataLoader(data, 2, sampler=[3, -1, 0])] == [[3, 9], [0]]
    assert [b.tolist() for b in DataLoader(data, 2, sampler=[3, 9, 0], drop_last=True)] == [[3, 9]]
    assert len(DataLoader(data, 2, sampler=[3, 9, 0])) == 2
    loader = DataLoader(data, batch_sampler=[[1], [2, 3, 4]])
    assert [b.tolist() for b in loader] == [[1], [2, 3, 4]] and len(loader) == 2
    batches = iter(loader)
    next(batches)
    again = DataLoader(data, batch_sampler=[[1], [2, 3, 4]])
    again.load_state_dict(loader.state_dict())
    assert [b.tolist() for b in again] == [[2, 3, 4]]
    with pytest.raises(IndexOutOfRangeError, match=r"there is no such sample\n.*from -10 to 9\n.*index 12"):
        list(DataLoader(data, 2, sampler=[3, 12]))


def test_pytorchs_samplers_are_told_the_epoch():
    sampler = torch.utils.data.DistributedSampler(range(10), num_replicas=2, rank=1, shuffle=True)
    loader = DataLoader(np.arange(10), 5, sampler=sampler)
    first, second = next(iter(loader)).tolist(), next(iter(loader)).tolist()
    assert first != second
    for epoch, expected in enumerate([first, second]):
        sampler.set_epoch(epoch)
        assert list(sampler) == expected


def test_default_collate_against_pytorch():
    samples = [
        {"a": np.arange(3) + i, "b": (i, float(i), bool(i % 2)), "c": [np.float32(i), "s"], "t": torch.ones(2) * i}
        for i in range(4)
    ]
    ours, theirs = default_collate(samples), torch.utils.data.default_collate(samples)
    np.testing.assert_array_equal(ours["a"], theirs["a"].numpy())
    for mine, other in zip(ours["b"], theirs["b"], strict=True):
        np.testing.assert_array_equal(mine, other.numpy())
        assert mine.dtype == other.numpy().dtype
    assert ours["c"][0].dtype == np.float32 and list(ours["c"][1]) == list(theirs["c"][1])
    assert type(ours["t"]) is torch.Tensor and torch.equal(ours["t"], theirs["t"])
    assert type(ours["b"]) is tuple


def test_arrays_of_every_layout(tmp_path):
    base = np.random.rand(8, 4)
    np.save(tmp_path / "x.npy", base)
    order = permutation(key(0, "shuffle", 0), 8)
    objects = np.array([{"a": 1}, None, "x", (1, 2), 3, 4, 5, 6], dtype=object)
    for array in (
        base.T.copy().T, base[:, ::2], base[::-1], base.astype(">f4"), np.load(tmp_path / "x.npy", mmap_mode="r"),
        base.astype(ml_dtypes.bfloat16), np.asfortranarray(base), objects, base.astype("U5"), np.zeros((8, 0)),
        np.ma.masked_less(base, 0.5), base.view([("a", "f8"), ("b", "f8")]),
    ):  # fmt: skip
        got = list(DataLoader(array, batch_size=3, shuffle=True))
        assert all(batch.dtype == array.dtype and not isinstance(batch, np.memmap) for batch in got)
        assert [row for batch in got for row in batch.tolist()] == array[order].tolist()


# --- memory ---

LARGE = np.arange(64 * 10_000, dtype=np.float64).reshape(64, 10_000)  # 8 rows are 640 kB


def test_memory_is_used_again_when_a_batch_is_dropped():
    places = {batch.ctypes.data for batch in DataLoader(LARGE, batch_size=8)}
    assert len(places) <= 2
    held = list(DataLoader(LARGE, batch_size=8))
    assert len({batch.ctypes.data for batch in held}) == 8


@pytest.mark.parametrize(
    "keep",
    [
        lambda b: b,
        lambda b: b[1:][:, 5:],
        lambda b: b.T.reshape(100, -1, order="F")[:3],
        lambda b: b.view(np.int64)[2],
        lambda b: torch.from_numpy(b)[3:],
        lambda b: torch.from_dlpack(b)[3:],
        lambda b: memoryview(b),
        lambda b: gl.from_numpy(b, backend="numpy")[2:],
        lambda b: gl.from_numpy(b, backend="torch")[2:],
        lambda b: iter(b),
        lambda b: b.flat,
    ],
)
def test_memory_is_not_used_again_while_anything_looks_at_it(keep):
    loader, kept = DataLoader(LARGE, batch_size=8), []
    for batch in loader:
        kept.append(keep(batch))
        del batch
    for i, part in enumerate(kept):
        expected = keep(LARGE[8 * i : 8 * i + 8].copy())
        as_array = [np.stack(list(x)) if hasattr(x, "__next__") else np.asarray(x) for x in (part, expected)]
        np.testing.assert_array_equal(*as_array)


def test_changing_a_batch_does_not_change_the_data():
    data = np.arange(6.0)
    for batch in DataLoader(data, batch_size=3):
        batch += 1
    assert data.tolist() == [0, 1, 2, 3, 4, 5]


def test_taker_keeps_few_buffers():
    take = RowTaker(LARGE)
    batches = [take(np.arange(8)) for _ in range(10)]
    del batches
    gc.collect()
    assert len(take._free) == 4


# --- epochs and positions ---


def test_each_iteration_is_the_next_epoch():
    data, options = np.arange(50), {"batch_size": 50, "shuffle": True}
    orders = [next(iter(DataLoader(data, **options)))]
    loader = DataLoader(data, **options)
    found = [next(iter(loader)).tolist() for _ in range(3)]  # a loop that ends early counts too
    assert found[0] == orders[0].tolist()
    assert len({tuple(f) for f in found}) == 3
    loader.set_epoch(1)
    assert next(iter(loader)).tolist() == found[1]
    assert next(iter(loader)).tolist() == found[2]
    other = DataLoader(data, seed=1, **options)
    assert next(iter(other)).tolist() not in found


@pytest.mark.parametrize("size", [100, 20_000])  # the larger draws the next order ahead
def test_orders_are_those_of_the_epoch_whatever_came_before(size):
    loader = DataLoader(np.arange(size), batch_size=size, shuffle=True, seed=9)
    for epoch in (0, 1, 5, 6, 0, 3):
        loader.set_epoch(epoch)
        np.testing.assert_array_equal(next(iter(loader)), permutation(key(9, "shuffle", epoch), size))
    assert not threads()


@given(
    n=st.integers(1, 30), batch_size=st.integers(1, 12), drop_last=st.booleans(), shuffle=st.booleans(),
    stop=st.integers(0, 70), kind=st.sampled_from(["arrays", "rows", "stream"]), prefetch=st.sampled_from([None, 0, 3]),
)  # fmt: skip
def test_a_loader_goes_on_from_any_position(n, batch_size, drop_last, shuffle, stop, kind, prefetch):
    def make():
        data = {"arrays": np.arange(n), "rows": list(range(n)), "stream": lambda: iter(range(n))}[kind]
        return DataLoader(
            data, batch_size, shuffle and kind != "stream", drop_last=drop_last, seed=2, prefetch_factor=prefetch
        )

    if drop_last and n < batch_size:
        with pytest.raises(DataError, match="the DataLoader has no batch"):
            list(make())
        return

    def run(loader, epochs):
        for _ in range(epochs):
            yield from ((loader.state_dict()["epoch"], batch.tolist()) for batch in loader)

    epochs = 3
    whole = list(run(make(), epochs))
    stop %= len(whole)
    loader = make()
    begun = run(loader, epochs)
    first = list(itertools.islice(begun, stop))
    state = loader.state_dict()
    begun.close()
    again = make()
    again.load_state_dict(state)
    assert again.state_dict() == state
    rest = list(run(again, epochs - state["epoch"]))
    assert first + rest == whole


def test_the_position_counts_what_was_handed_out():
    data = Squares(20)
    loader = DataLoader(data, batch_size=2, prefetch_factor=4)
    batches = iter(loader)
    assert loader.state_dict() == {
        "epoch": 0, "batch": 0, "seed": 0, "batch_size": 2, "size": 20, "source": None,
    }  # fmt: skip
    next(batches)
    end = time.monotonic() + 5
    while len(data.read) < 10 and time.monotonic() < end:
        time.sleep(0.01)
    assert len(data.read) == 10  # one batch handed out, four in advance
    assert loader.state_dict()["batch"] == 1
    del batches
    again = DataLoader(Squares(20), batch_size=2)
    again.load_state_dict(loader.state_dict())
    assert labels(again)[0] == [4, 9]
    assert again.dataset.read == list(range(2, 20))  # nothing of what was passed
    assert again.state_dict()["epoch"] == 1 and again.state_dict()["batch"] == 0


def test_a_position_at_the_end_of_an_epoch():
    loader = DataLoader(np.arange(4), batch_size=2)
    batches = iter(loader)
    next(batches), next(batches)
    state = loader.state_dict()
    assert (state["epoch"], state["batch"]) == (0, 2)
    again = DataLoader(np.arange(4), batch_size=2)
    again.load_state_dict(state)
    assert list(again) == [] and len(list(again)) == 2
    assert list(batches) == []
    assert (loader.state_dict()["epoch"], loader.state_dict()["batch"]) == (1, 0)


def test_set_epoch_keeps_a_position_in_that_epoch_only():
    state = {"epoch": 3, "batch": 1, "seed": 0, "batch_size": 2, "size": 4, "source": None}
    loader = DataLoader(np.arange(4), batch_size=2)
    loader.load_state_dict(state)
    loader.set_epoch(3)
    assert [b.tolist() for b in loader] == [[2, 3]]
    loader.load_state_dict(state)
    loader.set_epoch(4)
    assert len(list(loader)) == 2


def test_states_of_other_loaders_are_refused():
    state = DataLoader(np.arange(4), batch_size=2).state_dict()
    with pytest.raises(OptionError, match=r"another DataLoader\n.*batch_size=3, size=4\n.*batch_size=2, size=4"):
        DataLoader(np.arange(4), batch_size=3).load_state_dict(state)
    with pytest.raises(OptionError, match=r"batch_size=2, size=5\n"):
        DataLoader(np.arange(5), batch_size=2).load_state_dict(state)
    with pytest.raises(OptionError, match=r"not the state of a DataLoader\n.*\n.*{'epoch': 1}"):
        DataLoader(np.arange(5)).load_state_dict({"epoch": 1})
    loader = DataLoader(np.arange(4), batch_size=2, shuffle=True, seed=8)
    loader.load_state_dict(DataLoader(np.arange(4), batch_size=2, seed=9).state_dict())  # the seed is the saved one
    assert loader.seed == 9
    np.testing.assert_array_equal(np.concatenate(list(loader)), permutation(key(9, "shuffle", 0), 4))


def test_random_transforms_depend_on_seed_epoch_and_sample_only():
    def by_label(batches):
        return {int(y): x.tolist() for xs, ys in batches for x, y in zip(xs, ys, strict=True)}

    data = Squares(12)
    one = DataLoader(data, batch_size=5, transform=noisy)
    other = DataLoader(data, batch_size=3, shuffle=True, transform=noisy, prefetch_factor=0)
    arrays = DataLoader((np.arange(12.0, dtype="f")[:, None] * np.ones(3, "f"), np.arange(12) ** 2), 4, transform=noisy)
    epochs = [by_label(one) for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert epochs == [by_label(other) for _ in range(2)]
    assert epochs == [by_label(arrays) for _ in range(2)]
    assert by_label(DataLoader(data, batch_size=5, transform=noisy, seed=1)) not in epochs
    plain, mixed = (list(DataLoader(data, 5, transform=noisy, batch_transform=t)) for t in (None, noisy_batch))
    factors = [m[0] / p[0] for m, p in zip(mixed, plain, strict=True)]
    assert all(np.ptp(f) < 1e-5 for f in factors) and len({round(float(f.flat[0]), 5) for f in factors}) == 3


def test_transforms_with_defaults_get_no_random_numbers():
    def scaled(sample, factor=3):
        return sample * factor

    (batch,) = DataLoader(np.arange(3), 3, transform=scaled, batch_transform=np.negative)
    assert batch.tolist() == [0, -3, -6]
    (batch,) = DataLoader(np.arange(3), 3, transform=lambda s, rng=None: rng.integers(5, 6))
    assert batch.tolist() == [5, 5, 5]


# --- threads ---


@pytest.mark.parametrize("where", ["dataset", "transform"])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_errors_come_out_with_their_sample_and_traceback(where, prefetch):
    def broken(sample):
        if sample[1] == 49:
            raise KeyError("no file for 7")
        return sample

    data = Squares(20, fails_at=7 if where == "dataset" else None)
    transform = broken if where == "transform" else None
    got = []
    with pytest.raises(KeyError, match="no file for 7") as caught:
        for batch in DataLoader(data, batch_size=3, transform=transform, prefetch_factor=prefetch):
            got.append(batch)
    assert len(got) == 2  # those before it have come
    names = [frame.name for frame in caught.traceback]
    assert ("__getitem__" if where == "dataset" else "broken") in names
    verb = "reading sample 7 of Squares" if where == "dataset" else "transforming sample 7"
    assert caught.value.__notes__ == [f"while {verb}", "in batch 2 of epoch 0 of the DataLoader"]
    assert not threads()


@pytest.mark.parametrize("end", ["break", "error", "close", "dropped", "finished"])
def test_no_thread_is_left(end):
    loader = DataLoader(Squares(50), batch_size=2)
    if end == "break":
        for _ in loader:
            assert threads(0)
            break
    elif end == "error":
        with pytest.raises(ZeroDivisionError):
            for _ in loader:
                raise ZeroDivisionError
    elif end == "close":
        batches = iter(loader)
        next(batches)
        batches.close()
    elif end == "dropped":
        batches = iter(loader)
        next(batches)
        cycle = [batches]
        cycle.append(cycle)
        del batches, cycle
        gc.collect()
    else:
        batches = iter(loader)
        assert len(list(batches)) == 25
    assert not threads()
    gone = weakref.ref(loader)
    batches = None
    del loader
    gc.collect()
    assert gone() is None


def test_the_thread_works_on_the_loops_backend():
    with gl.using_backend("torch"):
        loader = DataLoader([0.0, 1.0], 2, transform=lambda s: gl.tensor(s))
        (batch,) = loader
    assert batch.backend == "torch"


def test_a_thread_prepares_while_the_loop_works():
    def wait(sample):
        time.sleep(0.01)
        return sample

    def seconds(prefetch):
        start = time.monotonic()
        for _ in DataLoader(range(20), transform=wait, prefetch_factor=prefetch):
            time.sleep(0.01)
        return time.monotonic() - start

    assert seconds(2) < 0.8 * seconds(0)


# --- iterables ---


def test_functions_that_make_iterables_are_called_each_epoch():
    def numbers():
        yield from range(5)

    loader = DataLoader(numbers, batch_size=2)
    assert [[b.tolist() for b in loader] for _ in range(2)] == [[[0, 1], [2, 3], [4]]] * 2
    with pytest.raises(TypeError):
        len(loader)
    assert len(DataLoader({1, 2, 3}, batch_size=2)) == 2  # a set has a length, and its own order


def test_an_iterator_lasts_one_epoch():
    loader = DataLoader(iter(range(4)), batch_size=2)
    assert len(list(loader)) == 2
    with pytest.raises(DataError, match=r"the range_iterator is exhausted: .* it lasts one epoch\n.*DataLoader"):
        iter(loader)


def test_an_iterator_goes_on_where_a_loop_ended_early():
    loader = DataLoader(itertools.count(), batch_size=2)
    assert [next(iter(loader)).tolist() for _ in range(3)] == [[0, 1], [2, 3], [4, 5]]


def test_iterables_are_told_the_epoch():
    class Told:
        def __init__(self):
            self.epoch = 0

        def set_epoch(self, epoch):
            self.epoch = epoch

        def __iter__(self):
            return iter([self.epoch] * 2)

    loader = DataLoader(Told(), batch_size=2)
    assert [next(iter(loader)).tolist() for _ in range(3)] == [[0, 0], [1, 1], [2, 2]]
    loader.set_epoch(7)
    assert next(iter(loader)).tolist() == [7, 7]


@pytest.mark.parametrize("prefetch", [0, 3])
def test_states_of_iterators_are_used_as_grains(prefetch):
    loader = DataLoader(Grain(10), batch_size=3, prefetch_factor=prefetch)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    assert state["source"] == {"next": 3}  # not what was read in advance
    data = Grain(10)
    again = DataLoader(data, batch_size=3)
    again.load_state_dict(state)
    assert [b["x"].tolist() for b in again] == [[3, 4, 5], [6, 7, 8], [9]]
    assert data.read == list(range(3, 10))
    assert next(b["x"].tolist() for b in again) == [0, 1, 2]


def test_states_of_iterables_are_used_as_those_of_stateful_loaders():
    class Stateful:
        def __init__(self):
            self.at = 0

        def __iter__(self):
            while self.at < 6:
                self.at += 1
                yield self.at
            self.at = 0

        def state_dict(self):
            return {"at": self.at}

        def load_state_dict(self, state):
            self.at = state["at"]

    loader = DataLoader(Stateful(), batch_size=None)
    batches = iter(loader)
    assert [next(batches), next(batches)] == [1, 2]
    again = DataLoader(Stateful(), batch_size=None)
    again.load_state_dict(loader.state_dict())
    assert list(again) == [3, 4, 5, 6] and list(again) == [1, 2, 3, 4, 5, 6]


def test_a_shorter_iterable_cannot_go_on():
    loader = DataLoader(lambda: range(9), batch_size=2)
    batches = iter(loader)
    [next(batches) for _ in range(3)]
    other = DataLoader(lambda: range(4), batch_size=2)
    other.load_state_dict(loader.state_dict())
    with pytest.raises(DataError, match=r"ends before the saved position\n.*6 items\n.*4"):
        list(other)


# --- bad input ---


def test_ragged_batches():
    samples = [(np.zeros(3), 0), (np.zeros(3), 1), (np.zeros((4, 1)), 2), (np.zeros(3), 3)]
    text = (
        "the samples of a batch have different shapes\n"
        "  expected: (3,), as sample 1 at sample[0]\n"
        "  given:    (4, 1) in sample 2\n"
        "  do:       pad the samples to one shape in transform= or collate_fn=, or use batch_size=1"
    )
    with pytest.raises(ShapeError, match=re.escape(text)):
        list(DataLoader(samples, batch_size=2, sampler=[1, 2]))
    with pytest.raises(ShapeError, match=r"different keys\n.*\['a', 'b'\], as sample 0\n.*\['a'\] in sample 1"):
        list(DataLoader([{"a": 1, "b": 2}, {"a": 1}], batch_size=2))
    with pytest.raises(ShapeError, match=r"different lengths\n.*2, as sample 0 at sample\['a'\]\n.*3 in sample 1"):
        list(DataLoader([{"a": [1, 2]}, {"a": [1, 2, 3]}], batch_size=2))
    with pytest.raises(
        ShapeError, match=r"different shapes\n.*\(2,\), as sample 0 at sample\['x'\]\n.*\(3,\) in sample 1"
    ):
        list(DataLoader(Columns({"x": [[1, 2], [1, 2, 3]]}), batch_size=2))
    with pytest.raises(DTypeError, match=r"numbers, dicts or lists; found NoneType\n.*sample\['a'\]\n.*collate_fn"):
        default_collate([{"a": None}])


def test_arrays_of_different_lengths():
    with pytest.raises(ShapeError, match=r"Size mismatch between tensors\n.*\n.*\[0\] \(4, 2\), \[1\] \(5,\)"):
        DataLoader((np.zeros((4, 2)), np.zeros(5)))
    with pytest.raises(ShapeError, match=r"\['x'\] \(4,\), \['y'\]\['z'\] \(5,\)"):
        DataLoader({"x": np.zeros(4), "y": {"z": np.zeros(5)}})
    with pytest.raises(
        ShapeError, match=r"first axis counts the samples\n.*list without a shape at \['x'\]\n.*asarray"
    ):
        DataLoader({"x": [1, 2]})
    with pytest.raises(ShapeError, match=r"a number \(shape \(\)\) at data"):
        DataLoader(np.float64(3) * np.ones(()))
    with pytest.raises(ShapeError, match="Size mismatch"):
        TensorDataset(np.zeros(2), np.zeros(3))


def test_no_samples():
    for data in (np.zeros((0, 3)), [], Squares(0), Subset(np.zeros(3), [])):
        with pytest.raises(DataError, match=r"the DataLoader has no batch\n.*at least one sample\n.*0 samples"):
            DataLoader(data)
    with pytest.raises(DataError, match=r"no batch\n.*at least batch_size=8 samples\n.*3 samples and drop_last=True"):
        DataLoader(np.zeros(3), batch_size=8, drop_last=True)
    with pytest.raises(DataError, match=r"no batch\n.*list_iterator that gave no sample\n"):
        list(DataLoader(iter([])))
    with pytest.raises(DataError, match=r"no batch\n.*, or fewer than batch_size with drop_last=True\n"):
        list(DataLoader(lambda: [1], batch_size=2, drop_last=True))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch_size": 0}, "batch_size should be a positive integer value, but got batch_size=0"),
        ({"batch_size": 2.5}, "positive integer value, but got batch_size=2.5"),
        ({"sampler": [0], "shuffle": True}, "sampler option is mutually exclusive with shuffle"),
        ({"batch_sampler": [[0]], "batch_size": 2}, "batch_sampler option is mutually exclusive with batch_size"),
        ({"batch_size": None, "drop_last": True}, "batch_size=None option disables auto-batching"),
        ({"num_workers": -1}, "num_workers option should be non-negative"),
        ({"prefetch_factor": -1}, "prefetch_factor counts batches made in advance"),
        ({"prefetch_factor": 0, "num_workers": 1}, "at least 1 for worker processes"),
        ({"persistent_workers": True}, "persistent_workers option needs num_workers > 0"),
        ({"multiprocessing_context": "spawn"}, "can only be used with multi-process loading"),
    ],
)
def test_options_that_cannot_be(options, text):
    with pytest.raises(OptionError, match=re.escape(text)):
        DataLoader(np.arange(4), **options)


def test_data_that_cannot_be_read():
    with pytest.raises(OptionError, match=r"a DataLoader cannot read this\n.*\n.*int"):
        DataLoader(3)
    with pytest.raises(OptionError, match=r"cannot read this\n.*\n.*str"):
        DataLoader("text")

    class Splits(dict):
        pass

    with pytest.raises(OptionError, match=r"holds several\n.*Splits with 'train', 'test'\n.*data\['train'\]"):
        DataLoader(Splits(train=[1], test=[2]))
    for options in ({"shuffle": True}, {"sampler": [0]}, {"batch_sampler": [[0]]}):
        with pytest.raises(OptionError, match=f"read in its own order: {next(iter(options))} needs samples"):
            DataLoader(iter([1]), **options)
    with pytest.raises(OptionError, match=r"chosen by index, which this data does not allow\n.*\n.*list_iterator"):
        Subset(iter([1]), [0])


# --- datasets ---


def test_subsets_and_concatenations_against_pytorch():
    x, y = np.arange(20).reshape(10, 2), np.arange(10)
    part, theirs = Subset((x, y), [7, 1, -2]), torch.utils.data.Subset(TensorDataset(x, y), [7, 1, 8])
    assert [flat(part[i]) for i in range(3)] == [flat(theirs[i]) for i in range(3)]
    assert [flat(b) for b in DataLoader(part, 2)] == [[[[14, 15], [2, 3]], [7, 1]], [[[16, 17]], [8]]]
    nested = Subset(Subset({"x": x}, [5, 6, 7]), [2, 0])
    assert [flat(b) for b in DataLoader(nested, 2)] == [[[[14, 15], [10, 11]]]]
    both, theirs = (C([TensorDataset(x), part, range(3)]) for C in (ConcatDataset, torch.utils.data.ConcatDataset))
    assert len(both) == len(theirs) == 16
    for i in (0, 9, 10, 12, 13, 15, -1, -16):
        assert str(both[i]) == str(theirs[i])
    assert both.cumulative_sizes == theirs.cumulative_sizes
    with pytest.raises(IndexOutOfRangeError, match="index 16"):
        both[16]
    with pytest.raises(IndexOutOfRangeError, match=r"from -10 to 9\n.*index 10"):
        Subset((x, y), [0, 10])
    with pytest.raises(OptionError, match=r"indices are integers\n.*\n.*float64"):
        Subset((x, y), [0.5])
