"""Functional optimizers against optax: 20 updates in float64 on JAX; where a definition differs, the difference is named."""

import numpy as np
import pytest

import gradloom as gl
from gradloom.training import optimizers as o

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
contrib = pytest.importorskip("optax.contrib")
jnp = jax.numpy

STEPS = 20
PARAMS = {n: np.random.RandomState(i).randn(*s) for i, (n, s) in enumerate({"weight": (3, 4), "bias": (5,)}.items())}


def gradient(step, w, name):
    """Of a convex function, with noise."""
    return w + 0.5 * np.random.RandomState(100 + step).randn(*w.shape) + (name == "bias")


def ours(optimizer, steps=STEPS, update=None, params=PARAMS):
    params = {n: jnp.asarray(x) for n, x in params.items()}
    state = optimizer.init(params)
    for k in range(steps):
        params, state = (update or optimizer.update)(params, {n: gradient(k, p, n) for n, p in params.items()}, state)
    return params, state


def theirs(transform, steps=STEPS, params=PARAMS, **more):
    params = {n: jnp.asarray(x) for n, x in params.items()}
    state = transform.init(params)
    update = jax.jit(transform.update)
    for k in range(steps):
        gradients = {n: gradient(k, p, n) for n, p in params.items()}
        updates, state = update(gradients, state, params, **more)
        params = optax.apply_updates(params, updates)
    return params, state


def maximum_off(a, b):
    return max(float(jnp.abs(a[n] - b[n]).max()) for n in a)


@pytest.fixture(autouse=True)
def float64():
    with gl.using_backend(gl.JaxBackend(dtype="float64")), jax.enable_x64(True):
        yield


