"""The tape: operations on Tensors leave nodes, `backward` runs the nodes' vjps by falling number.

A node is a tuple `(number, plan, parents, attrs, statics, saved)`, which costs a tenth of an object:

- number: larger than the numbers of all nodes it depends on;
- plan: the op and the vjps for the operands that need a gradient (`ops.op.Plan`);
- parents: for each operand its node, None where no gradient is needed;
- attrs: the op's static attributes;
- statics: (shape, dtype) of each operand, where a vjp or the sum over broadcast axes needs them, else None;
- saved: what the vjps want kept, else None: a list [operands, versions, result], emptied by a backward pass.

A node hangs on the Tensor that it made (`tensor._node`); a leaf that requires a gradient has a `Leaf`, one of several results an
`Output`. There is no global list, so a graph dies with its last Tensor, and no recursion, so its depth does not matter.

Of its operands a node keeps what the vjps name and no more. It keeps Tensors (not arrays) with the version they had: a saved
Tensor that was changed in place is an error, and a backward pass that is itself recorded (`create_graph`) finds their history.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any

from .. import ops
from ..backends import shapes
from ..dtypes import dtype as as_dtype
from ..errors import BackendError, GradientError, GradloomError, explain, user_frame
from ..ops.op import KINDS, SCALARS, Kind, Op, adopt, kind_of, promote
from .grad_mode import MODE

_next = itertools.count(1).__next__
_new = object.__new__

Tensor: Any = None  # the class; tensor.py sets it (a Tensor's methods need the tape, the tape makes Tensors)
make_view: Callable = None  # type: ignore[assignment]  # of storage.py, set likewise

# number of a node -> {handle: function} on the cotangent of its result. Few nodes have any; a backward pass that frees the node
# forgets them.
HOOKS: dict[int, dict] = {}


class Output:
    """The k-th result of a node with several differentiable results."""

    __slots__ = ("index", "node", "number")

    def __init__(self, node: tuple, index: int):
        self.number, self.node, self.index = _next(), node, index


class Leaf:
    """Where a gradient ends: a Tensor made by the user that requires one.

    Attributes:
        hooks: {handle: function} on the gradient, or None.
        after: {handle: function} to be called with the Tensor once `grad` has it, or None.
    """

    __slots__ = ("__weakref__", "after", "hooks", "tensor")

    def __init__(self, tensor: Any):
        self.hooks: Any = None
        self.after: Any = None
        self.tensor = weakref.ref(tensor)


# ---------------------------------------------------------------------------------------------------- recording


def entry(op: Op) -> Callable:
    """The callable for public calls on Tensors."""
    if not op.args:
        return _creation(op)
    if op.put is not None or op.variadic or op.multiple or len(op.args) > 4:
        return _general(op)
    return _plain(op) if op.attrs or op.defaults or len(op.args) != 2 else _binary(op)


def _creation(op: Op) -> Callable:
    """Ops without operands: made where the Tensor `like` lives."""

    def call(like, **attrs):
        x = like._array
        return Raw.wrap(op.kernels[type(x)](like=x, **attrs))

    return call


def _float(native: Any) -> bool:
    known = _floats.get(native)
    if known is None:
        known = _floats[native] = as_dtype(native).kind == "float"
    return known


_floats: dict[Any, bool] = {}  # an engine's dtype -> whether it is a float


def _binary(op: Op) -> Callable:
    """The short path of arithmetic: two Tensors of one dtype and engine. All else takes the general one."""
    kernels, plans, general = op.kernels, op._plans, _general(op)
    broadcasts, floats, differentiable = op.broadcasts, op.promote == "float", op.differentiable

    def call(a, b):
        try:
            x = a._array
            y = b._array
            if x.dtype is not y.dtype or x.__class__ is not y.__class__ or (floats and not _float(x.dtype)):
                return general(a, b)
            out = kernels[x.__class__](x, y)
        except Exception:
            return general(a, b)  # a scalar among the operands, or an error that it explains
        t = _new(Tensor)
        t._array = out
        p = a._node
        q = b._node
        if (p is None and q is None) or not differentiable or not MODE.enabled:
            t._node = None
            return t
        needed = (p is not None, q is not None)
        plan = plans.get(needed) or op.plan(needed)
        statics = saved = None
        if plan.statics and (not broadcasts or x.shape != y.shape):
            statics = ((x.shape, x.dtype), (y.shape, y.dtype))
        if plan.saves:
            keep = plan.keep
            saved = [
                (a if 0 in keep else None, b if 1 in keep else None),
                (a._version, b._version),
                out if plan.keep_out else None,
            ]
        t._node = (_next(), plan, (p, q), None, statics, saved)
        return t

    return call


def _plain(op: Op) -> Callable:
    """The short path of ops with a fixed number of operands and one result: Tensors of one dtype and engine."""
    kernels, plans, general = op.kernels, op._plans, _general(op)
    floats, differentiable, promotes = op.promote == "float", op.differentiable, op.promote is not None

    def call(*args, **attrs):
        try:
            arrays = [a._array for a in args]
            x = arrays[0]
            lead, d = x.__class__, x.dtype
            for y in arrays:
                if y.__class__ is not lead or (promotes and y.dtype is not d):
                    return general(*args, **attrs)
            if floats and not _float(d):
                return general(*args, **attrs)
            out = kernels[lead](*arrays, **attrs)
        except Exception:
            return general(*args, **attrs)  # a scalar or None among the operands, or an error that it explains
        t = _new(Tensor)
        t._array = out
        parents = tuple([a._node for a in args])
        needed = tuple([p is not None for p in parents])
        if True not in needed or not differentiable or not MODE.enabled:
            t._node = None
            return t
        plan = plans.get(needed) or op.plan(needed)
        saved = None
        if plan.saves:
            keep = plan.keep
            saved = [
                [a if i in keep else None for i, a in enumerate(args)],
                [a._version for a in args],
                out if plan.keep_out else None,
            ]
        statics = [(y.shape, y.dtype) for y in arrays] if plan.statics else None
        t._node = (_next(), plan, parents, attrs, statics, saved)
        return t

    return call


def _general(op: Op) -> Callable:
    """Any number of operands, scalars and engines' arrays among them, attributes, several results, views."""
    kernels, plans = op.kernels, op._plans
    single = not op.multiple

    def call(*args, **attrs):
        tensors: Any = [a if isinstance(a, Tensor) else _operand(a) for a in args]
        if op.promote is not None:
            tensors = promote(op, tensors, _cast)
        arrays = []
        needed = []
        lead: Any = None
        for a in tensors:
            if isinstance(a, Tensor):
                x = a._array
                arrays.append(x)
                needed.append(a._node is not None)
                if lead is None:
                    lead = type(x)
                elif type(x) is not lead:
                    lead = _common(op, lead, type(x))
            else:
                arrays.append(a)
                needed.append(False)
        try:
            out = kernels[lead](*arrays, **attrs)
        except Exception as error:
            raise explained(op, arrays, attrs, error) from error
        node = None
        if op.differentiable and True in needed and MODE.enabled:
            flags = tuple(needed)
            plan = plans.get(flags) or op.plan(flags)
            saved = None
            if plan.saves:
                last = len(op.args) - 1
                saved = [
                    [a if min(i, last) in plan.keep else None for i, a in enumerate(tensors)],
                    [getattr(a, "_version", 0) for a in tensors],
                    out if plan.keep_out else None,
                ]
            statics = None
            if plan.statics:
                statics = [(x.shape, x.dtype) if hasattr(x, "dtype") else None for x in arrays]
            if op.differentiable > 1:  # a result that nothing depends on gets a cotangent of zeros
                attrs = {**attrs, "": [(tuple(x.shape), x.dtype) for x in out[: op.differentiable]]}
            parents = tuple([a._node if n else None for a, n in zip(tensors, needed, strict=True)])
            node = (_next(), plan, parents, attrs, statics, saved)
        if single:
            t = _new(Tensor)
            t._array = out
            t._node = node
            if op.put is not None and len(tensors) == 1:  # an index array makes it a copy
                make_view(tensors[0], t, op, attrs)
            return t
        results = []
        for k, x in enumerate(out):
            t = _new(Tensor)
            t._array = x
            t._node = (node if op.differentiable == 1 else Output(node, k)) if node and k < op.differentiable else None
            results.append(t)
        return tuple(results)

    return call


