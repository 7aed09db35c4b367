"""Character-aware word embeddings: a part of a word's vector that comes from its letters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.model.config import CHARACTER_EMBEDDING, WIDTHS, ModelConfig
from charlm.model.equations import lstm
from charlm.model.layers import Layer, reverse_in_time

WORDS_AT_ONCE = 2048


class CharFeatures(nn.Module):
    """From the letters of words, (N, L) ids of which 0 fills up the shorter, to (N, spelled).

    recurrent:      one LSTM reads the letters forwards and another backwards; the last states of
                    both are joined (Ling et al. 2015)
    convolutional:  filters over 1 to 5 letters, of each the highest value anywhere in the word,
                    then tanh (Kim et al. 2016)
    """

    def __init__(self, config: ModelConfig) -> None:
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

    def forward(self, spellings: Tensor) -> Tensor:
        there = (spellings != 0)[..., None]
        x = F.embedding(spellings, self.letters) * there  # (N, L, letter features)
        if self.recurrent:
            return self._read(x.transpose(0, 1), there.sum(dim=(1, 2)))
        found = [filters(x.transpose(1, 2)) for filters in self.filters.values()]
        return torch.cat(found, dim=1).tanh()

    def _read(self, x: Tensor, lengths: Tensor) -> Tensor:
        last = lengths - 1, torch.arange(len(lengths), device=x.device)
        states = []
        for layer, letters in (
            (self.forwards, x),
            (self.backwards, reverse_in_time(x, lengths)),
        ):
            zero = x.new_zeros(len(lengths), layer.size)
            y, _ = layer(letters, (zero, zero))
            states.append(y[last])
        return torch.cat(states, dim=1)

    def table(self, spellings: Tensor) -> Tensor:
        """The same for a whole vocabulary, a part at a time."""
        return torch.cat([self(part) for part in torch.split(spellings, WORDS_AT_ONCE)])

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        nn.init.normal_(self.letters, std=0.3, generator=generator)
        if self.recurrent:
            self.forwards.initialise(generator)
            self.backwards.initialise(generator)
        else:
            for filters in self.filters.values():
                nn.init.xavier_uniform_(filters.W, generator=generator)  # type: ignore[arg-type]


class _Filters(nn.Module):
    """max over the word of W ∗ x + b: x (N, letter features, L) -> (N, features)."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(features, CHARACTER_EMBEDDING, width))
        self.b = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.W, self.b, padding=self.W.shape[2] - 1).amax(dim=2)
