"""Where to split the softmax of a large vocabulary, see `ModelConfig.cutoffs`."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

ROWS_OF_TAIL = 100  # a tail costs as much as 100 more rows
WORTH_SPLITTING = 0.5  # of the rows that remain
CANDIDATES = 32


def split_softmax(counts: NDArray[np.int64]) -> tuple[int, ...]:
    """Where to split the softmax (`ModelConfig.cutoffs`) so that tokens meet the fewest rows.

    counts:  (V,) number of occurrences of each token

    The result is one tail or two; none where a split saves too little.
    """
    last = len(counts) - 1
    edges = np.unique(np.geomspace(1, last, CANDIDATES).astype(int))[1:-1].tolist()
    splits = [(a,) for a in edges] + list(combinations(edges, 2))
    best = min(splits, key=lambda split: softmax_rows(counts, split), default=())
    return best if softmax_rows(counts, best) < WORTH_SPLITTING * last else ()


def softmax_rows(counts: NDArray[np.int64], cutoffs: tuple[int, ...]) -> float:
    """The number of rows of the softmax that a token is multiplied with, on average."""
    share = np.append(0, np.cumsum(counts[1:])) / counts[1:].sum()
    edges = (*cutoffs, len(counts) - 1)
    tails = [(b - a) * (share[b] - share[a]) + ROWS_OF_TAIL for a, b in pairwise(edges)]
    return float(edges[0] + sum(tails))
