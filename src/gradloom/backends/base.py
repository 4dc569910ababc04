"""The Backend record, and how ops are made to take a backend's arrays. `registry.py` finds and chooses backends."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ..dtypes import DType, default_dtype
from ..dtypes import dtype as to_dtype  # the property of that name hides it in Backend
from ..errors import BackendError, DTypeError, explain
from ..ops.namespace import NAMESPACE
from ..ops.op import KINDS, Kind, Op, adopt, adopt_with, dispatch, kind_of, promote
from .methods import ArrayMethods
from .registry import backend_of, find


class Backend(ArrayMethods):
    """An engine with a default float dtype and a device. Subclasses are final: one a file.

    Class attributes that a subclass sets:
        name: Its name.
        xp: The engine's namespace: an object with the functions of `namespace.NAMESPACE`.
        fast: op name -> a faster function with the op's parameters (without `xp`), for ops, vjps and update rules.
            It has the meaning of the op's body; tests hold it to that.
        loops: The engine's own forms of the ops "scan", "cond" and "while_loop".
        array_types: The concrete types of the engine's arrays.
        donates: `compile` can be given arrays whose memory the results may take; they cannot be read afterwards.
        plans: Compiled steps get buffers that are made once (graph/plan.py).
        mutable: Arrays can be written in place (so a compiled step may update parameters where they lie).

    Args:
        dtype: Float dtype that `array` casts floats to and that new parameters have. Default: gradloom's default dtype.
        default_dtype: Another name for `dtype`.
        device: The engine's name of a device, such as "cpu" or "cuda:0". Default: the engine's own.
    """

    name: ClassVar[str]
    xp: ClassVar[Any]
    fast: ClassVar[dict[str, Callable]] = {}
    loops: ClassVar[dict[str, Callable]] = {}
    array_types: ClassVar[tuple[type, ...]]
    mutable: ClassVar[bool] = False
    plans: ClassVar[bool] = False
    donates: ClassVar[bool] = False

    def __init__(self, dtype: Any = None, default_dtype: Any = None, device: Any = None):
        if dtype is not None and default_dtype is not None:
            raise TypeError("give dtype= or default_dtype=, not both")
        wanted = default_dtype if dtype is None else dtype
        self._dtype = None if wanted is None else to_dtype(wanted)
        if self._dtype is not None and self._dtype.kind != "float":
            raise DTypeError(
                explain(
                    f"{type(self).__name__} needs a float dtype", expected="float32, float64, ...", given=self._dtype
                )
            )
        self.device = self.check_device(device)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(dtype={self.dtype.name}, device={self.device!r})"

    @property
    def dtype(self) -> DType:
        """Default float dtype of new arrays."""
        return self._dtype or default_dtype()

    # What an engine must answer.

    def check_device(self, device: Any) -> Any:
        """The engine's device for a name; raises BackendError where there is no such device."""
        if device in (None, "cpu"):
            return "cpu"
        raise BackendError(explain(f"{self.name} has no device {device!r}", expected="'cpu'", given=repr(device)))

    @classmethod
    def dtype_of(cls, array: Any) -> DType:
        """The gradloom dtype of an engine's array."""
        return to_dtype(array.dtype)

    def native_dtype(self, d: DType) -> Any:
        """The engine's dtype; raises DTypeError where the engine has none (never a narrower one)."""
        raise NotImplementedError

    def from_numpy(self, array: np.ndarray, d: DType | None = None) -> Any:
        """The engine's array with the same elements on `device`, dtype `d` or the array's own; may share memory."""
        raise NotImplementedError

    @classmethod
    def promoted(cls, array: Any, d: DType) -> Any:
        """An operand in the dtype that promotion found."""
        return cls.xp.astype(array, dtype=d)

    @classmethod
    def to_numpy(cls, array: Any) -> np.ndarray:
        """A NumPy array with the same elements; shares memory where the engine can."""
        raise NotImplementedError

    def from_dlpack(self, array: Any) -> Any:
        """The engine's array over the memory of an object with `__dlpack__`, copied where it cannot be shared."""
        return self.from_numpy(np.from_dlpack(array))

    @classmethod
    def copy(cls, array: Any) -> Any:
        """An array with memory of its own."""
        raise NotImplementedError

    @classmethod
    def device_of(cls, array: Any) -> str:
        """The name of the device that holds the array, in the form that `device=` takes."""
        device: Any = getattr(array, "device", "cpu")
        if hasattr(device, "platform"):  # JAX's device objects
            return f"{device.platform}:{device.id}" if device.id else device.platform
        return str(device)

    def scalars(self, values: list, d: DType) -> Any:
        """Numbers that a compiled step is given at each call (rates, corrections), in the form in which it unpacks them fastest."""
        return values

    def compile(self, fn: Callable, donate: tuple[int, ...] = ()) -> Callable:
        """The engine's compiled form of a pure function of arrays (in lists, tuples, dicts); default: the function.

        Args:
            donate: Indices of the arguments whose arrays may be reused for the results.
        """
        return fn

    @classmethod
    def synchronize(cls, *arrays: Any) -> None:
        """Waits until the arrays are computed."""

    def context(self) -> contextlib.AbstractContextManager:
        """Entered around calls into the engine (JAX: x64 for float64)."""
        return contextlib.nullcontext()


def kernel(backend: type[Backend], record: Op) -> Callable:
    """What runs an op on the backend's arrays: a registered kernel, the namespace's own function, or the body."""
    fn = backend.fast.get(record.name)
    if fn is None and record.name in NAMESPACE:
        fn = getattr(backend.xp, record.name)
    return fn or functools.partial(record.forward, backend.xp)


def register(backend: type[Backend], wrap: Callable[[Callable], Callable] = lambda fn: fn) -> None:
    """Makes ops take the backend's arrays; called at the end of each backend's file.

    Args:
        wrap: Applied to each kernel (JAX: enters x64 where an operand is float64).
    """

    def native(record: Op) -> Callable:
        return wrap(kernel(backend, record))

    def entry(record: Op) -> Callable:
        run = native(record)  # not looked up by the first operand, which may be a scalar

        def call(*args, **attrs):
            for a in args:
                kind_a = KINDS.get(type(a))
                if kind_a is not own and kind_a is not None:
                    if kind_a.rank > 0:
                        return dispatch(record, *args, **attrs)
                    raise mixed(record.name, args)
            if record.promote is not None:
                args = promote(record, args, backend.promoted)
            return run(*args, **attrs)

        return call

    own = Kind(0, entry, native, backend.dtype_of)
    adopt(*backend.array_types, kind=own)


def mixed(name: str, args: tuple) -> BackendError:
    """The error for an op on arrays of several engines."""
    given = [backend_of(a).name for a in args if (kind := kind_of(type(a))) is not None and kind.rank == 0]
    return BackendError(
        explain(
            f"{name} got arrays of different backends",
            expected="arrays of one backend",
            given=", ".join(given),
            do="convert them first, e.g. with backend.array(x)",
        )
    )


def _kind(t: type) -> Kind | None:
    cls = find(t)
    return None if cls is None else KINDS.get(cls.array_types[0])


adopt_with(_kind)
