"""Early stopping, values that are not finite, time limits."""

import datetime
import re
import time
import warnings

import numpy as np
import pytest

import gradloom as gl
from gradloom.errors import OptionError
from gradloom.training.callbacks import (
    CallbackError,
    CallbackList,
    EarlyStopping,
    LambdaCallback,
    TerminateOnNaN,
    TimeLimit,
)
from training.callbacks.helpers import loader, make, same, weights


def epochs_until_stop(stopping, values, name="val_loss"):
    callbacks = CallbackList([stopping])
    for epoch, value in enumerate(values):
        callbacks.on_epoch_end(epoch, {} if value is None else {name: value})
        if callbacks.should_stop:
            return epoch + 1
    return None


@pytest.mark.parametrize("patience", [1, 2, 3, 10])
def test_a_flat_log_ends_training_after_one_and_patience_epochs(patience):
    assert epochs_until_stop(EarlyStopping(patience=patience), [1.0] * 50) == 1 + patience


def test_patience_zero_ends_at_the_first_epoch_without_improvement():
    assert epochs_until_stop(EarlyStopping(patience=0), [3.0, 2.0, 2.5, 1.0]) == 3


@pytest.mark.parametrize(
    ("options", "values", "expected"),
    [
        ({"patience": 2}, [3, 2, 2.5, 1.9, 2, 2, 0], 6),  # an improvement starts the count anew
        ({"patience": 2, "min_delta": 0.1}, [1, 0.95, 0.92, 0.5], 3),
        ({"patience": 2, "min_delta": 0.1}, [1, 0.95, 0.89, 0.5], None),  # what counts is the distance to the best
        ({"patience": 1, "baseline": 0.5}, [0.6, 0.4], 1),
        ({"patience": 1}, [float("nan"), 1.0], 1),
        ({"patience": 2}, [float("nan"), 1.0, float("nan"), 0.5], None),
        ({"patience": 1}, [1.0, None, None, 1.0], 4),  # epochs without validation do not count
        ({"patience": 1, "mode": "max"}, [1.0, 2.0, 1.5], 3),
    ],
)
def test_what_counts_as_an_improvement(options, values, expected):
    assert epochs_until_stop(EarlyStopping(**options), values) == expected


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("val_loss", "min"), ("val_acc", "max"), ("val_accuracy", "max"), ("train_mse", "min"), ("val_f1_macro", "max"),
     ("val_top_k_accuracy", "max"), ("val_mean_absolute_error", "min")],
)  # fmt: skip
def test_auto_takes_the_mode_from_the_name(monitor, mode):
    assert EarlyStopping(monitor).mode == mode


def test_auto_takes_the_mode_from_the_metric():
    class Score:
        name, higher_is_better = "score", True

        def update(self, outputs, targets):
            self.value = 1.0

        def compute(self):
            return self.value

        def reset(self):
            self.value = 0.0

    stopping = EarlyStopping("val_score", patience=2)
    make([stopping], metrics=[Score()]).fit(loader(), loader(), epochs=2)
    assert (stopping.mode, stopping.best) == ("max", 1.0)
    with pytest.raises(CallbackError, match=r"cannot tell whether a high 'val_score' is good\n  do: +give mode='min'"):
        CallbackList([EarlyStopping("val_score")]).on_epoch_end(0, {"val_score": 1.0})


def test_a_monitor_may_be_abbreviated_and_errors_name_the_logs():
    stopping = EarlyStopping("val_acc")
    CallbackList([stopping]).on_epoch_end(0, {"val_loss": 1.0, "val_accuracy": 0.5})
    assert stopping.best == 0.5
    with pytest.raises(
        CallbackError, match=r"EarlyStopping monitors 'val_los', which is ambiguous\n  expected: +val_loss, val_loss2"
    ):
        CallbackList([EarlyStopping("val_los", mode="min")]).on_epoch_end(0, {"val_loss": 1.0, "val_loss2": 0.5})
    with pytest.raises(
        CallbackError, match=r"monitors 'val_f1', which is not logged\n +expected: +train_loss, val_loss"
    ) as info:
        make([EarlyStopping("val_f1")]).fit(loader(), loader(), epochs=2)
    assert isinstance(info.value.__cause__, OptionError)
    with pytest.raises(CallbackError, match="'val_loss' is not a number"):
        CallbackList([EarlyStopping()]).on_epoch_end(0, {"val_loss": [1.0, 2.0]})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"patience": -1}, r"patience counts epochs\n  expected: 0 or more\n  given:    -1"),
        ({"min_delta": -0.1}, "min_delta"),
        ({"mode": "lowest"}, r"mode\n  expected: 'min', 'max' or 'auto'\n  given:    'lowest'"),
    ],
)
def test_bad_options_of_early_stopping(options, text):
    with pytest.raises(OptionError, match=text):
        EarlyStopping(**options)


