"""A page of predictions, for a browser: which words the network looked at, tags in colour."""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlm.files import writing

if TYPE_CHECKING:
    from charlm.tasks.trained import Looked

HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --paper: #fff; --ink: #111; --mark: #e8590c }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #16181c; --ink: #eee; --mark: #ff922b }}
}}
body {{ background: var(--paper); color: var(--ink); font: 16px/1.9 system-ui, sans-serif;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.2rem }}
p {{ overflow-wrap: anywhere; white-space: pre-wrap }}
b {{ font-weight: inherit;
  background: color-mix(in srgb, var(--mark) calc(var(--s) * 80%), transparent) }}
b.tag {{ background: hsl(var(--h) 70% 50% / .3); border-radius: .2em; padding: 0 .15em }}
small {{ font-size: .65rem; opacity: .8; margin-left: .25em }}
.answer {{ font-size: .8rem; opacity: .8; margin-left: .8em; white-space: nowrap }}
</style>
<h1>{title}</h1>
<p>{about}</p>
"""


def write_predicted_page(path: Path, model: Any, texts: Iterable[str]) -> None:
    """Write a page with the predictions for these texts. model: `Predicts`"""
    with writing(path) as file:
        title = html.escape(f"{model.path.absolute().parent.name}: {model.purpose}")
        about = html.escape(model.page_note)
        file.write(HEAD.format(title=title, about=about).encode("utf-8", "replace"))
        colours: dict[str, int] = {}
        for text in texts:
            file.write(b"<p>")
            for pieces, answer in model.looked(text):
                shown = "".join(_piece(piece, colours) for piece in pieces)
                line = f'{shown}<span class="answer">{html.escape(answer)}</span>\n'
                file.write(line.encode("utf-8", "replace"))
            file.write(b"</p>\n")
        file.write(b"</html>\n")


def _piece(piece: Looked, colours: dict[str, int]) -> str:
    text, title = html.escape(piece.text), html.escape(piece.title)
    if piece.tag is None:
        return f'<b style="--s:{min(max(piece.share, 0.0), 1.0):.3f}" title="{title}">{text}</b>'
    if not piece.tag:
        return text
    hue = colours.setdefault(piece.tag.split("-", 1)[-1], 67 * len(colours) % 360)
    tag = html.escape(piece.tag)
    return f'<b class="tag" style="--h:{hue}" title="{title}">{text}<small>{tag}</small></b>'
