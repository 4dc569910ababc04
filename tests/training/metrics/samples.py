"""Samples of every metric: options, data, and the reference whose numbers it has. The tests of this folder walk them."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.stats
import sklearn.metrics as sk
import torch
import torchmetrics
import torchmetrics.classification as tmc
import torchmetrics.retrieval as tmr
import torchmetrics.text as tmt

from gradloom.training import metrics as gm

SK, TM, SP, NP = "scikit-learn", "torchmetrics", "SciPy", "NumPy"
EXACT, FLOAT32 = 1e-9, 2e-6  # torchmetrics divides in float32


@dataclass
class Sample:
    """A metric with options, rows of data, and what it has to be.

    Attributes:
        data: (random state, number of rows) -> columns; each batch is a slice of all columns.
        oracle: columns -> the value.
        ordered: The order of rows matters.
        engines: The columns are arrays, so every engine can hold them.
    """

    make: Callable[[], gm.Metric]
    data: Callable[[np.random.RandomState, int], tuple]
    oracle: Callable
    reference: str
    tolerance: float = EXACT
    ordered: bool = False
    engines: bool = True
    note: str = ""
    metric: type = field(init=False)

    def __post_init__(self):
        self.metric = type(self.make())

    def __repr__(self):
        return f"{self.make()!r}{self.note}"


SAMPLES: list[Sample] = []


def add(cls, data, oracle, reference, tolerance=EXACT, ordered=False, engines=True, note="", **options):
    SAMPLES.append(
        Sample(
            lambda: cls(**options),
            data,
            oracle,
            reference,
            tolerance,
            ordered,
            engines,
            note=f" {note}" if note else "",
        )
    )


def tensors(columns):
    return [torch.from_numpy(np.ascontiguousarray(c)) if isinstance(c, np.ndarray) else c for c in columns]


def theirs(cls, **options) -> Callable:
    """The value of torchmetrics' metric of the whole data."""

    def run(*columns):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            metric = cls(**options)
            metric.set_dtype(torch.float64)
            metric.update(*tensors(columns))
            found = metric.compute()
        if isinstance(found, (tuple, list)):
            return [np.asarray(f) for f in found]
        return {k: float(v) for k, v in found.items()} if isinstance(found, dict) else found.numpy()

    return run


# --- data ---

C, L = 4, 3


def classes(rng, n):
    return rng.randint(0, C, n), rng.randint(0, C, n)


def many_classes(rng, n):
    return rng.randint(0, 200, n), rng.randint(0, 200, n)


def logits(rng, n):
    return rng.randn(n, C), rng.randint(0, C, n)


def tied_logits(rng, n):
    return rng.randint(0, 3, (n, C)).astype(np.float64), rng.randint(0, C, n)


def images(rng, n):
    return rng.randn(n, C, 3, 2), rng.randint(0, C, (n, 3, 2))


def padded(rng, n):
    p, t = logits(rng, n)
    return p, np.where(rng.rand(n) < 0.3, -100, t)


def probabilities(rng, n):
    p = rng.rand(n, C) + 0.01
    return p / p.sum(1, keepdims=True), rng.randint(0, C, n)


def binary(rng, n):
    return rng.rand(n), rng.randint(0, 2, n)


def tied(rng, n):
    return rng.randint(0, 9, n) / 8, rng.randint(0, 2, n)


def binary_logits(rng, n):
    return rng.randn(n) * 2, rng.randint(0, 2, n)


def binary32(rng, n):
    return rng.randn(n).astype(np.float32), rng.randint(0, 2, n)


def binary_padded(rng, n):
    return rng.rand(n), np.where(rng.rand(n) < 0.3, -1, rng.randint(0, 2, n))


def multilabel(rng, n):
    return rng.rand(n, L), rng.randint(0, 2, (n, L))


def multilabel_padded(rng, n):
    return rng.rand(n, L), np.where(rng.rand(n, L) < 0.3, -1, rng.randint(0, 2, (n, L)))


def numbers(rng, n):
    t = rng.randn(n) * 3 + 1
    return t + rng.randn(n), t


def far_numbers(rng, n):
    t = rng.randn(n) + 1e6
    return t + rng.randn(n), t


