"""What metrics refuse, and the texts that say so; what may be changed afterwards; arrays that wait."""

import numpy as np
import pytest

import gradloom as gl
from gradloom.errors import DTypeError, FileFormatError, OptionError, ShapeError, TraceError
from gradloom.training import metrics as gm

X, T = np.random.RandomState(0).randn(6, 3), np.array([0, 1, 2, 0, 1, 2])
P, Y = np.array([0.1, 0.9, 0.4]), np.array([0, 1, 1])
NAN = np.array([0.1, np.nan, 0.4])

REFUSED = [
    # metric, what update is given, the error, a part of its text
    (gm.Accuracy(), (X, T[:5]), ShapeError, "targets int64 (5,)"),
    (gm.Accuracy(), (X, T[:, None]), ShapeError, "metrics do not broadcast"),
    (gm.Accuracy(), (P, Y[:, None]), ShapeError, "do not fit together"),
    (gm.Accuracy(), (1.0, Y), ShapeError, "one row of each for every sample"),
    (gm.Accuracy(), (X, T.astype(float)), DTypeError, "cast the targets, e.g. targets.long()"),
    (gm.Accuracy(), ([[0.1, 0.9], [0.2]], [0, 1]), ShapeError, "the rows of a batch have different lengths"),
    (gm.Accuracy(), (["a"], [0]), DTypeError, "a metric takes numbers"),
    (gm.Accuracy(), (None, Y), DTypeError, "NoneType"),
    (gm.Accuracy(), (P + 1j, Y), DTypeError, "complex128"),
    (gm.Accuracy(), (X, np.eye(3)[T] * 2), gm.MetricInputError, "no one-hot rows"),
    (gm.Accuracy(num_classes=4), (X, T), ShapeError, "predictions for 4 classes"),
    (gm.Accuracy(top_k=2), (T, T), ShapeError, "scores (N, C, ...) of all classes, for top_k=2"),
    (gm.Accuracy(top_k=4), (X, T), OptionError, "top_k is too large"),
    (gm.Accuracy(task="multilabel"), (P, Y), ShapeError, "(N, labels, ...)"),
    (gm.Accuracy(num_labels=2), (X, X > 0), ShapeError, "do not fit together"),
    (gm.Precision(), (Y, Y), OptionError, "for two classes 'binary' measures class 1, 'multiclass' both"),
    (gm.AUROC(), (P, Y[:2]), ShapeError, "the same shape for both"),
    (gm.AUROC(num_classes=4), (X, T), ShapeError, "scores (N, 4, ...) with classes"),
    (gm.AUROC(), (X, T.astype(float)), DTypeError, "cast the targets"),
    (gm.AUROC(), (NAN, Y), gm.MetricInputError, "NaN among the predictions"),
    (gm.AUROC(), (P, Y + 1), gm.MetricInputError, "a target is no class"),
    (gm.AUROC(task="binary", thresholds=5), (P * 9, Y), gm.MetricInputError, "from_logits=True takes logits"),
    (gm.LogLoss(), (Y, Y), DTypeError, "of a float dtype"),
    (gm.LogLoss(), (P, Y[:2]), ShapeError, "not as many"),
    (gm.LogLoss(), (X, T[:, None]), ShapeError, "the same shape for both"),
    (gm.MeanSquaredError(), (P[:, None], P), ShapeError, "squeeze or index one of them"),
    (gm.MeanSquaredError(num_outputs=2), (X, X), ShapeError, "(N, 2) for both"),
    (gm.MeanMetric(), (P, Y[:2]), ShapeError, "weights (2,)"),
    (gm.MeanMetric(), (0.5, -1), OptionError, "a weight is negative"),
    (gm.MeanMetric(), (P, -1), OptionError, "a weight is negative"),
    (gm.Throughput(), (-1,), OptionError, "samples and seconds do not fall"),
    (gm.Perplexity(), (X, X), ShapeError, "logits (N, T, V) with tokens (N, T)"),
    (gm.Perplexity(), (X, P[[0] * 6]), DTypeError, "takes logits and tokens"),
    (gm.WordErrorRate(), (["a"], ["a", "b"]), ShapeError, "1 predictions, 2 targets"),
    (gm.BLEUScore(), (["a"], [1]), DTypeError, "a str or a list of them"),
    (gm.ROUGEScore(), (["a"], [[]]), DTypeError, "takes texts"),
    (gm.RetrievalMRR(), (P, Y, Y[:2]), ShapeError, "the query's number for each document"),
    (gm.RetrievalMRR(), (P, Y * 2, Y), gm.MetricInputError, "relevances 0 or 1"),
]


@pytest.mark.parametrize(("metric", "args", "error", "text"), REFUSED, ids=lambda v: repr(v)[:40])
def test_refused_at_once(metric, args, error, text):
    with pytest.raises(error) as caught:
        metric.update(*args)
    assert text in str(caught.value)
    assert "expected:" in str(caught.value)


