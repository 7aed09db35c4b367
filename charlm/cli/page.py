"""A page of scored sentences, for a browser: one file, which needs nothing else."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from charlm.files import writing

if TYPE_CHECKING:
    from charlm.engines.scores import SentenceScore, TokenScore

STRONGEST = 10.0  # bits of the strongest colour

HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --paper: #fff; --ink: #111; --mark: #e8590c; --box: #f4f4f4 }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #16181c; --ink: #eee; --mark: #ff922b; --box: #2a2d33 }}
}}
body {{ background: var(--paper); color: var(--ink); font: 16px/1.9 system-ui, sans-serif;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.2rem }}
.sentence {{ margin: 1rem 0; overflow-wrap: anywhere; white-space: pre-wrap }}
.figures {{ font-size: .8rem; opacity: .75; margin-left: .8em; white-space: nowrap }}
b {{ font-weight: inherit; border-bottom: calc(var(--s) * 5px) solid var(--mark); cursor: default;
  background: color-mix(in srgb, var(--mark) calc(var(--s) * 60%), transparent) }}
b:focus, b:hover {{ outline: 2px solid var(--ink) }}
#about {{ position: absolute; background: var(--box); color: var(--ink); padding: .4rem .8rem;
  border: 1px solid; border-radius: .3rem; font-size: .85rem; line-height: 1.4; display: none;
  z-index: 1 }}
#about table {{ border-spacing: .6em 0; margin-left: -.6em }}
#about td:last-child {{ text-align: right }}
</style>
<h1>{title}</h1>
<p>The stronger the colour and the thicker the line, the more surprising the token. Point at a
token, or reach it with the Tab key, for its figures and for the likeliest tokens in its place.</p>
<div id="about" role="tooltip"></div>
"""

SCRIPT = """
const about = document.getElementById("about");
const cell = text => Object.assign(document.createElement("td"), {textContent: text});
function row(...texts) {
  const row = document.createElement("tr");
  row.append(...texts.map(cell));
  return row;
}
function show(event) {
  const token = event.target;
  if (token.tagName !== "B") return;
  const [id, bits, rank, entropy, ...likeliest] = token.dataset.t.split(" ");
  const table = document.createElement("table");
  table.append(row(names[id], (+bits).toFixed(2) + " bits"),
    row("probability", (2 ** -bits).toPrecision(3)), row("rank", rank),
    row("entropy", entropy + " bits"), row("likeliest", ""));
  for (const entry of likeliest) {
    const [id, p] = entry.split(":");
    table.append(row(names[id], p));
  }
  about.replaceChildren(table);
  about.style.display = "block";
  const box = token.getClientRects()[0];
  const most = document.documentElement.clientWidth - about.offsetWidth - 8;
  about.style.left = Math.max(Math.min(box.left, most), 0) + scrollX + "px";
  about.style.top = box.bottom + scrollY + 6 + "px";
}
const hide = () => about.style.display = "none";
document.addEventListener("mouseover", show);
document.addEventListener("focusin", show);
document.addEventListener("mouseout", hide);
document.addEventListener("focusout", hide);
document.addEventListener("keydown", event => { if (event.key === "Escape") hide(); });
"""


def write_page(path: Path, title: str, scores: Iterable[SentenceScore]) -> None:
    """Write a page of sentences, which were scored with `details`."""
    with writing(path) as file:
        for piece in _page(title, scores):
            file.write(piece.encode("utf-8", "replace"))


def _page(title: str, scores: Iterable[SentenceScore]) -> Iterator[str]:
    yield HEAD.format(title=html.escape(title))
    names: dict[str, int] = {}  # of tokens, and their numbers on this page
    for score in scores:
        yield '<p class="sentence">'
        done = 0
        for token in score.token_scores:
            start, end = max(token.start, done), max(token.end, done)
            text = score.text[done:start] + score.text[start:end]
            done = end
            yield _token(token, text or ("¶" if token.is_line_end else "·"), names)
        figures = f"probability {score.probability}, {score.bits:.1f} bits"
        yield f'<span class="figures">{figures}</span></p>\n'
    listed = json.dumps(list(names), ensure_ascii=False).replace("<", "\\u003c")
    yield f"<script>\nconst names = {listed};{SCRIPT}</script>\n</html>\n"


def _token(token: TokenScore, text: str, names: dict[str, int]) -> str:
    def number(name: str) -> int:
        return names.setdefault(name, len(names))

    assert token.likeliest is not None and token.entropy is not None
    likeliest = " ".join(f"{number(name)}:{math.exp(p):.3g}" for name, p in token.likeliest)
    figures = f"{token.bits:.4f} {token.rank} {token.entropy / math.log(2):.2f}"
    strength = min(token.bits / STRONGEST, 1.0)
    return (
        f'<b tabindex="0" aria-describedby="about" style="--s:{strength:.2f}" '
        f'data-t="{number(token.token)} {figures} {likeliest}">{html.escape(text)}</b>'
    )
