"""Checks that all contestants do the same work: ``python -m benchmarks.peers.selftest [--ours]``.

Each runs in a process of its own for 20 steps; losses (and gradients, where the step returns them) are to
agree with the first of their group to 1e-4. Dropout is compared exactly at rate 0, and at rate 0.5 by the mean
loss over 200 steps.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys

from benchmarks.harness import ContestantFailed, Worker

STEPS = 20
TOLERANCE = 1e-4
DROPOUT_STEPS = 200
DROPOUT_TOLERANCE = 0.05
TORCH, JAX, NUMPY, OURS = (
    "benchmarks.peers.pytorch:",
    "benchmarks.peers.jax_handwritten:",
    "benchmarks.peers.numpy_handwritten:",
    "benchmarks.ours:",
)

GROUPS = {
    "tiny, forward and backward": [
        NUMPY + "tiny",
        TORCH + "tiny_functional(how='backward')",
        TORCH + "tiny_functional(how='grad')",
    ],
    "tiny with Adam": [TORCH + "tiny_modules(fused=False)", TORCH + "tiny_modules(fused=True)"],
    "MLP": [TORCH + "mlp(fused=False)", TORCH + "mlp(fused=True)", JAX + "mlp"],
    "MLP with dropout 0": [
        TORCH + "mlp_dropout(fused=False, rate=0.0)",
        TORCH + "mlp_dropout(fused=True, rate=0.0)",
        JAX + "mlp_dropout(rate=0.0)",
    ],
    "LeNet": [
        TORCH + "lenet(fused=False)",
        TORCH + "lenet(fused=True)",
        JAX + "lenet",
        JAX + "lenet_tuned",
    ],
    "deep MLP": [
        TORCH + "deep_mlp(fused=False, layers=16)",
        TORCH + "deep_mlp(fused=True, layers=16)",
        JAX + "deep_mlp(layers=16)",
    ],
    "chain": [TORCH + "chain(tensors=8)", JAX + "chain(tensors=8)"],
}
OUR_MEMBERS = {
    "tiny, forward and backward": "tiny_functional()",
    "tiny with Adam": "tiny_modules()",
    "MLP": "mlp()",
    "MLP with dropout 0": "mlp_dropout(rate=0.0)",
    "LeNet": "lenet()",
    "deep MLP": "deep_mlp(layers=16)",
    "chain": "chain(tensors=8)",
}
DROPOUT = [TORCH + "mlp_dropout(fused=True)", JAX + "mlp_dropout"]
BACKENDS = ("numpy", "jax", "torch")


def curve(target: str, steps: int) -> list[list[list[float]]]:
    """What each step returned."""
    with Worker(target) as worker:
        return worker.ask("curve", steps=steps)


def largest_difference(a: list[list[list[float]]], b: list[list[list[float]]]) -> float:
    """The largest difference of any returned array, relative to that array's largest number."""
    largest = 0.0
    for values, others in zip(a, b, strict=True):
        for value, other in zip(values, others, strict=True):
            scale = max(map(abs, value)) or 1.0
            for p, q in zip(value, other, strict=True):
                if not (math.isfinite(p) and math.isfinite(q)):
                    return math.inf
                largest = max(largest, abs(p - q) / scale)
    return largest


def main(ours: bool) -> int:
    """Prints a line a contestant; the number of those that failed."""
    failed = 0

    def line(target: str, good: bool, text: str) -> None:
        nonlocal failed
        failed += not good
        print(f"  {'ok    ' if good else 'FAILED'} {target.removeprefix('benchmarks.'):60} {text}", flush=True)

    for group, targets in GROUPS.items():
        print(group)
        if ours:
            targets = targets + [with_backend(OURS + OUR_MEMBERS[group], b) for b in BACKENDS]
        reference = curve(targets[0], STEPS)
        print(f"  from   {targets[0].removeprefix('benchmarks.'):60} loss {span(reference)}")
        for target in targets[1:]:
            try:
                found = curve(target, STEPS)
                difference = largest_difference(reference, found)
                line(target, difference <= TOLERANCE, f"loss {span(found)}, differs by {difference:.1e}")
            except (ContestantFailed, ValueError) as error:
                line(target, False, str(error))

    print(f"MLP with dropout 0.5, mean loss over {DROPOUT_STEPS} steps")
    targets = DROPOUT + ([with_backend(OURS + "mlp_dropout()", b) for b in BACKENDS] if ours else [])
    expected = None
    for target in targets:
        try:
            mean = statistics.fmean(values[0][0] for values in curve(target, DROPOUT_STEPS))
        except ContestantFailed as error:
            line(target, False, str(error))
            continue
        expected = mean if expected is None else expected
        line(target, abs(mean / expected - 1) <= DROPOUT_TOLERANCE, f"{mean:.4f}")
    print(f"{failed} failed" if failed else "all agree")
    return failed


def with_backend(target: str, backend: str) -> str:
    """The target with ``backend=`` among its options."""
    separator = "" if target.endswith("()") else ", "
    return f"{target[:-1]}{separator}backend={backend!r})"


def span(values: list[list[list[float]]]) -> str:
    return f"{values[0][0][0]:.5f} to {values[-1][0][0]:.5f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", action="store_true", help="check gradloom on every engine too")
    sys.exit(1 if main(parser.parse_args().ours) else 0)
