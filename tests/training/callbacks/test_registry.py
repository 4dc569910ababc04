"""All callbacks: documented, in the table of docs/callbacks.md with their events, and with a state that a file can hold."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import gradloom as gl
from gradloom.training import callbacks as package
from gradloom.training.callbacks import EVENTS, Callback, CallbackError, CallbackList, LambdaCallback
from gradloom.training.callbacks.base import listens

PAGE = Path(__file__).parents[3] / "docs/callbacks.md"
CALLBACKS = {
    name: kind
    for name in package.__all__
    if inspect.isclass(kind := getattr(package, name)) and issubclass(kind, Callback) and kind is not Callback
}
#: How each is made; those that are not here are made without arguments.
MADE = {
    "TimeLimit": ("1h",), "ModelCheckpoint": ("{folder}/checkpoints/",), "CSVLogger": ("{folder}/x.csv",),
    "JSONLinesLogger": ("{folder}/x.jsonl",), "TensorBoardLogger": ("{folder}/logs",), "LearningRateFinder": ([],),
    "GradientAccumulationSchedule": ({0: 1},), "RunFolder": ("{folder}/run",),
}  # fmt: skip
EXTRAS = {"TensorBoardLogger": "tensorboardX", "WandbLogger": "wandb", "MLflowLogger": "mlflow"}


def made(name, folder):
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    if name == "LRSchedulerCallback":
        optimizer = gl.optim.SGD(gl.nn.Linear(1, 1).parameters(), lr=0.1)
        return CALLBACKS[name](gl.optim.lr_scheduler.StepLR(optimizer, 1))
    args = [a.format(folder=folder) if isinstance(a, str) else a for a in MADE.get(name, ())]
    return CALLBACKS[name](*args)


def table():
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.M)
    return {name: (what, events) for name, what, events in rows}


def test_the_table_has_all_of_them():
    assert sorted(table()) == sorted(CALLBACKS)


@pytest.mark.parametrize("name", sorted(CALLBACKS))
def test_the_table_has_their_events(name):
    heard = [e for e in EVENTS if getattr(CALLBACKS[name], e) is not getattr(Callback, e)]
    expected = "any" if name == "LambdaCallback" else ", ".join(e.removeprefix("on_") for e in heard)
    assert table()[name][1] == expected


@pytest.mark.parametrize("name", sorted(CALLBACKS))
def test_they_are_documented_with_an_example(name):
    doc = inspect.getdoc(CALLBACKS[name])
    assert name in EXTRAS or ">>> " in doc
    assert "Args:" in doc
    for event in EVENTS:
        assert getattr(CALLBACKS[name], event).__doc__


@pytest.mark.parametrize("name", sorted(CALLBACKS))
def test_their_state_can_be_saved_and_taken_over(name, tmp_path):
    callback = made(name, tmp_path)
    gl.save(callback.state_dict(), tmp_path / "state")
    state = gl.load(tmp_path / "state")
    other = made(name, tmp_path)
    other.load_state_dict(state)
    assert str(other.state_dict()) == str(state)


def test_there_are_at_most_eight_events():
    assert len(EVENTS) == 8
    assert [n for n in vars(Callback) if n.startswith("on_")] == list(EVENTS)


def test_modules_are_imported_without_optional_packages():
    for module in ("loggers", "trackers", "progress"):
        source = inspect.getsource(importlib.import_module(f"gradloom.training.callbacks.{module}"))
        assert not re.search(r"^(import|from) (tensorboardX|wandb|mlflow|rich)", source, re.M)


# --- the list


def test_order_and_which_events_are_heard():
    told = []
    first = LambdaCallback(on_epoch_begin=lambda e: told.append("first"))
    last = LambdaCallback(on_epoch_begin=lambda e: told.append("last"))
    last.order = 1
    callbacks = CallbackList([last, first])
    callbacks.append(LambdaCallback(on_epoch_begin=lambda e: told.append("second")))
    callbacks.on_epoch_begin(0)
    assert told == ["first", "second", "last"]
    assert callbacks.hears("on_epoch_begin") and not callbacks.hears("on_step_end")
    assert listens(first, "on_epoch_begin") and not listens(first, "on_epoch_end")
    assert len(callbacks) == 3 and next(iter(callbacks)) is last


def test_errors_of_the_list():
    with pytest.raises(
        gl.errors.OptionError, match=r"that is no callback\n.*\n  given:    function\n  do:       wrap functions"
    ):
        CallbackList([print_nothing])
    with pytest.raises(gl.errors.OptionError, match="there is no event 'on_batch_end'"):
        LambdaCallback(on_batch_end=print_nothing)
    callbacks = CallbackList([LambdaCallback(on_epoch_begin=lambda e: {}["x"])])
    with pytest.raises(
        CallbackError, match="the callback LambdaCallback raised KeyError in on_epoch_begin: 'x'"
    ) as info:
        callbacks.on_epoch_begin(0)
    assert isinstance(info.value.__cause__, KeyError)


def print_nothing():
    return None


def test_all_hear_of_an_exception():
    heard = []

    def raises(error):
        raise OSError("full")

    callbacks = CallbackList([LambdaCallback(on_exception=raises), LambdaCallback(on_exception=heard.append)])
    error = ValueError("first")
    callbacks.on_exception(error)
    assert heard == [error]
    assert error.__notes__ == ["and then the callback LambdaCallback raised OSError: full"]
