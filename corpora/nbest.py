"""n-best lists as a recogniser of the language of sentences.grammar would give them.

    python -m corpora.nbest FOLDER

writes two sets of lists in the format of Moses, dev.nbest and test.nbest, and the sentences that
were said, dev.ref and test.ref. The sentences are held out of the training text.

There is no recogniser. The hypotheses of a list are the sentence and copies of it with one to three
errors: homophones, or words that are replaced, left out or put in. The acoustic score is minus the
number of errors, plus Gaussian noise. A homophone sounds the same, so it is no error for the score.
One list in ten does not have the sentence.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from corpora.generate import GRAMMAR, sample_sentences, swaps
from corpora.grammar import Grammar

SEED = 5
LISTS = 300  # of a set
HYPOTHESES = 10
MOST_ERRORS = 3
HOMOPHONES = 0.5  # probability that an error is a homophone, where the sentence has any
MISSING = 0.1  # probability that a list does not have the sentence
NOISE = 0.7  # standard deviation; 1 is the cost of an error

T = TypeVar("T")


class Nbest(NamedTuple):
    """The list of one sentence.

    reference:   the sentence
    hypotheses:  (text, acoustic score), the best score first
    """

    reference: str
    hypotheses: list[tuple[str, float]]

    def moses(self, number: int) -> str:
        """The lines of the list."""
        return "".join(
            f"{number} ||| {text} ||| acoustic= {score:.4f} ||| {score:.4f}\n"
            for text, score in self.hypotheses
        )


def nbest_lists(grammar: Grammar, count: int, seed: int = SEED) -> list[Nbest]:
    """The lists of `count` different sentences."""
    rng = random.Random(seed)
    samples = sample_sentences(grammar, held_out=True, seed=seed)
    sentences = dict.fromkeys(islice(samples, 2 * count))  # some occur more than once
    vocabulary = [word for sentence in sentences for word in sentence.split()]
    return [_nbest(sentence, vocabulary, rng) for sentence in islice(sentences, count)]


def _nbest(sentence: str, vocabulary: Sequence[str], rng: random.Random) -> Nbest:
    costs = {sentence: 0}
    while len(costs) <= HYPOTHESES:
        text, cost = sentence, 0
        for _ in range(1 + int(rng.random() * MOST_ERRORS)):
            homophones = [swapped for _, _, swapped in swaps(text)]
            if homophones and rng.random() < HOMOPHONES:
                text = _choice(homophones, rng)
            else:
                text, cost = _with_error(text.split(), vocabulary, rng), cost + 1
        costs.setdefault(text, cost)
    texts = list(costs)
    texts = texts[1:] if rng.random() < MISSING else texts[:-1]
    scored = [(text, rng.gauss(-costs[text], NOISE)) for text in texts]
    return Nbest(sentence, sorted(scored, key=lambda pair: -pair[1]))


def _with_error(words: list[str], vocabulary: Sequence[str], rng: random.Random) -> str:
    """The sentence with a word replaced, left out or put in."""
    k, word = int(rng.random() * len(words)), _choice(vocabulary, rng)
    middle = _choice(([word], [], [word, words[k]]), rng)
    return " ".join([*words[:k], *middle, *words[k + 1 :]])


def _choice(items: Sequence[T], rng: random.Random) -> T:
    """One of the items. Uses one call of `rng.random()`, as `Rule.choose` does."""
    return items[int(rng.random() * len(items))]


def write(folder: Path) -> None:
    """Write the lists and the sentences of both sets to a folder."""
    lists = nbest_lists(Grammar.read(GRAMMAR), 2 * LISTS)
    for name, part in (("dev", lists[:LISTS]), ("test", lists[LISTS:])):
        moses = "".join(one.moses(number) for number, one in enumerate(part))
        references = "".join(f"{one.reference}\n" for one in part)
        (folder / f"{name}.nbest").write_text(moses, encoding="utf-8")
        (folder / f"{name}.ref").write_text(references, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(Path(sys.argv[1]))
