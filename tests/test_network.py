"""What a network is made of beside its cells: dropout, loss, highway, spelling, both directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from charlm.model.config import Dropout, ModelConfig
from charlm.model.layers import Highway, Masks
from charlm.model.loss import summed_cross_entropy
from charlm.model.network import Network


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("tied", [False, True])
def test_the_loss_and_its_gradients_are_those_of_torchs_cross_entropy(
    rows: int, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlm.model.loss.ENTRIES_AT_ONCE", rows * 7)
    torch.manual_seed(0)
    y, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((10, 4), (7 + tied, 4), (7,))
    )
    targets = torch.randint(7, (10,))
    ours = summed_cross_entropy(y, weight, bias, targets)
    logits = torch.nn.functional.linear(y, weight[tied:], bias)
    theirs = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    found, expected = (torch.autograd.grad(2 * t, (y, weight, bias)) for t in (ours, theirs))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_the_loss_in_bf16_is_near_that_in_float32() -> None:
    torch.manual_seed(0)
    y, weight = torch.randn(50, 16, requires_grad=True), torch.randn(30, 16, requires_grad=True)
    bias, targets = torch.zeros(30, requires_grad=True), torch.randint(30, (50,))
    exact = summed_cross_entropy(y, weight, bias, targets)
    with torch.autocast("cpu", torch.bfloat16):
        near = summed_cross_entropy(y, weight, bias, targets)
    assert near.dtype == torch.float32
    torch.testing.assert_close(near, exact, rtol=1e-2, atol=0)
    gradients = (torch.autograd.grad(loss, (y, weight, bias)) for loss in (near, exact))
    for a, b in zip(*gradients, strict=True):
        assert a.dtype == torch.float32 and (a - b).norm() < 0.02 * b.norm()
