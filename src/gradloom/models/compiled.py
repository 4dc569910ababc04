"""`compile` and `CompiledModel`: a composed model, or a module, as pure functions of parameters and inputs."""

from __future__ import annotations

import contextlib
import difflib
import operator
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..backends.base import Backend
from ..backends.registry import backend_of, get_backend, using_backend
from ..backends.shapes import Spec
from ..errors import BackendError, GradloomError, OptionError, ShapeError, TraceError, explain, user_frame
from ..graph.export import export
from ..nn.module import Module
from ..ops.op import kind_of
from ..tensor.creation import default_generator
from ..tensor.tensor import Tensor
from .call import Call
from .engines import is_traced
from .net import lay_out
from .network import Builder, Network, check_inputs, unknown_sizes
from .parameters import Parameters, Placeholder, register_trees
from .part import HOOKS, ModuleLayer, Part, Unknown
from .program import Program, Request
from .shapes import text

_SPEC = operator.attrgetter("shape", "dtype")


def compile(
    model: Part | Module,
    backend: str | Backend | None = None,
    shapes: Mapping[str, Any] | None = None,
    jit: bool = True,
    file_path: str | None = None,
    *,
    constant_keys: Mapping[str, Any] | None = None,
    trainable_keys: Iterable[str] = (),
    data_keys: Iterable[str] = (),
    discard_keys: Iterable[str] = (),
    inference: bool = False,
    seed: int = 0,
) -> CompiledModel:
    """Compiles a composed model, or any `nn.Module`, for a backend. The model itself is not changed.

    Args:
        model: The model.
        backend: A name or an instance. Default: the default backend.
        shapes: {input or other named connection: shape}, with None for sizes that are not known. Where they do not tell
            the parameters' shapes, these are found at the first `evaluate`.
        jit: Pass the emitted source to the engine's own compiler (JAX, MLX).
        file_path: Where to write the emitted source, as a module that needs only the engine. Written when all shapes are
            known: now, or at the first `evaluate`.
        constant_keys: {input or parameter: its value}: they are fixed, and no longer keys.
        trainable_keys: Inputs that become parameters.
        data_keys: Parameters that become inputs.
        discard_keys: Outputs that are left out, with all that only they need.
        inference: Only the outputs are wanted: gradients are refused.
        seed: For the values that `get_parameters` gives.

    Raises:
        ShapeError: Shapes do not fit; the message names the connection and the layers at both ends.
        OptionError: Keys are unknown or in two sets, inputs are not connected, or there is a cycle.

    Example:
        >>> import numpy as np
        >>> import gradloom as gl
        >>> model = gl.Model()
        >>> model |= gl.models.Linear(dimension=16)
        >>> model += gl.models.Relu()
        >>> model += gl.models.Linear(dimension=1)
        >>> compiled = gl.compile(model, gl.NumpyBackend(), shapes={"input": [None, 4]})
        >>> params = compiled.get_parameters()
        >>> outputs, gradients = compiled.evaluate(
        ...     params,
        ...     {"input": np.ones((8, 4), "float32")},
        ...     output_gradients=lambda outputs: {"output": 2 * outputs["output"]},
        ... )
        >>> outputs["output"].shape, gradients["linear.weight"].shape
        ((8, 1), (16, 4))
    """
    part = ModuleLayer(model) if isinstance(model, Module) else model
    if not isinstance(part, Part):
        raise OptionError(
            explain(
                "compile takes a composed model, a layer of gradloom.models, or an nn.Module",
                given=type(model).__name__,
                where=user_frame(),
            )
        )
    net = lay_out(part, trainable_keys, data_keys, dict(constant_keys or {}), discard_keys)
    return CompiledModel(net, get_backend(backend), dict(shapes or {}), jit, file_path, inference, seed)


