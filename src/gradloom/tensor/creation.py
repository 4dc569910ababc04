"""Functions that make Tensors: of data, of constants, of random numbers.

Random numbers come from `gradloom.random`'s portable streams: the same on every backend for the same seed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops, random
from ..backends.conversion import HOOKS
from ..backends.making import default_generator, drawn, host, range_of, sizes, spaced
from ..backends.registry import backend_of
from ..dtypes import DType, float32, float64, int64
from ..dtypes import dtype as to_dtype
from ..errors import DTypeError, OptionError, TraceError, explain, user_frame
from ..graph.graph import PLACE
from ..ops.op import kind_of
from . import tape
from .arrays import as_array, backend_name, engine, wrap

__all__ = [
    "tensor", "as_tensor", "from_numpy", "zeros", "ones", "full", "empty", "eye", "arange", "linspace",
    "zeros_like", "ones_like", "full_like", "empty_like", "rand", "randn", "randint", "randperm", "rand_like",
    "randn_like", "randint_like", "bernoulli", "normal", "manual_seed", "seed",
    "initial_seed", "default_generator", "Generator",
]  # fmt: skip

Generator = random.Generator


def _host_input(next_draw: Callable[[], np.ndarray], shape: tuple, found: DType, kind: str) -> Any:
    return None if PLACE.graph is None else PLACE.host_input(next_draw, shape, found, kind)


HOOKS["host_input"] = _host_input


def tensor(
    data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, *, backend: Any = None
) -> Any:
    """A Tensor with a copy of the data, and without history.

    Args:
        data: A number, a nested sequence of numbers, a NumPy array or scalar (which keeps its dtype), an array of an
            engine, a
            Tensor.
        dtype: Default: that of the data; the backend's float dtype (float32 unless set) for Python floats, int64 for
            ints.
        device: The engine's name of a device.
        requires_grad: Record operations on it for `backward`.
        backend: Name or instance of a backend. Default: the current one.

    Raises:
        ShapeError: A ragged sequence.
        DTypeError: No numbers, or a dtype that the backend does not have.

    Example:
        >>> import gradloom as gl
        >>> gl.tensor([[1, 2], [3, 4]])
        tensor([[1, 2],
                [3, 4]])
        >>> gl.tensor([1.0, 2.0], dtype="float64")
        tensor([1., 2.], dtype=gradloom.float64)
    """
    return _made(as_array(data, dtype, backend, True, device), requires_grad)


def as_tensor(data: Any, dtype: Any = None, device: Any = None, *, backend: Any = None) -> Any:
    """As `tensor`, but without a copy where none is needed; a Tensor that fits is returned with its history."""
    if isinstance(data, tape.Tensor):
        fits = (dtype is None or data.dtype is to_dtype(dtype)) and (device is None or data.device == str(device))
        if fits and (backend is None or data.backend == engine(backend).name):
            return data
        return data.to(dtype=dtype, device=device, backend=backend)
    return wrap(as_array(data, dtype, backend, False, device))


def from_numpy(array: np.ndarray, backend: Any = None) -> Any:
    """A Tensor with the array's elements; the memory is shared where the engine can (NumPy, PyTorch).

    Raises:
        TypeError: It is no NumPy array.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    return wrap(as_array(array, None, backend, False))


# --------------------------------------------------------------------------------------------------- constants


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, backend: Any = None) -> Any:
    """Zeros of a shape, given as `zeros(2, 3)` or `zeros((2, 3))`; floats unless `dtype` is given."""
    return _constant("zeros", sizes(size), dtype, device, requires_grad, backend)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, backend: Any = None) -> Any:
    """Ones of a shape, given as `ones(2, 3)` or `ones((2, 3))`."""
    return _constant("ones", sizes(size), dtype, device, requires_grad, backend)


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, backend: Any = None) -> Any:
    """A Tensor whose values nobody should rely on; they are zeros."""
    return _constant("zeros", sizes(size), dtype, device, requires_grad, backend)


def full(
    size: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    backend: Any = None,
) -> Any:
    """A Tensor whose elements are all `fill_value`, a number, whose kind gives the dtype unless one is given.

    Example:
        >>> import gradloom as gl
        >>> gl.full((2,), 7)
        tensor([7, 7])
    """
    value = fill_value.item() if hasattr(fill_value, "item") else fill_value
    if dtype is None:
        dtype = "bool" if isinstance(value, bool) else int64 if isinstance(value, int) else None
    return _constant("full", sizes((size,)), dtype, device, requires_grad, backend, value=value)


def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    backend: Any = None,
) -> Any:
    """An (n, m) or (n, n) matrix with ones on the diagonal and zeros elsewhere."""
    return _filled("eye", {"n": int(n), "m": None if m is None else int(m)}, dtype, device, requires_grad, backend)


