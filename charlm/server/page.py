"""The playground: the page at `/`, and what it shows of answers, as HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from charlm.engines.drawn_scores import draw
from charlm.engines.scores import SentenceScore
from charlm.pages import differences, predicted, sentence
from charlm.pages import units as units_page
from charlm.pages.frame import page, stylesheet
from charlm.uses.comparison import Comparison, draw_difference, scores_of
from charlm.uses.units import Units, panels

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>charlm</title>
<style>
{style}</style>
{body}{scripts}</html>
"""
# The page loads nothing from elsewhere, and sends nothing there.
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data:; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


UNITS_SHOWN = 2000  # characters of a text with the values of units


@cache
def playground() -> str:
    """The page, whole: it needs no other file."""
    styles = (stylesheet(), sentence.style(), differences.style(), predicted.style())
    script = f"<script>\n{_asset('playground.js')}</script>\n"
    return PAGE.format(
        style="".join(styles) + _asset("playground.css"),
        body=_asset("playground.html"),
        scripts=sentence.script() + script,
    )


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def draw_scores(scores: Iterable[SentenceScore], words: bool) -> str:
    """Sentences in the colours of their tokens or words."""
    kind, strongest = ("word", sentence.WORD_BITS) if words else ("token", sentence.TOKEN_BITS)
    return "".join(draw(score, words=words) for score in scores) + sentence.scale(kind, strongest)


def draw_comparisons(comparisons: Sequence[Comparison]) -> str:
    """Compared sentences in the colours of their words, with charts."""
    charts = "".join(f"<section>{draw_difference(found)}</section>\n" for found in comparisons)
    return charts + draw_scores(scores_of(comparisons), words=True)


def draw_prediction(model: Any, text: str, colours: dict[str, int]) -> str:
    """A text with what is predicted for it. model: `Predicts`; colours: see `predicted`"""
    return predicted.predicted(model.looked(text), colours)


def draw_note(model: Any) -> str:
    """What the drawn predictions show, in words. model: `Predicts`"""
    return f'<p class="faint">{html.escape(model.page_note)}</p>\n'


def draw_units(model: Any, text: str, found: Units) -> str:
    """A whole page of the hidden units along a text. model: `HasUnits`"""
    text = text if len(text) <= UNITS_SHOWN else found.longer or text[:UNITS_SHOWN]
    shown = [panel.to_json() for panel in panels(model, [text], found.named)]
    body = units_page.body(found.to_json(), shown)
    return "".join(page("Hidden units", {}, body, units_page.style()))
