"""A page of hidden units: the units that were found, and a text in the colours of any unit."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HEADINGS = {
    "property": "", "unit": "", "value there": "", "figure": "number", "error": "number",
    "token": "number", "two tokens": "number", "line": "number", "shuffled": "number",
    "mean": "number", "believed": "",
}  # fmt: skip
FOUND = """<h2>Units that follow a property of the text</h2>
<p>Of two tokens that differ in the property, the figure is how often they are put in the right
order: 0.5 is chance, 1 is perfect. Units were chosen in the first half of the text and measured in
the second. Simpler explanations have the same figure: the token alone, the last two tokens, the
position in the line, and the best unit of the network with shuffled weights. A unit is believed if
it is clearly better than all of them. The error is the standard error of the difference to the best
of them; the mean is that of the property.</p>
"""
CONTROLS = """<h2>Along the text</h2>
<p>The colour of a token is the value after the network has read it.<span class="screen"> Choose a
unit; the arrow keys left and right show the one before and the next. Point at a token for its
value, or go to the text with the Tab key and then along it with the arrow keys. {on_page}</span>
</p>
<div class="controls">
<span class="screen">
{named}
<label>Value <select id="kind">{kinds}</select></label>
<label>Unit <input id="number" type="number" min="1"></label>
<button data-step="-1" aria-label="the unit before">←</button>
<button data-step="1" aria-label="the next unit">→</button>
<span id="missing" role="alert"></span>
</span>
<strong id="shown"></strong>
<span class="legend"><span id="least"></span><i></i><span id="most"></span></span>
</div>
<p id="value" class="faint screen" aria-live="polite"></p>
"""


def style() -> str:
    """The CSS that such a page needs beside that of all pages."""
    return _file("units.css")


def body(found: Mapping[str, Any], panels: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The page, in pieces of HTML.

    found:   see `charlm.uses.units.Units.to_json`
    panels:  of one text or more, with the same units: see `charlm.uses.units.Panel.to_json`
    """
    if found["note"]:
        yield f"<p>Note: {html.escape(found['note'])}.</p>\n"
    if found["findings"]:
        heads = "".join(f"<th{_class(of)}>{name}</th>" for name, of in HEADINGS.items())
        rows = "".join(map(_row, found["findings"]))
        table = f"<table><tr>{heads}</tr>\n{rows}</table>"
        yield f'{FOUND}<div class="scroll" tabindex="0">{table}</div>\n'
    if found["rare"]:
        yield f'<p class="faint">Too rare in the text: {", ".join(found["rare"])}.</p>\n'
    kinds = (
        f'<option value="{k}">{html.escape(kind["label"])}</option>'
        for k, kind in enumerate(panels[0]["kinds"])
    )
    in_table = {finding["unit"] for finding in found["findings"]}
    asked = dict.fromkeys(picture["unit"] for picture in found["pictures"])
    named = "\n".join(_button(unit) for unit in asked if unit not in in_table)
    on_page = html.escape(panels[0]["on_page"])
    yield CONTROLS.format(kinds="".join(kinds), named=named, on_page=on_page)
    for k in range(len(panels)):
        yield f'<p class="text" id="text{k}" tabindex="0" dir="auto"></p>\n'
    values = json.dumps({"panels": panels}, separators=(",", ":")).replace("<", "\\u003c")
    yield f'<script type="application/json" id="values">{values}</script>\n'
    yield f"<script>\n{_file('units.js')}</script>\n"


def _row(finding: Mapping[str, Any]) -> str:
    cells = [
        html.escape(finding["property"]),
        _button(finding["unit"]),
        "high" if finding["rising"] else "low",
        *(_number(finding[name.replace(" ", "_")]) for name in list(HEADINGS)[3:-1]),
        html.escape(finding["verdict"]),
    ]
    columns = zip(cells, HEADINGS.values(), strict=True)
    return f"<tr>{''.join(f'<td{_class(of)}>{cell}</td>' for cell, of in columns)}</tr>\n"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _class(of_cell: str) -> str:
    return f" class={of_cell}" if of_cell else ""


def _button(unit: str) -> str:
    return f'<button data-unit="{unit}">{unit}</button>'


def _file(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
