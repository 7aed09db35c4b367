"""A language model is a mixture: a network and an n-gram model of the same text, combined."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from charlm.errors import ModelError
from charlm.model.backend import Backends, Floats, Ids
from charlm.model.ngram import SMALLEST, Ngram, NgramPrediction, NgramTables
from charlm.model.numpy_network import log_softmax
from charlm.model.prediction import NetworkPredictor, Prediction, Predictor, State

MOST_LOG_LINEAR = 512  # token ids whose whole distribution is cheap at every step
NEWTON_STEPS = 20
TOLERANCE = 1e-7  # nats per token that another step of Newton's method must gain
FITTED_ENTRIES = 1 << 21  # logarithms of probabilities that weights are fitted on, at the most


class Combination(ABC):
    """How two predictions are combined, by weights that are fitted.

    weights:  a row for each fitted quantity, a column for each of its features

    name:     of the combination
    default:  weights that are good on texts of many kinds, fitted by `benchmarks.mixture`
    prior:    how firmly fitted weights are held to them: the precision of a Gaussian
    """

    name: ClassVar[str]
    default: ClassVar[NDArray[np.float64]]
    prior: ClassVar[float]

    def __init__(self, weights: NDArray[np.float64] | None = None) -> None:
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
    def example(self, mixed: MixturePrediction, targets: Ids) -> Floats:
        """All that `fitted` needs of each position, (B, T, …)."""

    @classmethod
    @abstractmethod
    def example_size(cls, vocab: int) -> int:
        """The work for an example, in numbers that are read."""

    @abstractmethod
    def losses(self, examples: Floats) -> Floats:
        """−log p of the tokens of examples, in nats, (n,)."""

    @abstractmethod
    def fitted(self, examples: Floats) -> Self:
        """With the weights that predict these examples (n, …) best, see `prior`."""


class LogLinear(Combination):
    """p ∝ p_network^a · p_ngram^b. The exponents a and b need not add up to 1.

    Each is a weighted sum of: 1, log(1 + counts after the longest context), a quarter of its
    length, and the entropies of both distributions in nats.
    """

    name = "log-linear"
    prior = 100.0
    default = np.array([[0.28, 0.02, 0.12, -0.02, 0.04], [0.82, -0.01, -0.11, 0.11, -0.2]])

    def logprobs(self, mixed: MixturePrediction, targets: Ids) -> Floats:
        return _at(log_softmax(self.logits(mixed)), targets)

    def logits(self, mixed: MixturePrediction) -> Floats:
        of_parts, features = self._inputs(mixed)
        exponents = features @ self._columns
        z: Floats = np.matmul(exponents[..., None, :], of_parts)[..., 0, :]
        return z

    @cached_property
    def _columns(self) -> Floats:
        return self.weights.T.astype(np.float32)

    @staticmethod
    def _inputs(mixed: MixturePrediction) -> tuple[Floats, Floats]:
        """log p of every token by both parts, (B, T, 2, V−1), and the features, (B, T, 5)."""
        logits = mixed.network.logits()
        x = np.empty((*logits.shape[:2], 2, logits.shape[2]), np.float32)
        x[:, :, 0], x[:, :, 1] = logits, mixed.ngram.logits()
        x -= np.maximum.reduce(x, axis=-1, keepdims=True)
        p = np.exp(x)
        total = np.add.reduce(p, axis=-1, keepdims=True)
        x -= np.log(total)
        p /= total
        features = np.ones((*logits.shape[:2], 5), np.float32)
        features[..., 1] = mixed.ngram.log_total
        features[..., 2] = mixed.ngram.matched / 4
        features[..., 3:] = -np.vecdot(p, x)
        return x, features

    def example(self, mixed: MixturePrediction, targets: Ids) -> Floats:
        x, features = self._inputs(mixed)
        parts = (features, x.reshape(*targets.shape, -1), targets[..., None])
        return np.concatenate(parts, axis=-1, dtype=np.float32)

    @classmethod
    def example_size(cls, vocab: int) -> int:
        return vocab

    def losses(self, examples: Floats) -> Floats:
        F, x, targets = self._split(examples)
        return -self._logprobs(F, x)[np.arange(len(targets)), targets]

    def _split(self, examples: Floats) -> tuple[Floats, list[Floats], NDArray[np.int64]]:
        """The features, log p of both models, and the columns of the targets."""
        size = self.default.shape[1]
        x = np.split(examples[:, size:-1], 2, axis=1)
        return examples[:, :size], x, examples[:, -1].astype(np.int64) - 1

    def _logprobs(self, F: Floats, x: list[Floats]) -> Floats:
        a, b = (F @ self._columns).T[..., None]
        return log_softmax(a * x[0] + b * x[1])

    def fitted(self, examples: Floats) -> LogLinear:
        """Newton's method. The loss is convex in the weights, as in any log-linear model."""
        (F, x, targets), rows = self._split(examples), np.arange(len(examples))
        size, reached = self.default.shape[1], np.stack([part[rows, targets] for part in x])

        def loss(weights: NDArray[np.float64]) -> tuple[float, Floats]:
            logprobs = LogLinear(weights)._logprobs(F, x)
            prior = self.prior / 2 * ((weights - self.default) ** 2).sum()
            return prior - logprobs[rows, targets].sum(dtype=np.float64), np.exp(logprobs)

        def newton(weights: NDArray[np.float64], p: Floats) -> NDArray[np.float64]:
            weighted = [p * part for part in x]
            means = np.stack([w.sum(axis=1) for w in weighted])
            gradient = (means - reached) @ F + self.prior * (weights - self.default)
            hessian = np.empty((2, size, 2, size))
            for i in range(2):
                for j in range(2):
                    moment = np.einsum("nk,nk->n", weighted[i], x[j])
                    hessian[i, :, j] = (F * (moment - means[i] * means[j])[:, None]).T @ F
            flat = hessian.reshape(2 * size, -1) + self.prior * np.eye(2 * size)
            step = np.linalg.solve(flat, gradient.ravel()).astype(np.float64)
            return step.reshape(2, size)

        weights = self.default
        before, p = loss(weights)
        for _ in range(NEWTON_STEPS):
            step = newton(weights, p)
            after, p = loss(weights - step)
            while after > before and np.abs(step).max() > 1e-6:
                step = step / 2
                after, p = loss(weights - step)
            weights = weights - step
            if before - after < TOLERANCE * len(examples):
                break
            before = after
        return type(self)(weights)


