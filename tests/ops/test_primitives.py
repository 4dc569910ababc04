"""The primitive ops: samples of every one, held against central differences, PyTorch, and their declared parameters."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import gradloom.dtypes as dt
from gradloom import ops
from gradloom.backends.numpy import xp as NUMPY
from gradloom.backends.torch import xp as TORCH
from gradloom.errors import OptionError, ShapeError
from gradloom.ops import activations, creation, elementwise, indexing, layout, linalg, operators, reduce
from gradloom.ops.namespace import INDEX, NAMESPACE
from gradloom.ops.op import REGISTRY
from ops.check import TOLERANCE, check_dtype, check_torch, check_vjp, forward, is_float, vjps

FAMILIES = [activations, creation, elementwise, indexing, layout, linalg, operators, reduce]
INF, NAN = math.inf, math.nan


@dataclass
class Sample:
    """Operands and attributes of a call.

    Attributes:
        reference: PyTorch's function of the operands; None where it has none.
        smooth: The vjps can be held against central differences (no tie, kink, infinity or NaN).
    """

    args: tuple
    attrs: dict = field(default_factory=dict)
    reference: Callable | None = None
    smooth: bool = True


SAMPLES: dict[str, list[Sample]] = {}


def add(name: str, *args: Any, ref: Callable | None = None, smooth: bool = True, **attrs: Any) -> None:
    """Adds a sample of an op; lists become float64 arrays."""
    arrays = tuple(np.asarray(a, "float64") if isinstance(a, list | np.floating) else a for a in args)
    SAMPLES.setdefault(name, []).append(Sample(arrays, attrs, ref, smooth))


def normal(*shape: int) -> np.ndarray:
    """Normal numbers, the same for a shape; no two are equal and none is near 0."""
    x = np.random.default_rng([7, *shape]).standard_normal(shape)
    return np.asarray(x + 0.05 * np.sign(x))


def positive(*shape: int) -> np.ndarray:
    return np.abs(normal(*shape)) + 0.1


def inside(*shape: int) -> np.ndarray:
    """Numbers in (-1, 1)."""
    return np.tanh(normal(*shape))


def ints(*shape: int, n: int = 3) -> np.ndarray:
    """Integers from 0 to n - 1."""
    return np.random.default_rng([11, *shape]).integers(0, n, shape)


def bools(*shape: int) -> np.ndarray:
    return np.asarray(normal(*shape) > 0)


# --- creation ---

for name in ("zeros", "ones"):
    add(name, shape=(2, 3), dtype=dt.float32, ref=lambda name=name: getattr(torch, name)(2, 3))
add("full", shape=(2,), value=3, dtype=dt.int64, ref=lambda: torch.full((2,), 3))
add("full", shape=(), value=INF, dtype=dt.float64, ref=lambda: torch.full((), INF, dtype=torch.float64))
add("arange", start=2, stop=9, step=3, dtype=dt.int64, ref=lambda: torch.arange(2, 9, 3))
add("arange", start=3, stop=0, step=-1, dtype=dt.float32, ref=lambda: torch.arange(3, 0, -1, dtype=torch.float32))
add("eye", n=2, m=3, dtype=dt.float32, ref=lambda: torch.eye(2, 3))
add("eye", n=2, dtype=dt.int32, ref=lambda: torch.eye(2, dtype=torch.int32))
for name in ("zeros_like", "ones_like"):
    add(name, normal(2, 3), ref=getattr(torch, name))
    add(name, normal(2, 3), dtype=dt.int32, ref=lambda x, name=name: getattr(torch, name)(x, dtype=torch.int32))

# --- one operand ---

DOMAINS = {"sqrt": positive, "rsqrt": positive, "log": positive, "log2": positive, "log1p": positive}
DOMAINS |= {"asin": inside, "acos": inside, "atanh": inside, "erfinv": inside, "acosh": lambda *s: 1.1 + positive(*s)}
for name in (
    "abs", "negative", "sign", "reciprocal", "square", "sqrt", "rsqrt", "exp", "expm1", "log", "log1p", "log2",
    "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "sigmoid",
    "erf", "erfinv", "floor", "ceil", "round", "trunc", "isnan", "isinf", "isfinite", "logical_not",
):  # fmt: skip
    reference = {"erf": torch.special.erf, "erfinv": torch.special.erfinv}.get(name) or getattr(torch, name)
    domain = DOMAINS.get(name, normal)
    add(name, domain(3, 4), ref=reference)
    add(name, domain(), ref=reference)
    # The edges: zeros, infinities, NaN, and a number halfway between two integers. PyTorch's sign(NaN) is 0, not NaN.
    edges = [0.0, 1.0, -1.0, 2.5, INF, -INF] + [NAN] * (name not in ("abs", "sign"))
    add(name, edges, ref=reference, smooth=False)
add("sigmoid", [-800.0, -40.0, 40.0, 800.0], ref=torch.sigmoid)
add("logical_not", bools(4), ref=torch.logical_not)
add("bitwise_not", ints(4), ref=torch.bitwise_not)
add("bitwise_not", bools(4), ref=torch.bitwise_not)
add("abs", ints(4) - 1, ref=torch.abs)
add("astype", normal(3), dtype=dt.int32, ref=lambda x: x.to(torch.int32), smooth=False)
add("astype", normal(3), dtype=dt.float64, ref=lambda x: x.to(torch.float64))
add("astype", bools(3), dtype=dt.float32, ref=lambda x: x.to(torch.float32))

# --- two and three operands ---

for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "atan2", "logaddexp", "remainder"):
    reference = getattr(torch, name)
    add(name, normal(3, 4), normal(4) + 0.3, ref=reference)
    add(name, normal(3, 1), normal(2, 1, 4) + 0.3, ref=reference)
    add(name, normal(3), normal() + 0.3, ref=reference)
    add(name, [0.0, 1.0, -1.0, 2.0, NAN, 1.0], [0.0, 1.0, 2.0, -3.0, 1.0, NAN], ref=reference, smooth=False)
for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "remainder", "pow"):
    # remainder's quotient must not be an integer, pow's base not negative.
    add(
        name,
        positive(3) + 0.01,
        1.5,
        ref=lambda x, y, name=name: getattr(torch, name)(
            x, y if name != "maximum" and name != "minimum" else torch.tensor(y, dtype=x.dtype)
        ),
    )
    if name in ("maximum", "minimum"):
        add(
            name,
            np.array([1.5, 2.0]),
            1.5,
            ref=lambda x, y, name=name: getattr(torch, name)(x, torch.tensor(y, dtype=x.dtype)),
            smooth=False,
        )
add("logaddexp", [INF, 800.0, -800.0, 1.0], [1.0, 800.0, 0.0, -INF], ref=torch.logaddexp, smooth=False)
add("logaddexp", normal(4), 0.0)
add("floor_divide", normal(3), normal(2, 1), ref=torch.floor_divide)
add("floor_divide", ints(4) - 2, ints(4) * 2 + 1, ref=torch.floor_divide)
add("remainder", ints(4) - 2, ints(4) - 4, ref=torch.remainder)
add("pow", positive(3, 4), normal(4), ref=torch.pow)
add("pow", normal(3), 3, ref=torch.pow)
add("pow", [0.0, 1.0, -2.0], 0, ref=torch.pow, smooth=False)
add("pow", [0.0, 1.0, -2.0], 2, ref=torch.pow)
add("pow", [0.0, 2.0], -1.0, ref=torch.pow, smooth=False)
add("pow", [0.0, 0.0, 0.0, 0.0, -2.0, 2.0], [0.0, 1.0, 2.0, -1.0, 2.0, 0.0], ref=torch.pow, smooth=False)
add("pow", 2, normal(3), ref=torch.pow)
add("pow", 0.0, [0.0, 1.0, 2.0, -1.0], ref=torch.pow, smooth=False)
add("atan2", [0.0, 0.0, 1.0, -0.0], [0.0, -1.0, 0.0, -0.0], ref=torch.atan2, smooth=False)
for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
    reference = getattr(torch, {"equal": "eq", "not_equal": "ne"}.get(name, name))
    add(name, [0.0, 1.0, NAN], [[0.0, 2.0, NAN], [1.0, 1.0, 1.0]], ref=reference)
    add(name, ints(4), 1, ref=reference)
for name in ("logical_and", "logical_or", "logical_xor"):
    add(name, bools(3), bools(2, 1), ref=getattr(torch, name))
    add(name, ints(3), ints(2, 1), ref=getattr(torch, name))
for name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    add(name, bools(3), bools(2, 1), ref=getattr(torch, name))
    add(name, ints(3), ints(2, 1), ref=getattr(torch, name))
add("where", bools(3, 4), normal(3, 4), normal(4), ref=torch.where)
add("where", bools(3, 1), normal(4), 0.0, ref=torch.where)
add("where", bools(3), 2, normal(), ref=torch.where)
add("masked_fill", normal(3, 4), bools(4), value=-INF, ref=lambda x, m: x.masked_fill(m, -INF), smooth=False)
add("masked_fill", normal(3, 4), bools(4), value=2.0, ref=lambda x, m: x.masked_fill(m, 2.0))
add("masked_fill", normal(4), bools(3, 1), value=0, ref=lambda x, m: torch.where(m, 0, x))

# --- activations ---

for low, high in ((-0.5, 0.5), (0, None), (None, 0.25), (1.0, -1.0), (-INF, INF)):
    add("clip", normal(3, 4), min=low, max=high, ref=lambda x, low=low, high=high: torch.clamp(x, low, high))
add("clip", normal(3))
add("clip", [0.0, 1.0, 0.5, NAN], min=0, max=1, ref=lambda x: torch.clamp(x, 0, 1), smooth=False)
ACTIVATIONS: dict[str, list[tuple[dict, Callable]]] = {
    "relu": [({}, F.relu)],
    "leaky_relu": [({}, F.leaky_relu), ({"negative_slope": 0.3}, lambda x: F.leaky_relu(x, 0.3))],
    "gelu": [
        ({}, F.gelu),
        ({"approximate": "none"}, F.gelu),
        ({"approximate": "tanh"}, lambda x: F.gelu(x, approximate="tanh")),
    ],
    "silu": [({}, F.silu)],
    "softplus": [({}, F.softplus), ({"beta": 2.0, "threshold": 1.0}, lambda x: F.softplus(x, 2.0, 1.0))],
    "elu": [({}, F.elu), ({"alpha": 0.5}, lambda x: F.elu(x, 0.5))],
}
for name, cases in ACTIVATIONS.items():
    for attrs, reference in cases:
        add(name, normal(3, 4), ref=reference, **attrs)
        add(name, [0.0, 1.0, -1.0, 30.0, -30.0, 800.0, -800.0], ref=reference, smooth=False, **attrs)

# --- reductions ---

AXES: list[Any] = [None, 0, -1, (0, 2), (1, -1)]


def reducing(fn: Callable, axis: Any, keepdims: bool, ndim: int = 3) -> Callable:
    """PyTorch's reduction over axes; those of PyTorch that take no None get all axes."""
    return lambda x: fn(x, dim=tuple(range(ndim)) if axis is None else axis, keepdim=keepdims)


