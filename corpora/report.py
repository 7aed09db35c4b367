"""Print how well a model has learnt the language of sentences.grammar: `report.py RUN`.

All figures are measured on sentences that are not in the training text.
"""

from __future__ import annotations

import sys
from pathlib import Path

import charlm
from charlm import LanguageModel

HERE = Path(__file__).resolve().parent
if not __package__:  # a script cannot import its own package without this
    sys.path.insert(0, str(HERE.parent))

from corpora.grammar import Grammar  # noqa: E402

DEMO_PAIR = ("the apple and pear salad", "the apple and pair salad")
SAMPLES = 200


def main(run: str) -> None:
    model = charlm.load(run, kind=LanguageModel)
    grammar = Grammar.read(HERE / "sentences.grammar")
    training = set(read_lines("sentences.txt"))
    for line in (*demo_pair(model, training), homophones(model), entropy(model, grammar)):
        print(line)
    print(samples(model, grammar, training))


def read_lines(name: str) -> list[str]:
    return (HERE / name).read_text(encoding="utf-8").splitlines()


def demo_pair(model: LanguageModel, training: set[str]) -> list[str]:
    """The probabilities of the demo's two sentences, and their ratio."""
    right, wrong = model.score(DEMO_PAIR)
    ratio = 10 ** (right.log10prob - wrong.log10prob)
    seen = sum(sentence in training for sentence in DEMO_PAIR)
    return [
        f"P({right.text!r}) = {right.probability}",
        f"P({wrong.text!r}) = {wrong.probability}",
        f"ratio {ratio:,.0f}; of the two sentences {seen} are in the training text",
    ]


def homophones(model: LanguageModel) -> str:
    """How often the right sentence is more probable than the same one with a homophone."""
    pairs = [line.split("\t") for line in read_lines("homophones.tsv")]
    right = model.score([pair[0] for pair in pairs])
    wrong = model.score([pair[1] for pair in pairs])
    wins = sum(r.logprob > w.logprob for r, w in zip(right, wrong, strict=True))
    return (
        f"homophones: the right sentence is the likelier in {wins} of {len(pairs)} held-out pairs"
    )


def entropy(model: LanguageModel, grammar: Grammar) -> str:
    """Cross-entropy of held-out sentences, and the entropy of the grammar, its lower bound."""
    scores = model.score(read_lines("sentences.heldout.txt"))
    mean = -sum(score.logprob for score in scores) / len(scores)
    return (
        f"cross-entropy of {len(scores):,} held-out sentences: {mean:.3f} nats a sentence; "
        f"the grammar's entropy is {grammar.entropy():.3f}"
    )


def samples(model: LanguageModel, grammar: Grammar, training: set[str]) -> str:
    """How many sampled sentences are in the language, and how many of those are new."""
    sampled = model.sample(n=SAMPLES, temperature=0.8, seed=1)
    valid = [sentence for sentence in sampled if sentence in grammar]
    new = sum(sentence not in training for sentence in valid)
    return (
        f"of {SAMPLES} sentences sampled at temperature 0.8, {len(valid)} belong to the grammar; "
        f"{new} of those are not in the training text"
    )


if __name__ == "__main__":
    main(sys.argv[1])