def two_columns(rng, n):
    t = rng.randn(n, 2) * [1, 5]
    return t + rng.randn(n, 2), t


def rounded(rng, n):
    return rng.randint(0, 6, n).astype(np.float64), rng.randint(0, 6, n).astype(np.float64)


def tokens(rng, n):
    return rng.randn(n, 5, 7) * 3, rng.randint(0, 7, (n, 5))


def padded_tokens(rng, n):
    x, t = tokens(rng, n)
    return x, np.where(rng.rand(n, 5) < 0.3, -100, t)


def values(rng, n):
    return (rng.randn(n),)


def weighted(rng, n):
    return rng.randn(n), rng.rand(n)


WORDS = ["a", "b", "c", "the", "cat", "sat", "on", "mat", "Dog's"]


def texts(rng, n):
    make = lambda: " ".join(rng.choice(WORDS, rng.randint(1, 12)))
    return [make() for _ in range(n)], [make() for _ in range(n)]


def near_texts(rng, n):
    wanted = [list(rng.choice(WORDS, rng.randint(6, 20))) for _ in range(n)]
    found = [[w if rng.rand() < 0.8 else rng.choice(WORDS) for w in words] for words in wanted]
    others = [list(rng.choice(WORDS, rng.randint(6, 20))) for _ in range(n)]
    join = " ".join
    return [join(f) for f in found], [[join(w), join(o)] for w, o in zip(wanted, others, strict=True)]


