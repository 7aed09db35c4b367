"""The network in NumPy: it starts at once, and steps one stream faster than torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from charlm.model.config import ModelConfig, StackConfig
from charlm.model.equations import NORM_EPSILON, Parameters, relu, sigmoid, split
from charlm.model.equations import LayerState as State
from charlm.model.names import strip_prefix

Floats = NDArray[np.float32]
Ids = NDArray[np.integer]
Weights = Mapping[str, Floats]

# With a small vocabulary W·x + b is a row of a table that is computed once. A table of more
# entries (gates × tokens) takes longer to compute than it saves.
TABLE_ENTRIES = 2_000_000
ENTRIES_AT_ONCE = 1 << 22  # logits


class NumpyNetwork:
    """A network's forward pass on the CPU, float32; `Network` is its twin in torch.

    Both offer the methods of `charlm.model.backend.Backend`.
    """

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self.config = config
        self.encoder = NumpyEncoder(config, weights)
        self.head = NumpyHead(config, weights)

    def initial_state(self, batch: int) -> list[State]:
        shape, names = (batch, self.config.hidden), self.config.recurrence.state
        return [
            tuple(np.zeros(shape, np.float32) for _ in names) for _ in range(self.config.layers)
        ]

    def read(
        self, ids: Ids, state: list[State], reverse: bool = False
    ) -> tuple[Floats, list[State]]:
        stack = self.encoder.stacks["reverse" if reverse else "layers"]
        y = np.empty((*ids.shape, self.config.hidden), np.float32)
        for t in range(ids.shape[1]):
            y[:, t], state = stack.step(ids[:, t], state)
        return y, state

    def logits(self, y: Floats) -> Floats:
        return self.head.logits(y)

    def logprobs(self, y: Floats, targets: Ids) -> Floats:
        rows = max(ENTRIES_AT_ONCE // self.config.vocab, 1)
        flat, columns = y.reshape(-1, y.shape[-1]), targets.ravel().astype(np.int64) - 1
        logprobs = np.empty(len(flat), np.float32)
        for start in range(0, len(flat), rows):
            part = slice(start, start + rows)
            logprobs[part] = self.head.target_logprobs(flat[part], columns[part])
        return logprobs.reshape(targets.shape)


class SeveralNumpyNetworks(NumpyNetwork):
    """Several networks as one; `charlm.model.several.SeveralNetworks` is its twin in torch.

    Its state has the layers of the first network, then those of the next one, and so on. Its output
    has the outputs of all networks side by side, (B, T, networks·H).
    """

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self.config = config
        own = config.by_network(weights)
        self.networks = [NumpyNetwork(config.one, network) for network in own]
        self.head = JoinedHeads(config, [network.head for network in self.networks])

    def initial_state(self, batch: int) -> list[State]:
        return [layer for network in self.networks for layer in network.initial_state(batch)]

    def read(
        self, ids: Ids, state: list[State], reverse: bool = False
    ) -> tuple[Floats, list[State]]:
        outputs: list[Floats] = []
        after: list[State] = []
        for network in self.networks:
            own = state[len(after) : len(after) + self.config.layers]
            y, own = network.read(ids, own, reverse)
            outputs.append(y)
            after += own
        return np.concatenate(outputs, axis=-1), after


def numpy_network(config: ModelConfig, weights: Weights) -> NumpyNetwork:
    """The network of this shape, or the networks as one."""
    return (SeveralNumpyNetworks if config.networks > 1 else NumpyNetwork)(config, weights)


class NumpyEncoder:
    """From ids to states: embedding, highway layers, recurrent layers of each direction."""

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self.embedding = weights["embedding"]
        self.char_features = weights.get("char_features")
        self.highway = [strip_prefix(f"highway.{k}", weights) for k in range(config.highway)]
        self.stacks = {
            name: NumpyStack(config, strip_prefix(name, weights), self.vectors, config.vocab)
            for name in config.directions
        }

    def vectors(self, ids: Ids) -> Floats:
        """Ids (…) -> the first layer's input, (…, inputs)."""
        x: Floats = self.embedding[ids]
        if self.char_features is not None:
            x = np.concatenate([x, self.char_features[ids]], axis=-1)
        for p in self.highway:
            transform = sigmoid(x @ p["W_T"].T + p["b_T"])
            x = x + transform * (relu(x @ p["W"].T + p["b"]) - x)
        return x


