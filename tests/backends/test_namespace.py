"""Every function of the array namespace, on every engine, against NumPy; NumPy's against plain expressions.

`SAMPLES` is the table: a name of `NAMESPACE` without samples fails, and so does an engine that lacks a name or has
other parameters. Float samples run in float32 and float64, and give the same values, shapes and dtypes everywhere.
"""

import ast
import contextlib
import importlib.util
import inspect
import itertools
import math
import warnings

import numpy as np
import pytest
import scipy.special

from gradloom import dtypes
from gradloom.backends.base import Backend
from gradloom.backends.registry import backend_class, using_backend
from gradloom.ops.namespace import INDEX, NAMESPACE

ENGINES = ["numpy", "jax", "torch", "mlx"]

#: (rtol, atol) by dtype, for what the next table does not name.
TOLERANCE = {"float32": (3e-6, 1e-6), "float64": (1e-12, 1e-13)}

#: Where an engine is less exact: (engine, function, dtype) -> (rtol, atol). None stands for any.
LESS_EXACT = {
    ("mlx", "erf", None): (4e-6, 1e-6),  # a polynomial in float32, for float64 too
    ("mlx", "erfinv", None): (2e-5, 1e-6),
    ("jax", "erfinv", "float32"): (1e-5, 1e-6),
    ("jax", "tan", "float32"): (1e-5, 1e-6),
}

#: What engines define in their own ways; no op may rely on it, and the samples leave it out.
#: sign(NaN): NaN on NumPy and JAX, 0 on PyTorch and MLX.
#: Integer division by zero; indices out of range; negative indices in take_along_axis and scatter_add.
#: pow of negative integer exponents; the dtype of where(condition, scalar, scalar).

rng = np.random.default_rng(0)
M = rng.normal(size=(2, 3)) * 2
T = rng.normal(size=(2, 3, 4)) * 2
ROW, COLUMN, POINT, SMALL = M[0].copy(), M[:, :1].copy(), np.array(1.5), np.array(0.5)
POSITIVE = np.abs(M) + 0.1
UNIT = np.tanh(M) * 0.95
EMPTY = np.zeros((0, 3))
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.5])
TIES = np.array([[2.0, 1.0, 2.0, -1.0], [0.0, 0.0, np.nan, 0.0], [np.inf, -np.inf, 3.0, np.inf]])
I = np.array([[5, -3, 2], [0, 7, -8]])
J = np.array([3, -2, 4])
U8 = np.array([[200, 100, 3], [0, 7, 255]], np.uint8)
I8 = np.array([[100, 100, 3], [0, -7, 27]], np.int8)
I32 = I.astype(np.int32)
B = np.array([[True, False, True], [False, False, True]])
B3 = np.array([True, True, False])


class Case:
    """Arguments of one call; float64 arrays among them are run in every float dtype."""

    def __init__(self, *args, **statics):
        self.args, self.statics = args, statics
        floats = any(isinstance(a, np.ndarray) and a.dtype == np.float64 for a in args)
        floats = floats or statics.get("dtype") is dtypes.float64
        self.dtypes = ("float32", "float64") if floats else ("float32",)

    def __repr__(self):
        shown = [f"{a.dtype}{list(a.shape)}" if isinstance(a, np.ndarray) else repr(a) for a in self.args]
        return f"({', '.join(shown + [f'{k}={v!r}' for k, v in self.statics.items()])})"

    def cast(self, d):
        """Arguments and attributes with floats in dtype `d`."""
        args = [a.astype(d) if isinstance(a, np.ndarray) and a.dtype == np.float64 else a for a in self.args]
        statics = dict(self.statics)
        if statics.get("dtype") is dtypes.float64:
            statics["dtype"] = dtypes.dtype(d)
        return args, statics


def cases(*tuples):
    return [Case(*t[0], **t[1]) for t in tuples]


def unary(*arrays):
    return [Case(a) for a in arrays]


def binary(a, b, *more):
    """Equal shapes, broadcasting in both directions, 0-d, empty, a scalar second and first."""
    row = b[0] if b.ndim > 1 else b
    scalar = b.flat[0].item()
    return [
        Case(a, b),
        Case(a, row),
        Case(row, a),
        Case(a[:, :1], b[:1]),
        Case(a, np.array(b[0, 0])),
        Case(a[:0], b[:0]),
        Case(a, scalar),
        Case(scalar, a),
        *(Case(*m) for m in more),
    ]


NAN_PAIR = (np.array([1.0, np.nan, np.inf, -np.inf, 0.0]), np.array([np.nan, 2.0, np.inf, np.inf, -np.inf]))
_arithmetic = binary(M, POSITIVE, (I, J), (I, 3), (2, I))
_compare = binary(M, M[::-1].copy(), (I, I[::-1].copy()), (I, 2), (B, B3), NAN_PAIR)
_logical = binary(B, B[::-1].copy(), (I, J), (M, ROW))
_bitwise = [Case(I, J), Case(I, 6), Case(6, I), Case(B, B3), Case(U8, U8[0]), Case(I32, I32[:1])]
AXES = (None, 0, 1, -1, (0, 2), (-1, 0), (0, 1, 2))


def reductions(*more, empty=True, ints=True, special=True):
    found = [Case(T, axis=a, keepdims=k) for a in AXES for k in (False, True)]
    found += [Case(T), Case(POINT), Case(POINT, keepdims=True), Case(M, axis=())]
    found += [Case(EMPTY, axis=0), Case(EMPTY)] if empty else [Case(EMPTY, axis=1)]
    found += [Case(a, axis=x) for a in (I, U8, I8, I32, B) for x in (None, 1)] if ints else []
    found += [Case(TIES, axis=1), Case(SPECIAL)] if special else []
    return [*found, *more]


