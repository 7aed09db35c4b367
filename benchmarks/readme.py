"""Writes the output of `make demo` into the README.

    make demo > demo.log 2>&1
    python -m benchmarks.readme demo.log

Lines of progress between the first and the last one are left out.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from benchmarks.project import ROOT

README = ROOT / "README.md"
BLOCK = re.compile(r"(<!-- demo -->\n```text\n).*?(```\n<!-- end of demo -->)", re.DOTALL)
SKIPPED = re.compile(r"make|model: |runs/\S+$|a sample:|next: |      charlm score|real|user|sys|$")
PROGRESS = re.compile(r"^ *(\d+)% ·")
BIN = ".venv/bin/"


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


def main(log: Path) -> None:
    text = README.read_text(encoding="utf-8")
    output = shorten(log.read_text(encoding="utf-8"))
    README.write_text(BLOCK.sub(lambda match: match[1] + output + match[2], text), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
