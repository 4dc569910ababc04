"""The guide "Training Library": its loop, and its components in loops of one's own."""

from types import SimpleNamespace

import numpy as np
import pytest

import gradloom as gl
from gradloom.training.optimizers import SGD
from guides.pages import Session, assert_falls, same_on

PAGE = "training_library"
CUSTOM = "Custom Training Loop Example"
PATTERN = "Pattern 2: Custom Training Loop with Standard Components"
NO_METRICS = {"from gradloom.training.metrics import Accuracy": ""}  # which is not used there


def batches():
    rng = np.random.RandomState(1)
    x = rng.randn(4, 16, 6).astype("float32")
    return [(gl.tensor(a), gl.tensor(np.tanh(a[:, :2]))) for a in x]


def forward_backward(model, batch):
    x, y = batch
    loss = gl.nn.functional.mse_loss(model(x), y)
    return loss, gl.autograd.grad(loss, list(model.parameters()))


def session(engine, epochs, **fill):
    s = Session(engine, seen_losses=[], epochs=epochs, model=gl.nn.Linear(6, 2), train_loader=batches())
    s.names["custom_forward_backward"] = forward_backward
    keep = "optimizer.step(model.parameters(), grads)"
    s.run(PAGE, PATTERN, fill={**NO_METRICS, keep: f"{keep}\nseen_losses.append(loss.item())", **fill})
    return s


def pattern(engine):
    with gl.using_backend(engine):
        return session(engine, 5)["seen_losses"]


def test_a_loop_of_standard_components(backend):
    numbers = same_on(backend, pattern)
    assert len(numbers) == 20
    assert_falls([sum(numbers[:4]), sum(numbers[-4:])])


def test_the_same_by_pytorchs_face(backend):
    s = session(backend, 3)
    gl.manual_seed(0)
    model = gl.nn.Linear(6, 2)
    optimizer = gl.optim.Adam(model.parameters(), lr=0.001)
    scheduler = gl.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)
    for _ in range(3):
        for x, y in batches():
            optimizer.zero_grad()
            gl.nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
            scheduler.step()
    for ours, theirs in zip(s["model"].parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-5, atol=1e-6)
    expected = 0.001 * (1 + np.cos(np.pi * 12 / 100)) / 2
    assert s["optimizer"].get_lr() == pytest.approx(expected, rel=1e-9)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-9)


def custom(engine):
    """The numbers of the prints of the guide's loop, and the accuracy at its end, computed again."""
    with gl.using_backend(engine):
        s = Session(
            engine,
            compute_loss=gl.nn.functional.cross_entropy,
            compute_gradients=lambda loss, model: gl.autograd.grad(loss, list(model.parameters())),
        )
        s.run(PAGE, CUSTOM)
        model = gl.nn.Linear(6, 3)
        data = [SimpleNamespace(inputs=x, targets=x[:, :3].argmax(1)) for x, _ in batches()]
        s["custom_training_loop"](model, SGD(learning_rate=0.5, momentum=0.9), data, 6)
    losses = [float(line.split()[-1]) for line in s.said if line.startswith("Epoch:")]
    accuracies = [float(line.split()[-1]) for line in s.said if line.startswith("Accuracy:")]
    return [*losses, *accuracies]


def test_the_custom_loop(backend):
    numbers = same_on(backend, custom)
    losses, accuracies = numbers[:6], numbers[6:]
    assert_falls(losses)
    assert accuracies[-1] > accuracies[0] and accuracies[-1] > 0.8
    assert all(float(a * 64).is_integer() for a in accuracies)  # parts of 64 samples


def test_what_the_guide_asks_of_optimizers():
    """Its structs and traits: defaults and order of SGD's fields, `get_lr`, `set_lr`, `zero_grad`."""
    optimizer = SGD(0.01, 0.0, 0.0, 0.0, False)
    assert optimizer.param_groups == SGD().param_groups
    optimizer.set_lr(0.5)
    assert optimizer.get_lr() == optimizer.learning_rate == 0.5
    optimizer.zero_grad()


# ------------------------------------------------------------------------------------------------------------- the loop

BASIC, WITH_VALIDATION = "Basic Training Loop Example", "Pattern 1: Basic Training with Validation"
COMPOSING = "Pattern 3: Composing Callbacks"


