"""Texts of every size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

CHAINS = 20_000  # words that are drawn at once


def text_of(characters: int, shakespeare: Path) -> Path:
    """A text of this size: Shakespeare's as far as it goes, and longer ones word by word."""
    path = Path(f"text-{characters}.txt")
    if path.exists():
        return path
    whole = shakespeare.read_text(encoding="utf-8")
    with path.open("w", encoding="utf-8") as file:
        if characters <= len(whole):
            file.write(whole[:characters])
            return path
        for words in drawn_words(whole):
            file.write(words)
            if file.tell() >= characters:
                break
    return path


def drawn_words(text: str) -> Iterator[str]:
    """Endless text: after each word, a word that follows it somewhere in the text."""
    lines = [f"{line}\n".split(" ") for line in text.splitlines()]
    words, ids = np.unique([word for line in lines for word in line], return_inverse=True)
    places = np.argsort(ids, kind="stable")  # by word
    count = np.bincount(ids)
    first = np.cumsum(count) - count
    rng = np.random.default_rng(1)
    at = rng.integers(len(ids), size=CHAINS)
    while True:
        steps = []
        for _ in range(50):
            word = ids[(at + 1) % len(ids)]
            at = places[first[word] + rng.integers(count[word])]
            steps.append(words[word])
        for chain in np.array(steps).T:
            yield " ".join(chain).replace("\n ", "\n") + "\n"