def along(*more):
    return [Case(T, axis=a) for a in (0, 1, -1)] + [Case(EMPTY, axis=0), Case(I, axis=-1), *more]


_arg = [Case(T, axis=a, keepdims=k) for a in (None, 0, -2, 2) for k in (False, True)]
_arg += [Case(TIES), Case(TIES, axis=1), Case(I, axis=0), Case(I32), Case(U8, axis=1), Case(B, axis=1), Case(POINT)]
_sort = [Case(T), *(Case(T, axis=a, descending=d) for a in (0, -2, 2) for d in (False, True))]
_sort += [
    Case(a, axis=x, descending=d) for a, x in ((TIES, 1), (I, 0), (EMPTY, 0), (U8, 1), (B, -1)) for d in (False, True)
]

# The stability of a sort shows in the order of equals.
_long_ties = np.array(rng.integers(0, 3, size=200), np.float64)

K = INDEX
ROWS, PAIR = np.array([1, 0, 1, -1]), np.array([0, 2])
MASK = T > 0.5
_window = [
    (T, {"size": (2,), "stride": (1,), "dilation": (1,)}),
    (T, {"size": (2,), "stride": (2,), "dilation": (2,)}),
    (T, {"size": (2, 3), "stride": (1, 1), "dilation": (1, 1)}),
    (np.arange(2 * 7 * 8.0).reshape(2, 7, 8), {"size": (3, 2), "stride": (2, 3), "dilation": (1, 2)}),
    (np.arange(5 * 4 * 6.0).reshape(5, 4, 6), {"size": (2, 2, 3), "stride": (2, 1, 2), "dilation": (3, 2, 1)}),
    (np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1), {"size": (1, 2), "stride": (1, 1), "dilation": (1, 1)}),
]

#: (array, indices, key): what getitem, put and add_at must take.
_keys = [
    (T, (), (1,)),
    (T, (), (slice(None), 1)),
    (T, (), (-1, ..., 2)),
    (T, (), (..., None, slice(1, 3))),
    (T, (), (slice(None), slice(None, None, -1))),
    (T, (), (..., slice(3, None, -2))),
    (T, (), (slice(None, None, 2), slice(-2, None), slice(0, 4, 3))),
    (T, (), (0, 1, 2)),
    (T, (), (...,)),
    (T, (), ()),
    (POINT, (), ()),
    (POINT, (), (None,)),
    (T, (), (slice(1, 1),)),
    (I, (), (slice(None), 0)),
    (T, (ROWS,), (K,)),
    (T, (ROWS.reshape(2, 2),), (K,)),
    (T, (PAIR,), (slice(None), K)),
    (T, (PAIR,), (0, slice(None), K)),
    (T, (PAIR,), (..., K)),
    (T, (np.array([1, 0]), PAIR), (K, K)),
    (T, (np.array([[1], [0]]), PAIR), (K, slice(None), K)),
    (T, (np.array([[1], [0]]), PAIR), (slice(None), K, K)),
    (T, (PAIR,), (slice(None, None, -1), K, slice(2, 0, -1))),
    (T, (np.array(1),), (K,)),
    (T, (np.array([], np.int64),), (K,)),
    (T, (MASK,), (K,)),
    (T, (B3,), (slice(None), K)),
    (T, (B3, PAIR), (0, K, K)),
    (T, (B,), (K, slice(None, None, -1))),
    (I, (ROWS,), (K,)),
]


def _value(a, indices, key):
    """A value to write at a key: of the shape of what is there."""
    return np.asarray(rng.normal(size=a[_fill(key, indices)].shape) * 5).astype(a.dtype)


def _fill(key, indices):
    rest = iter(indices)
    return tuple(next(rest) if k is INDEX else k for k in key)


_writes = [Case(a, _value(a, i, k), *i, key=k) for a, i, k in _keys]
_writes += [Case(T, 3, key=(0,)), Case(T, ROW[:1], ROWS[:2], key=(K,)), Case(T, 2.5, MASK, key=(K,))]

F64, F32, I64, BOOL = dtypes.float64, dtypes.float32, dtypes.int64, dtypes.bool_

