"""An encoder–decoder in NumPy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.model.names import strip_prefix
from charlm.model.numpy_network import NumpyStack
from charlm.model.numpy_sequences import Floats, Ids, NumpySequenceNetwork, Weights
from charlm.model.prediction import State
from charlm.model.seq2seq_config import Seq2SeqConfig


class Memory(NamedTuple):
    """What a decoder knows of n sources.

    keys, values:  (n, S, H), see `charlm.model.attention`; None without attention
    real:          (n, S) the tokens of the sources, and not what fills them up; of an empty source
                   the first place
    """

    keys: Floats | None
    values: Floats | None
    real: NDArray[np.bool_]


class NumpySeq2Seq:
    """The forward pass of a `Seq2Seq`, float32."""

    def __init__(self, config: Seq2SeqConfig, weights: Weights) -> None:
        self.config, self.weights = config, weights
        self._encoder = NumpySequenceNetwork(config.source, strip_prefix("source", weights))
        embedding = weights["embedding"]
        layers = strip_prefix("layers", weights)
        self._stack = NumpyStack(config, layers, lambda ids: embedding[ids], config.vocab)

    def memory_of(self, ids: Ids) -> tuple[Memory, State]:
        """The memory of sources (S, n), and the states that the decoder starts with."""
        w, y, half = self.weights, self._encoder.states(ids), self.config.hidden
        last = np.maximum((ids != 0).sum(axis=0) - 1, 0)
        real = np.arange(len(ids))[:, None] <= last
        ends = np.concatenate([y[last, np.arange(len(last)), :half], y[0, :, half:]], axis=1)
        starts = np.tanh(ends @ w["start.weight"].T + w["start.bias"])
        parts = len(self.config.recurrence.state)
        split = np.split(starts, self.config.layers * parts, axis=1)
        states: State = [tuple(split[k : k + parts]) for k in range(0, len(split), parts)]
        if not self.config.attention:
            return Memory(None, None, real.T), states
        attention = strip_prefix("attention", w)
        keys, values = y @ attention["keys"].T, y @ attention["values"].T + attention["bias"]
        return Memory(_by_source(keys), _by_source(values), real.T), states

    def read(self, ids: Ids, states: State) -> tuple[Floats, State]:
        """The decoder's states after each of the ids (B, T), (B, T, H), and the state after."""
        y = np.empty((*ids.shape, self.config.hidden), np.float32)
        for t in range(ids.shape[1]):
            y[:, t], states = self._stack.step(ids[:, t], states)
        return y, states


def _by_source(y: Floats) -> Floats:
    """(S, n, H) -> (n, S, H)."""
    return np.ascontiguousarray(y.swapaxes(0, 1))
