"""Running a network with NumPy alone: it starts at once, and one stream steps faster than torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from charlm.model.config import ModelConfig
from charlm.model.equations import CELLS, Parameters, State

Floats = NDArray[np.float32]
Ids = NDArray[np.integer]

# With a small vocabulary W·x + b is a row of a table, made once; past this many entries
# (gates × tokens) making it costs more than it saves.
TABLE_ENTRIES = 2_000_000
NORM_EPSILON = 1e-5


class Stepper:
    """A network's forward pass on the CPU, float32, without torch.

    It and `network.Network` offer the same two methods, `initial_state` and `logprobs`, so that
    whoever measures text need not know which one runs.
    """

    def __init__(self, config: ModelConfig, weights: Mapping[str, Floats]) -> None:
        self.config = config
        self.cell = CELLS[config.cell]
        self.embedding = weights["embedding"]
        self.layers = [
            Parameters(**{name: weights[f"layers.{layer}.{name}"] for name in self._names})
            for layer in range(config.layers)
        ]
        self.gain, self.bias = weights["norm.gain"], weights["norm.bias"]
        # <START>, id 0, is never predicted: output row k belongs to id k + 1.
        self.output = self.embedding[1:] if config.tied else weights["output.W"]
        self.output_bias = weights["output.b"]
        self._table: Floats | None = None
        if config.vocab * self.layers[0].b.size <= TABLE_ENTRIES:
            self._table = self.embedding @ self.layers[0].W.T + self.layers[0].b

    @property
    def _names(self) -> tuple[str, ...]:
        return ("W", "U", "b", *self.cell.vectors)

    def initial_state(self, batch: int) -> list[State]:
        """The zero state of every layer: tuples of arrays (batch, H)."""
        shape = (batch, self.config.hidden)
        return [tuple(np.zeros(shape, np.float32) for _ in self.cell.state) for _ in self.layers]

    def step(self, ids: Ids, state: list[State]) -> tuple[Floats, list[State]]:
        """Read one token in each of B streams.

        ids (B,) and the state before them -> logits (B, V-1) of what comes next, where column k
        belongs to id k + 1, and the state after them.
        """
        after: list[State] = []
        for p, before in zip(self.layers, state, strict=True):
            gates = after[-1][0] @ p.W.T + p.b if after else self._first_gates(ids)
            after.append(self.cell.step(p, gates, before))
        return self._logits(after[-1][0]), after

    def logprobs(
        self, inputs: Ids, targets: Ids, state: list[State]
    ) -> tuple[NDArray[np.float32], list[State]]:
        """log p(targets[b, t] | inputs[b, :t+1], state) in nats, (B, T), and the state after."""
        found = np.empty(targets.shape, np.float32)
        for t in range(targets.shape[1]):
            logits, state = self.step(inputs[:, t], state)
            found[:, t] = target_logprobs(logits, targets[:, t])
        return found, state

    def _first_gates(self, ids: Ids) -> Floats:
        if self._table is not None:
            return self._table[ids]
        return self.embedding[ids] @ self.layers[0].W.T + self.layers[0].b

    def _logits(self, h: Floats) -> Floats:
        centred = h - h.mean(axis=-1, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        y = centred / np.sqrt(variance + NORM_EPSILON) * self.gain + self.bias
        return y @ self.output.T + self.output_bias


def log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def target_logprobs(logits: Floats, targets: Ids) -> Floats:
    """The log-probability of each target id (..., ) under logits (..., V-1)."""
    columns = np.asarray(targets, np.int64)[..., None] - 1
    return np.take_along_axis(log_softmax(logits), columns, axis=-1)[..., 0]
