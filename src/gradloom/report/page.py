"""The report: one HTML file with its style, script and charts in it; it asks for nothing from anywhere."""

from __future__ import annotations

import math
import os
from html import escape
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, explain
from ..training.callbacks.profiler import short as short_time
from ..training.callbacks.progress import duration
from ..training.callbacks.run_folder import write
from .code import coloured
from .run import Run, read_run
from .style import SCRIPT, STYLE
from .svg import Series, bar_chart, line_chart, short

#: A range of more than this is shown on a logarithmic axis first.
LARGE = 30.0
#: More classes than this are not drawn as a matrix.
MOST_CLASSES = 40
#: Percent of a row from which a number in the matrix is white: there and below, its contrast is 4.5 or more.
WHITE_FROM = 74
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def write_report(run: Any, out: Any = None) -> Path:
    """Writes the report of a run.

    Args:
        run: A run folder, or a `Run`.
        out: The file. Default: report.html in the folder.

    Returns:
        The file.

    Raises:
        OptionError: The folder is no run folder.
        FileFormatError: Its metrics cannot be read, or the file cannot be written.

    Example:
        >>> import os, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with open(os.path.join(folder, "metrics.csv"), "w") as file:
        ...     _ = file.write("epoch,train_loss\\n1,0.5\\n")
        >>> write_report(folder).name
        'report.html'
    """
    run = run if isinstance(run, Run) else read_run(run)
    file = run.folder / "report.html" if out is None else Path(os.fspath(out))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, page(run))
    except OSError as error:
        raise FileFormatError(
            explain(f"the report cannot be written: {error.strerror or error}", where=file)
        ) from error
    return file


def page(run: Run) -> str:
    """The report as HTML."""
    sections = [
        _header(run), _tiles(run), _curves(run), _timing(run), _confusion(run), _model(run), _source(run), _settings(run),
    ]  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<link rel="icon" href="data:,"><title>{escape(run.name)} – gradloom report</title><style>{STYLE}</style></head>\n'
        "<body><main>\n" + "\n".join(s for s in sections if s) + f"\n</main><script>{SCRIPT}</script></body></html>\n"
    )


def _header(run: Run) -> str:
    info = run.info
    status = str(info.get("status", ""))
    known = status if status in ("finished", "stopped", "running", "failed", "interrupted") else ""
    state = f'<span class="state {known}">{escape(status)}</span>' if status else ""
    facts = [
        f"{len(run.epochs)} epoch{'s' * (len(run.epochs) != 1)}",
        f"{info['steps']:,} steps" if isinstance(info.get("steps"), int) else "",
        f"on {info['backend']}" if info.get("backend") else "",
        str(info.get("written", "")).replace("T", " ")[:16],
    ]
    text = " · ".join(escape(str(f)) for f in facts if f)
    reason = f'<p class="sub">{escape(str(info["reason"]))}</p>' if info.get("reason") else ""
    faults = "".join(f'<p class="card warn">{escape(fault)}</p>' for fault in run.faults)
    return f'<header><h1>{escape(run.name)}</h1>{state}<p class="sub">{text}</p>{reason}</header>{faults}'


def _tiles(run: Run) -> str:
    tiles = []
    for logs in run.kinds().values():
        name = next((n for n in logs if n.startswith("val_")), logs[-1])
        best = run.best(name)
        if best is not None:
            tiles.append((short(best[1]), f"{'best ' if _has_best(name) else ''}{name}", f"epoch {best[0]}"))
    if run.layers:
        tiles.append((f"{run.layers['parameters']:,}", "parameters", f"{len(run.layers['layers'])} layers"))
    seconds = [row["seconds"] for row in run.timing.get("epochs", [])]
    if seconds:
        tiles.append((duration(sum(seconds)), "training", f"{short_time(sum(seconds) / len(seconds))} an epoch"))
    shown = "".join(
        f'<div class="tile"><b>{escape(v)}</b><span>{escape(n)}</span><span>{escape(d)}</span></div>'
        for v, n, d in tiles
    )
    return f'<section class="tiles" aria-label="Summary">{shown}</section>' if tiles else ""


def _has_best(name: str) -> bool:
    return name.startswith(("val_", "train_"))


# --- charts


def _curves(run: Run) -> str:
    cards = [_chart(run, kind, logs) for kind, logs in run.kinds().items()]
    if "lr" in run.metrics:
        cards.append(_chart(run, "learning rate", ["lr"]))
    if not run.epochs:
        return '<section><h2>Curves</h2><p class="card">No epoch is done yet.</p></section>'
    return f'<section><h2>Curves</h2><div class="cards">{"".join(cards)}</div></section>'


