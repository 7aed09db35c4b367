"""A page of predictions, for a browser: what the network looked at, tags in colour."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlm.cli.page import model_facts
from charlm.cli.side_by_side import names_of
from charlm.pages.frame import read_asset, write_page

if TYPE_CHECKING:
    from charlm.tasks.trained import Looked


def write_predicted_page(path: Path, model: Any, texts: list[str], source: str) -> None:
    """Write a page with the predictions for these texts. model: `Predicts`; source: of the texts"""
    (name,) = names_of([model])
    count = f"{len(texts):,} text{'s' * (len(texts) != 1)}"
    facts = {**model_facts(model, name), "Text": f"{source}: {count}"}
    body = [f'<p class="faint">{html.escape(model.page_note)}</p>\n', *_body(model, texts)]
    write_page(path, f"What {name} predicts", facts, body, read_asset("predicted.css"))


def _body(model: Any, texts: Iterable[str]) -> Iterator[str]:
    colours: dict[str, int] = {}
    for text in texts:
        yield '<div class="predicted">'
        for pieces, answer in model.looked(text):
            shown = "".join(_piece(piece, colours) for piece in pieces)
            label = f'<span class="answer">{html.escape(answer)}</span>' if answer else ""
            yield f'<p class="text" dir="auto">{shown}{label}</p>\n'
        yield "</div>\n"


def _piece(piece: Looked, colours: dict[str, int]) -> str:
    text, title = html.escape(piece.text), html.escape(piece.title)
    if piece.tag is None:
        return f'<b style="--s:{min(max(piece.share, 0.0), 1.0):.3f}" title="{title}">{text}</b>'
    if not piece.tag:
        return text
    hue = colours.setdefault(piece.tag.split("-", 1)[-1], 67 * len(colours) % 360)
    tag = html.escape(piece.tag)
    return f'<b class="tag" style="--h:{hue}" title="{title}">{text}<small>{tag}</small></b>'