class Linear(Combination):
    """p = (1−λ) p_network + λ p_ngram, for large vocabularies: it needs no whole distribution.

    The logit of λ is a weighted sum of: 1, log(1 + counts after the longest context), and the
    logarithm of what that context leaves to shorter ones (γ).
    """

    name = "linear"
    prior = 10.0
    default = np.array([[-0.3, -0.5, -1.45]])

    def logprobs(self, mixed: MixturePrediction, targets: Ids) -> Floats:
        of_network, of_ngram = (part.logprobs(targets) for part in (mixed.network, mixed.ngram))
        return _mixed(self._logit(mixed), of_network, of_ngram)

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
        features = np.ones((*mixed.ngram.contexts.shape[:2], 3), np.float32)
        features[..., 1] = mixed.ngram.log_total
        features[..., 2] = np.log(mixed.ngram.backoff + 1e-3)
        return features

    def example(self, mixed: MixturePrediction, targets: Ids) -> Floats:
        logprobs = (mixed.network.logprobs(targets), mixed.ngram.logprobs(targets))
        parts = (self._features(mixed), *(row[..., None] for row in logprobs))
        return np.concatenate(parts, axis=-1, dtype=np.float32)

    @classmethod
    def example_size(cls, vocab: int) -> int:
        return 32

    def losses(self, examples: Floats) -> Floats:
        size = self.default.shape[1]
        logit = examples[:, :size] @ self.weights[0].astype(np.float32)
        return -_mixed(logit, examples[:, size], examples[:, size + 1])

    def fitted(self, examples: Floats) -> Linear:
        """Expectation maximisation, with a Newton step for each maximisation."""
        size = self.default.shape[1]
        F, (of_network, of_ngram) = examples[:, :size].astype(np.float64), examples[:, size:].T
        ratio, weights = of_ngram.astype(np.float64) - of_network, self.default[0]
        for _ in range(NEWTON_STEPS):
            logit = F @ weights
            prior, posterior = 1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(-logit - ratio))
            gradient = F.T @ (posterior - prior) - self.prior * (weights - self.default[0])
            hessian = (F * (prior * (1 - prior))[:, None]).T @ F + self.prior * np.eye(size)
            weights = weights + np.linalg.solve(hessian, gradient)
        return type(self)(weights[None])


