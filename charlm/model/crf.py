"""The equations of a linear-chain conditional random field (Lafferty et al. 2001), in NumPy.

p(y | x) = exp s(x, y) / Z(x), with the score of a sequence of tags y₁ … y_n

    s(x, y) = start[y₁] + Σ_t e_t[y_t] + Σ_t transitions[y_t, y_{t+1}] + end[y_n]

e_t (K,) are the emissions: scores of the tags at step t. Z(x) = Σ_y exp s(x, y).

Arrays: emissions (T, B, K) of B sequences that are filled up to T steps, lengths (B,), at least 1.
Every function gives the same for a sequence whatever fills it up.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SMALLEST = 1e-300  # whose logarithm is still a number
Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


class Transitions(NamedTuple):
    """The scores of a CRF that do not depend on the sequence.

    start, end:   (K,) of the first and of the last tag
    transitions:  (K, K) of a tag (row) and the one after it (column)
    """

    start: Floats
    end: Floats
    transitions: Floats

    @classmethod
    def none(cls, tags: int) -> Transitions:
        """All scores are 0: each tag by itself."""
        return cls(np.zeros(tags), np.zeros(tags), np.zeros((tags, tags)))

    def times(self, factor: float) -> Transitions:
        """All scores multiplied by a factor."""
        return Transitions(*(factor * scores for scores in self))


def log_partition(emissions: Floats, lengths: Ints, crf: Transitions) -> Floats:
    """(B,) log Z of each sequence."""
    alpha = _forward(emissions, crf)[lengths - 1, np.arange(len(lengths))]
    return _log_sum(alpha + crf.end, 1)


def scores(emissions: Floats, lengths: Ints, tags: Ints, crf: Transitions) -> Floats:
    """(B,) the score s(x, y) of the sequences of tags (T, B)."""
    steps, columns = np.arange(len(emissions))[:, None], np.arange(len(lengths))
    real = np.asarray(steps < lengths)
    total = (emissions[steps, columns, tags] * real).sum(axis=0)
    total += (crf.transitions[tags[:-1], tags[1:]] * real[1:]).sum(axis=0)
    return total + crf.start[tags[0]] + crf.end[tags[lengths - 1, columns]]


def log_marginals(emissions: Floats, lengths: Ints, crf: Transitions) -> Floats:
    """(T, B, K) log p(y_t = k | x) at every real step, by the forward-backward algorithm."""
    alpha = _forward(emissions, crf)
    beta = np.empty_like(alpha)
    after = np.broadcast_to(crf.end, alpha.shape[1:])
    for t in reversed(range(len(emissions))):
        last = np.equal(lengths - 1, t)[:, None]
        beta[t] = np.where(last, crf.end, after)
        after = _log_product(emissions[t] + beta[t], crf.transitions.T)
    both = alpha + beta
    return both - _log_sum(both, 2)[..., None]


def best_tags(emissions: Floats, lengths: Ints, crf: Transitions) -> Ints:
    """(T, B) the most probable sequence of tags of each sequence (Viterbi 1967)."""
    steps, batch, _ = emissions.shape
    came_from = np.empty(emissions.shape, np.int64)
    best = crf.start + emissions[0]
    at_end = best
    for t in range(1, steps):
        reached = best[:, :, None] + crf.transitions
        came_from[t] = reached.argmax(axis=1)
        best = reached.max(axis=1) + emissions[t]
        at_end = np.where((t < lengths)[:, None], best, at_end)
    tags = np.empty((steps, batch), np.int64)
    current = (at_end + crf.end).argmax(axis=1)
    for t in reversed(range(steps)):
        tags[t] = current
        if t:
            before = came_from[t, np.arange(batch), current]
            current = np.where(t < lengths, before, current)
    return tags


def _forward(emissions: Floats, crf: Transitions) -> Floats:
    """(T, B, K) log Σ exp of the scores of all beginnings that end with each tag."""
    alpha = np.empty(emissions.shape, np.float64)
    alpha[0] = crf.start + emissions[0]
    for t in range(1, len(emissions)):
        alpha[t] = _log_product(alpha[t - 1], crf.transitions) + emissions[t]
    return alpha


def _log_product(x: Floats, matrix: Floats) -> Floats:
    """log (exp x · exp M): (B, K), (K, K) -> (B, K)."""
    highest = x.max(axis=1, keepdims=True)
    product = np.exp(x - highest) @ np.exp(matrix)
    return np.asarray(np.log(np.maximum(product, SMALLEST)) + highest)


def _log_sum(x: Floats, axis: int) -> Floats:
    """log Σ exp x along an axis."""
    highest = x.max(axis=axis, keepdims=True)
    total = np.log(np.exp(x - highest).sum(axis=axis)) + highest.squeeze(axis)
    return np.asarray(total)
