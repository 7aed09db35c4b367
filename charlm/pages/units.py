"""A page of hidden units: the units that were found, and a text in the colours of any unit."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HEADINGS = ("property", "unit", "figure", "token", "two tokens", "shuffled", "believed")
FOUND = """<h2>Units that follow a property of the text</h2>
<p>Of two tokens that differ in the property, the figure is how often they are put in the right
order: 0.5 is chance, 1 is perfect. Simpler explanations have the same figure: the token alone, the
last two tokens, and the best unit of the network with shuffled weights. A unit is believed if it is
clearly better than all three.</p>
"""
CONTROLS = """<h2>Along the text</h2>
<p>The colour of a token is the value after the network has read it. Choose a unit; the arrow keys
left and right show the one before and the next. Point at a token for its value, or go to the text
with the Tab key and then along it with the arrow keys.</p>
<div class="controls">
<label>Value <select id="kind">{kinds}</select></label>
<label>Unit <input id="number" type="number" min="1"></label>
<button data-step="-1" aria-label="the unit before">←</button>
<button data-step="1" aria-label="the next unit">→</button>
<span class="legend"><span id="least"></span><i></i><span id="most"></span></span>
</div>
<p id="value" class="faint" aria-live="polite"></p>
"""


def style() -> str:
    """The CSS that such a page needs beside that of all pages."""
    return _file("units.css")


def body(
    findings: Sequence[Mapping[str, Any]], panels: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """The page, in pieces of HTML.

    findings:  see `charlm.uses.unit_search.Finding.to_json`
    panels:    of one text or more, with the same units: see `charlm.uses.units.Panel.to_json`
    """
    if findings:
        rows = "".join(map(_row, findings))
        heads = "".join(
            f"<th{'' if k in (0, 1, len(HEADINGS) - 1) else ' class=number'}>{name}</th>"
            for k, name in enumerate(HEADINGS)
        )
        yield f'{FOUND}<div class="scroll"><table><tr>{heads}</tr>\n{rows}</table></div>\n'
    kinds = (
        f'<option value="{k}">{html.escape(kind["label"])}</option>'
        for k, kind in enumerate(panels[0]["kinds"])
    )
    yield CONTROLS.format(kinds="".join(kinds))
    yield from (f'<p class="text" id="text{k}" tabindex="0"></p>\n' for k in range(len(panels)))
    values = json.dumps({"panels": panels}, separators=(",", ":")).replace("<", "\\u003c")
    yield f'<script type="application/json" id="values">{values}</script>\n'
    yield f"<script>\n{_file('units.js')}</script>\n"


def _row(finding: Mapping[str, Any]) -> str:
    name, unit = html.escape(finding["property"]), html.escape(finding["unit"])
    figures = (finding[key] for key in ("figure", "token", "two_tokens", "shuffled"))
    cells = "".join(f"<td class=number>{figure:.3f}</td>" for figure in figures)
    believed = html.escape(finding["verdict"])
    button = f'<button data-unit="{unit}">{unit}</button>'
    return f"<tr><td>{name}</td><td>{button}</td>{cells}<td>{believed}</td></tr>\n"


def _file(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
