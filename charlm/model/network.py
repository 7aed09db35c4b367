"""The network in torch: it trains, and it scores when there is much to score."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.model.config import ModelConfig
from charlm.model.equations import CELLS, Parameters
from charlm.model.loss import ENTRIES_AT_ONCE, summed_cross_entropy
from charlm.model.stepper import NORM_EPSILON

LayerState = tuple[Tensor, ...]
States = list[LayerState]


def _fused_lstm(p: Layer, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
    h, c = (s[None] for s in state)
    weights = (p.W, p.U, p.b, torch.zeros_like(p.b))
    y, h, c = torch.lstm(x, (h, c), weights, True, 1, 0.0, p.training, False, False)
    return y, (h[0], c[0])


def _fused_gru(p: Layer, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
    recurrent_bias = F.pad(p.b_u, (2 * p.b_u.numel(), 0))
    weights = (p.W, p.U, p.b, recurrent_bias)
    y, h = torch.gru(x, state[0][None], weights, True, 1, 0.0, p.training, False, False)
    return y, (h[0],)


def _fused_rnn(p: Layer, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
    weights = (p.W, p.U, p.b, torch.zeros_like(p.b))
    y, h = torch.rnn_tanh(x, state[0][None], weights, True, 1, 0.0, p.training, False, False)
    return y, (h[0],)


# torch's kernels over a whole sequence: oneDNN's on a CPU, cuDNN's on a GPU.
FUSED: dict[str, Callable[[Layer, Tensor, LayerState], tuple[Tensor, LayerState]]] = {
    "lstm": _fused_lstm,
    "gru": _fused_gru,
    "rnn": _fused_rnn,
}


class Layer(nn.Module):
    """One recurrent layer over a sequence: x (T, B, I), state -> y (T, B, H), state after.

    With `fused` it runs torch's kernel where the cell has one, else the cell's equations, step
    by step.
    """

    W: Tensor
    U: Tensor
    b: Tensor
    b_u: Tensor

    def __init__(self, config: ModelConfig, inputs: int, fused: bool) -> None:
        super().__init__()
        self.cell = CELLS[config.cell]
        self.kernel = FUSED.get(config.cell) if fused else None
        rows = len(self.cell.gates) * config.hidden
        self.W = nn.Parameter(torch.empty(rows, inputs))
        self.U = nn.Parameter(torch.empty(rows, config.hidden))
        self.b = nn.Parameter(torch.zeros(rows))
        for name in self.cell.vectors:
            self.register_parameter(name, nn.Parameter(torch.zeros(config.hidden)))

    def forward(self, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        return self.kernel(self, x, state) if self.kernel else self.scan(x, state)

    def scan(self, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """The reference: the cell's equations, one step after another."""
        gates = F.linear(x, self.W, self.b)  # (T, B, G·H)
        p = Parameters(**dict(self.named_parameters()))
        outputs = []
        for step_gates in gates:
            state = self.cell.step(p, step_gates, state)
            outputs.append(state[0])
        return torch.stack(outputs), state

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Input weights by Glorot and Bengio (2010), recurrent ones orthogonal (Saxe et al.
        2014) gate by gate, the forget gate's bias 1 (Gers et al. 2000), every other bias 0."""
        hidden = self.U.shape[1]
        for gate in range(len(self.cell.gates)):
            rows = slice(gate * hidden, (gate + 1) * hidden)
            nn.init.xavier_uniform_(self.W[rows], generator=generator)
            nn.init.orthogonal_(self.U[rows], generator=generator)
            if self.cell.gates[gate] == "f":
                self.b[rows].fill_(1.0)


class Norm(nn.Module):
    """Layer normalisation (Ba et al. 2016) between the top layer and the softmax."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.gain.shape, self.gain, self.bias, NORM_EPSILON)


class Output(nn.Module):
    """The softmax's weights: row k scores id k + 1, as `<START>` is never predicted."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if not config.tied:
            self.W = nn.Parameter(torch.empty(config.vocab - 1, config.hidden))
        self.b = nn.Parameter(torch.zeros(config.vocab - 1))


