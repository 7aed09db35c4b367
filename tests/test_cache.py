"""The neural cache, compared with its formula evaluated pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest

from charlm import LanguageModel
from charlm.errors import OptionError
from charlm.model.backend import Floats, Ids
from charlm.model.cache import Cache
from charlm.model.config import ModelConfig
from charlm.model.likelihood import read_text, text_logprob
from charlm.model.network import Network
from charlm.model.prediction import NetworkPredictor, Prediction, State


class Given(Prediction):
    """A predictor of one sequence whose outputs y (n, H) and log-probabilities (n,) are given.

    Every token has the same probability at a position, whatever was read.
    """

    one_text = True

    def __init__(self, y: Floats, logprobs: Floats, at_once: int) -> None:
        self.outputs, self.given, self.at_once = y, logprobs, at_once

    def initial_state(self, batch: int) -> State:
        return [(np.zeros((batch, 1), np.int64),)]

    def read(self, ids: Ids, state: State) -> tuple[Given, State]:
        ((start,),) = state
        end = start + ids.shape[1]
        part = slice(start.item(), end.item())
        return Given(self.outputs[part], self.given[part], self.at_once), [(end,)]

    @property
    def y(self) -> Floats:
        return self.outputs[None]

    def logprobs(self, targets: Ids) -> Floats:
        return self.given[None]

    def logits(self) -> Floats:
        return np.repeat(self.given[None, :, None], 6, axis=2)

    def last(self) -> Given:
        return Given(self.outputs[-1:], self.given[-1:], self.at_once)


def oracle(
    y: np.ndarray, targets: np.ndarray, logprobs: np.ndarray, size: int, theta: float, weight: float
) -> list[float]:
    """log((1−λ) p + λ Σ_i softmax_i(θ h_t·h_i) [y = y_i]) of each target in turn."""
    mixed = []
    for t, target in enumerate(targets):
        past = range(max(t - size, 0), t)
        p = math.exp(logprobs[t])
        if past:
            scores = [math.exp(theta * float(y[t] @ y[i])) for i in past]
            matching = sum(s for s, i in zip(scores, past, strict=True) if targets[i] == target)
            p = (1 - weight) * p + weight * matching / sum(scores)
        mixed.append(math.log(p))
    return mixed


@pytest.mark.parametrize("chunk", [1, 7, 40])
@pytest.mark.parametrize("size", [1, 5, 100])
def test_mixture_equals_formula(chunk: int, size: int) -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(40, 6)).astype(np.float32)
    targets = rng.integers(1, 5, size=40)
    logprobs = np.log(rng.uniform(0.1, 0.9, size=40)).astype(np.float32)
    cache = Cache(Given(y, logprobs, chunk), size, 0.7, 0.3)
    mixed = [p.logprobs(tokens)[0][scored[0]] for p, tokens, scored in read_text(cache, targets)]
    expected = oracle(y, targets, logprobs, size, 0.7, 0.3)
    np.testing.assert_allclose(np.concatenate(mixed), expected, rtol=1e-4, atol=1e-5)


def test_mixture_sums_to_one() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(size=(9, 4)).astype(np.float32)
    cache = Cache(Given(y, np.log(np.full(9, 1 / 6, np.float32)), 9), 4, 3.0, 0.5)
    ids = np.array([[0, *(np.arange(8) % 6 + 1)]])
    prediction, _ = cache.read(ids, cache.initial_state(1))
    each = [prediction.logprobs(np.full((1, 9), token))[0] for token in range(1, 7)]
    np.testing.assert_allclose(np.exp(each).sum(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(prediction.logits()[0], np.array(each).T, atol=1e-6)
    np.testing.assert_allclose(prediction.last().logits()[0, 0], np.array(each)[:, -1], atol=1e-6)


def test_large_similarity_does_not_overflow() -> None:
    y = np.full((3, 2), 200.0, np.float32)
    logprobs = np.log(np.array([0.5, 0.5, 1e-30], np.float32))
    cache = Cache(Given(y, logprobs, 3), 5, 10.0, 0.5)
    prediction, _ = cache.read(np.array([[0, 1, 1]]), cache.initial_state(1))
    mixed = prediction.logprobs(np.array([[1, 1, 2]]))[0]
    np.testing.assert_allclose(mixed[:2], np.log([0.5, 0.75]), rtol=1e-5)
    assert math.isfinite(mixed[2])


def test_zero_weight_changes_nothing_and_repetition_raises_the_probability() -> None:
    network = NetworkPredictor(Network(ModelConfig(9, hidden=16, embedding=8)).eval())
    ids = np.array([3, 4, 5, 6, 7, 1] * 60)
    plain = text_logprob(network, ids)
    unused, used = Cache(network, 50, 3.0, 0.0), Cache(network, 50, 1.0, 0.5)
    assert text_logprob(unused, ids) == pytest.approx(plain, abs=1e-3)
    assert text_logprob(used, ids) > plain + 50


def test_cache_needs_a_text_whose_state_is_carried(model: LanguageModel) -> None:
    with pytest.raises(OptionError, match="cache"):
        model.evaluate("the cat\n", cache=5)  # `model` was trained with lines=True
    text = "the cat sat\n" * 9
    plain = model.evaluate(text, reset_lines=False)
    cached = model.evaluate(text, reset_lines=False, cache=99)
    assert abs(cached.logprob - plain.logprob) > 1 and cached.tokens == plain.tokens
