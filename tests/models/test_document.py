"""Models as JSON and back: what is written, that it compiles to the same, and that no damaged document gets through."""

import copy
import json
import re

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import gradloom as gl
from gradloom.errors import FileFormatError, OptionError
from gradloom.models import L2, AbsoluteError, Function, Input, IOKey, Linear, Model, Relu, SquaredError, TrainModel
from gradloom.models.document import from_document, from_json, load_model, save_model, to_document, to_json
from models.document_samples import MODELS, chain, nested, shared_layer, shared_model
from models.layer_samples import SAMPLES


def behaviour(model, shapes):
    """All that a compiled model shows: keys, parameters, source, outputs, gradients."""
    compiled = gl.compile(model, "numpy", shapes=shapes, seed=3)
    parameters = compiled.get_parameters()
    inputs = {n: np.random.default_rng(1).normal(size=shapes[n]).astype("float32") for n in compiled.input_keys}
    outputs = compiled.evaluate(parameters, inputs)
    sources = [compiled.source]
    cotangents = {n: np.ones_like(x) for n, x in outputs.items() if x.dtype.kind == "f"}
    _, gradients = compiled.evaluate(parameters, inputs, output_gradients=cotangents)
    sources.append(compiled.source)
    arrays = [
        {n: (np.asarray(x).tobytes(), x.dtype, x.shape) for n, x in t.items()} for t in (parameters, outputs, gradients)
    ]
    return compiled.input_keys, compiled.output_keys, compiled.parameter_keys, sources, arrays


@pytest.mark.parametrize("make", MODELS, ids=lambda f: f.__name__)
def test_round_trip(make):
    model, shapes = make()
    document = to_document(model)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    again = from_document(document)
    assert to_document(again) == document
    assert from_document(json.loads(to_json(model, indent=None))).keys == model.keys
    assert behaviour(again, shapes) == behaviour(model, shapes)


def test_a_document_is_the_same_before_and_after_compiling():
    for make in MODELS:
        model, shapes = make()
        before = to_json(model)
        gl.compile(model, "numpy", shapes=shapes)
        assert to_json(model) == before
        assert to_json(from_json(before)) == before


def test_text():
    model = Model(name="net")
    shared = Linear(2)
    model |= shared(input=IOKey("x", shape=[None, 2]), output="h")
    model |= shared(input=model["h"][..., ::2].repeat(1, 2))
    model.freeze("*.bias")
    assert (
        to_json(model)
        == """\
{
  "format": "gradloom model",
  "version": 1,
  "parts": [
    {"type": "Linear", "options": {"dimension": 2, "use_bias": true, "name": null}},
    {
      "type": "Apply",
      "target": "operator:getitem",
      "args": [{"operand": 0}, {"tuple": [{"ellipsis": true}, {"slice": [null, null, 2]}]}],
      "kwargs": {}
    },
    {"type": "Apply", "target": "method:repeat", "args": [{"operand": 0}, 1, 2], "kwargs": {}},
    {
      "type": "Model",
      "name": "net",
      "frozen": ["*.bias"],
      "connections": {"x": {"shape": [null, 2]}, "h": {}},
      "unnamed": [{}, {}],
      "steps": [
        {"name": "linear", "part": 0, "connections": {"input": "x", "output": "h"}},
        {"name": "getitem", "part": 1, "connections": {"operand_0": "h", "output": 0}},
        {"name": "repeat", "part": 2, "connections": {"operand_0": 0, "output": 1}},
        {"name": "linear_1", "part": 0, "connections": {"input": 1}}
      ]
    }
  ]
}
"""
    )


def test_shared_parts_stay_one():
    again = from_document(to_document(shared_layer()[0]))
    (_, first), (_, second) = again.parts()
    assert first is second
    again = from_document(to_document(shared_model()[0]))
    (_, first), (_, second) = again.parts()
    assert first is second


def test_a_loaded_model_can_be_extended():
    model, _ = nested()
    model = from_document(to_document(model))
    model |= Relu()(input=model["logits"], output="positive")
    model.encoder = None  # attributes are the user's
    compiled = gl.compile(model, "numpy", shapes={"x": [5, 3]})
    assert compiled.output_keys == ("positive",)


