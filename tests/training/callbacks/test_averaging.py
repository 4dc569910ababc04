"""Averages of parameters: against PyTorch's numbers, and validation with them."""

import copy

import numpy as np
import pytest
import torch

import gradloom as gl
from gradloom.errors import OptionError
from gradloom.training.callbacks import CallbackError, CallbackList, EMACallback, LambdaCallback, SWACallback
from training.callbacks.helpers import loader, make, same, weights


def recorded(loop, event, out):
    loop.add_callback(LambdaCallback(**{event: lambda *args: out.append(weights(loop))}))


class Torch(torch.nn.Module):
    """As many parameters as the net, by number."""

    def __init__(self, values):
        super().__init__()
        self.p = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(v)) for v in values])


def averaged_by_torch(states, names, **options):
    model = Torch([states[0][n] for n in names])
    average = torch.optim.swa_utils.AveragedModel(model, **options)
    for state in states:
        with torch.no_grad():
            for p, n in zip(model.p, names, strict=True):
                p.copy_(torch.tensor(state[n]))
        average.update_parameters(model)
    return {n: p.detach().numpy() for n, p in zip(names, average.module.p, strict=True)}


@pytest.mark.parametrize("options", [{}, {"every": 2}, {"start": 4}])
def test_the_moving_average_is_pytorchs(options, backend):
    ema = EMACallback(decay=0.7, **options)
    states, loop = [], make()
    recorded(loop, "on_step_end", states)
    loop.add_callback(ema)
    loop.fit(loader(), epochs=3)
    kept = [s for i, s in enumerate(states) if (i + 1) % options.get("every", 1) == 0 and i >= options.get("start", 0)]
    names = [n for n, _ in loop.model.named_parameters()]
    expected = averaged_by_torch(kept, names, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.7))
    for n, p in ema.averaged.module.named_parameters():
        np.testing.assert_allclose(p.detach().numpy(), expected[n], rtol=1e-5, atol=1e-6)


def test_validation_is_of_the_averages_and_the_weights_are_back_bit_equal(backend):
    ema = EMACallback(decay=0.9)
    before, after, values, loop = [], [], [], make([ema])
    recorded(loop, "on_step_end", before)
    recorded(loop, "on_epoch_end", after)
    loop.add_callback(LambdaCallback(on_validation_end=lambda step, logs: values.append(logs["val_loss"])))
    history = loop.fit(loader(), loader(16, 4, shuffle=False), epochs=3)
    assert all(same(a, b) for a, b in zip(before[2::3], after, strict=True))
    raw = loop.evaluate(loader(16, 4, shuffle=False))["val_loss"]
    with ema.applied():
        averaged = loop.evaluate(loader(16, 4, shuffle=False))["val_loss"]
    assert averaged == pytest.approx(history["val_loss"][-1], rel=1e-6)
    assert abs(raw - averaged) > 1e-3
    plain = make()
    plain.fit(loader(), epochs=3)
    assert same(weights(plain), weights(loop))  # training is not changed


def test_weights_are_back_after_an_error():
    model = gl.nn.Linear(2, 2)
    ema = EMACallback(0.5)
    callbacks = CallbackList([ema], model=model)
    callbacks.on_step_end(0)
    with gl.no_grad():
        model.weight.fill_(7.0)
    with pytest.raises(ZeroDivisionError), ema.applied():
        assert not (model.weight.detach().numpy() == 7.0).any()
        raise ZeroDivisionError
    assert (model.weight.detach().numpy() == 7.0).all()


def test_copies_at_the_end():
    ema = EMACallback(0.5, copy_at_end=True)
    loop = make([ema])
    loop.fit(loader(), epochs=1)
    assert same(weights(loop), {n: t.detach().numpy() for n, t in ema.averaged.module.state_dict().items()})


def test_swa_is_pytorchs_with_its_rates():
    rates, states = [], []
    swa = SWACallback(start=0.5, lr=0.01, anneal_epochs=3, copy_at_end=False)
    loop = make([swa])
    recorded(loop, "on_epoch_end", states)
    loop.add_callback(LambdaCallback(on_epoch_begin=lambda e: rates.append(loop.optimizer.param_groups[0]["lr"])))
    with pytest.warns(UserWarning, match="has the statistics of the last epoch's"):
        loop.fit(loader(), epochs=10)
    names = [n for n, _ in loop.model.named_parameters()]
    expected = averaged_by_torch(states[5:], names)
    for n, p in swa.averaged.module.named_parameters():
        np.testing.assert_allclose(p.detach().numpy(), expected[n], rtol=1e-5, atol=1e-6)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.05)
    schedule = torch.optim.swa_utils.SWALR(optimizer, swa_lr=0.01, anneal_epochs=3)
    torchs = []
    for _ in range(5):
        torchs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(rates, [0.05] * 5 + torchs, rtol=1e-6)


def test_swa_computes_batch_normalization_anew_and_gives_the_model_the_averages():
    data = loader(shuffle=False)
    swa = SWACallback(start=1, data=data)
    loop = make([swa])
    loop.fit(loader(), epochs=3)
    model = copy.deepcopy(loop.model)
    gl.optim.swa_utils.update_bn([gl.tensor(x) for x, _ in data], model)
    for n, t in loop.model.state_dict().items():
        np.testing.assert_allclose(t.detach().numpy(), model.state_dict()[n].detach().numpy(), rtol=1e-5, atol=1e-6)


def test_bad_options():
    for kind, options in (
        (EMACallback, {"decay": 1.5}), (EMACallback, {"every": 0}), (EMACallback, {"start": -1}),
        (SWACallback, {"start": 1.5}), (SWACallback, {"anneal": "exp"}), (SWACallback, {"lr": -1.0}),
    ):  # fmt: skip
        with pytest.raises(OptionError, match=kind.__name__):
            kind(**options)
    with pytest.raises(CallbackError, match="EMACallback needs the model"):
        CallbackList([EMACallback()]).on_step_end(0)
    with pytest.raises(CallbackError, match="a fraction of how many epochs"):
        CallbackList([SWACallback()], model=gl.nn.Linear(1, 1)).on_epoch_end(0)
