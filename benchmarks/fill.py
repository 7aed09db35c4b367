"""How often `charlm fill` finds the word that was there.

    python benchmarks/fill.py MODEL FILE [LINES]

In each of so many lines of the file (300), evenly spread, one word is taken out, drawn by a fixed
seed; the model names its five best fillers. Prints how often the true word is the first of them,
how often among them, and how long a line took.
"""

from __future__ import annotations

import random
import re
import sys
import time
from pathlib import Path

import charlm

WORD = re.compile(r"(?<!\S)\w+(?!\S)")


def main(model: str, file: str, count: int = 300) -> None:
    lines = [line.strip() for line in Path(file).read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if WORD.search(line)]
    rng = random.Random(1)
    loaded = charlm.load(model)
    first = among = 0
    start = time.perf_counter()
    chosen = lines[:: max(len(lines) // count, 1)][:count]
    for line in chosen:
        word = rng.choice(list(WORD.finditer(line)))
        blanked = f"{line[: word.start()]}___{line[word.end() :]}"
        (fillers,) = loaded.fill(blanked, k=5)
        found = [filler.text for filler in fillers]
        first += found[:1] == [word[0]]
        among += word[0] in found
    seconds = (time.perf_counter() - start) / len(chosen)
    print(
        f"{model}, {len(chosen)} lines of {file}: the true word is first in "
        f"{first / len(chosen):.1%}, among the first five in {among / len(chosen):.1%}; "
        f"{seconds:.2f} s a line"
    )


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:4]))
