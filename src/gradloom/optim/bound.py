"""PyTorch's face of the optimizers: a thin shell over an update rule that owns the state and changes the parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import is_
from typing import Any, ClassVar

import numpy as np

from .. import ops
from ..backends.base import backend_of, default_backend, get_backend
from ..errors import OptionError, explain
from ..graph.graph import PLACE, Value
from ..tensor.grad_mode import enable_grad
from ..tensor.storage import STRUCTURE, bump
from ..tensor.tape import Raw
from ..tensor.tensor import Tensor
from .rules import Rule


class Block:
    """Parameters of a group that are updated together: of one dtype and engine, after the same number of updates.

    Attributes:
        state: {name: list of arrays, one a parameter}. In a flat block (NumPy) each list holds one array for all parameters,
            and `whole` holds one of the parameters themselves: their arrays are views into it.
    """

    def __init__(self, rule: Rule, group: dict, params: list[Tensor], step: int, state: dict[str, list], flat: bool):
        self.rule, self.group, self.params, self.step, self.state = rule, group, params, step, state
        self.whole: list = []
        self.views: list = []
        self.gradient: Any = None
        if flat:
            self.flatten()

    # --- flat blocks

    def flatten(self) -> None:
        """Moves the parameters and the state into one array each."""
        arrays = [p._array for p in self.params]
        self.whole[:] = [np.concatenate([np.ravel(a) for a in arrays])]  # in place: compiled steps hold the list
        if not self.views:
            self.state = {k: [np.concatenate([np.ravel(a) for a in column])] for k, column in self.state.items()}
        self.rebind()
        self.gradient = np.empty_like(self.whole[0])

    def rebind(self) -> None:
        """Makes the parameters' arrays views of `whole`."""
        self.views = []
        start = 0
        for p in self.params:
            end = start + p.numel()
            view = self.whole[0][start:end].reshape(p._array.shape)
            self.views.append(view)
            p._array = view
            if p._cell is not None:
                p._cell.array = view
            start = end

    def parts(self, name: str) -> list:
        """A state's arrays, one a parameter."""
        if not self.whole:
            return list(self.state[name])
        parts, start = [], 0
        for p in self.params:
            end = start + p.numel()
            parts.append(self.state[name][0][start:end].reshape(p._array.shape).copy())
            start = end
        return parts

    # --- updates

    def names(self, flags: dict) -> tuple:
        """Names of the state arrays; makes those that a changed option asks for."""
        names = self.rule.state(flags)
        for name in names:
            if name not in self.state:
                likes = self.whole or [p._array for p in self.params]
                self.state[name] = [backend_zeros(a) for a in likes]
        return names

    def update(self, flags: dict) -> None:
        """One update of the parameters by their gradients."""
        if PLACE.graph is not None:
            self.trace(flags)
            return
        names = self.names(flags)
        scalars = self.rule.scalars(self.group, self.step + 1)
        grads = [p._grad._array for p in self.params]
        if self.whole:
            if not all(map(is_, (p._array for p in self.params), self.views)):
                self.flatten()  # a parameter was given another array
            np.concatenate([g.ravel() for g in grads], out=self.gradient)
            new = self.rule.run([self.whole, [self.gradient], *(self.state[n] for n in names)], scalars, flags)
            np.copyto(self.whole[0], new[0][0])
        else:
            new = self.rule.run(
                [[p._array for p in self.params], grads, *(self.state[n] for n in names)], scalars, flags
            )
            for p, array in zip(self.params, new[0], strict=True):
                p._array = array
        for name, column in zip(names, new[1:], strict=True):
            self.state[name][:] = column
        for p in self.params:
            if p._cell is None:
                p._version += 1
            else:
                bump(p)
        self.step += 1

    def trace(self, flags: dict) -> None:
        """The same on traced values."""
        names = self.names(flags)
        ahead = PLACE.count(self)
        dtype = self.params[0].dtype
        scalars = PLACE.host_scalars(
            lambda: self.rule.scalars(self.group, self.step + ahead + 1), self.rule.scalar_names, dtype
        )
        states = [PLACE.state(self.state[n], n) and self.state[n] for n in names]
        grads = [p.grad._array for p in self.params]  # type: ignore[union-attr]
        with PLACE.within("update"):
            if self.whole:
                (whole,) = PLACE.state(self.whole, "params")
                PLACE.parts(whole, [p._array for p in self.params])
                gradient = ops.flat(*grads)
                new = self.rule.run([list(self.whole), [gradient], *states], tuple(scalars), flags)
                self.whole[:] = new[0]
                start = 0
                for p in self.params:
                    end = start + p.numel()
                    p._array = ops.reshape(ops.getitem(new[0][0], key=(slice(start, end),)), shape=tuple(p.shape))
                    PLACE.follow(p)
                    start = end
            else:
                new = self.rule.run([[p._array for p in self.params], grads, *states], tuple(scalars), flags)
                for p, value in zip(self.params, new[0], strict=True):
                    p._array = value
                    if p._cell is not None:
                        bump(p)
        for name, column in zip(names, new[1:], strict=True):
            self.state[name][:] = column
        group, rule = self.group, self.rule
        PLACE.check(lambda: rule.flags(group) == flags)
        if self.whole:
            PLACE.check(self.ready)
        PLACE.after(self.advance)

    def advance(self) -> None:
        """After a run of a compiled step, which has updated the arrays."""
        self.step += 1
        if self.whole and (not self.views or self.views[0].base is not self.whole[0]):
            self.rebind()

    def ready(self) -> bool:
        """Whether the parameters' arrays are still views of `whole`; if not, they are moved there."""
        if self.whole and not all(map(is_, (p._array for p in self.params), self.views)):
            self.flatten()
        return True


