"""Update rules: the maths of an optimizer, once, for every face and engine.

A rule is a function over `xp` for one parameter::

    rule(xp, p, g, *state, *scalars, **flags) -> (new p, *new state)

in one of three protocols:

- ``"element"``: each element by itself, so that many parameters may be updated as one flat array;
- ``"tensor"``: each parameter by itself (norms, matrices);
- ``"tree"``: all parameters together; `p`, `g` and each state are lists then, and so are the results.

Its scalars (rate, betas, corrections for the step) are computed from the group's options and the step count in float64 on the host:
they are inputs of a compiled step, so a changed rate never recompiles it. Its flags select code. For a group of parameters the rule is an
op of columns, `adam(params, grads, exp_avg, exp_avg_sq, *scalars, **flags)`, lists of arrays: one node of a graph, one line of emitted
source, and one call of an engine's fused kernel where the engine registered one under the rule's name (it returns the new columns).
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

from ...backends.base import Backend
from ...backends.registry import backend_of
from ...backends.shapes import Spec
from ...graph import fast
from ...graph.graph import PLACE, Value
from ...ops.op import Op

TOGETHER = 32  # parameters that an engine compiles into one function: XLA takes seconds for one of hundreds
RULES: dict[str, Rule] = {}  # every rule by name; contract tests walk it


class HOST:
    """What `scalars` and `advance` compute with: these functions of Python's numbers, or the same of 0-d arrays (see `Over`)."""

    sqrt, exp, expm1, log, pow = math.sqrt, math.exp, math.expm1, math.log, pow
    minimum, maximum = min, max

    @staticmethod
    def where(condition: Any, x: Any, y: Any) -> Any:
        """x where the condition holds, else y; both are computed."""
        return x if condition else y


class Over:
    """`HOST` for a step count, `step`, that is an array or a traced value. What is computed of numbers alone stays a number."""

    def __init__(self, xp: Any, step: Any):
        for name in ("sqrt", "exp", "expm1", "log", "pow", "minimum", "maximum"):
            setattr(self, name, functools.partial(self._call, getattr(xp, name), getattr(HOST, name)))
        self._xp, self._step = xp, step

    @staticmethod
    def _call(over: Callable, host: Callable, *values: Any) -> Any:
        return over(*values) if any(hasattr(v, "shape") for v in values) else host(*values)

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """x where the condition holds, else y."""
        if not hasattr(condition, "shape"):
            return HOST.where(condition, x, y)
        return self._xp.where(condition, x if hasattr(x, "shape") else self._step * 0 + x, y)  # of the count's dtype


def zeros(xp: Any, p: Any, o: dict) -> Any:
    """How a state starts where its rule does not say otherwise."""
    return xp.zeros_like(p)


class Rule:
    """An update rule.

    Attributes:
        name: Unique; of it are engines' kernels.
        leaf: The function for one parameter, or for all of them (protocol "tree").
        per: The protocol.
        state: `state(flags)` gives the names of the state arrays.
        start: {name of a state array: function `(xp, p, o)` of the parameter and the options that makes the first one}; default: zeros
            like the parameter.
        flags: `flags(options)` gives what selects code, as keyword arguments of the leaf.
        kind: `kind(shape, options)` gives more of them, which depend on the parameter's shape.
        phase: `phase(options, step)` gives those of which the step selects the value, where it is known on the host; `flags` has them
            for any step. The state does not depend on them.
        scalars: `scalars(m, options, step, *numbers)` gives the numbers, in the leaf's order; `step` counts from 1, and `m` is `HOST` or
            like it.
        scalar_names: What emitted source calls them.
        numbers: {name: function of the options that gives its first value} of numbers that are kept from step to step, on the host.
        advance: `advance(m, options, step, *numbers)` gives them as they are after the step.
        counts: Whether the number of updates is part of the state that is saved (it is needed).
        op: The rule on columns, as an op.
        kernel_name, fused: The name under which engines have kernels of it, and whether these may be used.
    """

    def __init__(
        self,
        name: str,
        leaf: Callable,
        *,
        state: Callable,
        flags: Callable,
        scalars: Callable,
        names: tuple[str, ...],
        per: str = "element",
        start: dict[str, Callable] | None = None,
        kind: Callable | None = None,
        phase: Callable | None = None,
        numbers: dict[str, Callable] | None = None,
        advance: Callable | None = None,
        counts: bool = True,
    ):
        self.made_of = {
            "leaf": leaf, "state": state, "flags": flags, "scalars": scalars, "names": names, "per": per,
            "start": start, "kind": kind, "phase": phase, "numbers": numbers, "advance": advance, "counts": counts,
        }  # fmt: skip
        self.name, self.leaf, self.per = name, leaf, per
        self.kernel_name, self.fused = name, True
        self.state, self.flags, self.scalars, self.scalar_names = state, flags, scalars, names
        self.start, self.numbers, self.counts = start or {}, numbers or {}, counts
        self.kind = kind or (lambda shape, o: {})
        self.phase = phase or (lambda o, step: {})
        self.advance = advance or (lambda m, o, step: ())
        self._compiled: dict[tuple, tuple[Backend, Callable]] = {}  # for engines that compile
        self.rows = leaf if per == "tree" else _of_rows(leaf)  # the leaf on columns: (xp, columns, scalars, flags)
        parameters = list(inspect.signature(leaf).parameters.values())[1:]
        self.op = Op(
            self.name,
            _op_body(self),
            ("values",),
            ("count", "columns", *(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)),
            variadic=True,
            outputs=("*new",),
            differentiable=0,
        )
        self.op.rule = self  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"<rule {self.name}>"

    @functools.cached_property
    def plain(self) -> Rule:
        """The rule under a name that no engine has a kernel of: what `fused=False` asks for."""
        made = Rule(f"plain_{self.name}", **self.made_of)  # type: ignore[arg-type]
        made._compiled = self._compiled
        made.kernel_name, made.fused = self.name, False
        return made

    def has_kernel(self, backend: Any, dtype: Any = None) -> bool:
        """Whether an engine has a fused kernel of the rule (for a dtype)."""
        return self.name in backend.fast or (backend.name == "numpy" and fast.takes(self, dtype))

    def first(self, name: str, p: Any, o: dict) -> Any:
        """A state array before the first update of the parameter array `p`, with memory of its own."""
        backend = backend_of(p)
        with backend(dtype=backend.dtype_of(p)).context():
            array = self.start.get(name, zeros)(backend.xp, p, o)
        return backend.copy(array) if array is p else array

    def first_numbers(self, o: dict) -> tuple:
        """The numbers before the first update."""
        return tuple(float(first(o)) for first in self.numbers.values())

    def numbers_after(self, m: Any, o: dict, step: Any, numbers: tuple, updates: int) -> tuple:
        """The numbers that `step` updates left, after `updates` more with the same options."""
        for k in range(updates if numbers else 0):
            numbers = tuple(self.advance(m, o, step + k + 1, *numbers))
        return numbers

    def run(self, columns: list[list], scalars: tuple, flags: dict) -> list[list]:
        """The new columns (parameters, then state arrays) of a group.

        Args:
            columns: Parameters, gradients and each of the state arrays: lists of arrays of one engine, or of traced values.
        """
        first = columns[0][0]
        if type(first) is Value:
            return self._traced(columns, scalars, flags)
        backend = backend_of(first)
        kernel = backend.fast.get(self.name)
        if kernel is not None:
            return kernel(*columns, *scalars, **flags)
        if backend.compile is not Backend.compile and not any(hasattr(s, "shape") for s in scalars):
            return self._compiled_run(backend, columns, scalars, flags)
        return self.rows(backend.xp, *columns, *scalars, **flags)

    def _traced(self, columns: list[list], scalars: tuple, flags: dict) -> list[list]:
        count, width = len(columns[0]), len(columns)
        flat = [x for column in columns for x in column]
        new = [Spec(v.shape, v.dtype) for k, column in enumerate(columns) if k != 1 for v in column]
        attrs = {"count": count, "columns": width, **flags}
        out = PLACE.graph.add(self.op, [*flat, *scalars], attrs, new)  # type: ignore[union-attr]
        return [list(out[i * count : (i + 1) * count]) for i in range(width - 1)]

    def _compiled_run(self, backend: type[Backend], columns: list, scalars: tuple, flags: dict) -> list[list]:
        """The same, compiled for some parameters at a time. Its numbers are inputs: other rates are not compiled anew."""
        dtype = backend.dtype_of(columns[0][0])
        key = (backend, dtype, *flags.items())
        found = self._compiled.get(key)
        if found is None:
            engine = backend(dtype=dtype)
            rows, xp = self.rows, backend.xp

            def update(columns: list[list], scalars: Any) -> list[list]:
                return rows(xp, *columns, *tuple(scalars), **flags)

            found = self._compiled[key] = (engine, engine.compile(update))
        engine, run = found
        together = len(columns[0]) if self.per == "tree" else TOGETHER
        results: list[list] = [[] for _ in columns[1:]]
        with engine.context():
            numbers = engine.scalars(list(scalars), dtype)
            for i in range(0, len(columns[0]), together):
                part = run([column[i : i + together] for column in columns], numbers)
                for result, new in zip(results, part, strict=True):
                    result += new
        return results


def rule(**of: Any) -> Callable[[Callable], Rule]:
    """Makes a rule of a function; see `Rule` for what is given."""

    def make(leaf: Callable) -> Rule:
        RULES[leaf.__name__] = made = Rule(leaf.__name__, leaf, **of)
        return made

    return make


def _of_rows(leaf: Callable) -> Callable:
    """The function of columns that applies the leaf to each parameter."""
    width = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in inspect.signature(leaf).parameters.values())
    assert width == 3, f"{leaf.__name__} takes (xp, p, g, *rest, **flags)"

    def rows(xp, *values, **flags):
        columns = [v for v in values if type(v) is list]
        scalars = values[len(columns) :]
        results = [leaf(xp, *row, *scalars, **flags) for row in zip(*columns, strict=True)]
        return [list(column) for column in zip(*results, strict=True)]

    return rows


def _op_body(rule: Rule) -> Callable:
    def body(xp, *values, count, columns, **flags):
        split = [list(values[i * count : (i + 1) * count]) for i in range(columns)]
        results = rule.rows(xp, *split, *values[count * columns :], **flags)
        return tuple(x for column in results for x in column)

    return body