VALUES = [
    (gm.Accuracy(), (np.where(X > 1, np.nan, X), T), "NaN among the predictions"),
    (gm.Accuracy(), (NAN, Y), "NaN among the predictions"),
    (gm.Accuracy(), (P, Y + 1), "targets are 0 or 1"),
    (gm.Accuracy(num_classes=3), (X, T + 1), "there is no class 3"),
    (gm.Accuracy(), (X, T - 1), "ignore_index= leaves out targets of one value"),
    (gm.ConfusionMatrix(num_classes=3), (T + 1, T), "there is no class 3"),
    (gm.F1Score(task="binary"), (Y + 1, Y), "there is no class 2"),
    (gm.Accuracy(from_logits=False), (P * 3, Y), "predictions are no probabilities"),
    (gm.LogLoss(), (NAN, Y), "NaN"),
    (gm.LogLoss(), (P * 3, Y), "from_logits=True takes logits"),
    (gm.LogLoss(), (np.abs(X) / 9, T), "do not sum to 1"),
    (gm.BrierScore(), (P, Y + 1), "a target is no class"),
    (gm.Perplexity(), (X, T + 1), "a target is no token"),
]


@pytest.mark.parametrize(("metric", "args", "text"), VALUES, ids=lambda v: repr(v)[:40])
def test_values_are_refused_when_rows_are_reduced(metric, args, text):
    with pytest.raises(gm.MetricInputError) as caught:
        metric.update(*args)
        metric.compute()
    assert text in str(caught.value) and "given:" in str(caught.value)
    metric.reset()
    assert np.isnan(metric.compute()).all() or not np.any(metric.compute())


OPTIONS = [
    (lambda: gm.Accuracy(task="multi"), "unknown task"),
    (lambda: gm.Accuracy(average="mean"), "unknown average"),
    (lambda: gm.Accuracy(num_classes=1), "num_classes is too small"),
    (lambda: gm.Accuracy(threshold=2.0), "threshold is a probability"),
    (lambda: gm.FBetaScore(beta=0), "beta is too small"),
    (lambda: gm.CohenKappa("multilabel"), "unknown task"),
    (lambda: gm.ConfusionMatrix(normalize="rows"), "unknown normalize"),
    (lambda: gm.AUROC(thresholds=5), "makes its counts at the start"),
    (lambda: gm.AUROC(task="binary", thresholds=[0.5, 2]), "thresholds are probabilities"),
    (lambda: gm.AUROC(num_classes=3, average="micro"), "'micro' is for labels"),
    (lambda: gm.CalibrationError(n_bins=0), "n_bins is too small"),
    (lambda: gm.BLEUScore(weights=[1.0]), "a weight for each order"),
    (lambda: gm.ROUGEScore("rouge12"), "unknown key"),
    (lambda: gm.RunningMean(0), "window is too small"),
    (lambda: gm.MeanSquaredError(num_outputs=True), "num_outputs is too small"),
    (lambda: gm.MeanAbsolutePercentageError(epsilon=0), "epsilon is too small"),
    (lambda: gm.Accuracy().merge(gm.Accuracy(top_k=2)), "do not merge"),
    (lambda: gm.Precision().merge(gm.Recall()), "do not merge"),
    (lambda: gm.AUROC().in_step(P, Y), "has no in_step"),
    (lambda: gm.AUROC().absorb({}), "has no in_step"),
    (lambda: gm.Accuracy(average="macro").in_step(X, T), "has no in_step"),
    (lambda: gm.MeanMetric().absorb({"sum": 1.0}), "not the shares of this metric"),
]


@pytest.mark.parametrize(("make", "text"), OPTIONS, ids=[text for _, text in OPTIONS])
def test_options_that_are_refused(make, text):
    with pytest.raises(OptionError) as caught:
        make()
    assert text in str(caught.value)


def test_metrics_of_different_tasks_do_not_merge():
    binary, several = gm.Accuracy(), gm.Accuracy()
    binary.update(P, Y)
    several.update(X, T)
    with pytest.raises(OptionError, match="do not merge"):
        binary.merge(several)


def test_states_that_do_not_fit_are_refused():
    full = gm.ConfusionMatrix(num_classes=3)
    full.update(X, T)
    state = full.state_dict()
    for other, text in ((gm.ConfusionMatrix(num_classes=4), "4 classes"), (gm.MeanMetric(), "does not fit")):
        with pytest.raises(FileFormatError, match=text):
            other.load_state_dict(state)
    with pytest.raises(FileFormatError, match="lacks an array"):
        gm.ConfusionMatrix(num_classes=3).load_state_dict({"tally.table": state["tally.table"]})
    with pytest.raises(FileFormatError, match="of shape"):
        gm.PearsonCorrCoef().load_state_dict(gm.PearsonCorrCoef(num_outputs=2).state_dict())


