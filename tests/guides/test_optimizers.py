"""The guide "Optimizers": updates by hand, optimizers and schedulers, the optimizers of JAX and PyTorch."""

import numpy as np
import pytest

import gradloom as gl
from guides.pages import Session, check_gradients, same_on

PAGE = "optimizers"

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
    return steps(s, "Using Optimizer Classes", 3, num_epochs=4)


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
    rates = {"learning_rate=0.01": "learning_rate=1e-4"}  # the guide's gradient is of a sum
    found = steps(s, "Multi-Optimizer Training", 2, fill=rates, num_epochs=1)
    assert list(s["params"]) == list(before) and set(s["embedding_grads"]) == {"embedding.weight", "embedding.bias"}
    s["params"].update(before)
    s.run(PAGE, "Multi-Optimizer Training", fill=rates, num_epochs=1)
    for name, p in s["params"].items():
        g = s.host(s["gradients"][name])
        first = np.sign(g) if "embedding" in name else g  # Adam's first step; that of SGD with momentum
        np.testing.assert_allclose(s.host(p), s.host(before[name]) - 1e-4 * first, rtol=1e-4, atol=1e-6)
    assert set(s["embedding_state"]) == set(s["embedding_grads"]) and set(s["main_state"]) == set(s["main_grads"])
    return found


def test_two_optimizers(backend):
    numbers = same_on(backend, two_groups)
    assert numbers == sorted(numbers, reverse=True)


def minimum(optimizer, engine, steps=30):
    """The squared length of a vector, before and after some updates of it."""
    backend = gl.get_backend(engine)
    params = {"w": backend.array(np.array([1.0, -2.0, 0.5]))}
    state = optimizer.init(params)
    for _ in range(steps):
        params, state = optimizer.update(params, {"w": 2 * params["w"]}, state)
    return 5.25, float((backend.to_numpy(params["w"]) ** 2).sum())


def test_sgd(backend):
    s = Session(backend).run(PAGE, "SGD (Stochastic Gradient Descent)")
    for name, nesterov, momentum in (("sgd", False, 0), ("sgd_momentum", False, 0.9), ("sgd_nesterov", True, 0.9)):
        optimizer = s[name]
        w, b = np.array([1.0, -2.0, 0.5]), 0.0
        for _ in range(30):
            b = momentum * b + 2 * w
            w = w - 0.01 * (2 * w + momentum * b if nesterov else b)
        np.testing.assert_allclose(minimum(optimizer, backend)[1], (w**2).sum(), rtol=1e-4)


def test_adam(backend):
    s = Session(backend).run(PAGE, "Adam")
    w, m, v = np.array([1.0, -2.0, 0.5]), 0.0, 0.0
    for t in range(1, 31):
        g = 2 * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w - 0.001 * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(minimum(s["adam"], backend)[1], (w**2).sum(), rtol=1e-4)


def test_rmsprop(backend):
    s = Session(backend).run(PAGE, "RMSProp")
    w, v = np.array([1.0, -2.0, 0.5]), 0.0
    for _ in range(30):
        v = 0.9 * v + 0.1 * (2 * w) ** 2
        w = w - 0.001 * 2 * w / (np.sqrt(v) + 1e-8)
    np.testing.assert_allclose(minimum(s["rmsprop"], backend)[1], (w**2).sum(), rtol=1e-4)


def test_adagrad(backend):
    s = Session(backend).run(PAGE, "AdaGrad")
    w, v = np.array([1.0, -2.0, 0.5]), 0.0
    for _ in range(30):
        v = v + (2 * w) ** 2
        w = w - 0.01 * 2 * w / (np.sqrt(v) + 1e-8)
    np.testing.assert_allclose(minimum(s["adagrad"], backend)[1], (w**2).sum(), rtol=1e-4)


def test_learning_rate_scheduling(backend):
    # The guide makes three schedulers and steps the last one, which is told no metric.
    s = Session(backend, watch=("current_lr",))
    with pytest.warns(UserWarning, match="metric"):
        s.run(PAGE, "Learning Rate Scheduling", num_epochs=3)
    assert s.seen["current_lr"] == [0.001] * 3 and s.said[0] == "Epoch 0, Learning rate: 0.001"


