"""Composition: `|=`, `+=`, names, expressions, nesting, sharing, and what is refused."""

import numpy as np
import pytest

import gradloom as gl
from gradloom.errors import OptionError, ShapeError
from gradloom.models import Function, Input, IOKey, Linear, Model, Relu, Softmax


def names(model, **shapes):
    return [n for n, _ in model.to_module(shapes).named_parameters()]


def chain():
    model = Model()
    model |= Linear(8)
    model += Relu()
    model += Linear(3)
    return model


# ------------------------------------------------------------------------------------------------------------- wiring


def test_a_chain():
    model = chain()
    assert (model.input_keys, model.output_keys) == (("input",), ("output",))
    assert names(model, input=[None, 4]) == ["linear.weight", "linear.bias", "linear_1.weight", "linear_1.bias"]
    assert [name for name, _ in model.parts()] == ["linear", "relu", "linear_1"]


def test_call_and_connect_are_the_same():
    a, b = Model(), Model()
    a |= Linear(2)(input="x", output="y")
    b |= Linear(2).connect(input="x", output="y")
    assert a.input_keys == b.input_keys == ("x",)
    assert a.output_keys == b.output_keys == ("y",)


def test_names_connect_whatever_the_order():
    model = Model()
    model |= Linear(3)(input="hidden", output="y")
    model |= Linear(5)(input="x", output="hidden")
    module = model.to_module({"x": [None, 2]})
    assert model.input_keys == ("x",)
    assert module(gl.ones(7, 2)).shape == (7, 3)


def test_fan_out_and_several_outputs():
    model = Model()
    model |= Linear(4)(input="encoder_output", output="embedding")
    model += Linear(3)(input="embedding", output="classes")
    model += Linear(2)(input="embedding", output="reconstruction")
    assert model.input_keys == ("encoder_output",)
    assert set(model.output_keys) == {"classes", "reconstruction"}
    found = model.to_module({"encoder_output": [None, 2]})(gl.ones(5, 2))
    assert {k: tuple(v.shape) for k, v in found.items()} == {"classes": (5, 3), "reconstruction": (5, 2)}


def test_expose_makes_a_connection_that_is_read_an_output():
    model = chain()
    model.set_outputs(hidden=list(model.parts())[1][1].output)
    assert set(model.output_keys) == {"hidden", "output"}


def test_ports_of_parts():
    first, model = Linear(4), Model()
    model |= first
    model |= Relu()(input=first.output)
    model |= Linear(2)(input=first.output)
    with pytest.raises(OptionError, match="relu goes nowhere"):
        gl.compile(model, "numpy", shapes={"input": [1, 2]}).evaluate({}, {})
    named = Model()
    named |= first(input="x")
    named |= Relu()(input=first.output, output="a")
    named |= Linear(2)(input=first.output, output="b")
    assert set(named.output_keys) == {"a", "b"}


def test_plus_on_an_empty_model_only_adds():
    model = Model()
    model += Linear(2)(input="x")
    assert model.input_keys == ("x",)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda a, b: a + b, lambda a, b: a + b),
        (lambda a, b: 2 - a * b, lambda a, b: 2 - a * b),
        (lambda a, b: a @ b.T, lambda a, b: a @ b.T),
        (lambda a, b: a[:, 0] / 3, lambda a, b: a[:, 0] / 3),
        (lambda a, b: a[..., None, 1:].mean(axis=-1), lambda a, b: a[..., None, 1:].mean(axis=-1)),
        (lambda a, b: (-a).reshape(-1), lambda a, b: (-a).reshape(-1)),
        (lambda a, b: abs(a) ** 2 > b, lambda a, b: abs(a) ** 2 > b),
        (
            lambda a, b: gl.ops.exp(a) + gl.ops.concat(a, b, axis=0)[:3],
            lambda a, b: np.exp(a) + np.concatenate([a, b])[:3],
        ),
        (lambda a, b: a.sum(), lambda a, b: a.sum()),
        (lambda a, b: a + np.arange(4.0), lambda a, b: a + np.arange(4.0)),
        (lambda a, b: 2.0**a, lambda a, b: 2.0**a),
        (lambda a, b: a.transpose(0, 1) + 1, lambda a, b: a.T + 1),
    ],
)
def test_expressions(backend, build, expected):
    rng = np.random.RandomState(0)
    a, b = rng.randn(3, 4), rng.randn(3, 4)
    model = Model.create(output=build(Input("a"), Input("b")))
    given = {"a": a, "b": b}
    compiled = gl.compile(model, backend)
    engine = gl.get_backend(backend)
    found = compiled.evaluate({}, {k: engine.array(given[k]) for k in compiled.input_keys})["output"]
    np.testing.assert_allclose(engine.to_numpy(found), expected(a, b), rtol=1e-5, atol=1e-6)


