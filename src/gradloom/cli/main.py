"""`gradloom COMMAND`: what is typed, and what is done with it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from ..backends.registry import BACKENDS
from ..errors import GradloomError, explain
from ..models.document import from_document
from ..models.summary import summary
from ..report import read_run, write_report
from ..report.page import shape_text
from . import engines
from .compare import draw
from .config import ConfigError, load_config
from .train import build, train_config, train_script

EPILOG = """\
examples:
  gradloom train config.toml optimizer.lr=0.01 training.epochs=20
  gradloom train config.toml --resume
  gradloom train --backend jax --run-dir runs/jax script.py --option-of-the-script
  gradloom report runs/jax --open
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: Its words. Default: those of the program.

    Returns:
        The exit status: 0, 1 for what failed, 2 for what was asked wrongly, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser()
    args, more = parser.parse_known_args(ours := _without_script(words))
    if more and (any(word.startswith("-") for word in more) or args.run is not run_train):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    if more:  # argparse takes overrides in one row only
        args.overrides = [*args.overrides, *more]
    args.rest = words[len(ours) :]
    try:
        return args.run(args)
    except ConfigError as error:
        print(f"gradloom: {error}", file=sys.stderr)
        return 2
    except GradloomError as error:
        print(f"gradloom: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("gradloom: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `gradloom ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _without_script(words: list[str]) -> list[str]:
    """The words up to a script: those after it are the script's."""
    if words[:1] == ["train"]:
        for i, word in enumerate(words[1:], 1):
            if word.endswith(".py") and words[i - 1] not in ("--backend", "--run-dir"):
                return words[: i + 1]
    return words


def make_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(
        prog="gradloom",
        description="Trains models on NumPy, JAX, PyTorch and MLX.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = sys.modules[__name__.partition(".")[0]].__version__
    parser.add_argument("--version", action="version", version=f"gradloom {version}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    p = commands.add_parser("train", help="run a script, or train what a TOML file describes")
    p.add_argument("what", help="script.py (its arguments follow) or config.toml")
    p.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings in place of the file's: optimizer.lr=0.01"
    )
    p.add_argument("--backend", choices=list(BACKENDS), help="the default backend")
    p.add_argument("--run-dir", metavar="FOLDER", help="the run folder")
    p.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the run folder")
    p.add_argument("--overwrite", action="store_true", help="begin again in a run folder that holds a run")
    p.set_defaults(run=run_train)

    p = commands.add_parser("plot", help="compare the curves of runs")
    p.add_argument("runs", nargs="+", metavar="RUN", help="run folders")
    p.add_argument(
        "--out", metavar="FILE", help="picture (.png, .svg, .pdf); default: plot.png in the one run, else here"
    )
    p.add_argument("--metric", action="append", metavar="NAME", help="a log or a kind of logs: val_loss, accuracy")
    p.set_defaults(run=run_plot)

    p = commands.add_parser("summary", help="the layers of a model")
    p.add_argument("model", help="config.toml, a model's document (.json), or a run folder")
    p.set_defaults(run=run_summary)

    p = commands.add_parser("backends", help="which engines are installed, and which work")
    p.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="for each engine's check (60)")
    p.set_defaults(run=run_backends)

    p = commands.add_parser("report", help="one HTML page of a run")
    p.add_argument("folder", metavar="RUN", help="the run folder")
    p.add_argument("--out", metavar="FILE", help="default: report.html in the run folder")
    p.add_argument("--open", action="store_true", help="show it in a browser")
    p.set_defaults(run=run_report)
    return parser


def run_train(args: argparse.Namespace) -> int:
    """`gradloom train`."""
    if args.what.endswith(".py"):
        for name in ("resume", "overwrite"):
            if getattr(args, name):
                raise ConfigError(
                    explain(
                        f"--{name} is for TOML files", do=f"give options of the script after it: {args.what} --{name}"
                    )
                )
        return train_script(Path(args.what), args.rest, args.backend, args.run_dir)
    return train_config(
        Path(args.what), args.overrides, args.backend, args.run_dir, resume=args.resume, overwrite=args.overwrite
    )


def run_plot(args: argparse.Namespace) -> int:
    """`gradloom plot`."""
    runs = [read_run(folder) for folder in args.runs]
    print(draw(runs, args.out, args.metric))
    return 0


def run_summary(args: argparse.Namespace) -> int:
    """`gradloom summary`."""
    path = Path(args.model)
    if path.is_dir():
        path = path / "model.json"
    if path.suffix == ".toml":
        job = build(load_config(path, []))
        print(summary(job.net, shapes={"input": [None, *job.sample_shape]}))
        return 0
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            explain(
                f"{path} cannot be read: {getattr(error, 'strerror', None) or error}",
                expected="config.toml, a model's document (.json), or a run folder with model.json",
            )
        ) from None
    if isinstance(document, dict) and isinstance(document.get("layers"), list):
        print(layers_text(document))
    else:
        print(summary(from_document(document)))
    return 0


def layers_text(document: dict) -> str:
    """The table of a run's model.json."""
    head = ["Layer", "Class", "Output", "Count"]
    rows = [
        [str(r["name"] or "(model)"), str(r["type"]), shape_text(r["output"]), f"{r['parameters']:,}" if r["parameters"] else ""]
        for r in document["layers"]
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: list[str]) -> str:
        *left, count = cells
        shown = [c.ljust(w) for c, w in zip(left, widths, strict=False)]
        return "  ".join([*shown, count.rjust(widths[-1])]).rstrip()

    total = (
        f"{document['parameters']:,} parameters, {document['trained']:,} of them trained, {document['bytes']:,} bytes"
    )
    return "\n".join([line(head), line(["-" * w for w in widths]), *map(line, rows), "", total])


def run_backends(args: argparse.Namespace) -> int:
    """`gradloom backends`."""
    print(engines.table([engines.check(name, args.timeout) for name in BACKENDS]))
    return 0


def run_report(args: argparse.Namespace) -> int:
    """`gradloom report`."""
    file = write_report(args.folder, args.out)
    print(file)
    if args.open:
        webbrowser.open(file.resolve().as_uri())
    return 0
