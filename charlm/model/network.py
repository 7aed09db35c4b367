"""The network in torch: it trains, and it scores large amounts of text."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.errors import OptionError
from charlm.model.char_features import CharFeatures
from charlm.model.config import Dropout, ModelConfig
from charlm.model.devices import autocast
from charlm.model.dropout_masks import DropoutMasks
from charlm.model.layers import FeedForward, Highway, Norm, Output, States, stack
from charlm.model.loss import Softmax, summed_cross_entropy, target_logprobs
from charlm.parts import Share


class Trainable(nn.Module):
    """What training and model files need of a network, whatever it computes.

    dropout:    probabilities of dropout in training
    generator:  draws the initial weights and the dropout masks

    vectors:   the parameter that holds the vectors of tokens, (V, E)
    prefixes:  of parameters, which the names of weights in a model file do not have
    """

    vectors: ClassVar[str] = "embedding"
    prefixes: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, dropout: Dropout | None = None, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.dropout = dropout or Dropout()
        self.generator = generator or torch.Generator().manual_seed(0)

    @property
    def members(self) -> Sequence[Trainable]:
        """The networks that are trained apart: this one alone, unless it is several."""
        return [self]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.get_parameter(self.vectors).device

    def move_to(self, device: torch.device) -> Self:
        """Move the weights, and draw dropout masks on that device from now on."""
        if device.type != self.device.type:
            seed = self.generator.initial_seed()
            self.generator = torch.Generator(device).manual_seed(seed)
        return self.to(device)

    def masks(self, share: Share | None = None) -> DropoutMasks | None:
        """New dropout masks, one set for each batch; None in evaluation.

        share:  which sequences of the batch there are; None for all
        """
        return DropoutMasks(self.dropout, self.generator, share) if self.training else None

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """All weights under the names of `StackConfig.shapes`, float32."""
        return {
            self._weight_name(name): tensor.detach().float().cpu().contiguous().numpy()
            for name, tensor in self.state_dict().items()
        }

    def load_weights(self, weights: Mapping[str, NDArray[np.float32]]) -> Self:
        """Copy weights under the names of `StackConfig.shapes`, and switch to evaluation."""
        names = {name: self._weight_name(name) for name in self.state_dict()}
        self.load_state_dict({n: torch.tensor(weights[name]) for n, name in names.items()})
        return self.eval()

    def _weight_name(self, name: str) -> str:
        for prefix in self.prefixes:
            name = name.removeprefix(prefix)
        return name


def load_rows(parameter: Tensor, ids: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
    """Replace the rows of a parameter that have these ids, or the first columns of them."""
    columns = (slice(rows.shape[1]),) if rows.ndim > 1 else ()
    with torch.no_grad():
        parameter[(torch.from_numpy(ids), *columns)] = torch.from_numpy(rows)


PROBED_BATCH, PROBED_STEPS = 64, 16
WORTH_IT = 1.2  # bf16 is less exact, so it must be this much faster than fp32


class Encoder(nn.Module):
    """From ids to states: embedding, highway layers, recurrent layers of each direction.

    spellings:  (V, L) the characters of each word, for a character-aware network that trains
    reference:  recurrent layers run the cell's equations with autograd, without faster paths

    In evaluation a character-aware network reads the character features of words from a table,
    `char_features`. The table is computed whenever the network is switched to evaluation.
    """

    spellings: Tensor
    char_features: Tensor

    def __init__(
        self, config: ModelConfig, spellings: NDArray[np.integer] | None, reference: bool
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.empty(config.vocab, config.embedding))
        if config.characters:
            self.characters = CharFeatures(config)
            table = torch.zeros(config.vocab, config.char_features)
            self.register_buffer("char_features", table)
            ids = None if spellings is None else torch.from_numpy(spellings.astype(np.int64))
            self.register_buffer("spellings", ids, persistent=False)
        self.highway = nn.ModuleList(Highway(config.inputs) for _ in range(config.highway))
        self.layers = stack(config, config.inputs, reference)
        if config.bidirectional:
            self.reverse = stack(config, config.inputs, reference)

    def forward(
        self,
        ids: Tensor,
        state: States,
        masks: DropoutMasks | None = None,
        reverse: bool = False,
    ) -> tuple[Tensor, States]:
        """The top layer's output after each of the ids (T, B), (T, B, H), and the state after.

        reverse:  run the layers that read from the end; the ids come in that order
        """
        layers = self.reverse if reverse else self.layers
        y, after = layers(self.vectors(ids), state, masks)
        return y, after

    def vectors(self, ids: Tensor) -> Tensor:
        """Ids (T, B) -> the first layer's input, (T, B, inputs)."""
        x = F.embedding(ids, self.embedding)
        if self.config.characters:
            x = torch.cat([x, self._char_features(ids).to(x.dtype)], dim=-1)
        for layer in self.highway:
            x = layer(x)
        return x

    def _char_features(self, ids: Tensor) -> Tensor:
        if not self.training:
            return F.embedding(ids, self.char_features)
        words, places = torch.unique(ids, return_inverse=True)
        return F.embedding(places, self.characters(self.spellings[words]))

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode)
        if not mode and self.config.characters and self.spellings is not None:
            with torch.no_grad():
                self.char_features.copy_(self.characters.table(self.spellings))
        return self


