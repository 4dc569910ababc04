"""The namespace over shapes, held against NumPy's on real arrays: shapes, dtypes, and what is refused."""

# ruff: noqa: E501 (the table of errors has one line a case)

import contextlib
import copy
import inspect
import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gradloom.backends.numpy import fill
from gradloom.backends.numpy import xp as np_xp
from gradloom.backends.shape_rules import broadcast_shapes, key_shape
from gradloom.backends.shapes import infer, spec_of, xp
from gradloom.backends.spec import Spec
from gradloom.dtypes import (
    bool_,
    default_dtype,
    dtype,
    float16,
    float32,
    float64,
    int32,
    int64,
    set_default_dtype,
    to_numpy_dtype,
    uint8,
)
from gradloom.errors import DTypeError, IndexOutOfRangeError, OptionError, ShapeError, TraceError
from gradloom.ops.namespace import INDEX, NAMESPACE
from gradloom.ops.op import REGISTRY, Op
from ops import test_composites, test_primitives


def f(*shape):
    return Spec(shape, float32)


def d(*shape):
    return Spec(shape, float64)


def i(*shape):
    return Spec(shape, int64)


def i32(*shape):
    return Spec(shape, int32)


def b(*shape):
    return Spec(shape, bool_)


def call(*args, **attrs):
    return args, attrs


ALL = slice(None)


# --- samples: every name of the namespace ---

