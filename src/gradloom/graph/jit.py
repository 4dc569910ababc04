"""`gradloom.jit`: a training step, written eagerly, compiled to one function.

A call looks up the compiled form for the captured slots, the arguments' shapes and the plain values that the function depends on, reads
the slots, runs the emitted function, and writes the slots. See `slots` for what is captured and `compiled` for a run.
"""

from __future__ import annotations

import functools
import inspect
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import tree
from ..backends.base import Backend
from ..backends.registry import backend_of, default_backend, get_backend
from ..dtypes import default_dtype
from ..errors import BackendError, TraceError, explain, user_frame
from ..ops.op import SCALARS, kind_of
from ..tensor.grad_mode import MODE
from ..tensor.storage import STRUCTURE
from ..tensor.tape import Leaf, Raw
from ..tensor.tensor import Tensor
from .compiled import Compiled
from .graph import PLACE, Value
from .slots import Retrace, Walk, prefixes
from .trace import Trace, spec_of

_WARN_AFTER = 8


def jit(fn: Callable | None = None, *, keep_grads: bool = False) -> Any:
    """Compiles a function of Tensors: the whole training step, with `backward()` and `optimizer.step()`.

    The function is run once on traced values for each set of shapes and settings; later calls run the emitted source. Modules, optimizers
    and Tensors that it uses are found through its closure, globals and arguments, and are read and written at each call. Tensors,
    arrays and floats among the arguments are inputs; ints, bools, strings and None are fixed at compile time.

    Args:
        fn: The function.
        keep_grads: Keep the gradients of leaves in `.grad` after a call. Otherwise reading one raises.

    Returns:
        A callable with the attributes `source` (the emitted text), `node_count`, `trace_seconds` and `compiles`.

    Raises:
        TraceError: At the first call: the function needs the value of a traced Tensor, uses a Tensor that it has no name for, or
            sets an attribute. The message names the line.

    Example:
        >>> import gradloom as gl
        >>> w = gl.tensor([1.0, 2.0], requires_grad=True)
        >>> optimizer = gl.optim.SGD([w], lr=0.1)
        >>> @gl.jit
        ... def step(x):
        ...     optimizer.zero_grad()
        ...     loss = (w * x).sum()
        ...     loss.backward()
        ...     optimizer.step()
        ...     return loss
        >>> step(gl.tensor([1.0, 1.0])).item()
        3.0
        >>> w.detach()
        tensor([0.9000, 1.9000])
    """
    return functools.partial(jit, keep_grads=keep_grads) if fn is None else Jitted(fn, keep_grads)


