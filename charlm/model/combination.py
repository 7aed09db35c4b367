"""How the predictions of a network and of an n-gram model are combined."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from operator import mul
from typing import ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from charlm.errors import ModelError
from charlm.model.backend import Floats, Ids
from charlm.model.context_mixing import MixedContexts
from charlm.model.ngram import NgramPrediction
from charlm.model.numpy_network import log_softmax
from charlm.model.prediction import SMALLEST, Prediction

CountedPrediction: TypeAlias = NgramPrediction | MixedContexts
NEWTON_STEPS = 20
TOLERANCE = 1e-7  # nats per token that another step of Newton's method must gain

Weights = NDArray[np.float64]
Examples = NDArray[np.void]  # records of `Combination.example`


class MixturePrediction(Prediction):
    """What a network and an n-gram model predict together."""

    def __init__(
        self, network: Prediction, ngram: CountedPrediction, combination: Combination
    ) -> None:
        self.network, self.ngram, self.combination = network, ngram, combination

    @property
    def y(self) -> Floats:
        return self.network.y

    def logprobs(self, targets: Ids) -> Floats:
        return self.combination.logprobs(self, targets)

    def logits(self) -> Floats:
        return self.combination.logits(self)

    def last(self) -> MixturePrediction:
        return MixturePrediction(self.network.last(), self.ngram.last(), self.combination)

    def by_part(self, targets: Ids) -> Floats:
        """log p(targets) of the mixture, the network and the n-gram model, (B, T, 3)."""
        return np.stack([p.logprobs(targets) for p in (self, self.network, self.ngram)], axis=-1)


class Combination(ABC):
    """How two predictions are combined, by weights that are fitted.

    weights:  a row for each fitted quantity, a column for each of its features

    name:     of the combination
    default:  weights that are good on texts of many kinds, fitted by `benchmarks.mixture`
    prior:    how firmly fitted weights are held to them: the precision of a Gaussian
    """

    name: ClassVar[str]
    default: ClassVar[Weights]
    prior: ClassVar[float]

    def __init__(self, weights: Weights | None = None) -> None:
        self.weights = self.default if weights is None else weights
        if self.weights.shape != self.default.shape or not np.isfinite(self.weights).all():
            raise ModelError(f"weights of the mixture: not {self.default.shape} numbers")

    @abstractmethod
    def logprobs(self, mixed: MixturePrediction, targets: Ids) -> Floats:
        """See `Prediction.logprobs`."""

    @abstractmethod
    def logits(self, mixed: MixturePrediction) -> Floats:
        """See `Prediction.logits`."""

    @abstractmethod
    def example(self, mixed: MixturePrediction, targets: Ids) -> Examples:
        """All that `fitted` needs of each position, (B, T)."""

    @classmethod
    @abstractmethod
    def example_size(cls, vocab: int) -> int:
        """The work for an example, in numbers that are read."""

    @abstractmethod
    def losses(self, examples: Examples) -> Floats:
        """−log p of the tokens of examples, in nats, (n,)."""

    @abstractmethod
    def fitted(self, examples: Examples) -> Self:
        """With the weights that predict these examples (n,) best, see `prior`."""


class LogLinear(Combination):
    """p ∝ p_network^a · p_ngram^b. The exponents a and b need not add up to 1.

    Each is a weighted sum of: 1, log(1 + counts after the longest context), a quarter of its
    length, and the entropies of both distributions in nats.

    An example has the fields `features` (5,), `logprobs` (2, V−1), of every token by the network
    and by the n-gram model, and `target`.
    """

    name = "log-linear"
    prior = 100.0
    default = np.array([[0.47, 0.0, -0.13, -0.06, 0.08], [0.39, 0.01, 0.21, 0.14, -0.17]])

    def logprobs(self, mixed: MixturePrediction, targets: Ids) -> Floats:
        return _at(log_softmax(self.logits(mixed)), targets)

    def logits(self, mixed: MixturePrediction) -> Floats:
        if one := mixed.ngram.one():
            return self._of_one(mixed.network, *one)
        by_network, by_ngram, features = self._inputs(mixed)
        exponents = features @ self._columns
        by_network *= exponents[..., :1]
        by_ngram *= exponents[..., 1:]
        by_network += by_ngram
        return by_network

    def _of_one(
        self, network: Prediction, by_ngram: Floats, log_total: float, matched: int
    ) -> Floats:
        """`logits` of a single position, with as few calls of NumPy as possible."""
        by_network, of_network = _entropy(network.logits().reshape(-1))
        by_ngram, of_ngram = _entropy(by_ngram)
        features = (1.0, log_total, matched / 4, of_network, of_ngram)
        a, b = (sum(map(mul, row, features)) for row in self._rows)
        by_network *= np.float32(a)
        by_ngram *= np.float32(b)
        by_network += by_ngram
        return by_network[None, None]

    @cached_property
    def _rows(self) -> list[list[float]]:
        return self.weights.tolist()

    @cached_property
    def _columns(self) -> Floats:
        return self.weights.T.astype(np.float32)

    @staticmethod
    def _inputs(mixed: MixturePrediction) -> tuple[Floats, Floats, Floats]:
        """log p of every token by each model, (B, T, V−1), and the features, (B, T, 5)."""
        by_network = log_softmax(mixed.network.logits())
        by_ngram = mixed.ngram.logits()
        p = np.exp(by_ngram)
        features = np.ones((*p.shape[:2], 5), np.float32)
        features[..., 1] = mixed.ngram.log_total
        features[..., 2] = mixed.ngram.matched
        features[..., 2] /= 4
        features[..., 4] = np.vecdot(p, by_ngram)
        np.exp(by_network, out=p)
        features[..., 3] = np.vecdot(p, by_network)
        features[..., 3:] *= -1
        return by_network, by_ngram, features

    def example(self, mixed: MixturePrediction, targets: Ids) -> Examples:
        *by_model, features = self._inputs(mixed)
        logprobs = np.stack(by_model, axis=2)
        fields = [("features", "f4", features.shape[2:]), ("logprobs", "f4", logprobs.shape[2:])]
        examples = np.empty(targets.shape, [*fields, ("target", "i4")])
        examples["features"], examples["logprobs"] = features, logprobs
        examples["target"] = targets
        return examples

    @classmethod
    def example_size(cls, vocab: int) -> int:
        return vocab

    def losses(self, examples: Examples) -> Floats:
        return -_of_targets(self._log_distributions(examples), examples)

    def _log_distributions(self, examples: Examples) -> Floats:
        """log p of every token, (n, V−1)."""
        a, b = (examples["features"] @ self._columns).T[..., None]
        by_network, by_ngram = _by_model(examples)
        return log_softmax(a * by_network + b * by_ngram)

    def fitted(self, examples: Examples) -> Self:
        """Newton's method. The loss is convex in the weights, as in any log-linear model."""
        weights = self.default
        before, p = self._loss(weights, examples)
        for _ in range(NEWTON_STEPS):
            step = self._newton_step(weights, p, examples)
            after, p = self._loss(weights - step, examples)
            while after > before and np.abs(step).max() > 1e-6:
                step = step / 2
                after, p = self._loss(weights - step, examples)
            weights = weights - step
            if before - after < TOLERANCE * len(examples):
                break
            before = after
        return type(self)(weights)

    def _loss(self, weights: Weights, examples: Examples) -> tuple[float, Floats]:
        """The loss of weights, in nats, with the prior; and p of every token, (n, V−1)."""
        logprobs = type(self)(weights)._log_distributions(examples)
        prior = self.prior / 2 * ((weights - self.default) ** 2).sum()
        loss = prior - _of_targets(logprobs, examples).sum(dtype=np.float64)
        return loss, np.exp(logprobs)

    def _newton_step(self, weights: Weights, p: Floats, examples: Examples) -> Weights:
        """H⁻¹ g of `_loss`: the gradient by the inverse of the Hessian.

        p:  of every token, (n, V−1), by these weights
        """
        features, logprobs = examples["features"], _by_model(examples)
        size = features.shape[1]
        weighted = [p * x for x in logprobs]
        means = np.stack([px.sum(axis=1) for px in weighted])
        of_targets = np.stack([_of_targets(x, examples) for x in logprobs])
        gradient = (means - of_targets) @ features + self.prior * (weights - self.default)
        hessian = np.empty((2, size, 2, size))
        for i in range(2):
            for j in range(2):
                product = np.einsum("nk,nk->n", weighted[i], logprobs[j])
                covariance = product - means[i] * means[j]
                hessian[i, :, j] = (features * covariance[:, None]).T @ features
        flat = hessian.reshape(2 * size, -1) + self.prior * np.eye(2 * size)
        step = np.linalg.solve(flat, gradient.ravel()).astype(np.float64)
        return step.reshape(2, size)


