"""Running a network with NumPy alone: it starts at once, and one stream steps faster than torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from charlm.model.config import ModelConfig
from charlm.model.equations import NORM_EPSILON, Array, Parameters, State, relu, sigmoid, split

Floats = NDArray[np.float32]
Ids = NDArray[np.integer]

# With a small vocabulary W·x + b is a row of a table, made once; past this many entries
# (gates × tokens) making it costs more than it saves.
TABLE_ENTRIES = 2_000_000
ENTRIES_AT_ONCE = 1 << 22  # logits


class Stepper:
    """A network's forward pass on the CPU, float32, without torch.

    It and `network.Network` offer the same methods to whoever measures text, which need not know
    which one runs: those of `likelihood.Backend`.
    """

    def __init__(self, config: ModelConfig, weights: Mapping[str, Floats]) -> None:
        self.config = config
        self.embedding = weights["embedding"]
        self.spelled = weights.get("spelled")
        self.highway = [_below(f"highway.{k}", weights) for k in range(config.highway)]
        self.feedforward = [_below(f"feedforward.{k}", weights) for k in range(config.feedforward)]
        self.gain, self.bias = weights["norm.gain"], weights["norm.bias"]
        # y·mean is the mean over features: as a product five times as fast as np.mean for one row
        self.mean = np.full((len(self.gain), 1), 1 / len(self.gain), np.float32)
        self.output = _parts(config, weights)
        self.layers = _Stack(self, "layers", weights)
        self.reverse = _Stack(self, "reverse", weights) if config.bidirectional else None

    def initial_state(self, batch: int) -> list[State]:
        """The zero state of every layer of one direction: tuples of arrays (batch, H)."""
        shape = (batch, self.config.hidden)
        names = self.config.recurrence.state
        return [
            tuple(np.zeros(shape, np.float32) for _ in names) for _ in range(self.config.layers)
        ]

    def step(self, ids: Ids, state: list[State]) -> tuple[Floats, list[State]]:
        """Read one token in each of B streams.

        ids (B,) and the state before them -> logits (B, V-1) of what comes next, where column k
        belongs to id k + 1, and the state after them.
        """
        y, state = self.layers.step(ids, state)
        return self.logits(y), state

    def read(
        self, ids: Ids, state: list[State], reverse: bool = False
    ) -> tuple[Floats, list[State]]:
        """The output of the top recurrent layer after each of the ids (B, T), (B, T, H), and the
        state after; `reverse` is the direction that reads lines from their ends."""
        stack = self.reverse if reverse else self.layers
        assert stack is not None
        found = np.empty((*ids.shape, self.config.hidden), np.float32)
        for t in range(ids.shape[1]):
            found[:, t], state = stack.step(ids[:, t], state)
        return found, state

    def logprobs(self, y: Floats, targets: Ids) -> Floats:
        """log p(targets[b, t]) in nats, (B, T), after y (B, T, H), or (B, T, 2·H) with both
        directions."""
        rows = max(ENTRIES_AT_ONCE // self.config.vocab, 1)
        flat, columns = y.reshape(-1, y.shape[-1]), targets.ravel().astype(np.int64) - 1
        found = np.empty(len(flat), np.float32)
        for start in range(0, len(flat), rows):
            part = slice(start, start + rows)
            found[part] = self._target_logprobs(self._features(flat[part]), columns[part])
        return found.reshape(targets.shape)

    def _target_logprobs(self, features: Floats, columns: NDArray[np.int64]) -> Floats:
        """log p(columns[n]) after features (N, H): the tails are only asked where they matter."""
        cutoffs = self.config.cutoffs
        tail = np.searchsorted(cutoffs, columns, side="right")
        rows = np.where(tail > 0, cutoffs[0] - 1 + tail, columns) if cutoffs else columns
        found: Floats = self._log_softmax(features, 0)[np.arange(len(rows)), rows]
        for j, first in enumerate(cutoffs, 1):
            inside = np.flatnonzero(tail == j)
            within = self._log_softmax(features[inside], j)
            found[inside] += within[np.arange(len(inside)), columns[inside] - first]
        return found

    def _log_softmax(self, features: Floats, part: int) -> Floats:
        W, b = self.output[part]
        return log_softmax(features @ W.T + b)

    def logits(self, y: Floats) -> Floats:
        """(…, V-1) after y (…, H), or (…, 2·H) with both directions; column k is of id k + 1.

        Those of a split softmax are log-probabilities.
        """
        features, cutoffs = self._features(y), self.config.cutoffs
        if not cutoffs:
            W, b = self.output[0]
            return features @ W.T + b
        head, *tails = (self._log_softmax(features, part) for part in range(len(self.output)))
        of_tails = head[..., cutoffs[0] :, None]
        within = [of_tails[..., j, :] + tail for j, tail in enumerate(tails)]
        return np.concatenate([head[..., : cutoffs[0]], *within], axis=-1)

    def _features(self, y: Floats) -> Floats:
        """What the softmax reads, (…, H)."""
        for p in self.feedforward:
            y = relu(y @ p["W"].T + p["b"])
        centred = y - y @ self.mean
        variance = (centred * centred) @ self.mean
        return centred / np.sqrt(variance + NORM_EPSILON) * self.gain + self.bias

    def vectors(self, ids: Ids) -> Floats:
        """What the first layer reads for these ids, (…, inputs)."""
        x: Floats = self.embedding[ids]
        if self.spelled is not None:
            x = np.concatenate([x, self.spelled[ids]], axis=-1)
        for p in self.highway:
            transform = sigmoid(x @ p["W_T"].T + p["b_T"])
            x = x + transform * (relu(x @ p["W"].T + p["b"]) - x)
        return x


class _Stack:
    """The recurrent layers of one direction."""

    def __init__(self, stepper: Stepper, name: str, weights: Mapping[str, Floats]) -> None:
        config = stepper.config
        self.vectors, self.residual, self.layer_norm = (
            stepper.vectors, config.residual, config.layer_norm
        )  # fmt: skip
        cell, below = config.recurrence, [f"{name}.{k}" for k in range(config.layers)]
        self.weights = [
            {part: _laid_out(w) for part, w in _below(layer, weights).items()} for layer in below
        ]
        faster = cell.fused == "lstm" and not config.layer_norm
        self.steps: list[Callable[[Floats, State], State]] = [
            _LSTM(w) if faster else partial(cell.step, Parameters(cell, w)) for w in self.weights
        ]
        # With residual connections the vector itself is needed, too.
        around_first = config.residual and config.inputs == config.hidden
        self.table: Floats | None = None
        if config.vocab * self.weights[0]["b"].size <= TABLE_ENTRIES and not around_first:
            self.table = self._gates(0, self.vectors(np.arange(config.vocab)))

    def step(self, ids: Ids, state: list[State]) -> tuple[Floats, list[State]]:
        """ids (B,) and the state before -> the top layer's output (B, H), and the state after."""
        after: list[State] = []
        x = None if self.table is not None else self.vectors(ids)
        for k, (step, before) in enumerate(zip(self.steps, state, strict=True)):
            if x is None and self.table is not None:
                gates = self.table.take(ids, axis=0)
            else:
                gates = self._gates(k, x)
            after.append(step(gates, before))
            y = after[-1][0]
            x = x + y if self.residual and x is not None and x.shape == y.shape else y
        assert x is not None
        return x, after

    def _gates(self, layer: int, x: Array) -> Floats:
        w = self.weights[layer]
        product: Floats = x @ w["W"].T
        return product if self.layer_norm else product + w["b"]