SAMPLES = {
    "zeros": [Case(shape=(2, 3), dtype=F64), Case(shape=(), dtype=I64), Case(shape=(0, 2), dtype=BOOL)],
    "ones": [Case(shape=(2, 3), dtype=F64), Case(shape=(), dtype=I64), Case(shape=(3,), dtype=BOOL)],
    "full": cases(
        ((), {"shape": (2, 3), "value": 0.1, "dtype": F64}),
        ((), {"shape": (), "value": -7, "dtype": I64}),
        ((), {"shape": (2,), "value": True, "dtype": BOOL}),
        ((), {"shape": (2,), "value": 3, "dtype": F64}),
        ((), {"shape": (2,), "value": math.inf, "dtype": F64}),
    ),
    "arange": cases(
        ((), {"start": 0, "stop": 5, "dtype": I64}),
        ((), {"start": 7, "stop": -2, "step": -3, "dtype": I64}),
        ((), {"start": 0, "stop": 5, "step": 2, "dtype": F64}),
        ((), {"start": 0.5, "stop": 2.0, "step": 0.25, "dtype": F64}),
        ((), {"start": 3, "stop": 3, "dtype": I64}),
        ((), {"start": 3, "stop": 1, "dtype": I64}),
    ),
    "eye": cases(
        ((), {"n": 3, "dtype": F64}),
        ((), {"n": 2, "m": 4, "dtype": F64}),
        ((), {"n": 3, "m": 1, "dtype": I64}),
        ((), {"n": 2, "dtype": BOOL}),
    ),
    "zeros_like": [Case(M), Case(M, dtype=I64), Case(I), Case(POINT), Case(EMPTY), Case(B), Case(I, dtype=F64)],
    "ones_like": [Case(M), Case(M, dtype=I64), Case(I), Case(POINT), Case(EMPTY), Case(B), Case(I, dtype=F64)],
    "abs": unary(M, POINT, EMPTY, SPECIAL, I, I8),
    "negative": unary(M, POINT, EMPTY, SPECIAL, I, I8),
    "sign": unary(M, POINT, EMPTY, SPECIAL[1:], I, I8),
    "reciprocal": unary(POSITIVE, -POSITIVE, POINT, EMPTY, SPECIAL),
    "square": unary(M, POINT, EMPTY, SPECIAL, I),
    "sqrt": unary(POSITIVE, POINT, EMPTY, SPECIAL),
    "rsqrt": unary(POSITIVE, POINT, EMPTY, SPECIAL[[0, 1, 2, 3, 5, 6]]),
    "exp": unary(M, POINT, EMPTY, SPECIAL, M * 20),
    "expm1": unary(M, POINT, EMPTY, SPECIAL, M * 1e-4),
    "log": unary(POSITIVE, POINT, EMPTY, SPECIAL, POSITIVE * 1e-20),
    "log1p": unary(POSITIVE, POINT, EMPTY, SPECIAL, UNIT, POSITIVE * 1e-6),
    "log2": unary(POSITIVE, POINT, EMPTY, SPECIAL),
    "sin": unary(M, POINT, EMPTY, SPECIAL, M * 50),
    "cos": unary(M, POINT, EMPTY, SPECIAL, M * 50),
    "tan": unary(UNIT, POINT, EMPTY, SPECIAL),
    "asin": unary(UNIT, SMALL, EMPTY, SPECIAL),
    "acos": unary(UNIT, SMALL, EMPTY, SPECIAL),
    "atan": unary(M, POINT, EMPTY, SPECIAL),
    "sinh": unary(M, POINT, EMPTY, SPECIAL),
    "cosh": unary(M, POINT, EMPTY, SPECIAL),
    "tanh": unary(M, POINT, EMPTY, SPECIAL, M * 20),
    "asinh": unary(M, POINT, EMPTY, SPECIAL),
    "acosh": unary(POSITIVE + 1, POINT, EMPTY, SPECIAL),
    "atanh": unary(UNIT, SMALL, EMPTY, SPECIAL),
    "sigmoid": unary(M, POINT, EMPTY, SPECIAL, M * 30),
    "erf": unary(M, POINT, EMPTY, SPECIAL),
    "erfinv": unary(UNIT, SMALL, EMPTY, np.array([1.0, -1.0, 0.0, 2.0, np.nan])),
    "floor": unary(M, POINT, EMPTY, SPECIAL),
    "ceil": unary(M, POINT, EMPTY, SPECIAL),
    "round": unary(M, np.array([0.5, 1.5, 2.5, -0.5, -1.5]), POINT, EMPTY, SPECIAL),
    "trunc": unary(M, POINT, EMPTY, SPECIAL),
    "isnan": unary(M, SPECIAL, POINT, EMPTY, I),
    "isinf": unary(M, SPECIAL, POINT, EMPTY, I),
    "isfinite": unary(M, SPECIAL, POINT, EMPTY, I),
    "logical_not": unary(B, I, M, SPECIAL, np.array(True)),
    "bitwise_not": unary(B, I, U8, I8, I32),
    "astype": [Case(a, dtype=d) for a in (M, I, B, U8, POINT, EMPTY) for d in (F64, I64, BOOL, dtypes.int8)]
    + [Case(I, dtype=dtypes.int32), Case(M, dtype=dtypes.float16), Case(B, dtype=dtypes.uint8)],
    "add": _arithmetic,
    "subtract": _arithmetic,
    "multiply": [*_arithmetic, Case(B, B3)],
    "divide": binary(M, POSITIVE, NAN_PAIR, (M, 0.0)),
    "floor_divide": [*binary(M, POSITIVE, (I, J), (I, 3), (I, -3)), Case(M, -1.5)],
    "remainder": [*binary(M, POSITIVE, (I, J), (I, 3), (I, -3)), Case(M, -1.5)],
    "pow": binary(POSITIVE, M, (M, 2), (M, 3), (I, 2), (I, np.abs(J)), (2.0, M), (SPECIAL, 2.0), (2, np.abs(I))),
    "maximum": [*_compare, *binary(M, UNIT)],
    "minimum": [*_compare, *binary(M, UNIT)],
    "atan2": binary(M, UNIT, NAN_PAIR),
    "logaddexp": binary(M, UNIT * 9, NAN_PAIR, (M * 500, M)),
    "equal": [*_compare, Case(M, M.copy())],
    "not_equal": [*_compare, Case(M, M.copy())],
    "less": _compare,
    "less_equal": _compare,
    "greater": _compare,
    "greater_equal": _compare,
    "logical_and": _logical,
    "logical_or": _logical,
    "logical_xor": _logical,
    "bitwise_and": _bitwise,
    "bitwise_or": _bitwise,
    "bitwise_xor": _bitwise,
    "where": cases(
        ((B, M, POSITIVE), {}),
        ((B3, M, ROW), {}),
        ((B[:, :1], ROW, M), {}),
        ((B, M, 0), {}),
        ((B, 0.5, M), {}),
        ((B, I, -1), {}),
        ((B, POINT, M), {}),
        ((np.array(True), M, 0), {}),
        ((B[:0], EMPTY, 1.0), {}),
        ((B, B, B3), {}),
        ((B, M, -math.inf), {}),
    ),
    "sum": reductions(),
    "prod": reductions(),
    "amax": reductions(empty=False),
    "amin": reductions(empty=False),
    "any": reductions(),
    "all": reductions(),
    "mean": reductions(Case(TIES, axis=1), empty=False, ints=False, special=False),
    "logsumexp": reductions(
        Case(np.full((2, 2), -np.inf), axis=1), Case(T * 500, axis=-1), empty=False, ints=False
    ),
    "argmax": _arg,
    "argmin": _arg,
    "cumsum": along(Case(U8, axis=1), Case(B, axis=0), Case(I32, axis=0), Case(TIES, axis=1)),
    "cumprod": along(Case(U8, axis=1), Case(B, axis=0), Case(I32, axis=0)),
    "sort": [*_sort, Case(_long_ties)],
    "argsort": [*_sort, Case(_long_ties), Case(_long_ties, descending=True)],
    "matmul": cases(
        ((M, M.T.copy()), {}),
        ((M, ROW), {}),
        ((ROW, M.T.copy()), {}),
        ((ROW, ROW), {}),
        ((T, T.transpose(0, 2, 1)), {}),
        ((T, rng.normal(size=(4, 2))), {}),
        ((rng.normal(size=(5, 1, 2, 3)), T), {}),
        ((np.zeros((2, 0)), np.zeros((0, 3))), {}),
        ((EMPTY, M.T.copy()), {}),
        ((I, I.T.copy()), {}),
    ),
    "einsum": cases(
        ((M, M), {"equation": "ij,kj->ik"}),
        ((M,), {"equation": "ij->ji"}),
        ((T,), {"equation": "ijk->j"}),
        ((M, T, ROW), {"equation": "ij,ijk,j->ki"}),
        ((T, T), {"equation": "bij,bik->bjk"}),
        ((M @ M.T,), {"equation": "ii->i"}),
        ((ROW, ROW), {"equation": "i,j->ij"}),
        ((M, M), {"equation": "ij,ij->"}),
        ((I, I), {"equation": "ij,kj->ik"}),
    ),
    "reshape": cases(
        ((T,), {"shape": (6, 4)}),
        ((T.transpose(2, 0, 1),), {"shape": (24,)}),
        ((POINT,), {"shape": (1, 1)}),
        ((POINT.reshape(1),), {"shape": ()}),
        ((EMPTY,), {"shape": (3, 0, 2)}),
    ),
    "transpose": [Case(T, axes=(2, 0, 1)), Case(M, axes=(1, 0)), Case(T, axes=(0, -1, 1)), Case(POINT, axes=())],
    "broadcast_to": [Case(ROW, shape=(2, 3)), Case(COLUMN, shape=(4, 2, 3)), Case(POINT, shape=(2, 2)),
                     Case(EMPTY, shape=(2, 0, 3)), Case(I, shape=(2, 3))],
    "expand_dims": [Case(M, axis=a) for a in (0, 1, -1, 2, (0, 2), (-1, 0), (1, 2))] + [Case(POINT, axis=0)],
    "squeeze": [Case(T.reshape(1, 2, 1, 12), axis=a) for a in (0, 2, -2, (0, 2), (-4, -2), (2,))],
    "concat": [Case(M, M, axis=0), Case(M, COLUMN, M, axis=-1), Case(EMPTY, M, axis=0),
               Case(I, axis=1), Case(T, T, axis=1)],
    "stack": [Case(M, M, axis=0), Case(M, M, M, axis=-1), Case(POINT, POINT, axis=0), Case(I, I, axis=1)],
    "flip": [Case(T, axis=a) for a in (0, -1, (0, 2), (-2,))] + [Case(B, axis=1), Case(EMPTY, axis=0)],
    "roll": [Case(T, shift=s, axis=a) for s in (1, -2, 5, 0) for a in (0, -1)] + [Case(I, shift=1, axis=1)],
    "pad": [
        Case(M, widths=((1, 0), (2, 1))),
        Case(M, widths=((0, 0), (0, 2)), value=-math.inf),
        Case(M, widths=((-1, 0), (1, -1)), value=0.5),
        Case(M, widths=((-1, 2), (0, -2))),
        Case(I, widths=((1, 1), (0, 0)), value=9),
        Case(B, widths=((1, 0), (0, 1)), value=True),
        Case(EMPTY, widths=((2, 0), (0, 0)), value=1.5),
        Case(T, widths=((0, 0), (1, 1), (1, 1))),
        Case(POINT, widths=()),
        Case(M, widths=((0, 0), (0, 0))),
    ],
    "repeat": [Case(T, repeats=r, axis=a) for r in (1, 3) for a in (0, 1, -1)] + [Case(I, repeats=0, axis=0)],
    "tril": [Case(a, k=k) for a in (M, T, I, B) for k in (0, 1, -1)] + [Case(M * np.inf)],
    "triu": [Case(a, k=k) for a in (M, T, I, B) for k in (0, 1, -1)] + [Case(M * np.inf)],
    "windows": [Case(a, **s) for a, s in _window],
    "fold": [],  # below: from the windows
    "getitem": [Case(a, *i, key=k) for a, i, k in _keys],
    "put": _writes,
    "add_at": _writes,
    "take": [Case(T, i, axis=a) for i in (ROWS % 2, PAIR % 2, ROWS.reshape(2, 2) % 2, np.array(1)) for a in (0, 1, -1)]
    + [Case(T, np.array([-1, 0]), axis=2), Case(M, np.array([], np.int64), axis=0), Case(I, I32[1:, :1] * 0, axis=1)],
    "take_along_axis": [
        Case(T, np.argsort(T, axis=1), axis=1),
        Case(T, np.argsort(T, axis=-1), axis=-1),
        Case(T, np.argmax(T, axis=2)[..., None], axis=2),
        Case(M, np.array([[1, 0, 1]]), axis=0),
        Case(I, np.array([[0, 0], [2, 1]], np.int32), axis=1),
    ],
    "scatter_add": [
        Case(T, np.argsort(T, axis=1), T * 2, axis=1),
        Case(M, np.array([[0, 0], [2, 0]]), M[:, :2].copy(), axis=1),
        Case(M, np.array([[1, 1, 1], [1, 0, 1]]), M, axis=-2),
        Case(I, np.array([[0], [2]]), I[:, :1].copy(), axis=1),
    ],
}  # fmt: skip


