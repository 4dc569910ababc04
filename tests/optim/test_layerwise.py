"""LAMB, LARS and NovoGrad against optax and against their definitions in NumPy, in float64."""

import functools

import numpy as np
import pytest

import gradloom as gl

from .reference import (
    ZERO,
    assert_close,
    check_resumes,
    engine,
    gradients,
    halved,
    run,
    run_optax,
    starts,
    stepper,
    tensors,
)

optax = pytest.importorskip("optax")
MODES = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])


def norm(x):
    return np.sqrt(np.sum(x * x))


OPTAX = [
    (gl.optim.LAMB, {"lr": 0.01, "weight_decay": 0}, lambda: optax.lamb(0.01)),
    (
        gl.optim.LAMB,
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1},
        lambda: optax.lamb(0.01, 0.8, 0.95, 1e-3, weight_decay=0.1),
    ),
    (gl.optim.LARS, {"lr": 2.0, "eps": 0}, lambda: optax.lars(2.0, momentum=0.0)),
    (
        gl.optim.LARS,
        {"lr": 0.5, "eps": 1e-3, "momentum": 0.9, "trust_coeff": 0.01},
        lambda: optax.lars(0.5, momentum=0.9, eps=1e-3, trust_coefficient=0.01),
    ),
    (
        gl.optim.LARS,
        {"lr": 0.5, "eps": 0, "momentum": 0.9, "nesterov": True},
        lambda: optax.lars(0.5, momentum=0.9, nesterov=True),
    ),
    (
        gl.optim.NovoGrad,
        {"lr": 0.01, "betas": (0.9, 0.25), "eps": 1e-6},
        lambda: optax.novograd(0.01),
    ),
    (
        gl.optim.NovoGrad,
        {"lr": 0.01, "weight_decay": 0.1},
        lambda: optax.novograd(0.01, 0.95, 0.98, 1e-8, weight_decay=0.1),
    ),
]


def late(step):
    """Without the gradient of 0 at the first step, where NovoGrad's definitions differ."""
    return gradients(step + 1)


@functools.cache
def expected_of(k):
    return run_optax(OPTAX[k][2](), grads=late if OPTAX[k][0] is gl.optim.NovoGrad else gradients)


@MODES
@pytest.mark.parametrize("k", range(len(OPTAX)), ids=[f"{o[0].__name__}-{k}" for k, o in enumerate(OPTAX)])
def test_equals_optax(backend, k, compiled):
    (of, options, _), expected = OPTAX[k], expected_of(k)
    grads = late if of is gl.optim.NovoGrad else gradients
    with gl.using_backend(engine(backend)):
        found, _, _ = run(lambda p: of(p, **options), compiled=compiled, grads=grads)
    assert_close(found, expected)


# ------------------------------------------------------------------------------------------- the definitions in NumPy


def lamb(o, steps):
    (b1, b2), params = o["betas"], starts()
    ms, vs = [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]
    for t in range(1, steps + 1):
        for i, g in enumerate(gradients(t - 1)):
            p = params[i]
            ms[i] = b1 * ms[i] + (1 - b1) * g
            vs[i] = b2 * vs[i] + (1 - b2) * g * g
            c1, c2 = (1 - b1**t, 1 - b2**t) if o["bias_correction"] else (1, 1)
            u = ms[i] / c1 / (np.sqrt(vs[i] / c2) + o["eps"]) + o["weight_decay"] * p
            ratio = norm(p) / norm(u) if norm(p) > 0 and norm(u) > 0 else 1.0
            ratio = min(ratio, 1.0) if o["trust_clip"] else ratio
            params[i] = p - o["lr"] * (ratio if o["adapt"] else 1.0) * u
    return params


