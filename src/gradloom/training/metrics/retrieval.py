"""Metrics of ranked lists: documents of many queries, each with a score and a relevance."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import ShapeError, explain
from .base import Accumulator, Metric, at_least, choice
from .inputs import MetricInputError, describe, kind_and_shape
from .ranking import as_floats
from .state import Store


class Documents(Accumulator):
    """(query, score, relevance) of all documents."""

    def __init__(self, owner: str, graded: bool, ignore_index: int | None):
        self.owner, self.graded, self.ignore_index = owner, graded, ignore_index
        super().__init__(rows=Store(3))

    def fits(self, *arrays: Any) -> None:
        shapes = [kind_and_shape(a)[1] for a in arrays]
        if shapes[0] != shapes[1] or shapes[0] != shapes[2]:
            raise ShapeError(
                explain(
                    f"{self.owner}: predictions, targets and indexes do not fit together",
                    expected="one shape for all: a score, a relevance and the query's number for each document",
                    given=", ".join(map(describe, arrays)),
                    do="metrics do not broadcast",
                )
            )

    def _later(self, arrays: tuple) -> None:
        self.fits(*arrays)
        super()._later(arrays)

    def _take(self, x: np.ndarray, t: np.ndarray, query: np.ndarray) -> None:  # type: ignore[override]
        self.fits(x, t, query)
        x, t, query = as_floats(x.reshape(-1)), t.reshape(-1), query.reshape(-1)
        if self.ignore_index is not None:
            keep = t != self.ignore_index
            x, t, query = x[keep], t[keep], query[keep]
        if not len(x):
            return
        if np.isnan(x.max()) or query.dtype.kind == "f" or t.min() < 0 or (not self.graded and t.max() > 1):
            raise MetricInputError(
                explain(
                    f"{self.owner}: values that have no meaning",
                    expected="scores that are numbers, integers as indexes, relevances "
                    + ("of at least 0" if self.graded else "0 or 1"),
                    given=f"scores up to {x.max()}, indexes of {query.dtype}, relevances {t.min()} to {t.max()}",
                )
            )
        self.states["rows"].add(x, as_floats(t), query.astype(np.int64, copy=False))


class _RetrievalMetric(Metric):
    """The base of means over queries. `update(preds, target, indexes)`: scores, relevances and queries, of one shape.

    Documents are ranked by falling score; of equal scores the one that came first is first (but see NDCG).

    Args:
        top_k: Only the first k documents of a query count; default: all.
        empty_target_action: Queries without a relevant document count as 0 ("neg") or 1 ("pos"), are left out ("skip"), or
            raise in `compute` ("error").
        ignore_index: Targets of this value are left out.

    Raises:
        ShapeError: Shapes differ.
        MetricInputError: A score is NaN, or a relevance is not 0 or 1 (of NDCG: is negative).
    """

    takes = ()  # the loop has no indexes
    higher_is_better = True
    _graded = False

    def __init__(self, empty_target_action: str = "neg", top_k: int | None = None, ignore_index: int | None = None):
        owner = type(self).__name__
        self.empty_target_action = choice(
            owner, "empty_target_action", empty_target_action, ("neg", "pos", "skip", "error")
        )
        at_least(owner, 1, top_k=top_k)
        self.top_k, self.ignore_index = top_k, ignore_index
        super().__init__()

    def _accumulator(self) -> Documents:
        return Documents(type(self).__name__, self._graded, self.ignore_index)

    def _sharing(self) -> Any:
        return Documents, self._graded, self.ignore_index

    def _result(self, seen: Documents) -> float:
        x, t, query = seen.states["rows"].columns
        if not len(x):
            return float("nan")
        order = np.lexsort((-x, query))  # stable
        x, t, query = x[order], t[order], query[order]
        starts = np.flatnonzero(np.append(True, query[1:] != query[:-1]))
        lengths = np.diff(np.append(starts, len(x)))
        rank = np.arange(len(x)) - np.repeat(starts, lengths)
        relevant = np.add.reduceat(t, starts) > 0
        scores = self._scores(x, t, rank, starts, lengths)
        if not relevant.all():
            if self.empty_target_action == "error":
                raise MetricInputError(
                    explain(
                        f"{type(self).__name__}: a query has no relevant document",
                        expected="one or more",
                        given=f"none for query {int(query[starts[~relevant][0]])}",
                        do="empty_target_action='skip' leaves such queries out",
                    )
                )
            if self.empty_target_action == "skip":
                scores = scores[relevant]
            else:
                scores = np.where(relevant, scores, float(self.empty_target_action == "pos"))
        return float(scores.mean()) if len(scores) else float("nan")

    def _scores(
        self, x: np.ndarray, t: np.ndarray, rank: np.ndarray, starts: np.ndarray, lengths: np.ndarray
    ) -> np.ndarray:
        """The score of each query, of its documents in ranked order."""
        raise NotImplementedError

    def _within(self, rank: np.ndarray) -> Any:
        return True if self.top_k is None else rank < self.top_k


class RetrievalMRR(_RetrievalMetric):
    """The mean over queries of 1 / (rank of the first relevant document), from 1; 0 where there is none.

    Args:
        empty_target_action: "neg" (0), "pos" (1), "skip" or "error": for queries without a relevant document.
        top_k: Only the first k documents of a query count.
        ignore_index: Targets of this value are left out.

    Source: torchmetrics' `RetrievalMRR`, which takes positive scores only.

    Example:
        >>> mrr = RetrievalMRR()
        >>> mrr.update([0.2, 0.3, 0.5, 0.1, 0.9], [0, 1, 0, 0, 1], [0, 0, 0, 1, 1])
        >>> mrr.compute()
        0.75
    """

    name = "retrieval_mrr"

    def _scores(self, x: Any, t: Any, rank: Any, starts: Any, lengths: Any) -> np.ndarray:
        found = (t > 0) & self._within(rank)
        return np.maximum.reduceat(np.where(found, 1 / (rank + 1), 0), starts)


class RetrievalHitRate(_RetrievalMetric):
    """The share of queries with a relevant document among the first `top_k`.

    Args:
        others: As `RetrievalMRR`.

    Source: torchmetrics' `RetrievalHitRate`.

    Example:
        >>> hits = RetrievalHitRate(top_k=1)
        >>> hits.update([0.2, 0.3, 0.5, 0.1, 0.9], [0, 1, 0, 0, 1], [0, 0, 0, 1, 1])
        >>> hits.compute()
        0.5
    """

    name = "retrieval_hit_rate"

    def _scores(self, x: Any, t: Any, rank: Any, starts: Any, lengths: Any) -> np.ndarray:
        return np.maximum.reduceat(((t > 0) & self._within(rank)).astype(np.float64), starts)


class RetrievalMAP(_RetrievalMetric):
    """The mean over queries of the mean, over the relevant documents among the first `top_k`, of the precision at their ranks.

    Args:
        others: As `RetrievalMRR`.

    Source: torchmetrics' `RetrievalMAP`.

    Example:
        >>> score = RetrievalMAP()
        >>> score.update([0.2, 0.3, 0.5, 0.1, 0.9], [0, 1, 0, 0, 1], [0, 0, 0, 1, 1])
        >>> score.compute()
        0.75
    """

    name = "retrieval_map"

    def _scores(self, x: Any, t: Any, rank: Any, starts: Any, lengths: Any) -> np.ndarray:
        found = ((t > 0) & self._within(rank)).astype(np.float64)
        upto = np.cumsum(found)
        upto -= np.repeat(upto[starts] - found[starts], lengths)
        return np.add.reduceat(found * upto / (rank + 1), starts) / np.maximum(np.add.reduceat(found, starts), 1)


class RetrievalNormalizedDCG(_RetrievalMetric):
    """The mean over queries of DCG / the DCG of the best order, DCG = sum of relevance / log2(rank + 1) with ranks from 1.

    Relevances are numbers of at least 0. Documents of equal score share the mean of their relevances.

    Args:
        others: As `RetrievalMRR`.

    Source: scikit-learn's `ndcg_score`; torchmetrics' `RetrievalNormalizedDCG`. Järvelin and Kekäläinen (2002).

    Example:
        >>> ndcg = RetrievalNormalizedDCG()
        >>> ndcg.update([0.1, 0.2, 0.3, 4, 70], [10, 0, 0, 1, 5], [0, 0, 0, 0, 0])
        >>> round(ndcg.compute(), 4)
        0.6957
    """

    name = "retrieval_normalized_dcg"
    _graded = True

    def _scores(self, x: Any, t: Any, rank: Any, starts: Any, lengths: Any) -> np.ndarray:
        discount = np.where(self._within(rank), 1 / np.log2(rank + 2), 0)
        new = np.append(True, x[1:] != x[:-1])
        new[starts] = True
        runs = np.flatnonzero(new)
        mean = np.add.reduceat(t, runs) / np.diff(np.append(runs, len(x)))
        shared = np.repeat(mean, np.diff(np.append(runs, len(x))))
        query = np.repeat(np.arange(len(starts)), lengths)
        best = t[np.lexsort((-t, query))]
        gain, ideal = np.add.reduceat(shared * discount, starts), np.add.reduceat(best * discount, starts)
        return np.divide(gain, ideal, out=np.zeros(len(starts)), where=ideal > 0)