SAMPLES = {
    "zeros": [call(shape=(2, 0), dtype=float16), call(shape=(), dtype=bool_, like=f(3))],
    "ones": [call(shape=(2, 3), dtype=int32), call(shape=(), dtype=float64)],
    "full": [call(shape=(2, 3), value=1.5, dtype=float32), call(shape=(4,), value=True, dtype=bool_)],
    "arange": [
        call(start=0, stop=5, dtype=int64),
        call(start=5, stop=0, step=-2, dtype=int32),
        call(start=0.0, stop=1.0, step=0.3, dtype=float32),
        call(start=3, stop=1, dtype=float32),
    ],
    "eye": [call(n=3, dtype=float32), call(n=2, m=4, dtype=int64)],
    "zeros_like": [call(f(2, 3)), call(i(2), dtype=float32)],
    "ones_like": [call(b(2, 3)), call(f(), dtype=bool_)],
    "astype": [call(f(2, 3), dtype=int32), call(b(), dtype=float16)],
    "bitwise_not": [call(b(2)), call(i(2, 3))],
    "pow": [call(f(2, 1), f(3)), call(f(2), 2), call(f(2), 0.5), call(i(3), 2), call(i(3), 0.5), call(b(2), 2)],
    "where": [
        call(b(2, 1), f(3), 0),
        call(b(2), 1, f(3, 1)),
        call(b(2), i(2), i()),
        call(b(2), i(2), 0.5),
        call(b(2, 3), 1, 0),
        call(b(2), 1.0, 0),
        call(b(2), True, False),
    ],
    # Of integers NumPy's own functions give other dtypes: see below.
    "reciprocal": [call(f(2, 3)), call(d())],
    "round": [call(f(2, 3)), call(d())],
    "erf": [call(f(2, 3)), call(d())],
    "erfinv": [call(f(2, 3)), call(Spec((2,), float16))],
    "mean": [call(f(2, 3)), call(Spec((2, 3), float16), axis=1), call(d(2, 3), axis=(0, -1), keepdims=True)],
    "logsumexp": [
        call(f(2, 3)),
        call(f(2, 3), axis=-1),
        call(d(2, 3, 4), axis=(0, 2), keepdims=True),
        call(i(3), axis=0),
        call(f()),
    ],
    "sort": [call(f(2, 3)), call(i(2, 3), axis=0, descending=True), call(b(3))],
    "argsort": [call(f(2, 3)), call(i32(2, 3), axis=0, descending=True)],
    "matmul": [
        call(f(2, 3), f(3, 4)),
        call(f(3), f(3)),
        call(f(3), f(5, 3, 4)),
        call(f(5, 2, 3), f(3)),
        call(d(7, 1, 2, 3), d(5, 3, 4)),
        call(i(2, 3), i(3, 2)),
        call(f(2, 0), f(0, 3)),
    ],
    "einsum": [
        call(f(2, 3), f(3, 4), equation="ij,jk->ik"),
        call(f(2, 3), equation="ij->"),
        call(f(3, 3), equation="ii->i"),
        call(d(2, 3), d(2, 4), d(3, 4), equation="ab, ac, bc -> cab"),
        call(i(2), i(3), equation="a,b->ba"),
        call(f(2, 1), f(3, 4), equation="ij,jk->ik"),
    ],
    "reshape": [call(f(2, 3), shape=(3, 2)), call(i(1), shape=()), call(f(0, 3), shape=(5, 0))],
    "transpose": [call(f(2, 3, 4), axes=(2, 0, 1)), call(i(2, 3), axes=(-1, -2)), call(f(), axes=())],
    "broadcast_to": [call(f(2, 1), shape=(5, 2, 3)), call(i(), shape=(2,)), call(f(1), shape=(0,))],
    "expand_dims": [
        call(f(2, 3), axis=0),
        call(f(2, 3), axis=-1),
        call(i(2, 3), axis=(0, -1)),
        call(f(), axis=(0, 1)),
    ],
    "squeeze": [call(f(2, 1, 1), axis=1), call(f(2, 1, 1), axis=(1, -1)), call(i(1), axis=0)],
    "concat": [
        call(f(2, 3), f(4, 3), axis=0),
        call(i(2, 1), i(2, 0), i(2, 5), axis=-1),
        call(b(2), axis=0),
    ],
    "stack": [call(f(2, 3), f(2, 3), axis=0), call(i(2), i(2), i(2), axis=-1), call(f(), f(), axis=0)],
    "flip": [call(f(2, 3), axis=0), call(i(2, 3), axis=(0, -1))],
    "roll": [call(f(2, 3), shift=-4, axis=1), call(b(2), shift=1, axis=-1)],
    "pad": [
        call(f(2, 3), widths=((1, 2), (0, 0))),
        call(i(5), widths=((-1, 3),), value=7),
        call(f(5), widths=((-2, -3),)),
        call(f(), widths=()),
    ],
    "repeat": [call(f(2, 3), repeats=3, axis=-1), call(i(2), repeats=0, axis=0)],
    "tril": [call(f(2, 3)), call(i(4, 2, 3), k=-1)],
    "triu": [call(f(2, 3), k=1), call(b(3, 3))],
    "windows": [
        call(f(2, 3, 7), size=(3,), stride=(2,), dilation=(1,)),
        call(i(7, 9), size=(3, 2), stride=(1, 3), dilation=(2, 1)),
        call(f(2, 3), size=(), stride=(), dilation=()),
    ],
    "fold": [
        call(f(2, 3, 3, 3), shape=(2, 3, 7), size=(3,), stride=(2,), dilation=(1,)),
        call(d(3, 3, 3, 2), shape=(7, 9), size=(3, 2), stride=(1, 3), dilation=(2, 1)),
    ],
    "getitem": [
        call(f(4, 5), key=(0,)),
        call(i(4, 5), key=(..., None, slice(None, None, -2))),
        call(f(4, 5), i(3, 2), key=(INDEX,)),
        call(f(4, 5, 6), i(3), i(2, 1), key=(INDEX, ALL, INDEX)),
        call(f(4, 5, 6), i32(3), key=(0, ALL, INDEX)),
        call(f(4, 5, 6), i(3), key=(ALL, -1, INDEX)),
        call(f(4, 5), i(), key=(ALL, INDEX)),
        call(f(), key=(None, ...)),
    ],
    "put": [
        call(f(4, 5), f(5), key=(0,)),
        call(f(4, 5), 1, key=(..., slice(1, 3))),
        call(i(4, 5), i(3, 1), i(3), key=(INDEX,)),
        call(f(4, 5), 0, b(4, 5), key=(INDEX,)),
        call(f(4, 5), f(5), b(4), key=(INDEX,)),
        call(f(4, 5), f(1), b(5), key=(..., INDEX)),
        call(f(), 0, b(), key=(INDEX,)),
    ],
    "add_at": [
        call(f(4, 5), f(4), key=(ALL, 2)),
        call(f(4, 5), 1.5, i(3, 3), key=(ALL, INDEX)),
        call(i(4, 5), i(2, 3), i(2, 1), i(3), key=(INDEX, INDEX)),
    ],
    "take": [
        call(f(4, 5), i(2, 3), axis=1),
        call(f(4, 5), i(), axis=0),
        call(i(4), 2, axis=-1),
        call(f(0, 2), i(0), axis=0),
    ],
    "take_along_axis": [
        call(f(4, 5), i(4, 2), axis=1),
        call(i(4, 5), i32(1, 5), axis=0),
        call(f(4, 5), i(1, 2), axis=-1),
    ],
    "scatter_add": [call(f(4, 5), i(4, 2), f(4, 2), axis=1), call(i(4, 5), i(7, 3), i(7, 3), axis=0)],
}


def many(names, *samples):
    SAMPLES.update({name: list(samples) for name in names.split()})


_TWO = [call(f(2, 1), f(3)), call(f(), f(2)), call(i(2, 3), i(2, 3)), call(f(2), 2), call(d(2), 2.5), call(i(2), 2)]
_TWO += [call(i32(2), 2.5), call(b(2), 2), call(b(2), 2.5), call(i(2), True), call(Spec((2,), float16), 2.5)]
_MASKS = [call(b(2), b(3, 1)), call(b(2), True)]

