"""Pieces of a text that stand in a corpus as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.tokenizer.text import code_points, normalized

CHARS_AT_ONCE = 4_000_000  # of the corpus
SEPARATOR = 0x110000  # no code point


@dataclass(frozen=True)
class Copied:
    """A piece of the text that is in the corpus, and cannot be longer there.

    text:   the piece
    line:   of its first character in the text, from 1
    corpus, corpus_line:  the file of the corpus and the line there
    """

    text: str
    line: int
    corpus: str
    corpus_line: int

    def to_json(self) -> dict[str, Any]:
        """The values under their names in JSON output."""
        return {
            "length": len(self.text),
            "line": self.line,
            "corpus": self.corpus,
            "corpus_line": self.corpus_line,
            "text": self.text,
        }


class Copies(NamedTuple):
    """What a text has copied from a corpus.

    pieces:        the longest first
    share:         of the characters of the text that are in any piece that counts
    lines:         lines of the text that are not blank
    copied_lines:  those of them that are whole lines of the corpus
    """

    pieces: list[Copied]
    share: float
    lines: int
    copied_lines: int


def copied(
    text: str, corpus: Mapping[str, Iterable[str]], shortest: int, within_lines: bool = False
) -> Copies:
    """The pieces of a text that are in a corpus.

    corpus:        its files by their names, in blocks of whole lines. No piece is of two of them
    shortest:      length of a piece that counts
    within_lines:  a piece does not go on after a line end

    Both are compared in the normal form NFC. Pieces do not overlap: of two that do, the longer one
    is taken.
    """
    text = normalized(text, "nfc")
    lengths, lines, files = np.zeros((3, len(text)), np.int64)
    names, own_lines, whole = list(corpus), text.split("\n"), set[str]()
    to_line_end = np.concatenate([np.arange(len(line), -1, -1) for line in own_lines])[:-1]
    for number, blocks in enumerate(corpus.values()):
        for chunk, line in _chunks(blocks, overlap=len(text)):
            whole |= {*own_lines} & {*chunk.split("\n")[line > 1 :]}
            found, starts = longest_matches(text, chunk)
            if within_lines:
                found = np.minimum(found, to_line_end)
            better = found > lengths
            lengths[better], files[better] = found[better], number
            line_starts = np.flatnonzero(code_points(chunk) == ord("\n")) + 1
            lines[better] = line + np.searchsorted(line_starts, starts[better], side="right")
    counts = lengths >= shortest
    covered = np.zeros(len(text) + 1, np.int64)
    np.add.at(covered, np.flatnonzero(counts), 1)
    np.add.at(covered, (np.arange(len(text)) + lengths)[counts], -1)
    share = np.count_nonzero(np.cumsum(covered)[:-1]) / max(len(text), 1)
    pieces, taken = [], np.zeros(len(text), np.bool_)
    for start in sorted(np.flatnonzero(counts).tolist(), key=lambda k: (-lengths[k], k)):
        end = start + int(lengths[start])
        if not taken[start:end].any():
            taken[start:end] = True
            line = text.count("\n", 0, start) + 1
            place = names[files[start]], int(lines[start])
            pieces.append(Copied(text[start:end], line, *place))
    not_blank = [line for line in own_lines if line.strip()]
    return Copies(pieces, share, len(not_blank), sum(line in whole for line in not_blank))


def _chunks(corpus: Iterable[str], overlap: int) -> Iterator[tuple[str, int]]:
    """The corpus in pieces that overlap, and the number of the line that each begins in."""
    parts: list[str] = []
    size, line = 0, 1
    for block in corpus:
        block = normalized(block, "nfc")
        parts.append(block)
        size += len(block)
        if size >= CHARS_AT_ONCE + overlap:
            chunk = "".join(parts)
            yield chunk, line
            line += chunk.count("\n", 0, len(chunk) - overlap)
            parts, size = [chunk[len(chunk) - overlap :]], overlap
    yield "".join(parts), line


def longest_matches(text: str, corpus: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each character of the text, the longest piece from there on that is in the corpus.

    Returns the lengths, and where each piece begins in the corpus. The suffixes of both are sorted
    by prefix doubling (Manber and Myers 1993). The longest match of a suffix of the text is with
    the suffix of the corpus before or after it in this order.
    """
    size, end = len(text), len(corpus)
    codes = np.concatenate([code_points(corpus), [SEPARATOR], code_points(text), [SEPARATOR + 1]])
    levels = _levels(codes.astype(np.int64), size)
    order = np.argsort(levels[-1], kind="stable")
    in_corpus = order < end
    place = np.arange(len(order))
    before = np.maximum.accumulate(np.where(in_corpus, place, -1))
    after = np.minimum.accumulate(np.where(in_corpus, place, len(order))[::-1])[::-1]
    of_text = np.flatnonzero((order > end) & (order < len(codes) - 1))
    suffixes = order[of_text]
    lengths, starts = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for neighbours in (before[of_text], after[of_text]):
        there = (neighbours >= 0) & (neighbours < len(order))
        own, other = suffixes[there], order[neighbours[there]]
        common = _common_prefix(levels, own, other)
        better = common > lengths[own - end - 1]
        lengths[own[better] - end - 1] = common[better]
        starts[own[better] - end - 1] = other[better]
    return lengths, starts


def _levels(codes: NDArray[np.int64], longest: int) -> list[NDArray[np.int64]]:
    """Names of the pieces of 1, 2, 4, … characters that begin at each character.

    Equal pieces have equal names, and the names are in the order of the pieces. The last pieces
    are as long as `longest`, or all different.
    """
    levels = [np.unique(codes, return_inverse=True)[1]]
    length = 1
    while length < longest and levels[-1].max() + 1 < len(codes):
        names = levels[-1] + 1
        second = np.append(names[length:], np.zeros(min(length, len(names)), np.int64))
        keys = names * (names.max() + 1) + second
        levels.append(np.unique(keys, return_inverse=True)[1])
        length *= 2
    return levels


def _common_prefix(
    levels: Sequence[NDArray[np.int64]], a: NDArray[np.int64], b: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The length of the common beginning of the suffixes a and b."""
    common = np.zeros(len(a), np.int64)
    last = len(levels[0]) - 1
    for k in reversed(range(len(levels))):
        x, y = a + common, b + common
        inside = np.maximum(x, y) <= last
        equal = inside & (levels[k][np.minimum(x, last)] == levels[k][np.minimum(y, last)])
        common += np.where(equal, 1 << k, 0)
    return common
