"""Schedulers of the learning rate: the classes of `gradloom.optim.lr_scheduler`, which serve functional optimizers too.

With a functional optimizer there are no warnings about the order of calls, and `ReduceLROnPlateau.step()` without a metric
warns and does nothing.
"""

from ..optim.lr_scheduler import *  # noqa: F403
from ..optim.lr_scheduler import __all__ as __all__
