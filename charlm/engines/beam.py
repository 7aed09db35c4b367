"""Beam search: the most probable texts, written token by token."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from charlm.model.backend import Floats
from charlm.model.prediction import Reader


class Candidate(Protocol):
    """The beginning of a text, or a whole text. The columns (V−1,) belong to ids from 1."""

    @property
    def is_finished(self) -> bool:
        """Whether its last token ends the text."""

    def next_logprobs(self, logits: Floats) -> Floats:
        """log p of each token as the next one, (V−1,); −inf for those that may not follow.

        logits:  (V−1,) after the candidate, as the model gives them
        """

    def end_logprob(self, logits: Floats) -> float | None:
        """log p that the text ends here, without a token that says so; None if it cannot.

        logits:  (V−1,) after the candidate
        """

    def extended(self, id: int) -> Self:
        """The candidate with one more token."""


C = TypeVar("C", bound=Candidate)


def beam_search(
    reader: Reader, first: C, width: int, *, longest: int | None = None, most: int | None = None
) -> list[tuple[float, C]]:
    """The most probable finished candidates, each with its log P, the best first.

    reader:   has read what is before the text
    first:    the empty text
    width:    the number of candidates that are kept after each token
    longest:  tokens of a text, at the most; None for no limit
    most:     the number of results, at the most; None for all that are found

    The search ends when no candidate is left, or no longer text can be among the results: a longer
    text is never more probable. Of candidates with equal log P, the one in the later row comes
    first, then the one with the larger id.
    """
    if first.is_finished:
        return [(0.0, first)]
    finished: list[tuple[float, C]] = []
    beam = [(0.0, first)]
    for length in count():
        logits = reader.logits()
        finished += _ends(beam, logits)
        if length == longest:
            break
        steps = _best_steps(beam, logits, width)
        longer = [(step.logprob, beam[step.row][1].extended(step.id)) for step in steps]
        finished += [(logprob, text) for logprob, text in longer if text.is_finished]
        finished = _best_first(finished)[:most]
        if len(finished) == most and longer and longer[0][0] <= finished[-1][0]:
            break
        growing = [k for k, (_, text) in enumerate(longer) if not text.is_finished]
        if not growing:
            break
        beam = [longer[k] for k in growing]
        reader.extend([steps[k].row for k in growing], [steps[k].id for k in growing])
    return _best_first(finished)[:most]


class _Step(NamedTuple):
    """A candidate with one more token: its log P, its row in the beam, and the token."""

    logprob: float
    row: int
    id: int


def _best_steps(beam: Sequence[tuple[float, C]], logits: Floats, width: int) -> list[_Step]:
    """The `width` most probable steps from the candidates of a beam, the best first."""
    logprobs = np.stack(
        [
            logprob + text.next_logprobs(row)
            for (logprob, text), row in zip(beam, logits, strict=True)
        ]
    )
    rows, columns = np.divmod(_best_entries(logprobs, width), logprobs.shape[1])
    values = logprobs[rows, columns]
    order = np.lexsort((columns, rows, values))[::-1][:width]
    order = order[values[order] > -np.inf]
    steps = zip(values[order].tolist(), rows[order].tolist(), columns[order].tolist(), strict=True)
    return [_Step(logprob, row, column + 1) for logprob, row, column in steps]


def _best_entries(values: Floats, most: int) -> NDArray[np.int64]:
    """Which values (rows, V−1) may be among the `most` largest, as indices of the flat array.

    Of equal values in a row, the first are taken.
    """
    flat = values.ravel()
    if len(flat) <= most:
        return np.arange(len(flat))
    entries = np.flatnonzero(flat >= np.partition(flat, -most)[-most])
    if len(entries) == most:
        return entries
    starts = np.arange(1, len(values)) * values.shape[1]
    by_row = np.split(entries, np.searchsorted(entries, starts))
    best = [np.argsort(-flat[of_row], kind="stable")[:most] for of_row in by_row]
    return np.concatenate([of_row[k] for of_row, k in zip(by_row, best, strict=True)])


def _ends(beam: Sequence[tuple[float, C]], logits: Floats) -> list[tuple[float, C]]:
    """The candidates of a beam that may end where they are, with the log P of that."""
    ends = [text.end_logprob(row) for (_, text), row in zip(beam, logits, strict=True)]
    return [
        (logprob + end, text)
        for (logprob, text), end in zip(beam, ends, strict=True)
        if end is not None
    ]


def _best_first(texts: Sequence[tuple[float, C]]) -> list[tuple[float, C]]:
    return sorted(texts, key=lambda scored: -scored[0])
