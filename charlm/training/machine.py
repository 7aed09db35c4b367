"""How to train on this machine: precision and threads, chosen by a short measurement."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product

import torch

from charlm.errors import OptionError
from charlm.model.config import ModelConfig, multiplied_weights
from charlm.model.devices import autocast
from charlm.model.network import Network
from charlm.tasks.base import Task

WORTH_IT = 1.2  # bf16 is less exact, so it must be this much faster than fp32
PROBE_SHAPE = (24, 32)  # T, B
PROBED_STEPS = 6


@contextmanager
def cpu_for_training(threads: int | None) -> Iterator[None]:
    """Within this context torch has `threads` threads, and denormal floats are 0: they are slow."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


def choose_precision(
    precision: str, device: torch.device, task: Task, probe: ModelConfig, fewer_threads: bool
) -> tuple[str, int, float]:
    """The precision and the number of threads for training, and their speed in FLOP/s.

    precision:      "auto" or the name of one
    probe:          a small network of the same kind, to measure the speed, for about a second
    fewer_threads:  one thread may be chosen, if it is faster than all. While something else keeps
                    the machine busy, threads wait for each other at every step

    Raises OptionError for a precision that the device does not have.
    """
    if precision == "fp16" and device.type == "cpu":
        raise OptionError("`precision=fp16`: is for GPUs; use bf16 or fp32 on a CPU")
    precisions = ("fp32", "bf16") if precision == "auto" else (precision,)
    every = torch.get_num_threads()
    counts = {1, every} if fewer_threads and device.type == "cpu" else {every}
    rates = training_rates(list(product(precisions, counts)), device, task, probe)
    fastest = max(counts, key=lambda n: max(rates[p, n] for p in precisions))
    best = precisions[0]
    if precision == "auto" and rates["bf16", fastest] > WORTH_IT * rates["fp32", fastest]:
        best = "bf16"
    return best, fastest, rates[best, fastest]


def training_rates(
    settings: Sequence[tuple[str, int]], device: torch.device, task: Task, probe: ModelConfig
) -> dict[tuple[str, int], float]:
    """FLOP/s of training steps for each precision and number of threads.

    The settings take turns, and the fastest step of each counts; 0 for a setting that cannot run.
    """
    network = Network(probe).move_to(device)
    batch = task.probe_batch(*PROBE_SHAPE)

    def seconds(precision: str, threads: int) -> float:
        torch.set_num_threads(threads)
        start = time.perf_counter()
        try:
            with autocast(precision, device):
                loss, _ = task.loss(network, batch, [])
            loss.backward()  # type: ignore[no-untyped-call]
            loss.item()
        except RuntimeError:  # this machine has no kernel for it
            return math.inf
        return time.perf_counter() - start

    before = torch.get_num_threads()
    rounds = [[seconds(*setting) for setting in settings] for _ in range(PROBED_STEPS)]
    torch.set_num_threads(before)
    flop = 6 * multiplied_weights(probe) * math.prod(PROBE_SHAPE)
    fastest = (flop / min(times) for times in zip(*rounds, strict=True))
    return dict(zip(settings, fastest, strict=True))
