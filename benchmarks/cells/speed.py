"""The speed of one layer of each cell, beside `torch.nn.GRU`."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks.cells.variants import CELLS, config_fields
from charlm.model.config import ModelConfig
from charlm.model.layers import Layer

HIDDEN, INPUTS, STEPS, BATCH = 512, 128, 32, 32
ROUNDS = 9
PRECISIONS = ("fp32", "bf16")
REFERENCE = "torch.nn.GRU"
Forward = Callable[[], tuple[Tensor, object]]


def measure_speed() -> dict[str, dict[str, float]]:
    """Tokens per second of each cell and of `torch.nn.GRU` by precision, forward and backward.

    The cells take turns. The figures are medians, and the first round does not count.
    """
    torch.set_flush_denormal(True)
    x = torch.randn(STEPS, BATCH, INPUTS)
    layers: dict[str, Forward] = {REFERENCE: partial(nn.GRU(INPUTS, HIDDEN), x)}
    layers |= {name: layer_of(options, x) for name, options in CELLS.items()}
    seconds: dict[str, dict[str, list[float]]] = {
        name: {precision: [] for precision in PRECISIONS} for name in layers
    }
    for _ in range(ROUNDS):
        for name, forward in layers.items():
            for precision in PRECISIONS:
                seconds[name][precision].append(time_step(forward, precision))
    return {
        name: {p: STEPS * BATCH / median(times[1:]) for p, times in by_precision.items()}
        for name, by_precision in seconds.items()
    }


def layer_of(options: str, x: Tensor) -> Forward:
    """The forward pass of a layer with these options over x."""
    config = ModelConfig(99, hidden=HIDDEN, **config_fields(options))
    layer = Layer(config.recurrence, INPUTS, HIDDEN, config.layer_norm)
    layer.initialise(torch.Generator().manual_seed(0))
    state = tuple(torch.zeros(BATCH, HIDDEN) for _ in layer.cell.state)
    return partial(layer, x, state)


def time_step(forward: Forward, precision: str) -> float:
    """The seconds of a forward and backward pass."""
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        y, _ = forward()
    y.float().square().sum().backward()  # type: ignore[no-untyped-call]
    return time.perf_counter() - start
