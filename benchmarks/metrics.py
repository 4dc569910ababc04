"""Metrics of a million predictions beside torchmetrics and scikit-learn. ``python -m benchmarks.metrics``.

Each contestant makes a metric, gives it all the data, and computes the value. The targets: counts take an eighth of what the
faster of the two takes, an exact AUROC 1.1 of it, and a thousand updates 1.3 of a single one and 2 us a call.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import Comparison, compare
from benchmarks.report import Claim, Table
from gradloom.training import metrics as gm

SAMPLES, BATCH, CLASSES = 1_000_000, 1_000, 10
CALL = 2e-6  # seconds that an update may cost, beside the work

OURS: dict[str, Callable[[], gm.Metric]] = {
    "accuracy": lambda: gm.Accuracy(num_classes=CLASSES),
    "confusion_matrix": lambda: gm.ConfusionMatrix(num_classes=CLASSES),
    "f1_macro": lambda: gm.F1Score(num_classes=CLASSES, average="macro"),
    "auroc": gm.AUROC,
    "auroc_float64": gm.AUROC,
}


@functools.cache
def data(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets."""
    rng = np.random.default_rng(0)
    if case.startswith("auroc"):
        scores = rng.random(SAMPLES).astype(np.float64 if case.endswith("64") else np.float32)
        return scores, rng.integers(0, 2, SAMPLES)
    return rng.integers(0, CLASSES, SAMPLES), rng.integers(0, CLASSES, SAMPLES)


def ours(case: str, batch: int = SAMPLES) -> Callable[[], Any]:
    """In batches of a size."""
    p, t = data(case)
    batches = [(p[i : i + batch], t[i : i + batch]) for i in range(0, SAMPLES, batch)]

    def step() -> Any:
        metric = OURS[case]()
        for batch in batches:
            metric.update(*batch)
        return metric.compute()

    return step


def torchmetrics(case: str) -> Callable[[], Any]:
    """Without the checks of arguments, which take longer than its work."""
    import torch
    import torchmetrics.classification as tm

    make: dict[str, Callable[[], Any]] = {
        "accuracy": lambda: tm.MulticlassAccuracy(CLASSES, average="micro", validate_args=False),
        "confusion_matrix": lambda: tm.MulticlassConfusionMatrix(CLASSES, validate_args=False),
        "f1_macro": lambda: tm.MulticlassF1Score(CLASSES, average="macro", validate_args=False),
        "auroc": lambda: tm.BinaryAUROC(validate_args=False),
        "auroc_float64": lambda: tm.BinaryAUROC(validate_args=False),
    }
    p, t = map(torch.from_numpy, data(case))

    def step() -> Any:
        metric = make[case]()
        metric.update(p, t)
        return metric.compute()

    return step


def torchmetrics_checked(case: str) -> Callable[[], Any]:
    """As users have it: with the checks that ours makes too."""
    import torch
    import torchmetrics.classification as tm

    make: dict[str, Callable[[], Any]] = {
        "accuracy": lambda: tm.MulticlassAccuracy(CLASSES, average="micro"),
        "confusion_matrix": lambda: tm.MulticlassConfusionMatrix(CLASSES),
        "f1_macro": lambda: tm.MulticlassF1Score(CLASSES, average="macro"),
        "auroc": tm.BinaryAUROC,
        "auroc_float64": tm.BinaryAUROC,
    }
    p, t = map(torch.from_numpy, data(case))

    def step() -> Any:
        metric = make[case]()
        metric.update(p, t)
        return metric.compute()

    return step


def sklearn(case: str) -> Callable[[], Any]:
    """Its functions."""
    import sklearn.metrics as sk

    functions: dict[str, Callable[..., Any]] = {
        "accuracy": sk.accuracy_score,
        "confusion_matrix": sk.confusion_matrix,
        "f1_macro": functools.partial(sk.f1_score, average="macro"),
        "auroc": sk.roc_auc_score,
        "auroc_float64": sk.roc_auc_score,
    }
    p, t = data(case)
    return lambda: functions[case](t, p)


def allowance(comparison: Comparison) -> str:
    """What a thousand updates may take, and what they take, by the fastest samples."""
    one, many = comparison.minimum("gradloom"), comparison.minimum("gradloom, 1,000 updates")
    allowed = 1.3 * one + CALL * SAMPLES / BATCH
    return f"1,000 updates: {many * 1e3:.2f} ms of {allowed * 1e3:.2f} ms (1.3 of one, and 2 us a call)."


def run(quick: bool = False) -> list[Table]:
    """A table for each metric."""
    tables = []
    for case in OURS:
        factories = {
            "gradloom": functools.partial(ours, case),
            "gradloom, 1,000 updates": functools.partial(ours, case, BATCH),
            "torchmetrics": functools.partial(torchmetrics_checked, case),
            "torchmetrics, unchecked": functools.partial(torchmetrics, case),
            "scikit-learn": functools.partial(sklearn, case),
        }
        most = 1.1 if case.startswith("auroc") else 1 / 8
        comparison = compare(
            factories,
            name=f"metrics_{case}",
            title=f"{case} of a million predictions",
            blocks=3 if quick else 9,
            seconds=0.2 if quick else 1.0,
            claims=[
                Claim("gradloom", other, most) for other in ("torchmetrics", "torchmetrics, unchecked", "scikit-learn")
            ],
            show=False,
        )
        table = comparison.table()
        table.notes.append(allowance(comparison))
        tables.append(table.show_and_save())
    return tables


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    run(parser.parse_args().quick)
