"""The run folder: what `gradloom report`, `plot` and `summary` read."""

from __future__ import annotations

import csv
import datetime
import importlib.metadata
import io
import json
import math
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...backends.registry import default_backend
from ...errors import explain
from ...nn.module import Module
from ...tensor.grad_mode import no_grad
from ...tensor.tensor import Tensor
from ..history import History
from ..step import forward
from ..tracking import plain
from .base import Callback
from .profiler import Profiler
from .toml import toml_text

#: What `gradloom train --run-dir` tells the script.
VARIABLE = "GRADLOOM_RUN_DIR"
#: The packages of the engines, where they are not called as the engine is.
_PACKAGES = {"numpy": "numpy", "jax": "jax", "torch": "torch", "mlx": "mlx"}


class RunFolder(Callback):
    """Keeps a folder of what a run is and was: logs, settings, the model's layers, the compiled step, times.

    Files are written after each epoch and at the end, each whole or not at all: run.json (state, engine, versions), metrics.csv
    (a row for each epoch), model.json (the layers), step.py (the emitted step), timing.json, and, where they are known,
    config.toml and confusion.json (of a `ConfusionMatrix` among the metrics, of the last epoch). See docs/cli.md.

    Args:
        path: The folder, which is made. Default: what `gradloom train --run-dir` says, else runs/ and the program's name.
        config: What was asked of the run, as a dict.
        labels: Names of the classes, for the confusion matrix.

    Example:
        >>> import os, tempfile
        >>> from gradloom.training.callbacks import CallbackList
        >>> from gradloom.training.callbacks.run_folder import RunFolder
        >>> folder = tempfile.mkdtemp()
        >>> callbacks = CallbackList([RunFolder(folder, config={"seed": 0})])
        >>> callbacks.on_train_begin()
        >>> callbacks.on_epoch_end(0, {"train_loss": 0.5})
        >>> print(open(os.path.join(folder, "metrics.csv")).read(), end="")
        epoch,train_loss
        1,0.5
    """

    # Told before ModelCheckpoint: a run that is killed between them goes on from the older checkpoint, and what is here is
    # written again; the other way round the times of an epoch would be lost.
    order = 0

    def __init__(
        self, path: Any = None, *, config: Mapping[str, Any] | None = None, labels: Sequence[Any] | None = None
    ):
        default = os.environ.get(VARIABLE) or Path("runs") / (Path(sys.argv[0] or "run").stem.lstrip("-") or "run")
        self.path = Path(default if path is None else path)
        self.config = None if config is None else dict(config)
        self.labels = None if labels is None else [str(label) for label in labels]
        self._own = History()  # in a list of one's own there is no loop that has one
        self._layers: dict[str, Any] | None = None
        self._matrix: list | None = None
        self._seconds: list[dict[str, Any]] = []
        self._began = self._epoch_began = 0.0
        self._error = ""
        self._started = ""
        self._warned = False

    # --- events

    def on_train_begin(self) -> None:
        """Makes the folder, and says that the run is running."""
        self._error, self._began, self._epoch_began = "", time.perf_counter(), time.perf_counter()
        self._started = now()
        done = self.history.epochs[-1] + 1 if self.history.epochs else 0
        if done and not self._seconds:  # a run that goes on: the times of its first part stay
            before = read_json(self.path / "timing.json") or {}
            self._seconds = [e for e in before.get("epochs", []) if e["epoch"] <= done]
            self._matrix = (read_json(self.path / "confusion.json") or {}).get("matrix")
        self._safely(self._write_begin)

    def on_epoch_begin(self, epoch: int) -> None:
        """Starts the clock."""
        self._epoch_began = time.perf_counter()

    def on_step_begin(self, step: int) -> None:
        """Looks once at the shapes that the layers give for a batch."""
        if self._layers is None and self.loop is not None and self.loop.last_batch is not None:
            self._layers = describe_layers(self.loop.model, self.loop.last_batch[0])

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        """Writes all that is known."""
        values = {n: plain(logs[n]) for n in logs}
        if self.loop is None:
            self._own.append(epoch, values)
        self._seconds = [e for e in self._seconds if e["epoch"] != epoch + 1]
        self._seconds.append({"epoch": epoch + 1, "seconds": round(time.perf_counter() - self._epoch_began, 6)})
        matrices = {n: v for n, v in values.items() if n.endswith("confusion_matrix") and is_square(v)}
        if matrices:
            self._matrix = matrices.get("val_confusion_matrix", list(matrices.values())[-1])
        self._safely(self._write, "running")

    def on_exception(self, error: BaseException) -> None:
        """Notes it."""
        self._error = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"

    def on_train_end(self) -> None:
        """Writes the end."""
        reason = self.owner.stop_reason if self.owner is not None and self.owner.should_stop else ""
        failed = "interrupted" if self._error == "interrupted" else "failed" if self._error else ""
        status = failed or ("stopped" if reason else "finished")
        self._safely(self._write, status, "" if failed == "interrupted" else reason)

    # --- files

    @property
    def history(self) -> History:
        """The logs: the loop's, or those that were told."""
        return self._own if self.loop is None else self.loop.history

    def _safely(self, task: Callable, *args: Any) -> None:
        """A disk that is full does not end training."""
        try:
            task(*args)
        except OSError as error:
            if not self._warned:
                self._warned = True
                warnings.warn(
                    explain(
                        f"RunFolder could not write to {self.path}: {error.strerror or error}; training goes on",
                        do="make room, or give another folder; it tries again, and does not warn again",
                    ),
                    stacklevel=2,
                )

    def _write_begin(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if self.config is not None:
            write(self.path / "config.toml", toml_text(self.config))
        self._write_state("running")

    def _write(self, status: str, reason: str = "") -> None:
        write(self.path / "metrics.csv", metrics_text(self.history))
        layers = self._layers
        if layers is None and not (self.path / "model.json").exists():
            layers = describe_layers(self.model, None)
        if layers is not None:
            write_json(self.path / "model.json", layers)
        if self._matrix is not None:
            labels = self.labels or [str(i) for i in range(len(self._matrix))]
            write_json(self.path / "confusion.json", {"labels": labels, "matrix": self._matrix})
        source = step_source(self.loop)
        if source:
            write(self.path / "step.py", source)
        write_json(self.path / "timing.json", {"epochs": self._seconds, "parts": self._parts()})
        self._write_state(status, reason)

    def _write_state(self, status: str, reason: str = "") -> None:
        backend = default_backend()
        state = {
            "format": "gradloom run",
            "version": 1,
            "name": self.path.resolve().name,
            "status": status,
            "reason": self._error if status == "failed" else reason,
            "epochs": len(self.history.epochs),
            "steps": getattr(self.loop, "step", None),
            "started": self._started,
            "written": now(),
            "gradloom": sys.modules[__name__.partition(".")[0]].__version__,
            "backend": backend.name,
            "engine": version_of(_PACKAGES.get(backend.name, backend.name)),
            "device": str(backend.device or "cpu"),
            "dtype": backend.dtype.name,
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
        }
        write_json(self.path / "run.json", state)

    def _parts(self) -> list[dict[str, Any]]:
        """The table of a `Profiler` in the same list."""
        for callback in self.owner or ():
            if isinstance(callback, Profiler) and callback.times:
                rows = [
                    {"part": part, "seconds": sum(t), "times": len(t), "median": statistics.median(t)}
                    for part, t in callback.times.items()
                ]
                return sorted(rows, key=lambda row: -row["seconds"])
        return []


# --- what is in the files


def metrics_text(history: History) -> str:
    """metrics.csv: a row for each epoch, counted from 1; numbers as Python writes them, so that they are read back the same."""
    names = [n for n in history if any(isinstance(v, (int, float)) for v in history[n])]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["epoch", *names])
    for i, epoch in enumerate(history.epochs):
        row = [history[n][i] for n in names]
        writer.writerow([epoch + 1, *("" if not isinstance(v, (int, float)) else repr(v) for v in row)])
    return out.getvalue()