class Head(nn.Module):
    """From states to distributions: feed-forward layers, layer normalisation, softmax."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.feedforward = nn.ModuleList(
            FeedForward(config.hidden if k else config.states, config.hidden)
            for k in range(config.feedforward)
        )
        self.norm = Norm(config.hidden)
        self.output = Output(config)

    def forward(self, y: Tensor, masks: DropoutMasks | None = None) -> Tensor:
        """The encoder's output (…, states) -> the softmax's input (…, H)."""
        for layer in self.feedforward:
            y = layer(masks.outputs(y) if masks else y)
        y = self.norm(y)
        return masks.outputs(y) if masks else y


class Network(Trainable):
    """An encoder and a head; `NumpyNetwork` is its twin.

    See `Trainable` for dropout and generator, `Encoder` for spellings and reference. Both networks
    offer the methods of `charlm.model.backend.Backend`.
    """

    vectors = "encoder.embedding"
    prefixes = ("encoder.", "head.")
    precision = "fp32"  # in which `read` computes; states, outputs and all else are float32

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
        super().__init__(dropout, generator)
        self.config = config
        self.encoder = Encoder(config, spellings, reference)
        self.head = Head(config)
        self._initialise(forget_bias)

    @torch.no_grad()
    def _initialise(self, forget_bias: float) -> None:
        encoder, head = self.encoder, self.head
        nn.init.normal_(encoder.embedding, std=0.1, generator=self.generator)
        for name in self.config.directions:
            getattr(encoder, name).initialise(self.generator, forget_bias)
        for module in (*encoder.highway, *head.feedforward):
            module.initialise(self.generator)
        if self.config.characters:
            encoder.characters.initialise(self.generator)
        if not self.config.tied:
            nn.init.normal_(head.output.W, std=0.1, generator=self.generator)

    def loss(
        self,
        y: Tensor,
        targets: Tensor,
        masks: DropoutMasks | None = None,
        where: Tensor | None = None,
    ) -> Tensor:
        """The summed cross-entropy Σ −log p(target), in nats.

        y:        (T, B, S), the encoder's output
        targets:  (T, B) ids
        where:    (T, B) bool, the targets that count; None for all
        """
        features = self.head(y, masks)
        if where is not None:
            features, targets = features[where], targets[where]
        features = features.reshape(-1, features.shape[-1])
        return summed_cross_entropy(features, targets.flatten() - 1, self.softmax())

    def softmax(self) -> Softmax:
        """The weights of the softmax."""
        output = self.head.output
        weight = self.encoder.embedding if self.config.tied else output.W
        tails = (
            (output.W_tail, output.b_tail) if self.config.cutoffs else (weight[:0], output.b[:0])
        )
        return Softmax(self.config.cutoffs, weight, output.b, *tails)

    # --- the methods of `Backend`, see there ---

    def initial_state(self, batch: int) -> States:
        return self.encoder.layers.zero_state(self.encoder.embedding, batch)

    @torch.no_grad()
    def read(
        self, ids: NDArray[np.integer], state: States, reverse: bool = False
    ) -> tuple[NDArray[np.float32], States]:
        x = torch.from_numpy(ids.T.astype(np.int64)).to(self.device)
        with autocast(self.precision, self.device):
            y, after = self.encoder(x, state, reverse=reverse)
        after = [tuple(s.float() for s in layer) for layer in after]
        return y.transpose(0, 1).float().cpu().numpy(), after

    def set_precision(self, precision: str) -> None:
        """Read in this precision from now on: "fp32", "bf16", or "auto".

        "auto" is bf16 if that is clearly faster on this machine. Raises OptionError where the
        machine has no bf16.
        """
        ids = np.ones((PROBED_BATCH, PROBED_STEPS), np.int64)
        seconds = {"fp32": math.inf, "bf16": math.inf}
        tried = [*seconds] * 3 if precision == "auto" else [precision]
        for self.precision in tried:
            start = time.perf_counter()
            try:
                self.read(ids, self.initial_state(PROBED_BATCH))
            except RuntimeError as error:  # this machine has no kernel for it
                if precision != "auto":
                    raise OptionError(
                        f"`precision={precision}`: this machine has no kernel for it; use fp32"
                    ) from error
                continue
            now = time.perf_counter() - start
            seconds[self.precision] = min(seconds[self.precision], now)
        if precision == "auto":
            is_faster = WORTH_IT * seconds["bf16"] < seconds["fp32"]
            self.precision = "bf16" if is_faster else "fp32"

    @torch.no_grad()
    def logits(self, y: NDArray[np.float32]) -> NDArray[np.float32]:
        features, softmax = self.head(torch.from_numpy(y).to(self.device)), self.softmax()
        parts = [softmax.part(k) for k in range(len(softmax.cutoffs) + 1)]
        head, *tails = (F.linear(features, *part) for part in parts)
        if not tails:
            return head.float().cpu().numpy()
        head, first = head.log_softmax(dim=-1), softmax.cutoffs[0]
        within = [
            head[..., first + j, None] + tail.log_softmax(dim=-1) for j, tail in enumerate(tails)
        ]
        return torch.cat([head[..., :first], *within], dim=-1).float().cpu().numpy()

    @torch.no_grad()
    def logprobs(self, y: NDArray[np.float32], targets: NDArray[np.integer]) -> NDArray[np.float32]:
        columns = torch.from_numpy(targets.astype(np.int64)).to(self.device).flatten() - 1
        features = self.head(torch.from_numpy(y).to(self.device).flatten(0, 1))
        logprobs = target_logprobs(features, columns, self.softmax())
        return logprobs.view(targets.shape).cpu().numpy()

    @torch.no_grad()
    def word_features(self, spellings: NDArray[np.integer]) -> NDArray[np.float32]:
        """The character features of words, from their characters (N, L): (N, char_features)."""
        ids = torch.from_numpy(spellings.astype(np.int64)).to(self.device)
        return self.encoder.characters.table(ids).cpu().numpy()
