"""The composite ops: samples of every one, held against central differences and PyTorch's functions and gradients."""

import importlib
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gradloom.backends.numpy import xp
from gradloom.errors import DTypeError, OptionError, ShapeError
from gradloom.ops.op import REGISTRY
from ops.check import check_dtype, check_vjp, cotangent_for, forward, is_float, vjps

# Some of the modules have the name of an op, which hides them in the package.
FAMILIES = [
    importlib.import_module(f"gradloom.ops.{m}") for m in ("attention", "conv", "loss", "norm", "pool", "random")
]
attention, conv, loss, norm, pool, random = FAMILIES
NAMES = [name for name, record in REGISTRY.items() if record.forward.__module__ in {m.__name__ for m in FAMILIES}]
EXACT = {"rtol": 1e-12, "atol": 1e-12}


@dataclass
class Sample:
    """Operands and attributes of a call.

    Attributes:
        reference: PyTorch's function of the operands.
        fixed: Indices of float operands that have no gradient (the weights of losses).
        smooth: The vjps can be held against central differences (no tie, kink, infinity or NaN).
        exact: Tolerance against PyTorch.
    """

    args: tuple
    attrs: dict
    reference: Callable
    fixed: tuple[int, ...]
    smooth: bool
    exact: dict


SAMPLES: dict[str, list[Sample]] = {}


def add(
    name: str, *args: Any, ref: Callable, fixed: tuple = (), smooth: bool = True, exact: dict = EXACT, **attrs: Any
):
    SAMPLES.setdefault(name, []).append(Sample(args, attrs, ref, fixed, smooth, exact))


def normal(*shape: int, seed: int = 7) -> np.ndarray:
    return np.asarray(np.random.default_rng([seed, *shape]).standard_normal(shape))


def share(*shape: int) -> np.ndarray:
    """Numbers in (0.05, 0.95)."""
    return np.random.default_rng([5, *shape]).uniform(0.05, 0.95, shape)


def classes(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng([3, n, *shape]).integers(0, n, shape)


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(1, keepdims=True))


# --- conv ---

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def add_conv(x, weight, *, stride=1, padding=0, dilation=1, groups=1, bias=True):
    k = len(x) - 2

    def each(v):
        return (v,) * k if isinstance(v, int) else v

    pads = tuple((p, p) if isinstance(p, int) else p for p in each(padding))

    def reference(x, weight, bias=None):
        x = F.pad(x, [p for pair in pads[::-1] for p in pair])
        return CONV[k](x, weight, bias, each(stride), 0, each(dilation), groups)

    add(
        "conv", normal(*x), normal(*weight, seed=1), *([normal(weight[0], seed=2)] if bias else []), ref=reference,
        stride=each(stride), padding=pads, dilation=each(dilation), groups=groups,
    )  # fmt: skip


add_conv((2, 3, 7), (4, 3, 3))
add_conv((2, 4, 9), (6, 2, 3), stride=2, padding=1, dilation=2, groups=2)
add_conv((1, 2, 8), (2, 2, 4), padding=((3, 0),), bias=False)
add_conv((3, 2, 6, 5), (4, 2, 3, 2))
add_conv((2, 1, 5, 5), (3, 1, 5, 5), padding=2)
add_conv((2, 3, 7, 6), (2, 3, 3, 2), stride=(2, 3), padding=(1, 2), bias=False)
add_conv((2, 2, 8, 9), (2, 2, 3, 3), stride=(3, 2), padding=((0, 2), (1, 0)), dilation=(1, 2))
add_conv((2, 4, 5, 5), (4, 1, 3, 3), padding=1, groups=4)
add_conv((2, 6, 5, 4), (4, 3, 2, 2), stride=2, groups=2, bias=False)
add_conv((2, 3, 4, 4), (5, 3, 1, 1))
add_conv((2, 3, 5, 5), (5, 3, 1, 1), stride=2)
add_conv((1, 2, 4, 5, 4), (3, 2, 2, 3, 2), padding=(0, 1, 1))
add_conv((2, 2, 5, 4, 6), (2, 1, 3, 2, 2), stride=(2, 1, 2), padding=(1, 0, 1), dilation=(1, 2, 1), groups=2)

