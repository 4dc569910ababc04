"""Samples of every layer of `gradloom.models`, with what they give: NumPy's numbers, or those of an `nn` module."""

import functools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.special

import gradloom as gl
from gradloom import models, nn
from gradloom.nn import functional as F

RNG = np.random.default_rng(0)


@dataclass
class Sample:
    """A layer with inputs.

    Attributes:
        options, inputs: Of the layer; an input that is a list of arrays is variadic.
        ref: A function of NumPy arrays.
        nn: In its place a class of `nn` with its arguments, which gets the layer's parameters; or a function of Tensors.
        batch: {input: axis} of what may be of any size. Default: axis 0 of each input.
        back: What is inferred of inputs from the outputs' full shapes; True: all of it.
        given: Shapes that are known besides the outputs', for `back`.
    """

    options: dict = field(default_factory=dict)
    inputs: dict = field(default_factory=dict)
    ref: Any = None
    nn: Any = None
    batch: Any = None
    back: Any = None
    given: dict = field(default_factory=dict)


def f(*shape):
    return RNG.normal(size=shape).astype("float32")


def positive(*shape):
    return (np.abs(f(*shape)) + 0.5).astype("float32")


def integers(high, *shape):
    return RNG.integers(0, high, shape).astype("int64")


def bools(*shape):
    return RNG.random(shape) > 0.5


def share(*shape):
    """Between 0 and 1."""
    return RNG.uniform(0.05, 0.95, shape).astype("float32")


SAMPLES: dict[str, list[Sample]] = {}


def add(name, options=None, inputs=None, ref=None, **more):
    inputs = {"input": f(3, 4)} if inputs is None else inputs
    SAMPLES.setdefault(name, []).append(Sample(options or {}, inputs, ref, **more))


def module(cls, *args, **kwargs):
    return functools.partial(cls, *args, **kwargs)


def softmax(x, axis):
    return scipy.special.softmax(x, axis)


# --- activations and functions of elements
for _name, _ref in {
    "Relu": lambda x: np.maximum(x, 0), "Relu6": lambda x: np.clip(x, 0, 6), "Selu": None, "Silu": None, "Mish": None,
    "Sigmoid": scipy.special.expit, "LogSigmoid": scipy.special.log_expit, "HardSigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "HardSwish": lambda x: x * np.clip(x + 3, 0, 6) / 6, "Tanh": np.tanh, "Softsign": lambda x: x / (1 + np.abs(x)),
    "Abs": np.abs, "Ceil": np.ceil, "Cos": np.cos, "Erf": scipy.special.erf, "Exp": np.exp, "Floor": np.floor,
    "Negate": np.negative, "Round": np.round, "Sign": np.sign, "Sin": np.sin, "Square": np.square, "Tan": np.tan,
    "Identity": lambda x: x, "StopGradient": lambda x: x, "LogicalNot": np.logical_not,
}.items():  # fmt: skip
    add(_name, ref=_ref, nn=None if _ref else getattr(F, _name.lower()), back=True)
for _name, _ref in {"Log": np.log, "Sqrt": np.sqrt, "Reciprocal": np.reciprocal}.items():
    add(_name, inputs={"input": positive(3, 4)}, ref=_ref, back=True)
add("LeakyRelu", {"slope": 0.3}, ref=lambda x: np.where(x > 0, x, 0.3 * x), back=True)
add("Elu", {"alpha": 0.5}, ref=lambda x: np.where(x > 0, x, 0.5 * np.expm1(x)), back=True)
add("Celu", {"alpha": 0.5}, ref=lambda x: np.where(x > 0, x, 0.5 * np.expm1(x / 0.5)), back=True)
add("Gelu", ref=lambda x: x * scipy.special.ndtr(x), back=True)
add("Gelu", {"approximate": "tanh"}, nn=lambda x: F.gelu(x, "tanh"))
add("HardTanh", {"low": -0.5, "high": 0.25}, ref=lambda x: np.clip(x, -0.5, 0.25), back=True)
add("Softplus", {"beta": 2.0}, ref=lambda x: np.log1p(np.exp(2 * x)) / 2, back=True)
add("Softplus", {"threshold": 0.1}, nn=lambda x: F.softplus(x, 1.0, 0.1))
add("Softmax", ref=lambda x: softmax(x, -1), back=True)
add("Softmax", {"axis": 0}, ref=lambda x: softmax(x, 0))
add("LogSoftmax", {"axis": 1}, ref=lambda x: np.log(softmax(x, 1)), back=True)
add("Glu", ref=lambda x: x[:, :2] * scipy.special.expit(x[:, 2:]), back=True)
add("PRelu", {"number": 4, "start": 0.1}, nn=module(nn.PReLU, 4), back=True)
add("PRelu", nn=module(nn.PReLU))
add("Clip", {"low": -0.5}, ref=lambda x: np.maximum(x, np.float32(-0.5)), back=True)
add("Clip", {"low": -0.5, "high": 0.5}, ref=lambda x: np.clip(x, -0.5, 0.5))
add("Cast", {"dtype": "int64"}, ref=lambda x: x.astype("int64"), back=True)

