"""Classifiers and taggers in NumPy: they start at once; their twins in torch train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from charlm.model.config import WIDTHS
from charlm.model.crf import Transitions
from charlm.model.equations import Cell, Parameters, lstm
from charlm.model.names import strip_prefix
from charlm.model.sequence_config import ClassifierConfig, SequenceConfig, TaggerConfig

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Weights = Mapping[str, Floats]
N = TypeVar("N", bound="np.number[Any]")


def read_layer(cell: Cell, weights: Weights, x: Floats) -> Floats:
    """The outputs (T, B, H) of a recurrent layer of one direction, from the zero state.

    weights:  under the names of `Cell.shapes`
    x:        (T, B, I)
    """
    parameters = Parameters(cell, weights)
    gates = x @ weights["W"].T + (0 if parameters.layer_norm else weights["b"])
    hidden = weights["W"].shape[0] // len(cell.gates)
    state = tuple(np.zeros((x.shape[1], hidden), np.float32) for _ in cell.state)
    y = np.empty((*x.shape[:2], hidden), np.float32)
    for t in range(len(x)):
        state = cell.step(parameters, gates[t], state)
        y[t] = state[0]
    return y


def reverse_in_time(x: NDArray[N], lengths: Ids) -> NDArray[N]:
    """`charlm.model.layers.reverse_in_time` for arrays."""
    steps = np.arange(len(x))[:, None]
    source = np.where(steps < lengths, lengths - 1 - steps, steps)
    return x[source, np.arange(x.shape[1])]


class NumpySequenceNetwork:
    """The forward pass of a `SequenceNetwork`, or of its encoder alone, float32."""

    def __init__(self, config: SequenceConfig, weights: Weights) -> None:
        self.config, self.weights = config, weights

    def states(self, ids: Ids, spellings: Ids | None = None, words: Ids | None = None) -> Floats:
        """The outputs of the top layer, (T, B, S); see `SequenceEncoder`."""
        x = self.vectors(ids, spellings, words)
        lengths = (ids != 0).sum(axis=0)
        for k in range(self.config.layers):
            y = self._layer(strip_prefix(f"layers.{k}", self.weights), x, lengths)
            x = x + y if self.config.residual and x.shape == y.shape else y
        return x

    def vectors(self, ids: Ids, spellings: Ids | None = None, words: Ids | None = None) -> Floats:
        """The first layer's input, (T, B, I)."""
        x = self.weights["embedding"][ids]
        if spellings is None or words is None:
            return x
        return np.concatenate([x, self._characters(spellings)[words]], axis=-1)

    def _layer(self, weights: Weights, x: Floats, lengths: Ids) -> Floats:
        cell = self.config.recurrence
        if not self.config.bidirectional:
            return read_layer(cell, weights, x)
        forwards, backwards = (strip_prefix(d, weights) for d in ("forwards", "backwards"))
        return _both_ways(cell, forwards, backwards, x, lengths)

    def _characters(self, spellings: Ids) -> Floats:
        """The character features (N, F) of N words, (N, L); see `CharFeatures`."""
        weights = strip_prefix("characters", self.weights)
        is_char = spellings != 0
        x = weights["letters"][spellings] * is_char[..., None]
        if self.config.characters == "convolutional":
            pooled = [_filtered(strip_prefix(f"filters.{w}", weights), x) for w in WIDTHS]
            return np.tanh(np.concatenate(pooled, axis=1))
        lengths = is_char.sum(axis=1)
        layers = (strip_prefix(d, weights) for d in ("forwards", "backwards"))
        x = np.ascontiguousarray(x.swapaxes(0, 1))
        last, columns = lengths - 1, np.arange(len(lengths))
        inputs = x, reverse_in_time(x, lengths)
        outputs = (read_layer(lstm(), w, i) for w, i in zip(layers, inputs, strict=True))
        return np.concatenate([y[last, columns] for y in outputs], axis=1)

    def _logits(self, features: Floats) -> Floats:
        logits: Floats = features @ self.weights["output.weight"].T + self.weights["output.bias"]
        return logits


def _both_ways(
    cell: Cell, forwards: Weights, backwards: Weights, x: Floats, lengths: Ids
) -> Floats:
    """The outputs (T, B, 2·H) of a layer of two directions; see `BidirectionalLayer`."""
    y = read_layer(cell, forwards, x)
    reversed_y = read_layer(cell, backwards, reverse_in_time(x, lengths))
    return np.concatenate([y, reverse_in_time(reversed_y, lengths)], axis=-1)


