"""The engines' kernels: each against the body that it stands for, on the engine itself and on NumPy in float64."""

import functools
import importlib
import importlib.util
import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gradloom import optim
from gradloom.backends.numpy import xp as NUMPY
from gradloom.backends.registry import BACKENDS, backend_class
from gradloom.dtypes import dtype as as_dtype
from gradloom.graph import chunks, fast
from gradloom.ops.op import REGISTRY, VJPS, Op
from gradloom.optim.rules.rule import HOST, RULES, Rule
from ops import test_composites, test_primitives
from ops.check import cotangent_for, forward, is_float

ENGINES = [name for name in BACKENDS if importlib.util.find_spec(name) is not None]
SAMPLES: dict[str, list] = test_composites.SAMPLES | test_primitives.SAMPLES
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-10}, "float32": {"rtol": 2e-4, "atol": 2e-5}}

#: What the samples of ops do not hold: operands and attributes of kernels that look at values.
SAMPLES["cross_entropy"] += [
    test_composites.Sample((test_composites.normal(3, 4), np.array(target)), {"reduction": r}, None, (), False, {})
    for target in ([0, 4, 1], [-1, 0, 3], [-100, -100, -100], [3, 0, -100])
    for r in test_composites.REDUCTIONS
]

#: name of a rule -> options that select its code, and others that it is to honour.
RULE_OPTIONS: dict[str, list[dict]] = {
    "adam": [
        {"amsgrad": a, "maximize": m, "weight_decay": w, "decoupled_weight_decay": d, "lr": lr}
        for a, m, (w, d), lr in itertools.product(
            (False, True), (False, True), ((0, False), (0.1, False), (0.1, True)), (0.01, 0.0)
        )
    ],
    "sgd": [
        {"momentum": mu, "dampening": damp, "weight_decay": w, "nesterov": n, "maximize": m, "lr": 0.1}
        for mu, damp, n in ((0, 0, False), (0.9, 0, False), (0.9, 0.3, False), (0.9, 0, True))
        for w, m in itertools.product((0, 0.1), (False, True))
    ],
    **{
        name: [
            {"weight_decay": w, "decoupled_weight_decay": d, "maximize": m, "lr": 0.1}
            for (w, d), m in (((0, False), False), ((0.1, False), True), ((0.1, True), False))
        ]
        for name in ("nadam", "radam")
    },
    **{
        name: [{"weight_decay": w, "maximize": m, "lr": 0.1} for w, m in ((0.1, False), (0, True))]
        for name in ("adamax", "adadelta", "adagrad", "asgd", "adafactor")
    },
    "rmsprop": [
        {"weight_decay": w, "momentum": mu, "centered": c, "maximize": w == 0, "eps": 10.0, "lr": 0.1}
        for w, mu, c in ((0.1, 0, False), (0, 0.9, False), (0.1, 0.9, True))
    ],
    "rprop": [{"maximize": m, "lr": 0.1} for m in (False, True)],
    "muon": [{"nesterov": n, "adjust_lr_fn": a, "lr": 0.1} for n, a in ((True, None), (False, "match_rms_adamw"))],
    "lion": [{"weight_decay": w, "maximize": m, "lr": 0.1} for w, m in ((0.1, False), (0, True))],
    "adabelief": [
        {"rectify": True, "weight_decay": 0.1, "lr": 0.1},
        {"rectify": True, "amsgrad": True, "weight_decay": 0.1, "weight_decouple": False, "maximize": True, "lr": 0.1},
        {"rectify": False, "eps": 1e-8, "lr": 0.1},
    ],
    "yogi": [{"weight_decay": w, "maximize": m, "lr": 0.1} for w, m in ((0.1, False), (0, True))],
    "adan": [
        {"weight_decay": 0.1, "lr": 0.1},
        {"weight_decay": 0.1, "no_prox": True, "maximize": True, "lr": 0.1},
        {"lr": 0.1},
    ],
    "adopt": [
        {"lr": 0.1},
        {"weight_decay": 0.1, "decoupled": True, "maximize": True, "lr": 0.1},
        {"weight_decay": 0.1, "clip_power": None, "lr": 0.1},
    ],
    "ademamix": [
        {"weight_decay": w, "maximize": m, "alpha_warmup": 5, "lr": 0.1} for w, m in ((0.1, False), (0, True))
    ],
    "sgd_schedule_free": [{"weight_decay": 0.1, "lr": 0.1}, {"maximize": True, "warmup_steps": 5, "lr": 0.1}],
    "adamw_schedule_free": [{"weight_decay": 0.1, "lr": 0.1}, {"maximize": True, "warmup_steps": 5, "lr": 0.1}],
    "lamb": [
        {"lr": 0.1},
        {"weight_decay": 0, "trust_clip": True, "maximize": True, "lr": 0.1},
        {"adapt": False, "lr": 0.1},
    ],
    "lars": [
        {"lr": 0.1},
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1, "trust_clip": True, "maximize": True, "lr": 0.1},
        {"momentum": 0.9, "nesterov": True, "adapt": False, "lr": 0.1},
    ],
    "novograd": [
        {"lr": 0.1},
        {"amsgrad": True, "weight_decay": 0.1, "grad_averaging": True, "maximize": True, "lr": 0.1},
    ],
    "prodigy": [
        {"d0": 0.1, "lr": 0.1},
        {"d0": 0.1, "weight_decay": 0.1, "decouple": False, "safeguard_warmup": True, "maximize": True, "lr": 0.1},
        {"d0": 0.1, "weight_decay": 0.1, "use_bias_correction": True, "growth_rate": 1.1, "lr": 0.1},
    ],
    "shampoo": [
        {"eps": 0.1, "lr": 0.1},
        {"eps": 0.1, "momentum": 0.9, "beta2": 0.9, "weight_decay": 0.1, "precondition_frequency": 3, "lr": 0.1},
    ],
    "soap": [
        {"precondition_frequency": 1, "eps": 0.1, "lr": 0.1},
        {"precondition_frequency": 3, "eps": 0.1, "weight_decay": 0, "maximize": True, "lr": 0.1},
    ],
    "sophia": [{"weight_decay": 0.1, "bs": 10, "lr": 0.1}, {"weight_decay": 0, "maximize": True, "bs": 10, "lr": 0.1}],
}
#: name of a rule -> the class that has its options.
DEFAULTS: dict[str, Any] = {}
for _name in sorted(optim.__all__):
    _rule = getattr(getattr(optim, _name), "rule", None)
    if isinstance(_rule, Rule):
        DEFAULTS.setdefault(_rule.name, getattr(optim, _name))