def test_the_functional_form_is_the_composed_one():
    x = Input("x")
    hidden = Relu()(Linear(8)(x))
    functional = Model.create(output=Linear(3)(hidden))
    composed = Model()
    composed |= Linear(8)(input="x")
    composed += Relu()
    composed += Linear(3)(output="output")
    found = [gl.compile(m, "numpy", shapes={"x": [2, 4]}).get_parameters() for m in (functional, composed)]
    assert list(found[0]) == list(found[1])
    for name in found[0]:
        np.testing.assert_array_equal(found[0][name], found[1][name])


def test_functions_over_tensors_are_parts():
    model = Model()
    model |= Function(lambda x, gain: (x * gain, x + gain), outputs=("scaled", "moved"), name="both")(
        gain=IOKey("gain")
    )
    assert model.input_keys == ("x", "gain")
    x = np.ones((2, 2), "float32")
    found = gl.compile(model, "numpy").evaluate({}, {"x": x, "gain": 3 * x})
    np.testing.assert_array_equal(found["output"], 3 * x)
    plain = Model()
    plain |= gl.nn.functional.relu
    plain += lambda input: input + 1
    np.testing.assert_array_equal(gl.compile(plain, "numpy").evaluate({}, {"input": -x})["output"], x)


def test_modules_are_parts_and_keep_their_values():
    linear = gl.nn.Linear(3, 2)
    model = Model()
    model |= linear
    model += Relu()
    compiled = gl.compile(model, "numpy", shapes={"input": [1, 3]})
    np.testing.assert_array_equal(compiled.get_parameters()["linear.weight"], linear.weight.detach().numpy())
    before = linear.weight.detach().clone()
    assert not np.array_equal(compiled.randomize_params(seed=1)["linear.weight"], before.numpy())
    assert linear.weight.equal(before)  # the module itself is not touched


# ------------------------------------------------------------------------------------------------- nesting and sharing


def test_nested_models_have_paths():
    inner = chain()
    inner.name = "encoder"
    model = Model()
    model |= inner(input="x", output="code")
    model += Linear(2)
    assert names(model, x=[None, 4])[::2] == ["encoder.linear.weight", "encoder.linear_1.weight", "linear.weight"]
    deeper = Model()
    deeper |= model(x="image")
    assert names(deeper, image=[None, 4])[0] == "model.encoder.linear.weight"
    assert deeper.input_keys == ("image",)


def test_one_model_in_two_others():
    inner = chain()
    found = []
    for width in (4, 6):
        model = Model()
        model |= inner
        model += Softmax()
        found.append(model.to_module({"input": [None, width]})(gl.ones(2, width)).shape)
    assert found == [(2, 3), (2, 3)]


def test_the_same_part_twice_shares_its_parameters():
    layer = Linear(4)
    model = Model()
    model |= layer
    model += Relu()
    model += layer
    module = model.to_module({"input": [None, 4]})
    assert [n for n, _ in module.named_parameters()] == ["linear.weight", "linear.bias"]
    x = gl.ones(1, 4)
    w, b = module.linear.weight, module.linear.bias
    assert module(x).equal((x @ w.T + b).relu() @ w.T + b)


def test_the_same_model_twice_and_its_copy():
    block = Model()
    block |= Linear(4)
    block += Relu()
    model = Model()
    model |= block
    model += block
    model += block.copy()
    assert names(model, input=[None, 4]) == [
        "model.linear.weight", "model.linear.bias", "model_2.linear.weight", "model_2.linear.bias"
    ]  # fmt: skip


