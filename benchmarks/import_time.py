"""``import gradloom`` beside ``import numpy``, in new processes. ``python -m benchmarks.import_time``."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

from benchmarks.harness import ROOT, rotated, worker_environment
from benchmarks.report import Claim, Table, duration

MODULES = ("numpy", "gradloom", "jax", "torch")
PROGRAM = "import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"


FACTOR, PLUS = 1.5, 0.05  # what ``import gradloom`` may take: that many times NumPy's, and seconds


def run(quick: bool = False) -> list[Table]:
    """The one table."""
    rounds = 5 if quick else 21
    found: dict[str, list[float]] = {module: [] for module in MODULES}
    failures: dict[str, str] = {}
    for number in range(-1, rounds):  # the first round compiles to bytecode, and reads the files from the disk
        for module in rotated(MODULES, max(0, number)):
            if module in failures:
                continue
            try:
                seconds = import_seconds(module)
            except subprocess.CalledProcessError as error:
                failures[module] = error.stderr.strip().splitlines()[-1]
                del found[module]
                continue
            if number >= 0:
                found[module].append(seconds)

    def ratio(module: str) -> float:
        return statistics.median(a / b for a, b in zip(found[module], found["numpy"], strict=True))

    claim = Claim("gradloom", f"{FACTOR} × numpy + {duration(PLUS)}", 1.0)
    if "numpy" in found and "gradloom" in found:
        pairs = zip(found["gradloom"], found["numpy"], strict=True)
        minimum = min(found["gradloom"]) / (FACTOR * min(found["numpy"]) + PLUS)
        claim = claim.measured(statistics.median(a / (FACTOR * b + PLUS) for a, b in pairs), minimum)
    table = Table(
        name="import_time",
        title="Import, in new processes, with bytecode cached",
        columns=["contestant", "median", "minimum", "÷ numpy"],
        rows=[
            [
                module,
                duration(statistics.median(times)),
                duration(min(times)),
                f"{ratio(module):.2f}" if "numpy" in found else "–",
            ]
            for module, times in found.items()
        ],
        claims=[claim],
        failures=failures,
        data=found,
    )
    return [table.show_and_save()]


def import_seconds(module: str) -> float:
    """Seconds that a new process takes for the import, without those of starting Python. It may keep its bytecode."""
    program = PROGRAM.format(module=module)
    environment = worker_environment()
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=environment,
    )
    return float(result.stdout)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    run(parser.parse_args().quick)
