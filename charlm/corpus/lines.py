"""Batches of whole lines, for models that read a line from both ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.batches import Cursor, find_rare, replace_rare
from charlm.corpus.encoding import TokenFile
from charlm.parts import WHOLE, Part, Share
from charlm.tokenizer import EOS, START, as_inputs

# Maximum length of a line in tokens. A longer line is cut.
LONGEST_LINE = 256
# The lines of a batch are padded to a multiple of this length.
LENGTH_MULTIPLE = 16


class LineBatch(NamedTuple):
    """B lines of up to T tokens.

    inputs:     (T, B) int64, the token before each target
    targets:    (T, B) int64, the tokens of the lines without `<EOS>`, then `<START>` as padding
    following:  (T, B) int64, the token after each target, and `<EOS>` as padding
    share:      which of the lines these are, perhaps none; None for all
    """

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    following: NDArray[np.int64]
    share: Share | None = None

    @property
    def predicted(self) -> int:
        """Number of predicted tokens, in all processes."""
        return self.share.predicted if self.share else int(np.count_nonzero(self.targets))


class LineBatches:
    """Endless batches of whole lines, each epoch in a new random order.

    A line longer than `LONGEST_LINE` is cut into several, which keep the tokens before and after
    each cut in `inputs` and `following`. The lines of a batch have the same padded length. See
    `Batches` for the random numbers.

    vocab:          vocabulary size
    batch, length:  a batch has about batch · length tokens
    unknowns:       whether some rare tokens are replaced by `<UNK>`
    part:           the lines of each batch that are read
    """

    def __init__(
        self,
        tokens: TokenFile,
        vocab: int,
        batch: int,
        length: int,
        *,
        seed: int,
        unknowns: bool = True,
        part: Part = WHOLE,
    ) -> None:
        self.ids, self.seed, self.part = tokens.ids, seed, part
        self.rare = find_rare(tokens, vocab, unknowns)
        self.starts, lengths = cut_lines(np.asarray(tokens.bounds))
        self.ends = self.starts + lengths
        self.multiples = -(-lengths // LENGTH_MULTIPLE)  # padded length / LENGTH_MULTIPLE
        padded_lengths = np.arange(LENGTH_MULTIPLE, LONGEST_LINE + 1, LENGTH_MULTIPLE)
        self.lines_per_batch = np.maximum(batch * length // padded_lengths, 1)
        lines = np.bincount(self.multiples, minlength=len(padded_lengths) + 1)[1:]
        self.steps_per_epoch = int((-(-lines // self.lines_per_batch)).sum())

    def iterate(self, cursor: Cursor) -> Iterator[LineBatch]:
        """The batches from `cursor` on. Advances `cursor` with each batch."""
        while True:
            groups = self._groups(np.random.default_rng([self.seed, cursor.epoch]))
            while cursor.step < len(groups):
                cursor.step += 1
                rng = np.random.default_rng([self.seed, cursor.epoch, cursor.step])
                yield self._batch(groups[cursor.step - 1], rng)
            cursor.epoch, cursor.step = cursor.epoch + 1, 0

    def _groups(self, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """The lines of each batch. The last batch of a length repeats lines until it is full."""
        order = rng.permutation(len(self.multiples))
        order = order[np.argsort(self.multiples[order], kind="stable")]
        multiples, firsts = np.unique(self.multiples[order], return_index=True)
        groups = []
        for multiple, lines in zip(multiples, np.split(order, firsts[1:]), strict=True):
            per_batch = self.lines_per_batch[multiple - 1]
            filled = np.resize(lines, -(-len(lines) // per_batch) * per_batch)
            groups += list(filled.reshape(-1, per_batch))
        return [groups[k] for k in rng.permutation(len(groups))]

    def _batch(self, lines: NDArray[np.int64], rng: np.random.Generator) -> LineBatch:
        """The part of these lines that is read."""
        length = int(self.multiples[lines[0]]) * LENGTH_MULTIPLE
        offsets = np.arange(-1, length + 1)[:, None]  # with one token before and one after
        predicted = int((self.ends[lines] - self.starts[lines]).sum())
        share, own = Share(self.part, len(lines), predicted), self.part.every
        drawn, lines = rng.random((len(offsets), len(lines)))[:, own], lines[own]
        positions = self.starts[lines] + offsets
        chunk = self.ids[np.clip(positions, 0, len(self.ids) - 1)].astype(np.int64)
        chunk[positions < 0] = START
        replace_rare(chunk, self.rare, drawn)
        is_padding = positions >= self.ends[lines]
        inputs = np.where(is_padding, START, as_inputs(chunk))[:-2]
        targets = np.where(is_padding, START, chunk)[1:-1]
        following = np.where(positions > self.ends[lines], EOS, chunk)[2:]
        return LineBatch(inputs, targets, following, share)


def cut_lines(bounds: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and lengths of lines without their `<EOS>`, cut after every `LONGEST_LINE` tokens.

    bounds:  (lines + 1,) the bounds of a `TokenFile`

    Returns two arrays (n,), where n is the number of lines after cutting. Empty lines are dropped.
    """
    starts, lengths = bounds[:-1], np.diff(bounds) - 1
    parts = -(-lengths // LONGEST_LINE)
    line = np.repeat(np.arange(len(starts)), parts)
    offset = (np.arange(len(line)) - np.repeat(np.cumsum(parts) - parts, parts)) * LONGEST_LINE
    return starts[line] + offset, np.minimum(lengths[line] - offset, LONGEST_LINE)
