"""PyTorch, eager, as its users write it. ``fused`` picks the fused Adam; without it, the default one."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import workloads
from benchmarks.harness import Step
from benchmarks.workloads import Workload


def add() -> Step:
    """One small sum that is recorded for a gradient."""
    work = workloads.tiny()
    a, b = torch.tensor(work.x, requires_grad=True), torch.tensor(work.y)
    return lambda: a + b


def tiny_functional(how: str = "backward") -> Step:
    """Forward and backward of the tiny MLP on leaf tensors, by ``"backward"`` or ``"grad"``."""
    work = workloads.tiny()
    x, y = torch.tensor(work.x), torch.tensor(work.y)
    parameters = [torch.tensor(w, requires_grad=True) for w in work.weights.values()]
    w1, b1, w2, b2 = parameters
    linear, relu, mse_loss, grad = F.linear, F.relu, F.mse_loss, torch.autograd.grad

    def with_grad() -> tuple[Any, ...]:
        loss = mse_loss(linear(relu(linear(x, w1, b1)), w2, b2), y)
        return loss, *grad(loss, parameters)

    def with_backward() -> tuple[Any, ...]:
        w1.grad = b1.grad = w2.grad = b2.grad = None
        loss = mse_loss(linear(relu(linear(x, w1, b1)), w2, b2), y)
        loss.backward()
        return loss, w1.grad, b1.grad, w2.grad, b2.grad

    return {"grad": with_grad, "backward": with_backward}[how]


def tiny_modules(fused: bool) -> Step:
    """The tiny MLP as modules, with Adam."""
    inputs, hidden, outputs = workloads.TINY_SIZES
    model = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    return _training_step(model, nn.MSELoss(), workloads.tiny(), _adam(model, fused))


def mlp(fused: bool, batch: int = 64) -> Step:
    """A step of the MLP."""
    model = nn.Sequential(*linear_layers(workloads.MLP_SIZES, nn.ReLU))
    return _training_step(model, nn.CrossEntropyLoss(), workloads.mlp(batch), _adam(model, fused))


def mlp_dropout(fused: bool, rate: float = workloads.DROPOUT) -> Step:
    """A step of the MLP with dropout after each relu."""
    model = nn.Sequential(*linear_layers(workloads.MLP_SIZES, nn.ReLU, lambda: nn.Dropout(rate)))
    work = workloads.mlp(dropout=True)
    return _training_step(model, nn.CrossEntropyLoss(), work, _adam(model, fused))


def deep_mlp(fused: bool, layers: int = 64, width: int = 32, batch: int = 64) -> Step:
    """A step of the deep MLP."""
    model = nn.Sequential(*linear_layers((width,) * (layers + 1), nn.ReLU))
    work = workloads.deep_mlp(layers, width, batch)
    return _training_step(model, nn.CrossEntropyLoss(), work, _adam(model, fused))


def lenet(fused: bool, batch: int = 64) -> Step:
    """A step of LeNet."""
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        *linear_layers(workloads.LENET_LINEAR, nn.ReLU),
    )
    return _training_step(model, nn.CrossEntropyLoss(), workloads.lenet(batch), _adam(model, fused))


def chain(tensors: int) -> Step:
    """A step of plain gradient descent on a chain of small linear layers."""
    work = workloads.chain(tensors)
    model = nn.Sequential(*linear_layers((4,) * (tensors // 2 + 1)))
    optimizer = torch.optim.SGD(model.parameters(), lr=workloads.LEARNING_RATE)
    return _training_step(model, nn.MSELoss(), work, optimizer)


def linear_layers(sizes: tuple[int, ...], *between: Any) -> list[nn.Module]:
    """Linear layers of these sizes, with new ``between`` layers between two of them."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [make() for make in between] if layers else []
        layers.append(nn.Linear(inputs, outputs))
    return layers


def _adam(model: nn.Module, fused: bool) -> torch.optim.Optimizer:
    options = {"fused": True} if fused else {}
    return torch.optim.Adam(model.parameters(), lr=workloads.LEARNING_RATE, **options)


def _training_step(model: nn.Module, criterion: nn.Module, work: Workload, optimizer: torch.optim.Optimizer) -> Step:
    model.load_state_dict({name: torch.tensor(w) for name, w in work.weights.items()})
    x, y = torch.tensor(work.x), torch.tensor(work.y)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step