def test_train_model():
    model, shapes = chain()
    train = TrainModel(model)
    train.add_loss(SquaredError(), coef=2, name="loss", target="y")
    train.add_regularization(L2(), coef=0.5, keys=["*.bias"])
    shapes = {**shapes, "y": [5, 2]}
    again = from_document(json.loads(to_json(train)))
    assert isinstance(again, TrainModel) and to_document(again) == to_document(train)
    assert behaviour(again, shapes) == behaviour(train, shapes)
    for made in (train, again):
        made.add_loss(AbsoluteError(), target="y")
        made.add_metric(SquaredError(), name="metric", target="y")
    assert behaviour(again, shapes) == behaviour(train, shapes)
    train.add_regularization(L2(), keys=re.compile("bias$"))
    with pytest.raises(OptionError, match="cannot hold a regular expression"):
        to_document(train)


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        (-1, "main", "none", "no connection of the model"),
        (-1, "cost", 0, "no step with the cost"),
        (-2, "coefficients", [1, 2], "not as many losses as coefficients"),
        (-2, "coefficients", ["1"], "this is a number"),
        (-2, "regularizers", [{"part": 0, "coefficient": 1, "keys": 3}], "a list of strings"),
        (-2, "regularizers", [{"part": 99, "coefficient": 1, "keys": "*"}], "no number of an earlier part"),
    ],
)
def test_wrong_train_models(part, field, value, message):
    train = TrainModel(chain()[0])
    train.add_loss(SquaredError(), target="y")
    wrong = to_document(train)
    wrong["parts"][part][field] = value
    with pytest.raises(FileFormatError, match=message):
        from_document(wrong)


# ------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype="int8").reshape(2, 3),
        np.array([True, False]),
        np.array(1.5, "float16"),
        np.float32(0.1),
        np.array([np.nan, np.inf, -0.0], "float32"),
        np.zeros((0, 3), "float32"),
        np.linspace(-1, 1, 100).reshape(10, 10),
        np.asfortranarray(np.linspace(-1, 1, 100).reshape(10, 10)),
        np.arange(4, dtype=">i4"),
        [[1, 2.5], [3, 4]],
        (1, 2, 3),
        0.1,
        float("-inf"),
        True,
        7,
    ],
    ids=repr,
)
def test_values_are_exact(value):
    model = Model()
    model |= Relu()(input=IOKey("x", value=value))
    found = from_json(to_json(model))._names["x"].value
    if isinstance(value, (np.ndarray, np.generic)):
        assert found.dtype == value.dtype.newbyteorder("=") and found.shape == value.shape
        assert found.tobytes() == np.ascontiguousarray(value.astype(found.dtype)).tobytes()
    else:
        assert type(found) is type(value) and found == value


def test_tensors_keep_their_dtype(backend):
    for d in (gl.float32, gl.bfloat16, gl.int64, gl.float16):
        model = Model()
        model |= Relu()(input=IOKey("x", value=gl.tensor([1.5, 2, 3.25], dtype=d)))
        found = from_json(to_json(model))._names["x"].value
        assert isinstance(found, gl.Tensor) and found.dtype is d
        assert found.tolist() == gl.tensor([1.5, 2, 3.25], dtype=d).tolist()


@pytest.mark.parametrize("name", list(SAMPLES))
def test_layers_keep_their_options(name):
    for sample in SAMPLES[name]:
        made = getattr(gl.models, name)(**sample.options)
        document = to_document(made)
        again = from_json(to_json(made))
        assert to_document(again) == document and again.keys == made.keys
        if not isinstance(made, Model):
            assert type(again) is type(made) and again.options() == made.options()


# -------------------------------------------------------------------------------------------------- what is refused


