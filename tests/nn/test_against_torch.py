"""Every module against PyTorch's: values, gradients, buffers, names, repr, signatures."""

import inspect
import typing

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")

import gradloom as gl  # noqa: E402
from gradloom import nn  # noqa: E402
from nn.samples import CONTAINERS, MODULES, NO_GRADIENT, SAMPLES, leaves, ours, refused, theirs  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:Implicit dimension choice"),
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel"),
    pytest.mark.filterwarnings("ignore:size_average and reduce"),
    pytest.mark.filterwarnings("ignore:Initializing zero-element"),
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True"),
    pytest.mark.filterwarnings("ignore:Support for mismatched"),
]


def pairs(args, kwargs, name):
    """Their module and ours, with the same parameters, in float64."""
    theirs_ = getattr(torch.nn, name)(*args, **kwargs).double()
    ours_ = getattr(nn, name)(*ours(tuple(args)), **ours(kwargs)).double()
    ours_.load_state_dict({k: v.detach().numpy() for k, v in theirs_.state_dict().items()})
    return theirs_, ours_


LESS_EXACT = {"Hardsigmoid": 1e-7}  # PyTorch's gradient has a float32 constant


def close(mine, other, what, rtol=1e-9):
    np.testing.assert_allclose(
        np.asarray(gl.to_numpy(mine)), other.detach().numpy(), rtol=rtol, atol=1e-10, err_msg=what
    )


@pytest.mark.parametrize("sample", SAMPLES, ids=[s[0] for s in SAMPLES])
def test_values_and_gradients(sample):
    _, name, args, kwargs, forward, forward_kwargs = sample
    if refused(kwargs, forward):
        with pytest.raises(gl.errors.OptionError):
            getattr(nn, name)(*ours(tuple(args)), **ours(kwargs))(*forward)
        return
    other, mine = pairs(args, kwargs, name)
    assert repr(mine) == repr(other)
    assert list(mine.state_dict()) == list(other.state_dict())
    assert [k for k, _ in mine.named_parameters()] == [k for k, _ in other.named_parameters()]
    for mode in (True, False):
        other.train(mode), mine.train(mode)
        other.zero_grad(), mine.zero_grad()
        x, y = theirs((*forward, forward_kwargs)), ours((*forward, forward_kwargs), requires_grad=True)
        for i in NO_GRADIENT.get(name, ()):
            x[i].requires_grad_(False)
        if kwargs.get("inplace"):
            x, y = (
                tuple(v if isinstance(v, dict) else v + 0 for v in x),
                tuple(v if isinstance(v, dict) else v + 0 for v in y),
            )
        results = leaves(other(*x[:-1], **x[-1])), leaves(mine(*y[:-1], **y[-1]))
        assert len(results[0]) == len(results[1])
        total = [0, 0]
        for a, b in zip(*results, strict=True):
            assert (a is None) == (b is None)
            if a is None:
                continue
            close(b, a, "result")
            assert tuple(a.shape) == tuple(b.shape)
            assert a.requires_grad == b.requires_grad
            if a.requires_grad:
                g = torch.randn(a.shape, dtype=a.dtype)
                total[0] = total[0] + (a * g).sum()
                total[1] = total[1] + (b * gl.tensor(g.numpy())).sum()
        if isinstance(total[0], torch.Tensor):
            total[0].backward()
            total[1].backward()
            for i, (u, v) in enumerate(zip(leaves(x), leaves(y), strict=True)):
                if isinstance(u, torch.Tensor) and u.is_leaf and u.grad is not None:
                    close(v.grad, u.grad, f"gradient of argument {i}", LESS_EXACT.get(name, 1e-9))
            for (k, u), v in zip(other.named_parameters(), mine.parameters(), strict=True):
                assert (u.grad is None) == (v.grad is None), k
                if u.grad is not None:
                    close(v.grad, u.grad, f"gradient of {k}")
        for (k, u), v in zip(other.named_buffers(), mine.buffers(), strict=True):
            close(v, u, f"buffer {k}")


@pytest.mark.parametrize("name", MODULES)
def test_has_a_sample(name):
    assert name in CONTAINERS or any(s[1] == name for s in SAMPLES)


@pytest.mark.parametrize("name", MODULES)
def test_signature(name):
    def plain(init):
        parameters = inspect.signature(init).parameters.values()
        return [(p.name, p.kind, getattr(p.default, "__name__", p.default)) for p in parameters]

    init = getattr(torch.nn, name).__init__
    written = typing.get_overloads(init)  # where the signature of `__init__` is (*args, **kwargs)
    assert plain(getattr(nn, name).__init__) == plain(written[0] if written else init)