many("abs negative sign square floor ceil trunc", call(f(2, 3)), call(d()), call(i(4)), call(Spec((2,), uint8)))
many("sqrt rsqrt exp expm1 log log1p log2 sigmoid", call(f(2, 3)), call(d()), call(i(4)), call(i32(0, 2)))
many("sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh", call(f(2, 3)), call(d()), call(i(4)))
many("isnan isinf isfinite logical_not", call(f(2, 3)), call(i()), call(b(4)))
many("subtract divide floor_divide remainder atan2 logaddexp", *_TWO)
many("add multiply maximum minimum equal not_equal less less_equal greater greater_equal", *_TWO, *_MASKS)
many("logical_and logical_or logical_xor", *_TWO, *_MASKS)
many("bitwise_and bitwise_or bitwise_xor", call(i(2, 1), i(3)), call(b(2), b()), call(i32(2), 3), call(b(2), True))
many(
    "sum prod amax amin any all",
    call(f(2, 3)),
    call(f()),
    call(i32(2, 3), axis=-1),
    call(b(2, 3), axis=0, keepdims=True),
    call(d(2, 3, 4), axis=(0, -1)),
    call(d(2, 3, 4), axis=(0, -1), keepdims=True),
    call(f(2, 3), axis=()),
    call(f(2, 3), keepdims=True),
)
many(
    "argmax argmin",
    call(f(2, 3)),
    call(f(2, 3), axis=-1),
    call(i(2, 3), axis=0, keepdims=True),
    call(f(2), keepdims=True),
)
many("cumsum cumprod", call(f(2, 3), axis=0), call(i32(2, 3), axis=-1), call(b(2), axis=0))


def real(value):
    """An array of zeros and ones for a Spec; in indices zeros, so that they are in range."""
    if type(value) is not Spec:
        return value
    return np.full(value.shape, 0 if value.dtype.kind == "int" else 1, to_numpy_dtype(value.dtype))


@pytest.fixture
def float64_default():
    """NumPy's own default, so that integers with floats can be compared."""
    before = default_dtype()
    set_default_dtype(float64)
    yield
    set_default_dtype(before)


@pytest.mark.parametrize("name", NAMESPACE)
@pytest.mark.usefixtures("float64_default")
def test_same_as_numpy(name):
    assert name in SAMPLES, f"add samples for {name}"
    for args, attrs in SAMPLES[name]:
        with np.errstate(all="ignore"):
            want = getattr(np_xp, name)(*map(real, args), **{k: real(v) for k, v in attrs.items()})
        got = getattr(xp, name)(*args, **attrs)
        assert (got.shape, got.dtype) == (want.shape, dtype(want.dtype)), (name, args, attrs)
        assert type(got.shape) is tuple and all(type(n) is int for n in got.shape)


@pytest.mark.parametrize("name", NAMESPACE)
def test_parameters_are_those_of_the_namespace(name):
    wanted = inspect.signature(function_of(NAMESPACE[name]))
    assert inspect.signature(getattr(xp, name)) == wanted


def function_of(text):
    """A function with the parameters that the text names."""
    parameters, keyword_only = [], False
    kinds = inspect.Parameter
    for part in map(str.strip, text.split(",")):
        name, _, default = part.partition("=")
        if part == "*":
            keyword_only = True
        elif part.startswith("*"):
            parameters.append(kinds(part[1:], kinds.VAR_POSITIONAL))
            keyword_only = True
        else:
            values = {"": kinds.empty, "None": None, "False": False}
            value = values[default] if default in values else int(default)
            kind = kinds.KEYWORD_ONLY if keyword_only else kinds.POSITIONAL_OR_KEYWORD
            parameters.append(kinds(name, kind, default=value))

    def fn(): ...

    fn.__signature__ = inspect.Signature(parameters)
    return fn


def test_nothing_besides_the_namespace():
    assert {n for n in vars(xp) if not n.startswith("__")} == {*NAMESPACE, "dtype"}
    assert set(SAMPLES) == set(NAMESPACE)


# --- where NumPy's own dtypes are not the namespace's ---


@pytest.mark.parametrize("name", ["sqrt", "exp", "sigmoid", "reciprocal", "erf", "erfinv", "logsumexp"])
def test_integers_become_the_default_float(name):
    assert getattr(xp, name)(i(3)).dtype is default_dtype() is float32
    assert getattr(xp, name)(b(3)).dtype is float32
    assert getattr(xp, name)(d(3)).dtype is float64


def test_scalars_are_weak():
    assert (i(3) + 2.5).dtype is (i(3) / i(3)).dtype is (b(3) * 0.5).dtype is float32
    assert (Spec((3,), float16) * 2.5).dtype is float16
    assert (b(3) + 1).dtype is int64
    assert (Spec((3,), uint8) * 300 + True).dtype is uint8
    assert xp.where(b(2), 1.0, 0) == f(2)


def test_small_integers_sum_in_int64():
    for x in (b(3), Spec((3,), uint8), i32(3)):
        for name in ("sum", "prod"):
            assert getattr(xp, name)(x) == i()
        for name in ("cumsum", "cumprod"):
            assert getattr(xp, name)(x, axis=0) == i(3)
    assert xp.round(i(3)) == i(3)


# --- properties ---

sizes = st.integers(0, 3)
shapes = st.lists(sizes, max_size=4).map(tuple)
full_shapes = st.lists(st.integers(1, 4), max_size=4).map(tuple)


