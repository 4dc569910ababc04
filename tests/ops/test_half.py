"""float16 and bfloat16 on every engine: dtypes as PyTorch's, sums and squares in float32, results to the last bits."""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as TF

import gradloom as gl
from gradloom.nn import functional as F

pytest.importorskip("ml_dtypes")

ENGINES = [e for e in ("numpy", "jax", "torch", "mlx") if importlib.util.find_spec(e) is not None]
HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
#: Two of the last bits' steps.
TOLERANCE = {"float16": {"rtol": 2e-3, "atol": 2e-4}, "bfloat16": {"rtol": 1.6e-2, "atol": 1.6e-3}}


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


def values(*shape: int, scale: float = 1.0, offset: float = 0.0) -> np.ndarray:
    return np.random.default_rng([1, *shape]).standard_normal(shape) * scale + offset


BIG = values(4, 6, scale=300.0)  # the squares are infinite in float16
FAR = values(4, 6, offset=200.0)  # the mean is large against the deviation
LONG = np.abs(values(1, 5000)) * 0.5  # what is added up in float16 or bfloat16 stops growing
LABELS = np.array([0, 5, 2, 2])
WEIGHT, BIAS = values(6), values(6, 1).ravel()
IMAGE = values(2, 6, 5, scale=300.0)


#: (engine, case): why it is not compared.
LESS_EXACT = {("torch", "layer_norm-far"): "PyTorch's kernel, which rounds the mean to half precision"}
#: Indices of operands without a gradient.
FIXED = {"cross_entropy-weight": (2,)}
#: name -> (f(functional, *tensors), operands); f is called with gradloom's functional and Tensors, and with PyTorch's.
CASES: dict[str, tuple[Callable, tuple]] = {
    "sum": (lambda F, x: x.sum(1), (LONG,)),
    "mean": (lambda F, x: x.mean(1), (LONG,)),
    "mean-large": (lambda F, x: x.mean(), (FAR * 20,)),
    "cumsum": (lambda F, x: x.cumsum(1), (LONG[:, :500],)),
    "prod": (lambda F, x: x.prod(1), (1 + values(3, 60, scale=0.1),)),
    "cumprod": (lambda F, x: x.cumprod(1), (1 + values(3, 60, scale=0.1),)),
    "norm": (lambda F, x: x.norm(dim=1), (BIG,)),
    "norm-1": (lambda F, x: x.norm(1, dim=1), (LONG,)),
    "norm-3": (lambda F, x: x.norm(3, dim=1), (BIG,)),
    "norm-inf": (lambda F, x: x.norm(float("inf"), dim=1), (BIG,)),
    "var": (lambda F, x: x.var(1), (FAR,)),
    "std": (lambda F, x: x.std(1), (BIG,)),
    "normalize": (lambda F, x: F.normalize(x, dim=1), (BIG,)),
    "softmax": (lambda F, x: F.softmax(x, 1), (LONG,)),
    "log_softmax": (lambda F, x: F.log_softmax(x, 1), (LONG,)),
    "logsumexp": (lambda F, x: x.logsumexp(1), (LONG,)),
    "layer_norm": (lambda F, x, w, b: F.layer_norm(x, (6,), w, b), (BIG, WEIGHT, BIAS)),
    "layer_norm-far": (lambda F, x: F.layer_norm(x, (6,)), (FAR,)),
    "rms_norm": (lambda F, x, w: F.rms_norm(x, (6,), w, 1e-5), (BIG, WEIGHT)),
    "group_norm": (lambda F, x, w, b: F.group_norm(x, 2, w, b), (IMAGE, WEIGHT, BIAS)),
    "instance_norm": (lambda F, x: F.group_norm(x, 6), (IMAGE,)),
    "batch_norm": (lambda F, x, w, b: F.batch_norm(x, None, None, w, b, True), (IMAGE, WEIGHT, BIAS)),
    "batch_norm-far": (lambda F, x: F.batch_norm(x, None, None, training=True), (FAR,)),
    "cross_entropy": (lambda F, x, t: F.cross_entropy(x, t), (BIG / 100, LABELS)),
    "cross_entropy-sum": (lambda F, x, t: F.cross_entropy(x, t, reduction="sum"), (values(3000, 4), np.arange(3000) % 4)),
    "cross_entropy-weight": (lambda F, x, t, w: F.cross_entropy(x, t, w), (BIG / 100, LABELS, np.abs(WEIGHT) + 0.1)),
    "cross_entropy-smooth": (lambda F, x, t: F.cross_entropy(x, t, label_smoothing=0.1), (BIG / 100, LABELS)),
    "cross_entropy-ignore": (lambda F, x, t: F.cross_entropy(x, t, ignore_index=2), (BIG / 100, LABELS)),
    "nll_loss": (lambda F, x, t: F.nll_loss(x, t), (-np.abs(values(3000, 4)), np.arange(3000) % 4)),
    "kl_div": (lambda F, x, p: F.kl_div(x, p, reduction="sum"), (-np.abs(BIG / 100), np.abs(values(4, 6)))),
    "scalar": (lambda F, x: 0.3 - x * 2.5 / 0.7 + 1.5, (BIG,)),
    "scalar-pow": (lambda F, x: x**2.5, (np.abs(FAR / 30),)),
    "clamp": (lambda F, x: x.clamp(-0.5, 0.5), (BIG / 300,)),
    "where": (lambda F, x: F.leaky_relu(x, 0.3) + x.masked_fill(x > 0, 0.25), (BIG / 300,)),
    "matmul": (lambda F, x, y: x @ y, (LONG / 20, LONG.reshape(5000, 1))),
    "linear": (lambda F, x, w: F.linear(x, w), (values(4, 300), values(5, 300))),
    "conv2d": (lambda F, x, w: F.conv2d(x, w, padding=1), (values(2, 3, 6, 6), values(4, 3, 3, 3))),
    "max_pool2d": (lambda F, x: F.max_pool2d(x, 2), (values(2, 3, 6, 6),)),
    "avg_pool2d": (lambda F, x: F.avg_pool2d(x, 3), (values(2, 3, 6, 6),)),
    "gelu": (lambda F, x: F.gelu(x), (values(4, 6),)),
    "silu": (lambda F, x: F.silu(x), (values(4, 6),)),
    "pad": (lambda F, x: F.pad(x, (1, 2), value=0.3) * 0.7, (values(4, 6),)),
    "index": (lambda F, x: x[1, 2] * 0.3 + x[:, 1].sum() + x[x > 0].sum(), (values(4, 6),)),
}  # fmt: skip


