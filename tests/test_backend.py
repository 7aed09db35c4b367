"""The two networks are twins: the same methods, the same numbers."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

from charlm.model.backend import Backend, Backends
from charlm.model.config import ModelConfig
from charlm.model.equations import CELLS
from charlm.model.network import Network
from charlm.model.numpy_network import NumpyNetwork
from charlm.model.pseudo_likelihood import both_sides

IDS = np.random.default_rng(0).integers(3, 12, (3, 9))
SHAPES: dict[str, dict[str, Any]] = {
    **{cell: {"cell": cell} for cell in CELLS},
    **{f"{cell}, layer norm": {"cell": cell, "layer_norm": True, "layers": 2} for cell in CELLS},
    "residual": {"layers": 3, "residual": True, "embedding": 10},
    "around": {"highway": 2, "feedforward": 2},
    "tied": {"tied": True, "embedding": 10},
    "split softmax": {"cutoffs": (4, 8)},
    "tied and split": {"tied": True, "embedding": 10, "cutoffs": (5,)},
    "characters": {"characters": "recurrent", "char_features": 6, "alphabet": 5},
}


def twins(**options: Any) -> tuple[NumpyNetwork, Network]:
    """Two networks with the same random weights, none of them zero."""
    config = ModelConfig(12, **{"hidden": 10, "embedding": 7, **options})
    network = Network(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.copy_(0.5 * torch.randn(tensor.shape, generator=generator))
    return NumpyNetwork(config, network.weights()), network


def test_the_twins_offer_the_methods_of_the_contract_with_its_arguments() -> None:
    names = [name for name in vars(Backend) if not name.startswith("_")]
    assert {"initial_state", "read", "logits", "logprobs"} == set(names)
    for name in names:
        expected = list(inspect.signature(getattr(Backend, name)).parameters)
        for twin in (NumpyNetwork, Network):
            assert list(inspect.signature(getattr(twin, name)).parameters) == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_the_twins_give_the_same_numbers(shape: str) -> None:
    in_numpy, in_torch = twins(**SHAPES[shape])
    results = []
    for backend in (in_numpy, in_torch):
        y, state = backend.read(IDS[:, :6], backend.initial_state(3))
        later, _ = backend.read(IDS[:, 6:], state)
        results.append((y, backend.logits(y), backend.logprobs(y, IDS[:, 1:7]), later))
    for a, b in zip(*results, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype == np.float32
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_both_directions_are_those_of_the_twin() -> None:
    in_numpy, in_torch = twins(bidirectional=True, feedforward=1, layers=2)
    lines = [IDS[0], IDS[1, :4]]
    a, b = (both_sides(backend, lines) for backend in (in_numpy, in_torch))
    np.testing.assert_allclose(a[0, :9], b[0, :9], atol=2e-5)
    np.testing.assert_allclose(a[1, :4], b[1, :4], atol=2e-5)
    ids = IDS[:2, :4]
    p, q = in_numpy.logprobs(a[:, :4], ids), in_torch.logprobs(b[:, :4], ids)
    np.testing.assert_allclose(p, q, atol=2e-5)


@pytest.mark.parametrize("shape", ["lstm", "split softmax"])
def test_logits_are_of_a_distribution_and_logprobs_are_its_logarithms(shape: str) -> None:
    for backend in twins(**SHAPES[shape]):
        y, _ = backend.read(IDS, backend.initial_state(3))
        logits = backend.logits(y).astype(np.float64)
        p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        columns = np.take_along_axis(p, IDS[..., None] - 1, axis=-1)[..., 0]
        np.testing.assert_allclose(backend.logprobs(y, IDS), np.log(columns), atol=1e-5)


def test_neither_network_changes_the_weights_that_it_is_made_of() -> None:
    _, network = twins()
    weights = network.weights()
    before = {name: w.copy() for name, w in weights.items()}
    backends = Backends(network.config, weights)
    for backend in (backends.numpy, backends.torch):
        y, _ = backend.read(IDS, backend.initial_state(3))
        backend.logprobs(y, IDS)
    for name, w in before.items():
        np.testing.assert_array_equal(weights[name], w)
