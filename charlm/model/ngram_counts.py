"""Counting the n-grams of a text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from charlm.model.backend import Ids
from charlm.model.ngram import Ngram
from charlm.model.ngram_tables import EMPTY, Indices, NgramTables, discounts_of
from charlm.tokenizer import EOS

ALWAYS_KEPT = 3  # contexts up to this length are never pruned
MOST_COUNTED = 1 << 24  # tokens; counting them takes about a gigabyte of memory
STRETCHES = 64


def sampled(ids: Ids) -> Ids:
    """The text itself; of a text of more than `MOST_COUNTED` tokens, stretches all over it."""
    if len(ids) <= MOST_COUNTED:
        return np.asarray(ids)
    starts = np.linspace(0, len(ids) - MOST_COUNTED // STRETCHES, STRETCHES).astype(np.int64)
    return np.concatenate([ids[start : start + MOST_COUNTED // STRETCHES] for start in starts])


def count(
    ids: Ids,
    vocab: int,
    order: int,
    *,
    independent_lines: bool = False,
    most: int | None = None,
) -> Ngram:
    """The n-gram model of a text.

    ids:                (N,), the text; every line ends with an `<EOS>`
    vocab:              number of token ids V
    order:              n; reduced to N if the text is shorter
    independent_lines:  no n-gram holds tokens of two lines, so a line end ends every context
    most:               about how many n-grams are kept; None for all. Where there are more,
                        contexts of more than `ALWAYS_KEPT` tokens that occur less than k times are
                        pruned, with the smallest k that suffices
    """
    counter = _Counter(ids, vocab, independent_lines)
    for _ in range(min(order, len(ids))):
        counter.add_level(fewest=2 if most and len(ids) > most else 1)
    return Ngram(counter.tables(most), vocab)


def merged(ngram: Ngram, other: Ngram) -> Ngram:
    """The n-grams of two texts as of one: their counts are added.

    Counts that Kneser-Ney has adjusted are added as well, which is more than the number of
    different tokens before both.

    ngram, other:  the vocabulary of the other one may have more tokens at its end
    """
    vocab, end = other.vocab, EMPTY + 1
    both = [_Numbered(ngram), _Numbered(other)]
    tokens, counts, parents, discounts = [], [], [], []
    for length in range(1, max(ngram.order, other.order) + 1):
        found = [of_one.level(length, vocab) for of_one in both]
        every = np.unique(np.concatenate([keys for keys, _ in found]))
        added = np.zeros(len(every), np.int64)
        for of_one, (keys, frequencies) in zip(both, found, strict=True):
            rows = np.searchsorted(every, keys)
            added[rows] += frequencies
            of_one.number(length, end + rows)
        parents.append(every // vocab)
        tokens.append(every % vocab)
        counts.append(added)
        discounts.append(discounts_of(added))
        end += len(every)
    tables = NgramTables.of(
        np.concatenate(tokens),
        np.concatenate(counts),
        np.concatenate(parents),
        np.array(discounts, np.float32),
    )
    return Ngram(tables.rounded(), vocab)


class _Numbered:
    """One of two n-gram models that are merged, and the numbers of its n-grams in the result."""

    def __init__(self, ngram: Ngram) -> None:
        self.tables = ngram.tables
        self._numbers = np.arange(len(ngram.tables.tokens))  # `NONE` and `EMPTY` keep theirs
        self._levels = [slice(*bounds) for bounds in pairwise(ngram.levels)]

    def level(self, length: int, vocab: int) -> tuple[Indices, Indices]:
        """The parent in the result and the token of each n-gram of a length, as one ascending
        number, and its count."""
        rows, tables = self._rows(length), self.tables
        keys = self._numbers[tables.parents[rows]] * vocab + tables.tokens[rows]
        return keys, tables.counts[rows].astype(np.int64)

    def number(self, length: int, numbers: Indices) -> None:
        """Set the numbers of the n-grams of a length."""
        self._numbers[self._rows(length)] = numbers

    def _rows(self, length: int) -> slice:
        return self._levels[length] if length < len(self._levels) else slice(0)


@dataclass(frozen=True)
class _Level:
    """All n-grams of one length, sorted.

    parents:    (M,) the number of each without its last token, among the n-grams one shorter
    tokens:     (M,) its last token
    frequency:  (M,) how often it occurs
    counts:     (M,) the same, adjusted by Kneser-Ney
    """

    parents: Indices
    tokens: Indices
    frequency: Indices
    counts: Indices


class _Counter:
    """Counts the n-grams of a text, one length after the other."""

    def __init__(self, ids: Ids, vocab: int, independent_lines: bool) -> None:
        self.ids, self.vocab = ids.astype(np.int64), vocab
        self.independent_lines = independent_lines
        self.levels: list[_Level] = []
        # Of all n-grams of the last length: where they begin, and their number among the
        # different ones.
        self.positions = np.arange(len(ids))
        self.numbers = np.zeros(len(ids), np.int64)

    def add_level(self, fewest: int) -> None:
        """Count the n-grams that are one token longer.

        fewest:  contexts of more than `ALWAYS_KEPT` tokens occur at least so often
        """
        n = len(self.levels)  # length of the contexts
        kept = self.positions < len(self.ids) - n
        if n > ALWAYS_KEPT and fewest > 1:
            kept &= self.levels[-1].frequency[self.numbers] >= fewest
        if self.independent_lines and n > 1:  # a line end is the first token or the last
            kept[kept] = self.ids[self.positions[kept] + n - 1] != EOS
        positions = self.positions[kept]
        keys = self.numbers[kept] * self.vocab + self.ids[positions + n]
        order = np.argsort(keys)
        keys, positions = keys[order], positions[order]
        new = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
        firsts = np.flatnonzero(new)
        if n:
            self._adjust(positions[firsts], n)
        parents, tokens = np.divmod(keys[firsts], self.vocab)
        frequency = np.diff(np.append(firsts, len(keys)))
        self.levels.append(_Level(parents, tokens, frequency, frequency))
        self.positions, self.numbers = positions, np.cumsum(new) - 1

    def _adjust(self, longer: Indices, n: int) -> None:
        """Kneser-Ney's counts of the n-grams: the number of different tokens before each.

        longer:  where each different (n + 1)-gram begins

        The first n-gram of the text has no token before it; it counts once. Where lines are
        independent, one at the start of a line keeps its frequency.
        """
        level, number = self.levels[-1], np.zeros(len(self.ids), np.int64)
        number[self.positions] = self.numbers
        counts = np.bincount(number[longer + 1], minlength=len(level.counts))
        if self.independent_lines and n > 1:
            first = np.zeros(len(counts), np.int64)
            first[self.numbers] = self.ids[self.positions]
            counts = np.where(first == EOS, level.frequency, counts)
        self.levels[-1] = replace(level, counts=np.maximum(counts, 1))

    def tables(self, most: int | None) -> NgramTables:
        """The n-grams as a trie, pruned to about `most`."""
        discounts = np.array([discounts_of(level.counts) for level in self.levels], np.float32)
        fewest = self._fewest(most)
        tokens, counts, parents = [], [], []
        numbers = np.array([EMPTY])  # in the tables, of each n-gram of the level before
        end = EMPTY + 1  # the next number
        for n, level in enumerate(self.levels):
            kept = np.full(len(level.tokens), True)
            if n > ALWAYS_KEPT:
                kept = self.levels[n - 1].frequency[level.parents] >= fewest
            parents.append(numbers[level.parents[kept]])
            tokens.append(level.tokens[kept])
            counts.append(level.counts[kept])
            numbers = np.cumsum(kept) + end - 1
            end += len(tokens[-1])
        return NgramTables.of(
            np.concatenate(tokens), np.concatenate(counts), np.concatenate(parents), discounts
        ).rounded()

    def _fewest(self, most: int | None) -> int:
        """How often a longer context must occur, so that about `most` n-grams remain."""
        pairs = list(pairwise(self.levels))[ALWAYS_KEPT:]
        frequencies = [shorter.frequency[longer.parents] for shorter, longer in pairs]
        size = sum(len(level.tokens) for level in self.levels)
        frequency = np.sort(np.concatenate([np.zeros(0, np.int64), *frequencies]))
        if most is None or size <= most or not len(frequency):
            return 1
        dropped = min(size - most, len(frequency))
        return int(frequency[dropped - 1]) + 1
