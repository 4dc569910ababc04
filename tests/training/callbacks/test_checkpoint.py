"""Checkpoints: what is saved and when, and that a run which was cut goes on as if it had not been."""

import errno
import os
import signal

import numpy as np
import pytest

import gradloom as gl
import gradloom.training.callbacks.checkpoint as module
from gradloom.errors import OptionError
from gradloom.training.callbacks import (
    CallbackError,
    CallbackList,
    CSVLogger,
    EarlyStopping,
    EMACallback,
    LambdaCallback,
    LearningRateMonitor,
    LRSchedulerCallback,
    ModelCheckpoint,
    SWACallback,
)
from training.callbacks.helpers import loader, make, same, weights


def files(folder):
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("name", ["best_model.mojo", "best_model.pth", "deep/er/best.safetensors"])
def test_a_file_keeps_the_best(tmp_path, name):
    callbacks = CallbackList([ModelCheckpoint(tmp_path / name)], model=gl.nn.Linear(1, 1))
    for epoch, loss in enumerate([3.0, 1.0, 2.0, float("nan")]):
        callbacks.on_epoch_end(epoch, {"val_loss": loss})
    saved = gl.load(tmp_path / name)
    assert (saved["epoch"], saved["logs"]) == (2, {"val_loss": 1.0})
    assert files((tmp_path / name).parent) == [os.path.basename(name)]
    checkpoint = callbacks.callbacks[0]
    assert (checkpoint.best, checkpoint.best_file) == (1.0, str(tmp_path / name))


def test_the_guides_monitor(tmp_path):
    callbacks = CallbackList(
        [ModelCheckpoint(tmp_path / "best.mojo", monitor="val_acc", mode="max")], model=gl.nn.Linear(1, 1)
    )
    for epoch, value in enumerate([0.3, 0.8, 0.5]):
        callbacks.on_epoch_end(epoch, {"val_loss": -value, "val_accuracy": value})
    assert gl.load(tmp_path / "best.mojo")["epoch"] == 2


def test_a_folder_gets_a_file_an_epoch(tmp_path):
    for path in (f"{tmp_path}/a/", tmp_path / "b", tmp_path):
        loop = make([ModelCheckpoint(path)])
        loop.fit(loader(), loader(), epochs=3)
    names = ["epoch_0001.safetensors", "epoch_0002.safetensors", "epoch_0003.safetensors"]
    assert files(tmp_path / "a") == files(tmp_path / "b") == names
    assert gl.load(tmp_path / "a" / names[1])["epoch"] == 2


def test_every_so_many_epochs_or_steps_with_names_and_the_last(tmp_path):
    make([ModelCheckpoint(tmp_path / "a", every=2)]).fit(loader(), epochs=5)
    assert files(tmp_path / "a") == ["epoch_0002.safetensors", "epoch_0004.safetensors"]
    make([ModelCheckpoint(tmp_path / "b", every_steps=4, save_last=True)]).fit(loader(), epochs=3)
    assert files(tmp_path / "b") == ["last.safetensors", "step_00000004.safetensors", "step_00000008.safetensors"]
    assert gl.load(tmp_path / "b" / "last.safetensors")["step"] == 8
    make([ModelCheckpoint(tmp_path / "c", name="e{epoch}-{train_loss:.0f}")]).fit(loader(), epochs=1)
    assert files(tmp_path / "c")[0].startswith("e1-")
    make([ModelCheckpoint(tmp_path / "x.pt", monitor=None, every_steps=4)]).fit(loader(), epochs=2)
    assert gl.load(tmp_path / "x.pt")["step"] == 4
    make([ModelCheckpoint(tmp_path / "d", every_steps=2)], accumulate=2).fit(loader(), epochs=2)
    assert files(tmp_path / "d") == ["step_00000002.safetensors", "step_00000004.safetensors"]


