"""Schedulers against PyTorch's: rates, momenta, state dicts, warnings and errors."""

import copy
import inspect
import itertools
import re
import types
import warnings

import numpy as np
import pytest

import gradloom as gl
from gradloom.errors import OptionError
from gradloom.optim import lr_scheduler as ours
from gradloom.optim import schedules

torch = pytest.importorskip("torch")
theirs = types.SimpleNamespace(
    **{name: getattr(torch.optim.lr_scheduler, name) for name in torch.optim.lr_scheduler.__all__},
    SWALR=torch.optim.swa_utils.SWALR,
)
STEPS = 60


class Halving:
    """A function with a state, for state dicts."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, n):
        return self.rate**n


#: name of a class of PyTorch's -> functions of (library, optimizer with two groups) that build one
SAMPLES = {
    "LambdaLR": [
        lambda L, o: L.LambdaLR(o, lambda n: 0.95**n),
        lambda L, o: L.LambdaLR(o, [lambda n: 1 / (1 + n), Halving(0.9)]),
    ],
    "MultiplicativeLR": [
        lambda L, o: L.MultiplicativeLR(o, lambda n: 0.95),
        lambda L, o: L.MultiplicativeLR(o, [lambda n: 1 - 0.001 * n, Halving(0.999)]),
    ],
    "StepLR": [lambda L, o: L.StepLR(o, 7), lambda L, o: L.StepLR(o, step_size=1, gamma=0.9)],
    "MultiStepLR": [
        lambda L, o: L.MultiStepLR(o, [3, 20, 20, 41], 0.5),
        lambda L, o: L.MultiStepLR(o, milestones=(0, 2)),
    ],
    "ConstantLR": [lambda L, o: L.ConstantLR(o), lambda L, o: L.ConstantLR(o, factor=0.25, total_iters=17)],
    "LinearLR": [
        lambda L, o: L.LinearLR(o),
        lambda L, o: L.LinearLR(o, start_factor=0.1, end_factor=0.7, total_iters=23),
        lambda L, o: L.LinearLR(o, 1.0, 0.0, 40),
    ],
    "ExponentialLR": [lambda L, o: L.ExponentialLR(o, 0.93), lambda L, o: L.ExponentialLR(o, gamma=1.1)],
    "PolynomialLR": [lambda L, o: L.PolynomialLR(o), lambda L, o: L.PolynomialLR(o, total_iters=33, power=2.5)],
    "CosineAnnealingLR": [
        lambda L, o: L.CosineAnnealingLR(o, 11),
        lambda L, o: L.CosineAnnealingLR(o, T_max=100, eta_min=1e-6),
        lambda L, o: L.CosineAnnealingLR(o, T_max=1, eta_min=0.01),
    ],
    "CosineAnnealingWarmRestarts": [
        lambda L, o: L.CosineAnnealingWarmRestarts(o, 7),
        lambda L, o: L.CosineAnnealingWarmRestarts(o, T_0=3, T_mult=2, eta_min=0.01),
    ],
    "OneCycleLR": [
        lambda L, o: L.OneCycleLR(o, 0.9, total_steps=STEPS),
        lambda L, o: L.OneCycleLR(o, [0.9, 0.5], epochs=10, steps_per_epoch=9, anneal_strategy="linear", pct_start=0.25),
        lambda L, o: L.OneCycleLR(o, 0.9, 80, three_phase=True, base_momentum=[0.7, 0.8], max_momentum=0.99),
        lambda L, o: L.OneCycleLR(o, 0.9, 60, pct_start=0.0, cycle_momentum=False, div_factor=3.0, final_div_factor=7.0),
        lambda L, o: L.OneCycleLR(o, 0.9, 90, anneal_strategy="linear", pct_start=1.0),
    ],
    "CyclicLR": [
        lambda L, o: L.CyclicLR(o, 0.01, 0.1, 7),
        lambda L, o: L.CyclicLR(o, [0.01, 0.02], [0.1, 0.3], 5, 8, mode="triangular2", base_momentum=[0.7, 0.8]),
        lambda L, o: L.CyclicLR(o, 0.01, 0.1, step_size_up=6, mode="exp_range", gamma=0.97, max_momentum=0.99),
        lambda L, o: L.CyclicLR(o, 0.01, 0.1, 6, cycle_momentum=False, scale_fn=Halving(0.7)),
        lambda L, o: L.CyclicLR(o, 0.01, 0.1, 6, scale_fn=lambda n: 1 / (1 + n), scale_mode="iterations"),
    ],
    "SWALR": [
        lambda L, o: L.SWALR(o, 0.05),
        lambda L, o: L.SWALR(o, [0.05, 0.5], anneal_epochs=23, anneal_strategy="linear"),
        lambda L, o: L.SWALR(o, 0.05, anneal_epochs=0),
    ],
    "ReduceLROnPlateau": [
        lambda L, o: L.ReduceLROnPlateau(o, patience=3),
        lambda L, o: L.ReduceLROnPlateau(o, "max", factor=0.5, patience=1, threshold=0.1, cooldown=2, min_lr=[0.01, 0.05]),
        lambda L, o: L.ReduceLROnPlateau(o, factor=0.5, patience=0, threshold=0.2, threshold_mode="abs", min_lr=1e-3),
        lambda L, o: L.ReduceLROnPlateau(o, mode="max", patience=2, threshold_mode="abs", eps=1e-3),
    ],
    "ChainedScheduler": [
        lambda L, o: L.ChainedScheduler([L.LinearLR(o, 0.1, total_iters=5), L.ExponentialLR(o, 0.9)]),
        lambda L, o: L.ChainedScheduler(
            [L.CosineAnnealingLR(o, 13), L.StepLR(o, 10, 0.5), L.MultiplicativeLR(o, lambda n: 0.99)], optimizer=o
        ),
        lambda L, o: L.ChainedScheduler([L.ConstantLR(o, 0.3, 4), L.PolynomialLR(o, 50), L.MultiStepLR(o, [9, 30])]),
        lambda L, o: L.ChainedScheduler(
            [L.SequentialLR(o, [L.ConstantLR(o, 0.1, 4), L.ExponentialLR(o, 0.9)], [4]), L.StepLR(o, 20)]
        ),
        lambda L, o: L.ChainedScheduler([L.ChainedScheduler([L.ExponentialLR(o, 0.9)]), L.LinearLR(o)]),
    ],
    "SequentialLR": [
        lambda L, o: L.SequentialLR(o, [L.LinearLR(o, 0.1, total_iters=10), L.CosineAnnealingLR(o, 40)], milestones=[10]),
        lambda L, o: L.SequentialLR(
            o, [L.ConstantLR(o, 0.5, 20), L.ExponentialLR(o, 0.9), L.StepLR(o, 3, 0.5), L.PolynomialLR(o, 9)], [20, 30, 50]
        ),
        lambda L, o: L.SequentialLR(
            o, [L.CosineAnnealingWarmRestarts(o, 4), L.LambdaLR(o, Halving(0.9)), L.CosineAnnealingWarmRestarts(o, 5)], [9, 33]
        ),
        lambda L, o: L.SequentialLR(o, [L.MultiStepLR(o, [1]), L.MultiplicativeLR(o, lambda n: 0.9)], [0]),
        lambda L, o: L.SequentialLR(
            o, [L.ChainedScheduler([L.ExponentialLR(o, 0.9), L.LinearLR(o, 0.2)]), L.ExponentialLR(o, 0.8)], [12]
        ),
        lambda L, o: L.SequentialLR(
            o, [L.SequentialLR(o, [L.LinearLR(o), L.ExponentialLR(o, 0.9)], [6]), L.StepLR(o, 4)], [15]
        ),
        lambda L, o: L.SequentialLR(o, [L.ExponentialLR(o, 0.9), L.OneCycleLR(o, 0.9, 50)], [10]),
    ],
}  # fmt: skip
ALL = [pytest.param(make, id=f"{name}-{i}") for name, found in SAMPLES.items() for i, make in enumerate(found)]
KINDS = ("SGD", "Adam")


def optimizer_of(library, kind="SGD"):
    """An optimizer with two groups of different rates."""
    if library is theirs:
        a, b = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    else:
        a, b = (gl.zeros(2, requires_grad=True) for _ in range(2))
    options = {"momentum": 0.9} if kind == "SGD" else {"betas": (0.9, 0.99)}
    module = torch.optim if library is theirs else gl.optim
    return getattr(module, kind)([{"params": [a]}, {"params": [b], "lr": 0.3}], lr=0.1, **options)


def build(library, make, kind="SGD"):
    optimizer = optimizer_of(library, kind)
    return optimizer, make(library, optimizer)


def metric(n):
    """Falls, stays, rises and falls again."""
    return [3.0, 2.5, 2.5, 2.4999, 2.6, 2.6, 2.6, 1.0, 1.01, 1.0, 1.02, 1.5, 1.4, 1.3, 0.2][n % 15] + n // 30


def advance(optimizer, scheduler, n):
    optimizer.step()
    if "ReduceLROnPlateau" in type(scheduler).__name__:
        scheduler.step(metric(n))
    else:
        scheduler.step()


def options_of(optimizer):
    """All numbers of the groups, by name."""
    names = ("lr", "momentum", "betas", "initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "swa_lr")
    return [{k: g[k] for k in names if k in g} for g in optimizer.param_groups]


def assert_same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.keys() == y.keys()
        for k in x:
            np.testing.assert_allclose(x[k], y[k], rtol=1e-12, atol=1e-16, err_msg=k)


def structure(state):
    """A state dict's keys, and those of the dicts in it."""
    if isinstance(state, dict):
        return {k: structure(v) for k, v in state.items()}
    return [structure(v) for v in state] if isinstance(state, list) else type(state).__name__


