"""The guide "Training Models": basic loops, optimizers of JAX and PyTorch, classification, batches."""

import importlib
import sys

import numpy as np
import pytest

import gradloom as gl
from gradloom.models.parameters import Parameters, Placeholder
from guides.pages import Session, assert_falls, check_gradients, same_on

PAGE = "training_models"
BASIC = "Basic Training Loop"
DRAWN = "params = compiled_model.randomize_params()"
KEEP = {DRAWN: f"{DRAWN}\nfirst = dict(params)"}


def basic(engine):
    return Session(engine).run(PAGE, BASIC).seen["loss"]


def test_the_basic_loop(backend):
    numbers = same_on(backend, basic)
    assert len(numbers) == 10
    assert_falls(numbers)


def test_one_step_of_the_basic_loop_by_hand(backend):
    s = Session(backend).run(PAGE, BASIC, fill={"num_epochs = 100": "num_epochs = 1", **KEEP})
    x, y = s.host(s["X"]), s.host(s["y"])
    w, b = s.host(s["first"]["weight"]), s.host(s["first"]["bias"])
    error = y - (x @ w.T + b)
    np.testing.assert_allclose(s.host(s["params"]["weight"]), w + 0.01 * error.T @ x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(s.host(s["params"]["bias"]), b + 0.01 * error.sum(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(s.number("loss"), (error**2).mean(), rtol=1e-5)
    assert type(s["params"]) is Parameters and s.said[0].startswith("Epoch 0, Loss: ")


def test_with_jax():
    pytest.importorskip("optax")
    s = Session("jax").run(PAGE, BASIC, fill={"num_epochs = 100": "num_epochs = 3"})
    model, inputs, before = s["compiled_model"], s["inputs"], s["params"]
    output_grads = {"output": s["outputs"]["output"] - s["y"]}
    s.run(PAGE, "With JAX", num_epochs=5, output_grads=output_grads)
    assert type(s["params"]) is Parameters and set(s["params"]) == set(before)

    def along(params):
        return float((model.evaluate(params, inputs)["output"] * output_grads["output"]).sum())

    assert along(s["params"]) < along(before)
    # Adam's first steps are of the size of the rate, against the gradient's sign.
    np.testing.assert_allclose(np.abs(s["params"]["bias"] - before["bias"]), 0.05, rtol=1e-3)


def test_with_pytorch(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    path = tmp_path / "generated_code.py"
    with_file = {
        'shapes={"input": [32, 20]})': f'shapes={{"input": [32, 20]}}, file_path={str(path)!r})',
        "num_epochs = 100": "num_epochs = 1",
    }
    s = Session("torch").run(PAGE, BASIC, fill=with_file)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "generated_code", raising=False)
    importlib.invalidate_caches()
    losses = []
    s.run(
        PAGE,
        "With PyTorch",
        num_epochs=20,
        fill={"loss.backward()": "losses.append(loss.item())\nloss.backward()"},
        losses=losses,
    )
    assert len(losses) == 20 and losses[-1] < losses[0]
    assert "gradloom" not in path.read_text().split("def ", 1)[1]
    found = s["compiled_model"].evaluate(s["params"], {"input": s["X"]})["output"]
    with torch.no_grad():
        torch.testing.assert_close(found, s["forward"](s["torch_params"], s["torch_inputs"])["output"])
    assert all(not p.requires_grad for p in s["params"].values())


CLASSIFICATION = "Example: Classification with Cross-Entropy Loss"


def classification(engine):
    return Session(engine).run(PAGE, CLASSIFICATION, fill={"num_epochs = 100": "num_epochs = 41"}).seen["loss"]


def test_classification(backend):
    assert_falls(same_on(backend, classification))


def test_the_gradients_of_classification():
    s = Session("numpy")
    s.run(PAGE, CLASSIFICATION, fill={"num_epochs = 100": "num_epochs = 2", "dtype=ml.float32": 'dtype="float64"'})
    before = {name: p + s["learning_rate"] * s["gradients"][name] for name, p in s["params"].items()}
    check_gradients(s["compiled_model"], before, s["inputs"], s["output_gradients"], s["gradients"])


def batches(engine):
    fill = {"num_epochs = 50": "num_epochs = 4"}
    if engine == "mlx":  # takes no NumPy array as an index
        fill["batch_indices = indices"] = "batch_indices = backend.array(indices)"
    return Session(engine, watch=("avg_loss",)).run(PAGE, "Batch Training", fill=fill).seen["avg_loss"]


def test_batches(backend):
    numbers = same_on(backend, batches)
    assert len(numbers) == 4
    assert_falls(numbers)


def test_parameters_without_shapes_are_filled_at_the_first_evaluate(backend):
    s = Session(backend).run(PAGE, CLASSIFICATION, fill={"num_epochs = 100": "num_epochs = 1", **KEEP})
    with_shapes = gl.compile(s["model"], backend, shapes={"input": [32, 20]})
    assert {type(p) for p in s["first"].values()} == {Placeholder}
    assert {n: tuple(p.shape) for n, p in s["params"].items()} == {
        n: tuple(p.shape) for n, p in with_shapes.get_parameters().items()
    }
