"""Every layer of `gradloom.models`: its numbers on every engine, what is inferred of shapes, its options, and the docs."""

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest

import gradloom as gl
from gradloom import models, nn
from gradloom.backends.registry import get_backend
from gradloom.errors import OptionError, ShapeError
from gradloom.models import Layer, Model, layers
from gradloom.models.document import from_document, to_document
from gradloom.models.net import lay_out
from gradloom.models.network import Builder
from gradloom.nn import functional as F
from models.layer_samples import SAMPLES, Called, Sample, States, f

NAMES = sorted(layers.__all__)
CASES = [pytest.param(n, s, id=f"{n}-{i}") for n, found in SAMPLES.items() for i, s in enumerate(found)]


def built(name, sample):
    """(the layer, the model that it is run in): a variadic layer is in a model with an input for each connection."""
    layer = getattr(models, name)(**sample.options)
    if not getattr(layer, "variadic", False):
        return layer, layer
    model = Model()
    model |= layer(input=[f"input_{i}" for i in range(len(sample.inputs["input"]))], output="output")
    return layer, model


def arrays(sample):
    """{input of the model: array}"""
    return {
        k: a
        for key, found in sample.inputs.items()
        for k, a in ([(f"{key}_{i}", a) for i, a in enumerate(found)] if isinstance(found, list) else [(key, found)])
    }


def shapes(sample):
    return {k: a.shape for k, a in arrays(sample).items()}


def leaves(value):
    found = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else (value,)
    return [x for v in found for x in leaves(v)] if isinstance(value, (tuple, list, dict)) else [value]


def network(name, sample, backend):
    """The module, in evaluation mode; optional inputs are connected where the sample has them."""
    _, part = built(name, sample)
    if isinstance(part, Layer) and any(k in part.optional_keys for k in sample.inputs):
        model = Model()
        model |= part(**{k: k for k in sample.inputs}, **{k: k for k in part.output_keys})
        part = model
    return part.to_module(shapes(sample), backend, seed=0).eval()


def numbers(name, sample, backend):
    made = network(name, sample, backend)
    with gl.using_backend(backend), gl.no_grad():
        return [gl.to_numpy(t) for t in leaves(made(**{k: gl.tensor(a) for k, a in arrays(sample).items()}))]


def expected(name, sample):
    inputs = list(arrays(sample).values())
    if sample.ref is not None:
        return leaves(sample.ref(*inputs))
    with gl.using_backend("numpy"), gl.no_grad():
        reference = sample.nn
        if not inspect.isfunction(reference) or not inspect.signature(reference).parameters:
            reference = reference()
            state = network(name, sample, "numpy").state_dict()
            own = reference.module if isinstance(reference, (Called, States)) else reference
            own.load_state_dict(dict(zip(own.state_dict(), state.values(), strict=True)))
            own.eval()
        return [gl.to_numpy(t) for t in leaves(reference(*map(gl.tensor, inputs)))]


# ----------------------------------------------------------------------------------------------------------------- tests


def test_every_layer_has_samples():
    assert set(SAMPLES) | {"MatrixMultiply"} == set(NAMES)
    assert models.MatrixMultiply is models.MatMul


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_numbers(name, sample, backend):
    found, wanted = numbers(name, sample, backend), expected(name, sample)
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == np.shape(b)
        np.testing.assert_allclose(np.asarray(a, "float64"), np.asarray(b, "float64"), rtol=2e-4, atol=2e-5)


