"""The progress bar: in a terminal, elsewhere, without rich; what a step costs."""

import io
import itertools
import re
import sys
import time

import pytest

from gradloom.errors import OptionError
from gradloom.training.callbacks import (
    CallbackList,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    ModelCheckpoint,
    ProgressBar,
)
from gradloom.training.callbacks import progress as module
from training.callbacks.helpers import loader, make


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_an_epoch_where_there_is_no_terminal(capsys):
    make([ProgressBar()]).fit(loader(), loader(), epochs=2)
    found = capsys.readouterr().out.splitlines()
    assert len(found) == 2
    number = r"[\d.e+-]+"
    assert re.fullmatch(rf"epoch 1/2  [\d.]+s  train_loss {number}  val_loss {number}  lr 0.05", found[0])
    assert found[1].startswith("epoch 2/2  ")


def test_long_epochs_have_lines_in_between():
    out = io.StringIO()
    slow = LambdaCallback(on_step_begin=lambda step: time.sleep(0.02))
    make([slow, ProgressBar(lines_every=0.03, file=out)]).fit(loader(), epochs=1)
    found = out.getvalue().splitlines()
    assert re.fullmatch(r"epoch 1/1  [123]/3  train_loss [\d.]+  [\d.]+(/s| s/step)  [\d.]+s left", found[0])
    assert found[-1].startswith("epoch 1/1  ")


def test_in_a_terminal_the_bar_is_drawn_by_time_and_taken_away():
    pytest.importorskip("rich")
    out = Terminal()
    drawn = []
    bar = ProgressBar(refresh=0.02, file=out)
    draw = bar._draw
    bar._draw = lambda logs: (drawn.append(time.perf_counter()), draw(logs))
    slow = LambdaCallback(on_step_begin=lambda step: time.sleep(0.003))
    make([slow, bar]).fit(loader(240), epochs=2)
    assert len(drawn) >= 2
    assert min(b - a for a, b in itertools.pairwise(drawn)) >= 0.02
    text = out.getvalue()
    assert "━" in text and "/30" in text and "left" in text
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).splitlines()[-1].strip()
    assert last.startswith("epoch 2/2  ") and "train_loss" in last
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor is there again


def test_without_rich_there_is_a_plain_bar(monkeypatch):
    for name in ("rich.console", "rich.live", "rich.text"):
        monkeypatch.setitem(sys.modules, name, None)
    out = Terminal()
    slow = LambdaCallback(on_step_begin=lambda step: time.sleep(0.01))
    make([slow, ProgressBar(refresh=0.005, file=out)]).fit(loader(), epochs=1)
    assert re.search(r"\r\x1b\[Kepoch 1/1  \[=+ *\] \d/3", out.getvalue())
    assert out.getvalue().splitlines()[-1].startswith("\r\x1b[Kepoch 1/1  ") or "\r\x1b[Kepoch 1/1  0" in out.getvalue()


def test_it_says_why_training_was_stopped(capsys):
    make([ProgressBar(), EarlyStopping(patience=1, min_delta=1e6)]).fit(loader(), loader(), epochs=9)
    assert capsys.readouterr().out.splitlines()[-1].startswith("stopped: EarlyStopping: val_loss has not improved on ")


def test_the_bar_is_taken_away_before_an_error():
    out = Terminal()

    def fails(step, logs):
        time.sleep(0.01)
        if step == 2:
            raise ValueError("no")

    loop = make([ProgressBar(refresh=0.001, file=out), LambdaCallback(on_step_end=fails)])
    with pytest.raises(RuntimeError, match="LambdaCallback raised ValueError"):
        loop.fit(loader(), epochs=1)
    assert out.getvalue().count("\x1b[?25l") == out.getvalue().count("\x1b[?25h")


def test_in_a_loop_of_ones_own(capsys):
    callbacks = CallbackList([ProgressBar()])
    for epoch in range(2):
        callbacks.on_epoch_begin(epoch)
        callbacks.on_step_end(0, {"loss": 1.0})
        callbacks.on_epoch_end(epoch, {"loss": 0.25, "matrix": [[1, 2]]})
    assert re.fullmatch(r"(epoch \d  0.0s  loss 0.25\n){2}", capsys.readouterr().out)


def test_bad_options():
    with pytest.raises(OptionError, match="times between drawings"):
        ProgressBar(refresh=0)


def test_a_step_pays_for_a_look_at_the_clock(tmp_path, monkeypatch):
    """What is called at each step of a run with the usual callbacks: no log is read, nothing is written."""
    callbacks = [
        EarlyStopping(),
        CSVLogger(tmp_path / "x"),
        ModelCheckpoint(tmp_path / "y.pt"),
        ProgressBar(file=io.StringIO()),
    ]
    listening = CallbackList(callbacks)
    listening.on_epoch_begin(0)

    class Unread(dict):
        def __getitem__(self, name):
            raise AssertionError("a log was read")

        __iter__ = __getitem__

    clock = []
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock.append(1) or 0.0)
    for step in range(100):
        listening.on_step_begin(step)
        listening.on_step_end(step, Unread())
    assert len(clock) == 100
    monkeypatch.undo()
    listening.on_epoch_begin(0)
    listening.callbacks[-1]._due = float("inf")
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for step in range(2000):
            listening.on_step_begin(step)
            listening.on_step_end(step, {})
        best = min(best, time.perf_counter() - start)
    assert best / 2000 < 20e-6  # about 1 us on a machine that does nothing else
