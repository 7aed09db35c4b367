"""The network in torch: it trains, and it scores when there is much to score."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.model.config import Dropout, ModelConfig
from charlm.model.layers import (
    FeedForward,
    Highway,
    Masks,
    Norm,
    Output,
    Stack,
    States,
    reversed_in_time,
)
from charlm.model.loss import Softmax, summed_cross_entropy, target_logprobs
from charlm.model.spelling import Spelling

# In training, a bidirectional model does without one of its directions for this part of the
# lines, each direction alike, so that it knows how to go on from one side alone.
ONE_SIDED = 0.5


class Network(nn.Module):
    """Embedding, highway, recurrent and feed-forward layers, layer normalisation, softmax.

    dropout:    what training leaves out
    generator:  draws the weights at first, and the masks of dropout
    spellings:  (V, L) letters of each word, for a character-aware network that is to train
    reference:  recurrent layers run the cell's equations and autograd, and nothing faster

    In evaluation a character-aware network takes what it makes of the letters from a table,
    `spelled`, made anew whenever it is switched to evaluation.
    """

    spellings: Tensor
    spelled: Tensor

    def __init__(
        self,
        config: ModelConfig,
        dropout: Dropout | None = None,
        generator: torch.Generator | None = None,
        *,
        spellings: NDArray[np.integer] | None = None,
        forget_bias: float = 1.0,
        reference: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.dropout = config, dropout or Dropout()
        self.generator = generator or torch.Generator().manual_seed(0)
        self.embedding = nn.Parameter(torch.empty(config.vocab, config.embedding))
        if config.characters:
            self.spelling = Spelling(config)
            self.register_buffer("spelled", torch.zeros(config.vocab, config.spelled))
            letters = None if spellings is None else torch.from_numpy(spellings.astype(np.int64))
            self.register_buffer("spellings", letters, persistent=False)
        self.highway = nn.ModuleList(Highway(config.inputs) for _ in range(config.highway))
        self.layers = Stack(config, reference)
        if config.bidirectional:
            self.reverse = Stack(config, reference)
        joined = config.hidden * (2 if config.bidirectional else 1)
        self.feedforward = nn.ModuleList(
            FeedForward(config.hidden if k else joined, config.hidden)
            for k in range(config.feedforward)
        )
        self.norm = Norm(config.hidden)
        self.output = Output(config)
        self._initialise(forget_bias)

    @torch.no_grad()
    def _initialise(self, forget_bias: float) -> None:
        nn.init.normal_(self.embedding, std=0.1, generator=self.generator)
        for stack in self._stacks():
            for layer in stack:
                layer.initialise(self.generator, forget_bias)  # type: ignore[operator]
        for module in (*self.highway, *self.feedforward):
            module.initialise(self.generator)
        if self.config.characters:
            self.spelling.initialise(self.generator)
        if not self.config.tied:
            nn.init.normal_(self.output.W, std=0.1, generator=self.generator)

    def _stacks(self) -> list[Stack]:
        return [self.layers, self.reverse] if self.config.bidirectional else [self.layers]

    def train(self, mode: bool = True) -> Network:
        super().train(mode)
        if not mode and self.config.characters and self.spellings is not None:
            with torch.no_grad():
                self.spelled.copy_(self.spelling.table(self.spellings))
        return self

    def initial_state(self, batch: int) -> States:
        """The zero state of every layer of one direction: tuples of tensors (batch, H)."""
        shape, names = (batch, self.config.hidden), self.config.recurrence.state
        return [
            tuple(self.embedding.new_zeros(shape) for _ in names) for _ in range(self.config.layers)
        ]

    # --- what every token becomes, what is read of them, and what is predicted from it ---

    def vectors(self, ids: Tensor) -> Tensor:
        """Ids (T, B) -> what the first layer reads, (T, B, inputs)."""
        x = F.embedding(ids, self.embedding)
        if self.config.characters:
            x = torch.cat([x, self._spelled(ids).to(x.dtype)], dim=-1)
        for layer in self.highway:
            x = layer(x)
        return x

    def _spelled(self, ids: Tensor) -> Tensor:
        if not self.training:
            return F.embedding(ids, self.spelled)
        words, places = torch.unique(ids, return_inverse=True)
        return F.embedding(places, self.spelling(self.spellings[words]))

    def top(self, y: Tensor, masks: Masks | None = None) -> Tensor:
        """From the recurrent layers' outputs, those of both directions side by side, to the
        features that the softmax reads, (…, H)."""
        for layer in self.feedforward:
            y = layer(masks.outputs(y) if masks else y)
        y = self.norm(y)
        return masks.outputs(y) if masks else y

    # --- training ---

    def loss(
        self, inputs: Tensor, targets: Tensor, state: States, following: Tensor | None = None
    ) -> tuple[Tensor, States]:
        """The summed cross-entropy of the targets (T, B), in nats, and the state after.

        following:  for a bidirectional network, what comes after the targets (T, B); each column
                    is then a line, filled up with `<START>`, id 0, as target
        """
        masks = Masks(self.dropout, self.generator) if self.training else None
        y, state = self.layers(self.vectors(inputs), state, masks)
        if following is not None:
            y = self._joined(y, following, (targets != 0).sum(dim=0), masks)
        y = self.top(y, masks)
        if following is not None:
            y, targets = y[targets != 0], targets[targets != 0]
        y = y.reshape(-1, self.config.hidden)
        return summed_cross_entropy(y, targets.flatten() - 1, self.softmax()), state

    def softmax(self) -> Softmax:
        """The weights of the softmax."""
        output = self.output
        weight = self.embedding if self.config.tied else output.W
        tails = (
            (output.W_tail, output.b_tail) if self.config.cutoffs else (weight[:0], output.b[:0])
        )
        return Softmax(self.config.cutoffs, weight, output.b, *tails)

    def _joined(self, y: Tensor, following: Tensor, lengths: Tensor, masks: Masks | None) -> Tensor:
        """The outputs of both directions side by side, (T, B, 2·H).

        y:  of the forward direction, over the tokens before each target; the backward one is
            over those after it, so that neither has seen the target.
        """
        x = self.vectors(reversed_in_time(following, lengths))
        back, _ = self.reverse(x, self.initial_state(x.shape[1]), masks)
        back = reversed_in_time(back, lengths)
        if masks:
            side = torch.rand(len(lengths), 1, generator=self.generator, device=y.device)
            y = y * (side >= ONE_SIDED / 2)
            back = back * (side < 1 - ONE_SIDED / 2)
        return torch.cat([y, back.to(y.dtype)], dim=-1)

    # --- what `likelihood.Backend` asks for ---

    @torch.no_grad()
    def read(
        self, ids: NDArray[np.integer], state: States, reverse: bool = False
    ) -> tuple[NDArray[np.float32], States]:
        """The output of the top recurrent layer after each of the ids (B, T), (B, T, H), and the
        state after; `reverse` is the direction that reads lines from their ends."""
        x = torch.from_numpy(ids.T.astype(np.int64)).to(self.embedding.device)
        stack = self.reverse if reverse else self.layers
        y, state = stack(self.vectors(x), state)
        return y.transpose(0, 1).float().cpu().numpy(), state

    @torch.no_grad()
    def logprobs(self, y: NDArray[np.float32], targets: NDArray[np.integer]) -> NDArray[np.float32]:
        """log p(targets[b, t]) in nats, (B, T), after y (B, T, H), or (B, T, 2·H) with both
        directions."""
        device = self.embedding.device
        columns = torch.from_numpy(targets.astype(np.int64)).to(device).flatten() - 1
        features = self.top(torch.from_numpy(y).to(device).flatten(0, 1))
        found = target_logprobs(features, columns, self.softmax())
        return found.view(targets.shape).cpu().numpy()

    @torch.no_grad()
    def spelled_words(self, letters: NDArray[np.integer]) -> NDArray[np.float32]:
        """What a character-aware network makes of the letters of words, (N, L) -> (N, spelled)."""
        spellings = torch.from_numpy(letters.astype(np.int64)).to(self.embedding.device)
        return self.spelling.table(spellings).cpu().numpy()


def as_arrays(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """Weights by their names, as the model file has them: NumPy, float32."""
    return {
        name: tensor.detach().float().cpu().contiguous().numpy() for name, tensor in tensors.items()
    }


def network_from(config: ModelConfig, weights: Mapping[str, NDArray[np.float32]]) -> Network:
    """A network for evaluation that holds these weights."""
    network = Network(config)
    network.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    return network.eval()