def test_it_stops_the_loop_and_restores_the_best_weights():
    kept, stopping = [], EarlyStopping("val_loss", patience=2, restore_best=True)
    loop = make([stopping], lr=0.0)
    # A rate that grows makes the loss worse after a while.
    loop.add_callback(LambdaCallback(on_epoch_end=lambda epoch, logs: kept.append(weights(loop))))
    loop.add_callback(
        LambdaCallback(on_epoch_begin=lambda e: loop.optimizer.param_groups[0].update(lr=0.02 if e < 3 else 3.0))
    )
    history = loop.fit(loader(), loader(), epochs=50)
    assert stopping.stopped_epoch == stopping.best_epoch + 2 == len(history["val_loss"]) - 1 < 49
    assert stopping.best == min(history["val_loss"])
    assert same(weights(loop), kept[stopping.best_epoch])
    assert loop.callbacks.stop_reason.startswith("EarlyStopping: val_loss has not improved on ")


def test_restoring_needs_a_model_and_works_in_a_loop_of_ones_own():
    with pytest.raises(
        CallbackError, match=re.escape("do:       give it to the list: CallbackList([...], model=model)")
    ):
        CallbackList([EarlyStopping(restore_best=True)]).on_epoch_end(0, {"val_loss": 1.0})
    model = gl.nn.Linear(1, 1)
    callbacks = CallbackList([EarlyStopping(patience=1, restore_best=True)], model=model)
    for epoch, loss in enumerate([2.0, 1.0, 3.0]):
        with gl.no_grad():
            model.weight.fill_(epoch)
        callbacks.on_epoch_end(epoch, {"val_loss": loss})
    assert callbacks.should_stop
    assert model.weight.item() == 1.0


def test_without_validation_it_warns():
    with pytest.warns(UserWarning, match="there was no validation"):
        make([EarlyStopping()]).fit(loader(), epochs=2)


def test_a_run_that_goes_on_has_its_patience_again():
    stopping = EarlyStopping(patience=2, min_delta=100.0)
    loop = make([stopping])
    assert len(loop.fit(loader(), loader(), epochs=20)["val_loss"]) == 3
    assert len(loop.fit(loader(), loader(), epochs=20)["val_loss"]) == 5


# --- TerminateOnNaN


class Root(gl.nn.Module):
    """Its gradient is infinite at 0, while its loss is finite."""

    def forward(self, x):
        return (x - x.min()).sqrt()  # the line that is to be named


class Big(gl.nn.Module):
    def forward(self, x):
        y = (x * 1e30).exp()
        return y - y * 2


def bad_run(part, **options):
    gl.manual_seed(0)
    model = gl.nn.Sequential(gl.nn.Linear(3, 3), part, gl.nn.Linear(3, 1))
    callback = TerminateOnNaN(every=options.pop("every", 2), replay=options.pop("replay", True))
    loop = make([callback], model=model, optimizer=gl.optim.SGD(model.parameters(), lr=0.01), **options)
    with pytest.warns(RuntimeWarning, match="TerminateOnNaN: train_loss is (nan|inf)"), np.errstate(all="ignore"):
        warnings.filterwarnings("ignore", message=".*encountered.*")
        loop.fit(loader(), epochs=5)
    return callback.report, loop


@pytest.mark.parametrize("compile", [True, False])
def test_the_operation_whose_backward_made_it_is_named(compile, backend):
    report, loop = bad_run(Root(), compile=compile)
    assert "train_loss is nan at step 1" in report
    assert "a gradient of inf first in step 0, made by the backward of 'sqrt'" in report
    assert re.search(
        r"where: +module 1 \(Root\)\n +\S*test_stopping.py:\d+ in forward: return \(x - x.min\(\)\).sqrt\(\)", report
    )
    assert "add a small eps inside sqrt" in report
    assert loop.step == 2


