"""A network over trees in NumPy: it starts at once; its twin in torch trains."""

from __future__ import annotations

import numpy as np

from charlm.model.equations import Parameters
from charlm.model.linear import log_softmax
from charlm.model.names import strip_prefix
from charlm.model.numpy_sequences import Floats, Ids, Weights
from charlm.model.tree_config import TreeConfig
from charlm.model.tree_levels import Levels


class NumpyTreeNetwork:
    """The forward pass of a `TreeNetwork`, float32."""

    def __init__(self, config: TreeConfig, weights: Weights) -> None:
        self.config, self.weights = config, weights

    def logprobs(self, words: Ids, levels: Levels) -> Floats:
        """log p of the labels, (M, B, K), of the nodes of trees, for words (T, B)."""
        h = self._states(words, levels)[levels.rows]
        logits = h @ self.weights["output.weight"].T + self.weights["output.bias"]
        return np.asarray(log_softmax(logits), np.float32)

    def _states(self, words: Ids, levels: Levels) -> Floats:
        """h of every row, (R, H); see `Levels`."""
        cell, weights = self.config.recurrence, strip_prefix("composition", self.weights)
        p = Parameters(cell, weights)
        first = words.size + 1
        rows = first + sum(children.shape[1] for children in levels.children)
        state = [np.zeros((rows, self.config.hidden), np.float32) for _ in cell.state]
        state[0][: words.size] = self.weights["embedding"][words.ravel()]
        for children in levels.children:
            left, right = ([s[rows] for s in state] for rows in children)
            gates = right[0] @ weights["W"].T + (0 if p.layer_norm else weights["b"])
            end = first + children.shape[1]
            for s, new in zip(state, cell.step(p, gates, (*left, *right[1:])), strict=True):
                s[first:end] = new
            first = end
        return state[0]
