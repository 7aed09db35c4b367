"""Byte level: one token for each of the 256 byte values of UTF-8. Nothing is unknown."""

from __future__ import annotations

import re
from typing import Self

import numpy as np
from numpy.typing import NDArray

from charlm.tokenizer.base import (
    EOS,
    JSON,
    SPECIALS,
    Arrays,
    Blocks,
    Encoding,
    IntArray,
    Settings,
    Tokenizer,
    VocabularyOptions,
    damaged_state,
    narrowest_dtype,
)
from charlm.tokenizer.text import spans_of_bytes

BYTE_VALUES = 256
FIRST_BYTE = len(SPECIALS)
# Surrogates that do not stand for an undecodable byte.
STRAY_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


class Bytes(Tokenizer):
    """The id of a byte is its value + 3, except that a newline is EOS. Text is not normalised."""

    level = "byte"
    reads_bytes = True
    has_unknown = False

    def __init__(self) -> None:
        super().__init__(bytes([value]) for value in range(BYTE_VALUES))
        self._table = np.arange(FIRST_BYTE, self.size).astype(narrowest_dtype(self.size))
        self._table[ord("\n")] = EOS

    @classmethod
    def train(cls, blocks: Blocks, options: VocabularyOptions) -> Self:
        """The same tokenizer for every text: there is nothing to learn."""
        return cls()

    def encode(self, text: str) -> Encoding:
        ids = self.encode_ids(text).astype(np.int64)
        return Encoding(ids, spans_of_bytes(text, np.ones_like(ids)))

    def encode_ids(self, text: str) -> IntArray:
        return self._table[np.frombuffer(_utf8(text), np.uint8)]

    def state(self) -> tuple[dict[str, JSON], dict[str, NDArray[np.uint8]]]:
        return {"level": self.level, "size": self.size}, {}

    @classmethod
    def from_state(cls, settings: Settings, arrays: Arrays) -> Self:
        if settings.get("size") != FIRST_BYTE + BYTE_VALUES:
            raise damaged_state()
        return cls()


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return STRAY_SURROGATE.sub("\ufffd", text).encode("utf-8", "surrogateescape")
