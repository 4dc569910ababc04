"""The training step: what is done with one batch, in the order in which one would write it; and how it is compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .. import nn, ops, tree
from ..graph.jit import jit
from ..nn.utils import clip_grad_norm_, clip_grad_value_
from ..tensor.creation import tensor
from ..tensor.grad_mode import no_grad
from ..tensor.tensor import Tensor


def train_step(
    model: Any, optimizer: Any, loss_fn: Any, inputs: Any, targets: Any, before_update: Callable | None = None
) -> tuple[Tensor, Any]:
    """One step of training: forward, loss, backward, update. A step of one's own takes the first five and gives the same.

    Args:
        model: A module.
        optimizer: With PyTorch's face.
        loss_fn: Gives a 0-d Tensor, the mean over the batch.
        inputs, targets: Of one batch.
        before_update: Called with the model when the gradients are there: to clip them.

    Returns:
        (the loss, the outputs).
    """
    optimizer.zero_grad()
    outputs = forward(model, inputs)
    loss = compute_loss(loss_fn, outputs, targets)
    loss.backward()
    if before_update is not None:
        before_update(model)
    optimizer.step()
    return loss, outputs


def micro_step(model: Any, loss_fn: Any, inputs: Any, targets: Any, size: int) -> tuple[Tensor, Any, Any]:
    """The part of a step that is done for each micro-batch: its gradients, times its weight, are added to those that are there.

    Returns:
        (the loss, the outputs, the weight).
    """
    outputs = forward(model, inputs)
    loss = compute_loss(loss_fn, outputs, targets)
    weight = loss_weight(loss_fn, outputs, targets, size)
    (loss * (ops.astype(weight, dtype=loss.dtype) if isinstance(weight, Tensor) else weight)).backward()
    return loss, outputs, weight


def update_step(model: Any, optimizer: Any, total: Any, before_update: Callable | None = None) -> None:
    """The rest: the gradients are divided by the total weight, once, and the optimizer updates."""
    with no_grad():
        for p in model.parameters():
            if p.grad is not None:
                p.grad = p.grad / ops.astype(total, dtype=p.dtype)
    if before_update is not None:
        before_update(model)
    optimizer.step()
    optimizer.zero_grad()


def forward(model: Any, inputs: Any) -> Any:
    """The model's outputs: of a dict of inputs by their names, of a tuple or list by position."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


def compute_loss(loss_fn: Any, outputs: Any, targets: Any) -> Tensor:
    """The loss: of outputs and targets; without a loss function what the model gives."""
    if loss_fn is None:
        return outputs["final_cost"] if isinstance(outputs, Mapping) and "final_cost" in outputs else outputs
    return loss_fn(outputs, targets) if targets is not None else loss_fn(outputs)


def loss_weight(loss_fn: Any, outputs: Any, targets: Any, size: int) -> Any:
    """What a mean loss is the mean over: the number of samples, or of the targets that count.

    A loss that is divided by the sum of classes' weights, or by the number of targets that are not ignored, has that as its weight:
    only so do micro-batches, a short last batch and several devices add up to the loss of the big batch.
    """
    classes = isinstance(loss_fn, (nn.CrossEntropyLoss, nn.NLLLoss)) and loss_fn.reduction == "mean"
    if not classes or not isinstance(targets, Tensor) or targets.dtype.kind == "float":
        return size
    weight = getattr(loss_fn, "weight", None)
    counts = targets != loss_fn.ignore_index
    if weight is None:
        return ops.sum(counts)
    safe = ops.where(counts, targets, 0)
    return ops.sum(ops.where(counts, ops.take(weight, safe, axis=0), 0.0))


def batch_size(inputs: Any) -> int:
    """The number of samples: the length of the first input's first axis."""
    first = next((x for x in tree.flatten(inputs)[0] if isinstance(x, Tensor)), None)
    return first.shape[0] if first is not None and first.ndim else 1


def clipping(norm: float | None, value: float | None) -> Callable | None:
    """What limits a model's gradients; None where nothing does."""
    if norm is None and value is None:
        return None

    def clip(model: Any) -> None:
        if norm is not None:
            clip_grad_norm_(model.parameters(), norm)
        if value is not None:
            clip_grad_value_(model.parameters(), value)

    return clip


# What the loop compiles: functions of a batch, whose closures are the model, the optimizer and the loss, and no loop.