class CompiledModel:
    """A model as pure functions of its parameters and inputs; `gradloom.compile` makes it.

    Attributes:
        backend: The backend.
        input_keys, output_keys: Names.
        inference: Gradients are refused.
    """

    def __init__(
        self, net: Any, backend: Backend, shapes: dict[str, Any], jit: bool, file_path: Any, inference: bool, seed: int
    ):
        self.backend, self.inference = backend, inference
        self.input_keys, self.output_keys = tuple(net.inputs), tuple(net.outputs)
        self._net, self._jit, self._file, self._seed = net, jit, file_path, seed
        self._shapes = shapes
        self._builder = Builder(net, backend, copies=True)
        self._network: Network | None = None
        self._values: dict[int | None, dict[str, np.ndarray]] = {}
        self._programs: dict[Any, Any] = {}
        self._last: Program | None = None
        self._calls: dict[Any, Callable] = {}  # by what the short path sees
        self._recent: tuple[Any, Callable | None] = (None, None)  # the last key and its function
        self._answers: dict[Any, tuple[str, ...]] = {}  # outputs that a callable gave gradients of
        # Nothing has to be entered around calls of the engine.
        self.plain = type(backend.context()) is contextlib.nullcontext or jit
        named = {w.name for w in net.wires} | {*net.inputs, *net.outputs, *net.parameters}
        for name in shapes:
            if name not in named:
                near = difflib.get_close_matches(name, named, 1)
                raise OptionError(
                    explain(
                        f"shapes= names '{name}', which the model does not have",
                        expected=", ".join([*net.inputs, *net.outputs]),
                        where=user_frame(),
                        do=f"did you mean '{near[0]}'?" if near else None,
                    )
                )
        register_trees()
        self._found = self._builder.infer(shapes)
        with contextlib.suppress(Unknown):
            self._make(self._builder.network(self._found))
        if self._network is not None and file_path is not None:
            self._write()

    # ------------------------------------------------------------------------------------------------------- network

    def _make(self, network: Network) -> None:
        self._network = network
        self.parameter_keys: tuple[str, ...] = tuple(network.public(n) for n, _ in network.named_parameters())
        slots = {network.public(n): t for n, t in network.__jit_slots__()}
        self._parameters = {n: slots[n] for n in self.parameter_keys}
        self._state = {network.public(n): t for n, t in network.named_buffers() if not n.startswith("values.")}
        self._parameter_shapes = [tuple(t.shape) for t in self._parameters.values()]

    @property
    def shapes(self) -> dict[str, list[int | None]]:
        """What is known of the shapes of inputs, outputs and other named connections; None for unknown sizes."""
        named = {**self._net.inputs, **self._net.outputs}
        return {n: list(self._found.shapes[w]) for n, w in named.items() if w in self._found.shapes}

    @property
    def source(self) -> str:
        """The emitted source of the last `evaluate`."""
        if self._last is None:
            raise TraceError("the model has no source yet: it is emitted at the first evaluate")
        return self._last.source

    def _write(self, specs: list | None = None) -> None:
        """Writes `forward` and `backward` as a module that needs only the engine.

        Args:
            specs: Shapes and dtypes of a call; without them the file is written if all sizes are known.
        """
        network = self._known()
        if specs is None:
            found, default = self._found, self.backend.dtype
            inputs = {}
            for n, w in self._net.inputs.items():
                shape: Any = found.shapes.get(w)
                if shape is None or None in shape:
                    return
                inputs[n] = Spec(shape, found.dtypes.get(w, default))
            parameters, state = (
                {n: Spec(tuple(t.shape), t.dtype) for n, t in part.items()} for part in (self._parameters, self._state)
            )
        else:
            parameters, inputs, state = ({n: Spec(*s) for n, s in part} for part in specs)
        tables = {"params": parameters, "inputs": inputs, "state": state}
        programs = [Program(network, self.backend, Request(parameters, inputs, state, False), jit=False)]
        if not self.inference:
            given = {n: s for n, s in programs[0].specs.items() if s is not None and s.dtype.kind == "float"}
            request = Request(parameters, inputs, state, False, tuple(given))
            programs.append(Program(network, self.backend, request, jit=False))
            tables["output_gradients"] = given
        Path(self._file).write_text(export([(p.helpers, p.texts) for p in programs], tables), encoding="utf-8")
        self._file = None

    def summary(self, width: int = 100) -> Any:
        """A table of the layers with shapes and parameters, with `.rows` and `.totals` as data.

        Args:
            width: Of the text, in columns.
        """
        return HOOKS["summary"](self, width=width)

    def compiled_function(self, name: str = "forward") -> Callable:
        """The engine's compiled function of the last `evaluate`, as `source` names it; for measuring."""
        if self._last is None or name not in self._last.functions:
            raise TraceError(f"the last evaluate made no function '{name}'")
        return self._last.functions[name]

    # ---------------------------------------------------------------------------------------------------- parameters

    def get_parameters(self) -> Parameters:
        """The parameters' initial values, of the seed that was given to `compile`: new arrays, the same at each call."""
        return self._drawn(None)

    def randomize_params(self, seed: int | None = None) -> Parameters:
        """New initial values, drawn by the layers' own rules.

        Args:
            seed: Gives the same values for the same seed. Default: drawn from gradloom's generator.
        """
        return self._drawn(default_generator.next_key("parameters") if seed is None else seed)

    def _drawn(self, seed: int | None) -> Parameters:
        if self._network is None:
            return Parameters((n, Placeholder(n, seed)) for n in self._expected_names())
        return Parameters(self._initial(seed))

    def _initial(self, seed: int | None) -> dict[str, Any]:
        network = self._network
        assert network is not None
        with using_backend(self.backend), self.backend.context():
            network.initialize(self._seed if seed is None else seed, keep=seed is None)
            return {n: self.backend.copy(t._array) for n, t in self._parameters.items()}

    def _expected_names(self) -> list[str]:
        """Names of the parameters, as far as they can be told without shapes."""
        names: list[str] = list(self._net.parameters)
        for leaf in self._net.leaves:
            if leaf.shared is None:
                names += [
                    f"{leaf.path}.{key}" if leaf.path else key
                    for key in leaf.layer.names()
                    if key not in leaf.parameters
                ]
        return names

    def to_module(self, shapes: dict[str, Any] | None = None) -> Network:
        """An `nn.Module` of the model with parameters of its own, which start as those of `get_parameters`.

        Args:
            shapes: {input: shape}, as far as `compile` was not given them; None for sizes that no layer needs to know.

        Raises:
            ShapeError: The shapes do not tell all that the layers need to know.

        Example:
            >>> import gradloom as gl
            >>> module = gl.compile(gl.models.Linear(8), "numpy").to_module({"input": [None, 4]})
            >>> module(gl.ones(2, 4)).shape
            gradloom.Size([2, 8])
        """
        builder = Builder(self._net, self.backend, copies=True)
        found = builder.infer({**self._shapes, **(shapes or {})})
        try:
            network = builder.network(found)
        except Unknown as missing:
            raise unknown_sizes(self._net, found, missing) from None
        with using_backend(self.backend), self.backend.context():
            network.initialize(self._seed)
        return network

    def get_state(self) -> dict[str, Any]:
        """What layers keep besides parameters, at its start: the running statistics of batch normalization."""
        self._known()
        with self.backend.context():
            return {n: self.backend.copy(t._array) for n, t in self._state.items()}

    def _known(self) -> Network:
        if self._network is None:
            raise ShapeError(
                explain(
                    "the shapes of the model's parameters are not known yet",
                    where=user_frame(),
                    do="give shapes={...} to compile, or call evaluate once",
                )
            )
        return self._network

    def _fill(self, params: Any, inputs: dict[str, Any]) -> None:
        """Finds the shapes at the first evaluate, and puts arrays into the place of placeholders."""
        given = {n: tuple(x.shape) for n, x in inputs.items()}
        known = {n: tuple(x.shape) for n, x in params.items() if type(x) is not Placeholder}
        if self._network is None:
            self._found = self._builder.infer({**self._shapes, **given, **known})
            try:
                self._make(self._builder.network(self._found))
            except Unknown as missing:
                raise unknown_sizes(self._net, self._found, missing) from None
        values: dict[Any, dict] = {}
        for name, x in params.items():
            if type(x) is Placeholder and name in self._parameters:
                if x.seed not in values:
                    values[x.seed] = self._initial(x.seed)
                params[name] = values[x.seed][name]
                x.fill(params[name])

    # ------------------------------------------------------------------------------------------------------ evaluate

    def evaluate(
        self,
        params: Any,
        inputs: Mapping[str, Any],
        output_gradients: Mapping[str, Any] | Callable[[dict], Mapping[str, Any]] | None = None,
        *,
        input_gradients: Iterable[str] = (),
        state: Mapping[str, Any] | None = None,
        training: bool = False,
        seed: int | None = None,
    ) -> Any:
        """The outputs; with `output_gradients` also the gradients. Pure: nothing is changed but placeholders.

        It works inside `jax.jit`, `jax.grad` and `jax.vmap`, and PyTorch's autograd goes through it.

        Args:
            params: {name: array}, as `get_parameters` gives them.
            inputs: {name: array}.
            output_gradients: {output: gradient of some number with respect to it}; for some or all of the outputs. Or a
                function of the outputs that gives it, which saves computing the outputs twice.
            input_gradients: Inputs whose gradients are wanted: `gradients["<name>_grad"]`. With `Parameters` these can be
                had without asking.
            state: As `get_state` or the last call gave it; the new one is returned last. JAX's transforms give no gradient
                through the new one, and raise where one with respect to it is wanted.
            training: Layers run in training mode: dropout drops, batch normalization uses the batch.
            seed: For random layers in training mode: the same seed gives the same masks.

        Returns:
            `outputs`, `(outputs, gradients)`, `(outputs, state)`, or `(outputs, gradients, state)`; dicts by name. Gradients
            are of the class of `params`, and without parameters that are frozen.

        Raises:
            OptionError: Names are unknown or missing.
            ShapeError: A shape does not fit.
        """
        if output_gradients is None and state is None and not training and not input_gradients:
            try:  # the short path: names, shapes, dtypes and types that were seen before
                arrays, given = params.values(), inputs.values()
                key = (
                    tuple(params), tuple(inputs), tuple(map(_SPEC, arrays)), tuple(map(_SPEC, given)),
                    tuple(map(type, arrays)), tuple(map(type, given)),
                )  # fmt: skip
                recent = self._recent  # of one thread: another may set it meanwhile
                if key != recent[0]:  # comparing is quicker than hashing
                    self._recent = recent = (key, self._calls.get(key))
                call = recent[1]
            except (AttributeError, TypeError, OptionError):  # no arrays, or placeholders
                call, key = None, None
            if call is not None:
                return call(dict(params), inputs)
        else:
            key = None
        return self._evaluate(params, inputs, output_gradients, tuple(input_gradients), state, training, seed, key)

    def _evaluate(
        self, params: Any, inputs: Any, gradients: Any, wanted: tuple, state: Any, training: bool, seed: Any, key: Any
    ) -> Any:
        check_inputs(inputs, self.input_keys)
        given = {n: self._array(f"the input '{n}'", inputs[n]) for n in self.input_keys}
        if self._network is None or any(type(x) is Placeholder for x in params.values()):
            self._fill(params, given)
            key = None
        call = Call(self, self._checked(params), given, self._held(state), training, seed)
        if self._file is not None:
            self._write(call.specs)
        if gradients is None:
            if wanted:
                raise OptionError(explain("input_gradients needs output_gradients", where=user_frame()))
            program = self._program(call, None, ())
            outputs, new_state = call.forward(program)
            plain = call.runs_plainly(program) and all(given[n] is inputs[n] for n in given)
            if key is not None and plain:
                self._calls[key] = program.functions["forward"]
                self._recent = (None, None)
            return outputs if state is None else (outputs, new_state)
        if self.inference:
            raise OptionError(
                explain("this model was compiled with inference=True, so it has no gradients", where=user_frame())
            )
        for name in wanted:
            if name not in self.input_keys:
                raise self._unknown("input_gradients", name, self.input_keys)
        outputs, found, cotangents, new_state = self._gradients(call, gradients, wanted)
        result = self._contained(params, call, found, cotangents, wanted)
        return (outputs, result) if state is None else (outputs, result, new_state)

    def _gradients(self, call: Call, gradients: Any, wanted: tuple) -> tuple:
        """(outputs, gradients with those of inputs as "<name>_grad", the cotangents, the new state)."""
        if not callable(gradients):
            self._known_outputs(gradients)
            program = self._program(call, tuple(gradients), wanted)
            cotangents = self._cotangents(program, gradients)
            outputs, found, *more = call.run(program, "backward", cotangents)
            return outputs, found, cotangents, more[0] if more else {}
        # Which gradients the function gives is known from the last time.
        names = self._answers.get(call.key)
        if names is None:
            outputs, _ = call.forward(self._program(call, None, ()))
            names = self._answers[call.key] = self._known_outputs(gradients(outputs))
        program = self._program(call, names, wanted, split=True)
        outputs, needed, *more = call.run(program, "forward_saving")
        answer = gradients(outputs)
        if self._known_outputs(answer) != names:
            del self._answers[call.key]
            return self._gradients(call, answer, wanted)
        cotangents = self._cotangents(program, answer)
        found = call.run(program, "backward_saved", needed, cotangents)
        return outputs, found, cotangents, more[0] if more else {}

    def _contained(self, params: Any, call: Call, found: dict, cotangents: dict, wanted: tuple) -> Any:
        """The gradients in the class of the parameters."""
        if not isinstance(params, Parameters):
            return found if type(params) is dict else type(params)(found)
        ready = {n: found.pop(f"{n}_grad") for n in wanted}
        result = Parameters(found)

        def of_input(name: str) -> Any:
            if name not in ready:
                if name not in self.input_keys:
                    raise KeyError(f"{name}_grad")
                program = self._program(call, tuple(cotangents), (name,))
                ready[name] = call.run(program, "backward", cotangents)[1][f"{name}_grad"]
            return ready[name]

        result._input_gradient = of_input
        return result

    # -------------------------------------------------------------------------------------------------------- checks

    def _array(self, what: str, value: Any) -> Any:
        """A value as an array of the backend."""
        if isinstance(value, Tensor):
            value = value._array
        if hasattr(value, "concrete"):
            raise TraceError(
                explain(
                    f"{what} is a traced Tensor: a compiled model runs on arrays, and is no part of what gradloom.jit compiles",
                    where=user_frame(),
                    do="use model.to_module(...), which is an nn.Module, inside functions that gradloom.jit compiles",
                )
            )
        if isinstance(value, self.backend.array_types) or is_traced((value,)):
            return value
        if isinstance(value, (bool, int, float, list, tuple, np.ndarray, np.generic)):
            return self.backend.array(value)
        if kind_of(type(value)) is None:
            raise OptionError(explain(f"{what} is no array", given=type(value).__name__, where=user_frame()))
        raise BackendError(
            explain(
                f"{what} is an array of another backend",
                expected=self.backend.name,
                given=backend_of(value).name,
                where=user_frame(),
                do="convert it with backend.array(x)",
            )
        )

    def _checked(self, params: Any) -> dict[str, Any]:
        """The parameters as a dict in the order of `parameter_keys`."""
        if len(params) != len(self.parameter_keys) or any(n not in params for n in self.parameter_keys):
            for name in params:
                if name not in self.parameter_keys:
                    raise self._unknown("the parameters", name, self.parameter_keys)
            missing = [n for n in self.parameter_keys if n not in params]
            raise OptionError(
                explain("parameters are missing", expected=", ".join(self.parameter_keys), given=f"no {', '.join(missing)}",
                        where=user_frame())
            )  # fmt: skip
        arrays = {n: self._array(f"the parameter '{n}'", params[n]) for n in self.parameter_keys}
        for (name, array), shape in zip(arrays.items(), self._parameter_shapes, strict=True):
            if tuple(array.shape) != shape:
                raise ShapeError(
                    explain(
                        f"the parameter '{name}' has the wrong shape",
                        expected=text(shape),
                        given=text(array.shape),
                        where=user_frame(),
                    )
                )
        return arrays

    def _held(self, state: Any) -> dict[str, Any]:
        if state is None:
            return {n: t._array for n, t in self._state.items()}
        for name in state:
            if name not in self._state:
                raise self._unknown("state", name, tuple(self._state))
        if len(state) != len(self._state):
            raise OptionError(
                explain(
                    "a part of the state is missing",
                    expected=", ".join(self._state),
                    given=", ".join(state),
                    where=user_frame(),
                )
            )
        return {n: self._array(f"the state '{n}'", state[n]) for n in self._state}

    def _known_outputs(self, gradients: Any) -> tuple[str, ...]:
        if not isinstance(gradients, Mapping):
            raise OptionError(
                explain(
                    "output_gradients is a dict by output, or a function of the outputs that gives one",
                    given=type(gradients).__name__,
                    where=user_frame(),
                )
            )
        for name in gradients:
            if name not in self.output_keys:
                raise self._unknown("output_gradients", name, self.output_keys)
        return tuple(gradients)

    def _cotangents(self, program: Program, gradients: Mapping[str, Any]) -> dict[str, Any]:
        found = {}
        for name, g in gradients.items():
            spec: Any = program.specs[name]
            array = self._array(f"the gradient of the output '{name}'", g)
            if tuple(array.shape) != spec.shape:
                raise ShapeError(
                    explain(
                        f"the gradient of the output '{name}' does not have the output's shape",
                        expected=text(spec.shape),
                        given=text(array.shape),
                        where=user_frame(),
                    )
                )
            if self.backend.dtype_of(array) is not spec.dtype:
                array = self.backend.cast(array, spec.dtype)
            found[name] = array
        return found

    def _unknown(self, what: str, name: str, among: tuple[str, ...]) -> OptionError:
        near = difflib.get_close_matches(name, among, 1)
        return OptionError(
            explain(
                f"{what} has a key '{name}' that the model does not know",
                expected=", ".join(among) or "none",
                given=name,
                where=user_frame(),
                do=f"did you mean '{near[0]}'?" if near else None,
            )
        )

    # ------------------------------------------------------------------------------------------------------ programs

    def _program(
        self, call: Call, cotangents: tuple[str, ...] | None, wanted: tuple[str, ...], split: bool = False
    ) -> Program:
        """The program for a call's shapes; made when they are first met."""
        key = (call.key, cotangents, wanted, split)
        program = self._programs.get(key)
        if program is None:
            network = self._known()
            params, inputs, state = ({n: Spec(*s) for n, s in part} for part in call.specs)
            request = Request(params, inputs, state, call.training, cotangents, wanted)
            try:
                program = Program(network, self.backend, request, self._jit, split)
            except GradloomError as error:
                self._explained(call)
                raise error
            self._programs[key] = program
        self._last = program
        return program

    def _explained(self, call: Call) -> None:
        """Raises an error that names the connection, where shapes of inputs do not fit the parameters."""
        shapes = {n: tuple(x.shape) for n, x in call.inputs.items()}
        self._builder.infer(shapes, {n: tuple(x.shape) for n, x in call.params.items()})
