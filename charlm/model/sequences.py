"""Running a network over sequences of different lengths, each from the zero state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.model.backend import Backend, Floats, Ids
from charlm.tokenizer import EOS, START

# Steps of all sequences side by side before the next chunk.
STEPS_AT_ONCE = 128
# Sequences are padded to multiples of this length. A fused kernel is built for each new shape.
LENGTH_MULTIPLE = 8
TOKENS_AT_ONCE = 1 << 15  # of sequences whose outputs are all kept
STEP_PER_SEQUENCE = 50  # a step costs as much as 50 more sequences in it
# Long sequences are cut into pieces that run side by side. Each reads this many tokens before its
# part, and after it if the network reads from the end, too, so that the outputs are the same as
# those of a single run.
WARM_UP = 512
LONGEST_SINGLE = 8 * WARM_UP
MOST_PIECES = 128  # of a sequence whose outputs are not all kept


class _Piece(NamedTuple):
    """The tokens [start, end) of a sequence."""

    sequence: int
    start: int
    end: int


def by_length(
    function: Callable[[Sequence[Ids]], NDArray[Any]],
    sequences: Sequence[Ids],
    at_once: Callable[[int], int] | None = None,
    from_both_ends: bool = True,
) -> list[NDArray[Any]]:
    """Apply a function to batches of sequences of similar length; the results in input order.

    function:  a batch of B sequences -> an array (B, T, …); rows are cut to each sequence's length
    at_once:   length of the longest sequence -> sequences in a batch; None for `TOKENS_AT_ONCE`
    from_both_ends:  the results depend on the tokens after a token, too

    The result of a sequence without tokens is a float32 array (0,).
    """
    after = WARM_UP if from_both_ends else 0
    most_pieces = MOST_PIECES if at_once and not from_both_ends else None
    pieces = [p for k, s in enumerate(sequences) for p in _pieces(k, len(s), after, most_pieces)]
    inputs = [
        sequences[piece.sequence][max(piece.start - WARM_UP, 0) : piece.end + after]
        for piece in pieces
    ]
    order = np.argsort([-len(ids) for ids in inputs], kind="stable").tolist()
    outputs: dict[int, NDArray[Any]] = {}  # by the number of the piece
    while order:
        longest = len(inputs[order[0]])
        most = at_once(longest) if at_once else max(TOKENS_AT_ONCE // longest, 1)
        batch = order[: _batch_size([len(inputs[k]) for k in order[: 2 * most]], most)]
        del order[: len(batch)]
        for k, row in zip(batch, function([inputs[k] for k in batch]), strict=True):
            first = min(pieces[k].start, WARM_UP)
            outputs[k] = row[first : first + pieces[k].end - pieces[k].start]
    rows: list[list[NDArray[Any]]] = [[] for _ in sequences]
    for k, piece in enumerate(pieces):
        rows[piece.sequence].append(outputs[k])
    empty = np.zeros(0, np.float32)
    return [np.concatenate(row) if len(row) > 1 else (row or [empty])[0] for row in rows]


def _pieces(sequence: int, length: int, after: int, most: int | None) -> Iterator[_Piece]:
    """The pieces of a sequence: one of at most `LONGEST_SINGLE` tokens, several of a longer one.

    after:  tokens that are read after each piece
    most:   pieces, which are longer then; None for any number
    """
    size = length if length <= LONGEST_SINGLE else LONGEST_SINGLE - WARM_UP - after
    if most:
        size = max(size, -(-length // most))
    for start in range(0, length, size or 1):
        yield _Piece(sequence, start, min(start + size, length))


def _batch_size(lengths: Sequence[int], most: int) -> int:
    """How many sequences, longest first, make the next batch.

    Every sequence is filled up to the longest. The batch ends where that would cost more than the
    steps of another batch.
    """
    for k in range(1, min(len(lengths), most)):
        sequences = min(len(lengths) - k, most)  # of another batch
        if sequences * (lengths[0] - lengths[k]) > STEP_PER_SEQUENCE * lengths[k]:
            return k
    return min(len(lengths), most)


def pad(sequences: Sequence[Ids]) -> NDArray[np.int64]:
    """The sequences as (B, T), filled up with `<EOS>`; T is a multiple of `LENGTH_MULTIPLE`."""
    longest = max(len(s) for s in sequences)
    length = -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    padded = np.full((len(sequences), length), EOS, np.int64)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded


def outputs(backend: Backend, lines: Sequence[Ids], reverse: bool = False) -> Floats:
    """One direction's output between the tokens of lines, (B, T + 1, H).

    Position t holds the output after reading s[:t] from the line's start; with `reverse`, after
    reading s[t:] from the line's end.
    """
    ids = pad([line[::-1] if reverse else line for line in lines])
    ids = np.pad(ids, ((0, 0), (1, 0)), constant_values=EOS if reverse else START)
    state, chunks = backend.initial_state(len(lines)), []
    for start in range(0, ids.shape[1], STEPS_AT_ONCE):
        y, state = backend.read(ids[:, start : start + STEPS_AT_ONCE], state, reverse)
        chunks.append(y)
    y = np.concatenate(chunks, axis=1)
    if reverse:
        for row, line in zip(y, lines, strict=True):
            row[: len(line) + 1] = row[: len(line) + 1][::-1].copy()
    return y


def token_states(backend: Backend, lines: Sequence[Ids]) -> list[Floats]:
    """The encoder's output for each token of each line, (n, S).

    The output after the token, read from the line's start; for a bidirectional network beside it
    the output of the other direction, after the same token, read from the line's end.
    """

    def batch_states(batch: Sequence[Ids]) -> Floats:
        y = [outputs(backend, batch)[:, 1:]]
        if backend.config.bidirectional:
            y.append(outputs(backend, batch, reverse=True)[:, :-1])
        return np.concatenate(y, axis=-1)

    return by_length(batch_states, lines)
