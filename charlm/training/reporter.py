"""What training says while it runs: notes, and one live line, on stderr."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charlm.training.trainer import Progress

BARS = "▁▂▃▄▅▆▇█"
SECONDS_BETWEEN = 0.25


class Reporter:
    """Writes notes and progress to stderr; on a terminal the progress is one line that moves."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty()
        self.losses: list[float] = []
        self._last = 0.0
        self._shown = False

    def note(self, text: str) -> None:
        if not self.quiet:
            self._write(text)

    def warn(self, text: str) -> None:
        """A note that is given even when quiet."""
        self._write(f"warning: {text}")

    def progress(self, progress: Progress) -> None:
        if progress.valid_loss is not None:
            self.losses.append(progress.valid_loss)
        elif not self.live or time.monotonic() < self._last + SECONDS_BETWEEN:
            return
        if not self.quiet:
            self._last = time.monotonic()
            self._write(self._described(progress), stays=not self.live)

    def _described(self, p: Progress) -> str:
        parts = [
            f"{p.fraction:4.0%}",
            f"{clock(p.seconds_left)} left",
            f"{p.tokens_per_second:,.0f} tokens/s",
        ]
        parts += [f"train {p.train_loss:.3f}"]
        if self.losses:
            parts += [f"valid {self.losses[-1]:.3f} nats/token {sparkline(self.losses)}"]
        return " · ".join(parts)

    def _write(self, text: str, stays: bool = True) -> None:
        erase = "\r\x1b[K" if self._shown else ""
        sys.stderr.write(erase + text + ("\n" if stays else ""))
        sys.stderr.flush()
        self._shown = not stays

    def done(self) -> None:
        """Leave the live line for good."""
        if self._shown:
            self._shown = False
            sys.stderr.write("\n")


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds: 102 -> "1:42"."""
    if math.isinf(seconds):
        return "-:--"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def sparkline(values: Iterable[float]) -> str:
    """The values as a row of bars, the lowest and the highest at the ends of the scale.

    >>> sparkline([3.0, 2.0, 1.0])
    '█▄▁'
    """
    numbers = [v for v in values if math.isfinite(v)]
    if not numbers:
        return ""
    low, span = min(numbers), max(numbers) - min(numbers) or 1.0
    return "".join(BARS[int((v - low) / span * (len(BARS) - 1))] for v in numbers)
