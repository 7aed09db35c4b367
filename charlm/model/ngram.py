"""An n-gram model: interpolated Kneser-Ney smoothing with modified discounts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.integer]
Indices = NDArray[np.int64]


class Ngram:
    """Interpolated modified Kneser-Ney (Chen and Goodman 1999, equations 26 to 28).

    p_n(w | u) = (c_n(uw) − D_n(c_n(uw))) / Σ_v c_n(uv) + γ_n(u) p_{n−1}(w | u′)

    u′ is u without its first token. γ_n(u) normalises the distribution. In the highest order, c
    is the number of occurrences of uw; in a lower order, the number of different tokens before
    uw. D_n is D₁, D₂ or D₃₊, estimated from the counts of counts. p_0 is uniform. A line end is
    an ordinary token.

    ids:    (N,), the training text
    vocab:  number of token ids V; id 0 is never predicted
    order:  n; reduced to N if the text is shorter
    """

    # An n-gram has an index. The index of a unigram is its token id. The index of a longer n-gram
    # is its position in the sorted `keys` of its order; its key is the index of its first n − 1
    # tokens × V + its last token.

    def __init__(self, ids: Ids, vocab: int, order: int) -> None:
        order = min(order, len(ids))
        self.vocab = vocab
        self.keys: list[Indices] = []
        indices = [ids.astype(np.int64)]  # per order: the index of the n-gram that ends at t
        for n in range(2, order + 1):
            keys, inverse = np.unique(
                indices[-1][:-1] * vocab + indices[0][n - 1 :], return_inverse=True
            )
            self.keys.append(keys)
            indices.append(inverse)
        self.shares, self.backoffs = [], []
        for n, index in enumerate(indices, 1):
            size = vocab if n == 1 else len(self.keys[n - 2])
            counts = np.bincount(index, minlength=size)
            if n < order:
                firsts = np.unique(indices[n], return_index=True)[1]
                preceding = np.bincount(index[1:][firsts], minlength=size)
                # The n-gram at the start of the text has no token before it; count it once.
                counts = np.maximum(preceding, counts > 0)
            contexts = self._size(n - 1)
            context = self.keys[n - 2] // vocab if n > 1 else np.zeros(size, np.int64)
            discounts = _discounts(counts)[np.minimum(counts, 3)]
            totals = np.bincount(context, counts, contexts)
            discounted = np.bincount(context, discounts, contexts)
            self.shares.append((counts - discounts) / np.maximum(totals, 1)[context])
            self.backoffs.append(np.where(totals > 0, discounted / np.maximum(totals, 1), 1.0))

    def _size(self, n: int) -> int:
        """Number of different n-grams."""
        return [1, self.vocab, *map(len, self.keys)][n]

    def probabilities(self, ids: Ids) -> NDArray[np.float64]:
        """p(ids[t] | ids[:t]) for each token of a text, (T,)."""
        ids = ids.astype(np.int64)
        p = self.shares[0][ids] + self.backoffs[0][0] / (self.vocab - 1)
        index = ids  # of the n-gram that ends at t, −1 if it is not in the training text
        for keys, share, backoff in zip(self.keys, self.shares[1:], self.backoffs[1:], strict=True):
            context = np.concatenate([[-1], index[:-1]])
            key = context * self.vocab + ids
            position = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
            known = (context >= 0) & (keys[position] == key)
            longer = np.where(known, share[position], 0) + backoff[context] * p
            p = np.where(context >= 0, longer, p)
            index = np.where(known, position, -1)
        return p


def _discounts(counts: Indices) -> NDArray[np.float64]:
    """D for the counts 0, 1, 2 and ≥ 3 (Chen and Goodman 1999).

    A denominator of 0 is replaced by 1.
    """
    n1, n2, n3, n4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    y = n1 / max(n1 + 2 * n2, 1)
    discounts = [
        k - (k + 1) * y * b / max(a, 1)
        for k, (a, b) in enumerate(((n1, n2), (n2, n3), (n3, n4)), 1)
    ]
    return np.clip([0.0, *discounts], 0, [0, 1, 2, 3])
