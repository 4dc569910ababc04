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


def attend(width, query, key, **options):
    return nn.MultiheadAttention(width, 2)(query, key, key, **options)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="circular"), 'Only "zeros" padding mode is supported'),
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
        (lambda: F.pad(gl.ones(2), (1, 1), mode="reflect"), "Only 2D, 3D, 4D, 5D padding"),
        (lambda: F.pad(gl.ones(1, 2), (2, 1), mode="reflect"), "at most 1 on axis 1"),
        (lambda: F.pad(gl.ones(1, 2), (3, 0), mode="circular"), "at most 2 on axis 1"),
        (lambda: F.pad(gl.ones(1, 2), (1, 1), mode="other"), "Unrecognised padding mode other"),
        (lambda: F.pad(gl.ones(1, 2), (1, 1), mode="reflect", value=1.0), "doesn't take in value argument"),
        (lambda: nn.Conv2d(3, 4, 3)(gl.ones(3, 3)), "Expected 3D (unbatched) or 4D (batched) input to conv2d"),
        (lambda: nn.MaxPool2d(2)(gl.ones(3, 3)), "Expected 3D or 4D input"),
        (lambda: nn.LayerNorm(3)(gl.ones(2, 4)), "Given normalized_shape=[3], expected input with shape [*, 3]"),
        (lambda: nn.MSELoss()(gl.ones(3), gl.ones(3, 1)), "different shapes"),
        (lambda: nn.MSELoss(reduction="other")(gl.ones(3), gl.ones(3)), "unknown reduction"),
        (lambda: nn.Embedding(3, 2)(gl.tensor([3])), "out of bounds"),
        (lambda: nn.Embedding(3, 2)(gl.tensor([-1])), "out of bounds"),
        (lambda: nn.RNN(2, 3, nonlinearity="sin"), "Unknown nonlinearity 'sin'"),
        (lambda: nn.GRU(2, 0), "hidden_size must be greater than zero"),
        (lambda: nn.GRU(2.0, 3), "input_size should be of type int, got: float"),
        (lambda: nn.LSTM(2, 3, dropout=1.5), "dropout should be a number in range [0, 1]"),
        (lambda: nn.LSTM(2, 3, proj_size=3), "proj_size has to be smaller than hidden_size"),
        (lambda: nn.RNN(2, 3)(gl.ones(4, 5, 3)), "input.size(-1) must be equal to input_size. Expected 2, got 3"),
        (lambda: nn.RNN(2, 3)(gl.ones(4)), "RNN: Expected input to be 2D or 3D, got 1D"),
        (lambda: nn.RNN(2, 3)(gl.ones(0, 5, 2)), "RNN needs a step"),
        (lambda: nn.RNN(2, 3)(gl.ones(4, 5, 2), gl.ones(1, 4, 3)), "Expected hidden size (1, 5, 3), got [1, 4, 3]"),
        (lambda: nn.RNN(2, 3)(gl.ones(4, 5, 2), gl.ones(5, 3)), "hx should also be 3-D but got 2-D"),
        (lambda: nn.LSTM(2, 3)(gl.ones(4, 2), (gl.ones(1, 3), gl.ones(1, 1, 3))), "hx and cx should also be 2-D"),
        (lambda: nn.RNN(2, 3)(gl.ones(4, 5, 2, dtype="float64")), "does not match weight dtype"),
        (lambda: nn.LSTMCell(2, 3)(gl.ones(5, 2), (gl.ones(5, 3), gl.ones(4, 3))), "hx[1] does not fit input"),
        (lambda: nn.GRUCell(2, 3)(gl.ones(5, 2, 2)), "GRUCell: Expected input to be 1D or 2D, got 3D"),
        (lambda: nn.MultiheadAttention(5, 2), "embed_dim must be divisible by num_heads"),
        (lambda: nn.MultiheadAttention(0, 2), "must be greater than 0"),
        (lambda: attend(4, gl.ones(3, 4), gl.ones(3, 1, 4)), "expected `key` and `value` to be 2-D"),
        (lambda: attend(4, gl.ones(3, 2, 5), gl.ones(3, 2, 5)), "expecting embedding dimension of 4, but got 5"),
        (lambda: attend(4, gl.ones(3, 2, 4), gl.ones(3, 1, 4)), "query and key have different batches"),
        (lambda: attend(4, *[gl.ones(3, 2, 4)] * 2, attn_mask=gl.ones(2, 3)), "but should be [3, 3]"),
        (lambda: attend(4, *[gl.ones(3, 2, 4)] * 2, attn_mask=gl.ones(2, 3, 3)), "but should be [4, 3, 3]"),
        (lambda: attend(4, *[gl.ones(3, 2, 4)] * 2, key_padding_mask=gl.ones(3, 2)), "key_padding_mask does not fit"),
        (lambda: attend(4, *[gl.ones(3, 2, 4)] * 2, attn_mask=gl.tensor([[1]])), "[1, 1], but should be [3, 3]"),
        (lambda: attend(4, *[gl.ones(1, 2, 4)] * 2, attn_mask=gl.tensor([[1]])), "only bool and floating types"),
        (lambda: attend(4, *[gl.ones(3, 2, 4)] * 2, is_causal=True), "Need attn_mask if specifying the is_causal hint"),
        (lambda: nn.Transformer(4, 2, 1, 1, 8)(gl.ones(3, 2, 4), gl.ones(3, 1, 4)), "batch number of src and tgt"),
        (lambda: nn.Transformer(4, 2, 1, 1, 8)(gl.ones(3, 2, 4), gl.ones(3, 2, 5)), "must be equal to d_model"),
        (lambda: nn.TransformerEncoderLayer(4, 2, activation="sin"), "activation should be relu/gelu, not sin"),
        (lambda: nn.PReLU(3)(gl.ones(2, 4)), "weight [3], input [2, 4]"),
        (lambda: nn.GLU()(gl.ones(3)), "Halving dimension must be even, but dimension -1 is size 3"),
        (lambda: nn.CELU(alpha=0.0)(gl.ones(1)), "alpha cannot be 0 for CELU"),
        (lambda: nn.Softshrink(-1.0)(gl.ones(1)), "lambda must be greater or equal to 0"),
        (lambda: nn.Hardtanh(1.0, -1.0), "max_val must be larger than min_val"),
        (lambda: nn.RReLU(0.5, 0.1)(gl.ones(1)), "Lower bound should be less than or equal"),
        (lambda: nn.Softmax2d()(gl.ones(2, 2)), "Softmax2d: expected input to be 3D or 4D, got 2D"),
        (lambda: nn.Dropout2d()(gl.ones(2, 2)), "dropout2d takes channels"),
        (lambda: nn.ConvTranspose1d(2, 3, 2, output_padding=1)(gl.ones(1, 2, 4)), "output padding must be smaller"),
        (lambda: nn.ConvTranspose1d(2, 3, 2)(gl.ones(1, 3, 4)), "conv_transpose1d: the shapes do not fit together"),
        (lambda: nn.ConvTranspose1d(2, 3, 2)(gl.ones(1, 2, 4), (9,)), "valid sizes range from [5] to [5]"),
        (lambda: nn.InstanceNorm1d(2)(gl.ones(1, 2, 1)), "Expected more than 1 spatial element when training"),
        (lambda: nn.InstanceNorm1d(2, affine=True)(gl.ones(1, 3, 4)), "to match num_features (2), but got: 3"),
        (lambda: nn.InstanceNorm2d(2)(gl.ones(2, 4)), "expected 3D or 4D input (got 2D input)"),
        (lambda: nn.AdaptiveMaxPool1d(2, return_indices=True), "does not give indices"),
        (lambda: nn.Upsample()(gl.ones(1, 1, 4)), "either size or scale_factor should be defined"),
        (lambda: F.interpolate(gl.ones(1, 1, 4), 2, 2.0), "only one of size or scale_factor should be defined"),
        (lambda: F.interpolate(gl.ones(1, 1, 4), 2, mode="bilinear"), "Got 3D input, but bilinear mode needs 4D"),
        (lambda: F.interpolate(gl.ones(1, 1, 4), 2, align_corners=True), "align_corners option can only be set"),
        (lambda: F.interpolate(gl.ones(1, 1, 4, 4), 2, mode="bilinear", antialias=True), "does not support antialias"),
        (lambda: nn.PixelShuffle(2)(gl.ones(3, 2, 2)), "input.size(-3)=3 is not divisible by 4"),
        (lambda: nn.ChannelShuffle(2)(gl.ones(1, 3, 2)), "Got 3 channels and 2 groups"),
        (lambda: nn.Fold(4, 2)(gl.ones(1, 4, 8)), "expected: (N, C * 4, 3 * 3)"),
        (lambda: nn.EmbeddingBag(3, 2, mode="min")(gl.tensor([[1]])), "mode has to be one of sum, mean or max"),
        (lambda: nn.EmbeddingBag(3, 2)(gl.tensor([1])), "offsets has to be a 1D Tensor when input is 1D"),
        (lambda: nn.EmbeddingBag(3, 2)(gl.tensor([[1]]), None, gl.ones(1, 1)), "only supported for mode='sum'"),
        (lambda: nn.EmbeddingBag(3, 2)(gl.tensor([[3]])), "out of bounds"),
        (lambda: nn.MarginRankingLoss()(gl.ones(3), gl.ones(3), gl.ones(3, 1)), "input2 (3,), target (3, 1)"),
        (lambda: nn.TripletMarginLoss()(gl.ones(2, 3), gl.ones(2, 3), gl.ones(1, 3)), "negative (1, 3)"),
        (lambda: nn.TripletMarginLoss(margin=0.0), "expected margin to be greater than 0, got 0.0"),
        (lambda: nn.CosineEmbeddingLoss()(gl.ones(2, 3), gl.ones(2, 3), gl.ones(1)), "inputs (2, 3), target (1,)"),
        (lambda: nn.GaussianNLLLoss()(gl.ones(2, 3), gl.ones(3), gl.ones(2, 3)), "input (2, 3), target (3,)"),
        (lambda: nn.GaussianNLLLoss()(gl.ones(2, 3), gl.ones(2, 3), gl.ones(3)), "var is of incorrect size"),
        (lambda: nn.GaussianNLLLoss()(gl.ones(2), gl.ones(2), -gl.ones(2)), "var has negative entry/entries"),
        (lambda: nn.PoissonNLLLoss()(gl.ones(3), gl.ones(3, 1)), "input (3,), target (3, 1)"),
        (lambda: nn.HingeEmbeddingLoss()(gl.ones(3), gl.ones(1)), "input (3,), target (1,)"),
        (lambda: nn.SoftMarginLoss(reduction="other")(gl.ones(3), gl.ones(3)), "unknown reduction"),
        (lambda: nn.MultiMarginLoss(p=3), "only p == 1 and p == 2 supported"),
        (lambda: nn.MultiMarginLoss()(gl.ones(2, 3), gl.tensor([1])), "input (2, 3), target (1,)"),
        (lambda: nn.MultiMarginLoss()(gl.ones(2, 3), gl.ones(2)), "takes class indices"),
        (lambda: nn.MultiMarginLoss(weight=gl.ones(2))(gl.ones(2, 3), gl.tensor([1, 1])), "weight (2,)"),
        (lambda: nn.MultiLabelMarginLoss()(gl.ones(2, 3), gl.tensor([[1, 1]])), "input (2, 3), target (1, 2)"),
        (lambda: nn.MultiLabelSoftMarginLoss()(gl.ones(2, 3), gl.ones(3)), "input (2, 3), target (3,)"),
    ],
)
def test_refusals(make, text):
    with pytest.raises((ValueError, IndexError, TypeError)) as caught:
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


