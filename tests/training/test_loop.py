"""The training loop: what it computes, and that a run that was cut goes on as if it had not been."""

import inspect
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import gradloom as gl
from gradloom import nn
from gradloom.models import Linear, Model, Relu, TrainModel
from gradloom.training import TrainingLoop, loops, optimizers
from gradloom.training.callbacks import Callback, EarlyStopping, LambdaCallback
from gradloom.training.data import DataLoader
from gradloom.training.metrics import Accuracy, LossTracker, Precision


def classes(n=44, features=5, count=3, dtype=np.float32):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, features)).astype(dtype)
    return x, np.argmax(x[:, :count] + 0.1 * rng.normal(size=(n, count)), 1)


def cut(x, y, size=16):
    return [(gl.tensor(x[i : i + size]), gl.tensor(y[i : i + size])) for i in range(0, len(x), size)]


class Net(nn.Module):
    """With dropout and batch normalization, so that random streams and buffers count."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(5, 8, bias=False), nn.BatchNorm1d(8)  # the gradient of a bias were noise
        self.drop, self.last = nn.Dropout(0.25), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.drop(self.norm(self.first(x)).tanh()))


def mlp():
    gl.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))


def arrays(model):
    return {n: t.detach().numpy().copy() for n, t in model.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


# ------------------------------------------------------------------------------------------------- what can be trained


def by_hand(batches, epochs, lr=0.05):
    """The same training without a loop: parameters and mean losses."""
    model = mlp()
    optimizer = gl.optim.Adam(model.parameters(), lr=lr)
    means = []
    for _ in range(epochs):
        total = 0.0
        for x, y in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        means.append(total / sum(len(x) for x, _ in batches))
    return arrays(model), means


def test_it_does_what_one_would_write(backend):
    batches = cut(*classes())  # the last one is short
    expected, means = by_hand(batches, 3)
    model = mlp()
    loop = TrainingLoop(model, gl.optim.Adam(model.parameters(), lr=0.05), nn.CrossEntropyLoss())
    history = loop.fit(batches, epochs=3)
    for name, array in arrays(model).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(history["train_loss"], means, rtol=1e-5)
    assert (loop.epoch, loop.step) == (3, 9)
    assert history["lr"] == [0.05] * 3 and history.epochs == [0, 1, 2]
    assert "def training_step(" in loop.source and "# backward" in loop.source


@pytest.mark.parametrize("kind", ["functional", "wrapped", "eager", "own step"])
def test_other_forms_of_the_same(backend, kind):
    batches = cut(*classes())
    expected, _ = by_hand(batches, 2)
    model = mlp()
    options = {}
    optimizer = gl.optim.Adam(model.parameters(), lr=0.05)
    if kind == "functional":
        optimizer = optimizers.Adam(learning_rate=0.05)
    elif kind == "wrapped":
        optimizer = optimizers.Lookahead(optimizers.Adam(learning_rate=0.05), steps=10**6)
    elif kind == "eager":
        options["compile"] = False
    else:
        lines = []

        def step(model, optimizer, loss_fn, inputs, targets):
            lines.append("called")
            optimizer.zero_grad()
            outputs = model(inputs)
            loss = loss_fn(outputs, targets)
            loss.backward()
            optimizer.step()
            return loss, outputs

        options |= {"train_step": step, "compile": False}
    loop = TrainingLoop(model, optimizer, nn.CrossEntropyLoss(), **options)
    loop.fit(batches, epochs=2)
    for name, array in arrays(model).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-5)
    if kind == "own step":
        assert len(lines) == 6


@pytest.mark.parametrize("form", ["model", "compiled"])
def test_composed_models(backend, form):
    model = Model()
    model |= Linear(8)(input="input")
    model += Relu()
    model += Linear(3)(output="output")
    if form == "compiled":
        model = gl.compile(model, backend, shapes={"input": [None, 5]})
    loop = TrainingLoop(model, optimizers.Adam(learning_rate=0.05), lambda o, y: nn.functional.cross_entropy(o["output"], y)
                        if isinstance(o, dict) else nn.functional.cross_entropy(o, y))  # fmt: skip
    history = loop.fit(cut(*classes()), epochs=8)
    assert history["train_loss"][-1] < 0.7 * history["train_loss"][0]
    assert {n.split(".")[0] for n, _ in loop.model.named_parameters()} == {"linear", "linear_1"}


def test_a_train_model_has_its_loss_with_it():
    from gradloom.models import SquaredError

    model = Model()
    model |= Linear(1)(input="x", output="out")
    train = TrainModel(model)
    train.add_loss(SquaredError(), input="out", target="t")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 3)).astype(np.float32)
    y = (x @ [[1.0], [2.0], [3.0]]).astype(np.float32)
    loop = TrainingLoop(train, optimizers.SGD(learning_rate=0.1))
    history = loop.fit([{"x": gl.tensor(x), "t": gl.tensor(y)}], epochs=60)
    assert history["train_loss"][-1] < 1e-2 * history["train_loss"][0]


def test_a_model_that_gives_its_loss():
    class Itself(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(gl.zeros(3))

        def forward(self, x):
            return ((x - self.w) ** 2).mean()

    model = Itself()
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32) + 2
    history = TrainingLoop(model, gl.optim.SGD(model.parameters(), lr=0.5)).fit([gl.tensor(x)], epochs=30)
    np.testing.assert_allclose(model.w.detach().numpy(), x.mean(0), rtol=1e-3)
    assert history["train_loss"][-1] == pytest.approx(((x - x.mean(0)) ** 2).mean(), rel=1e-4)


def test_batches_of_all_kinds():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, left, right):
            return self.a(left) + self.b(right)

    x, y = classes()
    results = []
    for batch in (
        ((x, x * 2), y),
        {"left": x, "right": x * 2, "labels": y},
        SimpleNamespace(inputs={"left": gl.tensor(x), "right": gl.tensor(x * 2)}, targets=gl.tensor(y)),
    ):
        gl.manual_seed(0)
        model = Two()
        loop = TrainingLoop(model, gl.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss(), metrics=[Accuracy])
        results.append(loop.fit([batch], [batch], epochs=3)["val_loss"])
        assert loop.predict([batch]).shape == (44, 3)
    assert results[0] == results[1] == results[2]
    assert results[0][-1] < results[0][0]


# ------------------------------------------------------------------------------------------------- metrics and means


def test_metrics_in_the_step_and_outside_and_means(backend):
    x, y = classes()
    batches = cut(x, y)
    model = mlp()
    metrics = [Accuracy(), Precision(task="multiclass", num_classes=3, average="macro")]
    loop = TrainingLoop(model, gl.optim.SGD(model.parameters(), lr=0.0), nn.CrossEntropyLoss(), metrics=metrics)
    history = loop.fit(batches, batches, epochs=1)
    assert list(loop.train_tracker.inside) == ["accuracy"] and list(loop.train_tracker.outside) == ["precision"]
    logits = model(gl.tensor(x)).detach().numpy().astype(np.float64)
    shifted = logits - logits.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(y)), y]
    guess = logits.argmax(1)
    hits = [(guess[guess == c] == y[guess == c]).mean() if (guess == c).any() else 0.0 for c in range(3)]
    for phase in ("train", "val"):
        assert history[f"{phase}_loss"][0] == pytest.approx(losses.mean(), rel=1e-6)
        assert history[f"{phase}_accuracy"][0] == pytest.approx((guess == y).mean(), rel=1e-12)
        assert history[f"{phase}_precision"][0] == pytest.approx(np.mean(hits), rel=1e-9)


def test_pairs_of_metrics_and_own_ones():
    class Largest:
        name = "largest"

        def reset(self):
            self.value = -np.inf

        def update(self, outputs, targets):
            self.value = max(self.value, outputs.detach().numpy().max())

        def compute(self):
            return self.value

    model = mlp()
    batches = cut(*classes())
    four = [LossTracker(), Accuracy(), LossTracker(), Accuracy()]
    optimizer = gl.optim.SGD(model.parameters(), lr=0.1)
    loop = TrainingLoop(model, optimizer, nn.CrossEntropyLoss(), metrics=four)
    history = loop.fit(batches, batches[:1])
    assert loop.train_tracker.metrics["accuracy"] is four[1] and loop.val_tracker.metrics["accuracy"] is four[3]
    assert set(history) == {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr"}
    loop = TrainingLoop(model, optimizer, nn.CrossEntropyLoss(), metrics=[Largest()])
    assert loop.evaluate(batches)["val_largest"] == pytest.approx(loop.predict(batches).numpy().max())


@pytest.mark.parametrize("weighted", [False, True])
def test_the_mean_is_over_what_counts(backend, weighted):
    torch = pytest.importorskip("torch")
    x, y = classes()
    y = np.where(np.arange(44) % 3 == 0, -100, y)
    y[:16] = -100  # a batch without any target: its loss is 0 / 0
    w = np.array([0.2, 1.0, 3.0], np.float32) if weighted else None
    model = mlp()
    loss = nn.CrossEntropyLoss(weight=None if w is None else gl.tensor(w))
    loop = TrainingLoop(model, gl.optim.SGD(model.parameters(), lr=0.1), loss)
    logits = torch.tensor(model(gl.tensor(x)).detach().numpy())
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(y), None if w is None else torch.tensor(w))
    assert loop.evaluate(cut(x, y))["val_loss"] == pytest.approx(expected.item(), rel=1e-5)


# ------------------------------------------------------------------------------------------------- accumulation, clipping


@pytest.mark.parametrize("loss", ["mean", "ignored", "weighted", "mse"])
@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.1}, {"clip_value": 0.01}])
@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_micro_batches_equal_the_big_batch(engine, loss, clip):
    with gl.using_backend(engine):
        x, y = classes(44, dtype=np.float64)
        if loss == "ignored":
            y = np.where(np.arange(44) % 4 == 1, -100, y)
        if loss == "mse":
            y = np.eye(3)[y]
        weight = gl.tensor(np.array([0.2, 1.0, 3.0])) if loss == "weighted" else None
        loss_fn = nn.MSELoss() if loss == "mse" else nn.CrossEntropyLoss(weight=weight)

        def train(size, **options):
            model = mlp().to(dtype=gl.float64)
            optimizer = gl.optim.Adam(model.parameters(), lr=0.05)
            loop = TrainingLoop(model, optimizer, loss_fn, **clip, **options)
            history = loop.fit(cut(x, y, size), epochs=3)
            return arrays(model), history["train_loss"], loop.step

        # 16, 16, 12 against micro-batches of 4: the last update has 3 of them, of which all count by their weight.
        whole, means, steps = train(16)
        parts, other, other_steps = train(4, accumulate=4)
        assert steps == other_steps == 9
        for name in whole:
            np.testing.assert_allclose(parts[name], whole[name], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(other, means, rtol=1e-10)


def test_clipping_is_that_of_the_utilities():
    torch = pytest.importorskip("torch")
    x, y = classes()
    for option, value, clip in (
        ("clip_norm", 0.05, torch.nn.utils.clip_grad_norm_),
        ("clip_value", 0.01, torch.nn.utils.clip_grad_value_),
    ):
        model = mlp()
        other = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
        other.load_state_dict({n: torch.tensor(a) for n, a in arrays(model).items()})
        TrainingLoop(model, gl.optim.SGD(model.parameters(), lr=1.0), nn.CrossEntropyLoss(), **{option: value}).fit(
            [(gl.tensor(x), gl.tensor(y))]
        )
        torch.nn.functional.cross_entropy(other(torch.tensor(x)), torch.tensor(y)).backward()
        clip(other.parameters(), value)
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            np.testing.assert_allclose(p.detach().numpy(), (q - q.grad).detach().numpy(), rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------------------------- how long, how often


class Events(Callback):
    def __init__(self):
        self.seen = []

    def on_epoch_begin(self, epoch):
        self.seen.append(f"epoch {epoch}")

    def on_step_end(self, step, logs):
        self.seen.append(step)

    def on_validation_end(self, step, logs):
        self.seen.append("val")

    def on_epoch_end(self, epoch, logs):
        self.seen.append("end")


def events(n=64, accumulate=1, **options):
    seen = Events()
    model = mlp()
    optimizer = gl.optim.SGD(model.parameters(), lr=0.1)
    loop = TrainingLoop(model, optimizer, nn.CrossEntropyLoss(), callbacks=[seen], accumulate=accumulate)
    batches = cut(*classes(n))
    loop.fit(batches, batches, **options)
    return seen.seen, loop


def test_epochs_steps_and_limits():
    assert events()[0] == ["epoch 0", 0, 1, 2, 3, "val", "end"]
    assert events(epochs=2, limit=1)[0] == ["epoch 0", 0, "val", "end", "epoch 1", 1, "val", "end"]
    seen, loop = events(steps=6)
    assert seen == ["epoch 0", 0, 1, 2, 3, "val", "end", "epoch 1", 4, 5, "val", "end"]
    assert (loop.step, loop.epoch) == (6, 2)
    assert events(epochs=1, steps=100)[1].step == 4
    assert events(epochs=0)[0] == []
    assert events(epochs=3, validate_every=2)[0].count("val") == 1
    assert events(validate_every_steps=3)[0] == ["epoch 0", 0, 1, 2, "val", 3, "val", "end"]
    assert events(n=48, accumulate=2)[0] == ["epoch 0", -1, 0, 0, 1, "val", "end"]


def test_epochs_count_from_the_start():
    _, loop = events(epochs=2)
    batches = cut(*classes())
    assert len(loop.fit(batches, epochs=5).epochs) == 5
    assert len(loop.fit(batches, epochs=5).epochs) == 5  # nothing left to do
    assert len(loop.fit(batches).epochs) == 6
    assert loop.history["val_loss"][2:] == [None] * 4


def test_sanity_shows_shapes_and_changes_nothing(capsys):
    model = mlp()
    before = arrays(model)
    loop = TrainingLoop(model, gl.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss())
    batches = cut(*classes())
    loop.fit(batches, batches, epochs=0, sanity=True)
    text = capsys.readouterr().out
    assert text.startswith(
        "train: inputs [16, 5] float32, targets [16] int64, outputs [16, 3] float32, loss [] float32 = "
    )
    assert "val: inputs [16, 5]" in text
    assert_same(before, arrays(model))


def test_stop_ends_after_the_step_and_writes_the_epoch():
    model = mlp()
    loop = TrainingLoop(model, gl.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss())
    loop.add_callback(LambdaCallback(on_step_end=lambda step, logs: loop.stop("enough") if step == 4 else None))
    history = loop.fit(cut(*classes()), epochs=9)
    assert loop.step == 5 and len(history.epochs) == 2 and loop.callbacks.stop_reason == "enough"


def test_schedulers():
    for make, epochs, expected in (
        (lambda o: gl.optim.lr_scheduler.StepLR(o, 2, 0.1), 4, [1.0, 1.0, 0.1, 0.1]),
        (lambda o: gl.optim.lr_scheduler.ReduceLROnPlateau(o, patience=1, factor=0.5), 5, [1.0, 1.0, 1.0, 0.5, 0.5]),
    ):
        model = nn.Linear(5, 3)
        for p in model.parameters():
            p.requires_grad_(False)
        w = nn.Parameter(gl.zeros(1))
        optimizer = gl.optim.SGD([w], lr=1.0)
        loop = TrainingLoop(
            model,
            optimizer,
            lambda o, y, w=w: nn.functional.cross_entropy(o, y) + 0 * w.sum(),
            scheduler=make(optimizer),
        )
        batches = cut(*classes())
        assert loop.fit(batches, batches, epochs=epochs)["lr"] == pytest.approx(expected)


def test_modes_are_restored():
    gl.manual_seed(0)
    model = Net()
    model.norm.eval()  # frozen statistics
    loop = TrainingLoop(model, gl.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss())
    batches = cut(*classes())
    first = loop.evaluate(batches)
    assert first == loop.evaluate(batches)  # no dropout
    assert model.training and model.drop.training and not model.norm.training
    np.testing.assert_array_equal(loop.predict(batches).numpy(), loop.predict(batches).numpy())
    loop.fit(batches, batches, epochs=2)
    assert model.training and not model.norm.training
    assert model.norm.num_batches_tracked.item() == 0
    model.eval()
    loop.predict(batches)
    assert not model.training and not model.drop.training
    loop.fit(batches)
    assert model.training and model.norm.num_batches_tracked.item() == 3
    with pytest.raises(gl.GradloomError):
        loop.evaluate([batches[0], (gl.ones(2, 4), batches[0][1])])
    assert model.training


def test_predict_gives_all_outputs_in_one():
    model = mlp()
    loop = TrainingLoop(model, gl.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss())
    x, y = classes()
    np.testing.assert_allclose(
        loop.predict(cut(x, y)).numpy(), model(gl.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6
    )
    assert loop.predict(cut(x, y), limit=2).shape == (32, 3)
    assert not loop.predict([gl.tensor(x)]).requires_grad


def test_the_constructor_is_short_and_the_guides_names_are_there():
    parameters = list(inspect.signature(TrainingLoop.__init__).parameters)[1:]
    assert len(parameters) <= 12, parameters
    assert loops.BasicTrainingLoop is loops.ValidationTrainingLoop is TrainingLoop
    assert not hasattr(loops, "DistributedTrainingLoop")  # there is none yet


def test_no_step_waits_for_the_engine(monkeypatch):
    model = mlp()
    optimizer = gl.optim.Adam(model.parameters(), lr=0.1)
    seen = Events()
    loop = TrainingLoop(
        model, optimizer, nn.CrossEntropyLoss(), metrics=[Accuracy()], callbacks=[seen, EarlyStopping()]
    )
    batches = cut(*classes(160))
    loop.fit(batches, batches)
    reads = []
    for name in ("numpy", "item", "__float__", "__bool__", "__array__", "tolist"):
        old = getattr(gl.Tensor, name)
        monkeypatch.setattr(
            gl.Tensor, name, lambda self, *a, _old=old, **k: (reads.append(len(seen.seen)), _old(self, *a, **k))[1]
        )
    loop.fit(batches, batches)
    # Reading is for ends of epochs: the events that are written down by then are the last step or the validation.
    ends = {i + 1 for i, event in enumerate(seen.seen) if event in (19, "val")} | {len(seen.seen) - 1}
    assert reads and set(reads) <= ends, seen.seen


# ------------------------------------------------------------------------------------------------- going on


def run(callbacks=(), engine=None, seed=0, **options):
    gl.manual_seed(seed)
    model = Net()
    optimizer = gl.optim.AdamW(model.parameters(), lr=0.02)
    scheduler = gl.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    loop = TrainingLoop(
        model, optimizer, nn.CrossEntropyLoss(), scheduler=scheduler, callbacks=callbacks,
        metrics=[Accuracy(), Precision(task="multiclass", num_classes=3)], **options,
    )  # fmt: skip
    data = DataLoader(classes(), batch_size=8, shuffle=True, seed=3)  # 6 batches, the last of 4
    return loop, data, cut(*classes())


def finished(loop):
    return arrays(loop.model), {n: list(v) for n, v in loop.history.items()}, loop.step


@pytest.mark.parametrize("options", [{}, {"accumulate": 4}], ids=["plain", "accumulated"])
def test_a_run_in_two_parts_is_the_whole_run(backend, tmp_path, options):
    loop, train, val = run(**options)
    loop.fit(train, val, epochs=6)
    weights, history, steps = finished(loop)
    first, train, val = run(**options)
    first.fit(train, val, epochs=3)
    gl.save(first.state_dict(), tmp_path / "run.safetensors")
    second, train, val = run(seed=99, **options)
    second.load_state_dict(gl.load(tmp_path / "run.safetensors"))
    second.fit(train, val, epochs=6)
    found, logs, count = finished(second)
    assert_same(weights, found)
    assert logs == history and count == steps


class Cut(Callback):
    """Saves the state after a batch, and raises."""

    def __init__(self, at, file):
        self.at, self.file, self.count = at, file, 0

    def on_step_end(self, step, logs):
        self.count += 1
        if self.count == self.at:
            gl.save(self.loop.state_dict(), self.file)
            raise RuntimeError("cut")


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("at", [1, 3, 6, 9, 12])  # 6 batches an epoch
@pytest.mark.parametrize("fresh", [True, False], ids=["loaded", "same loop"])
def test_a_run_that_is_cut_in_mid_epoch_goes_on(tmp_path, at, accumulate, fresh):
    loop, train, val = run(accumulate=accumulate)
    loop.fit(train, val, epochs=4)
    weights, history, steps = finished(loop)
    cutter = Cut(at, tmp_path / "cut.safetensors")
    second, train, val = run([cutter], accumulate=accumulate)
    with pytest.raises(gl.training.callbacks.CallbackError, match="cut"):
        second.fit(train, val, epochs=4)
    if fresh:
        second, train, val = run(accumulate=accumulate, seed=7)
        second.load_state_dict(gl.load(tmp_path / "cut.safetensors"))
    elif accumulate > 1 or at % 6 == 0:
        pytest.skip("the step that was cut had not been counted")
    second.fit(train, val, epochs=4)
    found, logs, count = finished(second)
    assert_same(weights, found)
    assert logs == history and count == steps


def test_composed_models_go_on_too(tmp_path):
    def make():
        model = Model()
        model |= Linear(8)(input="input")
        model += Relu()
        model += Linear(3)(output="output")
        return TrainingLoop(model, optimizers.Adam(learning_rate=0.05), nn.CrossEntropyLoss())

    gl.manual_seed(0)
    whole = make()
    batches = cut(*classes())
    whole.fit(batches, epochs=4)
    gl.manual_seed(0)
    first = make()
    first.fit(batches, epochs=2)
    gl.save(first.state_dict(), tmp_path / "a.safetensors")
    gl.manual_seed(5)
    second = make()
    second.load_state_dict(gl.load(tmp_path / "a.safetensors"))
    second.fit(batches, epochs=4)
    assert_same(arrays(whole.model), arrays(second.model))
    assert second.history["train_loss"] == whole.history["train_loss"]


def test_a_run_goes_on_on_another_engine(backend, tmp_path):
    with gl.using_backend("numpy"):
        whole, train, val = run()
        whole.fit(train, val, epochs=4)
        first, train, val = run()
        first.fit(train, val, epochs=2)
        gl.save(first.state_dict(), tmp_path / "a.safetensors")
    second, train, val = run(seed=3)
    second.load_state_dict(gl.load(tmp_path / "a.safetensors"))
    second.fit(train, val, epochs=4)
    np.testing.assert_allclose(second.history["val_loss"], whole.history["val_loss"], rtol=1e-3)
    for name, array in arrays(second.model).items():
        np.testing.assert_allclose(array, whole.model.state_dict()[name].detach().numpy(), rtol=1e-2, atol=1e-3)


PROGRAM = """
import sys
from pathlib import Path
import gradloom as gl
from gradloom.training.callbacks import LambdaCallback, ModelCheckpoint
sys.path.insert(0, sys.argv[1])
import test_loop

