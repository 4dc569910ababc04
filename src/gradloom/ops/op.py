"""The op record: one definition of an operation and its gradients, and how a call finds the code that runs.

An op is a pure function over an array namespace `xp`. Its positional parameters are arrays (or Python scalars), its
keyword-only parameters are static attributes::

    @op(promote="float")
    def exp(xp, x):
        return xp.exp(x)


    @exp.vjp("x")  # the cotangent of argument x; only what the signature names is saved
    def _(xp, g, out):
        return g * out

After `xp` and `g` a vjp may name: any argument (its value is saved), `out` or another name of `outputs=` (that result is
saved), then `<argument>_shape` or `<argument>_dtype` (for `*arrays`: `arrays_shapes`, one tuple each), and any attribute. Values
come before statics. A vjp is itself an op (`exp_vjp_x`), so a traced backward pass reads like the forward one. With
several names, `@layer_norm.vjp("x", "weight")`, it returns one cotangent each; of a variadic argument a tuple of them.

A call is dispatched on the types of its arguments: Tensors go to the tape, traced values to the graph, an engine's arrays to
that engine's kernel of the op: a faster one that the engine registered under the op's name, or the body run with the engine's
`xp`. Nothing else dispatches. Tensors, traced values and engines announce themselves with `adopt`; this module imports none.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from ..dtypes import bfloat16, default_dtype, float16, float32, result_type
from ..dtypes import dtype as to_dtype
from ..errors import DTypeError, GradientError, explain

REGISTRY: dict[str, Op] = {}  # every op by its name; vjps are in VJPS
VJPS: dict[str, Op] = {}
SCALARS = frozenset((bool, int, float))


class Kind:
    """What dispatch must know of one kind of value: an engine's arrays, traced values, or Tensors.

    Attributes:
        rank: Who takes a mixed call: engines' arrays 0, traced values 1, Tensors 2.
        entry: `entry(op)` gives the callable for public calls on such values: it promotes and, for Tensors, records.
        kernel: `kernel(op)` gives the callable on operands that are promoted already.
        dtype: `dtype(value)` gives the gradloom dtype.
    """

    __slots__ = ("dtype", "entry", "kernel", "rank")

    def __init__(self, rank: int, entry: Callable, kernel: Callable, dtype: Callable):
        self.rank, self.entry, self.kernel, self.dtype = rank, entry, kernel, dtype


KINDS: dict[type, Kind] = {}
_finders: list[Callable[[type], Kind | None]] = []


def adopt(*types: type, kind: Kind) -> None:
    """Announces that values of these types are of this kind."""
    for t in types:
        KINDS[t] = kind


def adopt_with(find: Callable[[type], Kind | None]) -> None:
    """Registers a function that is asked about types not seen before (it may load an engine)."""
    _finders.append(find)


def kind_of(t: type) -> Kind | None:
    """The kind of values of type `t`; None for what is no array (Python scalars among them)."""
    kind = KINDS.get(t)
    if kind is None and t not in SCALARS:
        for find in _finders:
            kind = find(t)
            if kind is not None:
                KINDS[t] = kind
                break
    return kind


class _Table(dict):
    """type of a value -> callable; an entry is made when a type is first met."""

    def __init__(self, make: Callable[[type], Callable]):
        super().__init__()
        self._make = make

    def __missing__(self, t: type) -> Callable:
        self[t] = call = self._make(t)
        return call


# --- float16 and bfloat16 ---


class _Half(dict):
    """An engine's dtype -> whether it is float16 or bfloat16."""

    def __missing__(self, native: Any) -> bool:
        self[native] = found = to_dtype(native) in (float16, bfloat16)
        return found


HALF = _Half()


def _widened(body: Callable, rounds: int) -> Callable:
    """The body of a `wide` op: of float16 and bfloat16 it is run in float32. Other dtypes pay for one look at it."""

    @functools.wraps(body)
    def forward(xp, *values, **attrs):
        if HALF[values[0].dtype]:
            return in_float32(xp, functools.partial(body, xp), *values, rounds=rounds, **attrs)
        return body(xp, *values, **attrs)

    return forward


def in_float32(xp, fn, *values, rounds=1, **attrs):
    """fn of float16 or bfloat16 operands, computed in float32; its first `rounds` results are rounded to that dtype."""
    d = xp.dtype(values[0])
    wide = [xp.astype(v, dtype=float32) if hasattr(v, "dtype") and xp.dtype(v) is d else v for v in values]
    out = fn(*wide, **attrs)
    if not isinstance(out, tuple):
        return xp.astype(out, dtype=d)
    return tuple(xp.astype(o, dtype=d) if i < rounds else o for i, o in enumerate(out))


