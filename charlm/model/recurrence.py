"""How a cell runs over a whole sequence in torch, three ways that give the same.

Torch's own kernels, for the cells that have one; the cell's equations with a backward pass that
leaves the gradients of the recurrent matrices to one product at the end; and the equations with
plain autograd, the reference.
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


# --- torch's own kernels over a whole sequence: oneDNN's on a CPU, cuDNN's on a GPU ---


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


# --- the equations, step by step ---


def unroll(cell: Cell, p: Parameters, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
    """The cell's equations, one step after another: x (T, B, G·H) -> y (T, B, H), state after."""
    outputs = []
    for gates in x:
        state = cell.step(p, gates, state)
        outputs.append(state[0])
    return torch.stack(outputs), state


class _LateProduct(torch.autograd.Function):
    """U h, whose backward pass makes the gradient of h, and leaves that of U for later."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, matrix: Tensor, seen: list[tuple[Tensor, Tensor]]) -> Tensor:
        low = h.to(matrix.dtype)
        ctx.h, ctx.matrix, ctx.seen = low, matrix, seen
        return (low @ matrix.T).to(h.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_product: Tensor) -> tuple[Tensor, None, None]:
        low = d_product.to(ctx.matrix.dtype)
        ctx.seen.append((low, ctx.h))
        return (low @ ctx.matrix).to(d_product.dtype), None, None


class _LateParameters(Parameters):
    """Parameters with late recurrent products, in the precision `low`, and torch's own norm."""

    def __init__(self, cell: Cell, weights: Weights, mask: Tensor | None, low: torch.dtype) -> None:
        self.low = low
        self.seen: list[list[tuple[Tensor, Tensor]]] = []
        super().__init__(cell, weights, mask)

    def product(self, matrix: Tensor) -> Callable[[Tensor], Tensor]:
        low = matrix.detach().to(self.low)
        seen: list[tuple[Tensor, Tensor]] = []
        self.seen.append(seen)
        return lambda h: _LateProduct.apply(self._read(h), low, seen)  # type: ignore[no-untyped-call]

    def normalised(self, a: Tensor, gates: int, gain: Tensor, bias: Tensor | None) -> Tensor:
        if gates == 1:
            return F.layer_norm(a, gain.shape, gain, bias, NORM_EPSILON)
        parts = a.reshape(*a.shape[:-1], gates, -1)
        y = F.layer_norm(parts, parts.shape[-1:], eps=NORM_EPSILON).reshape(a.shape)
        return y * gain if bias is None else torch.addcmul(bias, y, gain)

    def gradients(self) -> list[Tensor]:
        """Of each recurrent matrix: Σ over steps of (gradient of the product)ᵀ·h, one product."""
        found = []
        for seen in self.seen:
            d_products, read = (torch.cat(parts) for parts in zip(*seen, strict=True))
            found.append(d_products.T @ read)
            seen.clear()
        return found


class _Recurrence(torch.autograd.Function):
    """`unroll` with a faster backward pass.

    Autograd carries only the gradients of the state and the gates from step to step; those of the
    recurrent matrices, which it would make and add up at every step, are one product over all
    steps afterwards.
    """

    @staticmethod
    def forward(
        ctx: Any, cell: Cell, names: tuple[str, ...], mask: Tensor | None, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        x, *rest = (t.detach().requires_grad_() for t in tensors)
        state, weights = tuple(rest[: len(cell.state)]), rest[len(cell.state) :]
        low = x.dtype  # of the gates: lower than the state's under autocast
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            p = _LateParameters(cell, dict(zip(names, weights, strict=True)), mask, low)
            y, after = unroll(cell, p, x, state)
        ctx.p, ctx.outputs = p, (y, *after)
        matrices = [name for name, _ in cell.matrices]
        ctx.matrices = [k for k, name in enumerate(names, 1 + len(state)) if name in matrices]
        ctx.leaves = [x, *rest]
        return y.detach(), *(s.detach() for s in after)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        others = [k for k in range(len(ctx.leaves)) if k not in ctx.matrices]
        wanted = [ctx.leaves[k] for k in others]
        found: list[Tensor | None] = [None] * len(ctx.leaves)
        direct = torch.autograd.grad(
            ctx.outputs, wanted, d_outputs, retain_graph=True, allow_unused=True
        )
        for k, gradient in zip(others, direct, strict=True):
            found[k] = gradient
        for k, gradient in zip(ctx.matrices, ctx.p.gradients(), strict=True):
            found[k] = gradient.to(ctx.leaves[k].dtype)
        return None, None, None, *found


def fast_unroll(
    cell: Cell, weights: Weights, gates: Tensor, state: LayerState, mask: Tensor | None
) -> tuple[Tensor, LayerState]:
    """`unroll`, with the faster backward pass where gradients are asked for.

    gates:  (T, B, G·H), the input's share of them
    mask:   (B, H), of dropout of the state that the recurrent products read
    """
    if not torch.is_grad_enabled():
        return unroll(cell, _LateParameters(cell, weights, mask, gates.dtype), gates, state)
    names = tuple(name for name in weights if name != "W")
    tensors = [weights[name] for name in names]
    y, *after = _Recurrence.apply(cell, names, mask, gates, *state, *tensors)  # type: ignore[no-untyped-call]
    return y, tuple(after)
