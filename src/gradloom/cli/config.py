"""Settings in TOML: read, overridden, checked. A file names only what gradloom has; nothing in it is imported or run."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import nn, optim
from ..errors import GradloomError, OptionError, explain
from ..models.codec import fits, hint_text, hints, near, registry
from ..models.part import Layer
from ..optim import lr_scheduler
from ..optim.bound import Optimizer
from ..training import callbacks, metrics
from ..training.callbacks import Callback
from ..training.metrics import Metric

__all__ = ["Config", "ConfigError", "build_named", "load_config", "near", "options"]


class ConfigError(OptionError):
    """What was asked for is not valid: the command ends with status 2."""


#: The tables of a file and their keys: {table: {key: type}}.
TABLES: dict[str, dict[str, Any]] = {
    "": {"backend": str, "seed": int, "run": str, "data": dict, "model": dict, "loss": dict | str, "optimizer": dict | str,
         "scheduler": dict | str, "training": dict, "metrics": list[dict | str], "callbacks": list[dict | str]},
    "data": {"source": str, "inputs": str | list[str], "target": str, "shape": list[int], "standardize": bool,
             "validation": float, "batch_size": int, "shuffle": bool, "drop_last": bool},
    "model": {"layers": list[dict | str], "file": str},
    "training": {"epochs": int, "steps": int, "validate_every": int, "limit": int, "accumulate": int, "clip_norm": float,
                 "clip_value": float, "compile": bool},
}  # fmt: skip

_RATES = ("lr", "learning_rate")
_NOT_FROM_A_FILE = {
    "Callback", "LambdaCallback", "LRSchedulerCallback", "LearningRateFinder", "GradientAccumulationSchedule", "RunFolder",
    "LRScheduler", "SequentialLR", "ChainedScheduler", "LambdaLR", "MultiplicativeLR", "ScheduleLR", "LinearWarmupScheduler",
    "SWALR", "Metric", "MetricCollection", "Optimizer", "Bound", "LBFGS", "TripletMarginWithDistanceLoss",
}  # fmt: skip


def _classes(module: Any, base: type, names: Iterable[str]) -> dict[str, type]:
    found = {n: getattr(module, n) for n in names if n not in _NOT_FROM_A_FILE}
    return {n: c for n, c in found.items() if isinstance(c, type) and issubclass(c, base)}


#: What names mean: {kind: {name: class}}.
NAMES: dict[str, dict[str, type]] = {
    "layer": dict(registry()),
    "loss": {n: c for n, c in _classes(nn, nn.Module, dir(nn)).items() if n.endswith("Loss")},
    "optimizer": _classes(optim, Optimizer, optim.__all__),
    "scheduler": _classes(lr_scheduler, object, lr_scheduler.__all__),
    "metric": _classes(metrics, Metric, metrics.__all__),
    "callback": _classes(callbacks, Callback, callbacks.__all__),
}


@dataclass
class Config:
    """Checked settings.

    Attributes:
        values: The document, with overrides.
        file: Where it is from; paths in it are relative to its folder.
    """

    values: dict[str, Any]
    file: Path

    def table(self, name: str) -> dict[str, Any]:
        """A table; {} where there is none."""
        return self.values.get(name, {})

    def path(self, text: str) -> Path:
        """A path in the file."""
        return self.file.parent / text

    def where(self, table: str) -> str:
        """A place, for messages."""
        return f"[{table}] in {self.file}" if table else str(self.file)


def load_config(file: Path, overrides: list[str]) -> Config:
    """Reads a file and checks the keys and types of its tables.

    Args:
        file: A TOML file.
        overrides: Words such as "optimizer.lr=0.01" or "model.layers.0.dimension=64".

    Raises:
        ConfigError: The file cannot be read, or a key is unknown, or a value of another type.
    """
    if file.suffix != ".toml":
        raise ConfigError(
            explain("that is neither a script nor settings", expected="a .py or a .toml file", given=file)
        )
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(explain(f"{file} cannot be read: {error.strerror or error}")) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(explain(f"{file} is no TOML: {error}")) from None
    for word in overrides:
        override(values, word)
    config = Config(values, file)
    _check_table(config, "", values)
    for name in ("data", "model", "training"):
        _check_table(config, name, config.table(name))
    for name in ("data", "model", "loss", "optimizer", "training"):
        if name not in values:
            raise ConfigError(explain(f"the table [{name}] is missing", where=config.where("")))
    return config


def override(values: dict[str, Any], word: str) -> None:
    """Puts "a.b=value" into a document; the value is one of TOML, or a bare word.

    Example:
        >>> values = {"optimizer": {"name": "Adam"}}
        >>> override(values, "optimizer.lr=0.01")
        >>> override(values, "optimizer.name=SGD")
        >>> values
        {'optimizer': {'name': 'SGD', 'lr': 0.01}}
    """
    path, equals, text = word.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(explain("that is no setting", expected="key=value, as in optimizer.lr=0.01", given=word))
    try:
        found = tomllib.loads(f"value = {text}")
        value: Any = found["value"] if len(found) == 1 else text
    except tomllib.TOMLDecodeError:
        value = text.strip()
    here: Any = values
    for i, key in enumerate(keys):
        last = i == len(keys) - 1
        if isinstance(here, list):
            if not key.isdigit() or int(key) >= len(here):
                raise ConfigError(
                    explain(
                        f"there is no '{'.'.join(keys[: i + 1])}'",
                        expected=f"a number from 0 to {len(here) - 1}",
                        given=word,
                    )
                )
            key = int(key)  # type: ignore[assignment]
        elif not isinstance(here, dict):
            raise ConfigError(explain(f"'{'.'.join(keys[:i])}' is no table", given=word))
        elif not last:
            here.setdefault(key, {})
        if last:
            if keys[:i] == ["optimizer"] and key in _RATES:  # the other name of it in the file gives way
                for name in _RATES:
                    here.pop(name, None)
            here[key] = value
        elif isinstance(here[key], str) and not isinstance(here, list) and keys[:i] == []:
            here[key] = {"name": here[key]}  # optimizer = "Adam" is short for a table
        here = here[key]


def unknown(what: str, name: Any, known: Iterable[str], where: str) -> ConfigError:
    """The error for a name that there is not, with the nearest one."""
    known = list(known)
    shown = known if len(known) <= 24 else [*known[:24], f"... ({len(known)})"]
    return ConfigError(
        explain(f"{what} '{name}' is unknown", expected=", ".join(shown), where=where, do=near(name, known))
    )


def _check_table(config: Config, name: str, table: Any) -> None:
    known, where = TABLES[name], config.where(name)
    for key, value in table.items():
        if key not in known:
            raise unknown("the key", key, known, where)
        if not fits(value, known[key]):
            raise ConfigError(
                explain(
                    f"'{key}' has a value of another type",
                    expected=hint_text(known[key]),
                    given=repr(value),
                    where=where,
                )
            )


def options(config: Config, kind: str, entry: Mapping[str, Any] | str, where: str, skip: int = 0) -> tuple[type, dict]:
    """The class that an entry names and its options, checked against the class's own.

    Args:
        config: Where it is from.
        kind: "layer", "loss", "optimizer", "scheduler", "metric" or "callback".
        entry: "Adam", or {"name": "Adam", "lr": 0.1}; a layer has its class as "layer".
        where: For messages.
        skip: Leading parameters that are given by the program (the optimizer's parameters).
    """
    entry = {"layer" if kind == "layer" else "name": entry} if isinstance(entry, str) else dict(entry)
    key = "layer" if kind == "layer" else "name"
    place = config.where(where)
    if key not in entry:
        raise ConfigError(explain(f"a {kind} has no '{key}'", given=str(entry), where=place))
    name = entry.pop(key)
    if name not in NAMES[kind]:
        raise unknown(f"the {kind}", name, NAMES[kind], place)
    cls = NAMES[kind][name]
    known = dict(list(hints(cls).items())[skip:])
    if kind == "optimizer":  # the functional optimizers' name of it
        known["learning_rate"] = known["lr"]
        if "learning_rate" in entry and "lr" in entry:
            raise ConfigError(explain("'lr' and 'learning_rate' are the same", do="give one of them", where=place))
    for option, value in entry.items():
        if option not in known:
            raise unknown(f"the option of {name}", option, known, place)
        if not fits(value, known[option]):
            raise ConfigError(
                explain(
                    f"{name}: '{option}' has a value of another type",
                    expected=hint_text(known[option]),
                    given=repr(value),
                    where=place,
                )
            )
    signature = inspect.signature(cls).parameters
    if kind == "optimizer":
        del known["learning_rate"]
        entry = {"lr" if n == "learning_rate" else n: v for n, v in entry.items()}
    missing = [n for n in known if signature[n].default is inspect.Parameter.empty and n not in entry]
    if missing:
        raise ConfigError(explain(f"{name} needs {', '.join(missing)}", where=place))
    return cls, {n: tuple(v) if isinstance(v, list) and kind != "layer" else v for n, v in entry.items()}


def build_named(config: Config, kind: str, entry: Any, where: str, *first: Any) -> Any:
    """The object that an entry describes."""
    cls, given = options(config, kind, entry, where, len(first))
    try:
        return cls(*first, **given)
    except (GradloomError, TypeError, ValueError) as error:
        raise ConfigError(f"{error}\n  {'in:':<10}{config.where(where)}") from error


def layer(config: Config, entry: Any, index: int) -> Layer:
    """A layer of the model."""
    return build_named(config, "layer", entry, f"model.layers.{index}")
