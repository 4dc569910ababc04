"""Optimizers that PyTorch lacks: 20 steps in float64 against optax, and against the papers in plain NumPy where optax differs."""

import copy
import math

import numpy as np
import pytest

import gradloom as gl

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

STEPS = 20
SHAPES = [(3, 4), (5,), ()]
NAMES = ["Lion", "AdaBelief", "Yogi", "Adan", "ADOPT", "AdEMAMix", "SGDScheduleFree", "AdamWScheduleFree", "SophiaG"]


def start():
    rng = np.random.default_rng(0)
    return [rng.normal(size=s) for s in SHAPES]


def gradients(step):
    rng = np.random.default_rng(100 + step)
    return [rng.normal(size=s) for s in SHAPES]


# --- references: functions (p, gradients of all steps, options) -> p after them, for one parameter


def lion(p, gradients, *, lr, betas=(0.9, 0.99), weight_decay=0.0):
    m = 0.0
    for g in gradients:
        p = p - lr * (np.sign(betas[0] * m + (1 - betas[0]) * g) + weight_decay * p)
        m = betas[1] * m + (1 - betas[1]) * g
    return p


def adabelief(
    p, gradients, *, lr, betas=(0.9, 0.999), eps=1e-16, weight_decay=0, weight_decouple=True, fixed_decay=False,
    amsgrad=False, rectify=True, degenerated_to_sgd=True,
):  # fmt: skip
    beta1, beta2 = betas
    m, s, top = 0.0, 0.0, 0.0
    longest = 2 / (1 - beta2) - 1
    for t, g in enumerate(gradients, 1):
        if weight_decouple:
            p = p * (1 - (weight_decay if fixed_decay else lr * weight_decay))
        else:
            g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * (g - m) ** 2 + eps
        top = np.maximum(top, s) if amsgrad else s
        c1, c2 = 1 - beta1**t, 1 - beta2**t
        if not rectify:
            p = p - lr * (m / c1) / (np.sqrt(top / c2) + eps)
            continue
        rho = longest - 2 * t * beta2**t / c2
        if rho >= 5:
            r = math.sqrt((rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho))
            p = p - lr * r * math.sqrt(c2) * (m / c1) / (np.sqrt(top) + eps)
        elif degenerated_to_sgd:
            p = p - lr * m / c1
    return p


def adan(p, gradients, *, lr, betas=(0.98, 0.92, 0.99), eps=1e-8, weight_decay=0.0, no_prox=False):
    m = v = n = 0.0
    a, b, c = (1 - beta for beta in betas)  # the paper's betas
    before = gradients[0]
    for t, g in enumerate(gradients, 1):
        d, before = g - before, g
        m = (1 - a) * m + a * g
        v = (1 - b) * v + b * d
        n = (1 - c) * n + c * (g + (1 - b) * d) ** 2
        step = m / (1 - (1 - a) ** t) + (1 - b) * v / (1 - (1 - b) ** t)
        step = lr * step / (np.sqrt(n / (1 - (1 - c) ** t)) + eps)
        p = p * (1 - lr * weight_decay) - step if no_prox else (p - step) / (1 + lr * weight_decay)
    return p


def adopt(p, gradients, *, lr, betas=(0.9, 0.9999), eps=1e-6, weight_decay=0.0, decoupled=False, clip_power=0.25):
    m, v = 0.0, None
    for t, g in enumerate(gradients):
        if decoupled:
            p = p - lr * weight_decay * p
        else:
            g = g + weight_decay * p
        if v is None:
            v = g * g
            continue
        n = g / np.maximum(np.sqrt(v), eps)
        if clip_power is not None:
            n = np.clip(n, -(t**clip_power), t**clip_power)
        m = betas[0] * m + (1 - betas[0]) * n
        p = p - lr * m
        v = betas[1] * v + (1 - betas[1]) * g * g
    return p


def ademamix(
    p, gradients, *, lr, betas=(0.9, 0.999, 0.9999), alpha=2.0, beta3_warmup=None, alpha_warmup=None, eps=1e-8, weight_decay=0,
):  # fmt: skip
    beta1, beta2, beta3 = betas
    m1 = m2 = v = 0.0

    def half(beta):
        return math.log(0.5) / math.log(beta + 1e-8) - 1

    for t, g in enumerate(gradients, 1):
        a, b = alpha, beta3
        if alpha_warmup and t < alpha_warmup:
            a = alpha * t / alpha_warmup
        if beta3_warmup and t < beta3_warmup:
            part = t / beta3_warmup
            b = 0.5 ** (1 / ((1 - part) * half(beta1) + part * half(beta3) + 1))
        m1 = beta1 * m1 + (1 - beta1) * g
        m2 = b * m2 + (1 - b) * g
        v = beta2 * v + (1 - beta2) * g * g
        step = (m1 / (1 - beta1**t) + a * m2) / (np.sqrt(v / (1 - beta2**t)) + eps)
        p = p - lr * (step + weight_decay * p)
    return p


