"""Schedulers: PyTorch's `torch.optim.lr_scheduler`, with its numbers, and some more.

The formulas are in `optim.schedules`; what is here keeps count, and writes rates into the optimizer's `param_groups`. The same
classes serve the functional optimizers of `gradloom.training.optimizers`.
"""

from .base import LRScheduler
from .compose import ChainedScheduler, LinearWarmupScheduler, SequentialLR
from .cycle import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
from .decay import (
    SWALR,
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from .plateau import ReduceLROnPlateau
from .schedule import CooldownLR, InverseSqrtLR, ScheduleLR, WarmupCosineLR, WarmupStableDecayLR

__all__ = [
    "LambdaLR", "MultiplicativeLR", "StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "SequentialLR",
    "CosineAnnealingLR", "ChainedScheduler", "ReduceLROnPlateau", "CyclicLR", "CosineAnnealingWarmRestarts", "OneCycleLR",
    "PolynomialLR", "LRScheduler", "SWALR", "ScheduleLR", "LinearWarmupScheduler", "WarmupStableDecayLR", "InverseSqrtLR",
    "WarmupCosineLR", "CooldownLR",
]  # fmt: skip
