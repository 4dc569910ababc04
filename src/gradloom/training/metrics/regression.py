"""Metrics of real predictions: errors, explained variance, correlation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ... import ops
from ...errors import OptionError, ShapeError, explain
from .base import Accumulator, Metric, Pairs, Shares, at_least, choice
from .inputs import describe, kind_and_shape
from .state import Count, Moments, State, Store, Total, products, sums


def _fits(owner: str, outputs: int, a: Any, b: Any) -> None:
    """Raises where predictions and targets have not one shape, or not `outputs` columns."""
    (_, shape), (_, target_shape) = kind_and_shape(a), kind_and_shape(b)
    if shape != target_shape or (outputs > 1 and (len(shape) != 2 or shape[1] != outputs)):
        raise ShapeError(
            explain(
                f"{owner}: predictions and targets do not fit together",
                expected="the same shape for both" if outputs == 1 else f"(N, {outputs}) for both",
                given=f"predictions {describe(a)}, targets {describe(b)}",
                do="metrics do not broadcast: squeeze or index one of them, or set num_outputs=",
            )
        )


class Elements(Pairs):
    """Pairs of numbers in rows of `outputs` columns, in float64, for a function that adds them to states."""

    def __init__(self, owner: str, outputs: int, add: Callable, **states: State):
        self.owner, self.outputs, self._add = owner, outputs, add
        super().__init__(**states)

    def _later(self, arrays: tuple) -> None:
        _fits(self.owner, self.outputs, *arrays)
        super()._later(arrays)

    def check(self, a: np.ndarray, b: np.ndarray) -> Callable | None:
        _fits(self.owner, self.outputs, a, b)
        return None if self.outputs > 1 or a.ndim == 1 else lambda p, t: (p.reshape(-1), t.reshape(-1))

    def reduce(self, p: np.ndarray, t: np.ndarray) -> None:
        shape = (len(p), self.outputs)
        p, t = p.astype(np.float64, copy=False).reshape(shape), t.astype(np.float64, copy=False).reshape(shape)
        self._add(self.states, p, t)


class _Errors(Elements):
    """Sums of errors, and their number; takes shares of compiled steps too."""

    def __init__(self, owner: str, outputs: int, terms: Callable):
        self._terms, self._shares = terms, Shares(("total", "count"))
        super().__init__(owner, outputs, self._add_terms, total=Total((outputs,)), count=Count())

    def _add_terms(self, states: dict, p: np.ndarray, t: np.ndarray) -> None:
        states["total"].add(self._terms(p, t))
        states["count"].add(len(p))

    def absorb(self, shares: Mapping[str, Any]) -> None:
        if self._shares.put(shares):
            self.settle()

    def settle(self) -> None:
        super().settle()
        for total, count in self._shares.take():
            self.states["total"].add(np.array([total]))
            self.states["count"].add(int(count))

    def reset(self) -> None:
        super().reset()
        self._shares.waiting = []


class _MeanOfErrors(Metric):
    """The base of means over elements of an error of prediction and target."""

    higher_is_better = False
    has_in_step = True
    num_outputs: int

    def __init__(self, num_outputs: int = 1):
        at_least(type(self).__name__, 1, num_outputs=num_outputs)
        self.num_outputs = num_outputs
        super().__init__()

    def _accumulator(self) -> _Errors:
        return _Errors(type(self).__name__, self.num_outputs, self._terms)

    def _terms(self, p: np.ndarray, t: np.ndarray) -> np.ndarray:
        """The sums of the errors of each column."""
        raise NotImplementedError

    def _of_ops(self, p: Any, t: Any) -> Any:
        """The errors of elements, of ops."""
        raise NotImplementedError

    def _mean(self, mean: np.ndarray) -> np.ndarray:
        return mean

    def _result(self, seen: _Errors) -> Any:
        count = seen.states["count"].value
        mean = seen.states["total"].value / count if count else np.full(self.num_outputs, np.nan)
        mean = self._mean(mean)
        return float(mean[0]) if self.num_outputs == 1 else mean

    def in_step(self, outputs: Any, targets: Any) -> dict[str, Any]:
        """The sum of the errors, and their number, of ops in the dtype of the outputs; for one output."""
        _fits(type(self).__name__, self.num_outputs, outputs, targets)
        if self.num_outputs > 1:
            return super().in_step()
        return {"total": ops.sum(self._of_ops(outputs, targets)), "count": math.prod(outputs.shape)}

    def absorb(self, shares: Mapping[str, Any]) -> None:
        self._acc.absorb(shares)


class MeanSquaredError(_MeanOfErrors):
    """The mean of (prediction - target)**2, over all elements or for each of `num_outputs` columns.

    Args:
        squared: False gives its square root.
        num_outputs: Number of columns with a value of their own; 1: all elements together.

    Raises:
        ShapeError: Predictions and targets have different shapes.

    Source: scikit-learn's `mean_squared_error`; torchmetrics' `MeanSquaredError`.

    Example:
        >>> mse = MeanSquaredError()
        >>> mse.update([1.0, 2.0], [1.0, 4.0])
        >>> mse.compute()
        2.0
    """

    name = "mean_squared_error"

    def __init__(self, squared: bool = True, num_outputs: int = 1):
        self.squared = squared
        super().__init__(num_outputs)

    def _terms(self, p: np.ndarray, t: np.ndarray) -> np.ndarray:
        d = p - t
        return products(d, d)

    def _of_ops(self, p: Any, t: Any) -> Any:
        return ops.square(ops.subtract(p, t))

    def _mean(self, mean: np.ndarray) -> np.ndarray:
        return mean if self.squared else np.sqrt(mean)


class RootMeanSquaredError(MeanSquaredError):
    """The square root of the mean of (prediction - target)**2.

    Args:
        num_outputs: As `MeanSquaredError`.

    Source: scikit-learn's `root_mean_squared_error`.

    Example:
        >>> rmse = RootMeanSquaredError()
        >>> rmse.update([1.0, 2.0], [1.0, 4.0])
        >>> round(rmse.compute(), 4)
        1.4142
    """

    name = "root_mean_squared_error"

    def __init__(self, num_outputs: int = 1):
        super().__init__(squared=False, num_outputs=num_outputs)


class MeanAbsoluteError(_MeanOfErrors):
    """The mean of |prediction - target|.

    Args:
        num_outputs: As `MeanSquaredError`.

    Source: scikit-learn's `mean_absolute_error`; torchmetrics' `MeanAbsoluteError`.

    Example:
        >>> mae = MeanAbsoluteError()
        >>> mae.update([1.0, 2.0], [1.0, 4.0])
        >>> mae.compute()
        1.0
    """

    name = "mean_absolute_error"

    def _terms(self, p: np.ndarray, t: np.ndarray) -> np.ndarray:
        return sums(np.abs(p - t))

    def _of_ops(self, p: Any, t: Any) -> Any:
        return ops.abs(ops.subtract(p, t))


class MeanAbsolutePercentageError(_MeanOfErrors):
    """The mean of |prediction - target| / |target|, as a share (0.1 is 10 %).

    Args:
        num_outputs: As `MeanSquaredError`.
        epsilon: |target| counts as at least this.

    Source: scikit-learn's `mean_absolute_percentage_error`; torchmetrics', whose epsilon this is.

    Example:
        >>> mape = MeanAbsolutePercentageError()
        >>> mape.update([1.5, 3.0], [1.0, 4.0])
        >>> mape.compute()
        0.375
    """

    name = "mean_absolute_percentage_error"

    def __init__(self, num_outputs: int = 1, epsilon: float = 1.17e-6):
        if not epsilon > 0:
            raise OptionError(explain("epsilon is too small", expected="above 0", given=repr(epsilon)))
        self.epsilon = epsilon
        super().__init__(num_outputs)

    def _terms(self, p: np.ndarray, t: np.ndarray) -> np.ndarray:
        return sums(np.abs(p - t) / np.maximum(np.abs(t), self.epsilon))

    def _of_ops(self, p: Any, t: Any) -> Any:
        return ops.divide(ops.abs(ops.subtract(p, t)), ops.clip(ops.abs(t), min=self.epsilon))


class _OfVariances(Metric):
    """The base of 1 - (what is left of the targets' variance) / (their variance)."""

    higher_is_better = True

    def __init__(self, num_outputs: int = 1, multioutput: str = "uniform_average"):
        owner = type(self).__name__
        at_least(owner, 1, num_outputs=num_outputs)
        self.num_outputs = num_outputs
        self.multioutput = choice(
            owner, "multioutput", multioutput, ("uniform_average", "raw_values", "variance_weighted")
        )
        super().__init__()

    def _accumulator(self) -> Elements:
        # Of residuals and targets.
        return Elements(
            type(self).__name__, self.num_outputs, lambda states, p, t: states["moments"].add(t - p, t),
            moments=Moments(self.num_outputs),
        )  # fmt: skip

    def _left(self, m: Moments) -> np.ndarray:
        raise NotImplementedError

    def _result(self, seen: Elements) -> Any:
        m: Moments = seen.states["moments"]
        if m.count < 2:
            values = np.full(self.num_outputs, np.nan)
        else:
            left, whole = self._left(m), m.second[1]
            # Constant targets: 1 where they are met, else 0, as in scikit-learn.
            values = np.where(left == 0, 1.0, 0.0)
            np.divide(whole - left, whole, out=values, where=whole > 0)
            values[np.isnan(left + whole)] = np.nan
        if self.multioutput == "raw_values":
            return values
        weights = m.second[1] if self.multioutput == "variance_weighted" and m.second[1].any() else np.ones(len(values))
        return float((values * weights).sum() / weights.sum())


class R2Score(_OfVariances):
    """1 - sum (target - prediction)**2 / sum (target - mean target)**2; NaN for fewer than two samples.

    Constant targets give 1 where they are met exactly, else 0.

    Args:
        num_outputs: Number of columns; 1: all elements are samples.
        multioutput: "uniform_average", "raw_values" (an array) or "variance_weighted" (by the targets' variance).

    Source: scikit-learn's `r2_score`.

    Example:
        >>> r2 = R2Score()
        >>> r2.update([2.5, 0.0, 2.0, 8.0], [3.0, -0.5, 2.0, 7.0])
        >>> round(r2.compute(), 4)
        0.9486
    """

    name = "r2_score"

    def _left(self, m: Moments) -> np.ndarray:
        return m.second[0] + m.count * m.mean[0] ** 2


class ExplainedVariance(_OfVariances):
    """1 - variance of (target - prediction) / variance of the targets; NaN for fewer than two samples.

    Args:
        num_outputs, multioutput: As `R2Score`.

    Source: scikit-learn's `explained_variance_score`.

    Example:
        >>> metric = ExplainedVariance()
        >>> metric.update([2.5, 0.0, 2.0, 8.0], [3.0, -0.5, 2.0, 7.0])
        >>> round(metric.compute(), 4)
        0.9572
    """

    name = "explained_variance"

    def _left(self, m: Moments) -> np.ndarray:
        return m.second[0]


class PearsonCorrCoef(Metric):
    """The linear correlation of predictions and targets; NaN where either is constant.

    Args:
        num_outputs: Number of columns with a value of their own; 1: all elements are samples.

    Source: SciPy's `pearsonr`; torchmetrics' `PearsonCorrCoef`.

    Example:
        >>> metric = PearsonCorrCoef()
        >>> metric.update([2.5, 0.0, 2.0, 8.0], [3.0, -0.5, 2.0, 7.0])
        >>> round(metric.compute(), 4)
        0.9849
    """

    name = "pearson_corrcoef"
    higher_is_better = True

    def __init__(self, num_outputs: int = 1):
        at_least(type(self).__name__, 1, num_outputs=num_outputs)
        self.num_outputs = num_outputs
        super().__init__()

    def _accumulator(self) -> Accumulator:
        return Elements(
            type(self).__name__, self.num_outputs, lambda states, p, t: states["moments"].add(p, t),
            moments=Moments(self.num_outputs),
        )  # fmt: skip

    def _result(self, seen: Any) -> Any:
        value = _correlation(*seen.states["moments"].second)
        return float(value[0]) if self.num_outputs == 1 else value


class SpearmanCorrCoef(PearsonCorrCoef):
    """The linear correlation of the ranks of predictions and targets; equal values share their mean rank.

    All values are kept. NaN among them gives NaN.

    Args:
        num_outputs: As `PearsonCorrCoef`.

    Source: SciPy's `spearmanr`; torchmetrics' `SpearmanCorrCoef`.

    Example:
        >>> metric = SpearmanCorrCoef()
        >>> metric.update([2.5, 0.0, 2.0, 8.0], [3.0, -0.5, 2.0, 7.0])
        >>> round(metric.compute(), 4)
        1.0
    """

    name = "spearman_corrcoef"

    def _accumulator(self) -> Accumulator:
        return Elements(
            type(self).__name__, self.num_outputs, lambda states, p, t: states["rows"].add(p, t), rows=Store(2)
        )

    def _result(self, seen: Any) -> Any:
        p, t = seen.states["rows"].columns
        if not len(p):
            p = t = np.zeros((0, self.num_outputs))
        values = []
        for x, y in zip(p.T, t.T, strict=True):
            if len(x) < 2 or np.isnan(x).any() or np.isnan(y).any():
                values.append(math.nan)
                continue
            m = Moments()
            m.add(_ranks(x)[:, None], _ranks(y)[:, None])
            values.append(float(_correlation(*m.second)[0]))
        return values[0] if self.num_outputs == 1 else np.array(values)


def _correlation(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray) -> np.ndarray:
    spread = np.sqrt(xx) * np.sqrt(yy)
    return np.clip(np.divide(xy, spread, out=np.full(xy.shape, np.nan), where=spread > 0), -1, 1)


def _ranks(x: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values have the mean of theirs."""
    order = np.argsort(x, kind="stable")
    ordered = x[order]
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    ends = np.append(first[1:], len(x))
    ranks = np.empty(len(x))
    ranks[order] = np.repeat((first + ends + 1) / 2, ends - first)
    return ranks
