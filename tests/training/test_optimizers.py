"""Functional optimizers: the numbers of the bound classes, dicts and containers, options, tracing, saved state, errors; on all engines."""

import inspect
import pickle
import re

import numpy as np
import pytest

import gradloom as gl
from gradloom.errors import DTypeError, OptionError, ShapeError
from gradloom.models.parameters import Parameters, Placeholder
from gradloom.optim import schedules
from gradloom.training import optimizers

CLASSES = {
    name: cls for name in optimizers.__all__ if getattr(cls := getattr(optimizers, name), "of", None) is not None
}

#: class -> options, besides a rate of 0.01, under the names of the bound class
SAMPLES = {
    "SGD": [
        {},
        {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True, "maximize": True},
    ],
    "Adam": [{}, {"betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True}],
    "AdamW": [{}, {"weight_decay": 0.2, "maximize": True}],
    "NAdam": [{"momentum_decay": 0.01, "weight_decay": 0.1}],
    "RAdam": [{"betas": (0.9, 0.7), "weight_decay": 0.1, "decoupled_weight_decay": True}],
    "Adamax": [{"weight_decay": 0.1}],
    "RMSProp": [{}, {"momentum": 0.9, "centered": True, "weight_decay": 0.1}],
    "AdaGrad": [{"lr_decay": 0.1, "initial_accumulator_value": 0.2, "weight_decay": 0.1}],
    "Adadelta": [{"rho": 0.8, "weight_decay": 0.1}],
    "Rprop": [{"etas": (0.4, 1.3), "step_sizes": (1e-5, 0.1)}],
    "ASGD": [{"lambd": 0.01, "alpha": 0.6, "t0": 2.0, "weight_decay": 0.1}],
    "Adafactor": [{"weight_decay": 0.1}],
    "Muon": [{"momentum": 0.8, "nesterov": False, "weight_decay": 0.2}],
    "Lion": [{"betas": (0.8, 0.9), "weight_decay": 0.1}],
    "AdaBelief": [{}, {"weight_decay": 0.1, "rectify": False, "amsgrad": True}],
    "Yogi": [{"weight_decay": 0.1}],
    "Adan": [{"weight_decay": 0.1}, {"weight_decay": 0.1, "no_prox": True}],
    "ADOPT": [{"weight_decay": 0.1}],
    "AdEMAMix": [{"alpha": 3.0, "alpha_warmup": 4, "beta3_warmup": 4, "weight_decay": 0.1}],
    "SophiaG": [{"rho": 0.1, "bs": 2.0, "weight_decay": 0.1}],
    "SGDScheduleFree": [{"warmup_steps": 3, "weight_decay": 0.1}, {"r": 1.0, "weight_lr_power": 0.0}],
    "AdamWScheduleFree": [{"warmup_steps": 3, "weight_decay": 0.1}],
    "LAMB": [{"weight_decay": 0.1, "trust_clip": True}],
    "LARS": [{"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1, "trust_clip": True}],
    "NovoGrad": [{"weight_decay": 0.1, "grad_averaging": True, "amsgrad": True}],
    "Shampoo": [{"momentum": 0.9, "weight_decay": 0.1, "precondition_frequency": 2}, {"beta2": 0.9}],
    "SOAP": [{"precondition_frequency": 2, "weight_decay": 0.1}],
    "Prodigy": [{"weight_decay": 0.1, "use_bias_correction": True, "safeguard_warmup": True}],
}
CASES = [(name, i) for name, samples in SAMPLES.items() for i in range(len(samples))]
STEPS = 5


def made(name, i=0, **options):
    return CLASSES[name](**{"learning_rate": 0.01, **SAMPLES[name][i], **options})


def values(seed, name="Adam", dtype="float32"):
    """{name: NumPy array}: a matrix, and a vector or another matrix."""
    rng = np.random.RandomState(seed)
    shapes = {"linear.weight": (4, 3), "linear.bias": (2, 5) if name == "Muon" else (3,)}
    return {n: rng.randn(*s).astype(dtype) for n, s in shapes.items()}


def arrays(engine, seed, name="Adam"):
    return {n: engine.array(x) for n, x in values(seed, name).items()}


def host(engine, tree):
    return {n: np.array(engine.to_numpy(getattr(x, "_array", x))) for n, x in tree.items()}


def trained(engine, optimizer, steps=STEPS, update=None, name="Adam", start=0, found=None):
    """Parameters and state after some updates from fixed gradients."""
    params, state = found or (arrays(engine, 0, name), None)
    state = optimizer.init(params) if state is None else state
    for k in range(start, start + steps):
        params, state = (update or optimizer.update)(params, arrays(engine, k + 1, name), state)
    return params, state


def signature_of(cls):
    return inspect.signature(cls).parameters.keys()


def close(a, b, rtol=1e-5, atol=1e-6):
    assert a.keys() == b.keys()
    for n in a:
        np.testing.assert_allclose(a[n], b[n], rtol=rtol, atol=atol, err_msg=n)


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


def frozen(engine, tree):
    return {n: (id(x), np.array(engine.to_numpy(x))) for n, x in tree.items()}


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


def model_and_data(backend):
    model = gl.Model()
    model |= gl.models.Embedding(7, 4, name="embedding")(input="tokens")
    model += gl.models.Linear(3)
    compiled = gl.compile(model, backend)
    return compiled, {"tokens": gl.get_backend(backend).array(np.arange(5))}


def gradients_of(compiled, params, inputs):
    return compiled.evaluate(params, inputs, output_gradients=lambda o: {k: 2 * v for k, v in o.items()})[1]


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
        assert list(signature_of(cls))[0] == "learning_rate"


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
        with pytest.raises(ValueError, match="Invalid learning rate: -0.5"):
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


# ---------------------------------------------------------------------------------------------------------- under transforms


def as_tensors(tree):
    return {n: gl.tensor(x) for n, x in tree.items()}


@pytest.mark.parametrize("name", SAMPLES)
def test_under_gradloom_jit(backend, name):
    if backend != "torch" and name not in ("Adam", "SGD", "NAdam", "SGDScheduleFree", "Adafactor", "Prodigy"):
        return
    optimizer, plain = made(name), made(name)

    @gl.jit
    def update(p, g, s):
        return optimizer.update(p, g, s)

    p, q = (as_tensors(values(0, name)) for _ in range(2))
    s, t = optimizer.init(p), plain.init(q)
    for k in range(STEPS):
        optimizer.learning_rate = plain.learning_rate = 0.01 * (k + 1)
        p, s = update(p, as_tensors(values(k + 1, name)), s)
        q, t = plain.update(q, as_tensors(values(k + 1, name)), t)
    assert update.compiles == 1
    engine = gl.get_backend(backend)
    close(host(engine, p), host(engine, q))
    for n in p:
        assert int(s[n]["step"]) == STEPS
        close(host(engine, s[n]), host(engine, t[n]), rtol=1e-4)


@pytest.mark.parametrize("name", ["SGD", "Adam", "Lion"])
def test_no_argument_is_changed_in_a_compiled_function(backend, name):
    """Kernels and plans write in place; neither arguments nor what the function only reads may show it."""
    optimizer = made(name, -1)
    p, g = as_tensors(values(0)), as_tensors(values(1))
    p, s = optimizer.update(p, g, optimizer.init(p))
    before = [{n: x.detach().numpy().copy() for n, x in tree.items()} for tree in (p, g, *s.values())]
    expected, _ = optimizer.update(p, g, s)
    given = gl.jit(lambda p, g, s: optimizer.update(p, g, s))
    read = gl.jit(lambda g: optimizer.update(p, g, s)[0])
    engine = gl.get_backend(backend)
    for _ in range(2):
        close(host(engine, given(p, g, s)[0]), host(engine, expected))
        close(host(engine, read(g)), host(engine, expected))
        for tree, old in zip((p, g, *s.values()), before, strict=True):
            for n, x in tree.items():
                np.testing.assert_array_equal(x.detach().numpy(), old[n], err_msg=n)


def test_flags_that_change_are_compiled_anew(backend):
    optimizer = optimizers.Adam(0.1)
    p = as_tensors(values(0))
    s = optimizer.init(p)
    update = gl.jit(lambda p, g, s: optimizer.update(p, g, s))
    for change, compiles in (
        ({}, 1),
        ({"lr": 0.2}, 1),
        ({"weight_decay": 0.1}, 2),
        ({"weight_decay": 0.2}, 2),
        ({"maximize": True}, 3),
        ({"betas": (0.5, 0.9)}, 4),
    ):
        optimizer.param_groups[0].update(change)
        found, _ = update(p, as_tensors(values(1)), s)
        assert update.compiles == compiles, change
        expected, _ = optimizer.update(p, as_tensors(values(1)), s)
        close(host(gl.get_backend(backend), found), host(gl.get_backend(backend), expected))


@pytest.mark.parametrize("name", SAMPLES)
def test_under_jax_jit(name):
    jax = pytest.importorskip("jax")
    with gl.using_backend("jax"):
        engine, optimizer = gl.get_backend("jax"), made(name)
        update = jax.jit(optimizer.update)
        params, state = trained(engine, optimizer, update=update, name=name)
        expected, expected_state = trained(engine, optimizer, name=name)
        assert update._cache_size() == 1  # arrays of the first state are like those of the later ones
        close(host(engine, params), host(engine, expected), rtol=1e-4, atol=1e-5)
        # Outside again the counters can be read.
        more = trained(engine, optimizer, name=name, steps=2, start=STEPS, found=(params, state))[0]
        again = trained(engine, optimizer, name=name, steps=2, start=STEPS, found=(expected, expected_state))[0]
        close(host(engine, more), host(engine, again), rtol=1e-4, atol=1e-5)
        assert jax.tree.structure(state) == jax.tree.structure(expected_state)


@pytest.mark.parametrize("name", SAMPLES)
def test_under_mlx_compile(name):
    mx = pytest.importorskip("mlx.core")
    with gl.using_backend("mlx"):
        engine, optimizer = gl.get_backend("mlx"), made(name)
        found = trained(engine, optimizer, update=mx.compile(optimizer.update), name=name)[0]
        close(host(engine, found), host(engine, trained(engine, optimizer, name=name)[0]), rtol=1e-4, atol=1e-5)


def test_gradients_through_an_update():
    """One step of gradient descent inside a loss: jax.grad goes through `update`."""
    jax = pytest.importorskip("jax")
    with gl.using_backend("jax"):
        w = jax.numpy.asarray([1.0, 2.0])
        for optimizer, factor in ((optimizers.SGD(0.25), 0.5), (optimizers.SGD(0.25, momentum=0.9), 0.5)):

            def after(w, optimizer=optimizer):
                params = {"w": w}
                new, _ = optimizer.update(params, {"w": 2 * w}, optimizer.init(params))
                return (new["w"] ** 2).sum()

            np.testing.assert_allclose(jax.grad(after)(w), 2 * factor**2 * np.asarray(w), rtol=1e-5)
            np.testing.assert_allclose(jax.jit(jax.grad(after))(w), 2 * factor**2 * np.asarray(w), rtol=1e-5)


@pytest.mark.parametrize("name", ["SGD", "Adam", "Lion", "Adafactor"])
def test_leaves_of_pytorch_stay_leaves(name):
    torch = pytest.importorskip("torch")
    with gl.using_backend("torch"):
        optimizer = made(name)
        params = {n: torch.tensor(x, requires_grad=True) for n, x in values(0).items()}
        plain = {n: torch.tensor(x) for n, x in values(0).items()}
        state, plain_state = optimizer.init(params), optimizer.init(plain)
        for k in range(3):
            loss = sum((p**2).sum() for p in params.values())
            gradients = dict(zip(params, torch.autograd.grad(loss, list(params.values())), strict=True))
            params, state = optimizer.update(params, gradients, state)
            with torch.no_grad():
                plain, plain_state = optimizer.update(plain, {n: 2 * p for n, p in plain.items()}, plain_state)
            assert all(p.requires_grad and p.is_leaf for p in params.values())
            assert not any(x.requires_grad for slots in state.values() for x in slots.values())
            assert not any(p.requires_grad for p in plain.values())
        for n, p in params.items():
            torch.testing.assert_close(p.detach(), plain[n])


def test_counters_in_half_precision():
    """A count of 300 is none of bfloat16; the counters and what is computed of them are float32."""
    jax = pytest.importorskip("jax")
    with gl.using_backend("jax"):
        optimizer = optimizers.Adam(0.1)
        params = {"w": jax.numpy.ones(3, "bfloat16")}
        state = optimizer.init(params)
        state["w"]["step"] = jax.numpy.asarray(2900, "int32")
        gradients = {"w": jax.numpy.ones(3, "bfloat16")}
        eager, _ = optimizer.update(params, gradients, state)
        found, after = jax.jit(optimizer.update)(params, gradients, state)
        assert found["w"].dtype == "bfloat16" and int(after["w"]["step"]) == 2901
        np.testing.assert_allclose(np.float32(found["w"]), np.float32(eager["w"]), rtol=1e-2)


# ------------------------------------------------------------------------------------------------------------------- saving


@pytest.mark.parametrize(("name", "i"), CASES)
def test_a_saved_state_goes_on(backend, name, i):
    """As the guide's save_checkpoint and load_checkpoint: NumPy arrays of all slots, pickled, and arrays of the backend again."""
    engine = gl.get_backend(backend)
    params, state = trained(engine, made(name, i), name=name)
    saved = pickle.dumps(
        (host(engine, params), {n: {k: engine.to_numpy(v) for k, v in slots.items()} for n, slots in state.items()})
    )
    numpy_params, numpy_state = pickle.loads(saved)
    loaded = {n: engine.array(x) for n, x in numpy_params.items()}
    loaded_state = {n: {k: engine.array(v) for k, v in slots.items()} for n, slots in numpy_state.items()}
    assert {type(v) for slots in loaded_state.values() for v in slots.values()} <= set(engine.array_types)
    on, _ = trained(engine, made(name, i), name=name, start=STEPS, found=(params, state))
    resumed, resumed_state = trained(engine, made(name, i), name=name, start=STEPS, found=(loaded, loaded_state))
    close(host(engine, resumed), host(engine, on), rtol=0, atol=0)
    assert all(int(slots["step"]) == 2 * STEPS for slots in resumed_state.values())


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


# --------------------------------------------------------------------------------------------------- clipping, special methods


@pytest.mark.parametrize("limit", [0.5, 100.0])
@pytest.mark.parametrize("kind", ["clip_value", "clip_norm"])
def test_clipped_gradients_are_pytorchs(backend, kind, limit):
    torch = pytest.importorskip("torch")
    engine = gl.get_backend(backend)
    leaves = [torch.zeros(x.shape, requires_grad=True) for x in values(1).values()]
    for leaf, x in zip(leaves, values(1).values(), strict=True):
        leaf.grad = torch.tensor(x)
    clip = {"clip_value": torch.nn.utils.clip_grad_value_, "clip_norm": torch.nn.utils.clip_grad_norm_}[kind]
    clip(leaves, limit)
    gradients = Parameters(arrays(engine, 1))
    before = frozen(engine, gradients)
    for given in (gradients, as_tensors(values(1))):
        found = optimizers.clip_gradients(given, **{kind: limit})
        assert type(found) is type(given)
        for (n, g), leaf in zip(found.items(), leaves, strict=True):
            g = engine.to_numpy(getattr(g, "_array", g))
            assert g.dtype == np.float32
            np.testing.assert_allclose(g, leaf.grad.numpy(), rtol=1e-5, atol=1e-7, err_msg=n)
    for n, x in gradients.items():
        np.testing.assert_array_equal(engine.to_numpy(x), before[n][1])


def test_clipping_keeps_the_gradient_of_an_input(backend):
    compiled = gl.compile(gl.models.Linear(2), backend, shapes={"input": [3, 4]})
    x = {"input": gl.get_backend(backend).ones(3, 4)}
    gradients = compiled.evaluate(
        compiled.get_parameters(), x, output_gradients=lambda o: {"output": o["output"] * 0 + 1}
    )[1]
    clipped = optimizers.clip_gradients(gradients, clip_norm=0.1)
    assert set(clipped) == {"weight", "bias"} and tuple(clipped["input_grad"].shape) == (3, 4)


def test_limits_of_clipping(backend):
    gradients = arrays(gl.get_backend(backend), 1)
    for options in ({}, {"clip_value": 1.0, "clip_norm": 1.0}):
        with pytest.raises(OptionError, match=r"(?s)clip_gradients takes one limit.*give clip_value= or clip_norm="):
            optimizers.clip_gradients(gradients, **options)
    with pytest.raises(ValueError, match="Invalid clipping limit: -1"):
        optimizers.clip_gradients(gradients, clip_norm=-1)
    assert optimizers.clip_gradients({}, clip_norm=1.0) == {}


@pytest.mark.parametrize("name", ["SGDScheduleFree", "AdamWScheduleFree"])
def test_the_average_of_schedule_free(backend, name):
    """The bound class in `eval()`."""
    engine = gl.get_backend(backend)
    optimizer = made(name)
    first = Parameters(arrays(engine, 0))
    state = optimizer.init(first)
    assert optimizer.evaluation_parameters(first, state)["linear.bias"] is first["linear.bias"]
    params, state = trained(engine, optimizer, found=(first, state))
    found = optimizer.evaluation_parameters(params, state)
    assert type(found) is Parameters
    tensors = {n: gl.tensor(x, requires_grad=True) for n, x in values(0).items()}
    bound = optimizer.of(list(tensors.values()), **{"lr": 0.01, **SAMPLES[name][0]})
    for k in range(STEPS):
        for n, p in tensors.items():
            p.grad = gl.tensor(values(k + 1)[n])
        bound.step()
    bound.eval()
    close(host(engine, found), {n: p.detach().numpy() for n, p in tensors.items()}, rtol=1e-4)
    jitted = gl.jit(lambda p, s: optimizer.evaluation_parameters(p, s))(params, state)
    close(host(engine, jitted), host(engine, found))
    with pytest.raises(OptionError, match=r"(?s)no entry for the parameter 'linear.weight'.*update\(\) gave"):
        optimizer.evaluation_parameters(params, {})


def test_estimates_of_the_hessian(backend):
    engine = gl.get_backend(backend)
    optimizer = optimizers.SophiaG(0.1, betas=(0.9, 0.75))
    params = arrays(engine, 0)
    state = optimizer.init(params)
    estimates = {"linear.bias": engine.array(np.array([1.0, 2.0, 4.0]))}
    new = optimizer.update_hessian(estimates, optimizer.update_hessian(estimates, state))
    np.testing.assert_allclose(
        engine.to_numpy(new["linear.bias"]["hessian"]), np.array([1, 2, 4]) * (0.25 + 0.75 * 0.25), rtol=1e-6
    )
    assert new["linear.weight"] is state["linear.weight"] and not engine.to_numpy(state["linear.bias"]["hessian"]).any()
    with pytest.raises(OptionError, match="update_hessian: the state has no parameter 'bias'"):
        optimizer.update_hessian({"bias": estimates["linear.bias"]}, state)
    with pytest.raises(ShapeError, match=r"(?s)estimate of 'linear.weight' has another shape.*\[4, 3\].*\[3\]"):
        optimizer.update_hessian({"linear.weight": estimates["linear.bias"]}, state)


# ------------------------------------------------------------------------------------------------------ optimizers of one's own


class CustomOptimizer(optimizers.Optimizer):
    def __init__(self, learning_rate=0.01, custom_param=0.5):
        super().__init__(learning_rate)
        self.custom_param = custom_param

    def init(self, params):
        return {name: {"momentum": self.backend.zeros_like(param)} for name, param in params.items()}

    def update(self, params, gradients, state):
        new_params, new_state = {}, {}
        for name, param in params.items():
            momentum = self.custom_param * state[name]["momentum"] + gradients[name]
            new_params[name] = param - self.learning_rate * momentum
            new_state[name] = {"momentum": momentum}
        return new_params, new_state


def test_an_optimizer_of_ones_own(backend):
    engine = gl.get_backend(backend)
    expected = host(engine, trained(engine, optimizers.SGD(0.1, momentum=0.5))[0])
    optimizer = CustomOptimizer(0.1)
    close(host(engine, trained(engine, optimizer)[0]), expected)
    params = arrays(engine, 0)
    for k in range(STEPS):
        optimizer.step(params, arrays(engine, k + 1))
    close(host(engine, params), expected)
    tensors = as_tensors(values(0))
    state = optimizer.init(tensors)
    update = gl.jit(lambda p, g, s: optimizer.update(p, g, s))
    for k in range(STEPS):
        tensors, state = update(tensors, as_tensors(values(k + 1)), state)
    close(host(engine, tensors), expected)
    optimizer.set_learning_rate(0.0)
    same, _ = update(tensors, as_tensors(values(1)), state)
    close(host(engine, same), host(engine, tensors))
    assert update.compiles == 1
    optimizer.custom_param = 0.25
    update(tensors, as_tensors(values(1)), state)
    assert update.compiles == 2
    compiled, inputs = model_and_data(backend)
    with pytest.raises(OptionError, match="has no values yet"):
        optimizer.init(compiled.get_parameters())


def test_what_a_subclass_has_to_define():
    with pytest.raises(NotImplementedError, match=r"Optimizer does not define init\(params\)"):
        optimizers.Optimizer(0.1).init({})
    with pytest.raises(NotImplementedError, match=r"Optimizer does not define update\(params, gradients, state\)"):
        optimizers.Optimizer(0.1).update({}, {}, {})
    with pytest.raises(OptionError, match=r"(?s)backend.randn is given no array.*use a backend itself"):
        optimizers.Optimizer(0.1).backend.randn(3)