def test_functions_are_refused():
    model = Model()
    model |= Linear(2)
    inner = Model(name="inner")
    inner |= Function(lambda x: x.exp(), name="squash")
    model += inner
    with pytest.raises(OptionError) as error:
        to_document(model)
    assert str(error.value).startswith("the part model.inner.squash holds a Python function, which a document cannot\n")
    assert "do:       write it with operators and ops of gradloom" in str(error.value)


def test_modules_are_refused():
    model = Model()
    model |= gl.nn.Linear(2, 3)
    with pytest.raises(OptionError, match=r"the part model\.linear is an nn\.Module, which a document cannot hold"):
        to_document(model)


def test_layers_of_users_are_refused():
    class Linear(gl.models.Linear):
        pass

    with pytest.raises(OptionError, match="the part linear is of a class of your own"):
        to_document(Linear(3))


def test_other_things_are_refused():
    with pytest.raises(OptionError, match="no model or layer"):
        to_document(3)
    with pytest.raises(OptionError, match="cannot hold a part of this name"):
        to_document(Linear(3, name='x"]; y["'))
    wrong = Linear(3)
    wrong.dimension = "3"
    with pytest.raises(OptionError, match="the option 'dimension' of Linear is of another type"):
        to_document(wrong)
    model = Model.create(y=Input("x").sum(axis=object()))
    with pytest.raises(OptionError, match="cannot hold a value of type object"):
        to_document(model)
    model = Model()
    model |= Relu()(input=IOKey("x", value=np.zeros(2, "complex64")))
    with pytest.raises(OptionError, match="cannot hold an array of this dtype"):
        to_document(model)


def document():
    return to_document(nested()[0])