def test_the_operation_of_the_forward_is_named_with_what_made_nan_of_it(backend):
    report, _ = bad_run(Big())
    assert "inf first in step 0, made by 'exp' of finite values; 'subtract' then made NaN of it" in report
    assert re.search(r"test_stopping.py:\d+ in forward: y = \(x \* 1e30\).exp\(\)", report)


def test_it_is_found_far_back_and_with_micro_batches():
    class Late(gl.nn.Module):
        """Fails when its argument has become large enough."""

        def forward(self, x):
            return (4.0 - x).log()

    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    for options in ({"every": 50}, {"every": 4, "accumulate": 3}):
        gl.manual_seed(0)
        model = gl.nn.Sequential(gl.nn.Linear(3, 1), Late())
        callback = TerminateOnNaN(every=options.pop("every"))
        loop = make([callback], model=model, optimizer=gl.optim.SGD(model.parameters(), lr=0.003), **options)
        with pytest.warns(RuntimeWarning, match="TerminateOnNaN"), np.errstate(all="ignore"):
            loop.fit([(x, x[:, :1] * 0 - 9)] * 3, epochs=400)
        assert loop.step > 8
        assert re.search(
            r"NaN first in step \d+, made by 'log' of finite values\n +x \[8, 1\] float32 from -", callback.report
        )
        assert "in forward: return (4.0 - x).log()" in callback.report


def test_data_that_is_not_finite_is_named():
    x, y = np.ones((8, 3), np.float32), np.ones((8, 1), np.float32)
    x[5, 1] = np.nan
    callback = TerminateOnNaN(every=1)
    with pytest.warns(RuntimeWarning, match=r"NaN in the inputs \(sample 5\) in the batch of step 0"):
        make([callback]).fit([(x, y)], epochs=2)


def test_the_model_is_left_as_it_was_when_training_ended():
    _, loop = bad_run(Root())
    _, other = bad_run(Root(), replay=False)
    for name, value in weights(loop).items():
        np.testing.assert_array_equal(value, weights(other)[name])


def test_without_replay_the_parameters_are_named():
    report, _ = bad_run(Root(), replay=False)
    assert "NaN in 0.weight, NaN in 0.bias" in report
    assert "TerminateOnNaN(replay=True) finds where they came from" in report


def test_a_finite_run_is_not_changed_and_ops_are_as_before():
    plain = make()
    plain.fit(loader(), epochs=3)
    watched = make([TerminateOnNaN(every=2)])
    watched.fit(loader(), epochs=3)
    assert same(weights(plain), weights(watched))
    entries = {name: vars(gl.Tensor)[name] for name in ("__add__", "__mul__", "__matmul__")}
    bad_run(Root())
    assert {name: vars(gl.Tensor)[name] for name in entries} == entries


def test_a_validation_loss_that_is_nan_stops_too():
    x, y = np.ones((8, 3), np.float32), np.ones((8, 1), np.float32)
    with pytest.warns(
        RuntimeWarning, match="val_loss is nan.*\n.*a finite training loss\n.*look at the validation data"
    ):
        loop = make([TerminateOnNaN()])
        loop.fit(loader(), [(x * np.nan, y)], epochs=5)
    assert loop.epoch == 1


# --- TimeLimit


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [(90, 90), ("90s", 90), ("1h30m", 5400), ("1.5 h", 5400), ("2d", 172800), (datetime.timedelta(minutes=1), 60)],
)
def test_durations(limit, seconds):
    assert TimeLimit(limit).seconds == seconds


@pytest.mark.parametrize("limit", [0, -1, "soon", "1x", "", "5"])
def test_what_is_no_duration(limit):
    with pytest.raises(OptionError, match=r"that is no duration\n  expected: seconds > 0, or a text such as '1h30m'"):
        TimeLimit(limit)


def test_a_time_limit_ends_training_after_the_step():
    loop = make([TimeLimit(0.05), LambdaCallback(on_step_end=lambda step, logs: time.sleep(0.03))])
    loop.fit(loader(), epochs=1000)
    assert 1 <= loop.step <= 4
    assert loop.callbacks.stop_reason == "TimeLimit: 0.05 s are over"
