"""Schedulers with functional optimizers, and their drawings."""

import copy
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import gradloom as gl
from gradloom.errors import OptionError
from gradloom.optim import lr_scheduler, schedules
from gradloom.training import optimizers, schedulers


class Functional:
    """What schedulers see of a functional optimizer."""

    functional = True

    def __init__(self, learning_rate=0.001, **options):
        self.param_groups = [{"lr": learning_rate, **options}]

    @property
    def learning_rate(self):
        return self.param_groups[0]["lr"]

    @learning_rate.setter
    def learning_rate(self, value):
        self.param_groups[0]["lr"] = value

    def get_learning_rate(self):
        return self.learning_rate

    def set_learning_rate(self, value):
        self.learning_rate = value


@pytest.fixture(params=[Functional, optimizers.SGD, optimizers.Adam, optimizers.RMSProp], ids=lambda cls: cls.__name__)
def make(request):
    return request.param


def rates(optimizer, scheduler, steps):
    """The rates after each step; nothing warns, though no update was made."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(steps):
            scheduler.step()
            found.append(optimizer.get_learning_rate())
    return found


def test_the_classes_are_those_of_optim():
    assert set(schedulers.__all__) == set(lr_scheduler.__all__)
    assert all(getattr(schedulers, name) is getattr(lr_scheduler, name) for name in schedulers.__all__)


def test_step(make):
    optimizer = make(learning_rate=0.8)
    scheduler = schedulers.StepLR(optimizer, step_size=30, gamma=0.1)
    assert optimizer.learning_rate == 0.8
    np.testing.assert_allclose(rates(optimizer, scheduler, 60), [0.8] * 29 + [0.08] * 30 + [0.008])


def test_cosine(make):
    optimizer = make(learning_rate=0.8)
    scheduler = schedulers.CosineAnnealingLR(optimizer=optimizer, T_max=100, eta_min=1e-6)
    expected = [schedules.cosine(0.8, 100, end=1e-6)(n) for n in range(1, 101)]
    np.testing.assert_allclose(rates(optimizer, scheduler, 100), expected, rtol=1e-10)


def test_warmup(make):
    optimizer = make(learning_rate=0.001)
    scheduler = schedulers.LinearWarmupScheduler(
        optimizer, warmup_steps=1000, start_lr=1e-6, end_lr=0.001, after_scheduler=None
    )
    assert optimizer.learning_rate == 1e-6
    found = rates(optimizer, scheduler, 1010)
    assert found[499] == pytest.approx(1e-6 + (0.001 - 1e-6) / 2) and found[999:] == pytest.approx([0.001] * 11)


def test_a_rate_that_is_set_between_steps_counts(make):
    optimizer = make(learning_rate=0.8)
    scheduler = schedulers.ExponentialLR(optimizer, 0.5)
    scheduler.step()
    optimizer.learning_rate = 0.1
    scheduler.step()
    assert optimizer.get_learning_rate() == pytest.approx(0.05)


def test_plateau(make):
    optimizer = make(learning_rate=0.8)
    scheduler = schedulers.ReduceLROnPlateau(optimizer, mode="min", factor=0.1, patience=2, threshold=0.001)
    for loss in (1.0, 1.0, np.float32(0.9999), 1.0):
        assert optimizer.learning_rate == 0.8
        scheduler.step(loss)
    assert optimizer.learning_rate == pytest.approx(0.08)
    before = scheduler.state_dict()
    with pytest.warns(UserWarning, match=re.escape("it needs the metric, as in scheduler.step(val_loss)")):
        scheduler.step()
    assert scheduler.state_dict() == before and optimizer.learning_rate == pytest.approx(0.08)


def test_momentum_is_cycled():
    for optimizer, read in (
        (Functional(0.1, momentum=0.9), lambda o: o.param_groups[0]["momentum"]),
        (Functional(0.1, betas=(0.9, 0.99)), lambda o: o.param_groups[0]["betas"][0]),
        (optimizers.SGD(0.1, momentum=0.9), lambda o: o.param_groups[0]["momentum"]),
        (optimizers.Adam(0.1), lambda o: o.param_groups[0]["betas"][0]),
    ):
        scheduler = schedulers.OneCycleLR(optimizer, 1.0, total_steps=10)
        assert (optimizer.learning_rate, read(optimizer)) == pytest.approx((0.04, 0.95))
        rates(optimizer, scheduler, 2)
        assert (optimizer.learning_rate, read(optimizer)) == pytest.approx((1.0, 0.85))
    with pytest.raises(ValueError, match="optimizer must support momentum or beta1"):
        schedulers.OneCycleLR(Functional(0.1), 1.0, total_steps=10)


def test_a_schedule_in_the_optimizer_is_the_scheduler_beside_it():
    """On numbers, and on the count of an update inside of jax.jit."""
    jax = pytest.importorskip("jax")
    schedule = schedules.warmup_cosine(0.5, 3, 10)
    found = []
    for scheduled, jit in ((False, False), (True, False), (True, True)):
        optimizer = optimizers.SGD(0.5 if not scheduled else schedule)
        scheduler = None if scheduled else schedulers.WarmupCosineLR(optimizer, 3, 10)
        params = {"w": jax.numpy.ones(2)}
        state = optimizer.init(params)
        update = jax.jit(optimizer.update) if jit else optimizer.update
        for _ in range(12):
            params, state = update(params, {"w": params["w"]}, state)
            if scheduler:
                scheduler.step()
        found.append(np.asarray(params["w"]))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-6)
    assert found[0][0] < 0.5


def test_a_rate_that_is_a_schedule_already():
    optimizer = Functional(schedules.cosine(0.1, 100), weight_decay=0.1)
    for make in (lambda: schedulers.StepLR(optimizer, 3), lambda: schedulers.ReduceLROnPlateau(optimizer)):
        with pytest.raises(
            OptionError, match=r"a schedule already.*\n  given:    learning_rate=cosine\(0.1, 100\)\n  do: "
        ):
            make()
    schedulers.ScheduleLR(optimizer, schedules.linear(0.5, 0.0, 5), "weight_decay")
    assert optimizer.param_groups[0]["weight_decay"] == 0.5


# --- drawings


def drawn(ax):
    return {line.get_label(): line.get_ydata() for line in ax.lines}


def test_a_schedule_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    rate = schedules.warmup_cosine(1e-3, 10, 50)
    ax = gl.plot_schedule(rate, updates=60, file=tmp_path / "rate.png")
    assert (tmp_path / "rate.png").read_bytes().startswith(b"\x89PNG")
    np.testing.assert_array_equal(drawn(ax)["warmup_cosine(0.001, 10, 50)"], [rate(n) for n in range(61)])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("updates", "value")
    again = gl.plot_schedule({"flat": schedules.constant(0.5), "mine": lambda n: n / 100}, 5, ax=ax)
    assert again is ax and list(drawn(ax)) == ["warmup_cosine(0.001, 10, 50)", "flat", "mine"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list(drawn(ax))


def test_a_scheduler_is_drawn_and_stays_as_it_is():
    pytest.importorskip("matplotlib")
    optimizer = gl.optim.SGD([gl.zeros(1, requires_grad=True)], lr=0.8, momentum=0.9)
    optimizer.add_param_group({"params": [gl.zeros(1, requires_grad=True)], "lr": 0.2})
    decay = schedulers.SequentialLR(
        optimizer, [schedulers.ConstantLR(optimizer, 0.5, 4), schedulers.ExponentialLR(optimizer, 0.5)], [4]
    )
    cycle = schedulers.OneCycleLR(optimizer, 1.0, total_steps=30)
    optimizer.step()
    decay.step()
    before = copy.deepcopy(
        (decay.state_dict(), cycle.state_dict(), optimizer.param_groups[0]["lr"], optimizer.defaults)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lines = drawn(gl.plot_schedule([decay, cycle, schedules.step(0.1, 2), schedules.step(0.1, 3)], updates=8))
    assert (decay.state_dict(), cycle.state_dict(), optimizer.param_groups[0]["lr"], optimizer.defaults) == before
    assert list(lines) == [
        "SequentialLR, group 0",
        "SequentialLR, group 1",
        "OneCycleLR",
        "step(0.1, 2)",
        "step(0.1, 3)",
    ]
    for n in range(9):
        assert lines["SequentialLR, group 0"][n] == decay.get_last_lr()[0]
        assert lines["SequentialLR, group 1"][n] == decay.get_last_lr()[1]
        decay.step()


def test_two_lines_of_one_name():
    pytest.importorskip("matplotlib")
    optimizer = Functional(0.1)
    several = [schedulers.StepLR(optimizer, 2), schedulers.StepLR(optimizer, 3)]
    assert list(drawn(gl.plot_schedule(several))) == ["StepLR 0", "StepLR 1"]


def test_what_cannot_be_drawn():
    pytest.importorskip("matplotlib")
    with pytest.raises(OptionError, match="plot_schedule cannot draw ReduceLROnPlateau: its rate depends on a metric"):
        gl.plot_schedule(schedulers.ReduceLROnPlateau(Functional(0.1)))
    with pytest.raises(OptionError, match=r"functions of the count and schedulers\n  given:    float for '0\.1'"):
        gl.plot_schedule(0.1)
    with pytest.raises(OptionError, match="updates must be a positive number\n  given:    0"):
        gl.plot_schedule(schedules.constant(0.1), updates=0)


def test_without_matplotlib():
    code = """
import sys
sys.modules["matplotlib"] = None
import gradloom as gl
try:
    gl.plot_schedule(gl.optim.schedules.constant(0.1))
except ImportError as error:
    print(error)
"""
    path = os.pathsep.join([str(Path(gl.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    text = "plot_schedule needs matplotlib, which is not installed\n  do:       pip install 'gradloom[demo]'"
    assert text in done.stdout, done.stderr