def kernels(engine: str) -> dict[str, Any]:
    """All that an engine has, also those that it does not use on this machine."""
    module = importlib.import_module(f"gradloom.backends.{engine}")
    return getattr(module, "ACCELERATOR_KERNELS", {}) | dict(backend_class(engine).fast)


def parent(vjp: Op) -> tuple[Op, Any]:
    """The op of a vjp, and the vjp's entry there."""
    return next((op, v) for op in REGISTRY.values() for v in op.vjps if v.op is vjp)


def calls(name: str) -> Iterator[tuple[tuple, dict, tuple[int, ...]]]:
    """(operands in float64, attributes, indices of the results that count) of an op or vjp, one a sample."""
    if name in REGISTRY:
        for sample in SAMPLES[name]:
            yield sample.args, sample.attrs, tuple(range(len(REGISTRY[name].outputs)))
        return
    record, vjp = parent(VJPS[name])
    for sample in SAMPLES[record.name]:
        attrs = record.defaults | sample.attrs
        args = sample.args + tuple(record.defaults[n] for n in record.args[len(sample.args) :])
        outs = forward(record, sample.args, sample.attrs)
        if not is_float(args[vjp.covers[0]]):
            continue
        values = [args[i] if kind == "arg" else outs[i] for kind, i in vjp.values]
        statics = {}
        for key, kind, i in vjp.statics:
            statics[key] = (
                attrs[i] if kind == "attr" else np.shape(args[i]) if kind == "shape" else NUMPY.dtype(args[i])
            )
        counting = tuple(k for k, i in enumerate(vjp.covers) if args[i] is not None)
        yield (cotangent_for(record, outs), *values), statics, counting


