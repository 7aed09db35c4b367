"""Cross-entropy of a softmax over the vocabulary, with gradients computed in the same pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Logits (rows × vocabulary) are computed in chunks of this size to limit memory traffic.
LOGITS_PER_CHUNK = 1 << 22
FEW_LOGITS = 1 << 17  # up to here the functions of torch are faster
MIN_PROBABILITY = 1e-37  # smaller probabilities are raised to this before the logarithm


class Softmax(NamedTuple):
    """The weights of a softmax over K rows, plain or split into a head and J tails.

    A split softmax is a variant of Grave et al. (2017), see `ModelConfig.cutoffs`. Its head has an
    additional row for each tail. For a row of a tail, p(row) = p(tail)·p(row | tail).

    cutoffs:      first row of each tail, ascending; () for a plain softmax
    weight:       (K, H), or (K + 1, H) for a tied embedding; its first row, `<START>`, is unused
    bias:         (K,)
    tail_weight:  (J, H), the rows of the tails in the head
    tail_bias:    (J,)
    """

    cutoffs: tuple[int, ...]
    weight: Tensor
    bias: Tensor
    tail_weight: Tensor
    tail_bias: Tensor

    @property
    def head_rows(self) -> int:
        """Rows of the head, without the rows of the tails."""
        return self.cutoffs[0] if self.cutoffs else len(self.bias)

    @property
    def rows(self) -> Tensor:
        """`weight` without the unused row, (K, H)."""
        return self.weight[len(self.weight) - len(self.bias) :]

    def part(self, number: int) -> tuple[Tensor, Tensor]:
        """W and b of one part: 0 is the head, its tail rows last; j ≥ 1 is tail j, a view."""
        if number == 0:
            head = slice(0, self.head_rows)
            return (
                torch.cat([self.rows[head], self.tail_weight]),
                torch.cat([self.bias[head], self.tail_bias]),
            )
        rows = slice(self.cutoffs[number - 1], (*self.cutoffs, len(self.bias))[number])
        return self.rows[rows], self.bias[rows]

    def locate(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Part number and row in the head of each target, both (N,); targets (N,)."""
        starts = torch.tensor(self.cutoffs, dtype=targets.dtype, device=targets.device)
        part = torch.bucketize(targets, starts, right=True)
        return part, torch.where(part > 0, self.head_rows - 1 + part, targets)


def summed_cross_entropy(y: Tensor, targets: Tensor, softmax: Softmax) -> Tensor:
    """Σ −log p(target) in nats, a scalar.

    y:        (N, H), the features that the softmax reads
    targets:  (N,), rows 0 … K−1

    Under autocast, products have its lower precision, and so has the softmax of many logits. Sums
    always have the precision of the bias.
    """
    if not softmax.cutoffs and len(y) * len(softmax.bias) <= FEW_LOGITS:
        logits = F.linear(y, softmax.rows, softmax.bias).to(softmax.bias.dtype)
        return F.cross_entropy(logits, targets, reduction="sum")
    return _SummedCrossEntropy.apply(y, targets, *softmax)  # type: ignore[no-untyped-call]


def target_logprobs(y: Tensor, targets: Tensor, softmax: Softmax) -> Tensor:
    """log p(target) in nats, (N,) float32, without gradients.

    y:        (N, H), the features that the softmax reads
    targets:  (N,), rows 0 … K−1
    """
    parts = [softmax.part(number) for number in range(len(softmax.cutoffs) + 1)]
    rows = max(LOGITS_PER_CHUNK // len(softmax.bias), 1)

    def part_logprobs(y: Tensor, number: int, targets: Tensor) -> Tensor:
        return -F.cross_entropy(F.linear(y, *parts[number]).float(), targets, reduction="none")

    chunks = []
    for y_chunk, rows_chunk in zip(torch.split(y, rows), torch.split(targets, rows), strict=True):
        part, in_head = softmax.locate(rows_chunk)
        logprobs = part_logprobs(y_chunk, 0, in_head)
        for number, first in enumerate(softmax.cutoffs, 1):
            in_tail = part == number
            logprobs[in_tail] += part_logprobs(
                y_chunk[in_tail], number, rows_chunk[in_tail] - first
            )
        chunks.append(logprobs)
    return torch.cat(chunks)


class _SummedCrossEntropy(torch.autograd.Function):
    """The forward pass also computes the gradients, for the head and then for each tail."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, targets: Tensor, cutoffs: tuple[int, ...], *tensors: Tensor
    ) -> Tensor:
        dtype = y.dtype
        if torch.is_autocast_enabled(y.device.type):
            dtype = torch.get_autocast_dtype(y.device.type)
        softmax = Softmax(cutoffs, *tensors)
        gradients = [torch.zeros_like(t) for t in tensors]
        d_softmax = Softmax(cutoffs, *gradients)
        with torch.autocast(y.device.type, enabled=False):
            low = y.to(dtype)
            part, in_head = softmax.locate(targets)
            head, rows = softmax.part(0), softmax.head_rows
            d_W, d_b = (torch.zeros_like(t) for t in head)
            total, d_y = _part_loss(low, in_head, *head, d_W, d_b)
            d_softmax.rows[:rows], d_softmax.tail_weight[:] = d_W[:rows], d_W[rows:]
            d_softmax.bias[:rows], d_softmax.tail_bias[:] = d_b[:rows], d_b[rows:]
            for number, first in enumerate(cutoffs, 1):
                k = (part == number).nonzero()[:, 0]
                tail, d_tail = softmax.part(number), d_softmax.part(number)
                loss, d_low = _part_loss(low[k], targets[k] - first, *tail, *d_tail)
                total += loss
                d_y.index_add_(0, k, d_low)
        ctx.save_for_backward(d_y.to(y.dtype), *gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_total: Tensor) -> tuple[Tensor | None, ...]:
        d_y, *d_tensors = (d.mul_(d_total) for d in ctx.saved_tensors)
        return d_y, None, None, *d_tensors


def _part_loss(
    y: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, d_weight: Tensor, d_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """L = Σ −log softmax(y·Wᵀ + b)[target] and ∂L/∂y, computed in the precision of y.

    Adds ∂L/∂W to `d_weight` and ∂L/∂b to `d_bias`. With p = softmax(y·Wᵀ + b) − onehot(target):
    ∂L/∂y = p·W, ∂L/∂W = pᵀ·y, ∂L/∂b = Σ p.
    """
    w, b = weight.to(y.dtype), bias.to(y.dtype)
    total, d_y = bias.new_zeros(()), torch.empty_like(y)
    rows = max(LOGITS_PER_CHUNK // len(bias), 1)
    for start in range(0, len(y), rows):
        chunk = slice(start, start + rows)
        p = torch.softmax(torch.addmm(b, y[chunk], w.T), dim=1)
        of_target = torch.arange(len(p), device=p.device), targets[chunk]
        total -= p[of_target].to(bias.dtype).clamp_min(MIN_PROBABILITY).log().sum()
        p[of_target] -= 1
        torch.mm(p, w, out=d_y[chunk])
        d_weight += p.T @ y[chunk]
        d_bias += p.sum(dim=0, dtype=bias.dtype)
    return total, d_y
