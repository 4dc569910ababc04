"""Blocks of an optimizer: what is updated together, dtypes, devices, and which changes a compiled step survives."""

import copy
import subprocess
import sys

import numpy as np
import pytest

import gradloom as gl
from gradloom import nn

torch = pytest.importorskip("torch")

OPTIMIZERS = {
    "sgd": lambda p: gl.optim.SGD(p, lr=0.1),
    "momentum": lambda p: gl.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: gl.optim.Adam(p, lr=0.1),
    "amsgrad": lambda p: gl.optim.Adam(p, lr=0.1, amsgrad=True),
}


def build(name, compiled, unused=False):
    gl.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    params = [*model.parameters(), *([gl.ones(2, requires_grad=True)] if unused else [])]
    optimizer = OPTIMIZERS[name](params)

    def step(x):
        optimizer.zero_grad()
        loss = (model(x) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    return model, optimizer, gl.jit(step) if compiled else step


def values(model):
    return [p.detach().numpy().copy() for p in model.parameters()]


def assert_same(a, b, tolerance=1e-5):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def reload_optimizer(model, optimizer, saved):
    optimizer.load_state_dict(saved[1])


def reload_model(model, optimizer, saved):
    model.load_state_dict(saved[0])


def reload_both(model, optimizer, saved):
    reload_model(model, optimizer, saved)
    reload_optimizer(model, optimizer, saved)


def reload_with_another_rate(model, optimizer, saved):
    reload_both(model, optimizer, saved)
    optimizer.param_groups[0]["lr"] = 0.03


@pytest.mark.parametrize("reload", [reload_optimizer, reload_model, reload_both, reload_with_another_rate])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_loading_does_not_compile_again(backend, name, reload):
    x, results = gl.ones(2, 3), []
    for compiled in (False, True):
        model, optimizer, step = build(name, compiled)
        fresh = copy.deepcopy((model.state_dict(), optimizer.state_dict()))  # before any update: an empty state
        step(x), step(x)
        saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        losses = []
        for state in (saved, saved, fresh, saved):
            reload(model, optimizer, state)
            losses += [step(x).item() for _ in range(2)]
        results.append([np.array(losses), *values(model)])
    assert_same(*results)
    assert step.compiles == 1


def test_a_state_of_another_structure_compiles_once(backend):
    x, results = gl.ones(2, 3), []
    for compiled in (False, True):
        model, optimizer, step = build("adam", compiled)
        step(x), step(x)
        saved = optimizer.state_dict()
        other = copy.deepcopy(saved)
        other["state"][1]["step"] = 7.0  # from now on a block of its own
        for state in (other, saved, other):
            optimizer.load_state_dict(state)
            step(x)
        results.append(values(model))
        assert [s["step"] for s in optimizer.state.values()] == [3, 8, 3, 3]
    assert_same(*results)
    assert step.compiles == 2


def test_a_parameter_without_a_gradient(backend):
    """What the trace finds to have none is taken out of the block, and the function compiled once."""
    x, results = gl.ones(2, 3), []
    for compiled in (False, True):
        model, optimizer, step = build("adam", compiled, unused=True)
        for _ in range(3):
            step(x)
        optimizer.load_state_dict(optimizer.state_dict())
        step(x)
        results.append(values(model))
        assert [s["step"] for s in optimizer.state.values()] == [4] * 4
    assert_same(*results)
    assert step.compiles == 1
    if backend == "numpy":
        assert all(b.flat for blocks in optimizer._blocks.values() for b in blocks)


def test_losses_of_different_parameters_in_one_call(backend):
    results = []
    for compiled in (False, True):
        a, b = gl.ones(2, requires_grad=True), gl.ones(2, requires_grad=True)
        optimizer = gl.optim.Adam([a, b], lr=0.1)

        def step(x, a=a, b=b, optimizer=optimizer):
            optimizer.zero_grad()
            (a * x).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            ((a * a + b * b * b) * x).sum().backward()
            optimizer.step()
            return a.sum()

        f = gl.jit(step) if compiled else step
        for _ in range(3):
            f(gl.tensor([1.0, 2.0]))
        results.append([a.detach().numpy(), b.detach().numpy()])
        assert [s["step"] for s in optimizer.state.values()] == [6, 3]
    assert_same(*results)
    assert f.compiles == 1

    p, q = (torch.ones(2, requires_grad=True) for _ in range(2))
    reference, x = torch.optim.Adam([p, q], lr=0.1), torch.tensor([1.0, 2.0])
    for _ in range(3):
        for loss in (lambda: (p * x).sum(), lambda: ((p * p + q * q * q) * x).sum()):
            reference.zero_grad()
            loss().backward()
            reference.step()
    assert_same(results[1], [p.detach().numpy(), q.detach().numpy()])


def test_layers_that_are_frozen_by_turns(backend):
    x, results = gl.ones(2, 3), []
    for compiled in (False, True):
        model, optimizer, step = build("adam", compiled)
        for k in range(9):
            model[0].requires_grad_(k % 3 != 1)
            step(x)
        results.append(values(model))
    assert_same(*results)
    assert step.compiles == 3  # all in one block, the rest alone, and both in blocks of their own


def test_eager_and_compiled_steps_by_turns(backend):
    x, results = gl.ones(2, 3), []
    for compiled in (False, True):
        model, optimizer, step = build("adam", compiled)
        for k in range(6):
            if k % 2:
                optimizer.zero_grad()
                (model[0](x) ** 2).sum().backward()
                optimizer.step()  # of some parameters only
            step(x)
        results.append(values(model))
    assert_same(*results)
    assert step.compiles == 2


# ------------------------------------------------------------------------------------------------- dtypes, devices


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("groups", [False, True], ids=["one group", "two groups"])
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_float32_and_float64_together(backend, name, groups, compiled):
    """The numbers of each group are of its dtype: a rate in float32 would show in float64."""
    if backend == "mlx":
        pytest.skip("MLX has no float64 on the GPU, and gradloom none on MLX")
    with gl.using_backend(gl.JaxBackend(dtype="float64") if backend == "jax" else backend):
        rng = np.random.default_rng(0)
        start = [rng.normal(size=4).astype(d) for d in ("float32", "float64", "float32")]
        ours = [gl.tensor(v, requires_grad=True) for v in start]
        theirs = [torch.tensor(v, requires_grad=True) for v in start]
        assert [str(p.dtype).rpartition(".")[2] for p in ours] == ["float32", "float64", "float32"]
        options = {"lr": 0.1, **({"momentum": 0.9, "weight_decay": 0.01} if name == "SGD" else {"eps": 1e-3})}

        def split(params):
            return [{"params": params[:1]}, {"params": params[1:], "lr": 0.3}] if groups else params

        optimizer = getattr(gl.optim, name)(split(ours), **options)
        reference = getattr(torch.optim, name)(split(theirs), **options)

        def step(x):
            optimizer.zero_grad()
            loss = sum((p * p).sum().to(gl.float64) for p in ours) * x
            loss.backward()
            optimizer.step()
            return loss

        f = gl.jit(step) if compiled else step
        for k in range(5):
            f(gl.tensor(1.0 + k, dtype=gl.float64))
            reference.zero_grad()
            (sum((p * p).sum().double() for p in theirs) * (1.0 + k)).backward()
            reference.step()
        for a, b in zip(ours, theirs, strict=True):
            assert a.detach().numpy().dtype == b.detach().numpy().dtype
            tolerance = 1e-5 if b.dtype is torch.float32 else 1e-12
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=tolerance, atol=tolerance)