def describe_layers(model: Any, inputs: Any) -> dict[str, Any] | None:
    """model.json: the layers with the shapes that they give for a batch, and their parameters; None for what is no module.

    Args:
        model: A module.
        inputs: Of a batch; the model is run on them once, in eval mode, eagerly. None: shapes are left out.
    """
    if not isinstance(model, Module):
        return None
    shapes: dict[str, Any] = {} if inputs is None else output_shapes(model, inputs)
    rows: list[dict[str, Any]] = []
    seen: set[int] = set()
    for name, module in model.named_modules():
        own = [p for p in module._parameters.values() if p is not None and id(p) not in seen]
        seen.update(map(id, own))
        if own or not any(True for _ in module.children()):
            row = {"name": name, "type": type(module).__name__, "output": shapes.get(name)}
            trained = sum(p.numel() for p in own if p.requires_grad)
            rows.append({**row, "parameters": sum(p.numel() for p in own), "trained": trained})
    return {
        "model": type(model).__name__,
        "layers": rows,
        "parameters": sum(row["parameters"] for row in rows),
        "trained": sum(row["trained"] for row in rows),
        "bytes": sum(p.numel() * p.dtype.itemsize for p in model.parameters()),
    }


def output_shapes(model: Module, inputs: Any) -> dict[str, list]:
    """{layer: shape of its output}; a batch's axis, as that of the first input, is null."""
    shapes: dict[str, Any] = {}
    first = inputs
    while isinstance(first, (Mapping, tuple, list)) and first:
        first = next(iter(first.values() if isinstance(first, Mapping) else first))
    batch = first.shape[0] if isinstance(first, Tensor) and first.ndim else None

    def note(name: str) -> Any:
        def hook(module: Module, args: Any, out: Any) -> None:
            out = out[0] if isinstance(out, (tuple, list)) and out else out
            if isinstance(out, Tensor):
                shape = list(out.shape)
                shapes.setdefault(name, [None, *shape[1:]] if shape and shape[0] == batch else shape)

        return hook

    modules = list(model.named_modules())
    modes = [module.training for _, module in modules]
    handles = [module.register_forward_hook(note(name)) for name, module in modules]
    try:
        model.eval()  # no dropout, so no random numbers are used up
        with no_grad():
            forward(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
        for (_, module), mode in zip(modules, modes, strict=True):
            module.training = mode
    return shapes


def step_source(loop: Any) -> str:
    """The emitted step; "" where nothing was compiled."""
    last = getattr(getattr(loop, "_train", None), "last", None)
    return last.source if last is not None and getattr(last, "compiles", False) else ""


def is_square(value: Any) -> bool:
    """Whether it is a matrix of numbers."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(row, list) and len(row) == len(value) for row in value)
        and all(isinstance(x, (int, float)) for row in value for x in row)
    )


def now() -> str:
    """The time, to the second, with its zone."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def version_of(package: str) -> str:
    """The installed version of a package; "" where it is not known.

    Example:
        >>> version_of("no-such-package")
        ''
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def write(file: Path, text: str) -> None:
    """Writes a file beside its place and moves it there, so that it is never half written."""
    beside = file.with_name(f".{file.name}.new")
    beside.write_text(text, encoding="utf-8", newline="")
    os.replace(beside, file)


def write_json(file: Path, value: Any) -> None:
    """The same for JSON; NaN and infinities, which it does not have, are null."""
    write(file, json.dumps(_finite(value), indent=1, ensure_ascii=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value


def read_json(file: Path) -> Any:
    """What is in a file of JSON; None where it is not there, or none."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
