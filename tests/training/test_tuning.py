"""Searches with Optuna: pruning, failures, studies that go on in another process after the first was killed."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import gradloom as gl
from gradloom import nn
from gradloom.errors import OptionError
from gradloom.training import PruningCallback, TrainingLoop, optuna_search
from gradloom.training.callbacks import CallbackError, CallbackList, LambdaCallback

optuna = pytest.importorskip("optuna")
SRC = Path(__file__).parents[2] / "src"
X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
Y = X.sum(1, keepdims=True)


def build(lr, callbacks=()):
    model = nn.Linear(3, 1)
    optimizer = gl.optim.SGD(model.parameters(), lr=lr)
    return TrainingLoop(model, optimizer, loss_fn=nn.MSELoss(), callbacks=callbacks, compile=False)


def test_a_search_finds_the_minimum_and_repeats():
    space = {"x": (-10.0, 10.0), "n": (1, 4), "log": (1e-3, 1.0, "log"), "kind": ["a", "b"], "sizes": [(1,), (2, 2)]}

    def objective(x, n, log, kind, sizes):
        assert type(n) is int and 1 <= n <= 4 and 1e-3 <= log <= 1 and kind in "ab" and sizes in [(1,), (2, 2)]
        return (x - 2) ** 2 + n + log + (kind == "b") + len(sizes)

    found = optuna_search(objective, space, trials=60, mode="min")
    assert len(found.trials) == 60
    assert found.best_value == found.study.best_value < 5
    assert [t.options for t in found.trials] == [
        t.options for t in optuna_search(objective, space, trials=60, mode="min").trials
    ]
    assert found.trials[0].options != optuna_search(objective, space, trials=1, mode="min", seed=1).trials[0].options


def test_distributions_and_functions_as_spaces():
    scipy_stats = pytest.importorskip("scipy.stats")
    found = optuna_search(lambda x: x, {"x": scipy_stats.norm(5, 0.1)}, trials=20, mode="min")
    assert all(4 < t.options["x"] < 6 for t in found.trials)
    found = optuna_search(lambda x: x, lambda trial: {"x": trial.suggest_int("i", 3, 5) * 2}, trials=5, mode="max")
    assert {t.options["x"] for t in found.trials} <= {6, 8, 10}
    with pytest.raises(OptionError, match="that is no space for 'x'"):
        optuna_search(lambda x: x, {"x": (1,)}, trials=1, mode="min")


def test_loops_are_trained_reported_and_pruned():
    told = []
    found = optuna_search(
        build, lambda trial: {"lr": [0.05, 0.1, 1e-6, 0.06][trial.number]}, (X, Y), (X, Y), trials=4, epochs=5,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2), on_trial=told.append,
    )  # fmt: skip
    hopeless = found.trials[2]
    assert hopeless.error == "pruned" and hopeless.value is None
    assert list(found.study.trials[2].intermediate_values) == [0]  # after its first epoch
    assert found.study.trials[2].state == optuna.trial.TrialState.PRUNED
    best = found.trials[1]
    assert list(found.study.trials[1].intermediate_values) == [0, 1, 2, 3, 4]
    assert found.best is best and best.logs["val_loss"] == best.value
    assert told == found.trials


def test_a_pruned_trial_comes_out_of_fit_as_it_is():
    class Trial:
        def __init__(self):
            self.reported = []

        def report(self, value, step):
            self.reported.append((step, value))

        def should_prune(self):
            return len(self.reported) == 2

    trial, errors = Trial(), []
    loop = build(0.1, [PruningCallback(trial, "train_lo"), LambdaCallback(on_exception=errors.append)])
    with pytest.raises(optuna.TrialPruned, match="after epoch 1, at train_lo="):
        loop.fit([(X, Y)], epochs=5)
    assert [step for step, _ in trial.reported] == [0, 1]
    assert trial.reported[0][1] == loop.history["train_loss"][0]
    assert isinstance(errors[0], optuna.TrialPruned)
    with pytest.raises(CallbackError, match=r"PruningCallback raised OptionError(.|\n)*'val_f1', which is not logged"):
        CallbackList([PruningCallback(trial, "val_f1")]).on_epoch_end(0, {"val_loss": 1.0})
    PruningCallback(trial).on_epoch_end(0, {"train_loss": 1.0})  # no validation yet: nothing to report
    assert len(trial.reported) == 2


def test_a_trial_that_raises_is_recorded_and_the_others_go_on():
    found = optuna_search(lambda x: 1 / x, lambda trial: {"x": trial.number}, trials=3, mode="min")
    assert found.trials[0].error == "ZeroDivisionError: division by zero"
    assert [t.value for t in found.trials[1:]] == [1.0, 0.5]


PROGRAM = """
    import os, signal, sys, time
    sys.path.insert(0, {src!r})
    from gradloom.training import optuna_search

    def objective(x):
        with open("log", "a") as file:
            print(sys.argv[1], x, file=file)
        if sys.argv[1] == "killed":
            time.sleep(300)
        return x**2

    found = optuna_search(
        objective, {{"x": (-1.0, 1.0)}}, trials=3, mode="min", storage="sqlite:///study.db", name="s", heartbeat=1
    )
    for trial in found.trials:
        print(trial.number, trial.value is not None, trial.attempts, trial.error, trial.options["x"], sep="|")
"""


def test_a_trial_whose_process_was_killed_is_tried_again_by_another(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(PROGRAM.format(src=str(SRC))))
    first = subprocess.Popen([sys.executable, str(script), "killed"], cwd=tmp_path)
    end = time.monotonic() + 60
    while not (tmp_path / "log").exists() or not (tmp_path / "log").read_text().strip():
        assert time.monotonic() < end and first.poll() is None
        time.sleep(0.05)
    first.kill()
    assert first.wait() == -signal.SIGKILL
    time.sleep(4)  # the last heartbeat is more than 2 s old
    second = subprocess.run(
        [sys.executable, str(script), "again"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert second.returncode == 0, second.stderr
    rows = [line.split("|") for line in second.stdout.splitlines()]
    # The killed one has failed, its retry is with its options, and counts as the same: three were asked for.
    assert [row[:4] for row in rows] == [
        ["0", "False", "1", "the process of the trial died"], ["1", "True", "2", "None"],
        ["2", "True", "1", "None"], ["3", "True", "1", "None"],
    ]  # fmt: skip
    assert rows[1][4] == rows[0][4]
    assert len({row[4] for row in rows}) == 3
    (before, *after) = (tmp_path / "log").read_text().splitlines()
    assert before == f"killed {rows[0][4]}" and len(after) == 3


def test_a_study_goes_on_to_the_number_of_trials(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    first = optuna_search(lambda x: x, {"x": (0.0, 1.0)}, trials=2, mode="min", storage=storage, name="s")
    calls = []
    more = optuna_search(
        lambda x: calls.append(x) or x, {"x": (0.0, 1.0)}, trials=3, mode="min", storage=storage, name="s"
    )
    assert [t.value for t in more.trials] == [*(t.value for t in first.trials), *calls] and len(calls) == 1
    assert len({t.value for t in more.trials}) == 3
