"""The network of a tagger in torch: it reads the words of a sentence, and gives a tag for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charlm.model.crf import Transitions
from charlm.model.dropout_masks import DropoutMasks
from charlm.model.sequence_config import TaggerConfig
from charlm.model.sequence_network import SequenceNetwork

SMALLEST = 1e-30  # of a float32 that a path of tags may weigh


class Crf(nn.Module):
    """The trainable scores of a conditional random field; see `charlm.model.crf` for equations."""

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(tags))
        self.end = nn.Parameter(torch.zeros(tags))
        self.transitions = nn.Parameter(torch.zeros(tags, tags))

    def loss(self, emissions: Tensor, tags: Tensor, real: Tensor) -> Tensor:
        """Σ −log p(tags | words), in nats, of sequences (T, B, K), (T, B), (T, B)."""
        last, columns = real.sum(dim=0) - 1, torch.arange(tags.shape[1], device=tags.device)
        alpha, weights = self.start + emissions[0], self.transitions.exp()
        for t in range(1, len(emissions)):
            highest = alpha.detach().amax(dim=1, keepdim=True)
            product = (alpha - highest).exp() @ weights  # as log Σ exp, but K times faster
            reached = product.clamp_min(SMALLEST).log() + highest + emissions[t]
            alpha = torch.where(real[t][:, None], reached, alpha)
        partition = torch.logsumexp(alpha + self.end, dim=1)
        score = (emissions.gather(2, tags[..., None])[..., 0] * real).sum(dim=0)
        score = score + (self.transitions[tags[:-1], tags[1:]] * real[1:]).sum(dim=0)
        score = score + self.start[tags[0]] + self.end[tags[last, columns]]
        return (partition - score).sum()


class Tagger(SequenceNetwork):
    """A `SequenceNetwork` with an output at every step, and the tags' own scores above it."""

    config: TaggerConfig

    def __init__(self, config: TaggerConfig, *arguments: Any, **keywords: Any) -> None:
        super().__init__(config, *arguments, **keywords)
        if config.crf:
            self.crf = Crf(config.tags)

    def forward(
        self,
        ids: Tensor,
        spellings: Tensor | None = None,
        words: Tensor | None = None,
        masks: DropoutMasks | None = None,
    ) -> Tensor:
        """The emissions (T, B, K): logits of the tags. See `SequenceEncoder`."""
        y = self.encoder(ids, spellings, words, masks)
        if masks:
            y = masks.outputs(y)
        emissions: Tensor = self.output(y)
        return emissions.float()

    def loss(self, emissions: Tensor, tags: Tensor, real: Tensor) -> Tensor:
        """Σ −log p(tags | words) in nats.

        emissions:  (T, B, K), of `forward`
        tags:       (T, B) columns of the emissions; anything where not real
        real:       (T, B) the words of the sentences, and not what fills them up
        """
        if self.config.crf:
            return self.crf.loss(emissions, tags, real)
        logprobs = emissions.log_softmax(dim=-1).gather(2, tags[..., None])[..., 0]
        return -(logprobs * real).sum()

    @torch.no_grad()
    def emissions(
        self,
        ids: NDArray[np.int64],
        spellings: NDArray[np.int64] | None,
        words: NDArray[np.int64] | None,
    ) -> NDArray[np.float32]:
        """`forward` for arrays."""
        arrays = (None if a is None else torch.from_numpy(a) for a in (ids, spellings, words))
        tensors = (None if t is None else t.to(self.device) for t in arrays)
        return self(*tensors).cpu().numpy()

    @property
    def transitions(self) -> Transitions:
        """The scores of neighbouring tags; all 0 without a CRF."""
        if not self.config.crf:
            return Transitions.none(self.config.tags)
        scores = self.crf.start, self.crf.end, self.crf.transitions
        return Transitions(*(s.detach().double().cpu().numpy() for s in scores))