# --- two inputs
for _name, _ref in {
    "Add": np.add, "Subtract": np.subtract, "Multiply": np.multiply, "Divide": np.divide, "FloorDivide": np.floor_divide,
    "Remainder": np.remainder, "Maximum": np.maximum, "Minimum": np.minimum, "Greater": np.greater,
    "GreaterEqual": np.greater_equal, "Less": np.less, "LessEqual": np.less_equal, "Equal": np.equal,
    "NotEqual": np.not_equal,
}.items():  # fmt: skip
    add(_name, inputs={"left": f(3, 4), "right": f(3, 4)}, ref=_ref)
    add(_name, inputs={"left": f(3, 4), "right": f(4)}, ref=_ref, batch={"left": 0})
add("Equal", inputs={"left": integers(3, 8), "right": integers(3, 8)}, ref=np.equal)
add("Power", inputs={"left": positive(3, 4), "right": f(3, 1)}, ref=np.power)
for _name, _ref in {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor}.items():
    add("Logical" + _name, inputs={"left": bools(3, 4), "right": bools(3, 4)}, ref=_ref)
add("Where", inputs={"condition": bools(3, 4), "left": f(3, 1), "right": f(3, 4)}, ref=np.where)
add("MatMul", inputs={"left": f(3, 4), "right": f(4, 5)}, ref=np.matmul, batch={"left": 0},
    back={"left": (3, 4), "right": (4, 5)}, given={"left": (None, 4), "right": (None, None)})  # fmt: skip
add("MatMul", inputs={"left": f(2, 3, 4), "right": f(4, 5)}, ref=np.matmul, batch={"left": 1})
add("Dot", inputs={"left": f(4), "right": f(4)}, ref=np.dot)
add("Outer", inputs={"left": f(4), "right": f(3)}, ref=np.outer, back=True)
add("Bilinear", {"dimension": 2}, {"left": f(3, 4), "right": f(3, 5)}, nn=module(nn.Bilinear, 4, 5, 2),
    back={"left": (3, None), "right": (3, None)})  # fmt: skip

# --- layers of weights
add("Linear", {"dimension": 5}, nn=module(nn.Linear, 4, 5), back={"input": (3, 4)}, given={"weight": (None, 4)})
add("Linear", {"dimension": 5, "use_bias": False}, nn=module(nn.Linear, 4, 5, bias=False), back={"input": (3, None)})
add("Embedding", {"number": 9, "width": 2}, {"input": integers(9, 3, 4)}, nn=module(nn.Embedding, 9, 2), back=True)
add(
    "Embedding",
    {"number": 9, "width": 2, "padding_index": 0},
    {"input": integers(9, 3)},
    nn=module(nn.Embedding, 9, 2, 0),
)
add("MLP", {"dimensions": [5, 2]}, nn=lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)))
add("MLP", {"dimensions": (5,), "activations": (models.Tanh(),), "use_bias": False},
    nn=lambda: nn.Sequential(nn.Linear(4, 5, bias=False), nn.Tanh()))  # fmt: skip
for _k in (1, 2, 3):
    _x, _s = f(2, 4, *(8, 7, 6)[:_k]), (8, 7, 6)[:_k]
    _conv, _max, _avg, _bins = (getattr(nn, f"{n}{_k}d") for n in ("Conv", "MaxPool", "AvgPool", "AdaptiveAvgPool"))
    _name = f"Convolution{_k}D"
    add(_name, {"kernel_size": 3, "out_channels": 6}, {"input": _x}, nn=module(_conv, 4, 6, 3),
        back={"input": (2, 4, *_s)}, given={"weight": (None, 4) + (None,) * _k})  # fmt: skip
    _more = {"stride": 2, "padding": 1, "groups": 2}
    add(_name, {"kernel_size": 3, "out_channels": 6, **_more, "use_bias": False}, {"input": _x},
        nn=module(_conv, 4, 6, 3, bias=False, **_more), back={"input": (2, None) + (None,) * _k})  # fmt: skip
    add(_name, {"kernel_size": [2, 3, 1][:_k], "out_channels": 2, "padding": "same", "dilation": 2}, {"input": _x},
        nn=module(_conv, 4, 2, (2, 3, 1)[:_k], padding="same", dilation=2), back={"input": (2, None, *_s)})  # fmt: skip
    add(
        _name,
        {"kernel_size": 2, "out_channels": 2, "padding": "valid"},
        {"input": _x[0]},
        nn=module(_conv, 4, 2, 2),
        batch={},
    )
    add(f"MaxPool{_k}D", {"kernel_size": 2}, {"input": _x}, nn=module(_max, 2), back={"input": (2, 4) + (None,) * _k})
    _more = {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}
    add(f"MaxPool{_k}D", {**_more, "dilation": 2}, {"input": _x}, nn=module(_max, **_more, dilation=2))
    add(f"AvgPool{_k}D", {"kernel_size": 2}, {"input": _x}, nn=module(_avg, 2), back={"input": (2, 4) + (None,) * _k})
    add(
        f"AvgPool{_k}D",
        {**_more, "count_include_pad": False},
        {"input": _x},
        nn=module(_avg, **_more, count_include_pad=False),
    )
    add(
        f"AdaptiveAvgPool{_k}D",
        {"output_size": 3},
        {"input": _x},
        nn=module(_bins, 3),
        back={"input": (2, 4) + (None,) * _k},
    )
    add(f"AdaptiveAvgPool{_k}D", {"output_size": (None, 2, 2)[:_k]}, {"input": _x}, nn=module(_bins, (None, 2, 2)[:_k]))