def outcome(fn, *errors):
    """The shape of the result, or "refused"."""
    try:
        out = fn()
    except errors:
        return "refused"
    return out if type(out) is tuple else out.shape


@given(st.lists(shapes, max_size=4))
def test_broadcasting(many):
    assert outcome(lambda: broadcast_shapes(*many), ShapeError) == outcome(
        lambda: np.broadcast_shapes(*many), ValueError
    )


@given(shapes, shapes)
def test_binary_and_broadcast_to(a, b):
    x, y = np.zeros(a, "f"), np.zeros(b, "f")
    assert outcome(lambda: spec_of(x) + spec_of(y), ShapeError) == outcome(lambda: x + y, ValueError)
    assert outcome(lambda: xp.broadcast_to(spec_of(x), shape=b), ShapeError) == outcome(
        lambda: np.broadcast_to(x, b), ValueError
    )
    assert outcome(lambda: spec_of(x) @ spec_of(y), ShapeError) == outcome(lambda: x @ y, ValueError)


@given(st.lists(sizes, min_size=1, max_size=4).map(tuple), st.data(), st.booleans())
def test_reductions(shape, data, keepdims):
    axes = st.integers(-5, 4)
    axis = data.draw(st.none() | axes | st.lists(axes, max_size=3).map(tuple))
    x = np.zeros(shape, "f")
    want = outcome(lambda: np.sum(x, axis=axis, keepdims=keepdims), ValueError, IndexError)
    assert outcome(lambda: xp.sum(spec_of(x), axis=axis, keepdims=keepdims), ShapeError, IndexError) == want
    if x.size and not isinstance(axis, tuple):
        want = outcome(lambda: np.argmax(x, axis=axis, keepdims=keepdims), ValueError, IndexError)
        assert outcome(lambda: xp.argmax(spec_of(x), axis=axis, keepdims=keepdims), IndexError) == want


@st.composite
def keys(draw):
    """A shape, a key with INDEX in it, and the index arrays."""
    shape = draw(full_shapes)
    bound = st.none() | st.integers(-5, 5)
    slices = st.builds(slice, bound, bound, st.sampled_from([None, 1, 2, -1, -2]))
    part = st.sampled_from([None, ..., INDEX, INDEX]) | slices | st.integers(-3, 3)
    key = tuple(draw(st.lists(part, max_size=len(shape) + 2)))
    arrays = [np.zeros(draw(st.sampled_from([(), (1,), (2,), (3, 1), (2, 3), (0,)])), int) for k in key if k is INDEX]
    return shape, key, arrays


@settings(max_examples=400)
@given(keys())
def test_indexing(case):
    shape, key, arrays = case
    x = np.zeros(shape, "f")
    want = outcome(lambda: x[fill(key, tuple(arrays))], IndexError)
    got = outcome(lambda: key_shape(shape, key, tuple(a.shape for a in arrays)), IndexOutOfRangeError)
    assert got == want
    specs = map(spec_of, arrays)
    literal = tuple(next(specs) if k is INDEX else k for k in key)
    assert outcome(lambda: spec_of(x)[literal], IndexOutOfRangeError) == want


@given(keys(), shapes)
def test_writing(case, value):
    shape, key, arrays = case
    try:
        target = np.zeros(shape)[fill(key, tuple(arrays))].shape
    except IndexError:
        assume(False)
    want = outcome(
        lambda: np.broadcast_to(np.zeros(value), target) if target != value else np.zeros(target), ValueError
    )
    for write in (xp.put, xp.add_at):
        got = outcome(lambda w=write: w(f(*shape), f(*value), *map(spec_of, arrays), key=key), ShapeError)
        assert got == ("refused" if want == "refused" else shape)


@given(full_shapes, st.data())
def test_writing_with_a_mask(shape, data):
    start = data.draw(st.integers(0, len(shape)))
    stop = data.draw(st.integers(start, len(shape)))
    mask = np.zeros(shape[start:stop], bool)
    key = (*[ALL] * start, INDEX)
    assert xp.put(f(*shape), 1, spec_of(mask), key=key) == f(*shape)
    assert np_xp.put(np.zeros(shape), 1, mask, key=key).shape == shape
    if stop > start:
        wrong = b(*mask.shape[:-1], mask.shape[-1] + 1)
        with pytest.raises(IndexOutOfRangeError, match="The shape of the mask"):
            xp.put(f(*shape), 1, wrong, key=key)


