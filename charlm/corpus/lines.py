"""Batches of whole lines, for models that read a line from both ends."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.batches import BatchShape, replace_rare
from charlm.corpus.buckets import Buckets
from charlm.corpus.encoding import TokenFile
from charlm.corpus.examples import LENGTH_MULTIPLE
from charlm.parts import Part, Share
from charlm.tokenizer import EOS, START, as_inputs

# Maximum length of a line in tokens. A longer line is cut.
LONGEST_LINE = 256


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


def line_batches(
    tokens: TokenFile, shape: BatchShape, rare: NDArray[np.bool_]
) -> Buckets[LineBatch]:
    """Endless batches of whole lines, each epoch in a new random order, see `Buckets`.

    A line longer than `LONGEST_LINE` is cut into several, which keep the tokens before and after
    each cut in `inputs` and `following`.

    rare:  (V,) the ids of which some are replaced by `<UNK>`, see `find_rare`
    """
    starts, lengths = cut_lines(np.asarray(tokens.bounds))
    lines = _Lines(tokens.ids, starts, starts + lengths, rare, shape.part)
    return Buckets(lengths, lines.batch, shape)


class _Lines(NamedTuple):
    """The lines of a token file after cutting: line k is ids[starts[k] : ends[k]]."""

    ids: NDArray[np.integer]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    rare: NDArray[np.bool_]
    part: Part

    def batch(self, lines: NDArray[np.int64], rng: np.random.Generator) -> LineBatch:
        """The part of these lines that is read."""
        lengths = self.ends[lines] - self.starts[lines]
        steps = -(-int(lengths.max()) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
        offsets = np.arange(-1, steps + 1)[:, None]  # with one token before and one after
        share, own = Share(self.part, len(lines), int(lengths.sum())), self.part.every
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