class Mixture:
    """An n-gram model, and how it is combined with a network.

    ngram:    of the training text
    weights:  of the combination; None for the default ones
    """

    def __init__(self, ngram: Ngram, weights: NDArray[np.float64] | None = None) -> None:
        self.ngram = ngram
        self.combination = (LogLinear if ngram.vocab <= MOST_LOG_LINEAR else Linear)(weights)

    def fitted(self, examples: Floats) -> Mixture:
        """With weights for these examples, (n, …) of `Combination.example`."""
        return Mixture(self.ngram, self.combination.fitted(examples).weights)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The input of `from_state`: small settings, and the tables of the n-gram model."""
        settings = {"mixture": self.combination.weights.tolist(), "vocab": self.ngram.vocab}
        return settings, self.ngram.tables.to_arrays()

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore a mixture. Raises ModelError for damaged tables or weights."""
        vocab = int(settings["vocab"])
        ngram = Ngram(NgramTables.from_arrays(arrays, vocab), vocab)
        return cls(ngram, np.array(settings["mixture"], np.float64))

    @property
    def most_examples(self) -> int:
        """The number of tokens that suffices for a fit, and takes about a second."""
        return FITTED_ENTRIES // self.combination.example_size(self.ngram.vocab)


class Predictors:
    """The predictors of one language model.

    backends:  of its network
    mixture:   what the network is combined with; None for the network alone
    """

    def __init__(self, backends: Backends, mixture: Mixture | None) -> None:
        self.backends, self.mixture = backends, mixture

    def __call__(self, tokens: int) -> Predictor:
        """The predictor for the next `tokens` tokens. Called before every batch."""
        return self.with_network(NetworkPredictor(self.backends(tokens)))

    @property
    def numpy(self) -> Predictor:
        """The predictor that runs the network in NumPy, the fastest for single steps."""
        return self.with_network(NetworkPredictor(self.backends.numpy))

    def with_network(self, network: Predictor) -> Predictor:
        """The predictor with this network, or what stands for it."""
        return MixturePredictor(network, self.mixture) if self.mixture else network


class MixturePredictor:
    """A network and an n-gram model as one `Predictor`. Its state holds the states of both.

    network:  the network, or what stands for it
    mixture:  the n-gram model, and how it is combined
    """

    def __init__(self, network: Predictor, mixture: Mixture) -> None:
        self.network, self.mixture = network, mixture
        self.at_once, self.one_text = network.at_once, network.one_text

    def initial_state(self, batch: int) -> State:
        """The zero state of both."""
        return [*self.network.initial_state(batch), *self.mixture.ngram.initial_state(batch)]

    def read(self, ids: Ids, state: State) -> tuple[MixturePrediction, State]:
        """See `Predictor.read`."""
        network, layers = self.network.read(ids, state[:-1])
        ngram, nodes = self.mixture.ngram.read(ids, state[-1:])
        return MixturePrediction(network, ngram, self.mixture.combination), [*layers, *nodes]


class MixturePrediction(Prediction):
    """What a network and an n-gram model predict together."""

    def __init__(
        self, network: Prediction, ngram: NgramPrediction, combination: Combination
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


def _mixed(logit: Floats, of_network: Floats, of_ngram: Floats) -> Floats:
    """log((1−λ) p_network + λ p_ngram), from the logit of λ."""
    zero = np.float32(0)
    share, rest = -np.logaddexp(zero, -logit), -np.logaddexp(zero, logit)  # log λ and log (1−λ)
    return np.logaddexp(rest + of_network, share + of_ngram)


def _at(logprobs: Floats, targets: Ids) -> Floats:
    """The entries of (…, V−1) for targets (…)."""
    return np.take_along_axis(logprobs, targets[..., None].astype(np.int64) - 1, -1)[..., 0]