#: name -> functions that give ours and optax's
SAME = {
    "sgd": (lambda: o.SGD(0.1), lambda: optax.sgd(0.1)),
    "sgd momentum": (lambda: o.SGD(0.1, 0.9), lambda: optax.sgd(0.1, 0.9)),
    "sgd nesterov": (lambda: o.SGD(0.1, 0.9, nesterov=True), lambda: optax.sgd(0.1, 0.9, nesterov=True)),
    "sgd weight_decay": (
        lambda: o.SGD(0.1, weight_decay=0.2),
        lambda: optax.chain(optax.add_decayed_weights(0.2), optax.sgd(0.1)),
    ),
    "adam": (lambda: o.Adam(0.1, 0.8, 0.95, 1e-3), lambda: optax.adam(0.1, 0.8, 0.95, 1e-3)),
    "adam weight_decay": (
        lambda: o.Adam(0.1, weight_decay=0.2),
        lambda: optax.chain(optax.add_decayed_weights(0.2), optax.adam(0.1)),
    ),
    "adamw": (lambda: o.AdamW(0.1, weight_decay=0.2), lambda: optax.adamw(0.1, weight_decay=0.2)),
    "adamax": (lambda: o.Adamax(0.1, epsilon=1e-3), lambda: optax.adamax(0.1, eps=1e-3)),
    "adadelta": (lambda: o.Adadelta(1.0, 0.8, 1e-4), lambda: optax.adadelta(1.0, 0.8, 1e-4)),
    "adagrad": (
        lambda: o.AdaGrad(0.1, 0.0, initial_accumulator_value=0.3),
        lambda: optax.adagrad(0.1, initial_accumulator_value=0.3, eps=0.0),
    ),
    "rmsprop": (lambda: o.RMSProp(0.01, 0.8, 1e-3), lambda: optax.rmsprop(0.01, 0.8, 1e-3, eps_in_sqrt=False)),
    "rmsprop centered": (
        lambda: o.RMSProp(0.01, 0.8, 1e-3, centered=True),
        lambda: optax.rmsprop(0.01, 0.8, 1e-3, eps_in_sqrt=False, centered=True),
    ),
    "rmsprop momentum": (
        lambda: o.RMSProp(0.01, 0.8, 1e-3, 0.9),
        lambda: optax.rmsprop(0.01, 0.8, 1e-3, eps_in_sqrt=False, momentum=0.9),
    ),
    "lion": (lambda: o.Lion(0.01, weight_decay=0.2), lambda: optax.lion(0.01, weight_decay=0.2)),
    "adabelief": (
        lambda: o.AdaBelief(0.1, epsilon=1e-8, rectify=False),
        lambda: optax.adabelief(0.1, eps=1e-8, eps_root=1e-8),
    ),
    "yogi": (lambda: o.Yogi(0.1), lambda: optax.yogi(0.1)),
    # Where beta2 = 0.5 the two readings of the paper (beta2 or 1 - beta2 in the look ahead) are one.
    "adan": (
        lambda: o.Adan(0.1, 0.9, 0.5, 0.95, no_prox=True, weight_decay=0.2),
        lambda: optax.adan(0.1, 0.9, 0.5, 0.95, eps_root=0.0, weight_decay=0.2),
    ),
    "ademamix": (lambda: o.AdEMAMix(0.01, alpha=5.0), lambda: contrib.ademamix(0.01, alpha=5.0)),
    "lamb": (lambda: o.LAMB(0.1, weight_decay=0.2), lambda: optax.lamb(0.1, weight_decay=0.2)),
    "lars": (lambda: o.LARS(0.5, 0.9, eps=0.0), lambda: optax.lars(0.5, momentum=0.9)),
    "novograd": (
        lambda: o.NovoGrad(0.1, 0.9, 0.9, weight_decay=0.2),
        lambda: optax.novograd(0.1, 0.9, 0.9, eps=1e-8, weight_decay=0.2),
    ),
    "prodigy": (lambda: o.Prodigy(use_bias_correction=True), lambda: contrib.prodigy()),
    "schedule_free_sgd": (lambda: o.SGDScheduleFree(0.5), lambda: contrib.schedule_free_sgd(0.5)),
    "schedule_free_adamw": (lambda: o.AdamWScheduleFree(0.05), lambda: contrib.schedule_free_adamw(0.05)),
    "adopt": (lambda: o.ADOPT(0.1), lambda: contrib.adopt(0.1)),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", SAME)
def test_equals_optax(name, compiled):
    make, reference = SAME[name]
    optimizer = make()
    found, _ = ours(optimizer, update=jax.jit(optimizer.update) if compiled else None)
    expected, _ = theirs(reference())
    for n, p in found.items():
        assert p.dtype == "float64"
        np.testing.assert_allclose(p, expected[n], rtol=1e-10, atol=1e-10)


# ------------------------------------------------------------------------------------------------- differences in definition


def test_epsilon_is_added_to_the_root():
    """sqrt(v) + eps, as in PyTorch and the guides; optax's AdaGrad and RMSProp (by default) have sqrt(v + eps)."""
    for make, reference in ((o.AdaGrad, optax.adagrad), (o.RMSProp, optax.rmsprop)):
        assert maximum_off(ours(make(0.1, epsilon=1e-2))[0], theirs(reference(0.1, eps=1e-2))[0]) > 1e-6
    for decay, make in ((1.0, o.AdaGrad), (0.9, o.RMSProp)):
        params, v = {n: x.copy() for n, x in PARAMS.items()}, dict.fromkeys(PARAMS, 0.0)
        for k in range(STEPS):
            for n, p in params.items():
                g = gradient(k, p, n)
                v[n] = decay * v[n] + (1 if decay == 1 else 0.1) * g * g
                params[n] = p - 0.1 * g / (np.sqrt(v[n]) + 1e-2)
        assert maximum_off(ours(make(0.1, epsilon=1e-2))[0], params) < 1e-12


def test_amsgrad_takes_the_largest_before_the_correction():
    """The largest v, as in PyTorch; optax has the largest v / c2, which falls less in the first steps."""
    assert maximum_off(ours(o.Adam(0.1, beta2=0.5, amsgrad=True))[0], theirs(optax.amsgrad(0.1, b2=0.5))[0]) > 1e-3


def test_nadam_has_a_schedule_of_its_momentum():
    """Dozat's, as in PyTorch; optax's `nadam` is Adam with Nesterov's momentum at a fixed beta1."""
    assert maximum_off(ours(o.NAdam(0.01))[0], theirs(optax.nadam(0.01))[0]) > 1e-4


def test_radam_adds_epsilon_before_the_correction():
    """To sqrt(v), as in PyTorch; optax adds it to sqrt(v / c2). Without it they are one, from the first rectified step on."""
    assert maximum_off(ours(o.RAdam(0.01, epsilon=0.0))[0], theirs(optax.radam(0.01, eps=0.0))[0]) < 1e-10
    assert maximum_off(ours(o.RAdam(0.01, epsilon=1e-2))[0], theirs(optax.radam(0.01, eps=1e-2))[0]) > 1e-6


def test_rprop_steps_at_once():
    """optax gives out the step that it had kept at the update before: its first update moves nothing."""
    for steps, moved in ((1, 0.0), (2, 0.01)):
        found, expected = ours(o.Rprop(0.01), steps)[0], theirs(optax.rprop(0.01), steps)[0]
        assert maximum_off(expected, {n: jnp.asarray(x) for n, x in PARAMS.items()}) == pytest.approx(moved)
        if steps == 1:
            assert maximum_off(found, expected) == pytest.approx(0.01)


def test_sophia():
    """Without momentum: optax corrects its running mean for the first steps. And an update there uses the estimate before its own."""
    h = {n: jnp.asarray(np.abs(np.random.RandomState(7).randn(*x.shape)) + 0.5) for n, x in PARAMS.items()}
    fixed = optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), lambda g, state, params=None, **more: (h, state)
    )
    transform = contrib.sophia(
        0.01, 0.0, 0.0, 1e-15, weight_decay=0.2, gamma=0.5, update_interval=1, hessian_diagonal_fn=fixed
    )
    expected, _ = theirs(transform)
    optimizer = o.SophiaG(0.01, 0.0, 0.0, rho=0.25, bs=2, weight_decay=0.2)
    params, state = ours(optimizer, 1)
    state = optimizer.update_hessian(h, state)
    for k in range(1, STEPS):
        params, state = optimizer.update(params, {n: gradient(k, p, n) for n, p in params.items()}, state)
    assert maximum_off(params, expected) < 1e-10


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
def test_muon(shape):
    """optax's matrices are inputs by outputs, these outputs by inputs; and optax corrects Nesterov's mean for the first steps."""
    matrix = np.random.RandomState(0).randn(*shape)
    found = ours(o.Muon(0.1, weight_decay=0.0, nesterov=False), params={"weight": matrix})[0]["weight"]

    class Turned:  # the same gradients, of the transposed matrix
        init = contrib.muon(0.1, eps=1e-12, nesterov=False).init

        @staticmethod
        def update(gradients, state, params):
            return contrib.muon(0.1, eps=1e-12, nesterov=False).update(gradients, state, params)

    params = {"weight": jnp.asarray(matrix.T)}
    state = Turned.init(params)
    for k in range(STEPS):
        gradients = {"weight": gradient(k, params["weight"].T, "weight").T}
        updates, state = Turned.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(found, params["weight"].T, rtol=1e-9, atol=1e-9)


def test_every_optimizer_of_optax_that_is_here_is_compared():
    here = {n.lower() for n in o.__all__ if hasattr(getattr(o, n), "of")}
    names = {n for n in (*dir(optax), *dir(contrib)) if n[0] != "_" and n.replace("_", "") in here}
    # optax's Adafactor clips and scales otherwise and factors axes of 128 and more only; ours is compared with PyTorch's.
    known = {name.split()[0] for name in SAME} | {"nadam", "radam", "rprop", "muon", "adafactor"}
    assert names <= known, names - known


@pytest.mark.parametrize("name", ["schedule_free_sgd", "schedule_free_adamw"])
def test_the_average_of_schedule_free_is_optaxs(name):
    make, reference = SAME[name]
    optimizer = make()
    params, state = ours(optimizer)
    expected, their_state = theirs(reference())
    found = optimizer.evaluation_parameters(params, state)
    for n, x in contrib.schedule_free_eval_params(their_state, expected).items():
        np.testing.assert_allclose(found[n], x, rtol=1e-9, atol=1e-10)
