"""Models of all kinds that a document can hold, each with shapes for its inputs."""

import numpy as np

import gradloom as gl
from gradloom.models import Concat, Input, IOKey, Linear, Model, Relu, Softmax


def chain():
    model = Model(name="chain")
    model |= Linear(4)
    model += Relu()
    model += Linear(2, use_bias=False)
    return model, {"input": [5, 3]}


def nested():
    inner = Model(name="encoder")
    inner |= Linear(4)(input="image", output="features")
    inner += Relu()
    model = Model()
    model |= inner(image="x")
    model += Softmax(axis=0)
    outer = Model()
    outer |= model(x="x")
    outer += Linear(2)(output="logits")
    return outer, {"x": [5, 3]}


def shared_layer():
    layer = Linear(3)
    model = Model()
    model |= layer(input="x", output="h")
    model |= layer(input="h", output="y")
    return model, {"x": [5, 3]}


def shared_model():
    inner = Model(name="block")
    inner |= Linear(3)(input="a", weight=IOKey("w"))
    inner += Relu()
    model = Model()
    model |= inner(a="x", w="w")
    model += inner
    return model, {"x": [5, 3]}


def expressions():
    x, w = Input("x"), IOKey("w", shape=[3, 4], trainable=True)
    h = (x @ w + 1.5) * np.arange(4, dtype="float32")
    picked = h[:, None, ..., 1:3]
    listed = h[:, [0, 2]]
    mean = picked.reshape(-1, 2).mean(axis=1, keepdim=True) - gl.tensor([0.5])
    return Model.create(mean=mean, relu=gl.ops.relu(2 - h) ** 2, picked=listed, whole=h.sum(dtype=gl.float64)), {
        "x": [5, 3]
    }


def several():
    model = Model()
    model |= Linear(4)(input="left", output="a")
    model |= Linear(4)(input="right", output="b")
    model |= Relu()(input=model["a"] + model["b"], output="both")
    model.set_outputs("a", total=model["both"].sum())
    return model, {"left": [5, 3], "right": [5, 2]}


def values():
    model = Model()
    model |= Linear(4)(
        input="x", weight=IOKey("w", value=np.arange(12.0).reshape(4, 3), trainable=True), bias=[1, 2.5, 3, 4]
    )
    positive = Relu()
    model |= positive(input=IOKey("scale", shape=[None, 4], dtype="float32") * IOKey(value=float("inf")))
    model.set_outputs(last=positive.output + gl.tensor([[1.0, float("nan"), -0.0, 1e-30]], dtype=gl.float64))
    return model, {"x": [5, 3], "scale": [5, 4]}


def frozen():
    inner = Model(name="encoder")
    inner |= Linear(4)(input="x")
    inner.freeze("*.bias")
    model = Model()
    model |= inner(x="x")
    model += Linear(2).freeze()
    return model, {"x": [5, 3]}


def layer():
    return Linear(3, name="only"), {"input": [5, 2]}


def lists():
    model = Model()
    model |= Linear(3)(input="a", output="h")
    model |= Concat(axis=1)(input=["h", "b", model["h"] * 2], output="y")
    return model, {"a": [5, 2], "b": [5, 4]}


def large():
    model = Model()
    model |= Linear(8)(input="x", weight=np.linspace(0, 1, 64, dtype="float32").reshape(8, 8))
    return model, {"x": [5, 8]}


MODELS = [chain, nested, shared_layer, shared_model, expressions, several, values, frozen, layer, lists, large]
