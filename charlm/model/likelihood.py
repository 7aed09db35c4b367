"""Log-probabilities of tokens by a forward network: a running text, or separate sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.model.backend import Backend, Floats, Ids
from charlm.model.cache import Cache
from charlm.model.sequences import (
    LONGEST_SINGLE,
    STEP_PER_SEQUENCE,
    STEPS_AT_ONCE,
    WARM_UP,
    by_length,
    pad,
)
from charlm.tokenizer import EOS, START, as_inputs

# A long text is cut into streams that run side by side. Each stream first reads `WARM_UP` tokens
# before its part, and further back to the start of their line, where a model starts from the zero
# state. Its state is then the same as after a single run.
MOST_STREAMS = 64
SEQUENCES_AT_ONCE = 128

# inputs (B, T), targets (B, T), state -> y (B, T, H), log-probabilities (B, T), state after
Predict = Callable[[Ids, Ids, Any], tuple[Floats, Floats, Any]]


def text_streams(tokens: int) -> tuple[int, int]:
    """The number of streams for a text of `tokens` tokens, and about how many each reads.

    With s streams the time is about (tokens / s + WARM_UP)·(STEP_PER_SEQUENCE + s). The number is
    where that is least.
    """
    if tokens < LONGEST_SINGLE:
        return 1, tokens
    streams = min(round((STEP_PER_SEQUENCE * tokens / WARM_UP) ** 0.5), MOST_STREAMS)
    return streams, -(-tokens // streams) + WARM_UP


def text_logprob(
    backend: Backend,
    ids: Ids,
    *,
    span: tuple[int, int] | None = None,
    cache: Cache | None = None,
    ngram: tuple[NDArray[np.float64], float] | None = None,
    predict: tuple[Predict, int] | None = None,
    progress: Callable[[float], None] | None = None,
) -> float:
    """Σ log p(ids[t] | ids[:t]) in nats: a text from the zero state, carried to its end.

    span:      sum over start ≤ t < end only; None for the whole text
    cache:     mix the prediction with a neural cache of the text so far
    ngram:     mix it with the probabilities of another model, (n,), and their weight
    predict:   predicts instead of the backend, and the number of tokens at once: the text is then
               read in one stream, in order, see `dynamic_evaluation`
    progress:  called with the fraction of the text that is done
    """
    begin, end = span or (0, len(ids))
    single = cache is not None or predict is not None
    streams = 1 if single else text_streams(end - begin)[0]
    predictor, at_once = predict or (_predict_with(backend), STEPS_AT_ONCE)
    edges = begin + np.arange(streams + 1)[:, None] * (end - begin) // streams
    first = _warm_up_starts(ids, edges[:-1])
    total, state = 0.0, backend.initial_state(streams)
    longest = int((edges[1:] - first).max())
    for start in range(0, longest, at_once):
        if progress:
            progress(start / longest)
        positions = first + np.arange(start, start + at_once)
        if streams == 1:
            positions = positions[:, positions[0] < end]
        scored = (positions >= edges[:-1]) & (positions < edges[1:])
        positions = np.minimum(positions, len(ids) - 1)
        inputs = np.where(positions == 0, START, as_inputs(ids[positions - 1]))
        y, logprobs, state = predictor(inputs, ids[positions], state)
        if ngram:
            p, weight = ngram
            with np.errstate(divide="ignore"):
                logprobs = np.logaddexp(logprobs + np.log1p(-weight), np.log(weight * p[positions]))
        if cache:
            total += float(cache.mixed(y[0], ids[positions[0]], logprobs[0]).sum())
        else:
            total += float(logprobs[scored].sum(dtype=np.float64))
    return total


def sequence_logprobs(backend: Backend, sequences: Sequence[Ids]) -> list[Floats]:
    """log p(s[t] | `<START>`, s[:t]) in nats for every token of every sequence s, in order."""
    predict = _predict_with(backend)

    def batch_logprobs(batch: Sequence[Ids]) -> Floats:
        targets = pad(batch)
        inputs = as_inputs(np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=START))
        state, parts = backend.initial_state(len(batch)), []
        for start in range(0, targets.shape[1], STEPS_AT_ONCE):
            chunk = slice(start, start + STEPS_AT_ONCE)
            _, logprobs, state = predict(inputs[:, chunk], targets[:, chunk], state)
            parts.append(logprobs)
        return np.concatenate(parts, axis=1)

    return by_length(batch_logprobs, sequences, lambda length: SEQUENCES_AT_ONCE)


def _predict_with(backend: Backend) -> Predict:
    def predict(inputs: Ids, targets: Ids, state: Any) -> tuple[Floats, Floats, Any]:
        y, after = backend.read(inputs, state)
        return y, backend.logprobs(y, targets), after

    return predict


def _warm_up_starts(ids: Ids, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the streams begin to read whose scores begin at these edges."""
    latest = np.maximum(edges - WARM_UP, 0)
    lines = np.append(0, np.flatnonzero(ids == EOS) + 1)
    starts = lines[np.searchsorted(lines, latest, side="right") - 1]
    return np.where(latest - starts <= WARM_UP, starts, latest)
