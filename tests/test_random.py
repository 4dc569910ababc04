"""The random streams: fixed numbers, distributions, independence of keys."""

import itertools
import pickle

import numpy as np
import pytest
from scipy import special, stats

from gradloom import random
from gradloom.errors import DTypeError, OptionError
from gradloom.random import (
    Generator,
    bernoulli_mask,
    bits16,
    key,
    normal,
    permutation,
    randint,
    truncated_normal,
    uniform,
)

N = 200_000
DRAWS = {
    "bits16": lambda k, n: bits16(k, n),
    "uniform": lambda k, n: uniform(k, n),
    "normal": lambda k, n: normal(k, n),
    "truncated_normal": lambda k, n: truncated_normal(k, n),
    "randint": lambda k, n: randint(k, n, -7, 10**6),
    "bernoulli_mask": lambda k, n: bernoulli_mask(k, n, 0.3),
    "permutation": lambda k, n: permutation(k, n),
}


# --- fixed numbers: these change only with a new person= in random.key, and break every saved run when they do ---

GOLDEN = key(42, "layer.weight", 7)


def test_golden_keys():
    assert GOLDEN == 0xAEA3E9BDE8966336CAC2AB591326DAF
    assert key(0) == 0x799C57F5C0BD396938DABF1FAF8BA825
    assert key(-1, "é") == 0x68992F52F478DCF78E995FA41B5FDD91


