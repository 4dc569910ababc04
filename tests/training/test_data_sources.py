"""Other libraries' datasets and loaders as they are; batches as inputs and targets, on any engine."""

import collections
import dataclasses
import importlib.util
import re

import numpy as np
import pytest

import gradloom as gl
from gradloom.errors import DataError, DTypeError, OptionError
from gradloom.training.data import (
    DataLoader,
    Subset,
    adapt,
    batches_of,
    random_split,
    to_engine,
    to_tensors,
    unpack,
)
from training.data_samples import Columns, Grain, Squares, flat

torch = pytest.importorskip("torch")

# --- Hugging Face ---

TABLE = {"image": [[[i, i + 1], [0, 0]] for i in range(7)], "label": [i % 3 for i in range(7)], "name": list("abcdefg")}


def test_tables_are_read_by_columns():
    data = Columns(TABLE)
    batches = list(DataLoader(data, batch_size=3))
    assert data.asked == [[0, 1, 2], [3, 4, 5], [6]]
    assert type(batches[0]["image"]) is np.ndarray and batches[0]["image"].shape == (3, 2, 2)
    assert batches[1]["image"].tolist() == TABLE["image"][3:6]
    assert batches[2]["label"].tolist() == [0] and list(batches[2]["name"]) == ["g"]


def test_tables_in_a_format_keep_it():
    data = Columns({"x": TABLE["image"], "y": TABLE["label"], "text": TABLE["name"]}, kind="custom")
    (batch,) = DataLoader(data, batch_size=7)
    assert batch["x"].tolist() == TABLE["image"] and batch["y"].dtype == np.int64
    assert batch["text"] == list("abcdefg")


def test_tables_with_transforms_and_splits():
    data = Columns(TABLE)
    train, test = random_split(data, [5, 2])
    (batch,) = DataLoader(test, batch_size=2, transform=lambda row: row["image"].sum() * 10 + row["label"])
    assert batch.tolist() == [(2 * i + 1) * 10 + i % 3 for i in test.indices]
    assert all(isinstance(asked, list) for asked in data.asked)


def test_errors_of_tables_name_the_samples():
    class Broken(Columns):
        def with_format(self, kind):
            return self

        def __getitem__(self, key):
            raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone") as caught:
        list(DataLoader(Broken(TABLE), batch_size=2))
    assert caught.value.__notes__[0] == "while reading samples 0, 1 of Broken"


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="datasets is not installed")
def test_a_dataset_of_hugging_face():
    import datasets

    (batch,) = DataLoader(datasets.Dataset.from_dict(TABLE), batch_size=7)
    assert batch["image"].tolist() == TABLE["image"] and list(batch["name"]) == TABLE["name"]
    stream = datasets.Dataset.from_dict(TABLE).to_iterable_dataset()
    assert [b["label"].tolist() for b in adapt(stream, batch_size=4)] == [[0, 1, 2, 0], [1, 2, 0]]


@pytest.mark.skipif(importlib.util.find_spec("grain") is None, reason="grain is not installed")
def test_a_dataset_of_grain():
    import grain

    data = grain.MapDataset.range(10).to_iter_dataset().batch(3)
    loader = adapt(data)
    batches = iter(loader)
    next(batches)
    again = batches_of(data, loader.state_dict())
    assert [b.tolist() for b in again] == [[3, 4, 5], [6, 7, 8], [9]]


# --- PyTorch ---


def test_a_tensor_dataset_of_pytorch_is_read_as_arrays():
    class Counting(torch.utils.data.TensorDataset):
        def __getitem__(self, index):
            return super().__getitem__(index)[0] + 1

    x, y = torch.arange(12.0).reshape(6, 2), torch.arange(6)
    batches = list(DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4))
    assert [type(part) for part in batches[0]] == [torch.Tensor, torch.Tensor]
    assert torch.equal(batches[1][0], x[4:]) and torch.equal(batches[0][1], y[:4])
    (batch,) = DataLoader(Counting(x, y), batch_size=6)  # what a subclass does is done
    assert torch.equal(batch, x + 1)


def test_getitems_of_pytorch_is_used():
    data = torch.utils.data.Subset(Squares(9), [8, 2, 5])
    assert [flat(b)[1] for b in DataLoader(data, batch_size=2)] == [[64, 4], [25]]

    class Many:
        def __len__(self):
            return 4

        def __getitem__(self, i):
            raise AssertionError

        def __getitems__(self, indices):
            return [10 * i for i in indices]

    assert [b.tolist() for b in DataLoader(Many(), batch_size=3)] == [[0, 10, 20], [30]]


