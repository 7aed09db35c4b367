"""The words of the training text: how often they occur, and how words are spelt."""

from __future__ import annotations

import math
import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from charlm.errors import InputError, ModelError
from charlm.model.likelihood import sequence_logprobs
from charlm.model.names import add_prefix, strip_prefix
from charlm.model.ngram import Ngram
from charlm.model.ngram_counts import count
from charlm.model.ngram_tables import NgramTables
from charlm.tokenizer import (
    SPECIALS,
    UNK,
    Tokenizer,
    WordCounts,
    bare_word,
    load_tokenizer,
    train_tokenizer,
)

MOST_WORDS = 50_000  # whose counts are kept
# Of the n-grams of letters; chosen on words of Penn Treebank and tiny-shakespeare.
ORDER, MOST_NGRAMS = 6, 100_000
MILLION = 1_000_000
CODE_POINTS = sys.maxunicode + 1
MOST_KNOWN = 1 - 1e-6


@dataclass(frozen=True)
class Lexicon:
    """The words of a training text, or of its beginning.

    words:     the most frequent ones, with and without separate punctuation
    counts:    (n,) how often each occurs
    total:     words of the text, with separate punctuation
    spelling:  of words that are not in the vocabulary; None where tokens are not words
    """

    words: Sequence[str]
    counts: NDArray[np.int64]
    total: int
    spelling: Spelling | None

    @classmethod
    def of(cls, found: WordCounts, tokenizer: Tokenizer) -> Self:
        """The lexicon of a text.

        tokenizer:  of the model
        """
        counts: Counter[str] = Counter()
        for word, occurrences in (found.separate + found.joined).items():
            counts[unicodedata.normalize("NFC", word)] += occurrences
        words = sorted(counts, key=lambda word: (-counts[word], word))[:MOST_WORDS]
        numbers = np.array([counts[word] for word in words], np.int64)
        spelling = None
        if tokenizer.tokens_are_words and counts:
            spelling = Spelling.of(found.separate, tokenizer)
        return cls(words, numbers, found.separate.total(), spelling)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def frequency(self, word: str) -> float:
        """Occurrences in a million words. Marks at the edges of a word do not count; 0 for a word
        that is not there."""
        word = unicodedata.normalize("NFC", word)
        number = self._numbers.get(word, self._numbers.get(bare_word(word)))
        return 0.0 if number is None else MILLION * float(self.counts[number]) / self.total

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The input of `from_state`: small settings, and arrays."""
        text = "".join(f"{word}\n" for word in self.words)
        arrays: dict[str, NDArray[Any]] = {
            "words": np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8),
            "counts": self.counts.astype(np.int32),
        }
        settings: dict[str, Any] = {"total": self.total}
        if self.spelling:
            settings["spelling"], more = self.spelling.state()
            arrays |= more
        return settings, arrays

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore a lexicon. Raises ModelError for a damaged one."""
        try:
            text = arrays["words"].tobytes().decode("utf-8", "surrogatepass")
            words, counts = text.split("\n")[:-1], arrays["counts"].astype(np.int64)
            total, spelling = int(settings["total"]), None
            if "spelling" in settings:
                spelling = Spelling.from_state(settings["spelling"], arrays)
        except (KeyError, TypeError, ValueError, InputError) as error:
            raise ModelError(f"words: {error}") from None
        if len(words) != len(counts) or (counts < 1).any():
            raise ModelError("words: values out of range")
        return cls(words, counts, total, spelling)


class Spelling:
    """How a word is spelt that is not in the vocabulary (Brown et al. 1992).

    P(word) = Π p(letter | letters before) · p(end | word) / (1 − Σ_v P(v))

    v runs over the vocabulary, so that the probabilities of all other words add up to 1. The
    letters are predicted by an n-gram model. It has learnt the words of the vocabulary once, and
    other words of the training text as often as they occur. The probability of a letter that it
    has not seen is that of an unknown letter, divided among all code points.

    letters:  tokenizer of the letters
    ngram:    of the letters
    known:    Σ_v P(v)
    """

    def __init__(self, letters: Tokenizer, ngram: Ngram, known: float) -> None:
        self.letters, self.ngram, self.known = letters, ngram, known
        self._unseen_letters = CODE_POINTS - (letters.size - len(SPECIALS))

    @classmethod
    def of(cls, counts: Mapping[str, int], tokenizer: Tokenizer) -> Self:
        """See `Lexicon.of`."""
        vocabulary = {tokenizer.decode([id]) for id in range(len(SPECIALS), tokenizer.size)}
        text = "".join(
            f"{word}\n" * (1 if word in vocabulary else count) for word, count in counts.items()
        )
        normalize = str(tokenizer.state()[0]["normalize"])
        letters = train_tokenizer("char", lambda: [text], normalize=normalize)
        ids = letters.encode_ids(text)
        ngram = count(ids, letters.size, ORDER, independent_lines=True, most=MOST_NGRAMS)
        spelling = cls(letters, ngram, 0.0)
        # No word is empty, and there are always others.
        known = np.exp(spelling.logprobs(sorted(vocabulary | {""}))).sum()
        spelling.known = float(min(known, MOST_KNOWN))
        return spelling

    def logprobs(self, words: Sequence[str]) -> NDArray[np.float64]:
        """log P of words, in nats, (n,)."""
        sequences = [self.letters.encode_ids(f"{word}\n") for word in words]
        found = sequence_logprobs(self.ngram, sequences)
        unseen = [int((ids == UNK).sum()) for ids in sequences]
        total = np.array([logprobs.sum(dtype=np.float64) for logprobs in found])
        total -= math.log(self._unseen_letters) * np.array(unseen)
        return total - math.log1p(-self.known)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The input of `from_state`: small settings, and arrays."""
        settings, letters = self.letters.state()
        tables = self.ngram.tables.to_arrays()
        arrays = add_prefix("letters", letters) | add_prefix("ngram", tables)
        return {"letters": settings, "known": self.known}, arrays

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore a spelling. Raises ModelError, InputError, KeyError or ValueError."""
        letters = load_tokenizer(settings["letters"], strip_prefix("letters", arrays))
        tables = NgramTables.from_arrays(strip_prefix("ngram", arrays), letters.size)
        known = float(settings["known"])
        if not 0 <= known < 1:
            raise ModelError("spelling: values out of range")
        return cls(letters, Ngram(tables, letters.size), known)
