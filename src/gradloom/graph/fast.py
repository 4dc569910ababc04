"""Update rules as loops that Numba compiles: what the extra `fast` adds to NumPy.

A kernel is made of the rule's own leaf, traced on values and printed as one loop over the elements. It reads and writes each element once,
so an update takes as long as the memory does; NumPy's own functions go over a chunk once for each operation. Nothing but the order in
which elements are visited differs: the loops give NumPy's numbers to the last bit, as far as NumPy's functions are rounded exactly
(sums, products, quotients and roots are).

Gradients are read where they lie: a kernel is given the addresses of their memory and gathers nothing. Large updates are shared by
threads of Python, which wait without spinning while the kernels run without the interpreter's lock. (Numba's own threads spin after each
loop, as those of OpenBLAS do after each product: with both in one process a training step of an MLP took eight times as long.)

The text of a kernel is written to a folder under a name made of its content, and Numba keeps the machine code beside it, so that each
kernel is compiled once on a machine: `$GRADLOOM_CACHE`, else the user's folder for caches. Only what was just printed is run, not
what the file holds. Where nothing can be written kernels are compiled in each process.

`GRADLOOM_FAST=0` in the environment turns all of it off. The number of threads is `OMP_NUM_THREADS`, else that of the cores.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..dtypes import DType, float32, float64, to_numpy_dtype
from . import emit
from .chunks import traced
from .graph import Node, Value

SMALL = 1 << 16  # elements; below it NumPy does without: the import of Numba takes as long as thousands of its updates
SHARE = 1 << 18  # elements that are worth waking a thread for
MOST = 8  # threads: a few saturate the memory

#: What is not printed under NumPy's name.
_TEXTS = {
    "negative": "-{}", "square": "{0} * {0}", "reciprocal": "F(1) / {}", "rsqrt": "F(1) / np.sqrt({})", "where": "{1} if {0} else {2}",
    "logical_not": "not {}", "logical_and": "{} & {}", "logical_or": "{} | {}", "logical_xor": "{} ^ {}", "bitwise_not": "not {}",
    "zeros_like": "F(0)", "ones_like": "F(1)", "astype": "F({})",
} | {name: f"{{}} {sign} {{}}" for name, sign in emit.INFIX.items() if name != "matmul"}  # fmt: skip


def enabled() -> bool:
    """Whether Numba is installed and not turned off."""
    return os.environ.get("GRADLOOM_FAST", "1") != "0" and _installed()


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("numba") is not None


def takes(rule: Any, dtype: DType | None = None) -> bool:
    """Whether kernels of the rule (for a dtype) can be had."""
    return rule.per == "element" and dtype in (None, float32, float64) and enabled()


def pays(rule: Any, dtype: DType, size: int) -> bool:
    """Whether an update of so many elements is to run by a kernel."""
    return size >= SMALL and rule.fused and takes(rule, dtype)


# --- the text


def kernel_text(rule: Any, flags: dict, dtype: DType) -> str:
    """A function that updates the elements from `start` to `stop` of flat arrays, with gradients at addresses."""
    lines = traced(rule, flags, dtype)
    constants: dict[str, str] = {}
    text: dict[Value, str] = {v: v.name for v in (*lines.inputs, *lines.scalars)}
    body = [f"{n} = {n}_part[i_]" for n in lines.names]
    for i, node in enumerate(lines.graph.nodes):
        text[node.outputs[0]] = f"t{i}_"
        body.append(f"t{i}_ = {_expression(node, text, constants)}")
    body += [f"{old.name}_part[i_] = {text[new]}" for new, old in lines.targets.items()]
    arrays = [n for n in lines.names if n != "g"]
    options = ", ".join(f"{k}={v!r}" for k, v in flags.items())
    arguments = ("start_", "stop_", "offsets_", "grads_", *(f"{n}_all" for n in arrays), *rule.scalar_names)
    return "\n".join((
        f'"""The update rule {rule.name}({options}) for {dtype.name}, printed by gradloom. May be deleted."""',
        "",
        "",
        f"def {rule.kernel_name}({', '.join(arguments)}):",
        *(f"    {n} = F({n})" for n in rule.scalar_names),
        *(f"    {name} = F({value})" for value, name in constants.items()),
        "    for k_ in range(grads_.size):",
        "        first_, last_ = max(start_, offsets_[k_]), min(stop_, offsets_[k_ + 1])",
        "        if first_ >= last_:",
        "            continue",
        "        g_part = carray(pointer(grads_[k_], p_all), (last_ - offsets_[k_],))[first_ - offsets_[k_] :]",
        *(f"        {n}_part = {n}_all[first_:last_]" for n in arrays),
        "        for i_ in range(p_part.size):",
        *("            " + line for line in body),
        "",
    ))  # fmt: skip


def _expression(node: Node, text: dict[Value, str], constants: dict[str, str]) -> str:
    """One operation. Numbers are constants of the dtype: beside a float64 Numba computes in float64."""
    args = []
    for u in node.inputs:
        if type(u) is Value:
            args.append(text[u])
        else:
            value = emit.literal(float(u))
            args.append(constants.setdefault(value, f"c{len(constants)}_"))
    name = node.op.name
    if name in _TEXTS:
        return _TEXTS[name].format(*args)
    if name == "full":
        return f"F({emit.literal(float(node.attrs['value']))})"
    return f"np.{name}({', '.join(args)})"


#: The addresses of arrays, by the layout of their objects, which is part of NumPy's binary interface: Python's own way takes a
#: microsecond for each. Gives the number of the first that is not an array of that type, dtype and size with its elements in order.
_ADDRESSES = '''"""Addresses of NumPy arrays, for gradloom. May be deleted."""


def addresses(objects, offsets, kind, dtype, found):
    for k in range(objects.size):
        words = carray(pointer(objects[k], found), (9,))
        if words[1] != kind or words[7] != dtype or not words[8] & 1:
            return k
        size = 1
        for n in carray(pointer(words[4], found), (words[3] & 0xFFFFFFFF,)):
            size *= n
        if size != offsets[k + 1] - offsets[k]:
            return k
        found[k] = words[2]
    return objects.size
'''


# --- compiling


def folder() -> Path:
    """Where kernels are kept."""
    if given := os.environ.get("GRADLOOM_CACHE"):
        return Path(given) / "kernels"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gradloom" / "kernels"


def _written(name: str, text: str) -> str | None:
    """The path of the file that holds the text; None where it cannot be written."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    try:
        place = folder()
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = place / f"{name}_{digest}.py"
        if not path.exists() or path.read_text("utf-8") != text:
            handle, temporary = tempfile.mkstemp(dir=place, suffix=".tmp")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, path)  # other processes see the whole file or none
        return str(path)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None