def close(mine: Any, expected: torch.Tensor, kind: torch.dtype, what: str) -> None:
    assert mine.dtype.name == str(kind).removeprefix("torch."), f"{what} is {mine.dtype.name}"
    e = expected.detach().to(kind).double().numpy()
    within = TOLERANCE[mine.dtype.name]
    # Differences of large numbers have the error of these.
    atol = max(within["atol"], within["rtol"] / 4 * np.abs(e[np.isfinite(e)]).max(initial=0.0))
    np.testing.assert_allclose(mine.detach().float().numpy(), e, rtol=within["rtol"], atol=atol, err_msg=what)


def on(engine: str, x: torch.Tensor, half: torch.dtype) -> Any:
    return (
        gl.tensor(x.detach().numpy())
        if not x.is_floating_point()
        else gl.tensor(x.detach().float().numpy()).to(str(half).removeprefix("torch."))
    )


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("engine", ENGINES)
def test_half_against_torch(engine, name, half):
    """Dtypes are PyTorch's of half precision, values those of float64: PyTorch itself rounds in between here and there."""
    if (engine, name) in LESS_EXACT:
        pytest.skip(LESS_EXACT[engine, name])
    fn, operands = CASES[name]
    halves = [torch.tensor(a) for a in operands]
    halves = [t.to(half) if t.is_floating_point() else t for t in halves]
    exact = [
        t.double().requires_grad_(i not in FIXED.get(name, ())) if t.is_floating_point() else t
        for i, t in enumerate(halves)
    ]
    kind = fn(TF, *halves).dtype
    expected = fn(TF, *exact)
    g = torch.tensor(np.asarray(values(*expected.shape))).to(half)
    wanted = torch.autograd.grad(expected, [t for t in exact if t.requires_grad], g.double())
    with gl.using_backend(engine):
        mine = [on(engine, t, half).requires_grad_(e.requires_grad) for t, e in zip(halves, exact, strict=True)]
        out = fn(F, *mine)
        close(out, expected, kind, "result")
        found = gl.autograd.grad(out, [m for m in mine if m.requires_grad], on(engine, g, half))
        for i, (m, e) in enumerate(zip(found, wanted, strict=True)):
            close(m, e, half, f"gradient {i}")


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("engine", ENGINES)
def test_compiled_half_is_eager_half(engine, half):
    """In `gradloom.jit` too: what is written out as source is run in float32."""

    def step(x, w, t):
        h = F.rms_norm(F.layer_norm(x, (6,), w), (6,), w)
        loss = F.cross_entropy(h * 0.3, t) + h.norm() + F.softmax(x, 1).var()
        return (h, loss, *gl.autograd.grad(loss, [x, w]))

    with gl.using_backend(engine):
        x, w = (gl.tensor(a.astype("float32")).to(half).requires_grad_() for a in (BIG, WEIGHT))
        t = gl.tensor(LABELS)
        expected, compiled = step(x, w, t), gl.jit(step)
        for found in (compiled(x, w, t), compiled(x, w, t)):
            for m, e in zip(found, expected, strict=True):
                assert m.dtype is e.dtype is gl.dtype(half)
                assert m.isfinite().all()
                np.testing.assert_allclose(m.detach().float().numpy(), e.detach().float().numpy(), **TOLERANCE[half])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "int64"])
def test_einsum_sums_integers_as_pytorch(engine, dtype):
    a = np.arange(9).reshape(3, 3).astype(dtype)
    with gl.using_backend(engine):
        for equation, count in (
            ("ij->", 1),
            ("ij->i", 1),
            ("ij->ji", 1),
            ("ii->i", 1),
            ("ij,jk->ik", 2),
            ("ij,kl->k", 2),
        ):
            if dtype == "bool" and equation == "ij,jk->ik":
                continue  # PyTorch refuses it
            expected = torch.einsum(equation, *[torch.tensor(a)] * count)
            found = gl.einsum(equation, *[gl.tensor(a)] * count)
            wanted = str(expected.dtype).removeprefix("torch.")
            assert found.dtype.name == ("int64" if engine == "jax" and wanted == "int32" else wanted), equation
            assert found.tolist() == expected.tolist()
