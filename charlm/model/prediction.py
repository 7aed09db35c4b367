"""The contract of everything that predicts the next token: a network, an n-gram, a mixture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from charlm.model.backend import Backend, Floats, Ids
from charlm.model.sequences import STEPS_AT_ONCE

State = Any  # the predictor's own


class Prediction(ABC):
    """The distributions of the next token after each of T tokens of B sequences."""

    @property
    @abstractmethod
    def y(self) -> Floats:
        """The network's output at each position, (B, T, S); S is 0 without a network."""

    @abstractmethod
    def logprobs(self, targets: Ids) -> Floats:
        """log p(targets[b, t]) in nats, (B, T)."""

    @abstractmethod
    def logits(self) -> Floats:
        """log p of every token in nats, up to a constant for each position, (B, T, V−1).

        Column k belongs to id k + 1.
        """

    @abstractmethod
    def last(self) -> Prediction:
        """The prediction after the last of the tokens alone, T = 1."""


class Predictor(Protocol):
    """Reads tokens, and predicts the next.

    at_once:   the most tokens of one call of `read`
    one_text:  it remembers all that it has read, so a text must be read in one piece
    """

    at_once: int
    one_text: bool

    def initial_state(self, batch: int) -> State:
        """The state before anything is read, for `batch` sequences. `<START>` is read first."""
        ...

    def read(self, ids: Ids, state: State) -> tuple[Prediction, State]:
        """Read ids (B, T): the prediction after each of them, and the state after the last.

        The prediction is valid until the next call.
        """
        ...


# The predictor for the next n tokens. Called before every batch.
ChoosePredictor = Callable[[int], Predictor]


class NetworkPredictor:
    """A forward network as a `Predictor`.

    backend:  see `charlm.model.backend.Backend`
    """

    at_once, one_text = STEPS_AT_ONCE, False

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def initial_state(self, batch: int) -> State:
        """The zero state."""
        return self.backend.initial_state(batch)

    def read(self, ids: Ids, state: State) -> tuple[NetworkPrediction, State]:
        """See `Predictor.read`."""
        y, state = self.backend.read(ids, state)
        return NetworkPrediction(self.backend, y), state


class NetworkPrediction(Prediction):
    """What a network predicts after its outputs y (B, T, S)."""

    def __init__(self, backend: Backend, y: Floats) -> None:
        self.backend, self._y = backend, y

    @property
    def y(self) -> Floats:
        return self._y

    def logprobs(self, targets: Ids) -> Floats:
        return self.backend.logprobs(self.y, targets)

    def logits(self) -> Floats:
        return self.backend.logits(self.y)

    def last(self) -> NetworkPrediction:
        return NetworkPrediction(self.backend, self.y[:, -1:])
