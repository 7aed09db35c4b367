"""Writes the output of `make demo` into the README, and draws what its model says.

    make demo > demo.log 2>&1
    python -m benchmarks.readme demo.log

Lines of progress between the first and the last one are left out. The picture, docs/compare.svg, is
what a terminal shows of `charlm compare`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from benchmarks.project import ROOT

README = ROOT / "README.md"
BLOCK = re.compile(r"(<!-- demo -->\n```text\n).*?(```\n<!-- end of demo -->)", re.DOTALL)
SKIPPED = re.compile(r"make|model: |runs/\S+$|a sample:|next: |      charlm score|real|user|sys|$")
PROGRESS = re.compile(r"^ *(\d+)% ·")
BIN = ".venv/bin/"
PICTURE, WIDTH = ROOT / "docs/compare.svg", 90
PAIR = ("the apple and pear salad", "the apple and pair salad")
FONT_FILES = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # they would be loaded from elsewhere


def shorten(log: str) -> str:
    """The commands and their output, with the first and the last line of progress only."""
    kept: list[str] = []
    for line in log[log.index(f"{BIN}charlm train") :].splitlines():  # the setup comes before
        progress = PROGRESS.match(line)
        if line.startswith(BIN):
            kept += ["", "$ " + line.removeprefix(BIN)]
        elif progress:
            last = progress[1] == "100"
            if last or not PROGRESS.match(kept[-1]):
                kept += ["  …"] * last + [line]
        elif not SKIPPED.match(line):
            kept.append(line.rstrip())
    return "\n".join(kept).strip() + "\n"


def picture() -> str:
    """What `charlm compare` shows on a terminal, as SVG."""
    command = ["charlm", "compare", "--model", "runs/demo", "--format", "table", *PAIR]
    colours = {"FORCE_COLOR": "1", "COLORTERM": "truecolor", "COLUMNS": str(WIDTH)}
    shown = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, **colours},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    console = Console(record=True, width=WIDTH, file=StringIO())
    console.print(Text.from_ansi(shown))
    title = shlex.join(["charlm", "compare", *PAIR])
    return FONT_FILES.sub("", console.export_svg(title=title, unique_id="compare"))


def main(log: Path) -> None:
    text = README.read_text(encoding="utf-8")
    output = shorten(log.read_text(encoding="utf-8"))
    README.write_text(BLOCK.sub(lambda match: match[1] + output + match[2], text), encoding="utf-8")
    PICTURE.write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
