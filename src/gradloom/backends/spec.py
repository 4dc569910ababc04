"""`Spec`: an array of which only the shape and the dtype are known; and the errors and dtypes of what is done with it.

Its operators and its indexing are those of the namespace over shapes, which puts them there (shapes.py).
"""

from __future__ import annotations

import functools
import math
from typing import Any, NoReturn, final

from ..dtypes import _ALL, DType, default_dtype, int64
from ..dtypes import dtype as _dtype_of
from ..errors import DTypeError, IndexOutOfRangeError, OptionError, ShapeError, TraceError, explain, user_frame

Shape = tuple[int, ...]


def _no_value(*args: Any, **kwargs: Any) -> NoReturn:
    raise TraceError(
        explain(
            "the value of an array is not known while shapes are inferred",
            expected="code that needs shapes and dtypes only",
            given=", ".join(repr(a) for a in args if isinstance(a, Spec)),
            where=user_frame(),
            do="use where or cond in place of `if`, and loops over .shape in place of loops over arrays",
        )
    )


@final
class Spec:
    """An array of which only the shape and the dtype are known.

    It takes the operators and the indexing that op bodies may use. `==` compares two Specs as objects, it is not
    elementwise (`xp.equal` is). Do not change one: Specs are shared.

    Example:
        >>> from gradloom.dtypes import float32
        >>> x = Spec((32, 1, 128), float32)
        >>> x[:, 0] + 1, x.size
        (Spec((32, 128), float32), 4096)
    """

    __slots__ = ("dtype", "shape")
    __array_ufunc__ = None  # `array + spec` is an error of ours, not an array of objects

    def __init__(self, shape: Shape, dtype: DType):
        self.shape = shape if type(shape) is tuple else tuple(shape)
        self.dtype = dtype if type(dtype) is DType else _dtype_of(dtype)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def T(self) -> Spec:
        if len(self.shape) != 2:
            raise _shape_error("x.T is for arrays of 2 dimensions", given=self, do="use xp.transpose(x, axes=...)")
        return Spec(self.shape[::-1], self.dtype)

    def __repr__(self) -> str:
        return f"Spec({self.shape}, {self.dtype.name})"

    def __eq__(self, other: object) -> bool:
        return type(other) is Spec and self.shape == other.shape and self.dtype is other.dtype

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))

    __bool__ = __float__ = __int__ = __index__ = __complex__ = __iter__ = __contains__ = __array__ = _no_value


# --- errors and dtypes ---


def _error(kind: type[Exception], problem: str, **parts: Any) -> Exception:
    return kind(explain(problem, **parts))


_shape_error, _dtype_error = functools.partial(_error, ShapeError), functools.partial(_error, DTypeError)
_index_error, _option_error = functools.partial(_error, IndexOutOfRangeError), functools.partial(_error, OptionError)

_RANK: dict[Any, int] = {bool: 0, int: 1, float: 2, **{d: {"bool": 0, "float": 2}.get(d.kind, 1) for d in _ALL}}
_SUMS = {d: d if d.kind == "float" else int64 for d in _ALL}


def _not_array(name: str, value: Any) -> Exception:
    t = type(value)
    given = f"{t.__module__}.{t.__qualname__}".removeprefix("builtins.")
    return _dtype_error(f"{name} got a value that is not a Spec", expected="Specs, or bool, int, float", given=given)


def _refused(name: str, d: DType, expected: str, do: str | None = None) -> Exception:
    return _dtype_error(f"{name} is not defined for {d.name}", expected=expected, given=d.name, do=do)


def _mixed(name: str, *specs: Spec) -> Exception:
    names = " != ".join(s.dtype.name for s in specs)
    return _dtype_error(
        f"{name}: expected operands of the same dtype, but got: {names}",
        given=", ".join(map(repr, specs)),
        do="cast one with astype; ops do so before their bodies run if they are declared with promote=",
    )


def _weak(d: DType, scalar: Any, name: str) -> DType:
    """The dtype of an array of dtype `d` with a Python scalar."""
    rank = _RANK.get(type(scalar))
    if rank is None:
        raise _not_array(name, scalar)
    return d if rank <= _RANK[d] else int64 if rank == 1 else default_dtype()
