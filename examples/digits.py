"""Trains a small convolutional network on scikit-learn's 8 x 8 handwritten digits, on the engine of your choice.

    python examples/digits.py                              # NumPy
    python examples/digits.py --backend jax --epochs 20    # or torch, mlx
    python examples/digits.py --eager                      # without gradloom.jit
    python examples/digits.py --epochs 30 --resume         # goes on where the last run stopped

The run folder (runs/digits-<backend>, or --out) gets metrics.csv, loss_curve.png, checkpoint.safetensors, and step.py: the
training step as gradloom.jit emitted it. Needs scikit-learn, matplotlib and rich: pip install 'gradloom[demo]'.
"""

import argparse
import csv
import math
import time
from pathlib import Path

import matplotlib
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sklearn.datasets import load_digits

import gradloom as gl
from gradloom import nn

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (after the choice of a canvas that needs no display)

# ------------------------------------------------------------------------------------------------------------ options
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", choices=["numpy", "jax", "torch", "mlx"], default="numpy")
parser.add_argument("--epochs", type=int, default=15)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--lr", type=float, default=4e-3, help="the highest rate; it falls to 0 along a cosine")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, help="the run folder; default: runs/digits-<backend>")
parser.add_argument("--eager", action="store_true", help="run the step line by line instead of compiled")
parser.add_argument("--resume", action="store_true", help="start from the checkpoint in the run folder")
args = parser.parse_args()
out = args.out or Path("runs") / f"digits-{args.backend}"
out.mkdir(parents=True, exist_ok=True)
console = Console()

gl.set_default_backend(args.backend)
generator = gl.manual_seed(args.seed)  # the same initial weights and dropout masks on every engine

# --------------------------------------------------------------------------------------------------------------- data
images, labels = load_digits(return_X_y=True)  # 1797 rows of 64 numbers from 0 to 16
images = (images.reshape(-1, 1, 8, 8) / 16).astype("float32")
order = gl.random.permutation(gl.random.key(args.seed, "split"), len(images))  # portable: the same order everywhere
train, test = order[:1437], order[1437:]
x_test, y_test = gl.tensor(images[test]), gl.tensor(labels[test])
steps = len(train) // args.batch_size  # the rest of an epoch is left out: one shape, so one compiled step

# -------------------------------------------------------------------------------------------------------------- model
# A convolution before a BatchNorm has no bias: the BatchNorm would take it out again.
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
    nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 2 * 2, 10),
)  # fmt: skip
criterion = nn.CrossEntropyLoss()
optimizer = gl.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-2)


def step(x, y):
    optimizer.zero_grad()
    logits = model(x)
    loss = criterion(logits, y)
    loss.backward()
    optimizer.step()
    return loss, (logits.argmax(1) == y).sum()


def evaluate(x, y):
    logits = model(x)
    return criterion(logits, y), (logits.argmax(1) == y).sum()


if not args.eager:
    step, evaluate = gl.jit(step), gl.jit(evaluate)

# ------------------------------------------------------------------------------------------------------------- resume
history = []  # a row of metrics for each epoch
checkpoint = out / "checkpoint.safetensors"
if args.resume:
    saved = gl.load(checkpoint)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    generator.set_state(saved["generator"])
    history = saved["history"]
    console.print(f"resumed after epoch {len(history)}")

# ----------------------------------------------------------------------------------------------------------- training
count = sum(p.numel() for p in model.parameters())
how = "eager" if args.eager else "compiled"
console.print(f"{count:,} parameters, {len(train)} images to train on, {len(test)} to test on; {args.backend}, {how}")
columns = ["{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[now]}")]
progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
for epoch in range(len(history), args.epochs):
    start = shown = time.perf_counter()
    order = gl.random.permutation(gl.random.key(args.seed, "shuffle", epoch), len(train))
    losses, correct = [], []
    model.train()
    with progress:
        task = progress.add_task(f"epoch {epoch + 1:>2}", total=steps, now="")
        for i in range(steps):
            rows = train[order[i * args.batch_size : (i + 1) * args.batch_size]]
            # The rate is an input of the compiled step: a new one costs no new compilation.
            optimizer.param_groups[0]["lr"] = args.lr * (1 + math.cos(math.pi * (epoch + i / steps) / args.epochs)) / 2
            loss, hits = step(gl.tensor(images[rows]), gl.tensor(labels[rows]))
            losses.append(loss)
            correct.append(hits)
            # Reading a number waits for the engine, so that is done now and then only.
            if console.is_terminal and time.perf_counter() - shown > 0.2:
                shown = time.perf_counter()
                now = f"loss {loss.item():.3f}  accuracy {hits.item() / args.batch_size:.1%}"
                progress.update(task, completed=i + 1, now=now)
        progress.remove_task(task)
    train_loss = np.mean([t.item() for t in losses])
    train_accuracy = sum(t.item() for t in correct) / (steps * args.batch_size)
    model.eval()
    with gl.no_grad():
        test_loss, hits = evaluate(x_test, y_test)
    row = {"epoch": epoch + 1, "train_loss": float(train_loss), "train_accuracy": train_accuracy}
    row |= {"test_loss": test_loss.item(), "test_accuracy": hits.item() / len(test)}
    history.append(row | {"seconds": round(time.perf_counter() - start, 3)})
    console.print(
        f"epoch {epoch + 1:>2}  loss {train_loss:.4f}  accuracy {train_accuracy:.2%}  test loss {row['test_loss']:.4f}  "
        f"test accuracy {row['test_accuracy']:.2%}  {history[-1]['seconds']:.2f} s", highlight=False,
    )  # fmt: skip
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "generator": generator.get_state()}
    gl.save(state | {"history": history}, checkpoint)  # whole or not at all: a run may be stopped at any time

# ------------------------------------------------------------------------------------------------------------ results
with open(out / "metrics.csv", "w", newline="") as file:
    writer = csv.DictWriter(file, history[0])
    writer.writeheader()
    writer.writerows(history)
if not args.eager and step.compiles:
    (out / "step.py").write_text(step.source)

epochs = [row["epoch"] for row in history]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for name, style in (("train", {"color": "0.6"}), ("test", {"color": "tab:blue", "marker": "o", "markersize": 4})):
    left.plot(epochs, [row[f"{name}_loss"] for row in history], label=name, **style)
    right.plot(epochs, [100 * row[f"{name}_accuracy"] for row in history], label=name, **style)
left.set(title="cross-entropy", xlabel="epoch", yscale="log")
right.set(title="accuracy (%)", xlabel="epoch")
for axes in (left, right):
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
figure.suptitle(f"digits on {args.backend}: {history[-1]['test_accuracy']:.2%} of the test images")
figure.savefig(out / "loss_curve.png", dpi=150)
console.print(f"{history[-1]['test_accuracy']:.2%} of the test images are recognised; see {out}/", highlight=False)
