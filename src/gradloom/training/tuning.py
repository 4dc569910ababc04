"""Search with Optuna: options that are proposed from what was found, pruning, studies that outlive a process."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from .. import random
from ..errors import MissingExtraError, explain
from .callbacks.monitor import Monitor
from .selection import Fitting, SearchResult, checked
from .spaces import check_space, is_integer_range
from .trials import Trial, named


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as missing:
        raise MissingExtraError(explain("this needs Optuna", do="pip install 'gradloom[tune]'")) from missing
    return optuna


class PruningCallback(Monitor):
    """Reports a log to an Optuna trial after each epoch, and raises `optuna.TrialPruned` when its pruner says so.

    Args:
        trial: Optuna's.
        monitor: The log's name; it may be abbreviated where that is unambiguous.

    Raises:
        MissingExtraError: Optuna is not installed.

    Example:
        >>> import optuna
        >>> from gradloom.training.callbacks import CallbackList
        >>> from gradloom.training.tuning import PruningCallback
        >>> trial = optuna.trial.FixedTrial({})  # which is never pruned
        >>> CallbackList([PruningCallback(trial)]).on_epoch_end(0, {"val_loss": 0.5})
    """

    def __init__(self, trial: Any, monitor: str = "val_loss"):
        super().__init__(monitor, "auto")
        self.trial = trial
        self.passes = (_optuna().TrialPruned,)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Reports."""
        value = self.value_of(logs)
        if value is None:
            return
        self.trial.report(value, epoch)
        if self.trial.should_prune():
            raise self.passes[0](f"after epoch {epoch}, at {self.monitor}={value:.4g}")


def optuna_search(
    build: Callable[..., Any],
    space: Mapping[str, Any] | Callable[[Any], dict[str, Any]],
    data: Any = None,
    val_data: Any = None,
    *,
    trials: int,
    epochs: int | None = None,
    monitor: str = "val_loss",
    mode: str = "auto",
    at: str = "best",
    batch_size: int | None = None,
    seed: int = 0,
    sampler: Any = None,
    pruner: Any = None,
    storage: Any = None,
    name: str | None = None,
    heartbeat: int = 60,
    retries: int = 1,
    on_trial: Callable[[Trial], None] | None = None,
) -> SearchResult:
    """Searches with Optuna; the arguments that `grid_search` has too mean the same.

    With a storage the study goes on where an earlier call, or one in another process, has left it, and several processes may work on
    it at a time. A trial whose process was killed is found by its missing heartbeat, fails, and is tried again by the next call.

    Args:
        space: As for `random_search`; or a function of Optuna's trial that gives the options (`trial.suggest_float(...)`).
        trials: How many the study is to have, those of earlier calls included; a trial and its retries are one. Processes that work
            at the same time may make some more.
        sampler: Default: Optuna's TPESampler with this seed. A run without a storage gives the same trials again.
        pruner: Default: Optuna's MedianPruner. `optuna.pruners.NopPruner()` never prunes.
        storage: A database, such as "sqlite:///study.db" (trials are retried there), or a storage of Optuna.
        name: Of the study in it.
        heartbeat: Seconds between two heartbeats of a running trial, with a database; one that has had none for twice as long is dead.
        retries: How often a trial is begun again whose process was killed.

    Returns:
        All trials. Those that other processes still work on have neither value nor error. `study` is Optuna's.

    Raises:
        MissingExtraError: Optuna is not installed.

    Source:
        Akiba et al. 2019, "Optuna: a next-generation hyperparameter optimization framework".

    Example:
        >>> found = optuna_search(lambda x: (x - 2) ** 2, {"x": (-10.0, 10.0)}, trials=30, mode="min")
        >>> abs(found.best_options["x"] - 2) < 1
        True
    """
    optuna = _optuna()
    task = Fitting(build, data, val_data, epochs, batch_size, monitor, mode, at, seed=seed)
    mode = checked(task)
    for option, kind in () if callable(space) else space.items():
        check_space(option, kind)
    with _quiet(optuna):
        if isinstance(storage, str):
            retry = optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=retries)
            storage = optuna.storages.RDBStorage(
                storage, heartbeat_interval=heartbeat, grace_period=2 * heartbeat, heartbeat_stale_trial_callback=retry
            )
        study = optuna.create_study(
            storage=storage, study_name=name, direction="minimize" if mode == "min" else "maximize", pruner=pruner,
            load_if_exists=name is not None,
        )  # fmt: skip
        # Mixed with what is there: a call that goes on with a study does not propose the same options again.
        stream = random.key(seed, "optuna", len(study.get_trials(deepcopy=False))) % 2**32
        study.sampler = sampler or optuna.samplers.TPESampler(seed=stream)

        def objective(trial: Any) -> float:
            options = space(trial) if callable(space) else {n: suggested(trial, n, kind) for n, kind in space.items()}
            trial.set_user_attr("options", {n: v if _plain(v) else repr(v) for n, v in options.items()})
            try:
                value, logs = task(options, [PruningCallback(trial, monitor)])
            except optuna.TrialPruned:
                raise
            except BaseException as error:  # Ctrl-C too
                trial.set_user_attr("error", named(error))
                raise
            trial.set_user_attr("logs", logs)
            return value

        while _tried(study) < trials:
            study.optimize(objective, n_trials=1, catch=(Exception,), callbacks=_told(on_trial))
    return SearchResult([_trial(t) for t in study.get_trials(deepcopy=False)], monitor, mode, study)


def suggested(trial: Any, name: str, kind: Any) -> Any:
    """A value of a space, proposed by Optuna."""
    if hasattr(kind, "rvs"):  # Optuna knows its own distributions only: it proposes the quantile
        value = kind.ppf(trial.suggest_float(f"{name}.quantile", 1e-6, 1 - 1e-6))
        return value.item() if hasattr(value, "item") else value
    if isinstance(kind, list):
        if all(_plain(v) for v in kind):
            return trial.suggest_categorical(name, kind)
        return kind[trial.suggest_categorical(name, list(range(len(kind))))]
    suggest = trial.suggest_int if is_integer_range(kind) else trial.suggest_float
    return suggest(name, kind[0], kind[1], log=len(kind) == 3)


def _plain(value: Any) -> bool:
    return value is None or type(value) in (bool, int, float, str)


def _tried(study: Any) -> int:
    """The trials that have ended; one that was retried counts by its retry only."""
    every = study.get_trials(deepcopy=False)
    retried = {n for t in every for n in t.system_attrs.get("retry_history", ())}
    return sum(t.state.is_finished() and t.number not in retried for t in every)


def _trial(frozen: Any) -> Trial:
    """Optuna's trial as one of ours."""
    attrs, state = frozen.user_attrs, frozen.state.name
    error = {"PRUNED": "pruned", "FAIL": attrs.get("error", "the process of the trial died")}.get(state)
    seconds = frozen.duration.total_seconds() if frozen.duration else 0.0
    attempts = 1 + len(frozen.system_attrs.get("retry_history", ()))
    value = frozen.value if state == "COMPLETE" else None
    return Trial(
        frozen.number,
        attrs.get("options", dict(frozen.params)),
        value,
        attrs.get("logs", {}),
        seconds,
        error,
        None,
        attempts,
    )


def _told(on_trial: Callable[[Trial], None] | None) -> list[Callable]:
    return [] if on_trial is None else [lambda study, frozen: on_trial(_trial(frozen))]


@contextlib.contextmanager
def _quiet(optuna: Any) -> Any:
    """Without Optuna's lines for each trial, and its warnings that heartbeats are experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
