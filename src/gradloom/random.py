"""Portable keyed random streams: the same numbers from the same key on every engine, platform and NumPy version.

A key is a 128-bit integer, hashed from a seed and any names or numbers (`key(seed, "dropout", step)`); different parts
give independent streams. Draws are pure functions of the key, so one key serves one draw. Of NumPy only Philox's raw
64-bit words are used, which are fixed by the algorithm (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
3"), not its distributions, which may change between releases. The way from words to numbers uses only operations that
IEEE 754 rounds exactly (+ - * / sqrt), no library's log or cos.

In all draws `key` is the stream, `shape` that of the result, `dtype` a floating dtype in any form that `dtypes.dtype`
takes (else DTypeError). The first elements of a longer draw from the same key are those of the shorter one (but for
`permutation`).
"""

import dataclasses
import hashlib
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .dtypes import dtype as to_dtype
from .dtypes import float32, to_numpy_dtype
from .errors import DTypeError, OptionError, explain

__all__ = [
    "Generator", "bernoulli_mask", "bits16", "key", "normal", "permutation", "randint", "truncated_normal", "uniform",
]  # fmt: skip

Shape = int | Sequence[int]
_CHUNK = 1 << 15  # elements at a time: temporaries stay in the cache, and memory small


def key(seed: int, *parts: int | str) -> int:
    """The key of a stream.

    Args:
        seed: Any integer.
        *parts: What the stream is for: names, step numbers, ... Their order and types count: "1" is not 1, ("a", "b")
            not ("ab",).

    Returns:
        A 128-bit integer.

    Raises:
        OptionError: If a part is neither an integer nor a string.

    Example:
        >>> key(0, "dropout", 1) == key(0, "dropout", 1), key(0, "dropout", 1) == key(0, "dropout", 2)
        (True, False)
    """
    digest = hashlib.blake2b(digest_size=16, person=b"gradloom.random1")
    for part in (seed, *parts):
        if isinstance(part, str):
            text = b"s" + part.encode()
        else:
            try:
                text = b"i%d" % operator.index(part)
            except TypeError:
                message = explain("a key is made of integers and strings", given=f"{part!r} ({type(part).__name__})")
                raise OptionError(message) from None
        # The length in front keeps ("ab", "c") apart from ("a", "bc").
        digest.update(len(text).to_bytes(8, "little") + text)
    return int.from_bytes(digest.digest(), "little")


