"""Threads of NumPy's matrix products, chosen by measurement while text is written.

A product with a matrix that does not fit into the cache of one core is faster with two cores. But
threads wait for each other, and where other programs compute they make everything slower. So both
are tried every now and then, and the faster one is kept.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from charlm.model.devices import cores

if TYPE_CHECKING:
    from threadpoolctl import LibController

PAYS_FROM = 500_000  # numbers that a step reads: 2 MB
TRIED_STEPS = 8  # with each number of threads
FIRST_PAUSE = 500  # steps before the next trial; twice as many after each that two threads lose
WORTH_IT = 1.1  # two threads must be this much faster than one
HOPELESS = 4  # times as slow as with one thread: the trial ends


class BlasThreads:
    """Sets one or two threads for the products of the next steps.

    numbers:  of all weights that a step reads
    """

    def __init__(self, numbers: int) -> None:
        self._controllers = _blas_controllers() if numbers > PAYS_FROM and cores() > 1 else []
        self._step, self._pause, self._threads = 0, FIRST_PAUSE, 1
        self._last = 0.0
        self._seconds: dict[int, list[float]] = {1: [], 2: []}  # of the steps of a trial

    def reset(self) -> None:
        """Set one thread again."""
        self._set(1)

    def next_step(self) -> None:
        """Called before every step."""
        if not self._controllers:
            return
        if self._step == self._pause:  # the next trial
            self._step, self._seconds = 0, {1: [], 2: []}
        now = time.perf_counter()
        if 0 < self._step <= 2 * TRIED_STEPS:
            self._seconds[self._threads].append(now - self._last)
        self._last = now
        if self._step == 0:
            is_busy = _running() >= (os.cpu_count() or 1) - 1 + self._threads
            self._set(1)
            if is_busy:
                self._step = 2 * TRIED_STEPS  # no trial now
        elif self._step == TRIED_STEPS:
            self._set(2)
        elif TRIED_STEPS < self._step <= 2 * TRIED_STEPS:
            one, two = min(self._seconds[1]), self._seconds[2]
            if two[-1] > HOPELESS * one or (
                self._step == 2 * TRIED_STEPS and WORTH_IT * min(two) > one
            ):
                self._set(1)
                self._step, self._pause = 2 * TRIED_STEPS, 2 * self._pause
        self._step += 1

    def _set(self, threads: int) -> None:
        if threads != self._threads:
            for controller in self._controllers:
                controller.set_num_threads(threads)
            self._threads = threads


def _running() -> int:
    """The threads that run on this machine now, those of this program too; 0 if unknown."""
    try:
        running = Path("/proc/loadavg").read_text(encoding="ascii").split()[3].split("/")[0]
    except (OSError, IndexError):
        return 0
    return int(running)


def _blas_controllers() -> list[LibController]:
    """The BLAS libraries that are loaded, if they run one thread now."""
    from threadpoolctl import ThreadpoolController

    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    return [library for library in libraries if library.num_threads == 1]
