"""Loops and branches on Tensors: `scan`, `cond`, `while_loop`.

Traced, each is one node of the graph with the functions as graphs of their own. Eagerly a scan is such a node as well:
it is printed, compiled once and run; a cond runs the branch that is chosen, and a while_loop is Python's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops, tree
from ..backends.registry import backend_of
from ..backends.shapes import Spec
from ..errors import OptionError, ShapeError, explain, user_frame
from ..ops.control import while_loop as while_op
from ..ops.op import kind_of
from ..tensor.arrays import as_array, wrap
from ..tensor.grad_mode import MODE, set_grad_enabled
from ..tensor.tensor import Tensor
from .bodies import Traced, call, close, engine_of
from .graph import PLACE
from .jit import argument_names
from .loops import Cond, Scan, without_gradient


def scan(f: Callable, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False) -> tuple[Any, Any]:
    """A loop over time: `for t: carry, y[t] = f(carry, x[t])`, with the meaning of `jax.lax.scan`.

    It compiles to one loop whatever its length, and its gradient is one loop as well: the carries are kept, the rest of
    f is computed again. f may use Tensors from outside, such as the parameters of modules; their gradients are summed
    over the steps. f is traced: it is called once, not at each step.

    Args:
        f: `f(carry, x) -> (carry, y)` over trees of Tensors. The carry keeps its structure, shapes and dtypes.
        init: The first carry.
        xs: A tree of Tensors, which are cut along their first axis; None for a loop without them.
        length: The number of steps, if there are no xs.
        reverse: From the last step to the first; y[t] still belongs to x[t].

    Returns:
        (the last carry, the ys stacked along a new first axis).

    Raises:
        ShapeError, DTypeError: The carry changes its structure, shape or dtype; the xs differ in length.
        TraceError: f needs the value of a Tensor, or draws random numbers: draw them before and pass them as xs.

    Example:
        >>> import gradloom as gl
        >>> total, sums = gl.scan(lambda c, x: (c + x, c + x), gl.tensor(0.0), gl.tensor([1.0, 2.0, 3.0]))
        >>> total, sums
        (tensor(6.), tensor([1., 3., 6.]))
    """
    lead = _lead((init, xs))
    init_flat, init_def = tree.flatten(init)
    x_flat, x_def = tree.flatten(xs)
    carry, sequences = [_tensor(x, lead) for x in init_flat], [_tensor(x, lead) for x in x_flat]
    length = _length(sequences, xs, length)
    n = len(carry)
    rows = [Spec(tuple(x.shape), x.dtype) for x in carry] + [Spec(tuple(x.shape)[1:], x.dtype) for x in sequences]
    records = MODE.enabled
    edges = [records and x.is_floating_point() for x in carry] + [records and x._node is not None for x in sequences]
    ys_def = None

    def step(tensors: list[Tensor]) -> list:
        nonlocal ys_def
        result = f(tree.unflatten(init_def, tensors[:n]), tree.unflatten(x_def, tensors[n:]))
        if not isinstance(result, tuple) or len(result) != 2:
            raise OptionError(
                explain("scan: f gives a pair", expected="(carry, y)", given=type(result).__name__, where=user_frame())
            )
        ys, ys_def = tree.flatten(result[1])
        return [*_same_tree("scan: f changes the structure of the carry", init_def, result[0]), *ys]

    traced = Traced.of("scan", step, rows, argument_names(f, (init, xs), {}), edges, lead)
    _check_carry("scan", init, rows[:n], traced.outputs[:n])
    if not length:
        ys = [wrap(as_array(np.zeros((0, *y.shape), np.float32), y.dtype, engine_of(lead))) for y in traced.outputs[n:]]
        return init, tree.unflatten(ys_def, ys)  # type: ignore[arg-type]
    found = Scan(traced, n, carry, sequences, length, reverse).run()
    return tree.unflatten(init_def, found[:n]), tree.unflatten(ys_def, found[n:])  # type: ignore[arg-type]


def cond(pred: Any, true_fn: Callable, false_fn: Callable, *operands: Any) -> Any:
    """`true_fn(*operands)` where pred holds, else `false_fn(*operands)`; in a compiled function, too.

    Only the chosen one is run, and the gradient is the chosen one's. Both may use Tensors from outside.

    Args:
        pred: A Tensor of one element, or a bool.
        true_fn, false_fn: Functions that give trees of Tensors of one structure, and of the same shapes and dtypes.
        *operands: Trees of Tensors.

    Raises:
        ShapeError, DTypeError: In a compiled function: the results differ in structure, shape or dtype.

    Example:
        >>> import gradloom as gl
        >>> x = gl.tensor(3.0, requires_grad=True)
        >>> gl.cond(x > 0, lambda x: x * x, lambda x: -x, x).backward()
        >>> x.grad
        tensor(6.)
    """
    if not isinstance(pred, Tensor):
        pred = pred if isinstance(pred, bool) else wrap(as_array(pred))
    elif pred.numel() != 1:
        raise ShapeError(
            explain("cond: pred is one bool", expected="a Tensor of one element", given=f"shape {list(pred.shape)}")
        )
    if isinstance(pred, bool) or PLACE.graph is None:
        return (true_fn if bool(pred) else false_fn)(*operands)
    flat, treedef = tree.flatten(operands)
    places = [i for i, x in enumerate(flat) if isinstance(x, Tensor) or kind_of(type(x)) is not None]
    lead = _lead(operands)
    tensors = [_tensor(flat[i], lead) for i in places]
    specs = [Spec(tuple(x.shape), x.dtype) for x in tensors]
    edges = [MODE.enabled and x._node is not None for x in tensors]
    trees: list[Any] = []

    def branch(fn: Callable) -> Traced:
        def run(inner: list[Tensor]) -> list:
            leaves = list(flat)
            for i, t in zip(places, inner, strict=True):
                leaves[i] = t
            result = fn(*tree.unflatten(treedef, leaves))
            trees.append(result)
            out_def = tree.flatten(trees[0])[1]
            return _same_tree("cond: the branches differ in the structure of their results", out_def, result)

        names = argument_names(fn, operands, {})
        return Traced.of("cond", run, specs, [names[i] for i in places], edges, lead)

    pair = (branch(true_fn), branch(false_fn))
    for (path, _), a, b in zip(tree.paths(trees[0]), *(t.outputs for t in pair), strict=True):
        _check_spec(f"cond: the branches differ in their result {path}".rstrip(), path, a, b)
    return tree.unflatten(tree.flatten(trees[0])[1], Cond(pair, _flag(pred), tensors).run())


def while_loop(cond_fn: Callable, body_fn: Callable, init: Any) -> Any:
    """`while cond_fn(carry): carry = body_fn(carry)`, the meaning of `jax.lax.while_loop`; in a compiled function, too.

    The number of steps is not known before, so there is no gradient: asking for it raises GradientError (use `scan`).

    Args:
        cond_fn: `cond_fn(carry)` gives a Tensor of one element.
        body_fn: `body_fn(carry)` gives the next carry; in a compiled function of the same structure, shapes and dtypes.
        init: The first carry, a tree of Tensors.

    Returns:
        The last carry.

    Example:
        >>> import gradloom as gl
        >>> gl.while_loop(lambda x: x < 100, lambda x: x * 2, gl.tensor(3))
        tensor(192)
    """
    lead = _lead(init)
    flat, treedef = tree.flatten(init)
    tensors = [_tensor(x, lead) for x in flat]
    parents = [t._node for t in tensors if t._node is not None]
    if PLACE.graph is None:
        while True:
            carry = tree.unflatten(treedef, tensors)
            with set_grad_enabled(False):
                goes_on = bool(cond_fn(carry))
            if not goes_on:
                return tree.unflatten(treedef, without_gradient(tensors, parents))
            new = _same_tree("while_loop: body_fn changes the structure of the carry", treedef, body_fn(carry))
            new = [_tensor(x, lead) for x in new]
            parents += [t._node for t in new if t._node is not None][:1]  # one says that a gradient was wanted
            tensors = [wrap(t._array) for t in new]
            if parents and MODE.enabled:
                tensors = without_gradient(tensors, parents[:1])
    specs = [Spec(tuple(x.shape), x.dtype) for x in tensors]
    names = argument_names(body_fn, (init,), {})
    edges = [False] * len(specs)
    test = Traced.of("while_loop", lambda ts: [_flag(cond_fn(tree.unflatten(treedef, ts)))], specs, names, edges, lead)

    def step(inner: list[Tensor]) -> list:
        return _same_tree(
            "while_loop: body_fn changes the structure of the carry", treedef, body_fn(tree.unflatten(treedef, inner))
        )

    body = Traced.of("while_loop", step, specs, names, edges, lead)
    _check_carry("while_loop", init, specs, body.outputs)
    for t in body.outputs:
        parents += body.reached(t)
    (condition, block), outside = close([test, body])
    attrs = {"condition": condition, "body": block, "carries": len(specs)}
    arrays = call(while_op.op, [t._array for t in tensors], outside, attrs, specs, names)
    return tree.unflatten(treedef, without_gradient([wrap(x) for x in arrays], parents))


# -------------------------------------------------------------------------------------------- arguments and checks


def _lead(trees: Any) -> Any:
    """The engine's name of the first array among the leaves; None where there is none."""
    for x in tree.flatten(trees)[0]:
        x = x._array if isinstance(x, Tensor) else x
        kind = kind_of(type(x))
        if kind is not None and kind.rank == 0:
            return backend_of(x).name
    return None


