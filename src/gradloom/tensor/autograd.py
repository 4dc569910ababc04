"""Gradients as PyTorch's `autograd` gives them: `backward`, `grad`, `Function`."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..errors import GradientError, ShapeError, explain
from ..graph.graph import PLACE
from . import tape
from .grad_mode import MODE, set_grad_enabled
from .storage import STRUCTURE
from .tape import Leaf, Raw, Recorded


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Accumulates the gradients of `tensors` into the `grad` of the leaves; see `Tensor.backward`.

    Args:
        tensors: A Tensor or a sequence of them.
        grad_tensors: Their cotangents; None for Tensors of one element.
        retain_graph: Keep what another pass needs. Default: `create_graph`.
        create_graph: Record the pass itself.
        inputs: Accumulate into these leaves only.
    """
    if PLACE.graph is not None and PLACE.phase != "backward":
        with PLACE.within("backward"):
            return backward(tensors, grad_tensors, retain_graph, create_graph, inputs)
    how = Recorded if create_graph else Raw
    roots = _roots(tensors, grad_tensors, how)
    wanted = None
    if inputs is not None:
        inputs = [inputs] if isinstance(inputs, tape.Tensor) else list(inputs)
        if not inputs:
            raise GradientError("`inputs` argument to `backward()` cannot be empty.")
        wanted = {id(n): n for n in (_node(t, "backward") for t in inputs)}
    retain = create_graph if retain_graph is None else retain_graph
    with set_grad_enabled(create_graph):
        found = tape.run(roots, how, retain, wanted)
        for node, g in found.values():
            t = node.tensor() if type(node) is Leaf else next((t for t in inputs or () if t._node is node), None)
            if t is not None:
                _accumulate(t, g, how)
                if type(node) is Leaf and node.after:
                    for hook in list(node.after.values()):
                        hook(t)


def _accumulate(t: Any, g: Any, how: Any) -> None:
    before = t._grad
    if before is not None and type(before) is not tape.Tensor:
        before = before()  # what a compiled step was given, or did not keep: then it raises
    if before is None:
        STRUCTURE.version += 1
    elif how is Raw:
        g = ops.add.op.kernels[type(g)](before._array, g)  # out of place: somebody may hold the old gradient
    else:
        g = ops.add(before, g)
    t._grad = how.wrap(g)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple:
    """The gradients of `outputs` with respect to `inputs`; no `grad` attribute is changed.

    Args:
        outputs: A Tensor or a sequence of them; the gradient is of their sum, weighted by `grad_outputs`.
        inputs: The Tensors, leaves or not, whose gradients are wanted.
        grad_outputs: Cotangents of the outputs; None for outputs of one element.
        retain_graph: Keep what another pass needs. Default: `create_graph`.
        create_graph: Record the pass, so that the gradients can be differentiated.
        allow_unused: Give None for an input that no output depends on, instead of an error.
        materialize_grads: Give zeros instead of None there.

    Returns:
        One gradient for each input.

    Example:
        >>> import gradloom as gl
        >>> x = gl.tensor(2.0, requires_grad=True)
        >>> (g,) = gl.autograd.grad(x**3, x, create_graph=True)
        >>> gl.autograd.grad(g, x)
        (tensor(12.),)
    """
    if PLACE.graph is not None and PLACE.phase != "backward":
        with PLACE.within("backward"):
            return grad(outputs, inputs, grad_outputs, retain_graph, create_graph, allow_unused, materialize_grads)
    inputs = [inputs] if isinstance(inputs, tape.Tensor) else list(inputs)
    how = Recorded if create_graph else Raw
    roots = _roots(outputs, grad_outputs, how)
    nodes = [_node(t, "grad") for t in inputs]
    if allow_unused is None:
        allow_unused = materialize_grads
    with set_grad_enabled(create_graph):
        found = tape.run(roots, how, create_graph if retain_graph is None else retain_graph, {id(n): n for n in nodes})
        result = []
        for t, node in zip(inputs, nodes, strict=True):
            _, g = found.get(id(node), (None, None))
            if g is None:
                if not allow_unused:
                    raise GradientError(
                        "One of the differentiated Tensors appears to not have been used in the graph. Set allow_unused=True if this "
                        "is the desired behavior."
                    )
                result.append(ops.zeros_like(t) if materialize_grads else None)
                continue
            result.append(how.wrap(g))
    return tuple(result)


def _node(t: Any, what: str) -> Any:
    if not isinstance(t, tape.Tensor):
        raise TypeError(f"{what} expected Tensors as inputs but got {type(t).__name__}")
    if t._node is None:
        raise GradientError("One of the differentiated Tensors does not require grad")
    return t._node


def _roots(tensors: Any, cotangents: Any, how: Any) -> list:
    Tensor = tape.Tensor
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if cotangents is None or isinstance(cotangents, Tensor):
        cotangents = [cotangents] * (1 if cotangents is not None else len(tensors))
    if len(cotangents) != len(tensors):
        raise GradientError(f"got {len(tensors)} tensors and {len(cotangents)} gradients")
    roots = []
    for t, g in zip(tensors, cotangents, strict=True):
        if t._node is None:
            raise GradientError(
                "element 0 of tensors does not require grad and does not have a grad_fn"
                if MODE.enabled
                else "element 0 of tensors does not require grad and does not have a grad_fn (it was computed under no_grad)"
            )
        if g is None:
            if t.numel() != 1:
                raise GradientError(
                    explain(
                        "grad can be implicitly created only for scalar outputs",
                        given=f"a Tensor of shape {list(t.shape)}",
                        do="reduce it (.sum(), .mean()) or pass its cotangent: backward(gradient)",
                    )
                )
            x = t._array
            g = Raw.wrap(ops.ones_like.op.kernels[type(x)](x))
        else:
            if not isinstance(g, Tensor):
                g = tape._operand(g)
            if tuple(g.shape) != tuple(t.shape):
                raise ShapeError(
                    f"Mismatch in shape: grad_output[0] has a shape of {list(g.shape)} and output[0] has a shape of {list(t.shape)}."
                )
        roots.append((t._node, g if how is Recorded else g._array))
    return roots
