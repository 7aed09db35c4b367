"""An encoder–decoder in torch: it reads a source, and writes a target."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.model.config import Dropout
from charlm.model.dropout_masks import DropoutMasks
from charlm.model.layers import States, stack
from charlm.model.network import Trainable
from charlm.model.numpy_seq2seq import Memory as NumpyMemory
from charlm.model.seq2seq_config import JUMPS, Seq2SeqConfig
from charlm.model.sequence_network import SequenceEncoder

FAR = -1e9  # log p of a place where the attention cannot be


class Memory(NamedTuple):
    """What a decoder knows of B sources.

    keys, values:  (S, B, H); None without attention
    real:          (S, B) the tokens of the sources, and not what fills them up; of an empty source
                   the first place
    """

    keys: Tensor | None
    values: Tensor | None
    real: Tensor


class Attention(nn.Module):
    """The weights of `charlm.model.attention`."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        hidden, states = config.hidden, config.source.states
        self.keys = nn.Parameter(torch.empty(hidden, states))
        self.values = nn.Parameter(torch.empty(hidden, states))
        self.own = nn.Parameter(torch.empty(hidden, hidden))
        self.bias = nn.Parameter(torch.zeros(hidden))
        if config.attention == "monotonic":
            self.jumps = nn.Parameter(-torch.arange(JUMPS).float().sub(1).abs())

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        for name in ("keys", "values", "own"):
            nn.init.xavier_uniform_(self.get_parameter(name), generator=generator)

    def scores(self, keys: Tensor, h: Tensor) -> Tensor:
        """h_t·K e_s / √H, (T, B, S)."""
        return _full(torch.einsum("tbh,sbh->tbs", h, keys)) / math.sqrt(h.shape[-1])

    def context(self, memory: Memory, h: Tensor) -> Tensor:
        """z (T, B, H) of the global attention."""
        assert memory.keys is not None and memory.values is not None
        scores = self.scores(memory.keys, h).masked_fill(~memory.real.T, FAR)
        weights = scores.softmax(dim=-1).to(h.dtype)
        context = torch.einsum("tbs,sbh->tbh", weights, memory.values)
        return (context + F.linear(h, self.own)).tanh()

    def moves(self, memory: Memory, h: Tensor) -> Tensor:
        """log p(s_t = s | s_{t−1} = s′), (T, B, S′, S), of the monotonic attention."""
        assert memory.keys is not None
        places = torch.arange(len(memory.real), device=h.device)
        distance = places - places[:, None]
        jumps = self.jumps[distance.clamp(0, JUMPS - 1)].masked_fill(distance < 0, FAR)
        scores = self.scores(memory.keys, h)[:, :, None] + jumps
        return scores.masked_fill(~memory.real.T[:, None], FAR).log_softmax(dim=-1)

    def at_each_place(self, memory: Memory, h: Tensor) -> Tensor:
        """z (T, S, B, H) of the monotonic attention."""
        assert memory.values is not None
        return (memory.values + F.linear(h, self.own)[:, None]).tanh()


