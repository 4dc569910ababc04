"""Callbacks: what is told of a run's events, and may log, save, schedule or stop it.

A `TrainingLoop` takes them as `callbacks=[...]`; a `CallbackList` tells them of the events of a loop of one's own.
"""

from .averaging import EMACallback, SWACallback
from .base import EVENTS, Callback, CallbackError, CallbackList, LambdaCallback
from .checkpoint import CheckpointError, ModelCheckpoint
from .loggers import CSVLogger, JSONLinesLogger, TensorBoardLogger
from .profiler import Profiler
from .progress import ProgressBar
from .run_folder import RunFolder
from .schedule import GradientAccumulationSchedule, LearningRateFinder, LearningRateMonitor, LRSchedulerCallback
from .statistics import ActivationStatistics, GradientStatistics
from .stopping import EarlyStopping, TerminateOnNaN, TimeLimit
from .trackers import MLflowLogger, WandbLogger

__all__ = [
    "EVENTS", "Callback", "CallbackError", "CallbackList", "LambdaCallback",
    "EarlyStopping", "TerminateOnNaN", "TimeLimit", "ModelCheckpoint", "CheckpointError",
    "CSVLogger", "JSONLinesLogger", "TensorBoardLogger", "WandbLogger", "MLflowLogger", "ProgressBar",
    "LRSchedulerCallback", "LearningRateMonitor", "LearningRateFinder", "GradientAccumulationSchedule",
    "EMACallback", "SWACallback", "GradientStatistics", "ActivationStatistics", "Profiler",
    "RunFolder",
]  # fmt: skip
