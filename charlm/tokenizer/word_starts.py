"""Words in a text of any level: where they begin, and which tokens can begin one.

A word is what stands between white space, with its punctuation. With separate punctuation it is a
run of letters and digits, and every other character is a word by itself; an apostrophe or a hyphen
right after a word belongs to it. White space belongs to the word that follows.

Whether a token begins a word depends on the tokens before it alone, not on those after it. So the
probability that a word ends here is a sum over the tokens that may come next.
"""

from __future__ import annotations

import unicodedata
from functools import cached_property, lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.tokenizer.base import EOS, START, BoolArray, IntArray, Tokenizer

# Kinds of characters, and of the place after them. After a letter a joiner is a letter, too.
NOTHING, SPACE, LETTER, MARK, JOINER = range(5)
JOINERS = "'\u2019-"
UNKNOWN = "\ufffd"  # also a byte that is a part of a character


class Starts(NamedTuple):
    """The word starts in a sequence of n tokens.

    begins:  (n,) whether the token begins a word
    place:   (n,) the row of `WordStarts.masks` with all tokens that could begin one in its place;
             −1 where a line begins, and after white space
    """

    begins: BoolArray
    place: NDArray[np.int64]


class WordStarts:
    """The words of a tokenizer's text.

    tokenizer:    of any level
    punctuation:  marks are words by themselves
    """

    def __init__(self, tokenizer: Tokenizer, punctuation: bool = False) -> None:
        self._spacings = tokenizer.spacings
        self._first, self._last = _kinds_of_tokens(tokenizer, punctuation)
        spacings = range(self._first.shape[1])
        self._places = list(product((LETTER, MARK) if punctuation else (LETTER,), spacings))

    @cached_property
    def masks(self) -> BoolArray:
        """(K, size) the tokens that begin a word, in each kind of place. `<EOS>` is one of them."""
        return np.array([self._beginning(self._first[:, s], kind) for kind, s in self._places])

    @staticmethod
    def _beginning(first: NDArray[np.int8], before: int) -> BoolArray:
        if before == MARK:
            return first != NOTHING
        return (first == SPACE) | (first == MARK)

    def of(self, ids: IntArray) -> Starts:
        """The word starts of a text that starts with a line."""
        begins, places = np.zeros(len(ids), np.bool_), np.full(len(ids), -1)
        rows = {place: row for row, place in enumerate(self._places)}
        kind, previous = SPACE, START
        for t, id in enumerate(ids.tolist()):
            spacing = int(self._spacings[previous])
            if kind != SPACE:
                places[t] = rows[kind, spacing]
                begins[t] = self.masks[places[t], id]
            else:
                begins[t] = previous in (START, EOS)
            last = int(self._last[id, spacing])
            if last == JOINER:
                kind = LETTER if kind == LETTER else MARK
            elif last != NOTHING:
                kind = last
            previous = id
        return Starts(begins, places)


@lru_cache(maxsize=4)
def word_starts(tokenizer: Tokenizer, punctuation: bool = False) -> WordStarts:
    """`WordStarts`, once for each tokenizer."""
    return WordStarts(tokenizer, punctuation)


def _kinds_of_tokens(
    tokenizer: Tokenizer, punctuation: bool
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """The kinds of each token's first character and of the place after it, (size, spacings)."""
    spacings = tokenizer.spacings
    first = np.full((tokenizer.size, spacings.max() + 1), NOTHING, np.int8)
    last = first.copy()
    for spacing in range(first.shape[1]):
        previous = int(np.flatnonzero(spacings == spacing)[-1])
        for id in range(tokenizer.size):
            text = tokenizer.appended(id, previous).decode("utf-8", "replace")
            kinds = [_kind(char, punctuation) for char in text]
            if kinds:
                first[id, spacing], last[id, spacing] = kinds[0], _place_after(kinds)
    return first, last


def _place_after(kinds: list[int]) -> int:
    """The kind of the place after these characters; `JOINER` if what is before them decides it."""
    *others, last = kinds
    if last != JOINER or not others:
        return last
    before = _place_after(others)
    return before if before in (JOINER, LETTER) else MARK


def _kind(char: str, punctuation: bool) -> int:
    if char.isspace():
        return SPACE
    if not punctuation or char.isalnum() or char in "_" + UNKNOWN:
        return LETTER
    if char in JOINERS:
        return JOINER
    return LETTER if unicodedata.category(char)[0] == "M" else MARK
