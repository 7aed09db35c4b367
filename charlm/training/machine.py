"""How to train on this machine: precision and threads, chosen by a short measurement."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from charlm.errors import OptionError
from charlm.model.config import StackConfig
from charlm.model.devices import autocast, cores, survive_forks
from charlm.tasks.base import Task
from charlm.training.distributed import Ranks
from charlm.training.recipe import Recipe

WORTH_IT = 1.2  # bf16 is less exact, so it must be this much faster than fp32
PROBE_SHAPE = (24, 32)  # T, B
PROBED_STEPS = 6


@contextmanager
def cpu_for_training(threads: int | None) -> Iterator[None]:
    """Within this context torch has `threads` threads, and denormal floats are 0: they are slow."""
    survive_forks()
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


def use_threads(threads: int, processes: int) -> None:
    """Share this number of threads among the processes of this machine."""
    torch.set_num_threads(max(min(threads, cores()) // processes, 1))


def choose_precision(
    precision: str,
    device: torch.device,
    task: Task[Any, Any],
    probe: StackConfig,
    counts: Collection[int],
    shape: tuple[int, int] = PROBE_SHAPE,
) -> tuple[str, int, float, float]:
    """The precision and the number of threads for training, their speed in FLOP/s, and that of one
    thread, or 0 if it is not measured.

    precision:      "auto" or the name of one
    probe:      the network whose speed is measured, for about a second
    counts:     numbers of threads to choose from
    shape:      steps of a batch, and sequences

    Raises OptionError for a precision that the device does not have.
    """
    if precision == "fp16" and device.type == "cpu":
        raise OptionError("`precision=fp16`: is for GPUs; use bf16 or fp32 on a CPU")
    precisions = ("fp32", "bf16") if precision == "auto" else (precision,)
    rates = training_rates(list(product(precisions, counts)), device, task, probe, shape)
    if not any(rates.values()):
        raise OptionError(
            f"`precision={precision}`: this machine cannot train in it; use `precision=fp32`"
            if precision != "fp32"
            else f"`device={device}`: torch cannot train this network there; try another"
        )
    fastest = max(counts, key=lambda n: max(rates[p, n] for p in precisions))
    best = precisions[0]
    if precision == "auto" and rates["bf16", fastest] > WORTH_IT * rates["fp32", fastest]:
        best = "bf16"
    return best, fastest, rates[best, fastest], rates.get((best, 1), 0.0)


def training_rates(
    settings: Sequence[tuple[str, int]],
    device: torch.device,
    task: Task[Any, Any],
    probe: StackConfig,
    shape: tuple[int, int] = PROBE_SHAPE,
) -> dict[tuple[str, int], float]:
    """FLOP/s of training steps for each precision and number of threads.

    The settings take turns, and the fastest step of each counts; 0 for a setting that cannot run.
    """
    network = task.network(probe, {}).move_to(device)
    batch = task.probe_batch(*shape)

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
    flop = 6 * probe.multiplied_weights() * math.prod(shape)
    fastest = (flop / min(times) for times in zip(*rounds, strict=True))
    return dict(zip(settings, fastest, strict=True))


FLOATS_PER_WEIGHT = 9  # gradient, two moments, average, best so far, and what steps need meanwhile
BACKWARD = 1.3  # times what is kept for it: what the backward pass itself needs
FREE = "MemAvailable"


def check_processes(recipe: Recipe, device: torch.device, ranks: Ranks) -> None:
    """Raise OptionError if so many processes cannot train by this recipe."""
    ranks.check_device(device)
    if ranks.size > recipe.batch:
        raise OptionError(
            f"`batch={recipe.batch}`: too small to be shared by {ranks.size} processes; use a "
            "larger one, or start fewer processes"
        )
    share = replace(recipe, batch=-(-recipe.batch // ranks.size))
    check_memory(share, device, 1 if device.type == "cuda" else ranks.here)


def check_memory(recipe: Recipe, device: torch.device, processes: int = 1) -> None:
    """Raise OptionError if training would take more memory than the device has left.

    processes:  that use the same memory; the recipe is that of one
    """
    needed, free = processes * training_bytes(recipe), free_memory(device)
    if free is not None and needed > free:
        raise OptionError(
            f"training would take about {_gigabytes(needed)} of memory, and {_gigabytes(free)} are "
            f"free: use a smaller `hidden` than {recipe.model.hidden:,}, a smaller `batch` than "
            f"{recipe.batch:,} or a smaller `bptt` than {recipe.bptt:,}"
            + ", or fewer `networks`"
            * (getattr(recipe.model, "networks", 1) > 1)
        )


def training_bytes(recipe: Recipe) -> int:
    """About the memory of a training step, in bytes; never much less than it takes.

    Weights have their optimizer's state; each token of a batch keeps its vector, and every layer's
    gates, state and output, for the backward pass.
    """
    weights = sum(math.prod(shape) for shape in recipe.model.shapes().values())
    kept = recipe.batch * recipe.bptt * recipe.model.kept_floats
    return int(4 * (FLOATS_PER_WEIGHT * weights + BACKWARD * kept))


def free_memory(device: torch.device) -> int | None:
    """The bytes of memory that are free; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        line = next(line for line in lines if line.startswith(FREE))
        free.append(1024 * int(line.split()[1]))
    with suppress(OSError, ValueError):  # the limit of a container
        group = Path("/sys/fs/cgroup")
        limit, used = (
            int((group / name).read_text(encoding="ascii"))
            for name in ("memory.max", "memory.current")
        )
        free.append(max(limit - used, 0))
    return min(free, default=None)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
