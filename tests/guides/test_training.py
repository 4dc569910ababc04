"""The guide "Training": the written face. Loops, optimizers, schedulers, gradients, checkpoints, image classification."""

import math
import re

import numpy as np
import pytest

import gradloom as gl
from guides.pages import Session, assert_falls, same_on

PAGE = "training"
SIZES = (6, 8, 3)  # features, hidden units, classes


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model_of(nn):
    """A small network with the parts that the guide speaks of; nn is gradloom's or PyTorch's."""

    class MyModel(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Linear(SIZES[0], SIZES[1]), nn.ReLU())
            self.head = nn.Linear(SIZES[1], SIZES[2])

        def forward(self, x):
            return self.head(self.backbone(x))

    return MyModel


MyModel = model_of(gl.nn)


def arrays(n=48):
    rng = np.random.RandomState(7)
    x = rng.randn(n, SIZES[0]).astype("float32")
    return x, (x @ rng.randn(SIZES[0], SIZES[2])).argmax(1)


def loader(n=48, size=12):
    x, y = arrays(n)
    return [(gl.tensor(x[i : i + size]), gl.tensor(y[i : i + size])) for i in range(0, n, size)]


def train_step(model, batch, optimizer):
    x, y = batch
    optimizer.zero_grad()
    loss = gl.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def train_epoch(model, loader, optimizer):
    return float(np.mean([train_step(model, batch, optimizer) for batch in loader]))


def session(engine, **names):
    """A session with gradloom, a model, an optimizer and data."""
    s = Session(engine, watch=())
    model = MyModel()
    s.names.update(
        gradloom=gl, nn=gl.nn, MyModel=MyModel, model=model, criterion=gl.nn.CrossEntropyLoss(), dataloader=loader(),
        train_loader=loader(), val_loader=loader(24), train_epoch=train_epoch, train_step=train_step,
        optimizer=gl.optim.SGD(model.parameters(), lr=0.1), num_epochs=4,
    )  # fmt: skip
    s.names.update(names)
    return s


def numbers_in(lines):
    """The last number of each printed line."""
    return [float(re.findall(r"-?\d+\.\d+", line)[-1]) for line in lines]


def state(model):
    return {name: gl.to_numpy(t).copy() for name, t in model.state_dict().items()}


def assert_equal(mine, other):
    assert mine.keys() == other.keys()
    for name, value in other.items():
        np.testing.assert_array_equal(mine[name], value, err_msg=name)


# ---------------------------------------------------------------------------------------------------- loop, optimizers


def first_loop(engine):
    s = session(engine).run(PAGE, "Training Loop", fill={"lr=1e-3": "lr=1e-2"})
    assert [line.split(",")[0] for line in s.said] == [f"Epoch {i}" for i in range(4)]
    assert numbers_in(s.said)[-1] == pytest.approx(s["loss"].item(), abs=6e-5)
    return numbers_in(s.said)


def test_the_loop(backend):
    assert_falls(same_on(backend, first_loop, rtol=2e-3))  # four decimals are printed


def steps_like_torch(optimizers, others, count=4):
    """Whether optimizers move gradloom's model as PyTorch's move PyTorch's; each starts from fresh weights."""
    torch = pytest.importorskip("torch")
    for (model, optimizer), (twin, other) in zip(optimizers, others, strict=True):
        twin.load_state_dict({name: torch.tensor(value) for name, value in state(model).items()})
        x, y = arrays()
        for _ in range(count):
            train_step(model, (gl.tensor(x), gl.tensor(y)), optimizer)
            other.zero_grad()
            torch.nn.functional.cross_entropy(twin(torch.tensor(x)), torch.tensor(y)).backward()
            other.step()
        for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
            np.testing.assert_allclose(gl.to_numpy(p), q.detach().numpy(), rtol=1e-3, atol=2e-5, err_msg=name)


class Recorder:
    """Stands for a module with optimizers: notes which are made, each with a model of its own."""

    def __init__(self, module, model_class):
        self.optim, self.made = self, []
        self.module, self.model_class = module, model_class

    def parameters(self):
        model = self.model_class()
        self.made.append([model])
        return model.parameters()

    def __getattr__(self, name):
        def make(params, **options):
            optimizer = getattr(self.module, name)(params, **options)
            self.made[-1].append(optimizer)
            return optimizer

        return make


