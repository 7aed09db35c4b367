"""The linear model of labels, and its training, against plain dense computations."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from charlm.errors import ModelError
from charlm.model.file import Card, ModelFile
from charlm.model.linear import LinearModel, log_softmax
from charlm.model.linear_fit import Counted, _Regression, _without_rare, fit_linear

IDS = (2, 3, 5, 8, 13, 21, 34)
Examples = Sequence[Sequence[int]]


def model_of(labels: int = 3, seed: int = 0) -> LinearModel:
    rng = np.random.default_rng(seed)
    weights, bias = rng.normal(size=(len(IDS), labels)), rng.normal(size=labels)
    weights = weights.astype(np.float16).astype(np.float32)  # as files hold them
    return LinearModel(np.array(IDS, np.int32), weights, bias.astype(np.float32), (0.7, 0.4))


def counted(examples: Examples, labels: Sequence[int] = ()) -> Counted:
    ids = np.array([id for features in examples for id in features], np.int32)
    bounds = np.append(0, np.cumsum([len(features) for features in examples], dtype=np.int64))
    return Counted(ids, bounds, np.array(labels, np.int64))


def random_examples(n: int, most: int, features: int, seed: int = 0) -> list[list[int]]:
    """Examples with none to `most` features, each at most once."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(most + 1, size=n).tolist()
    return [sorted(rng.choice(features, size, replace=False).tolist()) for size in sizes]


def logprobs_of(model: LinearModel, examples: Examples) -> NDArray[np.floating]:
    data = counted(examples)
    return model.logprobs(data.ids, data.bounds)


# --- the model ---


def dense_logprobs(model: LinearModel, features: Sequence[int]) -> list[float]:
    """log p of the labels of one example, by a sum over its features."""
    scores = [float(b) for b in model.bias]
    for id, row in zip(model.ids.tolist(), model.weights.tolist(), strict=True):
        scores = [s + w * features.count(id) for s, w in zip(scores, row, strict=True)]
    log_z = math.log(math.fsum(math.exp(score) for score in scores))
    return [score - log_z for score in scores]


@pytest.mark.parametrize("labels", [2, 5])
def test_the_scores_are_sums_over_the_features(labels: int) -> None:
    model, examples = model_of(labels), random_examples(40, 9, 40)
    expected = [dense_logprobs(model, features) for features in examples]
    np.testing.assert_allclose(logprobs_of(model, examples), expected, rtol=0, atol=1e-12)
    assert np.std(expected) > 0.5


