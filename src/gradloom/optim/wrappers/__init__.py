"""Wrappers of functional optimizers: clipping, weight decay, accumulation, averages, Lookahead, SAM, parts, skipped updates.

A wrapper is itself a functional optimizer, so they nest: ``Clip(Accumulate(Adam(1e-3), steps=4), norm=1.0)``. Its slots lie beside
those of the optimizer inside, in one state ``{parameter: {slot: array}}``; options, and so the learning rate, are those of the
optimizer inside. `gradloom.optim.Bound` gives any of them PyTorch's face.
"""

from .base import Wrapper
from .gradients import Accumulate, Clip, SkipNonFinite, WeightDecay
from .partition import Partition
from .weights import EMA, SAM, Lookahead

__all__ = ["EMA", "SAM", "Accumulate", "Clip", "Lookahead", "Partition", "SkipNonFinite", "WeightDecay", "Wrapper"]
