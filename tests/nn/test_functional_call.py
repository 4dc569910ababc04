"""functional_call: a module with other parameters, eagerly and compiled; against torch.func.functional_call."""

import numpy as np
import pytest

import gradloom as gl
from gradloom import nn
from gradloom.nn.utils import functional_call


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def given(model, scale=2.0):
    """Other values for everything that a model has, the parameters as leaves."""
    return {
        k: (v * scale).detach().requires_grad_() if v.is_floating_point() and "running" not in k else v.clone()
        for k, v in model.state_dict().items()
    }


def test_against_torch():
    torch = pytest.importorskip("torch")
    model, other = (
        net().double(),
        torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)),
    )
    other = other.double()
    other.load_state_dict({k: torch.tensor(v.numpy()) for k, v in model.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(5, 3))
    a = given(model)
    b = {k: torch.tensor(v.detach().numpy(), requires_grad=v.requires_grad) for k, v in a.items()}
    y, z = functional_call(model, a, gl.tensor(x)), torch.func.functional_call(other, b, torch.tensor(x))
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-12)
    (y * y).sum().backward(), (z * z).sum().backward()
    for k, v in b.items():
        if v.requires_grad:
            np.testing.assert_allclose(a[k].grad.numpy(), v.grad.numpy(), rtol=1e-9, atol=1e-12)
        else:  # changed in place
            np.testing.assert_allclose(a[k].numpy(), v.numpy(), rtol=1e-12)
    assert all(p.grad is None for p in model.parameters()) and model[1].num_batches_tracked.item() == 0


def test_compiled(backend):
    """The given Tensors are found by their names; a buffer that is changed in place is changed at each run."""
    model = net()
    own = {k: v.clone() for k, v in model.state_dict().items()}
    x = gl.tensor(np.random.default_rng(0).normal(size=(5, 3)).astype("float32"))
    runs = []
    for compiled in (False, True):
        gl.manual_seed(0)
        values = given(model)
        names = [k for k, p in values.items() if p.requires_grad]

        def step(x, values=values, names=names):
            loss = (functional_call(model, values, (x,)) ** 2).sum()
            return loss, gl.autograd.grad(loss, [values[k] for k in names])

        run = gl.jit(step) if compiled else step
        found = [run(x), run(x)]
        runs.append([leaf for loss, grads in found for leaf in (loss, *grads)] + list(values.values()))
        assert values["1.num_batches_tracked"].item() == 2
    for a, b in zip(*runs, strict=True):
        np.testing.assert_allclose(gl.to_numpy(a), gl.to_numpy(b), rtol=1e-4, atol=1e-4)
    for k, v in model.state_dict().items():
        assert v.equal(own[k]), k
    assert all(isinstance(p, nn.Parameter) and p.grad is None for p in model.parameters())


def test_own_parameters_come_back():
    class Raises(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(gl.ones(2))

        def forward(self, x, fail=False):
            if fail:
                raise RuntimeError("no")
            return self.w * x

    model = Raises()
    w = model.w
    with pytest.raises(RuntimeError, match="no"):
        functional_call(model, {"w": gl.zeros(2)}, gl.ones(2), {"fail": True})
    assert model.w is w
    assert functional_call(model, {}, (gl.ones(2),)).tolist() == [1, 1]
    assert functional_call(model, {"other": gl.ones(1)}, gl.ones(2)).tolist() == [1, 1]
    with pytest.raises(TypeError, match="w is not a Tensor"):
        functional_call(model, {"w": 1.0}, gl.ones(2))


def test_a_compiled_step_sees_them():
    """What was compiled before for the module's own parameters is not used for the given ones."""

    class Compiled(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(gl.ones(2))
            self.double = gl.jit(lambda: self.w * 2)

        def forward(self):
            return self.double()

    model = Compiled()
    for _ in range(2):
        assert model().tolist() == [2, 2]
        assert functional_call(model, {"w": gl.tensor([3.0, 4.0])}).tolist() == [6, 8]


def test_replaced_buffers_are_put_into_the_dict():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("n", gl.zeros(()))

        def forward(self):
            self.n = self.n + 1
            return self.n

    model, values = Counts(), {"n": gl.tensor(5.0)}
    functional_call(model, values)
    assert values["n"].item() == 6 and model.n.item() == 0


def test_tied_weights():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(gl.ones(1))
            self.b = self.a

        def forward(self):
            return self.a + 10 * self.b

    model, two = Tied(), gl.tensor([2.0])
    assert functional_call(model, {"a": two}).item() == 22
    assert functional_call(model, {"a": two}, tie_weights=False).item() == 12
    assert functional_call(model, ({"a": two}, {"b": two})).item() == 22
    with pytest.raises(ValueError, match="different values for a and b, which are tied"):
        functional_call(model, {"a": two, "b": gl.ones(1)})
    with pytest.raises(ValueError, match="appeared in multiple dictionaries"):
        functional_call(model, [{"a": two}, {"a": two}])


def test_strict():
    model = nn.Linear(2, 1)
    with pytest.raises(RuntimeError, match="unexpected: other; missing: bias"):
        functional_call(model, {"weight": gl.ones(1, 2), "other": gl.ones(1)}, gl.ones(2), strict=True)
    assert functional_call(
        model, {"weight": gl.ones(1, 2), "bias": gl.ones(1)}, gl.ones(2), strict=True
    ).tolist() == [3]  # fmt: skip
