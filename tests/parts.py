"""Checks of any task: the parts of several processes, and of a training that was stopped."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import charlm
from charlm.corpus.batches import BatchShape, Cursor
from charlm.corpus.examples import Examples
from charlm.errors import Stopped
from charlm.model.config import Dropout
from charlm.parts import WHOLE, Part
from charlm.tasks.base import Task, Validation
from conftest import stopped_after

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


def check_resumed(
    corpus: Path,
    kind: Any,
    options: dict[str, Any],
    after: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A training that was stopped after some steps ends with the very same weights.

    The current folder is used.
    """
    charlm.train(corpus, kind=kind, out="whole", **options)
    with monkeypatch.context() as patch:
        stopped_after(after, patch)
        with pytest.raises(Stopped):
            charlm.train(corpus, kind=kind, out="parts", **options)
    charlm.train(corpus, out="parts", resume=True, quiet=True)
    expected, found = (load_file(f"{run}/model.safetensors") for run in ("whole", "parts"))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name])
