"""Every dense optimizer of PyTorch against torch.optim: PyTorch's own configurations and error inputs, state, hooks, groups."""

import contextlib
import functools
import inspect
import math
import sys
import warnings

import numpy as np
import pytest

import gradloom as gl
from gradloom import nn, optim
from gradloom.optim import bound

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")
from torch.testing._internal.common_optimizers import OptimizerErrorEnum, optim_db  # noqa: E402

torch_optimizer = sys.modules["torch.optim.optimizer"]

INFOS = {info.name: info for info in optim_db if not info.only_supports_sparse_grads}
NAMES = [name for name in INFOS if name != "LBFGS"]  # LBFGS, which needs a closure: test_lbfgs.py
#: Beyond PyTorch's own configurations: other branches of the formulas.
MORE = {
    "ASGD": [{"t0": 3, "lambd": 0.1, "alpha": 0.5}],
    "Adafactor": [{"eps": (1e-3, 0.5), "lr": 0.5}],
    "Adagrad": [{"maximize": True, "eps": 1e-3, "initial_accumulator_value": 1.0}],
    "Adam": [{"amsgrad": True, "maximize": True, "weight_decay": 0.1, "decoupled_weight_decay": True}],
    "Muon": [{"adjust_lr_fn": "match_rms_adamw", "nesterov": False}, {"adjust_lr_fn": "original", "eps": 0.1}],
    "NAdam": [{"maximize": True, "weight_decay": 0.1, "decoupled_weight_decay": True, "betas": (0.5, 0.9)}],
    "RAdam": [{"betas": (0.5, 0.6)}, {"betas": (0.9, 0.5)}, {"betas": (0.9, 0.9), "lr": 0.1, "eps": 0.1}],
    "RMSprop": [{"momentum": 0.9, "alpha": 0.5}, {"centered": True, "eps": 1e-2}],
    "Rprop": [{"lr": 0.5, "step_sizes": (0.1, 0.6)}, {"lr": 1.0}],
}
STEPS = 20
EXACT = {"rtol": 1e-10, "atol": 1e-12}


@functools.cache
def configurations(name):
    """Its options; made outside of `in_float64`, so that Tensors among them are of float32."""
    return [i.kwargs for i in INFOS[name].optim_inputs_func(device="cpu")] + MORE.get(name, [])


def engine(name):
    """float64 on each engine: on JAX it is asked for."""
    return gl.JaxBackend(dtype="float64") if name == "jax" else name


@contextlib.contextmanager
def in_float64():
    """Inside, PyTorch holds its scalars (NAdam's product, ASGD's rates) in float64, and Muon does not round to bfloat16."""
    before, bfloat16 = torch.get_default_dtype(), torch.Tensor.bfloat16
    torch.set_default_dtype(torch.float64)
    torch.Tensor.bfloat16 = torch.Tensor.clone
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        torch.Tensor.bfloat16 = bfloat16


def shapes(name):
    return [(3, 4), (5, 2), (2, 2)] if name == "Muon" else [(3, 4), (5,), (), (2, 3, 2)]


def starts(name):
    rng = np.random.default_rng(0)
    return [rng.normal(size=s) for s in shapes(name)]


def parameters(name):
    """The same in gradloom and in PyTorch."""
    ours = [gl.tensor(v, dtype=gl.float64, requires_grad=True) for v in starts(name)]
    return ours, [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in starts(name)]


def loss_of(params, tensors):
    """A loss with other targets and curvatures for each element."""
    total = 0
    for p, target, weight in zip(params, *tensors, strict=True):
        total = total + ((p - target) ** 2 * weight).sum() + 0.1 * (p**4).sum()
    return total


def constants(name, tensor):
    rng = np.random.default_rng(1)
    targets = [tensor(rng.normal(size=s)) for s in shapes(name)]
    return targets, [tensor(rng.uniform(0.1, 2.0, size=s)) for s in shapes(name)]


def of_gradloom(value):
    """An array in float64; options: Tensors as gradloom's, others as they are."""
    if isinstance(value, np.ndarray | np.float64):
        return gl.tensor(np.asarray(value), dtype=gl.float64)
    if isinstance(value, torch.Tensor):
        return gl.tensor(value.numpy(), dtype=str(value.dtype).split(".")[1])
    if isinstance(value, tuple):
        return tuple(map(of_gradloom, value))
    return value