# --- pool ---

MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
ADAPTIVE = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
POOLED = [  # shape, size, stride, padding
    ((2, 3, 8), (2,), (2,), (0,)),
    ((2, 3, 9), (3,), (2,), (1,)),
    ((2, 3, 6, 8), (2, 2), (2, 2), (0, 0)),
    ((2, 2, 7, 6), (2, 3), (2, 3), (0, 0)),
    ((1, 2, 7, 8), (3, 3), (2, 2), (1, 1)),
    ((1, 2, 5, 6), (3, 2), (1, 3), (1, 0)),
    ((1, 2, 6, 5, 6), (2, 3, 2), (2, 2, 1), (0, 1, 1)),
]


def pairs(padding):
    return tuple((p, p) for p in padding)


for shape, size, stride, padding in POOLED:
    k = len(size)
    for ceil, dilation in itertools.product((False, True), (1, 2)):
        if any(dilation * (s - 1) >= n + 2 * p for n, s, p in zip(shape[2:], size, padding, strict=True)):
            continue
        add(
            "max_pool", normal(*shape), size=size, stride=stride, padding=pairs(padding), dilation=(dilation,) * k,
            ceil_mode=ceil, ref=lambda x, a=(size, stride, padding, dilation, ceil): MAX_POOL[x.ndim - 2](x, *a),
        )  # fmt: skip
    for ceil, include in itertools.product((False, True), repeat=2):
        add(
            "avg_pool", normal(*shape), size=size, stride=stride, padding=pairs(padding),
            ceil_mode=ceil, count_include_pad=include,
            ref=lambda x, a=(size, stride, padding, ceil, include): AVG_POOL[x.ndim - 2](x, *a),
        )  # fmt: skip
# Small integers: windows full of ties.
add(
    "max_pool", classes(3, 2, 2, 7, 7).astype("float64"),
    size=(3, 3), stride=(2, 2), padding=pairs((1, 1)), dilation=(1, 1),
    ref=lambda x: F.max_pool2d(x, 3, 2, 1), smooth=False,
)  # fmt: skip
add(
    "avg_pool", normal(2, 2, 5, 5), size=(2, 2), stride=(2, 2), padding=pairs((1, 1)), divisor=3,
    ref=lambda x: F.avg_pool2d(x, 2, 2, 1, divisor_override=3),
)  # fmt: skip
for shape, output in [
    ((2, 3, 6), (3,)), ((2, 3, 7), (3,)), ((2, 3, 3), (5,)), ((2, 3, 6, 7), (1, 1)), ((2, 3, 6, 7), (3, 2)),
    ((2, 2, 5, 4), (None, 2)), ((2, 2, 6, 5), (6, 3)), ((1, 2, 4, 5, 6), (2, 3, 1)), ((2, 2, 4, 5), (1, 2)),
]:  # fmt: skip
    add("adaptive_avg_pool", normal(*shape), output_size=output, ref=lambda x, o=output: ADAPTIVE[len(o)](x, o))

# --- norm ---


def torch_batch_norm(x, weight=None, bias=None, eps=1e-5):
    axes = [i for i in range(x.ndim) if i != 1]
    mean, var = x.mean(axes), x.var(axes, correction=0)
    return F.batch_norm(x, mean.detach().clone(), var.detach().clone(), weight, bias, True, 0.1, eps), mean, var


for shape in [(5, 3), (4, 3, 5), (3, 2, 4, 5), (2, 2, 3, 2, 3)]:
    c = shape[1]
    w, b = normal(c, seed=1), normal(c, seed=2)
    mean, var = normal(c, seed=3), share(c)
    for affine in [(w, b), (), (w, None), (None, b)]:
        add("batch_norm", normal(*shape), *affine, ref=torch_batch_norm)
        add(
            "batch_norm_inference", normal(*shape), mean, var, *affine, eps=1e-3,
            ref=lambda x, mean, var, w=None, b=None: F.batch_norm(x, mean, var, w, b, False, 0.0, 1e-3), fixed=(1, 2),
        )  # fmt: skip
