"""n-best lists: hypotheses of a recogniser or translator, ordered anew with a language model.

total = score + weight · log P(hypothesis) + word penalty · words

The score is the list's own; log P is in its base.
"""

from __future__ import annotations

import math
import unicodedata
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from charlm.corpus.reading import Corpus
from charlm.corpus.records import BrokenLines
from charlm.engines.scores import SentenceScore
from charlm.errors import InputError
from charlm.options import names_keywords
from charlm.uses.nbest_formats import Format, Hypothesis, hypotheses, opened

if TYPE_CHECKING:
    from charlm.tasks.language_model import LanguageModel

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


class Rescored(NamedTuple):
    """A hypothesis with its new figures.

    list:     name of its list
    text:     the hypothesis
    score:    the list's own
    logprob:  log P by the model, in the base of the list
    total:    score + weight · log P + word penalty · words
    """

    list: str
    text: str
    score: float
    logprob: float
    total: float


@names_keywords
def rescore(
    model: LanguageModel,
    lists: str | Path | Iterable[str],
    *,
    weight: float = 1.0,
    word_penalty: float = 0.0,
    format: str | None = None,
    eos: bool = True,
    encoding: str = "utf-8",
    strict: bool = False,
    warn: Callable[[str], None] = warnings.warn,
) -> list[list[Rescored]]:
    """n-best lists, each with the best hypothesis first.

    lists:   a file, or its lines
    format:  of the lists, a name in `charlm.uses.nbest_formats.FORMATS`; None to guess it
    eos:     score the end of the line, too
    strict:  a line that is no hypothesis is an error
    warn:    takes a line about those that are skipped

    >>> lists = charlm.rescore(model, ["u-1 the cat sad", "u-2 the cat sat"])
    >>> [hypothesis.text for hypothesis in lists[0]]
    ['the cat sat', 'the cat sad']
    """
    name, lines = "the list", iter([] if isinstance(lists, str | Path) else lists)
    if isinstance(lists, str | Path):
        name, lines = str(lists), Corpus([lists], encoding=encoding, once=True).lines()
    kind, lines = opened(lines, format, name)
    broken = BrokenLines(name, strict, warn)
    score = partial(model.iter_scores, eos=eos)
    weights = Weights(weight, word_penalty)
    rows = [
        [
            Rescored(
                s.hypothesis.list,
                s.hypothesis.written_text,
                s.hypothesis.score,
                s.logprob,
                s.total(weights),
            )
            for s in scored
        ]
        for scored in scored_lists(hypotheses(kind, lines, name, broken), score, kind.base)
    ]
    return [sorted(row, key=lambda hypothesis: -hypothesis.total) for row in rows]


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
