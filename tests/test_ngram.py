"""The n-gram model, compared with its formula evaluated context by context."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import charlm
from charlm.errors import ModelError
from charlm.model.config import ModelConfig
from charlm.model.likelihood import text_logprob
from charlm.model.network import Network
from charlm.model.ngram import Ngram

VOCAB = 9


def random_ids(size: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.minimum(rng.geometric(0.35, size), VOCAB - 1)


class Oracle:
    """Modified Kneser-Ney (Chen and Goodman 1999) with dictionaries."""

    def __init__(self, ids: list[int], order: int) -> None:
        grams = {
            n: [tuple(ids[t : t + n]) for t in range(len(ids) - n + 1)] for n in range(1, order + 2)
        }
        self.order, self.counts = order, {order: Counter(grams[order])}
        for n in range(1, order):
            preceding = Counter(gram[1:] for gram in set(grams[n + 1]))
            self.counts[n] = Counter({gram: max(preceding[gram], 1) for gram in grams[n]})
        self.discounts = {n: self._discounts(Counter(c.values())) for n, c in self.counts.items()}

    @staticmethod
    def _discounts(n: Counter[int]) -> list[float]:
        y = n[1] / max(n[1] + 2 * n[2], 1)
        ratios = [n[k + 1] / n[k] if n[k] else n[k + 1] for k in (1, 2, 3)]
        raw = [k - (k + 1) * y * ratio for k, ratio in zip((1, 2, 3), ratios, strict=True)]
        return [0.0, *(min(max(d, 0.0), k) for k, d in enumerate(raw, 1))]

    def p(self, word: int, context: tuple[int, ...]) -> float:
        n = len(context) + 1
        counts = {g[-1]: c for g, c in self.counts[n].items() if g[:-1] == context}
        shorter = self.p(word, context[1:]) if n > 1 else 1 / (VOCAB - 1)
        if not counts:
            return shorter
        discounts = {w: self.discounts[n][min(c, 3)] for w, c in counts.items()}
        total = sum(counts.values())
        discounted = (counts.get(word, 0) - discounts.get(word, 0)) / total
        return discounted + sum(discounts.values()) / total * shorter


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_equal_formula(order: int) -> None:
    ids, text = random_ids(300), random_ids(80, seed=1)
    oracle = Oracle(ids.tolist(), order)
    expected = [
        oracle.p(int(word), tuple(text[max(t - order + 1, 0) : t].tolist()))
        for t, word in enumerate(text)
    ]
    np.testing.assert_allclose(Ngram(ids, VOCAB, order).probabilities(text), expected, rtol=1e-9)


@pytest.mark.parametrize("size", [1, 4, 300])
def test_probabilities_sum_to_one(size: int) -> None:
    model = Ngram(random_ids(size), VOCAB, 3)
    for context in ([1, 2], [8, 8], [3, 1]):
        p = [model.probabilities(np.array([*context, w]))[-1] for w in range(1, VOCAB)]
        assert sum(p) == pytest.approx(1) and min(p) > 0


def test_mixture_with_a_network_is_per_token() -> None:
    network, ids = Network(ModelConfig(VOCAB, hidden=6, embedding=4)).eval(), random_ids(50)
    p = Ngram(random_ids(300), VOCAB, 3).probabilities(ids)
    logprobs = np.diff([0.0, *(text_logprob(network, ids[:t]) for t in range(1, len(ids) + 1))])
    mixed = text_logprob(network, ids, ngram=(p, 0.3))
    assert mixed == pytest.approx(float(np.log(0.7 * np.exp(logprobs) + 0.3 * p).sum()), abs=1e-3)
    assert text_logprob(network, ids, ngram=(p, 1.0)) == pytest.approx(
        float(np.log(p).sum()), abs=1e-4
    )


def test_evaluate_counts_the_training_text_of_the_run(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = charlm.train(
        corpus, level="word", steps=5, hidden=8, quiet=True, precision="fp32", out="run"
    )
    text = "the cat sat\n"
    plain = model.evaluate(text, reset_lines=False)
    mixed = model.evaluate(text, reset_lines=False, ngram=3)
    assert mixed.perplexity < 0.9 * plain.perplexity and math.isfinite(mixed.logprob)
    (tmp_path / "run" / "train.tokens").unlink()
    with pytest.raises(ModelError, match=r"train\.tokens.*ngram"):
        model.evaluate(text, reset_lines=False, ngram=5)
