"""The training step: what is done with one batch, in the order in which one would write it; and how it is compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .. import nn, ops, tree
from ..graph.jit import jit
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
    (loss * weight).backward()
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
        return ops.sum(ops.astype(counts, dtype=_float_of(outputs)))
    safe = ops.where(counts, targets, 0)
    return ops.sum(ops.where(counts, ops.take(weight, safe, axis=0), 0.0))


def _float_of(outputs: Any) -> Any:
    leaves = [x for x in tree.flatten(outputs)[0] if isinstance(x, Tensor)]
    return leaves[0].dtype if leaves else None


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
    return tree.map(lambda x: x if isinstance(x, Tensor) or not hasattr(x, "shape") else tensor(x), batch)
