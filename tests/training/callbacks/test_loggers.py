"""CSV, JSON lines, TensorBoard, W&B, MLflow: what is written, resumed runs, full disks."""

import csv
import errno
import json
import math
import os

import numpy as np
import pytest

import gradloom as gl
from gradloom.errors import MissingExtraError, OptionError
from gradloom.training.callbacks import (
    CallbackError,
    CallbackList,
    CSVLogger,
    JSONLinesLogger,
    LambdaCallback,
    MLflowLogger,
    TensorBoardLogger,
    WandbLogger,
)
from training.callbacks.helpers import loader, make


def rows(file):
    with open(file, newline="") as f:
        return list(csv.DictReader(f))


def lines(file):
    return [json.loads(line) for line in open(file)]


def epochs(logger, logs, start=0):
    callbacks = CallbackList([logger])
    for epoch, found in enumerate(logs, start):
        callbacks.on_epoch_begin(epoch)
        callbacks.on_epoch_end(epoch, found)
    return callbacks


# --- CSV


def test_csv_of_a_loop_has_all_logs_of_the_history(tmp_path):
    loop = make([CSVLogger(tmp_path / "deep/training.log")])
    history = loop.fit(loader(), loader(), epochs=3)
    found = rows(tmp_path / "deep/training.log")
    assert list(found[0]) == ["epoch", "train_loss", "val_loss", "lr"]
    assert [int(r["epoch"]) for r in found] == [0, 1, 2]
    for name in history:
        assert [float(r[name]) for r in found] == history[name]


def test_csv_is_on_its_way_to_the_disk_each_epoch(tmp_path):
    logger = CSVLogger(tmp_path / "x.csv")
    callbacks = CallbackList([logger])
    for epoch in range(3):
        callbacks.on_epoch_end(epoch, {"train_loss": 1.0})
        assert len(rows(tmp_path / "x.csv")) == epoch + 1


def test_csv_columns_that_come_later(tmp_path):
    epochs(
        CSVLogger(tmp_path / "x.csv"), [{"a": 1.0}, {"a": 2.0, "b": 3.0}, {"a": 4.0}, {"c": [1, 2], "a": float("nan")}]
    )
    assert (tmp_path / "x.csv").read_text() == 'epoch,a,b,c\n0,1.0,,\n1,2.0,3.0,\n2,4.0,,\n3,nan,,"[1, 2]"\n'
    assert os.listdir(tmp_path) == ["x.csv"]


def test_csv_of_a_resumed_run_has_no_line_twice(tmp_path):
    epochs(CSVLogger(tmp_path / "x.csv"), [{"a": float(i), "b": 0.5} for i in range(5)])
    with open(tmp_path / "x.csv", "a") as file:
        file.write("5,1.")  # a line that was cut off
    epochs(CSVLogger(tmp_path / "x.csv"), [{"a": 10.0}, {"a": 11.0, "c": 1.0}], start=3)
    found = rows(tmp_path / "x.csv")
    assert [(r["epoch"], r["a"], r["b"], r["c"]) for r in found] == [
        ("0", "0.0", "0.5", ""), ("1", "1.0", "0.5", ""), ("2", "2.0", "0.5", ""), ("3", "10.0", "", ""),
        ("4", "11.0", "", "1.0"),
    ]  # fmt: skip
    epochs(CSVLogger(tmp_path / "x.csv"), [{"z": 1.0}])
    assert (tmp_path / "x.csv").read_text() == "epoch,z\n0,1.0\n"


def test_one_logger_over_two_fits(tmp_path):
    for logger, read in ((CSVLogger(tmp_path / "a"), rows), (JSONLinesLogger(tmp_path / "b"), lines)):
        loop = make([logger])
        loop.fit(loader(), epochs=2)
        loop.fit(loader(), epochs=4)
        assert [int(r["epoch"]) for r in read(logger.path)] == [0, 1, 2, 3]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is Linux's")
@pytest.mark.parametrize("kind", [CSVLogger, JSONLinesLogger])
def test_a_full_disk_is_warned_of_once_and_training_goes_on(kind):
    loop = make([kind("/dev/full")])
    with pytest.warns(
        UserWarning, match=rf"{kind.__name__} could not write to /dev/full: No space left on device; training goes on"
    ) as seen:
        loop.fit(loader(), epochs=3)
    assert len([w for w in seen if w.category is UserWarning]) == 1
    assert loop.epoch == 3