DEVICES = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax, numpy as np
import gradloom as gl
gl.set_default_backend("jax")
far = gl.tensor([1.0, 2.0])
far.data = gl.tensor(jax.device_put(far.native, jax.devices()[1]))
far.requires_grad_()
near = gl.tensor([1.0, 2.0], requires_grad=True)
optimizer = gl.optim.Adam([near, far], lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    for p in (near, far):
        (p * p).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
(blocks,) = optimizer._blocks.values()
assert len(blocks) == 2
for block in blocks:
    on = {a.device for a in (block.params[0].native, *(a for column in block.state.values() for a in column))}
    assert len(on) == 1, on
np.testing.assert_array_equal(near.detach().numpy(), far.detach().numpy())
assert near.native.device != far.native.device
"""


def test_parameters_on_two_devices():
    pytest.importorskip("jax")
    subprocess.run([sys.executable, "-c", DEVICES], check=True, timeout=300)


def test_a_model_that_moves_takes_its_state_along():
    pytest.importorskip("jax")
    results = []
    for moves in (False, True):
        model, optimizer, step = build("adam", False)
        for k in range(4):
            if moves and k == 2:
                model.to(backend="jax")
            step(gl.ones(2, 3).to(backend="jax") if moves and k >= 2 else gl.ones(2, 3))
        results.append(values(model))
    assert_same(*results)
    (blocks,) = optimizer._blocks.values()
    assert not any(b.flat for b in blocks)


def test_a_state_of_an_unknown_parameter_is_refused():
    _, optimizer, step = build("adam", False)
    step(gl.ones(2, 3))
    saved = optimizer.state_dict()
    saved["state"][9] = saved["state"][0]
    with pytest.raises(ValueError, match="a state of parameter 9"):
        optimizer.load_state_dict(saved)


def test_loaded_arrays_are_copied():
    """PyTorch's kernels write in place: not into the arrays that were given."""
    with gl.using_backend("torch"):
        model, optimizer, step = build("adam", False)
        step(gl.ones(2, 3))
        given = {
            n: {k: torch.tensor(np.array(v)) for k, v in s.items()} for n, s in optimizer.state_dict()["state"].items()
        }
        before = copy.deepcopy(given)
        optimizer.load_state_dict({"state": given, "param_groups": optimizer.state_dict()["param_groups"]})
        step(gl.ones(2, 3))
    for n, arrays in given.items():
        for k, v in arrays.items():
            assert torch.equal(v, before[n][k])


def test_a_copy_has_its_own_state(backend):
    x = gl.ones(2, 3)
    model, optimizer, step = build("adam", False)
    step(x), step(x)
    model2, optimizer2 = copy.deepcopy((model, optimizer))
    before = values(model2)
    step(x)
    assert_same(before, values(model2), 0)
    optimizer2.zero_grad()
    (model2(x) ** 2).sum().backward()
    optimizer2.step()
    assert_same(values(model), values(model2))
    assert [s["step"] for s in optimizer2.state.values()] == [3] * 4
