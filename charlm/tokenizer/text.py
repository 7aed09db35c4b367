"""Code points, normal forms and spans of raw text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

NORMAL_FORMS = ("nfc", "none")
# Surrogates stand for bytes that are not UTF-8. No vocabulary contains one.
SURROGATE = re.compile("[\ud800-\udfff]")
FIRST_COMBINING = "\u0300"


def code_points(text: str) -> NDArray[np.unsignedinteger[Any]]:
    """(n,) code point of each character."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def normalized(text: str, form: str) -> str:
    """`text` in normal form `form`: "nfc", or "none" for no change."""
    return text if form == "none" else unicodedata.normalize("NFC", text)


def normalized_with_spans(text: str, form: str) -> tuple[str, NDArray[np.int64]]:
    """`normalized` text, and (n, 2) the raw characters [begin, end) behind each of its characters.

    >>> normalized_with_spans("cafe\\u0301!", "nfc")[1].tolist()[3:]
    [[3, 5], [5, 6]]
    """
    if form == "none" or unicodedata.is_normalized("NFC", text):
        begins = np.arange(len(text), dtype=np.int64)
        return text, np.stack([begins, begins + 1], axis=1)
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    begin = 0
    for segment in _segments(text):
        end = begin + len(segment)
        parts.append(normalized(segment, form))
        spans += [(begin, end)] * len(parts[-1])
        begin = end
    return "".join(parts), np.array(spans, np.int64)


def spans_of_bytes(text: str, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n, 2) the characters of `text` that each token covers, wholly or partly.

    lengths:  (n,) number of UTF-8 bytes of each token; their sum is the length of `text` in bytes.
              A surrogate that stands for one byte (U+DC80 to U+DCFF) counts as one byte.
    """
    points = code_points(text)
    widths = 1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)
    widths[(points >= 0xDC80) & (points <= 0xDCFF)] = 1
    char_of_byte = np.append(np.repeat(np.arange(len(text)), widths), len(text))
    ends = np.cumsum(lengths)
    begins = ends - lengths
    char_ends = np.where(ends > begins, char_of_byte[ends - 1] + 1, char_of_byte[begins])
    return np.stack([char_of_byte[begins], char_ends], axis=1)


def _segments(text: str) -> Iterator[str]:
    """Segments of `text` that can be normalised independently of each other."""
    begin = 0
    for end in range(1, len(text)):
        if _is_independent(text[begin:end], text[end]):
            yield text[begin:end]
            begin = end
    yield text[begin:]


def _is_independent(before: str, char: str) -> bool:
    """Whether normalisation never composes or reorders `char`, or text after it, with `before`."""
    if char < FIRST_COMBINING:
        return True
    if unicodedata.combining(unicodedata.normalize("NFD", char)[0]):
        return False
    separate = normalized(before, "nfc") + normalized(char, "nfc")
    return normalized(before + char, "nfc") == separate
