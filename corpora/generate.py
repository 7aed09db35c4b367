"""Generate the corpus: `python corpora/generate.py`. With `--describe`, print its figures instead.

The script reads sentences.grammar and writes three files, byte for byte the same on every machine:
- sentences.txt: the training text, one sentence per line
- sentences.heldout.txt: sentences of the same language that are not in the training text
- homophones.tsv: pairs of a held-out sentence and the same sentence with one word replaced by a
  homophone, separated by a tab. The second sentence is not in the language.

A tenth of all sentences is held out, chosen by hash. The two `DEMO_SENTENCES` are held out as well.
"""

import argparse
import hashlib
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice, permutations
from pathlib import Path

HERE = Path(__file__).resolve().parent
if not __package__:  # a script cannot import its own package without this
    sys.path.insert(0, str(HERE.parent))

from corpora.grammar import Grammar  # noqa: E402

GRAMMAR = HERE / "sentences.grammar"
SEED = 1
TRAINING_LINES = 40_000
HELD_OUT_LINES = 4_000
PAIRS_PER_SWAP = 5
DEMO_SENTENCES = ("the apple and pear salad", "Cats average 15 hours of sleep a day")
HOMOPHONES = (
    *("pear pair", "pears pairs", "flour flower", "meat meet", "sea see", "sun son", "bread bred"),
    *("leek leak", "thyme time", "mussels muscles", "berry bury", "steak stake", "hare hair"),
    *("bear bare", "deer dear", "weather whether", "rain rein", "mail male", "tail tale", "buy by"),
    *("week weak", "hour our", "sale sail", "maize maze", "chilli chilly", "cereal serial"),
    *("dough doe", "roll role", "hole whole", "moose mousse", "horse hoarse", "knead need"),
    *("herd heard", "mist missed", "dew due", "blew blue", "eight ate", "one won", "two too to"),
    *("four for", "here hear", "right write", "piece peace", "place plaice", "sweet suite"),
    *("wood would", "beet beat"),
)
ALL_SWAPS = [swap for homophones in HOMOPHONES for swap in permutations(homophones.split(), 2)]


def is_held_out(sentence: str) -> bool:
    """Whether the sentence is kept out of the training text."""
    return sentence in DEMO_SENTENCES or hashlib.sha256(sentence.encode()).digest()[0] % 10 == 0


def sample_sentences(grammar: Grammar, held_out: bool, seed: int) -> Iterator[str]:
    """An endless sample of the held-out sentences, or of all others."""
    rng = random.Random(seed)
    while True:
        if is_held_out(sentence := grammar.sample(rng)) == held_out:
            yield sentence


def swaps(sentence: str) -> Iterator[tuple[str, str, str]]:
    """All (word, homophone, sentence with the homophone in place of the word)."""
    for match in re.finditer(r"[A-Za-z]+", sentence):
        for word, homophone in ALL_SWAPS:
            if word == match[0].lower():
                spelling = homophone.capitalize() if match[0][0].isupper() else homophone
                swapped = sentence[: match.start()] + spelling + sentence[match.end() :]
                yield word, homophone, swapped


def homophone_pairs(grammar: Grammar) -> list[tuple[str, str]]:
    """Pairs of a right and a wrong sentence, five for each swap. The demo's pair comes first.

    The right sentence is in the language and held out. The wrong one is not in the language.
    """
    missing = Counter(dict.fromkeys(ALL_SWAPS, PAIRS_PER_SWAP))
    pairs: list[tuple[str, str]] = []
    candidates = chain(DEMO_SENTENCES, sample_sentences(grammar, held_out=True, seed=SEED + 2))
    while missing.total():
        right = next(candidates)
        for word, homophone, wrong in swaps(right):
            if missing[word, homophone] and wrong not in grammar:
                missing[word, homophone] -= 1
                pairs.append((right, wrong))
                break
    return pairs


def generated_files(grammar: Grammar) -> dict[str, list[str]]:
    """The lines of each generated file, by file name."""
    training = islice(sample_sentences(grammar, held_out=False, seed=SEED), TRAINING_LINES)
    held_out = islice(sample_sentences(grammar, held_out=True, seed=SEED + 1), HELD_OUT_LINES)
    return {
        "sentences.txt": list(training),
        "sentences.heldout.txt": list(held_out),
        "homophones.tsv": ["\t".join(pair) for pair in homophone_pairs(grammar)],
    }


def write(folder: Path) -> None:
    """Write the generated files to a folder."""
    for name, lines in generated_files(Grammar.read(GRAMMAR)).items():
        (folder / name).write_bytes("".join(f"{line}\n" for line in lines).encode())


def describe() -> Iterator[str]:
    """Lines of text about the size and the entropy of the language, and about the files."""
    grammar = Grammar.read(GRAMMAR)
    yield f"sentences in the language: {grammar.size():,}"
    yield f"entropy per sentence: {grammar.entropy():.3f} nats"
    files = generated_files(grammar)
    for name, lines in files.items():
        length = sum(map(len, lines)) / len(lines)
        yield f"{name}: {len(lines):,} lines, {length:.1f} characters on average"
    held_out = files["sentences.heldout.txt"]
    surprisal = -sum(map(grammar.logprob, held_out)) / len(held_out)
    yield f"surprisal of the held-out text under the grammar: {surprisal:.3f} nats per sentence"


def main() -> None:
    """Write the files to this script's folder, or print their figures."""
    parser = argparse.ArgumentParser(description="Generate the corpus.")
    parser.add_argument("--describe", action="store_true", help="print figures, write nothing")
    if parser.parse_args().describe:
        print(*describe(), sep="\n")
    else:
        write(HERE)


if __name__ == "__main__":
    main()
