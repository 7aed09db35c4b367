"""How well the labels of the nodes of trees are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from charlm.engines.label_scores import wilson_interval
from charlm.engines.tree_labels import UNSEEN, Found

# The classes of the Stanford Sentiment Treebank, from very negative to very positive.
SENTIMENT = ["0", "1", "2", "3", "4"]
NEUTRAL = 2


@dataclass(frozen=True)
class TreeScore:
    """How well the labels of trees are found. The scores of several texts add up.

    roots, roots_right:    labelled nodes at the root, and those whose label is found
    nodes, nodes_right:    all labelled nodes
    polar, polar_right:    roots that are negative or positive, and those for which the more
                           probable one of the two is found; for labels from 0 to 4
    nats:                  Σ −log p(label) of the nodes; a label that training has not seen counts
                           as a guess
    unseen:                nodes with a label that training has not seen
    """

    roots: int = 0
    roots_right: int = 0
    nodes: int = 0
    nodes_right: int = 0
    polar: int = 0
    polar_right: int = 0
    nats: float = 0.0
    unseen: int = 0

    columns: ClassVar = {
        "trees": ",", "nodes": ",", "root_accuracy": ".4f", "root_accuracy_interval": ".3f",
        "root_accuracy_binary": ".4f", "node_accuracy": ".4f", "nats_per_node": ".4f",
    }  # fmt: skip

    @classmethod
    def of(cls, found: Found, names: Sequence[str]) -> TreeScore:
        """The score of a batch of trees. names: of the labels"""
        right, root, truth = found.right, found.is_root, found.labels
        is_polar = root & (truth >= 0) & (truth != NEUTRAL) & (list(names) == SENTIMENT)
        probabilities = np.exp(found.logprobs[is_polar])
        positive = probabilities[:, NEUTRAL + 1 :].sum(axis=1)
        negative = probabilities[:, :NEUTRAL].sum(axis=1)
        polar_right = (positive > negative) == (truth[is_polar] > NEUTRAL)
        return cls(
            _number(root),
            _number(right & root),
            len(right),
            _number(right),
            _number(is_polar),
            _number(polar_right),
            found.nats,
            _number(truth == UNSEEN),
        )

    @property
    def predicted(self) -> int:
        """The number of labelled nodes."""
        return self.nodes

    @property
    def root_accuracy(self) -> float:
        """The share of roots whose label is found."""
        return self.roots_right / max(self.roots, 1)

    @property
    def node_accuracy(self) -> float:
        """The share of nodes whose label is found."""
        return self.nodes_right / max(self.nodes, 1)

    def figures(self) -> dict[str, Any]:
        """The measures under their names in JSON output. The interval holds 95 %."""
        return {
            "trees": self.roots,
            "nodes": self.nodes,
            "root_accuracy": self.root_accuracy,
            "root_accuracy_interval": wilson_interval(self.roots_right, self.roots),
            "root_accuracy_binary": self.polar_right / self.polar if self.polar else None,
            "node_accuracy": self.node_accuracy,
            "nats_per_node": self.nats / max(self.nodes, 1),
        }

    def __add__(self, other: TreeScore) -> TreeScore:
        mine, others = ([getattr(s, f.name) for f in fields(s)] for s in (self, other))
        return TreeScore(*(a + b for a, b in zip(mine, others, strict=True)))


def _number(which: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(which))
