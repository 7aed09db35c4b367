"""Filtering: lines are kept, or put into files, by their surprisal in bits per character."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from multiprocessing import get_context
from typing import NamedTuple, Protocol

import numpy as np

from charlm.corpus.reading import BYTE_ORDER_MARK, Corpus
from charlm.corpus.records import BrokenLines, is_json_document, json_object, text_of
from charlm.engines.scores import SentenceScore
from charlm.errors import InputError, OptionError
from charlm.options import Choices, names_keywords, refuse_text
from charlm.parts import WHOLE, Part, in_groups_of

DEDUPE = Choices(("exact", "near"))
FIELD = "bits_per_char"  # of JSON lines that are written with their score
LINES_AT_ONCE = 2048
THIRDS = ("head", "middle", "tail")  # suffixes of the files for `Thirds`
WAITING = 16  # groups of lines for each process that are scored, or wait for a long line


@names_keywords
def filter(
    model: Scorer,
    lines: Iterable[str],
    *,
    min: float | None = None,
    max: float | None = None,
    drop: bool = False,
    dedupe: str | None = None,
) -> Iterator[str]:
    """The lines whose surprisal, in bits per character, is within bounds.

    min, max:  bits per character, both included; None for no bound
    drop:      the other lines instead
    dedupe:    "exact" or "near" to leave lines out that were there before, see `Duplicates`

    >>> list(charlm.filter(model, ["the cat sat", "zqxj zqxj"], max=4))
    ['the cat sat']
    """
    refuse_text(lines, "filter")
    low, high = -math.inf if min is None else min, math.inf if max is None else max
    if not low <= high:
        raise OptionError(f"`min={low:g}` and `max={high:g}`: nothing is between them")
    if dedupe is not None:
        DEDUPE.check("dedupe", dedupe)
    bounds = Bounds(low, high, drop)
    duplicates = Duplicates(dedupe) if dedupe else None
    for texts in in_groups_of(lines, LINES_AT_ONCE):
        group = [Line(text, text.rstrip("\r\n")) for text in texts]
        group = duplicates.removed(group) if duplicates else group
        for line, bits in zip(group, bits_per_char(model, group), strict=True):
            if bounds.number(bits) is not None:
                yield line.line


class Scorer(Protocol):
    """A model that scores sentences. It can be sent to other processes."""

    def iter_scores(self, texts: Iterable[str]) -> Iterator[SentenceScore]: ...


class Line(NamedTuple):
    """A line of the input.

    line:     as it is, with its line end if it has one
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


class Group(NamedTuple):
    """Lines that are scored together.

    lines:     of one file
    file:      its number, from 0
    has_mark:  the file begins with a byte order mark
    """

    lines: list[Line]
    file: int = 0
    has_mark: bool = False


@dataclass
class Counts:
    """How many lines there are: all, those that cannot be read, those that were there before."""

    read: int = 0
    skipped: int = 0
    duplicates: int = 0


