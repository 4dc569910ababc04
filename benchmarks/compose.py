"""Composed models: building and compiling them, and what `evaluate` adds. ``python -m benchmarks.compose``."""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np

import gradloom as gl
from benchmarks.compile_cost import call_overhead
from benchmarks.harness import Step, compare, fresh_answers
from benchmarks.report import Claim, Table, duration
from gradloom.models import Embedding, Gelu, Input, LayerNorm, Linear, Model, MultiheadAttention, Relu

HERE = "benchmarks.compose:"
ENGINES = {"NumPy": "numpy", "JAX": "jax", "PyTorch": "torch"}


def run(quick: bool = False) -> list[Table]:
    """Building, calls, and one pass beside two."""
    return [
        building(3 if quick else 9),
        overhead(2 if quick else 7),
        *(passes(label, backend, quick) for label, backend in ENGINES.items()),
    ]


# --- models ---------------------------------------------------------------------------------------------


def mlp(layers: int, width: int = 64, outputs: int = 64) -> Model:
    """Linear layers with Relu between them."""
    model = Model()
    for _ in range(layers - 1):
        model += Linear(width)
        model += Relu()
    model += Linear(outputs)
    return model


def gpt(blocks: int = 12, width: int = 128, heads: int = 4, vocabulary: int = 256) -> Model:
    """A decoder of pre-norm blocks, each a model of its own."""
    model = Model()
    model |= Embedding(vocabulary, width)(input="tokens")
    for k in range(blocks):
        x = Input("input")
        h = LayerNorm()(x)
        x = x + MultiheadAttention(heads, batch_first=True, causal=True)(query=h, key=h, value=h)
        model += Model.create(name=f"block_{k}", output=x + Linear(width)(Gelu()(Linear(4 * width)(LayerNorm()(x)))))
    model += LayerNorm()
    model += Linear(vocabulary)(output="logits")
    return model


# --- building -------------------------------------------------------------------------------------------


def building(rounds: int) -> Table:
    """Building, compiling and the first evaluation, on NumPy, so without an engine's own compilation."""
    contestants = {
        "MLP of 32 layers": f"{HERE}build_mlp(layers=32)",
        "MLP of 128 layers": f"{HERE}build_mlp(layers=128)",
        "GPT of 12 blocks": f"{HERE}build_gpt()",
    }
    answers, failures = fresh_answers(contestants, "call", rounds)
    parts = ("build", "compile", "parameters", "evaluate", "gradients")

    def median(label: str, *keys: str) -> float:
        return statistics.median(sum(a[k] for k in keys) for a in answers[label])

    ratio = None
    if len(answers) == 3:
        ratio = median("MLP of 128 layers", "build", "compile", "evaluate") / median(
            "MLP of 32 layers", "build", "compile", "evaluate"
        )
    return Table(
        name="compose_build",
        title="Composed models on NumPy: build, compile, draw parameters, first evaluation, first gradients",
        columns=["model", *parts],
        rows=[[label, *(duration(median(label, key)) for key in parts)] for label in answers],
        claims=[Claim("MLP of 128 layers", "MLP of 32 layers", 4.5).measured(ratio)],
        notes=["Aims: the MLP of 128 layers under 1 s, the GPT under 3 s."],
        failures=failures,
        data=answers,
    ).show_and_save()


def build_mlp(layers: int) -> dict[str, float]:
    x = np.ones((8, 64), "float32")
    _built(lambda: mlp(2), {"input": x}, "output")  # what is loaded at the first use is not counted
    return _built(lambda: mlp(layers), {"input": x}, "output")


def build_gpt() -> dict[str, float]:
    tokens = np.arange(128).reshape(2, 64)
    _built(lambda: gpt(1), {"tokens": tokens}, "logits")
    return _built(gpt, {"tokens": tokens}, "logits")