# --- normalization
add("LayerNorm", nn=module(nn.LayerNorm, 4), back=True)
add(
    "LayerNorm",
    {"axes": 2, "eps": 0.1, "use_bias": False},
    {"input": f(2, 3, 4)},
    nn=module(nn.LayerNorm, (3, 4), 0.1, bias=False),
)
add("LayerNorm", {"use_weight": False}, nn=module(nn.LayerNorm, 4, elementwise_affine=False))
add("RMSNorm", {"eps": 0.1}, nn=module(nn.RMSNorm, 4, 0.1), back=True)
add(
    "RMSNorm",
    {"axes": 2, "use_weight": False},
    {"input": f(2, 3, 4)},
    nn=module(nn.RMSNorm, (3, 4), elementwise_affine=False),
)
add("GroupNorm", {"num_groups": 2}, {"input": f(2, 4, 5)}, nn=module(nn.GroupNorm, 2, 4), back=True)
for _name, _shapes in {"1D": [(5, 4), (5, 4, 3)], "2D": [(5, 4, 3, 2)], "3D": [(3, 4, 2, 2, 2)]}.items():
    for _shape in _shapes:
        for _kind in (_name, ""):
            add(
                "BatchNorm" + _kind,
                {"eps": 0.01},
                {"input": f(*_shape)},
                nn=module(getattr(nn, f"BatchNorm{_name[0]}d"), 4, 0.01),
                back=True,
            )
add(
    "BatchNorm",
    {"use_weight": False, "track_running_stats": False},
    nn=module(nn.BatchNorm1d, 4, affine=False, track_running_stats=False),
)
add("Dropout", {"p": 0.3}, ref=lambda x: x, back=True)

# --- recurrent
_more = {"num_layers": 2, "batch_first": True, "bidirectional": True}
for _name in ("RNN", "LSTM", "GRU"):
    _cls, _cell = getattr(nn, _name), getattr(nn, _name + "Cell")
    add(
        _name,
        {"hidden_size": 3},
        {"input": f(5, 2, 4)},
        nn=module(_cls, 4, 3),
        batch={"input": 1},
        back={"input": (5, 2, None)},
    )
    add(
        _name,
        {"hidden_size": 3, "use_bias": False},
        {"input": f(5, 4)},
        nn=module(_cls, 4, 3, bias=False),
        batch={"input": 0},
    )
    add(_name, {"hidden_size": 3, **_more}, {"input": f(2, 5, 4)}, nn=module(_cls, 4, 3, **_more), back={"input": (2, 5, 4)},
        given={"weight_ih_l0": (None, 4)})  # fmt: skip
    add(_name + "Cell", {"hidden_size": 3}, {"input": f(2, 4)}, nn=module(_cell, 4, 3), back={"input": (2, None)})
    add(
        _name + "Cell",
        {"hidden_size": 3, "use_bias": False},
        {"input": f(4)},
        nn=module(_cell, 4, 3, bias=False),
        batch={},
    )
for _name in ("RNN", "GRU"):
    add(_name, {"hidden_size": 3}, {"input": f(5, 2, 4), "initial_hidden": f(1, 2, 3)}, nn=module(getattr(nn, _name), 4, 3),
        batch={"input": 1, "initial_hidden": 1})  # fmt: skip
    add(
        _name + "Cell",
        {"hidden_size": 3},
        {"input": f(2, 4), "initial_hidden": f(2, 3)},
        nn=module(getattr(nn, _name + "Cell"), 4, 3),
    )
add(
    "RNN",
    {"hidden_size": 3, "nonlinearity": "relu"},
    {"input": f(5, 2, 4)},
    nn=module(nn.RNN, 4, 3, nonlinearity="relu"),
    batch={"input": 1},
)
add(
    "RNNCell",
    {"hidden_size": 3, "nonlinearity": "relu"},
    {"input": f(2, 4)},
    nn=module(nn.RNNCell, 4, 3, nonlinearity="relu"),
)


class States:
    """An nn module that takes h and c as one argument, called with the two."""

    def __init__(self, cls, *args, **kwargs):
        self.module = cls(*args, **kwargs)

    def __call__(self, x, h, c):
        return self.module(x, (h, c))


_h = {"initial_hidden": f(1, 2, 2), "initial_cell": f(1, 2, 3)}
add("LSTM", {"hidden_size": 3, "proj_size": 2}, {"input": f(5, 2, 4), **_h}, nn=module(States, nn.LSTM, 4, 3, proj_size=2),
    batch={"input": 1, "initial_hidden": 1, "initial_cell": 1})  # fmt: skip
add(
    "LSTMCell",
    {"hidden_size": 3},
    {"input": f(2, 4), "initial_hidden": f(2, 3), "initial_cell": f(2, 3)},
    nn=module(States, nn.LSTMCell, 4, 3),
)


# --- attention
class Called:
    """An nn module that is called with other arguments, of which it gives some results."""

    def __init__(self, module, call):
        self.module, self.call = module, call

    def __call__(self, *inputs):
        return self.call(self.module, *inputs)


def called(make, call):
    return lambda: Called(make(), call)


def later(n):
    return gl.ones(n, n, dtype="bool").triu(1)


