"""The n-gram model, compared with its formula evaluated context by context."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from charlm.errors import ModelError
from charlm.model.ngram import Ngram
from charlm.model.ngram_counts import count, merged, sampled
from charlm.model.ngram_tables import EMPTY, LEAST_DISCOUNT, NgramTables
from charlm.model.prediction import SMALLEST
from charlm.tokenizer import EOS, START, as_inputs

VOCAB = 9
Ids = NDArray[np.int64]


def random_ids(size: int, seed: int = 0) -> Ids:
    """A text with lines: the most frequent token is the line end."""
    rng = np.random.default_rng(seed)
    return np.minimum(rng.geometric(0.35, size), VOCAB - 1)


class Oracle:
    """Modified Kneser-Ney (Chen and Goodman 1999) with dictionaries.

    lines:   no n-gram crosses a line end. One that starts a line keeps its frequency
    fewest:  contexts of more than 3 tokens that occur less often are not used
    """

    def __init__(self, ids: list[int], order: int, lines: bool = False, fewest: int = 1) -> None:
        grams = {
            n: [tuple(ids[t : t + n]) for t in range(len(ids) - n + 1)] for n in range(1, order + 2)
        }
        if lines:
            grams = {n: [g for g in all if EOS not in g[1:-1]] for n, all in grams.items()}
        self.frequency = {n: Counter(all) for n, all in grams.items()}
        self.order, self.fewest = order, fewest
        self.counts = {order: self.frequency[order]}
        for n in range(1, order):
            preceding = Counter(gram[1:] for gram in self.frequency[n + 1])
            self.counts[n] = Counter({gram: max(preceding[gram], 1) for gram in grams[n]})
            if lines and n > 1:
                starts = {g: c for g, c in self.frequency[n].items() if g[0] == EOS}
                self.counts[n].update({g: c - self.counts[n][g] for g, c in starts.items()})
        self.discounts = {n: self._discounts(Counter(c.values())) for n, c in self.counts.items()}

    @staticmethod
    def _discounts(n: Counter[int]) -> list[float]:
        y = n[1] / max(n[1] + 2 * n[2], 1)
        ratios = [n[k + 1] / n[k] if n[k] else n[k + 1] for k in (1, 2, 3)]
        raw = [k - (k + 1) * y * ratio for k, ratio in zip((1, 2, 3), ratios, strict=True)]
        return [0.0, *(min(max(d, LEAST_DISCOUNT), k) for k, d in enumerate(raw, 1))]

    def p(self, word: int, context: tuple[int, ...]) -> float:
        n = len(context) + 1
        counts = {g[-1]: c for g, c in self.counts[n].items() if g[:-1] == context}
        shorter = self.p(word, context[1:]) if n > 1 else 1 / (VOCAB - 1)
        if not counts or (n > 4 and self.frequency[n - 1][context] < self.fewest):
            return shorter
        discounts = {w: self.discounts[n][min(c, 3)] for w, c in counts.items()}
        total = sum(counts.values())
        discounted = (counts.get(word, 0) - discounts.get(word, 0)) / total
        return discounted + sum(discounts.values()) / total * shorter


def logprobs(model: Ngram, ids: Ids) -> NDArray[np.float32]:
    """log p of each token of a text, from the zero state."""
    inputs = np.append(START, as_inputs(ids[:-1]))[None]
    prediction, _ = model.read(inputs, model.initial_state(1))
    return prediction.logprobs(ids[None])[0]


def contexts(text: Ids, order: int, lines: bool = False) -> list[tuple[int, ...]]:
    """What stands before each token of a text. A text begins after a line end."""
    result = []
    for t in range(len(text)):
        before = [EOS, *text[:t].tolist()]
        if lines:
            before = before[len(before) - 1 - before[::-1].index(EOS) :]
        result.append(tuple(before[max(len(before) - order + 1, 0) :]))
    return result


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_equal_formula(order: int, lines: bool) -> None:
    ids, text = random_ids(300), random_ids(80, seed=1)
    oracle = Oracle(ids.tolist(), order, lines)
    before = contexts(text, order, lines)
    expected = [oracle.p(int(word), c) for word, c in zip(text, before, strict=True)]
    model = count(ids, VOCAB, order, independent_lines=lines)
    np.testing.assert_allclose(np.exp(logprobs(model, text)), expected, rtol=2e-6)


def test_contexts_that_are_pruned_leave_the_others_as_they_were() -> None:
    ids, text = random_ids(2000), random_ids(300, seed=1)
    whole, pruned = count(ids, VOCAB, 7), count(ids, VOCAB, 7, most=3000)
    assert len(whole) > 5000 and len(pruned) < 3000
    oracle = Oracle(ids.tolist(), 7, fewest=fewest_of(pruned, ids))
    expected = [oracle.p(int(word), c) for word, c in zip(text, contexts(text, 7), strict=True)]
    np.testing.assert_allclose(np.exp(logprobs(pruned, text)), expected, rtol=2e-6)


def test_a_text_without_long_contexts_is_not_pruned() -> None:
    assert len(count(np.arange(1, 9), VOCAB, 6, most=3)) == 8 + 7 + 6 + 5


def fewest_of(model: Ngram, ids: Ids) -> int:
    """The smallest frequency of a context of more than 3 tokens that the model uses."""
    inputs = np.append(START, as_inputs(ids[:-1]))[None]
    prediction, _ = model.read(inputs, model.initial_state(1))
    frequency: Counter[tuple[int, ...]] = Counter(
        tuple(ids[t - 4 : t].tolist()) for t in range(4, len(ids) + 1)
    )
    used = np.flatnonzero(prediction.contexts[0, 4:, 3]) + 4
    return min(frequency[tuple(ids[t - 4 : t].tolist())] for t in used)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 300])
@pytest.mark.parametrize("order", [1, 3, 9])
@pytest.mark.parametrize("table", [1, 200, 10**6])
def test_every_distribution_sums_to_one_and_has_the_probabilities_of_the_tokens(
    size: int, order: int, table: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlm.model.ngram.TABLE_ENTRIES", table)
    model = count(random_ids(size), VOCAB, order)
    inputs = np.array([[START, 1, 2, START, 8, 8], [START, 3, 1, 3, 1, 3]])
    prediction, _ = model.read(inputs, model.initial_state(2))
    distribution = prediction.logits()
    np.testing.assert_allclose(np.exp(distribution).sum(axis=-1), 1, rtol=1e-5)
    for token in range(1, VOCAB):
        one = prediction.logprobs(np.full(inputs.shape, token))
        np.testing.assert_allclose(one, distribution[..., token - 1], rtol=1e-5)
    np.testing.assert_allclose(prediction.last().logits(), distribution[:, -1:], rtol=1e-6)


@pytest.mark.parametrize("order", [1, 2, 5, 9])
@pytest.mark.parametrize("keys", [1, 100, 10**6])
@pytest.mark.parametrize("table", [1, 200, 10**6])
def test_few_and_many_contexts_give_the_same(
    order: int, keys: int, table: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlm.model.ngram.TABLE_ENTRIES", table)
    monkeypatch.setattr("charlm.model.ngram.DIRECT_KEYS", keys)
    text = random_ids(3000)
    ids = random_ids(200, seed=9)
    inputs = as_inputs(np.append(START, ids[:-1]))[None]
    found = []
    for many, few in ((10**9, 0), (1, 0)):
        monkeypatch.setattr("charlm.model.ngram.MANY", many)
        monkeypatch.setattr("charlm.model.ngram.FEW", few)
        model = count(text, VOCAB, order)
        prediction, _ = model.read(inputs, model.initial_state(1))
        found.append((prediction.contexts, prediction.logprobs(ids[None]), prediction.logits()))
    monkeypatch.setattr("charlm.model.ngram.FEW", 4)
    model, steps = count(text, VOCAB, order), []
    state = model.initial_state(1)
    for token in inputs[0]:  # one position at a time
        one, state = model.read(np.array([[token]]), state)
        steps.append((one.contexts, one.logits()))
    whole = [np.concatenate(parts, axis=1) for parts in zip(*steps, strict=True)]
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][0], whole[0])
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-6)
    np.testing.assert_allclose(found[0][2], found[1][2], rtol=1e-6)
    np.testing.assert_allclose(found[0][2], whole[1], rtol=1e-5)
    of_targets = np.take_along_axis(whole[1], ids[None, :, None] - 1, axis=-1)[..., 0]
    np.testing.assert_allclose(found[0][1], of_targets, rtol=1e-5)


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("table", [1, 200, 10**6])
@pytest.mark.parametrize("batch", [1, 3])
def test_reading_step_by_step_is_the_same(
    lines: bool, table: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlm.model.ngram.TABLE_ENTRIES", table)
    model = count(random_ids(1000), VOCAB, 5, independent_lines=lines)
    inputs = as_inputs(np.stack([random_ids(40, seed) for seed in range(batch)]))
    whole, after = model.read(inputs, model.initial_state(batch))
    state, steps = model.initial_state(batch), []
    for t in range(40):
        prediction, state = model.read(inputs[:, t : t + 1], state)
        steps.append(prediction.logits())
    np.testing.assert_allclose(np.concatenate(steps, axis=1), whole.logits(), rtol=1e-5)
    np.testing.assert_array_equal(state[0][0], after[0][0])


@pytest.mark.parametrize("size", [1, 300])
@pytest.mark.parametrize("order", [1, 3, 6])
def test_the_probabilities_between_two_ids_are_part_of_the_distribution(
    size: int, order: int
) -> None:
    model = count(random_ids(size), VOCAB, order)
    prediction, _ = model.read(random_ids(50, seed=1)[None], model.initial_state(1))
    ends = np.sort(np.random.default_rng(2).integers(1, VOCAB + 1, (50, 2)))
    p = model.probabilities_between(prediction.contexts[0], ends[:, 0], ends[:, 1])
    whole = prediction.probabilities()[0]
    expected = [row[a - 1 : b - 1] for row, (a, b) in zip(whole, ends, strict=True)]
    np.testing.assert_allclose(p, np.concatenate(expected), rtol=1e-5)


def test_a_token_never_seen_has_a_logarithm_whatever_the_counts() -> None:
    counts, parents = np.full(6, 10**9), np.arange(6) + EMPTY
    discounts = np.full((6, 4), 0.05, np.float32)
    model = Ngram(NgramTables.of(np.full(6, 3, np.uint8), counts, parents, discounts), VOCAB)
    text = np.append(np.full(9, 3), 5)
    assert logprobs(model, text)[-1] == np.log(SMALLEST)
    inputs = np.append(START, text[:-1])[None]
    prediction, _ = model.read(inputs, model.initial_state(1))
    assert prediction.logits()[0, -1, 4] == np.log(SMALLEST)


@pytest.mark.parametrize("size", [1, 2, 50, 5000])
def test_tables_are_the_same_after_storing(size: int) -> None:
    model = count(random_ids(size) * 100, 1000, 6)
    arrays = model.tables.to_arrays()
    restored = NgramTables.from_arrays(arrays, 1000)
    for name in ("tokens", "counts", "parents", "discounts"):
        np.testing.assert_array_equal(getattr(restored, name), getattr(model.tables, name))
    assert sum(array.nbytes for array in arrays.values()) < 3.3 * len(model) + 2300


def test_large_counts_are_rounded_to_few_per_cent() -> None:
    rng = np.random.default_rng(0)
    ids = np.minimum((rng.pareto(0.3, 500_000) + 2).astype(np.int64), 1999)
    model = count(ids, 2000, 1)
    exact, counts = np.bincount(ids)[model.tables.tokens[2:]], model.tables.counts[2:]
    assert len(np.unique(exact)) > 300 and len(np.unique(counts)) <= 256
    np.testing.assert_allclose(counts, exact, rtol=0.05)
    small = exact <= 8
    np.testing.assert_array_equal(counts[small], exact[small])


def damaged(name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    arrays = {n: a.copy() for n, a in arrays.items()}
    if name == "missing":
        del arrays["counts"]
    elif name == "cut":
        arrays["tokens"] = arrays["tokens"][:-5]
    elif name == "children cut":
        arrays["children"] = arrays["children"][:-3]
    elif name == "child of no node":
        size = len(arrays["tokens"])
        bits = np.unpackbits(arrays["children"])[: 2 * size + 1]
        bits[[bits.nonzero()[0][-1], -1]] = 0, 1
        arrays["children"] = np.packbits(bits)
    elif name == "unsorted":
        arrays["tokens"][:2] = arrays["tokens"][:2][::-1]
    elif name == "token out of range":
        arrays["tokens"][3] = 200
    elif name == "start token":
        arrays["tokens"][0] = 0
    elif name == "code out of range":
        arrays["counts"][0] = 255
    elif name == "count of zero":
        arrays["values"][0] = 0
    elif name == "discount not a number":
        arrays["discounts"][0, 1] = np.nan
    elif name == "discount of zero":
        arrays["discounts"][0, 1] = 0
    elif name == "fewer discounts":
        arrays["discounts"] = arrays["discounts"][:2]
    return arrays


@pytest.mark.parametrize(
    "name",
    [
        "missing",
        "cut",
        "children cut",
        "child of no node",
        "unsorted",
        "token out of range",
        "start token",
        "code out of range",
        "count of zero",
        "discount not a number",
        "discount of zero",
        "fewer discounts",
    ],
)
def test_damaged_tables_are_refused(name: str) -> None:
    arrays = damaged(name, count(random_ids(500), VOCAB, 4).tables.to_arrays())
    with pytest.raises(ModelError, match="n-gram tables"):
        Ngram(NgramTables.from_arrays(arrays, VOCAB), VOCAB)


def test_of_a_very_long_text_stretches_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charlm.model.ngram_counts.MOST_COUNTED", 6400)
    ids = np.arange(100_000)
    counted = sampled(ids)
    assert len(counted) == 6400 and (counted[0], counted[-1]) == (0, 99_999)
    assert np.unique(counted // 10_000).size == 10
    np.testing.assert_array_equal(sampled(ids[:6400]), ids[:6400])


def test_merged_counts_are_the_sums_of_both() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.integers(EOS, 9, 300), rng.integers(EOS, 12, 150)
    ngrams = count(first, 9, 3), count(second, 12, 3)
    both = merged(*ngrams)
    expected: Counter[tuple[int, ...]] = Counter()
    for ids in (first, second):  # the longest n-grams have their frequencies
        for trigram in zip(ids, ids[1:], ids[2:], strict=False):
            expected[tuple(map(int, trigram))] += 1
    found = {}
    for number in range(both.levels[3], both.levels[4]):
        tokens, parent = list[int](), number
        while parent > EMPTY:
            tokens.append(int(both.tables.tokens[parent]))
            parent = int(both.tables.parents[parent])
        found[tuple(reversed(tokens))] = int(both.tables.counts[number])
    assert found == expected
    p = both.probabilities(np.zeros((1, 2), both.keys.dtype))
    assert p.shape == (1, 11) and p.sum() == pytest.approx(1, abs=1e-5)


def test_a_text_merged_with_nothing_new_predicts_as_before() -> None:
    rng = np.random.default_rng(3)
    ids = rng.integers(EOS, 9, 400)
    ngram = count(ids, 9, 4)
    both = merged(ngram, count(ids[:1], 9, 1))
    inputs = as_inputs(ids)[None, :60]
    (before, _), (after, _) = (n.read(inputs, n.initial_state(1)) for n in (ngram, both))
    np.testing.assert_allclose(after.probabilities(), before.probabilities(), atol=1e-2)
