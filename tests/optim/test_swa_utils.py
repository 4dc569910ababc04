"""Averaged models and `update_bn`, against torch.optim.swa_utils."""

import copy
import inspect

import numpy as np
import pytest

import gradloom as gl
from gradloom import nn
from gradloom.errors import ShapeError, TraceError
from gradloom.optim import swa_utils
from gradloom.optim.swa_utils import AveragedModel, update_bn

FUNCTIONS = {
    "default": lambda module: {},
    "multi_swa": lambda module: {"multi_avg_fn": module.get_swa_multi_avg_fn()},
    "swa": lambda module: {"avg_fn": module.get_swa_avg_fn()},
    "multi_ema": lambda module: {"multi_avg_fn": module.get_ema_multi_avg_fn(0.9)},
    "ema": lambda module: {"avg_fn": module.get_ema_avg_fn(0.9)},
    "ema_0": lambda module: {"multi_avg_fn": module.get_ema_multi_avg_fn(0.0)},
    "own": lambda module: {"avg_fn": lambda a, c, n: a + (c - a) / (n + 2)},
}


def net(module=nn):
    return module.Sequential(module.Linear(3, 4), module.BatchNorm1d(4), module.Linear(4, 2))


@pytest.fixture
def twins():
    """The same network here and in PyTorch, float64."""
    torch = pytest.importorskip("torch")
    mine, other = net().double(), net(torch.nn).double()
    other.load_state_dict({k: torch.tensor(v.numpy()) for k, v in mine.state_dict().items()})
    return mine, other


def compare(mine, other, rtol=1e-12):
    mine, other = mine.state_dict(), other.state_dict()
    assert list(mine) == list(other)
    for key, value in other.items():
        assert str(value.dtype).split(".")[1] == mine[key].dtype.name, key
        np.testing.assert_allclose(gl.to_numpy(mine[key]), value.numpy(), rtol=rtol, atol=1e-14, err_msg=key)


def change(mine, other, i):
    """Other parameters and statistics, the same in both."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(i)
    with gl.no_grad(), torch.no_grad():
        for a, b in zip(mine.parameters(), other.parameters(), strict=True):
            value = rng.normal(size=tuple(a.shape))
            a.copy_(gl.tensor(value)), b.copy_(torch.tensor(value))
    x = rng.normal(size=(5, 3))
    mine(gl.tensor(x)), other(torch.tensor(x))


@pytest.mark.parametrize("name", swa_utils.__all__)
def test_signature(name):
    torch = pytest.importorskip("torch")

    def plain(fn):
        return [(p.name, p.default) for p in inspect.signature(fn).parameters.values()]

    other = getattr(torch.optim.swa_utils, name)
    assert plain(getattr(swa_utils, name)) == plain(other)
    if name == "AveragedModel":
        assert plain(AveragedModel.update_parameters) == plain(other.update_parameters)


def test_all_names():
    torch = pytest.importorskip("torch")
    assert set(swa_utils.__all__) == set(torch.optim.swa_utils.__all__)


@pytest.mark.parametrize(
    ("name", "use_buffers"),
    # PyTorch's function of lists raises for integers.
    [(name, use) for name in FUNCTIONS for use in (False, True) if (name, use) != ("multi_swa", True)],
)
def test_averages_against_torch(twins, name, use_buffers):
    torch = pytest.importorskip("torch")
    mine, other = twins
    a = AveragedModel(mine, use_buffers=use_buffers, **FUNCTIONS[name](swa_utils))
    b = torch.optim.swa_utils.AveragedModel(other, use_buffers=use_buffers, **FUNCTIONS[name](torch.optim.swa_utils))
    compare(a, b)
    for i in range(5):
        change(mine, other, i)
        a.update_parameters(mine), b.update_parameters(other)
        compare(a, b)
    assert a.n_averaged.item() == 5
    x = np.linspace(-1, 1, 12).reshape(4, 3)
    y, z = a.eval()(gl.tensor(x)), b.eval()(torch.tensor(x))
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-12)
    if name == "ema_0":
        for p, q in zip(a.module.parameters(), mine.parameters(), strict=True):
            assert p.equal(q)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("get_swa_multi_avg_fn", "float64"), ("get_swa_multi_avg_fn", "float32"), ("get_ema_multi_avg_fn", "float64"),
        ("get_ema_multi_avg_fn", "float32"), ("get_ema_multi_avg_fn", "int64"),
    ],
)  # fmt: skip
def test_functions_of_lists_against_torch(name, kind):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    a, c = ([(rng.normal(size=s) * 9).astype(kind) for s in ((3, 2), (4,), ())] for _ in range(2))
    for count in (1, 7):
        mine, other = [gl.tensor(x) for x in a], [torch.tensor(x) for x in a]
        assert getattr(swa_utils, name)()(mine, [gl.tensor(x) for x in c], gl.tensor(count)) is None
        getattr(torch.optim.swa_utils, name)()(other, [torch.tensor(x) for x in c], torch.tensor(count))
        for x, y in zip(mine, other, strict=True):
            np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-6 if kind == "float32" else 1e-12)


def test_the_function_of_lists_of_integers():
    """PyTorch's raises; this one is as the function of one Tensor."""
    average, current = gl.tensor([5, -5, 1, -7]), gl.tensor([-4, 3, 10, -5])
    expected = swa_utils.get_swa_avg_fn()(average, current, 2)
    swa_utils.get_swa_multi_avg_fn()([average], [current], 2)
    assert expected.tolist() == [2, pytest.approx(-7 / 3), 4, pytest.approx(-19 / 3)]
    assert average.tolist() == [2, -2, 4, -6]