class Jitted:
    """A function compiled by `jit`.

    Attributes:
        compiles: How often the function was traced.
        trace_seconds: What the last tracing and printing took, without the engine's own compilation.
        node_count: Nodes of the last graph as traced.
    """

    def __init__(self, fn: Callable, keep_grads: bool = False):
        functools.update_wrapper(self, fn)
        self.__name__ = getattr(fn, "__name__", "step")
        self._fn, self._keep_grads = fn, keep_grads
        self._cache: dict[Any, list[Compiled]] = {}
        self._last: Compiled | None = None
        self._walk: Walk | None = None
        self._seen_structure = -1
        self._reasons: list[Any] = []
        self.compiles = 0
        self.trace_seconds = 0.0
        self.node_count = 0

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a method: one compiled function for each instance."""
        if instance is None:
            return self
        name = f"_jit_{self._fn.__name__}"
        bound = vars(instance).get(name)
        if bound is None:
            bound = Jitted(self._fn.__get__(instance, owner), self._keep_grads)
            object.__setattr__(instance, name, bound)
        return bound

    @property
    def source(self) -> str:
        """The emitted text of the last call."""
        if self._last is None:
            raise TraceError(f"{self.__name__} has no source yet: it is emitted at the first call")
        return self._last.source

    def bare(self, *args: Any) -> Callable[[], Any]:
        """A function that runs only the engine's compiled function for these arguments, on copies of the slots (for benchmarks)."""
        self(*args)
        return self._last.bare([a._array for a in args])  # type: ignore[union-attr]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if PLACE.graph is not None:
            return self._fn(*args, **kwargs)  # inside another compiled function: part of it
        last = self._last
        if (
            last is not None
            and not kwargs
            and STRUCTURE.version == self._seen_structure
            and last.simple_key is not None
        ):
            # The short path: nothing changed and the arguments are arrays of the same shapes.
            leaves = []
            key: Any = []
            for a in args:
                if isinstance(a, Tensor):
                    if a._cell is not None and last.changes(a._cell):
                        key = None
                        break
                    a = a._array
                    key.append((a.shape, a.dtype))
                    leaves.append(a)
                else:
                    key = None
                    break
            if key == last.simple_key and last.mode == MODE.enabled and self._walk.holds() and last.valid():  # type: ignore[union-attr]
                return last.run(leaves)
        return self._slow(args, kwargs)

    # --- finding or making the compiled form

    def _slow(self, args: tuple, kwargs: dict) -> Any:
        flat, treedef = tree.flatten((args, kwargs))
        while True:
            try:
                found, leaves, walk = self._find(args, kwargs, flat, treedef)
                break
            except Retrace as again:
                again.settle()
        arrays_only = not kwargs and all(isinstance(a, Tensor) for a in args)
        found.simple_key = [(a._array.shape, a._array.dtype) for a in args] if arrays_only else None
        found.mode = MODE.enabled
        self._last, self._walk = found, walk
        result = found.run(leaves)
        self._seen_structure = STRUCTURE.version
        return result

    def _find(self, args: tuple, kwargs: dict, flat: list, treedef: Any) -> tuple[Compiled, list, Walk]:
        """(compiled form, arrays of the inputs, walk)."""
        walk = self._walk
        if walk is None or STRUCTURE.version != self._seen_structure or not walk.holds():
            walk = Walk()
            walk.function(self._fn)
        for i, leaf in enumerate(flat):
            if hasattr(type(leaf), "__jit_slots__"):
                walk.value(f"argument_{i}", leaf)
        for _, owner in walk.owners.values():
            if hasattr(owner, "__jit_prepare__"):
                owner.__jit_prepare__()
        prefix = prefixes(walk)
        captured = self._captured(walk, prefix, flat)
        backend = self._backend(captured, flat)
        arg_key, leaves, traced = self._arguments(flat, backend, {id(t): name for name, t in captured})
        key = (
            treedef,
            arg_key,
            MODE.enabled,
            backend.name,
            backend.device,
            default_dtype(),
            tuple(walk.key),
            tuple(
                (name, id(t), tuple(t._array.shape), spec_of(t._array, backend).dtype, t._node is not None)
                for name, t in captured
            ),
            tuple(owner.__jit_key__() for _, owner in walk.owners.values() if hasattr(owner, "__jit_key__")),
        )
        for compiled in self._cache.get(key, ()):
            if compiled.valid():
                return compiled, leaves, walk
        found = self._compile(args, kwargs, flat, treedef, traced, walk, prefix, captured, backend)
        self._cache.setdefault(key, []).append(found)
        self._note(key)
        return found, leaves, walk

    def _captured(self, walk: Walk, prefix: dict[int, str], flat: list) -> list[tuple[str, Tensor]]:
        """The Tensors that the function reads from outside of its arguments, by their names."""
        arguments = {id(a) for a in flat if isinstance(a, Tensor)}
        captured: dict[int, tuple[str, Tensor]] = {}
        for key in prefix:
            for name, t in walk.owners[key][1].__jit_slots__(prefix[key]):
                captured.setdefault(id(t), (name, t))
        for key, (name, t) in walk.tensors.items():
            captured.setdefault(key, (name, t))
        for name, t in list(captured.values()):
            while t._base is not None:  # a view is read from the whole
                name, t = f"{name}_base", t._base
            captured.setdefault(id(t), (name, t))
        names: set[str] = set()
        result = []
        for key, (name, t) in captured.items():
            if key in arguments:
                raise TraceError(
                    explain(
                        f"the Tensor '{name}' is an argument of the compiled function and also reached by it in another way",
                        do="pass it as an argument only, or not at all",
                    )
                )
            unique, k = name, 1
            while unique in names:
                k += 1
                unique = f"{name}_{k}"
            names.add(unique)
            result.append((unique, t))
        return result

    def _backend(self, captured: list[tuple[str, Tensor]], flat: list) -> Backend:
        """The one backend of all captured Tensors and arguments."""
        found: dict[str, str] = {}
        arrays = [(n, t._array) for n, t in captured] + [
            (f"argument {i}", a._array) for i, a in enumerate(flat) if isinstance(a, Tensor)
        ]
        for name, array in arrays:
            found.setdefault(backend_of(array).name, name)
        default = default_backend()
        if not found:
            return default
        if len(found) > 1:
            raise BackendError(
                explain(
                    "a compiled function uses Tensors of two backends",
                    given=", ".join(f"{name} on {engine}" for engine, name in found.items()),
                    do="move them to one with .to(backend=...)",
                )
            )
        (name,) = found
        return default if default.name == name else get_backend(name)

    def _arguments(self, flat: list, backend: Backend, captured: dict[int, str]) -> tuple[tuple, list, list[int]]:
        """(hashable key, arrays of the inputs, positions of the inputs among the leaves).

        Args:
            captured: {id: name} of the captured Tensors.
        """
        key: list[Any] = []
        leaves: list[Any] = []
        traced: list[int] = []
        for i, a in enumerate(flat):
            if isinstance(a, Tensor):
                x = a._array
                if a._node is not None and type(a._node) is not Leaf:
                    raise TraceError(
                        explain(
                            "an argument of a compiled function was computed with gradients outside of it",
                            where=user_frame(),
                            do="detach() it",
                        )
                    )
                key.append(("tensor", tuple(x.shape), backend.dtype_of(x), a._node is not None, alias_of(a, captured)))
            elif type(a) is float:
                x = backend.from_numpy(np.asarray(a), backend.dtype)
                key.append(("float",))
            elif isinstance(a, np.ndarray) or (kind_of(type(a)) is not None and type(a) not in SCALARS):
                x = backend.from_numpy(np.asarray(a)) if isinstance(a, (np.ndarray, np.generic)) else a
                key.append(("array", tuple(x.shape), backend.dtype_of(x)))
            elif hasattr(type(a), "__jit_slots__"):
                key.append(("owner", id(a)))
                continue
            else:
                try:
                    hash(a)
                except TypeError:
                    raise TraceError(
                        explain(
                            "an argument of a compiled function is neither an array nor a plain value",
                            expected="Tensors, arrays, floats (inputs); ints, bools, strings, None (fixed); in lists, tuples and dicts",
                            given=type(a).__name__,
                            where=user_frame(),
                        )
                    ) from None
                key.append(("static", type(a), a))
                continue
            traced.append(i)
            leaves.append(x)
        return tuple(key), leaves, traced

    def _compile(self, args, kwargs, flat, treedef, traced, walk, prefix, captured, backend) -> Compiled:
        start = time.perf_counter()
        paths: dict[int, str] = {}
        for key, (name, owner) in walk.owners.items():
            if hasattr(owner, "__jit_paths__"):
                paths.update(
                    owner.__jit_paths__(
                        prefix[key].rstrip(".") or ("" if any(True for _ in owner.__jit_slots__("")) else name)
                    )
                )
        trace = Trace(backend, paths)
        names = argument_names(self._fn, args, kwargs)
        inputs = []
        leaves = list(flat)
        for i in traced:
            a = flat[i]
            x = a._array if isinstance(a, Tensor) else a
            if type(a) is float:
                value = trace.graph.input((), backend.dtype, names[i])
            else:
                x = backend.from_numpy(x) if isinstance(x, np.generic | np.ndarray) else x
                spec = spec_of(x, backend)
                value = trace.graph.input(spec.shape, spec.dtype, names[i])
            inputs.append(value)
            leaves[i] = t = Raw.wrap(value)
            if isinstance(a, Tensor) and a._node is not None:
                t.requires_grad_()
        call_args, call_kwargs = tree.unflatten(treedef, leaves)
        owners = [(prefix[key], walk.owners[key][1]) for key in prefix]
        result = trace.run(self._fn, call_args, call_kwargs, captured, owners)
        known = {id(t): name for name, t in captured}
        changed = {
            name for (name, _, value), final in zip(trace.tensors, trace.finals, strict=True) if final is not value
        }
        for i, value in zip(traced, inputs, strict=True):
            check_argument(
                names[i], value, leaves[i], isinstance(flat[i], Tensor) and alias_of(flat[i], known), changed
            )
        compiled = Compiled(self.__name__, trace, inputs, result, self._keep_grads)
        self.compiles += 1
        self.trace_seconds = time.perf_counter() - start - compiled.engine_seconds
        self.node_count = compiled.node_count
        return compiled

    def _note(self, key: Any) -> None:
        """Warns when the function is traced again and again, and says what keeps changing."""
        self._reasons.append(key)
        if self.compiles != _WARN_AFTER + 1:
            return
        names = (
            "the structure of the arguments",
            "the shapes or values of the arguments",
            "the gradient mode",
            "the backend",
            "the device",
            "the default dtype",
            "plain values that the function uses",
            "the captured Tensors",
            "the settings of modules or optimizers",
        )
        changed = []
        for i, name in enumerate(names):
            values = list(dict.fromkeys(k[i] for k in self._reasons))
            if len(values) > 1:
                changed.append(f"{name}: {_difference(values[-2], values[-1])}")
        warnings.warn(
            explain(
                f"{self.__name__} was compiled {self.compiles} times",
                given="; ".join(changed) or "which parameters had gradients at the call",
                do="pad batches to a few shapes, and pass changing numbers as floats or Tensors (ints are fixed at compile time)",
            ),
            stacklevel=4,
        )