def _operand(a: Any) -> Any:
    """Scalars and None as they are; an engine's array as a Tensor."""
    if a is None or type(a) in SCALARS or kind_of(type(a)) is None:
        return a
    t = _new(Tensor)
    t._array, t._node = a, None
    return t


def _cast(t: Any, dtype: Any) -> Any:
    return ops.astype(t, dtype=dtype)


def _common(op: Op, a: type, b: type) -> type:
    """The type whose kernel takes operands of both types."""
    x, y = kind_of(a), kind_of(b)
    if x is y or x.rank > y.rank:  # type: ignore[union-attr]
        return a
    if y.rank > x.rank:  # type: ignore[union-attr]
        return b
    raise BackendError(
        explain(
            f"{op.name} got Tensors of two backends",
            expected="operands of one backend",
            given=f"{a.__module__}.{a.__name__} and {b.__module__}.{b.__name__}",
            where=user_frame(),
            do="move one with tensor.to(backend=...), or make both under one gradloom.using_backend(...)",
        )
    )


def explained(op: Op, arrays: Sequence[Any], attrs: dict, error: Exception) -> Exception:
    """The error of an engine as gradloom's: the op, the operands' shapes and dtypes, the user's line."""
    if isinstance(error, GradloomError) and "\n" in str(error):
        return error
    given = ", ".join(
        f"{name} {tuple(x.shape)} {KINDS[type(x)].dtype(x).name}" if hasattr(x, "shape") else f"{name} {x!r}"
        for name, x in zip(_names(op, len(arrays)), arrays, strict=True)
        if x is not None
    )
    where = user_frame()
    try:
        shapes.infer(op, *(shapes.spec_of(x) if hasattr(x, "shape") else x for x in arrays), **attrs)
    except GradloomError as reason:  # what the shapes say is clearer than what the engine says
        return type(reason)(explain(f"{op.name}: {reason}", given=given, where=where))
    except Exception:
        pass
    try:
        return type(error)(explain(f"{op.name}: {error}", given=given, where=where))
    except Exception:
        return error