_qkv = {"query": f(2, 5, 4), "key": f(2, 6, 4), "value": f(2, 6, 3)}
_sdpa = {"query": (2, 5, 4), "key": (None, None, 4), "value": (None, None, 3)}
add("ScaledDotProduct", {}, _qkv, nn=F.scaled_dot_product_attention, back=_sdpa,
    given={"key": (None, None, 4), "value": (None,) * 3, "query": (2, None, None)})  # fmt: skip
add(
    "ScaledDotProduct",
    {"causal": True, "scale": 0.5},
    _qkv,
    nn=lambda *t: F.scaled_dot_product_attention(*t, is_causal=True, scale=0.5),
)
add("ScaledDotProduct", {}, {**_qkv, "mask": bools(2, 5, 6)}, nn=F.scaled_dot_product_attention)
_qkv = {"query": f(5, 2, 4), "key": f(6, 2, 3), "value": f(6, 2, 7)}
add("MultiheadAttention", {"num_heads": 2}, _qkv, batch=dict.fromkeys(_qkv, 1), back={"query": (5, 2, 4)},
    nn=called(lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=7), lambda m, *t: m(*t)[0]))  # fmt: skip
_more = {"add_bias_kv": True, "add_zero_attn": True}
add("MultiheadAttention", {"num_heads": 2, "need_weights": True, "use_bias": False, **_more}, _qkv,
    batch=dict.fromkeys(_qkv, 1), nn=module(nn.MultiheadAttention, 4, 2, bias=False, kdim=3, vdim=7, **_more))  # fmt: skip
_qkv = {"query": f(2, 5, 4), "key": f(2, 5, 4), "value": f(2, 5, 4)}
add("MultiheadAttention", {"num_heads": 2, "causal": True, "batch_first": True}, _qkv,
    nn=called(lambda: nn.MultiheadAttention(4, 2, batch_first=True), lambda m, *t: m(*t, attn_mask=later(5))[0]))  # fmt: skip
_padding = np.arange(5) >= np.array([[3], [5]])
add("MultiheadAttention", {"num_heads": 2, "batch_first": True}, {**_qkv, "key_padding_mask": _padding},
    nn=called(lambda: nn.MultiheadAttention(4, 2, batch_first=True), lambda m, *t: m(*t[:3], key_padding_mask=t[3])[0]))  # fmt: skip
_layer = {"num_heads": 2, "dim_feedforward": 8}
_torch = {"d_model": 4, "nhead": 2, "dim_feedforward": 8}
_other = {"activation": "gelu", "norm_first": True, "batch_first": True}
add(
    "TransformerEncoderLayer",
    _layer,
    {"input": f(5, 2, 4)},
    nn=module(nn.TransformerEncoderLayer, **_torch),
    batch={"input": 1},
    back=True,
)
add("TransformerEncoderLayer", {**_layer, **_other, "causal": True, "use_bias": False}, {"input": f(2, 5, 4)},
    nn=called(lambda: nn.TransformerEncoderLayer(**_torch, **_other, bias=False), lambda m, x: m(x, later(5))))  # fmt: skip
add("TransformerEncoderLayer", {**_layer, "batch_first": True}, {"input": f(2, 5, 4), "key_padding_mask": _padding},
    nn=called(lambda: nn.TransformerEncoderLayer(**_torch, batch_first=True), lambda m, x, p: m(x, src_key_padding_mask=p)))  # fmt: skip
add("TransformerEncoder", {"num_layers": 2, **_layer, "causal": True, "final_norm": True}, {"input": f(5, 2, 4)},
    nn=called(lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(**_torch), 2, nn.LayerNorm(4)),
              lambda m, x: m(x, later(5))), batch={"input": 1}, back=True)  # fmt: skip
_memory = {"input": f(5, 2, 4), "memory": f(3, 2, 4)}
add(
    "TransformerDecoderLayer",
    _layer,
    _memory,
    nn=module(nn.TransformerDecoderLayer, **_torch),
    batch=dict.fromkeys(_memory, 1),
    back={"input": (5, 2, 4)},
)
add("TransformerDecoderLayer", {**_layer, "causal": True}, {**_memory, "memory_mask": np.tri(5, 3) < 1}, batch={},
    nn=called(lambda: nn.TransformerDecoderLayer(**_torch), lambda m, x, y, k: m(x, y, later(5), k)))  # fmt: skip
add("TransformerDecoder", {"num_layers": 2, **_layer}, _memory, batch=dict.fromkeys(_memory, 1), back={"input": (5, 2, 4)},
    nn=lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(**_torch), 2))  # fmt: skip
add("TransformerDecoder", {"num_layers": 1, **_layer, "causal": True}, _memory, batch=dict.fromkeys(_memory, 1),
    nn=called(lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(**_torch), 1), lambda m, x, y: m(x, y, later(5))))  # fmt: skip


