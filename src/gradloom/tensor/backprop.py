"""A backward pass over the tape: it takes the reachable nodes by falling number and runs their vjps.

No recursion, and no list of all nodes: a heap of those that have a cotangent so far. Cotangents are added out of place, as a vjp may
have given one array to two operands.

How a vjp is run on arrays is worked out once for each plan: a function `step(g, node)` that reads what it needs from the node. A
pass that is recorded itself (`create_graph=True`) runs the vjps' bodies on Tensors; it takes its time.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from .. import ops
from ..dtypes import dtype as as_dtype
from ..errors import DTypeError, GradientError, ShapeError
from ..ops.op import SCALARS, Plan, Vjp
from . import tape
from .tape import CHANGED, HOOKS, RESULTS, RETAIN, Leaf, Raw, _new

AGAIN = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already been "
    "freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify "
    "retain_graph=True if you need to backward through the graph a second time or if you need to access saved tensors "
    "after calling backward."
)


def run(
    roots: list, how: Any, retain: bool, wanted: dict | None = None, stop: bool = False, useful: dict | None = None
) -> dict:
    """Runs backward from `roots`, [(node, cotangent)].

    Args:
        how: `Raw`: cotangents are arrays; or `Recorded`: they are Tensors, and ops on them leave nodes.
        retain: Keep the saved values for another pass.
        wanted: {id of a node or leaf: it} whose cotangents are asked for; then only what leads to them is run.
        stop: The pass ends there: neither what made them nor their hooks are run.
        useful: `leading_to(...)`, where it is known.

    Returns:
        {id of a leaf (or wanted node): (it, cotangent)}.
    """
    if wanted is not None and useful is None:
        useful = leading_to([n for n, _ in roots], wanted, stop)
    pending: dict[int, Any] = {}  # number of a node -> its cotangent so far
    queue: list[tuple[int, Any]] = []
    found: dict[int, Any] = {}
    contributions: Any = roots
    hooked = False
    while True:
        for parent, g in contributions:
            if useful is not None and id(parent) not in useful:
                continue
            kind = type(parent)
            if kind is Leaf or (stop and id(parent) in wanted):  # type: ignore[operator]
                key = id(parent)
                if key in found:
                    g = how.add(found[key][1], g)
                elif not stop and parent.hooks:
                    hooked = True
                found[key] = (parent, g)
                continue
            number = parent[0] if kind is tuple else parent.number
            if number in pending:
                pending[number] = how.add(pending[number], g)
            else:
                pending[number] = g
                heappush(queue, (-number, parent))
        if not queue:
            break
        number, node = heappop(queue)
        g = pending.pop(-number)
        plain = type(node) is tuple
        hooks = (node[3] and node[3].get(HOOKS)) if plain else node.hooks
        if hooks:
            g = _hooked(hooks, g, how)
        if useful is not None and id(node) in wanted:  # type: ignore[operator]
            found[id(node)] = (node, g)
            if not useful[id(node)]:
                contributions = ()
                continue
        if plain:
            contributions = _raw(node, g) if how is Raw else _recorded(node, g)
            if not retain and node[5] is not None:
                node[5].clear()
        else:  # one of several results: they are gathered for their node, which has a lower number
            number = node.node[0]
            if number not in pending:
                pending[number] = {}
                heappush(queue, (-number, node.node))
            gathered = pending[number]
            k = node.index
            gathered[k] = how.add(gathered[k], g) if k in gathered else g  # a saved result is another `Output`
            contributions = ()
    if hooked:
        for key, (leaf, g) in found.items():
            if type(leaf) is Leaf and leaf.hooks:
                found[key] = (leaf, _hooked(leaf.hooks, g, how))
    return found


def _hooked(hooks: dict, g: Any, how: Any) -> Any:
    last = hooks.get(RETAIN)
    for hook in list(hooks.values()):
        if hook is last:
            continue
        given = how.wrap(g)
        new = hook(given)
        if new is None:
            continue
        name = getattr(hook, "__name__", type(hook).__name__)
        if not isinstance(new, tape.Tensor):
            raise TypeError(f"expected a Tensor, but hook '{name}' returned '{type(new).__name__}'")
        if new.shape != given.shape:
            raise ShapeError(
                f"hook '{name}' has changed the size of value (was {list(given.shape)} got {list(new.shape)})"
            )
        if new.dtype is not given.dtype:
            raise DTypeError(f"hook '{name}' has changed the type of value (was {given.dtype} got {new.dtype})")
        g = how.unwrap(new)
    if last is not None:
        last(how.wrap(g))
    return g


def leading_to(roots: list, wanted: dict, stop: bool = False) -> dict[int, bool]:
    """{id of each node on a path from a root to a wanted one: whether its own parents are needed}. Iterative."""
    useful: dict[int, bool] = {}
    seen = set()
    stack = [(n, False) for n in roots]
    while stack:
        node, done = stack.pop()
        if type(node) is Leaf or (stop and id(node) in wanted):
            if id(node) in wanted:
                useful[id(node)] = False
            continue
        parents = node[2] if type(node) is tuple else (node.node,)
        if done:
            deeper = any(id(p) in useful for p in parents if p is not None)
            if deeper or id(node) in wanted:
                useful[id(node)] = deeper
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((p, False) for p in parents if p is not None and id(p) not in seen)
    return useful


# ----------------------------------------------------------------------------------------------------------- one node


def _raw(node: tuple, g: Any) -> list:
    """[(parent, cotangent)] of one node, on arrays."""
    _, plan, parents, _, statics, saved = node
    if plan.steps is None:
        plan.steps = _steps(plan)
    saves, steps = plan.steps
    if saved is not None:
        _check(plan, saves, saved)
    if plan.op.differentiable > 1:
        g = _all_results(node, g)
    result = []
    for step, i in steps:
        gi = step(g, node)
        if i is not None:
            result.append((parents[i], gi if statics is None else _summed(plan, statics, i, gi, Raw)))
            continue
        for j, gj in gi:  # a vjp of several operands
            if gj is not None and parents[j] is not None:
                result.append((parents[j], gj if statics is None else _summed(plan, statics, j, gj, Raw)))
    return result


def _recorded(node: tuple, g: Any) -> list:
    """[(parent, cotangent)] of one node, on Tensors."""
    _, plan, parents, _, statics, saved = node
    op, count = plan.op, len(parents)
    out = None
    if saved is not None:
        _check(plan, _saves(plan), saved)
        if plan.keep_out:
            out = _result(node)
    if op.differentiable > 1:
        g = _all_results(node, g)
    result = []
    for vjp in plan.vjps:
        args = [g]
        for kind, i in vjp.values:
            if kind == "arg":
                args.append(saved[0][i] if i < count else op.defaults[op.args[i]])
            elif kind == "out":
                args.append(out[i] if op.multiple else out)  # type: ignore[index]
            elif saved is not None:  # None: there are no further operands
                args.extend(saved[0][i:])
        gs = vjp.op.forward(ops.xp, *args, **{k: read(node) for k, read in _keywords(plan, vjp)})
        for i, gi in ((vjp.covers[0], gs),) if vjp.single else zip(vjp.positions(count), vjp.flat(gs), strict=False):
            parent = parents[i] if i < count else None
            if parent is not None and gi is not None:
                result.append((parent, gi if statics is None else _summed(plan, statics, i, gi, Recorded)))
    return result


def _summed(plan: Plan, statics: Any, i: int, g: Any, how: Any) -> Any:
    """The cotangent of operand i without the axes along which the operand was broadcast."""
    shape = statics[i][0]
    return how.sum_to(g, tuple(shape)) if plan.op.broadcasts and g.shape != shape else g


def _check(plan: Plan, saves: Any, saved: list) -> None:
    """Raises unless the saved operands (those at `saves`; None: any that have a version) and the result are what they were."""
    if not saved:
        raise GradientError(AGAIN)
    operands, versions, out = saved
    if saves is None:
        saves = [i for i, t in enumerate(operands) if t is not None and type(t) not in SCALARS]
    for i in saves:
        t = operands[i]
        if t._version != versions[i]:
            raise GradientError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: "
                f"[{t.dtype!r} {list(t.shape)}], operand {i} of {plan.op.name}, is at version {t._version}; expected version "
                f"{versions[i]} instead. Clone the tensor before changing it, or change it after backward()."
            )
    if out is CHANGED:
        raise GradientError(
            "one of the variables needed for gradient computation has been modified by an inplace operation: the result of "
            f"{plan.op.name}, which its gradient needs. Clone the tensor before changing it, or change it after backward()."
        )


def _all_results(node: tuple, results: dict) -> tuple:
    """The cotangents of all differentiable results; zeros (None, if it wants none) for those that nothing depends on."""
    some = next(iter(results.values()))
    array = some._array if isinstance(some, tape.Tensor) else some
    zeros = ops.zeros.op.kernels[type(array)]
    full = []
    for k, spec in enumerate(node[3][RESULTS]):
        if k in results or spec is None:
            full.append(results.get(k))
        else:
            shape, dtype = spec
            z = zeros(shape=shape, dtype=as_dtype(dtype), like=array)
            full.append(z if some is array else Raw.wrap(z))
    return tuple(full)


# ------------------------------------------------------------------------------------------------- steps, on arrays


def _steps(plan: Plan) -> tuple:
    """(`_saves(plan)`, [(step, the operand it covers, or None for several)])."""
    return _saves(plan), [(_single(plan, v), v.covers[0]) if v.single else (_several(plan, v), None) for v in plan.vjps]


def _saves(plan: Plan) -> Any:
    """The operands that are saved with a version; None where their number varies."""
    return None if plan.op.variadic else tuple(i for i in range(len(plan.flags)) if plan.has(i))


def _several(plan: Plan, vjp: Vjp) -> Callable:
    """The step of a vjp that covers several operands; it gives [(operand, cotangent)]."""
    step = _single(plan, vjp)

    def several(g, node):
        count = len(node[2])
        positions = vjp.positions(count)
        return [(i, gi) for i, gi in zip(positions, vjp.flat(step(g, node)), strict=True) if i < count]

    return several


def _single(plan: Plan, vjp: Vjp) -> Callable:
    """The step of a vjp, `step(g, node)`. Those of up to two saved operands, or the result, are written out."""
    kernels, keywords, lone = vjp.op.kernels, _keywords(plan, vjp), plan.op.differentiable == 1
    if lone and all(kind == "arg" and plan.has(i) for kind, i in vjp.values):
        places = [i for _, i in vjp.values]
        if len(places) == 1:
            (i,) = places
            if not keywords:
                return lambda g, node: kernels[type(g)](g, node[5][0][i]._array)
            return lambda g, node: kernels[type(g)](g, node[5][0][i]._array, **{k: read(node) for k, read in keywords})
        if len(places) == 2:
            i, j = places
            if not keywords:
                return lambda g, node: kernels[type(g)](g, node[5][0][i]._array, node[5][0][j]._array)
            return lambda g, node: kernels[type(g)](
                g, node[5][0][i]._array, node[5][0][j]._array, **{k: read(node) for k, read in keywords}
            )
        if not places and not keywords:
            return lambda g, node: kernels[type(g)](g)
    if lone and not keywords and vjp.values == (("out", 0),) and not plan.op.multiple:
        return lambda g, node: kernels[type(g)](g, node[5][2])
    values = _values(plan, vjp)

    def step(g, node):
        # Several results have several cotangents.
        lead = next(c for c in g if c is not None) if type(g) is tuple else g
        return kernels[type(lead)](g, *values(node), **{k: read(node) for k, read in keywords})

    return step


def _values(plan: Plan, vjp: Vjp) -> Callable:
    """A function that gives the values of any vjp, as arrays."""
    op = plan.op

    def values(node):
        saved, count, result = node[5], len(node[2]), []
        for kind, i in vjp.values:
            if kind == "out":
                result.append(saved[2][i] if op.multiple else saved[2])
            elif kind == "arg" and i >= count:
                result.append(op.defaults[op.args[i]])
            elif saved is not None:  # None: there are no further operands
                for v in saved[0][i : i + 1] if kind == "arg" else saved[0][i:]:
                    result.append(v._array if isinstance(v, tape.Tensor) else v)
        return result

    return values


def _keywords(plan: Plan, vjp: Vjp) -> list[tuple[str, Callable]]:
    """[(keyword, function of the node)] of the static arguments: attributes, and shapes and dtypes of the operands."""
    return [(keyword, _static(plan, kind, what)) for keyword, kind, what in vjp.statics]


def _static(plan: Plan, kind: str, what: Any) -> Callable:
    if kind == "attr":
        default = plan.op.defaults.get(what)
        return lambda node: node[3].get(what, default)
    if kind == "node":  # of a `Function`
        return lambda node: node
    if kind == "shapes":
        return lambda node: tuple(tuple(s[0]) for s in node[4][what:])
    saved = plan.has(what)
    if kind == "shape":
        if saved:
            return lambda node: tuple(node[5][0][what]._array.shape)
        return lambda node: tuple(node[4][what][0])
    if saved:
        return lambda node: as_dtype(node[5][0][what]._array.dtype)
    return lambda node: as_dtype(node[4][what][1])


# -------------------------------------------------------------------------------------------------------- create_graph


class Recorded:
    """Arithmetic of a backward pass that is recorded itself: on Tensors, through ops. `tape.Raw` is its twin."""

    @staticmethod
    def add(a: Any, b: Any) -> Any:
        return ops.add(a, b)

    @staticmethod
    def sum_to(g: Any, shape: tuple) -> Any:
        return ops.sum_to(g, shape=shape)

    @staticmethod
    def wrap(t: Any) -> Any:
        return t

    unwrap = wrap


def _result(node: tuple) -> Any:
    """The saved result (or results) of a node, with its history."""

    def again(array: Any, n: Any) -> Any:
        t = _new(tape.Tensor)
        t._array, t._node = array, n
        return t

    plan, attrs, saved = node[1], node[3], node[5]
    op, out = plan.op, saved[2]
    if not op.multiple:
        return again(out, node)
    results = [again(x, node if k == 0 else None) for k, x in enumerate(out)]
    auxiliary = [k for vjp in plan.vjps for kind, k in vjp.values if kind == "out" and k]
    if any(results[k].dtype.kind == "float" for k in auxiliary):
        # Auxiliary results (a mean, the probabilities of attention) have no history of their own: computed again, with one.
        values = saved[0]
        if any(v is None and name not in op.defaults for name, v in zip(op.args, values, strict=False)):
            raise GradientError(
                f"the gradient of {op.name} cannot be differentiated again: what its results depend on is not kept"
            )
        fresh = op.forward(ops.xp, *values, **{k: v for k, v in attrs.items() if k not in (HOOKS, RESULTS)})
        for k in auxiliary:
            results[k] = fresh[k]
    return tuple(results)