def _names(op: Op, n: int) -> list[str]:
    fixed = list(op.args[:-1] if op.variadic else op.args)
    return fixed + [f"{op.args[-1]}[{i}]" for i in range(n - len(fixed))] if op.variadic else fixed[:n]


# ------------------------------------------------------------------------------------------------------ backward


class Raw:
    """Arithmetic of a backward pass that is not recorded: on arrays."""

    @staticmethod
    def values(node: tuple) -> list:
        return [v._array if isinstance(v, Tensor) else v for v in node[5][0]]

    @staticmethod
    def result(node: tuple) -> Any:
        return node[5][2]

    @staticmethod
    def call(vjp: Op, args: list, statics: dict) -> Any:
        lead = args[0][0] if type(args[0]) is tuple else args[0]  # several results have several cotangents
        return vjp.kernels[type(lead)](*args, **statics)

    @staticmethod
    def add(a: Any, b: Any) -> Any:
        return ops.add.op.kernels[type(a)](a, b)

    @staticmethod
    def sum_to(g: Any, shape: tuple) -> Any:
        return ops.sum_to.op.kernels[type(g)](g, shape=shape)

    @staticmethod
    def wrap(array: Any) -> Any:
        t = _new(Tensor)
        t._array, t._node = array, None
        return t

    @staticmethod
    def unwrap(t: Any) -> Any:
        return t._array

    @staticmethod
    def same(x: Any) -> Any:
        return x