@pytest.fixture(autouse=True)
def _no_warnings(recwarn):
    """Nothing of ours warns; tests of warnings catch theirs."""
    yield
    unexpected = [w for w in recwarn if "lr_scheduler" in w.filename and "torch" not in w.filename]
    assert not unexpected, [str(w.message) for w in unexpected]


# --- the registry


def test_every_class_has_a_sample():
    classes = {n for n in ours.__all__ if n != "LRScheduler"}
    assert classes == SAMPLES.keys() | BEYOND.keys()
    assert {n for n in vars(theirs) if n != "LRScheduler"} == SAMPLES.keys()
    for name in classes:
        assert issubclass(getattr(ours, name), ours.LRScheduler) and getattr(ours, name).__doc__


@pytest.mark.parametrize("name", [*SAMPLES, "LRScheduler"])
def test_signatures_are_pytorchs(name):
    def parameters(cls):
        return [(p.name, p.kind, p.default) for p in inspect.signature(cls).parameters.values()]

    assert parameters(getattr(ours, name)) == parameters(getattr(theirs, name))


def test_one_import_gives_the_module():
    assert gl.optim.lr_scheduler.StepLR is ours.StepLR and gl.optim.schedules is schedules


# --- numbers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", ALL)
@pytest.mark.filterwarnings("ignore:::torch")
def test_rates_and_momenta(make, kind):
    a, theirs_ = build(theirs, make, kind)
    b, ours_ = build(ours, make, kind)
    assert_same(options_of(b), options_of(a))
    for n in range(STEPS):
        advance(a, theirs_, n)
        advance(b, ours_, n)
        assert_same(options_of(b), options_of(a))
        np.testing.assert_allclose(ours_.get_last_lr(), theirs_.get_last_lr(), rtol=1e-12, atol=1e-16)
    assert structure(ours_.state_dict()) == structure(theirs_.state_dict())


