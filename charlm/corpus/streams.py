"""Batches of running text, for truncated back-propagation through time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.batches import BatchShape, Cursor, replace_rare
from charlm.corpus.encoding import TokenFile
from charlm.parts import Share
from charlm.tokenizer import as_inputs

# Probability that a stream restarts between two chunks: it returns to the start of its line with
# the zero state, so that the model also learns how a text begins.
RESTART_DOCUMENT, RESTART_LINES = 0.02, 0.1
# A stream restarts only if its line starts at most this many chunks before.
RESTART_WITHIN_CHUNKS = 2
LINES_AT_ONCE = 1 << 20


class StreamBatch(NamedTuple):
    """The next chunk of T tokens of B streams.

    inputs:     (T, B) int64
    targets:    (T, B) int64, targets[t] follows inputs[t]
    restarted:  (B,) bool, true for each stream that starts from the zero state
    share:      which of the streams these are; None for all
    """

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    restarted: NDArray[np.bool_]
    share: Share | None = None

    @property
    def predicted(self) -> int:
        """Number of predicted tokens, in all processes."""
        return self.share.predicted if self.share else self.targets.size


class StreamBatches:
    """Endless batches from parallel streams through a token file.

    Each epoch the streams start with the zero state at evenly spaced positions with a random
    offset, or at the start of the line there if it is near. The state is carried from chunk to
    chunk. See `Batches` for the random numbers.

    shape:  B streams, T tokens of a chunk
    rare:   (V,) the ids of which some are replaced by `<UNK>`, see `find_rare`
    """

    def __init__(self, tokens: TokenFile, shape: BatchShape, rare: NDArray[np.bool_]) -> None:
        self.tokens, self.rare = tokens, rare
        self.batch, self.length, self.independent_lines, self.seed, self.part = shape
        self.steps_per_epoch = max(1, len(tokens.ids) // (self.batch * self.length))

    def iterate(self, cursor: Cursor) -> Iterator[StreamBatch]:
        """The batches from `cursor` on. Advances `cursor` with each batch."""
        while True:
            text = _FileOrder(self.tokens)
            if self.independent_lines:
                text = _ShuffledOrder(self.tokens, self._rng(cursor))
            if cursor.positions is None:
                cursor.positions = self._first_positions(text, self._rng(cursor))
            while cursor.step < self.steps_per_epoch:
                yield self._next_batch(text, cursor)
            cursor.epoch, cursor.step, cursor.positions = cursor.epoch + 1, 0, None

    def _rng(self, cursor: Cursor, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, cursor.epoch, *key])

    def _first_positions(self, text: _FileOrder, rng: np.random.Generator) -> list[int]:
        size = len(self.tokens.ids)
        spaced = (rng.integers(size) + np.arange(self.batch) * size // self.batch) % size
        starts, is_near = self._line_starts(text, spaced)
        positions: list[int] = np.where(is_near, starts, spaced).tolist()
        return positions

    def _line_starts(
        self, text: _FileOrder, positions: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The start of the line at each position, and whether it is near enough to restart."""
        starts = text.line_starts(positions)
        return starts, positions - starts <= RESTART_WITHIN_CHUNKS * self.length

    def _next_batch(self, text: _FileOrder, cursor: Cursor) -> StreamBatch:
        rng = self._rng(cursor, cursor.step + 1)
        positions = np.array(cursor.positions)
        restarted = np.full(self.batch, cursor.step == 0)
        if cursor.step:
            rate = RESTART_LINES if self.independent_lines else RESTART_DOCUMENT
            starts, is_near = self._line_starts(text, positions)
            restarted = is_near & (rng.random(self.batch) < rate)
            positions = np.where(restarted, starts, positions)
        offsets = np.arange(-1, self.length)[:, None]  # the first input comes before the targets
        own = self.part.every
        chunk = text.take((positions[own] + offsets) % len(self.tokens.ids))
        replace_rare(chunk, self.rare, rng.random((len(offsets), self.batch))[:, own])
        cursor.positions = ((positions + self.length) % len(self.tokens.ids)).tolist()
        cursor.step += 1
        share = Share(self.part, self.batch, self.batch * self.length)
        return StreamBatch(as_inputs(chunk[:-1]), chunk[1:], restarted[own], share)


class _FileOrder:
    """The text of a token file, with its lines in the order of the file.

    bounds:  (lines + 1,) the start of each line in this text, then the end of the text
    """

    def __init__(self, tokens: TokenFile) -> None:
        self.ids, self.bounds = tokens.ids, tokens.bounds

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The tokens at `positions`, in the same shape."""
        return self.ids[positions].astype(np.int64)

    def line_starts(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The start of the line that contains each position."""
        return self.bounds[np.searchsorted(self.bounds, positions, side="right") - 1]


class _ShuffledOrder(_FileOrder):
    """The text of a token file, with its lines in random order."""

    def __init__(self, tokens: TokenFile, rng: np.random.Generator) -> None:
        super().__init__(tokens)
        self.file_bounds = tokens.bounds
        lines = len(self.file_bounds) - 1
        self.order = np.arange(lines, dtype=np.uint32)
        rng.shuffle(self.order)
        self.bounds = np.zeros(lines + 1, np.int64)
        for start in range(0, lines, LINES_AT_ONCE):  # all at once would take twice the memory
            block = self.order[start : start + LINES_AT_ONCE]
            lengths = self.file_bounds[block + 1] - self.file_bounds[block]
            self.bounds[start + 1 : start + 1 + len(block)] = lengths
        np.cumsum(self.bounds, out=self.bounds)

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        line = np.searchsorted(self.bounds, positions, side="right") - 1
        offset = positions - self.bounds[line]
        return self.ids[self.file_bounds[self.order[line]] + offset].astype(np.int64)
