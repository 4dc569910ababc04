"""`fused` and `foreach`: what they select, on which engines, and what is refused."""

import numpy as np
import pytest

import gradloom as gl
from gradloom.backends.registry import get_backend
from gradloom.errors import OptionError

torch = pytest.importorskip("torch")

OPTIMIZERS = {
    "SGD": (gl.optim.SGD, "_fused_sgd_"),
    "Adam": (gl.optim.Adam, "_fused_adam_"),
    "AdamW": (gl.optim.AdamW, "_fused_adamw_"),
}


def parameters():
    rng = np.random.default_rng(0)
    return [gl.tensor(rng.normal(size=s).astype("float32"), requires_grad=True) for s in ((3, 4), (4,), ())]


def make_step(params, optimizer, compiled):
    def step(x):
        optimizer.zero_grad()
        loss = sum((p * p * x).sum() for p in params)
        loss.backward()
        optimizer.step()
        return loss

    return gl.jit(step) if compiled else step


def train(make, compiled=False, steps=3, **options):
    params = parameters()
    optimizer = make(params, lr=0.1, **options)
    step = make_step(params, optimizer, compiled)
    for k in range(steps):
        step(gl.tensor(1.0 + k))
    return [p.detach().numpy().copy() for p in params], optimizer, step


@pytest.fixture
def kernels(monkeypatch):
    """Names of PyTorch's fused kernels that were called."""
    called = []
    for _, name in OPTIMIZERS.values():
        original = getattr(torch, name)

        def spy(*args, original=original, name=name, **kwargs):
            called.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(torch, name, spy)
    return called


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(
    ("options", "runs"),
    [
        ({}, True),
        ({"fused": True}, True),
        ({"fused": False}, False),
        ({"foreach": True}, False),
        ({"foreach": False}, False),
        ({"foreach": False, "fused": True}, True),
    ],
    ids=str,
)
def test_the_kernel_runs_only_where_it_may(kernels, name, options, runs, compiled):
    make, kernel = OPTIMIZERS[name]
    with gl.using_backend("torch"):
        values, _, _ = train(make, compiled, **options)
        assert set(kernels) == ({kernel} if runs else set())
        expected, _, _ = train(make, **({} if not runs else {"fused": False}))
    for a, b in zip(values, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_options_that_change_later(kernels):
    with gl.using_backend("torch"):
        for compiled in (False, True):
            params = parameters()
            optimizer = gl.optim.Adam(params, lr=0.1)
            step = make_step(params, optimizer, compiled)
            for fused, count in ((None, 1), (False, 0), (True, 1), (None, 1)):
                kernels.clear()
                optimizer.param_groups[0]["fused"] = fused
                step(gl.tensor(1.0))
                assert len(kernels) == count
        assert step.compiles == 2


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fused_demands_a_kernel(backend, name, monkeypatch):
    monkeypatch.setenv("GRADLOOM_FAST", "0")  # NumPy's kernels: see test_fast.py
    make, _ = OPTIMIZERS[name]
    if make.rule.has_kernel(get_backend(backend)):
        make(parameters(), lr=0.1, fused=True)
        return
    with pytest.raises(OptionError, match=f"{backend} has no fused kernel of it for float32"):
        make(parameters(), lr=0.1, fused=True)
    for compiled in (False, True):
        params = parameters()
        optimizer = make(params, lr=0.1)
        step = make_step(params, optimizer, compiled)
        step(gl.tensor(1.0))
        optimizer.param_groups[0]["fused"] = True
        with pytest.raises(OptionError, match=f"{backend} has no fused kernel"):
            step(gl.tensor(1.0))


def test_the_kernel_is_demanded_also_where_old_values_are_read(kernels):
    """The kernel writes in place, so it is given copies then."""
    results = []
    with gl.using_backend("torch"):
        for compiled in (False, True):
            params = parameters()
            optimizer = gl.optim.Adam(params, lr=0.1, fused=True)

            def step(x, params=params, optimizer=optimizer):
                optimizer.zero_grad()
                old = params[0] * 1
                same = params[1].detach().clone()
                sum((p * p * x).sum() for p in params).backward()
                optimizer.step()
                return (params[0] - old).sum(), (params[1] - same).sum()

            f = gl.jit(step) if compiled else step
            kernels.clear()
            results.append([[t.item() for t in f(gl.tensor(1.0))] for _ in range(3)])
            assert len(kernels) == 3
    np.testing.assert_allclose(*results, rtol=1e-5)


def test_fused_and_foreach_exclude_each_other():
    with gl.using_backend("torch"), pytest.raises(RuntimeError, match="cannot be `True` together"):
        gl.optim.Adam(parameters(), fused=True, foreach=True)


def test_foreach_false_updates_one_parameter_at_a_time(backend):
    values = {}
    for foreach in (None, True, False):
        values[foreach], optimizer, _ = train(gl.optim.Adam, foreach=foreach)
        (blocks,) = optimizer._blocks.values()
        assert len(blocks) == (3 if foreach is False else 1)
    for foreach in (True, False):
        for a, b in zip(values[None], values[foreach], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_foreach_that_changes_later(backend):
    results = []
    for compiled in (False, True):
        params = parameters()
        optimizer = gl.optim.Adam(params, lr=0.1)
        step = make_step(params, optimizer, compiled)
        for foreach in (None, False, True):
            optimizer.param_groups[0]["foreach"] = foreach
            step(gl.tensor(1.0))
        results.append([p.detach().numpy().copy() for p in params])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
