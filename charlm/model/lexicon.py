"""The words of the training text: how often they occur, and how words are spelt."""

from __future__ import annotations

import math
import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

    words:     how often the most frequent words occur, marks by themselves
    joined:    what stands between white space, without marks at its edges, if that is not one word
    total:     words of the text, marks by themselves
    spelling:  of words that are not in the vocabulary; None where tokens are not words
    """

    words: Mapping[str, int]
    joined: Mapping[str, int]
    total: int
    spelling: Spelling | None

    @classmethod
    def of(cls, found: WordCounts, tokenizer: Tokenizer) -> Self:
        """The lexicon of a text.

        tokenizer:  of the model
        """
        spelling = None
        if tokenizer.tokens_are_words and found.separate:
            spelling = Spelling.of(found.separate, tokenizer)
        words, joined = map(_most_frequent, found)
        return cls(words, joined, found.separate.total(), spelling)

    def added_to(self, counts: WordCounts) -> WordCounts:
        """Counts of another text, with the words of this lexicon."""
        own = Counter(self.words), Counter(self.joined)
        return WordCounts(counts.separate + own[0], counts.joined + own[1])

    def frequency(self, word: str) -> float:
        """Occurrences in a million words. Marks at the edges of a word do not count; 0 for a word
        that is not there."""
        word = unicodedata.normalize("NFC", word)
        for form in (word, bare_word(word)):
            if count := self.words.get(form) or self.joined.get(form):
                return MILLION * count / self.total
        return 0.0

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The input of `from_state`: small settings, and arrays."""
        arrays = {**_to_arrays(self.words), **add_prefix("joined", _to_arrays(self.joined))}
        settings: dict[str, Any] = {"total": self.total}
        if self.spelling:
            settings["spelling"], more = self.spelling.state()
            arrays |= more
        return settings, arrays

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore a lexicon. Raises ModelError for a damaged one."""
        try:
            words, total, spelling = _from_arrays(arrays), int(settings["total"]), None
            joined = strip_prefix("joined", arrays)  # {} in a model of an earlier version
            if "spelling" in settings:
                spelling = Spelling.from_state(settings["spelling"], arrays)
            if total < sum(words.values()):
                raise ValueError("values out of range")
            return cls(words, _from_arrays(joined) if joined else {}, total, spelling)
        except (KeyError, TypeError, ValueError, InputError) as error:
            raise ModelError(f"words: {error}") from None


def _most_frequent(counts: Mapping[str, int]) -> dict[str, int]:
    """The most frequent words in the normal form NFC, with their counts."""
    normal: Counter[str] = Counter()
    for word, occurrences in counts.items():
        normal[unicodedata.normalize("NFC", word)] += occurrences
    ordered = sorted(normal, key=lambda word: (-normal[word], word))
    return {word: normal[word] for word in ordered[:MOST_WORDS]}


def _to_arrays(counts: Mapping[str, int]) -> dict[str, NDArray[Any]]:
    text = "".join(f"{word}\n" for word in counts)
    return {
        "words": np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8),
        "counts": np.array(list(counts.values()), np.int32),
    }


def _from_arrays(arrays: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """The counts of `_to_arrays`. Raises KeyError or ValueError for damaged ones."""
    words = arrays["words"].tobytes().decode("utf-8", "surrogatepass").split("\n")[:-1]
    counts = arrays["counts"].astype(np.int64).tolist()
    if any(count < 1 for count in counts):
        raise ValueError("values out of range")
    return dict(zip(words, counts, strict=True))


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