@pytest.mark.parametrize("decay", [-0.1, 1.1])
def test_a_decay_out_of_range(decay):
    for make in (swa_utils.get_ema_avg_fn, swa_utils.get_ema_multi_avg_fn):
        with pytest.raises(ValueError, match=f"Invalid decay value {decay} provided. Please provide a value in"):
            make(decay)


def test_two_functions_are_refused():
    with pytest.raises(AssertionError, match="Only one of avg_fn and multi_avg_fn should be provided"):
        AveragedModel(net(), avg_fn=swa_utils.get_swa_avg_fn(), multi_avg_fn=swa_utils.get_swa_multi_avg_fn())


def test_another_model_is_refused():
    average = AveragedModel(nn.Linear(2, 3))
    before = [p.clone() for p in average.parameters()]
    for other in (nn.Linear(2, 3, bias=False), nn.Linear(3, 2)):
        with pytest.raises(ShapeError, match=r"has other parameters than the one that is averaged\n  expected: \{'we"):
            average.update_parameters(other)
    assert all(p.equal(q) for p, q in zip(average.parameters(), before, strict=True))
    assert average.n_averaged.item() == 0
    with pytest.raises(ShapeError, match="has other buffers"):
        AveragedModel(nn.Sequential(nn.BatchNorm1d(2))).update_parameters(
            nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False))
        )


def test_the_state_of_pytorch_is_loaded(twins):
    torch = pytest.importorskip("torch")
    mine, other = twins
    theirs = torch.optim.swa_utils.AveragedModel(other)
    for i in range(3):
        change(mine, other, i)
        theirs.update_parameters(other)
    average = AveragedModel(net().double())
    assert str(average.load_state_dict(theirs.state_dict())) == "<All keys matched successfully>"
    change(mine, other, 9)
    average.update_parameters(mine), theirs.update_parameters(other)
    compare(average, theirs)


