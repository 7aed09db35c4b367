"""The values of hidden units: the states and the gates of recurrent layers along sequences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from charlm.model.config import StackConfig
from charlm.model.equations import Array, Cell, LayerState, Parameters
from charlm.model.names import strip_prefix
from charlm.model.numpy_sequences import Floats, Ids, Weights, reverse_in_time

FORWARDS, BACKWARDS = "forwards", "backwards"
STATES = {"h": "hidden state", "c": "cell state"}
GATES = {
    "i": "input gate", "f": "forget gate", "o": "output gate", "r": "reset gate", "u": "update gate"
}  # fmt: skip
CANDIDATES = {"g": "candidate", "n": "candidate"}
QUANTITIES = STATES | GATES | CANDIDATES  # by the letters of `Cell`
VALUES_AT_ONCE = 1 << 22


class ObservedParameters(Parameters):
    """Parameters that keep the gates of the last step, (B, H) each, by their letters."""

    def __init__(self, cell: Cell, weights: Weights, networks: int = 1) -> None:
        super().__init__(cell, weights)
        self.gates: dict[str, Array] = {}
        self.networks = networks

    def normalised(self, a: Array, gates: int, gain: Array, bias: Array | None) -> Array:
        return super().normalised(a, gates * self.networks, gain, bias)

    def gate(self, name: str, value: Array) -> Array:
        self.gates[name] = value
        return value


def block_diagonal(networks: Sequence[Weights], hidden: int) -> Weights:
    """The recurrent layers of several networks as those of one, whose units are all of theirs.

    networks:  the weights of each by "layer.weight"
    hidden:    features H of each layer's hidden state, of each network
    """
    count = len(networks)

    def joined(name: str) -> Floats:
        # (gates, H, …) of each: the gates of all networks lie together.
        each = [w[name].reshape(-1, hidden, *w[name].shape[1:]) for w in networks]
        if each[0].ndim == 2:
            return np.concatenate(each, axis=1).reshape(-1)
        gates, _, columns = each[0].shape
        blocks = np.zeros((gates, count, hidden, count, columns), np.float32)
        for k, block in enumerate(each):
            blocks[:, k, :, k] = block
        return blocks.reshape(gates * count * hidden, count * columns)

    return {name: joined(name) for name in networks[0]}


class Observed(NamedTuple):
    """The values of a layer of one direction, at S steps of B sequences.

    layer:     from 0
    backwards: it reads from the end
    places:    (S, B) what stood for these steps in the `places` of `ObservedStack.observe`
    values:    by the letters of states and gates, (S, B, H) each
    """

    layer: int
    backwards: bool
    places: Ids
    values: Mapping[str, Floats]


@dataclass(frozen=True)
class ObservedStack:
    """Recurrent layers, and what the first of them reads.

    cell:      of all layers
    residual:  a layer's input is added to its output where both have the same size
    layers:    of each layer, the weights of each direction: `FORWARDS`, `BACKWARDS`
    table:     (R, I) the vectors that the first layer reads
    before:    the row of the table that is read before a sequence; None for none
    start:     the state before a sequence, arrays (1, H) for each layer; None for the zero state
    networks:  that the weights are of, see `block_diagonal`
    """

    cell: Cell
    residual: bool
    layers: Sequence[Mapping[str, Weights]]
    table: Floats
    before: int | None = None
    start: Sequence[LayerState] | None = None
    networks: int = 1

    @classmethod
    def of(
        cls,
        config: StackConfig,
        weights: Weights,
        table: Floats,
        *,
        direction: str = FORWARDS,
        before: int | None = None,
        start: Sequence[LayerState] | None = None,
        networks: int = 1,
    ) -> ObservedStack:
        """The layers of a network.

        weights:    by "layer.weight", or by "layer.direction.weight" for layers of two directions
        direction:  of layers of one direction
        """
        layers = []
        for k in range(config.layers):
            own = strip_prefix(str(k), weights)
            both = {d: strip_prefix(d, own) for d in (FORWARDS, BACKWARDS)}
            layers.append(both if both[FORWARDS] else {direction: own})
        return cls(config.recurrence, config.residual, layers, table, before, start, networks)

    @property
    def hidden(self) -> int:
        """Units of each layer and direction."""
        weights = next(iter(self.layers[0].values()))
        return len(weights["b"]) // len(self.cell.gates)

    @cached_property
    def quantities(self) -> str:
        """The letters of the states and gates that each unit has."""
        step = np.zeros((1, 1), np.int64)
        observed = next(self.observe(step, step, np.ones(1, np.int64)))
        return "".join(q for q in self.cell.state + self.cell.gates if q in observed.values)

    def shuffled(self, rng: np.random.Generator) -> ObservedStack:
        """The layers with the weights in each row of each matrix in random order.

        The network has the same weights, biases and input vectors, but nothing that it has learnt.
        """
        layers = [
            {
                direction: {n: rng.permuted(w, axis=1) if w.ndim > 1 else w for n, w in own.items()}
                for direction, own in layer.items()
            }
            for layer in self.layers
        ]
        return replace(self, layers=layers)

    def observe(self, rows: Ids, places: Ids, lengths: Ids) -> Iterator[Observed]:
        """The values at every step of B sequences, layer by layer, in pieces of a few steps.

        rows:     (T, B) of the table
        places:   (T, B) comes back in `Observed`, in the order of the steps
        lengths:  (B,) steps of each sequence; what follows them is read, and means nothing
        """
        x = self.table[rows]
        for k, layer in enumerate(self.layers):
            outputs = []
            for direction, weights in layer.items():
                backwards = direction == BACKWARDS
                own, of_steps = x, places
                if backwards:
                    own, of_steps = reverse_in_time(x, lengths), reverse_in_time(places, lengths)
                y = np.empty((*rows.shape, self.hidden), np.float32)
                done = 0
                for values in self._run(weights, own, k):
                    steps = slice(done, done + len(values["h"]))
                    y[steps] = values["h"]
                    yield Observed(k, backwards, of_steps[steps], values)
                    done = steps.stop
                outputs.append(reverse_in_time(y, lengths) if backwards else y)
            y = np.concatenate(outputs, axis=-1) if len(outputs) > 1 else outputs[0]
            x = x + y if self.residual and x.shape == y.shape else y

    def _run(self, weights: Weights, x: Floats, layer: int) -> Iterator[dict[str, Floats]]:
        """The values of a few steps at a time, (S, B, H) each."""
        batch, cell = x.shape[1], self.cell
        p = ObservedParameters(cell, weights, self.networks)
        state: LayerState = tuple(np.zeros((batch, self.hidden), np.float32) for _ in cell.state)
        if self.start is not None:
            state = tuple(np.repeat(s, batch, axis=0) for s in self.start[layer])
        steps = max(VALUES_AT_ONCE // (batch * self.hidden * (len(cell.gates) + 2)), 1)
        for first in range(0, len(x), steps):
            gates = x[first : first + steps] @ weights["W"].T
            gates += 0 if p.layer_norm else weights["b"]
            kept = []
            for own in gates:
                state = cell.step(p, own, state)
                kept.append(dict(zip(cell.state, state, strict=True)) | p.gates)
            yield {name: np.stack([values[name] for values in kept]) for name in kept[0]}