def _fold_case(a, statics):
    k = len(statics["size"])
    out = [
        (n - d * (s - 1) - 1) // t + 1
        for n, s, t, d in zip(
            a.shape[a.ndim - k :], statics["size"], statics["stride"], statics["dilation"], strict=True
        )
    ]
    shape = (*a.shape[: a.ndim - k], *out, *statics["size"])
    return Case(np.arange(math.prod(shape), dtype=a.dtype).reshape(shape), shape=a.shape, **statics)


SAMPLES["fold"] = [_fold_case(a, s) for a, s in _window]


# --- what NumPy is held to ---


def _axes(axis, ndim):
    return tuple(range(ndim)) if axis is None else tuple(a % ndim for a in np.atleast_1d(axis).astype(int))


def _windows(x, size, stride, dilation):
    k = len(size)
    first = x.ndim - k
    out = [(n - d * (s - 1) - 1) // t + 1 for n, s, t, d in zip(x.shape[first:], size, stride, dilation, strict=True)]
    result = np.zeros((*x.shape[:first], *out, *size), x.dtype)
    for o in np.ndindex(*out):
        for s in np.ndindex(*size):
            place = tuple(a * t + b * d for a, b, t, d in zip(o, s, stride, dilation, strict=True))
            result[(..., *o, *s)] = x[(..., *place)]
    return result


def _fold(x, shape, size, stride, dilation):
    # The transpose by its definition: windows of the numbered places say where each element goes.
    places = _windows(np.arange(math.prod(shape)).reshape(shape), size, stride, dilation)
    return np.bincount(places.ravel(), x.ravel(), math.prod(shape)).reshape(shape)


def _put(x, value, *indices, key, add=False):
    places = np.arange(x.size).reshape(x.shape)[_fill(key, indices)]
    out = x.ravel().copy()
    for place, v in zip(places.ravel(), np.broadcast_to(value, places.shape).ravel(), strict=True):
        out[place] = out[place] + v if add else v
    return out.reshape(x.shape)


def _along(fn, dtype=lambda d: d):
    """A function of a one-dimensional list, applied along `axis`."""

    def call(x, *, axis=-1, **kw):
        out = np.zeros(x.shape, dtype(x.dtype))
        lines, results = np.moveaxis(x, axis, -1), np.moveaxis(out, axis, -1)
        for i in np.ndindex(*lines.shape[:-1]):
            results[i] = fn(lines[i], **kw)
        return out

    return call


def _order(v, descending=False):
    # Python's sort is stable; NaN is the largest.
    return sorted(
        range(len(v)), key=lambda i: (bool(np.isnan(v[i])), 0 if np.isnan(v[i]) else v[i]), reverse=descending
    )


def _sorted(v, descending=False):
    return v[_order(v, descending)] if len(v) else v


def _arg(best):
    def first(v):
        nan = [i for i, a in enumerate(v) if np.isnan(a)]
        return nan[0] if nan else list(v).index(best(v))

    def call(x, *, axis=None, keepdims=False):
        if axis is None:
            return np.full((1,) * x.ndim if keepdims else (), first(x.ravel()))
        out = np.apply_along_axis(first, axis, x)
        return np.expand_dims(out, axis) if keepdims else out

    return call


def _reduce(fn):
    """By Python's loop over the elements of each cell."""

    def call(x, *, axis=None, keepdims=False):
        axes = _axes(axis, x.ndim)
        rest = [i for i in range(x.ndim) if i not in axes]
        flat = x.transpose(*rest, *axes).reshape(*(x.shape[i] for i in rest), math.prod(x.shape[i] for i in axes))
        found = [fn(flat[i]) for i in np.ndindex(*flat.shape[:-1])]
        out = np.array(found, None if found else x.dtype).reshape(flat.shape[:-1])
        return np.expand_dims(out, axes) if keepdims else out

    return call


def _diagonal(x):
    """The number of the diagonal that each element lies on."""
    return np.arange(x.shape[-1]) - np.arange(x.shape[-2])[:, None]


def _integer(d):
    return np.int64 if np.dtype(d).kind in "bui" else d


def _scatter(x, indices, values, *, axis):
    out = x.copy()
    for i in np.ndindex(*indices.shape):
        place = list(i)
        place[axis] = indices[i]
        out[tuple(place)] += values[i]
    return out


def _pad(x, widths, value=0):
    if not widths:
        return x
    out = np.pad(x, [(max(b, 0), max(a, 0)) for b, a in widths], constant_values=value)
    return out[tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(out.shape, widths, strict=True))]


