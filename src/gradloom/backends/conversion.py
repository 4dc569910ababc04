"""An engine's arrays from data and from other engines' arrays, and the methods of a backend that bring them in and out.

`as_native` does it for all; the class `Conversions` holds the methods, which are the same on every backend.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import ops
from ..dtypes import DType, bool_, int64, promote
from ..dtypes import dtype as to_dtype
from ..errors import BackendError, DTypeError, ShapeError, explain
from ..ops.op import SCALARS, kind_of, not_an_array
from . import registry

#: What higher layers announce, as they cannot be imported here:
#: "no_grad": makes the context manager in which Tensors record nothing.
#: "host_input": `f(draw, shape, dtype, name)`, the input of the function that is being compiled for what `draw()`
#:     returns at each of its runs; None where nothing is being compiled.
HOOKS: dict[str, Callable] = {}


# --- data ---


def as_native(
    data: Any,
    wanted: DType | None,
    chosen: Any,
    copy: bool = True,
    place: bool = False,
    floats: DType | None = None,
) -> Any:
    """The elements of `data` as an array of the backend `chosen`.

    Args:
        data: A Python number; a nested sequence of numbers; a NumPy array or scalar; an array of an engine; a Tensor.
        wanted: The dtype. Default: that of `data`; Python floats get the backend's float dtype, ints int64.
        copy: Give memory of its own also where `data` could be shared.
        place: An array of the backend's engine is moved to its device; else it stays where it is.
        floats: The dtype of the result where `wanted` is not given and `data` has floats.

    Raises:
        ShapeError: A ragged sequence.
        DTypeError: Elements that are no numbers, or a dtype that the engine does not have (never a narrower one
            instead).
    """
    if isinstance(data, (np.ndarray, np.generic)):
        return _from_numpy(np.asarray(data), wanted, chosen, copy, floats)
    kind = None if isinstance(data, (list, tuple)) else kind_of(type(data))
    if kind is not None and kind.rank == 2:
        data = data._array  # a Tensor's
        return as_native(data, wanted, chosen, copy, place, floats)
    if kind is not None:
        if wanted is None and floats is not None and kind.dtype(data).kind == "float":
            wanted = floats
        return _from_engine(data, kind, wanted, chosen, copy, place)
    array, found = _from_python(data, wanted, chosen, floats)
    return _from_numpy(array, found, chosen, False, None)


def _from_numpy(array: np.ndarray, wanted: DType | None, chosen: Any, copy: bool, floats: DType | None = None) -> Any:
    try:
        own = to_dtype(array.dtype)
    except DTypeError:
        raise DTypeError(
            explain(
                "can't convert an array of this dtype to a Tensor",
                expected="bool, uint8, int8, int16, int32, int64, float16, bfloat16, float32 or float64",
                given=f"numpy.ndarray of {array.dtype}",
                do="convert it first: array.astype('int64') or array.astype('float32')",
            )
        ) from None
    if wanted is None and own.kind == "float":
        wanted = floats
    if wanted is not None and wanted is not own:
        if chosen.name == "numpy":
            return array.astype(chosen.native_dtype(wanted))
        if own.itemsize == 8 and own.kind == "float":
            # An engine without float64 is to see the array in the dtype it is to have.
            array, own, copy = array.astype(np.float32 if wanted.kind == "float" else "int64"), wanted, False
    native = array.copy() if copy or not array.flags.c_contiguous else array
    return chosen.from_numpy(native, wanted or own)


def _from_engine(array: Any, kind: Any, wanted: DType | None, chosen: Any, copy: bool, place: bool) -> Any:
    if kind.rank > 0:  # a traced value stays one
        return array if wanted is None or kind.dtype(array) is wanted else ops.astype(array, dtype=wanted)
    own = registry.backend_of(array)
    if own is type(chosen):
        array = moved(array, chosen) if place else array
        if wanted is not None and kind.dtype(array) is not wanted:
            with chosen.context():
                return ops.astype(array, dtype=wanted)
        return own.copy(array) if copy else array
    try:
        made = chosen.from_dlpack(array)
        if registry.backend_of(made).dtype_of(made) is not kind.dtype(array):
            raise TypeError("dtype changed")
        if copy:
            made = type(chosen).copy(made)
    # No DLPack for this pair, dtype or device.
    except (TypeError, ValueError, RuntimeError, BufferError, AttributeError):
        return _from_numpy(own.to_numpy(array), wanted, chosen, copy)
    if wanted is not None and wanted is not kind.dtype(made):
        with chosen.context():
            made = ops.astype(made, dtype=wanted)
    return made


def moved(array: Any, chosen: Any) -> Any:
    """An array of the backend's engine on the backend's device; itself where it is there. PyTorch keeps its graph."""
    if not hasattr(array, "device") or chosen.device_of(array).removesuffix(":0") == chosen.device.removesuffix(":0"):
        return array  # one of JAX's tracers has no device: where it runs is the affair of jax.jit
    if hasattr(array, "to"):  # PyTorch
        return array.to(chosen.device)
    device = getattr(chosen, "_device", None)  # JAX; None: no device was asked for
    return array if device is None else array.to_device(device)


def _from_python(data: Any, wanted: DType | None, chosen: Any, floats: DType | None) -> tuple[np.ndarray, DType]:
    """A NumPy array of Python numbers, and its gradloom dtype."""
    leaves: list[Any] = []
    shape = _walk(data, leaves, 0)
    found = wanted or _common_dtype(leaves, chosen)
    if wanted is None and floats is not None and found.kind == "float":
        found = floats
    if found.kind == "bool":
        leaves = [bool(v) for v in leaves]
    elif found.kind != "float":
        leaves = [int(v) for v in leaves]
    host = np.float64 if found.name == "bfloat16" else np.dtype(found.name)  # bfloat16 is the engine's affair
    try:
        array = np.array(leaves, dtype=host).reshape(shape)
    except OverflowError as error:
        raise DTypeError(
            explain(f"value cannot be converted to type {found.name} without overflow", given=error)
        ) from None
    return (array.astype(np.float32) if found.name == "bfloat16" else array), found


def _walk(data: Any, leaves: list[Any], depth: int) -> tuple[int, ...]:
    """Collects the numbers of a nested sequence and gives its shape."""
    if isinstance(data, (list, tuple, range)):
        if SCALARS.issuperset(map(type, data)):  # the innermost level, fast
            leaves.extend(data)
            return (len(data),)
        shapes = []
        for item in data:
            shapes.append(_walk(item, leaves, depth + 1))
            if shapes[-1] != shapes[0]:
                raise _ragged(shapes[0], shapes[-1], depth)
        return (len(data), *shapes[0]) if shapes else (0,)
    if isinstance(data, (np.ndarray, np.generic)):
        leaves.extend(np.asarray(data).reshape(-1))
        return data.shape
    if isinstance(data, (bool, int, float)):
        leaves.append(data)
        return ()
    kind = kind_of(type(data))
    if kind is not None:
        array = data._array if kind.rank == 2 else data
        concrete = getattr(array, "concrete", None)
        if concrete is not None:
            concrete("tensor() of a list of Tensors; use stack()")
        host = registry.backend_of(array).to_numpy(array)
        leaves.extend(host.reshape(-1))
        return host.shape
    if hasattr(data, "__array__"):
        return _walk(np.asarray(data), leaves, depth)
    raise DTypeError(
        explain(
            f"could not infer the dtype of {type(data).__name__}",
            expected="numbers, nested sequences of numbers, NumPy arrays, arrays of an engine, Tensors",
            given=f"{data!r:.80}",
        )
    )


def _ragged(first: tuple, other: tuple, depth: int) -> ShapeError:
    level = next((i for i, (m, n) in enumerate(zip(first, other, strict=False)) if m != n), min(len(first), len(other)))
    want = first[level] if level < len(first) else "a number"
    got = other[level] if level < len(other) else "a number"
    return ShapeError(
        explain(
            f"expected sequence of length {want} at dim {depth + 1 + level} (got {got})",
            expected="nested sequences of equal lengths",
            do="pad the short ones, or keep a list of Tensors",
        )
    )


def _common_dtype(leaves: list[Any], chosen: Any) -> DType:
    """PyTorch's choice for a list: Python numbers by kind, others by their own dtype, promoted."""
    if not leaves:
        return chosen.dtype
    one_each = {type(v): v for v in leaves}.values()
    return functools.reduce(promote, [_leaf_dtype(v, chosen) for v in one_each])


