"""Model selection: cross-validation, and searches of a model's and its training's options.

All take a function that makes a new `TrainingLoop`, as each fold and each trial begins with another model:

```python
def build(lr=1e-3, width=64):
    model = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 1))
    return TrainingLoop(model, optim.Adam(model.parameters(), lr=lr), loss_fn=nn.MSELoss())


scores = cross_validate(build, (x, y), k=5, epochs=20)
found = grid_search(build, {"lr": [1e-3, 1e-2], "width": [32, 64]}, (x, y), k=3, epochs=20)
```
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import OptionError, explain
from ..nn.module import Module
from ..tensor.creation import default_generator
from .callbacks.base import Callback
from .callbacks.monitor import mode_of
from .data import DataLoader, adapt, k_fold, stratified_k_fold, unpack
from .data.datasets import size_of
from .history import History
from .loops import TrainingLoop
from .spaces import is_number, proposals_of
from .trials import Trial, run_trials

__all__ = ["CrossValidation", "SearchResult", "Trial", "cross_validate", "grid_search", "random_search"]

BATCH_SIZE = 32  # unless told otherwise
#: What a search takes itself where `build` has no parameter of that name.
OF_TRAINING = ("batch_size", "epochs")


@dataclass
class CrossValidation:
    """What `cross_validate` found.

    Attributes:
        folds: The logs of each fold.
        mean, std: Of each log over the folds; std is that of the folds at hand (divided by k).
        histories: All epochs of each fold.
    """

    folds: list[dict[str, float]]
    histories: list[History]
    mean: dict[str, float] = field(init=False)
    std: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        names = [n for n in self.folds[0] if all(is_number(logs.get(n)) for logs in self.folds)]
        columns = {n: [logs[n] for logs in self.folds] for n in names}
        self.mean = {n: float(np.mean(c)) for n, c in columns.items()}
        self.std = {n: float(np.std(c)) for n, c in columns.items()}

    def __str__(self) -> str:
        return "\n".join(f"{n}: {m:.4g} ± {self.std[n]:.2g}" for n, m in self.mean.items())


@dataclass
class SearchResult:
    """What a search found: `best_options`, and all trials.

    Attributes:
        trials: All, in their order.
        monitor, mode: What was compared, and which way is better.
        study: Optuna's, where it searched.
    """

    trials: list[Trial]
    monitor: str
    mode: str
    study: Any = None

    def ranked(self) -> list[Trial]:
        """The trials that have a value, the best first; NaN is no value."""
        sign = 1 if self.mode == "min" else -1
        found = [t for t in self.trials if t.value is not None and not math.isnan(t.value)]
        return sorted(found, key=lambda t: sign * t.value)  # type: ignore[operator]

    @property
    def best(self) -> Trial:
        """The trial with the best value; of equals the first.

        Raises:
            OptionError: No trial has one.
        """
        ranked = self.ranked()
        if not ranked:
            errors = [t for t in self.trials if t.error]
            raise OptionError(
                explain(
                    f"none of the {len(self.trials)} trials gave a value",
                    given=f"trial {errors[0].number}: {errors[0].error}" if errors else "NaN",
                    do="see error and traceback of the trials",
                )
            )
        return ranked[0]

    @property
    def best_options(self) -> dict[str, Any]:
        """The options of the best trial."""
        return self.best.options

    @property
    def best_value(self) -> float:
        """The value of the best trial."""
        return self.best.value  # type: ignore[return-value]

    def __str__(self) -> str:
        ranked = self.ranked()
        rest = [t for t in self.trials if not any(t is r for r in ranked)]
        lines = [f"{self.monitor} ({self.mode}), {len(self.trials)} trials"]
        for t in [*ranked, *rest]:
            value = f"{t.value:.5g}" if t.value is not None else (t.error or "").splitlines()[0]
            lines.append(f"  {t.number:>3}  {value:<10}  {t.seconds:.1f} s  {t.options}")
        return "\n".join(lines)


@dataclass
class Fitting:
    """How each fold and each trial is trained: what a search sends to its processes."""

    build: Callable[..., Any]
    data: Any
    val_data: Any = None
    epochs: int | None = None
    batch_size: int | None = None
    monitor: str | None = None
    mode: str = "auto"
    at: str = "best"
    k: int | None = None
    stratified: Any = False
    shuffle: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        self._before: Any = None  # the model that was trained last
        if self.at not in ("best", "last"):
            raise OptionError(
                explain("at says of which epoch the logs are", expected="'best', 'last'", given=repr(self.at))
            )
        if self.val_data is not None and self.k is not None:
            raise OptionError(explain("k folds validate on parts of data", do="give val_data or k, not both"))

    def __call__(self, options: dict[str, Any], callbacks: Sequence[Callback] = ()) -> tuple[float, dict[str, float]]:
        """(value, logs) of a trial."""
        if self.k is not None:
            found = self.folds(options, callbacks)
            name = resolve(found.mean, self.monitor or "")
            return found.mean[name], found.mean
        given, of_training = self._parted(options)
        with seeded(self.seed):
            made = self._made(given, callbacks)
            if not isinstance(made, TrainingLoop):
                if of_training:
                    raise OptionError(
                        explain(
                            f"build trains by itself and has no parameter {' or '.join(of_training)}",
                            do="give it one, or leave it out of the space",
                        )
                    )
                return made, {}
            logs, _ = self.fit(made, self.data, self.val_data, **of_training)
        return logs[resolve(logs, self.monitor or "")], logs

    def folds(self, options: dict[str, Any], callbacks: Sequence[Callback] = ()) -> CrossValidation:
        """A loop for each fold, trained and validated."""
        given, of_training = self._parted(options)
        logs, histories = [], []
        for i, (train, validation) in enumerate(self._pairs()):
            with seeded(self.seed + i):
                loop = self._made(given, callbacks)
                if not isinstance(loop, TrainingLoop):
                    raise OptionError(explain("folds need a TrainingLoop of build", given=type(loop).__name__))
                found, history = self.fit(loop, train, validation, **of_training)
            logs.append(found)
            histories.append(history)
        return CrossValidation(logs, histories)

    def fit(
        self, loop: TrainingLoop, data: Any, val_data: Any, epochs: int | None = None, batch_size: int | None = None
    ) -> tuple[dict[str, float], History]:
        """Trains a loop: (logs of the chosen epoch, all epochs)."""
        epochs = self.epochs if epochs is None else epochs
        batch_size = self.batch_size if batch_size is None else batch_size
        if epochs is None:
            raise OptionError(explain("how long is to be trained?", do="give epochs="))
        train = loader(data, batch_size, True, self.seed)
        history = loop.fit(train, None if val_data is None else loader(val_data, batch_size, False, self.seed), epochs)
        self._before = loop.model
        if loop.interrupted:  # the loop has ended in order; the search ends too
            raise KeyboardInterrupt
        epoch = history.epochs[-1]
        if self.at == "best" and self.monitor is not None:
            name = resolve(history, self.monitor)
            if any(is_number(v) and v == v for v in history[name]):
                epoch = history.best(name, mode_of(name, self.mode, "at='best'", loop))[0]
        at = history.epochs.index(epoch)
        return {n: values[at] for n, values in history.items() if values[at] is not None}, history

    def _pairs(self) -> list[tuple[Any, Any]]:
        k = 5 if self.k is None else self.k
        if self.stratified is False:
            return k_fold(self.data, k, shuffle=self.shuffle, seed=self.seed)
        labels = targets_of(self.data) if self.stratified is True else self.stratified
        return stratified_k_fold(labels, k, data=self.data, shuffle=self.shuffle, seed=self.seed)

    def _parted(self, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The options of `build`, and those of training."""
        parameters = inspect.signature(self.build).parameters
        ours = {n: v for n, v in options.items() if n in OF_TRAINING and n not in parameters}
        return {n: v for n, v in options.items() if n not in ours}, ours

    def _made(self, options: dict[str, Any], callbacks: Sequence[Callback]) -> Any:
        """A new loop, or the number that `build` gives itself."""
        loop = self.build(**options)
        if is_number(loop):
            return float(loop)
        if not isinstance(loop, TrainingLoop):
            raise OptionError(
                explain(
                    "build gives a new TrainingLoop",
                    expected="a TrainingLoop, or the value itself",
                    given=type(loop).__name__,
                )
            )
        if loop.step or loop.epoch or (isinstance(loop.model, Module) and loop.model is self._before):
            raise OptionError(
                explain(
                    "build gave a model that was trained before: it has seen the data that it is validated with",
                    do="make model, optimizer and loop inside of build",
                )
            )
        for callback in callbacks:
            loop.add_callback(callback)
        return loop