def schedule_free(p, gradients, beta, direction, *, lr, warmup_steps=0, r=0.0, weight_lr_power=2.0):
    """The paper's three sequences; gives y and x."""
    x = z = y = p
    total = largest = 0.0
    for t, g in enumerate(gradients, 1):
        rate = lr * min(1.0, t / warmup_steps) if warmup_steps else lr
        largest = max(largest, rate)
        weight = t**r * largest**weight_lr_power
        total += weight
        z = z - rate * direction(t, g, y)
        x = x + weight / total * (z - x)
        y = (1 - beta) * z + beta * x
    return y, x


def sgd_schedule_free(p, gradients, *, momentum=0.9, weight_decay=0, **options):
    return schedule_free(p, gradients, momentum, lambda t, g, y: g + weight_decay * y, **options)


def adamw_schedule_free(p, gradients, *, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, **options):
    v = 0.0

    def direction(t, g, y):
        nonlocal v
        v = betas[1] * v + (1 - betas[1]) * g * g
        return g / (np.sqrt(v / (1 - betas[1] ** t)) + eps) + weight_decay * y

    return schedule_free(p, gradients, betas[0], direction, **options)


def sophia(p, gradients, *, lr, betas=(0.965, 0.99), rho=0.04, weight_decay=0.1, bs=5120, eps=1e-15):
    """With the Hessian's estimate taken from the gradient after steps 1, 4, 7, ..."""
    m = h = np.zeros_like(p)
    for t, g in enumerate(gradients):
        p = p * (1 - lr * weight_decay)
        m = betas[0] * m + (1 - betas[0]) * g
        p = p - lr * np.sign(m) * np.minimum(np.abs(m) / (rho * bs * h + eps), 1)
        if t % 3 == 0:
            h = betas[1] * h + (1 - betas[1]) * g * g
    return p


def by_optax(make):
    """A reference from a GradientTransformation."""

    def reference(p, gradients, **_):
        with jax.enable_x64(True):
            transformation = make()
            p = jax.numpy.asarray(p)
            state = transformation.init(p)
            for g in gradients:
                updates, state = transformation.update(jax.numpy.asarray(g), state, p)
                p = optax.apply_updates(p, updates)
            if hasattr(state, "z"):
                return np.asarray(p), np.asarray(optax.contrib.schedule_free_eval_params(state, p))
            return np.asarray(p)

    return reference


