"""The tape: operations on Tensors leave nodes, which a backward pass follows (`backprop`).

A node is a tuple `(number, plan, parents, attrs, statics, saved)`, which costs a tenth of an object:

- number: larger than the numbers of all nodes it depends on;
- plan: the op and the vjps for the operands that need a gradient (`ops.op.Plan`);
- parents: for each operand its node, None where no gradient is needed;
- attrs: the op's static attributes; hooks on the result are kept there too, under HOOKS, so that they die with the node;
- statics: (shape, dtype) of each operand, where a vjp or the sum over broadcast axes needs them, else None;
- saved: what the vjps want kept, else None: a list [operands, versions, result], emptied by a backward pass.

A node hangs on the Tensor that it made (`tensor._node`); a leaf that requires a gradient has a `Leaf`, one of several results an
`Output`. There is no global list, so a graph dies with its last Tensor, and no recursion, so its depth does not matter.

Of its operands a node keeps what the vjps name and no more. It keeps Tensors (not arrays) with the version they had: a saved
Tensor that was changed in place is an error, and a backward pass that is itself recorded (`create_graph`) finds their history.

Recording is what a small operation costs beside its arithmetic. So there is one function for each number of operands: it takes Tensors
of one dtype and engine (or a Python number beside one), and gives all else to the general one.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
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

HOOKS = "*hooks"  # in a node's attrs: {handle: function} on the cotangent of its result
RETAIN = "*retain"  # among the hooks: what keeps the cotangent for `retain_grad`, the last to be called
RESULTS = ""  # in a node's attrs: [(shape, dtype)] of several differentiable results


class Output:
    """The k-th result of a node with several differentiable results."""

    __slots__ = ("hooks", "index", "node", "number")

    def __init__(self, node: tuple, index: int):
        self.number, self.node, self.index = _next(), node, index
        self.hooks: Any = None


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
    count = len(op.args)
    if op.variadic or op.multiple or count > 4 or (op.put is not None and count > 1):
        return _general(op)
    if count == 1:
        return _one(op)
    if not op.attrs and count == 2 and not op.defaults:
        return _two(op)
    if not op.attrs and count == 3 and op.defaults in ({}, {op.args[2]: None}):
        return _three(op)
    return _few(op)


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


def _one(op: Op) -> Callable:
    """Ops of one Tensor."""
    kernels, general, view = op.kernels, _general(op), op.put is not None
    floats, differentiable = op.promote == "float", op.differentiable
    plan: Any = None

    def call(a, **attrs):
        nonlocal plan
        try:
            x = a._array
            if floats and not _float(x.dtype):
                return general(a, **attrs)
            out = kernels[type(x)](x, **attrs) if attrs else kernels[type(x)](x)
        except Exception:
            return general(a, **attrs)  # it explains the error
        t = _new(Tensor)
        t._array = out
        node = a._node
        if node is None or not differentiable or not MODE.enabled:
            t._node = None
        else:
            if plan is None:
                plan = op.plan((True,))
            saved = statics = None
            if plan.saves:
                saved = [(a if plan.keep[0] else None,), (a._version,), out if plan.keep_out else None]
            if plan.statics:
                statics = ((x.shape, x.dtype),)
            t._node = (_next(), plan, (node,), attrs, statics, saved)
        if view:
            make_view(a, t, op, dict(attrs))
        return t

    return call


_BOTH, _LEFT, _RIGHT, _SCALED = (True, True), (True, False), (False, True), (True, None)


def _two(op: Op) -> Callable:
    """Ops of two Tensors, or of a Tensor and a number, without attributes."""
    kernels, general, broadcasts = op.kernels, _general(op), op.broadcasts
    promotes, floats, differentiable = op.promote is not None, op.promote == "float", op.differentiable
    both = left = right = scaled = None
    known: tuple = (None, None)  # the last engine's type and its kernel

    def call(a, b):
        nonlocal both, left, right, known
        try:
            x = a._array
            kind = type(b)
            if kind is float or kind is int:
                return number(a, x, b)
            y = b._array
            engine = type(x)
            if engine is not type(y) or (promotes and x.dtype is not y.dtype) or (floats and not _float(x.dtype)):
                return general(a, b)
            last = known
            if engine is not last[0]:
                last = known = (engine, kernels[engine])
            out = last[1](x, y)
        except Exception:
            return general(a, b)  # other operands, or an error that it explains
        t = _new(Tensor)
        t._array = out
        p = a._node
        q = b._node
        if p is None:
            if q is None or not differentiable or not MODE.enabled:
                t._node = None
                return t
            if right is None:
                right = op.plan(_RIGHT)
            plan = right
        elif not differentiable or not MODE.enabled:
            t._node = None
            return t
        elif q is None:
            if left is None:
                left = op.plan(_LEFT)
            plan = left
        else:
            if both is None:
                both = op.plan(_BOTH)
            plan = both
        saved = statics = None
        if plan.saves:
            first, second = plan.keep
            saved = [
                (a if first else None, b if second else None),
                (a._version if first else 0, b._version if second else 0),
                out if plan.keep_out else None,
            ]
        if plan.statics or (broadcasts and x.shape != y.shape):
            statics = ((x.shape, x.dtype), (y.shape, y.dtype))
        t._node = (_next(), plan, (p, q), {}, statics, saved)
        return t

    def number(a, x, b):
        nonlocal scaled
        if not promotes or not _float(x.dtype):
            return general(a, b)
        t = _new(Tensor)
        t._array = out = kernels[type(x)](x, b)
        p = a._node
        if p is None or not differentiable or not MODE.enabled:
            t._node = None
            return t
        if scaled is None:
            scaled = op.plan(_SCALED)
        saved = None
        if scaled.saves:
            first, second = scaled.keep
            kept = (a if first else None, b if second else None)
            saved = [kept, (a._version, 0), out if scaled.keep_out else None]
        statics = ((x.shape, x.dtype), None) if scaled.statics else None
        t._node = (_next(), scaled, (p, None), {}, statics, saved)
        return t

    return call


def _three(op: Op) -> Callable:
    """Ops of three Tensors, of which the last may be left out or None, without attributes."""
    kernels, plans, general, broadcasts = op.kernels, op._plans, _general(op), op.broadcasts
    floats, differentiable, optional = op.promote == "float", op.differentiable, bool(op.defaults)
    first = op.promote is not None and 0 in op.promoted  # where() chooses by a Tensor of another dtype
    others = op.promote is not None and 1 in op.promoted

    def call(a, b, c=None):
        try:
            x = a._array
            y = b._array
            engine, d = type(x), y.dtype
            if engine is not type(y) or (first and x.dtype is not d) or (floats and not _float(d)):
                return general(a, b, c)
            if c is not None:
                z = c._array
                if engine is not type(z) or (others and z.dtype is not d):
                    return general(a, b, c)
                r = c._node
            elif optional:
                z = r = None
            else:
                return general(a, b)
            out = kernels[engine](x, y, z)
        except Exception:
            return general(a, b, c)  # other operands, or an error that it explains
        t = _new(Tensor)
        t._array = out
        p = a._node
        q = b._node
        if (p is None and q is None and r is None) or not differentiable or not MODE.enabled:
            t._node = None
            return t
        flags = (p is not None, q is not None, None if z is None else r is not None)
        plan = plans.get(flags) or op.plan(flags)
        saved = statics = None
        if plan.saves:
            k, m, n = plan.keep
            saved = [
                (a if k else None, b if m else None, c if n else None),
                (a._version if k else 0, b._version if m else 0, c._version if n and c is not None else 0),
                out if plan.keep_out else None,
            ]
        if plan.statics or broadcasts:
            statics = ((x.shape, x.dtype), (y.shape, y.dtype), None if z is None else (z.shape, z.dtype))
        t._node = (_next(), plan, (p, q, r), {}, statics, saved)
        return t

    return call


def _few(op: Op) -> Callable:
    """Ops of a fixed number of Tensors, of which some may be None, with attributes and one result."""
    kernels, plans, general = op.kernels, op._plans, _general(op)
    floats, differentiable, broadcasts = op.promote == "float", op.differentiable, op.broadcasts
    promoted = op.promoted if op.promote is not None else ()

    def call(*args, **attrs):
        try:
            x = args[0]._array
            engine, d = type(x), x.dtype
            if floats and not _float(d):
                return general(*args, **attrs)
            arrays = [x]
            for i in range(1, len(args)):
                y = args[i]
                if y is not None:
                    y = y._array
                    if type(y) is not engine or (y.dtype is not d and i in promoted):
                        return general(*args, **attrs)
                arrays.append(y)
            out = kernels[engine](*arrays, **attrs)
        except Exception:
            return general(*args, **attrs)  # a number among the operands, or an error that it explains
        t = _new(Tensor)
        t._array = out
        flags = tuple([None if a is None else a._node is not None for a in args])
        if True not in flags or not differentiable or not MODE.enabled:
            t._node = None
            return t
        plan = plans.get(flags) or op.plan(flags)
        saved = _saved(plan, args, out) if plan.saves else None
        statics = None
        if plan.statics or broadcasts:
            statics = [None if y is None else (y.shape, y.dtype) for y in arrays]
        t._node = (_next(), plan, tuple([None if a is None else a._node for a in args]), attrs, statics, saved)
        return t

    return call


def _saved(plan: Any, args: Sequence[Any], out: Any) -> list:
    """What a node keeps of its operands and its result."""
    return [
        [a if k else None for a, k in zip(args, plan.keep)],  # noqa: B905  (strict costs)
        [a._version if k and f is not None else 0 for a, k, f in zip(args, plan.keep, plan.flags)],  # noqa: B905
        out if plan.keep_out else None,
    ]


def _general(op: Op) -> Callable:
    """Any number of operands, scalars and engines' arrays among them, attributes, several results, views."""
    kernels, plans = op.kernels, op._plans
    single = not op.multiple

    def call(*args, **attrs):
        tensors: Any = [a if isinstance(a, Tensor) else _operand(a) for a in args]
        if op.promote is not None:
            tensors = promote(op, tensors, _cast)
        arrays: list[Any] = []
        flags: list[bool | None] = []
        lead: Any = None
        for a in tensors:
            if isinstance(a, Tensor):
                x = a._array
                arrays.append(x)
                flags.append(a._node is not None)
                if lead is None:
                    lead = type(x)
                elif type(x) is not lead:
                    lead = _common(op, lead, type(x))
            else:
                arrays.append(a)
                flags.append(None)
        try:
            out = kernels[lead](*arrays, **attrs)
        except Exception as error:
            raise explained(op, arrays, attrs, error) from error
        node = None
        if op.differentiable and True in flags and MODE.enabled:
            key = tuple(flags)
            plan = plans.get(key) or op.plan(key)
            saved = _saved(plan, tensors, out) if plan.saves else None
            statics = None
            if plan.statics or op.broadcasts:
                statics = [(x.shape, x.dtype) if hasattr(x, "dtype") else None for x in arrays]
            own = dict(attrs)
            if op.differentiable > 1:  # a result that nothing depends on gets a cotangent of zeros
                own[RESULTS] = [(tuple(x.shape), x.dtype) for x in out[: op.differentiable]]
            parents = tuple([a._node if flag else None for a, flag in zip(tensors, flags, strict=True)])
            node = (_next(), plan, parents, own, statics, saved)
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


