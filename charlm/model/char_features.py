"""Character features: the part of a word's vector that is computed from its characters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.model.config import CHARACTER_EMBEDDING, WIDTHS, ModelConfig
from charlm.model.equations import lstm
from charlm.model.layers import Layer, reverse_in_time
from charlm.model.sequence_config import SequenceConfig

WORDS_PER_CHUNK = 2048


class CharFeatures(nn.Module):
    """Character ids of N words, (N, L) padded with 0 -> features (N, `config.char_features`).

    `config.characters` is the architecture:
    recurrent:      a forward and a backward LSTM over the characters; their last outputs are
                    concatenated (Ling et al. 2015)
    convolutional:  convolutions of width 1 to 5, max pooling over the word, then tanh (Kim et
                    al. 2016)
    """

    def __init__(self, config: ModelConfig | SequenceConfig) -> None:
        super().__init__()
        self.letters = nn.Parameter(torch.empty(config.alphabet, CHARACTER_EMBEDDING))
        self.recurrent = config.characters == "recurrent"
        if self.recurrent:
            half = config.char_features // 2
            self.forwards = Layer(lstm(), CHARACTER_EMBEDDING, half, layer_norm=False)
            self.backwards = Layer(lstm(), CHARACTER_EMBEDDING, half, layer_norm=False)
        else:
            self.filters = nn.ModuleDict(
                {str(w): _Filters(w, config.char_features * w // sum(WIDTHS)) for w in WIDTHS}
            )

    def forward(self, ids: Tensor) -> Tensor:
        is_char = (ids != 0)[..., None]
        x = F.embedding(ids, self.letters) * is_char  # (N, L, CHARACTER_EMBEDDING)
        if self.recurrent:
            return self._last_outputs(x.transpose(0, 1), is_char.sum(dim=(1, 2)))
        pooled = [filters(x.transpose(1, 2)) for filters in self.filters.values()]
        return torch.cat(pooled, dim=1).tanh()

    def _last_outputs(self, x: Tensor, lengths: Tensor) -> Tensor:
        last = lengths - 1, torch.arange(len(lengths), device=x.device)
        outputs = []
        directions = (self.forwards, x), (self.backwards, reverse_in_time(x, lengths))
        for layer, letters in directions:
            zero = x.new_zeros(len(lengths), layer.size)
            y, _ = layer(letters, (zero, zero))
            outputs.append(y[last])
        return torch.cat(outputs, dim=1)

    def table(self, ids: Tensor) -> Tensor:
        """The features of a whole vocabulary, computed in chunks to limit memory."""
        return torch.cat([self(chunk) for chunk in torch.split(ids, WORDS_PER_CHUNK)])

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draws the initial weights."""
        nn.init.normal_(self.letters, std=0.3, generator=generator)
        if self.recurrent:
            self.forwards.initialise(generator)
            self.backwards.initialise(generator)
        else:
            for filters in self.filters.values():
                nn.init.xavier_uniform_(filters.get_parameter("W"), generator=generator)


class _Filters(nn.Module):
    """Convolution and max pooling: x (N, E, L) -> max over L of W ∗ x + b, (N, F)."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(features, CHARACTER_EMBEDDING, width))
        self.b = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.W, self.b, padding=self.W.shape[2] - 1).amax(dim=2)
