"""Cross-validates a small network on scikit-learn's handwritten digits: five models, each validated on digits that it has not seen.

    python examples/cross_validation.py [--backend numpy|jax|torch|mlx] [--folds 5] [--epochs 10]

Needs scikit-learn: pip install 'gradloom[tune]'.
"""

from __future__ import annotations

import argparse

from sklearn.datasets import load_digits

import gradloom as gl
from gradloom import nn
from gradloom.training import TrainingLoop, cross_validate
from gradloom.training.callbacks import EarlyStopping
from gradloom.training.metrics import Accuracy


def build() -> TrainingLoop:
    """Called for each fold: a new model, a new optimizer, a new loop."""
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
    return TrainingLoop(
        model,
        gl.optim.Adam(model.parameters(), lr=3e-3),
        loss_fn=nn.CrossEntropyLoss(),
        metrics=[Accuracy],
        callbacks=[EarlyStopping(patience=3)],
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--backend", default="numpy", choices=["numpy", "jax", "torch", "mlx"])
    options.add_argument("--folds", type=int, default=5)
    options.add_argument("--epochs", type=int, default=10)
    given = options.parse_args()
    gl.set_default_backend(given.backend)

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32")
    # Stratified: each fold has its share of each digit. Of each fold the logs are of the epoch with the lowest val_loss.
    found = cross_validate(
        build, (images, labels), k=given.folds, stratified=True, epochs=given.epochs, monitor="val_loss"
    )
    for number, (logs, history) in enumerate(zip(found.folds, found.histories, strict=True), 1):
        print(
            f"fold {number}: val_loss {logs['val_loss']:.4f}  val_accuracy {logs['val_accuracy']:.4f}"
            f"  ({len(history.epochs)} epochs)"
        )
    print(f"accuracy {found.mean['val_accuracy']:.4f} ± {found.std['val_accuracy']:.4f}")


if __name__ == "__main__":
    main()
