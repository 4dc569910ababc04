"""Metrics of numbers that are given as they are: losses, means over all or the last values, throughput."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ... import ops
from ...errors import OptionError, ShapeError, explain
from .base import Accumulator, Metric, Shares, at_least
from .inputs import host, kind_and_shape, plain
from .state import Arrays, Count, Extreme, Total, loaded


class _Weighted(Accumulator):
    """Sums of value * weight, and of weights."""

    def __init__(self) -> None:
        self._total, self._weight = Total(), Total()
        self._shares = Shares(("total", "weight"))
        super().__init__(total=self._total, weight=self._weight)

    def update(self, value: Any, weight: Any = 1.0) -> None:
        if type(weight) in (int, float) and type(value) in (float, np.ndarray):
            if weight < 0:
                raise _negative(weight)
            size: Any = 1
            if type(value) is not float:
                value, size = np.add.reduce(plain(value), axis=None, dtype=np.float64), value.size
            self._total.add(value * weight)
            self._weight.add(size * weight)
        else:
            super().update(value, weight)

    def _take(self, value: np.ndarray, weight: np.ndarray) -> None:  # type: ignore[override]
        if weight.shape not in ((), value.shape):
            raise ShapeError(
                explain(
                    "a value and its weight do not fit together",
                    expected=f"one weight, or weights {value.shape}",
                    given=f"values {value.shape}, weights {weight.shape}",
                    do="metrics do not broadcast",
                )
            )
        if weight.size and weight.min() < 0:
            raise _negative(weight.min())
        value, weight = value.astype(np.float64, copy=False), weight.astype(np.float64, copy=False)
        if weight.shape:
            self._total.add((value * weight).sum())
            self._weight.add(weight.sum())
        else:
            self._total.add(value.sum() * weight)
            self._weight.add(value.size * float(weight))

    def absorb(self, shares: Mapping[str, Any]) -> None:
        if self._shares.put(shares):
            self.settle()

    def settle(self) -> None:
        super().settle()
        for total, weight in self._shares.take():
            self._total.add(total)
            self._weight.add(weight)

    def reset(self) -> None:
        super().reset()
        self._shares.waiting = []


class MeanMetric(Metric):
    """The mean of values, weighted by weights if they are given.

    `update(value, weight=1)`: a number, a Tensor or an array, whose elements count one each; a weight, or an array of
    weights of the same shape. A NaN among the values makes the mean NaN.

    Raises:
        ShapeError: Weights of another shape.
        OptionError: A negative weight.

    Source: torchmetrics' `MeanMetric` with nan_strategy="disable"; NumPy's `average`.

    Example:
        >>> mean = MeanMetric()
        >>> mean.update(1.0, 3)
        >>> mean.update([2.0, 6.0])
        >>> mean.compute()
        2.2
    """

    name = "mean"
    takes = ("loss", "batch_size")
    has_in_step = True

    def _accumulator(self) -> _Weighted:
        return _Weighted()

    def update(self, value: Any, weight: Any = 1.0) -> None:
        self._acc.update(value, weight)

    def _result(self, seen: _Weighted) -> float:
        weight = seen._weight.value
        return seen._total.value / weight if weight else float("nan")

    def in_step(self, value: Any, weight: Any = 1.0) -> dict[str, Any]:
        """The sum of value * weight, and the weight, of ops."""
        size = math.prod(kind_and_shape(value)[1])
        return {"total": ops.multiply(ops.sum(value), weight), "weight": weight * size}

    def absorb(self, shares: Mapping[str, Any]) -> None:
        self._acc.absorb(shares)


class LossTracker(MeanMetric):
    """The mean loss per sample: `update(loss, batch_size)` takes the mean loss of a batch and its number of samples.

    Without a number of samples each batch counts one. An array of losses is one sample each. As `MeanMetric` otherwise.

    Example:
        >>> loss = LossTracker()
        >>> loss.update(0.5, 32)
        >>> loss.update(1.0, 16)
        >>> round(loss.compute(), 4)
        0.6667
    """

    name = "loss"
    higher_is_better = False


class SumMetric(Metric):
    """The sum of values (numbers, Tensors, arrays); 0 where nothing was seen.

    Source: torchmetrics' `SumMetric` with nan_strategy="disable".

    Example:
        >>> total = SumMetric()
        >>> total.update([1.0, 2.5])
        >>> total.compute()
        3.5
    """

    name = "sum"
    takes = ("loss",)

    def _accumulator(self) -> _Values:
        return _Values(Total(), _sum)

    def update(self, value: Any) -> None:
        self._acc.update(value)

    def _result(self, seen: _Values) -> float:
        return seen.states["value"].value


class MaxMetric(Metric):
    """The largest value; NaN where nothing was seen, or a NaN.

    Source: torchmetrics' `MaxMetric` with nan_strategy="disable".

    Example:
        >>> largest = MaxMetric()
        >>> largest.update([1.0, 2.5])
        >>> largest.compute()
        2.5
    """

    name = "max"
    takes = ("loss",)

    def _accumulator(self) -> _Values:
        return _Values(Extreme(True), _max)

    def update(self, value: Any) -> None:
        self._acc.update(value)

    def _result(self, seen: _Values) -> float:
        return seen.states["value"].value if seen.states["seen"].value else float("nan")


class MinMetric(MaxMetric):
    """The smallest value; NaN where nothing was seen, or a NaN.

    Source: torchmetrics' `MinMetric` with nan_strategy="disable".

    Example:
        >>> smallest = MinMetric()
        >>> smallest.update([1.0, 2.5])
        >>> smallest.compute()
        1.0
    """

    name = "min"

    def _accumulator(self) -> _Values:
        return _Values(Extreme(False), _min)


def _sum(x: np.ndarray) -> float:
    return float(x.sum(dtype=np.float64))


def _max(x: np.ndarray) -> float:
    return float(x.max())


def _min(x: np.ndarray) -> float:
    return float(x.min())


class _Values(Accumulator):
    def __init__(self, state: Any, summary: Callable[[np.ndarray], float]):
        self._summary = summary
        super().__init__(value=state, seen=Count())

    def _take(self, value: np.ndarray) -> None:  # type: ignore[override]
        if value.size:
            self.states["value"].add(self._summary(value))
            self.states["seen"].add(value.size)


class _Window:
    """The last values, as a state."""

    def __init__(self, length: int):
        self.values: deque[float] = deque(maxlen=length)

    def clear(self) -> None:
        self.values.clear()

    def join(self, other: _Window) -> None:
        self.values.extend(other.values)

    def save(self) -> Arrays:
        return {"": np.array(self.values, np.float64)}

    def load(self, arrays: Arrays) -> None:
        self.values.clear()
        self.values.extend(loaded(arrays, "", None).tolist())


class _Last(Accumulator):
    def __init__(self, window: int):
        super().__init__(window=_Window(window))

    def _take(self, value: np.ndarray) -> None:  # type: ignore[override]
        self.states["window"].values.extend(value.astype(np.float64, copy=False).reshape(-1).tolist())


class RunningMean(Metric):
    """The mean of the last `window` values. Merged, the other's values come after one's own.

    Args:
        window: How many values; elements of an array count one each.

    Source: torchmetrics' `RunningMean`.

    Example:
        >>> mean = RunningMean(window=2)
        >>> for loss in (4.0, 2.0, 1.0):
        ...     mean.update(loss)
        >>> mean.compute()
        1.5
    """

    name = "running_mean"
    takes = ("loss",)

    def __init__(self, window: int = 5):
        at_least("RunningMean", 1, window=window)
        self.window = window
        super().__init__()

    def _accumulator(self) -> _Last:
        return _Last(self.window)

    def update(self, value: Any) -> None:
        self._acc.update(value)

    def _result(self, seen: _Last) -> float:
        values = seen.states["window"].values
        return math.fsum(values) / len(values) if values else float("nan")


class _Clocked(Accumulator):
    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._samples, self._seconds = Total(), Total()
        super().__init__(samples=self._samples, seconds=self._seconds)
        self._since = clock()

    def update(self, samples: Any, seconds: float | None = None) -> None:
        now = self._clock()
        passed = now - self._since if seconds is None else float(seconds)
        samples = samples if isinstance(samples, (int, float)) else host(samples).item()
        if samples < 0 or passed < 0:
            raise OptionError(
                explain("Throughput: samples and seconds do not fall", expected="0 or more", given=(samples, passed))
            )
        self._samples.add(samples)
        self._seconds.add(passed)
        self._since = now

    def reset(self) -> None:
        super().reset()
        self._since = self._clock()


class Throughput(Metric):
    """Samples per second: `update(batch_size)` after each step; the time since the last update (or `reset`) counts.

    Merged, both samples and seconds add up: parts of a run that came one after the other.

    Args:
        clock: Gives seconds.

    `update(batch_size, seconds)` counts given seconds.

    Source: samples / seconds.

    Example:
        >>> speed = Throughput()
        >>> speed.update(64, seconds=0.5)
        >>> speed.update(32, seconds=0.25)
        >>> speed.compute()
        128.0
    """

    name = "throughput"
    takes = ("batch_size",)
    higher_is_better = True

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.clock = clock
        super().__init__()

    def _accumulator(self) -> _Clocked:
        return _Clocked(self.clock)

    def update(self, samples: Any, seconds: float | None = None) -> None:
        self._acc.update(samples, seconds)

    def _result(self, seen: _Clocked) -> float:
        seconds = seen._seconds.value
        return seen._samples.value / seconds if seconds else float("nan")


def _negative(weight: Any) -> OptionError:
    return OptionError(explain("a weight is negative", expected="0 or more", given=weight))