def wired(name, sample, *parameters):
    """A model of the layer with all connections of the sample, and these parameters, by name."""
    layer, part = built(name, sample)
    if part is not layer:
        return part
    model = Model()
    model |= layer(**{k: k for k in (*sample.inputs, *layer.output_keys, *parameters)})
    return model


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_compiled(name, sample):
    model = wired(name, sample)
    compiled = gl.compile(model, "numpy", shapes=resized(sample, None), seed=0)
    found = compiled.evaluate(compiled.get_parameters(), arrays(sample))
    with gl.no_grad():
        module = model.to_module(shapes(sample), "numpy", seed=0).eval()
        wanted = leaves(module(**{k: gl.tensor(a) for k, a in arrays(sample).items()}))
    for a, b in zip(found.values(), wanted, strict=True):
        np.testing.assert_allclose(a, gl.to_numpy(b), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_documents(name, sample):
    layer, _ = built(name, sample)
    again = from_document(json.loads(json.dumps(to_document(layer))))
    if isinstance(layer, Layer):
        assert type(again) is type(layer) and same(again.options(), layer.options())


# ---------------------------------------------------------------------------------------------------------------- shapes


def inferred(name, sample, known):
    """{connection: shape} of what follows from these shapes."""
    layer, _ = built(name, sample)
    net = lay_out(wired(name, sample, *(k for k in layer.parameter_keys if k in known)))
    found = Builder(net, get_backend("numpy"), copies=True).infer(known)
    wires = {**net.inputs, **net.outputs}
    return {key: found.shapes.get(wire) for key, wire in wires.items()}, list(net.outputs)


def resized(sample, n):
    """The inputs' shapes where what is the batch's has size n times what it has, or None."""
    found = {k: list(s) for k, s in shapes(sample).items()}
    for key, axis in (dict.fromkeys(found, 0) if sample.batch is None else sample.batch).items():
        found[key][axis] = None if n is None else found[key][axis] * n
    return {k: tuple(s) for k, s in found.items()}


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_shapes_forward(name, sample):
    wanted = [np.shape(b) for b in expected(name, sample)]
    once, outputs = inferred(name, sample, resized(sample, 1))
    assert sorted(once[k] for k in outputs) == sorted(wanted)
    twice, _ = inferred(name, sample, resized(sample, 2))
    unknown, _ = inferred(name, sample, resized(sample, None))
    for key in outputs:  # what depends on the batch is not known, all else is
        assert unknown[key] == tuple(a if a == b else None for a, b in zip(once[key], twice[key], strict=True)), key


@pytest.mark.parametrize(("name", "sample"), [case for case in CASES if case.values[1].back])
def test_shapes_backward(name, sample):
    full = shapes(sample)
    known, outputs = inferred(name, sample, full)
    found, _ = inferred(name, sample, {**sample.given, **{k: known[k] for k in outputs}})
    wanted = full if sample.back is True else sample.back
    assert {k: found[k] for k in wanted} == wanted


def test_broadcasting_of_unknown_sizes():
    for left, right, wanted in [
        ((None, 4), (4,), (None, 4)),
        ((None, 4), (3, 1), (3, 4)),
        ((None,), (1,), (None,)),
        ((1, None), (2, 1), (2, None)),
        ((None, None), (5, None), (5, None)),
        ((1, 1), (1,), (1, 1)),
    ]:
        found, _ = inferred("Add", Sample(inputs={"left": 0, "right": 0}), {"left": left, "right": right})
        assert found["output"] == wanted


@pytest.mark.parametrize(
    ("name", "options", "shape", "wanted"),
    [("Slice", {"stop": 5}, (None, 3), (None, 3)), ("MaxPool1D", {"kernel_size": 4, "stride": 20}, (2, 3, None), (2, 3, None))],
)  # fmt: skip
def test_unknown_sizes_are_not_guessed(name, options, shape, wanted):
    found, _ = inferred(name, Sample(options, {"input": 0}), {"input": shape})
    assert found["output"] == wanted


def test_layers_made_from_a_given_weight():
    for name, options, given, wanted in [
        ("Linear", {}, {"weight": (5, 4)}, {"weight": (5, 4), "bias": (5,)}),
        ("Embedding", {}, {"weight": (9, 4)}, {"weight": (9, 4)}),
        ("Convolution2D", {"kernel_size": 3, "groups": 2}, {"weight": (6, 2, 3, 3)}, {"weight": (6, 2, 3, 3), "bias": (6,)}),
        ("LayerNorm", {"axes": 2}, {"weight": (3, 4)}, {"weight": (3, 4), "bias": (3, 4)}),
        ("GroupNorm", {"num_groups": 2}, {"weight": (4,)}, {"weight": (4,), "bias": (4,)}),
        ("GRU", {"hidden_size": 2, "use_bias": False}, {"weight_ih_l0": (6, 5)}, {"weight_ih_l0": (6, 5), "weight_hh_l0": (6, 2)}),
        ("LSTMCell", {"hidden_size": 2, "use_bias": False}, {"weight_ih": (8, 5)}, {"weight_ih": (8, 5), "weight_hh": (8, 2)}),
        ("Bilinear", {"dimension": 2}, {"weight": (2, 3, 4)}, {"weight": (2, 3, 4), "bias": (2,)}),
        ("PositionEmbedding", {"number": 9}, {"weight": (9, 4)}, {"weight": (9, 4)}),
    ]:  # fmt: skip
        made = getattr(models, name)(**options).make(**given)
        assert {k: tuple(p.shape) for k, p in made.named_parameters()} == wanted, name


def test_weights_are_connected():
    model = Model()
    for key in ("a", "b"):
        model |= models.Embedding(9, 4)(input=key, weight="table", output=f"{key}_rows")
    model |= models.RNN(4)(input="a_rows", weight_hh_l0="square")
    made = model.to_module({"a": [3, 2], "b": [3, 2]}, "numpy")
    found = {n: tuple(p.shape) for n, p in made.named_parameters()}
    assert found["table"] == (9, 4) and found["square"] == (4, 4)


# --------------------------------------------------------------------------------------------------------------- options


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    return a is b or a == b


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_options_make_the_layer_again(name, sample):
    layer = getattr(models, name)(**sample.options)
    options = layer.options()
    assert list(options) == list(inspect.signature(type(layer)).parameters)
    assert same(type(layer)(**options).options(), options)
    if isinstance(layer, Layer):
        assert repr(layer).startswith(name + "(") and all(f"{k}=" in repr(layer) for k in sample.options)
        assert eval(repr(layer), {**vars(models), "Ellipsis": ...}).options() == options


@pytest.mark.parametrize("name", NAMES)
def test_what_layers_have_in_common(name):
    cls = getattr(models, name)
    parameters = list(inspect.signature(cls).parameters.values())
    assert parameters[-1].name == "name" and parameters[-1].default is None
    assert "name" not in SAMPLES.get(name, SAMPLES["MatMul"])[0].options
    layer = cls(**SAMPLES.get(name, SAMPLES["MatMul"])[0].options, name="mine")
    assert layer.name == layer.label == "mine"
    assert (cls.__doc__ or "").strip(), "a docstring"
    assert not {p.name for p in parameters} & set(layer.keys), "an option hides a connection"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.Gelu("exact"), r"Gelu: approximate has a value that does not exist\s+expected: 'none' or 'tanh'"),
        (lambda: models.Dropout(1.5), r"Dropout: p is a probability\s+expected: 0 to 1\s+given: +p=1.5"),
        (lambda: models.Linear(0), r"Linear: dimension is too small, or no number\s+expected: 1 or more\s+given: +dimension=0"),
        (lambda: models.Convolution2D(3, 4, padding="full"), r"Convolution2D: padding has a value .*\s+expected: 'same' or 'valid'"),
        (lambda: models.Convolution1D(3, 4, padding="same", stride=2), "Convolution1D: padding='same' needs stride 1"),
        (lambda: models.MaxPool2D((2, 0)), r"MaxPool2D: kernel_size is too small.*\s+expected: 1 or more\s+given: +kernel_size=\(2, 0\)"),
        (lambda: models.SquaredError("avg"), r"reduction has a value .*\s+expected: 'mean' or 'sum' or 'none'\s+given: +reduction='avg'"),
        (lambda: models.CrossEntropy(from_logits=False, label_smoothing=0.1), "CrossEntropy: label_smoothing is for logits"),
        (lambda: models.CrossEntropy(target_type="one_hot"), r"target_type has a value .*\s+expected: 'index' or 'probabilities'"),
        (lambda: models.RNN(3, nonlinearity="gelu"), r"RNN: nonlinearity has a value .*\s+expected: 'tanh' or 'relu'"),
        (lambda: models.TransformerEncoderLayer(2, activation="silu"), "TransformerEncoderLayer: activation has a value"),
        (lambda: models.Pad((1, 2, 3)), "Pad: padding is a sequence of pairs"),
        (lambda: models.Indexer([0, 1]), "Indexer takes an index that is fixed"),
        (lambda: models.MLP([3, 2], [None]), "MLP: each dimension has an activation"),
    ],
)  # fmt: skip
def test_options_that_are_refused(make, message):
    with pytest.raises(OptionError, match=message) as caught:
        make()
    assert "where:" in str(caught.value) and "test_layers.py" in str(caught.value)


