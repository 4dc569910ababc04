"""Trains a small convolutional network on scikit-learn's 8 x 8 handwritten digits, on the engine of your choice.

    python examples/digits.py --backend jax        # or numpy (the default), torch, mlx
    python examples/digits.py --eager              # without gradloom.jit
    python examples/digits.py --resume             # goes on where the last run was stopped (Ctrl-C)

The run folder (runs/digits-<backend>, or --out) gets report.html, metrics.csv, loss_curve.png, checkpoint.safetensors,
step.py, the training step as gradloom.jit emitted it, and what the report is made of (docs/cli.md). Needs scikit-learn,
matplotlib and rich: pip install 'gradloom[demo]'.
"""

import argparse
from pathlib import Path

from sklearn.datasets import load_digits

import gradloom as gl
from gradloom import nn
from gradloom.report import write_report
from gradloom.training import TrainingLoop
from gradloom.training.callbacks import LRSchedulerCallback, ModelCheckpoint, Profiler, ProgressBar, RunFolder
from gradloom.training.data import DataLoader
from gradloom.training.metrics import Accuracy, ConfusionMatrix

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
gl.set_default_backend(args.backend)
gl.manual_seed(args.seed)  # the same initial weights and dropout masks on every engine

# --------------------------------------------------------------------------------------------------------------- data
images, labels = load_digits(return_X_y=True)  # 1797 rows of 64 numbers from 0 to 16
images = (images.reshape(-1, 1, 8, 8) / 16).astype("float32")
order = gl.random.permutation(gl.random.key(args.seed, "split"), len(images))  # portable: the same order everywhere
train, test = order[:1437], order[1437:]
# The rest of an epoch is left out: one shape, so one compiled step.
train_data = DataLoader((images[train], labels[train]), batch_size=64, shuffle=True, drop_last=True, seed=args.seed)
test_data = DataLoader((images[test], labels[test]), batch_size=len(test))

# -------------------------------------------------------------------------------------------------------------- model
# A convolution before a BatchNorm has no bias: the BatchNorm would take it out again.
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
    nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 2 * 2, 10),
)  # fmt: skip
optimizer = gl.optim.AdamW(model.parameters(), lr=4e-3)
cosine = gl.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs * len(train_data))

# ----------------------------------------------------------------------------------------------------------- training
checkpoint = out / "checkpoint.safetensors"
loop = TrainingLoop(
    model,
    optimizer,
    loss_fn=nn.CrossEntropyLoss(),
    metrics=[Accuracy(), ConfusionMatrix(num_classes=10)],
    callbacks=[
        LRSchedulerCallback(cosine, every="step"),
        ProgressBar(),
        Profiler(file=False),
        ModelCheckpoint(checkpoint, monitor=None),  # the newest state, so that a run may be stopped at any time
        RunFolder(out, config=vars(args)),
    ],
    compile=not args.eager,
)
if args.resume:
    loop.load_state_dict(gl.load(checkpoint))
    print(f"resumed after epoch {loop.epoch}")
count = sum(p.numel() for p in model.parameters())
print(f"{count:,} parameters, {len(train)} images to train on, {len(test)} to test on, backend {args.backend}")
history = loop.fit(train_data, test_data, epochs=args.epochs)

# ------------------------------------------------------------------------------------------------------------ results
if history:
    history.plot(["loss", "accuracy"], file=out / "loss_curve.png")
    report = write_report(out)
    print(f"{history['val_accuracy'][-1]:.2%} of the test images are recognised; see {report}")
