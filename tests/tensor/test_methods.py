"""Every public method of Tensor against PyTorch: one lambda is run on both, and the results compared."""

import inspect
import math

import numpy as np
import pytest

from gradloom import dtypes
from gradloom.backends.registry import using_backend
from gradloom.errors import BackendError, DTypeError, IndexOutOfRangeError, OptionError, ShapeError
from gradloom.tensor import creation, functions
from gradloom.tensor.tensor import Tensor

torch = pytest.importorskip("torch")


class gl:
    """What a sample may use besides the operands; stands where `torch` stands."""

    float16, float32, float64, bfloat16 = dtypes.float16, dtypes.float32, dtypes.float64, dtypes.bfloat16
    int32, int64, bool, uint8 = dtypes.int32, dtypes.int64, dtypes.bool_, dtypes.uint8
    tensor, zeros = staticmethod(creation.tensor), staticmethod(creation.zeros)
    where, cat, stack = staticmethod(functions.where), staticmethod(functions.cat), staticmethod(functions.stack)


class Ints:
    """An operand of integers in [low, high)."""

    def __init__(self, shape, low=0, high=3, dtype="int64"):
        self.shape, self.low, self.high, self.dtype = shape, low, high, dtype

    def make(self, rng):
        return rng.integers(self.low, self.high, self.shape).astype(self.dtype)


class Bools(Ints):
    def make(self, rng):
        return rng.random(self.shape) < 0.5


class Positive(Ints):
    def make(self, rng):
        return (rng.random(self.shape) * 1.5 + 0.3).astype(np.float32)


class Given(Ints):
    def __init__(self, values, dtype="float32"):
        self.values = np.array(values, dtype)

    def make(self, rng):
        return self.values


def operand(spec, rng):
    return spec.make(rng) if isinstance(spec, Ints) else rng.standard_normal(spec).astype(np.float32)


X = ((3, 4),)
XY = ((3, 4), (3, 4))
P = (Positive((3, 4)),)
I = (Ints((3, 4), -3, 5),)
B = (Bools((3, 4)),)

