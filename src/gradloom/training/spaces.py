"""Spaces of options: lists of values, ranges, distributions; and options that are drawn from them."""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .. import random
from ..errors import OptionError, explain


def proposals_of(space: Mapping[str, Any], trials: int, seed: int) -> Iterator[dict[str, Any]]:
    """Options at random, none twice."""
    if not space:
        raise OptionError(explain("a search needs options", expected="{name: values or range}", given="{}"))
    for name, kind in space.items():
        check_space(name, kind)
    lists = all(isinstance(kind, list) for kind in space.values())
    size = math.prod(len(kind) for kind in space.values()) if lists else math.inf
    if trials < 1 or trials > size:
        raise OptionError(
            explain(
                "no such number of trials",
                expected=f"1 to {size}, the number of combinations",
                given=f"trials={trials}",
            )
        )
    seen: set[str] = set()
    enough = 1000 * trials  # draws: a range of few integers may have no more to give
    for number in itertools.count():
        options = {n: drawn(kind, random.key(seed, "random_search", n, number)) for n, kind in space.items()}
        text = repr(options)
        if text in seen and (lists or number < enough):
            continue
        seen.add(text)
        yield options
        trials -= 1
        if not trials:
            return


def check_space(name: str, kind: Any) -> None:
    """Raises OptionError for what is no list of values, range or distribution."""
    if hasattr(kind, "rvs") or (isinstance(kind, list) and kind):
        return
    if isinstance(kind, tuple) and all(is_number(x) for x in kind[:2]):
        fine = len(kind) == 2 or (len(kind) == 3 and kind[2] == "log" and kind[0] > 0)
        if fine and kind[0] < kind[1] < math.inf:
            return
    raise OptionError(
        explain(
            f"that is no space for '{name}'",
            expected="a list of values, (low, high), (low, high, 'log') with 0 < low < high, or a distribution of scipy.stats",
            given=repr(kind),
        )
    )


def drawn(kind: Any, key: int) -> Any:
    """A value of a list, range or distribution, from a random stream."""
    if hasattr(kind, "rvs"):
        value = kind.rvs(random_state=np.random.Generator(np.random.Philox(key=key)))
        return value.item() if hasattr(value, "item") else value
    if isinstance(kind, list):
        return kind[int(random.randint(key, (), 0, len(kind)))]
    low, high = kind[:2]
    integers = is_integer_range(kind)
    if len(kind) == 2 and integers:
        return int(random.randint(key, (), low, high + 1))
    if len(kind) == 2:
        return float(random.uniform(key, (), low, high, "float64"))
    if integers:  # each integer has the share of the half around it
        found = math.exp(float(random.uniform(key, (), math.log(low - 0.5), math.log(high + 0.5), "float64")))
        return min(max(round(found), low), high)
    return min(max(math.exp(float(random.uniform(key, (), math.log(low), math.log(high), "float64"))), low), high)


def is_integer_range(kind: tuple) -> bool:
    """Whether a range is of integers."""
    return all(isinstance(x, numbers.Integral) for x in kind[:2])


def is_number(value: Any) -> bool:
    """Whether a value is a plain real number."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
