"""Character level: one token for each Unicode code point."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from charlm.tokenizer.base import (
    EOS,
    JSON,
    SPECIALS,
    UNK,
    Arrays,
    Blocks,
    Encoding,
    IntArray,
    Settings,
    Tokenizer,
    choice,
    damaged,
    narrowest,
    packed,
    room,
    setting,
    unpacked,
)
from charlm.tokenizer.text import (
    NORMAL_FORMS,
    code_points,
    normalized,
    normalized_with_spans,
)

CODE_POINTS = sys.maxunicode + 1
SURROGATES = slice(0xD800, 0xE000)


class Characters(Tokenizer):
    """Code points, NFC unless normalize is "none"; encoded through a table of all of them."""

    level = "char"

    def __init__(self, vocabulary: Sequence[str], normalize: str = "nfc") -> None:
        """vocabulary: the characters from id 3 on, without newline and surrogates."""
        super().__init__(char.encode() for char in vocabulary)
        self._vocabulary = vocabulary
        self._normalize = choice("normalize", normalize, NORMAL_FORMS)
        self._table: IntArray = np.full(CODE_POINTS, UNK, narrowest(self.size))
        self._table[code_points("".join(vocabulary))] = np.arange(len(SPECIALS), self.size)
        self._table[ord("\n")] = EOS

    @classmethod
    def train(cls, blocks: Blocks, vocab_size: int | None = None, normalize: str = "nfc") -> Self:
        """All characters of the text, or as many of the most frequent as fit; by code point."""
        counts = np.zeros(CODE_POINTS, np.int64)
        for block in blocks():
            found = np.bincount(code_points(normalized(block, normalize)))
            counts[: len(found)] += found
        counts[SURROGATES] = counts[ord("\n")] = 0
        size = CODE_POINTS if vocab_size is None else vocab_size
        by_count = np.argsort(-counts, kind="stable")[: room(size)]
        return cls([chr(point) for point in np.sort(by_count[counts[by_count] > 0])], normalize)

    def encode(self, text: str) -> Encoding:
        clean, spans = normalized_with_spans(text, self._normalize)
        return Encoding(self._table[code_points(clean)].astype(np.int64), spans)

    def encode_ids(self, text: str) -> IntArray:
        return self._table.take(code_points(normalized(text, self._normalize)))

    def state(self) -> tuple[dict[str, JSON], dict[str, NDArray[np.uint8]]]:
        settings: dict[str, JSON] = {
            "level": self.level,
            "size": self.size,
            "normalize": self._normalize,
        }
        return settings, {"vocabulary": packed(self._vocabulary)}

    @classmethod
    def from_state(cls, settings: Settings, arrays: Arrays) -> Self:
        vocabulary = unpacked(settings, arrays)
        if any(len(char) != 1 for char in vocabulary):
            raise damaged()
        return cls(vocabulary, setting(settings, "normalize", NORMAL_FORMS))
