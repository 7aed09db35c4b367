"""A text with what a network looked at, or with tags in colour, as HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from charlm.pages.frame import read_asset

# Hues of tags in degrees, in their order of appearance. Neighbours differ for colour-blind readers,
# too, and none reads as right or wrong, as red and green do. More tags begin again.
HUES = (210, 35, 285, 180, 325, 245, 155)


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

    lines:    the pieces of a text, and the answer in words. If there is a line for each token of
              the answer, these lines are one table, with a column for each piece
    colours:  the hues of tags, in degrees; new ones are added
    """
    drawn = [([*pieces], answer) for pieces, answer in lines]
    whole, *rows = drawn
    if rows and all(piece.tag is None for pieces, _ in rows for piece in pieces):
        drawn, table = [whole], _table(rows)
    else:
        table = ""
    shown = "".join(_line(pieces, answer, colours) for pieces, answer in drawn)
    return f'<div class="predicted">{shown}</div>\n{table}'


def _table(rows: Sequence[tuple[Sequence[Looked], str]]) -> str:
    """A row for each token of an answer, and a column for each piece of the text."""
    heads = "".join(f"<th>{html.escape(piece.text)}</th>" for piece in rows[0][0])
    lines = (
        f"<tr><th>{html.escape(answer)}</th>{''.join(map(_cell, pieces))}</tr>\n"
        for pieces, answer in rows
    )
    return (
        f'<div class="scroll"><table class="shares"><thead><tr><th></th>{heads}</tr></thead>\n'
        f"{''.join(lines)}</table></div>\n"
    )


def _cell(piece: Looked) -> str:
    return f'<td style="--s:{_strength(piece)}" title="{html.escape(piece.title)}"></td>'


def _strength(piece: Looked) -> str:
    return f"{min(max(piece.share, 0.0), 1.0):.3f}"


def _line(pieces: Iterable[Looked], answer: str, colours: dict[str, int]) -> str:
    shown = "".join(_piece(piece, colours) for piece in pieces)
    label = f'<span class="answer">{html.escape(answer)}</span>' if answer else ""
    return f'<p class="text" dir="auto">{shown}{label}</p>\n'


def _piece(piece: Looked, colours: dict[str, int]) -> str:
    text, title = html.escape(piece.text), html.escape(piece.title)
    if piece.tag is None:
        return f'<b style="--s:{_strength(piece)}" title="{title}">{text}</b>'
    if not piece.tag:
        return text
    hue = colours.setdefault(piece.tag.split("-", 1)[-1], HUES[len(colours) % len(HUES)])
    tag = html.escape(piece.tag)
    return f'<b class="tag" style="--h:{hue}" title="{title}">{text}<small>{tag}</small></b>'
