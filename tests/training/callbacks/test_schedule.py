"""Rates and micro-batches over a run, and the search for a rate."""

import math

import numpy as np
import pytest
import torch

import gradloom as gl
from gradloom.errors import OptionError
from gradloom.training.callbacks import (
    CallbackError,
    CallbackList,
    GradientAccumulationSchedule,
    LambdaCallback,
    LearningRateFinder,
    LearningRateMonitor,
    LRSchedulerCallback,
)
from gradloom.training.callbacks.schedule import steepest
from training.callbacks.helpers import Net, loader, make, problem, same, weights


@pytest.mark.parametrize("every", ["epoch", "step"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_rates_are_pytorchs(every, accumulate):
    seen = LearningRateMonitor("epoch" if every == "epoch" else 1)
    loop = make([seen], accumulate=accumulate)
    scheduler = gl.optim.lr_scheduler.StepLR(loop.optimizer, step_size=2, gamma=0.5)
    loop.callbacks.callbacks.clear()
    loop.callbacks.__init__([seen, LRSchedulerCallback(scheduler, every)])
    loop.callbacks.loop = loop
    loop.fit(loader(), epochs=4)
    updates = 4 * math.ceil(3 / accumulate)
    assert loop.step == updates
    reference = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.05)
    torchs = torch.optim.lr_scheduler.StepLR(reference, step_size=2, gamma=0.5)
    expected = []
    for _ in range(4 if every == "epoch" else updates):
        expected.append(reference.param_groups[0]["lr"])
        reference.step()
        torchs.step()
    np.testing.assert_allclose(seen.rates["lr"], expected, rtol=1e-12)


def test_plateau_gets_the_monitored_log():
    model = gl.nn.Linear(1, 1)
    optimizer = gl.optim.SGD(model.parameters(), lr=1.0)
    scheduler = gl.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    callbacks = CallbackList([LRSchedulerCallback(scheduler)])
    for epoch, loss in enumerate([1.0, 2.0, 3.0]):
        callbacks.on_epoch_end(epoch, {"val_loss": loss, "train_loss": 0.0})
    assert optimizer.param_groups[0]["lr"] == 0.25
    callbacks.on_epoch_end(3, {"train_loss": 9.0})  # no validation in this epoch
    assert optimizer.param_groups[0]["lr"] == 0.125
    with pytest.raises(OptionError, match="leave out every='step'"):
        LRSchedulerCallback(scheduler, every="step")


def test_bad_schedules():
    with pytest.raises(OptionError, match="'epoch' or 'step'"):
        LRSchedulerCallback(object(), every="year")
    with pytest.raises(OptionError, match=r"that is no scheduler\n.*\n  given:    object"):
        LRSchedulerCallback(object())
    with pytest.raises(OptionError, match="every"):
        LearningRateMonitor("year")
    with pytest.raises(CallbackError, match="LearningRateMonitor needs the optimizer"):
        CallbackList([LearningRateMonitor("step")]).on_step_end(0)
    for bad in ({}, {0: 0}, {-1: 2}, {0: 1.5}):
        with pytest.raises(OptionError, match="epochs and their micro-batches"):
            GradientAccumulationSchedule(bad)
    with pytest.raises(CallbackError, match="changes a TrainingLoop"):
        CallbackList([GradientAccumulationSchedule({0: 2})]).on_train_begin()


def test_rates_of_groups():
    model = Net()
    groups = [
        {"params": [*model.a.parameters(), *model.norm.parameters()]},
        {"params": model.b.parameters(), "lr": 0.5},
    ]
    seen = LearningRateMonitor("step")
    make([seen], model=model, optimizer=gl.optim.SGD(groups, lr=0.1)).fit(loader(), epochs=1)
    assert seen.rates == {"lr_0": [0.1] * 3, "lr_1": [0.5] * 3}
    assert seen.steps == [0, 1, 2]


@pytest.mark.parametrize("compile", [True, False])
def test_accumulation_by_epoch_equals_loops_with_these_numbers(compile):
    scheduled = make([GradientAccumulationSchedule({1: 3, 2: 1})], compile=compile)
    steps = []
    scheduled.add_callback(LambdaCallback(on_epoch_end=lambda e, logs: steps.append(scheduled.step)))
    scheduled.fit(loader(), epochs=3)
    assert steps == [3, 4, 7]
    by_hand = make(compile=compile)
    for epoch, count in enumerate((1, 3, 1)):
        by_hand.set_accumulate(count)
        data = loader()
        data.set_epoch(epoch) if hasattr(data, "set_epoch") else data.load_state_dict(
            {**data.state_dict(), "epoch": epoch}
        )
        by_hand.fit(data, epochs=epoch + 1)
    for name, value in weights(scheduled).items():
        np.testing.assert_allclose(value, weights(by_hand)[name], rtol=1e-5, atol=1e-6)


# --- the finder


def test_the_finder_leaves_the_run_as_it_was(backend):
    plain = make(lr=0.02)
    plain.fit(loader(), epochs=2)
    finder = LearningRateFinder(loader(), 1e-5, 10.0, steps=40, apply=False)
    found = make([finder], lr=0.02)
    found.fit(loader(), epochs=2)
    assert same(weights(plain), weights(found))
    assert found.history["train_loss"] == plain.history["train_loss"]
    assert len(finder.rates) == len(finder.losses) > 20


def test_the_rate_that_it_finds_is_set_and_trains():
    x, y = problem(64)
    finder = LearningRateFinder([(x, y)], 1e-5, 100.0, steps=80)
    model = gl.nn.Linear(3, 1)
    loop = make([finder], model=model, optimizer=gl.optim.SGD(model.parameters(), lr=1e-6))
    history = loop.fit([(x, y)], epochs=60)
    assert 3e-3 < finder.suggestion < 1
    assert history["lr"][0] == pytest.approx(finder.suggestion)
    assert history["train_loss"][-1] < 0.1 * history["train_loss"][0]
    assert len(finder.rates) < 80  # it ended when the loss exploded
    pytest.importorskip("matplotlib")
    axes = finder.plot().axes[0]
    assert axes.get_xscale() == "log" and len(axes.lines) == 2


def test_where_the_loss_never_falls_the_rate_stays():
    x = np.ones((4, 1), np.float32)
    finder = LearningRateFinder([(x, x * 0)], 1.0, 1e6, steps=20)
    with gl.no_grad():
        model = gl.nn.Linear(1, 1)
    loop = make([finder], model=model, optimizer=gl.optim.SGD(model.parameters(), lr=0.25, maximize=True))
    with pytest.warns(UserWarning, match="the loss fell at no rate, so the learning rate stays"):
        loop.fit([(x, x * 0)], epochs=1)
    assert (finder.suggestion, loop.optimizer.param_groups[0]["lr"]) == (None, 0.25)


def test_the_steepest_place():
    assert steepest([1, 2, 4, 8, 16], [5.0, 4.9, 2.0, 1.0, 9.0]) == 4
    assert steepest([1, 2, 4], [1.0, 2.0, 3.0]) is None
    assert steepest([1], [1.0]) is None


def test_bad_options_of_the_finder():
    for options in ({"min_lr": 0}, {"min_lr": 2.0}, {"steps": 5}, {"smooth": 1.0}, {"explodes": 1.0}):
        with pytest.raises(OptionError, match="LearningRateFinder"):
            LearningRateFinder([], **options)
    with pytest.raises(CallbackError, match=r"call finder.find\(loop\)"):
        CallbackList([LearningRateFinder([])]).on_train_begin()