@pytest.mark.parametrize("make", ALL)
@pytest.mark.filterwarnings("ignore:::torch")
def test_state_dicts_go_both_ways(make):
    for source, target in itertools.permutations((ours, theirs)):
        a, whole = build(source, make)
        for n in range(17):
            advance(a, whole, n)
        b, resumed = build(target, make)
        for g, h in zip(a.param_groups, b.param_groups, strict=True):
            h.update({k: v for k, v in g.items() if k in options_of(a)[0]})
        state = copy.deepcopy(whole.state_dict())
        keys = set(state)
        resumed.load_state_dict(state)
        assert target is theirs or set(state) == keys  # PyTorch's takes some out
        for n in range(17, STEPS):
            advance(a, whole, n)
            advance(b, resumed, n)
            assert_same(options_of(b), options_of(a))


@pytest.mark.parametrize("make", ALL)
def test_resuming_from_a_file(make, tmp_path):
    a, whole = build(ours, make)
    for n in range(23):
        advance(a, whole, n)
    gl.save({"optimizer": a.state_dict(), "scheduler": whole.state_dict()}, tmp_path / "state")
    b, resumed = build(ours, make)
    saved = gl.load(tmp_path / "state")
    resumed.load_state_dict(saved["scheduler"])
    b.load_state_dict(saved["optimizer"])
    assert resumed.get_last_lr() == whole.get_last_lr()
    for n in range(23, STEPS):
        advance(a, whole, n)
        advance(b, resumed, n)
        assert options_of(b) == options_of(a)


