"""How probable token ids are: a running text, or sequences each on its own.

All of it works on anything that is a `Backend`: `Stepper` (NumPy) or `Network` (torch).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from charlm.model.cache import Cache, CacheOptions
from charlm.model.config import ModelConfig
from charlm.tokenizer import EOS, START, as_inputs

Floats = NDArray[np.float32]
Ids = NDArray[np.integer]

# A long text is cut into streams that run side by side. Each first reads this many tokens of
# what stands before it, and those from there back to the start of their line, which is where a
# model knows how to start; by then its state is the one that a single run would have carried.
WARM_UP = 512
LONGEST_SINGLE = 8 * WARM_UP
MOST_STREAMS = 64
STEP_PER_STREAM = 50  # a step takes as long as 50 streams more in it
STEPS_AT_ONCE = 128
# Sequences of similar length run side by side, in shapes that recur: a fused kernel is made anew
# for each shape.
SEQUENCES_AT_ONCE = 128
TOKENS_AT_ONCE = 1 << 15  # of sequences whose outputs are all kept
LENGTH_MULTIPLE = 8


class Backend(Protocol):
    """What can say how probable tokens are."""

    config: ModelConfig

    def initial_state(self, batch: int) -> Any:
        """The zero state of one direction."""
        ...

    def read(self, ids: Ids, state: Any, reverse: bool = False) -> tuple[Floats, Any]:
        """The top layer's output after each of the ids (B, T), (B, T, H), and the state after;
        `reverse` is the direction of a bidirectional model that reads lines from their ends."""
        ...

    def logprobs(self, y: Floats, targets: Ids) -> Floats:
        """log p(targets[b, t]) in nats, (B, T), after y (B, T, H), or (B, T, 2·H) with both
        directions."""
        ...


# What is to read so many tokens more: asked again before each batch, as the work grows.
Backends = Callable[[int], Backend]


def text_streams(tokens: int) -> tuple[int, int]:
    """How many streams a text of so many tokens is cut into, and about how many each reads.

    With s streams it takes about (tokens / s + WARM_UP)·(STEP_PER_STREAM + s); s is where that
    is least.
    """
    if tokens < LONGEST_SINGLE:
        return 1, tokens
    streams = min(round((STEP_PER_STREAM * tokens / WARM_UP) ** 0.5), MOST_STREAMS)
    return streams, -(-tokens // streams) + WARM_UP


def text_logprob(
    backend: Backend,
    ids: Ids,
    cache: CacheOptions | None = None,
    *,
    ngram: tuple[NDArray[np.float64], float] | None = None,
    one_by_one: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> float:
    """Σ log p(ids[t] | ids[:t]) in nats: a text from the zero state, carried to its end.

    cache:       mix the prediction with a neural cache of what came before in the text
    ngram:       mix it with the probabilities of another model, (n,), and the weight of these
    one_by_one:  read it in one stream, so many tokens at once, for a backend that learns from
                 them, see `adapting`
    progress:    told now and then what part of the text is done
    """
    streams = 1 if cache or one_by_one else text_streams(len(ids))[0]
    at_once = one_by_one or STEPS_AT_ONCE
    edges = np.arange(streams + 1)[:, None] * len(ids) // streams
    first = _warm_up_starts(ids, edges[:-1])
    memory = Cache(cache, backend.config.hidden) if cache else None
    total, state = 0.0, backend.initial_state(streams)
    longest = int((edges[1:] - first).max())
    for start in range(0, longest, at_once):
        if progress:
            progress(start / longest)
        positions = first + np.arange(start, start + at_once)
        if streams == 1:
            positions = positions[:, positions[0] < len(ids)]
        scored = (positions >= edges[:-1]) & (positions < edges[1:])
        positions = np.minimum(positions, len(ids) - 1)
        inputs = np.where(positions == 0, START, as_inputs(ids[positions - 1]))
        y, state = backend.read(inputs, state)
        found = backend.logprobs(y, ids[positions])
        if ngram:
            p, weight = ngram
            with np.errstate(divide="ignore"):
                found = np.logaddexp(found + np.log1p(-weight), np.log(weight * p[positions]))
        if memory:
            total += float(memory.mixed(y[0], ids[positions[0]], found[0]).sum())
        else:
            total += float(found[scored].sum(dtype=np.float64))
    return total


def _warm_up_starts(ids: Ids, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the streams begin to read whose scores begin at these edges."""
    wanted = np.maximum(edges - WARM_UP, 0)
    lines = np.append(0, np.flatnonzero(ids == EOS) + 1)
    starts = lines[np.searchsorted(lines, wanted, side="right") - 1]
    return np.where(wanted - starts <= WARM_UP, starts, wanted)


