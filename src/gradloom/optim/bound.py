"""PyTorch's face of the optimizers: a thin shell over an update rule that owns the state and changes the parameters."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from operator import is_
from typing import Any, ClassVar

import numpy as np

from ..backends.registry import backend_of, default_backend, get_backend
from ..errors import OptionError, explain
from ..graph.graph import PLACE, Value
from ..graph.slots import Retrace
from ..tensor.grad_mode import enable_grad
from ..tensor.storage import STRUCTURE
from ..tensor.tape import Raw
from ..tensor.tensor import Tensor
from .block import Block, engine_of, zeros
from .rules import Rule


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
        self._blocks: dict[int, list[Block]] = {}  # by id of the group
        self._last: dict[int, tuple[Any, list[Tensor], list[Block]]] = {}  # what `_of` found last
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
        if group.get("fused"):
            if group.get("foreach"):
                raise RuntimeError("`fused` and `foreach` cannot be `True` together.")  # PyTorch's text
            self._demand_kernel(group)
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
                    p.grad = Raw.wrap(zeros(p.grad._array))

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
                rule, flags = self._code(group)
                for block in self._of(group, params):
                    if PLACE.graph is None:
                        block.update(rule, flags)
                    else:
                        block.trace(rule, flags)
                if PLACE.graph is not None:
                    PLACE.check(functools.partial(self._goes_on, group, (rule, flags), default_backend().fast))
        return loss

    def _code(self, group: dict) -> tuple[Rule, dict]:
        """The rule and the flags that a group's options ask for. PyTorch, too, has the kernel only where `foreach` is not given."""
        fused, foreach = group.get("fused"), group.get("foreach")
        rule = self.rule if fused or (fused is None and foreach is None) else self.rule.plain
        return rule, rule.flags(group)

    # --- blocks

    def _blocks_of(self, group: dict) -> list[Block]:
        return self._blocks.setdefault(id(group), [])

    def __getstate__(self) -> dict[str, Any]:
        """For copy and pickle: blocks go by what is in memory, their state does not."""
        rest = {p: s for blocks in self._blocks.values() for block in blocks for p, s in block.rest().items()}
        return {**vars(self), "_blocks": {}, "_last": {}, "_rest": {**self._rest, **rest}}

    def _goes_on(self, group: dict, code: tuple, kernels: dict) -> bool:
        """Whether the options still ask for what a compiled step was made with, and have not come to demand a kernel that is missing."""
        return self._code(group) == code and (not group.get("fused") or self.rule.name in kernels)

    def _of(self, group: dict, params: list[Tensor]) -> list[Block]:
        """The blocks of the parameters that have gradients."""
        options = (group.get("fused"), group.get("foreach"))
        known, before, blocks = self._last.get(id(group), (None, [], []))
        same = known == options and len(before) == len(params) and all(map(is_, before, params))
        if same and (PLACE.graph is not None or all(b.fits(group) for b in blocks)):
            return blocks
        found = self._cover(group, params, part=True)
        self._last[id(group)] = (options, params, found)
        return found

    def _cover(self, group: dict, params: list[Tensor], part: bool) -> list[Block]:
        """The blocks of these parameters; makes those that are missing.

        Blocks are made, and parted, but not joined: what alternates (two losses, layers that are frozen for a while) soon has blocks that
        stay, so that compiled steps, which hold their lists, stay valid.

        Args:
            part: Blocks of which only some parameters are among these are parted.

        Raises:
            Retrace: That has to be done, and in a trace it cannot be: blocks are made of arrays.
        """
        tracing = PLACE.graph is not None
        wanted, blocks = set(map(id, params)), self._blocks_of(group)
        touched = [b for b in blocks if wanted & b.ids]
        broken = [b for b in touched if (part and b.ids - wanted) or not (tracing or b.fits(group))]
        kept = set().union(*(b.ids for b in touched if b not in broken))
        missing = [p for p in params if id(p) not in kept]
        if missing:
            if tracing:
                PLACE.count(self)  # raises in the body of a loop, where no optimizer runs
                raise Retrace(lambda: self._of(group, params))
            others = [p for b in broken for p in b.params if id(p) not in wanted]
            for block in broken:
                self._rest.update(block.rest())
                self._drop(group, block)
            blocks += self._make(group, missing) + self._make(group, others)
            STRUCTURE.version += 1
        touched = [b for b in blocks if wanted & b.ids]
        if group.get("fused") and not tracing:
            self._demand_kernel(group)
        return touched

    def _make(self, group: dict, params: list[Tensor]) -> list[Block]:
        """New blocks of parameters that are in none."""
        cells = Counter(id(p._cell) for p in params if p._cell is not None)
        parts: dict[Any, list[Tensor]] = {}
        for p in params:
            # One by one where asked for, and where an update is seen by another parameter.
            alone = group.get("foreach") is False or p._base is not None or cells[id(p._cell)] > 1
            key = (self._rest.get(p, (0,))[0], p.dtype, engine_of(p._array), id(p) if alone else None)
            parts.setdefault(key, []).append(p)
        made = []
        for (step, _, (backend, _), _), members in parts.items():
            state = columns(members, self._rest)
            for p in members:
                self._rest.pop(p, None)
            flat = backend.name == "numpy" and members[0]._base is None
            made.append(Block(group, members, step, state, flat))
        return made

    def _drop(self, group: dict, block: Block) -> None:
        block.clear()
        self._blocks_of(group).remove(block)
        self._last.pop(id(group), None)
        STRUCTURE.version += 1

    def _demand_kernel(self, group: dict) -> None:
        """Raises OptionError where an engine of the group's parameters has no fused kernel."""
        for name in sorted({backend_of(p._array).name for p in group["params"] if type(p._array) is not Value}):
            if self.rule.name not in get_backend(name).fast:
                raise OptionError(
                    explain(
                        f"{type(self).__name__}: fused=True, and {name} has no fused kernel of it", do="leave fused out"
                    )
                )

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        """{parameter: {"step": Tensor, name: Tensor, ...}} of the parameters that were updated; a copy."""
        result = {}
        for group in self.param_groups:
            found: dict[Tensor, tuple[int, dict]] = dict(self._rest)
            for block in self._blocks_of(group):
                found.update(block.rest())
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
            p = by_number.get(int(number))
            if p is None:
                raise ValueError(
                    explain(
                        f"the loaded state dict has a state of parameter {number}, which is in none of its groups",
                        expected=f"numbers among {sorted(by_number)}",
                    )
                )
            arrays = {}
            for name, value in s.items():
                if name == "step" or value is None:
                    continue
                given = value._array if isinstance(value, Tensor) else value
                array = bring(p, given)
                if tuple(array.shape) != tuple(p.shape):
                    raise ValueError(
                        explain(
                            f"the state '{name}' of parameter {number} has another shape than the parameter",
                            expected=list(p.shape),
                            given=list(array.shape),
                        )
                    )
                arrays[name] = backend_of(array).copy(array) if array is given else array
            rest[p] = (int(float(s.get("step", 1))), arrays)
        for a, b in zip(groups, self.param_groups, strict=True):
            b.update({k: v for k, v in a.items() if k != "params"})
            self._last.pop(id(b), None)
        self._rest = rest
        for group in self.param_groups:
            for block in list(self._blocks_of(group)):
                if len({rest.get(p, (0,))[0] for p in block.params}) > 1:
                    self._drop(group, block)  # updates that were equal no longer are
                    continue
                # Into the lists that there are: a compiled step goes on with them.
                block.load(rest.get(block.params[0], (0,))[0], columns(block.params, rest))
                for p in block.params:
                    rest.pop(p, None)
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
            self._cover(group, params, part=False)
            rule, flags = self._code(group)
            for block in self._blocks_of(group):
                block.names(rule, flags)
                block.ready()

    def __jit_key__(self) -> tuple:
        return tuple(
            (
                id(group),
                rule.name,
                tuple(sorted(flags.items(), key=str)),
                tuple(b.number for b in self._blocks_of(group)),
            )
            for group in self.param_groups
            for rule, flags in (self._code(group),)
        )


def columns(params: list[Tensor], rest: dict) -> dict[str, list]:
    """{name: the state's arrays of that name, one a parameter; None where a parameter has none}."""
    names = dict.fromkeys(n for p in params if p in rest for n in rest[p][1])
    states = [rest[p][1] if p in rest else {} for p in params]
    return {n: [bring(p, s[n]) if n in s else None for p, s in zip(params, states, strict=True)] for n in names}


def bring(p: Tensor, value: Any) -> Any:
    """A state as an array of the parameter's engine and dtype, on its device: itself, if it is one, else a copy."""
    like = p._array
    if type(value) is type(like) and value.dtype == like.dtype:
        return value
    backend = backend_of(like)
    home, device = backend(dtype=p.dtype), backend.device_of(like)
    if home.device != device:
        home = backend(dtype=p.dtype, device=device)
    with home.context():
        array = backend_of(value).to_numpy(value) if hasattr(value, "shape") else np.asarray(value)
        return home.copy(home.from_numpy(array, p.dtype))


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