def _first_nan(python):
    return lambda v: v.dtype.type(np.nan) if np.isnan(v).any() else python(v)


_np_dtype = dtypes.to_numpy_dtype
PLAIN = {
    "zeros": lambda *, shape, dtype: np.full(shape, 0, _np_dtype(dtype)),
    "ones": lambda *, shape, dtype: np.full(shape, 1, _np_dtype(dtype)),
    "full": lambda *, shape, value, dtype: np.array([value] * math.prod(shape), _np_dtype(dtype)).reshape(shape),
    "arange": lambda *, start, stop, step=1, dtype: np.array(
        [start + i * step for i in range(max(math.ceil((stop - start) / step), 0))], _np_dtype(dtype)
    ),
    "eye": lambda *, n, m=None, dtype: np.array([[i == j for j in range(m or n)] for i in range(n)], _np_dtype(dtype)),
    "zeros_like": lambda x, dtype=None: np.full_like(x, 0, None if dtype is None else _np_dtype(dtype)),
    "ones_like": lambda x, dtype=None: np.full_like(x, 1, None if dtype is None else _np_dtype(dtype)),
    "abs": lambda x: np.where(x < 0, -x, x) + 0,
    "negative": lambda x: 0 - x if x.dtype.kind == "i" else np.copysign(x, -np.copysign(1, x)),
    "sign": lambda x: (x > 0).astype(x.dtype) - (x < 0),
    "reciprocal": lambda x: 1 / x,
    "square": lambda x: x * x,
    "sqrt": lambda x: x**0.5 + np.where(x == -np.inf, np.nan, 0).astype(x.dtype),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sigmoid": scipy.special.expit,
    "erf": scipy.special.erf,
    "erfinv": scipy.special.erfinv,
    "expm1": lambda x: 2 * np.sinh(x / 2) * np.exp(x / 2) if x.size and np.abs(x).max() < 99 else np.expm1(x),
    "log2": lambda x: (np.log(x) / np.log(2)).astype(x.dtype),
    "atan2": lambda x, y: np.vectorize(math.atan2, [np.result_type(x, y)])(x, y),
    "round": np.round,
    "trunc": np.fix,
    "isnan": lambda x: x != x,
    "isinf": lambda x: abs(x) == np.inf,
    "isfinite": lambda x: ~(np.isnan(x) | np.isinf(x)),
    "logical_not": lambda x: x == 0,
    "bitwise_not": lambda x: ~x,
    "astype": lambda x, dtype: np.array(x, _np_dtype(dtype)),
    "remainder": lambda x, y: x - y * np.floor_divide(x, y),
    "maximum": lambda x, y: np.where(np.isnan(x), x, np.where((x > y), x, y)),
    "minimum": lambda x, y: np.where(np.isnan(x), x, np.where((x < y), x, y)),
    "logaddexp": lambda x, y: np.where(x == y, x + math.log(2), np.maximum(x, y) + np.log1p(np.exp(-abs(x - y)))),
    "logical_and": lambda x, y: (np.not_equal(x, 0) * np.not_equal(y, 0)),
    "logical_or": lambda x, y: (np.not_equal(x, 0) + np.not_equal(y, 0)),
    "logical_xor": lambda x, y: np.not_equal(x, 0) != np.not_equal(y, 0),
    "where": lambda c, x, y: np.choose(c, np.broadcast_arrays(*(np.asarray(a, np.result_type(x, y)) for a in (y, x)))),
    "sum": _reduce(lambda v: v.astype(_integer(v.dtype)).cumsum()[-1] if v.size else v.sum()),
    "prod": _reduce(lambda v: v.astype(_integer(v.dtype)).cumprod()[-1] if v.size else v.prod()),
    "amax": _reduce(_first_nan(max)),
    "amin": _reduce(_first_nan(min)),
    "any": _reduce(any),
    "all": _reduce(all),
    "mean": _reduce(lambda v: v.dtype.type(v.astype(np.float64).sum() / v.size)),
    "logsumexp": _reduce(lambda v: v.dtype.type(np.logaddexp.reduce(v.astype(np.float64)))),
    "argmax": _arg(max),
    "argmin": _arg(min),
    "cumsum": _along(lambda v: list(itertools.accumulate(v.astype(_integer(v.dtype)))), _integer),
    "cumprod": _along(lambda v: list(itertools.accumulate(v.astype(_integer(v.dtype)), lambda a, b: a * b)), _integer),
    "sort": _along(_sorted),
    "argsort": _along(_order, lambda d: np.int64),
    "matmul": lambda x, y: x.dot(y) if x.ndim < 3 and y.ndim < 3 else x @ y,
    "einsum": lambda *arrays, equation: np.einsum(equation, *arrays),
    "transpose": lambda x, axes: np.moveaxis(x, axes, range(x.ndim)),
    "broadcast_to": lambda x, shape: x + np.zeros(shape, x.dtype),
    "expand_dims": lambda x, axis: x.reshape(np.expand_dims(x, axis).shape),
    "squeeze": lambda x, axis: x.reshape([n for i, n in enumerate(x.shape) if i not in _axes(axis, x.ndim)]),
    "concat": lambda *arrays, axis: np.concatenate(arrays, axis),
    "stack": lambda *arrays, axis: np.concatenate([np.expand_dims(a, axis) for a in arrays], axis),
    "flip": lambda x, axis: x[tuple(slice(None, None, -1 if i in _axes(axis, x.ndim) else 1) for i in range(x.ndim))],
    "roll": lambda x, shift, axis: np.take(x, (np.arange(x.shape[axis]) - shift) % x.shape[axis], axis),
    "pad": _pad,
    "repeat": lambda x, repeats, axis: np.take(x, np.arange(x.shape[axis] * repeats) // max(repeats, 1), axis),
    "tril": lambda x, k=0: np.where(_diagonal(x) <= k, x, np.zeros((), x.dtype)),
    "triu": lambda x, k=0: np.where(_diagonal(x) >= k, x, np.zeros((), x.dtype)),
    "windows": _windows,
    "fold": lambda x, **statics: _fold(x, **statics).astype(x.dtype),
    "getitem": lambda x, *indices, key: x[_fill(key, indices)],
    "put": _put,
    "add_at": lambda *args, key: _put(*args, key=key, add=True),
    "take": lambda x, indices, axis: x[(slice(None),) * (axis % x.ndim) + (indices,)],
    "take_along_axis": lambda x, indices, axis: np.take_along_axis(x, indices, axis),
    "scatter_add": _scatter,
}  # fmt: skip
#: Where NumPy has the function, its own name is the plain expression; PyTorch is then the independent witness.
for _name in NAMESPACE:
    PLAIN.setdefault(_name, getattr(np, _name, None))


# --- running a case ---


@pytest.fixture(params=ENGINES)
def engine(request):
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"the engine {request.param} is not installed")
    return request.param


