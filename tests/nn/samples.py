"""Samples of the modules: PyTorch's own (`module_db`), and ours for what it does not have."""

import torch
from torch.testing._internal.common_modules import module_db

import gradloom as gl
from gradloom import nn

MODULES = sorted(
    name
    for name in nn.__all__
    if isinstance(getattr(nn, name), type) and issubclass(getattr(nn, name), nn.Module) and name != "Module"
)
CONTAINERS = {"Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"}  # tests/nn/test_container.py
# Options that are refused, and nothing else: a sample that uses one must raise.
REFUSED = {
    "return_indices": (True,),
    "max_norm": None,
    "sparse": (True,),
}
# Arguments by position that PyTorch has no gradient for, or NaN.
NO_GRADIENT = {"SoftMarginLoss": (1,), "PoissonNLLLoss": (1,)}


def _t(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def _own():
    """name -> [(constructor args, constructor kwargs, forward args)]"""
    yield "Identity", [((1,), {"unused": 2}, (_t(2, 3),))]
    yield "Flatten", [((), {}, (_t(2, 3, 4),)), ((0, 1), {}, (_t(2, 3, 4),)), ((), {"start_dim": 2}, (_t(2, 3, 4, 5),))]
    yield "Unflatten", [((1, (2, 3)), {}, (_t(2, 6),)), ((-1, (2, -1)), {}, (_t(2, 6),))]
    for name in ("Dropout", "AlphaDropout", "FeatureAlphaDropout", "Dropout1d", "Dropout2d", "Dropout3d"):
        x = _t(2, 3, *(4, 5, 6)[: int(name[-2])]) if name[-1] == "d" else _t(2, 3)
        yield name, [((0.0,), {}, (x,)), ((1.0,), {}, (x,))]  # the others are random: tests/nn/test_layers.py
    yield "Sigmoid", [((), {}, (_t(2, 3),))]
    yield "Tanh", [((), {}, (_t(2, 3),))]
    yield (
        "Embedding",
        [((5, 3), {"padding_idx": -1}, (torch.tensor([[0, 4], [2, 2]]),)), ((5, 3), {}, (torch.tensor([1]),))],
    )
    for k in (1, 2, 3):
        x = _t(2, 4, *(7, 6, 5)[:k])
        yield (
            f"Conv{k}d",
            [
                ((4, 6, 3), {"padding": 1, "stride": 2, "groups": 2}, (x,)),
                ((4, 2, 2), {"padding": "same", "dilation": 2, "bias": False}, (x,)),
                ((4, 2, (3, 2, 1)[:k]), {"padding": "valid"}, (x[0],)),
            ],
        )
        yield (
            f"MaxPool{k}d",
            [
                ((2,), {}, (x,)),
                ((3,), {"stride": 2, "padding": 1, "ceil_mode": True}, (x,)),
                ((2, 1), {"dilation": 2}, (x[0],)),
            ],
        )
        yield (
            f"AvgPool{k}d",
            [
                ((2,), {}, (x,)),
                ((3,), {"stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False}, (x,)),
            ],
        )
        yield f"AdaptiveAvgPool{k}d", [((1,), {}, (x,)), (((3, 2, 4)[:k] if k > 1 else 3,), {}, (x,))]
        yield (
            f"BatchNorm{k}d",
            [
                ((4,), {}, (x,)),
                ((4,), {"momentum": None, "eps": 1e-3}, (x,)),
                ((4,), {"affine": False, "track_running_stats": False}, (x,)),
                ((4,), {"bias": False, "momentum": 0.5}, (x,)),
            ],
        )
    yield (
        "LayerNorm",
        [
            ((4,), {}, (_t(2, 4),)),
            (((3, 4),), {"bias": False}, (_t(2, 3, 4),)),
            ((4,), {"elementwise_affine": False}, (_t(4),)),
        ],
    )
    yield "GroupNorm", [((2, 4), {}, (_t(2, 4, 3),)), ((4, 4), {"affine": False}, (_t(2, 4),))]
    yield "RMSNorm", [((4,), {}, (_t(2, 4),)), (((3, 4),), {"eps": 1e-3}, (_t(2, 3, 4),))]
    yield from _sequences()
    yield from _others()
    yield from _margins()
    a, b = _t(4, 3), _t(4, 3)
    labels = torch.tensor([0, 2, -100, 1])
    for reduction in ("mean", "sum", "none"):
        for name in ("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss"):
            yield name, [((), {"reduction": reduction}, (a, b))]
        yield "SmoothL1Loss", [((), {"reduction": reduction, "beta": 0.0}, (a, b))]
        yield "HuberLoss", [((), {"reduction": reduction, "delta": 0.3}, (a, b))]
        yield "BCELoss", [((), {"reduction": reduction}, (a.sigmoid(), b.sigmoid()))]
        yield (
            "BCEWithLogitsLoss",
            [((), {"reduction": reduction, "weight": _t(3).abs(), "pos_weight": _t(3).abs()}, (a, b.sigmoid()))],
        )
        yield "NLLLoss", [((), {"reduction": reduction, "weight": _t(3).abs()}, (a.log_softmax(1), labels))]
        yield (
            "CrossEntropyLoss",
            [
                ((), {"reduction": reduction, "weight": _t(3).abs(), "label_smoothing": 0.1}, (a, labels)),
                ((), {"reduction": reduction, "label_smoothing": 0.1}, (a, b.softmax(1))),
                ((), {"reduction": reduction, "ignore_index": 2}, (_t(2, 3, 5), torch.randint(0, 3, (2, 5)))),
            ],
        )
    for reduction in ("batchmean", "sum", "none", "mean"):
        yield (
            "KLDivLoss",
            [
                ((), {"reduction": reduction}, (a.log_softmax(1), b.softmax(1))),
                ((), {"reduction": reduction, "log_target": True}, (a.log_softmax(1), b.log_softmax(1))),
            ],
        )


def _sequences():
    """Recurrent layers, attention and transformers, batched (PyTorch's own samples mostly have no batch)."""
    state = _t(4, 5, 4)
    for name in ("RNN", "GRU"):
        yield name, [((3, 4, 2), {"bidirectional": True}, (_t(6, 5, 3), state)), ((3, 4), {}, (_t(1, 5, 3),))]
        yield f"{name}Cell", [((3, 4), {}, (_t(5, 3),)), ((3, 4), {"bias": False}, (_t(5, 3), _t(5, 4)))]
    yield (
        "LSTM",
        [
            ((3, 4, 2), {"bidirectional": True, "batch_first": True}, (_t(5, 6, 3), (state, _t(4, 5, 4)))),
            ((3, 4, 2), {"proj_size": 2, "bias": False}, (_t(6, 5, 3), (_t(2, 5, 2), _t(2, 5, 4)))),
        ],
    )
    yield "LSTMCell", [((3, 4), {}, (_t(5, 3),)), ((3, 4), {"bias": False}, (_t(5, 3), (_t(5, 4), _t(5, 4))))]
    q, k, v = _t(3, 2, 4), _t(5, 2, 6), _t(5, 2, 7)
    masks = {
        "attn_mask": torch.tensor([[0, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 1]]).bool(),
        "key_padding_mask": torch.tensor([[0, 0, 0, 0, 1], [0, 1, 0, 0, 0]]).bool(),
    }
    both = {"add_bias_kv": True, "add_zero_attn": True, "kdim": 6, "vdim": 7}
    for weights in ({}, {"average_attn_weights": False}, {"need_weights": False}):
        yield (
            "MultiheadAttention",
            [
                ((4, 2), {"kdim": 6, "vdim": 7}, (q, k, v), {**masks, **weights}),
                ((4, 2), both, (q, k, v), {**masks, **weights}),
                ((4, 2), {"add_zero_attn": True, "bias": False}, (q, q, _t(3, 2, 4)), weights),
                ((4, 2), {"batch_first": True}, (q, _t(3, 5, 4), _t(3, 5, 4)), {"attn_mask": _t(6, 2, 5), **weights}),
                ((4, 4), {}, (q[:, 0],) * 3, {"attn_mask": _t(4, 3, 3), "key_padding_mask": _t(3), **weights}),
            ],
        )
    causal = torch.nn.Transformer.generate_square_subsequent_mask(3, dtype=torch.float64)
    yield "MultiheadAttention", [((4, 2), {}, (q, q, q), {"attn_mask": causal, "is_causal": True})]
    causal = {"tgt_mask": causal, "tgt_is_causal": True}
    yield "TransformerDecoder", [((torch.nn.TransformerDecoderLayer(4, 2, 8, 0.0), 2), {}, (q, _t(5, 2, 4)), causal)]
    yield "Transformer", [((4, 2, 1, 1, 8, 0.0), {"activation": "gelu"}, (_t(5, 2, 4), q), causal)]


def _others():
    """Activations, layers that move elements, distances, bags."""
    yield "Hardsigmoid", [((), {}, (torch.tensor([-4.0, -3.0, -1.0, 0.0, 3.0, 5.0], dtype=torch.float64),))]
    yield "RReLU", [((0.25, 0.25), {}, (_t(2, 3),)), ((0.25, 0.25), {"inplace": True}, (_t(2, 3),))]
    for name in ("LeakyReLU", "ELU", "SELU", "CELU", "SiLU", "Mish", "ReLU6", "Hardtanh", "Hardswish", "Hardsigmoid"):
        yield name, [((), {"inplace": True}, (_t(2, 3),))]
    yield "Threshold", [((0.1, 2.0), {"inplace": True}, (_t(2, 3),))]
    edges = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 6.0], dtype=torch.float64)
    for name in ("ReLU6", "Hardtanh", "Hardswish", "Hardshrink", "Softshrink", "SELU", "CELU", "Mish", "LogSigmoid"):
        yield name, [((), {}, (edges,)), ((), {}, (_t(3, 4) * 40,))]
    yield "PReLU", [((3,), {"init": 0.5}, (_t(2, 3, 2),)), ((4,), {}, (_t(2, 4),))]
    yield "GLU", [((1,), {}, (_t(2, 4, 3),))]
    image = _t(2, 4, 5, 6)
    for k in (1, 2, 3):
        x = _t(2, 4, *(5, 6, 4)[:k])
        yield (
            f"ConvTranspose{k}d",
            [
                ((4, 6, 3), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}, (x,)),
                ((4, 2, (2, 3, 1)[:k]), {"bias": False, "dilation": 2}, (x[0],)),
                ((4, 2, 3), {"dilation": 3, "output_padding": 2, "padding": 1}, (x,)),
                ((4, 2, 2), {"stride": 3}, (x,), {"output_size": [3 * n + 1 for n in x.shape[2:]]}),
            ],
        )
        yield (
            f"InstanceNorm{k}d",
            [
                ((4,), {"affine": True, "track_running_stats": True}, (x,)),
                ((4,), {"affine": True, "bias": False, "momentum": 0.5, "eps": 1e-3}, (x[0],)),
            ],
        )
        widths = (1, 2, 0, 1, 2, 0)[: 2 * k]
        for kind in ("Zero", "Reflection", "Replication", "Circular"):
            yield f"{kind}Pad{k}d", [((widths,), {}, (x,)), ((1,), {}, (x[0],))]
        yield f"ReplicationPad{k}d", [(((-1, 2, *widths[2:]),), {}, (x,))]
        yield f"ConstantPad{k}d", [((widths, 2.5), {}, (x,)), ((-1, 0.0), {}, (x[0],))]
        for mode in ("reflect", "circular"):
            yield f"Conv{k}d", [((4, 2, 3), {"padding": (2, 1, 0)[:k], "padding_mode": mode}, (x,))]
        yield f"Conv{k}d", [((4, 2, 2), {"padding": "same", "padding_mode": "replicate"}, (x,))]
        yield f"AdaptiveMaxPool{k}d", [((3,), {}, (x,)), (((2, 3, 4)[:k] if k > 1 else 5,), {}, (x[0],))]
        yield f"LPPool{k}d", [((2, 2), {}, (x,)), ((2.0, 3, 2), {"ceil_mode": True}, (x,))]
        linear = ("linear", "bilinear", "trilinear")[k - 1]
        for sizing in ({"size": (7, 3, 5)[:k]}, {"scale_factor": 2}, {"scale_factor": (1.7, 0.6, 1.3)[:k]}):
            for more in ({}, {"mode": linear}, {"mode": linear, "align_corners": True}, {"mode": "nearest-exact"}):
                yield "Upsample", [((), {**sizing, **more}, (x,))]
            if "scale_factor" in sizing:
                yield "Upsample", [((), {**sizing, "mode": linear, "recompute_scale_factor": True}, (x,))]
    for more in ({"size": (7, 9)}, {"scale_factor": 1.5, "align_corners": True}):
        yield "Upsample", [((), {"mode": "bicubic", **more}, (image,))]
    yield "Upsample", [((), {"mode": "area", "size": (3, 4)}, (image,))]
    for name in ("UpsamplingNearest2d", "UpsamplingBilinear2d"):
        yield name, [((), {"scale_factor": 2}, (image,)), (((3, 7),), {}, (image,))]
    yield "PixelShuffle", [((2,), {}, (_t(3, 8, 2, 5),)), ((2,), {}, (_t(4, 2, 3),))]
    yield "PixelUnshuffle", [((2,), {}, (_t(3, 2, 4, 6),)), ((3,), {}, (_t(1, 3, 3),))]
    yield "ChannelShuffle", [((2,), {}, (image,))]
    yield "Unfold", [((2,), {}, (image,)), (((2, 3),), {"dilation": 2, "padding": 1, "stride": (1, 2)}, (image,))]
    yield "Fold", [(((5, 6), (2, 3)), {"padding": 1, "stride": 2}, (_t(2, 12, 9),)), ((4, 2), {}, (_t(4, 9),))]
    yield "CosineSimilarity", [((), {}, (_t(3, 4), _t(3, 4))), ((-1,), {"eps": 2.0}, (_t(2, 3), _t(3)))]
    yield "PairwiseDistance", [((), {}, (_t(3, 4), _t(3, 4))), ((1.0,), {"keepdim": True}, (_t(2, 3), _t(3)))]
    yield "LocalResponseNorm", [((3,), {"alpha": 0.5, "beta": 2.0}, (_t(2, 5, 3),)), ((4,), {}, (_t(2, 5, 3, 2),))]
    rows, flat = torch.tensor([[1, 2, 2], [4, 0, 1]]), torch.tensor([1, 4, 2, 0, 2, 1])
    for mode in ("sum", "mean", "max"):
        yield (
            "EmbeddingBag",
            [
                ((5, 3), {"mode": mode}, (rows,)),
                ((5, 3), {"mode": mode, "padding_idx": 2}, (rows,)),
                ((5, 3), {"mode": mode, "padding_idx": 2}, (flat, torch.tensor([0, 2, 2, 5]))),
                ((5, 3), {"mode": mode, "include_last_offset": True}, (flat, torch.tensor([0, 4, 6]))),
            ],
        )
    yield "EmbeddingBag", [((5, 3), {"mode": "sum"}, (flat, torch.tensor([0, 3]), _t(6)))]


