"""A sample of every module on every engine in float32, eagerly and compiled: values and gradients, against PyTorch's."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")

import gradloom as gl  # noqa: E402
from gradloom import nn  # noqa: E402
from nn.samples import CONTAINERS, MODULES, NO_GRADIENT, SAMPLES, leaves, ours, refused, theirs  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:Implicit dimension choice"),
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True"),
    pytest.mark.filterwarnings("ignore:Support for mismatched"),
    pytest.mark.filterwarnings("ignore:size_average and reduce"),
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides"),
]
FIRST = {s[1]: s for s in reversed(SAMPLES) if not refused(s[3], s[4]) and "inplace" not in s[3]}  # of each the first
# Layers for 1, 2 and 3 axes share their code: those for 2 are run.
NAMES = [n for n in MODULES if n not in CONTAINERS and n[-2:] not in ("1d", "3d")]
# JAX compiles each operation by itself in eager mode, which takes long: these are run eagerly on it.
EAGER_ON_JAX = {"RNN", "LSTMCell", "TransformerEncoderLayer", "Upsample", "EmbeddingBag", "PReLU", "MultiMarginLoss"}
TOLERANCE = {"rtol": 1e-3, "atol": 2e-4}


def single(value):
    """float32 in place of float64."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype is torch.float64 else value
    if isinstance(value, (tuple, list)):
        return type(value)(single(v) for v in value)
    return {k: single(v) for k, v in value.items()} if isinstance(value, dict) else value


def run(module, given, total):
    """The results, and the gradients of arguments and parameters."""
    args, kwargs = given
    results = [r for r in leaves(module(*args, **kwargs)) if r is not None]
    live = [r for r in results if r.requires_grad]
    if live:
        total(live).backward()
    wanted = [t for t in leaves([args, kwargs]) if getattr(t, "requires_grad", False)] + list(module.parameters())
    return results, [t.grad for t in wanted] if live else []


def of_torch(rs):
    return sum((r * torch.cos(torch.arange(r.numel(), dtype=torch.float32)).reshape(r.shape)).sum() for r in rs)


def of_ours(rs):
    return sum((r * gl.cos(gl.arange(r.numel(), dtype="float32")).reshape(*r.shape)).sum() for r in rs)


def arguments(name, forward, forward_kwargs):
    given = ours((forward, forward_kwargs), requires_grad=True)
    for i in NO_GRADIENT.get(name, ()):
        given[0][i].requires_grad_(False)
    return given


def same(mine, other):
    for a, b in zip(mine, other, strict=True):
        assert (a is None) == (b is None)
        if b is not None:
            np.testing.assert_allclose(gl.to_numpy(a), b.detach().numpy(), **TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_engine(backend, name):
    if name not in FIRST:
        pytest.skip("all samples are refused")
    _, _, args, kwargs, forward, forward_kwargs = FIRST[name]
    args, kwargs, forward, forward_kwargs = single((tuple(args), kwargs, tuple(forward), forward_kwargs))
    other = getattr(torch.nn, name)(*args, **kwargs).float()
    mine = getattr(nn, name)(*ours(args), **ours(kwargs)).float()
    state = {k: v.numpy().copy() for k, v in other.state_dict().items()}
    given = theirs((forward, forward_kwargs))
    for i in NO_GRADIENT.get(name, ()):
        given[0][i].requires_grad_(False)
    expected = run(other, given, of_torch)

    if backend != "jax" or name in EAGER_ON_JAX:
        mine.load_state_dict(state)
        found = run(mine, arguments(name, forward, forward_kwargs), of_ours)
        same(found[0], expected[0])
        same(found[1], expected[1])

    mine.load_state_dict(state)
    mine.zero_grad()
    given = arguments(name, forward, forward_kwargs)

    @gl.jit(keep_grads=True)
    def step():
        args, kwargs = given
        results = [r for r in leaves(mine(*args, **kwargs)) if r is not None]
        live = [r for r in results if r.requires_grad]
        if live:
            of_ours(live).backward()
        return results

    results = step()
    same(results, expected[0])
    if expected[1]:
        wanted = [t for t in leaves(list(given)) if getattr(t, "requires_grad", False)] + list(mine.parameters())
        same([t.grad for t in wanted], expected[1])