class Recorded:
    """Arithmetic of a backward pass that is recorded itself (`create_graph=True`): on Tensors, through ops."""

    @staticmethod
    def values(node: tuple) -> list:
        return node[5][0]

    @staticmethod
    def result(node: tuple) -> Any:
        def again(array: Any, n: Any) -> Any:
            t = _new(Tensor)
            t._array, t._node = array, n
            return t

        out, op = node[5][2], node[1].op
        if not op.multiple:
            return again(out, node)
        results = [again(x, node if k == 0 else None) for k, x in enumerate(out)]
        auxiliary = [k for _, vjp in node[1].run for kind, k in vjp.values if kind == "out" and k]
        if any(results[k].dtype.kind == "float" for k in auxiliary):
            # Auxiliary results (a mean, the probabilities of attention) have no history of their own: computed again, with one.
            values = node[5][0]
            if any(v is None and name not in op.defaults for name, v in zip(op.args, values, strict=False)):
                raise GradientError(
                    f"the gradient of {op.name} cannot be differentiated again: what its results depend on is not kept"
                )
            again_results = op.forward(ops.xp, *values, **node[3])
            for k in auxiliary:
                results[k] = again_results[k]
        return tuple(results)

    @staticmethod
    def call(vjp: Op, args: list, statics: dict) -> Any:
        return vjp.forward(ops.xp, *args, **statics)

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


def run(roots: list, how: Any, retain: bool, wanted: dict | None = None, stop: bool = False) -> dict:
    """Runs backward from `roots`, [(node, cotangent)], and gives {leaf: cotangent}.

    Args:
        how: `Raw` or `Recorded`.
        retain: Keep the saved values for another pass.
        wanted: {id of a node or leaf: it} whose cotangents are asked for; then only what leads to them is run.
        stop: The pass ends there: neither what made them nor their hooks are run.

    Returns:
        {id of a leaf (or wanted node): (it, cotangent)}.
    """
    useful = None if wanted is None else _leading_to([n for n, _ in roots], wanted, stop)
    pending: dict[int, Any] = {}  # number of a node -> its cotangent so far
    queue: list[tuple[int, Any]] = []
    found: dict[int, Any] = {}
    add = how.add
    contributions = roots
    while True:
        for parent, g in contributions:
            if useful is not None and id(parent) not in useful:
                continue
            kind = type(parent)
            if kind is Leaf or (stop and id(parent) in wanted):  # type: ignore[operator]
                before = found.get(id(parent))
                found[id(parent)] = (parent, g if before is None else add(before[1], g))
                continue
            number = parent[0] if kind is tuple else parent.number
            if number in pending:
                pending[number] = add(pending[number], g)  # out of place: a vjp may have given one array twice
            else:
                pending[number] = g
                heappush(queue, (-number, parent))
        if not queue:
            break
        number, node = heappop(queue)
        g = pending.pop(-number)
        if HOOKS and -number in HOOKS:
            g = _hooked(HOOKS[-number] if retain else HOOKS.pop(-number), g, how)
        if useful is not None and id(node) in wanted:  # type: ignore[operator]
            found[id(node)] = (node, g)
            if not useful[id(node)]:
                contributions = []
                continue
        if type(node) is tuple:
            contributions = _run(node, g, how)
            if not retain and node[5] is not None:
                node[5].clear()
        else:  # one of several results: they are gathered for their node, which has a lower number
            number = node.node[0]
            if number not in pending:
                pending[number] = {}
                heappush(queue, (-number, node.node))
            pending[number][node.index] = g
            contributions = []
    for key, (node, g) in found.items():
        if type(node) is Leaf and node.hooks and not stop:
            found[key] = (node, _hooked(node.hooks, g, how))
    return found


