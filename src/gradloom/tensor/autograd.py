"""Gradients as PyTorch's `autograd` gives them: `backward`, `grad`, `Function`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import ops
from ..errors import GradientError, OptionError, ShapeError, explain
from ..graph.graph import PLACE
from ..ops.op import kind_of
from . import tape
from .backprop import Recorded, leading_to, run
from .grad_mode import MODE
from .storage import STRUCTURE
from .tape import Leaf, Raw


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
    roots = _roots(tensors, grad_tensors, create_graph)
    wanted = None
    if inputs is not None:
        inputs = [inputs] if isinstance(inputs, tape.Tensor) else list(inputs)
        if not inputs:
            raise GradientError("`inputs` argument to `backward()` cannot be empty.")
        wanted = {id(n): n for n in (_node(t, "backward") for t in inputs)}
    before = MODE.enabled
    MODE.enabled = create_graph
    try:
        retain = create_graph if retain_graph is None else retain_graph
        found = run(roots, Recorded if create_graph else Raw, retain, wanted)
        STRUCTURE.version += 1  # some Tensors have a gradient now that had none
        for node, g in found.values():
            leaf = type(node) is Leaf
            t = node.tensor() if leaf else next((t for t in inputs or () if t._node is node), None)
            if t is not None and t._node is node:  # else it does not require a gradient any more
                _accumulate(t, g, create_graph)
                if leaf and node.after:
                    for hook in list(node.after.values()):
                        hook(t)
    finally:
        MODE.enabled = before


def _accumulate(t: Any, g: Any, recorded: bool) -> None:
    before = t._grad
    if before is not None and type(before) is not tape.Tensor:
        before = before()  # what a compiled step was given, or did not keep: then it raises
    if before is not None:  # out of place: somebody may hold the old gradient
        g = ops.add(before, g) if recorded else ops.add.op.kernels[type(g)](before._array, g)
    t._grad = g if recorded else Raw.wrap(g)


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

    Raises:
        GradientError: An input that no output depends on; no history; a second pass; a saved Tensor changed in place.

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
    roots = _roots(outputs, grad_outputs, create_graph)
    nodes = [_node(t, "grad") for t in inputs]
    if allow_unused is None:
        allow_unused = materialize_grads
    elif materialize_grads and not allow_unused:
        raise OptionError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False."
        )
    wanted = {id(n): n for n in nodes}
    useful = leading_to([n for n, _ in roots], wanted)
    for i, node in enumerate(nodes):
        if id(node) not in useful and not allow_unused:
            raise _unused(i)
    before = MODE.enabled
    MODE.enabled = create_graph
    try:
        retain = create_graph if retain_graph is None else retain_graph
        found = run(roots, Recorded if create_graph else Raw, retain, wanted, useful=useful)
    finally:
        MODE.enabled = before
    result = []
    for i, (t, node) in enumerate(zip(inputs, nodes, strict=True)):
        if id(node) in found:
            g = found[id(node)][1]
            result.append(g if create_graph else Raw.wrap(g))
        elif allow_unused:
            result.append(ops.zeros_like(t) if materialize_grads else None)
        else:
            raise _unused(i)
    return tuple(result)


def _unused(i: int) -> GradientError:
    return GradientError(
        f"The differentiated Tensor at index {i} appears to not have been used in the graph. Set allow_unused=True if this is the "
        "desired behavior."
    )


def _node(t: Any, what: str) -> Any:
    if not isinstance(t, tape.Tensor):
        raise TypeError(f"{what} expected Tensors as inputs but got {type(t).__name__}")
    if t._node is None:
        raise GradientError("One of the differentiated Tensors does not require grad")
    return t._node


def _roots(tensors: Any, cotangents: Any, recorded: bool) -> list:
    """[(node, cotangent)] of the Tensors that a pass starts from."""
    tensors = [tensors] if isinstance(tensors, tape.Tensor) else list(tensors)
    if cotangents is None:
        cotangents = [None] * len(tensors)
    elif kind_of(type(cotangents)) is not None or not isinstance(cotangents, Iterable):
        cotangents = [cotangents]
    else:
        cotangents = list(cotangents)
    if len(cotangents) != len(tensors):
        raise GradientError(f"got {len(tensors)} tensors and {len(cotangents)} gradients")
    return [_root(i, t, g, recorded) for i, (t, g) in enumerate(zip(tensors, cotangents, strict=True))]


def _root(i: int, t: Any, g: Any, recorded: bool) -> tuple:
    node, x = t._node, t._array
    if node is None:
        raise GradientError(
            f"element {i} of tensors does not require grad and does not have a grad_fn"
            + ("" if MODE.enabled else " (it was computed under no_grad)")
        )
    if g is None:
        if x.shape and t.numel() != 1:
            raise GradientError(
                explain(
                    "grad can be implicitly created only for scalar outputs",
                    given=f"a Tensor of shape {list(t.shape)}",
                    do="reduce it (.sum(), .mean()) or pass its cotangent: backward(gradient)",
                )
            )
        g = ops.ones_like.op.kernels[type(x)](x)
        return node, Raw.wrap(g) if recorded else g
    if kind_of(type(g)) is None:
        raise TypeError(f"gradients can be either Tensors or None, but got {type(g).__name__}")
    if not isinstance(g, tape.Tensor):
        g = Raw.wrap(g)
    if tuple(g.shape) != tuple(x.shape):
        raise ShapeError(
            f"Mismatch in shape: grad_output[{i}] has a shape of {list(g.shape)} and output[{i}] has a shape of {list(x.shape)}."
        )
    if g.dtype is not t.dtype:
        g = ops.astype(g, dtype=t.dtype)
    return node, g if recorded else g._array
