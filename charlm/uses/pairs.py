"""Minimal pairs: does a model prefer the acceptable sentence?

Read are BLiMP's JSON lines (Warstadt et al. 2020), tables with two columns of sentences, and the
suites of SyntaxGym (Gauthier et al. 2020).
"""

from __future__ import annotations

import json
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from charlm.corpus.reading import Corpus
from charlm.corpus.records import BrokenLines, json_object, read_records
from charlm.engines.scores import SentenceScore
from charlm.errors import InputError
from charlm.uses.suites import Conditions, Suite, sentence_of

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

    A table is separated by tabs; one in a .csv file by commas, with a heading. Without a heading it
    has the acceptable sentence first, then the other one, and perhaps the phenomenon. A file that
    names no phenomenon is one itself. Raises InputError for a suite that is broken.
    """
    corpus = Corpus([path], encoding=encoding, once=True)
    if Path(path).suffix == ".json":
        yield from _suite_items("\n".join(corpus.lines()), broken.name)
        return
    if Path(path).suffix == ".csv":
        for records in read_records(path, encoding, GOOD, [BAD], broken):
            for record in records:
                yield _pair(record.fields, Path(path).stem)
        return
    columns: list[str] | None = None
    for number, line in enumerate(corpus.lines(), 1):
        values = line.split("\t")
        if {GOOD, BAD} <= set(values):
            columns = values
            continue
        try:
            if line.startswith("{"):
                yield _pair(json_object(line), Path(path).stem)
            elif line:
                yield _pair(_fields(values, columns), Path(path).stem)
        except ValueError as problem:
            broken.report(number, problem)


def _fields(values: Sequence[str], columns: Sequence[str] | None) -> dict[str, str]:
    columns = columns or (GOOD, BAD, "phenomenon")[: max(len(values), 2)]
    if len(values) != len(columns):
        raise ValueError(f"{len(values)} values separated by tabs; a pair has two sentences")
    return dict(zip(columns, values, strict=True))


def _pair(fields: Mapping[str, Any], file: str) -> Item:
    sentences = [fields.get(name) for name in (GOOD, BAD)]
    if not all(isinstance(sentence, str) for sentence in sentences):
        raise ValueError(f"no {GOOD!r} and {BAD!r}")
    phenomenon = next((str(fields[name]) for name in PHENOMENON if fields.get(name)), file)

    def judge(scores: Sequence[SentenceScore]) -> Verdicts:
        good, bad = scores
        # Unknown words may make sentences equal.
        if np.array_equal(good.ids, bad.ids) and math.isclose(good.logprob, bad.logprob):
            return [(phenomenon, TIE)]
        return [(phenomenon, RIGHT if good.logprob > bad.logprob else WRONG)]

    return Item([str(sentence) for sentence in sentences], judge)


def _suite_items(text: str, name: str) -> Iterator[Item]:
    """The items of a suite. Each prediction is a phenomenon, if there are several."""
    try:
        suite = Suite.parse(json.loads(text))
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
    for item in suite.items:

        def judge(scores: Sequence[SentenceScore], item: Conditions = item) -> Verdicts:
            verdicts = [RIGHT if holds else WRONG for holds in suite.judge(item, scores)]
            return list(zip(suite.names, verdicts, strict=True))

        yield Item([sentence_of(regions) for regions in item.values()], judge)