def basic(engine, epochs=12):
    with gl.using_backend(engine):
        s = Session(engine, ())
        model = gl.nn.Linear(6, 3)
        data = [(x, x[:, :3].argmax(1)) for x, _ in batches()]
        fill = {
            "model=my_model,": "model=my_model, loss_fn=loss_fn,", "epochs=100": f"epochs={epochs}",
            "learning_rate=0.001": "learning_rate=0.1",
        }  # fmt: skip
        names = {
            "my_model": model,
            "loss_fn": gl.nn.CrossEntropyLoss(),
            "train_loader": data[:3],
            "val_loader": data[3:],
        }
        return s.run(PAGE, BASIC, fill=fill, **names)


def basic_numbers(engine):
    history = basic(engine)["loop"].history
    return [*history["train_loss"], *history["val_loss"]]


@pytest.fixture
def in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_basic_loop(backend, in_tmp):
    numbers = same_on(backend, basic_numbers)
    assert_falls(numbers[:12])
    s = basic(backend)
    loop = s["loop"]
    history = loop.history
    assert set(history) == {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr"}
    rates = [1e-6 + (0.1 - 1e-6) * (1 + np.cos(np.pi * e / 100)) / 2 for e in range(12)]
    np.testing.assert_allclose(history["lr"], rates, rtol=1e-6)
    saved = gl.load(in_tmp / "checkpoints" / "best_model.mojo")
    epoch, best = history.best("val_accuracy", "max")
    assert saved["epoch"] == epoch + 1 and s["checkpoint"].best == best > 0.5
    assert (
        s["val_acc"] is loop.val_tracker.metrics["accuracy"] and s["val_acc"].compute() == history["val_accuracy"][-1]
    )


def test_the_basic_loop_stops_early(in_tmp):
    s = Session("numpy", ())
    x = batches()[0][0]
    y = x[:, :3].argmax(1)
    data = [(x, y)]
    optimizer = "learning_rate=0.001"
    names = {
        "my_model": gl.nn.Linear(6, 3),
        "loss_fn": gl.nn.CrossEntropyLoss(),
        "train_loader": data,
        "val_loader": data,
    }
    s.run(
        PAGE,
        BASIC,
        fill={
            "model=my_model,": "model=my_model, loss_fn=loss_fn,",
            optimizer: "learning_rate=0.0",
            "eta_min=1e-6": "eta_min=0.0",
        },
        **names,
    )
    assert s["loop"].epoch == 11  # the first, and ten without an improvement
    assert "EarlyStopping: val_loss" in s["loop"].callbacks.stop_reason


def test_pattern_1(backend, in_tmp):
    class Costly(gl.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = gl.nn.Linear(6, 2)

        def forward(self, x, y):
            return gl.nn.functional.mse_loss(self.linear(x), y)

    model = Costly()
    data = [SimpleNamespace(inputs=(x, y)) for x, y in batches()]
    s = Session(backend, (), model=model, optimizer=gl.optim.Adam(model.parameters(), lr=0.02))
    s.run(PAGE, WITH_VALIDATION, fill={"epochs=100": "epochs=8"}, train_data=data[:3], val_data=data[3:])
    history = s["loop"].history
    assert_falls(history["val_loss"])
    assert gl.load(in_tmp / "best_model.mojo")["epoch"] == history.best("val_loss")[0] + 1


def test_pattern_3(backend, in_tmp):
    from gradloom.training import callbacks

    losses = [3.0, 2.0, 1.0, *[1.5] * 20]
    names = {n: getattr(callbacks, n) for n in ("EarlyStopping", "ModelCheckpoint", "CSVLogger", "TensorBoardLogger")}
    fill = {
        "# Training logic...": 'logs = {"train_loss": 2 * losses[epoch], "val_loss": losses[epoch]}',
        "callbacks.on_epoch_end(epoch, logs)": "callbacks.on_epoch_end(epoch, logs)\nif callbacks.should_stop:\n    break",
    }
    with pytest.warns(UserWarning, match="ModelCheckpoint knows no model here"):
        s = Session(backend, ()).run(PAGE, COMPOSING, fill=fill, losses=losses, epochs=len(losses), **names)
    s["callbacks"].on_train_end()
    assert s["epoch"] == 12  # ten epochs after the best one, which is epoch 2
    assert len(list((in_tmp / "checkpoints").iterdir())) == 13
    lines = (in_tmp / "training.log").read_text().splitlines()
    assert lines[0].split(",")[:3] == ["epoch", "train_loss", "val_loss"] and len(lines) == 14
    assert lines[3].split(",")[2] == "1.0"
    (events,) = (in_tmp / "logs").rglob("*tfevents*")
    assert events.stat().st_size > 100