def test_on_every_engine(backend, tmp_path):
    """Updates go on after a save and a load; the model's later changes do not reach the average."""
    model = net()
    average = AveragedModel(model)
    seen = []
    with gl.no_grad():
        for i in range(3):
            for p in model.parameters():
                p.fill_(float(i * i))
            average.update_parameters(model)
            seen.append(average.module[0].bias.tolist()[0])
        assert seen == pytest.approx([0, 0.5, 5 / 3], rel=1e-6)
        assert all(t.backend == backend for t in (*average.parameters(), *average.buffers()))
        gl.save(average.state_dict(), tmp_path / "average.pt")
        again = AveragedModel(net())
        again.load_state_dict(gl.load(tmp_path / "average.pt"))
        for p in model.parameters():
            p.fill_(9.0)
        for a in (average, again):
            a.update_parameters(model)
            assert a.n_averaged.item() == 4
            np.testing.assert_allclose(gl.to_numpy(a.module[2].weight), 14 / 4, rtol=1e-6)
        assert model[0].bias.tolist() == [9.0] * 4
    assert all(p.requires_grad and p.is_leaf and isinstance(p, nn.Parameter) for p in average.parameters())


def training(kind):
    """A model, its average, and a step that trains and averages."""
    gl.manual_seed(0)
    model = net()
    average = AveragedModel(model, use_buffers=kind == "multi_ema", **FUNCTIONS[kind](swa_utils))
    optimizer = gl.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)

    def step(x):
        optimizer.zero_grad()
        (model(x) ** 2).mean().backward()
        optimizer.step()
        average.update_parameters(model)

    return model, average, step


@pytest.mark.parametrize("kind", ["default", "ema", "multi_ema"])
def test_compiled(backend, kind):
    x = gl.tensor(np.random.default_rng(0).normal(size=(6, 3)).astype("float32"))
    (_, eager, step), (model, average, other) = training(kind), training(kind)
    compiled = gl.jit(other)
    for i in range(5):
        step(x)
        (other if i == 2 else compiled)(x)  # by turns eagerly and compiled
        for (name, a), b in zip(eager.state_dict().items(), average.state_dict().values(), strict=True):
            np.testing.assert_allclose(gl.to_numpy(b), gl.to_numpy(a), rtol=2e-5, atol=1e-6, err_msg=name)
    assert average.n_averaged.item() == 5
    assert not average.module[0].weight.equal(model[0].weight)
    held = average.module[0].weight.tolist()
    with gl.no_grad():
        model[0].weight.zero_()
    assert average.module[0].weight.tolist() == held


def test_a_function_that_looks_at_the_number_cannot_be_compiled():
    model = nn.Linear(2, 1)
    average = AveragedModel(model, avg_fn=lambda a, c, n: c if n < 5 else a)
    average.update_parameters(model), average.update_parameters(model)
    with pytest.raises(TraceError):
        gl.jit(lambda: average.update_parameters(model))()
    assert average.n_averaged.item() == 2


def test_shared_parameters(backend):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    model = Tied()
    average = AveragedModel(model)
    assert average.module.a.weight is average.module.b.weight is not model.a.weight
    with gl.no_grad():
        for value in (1.0, 3.0):
            model.a.weight.fill_(value)
            average.update_parameters(model)
    assert average.module.b.weight.tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert len(list(average.parameters())) == 3


def test_a_model_on_another_engine():
    pytest.importorskip("torch")
    model = nn.Linear(2, 1).to(backend="torch")
    average = AveragedModel(nn.Linear(2, 1))
    average.update_parameters(model)
    assert average.module.weight.backend == "numpy" and average.module.weight.tolist() == model.weight.tolist()
    average = AveragedModel(model, device="cpu")
    assert average.n_averaged.backend == average.module.weight.backend == "torch"
    average.update_parameters(model), average.update_parameters(model)
    np.testing.assert_allclose(gl.to_numpy(average.module.weight), gl.to_numpy(model.weight), rtol=1e-6)


def test_of_several_dtypes():
    """A function of lists gets one list for each dtype."""
    model = nn.ParameterList([nn.Parameter(gl.ones(2, dtype=d)) for d in ("float32", "float64", "float32")])
    seen = []
    average = AveragedModel(model, multi_avg_fn=lambda a, c, n: seen.append([t.dtype.name for t in a]))
    average.update_parameters(model), average.update_parameters(model)
    assert seen == [["float32", "float32"], ["float64"]]


