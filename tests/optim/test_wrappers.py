"""Wrappers of functional optimizers: against torch, optax and plain loops; on all engines, in jits, and bound to Tensors."""

import numpy as np
import pytest

import gradloom as gl
from gradloom.errors import OptionError
from gradloom.training import optimizers as O

SHAPES = {"a.weight": (3, 4), "a.bias": (3,), "b.scale": ()}
STEPS = 7


def values(seed, dtype="float64"):
    rng = np.random.default_rng(seed)
    return {n: rng.normal(size=s).astype(dtype) for n, s in SHAPES.items()}


def gradient_of(params):
    """A function that has gradients, for SAM: of sum(p**4) / 4 + sum(p)."""
    return {n: p * p * p + 1 for n, p in params.items()}


def train(optimizer, steps=STEPS, to=lambda x: x, back=lambda x: x, jit=lambda f: f, dtype="float64", bad=()):
    """Parameters and state after some updates; gradients are drawn, or given by `gradient_of` for SAM."""
    params = {n: to(v) for n, v in values(0, dtype).items()}
    state = optimizer.init(params)
    more = (gradient_of,) if isinstance(optimizer, O.SAM) else ()
    update = jit(lambda p, g, s: optimizer.update(p, g, s, *more))
    for k in range(steps):
        g = values(100 + k, dtype)
        if k in bad:
            g["a.bias"][1] = [np.nan, np.inf][k % 2]
        params, state = update(params, {n: to(v) for n, v in g.items()}, state)
    return {n: np.asarray(back(p)) for n, p in params.items()}, state


def close(a, b, tolerance=1e-12):
    for n in SHAPES:
        np.testing.assert_allclose(a[n], b[n], rtol=tolerance, atol=tolerance, err_msg=n)


def torch_reference(make, change=lambda k, params: None):
    torch = pytest.importorskip("torch")
    params = {n: torch.tensor(v, requires_grad=True) for n, v in values(0).items()}
    optimizer = make(torch, params)
    for k in range(STEPS):
        for n, g in values(100 + k).items():
            params[n].grad = torch.tensor(g)
        change(k, params)
        optimizer.step()
    return {n: p.detach().numpy() for n, p in params.items()}


def optax_reference(make):
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    with jax.enable_x64(True):
        params = {n: jax.numpy.asarray(v) for n, v in values(0).items()}
        t = make(optax)
        state = t.init(params)
        for k in range(STEPS):
            g = {n: jax.numpy.asarray(v) for n, v in values(100 + k).items()}
            updates, state = t.update(g, state, params)
            params = optax.apply_updates(params, updates)
        return {n: np.asarray(p) for n, p in params.items()}


# --- references


@pytest.mark.parametrize("limits", [{"norm": 0.5}, {"norm": 100.0}, {"value": 0.3}], ids=str)
def test_clip_equals_torch(limits):
    torch = pytest.importorskip("torch")

    def clip(k, params):
        if "norm" in limits:
            torch.nn.utils.clip_grad_norm_(params.values(), limits["norm"])
        else:
            torch.nn.utils.clip_grad_value_(params.values(), limits["value"])

    expected = torch_reference(lambda t, p: t.optim.Adam(p.values(), lr=0.1), clip)
    close(train(O.Clip(O.Adam(0.1), **limits))[0], expected)


def test_adaptive_clip_equals_optax():
    expected = optax_reference(lambda optax: optax.chain(optax.adaptive_grad_clip(0.01), optax.sgd(0.1)))
    # Optax's unit of a matrix is a column, as its layers have them; PyTorch's and ours a row.
    mine = {}
    for transposed in (False, True):
        turn = (lambda x: x.T) if transposed else (lambda x: x)
        mine[transposed] = train(O.Clip(O.SGD(0.1), adaptive=0.01), to=turn, back=turn)[0]
    close({**mine[True], "a.bias": mine[False]["a.bias"]}, expected, 1e-10)
    assert not np.allclose(mine[False]["a.weight"], mine[True]["a.weight"])