add("batch_norm", normal(4, 2, 3), eps=0.1, ref=lambda x: torch_batch_norm(x, eps=0.1))

for shape, ndim in [((4, 5), 1), ((2, 3, 4), 1), ((2, 3, 4), 2), ((3, 4), 2), ((6,), 1)]:
    last = shape[len(shape) - ndim :]
    w, b = normal(*last, seed=1), normal(*last, seed=2)
    for affine in [(w, b), (), (w,), (None, b)]:
        add(
            "layer_norm", normal(*shape), *affine, ndim=ndim, eps=1e-4,
            ref=lambda x, w=None, b=None, s=last: F.layer_norm(x, s, w, b, 1e-4),
        )  # fmt: skip
    for affine in [(w,), ()]:
        add(
            "rms_norm", normal(*shape), *affine, ndim=ndim, eps=1e-4,
            ref=lambda x, w=None, s=last: F.rms_norm(x, s, w, 1e-4),
        )  # fmt: skip

for shape, groups in [((3, 4), 2), ((2, 6, 3), 3), ((2, 4, 3, 2), 1), ((2, 3, 4, 2), 3)]:
    w, b = normal(shape[1], seed=1), normal(shape[1], seed=2)
    for affine in [(w, b), (), (w,), (None, b)]:
        add(
            "group_norm", normal(*shape), *affine, groups=groups, eps=1e-4,
            # PyTorch 2.13 fails with a bias alone
            ref=lambda x, w=None, b=None, n=groups: F.group_norm(
                x, n, w if b is None or w is not None else torch.ones_like(b), b, 1e-4
            ),
        )  # fmt: skip

# --- losses ---

REDUCTIONS = ["mean", "sum", "none"]
for reduction in REDUCTIONS:
    x, y = 2 * normal(3, 4), 2 * normal(3, 4, seed=1)
    r = {"reduction": reduction}
    add("mse_loss", x, y, **r, ref=lambda x, y, r=r: F.mse_loss(x, y, **r))
    add("l1_loss", x, y, **r, ref=lambda x, y, r=r: F.l1_loss(x, y, **r))
    for size in (0.7, 2.0):
        add("huber_loss", x, y, delta=size, **r, ref=lambda x, y, r=r, d=size: F.huber_loss(x, y, delta=d, **r))
    for size in (0.0, 0.7, 2.0):
        add("smooth_l1_loss", x, y, beta=size, **r, ref=lambda x, y, r=r, d=size: F.smooth_l1_loss(x, y, beta=d, **r))

    p, t, w, pw = share(3, 4), share(4, 3).T.copy(), share(4), share(3, 1)
    add("binary_cross_entropy", p, t, **r, ref=lambda p, t, r=r: F.binary_cross_entropy(p, t, **r))
    add(
        "binary_cross_entropy", p, t, w, **r, fixed=(2,),
        ref=lambda p, t, w, r=r: F.binary_cross_entropy(p, t, w.detach(), **r),
    )  # fmt: skip
    for weight, pos in itertools.product((None, w), (None, pw)):
        add(
            "binary_cross_entropy_with_logits", 3 * x, t, weight, pos, **r, fixed=(2, 3),
            ref=lambda x, t, w, p, r=r: F.binary_cross_entropy_with_logits(
                x, t, None if w is None else w.detach(), pos_weight=None if p is None else p.detach(), **r
            ),
        )  # fmt: skip

    for shape, ignore in [((5, 3), -100), ((6, 4), 1), ((2, 3, 4), 2), ((2, 3, 2, 3), -1), ((4,), -100)]:
        c = shape[0] if len(shape) == 1 else shape[1]
        x = 2 * normal(*shape)
        y = classes(c, *shape[:1], *shape[2:]) if len(shape) > 1 else np.array(2)
        if ignore < 0 and y.ndim:
            y.ravel()[1] = ignore
        for weight in (None, share(c)):
            a = {"ignore_index": ignore, **r}
            for smoothing in (0.0, 0.3, 1.0):
                add(
                    "cross_entropy", x, y, weight, label_smoothing=smoothing, **a, fixed=(2,),
                    ref=lambda x, y, w, a=a, s=smoothing: F.cross_entropy(x, y, w, label_smoothing=s, **a),
                )  # fmt: skip
                add(
                    "cross_entropy_soft", x, share(*shape), weight, label_smoothing=smoothing, **r, fixed=(2,),
                    ref=lambda x, y, w, r=r, s=smoothing: F.cross_entropy(
                        x, y, None if w is None else w.detach(), label_smoothing=s, **r
                    ),
                )  # fmt: skip
            add("nll_loss", x, y, weight, **a, fixed=(2,), ref=lambda x, y, w, a=a: F.nll_loss(x, y, w, **a))