def training_steps(model: Any, optimizer: Any, loss_fn: Any, tracker: Any, step: Callable, clip: Any) -> Callable:
    """A whole step: (what the tracker takes, None)."""
    more = {} if clip is None else {"before_update": clip}

    def training_step(inputs: Any, targets: Any) -> Any:
        loss, outputs = step(model, optimizer, loss_fn, inputs, targets, **more)
        with no_grad():
            weight = loss_weight(loss_fn, outputs, targets, batch_size(inputs))
            return tracker.in_step(loss, weight, outputs, targets), None

    return training_step


def micro_steps(model: Any, optimizer: Any, loss_fn: Any, tracker: Any) -> Callable:
    """The part of a step that is done for each micro-batch: (what the tracker takes, the weight)."""

    def accumulation_step(inputs: Any, targets: Any) -> Any:
        loss, outputs, weight = micro_step(model, loss_fn, inputs, targets, batch_size(inputs))
        with no_grad():
            seen = tracker.in_step(loss, weight, outputs, targets)
            return seen, weight if isinstance(weight, Tensor) else ops.add(ops.zeros_like(loss), float(weight))

    return accumulation_step


def updates(model: Any, optimizer: Any, clip: Any) -> Callable:
    """The rest of it, of the weights of the micro-batches."""

    def accumulated_update(weights: Any, _: Any) -> None:
        update_step(model, optimizer, sum(weights), clip)

    return accumulated_update


def evaluation_steps(model: Any, loss_fn: Any, tracker: Any) -> Callable:
    """A batch of validation: what the tracker takes."""

    def evaluation_step(inputs: Any, targets: Any) -> Any:
        outputs = forward(model, inputs)
        loss = compute_loss(loss_fn, outputs, targets)
        weight = loss_weight(loss_fn, outputs, targets, batch_size(inputs))
        return tracker.in_step(loss, weight, outputs, targets)

    return evaluation_step


def prediction_steps(model: Any) -> Callable:
    """A batch to predict: the outputs."""

    def prediction_step(inputs: Any, _: Any) -> Any:
        return forward(model, inputs)

    return prediction_step


class Compiled:
    """A function of a batch, compiled once for each structure of batches; its Tensors go in as plain arguments, which is the short way.

    Args:
        fn: `fn(inputs, targets)`.
        compiles: Else it is run eagerly.
        keep_grads: The gradients stay on the parameters, for the next call.
    """

    def __init__(self, fn: Callable, compiles: bool, keep_grads: bool = False):
        self.fn, self.compiles, self.keep_grads = fn, compiles, keep_grads
        fn.__jit_follow__ = True  # type: ignore[attr-defined]  # its closure has the model
        self._made: dict[Any, Callable] = {}
        self._pair: Callable | None = None
        self.last: Any = None

    def __call__(self, inputs: Any, targets: Any) -> Any:
        if not self.compiles:
            return self.fn(inputs, targets)
        if type(inputs) is Tensor and type(targets) is Tensor:
            if self._pair is None:
                self._pair = self.last = jit(self.fn, keep_grads=self.keep_grads)
            return self._pair(inputs, targets)
        leaves, structure = tree.flatten((inputs, targets))
        places = tuple(isinstance(x, Tensor) for x in leaves)
        rest = tuple(x for x in leaves if not isinstance(x, Tensor))
        key = (
            structure,
            places,
            rest if all(isinstance(x, (int, float, str, bool, type(None))) for x in rest) else None,
        )
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self.last = jit(
                _of_leaves(self.fn, structure, places, rest), keep_grads=self.keep_grads
            )
        return made(*(x for x in leaves if isinstance(x, Tensor)))

    @property
    def source(self) -> str:
        """The emitted step of the last batch."""
        return self.last.source


def _of_leaves(fn: Callable, structure: Any, places: tuple, rest: tuple) -> Callable:
    def step(*tensors: Tensor) -> Any:
        given, others = iter(tensors), iter(rest)
        inputs, targets = tree.unflatten(structure, [next(given) if t else next(others) for t in places])
        return fn(inputs, targets)

    return step


def as_tensors(batch: Any) -> Any:
    """A batch with Tensors in place of arrays, of whatever kind they are."""
    if type(batch) is Tensor or batch is None:
        return batch
    return tree.map(lambda x: x if isinstance(x, Tensor) or not hasattr(x, "shape") else tensor(x), batch)
