"""Generate the corpus: `python corpora/generate.py`. With `--describe`, print its figures instead.

The script writes these files, byte for byte the same on every machine. From sentences.grammar:
- sentences.txt: the training text, one sentence per line
- sentences.heldout.txt: sentences of the same language that are not in the training text
- homophones.tsv: pairs of a held-out sentence and the same sentence with one word replaced by a
  homophone, separated by a tab. The second sentence is not in the language.
- tagged.conll and tagged.heldout.conll: sentences with a part of speech and a chunk tag for each
  token, in columns separated by a tab, and a blank line after each sentence
From opinions.grammar:
- labelled.tsv and labelled.heldout.tsv: sentences and their labels, separated by a tab
- opinions.trees and opinions.heldout.trees: the same sentences as trees in brackets, with a label
  at each node
And from numerals.py:
- numbers.tsv and numbers.heldout.tsv: numbers and their words, separated by a tab

A tenth of all sentences, and of the numbers, is held out, chosen by hash. The two `DEMO_SENTENCES`
are held out as well.
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

from corpora.bracketing import bracketed  # noqa: E402
from corpora.grammar import Grammar, Tree  # noqa: E402
from corpora.numerals import in_words, numbers  # noqa: E402
from corpora.tagging import Lexicon, tag_tokens  # noqa: E402

GRAMMAR = HERE / "sentences.grammar"
OPINIONS = HERE / "opinions.grammar"
TAGS = HERE / "sentences.tags"
SEED = 1
TRAINING_LINES = 40_000
HELD_OUT_LINES = 4_000
LABELLED_LINES = 3_000
LABELLED_HELD_OUT_LINES = 500
TAGGED_SENTENCES = 1_600
TAGGED_HELD_OUT_SENTENCES = 400
NUMBERS = 2_000
HELD_OUT_NUMBERS = 500
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


def distinct_sentences(grammar: Grammar, held_out: bool, count: int) -> list[str]:
    """A sample of `count` different sentences: held-out ones, or others."""
    sentences: dict[str, None] = {}  # a set that keeps the order
    for sentence in sample_sentences(grammar, held_out, seed=SEED + 3):
        sentences[sentence] = None
        if len(sentences) == count:
            break
    return list(sentences)


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


def label(opinions: Grammar, sentence: str) -> str:
    """The label of a sentence of opinions.grammar: the alternative of the first rule."""
    (alternative,) = opinions.tree(sentence).children
    assert isinstance(alternative, Tree)
    return alternative.name.lower()


def labelled_lines(opinions: Grammar, held_out: bool, count: int) -> list[str]:
    """Lines of a sentence, a tab and its label."""
    sentences = distinct_sentences(opinions, held_out, count)
    return [f"{sentence}\t{label(opinions, sentence)}" for sentence in sentences]


def tree_lines(opinions: Grammar, held_out: bool, count: int) -> list[str]:
    """Lines of a sentence in brackets, with a label at each node."""
    sentences = distinct_sentences(opinions, held_out, count)
    return [bracketed(opinions.tree(sentence)) for sentence in sentences]


def tagged_lines(grammar: Grammar, held_out: bool, count: int) -> list[str]:
    """Lines of a word, its part of speech and its chunk tag. A blank line ends each sentence."""
    lexicon = Lexicon.read(TAGS)
    lines: list[str] = []
    for sentence in distinct_sentences(grammar, held_out, count):
        lines += map("\t".join, tag_tokens(grammar.tree(sentence), lexicon))
        lines.append("")
    return lines


def number_lines(held_out: bool, count: int) -> list[str]:
    """Lines of a number, a tab and its words: held-out ones, or others."""
    candidates = (n for n in numbers(SEED + 4) if is_held_out(str(n)) == held_out)
    chosen: dict[int, None] = {}  # a set that keeps the order
    while len(chosen) < count:
        chosen[next(candidates)] = None
    return [f"{number}\t{in_words(number)}" for number in chosen]


def generated_files(grammar: Grammar, opinions: Grammar) -> dict[str, list[str]]:
    """The lines of each generated file, by file name."""
    training = islice(sample_sentences(grammar, held_out=False, seed=SEED), TRAINING_LINES)
    held_out = islice(sample_sentences(grammar, held_out=True, seed=SEED + 1), HELD_OUT_LINES)
    return {
        "sentences.txt": list(training),
        "sentences.heldout.txt": list(held_out),
        "homophones.tsv": ["\t".join(pair) for pair in homophone_pairs(grammar)],
        "tagged.conll": tagged_lines(grammar, False, TAGGED_SENTENCES),
        "tagged.heldout.conll": tagged_lines(grammar, True, TAGGED_HELD_OUT_SENTENCES),
        "labelled.tsv": labelled_lines(opinions, False, LABELLED_LINES),
        "labelled.heldout.tsv": labelled_lines(opinions, True, LABELLED_HELD_OUT_LINES),
        "opinions.trees": tree_lines(opinions, False, LABELLED_LINES),
        "opinions.heldout.trees": tree_lines(opinions, True, LABELLED_HELD_OUT_LINES),
        "numbers.tsv": number_lines(False, NUMBERS),
        "numbers.heldout.tsv": number_lines(True, HELD_OUT_NUMBERS),
    }


def write(folder: Path) -> None:
    """Write the generated files to a folder."""
    for name, lines in generated_files(Grammar.read(GRAMMAR), Grammar.read(OPINIONS)).items():
        (folder / name).write_bytes("".join(f"{line}\n" for line in lines).encode())


def describe() -> Iterator[str]:
    """Lines of text about the size and the entropy of the languages, and about the files."""
    grammar, opinions = Grammar.read(GRAMMAR), Grammar.read(OPINIONS)
    yield f"sentences in the language: {grammar.size():,}"
    yield f"entropy per sentence: {grammar.entropy():.3f} nats"
    yield f"opinions in the language: {opinions.size():,}"
    files = generated_files(grammar, opinions)
    for name, lines in files.items():
        if name.startswith("tagged"):
            sentences = lines.count("")
            yield f"{name}: {sentences:,} sentences, {len(lines) - sentences:,} tokens"
        else:
            length = sum(map(len, lines)) / len(lines)
            yield f"{name}: {len(lines):,} lines, {length:.1f} characters on average"
    held_out = files["sentences.heldout.txt"]
    surprisal = -sum(map(grammar.logprob, held_out)) / len(held_out)
    yield f"surprisal of the held-out text under the grammar: {surprisal:.3f} nats per sentence"
    for name in ("labelled.heldout.tsv", "tagged.heldout.conll"):
        tags = Counter(line.split("\t")[-1] for line in files[name] if line)
        tag, count = tags.most_common(1)[0]
        yield f"{name}: {count / tags.total():.1%} are {tag}, the most frequent of {len(tags)}"


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