class NumpyStack:
    """The recurrent layers of one direction, one step at a time.

    vectors:  ids -> the first layer's input
    vocab:    number of ids
    """

    def __init__(
        self, config: StackConfig, weights: Weights, vectors: Callable[[Ids], Floats], vocab: int
    ) -> None:
        self.vectors, self.residual = vectors, config.residual
        self.layer_norm, cell = config.layer_norm, config.recurrence
        self.weights = [
            {name: _by_columns(w) for name, w in strip_prefix(str(k), weights).items()}
            for k in range(config.layers)
        ]
        self.steps: list[Callable[[Floats, State], State]]
        if cell.fused == "lstm" and not config.layer_norm:
            self.weights = [_halve_sigmoid_gates(w) for w in self.weights]
            self.steps = [partial(_lstm_step, *_lstm_constants(w)) for w in self.weights]
        else:
            self.steps = [partial(cell.step, Parameters(cell, w)) for w in self.weights]
        # A residual connection around the first layer needs the vector itself.
        inputs = weights["0.W"].shape[1]
        around_first = config.residual and inputs == config.hidden
        self.table: Floats | None = None
        if vocab * self.weights[0]["b"].size <= TABLE_ENTRIES and not around_first:
            self.table = self._gates(0, vectors(np.arange(vocab)))

    def step(self, ids: Ids, state: list[State]) -> tuple[Floats, list[State]]:
        """ids (B,) and the state before -> the top layer's output (B, H), and the state after."""
        after: list[State] = []
        x = None if self.table is not None else self.vectors(ids)
        for k, (step, before) in enumerate(zip(self.steps, state, strict=True)):
            if x is None:
                assert self.table is not None
                gates = self.table.take(ids, axis=0)
            else:
                gates = self._gates(k, x)
            after.append(step(gates, before))
            y = after[-1][0]
            x = x + y if self.residual and x is not None and x.shape == y.shape else y
        assert x is not None
        return x, after

    def _gates(self, layer: int, x: Floats) -> Floats:
        """The input's share of a layer's gates, (…, G·H)."""
        w = self.weights[layer]
        product: Floats = x @ w["W"].T
        return product if self.layer_norm else product + w["b"]


class NumpyHead:
    """From states to distributions: feed-forward layers, layer normalisation, softmax."""

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self.cutoffs = config.cutoffs
        layers = range(config.feedforward)
        self.feedforward = [strip_prefix(f"feedforward.{k}", weights) for k in layers]
        self.gain, self.bias = weights["norm.gain"], weights["norm.bias"]
        # y·mean is the mean over features. For one row the product is 5 × faster than np.mean.
        self.mean = np.full((config.hidden, 1), 1 / config.hidden, np.float32)
        self.parts = _softmax_parts(config, weights)

    def features(self, y: Floats) -> Floats:
        """The encoder's output (…, S) -> the softmax's input (…, H)."""
        for p in self.feedforward:
            y = relu(y @ p["W"].T + p["b"])
        centred = y - y @ self.mean
        variance = (centred * centred) @ self.mean
        return centred / np.sqrt(variance + NORM_EPSILON) * self.gain + self.bias

    def logits(self, y: Floats) -> Floats:
        """See `Backend.logits`."""
        features = self.features(y)
        if not self.cutoffs:
            W, b = self.parts[0]
            return features @ W.T + b
        head, *tails = (self._log_softmax(features, part) for part in range(len(self.parts)))
        first = self.cutoffs[0]
        within = [head[..., first + j, None] + tail for j, tail in enumerate(tails)]
        return np.concatenate([head[..., :first], *within], axis=-1)

    def target_logprobs(self, y: Floats, columns: NDArray[np.int64]) -> Floats:
        """log p(columns[n]), (N,), after y (N, S). A tail is computed only for its own columns."""
        features = self.features(y)
        tail = np.searchsorted(self.cutoffs, columns, side="right")
        rows = np.where(tail > 0, self.cutoffs[0] - 1 + tail, columns) if self.cutoffs else columns
        logprobs: Floats = self._log_softmax(features, 0)[np.arange(len(rows)), rows]
        for j, first in enumerate(self.cutoffs, 1):
            inside = np.flatnonzero(tail == j)
            within = self._log_softmax(features[inside], j)
            logprobs[inside] += within[np.arange(len(inside)), columns[inside] - first]
        return logprobs

    def _log_softmax(self, features: Floats, part: int) -> Floats:
        W, b = self.parts[part]
        return log_softmax(features @ W.T + b)