@contextlib.contextmanager
def running(engine, d):
    """The backend for a dtype as the default one, inside its context."""
    backend = backend_class(engine)(dtype=d)
    with using_backend(backend), backend.context(), warnings.catch_warnings(), np.errstate(all="ignore"):
        yield backend


def run(backend: Backend, name, case, d):
    """The result as (NumPy array, gradloom dtype)."""
    args, statics = case.cast(d)
    args = [backend.from_numpy(a.copy()) if isinstance(a, np.ndarray) else a for a in args]
    before = [backend.to_numpy(a).copy() for a in args if isinstance(a, backend.array_types)]
    out = getattr(backend.xp, name)(*args, **statics)
    assert isinstance(out, backend.array_types), f"{name}{case} gave a {type(out)}"
    # Reading the shape off the engine's own array: to_numpy must not be what gives it.
    result, given = backend.to_numpy(out), backend.dtype_of(out)
    assert tuple(out.shape) == result.shape
    assert out.ndim == result.ndim
    assert backend.xp.dtype(out) is given
    after = [backend.to_numpy(a) for a in args if isinstance(a, backend.array_types)]
    for b, a in zip(before, after, strict=True):
        np.testing.assert_array_equal(b, a, err_msg=f"{name}{case} changed its argument")
    return result, given