def lars(o, steps):
    params, buffers = starts(), [None] * 5
    for t in range(steps):
        for i, g in enumerate(gradients(t)):
            p, decay = params[i], o["weight_decay"]
            ratio = 1.0
            if norm(p) > 0 and norm(g) > 0:
                ratio = o["trust_coeff"] * norm(p) / (norm(g) + decay * norm(p) + o["eps"])
            if o["trust_clip"]:
                ratio = min(ratio / o["lr"], 1.0)
            u = (g + decay * p) * (ratio if o["adapt"] else 1.0)
            if o["momentum"]:
                b = buffers[i]
                b = u if b is None else o["momentum"] * b + (1 - o["dampening"]) * u
                buffers[i], u = b, u + o["momentum"] * b if o["nesterov"] else b
            params[i] = p - o["lr"] * u
    return params


def novograd(o, steps):
    (b1, b2), params = o["betas"], starts()
    ms, vs, tops = [0.0] * 5, [0.0] * 5, [0.0] * 5
    for t in range(steps):
        for i, g in enumerate(gradients(t)):
            square = np.sum(g * g)
            vs[i] = square if vs[i] == 0 else b2 * vs[i] + (1 - b2) * square
            tops[i] = max(tops[i], vs[i])
            u = g / (np.sqrt(tops[i] if o["amsgrad"] else vs[i]) + o["eps"]) + o["weight_decay"] * params[i]
            ms[i] = b1 * ms[i] + (1 - b1 if o["grad_averaging"] else 1) * u
            params[i] = params[i] - o["lr"] * ms[i]
    return params


DEFINED = [
    (gl.optim.LAMB, lamb, {}),
    (gl.optim.LAMB, lamb, {"lr": 0.1, "bias_correction": False, "trust_clip": True}),
    (gl.optim.LAMB, lamb, {"lr": 0.1, "adapt": False}),
    (gl.optim.LARS, lars, {"weight_decay": 0.1}),
    (gl.optim.LARS, lars, {"lr": 0.3, "weight_decay": 0.1, "momentum": 0.9, "dampening": 0.4}),
    (gl.optim.LARS, lars, {"lr": 0.3, "trust_clip": True, "trust_coeff": 0.5, "momentum": 0.9, "nesterov": True}),
    (gl.optim.LARS, lars, {"lr": 0.01, "adapt": False, "momentum": 0.9, "weight_decay": 0.1}),
    (gl.optim.NovoGrad, novograd, {}),
    (gl.optim.NovoGrad, novograd, {"lr": 0.1, "amsgrad": True, "grad_averaging": True, "weight_decay": 0.1}),
]


@MODES
@pytest.mark.parametrize(
    ("of", "definition", "options"), DEFINED, ids=[f"{o[0].__name__}-{k}" for k, o in enumerate(DEFINED)]
)
def test_equals_the_definition(backend, of, definition, options, compiled):
    with gl.using_backend(engine(backend)):
        found, _, _ = run(lambda p: of(p, **options), compiled=compiled)
    assert_close(found, definition(of.prototype(**options).defaults, 20))


def test_novograd_differs_from_optax_after_a_first_gradient_of_zero():
    """There v begins anew here, as in NVIDIA's code; in optax it is (1 - beta2) |g|^2 then."""
    expected = run_optax(optax.novograd(0.01, 0.95, 0.98, 1e-8))
    found, _, _ = run(lambda p: gl.optim.NovoGrad(p, lr=0.01))
    assert_close(found[:1] + found[2:], expected[:1] + expected[2:])
    assert np.abs(found[1] - expected[1]).max() > 0.01


# ------------------------------------------------------------------------------------------------------ the bound classes

ALL = [
    (gl.optim.LAMB, {"lr": 0.1}),
    (gl.optim.LARS, {"lr": 0.1, "momentum": 0.9}),
    (gl.optim.NovoGrad, {"lr": 0.1, "amsgrad": True}),
]
CLASSES = pytest.mark.parametrize(("of", "options"), ALL, ids=lambda v: getattr(v, "__name__", ""))


@CLASSES
def test_a_changed_rate_does_not_compile_anew(backend, of, options):
    found, _, step = run(lambda p: of(p, **options), 4, True, gl.float32, each=halved)
    expected, _, _ = run(lambda p: of(p, **options), 4, False, gl.float32, each=halved)
    assert step.compiles == 1
    assert_close(found, expected, 1e-5, 1e-6)