def prod_of(x: torch.Tensor, dim: Any, keepdim: bool) -> torch.Tensor:
    for d in sorted((d % x.ndim for d in ((dim,) if isinstance(dim, int) else dim)), reverse=True):
        x = torch.prod(x, dim=d, keepdim=keepdim)
    return x


REDUCTIONS = {"sum": torch.sum, "mean": torch.mean, "prod": prod_of, "amax": torch.amax, "amin": torch.amin}
REDUCTIONS |= {"logsumexp": torch.logsumexp, "any": torch.any, "all": torch.all}
for name, reference in REDUCTIONS.items():
    for axis in AXES:
        for keepdims in (False, True):
            x = bools(2, 3, 2) if name in ("any", "all") else normal(2, 3, 2)
            add(name, x, axis=axis, keepdims=keepdims, ref=reducing(reference, axis, keepdims))
    add(
        name, bools() if name in ("any", "all") else normal(), ref=getattr(torch, name) if name != "logsumexp" else None
    )
add("sum", ints(4), ref=torch.sum)
add("sum", bools(4), ref=torch.sum)
add("sum", np.zeros((0, 3)), axis=0, ref=lambda x: torch.sum(x, 0))
add("mean", np.zeros((3, 0)), axis=0, ref=lambda x: torch.mean(x, 0))
add("any", ints(4), ref=torch.any)
add("prod", [2.0, 0.0, 3.0], ref=torch.prod)
add("prod", [[2.0, 0.0, 0.0], [1.0, 2.0, 3.0], [0.0, 4.0, 5.0]], axis=1, ref=lambda x: torch.prod(x, 1))
add("prod", np.zeros((2, 0)), axis=1, ref=lambda x: torch.prod(x, 1))
for name in ("amax", "amin"):
    reference = getattr(torch, name)
    add(name, [[1.0, 3.0, 3.0, 1.0], [2.0, 2.0, 2.0, 2.0]], axis=1, ref=lambda x, f=reference: f(x, 1), smooth=False)
    add(name, [1.0, NAN, 2.0], axis=0, ref=lambda x, f=reference: f(x, 0), smooth=False)
