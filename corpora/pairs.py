"""Minimal pairs of the language of sentences.grammar: `python -m corpora.pairs FILE` writes them.

Each line is a JSON object with a good and a bad sentence, in the format of BLiMP (Warstadt et al.
2020). The good one is in the language and held out of the training text. The bad one is not in the
language. It is the good one with one error, which the field UID names:
- agreement: a verb has the other number
- homophones: a homophone stands in place of a word
- word_order: two neighbouring words are swapped
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from corpora.generate import GRAMMAR, sample_sentences, swaps
from corpora.grammar import Grammar

SEED = 4
PAIRS_PER_PHENOMENON = 1000
# Both forms are words of the language, so no unknown word gives the error away.
NUMBERS = {"is": "are", "are": "is", "was": "were", "were": "was", "has": "have", "have": "has"}
VERBS = NUMBERS | {"works": "work"}  # "work" is also a noun
VERB = re.compile(rf"\b({'|'.join(VERBS)})\b")


class Pair(NamedTuple):
    """A minimal pair."""

    good: str
    bad: str
    phenomenon: str

    def to_json(self) -> dict[str, str]:
        """The values under BLiMP's names."""
        return {"sentence_good": self.good, "sentence_bad": self.bad, "UID": self.phenomenon}


def agreement(sentence: str) -> Iterator[str]:
    """The sentence with another number of one of its verbs."""
    for match in VERB.finditer(sentence):
        yield sentence[: match.start()] + VERBS[match[0]] + sentence[match.end() :]


def homophones(sentence: str) -> Iterator[str]:
    """The sentence with a homophone in place of one of its words."""
    return (swapped for _, _, swapped in swaps(sentence))


def word_order(sentence: str) -> Iterator[str]:
    """The sentence with two neighbouring words swapped, not the first one with its capital."""
    words = sentence.split()
    for k, (word, following) in enumerate(pairwise(words)):
        if k and "," not in word + following:
            yield " ".join([*words[:k], following, word, *words[k + 2 :]])


PHENOMENA: tuple[Callable[[str], Iterator[str]], ...] = (agreement, homophones, word_order)


def minimal_pairs(
    grammar: Grammar, count: int = PAIRS_PER_PHENOMENON, seed: int = SEED
) -> Iterator[Pair]:
    """`count` pairs of each phenomenon, each of another good sentence."""
    rng = random.Random(seed)
    for phenomenon in PHENOMENA:
        seen: set[str] = set()
        for good in sample_sentences(grammar, held_out=True, seed=seed):
            bad = [sentence for sentence in phenomenon(good) if sentence not in grammar]
            if bad and good not in seen:
                seen.add(good)
                yield Pair(good, bad[int(rng.random() * len(bad))], phenomenon.__name__)
            if len(seen) == count:
                break


def write(path: Path) -> None:
    """Write the pairs to a file."""
    pairs = minimal_pairs(Grammar.read(GRAMMAR))
    lines = "".join(f"{json.dumps(pair.to_json())}\n" for pair in pairs)
    path.write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(Path(sys.argv[1]))
