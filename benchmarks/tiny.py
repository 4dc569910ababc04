"""Small models, eagerly: what an operation costs beside its arithmetic. ``python -m benchmarks.tiny``."""

from __future__ import annotations

import argparse

from benchmarks.harness import Comparison, compare
from benchmarks.report import Claim, Table, duration

OURS, TORCH, NUMPY = "benchmarks.ours:", "benchmarks.peers.pytorch:", "benchmarks.peers.numpy_handwritten:"


def run(quick: bool = False) -> list[Table]:
    """The three tables."""
    options = {"blocks": 3, "seconds": 0.2} if quick else {"blocks": 15, "seconds": 0.5}
    gradients = compare(
        {
            "NumPy by hand": NUMPY + "tiny",
            "gradloom, NumPy": OURS + "tiny_functional",
            "PyTorch, grad()": TORCH + "tiny_functional(how='grad')",
            "PyTorch, backward()": TORCH + "tiny_functional(how='backward')",
        },
        name="tiny_gradients",
        title="Eager forward and backward of an MLP 16-32-16, batch 8",
        isolated=True,
        claims=[
            Claim("gradloom, NumPy", "PyTorch, grad()", 0.35),
        ],
        **options,
    )
    training = compare(
        {
            "PyTorch, fused Adam": TORCH + "tiny_modules(fused=True)",
            "PyTorch, default Adam": TORCH + "tiny_modules(fused=False)",
            "gradloom, NumPy": OURS + "tiny_modules",
            "gradloom, NumPy, jit": OURS + "tiny_modules(jit=True)",
        },
        name="tiny_training",
        title="Eager training step of an MLP 16-32-16 of modules, batch 8, Adam",
        isolated=True,
        claims=[Claim("gradloom, NumPy", "PyTorch, fused Adam", 0.3)],
        **options,
    )
    sums = compare(
        {
            "np.add": NUMPY + "add",
            "gradloom, NumPy": OURS + "add",
            "PyTorch": TORCH + "add",
        },
        name="tiny_add",
        title="One sum of two small arrays, recorded for a gradient",
        isolated=True,
        claims=[Claim("gradloom, NumPy", "PyTorch", 0.6)],
        show=False,
        **options,
    )
    table = sums.table()
    table.notes += overheads(sums, "np.add")
    return [gradients.table(), training.table(), table.show_and_save()]


def overheads(comparison: Comparison, bare: str) -> list[str]:
    """What each contestant takes above the bare operation."""
    if bare not in comparison.blocks:
        return []
    return [
        f"{label}: {duration(max(0.0, comparison.median(label) - comparison.median(bare)))} above {bare}."
        for label in comparison.blocks
        if label != bare
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    run(parser.parse_args().quick)
