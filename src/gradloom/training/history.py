"""The logs of the epochs of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import MissingExtraError, explain


class History(Mapping):
    """Logs by name, one value for each epoch: `history["val_loss"]`; None where an epoch has none.

    Attributes:
        epochs: The epochs that the values are of.

    Example:
        >>> from gradloom.training.history import History
        >>> history = History()
        >>> history.append(0, {"train_loss": 2.0})
        >>> history.append(1, {"train_loss": 1.0, "val_loss": 3.0})
        >>> history["train_loss"], history["val_loss"]
        ([2.0, 1.0], [None, 3.0])
    """

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self._logs: dict[str, list[float | None]] = {}

    def append(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Adds an epoch."""
        for name in logs:
            self._logs.setdefault(name, [None] * len(self.epochs))
        self.epochs.append(epoch)
        for name, values in self._logs.items():
            values.append(logs.get(name))

    def __getitem__(self, name: str) -> list[float | None]:
        return self._logs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._logs)

    def __len__(self) -> int:
        return len(self._logs)

    def __repr__(self) -> str:
        last = ", ".join(f"{n}={v[-1]:.4g}" for n, v in self._logs.items() if v and v[-1] is not None)
        return f"History({len(self.epochs)} epochs{': ' if last else ''}{last})"

    def best(self, name: str, mode: str = "min") -> tuple[int, float]:
        """(epoch, value) of the best value of a log."""
        pairs = [(e, v) for e, v in zip(self.epochs, self[name], strict=True) if v is not None and v == v]
        return (min if mode == "min" else max)(pairs, key=lambda pair: pair[1])

    def plot(self, names: Any = None, file: Any = None) -> Any:
        """Draws logs over epochs: one panel for each kind (loss, accuracy, ...), training and validation together.

        Args:
            names: Logs or kinds of logs; default: all.
            file: Where to save the figure.

        Returns:
            matplotlib's figure.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as missing:
            raise MissingExtraError(
                explain("History.plot needs matplotlib", do="pip install 'gradloom[demo]'")
            ) from missing
        chosen = [n for n in self if names is None or n in names or kind_of(n) in names]
        kinds = list(dict.fromkeys(map(kind_of, chosen)))
        columns = min(2, max(1, len(kinds)))
        rows = -(-len(kinds) // columns)
        figure = Figure(figsize=(5.2 * columns, 3.2 * max(rows, 1)), layout="constrained")
        for axes, kind in zip(figure.subplots(rows, columns, squeeze=False).flat, kinds, strict=False):
            for name in (n for n in chosen if kind_of(n) == kind):
                pairs = [(e + 1, v) for e, v in zip(self.epochs, self[name], strict=True) if v is not None]
                axes.plot(*zip(*pairs, strict=True), marker="o", markersize=3, label=name)
            axes.set_xlabel("epoch")
            axes.set_title(kind)
            axes.grid(alpha=0.3)
            if sum(kind_of(n) == kind for n in chosen) > 1:
                axes.legend(frameon=False)
        for axes in figure.axes[len(kinds) :]:
            axes.remove()
        if file is not None:
            figure.savefig(file, dpi=120)
        return figure

    def state_dict(self) -> dict[str, Any]:
        """All values."""
        return {"epochs": list(self.epochs), "logs": {n: list(v) for n, v in self._logs.items()}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.epochs = list(state_dict["epochs"])
        self._logs = {n: list(v) for n, v in state_dict["logs"].items()}


def kind_of(name: str) -> str:
    """A log's name without its phase."""
    phase, _, rest = name.partition("_")
    return rest if phase in ("train", "val") else name
