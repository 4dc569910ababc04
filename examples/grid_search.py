"""Searches a network's options on scikit-learn's handwritten digits, then trains with the best and tests once.

    python examples/grid_search.py [--workers 2] [--random 8]      # --random: so many options at random, not the grid

Needs scikit-learn: pip install 'gradloom[tune]'.
"""

from __future__ import annotations

import argparse

from sklearn.datasets import load_digits

import gradloom as gl
from gradloom import nn
from gradloom.training import TrainingLoop, grid_search, random_search
from gradloom.training.data import stratified_split
from gradloom.training.metrics import Accuracy
from gradloom.training.trials import Trial


def build(learning_rate: float, hidden: int, weight_decay: float = 0.0) -> TrainingLoop:
    """Called for each trial with its options; at the top of the file, so that worker processes can import it."""
    model = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))
    optimizer = gl.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    return TrainingLoop(model, optimizer, loss_fn=nn.CrossEntropyLoss(), metrics=[Accuracy])


def show(trial: Trial) -> None:
    value = f"val_loss {trial.value:.4f}" if trial.value is not None else trial.error
    print(f"trial {trial.number}: {value}  {trial.options}", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workers", type=int, default=1, help="processes")
    options.add_argument("--random", type=int, metavar="TRIALS", help="draw so many options at random instead")
    options.add_argument("--epochs", type=int, default=6)
    given = options.parse_args()

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32")
    parts = stratified_split(labels, [0.6, 0.2, 0.2])
    train, val, test = ((images[rows], labels[rows]) for rows in parts)

    # build has no parameter "batch_size": it is the search's own.
    if given.random:
        space = {"learning_rate": (1e-4, 1e-1, "log"), "hidden": (8, 64), "batch_size": [32, 64]}
        found = random_search(
            build, space, train, val, trials=given.random, epochs=given.epochs, workers=given.workers, on_trial=show
        )
    else:
        grid = {"learning_rate": [1e-3, 1e-2], "hidden": [16, 64], "batch_size": [32, 64]}
        found = grid_search(build, grid, train, val, epochs=given.epochs, workers=given.workers, on_trial=show)
    print(f"best: {found.best_options}, val_loss {found.best_value:.4f}")

    best = dict(found.best_options)
    batch_size = best.pop("batch_size")
    gl.manual_seed(0)
    loop = build(**best)
    loop.fit(gl.training.data.DataLoader(train, batch_size, shuffle=True), epochs=given.epochs)
    print(f"test accuracy {loop.evaluate(gl.training.data.DataLoader(test, 256))['val_accuracy']:.4f}")


if __name__ == "__main__":
    main()
