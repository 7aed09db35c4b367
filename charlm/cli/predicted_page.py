"""The page of `charlm predict`: what the network looked at, tags in colour."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from charlm.cli.page import counted, model_facts
from charlm.cli.side_by_side import names_of
from charlm.pages.frame import write_page
from charlm.pages.predicted import predicted, style


def write_predicted_page(path: Path, model: Any, texts: list[str], source: str) -> None:
    """Write a page with the predictions for these texts. model: `Predicts`; source: of the texts"""
    (name,) = names_of([model])
    facts = {**model_facts(model, name), "Text": f"{source}: {counted(len(texts), 'text')}"}
    colours: dict[str, int] = {}
    note = f'<p class="faint">{html.escape(model.page_note)}</p>\n'
    body = [note, *(predicted(model.looked(text), colours) for text in texts)]
    write_page(path, f"What {name} predicts", facts, body, style())
