"""The mixture of a network and an n-gram model: its formulas, its weights, its use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

import charlm
from charlm import LanguageModel
from charlm.corpus.encoding import TokenFile
from charlm.engines.generation import generate
from charlm.engines.sampling import SampleOptions, random_stream
from charlm.engines.scoring import ScoreOptions, score_sentences
from charlm.engines.stream import Limits, Stream
from charlm.errors import ModelError, OptionError, Stopped
from charlm.model.combination import Linear, LogLinear
from charlm.model.config import ModelConfig
from charlm.model.likelihood import sequence_logprobs, text_logprob
from charlm.model.mixture import Mixture, MixturePredictor
from charlm.model.ngram import Ngram
from charlm.model.ngram_counts import count
from charlm.model.numpy_network import NumpyNetwork, log_softmax
from charlm.model.prediction import NetworkPredictor
from charlm.tokenizer import EOS, START, UNK, Tokenizer, as_inputs, train_tokenizer
from conftest import Trained, stopped_after, text_model_of

VOCAB = 9
GOLDEN = Path(__file__).parent / "golden"
NO_NETWORK: Any = object()  # fails at the first use
WEIGHTS = {
    LogLinear: np.array([[0.3, 0.1, 0.2, -0.1, 0.05], [0.5, -0.05, 0.1, 0.2, -0.1]]),
    Linear: np.array([[-0.7, 0.2, 0.4]]),
}
every_combination = pytest.mark.parametrize("kind", [LogLinear, Linear])


def random_network(vocab: int, seed: int = 0) -> NumpyNetwork:
    config, rng = ModelConfig(vocab, hidden=8, embedding=4), np.random.default_rng(seed)
    weights = {
        name: rng.normal(scale=0.5, size=shape).astype(np.float32)
        for name, shape in config.shapes().items()
    }
    return NumpyNetwork(config, weights)


def random_ids(size: int, seed: int = 0) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    return np.minimum(rng.geometric(0.35, size), VOCAB - 1)


@pytest.fixture(params=[LogLinear, Linear])
def predictor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MixturePredictor:
    if request.param is Linear:
        monkeypatch.setattr("charlm.model.mixture.MOST_LOG_LINEAR", 0)
    ngram = count(random_ids(500), VOCAB, 4)
    mixture = Mixture(ngram, WEIGHTS[request.param])
    return MixturePredictor(NetworkPredictor(random_network(VOCAB)), mixture)


def features(
    mixed: MixturePredictor, ids: list[int], entropies: tuple[float, float]
) -> list[float]:
    """What the weights are multiplied with after these tokens, from the contexts one by one."""
    ngram, state = mixed.mixture.ngram, mixed.mixture.ngram.initial_state(1)
    assert isinstance(ngram, Ngram)
    _, state = ngram.read(np.array([ids]), state)
    numbers = [int(n) for n in state[0][0][0] if n]
    longest = numbers[-1] if numbers else 1
    children = slice(ngram.first[longest], ngram.first[longest] + ngram.sizes[longest])
    total = float(ngram.tables.counts[children].sum())
    if isinstance(mixed.mixture.combination, Linear):
        left = 1 - float((ngram.shares * ngram.left[ngram.tables.parents])[children].sum()) / total
        return [1, np.log(1 + total), np.log(left + 1e-3)]
    return [1, np.log(1 + total), len(numbers) / 4, *entropies]


def test_probabilities_equal_the_formula(predictor: MixturePredictor) -> None:
    ids = [START, 3, 1, 4, 2, 2, 8]
    prediction, _ = predictor.read(np.array([ids]), predictor.initial_state(1))
    by_network = np.exp(prediction.network.logits()[0].astype(np.float64))
    by_network /= by_network.sum(axis=1, keepdims=True)
    by_ngram = np.exp(prediction.ngram.logits()[0].astype(np.float64))
    expected = []
    for t, (p, q) in enumerate(zip(by_network, by_ngram, strict=True)):
        entropies = float(-(p * np.log(p)).sum()), float(-(q * np.log(q)).sum())
        x = np.array(features(predictor, ids[: t + 1], entropies))
        if isinstance(predictor.mixture.combination, Linear):
            weight = 1 / (1 + np.exp(-WEIGHTS[Linear][0] @ x))
            expected.append((1 - weight) * p + weight * q)
        else:
            a, b = WEIGHTS[LogLinear] @ x
            product = p**a * q**b
            expected.append(product / product.sum())
    logits = prediction.logits()[0].astype(np.float64)
    together = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(together, expected, rtol=1e-4)
    for token in range(1, VOCAB):
        of_token = np.exp(prediction.logprobs(np.full((1, len(ids)), token))[0])
        np.testing.assert_allclose(of_token, np.array(expected)[:, token - 1], rtol=1e-4)
    np.testing.assert_allclose(prediction.last().logits()[0, 0], logits[-1], rtol=1e-5)


def test_every_token_of_a_batch_has_the_score_it_has_alone(predictor: MixturePredictor) -> None:
    sequences = [random_ids(size, seed) for seed, size in enumerate((1, 30, 300, 5, 7000))]
    together = sequence_logprobs(predictor, sequences)
    for sequence, row in zip(sequences, together, strict=True):
        (alone,) = sequence_logprobs(predictor, [sequence])
        np.testing.assert_allclose(row, alone, atol=1e-4)


def examples(predictor: MixturePredictor, size: int) -> NDArray[np.void]:
    """Of a text whose tokens are drawn half from the network, half from the n-gram model."""
    rng, state, last, rows = np.random.default_rng(1), predictor.initial_state(1), START, []
    for t in range(size):
        prediction, state = predictor.read(np.array([[last]]), state)
        part = prediction.network if t % 2 else prediction.ngram
        p = np.exp(part.logits()[0, 0].astype(np.float64))
        token = 1 + rng.choice(VOCAB - 1, p=p / p.sum())
        rows.append(predictor.mixture.combination.example(prediction, np.array([[token]]))[0])
        last = START if token == EOS else token
    return np.concatenate(rows)


def loss(mixture: Mixture, predictor: MixturePredictor, rows: NDArray[np.void]) -> float:
    """The regularised loss of examples, with numpy's own functions in float64."""
    combination, weights = mixture.combination, mixture.combination.weights
    penalty = combination.prior / 2 * ((weights - combination.default) ** 2).sum()
    x = rows["features"].astype(np.float64)
    if isinstance(combination, Linear):
        weight = 1 / (1 + np.exp(-x @ weights[0]))
        p, q = (np.exp(rows[name], dtype=np.float64) for name in ("network", "ngram"))
        return float(penalty - np.log((1 - weight) * p + weight * q).sum())
    p, q = rows["logprobs"].astype(np.float64).swapaxes(0, 1)
    a, b = (x @ weights.T).T
    z = a[:, None] * p + b[:, None] * q
    of_targets = z[np.arange(len(z)), rows["target"] - 1] - np.log(np.exp(z).sum(axis=1))
    return float(penalty - of_targets.sum())


