"""A chart of the words of two sentences and of what each adds to their difference, as HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import NamedTuple

from charlm.pages.frame import read_asset

NOTHING = 0.005  # bits that are shown as no difference

HEADING = (
    '<tr><th>first</th><th class="number">bits</th><th>second</th><th class="number">bits</th>'
    '<th class="number">difference</th><th class="bars">← second likelier · first likelier →</th>'
    "</tr>\n"
)


class Difference(NamedTuple):
    """Aligned words of two sentences, and their surprisal in bits. One side may have none."""

    first: str
    first_bits: float
    second: str
    second_bits: float

    @property
    def bits(self) -> float:
        """By how much the first one is more probable."""
        return self.second_bits - self.first_bits


def style() -> str:
    """The CSS of a chart."""
    return read_asset("differences.css")


def differences(rows: Iterable[Difference]) -> str:
    """A table with bars, to the right for what makes the first sentence more probable."""
    rows = list(rows)
    longest = max((abs(row.bits) for row in rows), default=0.0) or 1.0
    shown = "".join(_row(row, row.bits / longest) for row in rows)
    return f'<div class="scroll"><table class="differences">\n{HEADING}{shown}</table></div>\n'


def _row(row: Difference, share: float) -> str:
    figure = f"{row.bits:+.2f}" if abs(row.bits) >= NOTHING else ""
    side = "first" if share > 0 else "second"
    return (
        f'<tr><td dir="auto">{html.escape(row.first)}</td>'
        f'<td class="number">{row.first_bits:.2f}</td>'
        f'<td dir="auto">{html.escape(row.second)}</td>'
        f'<td class="number">{row.second_bits:.2f}</td>'
        f'<td class="number">{figure}</td>'
        f'<td class="bars"><i class="{side}" style="--d:{abs(share):.3f}"></i></td></tr>\n'
    )
