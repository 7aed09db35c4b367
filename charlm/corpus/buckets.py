"""Batches of whole examples of similar length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.batches import Batch, BatchShape, Cursor
from charlm.corpus.examples import LENGTH_MULTIPLE
from charlm.parts import WHOLE, Part

B = TypeVar("B", bound=Batch)
MOST_TOKENS = 1 << 13  # of a batch with few examples
EXAMPLES_AT_ONCE = 256  # of `by_length`, in a batch
TOKENS_AT_ONCE = 1 << 18  # in such a batch, the filling included


class Buckets(Generic[B]):
    """Endless batches of whole examples, each epoch in a new random order.

    The examples of a batch have the same padded length. See `Batches` for the random numbers.

    lengths:  (examples,) tokens of each, at least 1
    collate:  numbers of all examples of a batch (n,), random numbers for them -> the batch, with
              the examples of `shape.part`
    shape:    a batch has about batch · length tokens
    fewest:   examples of a batch, as long as it has no more than `MOST_TOKENS`
    multiple: padded lengths are multiples of it
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        collate: Callable[[NDArray[np.int64], np.random.Generator], B],
        shape: BatchShape,
        fewest: int = 1,
        multiple: int = LENGTH_MULTIPLE,
    ) -> None:
        self.collate, self.seed = collate, shape.seed
        self.multiples = -(-lengths // multiple)  # padded length / multiple
        padded = multiple * np.arange(1, int(self.multiples.max(initial=1)) + 1)
        self.per_batch = np.maximum(shape.batch * shape.length // padded, 1)
        self.per_batch = np.maximum(self.per_batch, np.minimum(fewest, MOST_TOKENS // padded))
        examples = np.bincount(self.multiples, minlength=len(padded) + 1)[1:]
        self.steps_per_epoch = int((-(-examples // self.per_batch)).sum())

    def iterate(self, cursor: Cursor) -> Iterator[B]:
        """The batches from `cursor` on. Advances `cursor` with each batch."""
        while True:
            groups = self._groups(np.random.default_rng([self.seed, cursor.epoch]))
            while cursor.step < len(groups):
                cursor.step += 1
                rng = np.random.default_rng([self.seed, cursor.epoch, cursor.step])
                yield self.collate(groups[cursor.step - 1], rng)
            cursor.epoch, cursor.step = cursor.epoch + 1, 0

    def _groups(self, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """The examples of each batch. The last batch of a length repeats some until it is full."""
        order = rng.permutation(len(self.multiples))
        order = order[np.argsort(self.multiples[order], kind="stable")]
        multiples, firsts = np.unique(self.multiples[order], return_index=True)
        groups = []
        for multiple, examples in zip(multiples, np.split(order, firsts[1:]), strict=True):
            per_batch = self.per_batch[multiple - 1]
            filled = np.resize(examples, -(-len(examples) // per_batch) * per_batch)
            groups += list(filled.reshape(-1, per_batch))
        return [groups[k] for k in rng.permutation(len(groups))]


def by_length(
    lengths: NDArray[np.int64], part: Part = WHOLE, most: int | None = None
) -> Iterator[NDArray[np.int64]]:
    """Numbers of examples in batches, from short to long ones.

    lengths:  tokens of each
    most:     tokens of a batch, the filling included; None for `TOKENS_AT_ONCE`
    """
    order = np.argsort(lengths, kind="stable")[part.every]
    start = 0
    while start < len(order):
        which = order[start : start + EXAMPLES_AT_ONCE]
        # The n shortest texts have n · length of the last of them tokens, when they are filled up.
        tokens = np.arange(1, len(which) + 1) * lengths[which]
        which = which[: max(int(np.searchsorted(tokens, most or TOKENS_AT_ONCE, side="right")), 1)]
        start += len(which)
        yield which
