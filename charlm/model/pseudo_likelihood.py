"""Log-probabilities of tokens by a bidirectional network, which reads a line from both sides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from charlm.model.backend import Backend, Floats, Ids
from charlm.model.prediction import NetworkPrediction, NetworkPredictor, State
from charlm.model.sequences import by_length, outputs, pad


def pseudo_logprobs(backend: Backend, lines: Sequence[Ids]) -> list[Floats]:
    """log p(s[t] | all other tokens of s) in nats for every token of every line s, in their order.

    lines:  without `<EOS>`
    """

    def batch_logprobs(batch: Sequence[Ids]) -> Floats:
        return backend.logprobs(both_sides(backend, batch), pad(batch))

    return by_length(batch_logprobs, lines)


def one_sided_logprobs(backend: Backend, lines: Sequence[Ids], reverse: bool) -> list[Floats]:
    """log p(s[t] | s[:t]) in nats for every token of every line s, by the forward direction alone.

    reverse:  log p(s[t] | s[t+1:]) by the other direction
    """

    def batch_logprobs(batch: Sequence[Ids]) -> Floats:
        y = outputs(backend, batch, reverse)
        y = y[:, 1:] if reverse else y[:, :-1]
        return backend.logprobs(one_side(y, reverse), pad(batch))

    return by_length(batch_logprobs, lines)


def both_sides(backend: Backend, lines: Sequence[Ids]) -> Floats:
    """The encoder's output for each position from the tokens before and after it, (B, T, 2·H).

    T is the length of the lines after `pad`. Values past a line's end have no meaning.
    """
    before, after = outputs(backend, lines), outputs(backend, lines, reverse=True)
    return np.concatenate([before[:, :-1], after[:, 1:]], axis=-1)


class OneSidedPredictor(NetworkPredictor):
    """One direction of a bidirectional network, alone, as a `Predictor`.

    reverse:  the direction that reads from the end: what it reads comes in that order
    """

    def __init__(self, backend: Backend, reverse: bool) -> None:
        super().__init__(backend)
        self.reverse = reverse

    def read(self, ids: Ids, state: State) -> tuple[NetworkPrediction, State]:
        y, state = self.backend.read(ids, state, self.reverse)
        return NetworkPrediction(self.backend, one_side(y, self.reverse)), state


def one_side(y: Floats, reverse: bool) -> Floats:
    """One direction's output (…, H) beside zeros for the other one: (…, 2·H)."""
    nothing = np.zeros_like(y)
    return np.concatenate([nothing, y] if reverse else [y, nothing], axis=-1)
