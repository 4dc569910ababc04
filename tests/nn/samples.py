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
CONTAINERS = {"Sequential", "ModuleList", "ModuleDict", "ParameterList"}  # tests/nn/test_container.py
# Options that are refused, and nothing else: a sample that uses one must raise.
REFUSED = {
    "padding_mode": ("reflect", "replicate", "circular"),
    "return_indices": (True,),
    "max_norm": None,
    "sparse": (True,),
}


def _t(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def _own():
    """name -> [(constructor args, constructor kwargs, forward args)]"""
    yield "Identity", [((1,), {"unused": 2}, (_t(2, 3),))]
    yield "Flatten", [((), {}, (_t(2, 3, 4),)), ((0, 1), {}, (_t(2, 3, 4),)), ((), {"start_dim": 2}, (_t(2, 3, 4, 5),))]
    yield "Unflatten", [((1, (2, 3)), {}, (_t(2, 6),)), ((-1, (2, -1)), {}, (_t(2, 6),))]
    yield "Dropout", [((0.0,), {}, (_t(2, 3),)), ((1.0,), {}, (_t(2, 3),))]
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


def samples():
    """(id, name, constructor args, kwargs, forward args, forward kwargs), Tensors being PyTorch's."""
    torch.manual_seed(0)
    count = {}
    for name, rows in _own():
        for args, kwargs, forward in rows:
            count[name] = count.get(name, 0) + 1
            yield f"{name}-own{count[name]}", name, args, kwargs, forward, {}
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


def refused(kwargs):
    """Whether the constructor is to refuse the options."""
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
    return value


def theirs(value):
    """Copies of PyTorch's Tensors that require gradients."""
    if isinstance(value, torch.Tensor):
        t = value.detach().clone()
        return t.requires_grad_() if t.is_floating_point() else t
    if isinstance(value, (tuple, list)):
        return type(value)(theirs(v) for v in value)
    return value