add("logsumexp", [[800.0, 801.0], [-INF, 1.0]], axis=1, ref=lambda x: torch.logsumexp(x, 1), smooth=False)
for axis in (None, 1, (0, 2)):
    for correction in (1, 0, 2):
        add(
            "var",
            normal(4, 3, 2),
            axis=axis,
            correction=correction,
            ref=lambda x, a=axis, c=correction: torch.var(x, a, correction=c),
        )
add("var", normal(4, 3), axis=0, keepdims=True, ref=lambda x: torch.var(x, 0, keepdim=True))
add("var", [[2.0]], axis=1, smooth=False)  # NaN, as in PyTorch, which warns
for order in (2, 1, INF, -INF, 0, 3, 2.5, 1.5, 0.5, -1):
    for axis, keepdims in ((None, False), (1, True), ((0, -1), False)):
        add(
            "norm",
            normal(2, 3, 2),
            ord=order,
            axis=axis,
            keepdims=keepdims,
            ref=(lambda x, o=order, a=axis, k=keepdims: torch.linalg.vector_norm(x, o, a, k)) if order else None,
        )
for order in (2, 1, INF, -INF, 3, 1.5):
    add(
        "norm",
        np.zeros((2, 2)),
        ord=order,
        axis=1,
        ref=lambda x, o=order: torch.linalg.vector_norm(x, o, 1),
        smooth=False,
    )
    add(
        "norm",
        [[0.0, 1.0, -1.0]],
        ord=order,
        axis=1,
        ref=lambda x, o=order: torch.linalg.vector_norm(x, o, 1),
        smooth=False,
    )
