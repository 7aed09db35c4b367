"""A linear model of labels: multinomial logistic regression over features that are there or not.

log p(k) = b_k + Σ_f W_fk − log Z, over the features f of an example. `charlm.model.linear_fit`
trains it. It knows which words and n-grams speak for a label, and nothing of their order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from charlm.model.file import Arrays, Settings, State

Floats = NDArray[np.floating]
AT_ONCE = 1 << 22  # numbers


@dataclass(frozen=True)
class LinearModel:
    """Weights of features, and how the model is mixed with a network.

    ids:      (F,) int32, the features that have weights, ascending
    weights:  (F, K) float32; in a file float16
    bias:     (K,) float32
    powers:   (of the network, of this model), see `mixed`

    >>> model = LinearModel(np.array([5, 9]), np.array([[1.0, -1], [0, 2]]), np.zeros(2))
    >>> np.exp(model.logprobs(np.array([5, 7, 5, 9]), np.array([0, 2, 4]))).round(3)
    array([[0.881, 0.119],
           [0.5  , 0.5  ]])
    """

    ids: NDArray[np.integer]
    weights: Floats
    bias: Floats
    powers: tuple[float, float] = (0.5, 0.5)

    def logprobs(self, ids: NDArray[np.integer], bounds: NDArray[np.integer]) -> Floats:
        """(n, K) float64, log p of the labels of n examples.

        ids:     features of all examples, one after the other
        bounds:  (n + 1,) example k has ids[bounds[k] : bounds[k + 1]]
        """
        scores = np.empty((len(bounds) - 1, len(self.bias)))
        rows = np.searchsorted(self.ids, ids)
        known = self.ids[np.minimum(rows, len(self.ids) - 1)] == ids if len(self.ids) else rows < 0
        start = 0
        while start < len(scores):
            end = start + 1
            most = bounds[start] + AT_ONCE // len(self.bias)
            end = max(int(np.searchsorted(bounds, most, side="right")) - 1, end)
            own = slice(bounds[start], bounds[end])
            of_known, used = rows[own][known[own]], np.append(0, known[own].cumsum())
            sums = np.zeros((len(of_known) + 1, len(self.bias)))
            np.cumsum(self.weights[of_known], axis=0, dtype=np.float64, out=sums[1:])
            ends = used[bounds[start : end + 1] - bounds[start]]
            scores[start:end] = sums[ends[1:]] - sums[ends[:-1]] + self.bias
            start = end
        return log_softmax(scores)

    def weights_of(self, ids: NDArray[np.integer]) -> Floats:
        """(n, K) the weights of features; 0 for one that the model does not know."""
        if not len(self.ids):
            return np.zeros((len(ids), len(self.bias)))
        rows = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return self.weights[rows] * (self.ids[rows] == ids)[:, None]

    def mixed(self, network: Floats, own: Floats) -> Floats:
        """log p of both together, p ∝ p_network^a · p_own^b, for log-probabilities (…, K)."""
        return log_softmax(self.combined(network, own))

    def combined(self, network: Floats, own: Floats) -> Floats:
        """a·network + b·own: the same before it is normalised."""
        a, b = self.powers
        return a * network + b * own

    def with_powers(self, powers: tuple[float, float]) -> LinearModel:
        """The same model with other `powers`."""
        return replace(self, powers=powers)

    def state(self) -> State:
        weights = self.weights.astype(np.float16)
        arrays = {"ids": self.ids, "weights": weights, "bias": self.bias}
        return {"powers": list(self.powers)}, arrays

    @classmethod
    def from_state(cls, settings: Settings, arrays: Arrays) -> LinearModel:
        """Restore a model from its `state`. Raises ValueError for a damaged state."""
        ids, weights, bias = (arrays[name] for name in ("ids", "weights", "bias"))
        if weights.shape != (len(ids), len(bias)):
            raise ValueError("its arrays do not have the same sizes")
        if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
            raise ValueError("it holds values that are not numbers")
        if (np.diff(ids) <= 0).any():
            raise ValueError("its features are not in order")
        a, b = map(float, settings["powers"])
        return cls(ids, weights.astype(np.float32), bias, (a, b))


def log_softmax(scores: Floats) -> Floats:
    """Normalised along the last axis: log p = s − log Σ exp s."""
    scores = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True)))
