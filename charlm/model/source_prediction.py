"""What an encoder–decoder predicts of targets, for given sources: the equations of inference.

See `charlm.model.attention`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.model.backend import Floats, Ids
from charlm.model.names import strip_prefix
from charlm.model.numpy_network import log_softmax
from charlm.model.prediction import SMALLEST, Prediction, State, take
from charlm.model.seq2seq_config import JUMPS, Seq2SeqConfig
from charlm.model.sequences import STEPS_AT_ONCE
from charlm.tokenizer import START

FAR = np.float32(-1e9)  # log p of a place where the attention cannot be
NUMBERS_AT_ONCE = 1 << 22

Indices = NDArray[np.int64]


class SourcePredictor:
    """A decoder with the memory of n sources. It is a `Predictor`.

    network:  a `NumpySeq2Seq` or its twin
    weights:  of the network
    sources:  ids of each, without line end

    Its state: the states of the decoder's layers; then the source of each row (B,) and, for a
    monotonic attention, p(place) before the next token (B, S), and log p of all tokens at each
    place (B, S, V − 1) — or, where these would be too many numbers, the decoder's output (B, H).
    """

    at_once, one_text = STEPS_AT_ONCE, False

    def __init__(self, network: Any, weights: Mapping[str, Floats], sources: Sequence[Ids]) -> None:
        self.network, self.size = network, len(sources)
        self.config: Seq2SeqConfig = network.config
        self.output = weights["output.weight"].T, weights["output.bias"]
        self.attention = strip_prefix("attention", weights)
        length = max((len(source) for source in sources), default=0)
        ids = np.zeros((max(length, 1), len(sources)), np.int64)
        for column, source in enumerate(sources):
            ids[: len(source), column] = source
        self.memory, self._starts = network.memory_of(ids)

    @property
    def is_monotonic(self) -> bool:
        return self.config.attention == "monotonic"

    def initial_state(self, batch: int) -> State:
        """The states before the targets of all sources; of a single one `batch` times."""
        rows = np.broadcast_to(np.arange(self.size), batch).copy()
        own: tuple[Any, ...] = (rows,)
        if self.is_monotonic:
            place = np.zeros((batch, self.memory.real.shape[1]), np.float32)
            place[:, 0] = 1.0
            own = rows, place, np.zeros((batch, self.config.hidden), np.float32)
        return [*take(self._starts, rows.tolist()), own]

    def read(self, ids: Ids, state: State) -> tuple[SourcePrediction, State]:
        """See `Predictor.read`."""
        *layers, (rows, *place) = state
        y, layers = self.network.read(ids, layers)
        if not self.is_monotonic:
            return SourcePrediction(self, rows, y), [*layers, (rows,)]
        p, before = place
        places: list[Floats] = []
        logprobs: list[Floats] = []
        for t, column in enumerate(ids.T):
            reached: Floats = p
            if (column != START).any():
                reached = p * self._written(rows, before, column)
                reached = np.where((column == START)[:, None], p, reached)
                reached /= np.maximum(reached.sum(axis=1, keepdims=True), SMALLEST)
            p = np.einsum("bs,bsr->br", reached, self._moves(rows, y[:, t]))
            before, of_step = self._at_places(rows, y[:, t], p)
            places.append(p)
            logprobs.append(of_step)
        return SourcePrediction(self, rows, y, logprobs, places), [*layers, (rows, p, before)]

    def _moves(self, rows: Indices, h: Floats) -> Floats:
        """p(s_t = r | s_{t−1} = s), (B, S, S), of the monotonic attention."""
        places = np.arange(self.memory.real.shape[1])
        distance = places - places[:, None]
        jumps = self.attention["jumps"][np.clip(distance, 0, JUMPS - 1)]
        jumps = np.where(distance < 0, FAR, jumps)
        moves = self._scores(rows, h)[:, None] + jumps
        return np.exp(log_softmax(np.where(self.memory.real[rows][:, None], moves, FAR)))

    def _scores(self, rows: Indices, h: Floats) -> Floats:
        """h·K e_s / √H, (B, S)."""
        assert self.memory.keys is not None
        scores = np.empty((len(rows), self.memory.real.shape[1]), np.float32)
        for part in self._parts(len(rows), h.shape[1]):
            keys = self.memory.keys[rows[part]]
            scores[part] = (keys @ h[part, :, None])[..., 0] / np.float32(h.shape[1] ** 0.5)
        return scores

    def _features(self, rows: Indices, h: Floats) -> Floats:
        """z (B, H) of the global attention, or (B, S, H) of the monotonic one."""
        assert self.memory.values is not None
        values, own = self.memory.values[rows], h @ self.attention["own"].T
        if self.is_monotonic:
            return np.tanh(values + own[:, None])
        scores = np.where(self.memory.real[rows], self._scores(rows, h), FAR)
        context = np.exp(log_softmax(scores))[:, None] @ values
        return np.tanh(context[:, 0] + own)

    def logprobs_at(self, rows: Indices, h: Floats) -> Floats:
        """log p of the next token, (B, V − 1), after outputs h (B, H). Not for a monotonic
        attention."""
        W, b = self.output
        if not self.config.attention:
            return log_softmax(h @ W + b)
        found = np.empty((len(rows), len(b)), np.float32)
        for part in self._parts(len(rows), max(h.shape[1], len(b))):
            found[part] = log_softmax(self._features(rows[part], h[part]) @ W + b)
        return found

    def _at_places(self, rows: Indices, h: Floats, p: Floats) -> tuple[Floats, Floats]:
        """What the next step has to know of this one, see the class; and log p of the next token.

        p:  (B, S) of the places
        """
        W, b = self.output
        shape = (*p.shape, len(b))
        kept = np.empty(shape, np.float32) if np.prod(shape) <= NUMBERS_AT_ONCE else None
        found = np.empty((len(rows), len(b)), np.float32)
        for part in self._parts(len(rows), max(h.shape[1], len(b))):
            logprobs = log_softmax(self._features(rows[part], h[part]) @ W + b)
            total = (p[part, None] @ np.exp(logprobs))[:, 0]
            found[part] = np.log(np.maximum(total, SMALLEST))
            if kept is not None:
                kept[part] = logprobs
        return h if kept is None else kept, found

    def shares_at(self, rows: Indices, h: Floats, p: Floats | None, ids: Ids) -> Floats:
        """(B, S), see `SourcePrediction.shares`."""
        real = self.memory.real[rows]
        if not self.config.attention:
            return np.zeros(real.shape, np.float32)
        if p is None:
            return np.exp(log_softmax(np.where(real, self._scores(rows, h), FAR)))
        shares = p * self._written(rows, h, ids)
        return shares / np.maximum(shares.sum(axis=1, keepdims=True), SMALLEST)

    def _written(self, rows: Indices, before: Floats, ids: Ids) -> Floats:
        """p(id | place), (B, S), of the monotonic attention. before: see the class"""
        W, b = self.output
        columns = np.maximum(ids.astype(np.int64) - 1, 0)[:, None, None]
        if before.ndim == 3:
            return np.exp(np.take_along_axis(before, columns, axis=2)[..., 0])
        found = np.empty((len(rows), self.memory.real.shape[1]), np.float32)
        for part in self._parts(len(rows), max(before.shape[1], len(b))):
            logprobs = log_softmax(self._features(rows[part], before[part]) @ W + b)
            found[part] = np.exp(np.take_along_axis(logprobs, columns[part], axis=2)[..., 0])
        return found

    def _parts(self, rows: int, numbers: int) -> Iterator[slice]:
        """Parts of rows that fit into `NUMBERS_AT_ONCE`. numbers: of each place of a row"""
        most = max(NUMBERS_AT_ONCE // (numbers * self.memory.real.shape[1]), 1)
        for start in range(0, rows, most):
            yield slice(start, start + most)


class SourcePrediction(Prediction):
    """The next token of targets, after the decoder's outputs y (B, T, H).

    rows:      (B,) the source of each target
    of_steps:  T times log p of the next token, (B, V − 1); None if it is not known yet
    places:    T times p(place), (B, S), of a monotonic attention
    """

    def __init__(
        self,
        predictor: SourcePredictor,
        rows: Indices,
        y: Floats,
        of_steps: Sequence[Floats] | None = None,
        places: Sequence[Floats] | None = None,
    ) -> None:
        self.predictor, self.rows, self._y = predictor, rows, y
        self.of_steps, self.places = of_steps, places

    @property
    def y(self) -> Floats:
        return self._y

    @cached_property
    def _logprobs(self) -> Floats:
        of_steps = self.of_steps
        if of_steps is None:
            steps = self._y.swapaxes(0, 1)
            of_steps = [self.predictor.logprobs_at(self.rows, y) for y in steps]
        return np.stack(of_steps, axis=1)

    def logits(self) -> Floats:
        return self._logprobs

    def logprobs(self, targets: Ids) -> Floats:
        columns = targets.astype(np.int64)[..., None] - 1
        return np.take_along_axis(self._logprobs, columns, axis=2)[..., 0]

    def shares(self, targets: Ids) -> Floats:
        """(B, T, S) how much the decoder looked at each token of the source for these tokens.

        They sum to 1 for each token of a target, and are 0 without attention. For a monotonic
        attention they are p(place | the target up to here).
        """
        of_steps = []
        for t, ids in enumerate(targets.T):
            p = None if self.places is None else self.places[t]
            of_steps.append(self.predictor.shares_at(self.rows, self._y[:, t], p, ids))
        return np.stack(of_steps, axis=1)

    def last(self) -> SourcePrediction:
        of_steps = None if self.of_steps is None else self.of_steps[-1:]
        places = None if self.places is None else self.places[-1:]
        return SourcePrediction(self.predictor, self.rows, self._y[:, -1:], of_steps, places)
