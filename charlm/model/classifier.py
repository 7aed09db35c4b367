"""The network of a classifier: it reads a text from both ends, and gives one label."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.model.config import Dropout, StackConfig
from charlm.model.dropout_masks import DropoutMasks
from charlm.model.layers import bidirectional_stack
from charlm.model.network import Trainable


class Classifier(Trainable):
    """Embedding, bidirectional layers, the mean of their outputs over the text, softmax.

    stack:      the recurrent layers
    vocab:      number of token ids
    embedding:  features of a token's vector
    labels:     number of labels K

    See `Trainable` for dropout and generator, `Layer.initialise` for forget_bias.
    """

    def __init__(
        self,
        stack: StackConfig,
        vocab: int,
        embedding: int,
        labels: int,
        dropout: Dropout | None = None,
        generator: torch.Generator | None = None,
        *,
        forget_bias: float = 1.0,
    ) -> None:
        super().__init__(dropout, generator)
        self.embedding = nn.Parameter(torch.empty(vocab, embedding))
        self.layers = bidirectional_stack(stack, embedding)
        self.output = nn.Linear(2 * stack.hidden, labels)
        with torch.no_grad():
            nn.init.normal_(self.embedding, std=0.1, generator=self.generator)
            self.layers.initialise(self.generator, forget_bias)
            nn.init.normal_(self.output.weight, std=0.1, generator=self.generator)
            nn.init.zeros_(self.output.bias)

    def forward(self, ids: Tensor, masks: DropoutMasks | None = None) -> Tensor:
        """The logits of the labels (B, K), of texts (T, B) that are filled up with `<START>`."""
        real = ids != 0
        lengths = real.sum(dim=0)
        x = F.embedding(ids, self.embedding)
        y, _ = self.layers(x, self.layers.zero_state(x, len(lengths)), masks, lengths)
        mean = (y * real[..., None]).sum(dim=0) / lengths.clamp_min(1)[:, None]  # (B, 2·H)
        if masks:
            mean = masks.outputs(mean[None])[0]
        logits: Tensor = self.output(mean)
        return logits
