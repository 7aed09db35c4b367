"""Context mixing, compared with its formula evaluated context by context, without hashing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import charlm
from charlm import LanguageModel
from charlm.errors import ModelError
from charlm.model import contexts
from charlm.model.combination import LogLinear, MixturePrediction
from charlm.model.context_fit import _Example, _gradients, count_mixed
from charlm.model.context_mixing import COMMON, MODELS, ContextMixing, MixingWeights
from charlm.model.context_tables import FEWEST, ContextTables
from charlm.model.contexts import CONTEXTS
from charlm.model.likelihood import sequence_logprobs, text_logprob
from charlm.model.ngram import Ngram
from charlm.model.ngram_counts import count
from charlm.model.ngram_tables import LEAST_DISCOUNT
from charlm.tokenizer import EOS, START, as_inputs, train_tokenizer

VOCAB = 9
LETTERS = np.array([False, False, False, True, True, True, True, False, False])
Ids = NDArray[np.int64]


def random_ids(size: int, seed: int = 0) -> Ids:
    """A text of lines of words: tokens are more probable after the same tokens."""
    rng, ids = np.random.default_rng(seed), [3, 4]
    while len(ids) < size:
        ids.append(1 + (ids[-1] * 3 + ids[-2] + int(rng.geometric(0.5))) % (VOCAB - 1))
    return np.array(ids)


def random_weights(seed: int = 0) -> MixingWeights:
    rng, default = np.random.default_rng(seed), MixingWeights.default(VOCAB)
    changed = (w + rng.normal(scale=0.1, size=w.shape).astype(np.float32) for w in default)
    return MixingWeights(*changed).rounded()


def histories(ids: Ids, lines: bool) -> Iterator[dict[str, Hashable]]:
    """The contexts of each token of a text, as tuples."""
    seen: list[int] = []
    for id in [EOS, *ids[:-1].tolist()]:
        seen = [EOS] if lines and id == EOS else [*seen, id]
        words: list[list[int]] = [[]]
        for token in seen:
            if LETTERS[token]:
                words[-1].append(token)
            elif words[-1]:
                words.append([])
        word, before, skipped = (tuple(w) for w in [*words[::-1], [], []][:3])
        last = seen[-1]
        column = seen[::-1].index(EOS) if EOS in seen else len(seen)
        yield {
            "word": (last, word),
            "two words": (last, word, before),
            "skipped word": (last, word, skipped),
            "tokens 2 to 4": tuple(seen[-4:-1]),
            "tokens 2 and 3": tuple(seen[-3:-1]),
            "column": (last, column),
        }


def model_of(ids: Ids, lines: bool = False, order: int = 3) -> ContextMixing:
    keys = contexts.of_text(ids, LETTERS, 1, lines)
    ngram = count(ids, VOCAB, order, independent_lines=lines)
    return ContextMixing(ngram, ContextTables.of(keys, ids), LETTERS, random_weights())


class Oracle:
    """The formula of `ContextMixing`, with dictionaries."""

    def __init__(self, ids: Ids, lines: bool) -> None:
        self.counts: dict[str, dict[Hashable, Counter[int]]] = {}
        for name in CONTEXTS:
            self.counts[name] = defaultdict(Counter)
        for found, id in zip(histories(ids, lines), ids.tolist(), strict=True):
            for name, context in found.items():
                self.counts[name][context][id] += 1
        self.discounts = {name: self._discounts(name) for name in CONTEXTS}
        for name, fewest in FEWEST.items():
            kept = {c: n for c, n in self.counts[name].items() if n.total() >= fewest}
            self.counts[name] = defaultdict(Counter, kept)

    def _discounts(self, name: str) -> list[float]:
        n = Counter(c for counts in self.counts[name].values() for c in counts.values())
        y = n[1] / max(n[1] + 2 * n[2], 1)
        raw = [k - (k + 1) * y * n[k + 1] / max(n[k], 1) for k in (1, 2, 3)]
        return [0.0, *(min(max(d, LEAST_DISCOUNT), k) for k, d in enumerate(raw, 1))]

    def p(
        self, ngram: NDArray[np.float64], found: dict[str, Hashable], last: int
    ) -> NDArray[np.float64]:
        """p of every token, (V−1,), where the n-gram model says `ngram`."""
        weights, by_name = random_weights(), {"ngram": ngram}
        exponents = weights.common + weights.by_previous[last]
        exponents[0] += weights.seen[0]
        for m, name in enumerate(CONTEXTS, 1):
            base = by_name["word" if "words" in name or "skipped" in name else "ngram"]
            counts = self.counts[name].get(found[name])
            by_name[name] = base
            if counts:
                exponents[m] += weights.seen[m]
                discounted = np.zeros(VOCAB - 1)
                for token, n in counts.items():
                    discounted[token - 1] = n - self.discounts[name][min(n, 3)]
                left = counts.total() - discounted.sum()
                by_name[name] = (discounted + left * base) / counts.total()
        logs = np.log([*by_name.values()])
        z = ((exponents[:, None] + weights.by_token) * logs).sum(axis=0)
        p: NDArray[np.float64] = np.exp(z) / np.exp(z).sum()
        return p


@pytest.mark.parametrize("lines", [False, True])
def test_probabilities_equal_the_formula(lines: bool) -> None:
    text, other = random_ids(800), random_ids(60, seed=1)
    model, oracle = model_of(text, lines), Oracle(text, lines)
    other[20] = other[40] = EOS
    inputs = np.append(START, as_inputs(other[:-1]))
    state, grams = model.initial_state(1), model.ngram.initial_state(1)
    for id, found in zip(inputs.tolist(), histories(other, lines), strict=True):
        if lines and id == START:
            state, grams = model.initial_state(1), model.ngram.initial_state(1)
        prediction, state = model.read(np.array([[id]]), state)
        of_ngram, grams = model.ngram.read(np.array([[id]]), grams)
        ngram = of_ngram.probabilities()[0, 0].astype(np.float64)
        expected = oracle.p(ngram, found, id or EOS)
        np.testing.assert_allclose(prediction.probabilities()[0, 0], expected, rtol=2e-4)
        one = prediction.one()
        assert one
        logits, log_total, matched = one
        np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(), expected, rtol=2e-4)
        assert log_total == pytest.approx(float(prediction.log_total[0, 0]), rel=1e-5)
        assert matched == prediction.matched[0, 0]


def test_every_token_of_a_batch_has_the_score_it_has_alone() -> None:
    model = model_of(random_ids(2000))
    sequences = [random_ids(size, seed) for seed, size in enumerate((1, 30, 700, 5))]
    for sequence, row in zip(sequences, sequence_logprobs(model, sequences), strict=True):
        state, alone = model.initial_state(1), []
        for id, target in zip(np.append(START, as_inputs(sequence[:-1])), sequence, strict=True):
            prediction, state = model.read(np.array([[id]]), state)
            alone.append(float(prediction.logprobs(np.array([[target]]))[0, 0]))
        np.testing.assert_allclose(row, alone, atol=1e-4)


def test_a_mixture_does_not_change_the_predictions_of_its_parts() -> None:
    text, other = random_ids(800), random_ids(60, seed=1)
    model, bigrams = model_of(text), count(text, VOCAB, 2)
    inputs, targets = np.append(START, as_inputs(other[:-1]))[None], other[None]
    alone = model.read(inputs, model.initial_state(1))[0].logprobs(targets)
    first, _ = bigrams.read(inputs, bigrams.initial_state(1))
    second, _ = model.read(inputs, model.initial_state(1))
    mixed = MixturePrediction(first, second, LogLinear())
    by_part = mixed.by_part(targets)
    np.testing.assert_allclose(by_part[..., 2], alone)
    np.testing.assert_allclose(mixed.by_part(targets), by_part)


def test_streams_of_a_text_have_its_contexts() -> None:
    """Each stream is read from its start, so its first contexts may differ."""
    ids = random_ids(4000)
    whole, parts = (contexts.of_text(ids, LETTERS, streams, True) for streams in (1, 4))
    assert (whole == parts).mean() > 0.98 and (whole[:1000] == parts[:1000]).all()


def test_the_gradient_is_that_of_the_loss() -> None:
    rng, n = np.random.default_rng(0), 50
    examples = _Example(
        np.log(rng.dirichlet(np.ones(VOCAB - 1), (n, MODELS))),
        rng.integers(2, size=(n, MODELS)).astype(float),
        rng.integers(1, VOCAB, n),
        rng.integers(1, VOCAB, n),
    )

    def loss(weights: MixingWeights) -> float:
        common, seen, by_previous, by_token = weights
        exponents = common + seen * examples.seen + by_previous[examples.previous]
        z = ((exponents[..., None] + by_token) * examples.logprobs).sum(axis=1)
        of_targets = z[np.arange(n), examples.target - 1]
        return float((np.log(np.exp(z).sum(axis=1)) - of_targets).mean())

    weights: MixingWeights = MixingWeights(*(w.astype(float) for w in random_weights()))
    for w, gradient in zip(weights, _gradients(weights, examples), strict=True):
        for place in [*np.ndindex(w.shape)][:: max(w.size // 7, 1)]:
            before = w[place]
            w[place] = before + 1e-5
            above = loss(weights)
            w[place] = before - 1e-5
            numeric = (above - loss(weights)) / 2e-5
            w[place] = before
            assert gradient[place] == pytest.approx(numeric, abs=1e-6)


@pytest.mark.parametrize("lines", [False, True])
def test_the_weights_suit_other_texts(lines: bool) -> None:
    text, other = random_ids(6000), random_ids(3000, seed=5)
    model = count_mixed(text, VOCAB, 4, LETTERS, independent_lines=lines)
    default = model.with_weights(MixingWeights.default(VOCAB))
    assert model.weights.common.tolist() != pytest.approx(COMMON)
    alone, unfitted, fitted = (text_logprob(each, other) for each in (model.ngram, default, model))
    assert fitted > unfitted + 20 and fitted > alone


def test_a_text_of_a_few_tokens_has_the_default_weights() -> None:
    for size in (1, 2, 5):
        model = count_mixed(random_ids(8)[:size], VOCAB, 9, LETTERS)
        assert np.isfinite(text_logprob(model, random_ids(30)))


def test_a_file_holds_all_of_it() -> None:
    model = model_of(random_ids(500))
    again = ContextMixing.from_arrays(model.ngram, model.to_arrays())
    other = random_ids(200, seed=3)
    assert text_logprob(again, other) == text_logprob(model, other)
    assert len(again) == len(model) == len(model.ngram) + len(model.tables)


@pytest.mark.parametrize("name", ["keys", "kinds", "sizes", "tokens", "counts", "values"])
def test_damaged_tables_are_refused(name: str) -> None:
    model = model_of(random_ids(500))
    arrays = model.to_arrays()
    other = np.full_like(arrays[name], 200 if name == "counts" else 0)
    for damaged in (arrays[name][:-1], other):
        with pytest.raises(ModelError, match="context tables"):
            ContextMixing.from_arrays(model.ngram, {**arrays, name: damaged})
    del arrays[name]
    with pytest.raises(ModelError, match="context tables"):
        ContextMixing.from_arrays(model.ngram, arrays)


def test_damaged_weights_are_refused() -> None:
    model = model_of(random_ids(500))
    arrays = model.to_arrays()
    infinite = np.full_like(arrays["weights.seen"], np.inf)
    for damaged in ({"weights.seen": infinite}, {"weights.common": np.ones(3, np.float16)}):
        with pytest.raises(ModelError, match="weights of the contexts"):
            ContextMixing.from_arrays(model.ngram, {**arrays, **damaged})
    del arrays["weights.by_token"]
    with pytest.raises(ModelError, match="weights of the contexts"):
        ContextMixing.from_arrays(model.ngram, arrays)


def test_merged_counts_are_those_of_both_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charlm.model.context_tables.FEWEST", {})
    first, second = random_ids(500), random_ids(300, seed=1)
    keys = [contexts.of_text(ids, LETTERS, 1, False) for ids in (first, second)]
    merged = ContextTables.of(keys[0], first).merged(ContextTables.of(keys[1], second))
    both = ContextTables.of(np.concatenate(keys), np.concatenate([first, second]))
    for name, array in both.to_arrays().items():
        np.testing.assert_array_equal(merged.to_arrays()[name], array, err_msg=name)


def test_what_is_rare_is_left_out_first() -> None:
    ids = random_ids(3000)
    keys = contexts.of_text(ids, LETTERS, 1, False)
    every = ContextTables.of(keys, ids)
    few = ContextTables.of(keys, ids, most=len(every) // 2)
    assert len(every) // 4 < len(few) <= len(every) // 2
    totals = np.add.reduceat(few.counts, np.append(0, few.sizes.cumsum()[:-1]))
    assert totals.min() > 1


def test_letters_of_characters_and_bytes() -> None:
    text = lambda: ["Añ 1,\n"]  # noqa: E731
    chars, of_bytes = train_tokenizer("char", text), train_tokenizer("byte", text)
    letters = chars.letters()
    assert {chars.token(int(id)) for id in np.flatnonzero(letters)} == {"A", "ñ"}
    for piece, expected in (("A", [True]), ("ñ", [True, True]), (" 1,", [False] * 3)):
        assert of_bytes.letters()[of_bytes.encode_ids(piece)].tolist() == expected


@pytest.mark.parametrize(("level", "mixes"), [("char", True), ("byte", True), ("word", False)])
def test_models_of_characters_and_bytes_mix_contexts(
    corpus: Path, tmp_path: Path, level: str, mixes: bool
) -> None:
    model = charlm.train(
        corpus, kind=LanguageModel, level=level, hidden=16, steps=20, quiet=True, out=tmp_path / "m"
    )
    assert model.mixture
    assert isinstance(model.mixture.ngram, ContextMixing if mixes else Ngram)
    again = charlm.load(model.path, kind=LanguageModel, ngram_only=True)
    assert again.score("the cat sat").logprob < 0
