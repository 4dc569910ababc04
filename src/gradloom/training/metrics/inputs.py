"""What metrics are given, as NumPy arrays: gradloom's Tensors, arrays of every engine, Python's numbers and lists.

An array whose values may not be computed yet, or lie on another device, is *deferred*: it is kept as it is, and brought to
NumPy when the metric needs it, so that a training step need not wait for its metrics.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backends.registry import backend_of
from ...errors import DTypeError, GradloomError, ShapeError, TraceError, explain
from ...ops.op import SCALARS, kind_of
from ...tensor.tensor import Tensor

_ndarray = np.ndarray


class MetricInputError(GradloomError, ValueError):
    """Values that a metric has no meaning for: NaN as a prediction, a class that does not exist, a target that is not 0 or 1."""


def bring(x: Any) -> tuple[Any, bool]:
    """The NumPy array of x, False; or the engine's array itself, True, where reading it now would wait for the engine.

    NumPy arrays, and PyTorch's on the CPU, are not copied. A deferred array is one that nobody can change afterwards.

    Raises:
        TraceError: A traced value: under `gl.jit` or `jax.jit`.
        ShapeError: A ragged list.
        DTypeError: No numbers.
    """
    if type(x) is _ndarray:
        return plain(x), False
    if isinstance(x, Tensor):
        x = x._array
    kind = None if type(x) in SCALARS else kind_of(type(x))
    if kind is None:
        return _of_python(x), False
    if kind.rank > 0:
        raise _traced()
    backend = backend_of(x)
    if backend.name == "jax":
        if not isinstance(x, backend.array_types[0]):  # a tracer
            raise _traced()
        return x, True
    if backend.name == "mlx":
        return x, True
    if backend.name == "torch" and x.device.type != "cpu":
        return (
            x.detach().clone(),
            True,
        )  # a copy that the device makes in its own time: PyTorch's tensors change in place
    return plain(backend.to_numpy(x)), False


def host(x: Any) -> np.ndarray:
    """The NumPy array of x, which is waited for."""
    array, deferred = bring(x)
    return plain(backend_of(array).to_numpy(array)) if deferred else array


def plain(x: np.ndarray) -> np.ndarray:
    """x with a dtype in which NumPy computes: half precision is widened to float32."""
    kind = x.dtype.kind
    if kind in "ib" or (kind == "f" and x.dtype.itemsize in (4, 8)):
        return x
    if kind == "u":
        return x if x.dtype.itemsize == 1 else x.astype(np.int64)
    if kind == "f" and x.dtype.itemsize > 8:
        return x.astype(np.float64)
    if kind == "f" or x.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        return np.asarray(x, np.float32)
    raise DTypeError(
        explain("a metric takes numbers", expected="bools, integers or real floats", given=f"an array of {x.dtype}")
    )


def kind_and_shape(x: Any) -> tuple[str, tuple[int, ...]]:
    """("float", "int", "uint" or "bool"; the shape), of an array of any engine."""
    kind: Any = kind_of(type(x))
    return kind.dtype(x).kind, tuple(x.shape)


def describe(x: Any) -> str:
    """The dtype and shape, for messages."""
    return f"{str(x.dtype).rpartition('.')[2]} {tuple(x.shape)}"


def _of_python(x: Any) -> np.ndarray:
    if isinstance(x, (list, tuple)) and any(isinstance(row, Tensor) for row in x):
        x = [host(row) for row in x]
    try:
        made = np.asarray(x)
    except ValueError:
        raise ShapeError(
            explain(
                "the rows of a batch have different lengths",
                expected="a rectangular list, or an array",
                given=f"a ragged {type(x).__name__}",
                do="give the batch as one array, or call update once for each part",
            )
        ) from None
    if made.dtype == object or made.dtype.kind in "USOMm":
        raise DTypeError(
            explain(
                "a metric takes numbers",
                expected="a Tensor, an array of an engine, a number, or lists of numbers",
                given=type(x).__name__ if made.dtype == object else f"{type(x).__name__} of {made.dtype}",
            )
        )
    return plain(made)


def _traced() -> TraceError:
    return TraceError(
        explain(
            "a metric was updated inside a function that is being compiled",
            expected="update(...) with values, outside of the compiled function",
            do="return the outputs and update afterwards, or return metric.in_step(outputs, targets) and give it to "
            "metric.absorb(...)",
        )
    )