class Network(nn.Module):
    """Embedding, recurrent layers, layer normalisation, softmax.

    dropout:    the probability with which a feature of a layer's output is zero; one mask a
                sequence and chunk, constant over time (Gal and Ghahramani 2016)
    generator:  draws the weights at first, and the masks of dropout
    """

    def __init__(
        self,
        config: ModelConfig,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.config, self.dropout = config, dropout
        self.generator = generator or torch.Generator().manual_seed(0)
        self.embedding = nn.Parameter(torch.empty(config.vocab, config.embedding))
        self.layers = nn.ModuleList(
            Layer(config, config.hidden if k else config.embedding, fused)
            for k in range(config.layers)
        )
        self.norm = Norm(config.hidden)
        self.output = Output(config)
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        nn.init.normal_(self.embedding, std=0.1, generator=self.generator)
        for layer in self.layers:
            layer.initialise(self.generator)  # type: ignore[operator]
        if not self.config.tied:
            nn.init.normal_(self.output.W, std=0.1, generator=self.generator)

    def initial_state(self, batch: int) -> States:
        """The zero state of every layer: tuples of tensors (batch, H)."""
        shape = (batch, self.config.hidden)
        names = CELLS[self.config.cell].state
        return [tuple(self.embedding.new_zeros(shape) for _ in names) for _ in self.layers]

    def hidden(self, inputs: Tensor, state: States) -> tuple[Tensor, States]:
        """Ids (T, B) -> the normalised output of the top layer (T, B, H), and the state after."""
        x = F.embedding(inputs, self.embedding)
        if self.config.tied:  # a character's vector is too small to spare a part of it
            x = self._drop(x)
        after = []
        for layer, layer_state in zip(self.layers, state, strict=True):
            x, layer_state = layer(x, layer_state)
            after.append(tuple(s.float() for s in layer_state))
            if layer is not self.layers[-1]:
                x = self._drop(x)
        return self._drop(self.norm(x)), after

    def loss(self, inputs: Tensor, targets: Tensor, state: States) -> tuple[Tensor, States]:
        """The summed cross-entropy of the targets (T, B), in nats, and the state after."""
        y, state = self.hidden(inputs, state)
        weight = self.embedding if self.config.tied else self.output.W
        total = summed_cross_entropy(y.flatten(0, 1), weight, self.output.b, targets.flatten() - 1)
        return total, state

    @torch.no_grad()
    def logprobs(
        self, inputs: NDArray[np.integer], targets: NDArray[np.integer], state: States
    ) -> tuple[NDArray[np.float32], States]:
        """log p(targets[b, t] | inputs[b, :t+1], state) in nats, (B, T), and the state after."""
        device = self.embedding.device
        x = torch.from_numpy(inputs.T.astype(np.int64)).to(device)
        columns = torch.from_numpy(targets.T.astype(np.int64)).to(device) - 1
        y, state = self.hidden(x, state)
        rows = max(ENTRIES_AT_ONCE // self.config.vocab, 1)
        parts = torch.split(y.flatten(0, 1), rows), torch.split(columns.flatten(), rows)
        found = [
            -F.cross_entropy(self._logits(part), wanted, reduction="none")
            for part, wanted in zip(*parts, strict=True)
        ]
        return torch.cat(found).view(columns.shape).T.cpu().numpy(), state

    def _logits(self, y: Tensor) -> Tensor:
        weight = self.embedding[1:] if self.config.tied else self.output.W
        return F.linear(y, weight, self.output.b).float()

    def _drop(self, x: Tensor) -> Tensor:
        if not self.training or self.dropout == 0.0:
            return x
        kept = torch.rand(x.shape[1:], generator=self.generator, device=x.device) >= self.dropout
        return x * (kept / (1.0 - self.dropout)).to(x.dtype)


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
