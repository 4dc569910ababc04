"""Functional optimizers: the numbers of the bound classes, dicts and containers, options, errors; on all engines."""

import re

import numpy as np
import pytest

import gradloom as gl
from gradloom.errors import DTypeError, OptionError, ShapeError
from gradloom.models.parameters import Parameters, Placeholder
from gradloom.optim import schedules
from gradloom.training import optimizers

from .functional_samples import (
    CASES,
    CLASSES,
    SAMPLES,
    STEPS,
    arrays,
    close,
    frozen,
    gradients_of,
    host,
    made,
    model_and_data,
    signature_of,
    trained,
    values,
)

# ------------------------------------------------------------------------------------------------------- the bound classes


def test_every_optimizer_has_both_faces_and_samples():
    bound = {
        cls
        for cls in vars(gl.optim).values()
        if isinstance(cls, type) and issubclass(cls, gl.optim.Optimizer) and cls.rule is not None
    }
    assert bound == {cls.of for cls in CLASSES.values()}, "a class is missing in training/optimizers.py"
    assert CLASSES.keys() == SAMPLES.keys(), "a class has no samples here"


@pytest.mark.parametrize(("name", "i"), CASES)
def test_numbers_are_those_of_the_bound_class(name, i):
    with gl.using_backend("numpy"):
        functional = made(name, i)
        bound_params = {
            n: gl.tensor(x, dtype="float64", requires_grad=True) for n, x in values(0, name, "float64").items()
        }
        options = {k: v for k, v in functional.param_groups[0].items() if k not in ("train_mode", "foreach", "fused")}
        bound = functional.of(
            list(bound_params.values()), **{k: options[k] for k in signature_of(functional.of) & options.keys()}
        )
        params = values(0, name, "float64")
        state = functional.init(params)
        for k in range(8):
            gradients = values(k + 1, name, "float64")
            params, state = functional.update(params, gradients, state)
            for n, p in bound_params.items():
                p.grad = gl.tensor(gradients[n])
            bound.step()
        for n, p in bound_params.items():
            np.testing.assert_allclose(params[n], p.detach().numpy(), rtol=1e-12, atol=1e-13)
            assert params[n].dtype == np.float64
            kept = bound.state[p]
            for slot in state[n].keys() & kept.keys():
                np.testing.assert_allclose(state[n][slot], np.asarray(kept[slot]), rtol=1e-10, atol=1e-12, err_msg=slot)


@pytest.mark.parametrize(("name", "i"), CASES)
def test_all_engines_agree(backend, name, i):
    if backend == "numpy":
        return
    engine = gl.get_backend(backend)
    found = host(engine, trained(engine, made(name, i), name=name)[0])
    with gl.using_backend("numpy"):
        reference = gl.get_backend("numpy")
        expected = host(reference, trained(reference, made(name, i), name=name)[0])
    close(found, expected, rtol=2e-4, atol=2e-5)


# ------------------------------------------------------------------------------------------------------------ dicts of arrays


@pytest.mark.parametrize(
    "name", ["SGD", "Adam", "AdamW", "AdaGrad", "RMSProp"]
)  # those with kernels that write in place, too
def test_no_argument_is_changed(backend, name):
    engine = gl.get_backend(backend)
    optimizer = made(name, -1)
    params, gradients = Parameters(arrays(engine, 0)), arrays(engine, 1)
    state = optimizer.init(params)
    params, state = optimizer.update(params, gradients, state)
    before = [frozen(engine, tree) for tree in (params, gradients, *state.values())]
    for _ in range(2):
        new, new_state = optimizer.update(params, gradients, state)
    for tree, expected in zip((params, gradients, *state.values()), before, strict=True):
        assert {n: id(x) for n, x in tree.items()} == {n: i for n, (i, _) in expected.items()}
        for n, x in tree.items():
            np.testing.assert_array_equal(engine.to_numpy(x), expected[n][1])
    assert type(new) is Parameters and new is not params and new_state is not state
    assert all(type(x) in engine.array_types for x in new.values())
    # A pure function: the same arguments, the same results.
    again = optimizer.update(params, gradients, state)[0]
    for n, x in host(engine, new).items():
        np.testing.assert_array_equal(x, host(engine, again)[n])


