"""The devices of this machine, and the precision of computing on them."""

from __future__ import annotations

import warnings

import torch

from charlm.errors import OptionError


def choose_device(name: str) -> torch.device:
    """The device of this name; "auto" is the best one of this machine.

    Raises OptionError for a device that this machine does not have.
    """
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
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.bfloat16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")
