"""What all metrics do: equal their references, split and merge, ignore the order, save and load, on every engine."""

import copy
import inspect
import itertools
import pickle
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from samples import SAMPLES, same

import gradloom as gl
from gradloom.training import metrics as gm

CLASSES = [getattr(gm, name) for name in gm.__all__]
METRICS = [cls for cls in CLASSES if issubclass(cls, gm.Metric) and cls is not gm.Metric]
ids = [f"{i}-{s!r}" for i, s in enumerate(SAMPLES)]
every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=ids)
MERGED = 1e-12  # of a merged metric and the whole


def fill(metric, columns, cuts=()):
    """The metric, given the rows between the cuts, a batch each."""
    if type(metric) is gm.Throughput:
        for row in zip(*columns, strict=True):
            metric.update(*row)
        return metric
    edges = [0, *sorted(cuts), len(columns[0])]
    for start, end in itertools.pairwise(edges):
        metric.update(*[c[start:end] for c in columns]) if end > start else None
    return metric


def rows(sample, n=60, seed=0):
    return sample.data(np.random.RandomState(seed), n)


@pytest.mark.parametrize("cls", METRICS, ids=lambda c: c.__name__)
def test_a_metric_has_samples_a_name_and_a_docstring(cls):
    assert any(s.metric is cls for s in SAMPLES), "add samples with a reference to samples.py"
    assert cls.name and cls.name not in [c.name for c in METRICS if c is not cls]
    doc = inspect.getdoc(cls)
    assert ">>>" in doc and "Example:" in doc
    assert any("Source:" in (inspect.getdoc(base) or "") for base in cls.__mro__)


@every_sample
def test_equals_its_reference(sample):
    for seed, n in ((0, 60), (1, 7), (2, 300)):
        columns = rows(sample, n, seed)
        same(fill(sample.make(), columns).compute(), sample.oracle(*columns), sample.tolerance)


@every_sample
def test_large_batches_equal_small_ones(sample):
    n = 40_000 if sample.engines and not isinstance(sample.make(), gm.RunningMean) else 300
    columns = rows(sample, n)
    whole = fill(sample.make(), columns).compute()
    same(fill(sample.make(), columns, range(n // 40, n, n // 40)).compute(), whole, MERGED)


@every_sample
def test_splits_merge_to_the_whole(sample):
    columns = rows(sample, 40)
    whole = fill(sample.make(), columns).compute()

    @hypothesis.given(st.lists(st.integers(0, 40), max_size=6))
    @hypothesis.settings(max_examples=8)
    def check(cuts):
        edges = [0, *sorted(cuts), 40]
        parts = [
            fill(sample.make(), [c[a:b] for c in columns]) if b > a else sample.metric.empty(**sample.make().options)
            for a, b in itertools.pairwise(edges)
        ]
        before = [copy.deepcopy(p.state_dict()) for p in parts]
        same(sample.make().merge(*parts).compute(), whole, MERGED)
        folded = parts[0]
        for part in parts[1:]:
            folded = folded.merge(part)
        same(folded.compute(), whole, MERGED)
        same(fill(sample.make(), columns, cuts).compute(), whole, MERGED)
        for part, state in zip(parts, before, strict=True):  # none was changed
            same(part.state_dict(), state, 0)

    check()


@pytest.mark.parametrize("sample", [s for s in SAMPLES if not s.ordered], ids=repr)
def test_the_order_does_not_matter(sample):
    columns = rows(sample, 50)
    order = np.random.RandomState(5).permutation(50)
    shuffled = [c[order] if isinstance(c, np.ndarray) else [c[i] for i in order] for c in columns]
    same(fill(sample.make(), shuffled, (20,)).compute(), fill(sample.make(), columns).compute(), MERGED)


@every_sample
def test_state_reset_clone_and_pickle(sample):
    columns = rows(sample, 50)
    metric = fill(sample.make(), [c[:30] for c in columns])
    if sample.metric is not gm.Throughput:  # whose clock goes on
        first = metric.compute()
        same(metric.compute(), first, 0)
    copies = [metric.clone(), copy.deepcopy(metric), sample.make(), pickle.loads(pickle.dumps(metric))]
    state = metric.state_dict()
    assert all(type(a) is np.ndarray and a.dtype != object for a in state.values())
    copies[2].load_state_dict(state)
    for other in [*copies, metric]:
        fill(other, [c[30:] for c in columns])
        same(other.compute(), sample.oracle(*columns), sample.tolerance)
        other.reset()
        fill(other, [c[:30] for c in columns])
        same(other.compute(), first if sample.metric is not gm.Throughput else other.compute(), MERGED)


@pytest.mark.parametrize("cls", METRICS, ids=lambda c: c.__name__)
def test_nothing_seen_is_nan(cls):
    sample = next(s for s in SAMPLES if s.metric is cls)
    metric = sample.make()
    found = metric.compute()
    if cls is gm.SumMetric:
        assert found == 0.0
    elif cls is gm.ConfusionMatrix:
        assert found.dtype == np.int64 and not found.any()
    elif cls in (gm.ROC, gm.PrecisionRecallCurve):
        assert all(len(part) <= 1 for part in found)
    elif isinstance(found, dict):
        assert all(np.isnan(v) for v in found.values())
    else:
        assert np.isnan(found).all()
    same(metric.merge(fill(sample.make(), rows(sample))).compute(), fill(sample.make(), rows(sample)).compute(), MERGED)


@pytest.mark.parametrize("cls", METRICS, ids=lambda c: c.__name__)
def test_options_are_attributes_and_shown(cls):
    for sample in [s for s in SAMPLES if s.metric is cls]:
        metric = sample.make()
        again = cls(**metric.options)
        assert repr(again) == repr(metric) and again.options.keys() == metric.options.keys()


def test_on_every_engine(backend):
    """Arrays and Tensors of the engine, in float32, give what NumPy's float32 gives."""
    engine = gl.get_backend(backend)
    for sample in [s for s in SAMPLES if s.engines]:
        columns = [c.astype(np.float32) if c.dtype.kind == "f" else c for c in rows(sample, 40)]
        wanted = fill(sample.make(), columns).compute()
        native = [engine.array(c) for c in columns]
        same(fill(sample.make(), native, (10, 25)).compute(), wanted, 1e-9)
        same(fill(sample.make(), [gl.tensor(c) for c in columns], (10, 25)).compute(), wanted, 1e-9)
        parts = [fill(sample.make(), [c[s] for c in native]) for s in (slice(0, 15), slice(15, 40))]
        same(parts[0].merge(parts[1]).compute(), wanted, 1e-9)


def test_lists_of_python_numbers():
    for sample in [s for s in SAMPLES if s.engines]:
        columns = rows(sample, 12)
        same(
            fill(sample.make(), [c.tolist() for c in columns]).compute(), fill(sample.make(), columns).compute(), MERGED
        )


ROWS = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_the_table_of_the_page_is_true():
    found = {}
    for line in ROWS.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 4:
            found[cells[0].strip("`")] = cells
    assert set(found) == {cls.__name__ for cls in METRICS}
    for cls in METRICS:
        own = [s for s in SAMPLES if s.metric is cls]
        _, _, references, tolerances = found[cls.__name__]
        wanted = {s.reference: max(o.tolerance for o in own if o.reference == s.reference) for s in own}
        listed = dict(zip(references.split("; "), map(float, tolerances.split("; ")), strict=True))
        assert listed == wanted, cls.__name__
