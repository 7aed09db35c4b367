"""The words of sentences as rows of characters, for networks that spell them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.encoding import TokenFile
from charlm.tokenizer import EOS

LONGEST_WORD = 24  # characters of a word after this one are ignored
WIDTH_MULTIPLE = 4  # a fused kernel is built for each new shape


class Spellings(NamedTuple):
    """The different words of a batch.

    rows:   (N, L) int64, a word in each: the separator, its characters, the separator, then 0
    words:  (T, B) int64, the row of each token; any row for what fills up a sentence
    """

    rows: NDArray[np.int64]
    words: NDArray[np.int64]


def spelt(file: TokenFile, which: NDArray[np.int64], separator: int, steps: int) -> Spellings:
    """The spellings of the words of some sentences.

    file:       the characters of sentences; a separator stands between two words
    which:      (B,) numbers of the sentences, each with at least one word
    separator:  the id of that character
    steps:      T
    """
    lines = file.lines(which)
    ids = lines.ids.astype(np.int64)
    (ends,) = np.nonzero((ids == separator) | (ids == EOS))
    starts = np.append(0, ends[:-1] + 1)
    lengths = np.minimum(ends - starts, LONGEST_WORD)
    # One 0 or more behind every word: then no word depends on the lengths of the others.
    width = -(-(int(lengths.max(initial=0)) + 3) // WIDTH_MULTIPLE) * WIDTH_MULTIPLE
    rows = np.zeros((len(ends), width), np.int64)
    rows[:, 0] = separator
    offsets = np.arange(width - 2)
    inside = offsets < lengths[:, None]
    rows[:, 1:-1][inside] = ids[(starts[:, None] + offsets)[inside]]
    rows[np.arange(len(ends)), lengths + 1] = separator
    rows, of_token = np.unique(rows, axis=0, return_inverse=True)
    sentence = np.searchsorted(lines.bounds, ends, side="right") - 1
    first = np.searchsorted(sentence, np.arange(len(which)))
    words = np.zeros((steps, len(which)), np.int64)
    words[np.arange(len(ends)) - first[sentence], sentence] = of_token.reshape(-1)
    return Spellings(rows, words)
