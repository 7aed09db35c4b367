"""The machine that is measured."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

CPU_INFO = Path("/proc/cpuinfo")


def describe_machine() -> dict[str, Any]:
    """The processor and the versions that the results depend on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    if CPU_INFO.exists():
        models = re.findall(r"model name\s*: (.*)", CPU_INFO.read_text(encoding="utf-8"))
        if models:
            return str(models[0])
    return platform.processor() or platform.machine()
