"""Rows that belong to groups of different sizes, without loops over the groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def repeated(counts: Indices) -> tuple[Indices, Indices]:
    """Each row as often as its count says, and the number of each repetition.

    >>> [array.tolist() for array in repeated(np.array([2, 0, 1]))]
    [[0, 0, 2], [0, 1, 0]]
    """
    rows = np.arange(len(counts)).repeat(counts)
    return rows, np.arange(len(rows)) - (counts.cumsum() - counts).repeat(counts)


def best_of_each(
    groups: Indices, values: NDArray[np.floating], most: int
) -> tuple[Indices, Indices]:
    """The greatest values of each group: which they are, and their ranks in it.

    >>> [a.tolist() for a in best_of_each(np.array([0, 1, 0, 0]), np.array([1.0, 5, 3, 2]), 2)]
    [[2, 3, 1], [0, 1, 0]]
    """
    order = np.lexsort((-values, groups))
    _, starts, counts = np.unique(groups[order], return_index=True, return_counts=True)
    ranks = np.arange(len(order)) - starts.repeat(counts)
    kept = ranks < most
    return order[kept], ranks[kept]


def log_sums(groups: Indices, values: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """log Σ exp of the values of each group, (number,); −inf for an empty one."""
    highest = np.full(number, -np.inf)
    np.maximum.at(highest, groups, values)
    finite = np.where(np.isfinite(highest), highest, 0.0)
    sums = np.bincount(groups, np.exp(values - finite[groups]), number)
    with np.errstate(divide="ignore"):
        return np.log(sums) + finite