def test_the_last_k_and_the_best_stay(tmp_path):
    callbacks = CallbackList([ModelCheckpoint(tmp_path, keep=2)], model=gl.nn.Linear(1, 1))
    for epoch, loss in enumerate([3.0, 1.0, 2.0, 4.0, 5.0]):
        callbacks.on_epoch_end(epoch, {"val_loss": loss})
    assert files(tmp_path) == [f"epoch_000{i}.safetensors" for i in (2, 4, 5)]
    callbacks.on_epoch_end(5, {"val_loss": 0.5})
    callbacks.on_epoch_end(6, {"val_loss": 9.0})
    assert files(tmp_path) == [f"epoch_000{i}.safetensors" for i in (6, 7)]


def test_weights_alone(tmp_path):
    loop = make([ModelCheckpoint(tmp_path / "w.pt", monitor="train_loss", weights_only=True)])
    loop.fit(loader(), epochs=1)
    saved = gl.load(tmp_path / "w.pt")
    assert set(saved) == {"epoch", "step", "logs", "model"}
    loop.model.load_state_dict(saved["model"])


def test_a_list_of_ones_own_without_a_model_warns_once(tmp_path):
    callbacks = CallbackList([ModelCheckpoint(tmp_path)])
    with pytest.warns(
        UserWarning, match=r"knows no model here.*\n  do: +CallbackList\(\[...\], model=model, optimizer=optimizer\)"
    ) as seen:
        callbacks.on_epoch_end(0, {"val_loss": 1.0})
        callbacks.on_epoch_end(1, {"val_loss": 2.0})
    assert len(seen) == 1
    assert gl.load(tmp_path / "epoch_0001.safetensors")["logs"] == {"val_loss": 1.0}
    model = gl.nn.Linear(1, 1)
    optimizer = gl.optim.SGD(model.parameters(), lr=0.5)
    callbacks = CallbackList([ModelCheckpoint(tmp_path / "x.pt"), EarlyStopping()], model=model, optimizer=optimizer)
    callbacks.on_epoch_end(0, {"val_loss": 1.0})
    saved = gl.load(tmp_path / "x.pt")
    assert saved["optimizer"]["param_groups"][0]["lr"] == 0.5
    assert saved["callbacks"]["1.EarlyStopping"]["best"] == 1.0  # of this epoch: checkpoints come last


def test_without_validation_the_end_is_saved_with_a_warning(tmp_path):
    loop = make([ModelCheckpoint(tmp_path / "best.pt")])
    with pytest.warns(UserWarning, match="monitors 'val_loss', which never had a value; it saves the state at the end"):
        loop.fit(loader(), epochs=2)
    assert gl.load(tmp_path / "best.pt")["epoch"] == 2


@pytest.mark.parametrize(
    ("path", "options", "text"),
    [
        ("x.pt", {"keep": 2}, r"keep and name are for a folder\n.*\n  do: +end the path with a slash"),
        ("x.pt", {"every_steps": 2}, "do: +give a folder, or monitor=None"),
        ("x/", {"every": 0}, "every counts epochs"),
        ("x/", {"every_steps": 0}, "every_steps counts updates"),
        ("x/", {"keep": 0}, "keep counts files"),
    ],
)
def test_bad_options(tmp_path, path, options, text):
    with pytest.raises(OptionError, match=text):
        ModelCheckpoint(f"{tmp_path}/{path}", **options)


def test_a_name_with_an_unknown_field(tmp_path):
    with pytest.raises(
        CallbackError,
        match=r"the name '\{val_lss\}' cannot be made .*\n +expected: +fields among epoch, step, val_loss",
    ):
        CallbackList([ModelCheckpoint(tmp_path, name="{val_lss}")]).on_epoch_end(0, {"val_loss": 1.0})


# --- a full disk


