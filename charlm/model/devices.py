"""The devices and cores of this machine. torch is imported only by the functions that need it."""

from __future__ import annotations

import os
import warnings
from functools import cache
from typing import TYPE_CHECKING

from charlm.errors import OptionError
from charlm.options import Choices

if TYPE_CHECKING:
    import torch

DEVICES = Choices(("auto", "cpu", "cuda", "mps"))


def cores() -> int:
    """The number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_threads(threads: int | None) -> None:
    """Raise OptionError for fewer threads than one, or more than cores."""
    if threads is not None and not 1 <= threads <= cores():
        raise OptionError(f"`threads={threads}`: must be from 1 to {cores()}, the cores of the CPU")


@cache
def survive_forks() -> None:
    """Let forked processes use one thread of torch: for the others they would wait for ever."""
    import torch

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def choose_device(name: str) -> torch.device:
    """The device of this name; "auto" is the best one of this machine.

    Raises OptionError for a device that this machine does not have.
    """
    import torch

    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device in available if available[device])
    if not available[name]:
        raise OptionError(f"`device={name}`: torch sees none on this machine; use `device=cpu`")
    return torch.device(name)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context that runs the forward pass in this precision. Weights stay float32."""
    import torch

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.bfloat16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")