add("norm", normal(3), ref=torch.linalg.vector_norm)
for axis in (-1, 0, 1):
    add("softmax", normal(2, 3, 2), axis=axis, ref=lambda x, a=axis: torch.softmax(x, a))
    add("log_softmax", normal(2, 3, 2), axis=axis, ref=lambda x, a=axis: torch.log_softmax(x, a))
add("softmax", [800.0, 801.0, -INF], ref=lambda x: torch.softmax(x, 0), smooth=False)
add("log_softmax", [800.0, 801.0, -800.0], ref=lambda x: torch.log_softmax(x, 0), smooth=False)
add("softmax", normal(3))
add("log_softmax", normal(3))
for shape in ((2, 3, 2), (3, 1), (1, 3, 2), (2, 1, 1), (2,), (1,), (), (1, 1, 1)):
    add("sum_to", normal(2, 3, 2), shape=shape, ref=lambda x, s=shape: x.sum_to_size(s))

# --- along one axis ---

for name in ("argmax", "argmin"):
    reference = getattr(torch, name)
    add(name, normal(3, 4), ref=reference)
    add(name, normal(3, 4), axis=1, ref=lambda x, f=reference: f(x, 1))
    add(name, normal(3, 4), axis=0, keepdims=True, ref=lambda x, f=reference: f(x, 0, keepdim=True))
    add(name, [3.0, 1.0, 3.0, 1.0], ref=reference)
for name in ("max", "min"):
    reference = getattr(torch, name)
    for axis in (0, 1, -1):
        add(name, normal(2, 3, 4), axis=axis, ref=lambda x, f=reference, a=axis: f(x, a))
        add(name, normal(2, 3, 4), axis=axis, keepdims=True, ref=lambda x, f=reference, a=axis: f(x, a, keepdim=True))
    add(name, [[1.0, 3.0, 3.0, 1.0]], axis=1, ref=lambda x, f=reference: f(x, 1), smooth=False)
    add(name, [1.0, NAN, 2.0], axis=0, ref=lambda x, f=reference: f(x, 0), smooth=False)
for name in ("cumsum", "cumprod"):
    for axis in (0, 1, -1):
        add(name, normal(2, 3, 5), axis=axis, ref=lambda x, n=name, a=axis: getattr(torch, n)(x, a))
add(
    "cumprod",
    [[2.0, 0.0, 3.0, 4.0], [0.0, 0.0, 1.0, 2.0], [1.0, 2.0, 3.0, 0.0]],
    axis=1,
    ref=lambda x: torch.cumprod(x, 1),
)
add("cumprod", [2.0], axis=0, ref=lambda x: torch.cumprod(x, 0))
for descending in (False, True):
    for axis in (0, -1):
        add(
            "sort",
            normal(3, 4),
            axis=axis,
            descending=descending,
            ref=lambda x, a=axis, d=descending: torch.sort(x, stable=True, dim=a, descending=d).values,
        )
        add(
            "argsort",
            normal(3, 4),
            axis=axis,
            descending=descending,
            ref=lambda x, a=axis, d=descending: torch.argsort(x, stable=True, dim=a, descending=d),
        )
    tied = [2.0, 1.0, 2.0, 1.0, 3.0]
    add(
        "sort",
        tied,
        descending=descending,
        ref=lambda x, d=descending: torch.sort(x, stable=True, descending=d).values,
        smooth=False,
    )
    add("argsort", tied, descending=descending, ref=lambda x, d=descending: torch.argsort(x, stable=True, descending=d))
