"""Lines that are kept for their surprisal, in bits per character."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from typing import NamedTuple, Protocol

from charlm.corpus.reading import Corpus
from charlm.corpus.records import BrokenLines, json_object
from charlm.engines.scores import SentenceScore

FIELD = "bits_per_char"  # of JSON lines that are written with their score
LINES_AT_ONCE = 2048
WAITING = 16  # groups of lines for each process that are scored, or wait for a long line


class Scorer(Protocol):
    """A model that scores sentences. It can be sent to other processes."""

    def iter_scores(self, texts: Iterable[str]) -> Iterator[SentenceScore]: ...


class Line(NamedTuple):
    """A line of the input as it is, without "\\n", and the text in it that is scored."""

    line: str
    text: str


def with_score(line: str, bits: float, is_json: bool) -> str:
    """The line with its score: before it, or as the last field of its JSON object.

    Of two fields with one name, readers of JSON take the last one.
    """
    if not is_json:
        return f"{bits:.6g}\t{line}"
    start, end, rest = line.rpartition("}")
    return f'{start}, "{FIELD}": {bits:.6g}{end}{rest}'


def read_lines(
    path: str, encoding: str, field: str | None, broken: BrokenLines
) -> Iterator[list[Line]]:
    """The lines of a file in groups. field: of JSON objects, that holds the text

    Blank lines between JSON objects are skipped. Lines before an error are in groups before it is
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
                    group.append(Line(line, _value(line, field)))
            except ValueError as problem:
                if broken.strict:
                    yield group
                broken.report(number, problem)
            if len(group) == LINES_AT_ONCE:
                yield group
                group = []
        yield group


def _value(line: str, field: str) -> str:
    text = json_object(line).get(field)
    if not isinstance(text, str):
        raise ValueError(f"no text {field!r}")
    return text


def bits_per_char(model: Scorer, lines: Sequence[Line]) -> list[float]:
    """The surprisal of each line."""
    return [score.bits_per_char for score in model.iter_scores(line.text for line in lines)]


def scored(
    model: Scorer, groups: Iterable[list[Line]], jobs: int
) -> Iterator[tuple[list[Line], list[float]]]:
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
                first, found = waiting.popleft()
                yield first, found.result()
        for group, found in waiting:
            yield group, found.result()


_models: list[Scorer] = []  # the model of a process of `scored`


def _receive(model: Scorer) -> None:
    _models[:] = [model]


def _score(lines: list[Line]) -> list[float]:
    return bits_per_char(_models[0], lines)
