"""Initial values: bounds and moments as PyTorch's, numbers the same on every engine."""

import math
import threading

import numpy as np
import pytest

import gradloom as gl
from gradloom import nn
from gradloom.nn import init

torch = pytest.importorskip("torch")

CASES = [
    ("uniform_", {"a": -2.0, "b": 3.0}),
    ("normal_", {"mean": 1.0, "std": 2.0}),
    ("trunc_normal_", {"std": 1.5, "a": -1.0, "b": 2.0}),
    ("constant_", {"val": 4.0}),
    ("ones_", {}),
    ("zeros_", {}),
    ("xavier_uniform_", {"gain": 2.0}),
    ("xavier_normal_", {}),
    ("kaiming_uniform_", {"a": math.sqrt(5)}),
    ("kaiming_uniform_", {"mode": "fan_out", "nonlinearity": "relu"}),
    ("kaiming_normal_", {"nonlinearity": "tanh"}),
    ("orthogonal_", {"gain": 1.5}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("shape", [(80, 60), (40, 20, 3, 3)])
def test_distribution(name, options, shape):
    torch.manual_seed(0)
    mine = getattr(init, name)(gl.empty(shape), **options)
    other = getattr(torch.nn.init, name)(torch.empty(shape), **options).numpy()
    a = gl.to_numpy(mine)
    assert a.dtype == np.float32
    spread = float(other.std())
    assert abs(a.mean() - other.mean()) < 0.06 * spread + 1e-6
    assert a.std() == pytest.approx(spread, rel=0.03)
    bounded = "uniform" in name or "trunc" in name or spread == 0
    tolerance = float(np.abs(other).max()) * (0.01 if bounded else 0.3)  # the extremes of normal numbers vary
    assert a.min() == pytest.approx(float(other.min()), abs=tolerance)
    assert a.max() == pytest.approx(float(other.max()), abs=tolerance)


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (4, 2, 3)])
def test_orthogonal(shape):
    q = gl.to_numpy(init.orthogonal_(gl.empty(shape, dtype="float64"))).reshape(shape[0], -1)
    product = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-12)


