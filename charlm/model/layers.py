"""The layers of the torch network: recurrent, highway, feed-forward, normalisation, output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.model.config import ModelConfig, StackConfig
from charlm.model.dropout_masks import DropoutMasks
from charlm.model.equations import NORM_EPSILON, Cell, Parameters
from charlm.model.recurrence import FUSED, LayerState, fast_unroll, unroll

States = list[LayerState]
L = TypeVar("L", bound="Layer | BidirectionalLayer")


class Layer(nn.Module):
    """A recurrent layer of one direction: x (T, B, I), state -> outputs (T, B, H), last state.

    The steps after the end of a sequence do not change what comes before, so it ignores lengths. It
    runs the torch kernel of the cell if there is one, otherwise `fast_unroll`.

    inputs:      input features I
    hidden:      output features H
    layer_norm:  the gates have layer normalisation
    reference:   run `unroll` instead, without any fast path
    """

    W: Tensor
    U: Tensor
    b: Tensor

    def __init__(
        self, cell: Cell, inputs: int, hidden: int, layer_norm: bool, reference: bool = False
    ) -> None:
        super().__init__()
        self.cell, self.size, self.layer_norm, self.reference = cell, hidden, layer_norm, reference
        for name, shape in cell.shapes(inputs, hidden, layer_norm).items():
            start = torch.ones if name in cell.gains else torch.zeros
            self.register_parameter(name, nn.Parameter(start(shape)))

    def forward(
        self,
        x: Tensor,
        state: LayerState,
        masks: DropoutMasks | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, LayerState]:
        weights, mask = self.weights_and_mask(x, masks)
        if not x.shape[1]:  # kernels would take long for nothing
            return x.new_zeros(len(x), 0, self.size), state
        kernel = None if self.layer_norm or mask is not None else FUSED.get(self.cell.fused or "")
        if kernel and not self.reference:
            return kernel(weights, x, state, self.training)
        gates = F.linear(x, self.W, None if self.layer_norm else self.b)
        if self.reference:
            return unroll(self.cell, Parameters(self.cell, weights, mask), gates, state)
        return fast_unroll(self.cell, weights, gates, state, mask)

    def weights_and_mask(
        self, x: Tensor, masks: DropoutMasks | None
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """The weights after weight dropout, and the dropout mask (B, H) of the hidden state."""
        weights: dict[str, Tensor] = dict(self.named_parameters())
        if masks is None:
            return weights, None
        if rate := masks.dropout.weights:
            for name, _ in self.cell.matrices:
                matrix = weights[name]
                draws = masks.draws(matrix, tuple(matrix.shape))
                weights[name] = matrix * masks.of(matrix, rate, draws)
        if not (rate := masks.dropout.state):
            return weights, None
        draws = masks.sequence_draws(x, (x.shape[1], self.size))
        return weights, masks.of(self.b, rate, draws)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator, forget_bias: float = 1.0) -> None:
        """Draws the initial weights, separately for each gate.

        Input weights follow Glorot and Bengio (2010). Recurrent weights are orthogonal (Saxe et
        al. 2014), or half the identity if `Cell.identity`: with the whole identity (Le et al.
        2015) the state grows without bound in a long text. The bias of the forget gate is
        `forget_bias` (Gers et al. 2000). The other biases stay 0.
        """
        for gate, rows in self._rows(self.cell.gates):
            nn.init.xavier_uniform_(self.W[rows], generator=generator)
            if gate in "fF":
                self.b[rows].fill_(forget_bias)
        for name, gates in self.cell.matrices:
            matrix = getattr(self, name)
            for _, rows in self._rows(gates):
                if self.cell.identity:
                    nn.init.eye_(matrix[rows]).mul_(0.5)
                else:
                    nn.init.orthogonal_(matrix[rows], generator=generator)

    def zero_state(self, like: Tensor, batch: int) -> LayerState:
        return tuple(like.new_zeros(batch, self.size) for _ in self.cell.state)

    def _rows(self, gates: str) -> list[tuple[str, slice]]:
        """The rows of each gate in a matrix that has these gates."""
        return [(g, slice(k * self.size, (k + 1) * self.size)) for k, g in enumerate(gates)]


def reverse_in_time(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverses each sequence of x (T, B, …) within its length; lengths (B,).

    Steps after the end of a sequence keep their positions. The function is its own inverse.
    """
    steps = torch.arange(len(x), device=x.device)[:, None]
    source = torch.where(steps < lengths, lengths - 1 - steps, steps)
    return x[source, torch.arange(x.shape[1], device=x.device)]