def philox_words(key, count):
    """Philox 4x64 with 10 rounds in plain Python, as the paper has it; NumPy counts from 1."""
    mask, words = 2**64 - 1, []
    for counter in range(1, count // 4 + 2):
        x, k = [counter, 0, 0, 0], [key & mask, key >> 64]
        for _ in range(10):
            a, b = x[0] * 0xD2E7470EE14C6C93, x[2] * 0xCA5A826395121157
            x = [(b >> 64) ^ x[1] ^ k[0], b & mask, (a >> 64) ^ x[3] ^ k[1], a & mask]
            k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
        words += x
    return words[:count]


def test_words_are_those_of_the_paper():
    words = philox_words(GOLDEN, 9)
    assert bits16(GOLDEN, 36).tolist() == [w >> shift & 0xFFFF for w in words for shift in (0, 16, 32, 48)]
    assert uniform(GOLDEN, 9, dtype="float64").tolist() == [(w >> 11) / 2**53 for w in words]
    for low, high in [(-5, 1000), (0, 1), (-(2**63), 2**63), (-(2**63), 2**63 - 1), (3, 2**40), (0, 2**32)]:
        assert randint(GOLDEN, 9, low, high).tolist() == [low + (w * (high - low) >> 64) for w in words]
    assert permutation(GOLDEN, 9).tolist() == sorted(range(9), key=words.__getitem__)


def test_permutation_is_the_stable_order_of_its_words():
    n = 300_000  # at which some words have equal upper halves
    words = np.random.Philox(key=GOLDEN).random_raw(n)
    assert len(np.unique(words >> np.uint64(32))) < n
    np.testing.assert_array_equal(permutation(GOLDEN, n), np.argsort(words, kind="stable"))
    assert permutation(GOLDEN, 0).tolist() == [] and permutation(GOLDEN, 1).tolist() == [0]


def test_golden_numbers():
    assert bits16(GOLDEN, 5).tolist() == [63448, 53915, 31626, 32211, 26730]
    assert uniform(GOLDEN, 3, dtype="float64").tolist() == [0.4915082181856716, 0.8112187184482181, 0.6640782185923984]
    # Bit for bit on every platform: only exactly rounded operations are used.
    expected = [-0.021287348019682725, 0.8823962496522091, 0.42361918322088876, -0.7224062099470908]
    assert normal(GOLDEN, 4, dtype="float64").tolist() == expected
    assert normal(GOLDEN, N, dtype="float64")[78441] == float.fromhex("-0x1.37ca88f253185p+2")  # a far tail
    cut = truncated_normal(GOLDEN, 3, low=-1.0, high=0.5, dtype="float64")
    np.testing.assert_allclose(cut, [-0.2005266083948905, 0.2298052148587904, 0.03129011965233004], rtol=1e-14)
    assert randint(GOLDEN, 6, -5, 1000).tolist() == [488, 810, 662, 231, 310, 228]
    assert permutation(GOLDEN, 8).tolist() == [5, 3, 4, 0, 2, 7, 1, 6]
    assert np.flatnonzero(bernoulli_mask(GOLDEN, 12, 0.3)).tolist() == [6, 8, 10]


# --- keys ---


def test_keys_differ():
    parts = [(), (0,), ("0",), ("",), ("a",), ("a", "b"), ("ab",), ("b", "a"), (1,), (-1,), (2**70,), (1, 1), (11,)]
    keys = [key(seed, *p) for seed in (0, 1, -1, 2**64) for p in parts]
    assert len(set(keys)) == len(keys)
    assert all(0 <= k < 2**128 for k in keys)
    assert key(np.int64(3), np.uint8(1)) == key(3, 1)


@pytest.mark.parametrize("wrong", [1.0, None, b"a", ("a",)])
def test_keys_are_of_integers_and_strings(wrong):
    with pytest.raises(OptionError, match="integers and strings"):
        key(0, wrong)


def test_streams_are_independent():
    draws = np.stack([normal(key(0, "w", i), 4000, dtype="float64") for i in range(40)])
    correlation = np.corrcoef(draws)[np.triu_indices(40, 1)] * np.sqrt(4000)
    assert np.abs(correlation).max() < 5 and abs(correlation.std() - 1) < 0.1
    first = np.array([uniform(key(seed), 1, dtype="float64")[0] for seed in range(4000)])  # across seeds
    assert stats.kstest(first, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.06


# --- all draws ---


@pytest.mark.parametrize("draw", DRAWS)
def test_a_draw_is_a_function_of_its_key(draw):
    f = DRAWS[draw]
    state = np.random.get_state()[1].tolist()
    assert np.array_equal(f(GOLDEN, 100), f(GOLDEN, 100))
    assert not np.array_equal(f(GOLDEN, 100), f(GOLDEN + 1, 100))
    assert np.random.get_state()[1].tolist() == state
    assert f(GOLDEN, 0).shape == (0,)
    if draw != "permutation":
        many = f(GOLDEN, 2 * random._CHUNK + 7)  # a longer draw starts with the shorter one, across chunks too
        assert np.array_equal(f(GOLDEN, random._CHUNK + 3), many[: random._CHUNK + 3])


@pytest.mark.parametrize("draw", ["uniform", "normal", "truncated_normal"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_shapes_and_dtypes(draw, dtype):
    pytest.importorskip("ml_dtypes")
    f = getattr(random, draw)
    for shape in [(), (0, 3), (2, 3), [4], 5, np.int64(5)]:
        got = f(GOLDEN, shape, dtype=dtype)
        assert got.shape == np.empty(shape).shape and got.dtype.name == dtype
        assert np.array_equal(got, f(GOLDEN, shape, dtype="float64").astype(got.dtype))
    assert f(GOLDEN, 2).dtype == np.float32
    with pytest.raises(DTypeError, match="int32"):
        f(GOLDEN, 2, dtype="int32")


def test_other_shapes():
    for shape in [(), (0, 3), (2, 3), 5, np.int64(5)]:
        assert randint(GOLDEN, shape, 0, 3).shape == bernoulli_mask(GOLDEN, shape, 0.5).shape == np.empty(shape).shape


# --- distributions ---


def test_uniform():
    x = uniform(key(1), N, -2.0, 3.0, dtype="float64")
    assert stats.kstest(x, "uniform", (-2, 5)).pvalue > 0.01
    assert x.min() >= -2 and x.max() < 3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, -1.0), (1000.0, 1004.0), (0.1, 0.3), (1.0, 1.0)])
def test_uniform_is_below_high_in_every_dtype(dtype, low, high):
    pytest.importorskip("ml_dtypes")
    x = uniform(key(2), N, low, high, dtype=dtype)
    smallest = float(np.array(low).astype(x.dtype))
    assert float(x.min()) >= smallest
    assert float(x.max()) < high or float(x.max()) == smallest


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-5.0, 0.02)])
def test_normal(mean, std):
    z = (normal(key(3), N, mean, std, dtype="float64") - mean) / std
    assert stats.kstest(z, "norm").pvalue > 0.01
    for power, expected, spread in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((z**power).mean() - expected) < 4 * np.sqrt(spread / N)
    assert np.all(normal(key(3), 5, 2.0, 0.0) == 2.0)


def test_inverse_cdf_and_log_are_scipys():
    p = np.concatenate(
        [2.0 ** -np.linspace(0.01, 990, 50_000), np.linspace(0.001, 0.999, 50_000), [2.0**-53, 1 - 2.0**-53]]
    )
    np.testing.assert_allclose(random._inverse_cdf(p), special.ndtri(p), rtol=3e-15, atol=1e-17)
    x = np.concatenate([10.0 ** np.linspace(-300, 300, 50_000), np.linspace(0.4, 2.5, 50_000)])
    np.testing.assert_allclose(random._log(x), np.log(x), rtol=4e-16, atol=0)
    words = np.array([0, 2**64 - 1], np.uint64)
    assert random._open_uniform(words).tolist() == [2.0**-53, 1 - 2.0**-53]