for reduction in [*REDUCTIONS, "batchmean"]:
    r = {"reduction": reduction}
    x, t = log_softmax(normal(3, 4)), share(3, 4)
    add("kl_div", x, t, **r, ref=lambda x, t, r=r: F.kl_div(x, t, **r))
    t = log_softmax(normal(3, 4, seed=1))
    add("kl_div", x, t, log_target=True, **r, ref=lambda x, t, r=r: F.kl_div(x, t, log_target=True, **r))

# --- attention, random ---


def torch_attention(q, k, v, mask=None, causal=False, scale=None):
    """PyTorch's result; it has no probabilities to compare with."""
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale)


for lead in [(), (2,), (2, 3)]:
    q, k, v = normal(*lead, 4, 3), normal(*lead, 5, 3), normal(*lead, 5, 2)
    for attrs in [{}, {"scale": 0.3}, {"causal": True}]:
        add("scaled_dot_product_attention", q, k, v, **attrs, ref=lambda *a, kw=attrs: torch_attention(*a, **kw))
    keep = share(4, 5) > 0.4
    keep[1] = False  # a row without any key
    add("scaled_dot_product_attention", q, k, v, keep, ref=torch_attention)
    add("scaled_dot_product_attention", q, k, v, normal(*lead, 4, 5, seed=9), ref=torch_attention)
    add("scaled_dot_product_attention", q, k, v, normal(*lead[:1], *lead[1:2], 1, 5, seed=9), ref=torch_attention)

for share_dropped in (0.0, 0.25, 1.0):
    for mask in (share(3, 4) > 0.5, share(3, 1) > 0.5):
        rescale = 1 / (1 - share_dropped) if share_dropped < 1 else 0.0
        add("dropout", normal(3, 4), mask, p=share_dropped, ref=lambda x, m, s=rescale: x * m * s)


ALL = [pytest.param(n, s, id=f"{n}-{i}") for n, samples in SAMPLES.items() for i, s in enumerate(samples)]


def test_every_op_has_samples():
    assert set(NAMES) == set(SAMPLES)


@pytest.mark.parametrize(("name", "sample"), ALL)
def test_against_torch(name, sample):
    record = REGISTRY[name]
    tensors = [torch.tensor(a, requires_grad=is_float(a)) if isinstance(a, np.ndarray) else a for a in sample.args]
    for i in sample.fixed:
        tensors[i] = tensors[i] if tensors[i] is None else tensors[i].detach()
    expected = sample.reference(*tensors)
    expected = expected if isinstance(expected, tuple) else (expected,)
    outs = forward(record, sample.args, sample.attrs)
    for label, out, e in zip(record.outputs, outs, expected, strict=False):
        assert np.shape(out) == tuple(e.shape), label
        assert out.dtype == "float64"
        np.testing.assert_allclose(out, e.detach().numpy(), **sample.exact, err_msg=label)
    g = cotangent_for(record, outs)
    found = vjps(record, sample.args, sample.attrs, outs, g)
    needing = [i for i, t in enumerate(tensors) if isinstance(t, torch.Tensor) and t.requires_grad]
    gradients = torch.autograd.grad(expected[0], [tensors[i] for i in needing], torch.tensor(g))
    for i, e in zip(needing, gradients, strict=True):
        assert found[i].shape == tuple(e.shape)
        np.testing.assert_allclose(found[i], e.numpy(), **sample.exact, err_msg=record.args[i])


