"""What goes wrong in training, and what is said and saved then."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import gradloom as gl
from gradloom import nn
from gradloom.training import TrainingLoop
from gradloom.training.callbacks import (
    Callback,
    CallbackError,
    EarlyStopping,
    LambdaCallback,
    ModelCheckpoint,
    TerminateOnNaN,
)  # fmt: skip
from gradloom.training.metrics import Accuracy


def data(n=32, batch=8):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    y = x.sum(1, keepdims=True)
    return [(gl.tensor(x[i : i + batch]), gl.tensor(y[i : i + batch])) for i in range(0, n, batch)]


def make(loss=None, lr=0.1, **options):
    model = nn.Linear(3, 1)
    return TrainingLoop(model, gl.optim.SGD(model.parameters(), lr=lr), loss or nn.MSELoss(), **options)


@pytest.mark.parametrize("compile", [True, False])
def test_targets_are_not_broadcast(backend, compile):
    loop = make(compile=compile)
    before = loop.model.weight.detach().numpy().copy()
    batch = [(x, y.reshape(-1)) for x, y in data()]
    with pytest.raises(gl.GradloomError, match=r"(?s)8, 1.*8\b"):
        loop.fit(batch)
    with pytest.raises(gl.GradloomError, match=r"(?s)8, 1.*8\b"):
        loop.evaluate(batch)
    np.testing.assert_array_equal(loop.model.weight.detach().numpy(), before)


def test_ragged_batches():
    loop = make()
    good = data()
    with pytest.raises(gl.GradloomError, match=r"(?s)8, 3|8, 1"):
        loop.fit([good[0], (good[1][0], good[1][1][:5])])
    with pytest.raises(gl.GradloomError, match="4"):
        loop.fit([good[0], (gl.ones(8, 4), good[1][1])])
    loop.fit(good, epochs=3)  # it is as usable as before
    assert math.isfinite(loop.history["train_loss"][-1])


def test_no_batches():
    loop = make()
    with pytest.raises(gl.GradloomError, match="no batch"):
        loop.fit([])
    with pytest.raises(gl.GradloomError, match="no batch"):
        loop.fit(data(), [])
    with pytest.raises(gl.GradloomError, match="no batch"):
        loop.predict([])
    with pytest.raises(gl.GradloomError, match="no batch"):
        loop.evaluate([])
    with pytest.raises(gl.GradloomError, match="no batch"):
        loop.fit([], sanity=True)


def test_a_monitor_that_is_not_there():
    with pytest.raises(
        CallbackError, match=r"EarlyStopping[\s\S]*on_epoch_end[\s\S]*'val_auc'[\s\S]*train_loss, val_loss, lr"
    ):
        make(callbacks=[EarlyStopping("val_auc")]).fit(data(), data())
    optimizer_loop = make()
    optimizer_loop.scheduler = gl.optim.lr_scheduler.ReduceLROnPlateau(optimizer_loop.optimizer)
    optimizer_loop.fit(data())  # of the training loss, without validation


def test_a_loss_that_is_not_finite():
    history = make(lr=1e30).fit(data(), epochs=2)
    assert not math.isfinite(history["train_loss"][-1])
    loop = make(lr=1e30, callbacks=[TerminateOnNaN(every=1)])
    with pytest.warns(RuntimeWarning, match="train_loss is"):
        loop.fit(data(), epochs=50)
    assert loop.epoch == 1 and "TerminateOnNaN" in loop.callbacks.stop_reason


def test_a_callback_that_raises(tmp_path):
    heard = []

    def fail(step, logs):
        if step == 2:
            raise ZeroDivisionError("in the callback")

    file = tmp_path / "model.safetensors"
    loop = make(
        callbacks=[
            LambdaCallback(on_step_end=fail), ModelCheckpoint(file),
            LambdaCallback(on_exception=heard.append, on_train_end=lambda: heard.append("end")),
        ]
    )  # fmt: skip
    with pytest.raises(CallbackError, match=r"LambdaCallback raised ZeroDivisionError in on_step_end: in the callback"):
        loop.fit(data(), data(), epochs=3)
    assert isinstance(heard[0], CallbackError) and heard[1:] == ["end"]
    saved = gl.load(tmp_path / "model.interrupted.safetensors")
    assert saved["step"] == 3 and saved["data"]["batch"] == 3


def test_errors_of_the_model_reach_callbacks():
    heard = []
    loop = make(callbacks=[LambdaCallback(on_exception=heard.append)])
    with pytest.raises(gl.GradloomError) as caught:
        loop.fit([(gl.ones(8, 4), gl.ones(8, 1))])
    assert heard == [caught.value]


def test_a_cut_epoch_with_other_data_begins_anew():
    raised = []

    def fail(step, logs):
        if step == 1 and not raised:
            raised.append(step)
            raise ValueError("once")

    loop = make(lr=0.0, callbacks=[LambdaCallback(on_step_end=fail)])
    with pytest.raises(CallbackError):
        loop.fit(data())
    other = data(64)[4:]
    assert loop.fit(other, epochs=1)["train_loss"][0] == pytest.approx(loop.evaluate(other)["val_loss"], rel=1e-6)


WRONG = [
    ({"accumulate": 0}, "accumulate is a count[\\s\\S]*1 or more[\\s\\S]*0"),
    ({"accumulate": 1.5}, "accumulate is a count[\\s\\S]*1.5"),
    ({"clip_norm": 1.0, "clip_value": 1.0}, "clip_norm and clip_value exclude each other"),
    ({"accumulate": 2, "train_step": lambda *args: None}, "accumulate parts the step in two"),
    ({"metrics": [3]}, "that is no metric[\\s\\S]*int"),
    ({"metrics": [Accuracy(), Accuracy(top_k=2), Accuracy()]}, "two metrics are called 'accuracy'[\\s\\S]*dict"),
    ({"callbacks": [print]}, "that is no callback"),
]


@pytest.mark.parametrize(("options", "text"), WRONG, ids=[str(list(o)) for o, _ in WRONG])
def test_wrong_arguments(options, text):
    with pytest.raises(gl.GradloomError, match=text):
        make(**options)


@pytest.mark.parametrize("name", ["epochs", "steps", "validate_every", "validate_every_steps", "limit"])
def test_wrong_counts(name):
    for value in (-1, 1.5, "3", True):
        with pytest.raises(gl.GradloomError, match=f"{name} is a count"):
            make().fit(data(), **{name: value})
    if name not in ("epochs", "steps"):
        with pytest.raises(gl.GradloomError, match=f"{name} is a count"):
            make().fit(data(), **{name: 0})


def test_no_model_and_no_optimizer():
    with pytest.raises(gl.GradloomError, match=r"that is no model[\s\S]*gradloom.nn.Module[\s\S]*given: *function"):
        TrainingLoop(lambda x: x, gl.training.optimizers.SGD(0.1), nn.MSELoss()).fit(data())
    with pytest.raises(gl.GradloomError, match=r"that is no optimizer[\s\S]*given: *str"):
        TrainingLoop(nn.Linear(3, 1), "adam", nn.MSELoss()).fit(data())


def test_a_state_of_something_else():
    first = make()
    first.fit(data())
    state = first.state_dict()
    other = TrainingLoop(m := nn.Linear(2, 1), gl.optim.SGD(m.parameters(), lr=0.1), nn.MSELoss())
    with pytest.raises((gl.GradloomError, RuntimeError), match="size mismatch for weight"):
        other.load_state_dict(state)


# ------------------------------------------------------------------------------------------------- Ctrl-C

PROGRAM = """
import sys, time
import numpy as np
import gradloom as gl
from gradloom import nn
from gradloom.training import TrainingLoop
from gradloom.training.callbacks import LambdaCallback, ModelCheckpoint