add("sort", normal(3), ref=lambda x: torch.sort(x).values)
add("argsort", normal(3), ref=torch.argsort)

# --- products ---

for left, right in (
    ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 2)),
    ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)), ((5, 1, 2, 3), (2, 3, 4)), ((1, 2, 3), (5, 3, 1)),
    ((2, 5, 2, 3), (3,)), ((2, 5, 2, 3), (3, 1)), ((2, 0), (0, 3)),
):  # fmt: skip
    add("matmul", normal(*left), normal(*right) * 0.5, ref=torch.matmul)
for equation, shapes in {
    "ij,jk->ik": [(2, 3), (3, 4)],
    "ij,kj->": [(2, 3), (4, 3)],
    "i,j->ij": [(2,), (3,)],
    "ij->ji": [(2, 3)],
    "ij->i": [(2, 3)],
    "ijk->": [(2, 3, 2)],
    "ii->i": [(3, 3)],
    "ii->": [(3, 3)],
    "iji->j": [(3, 2, 3)],
    "iii->i": [(2, 2, 2)],
    "iijj->ij": [(2, 2, 3, 3)],
    "ii,i->i": [(3, 3), (3,)],
    "bhqd,bhkd->bhqk": [(2, 2, 3, 2), (2, 2, 4, 2)],
    "bi,ijk,bk->bj": [(2, 3), (3, 4, 2), (2, 2)],
    "ij,k->i": [(2, 3), (4,)],
    "ij,ij->ij": [(2, 3), (2, 3)],
    "aBz,zB->a": [(2, 3, 2), (2, 3)],
    " ij , jk -> ik ": [(2, 3), (3, 2)],
    ",i->i": [(), (3,)],
}.items():
    add("einsum", *(normal(*s) for s in shapes), equation=equation, ref=lambda *x, e=equation: torch.einsum(e, *x))
for lead in ((), (2,), (5, 2), (2, 3, 2)):
    add("linear", normal(*lead, 3), normal(4, 3), normal(4), ref=F.linear)
    add("linear", normal(*lead, 3), normal(4, 3), ref=F.linear)
add("linear", normal(2, 3), normal(4, 3), None, ref=F.linear)
add("linear", normal(0, 3), normal(4, 3), normal(4), ref=F.linear)
add("outer", normal(3), normal(2), ref=torch.outer)
for offset in (-3, -2, -1, 0, 1, 2, 3, 4):
    add("diagonal", normal(3, 4), offset=offset, ref=lambda x, o=offset: torch.diagonal(x, o))
    add(
        "diagonal",
        normal(3, 2, 4),
        offset=offset // 2,
        axis1=0,
        axis2=-1,
        ref=lambda x, o=offset // 2: torch.diagonal(x, o, 0, -1),
    )
add("diagonal", normal(3, 4, 2), axis1=2, axis2=1, ref=lambda x: torch.diagonal(x, 0, 2, 1))
add("diagonal", normal(2, 2), ref=torch.diagonal)
add("trace", normal(3, 2), ref=torch.trace)

# --- layout ---

for shape in ((6,), (3, 2), (1, 2, 1, 3)):
    add("reshape", normal(2, 3), shape=shape, ref=lambda x, s=shape: x.reshape(s))
add("reshape", normal(), shape=(1, 1), ref=lambda x: x.reshape(1, 1))
add("transpose", normal(2, 3, 4), axes=(2, 0, 1), ref=lambda x: x.permute(2, 0, 1))
add("transpose", normal(2, 3), axes=(-1, 0), ref=lambda x: x.permute(-1, 0))
for shape in ((2, 3, 4), (5, 2, 3, 4), (2, 3, 1)):
    add("broadcast_to", normal(2, 3, 1), shape=shape, ref=lambda x, s=shape: x.broadcast_to(s))
add("broadcast_to", normal(), shape=(2, 2), ref=lambda x: x.broadcast_to(2, 2))
add("expand_dims", normal(2, 3), axis=-1, ref=lambda x: x.unsqueeze(-1))
add("expand_dims", normal(2, 3), axis=(0, 2), ref=lambda x: x[None, :, None])
add("squeeze", normal(2, 1, 3, 1), axis=1, ref=lambda x: x.squeeze(1))
add("squeeze", normal(2, 1, 3, 1), axis=(1, -1), ref=lambda x: x.squeeze((1, -1)))
for axis in (0, 1, -1):
    add("concat", normal(2, 3), normal(2, 3) + 1, normal(2, 3), axis=axis, ref=lambda *x, a=axis: torch.concat(x, a))
    add("stack", normal(2, 3), normal(2, 3) + 1, axis=axis, ref=lambda *x, a=axis: torch.stack(x, a))