@pytest.mark.parametrize(
    ("place", "value", "where", "message"),
    [
        (["format"], "onnx", "", "it is no document of a model"),
        (["version"], 2, "version", "this version of the format is not known"),
        (["version"], "1", "version", "this is a number"),
        (["more"], 1, "", "the field 'more' is unknown"),
        (["parts"], [], "parts", "it has no parts"),
        (["parts"], {}, "parts", "this is a list"),
        (["parts", 0], 3, "parts[0]", "this is an object"),
        (["parts", 0, "type"], "Liner", "parts[0].type", "did you mean 'Linear'?"),
        (["parts", 0, "type"], "os.system", "parts[0].type", "there is no such layer"),
        (["parts", 0, "type"], None, "parts[0].type", "this is a string"),
        (["parts", 0, "options", "dimension"], "4", "parts[0].options.dimension", "int | None"),
        (["parts", 0, "options", "dimension"], 4.5, "parts[0].options.dimension", "another type"),
        (["parts", 0, "options", "dimension"], True, "parts[0].options.dimension", "another type"),
        (["parts", 0, "options", "dimension"], {"import": "os"}, "parts[0].options.dimension", "not allowed here"),
        (["parts", 0, "options", "dimensions"], 4, "parts[0].options", "did you mean 'dimension'?"),
        (["parts", 0, "options", "name"], 'x"]', "parts[0].options.name", "this is no name"),
        (["parts", 0, "frozen"], 1, "parts[0].frozen", "true or false"),
        (["parts", 2, "name"], "a b", "parts[2].name", "this is no name"),
        (["parts", 2, "frozen"], "x", "parts[2].frozen", "a list of strings"),
        (["parts", 2, "connections", "image", "shape"], [1, -2], "parts[2].connections.image.shape", "a shape is"),
        (["parts", 2, "connections", "image", "dtype"], "float", "parts[2].connections.image.dtype", "such dtype"),
        (["parts", 2, "connections", "image", "value"], "x", "parts[2].connections.image.value", "no value"),
        (["parts", 2, "connections", "image", "value"], [[1], [1, 2]], "parts[2].connections.image.value", "no value"),
        (["parts", 2, "connections", "features", "value"], 1, "parts[2].steps[0].connections.output", "has a value"),
        (["parts", 2, "steps", 0, "part"], 2, "parts[2].steps[0].part", "no number of an earlier part"),
        (["parts", 2, "steps", 0, "name"], "x.", "parts[2].steps[0].name", "this is no name"),
        (["parts", 2, "steps", 0, "name"], "relu", "parts[2].steps[1].name", "of this name already"),
        (["parts", 2, "steps", 0, "connections", "inptu"], "image", "parts[2].steps[0].connections.inptu", "'input'?"),
        (["parts", 2, "steps", 0, "connections", "input"], "imag", "parts[2].steps[0].connections.input", "'image'?"),
        (
            ["parts", 2, "steps", 0, "connections", "input"],
            0,
            "parts[2].steps[0].connections.input",
            "no such connection",
        ),
        (
            ["parts", 2, "steps", 0, "connections", "input"],
            ["image"],
            "parts[2].steps[0].connections.input",
            "no such conn",
        ),
        (
            ["parts", 2, "steps", 1, "connections", "output"],
            "features",
            "parts[2].steps[1].connections.output",
            "already",
        ),
    ],
)
def test_a_wrong_field_is_named(place, value, where, message):
    wrong = document()
    inside = wrong
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    with pytest.raises(FileFormatError) as error:
        from_document(wrong)
    assert message in str(error.value)
    assert not where or f"where:    {where}\n" in str(error.value) + "\n"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("target", "method:backward", "there is no such operation"),
        ("target", "method:__class__", "there is no such operation"),
        ("target", "os:system", "there is no such operation"),
        ("target", "operator:ab", "did you mean 'operator:abs'?"),
        ("args", [{"operand": 1}], "numbered from 0"),
        ("args", [1], "numbered from 0"),
        ("args", [{"operand": 0}, {"slice": [0, 1]}], "three integers or null"),
        ("args", [{"operand": 0}, {"array": {"dtype": "int8", "data": 1}}], "not allowed here"),
        ("args", [{"operand": 0}, {"ellipsis": 1}], "written as true"),
        ("args", [{"operand": 0}, {"float": "1e3"}], "this is no number"),
        ("args", [{"operand": 0}, float("nan")], "not finite"),
        ("args", [{"operand": 0}, {"a": 1, "b": 2}], "this is no value"),
        ("kwargs", {"a b": 1}, "this is no name"),
        ("kwargs", [], "this is an object"),
        ("kwargs", {"axis": {"tuple": 1}}, "this is a list"),
    ],
)
def test_wrong_expressions(field, value, message):
    wrong = to_document(Model.create(y=Input("x").sum()))
    wrong["parts"][0][field] = value
    with pytest.raises(FileFormatError, match=message.replace("?", r"\?")):
        from_document(wrong)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ({"dtype": "float32", "data": [[1], [2, 3]]}, "the rows of an array have one length"),
        ({"dtype": "float32", "data": [1, "2"]}, "numbers of dtype float32"),
        ({"dtype": "int8", "data": [1.5]}, "numbers of dtype int8"),
        ({"dtype": "int8", "data": [300]}, "does not fit into int8"),
        ({"dtype": "float16", "data": [1e6]}, "does not fit into float16"),
        ({"dtype": "object", "data": [1]}, "there is no such dtype"),
        ({"dtype": "float32", "data": [1], "shape": [1]}, "the field 'shape' is unknown"),
        ({"dtype": "float32", "shape": [2], "base64": "AAAA"}, "its length does not fit the shape"),
        ({"dtype": "float32", "shape": [1], "base64": "*AAA"}, "this is no base64"),
        ({"dtype": "bool", "shape": [3], "base64": "AAEC"}, "bools are bytes 0 and 1"),
        ({"dtype": "int8", "shape": [0, 2**62, 2**62], "base64": ""}, "no array has this shape"),
        ({"dtype": "int8", "shape": [3]}, "the field 'base64' is missing"),
        (7, "this is an object"),
    ],
)
def test_wrong_arrays(array, message):
    model = Model()
    model |= Relu()(input=IOKey("x", value=1.0))
    wrong = to_document(model)
    wrong["parts"][1]["connections"]["x"]["value"] = {"array": array}
    with pytest.raises(FileFormatError, match=message) as error:
        from_document(wrong)
    assert "where:    parts[1].connections.x.value.array" in str(error.value)


