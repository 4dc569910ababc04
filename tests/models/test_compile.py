"""`compile`: shapes, key sets, and what is refused; `evaluate`: numbers, gradients, purity, the engines' own transforms."""

import concurrent.futures
import copy
import re

import numpy as np
import pytest

import gradloom as gl
from gradloom.errors import BackendError, GradientError, OptionError, ShapeError, TraceError
from gradloom.models import Embedding, Function, Input, IOKey, Linear, Model, Relu, Softmax, TrainModel
from gradloom.models.parameters import Parameters, Placeholder


def mlp(dimensions=(8, 3)):
    model = Model()
    model |= Linear(dimensions[0])(input="x")
    for d in dimensions[1:]:
        model += Relu()
        model += Linear(d)
    return model


def data(engine, *shape, seed=0, dtype=None):
    values = np.random.RandomState(seed).randn(*shape)
    return engine.array(values if dtype is None else values.astype(dtype))


# ------------------------------------------------------------------------------------------------------------- shapes


def test_shapes_forward_and_unknown_sizes():
    compiled = gl.compile(mlp(), "numpy", shapes={"x": [None, 4]})
    assert compiled.shapes == {"x": [None, 4], "output": [None, 3]}
    assert {n: p.shape for n, p in compiled.get_parameters().items()} == {
        "linear.weight": (8, 4), "linear.bias": (8,), "linear_1.weight": (3, 8), "linear_1.bias": (3,)
    }  # fmt: skip


def test_shapes_backward_from_an_output():
    model = Model()
    model |= Relu()(input="x", output="h")
    model |= Linear(2)(input="h", output="y")
    compiled = gl.compile(model, "numpy", shapes={"h": [5, 7]})
    assert compiled.shapes == {"x": [5, 7], "y": [5, 2]}
    model = Model()
    model |= Linear()(input="x", output="y")
    model += Softmax()(output="p")
    compiled = gl.compile(model, "numpy", shapes={"x": [None, 3], "p": [None, 4]})
    assert compiled.get_parameters()["linear.weight"].shape == (4, 3)


def test_shapes_backward_from_a_weight():
    model = Model()
    model |= Linear()(input="x", weight=IOKey("w", value=np.ones((3, 6)), trainable=True))
    compiled = gl.compile(model, "numpy")
    assert compiled.shapes == {}  # how many axes x has is not known
    assert {n: p.shape for n, p in compiled.get_parameters().items()} == {"w": (3, 6), "linear.bias": (3,)}


def test_shapes_through_expressions_and_functions():
    model = Model.create(y=Linear(4)(Input("x", shape=[None, 2, 3]).reshape(-1, 6) * 2))
    assert gl.compile(model, "numpy").get_parameters()["linear.weight"].shape == (4, 6)


def test_another_batch_size_just_works(backend):
    engine = gl.get_backend(backend)
    compiled = gl.compile(mlp(), backend, shapes={"x": [4, 5]})
    params = compiled.get_parameters()
    for n in (4, 1, 7, 4):
        assert tuple(compiled.evaluate(params, {"x": data(engine, n, 5)})["output"].shape) == (n, 3)


def shape_of_a_nested_input():
    inner, outer = Model(), Model()
    inner |= Relu()(IOKey("a", shape=[2, 3]))
    outer |= inner(a=IOKey("x", shape=[2, 5]))
    gl.compile(outer, "numpy")


@pytest.mark.parametrize(
    ("run", "texts"),
    [
        (shape_of_a_nested_input, ["'x' has two shapes", "[2, 3]", "[2, 5]", "set at"]),
        (
            lambda: gl.compile(mlp(), "numpy", shapes={"x": [2, 4], "output": [2, 7]}),
            ["'output' has two shapes", "[2, 7]", "3]", "linear_1", "test_compile.py"],
        ),
        (
            lambda: gl.compile(mlp(), "numpy", shapes={"x": [2, 4]}).evaluate(
                gl.compile(mlp(), "numpy", shapes={"x": [2, 4]}).get_parameters(), {"x": np.ones((2, 9), "float32")}
            ),
            ["'x' has two shapes", "[2, 9]", "4]", "read by linear", "test_compile.py"],
        ),
        (
            lambda: gl.compile(Model.create(y=Input("a", shape=[2, 3]) @ Input("b", shape=[4, 5])), "numpy"),
            ["matmul", "[2, 3]", "[4, 5]", "test_compile.py"],
        ),
        (lambda: gl.compile(mlp(), "numpy").get_state(), ["not known"]),
        (lambda: mlp().to_module(), ["not known", "shapes={...}"]),
        (lambda: Model.create(y=Relu()(IOKey("q", shape=[2, 3])) + IOKey("q", shape=[4])), ["'q'", "two shapes"]),
    ],
)
def test_shape_errors(run, texts):
    with pytest.raises(ShapeError) as caught:
        run()
    for text in texts:
        assert text in str(caught.value), str(caught.value)


