"""Collections, shares of compiled steps, and what metrics are made of: ranks, sums, edit distances."""

import copy
import math
import pickle

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import sklearn.metrics as sk
from samples import same, sigmoid

import gradloom as gl
from gradloom.errors import FileFormatError, OptionError
from gradloom.training import metrics as gm
from gradloom.training.metrics import ranking, text
from gradloom.training.metrics.state import Moments, Store, Total

RNG = np.random.RandomState(0)
X, T = RNG.randn(200, 4).astype(np.float32), RNG.randint(0, 4, 200)


def collection(**options):
    members = {
        "top1": gm.Accuracy(num_classes=4), "f1": gm.F1Score(num_classes=4, average="macro"), "auroc": gm.AUROC(num_classes=4),
        "matrix": gm.ConfusionMatrix(num_classes=4), "ap": gm.AveragePrecision(num_classes=4), "kappa": gm.CohenKappa(num_classes=4),
        "top2": gm.Accuracy(num_classes=4, top_k=2), "per_class": gm.Recall(num_classes=4, average=None),
    }  # fmt: skip
    return members, gm.MetricCollection(members, **options)


def test_a_collection_gives_what_its_metrics_give():
    members, together = collection(prefix="val_")
    assert together.groups == [["top1", "f1", "matrix", "kappa", "per_class"], ["auroc", "ap"], ["top2"]]
    for start in range(0, 200, 70):
        together.update(X[start : start + 70], T[start : start + 70])
    found = together.compute()
    for name, metric in members.items():
        assert np.isnan(metric.compute()).all() or not np.any(metric.compute())  # the collection holds copies
        metric.update(X, T)
        same(found[f"val_{name}"], metric.compute(), 0)
        same(together[name].clone().compute(), metric.compute(), 0)
        twice = 2 if name == "matrix" else 1
        same(together[name].merge(metric).compute(), twice * np.asarray(metric.compute()), 1e-12)


def test_a_collection_counts_once(monkeypatch):
    _, together = collection()
    calls = []
    original = gm.classification.Labels.reduce
    monkeypatch.setattr(gm.classification.Labels, "reduce", lambda self, *a: calls.append(1) or original(self, *a))
    together.update(X, T)
    together.compute()
    assert len(calls) == 2  # top2 counts for itself


def test_collections_merge_copy_save_and_reset():
    _, whole = collection()
    whole.update(X, T)
    wanted = whole.compute()
    parts = [collection()[1] for _ in range(3)]
    for part, rows in zip(parts, np.array_split(np.arange(200), 3), strict=True):
        part.update(X[rows], T[rows])
    same(parts[0].merge(*parts[1:]).compute(), wanted, 1e-12)
    _, loaded = collection()
    loaded.load_state_dict(whole.state_dict())
    for other in (whole.clone(), copy.deepcopy(whole), pickle.loads(pickle.dumps(whole)), loaded):
        assert other.groups == whole.groups
        same(other.compute(), wanted, 0)
        other.update(X, T)
        same(other["matrix"].compute(), 2 * wanted["matrix"], 0)
        other.reset()
        assert math.isnan(other.compute()["f1"])
    same(whole.compute(), wanted, 0)
    assert set(whole.clone(prefix="train_").compute()) == {f"train_{name}" for name in whole}


def test_collections_keep_what_their_metrics_have_seen():
    seen, fresh = gm.Accuracy(num_classes=4), gm.Recall(num_classes=4, average="macro")
    seen.update(X[:100], T[:100])
    together = gm.MetricCollection([seen, fresh])
    assert together.groups == [["accuracy"], ["recall"]]
    together.update(X[100:], T[100:])
    assert together["accuracy"].compute() == sk.accuracy_score(T, X.argmax(1))
    assert together["recall"].compute() == pytest.approx(sk.recall_score(T[100:], X[100:].argmax(1), average="macro"))


def test_collections_refuse():
    for make, message in (
        (lambda: gm.MetricCollection([gm.Accuracy(), gm.Accuracy(top_k=2)]), "two metrics have one name"),
        (lambda: gm.MetricCollection([gm.Accuracy(), gm.LossTracker()]), "updated with the same values"),
        (lambda: gm.MetricCollection([1]), "a collection holds metrics"),
        (lambda: gm.MetricCollection([gm.Recall()]).merge(gm.MetricCollection([gm.Precision()])), "do not merge"),
        (
            lambda: gm.MetricCollection([gm.Recall()]).merge(gm.MetricCollection([gm.Recall(average=None)])),
            "do not merge",
        ),
    ):
        with pytest.raises(OptionError, match=message):
            make()
    with pytest.raises(FileFormatError, match="does not fit"):
        gm.MetricCollection([gm.Recall()]).load_state_dict({"precision.tally.table": np.zeros(2)})