def of_torch(value):
    """gradloom's state as PyTorch's."""
    if isinstance(value, gl.Tensor):
        return torch.tensor(np.array(value.numpy()))
    if isinstance(value, dict):
        return {k: of_torch(v) for k, v in value.items()}
    return [of_torch(v) for v in value] if isinstance(value, list) else value


@functools.cache
def reference(name, index, exact=True):
    """Parameters and state of PyTorch after all steps."""
    options = {k: v.double() if exact and torch.is_tensor(v) else v for k, v in configurations(name)[index].items()}
    with in_float64() if exact else contextlib.nullcontext():
        _, params = parameters(name)
        optimizer = getattr(torch.optim, name)(params, **options)
        tensors = constants(name, torch.tensor)
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss_of(params, tensors).backward()
            optimizer.step()
        return params, [optimizer.state[p] for p in params]


def compare(ours, theirs, label="", **tolerance):
    for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        np.testing.assert_allclose(
            np.asarray(a.detach().numpy()), b.detach().numpy(), **(tolerance or EXACT), err_msg=f"{label} {k}"
        )


def compare_state(ours, theirs, label=""):
    """Of one parameter: the same names, numbers and arrays."""
    theirs = {k: v for k, v in theirs.items() if v is not None}
    assert set(ours) == set(theirs), label
    for key, value in theirs.items():
        got = ours[key].numpy() if isinstance(ours[key], gl.Tensor) else ours[key]
        np.testing.assert_allclose(got, float(value) if value.ndim == 0 else value, **EXACT, err_msg=f"{label} {key}")


def code(name, options):
    """What selects code in an optimizer's rule."""
    optimizer = getattr(optim, name)(
        [gl.ones(2, 2, requires_grad=True)], **{k: of_gradloom(v) for k, v in options.items()}
    )
    return optimizer.rule.flags(optimizer.param_groups[0])


def both(name, **options):
    ours, theirs = parameters(name)
    return ours, theirs, getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)


def give(name, ours, theirs, step, skip=(), spoil=None):
    rng = np.random.default_rng(100 + step)
    for k, (p, q) in enumerate(zip(ours, theirs, strict=True)):
        g = rng.normal(size=tuple(q.shape))
        if spoil is not None and k == spoil:
            g.reshape(-1)[0] = np.nan
        p.grad = None if k in skip else of_gradloom(np.asarray(g))
        q.grad = None if k in skip else torch.tensor(g)


# ---------------------------------------------------------------------------------------------------------- numbers


def test_every_dense_optimizer_is_there():
    def classes(module):
        return {n for n, c in vars(module).items() if inspect.isclass(c) and issubclass(c, module.Optimizer)}

    sparse = {info.name for info in optim_db if info.only_supports_sparse_grads}
    assert sparse == {"SparseAdam"}  # gradloom has no sparse Tensors
    assert classes(torch.optim) - sparse - classes(optim) == set()
    assert set(INFOS) == classes(torch.optim) - sparse - {"Optimizer"}
    assert classes(torch.optim) - sparse <= set(optim.__all__)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", NAMES)
def test_configurations(backend, name, compiled):
    """All configurations of an optimizer side by side in one step."""
    with gl.using_backend(engine(backend)):
        options = list(enumerate(configurations(name)))
        if backend == "mlx" and compiled:  # compiles each kernel for long: one configuration of each code
            options = [*{str(code(name, o)): (k, o) for k, o in reversed(options)}.values()]
        models = [parameters(name)[0] for _ in options]
        optimizers = [
            getattr(optim, name)(params, **{k: of_gradloom(v) for k, v in o.items()})
            for params, (_, o) in zip(models, options, strict=True)
        ]
        tensors = constants(name, of_gradloom)

        def step():
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss = sum(loss_of(params, tensors) for params in models)
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            return loss

        run = gl.jit(step) if compiled else step
        for _ in range(STEPS):
            run()
        assert not compiled or run.compiles == 1
        for (index, given), params, optimizer in zip(options, models, optimizers, strict=True):
            label = f"{name} {given}"
            theirs, states = reference(name, index)
            assert all(p.dtype is gl.float64 and (compiled or p.grad is not None) for p in params)
            compare(params, theirs, label)
            for p, state in zip(params, states, strict=True):
                compare_state(optimizer.state[p], state, label)