class BidirectionalLayer(nn.Module):
    """Two recurrent layers, one of which reads from the end (Schuster and Paliwal 1997).

    x (T, B, I), state -> outputs (T, B, 2·H), first of the forward layer; last states of both.
    Both outputs of a step have seen the whole sequence, the step itself included.
    """

    def __init__(self, forwards: Layer, backwards: Layer) -> None:
        super().__init__()
        self.forwards, self.backwards = forwards, backwards

    def forward(
        self,
        x: Tensor,
        state: LayerState,
        masks: DropoutMasks | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, LayerState]:
        if lengths is None:
            lengths = torch.full((x.shape[1],), len(x), device=x.device)
        half = len(state) // 2
        y, after = self.forwards(x, state[:half], masks)
        reversed_y, reversed_after = self.backwards(
            reverse_in_time(x, lengths), state[half:], masks
        )
        both = torch.cat([y, reverse_in_time(reversed_y, lengths)], dim=-1)
        return both, (*after, *reversed_after)

    def initialise(self, generator: torch.Generator, forget_bias: float = 1.0) -> None:
        for layer in (self.forwards, self.backwards):
            layer.initialise(generator, forget_bias)

    def zero_state(self, like: Tensor, batch: int) -> LayerState:
        return self.forwards.zero_state(like, batch) + self.backwards.zero_state(like, batch)


class Stack(nn.ModuleList, Generic[L]):
    """A stack of recurrent layers: x (T, B, I), states -> outputs (T, B, O), last states.

    residual:  a layer's input is added to its output where both have the same size
    """

    def __init__(self, layers: Iterable[L], residual: bool = False) -> None:
        super().__init__(layers)
        self.residual = residual

    def __iter__(self) -> Iterator[L]:
        return cast(Iterator[L], super().__iter__())

    def initialise(self, generator: torch.Generator, forget_bias: float = 1.0) -> None:
        """Draws the initial weights, see `Layer.initialise`."""
        for layer in self:
            layer.initialise(generator, forget_bias)

    def zero_state(self, like: Tensor, batch: int) -> States:
        """The state before the first step, for `batch` sequences."""
        return [layer.zero_state(like, batch) for layer in self]

    def forward(
        self,
        x: Tensor,
        states: States,
        masks: DropoutMasks | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, States]:
        """lengths: (B,) steps of each sequence; None for all T"""
        last: States = []
        for layer, state in zip(self, states, strict=True):
            dropped = x
            if masks:
                dropped = masks.outputs(x) if last else masks.inputs(x)
            y, state = layer(dropped, state, masks, lengths)
            x = x + y if self.residual and x.shape == y.shape else y
            last.append(tuple(s.float() if s.dtype.itemsize < 4 else s for s in state))
        return x, last


def stack(config: StackConfig, inputs: int, reference: bool = False) -> Stack[Layer]:
    """The stack of one direction, with these input features. reference: see `Layer`"""
    sizes = [inputs] + [config.hidden] * (config.layers - 1)
    return Stack((_layer(config, size, reference) for size in sizes), config.residual)


def bidirectional_stack(config: StackConfig, inputs: int) -> Stack[BidirectionalLayer]:
    """A stack of layers of two directions: each reads both outputs of the one below."""
    sizes = [inputs] + [2 * config.hidden] * (config.layers - 1)
    layers = (BidirectionalLayer(_layer(config, n), _layer(config, n)) for n in sizes)
    return Stack(layers, config.residual)


def _layer(config: StackConfig, inputs: int, reference: bool = False) -> Layer:
    return Layer(config.recurrence, inputs, config.hidden, config.layer_norm, reference)


class Highway(nn.Module):
    """A highway layer (Srivastava et al. 2015): y = H(x)⊙T(x) + x⊙(1−T(x)).

    H(x) = relu(W x + b); T(x) = σ(W_T x + b_T). b_T starts at −2, so y ≈ x at the beginning.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(features, features))
        self.b = nn.Parameter(torch.zeros(features))
        self.W_T = nn.Parameter(torch.empty(features, features))
        self.b_T = nn.Parameter(torch.full((features,), -2.0))

    def forward(self, x: Tensor) -> Tensor:
        transform = F.linear(x, self.W_T, self.b_T).sigmoid()
        return x + transform * (F.linear(x, self.W, self.b).relu() - x)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        nn.init.kaiming_normal_(self.W, nonlinearity="relu", generator=generator)
        nn.init.xavier_uniform_(self.W_T, generator=generator)


class FeedForward(nn.Module):
    """A feed-forward layer: y = relu(W x + b)."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(features, inputs))
        self.b = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.W, self.b).relu()

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        nn.init.kaiming_normal_(self.W, nonlinearity="relu", generator=generator)


class Norm(nn.Module):
    """Layer normalisation (Ba et al. 2016) of the features that the softmax reads."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.gain.shape, self.gain, self.bias, NORM_EPSILON)


class Output(nn.Module):
    """The weights of the softmax.

    Row k is the token id k + 1, because `<START>` (id 0) is never predicted. A tied network uses
    the embedding instead of W. W_tail and b_tail are the tail rows of a split softmax, see
    `Softmax`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if not config.tied:
            self.W = nn.Parameter(torch.empty(config.vocab - 1, config.hidden))
        self.b = nn.Parameter(torch.zeros(config.vocab - 1))
        if config.cutoffs:
            self.W_tail = nn.Parameter(torch.zeros(len(config.cutoffs), config.hidden))
            self.b_tail = nn.Parameter(torch.zeros(len(config.cutoffs)))
