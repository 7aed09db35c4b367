"""The order in which the nodes of trees are computed: those of equal height at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Levels(NamedTuple):
    """How the nodes of B trees of up to T words and M nodes are computed.

    Each node has a row. The words (T, B) have the first T·B rows, in this order. The zero state has
    the row T·B. The parents follow, from low to high ones.

    children:  for each height, (2, n): the rows of the left and the right child of n nodes
    rows:      (M, B) the row of each node, in the order of the moves
    spans:     (2, M, B) the first word below each node, and the one after the last
    """

    children: Sequence[Indices]
    rows: Indices
    spans: Indices


def arrange(is_word: Bools, is_parent: Bools, words: int) -> Levels:
    """The levels of trees that are built up by moves (M, B).

    is_word:    a word is put on the stack
    is_parent:  two nodes are taken from the stack, and their parent is put there
    words:      T

    What is neither puts the zero state on the stack.
    """
    steps, batch = is_word.shape
    columns = np.arange(batch)
    read = is_word.cumsum(axis=0)
    rows = np.where(is_word, (read - 1) * batch + columns, words * batch)
    heights = np.zeros((steps, batch), np.int64)
    starts = np.where(is_word, read - 1, read)
    stack = np.zeros((steps + 2, batch), np.int64)  # of moves, above two that are never used
    top = np.full(batch, 2)  # the first free place
    left, right = np.zeros((2, steps, batch), np.int64)
    for m in range(steps):
        parent = is_parent[m]
        top = top - 2 * parent
        left[m], right[m] = a, b = (
            stack[top, columns],
            stack[np.minimum(top + 1, steps + 1), columns],
        )
        heights[m] = parent * (1 + np.maximum(heights[a, columns], heights[b, columns]))
        starts[m] = np.where(parent, starts[a, columns], starts[m])
        stack[top, columns] = m
        top = np.minimum(top + 1, steps + 1)
    at, tree = np.nonzero(heights)
    of_parents = heights[at, tree]
    order = np.argsort(of_parents, kind="stable")
    at, tree = at[order], tree[order]
    rows[at, tree] = words * batch + 1 + np.arange(len(at))
    both = np.stack([rows[left[at, tree], tree], rows[right[at, tree], tree]])
    sizes = np.bincount(of_parents, minlength=1)[1:].cumsum()
    return Levels(
        np.split(both, sizes[:-1], axis=1) if len(at) else [], rows, np.stack([starts, read])
    )