def _sinusoids(x):
    out = np.array(x, "float64")
    for p, i in np.ndindex(x.shape[0], x.shape[-1]):
        angle = p / 10000 ** (2 * (i // 2) / x.shape[-1])
        out[p, ..., i] += math.cos(angle) if i % 2 else math.sin(angle)
    return out


add("PositionalEncoding", {"number": 9}, {"input": f(5, 2, 3)}, _sinusoids, batch={"input": 1}, back=True)
add(
    "PositionalEncoding",
    {"number": 9, "batch_first": True},
    {"input": f(2, 5, 4)},
    lambda x: _sinusoids(x.swapaxes(0, 1)).swapaxes(0, 1),
)
add("PositionalEncoding", {"number": 9, "batch_first": True}, {"input": f(5, 4)}, _sinusoids)
add("PositionEmbedding", {"number": 9}, {"input": f(5, 2, 4)}, batch={"input": 1}, back=True,
    nn=called(lambda: nn.Embedding(9, 4), lambda m, x: x + m.weight[:5].unsqueeze(1)))  # fmt: skip

# --- reductions
for _name, _ref in {
    "Sum": np.sum, "Mean": np.mean, "Prod": np.prod, "Max": np.max, "Min": np.min, "LogSumExp": scipy.special.logsumexp,
    "Variance": functools.partial(np.var, ddof=1), "StandardDeviation": functools.partial(np.std, ddof=1),
    "Norm": np.linalg.norm,
}.items():  # fmt: skip
    add(_name, {}, {"input": f(6)}, _ref)
    add(_name, {"axis": 1}, {"input": f(3, 4)}, functools.partial(_ref, axis=1), back={"input": (3, None)})
    add(
        _name,
        {"axis": -1, "keepdim": True},
        {"input": f(3, 4)},
        lambda x, g=_ref: g(x, axis=-1, keepdims=True),
        back={"input": (3, None)},
    )
    if _name != "Norm":
        add(
            _name,
            {"axis": [0, 2]},
            {"input": f(3, 4, 5)},
            functools.partial(_ref, axis=(0, 2)),
            back={"input": (None, 4, None)},
        )
add("Variance", {"correction": 0}, {"input": f(6)}, np.var)
add("StandardDeviation", {"correction": 0, "axis": 0}, ref=lambda x: x.std(0))
add("Norm", {"p": 1, "axis": 1}, ref=lambda x: np.abs(x).sum(1))
for _name in ("ArgMax", "ArgMin"):
    _ref = getattr(np, _name.lower())
    add(_name, {}, ref=_ref)
    add(_name, {"axis": 1}, ref=lambda x, g=_ref: g(x, 1), back={"input": (3, None)})
    add(_name, {"axis": 0, "keepdim": True}, ref=lambda x, g=_ref: g(x, 0, keepdims=True))
add("Cumsum", {"axis": 1}, ref=lambda x: np.cumsum(x, 1), back=True)
add("Cumprod", {"axis": 1}, ref=lambda x: np.cumprod(x, 1), back=True)

# --- shapes
add("Concat", {"axis": 1}, {"input": [f(3, 4), f(3, 2)]}, lambda a, b: np.concatenate([a, b], 1))
add("Concat", {}, {"input": [f(3, 4), f(2, 4)]}, lambda a, b: np.concatenate([a, b]))
add("Stack", {"axis": 1}, {"input": [f(3, 4), f(3, 4)]}, lambda a, b: np.stack([a, b], 1))
add("Split", {"parts": 2, "axis": 1}, ref=lambda x: np.split(x, 2, 1), back=True)
add("Split", {"parts": [1, 3], "axis": -1}, ref=lambda x: np.split(x, [1], 1), back=True)
add("Reshape", {"shape": [-1, 2, 2]}, ref=lambda x: x.reshape(-1, 2, 2))
add("Reshape", {"shape": 12}, ref=lambda x: x.reshape(12), batch={})
add("Flatten", {}, {"input": f(2, 3, 4)}, lambda x: x.reshape(2, 12))
add("Flatten", {"start_dim": 0, "end_dim": 1}, {"input": f(2, 3, 4)}, lambda x: x.reshape(6, 4))
add("Transpose", {}, {"input": f(2, 3, 4)}, np.transpose, back=True)
add("Transpose", {"axes": [1, -1, 0]}, {"input": f(2, 3, 4)}, lambda x: x.transpose(1, 2, 0), back=True)
add("ExpandDims", {"axis": 1}, ref=lambda x: x[:, None], back=True)
add("ExpandDims", {"axis": -1}, ref=lambda x: x[..., None], back=True)
add("Squeeze", {"axis": 1}, {"input": f(3, 1, 4)}, lambda x: x[:, 0], back=True)
add("Squeeze", {"axis": -2}, {"input": f(3, 1, 4)}, lambda x: x[:, 0], back=True)
add("BroadcastTo", {"shape": (2, 3, 4)}, ref=lambda x: np.broadcast_to(x, (2, 3, 4)), batch={})
add("Slice", {"start": 1, "stop": -1, "axis": 1}, ref=lambda x: x[:, 1:-1], back={"input": (3, None)})
add("Slice", {"axis": -1, "step": 2}, ref=lambda x: x[:, ::2], back={"input": (3, None)})
add("Slice", {}, ref=lambda x: x, back=True)
add("Indexer", {"index": (slice(None), 1)}, ref=lambda x: x[:, 1])
add("Indexer", {"index": (..., None, slice(1, 3))}, ref=lambda x: x[..., None, 1:3])
add(
    "Take",
    {"axis": 1},
    {"input": f(3, 4), "indices": integers(4, 2, 2)},
    lambda x, k: np.take(x, k, 1),
    batch={"input": 0},
)
add("Pad", {"padding": (1, 2)}, ref=lambda x: np.pad(x, [(0, 0), (1, 2)]), back=True)
add(
    "Pad",
    {"padding": [0, -1, 1, 1], "value": 2.0},
    ref=lambda x: np.pad(x[:, :-1], [(1, 1), (0, 0)], constant_values=2),
    back=True,
)
add("OneHot", {"number": 5}, {"input": integers(5, 3, 2)}, lambda k: np.eye(5, dtype="int64")[k], back=True)

# --- losses
_pair = {"input": f(3, 4), "target": f(3, 4)}


def _reduced(loss):
    return {"mean": lambda *a: loss(*a).mean(), "sum": lambda *a: loss(*a).sum(), "none": loss}


def _huber(x, y, delta=0.5):
    d = np.abs(x - y)
    return np.where(d < delta, d * d / 2, delta * (d - delta / 2))


def add_loss(name, options, inputs, loss, back=True):
    for reduction, ref in _reduced(loss).items():
        add(name, {**options, "reduction": reduction}, inputs, ref, back=back if reduction == "none" else None)


_signs = {"input": f(3, 4), "target": np.sign(f(3, 4))}
add_loss("SquaredError", {}, _pair, lambda x, y: (x - y) ** 2)
add_loss("AbsoluteError", {}, _pair, lambda x, y: np.abs(x - y))
add_loss("HuberLoss", {"delta": 0.5}, _pair, _huber)
add_loss("SmoothL1", {"beta": 0.5}, _pair, lambda x, y: _huber(x, y) / 0.5)
add_loss("QuantileLoss", {"quantile": 0.2}, _pair, lambda x, y: np.where(y > x, 0.2 * (y - x), 0.8 * (x - y)))
add_loss("HingeLoss", {}, _signs, lambda x, y: np.maximum(1 - x * y, 0))
add_loss("QuadHingeLoss", {"margin": 0.5}, _signs, lambda x, y: np.maximum(0.5 - x * y, 0) ** 2)
_p, _q = np.log(softmax(f(3, 4), 1)), softmax(f(3, 4), 1)
add_loss("KLDivergence", {}, {"input": _p, "target": _q}, lambda x, y: y * (np.log(y) - x))
add(
    "KLDivergence",
    {"log_target": True, "reduction": "batchmean"},
    {"input": _p, "target": np.log(_q)},
    lambda x, y: (np.exp(y) * (y - x)).sum() / 3,
)


def _bce(p, y):
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


_pair = {"input": share(3, 4), "target": share(3, 4)}
add_loss("BinaryCrossEntropy", {"from_logits": False}, _pair, _bce)
add_loss("BinaryCrossEntropy", {}, _pair, lambda x, y: _bce(scipy.special.expit(x), y))
add("BinaryCrossEntropy", {}, {**_pair, "weight": f(4), "pos_weight": positive(4)}, batch={"input": 0, "target": 0},
    nn=lambda x, y, w, p: F.binary_cross_entropy_with_logits(x, y, w, pos_weight=p))  # fmt: skip
add("BinaryCrossEntropy", {"from_logits": False}, {**_pair, "weight": f(3, 1)}, lambda p, y, w: (w * _bce(p, y)).mean())


def _picked(logs, k):
    return -np.take_along_axis(logs, k[:, None], 1)[:, 0]


_k, _p = integers(4, 3), softmax(f(3, 4), 1)
_from_rows, _from_deep = {"input": (3, None), "target": (3,)}, {"input": (2, None, 3), "target": (2, 3)}
_deep = {"input": f(2, 4, 3), "target": integers(4, 2, 3)}
add_loss("NLL", {}, {"input": np.log(_p), "target": _k}, _picked, _from_rows)
add_loss("NLL", {}, _deep, _picked, _from_deep)
add("NLL", {"ignore_index": 1}, {"input": np.log(_p), "target": np.array([1, 0, 2]), "weight": positive(4)},
    nn=lambda x, k, w: F.nll_loss(x, k, w, ignore_index=1), batch={"input": 0, "target": 0})  # fmt: skip
add_loss(
    "CrossEntropy",
    {},
    {"input": f(3, 4), "target": _k},
    lambda x, k: _picked(np.log(softmax(x, 1)), k),
    {"input": (3, None), "target": (3,)},
)
add_loss(
    "CrossEntropy", {}, _deep, lambda x, k: _picked(np.log(softmax(x, 1)), k), {"input": (2, None, 3), "target": (2, 3)}
)
add_loss(
    "CrossEntropy",
    {"from_logits": False},
    {"input": _p, "target": _k},
    lambda p, k: _picked(np.log(p), k),
    {"input": (3, None), "target": (3,)},
)
add(
    "CrossEntropy",
    {"from_logits": False},
    {"input": np.float32([[0, 1], [1, 0]]), "target": np.array([0, 0])},
    lambda p, k: -np.log(np.finfo(np.float32).tiny) / 2,
)
_soft = {"input": f(3, 4, 2), "target": softmax(f(3, 4, 2), 1)}
_rows = {"target_type": "probabilities"}
add_loss(
    "CrossEntropy",
    _rows,
    _soft,
    lambda x, t: -(t * np.log(softmax(x, 1))).sum(1),
    {"input": (3, None, 2), "target": (3, None, 2)},
)
add_loss(
    "CrossEntropy",
    {**_rows, "from_logits": False},
    {**_soft, "input": share(3, 4, 2)},
    lambda p, t: -(t * np.log(p)).sum(1),
    {"input": (3, None, 2), "target": (3, None, 2)},
)
add(
    "CrossEntropy",
    _rows,
    {"input": f(3, 4), "target": np.eye(4, dtype="int64")[_k]},
    lambda x, t: -(t * np.log(softmax(x, 1))).sum(1).mean(),
)
add("CrossEntropy", {"label_smoothing": 0.2, "ignore_index": 2}, {"input": f(3, 4), "target": _k, "weight": positive(4)},
    batch={"input": 0, "target": 0}, nn=lambda x, k, w: F.cross_entropy(x, k, w, ignore_index=2, label_smoothing=0.2))  # fmt: skip
_w = positive(4)
add("CrossEntropy", {**_rows, "from_logits": False, "reduction": "sum"}, {**_soft, "input": share(3, 4, 2), "weight": _w},
    lambda p, t, w: -(w[:, None] * t * np.log(p)).sum(), batch={"input": 0, "target": 0})  # fmt: skip

# --- more of the families above
add("Softmin", {"axis": 0}, ref=lambda x: softmax(-x, 0), back=True)
add("SoftShrink", {"threshold": 0.25}, ref=lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.25, 0), back=True)
add("HardShrink", {"threshold": 0.25}, ref=lambda x: np.where(np.abs(x) > 0.25, x, 0), back=True)
add("TanhShrink", ref=lambda x: x - np.tanh(x), back=True)
for _k in (1, 2, 3):
    _x = f(2, 4, *(6, 7, 8)[:_k])
    _conv, _bins = getattr(nn, f"ConvTranspose{_k}d"), getattr(nn, f"AdaptiveMaxPool{_k}d")
    _norm, _name = getattr(nn, f"InstanceNorm{_k}d"), f"ConvolutionTranspose{_k}D"
    add(_name, {"kernel_size": 3, "out_channels": 6}, {"input": _x}, nn=module(_conv, 4, 6, 3),
        back={"input": _x.shape}, given={"weight": (4, None) + (None,) * _k})  # fmt: skip
    _more = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2, "dilation": 2}
    add(_name, {"kernel_size": (2, 3, 1)[:_k], "out_channels": 6, "use_bias": False, **_more}, {"input": _x},
        nn=module(_conv, 4, 6, (2, 3, 1)[:_k], bias=False, **_more), back={"input": (2, None, *_x.shape[2:])})  # fmt: skip
    add(
        f"AdaptiveMaxPool{_k}D",
        {"output_size": 3},
        {"input": _x},
        nn=module(_bins, 3),
        back={"input": (2, 4) + (None,) * _k},
    )
    add(f"InstanceNorm{_k}D", {"use_weight": True}, {"input": _x}, nn=module(_norm, 4, affine=True), back=True)
    add(f"InstanceNorm{_k}D", {"eps": 0.1}, {"input": _x[0]}, nn=module(_norm, 4, 0.1), batch={}, back=True)
    add(f"Dropout{_k}D", {"p": 0.3}, {"input": _x}, lambda x: x, back=True)
