"""The figures of docs/speed.md."""

from __future__ import annotations

from typing import Any

from benchmarks.markdown import table
from benchmarks.project import ROOT
from benchmarks.speed.harness import Row
from benchmarks.speed.parts import NANOGPT, PARTS

PAGE, MARK = ROOT / "docs/speed.md", "<!-- figures -->\n"
COLUMNS = "what | measured | unit | plain | ratio | limit | share of the limit | part of the whole"


def write_page(results: dict[str, Any]) -> None:
    """Replace the text after the mark in docs/speed.md."""
    text = PAGE.read_text(encoding="utf-8")
    start = text.index(MARK) + len(MARK)
    PAGE.write_text(text[:start] + tables(results), encoding="utf-8")


def tables(results: dict[str, Any]) -> str:
    """The machine, and a table for each part that has results."""
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    sections = [f"\nMeasured with: {machine}.\n"]
    for part in (*PARTS, NANOGPT):
        if part in results:
            rows = [Row(**row).cells() for row in results[part]]
            title = part if part == NANOGPT else part.capitalize()
            sections.append(f"\n## {title}\n\n{table(COLUMNS, rows)}")
    return "".join(sections)
