"""What this machine can do: where to compute, and in which precision it is fastest."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from charlm.errors import OptionError
from charlm.model.config import ModelConfig, multiplied_weights
from charlm.model.network import Network

# bf16 has to be this much faster than fp32 to be chosen: it is less exact.
WORTH_IT = 1.2
PROBE_SHAPE = (24, 32)  # T, B


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


def choose_precision(wanted: str, device: torch.device, probe: ModelConfig) -> tuple[str, float]:
    """The precision to train in, and the rate at which it trains, in FLOP/s.

    The rates are measured on a small network like `probe`, which takes about a second.
    """
    if wanted == "fp16" and device.type == "cpu":
        raise OptionError("--precision fp16: is for GPUs; use bf16 or fp32 on a CPU")
    candidates = ("fp32", "bf16") if wanted == "auto" else (wanted,)
    rates = {precision: training_rate(precision, device, probe) for precision in candidates}
    if wanted != "auto":
        return wanted, rates[wanted]
    best = "bf16" if rates["bf16"] > WORTH_IT * rates["fp32"] else "fp32"
    return best, rates[best]


def training_rate(precision: str, device: torch.device, probe: ModelConfig) -> float:
    """FLOP/s of a network's training steps in this precision; 0 if it cannot run at all."""
    network = Network(probe).to(device)
    network.generator = torch.Generator(device).manual_seed(0)
    ids = torch.ones(PROBE_SHAPE, dtype=torch.int64, device=device)

    def step() -> float:
        start = time.perf_counter()
        with autocast(precision, device):
            following = ids if probe.bidirectional else None
            state = network.initial_state(PROBE_SHAPE[1])
            loss, _ = network.loss(ids, ids, state, following)
        loss.backward()  # type: ignore[no-untyped-call]
        loss.item()
        return time.perf_counter() - start

    try:
        step()
        fastest = min(step() for _ in range(4))
    except RuntimeError:  # no primitive for it on this machine
        return 0.0
    return 6 * multiplied_weights(probe) * ids.numel() / fastest


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The forward pass in this precision; weights and optimizer stay float32."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.bfloat16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")
