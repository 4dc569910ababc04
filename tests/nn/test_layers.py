"""What single layers do besides their values: running statistics, masks, refusals; clipping."""

import math

import numpy as np
import pytest

import gradloom as gl
from gradloom import nn
from gradloom.nn import functional as F

torch = pytest.importorskip("torch")


def test_batch_norm_over_several_batches():
    for momentum in (0.1, None, 0.0):
        mine, other = nn.BatchNorm1d(3, momentum=momentum).double(), torch.nn.BatchNorm1d(3, momentum=momentum).double()
        running = mine.running_mean
        for i in range(3):
            x = np.random.default_rng(i).normal(size=(5 + i, 3))
            mine(gl.tensor(x)), other(torch.tensor(x))
        np.testing.assert_allclose(gl.to_numpy(mine.running_mean), other.running_mean.numpy(), rtol=1e-12)
        np.testing.assert_allclose(gl.to_numpy(mine.running_var), other.running_var.numpy(), rtol=1e-12)
        assert mine.num_batches_tracked.item() == 3 and mine.running_mean is running
        mine.eval(), other.eval()
        a, b = mine(gl.tensor(x)), other(torch.tensor(x))
        np.testing.assert_allclose(gl.to_numpy(a), b.detach().numpy(), rtol=1e-10)
        assert mine.num_batches_tracked.item() == 3
        mine.reset_running_stats()
        assert mine.running_var.tolist() == [1, 1, 1] and mine.num_batches_tracked.item() == 0


def test_batch_norm_errors():
    with pytest.raises(ValueError, match=r"expected 2D or 3D input \(got 4D input\)"):
        nn.BatchNorm1d(3)(gl.ones(1, 3, 2, 2))
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        nn.BatchNorm1d(3)(gl.ones(1, 3))
    assert nn.BatchNorm1d(3).eval()(gl.ones(1, 3)).shape == (1, 3)


def test_dropout():
    layer, x = nn.Dropout(0.25), gl.ones(200, 100, requires_grad=True)
    out = layer(x)
    values = gl.to_numpy(out)
    assert set(np.unique(values)) == {0.0, np.float32(1 / 0.75)}
    assert abs((values == 0).mean() - 0.25) < 0.01
    out.sum().backward()
    np.testing.assert_array_equal(gl.to_numpy(x.grad), values)
    assert not (gl.to_numpy(layer(x)) == values).all()
    gl.manual_seed(1)
    first = layer(x)
    gl.manual_seed(1)
    assert layer(x).equal(first)
    assert layer.eval()(x) is x
    y = gl.ones(4)
    assert F.dropout(y, 1.0, inplace=True) is y and y.tolist() == [0, 0, 0, 0]
    for bad in (-0.1, 1.5):
        with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1"):
            nn.Dropout(bad)
        with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1"):
            F.dropout(y, bad)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="circular"), "does not support padding_mode='circular'"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="other"), "padding_mode must be one of"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "in_channels must be divisible by groups"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), "out_channels must be divisible by groups"),
        (lambda: nn.Conv2d(4, 3, 3, groups=0), "groups must be a positive integer"),
        (lambda: nn.Conv2d(3, 4, 3, padding="half"), "Invalid padding string 'half'"),
        (lambda: nn.Conv2d(3, 4, 3, padding="same", stride=2), "not supported for strided convolutions"),
        (lambda: nn.MaxPool2d(2, return_indices=True), "does not give indices"),
        (lambda: nn.Embedding(3, 2, max_norm=1.0), "embedding does not support these options"),
        (lambda: nn.Embedding(3, 2, sparse=True), "embedding does not support these options"),
        (lambda: nn.Embedding(3, 2, padding_idx=3), "Padding_idx must be within num_embeddings"),
        (lambda: nn.GroupNorm(3, 4), "must be divisible by num_groups"),
        (lambda: nn.Bilinear(0, 1, 1), "in1_features must be > 0"),
        (lambda: F.pad(gl.ones(2), (1, 1), mode="reflect"), "pad does not support mode='reflect'"),
        (lambda: nn.Conv2d(3, 4, 3)(gl.ones(3, 3)), "Expected 3D (unbatched) or 4D (batched) input to conv2d"),
        (lambda: nn.MaxPool2d(2)(gl.ones(3, 3)), "Expected 3D or 4D input"),
        (lambda: nn.LayerNorm(3)(gl.ones(2, 4)), "Given normalized_shape=[3], expected input with shape [*, 3]"),
        (lambda: nn.MSELoss()(gl.ones(3), gl.ones(3, 1)), "different shapes"),
        (lambda: nn.MSELoss(reduction="other")(gl.ones(3), gl.ones(3)), "unknown reduction"),
        (lambda: nn.Embedding(3, 2)(gl.tensor([3])), "out of bounds"),
        (lambda: nn.Embedding(3, 2)(gl.tensor([-1])), "out of bounds"),
    ],
)
def test_refusals(make, text):
    with pytest.raises((ValueError, IndexError)) as caught:
        make()
    assert text in str(caught.value)


