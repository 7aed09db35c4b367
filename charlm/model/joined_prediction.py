"""A network and a joint n-gram model together: p ∝ p_network^a · p_joint^b, for each token."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from charlm.model.backend import Floats, Ids
from charlm.model.lattice import Lattice, LatticePrediction
from charlm.model.numpy_network import log_softmax
from charlm.model.prediction import Prediction, State
from charlm.model.sequences import STEPS_AT_ONCE
from charlm.model.source_prediction import SourcePrediction, SourcePredictor

LEAST = np.float32(1e-4)  # what a token has by the n-grams that cannot write it


class JoinedPredictor:
    """Both halves. It is a `Predictor`; its state is that of the network, then of the lattice.

    powers:  (a, b)
    """

    at_once, one_text = STEPS_AT_ONCE, False

    def __init__(
        self, network: SourcePredictor, lattice: Lattice, powers: tuple[float, float]
    ) -> None:
        self.network, self.lattice, self.powers = network, lattice, powers

    def initial_state(self, batch: int) -> State:
        return [*self.network.initial_state(batch), *self.lattice.initial_state(batch)]

    def read(self, ids: Ids, state: State) -> tuple[JoinedPrediction, State]:
        """See `Predictor.read`."""
        by_network, of_network = self.network.read(ids, state[:-1])
        by_lattice, of_lattice = self.lattice.read(ids, state[-1:])
        return JoinedPrediction(self.powers, by_network, by_lattice), [*of_network, *of_lattice]


class JoinedPrediction(Prediction):
    """The next token of targets by both halves."""

    def __init__(
        self, powers: tuple[float, float], network: SourcePrediction, lattice: LatticePrediction
    ) -> None:
        self.powers, self.network, self.lattice = powers, network, lattice

    @property
    def y(self) -> Floats:
        return self.network.y

    @cached_property
    def _logprobs(self) -> Floats:
        a, b = self.powers
        joint = np.log(np.maximum(self.lattice.p, LEAST))
        return log_softmax((a * self.network.logits() + b * joint).astype(np.float32))

    def logits(self) -> Floats:
        return self._logprobs.copy()

    def logprobs(self, targets: Ids) -> Floats:
        columns = targets.astype(np.int64)[..., None] - 1
        return np.take_along_axis(self._logprobs, columns, axis=2)[..., 0]

    def with_powers(self, powers: tuple[float, float]) -> JoinedPrediction:
        """The same with other powers."""
        return JoinedPrediction(powers, self.network, self.lattice)

    def last(self) -> JoinedPrediction:
        return JoinedPrediction(self.powers, self.network.last(), self.lattice.last())
