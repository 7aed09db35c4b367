"""Three ways to run a cell over a sequence in torch, with equal results.

- `unroll`: the cell's equations with autograd. This is the reference.
- `fast_unroll`: the cell's equations with a faster backward pass, which computes the gradient of
  each recurrent matrix in one product over all steps.
- `FUSED`: the torch kernels (oneDNN on a CPU, cuDNN on a GPU), for the cells that have one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from charlm.model.equations import NORM_EPSILON, Cell, Parameters

LayerState = tuple[Tensor, ...]
Weights = Mapping[str, Tensor]


# --- torch kernels ---


def _lstm(p: Weights, x: Tensor, state: LayerState, train: bool) -> tuple[Tensor, LayerState]:
    h, c = (s[None] for s in state)
    weights = (p["W"], p["U"], p["b"], torch.zeros_like(p["b"]))
    y, h, c = torch.lstm(x, (h, c), weights, True, 1, 0.0, train, False, False)
    return y, (h[0], c[0])


def _gru(p: Weights, x: Tensor, state: LayerState, train: bool) -> tuple[Tensor, LayerState]:
    recurrent_bias = F.pad(p["b_u"], (2 * p["b_u"].numel(), 0))
    weights = (p["W"], p["U"], p["b"], recurrent_bias)
    y, h = torch.gru(x, state[0][None], weights, True, 1, 0.0, train, False, False)
    return y, (h[0],)


def _rnn(kernel: Any) -> Callable[..., tuple[Tensor, LayerState]]:
    def run(p: Weights, x: Tensor, state: LayerState, train: bool) -> tuple[Tensor, LayerState]:
        weights = (p["W"], p["U"], p["b"], torch.zeros_like(p["b"]))
        y, h = kernel(x, state[0][None], weights, True, 1, 0.0, train, False, False)
        return y, (h[0],)

    return run


FUSED: dict[str, Callable[..., tuple[Tensor, LayerState]]] = {
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": _rnn(torch.rnn_tanh),
    "rnn_relu": _rnn(torch.rnn_relu),
}


# --- the equations ---


def unroll(cell: Cell, p: Parameters, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
    """Runs the cell's step T times.

    x:      (T, B, G·H), the input part of the gates
    state:  state before the first step, arrays (B, H)

    Returns the outputs (T, B, H) and the last state.
    """
    outputs = []
    for gates in x:
        state = cell.step(p, gates, state)
        outputs.append(state[0])
    return torch.stack(outputs), state


class _DeferredProduct(torch.autograd.Function):
    """U h, with a deferred gradient of U.

    The backward pass returns the gradient of h. It appends (gradient of the product, h) to
    `pairs`, from which `DeferredParameters.gradients` computes the gradient of U.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, matrix: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
        low = h.to(matrix.dtype)
        ctx.h, ctx.matrix, ctx.pairs = low, matrix, pairs
        return (low @ matrix.T).to(h.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_product: Tensor) -> tuple[Tensor, None, None]:
        low = d_product.to(ctx.matrix.dtype)
        ctx.pairs.append((low, ctx.h))
        return (low @ ctx.matrix).to(d_product.dtype), None, None


class DeferredParameters(Parameters):
    """Parameters with `_DeferredProduct` in precision `dtype` and torch's layer normalisation."""

    def __init__(
        self, cell: Cell, weights: Weights, mask: Tensor | None, dtype: torch.dtype
    ) -> None:
        self.dtype = dtype
        self.pairs: list[list[tuple[Tensor, Tensor]]] = []
        super().__init__(cell, weights, mask)

    def product(self, matrix: Tensor) -> Callable[[Tensor], Tensor]:
        low = matrix.detach().to(self.dtype)
        pairs: list[tuple[Tensor, Tensor]] = []
        self.pairs.append(pairs)
        return lambda h: _DeferredProduct.apply(self._masked(h), low, pairs)  # type: ignore[no-untyped-call]

    def normalised(self, a: Tensor, gates: int, gain: Tensor, bias: Tensor | None) -> Tensor:
        if gates == 1:
            return F.layer_norm(a, gain.shape, gain, bias, NORM_EPSILON)
        parts = a.reshape(*a.shape[:-1], gates, -1)
        y = F.layer_norm(parts, parts.shape[-1:], eps=NORM_EPSILON).reshape(a.shape)
        return y * gain if bias is None else torch.addcmul(bias, y, gain)

    def gradients(self) -> list[Tensor]:
        """∂L/∂U = Σ_t (∂L/∂(U h_t))ᵀ h_t of each recurrent matrix, as one product over all t."""
        gradients = []
        for pairs in self.pairs:
            d_products, states = (torch.cat(tensors) for tensors in zip(*pairs, strict=True))
            gradients.append(d_products.T @ states)
            pairs.clear()
        return gradients


class _FastUnroll(torch.autograd.Function):
    """`unroll` with deferred gradients of the recurrent matrices.

    Plain autograd computes and adds a gradient of each recurrent matrix at every step. Here
    autograd propagates only the gradients of the state, the gates and the vectors.
    """

    @staticmethod
    def forward(
        ctx: Any, cell: Cell, names: tuple[str, ...], mask: Tensor | None, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        x, *rest = (t.detach().requires_grad_() for t in tensors)
        state, weights = tuple(rest[: len(cell.state)]), rest[len(cell.state) :]
        dtype = x.dtype  # under autocast lower than the dtype of the state
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            p = DeferredParameters(cell, dict(zip(names, weights, strict=True)), mask, dtype)
            y, last = unroll(cell, p, x, state)
        ctx.p, ctx.outputs = p, (y, *last)
        matrices = [name for name, _ in cell.matrices]
        ctx.matrices = [k for k, name in enumerate(names, 1 + len(state)) if name in matrices]
        ctx.leaves = [x, *rest]
        return y.detach(), *(s.detach() for s in last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        direct = [k for k in range(len(ctx.leaves)) if k not in ctx.matrices]
        gradients: list[Tensor | None] = [None] * len(ctx.leaves)
        by_autograd = torch.autograd.grad(
            ctx.outputs,
            [ctx.leaves[k] for k in direct],
            d_outputs,
            retain_graph=True,
            allow_unused=True,
        )
        for k, gradient in zip(direct, by_autograd, strict=True):
            gradients[k] = gradient
        for k, gradient in zip(ctx.matrices, ctx.p.gradients(), strict=True):
            gradients[k] = gradient.to(ctx.leaves[k].dtype)
        return None, None, None, *gradients


def fast_unroll(
    cell: Cell, weights: Weights, gates: Tensor, state: LayerState, mask: Tensor | None
) -> tuple[Tensor, LayerState]:
    """`unroll` with a faster backward pass; without one if gradients are disabled.

    weights:  tensors under the names of `Cell.shapes`
    gates:    (T, B, G·H), the input part of the gates
    state:    state before the first step, tensors (B, H)
    mask:     dropout mask (B, H) of the hidden state, see `Parameters`

    Returns the outputs (T, B, H) and the last state.
    """
    if not torch.is_grad_enabled():
        return unroll(cell, DeferredParameters(cell, weights, mask, gates.dtype), gates, state)
    names = tuple(name for name in weights if name != "W")
    tensors = [weights[name] for name in names]
    y, *last = _FastUnroll.apply(cell, names, mask, gates, *state, *tensors)  # type: ignore[no-untyped-call]
    return y, tuple(last)