def sequence_logprobs(backend: Backend, sequences: Sequence[Ids]) -> list[Floats]:
    """log p(s[t] | `<START>`, s[:t]) in nats of every token of every sequence s, in their order."""

    def together(batch: Sequence[Ids]) -> Floats:
        targets = padded(batch)
        inputs = as_inputs(np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=START))
        state, parts = backend.initial_state(len(batch)), []
        for start in range(0, targets.shape[1], STEPS_AT_ONCE):
            chunk = slice(start, start + STEPS_AT_ONCE)
            y, state = backend.read(inputs[:, chunk], state)
            parts.append(backend.logprobs(y, targets[:, chunk]))
        return np.concatenate(parts, axis=1)

    return by_length(together, sequences, lambda length: SEQUENCES_AT_ONCE)


def pseudo_logprobs(backend: Backend, lines: Sequence[Ids]) -> list[Floats]:
    """log p(s[t] | all other tokens of s) in nats of every token of every line s, in their order,
    by a bidirectional model. A line is without its `<EOS>`."""

    def together(batch: Sequence[Ids]) -> Floats:
        return backend.logprobs(both_sides(backend, batch), padded(batch))

    return by_length(together, lines, lambda length: max(TOKENS_AT_ONCE // length, 1))


def one_sided_logprobs(backend: Backend, lines: Sequence[Ids], reverse: bool) -> list[Floats]:
    """log p(s[t] | s[:t]) in nats of every token of every line s, in their order, by the forward
    direction of a bidirectional model alone; or, in reverse, log p(s[t] | s[t+1:]) by the other."""

    def together(batch: Sequence[Ids]) -> Floats:
        y = _outputs(backend, batch, reverse)
        y = y[:, 1:] if reverse else y[:, :-1]
        return backend.logprobs(one_side(y, reverse), padded(batch))

    return by_length(together, lines, lambda length: max(TOKENS_AT_ONCE // length, 1))


def one_side(y: Floats, reverse: bool) -> Floats:
    """A direction's output (…, H) beside one that knows nothing of its side: (…, 2·H)."""
    nothing = np.zeros_like(y)
    return np.concatenate([nothing, y] if reverse else [y, nothing], axis=-1)


def both_sides(backend: Backend, lines: Sequence[Ids]) -> Floats:
    """What a bidirectional model knows of each place of each line from the tokens before and
    after it, (B, T, 2·H); T is the length of `padded` lines, what is past a line's end is void."""
    before, after = _outputs(backend, lines), _outputs(backend, lines, reverse=True)
    return np.concatenate([before[:, :-1], after[:, 1:]], axis=-1)


def states(backend: Backend, lines: Sequence[Ids]) -> list[Floats]:
    """What a model knows after each token of each line, from the line's start: the output of its
    top layer, (n, H); of a bidirectional model, beside that of the direction that has read the
    line from its end down to the same token, (n, 2·H)."""

    def together(batch: Sequence[Ids]) -> Floats:
        sides = [_outputs(backend, batch)[:, 1:]]
        if backend.config.bidirectional:
            sides.append(_outputs(backend, batch, reverse=True)[:, :-1])
        return np.concatenate(sides, axis=-1)

    return by_length(together, lines, lambda length: max(TOKENS_AT_ONCE // length, 1))


def _outputs(backend: Backend, lines: Sequence[Ids], reverse: bool = False) -> Floats:
    """A direction's output between the tokens of lines, (B, T + 1, H): at t after s[:t]; or, in
    reverse, after s[t:], read from the line's end."""
    ids = padded([line[::-1] if reverse else line for line in lines])
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


def by_length(
    together: Callable[[Sequence[Ids]], Floats],
    sequences: Sequence[Ids],
    at_once: Callable[[int], int],
) -> list[Floats]:
    """Apply a function to batches of sequences of similar length; the results in their order."""
    found: list[Floats] = [np.zeros(0, np.float32)] * len(sequences)
    order = [k for k in np.argsort([len(s) for s in sequences], kind="stable") if len(sequences[k])]
    while order:
        chosen = order[-at_once(len(sequences[order[-1]])) :]
        del order[-len(chosen) :]
        rows = together([sequences[k] for k in chosen])
        for k, row in zip(chosen, rows, strict=True):
            found[k] = row[: len(sequences[k])]
    return found


def padded(sequences: Sequence[Ids]) -> NDArray[np.int64]:
    """The sequences (B, T), where T is the length of the longest or a little more."""
    longest = max(len(s) for s in sequences)
    length = -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    padded = np.full((len(sequences), length), EOS, np.int64)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded
