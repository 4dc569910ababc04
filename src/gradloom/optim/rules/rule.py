"""Update rules: the maths of an optimizer, once, for every face and engine.

A rule is a function over `xp` for one parameter::

    rule(xp, p, g, *state, *scalars, **flags) -> (new p, *new state)

Its scalars (rate, betas, corrections for the step) are computed from the group's options and the step count in float64 on the host:
they are inputs of a compiled step, so a changed rate never recompiles it. Its flags select code. For a group of parameters the rule is an
op of columns, `adam(params, grads, exp_avg, exp_avg_sq, *scalars, **flags)`, lists of arrays: one node of a graph, one line of emitted
source, and one call of an engine's fused kernel where the engine registered one under the rule's name (it returns the new columns).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from ...backends.base import Backend
from ...backends.registry import backend_of
from ...backends.shapes import Spec
from ...graph.graph import PLACE, Value
from ...ops.op import Op

TOGETHER = 32  # parameters that an engine compiles into one function: XLA takes seconds for one of hundreds
RULES: dict[str, Rule] = {}  # every rule by name; contract tests walk it


class Rule:
    """An elementwise update rule.

    Attributes:
        name: Unique; of it are engines' kernels.
        leaf: The function for one parameter.
        state: `state(flags)` gives the names of the state arrays, which start as zeros of the parameter's shape.
        flags: `flags(options)` gives what selects code, as keyword arguments of the leaf.
        scalars: `scalars(options, step)` gives the numbers, in the leaf's order; `step` counts from 1.
        scalar_names: What emitted source calls them.
        op: The rule on columns, as an op.
    """

    def __init__(
        self, name: str, leaf: Callable, state: Callable, flags: Callable, scalars: Callable, names: tuple[str, ...]
    ):
        self.name = name
        self.leaf, self.state, self.flags, self.scalars = leaf, state, flags, scalars
        self.scalar_names = names
        self._compiled: dict[tuple, tuple[Backend, Callable]] = {}  # for engines that compile
        parameters = list(inspect.signature(leaf).parameters.values())[1:]
        self.op = Op(
            self.name,
            _columns(leaf),
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
        made = Rule(f"plain_{self.name}", self.leaf, self.state, self.flags, self.scalars, self.scalar_names)
        made._compiled = self._compiled
        return made

    def run(self, columns: list[list], scalars: tuple, flags: dict) -> list[list]:
        """The new columns (parameters, then state arrays) of a group.

        Args:
            columns: Parameters, gradients and each of the state arrays: lists of arrays of one engine, or of traced values.
        """
        first = columns[0][0]
        count, width = len(columns[0]), len(columns)
        if type(first) is Value:
            flat = [x for column in columns for x in column]
            new = [Spec(v.shape, v.dtype) for k, column in enumerate(columns) if k != 1 for v in column]
            attrs = {"count": count, "columns": width, **flags}
            out = PLACE.graph.add(self.op, [*flat, *scalars], attrs, new)  # type: ignore[union-attr]
            return [list(out[i * count : (i + 1) * count]) for i in range(width - 1)]
        backend = backend_of(first)
        kernel = backend.fast.get(self.name)
        if kernel is not None:
            return kernel(*columns, *scalars, **flags)
        if backend.compile is not Backend.compile:
            return self._compiled_run(backend, columns, scalars, flags)
        rows = [self.leaf(backend.xp, *row, *scalars, **flags) for row in zip(*columns, strict=True)]
        return [list(column) for column in zip(*rows, strict=True)]

    def _compiled_run(self, backend: type[Backend], columns: list, scalars: tuple, flags: dict) -> list[list]:
        """The same, compiled for some parameters at a time. Its numbers are inputs: other rates are not compiled anew."""
        dtype = backend.dtype_of(columns[0][0])
        key = (backend, dtype, *flags.items())
        found = self._compiled.get(key)
        if found is None:
            engine = backend(dtype=dtype)
            leaf, xp = self.leaf, backend.xp

            def update(columns: list[list], scalars: Any) -> list[list]:
                scalars = tuple(scalars)
                rows = [leaf(xp, *row, *scalars, **flags) for row in zip(*columns, strict=True)]
                return [list(column) for column in zip(*rows, strict=True)]

            found = self._compiled[key] = (engine, engine.compile(update))
        engine, run = found
        results: list[list] = [[] for _ in columns[1:]]
        with engine.context():
            numbers = engine.scalars(list(scalars), dtype)
            for i in range(0, len(columns[0]), TOGETHER):
                part = run([column[i : i + TOGETHER] for column in columns], numbers)
                for result, new in zip(results, part, strict=True):
                    result += new
        return results


def rule(*, state: Callable, flags: Callable, scalars: Callable, names: tuple[str, ...]) -> Callable[[Callable], Rule]:
    """Makes a rule of the function for one parameter; see `Rule`."""

    def make(leaf: Callable) -> Rule:
        RULES[leaf.__name__] = made = Rule(leaf.__name__, leaf, state, flags, scalars, names)
        return made

    return make


def _columns(leaf: Callable) -> Callable:
    def run(xp, *values, count, columns, **flags):
        scalars = values[count * columns :]
        rows = zip(*(values[i * count : (i + 1) * count] for i in range(columns)), strict=True)
        results = [leaf(xp, *row, *scalars, **flags) for row in rows]
        return tuple(x for column in zip(*results, strict=True) for x in column)

    return run