def test_containers_and_missing_gradients(backend):
    class Own(dict):
        pass

    engine = gl.get_backend(backend)
    optimizer = optimizers.Adam(0.1)
    params = Own(arrays(engine, 0))
    state = optimizer.init(params)
    gradients = {"linear.weight": arrays(engine, 1)["linear.weight"], "unknown": arrays(engine, 1)["linear.bias"]}
    new, new_state = optimizer.update(params, gradients, state)
    assert type(new) is Own and list(new) == list(params)
    assert new["linear.bias"] is params["linear.bias"] and new_state["linear.bias"] is state["linear.bias"]
    assert "unknown" not in new and "unknown" not in new_state
    # Steps are counted for each parameter: the bias, one update late, moves as at a first update.
    new, new_state = optimizer.update(new, arrays(engine, 2), new_state)
    assert {n: int(s["step"]) for n, s in new_state.items()} == {"linear.weight": 2, "linear.bias": 1}
    moved = host(engine, new)["linear.bias"] - host(engine, params)["linear.bias"]
    np.testing.assert_allclose(moved, -0.1 * np.sign(values(2)["linear.bias"]), rtol=1e-4)
    same, same_state = optimizer.update(new, {}, new_state)
    assert same["linear.weight"] is new["linear.weight"] and same_state["linear.weight"] is new_state["linear.weight"]
    assert optimizer.update({}, {}, {}) == ({}, {})


def test_parameters_that_are_made_at_the_first_evaluate(backend):
    engine = gl.get_backend(backend)
    compiled, inputs = model_and_data(backend)
    params = compiled.get_parameters()
    unknown = [n for n, p in params.items() if type(p) is Placeholder]
    assert unknown
    copies = dict(params)  # filled by what is known of the placeholder, not of the dict
    first = {n: p for n, p in copies.items() if "embedding" in n}
    second = {n: p for n, p in copies.items() if "embedding" not in n}
    one, two = optimizers.SGD(0.1), optimizers.Adam(0.01)
    state_one, state_two = one.init(first), two.init(second)
    whole = optimizers.Adam(0.01)
    state = whole.init(params)
    assert all(state[n] == {} for n in unknown)
    gradients = gradients_of(compiled, params, inputs)
    for n in unknown:
        assert state[n].keys() == {"step", "exp_avg", "exp_avg_sq"} and tuple(state[n]["exp_avg"].shape) == tuple(
            params[n].shape
        )
    late = two.init(second)  # of placeholders that were filled before
    assert all(set(s) == {"step", "exp_avg", "exp_avg_sq"} for s in late.values())
    new, state = whole.update(params, gradients, state)
    assert type(new) is Parameters
    part, _ = two.update({n: params[n] for n in second}, gradients, state_two)
    other, _ = one.update({n: params[n] for n in first}, gradients, state_one)
    for n in second:
        np.testing.assert_array_equal(engine.to_numpy(part[n]), engine.to_numpy(new[n]))
    for n in first:
        expected = engine.to_numpy(params[n]) - 0.1 * engine.to_numpy(gradients[n])
        np.testing.assert_allclose(engine.to_numpy(other[n]), expected, rtol=1e-5, atol=1e-6)


def test_placeholders_cannot_be_updated_before(backend):
    compiled, _ = model_and_data(backend)
    params = compiled.get_parameters()
    optimizer = optimizers.SGD(0.1)
    with pytest.raises(OptionError, match="has no values yet: its shape is not known"):
        optimizer.update(params, {n: np.ones(3) for n in params}, optimizer.init(params))


def test_tensors_as_parameters(backend):
    params = {n: gl.tensor(x, requires_grad=True) for n, x in values(0).items()}
    optimizer = optimizers.Adam(0.1)
    state = optimizer.init(params)
    new, state = optimizer.update(params, {n: gl.tensor(x) for n, x in values(1).items()}, state)
    for n, p in new.items():
        assert isinstance(p, gl.Tensor) and p.requires_grad and p.grad_fn is None and params[n].requires_grad
        assert isinstance(state[n]["exp_avg"], gl.Tensor) and not state[n]["exp_avg"].requires_grad
        np.testing.assert_allclose(p.detach().numpy(), values(0)[n] - 0.1 * np.sign(values(1)[n]), rtol=1e-4, atol=1e-5)


# ----------------------------------------------------------------------------------------------------------------- in place


def test_step_in_place(backend):
    engine = gl.get_backend(backend)
    expected = host(engine, trained(engine, optimizers.Adam(0.1))[0])
    params, optimizer = arrays(engine, 0), optimizers.Adam(0.1)
    given, before = dict(params), frozen(engine, params)
    for k in range(STEPS):
        optimizer.step(params, arrays(engine, k + 1))
    close(host(engine, params), expected, rtol=0, atol=0)
    for n, x in given.items():  # the dict has other arrays; those that it had stay
        np.testing.assert_array_equal(engine.to_numpy(x), before[n][1])