# ----------------------------------------------------------------------------------------------------------- key sets


def test_trainable_data_constant_and_discard_keys(backend):
    engine = gl.get_backend(backend)
    x = data(engine, 2, 4)
    shapes = {"x": [2, 4]}
    as_parameter = gl.compile(mlp(), backend, shapes=shapes, trainable_keys=["x"])
    assert "x" in as_parameter.get_parameters() and as_parameter.input_keys == ()
    as_data = gl.compile(mlp(), backend, shapes=shapes, data_keys=["linear.bias"])
    assert as_data.input_keys == ("x", "linear.bias") and "linear.bias" not in as_data.get_parameters()
    reference = gl.compile(mlp(), backend, shapes=shapes)
    params = reference.get_parameters()
    rest = {n: p for n, p in params.items() if n != "linear.bias"}
    expected = engine.to_numpy(reference.evaluate(params, {"x": x})["output"])
    found = as_data.evaluate(rest, {"x": x, "linear.bias": params["linear.bias"]})["output"]
    np.testing.assert_allclose(engine.to_numpy(found), expected, rtol=1e-6)
    fixed = gl.compile(mlp(), backend, constant_keys={"x": np.asarray(engine.to_numpy(x))})
    assert fixed.input_keys == ()
    np.testing.assert_allclose(engine.to_numpy(fixed.evaluate(params, {})["output"]), expected, rtol=1e-6)
    two = Model()
    two |= Linear(2)(input="x", output="a")
    two |= Linear(3)(input="x", output="b")
    one = gl.compile(two, backend, shapes=shapes, discard_keys=["a"])
    assert one.output_keys == ("b",) and list(one.get_parameters()) == ["linear_1.weight", "linear_1.bias"]


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        ({"trainable_keys": ["x"], "data_keys": ["x"]}, ["overlap", "x"]),
        ({"trainable_keys": ["z"]}, ["trainable_keys", "'z'", "does not have"]),
        ({"data_keys": ["linear.wieght"]}, ["did you mean 'linear.weight'?"]),
        ({"constant_keys": {"q": 1.0}}, ["constant_keys"]),
        ({"discard_keys": ["output"]}, ["no output"]),
        ({"shapes": {"z": [2]}}, ["'z'", "does not have", "x"]),
    ],
)
def test_key_errors(options, texts):
    with pytest.raises(OptionError) as caught:
        gl.compile(mlp(), "numpy", **{"shapes": {"x": [2, 4]}, **options})
    for text in texts:
        assert text in str(caught.value), str(caught.value)


# --------------------------------------------------------------------------------------------------------- parameters


def test_get_parameters_and_randomize_params(backend):
    engine = gl.get_backend(backend)
    compiled = gl.compile(mlp(), backend, shapes={"x": [2, 4]})
    numbers = lambda p: {n: np.asarray(engine.to_numpy(a)) for n, a in p.items()}
    first, again = numbers(compiled.get_parameters()), numbers(compiled.get_parameters())
    a, b, c = (numbers(compiled.randomize_params(seed)) for seed in (1, 1, 2))
    for n in first:
        np.testing.assert_array_equal(first[n], again[n])
        np.testing.assert_array_equal(a[n], b[n])
        assert not np.array_equal(a[n], c[n]) and not np.array_equal(a[n], first[n])
        assert np.abs(first[n]).max() <= 1 / np.sqrt(4 if n.startswith("linear.") else 8)
    gl.manual_seed(3)
    fresh = numbers(compiled.randomize_params())
    assert not np.array_equal(fresh["linear.weight"], numbers(compiled.randomize_params())["linear.weight"])
    if backend != "numpy":
        others = gl.compile(mlp(), "numpy", shapes={"x": [2, 4]}).get_parameters()
        for n in first:
            np.testing.assert_array_equal(first[n], others[n])


