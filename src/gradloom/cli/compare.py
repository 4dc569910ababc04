"""The curves of several runs in one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import FileFormatError, MissingExtraError, OptionError, explain
from ..report import Run
from ..report.page import LARGE
from ..training.history import kind_of
from .config import near


def draw(runs: list[Run], out: str | None, metrics: list[str] | None) -> Path:
    """One panel for each kind of log, one colour for each run; training is dashed where validation is there too.

    Args:
        runs: What is compared.
        out: The file. Default: plot.png in the run's folder, or here if there are several.
        metrics: Logs or kinds of logs; default: all that are not the learning rate.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OptionError: No run has such a log.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as missing:
        raise MissingExtraError(
            explain("gradloom plot needs matplotlib", do="pip install 'gradloom[demo]'")
        ) from missing
    kinds = chosen(runs, metrics)
    columns = min(len(kinds), 2)
    rows = -(-len(kinds) // columns)
    figure = Figure(figsize=(5.6 * columns, 3.6 * rows), layout="constrained")
    names = unique([run.name for run in runs])
    for axes, (kind, logs) in zip(figure.subplots(rows, columns, squeeze=False).flat, kinds.items(), strict=False):
        _panel(axes, kind, logs, runs, names)
    for axes in figure.axes[len(kinds) :]:
        axes.remove()
    file = Path(out) if out else (runs[0].folder / "plot.png" if len(runs) == 1 else Path("plot.png"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=150)
    except (OSError, ValueError) as error:  # ValueError: a format that matplotlib does not know
        raise FileFormatError(explain(f"the picture cannot be written: {error}", where=file)) from error
    return file


def chosen(runs: list[Run], metrics: list[str] | None) -> dict[str, list[str]]:
    """{kind: its logs} to draw."""
    known = list(dict.fromkeys(name for run in runs for name in run.metrics))
    if metrics is None:
        picked = [n for n in known if n != "lr"]
    else:
        for name in metrics:
            if not any(name in (n, kind_of(n)) for n in known):
                words = [*dict.fromkeys([*map(kind_of, known), *known])]
                raise OptionError(
                    explain(f"no run has the log '{name}'", expected=", ".join(words), do=near(name, words))
                )
        picked = [n for n in known if n in metrics or kind_of(n) in metrics]
    kinds: dict[str, list[str]] = {}
    for name in picked:
        kinds.setdefault(kind_of(name), []).append(name)
    if not kinds:
        raise OptionError(explain("the runs have no logs to draw", given=", ".join(run.name for run in runs)))
    return kinds


def unique(names: list[str]) -> list[str]:
    """Names that differ.

    Example:
        >>> unique(["a", "b", "a"])
        ['a', 'b', 'a (2)']
    """
    return [n if (k := names[:i].count(n)) == 0 else f"{n} ({k + 1})" for i, n in enumerate(names)]


def _panel(axes: Any, kind: str, logs: list[str], runs: list[Run], names: list[str]) -> None:
    both = any(n.startswith("val_") for n in logs)
    values: list[float] = []
    for i, (run, name) in enumerate(zip(runs, names, strict=True)):
        for log in (n for n in logs if n in run.metrics):
            pairs = [(e, v) for e, v in zip(run.epochs, run.metrics[log], strict=True) if v is not None]
            values += [v for _, v in pairs if v == v and abs(v) != float("inf")]
            training = both and log.startswith("train_")
            phase = f" {log.partition('_')[0]}" if len(logs) > 1 else ""
            axes.plot(
                *zip(*pairs, strict=True), color=f"C{i % 10}", linestyle="--" if training else "-", marker="o" if len(pairs) == 1 else None,
                alpha=0.6 if training else 1.0, label=f"{name}{phase}",
            )  # fmt: skip
    if values and min(values) > 0 and max(values) > LARGE * min(values):
        axes.set_yscale("log")
    axes.set(title=kind if len(logs) > 1 else logs[0], xlabel="epoch")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