WITH_EPOCHS = [p for p in ALL if not p.id.startswith(("Chained", "Sequential", "Reduce"))]


@pytest.mark.parametrize("make", WITH_EPOCHS)
def test_step_to_an_epoch(make):
    """The closed forms."""
    a, theirs_ = build(theirs, make)
    b, ours_ = build(ours, make)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for epoch in (5, 3, 20, 0, 21, 22, 55):
            theirs_.step(epoch)
            ours_.step(epoch)
            assert_same(options_of(b), options_of(a))
            advance(a, theirs_, 0)
            advance(b, ours_, 0)
            assert_same(options_of(b), options_of(a))


def test_warm_restarts_take_fractions():
    for options in ({"T_0": 4}, {"T_0": 3, "T_mult": 2, "eta_min": 0.01}):
        a, theirs_ = build(theirs, lambda L, o, options=options: L.CosineAnnealingWarmRestarts(o, **options))
        b, ours_ = build(ours, lambda L, o, options=options: L.CosineAnnealingWarmRestarts(o, **options))
        for epoch in np.arange(0, 25, 0.3).tolist():
            theirs_.step(epoch)
            ours_.step(epoch)
            assert_same(options_of(b), options_of(a))
            assert ours_.last_epoch == theirs_.last_epoch


LAST = {
    "LambdaLR": {"lr_lambda": lambda n: 0.9**n},
    "MultiplicativeLR": {"lr_lambda": lambda n: 0.9},
    "StepLR": {"step_size": 5},
    "MultiStepLR": {"milestones": [10, 11, 12]},
    "ConstantLR": {"total_iters": 10},
    "LinearLR": {"total_iters": 20},
    "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {"total_iters": 20},
    "CosineAnnealingLR": {"T_max": 15},
    "CosineAnnealingWarmRestarts": {"T_0": 4},
    "OneCycleLR": {"max_lr": 0.9, "total_steps": 60},
    "CyclicLR": {"base_lr": 0.1, "max_lr": 0.9, "step_size_up": 4},
    "SWALR": {"swa_lr": 0.01},
}


@pytest.mark.parametrize("name", LAST)
@pytest.mark.parametrize("last_epoch", [0, 9, 10, 14])
def test_last_epoch(name, last_epoch):
    results = []
    for library in (theirs, ours):
        optimizer, before = build(library, lambda L, o: getattr(L, name)(o, **LAST[name]))
        for n in range(last_epoch):
            advance(optimizer, before, n)
        scheduler = getattr(library, name)(optimizer, **LAST[name], last_epoch=last_epoch)
        rows = [options_of(optimizer)]
        for n in range(20):
            advance(optimizer, scheduler, n)
            rows.append(options_of(optimizer))
        results.append(rows)
    for a, b in zip(*results, strict=True):
        assert_same(b, a)


def test_a_group_that_is_added_later():
    """Its minimum is the common one; with a list of minima it is an error."""
    for library in (theirs, ours):
        optimizer, scheduler = build(library, lambda L, o: L.ReduceLROnPlateau(o, patience=0, factor=0.5))
        listed = library.ReduceLROnPlateau(optimizer, patience=0, min_lr=[0.0, 0.0])
        new = torch.zeros(1, requires_grad=True) if library is theirs else gl.zeros(1, requires_grad=True)
        optimizer.add_param_group({"params": [new], "lr": 0.8})
        for _ in range(2):
            scheduler.step(1.0)
        assert scheduler.get_last_lr() == pytest.approx([0.05, 0.15, 0.4])
        listed.step(1.0)
        with pytest.raises(
            RuntimeError, match=r"The number of param groups in the `optimizer` \(3\) differs from when"
        ):
            listed.step(1.0)


