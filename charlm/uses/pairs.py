"""Minimal pairs: does a model prefer the acceptable sentence?

Read are BLiMP's JSON lines (Warstadt et al. 2020), tables with two columns of sentences, and the
suites of SyntaxGym (Gauthier et al. 2020). The content of a file says what it is.
"""

from __future__ import annotations

import json
import math
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from charlm.corpus.reading import Corpus
from charlm.corpus.records import (
    BrokenLines,
    LineParser,
    Separated,
    delimiter_of,
    has_column,
    is_json_document,
    line_parser,
    objects_of,
    text_of,
)
from charlm.engines.scores import SentenceScore
from charlm.errors import InputError
from charlm.options import names_keywords
from charlm.uses.suites import Conditions, Suite, sentence_of

if TYPE_CHECKING:
    from charlm.tasks.language_model import LanguageModel

GOOD, BAD = "sentence_good", "sentence_bad"
PHENOMENON = ("UID", "phenomenon", "linguistics_term")  # names it; the first one that is there
RIGHT, WRONG, TIE = "right", "wrong", "tie"
NORMAL_95 = 1.959964  # standard deviations of 95 %


Verdicts: TypeAlias = Sequence[tuple[str, str]]  # phenomenon, and RIGHT, WRONG or TIE


@dataclass(frozen=True)
class Item:
    """Sentences that are compared, and how.

    sentences:  to be scored
    judge:      their scores -> the verdict on each phenomenon that they test
    """

    sentences: Sequence[str]
    judge: Callable[[Sequence[SentenceScore]], Verdicts]


@dataclass(frozen=True)
class Accuracy:
    """How often the acceptable sentence is the more probable one. A tie does not count as right."""

    phenomenon: str
    items: int
    right: int
    ties: int

    @property
    def accuracy(self) -> float:
        """The share of the items that are right."""
        return self.right / self.items

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy (Wilson 1927)."""
        n, p, z = self.items, self.accuracy, NORMAL_95
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(middle - half, 0.0), min(middle + half, 1.0)

    def to_json(self) -> dict[str, Any]:
        """The values under their names in JSON output."""
        low, high = self.interval
        return {
            "phenomenon": self.phenomenon,
            "items": self.items,
            "right": self.right,
            "ties": self.ties,
            "accuracy": self.accuracy,
            "low_95": low,
            "high_95": high,
        }


@names_keywords
def pairs(
    model: LanguageModel,
    items: str | Path | Iterable[tuple[str, str]],
    *,
    eos: bool = True,
    encoding: str = "utf-8",
    strict: bool = False,
    warn: Callable[[str], None] = warnings.warn,
) -> list[Accuracy]:
    """How often the acceptable sentence is the more probable one.

    items:   a file, see `read_items`; or pairs of the acceptable sentence and the other one
    eos:     score the end of the line, too
    strict:  a line of the file that is no pair is an error
    warn:    takes a line about those that are skipped

    >>> charlm.pairs(model, [("the cat sat", "the cat sad"), ("a bird", "a brid")])[0].right
    2
    """
    if isinstance(items, str | Path):
        broken = BrokenLines(str(items), strict, warn)
        found = list(read_items(str(items), encoding, broken))
    else:
        found = [_pair(dict(zip((GOOD, BAD), pair, strict=True)), "pairs") for pair in items]
    return accuracies(found, partial(model.iter_scores, eos=eos))


def accuracies(
    items: Iterable[Item], score: Callable[[Iterable[str]], Iterator[SentenceScore]]
) -> list[Accuracy]:
    """The accuracy for each phenomenon, in their order, and in total.

    score:  the scores of sentences, in their order
    """
    verdicts: dict[str, list[str]] = defaultdict(list)
    waiting: deque[Item] = deque()

    def sentences() -> Iterator[str]:
        for item in items:
            waiting.append(item)
            yield from item.sentences

    scores = score(sentences())
    for first in scores:
        item = waiting.popleft()
        rest = islice(scores, len(item.sentences) - 1)
        for phenomenon, verdict in item.judge([first, *rest]):
            verdicts[phenomenon].append(verdict)
    if len(verdicts) > 1:
        verdicts["total"] = list(chain.from_iterable(verdicts.values()))
    return [
        Accuracy(name, len(of_items), of_items.count(RIGHT), of_items.count(TIE))
        for name, of_items in verdicts.items()
    ]


def read_items(path: str, encoding: str, broken: BrokenLines) -> Iterator[Item]:
    """The items of a file.

    It has JSON lines, a JSON array, or a table with a heading, with the sentences in `GOOD` and
    `BAD`; or a table without a heading: the acceptable sentence first, then the other one, and
    perhaps the phenomenon; or it is a suite. A file that names no phenomenon is one itself. Raises
    InputError for a suite that is broken, and for a file without any pair.
    """
    lines = list(Corpus([path], encoding=encoding, once=True).lines())
    first = next(filter(str.strip, lines), "")
    document = _json_document(lines) if first.lstrip()[:1] in "{[" else None
    if isinstance(document, dict) and GOOD not in document:
        yield from _suite_items(document, broken.name)
        return
    if isinstance(document, list):
        lines = [json.dumps(value) for value in objects_of(document, broken.name)]
        first = next(iter(lines), "")
    elif is_json_document(first):
        raise InputError(f"{broken.name}: not JSON; a suite or an array is one JSON value")
    parse, read = _pair_parser(first, broken.name, path), 0
    for number, line in enumerate(lines, 1):
        try:
            if fields := parse(line):
                yield _pair(fields, Path(path).stem)
                read += 1
        except ValueError as problem:
            broken.report(number, problem)
    broken.finish(read)


def _json_document(lines: Sequence[str]) -> Any:
    """The JSON value of a file; None if it is not one value."""
    try:
        return json.loads("\n".join(lines))
    except ValueError:
        return None


def _pair_parser(first: str, name: str, path: str) -> LineParser:
    """The parser of JSON lines, or of a table with or without a heading."""
    if first.lstrip()[:1] in "{[" or has_column(first, GOOD):
        return line_parser(first, (GOOD, BAD), name, path)
    table = Separated(delimiter_of(first, (), path), (), name)

    columns = [GOOD, BAD, "phenomenon"]
    table.heading = columns[: max(len(table.values(first)), 2)]
    return table


def _pair(fields: Mapping[str, Any], file: str) -> Item:
    sentences = [text_of(fields, name) for name in (GOOD, BAD)]
    phenomenon = next((str(fields[name]) for name in PHENOMENON if fields.get(name)), file)

    def judge(scores: Sequence[SentenceScore]) -> Verdicts:
        good, bad = scores
        # Unknown words may make sentences equal.
        if np.array_equal(good.ids, bad.ids) and math.isclose(good.logprob, bad.logprob):
            return [(phenomenon, TIE)]
        return [(phenomenon, RIGHT if good.logprob > bad.logprob else WRONG)]

    return Item(sentences, judge)


def _suite_items(value: Mapping[str, Any], name: str) -> Iterator[Item]:
    """The items of a suite. Each prediction is a phenomenon, if there are several."""
    try:
        suite = Suite.parse(value)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
    for item in suite.items:

        def judge(scores: Sequence[SentenceScore], item: Conditions = item) -> Verdicts:
            verdicts = [RIGHT if holds else WRONG for holds in suite.judge(item, scores)]
            return list(zip(suite.names, verdicts, strict=True))

        yield Item([sentence_of(regions) for regions in item.values()], judge)