class Vjp:
    """One vjp of an op.

    Attributes:
        op: The vjp as an op: its arguments are g and the saved values, its attributes the statics.
        covers: Indices of the arguments whose cotangents it returns.
        values: What it wants saved, in order: ("arg", index), ("rest", index of the first) or ("out", index).
        statics: (keyword, "shape" | "dtype" | "shapes" | "attr", index or attribute name).
    """

    __slots__ = ("covers", "op", "single", "statics", "values", "variadic")

    def __init__(self, op: Op, covers: tuple, values: tuple, statics: tuple, variadic: bool):
        self.op, self.covers, self.values, self.statics = op, covers, values, statics
        self.variadic = variadic  # the last of the covered arguments is
        self.single = len(covers) == 1 and not variadic

    def positions(self, count: int) -> list[int]:
        """Indices of the operands that it covers, when the op was given `count` operands."""
        if not self.variadic:
            return list(self.covers)
        return [*self.covers[:-1], *range(self.covers[-1], count)]

    def flat(self, cotangents: Any) -> list:
        """The cotangents as a list along `positions`."""
        if not self.variadic:
            return list(cotangents)
        return list(cotangents) if len(self.covers) == 1 else [*cotangents[:-1], *cotangents[-1]]


class Plan:
    """What the tape does when a given set of positional values needs gradients: the vjps to run and what they want saved.

    Attributes:
        flags: For each positional value: True if it needs a gradient, False if not, None if it is no array.
        vjps: Those to run.
        keep: For each positional value whether it is saved.
        keep_out: Whether the result is.
        saves: Whether anything is.
        statics: Whether a vjp names the shape or dtype of a value that is not saved.
        steps: The vjps as functions over a node; the tape makes them when they are first run.
    """

    __slots__ = ("flags", "keep", "keep_out", "op", "saves", "statics", "steps", "vjps")

    def __init__(self, op: Op, flags: tuple[bool | None, ...]):
        self.op, self.flags = op, flags
        needed = {op.argument(i) for i, flag in enumerate(flags) if flag}
        self.vjps = tuple(v for v in op.vjps if needed & set(v.covers))
        missing = needed - {i for v in self.vjps for i in v.covers}
        if missing:
            name = op.args[min(missing)]
            raise GradientError(
                explain(
                    f"{op.name} has no gradient with respect to its argument '{name}'",
                    do=f"pass {name}.detach() if none is wanted, or define it with @{op.name}.vjp('{name}')",
                )
            )
        values = {need for v in self.vjps for need in v.values}
        kept = {i for kind, i in values if kind in ("arg", "rest")}
        self.keep = tuple(op.argument(i) in kept for i in range(len(flags)))
        self.keep_out = any(kind == "out" for kind, _ in values)
        self.saves = any(self.keep) or self.keep_out
        self.statics = any(
            kind == "shapes" or (kind != "attr" and not self.has(i)) for v in self.vjps for _, kind, i in v.statics
        )
        self.steps: Any = None

    def has(self, i: int) -> bool:
        """Whether positional value i is an array that is saved."""
        return i < len(self.flags) and self.keep[i] and self.flags[i] is not None