def full(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_good_checkpoint_and_training_goes_on(tmp_path, monkeypatch):
    checkpoint = ModelCheckpoint(tmp_path / "best.pt", monitor="train_loss")
    loop = make([checkpoint])
    loop.fit(loader(), epochs=1)
    good = (tmp_path / "best.pt").read_bytes()
    best = checkpoint.best
    monkeypatch.setattr("os.fsync", full)
    with pytest.warns(
        UserWarning, match=r"could not write .*best.pt: No space left on device; training goes on\n.*stays as it is"
    ) as seen:
        loop.fit(loader(), epochs=4)
    assert len(seen) == 1
    assert loop.epoch == 4
    assert files(tmp_path) == ["best.pt"]
    assert (tmp_path / "best.pt").read_bytes() == good
    assert checkpoint.best == best
    monkeypatch.undo()
    loop.fit(loader(), epochs=5)
    assert gl.load(tmp_path / "best.pt")["epoch"] == 5


def test_a_full_disk_with_no_checkpoint_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", full)
    loop = make([ModelCheckpoint(tmp_path / "best.pt", monitor="train_loss")])
    with pytest.raises(
        CallbackError, match=r"raised CheckpointError in on_epoch_end: .*No space left on device\n.*\n +do: +make room"
    ) as info:
        loop.fit(loader(), epochs=2)
    assert isinstance(info.value.__cause__, OSError)
    assert files(tmp_path) == []
    assert any(
        "ModelCheckpoint raised CheckpointError" in note for note in info.value.__notes__
    )  # saving "interrupted"


# --- runs that were cut


def everything(folder):
    """Callbacks with states."""
    return [
        EMACallback(decay=0.8),
        SWACallback(start=2, lr=0.01, anneal_epochs=2, copy_at_end=False, evaluate=False),
        EarlyStopping(patience=30, restore_best=False),
        CSVLogger(folder / "log.csv"),
        LearningRateMonitor(),
        ModelCheckpoint(folder / "all", keep=2),
        ModelCheckpoint(folder / "best.pt"),
    ]


def run(folder, epochs, resume=None, **options):
    callbacks = everything(folder)
    scheduled = options.pop("scheduled", False)
    loop = make(callbacks, seed=3 if resume is None else 99, **options)
    if scheduled:
        schedule = gl.optim.lr_scheduler.CosineAnnealingLR(loop.optimizer, T_max=18)
        loop.add_callback(LRSchedulerCallback(schedule, every="step"))
    if resume is not None:
        loop.load_state_dict(gl.load(resume))
    loop.fit(loader(), loader(16, 4, shuffle=False), epochs=epochs)
    return loop


def plain_state(loop, folder):
    """All of a loop's state, without what names the folder."""
    state = loop.state_dict()
    leaves = gl.tree.paths(state)
    return {
        path: x.detach().numpy() if isinstance(x, gl.Tensor) else x
        for path, x in leaves
        if not (isinstance(x, str) and str(folder) in x)
    }


def assert_same_state(a, b):
    assert a.keys() == b.keys()
    different = [k for k in a if not np.array_equal(a[k], b[k], equal_nan=isinstance(a[k], np.ndarray))]
    assert different == []


@pytest.mark.filterwarnings("ignore:SWACallback")
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"scheduled": True}, {"compile": False}])
def test_a_run_that_was_cut_equals_the_whole_one(tmp_path, options, backend):
    whole = run(tmp_path / "whole", 6, **options)
    run(tmp_path / "cut", 3, **options)
    cut = run(tmp_path / "cut", 6, resume=tmp_path / "cut/all/epoch_0003.safetensors", **options)
    assert cut.history._logs == whole.history._logs
    assert_same_state(plain_state(cut, tmp_path), plain_state(whole, tmp_path))
    assert (tmp_path / "cut/log.csv").read_text() == (tmp_path / "whole/log.csv").read_text()
    assert files(tmp_path / "cut/all") == files(tmp_path / "whole/all")
    best = [weights_in(tmp_path / name / "best.pt") for name in ("cut", "whole")]
    assert same(*best)


def weights_in(file):
    return {n: t.numpy() for n, t in gl.load(file)["model"].items()}


