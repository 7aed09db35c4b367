"""What this machine can do: where to compute, and in which precision it is fastest."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product

import torch

from charlm.errors import OptionError
from charlm.model.config import ModelConfig, multiplied_weights
from charlm.model.network import Network

# bf16 has to be this much faster than fp32 to be chosen: it is less exact.
WORTH_IT = 1.2
PROBE_SHAPE = (24, 32)  # T, B
PROBED_STEPS = 6


def choose_device(wanted: str) -> torch.device:
    """The device that is asked for, or the best there is. Raises OptionError if it is not here."""
    here = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if wanted == "auto":
        wanted = next(name for name in ("cuda", "mps", "cpu") if here[name])
    if not here[wanted]:
        raise OptionError(f"--device {wanted}: torch sees none on this machine; use --device cpu")
    return torch.device(wanted)


@contextmanager
def cpu_for_training(threads: int | None) -> Iterator[None]:
    """Within this context torch has so many threads, and denormal floats, which are slow, are 0."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


def choose_precision(
    wanted: str, device: torch.device, probe: ModelConfig, fewer_threads: bool
) -> tuple[str, int, float]:
    """The precision and the number of threads to train with, and the rate that this gives, FLOP/s.

    The rates are measured on a small network like `probe`, which takes about a second. One thread
    is chosen, if there may be fewer, where it is faster than all: while something else keeps the
    machine busy, threads wait for each other at every step.
    """
    if wanted == "fp16" and device.type == "cpu":
        raise OptionError("--precision fp16: is for GPUs; use bf16 or fp32 on a CPU")
    precisions = ("fp32", "bf16") if wanted == "auto" else (wanted,)
    every = torch.get_num_threads()
    counts = {1, every} if fewer_threads and device.type == "cpu" else {every}
    rates = training_rates(list(product(precisions, counts)), device, probe)
    fastest = max(counts, key=lambda n: max(rates[p, n] for p in precisions))
    best = precisions[0]
    if wanted == "auto" and rates["bf16", fastest] > WORTH_IT * rates["fp32", fastest]:
        best = "bf16"
    return best, fastest, rates[best, fastest]


def training_rates(
    settings: Sequence[tuple[str, int]], device: torch.device, probe: ModelConfig
) -> dict[tuple[str, int], float]:
    """FLOP/s of a network's training steps for each precision and number of threads, by the
    fastest of several steps, taken in turns; 0 where it cannot run at all."""
    network = Network(probe).to(device)
    network.generator = torch.Generator(device).manual_seed(0)
    ids = torch.ones(PROBE_SHAPE, dtype=torch.int64, device=device)

    def seconds(precision: str, threads: int) -> float:
        torch.set_num_threads(threads)
        start = time.perf_counter()
        try:
            with autocast(precision, device):
                following = ids if probe.bidirectional else None
                state = network.initial_state(PROBE_SHAPE[1])
                loss, _ = network.loss(ids, ids, state, following)
            loss.backward()  # type: ignore[no-untyped-call]
            loss.item()
        except RuntimeError:  # no primitive for it on this machine
            return math.inf
        return time.perf_counter() - start

    before = torch.get_num_threads()
    rounds = [[seconds(*setting) for setting in settings] for _ in range(PROBED_STEPS)]
    torch.set_num_threads(before)
    flop = 6 * multiplied_weights(probe) * ids.numel()
    fastest = (flop / min(found) for found in zip(*rounds, strict=True))
    return dict(zip(settings, fastest, strict=True))


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The forward pass in this precision; weights and optimizer stay float32."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.bfloat16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")
