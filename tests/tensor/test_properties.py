"""Binary operations on operands of random dtypes and shapes: what comes out is what PyTorch gives."""

import operator

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import gradloom as gl

torch = pytest.importorskip("torch")

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]

# A name that both have -> dtypes of an operand that are left out: PyTorch refuses them, or the result is open.
BOTH = {
    "add": (), "mul": (), "maximum": (), "minimum": (), "eq": (), "ne": (), "lt": (), "le": (), "gt": (), "ge": (),
    "logical_and": (), "logical_or": (), "logical_xor": (), "sub": ("bool",), "true_divide": (), "atan2": (),
    "remainder": ("bool",), "floor_divide": ("bool",), "pow": ("bool",),
}  # fmt: skip
OPERATORS = [operator.add, operator.mul, operator.truediv, operator.lt, operator.ge, operator.eq, operator.ne]
BITS = [operator.and_, operator.or_, operator.xor]
SCALARS = st.one_of(st.booleans(), st.integers(1, 5), st.sampled_from([0.5, 1.25, 3.0]))


def values(shape, dtype, seed):
    """Numbers from 1 to 5: no division by 0, no overflow of 8 bits in a sum or a product."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 2, shape) if dtype == "bool" else rng.integers(1, 6, shape)).astype(dtype)


def same(mine, theirs):
    assert tuple(mine.shape) == tuple(theirs.shape)
    assert mine.dtype.name == str(theirs.dtype).removeprefix("torch.")
    rtol = {"float16": 2e-3, "float32": 1e-6}.get(mine.dtype.name, 1e-12)
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=rtol)


def pairs(dtypes=DTYPES):
    """Two arrays of any of the dtypes, in shapes that broadcast."""
    shapes = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3, min_side=0)
    return st.builds(
        lambda shapes, a, b, seed: (
            np.asarray(values(shapes.input_shapes[0], a, seed)),
            np.asarray(values(shapes.input_shapes[1], b, seed + 1)),
        ),
        shapes, st.sampled_from(dtypes), st.sampled_from(dtypes), st.integers(0, 99),
    )  # fmt: skip


@settings(max_examples=400)
@given(st.sampled_from(sorted(BOTH)), pairs())
def test_functions(name, operands):
    a, b = operands
    out = BOTH[name]
    assume(str(a.dtype) not in out and str(b.dtype) not in out)
    same(getattr(gl, name)(gl.tensor(a), gl.tensor(b)), getattr(torch, name)(torch.tensor(a), torch.tensor(b)))


@settings(max_examples=200)
@given(st.sampled_from(OPERATORS), pairs(), SCALARS, st.booleans())
def test_operators_with_scalars(fn, operands, scalar, reverse):
    a, _ = operands
    mine, theirs = gl.tensor(a), torch.tensor(a)
    if reverse:
        assume(fn is not operator.truediv or a.all())
        same(fn(scalar, mine), fn(scalar, theirs))
    else:
        assume(fn is not operator.truediv or scalar)
        same(fn(mine, scalar), fn(theirs, scalar))


@settings(max_examples=150)
@given(st.sampled_from(BITS), pairs(["bool", "uint8", "int8", "int16", "int32", "int64"]))
def test_bits(fn, operands):
    a, b = operands
    same(fn(gl.tensor(a), gl.tensor(b)), fn(torch.tensor(a), torch.tensor(b)))


@settings(max_examples=150)
@given(pairs(), pairs(["bool"]))
def test_where(operands, masks):
    a, b = operands
    mask, _ = masks
    try:
        np.broadcast_shapes(a.shape, b.shape, mask.shape)
    except ValueError:
        mask = np.asarray(True)
    args = (mask, a, b)
    same(gl.where(*map(gl.tensor, args)), torch.where(*map(torch.tensor, args)))


@settings(max_examples=150)
@given(pairs(), st.sampled_from(["add_", "mul_", "sub_", "div_"]))
def test_in_place(operands, name):
    """In place the dtype and the shape stay, or both refuse."""
    a, b = operands
    assume(name != "sub_" or "bool" not in (a.dtype, b.dtype))
    mine, theirs = gl.tensor(a), torch.tensor(a)
    try:
        getattr(theirs, name)(torch.tensor(b))
    except RuntimeError:
        with pytest.raises((gl.errors.ShapeError, gl.errors.DTypeError)):
            getattr(mine, name)(gl.tensor(b))
        np.testing.assert_array_equal(mine.numpy(), a)
        return
    assert getattr(mine, name)(gl.tensor(b)) is mine
    same(mine, theirs)


@settings(max_examples=150)
@given(
    hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3),
    st.sampled_from(["add", "mul", "sub", "true_divide", "maximum", "atan2", "logaddexp"]),
)
def test_gradients_have_the_operands_shapes(shapes, name):
    arrays = [np.random.default_rng(i).uniform(0.5, 2, s) for i, s in enumerate(shapes.input_shapes)]
    mine = [gl.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    getattr(gl, name)(*mine).sum().backward()
    getattr(torch, name)(*theirs).sum().backward()
    for m, t in zip(mine, theirs, strict=True):
        same(m.grad, t.grad)


@settings(max_examples=100)
@given(st.sampled_from(DTYPES), st.sampled_from(DTYPES), st.booleans(), st.booleans())
def test_dtypes_of_0d_operands(a, b, first, second):
    """A 0-d operand takes part in promotion only with its category."""
    shapes = (() if first else (2,), () if second else (2,))
    operands = values(shapes[0], a, 0), values(shapes[1], b, 1)
    same(gl.tensor(operands[0]) * gl.tensor(operands[1]), torch.tensor(operands[0]) * torch.tensor(operands[1]))
