"""An n-gram model beside a network: interpolated Kneser-Ney with modified discounts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.integer]
Numbers = NDArray[np.int64]


class Ngram:
    """Chen and Goodman (1999), their equations 26 to 28; ends of lines are tokens like others.

    p_n(w | u) = (c_n(uw) − D_n(c_n(uw))) / Σ_v c_n(uv) + γ_n(u) p_{n−1}(w | u′)

    where u′ is u without its first token, γ makes the sum 1, c of the highest order is how often
    uw occurs, that of a lower one how many different tokens come before it; below all is the
    uniform distribution. D_n is D₁, D₂ or D₃₊, by the counts' own counts.

    ids:    (N,) the training text
    vocab:  number of token ids V; id 0 is never predicted

    An n-gram has a number: of one token its id, else its place among the keys of its order, sorted,
    number of its first n − 1 tokens × V + its last.
    """

    def __init__(self, ids: Ids, vocab: int, order: int) -> None:
        order = min(order, len(ids))
        self.vocab = vocab
        self.keys: list[Numbers] = []
        found = [ids.astype(np.int64)]  # of each order the number of the n-gram that ends at t
        for n in range(2, order + 1):
            keys, numbers = np.unique(
                found[-1][:-1] * vocab + found[0][n - 1 :], return_inverse=True
            )
            self.keys.append(keys)
            found.append(numbers)
        self.shares, self.backoffs = [], []
        for n, numbers in enumerate(found, 1):
            size = vocab if n == 1 else len(self.keys[n - 2])
            counts = np.bincount(numbers, minlength=size)
            if n < order:
                firsts = np.unique(found[n], return_index=True)[1]
                before = np.bincount(numbers[1:][firsts], minlength=size)
                counts = np.maximum(before, counts > 0)  # what begins the text has none before it
            contexts = self._sizes(n - 1)
            context = self.keys[n - 2] // vocab if n > 1 else np.zeros(size, np.int64)
            discounts = _discounts(counts)[np.minimum(counts, 3)]
            totals = np.bincount(context, counts, contexts)
            kept = np.bincount(context, discounts, contexts)
            self.shares.append((counts - discounts) / np.maximum(totals, 1)[context])
            self.backoffs.append(np.where(totals > 0, kept / np.maximum(totals, 1), 1.0))

    def _sizes(self, n: int) -> int:
        """How many n-grams there are."""
        return [1, self.vocab, *map(len, self.keys)][n]

    def probabilities(self, ids: Ids) -> NDArray[np.float64]:
        """p(ids[t] | ids[:t]), (n,)."""
        ids = ids.astype(np.int64)
        p = self.shares[0][ids] + self.backoffs[0][0] / (self.vocab - 1)
        numbers = ids  # of the n-gram that ends at t, −1 if the training text has none
        for keys, share, backoff in zip(self.keys, self.shares[1:], self.backoffs[1:], strict=True):
            context = np.concatenate([[-1], numbers[:-1]])
            wanted = context * self.vocab + ids
            place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            seen = (context >= 0) & (keys[place] == wanted)
            longer = np.where(seen, share[place], 0) + backoff[context] * p
            p = np.where(context >= 0, longer, p)
            numbers = np.where(seen, place, -1)
        return p


def _discounts(counts: Numbers) -> NDArray[np.float64]:
    """D for the counts 0, 1, 2 and more; Y where a formula has no counts to go by."""
    n1, n2, n3, n4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    y = n1 / max(n1 + 2 * n2, 1)
    found = [
        k - (k + 1) * y * b / max(a, 1)
        for k, (a, b) in enumerate(((n1, n2), (n2, n3), (n3, n4)), 1)
    ]
    return np.clip([0.0, *found], 0, [0, 1, 2, 3])