# -------------------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize(
    ("name", "shape", "whole"),
    [
        ("Dropout1d", (30, 40, 3), (2,)), ("Dropout1d", (900, 4), (1,)), ("Dropout2d", (30, 40, 2, 3), (2, 3)),
        ("Dropout2d", (30, 40, 3), (2,)), ("Dropout3d", (30, 40, 2, 2, 2), (2, 3, 4)),
        ("Dropout3d", (900, 2, 2, 2), (1, 2, 3)), ("FeatureAlphaDropout", (30, 40, 3), (2,)),
    ],
)  # fmt: skip
def test_whole_channels_are_dropped(name, shape, whole):
    x = gl.ones(*shape, requires_grad=True)
    out = getattr(nn, name)(0.25)(x)
    values = gl.to_numpy(out)
    assert (values.max(whole) == values.min(whole)).all()
    low, high = np.unique(values)
    assert abs((values == low).mean() - 0.25) < 0.05
    out.sum().backward()
    scale = 1 / 0.75 if name != "FeatureAlphaDropout" else gl.to_numpy(x.grad).max()
    np.testing.assert_allclose(gl.to_numpy(x.grad), np.where(values == high, scale, 0), rtol=1e-6)
    assert getattr(nn, name)(0.25).eval()(x) is x