def several(out: Any) -> tuple:
    return tuple(out) if isinstance(out, tuple | list) else (out,)


ALL = [pytest.param(e, name, id=f"{e}-{name}") for e in ENGINES for name in kernels(e)]
OF_OPS = [p for p in ALL if p.values[1] not in RULES]
OF_RULES = [p for p in ALL if p.values[1] in RULES]


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


@pytest.mark.parametrize(("engine", "name"), ALL)
def test_kernel_is_of_something_that_has_samples(engine, name):
    if name in RULES:
        assert RULE_OPTIONS.get(name), f"add options for the rule {name} to this file"
    else:
        assert name in REGISTRY or name in VJPS, f"{engine} has a kernel for {name}, which is no op, vjp or rule"
        assert list(calls(name)), f"{name} has no samples"


@pytest.mark.parametrize(("engine", "name"), OF_OPS)
def test_kernel_takes_what_the_body_takes(engine, name):
    record = REGISTRY.get(name) or VJPS[name]
    given = inspect.signature(kernels(engine)[name]).parameters
    wanted = dict(list(inspect.signature(record.forward).parameters.items())[1:])
    assert list(given) == list(wanted)
    for key, p in wanted.items():
        assert given[key].default == p.default
        assert (given[key].kind is inspect.Parameter.KEYWORD_ONLY) == (key in record.attrs)


def run(backend: Any, fn: Any, args: list, attrs: dict) -> tuple:
    """The results of a kernel or body; of JAX compiled as a whole, as each operation by itself takes it minutes."""
    if backend.name == "jax":
        return several(backend.compile(lambda *args: fn(*args, **attrs))(*args))
    return several(fn(*args, **attrs))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("engine", "name"), OF_OPS)
def test_kernel_against_the_body(engine, name, dtype):
    record, kernel = REGISTRY.get(name) or VJPS[name], kernels(engine)[name]
    backend = backend_class(engine)(dtype=dtype, device="cpu")
    body = functools.partial(record.forward, backend.xp)
    few = engine == "jax" and dtype == "float64"
    with backend.context():
        for args, attrs, counting in list(calls(name))[:: 6 if few else 1]:
            cast = [a.astype(dtype) if is_float(a) else a for a in args]
            native = [backend.from_numpy(a) if isinstance(a, np.ndarray | np.generic) else a for a in cast]
            made = run(backend, kernel, native, attrs)
            own = run(backend, body, native, attrs)
            exact = several(record.forward(NUMPY, *args, **attrs))
            assert len(made) == len(own)
            for i in counting:
                label = f"result {i} of {name} for {[np.shape(a) for a in args]}, {attrs}"
                assert tuple(made[i].shape) == tuple(own[i].shape), label
                assert backend.dtype_of(made[i]) is backend.dtype_of(own[i]), label
                for other in (backend.to_numpy(own[i]), exact[i]):
                    np.testing.assert_allclose(backend.to_numpy(made[i]), other, **TOLERANCE[dtype], err_msg=label)
            for a, n in zip(cast, native, strict=True):
                if isinstance(a, np.ndarray):
                    np.testing.assert_array_equal(backend.to_numpy(n), a, err_msg=f"{name} wrote into an operand")


@pytest.mark.parametrize(
    ("engine", "name"), [p for p in OF_OPS if p.values[1] in {b[0].op.name for b in test_composites.BAD}]
)
def test_kernel_refuses_what_the_body_refuses(engine, name):
    backend = backend_class(engine)(dtype="float64", device="cpu")
    for public, args, attrs, error, texts in test_composites.BAD:
        if public.op.name == name:
            with backend.context(), pytest.raises(error) as caught:
                kernels(engine)[name](*(backend.from_numpy(a) if a is not None else a for a in args), **attrs)
            assert all(text in str(caught.value) for text in texts)


# --- update rules ---


def columns_for(rule, flags: dict, layout: str) -> list[list[np.ndarray]]:
    """Parameters, gradients and state in float64, contiguous or of several memory orders."""
    rng = np.random.default_rng(3)
    shapes = [(3, 4), (5,), (2, 2, 3), ()]
    columns = []
    for k in range(2 + len(rule.state(flags))):
        column = [rng.standard_normal(s) for s in shapes]
        if k >= 3:
            column = [np.abs(a) for a in column]  # running means of squares
        if layout == "transposed" and k != 2:
            column = [np.asfortranarray(a) if a.ndim else a for a in column]
        columns.append(column)
    return columns


