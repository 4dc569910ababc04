"""Pure schedules: their values against optax, PyTorch's schedulers and plain loops, on numbers and on arrays of every engine."""

import itertools
import math
import re
import warnings

import numpy as np
import pytest

import gradloom as gl
from gradloom.backends.registry import get_backend
from gradloom.errors import OptionError
from gradloom.optim import schedules as s

COUNTS = range(71)


def by_torch(name, lr, **options):
    """The first rates of PyTorch's scheduler of that name; 60 at most."""

    def values(counts):
        torch = pytest.importorskip("torch")
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)
        found = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **options)
            for _ in counts:
                found.append(scheduler.get_last_lr()[0])
                scheduler.step()
        return found

    return values


def one_cycle(**options):
    return by_torch("OneCycleLR", 0.1, max_lr=0.8, total_steps=71, **options)


def cyclic(up, down=None, mode="triangular", gamma=1.0, **options):
    sizes = {"base_lr": 0.1, "max_lr": 0.9, "step_size_up": up, "step_size_down": down}
    return by_torch("CyclicLR", 0.1, mode=mode, gamma=gamma, **sizes, **options)


def by_optax(make):
    """The values of an optax schedule, in float64; `make(optax)` gives it."""

    def values(counts):
        optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
        with jax.enable_x64(True):
            schedule = make(optax)
            return [float(schedule(jax.numpy.asarray(float(n)))) for n in counts]

    return values


def by(function):
    return lambda counts: [function(n) for n in counts]


def wsd(n, left):
    """0.8 after 10 updates, for 20, then in 15 to 0.1."""
    if n < 10:
        return 0.2 + 0.06 * n
    return 0.8 if n <= 30 else 0.1 + 0.7 * left(min((n - 30) / 15, 1))


def restarts(n, first, factor, end, decay):
    """SGDR from 0.8, cycle by cycle."""
    start, length, height = 0, first, 0.8 - end
    while n >= start + length:
        start, length, height = start + length, length * factor, height * decay
    return end + height * (1 + math.cos(math.pi * (n - start) / length)) / 2


def hard_restarts(n):
    """Up to 0.8 in 10, then three cosines down to 0.1 in 45."""
    if n < 10:
        return 0.08 * n
    return 0.1 if n >= 55 else 0.1 + 0.7 * (1 + math.cos(math.pi * ((n - 10) / 15 % 1))) / 2


def half(x):
    return (1 + math.cos(math.pi * x)) / 2


