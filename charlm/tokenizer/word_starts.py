"""Words in a text of any level: where they begin, and which tokens can begin one.

A word is what stands between white space, with its punctuation; with separate punctuation it is a
word of Unicode, see `charlm.tokenizer.segmentation`. White space belongs to the word that follows.

The words of a text are known when all of it is known. Which tokens could begin a word in a place is
known from the text before it alone, so that the probability that a word ends is a sum over the
tokens that may come next. After "3" a "." is one of them, though "3.5" is a word.
"""

from __future__ import annotations

from functools import cache, lru_cache
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.tokenizer.base import START, UNK, BoolArray, IntArray, Tokenizer
from charlm.tokenizer.segmentation import (
    EXTENDS,
    HYPHENS,
    OPENING,
    SINGLE,
    WHITE_SPACE,
    compiled,
    word_spans,
)

if TYPE_CHECKING:
    import regex

# Classes of characters that word boundaries depend on, each with a character of it. White space is
# the first.
CLASSES = {
    " ": f"[{WHITE_SPACE}]",
    "\u0301": EXTENDS,
    "a": r"\p{WB=ALetter}",
    "א": r"\p{WB=Hebrew_Letter}",
    "1": r"\p{WB=Numeric}",
    "_": r"\p{WB=ExtendNumLet}",
    "ア": r"\p{WB=Katakana}",
    "-": f"[{HYPHENS}]",
    ":": r"\p{WB=MidLetter}",
    ",": r"\p{WB=MidNum}",
    ".": r"\p{WB=MidNumLet}",
    "'": "'",
    '"': '"',
    "🇦": r"\p{RI}",
    "日": f"[{SINGLE}]",
    "(": f"[{OPENING}]",
    "!": ".",
}
WITHIN = "-:,.'\""  # what may stand within a word
# Ends of texts: all that a boundary after them depends on.
SEPARATE = [*"aא1_ア", *map("".join, product("aא1_ア", WITHIN)), "!", "🇦"]
SEPARATE_END = rf"[aא1_ア][{WITHIN}]?$|🇦$"
JOINED = ["a", "日", "("]
JOINED_END = rf"(?:^|日[{WITHIN}!🇦]*)\K\(+$|日(?=[{WITHIN}!🇦]*$)"
# What a part of a character probably is, by its first byte: here the mark or ideograph that it
# begins. Other bytes begin letters.
LEAD_BYTES = dict.fromkeys([0xC2, 0xE2, *range(0xEF, 0xF5)], "!")
LEAD_BYTES |= dict.fromkeys(range(0xE3, 0xEA), "日")
LONGEST_HEAD, LONGEST_TAIL = 4, 16  # characters that decide about a boundary


class Starts(NamedTuple):
    """The word starts in a sequence of n tokens.

    begins:  (n,) whether the token begins a word
    place:   (n,) the row of `WordStarts.masks` with all tokens that could begin one in its place;
             −1 where a line begins, after white space, and where none of them begins the word
    """

    begins: BoolArray
    place: NDArray[np.int64]


class WordStarts:
    """The words of a tokenizer's text.

    tokenizer:    of any level
    punctuation:  marks are words by themselves

    masks:  (K, size) the tokens that begin a word, in each kind of place. `<EOS>` is one of them
    """

    def __init__(self, tokenizer: Tokenizer, punctuation: bool = False) -> None:
        self._punctuation, self._spacings = punctuation, tokenizer.spacings
        self._end = compiled(SEPARATE_END if punctuation else JOINED_END)
        of_tokens = _heads(tokenizer)
        self._is_empty = of_tokens == ""
        heads, number = np.unique(of_tokens, return_inverse=True)
        ends = SEPARATE if punctuation else JOINED
        begins = np.array([[self._begins(end, head) for head in heads.tolist()] for end in ends])
        # (ends, size, spacings), then a row for each place.
        rows = np.moveaxis(begins[:, number.reshape(tokenizer.size, -1)], 1, 2)
        self.masks, row = np.unique(rows.reshape(-1, tokenizer.size), axis=0, return_inverse=True)
        self._rows = dict(zip(ends, row.reshape(len(ends), -1).tolist(), strict=True))

    @property
    def after_letters(self) -> BoolArray:
        """(size,) the tokens that may begin a word after a letter."""
        return np.logical_or.reduce(self.masks[self._rows["a"]])

    def of(self, text: str, ids: IntArray, spans: NDArray[np.int64]) -> Starts:
        """The word starts of a text that starts with a line.

        ids:    (n,) of its tokens, perhaps with the line end
        spans:  (n, 2) their characters
        """
        begins, places = np.zeros(len(ids), np.bool_), np.full(len(ids), -1)
        ends = word_spans(text, self._punctuation)[:, 1]
        first = np.searchsorted(ends, spans[:, 0], side="right").tolist()
        last = np.searchsorted(ends, spans[:, 1], side="left").tolist()
        word, spacing, end = -1, int(self._spacings[START]), 0
        for t, id in enumerate(ids.tolist()):
            if first[t] > word and not self._is_empty[id, spacing]:
                begins[t], word = True, max(first[t], last[t])
                row = self._row(text[max(end - LONGEST_TAIL, 0) : end], spacing)
                if row is not None and self.masks[row, id]:
                    places[t] = row
            word, spacing, end = max(word, last[t]), int(self._spacings[id]), int(spans[t, 1])
        return Starts(begins, places)

    def _begins(self, end: str, head: str) -> bool:
        """Whether a word begins with `head`, after a text that ends with `end`."""
        if not head or head[0] == " ":
            return bool(head)
        return len(end) in word_spans(end + head, self._punctuation)[:, 0]

    def _row(self, before: str, spacing: int) -> int | None:
        """The row of the place after a text; None after white space."""
        classes = _classes(before).rpartition(" ")[2]
        if not classes:
            return None
        end = self._end.search(classes.replace("\u0301", ""))
        return self._rows[end[0] if end else "!" if self._punctuation else "a"][spacing]


@lru_cache(maxsize=4)
def word_starts(tokenizer: Tokenizer, punctuation: bool = False) -> WordStarts:
    """`WordStarts`, once for each tokenizer."""
    return WordStarts(tokenizer, punctuation)


def _heads(tokenizer: Tokenizer) -> NDArray[np.str_]:
    """(size, spacings) how the text of each token begins, in classes; "" for no text."""
    spacings = tokenizer.spacings
    previous = [int(np.flatnonzero(spacings == s)[-1]) for s in range(int(spacings.max()) + 1)]
    rows = range(tokenizer.size)
    return np.array([[_head(tokenizer.appended(id, p), id) for p in previous] for id in rows])


def _head(piece: bytes, id: int) -> str:
    text = piece.decode("utf-8", "replace")[:LONGEST_HEAD]
    if id == UNK:
        return _classes(text.replace("\ufffd", "a"))
    if piece[:1] >= b"\x80" and text[0] == "\ufffd":  # a part of a character
        return LEAD_BYTES.get(piece[0], "a") if piece[0] >= 0xC0 else "\u0301"
    return _classes(text)


def _classes(text: str) -> str:
    """`text`, in the characters of `CLASSES`."""
    return "".join(map(_class_of, text))


@lru_cache(maxsize=1 << 16)
def _class_of(char: str) -> str:
    return next(name for name, pattern in _patterns() if pattern.match(char))


@cache
def _patterns() -> list[tuple[str, regex.Pattern[str]]]:
    return [(name, compiled(f"(?s:{pattern})")) for name, pattern in CLASSES.items()]