def _fill(key: int, shape: Shape, dtype: np.dtype, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """An array of one word of the stream per element, converted chunk by chunk."""
    out = np.empty(shape, dtype)
    flat = out.reshape(-1)
    philox = np.random.Philox(key=key)
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        part[...] = convert(philox.random_raw(part.size))
    return out


def _floating(dtype: Any) -> np.dtype:
    found = to_dtype(dtype)
    if not found.is_floating_point:
        raise DTypeError(explain("random floats need a floating dtype", given=found.name, do="call randint"))
    return to_numpy_dtype(found)


def _open_uniform(words: np.ndarray) -> np.ndarray:
    """The odd multiples of 2**-53 in (0, 1): never 0 or 1, and exact."""
    return ((words >> np.uint64(12)) * 2.0 + 1.0) * 2.0**-53


def bits16(key: int, n: int) -> np.ndarray:
    """n uniform 16-bit numbers, four of each 64-bit word, the lowest first.

    Returns:
        uint16 array (n,).

    Example:
        >>> bits16(key(0), 3)
        array([22003, 47073, 15567], dtype=uint16)
    """
    words = np.random.Philox(key=key).random_raw(-(-n // 4))
    # Through little-endian, so that the order of the four is the same on every machine.
    return words.astype("<u8", copy=False).view("<u2")[:n].astype(np.uint16, copy=False)


def bernoulli_mask(key: int, shape: Shape, keep: float) -> np.ndarray:
    """A mask that is True with probability `keep`, for dropout.

    Takes 16 bits per element, so the probability is rounded to the nearest multiple of 1/65536 (0 and 1 are exact).

    Args:
        keep: Probability of True, 0 to 1.

    Returns:
        bool array.

    Raises:
        OptionError: If keep is not a probability.

    Example:
        >>> bernoulli_mask(key(0), (2, 3), 0.5)
        array([[ True, False,  True],
               [False, False,  True]])
    """
    if not 0 <= keep <= 1:
        raise OptionError(explain("keep is a probability", expected="0 <= keep <= 1", given=keep))
    limit = round(keep * 65536)
    mask = np.full(shape, limit > 0)
    if limit < 65536:  # which no uint16 holds
        np.less(bits16(key, mask.size).reshape(mask.shape), np.uint16(limit), out=mask)
    return mask


def uniform(key: int, shape: Shape, low: float = 0.0, high: float = 1.0, dtype: Any = float32) -> np.ndarray:
    """Uniform numbers in [low, high): 53 bits each in float64, rounded to the dtype, but never up to `high`.

    Args:
        low: Smallest value.
        high: Upper bound, excluded (unless equal to low).

    Raises:
        OptionError: If high < low, or a bound or the range is not finite.

    Example:
        >>> uniform(key(0), 2, -1, 1, dtype="float64").round(6)
        array([0.651313, 0.008545])
    """
    width = high - low
    if not (0 <= width < math.inf):
        raise OptionError(explain("no such range", expected="finite, low <= high", given=f"low={low}, high={high}"))
    target = _floating(dtype)
    top = target.type(high)
    if float(top) >= high:
        top = np.nextafter(top, target.type(-math.inf))
    top = max(top, target.type(low))

    def convert(words: np.ndarray) -> np.ndarray:
        return np.minimum(((words >> np.uint64(11)) * 2.0**-53 * width + low).astype(target), top)

    return _fill(key, shape, target, convert)


def normal(key: int, shape: Shape, mean: float = 0.0, std: float = 1.0, dtype: Any = float32) -> np.ndarray:
    """Normal numbers: the inverse distribution function (Wichura's AS241) of one 52-bit uniform each, in float64.

    Standard values lie within ±8.21.

    Args:
        mean: Of the distribution.
        std: Its standard deviation, at least 0.

    Raises:
        OptionError: If std is negative or NaN.

    Example:
        >>> normal(key(0), 3, dtype="float64").round(6)
        array([ 0.93714 ,  0.01071 , -0.338188])
    """
    if not std >= 0:
        raise OptionError(explain("a standard deviation is not negative", expected="std >= 0", given=f"std={std}"))
    return _fill(key, shape, _floating(dtype), lambda words: mean + std * _inverse_cdf(_open_uniform(words)))


def truncated_normal(
    key: int,
    shape: Shape,
    mean: float = 0.0,
    std: float = 1.0,
    low: float = -2.0,
    high: float = 2.0,
    dtype: Any = float32,
) -> np.ndarray:
    """Normal numbers within [low, high] (as `torch.nn.init.trunc_normal_`: bounds are values, not multiples of std).

    Uses the inverse distribution function on the part of (0, 1) that belongs to the bounds. A bound that the dtype
    cannot hold is rounded to it.

    Args:
        mean: Of the normal distribution before it is cut.
        std: Its standard deviation, above 0.
        low: Lower bound, may be infinite.
        high: Upper bound, may be infinite.

    Raises:
        OptionError: If std is not positive, low is not below high, or the bounds lie more than 37 std to one side of
            the mean.

    Example:
        >>> truncated_normal(key(0), 3, std=2.0, dtype="float64").round(6)
        array([ 1.179509,  0.014623, -0.457049])
    """
    if not (std > 0 and low < high):
        given = f"std={std}, low={low}, high={high}"
        raise OptionError(explain("no such distribution", expected="std > 0, low < high", given=given))
    a, b = (low - mean) / std, (high - mean) / std
    # Beyond the mean the distribution function is near 1 and loses its digits; its mirror image is near 0 and keeps
    # them.
    sign = -1.0 if a > 0 else 1.0
    if a > 0:
        a, b = -b, -a
    below, above = _cdf(a), _cdf(b)
    if not above >= 1e-300:
        raise OptionError(explain("the bounds are far from the mean", expected="within 37 std", given=f"{-b:g} std"))
    target = _floating(dtype)

    def convert(words: np.ndarray) -> np.ndarray:
        # The sum may round to 1, and the result may step over a bound by a unit in the last place.
        p = np.minimum(below + (above - below) * _open_uniform(words), 1.0 - 2.0**-53)
        return np.clip(mean + std * sign * _inverse_cdf(p), low, high)

    return _fill(key, shape, target, convert)


def randint(key: int, shape: Shape, low: int, high: int) -> np.ndarray:
    """Integers in [low, high): the high half of a word times the range (Lemire 2019, without rejection).

    No value's probability is off by more than 2**-64, far below what can be observed.

    Returns:
        int64 array.

    Raises:
        OptionError: If the range is empty or leaves int64.

    Example:
        >>> randint(key(0), 5, 0, 10)
        array([8, 5, 3, 0, 5])
    """
    if not -(2**63) <= low < high <= 2**63:
        raise OptionError(explain("no such range", expected="low < high within int64", given=f"low={low}, high={high}"))
    span, start, half, mask = high - low, np.int64(low), np.uint64(32), np.uint64(2**32 - 1)
    if span == 2**64:  # every word is an answer
        return _fill(key, shape, np.dtype(np.int64), lambda words: words.view(np.int64) + start)
    span_high, span_low = np.uint64(span >> 32), np.uint64(span & (2**32 - 1))

    def convert(words: np.ndarray) -> np.ndarray:
        word_high, word_low = words >> half, words & mask
        cross = word_high * span_low + (word_low * span_low >> half)  # cannot overflow, nor can the next
        other = word_low * span_high + (cross & mask)
        return (word_high * span_high + (cross >> half) + (other >> half)).view(np.int64) + start

    return _fill(key, shape, np.dtype(np.int64), convert)


def permutation(key: int, n: int) -> np.ndarray:
    """A random order of 0 ... n-1: the stable order of n random 64-bit words.

    Returns:
        int64 array (n,).

    Example:
        >>> permutation(key(0), 5)
        array([3, 2, 1, 4, 0])
    """
    words = np.random.Philox(key=key).random_raw(n)
    # NumPy sorts 16-bit numbers by radix: two passes over the words' upper halves take less time than sorting
    # them whole. Where upper halves are equal, which is rare, the nearly sorted words are sorted once more.
    parts = words.astype("<u8", copy=False).view("<u2").reshape(-1, 4)
    order = np.argsort(parts[:, 2], kind="stable")
    order = order.take(np.argsort(parts[:, 3].take(order), kind="stable"))
    words = words.take(order)
    if (words[1:] < words[:-1]).any():
        order = order.take(np.argsort(words, kind="stable"))
    return order.astype(np.int64, copy=False)


# --- the normal distribution function, its inverse, and the logarithm that this takes ---

# Wichura 1988, "Algorithm AS241: The Percentage Points of the Normal Distribution": numerators and denominators of its
# rational approximations, highest power first, for the middle, the tails and the far tails; relative error about 1e-16.
_MIDDLE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.3871328727963666080),
    (5226.4952788528545610, 28729.085735721942674, 39307.895800092710610, 21213.794301586595867,
     5394.1960214247511077, 687.18700749205790830, 42.313330701600911252, 1.0),
)  # fmt: skip
_TAIL = (
    (7.7454501427834140764e-4, 0.0227238449892691845833, 0.241780725177450611770, 1.27045825245236838258,
     3.64784832476320460504, 5.76949722146069140550, 4.63033784615654529590, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.148103976427480074590,
     0.689767334985100004550, 1.67638483018380384940, 2.05319162663775882187, 1.0),
)  # fmt: skip
_FAR_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 0.0265321895265761230930,
     0.296560571828504891230, 1.78482653991729133580, 5.46378491116411436990, 6.65790464350110377720),
    (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
     0.0148753612908506148525, 0.136929880922735805310, 0.599832206555887937690, 1.0),
)  # fmt: skip
# The odd series of log((1 + s) / (1 - s)) as FreeBSD's e_log.c has it, and log(2) in two parts.
_LOG = (0.14798198605116586, 0.15313837699209373, 0.1818357216161805, 0.22222198432149784, 0.2857142874366239,
        0.3999999999940942, 0.6666666666666735)  # fmt: skip
