"""Trains the same model on every installed engine and compares the losses, step by step, with NumPy's.

    python examples/compare_engines.py
    python examples/compare_engines.py --steps 20 --backends numpy torch

Ends with status 1 where a loss differs from NumPy's by more than --tolerance, relatively. Weights, batches and dropout
masks are the same numbers on every engine; what is left are the rounding errors of float32, which training amplifies.
"""

import argparse
import importlib.util
import sys
import time

from sklearn.datasets import load_digits

import gradloom as gl
from gradloom import nn

BATCH = 64


def losses_on(backend: str, steps: int) -> list[float]:
    """The training losses of the first steps on one engine."""
    gl.set_default_backend(backend)
    gl.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 1, 8, 8) / 16).astype("float32")
    # The model is chosen so that rounding errors stay small. The convolutions have no bias: a BatchNorm follows, so the
    # gradient of a bias is 0 but for rounding, and Adam, which divides a gradient by its own size, makes whole steps of
    # that noise. GELU and AvgPool2d have no kinks: with ReLU and MaxPool2d the curves agree as well until an element
    # lands within rounding of a kink (the images' black corners give many equal ones), and then its gradient differs.
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.GELU(), nn.AvgPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.GELU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Dropout(0.1), nn.Linear(16 * 2 * 2, 10),
    )  # fmt: skip
    criterion = nn.CrossEntropyLoss()
    optimizer = gl.optim.Adam(model.parameters(), lr=3e-3)

    @gl.jit
    def step(x, y):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    losses = []
    for i in range(steps):
        epoch, batch = divmod(i, len(images) // BATCH)
        order = gl.random.permutation(gl.random.key(0, "shuffle", epoch), len(images))  # the same on every engine
        rows = order[batch * BATCH : (batch + 1) * BATCH]
        losses.append(step(gl.tensor(images[rows]), gl.tensor(labels[rows])))
    return [loss.item() for loss in losses]


def main() -> int:
    engines = [name for name in ("numpy", "jax", "torch", "mlx") if importlib.util.find_spec(name)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", nargs="+", choices=engines, default=engines)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    args = parser.parse_args()

    reference = losses_on("numpy", args.steps)
    print(f"{args.steps} steps, loss from {reference[0]:.4f} to {reference[-1]:.4f}; limit {args.tolerance:.0e}\n")
    print(f"{'engine':<8}  {'last loss':>12}  {'largest relative difference to NumPy':<38}  {'seconds':>7}")
    failed = False
    for backend in args.backends:
        start = time.perf_counter()
        losses = losses_on(backend, args.steps)
        seconds = time.perf_counter() - start
        differences = [abs(a - b) / abs(b) for a, b in zip(losses, reference, strict=True)]
        worst = max(range(args.steps), key=differences.__getitem__)
        beyond = not differences[worst] <= args.tolerance  # NaN is beyond, too
        failed |= beyond
        text = f"{differences[worst]:.1e} at step {worst + 1}{', BEYOND THE LIMIT' if beyond else ''}"
        print(f"{backend:<8}  {losses[-1]:>12.7f}  {text:<38}  {seconds:>7.1f}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
