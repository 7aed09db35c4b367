"""The network of a classifier in torch: it reads a text, and gives one label."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.model.dropout_masks import DropoutMasks
from charlm.model.numpy_sequences import looked_at
from charlm.model.sequence_config import ClassifierConfig
from charlm.model.sequence_network import SequenceNetwork

HIDDEN = -1e4  # in place of a number that a softmax or a maximum must not see


class Attention(nn.Module):
    """Weights of the steps of a sequence: a_t = softmax_t(v·tanh(W y_t + b)) (Yang et al. 2016)."""

    def __init__(self, states: int, features: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(features, states))
        self.b = nn.Parameter(torch.zeros(features))
        self.v = nn.Parameter(torch.zeros(features))

    def forward(self, y: Tensor, real: Tensor) -> Tensor:
        """y (T, B, S), real (T, B) -> weights (T, B) that sum to 1 over the real steps."""
        scores = F.linear(y, self.W, self.b).tanh() @ self.v
        return scores.float().masked_fill(~real, HIDDEN).softmax(dim=0)


class Classifier(SequenceNetwork):
    """A `SequenceNetwork` whose states are read off once for a text, see `ClassifierConfig`."""

    config: ClassifierConfig

    def __init__(self, config: ClassifierConfig, *arguments: Any, **keywords: Any) -> None:
        super().__init__(config, *arguments, **keywords)
        if config.readout == "attention":
            self.attention = Attention(config.states, config.hidden)
            with torch.no_grad():
                nn.init.xavier_uniform_(self.attention.W, generator=self.generator)

    def forward(self, ids: Tensor, masks: DropoutMasks | None = None) -> Tensor:
        """The logits of the labels (B, K), of texts (T, B) that are filled up with `<START>`."""
        real = ids != 0
        features = self._read_off(self.encoder(ids, masks=masks), real)
        if masks:
            features = masks.outputs(features[None])[0]
        logits: Tensor = self.output(features)
        return logits

    def _read_off(self, y: Tensor, real: Tensor) -> Tensor:
        """The states (T, B, S) of the real steps -> features of the text (B, S)."""
        lengths, readout = real.sum(dim=0), self.config.readout
        if readout == "last":
            last, first = (lengths - 1).clamp_min(0), torch.zeros_like(lengths)
            columns, half = torch.arange(len(lengths), device=y.device), self.config.hidden
            ends = y[last, columns, :half], y[first, columns, half:]
            return torch.cat(ends, dim=1) * (lengths > 0)[:, None]
        if readout == "max":
            highest = y.masked_fill(~real[..., None], HIDDEN).amax(dim=0)
            return highest * (lengths > 0)[:, None]
        if readout == "attention":
            weights = self.attention(y, real) * real
            return (weights[..., None] * y).sum(dim=0)
        return (y * real[..., None]).sum(dim=0) / lengths.clamp_min(1)[:, None]

    @torch.no_grad()
    def logprobs(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """log p of the labels, (B, K), of texts (T, B)."""
        logits = self(torch.from_numpy(ids).to(self.device))
        return logits.float().log_softmax(dim=1).cpu().numpy()

    @torch.no_grad()
    def attention_weights(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """(T, B) how much each token of texts (T, B) was looked at; see `looked_at`."""
        tokens = torch.from_numpy(ids).to(self.device)
        y, weights = self.encoder(tokens), None
        if self.config.readout == "attention":
            weights = self.attention(y, tokens != 0).cpu().numpy()
        return looked_at(self.config, y.float().cpu().numpy(), ids != 0, weights)
