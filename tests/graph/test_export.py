"""Exported modules: they run where gradloom cannot be imported, and give the same numbers to the last bit."""

import importlib.util
import os
import pickle
import re
import subprocess
import sys
import types

import numpy as np
import pytest

import gradloom as gl
from gradloom.backends.shapes import Spec
from gradloom.dtypes import dtype, float32, float64
from gradloom.errors import TraceError
from gradloom.graph import emit, export
from gradloom.graph.graph import Graph
from gradloom.ops.op import REGISTRY
from ops.check import cotangent_for, is_float
from ops.test_composites import SAMPLES as COMPOSITES
from ops.test_primitives import SAMPLES as PRIMITIVES

#: Imports the exported files and runs their functions. A case is (name, file, function, arguments, 64-bit mode).
RUNNER = """
import contextlib, importlib.util, pickle, sys, warnings
sys.modules["gradloom"] = None
warnings.simplefilter("ignore")
engine, cases, results, mode = sys.argv[1:]
import numpy as np
compiled, wide = (lambda f: f), contextlib.nullcontext
if engine == "numpy":
    array, host = (lambda x: x), np.asarray
    np.seterr(all="ignore")
elif engine == "jax":
    import jax
    array, host, wide = jax.numpy.asarray, np.asarray, lambda: jax.enable_x64(True)
    compiled = jax.jit if mode == "jit" else compiled
elif engine == "torch":
    import torch
    torch.set_grad_enabled(False)
    # In memory of PyTorch's own: the last bits of a sum can depend on where in memory its terms begin.
    array, host = (lambda x: torch.from_numpy(np.array(x)).clone()), (lambda x: x.detach().numpy())
elif engine == "mlx":
    import mlx.core as mx
    array, host = (lambda x: mx.array(x, dtype=getattr(mx, str(x.dtype).replace("bool", "bool_")))), np.array
    compiled = mx.compile if mode == "jit" else compiled

def walked(f, x):
    if isinstance(x, dict):
        return {k: walked(f, v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return type(x)(walked(f, v) for v in x)
    return f(x)

def given(x):
    # An array of the engine. bfloat16 comes and goes as its bits.
    x = np.asarray(x)
    if x.dtype.name != "bfloat16":
        return array(x)
    if engine == "numpy":
        return module.to_bfloat16(x)
    if engine == "jax":
        return array(x)
    return array(x.view("int16")).view(torch.bfloat16 if engine == "torch" else mx.bfloat16)

def taken(x):
    if "bfloat16" not in str(x.dtype):
        return host(x)
    if engine == "torch":
        return host(x.view(torch.int16)).view("uint16")
    return host(x.view(mx.uint16)) if engine == "mlx" else host(x).view("uint16")

found = {}
for name, file, function, arguments, x64 in pickle.load(open(cases, "rb")):
    try:
        with wide() if x64 else contextlib.nullcontext():
            spec = importlib.util.spec_from_file_location("exported", file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            fn = getattr(module, function)
            if mode == "jaxpr":
                found[name] = str(jax.make_jaxpr(fn)(*arguments))
            else:
                found[name] = walked(taken, compiled(fn)(*walked(given, arguments)))
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"
assert not any(n.startswith("gradloom.") for n in sys.modules)
pickle.dump(found, open(results, "wb"))
"""


def run(engine, cases, folder, mode):
    """{name: what the function of the exported text gave, in NumPy, or an error's text}, from a process without gradloom.

    Args:
        cases: {name: (text, function, arguments in NumPy, whether in JAX's 64-bit mode)}.
        mode: "plain", "jit" (compiled by the engine), or "jaxpr": the text of JAX's expressions instead of results.
    """
    listed = []
    for k, (name, (text, function, arguments, x64)) in enumerate(cases.items()):
        file = folder / f"exported_{k}.py"
        file.write_text(text)
        listed.append((name, str(file), function, arguments, x64))
    (folder / "runner.py").write_text(RUNNER)
    (folder / "cases").write_bytes(pickle.dumps(listed))
    names = ["runner.py", engine, "cases", "results", mode]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *names], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return pickle.loads((folder / "results").read_bytes())


