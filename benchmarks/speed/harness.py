"""The rows of results, and the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

PAUSE = 0.3  # seconds before each run: the threads of a library spin for a while after a call


@dataclass(frozen=True)
class Row:
    """A measured value, and the values that it is compared with. All have the same unit.

    what:    what was measured
    unit:    a rate, a time or a size
    charlm:  the value of charlm
    plain:   the value of the usual way to do the same
    limit:   the best value that the machine allows
    whole:   the total that this value is a part of
    """

    what: str
    unit: str
    charlm: float
    plain: float | None = None
    limit: float | None = None
    whole: float | None = None

    def cells(self) -> list[str]:
        """The cells of a table row, in the order of `page.COLUMNS`."""
        return [
            self.what,
            _number(self.charlm),
            self.unit,
            *self._compared(self.plain, ".2f"),
            *self._compared(self.limit, ".0%"),
            *self._compared(self.whole, ".0%")[1:],
        ]

    def _compared(self, other: float | None, ratio: str) -> list[str]:
        """Another value, and the ratio to it in this format."""
        return ["", ""] if other is None else [_number(other), f"{self.charlm / other:{ratio}}"]

    def described(self) -> str:
        """The row as a line of text."""
        what, value, unit, plain, ratio, limit, share, part = self.cells()
        columns = [f"{what:<46}{value:>12} {unit:<14}"]
        columns += [f"plain {plain:>10}  ratio {ratio:>6}"] if plain else []
        columns += [f"limit {limit:>10}  share {share:>4}"] if limit else []
        columns += [f"{part:>4} of the whole"] if part else []
        return "  ".join(columns)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def in_turns(runs: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """The median time of each run in seconds.

    The runs take turns, so that all of them meet the same noise. The first round does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(values[1:]) for name, values in seconds.items()}


def repeated(times: int, call: Callable[[], object]) -> Callable[[], None]:
    """A function that makes a call several times."""

    def run() -> None:
        for _ in range(times):
            call()

    return run
