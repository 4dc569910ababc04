"""Contrastive learning: an encoder of digits that is trained without their labels.

    python examples/self_supervised.py [--backend numpy|jax|torch|mlx] [--quick]

Two views of an image, shifted and with noise, are to be more alike than views of different images (SimCLR, arXiv:2002.05709).
Prints the loss, and how well a linear classifier of 100 labelled images does on the encoder's features, before and after.
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import gradloom as gl
from gradloom import nn
from gradloom.training import TrainingLoop

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default="numpy")
parser.add_argument("--quick", action="store_true")
args = parser.parse_args()
gl.set_default_backend(args.backend)
generator = gl.manual_seed(0)
images, labels = load_digits(return_X_y=True)
images = (images / 16).astype("float32")
train, test, batch = images[:1437], images[1437:], 256


class Views:
    """Batches of two views of each image."""

    rng = np.random.default_rng(0)

    def __len__(self):
        return len(train) // batch

    def view(self, x):
        padded = np.pad(x.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
        shifts = self.rng.integers(0, 3, (2, len(x), 1)) + np.arange(8)  # by a pixel at most
        moved = padded[np.arange(len(x))[:, None, None], shifts[0][:, :, None], shifts[1][:, None]].reshape(len(x), 64)
        return (moved * self.rng.uniform(0.7, 1.3, (len(x), 1)) + self.rng.normal(0, 0.1, moved.shape)).astype(
            "float32"
        )

    def __iter__(self):
        for rows in self.rng.permutation(len(train))[: len(self) * batch].reshape(-1, batch):
            yield (self.view(train[rows]), self.view(train[rows])), None


class Contrast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU())
        self.head = nn.Linear(64, 32)

    def forward(self, x, y):
        a, b = (nn.functional.normalize(self.head(self.encoder(view)), dim=1) for view in (x, y))
        logits, same = a @ b.T / 0.2, gl.arange(len(x))
        return (nn.functional.cross_entropy(logits, same) + nn.functional.cross_entropy(logits.T, same)) / 2


def accuracy(model: Contrast) -> float:
    """Of a linear classifier that has seen 100 labels."""
    with gl.no_grad():
        known, asked = (model.encoder(gl.tensor(x)).numpy() for x in (train[:100], test))
    mean, scale = known.mean(0), known.std(0) + 0.01
    classifier = LogisticRegression(C=0.1, max_iter=1000).fit((known - mean) / scale, labels[:100])
    return float(np.mean(classifier.predict((asked - mean) / scale) == labels[1437:]))


model = Contrast()
before = accuracy(model)
loop = TrainingLoop(model, gl.optim.Adam(model.parameters(), lr=2e-3))  # without a loss: the model gives it
history = loop.fit(Views(), epochs=15 if args.quick else 40)
print(f"loss: {history['train_loss'][0]:.3f} -> {history['train_loss'][-1]:.3f}")
print(f"accuracy with 100 labels: {before:.3f} -> {accuracy(model):.3f}")