def test_deep_and_large_documents_end():
    wrong = document()
    deep = 1
    for _ in range(100_000):
        deep = [deep]
    wrong["parts"][2]["connections"]["image"]["value"] = deep
    with pytest.raises(FileFormatError, match="nested more than 32 deep"):
        from_document(wrong)
    with pytest.raises(FileFormatError, match="nested too deep"):
        from_json("[" * 200_000)
    with pytest.raises(FileFormatError, match="no JSON text"):
        from_json('{"version": ' + "1" * 10_000 + "}")


def test_damaged_files(tmp_path):
    path = tmp_path / "model.json"
    save_model(nested()[0], path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.json"]
    assert to_document(load_model(path)) == document()
    content = path.read_bytes()
    for end in range(0, len(content) - 1, 37):
        path.write_bytes(content[:end])
        with pytest.raises(FileFormatError, match=r"model\.json"):
            load_model(path)
    path.write_bytes(content.replace(b"Linear", b"Lin\xff\xfear"))
    with pytest.raises(FileFormatError, match="no JSON text, or it is damaged"):
        load_model(path)
    path.write_bytes(content.replace(b'"Linear"', b'"Linaer"'))
    with pytest.raises(FileFormatError) as error:
        load_model(path)
    assert str(error.value).startswith(f"cannot load {path}: the document is not valid: there is no such layer")
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "none.json")


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '"x"', "NaN", '{"format": 1, "format": 2}', b"\x80\x04"])
def test_garbled_text(text):
    with pytest.raises(FileFormatError):
        from_json(text)


def test_an_interrupted_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.json"
    save_model(Relu(), path)
    before = path.read_bytes()
    with pytest.raises(OptionError):
        save_model(Function(lambda x: x), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


SEEDS = [to_document(make()[0]) for make in MODELS]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.floats(),
    st.sampled_from(["x", "output", "Linear", "", "a.b", "w"]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "tuple", "slice", "operand", "dtype", "array", "data", "x"]), inner, max_size=2
        )
    ),
    max_leaves=6,
)


def places(value, path=()):
    """The paths of all that is in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


@hypothesis.settings(max_examples=300, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(st.data())
def test_mutations_load_or_are_refused(data):
    wrong = copy.deepcopy(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 3))):
        found = list(places(wrong))
        if not found:
            break
        *path, last = data.draw(st.sampled_from(found))
        inside = wrong
        for key in path:
            inside = inside[key]
        what = data.draw(st.sampled_from(["replace", "delete", "swap", "rename"]))
        if what == "delete":
            del inside[last]
        elif what == "rename" and isinstance(inside, dict):
            inside[data.draw(st.sampled_from(["input", "output", "weight", "x", "name"]))] = inside.pop(last)
        elif what == "swap":
            other = data.draw(st.sampled_from(found))
            value = wrong
            for key in other:
                value = (
                    value[key] if isinstance(value, dict) or (isinstance(value, list) and len(value) > key) else None
                )
                if value is None:
                    break
            inside[last] = copy.deepcopy(value)
        else:
            inside[last] = data.draw(JSON)
    try:
        model = from_document(wrong)
    except FileFormatError as error:
        assert "the document is not valid" in str(error)
    else:
        assert to_document(from_document(to_document(model))) == to_document(model)


def deep(levels, times):
    """A document of models inside of models, each of which has the one before so many times."""
    document = to_document(Linear(2))
    for n in range(levels):
        inner = {"input": "x"} if n == 0 else {"x": "x"}
        steps = [{"name": f"part_{k}", "part": n, "connections": inner} for k in range(times)]
        document["parts"].append({"type": "Model", "connections": {"x": {}}, "steps": steps})
    return document


def test_nesting_is_limited():
    assert from_document(deep(49, 1)).input_keys == ("x",)
    with pytest.raises(FileFormatError, match="nested more than 50 deep"):
        from_document(deep(51, 1))
    with pytest.raises(FileFormatError, match="more than 1000000 layers"):
        from_document(deep(40, 2))
