"""Cross-validation and searches: scikit-learn's folds, values by hand, failures that are recorded, processes that are killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from sklearn.model_selection import KFold, StratifiedKFold

import gradloom as gl
from gradloom import nn
from gradloom.errors import DataError, OptionError
from gradloom.training import TrainingLoop, cross_validate, grid_search, random_search
from gradloom.training.callbacks import EarlyStopping, LambdaCallback
from gradloom.training.data import DataLoader
from gradloom.training.metrics import Accuracy
from gradloom.training.spaces import drawn

SRC = Path(__file__).parents[2] / "src"
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = X @ np.array([[1.0], [-2.0], [0.5], [0.0]], np.float32)
CLASSES = (Y[:, 0] > 0).astype(np.int64)


def build(lr=0.05, width=8, callbacks=()):
    model = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 1))
    return TrainingLoop(
        model, gl.optim.Adam(model.parameters(), lr=lr), loss_fn=nn.MSELoss(), callbacks=callbacks, compile=False
    )


def classifier(lr=0.05):
    model = nn.Linear(4, 2)
    return TrainingLoop(
        model, gl.optim.Adam(model.parameters(), lr=lr), nn.CrossEntropyLoss(), metrics=[Accuracy], compile=False
    )


# --------------------------------------------------------------------------------------------------- cross_validate


def seen_parts(loops):
    """The samples that each fold is trained and validated with, by the first column of X."""

    def make():
        parts = {"train": [], "val": []}
        loops.append(parts)
        loop = build()
        taken = loop._taken

        def spy(batch):
            parts["train" if gl.is_grad_enabled() else "val"].append(batch[0][:, 0])
            return taken(batch)

        loop._taken = spy
        return loop

    return make


@pytest.mark.parametrize("stratified", [False, True])
def test_folds_are_scikit_learns(stratified):
    loops = []
    cross_validate(seen_parts(loops), (X, CLASSES[:, None].astype(np.float32)) if not stratified else (X, Y), 4,
                   epochs=1, shuffle=False, stratified=CLASSES if stratified else False)  # fmt: skip
    folds = (StratifiedKFold if stratified else KFold)(4).split(X, CLASSES)
    for parts, (train, val) in zip(loops, folds, strict=True):
        assert sorted(np.concatenate(parts["train"]).tolist()) == sorted(X[train, 0].tolist())
        assert sorted(np.concatenate(parts["val"]).tolist()) == sorted(X[val, 0].tolist())


def test_cross_validate_by_hand(backend):
    found = cross_validate(build, (X, Y), 3, epochs=4, shuffle=False, seed=5, batch_size=7, options={"lr": 0.02})
    losses = []
    for i, (train, val) in enumerate(KFold(3).split(X)):
        gl.manual_seed(5 + i)
        loop = build(lr=0.02)
        history = loop.fit(
            DataLoader((X[train], Y[train]), 7, shuffle=True, seed=5), DataLoader((X[val], Y[val]), 7), epochs=4
        )
        losses.append(history["val_loss"][-1])
        assert found.histories[i]["train_loss"] == pytest.approx(history["train_loss"], rel=1e-5)
    assert [logs["val_loss"] for logs in found.folds] == pytest.approx(losses, rel=1e-5)
    assert found.mean["val_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.std["val_loss"] == pytest.approx(np.std(losses), rel=1e-4)
    assert f"val_loss: {found.mean['val_loss']:.4g} ± " in str(found)


def test_cross_validate_of_the_best_epoch_and_stratified_by_targets():
    found = cross_validate(classifier, (X, CLASSES), 3, epochs=6, stratified=True, monitor="val_acc")
    for logs, history in zip(found.folds, found.histories, strict=True):
        assert logs["val_accuracy"] == max(history["val_accuracy"])
    as_dict = cross_validate(classifier, {"x": X, "y": CLASSES}, 3, epochs=6, stratified=True, monitor="val_acc")
    samples = list(zip(X, CLASSES, strict=True))
    as_list = cross_validate(classifier, samples, 3, epochs=6, stratified=True, monitor="val_acc")
    assert as_dict.folds == found.folds
    assert as_list.folds == found.folds


def test_cross_validate_leaves_the_generator_alone_and_repeats():
    gl.manual_seed(3)
    expected = gl.rand(4).numpy()
    gl.manual_seed(3)
    first = cross_validate(build, (X, Y), 2, epochs=2)
    np.testing.assert_array_equal(gl.rand(4).numpy(), expected)
    again = cross_validate(build, (X, Y), 2, epochs=2)
    assert again.folds == first.folds
    assert cross_validate(build, (X, Y), 2, epochs=2, seed=1).folds != first.folds
    assert again.folds[0] != again.folds[1]


def test_early_stopping_in_folds():
    found = cross_validate(lambda: build(callbacks=[EarlyStopping(patience=1, baseline=-1.0)]), (X, Y), 2, epochs=50)
    assert [len(h.epochs) for h in found.histories] == [1, 1]


def test_a_model_that_was_trained_before_is_refused():
    loop = build()
    with pytest.raises(OptionError, match="model that was trained before"):
        cross_validate(lambda: loop, (X, Y), 2, epochs=1)
    model = nn.Linear(4, 1)
    fresh = lambda: TrainingLoop(model, gl.optim.SGD(model.parameters(), lr=0.1), nn.MSELoss())
    with pytest.raises(OptionError, match="make model, optimizer and loop inside of build"):
        cross_validate(fresh, (X, Y), 2, epochs=1)


def test_cross_validate_errors():
    with pytest.raises(OptionError, match="2 <= k <= 60"):
        cross_validate(build, (X, Y), 61, epochs=1)
    with pytest.raises(OptionError, match=r"build gives a new TrainingLoop(.|\n)*given: +str"):
        cross_validate(lambda: "loop", (X, Y), 2, epochs=1)
    with pytest.raises(OptionError, match=r"monitor='val_f1' is not logged(.|\n)*train_loss, val_loss"):
        cross_validate(build, (X, Y), 2, epochs=1, monitor="val_f1")


# -------------------------------------------------------------------------------------------------------- searches


def test_grid_search_tries_all_and_finds_the_best():
    data, val = (X[:40], Y[:40]), (X[40:], Y[40:])
    found = grid_search(build, {"lr": [1e-4, 0.05], "width": [2, 8]}, data, val, epochs=5)
    assert [t.options for t in found.trials] == [{"lr": lr, "width": width} for lr in (1e-4, 0.05) for width in (2, 8)]
    for t in found.trials:
        gl.manual_seed(0)
        history = build(**t.options).fit(DataLoader(data, 32, shuffle=True), DataLoader(val, 32), epochs=5)
        assert t.value == min(history["val_loss"])
        assert t.seconds > 0 and t.error is None
    assert found.best_value == min(t.value for t in found.trials)
    assert found.best_options["lr"] == 0.05
    assert str(found).splitlines()[0] == "val_loss (min), 4 trials"
    assert str(found.best_options) in str(found).splitlines()[1]


def test_values_are_of_the_best_or_the_last_epoch():
    data = (X, Y)
    best = grid_search(build, {"lr": [1.0]}, data, data, epochs=8).best
    last = grid_search(build, {"lr": [1.0]}, data, data, epochs=8, at="last").best
    assert best.value < last.value
    highest = grid_search(classifier, {"lr": [0.01, 0.1]}, (X, CLASSES), (X, CLASSES), epochs=3, monitor="val_acc")
    assert highest.mode == "max"
    assert highest.best_value == max(t.value for t in highest.trials)
    with pytest.raises(OptionError, match="'best', 'last'"):
        grid_search(build, {"lr": [1.0]}, data, data, epochs=8, at="first")


def test_folds_in_a_search():
    found = grid_search(build, {"lr": [0.05]}, (X, Y), k=3, epochs=3)
    alone = cross_validate(build, (X, Y), 3, epochs=3, monitor="val_loss", options={"lr": 0.05})
    assert found.best_value == alone.mean["val_loss"]


def test_batch_size_and_epochs_are_the_searchs_unless_build_names_them():
    found = grid_search(build, {"batch_size": [4, 60], "epochs": [1, 2]}, (X, Y), (X, Y))
    assert len({t.value for t in found.trials}) == 4
    given = []

    def own(batch_size):
        given.append(batch_size)
        return 1.0

    grid_search(own, {"batch_size": [1, 2]})
    assert given == [1, 2]
    ignored = grid_search(lambda: 1.0, {"batch_size": [1]})
    assert "build trains by itself and has no parameter batch_size" in ignored.trials[0].error
    batches = grid_search(build, {"batch_size": [4]}, DataLoader((X, Y), 8), (X, Y), epochs=1)
    assert "the data is batches already, so batch_size cannot be chosen" in batches.trials[0].error


def test_a_loader_serves_all_trials_alike():
    loader = DataLoader((X, Y), 8, shuffle=True)
    found = grid_search(build, {"lr": [0.05, 0.05]}, loader, loader, epochs=2)
    assert found.trials[0].value == found.trials[1].value


def test_a_trial_that_raises_is_recorded_and_the_others_go_on():
    told = []
    found = grid_search(build, {"lr": [-1.0, 0.05]}, (X, Y), (X, Y), epochs=1, on_trial=told.append)
    failed, fine = found.trials
    assert failed.value is None
    assert failed.error.startswith("OptionError: ") or failed.error.startswith("ValueError: ")
    assert "in build" in failed.traceback
    assert found.best is fine
    assert told == [failed, fine]
    assert failed.error.splitlines()[0] in str(found)
    with pytest.raises(OptionError, match=r"none of the 1 trials gave a value(.|\n)*trial 0: ZeroDivisionError"):
        _ = grid_search(lambda x: 1 / x, {"x": [0]}).best


def test_nan_is_never_the_best():
    found = grid_search(lambda x: x, {"x": [float("nan"), 2.0]})
    assert found.best_value == 2.0
    with pytest.raises(OptionError, match=r"given: +NaN"):
        _ = grid_search(lambda x: x, {"x": [float("nan")]}).best


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"space": {"lr": (0.1, 0.2)}}, "a grid needs the values of 'lr'(.|\n)*random_search takes ranges"),
        ({"space": {}}, "a search needs options"),
        ({"space": {"lr": [0.1]}}, "'val_loss' needs data to validate with(.|\n)*monitor='train_loss'"),
        ({"space": {"lr": [0.1]}, "val_data": (X, Y), "k": 3}, "give val_data or k, not both"),
        ({"space": {"lr": [0.1]}, "k": 3, "monitor": "val_x"}, "give mode='min' or mode='max'"),
        ({"space": {"lr": [0.1]}, "k": 3, "workers": 0}, "workers counts processes"),
    ],
)
def test_searches_that_cannot_be(arguments, message):
    with pytest.raises(OptionError, match=message):
        grid_search(build, data=(X, Y), epochs=1, **arguments)


def test_ctrl_c_ends_a_search():
    started = []

    def interrupting(lr):
        started.append(lr)
        return build(lr, callbacks=[LambdaCallback(on_step_end=lambda step, logs: os.kill(os.getpid(), signal.SIGINT))])

    with pytest.raises(KeyboardInterrupt):
        grid_search(interrupting, {"lr": [0.1, 0.2]}, (X, Y), (X, Y), epochs=2)
    assert started == [0.1]


# --------------------------------------------------------------------------------------------------- random options

SPACE = {
    "list": ["a", "b", None], "integer": (2, 5), "float": (0.5, 2.0), "log": (1e-4, 1e-1, "log"), "logint": (1, 100, "log"),
    "scipy": scipy.stats.norm(3, 0.1), "scipyint": scipy.stats.randint(0, 4),
}  # fmt: skip


def options_of(trials=300, seed=0):
    return [t.options for t in random_search(lambda **options: 0.0, SPACE, trials=trials, seed=seed).trials]


def test_random_search_repeats_and_its_beginning_does_not_depend_on_its_length():
    assert options_of(20) == options_of(300)[:20]
    assert options_of(20, seed=1) != options_of(20)


def test_random_options_have_their_distributions():
    drawn = {name: [o[name] for o in options_of()] for name in SPACE}
    assert set(drawn["list"]) == {"a", "b", None}
    assert set(drawn["integer"]) == {2, 3, 4, 5} and all(type(v) is int for v in drawn["integer"] + drawn["scipyint"])
    assert min(drawn["logint"]) == 1 and 50 < max(drawn["logint"]) <= 100
    for name, cdf in [
        ("float", scipy.stats.uniform(0.5, 1.5).cdf),
        ("log", scipy.stats.loguniform(1e-4, 1e-1).cdf),
        ("scipy", scipy.stats.norm(3, 0.1).cdf),
    ]:
        assert scipy.stats.kstest(drawn[name], cdf).pvalue > 0.01, name
    names = list(drawn)
    ranks = scipy.stats.spearmanr(np.array([drawn["float"], drawn["log"], drawn["scipy"]]).T).statistic
    assert abs(ranks[np.triu_indices(3, 1)]).max() < 0.2, names  # options are independent of each other


def test_log_integers_are_within_their_range():
    values = [drawn((1, 3, "log"), i) for i in range(200)]
    assert set(values) == {1, 2, 3}


def test_combinations_of_lists_come_once():
    found = random_search(lambda a, b: a + b, {"a": [1, 2, 3], "b": [10, 20]}, trials=6, mode="min")
    assert sorted(t.value for t in found.trials) == [11, 12, 13, 21, 22, 23]
    with pytest.raises(OptionError, match=r"1 to 6, the number of combinations(.|\n)*trials=7"):
        random_search(lambda a, b: a + b, {"a": [1, 2, 3], "b": [10, 20]}, trials=7)


def test_a_range_with_few_integers_may_repeat():
    found = random_search(lambda a: a, {"a": (1, 2)}, trials=5, mode="min")
    assert len(found.trials) == 5 and {t.value for t in found.trials} == {1, 2}


@pytest.mark.parametrize("kind", [[], (1.0,), (2, 1), (0.0, 1.0, "log"), (1, 2, "linear"), "ab", 3, (1.0, np.inf)])
def test_spaces_that_are_none(kind):
    with pytest.raises(OptionError, match="that is no space for 'a'"):
        random_search(lambda a: a, {"a": kind}, trials=1)


# ------------------------------------------------------------------------------------------------------- processes


def killed_once(x, folder):
    """Kills its process in the first attempt at x = 1, and in each at x = 2."""
    mark = Path(folder) / f"{x}"
    attempts = int(mark.read_text()) if mark.exists() else 0
    mark.write_text(str(attempts + 1))
    (Path(folder) / f"pid-{os.getpid()}").touch()
    if x == 2 or (x == 1 and attempts == 0):
        os.kill(os.getpid(), signal.SIGKILL)
    if x == 3:
        raise RuntimeError("three")
    return float(x)


def sleeps(x, folder):
    (Path(folder) / f"pid-{os.getpid()}").touch()
    time.sleep(0 if x == 0 else 120)
    return float(x)


def exits(x):
    os._exit(3)


def alive(folder):
    """The processes that trials ran in and that are still there."""
    pids = [int(p.name.removeprefix("pid-")) for p in Path(folder).glob("pid-*")]
    assert pids
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() or _answers(pid)]


def _answers(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_process_that_is_killed_is_replaced_and_its_trial_tried_again(tmp_path):
    space = {"x": [0, 1, 2, 3, 4], "folder": [str(tmp_path)]}
    found = grid_search(killed_once, space, workers=2)
    assert [t.value for t in found.trials] == [0.0, 1.0, None, None, 4.0]
    assert [t.attempts for t in found.trials] == [1, 2, 2, 1, 1]
    assert found.trials[2].error == "DataError: the process of the trial was killed by signal 9"
    assert found.trials[3].error == "RuntimeError: three"
    assert "in killed_once" in found.trials[3].traceback
    assert not alive(tmp_path) and not multiprocessing.active_children()


def test_processes_give_what_one_process_gives():
    space = {"lr": [0.01, 0.05], "width": [4]}
    one = grid_search(build, space, (X, Y), (X, Y), epochs=2)
    two = grid_search(build, space, (X, Y), (X, Y), epochs=2, workers=2)
    assert [t.value for t in two.trials] == pytest.approx([t.value for t in one.trials], rel=1e-6)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("how", ["error", "interrupt"])
def test_no_process_is_left_when_a_search_ends_early(tmp_path, how):
    def on_trial(trial):
        if how == "error":
            raise RuntimeError("enough")
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    start = time.perf_counter()
    with pytest.raises(RuntimeError if how == "error" else KeyboardInterrupt):
        grid_search(sleeps, {"x": [0, 1, 2], "folder": [str(tmp_path)]}, workers=2, on_trial=on_trial)
    assert time.perf_counter() - start < 60
    assert not alive(tmp_path) and not multiprocessing.active_children()


def test_processes_end_with_the_one_that_searches(tmp_path):
    program = f"""
        import sys
        sys.path[:0] = [{str(SRC)!r}, {str(Path(__file__).parent)!r}]
        from test_selection import sleeps
        from gradloom.training import grid_search
        if __name__ == "__main__":
            grid_search(sleeps, {{"x": [1, 2], "folder": [{str(tmp_path)!r}]}}, workers=2)
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(program))
    process = subprocess.Popen([sys.executable, str(script)])
    wait_for(lambda: len(list(tmp_path.glob("pid-*"))) == 2)
    process.kill()
    process.wait()
    wait_for(lambda: not alive(tmp_path))


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_what_cannot_be_sent_to_processes():
    with pytest.raises(OptionError, match=r"cannot be sent to worker processes(.|\n)*at the top of a module"):
        grid_search(lambda x: x, {"x": [1, 2]}, workers=2)
    assert not multiprocessing.active_children()


def test_a_process_that_exits_is_recorded():
    found = grid_search(exits, {"x": [1]}, workers=2, retries=0)
    assert found.trials[0].error == "DataError: the process of the trial ended with exit code 3"


def test_a_script_without_a_guard_is_told_so(tmp_path):
    program = f"""
        import sys
        sys.path.insert(0, {str(SRC)!r})
        from gradloom.training import grid_search
        def f(x):
            return x
        grid_search(f, {{"x": [1, 2]}}, workers=2)
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(program))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert f"{DataError.__name__}: a worker process of the search could not start" in done.stderr
    assert 'under `if __name__ == "__main__":`' in done.stderr
