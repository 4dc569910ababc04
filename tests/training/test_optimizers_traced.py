"""Functional optimizers under gradloom.jit, jax.jit, jax.grad, mx.compile and autograd; and their state in files."""

import pickle

import numpy as np
import pytest

import gradloom as gl
from gradloom.training import optimizers

from .functional_samples import CASES, SAMPLES, STEPS, as_tensors, close, host, made, trained, values

# ---------------------------------------------------------------------------------------------------------- under transforms


@pytest.mark.parametrize("name", SAMPLES)
def test_under_gradloom_jit(backend, name):
    if backend != "torch" and name not in ("Adam", "SGD", "NAdam", "SGDScheduleFree", "Adafactor", "Prodigy"):
        return
    optimizer, plain = made(name), made(name)

    @gl.jit
    def update(p, g, s):
        return optimizer.update(p, g, s)

    p, q = (as_tensors(values(0, name)) for _ in range(2))
    s, t = optimizer.init(p), plain.init(q)
    for k in range(STEPS):
        optimizer.learning_rate = plain.learning_rate = 0.01 * (k + 1)
        p, s = update(p, as_tensors(values(k + 1, name)), s)
        q, t = plain.update(q, as_tensors(values(k + 1, name)), t)
    assert update.compiles == 1
    engine = gl.get_backend(backend)
    close(host(engine, p), host(engine, q))
    for n in p:
        assert int(s[n]["step"]) == STEPS
        close(host(engine, s[n]), host(engine, t[n]), rtol=1e-4)


@pytest.mark.parametrize("name", ["SGD", "Adam", "Lion"])
def test_no_argument_is_changed_in_a_compiled_function(backend, name):
    """Kernels and plans write in place; neither arguments nor what the function only reads may show it."""
    optimizer = made(name, -1)
    p, g = as_tensors(values(0)), as_tensors(values(1))
    p, s = optimizer.update(p, g, optimizer.init(p))
    before = [{n: x.detach().numpy().copy() for n, x in tree.items()} for tree in (p, g, *s.values())]
    expected, _ = optimizer.update(p, g, s)
    given = gl.jit(lambda p, g, s: optimizer.update(p, g, s))
    read = gl.jit(lambda g: optimizer.update(p, g, s)[0])
    engine = gl.get_backend(backend)
    for _ in range(2):
        close(host(engine, given(p, g, s)[0]), host(engine, expected))
        close(host(engine, read(g)), host(engine, expected))
        for tree, old in zip((p, g, *s.values()), before, strict=True):
            for n, x in tree.items():
                np.testing.assert_array_equal(x.detach().numpy(), old[n], err_msg=n)


def test_flags_that_change_are_compiled_anew(backend):
    optimizer = optimizers.Adam(0.1)
    p = as_tensors(values(0))
    s = optimizer.init(p)
    update = gl.jit(lambda p, g, s: optimizer.update(p, g, s))
    changes = [
        ({}, 1),
        ({"lr": 0.2}, 1),
        ({"weight_decay": 0.1}, 2),
        ({"weight_decay": 0.2}, 2),
        ({"maximize": True}, 3),
        ({"betas": (0.5, 0.9)}, 4),
    ]
    for change, compiles in changes:
        optimizer.param_groups[0].update(change)
        found, _ = update(p, as_tensors(values(1)), s)
        assert update.compiles == compiles, change
        expected, _ = optimizer.update(p, as_tensors(values(1)), s)
        close(host(gl.get_backend(backend), found), host(gl.get_backend(backend), expected))


@pytest.mark.parametrize("name", SAMPLES)
def test_under_jax_jit(name):
    jax = pytest.importorskip("jax")
    with gl.using_backend("jax"):
        engine, optimizer = gl.get_backend("jax"), made(name)
        update = jax.jit(optimizer.update)
        params, state = trained(engine, optimizer, update=update, name=name)
        expected, expected_state = trained(engine, optimizer, name=name)
        assert update._cache_size() == 1  # arrays of the first state are like those of the later ones
        close(host(engine, params), host(engine, expected), rtol=1e-4, atol=1e-5)
        # Outside again the counters can be read.
        more = trained(engine, optimizer, name=name, steps=2, start=STEPS, found=(params, state))[0]
        again = trained(engine, optimizer, name=name, steps=2, start=STEPS, found=(expected, expected_state))[0]
        close(host(engine, more), host(engine, again), rtol=1e-4, atol=1e-5)
        assert jax.tree.structure(state) == jax.tree.structure(expected_state)


