"""How probable token ids are: a running text, or sequences each on its own.

Both work on anything with `initial_state` and `logprobs`: `Stepper` (NumPy) or `Network` (torch).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from charlm.tokenizer import START, as_inputs

Ids = NDArray[np.integer]

# A long text is cut into streams that run side by side. Each first reads this many tokens of
# what stands before it, by when its state is the one that a single run would have carried.
WARM_UP = 512
TOKENS_PER_STREAM = 8 * WARM_UP
MOST_STREAMS = 64
STEPS_AT_ONCE = 128
# Sequences of similar length run side by side, in shapes that recur: a fused kernel is made anew
# for each shape.
SEQUENCES_AT_ONCE = 128
LENGTH_MULTIPLE = 16


class Backend(Protocol):
    """What can say how probable tokens are."""

    def initial_state(self, batch: int) -> Any: ...

    def logprobs(self, inputs: Ids, targets: Ids, state: Any) -> tuple[NDArray[np.float32], Any]:
        """log p(targets[b, t] | inputs[b, :t+1], state) in nats, (B, T), and the state after."""
        ...


def text_streams(tokens: int) -> tuple[int, int]:
    """How many streams a text of so many tokens is cut into, and how many tokens each reads."""
    streams = int(np.clip(tokens // TOKENS_PER_STREAM, 1, MOST_STREAMS))
    warm_up = WARM_UP if streams > 1 else 0
    return streams, -(-(tokens - warm_up) // streams) + warm_up


def text_logprob(backend: Backend, ids: Ids) -> float:
    """Σ log p(ids[t] | ids[:t]) in nats: a text from the zero state, carried to its end."""
    streams, length = text_streams(len(ids))
    warm_up = WARM_UP if streams > 1 else 0
    first = np.arange(streams)[:, None] * (length - warm_up)
    total, state = 0.0, backend.initial_state(streams)
    for start in range(0, length, STEPS_AT_ONCE):
        steps = np.arange(start, min(start + STEPS_AT_ONCE, length))
        positions = first + steps
        scored = ((steps >= warm_up) | (first == 0)) & (positions < len(ids))
        positions = np.minimum(positions, len(ids) - 1)
        inputs = np.where(positions == 0, START, as_inputs(ids[positions - 1]))
        logprobs, state = backend.logprobs(inputs, ids[positions], state)
        total += float(logprobs[scored].sum(dtype=np.float64))
    return total


def sequence_logprobs(backend: Backend, sequences: Sequence[Ids]) -> list[NDArray[np.float32]]:
    """log p(s[t] | `<START>`, s[:t]) in nats of every token of every sequence s, in their order."""
    found: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(sequences)
    order = sorted(range(len(sequences)), key=lambda k: len(sequences[k]))
    for start in range(0, len(order), SEQUENCES_AT_ONCE):
        chosen = order[start : start + SEQUENCES_AT_ONCE]
        logprobs = _padded_logprobs(backend, [sequences[k] for k in chosen])
        for k, row in zip(chosen, logprobs, strict=True):
            found[k] = row[: len(sequences[k])]
    return found


def _padded_logprobs(backend: Backend, sequences: Sequence[Ids]) -> NDArray[np.float32]:
    """The same for a batch of similar length, (B, length of the longest or a little more)."""
    longest = max(len(s) for s in sequences)
    length = -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    targets = np.ones((len(sequences), length), np.int64)
    for row, sequence in zip(targets, sequences, strict=True):
        row[: len(sequence)] = sequence
    inputs = as_inputs(np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=START))
    state, parts = (
        backend.initial_state(len(sequences)),
        [np.zeros((len(sequences), 0), np.float32)],
    )
    for start in range(0, length, STEPS_AT_ONCE):
        chunk = slice(start, start + STEPS_AT_ONCE)
        logprobs, state = backend.logprobs(inputs[:, chunk], targets[:, chunk], state)
        parts.append(logprobs)
    return np.concatenate(parts, axis=1)
