"""The base of all layers: `Module`, with PyTorch's attributes, hooks, names in `state_dict`, and messages."""

from __future__ import annotations

import types
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from ..dtypes import bfloat16, float16, float32, float64
from ..dtypes import dtype as to_dtype
from ..errors import DTypeError
from ..graph.graph import PLACE
from ..tensor.grad_mode import no_grad
from ..tensor.storage import STRUCTURE
from ..tensor.tensor import Handle, Tensor
from .attributes import Members, check_name, check_trace, typename
from .calls import Hooks, located, run, traced
from .parameter import Buffer, Parameter, rebind
from .state import EXTRA_STATE, IncompatibleKeys, load

_PLAIN = frozenset((bool, int, float, str, type(None)))
_FIXED = _PLAIN | {types.FunctionType, types.BuiltinFunctionType}


class Module:
    """The base of all layers and models: subclass it, make layers in `__init__`, compute in `forward`.

    Attributes:
        training: Whether the module is in training mode; `train()` and `eval()` set it.

    Example:
        >>> import gradloom as gl
        >>> class Net(gl.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.fc = gl.nn.Linear(3, 2)
        ...
        ...     def forward(self, x):
        ...         return self.fc(x).relu()
        >>> net = Net()
        >>> net
        Net(
          (fc): Linear(in_features=3, out_features=2, bias=True)
        )
        >>> net(gl.ones(4, 3)).shape
        gradloom.Size([4, 2])
        >>> [name for name, _ in net.named_parameters()]
        ['fc.weight', 'fc.bias']
    """

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _non_persistent_buffers_set: set[str]
    _hooks: Hooks | None = None  # made when the first hook is registered
    _traced_in: Any = None  # the graph whose trace made this module, which may set attributes during it

    def __init__(self, *args: Any, **kwargs: Any):
        if args or kwargs:
            what = (
                f"an unexpected keyword argument '{next(iter(kwargs))}'"
                if kwargs
                else f"{len(args)} unexpected arguments"
            )
            raise TypeError(f"{type(self).__name__}.__init__() got {what}")
        state = self.__dict__
        state["training"] = True
        state["_parameters"], state["_buffers"], state["_modules"] = Members(), Members(), Members()
        state["_non_persistent_buffers_set"] = set()
        if PLACE.graph is not None:
            state["_traced_in"] = PLACE.graph

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; a subclass defines it."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            if PLACE.graph is None:
                if self._hooks is None:
                    return self.forward(*args, **kwargs)
                return run(self, args, kwargs)
            return traced(self, args, kwargs)
        except Exception as error:
            located(error, self)
            raise

    # ------------------------------------------------------------------------------------------------- attributes

    def __getattr__(self, name: str) -> Any:  # only called for what is not in __dict__
        state = self.__dict__
        for members in ("_parameters", "_buffers", "_modules"):
            found = state.get(members)
            if found is not None and name in found:
                return found[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        if PLACE.graph is not None:
            check_trace(self, name, value)
        STRUCTURE.version += 1
        state = self.__dict__
        if "_parameters" not in state:
            for kind, what in ((Parameter, "parameters"), (Module, "module"), (Buffer, "buffer")):
                if isinstance(value, kind):
                    raise AttributeError(f"cannot assign {what} before Module.__init__() call")
            object.__setattr__(self, name, value)
        elif isinstance(value, Parameter):
            self._forget(name, self._parameters)
            self.register_parameter(name, value)
        elif name in self._parameters:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{typename(value)}' as parameter '{name}' (gradloom.nn.Parameter or None expected)"
                )
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._forget(name, self._modules)
            self._modules[name] = value
        elif name in self._modules:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{typename(value)}' as child module '{name}' (gradloom.nn.Module or None expected)"
                )
            self._modules[name] = value
        elif isinstance(value, Buffer) or name in self._buffers:
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    f"cannot assign '{typename(value)}' as buffer '{name}' "
                    "(gradloom.nn.Buffer, gradloom.Tensor or None expected)"
                )
            persistent = value.persistent if isinstance(value, Buffer) else name not in self._non_persistent_buffers_set
            self._forget(name, self._buffers)
            self.register_buffer(name, value, persistent)
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if PLACE.graph is not None:
            check_trace(self, name, None)
        STRUCTURE.version += 1
        for members in (self._parameters, self._buffers, self._modules):
            if name in members:
                del members[name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = {*object.__dir__(self), *self._parameters, *self._buffers, *self._modules}
        return sorted(name for name in names if not name[:1].isdigit())

    def _forget(self, name: str, keep: Any) -> None:
        """Removes an attribute of another kind, which is about to be replaced."""
        self.__dict__.pop(name, None)
        for members in (self._parameters, self._buffers, self._modules):
            if members is not keep and name in members:
                del members[name]
        self._non_persistent_buffers_set.discard(name)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Adds a parameter, or None to reserve its name."""
        check_name(self, "parameter", name, self.__dict__.get("_parameters"))
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(
                    f"cannot assign '{typename(param)}' object to parameter '{name}' "
                    "(gradloom.nn.Parameter or None required)"
                )
            if not param.is_leaf:
                raise ValueError(
                    f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created "
                    f"explicitly. To express '{name}' as a function of another Tensor, compute the value in the "
                    "forward() method."
                )
        if PLACE.graph is not None:
            check_trace(self, name, param)
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a buffer: a Tensor that belongs to the module's state and is not trained.

        Args:
            name: Its attribute's name.
            tensor: The Tensor, or None to reserve the name.
            persistent: It is part of `state_dict`.
        """
        check_name(self, "buffer", name, self.__dict__.get("_buffers"))
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{typename(tensor)}' object to buffer '{name}' (gradloom Tensor or None required)"
            )
        if PLACE.graph is not None:
            check_trace(self, name, tensor)
        self._buffers[name] = tensor
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def register_module(self, name: str, module: Module | None) -> None:
        """Adds a child module, or None to reserve its name."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{typename(module)} is not a Module subclass")
        check_name(self, "module", name, self.__dict__.get("_modules"))
        if PLACE.graph is not None:
            check_trace(self, name, module)
        self._modules[name] = module

    add_module = register_module

    # ---------------------------------------------------------------------------------------------------- walking

    def children(self) -> Iterator[Module]:
        """The modules that are attributes of this one."""
        for _, module in self.named_children():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the modules that are attributes of this one."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """This module and all modules below it; each once unless `remove_duplicate` is False."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def named_modules(
        self, memo: set | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(path, module) of this module ("") and all modules below it; each once unless `remove_duplicate` is False."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, prefix + ("." if prefix else "") + name, remove_duplicate)

    def _named(self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Any]]:
        seen = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, value in module.__dict__[kind].items():
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield path + ("." if path else "") + name, value

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters of this module and, with `recurse`, of all modules below it."""
        for _, param in self.named_parameters(recurse=recurse):
            yield param

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter), as in `state_dict`; one that is shared comes once unless `remove_duplicate` is False."""
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers of this module and, with `recurse`, of all modules below it."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(path, buffer), as in `state_dict`."""
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    # What compiled steps ask; see `graph.slots`.

    def __jit_slots__(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """(prefix + path, Tensor) of what a compiled step reads at each call: parameters, buffers; by all names."""
        for kind in ("_parameters", "_buffers"):
            for path, t in self._named(kind, "", True, False):
                yield prefix + path, t

    def __jit_paths__(self, prefix: str = "") -> dict[int, str]:
        """{id of a module: its path}, for the names in the printed step."""
        return {id(m): ".".join(p for p in (prefix, path) if p) for path, m in self.named_modules()}

    def __jit_snapshot__(self) -> Callable[[], None]:
        """Notes which Tensors the slots hold; calling the result puts them back."""
        tables: list[Any] = [(table, dict(table)) for m in self.modules() for table in (m._parameters, m._buffers)]

        def put_back() -> None:
            for table, before in tables:
                table.clear()
                table.update(before)

        return put_back

    def __jit_key__(self) -> tuple:
        """What selects the code that `forward` runs: modes, plain attributes and hooks of all modules."""
        return tuple(
            (
                path,
                type(module),
                module._hooks and module._hooks.key(),
                tuple((k, type(v), v) for k, v in module.__dict__.items() if type(v) in _FIXED or _is_sizes(v)),
            )
            for path, module in self.named_modules(remove_duplicate=False)
        )

    def get_submodule(self, target: str) -> Module:
        """The module at a path such as "features.0"; "" is this one.

        Raises:
            AttributeError: There is none.
        """
        found: Any = self
        for name in target.split(".") if target else ():
            if not hasattr(found, name):
                raise AttributeError(f"{found._get_name()} has no attribute `{name}`")
            found = getattr(found, name)
            if not isinstance(found, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return found

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a path such as "features.0.weight".

        Raises:
            AttributeError: There is none.
        """
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        found = getattr(module, name)
        if not isinstance(found, Parameter):
            raise AttributeError(f"`{name}` is not an nn.Parameter")
        return found

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a path such as "bn.running_mean".

        Raises:
            AttributeError: There is none.
        """
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        if name not in module._buffers:
            raise AttributeError(f"`{name}` is not a buffer")
        return getattr(module, name)

    # ------------------------------------------------------------------------------------------------------ modes

    def train(self, mode: bool = True) -> Self:
        """Sets training mode (or, with False, evaluation mode) for this module and all below it."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self) -> Self:
        """Sets evaluation mode: dropout passes through, batch normalization uses its running statistics."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Sets whether operations on the parameters are recorded."""
        for param in self.parameters():
            param.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops the gradients of all parameters, or with `set_to_none=False` fills them with zeros."""
        for param in self.parameters():
            if param._grad is not None:
                if set_to_none:
                    param.grad = None
                else:
                    param.grad.detach_().zero_()  # type: ignore[union-attr]

    def apply(self, fn: Callable[[Module], None]) -> Self:
        """Calls `fn` with all modules below this one, children first, and then this one."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # --------------------------------------------------------------------------------------- dtypes and backends

    def to(
        self, *args: Any, dtype: Any = None, device: Any = None, backend: Any = None, non_blocking: bool = False
    ) -> Self:
        """Moves all parameters and buffers to a float dtype, a device or a backend, in place. Integers keep theirs.

        Args:
            args: A dtype, a device, a device and a dtype, or a Tensor whose dtype and backend are taken.

        Raises:
            DTypeError: A dtype that is no float.
            BackendError: There is no such device or backend.
        """
        for a in args:
            if isinstance(a, Tensor):
                dtype, backend = a.dtype, a.backend
                continue
            try:
                dtype = to_dtype(a)
            except DTypeError:
                device = a
        wanted = None if dtype is None else to_dtype(dtype)
        if wanted is not None and wanted.kind != "float":
            raise DTypeError(f"nn.Module.to only accepts floating point dtypes, but got desired dtype={wanted}")

        def convert(t: Tensor) -> Tensor:
            return t.to(dtype=wanted if t.is_floating_point() else None, device=device, backend=backend)

        return self._convert(convert)

    def _convert(self, fn: Callable[[Tensor], Tensor]) -> Self:
        tensors = {id(t): t for _, t in self.__jit_slots__()}.values()
        with no_grad():
            # All are converted before one is replaced: an error leaves the module as it was.
            pairs = [(t, fn(t.detach()), fn(t._grad) if isinstance(t._grad, Tensor) else None) for t in tensors]
        for t, new, grad in pairs:
            if new._array is not t._array:
                rebind(t, new._array)
            if grad is not None:
                t._grad = grad
        STRUCTURE.version += 1
        return self

    def type(self, dst_type: Any) -> Self:
        """Converts all parameters and buffers to a dtype, integers too."""
        return self._convert(lambda t: t.to(dtype=to_dtype(dst_type)))

    def float(self) -> Self:
        """Floating parameters and buffers in float32."""
        return self.to(dtype=float32)

    def double(self) -> Self:
        """Floating parameters and buffers in float64."""
        return self.to(dtype=float64)

    def half(self) -> Self:
        """Floating parameters and buffers in float16."""
        return self.to(dtype=float16)

    def bfloat16(self) -> Self:
        """Floating parameters and buffers in bfloat16."""
        return self.to(dtype=bfloat16)

    def cpu(self) -> Self:
        """Parameters and buffers on the CPU."""
        return self.to(device="cpu")

    def cuda(self, device: Any = None) -> Self:
        """Parameters and buffers on an NVIDIA GPU, where the backend sees one."""
        return self.to(device="cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else device)

    # ------------------------------------------------------------------------------------------------------ state

    def state_dict(
        self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Parameters and persistent buffers by path: detached Tensors that share the module's memory, as in PyTorch.

        Args:
            destination: A dict that is filled and returned.
            prefix: Put in front of each path.
            keep_vars: Give the parameters themselves.
        """
        if args:
            given: list[Any] = [*args, *(destination, prefix, keep_vars)[len(args) :]]
            destination, prefix, keep_vars = given
        found: dict[str, Any] = OrderedDict() if destination is None else destination
        for name, t in (*self._parameters.items(), *self._buffers.items()):
            if t is not None and name not in self._non_persistent_buffers_set:
                found[prefix + name] = t if keep_vars else t.detach()
        if not hasattr(type(self).get_extra_state, "undefined"):
            found[prefix + EXTRA_STATE] = self.get_extra_state()
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=found, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        return found

    def get_extra_state(self) -> Any:
        """State besides parameters and buffers, which `state_dict` is to hold; a subclass defines it."""
        raise RuntimeError("Reached a code path in Module.get_extra_state() that should never be called.")

    def set_extra_state(self, state: Any) -> None:
        """Takes over what `get_extra_state` gave; a subclass defines it."""
        raise RuntimeError("Reached a code path in Module.set_extra_state() that should never be called.")

    get_extra_state.undefined = set_extra_state.undefined = True  # type: ignore[attr-defined]

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Takes over parameters and buffers. When it raises, nothing was changed.

        Args:
            state_dict: Tensors, NumPy arrays or arrays of any engine by path; cast and moved to where the module's are.
            strict: The keys have to be those of `self.state_dict()`.
            assign: Make the given Tensors the module's own, with their dtype and backend, rather than copy elements.

        Returns:
            A namedtuple of `missing_keys` and `unexpected_keys`.

        Raises:
            ShapeError: Keys are missing or unexpected (if strict), or shapes differ; the message lists all of them.
        """
        return load(self, state_dict, strict, assign)

    # ------------------------------------------------------------------------------------------------------ hooks

    def _hook(self, kind: str, hook: Any, prepend: bool) -> Handle:
        if self._hooks is None:
            self.__dict__["_hooks"] = Hooks()
        hooks: Any = getattr(self._hooks, kind)
        before = dict(hooks) if prepend else {}
        if prepend:
            hooks.clear()
        STRUCTURE.version += 1
        handle = Handle(hooks, hook)
        hooks.update(before)
        return handle

    def register_forward_pre_hook(self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False) -> Handle:
        """Calls `hook(module, args)` before `forward`; what it returns replaces the arguments.

        Args:
            hook: The function; with `with_kwargs` it is called as `hook(module, args, kwargs)` and returns both.
            prepend: Call it before the hooks that are there.

        Returns:
            A handle with `remove()`.
        """
        return self._hook("before", (hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> Handle:
        """Calls `hook(module, args, output)` after `forward`; what it returns replaces the output.

        Args:
            hook: The function; with `with_kwargs` it is called as `hook(module, args, kwargs, output)`.
            prepend: Call it before the hooks that are there.
            always_call: Call it also when `forward` raised; output is then None.

        Returns:
            A handle with `remove()`.
        """
        return self._hook("after", (hook, with_kwargs, always_call), prepend)

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False) -> Handle:
        """Calls `hook(module, grad_input, grad_output)` in the backward pass; what it returns replaces `grad_input`.

        Gradients come as tuples, None for arguments without one. A replacement needs a single argument with a gradient.

        Returns:
            A handle with `remove()`.
        """
        return self._hook("backward", hook, prepend)

    # ------------------------------------------------------------------------------------------------------- text

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What the module's repr says about it; a subclass defines it."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr().split("\n") if self.extra_repr() else []
        children = [f"({name}): {indented(repr(module))}" for name, module in self._modules.items()]
        if len(extra) == 1 and not children:
            return f"{self._get_name()}({extra[0]})"
        if not extra and not children:
            return f"{self._get_name()}()"
        return f"{self._get_name()}(\n  " + "\n  ".join(extra + children) + "\n)"


def _is_sizes(value: Any) -> bool:
    return type(value) is tuple and _PLAIN.issuperset(map(type, value))


def indented(text: str) -> str:
    """The text with all but its first line moved in."""
    return text.replace("\n", "\n  ")
