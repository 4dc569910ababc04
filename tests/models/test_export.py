"""Compiled models as files: `forward` and `backward` without gradloom give what `evaluate` gives, to the last bit."""

import numpy as np
import pytest

import gradloom as gl
import gradloom.nn.functional as F
from gradloom import nn
from gradloom.backends.registry import backend_of
from gradloom.graph.export import export
from graph.test_export import differences, run


def normal(*shape):
    return np.random.default_rng([5, *shape]).standard_normal(shape).astype("float32")


def classes(n, *shape):
    return np.random.default_rng([6, *shape]).integers(0, n, shape)


class Text(nn.Module):
    """Embedding, attention, layer norm, GELU."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 11)

    def forward(self, input):
        x = self.embedding(input)
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        return F.softmax(self.fc(F.gelu(x)), -1)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, input, target):
        logits = self.fc(input)
        return F.cross_entropy(logits, target, label_smoothing=0.1) + F.mse_loss(logits, input[:, :4])


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 5, num_layers=2, batch_first=True)
        self.fc = nn.Linear(5, 2)

    def forward(self, input):
        return self.fc(self.lstm(input)[0][:, -1])


class Pieces(nn.Module):
    """Indexing, slices, concatenation, reductions, and values that are constants of the emitted source."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(gl.ones(4, 6))

    def forward(self, input):
        table = gl.tensor(normal(12, 6))  # 72 elements: printed as bytes
        order = gl.tensor([2, 0, 1])
        x = gl.cat([input[:, ::2], input[:, 1:4].flip(1)], 1) @ self.weight.T
        y = (x * gl.tensor([0.1, -0.0, 1e30, 2.5e-45])).clamp(-3.0, 3.0)
        z = input[order] @ table.T
        parts = [gl.where(y > 0, y, x.cumsum(1)), z.max(1)[0], x.argmax(1).float(), z.std(0)]
        return gl.cat([part.flatten() for part in parts])


class Branches(nn.Module):
    """Loops and branches."""

    def forward(self, input):
        def step(carry, x):
            carry = carry + x
            return carry, gl.cond(x.sum() > 0, lambda x: x * 2, lambda x: x - carry, x)

        last, steps = gl.scan(step, input[0] * 0, input)
        n, x = gl.while_loop(lambda c: c[1].sum() < 50, lambda c: (c[0] + 1, c[1] * 2), (gl.tensor(0), last.abs() + 1))
        return gl.cat([steps.flatten(), last, x.detach(), n.reshape(1).float()])