def test_alpha_dropout_keeps_mean_and_variance():
    x = gl.randn(200, 500)
    out = gl.to_numpy(nn.AlphaDropout(0.3)(x))
    assert abs(out.mean()) < 0.02 and abs(out.std() - 1) < 0.02
    theirs = torch.nn.functional.alpha_dropout(torch.zeros(1000), 0.3, True).unique()
    np.testing.assert_allclose(np.unique(gl.to_numpy(nn.AlphaDropout(0.3)(gl.zeros(1000)))), theirs, rtol=1e-5)


def test_random_slopes():
    x = gl.full((100, 100), -1.0, requires_grad=True)
    layer = nn.RReLU(0.1, 0.3)
    out = layer(x)
    values = -gl.to_numpy(out)
    assert 0.1 <= values.min() < 0.11 and 0.29 < values.max() < 0.3 and abs(values.mean() - 0.2) < 0.002
    out.sum().backward()
    np.testing.assert_array_equal(gl.to_numpy(x.grad), values)
    np.testing.assert_allclose(gl.to_numpy(layer.eval()(x)), -0.2, rtol=1e-6)
    layer.train()
    step = gl.jit(lambda x: layer(x))
    assert not step(x.detach()).equal(step(x.detach()))
    gl.manual_seed(1)
    first = step(x.detach())
    gl.manual_seed(1)
    assert layer(x).detach().equal(first)