def public(engine, d):
    """The dtype as the engine names it: JAX has int64 for int32."""
    return dtypes.int64 if engine == "jax" and d is dtypes.int32 else d


def tolerance(engine, name, d):
    for key in ((engine, name, d), (engine, name, None)):
        if key in LESS_EXACT:
            return LESS_EXACT[key]
    return TOLERANCE[d]


def check(name, case, result, expected, rtol, atol):
    expected = np.asarray(expected)
    assert result.shape == expected.shape, f"{name}{case}: shape {result.shape}, expected {expected.shape}"
    if expected.dtype.kind == "f":
        wide = np.float64
        np.testing.assert_allclose(
            result.astype(wide), expected.astype(wide), rtol=rtol, atol=atol, err_msg=f"{name}{case}"
        )
    else:
        np.testing.assert_array_equal(result, expected, err_msg=f"{name}{case}")


# --- the tests ---


def test_every_name_has_samples():
    assert set(SAMPLES) == set(NAMESPACE)
    assert [name for name, found in SAMPLES.items() if len(found) < 3] == []  # several each
    assert [name for name in NAMESPACE if PLAIN[name] is None] == []


def _parameters(text):
    """(name, kind, default) of parameters that are given as source."""
    a = ast.parse(f"def f({text}): pass").body[0].args
    found = [(p.arg, "POSITIONAL_OR_KEYWORD", None) for p in a.args]
    found += [(a.vararg.arg, "VAR_POSITIONAL", None)] if a.vararg else []
    for p, default in zip(a.kwonlyargs, a.kw_defaults, strict=True):
        found.append((p.arg, "KEYWORD_ONLY", None if default is None else ast.unparse(default)))
    return found


def test_an_engine_has_every_name_and_its_parameters(engine):
    xp = backend_class(engine).xp
    assert [name for name in NAMESPACE if not callable(getattr(xp, name, None))] == []
    assert {n for n in vars(xp) if not n.startswith("_")} - set(NAMESPACE) == {"dtype"}
    for name, text in NAMESPACE.items():
        fn = getattr(xp, name)
        if inspect.isfunction(fn) and fn.__module__.startswith("gradloom."):  # else the samples show its keywords
            given = [
                (p.name, p.kind.name, None if p.default is p.empty else repr(p.default))
                for p in inspect.signature(fn).parameters.values()
            ]
            assert given == _parameters(text), f"{engine}: {name}"


@pytest.mark.parametrize("name", NAMESPACE)
def test_numpy_against_plain_expressions(name):
    for case in SAMPLES[name]:
        for d in case.dtypes:
            args, statics = case.cast(d)
            with running("numpy", d) as backend:
                result, given = run(backend, name, case, d)
                expected = np.asarray(PLAIN[name](*args, **statics))
            assert given is dtypes.dtype(expected.dtype), f"{name}{case}"
            check(name, case, result, expected, *TOLERANCE[d])


