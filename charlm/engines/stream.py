"""A stream: the text of one sample in pieces, up to its limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from charlm.engines.sampling import DEFAULT_LENGTH, SampleOptions

# Characters of a sample of a model of independent lines that never ends its line: times the longest
# line of its training text, and where that is unknown.
LONGEST_LINES, LONGEST_LINE = 2, 10_000


class Piece(NamedTuple):
    """A token that was drawn, and the text that it completes. A line end is "\\n"."""

    text: str
    id: int


@dataclass(frozen=True)
class Limits:
    """Where a sample ends: at the first of its limits.

    length:      characters after the prime
    max_lines:   lines; None for no limit
    stops:       texts that end it
    min_length:  characters before a line end or one of these texts ends it
    """

    length: int
    max_lines: int | None
    stops: Sequence[str]
    min_length: int

    @classmethod
    def of(
        cls,
        options: SampleOptions,
        *,
        independent_lines: bool,
        longest_line: int | None = None,
        normalized: Callable[[str], str] = str,
    ) -> Limits:
        """The limits that options ask for, or leave to the model.

        independent_lines:  of the model, which then writes one line by default
        longest_line:       characters of the longest line of its training text: a model of
                            independent lines may repeat itself and never end its line
        normalized:         brings a text to the normal form that the model writes
        """
        length, max_lines = options.length, options.max_lines
        if independent_lines:
            longest = LONGEST_LINES * longest_line if longest_line else LONGEST_LINE
            max_lines = max_lines or 1
            length = longest * max_lines if length is None else length
        length = DEFAULT_LENGTH if length is None else length
        stops = list(map(normalized, options.stops))
        return cls(length, max_lines, stops, options.min_length)


class Stream(Iterator[str]):
    """The text of one sample in pieces, up to its first limit: length, lines, or a stop text.

    ids:     the tokens that were drawn so far
    limits:  of the sample

    The line end that stops a sample is not part of it.
    """

    def __init__(self, pieces: Iterable[Piece], limits: Limits) -> None:
        self.ids: list[int] = []
        self.limits = limits
        cut = _cut(self._texts(pieces), limits.length, limits.max_lines)
        self._limited = _until_stop(cut, limits.stops, limits.min_length)

    def _texts(self, pieces: Iterable[Piece]) -> Iterator[str]:
        for text, id in pieces:
            self.ids.append(id)
            yield text

    def __next__(self) -> str:
        return next(self._limited)


def _cut(texts: Iterator[str], length: int, max_lines: int | None) -> Iterator[str]:
    """The texts up to a number of characters and of lines."""
    while length > 0 and (text := next(texts, None)) is not None:
        if max_lines is not None and "\n" in text:
            max_lines -= text.count("\n")
            if max_lines <= 0:
                yield text[: text.rindex("\n")]
                return
        yield text[:length]
        length -= len(text)


def _until_stop(texts: Iterator[str], stops: Sequence[str], min_length: int) -> Iterator[str]:
    """The texts before the first stop text that begins after `min_length` characters.

    Characters that may begin one are held back until that is clear.
    """
    if not stops:
        yield from texts
        return
    held, passed = "", 0  # characters that are held back, and the number of those before them
    for text in texts:
        held += text
        end = _first_stop(held, stops, max(min_length - passed, 0))
        if end is not None:
            yield held[:end]
            return
        clear = len(held) - _longest_beginning_of_a_stop(held, stops)
        yield held[:clear]
        held, passed = held[clear:], passed + clear
    yield held


def _first_stop(text: str, stops: Sequence[str], start: int) -> int | None:
    """Where the first stop text in a text begins, from `start`; None without one."""
    positions = [text.find(stop, start) for stop in stops]
    return min((position for position in positions if position >= 0), default=None)


def _longest_beginning_of_a_stop(text: str, stops: Sequence[str]) -> int:
    """Characters at the end of a text that may begin a stop text."""
    longest = min(max(map(len, stops)) - 1, len(text))
    ends = (text[start:] for start in range(len(text) - longest, len(text)))
    return next((len(end) for end in ends if any(stop.startswith(end) for stop in stops)), 0)
