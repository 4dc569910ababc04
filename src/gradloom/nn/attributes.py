"""What may be set on a module, and the counting of changes."""

from __future__ import annotations

from typing import Any

from ..errors import TraceError, explain, user_frame
from ..graph.graph import PLACE
from ..tensor.storage import STRUCTURE
from ..tensor.tensor import Tensor


class Members(dict):
    """Parameters, buffers or children by name; every change is noted for compiled steps."""

    __slots__ = ()

    def __setitem__(self, key: str, value: Any) -> None:
        STRUCTURE.version += 1
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        STRUCTURE.version += 1
        super().__delitem__(key)

    def pop(self, *args: Any) -> Any:
        STRUCTURE.version += 1
        return super().pop(*args)

    def popitem(self) -> tuple:
        STRUCTURE.version += 1
        return super().popitem()

    def update(self, *args: Any, **kwargs: Any) -> None:
        STRUCTURE.version += 1
        super().update(*args, **kwargs)

    def clear(self) -> None:
        STRUCTURE.version += 1
        super().clear()


def check_trace(module: Any, name: str, value: Any) -> None:
    """While a function is compiled only slots may be set: a compiled step does not run this line again."""
    state = module.__dict__
    if "_parameters" not in state or (module._traced_in is not None and module._traced_in is PLACE.graph):
        return  # made inside the function, as a loss may be
    if isinstance(value, Tensor) and (
        module._buffers.get(name) is not None or module._parameters.get(name) is not None
    ):
        return
    if name == "training" and value is module.training:
        return
    path = PLACE.paths.get(id(module)) or PLACE.scope
    raise TraceError(
        explain(
            f"the attribute '{name}' of a module was set or deleted inside a compiled function, which would happen "
            "once and not at each call",
            expected="only parameters and buffers that exist already are given new Tensors there",
            given=f"{path + '.' if path else ''}{name} = {_short(value)}",
            where=f"in {_place(path, module)}\n{user_frame()}",
            do=f"register it with register_buffer('{name}', tensor) and give it a Tensor, or set it outside of the "
            "function",
        )
    )


def check_name(module: Any, kind: str, name: Any, members: Any) -> None:
    """Raises unless something can be registered under the name."""
    if "_parameters" not in module.__dict__:
        raise AttributeError(f"cannot assign {kind} before Module.__init__() call")
    if not isinstance(name, str):
        raise TypeError(f"{kind} name should be a string. Got {typename(name)}")
    if "." in name:
        raise KeyError(f'{kind} name can\'t contain "."' + (f", got: {name}" if kind == "module" else ""))
    if name == "":
        raise KeyError(f'{kind} name can\'t be empty string ""')
    if hasattr(module, name) and name not in members:
        raise KeyError(f"attribute '{name}' already exists")


def typename(value: Any) -> str:
    """A type's name in messages."""
    t = type(value)
    return t.__name__ if t.__module__ == "builtins" else f"{t.__module__}.{t.__qualname__}"


def _short(value: Any) -> str:
    return f"a Tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else f"{value!r:.60}"


def _place(path: str, module: Any) -> str:
    return f"module {path} ({module._get_name()})" if path else f"module {module._get_name()}"