@pytest.mark.parametrize(("heading", "count"), [("SGD", 4), ("Adam", 1), ("AdamW", 1)])
def test_optimizers(backend, heading, count):
    torch = pytest.importorskip("torch")
    mine, other = Recorder(gl.optim, MyModel), Recorder(torch.optim, model_of(torch.nn))
    for recorder in (mine, other):  # the same lines for both
        session(backend).run(PAGE, heading, gradloom=recorder, model=recorder)
    assert len(mine.made) == len(other.made) == count
    assert all(type(optimizer).__name__ == heading for _, optimizer in mine.made)
    steps_like_torch(mine.made, other.made)


def test_parameter_groups(backend):
    torch = pytest.importorskip("torch")
    s = session(backend).run(PAGE, "Parameter Groups")
    twin = model_of(torch.nn)()
    other = session(backend).run(PAGE, "Parameter Groups", gradloom=torch, model=twin)["optimizer"]
    assert [g["lr"] for g in s["optimizer"].param_groups] == pytest.approx([1e-5, 1e-4], rel=1e-12)
    assert len(s["optimizer"].param_groups[0]["params"]) == 2
    for optimizer in (s["optimizer"], other):  # rates at which a difference would be seen
        for group in optimizer.param_groups:
            group["lr"] *= 100
    steps_like_torch([(s["model"], s["optimizer"])], [(twin, other)])


# ---------------------------------------------------------------------------------------------------------- schedulers


def rates_of(engine, heading, epochs=100, rate=0.1, module=gl, metric=lambda i: 1.0, groups=1, **names):
    """The first group's rates by epoch (before each step) and the last; what its parameter becomes with gradients of 1.

    `module` is gradloom or PyTorch.
    """
    rates = []
    params = [module.ones(2, requires_grad=True) for _ in range(groups)]
    optimizer = module.optim.SGD([{"params": [p]} for p in params], lr=rate)

    def epoch(model, loader, optimizer):
        rates.append([g["lr"] for g in optimizer.param_groups])
        for p in params:
            p.grad = module.ones(2)
        optimizer.step()
        return 0.0

    s = session(engine, gradloom=module, optimizer=optimizer, train_epoch=epoch, train_step=epoch)
    s.names.update(validate=lambda model, loader: metric(len(rates)), **names)
    s.run(PAGE, heading)
    if not rates:  # a block without a loop
        for _ in range(epochs):
            epoch(None, None, optimizer)
            s["scheduler"].step()
    rates.append([g["lr"] for g in optimizer.param_groups])
    return [r[0] for r in rates], params[0].tolist()


def one_cycle(t, total=400, top=0.01):
    low, high, last = top / 25, top, top / 25 / 1e4
    up = 0.3 * total - 1
    a, b, share = (low, high, t / up) if t <= up else (high, last, (t - up) / (total - 1 - up))
    return b + (a - b) / 2 * (1 + math.cos(math.pi * share))