def test_nan_passes_through_numbers():
    for metric, args in (
        (gm.MeanMetric(), (NAN,)), (gm.LossTracker(), (float("nan"), 3)), (gm.SumMetric(), (NAN,)), (gm.MaxMetric(), (NAN,)),
        (gm.MinMetric(), (NAN,)), (gm.MeanSquaredError(), (NAN, P)), (gm.R2Score(), (NAN, P)), (gm.PearsonCorrCoef(), (NAN, P)),
        (gm.SpearmanCorrCoef(), (P, NAN)), (gm.ExplainedVariance(), (P, NAN)), (gm.RunningMean(), (NAN,)),
    ):  # fmt: skip
        metric.update(*args)
        assert np.isnan(metric.compute()), metric
    infinite = gm.MeanMetric()
    infinite.update(float("inf"))
    infinite.update(1.0)
    assert infinite.compute() == float("inf")


def test_arrays_may_be_changed_after_update():
    for metric, args in (
        (gm.Accuracy(), (X, T)), (gm.Accuracy(), (T, T)), (gm.AUROC(), (P, Y)), (gm.MeanSquaredError(), (P, P)), (gm.MeanMetric(), (P,)),
        (gm.SpearmanCorrCoef(), (P, Y.astype(float))), (gm.RetrievalMRR(), (P, Y, Y)), (gm.LogLoss(), (P, Y)),
    ):  # fmt: skip
        own = [a.copy() for a in args]
        metric.update(*own)
        for a in own:
            a[...] = a[::-1].copy() * 0
        same = metric.clone()
        same.reset()
        same.update(*args)
        assert metric.compute() == same.compute(), metric


def test_tensors_may_be_changed_after_update(backend):
    x, t = gl.tensor(X, dtype=gl.float32), gl.tensor(T)
    metric = gm.Accuracy()
    metric.update(x, t)
    x.zero_()
    t.zero_()
    assert metric.compute() == np.mean(X.argmax(1) == T)


def test_engines_are_not_waited_for(backend, monkeypatch):
    """Arrays of engines that compute later are brought to the host when a value is asked for, not before."""
    engine = type(gl.get_backend(backend))
    calls = []
    original = engine.to_numpy.__func__
    monkeypatch.setattr(engine, "to_numpy", classmethod(lambda cls, x: calls.append(1) or original(cls, x)))
    metric, loss, x, t = gm.Accuracy(), gm.LossTracker(), gl.tensor(X, dtype=gl.float32), gl.tensor(T)
    for _ in range(5):
        metric.update(x, t)
        loss.update(gl.tensor(0.5), 6)
    assert (not calls) == (backend in ("jax", "mlx"))
    assert metric.compute() == np.mean(X.argmax(1) == T) and loss.compute() == 0.5
    assert calls
    with pytest.raises(ShapeError, match="do not fit together"):  # shapes are known at once
        metric.update(x, gl.tensor(T[:, None]))


def test_the_queue_has_a_limit():
    jnp = pytest.importorskip("jax.numpy")
    metric = gm.MeanMetric()
    for _ in range(3000):
        metric.update(jnp.float32(1.0))
    assert len(metric._acc._queue) < 3000
    assert metric.compute() == 1.0


def test_inside_a_compiled_function_it_raises():
    metric = gm.Accuracy()
    with pytest.raises(TraceError, match=r"metric\.in_step"):
        gl.jit(lambda x, t: metric.update(x, t))(gl.tensor(X), gl.tensor(T))
    jax = pytest.importorskip("jax")
    with pytest.raises(TraceError, match=r"metric\.in_step"):
        jax.jit(lambda x, t: metric.update(x, t))(X.astype(np.float32), T)


def test_half_precision(backend):
    engine = gl.get_backend(backend)
    for d in (gl.float16, gl.bfloat16):
        mean, accuracy = gm.MeanMetric(), gm.Accuracy()
        mean.update(gl.tensor([0.5, 1.5], dtype=d))
        accuracy.update(gl.tensor(X, dtype=d), gl.tensor(T))
        assert mean.compute() == 1.0 and accuracy.compute() == np.mean(X.argmax(1) == T), engine


def test_small_and_unsigned_integers():
    for d in (np.int8, np.uint8, np.int32, np.uint32, np.uint64, bool):
        t = T.astype(d)
        matrix = gm.ConfusionMatrix(num_classes=3)
        matrix.update(t, t)
        matrix.update(t, t)
        np.testing.assert_array_equal(matrix.compute(), 2 * np.diag(np.bincount(t.astype(int), minlength=3)))


def test_binary_scores_are_read_alike_in_all_batches():
    """The first batch of logits lies within 0 to 1; it counts as logits once another does not."""
    x, t = np.array([0.2, 0.4, 3.0, -2.0]), np.array([1, 1, 1, 0])
    for metric in (gm.Accuracy(), gm.F1Score(task="binary"), gm.ConfusionMatrix()):
        whole, parts = metric.clone(), [metric.clone(), metric.clone()]
        whole.update(x, t)
        parts[0].update(x[:2], t[:2])
        parts[1].update(x[2:], t[2:])
        np.testing.assert_array_equal(parts[0].merge(parts[1]).compute(), whole.compute())
    metric = gm.Accuracy()
    metric.update(x[:2], t[:2])
    assert metric.compute() == 0.0  # as probabilities
    metric.update(x[2:], t[2:])
    assert metric.compute() == 1.0
