"""How much of the training text is in samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import charlm
from benchmarks.project import trained
from charlm import LanguageModel

COPIED, SAMPLE = 100, 500  # samples, and characters of each


def copying(folder: Path, text: Path) -> dict[str, Any]:
    """The longest pieces of samples that are in the training text, in characters."""
    run = trained(text, "shakespeare", "--minutes", 3)
    whole = text.read_text(encoding="utf-8")
    cut = whole.index("\n", int(len(whole) * 0.9)) + 1
    training, held_out = whole[:cut], whole[cut:]
    longest = {}
    for kind in ("mixture", "network"):
        model = charlm.load(run, kind=LanguageModel, network_only=kind == "network")
        samples = model.sample(n=COPIED, length=SAMPLE, temperature=0.8, seed=1)
        longest[kind] = [longest_piece(sample, training) for sample in samples]
    starts = np.linspace(0, len(held_out) - SAMPLE, COPIED).astype(int)
    longest["held-out text"] = [longest_piece(held_out[k : k + SAMPLE], training) for k in starts]
    return longest


def longest_piece(sample: str, text: str) -> int:
    """The length of the longest piece of a sample that is somewhere in a text."""
    longest = 0
    for start in range(len(sample)):
        while start + longest < len(sample) and sample[start : start + longest + 1] in text:
            longest += 1
    return longest
