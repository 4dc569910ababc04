"""Metrics as values that merge: `update` with batches, `compute`, `merge`, `reset`. Names and options are torchmetrics'.

Example:
    >>> from gradloom.training.metrics import Accuracy, LossTracker
    >>> loss, accuracy = LossTracker(), Accuracy()
    >>> for outputs, targets, value in [([[0.2, 0.8], [0.9, 0.1]], [1, 0], 0.2), ([[0.4, 0.6]], [0], 0.8)]:
    ...     loss.update(value, len(targets))
    ...     accuracy.update(outputs, targets)
    >>> round(loss.compute(), 4), round(accuracy.compute(), 4)
    (0.4, 0.6667)
"""

from .aggregation import LossTracker, MaxMetric, MeanMetric, MinMetric, RunningMean, SumMetric, Throughput
from .base import Metric
from .classification import (
    Accuracy,
    BalancedAccuracy,
    F1Score,
    FBetaScore,
    JaccardIndex,
    Precision,
    Recall,
    Specificity,
)
from .collection import MetricCollection
from .confusion import CohenKappa, ConfusionMatrix, MatthewsCorrCoef
from .curves import AUROC, ROC, AveragePrecision, PrecisionRecallCurve
from .inputs import MetricInputError
from .probabilistic import BrierScore, CalibrationError, LogLoss
from .regression import (
    ExplainedVariance,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    PearsonCorrCoef,
    R2Score,
    RootMeanSquaredError,
    SpearmanCorrCoef,
)
from .retrieval import RetrievalHitRate, RetrievalMAP, RetrievalMRR, RetrievalNormalizedDCG
from .text import BLEUScore, CharErrorRate, Perplexity, ROUGEScore, WordErrorRate

__all__ = [
    "Metric", "MetricCollection", "MetricInputError",
    "LossTracker", "MeanMetric", "SumMetric", "MaxMetric", "MinMetric", "RunningMean", "Throughput",
    "Accuracy", "BalancedAccuracy", "Precision", "Recall", "FBetaScore", "F1Score", "Specificity", "JaccardIndex",
    "ConfusionMatrix", "MatthewsCorrCoef", "CohenKappa",
    "AUROC", "AveragePrecision", "ROC", "PrecisionRecallCurve",
    "LogLoss", "BrierScore", "CalibrationError",
    "MeanSquaredError", "RootMeanSquaredError", "MeanAbsoluteError", "MeanAbsolutePercentageError", "R2Score",
    "ExplainedVariance", "PearsonCorrCoef", "SpearmanCorrCoef",
    "Perplexity", "BLEUScore", "ROUGEScore", "WordErrorRate", "CharErrorRate",
    "RetrievalMRR", "RetrievalNormalizedDCG", "RetrievalHitRate", "RetrievalMAP",
]  # fmt: skip
