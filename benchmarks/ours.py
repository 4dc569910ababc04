"""gradloom on each engine, written as its users write it. ``jit=False``: the same lines, eagerly."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import gradloom as gl
from benchmarks import workloads
from benchmarks.harness import Step
from benchmarks.workloads import Workload


def add(backend: str = "numpy") -> Step:
    """One small sum that is recorded for a gradient."""
    gl.set_default_backend(backend)
    work = workloads.tiny()
    a, b = gl.tensor(work.x, requires_grad=True), gl.tensor(work.y)
    return lambda: a + b


def tiny_functional(backend: str = "numpy") -> Step:
    """Forward and backward of the tiny MLP on leaf tensors, eagerly."""
    gl.set_default_backend(backend)
    work = workloads.tiny()
    x, y = gl.tensor(work.x), gl.tensor(work.y)
    w1, b1, w2, b2 = (gl.tensor(w, requires_grad=True) for w in work.weights.values())
    linear, relu, mse_loss = gl.nn.functional.linear, gl.nn.functional.relu, gl.nn.functional.mse_loss

    def step() -> tuple[Any, ...]:
        w1.grad = b1.grad = w2.grad = b2.grad = None
        loss = mse_loss(linear(relu(linear(x, w1, b1)), w2, b2), y)
        loss.backward()
        return loss, w1.grad, b1.grad, w2.grad, b2.grad

    return step


def tiny_modules(backend: str = "numpy", jit: bool = False) -> Step:
    """The tiny MLP as modules, with Adam."""
    gl.set_default_backend(backend)
    model = gl.nn.Sequential(*linear_layers(workloads.TINY_SIZES, gl.nn.ReLU))
    return _waiting(*_trained(model, gl.nn.MSELoss(), workloads.tiny(), jit), backend)


def mlp(backend: str = "numpy", jit: bool = True, batch: int = 64) -> Step:
    """A step of the MLP."""
    gl.set_default_backend(backend)
    model = gl.nn.Sequential(*linear_layers(workloads.MLP_SIZES, gl.nn.ReLU))
    return _waiting(*_trained(model, gl.nn.CrossEntropyLoss(), workloads.mlp(batch), jit), backend)


def mlp_dropout(backend: str = "numpy", jit: bool = True, rate: float = workloads.DROPOUT) -> Step:
    """A step of the MLP with dropout after each relu."""
    gl.set_default_backend(backend)
    layers = linear_layers(workloads.MLP_SIZES, gl.nn.ReLU, lambda: gl.nn.Dropout(rate))
    work = workloads.mlp(dropout=True)
    return _waiting(*_trained(gl.nn.Sequential(*layers), gl.nn.CrossEntropyLoss(), work, jit), backend)


def lenet(backend: str = "numpy", jit: bool = True, batch: int = 64) -> Step:
    """A step of LeNet."""
    gl.set_default_backend(backend)
    model = gl.nn.Sequential(
        gl.nn.Conv2d(1, 6, 5, padding=2),
        gl.nn.ReLU(),
        gl.nn.MaxPool2d(2),
        gl.nn.Conv2d(6, 16, 5),
        gl.nn.ReLU(),
        gl.nn.MaxPool2d(2),
        gl.nn.Flatten(),
        *linear_layers(workloads.LENET_LINEAR, gl.nn.ReLU),
    )
    return _waiting(*_trained(model, gl.nn.CrossEntropyLoss(), workloads.lenet(batch), jit), backend)


def deep_mlp(backend: str = "numpy", jit: bool = True, layers: int = 64, width: int = 32, batch: int = 64) -> Step:
    """A step of the deep MLP."""
    gl.set_default_backend(backend)
    return _waiting(*_deep_mlp(jit, layers, width, batch), backend)


def chain(backend: str = "numpy", tensors: int = 8) -> Step:
    """A jitted step of plain gradient descent on a chain of small linear layers."""
    gl.set_default_backend(backend)
    return _waiting(*_chain(tensors), backend)


def chain_calls(tensors: int, backend: str) -> tuple[Step, Step]:
    """The chain's jitted step, and the engine's own compiled function inside of it called alone."""
    gl.set_default_backend(backend)
    step, x, y = _chain(tensors)
    whole = _waiting(step, x, y, backend)
    whole()
    inner = step.bare(x, y)
    if backend != "jax":
        return whole, inner

    def engine() -> Any:
        import jax

        return jax.block_until_ready(inner())

    return whole, engine


def trace_cost(backend: str = "numpy", layers: int = 64) -> dict[str, float]:
    """What a first call spends on tracing and emitting, and how many nodes the graph has."""
    gl.set_default_backend(backend)
    step, x, y = _deep_mlp(True, layers, 32, 64)
    begin = time.perf_counter()
    _waiting(step, x, y, backend)()
    first = time.perf_counter() - begin
    return {"trace": step.trace_seconds, "nodes": step.node_count, "first": first}


def linear_layers(sizes: tuple[int, ...], *between: Callable[[], Any]) -> list[Any]:
    """Linear layers of these sizes, with new ``between`` layers between two of them."""
    layers: list[Any] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [make() for make in between] if layers else []
        layers.append(gl.nn.Linear(inputs, outputs))
    return layers


def _deep_mlp(jit: bool, layers: int, width: int, batch: int) -> tuple[Any, Any, Any]:
    model = gl.nn.Sequential(*linear_layers((width,) * (layers + 1), gl.nn.ReLU))
    return _trained(model, gl.nn.CrossEntropyLoss(), workloads.deep_mlp(layers, width, batch), jit)


def _chain(tensors: int) -> tuple[Any, Any, Any]:
    model = gl.nn.Sequential(*linear_layers((4,) * (tensors // 2 + 1)))
    sgd = gl.optim.SGD(model.parameters(), lr=workloads.LEARNING_RATE)
    return _trained(model, gl.nn.MSELoss(), workloads.chain(tensors), True, sgd)


def _trained(model: Any, criterion: Any, work: Workload, jit: bool, optimizer: Any = None) -> tuple[Any, Any, Any]:
    """The training step of a model with the workload's weights (Adam unless given), and its inputs."""
    model.load_state_dict({name: gl.tensor(w) for name, w in work.weights.items()})
    if optimizer is None:
        optimizer = gl.optim.Adam(model.parameters(), lr=workloads.LEARNING_RATE)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return gl.jit(step) if jit else step, gl.tensor(work.x), gl.tensor(work.y)


def _waiting(step: Any, x: Any, y: Any, backend: str) -> Step:
    """The step on its inputs; on JAX, which answers before it has computed, it waits for the loss."""
    if backend != "jax":
        return lambda: step(x, y)

    def waited() -> Any:
        loss = step(x, y)
        loss.native.block_until_ready()
        return loss

    return waited