#: name -> [(schedule, reference: counts -> values)]
SAMPLES = {
    "constant": [(s.constant(0.3), by(lambda n: 0.3))],
    "step": [(s.step(0.8, 7, gamma=0.6), by_torch("StepLR", 0.8, step_size=7, gamma=0.6))],
    "multistep": [
        (s.multistep(0.8, [30, 5, 30, 12], 0.5), by_torch("MultiStepLR", 0.8, milestones=[5, 12, 30, 30], gamma=0.5)),
        (s.multistep(0.8, {20: 3.0, 5: 0.5}), by_optax(lambda o: o.piecewise_constant_schedule(0.8, {5: 0.5, 20: 3.0}))),
    ],
    "exponential": [
        (s.exponential(0.8, 0.9), by_torch("ExponentialLR", 0.8, gamma=0.9)),
        (s.exponential(0.8, 0.5, steps=9, begin=4), by_optax(lambda o: o.exponential_decay(0.8, 9, 0.5, 4))),
        (
            s.exponential(0.8, 0.5, steps=9, begin=4, staircase=True, end=0.1),
            by_optax(lambda o: o.exponential_decay(0.8, 9, 0.5, 4, True, 0.1)),
        ),
        (s.exponential(0.1, 1.2, steps=3, end=2.0), by_optax(lambda o: o.exponential_decay(0.1, 3, 1.2, end_value=2.0))),
    ],
    "polynomial": [
        (s.polynomial(0.8, 0.1, 40, power=2.5, begin=6), by_optax(lambda o: o.polynomial_schedule(0.8, 0.1, 2.5, 40, 6))),
        (s.polynomial(0.8, 0.0, 40, power=2), by_torch("PolynomialLR", 0.8, total_iters=40, power=2)),
    ],
    "linear": [
        (s.linear(0.1, 0.9, 33, begin=5), by_optax(lambda o: o.linear_schedule(0.1, 0.9, 33, 5))),
        (s.linear(0.2, 0.8, 20), by_torch("LinearLR", 0.8, start_factor=0.25, total_iters=20)),
    ],
    "cosine": [
        (s.cosine(0.8, 50, end=0.2), by_optax(lambda o: o.cosine_decay_schedule(0.8, 50, alpha=0.25))),
        (s.cosine(0.8, 50, exponent=1.5), by_optax(lambda o: o.cosine_decay_schedule(0.8, 50, exponent=1.5))),
    ],
    "cosine_restarts": [
        (s.cosine_restarts(0.8, 7, end=0.1), by_torch("CosineAnnealingWarmRestarts", 0.8, T_0=7, eta_min=0.1)),
        (s.cosine_restarts(0.8, 4, T_mult=2), by_torch("CosineAnnealingWarmRestarts", 0.8, T_0=4, T_mult=2)),
        (s.cosine_restarts(0.8, 1, T_mult=3, end=0.1), by(lambda n: restarts(n, 1, 3, 0.1, 1))),
        (s.cosine_restarts(0.8, 6, T_mult=1.5, decay=0.7), by(lambda n: restarts(n, 6, 1.5, 0.0, 0.7))),
    ],
    "piecewise": [
        (
            s.piecewise([0, 15, 50], [0.02, 0.5, 0.001], "cosine"),
            by_optax(lambda o: o.cosine_onecycle_schedule(50, 0.5, 0.3, 25.0, 20.0)),
        ),
        (
            s.piecewise([5, 20, 60], [1.0, 3.0, 0.5]),
            by(lambda n: float(np.interp(n, [5, 20, 60], [1.0, 3.0, 0.5]))),
        ),
        (
            s.piecewise([0, 20, 40], [1.0, 0.5, 0.0], "sqrt"),
            by(lambda n: 1 - 0.5 * (math.sqrt(n / 20) if n <= 20 else 1 + math.sqrt(min(n - 20, 20) / 20))),
        ),
    ],
    "one_cycle": [
        (s.one_cycle(0.8, 71), one_cycle()),
        (s.one_cycle(0.8, 71, 0.0, shape="linear"), one_cycle(pct_start=0.0, anneal_strategy="linear")),
        (
            s.one_cycle(0.8, 71, 0.4, 10.0, 100.0, "linear", True),
            one_cycle(pct_start=0.4, div_factor=10.0, final_div_factor=100.0, anneal_strategy="linear", three_phase=True),
        ),
    ],
    "cyclic": [
        (s.cyclic(0.1, 0.9, 5), cyclic(5)),
        (s.cyclic(0.1, 0.9, 5, 9, "triangular2"), cyclic(5, 9, "triangular2")),
        (s.cyclic(0.1, 0.9, 5, 9, "exp_range", 0.95), cyclic(5, 9, "exp_range", 0.95)),
        (s.cyclic(0.1, 0.9, 6, scale_fn=lambda x: 1 / x), cyclic(6, scale_fn=lambda x: 1 / x)),
        (
            s.cyclic(0.1, 0.9, 6, scale_fn=lambda x: 1 / (1 + x), scale_mode="iterations"),
            cyclic(6, scale_fn=lambda x: 1 / (1 + x), scale_mode="iterations"),
        ),
    ],
    "inverse_sqrt": [
        (s.inverse_sqrt(0.8, 10), by(lambda n: 0.8 * min(n / 10, math.sqrt(10 / max(n, 1))))),
        (s.inverse_sqrt(0.8, 4, 0.4, timescale=9), by(lambda n: 0.4 + 0.1 * n if n < 4 else 0.8 * math.sqrt(9 / (n + 5)))),
        (s.inverse_sqrt(0.8, 0, timescale=9), by(lambda n: 0.8 * math.sqrt(9 / (n + 9)))),
    ],
    "warmup": [
        (
            s.warmup(s.exponential(0.8, 0.5, 9), 12, start=0.1),
            by_optax(lambda o: o.warmup_exponential_decay_schedule(0.1, 0.8, 12, 9, 0.5)),
        ),
        (s.warmup(0.8, 12), by_optax(lambda o: o.warmup_constant_schedule(0.0, 0.8, 12))),
        (s.warmup(0.8, 12, 0.1, "exponential"), by(lambda n: 0.1 * 8 ** (min(n, 12) / 12))),
        (s.warmup(lambda n: 1.0 - n / 100, 0), by(lambda n: 1.0 - n / 100)),
    ],
    "warmup_cosine": [
        (s.warmup_cosine(0.8, 10, 60, 0.1, 0.2), by_optax(lambda o: o.warmup_cosine_decay_schedule(0.1, 0.8, 10, 60, 0.2))),
        (s.warmup_cosine(0.8, 10, 55, end=0.1, cycles=3), by(hard_restarts)),
    ],
    "warmup_stable_decay": [
        (s.warmup_stable_decay(0.8, 10, 20, 15, 0.2, 0.1), by(lambda n: wsd(n, lambda x: 1 - x))),
        (s.warmup_stable_decay(0.8, 10, 20, 15, 0.2, 0.1, "cosine"), by(lambda n: wsd(n, half))),
        (s.warmup_stable_decay(0.8, 10, 20, 15, 0.2, 0.1, shape="sqrt"), by(lambda n: wsd(n, lambda x: 1 - math.sqrt(x)))),
    ],
    "cooldown": [
        (
            s.cooldown(s.linear(1.0, 0.0, 100), 20, 10, end=0.3),
            by(lambda n: 1 - n / 100 if n < 20 else 0.3 + 0.5 * (1 - min(n - 20, 10) / 10)),
        ),
    ],
    "join": [
        (
            s.join([s.linear(0.1, 0.8, 9), s.cosine(0.8, 30, 0.2), 0.2], [9, 40]),
            by_optax(
                lambda o: o.join_schedules(
                    [o.linear_schedule(0.1, 0.8, 9), o.cosine_decay_schedule(0.8, 30, 0.25), o.constant_schedule(0.2)], [9, 40]
                )
            ),
        ),
        (
            s.join([s.warmup_cosine(0.8, 3, 20), s.warmup_cosine(0.4, 5, 40, 0.1, 0.2)], [20]),
            by_optax(
                lambda o: o.sgdr_schedule(
                    [
                        {"init_value": 0.0, "peak_value": 0.8, "warmup_steps": 3, "decay_steps": 20},
                        {"init_value": 0.1, "peak_value": 0.4, "warmup_steps": 5, "decay_steps": 40, "end_value": 0.2},
                    ]
                )
            ),
        ),
    ],
    "product": [(s.product(s.linear(0.0, 1.0, 10), 0.5, s.step(1.0, 30)), by(lambda n: min(n / 10, 1) * 0.5 * 0.1 ** (n // 30)))],
    "scale": [(s.scale(s.linear(0.0, 1.0, 10), 0.5), by(lambda n: min(n / 10, 1) * 0.5))],
}  # fmt: skip
ALL = [
    pytest.param(*pair, id=re.sub(" at 0x[0-9a-f]+", "", repr(pair[0]))) for pair in itertools.chain(*SAMPLES.values())
]  # without addresses, which differ from process to process


def test_every_schedule_has_samples_and_is_public():
    assert SAMPLES.keys() == s.SCHEDULES.keys() == set(s.__all__) - {"Schedule"}
    for name, pairs in SAMPLES.items():
        assert all(repr(schedule).startswith(f"{name}(") for schedule, _ in pairs)


@pytest.mark.parametrize(("schedule", "reference"), ALL)
def test_values(schedule, reference):
    values = [schedule(n) for n in COUNTS]
    assert all(type(v) is float for v in values)
    np.testing.assert_allclose(values, reference(COUNTS), rtol=1e-12, atol=1e-15)
    # of an array: the same, at once
    np.testing.assert_allclose(schedule(np.array(COUNTS)), values, rtol=1e-12, atol=1e-15)
    assert schedule(np.int64(9)) == schedule(9)


@pytest.mark.parametrize(("schedule", "reference"), ALL)
def test_counts_of_every_engine(backend, schedule, reference):
    record = get_backend(backend)
    counts = record.from_numpy(np.array(COUNTS, np.int32))
    expected = np.array([schedule(n) for n in COUNTS])
    values = schedule(counts)
    assert isinstance(values, record.array_types) and tuple(values.shape) == (71,)
    np.testing.assert_allclose(record.to_numpy(values), expected, rtol=3e-5, atol=3e-6)
    np.testing.assert_allclose(schedule(gl.tensor(list(COUNTS))).numpy(), expected, rtol=3e-5, atol=3e-6)


@pytest.mark.parametrize(("schedule", "reference"), ALL)
def test_a_traced_count(schedule, reference):
    jax = pytest.importorskip("jax")
    traced, compiled = jax.jit(schedule), gl.jit(schedule)
    for n in (0, 1, 11, 30, 65):
        assert float(traced(n)) == pytest.approx(schedule(n), rel=3e-5, abs=3e-6)
        assert compiled(gl.tensor(n)).item() == pytest.approx(schedule(n), rel=3e-5, abs=3e-6)
    assert compiled.compiles == 1


@pytest.mark.parametrize(
    "schedule",
    [
        s.linear(1.0, 0.0, 40),
        s.polynomial(1.0, 0.0, 40, power=2.5),
        s.cooldown(1.0, 10, 30),
        s.cooldown(1.0, 10, 30, shape="sqrt"),
        s.piecewise([0, 10, 40], [0.0, 1.0, 0.0]),
        s.cosine(1.0, 40),
    ],
    ids=repr,
)
def test_the_end_is_reached_exactly_where_compilers_round(schedule):
    """1 - t * (1 / 40), which XLA makes of 1 - t / 40, is below 0 at t = 40."""
    jax = pytest.importorskip("jax")
    traced = jax.jit(schedule)
    assert [float(traced(n)) for n in (40, 41, 1000)] == [0, 0, 0]


def test_restarts_are_exact_where_cycles_begin():
    for first, factor in itertools.product((1, 3, 10), (2, 3, 5)):
        schedule = s.cosine_restarts(1.0, first, factor)
        start = 0
        for n in range(8):
            assert schedule(start) == 1.0
            start += first * factor**n
            assert schedule(start - 1) < 1.0 or first * factor**n == 1


def test_schedules_run_an_optimizer_inside_of_jax_jit():
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    ours, theirs = optax.sgd(s.warmup_cosine(0.8, 3, 9)), optax.sgd(optax.warmup_cosine_decay_schedule(0.0, 0.8, 3, 9))

    def run(optimizer):
        @jax.jit
        def update(p, state):
            updates, state = optimizer.update(jax.numpy.ones(2), state)
            return optax.apply_updates(p, updates), state

        p = jax.numpy.zeros(2)
        state = optimizer.init(p)
        for _ in range(12):
            p, state = update(p, state)
        return p

    np.testing.assert_allclose(run(ours), run(theirs), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: s.cosine(1.0, 0), "schedules.cosine: steps must be positive\n  given:    steps=0"),
        (lambda: s.step(1.0, 0), "schedules.step: step_size must be positive"),
        (lambda: s.linear(1.0, 0.0, -1), "schedules.linear: steps must be positive"),
        (lambda: s.polynomial(1.0, 0.0, 0), "schedules.polynomial: steps must be positive"),
        (lambda: s.exponential(1.0, 0.5, 0), "schedules.exponential: steps must be positive"),
        (lambda: s.cosine_restarts(1.0, 0), "schedules.cosine_restarts: T_0 must be positive"),
        (lambda: s.cosine_restarts(1.0, 2, 0.5), "T_mult must be at least 1\n  given:    T_mult=0.5"),
        (lambda: s.piecewise([0, 1], [1.0]), "there must be as many values, two or more"),
        (lambda: s.piecewise([2, 1], [1.0, 2.0]), "schedules.piecewise: boundaries must rise"),
        (lambda: s.piecewise([0, 1], [1.0, 2.0], "cubic"), "unknown shape 'cubic'\n  expected: 'linear', 'cosine', 'sqrt'"),
        (lambda: s.one_cycle(1.0, 0), "schedules.one_cycle: steps must be positive"),
        (lambda: s.one_cycle(1.0, 10, shape="cos"), "schedules.one_cycle: unknown shape 'cos'"),
        (lambda: s.cyclic(0.0, 1.0, 0), "schedules.cyclic: steps_up must be positive"),
        (lambda: s.cyclic(0.0, 1.0, 1, mode="round"), "unknown mode 'round'\n  expected: 'triangular', 'triangular2', 'exp_range'"),
        (lambda: s.cyclic(0.0, 1.0, 1, scale_fn=abs, scale_mode="x"), "unknown scale_mode 'x'\n  expected: 'cycle', 'iterations'"),
        (lambda: s.warmup(1.0, -1), "schedules.warmup: steps must not be negative"),
        (lambda: s.warmup(1.0, 5, shape="exponential"), "schedules.warmup: start must be positive\n  given:    start=0.0"),
        (lambda: s.warmup(1.0, 5, shape="sqrt"), "unknown shape 'sqrt'\n  expected: 'linear', 'exponential'"),
        (lambda: s.cooldown(1.0, 5, 0), "schedules.cooldown: steps must be positive"),
        (lambda: s.cooldown(1.0, 5, 1, shape="x"), "schedules.cooldown: unknown shape 'x'"),
        (lambda: s.inverse_sqrt(1.0, 0), "schedules.inverse_sqrt: timescale must be positive"),
        (lambda: s.warmup_cosine(1.0, 10, 10), "schedules.warmup_cosine: steps_after_warmup must be positive"),
        (lambda: s.join([1.0, 2.0], []), "one less than schedules\n  given:    2 schedules, boundaries=[]"),
        (lambda: s.join([1.0, 2.0, 3.0], [2, 1]), "schedules.join: boundaries must rise"),
    ],
)  # fmt: skip
def test_errors(make, text):
    with pytest.raises(OptionError, match=re.escape(text)):
        make()
