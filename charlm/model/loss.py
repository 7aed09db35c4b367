"""The loss: cross-entropy of a softmax over the vocabulary, and its gradient in the same pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Logits are made for so many entries (rows × vocabulary) at once, and forgotten: those of a whole
# chunk of a large vocabulary would be written and read from memory time and again.
ENTRIES_AT_ONCE = 1 << 22
TINY = 1e-37  # the least probability whose logarithm is taken


def summed_cross_entropy(y: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Σ −log softmax(y·Wᵀ + b)[target], in nats.

    y:        (N, H)
    weight:   (K, H), or (K + 1, H), whose first row is left out: a tied embedding, in which it
              is that of `<START>`, which is never predicted
    bias:     (K,)
    targets:  (N,) in 0 … K−1

    Under autocast the products and the softmax are in its lower precision, all sums in that of
    the bias.
    """
    return _SummedCrossEntropy.apply(y, weight, bias, targets)  # type: ignore[no-untyped-call]


class _SummedCrossEntropy(torch.autograd.Function):
    """With p = softmax(y·Wᵀ + b) − onehot(target): ∂/∂y = p·W, ∂/∂W = pᵀ·y, ∂/∂b = Σ p."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        low = y.dtype
        if torch.is_autocast_enabled(y.device.type):
            low = torch.get_autocast_dtype(y.device.type)
        skipped = len(weight) - len(bias)
        rows = max(ENTRIES_AT_ONCE // len(bias), 1)
        w, b = weight[skipped:].to(low), bias.to(low)
        total = bias.new_zeros(())
        d_weight, d_bias, d_y = torch.zeros_like(weight), torch.zeros_like(bias), []
        for y_part, wanted in zip(
            torch.split(y.to(low), rows), torch.split(targets, rows), strict=True
        ):
            with torch.autocast(y.device.type, enabled=False):
                p = torch.softmax(torch.addmm(b, y_part, w.T), dim=1)
                of_target = torch.arange(len(wanted), device=p.device), wanted
                total -= p[of_target].to(bias.dtype).clamp_min(TINY).log().sum()
                p[of_target] -= 1
                d_bias += p.sum(dim=0, dtype=bias.dtype)
                d_y.append(p @ w)
                d_weight[skipped:] += p.T @ y_part
        ctx.save_for_backward(torch.cat(d_y).to(y.dtype), d_weight, d_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_total: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        d_y, d_weight, d_bias = ctx.saved_tensors
        return d_total * d_y, d_total * d_weight, d_total * d_bias, None