def _chart(run: Run, title: str, logs: list[str]) -> str:
    styles = {"train": "a", "val": "b"}
    series = [Series(n, run.metrics[n], styles.get(n.partition("_")[0], "bcd"[i % 3])) for i, n in enumerate(logs)]
    numbers = [v for s in series for v in s.values if v is not None]
    finite = [v for v in numbers if math.isfinite(v)]
    keys = "".join(f'<span class="key {s.style}">{escape(s.name)}</span>' for s in series)
    switch, drawn = "", f'<div class="linear">{line_chart(title, run.epochs, series)}</div>'
    if finite and min(finite) > 0 and max(finite) > 3 * min(finite):
        checked = " checked" if max(finite) > LARGE * min(finite) and title != "learning rate" else ""
        switch = f'<label class="switch"><input type="checkbox"{checked}> log scale</label>'
        drawn += f'<div class="log">{line_chart(title, run.epochs, series, log=True)}</div>'
    lost = len(numbers) - len(finite)
    note = f'<p class="notes">{lost} value{"s" * (lost != 1)} not finite</p>' if lost else ""
    head = f'<div class="head"><h3>{escape(title)}</h3>{keys}{switch}</div>'
    return f'<figure class="card chart" style="margin:0">{head}{drawn}{note}</figure>'


def _timing(run: Run) -> str:
    epochs, parts = run.timing.get("epochs", []), run.timing.get("parts", [])
    cards = []
    if epochs:
        numbers, seconds = [int(e["epoch"]) for e in epochs], [float(e["seconds"]) for e in epochs]
        chart = bar_chart("seconds", numbers, seconds, "s")
        note = "The first epoch has compilation in it." if len(numbers) > 1 and numbers[0] == 1 and run.source else ""
        cards.append(
            f'<figure class="card" style="margin:0"><div class="head"><h3>seconds of each epoch</h3></div>{chart}'
            + (f'<p class="notes">{note}</p>' if note else "")
            + "</figure>"
        )
    if parts:
        whole = sum(float(row["seconds"]) for row in parts) or 1.0
        rows = "".join(
            f'<tr><th scope="row">{escape(str(row.get("part", "")))}</th><td class="n">{row["seconds"]:.3f}</td>'
            f'<td class="n">{row["times"]:,}</td><td class="n">{short_time(row["median"])}</td>'
            f'<td class="share"><i style="width:{100 * row["seconds"] / whole:.1f}%"></i></td></tr>'
            for row in parts
        )
        head = _heads("part", "n:seconds", "n:times", "n:median", "share")
        cards.append(f'<div class="card scroll" tabindex="0" role="region" aria-label="Times of parts">'
                     f'<table class="rows">{head}<tbody>{rows}</tbody></table></div>')  # fmt: skip
    return f'<section><h2>Time</h2><div class="cards two">{"".join(cards)}</div></section>' if cards else ""


# --- tables


def _heads(*names: str) -> str:
    cells = "".join(
        f'<th scope="col" class="n">{escape(n[2:])}</th>' if n.startswith("n:") else f'<th scope="col">{escape(n)}</th>'
        for n in names
    )
    return f"<thead><tr>{cells}</tr></thead>"


def _confusion(run: Run) -> str:
    if not run.confusion:
        return ""
    labels, matrix = [str(x) for x in run.confusion["labels"]], run.confusion["matrix"]
    total = sum(map(sum, matrix)) or 1
    right = sum(matrix[i][i] for i in range(len(matrix)))
    pairs = sorted(
        ((matrix[i][j], i, j) for i in range(len(matrix)) for j in range(len(matrix)) if i != j and matrix[i][j]),
        key=lambda p: -p[0],
    )
    worst = ", ".join(f"{labels[i]} taken for {labels[j]} ({short(n)})" for n, i, j in pairs[:5])
    note = f"{right / total:.2%} on the diagonal. " + (f"Most often confused: {worst}." if worst else "None confused.")
    drawn = ""
    if len(labels) <= MOST_CLASSES:
        drawn = (
            '<div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix">' + _matrix(labels, matrix) + "</div>"
        )  # fmt: skip
    else:
        note = f"{len(labels)} classes, too many to draw. " + note
    return f'<section><h2>Confusion matrix</h2><div class="card">{drawn}<p class="notes">{escape(note)}</p></div></section>'


