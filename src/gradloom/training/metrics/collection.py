"""Several metrics of the same predictions, which share their work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import FileFormatError, OptionError, explain
from .base import Metric
from .labels import Labels
from .state import Arrays


class MetricCollection:
    """Metrics that are updated together: one count of classes, or one store of scores, serves all that can use it.

    The collection holds copies of the metrics it is given. Its metrics that share look at the same data: update and reset the
    collection, not them.

    Args:
        metrics: A list, whose names are the metrics' (`metric.name`), or a dict of names.
        prefix, postfix: Put before and after the names.

    Raises:
        OptionError: Two metrics of a list have one name, or they take different things.

    Source: the metrics' own.

    Example:
        >>> from gradloom.training.metrics import Accuracy, ConfusionMatrix, F1Score, MetricCollection
        >>> metrics = MetricCollection(
        ...     [Accuracy(num_classes=3), F1Score(num_classes=3, average="macro")], prefix="val_"
        ... )
        >>> metrics.update([0, 2, 1, 1], [0, 1, 1, 1])
        >>> metrics.compute()
        {'val_accuracy': 0.75, 'val_f1_score': 0.6}
    """

    def __init__(self, metrics: Sequence[Metric] | Mapping[str, Metric], prefix: str = "", postfix: str = ""):
        if isinstance(metrics, Mapping):
            items = list(metrics.items())
        else:
            items = [(getattr(m, "name", ""), m) for m in ([metrics] if isinstance(metrics, Metric) else metrics)]
        for i, (name, metric) in enumerate(items):
            if not isinstance(metric, Metric):
                raise OptionError(explain("a collection holds metrics", expected="a Metric", given=repr(metric)))
            if name in dict(items[:i]):
                raise OptionError(
                    explain(
                        "two metrics have one name",
                        expected="names that differ",
                        given=f"{name!r} twice",
                        do="give a dict: MetricCollection({'top1': ..., 'top5': ...})",
                    )
                )
        self.prefix, self.postfix = prefix, postfix
        self._metrics = {name: metric.clone() for name, metric in items}
        if len({m.takes for m in self._metrics.values()}) > 1:
            raise OptionError(
                explain(
                    "the metrics of a collection are updated with the same values",
                    expected="one of: " + "; ".join(sorted({", ".join(m.takes) for m in self._metrics.values()})),
                    given=", ".join(f"{n}: {', '.join(m.takes)}" for n, m in self._metrics.items()),
                    do="make a collection for each kind",
                )
            )
        self._share({name: m._acc for name, m in self._metrics.items()})

    def _share(self, given: dict[str, Any]) -> None:
        """Gives metrics with equal keys one accumulator: the most detailed, as long as nothing was seen before."""
        groups: dict[Any, list[str]] = {}
        for name, metric in self._metrics.items():
            key = metric._sharing()
            alone = key is None or any(np.size(a) and np.any(a) for a in _seen(given[name]))
            groups.setdefault(("alone", name) if alone else ("shared", key), []).append(name)
        self._groups = list(groups.values())
        self._join_groups(given)

    def _join_groups(self, given: dict[str, Any]) -> None:
        for names in self._groups:
            leader = max(names, key=lambda name: _detail(given[name]))
            for name in names:
                self._metrics[name]._acc = given[leader]

    @property
    def groups(self) -> list[list[str]]:
        """Names of the metrics that share what they have seen."""
        return [list(names) for names in self._groups]

    @property
    def takes(self) -> tuple[str, ...]:
        """What `update` is given; see `Metric.takes`."""
        return next(iter(self._metrics.values())).takes if self._metrics else ()

    def update(self, *args: Any) -> None:
        """Gives a batch to all metrics."""
        for names in self._groups:
            self._metrics[names[0]]._acc.update(*args)

    def compute(self) -> dict[str, Any]:
        """The values by name."""
        return {f"{self.prefix}{name}{self.postfix}": metric.compute() for name, metric in self._metrics.items()}

    def reset(self) -> None:
        """Forgets what was seen."""
        for names in self._groups:
            self._metrics[names[0]].reset()

    def merge(self, *others: MetricCollection) -> MetricCollection:
        """A new collection that has seen what this one and the others have.

        Raises:
            OptionError: Other names, classes or options.
        """
        made = self.clone()
        for other in others:
            if list(other._metrics) != list(self._metrics) or other._groups != self._groups:
                raise OptionError(
                    explain("these collections do not merge", expected=list(self._metrics), given=list(other._metrics))
                )
            for name, metric in self._metrics.items():
                if repr(metric) != repr(other._metrics[name]):
                    raise OptionError(
                        explain(
                            "these metrics do not merge",
                            expected=f"another {metric!r}",
                            given=repr(other._metrics[name]),
                        )
                    )
            for names in self._groups:
                made._metrics[names[0]]._acc.join(other._metrics[names[0]]._acc)
        return made

    def clone(self, prefix: str | None = None, postfix: str | None = None) -> MetricCollection:
        """A copy that shares nothing with this collection, under other names if they are given."""
        prefix, postfix = self.prefix if prefix is None else prefix, self.postfix if postfix is None else postfix
        members = {name: (type(m), m.options, m.name) for name, m in self._metrics.items()}
        return _rebuilt(type(self), members, prefix, postfix, self._groups, self.state_dict())

    def state_dict(self) -> Arrays:
        """What was seen, as plain arrays: `name.array`, for one metric of each group."""
        return {f"{g[0]}.{k}": a for g in self._groups for k, a in self._metrics[g[0]]._acc.save().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` of an equal collection gave.

        Raises:
            FileFormatError: Arrays are missing, unknown, or of other shapes.
        """
        parts: dict[str, Arrays] = {g[0]: {} for g in self._groups}
        for key, array in state.items():
            owner = next((name for name in parts if key.startswith(f"{name}.")), None)
            if owner is None:
                raise FileFormatError(
                    explain("the state of a collection does not fit", expected=", ".join(parts), given=key)
                )
            parts[owner][key[len(owner) + 1 :]] = array
        for name, arrays in parts.items():
            self._metrics[name]._acc.load(arrays)

    def __reduce__(self) -> tuple:
        members = {name: (type(m), m.options, m.name) for name, m in self._metrics.items()}
        return _rebuilt, (type(self), members, self.prefix, self.postfix, self._groups, self.state_dict())

    def __getitem__(self, name: str) -> Metric:
        return self._metrics[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._metrics)

    def __len__(self) -> int:
        return len(self._metrics)

    def items(self) -> Any:
        """Names and metrics."""
        return self._metrics.items()

    def __repr__(self) -> str:
        inner = ", ".join(f"{name!r}: {metric!r}" for name, metric in self._metrics.items())
        return f"MetricCollection({{{inner}}})"


def _detail(acc: Any) -> int:
    return acc.states["tally"].detail if isinstance(acc, Labels) else 0


def _seen(acc: Any) -> list[Any]:
    """All counts so far."""
    return [a for k, a in acc.save().items() if not k.endswith(".task")]


def _rebuilt(
    cls: type[MetricCollection], members: dict, prefix: str, postfix: str, groups: list[list[str]], state: Arrays
) -> MetricCollection:
    made = object.__new__(cls)
    made.prefix, made.postfix, made._metrics, made._groups = prefix, postfix, {}, [list(names) for names in groups]
    for name, (kind, options, own) in members.items():
        made._metrics[name] = kind(**options)
        made._metrics[name].name = own
    made._join_groups({name: m._acc for name, m in made._metrics.items()})
    made.load_state_dict(state)
    return made