def alias_of(t: Tensor, captured: dict[int, str]) -> str | None:
    """The name of a captured Tensor that shares memory with t."""
    members = (r() for r in t._cell.members) if t._cell is not None else ()
    return next((captured[id(m)] for m in members if id(m) in captured), None)


def check_argument(name: str, value: Value, t: Tensor, alias: Any, changed: set[str]) -> None:
    """Raises where a change of an argument would be seen eagerly, and is not by what called the compiled function."""
    if t._array is not value:
        raise TraceError(
            explain(
                f"a compiled function changes its argument '{name}' in place",
                do="return the new value, change a clone(), or let the function reach the Tensor through a variable",
            )
        )
    if alias in changed:
        raise TraceError(
            explain(
                f"the argument '{name}' shares memory with '{alias}', which the compiled function changes",
                do=f"pass {name}.clone(), or let the function reach it through a variable",
            )
        )


def _difference(a: Any, b: Any) -> str:
    """The first part in which two keys differ."""
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        for x, y in zip(a, b, strict=True):
            if x != y:
                return _difference(x, y)
    return f"{a} and then {b}"


def argument_names(fn: Callable, args: tuple, kwargs: dict) -> list[str]:
    """A Python name for each leaf of the arguments: the parameter's, with the path inside it."""
    try:
        bound = inspect.signature(fn).bind(*args, **kwargs)
        positional = list(bound.arguments)
    except (TypeError, ValueError):
        positional = []
    names = []
    for i, a in enumerate(args):
        base = positional[i] if i < len(positional) else f"argument_{i}"
        names += [_path_name(base, path) for path, _ in tree.paths(a)]
    for k, a in kwargs.items():
        names += [_path_name(k, path) for path, _ in tree.paths(a)]
    return names


def _path_name(base: str, path: str) -> str:
    return base if not path else f"{base}_{path.replace('.', '_')}"
