"""The neural cache (Grave et al. 2017): a distribution over recently read tokens."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from charlm.model.backend import Floats, Ids
from charlm.model.numpy_network import log_softmax
from charlm.model.prediction import Prediction, Predictor, State
from charlm.tokenizer import EOS, START


class Cache:
    """A predictor with the neural cache of one document.

    p(y) = (1−λ) p_model(y) + λ Σ_i softmax_i(θ h_t·h_i) [y = y_i]

    The sum runs over the last `size` pairs (h_i, y_i): h_i is an output of the top recurrent
    layer, y_i the token after it. While the cache is empty, p(y) = p_model(y).

    model:     predicts without the cache
    size:      maximal number of pairs
    flatness:  θ; 0 weights all pairs equally, larger values prefer similar outputs
    weight:    λ

    It reads one sequence. Its state has one layer more than that of the model: the outputs h,
    (1, n + 1, H), and the tokens y, (1, n). The last output has no token yet.
    """

    one_text = True

    def __init__(self, model: Predictor, size: int, flatness: float, weight: float) -> None:
        self.model, self.size, self.flatness, self.weight = model, size, flatness, weight
        self.at_once = model.at_once

    def initial_state(self, batch: int) -> State:
        """An empty cache, for one sequence."""
        assert batch == 1
        nothing = np.zeros((1, 0, 0), np.float32), np.zeros((1, 0), np.int64)
        return [*self.model.initial_state(1), nothing]

    def read(self, ids: Ids, state: State) -> tuple[CachePrediction, State]:
        """See `Predictor.read`."""
        *layers, (outputs, tokens) = state
        prediction, layers = self.model.read(ids, layers)
        y, steps = prediction.y, ids.shape[1]
        if not outputs.shape[1]:  # the first token is not a token after an output
            outputs, ids = y[:, :0], ids[:, 1:]
        outputs = np.concatenate([outputs, y], axis=1)
        tokens = np.concatenate([tokens, np.where(ids == START, EOS, ids)], axis=1)
        pairs = outputs[:, -self.size - 1 :], tokens[:, -self.size :]
        return CachePrediction(self, prediction, outputs[0], tokens[0], steps), [*layers, pairs]


class CachePrediction(Prediction):
    """What a model with a cache predicts.

    model:    the prediction without the cache, of T tokens
    outputs:  (n + 1, H), of the cached pairs and of the T predictions, which are the last ones
    tokens:   (n,), the token after each output but the last
    """

    def __init__(
        self, cache: Cache, model: Prediction, outputs: Floats, tokens: Ids, steps: int
    ) -> None:
        self.cache, self.model, self.steps = cache, model, steps
        self.outputs, self.tokens = outputs, tokens

    @property
    def y(self) -> Floats:
        return self.model.y

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """softmax_i(θ h_t·h_i), (T, n); 0 for pairs that are too old or not known yet."""
        pairs, size = len(self.tokens), self.cache.size
        age = np.arange(pairs + 1 - self.steps, pairs + 1)[:, None] - np.arange(pairs)
        similarity = self.cache.flatness * (self.outputs[-self.steps :] @ self.outputs[:-1].T)
        similarity = np.where((age > 0) & (age <= size), similarity, -np.inf)
        highest = similarity.max(axis=1, keepdims=True, initial=-np.inf)
        scores = np.exp(similarity - np.where(np.isfinite(highest), highest, 0), dtype=np.float64)
        return scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-300)

    def logprobs(self, targets: Ids) -> Floats:
        matching = self.tokens == targets[0][:, None]
        return self._mixed(self.model.logprobs(targets), (self.weights * matching).sum(axis=1))

    def logits(self) -> Floats:
        logprobs = log_softmax(self.model.logits())
        p = np.zeros(logprobs.shape[:0:-1])
        np.add.at(p, self.tokens - 1, self.weights.T)
        return self._mixed(logprobs, p.T)

    def _mixed(self, logprobs: Floats, of_cache: NDArray[np.float64]) -> Floats:
        """log((1−λ) p_model + λ p_cache); log p_model where the cache is empty."""
        weight = self.cache.weight
        p_model = np.exp(logprobs[0], dtype=np.float64)
        empty = self.weights.sum(axis=1) == 0
        if of_cache.ndim > 1:
            empty = empty[:, None]
        p = np.where(empty, p_model, (1 - weight) * p_model + weight * of_cache)
        with np.errstate(divide="ignore"):
            mixed = np.where(p > 0, np.log(p), logprobs[0])
        return mixed[None].astype(np.float32)

    def last(self) -> CachePrediction:
        return CachePrediction(self.cache, self.model.last(), self.outputs, self.tokens, 1)