add("concat", normal(2, 1), normal(2, 3), normal(2, 0), axis=-1, ref=lambda *x: torch.concat(x, -1))
add("flat", normal(2, 3), normal(4), normal(), ref=lambda *xs: torch.cat([x.reshape(-1) for x in xs]))
add("flat", normal(2, 1, 2), ref=torch.flatten)
add("flat", normal(2, 3).T, normal(2, 0), ref=lambda *xs: torch.cat([x.reshape(-1) for x in xs]))
for axis in (0, (0, 2), -1):
    add("flip", normal(2, 3, 2), axis=axis, ref=lambda x, a=axis: torch.flip(x, (a,) if isinstance(a, int) else a))
for shift in (1, -2, 7):
    add("roll", normal(2, 3), shift=shift, axis=1, ref=lambda x, s=shift: torch.roll(x, s, 1))
add("pad", normal(2, 3), widths=((1, 2), (0, 1)), ref=lambda x: F.pad(x, (0, 1, 1, 2)))
add("pad", normal(2, 3), widths=((0, 0), (2, -1)), value=3.5, ref=lambda x: F.pad(x, (2, -1), value=3.5))
add("pad", normal(4, 3), widths=((-1, -1), (-2, 4)), ref=lambda x: F.pad(x, (-2, 4, -1, -1)))
for axis in (0, 1, -1):
    add("repeat", normal(2, 3), repeats=3, axis=axis, ref=lambda x, a=axis: torch.repeat_interleave(x, 3, a))
for name in ("tril", "triu"):
    for k in (0, 1, -1, 5):
        add(name, normal(2, 3, 4), k=k, ref=lambda x, n=name, k=k: getattr(torch, n)(x, k))
    add(name, normal(3, 3), ref=getattr(torch, name))


def windows_by_unfold(x: torch.Tensor, size: tuple, stride: tuple, dilation: tuple) -> torch.Tensor:
    first = x.ndim - len(size)
    for i, (s, t, d) in enumerate(zip(size, stride, dilation, strict=True)):
        x = x.unfold(first + i, d * (s - 1) + 1, t)[..., ::d]
    return x


for shape, size, stride, dilation in (
    ((2, 7), (3,), (1,), (1,)),
    ((2, 8), (3,), (2,), (1,)),
    ((9,), (2,), (3,), (2,)),
    ((2, 5, 6), (2, 3), (1, 2), (2, 1)),
    ((4, 4, 5), (2, 2, 2), (2, 1, 3), (1, 2, 1)),
):
    options: dict[str, Any] = {"size": size, "stride": stride, "dilation": dilation}
    add("windows", normal(*shape), ref=lambda x, o=options: windows_by_unfold(x, **o), **options)
    cut = windows_by_unfold(torch.tensor(normal(*shape)), **options)
    add(
        "fold",
        normal(*cut.shape),
        shape=shape,
        ref=lambda x, s=shape, o=options: torch.func.vjp(lambda y: windows_by_unfold(y, **o), x.new_zeros(s))[1](x)[0],
        **options,
    )

# --- indexing ---

NEW = None
for key in (
    (0,),
    (slice(1, 3),),
    (..., -1),
    (slice(None, None, 2), NEW, 1),
    (),
    (..., slice(0, 0)),
    (1, 2, 0),
    (..., NEW),
):
    add("getitem", normal(3, 4, 2), key=key, ref=lambda x, k=key: x[k])
    value = np.ones(normal(3, 4, 2)[key].shape) * 0.5
    add("put", normal(3, 4, 2), value, key=key)
    add("add_at", normal(3, 4, 2), value, key=key)
for key, indices in (
    ((INDEX,), (ints(4),)),
    ((INDEX, slice(1, 3)), (ints(2, 2),)),
    ((slice(None), INDEX), (ints(5),)),
    ((INDEX, INDEX), (ints(4), ints(4, n=4))),
    ((INDEX, slice(None), INDEX), (ints(3, 1), ints(2, n=2))),
    ((..., INDEX, NEW), (ints(3, n=2),)),
    ((INDEX,), (bools(3),)),
    ((INDEX,), (bools(3, 4),)),
    ((INDEX,), (bools(3, 4, 2),)),
    ((slice(None), INDEX), (bools(4),)),
    ((INDEX,), (np.array(1),)),
):

    def filled(key, indices):
        rest = iter(indices)
        return tuple(next(rest) if k is INDEX else k for k in key)

    add("getitem", normal(3, 4, 2), *indices, key=key, ref=lambda x, *i, k=key: x[filled(k, i)])
    shape = normal(3, 4, 2)[filled(key, indices)].shape
    add(
        "add_at", normal(3, 4, 2), normal(*shape), *indices, key=key,
        ref=lambda x, v, *i, k=key: x + torch.func.vjp(lambda y: y[filled(k, i)], x)[1](v)[0],
    )  # fmt: skip
    if all(i.dtype == bool for i in indices):
        add("put", normal(3, 4, 2), normal(*shape), *indices, key=key)
