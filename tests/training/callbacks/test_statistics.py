"""Statistics of gradients and activations, and the profiler."""

import io
import time

import numpy as np
import pytest
import torch

import gradloom as gl
from gradloom.errors import OptionError
from gradloom.training.callbacks import (
    ActivationStatistics,
    CallbackError,
    CallbackList,
    GradientStatistics,
    LambdaCallback,
    Profiler,
)
from training.callbacks.helpers import Net, loader, make, problem, same, weights


def torch_net(model):
    """The net without dropout and batch normalization, in PyTorch."""
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    net.load_state_dict({n: torch.tensor(t.detach().numpy()) for n, t in model.state_dict().items()})
    return net


def plain_net():
    return gl.nn.Sequential(gl.nn.Linear(3, 4), gl.nn.ReLU(), gl.nn.Linear(4, 1))


def test_gradient_norms_are_pytorchs(backend):
    model = plain_net()
    x, y = problem()
    found = GradientStatistics().measure(model, gl.nn.MSELoss(), gl.tensor(x), gl.tensor(y))
    net = torch_net(model)
    torch.nn.functional.mse_loss(net(torch.tensor(x)), torch.tensor(y)).backward()
    for n, p in net.named_parameters():
        assert found[f"grad_norm/{n}"] == pytest.approx(p.grad.norm().item(), rel=1e-4)
        assert found[f"param_norm/{n}"] == pytest.approx(p.norm().item(), rel=1e-5)
    total = torch.nn.utils.get_total_norm([p.grad for p in net.parameters()]).item()
    assert found["grad_norm"] == pytest.approx(total, rel=1e-4)


def test_activations_are_numpys():
    model = plain_net()
    x, _ = problem()
    found = ActivationStatistics(modules=["1", "2"]).measure(model, None, gl.tensor(x), None)
    net = torch_net(model)
    with torch.no_grad():
        hidden = torch.relu(net[0](torch.tensor(x))).numpy()
        out = net(torch.tensor(x)).numpy()
    for name, value in (("1", hidden), ("2", out)):
        assert found[f"mean/{name}"] == pytest.approx(value.mean(), rel=1e-4, abs=1e-6)
        assert found[f"std/{name}"] == pytest.approx(value.std(), rel=1e-4)
        assert found[f"zeros/{name}"] == (value == 0).mean()
    assert len(found) == 6


@pytest.mark.parametrize("kind", [GradientStatistics, ActivationStatistics])
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"compile": False}])
def test_a_run_is_not_changed(kind, options, backend):
    plain = make(**options)
    plain.fit(loader(), epochs=3)
    callback = kind(every=2)
    watched = make([callback], **options)
    watched.fit(loader(), epochs=3)
    assert same(weights(plain), weights(watched))
    assert callback.steps == list(range(0, watched.step, 2))
    assert all(len(v) == len(callback.steps) for v in callback.history.values())
    if kind is ActivationStatistics:
        assert {n.partition("/")[2] for n in callback.history} == {"a", "norm", "drop", "b"}


def test_the_compiled_step_is_not_made_again():
    loop = make([ActivationStatistics(every=2), GradientStatistics(every=2)])
    loop.fit(loader(), epochs=1)
    compiles = loop._train.last.compiles
    loop.fit(loader(), epochs=4)
    assert loop._train.last.compiles == compiles


def test_errors():
    with pytest.raises(CallbackError, match=r"has no module 'c'\n +expected: a, norm, drop, b"):
        make([ActivationStatistics(modules="c")]).fit(loader(), epochs=1)
    with pytest.raises(CallbackError, match="runs the loop's batches again"):
        CallbackList([GradientStatistics()], model=Net()).on_train_begin()

    def own(model, optimizer, loss_fn, inputs, targets):
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = loss_fn(outputs, targets)
        loss.backward()
        optimizer.step()
        return loss, outputs

    with pytest.raises(CallbackError, match="runs forward and loss of gradloom's own step, and the loop has another"):
        make([GradientStatistics()], train_step=own).fit(loader(), epochs=1)
    with pytest.raises(OptionError, match="every counts updates"):
        GradientStatistics(every=0)


# --- the profiler


def test_times_are_those_of_their_parts():
    class Slow:
        def __iter__(self):
            for batch in loader():
                time.sleep(0.01)
                yield batch

    profiler = Profiler(file=False)
    slow = LambdaCallback(on_step_end=lambda step, logs: time.sleep(0.02))
    loop = make([slow, profiler], compile=False)
    loop.fit(Slow(), loader(), epochs=2)
    count = {part: len(times) for part, times in profiler.times.items()}
    assert count == {"data": 6, "first step": 1, "step": 5, "LambdaCallback": 6, "validation": 2}
    assert min(profiler.times["LambdaCallback"]) >= 0.02
    assert min(profiler.times["data"]) >= 0.01 > min(profiler.times["step"])
    whole = sum(map(sum, profiler.times.values()))
    assert whole <= profiler.seconds


def test_the_table_and_the_listeners_afterwards(capsys):
    profiler = Profiler(synchronize=True)
    loop = make([LambdaCallback(on_step_end=print_nothing), LambdaCallback(on_epoch_end=print_nothing), profiler])
    before = {event: list(found) for event, found in loop.callbacks._listeners.items()}
    loop.fit(loader(), epochs=2)
    assert loop.callbacks._listeners == before
    found = capsys.readouterr().out.splitlines()
    assert found[0].split() == ["seconds", "share", "times", "mean", "median"]
    assert {line[:16].strip() for line in found[1:]} == {
        "data", "first step", "step", "LambdaCallback", "LambdaCallback 2", "the rest", "all",
    }  # fmt: skip
    assert found[-1].split()[-1] == "100.0%"
    out = io.StringIO()
    profiler.file = out
    loop.fit(loader(), epochs=3)
    assert "first step" in out.getvalue() and not capsys.readouterr().out


def print_nothing(*args):
    return None


def test_a_profiler_alone_is_an_error():
    with pytest.raises(OptionError, match="belongs to a list of callbacks"):
        Profiler().on_train_begin()


def test_shapes_of_a_model_that_is_composed():
    """Its module is made at the first batch; statistics wait for that."""
    net = gl.Model()
    net |= gl.models.Linear(dimension=1)
    loop = make([GradientStatistics(every=1)], model=net, optimizer=gl.training.optimizers.Adam(learning_rate=0.1))
    loop.fit(loader(), epochs=1)
    assert len(loop.callbacks.callbacks[0].history["grad_norm"]) == 3
    assert np.isfinite(loop.callbacks.callbacks[0].history["grad_norm"]).all()
