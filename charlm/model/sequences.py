"""Running a network over sequences of different lengths, each from the zero state."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from charlm.model.backend import Backend, Floats, Ids
from charlm.tokenizer import EOS, START

# Steps of all sequences side by side before the next chunk.
STEPS_AT_ONCE = 128
# Sequences are padded to multiples of this length. A fused kernel is built for each new shape.
LENGTH_MULTIPLE = 8
TOKENS_AT_ONCE = 1 << 15  # of sequences whose outputs are all kept


def by_length(
    function: Callable[[Sequence[Ids]], Floats],
    sequences: Sequence[Ids],
    at_once: Callable[[int], int] | None = None,
) -> list[Floats]:
    """Apply a function to batches of sequences of similar length; the results in input order.

    function:  a batch of B sequences -> an array (B, T, …); rows are cut to each sequence's length
    at_once:   length of the longest sequence -> sequences in a batch; None for `TOKENS_AT_ONCE`
    """
    results: list[Floats] = [np.zeros(0, np.float32)] * len(sequences)
    order = [k for k in np.argsort([len(s) for s in sequences], kind="stable") if len(sequences[k])]
    while order:
        longest = len(sequences[order[-1]])
        count = at_once(longest) if at_once else max(TOKENS_AT_ONCE // longest, 1)
        batch = order[-count:]
        del order[-len(batch) :]
        rows = function([sequences[k] for k in batch])
        for k, row in zip(batch, rows, strict=True):
            results[k] = row[: len(sequences[k])]
    return results


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
    state, parts = backend.initial_state(len(lines)), []
    for start in range(0, ids.shape[1], STEPS_AT_ONCE):
        y, state = backend.read(ids[:, start : start + STEPS_AT_ONCE], state, reverse)
        parts.append(y)
    y = np.concatenate(parts, axis=1)
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