def documents(rng, n):
    return rng.permutation(n * 3)[:n] / (3 * n) + 0.01, rng.randint(0, 2, n), rng.randint(0, max(1, n // 6), n)


def graded(rng, n):
    return rng.randint(1, 9, n) / 8, rng.randint(0, 4, n), rng.randint(0, max(1, n // 6), n)


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# --- aggregation ---

add(gm.MeanMetric, values, lambda x: x.mean(), NP)
add(gm.MeanMetric, weighted, lambda x, w: np.average(x, weights=w), NP, note="weighted")
add(gm.MeanMetric, weighted, theirs(torchmetrics.MeanMetric), TM, note="torchmetrics")
add(gm.LossTracker, weighted, lambda x, w: np.average(x, weights=w), NP)
add(gm.SumMetric, values, lambda x: math.fsum(x), NP)
add(gm.MaxMetric, values, lambda x: x.max(), NP)
add(gm.MinMetric, values, lambda x: x.min(), NP)
add(gm.RunningMean, values, lambda x: x[-3:].mean(), NP, ordered=True, window=3)
add(
    gm.Throughput, lambda rng, n: (rng.randint(1, 9, n), rng.rand(n)), lambda k, s: k.sum() / s.sum(), NP, engines=False
)

# --- counts of classes ---

for data in (classes, logits, tied_logits, images):
    labels = lambda p, t: (np.asarray(t).ravel(), (p.argmax(1) if p.ndim > t.ndim else p).ravel())
    add(gm.Accuracy, data, lambda p, t, f=labels: sk.accuracy_score(*f(p, t)), SK, note=data.__name__)
    add(gm.BalancedAccuracy, data, lambda p, t, f=labels: sk.balanced_accuracy_score(*f(p, t)), SK, note=data.__name__)
    add(
        gm.ConfusionMatrix, data, lambda p, t, f=labels: sk.confusion_matrix(*f(p, t), labels=range(C)), SK,
        num_classes=C, note=data.__name__,
    )  # fmt: skip
add(gm.BalancedAccuracy, classes, lambda p, t: sk.balanced_accuracy_score(t, p, adjusted=True), SK, adjusted=True)
add(gm.Accuracy, binary, lambda p, t: sk.accuracy_score(t, p > 0.5), SK, note="binary")
add(gm.Accuracy, binary_logits, lambda p, t: sk.accuracy_score(t, p > 0), SK, note="binary logits")
add(gm.Accuracy, lambda r, n: (np.eye(C)[r.randint(0, C, n)] * 0.5, np.eye(C)[r.randint(0, C, n)]),
    lambda p, t: sk.accuracy_score(t.argmax(1), p.argmax(1)), SK, note="one-hot")  # fmt: skip
add(gm.Accuracy, logits, lambda p, t: sk.top_k_accuracy_score(t, p, k=2, labels=range(C)), SK, top_k=2)
for name, f in {
    "Precision": sk.precision_score, "Recall": sk.recall_score, "F1Score": sk.f1_score, "JaccardIndex": sk.jaccard_score,
    "FBetaScore": lambda *a, **k: sk.fbeta_score(*a, beta=2.0, **k),
}.items():  # fmt: skip
    cls, extra = getattr(gm, name), {"beta": 2.0} if name == "FBetaScore" else {}
    for average in ("micro", "macro", "weighted", None):
        kw = {"average": average, "zero_division": 0}
        seen = {} if average in ("macro", "weighted", "micro") else {"labels": range(C)}
        add(
            cls,
            classes,
            lambda p, t, f=f, kw=kw, s=seen: f(t, p, **kw, **s),
            SK,
            num_classes=C,
            average=average,
            **extra,
        )
        add(cls, many_classes, lambda p, t, f=f, kw=kw, s=seen: f(t, p, **kw, **(s and {"labels": range(200)})), SK,
            num_classes=200, average=average, **extra)  # fmt: skip
        add(cls, multilabel, lambda p, t, f=f, kw=kw: f(t, p > 0.5, **kw), SK, num_labels=L, average=average, **extra)
    add(cls, binary, lambda p, t, f=f: f(t, p > 0.3, zero_division=0), SK, threshold=0.3, **extra)
for average in ("micro", "macro", "weighted", "none"):
    for cls, other in (
        (gm.Accuracy, tmc.MulticlassAccuracy), (gm.Specificity, tmc.MulticlassSpecificity), (gm.Recall, tmc.MulticlassRecall),
        (gm.JaccardIndex, tmc.MulticlassJaccardIndex), (gm.Precision, tmc.MulticlassPrecision),
    ):  # fmt: skip
        add(cls, padded, theirs(other, num_classes=C, average=average, ignore_index=-100), TM, FLOAT32, num_classes=C,
            average=average, ignore_index=-100)  # fmt: skip
        add(cls, logits, theirs(other, num_classes=C, average=average, ignore_index=1), TM, FLOAT32, num_classes=C,
            average=average, ignore_index=1)  # fmt: skip
        if cls is not gm.JaccardIndex:
            add(cls, logits, theirs(other, num_classes=C, average=average, top_k=2), TM, FLOAT32, num_classes=C,
                average=average, top_k=2)  # fmt: skip
    for cls, other in (
        (gm.Accuracy, tmc.MultilabelAccuracy), (gm.Specificity, tmc.MultilabelSpecificity), (gm.F1Score, tmc.MultilabelF1Score),
    ):  # fmt: skip
        add(cls, multilabel_padded, theirs(other, num_labels=L, average=average, ignore_index=-1), TM, FLOAT32, num_labels=L,
            average=average, ignore_index=-1)  # fmt: skip
add(gm.Specificity, binary, theirs(tmc.BinarySpecificity), TM, FLOAT32)
add(gm.F1Score, binary_logits, theirs(tmc.BinaryF1Score, threshold=0.7), TM, FLOAT32, threshold=0.7)
add(gm.Accuracy, binary_padded, theirs(tmc.BinaryAccuracy, ignore_index=-1), TM, FLOAT32, ignore_index=-1)

# --- the whole matrix ---

for how in ("true", "pred", "all"):
    add(gm.ConfusionMatrix, classes, lambda p, t, how=how: sk.confusion_matrix(t, p, labels=range(C), normalize=how), SK,
        num_classes=C, normalize=how)  # fmt: skip
add(gm.ConfusionMatrix, many_classes, lambda p, t: sk.confusion_matrix(t, p, labels=range(200)), SK, num_classes=200)
add(gm.ConfusionMatrix, binary, lambda p, t: sk.confusion_matrix(t, p > 0.5, labels=[False, True]), SK)
add(gm.ConfusionMatrix, multilabel, lambda p, t: sk.multilabel_confusion_matrix(t, p > 0.5), SK, num_labels=L)
add(gm.MatthewsCorrCoef, classes, lambda p, t: sk.matthews_corrcoef(t, p), SK)
add(gm.MatthewsCorrCoef, binary, lambda p, t: sk.matthews_corrcoef(t, p > 0.5), SK, note="binary")
add(gm.MatthewsCorrCoef, multilabel, lambda p, t: sk.matthews_corrcoef(t.ravel(), p.ravel() > 0.5), SK, num_labels=L)
for weights in (None, "linear", "quadratic"):
    add(gm.CohenKappa, classes, lambda p, t, w=weights: sk.cohen_kappa_score(t, p, weights=w, labels=range(C)), SK,
        num_classes=C, weights=weights)  # fmt: skip
add(gm.CohenKappa, binary, lambda p, t: sk.cohen_kappa_score(t, p > 0.5), SK, note="binary")

# --- curves ---


def ovr(f, average, curve=False):
    """Each class against the others, those with both kinds only, averaged."""

    def run(p, t):
        hot = np.eye(p.shape[1])[t] if t.ndim == 1 else t
        p = softmax(p) if t.ndim == 1 and (p.min() < 0 or p.max() > 1) else p
        both = [0 < hot[:, c].sum() < len(hot) for c in range(p.shape[1])]
        scores = np.array([f(hot[:, c], p[:, c]) if both[c] else np.nan for c in range(p.shape[1])])
        if average is None:
            return scores
        weights = np.where(both, hot.sum(0) if average == "weighted" else 1.0, 0.0)
        return np.nansum(scores * weights) / weights.sum()

    return run


for cls, f in ((gm.AUROC, sk.roc_auc_score), (gm.AveragePrecision, sk.average_precision_score)):
    for data in (binary, tied, binary_logits, binary32):
        add(cls, data, lambda p, t, f=f: f(t, p), SK, note=data.__name__)
    for average in ("macro", "weighted", None):
        add(cls, probabilities, ovr(f, average), SK, average=average)
        add(cls, logits, ovr(f, average), SK, average=average, note="logits")
        add(cls, multilabel, ovr(f, average), SK, num_labels=L, average=average)
    add(cls, multilabel, lambda p, t, f=f: f(t.ravel(), p.ravel()), SK, num_labels=L, average="micro")
for cls, b, c in (
    (gm.AUROC, tmc.BinaryAUROC, tmc.MulticlassAUROC),
    (gm.AveragePrecision, tmc.BinaryAveragePrecision, tmc.MulticlassAveragePrecision),
):
    add(cls, tied, theirs(b, thresholds=9), TM, FLOAT32, task="binary", thresholds=9)
    add(cls, binary_padded, theirs(b, ignore_index=-1), TM, FLOAT32, ignore_index=-1)
    add(cls, probabilities, theirs(c, num_classes=C, thresholds=17), TM, FLOAT32, num_classes=C, thresholds=17)
    add(cls, lambda r, n: (probabilities(r, n)[0], padded(r, n)[1]),
        theirs(c, num_classes=C, ignore_index=-100, average="weighted"), TM, FLOAT32, num_classes=C, ignore_index=-100,
        average="weighted")  # fmt: skip
add(gm.ROC, tied, lambda p, t: sk.roc_curve(t, p, drop_intermediate=False), SK)
add(gm.ROC, binary, lambda p, t: sk.roc_curve(t, p, drop_intermediate=False), SK, task="binary")
add(
    gm.ROC,
    multilabel,
    lambda p, t: [sk.roc_curve(t[:, i], p[:, i], drop_intermediate=False) for i in range(L)],
    SK,
    num_labels=L,
)
add(gm.ROC, tied, theirs(tmc.BinaryROC, thresholds=5), TM, FLOAT32, task="binary", thresholds=5)
add(gm.PrecisionRecallCurve, tied, lambda p, t: sk.precision_recall_curve(t, p), SK)
add(gm.PrecisionRecallCurve, binary, lambda p, t: sk.precision_recall_curve(t, p), SK, task="binary")
add(
    gm.PrecisionRecallCurve,
    probabilities,
    lambda p, t: [sk.precision_recall_curve(t == i, p[:, i]) for i in range(C)],
    SK,
)
add(
    gm.PrecisionRecallCurve,
    tied,
    theirs(tmc.BinaryPrecisionRecallCurve, thresholds=5),
    TM,
    FLOAT32,
    task="binary",
    thresholds=5,
)

# --- probabilities ---

add(gm.LogLoss, binary, lambda p, t: sk.log_loss(t, p, labels=[0, 1]), SK)
add(gm.LogLoss, probabilities, lambda p, t: sk.log_loss(t, p, labels=range(C)), SK, note="multiclass")
add(gm.LogLoss, logits, lambda p, t: sk.log_loss(t, softmax(p), labels=range(C)), SK, from_logits=True)
add(
    gm.LogLoss,
    binary_logits,
    lambda p, t: sk.log_loss(t, sigmoid(p), labels=[0, 1]),
    SK,
    from_logits=True,
    note="binary",
)
add(gm.LogLoss, lambda r, n: (np.eye(2)[r.randint(0, 2, n)], r.randint(0, 2, n)), lambda p, t: sk.log_loss(t, p, labels=[0, 1]), SK,
    note="certain")  # fmt: skip
add(gm.BrierScore, binary, lambda p, t: sk.brier_score_loss(t, p, labels=[0, 1]), SK)
add(gm.BrierScore, probabilities, lambda p, t: sk.brier_score_loss(t, p, labels=range(C)), SK, note="multiclass")
for norm in ("l1", "l2", "max"):
    add(
        gm.CalibrationError,
        binary,
        theirs(tmc.BinaryCalibrationError, n_bins=8, norm=norm),
        TM,
        FLOAT32,
        n_bins=8,
        norm=norm,
    )
    add(gm.CalibrationError, probabilities, theirs(tmc.MulticlassCalibrationError, num_classes=C, n_bins=8, norm=norm), TM, FLOAT32,
        n_bins=8, norm=norm, note="multiclass")  # fmt: skip

# --- regression ---

for data in (numbers, far_numbers):
    note = data.__name__
    add(gm.MeanSquaredError, data, lambda p, t: sk.mean_squared_error(t, p), SK, note=note)
    add(gm.MeanAbsoluteError, data, lambda p, t: sk.mean_absolute_error(t, p), SK, note=note)
    add(gm.MeanAbsolutePercentageError, data, lambda p, t: sk.mean_absolute_percentage_error(t, p), SK, note=note)
    add(gm.R2Score, data, lambda p, t: sk.r2_score(t, p), SK, note=note)
    add(gm.ExplainedVariance, data, lambda p, t: sk.explained_variance_score(t, p), SK, note=note)
    add(gm.PearsonCorrCoef, data, lambda p, t: scipy.stats.pearsonr(p, t).statistic, SP, note=note)
add(gm.MeanSquaredError, numbers, lambda p, t: sk.root_mean_squared_error(t, p), SK, squared=False)
add(gm.RootMeanSquaredError, numbers, lambda p, t: sk.root_mean_squared_error(t, p), SK)
add(gm.MeanSquaredError, two_columns, lambda p, t: sk.mean_squared_error(t, p), SK, note="all elements")
add(
    gm.MeanSquaredError,
    two_columns,
    lambda p, t: sk.mean_squared_error(t, p, multioutput="raw_values"),
    SK,
    num_outputs=2,
)
add(
    gm.MeanAbsoluteError,
    two_columns,
    lambda p, t: sk.mean_absolute_error(t, p, multioutput="raw_values"),
    SK,
    num_outputs=2,
)
for how in ("uniform_average", "raw_values", "variance_weighted"):
    add(
        gm.R2Score,
        two_columns,
        lambda p, t, h=how: sk.r2_score(t, p, multioutput=h),
        SK,
        num_outputs=2,
        multioutput=how,
    )
    add(gm.ExplainedVariance, two_columns, lambda p, t, h=how: sk.explained_variance_score(t, p, multioutput=h), SK, num_outputs=2,
        multioutput=how)  # fmt: skip
add(gm.PearsonCorrCoef, two_columns, theirs(torchmetrics.PearsonCorrCoef, num_outputs=2), TM, EXACT, num_outputs=2)
add(gm.SpearmanCorrCoef, numbers, lambda p, t: scipy.stats.spearmanr(p, t).statistic, SP)
add(gm.SpearmanCorrCoef, rounded, lambda p, t: scipy.stats.spearmanr(p, t).statistic, SP, note="ties")
add(gm.SpearmanCorrCoef, two_columns, theirs(torchmetrics.SpearmanCorrCoef, num_outputs=2), TM, FLOAT32, num_outputs=2)

# --- texts ---


def cross_entropy(x, t, **options):
    return float(
        torch.nn.functional.cross_entropy(torch.tensor(x).flatten(0, 1), torch.tensor(t).flatten(), **options).exp()
    )


add(gm.Perplexity, tokens, cross_entropy, "PyTorch")
add(gm.Perplexity, padded_tokens, cross_entropy, "PyTorch", ignore_index=-100)
add(gm.Perplexity, tokens, theirs(tmt.Perplexity), TM, EXACT, note="torchmetrics")
for smooth in (False, True):
    add(gm.BLEUScore, near_texts, theirs(tmt.BLEUScore, smooth=smooth), TM, FLOAT32, engines=False, smooth=smooth)
add(gm.BLEUScore, near_texts, theirs(tmt.BLEUScore, n_gram=2, weights=[0.3, 0.7]), TM, FLOAT32, engines=False, n_gram=2,
    weights=[0.3, 0.7])  # fmt: skip
add(gm.WordErrorRate, texts, theirs(tmt.WordErrorRate), TM, FLOAT32, engines=False)
add(gm.CharErrorRate, texts, theirs(tmt.CharErrorRate), TM, FLOAT32, engines=False)


def rouge(preds, targets, keys=("rouge1", "rouge2", "rougeL")):
    """Lin's definitions, counted plainly."""
    import re
    from collections import Counter

    def score(key, p, t):
        p, t = (re.sub(r"[^a-z0-9]+", " ", s.lower()).split() for s in (p, t))
        if key == "rougeL":
            table = np.zeros((len(p) + 1, len(t) + 1), int)
            for i, a in enumerate(p):
                for j, b in enumerate(t):
                    table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
            hits, found, wanted = table[-1, -1], len(p), len(t)
        else:
            n = int(key[5:])
            a, b = (Counter(tuple(s[i : i + n]) for i in range(len(s) - n + 1)) for s in (p, t))
            hits, found, wanted = sum((a & b).values()), sum(a.values()), sum(b.values())
        precision, recall = hits / max(found, 1), hits / max(wanted, 1)
        return precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0

    result = {}
    for key in keys:
        best = [max((score(key, p, t) for t in ts), key=lambda s: s[2]) for p, ts in zip(preds, targets, strict=True)]
        for part, value in zip(("precision", "recall", "fmeasure"), np.mean(best, 0), strict=True):
            result[f"{key}_{part}"] = value
    return result


add(gm.ROUGEScore, near_texts, rouge, "Lin (2004)", engines=False)

# --- retrieval ---

for cls, other in (
    (gm.RetrievalMRR, tmr.RetrievalMRR), (gm.RetrievalHitRate, tmr.RetrievalHitRate), (gm.RetrievalMAP, tmr.RetrievalMAP),
    (gm.RetrievalNormalizedDCG, tmr.RetrievalNormalizedDCG),
):  # fmt: skip
    data = graded if cls is gm.RetrievalNormalizedDCG else documents
    for options in ({}, {"top_k": 2}, {"empty_target_action": "skip"}, {"empty_target_action": "pos"}):
        reference = lambda p, t, i, o=other, k=options: theirs(o, **k)(p, t, i)
        add(cls, data, reference, TM, FLOAT32, ordered=cls is not gm.RetrievalNormalizedDCG, **options)


def same(found: Any, wanted: Any, tolerance: float) -> None:
    """Raises where a value, or an array, list or dict of values, is another."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            same(found[key], wanted[key], tolerance)
    elif isinstance(wanted, (list, tuple)):
        assert len(found) == len(wanted)
        for f, w in zip(found, wanted, strict=True):
            same(f, w, tolerance)
    else:
        found, wanted = np.asarray(found), np.asarray(wanted)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found.astype(np.float64), wanted.astype(np.float64), rtol=tolerance, atol=tolerance)