class Seq2Seq(Trainable):
    """An encoder, a decoder and an attention; `NumpySeq2Seq` is its twin.

    See `Trainable` for dropout and generator, `Layer.initialise` for forget_bias.
    """

    def __init__(
        self,
        config: Seq2SeqConfig,
        dropout: Dropout | None = None,
        generator: torch.Generator | None = None,
        *,
        forget_bias: float = 1.0,
    ) -> None:
        super().__init__(dropout, generator)
        self.config = config
        self.source = SequenceEncoder(config.source)
        self.start = nn.Linear(config.source.states, config.start_states)
        self.embedding = nn.Parameter(torch.empty(config.vocab, config.embedding))
        self.layers = stack(config, config.inputs)
        if config.attention:
            self.attention = Attention(config)
        self.output = nn.Linear(config.hidden, config.vocab - 1)
        with torch.no_grad():
            self.source.initialise(self.generator, forget_bias)
            nn.init.xavier_uniform_(self.start.weight, generator=self.generator)
            nn.init.zeros_(self.start.bias)
            nn.init.normal_(self.embedding, std=0.1, generator=self.generator)
            self.layers.initialise(self.generator, forget_bias)
            if config.attention:
                self.attention.initialise(self.generator)
            nn.init.normal_(self.output.weight, std=0.1, generator=self.generator)
            nn.init.zeros_(self.output.bias)

    def encode(self, ids: Tensor, masks: DropoutMasks | None = None) -> tuple[Memory, States]:
        """The memory of sources (S, B), and the states that the decoder starts with."""
        y: Tensor = self.source(ids, masks=masks)
        last = torch.clamp((ids != 0).sum(dim=0) - 1, min=0)
        real = torch.arange(len(ids), device=ids.device)[:, None] <= last
        columns, half = torch.arange(len(last), device=y.device), self.config.hidden
        ends = torch.cat([y[last, columns, :half], y[0, :, half:]], dim=-1)
        parts = len(self.config.recurrence.state)
        starts = _full(self.start(ends).tanh()).chunk(self.config.layers * parts, dim=-1)
        states = [tuple(starts[k : k + parts]) for k in range(0, len(starts), parts)]
        if not self.config.attention:
            return Memory(None, None, real), states
        if masks:
            y = masks.outputs(y)
        keys = F.linear(y, self.attention.keys)
        return Memory(keys, F.linear(y, self.attention.values, self.attention.bias), real), states

    def decode(
        self, ids: Tensor, states: States, masks: DropoutMasks | None = None
    ) -> tuple[Tensor, States]:
        """The decoder's states after each of the ids (T, B), (T, B, H), and the state after."""
        y: Tensor
        y, states = self.layers(F.embedding(ids, self.embedding), states, masks)
        return (masks.outputs(y) if masks else y), states

    def forward(
        self, source: Tensor, inputs: Tensor, targets: Tensor, masks: DropoutMasks | None = None
    ) -> Tensor:
        """log p(target | before, source), (T, B).

        source:   (S, B); inputs: (T, B) from `<START>` on; targets: (T, B) ids, 0 fills up
        """
        memory, states = self.encode(source, masks)
        h, _ = self.decode(inputs, states, masks)
        columns = (targets - 1).clamp(min=0)
        if self.config.attention == "monotonic":
            return self._monotonic(memory, h, columns, masks)
        z = self.attention.context(memory, h) if self.config.attention else h
        return _at(self._logprobs(z, masks), columns)

    def _logprobs(self, z: Tensor, masks: DropoutMasks | None) -> Tensor:
        logits: Tensor = self.output(masks.outputs(z) if masks else z)
        return _full(logits).log_softmax(dim=-1)

    def _monotonic(
        self, memory: Memory, h: Tensor, columns: Tensor, masks: DropoutMasks | None
    ) -> Tensor:
        moves = self.attention.moves(memory, h)
        z = self.attention.at_each_place(memory, h)  # (T, S, B, H)
        steps, places = z.shape[:2]
        logprobs = self._logprobs(z.flatten(0, 1), masks).view(steps, places, h.shape[1], -1)
        written = _at(logprobs, columns[:, None].expand(-1, places, -1)).transpose(1, 2)
        alpha = torch.full_like(written[0], FAR)
        alpha[:, 0] = 0.0
        totals = [alpha.new_zeros(len(alpha))]
        for move, of_step in zip(moves, written, strict=True):
            alpha = torch.logsumexp(alpha[:, :, None] + move, dim=1) + of_step
            totals.append(torch.logsumexp(alpha, dim=1))
        return torch.stack(totals).diff(dim=0)

    # --- the methods of `NumpySeq2Seq` ---

    @torch.no_grad()
    def memory_of(self, ids: NDArray[np.int64]) -> tuple[NumpyMemory, States]:
        """The memory of sources (S, n), and the states that the decoder starts with."""
        memory, states = self.encode(torch.from_numpy(ids).to(self.device))
        keys, values = (
            None if part is None else part.transpose(0, 1).float().cpu().contiguous().numpy()
            for part in (memory.keys, memory.values)
        )
        return NumpyMemory(keys, values, memory.real.T.cpu().numpy()), states

    @torch.no_grad()
    def read(self, ids: NDArray[np.integer], states: States) -> tuple[NDArray[np.float32], States]:
        """The decoder's states after each of the ids (B, T), (B, T, H), and the state after."""
        y, states = self.decode(torch.from_numpy(ids.T.astype(np.int64)).to(self.device), states)
        return y.transpose(0, 1).float().cpu().numpy(), states


def _full(x: Tensor) -> Tensor:
    """In float32, if its precision is lower."""
    return x.float() if x.dtype.itemsize < 4 else x


def _at(logprobs: Tensor, columns: Tensor) -> Tensor:
    return logprobs.gather(-1, columns[..., None])[..., 0]
