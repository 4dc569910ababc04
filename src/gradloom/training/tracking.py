"""Loss and metrics of a phase: computed inside the step where they can be, and added up without waiting for the engine."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .. import ops
from ..dtypes import float32
from ..errors import OptionError, explain
from ..tensor.tensor import Tensor
from .metrics import LossTracker

#: Steps whose values are not read yet: by then the older ones are computed, and reading them waits for nothing.
HELD = 256


class Tracker(Mapping):
    """The running logs of a phase, as a mapping {"train_loss": number}: reading one waits for the engine.

    Args:
        phase: "train" or "val".
        metrics: {name: metric}.
    """

    def __init__(self, phase: str, metrics: dict[str, Any]):
        self.phase, self.metrics = phase, metrics
        others = {n: m for n, m in metrics.items() if not isinstance(m, LossTracker)}
        self.inside = {n: m for n, m in others.items() if getattr(m, "has_in_step", False) and "loss" not in m.takes}
        self.outside = {n: m for n, m in others.items() if n not in self.inside}
        self._keys: list[tuple[str, str]] = []
        self.reset()

    def reset(self) -> None:
        """Forgets all values."""
        self._held: list[tuple[Tensor, tuple]] = []
        self._sums: np.ndarray | None = None
        for m in self.metrics.values():
            m.reset()

    # --- in the step

    def in_step(self, loss: Any, weight: Any, outputs: Any, targets: Any) -> tuple[Tensor, tuple, Any]:
        """What a step returns for `take`.

        Returns:
            (the loss, the weight and the metrics' values in one array, those of them that are known before the step runs, the
            outputs if a metric needs them). What is known, such as the number of samples, is not computed in the step.
        """
        found, keys = [weight], []
        for name, metric in list(self.inside.items()):
            try:
                shares = metric.in_step(outputs, targets)
            except OptionError as error:
                if "has no in_step" not in str(error):
                    raise
                self.outside[name] = self.inside.pop(name)  # not with its options
                continue
            keys += [(name, key) for key in shares]
            found += shares.values()
        self._keys = keys
        computed = [loss, *(x for x in found if isinstance(x, Tensor))]
        d = loss.dtype if loss.dtype.itemsize > 2 else float32  # counts and sums do not fit into half precision
        computed = [x if x.dtype is d else ops.astype(x, dtype=d) for x in computed]
        known = tuple(None if isinstance(x, Tensor) else float(x) for x in found)
        needed = any("outputs" in given(m) for m in self.outside.values())
        return computed[0] if len(computed) == 1 else ops.stack(*computed, axis=0), known, outputs if needed else None

    # --- outside

    def take(self, seen: tuple[Tensor, tuple, Any], targets: Any) -> None:
        """Adds what a step returned."""
        self._held.append(seen[:2])
        if len(self._held) >= 2 * HELD:
            self._add(HELD)
        if self.outside:
            values, known, outputs = seen
            batch = {"outputs": outputs, "targets": targets, "loss": loss_of(seen)}
            for metric in self.outside.values():
                if "batch_size" in given(metric):
                    batch["batch_size"] = values[1] if known[0] is None else known[0]
                metric.update(*(batch[k] for k in given(metric)))

    def _add(self, count: int) -> None:
        """Adds the oldest steps to the sums, one after the other: so it does not matter when it is done."""
        held, self._held = self._held[:count], self._held[count:]
        for known, group in itertools.groupby(held, key=lambda seen: seen[1]):
            rows = np.array([t.detach().numpy() for t, _ in group], np.float64)
            columns = iter(rows.reshape(len(rows), -1).T)
            loss = next(columns)
            found = np.array([next(columns) if k is None else np.full(len(rows), k) for k in known])
            # Where nothing counts the loss is 0 / 0, and no part of the mean.
            first = np.where(found[0] == 0, 0.0, loss * found[0])
            terms = np.vstack([first, found]).T
            before = np.zeros((1, terms.shape[1])) if self._sums is None else self._sums[None]
            self._sums = np.add.accumulate(np.concatenate([before, terms]))[-1]

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
        """All logs, as plain numbers; a `MetricCollection` gives several."""
        logs: dict[str, Any] = {}
        for name in self:
            value = self[name]
            if isinstance(value, Mapping):
                logs.update((f"{self.phase}_{k}", plain(v)) for k, v in value.items())
            else:
                logs[name] = value
        return logs

    def state_dict(self) -> dict[str, Any]:
        """What was added up so far, for a run that is cut in mid-epoch."""
        self._add(len(self._held))
        states = {n: m.state_dict() for n, m in self.metrics.items() if hasattr(m, "state_dict")}
        sums = None if self._sums is None else self._sums.tolist()
        return {"sums": sums, "keys": [list(k) for k in self._keys], "metrics": states}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.reset()
        sums = state_dict["sums"]
        self._sums = None if sums is None else np.array(sums)
        self._keys = [(name, key) for name, key in state_dict["keys"]]
        for name, state in state_dict["metrics"].items():
            self.metrics[name].load_state_dict(state)

    def __getitem__(self, name: str) -> Any:
        phase, _, key = name.partition("_")
        if phase == self.phase and (key == "loss" or isinstance(self.metrics.get(key), LossTracker)):
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


def loss_of(seen: tuple[Tensor, tuple, Any]) -> Tensor:
    """The mean loss of the batch in what a step returned."""
    return seen[0][0] if seen[0].ndim else seen[0]


def plain(value: Any) -> Any:
    """A metric's value as a Python number, or a list of them."""
    if isinstance(value, np.ndarray):
        return value.item() if value.ndim == 0 else value.tolist()
    return value.item() if hasattr(value, "item") else value


def given(metric: Any) -> tuple[str, ...]:
    """What a metric's `update` is given; one of one's own takes outputs and targets."""
    return getattr(metric, "takes", ("outputs", "targets"))


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
        if name in result:
            raise OptionError(
                explain(
                    f"two metrics are called '{name}'",
                    do="give a dict {name: metric}, or a training pair and a validation pair: [a, b, a, b]",
                )
            )
        result[name] = metric
    return result
