"""The guide "Training Loops": data, validation, checkpoints, metrics, GANs, several heads, other frameworks, patterns."""

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest

import gradloom as gl
from gradloom.models.parameters import Parameters
from gradloom.training import losses
from gradloom.training.optimizers import Adam
from guides.pages import Session, assert_falls, check_gradients, same_on

PAGE = "training_loops"

DEFINE = {
    "# ... define your model ...": "model |= ml.Linear(16)(input='input')\nmodel += ml.models.Tanh()\nmodel += ml.Linear(4)"
}
CLASSIFY = {
    "# ... define your model ...": "model |= ml.Linear(16)(input='input')\nmodel += ml.Linear(4)\nmodel += ml.models.Softmax()"
}
WITH_SHAPES = {
    "# ... define your model ...": DEFINE["# ... define your model ..."] + "\nmodel.set_shapes(input=[None, 6])"
}
FASTER = {"learning_rate=0.001": "learning_rate=0.01"}


def dataset(n=96, features=6, outputs=4):
    rng = np.random.RandomState(5)
    weight = rng.randn(features, outputs)
    x = rng.randn(n, features)
    return x, np.tanh(x @ weight) + 0.1 * rng.randn(n, outputs)


def prepared(engine, watch=("avg_loss",), **names):
    """A session with the data, and with what the guide defines after its first loop."""
    data, targets = dataset()
    s = Session(engine, watch, data=data, targets=targets, pickle=pickle)
    for heading in ("Data Loading", "Validation", "Checkpointing"):
        s.run(PAGE, heading)
    held_out = [a[96:] for a in dataset(136)]

    def validation_data(batch_size, shuffle=True):
        assert shuffle is False
        for i in range(0, 40, batch_size):
            backend = s["backend"]
            yield (
                {"input": backend.array(held_out[0][i : i + batch_size])},
                backend.array(held_out[1][i : i + batch_size]),
            )

    s.names.update({"validation_data": validation_data, **names})
    return s


def basic(engine, fill=DEFINE, **names):
    return prepared(engine, **names).run(PAGE, "Basic Training Loop", fill={**fill, **FASTER})


