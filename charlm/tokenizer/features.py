"""Features of texts and of words in a sentence, as numbers: what can be counted about them.

A feature is a number that is computed from a text, by a hash of it (Weinberger et al. 2009), and
not looked up. So there is no vocabulary to learn, and unseen words have features, too.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Self, TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from charlm.tokenizer.base import (
    EOS,
    JSON,
    SPECIALS,
    Arrays,
    IntArray,
    Settings,
    Vocabulary,
    check_choice,
    narrowest_dtype,
    read_setting,
)
from charlm.tokenizer.symbols import SEPARATOR
from charlm.tokenizer.text import NORMAL_FORMS, normalized

BUCKETS = 1 << 24  # different features
WORD = re.compile(r"\w+|[^\w\s]")
WORDS, LETTERS = (1, 2, 3), (2, 3, 4, 5)  # lengths of n-grams
CACHED = 1 << 16
LONGEST_CACHED = 32  # letters
PRIME = np.uint64(0x9E3779B97F4A7C15)  # odd, and its bits look random (Steele et al. 2014)
Hashes: TypeAlias = NDArray[np.uint64]


class _Features(Vocabulary):
    """What all kinds of features have in common: no vocabulary.

    normalize:  normal form of the text; "none" in models of earlier versions
    """

    def __init__(self, normalize: str = "nfc") -> None:
        self.normalize = check_choice("normalize", normalize, NORMAL_FORMS)

    def encode_ids(self, text: str) -> IntArray:
        return self._encoded(normalized(text, self.normalize))

    @abstractmethod
    def _encoded(self, text: str) -> IntArray:
        """`encode_ids` of a text in the normal form."""

    @property
    def size(self) -> int:
        return BUCKETS + len(SPECIALS)

    def token(self, id: int) -> str:
        return SPECIALS[id] if id < len(SPECIALS) else f"feature {id}"

    def state(self) -> tuple[dict[str, JSON], dict[str, NDArray[np.uint8]]]:
        return {"level": self.level, "normalize": self.normalize}, {}

    @classmethod
    def from_state(cls, settings: Settings, arrays: Arrays) -> Self:
        return cls(read_setting({"normalize": "none", **settings}, "normalize", NORMAL_FORMS))

    def _ids(self, hashes: Hashes) -> IntArray:
        ids = hashes % np.uint64(BUCKETS) + np.uint64(len(SPECIALS))
        return ids.astype(narrowest_dtype(self.size))


class TextFeatures(_Features):
    """The n-grams of a text: of one to three words, and of two to five letters of a word.

    A line is a text; each of its features is there once. Upper and lower case are the same.

    >>> ids = TextFeatures().encode_ids("A b\\na b\\n")
    >>> ids[: len(ids) // 2].tolist() == ids[len(ids) // 2 :].tolist()
    True
    """

    level = "text-features"

    def _encoded(self, text: str) -> IntArray:
        lines = text.removesuffix("\n").split("\n") if text else []
        end = np.array([EOS], narrowest_dtype(self.size))
        pieces = [piece for line in lines for piece in (self._of_line(line), end)]
        return np.concatenate(pieces) if pieces else end[:0]

    def _of_line(self, line: str) -> IntArray:
        of_words = [_ngrams_of_word(word) for word in WORD.findall(line.lower())]
        words = np.array([hashes[0] for hashes in of_words], np.uint64)
        ngrams = [
            _mixed(n, [words[k : len(words) - n + 1 + k] for k in range(n)])
            for n in WORDS[1:]
            if len(words) >= n
        ]
        return np.unique(self._ids(np.concatenate([words[:0], *of_words, *ngrams])))


class WindowFeatures(_Features):
    """Features of each word of a sentence: the word, its neighbours, their ends and their shapes.

    A line is a sentence of words that are separated by TABs. Every word has `PER_WORD` features.
    """

    level = "window-features"

    def _encoded(self, text: str) -> IntArray:
        lines = text.removesuffix("\n").split("\n") if text else []
        sentences = [line.split(SEPARATOR) if line else [] for line in lines]
        # `MARGIN` empty rows between sentences, which are what a word at their ends has beside it.
        rows: list[Hashes] = [_EMPTY] * MARGIN
        is_word: list[bool] = [False] * MARGIN
        for words in sentences:
            rows += [_parts_of_word(word) for word in words] + [_EMPTY] * MARGIN
            is_word += [True] * len(words) + [False] * MARGIN
        parts = np.stack(rows)
        at = np.flatnonzero(np.array(is_word))
        features = np.empty((len(at), PER_WORD), np.uint64)
        for k, template in enumerate(TEMPLATES):
            features[:, k] = _mixed(k, [parts[at + offset, part] for part, offset in template])
        ends = np.cumsum([len(words) for words in sentences], dtype=np.int64)
        return np.insert(self._ids(features).ravel(), ends * PER_WORD, EOS)


class SpanFeatures(_Features):
    """Features of the parts of a sentence: their words, and their pairs of words.

    A line is a sentence of words that are separated by TABs. Every word has two features: the word
    itself, and it with the word before; the second one belongs to parts that have both. Upper and
    lower case are the same.
    """

    level = "span-features"

    def _encoded(self, text: str) -> IntArray:
        lines = text.lower().removesuffix("\n").split("\n") if text else []
        end = np.array([EOS], narrowest_dtype(self.size))
        return np.concatenate([end[:0], *(p for line in lines for p in (self._of_line(line), end))])

    def _of_line(self, line: str) -> IntArray:
        words = np.array([_hash(word) for word in line.split(SEPARATOR)], np.uint64)
        before = np.append(words[:1], words[:-1])
        return self._ids(np.stack([_mixed(1, [words]), _mixed(2, [before, words])], axis=1).ravel())


# The parts of a word: itself, the last 1 to 4 letters, the first 1 to 4, and its shape.
ITSELF, LAST, FIRST, SHAPE = 0, 1, 5, 9
MARGIN = 2  # words on each side
# A feature is made of parts of words: (part, distance from the word).
TEMPLATES: Sequence[Sequence[tuple[int, int]]] = (
    *([(ITSELF, d)] for d in (-2, -1, 0, 1, 2)),
    *([(ITSELF, d), (ITSELF, d + 1)] for d in (-2, -1, 0, 1)),
    *([(LAST + n, 0)] for n in range(4)),
    *([(FIRST + n, 0)] for n in range(4)),
    *([(LAST + n, d)] for n in (1, 2) for d in (-1, 1)),
    *([(SHAPE, d)] for d in (-1, 0, 1)),
    *([(LAST + 2, d), (LAST + 2, d + 1)] for d in (-1, 0)),
    [(LAST + 1, -1), (LAST + 2, 0), (LAST + 1, 1)],
)
PER_WORD = len(TEMPLATES)
_EMPTY = np.zeros(SHAPE + 1, np.uint64)


def _mixed(kind: int, parts: Iterable[Hashes]) -> Hashes:
    """One hash for several, which depends on their order and on the kind of feature."""
    first, *others = parts
    mixed = _scrambled(first ^ np.uint64(kind + 1))
    for part in others:
        mixed = _scrambled(mixed ^ part)
    return mixed


def _scrambled(hashes: Hashes) -> Hashes:
    hashes = hashes * PRIME
    return hashes ^ (hashes >> np.uint64(29))


def _hash(text: str) -> int:
    return crc32(text.encode("utf-8", "surrogatepass"))


def _ngrams_of_word(word: str) -> Hashes:
    """The hash of a word, then those of its n-grams of letters; a space stands for its ends."""
    return _cached_ngrams(word) if len(word) <= LONGEST_CACHED else _hashed_ngrams(word)


def _hashed_ngrams(word: str) -> Hashes:
    ends = f" {word} "
    ngrams = (ends[k : k + n] for n in LETTERS for k in range(len(ends) - n + 1))
    return np.array([_hash(f"\n{word}"), *map(_hash, ngrams)], np.uint64) * PRIME


_cached_ngrams = lru_cache(CACHED)(_hashed_ngrams)


@lru_cache(CACHED)
def _parts_of_word(word: str) -> Hashes:
    lower = word.lower()
    ends = [lower[-n:] for n in range(1, 5)] + [lower[:n] for n in range(1, 5)]
    return np.array([_hash(part) + 1 for part in (lower, *ends, shape(word))], np.uint64)


def shape(word: str) -> str:
    """The kinds of characters in a word, each run of one kind once.

    >>> shape("McDonald's"), shape("1,234.5")
    ("AaAa'a", '0,0.0')
    """
    kinds = (
        "A" if c.isupper() else "a" if c.isalpha() else "0" if c.isdecimal() else c for c in word
    )
    return "".join(kind for kind, _ in groupby(kinds))
