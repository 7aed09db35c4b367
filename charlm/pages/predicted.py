"""A text with what a network looked at, or with tags in colour, as HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import NamedTuple

from charlm.pages.frame import read_asset


class Looked(NamedTuple):
    """A piece of a text.

    share:  how much the network looked at it, from 0 to 1
    tag:    of a word; "" for a tag that says nothing; None for a model that gives no tags
    title:  what a pointer shows
    """

    text: str
    share: float = 0.0
    tag: str | None = None
    title: str = ""


def style() -> str:
    """The CSS of such texts."""
    return read_asset("predicted.css")


def predicted(lines: Iterable[tuple[Iterable[Looked], str]], colours: dict[str, int]) -> str:
    """What is predicted for a text.

    lines:    the pieces of a text, and the answer in words
    colours:  the hues of tags, in degrees; new ones are added
    """
    shown = "".join(_line(pieces, answer, colours) for pieces, answer in lines)
    return f'<div class="predicted">{shown}</div>\n'


def _line(pieces: Iterable[Looked], answer: str, colours: dict[str, int]) -> str:
    shown = "".join(_piece(piece, colours) for piece in pieces)
    label = f'<span class="answer">{html.escape(answer)}</span>' if answer else ""
    return f'<p class="text" dir="auto">{shown}{label}</p>\n'


def _piece(piece: Looked, colours: dict[str, int]) -> str:
    text, title = html.escape(piece.text), html.escape(piece.title)
    if piece.tag is None:
        return f'<b style="--s:{min(max(piece.share, 0.0), 1.0):.3f}" title="{title}">{text}</b>'
    if not piece.tag:
        return text
    hue = colours.setdefault(piece.tag.split("-", 1)[-1], 67 * len(colours) % 360)
    tag = html.escape(piece.tag)
    return f'<b class="tag" style="--h:{hue}" title="{title}">{text}<small>{tag}</small></b>'