def test_a_compiled_step_follows_the_schedule(backend):
    results = []
    for compiled in (False, True):
        w = gl.ones(2, requires_grad=True)
        optimizer = gl.optim.SGD([w], lr=0.1)

        def step(x, w=w, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (w * w * x).sum()
            loss.backward()
            optimizer.step()
            return loss

        f = gl.jit(step) if compiled else step
        scheduler = ours.SequentialLR(optimizer, [ours.LinearLR(optimizer), ours.ExponentialLR(optimizer, 0.9)], [4])
        for _ in range(8):
            f(gl.tensor(1.0))
            scheduler.step()
        results.append(w.detach().numpy())
    assert f.compiles == 1
    np.testing.assert_allclose(*results, rtol=1e-5)


# --- copies


def test_a_copy_has_its_own_optimizer():
    optimizer, scheduler = build(ours, SAMPLES["StepLR"][1])
    twin = copy.deepcopy(scheduler)
    assert twin.optimizer is not optimizer
    for group in twin.optimizer.param_groups:
        for p in group["params"]:
            p.grad = gl.ones(2)
    twin.optimizer.step()  # not the original's
    twin.step()
    assert all((p == 0).all() for g in optimizer.param_groups for p in g["params"])
    assert all((p != 0).all() for g in twin.optimizer.param_groups for p in g["params"])
    assert scheduler.get_last_lr() == [0.1, 0.3] and twin.get_last_lr() == pytest.approx([0.09, 0.27])


# --- warnings


def test_step_before_the_optimizers():
    for library in (theirs, ours):
        optimizer, scheduler = build(library, SAMPLES["StepLR"][0])
        with pytest.warns(UserWarning, match=r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
            scheduler.step()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            scheduler.step()  # said once
            optimizer, first = build(library, SAMPLES["StepLR"][0])
            second = library.StepLR(optimizer, 3)
            optimizer.step()
            first.step()
            second.step()


def test_an_optimizer_that_counts_its_updates_is_not_wrapped():
    optimizer = optimizer_of(ours)
    optimizer._updates = 0
    optimizer.__dict__.pop("step", None)
    scheduler = ours.StepLR(optimizer, 3)
    assert "step" not in vars(optimizer)
    with pytest.warns(UserWarning, match="Detected call of `lr_scheduler.step"):
        scheduler.step()
    scheduler = ours.StepLR(optimizer, 3)
    optimizer._updates = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()


def test_an_overridden_step():
    for library in (theirs, ours):
        optimizer, scheduler = build(library, SAMPLES["StepLR"][0])
        optimizer.step = lambda: None
        if hasattr(optimizer, "_updates"):
            continue
        with pytest.warns(UserWarning, match=r"Seems like `optimizer.step\(\)` has been overridden"):
            scheduler.step()


def test_deprecated_epoch_and_get_lr():
    for library in (theirs, ours):
        optimizer, scheduler = build(library, SAMPLES["StepLR"][1])
        optimizer.step()
        with pytest.warns(UserWarning, match=r"The epoch parameter in `scheduler.step\(\)` was not necessary"):
            scheduler.step(4)
        with pytest.warns(UserWarning, match=r"please use `get_last_lr\(\)`"):
            scheduler.get_lr()
        plateau = library.ReduceLROnPlateau(optimizer)
        with pytest.warns(UserWarning, match="The epoch parameter"):
            plateau.step(1.0, 4)
        assert plateau.last_epoch == 4


# --- errors


ERRORS = [
    lambda L, o: L.LambdaLR(o, [lambda n: 1]),
    lambda L, o: L.MultiplicativeLR(o, [lambda n: 1]),
    lambda L, o: L.MultiplicativeLR(o, 0.5),
    lambda L, o: L.ConstantLR(o, factor=1.5),
    lambda L, o: L.ConstantLR(o, factor=-0.1),
    lambda L, o: L.LinearLR(o, start_factor=0),
    lambda L, o: L.LinearLR(o, end_factor=1.1),
    lambda L, o: L.CosineAnnealingWarmRestarts(o, 0),
    lambda L, o: L.CosineAnnealingWarmRestarts(o, 2, T_mult=1.5),
    lambda L, o: L.CosineAnnealingWarmRestarts(o, 2, eta_min="0"),
    lambda L, o: L.CosineAnnealingWarmRestarts(o, 2).step(-1),
    lambda L, o: L.OneCycleLR(o, 0.1),
    lambda L, o: L.OneCycleLR(o, 0.1, total_steps=0),
    lambda L, o: L.OneCycleLR(o, 0.1, total_steps=2.5),
    lambda L, o: L.OneCycleLR(o, 0.1, epochs=0, steps_per_epoch=3),
    lambda L, o: L.OneCycleLR(o, 0.1, epochs=3, steps_per_epoch=-1),
    lambda L, o: L.OneCycleLR(o, 0.1, 10, pct_start=1.5),
    lambda L, o: L.OneCycleLR(o, 0.1, 10, pct_start=1),
    lambda L, o: L.OneCycleLR(o, 0.1, 10, anneal_strategy="sine"),
    lambda L, o: L.OneCycleLR(o, [0.1], 10),
    lambda L, o: L.OneCycleLR(o, 0.1, 10, base_momentum=[0.1]),
    lambda L, o: [s.step() for s in [L.OneCycleLR(o, 0.1, 2)] if not o.step() for _ in range(3)],
    lambda L, o: L.CyclicLR(o, 0.1, 1.0, mode="round"),
    lambda L, o: L.CyclicLR(o, [0.1], 1.0),
    lambda L, o: L.CyclicLR(o, 0.1, [1.0, 1.0, 1.0]),
    lambda L, o: L.SWALR(o, 0.1, anneal_strategy="sine"),
    lambda L, o: L.SWALR(o, 0.1, anneal_epochs=-1),
    lambda L, o: L.SWALR(o, [0.1]),
    lambda L, o: L.ReduceLROnPlateau(o, factor=1.0),
    lambda L, o: L.ReduceLROnPlateau(o, "least"),
    lambda L, o: L.ReduceLROnPlateau(o, threshold_mode="x"),
    lambda L, o: L.ReduceLROnPlateau(o, min_lr=[0.1]),
    lambda L, o: L.ReduceLROnPlateau(o).step(),
    lambda L, o: L.ReduceLROnPlateau("sgd"),
    lambda L, o: L.StepLR("sgd", 3),
    lambda L, o: L.OneCycleLR("sgd", 0.1, 3),
    lambda L, o: L.CyclicLR("sgd", 0.1, 0.3),
    lambda L, o: L.ChainedScheduler([]),
    lambda L, o: L.ChainedScheduler([L.StepLR(o, 3), L.ReduceLROnPlateau(o)]),
    lambda L, o: L.ChainedScheduler([L.StepLR(o, 3), 5]),
    lambda L, o: L.SequentialLR(o, [], []),
    lambda L, o: L.SequentialLR(o, [L.ReduceLROnPlateau(o)], []),
    lambda L, o: L.SequentialLR(o, [5], []),
    lambda L, o: L.SequentialLR(o, [L.StepLR(o, 3)], [5]),
]


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_errors_are_pytorchs(number):
    errors = []
    for library in (theirs, ours):
        with warnings.catch_warnings(), pytest.raises((TypeError, ValueError, KeyError)) as caught:
            warnings.simplefilter("ignore")
            ERRORS[number](library, optimizer_of(library))
        errors.append((type(caught.value), str(caught.value)))
    assert errors[0] == errors[1]


def test_errors_that_name_objects():
    for library in (theirs, ours):
        first, second = optimizer_of(library), optimizer_of(library)
        mixed = [library.StepLR(first, 3), library.StepLR(second, 3)]
        with pytest.raises(
            ValueError, match=r"ChainedScheduler expects all schedulers to belong to the same optimizer, .* at index 1"
        ):
            library.ChainedScheduler(mixed)
        with pytest.raises(
            ValueError, match=r"SequentialLR expects all schedulers to belong to the same optimizer, .* at index 1"
        ):
            library.SequentialLR(first, mixed, [3])
        with pytest.raises(KeyError, match=r"param 'initial_lr' is not specified in param_groups\[0\] when resuming"):
            library.StepLR(optimizer_of(library), 3, last_epoch=4)
        plain = torch.optim.Adagrad([torch.zeros(1)]) if library is theirs else WithoutMomentum()
        for make in (lambda L, o: L.OneCycleLR(o, 0.1, 3), lambda L, o: L.CyclicLR(o, 0.1, 0.3)):
            with pytest.raises(ValueError, match="optimizer must support momentum or beta1 with `cycle_momentum`"):
                make(library, plain)  # fmt: skip


class WithoutMomentum:
    """The least that schedulers ask of an optimizer."""

    def __init__(self):
        self.param_groups = [{"lr": 0.1}]


def test_a_chain_cannot_begin_at_a_milestone():
    """PyTorch raises a bare NotImplementedError at that step, in the middle of training."""
    optimizer = optimizer_of(ours)
    for inner in SAMPLES["ChainedScheduler"][0], SAMPLES["SequentialLR"][0]:
        late = inner(ours, optimizer)
        with pytest.raises(
            ValueError, match=f"a {type(late).__name__} cannot begin at a milestone\n.*index 1\n.*put it first"
        ):
            ours.SequentialLR(optimizer, [ours.StepLR(optimizer, 3), late], [5])


# --- beyond PyTorch's


def wsd(n, lr):
    return lr * (n / 4 if n < 4 else 1 if n <= 14 else max(1 - (n - 14) / 10, 0))


#: name of a class -> [(builds one, rate after n steps, of the group's rate)]
BEYOND = {
    "ScheduleLR": [
        (lambda L, o: L.ScheduleLR(o, schedules.cosine(0.5, 20)), lambda n, lr: schedules.cosine(0.5, 20)(n)),
        (
            lambda L, o: L.ScheduleLR(o, [lambda n: 0.1 / (1 + n), lambda n: 0.3 / (1 + n)]),
            lambda n, lr: lr / (1 + n),
        ),
    ],
    "LinearWarmupScheduler": [
        (lambda L, o: L.LinearWarmupScheduler(o, 10, 0.01, 0.5), lambda n, lr: 0.01 + 0.49 * min(n, 10) / 10),
        (
            lambda L, o: L.LinearWarmupScheduler(o, 10, 0.0, [0.1, 0.3], L.ExponentialLR(o, 0.9)),
            lambda n, lr: lr * n / 10 if n <= 10 else lr * 0.9 ** (n - 10),
        ),
        (
            lambda L, o: L.LinearWarmupScheduler(o, 5, 0.0, 0.7, L.StepLR(o, 4, 0.5)),  # goes on from end_lr
            lambda n, lr: 0.7 * n / 5 if n <= 5 else 0.7 * 0.5 ** ((n - 5) // 4),
        ),
        (
            lambda L, o: L.LinearWarmupScheduler(o, 5, 0.0, 0.7, L.CosineAnnealingWarmRestarts(o, 7)),
            lambda n, lr: 0.7 * n / 5 if n <= 5 else schedules.cosine_restarts(0.7, 7)(n - 5),
        ),
        (
            lambda L, o: L.LinearWarmupScheduler(o, 0, 0.0, 0.7, L.LinearLR(o, 0.5, total_iters=10)),
            lambda n, lr: 0.7 if n == 0 else 0.7 * min(0.5 + n / 20, 1),
        ),
        (
            lambda L, o: L.LinearWarmupScheduler(
                o, 6, 0.0, 0.7, L.ChainedScheduler([L.LambdaLR(o, lambda n: 1 / (1 + n)), L.StepLR(o, 100)])
            ),
            lambda n, lr: 0.7 * n / 6 if n <= 6 else 0.7 / (n - 5),
        ),
    ],
    "WarmupStableDecayLR": [(lambda L, o: L.WarmupStableDecayLR(o, 4, 10, 10), wsd)],
    "InverseSqrtLR": [
        (lambda L, o: L.InverseSqrtLR(o, 9), lambda n, lr: lr * min(n / 9, (9 / max(n, 1)) ** 0.5)),
    ],
    "WarmupCosineLR": [
        (
            lambda L, o: L.WarmupCosineLR(o, 5, 35, eta_min=0.01, start_factor=0.2, cycles=2),
            lambda n, lr: lr * (0.2 + 0.16 * n) if n < 5 else 0.01 if n >= 35 else schedules.cosine_restarts(lr, 15, end=0.01)(n - 5),
        ),
    ],
    "CooldownLR": [
        (
            lambda L, o: L.CooldownLR(o, 20, 10, end_factor=0.1),
            lambda n, lr: lr * (1 - 0.9 * min(max(n - 20, 0), 10) / 10),
        ),
        (
            lambda L, o: L.ChainedScheduler([L.ExponentialLR(o, 0.9), L.CooldownLR(o, 20, 10, shape="cosine")]),
            lambda n, lr: lr * 0.9**n * (1 + np.cos(np.pi * min(max(n - 20, 0), 10) / 10)) / 2,
        ),
    ],
}  # fmt: skip
BEYOND_ALL = [pytest.param(*pair, id=f"{name}-{i}") for name, found in BEYOND.items() for i, pair in enumerate(found)]


@pytest.mark.parametrize(("make", "rate"), BEYOND_ALL)
def test_rates_beyond_pytorchs(make, rate, tmp_path):
    optimizer, scheduler = build(ours, make)
    resumed = None
    for n in range(45):
        expected = [rate(n, 0.1), rate(n, 0.3)]
        for s in filter(None, (scheduler, resumed)):
            np.testing.assert_allclose([g["lr"] for g in s.optimizer.param_groups], expected, rtol=1e-12, atol=1e-15)
            np.testing.assert_allclose(s.get_last_lr(), expected, rtol=1e-12, atol=1e-15)
        advance(optimizer, scheduler, n)
        if resumed:
            advance(resumed.optimizer, resumed, n)
        if n in (3, 22):  # in the warm-up, and after it
            gl.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, tmp_path / "state")
            _, resumed = build(ours, make)
            saved = gl.load(tmp_path / "state")
            resumed.load_state_dict(saved["scheduler"])
            resumed.optimizer.load_state_dict(saved["optimizer"])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("weight_decay", lambda o: o.param_groups[1]["weight_decay"]),
        ("betas.0", lambda o: o.param_groups[1]["betas"][0]),
        (("betas", 1), lambda o: o.param_groups[1]["betas"][1]),
        ("betas.-1", lambda o: o.param_groups[1]["betas"][1]),
    ],
)
def test_any_option(option, value):
    optimizer = optimizer_of(ours, "Adam")
    scheduler = ours.ScheduleLR(optimizer, schedules.linear(0.5, 0.9, 4), option)
    for n in range(6):
        assert value(optimizer) == pytest.approx(0.5 + 0.1 * min(n, 4)) == scheduler.get_last_lr()[1]
        advance(optimizer, scheduler, n)
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.3]
    assert type(optimizer.param_groups[0]["betas"]) is tuple and len(optimizer.param_groups[0]["betas"]) == 2


