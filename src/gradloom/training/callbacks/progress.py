"""What is seen of training while it runs: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from typing import Any

from ...errors import OptionError, explain
from ..tracking import plain
from .base import Callback

BAR = 24  # characters


class ProgressBar(Callback):
    """Shows each epoch: a bar with steps, loss, steps a second and the time left, and then one line that stays.

    In a terminal the bar is drawn with rich, or without it where rich is not installed. Elsewhere (a file, a pipe) there is a
    line for each epoch, and in long epochs one every ten seconds. It is redrawn by time, so a step costs a look at the clock.

    Args:
        refresh: Seconds between two drawings of the bar.
        lines_every: Seconds between two lines in an epoch, where there is no terminal.
        bar: Whether to draw a bar; default: in a terminal.
        file: Where to write. Default: `sys.stdout`.

    Example:
        >>> from gradloom.training.callbacks import CallbackList, ProgressBar
        >>> callbacks = CallbackList([ProgressBar(bar=False)])
        >>> callbacks.on_epoch_begin(0)
        >>> callbacks.on_epoch_end(0, {"train_loss": 0.5, "val_accuracy": 0.75, "lr": 0.001})  # doctest: +ELLIPSIS
        epoch 1  ...s  train_loss 0.5  val_accuracy 0.75  lr 0.001
    """

    def __init__(self, refresh: float = 0.1, lines_every: float = 10.0, bar: bool | None = None, file: Any = None):
        if not refresh > 0 or not lines_every > 0:
            raise OptionError(
                explain("ProgressBar: times between drawings", expected="seconds > 0", given=(refresh, lines_every))
            )
        self.refresh, self.lines_every, self.bar, self.file = refresh, lines_every, bar, file
        self._epoch = self._steps = 0
        self._began = self._due = math.inf
        self._live: Any = None
        self._draws = False

    def on_train_begin(self) -> None:
        """Looks at where it writes to."""
        self._due = math.inf

    def on_epoch_begin(self, epoch: int) -> None:
        """Starts the clock."""
        out = self._out()
        self._draws = is_terminal(out) if self.bar is None else self.bar
        self._every = self.refresh if self._draws else self.lines_every
        self._epoch, self._steps = epoch, 0
        self._began = time.perf_counter()
        self._due = self._began + self._every

    def on_step_end(self, step: int, logs: Mapping[str, float]) -> None:
        """Draws, if it is time."""
        self._steps += 1
        if time.perf_counter() >= self._due:
            self._draw(logs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Writes the epoch's line in place of the bar."""
        self._clear()
        seconds = time.perf_counter() - self._began
        took = [] if math.isinf(seconds) else [duration(seconds)]
        parts = [self._title(), *took, *shown(logs)]
        print("  ".join(parts), file=self._out(), flush=True)

    def on_train_end(self) -> None:
        """Says why training ended, if it was stopped."""
        self._clear()
        if self.owner is not None and self.owner.should_stop and self.owner.stop_reason:
            print(f"stopped: {self.owner.stop_reason}", file=self._out(), flush=True)

    def on_exception(self, error: BaseException) -> None:
        """Takes the bar away, so that the error can be read."""
        self._clear()

    # --- drawing

    def _out(self) -> Any:
        return sys.stdout if self.file is None else self.file

    def _title(self) -> str:
        epochs = getattr(self.loop, "epochs", None)
        return f"epoch {self._epoch + 1}" + (f"/{epochs}" if epochs else "")

    def _total(self) -> int | None:
        return getattr(self.loop, "batches", None)

    def _draw(self, logs: Mapping[str, float]) -> None:
        loss = next((f"{n} {number(plain(logs[n]))}" for n in logs if n == "loss" or n.endswith("_loss")), "")
        now = time.perf_counter()  # after the loss, which may have to wait
        self._due = now + self._every
        seconds, total = now - self._began, self._total()
        rate = self._steps / seconds if seconds else 0.0
        left = f"{duration((total - self._steps) / rate)} left" if total and rate else ""
        count = f"{self._steps}/{total}" if total else f"{self._steps} steps"
        speed = f"{rate:.1f}/s" if rate >= 1 or not rate else f"{1 / rate:.1f} s/step"
        texts = [t for t in (loss, speed, left) if t]
        if not self._draws:
            print("  ".join((self._title(), count, *texts)), file=self._out(), flush=True)
            return
        try:
            from rich.console import Console
            from rich.live import Live
            from rich.text import Text
        except ImportError:
            self._plain_bar(count, texts, total)
            return
        if self._live is None:
            # Live starts no thread of its own: it is drawn here, and only here.
            console = Console(file=self._out(), force_terminal=True, highlight=False)
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()
        full = round(BAR * min(self._steps / total, 1)) if total else 0
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{self._title()}  ", "bold")
        if total:
            line.append("━" * full, "green").append("━" * (BAR - full), "bright_black").append(" ")
        line.append("  ".join((count, *texts)))
        self._live.update(line, refresh=True)

    def _plain_bar(self, count: str, texts: list[str], total: int | None) -> None:
        full = round(BAR * min(self._steps / total, 1)) if total else 0
        bar = f"[{'=' * full}{' ' * (BAR - full)}] " if total else ""
        self._live = "plain"
        self._out().write("\r\x1b[K" + f"{self._title()}  {bar}" + "  ".join((count, *texts)))
        self._out().flush()

    def _clear(self) -> None:
        live, self._live = self._live, None
        if live == "plain":
            self._out().write("\r\x1b[K")
            self._out().flush()
        elif live is not None:
            live.stop()


def is_terminal(file: Any) -> bool:
    """Whether a bar can be drawn there."""
    return bool(getattr(file, "isatty", lambda: False)())


def shown(logs: Mapping[str, Any]) -> list[str]:
    """Logs in words: those that are single numbers."""
    values = {n: plain(logs[n]) for n in logs}
    return [f"{n} {number(v)}" for n, v in values.items() if isinstance(v, (int, float))]


def number(value: Any) -> str:
    """A number in four digits.

    Example:
        >>> number(0.123456), number(12345.678), number(1e-5), number(3)
        ('0.1235', '1.235e+04', '1e-05', '3')
    """
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """Seconds in words.

    Example:
        >>> duration(0.84), duration(75), duration(3700)
        ('0.8s', '1m15s', '1h01m')
    """
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"