CASES = [
    ("Lion", {"lr": 0.01}, by_optax(lambda: optax.lion(0.01, weight_decay=0.0))),
    ("Lion", {"lr": 0.01, "betas": (0.95, 0.98), "weight_decay": 0.5},
        by_optax(lambda: optax.lion(0.01, 0.95, 0.98, weight_decay=0.5))),
    ("Lion", {"lr": 0.01, "weight_decay": 0.1}, lion),
    ("AdaBelief", {"lr": 0.01, "rectify": False}, by_optax(lambda: optax.adabelief(0.01))),
    ("AdaBelief", {"lr": 0.01, "rectify": False, "eps": 1e-5, "betas": (0.8, 0.9)},
        by_optax(lambda: optax.adabelief(0.01, 0.8, 0.9, 1e-5, 1e-5))),
    ("AdaBelief", {"lr": 0.01, "weight_decay": 0.1}, adabelief),
    ("AdaBelief", {"lr": 0.01, "weight_decay": 0.1, "fixed_decay": True, "degenerated_to_sgd": False}, adabelief),
    ("AdaBelief", {"lr": 0.01, "weight_decay": 0.1, "weight_decouple": False, "amsgrad": True}, adabelief),
    ("AdaBelief", {"lr": 0.01, "rectify": False, "amsgrad": True, "betas": (0.9, 0.9), "eps": 1e-8}, adabelief),
    ("AdaBelief", {"lr": 0.01, "betas": (0.9, 0.6)}, adabelief),  # too short a mean for any rectification
    ("Yogi", {"lr": 0.01}, by_optax(lambda: optax.yogi(0.01))),
    ("Yogi", {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-5, "initial_accumulator": 0.1, "weight_decay": 0.2},
        by_optax(lambda: optax.chain(optax.add_decayed_weights(0.2), optax.scale_by_yogi(
            0.8, 0.9, 1e-5, initial_accumulator_value=0.1), optax.scale(-0.01)))),
    # optax takes 1 - beta2 where the paper has beta2 (in the sense of these betas)
    ("Adan", {"lr": 0.01, "betas": (0.98, 0.5, 0.99), "no_prox": True, "weight_decay": 0.1},
        by_optax(lambda: optax.adan(0.01, 0.98, 0.5, 0.99, 1e-8, 0.0, 0.1))),
    ("Adan", {"lr": 0.01}, adan),
    ("Adan", {"lr": 0.01, "betas": (0.9, 0.8, 0.95), "weight_decay": 0.1, "eps": 1e-3}, adan),
    ("Adan", {"lr": 0.01, "no_prox": True, "weight_decay": 0.1}, adan),
    ("ADOPT", {"lr": 0.01}, by_optax(lambda: optax.contrib.adopt(0.01))),
    ("ADOPT", {"lr": 0.01, "betas": (0.8, 0.9), "eps": 0.5, "clip_power": None},
        by_optax(lambda: optax.contrib.adopt(0.01, 0.8, 0.9, 0.5, use_clipping=False))),
    ("ADOPT", {"lr": 0.01, "weight_decay": 0.1, "clip_power": 0.1}, adopt),
    ("ADOPT", {"lr": 0.01, "weight_decay": 0.1, "decoupled": True}, adopt),
    ("AdEMAMix", {"lr": 0.01}, by_optax(lambda: optax.contrib.ademamix(0.01, alpha=2.0))),
    ("AdEMAMix", {"lr": 0.01, "betas": (0.8, 0.9, 0.99), "alpha": 5.0, "eps": 1e-4, "weight_decay": 0.1},
        by_optax(lambda: optax.contrib.ademamix(0.01, 0.8, 0.9, 0.99, 5.0, 1e-4, weight_decay=0.1))),
    ("AdEMAMix", {"lr": 0.01, "alpha_warmup": 7, "beta3_warmup": 12, "weight_decay": 0.1}, ademamix),
    ("AdEMAMix", {"lr": 0.01, "alpha_warmup": 100, "beta3_warmup": 100}, ademamix),
    ("SGDScheduleFree", {"lr": 0.1}, by_optax(lambda: optax.contrib.schedule_free_sgd(0.1))),
    ("SGDScheduleFree", {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.1, "weight_lr_power": 0.0},
        by_optax(lambda: optax.contrib.schedule_free_sgd(0.1, b1=0.8, weight_decay=0.1, weight_lr_power=0.0))),
    ("SGDScheduleFree", {"lr": 0.1, "warmup_steps": 7, "weight_decay": 0.1}, sgd_schedule_free),
    ("SGDScheduleFree", {"lr": 0.1, "warmup_steps": 30, "r": 1.0, "weight_lr_power": 1.0}, sgd_schedule_free),
    ("AdamWScheduleFree", {"lr": 0.01}, by_optax(lambda: optax.contrib.schedule_free_adamw(0.01))),
    ("AdamWScheduleFree", {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-4, "weight_decay": 0.1},
        by_optax(lambda: optax.contrib.schedule_free_adamw(0.01, None, 0.8, 0.9, 1e-4, 0.1))),
    ("AdamWScheduleFree", {"lr": 0.01, "warmup_steps": 7, "weight_decay": 0.1}, adamw_schedule_free),
    ("AdamWScheduleFree", {"lr": 0.01, "warmup_steps": 30, "r": 1.0, "weight_lr_power": 1.0}, adamw_schedule_free),
    ("SophiaG", {"lr": 0.01, "bs": 10}, sophia),
    ("SophiaG", {"lr": 0.01, "bs": 10, "betas": (0.8, 0.5), "rho": 0.5, "weight_decay": 0.0, "eps": 1e-3}, sophia),
]  # fmt: skip


def make(name, backend, dtype="float64", **options):
    """(parameters, optimizer, a step that is given gradients)."""
    params = [gl.tensor(v.astype(dtype), requires_grad=True) for v in start()]
    optimizer = getattr(gl.optim, name)(params, **options)

    def step(*grads):
        optimizer.zero_grad()
        sum((p * g).sum() for p, g in zip(params, grads, strict=True)).backward()
        optimizer.step()

    return params, optimizer, step


