"""Threads of NumPy's products, with libraries and a clock that are made up."""

from __future__ import annotations

from typing import Any

import pytest

from charlm.model import blas_threads
from charlm.model.blas_threads import FIRST_PAUSE, PAYS_FROM, TRIED_STEPS, BlasThreads


class Library:
    """A BLAS library whose steps take a time for each number of threads."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds, self.threads, self.now = seconds, 1, 0.0
        self.steps = {1: 0, 2: 0}

    def set_num_threads(self, threads: int) -> None:
        self.threads = threads

    def step(self) -> None:
        self.now += self.seconds[self.threads]
        self.steps[self.threads] += 1


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(
        seconds: dict[int, float], steps: int, running: int = 1, numbers: int = 10**6
    ) -> Library:
        library = Library(seconds)
        monkeypatch.setattr(blas_threads, "_blas_controllers", lambda: [library])
        monkeypatch.setattr(blas_threads, "cores", lambda: 2)
        monkeypatch.setattr(blas_threads, "_running", lambda: running)
        monkeypatch.setattr("os.cpu_count", lambda: 2)
        monkeypatch.setattr("time.perf_counter", lambda: library.now)
        threads = BlasThreads(numbers)
        for _ in range(steps):
            threads.next_step()
            library.step()
        threads.reset()
        assert library.threads == 1
        return library

    return run


def test_two_threads_are_kept_where_they_are_faster(run: Any) -> None:
    library = run({1: 1.0, 2: 0.6}, 4 * FIRST_PAUSE)
    assert library.steps[2] > 0.9 * 4 * FIRST_PAUSE


def test_one_thread_is_kept_where_two_are_slower_or_hardly_faster(run: Any) -> None:
    for two in (0.95, 2.0):
        library = run({1: 1.0, 2: two}, 10 * FIRST_PAUSE)
        assert 0 < library.steps[2] < 10 * FIRST_PAUSE / 50


def test_a_hopeless_trial_ends_at_once(run: Any) -> None:
    assert run({1: 1.0, 2: 20.0}, FIRST_PAUSE).steps[2] == 1


def test_nothing_is_tried_on_a_busy_machine_or_for_a_small_network(run: Any) -> None:
    assert run({1: 1.0, 2: 0.5}, 2 * FIRST_PAUSE, running=3).steps[2] == 0
    assert run({1: 1.0, 2: 0.5}, 2 * FIRST_PAUSE, numbers=PAYS_FROM).steps[2] == 0
    assert TRIED_STEPS < FIRST_PAUSE
