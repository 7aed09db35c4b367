"""Predictions of tokens, one after the other: of a running text, or of separate sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.model.backend import Floats, Ids
from charlm.model.prediction import Prediction, Predictor
from charlm.model.sequences import LONGEST_SINGLE, STEP_PER_SEQUENCE, WARM_UP, by_length, pad
from charlm.tokenizer import EOS, START, as_inputs

# A long text is cut into streams that run side by side. Each stream first reads `WARM_UP` tokens
# before its part, and further back to the start of their line, where a model starts from the zero
# state. Its state is then the same as after a single run.
MOST_STREAMS = 64
SEQUENCES_AT_ONCE = 128


def text_streams(tokens: int) -> tuple[int, int]:
    """The number of streams for a text of `tokens` tokens, and about how many each reads.

    With s streams the time is about (tokens / s + WARM_UP)·(STEP_PER_SEQUENCE + s). The number is
    where that is least.
    """
    if tokens < LONGEST_SINGLE:
        return 1, tokens
    streams = min(round((STEP_PER_SEQUENCE * tokens / WARM_UP) ** 0.5), MOST_STREAMS)
    return streams, -(-tokens // streams) + WARM_UP


def read_text(
    predictor: Predictor,
    ids: Ids,
    span: tuple[int, int] | None = None,
    progress: Callable[[float], None] | None = None,
    streams: int = MOST_STREAMS,
) -> Iterator[tuple[Prediction, Ids, NDArray[np.bool_]]]:
    """The predictions of a text's tokens: a text from the zero state, carried to its end.

    span:      read what is needed for the tokens start ≤ t < end only; None for the whole text
    progress:  called with the fraction of the text that is done
    streams:   the most streams that run side by side

    Yields the predictions of (B, T) tokens, these tokens, and which of them are in the span. Each
    token of the span comes once.
    """
    begin, end = span or (0, len(ids))
    streams = 1 if predictor.one_text else min(text_streams(end - begin)[0], streams)
    edges = begin + np.arange(streams + 1)[:, None] * (end - begin) // streams
    first = np.zeros((1, 1), np.int64)
    if not predictor.one_text:
        first = _warm_up_starts(ids, edges[:-1])
    state = predictor.initial_state(streams)
    longest = int((edges[1:] - first).max())
    for start in range(0, longest, predictor.at_once):
        if progress:
            progress(start / longest)
        positions = first + np.arange(start, start + predictor.at_once)
        if streams == 1:
            positions = positions[:, positions[0] < end]
        scored = (positions >= edges[:-1]) & (positions < edges[1:])
        positions = np.minimum(positions, len(ids) - 1)
        inputs = np.where(positions == 0, START, as_inputs(ids[positions - 1]))
        prediction, state = predictor.read(inputs, state)
        yield prediction, ids[positions], scored


def text_logprobs(
    predictor: Predictor,
    ids: Ids,
    span: tuple[int, int] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Iterator[tuple[Floats, Ids]]:
    """log p(ids[t] | ids[:t]) in nats and ids[t], (n,) each, of the tokens of `read_text`."""
    for prediction, targets, scored in read_text(predictor, ids, span, progress):
        yield prediction.logprobs(targets)[scored], targets[scored]


def text_logprob(predictor: Predictor, ids: Ids) -> float:
    """Σ log p(ids[t] | ids[:t]) in nats over a text."""
    return sum(
        float(logprobs.sum(dtype=np.float64)) for logprobs, _ in text_logprobs(predictor, ids)
    )


def read_in_order(
    predictor: Predictor,
    ids: Ids,
    function: Callable[[Prediction, Ids], NDArray[Any]],
    streams: int = MOST_STREAMS,
) -> NDArray[Any]:
    """A function of the predictions of every token of a text, in their order, (n, …).

    function:  the prediction of (B, T) tokens, and these tokens -> an array (B, T, …)
    streams:   the most streams of `read_text`
    """
    chunks: list[list[NDArray[Any]]] = [[] for _ in range(streams)]  # of each stream
    for prediction, targets, scored in read_text(predictor, ids, streams=streams):
        values = function(prediction, targets)
        for stream, of_stream, kept in zip(chunks, values, scored, strict=False):
            stream.append(of_stream[kept])
    return np.concatenate([chunk for stream in chunks for chunk in stream])


def read_sequences(
    predictor: Predictor,
    sequences: Sequence[Ids],
    function: Callable[[Prediction, Ids], NDArray[Any]],
    at_once: int = SEQUENCES_AT_ONCE,
) -> list[NDArray[Any]]:
    """A function of the predictions of every token of every sequence, each from the zero state.

    function:  the prediction of (B, T) tokens, and these tokens -> an array (B, T, …)
    at_once:   the most sequences of a batch

    Returns an array (n, …) for each sequence, in order; see `by_length` for one without tokens.
    """

    def of_batch(batch: Sequence[Ids]) -> NDArray[Any]:
        targets = pad(batch)
        inputs = as_inputs(np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=START))
        state, chunks = predictor.initial_state(len(batch)), []
        for start in range(0, targets.shape[1], predictor.at_once):
            chunk = slice(start, start + predictor.at_once)
            prediction, state = predictor.read(inputs[:, chunk], state)
            chunks.append(function(prediction, targets[:, chunk]))
        return np.concatenate(chunks, axis=1)

    return by_length(of_batch, sequences, lambda length: at_once, from_both_ends=False)


def sequence_logprobs(predictor: Predictor, sequences: Sequence[Ids]) -> list[Floats]:
    """log p(s[t] | `<START>`, s[:t]) in nats for every token of every sequence s, in order."""
    return read_sequences(predictor, sequences, lambda p, targets: p.logprobs(targets))


def _warm_up_starts(ids: Ids, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the streams begin to read whose scores begin at these edges."""
    latest = np.maximum(edges - WARM_UP, 0)
    lines = np.append(0, np.flatnonzero(ids == EOS) + 1)
    starts = lines[np.searchsorted(lines, latest, side="right") - 1]
    return np.where(latest - starts <= WARM_UP, starts, latest)