@pytest.mark.parametrize("at_once", [1, 7, 50])
def test_examples_in_pieces_have_the_same_scores(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, examples = model_of(), [*random_examples(30, 9, 40), [], [*range(40)], []]
    expected = logprobs_of(model, examples)
    monkeypatch.setattr("charlm.model.linear.AT_ONCE", at_once)
    np.testing.assert_allclose(logprobs_of(model, examples), expected, rtol=0, atol=1e-12)


def test_features_without_weights_count_nothing() -> None:
    model = model_of()
    examples = [[5, 13], [0, 5, 7, 13, 99], [], [0, 1, 1 << 24]]
    p = logprobs_of(model, examples)
    np.testing.assert_array_equal(p[0], p[1])
    bias_alone = dense_logprobs(model, [])
    np.testing.assert_allclose(p[2:], [bias_alone, bias_alone], atol=1e-12)
    none = LinearModel(model.ids[:0], model.weights[:0], model.bias)
    np.testing.assert_allclose(logprobs_of(none, examples), [bias_alone] * 4, atol=1e-12)
    assert logprobs_of(model, []).shape == (0, 3)


def test_some_examples_of_a_longer_list_are_scored_by_their_bounds() -> None:
    model, examples = model_of(), random_examples(20, 9, 40)
    data = counted(examples)
    part = model.logprobs(data.ids, data.bounds[5:12])
    np.testing.assert_allclose(part, logprobs_of(model, examples)[5:11], atol=1e-12)


def test_both_halves_together_are_a_product_of_powers() -> None:
    model, rng = model_of(), np.random.default_rng(1)
    p, q = (rng.dirichlet(np.ones(3), size=(4, 2)) for _ in range(2))
    product = p**0.7 * q**0.4
    found = np.exp(model.mixed(np.log(p), np.log(q)))
    np.testing.assert_allclose(found, product / product.sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(np.exp(model.combined(np.log(p), np.log(q))), product)
    network_alone = model.with_powers((1.0, 0.0))
    np.testing.assert_allclose(np.exp(network_alone.mixed(np.log(p), np.log(q))), p)
    np.testing.assert_array_equal(network_alone.weights, model.weights)


def test_log_probabilities_of_large_scores_are_finite() -> None:
    found = log_softmax(np.array([[1e4, 0.0], [-1e4, -1e4]]))
    np.testing.assert_allclose(found, [[0, -1e4], [-math.log(2)] * 2])


# --- its state ---


def restored(settings: Any, arrays: Any) -> LinearModel | None:
    """The model from its state in a model file."""
    card = Card("x", "", 1, 1, 1.0, True, "", 1.0, "1")
    file = ModelFile("classify", {}, {}, {"linear": (settings, arrays)}, card)
    return file.part("linear", LinearModel.from_state)


def test_a_fitted_model_is_restored_from_its_state() -> None:
    """A file holds two bytes of each weight, and the model is rounded to these before."""
    examples = random_examples(60, 6, 12)
    fitted = fit_linear(counted(examples, noisy_labels(examples, 3)), 3).with_powers((0.7, 0.4))
    for model in (fitted, model_of()):
        settings, arrays = model.state()
        assert arrays["weights"].dtype == np.float16
        again = restored(json.loads(json.dumps(settings)), arrays)
        assert again and again.powers == (0.7, 0.4)
        for name in ("ids", "weights", "bias"):
            found, expected = getattr(again, name), getattr(model, name)
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype


DAMAGE: dict[str, Callable[[dict[str, Any], dict[str, Any]], object]] = {
    "no weights": lambda s, a: a.pop("weights"),
    "no powers": lambda s, a: s.pop("powers"),
    "a row too few": lambda s, a: a.update(weights=a["weights"][1:]),
    "a label too many": lambda s, a: a.update(bias=np.append(a["bias"], 0)),
    "one power": lambda s, a: s.update(powers=[1.0]),
    "a word as a power": lambda s, a: s.update(powers=["much", 1.0]),
    "not a number": lambda s, a: a.update(weights=a["weights"] * np.float32("nan")),
    "ids in another order": lambda s, a: a.update(ids=a["ids"][::-1].copy()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_refused(damage: str) -> None:
    settings, arrays = (dict(part) for part in model_of().state())
    DAMAGE[damage](settings, arrays)
    with pytest.raises(ModelError, match="the model file is damaged"):
        restored(settings, arrays)


# --- training ---


def noisy_labels(examples: Examples, labels: int) -> list[int]:
    """Labels that depend on the features, and on chance."""
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(99, labels))
    scores = np.array([weights[[*features]].sum(axis=0) for features in examples])
    return (scores + rng.gumbel(size=scores.shape)).argmax(axis=1).tolist()


def dense_ratios(X: NDArray[np.float64], one_hot: NDArray[np.float64]) -> NDArray[np.float64]:
    """The log-count ratios (F, K), label by label; every count starts at one."""
    columns = []
    counts = 1 + np.array([[X[y == 1, f].sum() for y in one_hot.T] for f in range(X.shape[1])])
    for k in range(counts.shape[1]):
        own, other = counts[:, k], np.delete(counts, k, axis=1).sum(axis=1)
        columns.append(np.log(own / own.sum()) - np.log(other / other.sum()))
    return np.stack(columns, axis=1)


def test_two_labels_have_the_ratios_of_the_paper() -> None:
    """Wang and Manning (2012): log (p / ‖p‖₁) / (q / ‖q‖₁), p = 1 + counts of the first label."""
    data = counted([[0, 1], [0], [1, 2], [2]], [0, 0, 1, 1])
    p, q = np.array([3, 2, 1]), np.array([1, 2, 3])
    expected = np.log((p / 6) / (q / 6))
    found = _Regression(data, 2).ratios.numpy()
    np.testing.assert_allclose(found, np.stack([expected, -expected], axis=1), atol=1e-6)


@pytest.mark.parametrize("labels", [2, 4])
@pytest.mark.parametrize("penalty", [30.0, 1.0])
def test_the_gradient_of_the_objective_vanishes_at_the_fitted_weights(
    labels: int, penalty: float
) -> None:
    examples = [[*features, 12] for features in random_examples(80, 6, 12)]
    truth = noisy_labels(examples, labels)
    X = np.array([[float(f in features) for f in range(13)] for features in examples])
    one_hot = np.eye(labels)[truth]
    ratios = dense_ratios(X, one_hot)
    regression = _Regression(counted(examples, truth), labels)
    model = regression.fit(penalty)
    own_v, bias = (p.detach().double().requires_grad_() for p in (regression.V, regression.bias))
    np.testing.assert_array_equal(model.ids, np.arange(13))
    weights = own_v.detach().numpy() * ratios
    np.testing.assert_allclose(model.weights, weights, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(model.bias, bias.detach().numpy(), rtol=1e-6)

    def objective(v: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        scores = torch.from_numpy(X) @ (v * torch.from_numpy(ratios)) + b
        p = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
        nats = -(p * torch.from_numpy(one_hot)).sum(dim=1).log().sum()
        return nats + penalty / 2 * (v**2).sum()

    def steepest(v: torch.Tensor, b: torch.Tensor) -> float:
        gradients = torch.autograd.grad(objective(v, b), (v, b))
        return max(float(g.abs().max()) for g in gradients)

    start = torch.zeros_like(own_v, requires_grad=True), torch.zeros_like(bias, requires_grad=True)
    assert steepest(own_v, bias) < 1e-2 < 3 < steepest(*start)
    assert objective(own_v, bias) < objective(*start) - 1


def test_a_fit_does_not_depend_on_the_one_before() -> None:
    examples = random_examples(80, 6, 12)
    data = counted(examples, noisy_labels(examples, 3))
    regression = _Regression(data, 3)
    regression.fit(100.0)
    found, expected = regression.fit(1.0), _Regression(data, 3).fit(1.0)
    np.testing.assert_allclose(found.weights, expected.weights, atol=2e-3)
    np.testing.assert_allclose(found.bias, expected.bias, atol=2e-3)


def test_without_features_the_labels_have_their_shares() -> None:
    model = _Regression(counted([[]] * 8, [0, 0, 0, 0, 0, 1, 1, 2]), 3).fit(1.0)
    np.testing.assert_allclose(
        np.exp(logprobs_of(model, [[], [7]])), [[5 / 8, 2 / 8, 1 / 8]] * 2, atol=1e-3
    )


def test_labels_that_one_feature_determines_are_learnt() -> None:
    rng = np.random.default_rng(0)
    noise, truth = random_examples(300, 8, 60, seed=3), rng.integers(3, size=300).tolist()
    examples = [[*features, 100 + k] for features, k in zip(noise, truth, strict=True)]
    model = fit_linear(counted(examples, truth), 3)
    unseen = [[*features, 100 + k % 3] for k, features in enumerate(random_examples(90, 8, 60, 4))]
    p = np.exp(logprobs_of(model, unseen))
    assert p.argmax(axis=1).tolist() == [k % 3 for k in range(90)]
    assert p.max(axis=1).min() > 0.8


def test_the_penalty_keeps_labels_by_chance_from_being_learnt_by_heart() -> None:
    """A model with a small penalty explains them by features of the training examples."""
    rng = np.random.default_rng(0)
    training, unseen = random_examples(200, 20, 100, 5), random_examples(200, 20, 100, 6)
    truth, other_truth = (rng.integers(2, size=200) for _ in range(2))
    data = counted(training, truth.tolist())

    def nats(model: LinearModel) -> float:
        return float(-logprobs_of(model, unseen)[np.arange(200), other_truth].mean())

    assert nats(fit_linear(data, 2)) < math.log(2) + 0.1 < nats(_Regression(data, 2).fit(0.3))


def test_a_model_is_the_same_every_time() -> None:
    examples = random_examples(60, 6, 12)
    data = counted(examples, noisy_labels(examples, 2))
    first, second = fit_linear(data, 2), fit_linear(data, 2)
    np.testing.assert_array_equal(first.weights, second.weights)


def test_some_of_the_examples_keep_their_features_and_labels() -> None:
    examples = random_examples(12, 5, 30)
    some = counted(examples, range(12)).taken(np.array([7, 2, 11]))
    expected = counted([examples[k] for k in (7, 2, 11)], [7, 2, 11])
    for a, b in zip(some, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_rare_features_are_left_out_if_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    data = counted([[1, 2], [2, 3], [], [4], [2, 4]], [0, 1, 0, 1, 0])
    assert _without_rare(data) is data
    monkeypatch.setattr("charlm.model.linear_fit.FROM", 4)
    for a, b in zip(
        _without_rare(data), counted([[2], [2], [], [4], [2, 4]], [0, 1, 0, 1, 0]), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert fit_linear(data, 2).ids.tolist() == [2, 4]