def basic_numbers(engine):
    return basic(engine, save_checkpoint=lambda *args: None).seen["avg_loss"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_basic_loop(backend, folder):
    numbers = same_on(backend, basic_numbers)
    assert_falls(numbers)


def test_what_the_basic_loop_prints_and_saves(backend, folder):
    s = basic(backend)
    assert s.said[0] == f"Epoch 1/10, Loss: {s.seen['avg_loss'][0]:.4f}"
    validation = [float(line.split()[-1]) for line in s.said if line.startswith("Validation Loss: ")]
    assert len(validation) == 5 and validation[-1] < validation[0]
    assert sorted(p.name for p in folder.glob("*.pkl")) == ["checkpoint_epoch_0.pkl", "checkpoint_epoch_5.pkl"]
    with open("checkpoint_epoch_5.pkl", "rb") as f:
        saved = pickle.load(f)
    assert all(type(p) is np.ndarray and p.dtype == np.float32 for p in saved["params"].values())
    s["save_checkpoint"](s["params"], s["optimizer_state"], 9, float(s.host(s["avg_loss"])), "last.pkl")
    params, state, epoch, loss = s["load_checkpoint"]("last.pkl", s["backend"])
    assert epoch == 9 and loss == pytest.approx(s.number("avg_loss"))
    for name, p in s["params"].items():
        assert type(params[name]) in s["backend"].array_types
        np.testing.assert_array_equal(s.host(params[name]), s.host(p))
        assert state[name].keys() == {"step", "exp_avg", "exp_avg_sq"} == s["optimizer_state"][name].keys()
        for slot, x in state[name].items():
            np.testing.assert_array_equal(s.host(x), s.host(s["optimizer_state"][name][slot]))
    assert int(state["linear.bias"]["step"]) == 30
    # What was loaded goes on as the first would have.
    gradients = s["gradients"]
    on, again = (
        s["optimizer"].update(p, gradients, t)[0] for p, t in ((s["params"], s["optimizer_state"]), (params, state))
    )
    for name, p in on.items():
        np.testing.assert_array_equal(s.host(again[name]), s.host(p))
    x = s["batch_inputs"]
    found = s["compiled_model"].evaluate(params, x)["output"]
    np.testing.assert_array_equal(s.host(found), s.host(s["compiled_model"].evaluate(s["params"], x)["output"]))


def test_the_gradients_of_the_basic_loop(folder):
    update = "params, optimizer_state = optimizer.update("
    fill = {
        **DEFINE,
        update: f"before = params\n{update}",
        "backend = JaxBackend()": 'backend = JaxBackend(dtype="float64")',
        "num_epochs = 10": "num_epochs = 1",
    }
    s = basic("numpy", fill=fill)
    check_gradients(
        s["compiled_model"], s["before"], s["batch_inputs"], {"output": s["loss_gradients"]}, s["gradients"]
    )


def test_the_data_loader(backend):
    s = prepared(backend, backend=gl.get_backend(backend))
    seen = list(s["data_loader"](40, shuffle=False))
    assert [tuple(t.shape) for _, t in seen] == [(40, 4), (40, 4), (16, 4)]
    joined = np.concatenate([s.host(x["input"]) for x, _ in seen])
    np.testing.assert_allclose(joined, s["data"], rtol=1e-6)
    assert s.host(seen[0][1]).dtype == np.float32
    shuffled = np.concatenate([s.host(t) for _, t in s["data_loader"](40)])
    np.testing.assert_allclose(np.sort(shuffled, 0), np.sort(s["targets"], 0).astype("float32"))


def test_the_data_loader_of_pytorch(backend):
    pytest.importorskip("torch")
    data, targets = dataset()
    s = Session(backend, data=data, targets=targets, backend=gl.get_backend(backend))
    # No processes and no pinned memory: the test has neither a large data set nor a GPU.
    s.run(
        PAGE,
        "Data Loading: PyTorch's DataLoader",
        fill={"num_workers=4": "num_workers=0", "pin_memory=True": "pin_memory=False"},
    )
    assert type(s["targets"]) in s["backend"].array_types
    np.testing.assert_array_equal(s.host(s["inputs"]["input"]), s["batch_data"].numpy())
    np.testing.assert_array_equal(s.host(s["targets"]), s["batch_targets"].numpy())


def test_validation_records_nothing(folder):
    torch = pytest.importorskip("torch")
    s = basic("torch")
    params = {name: p.requires_grad_() for name, p in s["params"].items()}
    assert s["compiled_model"].evaluate(params, s["batch_inputs"])["output"].requires_grad
    found = s["validate"](s["compiled_model"], params, s["validation_data"])
    assert not found.requires_grad and torch.is_grad_enabled()


def test_gradient_accumulation(backend, folder):
    s = basic(backend, watch=())
    before, state = dict(s["params"]), s["optimizer_state"]
    # Four batches of one size: their mean gradient is that of all data.
    s.run(PAGE, "Gradient Accumulation", num_epochs=1, batch_size=24)
    x, t = s["backend"].array(s["data"]), s["backend"].array(s["targets"])
    model = s["compiled_model"]
    outputs = model.evaluate(before, {"input": x})["output"]
    _, gradients = model.evaluate(
        before, {"input": x}, output_gradients={"output": losses.mse_loss_gradient(outputs, t)}
    )
    expected, _ = s["optimizer"].update(before, gradients, state)
    for name, p in s["params"].items():
        np.testing.assert_allclose(s.host(p), s.host(expected[name]), rtol=1e-4, atol=1e-6)
        assert not s.host(s["accumulated_gradients"][name]).any()


def test_learning_rate_scheduling(backend):
    compiled = gl.compile(small(), backend, shapes={"input": [None, 6]})
    s = Session(backend, watch=("current_lr",), params=compiled.get_parameters())
    s.run(PAGE, "Learning Rate Scheduling", num_epochs=65)
    np.testing.assert_allclose(s.seen["current_lr"], [0.001] * 29 + [0.0001] * 30 + [0.00001] * 6)
    assert s.said[0] == "Learning rate: 0.001" and set(s["optimizer_state"]) == set(s["params"])


class Loader:
    """Batches that are known in number, as `len(data_loader)` asks for."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __call__(self, batch_size, shuffle=True):
        return iter(self.batches)


def classes(engine):
    """A session with a classifier, and with batches of one-hot targets."""
    s = prepared(engine, watch=("avg_loss", "val_loss", "accuracy"), save_checkpoint=lambda *a: None)
    s.names["targets"] = np.eye(4)[s["targets"].argmax(1)]
    s.run(PAGE, "Basic Training Loop", fill={**CLASSIFY, **FASTER})
    s.seen = {name: [] for name in s.watch}
    s.names["cross_entropy_loss"] = losses.cross_entropy_loss
    loader = Loader(list(s["data_loader"](32, shuffle=False)))
    return s.run(PAGE, "Progress Tracking", num_epochs=2, data_loader=loader)


def metrics(engine):
    s = classes(engine)
    return [*s.seen["avg_loss"][-2:], *s.seen["val_loss"][-2:], *s.seen["accuracy"][-2:]]


def test_progress_tracking(backend):
    same_on(backend, metrics)
    s = classes(backend)
    p = s.host(s["compiled_model"].evaluate(s["params"], {"input": s["backend"].array(s["data"])})["output"])
    right = (p.argmax(1) == s["targets"].argmax(1)).mean()
    loss = -np.log(p[s["targets"] > 0]).mean()
    np.testing.assert_allclose([s.number("accuracy"), s.number("avg_loss")], [right, loss], rtol=1e-5)
    assert s.said[-1].startswith(f"Epoch 2/2, Train Loss: {loss:.4f}, Val Loss: ")
    assert s.said[-1].endswith(f"Accuracy: {right:.4f}")


def test_visualizing_metrics(backend, folder):
    plt = pytest.importorskip("matplotlib.pyplot")
    s = classes(backend)
    with plt.rc_context():
        s.run(PAGE, "Visualizing Metrics")
        lines = [line.get_ydata() for axes in plt.gcf().axes for line in axes.get_lines()]
        plt.close("all")
    names = ("train_losses", "val_losses", "accuracies")
    np.testing.assert_allclose(
        np.asarray(lines, "float64"), [[float(s.host(v)) for v in s[n]] for n in names], rtol=1e-6
    )
    assert Path("training_metrics.png").stat().st_size > 1000


def test_tensorboard(backend, folder):
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("tensorboard") is None:
        pytest.skip("needs torch and tensorboard: pip install tensorboard")
    s = classes(backend)
    # add_scalar takes numbers and arrays of NumPy and PyTorch.
    scalars = ("avg_loss", "val_loss", "accuracy") if backend in ("jax", "mlx") else ()
    s.run(PAGE, "TensorBoard Integration", fill={f"{n}, epoch": f"float({n}), epoch" for n in scalars})
    assert list(Path("runs/experiment_1").glob("events.*"))


# ------------------------------------------------------------------------------------------------------------- several models

GAN = {
    "# ... define generator ...": "generator |= ml.Linear(8)(input='noise')\ngenerator += ml.models.Tanh()\ngenerator += ml.Linear(5)",
    "# ... define discriminator ...": (
        "discriminator |= ml.Linear(8)(input='input')\ndiscriminator += ml.models.Tanh()\ndiscriminator += ml.Linear(1)\n"
        "discriminator += ml.models.Sigmoid()"
    ),
    "gen_params, gen_opt_state = gen_optimizer.update(": "gen_before = gen_params\ngen_params, gen_opt_state = gen_optimizer.update(",
    "learning_rate=0.0002": "learning_rate=0.01",
}
BCE = {n: getattr(losses, n) for n in ("binary_cross_entropy", "binary_cross_entropy_gradient")}


def gan(engine, epochs=4):
    backend = gl.get_backend(engine)
    real = [backend.array(np.random.RandomState(i).randn(n, 5) + 2) for i, n in enumerate((16, 16, 9))]
    s = Session(
        engine, ("disc_loss", "gen_loss"), backend=backend, latent_dim=3, batch_size=16, num_epochs=epochs, **BCE
    )
    s.names.update(ml=gl, Adam=Adam)
    return s.run(PAGE, "Training GANs", fill=GAN, data_loader=lambda batch_size: real)


def gan_numbers(engine):
    s = gan(engine)
    return [*s.seen["disc_loss"], *s.seen["gen_loss"]]


def test_gan(backend):
    numbers = same_on(backend, gan_numbers)
    assert numbers[11] < numbers[0]  # of the discriminator


def test_the_generators_gradient_is_that_of_both_models_as_one(backend):
    s = gan(backend, epochs=1)
    whole = gl.Model()
    whole |= s["generator"](noise="noise", output="image")
    whole |= s["discriminator"](input="image", output="output")
    compiled = gl.compile(whole, backend, shapes={"noise": [9, 3]})
    first = [n for n in compiled.parameter_keys if n.startswith("model.")]
    second = [n for n in compiled.parameter_keys if n.startswith("model_1.")]
    params = {
        **{n: s["gen_before"][n.removeprefix("model.")] for n in first},
        **{n: s["disc_params"][n.removeprefix("model_1.")] for n in second},
    }
    assert set(params) == set(compiled.parameter_keys)

    def deceive(outputs):
        ones = s["backend"].ones_like(outputs["output"])
        return {"output": losses.binary_cross_entropy_gradient(outputs["output"], ones)}

    _, expected = compiled.evaluate(params, {"noise": s["noise"]}, output_gradients=deceive)
    assert type(s["gen_grads"]) is Parameters
    for name, g in s["gen_grads"].items():
        np.testing.assert_allclose(s.host(g), s.host(expected[f"model.{name}"]), rtol=1e-4, atol=1e-7)
        assert s.host(g).any()


HEADS = {
    "# ... define base encoder ...": "model |= ml.Linear(16)(input='input')\nmodel += ml.models.Tanh()(output='encoder_output')"
}
SELF_SUPERVISED = {
    n: getattr(losses, n)
    for n in ("mse_loss", "mse_loss_gradient", "cross_entropy_loss", "cross_entropy_loss_gradient")
}


def self_supervised(engine, labels, epochs=3):
    backend = gl.get_backend(engine)
    x = backend.array(dataset()[0])
    batch = {"input": x, **({"labels": backend.array(np.arange(96) % 3)} if labels else {})}
    s = Session(
        engine, backend=backend, num_classes=3, input_dim=6, batch_size=96, num_epochs=epochs, ml=gl,
        corrupt_inputs=lambda x: x * 0.9, data_loader=lambda batch_size: [batch], totals=[], Adam=Adam, **SELF_SUPERVISED,
    )  # fmt: skip
    note = "        params, optimizer_state = optimizer.update("
    fill = {**HEADS, **FASTER, note.strip(): f"totals.append(total_loss)\nbefore = params\n{note.strip()}"}
    return s.run(PAGE, "Self-Supervised Learning", fill=fill)


def reconstruction(engine):
    s = self_supervised(engine, labels=False)
    return [float(s.host(v)) for v in s["totals"]]


def test_self_supervised_learning(backend):
    assert_falls(same_on(backend, reconstruction))


def test_gradients_of_two_heads_add_up(backend):
    # The guide's classifier has no softmax, so what it gives as probabilities is mostly clamped: finite all the same.
    s = self_supervised(backend, labels=True, epochs=1)
    assert set(s["outputs"]) == {"classifier_output", "reconstruction_output"}
    assert np.isfinite(s.host(s["total_loss"]))
    model, inputs = s["compiled_model"], s["model_inputs"]
    one, two = (
        model.evaluate(s["before"], inputs, output_gradients=g)[1]
        for g in ({"reconstruction_output": s["recon_grad"]}, {"classifier_output": s["class_grad"]})
    )
    for name, g in s["gradients"].items():
        together = s.host(one[name]) + s.host(two[name])
        np.testing.assert_allclose(s.host(g), together, rtol=1e-4, atol=1e-6 * np.abs(together).max())


# ---------------------------------------------------------------------------------------------------------- other frameworks


def test_training_utilities_of_pytorch():
    torch = pytest.importorskip("torch")
    x, y = (torch.tensor(a, dtype=torch.float32) for a in dataset())
    dataset_ = torch.utils.data.TensorDataset(x, y)
    seen = []
    fill = {**WITH_SHAPES, "loss.backward()": "loss.backward()\nseen.append(loss.item())", "lr=0.001": "lr=0.01"}
    torch.manual_seed(0)
    s = Session("torch", ml=gl, dataset=dataset_, num_epochs=5, seen=seen)
    s.run(PAGE, "Using PyTorch's Training Utilities", fill=fill, own=True)
    assert np.mean(seen[-3:]) < 0.9 * np.mean(seen[:3])
    assert not any(p.requires_grad for p in s["params"].values())
    # Autograd goes through `evaluate` as through PyTorch's own layers.
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4))
    state = dict(zip(model.state_dict(), s["params"].values(), strict=True))
    model.load_state_dict(state)
    torch.nn.MSELoss()(model(x), y).backward()
    leaves = {name: p.clone().requires_grad_() for name, p in s["params"].items()}
    torch.nn.MSELoss()(s["compiled_model"].evaluate(leaves, {"input": x})["output"], y).backward()
    for ours, theirs in zip(leaves.values(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_training_utilities_of_jax():
    pytest.importorskip("optax")
    x, y = dataset()
    backend = gl.get_backend("jax")
    batches = [({"input": backend.array(x[i : i + 32])}, backend.array(y[i : i + 32])) for i in (0, 32, 64)]
    s = Session("jax", ("avg_loss",), ml=gl, num_epochs=6, batch_size=32, data_loader=lambda batch_size: batches)
    s.run(
        PAGE,
        "Using JAX's Training Utilities",
        fill={**WITH_SHAPES, "learning_rate=0.001": "learning_rate=0.01"},
        own=True,
    )
    assert len(s.seen["avg_loss"]) == 6
    assert_falls(s.seen["avg_loss"])
    inputs, targets = batches[0]
    gradients = s["jax"].grad(
        lambda p: losses.mse_loss(s["compiled_model"].evaluate(p, inputs)["output"], targets)
    )(s["params"])  # fmt: skip
    _, expected = s["compiled_model"].evaluate(
        s["params"], inputs, output_gradients=lambda o: {"output": losses.mse_loss_gradient(o["output"], targets)}
    )
    for name, g in expected.items():
        np.testing.assert_allclose(gradients[name], g, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------------------------------------------ patterns


def patterns(engine):
    """A session with the functions of "Common Patterns", and with those that they call."""
    backend = gl.get_backend(engine)
    s = Session(
        engine, (), ml=gl, backend=backend, Adam=lambda **o: Adam(**{**o, "learning_rate": 10 * o["learning_rate"]})
    )
    for heading, fill in (
        ("Early Stopping", {"range(1000)": "range(8)"}),
        ("Cross-Validation", {}),
        ("Hyperparameter Tuning", {}),
    ):
        s.run(PAGE, heading, fill=fill)

    def create_data_loader(data, targets, shuffle=True, batch_size=32):
        return [
            (backend.array(data[i : i + batch_size]), backend.array(targets[i : i + batch_size]))
            for i in range(0, len(data), batch_size)
        ]

    def split_train_val(data, targets, batch_size):
        return tuple(
            create_data_loader(data[i], targets[i], batch_size=batch_size) for i in (slice(64), slice(64, None))
        )

    def train_epoch(model, params, optimizer, state, batches):
        total = 0.0
        for x, y in batches:
            outputs, gradients = model.evaluate(
                params,
                {"input": x},
                output_gradients=lambda o, y=y: {"output": losses.mse_loss_gradient(o["output"], y)},
            )
            params, state = optimizer.update(params, gradients, state)
            total += losses.mse_loss(outputs["output"], y)
        return params, state, total / len(batches)

    def evaluate(model, params, batches):
        return sum(losses.mse_loss(model.evaluate(params, {"input": x})["output"], y) for x, y in batches) / len(
            batches
        )

    given = (create_data_loader, split_train_val, train_epoch, evaluate)
    s.names.update({f.__name__: f for f in given})
    return s


def small():
    model = gl.Model()
    model |= gl.Linear(8)(input="input")
    model += gl.models.Tanh()
    model += gl.Linear(4)
    return model


def cross_validation(engine):
    s = patterns(engine)
    scores, average = s["cross_validate"](small(), *dataset(37), n_folds=2)
    return [float(s.host(v)) for v in (*scores, average)]


def test_cross_validation(backend):
    numbers = same_on(backend, cross_validation)
    assert len(numbers) == 3 and max(numbers) < 1
    np.testing.assert_allclose(numbers[-1], np.mean(numbers[:2]), rtol=1e-5)


def search(engine):
    s = patterns(engine)
    grid = {"learning_rate": [0.1, 0.01], "batch_size": [64, 32]}
    params, best, score = s["grid_search"](small(), *dataset(), grid)
    # The guide's train_with_early_stopping has an optimizer of its own, so rates are equal, and the first one is kept.
    assert best == {"learning_rate": 0.1, "batch_size": 32} and len(s.said) == 4 * 8 + 4 + 1
    assert all(type(p) in s["backend"].array_types for p in params.values())
    return [float(s.host(score)), *s.host(params["linear.bias"])]


def test_grid_search(backend):
    same_on(backend, search, rtol=1e-3)


def test_early_stopping(backend):
    s = patterns(backend)
    s.run(PAGE, "Early Stopping")
    compiled = gl.compile(small(), backend, shapes={"input": [None, 6]})
    engine, params = s["backend"], compiled.get_parameters()
    course = iter([3.0, 2.0, 2.5, 1.0, *[1.5] * 99])

    def train_epoch(model, params, optimizer, state, data):
        return Parameters((n, p + 1) for n, p in params.items()), state, engine.array(0.0)

    s.names.update(train_epoch=train_epoch, evaluate=lambda *args: engine.array(next(course)))
    best, score = s["train_with_early_stopping"](compiled, params, None, None, patience=5)
    assert float(engine.to_numpy(score)) == 1 and s.said[-1] == "Early stopping after 9 epochs"
    for name, p in best.items():  # those of the fourth epoch
        np.testing.assert_allclose(s.host(p), s.host(params[name]) + 4, rtol=1e-5)
