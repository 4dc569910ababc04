"""What belongs to functional optimizers: clipping, averages, estimates of the Hessian, optimizers of one's own."""

import numpy as np
import pytest

import gradloom as gl
from gradloom.errors import OptionError, ShapeError
from gradloom.models.parameters import Parameters
from gradloom.training import optimizers

from .functional_samples import (
    SAMPLES,
    STEPS,
    arrays,
    as_tensors,
    close,
    frozen,
    host,
    made,
    model_and_data,
    trained,
    values,
)

# --------------------------------------------------------------------------------------------------- clipping, special methods


@pytest.mark.parametrize("limit", [0.5, 100.0])
@pytest.mark.parametrize("kind", ["clip_value", "clip_norm"])
def test_clipped_gradients_are_pytorchs(backend, kind, limit):
    torch = pytest.importorskip("torch")
    engine = gl.get_backend(backend)
    leaves = [torch.zeros(x.shape, requires_grad=True) for x in values(1).values()]
    for leaf, x in zip(leaves, values(1).values(), strict=True):
        leaf.grad = torch.tensor(x)
    clip = {"clip_value": torch.nn.utils.clip_grad_value_, "clip_norm": torch.nn.utils.clip_grad_norm_}[kind]
    clip(leaves, limit)
    gradients = Parameters(arrays(engine, 1))
    before = frozen(engine, gradients)
    for given in (gradients, as_tensors(values(1))):
        found = optimizers.clip_gradients(given, **{kind: limit})
        assert type(found) is type(given)
        for (n, g), leaf in zip(found.items(), leaves, strict=True):
            g = engine.to_numpy(getattr(g, "_array", g))
            assert g.dtype == np.float32
            np.testing.assert_allclose(g, leaf.grad.numpy(), rtol=1e-5, atol=1e-7, err_msg=n)
    for n, x in gradients.items():
        np.testing.assert_array_equal(engine.to_numpy(x), before[n][1])


def test_clipping_keeps_the_gradient_of_an_input(backend):
    compiled = gl.compile(gl.models.Linear(2), backend, shapes={"input": [3, 4]})
    x = {"input": gl.get_backend(backend).ones(3, 4)}
    gradients = compiled.evaluate(
        compiled.get_parameters(), x, output_gradients=lambda o: {"output": o["output"] * 0 + 1}
    )[1]
    clipped = optimizers.clip_gradients(gradients, clip_norm=0.1)
    assert set(clipped) == {"weight", "bias"} and tuple(clipped["input_grad"].shape) == (3, 4)


def test_limits_of_clipping(backend):
    gradients = arrays(gl.get_backend(backend), 1)
    for options in ({}, {"clip_value": 1.0, "clip_norm": 1.0}):
        with pytest.raises(OptionError, match=r"(?s)clip_gradients takes one limit.*give clip_value= or clip_norm="):
            optimizers.clip_gradients(gradients, **options)
    with pytest.raises(ValueError, match="Invalid clipping limit: -1"):
        optimizers.clip_gradients(gradients, clip_norm=-1)
    assert optimizers.clip_gradients({}, clip_norm=1.0) == {}


@pytest.mark.parametrize("name", ["SGDScheduleFree", "AdamWScheduleFree"])
def test_the_average_of_schedule_free(backend, name):
    """The bound class in `eval()`."""
    engine = gl.get_backend(backend)
    optimizer = made(name)
    first = Parameters(arrays(engine, 0))
    state = optimizer.init(first)
    assert optimizer.evaluation_parameters(first, state)["linear.bias"] is first["linear.bias"]
    params, state = trained(engine, optimizer, found=(first, state))
    found = optimizer.evaluation_parameters(params, state)
    assert type(found) is Parameters
    tensors = {n: gl.tensor(x, requires_grad=True) for n, x in values(0).items()}
    bound = optimizer.of(list(tensors.values()), **{"lr": 0.01, **SAMPLES[name][0]})
    for k in range(STEPS):
        for n, p in tensors.items():
            p.grad = gl.tensor(values(k + 1)[n])
        bound.step()
    bound.eval()
    close(host(engine, found), {n: p.detach().numpy() for n, p in tensors.items()}, rtol=1e-4)
    jitted = gl.jit(lambda p, s: optimizer.evaluation_parameters(p, s))(params, state)
    close(host(engine, jitted), host(engine, found))
    with pytest.raises(OptionError, match=r"(?s)no entry for the parameter 'linear.weight'.*update\(\) gave"):
        optimizer.evaluation_parameters(params, {})