def test_placeholders_are_filled_in_place(backend):
    engine = gl.get_backend(backend)
    compiled = gl.compile(mlp(), backend)
    params, random_params = compiled.get_parameters(), compiled.randomize_params(seed=5)
    assert all(type(p) is Placeholder for p in params.values())
    with pytest.raises(OptionError, match="give shapes"):
        params["linear.weight"] + 1
    with pytest.raises(OptionError, match=r"linear\.weight"):
        engine.to_numpy(params["linear.weight"]) if backend != "numpy" else np.asarray(params["linear.weight"])
    x = data(engine, 2, 4)
    before = compiled.evaluate(params, {"x": x})["output"]
    compiled.evaluate(random_params, {"x": x})
    known = gl.compile(mlp(), backend, shapes={"x": [2, 4]})
    for found, expected in ((params, known.get_parameters()), (random_params, known.randomize_params(5))):
        for n in expected:
            np.testing.assert_array_equal(engine.to_numpy(found[n]), engine.to_numpy(expected[n]))
    np.testing.assert_array_equal(
        engine.to_numpy(before), engine.to_numpy(compiled.evaluate(params, {"x": x})["output"])
    )


# ----------------------------------------------------------------------------------------------------------- evaluate


def numeric(f, x, eps=1e-6):
    """The gradient of a number with respect to a float64 array, by central differences."""
    g = np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[i] += eps
        down[i] -= eps
        g[i] = (f(up) - f(down)) / (2 * eps)
    return g


