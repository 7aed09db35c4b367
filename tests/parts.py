"""Checks that the parts of several processes add up to the whole of one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from charlm.corpus.batches import BatchShape, Cursor
from charlm.corpus.examples import Examples
from charlm.model.config import Dropout
from charlm.parts import WHOLE, Part
from charlm.tasks.base import Task, Validation

PARTS = [Part(k, 3) for k in range(3)]


def check_gradients(
    task: Task[Any, Any], config: Any, data: Examples, dropout: Dropout, rtol: float = 1e-3
) -> None:
    """The gradients of the parts of a few batches add up, with the same dropout."""
    found = []
    for part in (WHOLE, *PARTS):
        network = task.network(config, {}, dropout, torch.Generator().manual_seed(3))
        network.double()
        batches = task.batches(data, BatchShape(3, 16, True, 1, part))
        for batch in itertools.islice(batches.iterate(Cursor()), 4):
            loss, _ = task.loss(network, batch, [])
            torch.autograd.backward(loss.double())
        found.append([p.grad for p in network.parameters()])
    for whole, *own in zip(*found, strict=True):
        assert whole is not None
        summed = sum(g for g in own if g is not None)
        torch.testing.assert_close(summed, whole, rtol=rtol, atol=1e-5)


def check_totals(validation: Validation[Any], network: Any) -> Sequence[float]:
    """The totals of the parts add up. Returns those of the whole."""
    whole = validation.totals(network, {})
    parts = np.array([validation.totals(network, {}, part) for part in PARTS])
    np.testing.assert_allclose(parts.sum(axis=0), whole, rtol=1e-6)
    return whole
