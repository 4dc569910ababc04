"""How a module is called: with hooks, in a function that is being compiled; and what is said when `forward` raises."""

from __future__ import annotations

import threading
from typing import Any

from .. import tree
from ..errors import GradloomError, OptionError, explain
from ..graph.graph import PLACE
from ..ops import astype
from ..tensor.storage import STRUCTURE
from ..tensor.tensor import Tensor


class _Table(dict):
    """Hooks by handle; a handle that is removed is noted for compiled steps."""

    def pop(self, *args: Any) -> Any:
        STRUCTURE.version += 1
        return super().pop(*args)


class Hooks:
    """The hooks of one module."""

    __slots__ = ("after", "backward", "before")

    def __init__(self):
        self.before, self.after, self.backward = _Table(), _Table(), _Table()

    def key(self) -> tuple:
        """Which hooks there are; hashable."""
        return tuple(tuple(getattr(self, name)) for name in self.__slots__)

    def __deepcopy__(self, memo: dict) -> Hooks:
        made = Hooks()
        for name in self.__slots__:
            getattr(made, name).update(getattr(self, name))
        return made


def run(module: Any, args: tuple, kwargs: dict) -> Any:
    """`forward` with the module's hooks."""
    hooks = module._hooks
    for hook, with_kwargs in list(hooks.before.values()):
        if with_kwargs:
            new = hook(module, args, kwargs)
            if new is not None:
                if not isinstance(new, tuple) or len(new) != 2:
                    raise RuntimeError(
                        f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {new}."
                    )
                args, kwargs = new
        else:
            new = hook(module, args)
            if new is not None:
                args = new if isinstance(new, tuple) else (new,)
    called: set = set()
    try:
        watch = Watch(module, list(hooks.backward.values())) if hooks.backward else None
        if watch is not None:
            args = watch.inputs(args)
        out = module.forward(*args, **kwargs)
        for handle, (hook, with_kwargs, _) in list(hooks.after.items()):
            called.add(handle)
            new = hook(module, args, kwargs, out) if with_kwargs else hook(module, args, out)
            out = out if new is None else new
        return out if watch is None else watch.outputs(out)
    except Exception:
        for handle, (hook, with_kwargs, always) in list(hooks.after.items()):
            if always and handle not in called:
                hook(module, args, kwargs, None) if with_kwargs else hook(module, args, None)
        raise


class Watch:
    """Collects the gradients at the inputs and outputs of one call of a module for its backward hooks.

    All results get their gradients before any argument does: the tape's nodes of the arguments are older.
    """

    def __init__(self, module: Any, hooks: list):
        self.module, self.hooks = module, hooks
        self.grad_input: list = []
        self.grad_output: list = []
        self.open: set[int] = set()

    def inputs(self, args: tuple) -> tuple:
        """The arguments, those that need a gradient as Tensors of their own."""
        passed = []
        for i, a in enumerate(args):
            if isinstance(a, Tensor) and a.requires_grad:
                a = astype(a, dtype=a.dtype)
                a.register_hook(lambda g, i=i: self._at_input(i, g))
                self.open.add(i)
            passed.append(a)
        self.grad_input = [None] * len(args)
        self.waiting = set(self.open)
        return tuple(passed)

    def outputs(self, out: Any) -> Any:
        """The results, watched likewise."""
        leaves, structure = tree.flatten(out)
        self.grad_output = [None] * len(leaves)
        for i, t in enumerate(leaves):
            if isinstance(t, Tensor) and t.requires_grad:
                leaves[i] = t = astype(t, dtype=t.dtype)
                t.register_hook(lambda g, i=i: self._at_output(i, g))
        self.results = {i for i, t in enumerate(leaves) if isinstance(t, Tensor) and t.requires_grad}
        return tree.unflatten(structure, leaves)

    def _at_output(self, i: int, g: Any) -> None:
        self.grad_output[i] = g
        self.results.discard(i)
        if not self.open and not self.results:  # no argument needs a gradient
            self._call()

    def _at_input(self, i: int, g: Any) -> Any:
        self.grad_input[i] = g
        self.waiting.discard(i)
        if self.waiting:
            return None
        self.waiting = set(self.open)
        new = self._call()
        if new is None:
            return None
        if len(self.open) > 1:
            raise OptionError(
                explain(
                    "a full backward hook replaced the gradients of a module with several arguments that need one",
                    expected="None from the hook, or a module with one such argument",
                    do="use tensor.register_hook on the arguments",
                )
            )
        return new[i]

    def _call(self) -> Any:
        replaced = None
        for hook in self.hooks:
            new = hook(self.module, tuple(self.grad_input), tuple(self.grad_output))
            if new is not None:
                replaced = new if isinstance(new, tuple) else (new,)
                if len(replaced) != len(self.grad_input):
                    raise RuntimeError(
                        f"Backward hook returned an invalid number of grad_input, got {len(replaced)}, but expected "
                        f"{len(self.grad_input)}"
                    )
                self.grad_input = list(replaced)
        return replaced