@pytest.mark.parametrize("workers", [0, 1])
def test_pytorchs_loader_is_used_as_it_is(workers):
    x = torch.arange(10.0)
    theirs = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, x * 2), batch_size=4, num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )  # fmt: skip
    loader = adapt(theirs)
    assert len(loader) == 3
    assert [b[0].tolist() for b in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    if workers:
        return
    batches = iter(loader)
    next(batches)
    (second, third) = batches_of(theirs, loader.state_dict())
    assert torch.equal(second[1], x[4:8] * 2) and torch.equal(third[1], x[8:] * 2)


def test_pytorchs_distributed_sampler_is_told_the_epoch():
    sampler = torch.utils.data.DistributedSampler(range(8), num_replicas=1, rank=0, shuffle=True)
    loader = adapt(torch.utils.data.DataLoader(range(8), batch_size=8, sampler=sampler))
    first, second = (next(iter(loader)).tolist() for _ in range(2))
    assert sampler.epoch == 1 and first != second
    sampler.set_epoch(5)  # a loop of one's own does it so, and is not overruled
    next(iter(adapt(loader.dataset)))
    assert sampler.epoch == 5


def test_iterable_datasets_of_pytorch_are_batched():
    class Numbers(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(range(5))

    assert [b.tolist() for b in adapt(Numbers(), batch_size=2)] == [[0, 1], [2, 3], [4]]


# --- anything ---


def test_adapt_takes_batches_or_makes_them():
    loader = DataLoader(np.arange(4), batch_size=3)
    assert adapt(loader) is loader
    x, y = np.zeros((40, 2)), np.zeros(40)
    assert [len(b[0]) for b in adapt((x, y))] == [32, 8]
    assert [len(b["x"]) for b in adapt({"x": x}, batch_size=30)] == [30, 10]
    assert [len(b[1]) for b in adapt(Squares(5), batch_size=3)] == [3, 2]
    assert [len(b[1]) for b in adapt(Subset((x, y), [1, 2]))] == [2]
    pairs = [(x, y), (x[:3], y[:3])]
    assert [b[0].shape for b in adapt(pairs)] == [(40, 2), (3, 2)]
    assert list(adapt(lambda: iter(pairs))) == pairs
    assert list(adapt(map(len, ["a", "bb"]))) == [1, 2]
    assert sorted(adapt((x, np.arange(40)), batch_size=40, shuffle=True, seed=1).state_dict())[0] == "batch"
    shuffled = next(iter(adapt((x, np.arange(40)), batch_size=40, shuffle=True, seed=1)))[1]
    np.testing.assert_array_equal(shuffled, next(iter(DataLoader(np.arange(40), 40, shuffle=True, seed=1))))
    with pytest.raises(OptionError, match="a DataLoader cannot read this"):
        adapt(None)


def test_a_generator_lasts_one_epoch():
    loader = adapt(i for i in range(3))
    assert list(loader) == [0, 1, 2]
    with pytest.raises(DataError, match="the generator is exhausted"):
        list(loader)


def test_batches_of_goes_on_from_a_state():
    for make in (lambda: Grain(6), lambda: (i for i in range(6)), lambda: list(range(6)), lambda: (np.arange(6),)):
        loader = batches_of(make())
        batches = iter(loader)
        first = [next(batches)]
        rest = list(batches_of(make(), loader.state_dict()))
        assert str(first + rest) == str(list(batches_of(make())))


def test_a_list_goes_on_by_index():
    class Counted(list):
        def __getitem__(self, i):
            read.append(i)
            return super().__getitem__(i)

    read = []
    loader = adapt(Counted("abcd"))
    batches = iter(loader)
    next(batches), next(batches)
    read.clear()
    assert list(batches_of(Counted("abcd"), loader.state_dict())) == ["c", "d"]
    assert read == [2, 3]


# --- a batch ---


def test_unpack():
    @dataclasses.dataclass
    class Batch:
        inputs: object
        targets: object = None

    Pair = collections.namedtuple("Pair", "first second")
    x, y = np.zeros(2), np.ones(2)
    for batch in ((x, y), [x, y], Pair(x, y), Batch(x, y), {"x": x, "y": y}, {"inputs": x, "labels": y}, {"image": x, "label": y},
                  {"Input": x, "Targets": y}, collections.UserDict(input=x, target=y)):  # fmt: skip
        inputs, targets = unpack(batch)
        assert inputs is x and targets is y
    for batch in (x, (x,), Batch(x), {"x": x}):
        inputs, targets = unpack(batch)
        assert inputs is x and targets is None
    inputs, targets = unpack({"ids": x, "mask": y, "labels": 3})
    assert inputs == {"ids": x, "mask": y} and targets == 3
    inputs, targets = unpack({"image": x})
    assert inputs == {"image": x} and targets is None


def test_batches_that_cannot_be_unpacked():
    text = (
        "a batch of 3 parts: which are inputs and which targets?\n"
        "  expected: (inputs, targets), a dict, or an object with inputs and targets\n"
        "  given:    a tuple of 3\n"
        '  do:       nest it, ((a, b), targets), or give a dict, {"a": ..., "b": ..., "targets": ...}'
    )
    with pytest.raises(OptionError, match=re.escape(text)):
        unpack((1, 2, 3))
    with pytest.raises(OptionError, match=r"several targets\n.*\n.*keys x, y, labels"):
        unpack({"x": 1, "y": 2, "labels": 3})
    with pytest.raises(OptionError, match=r"without inputs\n.*keys y"):
        unpack({"y": 1})


def place(array):
    """Where the elements lie."""
    return array.data_ptr() if isinstance(array, torch.Tensor) else np.asarray(array).ctypes.data


def test_to_engine_on_every_engine(backend):
    engine = gl.get_backend(backend)
    x, y = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([1, 0])
    batch = {"n": x, "t": torch.from_numpy(x), "own": engine.array(x), "T": gl.tensor(x), "l": [(y, "text", None, 3)]}
    got = to_engine(batch)
    for name in ("n", "t", "own", "T"):
        assert isinstance(got[name], engine.array_types)
        np.testing.assert_array_equal(engine.to_numpy(got[name]), x)
    assert engine.to_numpy(got["l"][0][0]).tolist() == [1, 0] and got["l"][0][1:] == ("text", None, 3)
    assert got["own"] is batch["own"]
    tensors = to_tensors(batch)
    assert all(type(tensors[name]) is gl.Tensor and tensors[name].backend == backend for name in ("n", "t", "own", "T"))
    assert tensors["t"].tolist() == x.tolist() and tensors["l"][0][1] == "text"


def test_memory_is_shared_between_numpy_and_pytorch():
    x = np.arange(6.0)
    t = torch.arange(6.0)
    assert place(to_engine(x, "torch")) == place(x) and place(to_engine(t, "numpy")) == place(t)
    assert place(to_tensors((x, 1), "torch")[0].native) == place(x)
    assert place(to_tensors({"t": t}, "numpy")["t"].native) == place(t)
    (batch,) = adapt(torch.utils.data.DataLoader(torch.utils.data.TensorDataset(t), batch_size=6))
    assert place(to_engine(unpack(batch)[0], "numpy")) == place(batch[0])


def test_jax_shares_with_pytorch_and_copies_numpy():
    jax = pytest.importorskip("jax")
    t = torch.arange(1024.0)
    array = to_engine(t, "jax")
    assert isinstance(array, jax.Array) and array.unsafe_buffer_pointer() == place(t)
    x = np.arange(6, dtype=np.float32)
    array = to_engine(x, "jax")
    x[:] = -1
    assert array.tolist() == [0, 1, 2, 3, 4, 5]
    assert place(to_engine(array, "numpy")) == array.unsafe_buffer_pointer()


def test_dtypes_of_batches():
    x = np.arange(3.0)
    assert to_engine(x, "numpy") is x
    got = to_engine((x, np.arange(3)), "torch", dtype="float32")
    assert got[0].dtype == torch.float32 and got[1].dtype == torch.int64
    assert to_tensors(x, "numpy", dtype="float32").dtype is gl.float32
    pytest.importorskip("jax")
    with pytest.raises(DTypeError, match="float64"):
        to_engine(x, "jax")
    assert to_engine(x, "jax", dtype="float32").dtype == np.float32
    strings = np.array(["a", "b"])
    assert to_engine({"s": strings}, "torch")["s"] is strings
