"""The letters that words are made of, for networks that read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from charlm.tokenizer.base import SPECIALS, Tokenizer

FILLING, FIRST, LAST, UNKNOWN = range(4)
LONGEST_WORD = 24  # letters; more are not looked at


class Letters:
    """The letters of a vocabulary, from id 4 on; a word is framed by FIRST and LAST."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._words = [
            "" if id < len(SPECIALS) else tokenizer.token(id) for id in range(tokenizer.size)
        ]
        letters = sorted(set("".join(self._words)))
        self._ids = {letter: id for id, letter in enumerate(letters, UNKNOWN + 1)}

    @property
    def size(self) -> int:
        """Number of letter ids."""
        return len(self._ids) + UNKNOWN + 1

    def of_vocabulary(self) -> NDArray[np.int64]:
        """The letters of every token, `spell` of the whole vocabulary."""
        return self.spell(self._words)

    def spell(self, words: Sequence[str]) -> NDArray[np.int64]:
        """The letters of words, (N, L), filled up with FILLING."""
        spelled = np.full((len(words), LONGEST_WORD + 2), FILLING, np.int64)
        for row, word in zip(spelled, words, strict=True):
            ids = [self._ids.get(letter, UNKNOWN) for letter in word[:LONGEST_WORD]]
            row[: len(ids) + 2] = [FIRST, *ids, LAST]
        return spelled