def test_what_is_refused_when_it_runs():
    x, y = gl.ones(3, 4), gl.ones(4)
    pairs = [name for name, found in SAMPLES.items() if list(found[0].inputs) == ["input", "target"]]
    for name in (n for n in pairs if not getattr(models, n).dtypes and n != "CrossEntropy"):
        with pytest.raises(ShapeError):
            getattr(models, name)()(input=x, target=y)
    with pytest.raises(ShapeError):
        models.Accuracy()(input=x, target=gl.zeros(4, dtype="int64"))
    with pytest.raises(ShapeError, match="cannot be divided into equal parts"):
        models.Split(3, axis=1)(x)
    with pytest.raises(ShapeError, match="longer than the table of positions"):
        models.PositionalEncoding(2)(x)
    for layer, key, shape, message in [
        (models.LSTM(3), "initial_hidden", (1, 3), "LSTM takes both states or none"),
        (models.LSTMCell(3), "initial_cell", (3, 3), "LSTMCell takes both states or none"),
        (models.TransformerEncoderLayer(2, causal=True), "mask", (3, 3), "a mask or causal=True, not both"),
    ]:
        model = Model()
        model |= layer(input="x", **{key: key})
        with pytest.raises(OptionError, match=message):
            model.to_module({"x": [3, 4], key: shape})(x, gl.ones(*shape))