class Wide(nn.Module):
    """What is computed in float32 for float16 and bfloat16."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 8)
        self.norm = nn.LayerNorm(8)
        self.conv = nn.Conv1d(2, 3, 2)

    def forward(self, input):
        x = self.norm(self.fc(input))
        return F.log_softmax(self.conv(F.gelu(x)).mean(-1), 1)


def image():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.4), nn.Flatten(),
        nn.Linear(36, 5), nn.LogSoftmax(1),
    )  # fmt: skip


def composed():
    model = gl.Model()
    model |= gl.models.Linear(dimension=7)
    model += gl.models.Relu()
    model += gl.models.Linear(dimension=3)
    return model


#: name -> (model, inputs, options of compile, whether in training mode)
MODELS = {
    "mlp": (composed, {"input": normal(5, 4)}, {"shapes": {"input": [None, 4]}}, False),
    "constant": (composed, {}, {"constant_keys": {"input": normal(5, 4)}}, False),
    "image": (image, {"input": normal(4, 3, 6, 6)}, {}, False),
    "image_training": (image, {"input": normal(4, 3, 6, 6)}, {}, True),
    "text": (Text, {"input": classes(11, 2, 5)}, {}, False),
    "loss": (Classifier, {"input": normal(5, 6), "target": classes(4, 5)}, {}, False),
    "recurrent": (Recurrent, {"input": normal(2, 4, 3)}, {}, False),
    "pieces": (Pieces, {"input": normal(3, 6)}, {}, False),
    "branches": (Branches, {"input": normal(3, 6)}, {}, False),
}
#: Ops that are Python's own loops, which MLX cannot compile.
NOT_ON = {"mlx": {"branches"}}


DTYPES = ["float16", "bfloat16", "float64"]


def host(tree):
    if isinstance(tree, dict):
        return {k: host(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [host(v) for v in tree]
    kind = backend_of(tree)
    return np.array(tree if kind.name == "jax" else kind.to_numpy(tree))  # integers as JAX holds them


def bits(tree):
    """Arrays of bfloat16 as their bits, in which `run` gives them."""
    if isinstance(tree, dict):
        return {k: bits(v) for k, v in tree.items()}
    if isinstance(tree, list):
        return [bits(v) for v in tree]
    return tree.view("uint16") if tree.dtype.name == "bfloat16" else tree


def evaluated(compiled, *arguments, **options):
    """What `evaluate` gives, the program that it ran, and what that was given."""
    compiled.evaluate(*arguments, **options)
    program, given = compiled._last, []
    ((name, function),) = program.functions.items()
    program.functions[name] = lambda *values: given.append(values) or function(*values)
    try:
        return compiled.evaluate(*arguments, **options), program, list(given[0])
    finally:
        program.functions[name] = function


def prepared(name, backend, model, inputs, options=None, training=False):
    """The cases of a model for `run`, and what `evaluate` gives."""
    with gl.using_backend(backend):
        gl.manual_seed(0)
        compiled = gl.compile(model(), backend, **(options or {}))
    params = compiled.get_parameters()
    inputs = {n: backend.copy(backend.array(x)) for n, x in inputs.items()}
    compiled.evaluate(params, inputs, seed=3)
    more = {"state": compiled.get_state(), "training": training, "seed": 3}
    (plain, state), forward, first = evaluated(compiled, params, inputs, **more)
    given = {n: normal(*o.shape) for n, o in plain.items() if "float" in str(o.dtype)}
    given = {n: backend.copy(backend.cast(backend.array(g), backend.dtype_of(plain[n]))) for n, g in given.items()}
    (outputs, gradients, new), backward, second = evaluated(compiled, params, inputs, given, **more)
    tables = {"params": forward.request.parameters, "inputs": forward.request.inputs, "state": forward.request.state}
    text = export([(p.helpers, p.texts) for p in (forward, backward)], tables)
    wide = backend.name == "jax" and backend.dtype is gl.float64
    cases = {
        f"{name} forward": (text, "forward", host(first), wide),
        f"{name} backward": (text, "backward", host(second), wide),
    }
    expected = {
        f"{name} forward": (plain, state) if state else plain,
        f"{name} backward": (outputs, gradients, new) if state else (outputs, gradients),
    }
    return cases, bits(host(expected))


def check(engine, folder, pairs):
    cases, expected = {}, {}
    for one, results in pairs:
        cases |= one
        expected |= results
    found = run(engine, cases, folder, "jit")
    wrong = {n: d for n in expected if (d := differences(found[n], expected[n]))}
    assert not wrong, "\n".join(f"{n}: {d}" for n, d in wrong.items())


FEW = ["mlp", "constant", "image_training"]


def test_models(backend, tmp_path):
    check(backend, tmp_path, [prepared(n, gl.get_backend(backend), *MODELS[n]) for n in FEW])


@pytest.mark.slow
def test_more_models(backend, tmp_path):
    names = [n for n in MODELS if n not in FEW and n not in NOT_ON.get(backend, ())]
    check(backend, tmp_path, [prepared(n, gl.get_backend(backend), *MODELS[n]) for n in names])


@pytest.mark.slow
def test_dtypes(backend, tmp_path):
    pairs = []
    for name in DTYPES:
        kind = type(gl.get_backend(backend))
        made = kind(dtype=name, device="cpu") if backend == "mlx" else kind(dtype=name)
        model = composed if name == "float64" else Wide
        pairs.append(prepared(name, made, model, {"input": normal(3, 2, 6)}))
    check(backend, tmp_path, pairs)