@MODES
@CLASSES
def test_state_dict_resumes(backend, of, options, compiled):
    check_resumes(lambda p: of(p, **options), compiled)


@CLASSES
def test_maximize_and_foreach(of, options):
    plain, _, _ = run(lambda p: of(p, **options), 5)
    mirrored, _, _ = run(lambda p: of(p, **options, maximize=True), 5, grads=lambda k: [-g for g in gradients(k)])
    alone, _, _ = run(lambda p: of(p, **options, foreach=False), 5)
    assert_close(mirrored, plain, 0, 0)
    assert_close(alone, plain, 0, 0)


@CLASSES
def test_gradients_and_parameters_of_zero_stay_finite(backend, of, options):
    options = {**options, "weight_decay": 0}
    still, _, _ = run(lambda p: of(p, **options), 3, grads=lambda k: [0 * g for g in gradients(k)], dtype=gl.float32)
    for a, b in zip(still, starts(), strict=True):
        np.testing.assert_array_equal(a, b.astype("float32"))
    moved, _, _ = run(lambda p: of(p, **options), 3, dtype=gl.float32)
    assert all(np.isfinite(a).all() for a in moved)
    assert moved[ZERO].any()


def test_groups_that_do_not_adapt():
    """What the biases and norms of a model are given."""
    params = tensors(starts())
    optimizer = gl.optim.LAMB(
        [{"params": params[:1]}, {"params": params[1:], "adapt": False, "weight_decay": 0}], lr=0.1, weight_decay=0.1
    )
    step = stepper(optimizer, params, False)
    for k in range(5):
        step(*(gl.tensor(g, dtype=gl.float64) for g in gradients(k)))
    o = gl.optim.LAMB.prototype(lr=0.1, weight_decay=0.1).defaults
    expected = lamb(o, 5)[:1] + lamb(o | {"adapt": False, "weight_decay": 0}, 5)[1:]
    assert_close([p.detach().numpy() for p in params], expected)


@pytest.mark.parametrize("dtype", [gl.float16, gl.bfloat16], ids=str)
def test_norms_of_16_bits_do_not_overflow(dtype):
    with gl.using_backend("torch"):
        w = gl.full((1000,), 100.0, dtype=dtype, requires_grad=True)
        optimizer = gl.optim.LAMB([w], lr=0.1, weight_decay=0)
        w.grad = gl.full((1000,), 10.0, dtype=dtype)
        optimizer.step()
        assert w.dtype is dtype
        assert np.allclose(w.detach().float().numpy(), 90, rtol=0.01)


@pytest.mark.parametrize(
    ("of", "options", "text"),
    [
        (gl.optim.LAMB, {"lr": -1.0}, "Invalid learning rate: -1.0"),
        (gl.optim.LAMB, {"betas": (0.9, 1.0)}, "Invalid beta parameter at index 1: 1.0"),
        (gl.optim.LAMB, {"eps": -1.0}, "Invalid epsilon value: -1.0"),
        (gl.optim.LARS, {"weight_decay": -1.0}, "Invalid weight_decay value: -1.0"),
        (gl.optim.LARS, {"momentum": -1.0}, "Invalid momentum value: -1.0"),
        (gl.optim.LARS, {"trust_coeff": 0.0}, "Invalid trust_coeff value: 0.0"),
        (gl.optim.LARS, {"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
        (gl.optim.NovoGrad, {"betas": (-0.1, 0.9)}, "Invalid beta parameter at index 0: -0.1"),
    ],
    ids=str,
)
def test_refused_options(of, options, text):
    with pytest.raises(ValueError) as error:
        of(tensors(starts()), **options)
    assert str(error.value) == text


def test_a_fused_kernel_that_is_not_there():
    with pytest.raises(gl.errors.OptionError, match="LAMB: fused=True, and numpy has no fused kernel of it"):
        gl.optim.LAMB(tensors(starts()), fused=True)