def test_an_option_that_is_not_there():
    optimizer = optimizer_of(ours, "Adam")
    with pytest.raises(OptionError, match=r"param_groups\[0\] has no option 'momentum'\n  expected: lr, .*betas, "):
        ours.ScheduleLR(optimizer, schedules.constant(1.0), "momentum")
    with pytest.raises(OptionError, match=r"has no option 'betas.2'\n  expected: 0, 1\n  given:    2"):
        ours.ScheduleLR(optimizer, schedules.constant(1.0), "betas.2")
    with pytest.raises(OptionError, match=r"has no option 'lr.0'\n  given:    0"):
        ours.ScheduleLR(optimizer, schedules.constant(1.0), "lr.0")
    with pytest.raises(ValueError, match="schedule has 1 values, param_groups has 2"):
        ours.ScheduleLR(optimizer, [schedules.constant(1.0)])


def test_warmup_before_a_plateau():
    optimizer = optimizer_of(ours)
    after = ours.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    scheduler = ours.LinearWarmupScheduler(optimizer, 2, 0.0, 0.8, after)
    rates = []
    for loss in (9.0, 9.0, 1.0, 1.0, 0.5, 0.6):
        optimizer.step()
        scheduler.step(loss)
        rates.append(scheduler.get_last_lr()[0])
    assert rates == pytest.approx([0.4, 0.8, 0.8, 0.4, 0.4, 0.2])
    with pytest.raises(ValueError, match="after_scheduler is of another optimizer\n  do: "):
        ours.LinearWarmupScheduler(optimizer_of(ours), 2, 0.0, 0.8, after)
    with pytest.raises(ValueError, match="warmup_steps is negative\n  given:    -1"):
        ours.LinearWarmupScheduler(optimizer, -1, 0.0, 0.8)


