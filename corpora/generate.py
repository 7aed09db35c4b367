"""Write the generated corpus: `python corpora/generate.py`, or with `--describe` its figures.

From sentences.grammar it makes, the same to the byte on every machine,
- sentences.txt: the training text, one sentence a line;
- sentences.heldout.txt: sentences of the same language that the training text never contains;
- homophones.tsv: a held-out sentence, a tab, and the same with one word replaced by a homophone,
  which takes it out of the language.

Held out are a tenth of all sentences, chosen by their hash, and the two `EMBLEMS`.
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
if not __package__:  # run as a script, it has to find its own package
    sys.path.insert(0, str(HERE.parent))

from corpora.grammar import Grammar  # noqa: E402

GRAMMAR = HERE / "sentences.grammar"
SEED = 1
TRAINING_LINES = 40_000
HELD_OUT_LINES = 4_000
PAIRS_PER_SWAP = 5
EMBLEMS = ("the apple and pear salad", "Cats average 15 hours of sleep a day")
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
    """Tell whether the training text must not contain the sentence."""
    return sentence in EMBLEMS or hashlib.sha256(sentence.encode()).digest()[0] % 10 == 0


def sentences(grammar: Grammar, held_out: bool, seed: int) -> Iterator[str]:
    """Yield, without end, sentences that are held out, or ones that are not."""
    rng = random.Random(seed)
    while True:
        if is_held_out(sentence := grammar.sample(rng)) == held_out:
            yield sentence


def swaps(sentence: str) -> Iterator[tuple[str, str, str]]:
    """Yield (word, homophone, the sentence with the one replaced by the other)."""
    for match in re.finditer(r"[A-Za-z]+", sentence):
        for word, other in ALL_SWAPS:
            if word == match[0].lower():
                spelling = other.capitalize() if match[0][0].isupper() else other
                yield word, other, sentence[: match.start()] + spelling + sentence[match.end() :]


def homophone_pairs(grammar: Grammar) -> list[tuple[str, str]]:
    """Return (right, wrong) sentences: the emblem's first, five for each word and homophone.

    The right one is held out and in the language; the wrong one is not in the language.
    """
    wanted = Counter(dict.fromkeys(ALL_SWAPS, PAIRS_PER_SWAP))
    pairs: list[tuple[str, str]] = []
    rights = chain(EMBLEMS, sentences(grammar, held_out=True, seed=SEED + 2))
    while wanted.total():
        right = next(rights)
        for word, other, wrong in swaps(right):
            if wanted[word, other] and wrong not in grammar:
                wanted[word, other] -= 1
                pairs.append((right, wrong))
                break
    return pairs


def texts(grammar: Grammar) -> dict[str, list[str]]:
    """Return the lines of each generated file by its name."""
    training = islice(sentences(grammar, held_out=False, seed=SEED), TRAINING_LINES)
    held_out = islice(sentences(grammar, held_out=True, seed=SEED + 1), HELD_OUT_LINES)
    return {
        "sentences.txt": list(training),
        "sentences.heldout.txt": list(held_out),
        "homophones.tsv": ["\t".join(pair) for pair in homophone_pairs(grammar)],
    }


def write(folder: Path) -> None:
    """Write the generated files into the folder."""
    for name, lines in texts(Grammar.read(GRAMMAR)).items():
        (folder / name).write_bytes("".join(f"{line}\n" for line in lines).encode())


def describe() -> Iterator[str]:
    """Yield lines that tell the size and the entropy of the language, and of the files."""
    grammar = Grammar.read(GRAMMAR)
    yield f"sentences in the language: {grammar.size():,}"
    yield f"entropy per sentence: {grammar.entropy():.3f} nats"
    generated = texts(grammar)
    for name, lines in generated.items():
        length = sum(map(len, lines)) / len(lines)
        yield f"{name}: {len(lines):,} lines, {length:.1f} characters on average"
    held_out = generated["sentences.heldout.txt"]
    surprisal = -sum(map(grammar.logprob, held_out)) / len(held_out)
    yield f"surprisal of the held-out text under the grammar: {surprisal:.3f} nats per sentence"


def main() -> None:
    """Write the files beside this one, or describe them."""
    parser = argparse.ArgumentParser(description="Write the generated corpus.")
    parser.add_argument("--describe", action="store_true", help="print figures, write nothing")
    if parser.parse_args().describe:
        print(*describe(), sep="\n")
    else:
        write(HERE)


if __name__ == "__main__":
    main()