def test_decoupled_decay_equals_adamw():
    expected = torch_reference(lambda t, p: t.optim.AdamW(p.values(), lr=0.1, weight_decay=0.2))
    close(train(O.WeightDecay(O.Adam(0.1), 0.2))[0], expected)


def test_coupled_decay_of_a_part_equals_groups():
    def groups(t, p):
        decayed, rest = [p["a.weight"]], [p["a.bias"], p["b.scale"]]
        return t.optim.Adam([{"params": decayed, "weight_decay": 0.2}, {"params": rest}], lr=0.1)

    expected = torch_reference(groups)
    for only in ("*.weight", ["*.weight"], {"a.weight": True}, lambda name, p: p.ndim > 1):
        close(train(O.WeightDecay(O.Adam(0.1), 0.2, only, coupled=True))[0], expected)


@pytest.mark.parametrize("mean", [True, False])
def test_accumulate_equals_one_update_for_three_gradients(mean):
    torch = pytest.importorskip("torch")
    params = {n: torch.tensor(v, requires_grad=True) for n, v in values(0).items()}
    optimizer = torch.optim.Adam(params.values(), lr=0.1)
    for k in range(0, STEPS - STEPS % 3, 3):
        gradients = [values(100 + k + i) for i in range(3)]
        for n, p in params.items():
            p.grad = torch.tensor(sum(g[n] for g in gradients) / (3 if mean else 1))
        optimizer.step()
    expected = {n: p.detach().numpy() for n, p in params.items()}
    close(train(O.Accumulate(O.Adam(0.1), 3, mean=mean))[0], expected)


def test_lookahead():
    fast, slow = values(0), values(0)
    for k in range(STEPS):
        g = values(100 + k)
        fast = {n: fast[n] - 0.1 * g[n] for n in fast}
        if k % 3 == 2:
            fast = slow = {n: slow[n] + 0.4 * (fast[n] - slow[n]) for n in fast}
    close(train(O.Lookahead(O.SGD(0.1), steps=3, alpha=0.4))[0], fast)


@pytest.mark.parametrize("adaptive", [True, False])
def test_sam(adaptive):
    params = values(0)
    for k in range(STEPS):
        g = values(100 + k)
        scaled = {n: g[n] * params[n] if adaptive else g[n] for n in g}
        norm = np.sqrt(sum((s**2).sum() for s in scaled.values())) + 1e-12
        up = {n: params[n] + 0.3 * scaled[n] * (params[n] if adaptive else 1) / norm for n in g}
        params = {n: params[n] - 0.01 * gradient_of(up)[n] for n in g}
    close(train(O.SAM(O.SGD(0.01), rho=0.3, adaptive=adaptive))[0], params)


def test_ema_is_the_average_of_the_parameters():
    optimizer = O.EMA(O.SGD(0.1), decay=0.8)
    params, state = train(optimizer)
    p = average = values(0)
    for k in range(STEPS):
        p = {n: p[n] - 0.1 * values(100 + k)[n] for n in p}
        average = {n: 0.8 * average[n] + 0.2 * p[n] for n in p}
    close(params, p)
    close(optimizer.average(params, state), average)


def test_skip_equals_optax_and_counts():
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    mine, state = train(O.SkipNonFinite(O.SGD(0.1, momentum=0.9)), bad=(1, 4))
    with jax.enable_x64(True):
        params = {n: jax.numpy.asarray(v) for n, v in values(0).items()}
        t = optax.apply_if_finite(optax.sgd(0.1, momentum=0.9), 10)
        inner = t.init(params)
        for k in range(STEPS):
            g = values(100 + k)
            if k in (1, 4):
                g["a.bias"][1] = np.nan
            updates, inner = t.update({n: jax.numpy.asarray(v) for n, v in g.items()}, inner, params)
            params = optax.apply_updates(params, updates)
        close(mine, {n: np.asarray(p) for n, p in params.items()})
    assert {int(s["skipped"]) for s in state.values()} == {2}
    assert {int(s["step"]) for s in state.values()} == {STEPS - 2}