def differences(found, expected, path=""):
    """What differs between two trees of NumPy arrays, in structure, dtype, shape or any bit."""
    if isinstance(expected, dict):
        if not isinstance(found, dict) or found.keys() != expected.keys():
            return [f"{path}: {found!r:.500} is not {list(expected)}"]
        return [d for k in expected for d in differences(found[k], expected[k], f"{path}.{k}")]
    if isinstance(expected, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(expected):
            return [f"{path}: {found!r:.500} is not {len(expected)} values"]
        return [d for k, e in enumerate(expected) for d in differences(found[k], e, f"{path}[{k}]")]
    expected = np.asarray(expected)
    if not isinstance(found, np.ndarray | np.generic):
        return [f"{path}: {found!r:.500}"]
    if (found.dtype, found.shape) != (expected.dtype, expected.shape):
        return [f"{path}: {found.dtype} {found.shape} is not {expected.dtype} {expected.shape}"]
    if found.tobytes() != expected.tobytes():
        wrong = np.asarray(found != expected)
        return [f"{path}: {wrong.sum()} of {wrong.size} elements differ"]
    return []


@pytest.fixture
def engine(backend):
    return backend


# --- every op, and its vjps ---


def single(array):
    return array.astype("float32") if is_float(array) else array


def graph_of(record, args, attrs):
    """The graph of an op and its vjps, with the arrays for its inputs."""
    graph = Graph()
    arrays = [single(a) for a in args if isinstance(a, np.ndarray)]

    def value(x, name):
        return graph.input(x.shape, dtype(x.dtype), name) if isinstance(x, np.ndarray) else x

    values = [value(single(a) if isinstance(a, np.ndarray) else a, f"x{i}") for i, a in enumerate(args)]
    made = graph.add(record, values, attrs)
    outs = list(made) if isinstance(made, tuple) else [made]
    graph.outputs = list(outs)
    if record.differentiable != 1 or not is_float(outs[0]):
        return graph, arrays
    g = cotangent_for(record, [types.SimpleNamespace(shape=o.shape, dtype=o.dtype.name) for o in outs])
    arrays.append(g)
    d = value(np.asarray(g), "g")
    attrs = record.defaults | attrs
    values += [record.defaults[name] for name in record.args[len(values) :] if not record.variadic]
    for vjp in record.vjps:
        if not any(is_float(a) for i in vjp.covers for a in values[i : None if vjp.variadic else i + 1]):
            continue
        saved = []
        for kind, i in vjp.values:
            saved += values[i:] if kind == "rest" else [values[i] if kind == "arg" else outs[i]]
        statics = {}
        for name, kind, i in vjp.statics:
            if kind == "attr":
                statics[name] = attrs[i]
            elif kind == "shapes":
                statics[name] = tuple(tuple(np.shape(a)) for a in values[i:])
            else:
                statics[name] = tuple(getattr(values[i], "shape", ())) if kind == "shape" else values[i].dtype
        found = graph.add(vjp.op, [d, *saved], statics)
        graph.outputs += found if isinstance(found, tuple) else [found]
    return graph, arrays


def programs(engine):
    """{name: (text, function, arguments, False)} and {name: result} of the samples of all ops.

    For JAX the result is its expressions, of two samples: to compile each sample would take minutes.
    """
    backend = gl.get_backend(engine)
    cases, expected = {}, {}
    most = 2 if engine == "jax" else None
    for name, sample in ((n, s) for n, samples in {**PRIMITIVES, **COMPOSITES}.items() for s in samples[:most]):
        if name in ("getitem", "put", "add_at") and any(np.asarray(a).dtype == bool for a in sample.args[1:]):
            continue  # a bool mask as an index cannot be compiled
        attrs = {k: float32 if v is float64 else v for k, v in sample.attrs.items()}
        graph, arrays = graph_of(REGISTRY[name], sample.args, attrs)
        helpers = emit.Helpers(backend)
        text = emit.function_text("run", graph, helpers)
        fn = emit.build("run", emit.module_text(helpers, text), helpers.namespace)
        case = f"{name}-{len(cases)}"
        cases[case] = (export.export([(helpers, {"run": text})]), "run", arrays, False)
        if engine == "jax":
            import jax

            expected[case] = str(jax.make_jaxpr(fn)(*arrays))
        else:
            with np.errstate(all="ignore"):
                found = fn(*(backend.copy(backend.from_numpy(a)) for a in arrays))
            expected[case] = tuple(np.array(x) if engine == "mlx" else np.asarray(x) for x in found)
    return cases, expected


def expressions(text):
    """Without places in memory."""
    return re.sub(r"0x[0-9a-f]+", "", text)


@pytest.mark.slow
def test_every_op(engine, tmp_path):
    cases, expected = programs(engine)
    found = run(engine, cases, tmp_path, "jaxpr" if engine == "jax" else "plain")
    if engine == "jax":
        wrong = {n: found[n] for n in expected if expressions(found[n]) != expressions(expected[n])}
    else:
        wrong = {n: d for n in expected if (d := differences(found[n], expected[n]))}
    assert not wrong, "\n".join(f"{n}: {d}" for n, d in list(wrong.items())[:20])
    covered = {name.rpartition("-")[0] for name in expected}
    assert covered == {*PRIMITIVES, *COMPOSITES}
    assert set(REGISTRY) - covered == {"cond", "scan", "while_loop"}


def test_every_kernel_can_be_printed(engine):
    """Also those that are used on a GPU only."""
    backend = gl.get_backend(engine)
    module = importlib.import_module(type(backend).__module__)
    kernels = {**backend.fast, **backend.loops, **getattr(module, "ACCELERATOR_KERNELS", {})}
    for name, kernel in kernels.items():
        helpers = emit.Helpers(backend)
        helpers.function(name, kernel)
        text = export.export([(helpers, {"run": f"def run(*values):\n    return {name}(*values)"})])
        scope = {}
        exec(text, scope)
        assert name in scope or f"{name}_2" in scope
        assert "gradloom." not in text.partition("\n\n")[2], name


# --- constants ---


def constants(backend):
    """{name: array of the backend}: dtypes, edges, and orders in memory."""
    rng = np.random.default_rng(0)
    small = [
        np.array([0.1, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4028235e38], "float32"),
        np.array(0x7FC00001, "uint32").view("float32"),  # a NaN with bits of its own
        np.array([[1, -2], [3, 2**40 if backend.name != "jax" else 4]]),
        np.array([[True], [False]]),
        np.array([0.1, 65504.0, 6e-8], "float16"),
        np.zeros((0, 3), "float32"),
        np.array(2.5, "float32"),
        np.array([200, 3], "uint8"),
    ]
    large = [rng.standard_normal((9, 12)).astype("float32"), rng.integers(-9, 9, (70, 2)), rng.random((5, 50)) < 0.5]
    found = [backend.from_numpy(x) for x in (*small, *large)]
    found.append(backend.xp.astype(backend.from_numpy(large[0]), dtype=gl.bfloat16))
    if backend.name in ("numpy", "torch"):
        x = backend.from_numpy(rng.standard_normal((3, 4, 5)))
        found += [x, x.swapaxes(0, 2), x[:, :1] if backend.name == "numpy" else x[:, :1].expand(3, 6, 5)]
        found += [backend.xp.broadcast_to(found[6], shape=(2, 3)), backend.xp.transpose(x, axes=(1, 2, 0))]
    if backend.name == "numpy":
        found += [np.float32(0.1), np.int64(3), np.broadcast_to(large[0][:, :1], (9, 4))]
    return {f"constant_{k}": x for k, x in enumerate(found)}


def test_constants_keep_their_bits_and_their_order(engine, tmp_path):
    backend = gl.get_backend(engine)
    values = constants(backend)
    helpers = emit.Helpers(backend)
    helpers.namespace |= values
    text = f"def run():\n    return {', '.join(values)}"
    made = export.export([(helpers, {"run": text})])
    scope = {}
    exec(made, scope)
    for name, again in zip(values, scope["run"](), strict=True):
        value = values[name]
        assert type(again) is type(value) or (engine == "numpy" and "bfloat16" in str(value.dtype)), name
        assert again.dtype == value.dtype and tuple(again.shape) == tuple(value.shape), name
        assert backend.to_numpy(again).tobytes() == backend.to_numpy(value).tobytes(), name
        if engine in ("numpy", "torch"):
            few = [n > 1 for n in value.shape]
            old, new = backend.to_numpy(value).strides, backend.to_numpy(again).strides
            assert np.array_equal(np.argsort(np.array(old)[few]), np.argsort(np.array(new)[few])), name
            assert [s == 0 for s in old] == [s == 0 for s in new] or not value.size, name
    assert max(map(len, made.replace(text, "").splitlines())) <= 120
    bits = {"run": (made, "run", [], False)}
    found = run(engine, bits, tmp_path, "plain")["run"]
    assert len(found) == len(values)


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_constants_of_64_bits_on_jax():
    backend = gl.JaxBackend(dtype="float64")
    helpers = emit.Helpers(backend)
    helpers.namespace |= {"constant_0": backend.array([0.1, 1e300]), "constant_1": backend.array([2**40])}
    scope = {}
    exec(export.export([(helpers, {"run": "def run():\n    return constant_0, constant_1"})]), scope)
    floats, integers = scope["run"]()
    assert floats.dtype == "float64" and np.asarray(floats).tolist() == [0.1, 1e300]
    assert integers.dtype == "int64" and np.asarray(integers).tolist() == [2**40]


# --- names ---


def program(name, line, **namespace):
    """A program of one line over `x`; functions of the namespace are printed as helpers."""
    helpers = emit.Helpers(gl.get_backend("numpy"))
    for n, value in namespace.items():
        if isinstance(value, types.FunctionType):
            helpers.function(n, value)
        else:
            helpers.namespace[n] = value
    return helpers, {name: f"def {name}(x):\n    return {line}"}


def scope_of(*programs):
    scope = {}
    exec(export.export(programs), scope)
    return scope


def double(x):
    return 2 * x


def maximum_of(x):
    return max(x) + 1


def test_programs_may_use_one_name_for_different_things():
    scope = scope_of(
        program("a", "f(x) + k", f=double, k=np.float32(1)),
        program("b", "f(x) + k", f=maximum_of, k=np.float32(2)),
        program("c", "f(x) + k", f=double, k=np.float32(1)),
    )
    assert [scope[n]([1, 5][:1] * 1 if n == "b" else np.float32(5)) for n in "abc"] == [11, 4, 11]
    assert [n for n in scope if n.startswith(("f", "k"))] == ["k", "k_2", "f", "f_2"]


def test_a_builtin_is_not_hidden():
    scope = scope_of(program("a", "max(x) + f([x, 1])", max=double, f=maximum_of))
    assert scope["a"](3) == 10


def test_two_functions_of_one_name():
    with pytest.raises(ValueError, match="two functions named 'a'"):
        scope_of(program("a", "x"), program("a", "x"))


class Thing:
    pass


THING, PART = Thing(), gl.nn.Linear


def with_a_thing(x):
    return x, THING


def with_a_layer(x):
    return PART(x)


def with_an_import(x):
    from gradloom import ops

    return ops.exp(x)


def with_an_op(x):
    return REGISTRY["exp"](x)


@pytest.mark.parametrize("function", [with_a_thing, with_an_import, with_an_op], ids=lambda f: f.__name__)
def test_what_cannot_be_printed(function):
    with pytest.raises(
        TraceError, match=f"'{function.__name__}' cannot be printed as part of a module without gradloom"
    ):
        scope_of(program("a", f"{function.__name__}(x)", **{function.__name__: function}))


def test_a_function_without_source():
    scope = {}
    exec("def made(x):\n    return x", scope)
    helpers, texts = program("a", "made(x)")
    helpers.namespace["made"] = scope["made"]
    with pytest.raises(TraceError, match=r"made' cannot be printed.*\n.*no source"):
        export.export([(helpers, texts)])


def test_a_closure_is_printed_with_what_it_holds():
    def scaled(k):
        def by(x):
            return k * x

        return by

    helpers, texts = program("a", "f(x) + g(x)")
    helpers.namespace |= {"f": scaled(2), "g": scaled(0.5)}
    scope = {}
    exec(export.export([(helpers, texts)]), scope)
    assert scope["a"](3) == 7.5


def test_the_comment():
    helpers, texts = program("a", "x")
    text = export.export([(helpers, texts)], {"params": {"0.weight": Spec((3, 4), float32)}, "state": {}}, "A model.")
    first = text.partition("\n\n")[0].splitlines()
    assert first[0] == f"# Written by gradloom {gl.__version__} for NumPy {np.__version__}. It runs without gradloom."
    assert first[1:] == ["# A model.", "#", "# params:", "#     0.weight  (3, 4)            float32"]