def test_fitted_weights_are_the_best_ones(predictor: MixturePredictor) -> None:
    rows = examples(predictor, 3000)
    fitted = predictor.mixture.fitted(rows)
    best = loss(fitted, predictor, rows)
    assert best < loss(Mixture(fitted.ngram), predictor, rows) - 5
    for index in np.ndindex(*fitted.combination.weights.shape):
        for step in (-0.02, 0.02):
            moved = fitted.combination.weights.copy()
            moved[index] += step
            assert loss(Mixture(fitted.ngram, moved), predictor, rows) > best


def test_few_examples_hardly_move_the_weights(predictor: MixturePredictor) -> None:
    default = predictor.mixture.combination.default
    few = predictor.mixture.fitted(examples(predictor, 10)).combination.weights
    assert 0 < np.abs(few - default).max() < 0.5


@every_combination
def test_weights_of_another_shape_are_refused(kind: type[LogLinear | Linear]) -> None:
    for weights in (np.zeros((2, 2)), np.full(kind.default.shape, np.nan)):
        with pytest.raises(ModelError, match="weights of the mixture"):
            kind(weights)


def test_sampled_frequencies_agree_with_scored_probabilities(predictor: MixturePredictor) -> None:
    """A χ² test. Its classes: each sentence of at most two letters, and all longer sentences."""
    tokenizer = train_tokenizer("char", lambda: ["abcdef\n"])
    assert tokenizer.size == VOCAB
    letters, draws = "abcdef", 3000
    sentences = ["", *letters, *(a + b for a in "ab" for b in letters)]
    options, text_model = (
        SampleOptions(temperature=1.0, length=3),
        text_model_of(predictor, tokenizer),
    )
    limits = Limits.of(options, independent_lines=True)
    randoms = [random_stream(7, k) for k in range(draws)]
    texts = [
        "".join(Stream(pieces, limits))
        for pieces in generate(text_model, "", options, limits, randoms)
    ]
    scored, expected = np.transpose(
        [whole_logprobs(predictor, tokenizer, sentence) for sentence in sentences]
    )
    scores = score_sentences(text_model, sentences, ScoreOptions())
    np.testing.assert_allclose([score.logprob for score in scores], scored, atol=1e-4)
    expected = [*np.exp(expected)]
    expected.append(1 - sum(expected))
    observed = [texts.count(sentence) for sentence in sentences]
    observed.append(draws - sum(observed))
    large = [k for k, p in enumerate(expected) if p * draws > 5]
    chi_squared = sum(
        (observed[k] - draws * expected[k]) ** 2 / (draws * expected[k]) for k in large
    )
    assert len(large) > 8
    assert chi_squared < len(large) + 3 * (2 * len(large)) ** 0.5