def test_inplace_activations():
    for layer in (nn.ReLU(inplace=True), nn.SiLU(inplace=True), nn.LeakyReLU(inplace=True), nn.ELU(inplace=True)):
        x = gl.tensor([-1.0, 2.0])
        assert layer(x) is x and x[0].item() != -1


def test_older_names_of_reduction():
    with pytest.warns(UserWarning, match="reduction='sum'"):
        assert nn.MSELoss(size_average=False).reduction == "sum"
    with pytest.warns(UserWarning, match="reduction='none'"):
        assert nn.L1Loss(reduce=False).reduction == "none"


def test_embedding_from_pretrained():
    table = gl.ones(3, 2)
    layer = nn.Embedding.from_pretrained(table)
    assert not layer.weight.requires_grad
    table.zero_()
    assert layer(gl.tensor([1])).tolist() == [[0, 0]]
    with pytest.raises(ValueError, match="Shape of weight does not match"):
        nn.Embedding(2, 2, _weight=table)


# ------------------------------------------------------------------------------------------------------------- clipping


@pytest.mark.parametrize("order", [2.0, 1.0, math.inf, 3.0])
@pytest.mark.parametrize("limit", [0.5, 1e9])
def test_clip_grad_norm(order, limit):
    arrays = [np.random.default_rng(i).normal(size=s) for i, s in enumerate([(3, 2), (4,), ()])]
    mine = [gl.tensor(a, requires_grad=True) for a in arrays] + [gl.ones(1, requires_grad=True)]
    other = [torch.tensor(a, requires_grad=True) for a in arrays]
    for p, q in zip(mine, other, strict=False):
        (p**3).sum().backward(), (q**3).sum().backward()
    held = mine[0].grad
    a = nn.utils.clip_grad_norm_(mine, limit, order)
    b = torch.nn.utils.clip_grad_norm_(other, limit, order)
    assert a.item() == pytest.approx(b.item(), rel=1e-12) and mine[0].grad is held
    for p, q in zip(mine, other, strict=False):
        np.testing.assert_allclose(gl.to_numpy(p.grad), q.grad.numpy(), rtol=1e-12)
    nn.utils.clip_grad_value_(mine, 0.1), torch.nn.utils.clip_grad_value_(other, 0.1)
    for p, q in zip(mine, other, strict=False):
        np.testing.assert_allclose(gl.to_numpy(p.grad), q.grad.numpy(), rtol=1e-12)


def test_clip_grad_norm_of_nothing_and_nan():
    assert nn.utils.clip_grad_norm_([gl.ones(1, requires_grad=True)], 1.0).item() == 0
    x = gl.ones(1, requires_grad=True)
    x.grad = gl.tensor([math.nan])
    with pytest.raises(RuntimeError, match=r"total norm of order 2\.0 for gradients from `parameters` is non-finite"):
        nn.utils.clip_grad_norm_(x, 1.0, error_if_nonfinite=True)


def test_vector_of_parameters():
    net = nn.Linear(3, 2)
    vec = nn.utils.parameters_to_vector(net.parameters())
    assert vec.shape == (8,) and vec.requires_grad
    weight = net.weight
    nn.utils.vector_to_parameters(gl.arange(8.0), net.parameters())
    assert net.weight is weight and weight.tolist() == [[0, 1, 2], [3, 4, 5]] and net.bias.tolist() == [6, 7]
    with pytest.raises(TypeError):
        nn.utils.vector_to_parameters([1.0], net.parameters())
