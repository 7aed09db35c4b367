"""Byte level: the 256 values of UTF-8, and therefore no unknowns."""

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
    Encoding,
    IntArray,
    Settings,
    Tokenizer,
    damaged,
    narrowest,
)
from charlm.tokenizer.text import spans_of_bytes

VALUES = 256
FIRST_BYTE = len(SPECIALS)
# Surrogates that do not stand for an undecodable byte.
STRAY = re.compile("[\ud800-\udc7f\udd00-\udfff]")


class Bytes(Tokenizer):
    """Id = byte + 3, but a newline is EOS. Text is taken as it is, without normalisation."""

    level = "byte"

    def __init__(self) -> None:
        super().__init__(bytes([value]) for value in range(VALUES))
        self._table = np.arange(FIRST_BYTE, self.size).astype(narrowest(self.size))
        self._table[ord("\n")] = EOS

    def encode(self, text: str) -> Encoding:
        ids = self.encode_ids(text).astype(np.int64)
        return Encoding(ids, spans_of_bytes(text, np.ones_like(ids)))

    def encode_ids(self, text: str) -> IntArray:
        return self._table[np.frombuffer(_utf8(text), np.uint8)]

    def state(self) -> tuple[dict[str, JSON], dict[str, NDArray[np.uint8]]]:
        return {"level": self.level, "size": self.size}, {}

    @classmethod
    def from_state(cls, settings: Settings, arrays: Arrays) -> Self:
        if settings.get("size") != FIRST_BYTE + VALUES:
            raise damaged()
        return cls()


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return STRAY.sub("\ufffd", text).encode("utf-8", "surrogateescape")
