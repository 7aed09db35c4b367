"""Cutting a token file into batches: chunks of running streams for truncated back-propagation
through time, or whole lines for models that read them from both ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.encoding import TokenFile
from charlm.tokenizer import EOS, SPECIALS, START, UNK, as_inputs

# The chance that a stream, at the edge of a chunk, goes back to the start of its line with the
# zero state, so that the model also knows how a text begins; and how far back, in chunks.
RESTART_DOCUMENT, RESTART_LINES = 0.02, 0.1
RESTART_WITHIN_CHUNKS = 2
# The chance that a token seen only once is read as <UNK>, so that <UNK> is learnt and not noise.
UNKNOWN_RATE = 0.1
LINES_AT_ONCE = 1 << 20
# Whole lines are cut after this many tokens, and filled up to a multiple of so many.
LONGEST_LINE = 256
LENGTH_MULTIPLE = 16


class Batch(NamedTuple):
    """A chunk of every stream, or a batch of lines.

    inputs, targets:  (T, B) int64; targets[t] is what follows inputs[t]
    restarted:        (B,) bool; these streams start from the zero state
    following:        (T, B) int64, of lines: following[t] is what follows targets[t], `<EOS>`
                      after the last one; past a line's end the targets are `<START>`
    """

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    restarted: NDArray[np.bool_]
    following: NDArray[np.int64] | None = None


@dataclass
class Place:
    """Where in the data training is: enough to go on exactly there."""

    epoch: int = 0
    step: int = 0  # within the epoch
    positions: list[int] | None = None  # of each stream


class Batches:
    """B streams through a token file, in chunks of T tokens, for ever.

    Each epoch the streams start with the zero state, evenly spaced from a random position, each
    at the start of its line if that is near; the state is carried from chunk to chunk. With
    `lines`, each epoch puts the lines in a new order first; with `unknowns`, rare tokens are at
    times read as `<UNK>`. Everything random is a function of (seed, epoch, step), so that a
    `Place` is all there is to remember.
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
        self.rare = _rare(tokens, vocab, unknowns)
        self.steps_per_epoch = max(1, len(tokens.ids) // (batch * length))

    def iterate(self, place: Place) -> Iterator[Batch]:
        """The batches from `place` on, which is moved along."""
        while True:
            text = _Shuffled(self.tokens, self._rng(place)) if self.lines else _InOrder(self.tokens)
            if place.positions is None:
                place.positions = self._spread(text, self._rng(place))
            while place.step < self.steps_per_epoch:
                yield self._chunk(text, place)
            place.epoch, place.step, place.positions = place.epoch + 1, 0, None

    def _rng(self, place: Place, *more: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, place.epoch, *more])

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

    def _chunk(self, text: _InOrder, place: Place) -> Batch:
        rng = self._rng(place, place.step + 1)
        positions = np.array(place.positions)
        restarted = np.full(self.batch, place.step == 0)
        if place.step:
            rate = RESTART_LINES if self.lines else RESTART_DOCUMENT
            starts, near = self._line_starts(text, positions)
            restarted = near & (rng.random(self.batch) < rate)
            positions = np.where(restarted, starts, positions)
        reach = np.arange(-1, self.length)[:, None]  # one before: the first input
        chunk = text.take((positions + reach) % len(self.tokens.ids))
        _replace_rare(chunk, self.rare, rng)
        place.positions = ((positions + self.length) % len(self.tokens.ids)).tolist()
        place.step += 1
        return Batch(as_inputs(chunk[:-1]), chunk[1:], restarted)


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
        self.rare = _rare(tokens, vocab, unknowns)
        self.starts, lengths = pieces(np.asarray(tokens.bounds))
        self.ends = self.starts + lengths
        self.sizes = -(-lengths // LENGTH_MULTIPLE)  # in multiples
        self.together = np.maximum(batch * length // (LENGTH_MULTIPLE * np.arange(1, 99)), 1)
        counts = np.bincount(self.sizes)[1:]
        self.steps_per_epoch = int((-(-counts // self.together[: len(counts)])).sum())

    def iterate(self, place: Place) -> Iterator[Batch]:
        """The batches from `place` on, which is moved along."""
        while True:
            groups = self._groups(np.random.default_rng([self.seed, place.epoch]))
            while place.step < len(groups):
                place.step += 1
                rng = np.random.default_rng([self.seed, place.epoch, place.step])
                yield self._batch(groups[place.step - 1], rng)
            place.epoch, place.step = place.epoch + 1, 0

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

    def _batch(self, pieces: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        length = int(self.sizes[pieces[0]]) * LENGTH_MULTIPLE
        positions = self.starts[pieces] + np.arange(-1, length + 1)[:, None]  # one before and after
        chunk = self.ids[np.clip(positions, 0, len(self.ids) - 1)].astype(np.int64)
        chunk[positions < 0] = START
        _replace_rare(chunk, self.rare, rng)
        past = positions >= self.ends[pieces]
        targets = np.where(past, START, chunk)[1:-1]
        inputs = np.where(past, START, as_inputs(chunk))[:-2]
        following = np.where(positions > self.ends[pieces], EOS, chunk)[2:]
        return Batch(inputs, targets, np.ones(len(pieces), bool), following)


def pieces(bounds: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The starts and lengths of lines, without their `<EOS>`, cut after `LONGEST_LINE` tokens."""
    starts, lengths = bounds[:-1], np.diff(bounds) - 1
    parts = -(-lengths // LONGEST_LINE)
    line = np.repeat(np.arange(len(starts)), parts)
    offset = (np.arange(len(line)) - np.repeat(np.cumsum(parts) - parts, parts)) * LONGEST_LINE
    return starts[line] + offset, np.minimum(lengths[line] - offset, LONGEST_LINE)


def _rare(tokens: TokenFile, vocab: int, unknowns: bool) -> NDArray[np.bool_]:
    """The ids that occur once, if the vocabulary has an `<UNK>` to learn."""
    rare = (tokens.counts(vocab) == 1) & unknowns
    rare[: len(SPECIALS)] = False
    return rare


def _replace_rare(
    chunk: NDArray[np.int64], rare: NDArray[np.bool_], rng: np.random.Generator
) -> None:
    """At times read rare tokens as `<UNK>`."""
    chunk[rare[chunk] & (rng.random(chunk.shape) < UNKNOWN_RATE)] = UNK


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
