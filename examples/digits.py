"""Trains a small convolutional network on scikit-learn's 8 x 8 handwritten digits, on the engine of your choice.

    python examples/digits.py --backend jax        # or numpy (the default), torch, mlx
    python examples/digits.py --eager              # without gradloom.jit
    python examples/digits.py --resume             # goes on where the last run was stopped

The run folder (runs/digits-<backend>, or --out) gets metrics.csv, loss_curve.png, checkpoint.safetensors and step.py,
the training step as gradloom.jit emitted it. Needs scikit-learn, matplotlib and rich: pip install 'gradloom[demo]'.
"""

import argparse
import csv
import math
import time
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from sklearn.datasets import load_digits

import gradloom as gl
from gradloom import nn

# ------------------------------------------------------------------------------------------------------------ options
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default="numpy", help="or jax, torch, mlx; must be installed")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, help="the run folder; default: runs/digits-<backend>")
parser.add_argument("--eager", action="store_true", help="run the step line by line instead of compiled")
parser.add_argument("--resume", action="store_true", help="start from the checkpoint in the run folder")
args = parser.parse_args()
out = args.out or Path("runs") / f"digits-{args.backend}"
out.mkdir(parents=True, exist_ok=True)
console = Console(highlight=False, soft_wrap=True)
batch_size, highest_rate = 64, 4e-3
gl.set_default_backend(args.backend)
generator = gl.manual_seed(args.seed)  # the same initial weights and dropout masks on every engine

# --------------------------------------------------------------------------------------------------------------- data
images, labels = load_digits(return_X_y=True)  # 1797 rows of 64 numbers from 0 to 16
images = (images.reshape(-1, 1, 8, 8) / 16).astype("float32")
order = gl.random.permutation(gl.random.key(args.seed, "split"), len(images))  # portable: the same order everywhere
train, test = order[:1437], order[1437:]
x_test, y_test = gl.tensor(images[test]), gl.tensor(labels[test])
steps = len(train) // batch_size  # the rest of an epoch is left out: one shape, so one compiled step

# -------------------------------------------------------------------------------------------------------------- model
# A convolution before a BatchNorm has no bias: the BatchNorm would take it out again.
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
    nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 2 * 2, 10),
)  # fmt: skip
criterion = nn.CrossEntropyLoss()
optimizer = gl.optim.AdamW(model.parameters(), lr=highest_rate)


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
console.print(f"{count:,} parameters, {len(train)} images to train on, {len(test)} to test on, backend {args.backend}")
columns = ["{task.description}", BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[now]}")]
progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
for epoch in range(len(history), args.epochs):
    start = shown = time.perf_counter()
    order = gl.random.permutation(gl.random.key(args.seed, "shuffle", epoch), len(train))
    losses, correct = [], []
    model.train()
    with progress:
        task = progress.add_task(f"epoch {epoch + 1:>2}", total=steps, now="")
        for i in range(steps):
            rows = train[order[i * batch_size : (i + 1) * batch_size]]
            # The rate is an input of the compiled step: a new one costs no new compilation.
            done = (epoch + i / steps) / args.epochs
            optimizer.param_groups[0]["lr"] = highest_rate * (1 + math.cos(math.pi * done)) / 2
            loss, hits = step(gl.tensor(images[rows]), gl.tensor(labels[rows]))
            losses.append(loss)
            correct.append(hits)
            # Reading a number waits for the engine, so that is done now and then only.
            if console.is_terminal and time.perf_counter() - shown > 0.2:
                shown = time.perf_counter()
                now = f"loss {loss.item():.3f}  accuracy {hits.item() / batch_size:.1%}"
                progress.update(task, completed=i + 1, now=now)
        progress.remove_task(task)
    row = {"epoch": epoch + 1, "train_loss": sum(t.item() for t in losses) / steps}
    row["train_accuracy"] = sum(t.item() for t in correct) / (steps * batch_size)
    model.eval()
    with gl.no_grad():
        loss, hits = evaluate(x_test, y_test)
    row |= {"test_loss": loss.item(), "test_accuracy": hits.item() / len(test)}
    history.append(row | {"seconds": round(time.perf_counter() - start, 3)})
    line = ("epoch {epoch:>2}  loss {train_loss:.4f}, on test {test_loss:.4f}  accuracy {train_accuracy:.2%}, on test "
            "{test_accuracy:.2%}  {seconds:.2f} s")  # fmt: skip
    console.print(line.format(**history[-1]))
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
figure = Figure(figsize=(10, 4), layout="constrained")
left, right = figure.subplots(1, 2)
for axes, what, title in ((left, "loss", "cross-entropy"), (right, "accuracy", "accuracy")):
    axes.plot(epochs, [row[f"train_{what}"] for row in history], color="0.6", label="train")
    axes.plot(epochs, [row[f"test_{what}"] for row in history], ".-", color="tab:blue", label="test")
    axes.set(title=title, xlabel="epoch", yscale="log" if what == "loss" else "linear")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
axes.yaxis.set_major_formatter(PercentFormatter(1))
left.legend(frameon=False)
figure.suptitle(f"digits on {args.backend}: {history[-1]['test_accuracy']:.2%} of the test images")
figure.savefig(out / "loss_curve.png", dpi=150)
console.print(f"{history[-1]['test_accuracy']:.2%} of the test images are recognised; see {out}/")
