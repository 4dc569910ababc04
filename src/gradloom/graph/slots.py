"""What a compiled function captures: slots, found by walking from the names that the function uses.

A slot is a place that holds an array from call to call: a parameter or buffer of a module, an array of an optimizer's state, the gradient
of a parameter, a Tensor in a variable, list, dict or object. Slots are found through their owners, never by what a Tensor
happened to be when the function was traced, so a Tensor that is replaced is seen. Walking is done when something may have changed
the structure (`storage.STRUCTURE` counts that for modules and Tensors; guards watch variables and containers).

Owners say what they hold by these methods (modules and optimizers have them; other classes may):
    __jit_slots__(prefix): iterator of (name, Tensor);
    __jit_prepare__(): called before tracing (an optimizer makes its state); what only the trace tells is a `Retrace`;
    __jit_key__(): hashable: what selects code.
A function of gradloom's own is not followed, but where it has `__jit_follow__ = True`.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..tensor.tensor import Tensor

SIMPLE = (bool, int, float, complex, str, bytes, type(None))
_LIMIT = 2000  # containers with more elements are data, not structure
_FOREIGN = frozenset(
    (
        "gradloom",
        "numpy",
        "scipy",
        "jax",
        "jaxlib",
        "torch",
        "mlx",
        "builtins",
        "sklearn",
        "matplotlib",
        "rich",
        "tqdm",
        "optax",
    )
)


class Retrace(BaseException):  # no Exception: the traced code is not asked about it
    """Raised by an owner while a function is traced: it lacks something that cannot be made in a trace.

    Attributes:
        settle: Makes it, once the trace is undone; then the function is traced again.
    """

    def __init__(self, settle: Callable[[], Any]):
        super().__init__("gradloom.jit traces again")
        self.settle = settle


class Guard:
    """A place whose content the function depends on: `owner[key]`, or the content of a closure cell."""

    __slots__ = ("key", "owner", "value")

    def __init__(self, owner: Any, key: Any, value: Any):
        self.owner, self.key, self.value = owner, key, value

    def holds(self) -> bool:
        try:
            now = self.owner.cell_contents if self.key is None else self.owner[self.key]
        except (KeyError, IndexError, ValueError):
            return False
        return now is self.value or (type(now) is type(self.value) and type(now) in SIMPLE and now == self.value)


class Walk:
    """The result of one walk.

    Attributes:
        tensors: {id: (name, Tensor)} of the captured Tensors, in the order in which they were met.
        owners: {id: (name, owner)} of objects with `__jit_slots__`.
        guards: What must still hold for the walk to be valid.
        key: Hashable: the plain values that were met.
    """

    def __init__(self):
        self.tensors: dict[int, tuple[str, Tensor]] = {}
        self.owners: dict[int, tuple[str, Any]] = {}
        self.guards: list[Guard] = []
        self.sizes: list[tuple[Any, int]] = []
        self.key: list[Any] = []
        self._seen: set[int] = set()

    def holds(self) -> bool:
        """Whether nothing that the walk met was replaced since (modules and Tensors are counted by STRUCTURE)."""
        for g in self.guards:
            if not g.holds():
                return False
        return all(len(c) == n for c, n in self.sizes)

    # --- walking

    def function(self, fn: Callable) -> None:
        """What a function's closure, globals, defaults and bound object name; functions that it names are followed."""
        if isinstance(fn, types.MethodType):
            self.value("self", fn.__self__)
            fn = fn.__func__
        fn = getattr(fn, "__wrapped__", fn) if not isinstance(fn, types.FunctionType) else fn
        if not isinstance(fn, types.FunctionType) or id(fn) in self._seen:
            return
        self._seen.add(id(fn))
        for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:
                continue  # not yet assigned
            self._guarded(name, cell, None, value)
        for name in sorted(_names(fn.__code__)):
            if name in fn.__globals__:
                self._guarded(name, fn.__globals__, name, fn.__globals__[name])
        for value in fn.__defaults__ or ():
            self.value("default", value)

    def _guarded(self, name: str, owner: Any, key: Any, value: Any) -> None:
        if isinstance(value, types.ModuleType):
            return
        self.guards.append(Guard(owner, key, value))
        self.value(name, value)

    def value(self, name: str, value: Any) -> None:
        """One object that was met under a name."""
        cls = type(value)
        if cls in SIMPLE:
            self.key.append((name, cls, value))
            return
        if isinstance(value, (types.FunctionType, types.MethodType)):
            if not _foreign(value.__module__) or getattr(value, "__jit_follow__", False):
                self.function(value)
            return
        if id(value) in self._seen or isinstance(value, (type, types.ModuleType, np.ndarray)):
            return
        if isinstance(value, Tensor):
            self.tensors.setdefault(id(value), (name, value))
        elif hasattr(cls, "__jit_slots__"):
            self._seen.add(id(value))
            self.owners[id(value)] = (name, value)
        elif cls in (list, tuple, dict):
            self._seen.add(id(value))
            if len(value) <= _LIMIT:
                self.sizes.append((value, len(value)))
                items = value.items() if cls is dict else enumerate(value)
                for k, v in list(items):
                    self._guarded(f"{name}[{k!r}]" if cls is dict else f"{name}[{k}]", value, k, v)
        elif hasattr(value, "__dict__") and not _foreign(cls.__module__) and not isinstance(value, BaseException):
            self._seen.add(id(value))
            attributes = vars(value)
            self.sizes.append((attributes, len(attributes)))
            for k, v in list(attributes.items()):
                self._guarded(f"{name}.{k}", attributes, k, v)


def _foreign(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _FOREIGN


def _names(code: types.CodeType) -> Iterator[str]:
    """The global names that a function and the functions inside it use."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def prefixes(walk: Walk) -> dict[int, str]:
    """{id of an owner: prefix of its slots' names}: none where only one owner has slots of its own, else its variable's name.

    Optimizers come last in the result: what they hold is mostly a module's, and has its name.
    """
    owners = sorted(walk.owners.items(), key=lambda item: hasattr(item[1][1], "__jit_prepare__"))
    seen: set[int] = set()
    own = []
    for k, (_, owner) in owners:
        ids = {id(t) for _, t in owner.__jit_slots__("")}
        if ids - seen:
            own.append(k)
        seen |= ids
    return {k: f"{name}." if k in own and len(own) > 1 else "" for k, (name, _) in owners}