def _margins():
    """Losses of margins and likelihoods."""
    a, b, c = _t(4, 3), _t(4, 3), _t(4, 3)
    signs, labels = torch.tensor([1, -1, 1, -1]), torch.tensor([0, 2, 1, 1])
    for reduction in ("mean", "sum", "none"):
        options = {"reduction": reduction}
        for more in ({}, {"log_input": False}, {"full": True}):
            yield (
                "PoissonNLLLoss",
                [((), {**options, **more}, (a.abs(), torch.tensor([1, 2, 3, 5]).double()[:, None] + 0 * b.abs()))],
            )
        for var in (_t(4, 3), _t(4, 1), _t(4)):
            yield "GaussianNLLLoss", [((), {**options, "full": True}, (a, b, var.abs()))]
        yield "GaussianNLLLoss", [((), {**options, "eps": 0.5}, (a, b, c.abs()))]
        yield "HingeEmbeddingLoss", [((0.7,), options, (a[:, 0], signs))]
        yield "SoftMarginLoss", [((), options, (a * 3, b.sign()))]
        yield "MultiLabelSoftMarginLoss", [((), {**options, "weight": _t(3).abs()}, (a, (b > 0).double()))]
        yield (
            "MultiMarginLoss",
            [
                ((1, 0.5), {**options, "weight": _t(3).abs()}, (a, labels)),
                ((2,), options, (a, labels)),
                ((), options, (a[0], labels[0])),
            ],
        )
        targets = torch.tensor([[2, 0, -1], [1, -1, 2], [0, 1, 2], [-1, 0, 0]])
        yield "MultiLabelMarginLoss", [((), options, (a, targets)), ((), options, (a[0], targets[0]))]
        yield "CosineEmbeddingLoss", [((0.2,), options, (a, b, signs)), ((), options, (a[0], b[0], signs[0]))]
        yield "MarginRankingLoss", [((0.3,), options, (a, b, c.sign()))]
        for swap in (False, True):
            yield "TripletMarginLoss", [((2.0,), {**options, "swap": swap, "p": 1.5}, (a, b, c))]
            yield "TripletMarginWithDistanceLoss", [((), {**options, "swap": swap}, (a, b, c))]