def test_a_skipped_update_changes_nothing():
    optimizer = O.SkipNonFinite(O.Adam(0.1))
    params = values(0)
    state = optimizer.init(params)
    params, state = optimizer.update(params, values(1), state)
    g = values(2)
    g["b.scale"] = np.array(np.inf)
    new, after = optimizer.update(params, g, state)
    assert optimizer.skipped
    for n in SHAPES:
        np.testing.assert_array_equal(new[n], params[n])
        for slot in ("step", "exp_avg", "exp_avg_sq"):
            np.testing.assert_array_equal(after[n][slot], state[n][slot])
    optimizer.update(new, values(3), after)
    assert not optimizer.skipped


def test_partition_equals_its_parts():
    parts = {"a.*": lambda: O.Adam(0.1), "*": lambda: O.SGD(0.2, momentum=0.9)}
    mine = train(O.Partition({k: make() for k, make in parts.items()}))[0]
    adam, sgd = train(parts["a.*"]())[0], train(parts["*"]())[0]
    close(mine, {"a.weight": adam["a.weight"], "a.bias": adam["a.bias"], "b.scale": sgd["b.scale"]})


def test_nested_wrappers_reach_a_state_of_one_level():
    optimizer = O.Clip(O.EMA(O.Lookahead(O.Accumulate(O.Adam(0.1), 2), steps=2)), norm=1.0)
    _, state = train(optimizer)
    slots = {"step", "exp_avg", "exp_avg_sq", "accumulated", "micro_step", "slow", "lookahead_step", "ema", "ema_step"}
    assert all(s.keys() == slots for s in state.values())
    assert {int(s["step"]) for s in state.values()} == {STEPS // 2}
    optimizer.learning_rate = 0.5
    assert optimizer.inner.inner.inner.inner.learning_rate == 0.5


# --- everywhere

MAKE = {
    "clip norm": lambda: O.Clip(O.Adam(0.1), norm=0.5),
    "clip adaptive": lambda: O.Clip(O.SGD(0.1), adaptive=0.01),
    "decoupled decay": lambda: O.WeightDecay(O.SGD(0.1, momentum=0.9), 0.2, "a.*"),
    "coupled decay": lambda: O.WeightDecay(O.Adam(0.1), 0.2, coupled=True),
    "accumulate": lambda: O.Accumulate(O.Adam(0.1), 3),
    "ema": lambda: O.EMA(O.Adam(0.1), 0.9),
    "lookahead": lambda: O.Lookahead(O.Adam(0.1), 3),
    "sam": lambda: O.SAM(O.SGD(0.01), 0.1),
    "skip": lambda: O.SkipNonFinite(O.Adam(0.1)),
    "partition": lambda: O.Partition({"a.*": O.Adam(0.1), "*": O.SGD(0.2, momentum=0.9)}),
    "nested": lambda: O.SkipNonFinite(O.Clip(O.EMA(O.Lookahead(O.Accumulate(O.AdamW(0.1), 2), 2)), norm=1.0)),
}
BAD = {"skip": (1, 4), "nested": (2, 3)}
NOT_HERE = {"Wrapper"}


def test_every_wrapper_is_here():
    made = {type(m).__name__ for m in (make() for make in MAKE.values())}
    exported = {n for n in O.__all__ if isinstance(getattr(O, n), type) and "wrappers" in getattr(O, n).__module__}
    assert exported - made - NOT_HERE == set()


@pytest.mark.parametrize("name", MAKE)
def test_on_every_engine(backend, name):
    engine = gl.get_backend(backend)
    expected = train(MAKE[name](), dtype="float32", bad=BAD.get(name, ()))[0]
    given = train(MAKE[name](), to=engine.array, back=engine.to_numpy, dtype="float32", bad=BAD.get(name, ()))[0]
    close(given, expected, 2e-5)


@pytest.mark.parametrize("name", [n for n in MAKE if n != "sam"])
def test_a_state_that_was_saved_goes_on(backend, name):
    """As the guides save it: every slot through NumPy and back."""
    engine = gl.get_backend(backend)
    optimizer = MAKE[name]()
    params = {n: engine.array(v) for n, v in values(0, "float32").items()}
    state = optimizer.init(params)
    for k in range(3):
        params, state = optimizer.update(params, {n: engine.array(g) for n, g in values(k, "float32").items()}, state)
    saved = {n: {slot: engine.to_numpy(x) for slot, x in slots.items()} for n, slots in state.items()}
    loaded = {n: {slot: engine.array(x) for slot, x in slots.items()} for n, slots in saved.items()}
    gradients = {n: engine.array(g) for n, g in values(9, "float32").items()}
    expected, _ = optimizer.update(params, gradients, state)
    given, _ = optimizer.update(params, gradients, loaded)
    for n in SHAPES:
        np.testing.assert_array_equal(engine.to_numpy(given[n]), engine.to_numpy(expected[n]))


@pytest.mark.parametrize("name", MAKE)
def test_inside_jax_jit(name):
    jax = pytest.importorskip("jax")
    expected = train(MAKE[name](), dtype="float32", bad=BAD.get(name, ()))[0]
    given = train(MAKE[name](), to=jax.numpy.asarray, jit=jax.jit, dtype="float32", bad=BAD.get(name, ()))[0]
    close(given, expected, 2e-5)


@pytest.mark.parametrize("name", MAKE)
def test_inside_gradloom_jit(backend, name):
    with gl.using_backend(backend):
        expected = train(MAKE[name](), dtype="float32", bad=BAD.get(name, ()))[0]
        given = train(
            MAKE[name](), to=gl.tensor, back=lambda t: t.numpy(), jit=gl.jit, dtype="float32", bad=BAD.get(name, ())
        )[0]
    close(given, expected, 2e-5)


# --- bound


def bound_training(name, compiled, steps=STEPS, resume_at=None):
    params = {n: gl.tensor(v, requires_grad=True) for n, v in values(0, "float32").items()}
    optimizer = gl.optim.Bound(params.items(), MAKE[name]())

    def closure():
        optimizer.zero_grad()
        loss = sum((p**4).sum() / 4 + p.sum() for p in params.values())
        loss.backward()
        return loss

    def step(factor):
        if name == "sam":
            return optimizer.step(closure)
        optimizer.zero_grad()
        loss = sum((p**4).sum() * factor for p in params.values())
        loss.backward()
        optimizer.step()
        return loss

    run = gl.jit(step) if compiled else step
    for k in range(steps):
        if k == resume_at:
            saved = optimizer.state_dict()
            optimizer = gl.optim.Bound(params.items(), MAKE[name]())
            optimizer.load_state_dict(saved)
            run = gl.jit(step) if compiled else step
        run(gl.tensor(np.float32(np.nan if k in BAD.get(name, ()) else 0.1 + 0.01 * k)))
    return {n: p.detach().numpy().copy() for n, p in params.items()}, optimizer


@pytest.mark.parametrize("name", MAKE)
def test_bound(backend, name):
    with gl.using_backend(backend):
        eager, optimizer = bound_training(name, False)
        compiled, _ = bound_training(name, True)
        resumed, _ = bound_training(name, False, resume_at=3)
    close(compiled, eager, 2e-5)
    for n in SHAPES:
        np.testing.assert_array_equal(resumed[n], eager[n])
        assert not np.array_equal(eager[n], values(0, "float32")[n])
    if name == "skip":
        assert {int(s["skipped"].item()) for s in optimizer.state.values()} == {2}


def test_bound_equals_the_functional_optimizer():
    tensors = {n: gl.tensor(v, requires_grad=True) for n, v in values(0).items()}
    optimizer = gl.optim.Bound(tensors.items(), MAKE["nested"]())
    for k in range(STEPS):
        for n, g in values(100 + k).items():
            tensors[n].grad = gl.tensor(g)
        optimizer.step()
    expected = train(MAKE["nested"]())[0]
    for n in SHAPES:
        np.testing.assert_array_equal(tensors[n].detach().numpy(), expected[n])


def test_rates_of_a_bound_optimizer_change_without_compiling():
    w = gl.tensor([1.0, 2.0], requires_grad=True)
    optimizer = gl.optim.Bound([("w", w)], O.Clip(O.SGD(0.5), norm=1.0))

    @gl.jit
    def step():
        optimizer.zero_grad()
        w.sum().backward()
        optimizer.step()

    step()
    before = w.detach().numpy().copy()
    optimizer.param_groups[0]["lr"] = 0.0
    step()
    np.testing.assert_array_equal(w.detach().numpy(), before)
    gl.optim.lr_scheduler.ScheduleLR(optimizer, lambda t: 1.0)
    step()
    assert not np.array_equal(w.detach().numpy(), before)
    assert step.compiles == 1


def test_groups_of_a_bound_partition():
    layer = gl.nn.Linear(2, 2)
    optimizer = gl.optim.Bound(
        layer.named_parameters(), O.Partition({"bias": O.SGD(0.5), "weight": O.SGD(0.1, momentum=0.9)})
    )
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.1]
    assert [g["param_names"] for g in optimizer.param_groups] == [["bias"], ["weight"]]


