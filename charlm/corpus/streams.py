"""Streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.batches import Cursor, rare_tokens, replace_rare
from charlm.corpus.encoding import TokenFile
from charlm.tokenizer import as_inputs

RESTART_DOCUMENT, RESTART_LINES = 0.02, 0.1
RESTART_WITHIN_CHUNKS = 2
LINES_AT_ONCE = 1 << 20


class StreamBatch(NamedTuple):
    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    restarted: NDArray[np.bool_]

    @property
    def predicted(self) -> int:
        return int(np.count_nonzero(self.targets))


class StreamBatches:
    """B streams through a token file, in chunks of T tokens, for ever.

    Each epoch the streams start with the zero state, evenly spaced from a random position, each
    at the start of its line if that is near; the state is carried from chunk to chunk. With
    `lines`, each epoch puts the lines in a new order first; with `unknowns`, rare tokens are at
    times read as `<UNK>`. Everything random is a function of (seed, epoch, step), so that a
    `Cursor` is all there is to remember.
    """

    def __init__(
        self,
        tokens: TokenFile,
        vocab: int,
        batch: int,
        length: int,
        *,
        lines: bool,
        seed: int,
        unknowns: bool = True,
    ) -> None:
        self.tokens, self.batch, self.length = tokens, batch, length
        self.lines, self.seed = lines, seed
        self.rare = rare_tokens(tokens, vocab, unknowns)
        self.steps_per_epoch = max(1, len(tokens.ids) // (batch * length))

    def iterate(self, cursor: Cursor) -> Iterator[StreamBatch]:
        """The batches from `cursor` on, which is moved along."""
        while True:
            text = (
                _Shuffled(self.tokens, self._rng(cursor)) if self.lines else _InOrder(self.tokens)
            )
            if cursor.positions is None:
                cursor.positions = self._spread(text, self._rng(cursor))
            while cursor.step < self.steps_per_epoch:
                yield self._chunk(text, cursor)
            cursor.epoch, cursor.step, cursor.positions = cursor.epoch + 1, 0, None

    def _rng(self, cursor: Cursor, *more: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, cursor.epoch, *more])

    def _spread(self, text: _InOrder, rng: np.random.Generator) -> list[int]:
        size = len(self.tokens.ids)
        positions = (rng.integers(size) + np.arange(self.batch) * size // self.batch) % size
        starts, near = self._line_starts(text, positions)
        spread: list[int] = np.where(near, starts, positions).tolist()
        return spread

    def _line_starts(
        self, text: _InOrder, positions: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The starts of the lines at these positions, and which are near enough to go back to."""
        starts = text.line_starts(positions)
        return starts, positions - starts <= RESTART_WITHIN_CHUNKS * self.length

    def _chunk(self, text: _InOrder, cursor: Cursor) -> StreamBatch:
        rng = self._rng(cursor, cursor.step + 1)
        positions = np.array(cursor.positions)
        restarted = np.full(self.batch, cursor.step == 0)
        if cursor.step:
            rate = RESTART_LINES if self.lines else RESTART_DOCUMENT
            starts, near = self._line_starts(text, positions)
            restarted = near & (rng.random(self.batch) < rate)
            positions = np.where(restarted, starts, positions)
        reach = np.arange(-1, self.length)[:, None]  # one before: the first input
        chunk = text.take((positions + reach) % len(self.tokens.ids))
        replace_rare(chunk, self.rare, rng)
        cursor.positions = ((positions + self.length) % len(self.tokens.ids)).tolist()
        cursor.step += 1
        return StreamBatch(as_inputs(chunk[:-1]), chunk[1:], restarted)


class _InOrder:
    """A token file read as it stands."""

    def __init__(self, tokens: TokenFile) -> None:
        self.ids, self.bounds = tokens.ids, tokens.bounds

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.ids[positions].astype(np.int64)

    def line_starts(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the lines that hold these positions start."""
        return self.bounds[np.searchsorted(self.bounds, positions, side="right") - 1]


class _Shuffled(_InOrder):
    """A token file read with its lines in another order."""

    def __init__(self, tokens: TokenFile, rng: np.random.Generator) -> None:
        self.ids, self.starts = tokens.ids, tokens.bounds
        lines = len(self.starts) - 1
        self.order = np.arange(lines, dtype=np.uint32)
        rng.shuffle(self.order)
        self.bounds = np.zeros(lines + 1, np.int64)
        for start in range(0, lines, LINES_AT_ONCE):  # all at once would take twice the memory
            chosen = self.order[start : start + LINES_AT_ONCE]
            lengths = self.starts[chosen + 1] - self.starts[chosen]
            self.bounds[start + 1 : start + 1 + len(chosen)] = lengths
        np.cumsum(self.bounds, out=self.bounds)

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        line = np.searchsorted(self.bounds, positions, side="right") - 1
        in_line = positions - self.bounds[line]
        return self.ids[self.starts[self.order[line]] + in_line].astype(np.int64)