# ---------------------------------------------------------------------------------------------- what others need of it


class Raw:
    """Arithmetic of a backward pass that is not recorded: on arrays. `backprop.Recorded` is its twin."""

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


CHANGED: Any = ("changed in place",)  # stands for a saved result that was changed since


def spoil(node: Any) -> None:
    """Notes that the result of the node was changed in place."""
    if type(node) is tuple and node[5] and node[1].keep_out:
        node[5][2] = CHANGED


def hooks_of(node: Any) -> dict:
    """The hooks on what a node, an output or a leaf computes: {handle: function}; the caller may add to it."""
    if type(node) is tuple:
        if node[3] is None:
            raise GradientError("the result of a compiled function has no history that a hook could be called in")
        return node[3].setdefault(HOOKS, {})
    if node.hooks is None:
        node.hooks = {}
    return node.hooks


def retain(t: Any) -> None:
    """Makes backward passes keep the gradient of a computed Tensor; done again when it is changed in place."""
    t._retains = t._node is not None
    if t._node is None:
        return
    ref = weakref.ref(t)

    def keep(g: Any) -> None:
        t = ref()
        if t is not None:
            t._grad = g if t._grad is None else t._grad + g

    hooks_of(t._node)[RETAIN] = keep


def adopt_tensors(*classes: type) -> None:
    """Makes ops take these classes of Tensors; the first is the class of their results."""
    global Tensor
    Tensor = Tensor or classes[0]
    adopt(*classes, kind=Kind(2, entry, _no_kernel, lambda t: t.dtype))


def _no_kernel(op: Op) -> Callable:
    raise TypeError(f"{op.name}: a Tensor reached a kernel")  # the tape unwraps Tensors; a bug if this is ever seen