# ------------------------------------------------------------------------------------------------------------ tracing


class _Calls(threading.local):
    stack: list = []  # replaced, never changed


_CALLS = _Calls()


def traced(module: Any, args: tuple, kwargs: dict) -> Any:
    """`forward` while a function is being compiled: the graph's nodes get the module's path."""
    before, outer = PLACE.scope, _CALLS.stack
    PLACE.scope = _path(module, outer[-1] if outer else None, before)
    _CALLS.stack = [*outer, module]
    try:
        out = run(module, args, kwargs) if module._hooks is not None else module.forward(*args, **kwargs)
        if isinstance(out, Tensor):
            PLACE.label(out._array)
        return out
    finally:
        PLACE.scope, _CALLS.stack = before, outer


def _path(module: Any, parent: Any, scope: str) -> str:
    """The path that the tracer gave, else the caller's with the attribute's name."""
    known = PLACE.paths.get(id(module))
    if known is not None:
        return known
    if parent is None:
        return scope
    return _joined(scope, below(parent, module) or module._get_name())


def _joined(a: str, b: str) -> str:
    return f"{a}.{b}" if a and b else a or b


def below(parent: Any, module: Any) -> str | None:
    """The path of a module from one that holds it; None where it does not."""
    return next((name for name, m in parent.named_modules() if m is module), None)


# ------------------------------------------------------------------------------------------------------------- errors

_WHERE, _DO = "\n  where:    ", "\n  do:       "


def located(error: Exception, module: Any) -> None:
    """Says in the error in which module it was raised: called by each module that it passes, innermost first.

    The innermost module adds a line to the message, the others complete the path in it. The error stays the same
    object; one of a type whose message is not ours to change gets a note instead.
    """
    known = getattr(error, "_gradloom_module", None)
    try:
        if known is None:
            line = _line("", module)
            if _has_message(error):
                error.args = (_with_place(error.args[0], line),)
            else:
                error.add_note(line)
            error._gradloom_module = (module, line)  # type: ignore[attr-defined]
            return
        inner, line = known
        path = below(module, inner)
        if not path:
            return
        new = _line(path, inner)
        if _has_message(error):
            error.args = (error.args[0].replace(line, new, 1),)
        else:
            error.__notes__ = [new if note == line else note for note in error.__notes__]
        error._gradloom_module = (inner, new)  # type: ignore[attr-defined]
    except Exception:  # an exotic error; it must not be hidden by ours
        return


def _line(path: str, module: Any) -> str:
    return f"in module {path} ({module._get_name()})" if path else f"in module {module._get_name()}"


def _has_message(error: Exception) -> bool:
    own = isinstance(error, GradloomError) or (
        type(error).__module__ == "builtins" and not isinstance(error, KeyError | OSError)
    )
    return own and len(error.args) == 1 and isinstance(error.args[0], str)


def _with_place(message: str, line: str) -> str:
    if _WHERE in message:
        return message.replace(_WHERE, f"{_WHERE}{line}\n            ", 1)
    at = message.find(_DO)
    if at >= 0:
        return message[:at] + _WHERE + line + message[at:]
    return message + _WHERE + line
