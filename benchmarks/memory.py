"""Peak memory of training steps, beside PyTorch eager. ``python -m benchmarks.memory`` (Linux)."""

from __future__ import annotations

import argparse
import statistics

from benchmarks.harness import ContestantFailed, peak_memory, rotated
from benchmarks.report import Claim, Table, size

BASELINE = "PyTorch, fused Adam"
CONTESTANTS = {  # the model and its options are filled in
    BASELINE: "benchmarks.peers.pytorch:{model}(fused=True, {options})",
    "gradloom, NumPy": "benchmarks.ours:{model}(backend='numpy', {options})",
    "gradloom, PyTorch": "benchmarks.ours:{model}(backend='torch', {options})",
    "gradloom, NumPy, eager": "benchmarks.ours:{model}(backend='numpy', jit=False, {options})",
    "gradloom, PyTorch, eager": "benchmarks.ours:{model}(backend='torch', jit=False, {options})",
}
# Big enough that activations outweigh what libraries load and keep; the second options are those of a small
# instance that makes them load it.
MODELS = {
    "mlp": ("MLP 784-256-128-10, batch 8192", "batch=8192", "batch=8"),
    "lenet": ("LeNet, batch 512", "batch=512", "batch=8"),
    "deep_mlp": (
        "MLP of 64 layers of 256, batch 1024",
        "layers=64, width=256, batch=1024",
        "layers=2, width=32, batch=8",
    ),
}


def run(quick: bool = False) -> list[Table]:
    """A table a model."""
    return [measure(model, rounds=1 if quick else 5) for model in MODELS]


def measure(model: str, rounds: int) -> Table:
    """Peaks of one model, in new processes, interleaved; the median over the rounds."""
    title, options, small = MODELS[model]
    found: dict[str, list[dict[str, int]]] = {label: [] for label in CONTESTANTS}
    failures: dict[str, str] = {}
    for number in range(rounds):
        for label in rotated(list(CONTESTANTS), number):
            if label in failures:
                continue
            target = CONTESTANTS[label].format(model=model, options=options)
            prime = CONTESTANTS[label].format(model=model, options=small)
            try:
                found[label].append(peak_memory(target, prime=prime))
            except ContestantFailed as error:
                failures[label] = str(error)
                del found[label]

    def median(label: str, key: str) -> float:
        return statistics.median(answer[key] for answer in found[label])

    def ratio(label: str) -> float | None:
        if label not in found or BASELINE not in found:
            return None
        return median(label, "steady") / median(BASELINE, "steady")

    rows = []
    for label in found:
        against = ratio(label)
        rows.append(
            [
                label,
                *(size(median(label, key)) for key in ("built", "first", "steady")),
                "–" if against is None else f"{against:.2f}",
            ]
        )
    return Table(
        name=f"memory_{model}",
        title=f"Peak memory of a training step above what was held before it was built: {title}",
        columns=["contestant", "built", "first step", "later steps", f"÷ {BASELINE}"],
        rows=rows,
        claims=[
            Claim(label, BASELINE, 1.0).measured(ratio(label)) for label in ("gradloom, NumPy", "gradloom, PyTorch")
        ],
        failures=failures,
        data=found,
    ).show_and_save()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    run(parser.parse_args().quick)
