"""What all pages have in common: the head, the look, and a heading with the facts."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from charlm.files import writing

FRAME = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
<h1>{title}</h1>
"""


def read_asset(name: str) -> str:
    """The text of a file of this folder: CSS or JavaScript."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def stylesheet() -> str:
    """The look of every page, in CSS."""
    return read_asset("style.css")


def write_page(
    path: Path, title: str, facts: Mapping[str, str], body: Iterable[str], style: str = ""
) -> None:
    """Write a page.

    facts:  what it shows, by headings such as "Model"
    body:   pieces of HTML
    style:  further CSS
    """
    with writing(path) as file:
        for piece in page(title, facts, body, style):
            file.write(piece.encode("utf-8", "replace"))


def page(
    title: str, facts: Mapping[str, str], body: Iterable[str], style: str = ""
) -> Iterator[str]:
    """A page, in pieces; see `write_page`."""
    yield FRAME.format(title=html.escape(title), style=stylesheet() + style)
    rows = (f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>\n" for k, v in facts.items())
    yield f'<dl class="facts">\n{"".join(rows)}</dl>\n'
    yield from body
    yield "</html>\n"
