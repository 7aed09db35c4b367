"""The contract of everything that predicts the next token: a network, an n-gram, a mixture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from charlm.model.backend import Backend, Floats, Ids
from charlm.model.equations import LayerState
from charlm.model.numpy_network import log_softmax
from charlm.model.sequences import STEPS_AT_ONCE
from charlm.tokenizer import EOS, START, IntArray, as_inputs

# The state of a predictor after B sequences: a list of tuples of arrays (B, …). The arrays are
# NumPy's; those of a network in torch are torch's.
State = list[LayerState]
SMALLEST = np.float32(1e-30)  # probability, so that its logarithm is a number


def take(state: State, rows: Sequence[int]) -> State:
    """The state of some sequences, in this order. A row may be taken several times."""
    return [tuple(s[list(rows)] for s in layer) for layer in state]


def zero(state: State, rows: NDArray[np.bool_]) -> State:
    """The state with the zero state in some rows (B,), for arrays of NumPy."""
    return [tuple(s * ~rows.reshape(-1, *[1] * (s.ndim - 1)) for s in layer) for layer in state]


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

        Column k belongs to id k + 1. The caller may change the array.
        """

    @abstractmethod
    def last(self) -> Prediction:
        """The prediction after the last of the tokens alone, T = 1."""


class Predictor(Protocol):
    """Reads tokens, and predicts the next.

    at_once:   the most tokens of one call of `read`
    one_text:  it remembers all that it has read: it reads one text, from its start to its end, as
               one sequence
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


class Reader:
    """Reads texts with a common beginning, one token at a time, side by side.

    predictor:          reads the tokens
    ids:                (n,) the tokens of the beginning; without any, there is no prediction yet
    independent_lines:  a line end restores the zero state

    There is one row for each text; at first, one for the beginning.
    """

    _prediction: Prediction

    def __init__(
        self, predictor: Predictor, ids: IntArray, *, independent_lines: bool = False
    ) -> None:
        self._predictor, self._independent_lines = predictor, independent_lines
        self._state, self._rows = predictor.initial_state(1), [0]
        if len(ids):
            self.read(ids)

    def read(self, ids: IntArray) -> None:
        """Read tokens (n,), at least one, after the only text."""
        prediction, self._state = self._predictor.read(ids[None], self._state)
        self._prediction = prediction.last()

    def join(self, other: Reader) -> int:
        """Add the texts of another reader of the same predictor, in rows after the own ones.

        They predict from the next `extend` on. Returns the first of their rows.
        """
        first = len(self._rows)
        self._rows += range(len(self._rows), len(self._rows) + len(other._rows))
        self._state = [
            tuple(map(np.concatenate, zip(own, others, strict=True)))
            for own, others in zip(self._state, other._state, strict=True)
        ]
        return first

    def extend(self, rows: Sequence[int], ids: Sequence[int]) -> None:
        """Read one more token after each of these rows, which become the new rows.

        rows:  a row may come several times, or not at all
        ids:   `<EOS>` is read as `<START>`
        """
        inputs, state = np.array(ids), self._state
        if list(rows) != self._rows:
            state = take(state, rows)
        if EOS in ids:
            inputs = as_inputs(inputs)
            if self._independent_lines:
                state = zero(state, inputs == START)
        self._prediction, self._state = self._predictor.read(inputs[:, None], state)
        self._rows = list(range(len(rows)))

    def logits(self) -> Floats:
        """The logits of the next token after each text, (rows, V−1), see `Prediction.logits`."""
        return self._prediction.logits()[:, 0]

    def logprobs(self) -> Floats:
        """log p of every token as the next one, (rows, V)."""
        logprobs = log_softmax(self.logits())
        return np.pad(logprobs, ((0, 0), (1, 0)), constant_values=-np.inf)  # <START>