def _tensor(x: Any, lead: str | None) -> Tensor:
    return x if isinstance(x, Tensor) else wrap(as_array(x, None, engine_of(lead)))


def _flag(pred: Any) -> Tensor:
    """The Tensor as a bool of shape ()."""
    if not isinstance(pred, Tensor):
        pred = wrap(as_array(pred))
    if pred.numel() != 1:
        raise ShapeError(
            explain(
                "a condition is one bool",
                expected="a Tensor of one element",
                given=f"shape {list(pred.shape)}",
                where=user_frame(),
            )
        )
    x = pred._array
    if x.shape:
        x = ops.reshape(x, shape=())
    return wrap(x if pred.dtype.kind == "bool" else ops.not_equal(x, 0))


def _length(sequences: list[Tensor], xs: Any, length: int | None) -> int:
    sizes: dict[int, str] = {}
    for (path, _), x in zip(tree.paths(xs), sequences, strict=True):
        if not x.ndim:
            raise ShapeError(
                explain(
                    f"scan: xs {path} has no axis to run along".replace("  ", " "), given="shape []", where=user_frame()
                )
            )
        sizes.setdefault(x.shape[0], path or "xs")
    if length is not None:
        sizes.setdefault(int(length), "length=")
    if len(sizes) != 1:
        raise ShapeError(
            explain(
                "scan: the xs differ in length" if sizes else "scan: the number of steps is not known",
                expected="one size of the first axis of all xs, or length=",
                given=", ".join(f"{path}: {n}" for n, path in sizes.items()),
                where=user_frame(),
            )
        )
    return next(iter(sizes))


def _same_tree(problem: str, treedef: tree.TreeDef, other: Any) -> list:
    """The leaves of another tree of that structure."""
    try:
        parts = tree.flatten_up_to(treedef, other)
        for part in parts:
            if tree.flatten(part)[1].spec is not None:
                raise ShapeError("a container where there is a Tensor")
    except ShapeError:
        given = tree.flatten(other)[1]
        raise ShapeError(explain(problem, expected=treedef, given=given, where=user_frame())) from None
    return parts


def _check_spec(problem: str, path: str, expected: Any, given: Any) -> None:
    def text(x: Any) -> str:
        return f"{path + ': ' if path else ''}shape {list(x.shape)}, {x.dtype.name}"

    if tuple(expected.shape) != tuple(given.shape) or expected.dtype is not given.dtype:
        raise ShapeError(explain(problem, expected=text(expected), given=text(given), where=user_frame()))


def _check_carry(what: str, init: Any, specs: list[Spec], outputs: list[Tensor]) -> None:
    for (path, _), spec, t in zip(tree.paths(init), specs, outputs, strict=True):
        _check_spec(f"{what}: the carry must keep its shape and dtype at each step", path or "carry", spec, t)