@pytest.mark.parametrize("name", SAMPLES)
def test_under_mlx_compile(name):
    mx = pytest.importorskip("mlx.core")
    with gl.using_backend("mlx"):
        engine, optimizer = gl.get_backend("mlx"), made(name)
        found = trained(engine, optimizer, update=mx.compile(optimizer.update), name=name)[0]
        close(host(engine, found), host(engine, trained(engine, optimizer, name=name)[0]), rtol=1e-4, atol=1e-5)


def test_gradients_through_an_update():
    """One step of gradient descent inside a loss: jax.grad goes through `update`."""
    jax = pytest.importorskip("jax")
    with gl.using_backend("jax"):
        w = jax.numpy.asarray([1.0, 2.0])
        for optimizer, factor in ((optimizers.SGD(0.25), 0.5), (optimizers.SGD(0.25, momentum=0.9), 0.5)):

            def after(w, optimizer=optimizer):
                params = {"w": w}
                new, _ = optimizer.update(params, {"w": 2 * w}, optimizer.init(params))
                return (new["w"] ** 2).sum()

            np.testing.assert_allclose(jax.grad(after)(w), 2 * factor**2 * np.asarray(w), rtol=1e-5)
            np.testing.assert_allclose(jax.jit(jax.grad(after))(w), 2 * factor**2 * np.asarray(w), rtol=1e-5)


@pytest.mark.parametrize("name", ["SGD", "Adam", "Lion", "Adafactor"])
def test_leaves_of_pytorch_stay_leaves(name):
    torch = pytest.importorskip("torch")
    with gl.using_backend("torch"):
        optimizer = made(name)
        params = {n: torch.tensor(x, requires_grad=True) for n, x in values(0).items()}
        plain = {n: torch.tensor(x) for n, x in values(0).items()}
        state, plain_state = optimizer.init(params), optimizer.init(plain)
        for _ in range(3):
            loss = sum((p**2).sum() for p in params.values())
            gradients = dict(zip(params, torch.autograd.grad(loss, list(params.values())), strict=True))
            params, state = optimizer.update(params, gradients, state)
            with torch.no_grad():
                plain, plain_state = optimizer.update(plain, {n: 2 * p for n, p in plain.items()}, plain_state)
            assert all(p.requires_grad and p.is_leaf for p in params.values())
            assert not any(x.requires_grad for slots in state.values() for x in slots.values())
            assert not any(p.requires_grad for p in plain.values())
        for n, p in params.items():
            torch.testing.assert_close(p.detach(), plain[n])


def test_counters_in_half_precision():
    """A count of 300 is none of bfloat16; the counters and what is computed of them are float32."""
    jax = pytest.importorskip("jax")
    with gl.using_backend("jax"):
        optimizer = optimizers.Adam(0.1)
        params = {"w": jax.numpy.ones(3, "bfloat16")}
        state = optimizer.init(params)
        state["w"]["step"] = jax.numpy.asarray(2900, "int32")
        gradients = {"w": jax.numpy.ones(3, "bfloat16")}
        eager, _ = optimizer.update(params, gradients, state)
        found, after = jax.jit(optimizer.update)(params, gradients, state)
        assert found["w"].dtype == "bfloat16" and int(after["w"]["step"]) == 2901
        np.testing.assert_allclose(np.float32(found["w"]), np.float32(eager["w"]), rtol=1e-2)


# ------------------------------------------------------------------------------------------------------------------- saving


@pytest.mark.parametrize(("name", "i"), CASES)
def test_a_saved_state_goes_on(backend, name, i):
    """As the guide saves and loads checkpoints: NumPy arrays of all slots, pickled, and arrays of the backend again."""
    engine = gl.get_backend(backend)
    params, state = trained(engine, made(name, i), name=name)
    saved = pickle.dumps(
        (host(engine, params), {n: {k: engine.to_numpy(v) for k, v in slots.items()} for n, slots in state.items()})
    )
    numpy_params, numpy_state = pickle.loads(saved)
    loaded = {n: engine.array(x) for n, x in numpy_params.items()}
    loaded_state = {n: {k: engine.array(v) for k, v in slots.items()} for n, slots in numpy_state.items()}
    assert {type(v) for slots in loaded_state.values() for v in slots.values()} <= set(engine.array_types)
    on, _ = trained(engine, made(name, i), name=name, start=STEPS, found=(params, state))
    resumed, resumed_state = trained(engine, made(name, i), name=name, start=STEPS, found=(loaded, loaded_state))
    close(host(engine, resumed), host(engine, on), rtol=0, atol=0)
    assert all(int(slots["step"]) == 2 * STEPS for slots in resumed_state.values())
