"""The speed of the network's steps in sampling, beside `nn.LSTM` and reading the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from benchmarks.speed.harness import Row, in_turns
from benchmarks.speed.limits import reading_rate
from benchmarks.speed.networks import EMBEDDING, VOCAB, character_network, random_numpy_network
from charlm.model.numpy_network import NumpyNetwork

SHAPES = ((1, 256), (1, 512), (2, 512), (2, 1024))  # layers, features
STREAMS = 16
BYTES_PER_RUN = 4e9  # weights that a run reads


def sampling() -> Iterator[Row]:
    for layers, hidden in SHAPES:
        config = character_network(layers, hidden)
        network = random_numpy_network(config)
        # The first layer's input products are in a table, so their weights are not read.
        size = int(4 * (config.multiplied_weights() - 4 * hidden * EMBEDDING))
        steps = int(BYTES_PER_RUN / size)
        seconds = in_turns(
            {
                "plain": plain_steps(layers, hidden, steps),
                "one stream": charlm_steps(network, 1, steps),
                "streams": charlm_steps(network, STREAMS, steps),
            }
        )
        shape = f"{layers} × {hidden}"
        yield Row(
            f"one stream, {shape}",
            "tokens/s",
            steps / seconds["one stream"],
            plain=steps / seconds["plain"],
            limit=reading_rate(size) * 1e9 / size,
        )
        yield Row(f"{STREAMS} streams, {shape}", "tokens/s", STREAMS * steps / seconds["streams"])


def charlm_steps(network: NumpyNetwork, streams: int, steps: int) -> Callable[[], None]:
    """Steps of several streams side by side."""

    def run() -> None:
        state, ids = network.initial_state(streams), np.full((streams, 1), 3)
        for _ in range(steps):
            y, state = network.read(ids, state)
            network.logits(y)

    return run


def plain_steps(layers: int, hidden: int, steps: int) -> Callable[[], None]:
    """Steps of one stream in the usual way: a call of `nn.LSTM` for each character."""
    lstm, output = nn.LSTM(EMBEDDING, hidden, layers), nn.Linear(hidden, VOCAB - 1)
    x = torch.zeros(1, 1, EMBEDDING)

    def run() -> None:
        state = None
        with torch.no_grad():
            for _ in range(steps):
                y, state = lstm(x, state)
                output(y)

    return run
