"""Data that settings name: scikit-learn's digits, tables (.csv), arrays (.npz)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MissingExtraError, explain
from ..random import key, permutation
from ..training.data import DataLoader
from .config import Config, ConfigError, near

SOURCES = ("digits",)


@dataclass
class Data:
    """Inputs (N, ...) float32 and targets (N,) int64 or (N, 1) float32; the names of the classes, or None."""

    inputs: np.ndarray
    targets: np.ndarray
    labels: list[str] | None


def load(config: Config) -> Data:
    """The data that [data] names.

    Raises:
        ConfigError: There is no such source, file, column or array.
    """
    table = config.table("data")
    source = table.get("source", "")
    suffix = Path(source).suffix
    if suffix not in (".csv", ".npz"):
        if source not in SOURCES:
            raise ConfigError(
                explain(
                    f"the source '{source}' is unknown",
                    expected=f"{', '.join(SOURCES)}, or a .csv or .npz file",
                    where=config.where("data"),
                    do=near(source, SOURCES),
                )
            )
        inputs, targets = _digits()
    else:
        path = config.path(source)
        try:
            inputs, targets = (_csv if suffix == ".csv" else _npz)(path, config)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(explain(f"{path} cannot be read: {reason}", where=config.where("data"))) from None
    data = _typed(inputs, targets, config)
    if "shape" in table:
        try:
            data.inputs = data.inputs.reshape(len(data.inputs), *table["shape"])
        except ValueError:
            raise ConfigError(
                explain(
                    "the inputs do not have that shape",
                    expected=f"a shape of {data.inputs[0].size} numbers",
                    given=table["shape"],
                    where=config.where("data"),
                )
            ) from None
    return data


def loaders(data: Data, config: Config, seed: int) -> tuple[DataLoader, DataLoader | None]:
    """Training and validation batches; the split is drawn from the seed."""
    table = config.table("data")
    share, size = table.get("validation", 0.2), table.get("batch_size", 32)
    where = config.where("data")
    if not 0 <= share < 1:
        raise ConfigError(
            explain("'validation' is a share of the samples", expected="0 to 1", given=share, where=where)
        )
    if size < 1:
        raise ConfigError(explain("'batch_size' counts samples", expected="1 or more", given=size, where=where))
    count = len(data.inputs)
    held = round(share * count)
    if count - held < 1 or (share and not held):
        raise ConfigError(
            explain("too few samples to split", given=f"{count} samples, validation={share}", where=where)
        )
    order = permutation(key(seed, "split"), count)
    train, val = order[: count - held], order[count - held :]
    inputs = data.inputs
    if table.get("standardize", False):  # by the training part's numbers
        mean, spread = inputs[train].mean(0), inputs[train].std(0)
        inputs = ((inputs - mean) / np.where(spread > 0, spread, 1)).astype("float32")
    training = DataLoader(
        (inputs[train], data.targets[train]), size, table.get("shuffle", True), drop_last=table.get("drop_last", False), seed=seed
    )  # fmt: skip
    return training, DataLoader((inputs[val], data.targets[val]), size) if held else None


def _digits() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as missing:
        raise MissingExtraError(
            explain("the source 'digits' needs scikit-learn", do="pip install 'gradloom[demo]'")
        ) from missing
    images, labels = load_digits(return_X_y=True)
    return images / 16, labels


def _columns(table: dict[str, Any]) -> tuple[list[str] | None, str | None]:
    inputs = table.get("inputs")
    return ([inputs] if isinstance(inputs, str) else inputs), table.get("target")


def _csv(path: Path, config: Config) -> tuple[np.ndarray, np.ndarray]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if len(rows) < 2:
        raise ConfigError(explain(f"{path} has no rows below its header", where=config.where("data")))
    head, rows = rows[0], rows[1:]
    short = next((i for i, row in enumerate(rows, 2) if len(row) != len(head)), None)
    if short is not None:
        raise ConfigError(
            explain(
                f"row {short} of {path} has {len(rows[short - 2])} values", expected=f"{len(head)}, as in its header"
            )
        )
    names, target = _columns(config.table("data"))
    target = head[-1] if target is None else target
    names = [n for n in head if n != target] if names is None else names
    for name in [*names, target]:
        _known(name, head, "column", config)
    columns = {n: [row[head.index(n)] for row in rows] for n in [*names, target]}
    inputs = np.stack([_numbers(columns[n], n, path) for n in names], 1)
    try:
        numbers = np.array([float(x) for x in columns[target]])
        whole = all(x.strip().lstrip("+-").isdigit() for x in columns[target])
        return inputs, numbers.astype("int64") if whole else numbers
    except ValueError:
        return inputs, np.array(columns[target])


def _numbers(values: list[str], name: str, path: Path) -> np.ndarray:
    for i, value in enumerate(values, 2):
        try:
            float(value)
        except ValueError:
            raise ConfigError(
                explain(
                    f"row {i} of {path}: '{name}' is no number",
                    given=repr(value),
                    do="choose other columns: inputs = [...]",
                )
            ) from None
    return np.array(values, dtype="float64")


def _npz(path: Path, config: Config) -> tuple[np.ndarray, np.ndarray]:
    names, target = _columns(config.table("data"))
    try:
        with np.load(path, allow_pickle=False) as file:
            wanted = [*(["x"] if names is None else names), "y" if target is None else target]
            for name in wanted:
                _known(name, file.files, "array", config)
            arrays = [file[name] for name in wanted]
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(explain(f"{path} cannot be read: {error}", where=config.where("data"))) from None
    if len(arrays) != 2 or arrays[0].ndim < 2 or len(arrays[0]) != len(arrays[1]):
        shapes = ", ".join(f"{n} {list(a.shape)}" for n, a in zip(wanted, arrays, strict=True))
        raise ConfigError(
            explain(
                "inputs and targets do not fit", expected="one array (N, ...) and one (N,)", given=shapes, where=path
            )
        )
    return arrays[0], arrays[1]


def _known(name: str, known: Any, what: str, config: Config) -> None:
    if name not in known:
        raise ConfigError(
            explain(
                f"there is no {what} '{name}'",
                expected=", ".join(known),
                where=config.where("data"),
                do=near(name, known),
            )
        )


def _typed(inputs: np.ndarray, targets: np.ndarray, config: Config) -> Data:
    if not np.issubdtype(inputs.dtype, np.number):
        raise ConfigError(explain("the inputs are no numbers", given=inputs.dtype, where=config.where("data")))
    inputs = np.ascontiguousarray(inputs, dtype="float32")
    if targets.dtype.kind in "US":
        names, targets = np.unique(targets, return_inverse=True)
        return Data(inputs, targets.astype("int64"), [str(n) for n in names])
    if targets.dtype.kind in "iub":
        return Data(inputs, targets.astype("int64"), None)
    return Data(inputs, targets.reshape(len(targets), -1).astype("float32"), None)
