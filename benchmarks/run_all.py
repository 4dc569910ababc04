"""Runs all benchmarks: ``python -m benchmarks.run_all [--quick] [--only tiny steps ...]``.

Prints the tables, writes ``benchmarks/results/*.json`` and puts all together in ``benchmarks/RESULTS.md``, with the
targets beside the measured ratios. Ends with status 1 when a contestant failed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for python benchmarks/run_all.py

from benchmarks import compile_cost, compose, import_time, loader, loop, memory, metrics, optimizers, steps, tiny
from benchmarks.report import Table, document

SUITES = {
    "tiny": tiny.run,
    "steps": steps.run,
    "optimizers": optimizers.run,
    "compile_cost": compile_cost.run,
    "compose": compose.run,
    "memory": memory.run,
    "import_time": import_time.run,
    "metrics": metrics.run,
    "loader": loader.run,
    "loop": loop.run,
}
RESULTS = Path(__file__).resolve().parent / "RESULTS.md"


def main(quick: bool, only: list[str], out: Path = RESULTS) -> int:
    """The exit status."""
    tables: list[Table] = []
    for name in only or SUITES:
        tables += SUITES[name](quick)
    out.write_text(document(tables, quick))
    print(f"\nwritten: {out}")
    return 1 if any(table.failures for table in tables) else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few and short blocks: to see that all runs")
    parser.add_argument("--only", nargs="+", choices=list(SUITES), default=[], help="some of the suites")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the tables go")
    arguments = parser.parse_args()
    sys.exit(main(arguments.quick, arguments.only, arguments.out))