def test_gains():
    for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)
    with pytest.raises(ValueError, match="Unsupported nonlinearity softplus"):
        init.calculate_gain("softplus")
    with pytest.raises(ValueError, match="negative_slope True not a valid number"):
        init.calculate_gain("leaky_relu", True)
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        init.xavier_normal_(gl.empty(3))
    with pytest.raises(ValueError, match="Mode fan not supported"):
        init.kaiming_normal_(gl.empty(3, 3), mode="fan")
    with pytest.warns(UserWarning, match="zero-element"):
        init.kaiming_uniform_(gl.empty(3, 0))
    assert init.eye_(gl.empty(2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]


LAYERS = [
    lambda n: n.Linear(400, 30),
    lambda n: n.Conv1d(20, 30, 9),
    lambda n: n.Conv2d(8, 40, 5, groups=4),
    lambda n: n.Conv3d(6, 30, 3),
    lambda n: n.Embedding(50, 60, padding_idx=3),
    lambda n: n.Bilinear(50, 5, 7),
    lambda n: n.BatchNorm2d(4),
    lambda n: n.LayerNorm((2, 3)),
    lambda n: n.GroupNorm(2, 4),
    lambda n: n.RMSNorm(5),
    lambda n: n.ConvTranspose2d(8, 40, 5, groups=4),
    lambda n: n.EmbeddingBag(50, 60, padding_idx=3),
    lambda n: n.PReLU(5, 0.3),
    lambda n: n.InstanceNorm1d(4, affine=True, track_running_stats=True),
    lambda n: n.LSTM(30, 40, 2, proj_size=10, bidirectional=True),
    lambda n: n.GRUCell(30, 40),
    lambda n: n.MultiheadAttention(60, 6, add_bias_kv=True),
    lambda n: n.MultiheadAttention(60, 6, kdim=30, vdim=20),
    lambda n: n.Transformer(24, 2, 1, 1, 50),
]


@pytest.mark.parametrize("make", LAYERS)
def test_reset_parameters_draws_all(make):
    gl.manual_seed(1)
    layer = make(nn)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    with gl.no_grad():
        for p in layer.parameters():
            p.fill_(9.0)
    gl.manual_seed(1)
    if hasattr(layer, "reset_parameters"):
        layer.reset_parameters()
    for k, v in layer.state_dict().items():
        assert v.shape == before[k].shape and not (v == 9.0).any(), k
        spread, was = gl.to_numpy(v).std(), gl.to_numpy(before[k]).std()
        assert spread == pytest.approx(was, rel=0.5, abs=1e-9), k


@pytest.mark.parametrize("make", LAYERS)
def test_layers_start_as_pytorch_s(make):
    torch.manual_seed(0)
    mine, other = make(nn), make(torch.nn)
    for (key, a), b in zip(mine.state_dict().items(), other.state_dict().values(), strict=True):
        a, b = gl.to_numpy(a).astype(float), b.numpy().astype(float)
        assert a.shape == b.shape
        if b.std() == 0:
            np.testing.assert_array_equal(a, b, err_msg=key)
        elif b.size > 1000:
            assert a.std() == pytest.approx(b.std(), rel=0.07)
            if not isinstance(mine, (nn.Embedding, nn.EmbeddingBag)):
                assert np.abs(a).max() == pytest.approx(np.abs(b).max(), rel=0.01)
        elif key in ("bias_k", "bias_v"):
            assert a.std() == pytest.approx(b.std(), rel=0.5)
        else:  # a small one: as large as PyTorch's
            assert 0.5 < np.abs(a).max() / np.abs(b).max() < 2
    if isinstance(mine, (nn.Embedding, nn.EmbeddingBag)):
        assert not gl.to_numpy(mine.weight)[3].any()


def test_same_numbers_on_every_engine(backend):
    def draw():
        gl.manual_seed(7)
        net = nn.Sequential(nn.Linear(5, 4), nn.Conv2d(2, 3, 3), nn.Embedding(4, 3))
        init.trunc_normal_(net[1].weight)
        init.orthogonal_(net[0].weight)
        return [gl.to_numpy(p) for p in net.parameters()]

    found = draw()
    with gl.using_backend("numpy"):
        for a, b in zip(found, draw(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_generator():
    a = init.normal_(gl.empty(3), generator=gl.Generator(3))
    b = init.normal_(gl.empty(3), generator=gl.Generator(3))
    assert a.tolist() == b.tolist()
    p = nn.Parameter(gl.empty(3))
    assert init.uniform_(p) is p and p.requires_grad and p.is_leaf


def test_skipped():
    """Nothing is drawn, in this thread; what a layer draws without it is drawn by reset_parameters."""
    gl.manual_seed(3)
    drawn = nn.TransformerEncoderLayer(8, 2, 16)
    gl.manual_seed(3)
    with init.skipped():
        with init.skipped():
            assert init.ones_(gl.zeros(2)).tolist() == [0, 0]
        model = nn.TransformerEncoderLayer(8, 2, 16)
        t = gl.full((3, 2), 7.0)
        assert init.orthogonal_(t) is t and init.trunc_normal_(t) is t and init.eye_(t) is t
        assert t.tolist() == [[7, 7]] * 3
        other = []
        worker = threading.Thread(target=lambda: other.append(init.ones_(gl.zeros(1)).item()))
        worker.start()
        worker.join()
        assert other == [1]
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in drawn.state_dict().items()}
    assert not any(p.any() for p in model.parameters())
    for (k, p), q in zip(nn.TransformerEncoderLayer(8, 2, 16).named_parameters(), drawn.parameters(), strict=True):
        assert p.equal(q), k  # the generator has not moved
    model.apply(lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None)
    assert all(p.any() for p in model.parameters() if p.ndim > 1)
    with pytest.raises(ZeroDivisionError), init.skipped():
        raise ZeroDivisionError
    assert init.ones_(gl.zeros(1)).item() == 1
