"""How often `charlm fill` finds the word that was there.

    python benchmarks/fill.py MODEL FILE [LINES]

In each of so many lines of the file (300), evenly spread, one word is taken out, drawn by a fixed
seed; the model names its five best fillers.
"""

from __future__ import annotations

import random
import re
import sys
import time
from pathlib import Path

import charlm

WORD = re.compile(r"(?<!\S)\w+(?!\S)")


def fillers(model: str, file: str, count: int = 300) -> str:
    """How often the true word is the first filler, how often among five, and how long it took."""
    lines = [line.strip() for line in Path(file).read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if WORD.search(line)]
    chosen = lines[:: max(len(lines) // count, 1)][:count]
    rng, loaded = random.Random(1), charlm.load(model)
    first = among = 0
    start = time.perf_counter()
    for line in chosen:
        word = rng.choice(list(WORD.finditer(line)))
        (found,) = loaded.fill(f"{line[: word.start()]}___{line[word.end() :]}", k=5)
        texts = [filler.text for filler in found]
        first += texts[:1] == [word[0]]
        among += word[0] in texts
    seconds = (time.perf_counter() - start) / len(chosen)
    return (
        f"{len(chosen)} lines of {Path(file).name}: the true word is first in "
        f"{first / len(chosen):.1%}, among the first five in {among / len(chosen):.1%}; "
        f"{seconds:.2f} s a line"
    )


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    print(fillers(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:4])))
