"""Threads of NumPy's matrix products, chosen by measurement while text is written.

A product with a matrix that does not fit into the cache of one core is faster with two cores. But
threads wait for each other, and where other programs compute they make everything slower. So both
are tried every now and then, and the faster one is kept.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from charlm.model.devices import cores

if TYPE_CHECKING:
    from threadpoolctl import LibController

PAYS_FROM = 500_000  # numbers that a step reads: 2 MB
TRIED_STEPS = 16  # with each number of threads
STEPS_BETWEEN = 1000
WORTH_IT = 1.1  # two threads must be this much faster than one


class BlasThreads:
    """Sets one or two threads for the products of the next steps.

    numbers:  of all weights that a step reads
    """

    def __init__(self, numbers: int) -> None:
        self._controllers = _blas_controllers() if numbers > PAYS_FROM and cores() > 1 else []
        self._step = self._threads = 0
        self._start = 0.0
        self._seconds: list[float] = []

    def reset(self) -> None:
        """Set one thread again."""
        self._set(1)

    def next_step(self) -> None:
        """Called before every step."""
        if not self._controllers:
            return
        if self._step % TRIED_STEPS == 0 and self._step <= 2 * TRIED_STEPS:
            now = time.perf_counter()
            self._seconds.append(now - self._start)
            self._start = now
            if self._step < 2 * TRIED_STEPS:
                self._set(1 + self._step // TRIED_STEPS)
            else:
                _, one, two = self._seconds
                self._set(2 if WORTH_IT * two < one else 1)
        self._step += 1
        if self._step == STEPS_BETWEEN:
            self._step, self._seconds = 0, []

    def _set(self, threads: int) -> None:
        if threads != self._threads:
            for controller in self._controllers:
                controller.set_num_threads(threads)
            self._threads = threads


def _blas_controllers() -> list[LibController]:
    """The BLAS libraries that are loaded, if they run one thread now."""
    from threadpoolctl import ThreadpoolController

    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    return [library for library in libraries if library.num_threads == 1]