def _built(make: Any, inputs: dict, output: str) -> dict[str, float]:
    clock = time.perf_counter
    t0 = clock()
    model = make()
    t1 = clock()
    compiled = gl.compile(model, "numpy", shapes={name: x.shape for name, x in inputs.items()})
    t2 = clock()
    params = compiled.get_parameters()
    t3 = clock()
    outputs = compiled.evaluate(params, inputs)
    t4 = clock()
    compiled.evaluate(params, inputs, output_gradients={output: outputs[output]})
    t5 = clock()
    return {"build": t1 - t0, "compile": t2 - t1, "parameters": t3 - t2, "evaluate": t4 - t3, "gradients": t5 - t4}


# --- calls ----------------------------------------------------------------------------------------------


def overhead(blocks: int) -> Table:
    """What `evaluate` takes above the engine's compiled function."""
    contestants = {label: f"{HERE}evaluate_overhead({backend=}, {blocks=})" for label, backend in ENGINES.items()}
    answers, failures = fresh_answers(contestants, "call", 1)
    return Table(
        name="compose_call",
        title="evaluate above its engine's own call (MLP of 3 layers, 6 parameters, batch 8; without waiting for results)",
        columns=["engine", "evaluate", "engine's call", "overhead"],
        rows=[
            [label, *(duration(max(0.0, found[0][key])) for key in ("whole", "engine", "overhead"))]
            for label, found in answers.items()
        ],
        notes=["Aim: at most 15 µs on JAX and PyTorch."],
        failures=failures,
        data=answers,
    ).show_and_save()


def evaluate_overhead(backend: str, blocks: int) -> dict[str, float]:
    engine = gl.get_backend(backend)
    compiled = gl.compile(mlp(3), engine, shapes={"input": [8, 64]})
    params, inputs = compiled.get_parameters(), {"input": engine.randn(8, 64)}
    compiled.evaluate(params, inputs)
    bare, plain = compiled.compiled_function("forward"), dict(params)

    # Nobody waits for the results: what the engine's threads do meanwhile is not evaluate's.
    def whole() -> Any:
        return compiled.evaluate(params, inputs)

    def inner() -> Any:
        return bare(plain, inputs)

    whole()
    return call_overhead(whole, inner, blocks=blocks)


# --- one pass and two -----------------------------------------------------------------------------------


def passes(label: str, backend: str, quick: bool) -> Table:
    """Outputs and then gradients, as two calls, beside one call with a function of the outputs."""
    one, two = "one call with a function", "two calls"
    return compare(
        {two: f"{HERE}two_passes({backend=})", one: f"{HERE}one_pass({backend=})"},
        name=f"compose_passes_{backend}",
        title=f"Outputs and gradients on {label} (MLP 784-256-128-10, batch 64)",
        blocks=3 if quick else 9,
        seconds=0.3 if quick else 0.5,
        isolated=True,
        claims=[Claim(one, two, 0.7)],
    ).table()


def _wide(backend: str) -> tuple[Any, Any, Any, Any, Any]:
    engine = gl.get_backend(backend)
    model = Model()
    for width in (256, 128):
        model += Linear(width)
        model += Relu()
    model += Linear(10)
    compiled = gl.compile(model, engine, shapes={"input": [64, 784]})
    return engine, compiled, compiled.get_parameters(), {"input": engine.randn(64, 784)}, engine.randn(64, 10)


def two_passes(backend: str) -> Step:
    engine, compiled, params, inputs, targets = _wide(backend)

    def step() -> None:
        outputs = compiled.evaluate(params, inputs)
        g = outputs["output"] - targets
        _, gradients = compiled.evaluate(params, inputs, output_gradients={"output": g})
        engine.synchronize(*gradients.values())

    return step


def one_pass(backend: str) -> Step:
    engine, compiled, params, inputs, targets = _wide(backend)

    def step() -> None:
        _, gradients = compiled.evaluate(params, inputs, output_gradients=lambda o: {"output": o["output"] - targets})
        engine.synchronize(*gradients.values())

    return step


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    run(parser.parse_args().quick)
