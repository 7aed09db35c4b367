"""The neural cache against its formula, written out pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from charlm import LanguageModel
from charlm.errors import OptionError
from charlm.model.cache import Cache, CacheOptions
from charlm.model.config import ModelConfig
from charlm.model.likelihood import text_logprob
from charlm.model.network import Network


def written_out(
    y: np.ndarray, targets: np.ndarray, own: np.ndarray, size: int, theta: float, weight: float
) -> list[float]:
    """(1−λ) p + λ Σ softmax_i(θ h_t·h_i) [y = y_i], for one target after the other."""
    found = []
    for t, target in enumerate(targets):
        past = range(max(t - size, 0), t)
        p = math.exp(own[t])
        if past:
            scores = [math.exp(theta * float(y[t] @ y[i])) for i in past]
            matching = sum(s for s, i in zip(scores, past, strict=True) if targets[i] == target)
            p = (1 - weight) * p + weight * matching / sum(scores)
        found.append(math.log(p))
    return found


@pytest.mark.parametrize("chunk", [1, 7, 40])
@pytest.mark.parametrize("size", [1, 5, 100])
def test_the_mixture_is_the_formula_written_out(chunk: int, size: int) -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(40, 6)).astype(np.float32)
    targets = rng.integers(1, 5, size=40)
    own = np.log(rng.uniform(0.1, 0.9, size=40)).astype(np.float32)
    cache = Cache(CacheOptions(size, flatness=0.7, weight=0.3), hidden=6)
    found = [
        cache.mixed(y[k : k + chunk], targets[k : k + chunk], own[k : k + chunk])
        for k in range(0, 40, chunk)
    ]
    expected = written_out(y, targets, own, size, 0.7, 0.3)
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-4, atol=1e-5)


def test_the_mixture_is_a_distribution() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(size=(9, 4)).astype(np.float32)
    own = np.log(np.full(9, 1 / 6, np.float32))
    total = 0.0
    for token in range(6):
        cache = Cache(CacheOptions(4, weight=0.5), hidden=4)
        cache.mixed(y[:8], rng.integers(6, size=8) * 0 + np.arange(8) % 6, own[:8])
        total += math.exp(cache.mixed(y[8:], np.array([token]), own[8:])[0])
    assert total == pytest.approx(1, abs=1e-6)


def test_a_similarity_beyond_the_range_of_floats_does_no_harm() -> None:
    y = np.full((3, 2), 200.0, np.float32)
    cache = Cache(CacheOptions(5, flatness=10.0, weight=0.5), hidden=2)
    found = cache.mixed(y, np.array([1, 1, 2]), np.log(np.array([0.5, 0.5, 1e-30], np.float32)))
    np.testing.assert_allclose(found[:2], np.log([0.5, 0.75]), rtol=1e-5)
    assert math.isfinite(found[2])


def test_a_weight_of_zero_changes_nothing_and_repetition_pays() -> None:
    network = Network(ModelConfig(9, hidden=16, embedding=8)).eval()
    torch.manual_seed(0)
    ids = np.array([3, 4, 5, 6, 7, 1] * 60)
    plain = text_logprob(network, ids)
    assert text_logprob(network, ids, CacheOptions(50, weight=0.0)) == pytest.approx(
        plain, abs=1e-3
    )
    assert text_logprob(network, ids, CacheOptions(50, 1.0, 0.5)) > plain + 50


def test_what_makes_no_sense_is_refused(model: LanguageModel) -> None:
    with pytest.raises(OptionError, match="--cache 0: must be 1 or more"):
        CacheOptions(0)
    with pytest.raises(OptionError, match="--cache-weight 1"):
        CacheOptions(5, weight=1.0)
    with pytest.raises(OptionError, match="--cache-flatness -1"):
        CacheOptions(5, flatness=-1.0)
    with pytest.raises(OptionError, match="--cache: needs a running text"):
        model.evaluate("the cat\n", cache=CacheOptions(5))  # a model of independent lines
    plain = model.evaluate("the cat sat\n" * 9, reset_lines=False)
    carried = model.evaluate("the cat sat\n" * 9, reset_lines=False, cache=CacheOptions(99, 3.0))
    assert abs(carried.logprob - plain.logprob) > 1 and carried.tokens == plain.tokens