class JoinedHeads(NumpyHead):
    """The heads of several networks as one: the mean of the logits."""

    def __init__(self, config: ModelConfig, heads: Sequence[NumpyHead]) -> None:
        self.cutoffs, self.heads, self.directions = config.cutoffs, heads, len(config.directions)
        self.parts = [_mean(part) for part in zip(*(head.parts for head in heads), strict=True)]

    def features(self, y: Floats) -> Floats:
        """The encoder's output (…, S) -> the softmax's input (…, networks·H)."""
        # (…, directions, networks, H): each direction has the outputs of all networks.
        outputs = y.reshape(*y.shape[:-1], self.directions, len(self.heads), -1)
        own = [outputs[..., k, :].reshape(*y.shape[:-1], -1) for k in range(len(self.heads))]
        features = (head.features(of_one) for head, of_one in zip(self.heads, own, strict=True))
        return np.concatenate(list(features), axis=-1)


def _mean(parts: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """W and b of a softmax whose logits are the mean of several; it reads all their features."""
    weights, biases = zip(*parts, strict=True)
    W = np.concatenate(weights, axis=1)
    W /= len(parts)
    return W, np.mean(biases, axis=0)


def log_softmax(logits: Floats) -> Floats:
    """log softmax over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


# --- the step of `equations.lstm` with one tanh for all gates: σ(a) = tanh(a/2) / 2 + 1/2 ---


def _lstm_step(U: Floats, scale: Floats, shift: Floats, x: Floats, state: State) -> State:
    """`x` and `U` have a/2 for the gates i, f and o, see `_halve_sigmoid_gates`."""
    h, c = state
    a = h @ U.T
    a += x
    np.tanh(a, out=a)
    a *= scale
    a += shift
    i, f, g, o = split(a, 1, 1, 1, 1)
    c = f * c + i * g
    return o * np.tanh(c), c


def _lstm_constants(weights: Weights) -> tuple[Floats, Floats, Floats]:
    """U, and the scale and shift (4·H,) after the tanh, for the gates i, f, g and o."""
    scale = np.repeat(np.array([0.5, 0.5, 1, 0.5], np.float32), len(weights["b"]) // 4)
    return weights["U"], scale, 1 - scale


def _halve_sigmoid_gates(weights: dict[str, Floats]) -> dict[str, Floats]:
    """The weights of an LSTM layer with half the rows of i, f and o, in place."""
    _, scale, _ = _lstm_constants(weights)
    for w in weights.values():
        w *= scale if w.ndim == 1 else scale[:, None]
    return weights


def _by_columns(w: Floats) -> Floats:
    """A copy, stored by columns: a product with few rows reads such a matrix faster."""
    columns = np.empty(w.shape, np.float32, order="F")
    for first in range(0, len(w), 16):  # a block at a time fits the cache
        columns[first : first + 16] = w[first : first + 16]
    return columns


def _softmax_parts(config: ModelConfig, weights: Weights) -> list[tuple[Floats, Floats]]:
    """W and b of the head, whose last rows stand for the tails, and of each tail.

    `<START>`, id 0, is never predicted: row k belongs to id k + 1.
    """
    W = weights["embedding"][1:] if config.tied else weights["output.W"]
    b, cutoffs = weights["output.b"], config.cutoffs
    if not cutoffs:
        return [(W, b)]
    head = slice(0, cutoffs[0])
    head_W = np.concatenate([W[head], weights["output.W_tail"]])
    head_b = np.concatenate([b[head], weights["output.b_tail"]])
    tails = [(W[start:end], b[start:end]) for start, end in pairwise((*cutoffs, len(b)))]
    return [(head_W, head_b), *tails]
