"""Training: the loop, metrics, callbacks, data; losses, functional optimizers and schedulers."""

from . import callbacks, data, losses, metrics, optimizers, schedulers
from .history import History
from .loops import BasicTrainingLoop, TrainingLoop

__all__ = [
    "BasicTrainingLoop", "History", "TrainingLoop", "callbacks", "data", "losses", "metrics", "optimizers", "schedulers",
]  # fmt: skip
