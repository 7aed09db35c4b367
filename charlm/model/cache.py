"""The neural cache: a memory of what was read, beside the model's own prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.errors import OptionError

Floats = NDArray[np.float32]
Ids = NDArray[np.integer]


@dataclass(frozen=True)
class CacheOptions:
    """The cache of Grave et al. (2017).

    p(y) = (1−λ) p_model(y) + λ Σ softmax_i(θ h_t·h_i) [y = y_i]

    over the last `size` pairs of a top layer's output h_i and the token y_i that it predicted;
    λ is 0 while there are none.

    size:      pairs that are remembered
    flatness:  θ; 0 remembers how often a token came, more asks for a more similar state
    weight:    λ

    Raises OptionError, naming the option and the value.
    """

    size: int
    flatness: float = 3.0  # what validation chooses on Penn Treebank by words
    weight: float = 0.07

    def __post_init__(self) -> None:
        if self.size < 1:
            raise OptionError(f"--cache {self.size}: must be 1 or more")
        if not 0 <= self.flatness < float("inf"):
            raise OptionError(f"--cache-flatness {self.flatness}: must be 0 or more")
        if not 0 <= self.weight < 1:
            raise OptionError(f"--cache-weight {self.weight}: must be 0 or more, and below 1")


class Cache:
    """The memory itself, of one document."""

    def __init__(self, options: CacheOptions, hidden: int) -> None:
        self.options = options
        self.states, self.tokens = np.zeros((0, hidden), np.float32), np.zeros(0, np.int64)

    def mixed(self, y: Floats, targets: Ids, logprobs: Floats) -> NDArray[np.float64]:
        """The mixture's log-probabilities (T,) of the next T targets, which are then remembered.

        y:         (T, H), the states that predict them
        logprobs:  (T,), the model's own
        """
        size, weight, before = self.options.size, self.options.weight, len(self.tokens)
        states, tokens = np.concatenate([self.states, y]), np.concatenate([self.tokens, targets])
        age = before + np.arange(len(y))[:, None] - np.arange(len(tokens))
        similarity = np.where(
            (age > 0) & (age <= size), self.options.flatness * (y @ states.T), -np.inf
        )
        highest = similarity.max(axis=1, keepdims=True)
        share = np.exp(similarity - np.where(np.isfinite(highest), highest, 0), dtype=np.float64)
        total, matching = share.sum(axis=1), (share * (tokens == targets[:, None])).sum(axis=1)
        self.states, self.tokens = states[-size:], tokens[-size:]
        own = np.exp(logprobs, dtype=np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            mixed = np.where(total > 0, (1 - weight) * own + weight * matching / total, own)
            return np.where(mixed > 0, np.log(mixed), logprobs)
