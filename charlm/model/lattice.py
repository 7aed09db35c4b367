"""A lattice: all that a joint n-gram model writes for a source, as a Markov chain over places."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.model.backend import Floats, Ids
from charlm.model.groups import best_of_each, repeated
from charlm.model.prediction import SMALLEST, Prediction, State
from charlm.tokenizer import START

Indices = NDArray[np.int64]
PLACES = 16  # that a row is in


class Lattice(NamedTuple):
    """A Markov chain over places, which writes targets of n sources token by token.

    It is a `Predictor`. Its state are the places where a target may be, and their probabilities.

    firsts:   (n,) the place before each target
    starts:   (P + 1,) the steps from place k are starts[k] … starts[k + 1] − 1
    symbols:  (E,) the token that a step writes
    nexts:    (E,) the place after it
    p:        (E,) float32, its probability; those of a place sum to 1
    vocab:    number of target ids V
    """

    firsts: Indices
    starts: Indices
    symbols: Indices
    nexts: Indices
    p: Floats
    vocab: int

    def initial_state(self, batch: int) -> State:
        """The places before the targets of all sources; of a single one `batch` times."""
        places, weights = np.zeros((batch, PLACES), np.int64), np.zeros((batch, PLACES), np.float32)
        places[:, 0], weights[:, 0] = self.firsts, 1.0
        return [(places, weights)]

    def read(self, ids: Ids, state: State) -> tuple[LatticePrediction, State]:
        """See `Predictor.read`. A target that it cannot write leads to no place."""
        ((places, weights),) = state
        states = []
        for column in ids.T:
            places, weights = self._after(column, places, weights)
            states.append((places, weights))
        return LatticePrediction(self, states), [(places, weights)]

    def steps(self, places: Indices, weights: Floats) -> tuple[Indices, Indices, Floats]:
        """The steps from places (B, A) with these weights: rows, steps, and probabilities."""
        rows, columns = np.nonzero(weights)
        own = places[rows, columns]
        which, offsets = repeated(self.starts[own + 1] - self.starts[own])
        steps = self.starts[own][which] + offsets
        return rows[which], steps, weights[rows, columns][which] * self.p[steps]

    def _after(self, ids: Ids, places: Indices, weights: Floats) -> tuple[Indices, Floats]:
        """The places after one more token of each row, and their probabilities."""
        rows, steps, p = self.steps(places, weights)
        fits = self.symbols[steps] == ids[rows]
        keys = rows[fits] * len(self.starts) + self.nexts[steps[fits]]
        keys, inverse = np.unique(keys, return_inverse=True)
        p = np.bincount(inverse, p[fits], len(keys)).astype(np.float32)
        rows, nexts = np.divmod(keys, len(self.starts))
        kept, ranks = best_of_each(rows, p, PLACES)
        after, of_places = np.zeros_like(places), np.zeros_like(weights)
        after[rows[kept], ranks], of_places[rows[kept], ranks] = nexts[kept], p[kept]
        of_places /= np.maximum(of_places.sum(axis=1, keepdims=True), SMALLEST)
        unread = ids == START
        after[unread], of_places[unread] = places[unread], weights[unread]
        return after, of_places


class LatticePrediction(Prediction):
    """The next token of targets, after each of T tokens. What a lattice cannot write has p = 0.

    states:  T times the places and their weights
    """

    def __init__(self, lattice: Lattice, states: Sequence[tuple[Indices, Floats]]) -> None:
        self.lattice, self.states = lattice, states

    @property
    def y(self) -> Floats:
        return np.zeros((len(self.states[0][0]), len(self.states), 0), np.float32)

    @cached_property
    def p(self) -> Floats:
        """(B, T, V − 1), column k belongs to id k + 1. All 0 after what the lattice cannot
        write."""
        columns = self.lattice.vocab - 1
        of_steps = []
        for places, weights in self.states:
            rows, steps, p = self.lattice.steps(places, weights)
            entries = rows * columns + self.lattice.symbols[steps] - 1
            table = np.bincount(entries, p, len(places) * columns)
            of_steps.append(table.reshape(len(places), columns).astype(np.float32))
        return np.stack(of_steps, axis=1)

    def logits(self) -> Floats:
        return np.log(np.maximum(self.p, SMALLEST))

    def logprobs(self, targets: Ids) -> Floats:
        found = np.take_along_axis(self.p, targets[..., None].astype(np.int64) - 1, axis=2)
        return np.log(np.maximum(found[..., 0], SMALLEST))

    def last(self) -> LatticePrediction:
        return LatticePrediction(self.lattice, self.states[-1:])