def whole_logprobs(
    predictor: MixturePredictor, tokenizer: Tokenizer, sentence: str
) -> tuple[float, float]:
    """log P of a sentence from whole distributions: as they are, and without `<UNK>`.

    `<UNK>` is never sampled, and the rest is renormalised.
    """
    ids = np.append(tokenizer.encode(sentence).ids, EOS)
    inputs = as_inputs(np.append(START, ids[:-1]))[None]
    prediction, _ = predictor.read(inputs, predictor.initial_state(1))
    totals = []
    for unknown in (1.0, 0.0):
        p = np.exp(prediction.logits()[0].astype(np.float64))
        p *= np.where(np.arange(1, VOCAB) == UNK, unknown, 1.0)
        of_ids = p[np.arange(len(ids)), ids - 1] / p.sum(axis=1)
        totals.append(float(np.log(of_ids).sum()))
    return totals[0], totals[1]


# --- trained models ---


def trained(corpus: Path, folder: Path, **options: object) -> LanguageModel:
    small = {"steps": 30, "hidden": 16, "quiet": True, "precision": "fp32", "out": folder}
    return charlm.train(corpus, **{**small, **options})  # type: ignore[call-overload]


@pytest.mark.parametrize("level", ["char", "byte", "word", "subword"])
def test_at_every_level_the_next_token_has_some_probability_in_all(
    corpus: Path, tmp_path: Path, level: str
) -> None:
    model = trained(corpus, tmp_path / "run", level=level)
    assert model.mixture and model.mixture.combination.name == "log-linear"
    ids = model.tokenizer.encode("the cat").ids
    for prefix in (ids[:0], ids[:2], ids):
        every = [np.append(prefix, id) for id in range(1, model.tokenizer.size)]
        total = sum(
            np.exp(row[-1].astype(np.float64))
            for row in sequence_logprobs(model.predictors.numpy, every)
        )
        assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("most", [0, 512])
