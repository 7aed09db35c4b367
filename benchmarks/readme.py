"""Put what `make demo` printed into the README.

make demo > demo.log 2>&1
python benchmarks/readme.py demo.log
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"(<!-- demo -->\n```text\n).*?(```\n<!-- end of demo -->)", re.DOTALL)
LEFT_OUT = re.compile(r"make|model: |runs/\S+$|a sample:|next: |      charlm score|real|user|sys|$")
PROGRESS = re.compile(r"^ *(\d+)% ·")


def shown(log: str) -> str:
    """The commands and what they print, without all but the first and last lines of progress."""
    kept: list[str] = []
    for line in log[log.index(".venv/bin/charlm train") :].splitlines():  # setting up comes before
        progress = PROGRESS.match(line)
        if line.startswith(".venv/bin/"):
            kept += ["", "$ " + line.removeprefix(".venv/bin/")]
        elif progress:
            last = progress[1] == "100"
            if last or not PROGRESS.match(kept[-1]):
                kept += ["  …"] * last + [line]
        elif not LEFT_OUT.match(line):
            kept.append(line.rstrip())
    return "\n".join(kept).strip() + "\n"


def main(log: Path) -> None:
    text = README.read_text(encoding="utf-8")
    block = shown(log.read_text(encoding="utf-8"))
    README.write_text(BLOCK.sub(lambda match: match[1] + block + match[2], text), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
