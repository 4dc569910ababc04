"""Tables of results: printed, kept as JSON, and put together as Markdown."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
TIE = 1.10  # differences under a tenth are ties


@dataclass(frozen=True)
class Claim:
    """A ratio to be held: ``contestant`` takes at most ``at_most`` times what ``baseline`` takes."""

    contestant: str
    baseline: str
    at_most: float
    ratio: float | None = None
    minimum_ratio: float | None = None

    def measured(self, ratio: float | None, minimum_ratio: float | None = None) -> Claim:
        return replace(self, ratio=ratio, minimum_ratio=minimum_ratio)

    @property
    def verdict(self) -> str:
        if self.ratio is None:
            return "not measured"
        if self.ratio <= self.at_most:
            return "held"
        return "tie" if self.ratio <= self.at_most * TIE else "missed"

    def row(self) -> list[str]:
        def number(value: float | None) -> str:
            return "–" if value is None else f"{value:.2f}"

        return [
            f"{self.contestant} ÷ {self.baseline}",
            f"≤ {self.at_most:.2f}",
            number(self.ratio),
            number(self.minimum_ratio),
            self.verdict,
        ]


CLAIM_COLUMNS = ["ratio", "target", "measured", "minima", "verdict"]


@dataclass
class Table:
    """One benchmark's outcome: rows as text for people, ``data`` as numbers for the file."""

    name: str
    title: str
    columns: list[str]
    rows: list[list[str]]
    claims: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    data: Any = None

    def text(self) -> str:
        parts = [f"\n{self.title}", aligned(self.columns, self.rows)]
        if self.claims:
            parts.append(aligned(CLAIM_COLUMNS, [c.row() for c in self.claims]))
        parts += self.notes
        parts += [f"failed: {label}: {why}" for label, why in self.failures.items()]
        return "\n".join(parts)

    def markdown(self) -> str:
        parts = [f"## {self.title}", _markdown_table(self.columns, self.rows)]
        if self.claims:
            parts.append(_markdown_table(CLAIM_COLUMNS, [c.row() for c in self.claims]))
        parts += self.notes
        parts += [f"Failed: {label}: `{why.splitlines()[0]}`" for label, why in self.failures.items()]
        return "\n\n".join(parts) + "\n"

    def show_and_save(self) -> Table:
        """Prints the table and writes ``results/<name>.json``."""
        print(self.text(), flush=True)
        RESULTS.mkdir(exist_ok=True)
        content = {
            "title": self.title,
            "environment": environment(),
            "columns": self.columns,
            "rows": self.rows,
            "claims": [{**asdict(c), "verdict": c.verdict} for c in self.claims],
            "notes": self.notes,
            "failures": self.failures,
            "data": self.data,
        }
        (RESULTS / f"{self.name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False))
        return self


def document(tables: Sequence[Table], quick: bool) -> str:
    """All tables as one Markdown text, the targets first."""
    claims = [(table.title, claim) for table in tables for claim in table.claims]
    versions = ", ".join(f"{name} {value}" for name, value in environment().items())
    parts = [
        "# Benchmark results\n",
        "Written by `python -m benchmarks.run_all`" + (" `--quick`: few and short blocks, noisy." if quick else "."),
        f"Environment: {versions}.\n",
        "Ratios are medians over interleaved blocks of the ratio within a block; contestants are rebuilt between",
        "blocks. A ratio within a tenth of its target is a tie.\n",
        "## Targets\n",
        _markdown_table(["benchmark", *CLAIM_COLUMNS], [[title, *claim.row()] for title, claim in claims]),
        "",
        *(table.markdown() for table in tables),
    ]
    return "\n".join(parts)


def environment() -> dict[str, Any]:
    """What the numbers depend on, as far as it may be told: versions and the number of cores."""
    versions = {}
    for package in ("gradloom", "numpy", "torch", "jax", "jaxlib", "optax"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "–"
    return {
        "python": platform.python_version(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        **versions,
    }


def duration(seconds: float) -> str:
    """A time with three digits and its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds / size < 1000 else f"{seconds / size:.0f} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def size(count: float) -> str:
    """Bytes as MiB."""
    return f"{count / 2**20:.1f} MiB"


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text: the first to the left, the others to the right."""
    lines = [columns, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    )


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in columns[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in [columns, rule, *rows])