def test_estimates_of_the_hessian(backend):
    engine = gl.get_backend(backend)
    optimizer = optimizers.SophiaG(0.1, betas=(0.9, 0.75))
    params = arrays(engine, 0)
    state = optimizer.init(params)
    estimates = {"linear.bias": engine.array(np.array([1.0, 2.0, 4.0]))}
    new = optimizer.update_hessian(estimates, optimizer.update_hessian(estimates, state))
    np.testing.assert_allclose(
        engine.to_numpy(new["linear.bias"]["hessian"]), np.array([1, 2, 4]) * (0.25 + 0.75 * 0.25), rtol=1e-6
    )
    assert new["linear.weight"] is state["linear.weight"] and not engine.to_numpy(state["linear.bias"]["hessian"]).any()
    with pytest.raises(OptionError, match="update_hessian: the state has no parameter 'bias'"):
        optimizer.update_hessian({"bias": estimates["linear.bias"]}, state)
    with pytest.raises(ShapeError, match=r"(?s)estimate of 'linear.weight' has another shape.*\[4, 3\].*\[3\]"):
        optimizer.update_hessian({"linear.weight": estimates["linear.bias"]}, state)


# ------------------------------------------------------------------------------------------------------ optimizers of one's own


class CustomOptimizer(optimizers.Optimizer):
    def __init__(self, learning_rate=0.01, custom_param=0.5):
        super().__init__(learning_rate)
        self.custom_param = custom_param

    def init(self, params):
        return {name: {"momentum": self.backend.zeros_like(param)} for name, param in params.items()}

    def update(self, params, gradients, state):
        new_params, new_state = {}, {}
        for name, param in params.items():
            momentum = self.custom_param * state[name]["momentum"] + gradients[name]
            new_params[name] = param - self.learning_rate * momentum
            new_state[name] = {"momentum": momentum}
        return new_params, new_state


def test_an_optimizer_of_ones_own(backend):
    engine = gl.get_backend(backend)
    expected = host(engine, trained(engine, optimizers.SGD(0.1, momentum=0.5))[0])
    optimizer = CustomOptimizer(0.1)
    close(host(engine, trained(engine, optimizer)[0]), expected)
    params = arrays(engine, 0)
    for k in range(STEPS):
        optimizer.step(params, arrays(engine, k + 1))
    close(host(engine, params), expected)
    tensors = as_tensors(values(0))
    state = optimizer.init(tensors)
    update = gl.jit(lambda p, g, s: optimizer.update(p, g, s))
    for k in range(STEPS):
        tensors, state = update(tensors, as_tensors(values(k + 1)), state)
    close(host(engine, tensors), expected)
    optimizer.set_learning_rate(0.0)
    same, _ = update(tensors, as_tensors(values(1)), state)
    close(host(engine, same), host(engine, tensors))
    assert update.compiles == 1
    optimizer.custom_param = 0.25
    update(tensors, as_tensors(values(1)), state)
    assert update.compiles == 2
    compiled, inputs = model_and_data(backend)
    with pytest.raises(OptionError, match="has no values yet"):
        optimizer.init(compiled.get_parameters())


def test_what_a_subclass_has_to_define():
    with pytest.raises(NotImplementedError, match=r"Optimizer does not define init\(params\)"):
        optimizers.Optimizer(0.1).init({})
    with pytest.raises(NotImplementedError, match=r"Optimizer does not define update\(params, gradients, state\)"):
        optimizers.Optimizer(0.1).update({}, {}, {})
    with pytest.raises(OptionError, match=r"(?s)backend.randn is given no array.*use a backend itself"):
        optimizers.Optimizer(0.1).backend.randn(3)
