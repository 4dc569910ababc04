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


def run(quick: bool = False) -> list[Table]:
    """The one table."""
    rounds = 5 if quick else 21
    found: dict[str, list[float]] = {module: [] for module in MODULES}
    failures: dict[str, str] = {}
    for number in range(-1, rounds):  # the first round reads the files from the disk
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

    def ratio(module: str) -> float | None:
        if module not in found or "numpy" not in found:
            return None
        return statistics.median(a / b for a, b in zip(found[module], found["numpy"], strict=True))

    table = Table(
        name="import_time",
        title="Import, in new processes",
        columns=["contestant", "median", "minimum", "÷ numpy"],
        rows=[
            [module, duration(statistics.median(times)), duration(min(times)), f"{ratio(module):.2f}"]
            for module, times in found.items()
        ],
        claims=[Claim("gradloom", "numpy", 2.0).measured(ratio("gradloom"))],
        failures=failures,
        data=found,
    )
    return [table.show_and_save()]


def import_seconds(module: str) -> float:
    """Seconds that a new process takes for the import, without those of starting Python."""
    program = PROGRAM.format(module=module)
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=worker_environment(),
    )
    return float(result.stdout)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    run(parser.parse_args().quick)