def test_the_mixture_is_better_than_its_parts_and_the_same_in_torch(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    for module in ("model.mixture", "tasks.lm"):
        monkeypatch.setattr(f"charlm.{module}.MOST_LOG_LINEAR", most)
    model = trained(corpus, tmp_path / "run", steps=100)
    card = model.card
    assert card.valid_network and card.valid_ngram
    assert card.valid_nats < card.valid_network
    if most:  # the n-gram model is nearly perfect, and few examples do not move λ to 1
        assert card.valid_nats < card.valid_ngram
    lines = ["the cat sat", "", "my aunt waited at home", "zebra"] * 3
    by_numpy = charlm.load(model.path, backend="numpy", kind=LanguageModel)
    by_torch = charlm.load(model.path, backend="torch", kind=LanguageModel)
    for a, b in zip(by_numpy.score(lines), by_torch.score(lines), strict=True):
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-4)
    text = "".join(f"{line}\n" for line in lines)
    alone = charlm.load(model.path, network_only=True, kind=LanguageModel)
    assert alone.mixture is None
    assert alone.evaluate(text).logprob != pytest.approx(by_numpy.evaluate(text).logprob, abs=1)


def test_without_an_ngram_the_model_is_the_network(corpus: Path, tmp_path: Path) -> None:
    mixed = trained(corpus, tmp_path / "mixed", ngram=3)
    plain = trained(corpus, tmp_path / "plain", ngram="none")
    assert mixed.mixture and mixed.mixture.ngram.order == 3 and plain.mixture is None
    assert plain.card.valid_network is None
    assert plain.card.valid_nats == pytest.approx(mixed.card.valid_network, abs=1e-6)
    network = charlm.load(mixed.path, network_only=True, kind=LanguageModel)
    assert network.score("a cat").logprob == plain.score("a cat").logprob


def test_lines_are_independent_in_the_ngram_too(corpus: Path, tmp_path: Path) -> None:
    model = trained(corpus, tmp_path / "run", lines=True)
    together = model.score("the cat sat\nthe dog sat").logprob
    alone = [model.score(line).logprob for line in ("the cat sat", "the dog sat")]
    assert together == pytest.approx(sum(alone), abs=1e-4)
    assert model.card.valid_lines == pytest.approx(model.card.valid_nats, abs=1e-5)


def test_a_text_too_small_to_hold_out_keeps_the_default_weights(tmp_path: Path) -> None:
    (tmp_path / "tiny.txt").write_text("a b\n", encoding="utf-8")
    model = trained(tmp_path / "tiny.txt", tmp_path / "run")
    assert model.mixture and not model.card.valid_is_held_out
    np.testing.assert_array_equal(model.mixture.combination.weights, LogLinear.default)
    assert np.isfinite(model.score("a b c").logprob)


def test_the_model_of_a_stopped_run_is_fitted_and_measured_too(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_after(20, monkeypatch)
    with pytest.raises(Stopped):
        trained(corpus, tmp_path / "run")
    model = charlm.load(tmp_path / "run", kind=LanguageModel)
    assert model.mixture and model.card.valid_network and model.card.valid_ngram
    assert not np.array_equal(model.mixture.combination.weights, LogLinear.default)
    alone = charlm.load(tmp_path / "run", network_only=True, kind=LanguageModel)
    held_out = TokenFile.open(tmp_path / "run/valid", model.tokenizer.size).ids
    for scorer, nats in ((model, model.card.valid_nats), (alone, model.card.valid_network)):
        total = text_logprob(scorer.predictors.numpy, held_out)
        assert -total / len(held_out) == pytest.approx(nats, abs=1e-4)


@pytest.mark.parametrize("value", [0, 99, -1, "many", "4.5", ""])
def test_an_invalid_order_is_refused(corpus: Path, tmp_path: Path, value: object) -> None:
    with pytest.raises(OptionError, match=r"`ngram=.*`: must be from 1 to 9, or none"):
        trained(corpus, tmp_path / "run", ngram=value)


def test_a_task_without_ngrams_refuses_them(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="`ngram=3`: is not for `task=fill`"):
        trained(corpus, tmp_path / "run", ngram=3, task="fill")


def rewritten(
    path: Path, target: Path, change: Callable[[dict[str, np.ndarray], dict[str, object]], None]
) -> Path:
    """A copy of a model file, changed."""
    with safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()["charlm"])
        tensors = {name: file.get_tensor(name).copy() for name in file.keys()}
    change(tensors, header)
    save_file(tensors, target, {"charlm": json.dumps(header)})
    return target