class Optimizer:
    """Base of the optimizers: parameter groups, state, `step`, `zero_grad`, `state_dict`.

    Args:
        params: Tensors that require gradients, or dicts with "params" and options of their own.
        defaults: Options of groups that do not set them.
    """

    rule: ClassVar[Rule]

    def __init__(self, params: Iterable, defaults: dict[str, Any]):
        if isinstance(params, Tensor):
            raise TypeError(
                f"params argument given to the optimizer should be an iterable of Tensors or dicts, but got {type(params).__name__}"
            )
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self._blocks: dict[int, tuple[list[Tensor], list[Block]]] = {}
        self._rest: dict[Tensor, tuple[int, dict[str, Any]]] = {}  # state of parameters that are in no block now
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {k}: {group[k]}" for k in sorted(group) if k != "params"]
        return "\n".join([*lines, ")"])

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Adds a group: {"params": Tensors, and options that differ from the defaults}."""
        if not isinstance(group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(group)}")
        group = dict(group)
        params = group["params"]
        if isinstance(params, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets will "
                "change between runs. Please use a list instead."
            )
        group["params"] = [params] if isinstance(params, Tensor) else list(params)
        if group["params"] and isinstance(group["params"][0], tuple):
            group["param_names"] = [name for name, _ in group["params"]]
            group["params"] = [p for _, p in group["params"]]
        for p in group["params"]:
            if not isinstance(p, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError("can't optimize a non-leaf Tensor")
        for name, default in self.defaults.items():
            group.setdefault(name, default)
        if len({id(p) for p in group["params"]}) != len(group["params"]):
            raise ValueError("optimizer contains a parameter group with duplicate parameters")
        known = {id(p) for g in self.param_groups for p in g["params"]}
        if any(id(p) in known for p in group["params"]):
            raise ValueError("some parameters appear in more than one parameter group")
        self.param_groups.append(group)
        STRUCTURE.version += 1

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops the gradients, or sets them to zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    if p._grad is not None:
                        p._grad = None
                        STRUCTURE.version += 1
                elif p.grad is not None:
                    p.grad = Raw.wrap(backend_zeros(p.grad._array))

    def step(self, closure: Callable | None = None) -> Any:
        """One update of all parameters that have a gradient.

        Args:
            closure: Called first, with gradients enabled; computes the loss anew and returns it.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p._grad is not None and p.grad is not None]
            if params:
                flags = self.rule.flags(group)
                for block in self._of(group, params):
                    block.update(flags)
        return loss

    # --- blocks

    def _of(self, group: dict, params: list[Tensor]) -> list[Block]:
        """The blocks of a group; made anew when other parameters have gradients."""
        found = self._blocks.get(id(group))
        if found is not None and len(found[0]) == len(params) and all(map(is_, found[0], params)):
            return found[1]
        self._dissolve(group)
        parts: dict[Any, list[Tensor]] = {}
        for p in params:
            array = p._array
            key = (
                self._rest[p][0] if p in self._rest else 0,
                p.dtype,
                None if type(array) is Value else backend_of(array).name,
            )
            parts.setdefault(key, []).append(p)
        blocks = []
        for (step, _, engine), members in parts.items():
            if group.get("fused") and engine is not None and self.rule.name not in get_backend(engine).fast:
                raise OptionError(
                    explain(
                        f"{type(self).__name__}: fused=True, and {engine} has no fused kernel of it",
                        do="leave fused out",
                    )
                )
            names = dict.fromkeys(n for p in members if p in self._rest for n in self._rest[p][1])
            state = {n: [self._rest[p][1][n] for p in members] for n in names}
            for p in members:
                self._rest.pop(p, None)
            blocks.append(Block(self.rule, group, members, step, state, flat=engine == "numpy"))
        self._blocks[id(group)] = (params, blocks)
        return blocks

    def _dissolve(self, group: dict) -> None:
        """Takes the state of a group out of its blocks."""
        for block in self._blocks.pop(id(group), ([], []))[1]:
            columns = {name: block.parts(name) for name in block.state}
            for i, p in enumerate(block.params):
                self._rest[p] = (block.step, {name: column[i] for name, column in columns.items()})

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        """{parameter: {"step": Tensor, name: Tensor, ...}} of the parameters that were updated; a copy."""
        result = {}
        for group in self.param_groups:
            found: dict[Tensor, tuple[int, dict]] = dict(self._rest)
            for block in self._blocks.get(id(group), ([], []))[1]:
                columns = {name: block.parts(name) for name in block.state}
                for i, p in enumerate(block.params):
                    found[p] = (block.step, {name: column[i] for name, column in columns.items()})
            for p in group["params"]:
                if p in found and found[p][0]:
                    step, arrays = found[p]
                    result[p] = {"step": float(step), **{k: Raw.wrap(backend_of(a).copy(a)) for k, a in arrays.items()}}
        return result

    def state_dict(self) -> dict[str, Any]:
        """State and options as PyTorch lays them out: parameters by their number over all groups."""
        number = {id(p): i for i, p in enumerate(p for g in self.param_groups for p in g["params"])}
        return {
            "state": {number[id(p)]: s for p, s in self.state.items()},
            "param_groups": [
                {**{k: v for k, v in g.items() if k != "params"}, "params": [number[id(p)] for p in g["params"]]}
                for g in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave; the parameters stay as they are.

        Raises:
            ValueError: Other numbers of groups or parameters; nothing is changed then.
        """
        groups = state_dict["param_groups"]
        if len(groups) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(a["params"]) != len(b["params"]) for a, b in zip(groups, self.param_groups, strict=True)):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            )
        by_number = {
            n: p
            for a, b in zip(groups, self.param_groups, strict=True)
            for n, p in zip(a["params"], b["params"], strict=True)
        }
        rest: dict[Tensor, tuple[int, dict[str, Any]]] = {}
        for number, s in state_dict["state"].items():
            p = by_number[int(number)]
            backend = type_backend(p)
            arrays = {}
            for name, value in s.items():
                if name == "step" or value is None:
                    continue
                array = backend.from_numpy(np.array(value.detach() if isinstance(value, Tensor) else value), p.dtype)
                if tuple(array.shape) != tuple(p.shape):
                    raise ValueError(
                        explain(
                            f"the state '{name}' of parameter {number} has another shape than the parameter",
                            expected=list(p.shape),
                            given=list(array.shape),
                        )
                    )
                arrays[name] = backend.copy(array)
            rest[p] = (int(float(s.get("step", 1))), arrays)
        for a, b in zip(groups, self.param_groups, strict=True):
            b.update({k: v for k, v in a.items() if k != "params"})
            self._blocks.pop(id(b), None)
        self._rest = rest
        STRUCTURE.version += 1

    # --- what gradloom.jit asks

    def __jit_slots__(self, prefix: str):
        """The parameters, as far as no module has them."""
        for i, p in enumerate(p for g in self.param_groups for p in g["params"]):
            yield f"{prefix}{p._name or f'param_{i}'}", p

    def __jit_prepare__(self) -> None:
        """Makes the state before a trace, so that it is an input from the first run on."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p._node is not None]
            if params:
                known = self._blocks.get(id(group))
                if known is None or not {id(p) for p in known[0]} <= {id(p) for p in params}:
                    self._of(group, params)
                flags = self.rule.flags(group)
                for block in self._blocks[id(group)][1]:
                    block.names(flags)
                    block.ready()

    def __jit_key__(self) -> tuple:
        return tuple(
            (
                id(group),
                tuple(sorted(self.rule.flags(group).items(), key=str)),
                tuple(id(b) for b in self._blocks.get(id(group), ([], []))[1]),
            )
            for group in self.param_groups
        )


def backend_zeros(array: Any) -> Any:
    return ops.zeros_like.op.kernels[type(array)](array)


def type_backend(p: Tensor) -> Any:
    name = backend_of(p._array).name
    default = default_backend()
    return default if default.name == name else get_backend(name)


def check_options(name: str, **checks: tuple[bool, str]) -> None:
    """Raises ValueError with PyTorch's text for the first option that is out of range."""
    for holds, text in checks.values():
        if not holds:
            raise ValueError(text)


def refuse(name: str, **options: Any) -> None:
    """Options that only make sense for PyTorch's own graphs are refused, not ignored."""
    for option, value in options.items():
        if value:
            raise OptionError(explain(f"{name} does not take {option}=True", do="leave it out"))