def _leaf_dtype(value: Any, chosen: Any) -> DType:
    if isinstance(value, np.generic):
        return to_dtype(value.dtype)
    return bool_ if isinstance(value, bool) else int64 if isinstance(value, int) else chosen.dtype


# --- the methods ---


class Conversions:
    """The methods of a backend that bring arrays in and out, and what all its methods share."""

    def array(self, data: Any, dtype: Any = None) -> Any:
        """An array of this engine with the elements of `data`, on the backend's device.

        Where `data` has the right dtype and place it is used as it is: an array of this engine is returned itself
        (PyTorch's with its graph), others share memory where DLPack or NumPy can. Use `copy` for memory of its own.

        Args:
            data: A number, a nested sequence of numbers, an array of NumPy or of any engine, a Tensor (whose history
                is left behind, as is that of a PyTorch tensor which goes to another engine).
            dtype: Default: the backend's dtype for floats, which are cast to it; integers and bools keep theirs.

        Raises:
            ShapeError: A ragged sequence.
            DTypeError: No numbers, or a dtype that the engine does not have.

        Example:
            >>> import gradloom as gl, numpy as np
            >>> backend = gl.get_backend("numpy")
            >>> backend.array(np.array([0.5, 1.0])).dtype, backend.array([1, 2]).dtype
            (dtype('float32'), dtype('int64'))
        """
        backend: Any = self
        wanted = None if dtype is None else to_dtype(dtype)
        return as_native(data, wanted, backend, copy=False, place=True, floats=backend.dtype)

    # From engine to engine.

    def to_torch(self, array: Any) -> Any:
        """This engine's array (or a Tensor on it) as a `torch.Tensor`, which shares memory where it can.

        On TorchBackend the array itself, with its graph: gradients pass through.

        Raises:
            BackendError: An array of another engine.
            MissingExtraError: PyTorch is not installed.

        Example:
            >>> import gradloom as gl, numpy as np
            >>> gl.get_backend("numpy").to_torch(np.ones(2))  # doctest: +SKIP
            tensor([1., 1.], dtype=torch.float64)
        """
        return self._leave("to_torch", "torch", array)

    def from_torch(self, tensor: Any, dtype: Any = None) -> Any:
        """A `torch.Tensor` as an array of this engine on the backend's device, in its own dtype unless given.

        On TorchBackend a tensor that fits is returned itself, with its graph; a cast or a move keeps the graph too.
        Other engines leave the graph behind and share memory where they can.

        Raises:
            BackendError: It is no `torch.Tensor`.
            DTypeError: A dtype that this engine does not have.
        """
        return self._enter("from_torch", "torch", tensor, dtype)

    def to_jax(self, array: Any) -> Any:
        """This engine's array (or a Tensor on it) as a `jax.Array`; on JaxBackend itself, inside `jax.jit` too.

        Raises:
            BackendError: An array of another engine.
            DTypeError: float64 without `JaxBackend(dtype="float64")`.
            MissingExtraError: JAX is not installed.
        """
        return self._leave("to_jax", "jax", array)

    def from_jax(self, array: Any, dtype: Any = None) -> Any:
        """A `jax.Array` as an array of this engine, in its own dtype unless given; on JaxBackend itself if it fits.

        Raises:
            BackendError: It is no array of JAX.
            DTypeError: A dtype that this engine does not have.
        """
        return self._enter("from_jax", "jax", array, dtype)

    def to_mlx(self, array: Any) -> Any:
        """This engine's array (or a Tensor on it) as an `mlx.core.array`; on MlxBackend itself.

        Raises:
            BackendError: An array of another engine.
            MissingExtraError: MLX is not installed.
        """
        return self._leave("to_mlx", "mlx", array)

    def from_mlx(self, array: Any, dtype: Any = None) -> Any:
        """An `mlx.core.array` as an array of this engine, in its own dtype unless given; on MlxBackend itself if it fits.

        Raises:
            BackendError: It is no array of MLX.
            DTypeError: A dtype that this engine does not have.
        """
        return self._enter("from_mlx", "mlx", array, dtype)

    def to_device(self, array: Any, device: Any) -> Any:
        """This engine's array on a device, itself where it is there. MLX's arrays have none: returned as they are.

        Raises:
            BackendError: An array of another engine, or no such device.

        Example:
            >>> import gradloom as gl, numpy as np
            >>> x = np.ones(2)
            >>> gl.get_backend("numpy").to_device(x, "cpu") is x
            True
        """
        backend: Any = self
        self._check("to_device", array)
        return moved(array, type(backend)(dtype=backend._dtype, device=device))

    def _leave(self, method: str, target: str, array: Any) -> Any:
        backend: Any = self
        self._check(method, array)
        kind = kind_of(type(array))
        if kind is None and type(array) not in SCALARS:
            raise not_an_array(method, type(array), array)
        array = array._array if kind is not None and kind.rank == 2 else array
        if backend.name == target:
            return array
        concrete = getattr(array, "concrete", None)
        if concrete is not None:
            concrete(method)  # raises: a traced value
        return as_native(array, None, registry.get_backend(target), copy=False)

    def _enter(self, method: str, source: str, array: Any, dtype: Any) -> Any:
        kind = kind_of(type(array))
        found = registry.backend_of(array).name if kind is not None and kind.rank == 0 else type(array).__name__
        if found != source:
            raise BackendError(
                explain(f"{method} got no array of {source}", expected=source, given=found, do="use backend.array(x)")
            )
        return as_native(array, None if dtype is None else to_dtype(dtype), self, copy=False, place=True)

    # Modes.

    @contextlib.contextmanager
    def no_grad(self) -> Iterator[None]:
        """A context (or a decorator) in which nothing is recorded for gradients, by gradloom's Tensors and by PyTorch's.

        Example:
            >>> import gradloom as gl
            >>> x = gl.tensor([1.0], requires_grad=True)
            >>> with gl.get_backend("numpy").no_grad():
            ...     y = x * 2
        """
        backend: Any = self
        with contextlib.ExitStack() as stack:
            if "no_grad" in HOOKS:
                stack.enter_context(HOOKS["no_grad"]())
            if backend.name == "torch":
                import torch

                stack.enter_context(torch.no_grad())
            yield

    def block_until_ready(self, array: Any) -> Any:
        """Waits until the array is computed, and returns it. `synchronize` does it for several."""
        backend: Any = self
        self._check("block_until_ready", array)
        backend.synchronize(array)
        return array

    # What the methods share.

    def _call(self, op: Any, *arrays: Any, **statics: Any) -> Any:
        """The op on arrays of this backend (or numbers, or Tensors)."""
        backend: Any = self
        self._check(op.op.name, *arrays)
        with backend.context():
            return op(*arrays, **statics)

    def _check(self, method: str, *values: Any) -> None:
        """Raises where a value is an array of another engine; what is no array is the op's affair."""
        backend: Any = self
        for value in values:
            if type(value) in backend.array_types:
                continue
            kind = kind_of(type(value))
            if kind is None:
                continue
            if kind.rank == 2:
                value = value._array
                kind = kind_of(type(value))
            if kind is not None and kind.rank == 0 and registry.backend_of(value).name != backend.name:
                other = registry.backend_of(value).name
                raise BackendError(
                    explain(
                        f"{method} of the {backend.name} backend got an array of {other}",
                        expected=f"arrays of {backend.name}",
                        given=other,
                        do="convert it first with backend.array(x)",
                    )
                )