model = nn.Linear(3, 1)
x = np.ones((64, 3), np.float32)
batches = [(gl.tensor(x[:1]), gl.tensor(x[:1, :1]))] * 400

def step(step, logs):
    print("step", step, flush=True)
    time.sleep({sleep})

loop = TrainingLoop(model, gl.optim.SGD(model.parameters(), lr=0.1), nn.MSELoss(),
                    callbacks=[LambdaCallback(on_step_end=step), ModelCheckpoint(sys.argv[1])])
loop.fit(batches, epochs=3)
print("fit returned", loop.step, loop.interrupted, loop.callbacks.stop_reason, flush=True)
"""


def start(tmp_path, sleep):
    (tmp_path / "program.py").write_text(PROGRAM.replace("{sleep}", str(sleep)))
    path = os.pathsep.join([str(Path(gl.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, tmp_path / "program.py", tmp_path / "model.safetensors"],
        env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "step 0\n"
    return process


def test_ctrl_c_finishes_the_step_and_saves(tmp_path):
    process = start(tmp_path, 0.02)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "True interrupted by Ctrl-C" in out.splitlines()[-1]
    saved = gl.load(tmp_path / "model.interrupted.safetensors")
    assert saved["step"] == int(out.splitlines()[-1].split()[2]) == saved["data"]["batch"] < 400


def test_a_second_ctrl_c_ends_it_at_once(tmp_path):
    process = start(tmp_path, 30)
    begin = time.perf_counter()
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert time.perf_counter() - begin < 15
    assert process.returncode != 0 and "KeyboardInterrupt" in errors and "fit returned" not in out
    assert (tmp_path / "model.interrupted.safetensors").exists()


def test_ctrl_c_elsewhere_is_as_before():
    before = signal.getsignal(signal.SIGINT)
    loop = make(callbacks=[Callback()])
    loop.fit(data())
    assert signal.getsignal(signal.SIGINT) is before
