"""Training: losses and their gradients as functions of arrays."""

from . import losses
