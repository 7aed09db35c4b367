"""From trees to the log-probabilities of the labels of their nodes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.buckets import by_length
from charlm.corpus.examples import FEATURES, TEXT, Examples
from charlm.corpus.trees import JOIN, LABELLED, LEAF, MOVES, NODE, WORD
from charlm.model.linear import LinearModel, log_softmax
from charlm.model.tree_levels import Levels, arrange
from charlm.parts import WHOLE, Part
from charlm.tokenizer import SPECIALS, Symbols

STEPS, LABELS = "moves", "labels"  # fields
OF_MOVES = Symbols(MOVES)
NONE, UNSEEN = -2, -1  # in place of a label: there is none, or training has not seen it
PER_WORD = 2  # features, see `SpanFeatures`

Ids = NDArray[np.int64]
Features = tuple[NDArray[np.integer], Ids]  # see `LinearModel.logprobs`


class TreeBatch(NamedTuple):
    """B trees of up to T words and M nodes; the nodes are in the order of the moves.

    which:    (B,) their numbers
    words:    (T, B), filled up with `<START>`
    lengths:  (B,) their nodes
    levels:   how the nodes are computed
    labels:   (M, B) from 0; `NONE` or `UNSEEN`
    """

    which: Ids
    words: Ids
    lengths: Ids
    levels: Levels
    labels: Ids

    @property
    def labelled(self) -> tuple[Ids, Ids]:
        """The places of the n nodes with a label, tree by tree: numbers of nodes and of trees."""
        trees, nodes = np.nonzero(self.labels.T != NONE)
        return nodes, trees


class Found(NamedTuple):
    """What is found for the labelled nodes of a batch of trees.

    labels:    (n,) the true ones
    is_root:   (n,) whether each node is that of a whole tree
    logprobs:  (n, K) of all labels at each node
    """

    labels: Ids
    is_root: NDArray[np.bool_]
    logprobs: NDArray[np.floating]

    @property
    def nats(self) -> float:
        """Σ −log p(label). A label that training has not seen counts as a guess among all."""
        known = self.labels >= 0
        of_label = self.logprobs[np.flatnonzero(known), self.labels[known]]
        guesses = int(np.count_nonzero(~known)) * math.log(self.logprobs.shape[1])
        return guesses - float(np.minimum(of_label, 0.0).sum(dtype=np.float64))

    @property
    def right(self) -> NDArray[np.bool_]:
        """(n,) whether the most probable label is the true one."""
        return self.logprobs.argmax(axis=1) == self.labels


def batches_of(data: Examples, part: Part = WHOLE) -> Iterator[TreeBatch]:
    """The trees, from short to long ones."""
    return (batch_of(data, which) for which in by_length(data.lengths(TEXT), part))


def batch_of(data: Examples, which: Ids, own: slice = WHOLE.every) -> TreeBatch:
    """These trees, side by side. own: only these of them, in arrays with room for all"""
    lengths = data.lengths(STEPS)[which]
    words, moves, labels = (data.padded(field, which)[:, own] for field in (TEXT, STEPS, LABELS))
    moves = moves[: int(lengths.max(initial=1))]
    levels = arrange(_are(moves, LEAF, WORD), _are(moves, NODE, JOIN), len(words))
    return TreeBatch(which[own], words, lengths[own], levels, _at_nodes(labels, moves))


def _at_nodes(labels: Ids, moves: Ids) -> Ids:
    """Ids of labels that stand one after the other -> (M, B) columns of labels at their nodes."""
    has_one = _are(moves, *LABELLED)
    number = np.clip(has_one.cumsum(axis=0) - 1, 0, len(labels) - 1)
    columns = np.take_along_axis(labels, number, axis=0) - len(SPECIALS)
    return np.where(has_one, np.where(columns < 0, UNSEEN, columns), NONE)


def _are(moves: Ids, *names: str) -> NDArray[np.bool_]:
    return np.isin(moves, [len(SPECIALS) + MOVES.index(name) for name in names])


def logprobs_of(network: Any, data: Examples, linear: LinearModel | None, batch: TreeBatch) -> Any:
    """(M, B, K) log p of the labels of all nodes.

    network:  either twin
    linear:   None for the network alone
    """
    logprobs = network.logprobs(batch.words, batch.levels)
    return linear.mixed(logprobs, of_linear_half(linear, data, batch)) if linear else logprobs


def of_linear_half(linear: LinearModel, data: Examples, batch: TreeBatch) -> NDArray[np.floating]:
    """(M, B, K) log p of the labels of all nodes by the linear model.

    The weights of all words and pairs are summed up once. The sum for a node is a difference.
    """
    scores = np.empty((*batch.labels.shape, len(linear.bias)))
    file = data.fields[FEATURES]
    for column, k in enumerate(batch.which.tolist()):
        weights = linear.weights_of(file.ids[file.bounds[k] : file.bounds[k + 1] - 1])
        sums = np.concatenate([np.zeros((1, len(linear.bias))), weights.cumsum(0, np.float64)])
        starts, ends = PER_WORD * batch.levels.spans[:, :, column]
        ends = np.maximum(np.minimum(ends, len(weights)), starts)
        inside = (ends > starts)[:, None]
        pair_before = weights[np.minimum(starts + 1, len(weights) - 1)]
        scores[:, column] = sums[ends] - sums[starts] - pair_before * inside
    return log_softmax(scores + linear.bias)


def span_features(data: Examples, batch: TreeBatch, nodes: Ids, trees: Ids) -> Features:
    """The features of n nodes, and where those of each begin.

    nodes, trees:  (n,) numbers within the batch
    """
    file = data.fields[FEATURES]
    starts, ends = PER_WORD * batch.levels.spans[:, nodes, trees]
    sizes = np.maximum(ends - starts, 0)
    before = np.append(0, sizes.cumsum())
    offsets = np.arange(before[-1]) - np.repeat(before[:-1], sizes)
    first = file.bounds[batch.which[trees]] + starts
    ids = file.ids[np.repeat(first, sizes) + offsets]
    # The second feature is the first word with the one before, which is not in the span.
    return ids[offsets != 1], before - np.append(0, (sizes > 0).cumsum())


def found_at_labels(batch: TreeBatch, logprobs: NDArray[np.floating]) -> Found:
    """What was found for the nodes that have labels. logprobs: (M, B, K)"""
    nodes, trees = batch.labelled
    is_root = nodes == batch.lengths[trees] - 1
    return Found(batch.labels[nodes, trees], is_root, logprobs[nodes, trees])
