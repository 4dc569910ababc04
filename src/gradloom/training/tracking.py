"""Loss and metrics of a phase: computed inside the step where they can be, and added up without waiting for the engine."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .. import ops
from ..errors import OptionError, explain
from ..tensor.tensor import Tensor

HELD = (
    256  # steps whose values are not read yet: by then the older ones are computed, and reading them waits for nothing
)


class Tracker(Mapping):
    """The running logs of a phase, as a mapping {"train_loss": number}: reading one waits for the engine.

    Args:
        phase: "train" or "val".
        metrics: {name: metric}.
    """

    def __init__(self, phase: str, metrics: dict[str, Any]):
        self.phase, self.metrics = phase, metrics
        self.inside = {n: m for n, m in metrics.items() if hasattr(m, "in_step") and takes_in_step(m)}
        self.outside = {n: m for n, m in metrics.items() if n not in self.inside and not is_loss(m)}
        self.of_loss = True
        self._keys: list[tuple[str, str]] = []
        self.reset()

    def reset(self) -> None:
        """Forgets all values."""
        self._held: list[Tensor] = []
        self._sums: np.ndarray | None = None
        for m in self.metrics.values():
            m.reset()

    # --- in the step

    def in_step(self, loss: Any, weight: Any, outputs: Any, targets: Any) -> tuple[Tensor, Any]:
        """What a step returns: [loss * weight, weight, values of metrics] in one array, and the outputs if a metric needs them."""
        found = [ops.multiply(loss, weight), weight]
        keys = []
        for name, metric in self.inside.items():
            for key, value in metric.in_step(outputs, targets).items():
                keys.append((name, key))
                found.append(value)
        self._keys = keys
        d = loss.dtype
        column = [
            ops.astype(x, dtype=d) if isinstance(x, Tensor) else ops.add(ops.zeros_like(loss), float(x)) for x in found
        ]
        return ops.stack(*column, axis=0), outputs if self.outside else None

    # --- outside

    def take(self, values: Tensor, outputs: Any, targets: Any) -> None:
        """Adds what a step returned."""
        self._held.append(values)
        if len(self._held) >= 2 * HELD:
            self._add(HELD)
        for metric in self.outside.values():
            metric.update(outputs, targets)

    def _add(self, count: int) -> None:
        held, self._held = self._held[:count], self._held[count:]
        if held:
            total = np.sum([t.detach().numpy().astype(np.float64) for t in held], axis=0)
            self._sums = total if self._sums is None else self._sums + total

    def _flush(self) -> None:
        self._add(len(self._held))
        if self._sums is None:
            return
        by_metric: dict[str, dict[str, float]] = {}
        for (name, key), value in zip(self._keys, self._sums[2:], strict=True):
            by_metric.setdefault(name, {})[key] = float(value)
        for name, found in by_metric.items():
            self.inside[name].absorb(found)
        self._sums[2:] = 0

    @property
    def loss(self) -> float:
        """The mean loss; NaN before the first step."""
        self._add(len(self._held))
        return float("nan") if self._sums is None or not self._sums[1] else float(self._sums[0] / self._sums[1])

    def compute(self) -> dict[str, float]:
        """All logs, as plain numbers."""
        return {name: self[name] for name in self}

    def __getitem__(self, name: str) -> Any:
        phase, _, key = name.partition("_")
        if phase == self.phase and (key == "loss" or is_loss(self.metrics.get(key))):
            return self.loss
        if phase != self.phase or key not in self.metrics:
            raise KeyError(name)
        self._flush()
        return plain(self.metrics[key].compute())

    def __iter__(self) -> Iterator[str]:
        yield f"{self.phase}_loss"
        yield from (f"{self.phase}_{n}" for n in self.metrics if n != "loss")

    def __len__(self) -> int:
        return sum(1 for _ in self)


def plain(value: Any) -> Any:
    """A metric's value as a Python number, or a list of them."""
    if isinstance(value, np.ndarray):
        return value.item() if value.ndim == 0 else value.tolist()
    return value.item() if hasattr(value, "item") else value


def is_loss(metric: Any) -> bool:
    """Whether it is a `LossTracker`."""
    return any(c.__name__ == "LossTracker" for c in type(metric).__mro__)


def takes_in_step(metric: Any) -> bool:
    """Whether its values can be computed inside a compiled step."""
    return getattr(metric, "in_step_ready", True) and not is_loss(metric)


def paired(metrics: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metrics of training and of validation, by name."""
    if isinstance(metrics, Mapping):
        return {n: _made(m) for n, m in metrics.items()}, {n: copy.deepcopy(_made(m)) for n, m in metrics.items()}
    made = [_made(m) for m in metrics]
    half = len(made) // 2
    kinds = [type(m) for m in made]
    if made and len(made) % 2 == 0 and kinds[:half] == kinds[half:] and len(set(kinds[:half])) == half:
        return _named(made[:half]), _named(made[half:])
    return _named(made), _named(copy.deepcopy(made))


def _made(metric: Any) -> Any:
    metric = metric() if isinstance(metric, type) else metric
    if not all(hasattr(metric, name) for name in ("update", "compute", "reset")):
        raise OptionError(
            explain(
                "that is no metric",
                expected="one of gradloom.training.metrics, or an object with update, compute and reset",
                given=type(metric).__name__,
            )
        )
    return metric


def _named(metrics: Iterable[Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for metric in metrics:
        name = getattr(metric, "name", None) or "".join(
            "_" + c.lower() if c.isupper() and i else c.lower() for i, c in enumerate(type(metric).__name__)
        )
        name = "loss" if is_loss(metric) else name
        if name in result:
            raise OptionError(
                explain(
                    f"two metrics are called '{name}'",
                    do="give a dict {name: metric}, or a training pair and a validation pair: [a, b, a, b]",
                )
            )
        result[name] = metric
    return result
