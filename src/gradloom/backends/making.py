"""The methods of a backend that make arrays: constants, and random numbers of gradloom's portable streams."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops, random
from ..dtypes import DType, bool_, float32, int64
from ..dtypes import dtype as to_dtype
from ..errors import DTypeError, OptionError, explain
from .conversion import HOOKS, Conversions

#: The generator of every draw that is given neither a generator nor a key.
default_generator = random.Generator(0)


# --- numbers and sizes ---


def sizes(shape: tuple) -> tuple[int, ...]:
    """Sizes given as `f(2, 3)` or `f((2, 3))`, as a tuple of ints."""
    if len(shape) == 1 and not hasattr(shape[0], "__index__"):
        shape = shape[0]
    try:
        return tuple(operator.index(n) for n in shape)
    except TypeError:
        raise TypeError(f"a size is made of ints, not {shape!r}") from None


def host(values: np.ndarray, found: DType) -> np.ndarray:
    """Values computed in float64 or int64, in the NumPy dtype nearest to the one wanted."""
    return values.astype(np.float32 if found.name == "bfloat16" else found.name)


def range_of(start: Any, stop: Any, step: Any, dtype: Any) -> tuple[np.ndarray, Any]:
    """The values of `arange`, on the host and in float64 (engines differ in the last bits, and even in the number of
    elements), and the dtype: int64 for integers, None for the default float dtype."""
    start, stop = (0, start) if stop is None else (start, stop)
    start, stop, step = (v.item() if hasattr(v, "item") else v for v in (start, stop, step))
    if dtype is not None and to_dtype(dtype).kind in ("int", "uint"):  # as PyTorch: before anything is computed
        start, stop, step = int(start), int(stop), int(step)
    if not step:
        raise OptionError(explain("arange: step must be nonzero", given=f"step={step}"))
    if (stop - start) * step < 0:
        raise OptionError(
            explain(
                "arange: upper bound and lower bound inconsistent with step sign",
                given=f"start={start}, end={stop}, step={step}",
            )
        )
    if dtype is None and not any(isinstance(v, float) for v in (start, stop, step)):
        dtype = int64
    return start + np.arange(math.ceil((stop - start) / step)) * step, dtype


def spaced(start: Any, stop: Any, num: int, found: DType) -> np.ndarray:
    """The values of `linspace`."""
    if num < 0:
        raise OptionError(explain("number of steps must be non-negative", given=f"steps={num}"))
    first, last = float(start), float(stop)
    if found.kind in ("int", "uint"):  # as PyTorch: before anything is computed
        first, last = float(int(first)), float(int(last))
    return np.linspace(first, last, num)


def drawn(
    kind: str,
    generator: Any,
    shape: tuple,
    found: DType,
    chosen: Any,
    *args: Any,
    key: int | None = None,
    **options: Any,
) -> Any:
    """An array of `gradloom.random.<kind>(key, *args)`, of the given key or the next of a generator.

    In a function that is being compiled by gradloom it is an input, drawn anew on the host at each run.
    """
    if generator is not None and key is not None:
        raise TypeError("give generator= or key=, not both")
    if generator is not None and not isinstance(generator, random.Generator):
        raise TypeError(f"generator must be a gradloom.Generator, not {type(generator).__name__}")

    def draw() -> np.ndarray:
        stream = (generator or default_generator).next_key(kind) if key is None else key
        return getattr(random, kind)(stream, *args, **options)

    traced = HOOKS["host_input"](draw, shape, found, kind) if "host_input" in HOOKS else None
    return chosen.from_numpy(host(draw(), found), found) if traced is None else traced


# --- the methods ---


class Making(Conversions):
    """The methods of a backend that make arrays."""

    # Constants.

    def zeros(self, *shape: Any, dtype: Any = None) -> Any:
        """Zeros of a shape, given as `zeros(2, 3)` or `zeros((2, 3))`, in the backend's dtype unless given.

        Example:
            >>> import gradloom as gl
            >>> gl.get_backend("numpy").zeros(2, 3).shape
            (2, 3)
        """
        return self._filled("zeros", dtype, shape=sizes(shape))

    def ones(self, *shape: Any, dtype: Any = None) -> Any:
        """Ones of a shape, given as `ones(2, 3)` or `ones((2, 3))`, in the backend's dtype unless given."""
        return self._filled("ones", dtype, shape=sizes(shape))

    def full(self, shape: Any, value: Any, dtype: Any = None) -> Any:
        """An array whose elements are all `value`, a number, whose kind gives the dtype unless one is given.

        Example:
            >>> import gradloom as gl
            >>> gl.get_backend("numpy").full((2,), 7)
            array([7, 7])
        """
        value = value.item() if hasattr(value, "item") else value
        if dtype is None:
            dtype = bool_ if isinstance(value, bool) else int64 if isinstance(value, int) else None
        return self._filled("full", dtype, shape=sizes((shape,)), value=value)

    def eye(self, n: int, m: int | None = None, dtype: Any = None) -> Any:
        """An (n, m) or (n, n) matrix with ones on the diagonal and zeros elsewhere."""
        return self._filled("eye", dtype, n=operator.index(n), m=None if m is None else operator.index(m))

    def arange(self, start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Any:
        """The numbers from start (default 0) up to stop without it, `step` apart; int64 if all three are ints.

        Raises:
            OptionError: A step of 0, or one that leads away from stop.

        Example:
            >>> import gradloom as gl
            >>> gl.get_backend("numpy").arange(3), gl.get_backend("numpy").arange(0.0, 1.0, 0.5)
            (array([0, 1, 2]), array([0. , 0.5], dtype=float32))
        """
        values, dtype = range_of(start, stop, step, dtype)
        return self._hosted(values, dtype)

    def linspace(self, start: Any, stop: Any, num: int = 50, dtype: Any = None) -> Any:
        """`num` numbers from start to stop, both included, evenly spaced."""
        return self._hosted(spaced(start, stop, num, self._target(dtype)), dtype)

    def zeros_like(self, x: Any, dtype: Any = None) -> Any:
        """Zeros of the shape of an array, on its device, and of its dtype unless given."""
        return self._like("zeros_like", x, dtype)

    def ones_like(self, x: Any, dtype: Any = None) -> Any:
        """Ones of the shape of an array, on its device, and of its dtype unless given."""
        return self._like("ones_like", x, dtype)

    def full_like(self, x: Any, value: Any, dtype: Any = None) -> Any:
        """An array like another one filled with a number."""
        backend: Any = self
        self._check("full_like", x)
        found = ops.dtype(x) if dtype is None else to_dtype(dtype)
        value = value.item() if hasattr(value, "item") else value
        with backend.context():
            return ops.full(like=x, shape=tuple(x.shape), value=value, dtype=found)

    def _like(self, name: str, x: Any, dtype: Any) -> Any:
        backend: Any = self
        self._check(name, x)
        with backend.context():
            return getattr(ops, name)(x, dtype=None if dtype is None else to_dtype(dtype))

    def _target(self, dtype: Any) -> DType:
        backend: Any = self
        found = backend.dtype if dtype is None else to_dtype(dtype)
        backend.native_dtype(found)  # raises where the engine has none
        return found

    def _filled(self, name: str, dtype: Any, **statics: Any) -> Any:
        backend: Any = self
        found = self._target(dtype)
        with backend.context():
            return getattr(type(backend).xp, name)(dtype=found, **statics)

    def _hosted(self, values: np.ndarray, dtype: Any) -> Any:
        backend: Any = self
        found = self._target(dtype)
        return backend.from_numpy(host(values, found), found)

    # Random numbers: of gradloom's portable streams, so the same on every engine.

    def randn(self, *shape: Any, dtype: Any = None, generator: Any = None, key: int | None = None) -> Any:
        """Normal random numbers of mean 0 and standard deviation 1, the same on every engine.

        They are drawn on the host. In a function that is compiled by `gradloom.jit` that happens at each run; inside
        `jax.jit` and its like once, while it is traced.

        Args:
            *shape: `randn(2, 3)` or `randn((2, 3))`.
            dtype: A float dtype. Default: the backend's.
            generator: A `gradloom.Generator`. Default: the one that `gradloom.manual_seed` seeds.
            key: A stream of `gradloom.random.key`, in place of a generator: the same key gives the same numbers.

        Raises:
            DTypeError: A dtype of another kind.

        Example:
            >>> import gradloom as gl
            >>> gl.get_backend("numpy").randn(2, key=gl.random.key(0))
            array([0.9371399 , 0.01070991], dtype=float32)
        """
        return self._random("normal", shape, (0.0, 1.0), dtype, generator, key)

    def rand(self, *shape: Any, dtype: Any = None, generator: Any = None, key: int | None = None) -> Any:
        """Uniform random numbers in [0, 1); see `randn`."""
        return self._random("uniform", shape, (0.0, 1.0), dtype, generator, key)

    def randint(
        self,
        low: int,
        high: Any = None,
        size: Any = None,
        *,
        dtype: Any = None,
        generator: Any = None,
        key: int | None = None,
    ) -> Any:
        """Random integers in [low, high), int64 unless `dtype` is given: `randint([low,] high, size)`; see `randn`.

        Example:
            >>> import gradloom as gl
            >>> gl.get_backend("numpy").randint(0, 10, (5,), key=gl.random.key(0))
            array([8, 5, 3, 0, 5])
        """
        if size is None:
            low, high, size = 0, low, high
        if size is None:
            raise TypeError("randint() needs a size: randint(high, size) or randint(low, high, size)")
        shape, found = sizes((size,)), self._target(int64 if dtype is None else dtype)
        return drawn("randint", generator, shape, found, self, shape, int(low), int(high), key=key)

    def randperm(self, n: int, *, dtype: Any = None, generator: Any = None, key: int | None = None) -> Any:
        """A random order of 0 ... n-1, int64 unless `dtype` is given; see `randn`."""
        found = self._target(int64 if dtype is None else dtype)
        return drawn("permutation", generator, (int(n),), found, self, int(n), key=key)

    def _random(self, kind: str, shape: Sequence, bounds: tuple, dtype: Any, generator: Any, key: int | None) -> Any:
        shape, found = sizes(tuple(shape)), self._target(dtype)
        if found.kind != "float":
            raise DTypeError(explain(f"random numbers of this kind need a float dtype, not {found}", do="use randint"))
        precision = float32 if found.itemsize < 4 else found
        return drawn(kind, generator, shape, found, self, shape, *bounds, dtype=precision, key=key)