def cross_validate(
    build: Callable[..., TrainingLoop],
    data: Any,
    k: int = 5,
    *,
    epochs: int,
    stratified: Any = False,
    shuffle: bool = True,
    seed: int = 0,
    batch_size: int | None = None,
    monitor: str | None = None,
    mode: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> CrossValidation:
    """Trains k models, each validated on a k-th of the data that the others are trained with.

    Args:
        build: `build(**options)` makes a new TrainingLoop with a new model. Callbacks that it is given, such as
            `EarlyStopping`, work as always.
        data: A tuple or dict of arrays, (n, ...) each, or a dataset with `len()` and `[i]`.
        k: Folds.
        epochs: For each fold.
        stratified: Spread each class over the folds; True: by the targets, else the class of each sample, (n,).
        shuffle: Folds of samples in a random order; False: of neighbours (scikit-learn's default).
        seed: Of the folds; seed + i is that of fold i's initial parameters and masks. The default generator is as it was, afterwards.
        batch_size: Default: 32.
        monitor, mode: Take each fold's logs of the epoch in which this log is best; else of the last epoch.

    Raises:
        OptionError: Folds that are not possible; `build` gives one model twice.

    Example:
        >>> import gradloom as gl
        >>> from gradloom.training import TrainingLoop
        >>> def build():
        ...     model = gl.nn.Linear(2, 1)
        ...     return TrainingLoop(model, gl.optim.SGD(model.parameters(), lr=0.1), loss_fn=gl.nn.MSELoss())
        >>> x = np.arange(40, dtype=np.float32).reshape(20, 2) / 40
        >>> found = cross_validate(build, (x, x.sum(1, keepdims=True)), k=4, epochs=30)
        >>> len(found.folds), found.mean["val_loss"] < 0.2
        (4, True)
    """
    task = Fitting(
        build, data, epochs=epochs, batch_size=batch_size, monitor=monitor, mode=mode, at="last" if monitor is None else "best",
        k=k, stratified=stratified, shuffle=shuffle, seed=seed,
    )  # fmt: skip
    return task.folds(dict(options or {}))


def grid_search(
    build: Callable[..., Any],
    space: Mapping[str, Sequence[Any]],
    data: Any = None,
    val_data: Any = None,
    *,
    epochs: int | None = None,
    monitor: str = "val_loss",
    mode: str = "auto",
    k: int | None = None,
    stratified: Any = False,
    at: str = "best",
    batch_size: int | None = None,
    seed: int = 0,
    workers: int = 1,
    retries: int = 1,
    on_trial: Callable[[Trial], None] | None = None,
) -> SearchResult:
    """Tries all combinations of options.

    A trial that raises is recorded with its error, and the others go on. Each trial starts from the same seed, so its value does not
    depend on the others, nor on the number of processes.

    Args:
        build: `build(**options)` makes a new TrainingLoop; or does all by itself, and gives the value.
        space: {option: list of values}. "batch_size" and "epochs" need no parameter of `build`: then they are the search's.
        data: What to train with: a tuple or dict of arrays, a dataset, or batches as for `TrainingLoop.fit`.
        val_data: What to validate with; or
        k, stratified: cross-validate, as `cross_validate` does; a trial's value is the folds' mean.
        epochs: Of each trial.
        monitor, mode: The log that is compared; "min", "max", or "auto": as its name says.
        at: "best": a trial's value is that of its best epoch; "last": of its last one.
        batch_size: Default: 32; data that is batches has its own.
        seed: Of initial parameters, masks, folds and shuffles.
        workers: Processes (started anew, so `build` is at the top of a module, and a script calls this under
            `if __name__ == "__main__":`). A process's engine may use several threads by itself: OMP_NUM_THREADS=1 stops NumPy's.
        retries: How often a trial is begun again whose process was killed.
        on_trial: Called with each trial as it ends.

    Raises:
        OptionError: No space, or nothing to validate with.

    Example:
        >>> found = grid_search(lambda x, y: (x - 2) ** 2 + y, {"x": [0, 1, 2], "y": [1, 0]}, mode="min")
        >>> found.best_options, found.best_value, len(found.trials)
        ({'x': 2, 'y': 0}, 0.0, 6)
    """
    for name, values in space.items():
        if isinstance(values, (str, tuple)) or not isinstance(values, (Sequence, np.ndarray)) or not len(values):
            raise OptionError(
                explain(
                    f"a grid needs the values of '{name}'",
                    expected="a list",
                    given=repr(values),
                    do="random_search takes ranges",
                )
            )
    if not space:
        raise OptionError(explain("a search needs options", expected="{name: [values]}", given="{}"))
    proposals = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    task = Fitting(build, data, val_data, epochs, batch_size, monitor, mode, at, k, stratified, seed=seed)
    return _search(task, proposals, workers, retries, on_trial)


def random_search(
    build: Callable[..., Any],
    space: Mapping[str, Any],
    data: Any = None,
    val_data: Any = None,
    *,
    trials: int,
    epochs: int | None = None,
    monitor: str = "val_loss",
    mode: str = "auto",
    k: int | None = None,
    stratified: Any = False,
    at: str = "best",
    batch_size: int | None = None,
    seed: int = 0,
    workers: int = 1,
    retries: int = 1,
    on_trial: Callable[[Trial], None] | None = None,
) -> SearchResult:
    """Tries options that are drawn at random; trial i's depend on seed and i only. The rest is as in `grid_search`.

    Args:
        space: For each option a list of values; a range `(low, high)`, of integers with both ends if both are integers, else uniform;
            `(low, high, "log")`, uniform in the logarithm; or a distribution of scipy.stats (anything with `rvs`).
        trials: How many. Options that were drawn already are drawn again.

    Raises:
        OptionError: Another kind of range, or more trials than there are combinations.

    Source:
        Bergstra and Bengio 2012, "Random search for hyper-parameter optimization".

    Example:
        >>> found = random_search(lambda x: abs(x - 0.01), {"x": (1e-4, 1.0, "log")}, trials=50, mode="min")
        >>> len(found.trials), found.best_value < 0.01
        (50, True)
    """
    task = Fitting(build, data, val_data, epochs, batch_size, monitor, mode, at, k, stratified, seed=seed)
    return _search(task, list(proposals_of(space, trials, seed)), workers, retries, on_trial)


def _search(task: Fitting, proposals: list, workers: int, retries: int, on_trial: Any) -> SearchResult:
    mode = checked(task)
    trials = [Trial(i, options) for i, options in enumerate(proposals)]
    with contextlib.closing(run_trials(task, list(trials), workers, retries)) as ended:
        for trial in ended:
            trials[trial.number] = trial  # of a process it is a copy
            if on_trial is not None:
                on_trial(trial)
    return SearchResult(trials, task.monitor or "", mode)


def checked(task: Fitting) -> str:
    """The mode of a search, whose data is looked at before the first trial."""
    if task.data is not None and (task.monitor or "").startswith("val_") and task.val_data is None and task.k is None:
        raise OptionError(
            explain(
                f"'{task.monitor}' needs data to validate with", do="give val_data, k (folds), or monitor='train_loss'"
            )
        )
    task.mode = mode_of(task.monitor or "", task.mode, "a search")
    return task.mode


# --- data, logs, random state


def loader(data: Any, batch_size: int | None, shuffle: bool, seed: int) -> DataLoader:
    """Batches of data, from epoch 0 on.

    Raises:
        OptionError: A batch size for what is batches already.
    """
    batches = adapt(data, BATCH_SIZE if batch_size is None else batch_size, shuffle, seed=seed)
    if batch_size is not None and batches.batch_size != batch_size:
        raise OptionError(
            explain(
                "the data is batches already, so batch_size cannot be chosen",
                given=f"batch_size={batch_size}, and a {type(data).__name__}",
                do="give arrays, or a dataset with len() and [i]",
            )
        )
    batches.set_epoch(0)  # one that is given serves all trials
    return batches


def targets_of(data: Any) -> np.ndarray:
    """The targets of all samples."""
    if isinstance(data, (tuple, dict)):
        return np.asarray(unpack(data)[1])
    return np.asarray([unpack(data[i])[1] for i in range(size_of(data))])


def resolve(logs: Mapping[str, Any], monitor: str) -> str:
    """The log that a monitor names; it may be abbreviated where that is unambiguous.

    Raises:
        OptionError: No log is called so, or several are.
    """
    near = [n for n in logs if n.startswith(monitor)]
    if monitor not in logs and len(near) != 1:
        raise OptionError(
            explain(
                f"monitor='{monitor}' {'is ambiguous' if near else 'is not logged'}", expected=", ".join(near or logs)
            )
        )
    return monitor if monitor in logs else near[0]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The default generator starts from a seed, and is as it was afterwards."""
    before = default_generator.get_state()
    default_generator.manual_seed(operator.index(seed))
    try:
        yield
    finally:
        default_generator.set_state(before)
