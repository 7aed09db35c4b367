"""The loss: cross-entropy of a softmax over the vocabulary, and its gradient in the same pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Logits are made for so many entries (rows × vocabulary) at once, and forgotten: those of a whole
# chunk of a large vocabulary would be written and read from memory time and again.
ENTRIES_AT_ONCE = 1 << 22
TINY = 1e-37  # the least probability whose logarithm is taken


class Softmax(NamedTuple):
    """The weights of a softmax that may be split, see `ModelConfig.cutoffs`.

    cutoffs:      J rows of `weight` at which the tails start
    weight:       (K, H), or (K + 1, H), whose first row is left out: a tied embedding, in which
                  it is that of `<START>`, which is never predicted
    bias:         (K,)
    tail_weight:  (J, H), and
    tail_bias:    (J,), a row for each tail: how it stands in the head's softmax
    """

    cutoffs: tuple[int, ...]
    weight: Tensor
    bias: Tensor
    tail_weight: Tensor
    tail_bias: Tensor

    @property
    def head(self) -> int:
        """Rows of the head, without those of the tails."""
        return self.cutoffs[0] if self.cutoffs else len(self.bias)

    @property
    def own(self) -> Tensor:
        return self.weight[len(self.weight) - len(self.bias) :]

    def part(self, number: int) -> tuple[Tensor, Tensor]:
        """W and b of the head, number 0, in which the tails come last; or, a view, of a tail."""
        if number == 0:
            head = slice(0, self.head)
            return (
                torch.cat([self.own[head], self.tail_weight]),
                torch.cat([self.bias[head], self.tail_bias]),
            )
        rows = slice(self.cutoffs[number - 1], (*self.cutoffs, len(self.bias))[number])
        return self.own[rows], self.bias[rows]

    def places(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """For targets (N,) the part that each is in, and its row in the head's softmax."""
        starts = torch.tensor(self.cutoffs, dtype=targets.dtype, device=targets.device)
        part = torch.bucketize(targets, starts, right=True)
        return part, torch.where(part > 0, self.head - 1 + part, targets)


def summed_cross_entropy(y: Tensor, targets: Tensor, softmax: Softmax) -> Tensor:
    """Σ −log p(target), in nats, after y (N, H); targets (N,) in 0 … K−1.

    Under autocast the products and the softmax are in its lower precision, all sums in that of
    the bias.
    """
    return _SummedCrossEntropy.apply(y, targets, *softmax)  # type: ignore[no-untyped-call]


def target_logprobs(y: Tensor, targets: Tensor, softmax: Softmax) -> Tensor:
    """log p(target) in nats, (N,) float32, after y (N, H), without gradients."""
    parts = [softmax.part(number) for number in range(len(softmax.cutoffs) + 1)]
    rows = max(ENTRIES_AT_ONCE // len(softmax.bias), 1)

    def of(y: Tensor, number: int, targets: Tensor) -> Tensor:
        return -F.cross_entropy(F.linear(y, *parts[number]).float(), targets, reduction="none")

    found = []
    for features, wanted in zip(torch.split(y, rows), torch.split(targets, rows), strict=True):
        place, in_head = softmax.places(wanted)
        logprobs = of(features, 0, in_head)
        for number, first in enumerate(softmax.cutoffs, 1):
            here = place == number
            logprobs[here] += of(features[here], number, wanted[here] - first)
        found.append(logprobs)
    return torch.cat(found)


class _SummedCrossEntropy(torch.autograd.Function):
    """The gradients are made in the forward pass, part of the softmax after part."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, targets: Tensor, cutoffs: tuple[int, ...], *tensors: Tensor
    ) -> Tensor:
        low = y.dtype
        if torch.is_autocast_enabled(y.device.type):
            low = torch.get_autocast_dtype(y.device.type)
        softmax = Softmax(cutoffs, *tensors)
        gradients = [torch.zeros_like(t) for t in tensors]
        found = Softmax(cutoffs, *gradients)
        with torch.autocast(y.device.type, enabled=False):
            read = y.to(low)
            place, in_head = softmax.places(targets)
            head, rows = softmax.part(0), softmax.head
            d_W, d_b = (torch.zeros_like(t) for t in head)
            total, d_y = _part(read, in_head, *head, d_W, d_b)
            found.own[:rows], found.tail_weight[:] = d_W[:rows], d_W[rows:]
            found.bias[:rows], found.tail_bias[:] = d_b[:rows], d_b[rows:]
            for number, first in enumerate(cutoffs, 1):
                here = (place == number).nonzero()[:, 0]
                part, d_part = softmax.part(number), found.part(number)
                loss, d_here = _part(read[here], targets[here] - first, *part, *d_part)
                total += loss
                d_y.index_add_(0, here, d_here)
        ctx.save_for_backward(d_y.to(y.dtype), *gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_total: Tensor) -> tuple[Tensor | None, ...]:
        d_y, *d_tensors = (d.mul_(d_total) for d in ctx.saved_tensors)
        return d_y, None, None, *d_tensors


def _part(
    y: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, d_weight: Tensor, d_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """L = Σ −log softmax(y·Wᵀ + b)[target] and ∂L/∂y, in the precision of y; ∂L/∂W and ∂L/∂b are
    added to what is given.

    With p = softmax(y·Wᵀ + b) − onehot(target): ∂/∂y = p·W, ∂/∂W = pᵀ·y, ∂/∂b = Σ p.
    """
    w, b = weight.to(y.dtype), bias.to(y.dtype)
    total, d_y = bias.new_zeros(()), torch.empty_like(y)
    rows = max(ENTRIES_AT_ONCE // len(bias), 1)
    for start in range(0, len(y), rows):
        chunk = slice(start, start + rows)
        p = torch.softmax(torch.addmm(b, y[chunk], w.T), dim=1)
        of_target = torch.arange(len(p), device=p.device), targets[chunk]
        total -= p[of_target].to(bias.dtype).clamp_min(TINY).log().sum()
        p[of_target] -= 1
        torch.mm(p, w, out=d_y[chunk])
        d_weight += p.T @ y[chunk]
        d_bias += p.sum(dim=0, dtype=bias.dtype)
    return total, d_y
