"""Statistics of the distribution before each token: entropy, rank, likeliest tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.model.backend import Floats, Ids
from charlm.model.numpy_network import log_softmax
from charlm.model.prediction import Prediction
from charlm.model.sequences import STEPS_AT_ONCE

LIKELIEST = 5
NUMBERS_AT_ONCE = 1 << 23  # logarithms of probabilities


class Likeliest:
    """The likeliest tokens of distributions, as records of a structured array.

    vocab:  number of token ids V
    k:      how many of them

    dtype:    of the records; log-probabilities are in nats
        logprob             log p of the token
        likeliest           (k,) the ids of the k most probable tokens, in this order
        likeliest_logprobs  (k,) their log p
    at_once:  sequences of a batch whose distributions fit into memory
    """

    def __init__(self, vocab: int, k: int) -> None:
        k = min(k, vocab - 1)
        fields: list[Any] = [("logprob", "f4")]
        self.dtype = np.dtype([*fields, ("likeliest", "i4", k), ("likeliest_logprobs", "f4", k)])
        self.at_once = max(NUMBERS_AT_ONCE // (STEPS_AT_ONCE * vocab), 1)

    def of(self, prediction: Prediction, targets: Ids) -> NDArray[np.void]:
        """The records of tokens (B, T), and of the distributions that predict them."""
        logprobs = log_softmax(prediction.logits())  # (B, T, V−1)
        return self._records(logprobs, targets)

    def _records(self, logprobs: Floats, targets: Ids) -> NDArray[np.void]:
        records = np.empty(targets.shape, self.dtype)
        of_targets = np.take_along_axis(logprobs, targets[..., None].astype(np.int64) - 1, axis=-1)
        records["logprob"] = of_targets[..., 0]
        columns = largest(logprobs, records["likeliest"].shape[-1])
        records["likeliest"] = columns + 1
        records["likeliest_logprobs"] = np.take_along_axis(logprobs, columns, axis=-1)
        return records


class Statistics(Likeliest):
    """Computes statistics of distributions, as records of a structured array.

    sets:   sets of tokens by name, (M, V) each

    dtype:    of the records, beside those of `Likeliest`; the entropy is in nats
        entropy             −Σ p log p
        rank                of the token; 1 for the most probable one
        NAME                (M,) log Σ p of the tokens in each set of this name
    """

    def __init__(self, vocab: int, sets: Mapping[str, NDArray[np.bool_]]) -> None:
        super().__init__(vocab, LIKELIEST)
        own: list[Any] = [("entropy", "f4"), ("rank", "i4")]
        own += [(name, "f4", (len(masks),)) for name, masks in sets.items()]
        self.dtype = np.dtype(self.dtype.descr + own)
        self._sets = sets
        self._columns = np.concatenate([*sets.values()])[:, 1:].T.astype(np.float32)

    def of(self, prediction: Prediction, targets: Ids) -> NDArray[np.void]:
        """See `Likeliest.of`."""
        logprobs = log_softmax(prediction.logits())
        p = np.exp(logprobs)
        records = self._records(logprobs, targets)
        records["entropy"] = -np.vecdot(p, np.maximum(logprobs, np.finfo(np.float32).min))
        records["rank"] = 1 + np.count_nonzero(logprobs > records["logprob"][..., None], axis=-1)
        with np.errstate(divide="ignore"):
            masses = np.log(p @ self._columns)
        start = 0
        for name, masks in self._sets.items():
            records[name] = masses[..., start : start + len(masks)]
            start += len(masks)
        return records


def largest(values: Floats, k: int) -> NDArray[np.int64]:
    """The columns (…, k) of the largest values (…, V), in descending order of the values."""
    columns = np.argpartition(-values, k - 1, axis=-1)[..., :k]
    order = np.argsort(-np.take_along_axis(values, columns, axis=-1), axis=-1, kind="stable")
    return np.take_along_axis(columns, order, axis=-1)
