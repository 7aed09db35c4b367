"""How often tokens follow contexts, and how a model file holds these counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.errors import ModelError
from charlm.model.backend import Ids
from charlm.model.contexts import CONTEXTS, Keys
from charlm.model.ngram_tables import discounts_of, rounded_counts
from charlm.tokenizer import START

Indices = NDArray[np.int64]
# How often a context must occur to be kept. Contexts of two words are many and hardly ever come
# again.
FEWEST = {"two words": 2, "skipped word": 2}
TOKEN_BITS = 16


@dataclass(frozen=True)
class ContextTables:
    """The counts of all contexts, one kind after the other.

    A context is a row. The tokens that followed it lie together, in ascending order.

    keys:       (R,) the number of each context, ascending among those of a kind
    kinds:      (K + 1,) the rows of kind k are kinds[k] … kinds[k + 1] − 1
    sizes:      (R,) the number of different tokens after each context
    tokens:     (M,) these tokens
    counts:     (M,) how often each came
    discounts:  (K, 4) D for counts of 0, 1, 2 and more
    """

    keys: Keys
    kinds: Indices
    sizes: Indices
    tokens: Ids
    counts: Indices
    discounts: NDArray[np.float32]

    def __len__(self) -> int:
        """The number of counts."""
        return len(self.tokens)

    @classmethod
    def of(cls, keys: Keys, targets: Ids, most: int | None = None) -> ContextTables:
        """Count.

        keys:     (N, K), the contexts of N tokens
        targets:  (N,), the tokens
        most:     about how many counts are kept; None for all. Where there are more, contexts that
                  occur less than k times are left out, with the smallest k that suffices
        """
        tokens = targets.astype(np.uint64)
        pairs = ((of_kind.astype(np.uint64) << TOKEN_BITS) | tokens for of_kind in keys.T)
        return cls._kept([np.unique(row, return_counts=True) for row in pairs], most)

    @classmethod
    def _kept(
        cls, counted: list[tuple[NDArray[np.uint64], Indices]], most: int | None
    ) -> ContextTables:
        """The tables of all pairs of a context and a token, (n,), ascending, and their counts."""
        rows = [_Rows(*pairs) for pairs in counted]
        fewest = _fewest(rows, most)
        discounts = np.array([discounts_of(row.counts) for row in rows], np.float32)
        for row, name in zip(rows, CONTEXTS, strict=True):
            row.drop(max(fewest, FEWEST.get(name, 1)))
        return cls(
            np.concatenate([row.keys for row in rows]),
            np.append(0, np.cumsum([len(row.keys) for row in rows])),
            np.concatenate([row.sizes for row in rows]),
            np.concatenate([row.tokens for row in rows]),
            rounded_counts(np.concatenate([row.counts for row in rows])),
            discounts,
        )

    def merged(self, other: ContextTables, most: int | None = None) -> ContextTables:
        """The counts of two texts as of one: they are added."""
        both = [list(tables._pairs()) for tables in (self, other)]
        counted = []
        for of_kind in zip(*both, strict=True):
            pairs, counts = (np.concatenate(arrays) for arrays in zip(*of_kind, strict=True))
            every, places = np.unique(pairs, return_inverse=True)
            added = np.zeros(len(every), np.int64)
            np.add.at(added, places, counts)
            counted.append((every, added))
        return self._kept(counted, most)

    def _pairs(self) -> list[tuple[NDArray[np.uint64], Indices]]:
        """The pairs of a context and a token of each kind, and their counts."""
        pairs = self.keys.astype(np.uint64).repeat(self.sizes) << np.uint64(TOKEN_BITS)
        pairs |= self.tokens.astype(np.uint64)
        edges = np.append(0, self.sizes.cumsum())[self.kinds]
        return [(pairs[a:b], self.counts[a:b]) for a, b in pairwise(edges)]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The tables in few bytes: two for each token of up to 256, and four for each context.

        As in `NgramTables.to_arrays`, counts are indices into a list of all different ones, and
        sizes are bits: for each context a 1 for each token and then a 0.
        """
        values, codes = np.unique(self.counts, return_inverse=True)
        bits = np.ones(len(self) + len(self.keys), np.uint8)
        bits[self.sizes.cumsum() + np.arange(len(self.keys))] = 0
        return {
            "keys": self.keys,
            "kinds": self.kinds.astype(np.int64),
            "sizes": np.packbits(bits),
            "tokens": self.tokens.astype(np.min_scalar_type(int(self.tokens.max(initial=0)))),
            "counts": codes.astype(np.uint8),
            "values": values.astype(np.int32),
            "discounts": self.discounts,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], vocab: int) -> ContextTables:
        """The tables of `to_arrays`. Raises ModelError if they are damaged.

        vocab:  number of token ids of the model
        """
        try:
            keys, kinds, tokens = (arrays[name] for name in ("keys", "kinds", "tokens"))
            discounts, rows = arrays["discounts"], len(keys)
            bits = np.unpackbits(arrays["sizes"])[: rows + len(tokens)]
            sizes = np.diff(np.flatnonzero(bits == 0), prepend=-1) - 1
            counts = arrays["values"].take(arrays["counts"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ModelError(f"context tables: {error}") from None
        if (
            len(sizes) != rows
            or not len(tokens) == len(counts) == sizes.sum()
            or discounts.shape != (len(CONTEXTS), 4)
            or len(kinds) != len(CONTEXTS) + 1
            or not (kinds[0] == 0 and kinds[-1] == rows and (np.diff(kinds) >= 0).all())
        ):
            raise ModelError("context tables: parts are missing")
        ascending = np.diff(keys.astype(np.int64)) > 0
        ascending[kinds[(kinds > 0) & (kinds < rows)] - 1] = True  # between two kinds
        if not ascending.all():
            raise ModelError("context tables: not sorted")
        in_range = rows == 0 or (tokens.min() > START and tokens.max() < vocab)
        in_range &= rows == 0 or (counts.min() > 0 and sizes.min() > 0)
        if not in_range or not ((discounts[:, 1:] > 0) & (discounts[:, 1:] <= [1, 2, 3])).all():
            raise ModelError("context tables: values out of range")
        return cls(keys, kinds, sizes, tokens, counts, discounts)


class _Rows:
    """The contexts of one kind."""

    def __init__(self, pairs: NDArray[np.uint64], counts: Indices) -> None:
        keys = (pairs >> TOKEN_BITS).astype(np.uint32)
        first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
        self.keys, self.counts = keys[first], counts
        self.sizes = np.diff(np.append(first, len(keys)))
        self.tokens = (pairs & ((1 << TOKEN_BITS) - 1)).astype(np.uint16)
        self.totals = np.add.reduceat(counts, first) if len(first) else counts

    def drop(self, fewest: int) -> None:
        """Leave out the contexts that occur less than `fewest` times."""
        kept = self.totals >= fewest
        of_tokens = kept.repeat(self.sizes)
        self.keys, self.sizes, self.totals = self.keys[kept], self.sizes[kept], self.totals[kept]
        self.tokens, self.counts = self.tokens[of_tokens], self.counts[of_tokens]


def _fewest(rows: list[_Rows], most: int | None) -> int:
    """How often a context must occur, so that about `most` counts remain."""
    sizes = np.concatenate([row.sizes for row in rows])
    if most is None or sizes.sum() <= most:
        return 1
    totals = np.concatenate([row.totals for row in rows])
    order = np.argsort(-totals, kind="stable")
    kept = int(np.searchsorted(sizes[order].cumsum(), most, side="right"))
    return int(totals[order[min(kept, len(order) - 1)]]) + 1