@functools.cache
def _numba() -> Any:
    """The module, and the functions that kernels call."""
    import numba
    from numba.extending import intrinsic

    @intrinsic
    def pointer(context, address, like):
        """The address as that of elements like those of an array."""
        made = numba.types.CPointer(like.dtype)

        def code(target, builder, signature, args):
            return builder.inttoptr(args[0], target.get_value_type(made))

        return made(address, like), code

    return numba, pointer


def compiled(name: str, text: str, signature: Callable[[Any], tuple], scope: dict[str, Any]) -> Callable:
    """The function `name` of the text as machine code, from the cache where it is there.

    Args:
        signature: Gives the types of its arguments, of the module Numba.
    """
    numba, pointer = _numba()
    names = {"__name__": __name__, "np": np, "carray": numba.carray, "pointer": pointer, **scope}
    types = signature(numba)
    path = _written(name, text)
    # Divisions by 0 give infinities, as NumPy's; with Python's exception loops would not be vectorized.
    options = {"nogil": True, "error_model": "numpy"}
    if path is not None:
        with contextlib.suppress(Exception):  # the machine code cannot be written, or what is there cannot be read
            made = numba.njit(cache=True, **options)(emit.build(name, text, names, path))
            made.compile(types)
            return made
    made = numba.njit(**options)(emit.build(name, text, names))
    made.compile(types)
    return made


# --- running


class Pool:
    """Threads that share a call. A process that was forked makes its own."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._pool = None

    def run(self, call: Callable, size: int) -> None:
        """`call(start, stop)` over the whole range, in parts where that pays."""
        parts = min(threads(), size // SHARE)
        if parts < 2:
            call(0, size)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(MOST, "update")
        step = -(-size // parts // 64) * 64
        ranges = [(start, min(start + step, size)) for start in range(0, size, step)]
        waiting = [(self._pool.submit(call, *r), r) for r in ranges[1:]]
        call(*ranges[0])
        for future, r in reversed(waiting):
            if future.cancel():  # no thread has come to it: another one holds the interpreter's lock
                call(*r)
        for future, _ in waiting:
            if not future.cancelled():
                future.result()


POOL = Pool()


def threads() -> int:
    """How many threads may share an update."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if wanted.isdigit() and int(wanted):
        return min(int(wanted), MOST)
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, MOST)


