"""Emitted functions as a Python module of its own, which needs the engine and not gradloom.

The text of `emit` refers to things of gradloom: the engine's namespace `xp`, kernels, dtypes, constants. Here these are
printed too, as far as they are used. A name stands for what the globals (or the closure) of its function say: an engine's or
the standard library's object is printed as its path, a function as its source, in which the same is done, anything else as a
literal. So what runs is the same code, and gives the same numbers to the last bit. What is only about errors and dtypes has
short stand-ins (STAND_INS).
"""

from __future__ import annotations

import builtins
import functools
import importlib
import inspect
import itertools
import re
import sys
import textwrap
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from .. import dtypes
from ..backends.base import Backend
from ..backends.numpy_bfloat16 import to_bfloat16
from ..backends.registry import BACKENDS
from ..backends.shapes import Spec
from ..dtypes import DType, bfloat16
from ..errors import GradloomError, TraceError, explain
from ..ops.namespace import INDEX, NAMESPACE
from ..ops.op import HALF
from .emit import Helpers, _source, _wrap_at_commas, literal
from .literals import array_text, bracketed
from .sources import edited, names, renamed, source

#: Modules of which objects are printed as paths, in the order in which they are looked through: (module, as what).
ENGINES = {
    "numpy": (("numpy", "np"),),
    "jax": (("jax.numpy", "jnp"), ("jax.lax", "jax.lax"), ("jax.nn", "jax.nn"), ("jax", "jax"), ("numpy", "np")),
    "torch": (("torch", "torch"), ("torch.nn.functional", "torch.nn.functional"), ("numpy", "np")),
    "mlx": (("mlx.core", "mx"), ("numpy", "np")),
}
_SHORT = {"numpy": "np", "jax.numpy": "jnp", "mlx.core": "mx"}
_TITLES = {"numpy": "NumPy", "jax": "JAX", "torch": "PyTorch", "mlx": "MLX"}
_RUN = {"jax": "jax.jit", "mlx": "mlx.core.compile"}
_PACKAGE = __name__.partition(".")[0]


def export(
    programs: Iterable[tuple[Helpers, Mapping[str, str]]],
    tables: Mapping[str, Mapping[str, Spec]] | None = None,
    header: str = "",
) -> str:
    """The text of a Python module with all functions of some programs of one backend, and with everything that they use.

    Args:
        programs: For each its helpers and {name of a function: its text}; the names differ.
        tables: What the functions take: {parameter: {key: Spec}}; for the comment on top. Where it is given, and has no
            bfloat16, what NumPy needs for that dtype is left out.
        header: A further comment.

    Raises:
        TraceError: Something cannot be printed, such as a function of which there is no source; the message names it.
    """
    programs = [(helpers, dict(texts)) for helpers, texts in programs]
    known = tables is not None
    tables = tables or {}
    backend = programs[0][0].backend
    values = [v for helpers, _ in programs for v in helpers.namespace.values()]
    given = [spec.dtype for table in tables.values() for spec in table.values()]
    given += [backend.dtype_of(v) for v in values if isinstance(v, backend.array_types)]
    module = _Module(backend, not known or bfloat16 in given or any(v is bfloat16 for v in values))
    functions = []
    for name in (name for _, texts in programs for name in texts):
        if name in module.taken:
            raise ValueError(f"there are two functions named {name!r}")
        module.taken.add(name)
    for helpers, texts in programs:
        for name, text in texts.items():
            functions.append(module.resolved(text, _Emitted(helpers), name))
    module.namespace()
    return module.text(_comment(backend, tables, header, module), functions)