add("AlphaDropout", {"p": 0.3}, ref=lambda x: x, back=True)
_pair = {"left": f(3, 4), "right": f(3, 4)}
add("CosineSimilarity", {}, _pair, lambda x, y: (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1))
add("PairwiseDistance", {"p": 1.0, "keepdim": True}, _pair, lambda x, y: np.abs(x - y + 1e-6).sum(1, keepdims=True))
add("Upsample", {"scale": 2}, {"input": f(2, 3, 4)}, lambda x: x.repeat(2, -1), back={"input": (2, 3, None)})
add("Upsample", {"size": [5, 3], "mode": "bilinear", "align_corners": True}, {"input": f(2, 3, 4, 5)},
    nn=module(nn.Upsample, (5, 3), mode="bilinear", align_corners=True), back={"input": (2, 3, None, None)})  # fmt: skip
add("PixelShuffle", {"factor": 2}, {"input": f(2, 8, 3, 2)}, nn=module(nn.PixelShuffle, 2), back=True)
add("PixelUnshuffle", {"factor": 2}, {"input": f(2, 3, 4, 6)}, nn=module(nn.PixelUnshuffle, 2), back=True)
_one = {"input": f(3, 4), "target": np.sign(f(3, 4))}
add_loss("HingeEmbedding", {"margin": 0.5}, _one, lambda x, y: np.where(y > 0, x, np.maximum(0, 0.5 - x)))
add_loss("SoftMargin", {}, _one, lambda x, y: np.log1p(np.exp(-x * y)))
_counts = {"input": f(3, 4), "target": integers(9, 3, 4).astype("float32")}
add_loss("PoissonNLL", {}, _counts, lambda x, y: np.exp(x) - y * x)
add(
    "PoissonNLL",
    {"log_input": False, "full": True},
    {**_counts, "input": positive(3, 4)},
    nn=lambda x, y: F.poisson_nll_loss(x, y, False, True),
)
_pair = {**_pair, "target": _one["target"]}
add("GaussianNLL", {"full": True}, {"input": f(3, 4), "target": f(3, 4), "variance": positive(3, 4)},
    lambda x, y, v: ((np.log(v) + (x - y) ** 2 / v + np.log(2 * np.pi)) / 2).mean())  # fmt: skip