def test_a_shared_weight_by_name():
    model = Model()
    model |= Linear(4, use_bias=False)(input="x", weight="w", output="a")
    model |= Linear(4, use_bias=False)(input="a", weight="w", output="b")
    module = model.to_module({"x": [None, 4]})
    assert [n for n, _ in module.named_parameters()] == ["w"]
    assert model.input_keys == ("x",)
    x = gl.ones(2, 4)
    assert module(x).allclose(x @ module.w.T @ module.w.T)


def test_a_weight_that_is_computed():
    model = Model()
    model |= Linear(3, use_bias=False)(input="x", weight=Input("a") @ Input("b"))
    x, a, b = (np.random.RandomState(i).randn(*s).astype("float32") for i, s in enumerate([(2, 4), (3, 2), (2, 4)]))
    compiled = gl.compile(model, "numpy")
    found = compiled.evaluate({}, {"x": x, "a": a, "b": b})["output"]
    np.testing.assert_allclose(found, x @ (a @ b).T, rtol=1e-5)


# ---------------------------------------------------------------------------------------- values, trainable, frozen


def test_values_and_trainable_connections():
    model = Model()
    model |= Linear(2)(input=IOKey("x") * IOKey("scale", value=3.0), output="y")
    assert model.input_keys == ("x",)
    model = Model.create(y=Input("x") @ IOKey("w", shape=[4, 2], trainable=True))
    compiled = gl.compile(model, "numpy", shapes={"x": [None, 4]})
    params = compiled.get_parameters()
    assert {n: p.shape for n, p in params.items()} == {"w": (4, 2)}
    assert np.abs(params["w"]).max() <= 1 / np.sqrt(2)
    started = Model.create(y=Input("x") @ IOKey("w", value=np.eye(2), trainable=True))
    np.testing.assert_array_equal(gl.compile(started, "numpy").get_parameters()["w"], np.eye(2))


def test_a_method_of_a_number():
    model = Model.create(y=Input("x") * IOKey(value=5.0).clamp(max=3.0))
    np.testing.assert_array_equal(gl.compile(model, "numpy").evaluate({}, {"x": np.ones(2, "float32")})["y"], [3, 3])


def test_set_values_shapes_and_trainable():
    model = chain()
    model.set_shapes(input=[None, 4])
    assert gl.compile(model, "numpy").get_parameters()["linear.weight"].shape == (8, 4)
    model = Model.create(y=Input("x") + Input("offset"))
    model.set_values(offset=np.ones(3, "float32"))
    assert model.input_keys == ("x",)
    np.testing.assert_array_equal(
        gl.compile(model, "numpy").evaluate({}, {"x": np.zeros(3, "float32")})["y"], np.ones(3)
    )
    model = Model.create(y=Input("x") + Input("offset", shape=[3]))
    model.set_trainable("offset")
    assert list(gl.compile(model, "numpy").get_parameters()) == ["offset"]


def test_rename():
    model = chain()
    model.rename("input", "image")
    model.rename("output", "logits")
    assert (model.input_keys, model.output_keys) == (("image",), ("logits",))
    with pytest.raises(OptionError, match="already"):
        model.rename("image", "logits")


def test_frozen_parameters_have_no_gradients():
    model = chain()
    model.freeze("linear.*")
    compiled = gl.compile(model, "numpy", shapes={"input": [2, 4]})
    x = {"input": np.ones((2, 4), "float32")}
    _, gradients = compiled.evaluate(
        compiled.get_parameters(), x, output_gradients={"output": np.ones((2, 3), "float32")}
    )
    assert list(gradients) == ["linear_1.weight", "linear_1.bias"]
    model.unfreeze()
    first = next(part for _, part in model.parts())
    first.freeze()
    compiled = gl.compile(model, "numpy", shapes={"input": [2, 4]})
    _, gradients = compiled.evaluate(
        compiled.get_parameters(), x, output_gradients={"output": np.ones((2, 3), "float32")}
    )
    assert list(gradients) == ["linear_1.weight", "linear_1.bias"]


def test_a_pattern_that_freezes_nothing():
    model = chain()
    model.freeze("encoder.*")
    with pytest.raises(OptionError, match="freeze: no parameter") as caught:
        gl.compile(model, "numpy", shapes={"input": [2, 4]})
    assert "encoder.*" in str(caught.value) and "linear.weight" in str(caught.value)