@pytest.mark.parametrize("name", ["ASGD", "NAdam"])
def test_scalars_that_pytorch_holds_in_float32(name):
    """By default PyTorch rounds NAdam's product and ASGD's rates to float32; the numbers above are those without it."""
    for index, _ in enumerate(configurations(name)):
        rounded, exact = reference(name, index, exact=False)[0], reference(name, index)[0]
        for a, b in zip(rounded, exact, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_muon_against_pytorch_in_bfloat16():
    """PyTorch's update, of which bfloat16 keeps 8 bits over five iterations, is the same to a few percent of its size."""
    ours, theirs, a, b = both("Muon", lr=1.0, weight_decay=0)
    give("Muon", ours, theirs, 0)
    a.step(), b.step()
    for p, q, start in zip(ours, theirs, starts("Muon"), strict=True):
        update, expected = p.detach().numpy() - start, q.detach().numpy() - start
        assert np.abs(update - expected).max() < 0.05 * np.abs(expected).max()


def test_muon_of_16_bits_iterates_in_float32(backend):
    """The update is that of float64 to the last digits of float16."""
    results = []
    for dtype in (gl.float16, gl.float64):
        with gl.using_backend(engine(backend)):
            params = [gl.tensor(v, dtype=dtype, requires_grad=True) for v in starts("Muon")]
            optimizer = optim.Muon(params, lr=0.1)
            for p, v in zip(params, starts("Muon"), strict=True):
                p.grad = gl.tensor(np.flip(v).copy(), dtype=dtype)
            optimizer.step()
            assert all(p.dtype is dtype for p in (*params, *(s["momentum_buffer"] for s in optimizer.state.values())))
            results.append([p.detach().numpy().astype("float64") for p in params])
    for p, q in zip(*results, strict=True):
        np.testing.assert_allclose(p, q, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_float32(backend, name):
    """The usual dtype: as near to the numbers in float64 as its digits allow."""
    params = [gl.tensor(v.astype("float32"), requires_grad=True) for v in starts(name)]
    optimizer = getattr(optim, name)(params)
    tensors = constants(name, lambda v: gl.tensor(np.asarray(v, "float32")))

    def step():
        optimizer.zero_grad()
        loss_of(params, tensors).backward()
        optimizer.step()

    run = gl.jit(step)
    for k in range(STEPS):
        (run if k % 2 else step)()
    assert all(p.dtype is gl.float32 for p in params)
    compare(params, reference(name, 0)[0], name, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_without_a_gradient_in_some_steps(name):
    with in_float64():
        ours, theirs, a, b = both(name)
        for step in range(8):
            give(name, ours, theirs, step, skip={1} if step in (0, 3) else {0, 2} if step == 5 else ())
            a.step(), b.step()
        compare(ours, theirs)
        for p, q in zip(ours, theirs, strict=True):
            if b.state[q]:
                compare_state(a.state[p], b.state[q])


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_nan(backend, name):
    """They spoil the same elements as in PyTorch."""
    with in_float64(), gl.using_backend(engine(backend)), np.errstate(all="ignore"):
        ours, theirs, a, b = both(name)
        for step in range(4):
            give(name, ours, theirs, step, spoil=(0 if name == "Muon" else 1) if step == 1 else None)
            a.step(), b.step()
        spoiled = [np.isnan(p.detach().numpy()).any() for p in ours]
        assert any(spoiled) == (name != "Rprop")  # the sign of NaN is 0
        compare(ours, theirs)


# ------------------------------------------------------------------------------------------------ options and errors


@pytest.mark.parametrize("name", INFOS)
def test_signature(name):
    def plain(cls):
        return [(p.name, p.default, p.kind) for p in inspect.signature(cls).parameters.values()]

    assert plain(getattr(optim, name)) == plain(getattr(torch.optim, name))


def error_inputs():
    for name, info in INFOS.items():
        for k, given in enumerate(info.optim_error_inputs_func("cpu", torch.float32)):
            yield pytest.param(name, given, id=f"{name}-{k}-{given.optimizer_error_input.desc[:40]}")


def has_complex(given):
    params = given.optimizer_error_input.params
    return isinstance(params, list) and any(isinstance(p, torch.Tensor) and p.is_complex() for p in params)


def twin(value, known):
    """Parameters and options as gradloom's; the same Tensor twice stays one."""
    if isinstance(value, torch.Tensor):
        if id(value) not in known:
            known[id(value)] = gl.tensor(value.detach().numpy(), requires_grad=value.requires_grad)
        return known[id(value)]
    if isinstance(value, list | tuple):
        return type(value)(twin(v, known) for v in value)
    return {k: twin(v, known) for k, v in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize(("name", "given"), error_inputs())
def test_refusals(name, given):
    if has_complex(given):
        assert not hasattr(gl, "complex64")
        pytest.skip("gradloom has no complex dtypes, so no such parameter can be made")
    assert given.error_on is OptimizerErrorEnum.CONSTRUCTION_ERROR
    known = {}
    params = twin(given.optimizer_error_input.params, known)
    params = [gl.ones(2, 3, requires_grad=True)] if params is None else params
    options = twin(given.optimizer_error_input.kwargs, known)
    if given.error_type is UserWarning:
        with pytest.warns(UserWarning, match=given.error_regex):
            getattr(optim, name)(params, **options)
    else:
        with pytest.raises(given.error_type, match=given.error_regex):
            getattr(optim, name)(params, **options)


def numeric(name):
    for option, p in inspect.signature(getattr(torch.optim, name)).parameters.items():
        if type(p.default) in (int, float):
            yield from ((option, value) for value in (-1.0, 1.5, 0.0))
        elif type(p.default) is tuple:
            for k in range(len(p.default)):
                for value in (-1.0, 0.0, 1.0):
                    yield option, (*p.default[:k], value, *p.default[k + 1 :])


@pytest.mark.parametrize("name", INFOS)
def test_ranges(name):
    """Each option out of its range is refused where PyTorch refuses it, in the same words, and only there."""
    refused = 0
    for option, value in numeric(name):
        texts = []
        for module, ones in ((torch.optim, torch.ones), (optim, gl.ones)):
            try:
                getattr(module, name)([ones(2, 3, requires_grad=True)], **{option: value})
                texts.append(None)
            except Exception as e:
                texts.append((type(e), str(e)))
        assert texts[0] == texts[1], (option, value)
        refused += texts[0] is not None
    assert refused


@pytest.mark.parametrize("option", ["capturable", "differentiable"])
@pytest.mark.parametrize("name", INFOS)
def test_options_of_pytorchs_own_graphs(name, option):
    make = getattr(optim, name)
    if option in inspect.signature(make).parameters:
        with pytest.raises(gl.errors.OptionError, match=f"{name} does not take {option}=True"):
            make([gl.ones(2, 2, requires_grad=True)], **{option: True})


def test_muon_refuses_options_of_the_iteration():
    for options, text in (
        ({"ns_steps": 100}, "Number of steps must be less than 100"),
        ({"ns_coefficients": (1.0, 2.0)}, "Coefficients must be a tuple of exactly 3 values"),
    ):
        with pytest.raises(ValueError, match=text):
            optim.Muon([gl.ones(2, 2, requires_grad=True)], **options)
    optimizer = optim.Muon([gl.ones(2, 2, requires_grad=True)])
    with pytest.raises(ValueError, match="Muon only supports 2D parameters"):
        optimizer.add_param_group({"params": [gl.ones(2, requires_grad=True)]})


# --------------------------------------------------------------------------------------------------- state and groups

RICH = {
    "Adam": {"amsgrad": True},
    "AdamW": {"amsgrad": True},
    "Adagrad": {"initial_accumulator_value": 0.5},
    "ASGD": {"t0": 2, "lambd": 0.1},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "SGD": {"momentum": 0.9},
}


@pytest.mark.parametrize("name", NAMES)
def test_a_state_of_pytorch_loads(backend, name):
    with in_float64(), gl.using_backend(engine(backend)):
        ours, theirs, a, b = both(name, **RICH.get(name, {}))
        for step in range(5):
            give(name, ours, theirs, step)
            b.step()
        with gl.no_grad():
            for p, q in zip(ours, theirs, strict=True):
                p.copy_(of_gradloom(q.detach().numpy()))
        a.load_state_dict(b.state_dict())
        for step in range(5, 9):
            give(name, ours, theirs, step)
            a.step(), b.step()
        compare(ours, theirs)


@pytest.mark.parametrize("late", [False, True], ids=["", "a parameter without updates"])
@pytest.mark.parametrize("name", NAMES)
def test_pytorch_loads_a_state(name, late):
    with in_float64():
        ours, theirs, a, b = both(name, **RICH.get(name, {}))
        for step in range(5):
            give(name, ours, theirs, step, skip={1} if late else ())
            a.step()
        with torch.no_grad():
            for p, q in zip(ours, theirs, strict=True):
                q.copy_(of_torch(p.detach()))
        assert set(a.state_dict()) == set(b.state_dict()) == {"state", "param_groups"}
        b.load_state_dict(of_torch(a.state_dict()))
        for step in range(5, 9):
            give(name, ours, theirs, step)
            a.step(), b.step()
        compare(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_groups_that_are_added(name):
    with in_float64():
        ours, theirs = parameters(name)
        a, b = getattr(optim, name)(ours[:2]), getattr(torch.optim, name)(theirs[:2])
        for step in range(6):
            if step == 3:
                a.add_param_group({"params": ours[2:], "lr": 0.05})
                b.add_param_group({"params": theirs[2:], "lr": 0.05})
            give(name, ours, theirs, step)
            a.step(), b.step()
        compare(ours, theirs)
        assert [len(g["params"]) for g in a.param_groups] == [len(g["params"]) for g in b.param_groups]
        assert [g["params"] for g in a.state_dict()["param_groups"]] == [
            g["params"] for g in b.state_dict()["param_groups"]
        ]


@pytest.mark.parametrize("name", INFOS)
def test_named_parameters(name):
    saved = []
    for module, ones in ((optim, gl.ones), (torch.optim, torch.ones)):
        a = getattr(module, name)([("one", ones(2, 2, requires_grad=True)), ("two", ones(3, 2, requires_grad=True))])
        if name != "LBFGS":
            a.add_param_group({"params": [("three", ones(2, 2, requires_grad=True))]})
            with pytest.raises(ValueError, match="cannot add param group without names to the optimizer"):
                a.add_param_group({"params": [ones(2, 2, requires_grad=True)]})
        saved.append([g["param_names"] for g in a.state_dict()["param_groups"]])
    assert saved[0] == saved[1]


# -------------------------------------------------------------------------------------------------------------- hooks


@pytest.mark.parametrize("name", INFOS)
def test_hooks(name):
    logs = []
    for module, hooks, ones in ((optim, bound, gl.ones), (torch.optim, torch_optimizer, torch.ones)):
        log: list = []
        w = ones(2, 2, requires_grad=True)
        a = getattr(module, name)([w])

        def closure(w=w):
            w.grad = None
            loss = (w * w).sum()
            loss.backward()
            return loss

        def note(text, log=log):
            return lambda *args: log.append((text, len(args)))

        handles = [
            hooks.register_optimizer_step_pre_hook(note("every pre")),
            hooks.register_optimizer_step_post_hook(note("every post")),
            a.register_step_pre_hook(note("pre")),
            a.register_step_pre_hook(lambda optimizer, args, kwargs: (args, kwargs)),
            a.register_step_post_hook(note("post")),
            a.register_state_dict_pre_hook(note("saving")),
            a.register_state_dict_post_hook(note("saved")),
            a.register_state_dict_post_hook(note("saved first"), prepend=True),
            a.register_load_state_dict_pre_hook(note("loading")),
            a.register_load_state_dict_pre_hook(note("loading first"), prepend=True),
            a.register_load_state_dict_post_hook(note("loaded")),
        ]
        for _ in range(2):
            assert float(a.step(closure)) >= 0
            a.load_state_dict(a.state_dict())
            for handle in handles:
                handle.remove()
        a.register_state_dict_post_hook(lambda optimizer, state: {**state, "more": 1})
        log.append(a.state_dict()["more"])
        a.register_step_pre_hook(lambda optimizer, args, kwargs: 3)
        with pytest.raises(RuntimeError, match=r"must return None or a tuple of \(new_args, new_kwargs\), but got 3"):
            a.step(closure)
        logs.append(log)
    assert logs[0] == logs[1] and len(logs[0]) == 11


def test_a_hook_gives_another_closure():
    for module, ones in ((optim, gl.ones), (torch.optim, torch.ones)):
        a = module.SGD([ones(2, requires_grad=True)])
        a.register_step_pre_hook(lambda optimizer, args, kwargs: ((args[0], lambda: 5), kwargs))
        assert a.step(lambda: 4) == 5
        assert a.step() == 5


# ------------------------------------------------------------------------------------------------------ compiled steps


def network(name, options):
    gl.manual_seed(0)
    layers = nn.Sequential(nn.Linear(3, 4, bias=name != "Muon"), nn.Tanh(), nn.Linear(4, 2, bias=name != "Muon"))
    optimizer = getattr(optim, name)(layers.parameters(), **options)

    def step(x):
        optimizer.zero_grad()
        loss = (layers(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    return layers, optimizer, step


@pytest.mark.parametrize("name", NAMES)
def test_changed_options_do_not_compile_again(backend, name):
    x, results = gl.tensor(np.random.default_rng(0).normal(size=(5, 3)).astype("float32")), []
    for compiled in (False, True):
        layers, optimizer, step = network(name, {"lr": 0.02})
        (group,) = optimizer.param_groups
        f = gl.jit(step) if compiled else step
        for k in range(6):
            for option, value in group.items():
                if option == "lr":
                    group[option] = value * 0.8
                elif option == "betas":
                    group[option] = (0.9 - 0.01 * k, 0.99 - 0.01 * k)
                elif option in ("eps", "alpha", "lambd", "rho", "momentum_decay") and type(value) is float:
                    group[option] = value * 0.99
            f(x)
        results.append([p.detach().numpy().copy() for p in layers.parameters()])
    assert f.compiles == 1
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_rate_that_is_a_tensor(backend, name):
    """It may be changed in place; betas too."""
    x, results = gl.tensor(np.random.default_rng(0).normal(size=(5, 3)).astype("float32")), []
    for kind in ("numbers", "tensors", "compiled"):
        numbers = kind == "numbers"
        lr = 0.1 if numbers else gl.tensor(0.1)
        options = {"lr": lr}
        if name in ("Adam", "AdamW"):
            options["betas"] = (0.8, 0.9) if numbers else (gl.tensor(0.8), gl.tensor([0.9]))
        layers, optimizer, step = network(name, options)
        f = gl.jit(step) if kind == "compiled" else step
        for _ in range(4):
            f(x)
            if numbers:
                optimizer.param_groups[0]["lr"] *= 0.5
                optimizer.param_groups[0].update({"betas": (0.4, 0.9)} if "betas" in options else {})
            else:
                lr.mul_(0.5)
                if "betas" in options:
                    options["betas"][0].fill_(0.4)
        results.append([p.detach().numpy().copy() for p in layers.parameters()])
    assert f.compiles == 1
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(b, a, rtol=2e-4, atol=1e-5)


def test_the_printed_source_has_the_rule():
    for name in NAMES:
        layers, optimizer, step = network(name, {})
        f = gl.jit(step)
        f(gl.ones(5, 3))
        rule = optimizer.rule.name
        lines = [line for line in f.source.splitlines() if f"= {rule}(" in line]
        assert len(lines) == 1 and not math.isnan(f(gl.ones(5, 3)).item()), name
        assert f"def {rule}" in f.source


@pytest.mark.parametrize("name", INFOS)
def test_nothing_warns(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        w = gl.ones(2, 2, requires_grad=True)
        optimizer = getattr(optim, name)([w])

        def closure():
            optimizer.zero_grad()
            loss = (w * w).sum()
            loss.backward()
            return loss

        before = w.detach().clone()
        optimizer.step(closure)
        assert not w.detach().equal(before)
