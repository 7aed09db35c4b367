"""Beam search for many sources side by side: the most probable targets of each."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.model.groups import best_of_each
from charlm.model.numpy_network import log_softmax
from charlm.model.prediction import Predictor, take
from charlm.tokenizer import EOS, START, UNK

Indices = NDArray[np.int64]
FAR_BEHIND = 7.0  # nats


class Found(NamedTuple):
    """A target and its log p."""

    logprob: float
    ids: list[int]


def best_targets(
    predictor: Predictor, sources: int, width: int, longest: Indices, most: int | None = None
) -> list[list[Found]]:
    """The most probable targets of each source, the best first.

    predictor:  whose initial state has a row for each source
    width:      the number of targets of a source that go on after each token
    longest:    (sources,) the most tokens of a target, its end not counted
    most:       of the targets that are asked for; None for `width`

    The search for a source ends when no target that goes on is more probable than `most` finished
    ones. A longer target is never more probable. If one target is asked for, those that are far
    less probable than another one of the same length do not go on.
    """
    most = most or width
    state = predictor.initial_state(sources)
    prediction, state = predictor.read(np.full((sources, 1), START), state)
    owners, totals = np.arange(sources), np.zeros(sources)
    texts = np.zeros((sources, 0), np.int64)
    finished: list[tuple[Indices, NDArray[np.float64], Indices]] = []
    worst = np.full((sources, most), -np.inf)  # the best finished ones, ascending
    while len(owners):
        logprobs = totals[:, None] + log_softmax(prediction.logits()[:, 0])
        ends = logprobs[:, EOS - 1].copy()
        finished.append((owners, ends, texts))
        worst = _with(worst, owners, ends)
        logprobs[:, [EOS - 1, UNK - 1]] = -np.inf
        logprobs[texts.shape[1] >= longest[owners]] = -np.inf
        rows, columns = np.nonzero(logprobs > worst[owners, :1])
        values = logprobs[rows, columns]
        kept, ranks = best_of_each(owners[rows], values, width)
        if most == 1:
            highest = np.full(sources, -np.inf)
            highest[owners[rows[kept[ranks == 0]]]] = values[kept[ranks == 0]]
            kept = kept[values[kept] > highest[owners[rows[kept]]] - FAR_BEHIND]
        rows, ids, totals = rows[kept], columns[kept] + 1, values[kept]
        owners, texts = owners[rows], np.column_stack([texts[rows], ids])
        if len(owners):
            prediction, state = predictor.read(ids[:, None], take(state, rows.tolist()))
    return _grouped(finished, sources, most)


def _with(
    best: NDArray[np.float64], owners: Indices, values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The best values of each row, ascending, with some more for the rows `owners`."""
    width = best.shape[1]
    kept, ranks = best_of_each(owners, values, width)
    added = np.full(best.shape, -np.inf)
    added[owners[kept], ranks] = values[kept]
    return np.sort(np.concatenate([best, added], axis=1), axis=1)[:, width:]


def _grouped(finished: Any, sources: int, most: int) -> list[list[Found]]:
    found: list[list[Found]] = [[] for _ in range(sources)]
    for owners, values, texts in finished:
        for owner, value, text in zip(
            owners.tolist(), values.tolist(), texts.tolist(), strict=True
        ):
            found[owner].append(Found(value, text))
    return [sorted(each, key=lambda f: -f.logprob)[:most] for each in found]
