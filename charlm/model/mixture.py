"""A language model is a mixture: a network and an n-gram model of the same text, combined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from charlm.errors import OptionError
from charlm.model.backend import Backends, Ids
from charlm.model.combination import Examples, Linear, LogLinear, MixturePrediction, Weights
from charlm.model.context_mixing import ContextMixing
from charlm.model.names import add_prefix, strip_prefix
from charlm.model.ngram import Ngram
from charlm.model.ngram_tables import NgramTables
from charlm.model.prediction import NetworkPredictor, Predictor, State

Counted: TypeAlias = Ngram | ContextMixing
CONTEXTS = "contexts"  # before the names of the arrays that are not those of the n-grams
MOST_LOG_LINEAR = 512  # token ids whose whole distribution is cheap at every step
FITTED_ENTRIES = 1 << 21  # logarithms of probabilities that weights are fitted on, at the most


class Mixture:
    """An n-gram model, and how it is combined with a network.

    ngram:    of the training text, alone or with other contexts
    weights:  of the combination; None for the default ones
    """

    def __init__(self, ngram: Counted, weights: Weights | None = None) -> None:
        self.ngram = ngram
        self.combination = (LogLinear if ngram.vocab <= MOST_LOG_LINEAR else Linear)(weights)

    def fitted(self, examples: Examples) -> Mixture:
        """With weights for these examples, (n,) of `Combination.example`."""
        return Mixture(self.ngram, self.combination.fitted(examples).weights)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The input of `from_state`: small settings, and the tables of the n-gram model."""
        settings = {"mixture": self.combination.weights.tolist(), "vocab": self.ngram.vocab}
        if isinstance(self.ngram, Ngram):
            return settings, self.ngram.tables.to_arrays()
        of_contexts = add_prefix(CONTEXTS, self.ngram.to_arrays())
        return settings, self.ngram.ngram.tables.to_arrays() | of_contexts

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore a mixture. Raises ModelError for damaged tables or weights."""
        vocab = int(settings["vocab"])
        ngram = Ngram(NgramTables.from_arrays(arrays, vocab), vocab)
        of_contexts = strip_prefix(CONTEXTS, arrays)
        counted = ContextMixing.from_arrays(ngram, of_contexts) if of_contexts else ngram
        return cls(counted, np.array(settings["mixture"], np.float64))

    @property
    def most_examples(self) -> int:
        """The number of tokens that suffices for a fit, and takes about a second."""
        return FITTED_ENTRIES // self.combination.example_size(self.ngram.vocab)


class Predictors:
    """The predictors of one language model.

    backends:  of its network
    mixture:   what the network is combined with; None for the network alone
    ngram_only:  the n-gram model of the mixture predicts alone

    numbers_of_a_step:  that the network reads for each token
    """

    numbers_of_a_step = 0
    _alone: Counted | None = None

    def __init__(
        self, backends: Backends, mixture: Mixture | None, ngram_only: bool = False
    ) -> None:
        self.backends, self.mixture = backends, mixture
        self._alone = mixture.ngram if mixture and ngram_only else None
        self.numbers_of_a_step = 0 if self._alone else int(backends.config.multiplied_weights())

    @property
    def is_ngram(self) -> bool:
        """Whether the n-gram model predicts alone."""
        return self._alone is not None

    def for_tokens(self, tokens: int) -> Predictor:
        """The predictor for the next `tokens` tokens, whose work this counts.

        Called before every batch.
        """
        if self._alone:
            return self._alone
        return self.with_network(NetworkPredictor(self.backends.for_tokens(tokens)))

    @property
    def numpy(self) -> Predictor:
        """The predictor that runs the network in NumPy, the fastest for single steps."""
        if self._alone:
            return self._alone
        return self.with_network(NetworkPredictor(self.backends.numpy))

    def with_network(self, network: Predictor) -> Predictor:
        """The predictor with this network, or a replacement for it."""
        if self._alone:
            raise OptionError("`ngram_only`: there is no network that could adapt")
        return MixturePredictor(network, self.mixture) if self.mixture else network


class MixturePredictor:
    """A network and an n-gram model as one `Predictor`.

    network:  the network, or a replacement for it
    mixture:  the n-gram model, and how it is combined

    Its state has the layers of the network, and then the layer of the n-gram model.
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
        ngram, contexts = self.mixture.ngram.read(ids, state[-1:])
        return MixturePrediction(network, ngram, self.mixture.combination), [*layers, *contexts]
