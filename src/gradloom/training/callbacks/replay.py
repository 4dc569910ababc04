"""Steps of training run again, line by line, to find the operation that first made a value non-finite.

`Recorder` notes what a loop's model and optimizer hold, and the batches since then. `Watch` sees every op on Tensors while it is
entered: it swaps the entries of op dispatch, so nothing is paid for it at other times.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ... import ops, tree
from ...errors import user_frame
from ...nn.calls import below
from ...nn.module import Module
from ...ops.op import KINDS, REGISTRY, Op
from ...tensor.creation import default_generator
from ...tensor.grad_mode import no_grad
from ...tensor.tape import hooks_of
from ...tensor.tensor import Tensor
from ..step import clipping, micro_step, update_step

# ------------------------------------------------------------------------------------------------ what a loop holds


def snapshot(loop: Any) -> dict[str, Any]:
    """Copies of what a loop's model, optimizer and random stream hold."""
    with no_grad():
        return {
            "tensors": [t.clone() for t in tensors_of(loop.model)],
            "optimizer": tree.map(lambda x: x.clone() if isinstance(x, Tensor) else x, loop.optimizer.state_dict()),
            "generator": default_generator.get_state(),
        }


def put_back(loop: Any, state: Mapping[str, Any]) -> None:
    """Gives a loop what `snapshot` found, bit for bit."""
    with no_grad():
        for t, before in zip(tensors_of(loop.model), state["tensors"], strict=True):
            t.copy_(before)
    loop.optimizer.zero_grad()
    loop.optimizer.load_state_dict(state["optimizer"])
    default_generator.set_state(state["generator"])


def tensors_of(model: Any) -> list[Tensor]:
    """The parameters and buffers of a module."""
    return [*model.parameters(), *model.buffers()]


def not_finite(t: Any) -> str:
    """ "NaN", "inf" or "": what is in a Tensor that is no number."""
    if not isinstance(t, Tensor) or t.dtype.kind != "float":
        return ""
    array = t.detach().numpy()
    if np.isfinite(array).all():
        return ""
    return "NaN" if np.isnan(array).any() else "inf"


