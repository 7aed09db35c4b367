"""Intervals of figures per character, by resampling the parts of a text (Efron 1979)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_PARTS, RESAMPLES = 1000, 1000
FEWEST_PARTS = 10  # fewer parts say too little
CHARS_OF_A_PART = 500  # of a running text, whose lines depend on each other
Interval = tuple[float, float]
NO_PARTS = np.zeros((0, 2))


def in_parts(lines: NDArray[np.float64], independent: bool) -> NDArray[np.float64]:
    """The sums of consecutive lines, (n, columns), n up to `MOST_PARTS`.

    lines:        (lines, columns); the last column is the number of characters
    independent:  the lines have nothing to do with each other; otherwise a part is longer
    """
    if independent and len(lines) <= MOST_PARTS:
        return lines[lines[:, -1] > 0]
    chars = lines[:, -1]
    total = chars.sum()
    parts = len(lines) if independent else int(total / CHARS_OF_A_PART)
    parts = min(max(parts, 1), MOST_PARTS)
    number = np.minimum(((np.cumsum(chars) - chars) * parts / max(total, 1)).astype(int), parts - 1)
    sums = np.zeros((parts, lines.shape[1]))
    np.add.at(sums, number, lines)
    return sums[sums[:, -1] > 0]


def interval_95(parts: NDArray[np.float64]) -> Interval | None:
    """The 95 % interval of Σ first column / Σ last column; None for few parts.

    The parts are drawn with replacement. Of two models, the interval of their difference comes from
    the differences of the parts, so that both are measured on the same ones.
    """
    n = len(parts)
    if n < FEWEST_PARTS:
        return None
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    sums = draws @ parts
    low, high = np.quantile(sums[:, 0] / sums[:, -1], (0.025, 0.975)).tolist()
    return low, high