# --- refusals


def test_refused():
    with pytest.raises(OptionError, match="takes one limit"):
        O.Clip(O.SGD(0.1))
    with pytest.raises(OptionError, match="takes one limit"):
        O.Clip(O.SGD(0.1), norm=1.0, value=1.0)
    with pytest.raises(ValueError, match="Invalid clipping limit: -1"):
        O.Clip(O.SGD(0.1), norm=-1)
    with pytest.raises(OptionError, match="wraps functional optimizers"):
        O.Clip(gl.optim.SGD([gl.ones(1, requires_grad=True)]), norm=1.0)
    with pytest.raises(ValueError, match="Invalid weight_decay value: -1"):
        O.WeightDecay(O.SGD(0.1), -1)
    with pytest.raises(ValueError, match="steps to accumulate: 0"):
        O.Accumulate(O.SGD(0.1), 0)
    with pytest.raises(ValueError, match="Invalid decay value: 2"):
        O.EMA(O.SGD(0.1), 2)
    with pytest.raises(ValueError, match=r"Invalid alpha value: 1\.5"):
        O.Lookahead(O.SGD(0.1), alpha=1.5)
    with pytest.raises(ValueError, match="Invalid rho value: -1"):
        O.SAM(O.SGD(0.1), -1)
    with pytest.raises(OptionError, match="Partition got no optimizers"):
        O.Partition({})
    params = values(0)
    with pytest.raises(OptionError, match=r"no part of the Partition takes the parameter 'b.scale'"):
        O.Partition({"a.*": O.SGD(0.1)}).init(params)
    with pytest.raises(OptionError, match=r"no parameter is left for the part 'c.\*'"):
        O.Partition({"*": O.SGD(0.1), "c.*": O.SGD(0.1)}).init(params)
    with pytest.raises(OptionError, match="several learning rates"):
        _ = O.Partition({"a": O.SGD(0.1), "b": O.SGD(0.2)}).learning_rate
    sam = O.SAM(O.SGD(0.1))
    with pytest.raises(OptionError, match="asks for gradients twice"):
        sam.update(params, values(1), sam.init(params))
    decay = O.WeightDecay(O.SGD(0.1), 0.1, "wieght*")
    with pytest.raises(OptionError, match=r"no parameter is called 'wieght\*'"):
        decay.update(params, values(1), decay.init(params))
    ema = O.EMA(O.SGD(0.1))
    with pytest.raises(OptionError, match=r"'a.weight' is not one of EMA"):
        ema.update(params, values(1), O.SGD(0.1).init(params))
    with pytest.raises(OptionError, match=r"'a.weight' is not one of SGD"):
        O.SGD(0.1).update(params, values(1), ema.init(params))
