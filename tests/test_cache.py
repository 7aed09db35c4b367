"""The neural cache, compared with its formula evaluated pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest

from charlm import LanguageModel
from charlm.errors import OptionError
from charlm.model.cache import Cache
from charlm.model.config import ModelConfig
from charlm.model.likelihood import text_logprob
from charlm.model.network import Network


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
    cache = Cache(size, 0.7, 0.3, hidden=6)
    mixed = [
        cache.mixed(y[k : k + chunk], targets[k : k + chunk], logprobs[k : k + chunk])
        for k in range(0, 40, chunk)
    ]
    expected = oracle(y, targets, logprobs, size, 0.7, 0.3)
    np.testing.assert_allclose(np.concatenate(mixed), expected, rtol=1e-4, atol=1e-5)


def test_mixture_sums_to_one() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(size=(9, 4)).astype(np.float32)
    logprobs = np.log(np.full(9, 1 / 6, np.float32))
    total = 0.0
    for token in range(6):
        cache = Cache(4, 3.0, 0.5, hidden=4)
        cache.mixed(y[:8], np.arange(8) % 6, logprobs[:8])
        total += math.exp(cache.mixed(y[8:], np.array([token]), logprobs[8:])[0])
    assert total == pytest.approx(1, abs=1e-6)


def test_large_similarity_does_not_overflow() -> None:
    y = np.full((3, 2), 200.0, np.float32)
    cache = Cache(5, 10.0, 0.5, hidden=2)
    mixed = cache.mixed(y, np.array([1, 1, 2]), np.log(np.array([0.5, 0.5, 1e-30], np.float32)))
    np.testing.assert_allclose(mixed[:2], np.log([0.5, 0.75]), rtol=1e-5)
    assert math.isfinite(mixed[2])


def test_zero_weight_changes_nothing_and_repetition_raises_the_probability() -> None:
    network = Network(ModelConfig(9, hidden=16, embedding=8)).eval()
    ids = np.array([3, 4, 5, 6, 7, 1] * 60)
    plain = text_logprob(network, ids)
    unused, used = Cache(50, 3.0, 0.0, hidden=16), Cache(50, 1.0, 0.5, hidden=16)
    assert text_logprob(network, ids, cache=unused) == pytest.approx(plain, abs=1e-3)
    assert text_logprob(network, ids, cache=used) > plain + 50


def test_cache_needs_a_text_whose_state_is_carried(model: LanguageModel) -> None:
    with pytest.raises(OptionError, match="cache"):
        model.evaluate("the cat\n", cache=5)  # `model` was trained with lines=True
    text = "the cat sat\n" * 9
    plain = model.evaluate(text, reset_lines=False)
    cached = model.evaluate(text, reset_lines=False, cache=99)
    assert abs(cached.logprob - plain.logprob) > 1 and cached.tokens == plain.tokens