def _comment(backend: Backend, tables: Mapping[str, Mapping[str, Spec]], header: str, module: _Module) -> list[str]:
    engine = importlib.import_module(BACKENDS[backend.name][1][0] + (".core" if backend.name == "mlx" else ""))
    version, own = getattr(engine, "__version__", "?"), getattr(sys.modules[_PACKAGE], "__version__", "")
    lines = [
        f"Written by {_PACKAGE} {own}".rstrip() + f" for {_TITLES[backend.name]} {version}. It runs without {_PACKAGE}."
    ]
    if backend.name in _RUN:
        lines.append(f"Pass the functions to {_RUN[backend.name]} to have them compiled.")
    if str(backend.device).partition(":")[0] not in ("cpu", "gpu"):
        lines.append(f"Device: {backend.device}.")
    if backend.name == "jax" and any(s.dtype.name == "float64" for t in tables.values() for s in t.values()):
        lines.append("It has float64: run it in JAX's 64-bit mode (jax_enable_x64).")
    if "to_bfloat16" in module.taken:
        lines.append("Arrays of bfloat16 are given as to_bfloat16(x).")
    lines += header.splitlines()
    width = max((len(key) for table in tables.values() for key in table), default=0)
    for what, table in tables.items():
        if table:
            lines += ["", f"{what}:"]
            lines += [f"    {key.ljust(width)}  {str(s.shape).ljust(16)}  {s.dtype.name}" for key, s in table.items()]
    return ["# " + re.sub(r"[\x00-\x1f\x85\u2028\u2029]", " ", line) if line else "#" for line in lines]


class _Text:
    """A function that is there as text, and where its names are looked up."""

    def __init__(self, name: str, text: str, scope: _Emitted):
        self.name, self.text, self.scope = name, text, scope


class _Emitted(Mapping):
    """What the names in emitted source stand for. In a helper that was a function the builtins are Python's own."""

    def __init__(self, helpers: Helpers, in_helper: bool = False):
        self.helpers, self.in_helper = helpers, in_helper

    def __getitem__(self, name: str) -> Any:
        if self.in_helper and hasattr(builtins, name):
            raise KeyError(name)
        text = self.helpers.sources.get(name)
        if text is None:
            return self.helpers.namespace[name]
        for path in STAND_INS:
            home, _, own = path.rpartition(".")
            real = getattr(sys.modules.get(home), own, None)
            if own == name and isinstance(real, FunctionType) and (_source(real, name, False) or ("",))[0] == text:
                return real
        traced = name in self.helpers.blocks.values()
        return _Text(name, text, _Emitted(self.helpers, not traced))

    def __iter__(self) -> Iterator[str]:
        return iter({**self.helpers.sources, **self.helpers.namespace})

    def __len__(self) -> int:
        return len(list(iter(self)))