class Recorder:
    """The last state of a loop that gave a finite loss, and the batches that it has trained on since.

    Args:
        loop: The training loop.
    """

    def __init__(self, loop: Any):
        self.loop = loop
        self._base: dict[str, Any] | None = None
        self._next: dict[str, Any] | None = None
        self._batches: list[tuple[int, Any, Any, list]] = []
        self._noted = -1

    def keep(self, step: int, note: bool) -> None:
        """Before a step: keeps its batch, and with `note` what the loop holds."""
        if self._base is None:
            self._base = snapshot(self.loop)
        elif note and step != self._noted:
            self._next, self._from, self._noted = snapshot(self.loop), len(self._batches), step
        rates = [g["lr"] for g in self.loop.optimizer.param_groups]
        self._batches.append((step, *self.loop.last_batch, rates))

    def passed(self) -> None:
        """The loss is finite, so what was noted before the step is good to start from."""
        if self._next is not None:
            self._base, self._next = self._next, None
            del self._batches[: self._from]

    def find(self) -> dict[str, str]:
        """Runs the steps again; what was found, as parts of a message. The loop is left as it is."""
        loop = self.loop
        now = snapshot(loop)
        mode = loop.model.training
        try:
            put_back(loop, self._base or now)
            loop.model.train()
            with np.errstate(all="ignore"):
                return self._run()
        finally:
            put_back(loop, now)
            loop.model.train(mode)

    def _run(self) -> dict[str, str]:
        loop = self.loop
        weights: list[Any] = []
        bad = bad_names(loop.model)
        if bad:
            return {"given": f"{bad} before the step already", "do": "look at where these values come from"}
        for step, inputs, targets, rates in self._batches:
            for group, rate in zip(loop.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            found = bad_inputs(inputs, targets)
            if found:
                return {
                    "given": f"{found} in the batch of step {step}",
                    "do": "clean the data, or leave such samples out",
                }
            watch = Watch(loop.model)
            with watch:
                loss = self._step(inputs, targets, weights)
            if not_finite(loss):
                return watch.forward(loss, step)
            bad = bad_names(loop.model)
            if bad:
                return watch.backward(bad, step)
        return {
            "given": "the steps since the last finite loss, run again line by line, gave finite values",
            "do": "a value may be close to the limit of its dtype: lower the learning rate, or clip gradients (clip_norm=1.0)",
        }

    def _step(self, inputs: Any, targets: Any, weights: list) -> Any:
        loop, clip = self.loop, clipping(self.loop.clip_norm, self.loop.clip_value)
        if loop.accumulate == 1:
            more = {} if clip is None else {"before_update": clip}
            return loop._own_step(loop.model, loop.optimizer, loop.loss_fn, inputs, targets, **more)[0]
        first = next(x for x in tree.flatten(inputs)[0] if isinstance(x, Tensor))
        loss, _, weight = micro_step(loop.model, loop.loss_fn, inputs, targets, first.shape[0] if first.ndim else 1)
        weights.append(weight)
        if len(weights) == loop.accumulate:
            update_step(loop.model, loop.optimizer, ops.zeros_like(loss.detach()) + sum(weights), clip)
            weights.clear()
        return loss


def bad_names(model: Any) -> str:
    """Which parameters and buffers are not finite, in short; "" if all are."""
    bad = [(n, what) for n, t in model.state_dict().items() if (what := not_finite(t))]
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    return ", ".join(f"{what} in {n}" for n, what in bad[:3]) + more


def bad_inputs(inputs: Any, targets: Any) -> str:
    """What is not finite in a batch."""
    for name, part in (("inputs", inputs), ("targets", targets)):
        for leaf in tree.flatten(part)[0]:
            what = not_finite(leaf)
            if what:
                rows = ~np.isfinite(leaf.detach().numpy()).reshape(leaf.shape[0] if leaf.ndim else 1, -1).all(1)
                return f"{what} in the {name} (sample {int(np.argmax(rows))})"
    return ""


# ------------------------------------------------------------------------------------------------- watching ops


class Call:
    """One call of an op on Tensors: its operands and results, and where it stands."""

    __slots__ = ("args", "attrs", "bad", "grad", "module", "op", "outputs", "where")

    def __init__(self, op: Op, args: tuple, attrs: dict, outputs: tuple, module: Any, where: str):
        self.op, self.args, self.attrs, self.outputs, self.module, self.where = op, args, attrs, outputs, module, where
        self.bad = next((what for t in outputs if (what := not_finite(t))), "")
        self.grad = ""  # what is not finite in the gradient of its results


class Watch:
    """Sees all ops on Tensors while it is entered, and what their results and gradients hold.

    Args:
        model: For the paths of modules.
    """

    def __init__(self, model: Any):
        self.model = model
        self.calls: list[Call] = []
        self.makers: dict[int, Call] = {}  # id of a Tensor -> the call that made it; the calls keep the Tensors alive
        self._broken: Call | None = None  # the first whose result got a gradient that is not finite
        self._swapped: list[tuple[dict, type, Callable]] = []
        self._operators: dict[str, Any] = {}

    def __enter__(self) -> Watch:
        kinds = [t for t, kind in KINDS.items() if kind.rank == 2]
        direct = {id(op.entry[Tensor]): op for op in REGISTRY.values()}
        for op in list(REGISTRY.values()):
            for kind in kinds:
                self._swapped.append((op.entry, kind, op.entry[kind]))
                op.entry[kind] = self._watched(op, op.entry[kind])
        for name, function in list(vars(Tensor).items()):  # operators hold their op's entry itself
            if id(function) in direct:
                self._operators[name] = function
                setattr(Tensor, name, direct[id(function)].entry[Tensor])
        return self

    def __exit__(self, *error: Any) -> None:
        for entry, kind, before in self._swapped:
            entry[kind] = before
        for name, function in self._operators.items():
            setattr(Tensor, name, function)

    def _watched(self, op: Op, run: Callable) -> Callable:
        def call(*args: Any, **attrs: Any) -> Any:
            out = run(*args, **attrs)
            outputs = tuple(t for t in (out if isinstance(out, tuple) else (out,)) if isinstance(t, Tensor))
            seen = Call(op, args, attrs, outputs, module_of(), user_frame())
            self.calls.append(seen)
            for t in outputs:
                self.makers[id(t)] = seen
                if t._node is not None and not hasattr(t._node, "tensor"):
                    hooks_of(t._node)[seen] = self._hook(seen)
            return out

        return call

    def _hook(self, seen: Call) -> Callable:
        def hook(g: Tensor) -> None:
            what = not_finite(g)
            if what and not seen.grad:
                seen.grad = what
                if self._broken is None:
                    self._broken = seen

        return hook

    # --- what was seen

    def forward(self, loss: Tensor, step: int) -> dict[str, str]:
        """Where a loss that is not finite comes from."""
        first = self._origin(self.makers.get(id(loss)), "NaN" if not_finite(loss) == "NaN" else "inf")
        if first is None:
            return {"given": "a loss that is not finite, and not computed by gradloom's ops"}
        later = None
        if first.bad == "NaN":  # of what was finite or infinite: then the infinite is what to look for
            source = self._origin(self._maker(first, "inf"), "inf")
            if source is not None:
                first, later = source, first
        text = f"{first.bad} first in step {step}, made by {self._named(first)} of finite values"
        if later is not None:
            text += f"; {self._named(later)} then made NaN of it"
        return {"given": f"{text}\n{operands(first)}", "where": self._where(first), "do": ADVICE.get(first.op.name, DO)}

    def _maker(self, call: Call, what: str) -> Call | None:
        """The call that made an operand with such a value."""
        for t in tree.flatten(list(call.args))[0]:
            maker = self.makers.get(id(t))
            if maker is not None and maker is not call and not_finite(t) == what:
                return maker
        return None

    def _origin(self, call: Call | None, what: str) -> Call | None:
        """Back from a call to the first one that made such a value of values without."""
        while call is not None:
            before = self._maker(call, what)
            if before is None:
                return call
            call = before
        return None

    def backward(self, bad: str, step: int) -> dict[str, str]:
        """Where the gradient, or the update, of a step with a finite loss went wrong."""
        broken = self._broken
        users: list[Call] = []
        if broken is not None:
            made = {id(t) for t in broken.outputs}
            users = [c for c in self.calls if any(id(a) in made for a in tree.flatten(list(c.args))[0])]
        else:
            for p in self.model.parameters():
                if isinstance(p.grad, Tensor) and not_finite(p.grad):
                    users = [c for c in self.calls if any(a is p for a in tree.flatten(list(c.args))[0])]
                    break
        users = [c for c in users if not c.grad and c.outputs and c.outputs[0]._node is not None] or users
        if not users:
            return {
                "given": f"{bad} after the update of step {step}, of a finite loss and finite gradients",
                "do": "lower the learning rate, or look at the optimizer's options (eps)",
            }
        call = users[-1]
        what = "a gradient that is not finite" if broken is None else f"a gradient of {broken.grad}"
        return {
            "given": f"{what} first in step {step}, made by the backward of {self._named(call)}\n{operands(call)}",
            "where": self._where(call),
            "do": ADVICE.get(call.op.name, DO),
        }

    @staticmethod
    def _named(call: Call) -> str:
        return f"'{call.op.name}'"

    def _where(self, call: Call) -> str:
        path = None if call.module is None else below(self.model, call.module)
        kind = type(call.module).__name__
        module = "" if call.module is None else (f"module {path} ({kind})" if path else f"module {kind}")
        return "\n".join(part for part in (module, call.where) if part)


DO = "keep values away from there (a small eps, clip), lower the learning rate, or clip gradients (clip_norm=1.0)"
ADVICE = {
    "log": "add a small eps inside log, or use a loss that takes logits",
    "sqrt": "add a small eps inside sqrt: its gradient at 0 is infinite",
    "rsqrt": "add a small eps inside",
    "divide": "add a small eps to the divisor",
    "exp": "subtract the maximum before exp, as softmax and logsumexp do",
}


def operands(call: Call) -> str:
    """The ranges of a call's operands, in words."""
    parts = []
    for i, a in enumerate(tree.flatten(list(call.args))[0]):
        name = call.op.args[min(i, len(call.op.args) - 1)] if call.op.args else f"operand {i}"
        if isinstance(a, Tensor):
            array = a.detach().numpy()
            span = f" from {array.min():.4g} to {array.max():.4g}" if array.size else ""
            parts.append(f"{name} {list(a.shape)} {a.dtype.name}{span}")
        elif isinstance(a, (int, float)):
            parts.append(f"{name} {a!r}")
    return ", ".join(parts)


def module_of() -> Module | None:
    """The module whose `forward` is running, the innermost; None outside of modules."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == "forward":
            owner = frame.f_locals.get("self")
            if isinstance(owner, Module):
                return owner
        frame = frame.f_back
    return None