def arange(
    start: float, end: float | None = None, step: float = 1, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False, backend: Any = None,
) -> Any:  # fmt: skip
    """The numbers from start (default 0) up to end without it, `step` apart; int64 if all three are ints.

    Raises:
        OptionError: A step of 0, or one that leads away from end.

    Example:
        >>> import gradloom as gl
        >>> gl.arange(3), gl.arange(0.0, 1.0, 0.5)
        (tensor([0, 1, 2]), tensor([0.0000, 0.5000]))
    """
    values, dtype = range_of(start, end, step, dtype)
    chosen, found = _target(dtype, device, backend)
    return _made(chosen.from_numpy(host(values, found), found), requires_grad)


def linspace(
    start: float,
    end: float,
    steps: int,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    backend: Any = None,
) -> Any:
    """`steps` numbers from start to end, both included, evenly spaced."""
    chosen, found = _target(dtype, device, backend)
    return _made(chosen.from_numpy(host(spaced(start, end, steps, found), found), found), requires_grad)


def zeros_like(
    input: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, backend: Any = None
) -> Any:
    """Zeros of the shape of a Tensor, and of its dtype, backend and device unless given."""
    return full_like(input, 0, dtype=dtype, device=device, requires_grad=requires_grad, backend=backend)


def ones_like(
    input: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, backend: Any = None
) -> Any:
    """Ones of the shape of a Tensor, and of its dtype, backend and device unless given."""
    return full_like(input, 1, dtype=dtype, device=device, requires_grad=requires_grad, backend=backend)


def empty_like(
    input: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, backend: Any = None
) -> Any:
    """A Tensor like another one whose values nobody should rely on; they are zeros."""
    return full_like(input, 0, dtype=dtype, device=device, requires_grad=requires_grad, backend=backend)


def full_like(
    input: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    backend: Any = None,
) -> Any:
    """A Tensor of the shape of another one, and of its dtype, backend and device unless given, filled with a number."""
    t = as_tensor(input)
    found = t.dtype if dtype is None else to_dtype(dtype)
    value = fill_value.item() if hasattr(fill_value, "item") else fill_value
    if device is not None or backend is not None:
        return _constant("full", tuple(t.shape), found, device, requires_grad, backend or backend_name(t), value=value)
    return _made(like(t._array, tuple(t.shape), value, found), requires_grad)


def like(native: Any, shape: tuple, value: Any, dtype: Any) -> Any:
    """A native array filled with a number on the engine and device of another one (or a traced value like it)."""
    if kind_of(type(native)).rank == 0:  # type: ignore[union-attr]
        backend_of(native)  # loads the engine, so that its kernels are there
    if not value:
        return ops.zeros.op.kernels[type(native)](shape=shape, dtype=dtype, like=native)
    return ops.full.op.kernels[type(native)](shape=shape, value=value, dtype=dtype, like=native)


# --------------------------------------------------------------------------------------------------- random numbers