_LOG2_HIGH, _LOG2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10


def _polynomial(coefficients: Sequence[float], x: np.ndarray) -> np.ndarray:
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += coefficient
    return total


def _ratio(tables: tuple[Sequence[float], Sequence[float]], x: np.ndarray) -> np.ndarray:
    return _polynomial(tables[0], x) / _polynomial(tables[1], x)


def _log(x: np.ndarray) -> np.ndarray:
    """log of positive float64, within one unit in the last place, from exactly rounded operations only."""
    mantissa, exponent = np.frexp(x)
    small = mantissa < math.sqrt(0.5)
    f = np.where(small, 2.0 * mantissa, mantissa) - 1.0
    k = (exponent - small).astype(np.float64)
    s, half_square = f / (2.0 + f), 0.5 * f * f
    z = s * s
    return k * _LOG2_HIGH - ((half_square - (s * (half_square + z * _polynomial(_LOG, z)) + k * _LOG2_LOW)) - f)


def _inverse_cdf(p: np.ndarray) -> np.ndarray:
    """The standard normal value below which a share p lies, 0 < p < 1."""
    q = p - 0.5
    out = q * _ratio(_MIDDLE, 0.180625 - q * q)  # for the tails replaced below
    tails = np.flatnonzero(np.abs(q) > 0.425)
    p, q = p[tails], q[tails]
    r = np.sqrt(-_log(np.where(q < 0, p, 1.0 - p)))
    value = _ratio(_TAIL, r - 1.6)
    far = r > 5.0
    value[far] = _ratio(_FAR_TAIL, r[far] - 5.0)
    out[tails] = np.where(q < 0, -value, value)
    return out