def test_one_step_by_hand(backend):
    engine = gl.get_backend(backend)
    compiled = gl.compile(Linear(2), backend, shapes={"input": [3, 4]})
    params = compiled.get_parameters()
    assert list(params) == ["weight", "bias"]
    x, y = data(engine, 3, 4), data(engine, 3, 2, seed=1)
    outputs, gradients = compiled.evaluate(params, {"input": x}, output_gradients=lambda o: {"output": o["output"] - y})
    w, b, xn, yn = (np.asarray(engine.to_numpy(a)) for a in (params["weight"], params["bias"], x, y))
    error = xn @ w.T + b - yn
    np.testing.assert_allclose(engine.to_numpy(outputs["output"]), error + yn, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(engine.to_numpy(gradients["weight"]), error.T @ xn, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(engine.to_numpy(gradients["bias"]), error.sum(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(engine.to_numpy(gradients["input_grad"]), error @ w, rtol=1e-5, atol=1e-6)


def test_gradients_against_numeric_ones():
    backend = gl.NumpyBackend(dtype="float64")
    x = Input("x")
    h = (Linear(4)(x)).tanh()
    model = Model.create(a=Softmax()(Linear(3)(h)), b=(h[:, :2] * x[:, 1:3]).mean(axis=1))
    compiled = gl.compile(model, backend, shapes={"x": [5, 3]})
    params = compiled.get_parameters()
    inputs = {"x": data(backend, 5, 3)}
    weights = {"a": data(backend, 5, 3, seed=1), "b": data(backend, 5, seed=2)}

    def number(params, inputs):
        out = compiled.evaluate(params, inputs)
        return sum((out[k] * weights[k]).sum() for k in weights)

    _, gradients = compiled.evaluate(params, inputs, output_gradients=weights)
    for name in params:
        expected = numeric(lambda p, name=name: number({**params, name: p}, inputs), params[name])
        np.testing.assert_allclose(gradients[name], expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        gradients["x_grad"], numeric(lambda x: number(params, {"x": x}), inputs["x"]), rtol=1e-6, atol=1e-8
    )


def test_partial_output_gradients(backend):
    engine = gl.get_backend(backend)
    model = Model()
    model |= Linear(4)(input="x", output="h")
    model |= Linear(2)(input="h", output="a")
    model |= Linear(3)(input="h", output="b")
    compiled = gl.compile(model, backend, shapes={"x": [5, 3]})
    params, x = compiled.get_parameters(), data(engine, 5, 3)
    g = data(engine, 5, 2, seed=1)
    _, partial = compiled.evaluate(params, {"x": x}, output_gradients={"a": g})
    _, full = compiled.evaluate(params, {"x": x}, output_gradients={"a": g, "b": engine.zeros(5, 3)})
    assert set(partial) == set(params)  # JAX gives dicts back sorted
    for n in params:
        np.testing.assert_allclose(engine.to_numpy(partial[n]), engine.to_numpy(full[n]), rtol=1e-6, atol=1e-7)
    assert not np.any(engine.to_numpy(partial["linear_2.weight"]))


def test_a_callable_gives_what_two_passes_give(backend):
    engine = gl.get_backend(backend)
    compiled = gl.compile(mlp(), backend, shapes={"x": [6, 4]})
    params, x = compiled.get_parameters(), data(engine, 6, 4)
    outputs = compiled.evaluate(params, {"x": x})
    _, two = compiled.evaluate(params, {"x": x}, output_gradients={"output": 2 * outputs["output"]})
    for _ in range(3):
        seen, one = compiled.evaluate(params, {"x": x}, output_gradients=lambda o: {"output": 2 * o["output"]})
    np.testing.assert_array_equal(engine.to_numpy(seen["output"]), engine.to_numpy(outputs["output"]))
    for n in two:
        np.testing.assert_allclose(engine.to_numpy(one[n]), engine.to_numpy(two[n]), rtol=1e-6, atol=1e-7)
    calls = []
    compiled.evaluate(params, {"x": x}, output_gradients=lambda o: calls.append(o) or {"output": o["output"]})
    assert len(calls) == 1


def test_a_callable_that_changes_its_mind():
    model = Model()
    model |= Linear(2)(input="x", output="a")
    model |= Linear(2)(input="x", output="b")
    compiled = gl.compile(model, "numpy", shapes={"x": [1, 2]})
    params, x = compiled.get_parameters(), np.ones((1, 2), "float32")
    for keys in (["a"], ["b"], ["a", "b"], ["a"]):
        _, g = compiled.evaluate(params, {"x": x}, output_gradients=lambda o, keys=keys: {k: o[k] for k in keys})
        _, expected = compiled.evaluate(
            params, {"x": x}, output_gradients={k: compiled.evaluate(params, {"x": x})[k] for k in keys}
        )
        for n in expected:
            np.testing.assert_array_equal(g[n], expected[n])


def test_it_is_pure(backend):
    engine = gl.get_backend(backend)
    compiled = gl.compile(mlp(), backend, shapes={"x": [6, 4]})
    params, inputs = compiled.get_parameters(), {"x": data(engine, 6, 4)}
    before = {n: np.array(engine.to_numpy(a)) for n, a in {**params, **inputs}.items()}
    gradients = {"output": data(engine, 6, 3)}
    kept = dict(gradients)
    first = compiled.evaluate(params, inputs, output_gradients=gradients)
    second = compiled.evaluate(params, inputs, output_gradients=gradients)
    assert gradients == kept and gradients["output"] is kept["output"]
    assert set(params) == set(compiled.parameter_keys) and set(inputs) == {"x"}
    for n, a in {**params, **inputs}.items():
        np.testing.assert_array_equal(engine.to_numpy(a), before[n])
    for n in first[1]:
        np.testing.assert_array_equal(engine.to_numpy(first[1][n]), engine.to_numpy(second[1][n]))


def test_several_threads():
    compiled = gl.compile(mlp(), "numpy", shapes={"x": [2, 4]})
    params = compiled.get_parameters()
    rng = np.random.RandomState(0)
    batches = [rng.randn(n, 4).astype("float32") for n in (1, 2, 3, 4)]
    expected = [compiled.evaluate(params, {"x": x})["output"] for x in batches]

    def work(k):
        return all(
            np.array_equal(compiled.evaluate(params, {"x": batches[k]})["output"], expected[k]) for _ in range(300)
        )

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_the_class_of_the_parameters_is_kept():
    compiled = gl.compile(mlp(), "numpy", shapes={"x": [1, 4]})
    params, x = compiled.get_parameters(), {"x": np.ones((1, 4), "float32")}
    cotangent = {"output": np.ones((1, 3), "float32")}
    _, g = compiled.evaluate(params, x, output_gradients=cotangent)
    assert type(g) is Parameters and "x_grad" not in g and len(g) == 4 and g["x_grad"].shape == (1, 4)
    with pytest.raises(KeyError):
        g["y_grad"]
    _, plain = compiled.evaluate(dict(params), x, output_gradients=cotangent)
    assert type(plain) is dict and "x_grad" not in plain
    _, plain = compiled.evaluate(dict(params), x, output_gradients=cotangent, input_gradients=("x",))
    np.testing.assert_array_equal(plain["x_grad"], g["x_grad"])
    copied = copy.deepcopy(params)
    assert type(copied) is Parameters and type(params.copy()) is Parameters


def test_state_in_and_out(backend):
    engine = gl.get_backend(backend)
    model = Model()
    model |= gl.nn.BatchNorm1d(3)
    compiled = gl.compile(model, backend, shapes={"input": [8, 3]})
    params, state, x = compiled.get_parameters(), compiled.get_state(), data(engine, 8, 3)
    module = gl.nn.BatchNorm1d(3).to(backend=backend)
    for _ in range(2):
        outputs, gradients, state = compiled.evaluate(
            params, {"input": x}, output_gradients={"output": x}, state=state, training=True
        )
        expected = module(gl.tensor(engine.to_numpy(x), backend=backend))
    np.testing.assert_allclose(engine.to_numpy(outputs["output"]), expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    for name, buffer in module.named_buffers():
        np.testing.assert_allclose(engine.to_numpy(state[f"batch_norm1d.{name}"]), buffer.numpy(), rtol=1e-5, atol=1e-6)
    module.eval()
    out, same = compiled.evaluate(params, {"input": x}, state=state)
    np.testing.assert_allclose(
        engine.to_numpy(out["output"]),
        module(gl.tensor(engine.to_numpy(x), backend=backend)).detach().numpy(),
        rtol=1e-4,
        atol=1e-5,
    )
    for name in state:
        np.testing.assert_array_equal(engine.to_numpy(same[name]), engine.to_numpy(state[name]))
    assert not isinstance(compiled.evaluate(params, {"input": x}), tuple)


def test_dropout_by_seed(backend):
    engine = gl.get_backend(backend)
    compiled = gl.compile(gl.nn.Dropout(0.5), backend, shapes={"input": [64]})
    x = engine.ones(64)
    run = lambda **o: np.asarray(engine.to_numpy(compiled.evaluate({}, {"input": x}, **o)["output"]))
    np.testing.assert_array_equal(run(), 1)
    a, b, c = (run(training=True, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert set(a) == {0.0, 2.0} and not np.array_equal(a, c)
    with pytest.raises(OptionError, match="seed="):
        run(training=True)


def test_without_jit_and_in_float64():
    for backend in (gl.NumpyBackend(dtype="float64"), gl.JaxBackend(dtype="float64"), gl.TorchBackend(dtype="float64")):
        found = []
        for jit in (True, False):
            compiled = gl.compile(mlp(), backend, shapes={"x": [6, 4]}, jit=jit)
            x = data(backend, 6, 4)
            _, g = compiled.evaluate(
                compiled.get_parameters(), {"x": x}, output_gradients=lambda o: {"output": o["output"]}
            )
            found.append(np.asarray(backend.to_numpy(g["linear.weight"])))
            assert found[-1].dtype == np.float64
        np.testing.assert_allclose(found[0], found[1], rtol=1e-12)


def test_inference_and_modules(backend):
    engine = gl.get_backend(backend)
    module = gl.nn.Sequential(gl.nn.Linear(4, 3), gl.nn.ReLU())
    compiled = gl.compile(module, backend, shapes={"input": [2, 4]}, inference=True)
    x = data(engine, 2, 4)
    found = compiled.evaluate(compiled.get_parameters(), {"input": x})["output"]
    np.testing.assert_allclose(
        engine.to_numpy(found), module(gl.tensor(engine.to_numpy(x))).detach().numpy(), rtol=1e-5, atol=1e-6
    )
    assert list(compiled.get_parameters()) == ["0.weight", "0.bias"]
    with pytest.raises(OptionError, match="inference=True"):
        compiled.evaluate(compiled.get_parameters(), {"input": x}, output_gradients={"output": found})


@pytest.mark.parametrize(
    ("call", "kind", "texts"),
    [
        (lambda c, p, x: c.evaluate(p, {"z": x}), OptionError, ["unknown: z", "missing: x"]),
        (lambda c, p, x: c.evaluate(p, {}), OptionError, ["missing: x"]),
        (lambda c, p, x: c.evaluate({}, {"x": x}), OptionError, ["missing", "linear.weight"]),
        (lambda c, p, x: c.evaluate({**p, "w": x}, {"x": x}), OptionError, ["'w'", "linear.weight"]),
        (lambda c, p, x: c.evaluate({**p, "linear.bias": x}, {"x": x}), ShapeError, ["linear.bias", "[8]", "[2, 4]"]),
        (lambda c, p, x: c.evaluate(p, {"x": x}, {"outptu": x}), OptionError, ["did you mean 'output'?"]),
        (lambda c, p, x: c.evaluate(p, {"x": x}, {"output": x}), ShapeError, ["[2, 3]", "[2, 4]", "output"]),
        (lambda c, p, x: c.evaluate(p, {"x": x}, 3), OptionError, ["dict by output"]),
        (lambda c, p, x: c.evaluate(p, {"x": x}, {"output": x[:, :3]}, input_gradients=["y"]), OptionError, ["'y'"]),
        (lambda c, p, x: c.evaluate(p, {"x": x}, input_gradients=["x"]), OptionError, ["needs output_gradients"]),
        (lambda c, p, x: c.evaluate(p, {"x": x}, state={"s": x}), OptionError, ["'s'"]),
        (lambda c, p, x: c.evaluate(p, {"x": "no array"}), OptionError, ["input 'x'", "no array"]),
        (
            lambda c, p, x: c.evaluate(p, {"x": gl.get_backend("torch").array([[1.0] * 4])}),
            BackendError,
            ["torch", "numpy"],
        ),
    ],
)
def test_evaluate_errors(call, kind, texts):
    compiled = gl.compile(mlp(), "numpy", shapes={"x": [2, 4]})
    params, x = compiled.get_parameters(), np.ones((2, 4), "float32")
    with pytest.raises(kind) as caught:
        call(compiled, params, x)
    for text in texts:
        assert text in str(caught.value), str(caught.value)
    assert compiled.evaluate(params, {"x": x})["output"].shape == (2, 3)


def test_inside_of_gradloom_jit_it_is_refused():
    compiled = gl.compile(mlp(), "numpy", shapes={"x": [2, 4]})
    params = compiled.get_parameters()
    with pytest.raises(TraceError, match="to_module"):
        gl.jit(lambda x: compiled.evaluate(params, {"x": x})["output"])(gl.ones(2, 4))


def test_an_input_of_integers_has_no_gradient():
    model = Model()
    model |= Embedding(10, 4)(input="tokens")
    compiled = gl.compile(model, "numpy", shapes={"tokens": [3]})
    params, inputs = compiled.get_parameters(), {"tokens": np.arange(3)}
    _, gradients = compiled.evaluate(params, inputs, output_gradients={"output": np.ones((3, 4), "float32")})
    with pytest.raises(GradientError, match="the input 'tokens' has no gradient"):
        gradients["tokens_grad"]


def test_an_output_of_integers_has_no_gradient():
    model = Model()
    model |= Linear(3)(input="x", output="y")
    model |= Function(lambda y: y.argmax(1))(y="y", output="c")
    model.set_outputs("y")
    compiled = gl.compile(model, "numpy", shapes={"x": [2, 4]})
    params, x = compiled.get_parameters(), np.ones((2, 4), "float32")
    out, _ = compiled.evaluate(params, {"x": x}, output_gradients={"y": np.ones((2, 3), "float32")})
    assert out["c"].dtype == np.int64
    with pytest.raises(GradientError, match="'c' has no gradient"):
        compiled.evaluate(params, {"x": x}, output_gradients={"c": np.ones(2)})


# ---------------------------------------------------------------------------------------- the engines' own transforms


def test_under_jax():
    jax = pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    jnp = jax.numpy
    engine = gl.get_backend("jax")
    compiled = gl.compile(mlp(), "jax", shapes={"x": [6, 4]})
    params, x, y = compiled.get_parameters(), data(engine, 6, 4), data(engine, 6, 3, seed=1)

    def loss(params, x):
        return jnp.mean(jnp.square(compiled.evaluate(params, {"x": x})["output"] - y))

    value, grads = jax.jit(jax.value_and_grad(loss))(params, x)
    outputs, expected = compiled.evaluate(
        params, {"x": x}, output_gradients=lambda o: {"output": 2 * (o["output"] - y) / 18}
    )
    assert type(grads) is Parameters
    np.testing.assert_allclose(value, jnp.mean(jnp.square(outputs["output"] - y)), rtol=1e-6)
    for n in expected:
        np.testing.assert_allclose(grads[n], expected[n], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(jax.grad(loss, argnums=1)(params, x), expected["x_grad"], rtol=1e-5, atol=1e-7)
    batched = jax.vmap(lambda x: compiled.evaluate(params, {"x": x})["output"])(jnp.stack([x, 2 * x]))
    np.testing.assert_allclose(batched[1], compiled.evaluate(params, {"x": 2 * x})["output"], rtol=1e-5, atol=1e-6)
    second = jax.grad(lambda p: sum(jnp.sum(g**2) for g in jax.grad(loss)(p, x).values()))(params)
    assert type(second) is Parameters and set(second) == set(params)
    optimizer = optax.adam(1e-2)
    updates, _ = optimizer.update(expected, optimizer.init(params))
    assert type(optax.apply_updates(params, updates)) is Parameters
    scale = gl.compile(Model.create(y=Relu()(Input("x") * IOKey("s", value=np.zeros(1), trainable=True))), "jax")
    zero = scale.get_parameters()
    for _ in range(2):  # also after the plain call was cached
        slope = jax.grad(lambda p: scale.evaluate(p, {"x": jnp.ones(1)})["y"][0])(zero)
        assert slope["s"][0] == 0
        scale.evaluate(zero, {"x": jnp.ones(1)})
    # At 0 the gradient of relu is 0 here, and 1/2 by JAX's own rule for maximum.
    at_zero = gl.compile(Relu(), "jax", shapes={"input": [1]})
    assert jax.grad(lambda x: at_zero.evaluate({}, {"input": x})["output"][0])(jnp.zeros(1))[0] == 0


def test_jax_gradients_and_state():
    """The state is no input of the gradient: said aloud, not zero."""
    jax = pytest.importorskip("jax")
    model = Model()
    model |= Linear(3)(input="x")
    model += gl.nn.BatchNorm1d(3)
    compiled = gl.compile(model, "jax", shapes={"x": [8, 4]})
    params, state, x = compiled.get_parameters(), compiled.get_state(), data(gl.get_backend("jax"), 8, 4)

    def loss(params, state):
        outputs, new = compiled.evaluate(params, {"x": x}, state=state, training=True)
        return (outputs["output"] ** 3).sum(), new

    for fn in (loss, jax.jit(loss)):
        (_, new), grads = jax.value_and_grad(fn, has_aux=True)(params, state)
        outputs, expected, again = compiled.evaluate(
            params, {"x": x}, lambda o: {"output": 3 * o["output"] ** 2}, state=state, training=True
        )
        for n in expected:
            np.testing.assert_allclose(grads[n], expected[n], rtol=1e-4, atol=1e-5)
        for n in again:
            np.testing.assert_allclose(new[n], again[n], rtol=1e-6)

    def of_state(means):
        held = {**state, "batch_norm1d.running_mean": means}
        return compiled.evaluate(params, {"x": x}, state=held)[0]["output"].sum()

    with pytest.raises(GradientError, match="with respect to its state"):
        jax.grad(of_state)(state["batch_norm1d.running_mean"])
    fixed = jax.grad(lambda m: of_state(jax.lax.stop_gradient(m)))(state["batch_norm1d.running_mean"])
    np.testing.assert_array_equal(fixed, 0)


def test_jax_gradients_go_through_a_backward_call():
    jax = pytest.importorskip("jax")
    compiled = gl.compile(mlp(), "jax", shapes={"x": [6, 4]})
    engine = gl.get_backend("jax")
    params, x = compiled.get_parameters(), data(engine, 6, 4)

    @jax.jit
    def step(params, x):
        outputs, gradients = compiled.evaluate(params, {"x": x}, output_gradients=lambda o: {"output": o["output"]})
        return {n: p - 0.1 * gradients[n] for n, p in params.items()}

    new = step(params, x)
    _, g = compiled.evaluate(params, {"x": x}, output_gradients=lambda o: {"output": o["output"]})
    for n in params:
        np.testing.assert_allclose(new[n], params[n] - 0.1 * g[n], rtol=1e-5, atol=1e-6)


def test_under_torch_autograd():
    torch = pytest.importorskip("torch")
    engine = gl.get_backend("torch")
    compiled = gl.compile(mlp(), "torch", shapes={"x": [6, 4]})
    x = data(engine, 6, 4).requires_grad_()
    params = {n: p.requires_grad_() for n, p in compiled.get_parameters().items()}
    outputs = compiled.evaluate(params, {"x": x})
    outputs["output"].square().sum().backward()
    with torch.no_grad():
        _, expected = compiled.evaluate(
            params, {"x": x}, output_gradients={"output": 2 * outputs["output"]}, input_gradients=["x"]
        )
    for n in params:
        torch.testing.assert_close(params[n].grad, expected[n])
    torch.testing.assert_close(x.grad, expected["x_grad"])
    _, quiet = compiled.evaluate(params, {"x": x}, output_gradients={"output": torch.ones(6, 3)})
    assert not any(g.requires_grad for g in quiet.values())
    at_zero = torch.zeros(1, requires_grad=True)
    gl.compile(Relu(), "torch", shapes={"input": [1]}).evaluate({}, {"input": at_zero})["output"].sum().backward()
    assert at_zero.grad.item() == 0


# -------------------------------------------------------------------------------------------------------- train model


def test_a_train_model(backend):
    engine = gl.get_backend(backend)
    model = mlp()
    train = TrainModel(model)
    train.add_loss(lambda input, target: (input - target) ** 2, name="squares", target="y")
    train.add_loss(lambda input: input.abs().sum(), name="size", coef=0.5)
    train.add_regularization(lambda w: (w * w).sum(), coef=0.1, keys=re.compile("weight"))
    train.add_metric(lambda input, target: (input - target).abs().mean(), name="mae", target="y")
    compiled = gl.compile(train, backend, shapes={"x": [6, 4], "y": [6, 3]})
    assert compiled.output_keys == ("output", "squares", "final_cost", "size", "mae")
    params, x, y = compiled.get_parameters(), data(engine, 6, 4), data(engine, 6, 3, seed=1)
    assert list(params) == list(gl.compile(model, backend, shapes={"x": [6, 4]}).get_parameters())
    out, gradients = compiled.evaluate(params, {"x": x, "y": y}, output_gradients={"final_cost": 1.0})
    o, yn = np.asarray(engine.to_numpy(out["output"])), np.asarray(engine.to_numpy(y))
    penalty = sum(float((np.asarray(engine.to_numpy(params[n])) ** 2).sum()) for n in params if "weight" in n)
    expected = ((o - yn) ** 2).mean() + 0.5 * np.abs(o).sum() + 0.1 * penalty
    np.testing.assert_allclose(float(engine.to_numpy(out["final_cost"])), expected, rtol=1e-5)
    np.testing.assert_allclose(float(engine.to_numpy(out["mae"])), np.abs(o - yn).mean(), rtol=1e-5)
    new = {n: p - 0.01 * gradients[n] for n, p in params.items()}
    assert float(engine.to_numpy(compiled.evaluate(new, {"x": x, "y": y})["final_cost"])) < expected
    assert model.output_keys == ("output",)  # the model itself is as it was


def test_train_model_errors():
    train = TrainModel(mlp())
    with pytest.raises(OptionError, match="one input"):
        train.add_regularization(Function(lambda a, b: a + b))
    train.add_regularization(lambda w: w.sum(), keys="encoder.*")
    with pytest.raises(OptionError, match="no parameter to work on"):
        gl.compile(train, "numpy", shapes={"x": [1, 2]})
    train.add_loss(lambda input, target: input - target, name="loss")
    with pytest.raises(OptionError, match="already"):
        train.add_loss(lambda input, target: input - target, name="loss")


# --------------------------------------------------------------------------------------------------- emitted modules


@pytest.mark.parametrize("shapes", [{"x": [6, 4]}, {"x": [None, 4]}, None], ids=["known", "batch unknown", "unknown"])
def test_file_path(backend, shapes, tmp_path):
    engine = gl.get_backend(backend)
    path = tmp_path / "net.py"
    compiled = gl.compile(mlp(), backend, shapes=shapes, file_path=path, jit=False)
    assert path.exists() == (shapes == {"x": [6, 4]})
    params, x = compiled.get_parameters(), data(engine, 6, 4)
    g = {"output": data(engine, 6, 3)}
    outputs, gradients = compiled.evaluate(params, {"x": x}, output_gradients=g)
    text = path.read_text()
    assert "import gradloom" not in text and "from gradloom" not in text
    scope = {"__name__": "net"}
    exec(compile(text, str(path), "exec"), scope)
    with engine.no_grad():
        found = scope["forward"](dict(params), {"x": x})
        again, theirs = scope["backward"](dict(params), {"x": x}, g)
    for mine, other in ((outputs, found), (outputs, again), (gradients, theirs)):
        assert set(mine) == set(other)
        for name in mine:
            np.testing.assert_array_equal(engine.to_numpy(mine[name]), engine.to_numpy(other[name]))