@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("engine", "name"), OF_RULES)
def test_update_against_the_rule(engine, name, dtype, layout):
    rule = RULES[name]
    backend = backend_class(engine)(dtype=dtype, device="cpu")
    for options in RULE_OPTIONS[name]:
        defaults = DEFAULTS[name]([optim_parameter()], **options).param_groups[0]
        flags = rule.flags(defaults)
        for step in (1, 2, 1000):
            scalars = rule.scalars(HOST, defaults, step, *rule.first_numbers(defaults))
            exact = columns_for(rule, flags, layout)
            cast = [[np.array(a, dtype, copy=True) for a in column] for column in exact]
            native = [[backend.copy(backend.from_numpy(a)) for a in column] for column in cast]
            rows = [rule.leaf(NUMPY, *row, *scalars, **flags) for row in zip(*exact, strict=True)]
            made = kernels(engine)[name](*native, *scalars, **flags)
            assert len(made) == len(exact) - 1
            for new, old in zip(made, zip(*rows, strict=True), strict=True):
                for a, b in zip(new, old, strict=True):
                    assert backend.dtype_of(a).name == dtype
                    assert tuple(a.shape) == np.shape(b)
                    np.testing.assert_allclose(backend.to_numpy(a), b, **TOLERANCE[dtype], err_msg=f"{options}, {step}")
            for a, b in zip(native[1], cast[1], strict=True):
                np.testing.assert_array_equal(backend.to_numpy(a), b, err_msg="the gradients were changed")


def optim_parameter():
    import gradloom

    return gradloom.tensor([[1.0]], requires_grad=True)


#: name of a rule -> the shapes that it takes, or that do not take XLA long, where those are not all.
RULE_SHAPES: dict[str, list[tuple]] = {"muon": [(3, 4), (4, 2)], "shampoo": [(3, 4), ()]}


def samples_of(rule: Rule, o: dict, step: int) -> Iterator[tuple[dict, list[list[np.ndarray]]]]:
    """(flags, columns in float64) of the calls of a rule; where shapes select code, or states are no arrays of any numbers, those of a few
    updates."""
    flags = rule.flags(o) | rule.phase(o, step)
    if rule.per == "element":
        yield flags, [column * 10 for column in columns_for(rule, flags, "contiguous")]
        return
    shapes = RULE_SHAPES.get(rule.name, [(3, 4), (5,), (2, 2, 3), ()])
    for group in [shapes] if rule.per == "tree" else [[shape] * 2 for shape in shapes]:
        rng = np.random.default_rng(3)
        flags = rule.flags(o) | rule.kind(group[0], o)
        params = [np.asarray(rng.standard_normal(shape)) for shape in group]
        states = [[np.asarray(rule.first(name, p, o)) for p in params] for name in rule.state(flags)]
        for k in range(1, 5):
            columns = [params, [np.asarray(rng.standard_normal(shape)) for shape in group], *states]
            if k < 4:
                scalars = rule.scalars(HOST, o, k, *rule.first_numbers(o))
                params, *states = rule.rows(NUMPY, *columns, *scalars, **flags | rule.phase(o, k))
        yield flags | rule.phase(o, step), columns


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", sorted(RULES))
def test_run_gives_the_numbers_of_the_rule(engine, name, dtype):
    """Also where the engine compiles it: with more parameters than are compiled together, and rates that change."""
    rule = RULES[name]
    backend = backend_class(engine)(dtype=dtype, device="cpu")
    for options in RULE_OPTIONS[name][:3]:
        defaults = DEFAULTS[name].prototype(**options).defaults
        for step, lr in ((1, 0.1), (7, 0.01)):
            defaults["lr"] = lr
            scalars = rule.scalars(HOST, defaults, step, *rule.first_numbers(defaults))
            for flags, exact in samples_of(rule, defaults, step):
                with backend.context():
                    native = [[backend.copy(backend.from_numpy(a.astype(dtype))) for a in column] for column in exact]
                expected = rule.rows(NUMPY, *exact, *scalars, **flags)
                made = rule.run(native, scalars, flags)
                for new, old in zip(made, expected, strict=True):
                    for a, b in zip(new, old, strict=True):
                        assert backend.dtype_of(a).name == dtype
                        np.testing.assert_allclose(backend.to_numpy(a), b, **TOLERANCE[dtype])