def estimate(optimizer, params):
    def update(*grads):
        optimizer.zero_grad()
        sum((p * g).sum() for p, g in zip(params, grads, strict=True)).backward()
        optimizer.update_hessian()

    return update


def tensors(step, dtype="float64"):
    return [gl.tensor(g.astype(dtype)) for g in gradients(step)]


def wide(backend):
    """A context in which the backend has float64."""
    return gl.using_backend(gl.JaxBackend(dtype="float64") if backend == "jax" else backend)


def values(params):
    return [np.array(p.detach().numpy()) for p in params]


def assert_close(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)


@pytest.fixture(scope="module")
def expected():
    """What a case's reference gives, computed once: [a parameter's values, or (y, x)]."""
    found = {}

    def get(k):
        if k not in found:
            _, options, reference = CASES[k]
            every = [gradients(step) for step in range(STEPS)]
            found[k] = [reference(p, [g[i] for g in every], **options) for i, p in enumerate(start())]
        return found[k]

    return get


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("k", range(len(CASES)), ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(CASES)])
def test_numbers(backend, expected, k, compiled):
    name, options, _ = CASES[k]
    with wide(backend):
        params, optimizer, step = make(name, backend, **options)
        update = estimate(optimizer, params) if name == "SophiaG" else None
        if compiled:
            step, update = gl.jit(step), update and gl.jit(update)
        for t in range(STEPS):
            grads = tensors(t)
            step(*grads)
            if update and t % 3 == 0:
                update(*grads)
        if not name.endswith("ScheduleFree"):
            assert_close(values(params), expected(k))
            return
        assert_close(values(params), [y for y, _ in expected(k)])
        optimizer.eval()
        assert_close(values(params), [x for _, x in expected(k)])
        optimizer.train()
        assert_close(values(params), [y for y, _ in expected(k)])


@pytest.mark.parametrize("name", NAMES)
def test_maximize_is_the_step_of_the_negative_gradient(name):
    results = []
    for sign, maximize in ((1, True), (-1, False)):
        params, _, step = make(name, "numpy", lr=0.01, weight_decay=0.1, maximize=maximize)
        for t in range(4):
            step(*(sign * g for g in tensors(t)))
        results.append(values(params))
    assert_close(*results)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_without_a_gradient_in_some_steps(name):
    """Each counts its own steps: it is as if the others were not there."""
    seen = [[0, 1, 2, 3, 4, 5], [3, 4, 5], [0, 2, 5]]
    params = [gl.tensor(v, requires_grad=True) for v in start()]
    optimizer = getattr(gl.optim, name)(params, lr=0.01)
    for t in range(6):
        for i, p in enumerate(params):
            p.grad = tensors(t)[i] if t in seen[i] else None
        optimizer.step()
    found = values(params)
    for i, steps in enumerate(seen):
        alone = gl.tensor(start()[i], requires_grad=True)
        optimizer = getattr(gl.optim, name)([alone], lr=0.01)
        for t in steps:
            alone.grad = tensors(t)[i]
            optimizer.step()
        assert_close([found[i]], values([alone]))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", NAMES)
