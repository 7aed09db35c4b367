"""A network over trees in torch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.model.config import Dropout
from charlm.model.dropout_masks import DropoutMasks
from charlm.model.layers import Layer
from charlm.model.network import Trainable
from charlm.model.tree_config import TreeConfig
from charlm.model.tree_levels import Levels
from charlm.model.tree_recurrence import compose


class TreeNetwork(Trainable):
    """A recursive network: a label for every node of a tree; see `TreeConfig`.

    See `Trainable` for dropout and generator, `Layer.initialise` for forget_bias.
    """

    def __init__(
        self,
        config: TreeConfig,
        dropout: Dropout | None = None,
        generator: torch.Generator | None = None,
        *,
        forget_bias: float = 1.0,
    ) -> None:
        super().__init__(dropout, generator)
        self.config = config
        self.embedding = nn.Parameter(torch.empty(config.vocab, config.hidden))
        self.composition = Layer(config.recurrence, config.hidden, config.hidden, config.layer_norm)
        self.output = nn.Linear(config.hidden, config.labels)
        with torch.no_grad():
            nn.init.normal_(self.embedding, std=0.1, generator=self.generator)
            self.composition.initialise(self.generator, forget_bias)
            nn.init.normal_(self.output.weight, std=0.1, generator=self.generator)
            nn.init.zeros_(self.output.bias)

    def forward(self, words: Tensor, levels: Levels, masks: DropoutMasks | None = None) -> Tensor:
        """The logits of the labels (M, B, K) of the nodes, for words (T, B)."""
        x = F.embedding(words, self.embedding)
        if masks:
            x = masks.inputs(masks.tokens(x))
        y = self._states(x, levels, masks)
        if masks:
            y = masks.outputs(y)
        logits: Tensor = self.output(y)
        return logits

    def _states(self, x: Tensor, levels: Levels, masks: DropoutMasks | None) -> Tensor:
        """h of every node, (M, B, H), for vectors of the words (T, B, H)."""
        weights, mask = self.composition.weights_and_mask(x, masks)
        rows, *children = (
            torch.from_numpy(array).to(x.device) for array in (levels.rows, *levels.children)
        )
        if mask is not None:  # the same for all nodes of a tree
            mask = x.new_ones(int(rows.max()) + 1, x.shape[2]).index_put((rows,), mask)
        leaves = torch.cat([x.flatten(0, 1), x.new_zeros(1, x.shape[2])])
        return compose(self.config.recurrence, weights, leaves, children, mask)[rows]

    @torch.no_grad()
    def logprobs(self, words: NDArray[np.int64], levels: Levels) -> NDArray[np.float32]:
        """log p of the labels, (M, B, K), for words (T, B)."""
        logits = self(torch.from_numpy(words).to(self.device), levels)
        return logits.float().log_softmax(dim=-1).cpu().numpy()
