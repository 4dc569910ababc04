"""PyTorch's face of the optimizers: a thin shell over an update rule that owns the state and changes the parameters."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from operator import is_
from typing import Any, ClassVar

from ..backends.registry import backend_of, default_backend, get_backend
from ..dtypes import float32, float64
from ..errors import OptionError, explain
from ..graph.graph import PLACE, Value
from ..graph.slots import Retrace
from ..tensor.grad_mode import enable_grad
from ..tensor.storage import STRUCTURE
from ..tensor.tape import Raw
from ..tensor.tensor import Handle, Tensor
from .block import Block, Kept, engine_of, lies_flat, zeros
from .groups import prepared
from .rules.rule import Rule
from .saved import columns, kept_of, own

#: Hooks of all optimizers: {"step_pre" or "step_post": {handle: hook}}.
EVERY: dict[str, dict] = {}


def register_optimizer_step_pre_hook(hook: Callable) -> Handle:
    """`hook(optimizer, args, kwargs)` is called before each step of any optimizer."""
    return Handle(EVERY.setdefault("step_pre", {}), hook)


def register_optimizer_step_post_hook(hook: Callable) -> Handle:
    """`hook(optimizer, args, kwargs)` is called after each step of any optimizer."""
    return Handle(EVERY.setdefault("step_post", {}), hook)


class _Prototype:
    """Given for the parameters: options are checked, and there is nothing to update."""


class Optimizer:
    """Base of the optimizers: parameter groups, state, `step`, `zero_grad`, `state_dict`, hooks.

    Most have a rule, which does the work. One without a rule overrides `_step`, and keeps what it likes in `state[p]`.

    Args:
        params: Tensors that require gradients, pairs of their names and them, or dicts with "params" and options of their own.
        defaults: Options of groups that do not set them.

    Raises:
        TypeError: `params` is a Tensor, a set, or has something else than Tensors in it.
        ValueError: No parameters; one that is no leaf, or in two groups; names of some only; a rate of several elements.

    Example:
        >>> import gradloom as gl
        >>> class SignDescent(gl.optim.Optimizer):
        ...     def __init__(self, params, lr=0.1):
        ...         super().__init__(params, {"lr": lr})
        ...
        ...     def _step(self, closure=None):
        ...         with gl.no_grad():
        ...             for group in self.param_groups:
        ...                 for p in group["params"]:
        ...                     p -= group["lr"] * p.grad.sign()
        >>> w = gl.tensor([1.0, -2.0], requires_grad=True)
        >>> optimizer = SignDescent([w])
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> w.tolist()
        [0.8999999761581421, -1.899999976158142]
    """

    rule: ClassVar[Rule] = None  # type: ignore[assignment]

    def __init__(self, params: Iterable, defaults: dict[str, Any]):
        self.defaults = defaults
        if params is _Prototype:  # type: ignore[comparison-overlap]
            return
        if isinstance(params, Tensor):
            raise TypeError(
                f"params argument given to the optimizer should be an iterable of Tensors or dicts, but got {type(params).__name__}"
            )
        self._hooks: dict[str, dict] = {}
        self._updates = 0  # calls of `step`, which schedulers look at
        self._own_state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._blocks: dict[int, list[Block]] = {}  # by id of the group
        self._last: dict[int, tuple[Any, list[Tensor], list[Block]]] = {}  # what `_of` found last
        self._rest: dict[Tensor, Kept] = {}  # state of parameters that are in no block now
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

    @classmethod
    def prototype(cls, **options: Any) -> Optimizer:
        """One without parameters, whose `defaults` are these options, checked, and the defaults: what the functional face is made of."""
        return cls(_Prototype, **options)  # type: ignore[arg-type]

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Adds a group: {"params": Tensors, and options that differ from the defaults}."""
        group = prepared(group, self.defaults, self.param_groups)
        self.check_group(group)
        if group.get("fused"):
            if group.get("foreach"):
                raise RuntimeError("`fused` and `foreach` cannot be `True` together.")  # PyTorch's text
            self._demand_kernel(group)
        self.param_groups.append(group)
        STRUCTURE.version += 1

    def check_group(self, group: dict[str, Any]) -> None:
        """Raises for parameters or options that this optimizer does not take."""
        rule = self.rule
        if rule is None:
            return
        for p in group["params"]:
            rule.kind(tuple(p.shape), group)
        if rule.per == "tree" and self.param_groups:
            raise ValueError(
                explain(
                    f"{type(self).__name__} looks at all parameters together and takes one group",
                    do="give all parameters in one list",
                )
            )

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
        if PLACE.graph is None:
            self._updates += 1
        else:
            PLACE.after(self._count)
        if not self._hooks and not EVERY:
            return self._step(closure)
        args: tuple = (
            (self,) if closure is None else (self, closure)
        )  # hooks get them with the optimizer, as in PyTorch
        kwargs: dict[str, Any] = {}
        for hook in (*EVERY.get("step_pre", {}).values(), *self._hooks.get("step_pre", {}).values()):
            new = hook(self, args, kwargs)
            if new is not None:
                if not isinstance(new, tuple) or len(new) != 2:
                    raise RuntimeError(f"{hook} must return None or a tuple of (new_args, new_kwargs), but got {new}.")
                args, kwargs = new
        loss = type(self)._step(*args, **kwargs)
        for hook in (*self._hooks.get("step_post", {}).values(), *EVERY.get("step_post", {}).values()):
            hook(self, args, kwargs)
        return loss

    def _count(self) -> None:
        self._updates += 1

    def _step(self, closure: Callable | None = None) -> Any:
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [
                p for p in group["params"] if type(p._grad) is Tensor or (p._grad is not None and p.grad is not None)
            ]
            if params:
                rule, flags = self._code(group)
                for block in self._of(group, params):
                    if PLACE.graph is None:
                        block.update(rule, flags)
                    else:
                        block.trace(rule, flags)
                if PLACE.graph is not None:
                    PLACE.check(functools.partial(self._goes_on, group, (rule, flags), default_backend().name))
        return loss

    # --- hooks

    def _register(self, place: str, hook: Callable, prepend: bool = False) -> Handle:
        hooks = self._hooks.setdefault(place, {})
        handle = Handle(hooks, hook)
        if prepend:
            first = {handle: hooks.pop(handle), **hooks}
            hooks.clear()
            hooks.update(first)
        return handle

    def register_step_pre_hook(self, hook: Callable) -> Handle:
        """`hook(optimizer, args, kwargs)` is called before each step; it may return (args, kwargs) to be used instead."""
        return self._register("step_pre", hook)

    def register_step_post_hook(self, hook: Callable) -> Handle:
        """`hook(optimizer, args, kwargs)` is called after each step."""
        return self._register("step_post", hook)

    def register_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> Handle:
        """`hook(optimizer)` is called before `state_dict`."""
        return self._register("state_dict_pre", hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> Handle:
        """`hook(optimizer, state_dict)` is called on the result of `state_dict`, and may return another."""
        return self._register("state_dict_post", hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> Handle:
        """`hook(optimizer, state_dict)` is called on what is to be loaded (a shallow copy), and may return another."""
        return self._register("load_pre", hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> Handle:
        """`hook(optimizer)` is called after `load_state_dict`."""
        return self._register("load_post", hook, prepend)

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

    def _goes_on(self, group: dict, code: tuple, engine: str) -> bool:
        """Whether the options still ask for what a compiled step was made with, and have not come to demand a kernel that is missing."""
        return self._code(group) == code and (not group.get("fused") or self.rule.has_kernel(get_backend(engine)))

    def _of(self, group: dict, params: list[Tensor]) -> list[Block]:
        """The blocks of the parameters that have gradients."""
        options = (group.get("fused"), group.get("foreach"))
        known, before, blocks = self._last.get(id(group), (None, [], []))
        same = known == options and len(before) == len(params) and all(map(is_, before, params))
        if same and (PLACE.graph is not None or all(b.fits(group) for b in blocks)):
            return blocks
        found = self._cover(group, params, part=True)
        if len(found) > 1 and self.rule.per == "tree":
            raise ValueError(
                explain(
                    f"{type(self).__name__} updates all parameters together; these differ in dtype, device or number of updates",
                    do="bring them to one dtype and device, and give gradients to the same parameters at each step",
                )
            )
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
            kept = self._rest.get(p, Kept())
            kind = tuple(self.rule.kind(tuple(p.shape), group).items())
            key = (kept.step, kept.numbers, p.dtype, engine_of(p._array), kind, id(p) if alone else None)
            parts.setdefault(key, []).append(p)
        made = []
        for (_, _, _, (backend, _), _, _), members in parts.items():
            kept, state = self._rest.get(members[0], Kept()), columns(members, self._rest)
            for p in members:
                self._rest.pop(p, None)
            flat = lies_flat(self.rule, backend, members)
            made.append(Block(self.rule, group, members, kept, state, flat))
        return made

    def _drop(self, group: dict, block: Block) -> None:
        block.clear()
        self._blocks_of(group).remove(block)
        self._last.pop(id(group), None)
        STRUCTURE.version += 1

    def _demand_kernel(self, group: dict) -> None:
        """Raises OptionError where an engine of the group's parameters has no fused kernel."""
        arrays = [p._array for p in group["params"] if type(p._array) is not Value]
        for name, dtype in sorted({(backend_of(a).name, backend_of(a).dtype_of(a)) for a in arrays}, key=str):
            if not self.rule.has_kernel(get_backend(name), dtype):
                numba = name == "numpy" and self.rule.per == "element" and dtype in (float32, float64)
                raise OptionError(
                    explain(
                        f"{type(self).__name__}: fused=True, and {name} has no fused kernel of it for {dtype.name}",
                        do="install gradloom[fast], or leave fused out" if numba else "leave fused out",
                    )
                )

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        """{parameter: {"step": number, name: Tensor, ...}} of the parameters that were updated.

        A copy, but in an optimizer without a rule, whose own it is.
        """
        if self.rule is None:
            return self._own_state
        result = {}
        for group in self.param_groups:
            found: dict[Tensor, Kept] = dict(self._rest)
            for block in self._blocks_of(group):
                found.update(block.rest())
            for p in group["params"]:
                if p in found and found[p].step:
                    step, numbers, arrays = found[p]
                    result[p] = {
                        **({"step": float(step)} if self.rule.counts else {}),
                        **dict(zip(self.rule.numbers, numbers, strict=False)),
                        **{k: Raw.wrap(backend_of(a).copy(a)) for k, a in arrays.items()},
                    }
        return result

    def state_dict(self) -> dict[str, Any]:
        """State and options as PyTorch lays them out: parameters by their number over all groups."""
        for hook in list(self._hooks.get("state_dict_pre", {}).values()):
            hook(self)
        number = {id(p): i for i, p in enumerate(p for g in self.param_groups for p in g["params"])}
        result: dict[str, Any] = {
            "state": {number[id(p)]: s for p, s in self.state.items()},
            "param_groups": [
                {**{k: v for k, v in g.items() if k != "params"}, "params": [number[id(p)] for p in g["params"]]}
                for g in self.param_groups
            ],
        }
        for hook in list(self._hooks.get("state_dict_post", {}).values()):
            new = hook(self, result)
            result = result if new is None else new
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave; the parameters stay as they are.

        Raises:
            ValueError: Other numbers of groups or parameters; nothing is changed then.
        """
        state_dict = dict(state_dict)
        for hook in list(self._hooks.get("load_pre", {}).values()):
            new = hook(self, state_dict)
            state_dict = state_dict if new is None else new
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
        rest: dict[Tensor, Kept] = {}
        for number, s in state_dict["state"].items():
            p = by_number.get(int(number))
            if p is None:
                raise ValueError(
                    explain(
                        f"the loaded state dict has a state of parameter {number}, which is in none of its groups",
                        expected=f"numbers among {sorted(by_number)}",
                    )
                )
            if self.rule is None:
                self._load_own(p, s)
            else:
                rest[p] = kept_of(self.rule, self.defaults, number, p, s)
        for a, b in zip(groups, self.param_groups, strict=True):
            b.update({k: v for k, v in a.items() if k != "params"})
            self._last.pop(id(b), None)
        self._rest = rest
        for group in self.param_groups:
            for block in list(self._blocks_of(group)):
                if len({rest.get(p, Kept())[:2] for p in block.params}) > 1:
                    self._drop(group, block)  # updates that were equal no longer are
                    continue
                # Into the lists that there are: a compiled step goes on with them.
                block.load(rest.get(block.params[0], Kept()), columns(block.params, rest))
                for p in block.params:
                    rest.pop(p, None)
        STRUCTURE.version += 1
        for hook in list(self._hooks.get("load_post", {}).values()):
            hook(self)

    def _load_own(self, p: Tensor, state: dict[str, Any]) -> None:
        """A parameter's part of a loaded state dict, where there is no rule."""
        self._own_state[p] = {k: own(p, v) for k, v in state.items()}

    # --- what gradloom.jit asks

    def __jit_slots__(self, prefix: str):
        """The parameters, as far as no module has them."""
        for i, p in enumerate(p for g in self.param_groups for p in g["params"]):
            yield f"{prefix}{p._name or f'param_{i}'}", p

    def __jit_prepare__(self) -> None:
        """Makes the state before a trace, so that it is an input from the first run on."""
        if self.rule is None:
            return
        for group in self.param_groups:
            params = [p for p in group["params"] if p._node is not None]
            self._cover(group, params, part=False)
            rule, flags = self._code(group)
            for block in self._blocks_of(group):
                block.names(rule, block.flags(rule, flags))
                block.ready()

    def __jit_key__(self) -> tuple:
        if self.rule is None:
            return ()
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
