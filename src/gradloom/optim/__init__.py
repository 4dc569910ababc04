"""Optimizers with PyTorch's face; their rules are in `optim.rules`."""

from .adam import Adam, AdamW
from .bound import Optimizer
from .sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]