def _entropy(logits: Floats) -> tuple[Floats, float]:
    """Logits (V−1,) of which the greatest is 0, and the entropy of their distribution in nats."""
    logits = logits - np.maximum.reduce(logits)
    p = np.exp(logits)
    total = float(np.add.reduce(p))
    return logits, math.log(total) - float(p.dot(logits)) / total


def _by_model(examples: Examples) -> list[Floats]:
    """log p of every token by the network and by the n-gram model, (n, V−1) each."""
    return [examples["logprobs"][:, k] for k in range(2)]


def _of_targets(logprobs: Floats, examples: Examples) -> Floats:
    """The entries of (n, V−1) for the targets of examples, (n,)."""
    values: Floats = logprobs[np.arange(len(examples)), examples["target"] - 1]
    return values


class Linear(Combination):
    """p = (1−λ) p_network + λ p_ngram, for large vocabularies: it needs no whole distribution.

    The logit of λ is a weighted sum of: 1, log(1 + counts after the longest context), and the
    logarithm of what that context leaves to shorter ones (γ).

    An example has the fields `features` (3,), and `network` and `ngram`: log p of the token.
    """

    name = "linear"
    prior = 10.0
    default = np.array([[-0.3, -0.5, -1.45]])

    def logprobs(self, mixed: MixturePrediction, targets: Ids) -> Floats:
        by_network, by_ngram = mixed.network.logprobs(targets), mixed.ngram.logprobs(targets)
        return _interpolated(self._logit(mixed), by_network, by_ngram)

    def logits(self, mixed: MixturePrediction) -> Floats:
        share = np.exp(-np.logaddexp(np.float32(0), -self._logit(mixed)[..., None]))
        logits = mixed.network.logits()
        p = np.exp(logits - logits.max(axis=-1, keepdims=True))
        p *= (1 - share) / p.sum(axis=-1, keepdims=True)
        p += share * mixed.ngram.probabilities()
        return np.log(np.maximum(p, SMALLEST))

    def _logit(self, mixed: MixturePrediction) -> Floats:
        return self._features(mixed) @ self.weights[0].astype(np.float32)

    @staticmethod
    def _features(mixed: MixturePrediction) -> Floats:
        assert isinstance(mixed.ngram, NgramPrediction)  # large vocabularies have no other contexts
        features = np.ones((*mixed.ngram.contexts.shape[:2], 3), np.float32)
        features[..., 1] = mixed.ngram.log_total
        features[..., 2] = np.log(mixed.ngram.backoff + 1e-3)
        return features

    def example(self, mixed: MixturePrediction, targets: Ids) -> Examples:
        fields = [("features", "f4", 3), ("network", "f4"), ("ngram", "f4")]
        examples = np.empty(targets.shape, fields)
        examples["features"] = self._features(mixed)
        examples["network"] = mixed.network.logprobs(targets)
        examples["ngram"] = mixed.ngram.logprobs(targets)
        return examples

    @classmethod
    def example_size(cls, vocab: int) -> int:
        return 32

    def losses(self, examples: Examples) -> Floats:
        logit = examples["features"] @ self.weights[0].astype(np.float32)
        return -_interpolated(logit, examples["network"], examples["ngram"])

    def fitted(self, examples: Examples) -> Self:
        """Expectation maximisation, with a Newton step for each maximisation."""
        features = examples["features"].astype(np.float64)
        ratio = examples["ngram"].astype(np.float64) - examples["network"]
        weights, default = self.default[0], self.default[0]
        for _ in range(NEWTON_STEPS):
            logit = features @ weights
            prior, posterior = 1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(-logit - ratio))
            gradient = features.T @ (posterior - prior) - self.prior * (weights - default)
            hessian = (features * (prior * (1 - prior))[:, None]).T @ features
            hessian += self.prior * np.eye(len(weights))
            weights = weights + np.linalg.solve(hessian, gradient)
        return type(self)(weights[None])


def _interpolated(logit: Floats, by_network: Floats, by_ngram: Floats) -> Floats:
    """log((1−λ) p_network + λ p_ngram), from the logit of λ and both log p."""
    zero = np.float32(0)
    log_share, log_rest = -np.logaddexp(zero, -logit), -np.logaddexp(zero, logit)
    return np.logaddexp(log_rest + by_network, log_share + by_ngram)


def _at(logprobs: Floats, targets: Ids) -> Floats:
    """The entries of (…, V−1) for targets (…)."""
    return np.take_along_axis(logprobs, targets[..., None].astype(np.int64) - 1, -1)[..., 0]
