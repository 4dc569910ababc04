"""From a network to functions of arrays: traced for one set of shapes, printed, compiled by the engine.

The text has up to four functions: `forward(params, inputs)`, `backward(params, inputs, output_gradients)`, and the two
halves of the latter, for cotangents that depend on the outputs: `forward_saving` gives the outputs and what
`backward_saved` needs of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..backends.base import Backend
from ..backends.shapes import Spec
from ..errors import GradientError, explain, user_frame
from ..graph import emit, passes
from ..graph.compiled import compute
from ..graph.graph import Graph, Node, Value
from ..graph.trace import Trace
from ..ops.op import REGISTRY
from ..tensor import autograd
from ..tensor.arrays import wrap
from ..tensor.grad_mode import enable_grad, no_grad
from ..tensor.tensor import Tensor
from .network import Network


class Request:
    """What a program is to compute: for which shapes, in which mode, which gradients.

    Attributes:
        parameters, inputs, state: {name: Spec}.
        training: The mode of the layers.
        cotangents: Names of the outputs whose gradients are given; None for a program without gradients.
        input_gradients: Names of the inputs whose gradients are wanted.
    """

    def __init__(
        self,
        parameters: dict[str, Spec],
        inputs: dict[str, Spec],
        state: dict[str, Spec],
        training: bool,
        cotangents: tuple[str, ...] | None = None,
        input_gradients: tuple[str, ...] = (),
    ):
        self.parameters, self.inputs, self.state, self.training = parameters, inputs, state, training
        self.cotangents, self.input_gradients = cotangents, input_gradients


class Traced:
    """The graph of a request, and which of its values are what.

    Attributes:
        outputs, state, gradients, input_gradients: {name: Value, or what is no Value: a fixed result}.
        cotangents: {output: the Value that stands for its gradient}.
        hosts: [(draw, Value)] of random numbers.
        cotangent_of: {value of the backward pass: the value whose cotangent it is}.
    """

    def __init__(self, network: Network, backend: Backend, request: Request):
        self.backend, self.request = backend, request
        modes = [(m, m.training) for m in network.modules()]
        paths = {i: network.public(p + ".").rstrip(".") for i, p in network.__jit_paths__().items()}
        trace = Trace(backend, paths)
        self.graph = trace.graph
        inputs = {name: self._input("inputs", name, spec) for name, spec in request.inputs.items()}
        tensors = {name: wrap(value) for name, value in inputs.items()}
        for name in request.input_gradients:
            if not tensors[name].is_floating_point():
                raise GradientError(
                    explain(
                        f"the input '{name}' has no gradient",
                        given=f"it is of dtype {tensors[name].dtype}",
                        where=user_frame(),
                    )
                )
            tensors[name].requires_grad_()
        captured = list(network.__jit_slots__())
        places = dict(captured)
        self.cotangents: dict[str, Value] = {}

        def call() -> tuple[dict, dict, dict]:
            for module, _ in modes:
                if module.training is not request.training:
                    object.__setattr__(module, "training", request.training)
            if request.cotangents is None:
                with no_grad():
                    return network.run(tensors), {}, {}
            with enable_grad():
                outputs = network.run(tensors)
                return outputs, *self._gradients(network, outputs, places, tensors)

        try:
            outputs, gradients, input_gradients = trace.run(call, (), {}, captured, [("", network)])
        finally:
            for module, mode in modes:
                object.__setattr__(module, "training", mode)
        finals = {name: final for (name, _, _), final in zip(trace.tensors, trace.finals, strict=True)}
        self.state: dict[str, Any] = {}
        for name, tensor, value in trace.tensors:
            public = network.public(name)
            if public in request.parameters:
                value.name = f'params["{public}"]'
            elif public in request.state:
                value.name = f'state["{public}"]'
                self.state[public] = finals[name]
            else:  # a value that was set in the model
                value.constant = tensor._array
                self.graph.inputs.remove(value)
        self.outputs = {n: t._array if isinstance(t, Tensor) else t for n, t in outputs.items()}
        self.gradients = {n: t._array for n, t in gradients.items()}
        self.input_gradients = {n: t._array for n, t in input_gradients.items()}
        self.hosts = trace.hosts
        self._pass()

    def _input(self, table: str, name: str, spec: Spec) -> Value:
        return self.graph.input(spec.shape, spec.dtype, f'{table}["{name}"]')

    def _gradients(
        self, network: Network, outputs: dict, places: dict[str, Tensor], tensors: dict
    ) -> tuple[dict, dict]:
        request = self.request
        roots, given = [], []
        for name in request.cotangents or ():
            out = outputs[name]
            if not isinstance(out, Tensor) or not out.is_floating_point():
                raise GradientError(
                    explain(
                        f"the output '{name}' has no gradient",
                        given=f"it is of dtype {out.dtype}" if isinstance(out, Tensor) else "it is fixed",
                        where=user_frame(),
                        do="leave it out of output_gradients",
                    )
                )
            value = self._input("output_gradients", name, Spec(out._array.shape, out.dtype))
            self.cotangents[name] = value
            if out._node is not None:
                roots.append(out)
                given.append(wrap(value))
        wanted = {
            network.public(n): t
            for n, t in places.items()
            if network.public(n) in request.parameters and t.requires_grad
        }
        all_wanted = [*wanted.values(), *(tensors[n] for n in request.input_gradients)]
        if roots and all_wanted:
            found = autograd.grad(roots, all_wanted, given, allow_unused=True, materialize_grads=True)
        else:
            found = tuple(t.detach() * 0 for t in all_wanted)
        gradients = dict(zip(wanted, found, strict=False))
        return gradients, dict(zip(request.input_gradients, found[len(wanted) :], strict=True))

    def _tables(self) -> list[dict[str, Any]]:
        return [self.outputs, self.state, self.gradients, self.input_gradients]

    def _pass(self) -> None:
        """Simplifies the graph; the tables follow."""
        graph, backend = self.graph, self.backend
        graph.outputs = [v for table in self._tables() for v in table.values() if type(v) is Value]
        with backend.context():
            passes.dead(graph)
            passes.common(graph)
            passes.fold(graph, lambda node, values: compute(backend, node, values))
            passes.simplify(graph)
            # Followed now, as the chain from the outputs goes through copies.
            seeds = {value: self.outputs[name] for name, value in self.cotangents.items()}
            self.cotangent_of = emit.cotangents(graph, seeds)
            emit.drop_copies(graph)
            passes.dead(graph)
        rest = iter(graph.outputs)
        for table in self._tables():
            for name, v in table.items():
                if type(v) is Value:
                    table[name] = next(rest)


class Program:
    """The functions of a request.

    Attributes:
        source: Their text.
        helpers: What the text refers to.
        forward, backward, forward_saving, backward_saved: Compiled by the engine; None where they were not asked for.
            They take dicts: (params, inputs[, state][, random][, output_gradients]); see the text.
        draws: Functions that draw the random numbers of a run, with their dtypes.
        specs: {output: Spec}.
    """

    def __init__(self, network: Network, backend: Backend, request: Request, jit: bool = True, split: bool = False):
        traced = Traced(network, backend, request)
        self.backend, self.request = backend, request
        self.specs = {n: Spec(v.shape, v.dtype) if type(v) is Value else None for n, v in traced.outputs.items()}
        self.draws = [(draw, value.dtype) for draw, value in traced.hosts]
        self.helpers = emit.Helpers(backend)
        self.parameters = [
            "params",
            "inputs",
            *(["state"] if request.state else []),
            *(["random"] if self.draws else []),
        ]
        names = ["forward", "backward", "forward_saving", "backward_saved"]
        reserved = {*self.parameters, "output_gradients", "saved", "xp", *names, *REGISTRY}
        reserved |= emit.prepare(traced.graph, self.helpers)
        emit.name_values(traced.graph, reserved, traced.cotangent_of)
        self._constants(traced.graph)
        if request.cotangents is None:
            texts = {"forward": self._forward(traced)}
        elif split:
            texts = self._halves(traced)
        else:
            texts = {"backward": self._backward(traced)}
        self.texts = texts
        self.source = emit.module_text(self.helpers, "\n\n\n".join(texts.values()))
        built = emit.build(next(iter(texts)), self.source, self.helpers.namespace)
        self.functions: dict[str, Callable] = {}
        for name in texts:
            fn = built if name == next(iter(texts)) else built.__globals__[name]
            self.functions[name] = backend.compile(fn) if jit else fn

    # ------------------------------------------------------------------------------------------------------ printing

    def _constants(self, graph: Graph) -> None:
        found = dict.fromkeys(
            v for node in graph.nodes for v in node.inputs if type(v) is Value and v.constant is not None
        )
        found |= dict.fromkeys(v for v in graph.outputs if v.constant is not None)
        for k, v in enumerate(found):
            v.name = f"constant_{k}"
            self.helpers.namespace[v.name] = v.constant

    def _text(
        self,
        name: str,
        more: Iterable[str],
        nodes: list[Node],
        outputs: list[Value],
        result: list[str],
        first: str = "",
    ) -> str:
        graph = Graph()
        graph.nodes, graph.outputs = nodes, outputs
        lines = [first] if first else []
        lines += emit.body(graph, self.helpers)
        lines += returned(result)
        head = f"def {name}({', '.join([*self.parameters, *more])}):\n"
        return head + "\n".join("    " + line for line in lines)

    def _forward(self, traced: Traced) -> str:
        outs = [v for t in (traced.outputs, traced.state) for v in t.values() if type(v) is Value]
        return self._text("forward", (), traced.graph.nodes, outs, self._result(traced))

    def _result(self, traced: Traced, *more: str) -> list[str]:
        return [table(traced.outputs), *more, *([table(traced.state)] if self.request.state else [])]

    def _backward(self, traced: Traced) -> str:
        result = self._result(traced, self._all_gradients(traced))
        return self._text("backward", ("output_gradients",), traced.graph.nodes, traced.graph.outputs, result)

    @staticmethod
    def _all_gradients(traced: Traced) -> str:
        return table({**traced.gradients, **{f"{n}_grad": v for n, v in traced.input_gradients.items()}})

    def _halves(self, traced: Traced) -> dict[str, str]:
        graph = traced.graph
        results = [v for t in (traced.outputs, traced.state) for v in t.values() if type(v) is Value]
        needed = set(results)
        first: list[Node] = []
        for node in reversed(graph.nodes):
            if any(v in needed for v in node.outputs):
                first.append(node)
                needed.update(v for v in node.inputs if type(v) is Value)
        first.reverse()
        early = set(map(id, first))
        rest = [node for node in graph.nodes if id(node) not in early]
        made = {v for node in first for v in node.outputs}
        gradients = [v for t in (traced.gradients, traced.input_gradients) for v in t.values()]
        used = dict.fromkeys(v for node in rest for v in node.inputs if type(v) is Value and v in made)
        used |= dict.fromkeys(v for v in gradients if v in made)
        saved = ", ".join(v.name for v in used) + ("," if len(used) == 1 else "")
        result = self._result(traced, f"({saved})")
        return {
            "forward_saving": self._text("forward_saving", (), first, [*results, *used], result),
            "backward_saved": self._text(
                "backward_saved", ("saved", "output_gradients"), rest, [*gradients, *used],
                [self._all_gradients(traced)], f"{saved} = saved" if used else "",
            ),
        }  # fmt: skip


def table(values: dict[str, Any]) -> str:
    """A dict of values as text."""
    return "{" + ", ".join(f'"{n}": {emit.operand(v)}' for n, v in values.items()) + "}"


def returned(parts: list[str]) -> list[str]:
    """The lines of a return statement."""
    text = "return " + ", ".join(parts)
    if len(text) <= 100:
        return [text]
    if len(parts) == 1:
        return emit.comment(text, "", 100)
    return ["return (", *("    " + line for part in parts for line in emit.comment(part + ",", "", 96)), ")"]