def _filtered(weights: Weights, x: Floats) -> Floats:
    """Convolution and max pooling: x (N, L, E) -> max over L of W ∗ x + b, (N, F)."""
    W = weights["W"]  # (F, E, width)
    margin = W.shape[2] - 1
    padded = np.pad(x, ((0, 0), (margin, margin), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, W.shape[2], axis=1)
    filtered: Floats = np.tensordot(windows, W, axes=([2, 3], [1, 2])).max(axis=1) + weights["b"]
    return filtered


def looked_at(
    config: ClassifierConfig, y: Floats, real: NDArray[np.bool_], weights: Floats | None
) -> Floats:
    """(T, B) the share of each step in what a classifier reads off; they sum to 1 for each text.

    The readout "attention" has these `weights`; "max": the share of the features whose maximum is
    at the step; "mean": all steps the same; "last": the last step of each direction.

    y:  (T, B, S) states; real: (T, B)
    """
    if weights is not None:
        return weights
    steps, lengths = np.arange(len(y))[:, None], real.sum(axis=0)
    if config.readout == "max":
        highest = np.where(real[..., None], y, np.float32(-np.inf)).argmax(axis=0)  # (B, S)
        return np.stack([(highest == t).mean(axis=1) for t in range(len(y))]).astype(np.float32)
    is_end = (steps == lengths - 1) | ((steps == 0) & config.bidirectional)
    chosen = real if config.readout == "mean" else is_end & real
    shares = chosen / np.maximum(chosen.sum(axis=0), 1)
    return np.asarray(shares, np.float32)


class NumpyClassifier(NumpySequenceNetwork):
    """`Classifier` in NumPy."""

    config: ClassifierConfig

    def logprobs(self, ids: Ids) -> Floats:
        """log p of the labels, (B, K), of texts (T, B)."""
        logits = self._logits(self._read_off(self.states(ids), ids != 0))
        logits = logits - logits.max(axis=1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def attention_weights(self, ids: Ids) -> Floats:
        """(T, B) how much each token of texts (T, B) was looked at; see `looked_at`."""
        y, real = self.states(ids), ids != 0
        weights = self._attention(y, real) if self.config.readout == "attention" else None
        return looked_at(self.config, y, real, weights)

    def _attention(self, y: Floats, real: NDArray[np.bool_]) -> Floats:
        w = strip_prefix("attention", self.weights)
        scores = np.where(real, np.tanh(y @ w["W"].T + w["b"]) @ w["v"], np.float32(-1e4))
        weights = np.exp(scores - scores.max(axis=0))
        return weights / weights.sum(axis=0)

    def _read_off(self, y: Floats, real: NDArray[np.bool_]) -> Floats:
        """The states (T, B, S) of the real steps -> features of the text (B, S)."""
        lengths, readout = real.sum(axis=0), self.config.readout
        if readout == "last":
            columns, half = np.arange(len(lengths)), self.config.hidden
            ends = y[np.maximum(lengths - 1, 0), columns, :half], y[0, :, half:]
            features = np.concatenate(ends, axis=1)
        elif readout == "max":
            features = np.where(real[..., None], y, np.float32(-1e4)).max(axis=0)
        elif readout == "attention":
            features = (self._attention(y, real)[..., None] * y).sum(axis=0)
        else:
            total = (y * real[..., None]).sum(axis=0)
            features = (total / np.maximum(lengths, 1)[:, None]).astype(np.float32)
        read_off: Floats = features * (lengths > 0)[:, None]
        return read_off


class NumpyTagger(NumpySequenceNetwork):
    """`Tagger` in NumPy."""

    config: TaggerConfig

    def emissions(self, ids: Ids, spellings: Ids | None, words: Ids | None) -> Floats:
        """The emissions (T, B, K): logits of the tags. See `Tagger.forward`."""
        return self._logits(self.states(ids, spellings, words))

    @property
    def transitions(self) -> Transitions:
        """The scores of neighbouring tags; all 0 without a CRF."""
        if not self.config.crf:
            return Transitions.none(self.config.tags)
        w = strip_prefix("crf", self.weights)
        names = ("start", "end", "transitions")
        return Transitions(*(w[name].astype(np.float64) for name in names))
