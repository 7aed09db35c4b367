"""What people would use instead: phonetisaurus, joint n-grams as a transducer.

It is not among the project's packages: pip install phonetisaurus
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from charlm.engines.target_scores import errors_of


def rivals(folder: Path, data: Path) -> dict[str, float]:
    """Trained on the same pronunciations, and asked about the words of the test part."""
    lexicon = Path("lexicon.txt")
    rows = _rows(data / "g2p.train.tsv")
    lexicon.write_text("".join(f"{w} {p}\n" for w, p in rows), encoding="utf-8")
    program = [sys.executable, "-m", "phonetisaurus"]
    start = time.monotonic()
    subprocess.run([*program, "train", "--model", "g2p.fst", "lexicon.txt"], check=True)
    seconds = time.monotonic() - start
    right: dict[str, list[list[int]]] = {}
    numbers: dict[str, int] = {}
    for word, phonemes in _rows(data / "g2p.test.tsv"):
        right.setdefault(word, []).append(_ids(phonemes, numbers))
    start = time.monotonic()
    asked = "".join(f"{word}\n" for word in right)
    ran = subprocess.run(
        [*program, "predict", "--model", "g2p.fst"], input=asked, text=True, check=True,
        capture_output=True,
    )  # fmt: skip
    to_decode = time.monotonic() - start
    found: dict[str, list[int]] = {}
    for line in ran.stdout.splitlines():
        word, _, phonemes = line.partition(" ")
        found[word] = _ids(phonemes, numbers)
    wrong = errors = tokens = 0
    for word, targets in right.items():
        distance, length = errors_of(found.get(word, []), targets)
        wrong, errors, tokens = wrong + (distance > 0), errors + distance, tokens + length
    return {
        "exact_match": 1 - wrong / len(right),
        "token_error_rate": errors / tokens,
        "seconds": seconds,
        "seconds to predict": to_decode,
        "words": len(right),
    }


def _rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def _ids(phonemes: str, numbers: dict[str, int]) -> list[int]:
    return [numbers.setdefault(phoneme, len(numbers)) for phoneme in phonemes.split()]