FUNCTIONS = [
    "batch_norm", "layer_norm", "rms_norm", "group_norm", "normalize", "relu", "relu6", "silu", "softmax",
    "log_softmax",
    "leaky_relu", "elu", "dropout", "embedding", "cross_entropy", "nll_loss", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "kl_div", "mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "pad",
]  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functional_signature(name):
    def plain(fn):
        return [(p.name, p.default) for p in inspect.signature(fn).parameters.values() if p.name != "out"]

    assert plain(getattr(nn.functional, name)) == plain(getattr(torch.nn.functional, name))


@pytest.mark.parametrize("name", [*nn.utils.__all__] + [n for n in nn.init.__all__ if n not in ("eye_", "skipped")])
def test_helper_signature(name):
    module, other = (nn.utils, torch.nn.utils) if hasattr(nn.utils, name) else (nn.init, torch.nn.init)

    def plain(fn):
        return [(p.name, p.default) for p in inspect.signature(fn).parameters.values()]

    other = torch.func if name == "functional_call" else other
    assert plain(getattr(module, name)) == plain(getattr(other, name))


METHODS = [
    "add_module", "apply", "buffers", "children", "eval", "get_buffer", "get_parameter", "get_submodule",
    "load_state_dict",
    "modules", "named_buffers", "named_children", "named_modules", "named_parameters", "parameters", "register_buffer",
    "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook", "register_module",
    "register_parameter", "requires_grad_", "state_dict", "train", "zero_grad",
]  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_method_signature(name):
    def plain(cls):
        return [(p.name, p.default) for p in inspect.signature(getattr(cls, name)).parameters.values()]

    assert plain(nn.Module) == plain(torch.nn.Module)


# --------------------------------------------------------------------------------------------------------- functional


def _random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("pad", (_random(2, 3, 4), (1, 2)), {}),
        ("pad", (_random(2, 3, 4), (1, 2, 0, -1)), {"value": 2.5}),
        ("normalize", (_random(3, 4),), {}),
        ("normalize", (_random(3, 4),), {"p": 1.0, "dim": 0}),
        ("relu6", (_random(3, 4) * 6,), {}),
        ("logsigmoid", (_random(3, 4) * 30,), {}),
        ("softmax", (_random(3, 4),), {"dim": 0}),
        ("bilinear", (_random(2, 3, 4), _random(2, 3, 5), _random(6, 4, 5), _random(6)), {}),
        ("mse_loss", (_random(3, 4), _random(3, 4)), {"weight": _random(3, 4).abs()}),
        ("l1_loss", (_random(3, 4), _random(3, 4)), {"weight": _random(3, 4).abs(), "reduction": "sum"}),
        ("huber_loss", (_random(3, 4), _random(3, 4)), {"weight": _random(3, 4).abs()}),
        ("scaled_dot_product_attention", (_random(2, 4, 3, 5), _random(2, 4, 6, 5), _random(2, 4, 6, 7)), {}),
        (
            "scaled_dot_product_attention",
            (_random(2, 4, 3, 5), _random(2, 2, 3, 5), _random(2, 2, 3, 5)),
            {"is_causal": True, "enable_gqa": True},
        ),
        (
            "scaled_dot_product_attention",
            (_random(2, 3, 5), _random(2, 6, 5), _random(2, 6, 5), _random(3, 6)),
            {"scale": 0.3},
        ),
        (
            "scaled_dot_product_attention",
            (_random(2, 3, 5), _random(2, 6, 5), _random(2, 6, 5), _random(3, 6) > -1),
            {},
        ),
        ("one_hot", (torch.tensor([[0, 2], [1, 1]]),), {}),
        ("one_hot", (torch.tensor([0, 2]), 5), {}),
    ],
)
def test_functions(name, args, kwargs):
    x, y = theirs(args), ours(args, requires_grad=True)
    a = getattr(torch.nn.functional, name)(*x, **kwargs)
    b = getattr(nn.functional, name)(*y, **ours(kwargs))
    close(b, a, "result")
    if a.requires_grad:
        (a * a.detach()).sum().backward()
        (b * b.detach()).sum().backward()
        for i, (u, v) in enumerate(zip(x, y, strict=True)):
            if isinstance(u, torch.Tensor) and u.is_floating_point():
                close(v.grad, u.grad, f"gradient of argument {i}")


def test_attention_with_dropout():
    q, k, v = (gl.randn(2, 3, 5) for _ in range(3))
    sdpa = nn.functional.scaled_dot_product_attention
    gl.manual_seed(1)
    first = sdpa(q, k, v, is_causal=True, dropout_p=0.5)
    gl.manual_seed(1)
    keep = gl.tensor(np.tril(np.ones((3, 3), bool)))
    assert first.allclose(sdpa(q, k, v, keep, dropout_p=0.5))
    whole = sdpa(q, k, v, is_causal=True)
    mean = sum(gl.to_numpy(sdpa(q, k, v, is_causal=True, dropout_p=0.5)) for _ in range(2000)) / 2000
    np.testing.assert_allclose(mean, gl.to_numpy(whole), atol=0.2)
