"""The counts of an n-gram model, and how a model file holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from charlm.errors import ModelError
from charlm.model.backend import Ids
from charlm.tokenizer import START

T = TypeVar("T", bound=np.generic)
Indices = NDArray[np.int64]
NONE, EMPTY = 0, 1  # the numbers of no n-gram, and of the empty one
LEAST_DISCOUNT = 0.05
MOST_VALUES = 256  # different counts in a model file; larger ones are rounded to 2 % or so


@dataclass(frozen=True)
class NgramTables:
    """The counts of an n-gram model, as a trie.

    The children of an n-gram are the n-grams with one more token at the end. Every n-gram has a
    number, which is its row in all arrays: `NONE` stands for no n-gram, and `EMPTY` is the empty
    one. The N others follow length by length, and children of the same n-gram by token, so that
    the children of an n-gram lie together.

    tokens:     (N + 2,) the last token of each
    counts:     (N + 2,) how often each occurs, adjusted by Kneser-Ney, see `Ngram`
    parents:    (N + 2,) the number of each without its last token
    discounts:  (order, 4) D for counts of 0, 1, 2 and more, for n-grams of each length

    The first two rows of `tokens`, `counts` and `parents` are 0.
    """

    tokens: Ids
    counts: Indices
    parents: Ids
    discounts: NDArray[np.float32]

    def __len__(self) -> int:
        """The number of n-grams, N."""
        return len(self.tokens) - 2

    @classmethod
    def of(
        cls, tokens: Ids, counts: Indices, parents: Ids, discounts: NDArray[np.float32]
    ) -> NgramTables:
        """The tables of N n-grams, from arrays without the first two rows."""
        return cls(_padded(tokens), _padded(counts), _padded(parents), discounts)

    def rounded(self) -> NgramTables:
        """The same with at most `MOST_VALUES` different counts, as a model file holds them."""
        return replace(self, counts=_padded(rounded_counts(self.counts[2:])))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The tables in few bytes; about 2.3 for each n-gram of up to 256 different tokens.

        A count is stored as an index into the list of all different counts. The parents are
        stored as bits: for each node a 1 for each child and then a 0 (Jacobson 1989, LOUDS).
        """
        values, codes = np.unique(self.counts[2:], return_inverse=True)
        bits = np.zeros(2 * len(self) + 1, np.uint8)
        bits[np.arange(len(self)) + self.parents[2:] - EMPTY] = 1
        return {
            "tokens": self.tokens[2:].astype(np.min_scalar_type(int(self.tokens.max(initial=0)))),
            "counts": codes.astype(np.uint8),
            "values": values.astype(np.int32),
            "children": np.packbits(bits),
            "discounts": self.discounts,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], vocab: int) -> NgramTables:
        """The tables of `to_arrays`. Raises ModelError if they are damaged.

        vocab:  number of token ids of the model
        """
        try:
            tokens, codes, values = (arrays[name] for name in ("tokens", "counts", "values"))
            discounts, size = arrays["discounts"], len(tokens)
            bits = np.unpackbits(arrays["children"])[: 2 * size + 1].view(bool)
            ones, counts = np.flatnonzero(bits), np.zeros(size + 2, values.dtype)
            values.take(codes, out=counts[2:])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ModelError(f"n-gram tables: {error}") from None
        is_whole = len(codes) == len(ones) == size > 0 and len(bits) == 2 * size + 1
        if not is_whole or discounts.shape != (len(discounts), 4) or not len(discounts):
            raise ModelError("n-gram tables: parts are missing")
        in_range = tokens.min() > START and tokens.max() < vocab and values.min() > 0
        # A discount of 0 would leave nothing for the tokens that did not occur.
        if not in_range or not ((discounts[:, 1:] > 0) & (discounts[:, 1:] <= [1, 2, 3])).all():
            raise ModelError("n-gram tables: values out of range")
        parents = np.zeros(size + 2, np.int32)
        parents[2:] = ones
        parents[2:] -= np.arange(-EMPTY, size - EMPTY, dtype=np.int32)
        return cls(_padded(tokens), counts, parents, discounts)


def rounded_counts(counts: Indices) -> Indices:
    """The counts, with at most `MOST_VALUES` different ones."""
    values = _representatives(counts)
    return values[np.searchsorted((values[1:] + values[:-1]) / 2, counts)]


def discounts_of(counts: Indices) -> NDArray[np.float64]:
    """D for the counts 0, 1, 2 and ≥ 3 (Chen and Goodman 1999).

    A denominator of 0 is replaced by 1. No discount is below `LEAST_DISCOUNT`, so that every token
    has a probability.
    """
    n1, n2, n3, n4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    y = n1 / max(n1 + 2 * n2, 1)
    discounts = [
        k - (k + 1) * y * b / max(a, 1)
        for k, (a, b) in enumerate(((n1, n2), (n2, n3), (n3, n4)), 1)
    ]
    return np.append(0.0, np.clip(discounts, LEAST_DISCOUNT, [1, 2, 3]))


def _representatives(counts: Indices) -> Indices:
    """At most `MOST_VALUES` counts that stand for all: the counts themselves, or a geometric row.

    Small counts are exact.
    """
    values = np.unique(counts)
    size = 2 * MOST_VALUES
    while len(values) > MOST_VALUES:
        values = np.unique(np.geomspace(1, counts.max(), size).round().astype(np.int64))
        size -= 8
    return values


def _padded(values: NDArray[T]) -> NDArray[T]:
    """The values after two rows of 0, for `NONE` and `EMPTY`."""
    padded = np.zeros(len(values) + 2, values.dtype)
    padded[2:] = values
    return padded
