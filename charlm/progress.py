"""A progress line on stderr."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

BARS = "▁▂▃▄▅▆▇█"
SECONDS_BETWEEN = 0.25  # two updates


class ProgressLine:
    """Percent, a bar, the time left and a text, on a terminal. Elsewhere it shows nothing.

    keep:  leave the line on the screen in the end

    The line fits the width of the terminal. rich draws it, and is imported at the first update.
    """

    def __init__(self, keep: bool = False) -> None:
        self.keep, self.is_live = keep, sys.stderr.isatty()
        self._progress: Progress | None = None
        self._shown = -math.inf

    def update(self, fraction: float, seconds_left: float, text: str = "") -> None:
        """Show this state. Updates are skipped for `SECONDS_BETWEEN` after one; the last is not."""
        too_soon = time.monotonic() < self._shown + SECONDS_BETWEEN
        if not self.is_live or (too_soon and fraction < 1):
            return
        progress = self._progress = self._progress or _start(self.keep)
        self._shown = time.monotonic()
        left = f"{minutes_and_seconds(seconds_left)} left"
        task = progress.task_ids[0]
        progress.update(task, completed=fraction, left=left, text=text, refresh=True)

    def print(self, text: str) -> None:
        """Write a line above the progress."""
        if self._progress:
            console = self._progress.console
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Stop drawing."""
        if self._progress:
            self._progress.stop()
            self._progress = None


@contextmanager
def show_progress() -> Iterator[Callable[[float], None]]:
    """A function that takes the fraction of the work that is done, and shows the time left."""
    line, started = ProgressLine(), time.monotonic()

    def show(fraction: float) -> None:
        if fraction:
            line.update(fraction, (time.monotonic() - started) * (1 - fraction) / fraction)

    try:
        yield show
    finally:
        line.close()


def _start(keep: bool) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    def column(template: str, width: int) -> TextColumn:  # that a narrow terminal does not cut
        return TextColumn(template, table_column=Column(no_wrap=True, min_width=width))

    progress = Progress(
        column("{task.percentage:3.0f}%", 4),
        BarColumn(bar_width=None),
        column("{task.fields[left]}", 9),
        TextColumn("{task.fields[text]}", markup=False),
        console=Console(stderr=True),
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
        expand=True,
        transient=not keep,
    )
    progress.add_task("", total=1.0, left="", text="")
    progress.start()
    return progress


def minutes_and_seconds(seconds: float) -> str:
    """Seconds as minutes and seconds.

    >>> minutes_and_seconds(102)
    '1:42'
    """
    if math.isinf(seconds):
        return "-:--"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def sparkline(values: Iterable[float]) -> str:
    """The values as a row of bars. The lowest and the highest are the ends of the scale.

    >>> sparkline([3.0, 2.0, 1.0])
    '█▄▁'
    """
    numbers = [v for v in values if math.isfinite(v)]
    if not numbers:
        return ""
    low, span = min(numbers), max(numbers) - min(numbers) or 1.0
    return "".join(BARS[int((v - low) / span * (len(BARS) - 1))] for v in numbers)
