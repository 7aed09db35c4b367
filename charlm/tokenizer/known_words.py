"""Words of a text, for a model that knows certain words and reads sentences of words."""

from __future__ import annotations

import re

from charlm.tokenizer.base import UNK
from charlm.tokenizer.segmentation import words_of
from charlm.tokenizer.symbols import Symbols

APOSTROPHE = re.compile("['\u2019]")


def split_at_known(text: str, known: Symbols) -> list[str]:
    """The words of a text.

    It is split at spaces; what is then no known word is split at punctuation, and before "'s" and
    the like if both parts are known words.
    """
    words: list[str] = []
    for piece in text.split():
        pieces = [piece] if _knows(known, piece) else words_of(piece)
        words += [word for each in pieces for word in _clitic_split_off(known, each)]
    return words


def _knows(known: Symbols, word: str) -> bool:
    return int(known.encode_ids(word)[0]) != UNK


def _clitic_split_off(known: Symbols, word: str) -> list[str]:
    """An unknown word with an apostrophe as two known ones, such as "Eva" and "'s"."""
    if not APOSTROPHE.search(word) or _knows(known, word):
        return [word]
    for cut in range(len(word) - 1, 0, -1):
        parts = [word[:cut], word[cut:]]
        if APOSTROPHE.search(parts[1]) and all(_knows(known, part) for part in parts):
            return parts
    return [word]
