"""JAX by hand: pure functions, ``jax.jit`` of loss, gradients and optax's Adam together, state donated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from benchmarks import workloads
from benchmarks.harness import Step

Pairs = list[tuple[jax.Array, jax.Array]]  # (weight, bias) of every layer


def mlp(batch: int = 64) -> Step:
    """A step of the MLP."""
    work = workloads.mlp(batch)
    return _training_step(_classification(_dense), _pairs(work.weights), work.x, work.y)


def deep_mlp(layers: int = 64, width: int = 32, batch: int = 64) -> Step:
    """A step of the deep MLP."""
    work = workloads.deep_mlp(layers, width, batch)
    return _training_step(_classification(_dense), _pairs(work.weights), work.x, work.y)


def mlp_dropout(rate: float = workloads.DROPOUT) -> Step:
    """A step of the MLP with dropout after each relu; the key is part of the donated state."""
    work = workloads.mlp(dropout=True)
    optimizer = optax.adam(workloads.LEARNING_RATE)

    def dropout(key: jax.Array, h: jax.Array) -> jax.Array:
        return jnp.where(jax.random.bernoulli(key, 1 - rate, h.shape), h / (1 - rate), 0)

    def loss_of(params: Pairs, key: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        keys = jax.random.split(key, len(params) - 1)
        for (w, b), layer_key in zip(params[:-1], keys, strict=True):
            x = dropout(layer_key, jax.nn.relu(x @ w.T + b))
        w, b = params[-1]
        return _cross_entropy(x @ w.T + b, y)

    def update(params: Any, state: Any, key: jax.Array, x: jax.Array, y: jax.Array) -> tuple[Any, ...]:
        key, used = jax.random.split(key)
        loss, grads = jax.value_and_grad(loss_of)(params, used, x, y)
        updates, state = optimizer.update(grads, state, params)
        return loss, optax.apply_updates(params, updates), state, key

    compiled = jax.jit(update, donate_argnums=(0, 1, 2))
    params = _pairs(work.weights)
    state, key = optimizer.init(params), jax.random.key(0)
    x, y = jnp.asarray(work.x), jnp.asarray(work.y, jnp.int32)

    def step() -> jax.Array:
        nonlocal params, state, key
        loss, params, state, key = compiled(params, state, key, x, y)
        return loss.block_until_ready()

    return step


def lenet(batch: int = 64) -> Step:
    """A step of LeNet as it is commonly written: NCHW, ``conv_general_dilated``, ``reduce_window``."""
    work = workloads.lenet(batch)

    def convolution(x: jax.Array, w: jax.Array, b: jax.Array, pad: int) -> jax.Array:
        x = lax.conv_general_dilated(x, w, (1, 1), [(pad, pad)] * 2, dimension_numbers=("NCHW", "OIHW", "NCHW"))
        return x + b[:, None, None]

    def max_pool(x: jax.Array) -> jax.Array:
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    def logits(params: Pairs, x: jax.Array) -> jax.Array:
        for (w, b), pad in zip(params[:2], (2, 0), strict=True):
            x = max_pool(jax.nn.relu(convolution(x, w, b, pad)))
        return _dense(params[2:], x.reshape(x.shape[0], -1))

    return _training_step(_classification(logits), _pairs(work.weights), work.x, work.y)


def lenet_tuned(batch: int = 64) -> Step:
    """A step of LeNet as XLA likes it on a CPU: NHWC, max-pooling by reshape."""
    work = workloads.lenet(batch)
    params = [(np.asarray(w), b) for w, b in _pairs(work.weights)]
    for i in (0, 1):
        params[i] = (params[i][0].transpose(2, 3, 1, 0), params[i][1])  # OIHW to HWIO
    w, b = params[2]  # reads pixels in the order (channel, row, column): now (row, column, channel)
    params[2] = (w.reshape(-1, 16, 5, 5).transpose(0, 2, 3, 1).reshape(w.shape), b)

    def convolution(x: jax.Array, w: jax.Array, b: jax.Array, pad: int) -> jax.Array:
        x = lax.conv_general_dilated(x, w, (1, 1), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return x + b

    def max_pool(x: jax.Array) -> jax.Array:
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))

    def logits(params: Pairs, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], 28, 28, 1)
        for (w, b), pad in zip(params[:2], (2, 0), strict=True):
            x = max_pool(jax.nn.relu(convolution(x, w, b, pad)))
        return _dense(params[2:], x.reshape(x.shape[0], -1))

    start = [(jnp.array(w), jnp.array(b)) for w, b in params]
    return _training_step(_classification(logits), start, work.x, work.y)


def chain(tensors: int) -> Step:
    """A step of plain gradient descent on a chain of small linear layers: many arrays, little arithmetic."""
    work = workloads.chain(tensors)

    def loss_of(params: Pairs, x: jax.Array, y: jax.Array) -> jax.Array:
        for w, b in params:
            x = x @ w.T + b
        return jnp.mean((x - y) ** 2)

    return _training_step(loss_of, _pairs(work.weights), work.x, work.y, optax.sgd(workloads.LEARNING_RATE))


def _pairs(weights: dict[str, np.ndarray]) -> Pairs:
    arrays = [jnp.array(w) for w in weights.values()]  # copies: they will be donated
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def _dense(params: Pairs, x: jax.Array) -> jax.Array:
    for w, b in params[:-1]:
        x = jax.nn.relu(x @ w.T + b)
    w, b = params[-1]
    return x @ w.T + b


def _cross_entropy(logits: jax.Array, y: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def _classification(logits: Callable[[Pairs, jax.Array], jax.Array]) -> Callable[..., jax.Array]:
    return lambda params, x, y: _cross_entropy(logits(params, x), y)


def _training_step(
    loss_of: Callable[..., jax.Array],
    params: Any,
    x: np.ndarray,
    y: np.ndarray,
    optimizer: optax.GradientTransformation | None = None,
) -> Step:
    """Loss, gradients and update in one compiled function that takes over the buffers of its state."""
    rule = optimizer or optax.adam(workloads.LEARNING_RATE)

    def update(params: Any, state: Any, x: jax.Array, y: jax.Array) -> tuple[Any, Any, Any]:
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        updates, state = rule.update(grads, state, params)
        return loss, optax.apply_updates(params, updates), state

    compiled = jax.jit(update, donate_argnums=(0, 1))
    state = rule.init(params)
    inputs = jnp.asarray(x)
    targets = jnp.asarray(y, jnp.int32 if y.dtype == np.int64 else None)

    def step() -> jax.Array:
        nonlocal params, state
        loss, params, state = compiled(params, state, inputs, targets)
        return loss.block_until_ready()

    return step
