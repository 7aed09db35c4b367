"""The budget of a run: how much of it is used, and how much time is left."""

from __future__ import annotations

import math
import time

from charlm.training.recipe import Recipe

SHORTEST = 1.0  # seconds of training in a budget of minutes, even if starting used all of it


class Clock:
    """Measures the budget of a run.

    recipe:           has the budget
    steps_per_epoch:  steps in which the text is read once
    started:          `time.monotonic()` from which the budget counts
    earlier:          seconds that earlier processes of the same run used
    reserve:          seconds of a budget in minutes that are kept for finishing
    """

    def __init__(
        self,
        recipe: Recipe,
        steps_per_epoch: int,
        *,
        started: float,
        earlier: float = 0.0,
        reserve: float = 0.0,
    ) -> None:
        self.recipe, self.steps_per_epoch, self.reserve = recipe, steps_per_epoch, reserve
        self._started = started - earlier
        self._start_up = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of the run so far, in all processes."""
        return time.monotonic() - self._started

    def start(self, start_up: float | None = None) -> float:
        """Training starts now; or it started `start_up` seconds after the run, in the past.

        Returns the start-up time, which does not count as training.
        """
        self._start_up = self.seconds if start_up is None else start_up
        return self._start_up

    def fraction(self, step: int) -> float:
        """The used fraction of the budget: 0 before the first step, 1 at the end."""
        if self.recipe.minutes:
            usable = 60 * self.recipe.minutes - self.reserve - self._start_up
            return min((self.seconds - self._start_up) / max(usable, SHORTEST), 1.0)
        steps = self.recipe.steps or (self.recipe.epochs or 1) * self.steps_per_epoch
        return min(step / steps, 1.0)

    def left(self, fraction: float) -> float:
        """Seconds of training that remain when this fraction of the budget is used."""
        return (self.seconds - self._start_up) * (1 - fraction) / fraction if fraction else math.inf