def test_step_of_tensors(backend):
    engine = gl.get_backend(backend)
    model = gl.nn.Linear(3, 4)
    model.load_state_dict({"weight": gl.tensor(values(0)["linear.weight"]), "bias": gl.tensor(np.ones(4, "float32"))})
    objects, alias = list(model.parameters()), model.weight.view(-1)
    optimizer = optimizers.SGD(lr=0.1, momentum=0.9)
    w = values(0)["linear.weight"]
    for k in range(2):
        grads = [gl.tensor(values(1)["linear.weight"]), None if k else gl.tensor(np.ones(4, "float32"))]
        optimizer.step(model.parameters(), grads)
    assert list(map(id, model.parameters())) == list(map(id, objects)) and all(p.requires_grad for p in objects)
    expected = w - 0.1 * (1 + 1.9) * values(1)["linear.weight"]
    np.testing.assert_allclose(engine.to_numpy(model.weight.detach()._array), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(alias.detach().numpy(), expected.ravel(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.bias.detach().numpy(), 0.9 * np.ones(4), rtol=1e-6)
    model(gl.ones(2, 3)).sum().backward()
    optimizer.zero_grad()
    assert all(p.grad is None for p in objects)
    with pytest.raises(ShapeError, match=r"(?s)SGD.step takes one gradient for each parameter.*2 gradients.*1"):
        optimizer.step(model.parameters(), [None])
    with pytest.raises(ShapeError, match="the gradient of '0' has another shape"):
        optimizer.step(model.parameters(), [gl.ones(2), None])


def test_the_state_of_step_is_saved(backend):
    engine = gl.get_backend(backend)
    one, two = optimizers.Adam(0.1), optimizers.Adam(0.7)
    params = arrays(engine, 0)
    one.step(params, arrays(engine, 1))
    two.load_state_dict(one.state_dict())
    assert two.learning_rate == 0.1
    other = dict(params)
    one.step(params, arrays(engine, 2))
    two.step(other, arrays(engine, 2))
    close(host(engine, params), host(engine, other), rtol=0, atol=0)


# ------------------------------------------------------------------------------------------------------------------ options


def test_defaults_and_places_are_those_of_the_guides():
    o = optimizers
    assert (
        o.Adam(0.5, 0.8, 0.9, 1e-3, 0.2).param_groups[0] | {}
        == o.Adam(lr=0.5, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.2).param_groups[0]
    )
    expected = {
        o.SGD: {"lr": 0.01, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False},
        o.Adam: {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0},
        o.AdamW: {"lr": 0.001, "weight_decay": 0.01},
        o.RMSProp: {"lr": 0.001, "alpha": 0.9, "eps": 1e-8, "momentum": 0},
        o.AdaGrad: {"lr": 0.01, "eps": 1e-8},
    }
    for cls, options in expected.items():
        assert options.items() <= cls().param_groups[0].items()
    assert (
        o.RMSProp(0.1, 0.5, 1e-3, 0.9).param_groups[0].items()
        >= {"lr": 0.1, "alpha": 0.5, "eps": 1e-3, "momentum": 0.9}.items()
    )
    assert o.AdaGrad(0.1, 1e-3).param_groups[0]["eps"] == 1e-3
    assert o.SGD(0.1, 0.9, 0.0, 0.1, True).param_groups[0]["nesterov"] is True
    for name, cls in CLASSES.items():
        if name not in ("SGD", "RMSProp", "AdaGrad"):  # the others have the defaults of their bound class
            assert cls().param_groups[0] == cls.of.prototype().defaults
        assert next(iter(signature_of(cls))) == "learning_rate"


def test_both_spellings_are_one_option():
    cls = optimizers.Adam
    for one, two in (
        ({"lr": 0.1}, {"learning_rate": 0.1}),
        ({"betas": (0.5, 0.999)}, {"beta1": 0.5}),
        ({"eps": 1.0}, {"epsilon": 1.0}),
    ):
        assert cls(**one).param_groups == cls(**two).param_groups
    with pytest.raises(OptionError, match=r"(?s)given 'lr' under two names.*give learning_rate= or lr="):
        cls(lr=0.1, learning_rate=0.1)
    with pytest.raises(OptionError, match=r"given 'eps' under two names"):
        cls(eps=0.1, epsilon=0.1)
    with pytest.raises(OptionError, match=r"(?s)given 'betas' and parts of it.*beta2"):
        cls(betas=(0.9, 0.9), beta2=0.1)
    with pytest.raises(TypeError, match="Adam got learning_rate twice"):
        cls(0.1, learning_rate=0.1)
    with pytest.raises(TypeError, match=r"Adam takes at most 5 positional arguments \(learning_rate, beta1"):
        cls(0.1, 0.9, 0.9, 1e-8, 0, False)
    with pytest.raises(OptionError, match=r"(?s)Adam has no option 'rho'.*expected: learning_rate, beta1.*lr"):
        cls(rho=0.9)
    with pytest.raises(OptionError, match="has no option 'fused'"):
        cls(fused=True)
    with pytest.raises(OptionError, match="learning_rate= and lr= are one option"):
        optimizers.Optimizer(0.3, lr=0.1)
    assert optimizers.Optimizer(lr=0.1).learning_rate == 0.1


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("SGD", {"learning_rate": -0.1}, "Invalid learning rate: -0.1"),
        ("Adam", {"lr": -1}, "Invalid learning rate: -1"),
        ("Adam", {"beta1": 1.0}, "Invalid beta parameter at index 0: 1.0"),
        ("Adam", {"beta2": schedules.constant(-0.1)}, "Invalid beta parameter at index 1: -0.1"),
        ("Adam", {"epsilon": -1e-8}, "Invalid epsilon value: -1e-08"),
        ("AdamW", {"weight_decay": -1}, "Invalid weight_decay value: -1"),
        ("SGD", {"momentum": -0.9}, "Invalid momentum value: -0.9"),
        ("SGD", {"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
    ],
)
def test_options_out_of_range(name, options, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        CLASSES[name](**options)


def test_the_learning_rate_can_be_read_and_written(backend):
    engine = gl.get_backend(backend)
    optimizer = optimizers.SGD(0.1)
    assert optimizer.learning_rate == optimizer.get_learning_rate() == optimizer.get_lr() == 0.1
    for write in (optimizer.set_learning_rate, optimizer.set_lr, lambda v: setattr(optimizer, "learning_rate", v)):
        write(0.5)
        assert optimizer.learning_rate == optimizer.param_groups[0]["lr"] == 0.5
        with pytest.raises(ValueError, match=r"Invalid learning rate: -0\.5"):
            write(-0.5)
        optimizer.param_groups[0]["lr"] = 0.1
        assert optimizer.get_lr() == 0.1
    for rate in (0, 2, schedules.constant(2.0), gl.tensor(2.0)):
        optimizer.learning_rate = rate
        params = arrays(engine, 0)
        new, _ = optimizer.update(params, arrays(engine, 1), optimizer.init(params))
        expected = {n: x - (2 if rate != 0 else 0) * values(1)[n] for n, x in values(0).items()}
        close(host(engine, new), expected)


SCHEDULED = {
    "learning_rate": ("SGD", schedules.linear(0.1, 0.5, 4), lambda o, v: o.set_learning_rate(v)),
    "beta1": ("Adam", schedules.linear(0.9, 0.5, 4), lambda o, v: o.param_groups[0].update(betas=(v, 0.999))),
    "weight_decay": ("AdamW", schedules.linear(0.0, 0.5, 4), lambda o, v: o.param_groups[0].update(weight_decay=v)),
    "momentum": ("SGD", schedules.warmup(0.9, 4), lambda o, v: o.param_groups[0].update(momentum=v)),
}


@pytest.mark.parametrize("compiled", ["eager", "gl.jit", "jax.jit"])
@pytest.mark.parametrize("option", SCHEDULED)
def test_schedules_stand_for_options(backend, option, compiled):
    if compiled == "jax.jit" and backend != "jax":
        return
    engine = gl.get_backend(backend)
    name, schedule, write = SCHEDULED[option]
    scheduled = CLASSES[name](**{"learning_rate": 0.1, option: schedule})
    by_hand = CLASSES[name](**{"learning_rate": 0.1, option: 0.1})
    update = scheduled.update
    if compiled == "gl.jit":
        update = gl.jit(lambda p, g, s: scheduled.update(p, g, s))
    elif compiled == "jax.jit":
        import jax

        update = jax.jit(scheduled.update)
    found, _ = trained(engine, scheduled, update=update)
    params, state = arrays(engine, 0), None
    state = by_hand.init(params)
    for k in range(STEPS):
        write(by_hand, float(schedule(k)))
        if k == 0 and option in ("weight_decay", "momentum"):  # 0 selects other code
            by_hand.param_groups[0][option] = 1e-30
        params, state = by_hand.update(params, arrays(engine, k + 1), state)
    close(host(engine, found), host(engine, params))


def test_repr():
    assert (
        repr(optimizers.SGD(0.1))
        == "SGD(lr=0.1, momentum=0, dampening=0, weight_decay=0, nesterov=False, maximize=False)"
    )
    assert "lr=cosine(0.1, 10)" in repr(optimizers.Adam(schedules.cosine(0.1, 10)))


# ------------------------------------------------------------------------------------------------------------------- errors


def test_wrong_gradients(backend):
    engine = gl.get_backend(backend)
    optimizer = optimizers.Adam(0.1)
    params = arrays(engine, 0)
    state = optimizer.init(params)
    with pytest.raises(ShapeError, match=r"(?s)Adam: the gradient of 'linear.bias' has another shape.*\[3\].*\[1, 3\]"):
        optimizer.update(params, {"linear.bias": engine.array(np.ones((1, 3)))}, state)
    with pytest.raises(
        DTypeError, match=r"(?s)the gradient of 'linear.bias' has another dtype.*float32.*int.*cast it to"
    ):
        optimizer.update(params, {"linear.bias": engine.array(np.ones(3, int))}, state)
    with pytest.raises(DTypeError, match=r"(?s)the gradient of 'linear.bias' is no array.*float"):
        optimizer.update(params, {"linear.bias": 1.0}, state)
    with pytest.raises(
        OptionError, match=r"(?s)none of the gradients is of a parameter.*linear.weight, linear.bias.*weight"
    ):
        optimizer.update(params, {"weight": params["linear.weight"]}, state)


def test_wrong_states(backend):
    engine = gl.get_backend(backend)
    optimizer, params, gradients = optimizers.Adam(0.1), arrays(engine, 0), arrays(engine, 1)
    state = optimizer.init(params)
    with pytest.raises(
        OptionError, match=r"(?s)the state of Adam has no entry for the parameter 'linear.weight'.*given: +other.*init"
    ):
        optimizer.update(params, gradients, optimizer.init({"other": params["linear.bias"]}))
    with pytest.raises(
        OptionError, match=r"(?s)'linear.weight' is not one of Adam with these options.*exp_avg.*momentum_buffer"
    ):
        optimizer.update(params, gradients, optimizers.SGD(0.1, momentum=0.9).init(params))
    with pytest.raises(OptionError, match=r"(?s)is not one of Adam.*max_exp_avg_sq"):
        optimizers.Adam(0.1, amsgrad=True).update(params, gradients, state)
    with pytest.raises(
        ShapeError, match=r"(?s)the state 'exp_avg' of the parameter 'linear.bias' has another shape.*\[3\].*\[4, 3\]"
    ):
        optimizer.update(params, gradients, {**state, "linear.bias": state["linear.weight"]})
    with pytest.raises(OptionError, match=r"(?s)init takes parameters by name.*a dict.*list"):
        optimizer.init(list(params.values()))


def test_muon_takes_matrices_only(backend):
    engine = gl.get_backend(backend)
    with pytest.raises(ValueError, match="Muon only supports 2D parameters"):
        optimizers.Muon(0.1).init({"bias": engine.array(np.ones(3))})


def test_prodigy_updates_all_together(backend):
    engine = gl.get_backend(backend)
    optimizer, params = optimizers.Prodigy(), arrays(engine, 0)
    state = optimizer.init(params)
    gradients = arrays(engine, 1)
    params, state = optimizer.update(params, {"linear.bias": gradients["linear.bias"]}, state)
    with pytest.raises(
        OptionError, match=r"(?s)Prodigy updates all parameters together.*give a gradient for each parameter"
    ):
        optimizer.update(params, gradients, state)


def test_nan_gradients_are_pytorchs(backend):
    torch = pytest.importorskip("torch")
    engine = gl.get_backend(backend)
    gradient = np.array([np.nan, np.inf, -1.0], "float32")
    for name, cls in (("SGD", torch.optim.SGD), ("Adam", torch.optim.Adam), ("RMSProp", torch.optim.RMSprop)):
        p = torch.ones(3, requires_grad=True)
        p.grad = torch.tensor(gradient)
        cls([p], lr=0.1).step()
        optimizer = CLASSES[name](0.1) if name != "RMSProp" else optimizers.RMSProp(0.1, decay=0.99)
        params = {"w": engine.array(np.ones(3))}
        new, _ = optimizer.update(params, {"w": engine.array(gradient)}, optimizer.init(params))
        np.testing.assert_allclose(engine.to_numpy(new["w"]), p.detach().numpy(), rtol=1e-5)