IN_STEP = [
    (gm.Accuracy(), X, T),
    (gm.Accuracy(num_classes=4, ignore_index=1), X, T),
    (gm.Accuracy(), X.argmax(1), T),
    (gm.Accuracy(), sigmoid(X[:, 0]), T % 2),
    (gm.Accuracy(), X[:, 0], T % 2),
    (gm.Accuracy(threshold=0.3, from_logits=True), X[:, 0], T % 2),
    (gm.Accuracy("binary", ignore_index=-1), X[:, 0], T % 3 - 1),
    (gm.MeanSquaredError(), X, X[::-1].copy()),
    (gm.RootMeanSquaredError(), X, X[::-1].copy()),
    (gm.MeanAbsoluteError(), X, X[::-1].copy()),
    (gm.MeanAbsolutePercentageError(epsilon=0.5), X, X[::-1].copy()),
    (gm.Perplexity(), X, T),
    (gm.Perplexity(ignore_index=2), X, T),
    (gm.MeanMetric(), X[:, 0], 2.0),
]


@pytest.mark.parametrize("compiled", [True, False])
def test_shares_of_steps(backend, compiled):
    """Absorbed shares, one step at a time or added up, give what updates give."""
    engine = gl.get_backend(backend)
    for metric, outputs, targets in IN_STEP:
        outputs, targets = engine.array(outputs), targets if isinstance(targets, float) else engine.array(targets)
        cut = lambda v, s: v if isinstance(v, float) else v[s]
        pieces = [(cut(outputs, s), cut(targets, s)) for s in (slice(0, 100), slice(100, 170), slice(170, 200))]
        direct, absorbed, added = metric.clone(), metric.clone(), metric.clone()
        step = gl.jit(metric.in_step) if compiled else metric.in_step
        totals: dict = {}
        for piece in pieces:
            direct.update(*piece)
            shares = step(*piece)
            absorbed.absorb(shares)
            for key, value in shares.items():
                totals[key] = totals.get(key, 0.0) + float(value)
        added.absorb(totals)
        assert metric.has_in_step
        for found in (absorbed, added, absorbed.merge(metric)):
            assert found.compute() == pytest.approx(direct.compute(), rel=1e-5), (metric, backend)
        absorbed.reset()
        assert math.isnan(absorbed.compute())


SCORES = st.floats(width=32, allow_nan=False) | st.sampled_from([0.0, -0.0, 0.5, 1.0, np.inf, -np.inf, 1e-45, -1e-45])


@hypothesis.given(st.lists(st.tuples(SCORES, st.booleans()), max_size=40), st.sampled_from([np.float32, np.float64]))
@hypothesis.settings(max_examples=300)
def test_ranks_of_any_floats(rows, dtype):
    x, t = np.array([r[0] for r in rows], dtype), np.array([r[1] for r in rows], bool)
    fps, tps, values = ranking.curve(x, t)
    wanted = np.unique(x)[::-1]
    assert values.dtype == dtype
    np.testing.assert_array_equal(values, wanted)
    np.testing.assert_array_equal(tps, [(t & (x >= v)).sum() for v in wanted])
    np.testing.assert_array_equal(fps, [(~t & (x >= v)).sum() for v in wanted])
    p, n = x[t], x[~t]
    twice = sum(2 * int((n < v).sum()) + int((n == v).sum()) for v in p)
    area = ranking.area(x, t)
    assert math.isnan(area) if not len(p) * len(n) else area == twice / (2 * len(p) * len(n))


@hypothesis.given(st.lists(st.floats(-1e12, 1e12), max_size=50), st.integers(0, 50))
def test_totals_are_exact_to_the_last_digits(values, cut):
    one, other, vector = Total(), Total(), Total((1,))
    for x in values[:cut]:
        one.add(x)
    for x in values[cut:]:
        other.add(x)
    for x in values:
        vector.add(np.array([x]))
    one.join(other)
    assert one.value == pytest.approx(math.fsum(values), rel=1e-15, abs=1e-12)
    assert vector.value[0] == pytest.approx(math.fsum(values), rel=1e-15, abs=1e-12)


def test_moments_of_data_far_from_zero():
    x = np.random.RandomState(0).randn(1000, 2) + 1e9
    parts = [Moments(2) for _ in range(4)]
    for part, rows in zip(parts, np.split(x, 4), strict=True):
        part.add(rows, -rows)
    for part in parts[1:]:
        parts[0].join(part)
    np.testing.assert_allclose(parts[0].second[0] / 1000, x.var(0), rtol=1e-9)
    np.testing.assert_allclose(parts[0].mean[0], x.mean(0), rtol=1e-15)