add("put", normal(3, 4), normal(4), np.array([2, 0]), key=(INDEX,), ref=lambda x, v, i: x.index_put((i,), v))
add("put", normal(3, 4), normal(2, 1), np.array([2, 0]), key=(INDEX,), ref=lambda x, v, i: x.index_put((i,), v))
add("put", normal(3, 4), 0.5, np.array([2, 0]), key=(INDEX,))
add("put", normal(3, 4), normal(), bools(3, 4), key=(INDEX,), ref=lambda x, v, m: x.index_put((m,), v))
add("put", normal(3, 4), 2, key=(slice(1, None),))
add(
    "add_at",
    normal(3, 4),
    normal(4),
    np.array([2, 0, 2]),
    key=(INDEX,),
    ref=lambda x, v, i: x.index_put((i,), v, accumulate=True),
)
add("add_at", normal(3, 4), 1.5, np.array([2, 0, 2]), key=(INDEX,))
for axis in (0, 1, -1):
    add("take", normal(3, 4, 3), ints(5), axis=axis, ref=lambda x, i, a=axis: torch.index_select(x, a, i))
    add("take", normal(3, 4, 3), ints(2, 3), axis=axis)
    add("take", normal(3, 4, 3), np.array(1), axis=axis)
add("take", normal(3, 4, 3), ints(2, 3), axis=1, ref=lambda x, i: x[:, i])
for axis, shape in ((0, (5, 4)), (1, (3, 2)), (-1, (3, 6))):
    add("take_along_axis", normal(3, 4), ints(*shape), axis=axis, ref=lambda x, i, a=axis: torch.gather(x, a, i))
    add(
        "scatter_add",
        normal(3, 4),
        ints(*shape),
        normal(*shape),
        axis=axis,
        ref=lambda x, i, v, a=axis: torch.scatter_add(x, a, i, v),
    )
add("embedding", normal(5, 3), ints(2, 4, n=5), ref=lambda w, i: F.embedding(i, w))
add("embedding", normal(5, 3), np.array(2), ref=lambda w, i: F.embedding(i, w))
for padding in (1, -1):
    indices = np.array([[0, 1, 4], [4, 1, 1]])
    add(
        "embedding",
        normal(5, 3),
        indices,
        padding_idx=padding,
        ref=lambda w, i, p=padding: F.embedding(i, w, p),
        smooth=False,
    )
add("one_hot", ints(2, 3), classes=4, dtype=dt.int64, ref=lambda i: F.one_hot(i, 4))
add("one_hot", np.array([-1, 1, 7]), classes=3, dtype=dt.float32)


NAMES = sorted(n for n, record in REGISTRY.items() if record.forward.__module__ in {f.__name__ for f in FAMILIES})
CASES = [pytest.param(n, s, id=f"{n}-{i}") for n in NAMES for i, s in enumerate(SAMPLES.get(n, []))]


@pytest.fixture(autouse=True)
def _quiet():
    """Infinities and NaN are among the samples; NumPy need not warn of them."""
    with np.errstate(all="ignore"):
        yield


@pytest.mark.parametrize("name", NAMES)
def test_op_has_samples_and_a_docstring(name):
    assert name in SAMPLES, f"add samples for {name} to this file"
    assert inspect.getdoc(getattr(ops, name))


