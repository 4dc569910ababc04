"""Histories of runs."""

import numpy as np
import pytest

import gradloom as gl
from gradloom.training import History
from gradloom.training.history import kind_of


def made():
    history = History()
    history.append(0, {"train_loss": 3.0, "lr": 0.1})
    history.append(1, {"train_loss": float("nan"), "val_loss": 2.0, "val_accuracy": 0.5})
    history.append(2, {"train_loss": 1.0, "val_loss": 2.5, "val_accuracy": 0.75})
    return history


def test_one_value_for_each_epoch():
    history = made()
    assert history["val_loss"] == [None, 2.0, 2.5] and history["lr"] == [0.1, None, None]
    assert set(history) == {"train_loss", "lr", "val_loss", "val_accuracy"} and len(history) == 4
    assert dict(history)["val_accuracy"] == [None, 0.5, 0.75]
    assert history.best("val_loss") == (1, 2.0) and history.best("val_accuracy", "max") == (2, 0.75)
    assert history.best("train_loss") == (2, 1.0)  # NaN is not the best
    assert repr(history) == "History(3 epochs: train_loss=1, val_loss=2.5, val_accuracy=0.75)"
    assert repr(History()) == "History(0 epochs)"
    with pytest.raises(KeyError):
        history["other"]


def test_it_is_saved_and_loaded(tmp_path):
    gl.save(made().state_dict(), tmp_path / "history.safetensors")
    other = History()
    other.load_state_dict(gl.load(tmp_path / "history.safetensors"))
    assert other.epochs == [0, 1, 2]
    np.testing.assert_equal(dict(other), dict(made()))
    before = made()
    state = before.state_dict()
    before.append(3, {"train_loss": 0.0})
    assert len(state["epochs"]) == len(state["logs"]["train_loss"]) == 3


def test_kinds():
    assert [kind_of(n) for n in ("train_loss", "val_loss", "val_top_5", "lr")] == ["loss", "loss", "top_5", "lr"]


def test_plots(tmp_path):
    pytest.importorskip("matplotlib")
    figure = made().plot(file=tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert [axes.get_title() for axes in figure.axes] == ["loss", "lr", "accuracy"]
    train, val = figure.axes[0].lines
    assert train.get_label() == "train_loss" and list(val.get_xdata()) == [2, 3] and list(val.get_ydata()) == [2.0, 2.5]
    assert [axes.get_title() for axes in made().plot(["accuracy"]).axes] == ["accuracy"]
    assert len(made().plot(["val_loss"]).axes[0].lines) == 1
