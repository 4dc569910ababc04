"""Whole training steps: ours on each engine beside what its users would write. ``python -m benchmarks.steps``."""

from __future__ import annotations

import argparse

from benchmarks.harness import compare
from benchmarks.report import Claim, Table

OURS, TORCH, JAX = "benchmarks.ours:", "benchmarks.peers.pytorch:", "benchmarks.peers.jax_handwritten:"
ON_NUMPY, ON_JAX, ON_TORCH = "gradloom, NumPy", "gradloom, JAX", "gradloom, PyTorch"
FUSED, DEFAULT, BY_HAND = "PyTorch, fused Adam", "PyTorch, default Adam", "JAX by hand"


def run(quick: bool = False) -> list[Table]:
    """A table a model."""
    options = {"blocks": 3, "seconds": 0.3} if quick else {"blocks": 15, "seconds": 1.0}

    def steps(model: str, title: str, *claims: Claim, **more: str) -> Table:
        return compare(
            {
                FUSED: f"{TORCH}{model}(fused=True)",
                DEFAULT: f"{TORCH}{model}(fused=False)",
                BY_HAND: JAX + model,
                **more,
                ON_NUMPY: f"{OURS}{model}(backend='numpy')",
                ON_JAX: f"{OURS}{model}(backend='jax')",
                ON_TORCH: f"{OURS}{model}(backend='torch')",
                f"{ON_NUMPY}, eager": f"{OURS}{model}(backend='numpy', jit=False)",
                f"{ON_TORCH}, eager": f"{OURS}{model}(backend='torch', jit=False)",
            },
            name=f"steps_{model}",
            title=title,
            isolated=True,
            claims=list(claims),
            **options,
        ).table()

    return [
        steps(
            "mlp",
            "Training step of an MLP 784-256-128-10, batch 64, Adam",
            Claim(ON_NUMPY, FUSED, 1.1),
            Claim(ON_JAX, BY_HAND, 1.05),
            Claim(ON_TORCH, FUSED, 0.8),
        ),
        steps(
            "mlp_dropout",
            "Training step of an MLP 784-256-128-10 with dropout, batch 64, Adam",
        ),
        steps(
            "lenet",
            "Training step of LeNet, batch 64 of 1x28x28, Adam",
            Claim(ON_JAX, BY_HAND, 0.85),
            Claim(ON_JAX, "JAX by hand, tuned", 1.05),
            Claim(ON_TORCH, FUSED, 0.95),
            Claim(ON_NUMPY, FUSED, 2.0),
            **{"JAX by hand, tuned": JAX + "lenet_tuned"},
        ),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    run(parser.parse_args().quick)