class Gatherer:
    """Finds the addresses of gradients."""

    def __init__(self) -> None:
        self.find: Callable | None = None
        # Words of 8 bytes, and no header beyond that of ordinary builds of CPython.
        if sys.implementation.name == "cpython" and object.__basicsize__ == 16 and np.intp().itemsize == 8:
            find = compiled(
                "addresses",
                _ADDRESSES,
                lambda n: (n.int64[::1], n.int64[::1], n.int64, n.int64, n.int64[::1]),
                {},
            )
            self.find = find if self._agrees(find) else None

    @staticmethod
    def _agrees(find: Callable) -> bool:
        """Whether it says of some arrays what NumPy says."""
        d = np.dtype(np.float32)
        arrays = [np.empty(s, d) for s in ((), (3,), (2, 5), (0, 2))]
        square = np.empty((2, 2), d)
        bad = [np.empty(1), np.empty((2, 4), d)[:, ::2], np.empty(3, d), square.T, np.empty(1, d).view(_Other)]
        sizes = [1, 3, 10, 0, 1, 4, 4, 4, 1]
        objects = np.array([id(a) for a in (*arrays, *bad)])
        found, offsets = np.zeros(len(sizes), np.int64), np.cumsum([0, *sizes])
        count = find(objects[:4], offsets, id(np.ndarray), id(d), found)
        refused = [
            find(objects[k : k + 1], offsets[k : k + 2], id(np.ndarray), id(d), found[8:]) == 0 for k in range(4, 9)
        ]
        return count == 4 and all(refused) and found[:4].tolist() == [_address(a) for a in arrays]

    def __call__(self, grads: list, offsets: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, list]:
        """(addresses, the arrays that lie there), of copies where the elements are not in order."""
        if self.find is None:
            grads = [np.ascontiguousarray(g, dtype) for g in grads]
            return np.array([_address(g) for g in grads]), grads
        while True:
            objects = np.fromiter(map(id, grads), np.int64, len(grads))
            found = np.empty(len(grads), np.int64)
            k = self.find(objects, offsets, id(np.ndarray), id(dtype), found)
            if k == len(grads):
                return found, grads
            grads = [g if type(g) is np.ndarray else np.asarray(g) for g in grads]
            grads = [g if g.flags.c_contiguous and g.dtype is dtype else np.array(g, dtype, order="C") for g in grads]
            for n, g in zip(np.diff(offsets).tolist(), grads, strict=True):
                if g.size != n:
                    raise AssertionError(f"a gradient of {g.size} elements for a parameter of {n}")


class _Other(np.ndarray):
    """A type that is not quite NumPy's."""


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@functools.cache
def gatherer() -> Gatherer:
    """The one of this process."""
    return Gatherer()


class Kernel:
    """The compiled update of flat NumPy arrays, in place: `kernel([p], grads, [m], ..., *scalars)`, as the printed loops are called.

    The gradients are any number of arrays, which have the elements of the flat array one after the other.
    """

    def __init__(self, rule: Any, flags: dict, dtype: DType):
        d = self.dtype = to_numpy_dtype(dtype)
        self.states = len(rule.state(flags))

        def signature(n: Any) -> tuple:
            array, index = n.from_dtype(d)[::1], n.int64[::1]
            return (n.int64, n.int64, index, index, *[array] * (self.states + 1), *[n.float64] * len(rule.scalar_names))

        self.run = compiled(rule.kernel_name, kernel_text(rule, flags, dtype), signature, {"F": d.type})
        self.gather = gatherer()

    def __call__(self, params: list, grads: list, *rest: Any, offsets: np.ndarray | None = None) -> list[list]:
        """In place.

        Args:
            offsets: Where the gradients begin in the flat array, and its size.
        """
        whole = params[0]
        columns, scalars = rest[: self.states], rest[self.states :]
        if offsets is None:
            offsets = np.cumsum([0, *(g.size for g in grads)])
        where, alive = self.gather(grads, offsets, self.dtype)
        start = _address(whole)
        own = (where >= start) & (where < start + whole.nbytes)
        if own.any():  # parameters that are the gradients of others
            alive = [g.copy() if k else g for g, k in zip(alive, own.tolist(), strict=True)]
            where, alive = self.gather(alive, offsets, self.dtype)
        arrays, numbers = [c[0] for c in columns], [float(s) for s in scalars]
        POOL.run(
            lambda start, stop: self.run(start, stop, offsets, where, whole, *arrays, *numbers),
            whole.size,
        )
        del alive  # until here
        return [params, *columns]


_KERNELS: dict[Any, Kernel] = {}


def kernel(rule: Any, flags: dict, dtype: DType) -> Kernel:
    """The kernel of a rule; made once in a process."""
    key = (rule.kernel_name, tuple(sorted(flags.items(), key=str)), dtype)
    found = _KERNELS.get(key)
    if found is None:
        found = _KERNELS[key] = Kernel(rule, flags, dtype)
    return found
