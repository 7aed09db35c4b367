"""The loss of a softmax over the vocabulary."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def summed_cross_entropy(y: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Σ −log softmax(y·Wᵀ + b)[target] in nats: y (N, H), weight (K, H), targets (N,) in 0..K-1."""
    return F.cross_entropy(F.linear(y, weight, bias).float(), targets, reduction="sum")
