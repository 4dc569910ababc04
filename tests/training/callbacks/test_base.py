"""Callbacks, and the list that tells them of events."""

import contextlib

import pytest

import gradloom as gl
from gradloom.training.callbacks import EVENTS, Callback, CallbackError, CallbackList, LambdaCallback
from gradloom.training.callbacks.base import find_monitor, listens


class Recorder(Callback):
    """Hears of everything."""

    def __init__(self, name, into, order=0):
        self.name, self.into, self.order = name, into, order


def _event(event):
    return lambda self, *args: self.into.append((self.name, event, *args))


for _name in EVENTS:
    setattr(Recorder, _name, _event(_name))


def test_events_in_order():
    seen = []
    callbacks = CallbackList([Recorder("late", seen, order=1), Recorder("a", seen), Recorder("b", seen)])
    calls = {
        "on_train_begin": (), "on_epoch_begin": (0,), "on_step_begin": (3,), "on_step_end": (3, {"x": 1.0}),
        "on_validation_end": (4, {}), "on_epoch_end": (0, {"y": 2.0}), "on_exception": (ValueError("no"),), "on_train_end": (),
    }  # fmt: skip
    assert set(calls) == set(EVENTS)
    for event, args in calls.items():
        seen.clear()
        getattr(callbacks, event)(*args)
        assert seen == [(name, event, *args) for name in ("a", "b", "late")]


def test_only_those_that_override_are_told():
    callbacks = CallbackList([Callback(), LambdaCallback(on_step_end=lambda step, logs: None)])
    assert [event for event in EVENTS if callbacks.hears(event)] == ["on_step_end"]
    assert not listens(Callback(), "on_step_end")


def test_logs_may_be_left_out():
    seen = []
    callbacks = CallbackList([Recorder("a", seen)])
    callbacks.on_epoch_end(0)
    callbacks.on_step_end(1)
    callbacks.on_validation_end(2)
    assert seen == [("a", "on_epoch_end", 0, {}), ("a", "on_step_end", 1, {}), ("a", "on_validation_end", 2, {})]


def test_stopping():
    callbacks = CallbackList([LambdaCallback(), Callback])
    first, second = callbacks
    assert isinstance(second, Callback) and len(callbacks) == 2
    second.stop("enough")
    assert callbacks.should_stop and callbacks.stop_reason == "enough"
    first.stop()
    assert callbacks.stop_reason == "enough"
    callbacks.on_train_begin()
    assert not callbacks.should_stop and callbacks.stop_reason == ""
    Callback().stop("nobody listens")


def test_what_is_trained():
    model = gl.nn.Linear(1, 1)
    optimizer = gl.optim.SGD(model.parameters(), lr=0.1)
    (callback,) = CallbackList([Callback()], model=model, optimizer=optimizer)
    assert callback.model is model and callback.optimizer is optimizer and callback.loop is None
    alone = Callback()
    assert alone.model is alone.optimizer is alone.loop is None
    loop = gl.training.TrainingLoop(model, optimizer, callbacks=CallbackList([alone]))
    assert alone.loop is loop and alone.model is model and alone.optimizer is optimizer


def test_an_error_names_callback_and_event():
    def fail(epoch):
        raise ValueError("the disk is full")

    callbacks = CallbackList([LambdaCallback(on_epoch_begin=fail)])
    with pytest.raises(CallbackError) as caught:
        callbacks.on_epoch_begin(0)
    assert "the callback LambdaCallback raised ValueError in on_epoch_begin: the disk is full" in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError) and isinstance(caught.value, RuntimeError)


def test_what_it_raises_on_purpose_is_not_wrapped():
    class Strict(Callback):
        passes = (LookupError,)

        def on_epoch_begin(self, epoch):
            raise KeyError("as it is")

    with pytest.raises(KeyError, match="as it is"):
        CallbackList([Strict()]).on_epoch_begin(0)


def test_all_hear_of_an_error():
    heard = []

    class Broken(Callback):
        def on_exception(self, error):
            raise OSError("no space")

    error = ValueError("first")
    CallbackList([Broken(), LambdaCallback(on_exception=heard.append)]).on_exception(error)
    assert heard == [error]
    assert error.__notes__ == ["and then the callback Broken raised OSError: no space"]


def test_evaluation_is_entered_and_left():
    seen = []

    class Around(Callback):
        @contextlib.contextmanager
        def evaluation(self):
            seen.append("in")
            yield
            seen.append("out")

    with CallbackList([Around(), Callback(), Around()]).evaluation():
        assert seen == ["in", "in"]
    assert seen == ["in", "in", "out", "out"]


def test_states_by_place_and_class():
    class Counter(Callback):
        count = 0

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state_dict):
            self.count = state_dict["count"]

    first = CallbackList([Callback(), Counter(), Counter()])
    first.callbacks[1].count, first.callbacks[2].count = 3, 4
    state = first.state_dict()
    assert state == {"1.Counter": {"count": 3}, "2.Counter": {"count": 4}}
    second = CallbackList([Callback(), Counter(), Callback()])
    second.load_state_dict(state)
    assert second.callbacks[1].count == 3


def test_what_is_no_callback():
    with pytest.raises(
        gl.GradloomError, match=r"that is no callback[\s\S]*function[\s\S]*LambdaCallback\(on_epoch_end"
    ):
        CallbackList([lambda: None])
    with pytest.raises(gl.GradloomError, match=r"there is no event 'on_batch_end'[\s\S]*on_step_end"):
        LambdaCallback(on_batch_end=print)


def test_monitors():
    logs = {"train_loss": 1.0, "val_accuracy": 0.5, "val_auc": 0.6, "lr": 0.1}
    assert find_monitor(logs, "val_accuracy", "X") == 0.5
    assert find_monitor(logs, "val_acc", "X") == 0.5
    assert find_monitor({"train_loss": 1.0}, "val_loss", "X") is None
    with pytest.raises(gl.GradloomError, match=r"X monitors 'val_a', which is ambiguous[\s\S]*val_accuracy, val_auc"):
        find_monitor(logs, "val_a", "X")
    with pytest.raises(
        gl.GradloomError, match=r"X monitors 'val_loss', which is not logged[\s\S]*train_loss, val_accuracy"
    ):
        find_monitor(logs, "val_loss", "X")