def manual_seed(seed: int) -> Generator:
    """Seeds the default generator, on all backends at once, and returns it.

    Example:
        >>> import gradloom as gl
        >>> generator = gl.manual_seed(0)
        >>> a = gl.rand(2)
        >>> generator = gl.manual_seed(0)
        >>> a.equal(gl.rand(2))
        True
    """
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seeds the default generator with a number that cannot be foreseen, and returns that."""
    default_generator.manual_seed(secrets.randbits(63))
    return default_generator.seed


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.seed


def draw(kind: str, generator: Generator | None, *args: Any, **options: Any) -> np.ndarray:
    """The next draw, `gradloom.random.<kind>(key, ...)`, of a generator or the default one; all draws go here."""
    if generator is not None and not isinstance(generator, Generator):
        raise TypeError(f"generator must be a gradloom.Generator, not {type(generator).__name__}")
    if PLACE.graph is not None:
        raise TraceError(
            explain(
                f"{kind}: numbers of this kind cannot be drawn inside a compiled function",
                where=user_frame(),
                do="draw them outside and pass them as an argument, or use gradloom.rand, randn, randint or Dropout, which are "
                "drawn anew at each run",
            )
        )
    return getattr(random, kind)((generator or default_generator).next_key(kind), *args, **options)


def rand(
    *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False,
    backend: Any = None,
) -> Any:  # fmt: skip
    """Uniform random numbers in [0, 1)."""
    return _random("uniform", sizes(size), (0.0, 1.0), generator, dtype, device, requires_grad, backend)


def randn(
    *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False,
    backend: Any = None,
) -> Any:  # fmt: skip
    """Normal random numbers of mean 0 and standard deviation 1."""
    return _random("normal", sizes(size), (0.0, 1.0), generator, dtype, device, requires_grad, backend)


def randint(
    low: int, high: Any = None, size: Any = None, *, generator: Generator | None = None, dtype: Any = None,
    device: Any = None, requires_grad: bool = False, backend: Any = None,
) -> Any:  # fmt: skip
    """Random integers in [low, high), int64 unless `dtype` is given: `randint([low,] high, size)`."""
    if size is None:
        low, high, size = 0, low, high
    if size is None:
        raise TypeError("randint() needs a size: randint(high, size) or randint(low, high, size)")
    chosen, found = _target(int64 if dtype is None else dtype, device, backend)
    shape = sizes((size,))
    return _made(drawn("randint", generator, shape, found, chosen, shape, int(low), int(high)), requires_grad)


def randperm(
    n: int, *, generator: Generator | None = None, dtype: Any = None, device: Any = None, backend: Any = None
) -> Any:
    """A random order of 0 ... n-1, int64 unless `dtype` is given."""
    chosen, found = _target(int64 if dtype is None else dtype, device, backend)
    return wrap(drawn("permutation", generator, (int(n),), found, chosen, int(n)))


def rand_like(
    input: Any,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Any:
    """Uniform random numbers in [0, 1), in the shape, dtype and backend of a Tensor."""
    return _random_like("uniform", input, generator, dtype, device, requires_grad)


def randn_like(
    input: Any,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Any:
    """Normal random numbers of mean 0 and standard deviation 1, in the shape, dtype and backend of a Tensor."""
    return _random_like("normal", input, generator, dtype, device, requires_grad)


def randint_like(
    input: Any, low: int, high: int | None = None, *, generator: Generator | None = None, dtype: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Any:  # fmt: skip
    """Random integers in [low, high), or [0, low), in the shape, dtype and backend of a Tensor."""
    t = as_tensor(input)
    low, high = (0, low) if high is None else (low, high)
    where = {"device": device, "backend": backend_name(t)}
    return randint(
        low, high, tuple(t.shape), generator=generator, dtype=dtype or t.dtype, requires_grad=requires_grad, **where
    )


def bernoulli(input: Any, *, generator: Generator | None = None) -> Any:
    """1 with the probability that the element of `input` says, else 0; in input's dtype.

    Raises:
        OptionError: An element is no probability.
    """
    t = as_tensor(input)
    p = t.detach().numpy()
    if p.size and not (float(p.min()) >= 0 and float(p.max()) <= 1):
        raise OptionError(
            explain(
                "bernoulli: the elements are probabilities", expected="0 <= p <= 1", given=f"{p.min()} ... {p.max()}"
            )
        )
    hits = draw("uniform", generator, tuple(t.shape), dtype=float64) < p.astype(np.float64)
    return wrap(as_array(hits, t.dtype, t.backend, False))


def normal(
    mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None, dtype: Any = None,
    device: Any = None, requires_grad: bool = False, backend: Any = None,
) -> Any:  # fmt: skip
    """Normal random numbers; mean and std are numbers (with `size`) or Tensors, which broadcast."""
    given = [v for v in (mean, std) if isinstance(v, tape.Tensor)]
    if not given:
        if size is None:
            raise TypeError("normal() needs a size where mean and std are numbers")
        return _random(
            "normal", sizes((size,)), (float(mean), float(std)), generator, dtype, device, requires_grad, backend
        )
    shape = np.broadcast_shapes(*(tuple(t.shape) for t in given))
    z = _random("normal", shape, (0.0, 1.0), generator, dtype or given[0].dtype, device, False, given[0].backend)
    return (mean + std * z).detach()


def _random(kind: str, shape: tuple, bounds: tuple, generator, dtype, device, requires_grad, backend) -> Any:
    chosen, found = _target(dtype, device, backend)
    if found.kind != "float":
        raise DTypeError(explain(f"random numbers of this kind need a float dtype, not {found}", do="use randint"))
    precision = float32 if found.itemsize < 4 else found
    return _made(drawn(kind, generator, shape, found, chosen, shape, *bounds, dtype=precision), requires_grad)


def _random_like(kind: str, input: Any, generator, dtype, device, requires_grad) -> Any:
    t = as_tensor(input)
    bounds, backend = (0.0, 1.0), backend_name(t)
    return _random(kind, tuple(t.shape), bounds, generator, dtype or t.dtype, device, requires_grad, backend)


# --------------------------------------------------------------------------------------------------- shared


def _made(array: Any, requires_grad: bool) -> Any:
    t = wrap(array)
    if requires_grad:
        t.requires_grad_()
    return t


def _target(dtype: Any, device: Any, backend: Any) -> tuple:
    chosen = engine(backend, device)
    found = chosen.dtype if dtype is None else to_dtype(dtype)
    chosen.native_dtype(found)  # raises where the engine has none
    return chosen, found


def _constant(name: str, shape: tuple, dtype, device, requires_grad, backend, **more: Any) -> Any:
    return _filled(name, {"shape": shape, **more}, dtype, device, requires_grad, backend)


def _filled(name: str, statics: dict, dtype, device, requires_grad, backend) -> Any:
    chosen, found = _target(dtype, device, backend)
    with chosen.context():
        array = getattr(type(chosen).xp, name)(dtype=found, **statics)
    return _made(array, requires_grad)
