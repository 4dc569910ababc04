"""`gradloom train`: of a script, or of settings."""

from __future__ import annotations

import os
import runpy
import shutil
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backends.registry import get_backend, set_default_backend
from ..errors import GradloomError, explain
from ..models.document import load_model
from ..models.model import Model
from ..models.part import Part
from ..tensor.creation import manual_seed
from ..tensor.serialization import load
from ..training import TrainingLoop
from ..training.callbacks import Callback, LRSchedulerCallback, ModelCheckpoint, Profiler, ProgressBar
from ..training.callbacks.run_folder import VARIABLE, RunFolder
from ..training.data import DataLoader
from .config import Config, ConfigError, build_named, layer, load_config, options
from .sources import load as load_data
from .sources import loaders

LAST, INTERRUPTED = "last.safetensors", "interrupted.safetensors"


def train_script(script: Path, words: list[str], backend: str | None, run_dir: str | None) -> int:
    """Runs a script as `python script.py words` would, with a default backend and a run folder for `RunFolder()`."""
    if not script.is_file():
        raise ConfigError(explain("there is no such script", given=script))
    if backend is not None:
        os.environ["GRADLOOM_BACKEND"] = backend  # for processes that it starts
        set_default_backend(backend)
    if run_dir is not None:
        os.environ[VARIABLE] = run_dir
    sys.argv, sys.path[0] = [str(script), *words], str(script.parent.resolve())
    try:
        runpy.run_path(str(script), run_name="__main__")
    except GradloomError:  # the script's own: with its traceback
        traceback.print_exc()
        return 1
    return 0


@dataclass
class Job:
    """What settings describe: the composed model, its data, and what `fit` is given."""

    config: Config
    net: Part
    sample_shape: tuple[int, ...]
    labels: list[str] | None
    train_data: DataLoader
    val_data: DataLoader | None
    seed: int


def build(config: Config) -> Job:
    """Model and data; checks all names and options."""
    seed = config.values.get("seed", 0)
    data = load_data(config)
    train_data, val_data = loaders(data, config, seed)
    return Job(config, network(config), data.inputs.shape[1:], data.labels, train_data, val_data, seed)


def network(config: Config) -> Part:
    """The composed model: layers one after the other, or a document."""
    table, where = config.table("model"), config.where("model")
    if ("layers" in table) == ("file" in table):
        raise ConfigError(explain("a model is layers or a file", expected="one of 'layers' and 'file'", where=where))
    if "file" in table:
        try:
            return load_model(config.path(table["file"]))
        except OSError as error:
            raise ConfigError(explain(f"the model cannot be read: {error}", where=where)) from None
    if not table["layers"]:
        raise ConfigError(explain("the model has no layers", where=where))
    first, *others = (layer(config, entry, i) for i, entry in enumerate(table["layers"]))
    net = Model()
    net |= first.connect(input="input")
    for made in others:
        net += made
    return net


def make_loop(job: Job, folder: Path) -> TrainingLoop:
    """The loop with all that the settings name."""
    config, values = job.config, job.config.values
    # Options are checked before anything is made.
    options(config, "loss", values["loss"], "loss")
    model = job.net.to_module({"input": [None, *job.sample_shape]}, seed=job.seed)
    optimizer = build_named(config, "optimizer", values["optimizer"], "optimizer", model.parameters())
    listed = [build_named(config, "callback", e, f"callbacks.{i}") for i, e in enumerate(values.get("callbacks", []))]
    scheduler = _scheduler(config, optimizer)
    kinds = {type(c) for c in listed}
    monitor = "train_loss" if job.val_data is None else "val_loss"
    checkpoints = ModelCheckpoint(f"{folder}/checkpoints/", monitor=monitor, keep=1, save_last=True)
    more: list[Callback] = [
        *([] if scheduler is None else [scheduler]),
        *([] if ProgressBar in kinds else [ProgressBar()]),
        *([] if Profiler in kinds else [Profiler(file=False)]),
    ]
    recorded = RunFolder(folder, config=values, labels=job.labels)
    training = config.table("training")
    return TrainingLoop(
        model,
        optimizer,
        loss_fn=build_named(config, "loss", values["loss"], "loss"),
        metrics=[build_named(config, "metric", e, f"metrics.{i}") for i, e in enumerate(values.get("metrics", []))],
        callbacks=[*more, *listed, checkpoints, recorded],
        **{n: training[n] for n in ("accumulate", "clip_norm", "clip_value", "compile") if n in training},
    )


def _scheduler(config: Config, optimizer: Any) -> LRSchedulerCallback | None:
    entry = config.values.get("scheduler")
    if entry is None:
        return None
    entry = {"name": entry} if isinstance(entry, str) else dict(entry)
    every = entry.pop("every", "epoch")
    scheduler = build_named(config, "scheduler", entry, "scheduler", optimizer)
    try:
        return LRSchedulerCallback(scheduler, every=every)
    except GradloomError as error:
        raise ConfigError(f"{error}\n  {'in:':<10}{config.where('scheduler')}") from None


def train_config(
    file: Path, overrides: list[str], backend: str | None, run_dir: str | None, *, resume: bool, overwrite: bool
) -> int:
    """Trains what a TOML file describes; the exit status, 130 where Ctrl-C ended it."""
    config = load_config(file, overrides)
    if backend is not None:
        config.values["backend"] = backend
    if resume and overwrite:
        raise ConfigError(explain("--resume and --overwrite exclude each other"))
    training = config.table("training")
    if "epochs" not in training and "steps" not in training:
        raise ConfigError(
            explain("when does training end?", expected="epochs or steps", where=config.where("training"))
        )
    folder = Path(run_dir or config.values.get("run") or Path("runs") / file.stem)
    held = (folder / "metrics.csv").exists() or (folder / "checkpoints").exists()
    if held and not (resume or overwrite):
        raise ConfigError(
            explain(
                "the run folder holds a run",
                given=folder,
                do="--resume goes on, --overwrite begins again, --run-dir takes another",
            )
        )
    get_backend(config.values.get("backend"))  # an unknown or missing one is known now
    if config.values.get("backend"):
        set_default_backend(config.values["backend"])
    job = build(config)
    manual_seed(job.seed)
    loop = make_loop(job, folder)
    if resume:
        state, name = last_state(folder / "checkpoints")
        loop.load_state_dict(state)
        print(f"resumed after epoch {loop.epoch}, step {loop.step} ({name})", flush=True)
    elif overwrite:
        clear(folder)
    limits = {n: training[n] for n in ("steps", "validate_every", "limit") if n in training}
    loop.fit(job.train_data, job.val_data, training.get("epochs"), **limits)
    if loop.interrupted:
        print(f"saved {folder / 'checkpoints' / INTERRUPTED}; go on with --resume", flush=True)
        return 130
    print(f"run folder: {folder}")
    return 0


def clear(folder: Path) -> None:
    """Removes an earlier run: its files, and no others."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    for name in ("metrics.csv", "model.json", "step.py", "confusion.json", "timing.json", "run.json", "config.toml"):
        (folder / name).unlink(missing_ok=True)


def last_state(folder: Path) -> tuple[dict[str, Any], str]:
    """The state that is furthest on, of the last epoch or of an interruption, and its file's name.

    Raises:
        ConfigError: There is none.
    """
    found = [(load(folder / name), name) for name in (LAST, INTERRUPTED) if (folder / name).is_file()]
    if not found:
        raise ConfigError(
            explain("there is no checkpoint to go on from", expected=f"{LAST} or {INTERRUPTED}", where=folder)
        )
    return max(found, key=lambda pair: (pair[0]["step"], pair[0]["epoch"]))
