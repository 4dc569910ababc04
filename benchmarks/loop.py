"""What the training loop adds to a step: ``python -m benchmarks.loop [--quick]``.

A small network on batches that lie ready. `step` is the compiled step alone; `step with accuracy` also gives the number of
right answers, as a loop has to that tracks accuracy; `loop` is `TrainingLoop.fit` with loss and accuracy, EarlyStopping,
CSVLogger, ModelCheckpoint and ProgressBar. What the loop takes beyond `step with accuracy` is its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Table

ENGINES = ("numpy", "jax", "torch")
STEP, COUNTING, PLAIN, FULL = "step", "step with accuracy", "loop, loss only", "loop"


def run(quick: bool = False) -> list[Table]:
    """One table: microseconds a step, by engine."""
    rows, data = [], {}
    for engine in ENGINES:
        if importlib.util.find_spec(engine) is None:
            continue
        data[engine] = times = measure(engine, 2000, 3 if quick else 15)
        for name, values in times.items():
            beyond = statistics.median(v - b for v, b in zip(values, times[COUNTING], strict=True))
            rows.append([engine, name, f"{statistics.median(values):.1f}", f"{min(values):.1f}", f"{beyond:+.1f}"])
    columns = ["engine", "", "median, us a step", "least", "beyond the step with accuracy"]
    notes = ["The weight of the loss (targets that are not ignored) is computed by the loop alone, inside of its step."]
    return [Table("loop", "The training loop", columns, rows, notes=notes, data=data).show_and_save()]


def measure(engine: str, steps: int, blocks: int) -> dict[str, list[float]]:
    """Microseconds a step in each block, by contestant; blocks of all contestants are interleaved."""
    import gradloom as gl

    with gl.using_backend(engine):
        rng = np.random.default_rng(0)
        batches = [
            (gl.tensor(rng.normal(size=(16, 20)).astype(np.float32)), gl.tensor(rng.integers(0, 4, 16)))
            for _ in range(steps)
        ]
        contestants = {
            STEP: bare(batches, False), COUNTING: bare(batches, True), PLAIN: loop(batches, False), FULL: loop(batches, True),
        }  # fmt: skip
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for block in range(blocks + 1):
            for name, contestant in contestants.items():
                start = time.perf_counter()
                contestant()
                if block:  # the first one compiles
                    times[name].append((time.perf_counter() - start) / steps * 1e6)
        return times


def network() -> tuple[Any, Any, Any]:
    """Model, optimizer and loss."""
    import gradloom as gl

    gl.manual_seed(0)
    model = gl.nn.Sequential(gl.nn.Linear(20, 32), gl.nn.ReLU(), gl.nn.Linear(32, 4))
    return model, gl.optim.Adam(model.parameters(), lr=1e-3), gl.nn.CrossEntropyLoss()


def bare(batches: list, counts: bool) -> Callable[[], Any]:
    """The compiled step in a `for`."""
    import gradloom as gl

    model, optimizer, loss_fn = network()

    @gl.jit
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        outputs = model(x)
        loss = loss_fn(outputs, y)
        loss.backward()
        optimizer.step()
        return (loss, (outputs.argmax(1) == y).sum()) if counts else loss

    def epoch() -> float:
        for x, y in batches:
            found = step(x, y)
        return (found[0] if counts else found).item()

    return epoch


def loop(batches: list, full: bool) -> Callable[[], Any]:
    """The loop, one epoch a call."""
    from gradloom.training import TrainingLoop
    from gradloom.training.callbacks import CSVLogger, EarlyStopping, ModelCheckpoint, ProgressBar
    from gradloom.training.metrics import Accuracy

    folder = Path(tempfile.mkdtemp())
    callbacks = [
        EarlyStopping("train_loss", patience=10**6), CSVLogger(folder / "log.csv"),
        ModelCheckpoint(folder / "best.safetensors", monitor="train_loss"), ProgressBar(file=open(os.devnull, "w")),  # noqa: SIM115
    ]  # fmt: skip
    made = TrainingLoop(*network(), metrics=[Accuracy()] if full else [], callbacks=callbacks if full else [])
    return lambda: made.fit(batches)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    run(parser.parse_args().quick)