def test_a_file_whose_tables_do_not_fit_is_damaged(corpus: Path, tmp_path: Path) -> None:
    model = trained(corpus, tmp_path / "run")

    def larger_vocabulary(tensors: dict[str, np.ndarray], header: dict[str, object]) -> None:
        tensors["parts.ngram.tokens"][-1] = model.config.vocab

    def cut(tensors: dict[str, np.ndarray], header: dict[str, object]) -> None:
        tensors["parts.ngram.counts"] = tensors["parts.ngram.counts"][:-1]

    def unsorted(tensors: dict[str, np.ndarray], header: dict[str, object]) -> None:
        tensors["parts.ngram.tokens"][:3] = tensors["parts.ngram.tokens"][:3][::-1]

    def no_tables(tensors: dict[str, np.ndarray], header: dict[str, object]) -> None:
        del tensors["parts.ngram.children"]

    def no_weights(tensors: dict[str, np.ndarray], header: Any) -> None:
        header["parts"]["ngram"]["mixture"] = [[1, 2]]

    for change in (larger_vocabulary, cut, unsorted, no_tables, no_weights):
        path = rewritten(model.path, tmp_path / "damaged.safetensors", change)
        with pytest.raises(ModelError, match=r"the model file is damaged .*(n-gram|mixture)"):
            charlm.load(path)


def test_one_position_has_the_logits_of_many(predictor: MixturePredictor) -> None:
    ids = np.array([[START, 3, 1, 4, 2, 2, 8]])
    whole, _ = predictor.read(ids, predictor.initial_state(1))
    state = predictor.initial_state(1)
    for t in range(ids.shape[1]):
        one, state = predictor.read(ids[:, t : t + 1], state)
        expected = log_softmax(whole.logits()[:, t : t + 1])
        np.testing.assert_allclose(log_softmax(one.logits()), expected, rtol=1e-4, atol=1e-5)


def test_the_ngram_model_alone(trained: Trained) -> None:
    model = trained(steps=5, hidden=8, ngram=4)
    alone = charlm.load(model.path, kind=LanguageModel, ngram_only=True, backend=NO_NETWORK)
    assert alone.mixture
    ids = alone.tokenizer.encode_ids("the cat\n")
    inputs = as_inputs(np.append(START, ids[:-1]))[None]
    prediction, _ = alone.mixture.ngram.read(inputs, alone.mixture.ngram.initial_state(1))
    expected = prediction.logprobs(ids[None].astype(np.int64))[0]
    np.testing.assert_allclose(alone.score("the cat").logprobs, expected, rtol=1e-6)
    assert alone.sample("the ", length=20, seed=1).startswith("the ")
    assert alone.evaluate("the cat\n", reset_lines=True).logprob == pytest.approx(
        float(expected.sum()), rel=1e-5
    )
    with pytest.raises(OptionError, match="ngram_only"):
        alone.evaluate("the cat\n" * 9, cache=100)
    with pytest.raises(ModelError, match="the model has no n-grams"):
        charlm.load(GOLDEN / "lm-char.safetensors", ngram_only=True)
    with pytest.raises(ModelError, match="the model has no n-grams"):
        charlm.load(GOLDEN / "classify-word.safetensors", ngram_only=True)