def _matrix(labels: list[str], matrix: list[list[float]]) -> str:
    head = "".join(f'<th scope="col">{escape(label)}</th>' for label in labels)
    rows = []
    for label, row in zip(labels, matrix, strict=True):
        whole = sum(row) or 1
        cells = []
        for other, value in zip(labels, row, strict=True):
            share = 100 * value / whole
            style = "zero" if not value else "hi" if share >= WHITE_FROM else ""
            title = escape(f"{label} taken for {other}: {short(value)}, {share:.1f} % of {label}")
            cells.append(f'<td class="{style}" style="--v:{share:.1f}" title="{title}">{short(value)}</td>')
        recall = row[labels.index(label)] / whole if len(set(labels)) == len(labels) else None
        cells.append(f'<td class="sum">{"" if recall is None else f"{recall:.1%}"}</td>')
        rows.append(f'<tr><th scope="row">{escape(label)}</th>{"".join(cells)}</tr>')
    return (
        '<table class="matrix"><caption class="notes" style="margin:0 0 6px">rows: true class, columns: prediction</caption>'
        f"<thead><tr><td class='sum'></td>{head}<th scope='col'>recall</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def shape_text(shape: Any) -> str:
    """A shape with ? for the batch; "" where it is not known.

    Example:
        >>> shape_text([None, 3, 8])
        '? × 3 × 8'
    """
    return "" if shape is None else " × ".join("?" if n is None else str(n) for n in shape) or "scalar"


def _model(run: Run) -> str:
    if not run.layers:
        return ""
    layers = run.layers["layers"]
    most = max((row["parameters"] for row in layers), default=0) or 1
    rows = []
    for row in layers:
        count = row["parameters"]
        bar = f'<i style="width:{100 * count / most:.1f}%"></i>' if count else ""
        frozen = " (frozen)" if count and not row.get("trained") else ""
        rows.append(
            f'<tr><th scope="row">{escape(str(row.get("name") or "(model)"))}</th><td>{escape(str(row.get("type", "")))}</td>'
            f'<td>{escape(shape_text(row["output"]))}</td><td class="n">{f"{count:,}" if count else ""}{frozen}</td>'
            f'<td class="share">{bar}</td></tr>'
        )
    whole = run.layers
    foot = (
        f'<tfoot><tr><th scope="row" colspan="3">{whole["trained"]:,} of them trained; {_bytes(whole["bytes"])}</th>'
        f'<td class="n">{whole["parameters"]:,}</td><td></td></tr></tfoot>'
    )
    table = f'<table class="rows">{_heads("layer", "type", "output", "n:parameters", "")}<tbody>{"".join(rows)}</tbody>{foot}'
    return (
        '<section><h2>Model</h2><div class="card scroll" tabindex="0" role="region" aria-label="Layers of the model">'
        f"{table}</table></div></section>"
    )


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:g} bytes"


def _source(run: Run) -> str:
    if not run.source:
        return ""
    # The functions that the step calls stand above it in the text; the step is what one wants to see.
    helpers, _, step = run.source.rpartition("\n\ndef ")
    step = f"def {step}" if helpers else run.source
    lines = run.source.rstrip("\n").count("\n") + 1
    above = _code(helpers.strip("\n"), "Functions that the step calls") if helpers.strip() else ""
    if above:
        count = helpers.strip("\n").count("\n") + 1
        above = f"<details><summary>the functions that it calls ({count} lines, above it in the text)</summary>{above}</details>"
    return (
        f'<section><h2>Training step</h2><div class="card"><p class="notes" style="margin:0 0 8px">'
        f"step.py: {lines} lines, emitted by gradloom.jit; this text is what ran</p>{above}"
        f"{_code(step, 'Source of the training step')}</div></section>"
    )


def _code(source: str, label: str) -> str:
    return f'<pre class="scroll code" tabindex="0" role="region" aria-label="{label}">{coloured(source)}</pre>'


def _settings(run: Run) -> str:
    cards = []
    if run.config:
        cards.append(
            '<div class="card"><div class="head"><h3>Configuration</h3></div>'
            f'<pre class="scroll" tabindex="0" role="region" aria-label="Configuration">{escape(run.config)}</pre></div>'
        )
    names = ("gradloom", "backend", "engine", "device", "dtype", "python", "platform", "started", "written")
    facts = [(n, run.info[n]) for n in names if run.info.get(n)]
    if facts:
        rows = "".join(f"<dt>{escape(n)}</dt><dd>{escape(str(v))}</dd>" for n, v in facts)
        cards.append(f'<div class="card"><div class="head"><h3>Environment</h3></div><dl>{rows}</dl></div>')
    return f'<section><h2>Settings</h2><div class="cards two">{"".join(cards)}</div></section>' if cards else ""
