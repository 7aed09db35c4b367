"""Word level: bare words and punctuation marks; the usual spacing is implied.

Between two tokens of a line stands one space, unless the first opens, as "(" does, or the
second closes, as "," does. Only other spacing costs a token: JOIN where the implied space is
missing, and the whitespace characters themselves where the gap is anything else. A straight
double quote both opens and closes.

    well-known (in 1,000 towns), it's    well-known ( in 1,000 towns ) , it's
    and/or... a  b,c                     and / or . . . a SPACE SPACE b , JOIN c

With split="whitespace" the tokens are what whitespace separates, and one space is implied
between any two.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from charlm.tokenizer.base import (
    EOS,
    JSON,
    SPECIAL_TEXTS,
    SPECIALS,
    START,
    UNK,
    Arrays,
    Blocks,
    Encoding,
    IntArray,
    Settings,
    Tokenizer,
    choice,
    narrowest,
    packed,
    room,
    setting,
    unpacked,
)
from charlm.tokenizer.text import NORMAL_FORMS, SURROGATE, normalized, normalized_with_spans

SPLITS = ("lossless", "whitespace")
DEFAULT_SIZE = 20_000
MOST_COUNTED = 4_000_000
# The entry for a missing space is empty: no text can spell it.
JOIN, SPACE = "", " "
GLUE = '"/—'
OPENS = GLUE + "([{“\u2018«¿¡$£€#@"
CLOSES = GLUE + ")]}”\u2019»,.;:!?…%'"


class _Ids(dict[str, int]):
    """Entry to id; UNK for what is no entry."""

    def __missing__(self, entry: str) -> int:
        return UNK


class Words(Tokenizer):
    """Words, NFC unless normalize is "none"; those that are not in the vocabulary are UNK."""

    level = "word"

    def __init__(
        self, vocabulary: Sequence[str], split: str = "lossless", normalize: str = "nfc"
    ) -> None:
        """vocabulary: the entries from id 3 on; for a lossless split JOIN and SPACE first."""
        super().__init__(entry.encode() for entry in vocabulary)
        self._vocabulary = vocabulary
        self._split = choice("split", split, SPLITS)
        self._normalize = choice("normalize", normalize, NORMAL_FORMS)
        self._pattern = _pattern(split)
        self._ids = _Ids({entry: id for id, entry in enumerate(vocabulary, len(SPECIALS))})
        self._ids["\n"] = EOS
        opens, closes = (OPENS, CLOSES) if split == "lossless" else ("", "")
        entries = [*SPECIAL_TEXTS, *vocabulary]
        gaps = [not entry or entry.isspace() for entry in entries]
        self._joins_next = [
            gap or entry[-1] in opens for gap, entry in zip(gaps, entries, strict=True)
        ]
        self._joins_last = [
            gap or entry[0] in closes for gap, entry in zip(gaps, entries, strict=True)
        ]

    @classmethod
    def train(
        cls,
        blocks: Blocks,
        vocab_size: int | None = None,
        split: str = "lossless",
        normalize: str = "nfc",
    ) -> Self:
        """The most frequent words of the text, ties in alphabetical order."""
        entries = room(DEFAULT_SIZE if vocab_size is None else vocab_size)
        counts = _count(blocks, _pattern(choice("split", split, SPLITS)), normalize)
        ranked = sorted(counts, key=lambda entry: (-counts[entry], entry))
        ranked = [entry for entry in ranked if not SURROGATE.search(entry)]
        gaps = [JOIN, SPACE] if split == "lossless" else []
        gaps += [entry for entry in ranked if entry.isspace() and entry not in " \n"]
        words = [entry for entry in ranked if entry and not entry.isspace()]
        return cls((gaps + words)[:entries], split, normalize)

    def encode(self, text: str) -> Encoding:
        clean, origin = normalized_with_spans(text, self._normalize)
        found = [match.span(1) for match in self._pattern.finditer(clean)]
        ids = [self._ids[clean[begin:end]] for begin, end in found]
        begins, ends = np.array(found, np.int64).reshape(-1, 2).T
        spans = np.stack([origin[begins, 0], origin[ends - 1, 1]], axis=1)
        return Encoding(np.array(ids, np.int64), spans)

    def encode_ids(self, text: str) -> IntArray:
        found = self._pattern.findall(normalized(text, self._normalize))
        return np.fromiter(map(self._ids.__getitem__, found), narrowest(self.size), len(found))

    def appended(self, id: int, after: int) -> bytes:
        return self._gap(id, after) + self._pieces[id]

    def token(self, id: int) -> str:
        return super().token(id) or "<JOIN>"

    def state(self) -> tuple[dict[str, JSON], dict[str, NDArray[np.uint8]]]:
        settings: dict[str, JSON] = {
            "level": self.level,
            "size": self.size,
            "split": self._split,
            "normalize": self._normalize,
        }
        return settings, {"vocabulary": packed(self._vocabulary)}

    @classmethod
    def from_state(cls, settings: Settings, arrays: Arrays) -> Self:
        split = setting(settings, "split", SPLITS)
        return cls(unpacked(settings, arrays), split, setting(settings, "normalize", NORMAL_FORMS))

    def _gap(self, id: int, after: int) -> bytes:
        return b"" if self._joins_next[after] or self._joins_last[id] else b" "

    def _back_up(self, text: str, encoding: Encoding) -> tuple[int, bytes]:
        """Hold the last word, if some entry begins with it, and a space left open at the end."""
        ids, spans = encoding
        after, last = [START, START, *ids.tolist()][-2:]
        if last in (START, EOS):
            return len(ids), b""
        begin, end = spans[-1]
        if end < len(text):
            return len(ids), b" "
        word = normalized(text[begin:end], self._normalize).encode("utf-8", "replace")
        held = self._gap(last, after) + word
        found = self.continuations(held, after).any()
        return (len(ids) - 1, held) if found else (len(ids), b"")


def _count(blocks: Blocks, pattern: re.Pattern[str], normalize: str) -> Counter[str]:
    """How often each token occurs; when there are too many, the rarest are forgotten."""
    counts: Counter[str] = Counter()
    for block in blocks():
        counts.update(pattern.findall(normalized(block, normalize)))
        if len(counts) > MOST_COUNTED:
            counts = Counter(dict(counts.most_common(MOST_COUNTED // 2)))
    return counts


@cache
def _pattern(split: str) -> re.Pattern[str]:
    """Finds the tokens of a text, of which group 1 is the entry: the empty one is JOIN."""
    if split == "whitespace":
        return re.compile(r"(\n|\S+)")
    before = rf"[^\s{re.escape(OPENS)}]"
    behind = rf"(?=[^\s{re.escape(CLOSES)}])"
    implied_space = rf"(?: (?<={before} ){behind}|)"
    join = rf"(?<={before}){behind}"
    # Python's \w leaves out the marks that finish a letter in many scripts; the range that is
    # tested first keeps the long list of them away from plain words.
    run = rf"\w++(?:(?=[\u0300-\U0010ffff])[{_marks()}]\w*+)*+"
    word = rf"{run}(?:['\u2019-]{run})*+"
    number = r"\d++(?:[.,]\d++)++"
    return re.compile(rf"{implied_space}({join}|{number}|{word}|[^\w\s]|\s)")


def _marks() -> str:
    """The combining marks of Unicode, and the joiners that stand inside words."""
    marks = (chr(point) for point in range(0x300, 0x1F000))
    return "\u200c\u200d" + "".join(char for char in marks if unicodedata.category(char)[0] == "M")
