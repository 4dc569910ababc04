"""One call of `evaluate`: its arguments, and how the functions of a program are called with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import random
from ..errors import OptionError, explain, user_frame
from ..tensor.creation import default_generator
from .engines import differentiable, is_traced, unrecorded
from .program import Program


class Call:
    """The arguments of one call of `evaluate`.

    Attributes:
        specs: Names, shapes and dtypes of parameters, inputs and state.
        key: They, and the mode.
    """

    def __init__(self, model: Any, params: dict, inputs: dict, held: dict, training: bool, seed: Any):
        self.model, self.params, self.inputs, self.held = model, params, inputs, held
        self.training, self.seed = training, seed
        dtype = model.backend.dtype_of
        self.specs = [
            tuple((n, (tuple(x.shape), dtype(x))) for n, x in part.items()) for part in (params, inputs, held)
        ]
        self.key = (*self.specs, training)

    def arguments(self, program: Program) -> list[Any]:
        """What all functions of a program take."""
        found: list[Any] = [self.params, self.inputs]
        if program.request.state:
            found.append(self.held)
        if program.draws:
            if self.seed is None:
                raise OptionError(
                    explain(
                        "in training mode this model draws random numbers",
                        where=user_frame(),
                        do="give evaluate a seed=, another one at each step",
                    )
                )
            before = default_generator.get_state()
            try:
                default_generator.manual_seed(random.key(int(self.seed), "evaluate"))
                found.append([self.model.backend.from_numpy(draw(), dtype) for draw, dtype in program.draws])
            finally:
                default_generator.set_state(before)
        return found

    def run(self, program: Program, name: str, *more: Any) -> Any:
        """Calls a function of a program; the engine's own autograd sees nothing."""
        backend = self.model.backend
        with unrecorded(backend.name), backend.context():
            return program.functions[name](*self.arguments(program), *more)

    def runs_plainly(self, program: Program) -> bool:
        """Whether `forward(params, inputs)` is all that there is to do."""
        return not program.draws and not program.request.state and not self.traced and self.model.plain

    @property
    def traced(self) -> bool:
        return is_traced((*self.params.values(), *self.inputs.values(), *self.held.values()))

    def forward(self, program: Program) -> tuple[dict, dict]:
        """(outputs, state); the engine's own autograd goes through."""
        run = program.functions["forward"]
        if self.traced and not self.model.inference:
            run = self.through(run)
        with self.model.backend.context():
            result = run(*self.arguments(program))
        return result if program.request.state else (result, {})

    def through(self, run: Callable) -> Callable:
        """`forward` with our gradients for JAX."""
        model, dtype = self.model, self.model.backend.dtype_of
        program = model._program(self, None, ())
        floats = tuple(n for n, spec in program.specs.items() if spec is not None and spec.dtype.kind == "float")
        inputs = tuple(n for n, x in self.inputs.items() if dtype(x).kind == "float")
        if not floats:
            return run
        halves = model._program(self, floats, inputs, split=True)
        return differentiable(run, halves.functions["forward_saving"], halves.functions["backward_saved"])