@given(st.lists(st.integers(1, 2), max_size=2), st.data())
def test_windows_and_fold(lead, data):
    k = data.draw(st.integers(1, 3))
    draw = lambda low, high: tuple(data.draw(st.lists(st.integers(low, high), min_size=k, max_size=k)))
    lengths, size, stride, dilation = draw(1, 8), draw(1, 3), draw(1, 3), draw(1, 3)
    x = f(*lead, *lengths)
    attrs = {"size": size, "stride": stride, "dilation": dilation}
    if any(n < p * (s - 1) + 1 for n, s, p in zip(lengths, size, dilation, strict=True)):
        with pytest.raises(ShapeError, match="is larger than its axis"):
            xp.windows(x, **attrs)
        return
    out = xp.windows(x, **attrs)
    assert out == spec_of(np_xp.windows(real(x), **attrs))
    assert xp.fold(out, shape=x.shape, **attrs) == spec_of(np_xp.fold(real(out), shape=x.shape, **attrs)) == x
    with pytest.raises(ShapeError, match="fold: these are not the windows"):
        xp.fold(f(2, *out.shape), shape=(3, *x.shape), **attrs)


@given(shapes, st.lists(st.integers(-3, 3), max_size=3))
def test_moving_axes(shape, axis):
    x, axis = np.zeros(shape, "f"), tuple(axis)
    errors = (ShapeError, IndexError), (ValueError, IndexError)
    for name, attrs in (
        ("expand_dims", {"axis": axis}),
        ("squeeze", {"axis": axis}),
        ("flip", {"axis": axis}),
        ("transpose", {"axes": axis}),
        ("reshape", {"shape": tuple(map(abs, axis))}),
    ):
        want = outcome(lambda n=name, a=attrs: getattr(np_xp, n)(x, **a), *errors[1])
        assert outcome(lambda n=name, a=attrs: getattr(xp, n)(spec_of(x), **a), *errors[0]) == want, name


@given(st.lists(shapes, min_size=1, max_size=3), st.integers(-4, 3))
def test_joining(many, axis):
    arrays = [np.zeros(s, "f") for s in many]
    for name in ("concat", "stack"):
        want = outcome(lambda n=name: getattr(np_xp, n)(*arrays, axis=axis), ValueError, IndexError)
        got = outcome(lambda n=name: getattr(xp, n)(*map(spec_of, arrays), axis=axis), ShapeError, IndexError)
        assert got == want, name


@given(
    st.lists(st.text("abc", max_size=3), min_size=1, max_size=3), st.permutations("abc"), st.integers(0, 3), st.data()
)
def test_einsum(terms, letters, n, data):
    right = "".join(c for c in letters[:n] if any(c in t for t in terms))
    equation = f"{','.join(terms)}->{right}"
    arrays = [np.zeros(data.draw(st.tuples(*[st.integers(1, 2)] * len(t))), "f") for t in terms]
    for t, a in zip(terms, arrays, strict=True):  # NumPy lets a size of 1 pass on a diagonal, PyTorch does not
        assume(all(m == n for (c, m), (e, n) in itertools.combinations(zip(t, a.shape, strict=True), 2) if c == e))
    want = np.einsum(equation, *arrays).shape
    assert xp.einsum(*map(spec_of, arrays), equation=equation).shape == want


# --- errors ---