@pytest.fixture(scope="module")
def kernel_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADLOOM_CACHE", str(tmp_path_factory.mktemp("kernels")))
        yield


@pytest.mark.parametrize("name", sorted(name for name, rule in RULES.items() if rule.per == "element"))
def test_loops_over_flat_arrays(name, kernel_folder, monkeypatch):
    """NumPy's printed loop and Numba's: the numbers of the rule, and of each other to the last bit."""
    monkeypatch.setattr(chunks, "CHUNK", 8)  # several chunks
    monkeypatch.setattr(chunks, "_LOOPS", chunks._Loops())
    rule = RULES[name]
    for n, options in enumerate(RULE_OPTIONS[name]):
        defaults = DEFAULTS[name]([optim_parameter()], **options).param_groups[0]
        for step, dtype in ((1, "float32"), (7, "float32"), (7, "float64")):
            flags = rule.flags(defaults) | rule.phase(defaults, step)
            scalars = rule.scalars(HOST, defaults, step, *rule.first_numbers(defaults))
            exact = columns_for(rule, flags, "contiguous")
            rows = [rule.leaf(NUMPY, *row, *scalars, **flags) for row in zip(*exact, strict=True)]
            expected = [np.concatenate([a.ravel() for a in column]) for column in zip(*rows, strict=True)]
            cast = [[a.astype(dtype) for a in column] for column in exact]
            parts = chunks.groups([a.size for a in cast[0]])
            assert len(parts) > 1
            made = []
            for form in ("chunks", "numba"):
                if form == "numba" and (not fast.takes(rule) or (dtype == "float64" and n)):
                    continue
                p, *states = (np.concatenate([a.ravel() for a in c]) for k, c in enumerate(cast) if k != 1)
                if form == "numba":
                    fast.kernel(rule, flags, as_dtype(dtype))([p], cast[1], *([s] for s in states), *scalars)
                else:
                    chunks.update(rule, flags, as_dtype(dtype), p, cast[1], states, scalars, parts)
                made.append([p, *states])
                for found, old in zip(made[-1], expected, strict=True):
                    assert found.dtype == dtype
                    np.testing.assert_allclose(found, old, **TOLERANCE[dtype], err_msg=f"{form}, {options}, {step}")
            for pair in zip(*made, strict=True):
                np.testing.assert_array_equal(pair[0], pair[-1], err_msg=f"{options}, {step}")


# --- what NumPy and PyTorch compute in another way than their own functions ---

SPECIAL = np.array([1.5, -2.0, 0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40] * 300)