def test_an_average_is_copied_and_trained():
    """A copy is independent; gradients and updates reach it as any module."""
    model = net()
    average = AveragedModel(model)
    average.update_parameters(model)
    other = copy.deepcopy(average)
    optimizer = gl.optim.SGD(other.parameters(), lr=0.1)
    (other(gl.ones(4, 3)) ** 2).sum().backward()
    optimizer.step()
    assert not other.module[2].bias.equal(average.module[2].bias)
    assert all(p.grad is None for p in (*average.parameters(), *model.parameters()))
    other.update_parameters(model)
    assert other.n_averaged.item() == 2 and average.n_averaged.item() == 1


# ----------------------------------------------------------------------------------------------------------- update_bn


def batches(count=4):
    rng = np.random.default_rng(1)
    return [rng.normal(2, 3, size=(5 if i else 7, 3)) for i in range(count)]


@pytest.mark.parametrize("form", ["tensors", "tuples", "arrays", "lists of arrays"])
def test_update_bn_against_torch(twins, form):
    torch = pytest.importorskip("torch")
    mine, other = twins
    for model in twins:
        model[1].momentum = 0.3
        model.eval()
    loaders = {
        "tensors": [gl.tensor(x) for x in batches()],
        "tuples": [(gl.tensor(x), gl.zeros(len(x))) for x in batches()],
        "arrays": batches(),
        "lists of arrays": [[x, np.zeros(len(x))] for x in batches()],
    }
    assert update_bn(loaders[form], mine) is None
    torch.optim.swa_utils.update_bn([torch.tensor(x) for x in batches()], other)
    compare(mine, other)
    assert mine[1].num_batches_tracked.item() == 4 and mine[1].momentum == 0.3
    assert not any(m.training for m in mine.modules())


def test_update_bn_on_every_engine(backend):
    model = AveragedModel(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)))
    update_bn(batches(), model)  # float64 arrays for float32 layers
    x = np.concatenate(batches(1))
    np.testing.assert_allclose(
        gl.to_numpy(model.module[0].running_mean), np.mean([b.mean(0) for b in batches()], 0), rtol=1e-5
    )
    assert model.training and model.module[0].momentum == 0.1
    update_bn((gl.tensor(x.astype("float32")),), model, device=None)
    np.testing.assert_allclose(gl.to_numpy(model.module[0].running_var), x.var(0, ddof=1), rtol=1e-5)
    assert all(p.grad is None for p in model.parameters())


def test_update_bn_moves_batches_to_a_device():
    model = nn.Sequential(nn.BatchNorm1d(3))
    update_bn([gl.tensor(batches()[0], dtype="float32")], model, device="cpu")
    assert model[0].num_batches_tracked.item() == 1
    with pytest.raises(gl.errors.BackendError):
        update_bn(batches(), model, device="cuda")


def test_update_bn_of_embedded_words():
    """Integers stay integers."""
    model = nn.Sequential(nn.Embedding(5, 3), nn.BatchNorm1d(3))
    update_bn([np.array([0, 1, 2]), np.array([3, 4, 4])], model)
    table = gl.to_numpy(model[0].weight)
    np.testing.assert_allclose(
        gl.to_numpy(model[1].running_mean), (table[:3].mean(0) + table[[3, 4, 4]].mean(0)) / 2, rtol=1e-5, atol=1e-7
    )


def test_update_bn_restores_when_the_loader_raises():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3, momentum=None))
    model[1].eval()

    def loader():
        yield batches()[0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        update_bn(loader(), model)
    assert [m.momentum for m in model] == [0.1, None]
    assert [m.training for m in model.modules()] == [True, True, False]


def test_update_bn_without_batch_normalization():
    class NoForward(nn.Module):
        pass

    update_bn([1, 2], NoForward())


def test_update_bn_cannot_be_compiled():
    model = nn.Sequential(nn.BatchNorm1d(3))
    with pytest.raises(TraceError, match="momentum"):
        gl.jit(lambda x: update_bn([x], model))(gl.ones(4, 3))
    assert model[0].momentum == 0.1