def test_state_dict_resumes(backend, name, compiled):
    params, optimizer, step = make(name, backend, "float32", lr=0.01, weight_decay=0.1)
    run = gl.jit(step) if compiled else step
    for t in range(3):
        run(*tensors(t, "float32"))
        if name == "SophiaG":
            optimizer.update_hessian([g.square() for g in tensors(t, "float32")])
    others, again, step = make(name, backend, "float32", lr=0.5)
    with gl.no_grad():
        for p, q in zip(params, others, strict=True):
            q.copy_(p)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    other = gl.jit(step) if compiled else step
    for t in range(3, 6):
        run(*tensors(t, "float32"))
        other(*tensors(t, "float32"))
    for a, b in zip(values(params), values(others), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_rate_does_not_compile_again(backend, name):
    results = []
    for compiled in (False, True):
        params, optimizer, step = make(name, backend, "float32", lr=0.01)
        step = gl.jit(step) if compiled else step
        for t, lr in enumerate((0.01, 0.02, 0.0, 0.01)):
            optimizer.param_groups[0]["lr"] = lr
            step(*tensors(t, "float32"))
        results.append(values(params))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert step.compiles == 1


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [(name, {"lr": -1.0}, "Invalid learning rate: -1.0") for name in NAMES]
    + [(name, {"weight_decay": -1}, "Invalid weight_decay value: -1") for name in NAMES]
    + [
        (name, {"betas": (0.5, 1.0, 0.5)[: 3 if name in ("Adan", "AdEMAMix") else 2]}, "Invalid beta parameter at index 1: 1.0")
        for name in NAMES
        if name != "SGDScheduleFree"
    ]
    + [
        (name, {"eps": -1}, "Invalid epsilon value: -1")
        for name in ("AdaBelief", "Yogi", "Adan", "ADOPT", "AdEMAMix", "AdamWScheduleFree", "SophiaG")
    ]
    + [
        ("AdaBelief", {"fixed_decay": True, "weight_decouple": False}, "needs weight_decouple=True"),
        ("Yogi", {"initial_accumulator": -1}, "Invalid initial_accumulator value: -1"),
        ("ADOPT", {"clip_power": 0}, "Invalid clip_power value: 0"),
        ("AdEMAMix", {"alpha": -1}, "Invalid alpha value: -1"),
        ("AdEMAMix", {"beta3_warmup": -1}, "Invalid beta3_warmup value: -1"),
        ("SGDScheduleFree", {"momentum": 1.0}, "Momentum must be between 0 and 1 exclusive: 1.0"),
        ("SGDScheduleFree", {"momentum": 0.0}, "Momentum must be between 0 and 1 exclusive: 0.0"),
        ("SGDScheduleFree", {"warmup_steps": -1}, "Invalid warmup_steps value: -1"),
        ("AdamWScheduleFree", {"betas": (0.0, 0.9)}, "Invalid beta parameter at index 0: 0.0"),
        ("SophiaG", {"rho": -1}, "Invalid rho value: -1"),
        ("SophiaG", {"bs": -1}, "Invalid bs value: -1"),
    ],
)  # fmt: skip
def test_refused_options(name, options, text):
    with pytest.raises(ValueError) as caught:
        make(name, "numpy", **options)
    assert text in str(caught.value)