class _Module:
    """The parts of the module while they are found.

    Attributes:
        half: bfloat16 occurs.
        taken: Names of the module.
        imports: Lines.
        values, engine, ops, arrays: Texts: of what must stand first; of functions that `xp` uses; of other functions; of large
            constants.
        members: {name: text} of `xp`.
    """

    def __init__(self, backend: Backend, half: bool):
        self.backend, self.half = backend, half
        self.taken = {"xp", "np", "jnp", "mx", *sys.stdlib_module_names, *vars(builtins)}
        self.imports: set[str] = set()
        self.values: list[str] = []
        self.engine: list[str] = []
        self.ops: list[str] = []
        self.arrays: list[str] = []
        self.members: dict[str, str] = {}
        self.section = self.ops
        self._wanted: dict[str, None] = {}  # names of xp that are used
        self._made: dict[int, str] = {}  # id of a value -> what stands for it
        self._kept: list[Any] = []  # keeps these ids
        self._texts: dict[tuple[str, str], str] = {}  # (name, what the text says) -> its name here
        self._active: dict[int, str] = {}  # functions that are being printed
        self._modules = [(importlib.import_module(m), shown) for m, shown in ENGINES[backend.name]]

    def text(self, comment: list[str], functions: list[str]) -> str:
        """The whole module."""
        parts = ["\n".join(comment) + "\n\n" + "\n".join(sorted(self.imports))]
        for code, group in itertools.groupby(self.values, lambda v: v.startswith(("def ", "class ", "@"))):
            found = list(group)
            parts += found if code else ["\n".join(found)]
        if self.members:
            parts += self.engine
            members = ["    " + m for m in self.members.values() if "\n" not in m]
            members += ["\n" + textwrap.indent(m, "    ") for m in self.members.values() if "\n" in m]
            doc = f'    """{_TITLES[self.backend.name]} under the names of the array API."""'
            parts.append("\n".join(["class xp:", doc, *([""] if members[0][0] != "\n" else []), *members]))
        parts += [*self.ops, *functions, *self.arrays]
        return "\n\n\n".join(p for p in parts if p) + "\n"

    def namespace(self) -> None:
        """Prints the functions of `xp` that are used, and what they use."""
        self.section = self.engine
        done: set[str] = set()
        while wanted := [n for n in self._wanted if n not in done]:
            for name in wanted:
                done.add(name)
                member = inspect.getattr_static(self.backend.xp, name)
                if isinstance(member, staticmethod):
                    fn: Any = member.__func__
                    text = self.resolved(self._source(fn, name), _scope(fn), f"xp.{name}")
                    self.members[name] = f"@staticmethod\n{text}"
                else:
                    self.members[name] = f"{name} = {self.reference(name, getattr(self.backend.xp, name), 'xp')}"
        self.members = {n: self.members[n] for n in ("dtype", *NAMESPACE) if n in self.members}

    # ------------------------------------------------------------------------------------------------------- names

    def resolved(self, text: str, scope: Mapping[str, Any], owner: str, itself: str = "") -> str:
        """The text with its global names replaced by what stands for them here, where that has another name."""
        found = names(text)
        if any(m.partition(".")[0] in ("", _PACKAGE) for m in found.modules):
            raise _unprintable(owner, "it imports a part of gradloom")
        self._wanted.update(dict.fromkeys(found.of_xp))
        shown: dict[tuple[str, str], str] = {}
        for name, _, _, attribute in found.read:
            if (name, attribute) in shown:
                continue
            if name == itself or (name not in scope and hasattr(builtins, name)):
                new = name
            elif name in scope:
                value = scope[name]
                new = self.reference(name, getattr(value.op, attribute) if attribute else value, owner)
                if new != name and new.partition(".")[0] in found.variables:
                    new = self._alias(name, new, found.variables)
            else:
                raise _unprintable(owner, f"its name '{name}' is not defined")
            shown[name, attribute] = new
        return edited(text, [(start, end, shown[n, a]) for n, start, end, a in found.read if a or shown[n, a] != n])

    def _alias(self, name: str, found: str, hidden: set[str]) -> str:
        """Another name for what a function cannot reach, as it has a variable of that name."""
        alias = self.unique(name, hidden)
        self.values.append(f"{alias} = {found}")
        return alias

    def unique(self, name: str, more: Iterable[str] = ()) -> str:
        """The name, with a number if it is taken; it is taken from now on."""
        name = name if name.isidentifier() else "value"
        made, k = name, 1
        while made in self.taken or made in more:
            k += 1
            made = f"{name}_{k}"
        self.taken.add(made)
        return made

    def reference(self, name: str, value: Any, owner: str) -> str:
        """What stands for a value in the module: a name or a path. It is printed if it is not there yet.

        Args:
            name: What it is called where it is used.
            owner: What uses it, for errors.
        """
        if value is self.backend.xp:
            return "xp"
        if isinstance(value, _Text):
            return self._function(value.name, value.text, value.scope, value.text)
        found = self._made.get(id(value))
        if found is None:
            found = self._active.get(id(value)) or self._printed(name, value, owner)
            if id(value) not in self._active and not isinstance(value, int | float | str | bytes | None):
                self._made[id(value)] = found
                self._kept.append(value)
        return found

    def _printed(self, name: str, value: Any, owner: str) -> str:
        stand_in = STAND_INS.get(_qualified(value))
        if stand_in is not None:
            value, name = stand_in, name.lstrip("_")
        if isinstance(value, ModuleType):
            return self._module(value, owner)
        if isinstance(value, type) and issubclass(value, GradloomError):
            kinds = value.__mro__
            return next(k.__name__ for k in kinds if k.__module__ == "builtins")
        if isinstance(value, DType):
            return self._dtype(value)
        if value is DTYPES:
            return self._value(name, f"{{d.name: d for d in ({', '.join(map(self._dtype, DTYPES.values()))})}}")
        if value is INDEX or value is HALF:
            return self._value(name, "object()" if value is INDEX else f"{self.reference('Half', _Half, owner)}()")
        path = self._path(value, name)
        if path is not None:
            return path
        if self._is_array(value):
            return self._array(name, value)
        if isinstance(value, functools._lru_cache_wrapper):
            self.imports.add("import functools")
            fn: Any = value.__wrapped__
            return self._function(name, "@functools.cache\n" + self._source(fn, name), _scope(fn), value)
        if isinstance(value, FunctionType) and not hasattr(value, "op"):
            return self._function(name, self._source(value, name), _scope(value), value)
        if isinstance(value, type) and value.__module__.startswith(_PACKAGE):
            before, self.section = self.section, self.values
            try:
                scope = vars(sys.modules[value.__module__])
                return self._function(name, source(value, name, self.half), scope, value)
            finally:
                self.section = before
        return self._value(name, self._literal(name, value, owner))

    def _module(self, value: ModuleType, owner: str) -> str:
        if value.__name__.partition(".")[0] == _PACKAGE:
            raise _unprintable(owner, f"it uses the module {value.__name__}")
        short = _SHORT.get(value.__name__)
        self.imports.add(f"import {value.__name__}" + (f" as {short}" if short else ""))
        return short or value.__name__

    def _dtype(self, d: DType) -> str:
        kind = self.reference("DType", DType, "dtype")
        return self._value(literal(d), f'{kind}("{d.name}", "{d.kind}", {d.itemsize})')

    def _path(self, value: Any, name: str) -> str | None:
        """How an object of the engine or the standard library is reached; None for others."""
        if isinstance(value, int | float | str | bytes | tuple | list | dict | set | frozenset | None):
            return None
        if isinstance(value, np.dtype):
            self.imports.add("import numpy as np")
            return f'np.dtype("{value.name}")'
        names = [n for n in (name, getattr(value, "__name__", None), str(value).rpartition(".")[2]) if n]
        for module, shown in self._modules:
            for n in names:
                if n.isidentifier() and getattr(module, n, None) is value:
                    return self._shown(module, shown, n)
        for module, shown in self._modules:
            for n, other in list(vars(module).items()):
                if other is value and not n.startswith("_"):
                    return self._shown(module, shown, n)
        home = getattr(value, "__module__", None)
        if isinstance(home, str) and home in sys.modules and home.partition(".")[0] in sys.stdlib_module_names:
            n = getattr(value, "__qualname__", "")
            if home == "builtins" and getattr(builtins, n, None) is value:
                return n
            if n.isidentifier() and getattr(sys.modules[home], n, None) is value:
                self.imports.add(f"import {home}")
                return f"{home}.{n}"
        return None

    def _shown(self, module: ModuleType, shown: str, n: str) -> str:
        top = shown.partition(".")[0]
        self.imports.add(
            f"import {module.__name__} as {shown}" if "." not in shown and shown != module.__name__ else f"import {top}"
        )
        return f"{shown}.{n}"

    # --------------------------------------------------------------------------------------------------- functions

    def _source(self, fn: FunctionType, name: str) -> str:
        try:
            return source(fn.__code__, name, self.half)
        except (OSError, TypeError, SyntaxError, ValueError) as error:
            raise _unprintable(_qualified(fn) or name, "there is no source of it") from error

    def _function(self, name: str, text: str, scope: Mapping[str, Any], key: Any) -> str:
        """Prints a function or class, unless one of the same text is there."""
        if id(key) in self._active:
            return self._active[id(key)]
        self._active[id(key)] = name
        try:
            made = self.resolved(text, scope, name, name)
        finally:
            del self._active[id(key)]
        meaning = (name, names(made).meaning)
        found = self._texts.get(meaning)
        if found is None:
            found = self._texts[meaning] = self.unique(name)
            if found != name:
                made = renamed(made, name, found)
            self.section.append(made)
        return found

    # ------------------------------------------------------------------------------------------------------ values

    def _value(self, name: str, text: str) -> str:
        made = (name, text)
        if made not in self._texts:
            self._texts[made] = self.unique(name)
            self.values.append(f"{self._texts[made]} = {text}")
        return self._texts[made]

    def _literal(self, name: str, value: Any, owner: str) -> str:
        """Text of plain data; what it contains may be anything that can be referred to."""

        def inner(v: Any) -> str:
            if v is None or isinstance(v, bool | int | str | bytes):
                return repr(v)
            if isinstance(v, float):
                return literal(v)
            plain = type(v) in (tuple, list, dict, set, frozenset)
            return self._literal(name, v, owner) if plain else self.reference(name, v, owner)

        before, self.section = self.section, self.values
        try:
            if value is None or isinstance(value, bool | int | str | bytes | float):
                return inner(value)
            if type(value) is dict:
                return bracketed("{", [f"{inner(k)}: {inner(v)}" for k, v in value.items()], "}")
            if type(value) in (tuple, list):
                parts = [inner(v) for v in value]
                return bracketed("[", parts, "]") if type(value) is list else bracketed("(", parts, ")")
            if type(value) in (set, frozenset):
                parts = sorted(map(inner, value))
                return f"{type(value).__name__}({bracketed('[', parts, ']')})"
        finally:
            self.section = before
        raise _unprintable(owner, f"it uses '{name}', {_described(value)}")

    def _is_array(self, value: Any) -> bool:
        return isinstance(value, (*self.backend.array_types, np.ndarray, np.generic))

    def _array(self, name: str, value: Any) -> str:
        """A constant: the same bits in the same order in memory."""
        text = array_text(value, self.backend, self._need)
        if "base64" not in text:
            return self._value(name, "\n".join(_wrap_at_commas(text, 100)))
        made = (name, text)
        if made not in self._texts:
            self._texts[made] = self.unique(name)
            self.arrays.append(f"{self._texts[made]} = {text}")
        return self._texts[made]

    def _need(self, what: str) -> str:
        """A module, or a function of gradloom, by its usual name."""
        if what == "to_bfloat16":
            return self.reference(what, to_bfloat16, "a constant")
        if what == "wide":
            jax = importlib.import_module("jax")
            self._module(jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental"), what)
            text = WIDE.format("jax.enable_x64" if hasattr(jax, "enable_x64") else "jax.experimental.enable_x64")
            names = {"jax": jax, "jnp": importlib.import_module("jax.numpy")}
            before, self.section = self.section, self.values
            try:
                return self._function(what, text, names, WIDE)
            finally:
                self.section = before
        full = next((m for m, short in _SHORT.items() if short == what), what)
        return self._module(importlib.import_module(full), "a constant")


WIDE = '''def wide(array):
    """JAX's array of 64-bit numbers, whatever its mode."""
    with {}(True):
        return jnp.asarray(array)'''


def _scope(fn: FunctionType) -> Mapping[str, Any]:
    """What the names in a function's text stand for."""
    cells = zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)
    return ChainMap({name: cell.cell_contents for name, cell in cells}, fn.__globals__)


