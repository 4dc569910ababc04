"""Drawings of schedules, with matplotlib."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..errors import MissingExtraError, OptionError, explain
from .lr_scheduler import LRScheduler, ReduceLROnPlateau

_GRAY = "#666666"


def plot_schedule(schedule: Any, updates: int = 100, ax: Any = None, file: Any = None) -> Any:
    """Draws schedules' values over updates.

    Schedulers are run on a copy from where they are: they, their optimizer and its rates stay as they are. Of several groups of
    parameters with different rates each has its line.

    Args:
        schedule: A function of the count (see `gradloom.optim.schedules`), a scheduler of `gradloom.optim.lr_scheduler`, or a list or a
            dict {label: ...} of these.
        updates: The last count that is drawn.
        ax: Matplotlib axes to draw into, such as `plt.gca()` for a window; default: those of a new figure.
        file: A path to save the figure to, such as "rate.png".

    Returns:
        The axes.

    Raises:
        MissingExtraError: Matplotlib is not installed.
        OptionError: Something else than a schedule, or a ReduceLROnPlateau, which depends on a metric.

    Example:
        >>> import gradloom as gl
        >>> ax = gl.plot_schedule(gl.optim.schedules.warmup_cosine(1e-3, 10, 100))
        >>> ax.get_xlabel(), len(ax.lines)
        ('updates', 1)
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            explain("plot_schedule needs matplotlib, which is not installed", do="pip install 'gradloom[demo]'")
        ) from error
    if not isinstance(updates, int) or updates < 1:
        raise OptionError(explain("plot_schedule: updates must be a positive number", given=repr(updates)))
    lines = {name: values for label, s in _labelled(schedule) for name, values in _lines(label, s, updates).items()}
    own = ax is None
    if own:
        # Not pyplot's: it would keep the figure open.
        ax = Figure(figsize=(7, 3.5), dpi=150, layout="constrained").add_subplot()
        _style(ax)
    for name, values in lines.items():
        ax.plot(range(updates + 1), values, linewidth=1.8, label=name)
    if len(ax.lines) > 1:
        beside = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)} if own else {}  # where there is room
        ax.legend(frameon=False, labelcolor=_GRAY, **beside)
    elif lines:
        ax.set_title(next(iter(lines)), color=_GRAY, fontsize="medium")
    if file is not None:
        ax.figure.savefig(file)
    return ax


def _style(ax: Any) -> None:
    """Labels and a light grid."""
    ax.set_xlabel("updates", color=_GRAY)
    ax.set_ylabel("value", color=_GRAY)
    ax.margins(x=0.01)
    ax.grid(color="#e6e6e6", linewidth=0.7)
    ax.set_axisbelow(True)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#cccccc")
    ax.tick_params(colors=_GRAY)
    ax.ticklabel_format(axis="y", scilimits=(-2, 4), useMathText=True)
    ax.yaxis.get_offset_text().set_color(_GRAY)


def _labelled(schedule: Any) -> Iterable[tuple[str, Any]]:
    """(label, schedule) of each."""
    if isinstance(schedule, Mapping):
        return [(str(label), s) for label, s in schedule.items()]
    several = schedule if isinstance(schedule, (list, tuple)) else [schedule]
    labels = [type(s).__name__ if isinstance(s, LRScheduler) else getattr(s, "__name__", repr(s)) for s in several]
    return [
        (label if labels.count(label) == 1 else f"{label} {i}", s)
        for i, (label, s) in enumerate(zip(labels, several, strict=True))
    ]


def _lines(label: str, schedule: Any, updates: int) -> dict[str, Any]:
    """{label: values} of one schedule."""
    if isinstance(schedule, LRScheduler):
        columns = _simulate(schedule, updates)
        if (columns == columns[:, :1]).all():
            return {label: columns[:, 0]}
        return {f"{label}, group {i}": columns[:, i] for i in range(columns.shape[1])}
    if not callable(schedule):
        raise OptionError(
            explain(
                "plot_schedule draws functions of the count and schedulers",
                given=f"{type(schedule).__name__} for {label!r}",
            )
        )
    return {label: values_of(schedule, updates)}


def values_of(schedule: Callable[[int], Any], updates: int) -> np.ndarray:
    """A schedule's values from 0 to `updates`."""
    return np.array([float(schedule(n)) for n in range(updates + 1)])


class _StandIn:
    """An optimizer's options without its parameters, for a scheduler to run on."""

    functional = True  # there are no updates before steps here

    def __init__(self, optimizer: Any):
        groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        self.param_groups: list[dict] = copy.deepcopy(groups)


def _simulate(scheduler: LRScheduler, updates: int) -> np.ndarray:
    """What a scheduler gives from now on, (updates + 1, groups)."""
    if isinstance(scheduler, ReduceLROnPlateau):
        raise OptionError(explain("plot_schedule cannot draw ReduceLROnPlateau: its rate depends on a metric"))
    optimizer = scheduler.optimizer
    run = copy.deepcopy(scheduler, {id(optimizer): _StandIn(optimizer)})
    rows = [run.get_last_lr()]
    for _ in range(updates):
        run.step()
        rows.append(run.get_last_lr())
    return np.array(rows, dtype=float)
