"""Generated parts of Markdown pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path


def replace_blocks(page: Path, blocks: Mapping[str, str]) -> None:
    """Replace the text between the marks `<!-- NAME -->` and `<!-- end of NAME -->` of a page.

    blocks:  the new text by name
    """
    text = page.read_text(encoding="utf-8")
    for name, block in blocks.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        pattern = re.compile(f"{start}.*?{end}", re.DOTALL)
        text = pattern.sub((start + block + end).replace("\\", r"\\"), text)
    page.write_text(text, encoding="utf-8")


def table(columns: str, rows: Iterable[Iterable[str]]) -> str:
    """A table.

    columns:  the headings, separated by " | "
    """
    lines = [f"| {columns} |", "|" + "---|" * (columns.count("|") + 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
