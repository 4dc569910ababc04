"""The guide "Optimizers": updates by hand, the optimizers of JAX and PyTorch, and loops around an optimizer."""

import numpy as np
import pytest

import gradloom as gl
from guides.pages import Session, check_gradients, same_on

PAGE = "optimizers"
pytestmark = pytest.mark.usefixtures("optimizers")

MODEL = "model |= ml.Linear(12)(input='input')\nmodel += ml.models.Relu()\nmodel += ml.Linear(10)"
DEFINE = {"# ... define your model ...": MODEL}
WITH_SHAPES = {"# ... define your model ...": f"{MODEL}\nmodel.set_shapes(input=[None, 784])"}
MANUAL = "Manual Parameter Updates"


def total(s, params=None):
    """What the guide's gradient 2 * (output - target) is the gradient of."""
    outputs = s["compiled_model"].evaluate(s["params"] if params is None else params, s["inputs"])
    return float(((s.host(outputs["output"]) - s.host(s["targets"])) ** 2).sum())


def steps(s, heading, count, **options):
    """The total before each run of a block, and after the last."""
    found = []
    for _ in range(count):
        found.append(total(s))
        s.run(PAGE, heading, **options)
    return [*found, total(s)]


def manual(engine):
    s = Session(engine).run(PAGE, MANUAL, fill={**DEFINE, "learning_rate = 0.01": "learning_rate = 1e-5"})
    first = gl.compile(s["model"], engine, shapes={"input": [32, 784]}).get_parameters()
    return [total(s, first), total(s), *s.host(s["params"]["linear_1.bias"])]


def test_updates_by_hand(backend):
    numbers = same_on(backend, manual)
    assert numbers[1] < numbers[0]


def test_one_update_by_hand(backend):
    s = Session(backend).run(PAGE, MANUAL, fill=DEFINE)
    p = {n: s.host(a) for n, a in gl.compile(s["model"], backend, shapes={"input": [32, 784]}).get_parameters().items()}
    x, t = s.host(s["inputs"]["input"]), s.host(s["targets"])
    h = np.maximum(x @ p["linear.weight"].T + p["linear.bias"], 0)
    g = 2 * (h @ p["linear_1.weight"].T + p["linear_1.bias"] - t)
    into = (g @ p["linear_1.weight"]) * (h > 0)
    gradients = {
        "linear.weight": into.T @ x,
        "linear.bias": into.sum(0),
        "linear_1.weight": g.T @ h,
        "linear_1.bias": g.sum(0),
    }
    for name, expected in gradients.items():
        np.testing.assert_allclose(s.host(s["gradients"][name]), expected, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(s.host(s["params"][name]), p[name] - 0.01 * expected, rtol=1e-3, atol=1e-4)


def test_the_gradients_in_float64():
    fill = {**DEFINE, "backend = JaxBackend()": 'backend = JaxBackend(dtype="float64")', "784": "11"}
    s = Session("numpy").run(PAGE, MANUAL, fill=fill)
    before = {name: p + 0.01 * s["gradients"][name] for name, p in s["params"].items()}
    check_gradients(s["compiled_model"], before, s["inputs"], s["loss_gradients"], s["gradients"])


def loop(engine):
    s = Session(engine).run(PAGE, MANUAL, fill={**DEFINE, "learning_rate = 0.01": "learning_rate = 0"})
    return steps(s, "Using Optimizer Classes", 3, fill={"learning_rate=0.001": "learning_rate=1e-5"}, num_epochs=4)


def test_a_loop_around_an_optimizer(backend):
    numbers = same_on(backend, loop)
    assert numbers == sorted(numbers, reverse=True)


def test_optax():
    pytest.importorskip("optax")
    s = Session("jax").run(PAGE, MANUAL, fill=DEFINE)
    s.run(PAGE, "JAX Optimizers (Optax)", fill=WITH_SHAPES, num_epochs=0, own=True)
    first = total(s)
    s.run(PAGE, "JAX Optimizers (Optax)", fill=WITH_SHAPES, num_epochs=20, own=True)
    assert total(s) < 0.8 * first


def test_optimizers_of_pytorch():
    torch = pytest.importorskip("torch")
    heading = "PyTorch Optimizers"
    s = Session("torch").run(PAGE, MANUAL, fill=DEFINE)
    s.run(PAGE, heading, fill=WITH_SHAPES, num_epochs=0, own=True)
    first = total(s)
    s.run(PAGE, heading, fill=WITH_SHAPES, num_epochs=20, own=True)
    assert total(s) < 0.8 * first  # parameters that are written in place are seen
    # The same by PyTorch alone.
    model = torch.nn.Sequential(torch.nn.Linear(784, 12), torch.nn.ReLU(), torch.nn.Linear(12, 10))
    start = gl.compile(s["model"], "torch", shapes={"input": [32, 784]}).get_parameters()
    model.load_state_dict(dict(zip(model.state_dict(), start.values(), strict=True)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    for _ in range(20):
        optimizer.zero_grad()
        ((model(s["inputs"]["input"]) - s["targets"]) ** 2).sum().backward()
        optimizer.step()
    for ours, theirs in zip(s["params"].values(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-3, atol=1e-4)


def test_weight_decay(backend):
    s = Session(backend).run(PAGE, MANUAL, fill=DEFINE)
    before = {name: s.host(g) for name, g in s["gradients"].items()}
    s.run(PAGE, "Weight Decay (L2 Regularization)", weight_decay=0.5)
    for name, g in s["gradients"].items():
        decay = 0.5 * s.host(s["params"][name]) if "weight" in name else 0
        np.testing.assert_allclose(s.host(g), before[name] + decay, rtol=1e-5, atol=1e-5)


def two_groups(engine):
    define = "model |= ml.models.Linear(12, name='embedding')(input='input')\nmodel += ml.models.Tanh()\nmodel += ml.Linear(10)"
    fill = {"# ... define your model ...": define, "learning_rate = 0.01": "learning_rate = 0"}
    s = Session(engine).run(PAGE, MANUAL, fill=fill)
    before = dict(s["params"])
    rates = {"learning_rate=0.0001": "learning_rate=1e-7", "learning_rate=0.01": "learning_rate=1e-4"}
    found = steps(s, "Multi-Optimizer Training", 2, fill=rates, num_epochs=1)
    assert list(s["params"]) == list(before) and set(s["embedding_grads"]) == {"embedding.weight", "embedding.bias"}
    s["params"].update(before)
    s.run(PAGE, "Multi-Optimizer Training", fill=rates, num_epochs=1)
    for name, p in s["params"].items():
        rate = 1e-7 if "embedding" in name else 1e-4
        expected = s.host(before[name]) - rate * s.host(s["gradients"][name])
        np.testing.assert_allclose(s.host(p), expected, rtol=1e-4, atol=1e-6)
    return found


def test_two_optimizers(backend):
    numbers = same_on(backend, two_groups)
    assert numbers == sorted(numbers, reverse=True)