def test_running_a_layer_on_arrays(backend):
    engine = gl.get_backend(backend)
    layer = Linear(3)
    x = engine.array(np.ones((2, 5)))
    found = layer(x)
    assert type(found) is type(x)
    np.testing.assert_array_equal(engine.to_numpy(found), engine.to_numpy(layer(input=x)))  # the same parameters
    assert isinstance(layer(gl.ones(4, 5)), gl.Tensor)


def test_running_layers_of_optional_and_several_inputs():
    loss = gl.models.CrossEntropy()
    x, target, weight = gl.rand(4, 3), gl.tensor([0, 1, 2, 1]), gl.tensor([1.0, 2.0, 3.0])
    expected = gl.nn.functional.cross_entropy(x, target, weight=weight)
    assert loss(input=x, target=target, weight=weight).allclose(expected)
    with pytest.raises(OptionError, match="other inputs before"):
        loss(input=x, target=target)
    assert gl.models.Concat(axis=0)([x, 2 * x]).shape == (8, 3)
    assert isinstance(gl.models.Concat(axis=0)([np.ones(2), np.zeros(3)]), np.ndarray)


# ------------------------------------------------------------------------------------------------------------- errors


def cyclic():
    model = Model()
    model |= Linear(3)(input="a", output="b")
    model |= Linear(3)(input="b", output="a")
    return model


def twice_produced():
    model = Model()
    model |= Linear(3)(input="x", output="y")
    model |= Relu()(input="x", output="y")


def two_loose_inputs():
    model = Model()
    model |= Linear(3)(output="a")
    model |= Linear(3)(output="b")
    gl.compile(model, "numpy")


def foreign_port():
    model = Model()
    model |= Linear(3)(input=Linear(2).output)


def inner_connection():
    inner, outer = Model(), Model()
    inner |= Linear(3)(input="a", output="h")
    inner += Relu()
    outer |= inner(a="x")
    outer |= Relu()(input=inner.h, output="y")


@pytest.mark.parametrize(
    ("make", "texts"),
    [
        (lambda: gl.compile(cyclic(), "numpy"), ["cycle", "linear -> linear_1 -> linear", "test_model.py"]),
        (twice_produced, ["'y'", "already", "linear", "test_model.py"]),
        (two_loose_inputs, ["not connected", "linear", "linear_1", "name them"]),
        (foreign_port, ["linear", "not a part of this model"]),
        (lambda: Linear(3)(inptu="x"), ["no connection 'inptu'", "did you mean 'input'?"]),
        (lambda: Linear(3)(input="not a name"), []),
        (lambda: chain()["hidden"], ["no connection 'hidden'"]),
        (lambda: Model().__ior__(Linear), ["cannot be added", "call it"]),
        (lambda: Model().__ior__(3), ["cannot be added"]),
        (lambda: gl.compile(Model(), "numpy"), ["no outputs"]),
        (lambda: IOKey("1x"), ["identifier"]),
        (lambda: Model().__ior__(Linear(2, name='a"]')), ["name of a part"]),
        (inner_connection, ["no connection 'h'"]),
        (lambda: IOKey("x", shape=[-1]), ["list of sizes"]),
        (lambda: gl.compile(3, "numpy"), ["composed model"]),
    ],
)
def test_errors(make, texts):
    if not texts:  # only when it is added is it known to be a name
        model = Model()
        with pytest.raises(OptionError, match="identifier"):
            model |= make()
        return
    with pytest.raises((OptionError, ShapeError)) as caught:
        make()
    for text in texts:
        assert text in str(caught.value), str(caught.value)


def test_a_model_stays_as_it_was_when_adding_fails():
    model = chain()
    before = repr(model)
    with pytest.raises(OptionError):
        model |= Linear(2)(input="input", wrong="x")
    with pytest.raises(OptionError):
        model |= Relu()(input="input", output=next(iter(model.parts()))[1].output)
    assert repr(model) == before


def test_conditions_and_iteration_are_refused():
    x = Input("x")
    with pytest.raises(TypeError, match="no value while the model is composed"):
        bool(x > 0)
    with pytest.raises(TypeError, match="iteration"):
        list(x)
    with pytest.raises(AttributeError):
        x.backward()