# --------------------------------------------------------------------------------------------------- recurrent layers


def test_packed_sequences_are_refused():
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(3, 2), torch.ones(2, 2)])
    with pytest.raises(ValueError, match="RNN does not take a PackedSequence"):
        nn.RNN(2, 3)(packed)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_the_graph_does_not_grow_with_the_sequence(name):
    counts = []
    for length in (3, 50):
        layer = getattr(nn, name)(2, 3, num_layers=2, bidirectional=True)

        @gl.jit
        def step(x, layer=layer):
            out, _ = layer(x)
            loss = (out * out).sum()
            loss.backward()
            return loss

        step(gl.ones(length, 4, 2))
        counts.append(step.node_count)
    assert counts[0] == counts[1]


def test_dropout_between_layers(backend):
    gl.manual_seed(0)
    layer = nn.LSTM(3, 4, num_layers=2, dropout=0.5)
    x = gl.ones(5, 2, 3)
    step = gl.jit(lambda x: layer(x)[0])
    for run in (step, lambda x: layer(x)[0]):
        layer.train()
        assert not run(x).allclose(run(x))
        layer.eval()
        assert run(x).allclose(run(x))
    gl.manual_seed(1)
    layer.train()
    first = layer(x)[0]
    gl.manual_seed(1)
    assert step(x).allclose(first, atol=1e-6)
    layer.dropout = 1.0  # nothing of the first layer is left
    one = nn.LSTM(4, 4)
    one.load_state_dict(dict(zip(one.state_dict(), list(layer.state_dict().values())[4:], strict=True)))
    assert layer(x)[0].allclose(one(gl.zeros(5, 2, 4))[0], atol=1e-6)
    with pytest.warns(UserWarning, match="non-zero dropout expects num_layers greater than 1"):
        nn.GRU(2, 3, dropout=0.1)


def test_an_activation_that_is_replaced_is_compiled_anew():
    layer = nn.TransformerEncoderLayer(4, 2, 8, 0.0).eval()
    x = gl.randn(3, 2, 4)
    step = gl.jit(lambda x: layer(x))
    for activation in (F.relu, F.gelu):
        layer.activation = activation
        assert step(x).allclose(layer(x), atol=1e-6)


def test_attention_drops_weights():
    layer = nn.MultiheadAttention(8, 2, dropout=0.5)
    x = gl.randn(6, 3, 8)
    _, weights = layer(x, x, x, average_attn_weights=False)
    _, whole = layer.eval()(x, x, x, average_attn_weights=False)
    values, whole = gl.to_numpy(weights), gl.to_numpy(whole)
    np.testing.assert_allclose(values, np.where(values == 0, 0, whole * 2), rtol=1e-5)
    assert 0.3 < (values == 0).mean() < 0.7


def test_empty_bags():
    for mode in ("sum", "mean", "max"):
        layer, other = nn.EmbeddingBag(4, 2, mode=mode), torch.nn.EmbeddingBag(4, 2, mode=mode)
        layer.load_state_dict({"weight": other.weight.detach().numpy()})
        for index, offsets in (([1, 3], [0, 0, 2, 2]), ([1, 3], [0, 1])):
            a = layer(gl.tensor(index), gl.tensor(offsets))
            b = other(torch.tensor(index), torch.tensor(offsets))
            np.testing.assert_allclose(gl.to_numpy(a), b.detach().numpy(), rtol=1e-6)
