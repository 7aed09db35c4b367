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
    VocabularyOptions,
    check_choice,
    check_vocab_size,
    damaged_state,
    narrowest_dtype,
    pack_vocabulary,
    read_setting,
    unpack_vocabulary,
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
    """Code points, NFC unless `normalize` is "none". A table maps every code point to its id."""

    level = "char"
    options = ("vocab_size", "normalize")

    def __init__(self, vocabulary: Sequence[str], normalize: str = "nfc") -> None:
        """vocabulary: the characters from id 3 on, without newline and surrogates."""
        super().__init__(char.encode() for char in vocabulary)
        self._vocabulary = vocabulary
        self._normalize = check_choice("normalize", normalize, NORMAL_FORMS)
        self._table: IntArray = np.full(CODE_POINTS, UNK, narrowest_dtype(self.size))
        self._table[code_points("".join(vocabulary))] = np.arange(len(SPECIALS), self.size)
        self._table[ord("\n")] = EOS

    @classmethod
    def train(cls, blocks: Blocks, options: VocabularyOptions) -> Self:
        """The `vocab_size` - 3 most frequent characters of the text, in order of code point."""
        counts = _count_characters(blocks, options.normalize)
        ranked = np.argsort(-counts, kind="stable")
        if options.vocab_size is not None:
            ranked = ranked[: check_vocab_size(options.vocab_size) - len(SPECIALS)]
        points = np.sort(ranked[counts[ranked] > 0])
        return cls([chr(point) for point in points], options.normalize)

    def grown(self, blocks: Blocks, size: int | None = None) -> Self:
        own = self.train(blocks, VocabularyOptions(None, normalize=self._normalize))
        known = set(self._vocabulary)
        new = [char for char in own._vocabulary if char not in known]
        new = new[: None if size is None else max(size - self.size, 0)]
        return type(self)([*self._vocabulary, *new], self._normalize) if new else self

    def normalized(self, text: str) -> str:
        return normalized(text, self._normalize)

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
        return settings, {"vocabulary": pack_vocabulary(self._vocabulary)}

    @classmethod
    def from_state(cls, settings: Settings, arrays: Arrays) -> Self:
        vocabulary = unpack_vocabulary(settings, arrays)
        if any(len(char) != 1 for char in vocabulary):
            raise damaged_state()
        return cls(vocabulary, read_setting(settings, "normalize", NORMAL_FORMS))


def _count_characters(blocks: Blocks, normalize: str) -> NDArray[np.int64]:
    """(CODE_POINTS,) the number of occurrences of each character that can be an entry."""
    counts = np.zeros(CODE_POINTS, np.int64)
    for block in blocks():
        block_counts = np.bincount(code_points(normalized(block, normalize)))
        counts[: len(block_counts)] += block_counts
    counts[SURROGATES] = counts[ord("\n")] = 0
    return counts
