"""A small training set, validation, early stopping, and logs for TensorBoard.

    python examples/early_stopping.py [--backend numpy|jax|torch|mlx] [--quick] [--out runs/early]
    tensorboard --logdir runs/early

Of 200 images a network learns all by heart: the validation loss falls, and rises again. EarlyStopping ends training then,
and gives the network the parameters of its best epoch.
"""

import argparse
from pathlib import Path

from sklearn.datasets import load_digits

import gradloom as gl
from gradloom import nn
from gradloom.training import TrainingLoop
from gradloom.training.callbacks import CSVLogger, EarlyStopping, ModelCheckpoint, ProgressBar, TensorBoardLogger
from gradloom.training.data import DataLoader
from gradloom.training.metrics import Accuracy

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default="numpy")
parser.add_argument("--quick", action="store_true", help="half the patience")
parser.add_argument("--out", type=Path, default=Path("runs/early"))
args = parser.parse_args()
gl.set_default_backend(args.backend)
generator = gl.manual_seed(0)
images, labels = load_digits(return_X_y=True)
images = (images / 16).astype("float32")
train = DataLoader((images[:200], labels[:200]), batch_size=32, shuffle=True)
val = DataLoader((images[200:800], labels[200:800]), batch_size=200)
test = DataLoader((images[800:], labels[800:]), batch_size=200)

model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
stopping = EarlyStopping("val_loss", patience=5 if args.quick else 10, restore_best=True)
loop = TrainingLoop(
    model,
    gl.optim.Adam(model.parameters(), lr=3e-3),
    nn.CrossEntropyLoss(),
    metrics=[Accuracy()],
    callbacks=[
        stopping, ModelCheckpoint(args.out / "best.safetensors"), CSVLogger(args.out / "metrics.csv"),
        TensorBoardLogger(args.out), ProgressBar(),
    ],
)  # fmt: skip
history = loop.fit(train, val, epochs=200)
print(loop.callbacks.stop_reason)
print(f"test accuracy of epoch {stopping.best_epoch}: {loop.evaluate(test)['val_accuracy']:.3f}")