def _laid_out(w: Floats) -> Floats:
    """A copy, of a matrix column by column: products with few rows read that from memory faster."""
    columns = np.empty(w.shape, np.float32, order="F")
    for first in range(0, len(w), 16):  # a block at a time fits the cache
        columns[first : first + 16] = w[first : first + 16]
    return columns


class _LSTM:
    """The step of `equations.lstm` with one tanh for all gates, as σ(a) = tanh(a/2) / 2 + 1/2.

    It halves the rows of i, f and o in `weights`, so that x, too, has a/2 for those.
    """

    def __init__(self, weights: Mapping[str, Floats]) -> None:
        self.scale = np.repeat(np.array([0.5, 0.5, 1, 0.5], np.float32), len(weights["b"]) // 4)
        self.shift = 1 - self.scale
        for w in weights.values():
            w *= self.scale if w.ndim == 1 else self.scale[:, None]
        self.U = weights["U"]

    def __call__(self, x: Floats, state: State) -> State:
        h, c = state
        a = h @ self.U.T
        a += x
        np.tanh(a, out=a)
        a *= self.scale
        a += self.shift
        i, f, g, o = split(a, 1, 1, 1, 1)
        c = f * c + i * g
        return o * np.tanh(c), c


def _below(prefix: str, weights: Mapping[str, Floats]) -> dict[str, Floats]:
    """The weights of one layer, by their names within it."""
    start = f"{prefix}."
    return {name.removeprefix(start): w for name, w in weights.items() if name.startswith(start)}


def _parts(config: ModelConfig, weights: Mapping[str, Floats]) -> list[tuple[Floats, Floats]]:
    """W and b of the head's softmax, whose last rows stand for the tails, and of each tail's.

    `<START>`, id 0, is never predicted: row k belongs to id k + 1.
    """
    W = weights["embedding"][1:] if config.tied else weights["output.W"]
    b, cutoffs = weights["output.b"], config.cutoffs
    if not cutoffs:
        return [(W, b)]
    head = slice(0, cutoffs[0])
    parts = [
        (np.concatenate([W[head], weights["output.W_tail"]]),
         np.concatenate([b[head], weights["output.b_tail"]])),
    ]  # fmt: skip
    return parts + [(W[a:z], b[a:z]) for a, z in pairwise((*cutoffs, len(b)))]


def log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