def samples():
    """(id, name, constructor args, kwargs, forward args, forward kwargs), Tensors being PyTorch's."""
    torch.manual_seed(0)
    count = {}
    for name, rows in _own():
        for args, kwargs, forward, *more in rows:
            count[name] = count.get(name, 0) + 1
            yield f"{name}-own{count[name]}", name, args, kwargs, forward, more[0] if more else {}
    for info in module_db:
        name = info.module_cls.__name__
        if info.module_cls.__module__.startswith("torch.nn.modules") and name in MODULES:
            inputs = info.module_inputs_func(
                info, device="cpu", dtype=torch.float64, requires_grad=False, training=True
            )
            for i, m in enumerate(inputs):
                c, f = m.constructor_input, m.forward_input
                yield f"{name}-{i}", name, c.args, c.kwargs, f.args, f.kwargs


SAMPLES = list(samples())


def refused(kwargs, forward=()):
    """Whether the module is to refuse the options, or an argument."""
    if any(isinstance(x, torch.nn.utils.rnn.PackedSequence) for x in forward):
        return True
    for key, values in REFUSED.items():
        given = kwargs.get(key)
        if given is not None and (values is None or given in values):
            return True
    return False


def ours(value, requires_grad=False):
    """PyTorch's Tensors as ours, in containers too."""
    if isinstance(value, torch.Tensor):
        t = gl.tensor(value.detach().numpy(), dtype=str(value.dtype).removeprefix("torch."))
        return t.requires_grad_() if requires_grad and t.is_floating_point() else t
    if isinstance(value, (tuple, list)):
        return type(value)(ours(v, requires_grad) for v in value)
    if isinstance(value, dict):
        return {k: ours(v, requires_grad) for k, v in value.items()}
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, torch.nn.Module):
        return _module(value)
    if callable(value) and getattr(torch.nn.functional, getattr(value, "__name__", ""), None) is value:
        return getattr(nn.functional, value.__name__)
    return value


def _module(m):
    """PyTorch's module, an argument of a constructor, as ours."""
    if isinstance(m, (torch.nn.TransformerEncoderLayer, torch.nn.TransformerDecoderLayer)):
        attention = m.self_attn
        return getattr(nn, type(m).__name__)(
            attention.embed_dim, attention.num_heads, m.linear1.out_features, m.dropout.p, ours(m.activation),
            m.norm1.eps, attention.batch_first, m.norm_first, attention.in_proj_bias is not None,
        )  # fmt: skip
    return getattr(nn, type(m).__name__)()


def theirs(value):
    """Copies of PyTorch's Tensors that require gradients."""
    if isinstance(value, torch.Tensor):
        t = value.detach().clone()
        return t.requires_grad_() if t.is_floating_point() else t
    if isinstance(value, (tuple, list)):
        return type(value)(theirs(v) for v in value)
    if isinstance(value, dict):
        return {k: theirs(v) for k, v in value.items()}
    return value


def leaves(value):
    """The Tensors in a tree, PyTorch's or ours, None included."""
    if isinstance(value, (tuple, list)):
        return [leaf for v in value for leaf in leaves(v)]
    if isinstance(value, dict):
        return leaves(list(value.values()))
    return [value]