ERRORS = [
    (lambda: f(2, 3) + f(2, 4), ShapeError, "size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 1"),
    (lambda: f(2) + d(2), DTypeError, "add: expected operands of the same dtype, but got: float32 != float64"),
    (lambda: f(2) + "a", DTypeError, "add got a value that is not a Spec"),
    (lambda: np.ones(2) + f(2), DTypeError, "numpy.ndarray"),
    (lambda: xp.add(1, 2), DTypeError, "add got a value that is not a Spec"),
    (lambda: b(2) - b(2), DTypeError, "subtract is not defined for bool"),
    (lambda: -b(2), DTypeError, "negative is not defined for bool"),
    (lambda: ~f(2), DTypeError, "only implemented on integer and Boolean-type tensors"),
    (lambda: f(2) & f(2), DTypeError, "bitwise_and is not defined for float32"),
    (lambda: i(2) | 1.5, DTypeError, "bitwise_or is not defined for float32"),
    (lambda: i(2) ** -1, DTypeError, "Integers to negative integer powers are not allowed."),
    (lambda: xp.exp(1.0), DTypeError, "exp got a value that is not a Spec"),
    (lambda: xp.where(f(2), 1, 0), DTypeError, "where expected condition to be a boolean tensor, but got a tensor with dtype float32"),
    (lambda: xp.sum(f(2, 3), axis=5), IndexError, "Dimension out of range (expected to be in range of [-2, 1], but got 5)"),
    (lambda: xp.sum(f(2, 3), axis=(0, -2)), ShapeError, "dim 0 appears multiple times in the list of dims"),
    (lambda: xp.sum(f(2, 3), axis=1.5), DTypeError, "an axis must be an integer"),
    (lambda: xp.sum(f(), axis=0), IndexError, "Dimension specified as 0 but tensor has no dimensions"),
    (lambda: xp.cumsum(f(2), axis=1), IndexError, "Dimension out of range (expected to be in range of [-1, 0], but got 1)"),
    (lambda: xp.sort(f(2), axis=1), IndexError, "Dimension out of range"),
    (lambda: xp.mean(i(3)), DTypeError, "mean(): could not infer output dtype"),
    (lambda: xp.amax(f(0, 3), axis=0), IndexError, "amax(): Expected reduction dim 0 to have non-zero size."),
    (lambda: xp.amin(f(0, 3)), ShapeError, "amin(): Expected reduction dim to be specified for input.numel() == 0."),
    (lambda: xp.argmax(f(0, 3), axis=0), IndexError, "argmax(): Expected reduction dim 0 to have non-zero size."),
    (lambda: f(2, 3) @ f(4, 5), ShapeError, "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    (lambda: f(3) @ f(4, 5), ShapeError, "mat1 and mat2 shapes cannot be multiplied (1x3 and 4x5)"),
    (lambda: f(7, 2, 3) @ f(6, 3, 4), ShapeError, "The size of tensor a (7) must match the size of tensor b (6)"),
    (lambda: f(2, 3) @ d(3, 4), DTypeError, "matmul: expected operands of the same dtype, but got: float32 != float64"),
    (lambda: f() @ f(3), ShapeError, "both arguments to matmul need to be at least 1D, but they are 0D and 1D"),
    (lambda: xp.matmul(f(2, 2), 2), DTypeError, "matmul got a value that is not a Spec"),
    (lambda: xp.einsum(f(2, 3), f(4, 5), equation="ij,jk->ik"), ShapeError, "subscript j has size 4 for operand 1 which does not broadcast with previously seen size 3"),
    (lambda: xp.einsum(f(2, 3), equation="ij,jk->ik"), ShapeError, "fewer operands were provided than specified"),
    (lambda: xp.einsum(f(2), f(2), equation="i->i"), ShapeError, "more operands were provided than specified"),
    (lambda: xp.einsum(f(2, 3), equation="ij->ik"), OptionError, "output subscript k does not appear"),
    (lambda: xp.einsum(f(2, 3), equation="ij->ii"), OptionError, "output subscript i appears more than once"),
    (lambda: xp.einsum(f(2, 3), equation="...i->i"), OptionError, "einsum takes the explicit form"),
    (lambda: xp.einsum(f(2, 3), equation="ii->i"), ShapeError, "subscript i is repeated for operand 0 but the sizes don't match, 3 != 2"),
    (lambda: xp.einsum(f(2), equation="ij->i"), ShapeError, "the number of subscripts in the equation (2) does not match the number of dimensions (1) for operand 0"),
    (lambda: xp.reshape(f(2, 2), shape=(2, 3)), ShapeError, "shape '[2, 3]' is invalid for input of size 4"),
    (lambda: xp.reshape(f(2, 2), shape=(-1,)), ShapeError, "invalid shape dimension -1"),
    (lambda: xp.zeros(shape=(2.5,), dtype=float32), DTypeError, "a size must be an integer"),
    (lambda: xp.arange(start=0, stop=3, step=0, dtype=int64), OptionError, "step must be nonzero"),
    (lambda: xp.transpose(f(2, 3), axes=(0, 0)), ShapeError, "permute(): duplicate dims are not allowed."),
    (lambda: xp.transpose(f(2, 3), axes=(0,)), ShapeError, "input.dim() = 2 is not equal to len(dims) = 1"),
    (lambda: xp.broadcast_to(f(3), shape=(4,)), ShapeError, "The expanded size of the tensor (4) must match the existing size (3) at non-singleton dimension 0.  Target sizes: [4].  Tensor sizes: [3]"),
    (lambda: xp.broadcast_to(f(2, 3), shape=(3,)), ShapeError, "the number of sizes provided (1) must be greater or equal"),
    (lambda: xp.expand_dims(f(2), axis=3), IndexError, "Dimension out of range (expected to be in range of [-2, 1], but got 3)"),
    (lambda: xp.squeeze(f(2, 1), axis=0), ShapeError, "cannot select an axis to squeeze out which has size not equal to one"),
    (lambda: xp.concat(f(2, 3), f(2, 4), axis=0), ShapeError, "Sizes of tensors must match except in dimension 0. Expected size 3 but got size 4 for tensor number 1 in the list."),
    (lambda: xp.concat(f(2, 3), f(2), axis=0), ShapeError, "Tensors must have same number of dimensions: got 2 and 1"),
    (lambda: xp.concat(f(), axis=0), ShapeError, "zero-dimensional tensor (at position 0) cannot be concatenated"),
    (lambda: xp.concat(f(2), i(2), axis=0), DTypeError, "concat: expected operands of the same dtype"),
    (lambda: xp.concat(axis=0), ShapeError, "expected a non-empty list of Tensors"),
    (lambda: xp.stack(axis=0), ShapeError, "stack expects a non-empty TensorList"),
    (lambda: xp.stack(f(2, 3), f(2), axis=0), ShapeError, "stack expects each tensor to be equal size, but got [2, 3] at entry 0 and [2] at entry 1"),
    (lambda: xp.flip(f(2), axis=None), DTypeError, "an axis must be an integer"),
    (lambda: xp.pad(f(2), widths=((-3, 5),)), ShapeError, "pad crops more than there is"),
    (lambda: xp.pad(f(2, 3), widths=((1, 1),)), ShapeError, "pad: one pair of widths for each axis"),
    (lambda: xp.repeat(f(2), repeats=-1, axis=0), OptionError, "Repeats must be non-negative"),
    (lambda: xp.tril(f(3)), ShapeError, "tril: input tensor must have at least 2 dimensions"),
    (lambda: xp.windows(f(3), size=(2,), stride=(0,), dilation=(1,)), OptionError, "at least 1"),
    (lambda: xp.windows(f(3), size=(2, 2), stride=(1, 1), dilation=(1, 1)), ShapeError, "windows over 2 axes need as many"),
    (lambda: xp.windows(f(3), size=(2,), stride=(1, 1), dilation=(1,)), ShapeError, "one number for each windowed axis"),
    (lambda: f(2, 3)[1, 1, 1], IndexError, "too many indices for tensor of dimension 2"),
    (lambda: f(2, 3)[:, 7], IndexError, "index 7 is out of bounds for dimension 1 with size 3"),
    (lambda: f(2, 3)[..., ...], IndexError, "an index can only have a single ellipsis ('...')"),
    (lambda: f(2, 3)[1.5], IndexError, "valid indices (got float)"),
    (lambda: f(2, 3)[True], IndexError, "valid indices (got bool)"),
    (lambda: f(2, 3)[f(2)], IndexError, "tensors used as indices must be long, int, byte or bool tensors"),
    (lambda: f(2, 3)[i(2), i(3)], IndexError, "shape mismatch: indexing tensors could not be broadcast together with shapes [2], [3]"),
    (lambda: f(2, 3)[b(2)], TraceError, "the number of elements that a bool mask selects is not known"),
    (lambda: f(0, 3)[i(2)], IndexError, "index is out of bounds for dimension with size 0"),
    (lambda: xp.getitem(f(2, 3), i(2), key=(0,)), IndexError, "the key and the index arrays do not fit"),
    (lambda: xp.getitem(f(2, 3), key=(INDEX,)), IndexError, "the key and the index arrays do not fit"),
    (lambda: xp.put(f(2, 3), f(4), key=(0,)), ShapeError, "shape mismatch: value tensor of shape [4] cannot be broadcast to indexing result of shape [3]"),
    (lambda: xp.put(f(2, 3), i(3), key=(0,)), DTypeError, "put: expected operands of the same dtype"),
    (lambda: xp.put(f(2, 3), f(4), b(2, 3), key=(INDEX,)), ShapeError, "shape mismatch: value tensor of shape [4]"),
    (lambda: xp.put(f(2, 3), 1, b(3), key=(INDEX,)), IndexError, "The shape of the mask [3] at index 0 does not match the shape of the indexed tensor [2, 3] at index 0"),
    (lambda: xp.add_at(f(2, 3), None, key=(0,)), DTypeError, "add_at got a value that is not a Spec"),
    (lambda: xp.take(f(0, 3), i(2), axis=0), IndexError, "index is out of bounds for dimension with size 0"),
    (lambda: xp.take(f(2, 3), f(2), axis=0), IndexError, "tensors used as indices must be long"),
    (lambda: xp.take_along_axis(f(2, 3), f(2, 3), axis=0), DTypeError, "take_along_axis(): Expected dtype int32/int64 for index"),
    (lambda: xp.take_along_axis(f(2, 3), i(2), axis=0), ShapeError, "Index tensor must have the same number of dimensions as input tensor"),
    (lambda: xp.take_along_axis(f(2, 3), i(2, 4), axis=0), ShapeError, "The size of tensor a (3) must match the size of tensor b (4)"),
    (lambda: xp.scatter_add(f(2, 3), i(2, 4), f(2, 4), axis=0), ShapeError, "Expected index [2, 4] to be no larger than self [2, 3] apart from dimension 0"),
    (lambda: xp.scatter_add(f(2, 3), i(2, 3), d(2, 3), axis=0), DTypeError, "scatter_add: expected operands of the same dtype"),
    (lambda: xp.scatter_add(f(2, 3), i(2, 3), f(2, 2), axis=0), ShapeError, "the shape of the values [2, 2]"),
    (lambda: f(2).T, ShapeError, "x.T is for arrays of 2 dimensions"),
    (lambda: spec_of([1, 2]), DTypeError, "spec_of got a value that is not a Spec"),
    (lambda: spec_of(np.zeros(2, "complex64")), DTypeError, "not a dtype that gradloom has"),
]  # fmt: skip


@pytest.mark.parametrize(("run", "error", "text"), ERRORS, ids=[str(n) for n in range(len(ERRORS))])
def test_errors(run, error, text):
    with pytest.raises(error) as caught:
        run()
    assert text in str(caught.value)


@pytest.mark.parametrize("use", [bool, float, int, complex, iter, list, np.asarray, range, lambda x: 1 in x])
def test_values_are_not_known(use):
    with pytest.raises(TraceError) as caught:
        use(f(2, 3) if use in (iter, list) else i())
    assert "the value of an array is not known while shapes are inferred" in str(caught.value)
    assert "test_shapes.py" in str(caught.value)  # the user's line


def test_a_mask_names_the_users_line():
    with pytest.raises(TraceError, match=r"test_shapes\.py"):
        f(2, 3)[b(2, 3)]


# --- Spec and the entry points ---


def test_spec():
    x = f(32, 128)
    assert repr(x) == "Spec((32, 128), float32)"
    assert (x.ndim, x.size, x.T.shape, f().size) == (2, 4096, (128, 32), 1)
    assert x == f(32, 128) and x != f(128, 32) and x != d(32, 128) and x != (32, 128)
    assert hash(x) == hash(f(32, 128)) and len({x, f(32, 128), d(32, 128)}) == 2
    assert copy.deepcopy(x) == x == Spec([32, 128], "float32")
    assert not hasattr(x, "__dict__")


def test_operators():
    x, n, m = f(2, 1), i(2, 1), b(2, 1)
    for made in (x + f(3), 1 + x + f(3), x - f(3), 2.0 - f(2, 3), x * f(3), x / f(3), 1 / f(2, 3), x // f(3)):
        assert made == f(2, 3)
    for made in (x % f(3), x ** f(3), 2 ** f(2, 3), -f(2, 3), abs(f(2, 3)), x @ f(1, 3)):
        assert made == f(2, 3)
    for made in (x < f(3), x <= f(3), x > f(3), f(2, 3) >= 0, f(2, 3) > 0, m & b(3), m | b(3), m ^ b(3), ~b(2, 3)):
        assert made == b(2, 3)
    assert n & i(3) == 1 | i(2, 3) == ~i(2, 3) == i(2, 3)


def test_spec_of():
    assert spec_of(np.zeros((2, 3), "float16")) == Spec((2, 3), float16)
    assert spec_of(np.float32(1)) == f()
    assert spec_of(f(2)) == f(2)
    for scalar in (True, 2, 2.5):
        assert spec_of(scalar) is scalar
    assert math.isinf(spec_of(-math.inf))


def test_infer():
    def attention(xp, q, k, v, mask, *, scale):
        scores = xp.einsum(q, k, equation="bhqd,bhkd->bhqk") * scale
        if mask is not None:
            scores = xp.where(mask, scores, -math.inf)
        weights = xp.exp(scores - xp.logsumexp(scores, axis=-1, keepdims=True))
        return xp.matmul(weights, v), weights

    record = Op("attention", attention, ("q", "k", "v", "mask"), ("scale",), outputs=("out", "weights"))
    q, k, v = f(2, 4, 5, 8), f(2, 4, 7, 8), np.zeros((2, 4, 7, 6), "float32")
    assert infer(record, q, k, v, b(5, 7), scale=0.5) == (f(2, 4, 5, 6), f(2, 4, 5, 7))
    assert infer(record, q, k, v, None, scale=0.5) == (f(2, 4, 5, 6), f(2, 4, 5, 7))
    with pytest.raises(ShapeError, match="subscript d has size 9"):
        infer(record, q, f(2, 4, 7, 9), v, None, scale=0.5)


def test_infer_needs_arrays_and_unknown_values():
    with pytest.raises(DTypeError, match="constant did not return arrays"):
        infer(Op("constant", lambda xp, x: 1.0, ("x",), ()), f(2))
    with pytest.raises(TraceError, match="use where or cond"):
        infer(Op("relu", lambda xp, x: x if x > 0 else 0 * x, ("x",), ()), f())


def test_bodies_do_not_compare_arrays_with_equality_operators(monkeypatch):
    """`==` of two Specs is a bool, of two arrays an array: a body that had it would be traced as something else."""

    def refuse(self, other):
        raise AssertionError("a body uses == or != of arrays; xp.equal and xp.not_equal are meant")

    monkeypatch.setattr(Spec, "__eq__", refuse)
    count = 0
    for name, samples in (test_composites.SAMPLES | test_primitives.SAMPLES).items():
        record = REGISTRY[name]
        for sample in samples:
            args = [spec_of(a) if isinstance(a, np.ndarray) else a for a in sample.args]
            try:
                outs = infer(record, *args, **sample.attrs)
            except (TraceError, ShapeError):  # a mask as an index
                continue
            outs = outs if type(outs) is tuple else (outs,)
            attrs = record.defaults | sample.attrs
            full = args + [record.defaults[n] for n in record.args[len(args) :] if n in record.defaults]
            for v in record.vjps:
                if v.variadic or not all(type(full[i]) is Spec and full[i].dtype.kind == "float" for i in v.covers):
                    continue
                values = []
                for kind, i in v.values:
                    values += full[i:] if kind == "rest" else [full[i] if kind == "arg" else outs[i]]
                statics = {k: attrs[i] if kind == "attr" else getattr(full[i], kind) for k, kind, i in v.statics}
                with contextlib.suppress(ShapeError, TraceError):  # how much a mask selects is not known
                    infer(v.op, outs[0], *values, **statics)
                count += 1
    assert count > 300