def _cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


@dataclasses.dataclass(slots=True, eq=False, weakref_slot=True)
class Generator:
    """A seed and a position, which its owner keeps, saves and hands on. Not for use by several threads at once.

    Attributes:
        seed: Any integer.
        count: How many keys it has given.

    Example:
        >>> generator = Generator(seed=1)
        >>> first, second = generator.next_key(), generator.next_key()
        >>> generator.manual_seed(1).next_key() == first != second
        True
    """

    seed: int = 0
    count: int = 0

    def next_key(self, name: str = "") -> int:
        """The key of (seed, name, count); the count moves on, so that no two draws share a key."""
        made = key(self.seed, name, self.count)
        self.count += 1
        return made

    def manual_seed(self, seed: int) -> "Generator":
        """Starts again with this seed; returns itself."""
        self.seed, self.count = operator.index(seed), 0
        return self

    def get_state(self) -> dict[str, int]:
        """The state as a plain dict, {"seed": ..., "count": ...}."""
        return {"seed": self.seed, "count": self.count}

    def set_state(self, state: dict[str, int]) -> None:
        """Takes over a state that `get_state` gave.

        Raises:
            OptionError: If it is not such a dict.
        """
        fits = isinstance(state, dict) and set(state) == {"seed", "count"}
        if not fits or not all(isinstance(value, int) for value in state.values()) or state["count"] < 0:
            raise OptionError(explain("not a generator's state", expected="integers seed and count >= 0", given=state))
        self.seed, self.count = state["seed"], state["count"]