class Op:
    """The record of one operation; the decorator `op` makes it, the public function carries it as `.op`.

    Attributes:
        name: Unique in the registry.
        forward: The body, `forward(xp, *values, **attributes)`.
        body: The same without what `wide` adds; its source is what is printed.
        args: Names of the array arguments; the last may be variadic.
        attrs: Names of the static attributes, with their defaults in `defaults`.
        promote: None: operands are used as they are; "same": PyTorch's promotion; "float": and integers become floats.
        promoted: Indices of the arguments that take part in promotion.
        broadcasts: Operands broadcast; the tape sums each cotangent to its operand's shape.
        wide: float16 and bfloat16 are computed in float32; `forward` does so around `body`, the function as it was written.
        outputs: Names of the results; ("*results",) for a number that varies. The first `differentiable` ones carry a gradient.
        multiple: The op returns a tuple.
        put: For an op whose result is a view in PyTorch: `put(xp, base, value, **attributes)`, the base with the viewed
            elements replaced. None for all others.
    """

    def __init__(
        self,
        name: str,
        forward: Callable,
        args: tuple[str, ...],
        attrs: tuple[str, ...],
        *,
        defaults: dict[str, Any] | None = None,
        variadic: bool = False,
        promote: str | None = None,
        promoted: tuple[str, ...] | None = None,
        broadcasts: bool = False,
        outputs: tuple[str, ...] = ("out",),
        differentiable: int = 1,
        put: Callable | None = None,
        wide: bool = False,
        rounds: int | None = None,
    ):
        self.name, self.body, self.args, self.attrs = name, forward, args, attrs
        self.wide, self.rounds = wide, differentiable if rounds is None else rounds
        self.forward = _widened(forward, self.rounds) if wide else forward
        self.defaults = defaults or {}
        self.variadic, self.promote, self.broadcasts = variadic, promote, broadcasts
        self.promoted = frozenset(range(64) if promoted is None else (args.index(a) for a in promoted))
        self.outputs, self.differentiable, self.put = outputs, differentiable, put
        self.multiple = outputs != ("out",) and (len(outputs) > 1 or outputs[0].startswith("*"))
        self.vjps: list[Vjp] = []
        self._plans: dict[Any, Plan] = {}
        self.entry = _Table(self._entry)
        self.kernels = _Table(self._kernel)

    def __repr__(self) -> str:
        return f"<op {self.name}({', '.join(self.args + tuple(a + '=' for a in self.attrs))})>"

    def _entry(self, t: type) -> Callable:
        kind = kind_of(t)
        return functools.partial(dispatch, self) if kind is None else kind.entry(self)

    def _kernel(self, t: type) -> Callable:
        kind = kind_of(t)
        if kind is None:
            raise not_an_array(self.name, t)
        return kind.kernel(self)

    def argument(self, i: int) -> int:
        """Index in `args` of the i-th positional value (variadic values share the last)."""
        return min(i, len(self.args) - 1)

    def plan(self, flags: tuple[bool | None, ...]) -> Plan:
        """The tape's plan for positional values so flagged; see `Plan.flags`."""
        plan = self._plans.get(flags)
        if plan is None:
            plan = self._plans[flags] = Plan(self, flags)
        return plan

    def define_vjp(self, names: tuple[str, ...], fn: Callable) -> None:
        values: list[tuple[str, int]] = []
        statics: list[tuple[str, str, Any]] = []
        for p in list(inspect.signature(fn).parameters)[2:]:
            base, _, suffix = p.rpartition("_")
            if p in self.args:
                i = self.args.index(p)
                values.append(("rest" if self.variadic and i == len(self.args) - 1 else "arg", i))
            elif p in self.outputs:
                values.append(("out", self.outputs.index(p)))
            elif base in self.args and suffix in ("shape", "dtype", "shapes"):
                statics.append((p, suffix, self.args.index(base)))
            elif p in self.attrs:
                statics.append((p, "attr", p))
            else:
                raise TypeError(
                    f"vjp of {self.name}: '{p}' is no argument {self.args}, no result {self.outputs}, no attribute {self.attrs}"
                )
        vjp = Op(
            f"{self.name}_vjp_{'_'.join(names)}",
            fn,
            ("g", *(self.args[i] if kind != "out" else self.outputs[i] for kind, i in values)),
            tuple(s[0] for s in statics),
            variadic=any(kind == "rest" for kind, _ in values),
            outputs=tuple(f"d_{n}" for n in names),
            wide=self.wide,
            rounds=len(names),
        )
        VJPS[vjp.name] = vjp
        covers = tuple(self.args.index(n) for n in names)
        variadic = self.variadic and covers[-1] == len(self.args) - 1
        self.vjps.append(Vjp(vjp, covers, tuple(values), tuple(statics), variadic))
        self._plans.clear()
        self.entry.clear()  # entries may hold plans


def op(
    fn: Callable | None = None,
    *,
    promote: str | None = None,
    promoted: tuple[str, ...] | None = None,
    broadcasts: bool = False,
    outputs: tuple[str, ...] = ("out",),
    differentiable: int | bool = 1,
    put: Callable | None = None,
    wide: bool = False,
) -> Any:
    """Makes an op of a function over `xp`; see the module's docstring and `Op` for the options.

    Args:
        fn: `fn(xp, *arrays, **attributes)`.
        differentiable: Number of leading results that carry a gradient; False or 0 for none.

    Returns:
        The public function, without `xp`; it has `.op` and `.vjp(*names)`.
    """
    if fn is None:
        return functools.partial(
            op,
            promote=promote,
            promoted=promoted,
            broadcasts=broadcasts,
            outputs=outputs,
            differentiable=differentiable,
            put=put,
            wide=wide,
        )
    signature = inspect.signature(fn)
    parameters = list(signature.parameters.values())[1:]
    record = Op(
        fn.__name__.rstrip("_"),
        fn,
        tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)),
        tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY),
        defaults={p.name: p.default for p in parameters if p.default is not p.empty},
        variadic=any(p.kind is p.VAR_POSITIONAL for p in parameters),
        promote=promote,
        promoted=promoted,
        broadcasts=broadcasts,
        outputs=outputs,
        differentiable=int(differentiable),
        put=put,
        wide=wide,
    )
    if record.name in REGISTRY:
        raise ValueError(f"op {record.name} is defined twice")
    REGISTRY[record.name] = record
    public = _public(record)
    functools.update_wrapper(public, fn)
    public.__signature__ = signature.replace(parameters=parameters)
    public.op = record
    public.vjp = functools.partial(_vjp, public)
    return public


