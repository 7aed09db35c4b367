"""A stream: the text of one sample in pieces, up to its limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from charlm.engines.sampling import DEFAULT_LENGTH, SampleOptions

# Characters of a sample of a model of independent lines that never ends its line: times the longest
# line of its training text, and where that is unknown.
LONGEST_LINES, LONGEST_LINE = 2, 10_000


class Figures(NamedTuple):
    """The figures of a token that was drawn, in nats, whatever the options that it was drawn by.

    logprob:    log p of the token
    likeliest:  the ids of the most probable tokens in its place, with their log p
    """

    logprob: float
    likeliest: list[tuple[int, float]]


class Piece(NamedTuple):
    """A token that was drawn, and the text that it completes. A line end is "\\n"."""

    text: str
    id: int
    figures: Figures | None = None


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


class Ending:
    """Ends the text of a sample at its first limit: length, lines, or a stop text.

    is_reached:  whether it has ended
    by_text:     whether a line end or a stop text has ended it
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._length, self._lines = limits.length, limits.max_lines  # that are left
        self._held, self._passed = "", 0  # text that may begin a stop, characters before it
        self.is_reached, self.by_text = limits.length <= 0, False

    def push(self, text: str) -> str:
        """Add text. Returns what belongs to the sample for certain.

        Characters that may begin a stop text are held back until that is clear.
        """
        if self._lines is not None and "\n" in text:
            self._lines -= text.count("\n")
            if self._lines <= 0:
                text = text[: text.rindex("\n")]
                self.by_text = True
        self.is_reached = self.by_text or len(text) >= self._length
        text = text[: self._length]
        self._length -= len(text)
        if not self._limits.stops:
            return text
        self._held += text
        stops, min_length = self._limits.stops, self._limits.min_length
        end = _first_stop(self._held, stops, max(min_length - self._passed, 0))
        if end is not None:
            self.is_reached = self.by_text = True
            self._held = self._held[:end]
        return self.rest() if self.is_reached else self._clear()

    def rest(self) -> str:
        """The text that is held back, where nothing follows."""
        text, self._held = self._held, ""
        return text

    def _clear(self) -> str:
        """The text that cannot begin a stop text."""
        clear = len(self._held) - _longest_beginning_of_a_stop(self._held, self._limits.stops)
        text, self._held = self._held[:clear], self._held[clear:]
        self._passed += clear
        return text


class Stream(Iterator[str]):
    """The text of one sample in pieces, up to its first limit: length, lines, or a stop text.

    ids:     the tokens that were drawn so far
    limits:  of the sample

    The line end that stops a sample is not part of it.
    """

    def __init__(self, pieces: Iterable[Piece], limits: Limits) -> None:
        self.ids: list[int] = []
        self.limits = limits
        self._texts = self._until_the_end(iter(pieces))

    def _until_the_end(self, pieces: Iterator[Piece]) -> Iterator[str]:
        ending = Ending(self.limits)
        while not ending.is_reached and (piece := next(pieces, None)):
            self.ids.append(piece.id)
            yield ending.push(piece.text)
        yield ending.rest()

    def __next__(self) -> str:
        return next(self._texts)


def _first_stop(text: str, stops: Sequence[str], start: int) -> int | None:
    """Where the first stop text in a text begins, from `start`; None without one."""
    positions = [text.find(stop, start) for stop in stops]
    return min((position for position in positions if position >= 0), default=None)


def _longest_beginning_of_a_stop(text: str, stops: Sequence[str]) -> int:
    """Characters at the end of a text that may begin a stop text."""
    longest = min(max(map(len, stops)) - 1, len(text))
    ends = (text[start:] for start in range(len(text) - longest, len(text)))
    return next((len(end) for end in ends if any(stop.startswith(end) for stop in stops)), 0)