def test_dropout_and_batch_norm_train(backend):
    x = gl.tensor(f(64, 4))
    dropped = models.Dropout(0.5).to_module({"input": [None, 4]}, backend)(x)
    kept = dropped != 0
    assert 0.3 < kept.float().mean().item() < 0.7
    np.testing.assert_allclose(gl.to_numpy(dropped[kept]), gl.to_numpy(2 * x[kept]), rtol=1e-5)
    norm = models.BatchNorm().to_module({"input": [None, 4]}, backend)
    assert abs(norm(x).mean().item()) < 1e-5
    assert [n for n, _ in norm.named_buffers()] == [
        "layer.running_mean",
        "layer.running_var",
        "layer.num_batches_tracked",
    ]


# ------------------------------------------------------------------------------------------------------------------ docs

ROW = re.compile(r"^\| `(\w+)`(?: = `(\w+)`)? \| (.*?) \| (.*?) → (.*?) \| (.*?) \|$", re.M)


def options_text(cls):
    parameters = list(inspect.signature(cls).parameters.values())[:-1]
    return ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters)


def test_the_page_lists_every_layer():
    page = (Path(__file__).parents[2] / "docs" / "layers.md").read_text(encoding="utf-8")
    rows = {m[1]: m for m in ROW.finditer(page)}
    assert {*rows, *(m[2] for m in rows.values() if m[2])} == set(NAMES)
    for name, row in rows.items():
        cls = getattr(models, name)
        layer = cls(**SAMPLES[name][0].options)
        optional = [f"[{k}]" for k in layer.optional_keys]
        assert row[4].replace("`", "").split(", ") == [*layer.input_keys, *optional], name
        assert row[5].replace("`", "").split(", ") == [*layer.output_keys], name
        assert row[6].replace("`", "") == options_text(cls), name
        for wired in re.findall(r"`(nn|F|ops)\.(\w+)`", row[3]):
            assert hasattr({"nn": nn, "F": F, "ops": gl.ops}[wired[0]], wired[1]), wired
