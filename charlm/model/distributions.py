"""What is told of the whole distribution before each token: entropy, rank, likeliest tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.model.backend import Floats, Ids
from charlm.model.numpy_network import log_softmax
from charlm.model.prediction import Prediction
from charlm.model.sequences import STEPS_AT_ONCE

LIKELIEST = 5
NUMBERS_AT_ONCE = 1 << 23  # logarithms of probabilities


@dataclass(frozen=True)
class Distributions:
    """The distributions that predict each of n tokens.

    logprobs:   (n,) log p of the token, nats
    entropy:    (n,) −Σ p log p, nats
    rank:       (n,) of the token; 1 for the most probable one
    likeliest:  (n, k) the k most probable tokens, in this order
    likeliest_logprobs:  (n, k) their log p, nats
    masses:     (n, M) log Σ p of the tokens in each of M masks, nats
    """

    logprobs: Floats
    entropy: Floats
    rank: Floats
    likeliest: Floats
    likeliest_logprobs: Floats
    masses: Floats

    @classmethod
    def of(cls, numbers: Floats, masks: int) -> Distributions:
        """From the rows (n, …) of `measure` with this number of masks."""
        k = (numbers.shape[1] - masks - 3) // 2
        edges = np.cumsum([1, 1, 1, k, k])
        own, entropy, rank, likeliest, of_likeliest, masses = np.split(numbers, edges, axis=1)
        return cls(own[:, 0], entropy[:, 0], rank[:, 0], likeliest, of_likeliest, masses)


def measure(prediction: Prediction, targets: Ids, masks: NDArray[np.bool_]) -> Floats:
    """The numbers of `Distributions` side by side, (B, T, …).

    targets:  (B, T) the tokens
    masks:    (M, V) sets of tokens
    """
    logprobs = log_softmax(prediction.logits())  # (B, T, V−1)
    p = np.exp(logprobs)
    own = np.take_along_axis(logprobs, targets[..., None] - 1, axis=-1)
    entropy = -np.vecdot(p, np.maximum(logprobs, np.finfo(np.float32).min))
    rank = 1 + np.count_nonzero(logprobs > own, axis=-1)
    k = min(LIKELIEST, logprobs.shape[-1])
    likeliest = np.argpartition(-logprobs, k - 1, axis=-1)[..., :k]
    of_likeliest = np.take_along_axis(logprobs, likeliest, axis=-1)
    order = np.argsort(-of_likeliest, axis=-1, kind="stable")
    likeliest = np.take_along_axis(likeliest, order, axis=-1)
    of_likeliest = np.take_along_axis(of_likeliest, order, axis=-1)
    with np.errstate(divide="ignore"):
        masses = np.log(p @ masks[:, 1:].T.astype(np.float32))
    columns = (own, entropy[..., None], rank[..., None], likeliest + 1, of_likeliest, masses)
    return np.concatenate(columns, axis=-1, dtype=np.float32)


def at_once(vocab: int) -> int:
    """Sequences of a batch whose distributions fit into memory."""
    return max(NUMBERS_AT_ONCE // (STEPS_AT_ONCE * vocab), 1)