def test_a_store_widens_its_columns():
    store = Store(1)
    for rows in (np.array([1, 2], np.uint8), np.array([-3]), np.array([0.5], np.float32), np.array([0.1])):
        store.add(rows)
    assert store.columns[0].tolist() == [1, 2, -3, 0.5, 0.1]


def levenshtein(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        left, row[0] = row[0], i + 1
        for j, y in enumerate(b):
            left, row[j + 1] = row[j + 1], min(left + (x != y), row[j + 1] + 1, row[j] + 1)
    return row[-1]


def subsequence(a, b):
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1, j + 1] = table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
    return table[-1, -1]


@hypothesis.given(st.text("abc", max_size=70), st.text("abcd", max_size=70))
def test_bits_count_edits_and_common_parts(a, b):
    assert text.edits(a, b) == levenshtein(a, b)
    assert text.common(a, b) == subsequence(a, b)


PAIRS = (
    ["the cat is on the mat", "a dog barks", "hello there, General"],
    ["the cat sat on a mat", "dogs bark", "hello general kenobi"],
)


def test_word_errors_against_jiwer():
    jiwer = pytest.importorskip("jiwer")
    for metric, reference in ((gm.WordErrorRate(), jiwer.wer), (gm.CharErrorRate(), jiwer.cer)):
        metric.update(*PAIRS)
        assert metric.compute() == pytest.approx(reference(PAIRS[1], PAIRS[0]), rel=1e-12)


def test_bleu_against_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    found, wanted = (
        ["the cat is on the mat today", "it was a good film"],
        ["the cat is on a mat today", "it was a good movie"],
    )
    metric = gm.BLEUScore()
    metric.update(found, wanted)
    assert 100 * metric.compute() == pytest.approx(
        sacrebleu.corpus_bleu(found, [wanted], tokenize="none").score, rel=1e-9
    )


def test_rouge_against_rouge_score():
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rouge1", "rouge2", "rougeL"])
    metric = gm.ROUGEScore()
    metric.update(*PAIRS)
    found = metric.compute()
    scores = [scorer.score(t, p) for p, t in zip(*PAIRS, strict=True)]
    for key in ("rouge1", "rouge2", "rougeL"):
        for part in ("precision", "recall", "fmeasure"):
            assert found[f"{key}_{part}"] == pytest.approx(np.mean([getattr(s[key], part) for s in scores]), rel=1e-12)


def test_ndcg_against_scikit_learn():
    rng = np.random.RandomState(1)
    for k in (None, 3):
        x, t = rng.randint(0, 6, (5, 9)) / 5, rng.randint(0, 4, (5, 9))
        metric = gm.RetrievalNormalizedDCG(top_k=k)
        metric.update(x, t, np.repeat(np.arange(5), 9).reshape(5, 9))
        assert metric.compute() == pytest.approx(sk.ndcg_score(t, x, k=k), rel=1e-12)


def test_retrieval_without_relevant_documents():
    metric = gm.RetrievalMRR(empty_target_action="error")
    metric.update([0.5, 0.2], [0, 0], [3, 3])
    with pytest.raises(gm.MetricInputError, match="none for query 3"):
        metric.compute()


def test_scores_at_the_edges():
    """Constant targets and the like: as scikit-learn has them."""
    for cls, f in ((gm.R2Score, sk.r2_score), (gm.ExplainedVariance, sk.explained_variance_score)):
        for p, t in (([1.0, 1.0], [1.0, 1.0]), ([1.0, 2.5], [1.0, 1.0])):
            metric = cls()
            metric.update(p, t)
            assert metric.compute() == f(t, p)
    for p, t in (([1, 1], [1, 1]), ([0, 1], [1, 1])):
        metric = gm.MatthewsCorrCoef()
        metric.update(p, t)
        assert metric.compute() == sk.matthews_corrcoef(t, p) == 0.0
    metric = gm.F1Score(task="binary", zero_division=1.0)
    metric.update([0, 0], [0, 0])
    assert metric.compute() == sk.f1_score([0, 0], [0, 0], zero_division=1.0) == 1.0
    metric = gm.AUROC()
    metric.update([0.1, 0.2], [1, 1])
    assert math.isnan(metric.compute())


def test_throughput_by_the_clock():
    now = iter([0.0, 2.0, 3.0, 10.0, 14.0])
    speed = gm.Throughput(clock=lambda: next(now))
    speed.update(10)
    speed.update(20)
    assert speed.compute() == 10.0
    speed.reset()  # at 10
    speed.update(8)
    assert speed.compute() == 2.0