@pytest.mark.parametrize("kind", [CSVLogger, JSONLinesLogger])
@pytest.mark.parametrize("part", [0, 4])
def test_lines_that_did_not_fit_are_written_when_there_is_room(tmp_path, kind, part):
    logger = kind(tmp_path / "x")
    callbacks = epochs(logger, [{"a": 0.0}])
    real = logger._file

    class Full:
        def write(self, data):
            if part:  # as FileIO does, where there is room for a part
                return real.write(data[:part])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def __getattr__(self, name):
            return getattr(real, name)

    logger._file = Full()
    with pytest.warns(UserWarning, match="No space left on device") as seen:
        callbacks.on_epoch_end(1, {"a": 1.0})
        callbacks.on_epoch_end(2, {"a": 2.0})
    assert len(seen) == 1
    read = rows if kind is CSVLogger else lines
    assert [int(r["epoch"]) for r in read(tmp_path / "x")] == [0]
    logger._file = real
    callbacks.on_epoch_end(3, {"a": 3.0})
    assert [float(r["a"]) for r in read(tmp_path / "x")] == [0.0, 1.0, 2.0, 3.0]


def test_a_new_column_on_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    callbacks = epochs(CSVLogger(tmp_path / "x"), [{"a": 0.0}])
    with monkeypatch.context() as patch:

        def full(*args):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr("os.replace", full)
        with pytest.warns(UserWarning, match="No space left"):
            callbacks.on_epoch_end(1, {"a": 1.0, "b": 1.0})
        callbacks.on_epoch_end(2, {"a": 2.0})
        assert (tmp_path / "x").read_text() == "epoch,a\n0,0.0\n"
        assert os.listdir(tmp_path) == ["x"]
    callbacks.on_epoch_end(3, {"a": 3.0})
    assert (tmp_path / "x").read_text() == "epoch,a,b\n0,0.0,\n1,1.0,1.0\n2,2.0,\n3,3.0,\n"


# --- JSON lines


def test_json_lines_with_steps_and_numbers_that_json_has_not(tmp_path):
    loop = make([JSONLinesLogger(tmp_path / "x", every_steps=2)])
    history = loop.fit(loader(), epochs=2)
    found = lines(tmp_path / "x")
    assert [r.get("step", r.get("epoch")) for r in found] == [1, 0, 3, 5, 1]
    assert [r["train_loss"] for r in found if "epoch" in r] == history["train_loss"]
    epochs(JSONLinesLogger(tmp_path / "y"), [{"a": math.nan, "b": -math.inf, "c": [1.0, math.inf]}])
    (row,) = lines(tmp_path / "y")
    assert (row["a"], row["b"], row["c"]) == ("nan", "-inf", [1.0, "inf"])


def test_json_lines_of_a_resumed_run(tmp_path):
    loop = make([JSONLinesLogger(tmp_path / "x", every_steps=1)])
    loop.fit(loader(), epochs=1)
    state = loop.state_dict()
    loop.fit(loader(), epochs=3)
    again = make([JSONLinesLogger(tmp_path / "x", every_steps=1)])
    again.load_state_dict(state)
    again.fit(loader(), epochs=2)
    found = lines(tmp_path / "x")
    assert [r["step"] for r in found if "step" in r] == list(range(6))
    assert [r["epoch"] for r in found if "epoch" in r] == [0, 1]


# --- TensorBoard


