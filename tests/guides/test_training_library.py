"""The guide "Training Library": its optimizers and schedulers, in loops of one's own."""

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
