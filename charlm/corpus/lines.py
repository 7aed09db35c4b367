"""Streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.batches import Cursor, rare_tokens, replace_rare
from charlm.corpus.encoding import TokenFile
from charlm.tokenizer import EOS, START, as_inputs

LONGEST_LINE = 256
LENGTH_MULTIPLE = 16


class LineBatch(NamedTuple):
    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    following: NDArray[np.int64]

    @property
    def predicted(self) -> int:
        return int(np.count_nonzero(self.targets))


class LineBatches:
    """Batches of whole lines, every epoch in a new order, for a bidirectional model.

    A batch has lines of about one length, about B·T tokens. What is longer than `LONGEST_LINE` is
    cut into pieces, each with the one token before and after it. Everything random is a function
    of (seed, epoch, step).
    """

    def __init__(
        self, tokens: TokenFile, vocab: int, batch: int, length: int, *, seed: int,
        unknowns: bool = True,
    ) -> None:  # fmt: skip
        self.ids, self.seed = tokens.ids, seed
        self.rare = rare_tokens(tokens, vocab, unknowns)
        self.starts, lengths = cut_lines(np.asarray(tokens.bounds))
        self.ends = self.starts + lengths
        self.sizes = -(-lengths // LENGTH_MULTIPLE)  # in multiples
        self.together = np.maximum(batch * length // (LENGTH_MULTIPLE * np.arange(1, 99)), 1)
        counts = np.bincount(self.sizes)[1:]
        self.steps_per_epoch = int((-(-counts // self.together[: len(counts)])).sum())

    def iterate(self, cursor: Cursor) -> Iterator[LineBatch]:
        """The batches from `cursor` on, which is moved along."""
        while True:
            groups = self._groups(np.random.default_rng([self.seed, cursor.epoch]))
            while cursor.step < len(groups):
                cursor.step += 1
                rng = np.random.default_rng([self.seed, cursor.epoch, cursor.step])
                yield self._batch(groups[cursor.step - 1], rng)
            cursor.epoch, cursor.step = cursor.epoch + 1, 0

    def _groups(self, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """The pieces of each batch; the last of a length is filled up with others of it."""
        order = rng.permutation(len(self.sizes))
        order = order[np.argsort(self.sizes[order], kind="stable")]
        sizes, firsts = np.unique(self.sizes[order], return_index=True)
        groups = []
        for size, pieces in zip(sizes, np.split(order, firsts[1:]), strict=True):
            together = self.together[size - 1]
            filled = np.resize(pieces, -(-len(pieces) // together) * together)
            groups += list(filled.reshape(-1, together))
        return [groups[k] for k in rng.permutation(len(groups))]

    def _batch(self, pieces: NDArray[np.int64], rng: np.random.Generator) -> LineBatch:
        length = int(self.sizes[pieces[0]]) * LENGTH_MULTIPLE
        positions = self.starts[pieces] + np.arange(-1, length + 1)[:, None]  # one before and after
        chunk = self.ids[np.clip(positions, 0, len(self.ids) - 1)].astype(np.int64)
        chunk[positions < 0] = START
        replace_rare(chunk, self.rare, rng)
        past = positions >= self.ends[pieces]
        targets = np.where(past, START, chunk)[1:-1]
        inputs = np.where(past, START, as_inputs(chunk))[:-2]
        following = np.where(positions > self.ends[pieces], EOS, chunk)[2:]
        return LineBatch(inputs, targets, following)


def cut_lines(bounds: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The starts and lengths of lines, without their `<EOS>`, cut after `LONGEST_LINE` tokens."""
    starts, lengths = bounds[:-1], np.diff(bounds) - 1
    parts = -(-lengths // LONGEST_LINE)
    line = np.repeat(np.arange(len(starts)), parts)
    offset = (np.arange(len(line)) - np.repeat(np.cumsum(parts) - parts, parts)) * LONGEST_LINE
    return starts[line] + offset, np.minimum(lengths[line] - offset, LONGEST_LINE)