def _run(node: tuple, g: Any, how: Any) -> list:
    """[(parent, cotangent)] of one node."""
    _, plan, parents, _, statics, saved = node
    op = plan.op
    if saved is not None:
        if not saved:
            raise GradientError(
                "Trying to backward through the graph a second time (or directly access saved tensors after they have already "
                "been freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). "
                "Specify retain_graph=True if you need to backward through the graph a second time or if you need to access saved "
                "tensors after calling backward."
            )
        _check_versions(op, saved)
        values = how.values(node)
        if plan.keep_out:
            out = how.result(node)
    if op.differentiable > 1:
        g = _all_results(node, g, how)
    result = []
    for kernels, vjp in plan.run:
        args = [g]
        for kind, i in vjp.values:
            if kind == "arg":
                args.append(values[i] if i < len(values) else op.defaults[op.args[i]])
            elif kind == "out":
                args.append(out[i] if op.multiple else out)
            else:
                args.extend(values[i:])
        keywords = _keywords(node, vjp) if vjp.statics else {}
        if how is Raw and type(g) is not tuple:
            gs = kernels[g.__class__](*args, **keywords)
        else:
            gs = how.call(vjp.op, args, keywords)
        if vjp.single:
            pairs: Any = ((vjp.covers[0], gs),)
        else:
            pairs = zip(vjp.positions(len(parents)), vjp.flat(gs), strict=True)
        for i, gi in pairs:
            parent = parents[i] if i < len(parents) else None
            if parent is not None and gi is not None:
                if statics is not None and op.broadcasts and gi.shape != statics[i][0]:
                    gi = how.sum_to(gi, tuple(statics[i][0]))
                result.append((parent, gi))
    return result


def _keywords(node: tuple, vjp: Any) -> dict:
    """The static arguments of a vjp: attributes, and shapes and dtypes of the operands."""
    _, plan, _, attrs, statics, _ = node
    result = {}
    for keyword, kind, what in vjp.statics:
        if kind == "attr":
            result[keyword] = attrs[what] if what in attrs else plan.op.defaults[what]
        elif kind == "shapes":
            result[keyword] = tuple(tuple(s[0]) for s in statics[what:])
        else:
            shape, dtype = statics[what]
            result[keyword] = tuple(shape) if kind == "shape" else as_dtype(dtype)
    return result


def _check_versions(op: Op, saved: list) -> None:
    for i, (t, version) in enumerate(zip(saved[0], saved[1], strict=True)):
        if t is not None and type(t) not in SCALARS and t._version != version:
            raise GradientError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: "
                f"[{t.dtype!r} {list(t.shape)}], operand {i} of {op.name}, is at version {t._version}; expected version {version} "
                "instead. Clone the tensor before changing it, or change it after backward()."
            )
    if saved[2] is CHANGED:
        raise GradientError(
            "one of the variables needed for gradient computation has been modified by an inplace operation: the result of "
            f"{op.name}, which its gradient needs. Clone the tensor before changing it, or change it after backward()."
        )


CHANGED: Any = ("changed in place",)  # stands for a saved result that was changed since


def spoil(node: Any) -> None:
    """Notes that the result of the node was changed in place."""
    if type(node) is tuple and node[5] and node[1].keep_out:
        node[5][2] = CHANGED


def _all_results(node: tuple, results: dict, how: Any) -> tuple:
    """The cotangents of all differentiable results; zeros for those that nothing depends on."""
    some = next(iter(results.values()))
    some = some._array if how is Recorded else some
    zeros = ops.zeros.op.kernels[type(some)]
    specs = node[3][""]
    return tuple(
        results[k]
        if k in results
        else (Raw.wrap if how is Recorded else Raw.same)(zeros(shape=shape, dtype=as_dtype(d)))
        for k, (shape, d) in enumerate(specs)
    )


def _hooked(hooks: dict, g: Any, how: Any) -> Any:
    for hook in list(hooks.values()):
        new = hook(how.wrap(g))
        if new is not None:
            g = how.unwrap(new)
    return g


def _leading_to(roots: list, wanted: dict, stop: bool = False) -> dict[int, bool]:
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


def adopt_tensors(*classes: type) -> None:
    """Makes ops take these classes of Tensors; the first is the class of their results."""
    global Tensor
    Tensor = Tensor or classes[0]
    adopt(*classes, kind=Kind(2, entry, _no_kernel, lambda t: t.dtype))


def _no_kernel(op: Op) -> Callable:
    raise TypeError(f"{op.name}: a Tensor reached a kernel")  # the tape unwraps Tensors; a bug if this is ever seen