@pytest.mark.parametrize(
    ("low", "high"), [(-2, 2), (0, np.inf), (-np.inf, 0.5), (-1, 6), (4, 5), (-9, -7), (20, 21), (-36, -35), (3, 3.001)]
)
def test_truncated_normal(low, high):
    z = truncated_normal(key(4), N, 10.0, 2.0, 10 + 2 * low, 10 + 2 * high, dtype="float64")
    assert z.min() >= 10 + 2 * low and z.max() <= 10 + 2 * high
    expected = stats.truncnorm(low, high).cdf
    assert stats.kstest((z - 10) / 2, expected).pvalue > 0.01
    assert len(np.unique(z)) > 0.99 * N


def test_truncated_normal_at_the_end_of_its_words(monkeypatch):
    class Highest:
        def __init__(self, key):
            pass

        def random_raw(self, n):
            return np.full(n, 2**64 - 1, np.uint64)

    monkeypatch.setattr(np.random, "Philox", Highest)
    assert 8 < truncated_normal(0, 1, low=0.0, high=np.inf)[0] < 8.3
    assert normal(0, 1, dtype="float64")[0] == pytest.approx(special.ndtri(1 - 2.0**-53))
    assert uniform(0, 1)[0] == np.nextafter(np.float32(1), np.float32(0))


def test_randint():
    x = randint(key(5), N, -3, 7)
    assert x.dtype == np.int64
    counts = np.bincount(x + 3, minlength=10)
    assert len(counts) == 10 and stats.chisquare(counts).pvalue > 0.01
    wide = randint(key(5), N, -(2**63), 2**63) / 2.0**63
    assert stats.kstest(wide, "uniform", (-1, 2)).pvalue > 0.01


def test_permutation():
    for n in (0, 1, 2, 1000):
        assert np.array_equal(np.sort(permutation(key(6), n)), np.arange(n))
    seen = [tuple(permutation(key(6, i), 3)) for i in range(3000)]
    counts = [seen.count(p) for p in itertools.permutations(range(3))]
    assert sum(counts) == 3000 and stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 65535 / 65536, 1.0])
def test_bernoulli_mask(keep):
    mask = bernoulli_mask(key(7), (N // 100, 100), keep)
    assert mask.dtype == bool
    assert abs(mask.mean() - keep) <= 4 * np.sqrt(keep * (1 - keep) / N)
    assert stats.chisquare(np.bincount(bits16(key(7), N) >> 8, minlength=256)).pvalue > 0.01


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: bernoulli_mask(0, 2, 1.5), "given:    1.5"),
        (lambda: bernoulli_mask(0, 2, float("nan")), "keep is a probability"),
        (lambda: uniform(0, 2, 1.0, 0.0), "low=1.0, high=0.0"),
        (lambda: uniform(0, 2, 0.0, float("inf")), "high=inf"),
        (lambda: normal(0, 2, std=-1.0), "std=-1.0"),
        (lambda: truncated_normal(0, 2, low=1.0, high=1.0), "low < high"),
        (lambda: truncated_normal(0, 2, std=0.0), "std > 0"),
        (lambda: truncated_normal(0, 2, low=40.0, high=41.0), "given:    40 std"),
        (lambda: truncated_normal(0, 2, low=-41.0, high=-40.0), "given:    40 std"),
        (lambda: randint(0, 2, 3, 3), "low=3, high=3"),
        (lambda: randint(0, 2, 0, 2**64), "within int64"),
    ],
)
def test_options_are_checked(call, text):
    with pytest.raises(OptionError, match=text):
        call()


# --- Generator ---


def test_generator():
    g = Generator(5)
    keys = [g.next_key(), g.next_key(), g.next_key("dropout")]
    assert keys == [key(5, "", 0), key(5, "", 1), key(5, "dropout", 2)]
    state = g.get_state()
    assert state == {"seed": 5, "count": 3}
    after = g.next_key()
    other = Generator()
    other.set_state(state)
    assert other.next_key() == after and other.get_state() == g.get_state()
    assert state == {"seed": 5, "count": 3}  # a copy
    assert g.manual_seed(5) is g and g.next_key() == keys[0]
    assert pickle.loads(pickle.dumps(g)).next_key() == g.next_key()
    assert {g: 1}[g] == 1 and g != Generator(5, g.count)  # by identity: an owner may be a key


@pytest.mark.parametrize("state", [{}, {"seed": 1}, {"seed": 1, "count": -1}, {"seed": "1", "count": 0}, None, [1, 2]])
def test_generator_refuses_other_states(state):
    g = Generator(1, 2)
    with pytest.raises(OptionError, match="not a generator's state"):
        g.set_state(state)
    assert g.get_state() == {"seed": 1, "count": 2}
