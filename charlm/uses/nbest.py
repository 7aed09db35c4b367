"""n-best lists: hypotheses of a recogniser or translator, ordered anew with a language model.

total = score + weight · log P(hypothesis) + word penalty · words

The score is the list's own; log P is in its base.
"""

from __future__ import annotations

import math
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import NamedTuple

import numpy as np

from charlm.engines.scores import SentenceScore
from charlm.errors import InputError
from charlm.uses.nbest_formats import Format, Hypothesis

GRID = (0.0, *(0.01 * 1.5**k for k in range(18)))  # weights that are tried


@dataclass(frozen=True)
class Weights:
    """The weights of the terms of a total."""

    language_model: float = 1.0
    word_penalty: float = 0.0


class ScoredHypothesis(NamedTuple):
    """A hypothesis, and its log P in the base of its list."""

    hypothesis: Hypothesis
    logprob: float

    def total(self, weights: Weights) -> float:
        """The figure that orders the list, the highest first."""
        penalty = weights.word_penalty * self.hypothesis.words
        return self.hypothesis.score + weights.language_model * self.logprob + penalty


def scored_lists(
    hypotheses: Iterable[Hypothesis],
    score: Callable[[Iterable[str]], Iterator[SentenceScore]],
    base: float,
) -> Iterator[list[ScoredHypothesis]]:
    """The lists, in their order, with the log P of the hypotheses.

    score:  the scores of sentences, in their order
    base:   of the logarithms of the lists
    """
    waiting: deque[Hypothesis] = deque()

    def texts() -> Iterator[str]:
        for hypothesis in hypotheses:
            waiting.append(hypothesis)
            yield hypothesis.text

    def scored() -> Iterator[ScoredHypothesis]:
        for of_text in score(texts()):
            yield ScoredHypothesis(waiting.popleft(), of_text.logprob / math.log(base))

    for _, group in groupby(scored(), lambda scored: scored.hypothesis.list):
        yield list(group)


def best_texts(lists: Iterable[list[ScoredHypothesis]], weights: Weights) -> Iterator[str]:
    """The text of the best hypothesis of each list."""
    for scored in lists:
        yield max(scored, key=lambda s: s.total(weights)).hypothesis.written_text


def rescored(
    format: Format, lists: Iterable[list[ScoredHypothesis]], weights: Weights
) -> Iterator[str]:
    """The lines of the lists of a file, with the new scores, in the order of the format."""
    for number, scored in enumerate(lists):
        if not number and (heading := format.heading()):
            yield heading
        if format.is_sorted:
            scored = sorted(scored, key=lambda s: -s.total(weights))
        for s in scored:
            yield format.written(s.hypothesis, s.logprob, s.total(weights))


@dataclass(frozen=True)
class Tuned:
    """Weights with few errors on lists whose references are known.

    errors:   wrong words in the first hypotheses of the lists, ordered by these weights
    before:   ordered by the scores of the lists alone
    fewest:   in the hypotheses with the fewest wrong words
    words:    of the references
    """

    weights: Weights
    errors: int
    before: int
    fewest: int
    words: int


def tuned(lists: Sequence[Sequence[ScoredHypothesis]], references: Sequence[str]) -> Tuned:
    """The weights with the fewest errors, by a search over a grid that is refined.

    Of equal ones the smallest weights are taken. Raises InputError unless there is a reference for
    each list.
    """
    if len(lists) != len(references):
        raise InputError(f"{len(references)} references for {len(lists)} lists; give one for each")
    tables = [
        np.array([_row(s, _words(reference)) for s in scored], np.float64)
        for scored, reference in zip(lists, references, strict=True)
    ]

    def errors(weights: Weights) -> int:
        factors = np.array([1.0, weights.language_model, weights.word_penalty])
        return int(sum(table[(table[:, :3] @ factors).argmax(), 3] for table in tables))

    def best_of(candidates: Iterable[tuple[float, float]]) -> Weights:
        return min((Weights(*pair) for pair in candidates), key=errors)

    best = best_of(product(GRID, sorted((*GRID, *(-g for g in GRID)), key=abs)))
    for ratio in (1.25, 1.1, 1.05):
        finer = (1.0, 1 / ratio, ratio)
        best = best_of(
            (best.language_model * x, best.word_penalty * y) for x, y in product(finer, finer)
        )
    fewest = sum(int(table[:, 3].min()) for table in tables)
    words = sum(len(reference.split()) for reference in references)
    return Tuned(best, errors(best), errors(Weights(0.0, 0.0)), fewest, words)


def _row(scored: ScoredHypothesis, reference: Sequence[str]) -> tuple[float, float, int, int]:
    """The three terms of the total, and the number of wrong words."""
    hypothesis = scored.hypothesis
    wrong = edits(_words(hypothesis.text), reference)
    return hypothesis.score, scored.logprob, hypothesis.words, wrong


def _words(text: str) -> list[str]:
    return unicodedata.normalize("NFC", text).split()


def edits(words: Sequence[str], reference: Sequence[str]) -> int:
    """The least number of words to insert, delete or replace (Levenshtein 1966).

    >>> edits("a pair salad".split(), "the pear salad".split())
    2
    """
    row = list(range(len(reference) + 1))
    for number, word in enumerate(words, 1):
        above, row = row, [number]
        for k, other in enumerate(reference):
            row.append(min(above[k] + (word != other), above[k + 1] + 1, row[k] + 1))
    return row[-1]