def _qualified(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"


def _described(value: Any) -> str:
    named = _qualified(value).strip(".")
    return f"which is {named}" if hasattr(value, "__qualname__") else f"which is a {_qualified(type(value))}"


def _unprintable(owner: str, why: str) -> TraceError:
    return TraceError(
        explain(
            f"'{owner}' cannot be printed as part of a module without {_PACKAGE}",
            given=why,
            do="call the compiled model itself, or write what it uses as a plain function over xp",
        )
    )


# ---------------------------------------------------------------------------------------------------------- stand-ins
# Printed in the place of what has the same meaning in gradloom. Their names are looked up in this module.

DTYPES = dtypes._NAMES


class _DType:
    """A dtype; there is one object each."""

    def __init__(self, name, kind, itemsize):
        self.name, self.kind, self.itemsize = name, kind, itemsize

    def __repr__(self):
        return self.name


def _dtype(x):
    """The dtype of that name, or for the engine's."""
    return DTYPES[getattr(x, "name", None) or str(x).rpartition(".")[2]]


def _to_numpy_dtype(d):
    """NumPy's dtype; bfloat16 is that of the package ml_dtypes."""
    if d.name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(d.name)


def _iinfo(d):
    """The limits of an integer dtype."""
    return np.iinfo(d.name)


class _Half:
    """For an engine's dtype whether it is float16 or bfloat16."""

    def __getitem__(self, native):
        return _dtype(native).name in ("float16", "bfloat16")


def _explain(problem, **parts):
    """The text of an error."""
    return "\n  ".join([problem, *(f"{name}: {part}" for name, part in parts.items() if part is not None)])


def _no_float64():
    return TypeError("float64 on JAX needs its 64-bit mode (jax_enable_x64)")


STAND_INS: dict[str, Any] = {
    f"{_PACKAGE}.dtypes.DType": _DType,
    f"{_PACKAGE}.dtypes.dtype": _dtype,
    f"{_PACKAGE}.dtypes.to_numpy_dtype": _to_numpy_dtype,
    f"{_PACKAGE}.dtypes.iinfo": _iinfo,
    f"{_PACKAGE}.errors.explain": _explain,
    f"{_PACKAGE}.backends.jax.no_float64": _no_float64,
}