add("GaussianNLL", {"reduction": "none"}, {"input": f(3, 4), "target": f(3, 4), "variance": positive(3, 4)},
    lambda x, y, v: (np.log(v) + (x - y) ** 2 / v) / 2, back=True)  # fmt: skip
add(
    "MarginRanking",
    {"margin": 0.5, "reduction": "none"},
    _pair,
    lambda a, b, y: np.maximum(0, 0.5 - y * (a - b)),
    back=True,
)
add("MarginRanking", {}, _pair, lambda a, b, y: np.maximum(0, -y * (a - b)).mean())
_pair = {"left": f(3, 4), "right": f(3, 4), "target": np.float32([1, -1, 1])}
for _reduction, _back in {"none": {"left": (3, None), "target": (3,)}, "mean": None}.items():
    add("CosineEmbedding", {"margin": 0.1, "reduction": _reduction}, _pair,
        nn=lambda a, b, y, r=_reduction: F.cosine_embedding_loss(a, b, y, 0.1, reduction=r), back=_back)  # fmt: skip
    _three = {"anchor": f(3, 4), "positive": f(3, 4), "negative": f(3, 4)}
    add("TripletMargin", {"margin": 0.5, "swap": True, "reduction": _reduction}, _three,
        nn=lambda a, b, c, r=_reduction: F.triplet_margin_loss(a, b, c, 0.5, swap=True, reduction=r),
        back=_back and {"negative": (3, None)})  # fmt: skip