# --- updates that were left out


@pytest.mark.parametrize(
    "make", [p for p in ALL if not p.id.startswith("Reduce")] + [pytest.param(p.values[0], id=p.id) for p in BEYOND_ALL]
)
def test_a_skipped_update_is_not_counted(make):
    plain, expected = build(ours, make)
    optimizer, scheduler = build(ours, make)
    for n in range(40):
        optimizer.skipped = n % 3 == 1
        advance(optimizer, scheduler, n)
        if not optimizer.skipped:
            advance(plain, expected, n)
        assert options_of(optimizer) == options_of(plain) and scheduler.get_last_lr() == expected.get_last_lr()


def test_what_a_skipped_update_does_not_stop():
    optimizer = optimizer_of(ours)
    optimizer.skipped = True
    assert ours.ConstantLR(optimizer, 0.5).get_last_lr() == [0.05, 0.15]  # built after one
    plateau = ours.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    plateau.step(1.0)
    plateau.step(1.0)
    assert plateau.get_last_lr() == [0.025, 0.075]
    scheduler = ours.ExponentialLR(optimizer_of(ours), 0.5)
    scheduler.optimizer.skipped = True
    with pytest.warns(UserWarning, match="The epoch parameter"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=re.escape("Detected call"))
        scheduler.step(2)
    assert scheduler.get_last_lr() == [0.025, 0.075]
