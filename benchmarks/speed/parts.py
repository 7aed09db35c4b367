"""The parts of the benchmark by name, in the order of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.speed.commands import gigabyte, memory, start_up
from benchmarks.speed.harness import Row
from benchmarks.speed.limits import limits
from benchmarks.speed.profile import profile
from benchmarks.speed.reading import reading
from benchmarks.speed.sampling import sampling
from benchmarks.speed.scoring import scoring
from benchmarks.speed.training import training

Part = Callable[[], Iterator[Row]]
PARTS: dict[str, Part] = {
    "limits": limits,
    "training": training,
    "sampling": sampling,
    "profile": profile,
    "scoring": scoring,
    "reading": reading,
    "start-up": start_up,
    "memory": memory,
    "gigabyte": gigabyte,
}
DEFAULT = [name for name in PARTS if name != "gigabyte"]
NANOGPT = "nanoGPT"  # this part needs two paths, so it is not in the table