def events(folder):
    """{tag: [(step, value)]} as TensorBoard reads them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder), purge_orphaned_data=True)
    found.Reload()
    scalars = {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    return scalars, {tag: found.Histograms(tag) for tag in found.Tags()["histograms"]}


def test_tensorboard_reads_scalars_and_histograms(tmp_path):
    pytest.importorskip("tensorboardX")
    loop = make([TensorBoardLogger(tmp_path / "logs", every_steps=3, histograms=1)])
    history = loop.fit(loader(), loader(), epochs=3)
    scalars, histograms = events(tmp_path / "logs")
    for name in history:
        assert [s for s, _ in scalars[name]] == [0, 1, 2]
        np.testing.assert_allclose([v for _, v in scalars[name]], history[name], rtol=1e-6)
    assert [s for s, _ in scalars["step/train_loss"]] == [2, 5, 8]
    last = histograms["parameters/a.weight"][-1].histogram_value
    weight = loop.model.a.weight.detach().numpy()
    assert (last.num, last.min, last.max) == (12, weight.min(), weight.max())
    np.testing.assert_allclose(last.sum, weight.sum(), rtol=1e-5)


def test_tensorboard_of_a_resumed_run_has_no_point_twice(tmp_path):
    pytest.importorskip("tensorboardX")
    epochs(TensorBoardLogger(tmp_path), [{"a": float(i)} for i in range(5)]).on_train_end()
    epochs(TensorBoardLogger(tmp_path), [{"a": 10.0}, {"a": 11.0}], start=3).on_train_end()
    assert events(tmp_path)[0]["a"] == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 10.0), (4, 11.0)]


def test_tensorboard_on_a_full_disk(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")
    callbacks = epochs(TensorBoardLogger(tmp_path), [{"a": 0.0}])

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.warns(UserWarning, match="TensorBoardLogger could not write .*No space left on device") as seen:
            callbacks.on_epoch_end(1, {"a": 1.0})
            callbacks.on_epoch_end(2, {"a": 2.0})
        assert len(seen) == 1
    callbacks.on_epoch_end(3, {"a": 3.0})
    callbacks.on_train_end()
    assert [s for s, _ in events(tmp_path)[0]["a"]] == [0, 1, 2, 3]


def test_what_is_not_installed_is_named(monkeypatch):
    for module, make_logger in (
        ("tensorboardX", lambda: TensorBoardLogger("x")),
        ("wandb", WandbLogger),
        ("mlflow", MLflowLogger),
    ):
        monkeypatch.setitem(__import__("sys").modules, module, None)
        extra = {"tensorboardX": "tensorboard"}.get(module, module)
        with pytest.raises(MissingExtraError, match=rf"needs {module}\n  do: +pip install 'gradloom\[{extra}\]'"):
            make_logger()


def test_bad_options(tmp_path):
    pytest.importorskip("tensorboardX")
    with pytest.raises(OptionError, match="histograms counts epochs"):
        TensorBoardLogger(tmp_path, histograms=0)
    with pytest.raises(OptionError, match="JSONLinesLogger: every_steps counts updates"):
        JSONLinesLogger(tmp_path / "x", every_steps=0)


# --- trackers


def failing(epoch, logs):
    if epoch == 1:
        raise ValueError("no")


def test_wandb_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger("project", "name", {"lr": 0.05}, mode="offline", dir=tmp_path, every_steps=2)
    seen = []
    loop = make([logger, LambdaCallback(on_epoch_end=lambda e, logs: seen.append(dict(logger.run.summary)))])
    history = loop.fit(loader(), loader(), epochs=2)
    assert [s["val_loss"] for s in seen] == history["val_loss"]
    assert [s["epoch"] for s in seen] == [0, 1]
    assert seen[-1]["step"] == 5 and "step/train_loss" in seen[-1]
    assert logger.run is None and wandb.run is None
    assert [f for f in os.listdir(tmp_path / "wandb") if f.startswith("offline-run")]
    first = logger.state_dict()["id"]
    again = WandbLogger("project", mode="offline", dir=tmp_path)
    again.load_state_dict({"id": first})
    loop = make([again, LambdaCallback(on_epoch_end=failing)])
    with pytest.raises(CallbackError, match="LambdaCallback"):
        loop.fit(loader(), epochs=3)
    assert again.state_dict()["id"] == first


def test_mlflow_in_a_folder(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "runs").as_uri()
    logger = MLflowLogger("experiment", "name", uri, {"lr": 0.05}, every_steps=3)
    loop = make([logger])
    history = loop.fit(loader(), loader(), epochs=2)
    client = mlflow.MlflowClient(tracking_uri=uri)
    run = client.get_run(logger.run_id)
    assert (run.info.status, run.data.params, run.info.run_name) == ("FINISHED", {"lr": "0.05"}, "name")
    for name in history:
        found = client.get_metric_history(logger.run_id, name)
        assert [m.value for m in sorted(found, key=lambda m: m.step)] == history[name]
    assert sorted(m.step for m in client.get_metric_history(logger.run_id, "step/train_loss")) == [2, 5]
    again = MLflowLogger("experiment", tracking_uri=uri)
    other = make([again, LambdaCallback(on_epoch_end=lambda e, logs: 1 / 0)])
    other.load_state_dict(loop.state_dict())
    with pytest.raises(CallbackError):
        other.fit(loader(), epochs=3)
    assert again.run_id == logger.run_id
    assert client.get_run(logger.run_id).info.status == "FAILED"
    assert gl.is_grad_enabled()
