"""Measures how often `charlm fill` finds the missing word.

    python -m benchmarks.fill MODEL FILE [LINES]

LINES lines of the file are used (300), evenly spaced. In each one a word is replaced by a blank; a
fixed seed draws the word. The model gives its five best fillers.
"""

from __future__ import annotations

import random
import re
import sys
import time
from pathlib import Path

import charlm
from charlm import FillModel, LanguageModel

WORD = re.compile(r"(?<!\S)\w+(?!\S)")
FILLERS = 5


def fill_accuracy(model: str | Path, file: Path, count: int = 300) -> str:
    """How often the missing word is the first filler, how often one of five, and the time."""
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if WORD.search(line)]
    lines = lines[:: max(len(lines) // count, 1)][:count]
    generator, loaded = random.Random(1), charlm.load(model)
    assert isinstance(loaded, LanguageModel | FillModel)
    first = among = 0
    start = time.perf_counter()
    for line in lines:
        word = generator.choice(list(WORD.finditer(line)))
        (fillers,) = loaded.fill(f"{line[: word.start()]}___{line[word.end() :]}", k=FILLERS)
        texts = [filler.text for filler in fillers]
        first += texts[:1] == [word[0]]
        among += word[0] in texts
    seconds = (time.perf_counter() - start) / len(lines)
    return (
        f"{len(lines)} lines of {file.name}: the missing word is the first filler in "
        f"{first / len(lines):.1%}, one of the first five in {among / len(lines):.1%}; "
        f"{seconds:.2f} s per line"
    )


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    print(fill_accuracy(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:4])))