RATES = {
    "StepLR": lambda t: 0.1 * 0.1 ** (t // 10),
    "MultiStepLR": lambda t: 0.1 * 0.1 ** sum(t >= m for m in (30, 60, 90)),
    "ExponentialLR": lambda t: 0.1 * 0.95**t,
    "CosineAnnealingLR": lambda t: 1e-6 + (0.1 - 1e-6) * (1 + math.cos(math.pi * t / 100)) / 2,
    "Chained Schedulers": lambda t: 0.1 * (0.1 + 0.9 * min(t, 5) / 5) * 0.9**t,
}


@pytest.mark.parametrize("heading", RATES)
def test_schedulers(backend, heading):
    rates, values = rates_of(backend, heading)
    assert rates == pytest.approx([RATES[heading](t) for t in range(101)], rel=1e-9)
    assert values == pytest.approx([1 - sum(rates[:100])] * 2, rel=1e-3, abs=1e-4)  # the optimizer used these rates


def metric(i):
    """Falls for 20 epochs, stays, and falls again by too little."""
    return 5.0 - min(i, 20) / 10 - (1e-5 if i > 45 else 0)


def test_a_plateau(backend):
    rates, values = rates_of(backend, "ReduceLROnPlateau", metric=metric)
    # The last improvement is in epoch 20; the eleventh epoch without one reduces the rate.
    expected = [0.1 * 0.1 ** max(0, (t - 20) // 11) for t in range(101)]
    assert rates == pytest.approx(expected, rel=1e-9)
    assert values == pytest.approx([1 - sum(rates[:100])] * 2, rel=1e-3, abs=1e-4)


def test_one_cycle(backend):
    rates, _ = rates_of(backend, "OneCycleLR")
    assert len(rates) == 401
    assert rates[:400] == pytest.approx([one_cycle(t) for t in range(400)], rel=1e-9)
    assert max(rates) == pytest.approx(0.01) and rates.index(max(rates)) == 119


@pytest.mark.parametrize("heading", [*RATES, "ReduceLROnPlateau", "OneCycleLR"])
def test_schedulers_against_pytorch(heading):
    torch = pytest.importorskip("torch")
    rates, values = rates_of("numpy", heading, metric=metric, groups=2)
    expected, others = rates_of("numpy", heading, metric=metric, groups=2, module=torch)
    assert len(rates) == len(expected) and rates == pytest.approx(expected, rel=1e-12)
    assert values == pytest.approx(others, rel=1e-4)  # also of OneCycleLR, which changes the momentum too


# ----------------------------------------------------------------------------------------------------------- gradients


def gradients(model):
    return {name: gl.to_numpy(p.grad).copy() for name, p in model.named_parameters() if p.grad is not None}


def norm_of(gradients):
    return math.sqrt(sum(float((g.astype("float64") ** 2).sum()) for g in gradients.values()))


def with_loss(backend, scale=50.0):
    """A session with gradients of a large loss, and a loss of which `backward` was not called."""
    s = session(backend)
    x, y = s["dataloader"][0]
    (s["criterion"](s["model"](x), y) * scale).backward()
    s.names["loss"] = s["criterion"](s["model"](x), y) * scale
    return s, gradients(s["model"])


def test_clipping(backend):
    s, first = with_loss(backend)
    assert norm_of(first) > 20
    before = state(s["model"])
    s.run(PAGE, "Gradient Clipping")
    found = gradients(s["model"])
    assert norm_of(found) == pytest.approx(1, rel=1e-4)
    for name, g in found.items():  # the second half computes the gradients anew and clips their norm
        np.testing.assert_allclose(g, first[name] / norm_of(first), rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(state(s["model"])[name], before[name] - 0.1 * g, rtol=1e-4, atol=1e-6)


def test_clipping_by_norm_and_by_value(backend):
    """What the first half of the block makes of the gradients."""
    s, first = with_loss(backend)
    seen, optimizer = [], s["optimizer"]

    class Watched:
        step = staticmethod(optimizer.step)

        @staticmethod
        def zero_grad():
            seen.append(gradients(s["model"]))
            optimizer.zero_grad()

    s.run(PAGE, "Gradient Clipping", fill={"max_norm=1.0,": "max_norm=4.0,"}, optimizer=Watched)
    held = 0
    for name, g in first.items():
        scaled = g * 4 / norm_of(first)
        np.testing.assert_allclose(seen[0][name], np.clip(scaled, -0.5, 0.5), rtol=1e-4, atol=1e-6)
        held += (np.abs(scaled) > 0.5).sum()
    assert held


def accumulated(engine):
    s = session(engine)
    twin = MyModel()
    twin.load_state_dict(s["model"].state_dict())
    s.run(PAGE, "Gradient Accumulation")
    x, y = (gl.tensor(a) for a in arrays())
    train_step(twin, (x, y), gl.optim.SGD(twin.parameters(), lr=0.1))
    for name, value in state(twin).items():  # four batches of 12: one batch of 48
        np.testing.assert_allclose(state(s["model"])[name], value, rtol=1e-4, atol=1e-6)
    assert not gradients(s["model"])
    return [s["loss"].item(), *state(s["model"])["head.bias"].tolist()]


def test_accumulation(backend):
    same_on(backend, accumulated, rtol=1e-3)


def test_without_gradients(backend):
    s = session(backend)
    x, y = s["dataloader"][0]
    assert s["model"](x).requires_grad
    s.run(PAGE, "Without Gradients", x=x)
    assert not s["output"].requires_grad and s["output"].grad_fn is None
    predicted = s["predict"](s["model"], x)
    assert not predicted.requires_grad and gl.is_grad_enabled() and not gl.is_inference_mode_enabled()
    np.testing.assert_array_equal(gl.to_numpy(predicted), gl.to_numpy(s["output"]))
    assert s["model"](x).requires_grad  # the head still is trained
    before = state(s["model"])
    train_step(s["model"], (x, y), s["optimizer"])
    after = state(s["model"])
    same = {name: np.array_equal(after[name], before[name]) for name in before}
    assert same == {"backbone.0.weight": True, "backbone.0.bias": True, "head.weight": False, "head.bias": False}


def test_norms_of_gradients(backend):
    s = session(backend)
    x, y = s["dataloader"][0]
    s["model"].backbone.requires_grad_(False)
    s.run(PAGE, "Norms of Gradients", loss=s["criterion"](s["model"](x), y))
    found = gradients(s["model"])
    assert [line.split(":")[0] for line in s.said] == ["head.weight", "head.bias"] == list(found)
    for line, g in zip(s.said, found.values(), strict=True):
        assert re.fullmatch(r"head\.\w+: grad_norm = \d+\.\d{4}", line)
        assert numbers_in([line])[0] == pytest.approx(norm_of({"": g}), abs=1e-4)


# --------------------------------------------------------------------------------------------------------- checkpoints


def trained(model):
    optimizer = gl.optim.Adam(model.parameters(), lr=0.05)
    return optimizer, gl.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)


def epochs(s, model, optimizer, scheduler, count):
    found = []
    for _ in range(count):
        found.append(train_epoch(model, s["dataloader"], optimizer))
        scheduler.step()
    return found


def test_checkpoints(backend, folder):
    """Training that goes on from a checkpoint is training that was not interrupted, bit by bit."""
    s = session(backend).run(PAGE, "Saving a Checkpoint").run(PAGE, "Loading a Checkpoint")
    model = s["model"]
    optimizer, scheduler = trained(model)
    losses = epochs(s, model, optimizer, scheduler, 3)
    assert_falls(losses)
    assert s["save_checkpoint"](model, optimizer, scheduler, 2, losses[-1], "checkpoint.pt") is None
    saved = state(model)
    goes_on = epochs(s, model, optimizer, scheduler, 3)

    gl.manual_seed(99)
    fresh = MyModel()
    optimizer2, scheduler2 = trained(fresh)
    assert not np.array_equal(state(fresh)["head.weight"], saved["head.weight"])
    epoch, loss = s["load_checkpoint"](fresh, optimizer2, scheduler2, "checkpoint.pt")
    assert (epoch, loss) == (2, losses[-1]) and type(epoch) is int and type(loss) is float
    assert_equal(state(fresh), saved)
    assert optimizer2.param_groups[0]["lr"] == pytest.approx(0.025) and scheduler2.last_epoch == 3
    assert epochs(s, fresh, optimizer2, scheduler2, 3) == goes_on
    assert_equal(state(fresh), state(model))
    assert optimizer2.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] == pytest.approx(0.00625)


def test_a_checkpoint_goes_to_another_engine(folder):
    pytest.importorskip("torch")
    s = session("numpy").run(PAGE, "Saving a Checkpoint").run(PAGE, "Loading a Checkpoint")
    optimizer, scheduler = trained(s["model"])
    epochs(s, s["model"], optimizer, scheduler, 2)
    s["save_checkpoint"](s["model"], optimizer, scheduler, 1, 0.5, "checkpoint.pt")
    expected = epochs(s, s["model"], optimizer, scheduler, 3)
    with gl.using_backend("torch"):
        other = session("torch")
        optimizer, scheduler = trained(other["model"])
        s["load_checkpoint"](other["model"], optimizer, scheduler, "checkpoint.pt")
        assert other["model"].head.weight.backend == "torch"
        found = epochs(other, other["model"], optimizer, scheduler, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_best_model(backend, folder):
    """The file holds the weights of the epoch with the smallest loss, not the last ones."""
    seen = []

    def validate(model, loader):
        seen.append(state(model))
        return [3.0, 1.0, 2.0, 1.5][len(seen) - 1]

    s = session(backend, validate=validate)
    scheduler = gl.optim.lr_scheduler.ExponentialLR(s["optimizer"], gamma=0.5)
    s.run(PAGE, "The Best Model", scheduler=scheduler)
    assert len(seen) == 4 and s["best_loss"] == 1.0
    assert s["optimizer"].param_groups[0]["lr"] == pytest.approx(0.1 / 16)
    best = MyModel()
    best.load_state_dict(gl.load("best_model.pth"))
    assert_equal(state(best), seen[1])
    assert not np.array_equal(seen[1]["head.weight"], seen[3]["head.weight"])


# ------------------------------------------------------------------------------------------------ image classification


def images(n, seed):
    """Images whose class is the place of a bright spot in noise."""
    rng = np.random.RandomState(seed)
    y = np.arange(n) % 3
    x = 0.3 * rng.randn(n, 3, 8, 8).astype("float32")
    for i, c in enumerate(y):
        x[i, c] += 1
    return x, y


def image_loader(n, seed, size=6):
    x, y = images(n, seed)
    return [(gl.tensor(x[i : i + size]), gl.tensor(y[i : i + size])) for i in range(0, n, size)]


EPOCHS = 3
SMALL = {"'epochs': 100": f"'epochs': {EPOCHS}", "'batch_size': 128": "'batch_size': 6", "'lr': 0.1": "'lr': 0.02"}


def classify(engine):
    s = Session(engine, watch=("train_loss", "val_loss"))
    return s.run(
        PAGE, "Image Classification", fill=SMALL, train_loader=image_loader(18, 0), val_loader=image_loader(9, 1)
    )


def classified(engine):
    s = classify(engine)
    return s.seen["train_loss"][::4] + s.seen["val_loss"][::4]


def test_image_classification_on_every_engine(backend):
    numbers = same_on(backend, classified, rtol=5e-3)
    assert_falls(numbers[:EPOCHS])


def test_image_classification(backend, folder):
    s = classify(backend)
    assert len(s.said) == 4 * EPOCHS + 1
    for epoch in range(EPOCHS):
        first, train, val, rate = s.said[4 * epoch : 4 * epoch + 4]
        assert first == f"Epoch {epoch + 1}/{EPOCHS}"
        assert re.fullmatch(r"  Train Loss: \d\.\d{4}, Acc: \d+\.\d\d%", train)
        assert re.fullmatch(r"  Val Loss: \d\.\d{4}, Acc: \d+\.\d\d%", val)
        assert rate == f"  LR: {0.02 * (1 + math.cos(math.pi * (epoch + 1) / EPOCHS)) / 2:.6f}"
    accuracies = numbers_in(s.said[2::4])
    assert s.said[-1] == f"Best validation accuracy: {max(accuracies):.2f}%" and s["best_acc"] > 50
    assert numbers_in(s.said[1::4])[-1] > 60
    # Predictions of the saved model give the best accuracy, computed here with NumPy.
    best = s["SimpleCNN"](num_classes=10).eval()
    assert best.load_state_dict(gl.load("best_model.pth")).missing_keys == []
    x, y = images(9, 1)
    predicted = gl.to_numpy(best(gl.tensor(x))).argmax(1)
    assert 100 * (predicted == y).mean() == pytest.approx(s["best_acc"])
    model = s["model"]
    assert model.features[1].num_batches_tracked.item() == 3 * EPOCHS and not model.training
    assert not np.allclose(gl.to_numpy(model.features[1].running_var), 1)


def test_the_gradients_of_the_network():
    """Against PyTorch's, in float64."""
    torch = pytest.importorskip("torch")
    s = classify("numpy")
    model = s["SimpleCNN"]().double()
    with_torch = {"import gradloom.nn as nn": "import torch as gradloom\nimport torch.nn as nn"}
    other = Session("numpy", watch=()).run(
        PAGE, "Image Classification", fill={**with_torch, **SMALL, "epochs': 3": "epochs': 0"}
    )
    twin = other["SimpleCNN"]().double()
    twin.load_state_dict({name: torch.tensor(value) for name, value in state(model).items()})
    x, y = images(6, 3)
    a = s["criterion"](model(gl.tensor(x.astype("float64"))), gl.tensor(y))
    b = torch.nn.functional.cross_entropy(twin(torch.tensor(x.astype("float64"))), torch.tensor(y))
    a.backward(), b.backward()
    assert a.item() == pytest.approx(b.item(), rel=1e-10)
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-6, atol=1e-10, err_msg=name)


# -------------------------------------------------------------------------------------------------------- from PyTorch


def test_from_pytorch(backend):
    """The loop without `.cuda()` is complete; with it, an engine that sees no GPU says so."""
    seen = []
    s = session(backend, loader=loader())
    without = {"model = model.cuda()": "", "x, y = x.cuda(), y.cuda()": "", "...": "seen.append((x.device, model(x)))"}
    s.run(PAGE, "From PyTorch", fill=without, seen=seen)
    assert len(seen) == 8 and all(out.shape == (12, 3) and out.backend == backend for _, out in seen)
    assert {device for device, _ in seen} == {s["model"].head.weight.device}


def test_a_gpu_that_is_not_there():
    with pytest.raises(gl.errors.BackendError, match="numpy has no device 'cuda'"):
        session("numpy", loader=loader()).run(PAGE, "From PyTorch")
