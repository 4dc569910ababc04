"""Prodigy against optax and against the authors' update in NumPy, in float64."""

import functools
import math

import numpy as np
import pytest

import gradloom as gl

from .reference import assert_close, check_resumes, engine, gradients, halved, numbers, run, run_optax, starts, tensors

optax = pytest.importorskip("optax")
MODES = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])


def downhill(step):
    """Gradients that agree from step to step, so that the estimate grows."""
    return [0.9 * a + 0.3 * g for a, g in zip(starts(), gradients(step), strict=True)]


OPTAX = [
    ({}, {}),
    ({"d0": 1e-2, "d_coef": 2.0, "weight_decay": 0.1}, {"estim_lr0": 1e-2, "estim_lr_coef": 2.0, "weight_decay": 0.1}),
    (
        {"lr": 0.5, "betas": (0.8, 0.99), "beta3": 0.9, "eps": 1e-4, "safeguard_warmup": True, "d0": 1e-3},
        {
            "learning_rate": 0.5, "betas": (0.8, 0.99), "beta3": 0.9, "eps": 1e-4, "safeguard_warmup": True,
            "estim_lr0": 1e-3,
        },
    ),
]  # fmt: skip


@functools.cache
def expected_of(k):
    return run_optax(optax.contrib.prodigy(**OPTAX[k][1]), grads=downhill)


@MODES
@pytest.mark.parametrize("k", range(len(OPTAX)), ids=["defaults", "decay", "all"])
def test_equals_optax(backend, k, compiled):
    options, expected = OPTAX[k][0], expected_of(k)
    with gl.using_backend(engine(backend)):
        found, optimizer, _ = run(
            lambda p: gl.optim.Prodigy(p, use_bias_correction=True, **options), compiled=compiled, grads=downhill
        )
        (d,) = {s["d"].item() for s in optimizer.state.values()}
    assert d > 1.1 * options.get("d0", 1e-6)  # the estimate has grown
    assert_close(found, expected)


def authors(o, grads, steps):
    """The update of the authors' code, with its numbers kept for all parameters."""
    (b1, b2), params, first = o["betas"], starts(), starts()
    b3 = math.sqrt(b2) if o["beta3"] is None else o["beta3"]
    ms, vs, ss = ([np.zeros_like(p) for p in params] for _ in range(3))
    d = d_max = d0 = o["d0"]
    numerator = 0.0
    for t in range(1, steps + 1):
        bias = math.sqrt(1 - b2**t) / (1 - b1**t) if o["use_bias_correction"] else 1.0
        rate, above, below = d * o["lr"] * bias, b3 * numerator, 0.0
        for i, g in enumerate(grads(t - 1)):
            if not o["decouple"]:
                g = g + o["weight_decay"] * params[i]
            above += d / d0 * rate * np.sum(g * (first[i] - params[i]))
            ms[i] = b1 * ms[i] + d * (1 - b1) * g
            vs[i] = b2 * vs[i] + d * d * (1 - b2) * g * g
            ss[i] = b3 * ss[i] + d / d0 * (d if o["safeguard_warmup"] else rate) * g
            below += np.abs(ss[i]).sum()
        if below == 0:
            continue
        numerator = above
        estimate = o["d_coef"] * above / below
        if d == d0:
            d = max(d, estimate)
        d_max = max(d_max, estimate)
        d = min(d_max, d * o["growth_rate"])
        for i, p in enumerate(params):
            p = p * (1 - o["weight_decay"] * rate) if o["decouple"] else p
            params[i] = p - rate * ms[i] / (np.sqrt(vs[i]) + d * o["eps"])
    return params, d


