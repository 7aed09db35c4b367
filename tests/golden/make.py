"""Writes golden model files and their scores: `python tests/golden/make.py NAME...`.

NAME is a key of RECIPES: the task, the level, and what is special.

A golden file is a small model beside the scores that the program gave when the file was written.
`tests/test_golden.py` holds that every later version gives the same scores. Files are only ever
added: a file that exists is not written again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import charlm

HERE = Path(__file__).parent
CORPUS = HERE.parents[1] / "corpora" / "tales.txt"
SMALL = {
    "hidden": 16, "bptt": 32, "batch": 8, "steps": 120, "lr": 0.01, "precision": "fp32",
    "ngram": "none",
}  # fmt: skip
RECIPES: dict[str, dict[str, Any]] = {
    "lm-char": {},
    "lm-char-lines": {"lines": True, "cell": "gru", "layers": 2},
    "lm-char-variants": {
        "peepholes": "ifo", "layer_norm": True, "residual": True, "layers": 2, "feedforward": 1,
        "highway": 1,
    },
    "lm-char-gru-before": {"cell": "gru", "reset": "before", "layer_norm": True},
    "lm-char-rnn-relu": {"cell": "rnn", "activation": "relu", "normalize": "none"},
    "lm-char-no-forget-gate": {"forget_gate": False},
    "lm-char-networks": {"networks": 2, "ngram": 3},
    "lm-byte": {"level": "byte", "cell": "gru-simple"},
    "lm-word": {"level": "word", "vocab_size": 200},
    "lm-word-whitespace": {"level": "word", "split": "whitespace", "vocab_size": 200},
    "lm-word-split-softmax": {"level": "word", "vocab_size": 1500},
    "lm-word-letters": {"level": "word", "characters": "recurrent", "vocab_size": 200},
    "lm-word-filters": {"level": "word", "characters": "convolutional", "vocab_size": 200},
    "lm-subword": {"level": "subword", "vocab_size": 400},
    "lm-char-ngram": {"ngram": 4},
    "lm-char-lines-ngram": {"lines": True, "ngram": 3},
    "lm-word-ngram": {"level": "word", "vocab_size": 600, "ngram": 3},
    "lm-word-unicode": {"level": "word", "vocab_size": 600, "ngram": 3},
    "lm-word-elision": {"level": "word", "split": "elision", "vocab_size": 200},
    "lm-word-spelling": {"level": "word", "vocab_size": 300, "ngram": 2},
    "fill-char": {"task": "fill"},
    "fill-byte": {"task": "fill", "level": "byte"},
    "fill-word": {"task": "fill", "level": "word", "vocab_size": 200, "layers": 2},
    "fill-word-letters": {
        "task": "fill", "level": "word", "vocab_size": 200, "characters": "recurrent"
    },
    "fill-subword": {"task": "fill", "level": "subword", "vocab_size": 400},
    "tag-word": {
        "task": "tag", "bptt": None, "vocab_size": 300, "embedding": 16, "ngram": None
    },
    "seq2seq-char": {"task": "seq2seq", "bptt": None, "ngram": None},
    "tree-word": {"task": "tree", "bptt": None, "vocab_size": 300, "ngram": None},
    "classify-char": {"task": "classify", "bptt": None, "level": "char"},
    "classify-word-linear": {"task": "classify", "bptt": None, "vocab_size": 300, "ngram": None},
    "classify-word": {
        "task": "classify", "bptt": None, "level": "word", "cell": "gru", "layers": 2
    },
}  # fmt: skip
SENTENCES = [
    "The harbour was quiet.",
    "the apple and pear salad",
    "",
    "  two spaces, a tab\tand “quotes”",
    "Ångström café, naïve; cafe\u0301 \u2603",
    "a sentence that goes on for rather longer than the others do, so that batches are padded",
]
CONTEXT = "It was late in the harbour, and "
TEXT = "".join(f"{sentence}\n" for sentence in SENTENCES) * 3
BLANKS = ["The harbour was ___.", "the ___ and pear ___"]


def language_model_scores(model: Any) -> dict[str, Any]:
    """What a language model says of the texts above; log-probabilities in nats."""
    return {
        "tokens": [s.logprobs.tolist() for s in model.score(SENTENCES)],
        "ids": [s.ids.tolist() for s in model.score(SENTENCES)],
        "after_context": [
            s.logprob for s in model.score(SENTENCES, context=CONTEXT, eos=False)
        ],
        "text": model.evaluate(TEXT, reset_lines=False).logprob,
        "vectors": [float(line.vectors.sum()) for line in model.embed(SENTENCES)],
    }  # fmt: skip


def fill_scores(model: Any) -> dict[str, Any]:
    """What a model that fills blanks says of the texts above; log-probabilities in nats."""
    scores = list(model.iter_pseudo_scores(SENTENCES))
    return {
        "tokens": [s.logprobs.tolist() for s in scores],
        "ids": [s.ids.tolist() for s in scores],
        "fillers": [
            [[(filler.text, filler.probability) for filler in blank] for blank in model.fill(line)]
            for line in BLANKS
        ],
        "vectors": [float(line.vectors.sum()) for line in model.embed(SENTENCES)],
    }


def classifier_scores(model: Any) -> dict[str, Any]:
    """What a classifier says of the texts above: the labels and their probabilities."""
    answers = model.predict(SENTENCES, k=2)
    return {
        "labels": [[answer.label for answer in best] for best in answers],
        "probabilities": [[answer.probability for answer in best] for best in answers],
    }


def tagger_scores(model: Any) -> dict[str, Any]:
    """What a tagger says of the texts above: the tags and their probabilities."""
    tagged = model.predict(SENTENCES)
    return {
        "tags": [[tag for _, tag, _ in words] for words in tagged],
        "probabilities": [[p for *_, p in words] for words in tagged],
    }


def labeller_scores(model: Any) -> dict[str, Any]:
    """What a labeller says of trees and of the texts above: the labels and their probabilities."""
    words = filter(None, map(str.split, SENTENCES))
    brackets = ["(" + " ".join(f"(x {word})" for word in each) + ")" for each in words]
    labelled = model.predict([*brackets, *SENTENCES])
    return {
        "labels": [[node.label for node in nodes] for nodes in labelled],
        "probabilities": [[node.probability for node in nodes] for nodes in labelled],
    }


def transducer_scores(model: Any) -> dict[str, Any]:
    """What an encoder–decoder says of the words of the texts above: targets, probabilities."""
    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    answers = model.predict(words, k=2)
    return {
        "targets": [[answer.target for answer in best] for best in answers],
        "probabilities": [[answer.probability for answer in best] for best in answers],
        "given": [model.given(word).score(word.upper()).logprob for word in words],
    }


def scores_of(name: str, model: Any) -> dict[str, Any]:
    """What the model of this golden file says."""
    kinds = {
        "lm": language_model_scores,
        "fill": fill_scores,
        "classify": classifier_scores,
        "tag": tagger_scores,
        "seq2seq": transducer_scores,
        "tree": labeller_scores,
    }
    return kinds[name.split("-")[0]](model)


def labelled(lines: Path) -> Path:
    """The lines of a text, each with a label: whether it is longer than half of them."""
    texts = lines.read_text(encoding="utf-8").split("\n")
    half = sorted(map(len, texts))[len(texts) // 2]
    path = Path("labelled.tsv")
    of_all = (f"{t}\t{'long' if len(t) > half else 'short'}\n" for t in texts if t)
    path.write_text("".join(of_all), encoding="utf-8")
    return path


def tagged(lines: Path) -> Path:
    """The words of a text, each with a tag: how it begins, as a chunk of words of that kind."""
    path = Path("tagged.conll")
    sentences = []
    for line in lines.read_text(encoding="utf-8").split("\n")[:60]:
        before, rows = "", []
        for word in line.split():
            kind = "UP" if word[0].isupper() else "OTHER" if not word.isalpha() else "LOW"
            rows.append(f"{word}\t{'I' if kind == before else 'B'}-{kind}\n")
            before = kind
        sentences.append("".join(rows) + "\n")
    path.write_text("".join(sentences), encoding="utf-8")
    return path


def pairs(lines: Path) -> Path:
    """The words of a text, each with the same in capitals and with long vowels."""
    words = sorted(set(re.findall("[a-z]+", lines.read_text(encoding="utf-8"))))
    path = Path("pairs.tsv")
    long_vowels = re.compile("([aeiou])")
    rows = (word + "\t" + long_vowels.sub(r"\1\1", word).upper() + "\n" for word in words)
    path.write_text("".join(rows), encoding="utf-8")
    return path


def bracketed(lines: Path) -> Path:
    """The sentences of a text as trees: each word with its first letter, as a list of lists."""
    path = Path("texts.trees")
    rows = []
    for line in lines.read_text(encoding="utf-8").split("\n")[:60]:
        tree = ""
        for word in re.findall("[a-z]+", line):
            leaf = f"({word[0]} {word})"
            tree = f"({word[-1]} {leaf} {tree})" if tree else leaf
        rows += [f"{tree}\n"] if tree else []
    path.write_text("".join(rows), encoding="utf-8")
    return path


# The corpora of tasks that need more than a text.
CORPORA: dict[str, Callable[[Path], Path]] = {
    "classify": labelled, "tag": tagged, "tree": bracketed, "seq2seq": pairs
}  # fmt: skip


def make(name: str) -> None:
    target = HERE / f"{name}.safetensors"
    if target.exists():
        sys.exit(f"{target} exists, and golden files are never written again")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        options, task = {**SMALL, **RECIPES[name]}, name.split("-")[0]
        corpus = CORPORA[task](CORPUS) if task in CORPORA else CORPUS
        model = charlm.train(corpus, out="run", quiet=True, **options)
        shutil.copy(model.path, target)
    model = charlm.load(target)
    about = {"charlm": charlm.__version__, **scores_of(name, model)}
    target.with_suffix(".json").write_text(
        json.dumps(about, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    for name in sys.argv[1:] or RECIPES:
        make(name)
