"""Filtering: lines are kept, or put into files, by their surprisal in bits per character."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from typing import NamedTuple, Protocol

import numpy as np

from charlm.corpus.reading import Corpus
from charlm.corpus.records import BrokenLines, json_object
from charlm.engines.scores import SentenceScore

FIELD = "bits_per_char"  # of JSON lines that are written with their score
LINES_AT_ONCE = 2048
THIRDS = ("head", "middle", "tail")  # suffixes of the files for `Thirds`
WAITING = 16  # groups of lines for each process that are scored, or wait for a long line


class Scorer(Protocol):
    """A model that scores sentences. It can be sent to other processes."""

    def iter_scores(self, texts: Iterable[str]) -> Iterator[SentenceScore]: ...


class Line(NamedTuple):
    """A line of the input.

    line:     as it is, without "\\n"
    text:     the text in it that is scored
    is_json:  it is a JSON object, and the text is a field
    """

    line: str
    text: str
    is_json: bool = False

    def with_score(self, bits: float) -> str:
        """The line with its score: before it, or as the last field of its JSON object.

        Of two fields with one name, readers of JSON take the last one.
        """
        if not self.is_json:
            return f"{bits:.6g}\t{self.line}"
        fields, brace, space = self.line.rpartition("}")
        return f'{fields}, "{FIELD}": {bits:.6g}{brace}{space}'


ScoredLines = tuple[list[Line], Sequence[float]]  # with the surprisal of each


class Bounds(NamedTuple):
    """One output: the lines with these bits per character, both bounds included.

    drop:  the output has the other lines
    """

    low: float
    high: float
    drop: bool = False

    def number(self, bits: float) -> int | None:
        """The number of the output that has a line: 0, or None if the line is in none."""
        return 0 if (self.low <= bits <= self.high) != self.drop else None


def quantile_bounds(
    bits: Sequence[float], shares: tuple[float, float], drop: bool = False
) -> Bounds:
    """The bounds at two quantiles of the bits of all lines. drop: see `Bounds`"""
    return Bounds(*_quantiles(bits, shares), drop)


class Thirds(NamedTuple):
    """Three outputs: lines of low, middle and high surprisal, as in CCNet (Wenzek et al. 2020)."""

    first: float
    second: float

    @classmethod
    def of(cls, bits: Sequence[float]) -> Thirds:
        """The thirds of all lines: the first 30 %, the next 30 %, the rest."""
        return cls(*_quantiles(bits, (0.3, 0.6)))

    def number(self, bits: float) -> int:
        """The number of the output that has a line."""
        return (bits > self.first) + (bits > self.second)


def _quantiles(bits: Sequence[float], shares: tuple[float, float]) -> tuple[float, float]:
    if not bits:
        return -math.inf, math.inf
    low, high = np.quantile(bits, shares).tolist()
    return low, high


@dataclass(frozen=True)
class Lines:
    """The lines of files, in groups. They can be read several times, unless a file is a pipe.

    encoding:  of the files, see `charlm.corpus.reading.Corpus`
    field:     the lines are JSON objects, and this field holds the text; None for lines of text
    strict:    a broken line is an error; otherwise it is skipped, with a warning
    """

    paths: Sequence[str]
    encoding: str
    field: str | None
    strict: bool

    def groups(self, warn: Callable[[str], None]) -> Iterator[list[Line]]:
        """The lines. warn: called for each line that is skipped"""
        for path in self.paths:
            broken = BrokenLines(path, self.strict, warn)
            yield from read_lines(path, self.encoding, self.field, broken)

    def with_bits(self, bits: Sequence[float]) -> Iterator[ScoredLines]:
        """The lines, read again without warnings, and these bits of all lines."""
        start = 0
        for group in self.groups(lambda _: None):
            yield group, bits[start : start + len(group)]
            start += len(group)


def read_lines(
    path: str, encoding: str, field: str | None, broken: BrokenLines
) -> Iterator[list[Line]]:
    """The lines of a file in groups. field: see `Lines`

    Blank lines between JSON objects are skipped. The lines before an error are yielded before it is
    raised.
    """
    numbers = count(1)
    for lines in Corpus([path], encoding=encoding, once=True, keep_cr=True).line_groups():
        group = []
        for line, number in zip(lines, numbers, strict=False):
            try:
                if field is None:
                    group.append(Line(line, line.removesuffix("\r")))
                elif line.strip():
                    group.append(Line(line, _text_of(line, field), is_json=True))
            except ValueError as problem:
                if broken.strict:
                    yield group
                broken.report(number, problem)
            if len(group) == LINES_AT_ONCE:
                yield group
                group = []
        yield group


def _text_of(line: str, field: str) -> str:
    """The text in a field of a JSON object. Raises ValueError if there is none."""
    text = json_object(line).get(field)
    if not isinstance(text, str):
        raise ValueError(f"no text {field!r}")
    return text


def bits_per_char(model: Scorer, lines: Sequence[Line]) -> list[float]:
    """The surprisal of each line, in bits per character."""
    return [score.bits_per_char for score in model.iter_scores(line.text for line in lines)]


def scored(model: Scorer, groups: Iterable[list[Line]], jobs: int) -> Iterator[ScoredLines]:
    """The groups with the surprisal of their lines, in order.

    jobs:  number of processes. Each has a copy of the model
    """
    if jobs == 1:
        for group in groups:
            yield group, bits_per_char(model, group)
        return
    waiting: deque[tuple[list[Line], Future[list[float]]]] = deque()
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=_receive, initargs=(model,)) as pool:
        for group in groups:
            waiting.append((group, pool.submit(_score, group)))
            if len(waiting) == WAITING * jobs:
                first, bits = waiting.popleft()
                yield first, bits.result()
        for group, bits in waiting:
            yield group, bits.result()


_models: list[Scorer] = []  # the model of a process of `scored`


def _receive(model: Scorer) -> None:
    _models[:] = [model]


def _score(lines: list[Line]) -> list[float]:
    return bits_per_char(_models[0], lines)
