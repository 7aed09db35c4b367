"""Word vectors in the text formats of word2vec and GloVe.

Each line holds a word and its numbers, separated by spaces. A word2vec file begins with a header:
the number of words and the number of features. A GloVe file has no header.
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
from charlm.tokenizer import Vocabulary


@dataclass(frozen=True)
class WordVectors:
    """The vectors of those tokens of a vocabulary that a file contains.

    ids:      (n,) the ids of the tokens
    vectors:  (n, E) float32, one for each id
    """

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]


class _VectorFile:
    """A file of word vectors, which is read line by line.

    path:        the file
    words:       the number of words that the header states; None without a header
    features:    the number of features of a vector
    entries:     the lines after the header
    first_line:  the number of the first of these lines, from 1
    """

    def __init__(self, file: str | Path | Corpus) -> None:
        corpus = file if isinstance(file, Corpus) else opened(file)
        self.path, lines = corpus.paths[0], corpus.lines()
        first = next(lines, "")
        columns = first.split()
        has_header = len(columns) == 2 and all(column.isdecimal() for column in columns)
        self.words = int(columns[0]) if has_header else None
        self.first_line = 2 if has_header else 1
        self.entries = lines if has_header else chain([first], lines)
        self.features = int(columns[1]) if has_header else len(columns) - 1
        if self.features < 1:
            raise InputError(
                f"{self.path}: not a file of word vectors; each line should be a word and its "
                "numbers"
            )

    def vectors(self, words: set[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors of those words that are in the file.

        If a word occurs twice, the first vector is used. Reads the file once, to its end. Raises
        InputError, naming the line, for a malformed file.
        """
        vectors: dict[str, NDArray[np.float32]] = {}
        number = self.first_line - 1
        for number, line in enumerate(self.entries, start=self.first_line):
            word, *values = line.rstrip(" ").rsplit(" ", self.features)
            if len(values) != self.features:
                raise self._malformed(number)
            if word in words and word not in vectors:
                try:
                    vectors[word] = np.array(values, np.float32)
                except ValueError:
                    raise self._malformed(number) from None
                if not np.isfinite(vectors[word]).all():
                    raise self._malformed(number)
        entries = number - self.first_line + 1
        if self.words is not None and entries < self.words:
            raise InputError(
                f"{self.path}: ends after {entries:,} of {self.words:,} words; the file is "
                "incomplete, copy it again"
            )
        return vectors

    def _malformed(self, number: int) -> InputError:
        return InputError(
            f"{self.path}, line {number}: should be a word and {self.features} numbers, written as "
            "text; correct the file, or convert it from the binary format"
        )


def opened(path: str | Path) -> Corpus:
    """A file of word vectors, which can be read more than once even if it is a pipe."""
    # Invalid UTF-8 is allowed. A word that contains it cannot be in the vocabulary.
    return Corpus([path], encoding=RAW)


def width(file: str | Path | Corpus) -> int:
    """The number of features of a file's vectors. Raises InputError for a file without vectors."""
    return _VectorFile(file).features


def read(file: str | Path | Corpus, tokenizer: Vocabulary) -> WordVectors:
    """The vectors of the tokens in a vocabulary.

    A token without a vector of its own takes the vector of its lower-case form. Raises InputError
    for a file in another format, for a malformed line, whose number it names, for an incomplete
    file, and for a file without any token of the vocabulary.
    """
    tokens = [tokenizer.token(id) for id in range(tokenizer.size)]
    reader = _VectorFile(file)
    vectors = reader.vectors({*tokens, *(token.lower() for token in tokens)})
    if not vectors:
        raise InputError(
            f"{reader.path}: has no vector for any of the {len(tokens):,} tokens of the "
            "vocabulary; use a file in the language of the text"
        )
    words = [token if token in vectors else token.lower() for token in tokens]
    ids = [id for id, word in enumerate(words) if word in vectors]
    return WordVectors(np.array(ids, np.int64), np.stack([vectors[words[id]] for id in ids]))


def write(path: Path, words: Sequence[str], vectors: NDArray[np.float32]) -> None:
    """Write words and their vectors (n, E) in the text format of word2vec."""
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape") as file,
    ):
        file.write(f"{len(words)} {vectors.shape[1]}\n")
        for word, vector in zip(words, vectors.tolist(), strict=True):
            file.write(f"{word} {' '.join(f'{value:.7g}' for value in vector)}\n")