add(
    "MultiMargin",
    {"p": 2, "margin": 0.5},
    {"input": f(3, 4), "target": integers(4, 3)},
    nn=lambda x, k: F.multi_margin_loss(x, k, 2, 0.5),
)
add("MultiMargin", {"reduction": "none"}, {"input": f(3, 4), "target": integers(4, 3), "weight": positive(4)},
    nn=lambda x, k, w: F.multi_margin_loss(x, k, weight=w, reduction="none"), batch={"input": 0, "target": 0},
    back={"input": (3, 4), "target": (3,)}, given={"weight": (4,)})  # fmt: skip

# --- regularizers, metrics, classical models
add("L1", ref=lambda x: np.abs(x).sum())
add("L2", ref=lambda x: (x * x).sum() / 2)
add(
    "QuadraticFormRegularizer",
    {},
    {"input": f(3, 4), "kernel": f(4, 4)},
    lambda x, k: np.einsum("ai,ij,aj->", x, k, x) / 2,
    batch={"input": 0},
)
add("QuadraticFormRegularizer", {}, {"input": f(4), "kernel": f(4, 4)}, lambda x, k: x @ k @ x / 2, batch={})
_x, _k = f(7, 3), integers(3, 7)
add("Accuracy", {}, {"input": _x, "target": _k}, lambda x, k: (x.argmax(1) == k).mean())
add("Accuracy", {}, {"input": f(2, 3, 5), "target": integers(3, 2, 5)}, lambda x, k: (x.argmax(1) == k).mean())
add(
    "TopKAccuracy",
    {"k": 2},
    {"input": _x, "target": _k},
    lambda x, k: (np.argsort(-x, 1)[:, :2] == k[:, None]).any(1).mean(),
)
add("MeanAbsoluteError", {}, {"input": f(3, 4), "target": f(3, 4)}, lambda x, y: np.abs(x - y).mean())
_pair = {"input": share(20), "target": bools(20).astype("float32")}
add("BinaryAccuracy", {"threshold": 0.4}, _pair, lambda x, y: ((x > 0.4) == (y > 0)).mean())
add("Precision", {}, _pair, lambda x, y: (y * (x > 0.5)).sum() / (x > 0.5).sum())
add("Recall", {"threshold": 0.7}, _pair, lambda x, y: (y * (x > 0.7)).sum() / y.sum())
add("Precision", {}, {"input": np.zeros(3, "float32"), "target": np.ones(3, "float32")}, lambda x, y: 0.0)
add("F1", {}, _pair, lambda x, y: 2 * (y * (x > 0.5)).sum() / ((x > 0.5).sum() + y.sum()))
_pair = {"left": f(3, 4), "right": f(5, 4)}
add("RBFKernel", {"length_scale": 2.0}, _pair, lambda x, y: np.exp(-((x[:, None] - y) ** 2).sum(-1) / 8), batch={"left": 0},
    back={"left": (3, 4), "right": (5, 4)}, given={"left": (None, 4)})  # fmt: skip
add(
    "PolynomialKernel",
    {"degree": 3},
    _pair,
    lambda x, y: (x @ y.T + 1) ** 3,
    batch={"left": 0},
    back={"left": (3, None), "right": (5, None)},
)


def _states(call):
    return called(lambda: nn.Sequential(nn.Linear(4, 1)), call)


add("LogisticRegression", {}, nn=_states(lambda m, x: (m(x), m(x).sigmoid())))
add("LinearSVM", {}, nn=_states(lambda m, x: (m(x), m(x).sign())))
add("KernelizedSVM", {"kernel": models.PolynomialKernel()}, {"input": f(3, 2), "support": f(4, 2)}, batch={"input": 0},
    nn=_states(lambda m, x, s: m((x @ s.t() + 1) ** 2)))  # fmt: skip
