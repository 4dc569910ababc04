"""Metrics of texts: perplexity, BLEU, ROUGE, word and character error rates."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ... import ops
from ...errors import DTypeError, OptionError, ShapeError, explain
from .base import Accumulator, Metric, at_least, choice
from .inputs import MetricInputError, describe, kind_and_shape
from .regression import _Errors
from .state import Count, Total

Words = Sequence[str]


class _Tokens(_Errors):
    """Sums of -log(p) of tokens, of logits."""

    def __init__(self, ignore_index: int | None):
        super().__init__("Perplexity", 1, lambda p, t: None)
        self.ignore_index = ignore_index

    def fits(self, a: Any, b: Any) -> None:
        (kind, shape), (target_kind, target_shape) = kind_and_shape(a), kind_and_shape(b)
        if shape[:-1] != target_shape or len(shape) < 2:
            raise ShapeError(
                explain(
                    "Perplexity: logits and targets do not fit together",
                    expected="logits (N, T, V) with tokens (N, T)",
                    given=f"logits {describe(a)}, targets {describe(b)}",
                )
            )
        if kind != "float" or target_kind == "float":
            raise DTypeError(
                explain(
                    "Perplexity takes logits and tokens",
                    expected="floats (N, T, V) with integers (N, T)",
                    given=f"logits {describe(a)}, targets {describe(b)}",
                )
            )

    def _later(self, arrays: tuple) -> None:
        self.fits(*arrays)
        Accumulator._later(self, arrays)

    def check(self, a: np.ndarray, b: np.ndarray) -> Callable:
        self.fits(a, b)
        return lambda x, t: (x.reshape(-1, x.shape[-1]), t.reshape(-1))

    def reduce(self, x: np.ndarray, t: np.ndarray) -> None:
        if self.ignore_index is not None:
            keep = t != self.ignore_index
            x, t = x[keep], t[keep]
        if not len(t):
            return
        if t.min() < 0 or t.max() >= x.shape[1]:
            raise MetricInputError(
                explain(
                    "Perplexity: a target is no token",
                    expected=f"0 to {x.shape[1] - 1}",
                    given=f"{t.min()} to {t.max()}",
                    do="ignore_index= leaves out targets of one value",
                )
            )
        x = x.astype(np.float64)
        x -= x.max(1, keepdims=True)
        own = x[np.arange(len(t)), t]
        np.exp(x, out=x)
        self.states["total"].add(np.array([(np.log(x.sum(1)) - own).sum()]))
        self.states["count"].add(len(t))


class Perplexity(Metric):
    """exp of the mean of -log(p) of the target tokens, with p the softmax of logits. NaN among the logits gives NaN.

    `update(logits, targets)`: floats (N, T, V) (or (N, V)) with integers (N, T). Log-probabilities are logits as well.

    Args:
        ignore_index: Targets of this value (padding) are left out.

    Source: torchmetrics' `Perplexity`; exp of PyTorch's `cross_entropy`.

    Example:
        >>> perplexity = Perplexity()
        >>> perplexity.update([[[0.0, 0.0], [0.0, 0.0]]], [[1, 0]])
        >>> round(perplexity.compute(), 6)
        2.0
    """

    name = "perplexity"
    higher_is_better = False
    has_in_step = True

    def __init__(self, ignore_index: int | None = None):
        at_least("Perplexity", -(2**63), ignore_index=ignore_index)
        self.ignore_index = ignore_index
        super().__init__()

    def _accumulator(self) -> _Tokens:
        return _Tokens(self.ignore_index)

    def _result(self, seen: _Tokens) -> float:
        count = seen.states["count"].value
        mean = float(seen.states["total"].value[0]) / count if count else math.nan
        return math.exp(mean) if not mean > 709 else math.inf

    def in_step(self, outputs: Any, targets: Any) -> dict[str, Any]:
        """The sum of -log(p), and the number of tokens, of ops in the dtype of the logits."""
        self._acc.fits(outputs, targets)
        size: Any = math.prod(targets.shape)
        rows = ops.reshape(outputs, shape=(size, outputs.shape[-1]))
        tokens = ops.reshape(targets, shape=(size,))
        ignore = -100 if self.ignore_index is None else self.ignore_index
        count = size if self.ignore_index is None else ops.sum(ops.not_equal(tokens, ignore))
        return {"total": ops.cross_entropy(rows, tokens, reduction="sum", ignore_index=ignore), "count": count}

    def absorb(self, shares: Any) -> None:
        self._acc.absorb(shares)


class _Texts(Accumulator):
    """Counts of pairs of texts: `add(states, prediction, target)` is called for each."""

    def __init__(self, owner: str, add: Callable, several: bool, **states: Any):
        self.owner, self._add, self._several = owner, add, several
        super().__init__(**states)

    def update(self, preds: Any, target: Any) -> None:
        if isinstance(preds, str):
            preds, target = [preds], [target]
        if isinstance(target, str) or len(preds) != len(target):
            raise ShapeError(
                explain(
                    f"{self.owner}: predictions and targets are not as many",
                    expected="a list of texts, and a list with the target of each",
                    given=f"{len(preds)} predictions, {1 if isinstance(target, str) else len(target)} targets",
                )
            )
        pairs = []
        for p, t in zip(preds, target, strict=True):
            t = [t] if self._several and isinstance(t, str) else t
            texts = [p, *t] if self._several and isinstance(t, (list, tuple)) else [p, t]
            if not all(isinstance(text, str) for text in texts) or len(texts) < 2:
                raise DTypeError(
                    explain(
                        f"{self.owner} takes texts",
                        expected="str" + (" with a str or a list of them as target" if self._several else " for both"),
                        given=f"{p!r} with {t!r}"[:200],
                    )
                )
            pairs.append((p, t))
        for p, t in pairs:  # all are texts: nothing is counted of a batch that is refused
            self._add(self.states, p, t)


class BLEUScore(Metric):
    """BLEU of a corpus: the geometric mean of clipped n-gram precisions, times a penalty for being short.

    `update(preds, target)`: a list of texts, and a list with the target, or the list of targets, of each. 0 where an n-gram
    order has no hit; NaN where nothing was seen.

    Args:
        n_gram: The largest order of n-grams.
        smooth: Adds one to the counts of orders above 1 (Lin and Och 2004).
        weights: A weight for each order; default: 1 / n_gram.
        tokenizer: Makes a list of words of a text.

    Source: Papineni et al. (2002); torchmetrics' `BLEUScore`, sacrebleu with tokenize="none" (which gives percent).

    Example:
        >>> bleu = BLEUScore()
        >>> bleu.update(["the cat is on the mat"], [["there is a cat on the mat", "a cat is on the mat"]])
        >>> round(bleu.compute(), 4)
        0.7598
    """

    name = "bleu_score"
    higher_is_better = True

    def __init__(
        self,
        n_gram: int = 4,
        smooth: bool = False,
        weights: Sequence[float] | None = None,
        tokenizer: Callable[[str], Words] = str.split,
    ):
        at_least("BLEUScore", 1, n_gram=n_gram)
        if weights is not None and len(weights) != n_gram:
            raise OptionError(explain("BLEUScore: a weight for each order", expected=n_gram, given=len(weights)))
        self.n_gram, self.smooth, self.weights, self.tokenizer = n_gram, smooth, weights, tokenizer
        super().__init__()

    def _accumulator(self) -> _Texts:
        shape = (self.n_gram,)
        return _Texts("BLEUScore", self._add, True, hits=Count(shape), total=Count(shape), lengths=Count((2,)))

    def _add(self, states: dict, pred: str, targets: Sequence[str]) -> None:
        words, references = list(self.tokenizer(pred)), [list(self.tokenizer(t)) for t in targets]
        closest = min((abs(len(r) - len(words)), i) for i, r in enumerate(references))[1]
        states["lengths"].add(np.array([len(words), len(references[closest])]))
        for n in range(1, self.n_gram + 1):
            found, allowed = ngrams(words, n), Counter[tuple[str, ...]]()
            for r in references:
                allowed |= ngrams(r, n)
            states["hits"].value[n - 1] += sum((found & allowed).values())
            states["total"].value[n - 1] += sum(found.values())

    def _result(self, seen: _Texts) -> float:
        hits, total = (seen.states[k].value.astype(np.float64) for k in ("hits", "total"))
        length, wanted = map(int, seen.states["lengths"].value)
        if not length + wanted:
            return math.nan
        if not hits.all():
            return 0.0
        if self.smooth:
            hits[1:], total[1:] = hits[1:] + 1, total[1:] + 1
        weights = np.full(self.n_gram, 1 / self.n_gram) if self.weights is None else np.asarray(self.weights)
        penalty = 1.0 if length > wanted else math.exp(1 - wanted / length)
        return penalty * math.exp(float((weights * np.log(hits / total)).sum()))


class ROUGEScore(Metric):
    """ROUGE: overlaps of n-grams ("rouge1", "rouge2", ...) or the longest common subsequence ("rougeL"), mean over texts.

    `update(preds, target)` as `BLEUScore`. `compute()` gives a dict: `rouge1_precision`, `rouge1_recall`, `rouge1_fmeasure`, ...
    Texts are lower-cased, and words are runs of a to z and 0 to 9.

    Args:
        rouge_keys: One key, or several.
        accumulate: Of several targets take the "best" (by its fmeasure) or the mean ("avg").
        tokenizer: Makes a list of words of a text; default: as above.

    Source: Lin (2004); the package rouge-score (without stemmer); torchmetrics' `ROUGEScore`.

    Example:
        >>> rouge = ROUGEScore(rouge_keys="rougeL")
        >>> rouge.update("the cat sat", "the cat is here")
        >>> round(rouge.compute()["rougeL_fmeasure"], 4)
        0.5714
    """

    name = "rouge"
    higher_is_better = True

    def __init__(
        self,
        rouge_keys: str | Sequence[str] = ("rouge1", "rouge2", "rougeL"),
        accumulate: str = "best",
        tokenizer: Callable[[str], Words] | None = None,
    ):
        self.rouge_keys = (rouge_keys,) if isinstance(rouge_keys, str) else tuple(rouge_keys)
        for key in self.rouge_keys:
            if not re.fullmatch(r"rouge([1-9]|L)", key):
                raise OptionError(explain("ROUGEScore: unknown key", expected="rouge1 to rouge9, rougeL", given=key))
        self.accumulate = choice("ROUGEScore", "accumulate", accumulate, ("best", "avg"))
        self.tokenizer = tokenizer
        super().__init__()

    def _accumulator(self) -> _Texts:
        return _Texts("ROUGEScore", self._add, True, scores=Total((len(self.rouge_keys), 3)), count=Count())

    def _add(self, states: dict, pred: str, targets: Sequence[str]) -> None:
        tokenize = self.tokenizer or (lambda text: re.findall(r"[a-z0-9]+", text.lower()))
        words, references = list(tokenize(pred)), [list(tokenize(t)) for t in targets]
        rows = []
        for key in self.rouge_keys:
            scores = [_rouge(key[5:], words, r) for r in references]
            best = max(scores, key=lambda score: score[2])  # of equal ones the first
            rows.append(best if self.accumulate == "best" else tuple(np.mean(scores, 0)))
        states["scores"].add(np.array(rows))
        states["count"].add(1)

    def _result(self, seen: _Texts) -> dict[str, float]:
        count = seen.states["count"].value
        means = seen.states["scores"].value / (count or math.nan)
        parts = ("precision", "recall", "fmeasure")
        return {
            f"{k}_{part}": float(means[i, j]) for i, k in enumerate(self.rouge_keys) for j, part in enumerate(parts)
        }


def _rouge(kind: str, words: list[str], reference: list[str]) -> tuple[float, float, float]:
    """Precision, recall and their harmonic mean."""
    if kind == "L":
        hits, found, wanted = common(words, reference), len(words), len(reference)
    else:
        a, b = ngrams(words, int(kind)), ngrams(reference, int(kind))
        hits, found, wanted = sum((a & b).values()), sum(a.values()), sum(b.values())
    if not hits:
        return 0.0, 0.0, 0.0
    precision, recall = hits / found, hits / wanted
    return precision, recall, 2 * precision * recall / (precision + recall)


class WordErrorRate(Metric):
    """Word edits (substitutions, insertions, deletions) that make the targets of the predictions, per word of the targets.

    `update(preds, target)`: two lists of texts, or two texts. Words are parted by blanks. It can be above 1; without any word
    in the targets it is NaN.

    Source: torchmetrics' `WordErrorRate`; jiwer's `wer`.

    Example:
        >>> wer = WordErrorRate()
        >>> wer.update(["this is the prediction"], ["this is the reference"])
        >>> wer.compute()
        0.25
    """

    name = "word_error_rate"
    higher_is_better = False

    def _accumulator(self) -> _Texts:
        return _Texts(type(self).__name__, self._add, False, edits=Count(), length=Count())

    def _add(self, states: dict, pred: str, target: str) -> None:
        found, wanted = self._units(pred), self._units(target)
        states["edits"].add(edits(found, wanted))
        states["length"].add(len(wanted))

    def _units(self, text: str) -> Words:
        return text.split()

    def _result(self, seen: _Texts) -> float:
        length = seen.states["length"].value
        return seen.states["edits"].value / length if length else math.nan


class CharErrorRate(WordErrorRate):
    """Character edits that make the targets of the predictions, per character of the targets; as `WordErrorRate`.

    Source: torchmetrics' `CharErrorRate`; jiwer's `cer`.

    Example:
        >>> cer = CharErrorRate()
        >>> cer.update("abcd", "abce")
        >>> cer.compute()
        0.25
    """

    name = "char_error_rate"

    def _units(self, text: str) -> Words:
        return text


def ngrams(words: Words, n: int) -> Counter:
    """How often each run of n words occurs."""
    return Counter(zip(*[words[i:] for i in range(n)], strict=False))


def _places(words: Words) -> dict[str, int]:
    """A bit mask of the places of each word."""
    masks: dict[str, int] = {}
    for i, word in enumerate(words):
        masks[word] = masks.get(word, 0) | 1 << i
    return masks


def edits(a: Words, b: Words) -> int:
    """The Levenshtein distance, a whole column of the table at a time in the bits of one integer (Myers 1999, Hyyrö 2003).

    Example:
        >>> edits("kitten", "sitting")
        3
    """
    if not a or not b:
        return len(a) + len(b)
    places, full, last = _places(a), (1 << len(a)) - 1, 1 << (len(a) - 1)
    up, down, distance = full, 0, len(a)  # where the column rises and falls by one
    for word in b:
        match = places.get(word, 0)
        level = (((match & up) + up) ^ up) | match | down
        right_up, right_down = down | ~(level | up) & full, level & up
        distance += bool(right_up & last) - bool(right_down & last)
        right_up, right_down = (right_up << 1 | 1) & full, (right_down << 1) & full
        up, down = right_down | ~(level | right_up) & full, right_up & level
    return distance


def common(a: Words, b: Words) -> int:
    """The length of the longest common subsequence, in the bits of one integer (Hyyrö 2004).

    Example:
        >>> common("ABCBDAB", "BDCABA")
        4
    """
    places, full = _places(a), (1 << len(a)) - 1
    column = full
    for word in b:
        match = column & places.get(word, 0)
        column = ((column + match) | (column - match)) & full
    return len(a) - column.bit_count()
