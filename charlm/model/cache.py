"""The neural cache (Grave et al. 2017): a distribution over recently read tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.integer]


class Cache:
    """The neural cache of one document.

    p(y) = (1−λ) p_model(y) + λ Σ_i softmax_i(θ h_t·h_i) [y = y_i]

    The sum runs over the last `size` pairs (h_i, y_i): h_i is an output of the top recurrent
    layer, y_i the token after it. While the cache is empty, p(y) = p_model(y).

    size:      maximal number of pairs
    flatness:  θ; 0 weights all pairs equally, larger values prefer similar outputs
    weight:    λ
    hidden:    features H of the top layer's output
    """

    def __init__(self, size: int, flatness: float, weight: float, hidden: int) -> None:
        self.size, self.flatness, self.weight = size, flatness, weight
        self.states, self.tokens = np.zeros((0, hidden), np.float32), np.zeros(0, np.int64)

    def mixed(self, y: Floats, targets: Ids, logprobs: Floats) -> NDArray[np.float64]:
        """Log-probabilities of the next T targets under the mixture, in nats, (T,).

        Then adds the pairs (y[t], targets[t]) to the cache.

        y:         (T, H), outputs of the top layer, one before each target
        targets:   (T,)
        logprobs:  (T,), log p_model(target) in nats
        """
        size, weight, cached = self.size, self.weight, len(self.tokens)
        states, tokens = np.concatenate([self.states, y]), np.concatenate([self.tokens, targets])
        age = cached + np.arange(len(y))[:, None] - np.arange(len(tokens))
        similarity = np.where((age > 0) & (age <= size), self.flatness * (y @ states.T), -np.inf)
        highest = similarity.max(axis=1, keepdims=True)
        scores = np.exp(similarity - np.where(np.isfinite(highest), highest, 0), dtype=np.float64)
        total, matching = scores.sum(axis=1), (scores * (tokens == targets[:, None])).sum(axis=1)
        self.states, self.tokens = states[-size:], tokens[-size:]
        p_model = np.exp(logprobs, dtype=np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            p = np.where(total > 0, (1 - weight) * p_model + weight * matching / total, p_model)
            return np.where(p > 0, np.log(p), logprobs)
