"""Words as sequences of letters, for character-aware networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from charlm.tokenizer.base import SPECIALS, Tokenizer, printable

PADDING, FIRST, LAST, UNKNOWN = range(4)
LONGEST_WORD = 24  # letters of a word after this one are ignored


class Letters:
    """The letters of a vocabulary. Ids 0 to 3 are PADDING, FIRST, LAST and UNKNOWN."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._words = [_spelled(tokenizer, id) for id in range(tokenizer.size)]
        letters = sorted(set("".join(self._words)))
        self._ids = {letter: id for id, letter in enumerate(letters, UNKNOWN + 1)}

    @property
    def size(self) -> int:
        """Number of letter ids, the four specials included."""
        return len(self._ids) + UNKNOWN + 1

    def of_vocabulary(self) -> NDArray[np.int64]:
        """The letter ids of every token: `spell` for the whole vocabulary."""
        return self.spell(self._words)

    def spell(self, words: Sequence[str]) -> NDArray[np.int64]:
        """(words, LONGEST_WORD + 2) letter ids: FIRST, the letters, LAST, then PADDING."""
        rows = np.full((len(words), LONGEST_WORD + 2), PADDING, np.int64)
        for row, word in zip(rows, words, strict=True):
            ids = [self._ids.get(letter, UNKNOWN) for letter in word[:LONGEST_WORD]]
            row[: len(ids) + 2] = [FIRST, *ids, LAST]
        return rows


def _spelled(tokenizer: Tokenizer, id: int) -> str:
    if id < len(SPECIALS):
        return ""
    word = tokenizer.token(id)
    return printable(word.encode()) if tokenizer.escapes_joiners else word