@pytest.mark.parametrize(("name", "sample"), [p for p in ALL if p.values[1].smooth])
def test_vjps_against_differences(name, sample):
    fixed = () if name == "batch_norm_inference" else sample.fixed
    floats = tuple(i for i, a in enumerate(sample.args) if is_float(a) and i not in fixed)
    check_vjp(REGISTRY[name], sample.args, sample.attrs, only=floats)


@pytest.mark.parametrize(("name", "sample"), ALL)
def test_float32_stays_float32(name, sample):
    check_dtype(REGISTRY[name], sample.args, sample.attrs)


# --- what the samples cannot hold ---


def gradient(op, *args, g=1.0, **attrs):
    """The cotangents of one call, by index of the argument."""
    outs = forward(op.op, args, attrs)
    return vjps(op.op, args, attrs, outs, np.asarray(g, outs[0].dtype) * np.ones_like(outs[0]))


def test_max_pool_gives_one_element_of_a_window_the_gradient():
    options = {"size": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "ceil_mode": False}
    d = gradient(pool.max_pool, np.zeros((1, 1, 4, 4)), **options)[0]
    assert d[0, 0].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


def test_max_pool_of_integers():
    x = np.arange(-9, 0).reshape(1, 1, 9)
    out = pool.max_pool.op.forward(xp, x, size=(3,), stride=(2,), padding=((1, 1),), dilation=(1,), ceil_mode=False)
    assert out.tolist() == [[[-8, -6, -4, -2, -1]]]
    assert out.dtype == x.dtype


def test_conv_result_keeps_the_batch_innermost():
    """The layout that the module's text promises; the next layer's copies rely on it for their speed."""
    x, weight = np.ones((8, 2, 6, 6), "float32"), np.ones((3, 2, 3, 3), "float32")
    out = conv.conv.op.forward(xp, x, weight, stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1)
    assert out.strides[0] == out.itemsize


def test_targets_outside_of_the_classes_give_nan():
    x = normal(3, 4)
    for op in (loss.cross_entropy, loss.nll_loss):
        for wrong in (-1, 4):
            args = (x, np.array([0, wrong, -100]))
            out = forward(op.op, args, {"reduction": "none"})[0]
            assert np.isnan(out).tolist() == [False, True, False]
            assert np.isnan(forward(op.op, args, {})[0])


def test_cross_entropy_of_ignored_rows_only_is_nan_as_in_pytorch():
    with np.errstate(invalid="ignore"):
        assert np.isnan(forward(loss.cross_entropy.op, (normal(2, 3), np.array([-100, -100])), {})[0])
    assert forward(loss.cross_entropy.op, (normal(2, 3), np.array([-100, -100])), {"reduction": "sum"})[0] == 0


def test_losses_are_finite_at_the_ends():
    p, t = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    with np.errstate(divide="ignore"):
        out = forward(loss.binary_cross_entropy.op, (p, t), {"reduction": "none"})[0]
        d = gradient(loss.binary_cross_entropy, p, t, reduction="sum")[0]
    x = torch.tensor(p, requires_grad=True)
    expected = F.binary_cross_entropy(x, torch.tensor(t), reduction="none")
    expected.sum().backward()
    assert out.tolist() == expected.tolist() == [0, 0, 100, 100]
    np.testing.assert_allclose(d, x.grad.numpy(), rtol=1e-8)  # its 1e-12 is a float32
    logits, target = np.array([1e4, -1e4]), np.array([0.0, 1.0])
    assert forward(loss.binary_cross_entropy_with_logits.op, (logits, target), {})[0] == 1e4
    logits = np.array([[1e4, -1e4]], "float32")
    assert forward(loss.cross_entropy.op, (logits, np.array([1])), {})[0] == 2e4
    assert gradient(loss.cross_entropy, logits, np.array([1]))[0].tolist() == [[1, -1]]


def test_kl_div_of_a_target_of_zero():
    x, t = np.log([[0.25, 0.75]]), np.array([[0.0, 1.0]])
    out = forward(loss.kl_div.op, (x, t), {"reduction": "none"})[0]
    np.testing.assert_allclose(out, F.kl_div(torch.tensor(x), torch.tensor(t), reduction="none").numpy(), **EXACT)
    assert np.isfinite(gradient(loss.kl_div, x, t)[1]).all()