ScoredGroup = tuple[Group, Sequence[float]]  # with the surprisal of each line


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
    shard:     the part of the lines that is read
    dedupe:    "exact" or "near" to leave lines out that were there before, see `Duplicates`
    """

    paths: Sequence[str]
    encoding: str
    field: str | None
    strict: bool
    shard: Part = WHOLE
    dedupe: str | None = None

    def groups(self, warn: Callable[[str], None], counts: Counts) -> Iterator[Group]:
        """The lines.

        warn:    called about lines that are skipped
        counts:  is added to
        """
        duplicates = Duplicates(self.dedupe) if self.dedupe else None
        number = 0
        for file, path in enumerate(self.paths):
            broken = BrokenLines(path, self.strict, warn)
            for lines, has_mark in read_lines(path, self.encoding, self.field, broken):
                own = lines[(self.shard.number - number) % self.shard.of :: self.shard.of]
                number += len(lines)
                kept = duplicates.removed(own) if duplicates else own
                counts.read += len(own)
                counts.duplicates += len(own) - len(kept)
                # The shards of a file together have its mark once.
                yield Group(kept, file, has_mark and not self.shard.number)
            counts.read += broken.skipped
            counts.skipped += broken.skipped

    def with_bits(self, bits: Sequence[float]) -> Iterator[ScoredGroup]:
        """The lines, read again without warnings, and these bits of all lines."""
        start = 0
        for group in self.groups(lambda _: None, Counts()):
            yield group, bits[start : start + len(group.lines)]
            start += len(group.lines)


class Duplicates:
    """Finds lines that were there before. A hash of 8 bytes is kept of each line.

    kind:  "exact", or "near" if lines are equal that differ only in case, punctuation, white space
           and digits (Wenzek et al. 2020)

    A blank line is no duplicate.
    """

    def __init__(self, kind: str) -> None:
        self.key = _bare if kind == "near" else str
        self.seen: set[bytes] = set()

    def removed(self, lines: Iterable[Line]) -> list[Line]:
        """The lines whose text was not there before."""
        return [line for line in lines if self._is_new(line.text)]

    def _is_new(self, text: str) -> bool:
        if not text.strip():
            return True
        data = self.key(text).encode("utf-8", "surrogatepass")
        before = len(self.seen)
        self.seen.add(blake2b(data, digest_size=8).digest())
        return len(self.seen) > before


def _bare(text: str) -> str:
    """The letters of a text in lower case, and its digits as 0."""
    words = re.sub(r"[\W_]+", " ", unicodedata.normalize("NFC", text).casefold())
    return re.sub(r"\d", "0", words).strip() or text


def read_lines(
    path: str, encoding: str, field: str | None, broken: BrokenLines
) -> Iterator[tuple[list[Line], bool]]:
    """The lines of a file in groups, and whether it begins with a byte order mark.

    field:  see `Lines`

    Blank lines between JSON objects are skipped. The lines before an error are yielded before it is
    raised.
    """
    numbers, read, has_mark = count(1), 0, False
    for lines in Corpus([path], encoding=encoding, once=True, as_it_is=True).line_groups():
        group = []
        for line, number in zip(lines, numbers, strict=False):
            if number == 1 and line.startswith(BYTE_ORDER_MARK):
                line, has_mark = line.removeprefix(BYTE_ORDER_MARK), True
            try:
                if field is None:
                    group.append(Line(line, line.removesuffix("\n").removesuffix("\r")))
                elif number == 1 and is_json_document(line):
                    raise InputError(
                        f"{broken.name}: not an object on each line; if it is an array: "
                        "jq -c '.[]' FILE"
                    )
                elif line.strip():
                    group.append(Line(line, text_of(json_object(line), field), is_json=True))
            except ValueError as problem:
                if broken.strict:
                    yield group, has_mark
                broken.report(number, problem)
            if len(group) == LINES_AT_ONCE:
                yield group, has_mark
                read, group = read + len(group), []
        yield group, has_mark
        read += len(group)
    broken.finish(read, summary=False)


def bits_per_char(model: Scorer, lines: Sequence[Line]) -> list[float]:
    """The surprisal of each line, in bits per character."""
    return [score.bits_per_char for score in model.iter_scores(line.text for line in lines)]


def scored(model: Scorer | None, groups: Iterable[Group], jobs: int) -> Iterator[ScoredGroup]:
    """The groups with the surprisal of their lines, in order.

    model:  None for 0 as the surprisal of every line
    jobs:   number of processes. Each has a copy of the model
    """
    if model is None or jobs == 1:
        for group in groups:
            yield group, bits_per_char(model, group.lines) if model else [0.0] * len(group.lines)
        return
    waiting: deque[tuple[Group, Future[list[float]]]] = deque()
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=_receive, initargs=(model,)) as pool:
        for group in groups:
            waiting.append((group, pool.submit(_score, group.lines)))
            if len(waiting) == WAITING * jobs:
                first, bits = waiting.popleft()
                yield first, bits.result()
        for group, future in waiting:
            yield group, future.result()


_models: list[Scorer] = []  # the model of a process of `scored`


def _receive(model: Scorer) -> None:
    _models[:] = [model]


def _score(lines: list[Line]) -> list[float]:
    return bits_per_char(_models[0], lines)