def _vjp(public: Callable, *names: str) -> Callable:
    def define(fn: Callable) -> Callable:
        public.op.define_vjp(names, fn)  # type: ignore[attr-defined]
        return public  # the name `_` is rebound; nobody calls a vjp directly

    return define


def _public(record: Op) -> Any:
    """The function that users call. Ops of one or two arrays without attributes get a short path."""
    entry = record.entry
    names = frozenset(record.args)
    if not record.args:

        def create(*, like, **attrs):  # a creation op: dispatched on the array whose engine and device it takes
            return entry[type(like)](like=like, **attrs)

        return create

    if record.attrs or record.variadic or record.defaults or len(record.args) > 2:

        def call(*args, **attrs):
            if attrs:
                if not names.isdisjoint(attrs):
                    args = bind(record, args, attrs)
                if args:
                    return entry[type(args[0])](*args, **attrs)
            elif args:
                return entry[type(args[0])](*args)
            raise TypeError(f"{record.name}() needs {', '.join(record.args)}")

        return call
    if len(record.args) == 2:
        return lambda a, b: entry[type(a)](a, b)
    return lambda x: entry[type(x)](x)


def bind(record: Op, args: tuple, attrs: dict) -> tuple:
    """The positional operands with those that were given by keyword, which are taken out of `attrs`."""
    bound = list(args)
    for name in record.args[len(args) :]:
        if name in attrs:
            bound.append(attrs.pop(name))
        elif not names_left(record, name, attrs):
            break
        elif name in record.defaults:
            bound.append(record.defaults[name])
        else:
            raise TypeError(f"{record.name}() misses its argument '{name}'")
    return tuple(bound)


def names_left(record: Op, name: str, attrs: dict) -> bool:
    return any(n in attrs for n in record.args[record.args.index(name) :])


def dispatch(record: Op, *args: Any, **attrs: Any) -> Any:
    """Runs the op on values of several kinds: the kind of the highest rank takes the call."""
    best = None
    for a in args:
        kind = kind_of(type(a))
        if kind is not None and (best is None or kind.rank > best[0].rank):
            best = (kind, type(a))
    if best is None:
        bad = next((a for a in args if type(a) not in SCALARS and a is not None), args[0])
        raise not_an_array(record.name, type(bad), bad)
    return record.entry[best[1]](*args, **attrs)


def not_an_array(name: str, t: type, value: Any = None) -> DTypeError:
    """The error for what is no array; a value that stands for one, to come, raises what it has to say itself."""
    if hasattr(t, "__no_array_yet__"):
        value.__no_array_yet__()
    return DTypeError(
        explain(
            f"{name} got a value that is not an array",
            expected="a Tensor, or an array of NumPy, JAX, PyTorch or MLX",
            given=f"{t.__module__}.{t.__qualname__}",
            do="convert it with gradloom.tensor(value)",
        )
    )


def promote(record: Op, args: Any, cast: Callable) -> tuple:
    """The operands cast to the dtype of PyTorch's promotion table; `cast(value, dtype)` casts one.

    Python scalars stay what they are: engines treat them as weak, as the table does.
    """
    dims: list[Any] = []
    zeros: list[Any] = []
    scalars: list[type] = []
    dtypes: list[Any] = []
    for i, a in enumerate(args):
        d = None
        if a is not None and record.argument(i) in record.promoted:
            kind = KINDS.get(type(a)) or kind_of(type(a))
            if kind is not None:
                d = kind.dtype(a)
                (dims if a.ndim else zeros).append(d)
            elif type(a) in SCALARS:
                scalars.append(type(a))
            else:
                raise not_an_array(record.name, type(a))
        dtypes.append(d)
    target = result_type(dims, zeros, scalars)
    if record.promote == "float" and target.kind != "float":
        target = default_dtype()
    return tuple(a if d is None or d is target else cast(a, target) for a, d in zip(args, dtypes, strict=True))