SAMPLES = {
    "abs": [(lambda x: x.abs(), X), (lambda x: x.abs(), I), (lambda x: x.absolute(), X)],
    "neg": [(lambda x: x.neg(), X), (lambda x: x.negative(), X), (lambda x: -x, I)],
    "sign": [(lambda x: x.sign(), X)],
    "square": [(lambda x: x.square(), X), (lambda x: x.square(), I)],
    "sqrt": [(lambda x: x.sqrt(), P), (lambda x: x.sqrt(), (Ints((3,)),))],
    "rsqrt": [(lambda x: x.rsqrt(), P)],
    "reciprocal": [(lambda x: x.reciprocal(), P)],
    "exp": [(lambda x: x.exp(), X), (lambda x: x.exp(), I)],
    "expm1": [(lambda x: x.expm1(), X)],
    "exp2": [(lambda x: x.exp2(), X)],
    "log": [(lambda x: x.log(), P)],
    "log1p": [(lambda x: x.log1p(), P)],
    "log2": [(lambda x: x.log2(), P)],
    "log10": [(lambda x: x.log10(), P)],
    "sin": [(lambda x: x.sin(), X)],
    "cos": [(lambda x: x.cos(), X)],
    "tan": [(lambda x: (x * 0.3).tan(), X)],
    "sinh": [(lambda x: x.sinh(), X)],
    "cosh": [(lambda x: x.cosh(), X)],
    "tanh": [(lambda x: x.tanh(), X)],
    "asin": [(lambda x: (x * 0.2).asin(), X), (lambda x: (x * 0.2).arcsin(), X)],
    "acos": [(lambda x: (x * 0.2).acos(), X), (lambda x: (x * 0.2).arccos(), X)],
    "atan": [(lambda x: x.atan(), X), (lambda x: x.arctan(), X)],
    "asinh": [(lambda x: x.asinh(), X), (lambda x: x.arcsinh(), X)],
    "acosh": [(lambda x: (x + 1).acosh(), P), (lambda x: (x + 1).arccosh(), P)],
    "atanh": [(lambda x: (x * 0.2).atanh(), X), (lambda x: (x * 0.2).arctanh(), X)],
    "sigmoid": [(lambda x: x.sigmoid(), X)],
    "erf": [(lambda x: x.erf(), X)],
    "erfc": [(lambda x: x.erfc(), X)],
    "erfinv": [(lambda x: (x * 0.2).erfinv(), X)],
    "relu": [(lambda x: x.relu(), X), (lambda x: x.relu(), (Given([0.0, -1.0, 2.0]),))],
    "floor": [(lambda x: x.floor(), X)],
    "ceil": [(lambda x: x.ceil(), X)],
    "trunc": [(lambda x: (x * 3).trunc(), X), (lambda x: x.fix(), X)],
    "frac": [(lambda x: (x * 3).frac(), X)],
    "round": [(lambda x: (x * 3).round(), X), (lambda x: x.round(decimals=2), X),
        (lambda x: (x * 100).round(decimals=-1), X)],
    "isnan": [(lambda x: x.isnan(), (Given([1, math.nan, math.inf]),))],
    "isinf": [(lambda x: x.isinf(), (Given([1, math.nan, -math.inf]),))],
    "isfinite": [(lambda x: x.isfinite(), (Given([1, math.nan, math.inf]),))],
    "logical_not": [(lambda x: x.logical_not(), B)],
    "bitwise_not": [(lambda x: x.bitwise_not(), I), (lambda x: ~x, B)],
    "add": [(lambda x, y: x.add(y), XY), (lambda x, y: x.add(y, alpha=2), XY), (lambda x: x + 1, I),
        (lambda x: x + 1.5, I),
            (lambda x, y: x + y, ((3, 4), (4,))), (lambda x: 2 + x, X), (lambda x: x + True, B)],
    "sub": [(lambda x, y: x.sub(y), XY), (lambda x, y: x.sub(y, alpha=2), XY), (lambda x: 1 - x, X), (lambda x,
        y: x.subtract(y), XY)],
    "mul": [(lambda x, y: x.mul(y), XY), (lambda x, y: x.multiply(y), XY), (lambda x: x * 2.5, I), (lambda x: 2 * x,
        X)],
    "div": [(lambda x, y: x.div(y), ((3, 4), Positive((4,)))), (lambda x, y: x.divide(y), ((3, 4), Positive((4,)))),
            (lambda x, y: x.true_divide(y), (Ints((3,), 1, 9), Ints((3,), 1, 9))), (lambda x: 1 / x, P),
            (lambda x, y: x.div(y, rounding_mode="floor"), (Ints((20,), -9, 9), Ints((20,), 1, 5))),
            (lambda x, y: x.div(y, rounding_mode="trunc"), (Ints((20,), -9, 9), Ints((20,), 1, 5))),
            (lambda x, y: x.div(-y, rounding_mode="trunc"), (Ints((20,), -9, 9), Ints((20,), 1, 5))),
            (lambda x: (x * 5).div(2, rounding_mode="trunc"), X)],
    "floor_divide": [(lambda x, y: x.floor_divide(y), (Ints((9,), -9, 9), Ints((9,), 1, 5))), (lambda x: x // 2, I),
        (lambda x: 7 // x, (Ints((9,), 1, 5),))],
    "remainder": [(lambda x, y: x.remainder(y), (Ints((9,), -9, 9), Ints((9,), 1, 5))), (lambda x: x % 0.7, X),
        (lambda x: 7 % x, (Ints((9,), 1, 5),))],
    "pow": [(lambda x, y: x.pow(y), (Positive((3, 4)), (3, 4))), (lambda x: x**2, X), (lambda x: x**2, I),
        (lambda x: 2**x, X), (lambda x: x**0.5, P)],
    "maximum": [(lambda x, y: x.maximum(y), XY)],
    "minimum": [(lambda x, y: x.minimum(y), XY)],
    "atan2": [(lambda x, y: x.atan2(y), XY), (lambda x, y: x.arctan2(y), XY)],
    "logaddexp": [(lambda x, y: x.logaddexp(y), XY)],
    "eq": [(lambda x, y: x.eq(y), (Ints((9,)), Ints((9,)))), (lambda x: x == 1, (Ints((9,)),)), (lambda x: x == 1.5,
        I)],
    "ne": [(lambda x, y: x.ne(y), (Ints((9,)), Ints((9,)))), (lambda x: x.not_equal(1), I), (lambda x: x != 1, I)],
    "lt": [(lambda x, y: x.lt(y), XY), (lambda x: x < 0, X), (lambda x: x.less(0.5), I)],
    "le": [(lambda x, y: x.le(y), (Ints((9,)), Ints((9,)))), (lambda x: x <= 0, X), (lambda x: x.less_equal(0), X)],
    "gt": [(lambda x, y: x.gt(y), XY), (lambda x: x > 0, X), (lambda x: x.greater(0), X)],
    "ge": [(lambda x, y: x.ge(y), (Ints((9,)), Ints((9,)))), (lambda x: x >= 0, X), (lambda x: x.greater_equal(0), X)],
    "logical_and": [(lambda x, y: x.logical_and(y), (Bools((9,)), Bools((9,))))],
    "logical_or": [(lambda x, y: x.logical_or(y), (Bools((9,)), Bools((9,))))],
    "logical_xor": [(lambda x, y: x.logical_xor(y), (Bools((9,)), Bools((9,))))],
    "bitwise_and": [(lambda x, y: x.bitwise_and(y), (Ints((9,), 0, 9), Ints((9,), 0, 9))), (lambda x, y: x & y,
        (Bools((9,)), Bools((9,))))],
    "bitwise_or": [(lambda x, y: x.bitwise_or(y), (Ints((9,), 0, 9), Ints((9,), 0, 9))), (lambda x, y: x | y,
        (Bools((9,)), Bools((9,))))],
    "bitwise_xor": [(lambda x, y: x.bitwise_xor(y), (Ints((9,), 0, 9), Ints((9,), 0, 9))), (lambda x, y: x ^ y,
        (Bools((9,)), Bools((9,))))],
    "clamp": [(lambda x: x.clamp(-0.5, 0.5), X), (lambda x: x.clamp(min=0), X), (lambda x: x.clip(max=0.1), X),
        (lambda x: x.clamp(-1, 2), I),
              (lambda x: x.clamp(0.5, 1.5), I), (lambda x, y: x.clamp(y, y + 0.2), XY), (lambda x, y: x.clamp(max=y),
              ((3, 4), (4,)))],
    "clamp_min": [(lambda x: x.clamp_min(0.1), X)],
    "clamp_max": [(lambda x: x.clamp_max(0.1), X)],
    "lerp": [(lambda x, y: x.lerp(y, 0.3), XY), (lambda x, y, w: x.lerp(y, w), (*XY, (3, 4)))],
    "addcmul": [(lambda x, y, z: x.addcmul(y, z, value=0.5), (*XY, (3, 4)))],
    "addcdiv": [(lambda x, y, z: x.addcdiv(y, z, value=0.5), (*XY, Positive((3, 4))))],
    "where": [(lambda x, y: x.where(x > 0, y), XY), (lambda x, m: m.where(x > 0, x, 0.0), X)],
    "masked_fill": [(lambda x: x.masked_fill(x > 0, 2.5), X), (lambda x: x.masked_fill(x > 0, -math.inf), X),
                    (lambda x, y: x.masked_fill(x > 0, y[0, 0]), XY), (lambda x: x.masked_fill(x > 0, 2), I)],
    "isclose": [(lambda x: x.isclose(x + 1e-9), X), (lambda x, y: x.isclose(y), XY), (lambda x: x.isclose(x + 1), I),
                (lambda x: x.isclose(x, equal_nan=True), (Given([1, math.nan, math.inf, -math.inf]),)),
                (lambda x: x.isclose(x), (Given([1, math.nan, math.inf]),))],
    "allclose": [(lambda x: x.allclose(x + 1e-9), X), (lambda x, y: x.allclose(y), XY)],
    "equal": [(lambda x: x.equal(x.clone()), X), (lambda x, y: x.equal(y), XY), (lambda x, y: x.equal(y), ((3,), (4,
        )))],
    # reductions
    "sum": [(lambda x: x.sum(), X), (lambda x: x.sum(0), X), (lambda x: x.sum((0, 1)), X), (lambda x: x.sum(-1,
        keepdim=True), X),
            (lambda x: x.sum(), I), (lambda x: x.sum(1), B), (lambda x, m: x.sum(dtype=m.float64), X),
            (lambda x: x.sum(axis=1), X), (lambda x: x.sum(()), X),
            (lambda x: x.sum(0), ((),)), (lambda x: x.sum(0), ((0, 3),))],
    "mean": [(lambda x: x.mean(), X), (lambda x: x.mean((0, 1), keepdim=True), X), (lambda x: x.mean(dim=-1), X),
        (lambda x: x.mean(axis=0), X), (lambda x, m: x.mean(dtype=m.float64), X)],
    "prod": [(lambda x: x.prod(), X), (lambda x: x.prod(1), X), (lambda x: x.prod(1, keepdim=True), I),
        (lambda x: x.prod(0), (Given([[0, 2], [3, 0]]),))],
    "amax": [(lambda x: x.amax(), X), (lambda x: x.amax(1), X), (lambda x: x.amax((0, 1), keepdim=True), X),
        (lambda x: x.amax(0), (Given([[1, 2], [1, 0]]),))],
    "amin": [(lambda x: x.amin(), X), (lambda x: x.amin(1), X), (lambda x: x.amin(0), I)],
    "max": [(lambda x: x.max(), X), (lambda x: x.max(1), X), (lambda x: x.max(dim=0, keepdim=True), X), (lambda x,
        y: x.max(y), XY), (lambda x: x.max(0), ((),)),
            (lambda x: x.max(0), (Given([[1, 2], [1, 0]]),)), (lambda x: x.max(), I)],
    "min": [(lambda x: x.min(), X), (lambda x: x.min(1), X), (lambda x: x.min(-1, True), X), (lambda x, y: x.min(y),
        XY)],
    "argmax": [(lambda x: x.argmax(), X), (lambda x: x.argmax(1), X), (lambda x: x.argmax(dim=0, keepdim=True), X),
        (lambda x: x.argmax(0), ((),))],
    "argmin": [(lambda x: x.argmin(), X), (lambda x: x.argmin(1), X)],
    "any": [(lambda x: x.any(), B), (lambda x: x.any(1), B), (lambda x: x.any((0, 1)), B), (lambda x: x.any(), X)],
    "all": [(lambda x: x.all(), B), (lambda x: x.all(1, keepdim=True), B), (lambda x: x.all(), X)],
    "var": [(lambda x: x.var(), X), (lambda x: x.var(0), X), (lambda x: x.var(1, unbiased=False), X),
        (lambda x: x.var(False), X), (lambda x: x.var((0, 1), correction=0, keepdim=True), X)],
    "std": [(lambda x: x.std(), X), (lambda x: x.std(0), X), (lambda x: x.std(1, unbiased=False), X),
        (lambda x: x.std(-1, keepdim=True), X), (lambda x: x.std(0), (Given([[1, 2], [1, 0]]),))],
    "norm": [(lambda x: x.norm(), X), (lambda x: x.norm(1, 0), X), (lambda x: x.norm(dim=1, keepdim=True), X),
        (lambda x: x.norm(math.inf), X), (lambda x: x.norm(3, (0, 1)), X)],
    "logsumexp": [(lambda x: x.logsumexp(1), X), (lambda x: x.logsumexp((0, 1), keepdim=True), X)],
    "softmax": [(lambda x: x.softmax(1), X), (lambda x: x.softmax(dim=0), X), (lambda x: x.softmax(0), ((),)),
        (lambda x, m: x.softmax(0, dtype=m.float64), X)],
    "log_softmax": [(lambda x: x.log_softmax(-1), X)],
    "cumsum": [(lambda x: x.cumsum(0), X), (lambda x: x.cumsum(1), I), (lambda x: x.cumsum(1), B)],
    "cumprod": [(lambda x: x.cumprod(1), X), (lambda x: x.cumprod(1), I)],
    "sort": [(lambda x: x.sort(), X), (lambda x: x.sort(0, descending=True), X), (lambda x: x.sort(stable=True),
        (Ints((9,)),)), (lambda x: x.sort(descending=True, stable=True), (Ints((9,)),))],
    "argsort": [(lambda x: x.argsort(), X), (lambda x: x.argsort(0, descending=True), X)],
    "topk": [(lambda x: x.topk(2), X), (lambda x: x.topk(2, dim=0, largest=False), X), (lambda x: x.topk(4), X)],
    "diff": [(lambda x: x.diff(), X), (lambda x: x.diff(2, dim=0), X)],
    # products
    "matmul": [(lambda x, y: x.matmul(y), ((3, 4), (4, 2))), (lambda x, y: x @ y, ((2, 3, 4), (4, 2))), (lambda x,
        y: x @ y, ((4,), (4,))),
               (lambda x, y: x @ y, ((3, 4), (4,))), (lambda x, y: x @ y, ((4,), (2, 4, 3)))],
    "mm": [(lambda x, y: x.mm(y), ((3, 4), (4, 2)))],
    "mv": [(lambda x, y: x.mv(y), ((3, 4), (4,)))],
    "dot": [(lambda x, y: x.dot(y), ((4,), (4,))), (lambda x, y: x.inner(y), ((4,), (4,)))],
    "bmm": [(lambda x, y: x.bmm(y), ((2, 3, 4), (2, 4, 2)))],
    "outer": [(lambda x, y: x.outer(y), ((3,), (4,)))],
    "addmm": [(lambda x, y, z: x.addmm(y, z), ((2,), (3, 4), (4, 2))), (lambda x, y, z: x.addmm(y, z, beta=0.5,
        alpha=2), ((3, 2), (3, 4), (4, 2)))],
    "trace": [(lambda x: x.trace(), X)],
    # layout
    "view": [(lambda x: x.view(4, 3), X), (lambda x: x.view(-1), X), (lambda x: x.view((2, -1)), X),
        (lambda x: x.view(1), ((),))],
    "reshape": [(lambda x: x.reshape(2, -1), X), (lambda x: x.t().reshape(-1), X), (lambda x: x.reshape((12,)), X),
        (lambda x: x.reshape(()), ((1, 1),))],
    "view_as": [(lambda x, y: x.view_as(y), ((3, 4), (2, 6)))],
    "reshape_as": [(lambda x, y: x.reshape_as(y), ((3, 4), (2, 6)))],
    "flatten": [(lambda x: x.flatten(), X), (lambda x: x.flatten(1), ((2, 3, 4),)), (lambda x: x.flatten(0, 1), ((2, 3,
        4),)), (lambda x: x.flatten(), ((),))],
    "ravel": [(lambda x: x.ravel(), X), (lambda x: x.t().ravel(), X)],
    "unflatten": [(lambda x: x.unflatten(1, (2, -1)), X), (lambda x: x.unflatten(-1, (2, 2)), X)],
    "permute": [(lambda x: x.permute(2, 0, 1), ((2, 3, 4),)), (lambda x: x.permute((1, -1, 0)), ((2, 3, 4),))],
    "transpose": [(lambda x: x.transpose(0, -1), ((2, 3, 4),)), (lambda x: x.swapaxes(0, 1), X),
        (lambda x: x.swapdims(0, 1), X)],
    "movedim": [(lambda x: x.movedim(0, -1), ((2, 3, 4),)), (lambda x: x.moveaxis((0, 1), (2, 0)), ((2, 3, 4),))],
    "t": [(lambda x: x.t(), X), (lambda x: x.t(), ((3,),))],
    "T": [(lambda x: x.T, X)],
    "mT": [(lambda x: x.mT, ((2, 3, 4),))],
    "squeeze": [(lambda x: x.squeeze(), ((1, 3, 1),)), (lambda x: x.squeeze(0), ((1, 3, 1),)), (lambda x: x.squeeze(1),
        ((1, 3, 1),)), (lambda x: x.squeeze((0, 2)), ((1, 3, 1),))],
    "unsqueeze": [(lambda x: x.unsqueeze(0), X), (lambda x: x.unsqueeze(-1), X), (lambda x: x.unsqueeze(2), X)],
    "expand": [(lambda x: x.expand(2, 3, 4), ((3, 1),)), (lambda x: x.expand(-1, 4), ((3, 1),)),
        (lambda x: x.expand((5, 3)), ((3,),))],
    "broadcast_to": [(lambda x: x.broadcast_to((2, 3)), ((3,),))],
    "expand_as": [(lambda x, y: x.expand_as(y), ((4,), (3, 4)))],
    "clone": [(lambda x: x.clone(), X)],
    "contiguous": [(lambda x: x.t().contiguous(), X), (lambda x: x.t().contiguous().view(-1), X)],
    "is_contiguous": [(lambda x: x.is_contiguous(), X), (lambda x: x.t().is_contiguous(), X), (lambda x: x[:,
        0].is_contiguous(), X), (lambda x: x[0].is_contiguous(), X),
                      (lambda x: x.expand(2, 3, 4).is_contiguous(), X), (lambda x: x.t().t().is_contiguous(), X)],
    "stride": [(lambda x: torch_size(x.stride()), X), (lambda x: torch_size(x.t()[1:, None].stride()), X),
        (lambda x: torch_size(x.expand(2, 3, 4)[:, ::2].stride()), X),
               (lambda x: torch_size(x.view(2, 2, 3).permute(2, 0, 1).stride()), X), (lambda x: x.stride(1), X),
               (lambda x: torch_size(x.diagonal().stride()), X)],
    "narrow": [(lambda x: x.narrow(0, 1, 2), X), (lambda x: x.narrow(1, -2, 1), X)],
    "select": [(lambda x: x.select(0, 1), X), (lambda x: x.select(-1, -1), X)],
    "split": [(lambda x: x.split(2), X), (lambda x: x.split([1, 3], dim=1), X), (lambda x: x.split(3, 1), X)],
    "chunk": [(lambda x: x.chunk(2), X), (lambda x: x.chunk(3, 1), X)],
    "unbind": [(lambda x: x.unbind(), X), (lambda x: x.unbind(1), X), (lambda x: tuple(x), X)],
    "repeat": [(lambda x: x.repeat(2, 3), X), (lambda x: x.repeat(2, 1, 1), X), (lambda x: x.repeat(1, 1), X),
        (lambda x: x.repeat(0, 1), X)],
    "tile": [(lambda x: x.tile(2), X), (lambda x: x.tile((2, 1, 2)), X)],
    "repeat_interleave": [(lambda x: x.repeat_interleave(2), X), (lambda x: x.repeat_interleave(2, dim=1), X),
        (lambda x, m: x.repeat_interleave(m.tensor([1, 0, 2]), dim=0), X)],
    "flip": [(lambda x: x.flip(0), X), (lambda x: x.flip((0, 1)), X)],
    "roll": [(lambda x: x.roll(1), X), (lambda x: x.roll(1, 0), X), (lambda x: x.roll((1, -1), (0, 1)), X),
        (lambda x: x.roll(2, dims=1), X)],
    "tril": [(lambda x: x.tril(), X), (lambda x: x.tril(-1), ((2, 3, 3),))],
    "triu": [(lambda x: x.triu(), X), (lambda x: x.triu(diagonal=1), X)],
    "diagonal": [(lambda x: x.diagonal(), X), (lambda x: x.diagonal(1, -2, -1), ((2, 3, 4),))],
    # indexing
    "gather": [(lambda x, i: x.gather(1, i), ((3, 4), Ints((3, 2), 0, 4))), (lambda x, i: x.gather(0, i), ((3, 4),
        Ints((5, 2), 0, 3)))],
    "take_along_dim": [(lambda x, i: x.take_along_dim(i, 1), ((3, 4), Ints((3, 2), 0, 4))), (lambda x,
        i: x.take_along_dim(i, dim=0), ((3, 4), Ints((1, 4), 0, 3))), (lambda x, i: x.take_along_dim(i), ((3, 4),
        Ints((5,), 0, 12)))],
    "index_select": [(lambda x, i: x.index_select(1, i), ((3, 4), Ints((5,), 0, 4)))],
    "index_add": [(lambda x, i, s: x.index_add(0, i, s), ((3, 4), Ints((5,)), (5, 4))), (lambda x, i, s: x.index_add(1,
        i, s, alpha=2), ((3, 4), Ints((2,)), (3, 2)))],
    "index_copy": [(lambda x, s, m: x.index_copy(0, m.tensor([2, 0]), s), ((3, 4), (2, 4)))],
    "index_fill": [(lambda x, i: x.index_fill(1, i, 2.5), ((3, 4), Ints((2,))))],
    "scatter_add": [(lambda x, i, s: x.scatter_add(0, i, s), ((3, 4), Ints((5, 4)), (5, 4))), (lambda x, i,
        s: x.scatter_add(1, i, s), ((3, 4), Ints((2, 3)), (2, 3)))],
    "scatter": [(lambda x, i, s: x.scatter(1, i, s), ((3, 4), Given([[0], [2], [1]], "int64"), (3, 1))), (lambda x,
        i: x.scatter(1, i, 1.0), ((3, 4), Given([[0], [2], [1]], "int64"))),
                (lambda x, i: x.scatter(1, i, value=1.0), ((3, 4), Given([[0], [2], [1]], "int64")))],
    "nonzero": [(lambda x: x.nonzero(), B), (lambda x: x.nonzero(as_tuple=True), B)],
    "masked_select": [(lambda x: x.masked_select(x > 0), X)],
    # dtypes and new Tensors
    "to": [(lambda x, m: x.to(m.float64), X), (lambda x, m: x.to(dtype=m.int64), X), (lambda x: x.to("cpu"), X),
        (lambda x, y: x.to(y), (Ints((3,)), (2,))), (lambda x, m: x.to("cpu", m.float16), X),
           (lambda x, m: x.to(m.float32, copy=True), X), (lambda x: x.to("cpu", non_blocking=True), X)],
    "type_as": [(lambda x, y: x.type_as(y), (Ints((3,)), (2,)))],
    "float": [(lambda x: x.float(), I)],
    "double": [(lambda x: x.double(), X)],
    "half": [(lambda x: x.half(), X)],
    "bfloat16": [(lambda x: x.bfloat16().float(), X)],
    "int": [(lambda x: (x * 3).int(), X)],
    "long": [(lambda x: (x * 3).long(), X)],
    "short": [(lambda x: x.short(), I)],
    "char": [(lambda x: x.char(), I)],
    "byte": [(lambda x: x.byte(), (Ints((3,)),))],
    "bool": [(lambda x: x.bool(), I)],
    "cpu": [(lambda x: x.cpu(), X)],
    "new_zeros": [(lambda x: x.new_zeros(2, 3), X), (lambda x, m: x.new_zeros((2,), dtype=m.int64), X)],
    "new_ones": [(lambda x: x.new_ones(2, 3), I)],
    "new_full": [(lambda x: x.new_full((2, 3), 7), X)],
    "new_empty": [(lambda x: x.new_empty(2, 3) * 0, X)],
    "new_tensor": [(lambda x: x.new_tensor([1, 2]), X)],
    # what it is
    "size": [(lambda x: torch_size(x.size()), X), (lambda x: x.size(-1), X)],
    "shape": [(lambda x: torch_size(x.shape), X)],
    "ndim": [(lambda x: x.ndim, X)],
    "dim": [(lambda x: x.dim(), X)],
    "numel": [(lambda x: x.numel(), X), (lambda x: x.nelement(), X)],
    "element_size": [(lambda x: x.element_size(), I)],
    "nbytes": [(lambda x: x.nbytes, X)],
    "is_floating_point": [(lambda x: x.is_floating_point(), X), (lambda x: x.is_floating_point(), I)],
    "item": [(lambda x: x.item(), ((1, 1),)), (lambda x: x.item(), (Bools(()),))],
    "tolist": [(lambda x: np.array(x.tolist()).shape, X)],
    "detach": [(lambda x: x.detach(), X)],
    "data": [(lambda x: x.data, X)],
}  # fmt: skip

# In place: each acts on `a`, a computed Tensor, so that gradients flow through it.
IN_PLACE = {
    "add_": [(lambda a, y: a.add_(y), XY), (lambda a, y: a.add_(y, alpha=2), XY), (lambda a: a.add_(1), I)],
    "sub_": [(lambda a, y: a.sub_(y), XY), (lambda a: a.subtract_(1), X)],
    "mul_": [(lambda a, y: a.mul_(y), XY), (lambda a: a.multiply_(2), X)],
    "div_": [(lambda a, y: a.div_(y), ((3, 4), Positive((3, 4)))), (lambda a: a.divide_(2), X),
        (lambda a: a.true_divide_(2), X)],
    "floor_divide_": [(lambda a: a.floor_divide_(2), I)],
    "remainder_": [(lambda a: a.remainder_(2), I)],
    "pow_": [(lambda a: a.pow_(2), X)],
    "neg_": [(lambda a: a.neg_(), X), (lambda a: a.negative_(), X)],
    "abs_": [(lambda a: a.abs_(), X)],
    "sign_": [(lambda a: a.sign_(), X)],
    "reciprocal_": [(lambda a: a.reciprocal_(), P)],
    "square_": [(lambda a: a.square_(), X)],
    "sqrt_": [(lambda a: a.sqrt_(), P)],
    "rsqrt_": [(lambda a: a.rsqrt_(), P)],
    "exp_": [(lambda a: a.exp_(), X)],
    "log_": [(lambda a: a.log_(), P)],
    "expm1_": [(lambda a: a.expm1_(), X)],
    "log1p_": [(lambda a: a.log1p_(), P)],
    "sin_": [(lambda a: a.sin_(), X)],
    "cos_": [(lambda a: a.cos_(), X)],
    "tan_": [(lambda a: a.tan_(), P)],
    "tanh_": [(lambda a: a.tanh_(), X)],
    "sigmoid_": [(lambda a: a.sigmoid_(), X)],
    "erf_": [(lambda a: a.erf_(), X)],
    "floor_": [(lambda a: a.floor_(), X)],
    "ceil_": [(lambda a: a.ceil_(), X)],
    "round_": [(lambda a: a.round_(), X)],
    "trunc_": [(lambda a: a.trunc_(), X)],
    "relu_": [(lambda a: a.relu_(), X)],
    "clamp_": [(lambda a: a.clamp_(-0.5, 0.5), X), (lambda a: a.clip_(min=0), X)],
    "clamp_min_": [(lambda a: a.clamp_min_(0), X)],
    "clamp_max_": [(lambda a: a.clamp_max_(0), X)],
    "lerp_": [(lambda a, y: a.lerp_(y, 0.25), XY)],
    "addcmul_": [(lambda a, y, z: a.addcmul_(y, z, value=2), (*XY, (3, 4)))],
    "addcdiv_": [(lambda a, y, z: a.addcdiv_(y, z), (*XY, Positive((3, 4))))],
    "addmm_": [(lambda a, y, z: a.addmm_(y, z), ((3, 4), (3, 2), (2, 4)))],
    "tril_": [(lambda a: a.tril_(), X)],
    "triu_": [(lambda a: a.triu_(), X)],
    "cumsum_": [(lambda a: a.cumsum_(0), X)],
    "cumprod_": [(lambda a: a.cumprod_(0), X)],
    "masked_fill_": [(lambda a, y: a.masked_fill_(y > 0, 2), XY), (lambda a: a.masked_fill_(a > 0, 1.5), I)],
    "index_add_": [(lambda a, i, s: a.index_add_(0, i, s), ((3, 4), Ints((5,)), (5, 4)))],
    "index_copy_": [(lambda a, s, m: a.index_copy_(0, m.tensor([2, 0]), s), ((3, 4), (2, 4)))],
    "index_fill_": [(lambda a, i: a.index_fill_(0, i, 3), ((3, 4), Ints((2,))))],
    "scatter_": [(lambda a, s, m: a.scatter_(1, m.tensor([[0], [2], [1]]), s), ((3, 4), (3, 1))), (lambda a,
        m: a.scatter_(1, m.tensor([[0], [2], [1]]), 1.0), X)],
    "scatter_add_": [(lambda a, i, s: a.scatter_add_(0, i, s), ((3, 4), Ints((5, 4)), (5, 4)))],
    "logical_not_": [(lambda a: a.logical_not_(), B)],
    "bitwise_not_": [(lambda a: a.bitwise_not_(), I)],
    "logical_and_": [(lambda a, y: a.logical_and_(y), (*B, *B))],
    "logical_or_": [(lambda a, y: a.logical_or_(y), (*B, *B))],
    "logical_xor_": [(lambda a, y: a.logical_xor_(y), (*B, *B))],
    "bitwise_and_": [(lambda a, y: a.bitwise_and_(y), (*I, *I))],
    "bitwise_or_": [(lambda a, y: a.bitwise_or_(y), (*I, *I))],
    "bitwise_xor_": [(lambda a, y: a.bitwise_xor_(y), (*I, *I))],
    "zero_": [(lambda a: a.zero_(), X), (lambda a: a.zero_(), I)],
    "fill_": [(lambda a: a.fill_(2), X), (lambda a, y: a.fill_(y), ((3, 4), ())), (lambda a: a.fill_(2.7), I),
        (lambda a: a.fill_(2), B)],
    "copy_": [(lambda a, y: a.copy_(y), XY), (lambda a, y: a.copy_(y), ((3, 4), (4,))), (lambda a, y: a.copy_(y), (*I,
        (3, 4)))],
    "fill_diagonal_": [(lambda a: a.fill_diagonal_(2), X)],
}  # fmt: skip

OPERATORS = [
    (lambda a, y: a.__iadd__(y), XY), (lambda a, y: a.__isub__(y), XY), (lambda a, y: a.__imul__(y), XY),
    (lambda a: a.__itruediv__(2), X), (lambda a: a.__ifloordiv__(2), I), (lambda a: a.__imod__(2), I),
    (lambda a: a.__ipow__(2), X),
    (lambda a, y: a.__iand__(y), (*I, *I)), (lambda a, y: a.__ior__(y), (*I, *I)), (lambda a, y: a.__ixor__(y), (*I,
    *I)),
]  # fmt: skip

# Other names of methods above, and what other tests hold.
ALIASES = [
    "absolute", "negative", "fix", "subtract", "multiply", "divide", "true_divide", "arctan2", "not_equal", "less",
    "less_equal", "greater", "greater_equal", "clip", "inner", "arcsin", "arccos", "arctan", "arcsinh", "arccosh",
    "arctanh", "swapaxes", "swapdims", "moveaxis", "nelement", "negative_", "subtract_", "multiply_", "divide_",
    "true_divide_", "clip_",
]  # fmt: skip
ELSEWHERE = [
    "as_strided", "cuda", "type", "normal_", "uniform_", "bernoulli_", "random_", "native", "dtype", "backend",
    "device", "requires_grad", "requires_grad_", "is_leaf", "grad_fn", "grad", "backward", "register_hook", "retains_grad",
    "register_post_accumulate_grad_hook", "retain_grad", "detach_", "numpy",
]  # fmt: skip


def torch_size(shape):
    return tuple(int(n) for n in shape)


def run(fn, module, operands, make, in_place):
    """The results (a tuple) and the gradients of the float operands."""
    tensors = [make(a) for a in operands]
    used = [
        t * 1 if in_place and i == 0 and a.dtype != bool else t
        for i, (t, a) in enumerate(zip(tensors, operands, strict=True))
    ]
    keywords = {"m": module} if "m" in inspect.signature(fn).parameters else {}
    result = fn(*used, **keywords)
    results = result if isinstance(result, tuple) else (result,)
    loss = None
    kind = type(tensors[0])
    for k, r in enumerate(results):
        if isinstance(r, kind) and r.requires_grad:
            g = np.random.default_rng(k).standard_normal(tuple(r.shape)) + 1
            term = (r * make(g.astype(np.float32), False)).sum()
            loss = term if loss is None else loss + term
    if loss is None:
        return results, None
    loss.backward()
    return results, [t.grad for t in tensors]


def gl_make(a, grad=True):
    return creation.tensor(a, requires_grad=grad and a.dtype.kind == "f")


def torch_make(a, grad=True):
    return torch.tensor(a, requires_grad=grad and a.dtype.kind == "f")


def same(mine, theirs, what, dtypes_too=True):
    if not isinstance(theirs, torch.Tensor):
        assert type(mine) is type(theirs), what
        assert mine == pytest.approx(theirs, rel=1e-5), what
        return
    assert tuple(mine.shape) == tuple(theirs.shape), what
    if dtypes_too:
        assert mine.dtype.name == str(theirs.dtype).removeprefix("torch."), what
    assert mine.requires_grad == theirs.requires_grad or theirs.dtype != torch.float32, what
    a, b = mine.detach().numpy(), theirs.detach().numpy()
    tolerance = 1e-2 if b.dtype == np.float16 else 2e-5
    np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol=tolerance, atol=tolerance, err_msg=what)


def check(fn, specs, in_place=False, dtypes_too=True):
    operands = [np.asarray(operand(s, np.random.default_rng(i))) for i, s in enumerate(specs)]
    theirs, their_grads = run(fn, torch, operands, torch_make, in_place)
    with np.errstate(all="ignore"):
        mine, my_grads = run(fn, gl, operands, gl_make, in_place)
    assert len(mine) == len(theirs)
    for k, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        same(a, b, f"result {k}", dtypes_too)
    assert (my_grads is None) == (their_grads is None)
    for k, (a, b) in enumerate(zip(my_grads or (), their_grads or (), strict=True)):
        assert (a is None) == (b is None), f"gradient {k}"
        if b is not None:
            same(a, b, f"gradient {k}", dtypes_too)


def cases(table):
    return [
        pytest.param(fn, specs, id=f"{name}-{i}") for name, rows in table.items() for i, (fn, specs) in enumerate(rows)
    ]


@pytest.mark.parametrize(("fn", "specs"), cases(SAMPLES))
def test_method(fn, specs):
    check(fn, specs)


@pytest.mark.parametrize(("fn", "specs"), cases(IN_PLACE | {"operator": OPERATORS}))
def test_in_place(fn, specs):
    check(fn, specs, in_place=True)


FEW = [
    "exp", "add", "div", "floor_divide", "pow", "clamp", "where", "masked_fill", "sum", "mean", "prod", "max",
    "argmax", "any", "var", "std", "norm", "softmax", "cumsum", "sort", "topk", "matmul", "addmm", "reshape",
    "permute", "squeeze", "expand", "split", "repeat", "flip", "roll", "tril", "diagonal", "gather", "index_add",
    "scatter_add", "scatter", "masked_select", "to",
]  # fmt: skip


@pytest.mark.parametrize("name", FEW)
def test_method_on_engines(backend, name):
    for fn, specs in SAMPLES[name]:
        if "float64" in fn.__code__.co_names and backend == "jax":
            continue
        check(fn, specs, dtypes_too=backend != "jax")


def test_in_place_on_engines(backend):
    for rows in IN_PLACE.values():
        for fn, specs in rows[:1]:
            check(fn, specs, in_place=True)


def test_every_public_method_has_a_sample():
    public = {n for n in dir(Tensor) if not n.startswith("_")}
    held = {*SAMPLES, *IN_PLACE, *ALIASES, *ELSEWHERE}
    assert public - held == set(), "public methods without a sample"
    assert held - public == set(), "samples of methods that there are not"


def test_results_keep_pytorchs_names():
    pair = creation.tensor([[1.0, 3.0], [2.0, 0.0]]).max(dim=1)
    assert pair.values.tolist() == [3.0, 2.0]
    assert pair.indices.tolist() == [1, 0]


ERRORS = [
    (lambda x: x.sum(5), X, IndexOutOfRangeError),
    (lambda x: x.sum((0, 0)), X, ShapeError),
    (lambda x: x.sum(1), ((),), IndexOutOfRangeError),
    (lambda x, y: x.add_(y), ((2,), (2, 2)), ShapeError),
    (lambda x: x.add_(1.5), (Ints((2,)),), DTypeError),
    (lambda x: x.add_(1), (Bools((2,)),), DTypeError),
    (lambda x: x.view(5), X, ShapeError),
    (lambda x: x.view(-1, -1), X, ShapeError),
    (lambda x: x.view(-1, 5), X, ShapeError),
    (lambda x: x.t().view(12), X, ShapeError),
    (lambda x: x.view(-1, 0), ((0, 3),), ShapeError),
    (lambda x: x.expand(2, 4), X, ShapeError),
    (lambda x: x.permute(0, 0), X, ShapeError),
    (lambda x: x.t(), ((2, 3, 4),), ShapeError),
    (lambda x: x.split([1, 1]), X, ShapeError),
    (lambda x: x.narrow(0, 1, 4), X, ShapeError),
    (lambda x: x.select(0, 5), X, IndexOutOfRangeError),
    (lambda x: x.max(), ((0,),), ShapeError),
    (lambda x: x.max(0), ((0, 3),), IndexError),
    (lambda x: x.unflatten(1, (3, 2)), X, ShapeError),
    (lambda x: x.repeat(2), X, ShapeError),
    (lambda x: x.squeeze(5), X, IndexOutOfRangeError),
    (lambda x: x.flatten(1, 0), X, ShapeError),
    (lambda x, y: x.mm(y), XY, ShapeError),
    (lambda x, y: x.dot(y), ((2, 3), (3,)), ShapeError),
    (lambda x: x.chunk(0), X, ShapeError),
    (lambda x: x.div(2, rounding_mode="x"), X, OptionError),
    (lambda x, i: x.gather(0, i), ((2,), Given([5], "int64")), IndexOutOfRangeError),
    (lambda x: x.item(), X, ShapeError),
    (lambda x: x.swapaxes(0, 3), X, IndexOutOfRangeError),
]


@pytest.mark.parametrize(("fn", "specs", "error"), ERRORS)
def test_errors_say_what_pytorchs_say(fn, specs, error):
    operands = [np.asarray(operand(s, np.random.default_rng(i))) for i, s in enumerate(specs)]
    with pytest.raises(Exception) as theirs:
        fn(*(torch.tensor(a) for a in operands))
    with pytest.raises(error) as mine:
        fn(*(creation.tensor(a) for a in operands))
    assert str(mine.value).startswith(str(theirs.value).removeprefix("torch.")[:60].split("(sparse")[0])


def test_dim_and_axis_at_once_are_refused():
    x = creation.zeros(2, 3)
    with pytest.raises(TypeError, match="both dim= and axis="):
        x.sum(dim=0, axis=0)
    with pytest.raises(TypeError, match="multiple values"):
        x.sum(0, axis=0)
    assert x.mean(axis=0, keepdims=True).shape == (1, 3)


def test_mean_of_integers_is_refused():
    with pytest.raises(DTypeError, match=r"mean\(\): could not infer output dtype.*Long"):
        creation.zeros(2, dtype="int64").mean()


def test_as_strided_is_refused_with_advice():
    with pytest.raises(OptionError, match="narrow, transpose"):
        creation.zeros(4).as_strided((2,), (2,))


def test_move_between_backends_keeps_the_gradient():
    x = creation.tensor([1.0, 2.0], requires_grad=True)
    y = (x * 3).to(backend="torch")
    assert y.backend == "torch"
    assert x.backend == "numpy"
    (y * y).sum().backward()
    assert x.grad.backend == "numpy"
    assert x.grad.tolist() == [18.0, 36.0]


def test_unknown_device_is_refused():
    with pytest.raises(BackendError, match="has no device 'cuda'"):
        creation.zeros(2).cuda()


def test_backend_and_device_inside_a_compiled_function():
    import gradloom

    @gradloom.jit
    def f(x):
        assert (x.backend, x.device) == ("numpy", "cpu")
        return x + gradloom.ones(2, dtype=x.dtype, device=x.device) + gradloom.full_like(x, 2, device=x.device)

    assert f(creation.zeros(2)).tolist() == [3.0, 3.0]
    with pytest.raises(BackendError, match="no device 'cuda'"):
        gradloom.jit(lambda x: x + gradloom.ones(2, device="cuda"))(creation.zeros(2))


def test_clone_and_to():
    x = creation.zeros(2)
    assert x.to("float32") is x
    assert x.cpu() is x
    y = x.clone()
    y.add_(1)
    assert x.tolist() == [0.0, 0.0]
    assert x.type() == "gradloom.float32"
    assert x.type("int64").dtype is dtypes.int64


def test_random_in_place():
    for name, args in (("normal_", (2.0, 0.5)), ("uniform_", (1.0, 3.0)), ("bernoulli_", (0.5,)), ("random_", (0, 10))):
        texts = set()
        for engine in ("numpy", "torch"):
            creation.manual_seed(3)
            with using_backend(engine):
                x = creation.zeros(2000)
            assert getattr(x, name)(*args) is x
            assert abs(float(x.mean()) - {"normal_": 2, "uniform_": 2, "bernoulli_": 0.5, "random_": 4.5}[name]) < 0.15
            texts.add(str(x))
        assert len(texts) == 1, "engines differ"
    with pytest.raises(DTypeError, match="float dtype"):
        creation.zeros(2, dtype="int64").normal_()


def test_functions_are_the_methods():
    x = creation.tensor([[1.0, -2.0], [3.0, 4.0]])
    for name in functions._NAMES:
        assert callable(getattr(functions, name)), name
    assert functions.sum(x, 1).tolist() == [-1.0, 7.0]
    assert functions.max(x, dim=0).indices.tolist() == [1, 1]
    assert functions.exp(np.zeros(2)).tolist() == [1.0, 1.0]
    assert functions.cat([x, x], dim=1).shape == (2, 4)
    assert functions.stack((x, x), dim=-1).shape == (2, 2, 2)
    assert functions.allclose(x, x)
    assert functions.where(x > 0, x, 0.0).tolist() == [[1.0, 0.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [("ij,jk->ik", ((2, 3), (3, 4))), ("ij,jk", ((2, 3), (3, 4))), ("...ij,...jk", ((5, 2, 3), (1, 3, 4))), ("ii->i",
    ((3, 3),)),
     ("b...,b...->...", ((2, 3), (2, 3))), ("...ij->...ji", ((2, 3, 4),)), ("ij->", ((2, 3),)), ("...,...", ((2, 3),
     (3,)))],
)  # fmt: skip
def test_einsum(equation, shapes):
    arrays = [np.random.default_rng(i).standard_normal(s) for i, s in enumerate(shapes)]
    theirs = torch.einsum(equation, *map(torch.tensor, arrays))
    np.testing.assert_allclose(functions.einsum(equation, *map(creation.tensor, arrays)).numpy(), theirs.numpy())


def test_functions_of_several_tensors():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3)), rng.standard_normal((3, 4))
    v, w = rng.standard_normal(3), rng.standard_normal(2)
    for call in (
        lambda m, a, b, v, w: m.tensordot(a, b, dims=1),
        lambda m, a, b, v, w: m.tensordot(a, b.t(), dims=([1], [1])),
        lambda m, a, b, v, w: m.meshgrid(v, w, indexing="ij"),
        lambda m, a, b, v, w: m.meshgrid(v, w, indexing="xy"),
        lambda m, a, b, v, w: m.broadcast_tensors(a, v),
        lambda m, a, b, v, w: m.hstack([a, a]),
        lambda m, a, b, v, w: m.hstack([v, w]),
        lambda m, a, b, v, w: m.vstack([v, v]),
        lambda m, a, b, v, w: m.var_mean(a, 1),
        lambda m, a, b, v, w: m.std_mean(a, 0, correction=0),
    ):
        theirs = call(torch, *map(torch.tensor, (a, b, v, w)))
        mine = call(functions, *map(creation.tensor, (a, b, v, w)))
        for x, y in zip(mine, theirs, strict=True) if isinstance(theirs, (tuple, list)) else [(mine, theirs)]:
            np.testing.assert_allclose(x.numpy(), y.numpy())
    with pytest.raises(ShapeError, match="Sizes of tensors must match except in dimension 0"):
        functions.cat([creation.zeros(2, 3), creation.zeros(2, 4)])
