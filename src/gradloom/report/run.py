"""Reads run folders. The callback `RunFolder` writes them; a folder with metrics.csv or metrics.jsonl alone is a run, too.

    run.json        {"format": "gradloom run", "version": 1, ...}: name, status, engine, versions, dates
    metrics.csv     a row for each epoch: epoch, then the logs; or metrics.jsonl: a line {"epoch": 1, ...} for each
    config.toml     what was asked
    model.json      {"layers": [{"name", "type", "output", "parameters", "trained"}, ...], "parameters", "trained", "bytes"}
    step.py         the emitted training step
    confusion.json  {"labels": [...], "matrix": [[...], ...]}: rows are true classes, columns predictions
    timing.json     {"epochs": [{"epoch", "seconds"}, ...], "parts": [{"part", "seconds", "times", "median"}, ...]}
    checkpoints/    what `--resume` goes on from

Files are data: nothing in them is run, and one that cannot be read is left out and named in `Run.faults`.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, OptionError, explain
from ..training.callbacks.monitor import mode_of
from ..training.history import History, kind_of


@dataclass
class Run:
    """What a run folder holds.

    Attributes:
        folder, name: The folder and what the run is called.
        epochs: As the metrics count them.
        metrics: {log: one value for each epoch}; None where there is none.
        info: run.json. config: The text of config.toml. layers: model.json. source: step.py.
        confusion, timing: Their files.
        faults: What could not be read, in words.
    """

    folder: Path
    name: str
    epochs: list[int]
    metrics: dict[str, list[float | None]]
    info: dict[str, Any] = field(default_factory=dict)
    config: str = ""
    layers: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    confusion: dict[str, Any] = field(default_factory=dict)
    timing: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def kinds(self) -> dict[str, list[str]]:
        """{kind: its logs}: {"loss": ["train_loss", "val_loss"]}; without the learning rate."""
        found: dict[str, list[str]] = {}
        for name in self.metrics:
            if name != "lr":
                found.setdefault(kind_of(name), []).append(name)
        return found

    def history(self) -> History:
        """The metrics as a History."""
        history = History()
        for i, epoch in enumerate(self.epochs):
            history.append(epoch - 1, {n: v[i] for n, v in self.metrics.items() if v[i] is not None})  # type: ignore[misc]
        return history

    def best(self, name: str) -> tuple[int, float] | None:
        """(epoch, value) of the best value of a log; of the last one where it is not known which way is better."""
        pairs = [(e, v) for e, v in zip(self.epochs, self.metrics[name], strict=True) if v is not None and v == v]
        if not pairs:
            return None
        mode = better(name)
        return pairs[-1] if mode is None else (min if mode == "min" else max)(pairs, key=lambda pair: pair[1])


def better(name: str) -> str | None:
    """ "min" or "max"; None for a log whose name does not say.

    Example:
        >>> better("val_loss"), better("val_accuracy"), better("lr")
        ('min', 'max', None)
    """
    try:
        return mode_of(name, "auto", "the report")
    except OptionError:
        return None


def read_run(folder: Any) -> Run:
    """The run in a folder.

    Args:
        folder: Its path.

    Raises:
        OptionError: There is no such folder, or it has no metrics.
        FileFormatError: The metrics cannot be read.

    Example:
        >>> import os, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with open(os.path.join(folder, "metrics.csv"), "w") as file:
        ...     _ = file.write("epoch,train_loss\\n1,0.5\\n2,0.25\\n")
        >>> run = read_run(folder)
        >>> run.epochs, run.metrics, run.best("train_loss")
        ([1, 2], {'train_loss': [0.5, 0.25]}, (2, 0.25))
    """
    folder = Path(os.fspath(folder))
    if not folder.is_dir():
        raise OptionError(
            explain(
                "there is no such run folder", given=folder, do="give a folder that the callback RunFolder has written"
            )
        )
    epochs, metrics = _metrics(folder)
    run = Run(folder, folder.resolve().name, epochs, metrics)
    run.info = _checked(run, "run.json", lambda x: isinstance(x, dict))
    run.name = str(run.info.get("name") or run.name)
    run.layers = _checked(run, "model.json", _is_layers)
    run.confusion = _checked(run, "confusion.json", _is_confusion)
    run.timing = _checked(run, "timing.json", _is_timing)
    run.config, run.source = _text(run, "config.toml"), _text(run, "step.py")
    return run


def _metrics(folder: Path) -> tuple[list[int], dict[str, list[float | None]]]:
    for name, reader in (("metrics.csv", _read_csv), ("metrics.jsonl", _read_lines)):
        if (folder / name).is_file():
            try:
                rows = reader(folder / name)
                return _columns(rows)
            except (ValueError, KeyError, TypeError, OSError, csv.Error) as error:
                raise FileFormatError(
                    explain(f"{name} cannot be read: {error}", expected="a row for each epoch", where=folder / name)
                ) from None
    raise OptionError(
        explain(
            "the folder has no metrics",
            expected="metrics.csv or metrics.jsonl",
            given=", ".join(sorted(p.name for p in folder.iterdir())[:12]) or "an empty folder",
            where=folder,
            do="train with the callback RunFolder(folder), or with `gradloom train`",
        )
    )


def _read_csv(file: Path) -> list[dict[str, Any]]:
    with open(file, encoding="utf-8", newline="") as lines:
        return [dict(row) for row in csv.DictReader(lines, strict=True)]


def _read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def _columns(rows: list[dict[str, Any]]) -> tuple[list[int], dict[str, list[float | None]]]:
    """Epochs and columns; text, and rows of steps, which have no epoch, are left out."""
    rows = [row for row in rows if row.get("epoch") not in (None, "")]
    names = list(dict.fromkeys(name for row in rows for name in row if name not in ("epoch", "step", None)))
    found = {name: [_number(row.get(name)) for row in rows] for name in names}
    return [int(row["epoch"]) for row in rows], {n: v for n, v in found.items() if any(x is not None for x in v)}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _checked(run: Run, name: str, fits: Callable[[Any], bool]) -> dict[str, Any]:
    file = run.folder / name
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        run.faults.append(f"{name} cannot be read: {error}")
        return {}
    if not fits(value):
        run.faults.append(f"{name} is not what RunFolder writes")
        return {}
    return value


def _text(run: Run, name: str) -> str:
    file = run.folder / name
    try:
        return file.read_text(encoding="utf-8") if file.is_file() else ""
    except (OSError, ValueError) as error:
        run.faults.append(f"{name} cannot be read: {error}")
        return ""


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x)


def _rows(value: Any, names: tuple[str, ...]) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, dict) and all(_is_number(row.get(name)) for name in names) for row in value
    )


def _is_layers(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _rows(value.get("layers"), ("parameters",))
        and all(isinstance(row.get("output"), (list, type(None))) for row in value["layers"])
        and all(_is_number(value.get(name)) for name in ("parameters", "trained", "bytes"))
    )


def _is_confusion(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("matrix"), list):
        return False
    labels, matrix = value.get("labels"), value["matrix"]
    return (
        isinstance(labels, list)
        and len(labels) == len(matrix) > 0
        and all(
            isinstance(row, list) and len(row) == len(matrix) and all(_is_number(x) and x >= 0 for x in row)
            for row in matrix
        )
    )


def _is_timing(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _rows(value.get("epochs", []), ("epoch", "seconds"))
        and _rows(value.get("parts", []), ("seconds", "times", "median"))
    )
