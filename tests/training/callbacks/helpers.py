"""What the tests of callbacks share: a small problem, and loops on it."""

import numpy as np

import gradloom as gl
from gradloom.training.data import DataLoader
from gradloom.training.loops import TrainingLoop


def problem(n=24):
    """Inputs and targets of a linear problem."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    return x, (x @ np.array([[1.0], [2.0], [3.0]], np.float32) + 0.5).astype(np.float32)


def loader(n=24, batch_size=8, shuffle=True):
    """Three batches an epoch, in another order each."""
    return DataLoader(problem(n), batch_size=batch_size, shuffle=shuffle, seed=1)


class Net(gl.nn.Module):
    """With dropout and batch normalization, so that streams and buffers count."""

    def __init__(self):
        super().__init__()
        self.a = gl.nn.Linear(3, 4)
        self.norm = gl.nn.BatchNorm1d(4)
        self.drop = gl.nn.Dropout(0.25)
        self.b = gl.nn.Linear(4, 1)

    def forward(self, x):
        return self.b(self.drop(self.norm(self.a(x)).relu()))


def make(callbacks=(), seed=3, lr=0.05, model=None, **options):
    """A loop on the problem."""
    gl.manual_seed(seed)
    model = Net() if model is None else model
    optimizer = options.pop("optimizer", None) or gl.optim.Adam(model.parameters(), lr=lr)
    return TrainingLoop(model, optimizer, gl.nn.MSELoss(), callbacks=callbacks, **options)


def weights(loop):
    """{name: array} of what the model holds."""
    return {n: t.detach().numpy().copy() for n, t in loop.model.state_dict().items()}


def same(a, b):
    """Whether two such dicts are equal, bit for bit."""
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)
