"""How well one number orders another: the concordance of values with a property.

Of two positions that differ in the property, it is the share that the values have in the right
order; equal values count half. 0.5 is chance, and 1 is perfect. For a property that is true or
false it is the area under the ROC curve (Hanley and McNeil 1982), for a number Harrell's C.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
MOST_LEVELS = 4096  # different values; more are joined with their neighbours
PARTS = 10  # of the jackknife


def concordance(values: Floats, truth: Floats) -> float:
    """The concordance of values (n,) with a property (n,); NaN if all have the same truth.

    >>> concordance(np.array([0.1, 0.2, 0.3, 0.9]), np.array([0, 1, 0, 1]))
    0.75
    """
    return float(jackknifed(values, truth, 1)[0])


def jackknifed(values: Floats, truth: Floats, parts: int = PARTS) -> Floats:
    """The concordance of all positions, and then without each of the parts: (1 + parts,).

    parts:  consecutive ones of the same size. Neighbours in a text depend on each other, so that
            whole parts have to be left out; see `standard_error`
    """
    rows, columns = _levels(values), _levels(truth)
    shape = (parts, int(rows.max()) + 1, int(columns.max()) + 1)
    part = np.arange(len(rows)) * parts // len(rows)
    codes = np.ravel_multi_index((part, rows, columns), shape)
    tables = np.bincount(codes, minlength=math.prod(shape)).reshape(shape).astype(float)
    whole = tables.sum(axis=0)
    return np.array([_of_table(whole), *(_of_table(whole - table) for table in tables)])


def standard_error(estimates: Floats) -> float:
    """The standard error of a figure, from what `jackknifed` returns (Efron and Stein 1981).

    Infinite if the property is all in one part.
    """
    parts = estimates[1:]
    error = math.sqrt((len(parts) - 1) * parts.var())
    return math.inf if math.isnan(error) else error


def _levels(values: Floats) -> NDArray[np.int64]:
    """The rank of each value among the different ones, at the most `MOST_LEVELS`."""
    different, levels = np.unique(values, return_inverse=True)
    if len(different) > MOST_LEVELS:
        levels = levels * MOST_LEVELS // len(different)
    return levels


def _of_table(table: Floats) -> float:
    """The concordance of how often each (level of the values, level of the truth) occurs."""
    smaller = table.cumsum(axis=0) - table  # values
    both_smaller = smaller.cumsum(axis=1) - smaller
    right = (table * both_smaller).sum()
    tied = (np.square(table.sum(axis=1)).sum() - np.square(table).sum()) / 2
    pairs = (table.sum() ** 2 - np.square(table.sum(axis=0)).sum()) / 2
    return float((right + tied / 2) / pairs) if pairs else math.nan
