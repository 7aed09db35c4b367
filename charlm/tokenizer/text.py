"""Raw text: its code points, its normal form, and where each piece of it came from."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

NORMAL_FORMS = ("nfc", "none")
# Half characters: what is left of bytes that are not UTF-8. No vocabulary holds one.
SURROGATE = re.compile("[\ud800-\udfff]")
FIRST_COMBINING = "\u0300"


def code_points(text: str) -> NDArray[np.unsignedinteger[Any]]:
    """(n,) the code point of each character."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def normalized(text: str, form: str) -> str:
    """`text` in the normal form "nfc", or as it is for "none"."""
    return text if form == "none" else unicodedata.normalize("NFC", text)


def normalized_with_spans(text: str, form: str) -> tuple[str, NDArray[np.int64]]:
    """The text `normalized`, and the raw characters [begin, end) behind each of its own: (n, 2).

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
    """The characters that each of a row of tokens covers, wholly or in part: (n, 2).

    lengths: (n,) the UTF-8 bytes of each token; together they are those of `text`. Surrogates
    that stand for one byte (U+DC80 to U+DCFF) count as one.
    """
    points = code_points(text)
    widths = 1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)
    widths[(points >= 0xDC80) & (points <= 0xDCFF)] = 1
    owner = np.append(np.repeat(np.arange(len(text)), widths), len(text))
    ends = np.cumsum(lengths)
    begins = ends - lengths
    last = np.where(ends > begins, owner[ends - 1] + 1, owner[begins])
    return np.stack([owner[begins], last], axis=1)


def _segments(text: str) -> Iterator[str]:
    """Cut `text` so that normalising the parts one by one is normalising the whole."""
    begin = 0
    for end in range(1, len(text)):
        if _stands_apart(text[begin:end], text[end]):
            yield text[begin:end]
            begin = end
    yield text[begin:]


def _stands_apart(before: str, char: str) -> bool:
    """Whether nothing from `char` on can be composed or reordered with `before`."""
    if char < FIRST_COMBINING:
        return True
    if unicodedata.combining(unicodedata.normalize("NFD", char)[0]):
        return False
    apart = normalized(before, "nfc") + normalized(char, "nfc")
    return normalized(before + char, "nfc") == apart
