"""The budget of a run: how much of it is used, how much time is left, and when it ends."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence

from charlm.training.recipe import Recipe
from charlm.training.stopping import SIGNALS, StopSignals

# Fractions of a budget in minutes after which the time for finishing is measured. The median
# counts, or the latest time if it is shorter: something else may have kept the machine busy.
RESERVE_MEASURED = (0.0, 0.5, 0.9)
SHORTEST = 1.0  # seconds of training in a budget of minutes, even if starting used all of it


class Clock:
    """Measures the budget of a run, and says when it ends.

    All processes of a run decide by the same time. It is read by the first one in every step, and
    travels with the gradients: see `to_share`.

    recipe:           has the budget
    steps_per_epoch:  steps in which the text is read once
    started:          `time.monotonic()` from which the budget counts
    signals:          may end the run; None for no signals
    earlier:          seconds that the run took before it was resumed
    is_first:         whether this is the first process

    seconds:     of the run, when the last step was done
    start_up:    seconds until the first step, which do not count as training
    reserve:     seconds of a budget in minutes that are kept for finishing
    stopped_by:  the number of a signal that one of the processes has received
    """

    def __init__(
        self,
        recipe: Recipe,
        steps_per_epoch: int,
        *,
        started: float,
        signals: StopSignals | None = None,
        earlier: float = 0.0,
        is_first: bool = True,
    ) -> None:
        self.recipe, self.steps_per_epoch, self.reserve = recipe, steps_per_epoch, 0.0
        self.is_first = is_first
        self._started, self._signals = started - earlier, signals or StopSignals()
        self.seconds, self.start_up = earlier, 0.0
        self.stopped_by: int | None = None
        self._reserves: list[float] = []  # as measured so far

    def measure_reserve(self, measure: Callable[[], float], fraction: float) -> None:
        """Set the reserve of a budget in minutes, when that is due.

        measure:   the seconds that finishing takes; all processes call it together
        fraction:  of the budget that is used
        """
        measured = len(self._reserves)
        if not self.recipe.minutes or measured == len(RESERVE_MEASURED):
            return
        if fraction >= RESERVE_MEASURED[measured]:
            self._reserves.append(measure())
            self.reserve = min(statistics.median(self._reserves), self._reserves[-1])

    def now(self) -> float:
        """Seconds of the run until now."""
        return time.monotonic() - self._started

    def to_share(self) -> list[float]:
        """The time, if this is the first process, and the signals of this process, to be summed."""
        received = (float(number == self._signals.received) for number in SIGNALS)
        return [self.now() if self.is_first else 0.0, *received]

    def update(self, messages: Sequence[float]) -> None:
        """Set the time and the signal from the sums over all processes."""
        self.seconds, *received = messages
        self.stopped_by = next(
            (n for n, count in zip(SIGNALS, received, strict=True) if count), None
        )

    def fraction(self, step: int) -> float:
        """The used fraction of the budget: 0 before the first step, 1 at the end."""
        used = 0.0
        if self.recipe.minutes:
            usable = 60 * self.recipe.minutes - self.reserve - self.start_up
            used = (self.seconds - self.start_up) / max(usable, SHORTEST)
        if steps := self.recipe.steps or (self.recipe.epochs or 0) * self.steps_per_epoch:
            used = max(used, step / steps)
        return min(used, 1.0)

    def left(self, fraction: float) -> float:
        """Seconds of training that remain when this fraction of the budget is used."""
        return (self.seconds - self.start_up) * (1 - fraction) / fraction if fraction else math.inf