@pytest.mark.parametrize("name", NAMESPACE)
@pytest.mark.parametrize("engine", [e for e in ENGINES if e != "numpy"], indirect=True)
def test_engine_against_numpy(engine, name):
    for i, case in enumerate(SAMPLES[name]):
        for d in case.dtypes:
            if engine == "jax" and d == "float64" and i % 3:
                continue  # JAX compiles for each shape and dtype; a third of them is enough
            with running("numpy", d) as numpy:
                expected, wanted = run(numpy, name, case, d)
            with running(engine, d) as backend:
                result, given = run(backend, name, case, d)
            assert given is public(engine, wanted), f"{name}{case}: {given}, expected {wanted}"
            check(name, case, result, expected, *tolerance(engine, name, d))


HALF = [
    n for n, p in NAMESPACE.items() if p in ("x", "x, y") and n not in ("bitwise_not", "matmul") and "bitwise" not in n
]


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_stays(engine, half):
    """Functions of floats keep float16 and bfloat16, to the precision that these have."""
    if (engine, half) == ("numpy", "bfloat16"):
        pytest.skip("NumPy's bfloat16 is the package ml_dtypes', which lacks functions")
    eps = dtypes.finfo(half).eps
    with running(engine, "float32") as backend:
        xp = backend.xp
        for name in [*HALF, "sum", "mean", "amax", "logsumexp", "cumsum", "sort"]:
            x = np.array([0.25, 0.5, 0.75]) + (1 if name == "acosh" else 0)
            arrays = [xp.astype(backend.from_numpy(x.astype(np.float32)), dtype=half)]
            arrays += [xp.astype(backend.from_numpy(np.float32([0.5, 0.25, 1])), dtype=half)] * ("y" in NAMESPACE[name])
            statics = {"axis": 0} if "axis" in NAMESPACE[name] else {}
            out = getattr(xp, name)(*arrays, **statics)
            with running("numpy", "float32") as numpy:
                exact = getattr(numpy.xp, name)(*[backend.to_numpy(a).astype(np.float32) for a in arrays], **statics)
            wanted = dtypes.bool_ if exact.dtype == bool else dtypes.dtype(half)
            assert backend.dtype_of(out) is wanted, name
            np.testing.assert_allclose(
                backend.to_numpy(out).astype(np.float64), exact, rtol=4 * eps, atol=eps, err_msg=name
            )


def test_a_python_scalar_is_weak(engine):
    """A Python float as the other operand changes no dtype."""
    names = [n for n, p in NAMESPACE.items() if p == "x, y" and not n.startswith("bitwise") and n != "matmul"]
    for d in ("float16", "float32", "float64"):
        with running(engine, "float64" if d == "float64" else "float32") as backend:
            x = backend.xp.astype(backend.from_numpy(np.array([1.5, 0.5, 2.0], np.float32)), dtype=d)
            for name in names:
                for args in ((x, 1.5), (1.5, x), (x, 2), (2, x)):
                    given = backend.dtype_of(getattr(backend.xp, name)(*args))
                    assert given in (dtypes.dtype(d), dtypes.bool_), (name, args)


def test_results_are_values(engine):
    """flip, put, add_at, pad and sort give arrays of their own: a later write to x does not show."""
    backend = backend_class(engine)()
    if not backend.mutable:
        pytest.skip(f"arrays of {engine} cannot be written")
    xp = backend.xp
    makers = {
        "flip": lambda x: xp.flip(x, axis=0),
        "put": lambda x: xp.put(x, 1.0, key=(0,)),
        "add_at": lambda x: xp.add_at(x, 1.0, key=(0,)),
        "pad": lambda x: xp.pad(x, widths=((0, 0), (0, 0))),
        "sort": lambda x: xp.sort(x),
        "roll": lambda x: xp.roll(x, shift=1, axis=0),
        "repeat": lambda x: xp.repeat(x, repeats=1, axis=0),
        "sum": lambda x: xp.sum(x, axis=()),
        "take": lambda x: xp.take(x, backend.from_numpy(np.array([0, 1])), axis=0),
    }
    for name, make in makers.items():
        x = backend.from_numpy(M.astype(np.float32))
        out = make(x)
        before = backend.to_numpy(out).copy()
        x[...] = 77.0
        np.testing.assert_array_equal(backend.to_numpy(out), before, err_msg=name)


def test_torch_autograd_goes_through():
    """Functions of PyTorch are differentiable by PyTorch itself, and change no argument in place."""
    torch = pytest.importorskip("torch")
    xp = backend_class("torch").xp
    index = torch.tensor([1, 0, 1])
    two = {"size": (2,), "stride": (1,), "dilation": (1,)}
    functions = [
        lambda x: xp.fold(xp.windows(x, **two), shape=(2, 3), **two),
        lambda x: xp.windows(x, size=(2, 2), stride=(1, 1), dilation=(1, 1)),
        lambda x: xp.put(x, x[0] * 2, key=(1,)),
        lambda x: xp.add_at(x, x[:1] * 2, index, key=(INDEX,)),
        lambda x: xp.add_at(x, x[:, :1] * 2, index, key=(slice(None, None, -1), INDEX)),
        lambda x: xp.add_at(x, x[0] * 2, key=(1, slice(None, None, -1))),
        lambda x: xp.getitem(x, index, key=(slice(None), INDEX)),
        lambda x: xp.maximum(x, 0),
        lambda x: xp.prod(x, axis=(0, 1)),
        lambda x: xp.scatter_add(x, torch.tensor([[0, 0, 1]]), x[:1] * 3, axis=0),
        lambda x: xp.logsumexp(x, axis=None),
        lambda x: xp.pad(x, widths=((1, -1), (0, 2)), value=1.0),
    ]  # fmt: skip
    x = torch.tensor(M, dtype=torch.float64, requires_grad=True)
    for fn in functions:
        assert torch.autograd.gradcheck(fn, (x,))
    assert not xp.matmul(x.detach(), x.detach().T).requires_grad
