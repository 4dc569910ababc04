"""Checkpoints: what a run needs to go on, and the best of it, in files that appear whole or not at all."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import GradloomError, OptionError, explain
from ...tensor.serialization import save
from ..tracking import plain
from .monitor import Monitor, Updates


class CheckpointError(GradloomError, OSError):
    """A checkpoint could not be written, and there is no earlier one."""


class ModelCheckpoint(Monitor):
    """Saves the run: to a file the best epoch, to a folder one file an epoch or step.

    A file holds all of `loop.state_dict()`, so that `loop.load_state_dict(gradloom.load(file))` goes on from there as if the run
    had not been cut. It is written beside its place, forced to disk and moved there: it is never half written. When training
    ends by an error or Ctrl-C, the state is saved as "interrupted" in the folder or beside the file.

    In a `CallbackList` of one's own a file holds the model's and the optimizer's states, if the list was given them, the
    callbacks' states, the epochs that are done, and the logs.

    Args:
        filepath: A file ("best_model.gradloom", any suffix) or a folder ("checkpoints/", one that exists, or a name without suffix).
        monitor: The log that says which epoch is best; None saves the latest to a file, and knows no best in a folder.
        mode: "min", "max", or "auto": as the log's name, or its metric, says.
        every: Epochs between two saves.
        every_steps: Updates between two saves, in place of epochs; to a file only with monitor=None or a training log.
        keep: In a folder only the last so many files stay, and the best one; None: all.
        save_last: Also keep a file "last" that is always the latest.
        weights_only: Save the model's state alone.
        name: How files in a folder are called, such as "{epoch:04d}-{val_loss:.3f}"; epoch, step and the logs are at hand.

    Attributes:
        best, best_file: The best value and its file.
        last_file: The file saved last.

    Raises:
        CheckpointError: The disk is full, or the file cannot be written, and no earlier checkpoint is there. If one is, a
            warning says so, and training goes on.

    Example:
        >>> import gradloom as gl, os, tempfile
        >>> from gradloom.training.callbacks import CallbackList, ModelCheckpoint
        >>> model = gl.nn.Linear(2, 1)
        >>> file = os.path.join(tempfile.mkdtemp(), "best.gradloom")
        >>> callbacks = CallbackList([ModelCheckpoint(file)], model=model)
        >>> for epoch, loss in enumerate([2.0, 1.0, 3.0]):
        ...     callbacks.on_epoch_end(epoch, {"val_loss": loss})
        >>> saved = gl.load(file)
        >>> saved["epoch"], saved["logs"], list(saved["model"])
        (2, {'val_loss': 1.0}, ['weight', 'bias'])
    """

    order = 1  # after the others, whose states it saves

    def __init__(
        self,
        filepath: Any,
        monitor: str | None = "val_loss",
        mode: str = "auto",
        *,
        every: int = 1,
        every_steps: int | None = None,
        keep: int | None = None,
        save_last: bool = False,
        weights_only: bool = False,
        name: str | None = None,
    ):
        super().__init__(monitor, mode)
        text = os.fspath(filepath)
        self.path = Path(text)
        self.folder = text.endswith(("/", os.sep)) or self.path.is_dir() or not self.path.suffix
        self._check(every, keep, name, every_steps)
        self._steps = Updates(every_steps, "ModelCheckpoint")
        self.every, self.every_steps, self.keep = every, every_steps, keep
        self.save_last, self.weights_only = save_last, weights_only
        self.template = name or ("step_{step:08d}" if every_steps else "epoch_{epoch:04d}")
        self.best_file: str | None = None
        self.last_file: str | None = None
        self.files: list[str] = []  # in a folder, that are there, the oldest first
        self._told: set[str] = set()
        self._raised = False

    def _check(self, every: int, keep: int | None, name: str | None, every_steps: int | None) -> None:
        if every < 1 or every != int(every):
            raise OptionError(explain("ModelCheckpoint: every counts epochs", expected="1 or more", given=every))
        if keep is not None and (keep < 1 or keep != int(keep)):
            raise OptionError(explain("ModelCheckpoint: keep counts files", expected="1 or more, or None", given=keep))
        if not self.folder and (keep is not None or name is not None):
            raise OptionError(
                explain(
                    "ModelCheckpoint: keep and name are for a folder",
                    given=self.path,
                    do=f"end the path with a slash to save one file an epoch: '{self.path}/'",
                )
            )
        if every_steps and not self.folder and self.monitor and not self.monitor.startswith("train_"):
            raise OptionError(
                explain(
                    f"ModelCheckpoint: '{self.monitor}' is known after epochs, and every_steps saves to one file between them",
                    do="give a folder, or monitor=None for the latest state, or monitor='train_loss'",
                )
            )

    # --- events

    def on_train_begin(self) -> None:
        """Begins to count."""
        self._raised = False
        self._steps.start(self.loop)

    def on_step_end(self, step: int, logs: Mapping[str, float]) -> None:
        """Saves, if `every_steps` is given."""
        if self.every_steps is not None and self._steps.due(step, self.loop):
            self._save_one(self._epoch(None), step + 1, logs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Saves."""
        done, step = self._epoch(epoch), getattr(self.loop, "step", 0)
        if self.every_steps is None and done % self.every == 0:
            self._save_one(done, step, logs)
        elif self.folder and self.monitor is not None and self.every_steps is not None:
            self._note_best(self.last_file, logs)

    def on_train_end(self) -> None:
        """Says so if nothing was monitored, and then saves the end."""
        loop: Any = self.loop
        never = not self.folder and self.monitor is not None and self.best is None and self.last_file is None
        if never and loop is not None and loop.step and not self._raised:
            warnings.warn(
                explain(
                    f"ModelCheckpoint monitors '{self.monitor}', which never had a value; it saves the state at the end",
                    given=self.path,
                    do="give fit validation data, or ModelCheckpoint(file, monitor='train_loss')",
                ),
                stacklevel=2,
            )
            self._write(self.path, loop.epoch, loop.step, {})

    def on_exception(self, error: BaseException) -> None:
        """Saves the state as "interrupted"."""
        self._raised = True
        if self.loop is not None and self.loop.step:
            self._write(self._beside("interrupted"), self.loop.epoch, self.loop.step, {})

    # --- saving

    def _epoch(self, epoch: int | None) -> int:
        """Epochs that are done."""
        if epoch is not None:
            return epoch + 1
        return 0 if self.loop is None else self.loop.epoch

    def _beside(self, name: str) -> Path:
        if self.folder:
            return self.path / f"{name}.safetensors"
        return self.path.with_name(f"{self.path.stem}.{name}{self.path.suffix}")

    def _save_one(self, epoch: int, step: int, logs: Mapping[str, Any]) -> None:
        plain_logs = {n: plain(logs[n]) for n in logs}
        if self.folder:
            file = self.path / f"{self._name(epoch, step, plain_logs)}.safetensors"
            best = self._is_best(plain_logs)
            if self._write(file, epoch, step, plain_logs, best=(best, str(file)), listed=True):
                self._prune()
        elif self.monitor is None:
            self._write(self.path, epoch, step, plain_logs)
        else:
            best = self._is_best(plain_logs)
            if best is not None:
                self._write(self.path, epoch, step, plain_logs, best=(best, str(self.path)))
        if self.save_last:
            self._write(self._beside("last"), epoch, step, plain_logs)

    def _name(self, epoch: int, step: int, logs: dict[str, Any]) -> str:
        try:
            return self.template.format(epoch=epoch, step=step, **logs)
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise OptionError(
                explain(
                    f"ModelCheckpoint: the name '{self.template}' cannot be made ({type(error).__name__}: {error})",
                    expected=f"fields among epoch, step, {', '.join(logs)}",
                )
            ) from None

    def _is_best(self, logs: Mapping[str, Any]) -> float | None:
        """The monitored value, if it is the best one."""
        value = self.value_of(logs)
        return value if value is not None and self.improved(value) else None

    def _note_best(self, file: str | None, logs: Mapping[str, Any]) -> None:
        value = self._is_best({n: plain(logs[n]) for n in logs})
        if value is not None:
            self.best, self.best_file = value, file

    def _write(
        self,
        file: Path,
        epoch: int,
        step: int,
        logs: dict[str, Any],
        best: tuple[float | None, str] = (None, ""),
        listed: bool = False,
    ) -> bool:
        """Writes a file; whether that went well. It is noted before, with the best value, so that the file knows of itself."""
        before = self.best, self.best_file, self.last_file, self.files
        if listed:
            self.files = [*(f for f in self.files if f != str(file)), str(file)]
        if best[0] is not None:
            self.best, self.best_file = best
        self.last_file = str(file)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            save(self._state(epoch, step, logs), file)
        except OSError as error:
            self.best, self.best_file, self.last_file, self.files = before
            self._failed(file, error)
            return False
        return True

    def _failed(self, file: Path, error: OSError) -> None:
        good = next((f for f in (str(file), self.last_file, *reversed(self.files)) if f and os.path.isfile(f)), None)
        problem = f"ModelCheckpoint could not write {file}: {error.strerror or error}"
        do = "make room on the disk, or save to another one"
        if good is None:
            raise CheckpointError(explain(problem, expected="a place for checkpoints", do=do)) from error
        if "full" not in self._told:
            self._told.add("full")
            warnings.warn(explain(f"{problem}; training goes on", given=f"{good} stays as it is", do=do), stacklevel=2)

    def _state(self, epoch: int, step: int, logs: dict[str, Any]) -> dict[str, Any]:
        if self.weights_only:
            return {"epoch": epoch, "step": step, "logs": logs, "model": state_of(self.model)}
        if self.loop is not None:
            return {**self.loop.state_dict(), "logs": logs}
        if self.model is None and "model" not in self._told:
            self._told.add("model")
            warnings.warn(
                explain(
                    "ModelCheckpoint knows no model here, and saves the epoch and the logs only",
                    do="CallbackList([...], model=model, optimizer=optimizer)",
                ),
                stacklevel=2,
            )
        state: dict[str, Any] = {"epoch": epoch, "step": step, "logs": logs}
        for name, part in (("model", self.model), ("optimizer", self.optimizer), ("callbacks", self.owner)):
            if part is not None:
                state[name] = state_of(part)
        return state

    def _prune(self) -> None:
        """Deletes the files that are more than `keep`, but the best."""
        if self.keep is None:
            return
        for old in self.files[: -self.keep]:
            if old != self.best_file:
                self.files.remove(old)
                Path(old).unlink(missing_ok=True)

    # --- state

    def state_dict(self) -> dict[str, Any]:
        """Which value is best, and the files that are there."""
        return {
            "best": self.best, "best_file": self.best_file, "last_file": self.last_file, "files": list(self.files),
        }  # fmt: skip

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.best, self.best_file = state_dict["best"], state_dict["best_file"]
        self.last_file, self.files = state_dict["last_file"], list(state_dict["files"])


def state_of(part: Any) -> Any:
    """What is saved of a model, an optimizer or callbacks: the `state_dict`; a dict of parameters as it is."""
    return part.state_dict() if hasattr(part, "state_dict") else part