@MODES
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"growth_rate": 1.2, "d0": 1e-3},
        {"decouple": False, "weight_decay": 0.1, "d0": 1e-2, "use_bias_correction": True},
        {"weight_decay": 0.1, "safeguard_warmup": True, "lr": 0.5, "d0": 1e-2},
    ],
    ids=str,
)
def test_equals_the_authors_update(backend, options, compiled):
    with gl.using_backend(engine(backend)):
        found, optimizer, _ = run(lambda p: gl.optim.Prodigy(p, **options), compiled=compiled, grads=downhill)
        estimates = {s["d"].item() for s in optimizer.state.values()}
    expected, d = authors(gl.optim.Prodigy.prototype(**options).defaults, downhill, 20)
    assert_close(found, expected)
    assert len(estimates) == 1
    np.testing.assert_allclose(estimates.pop(), d, rtol=1e-10)


def test_nothing_happens_before_the_first_gradient(backend):
    """Not even the decay, as in the authors' code."""

    def late(step):
        return [g * (step > 1) for g in downhill(step)]

    options = {"weight_decay": 0.1, "d0": 0.1}
    with gl.using_backend(engine(backend)):
        still, optimizer, _ = run(lambda p: gl.optim.Prodigy(p, **options), 2, grads=late)
        assert {s["d"].item() for s in optimizer.state.values()} == {0.1}
        found, _, _ = run(lambda p: gl.optim.Prodigy(p, **options), 8, grads=late)
    assert_close(still, starts(), 0, 0)
    assert_close(found, authors(gl.optim.Prodigy.prototype(**options).defaults, late, 8)[0])


def test_a_changed_rate_does_not_compile_anew(backend):
    found, _, step = run(lambda p: gl.optim.Prodigy(p, d0=0.01), 4, True, gl.float32, each=halved)
    expected, _, _ = run(lambda p: gl.optim.Prodigy(p, d0=0.01), 4, False, gl.float32, each=halved)
    assert step.compiles == 1
    assert_close(found, expected, 1e-4, 1e-5)


@MODES
def test_state_dict_resumes(backend, compiled):
    check_resumes(lambda p: gl.optim.Prodigy(p, d0=0.01), compiled)


def test_maximize():
    plain, _, _ = run(lambda p: gl.optim.Prodigy(p, d0=0.01), 5)
    mirrored, _, _ = run(
        lambda p: gl.optim.Prodigy(p, d0=0.01, maximize=True), 5, grads=lambda k: [-g for g in gradients(k)]
    )
    assert_close(mirrored, plain, 0, 0)


def test_the_estimate_comes_up_from_almost_nothing(backend):
    """From 1e-6 to the distance that there is, in float32."""
    w = gl.tensor([3.0, -4.0], requires_grad=True)
    optimizer = gl.optim.Prodigy([w])
    for _ in range(150):
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()
    assert np.abs(numbers([w])[0]).max() < 0.1
    assert 0.1 < optimizer.state[w]["d"].item() < 10


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"d0": 0.0}, "Invalid d0 value: 0.0"),
        ({"eps": 0.0}, "Invalid epsilon value: 0.0"),
        ({"lr": -1.0}, "Invalid learning rate: -1.0"),
        ({"betas": (0.9, 1.0)}, "Invalid beta parameter at index 1: 1.0"),
        ({"beta3": 1.0}, "Invalid beta3 value: 1.0"),
        ({"growth_rate": 0.9}, "Invalid growth_rate value: 0.9"),
        ({"foreach": False}, "Prodigy updates all parameters together, and not one by one: leave foreach out"),
    ],
    ids=str,
)
def test_refused_options(options, text):
    with pytest.raises(ValueError) as error:
        gl.optim.Prodigy(tensors(starts()), **options)
    assert str(error.value) == text


def test_parameters_that_cannot_be_updated_together():
    params = tensors(starts())
    with pytest.raises(ValueError, match="Prodigy looks at all parameters together and takes one group"):
        gl.optim.Prodigy([{"params": params[:1]}, {"params": params[1:]}])
    mixed = [gl.ones(2, requires_grad=True), gl.ones(2, dtype=gl.float64, requires_grad=True)]
    optimizer = gl.optim.Prodigy(mixed)
    for p in mixed:
        p.sum().backward()
    with pytest.raises(ValueError, match="these differ in dtype, device or number of updates"):
        optimizer.step()
