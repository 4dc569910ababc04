"""What compiling costs, and what a compiled step costs beside its engine. ``python -m benchmarks.compile_cost``."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.harness import Step, compare, fresh_answers
from benchmarks.report import Claim, Table, duration

OURS, JAX = "benchmarks.ours:", "benchmarks.peers.jax_handwritten:"
HERE = "benchmarks.compile_cost:"
STATE_SIZES = (8, 64, 512)
FIRST_CALLS = {"MLP": "mlp", "LeNet": "lenet", "deep MLP": "deep_mlp"}


def run(quick: bool = False) -> list[Table]:
    """First calls, the cost of a graph's node, and the overhead of a call."""
    rounds = 2 if quick else 7
    return [
        *(first_call(model, factory, rounds) for model, factory in FIRST_CALLS.items()),
        node_cost(rounds),
        *(chain_step(tensors, quick) for tensors in STATE_SIZES),
        engine_overhead(2 if quick else 5),
    ]


def first_call(model: str, factory: str, rounds: int) -> Table:
    """The first call, and the first three, in a new process each time, ours on JAX beside JAX by hand."""
    by_hand, ours = "JAX by hand", "gradloom, JAX"
    contestants = {by_hand: JAX + factory, ours: f"{OURS}{factory}(backend='jax')"}
    answers, failures = fresh_answers(contestants, "first", rounds)

    def ratio(key: str) -> float | None:
        if by_hand not in answers or ours not in answers:
            return None
        return _median_ratio([a[key] for a in answers[ours]], [a[key] for a in answers[by_hand]])

    return Table(
        name=f"first_call_{factory}",
        title=f"First call of a training step on JAX: {model} (trace, compile and run; new processes)",
        columns=["contestant", "build", "first call", "first three"],
        rows=[
            [label, *(duration(_median(found, key)) for key in ("build", "first", "three"))]
            for label, found in answers.items()
        ],
        claims=[
            Claim(f"{ours}, first call", by_hand, 1.2).measured(ratio("first")),
        ],
        failures=failures,
        data=answers,
    ).show_and_save()


def node_cost(rounds: int) -> Table:
    """Tracing and emitting the step of an MLP of 64 layers, by node."""
    contestants = {
        f"gradloom, {engine}": f"{OURS}trace_cost(backend={backend!r})"
        for engine, backend in (("NumPy", "numpy"), ("JAX", "jax"), ("PyTorch", "torch"))
    }
    answers, failures = fresh_answers(contestants, "call", rounds)
    return Table(
        name="node_cost",
        title="Tracing and emitting a training step: an MLP of 64 layers",
        columns=["contestant", "nodes", "trace and emit", "a node", "whole first call"],
        rows=[
            [
                label,
                f"{found[0]['nodes']}",
                duration(_median(found, "trace")),
                duration(_median(found, "trace") / found[0]["nodes"]),
                duration(_median(found, "first")),
            ]
            for label, found in answers.items()
        ],
        failures=failures,
        data=answers,
    ).show_and_save()


def chain_step(tensors: int, quick: bool) -> Table:
    """A step with little arithmetic and many state tensors, ours on JAX beside JAX by hand."""
    return compare(
        {
            "JAX by hand": f"{JAX}chain(tensors={tensors})",
            "gradloom, JAX": f"{OURS}chain(backend='jax', tensors={tensors})",
        },
        name=f"call_{tensors}",
        title=f"A jitted step with {tensors} state tensors and little arithmetic",
        blocks=2 if quick else 7,
        seconds=0.2 if quick else 0.5,
        isolated=True,
        claims=[Claim("gradloom, JAX", "JAX by hand", 1.1)],
    ).table()


def engine_overhead(blocks: int) -> Table:
    """What a jitted step takes above its engine's own compiled function, by the number of state tensors."""
    contestants = {
        f"{engine}, {tensors} tensors": f"{HERE}chain_overhead({tensors=}, {backend=}, {blocks=})"
        for engine, backend in (("NumPy", "numpy"), ("JAX", "jax"), ("PyTorch", "torch"))
        for tensors in STATE_SIZES
    }
    answers, failures = fresh_answers(contestants, "call", 1)
    return Table(
        name="call_overhead",
        title="A jitted step above its engine's own compiled call",
        columns=["contestant", "step", "engine's call", "overhead"],
        rows=[
            [label, *(duration(max(0.0, found[0][key])) for key in ("whole", "engine", "overhead"))]
            for label, found in answers.items()
        ],
        failures=failures,
        data=answers,
    ).show_and_save()


def chain_overhead(tensors: int, backend: str, blocks: int) -> dict[str, float]:
    """``call_overhead`` of our chain; runs in a worker."""
    from benchmarks import ours  # imports the engines, which only a worker should hold

    return call_overhead(*ours.chain_calls(tensors, backend), blocks=blocks)


def call_overhead(whole: Step, engine: Step, blocks: int = 5, seconds: float = 0.2) -> dict[str, float]:
    """How much longer ``whole`` takes than ``engine``, the compiled function that it calls inside.

    Both are timed in this process, interleaved and not rebuilt, as they share the compiled function.

    Args:
        whole: the jitted step, with its arguments bound.
        engine: the compiled function with its arguments bound; both wait for their results.
        blocks: how often each is timed.
        seconds: how long each is timed in a block.

    Returns:
        Seconds a call: ``whole``, ``engine`` (medians), and ``overhead``, the median difference in a block.
    """
    measured = compare(
        {"whole": lambda: whole, "engine": lambda: engine},
        name="call_overhead",
        blocks=blocks,
        seconds=seconds,
        show=False,
    )
    if measured.failures:
        raise RuntimeError("; ".join(f"{label}: {why}" for label, why in measured.failures.items()))
    pairs = zip(measured.blocks["whole"], measured.blocks["engine"], strict=True)
    return {
        "whole": measured.median("whole"),
        "engine": measured.median("engine"),
        "overhead": statistics.median(a.median - b.median for a, b in pairs),
    }


def _median(found: list[dict[str, Any]], key: str) -> float:
    return statistics.median(answer[key] for answer in found)


def _median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    run(parser.parse_args().quick)
