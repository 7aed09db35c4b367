"""Word vectors in the text format of word2vec, and of GloVe, which is the same without a head.

A line holds a word and its numbers, parted by spaces; word2vec's first line is the number of
words and that of features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.reading import RAW, Corpus
from charlm.errors import InputError
from charlm.files import replacing
from charlm.tokenizer import Tokenizer


@dataclass(frozen=True)
class WordVectors:
    """What a file of word vectors knows of a vocabulary.

    ids:      (n,) the tokens that it has vectors for
    vectors:  (n, E) float32
    """

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]


class _Reader:
    """The lines of a file of word vectors, and what its beginning says of it."""

    def __init__(self, path: str | Path) -> None:
        # Bytes that are no UTF-8 do not matter: a word that has such is not one of the text's.
        self.path, self.lines = path, Corpus([path], encoding=RAW).lines()
        first = next(self.lines, "")
        numbers = first.split()
        has_head = len(numbers) == 2 and all(number.isdecimal() for number in numbers)
        self.words = int(numbers[0]) if has_head else None
        self.first_line = 2 if has_head else 1
        self.entries = self.lines if has_head else chain([first], self.lines)
        self.features = int(numbers[1]) if has_head else len(numbers) - 1
        if self.features < 1:
            raise InputError(
                f"{path}: no file of word vectors; its lines should be a word and its numbers"
            )

    def vectors(self, words: set[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors of these words, as far as the file has them; the first of each counts."""
        found: dict[str, NDArray[np.float32]] = {}
        number = self.first_line - 1
        for number, line in enumerate(self.entries, start=self.first_line):
            word, *values = line.rstrip(" ").rsplit(" ", self.features)
            if len(values) != self.features:
                raise self._broken(number)
            if word in words and word not in found:
                try:
                    found[word] = np.array(values, np.float32)
                except ValueError:
                    raise self._broken(number) from None
                if not np.isfinite(found[word]).all():
                    raise self._broken(number)
        read = number - self.first_line + 1
        if self.words is not None and read < self.words:
            raise InputError(
                f"{self.path}: ends after {read:,} of {self.words:,} words; the file is cut off, "
                "copy it again"
            )
        return found

    def _broken(self, number: int) -> InputError:
        return InputError(
            f"{self.path}, line {number}: should be a word and {self.features} numbers, written as "
            "text; mend the file, or convert it from the binary format"
        )


def width(path: str | Path) -> int:
    """How many features the vectors of a file have. Raises InputError if it holds none."""
    return _Reader(path).features


def read(path: str | Path, tokenizer: Tokenizer) -> WordVectors:
    """The vectors of the tokens that a file knows, as they are spelled or else in lower case.

    Raises InputError, naming the line, for a file that is not of this format, is broken in the
    middle or cut off, or that knows no token at all.
    """
    words = [tokenizer.token(id) for id in range(tokenizer.size)]
    found = _Reader(path).vectors({*words, *(word.lower() for word in words)})
    if not found:
        raise InputError(
            f"{path}: has a vector for none of the {len(words):,} words of the text; name a file "
            "of the text's language"
        )
    spelled = [word if word in found else word.lower() for word in words]
    ids = [id for id, word in enumerate(spelled) if word in found]
    return WordVectors(np.array(ids, np.int64), np.stack([found[spelled[id]] for id in ids]))


def write(path: Path, words: Sequence[str], vectors: NDArray[np.float32]) -> None:
    """Write words and their vectors (n, E) in the text format of word2vec."""
    with (
        replacing(path) as beside,
        beside.open("w", encoding="utf-8", errors="surrogateescape") as file,
    ):
        file.write(f"{len(words)} {vectors.shape[1]}\n")
        for word, vector in zip(words, vectors.tolist(), strict=True):
            file.write(f"{word} {' '.join(f'{value:.7g}' for value in vector)}\n")