def test_a_run_that_was_cut_in_mid_epoch_equals_the_whole_one(tmp_path):
    whole = make()
    whole.fit(loader(), loader(16, 4, shuffle=False), epochs=4)
    cut = make([ModelCheckpoint(tmp_path, every_steps=1)])
    cut.fit(loader(), loader(16, 4, shuffle=False), epochs=2)
    for step in (1, 2, 3, 4, 5):
        loop = make(seed=77)
        loop.load_state_dict(gl.load(tmp_path / f"step_0000000{step}.safetensors"))
        loop.fit(loader(), loader(16, 4, shuffle=False), epochs=4)
        assert loop.history["val_loss"] == whole.history["val_loss"], step
        np.testing.assert_allclose(loop.history["train_loss"], whole.history["train_loss"], rtol=1e-12)
        assert same(weights(loop), weights(whole))


@pytest.mark.parametrize("at", [0, 1, 4, 5])
def test_ctrl_c_finishes_the_step_saves_and_returns_and_the_run_goes_on_bit_equal(tmp_path, at):
    whole = make()
    whole.fit(loader(), loader(16, 4, shuffle=False), epochs=3)

    def interrupt(step):
        if step == at:
            os.kill(os.getpid(), signal.SIGINT)

    loop = make([LambdaCallback(on_step_begin=interrupt), ModelCheckpoint(tmp_path / "best.pt")])
    loop.fit(loader(), loader(16, 4, shuffle=False), epochs=3)
    assert (loop.step, loop.interrupted) == (at + 1, True)
    assert loop.callbacks.stop_reason == "interrupted by Ctrl-C"
    again = make(seed=55)
    again.load_state_dict(gl.load(tmp_path / "best.interrupted.pt"))
    again.fit(loader(), loader(16, 4, shuffle=False), epochs=3)
    assert again.history["val_loss"] == whole.history["val_loss"]
    assert same(weights(again), weights(whole))


def test_ctrl_c_while_validating(tmp_path):
    whole = make()
    whole.fit(loader(), loader(16, 4, shuffle=False), epochs=3)

    class Interrupting:
        def __init__(self, data):
            self.data = data

        def __iter__(self):
            os.kill(os.getpid(), signal.SIGINT)
            return iter(self.data)

    loop = make([ModelCheckpoint(tmp_path)])
    loop.fit(loader(), Interrupting(loader(16, 4, shuffle=False)), epochs=3)
    assert (loop.epoch, loop.step) == (1, 3)
    again = make(seed=55)
    again.load_state_dict(gl.load(tmp_path / "interrupted.safetensors"))
    again.fit(loader(), loader(16, 4, shuffle=False), epochs=3)
    assert same(weights(again), weights(whole))


def test_when_a_callback_raises_it_is_named_and_the_run_is_saved(tmp_path):
    def fails(step, logs):
        if step == 4:
            raise ZeroDivisionError("no good")

    loop = make([ModelCheckpoint(tmp_path), LambdaCallback(on_step_end=fails)])
    with pytest.raises(
        CallbackError, match="the callback LambdaCallback raised ZeroDivisionError in on_step_end: no good"
    ):
        loop.fit(loader(), epochs=3)
    assert files(tmp_path) == ["epoch_0001.safetensors", "interrupted.safetensors"]
    again = make(seed=55)
    again.load_state_dict(gl.load(tmp_path / "interrupted.safetensors"))
    assert (again.epoch, again.step) == (1, 5)
    again.fit(loader(), epochs=3)
    whole = make()
    whole.fit(loader(), epochs=3)
    assert same(weights(again), weights(whole))


def test_checkpoints_are_written_by_save(tmp_path, monkeypatch):
    """Whose files appear whole or not at all (tests/tensor/test_serialization.py)."""
    seen = []
    monkeypatch.setattr(module, "save", lambda state, file: seen.append((set(state), file)))
    make([ModelCheckpoint(tmp_path / "x.pt", monitor=None)]).fit(loader(), epochs=1)
    assert seen[0][1] == tmp_path / "x.pt"
    assert {"epoch", "step", "history", "model", "optimizer", "scheduler", "callbacks", "data", "generator"} < seen[0][
        0
    ]