@pytest.mark.parametrize("name", ["StepLR", "CosineAnnealingLR"])
def test_each_scheduler_by_itself(name):
    calls = {
        "StepLR": "StepLR(optimizer, step_size=30, gamma=0.1)",
        "CosineAnnealingLR": "CosineAnnealingLR(optimizer, T_max=100, eta_min=1e-6)",
    }
    s = Session("numpy", watch=("current_lr",))
    fill = {"# Training loop with scheduler": f"scheduler = {calls[name]}"}
    s.run(PAGE, "Learning Rate Scheduling", num_epochs=100, fill=fill)
    k = np.arange(1, 101)
    expected = {
        "StepLR": 0.001 * 0.1 ** (k // 30),
        "CosineAnnealingLR": 1e-6 + (0.001 - 1e-6) * (1 + np.cos(np.pi * k / 100)) / 2,
    }
    np.testing.assert_allclose(s.seen["current_lr"], expected[name], rtol=1e-10)


def test_the_plateau_with_a_loss():
    s = Session("numpy", watch=("current_lr",), val_loss=1.0)
    fill = {"scheduler.step()": "pass", "# scheduler.step(val_loss)": "scheduler.step(val_loss)"}
    s.run(PAGE, "Learning Rate Scheduling", num_epochs=13, fill=fill)
    np.testing.assert_allclose(s.seen["current_lr"], [0.001] * 11 + [0.0001] * 2)


def custom(engine):
    s = Session(engine).run(PAGE, MANUAL, fill={**DEFINE, "learning_rate = 0.01": "learning_rate = 0"})
    s.run(PAGE, "Custom Optimizers")
    optimizer = s["CustomOptimizer"](learning_rate=1e-5, custom_param=0.9)
    loop = {"Adam(learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8)": "given"}
    found = steps(s, "Using Optimizer Classes", 2, fill=loop, given=optimizer, num_epochs=3)
    assert set(s["optimizer_state"]["linear.bias"]) == {"momentum"}
    return found


def test_custom_optimizers(backend):
    numbers = same_on(backend, custom)
    assert numbers == sorted(numbers, reverse=True)
    s = Session(backend).run(PAGE, "Custom Optimizers")
    params = {"w": gl.get_backend(backend).array(np.ones(2)), "other": gl.get_backend(backend).array(np.ones(3))}
    optimizer = s["CustomOptimizer"]()
    new, state = optimizer.update(params, {"w": 2 * params["w"]}, optimizer.init(params))
    assert new["other"] is params["other"] and optimizer.learning_rate == 0.01
    new, state = optimizer.update(new, {"w": 2 * params["w"]}, state)
    np.testing.assert_allclose(s.host(new["w"]), 1 - 0.01 * 2 * (1 + 1.5), rtol=1e-6)


def test_gradient_clipping(backend):
    s = Session(backend).run(PAGE, MANUAL, fill=DEFINE)
    before = {name: s.host(g) for name, g in s["gradients"].items()}
    s.run(PAGE, "Gradient Clipping")
    clipped = {name: np.clip(g, -1, 1) for name, g in before.items()}
    norm = np.sqrt(sum((g**2).sum() for g in clipped.values()))
    assert norm > 5 and type(s["gradients"]).__name__ == "Parameters"
    for name, g in s["gradients"].items():
        np.testing.assert_allclose(s.host(g), clipped[name] * 5 / (norm + 1e-6), rtol=1e-4, atol=1e-7)


def test_learning_rate_warmup(backend):
    s = Session(backend, rates=[])
    fill = {"scheduler.step()": "rates.append(optimizer.learning_rate)\nscheduler.step()"}
    s.run(PAGE, "Learning Rate Warmup", total_steps=1005, fill=fill)
    expected = 1e-6 + (0.001 - 1e-6) * np.minimum(np.arange(1005), 1000) / 1000
    np.testing.assert_allclose(s["rates"], expected, rtol=1e-9)
