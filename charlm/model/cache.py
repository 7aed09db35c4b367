"""The neural cache: a memory of what was read, beside the model's own prediction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.integer]


class Cache:
    """The memory itself, of one document."""

    def __init__(self, size: int, flatness: float, weight: float, hidden: int) -> None:
        self.size, self.flatness, self.weight = size, flatness, weight
        self.states, self.tokens = np.zeros((0, hidden), np.float32), np.zeros(0, np.int64)

    def mixed(self, y: Floats, targets: Ids, logprobs: Floats) -> NDArray[np.float64]:
        """The mixture's log-probabilities (T,) of the next T targets, which are then remembered.

        y:         (T, H), the states that predict them
        logprobs:  (T,), the model's own
        """
        size, weight, before = self.size, self.weight, len(self.tokens)
        states, tokens = np.concatenate([self.states, y]), np.concatenate([self.tokens, targets])
        age = before + np.arange(len(y))[:, None] - np.arange(len(tokens))
        similarity = np.where((age > 0) & (age <= size), self.flatness * (y @ states.T), -np.inf)
        highest = similarity.max(axis=1, keepdims=True)
        share = np.exp(similarity - np.where(np.isfinite(highest), highest, 0), dtype=np.float64)
        total, matching = share.sum(axis=1), (share * (tokens == targets[:, None])).sum(axis=1)
        self.states, self.tokens = states[-size:], tokens[-size:]
        own = np.exp(logprobs, dtype=np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            mixed = np.where(total > 0, (1 - weight) * own + weight * matching / total, own)
            return np.where(mixed > 0, np.log(mixed), logprobs)