def test_samples_are_of_ops():
    assert set(SAMPLES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_float_arguments_have_vjps(name):
    record = REGISTRY[name]
    covered = {i for v in record.vjps for i in v.covers}
    for sample in SAMPLES[name]:
        if record.differentiable:
            assert all(record.argument(i) in covered for i, a in enumerate(sample.args) if is_float(a))


@pytest.mark.parametrize(("name", "sample"), [case for case in CASES if case.values[1].smooth])
def test_vjp_against_central_differences(name, sample):
    check_vjp(REGISTRY[name], sample.args, sample.attrs)


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_float32_stays_float32(name, sample):
    check_dtype(REGISTRY[name], sample.args, sample.attrs)


@pytest.mark.parametrize(("name", "sample"), [case for case in CASES if case.values[1].reference])
def test_against_torch(name, sample):
    check_torch(REGISTRY[name], sample.args, sample.attrs, sample.reference)


# --- views ---

VIEWS = [case for case in CASES if REGISTRY[case.values[0]].put and not case.values[1].args[1:]]


@pytest.mark.parametrize(("name", "sample"), VIEWS)
def test_put_writes_through_the_view(name, sample):
    record, (base,) = REGISTRY[name], sample.args
    view = forward(record, sample.args, sample.attrs)[0]
    value = np.arange(view.size, dtype=base.dtype).reshape(view.shape) + 100
    if name == "broadcast_to" and view.size != base.size:
        with pytest.raises(ShapeError, match="cannot write to a broadcast view"):
            record.put(NUMPY, base, value, **sample.attrs)
        return
    written = record.put(NUMPY, base, value, **sample.attrs)
    assert written.shape == base.shape
    np.testing.assert_array_equal(forward(record, (written,), sample.attrs)[0], value)
    untouched = np.setdiff1d(base, view)
    assert np.isin(untouched, written).all()
    assert written.size == value.size + untouched.size


# --- the namespace ---


def test_ops_xp_has_the_names_of_the_namespace():
    assert set(vars(ops.xp)) == {*NAMESPACE, "dtype"}


@pytest.mark.parametrize("name", NAMESPACE)
def test_parameters_are_those_of_the_namespace(name):
    fn = getattr(ops.xp, name)
    assert fn is getattr(ops, name)
    assert str(inspect.signature(fn)) == f"({NAMESPACE[name]})"


def test_dtype_of_arrays():
    assert ops.dtype(np.zeros(2, "float16")) is dt.float16
    with pytest.raises(TypeError, match="not an array"):
        ops.dtype([1, 2])


def test_errors_name_the_options():
    with pytest.raises(OptionError, match="'none' or 'tanh'"):
        ops.gelu(normal(3), approximate="fast")


# --- through dispatch, on NumPy ---


def test_public_functions_promote():
    assert ops.add(np.ones(2, "int64"), np.ones(2, "float32")).dtype == "float32"
    assert ops.add(np.ones(2, "float32"), np.ones((), "float64")).dtype == "float32"
    assert ops.exp(np.ones(2, "int32")).dtype == "float32"
    assert ops.mean(np.ones(2, "bool")).dtype == "float32"
    assert ops.where(np.ones(2, "bool"), np.ones(2, "int32"), 0.5).dtype == "float32"
    assert ops.subtract(1, np.ones(2, "float16")).dtype == "float16"


def test_max_gives_two_results():
    values, indices = ops.max(np.array([[1.0, 3.0], [5.0, 2.0]]), axis=1)
    assert values.tolist() == [3.0, 5.0]
    assert indices.tolist() == [1, 0]


# --- gradients of gradients ---

AGAIN = [case for case in CASES if case.values[1].smooth and case.values[1].reference]
AGAIN = [c for c in AGAIN if REGISTRY[c.values[0]].differentiable and any(is_float(a) for a in c.values[1].args)]


@pytest.mark.parametrize(("name", "sample"), AGAIN)
def test_gradient_of_the_gradient_against_torch(name, sample):
    """PyTorch's autograd through a vjp's body gives PyTorch's second derivatives: no body cuts or blurs a gradient."""
    record = REGISTRY[name]

    def tensors():
        return tuple(
            torch.tensor(a, requires_grad=is_float(a)) if isinstance(a, np.ndarray) else a for a in sample.args
        )

    def derivatives_of(gradients, inputs):
        rng = torch.Generator().manual_seed(0)
        total = sum((d * torch.randn(d.shape, generator=rng, dtype=d.dtype)).sum() for d in gradients)
        if not total.requires_grad:
            return [torch.zeros_like(x) for x in inputs]
        return torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True)

    x, y = tensors(), tensors()
    floats = [i for i, a in enumerate(x) if isinstance(a, torch.Tensor) and a.requires_grad]
    expected = sample.reference(*x)
    expected = expected if isinstance(expected, torch.Tensor) else expected[0]
    if not expected.is_floating_point():
        return
    g = torch.randn(
        expected.shape, generator=torch.Generator().manual_seed(1), dtype=expected.dtype, requires_grad=True
    )
    inputs = [x[i] for i in floats]
    first = torch.autograd.grad(expected, inputs, g, create_graph=True, allow_unused=True, materialize_grads=True)
    second = derivatives_of(first, [*inputs, g])

    g = g.detach().requires_grad_()
    found = vjps(record, y, sample.attrs, forward(record, y, sample.attrs, TORCH), g, TORCH)
    for d, e in zip(derivatives_of([found[i] for i in floats], [*(y[i] for i in floats), g]), second, strict=True):
        np.testing.assert_allclose(d.numpy(force=True), e.numpy(force=True), **TOLERANCE)