# --- Schedule-Free


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", ["SGDScheduleFree", "AdamWScheduleFree"])
def test_schedule_free_switches_between_steps(backend, name, compiled):
    """The average is that of all z, wherever it is looked at; and a compiled step goes on after it."""
    params, optimizer, step = make(name, backend, "float32", lr=0.1)
    run = gl.jit(step) if compiled else step
    optimizer.eval()  # before any step: nothing to switch
    for a, b in zip(values(params), start(), strict=True):
        np.testing.assert_array_equal(a, b.astype("float32"))
    optimizer.train()
    average = [0.0] * len(params)
    for t in range(1, 5):
        run(*tensors(t, "float32"))
        points = [np.array(optimizer.state[p]["z"]) for p in params]
        average = [a + (z - a) / t for a, z in zip(average, points, strict=True)]
        before = values(params)
        optimizer.eval()
        optimizer.eval()  # again: nothing more
        for a, b in zip(values(params), average, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        with pytest.raises(RuntimeError, match=r"(?s)step\(\) in eval mode.*call optimizer.train\(\)"):
            run(*tensors(t, "float32"))
        optimizer.train()
        for a, b in zip(values(params), before, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    if compiled:
        assert run.compiles == 1


def test_schedule_free_does_not_switch_in_a_compiled_function():
    params, optimizer, step = make("SGDScheduleFree", "numpy", lr=0.1)
    step(*tensors(0))

    @gl.jit
    def f(x):
        optimizer.eval()
        return params[0].sum() + x

    with pytest.raises(
        gl.errors.TraceError, match=r"(?s)SGDScheduleFree.eval\(\) in a compiled function.*call it outside"
    ):
        f(gl.tensor(1.0))
    assert optimizer.param_groups[0]["train_mode"]


def test_schedule_free_saves_its_mode():
    params, optimizer, step = make("AdamWScheduleFree", "numpy", lr=0.1)
    step(*tensors(0)), step(*tensors(1))
    y = values(params)
    optimizer.eval()
    others, again, step2 = make("AdamWScheduleFree", "numpy", lr=0.1)
    with gl.no_grad():
        for p, q in zip(params, others, strict=True):
            q.copy_(p)
    again.load_state_dict(optimizer.state_dict())
    with pytest.raises(RuntimeError, match="in eval mode"):
        step2(*tensors(2))
    again.train()
    assert_close(values(others), y)


def test_schedule_free_starts_where_the_parameter_is_at_its_first_step():
    """Not where it was when a compiled step made room for z."""
    results = []
    for compiled in (False, True):
        a, b = gl.ones(2, requires_grad=True), gl.ones(2, requires_grad=True)
        optimizer = gl.optim.SGDScheduleFree([a, b], lr=0.1)

        def step(x, both, a=a, b=b, optimizer=optimizer):
            optimizer.zero_grad()
            ((a * x).sum() + (b * x).sum() if both else (a * x).sum()).backward()
            optimizer.step()

        f = gl.jit(step) if compiled else step
        for both in (False, False, True, True):
            with gl.no_grad():
                if both and optimizer.state.get(b) is None:
                    b.copy_(gl.tensor([5.0, 7.0]))
            f(gl.tensor([1.0, 2.0]), both)
        results.append([*values([a, b]), np.array(optimizer.state[b]["z"])])
    for found in results:
        np.testing.assert_allclose(found[2], [4.8, 6.6], rtol=1e-6)
    for x, y in zip(*results, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)


def test_schedule_free_weights_of_a_rate_of_zero():
    params, optimizer, step = make("SGDScheduleFree", "numpy", lr=0.0)
    step(*tensors(0)), step(*tensors(1))
    assert_close(values(params), start())


# --- Sophia


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_sophia_with_a_given_hessian(backend, compiled):
    """A quadratic with its true curvature: Newton's method, so that the condition does not matter."""
    curvature = gl.tensor([1.0, 10.0, 1000.0, -1.0])
    target = gl.tensor([1.0, -2.0, 0.5, 3.0])
    w = gl.zeros(4, requires_grad=True)
    optimizer = gl.optim.SophiaG([w], lr=0.1, betas=(0.0, 0.0), rho=0.5, weight_decay=0.0, bs=1)

    def step(x):
        optimizer.zero_grad()
        ((w - target) ** 2 * curvature.abs()).sum().backward()
        optimizer.update_hessian([curvature])
        optimizer.step()
        return x

    f = gl.jit(step) if compiled else step
    for _ in range(60):
        f(gl.tensor(0.0))
    np.testing.assert_allclose(optimizer.state[w]["hessian"].numpy(), curvature.numpy())
    np.testing.assert_allclose(w.detach().numpy()[:3], target.numpy()[:3], atol=0.01)
    # The negative one counts as 0: its element moves by lr at each step.
    assert abs(w.detach().numpy()[3] - 3.0) <= 0.1001


def test_sophia_takes_estimates_of_some_parameters():
    params, optimizer, step = make("SophiaG", "numpy", lr=0.1)
    step(*tensors(0))
    given = [gl.ones(*SHAPES[0], dtype=gl.float64), None, gl.tensor(2.0, dtype=gl.float64)]
    optimizer.update_hessian(given)
    found = [optimizer.state[p]["hessian"].numpy() for p in params]
    assert_close(found, [np.full(SHAPES[0], 0.01), np.zeros(5), np.float64(0.02)])


def test_sophia_refuses_estimates_that_do_not_fit():
    params, optimizer, _ = make("SophiaG", "numpy", lr=0.1)
    with pytest.raises(gl.errors.ShapeError, match=r"(?s)one estimate for each parameter.*expected: 3.*given: +1"):
        optimizer.update_hessian([params[0].detach()])
    with pytest.raises(gl.errors.ShapeError, match=r"(?s)estimate 1 has another shape.*\(5,\).*\(3, 4\)"):
        optimizer.update_hessian([params[0].detach(), params[0].detach(), params[2].detach()])


@pytest.mark.parametrize("name", NAMES)
def test_large_parameters_get_the_same_numbers(name, monkeypatch):
    """They are updated by machine code where Numba is installed."""
    rng = np.random.default_rng(0)
    first, grads = rng.normal(size=70_000), [rng.normal(size=70_000) for _ in range(3)]
    results = []
    for fast in ("0", "1"):
        monkeypatch.setenv("GRADLOOM_FAST", fast)
        p = gl.tensor(first, requires_grad=True)
        optimizer = getattr(gl.optim, name)([p], lr=0.01, weight_decay=0.1)
        for g in grads:
            p.grad = gl.tensor(g)
            optimizer.step()
        results.append(values([p]))
    assert_close(*results)
