"""Logs in files: CSV, JSON lines, TensorBoard's events. A full disk is warned of once, and never ends training."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import secrets
import stat
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...errors import MissingExtraError, OptionError, explain
from ..tracking import plain
from .base import Callback
from .monitor import Updates

BINS = 64  # of histograms


class Logger(Callback):
    """Base of the loggers: a subclass defines `log`, and may define `open` and `close`.

    Args:
        every_steps: Also log the running logs after every so many updates; reading them waits for the engine.
    """

    errors: tuple[type[Exception], ...] = (OSError,)  # of writing; they do not end training
    target: Any = ""  # where it writes, for messages

    def __init__(self, every_steps: int | None = None):
        self._updates = Updates(every_steps, type(self).__name__)
        self._open = self._warned = False

    def open(self, epoch: int, step: int) -> None:
        """Before the first log: what an earlier run wrote from this epoch and step on is not valid any more."""

    def log(self, kind: str, at: int, logs: dict[str, Any]) -> None:
        """Writes logs of an "epoch" or a "step"."""
        raise NotImplementedError

    def close(self) -> None:
        """After training."""

    def on_train_begin(self) -> None:
        """Begins to count."""
        self._updates.start(self.loop)

    def on_step_end(self, step: int, logs: Mapping[str, Any]) -> None:
        """Logs the running logs, if `every_steps` is given."""
        if self._updates.every is not None and self._updates.due(step, self.loop):
            self._log("step", step, logs, getattr(self.loop, "epoch", 0))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        """Logs the epoch."""
        self._log("epoch", epoch, logs, epoch)

    def on_train_end(self) -> None:
        """Closes."""
        if self._open:
            self._open = False
            self._safely(self.close)

    def _log(self, kind: str, at: int, logs: Mapping[str, Any], epoch: int) -> None:
        values = {n: plain(logs[n]) for n in logs}

        def write() -> None:
            if not self._open:
                self.open(epoch, at if kind == "step" else getattr(self.loop, "step", 0))
                self._open = True
            self.log(kind, at, values)

        self._safely(write)

    def _safely(self, write: Callable[[], None]) -> None:
        try:
            write()
        except self.errors as error:
            if self._warned:
                return
            self._warned = True
            reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            warnings.warn(
                explain(
                    f"{type(self).__name__} could not write to {self.target}: {reason}; training goes on",
                    do="make room, or log to another place; it tries again, and does not warn again",
                ),
                stacklevel=2,
            )


class RowLogger(Logger):
    """Base of the loggers that write lines of text; lines that could not be written are kept for the next time."""

    def __init__(self, path: Any, every_steps: int | None = None):
        super().__init__(every_steps)
        self.path = self.target = Path(os.fspath(path))
        self._file: Any = None
        self._head = ""  # what the file holds when it is opened
        self._waiting: list[str] = []

    def _begin(self) -> None:
        """Makes the file hold the head, whole or not at all, and opens it to be appended to."""
        text = self._head
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if is_file(self.path):
            draft = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}.tmp")
            try:
                draft.write_text(text, encoding="utf-8", newline="")
                os.replace(draft, self.path)
            except OSError:
                with contextlib.suppress(OSError):
                    draft.unlink()
                raise
            text = ""
        # Without a buffer: what could not be written does not come later, in the middle of another line.
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115
        if text:
            self._waiting.insert(0, text)

    def _append(self, line: str) -> None:
        self._waiting.append(line)
        if self._file is None:
            self._begin()
        self._flush()

    def _flush(self) -> None:
        """Writes what waits; a line that comes through in part is cut off again."""
        data = "".join(self._waiting).encode()
        start = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(data) != len(data):
                raise OSError(28, os.strerror(28))  # ENOSPC: there was room for a part
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(start)
            raise
        self._waiting = []

    def _shut(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def close(self) -> None:
        """Writes what waits, and closes the file."""
        try:
            if self._file is not None and self._waiting:
                self._flush()
        finally:
            self._shut()


class CSVLogger(RowLogger):
    """Writes a line for each epoch to a CSV file: `epoch`, and the logs by name.

    Each line is on its way to the disk when the epoch has ended. A log that comes later (validation every few epochs) gets its
    own column, and is empty in earlier lines. A run that goes on from a checkpoint keeps the lines of the epochs before it and
    replaces those from it on; a run from epoch 0 begins a new file.

    Args:
        path: The file.

    Example:
        >>> import os, tempfile
        >>> from gradloom.training.callbacks import CallbackList, CSVLogger
        >>> file = os.path.join(tempfile.mkdtemp(), "training.csv")
        >>> callbacks = CallbackList([CSVLogger(file)])
        >>> callbacks.on_epoch_end(0, {"train_loss": 2.0})
        >>> callbacks.on_epoch_end(1, {"train_loss": 1.0, "val_loss": 3.0})
        >>> print(open(file).read().strip())
        epoch,train_loss,val_loss
        0,2.0,
        1,1.0,3.0
    """

    def __init__(self, path: Any):
        super().__init__(path)
        self._columns: list[str] = []
        self._rows: list[dict[str, Any]] = []

    def open(self, epoch: int, step: int) -> None:
        """Reads the lines of earlier epochs."""
        self._shut()
        self._rows, self._columns, self._waiting = [], ["epoch"], []
        self._head = ""
        if epoch and is_file(self.path) and self.path.exists():
            with open(self.path, encoding="utf-8", newline="") as file:
                found = csv.DictReader(file)
                self._rows = [row for row in found if None not in row and before(row.get("epoch"), epoch)]
                self._columns = list(dict.fromkeys(["epoch", *(found.fieldnames or [])]))

    def log(self, kind: str, at: int, logs: dict[str, Any]) -> None:
        """Writes a line."""
        row = {"epoch": at, **{n: cell(v) for n, v in logs.items()}}
        new = [n for n in row if n not in self._columns]
        if new or not self._head:  # written anew, with the new columns
            self._shut()
            self._columns += new
            self._head, self._waiting = self._text(self._rows, header=True), []
        self._rows.append(row)
        self._append(self._text([row]))

    def _text(self, rows: list[dict[str, Any]], header: bool = False) -> str:
        out = io.StringIO()
        writer = csv.DictWriter(out, self._columns, restval="", lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()


class JSONLinesLogger(RowLogger):
    """Writes a JSON object in a line for each epoch: `epoch`, `time` (seconds since 1970), and the logs.

    Numbers that JSON does not have are the strings "nan", "inf" and "-inf", which Python's float() reads. A run that goes on from a
    checkpoint replaces the lines from there on; a run from epoch 0 begins a new file.

    Args:
        path: The file.
        every_steps: Also write the running logs after every so many updates, in lines with `step` in place of `epoch`.

    Example:
        >>> import json, os, tempfile
        >>> from gradloom.training.callbacks import CallbackList, JSONLinesLogger
        >>> file = os.path.join(tempfile.mkdtemp(), "training.jsonl")
        >>> CallbackList([JSONLinesLogger(file)]).on_epoch_end(0, {"train_loss": 2.0})
        >>> line = json.loads(open(file).read())
        >>> line["epoch"], line["train_loss"]
        (0, 2.0)
    """

    def __init__(self, path: Any, every_steps: int | None = None):
        super().__init__(path, every_steps)

    def open(self, epoch: int, step: int) -> None:
        """Keeps the lines of before."""
        kept = []
        if (epoch or step) and is_file(self.path) and self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError, AttributeError):  # a line that was cut off
                    row = json.loads(line)
                    if before(row.get("epoch"), epoch) or before(row.get("step"), step):
                        kept.append(line + "\n")
        self._shut()
        self._head, self._waiting = "".join(kept), []

    def log(self, kind: str, at: int, logs: dict[str, Any]) -> None:
        """Writes a line."""
        row = {kind: at, "time": round(time.time(), 3), **{n: jsonable(v) for n, v in logs.items()}}
        self._append(json.dumps(row) + "\n")


class TensorBoardLogger(Logger):
    """Writes event files that TensorBoard reads, through tensorboardX, which needs neither PyTorch nor TensorFlow.

    Each log is a curve over epochs under its own name. A run that goes on from a checkpoint writes another file to the folder, and
    TensorBoard drops what the first had from there on.

    Args:
        log_dir: The folder; one for each run.
        every_steps: Also write the running logs after every so many updates, as "step/<name>" over updates.
        histograms: Write the parameters as histograms after every so many epochs.

    Raises:
        MissingExtraError: tensorboardX is not installed.

    Example:
        >>> import os, tempfile
        >>> from gradloom.training.callbacks import CallbackList, TensorBoardLogger
        >>> folder = tempfile.mkdtemp()
        >>> callbacks = CallbackList([TensorBoardLogger(folder)])
        >>> callbacks.on_epoch_end(0, {"train_loss": 2.0})
        >>> [name.startswith("events.out.tfevents") for name in os.listdir(folder)]
        [True]
    """

    def __init__(self, log_dir: Any, every_steps: int | None = None, histograms: int | None = None):
        super().__init__(every_steps)
        try:
            from tensorboardX import event_file_writer, proto, summary
        except ImportError as missing:
            raise MissingExtraError(
                explain("TensorBoardLogger needs tensorboardX", do="pip install 'gradloom[tensorboard]'")
            ) from missing
        if histograms is not None and (histograms < 1 or histograms != int(histograms)):
            raise OptionError(
                explain("TensorBoardLogger: histograms counts epochs", expected="1 or more", given=histograms)
            )
        self.log_dir = self.target = Path(os.fspath(log_dir))
        self.histograms = histograms
        self._module, self._event, self._summary = event_file_writer, proto.event_pb2, summary
        self._writer: Any = None

    def open(self, epoch: int, step: int) -> None:
        """Begins a file."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        # The writer that has no thread of its own: an error of writing comes to us, and not to a thread that dies of it.
        suffix = f".{os.getpid()}.{time.time_ns()}"  # TensorBoard reads files by name
        self._writer = self._module.EventsWriter(str(self.log_dir / "events"), filename_suffix=suffix)
        if epoch:
            start = self._event.SessionLog(status=self._event.SessionLog.START)
            self._writer.write_event(self._event.Event(wall_time=time.time(), step=epoch, session_log=start))

    def log(self, kind: str, at: int, logs: dict[str, Any]) -> None:
        """Writes the logs that are single numbers."""
        prefix = "step/" if kind == "step" else ""
        for name, value in logs.items():
            if isinstance(value, (int, float)):
                self._add(self._summary.scalar(prefix + name, value), at)
        if kind == "epoch" and self.histograms and at % self.histograms == 0 and self.model is not None:
            for name, t in self.model.named_parameters():
                values = t.detach().numpy()
                if values.size and all(map(math.isfinite, (float(values.min()), float(values.max())))):
                    self._add(self._summary.histogram(f"parameters/{name}", values, bins=BINS), at)
        self._writer.flush()

    def _add(self, summary: Any, step: int) -> None:
        self._writer.write_event(self._event.Event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        """Ends the file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


def is_file(path: Path) -> bool:
    """Whether it is a file, or nothing yet; no device or pipe."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True


def before(value: Any, end: int) -> bool:
    """Whether a number that was read from a file is below another; False for what is no number."""
    try:
        return int(value) < end
    except (TypeError, ValueError):
        return False


def cell(value: Any) -> Any:
    """A log in a cell: numbers as they are, lists and the like as JSON."""
    return value if isinstance(value, (int, float, str)) or value is None else json.dumps(jsonable(value))


def jsonable(value: Any) -> Any:
    """A log for JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    return value if isinstance(value, (int, float, str, bool)) or value is None else str(value)