folder = Path(sys.argv[2])
loop, train, val = test_loop.run([ModelCheckpoint(folder / "last.safetensors", monitor=None, every_steps=1)])
if (folder / "last.safetensors").exists():
    loop.load_state_dict(gl.load(folder / "last.safetensors"))
loop.add_callback(LambdaCallback(on_step_end=lambda step, logs: print(step, flush=True)))
loop.fit(train, val, epochs=8)
gl.save({"model": loop.model.state_dict(), "loss": loop.history["train_loss"]}, folder / "end.safetensors")
"""


def start(folder):
    (folder / "program.py").write_text(PROGRAM)
    path = os.pathsep.join([str(Path(gl.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, folder / "program.py", str(Path(__file__).parent), str(folder)],
        env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    assert start(whole).wait(60) == 0
    other = tmp_path / "killed"
    other.mkdir()
    rng = np.random.default_rng(1)
    for _ in range(3):
        process = start(other)
        for _ in range(rng.integers(4, 12)):
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.004))
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
    assert not (other / "end.safetensors").exists()
    process = start(other)
    first = int(process.stdout.readline())
    assert process.wait(60) == 0 and first >= 9
    a, b = gl.load(whole / "end.safetensors"), gl.load(other / "end.safetensors")
    assert_same({n: t.numpy() for n, t in a["model"].items()}, {n: t.numpy() for n, t in b["model"].items()})
    assert a["loss"] == b["loss"]
