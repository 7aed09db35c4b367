"""Networks in torch that read a whole sequence of tokens: the base of classifiers and taggers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.model.char_features import CharFeatures
from charlm.model.config import Dropout
from charlm.model.dropout_masks import DropoutMasks
from charlm.model.layers import bidirectional_stack, stack
from charlm.model.network import Trainable
from charlm.model.sequence_config import SequenceConfig


class SequenceEncoder(nn.Module):
    """Vectors of tokens, and recurrent layers of one direction or two."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(config.vocab, config.embedding))
        if config.characters:
            self.characters = CharFeatures(config)
        make = bidirectional_stack if config.bidirectional else stack
        self.layers: Any = make(config, config.inputs)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator, forget_bias: float = 1.0) -> None:
        """Draws the initial weights. forget_bias: see `Layer.initialise`"""
        nn.init.normal_(self.embedding, std=0.1, generator=generator)
        if hasattr(self, "characters"):
            self.characters.initialise(generator)
        self.layers.initialise(generator, forget_bias)

    def forward(
        self,
        ids: Tensor,
        spellings: Tensor | None = None,
        words: Tensor | None = None,
        masks: DropoutMasks | None = None,
    ) -> Tensor:
        """The outputs of the top layer, (T, B, S), for tokens (T, B) that `<START>` fills up.

        spellings:  (N, L) characters of N words, see `CharFeatures`; for a network that reads them
        words:      (T, B) which of these words each token is
        """
        x = F.embedding(ids, self.embedding)
        if spellings is not None and words is not None:
            x = torch.cat([x, F.embedding(words, self.characters(spellings)).to(x.dtype)], dim=-1)
        if masks:
            x = masks.tokens(x)
        lengths = (ids != 0).sum(dim=0)
        y: Tensor
        y, _ = self.layers(x, self.layers.zero_state(x, len(lengths)), masks, lengths)
        return y


class SequenceNetwork(Trainable):
    """An encoder and an output layer, from which subclasses compute their logits.

    See `Trainable` for dropout and generator, `Layer.initialise` for forget_bias.
    """

    vectors = "encoder.embedding"
    prefixes = ("encoder.",)

    def __init__(
        self,
        config: SequenceConfig,
        dropout: Dropout | None = None,
        generator: torch.Generator | None = None,
        *,
        forget_bias: float = 1.0,
    ) -> None:
        super().__init__(dropout, generator)
        self.config = config
        self.encoder = SequenceEncoder(config)
        self.output = nn.Linear(config.states, config.outputs)
        self.encoder.initialise(self.generator, forget_bias)
        with torch.no_grad():
            nn.init.normal_(self.output.weight, std=0.1, generator=self.generator)
            nn.init.zeros_(self.output.bias)
