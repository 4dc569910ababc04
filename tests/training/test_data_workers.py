"""Worker processes of the DataLoader, and positions that another process goes on from."""

import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gradloom.errors import DataError, OptionError
from gradloom.training.data import DataLoader
from training.data_samples import Squares, awkward, dies, flat, loader_of, noisy, slow, with_process

ROOT = Path(__file__).parents[2]


def children():
    """Worker processes; waits for those that are about to end."""
    end = time.monotonic() + 10
    while (found := multiprocessing.active_children()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


@pytest.mark.parametrize("kind", ["transforms", "stream"])
def test_workers_give_the_same_batches(kind):
    expected = loader_of(kind)
    loader = loader_of(kind, workers=2)
    for _ in range(2 if kind == "transforms" else 1):
        assert [flat(b) for b in loader] == [flat(b) for b in expected]
    assert not children()


def test_workers_share_the_batches_and_leave():
    loader = DataLoader(Squares(40), batch_size=2, num_workers=2, transform=with_process, persistent_workers=True)
    batches = list(loader)
    assert np.concatenate([b[0] for b in batches]).tolist() == [i * i for i in range(40)]
    pids = {int(p) for b in batches for p in b[1]}
    assert os.getpid() not in pids and 1 <= len(pids) <= 2
    for _ in loader:  # ends early
        break
    assert {int(p) for b in loader for p in b[1]} <= pids  # the same ones in later epochs
    assert loader.state_dict()["epoch"] == 3
    del loader
    assert not children()


def test_arrays_are_sent_by_batch_and_transformed_in_workers():
    x, y = np.arange(60, dtype=np.float32).reshape(20, 3), np.arange(20)
    options = {"batch_size": 6, "shuffle": True, "transform": noisy}
    expected = [flat(b) for b in DataLoader((x, y), **options)]
    loader = DataLoader((x, y), num_workers=1, **options)
    assert [flat(b) for b in loader] == expected
    direct = DataLoader((x, y), batch_size=6, num_workers=3)  # nothing to transform: a thread takes the rows
    batches = iter(direct)
    assert flat(next(batches)) == [x[:6].tolist(), y[:6].tolist()] and not multiprocessing.active_children()


def test_errors_in_workers_come_out_whole():
    with pytest.raises(KeyError, match="no file for 5") as caught:
        list(DataLoader(Squares(9, fails_at=5), batch_size=2, num_workers=1))
    notes = "\n".join(caught.value.__notes__)
    assert "while reading sample 5 of Squares\nin batch 2 of epoch 0 of the DataLoader\nin a worker process:\n" in notes
    assert "in __getitem__\n    raise KeyError" in notes  # where it happened
    assert not children()
    with pytest.raises(DataError, match=r"^Awkward: 7: lost") as caught:
        list(DataLoader(Squares(3), batch_size=2, num_workers=1, transform=awkward))
    assert caught.value.__notes__[0] == "while transforming sample 0"


def test_a_worker_that_dies():
    with pytest.raises(DataError, match=r"ended unexpectedly\n.*while batches \d+ to \d+ were being made\n.*__main__"):
        list(DataLoader(Squares(9), batch_size=1, num_workers=2, transform=dies, persistent_workers=True))
    assert not children()


def test_what_cannot_be_sent():
    class Local(Squares):
        pass

    text = r"cannot be sent to worker processes\n.*(lambda|Local).*\n.*top of a module \(no lambda"
    for data, transform in ((Squares(3), lambda s: s), (Local(3), None)):
        with pytest.raises(OptionError, match=text):
            list(DataLoader(data, num_workers=1, transform=transform))
    assert not children()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_forked_workers_need_nothing_sent():
    loader = DataLoader(Squares(3), 3, num_workers=1, multiprocessing_context="fork", transform=lambda s: -s[1])
    assert [b.tolist() for b in loader] == [[0, -1, -4]]
    context = multiprocessing.get_context("fork")
    loader = DataLoader(Squares(3), 3, num_workers=1, multiprocessing_context=context, transform=slow)
    assert [b[1].tolist() for b in loader] == [[0, 1, 4]]


def test_no_worker_is_left_when_a_loop_ends_early():
    loader = DataLoader(Squares(1000), batch_size=2, num_workers=2, transform=slow)
    for _ in loader:
        break
    assert not children()
    assert loader.state_dict()["batch"] == 1


@pytest.mark.parametrize(
    ("kind", "here", "there"),
    [
        ("arrays", 0, 0),
        ("tensors", 0, 0),
        ("table", 0, 0),
        ("transforms", 0, 2),
        ("transforms", 1, 0),
        ("stream", 0, 1),
    ],
)
def test_another_process_goes_on_bit_for_bit(kind, here, there):
    if kind in ("arrays", "transforms"):  # in the second epoch
        loader = loader_of(kind, here)
        first = list(loader)
    else:
        loader, first = loader_of(kind, here), []
    batches = iter(loader)
    first += list(itertools.islice(batches, 2))
    state = loader.state_dict()
    assert (state["epoch"], state["batch"]) == (1 if len(first) > 2 else 0, 2)
    batches.close()
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "training.data_samples", kind, str(there), json.dumps(state)],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rest = json.loads(done.stdout)
    whole = loader_of(kind)
    epochs = [[flat(b) for b in whole] for _ in range(state["epoch"] + 3)]
    assert [flat(b) for b in first] + list(itertools.chain(*rest)) == list(itertools.chain(*epochs))