def test_attention_row_without_keys_is_zero():
    q = k = v = normal(2, 3)
    args = (q, k, v, np.array([[True, False], [False, False]]))
    out, probabilities = forward(attention.scaled_dot_product_attention.op, args, {})
    assert out[1].tolist() == [0, 0, 0]
    assert probabilities.tolist() == [[1, 0], [0, 0]]


def test_dropout_drops_infinities():
    x = np.array([math.inf, 1.0])
    assert forward(random.dropout.op, (x, np.array([False, True])), {"p": 0.5})[0].tolist() == [0, 2]


ONE, NONE = {"stride": (1,), "dilation": (1,), "padding": ((0, 0),)}, {}
POOL = {"size": (2,), "stride": (2,), "padding": ((0, 0),)}
z = np.zeros
BAD = [
    (conv.conv, (z((2, 3)), z((2, 3, 1))), ONE, ShapeError, ["takes operands of 3 axes", "x (2, 3), weight (2, 3, 1)"]),
    (conv.conv, (z((2, 3, 5)), z((2, 4, 1))), ONE, ShapeError, ["x (2, 3, 5), weight (2, 4, 1)", "in_channels=3"]),
    (conv.conv, (z((2, 4, 5)), z((3, 2, 1))), {**ONE, "groups": 2}, ShapeError, ["O a multiple of groups"]),
    (conv.conv, (z((2, 3, 5)), z((2, 3, 1)), z(3)), ONE, ShapeError, ["bias (2,)", "bias (3,)"]),
    (conv.conv, (z((2, 3, 5)), z((2, 3, 6))), ONE, ShapeError, ["larger than the padded input", "at least (6,)"]),
    (conv.conv, (z((2, 3, 5)), z((2, 3, 1))), {**ONE, "stride": (0,)}, OptionError, ["stride=(0,)"]),
    (conv.conv, (z((2, 3, 5)), z((2, 3, 1))), {**ONE, "padding": ((-1, 0),)}, OptionError, ["padding=((-1, 0),)"]),
    (pool.max_pool, (z((2, 3, 1)),), {**POOL, "dilation": (1,)}, ShapeError, ["larger than the padded input"]),
    (pool.max_pool, (z(()),), {**POOL, "dilation": (1,)}, ShapeError, ["x of at least 1 axes"]),
    (pool.avg_pool, (z((2, 3, 4)),), {**POOL, "padding": ((2, 0),)}, OptionError, ["half of the window"]),
    (pool.avg_pool, (z((2, 3, 4)),), {**POOL, "stride": (0,)}, OptionError, ["stride=(0,)"]),
    (pool.adaptive_avg_pool, (z((2, 3, 4)),), {"output_size": (0,)}, ShapeError, ["output_size=(0,)"]),
    (norm.batch_norm, (z(3),), NONE, ShapeError, ["x (N, C, ...)", "x (3,)"]),
    (norm.batch_norm, (z((2, 3)), z(2)), NONE, ShapeError, ["x (2, 3), weight (2,)"]),
    (norm.batch_norm_inference, (z((2, 3)), z(2), z(3)), NONE, ShapeError, ["x (2, 3), mean (2,), var (3,)"]),
    (norm.layer_norm, (z((2, 3)), z(2)), NONE, ShapeError, ["the others (3,)", "x (2, 3), weight (2,)"]),
    (norm.rms_norm, (z((2, 3)), z(3)), {"ndim": 2}, ShapeError, ["the last 2 of x", "the others (2, 3)"]),
    (norm.group_norm, (z((2, 3)),), {"groups": 2}, ShapeError, ["C a multiple of 2", "x (2, 3)"]),
    (loss.mse_loss, (z((4, 1)), z(4)), NONE, ShapeError, ["not broadcast", "input (4, 1), target (4,)", "reshape"]),
    (loss.l1_loss, (z((4, 1)), z(())), NONE, ShapeError, ["input (4, 1), target ()"]),
    (loss.huber_loss, (z(4), z(1)), NONE, ShapeError, ["input (4,), target (1,)"]),
    (loss.huber_loss, (z(4), z(4)), {"delta": 0}, OptionError, ["delta=0", "l1_loss"]),
    (loss.smooth_l1_loss, (z(4), z(1)), NONE, ShapeError, ["input (4,), target (1,)"]),
    (loss.smooth_l1_loss, (z(4), z(4)), {"beta": -1}, OptionError, ["beta=-1"]),
    (loss.mse_loss, (z(4), z(4)), {"reduction": "average"}, OptionError, ["'mean', 'sum' or 'none'", "'average'"]),
    (loss.mse_loss, (z(4), z(4)), {"reduction": "batchmean"}, OptionError, ["'batchmean'"]),
    (loss.cross_entropy, (z((4, 3)), z(4)), NONE, DTypeError, ["class indices", "float64", "cross_entropy_soft"]),
    (loss.cross_entropy, (z((4, 3)), z(3, int)), NONE, ShapeError, ["target (4,)", "input (4, 3), target (3,)"]),
    (loss.cross_entropy, (z((4, 3)), z((4, 1), int)), NONE, ShapeError, ["input (4, 3), target (4, 1)"]),
    (loss.cross_entropy, (z((4, 3)), z(4, int), z(4)), NONE, ShapeError, ["weight (C,)", "weight (4,)"]),
    (loss.cross_entropy, (z((4, 3)), z(4, int)), {"label_smoothing": 2}, OptionError, ["label_smoothing=2"]),
    (loss.cross_entropy_soft, (z((4, 3)), z(4)), NONE, ShapeError, ["target (4, 3)", "use cross_entropy for"]),
    (loss.cross_entropy_soft, (z((4, 3)), z((4, 3))), {"label_smoothing": 2}, OptionError, ["label_smoothing=2"]),
    (loss.nll_loss, (z((4, 3, 2)), z((4, 3), int)), NONE, ShapeError, ["target (4, 2)", "target (4, 3)"]),
    (loss.binary_cross_entropy, (z(4), z((4, 1))), NONE, ShapeError, ["input (4,), target (4, 1)"]),
    (loss.binary_cross_entropy, (z(4), z(4), z((4, 4))), NONE, ShapeError, ["weight does not broadcast", "(4, 4)"]),
    (loss.binary_cross_entropy_with_logits, (z(4), z((4, 1))), NONE, ShapeError, ["input (4,), target (4, 1)"]),
    (loss.binary_cross_entropy_with_logits, (z(4), z(4), None, z(3)), NONE, ShapeError, ["pos_weight (3,)"]),
    (loss.kl_div, (z((4, 3)), z((4, 1))), NONE, ShapeError, ["input (4, 3), target (4, 1)"]),
    (attention.scaled_dot_product_attention, (z((2, 4, 3)), z((1, 4, 3)), z((1, 4, 3))), NONE, ShapeError,
     ["k (..., S, E)", "q (2, 4, 3), k (1, 4, 3), v (1, 4, 3)"]),
    (attention.scaled_dot_product_attention, (z((4, 3)), z((5, 2)), z((5, 2))), NONE, ShapeError, ["k (5, 2)"]),
    (attention.scaled_dot_product_attention, (z((4, 3)), z((5, 3)), z((5, 3)), z((5, 4))), NONE, ShapeError,
     ["broadcasts to (4, 5)", "mask (5, 4)"]),
    (attention.scaled_dot_product_attention, (z((4, 3)), z((5, 3)), z((5, 3)), z((4, 5))), {"causal": True},
     OptionError, ["not both"]),
    (random.dropout, (z(4), z(4, bool)), {"p": 1.5}, OptionError, ["0 <= p <= 1", "p=1.5"]),
    (random.dropout, (z((4, 2)), z((2,), bool)), {"p": 0.5}, ShapeError, ["x (4, 2), mask (2,)"]),
]  # fmt: skip


@pytest.mark.parametrize(("op", "args", "attrs", "error", "texts"), BAD)
def test_errors(op, args, attrs, error, texts):
    with pytest.raises(error) as caught:
        forward(op.op, args, attrs)
    for text in texts:
        assert text in str(caught.value)
    assert "given:" in str(caught.value)


def test_every_op_refuses_something():
    assert {op.op.name for op, *_ in BAD} == set(NAMES)