def same_bits(a: Any, b: Any) -> bool:
    """Whether two arrays are equal, NaN in the same places and zeros of the same sign."""
    a, b = np.asarray(a), np.asarray(b)
    numbers = ~np.isnan(a)
    return (
        a.dtype == b.dtype
        and np.array_equal(a, b, equal_nan=True)
        and np.array_equal(np.signbit(a[numbers]), np.signbit(b[numbers]))
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("engine", [e for e in ENGINES if e in ("numpy", "torch")])
def test_where_selects_exactly(engine, dtype):
    backend = backend_class(engine)()
    rng = np.random.default_rng(0)
    x, y = SPECIAL.astype(dtype), rng.permutation(SPECIAL).astype(dtype)
    mask = rng.random(x.shape) > 0.5
    wide = rng.random((3, *x.shape)) > 0.5
    grid = x.reshape(60, 40)
    cases = [
        (mask, x, 0), (mask, x, 0.0), (mask, x, -0.0), (mask, x, 1), (mask, x, y), (mask, x, np.nan), (mask, 0, x),
        (mask, x, y[:1]), (wide, x, 0), (wide, x, y), (mask[:1], x, 0), (mask.reshape(60, 40).T, grid.T, 0),
        (mask.reshape(40, 60), grid.T, 0),
        (mask[::2], x[::2], y[1::2]), (mask[:3], x[:3], 0), (np.array(True), x, 0), (np.array(False), x, y),
    ]  # fmt: skip
    for condition, a, b in cases:
        native = [backend.from_numpy(v) if isinstance(v, np.ndarray) else v for v in (condition, a, b)]
        assert same_bits(backend.to_numpy(backend.xp.where(*native)), np.where(condition, a, b)), (condition, a, b)


def test_where_of_pytorch_keeps_gradients():
    torch = pytest.importorskip("torch")
    where = backend_class("torch").xp.where
    x, mask = torch.randn(3000), torch.rand(3000) > 0.5
    leaf = x.clone().requires_grad_()
    (d,) = torch.autograd.grad(where(mask, leaf, 0).sum(), leaf)
    ones = torch.ones_like(x)
    (d_func, tangent) = (
        torch.func.grad(lambda v: where(mask, v, 0).sum())(x),
        torch.func.jvp(lambda v: where(mask, v, 0), (x,), (ones,))[1],
    )
    mapped = torch.func.vmap(lambda v: where(mask, v, 0))(torch.stack([x, x]))
    for found in (d, d_func, tangent):
        assert torch.equal(found, mask.to(x.dtype))
    assert torch.equal(mapped[1], torch.where(mask, x, 0))


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (3, 1, 2, 0), (1, 2, 3, 0)])
def test_fold_of_numpy_for_any_order_of_memory(axes):
    shape, size, stride, dilation = (2, 3, 7, 8), (3, 2), (2, 1), (1, 2)
    x = np.random.default_rng(0).standard_normal(shape)
    windows = NUMPY.windows(x, size=size, stride=stride, dilation=dilation)
    expected = np.zeros(shape)
    for i, j in np.ndindex(windows.shape[2:4]):
        for a, b in np.ndindex(size):
            expected[:, :, 2 * i + a, j + 2 * b] += windows[:, :, i, j, a, b]
    order = (*axes, 4, 5)
    laid = np.ascontiguousarray(windows.transpose(order)).transpose(np.argsort(order))
    found = NUMPY.fold(laid, shape=shape, size=size, stride=stride, dilation=dilation)
    np.testing.assert_allclose(found, expected)
    assert found.transpose(axes).flags.c_contiguous
    constant = np.broadcast_to(np.float64(2), windows.shape)  # strides of 0
    assert NUMPY.fold(constant, shape=shape, size=size, stride=stride, dilation=dilation).sum() == 2 * constant.size


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_mean_of_numpy(dtype):
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(dtype)
    for axis, keepdims in itertools.product((None, 0, -1, (0, 2), (0, 1, 2), ()), (False, True)):
        found = NUMPY.mean(x, axis=axis, keepdims=keepdims)
        np.testing.assert_array_equal(found, np.mean(x, axis=axis, keepdims=keepdims))
        assert found.dtype == dtype
    assert np.isnan(NUMPY.mean(x[:0]))
    assert NUMPY.mean(x[:0], axis=1).shape == (0, 5)
    assert NUMPY.mean(np.full(3, np.inf, dtype)) == np.inf
    assert NUMPY.mean(np.full(70000, 1, "float16")) == 1


@pytest.mark.parametrize("x", [np.float32(2.5), np.array(2.5), np.array(True), np.array(3)])
def test_broadcast_to_of_numpy(x):
    for shape in ((), (0,), (2, 3)):
        found = NUMPY.broadcast_to(x, shape=shape)
        np.testing.assert_array_equal(found, np.full(shape, x))
        assert found.dtype == x.dtype
        assert not found.flags.writeable


def test_sigmoid_of_numpy_at_the_ends():
    x = np.array([-np.inf, -1000, -100, -1e-3, -0.0, 0.0, 3, 1000, np.inf, np.nan])
    with np.errstate(all="raise", under="ignore"):
        found = NUMPY.sigmoid(x)
    np.testing.assert_allclose(
        found, [0, 0, np.exp(-100), 1 / (1 + np.exp(1e-3)), 0.5, 0.5, 1 / (1 + np.exp(-3)), 1, 1, np.nan], rtol=1e-15
    )
