"""What people would use instead, on the same files: scikit-learn and crfsuite.

They are not among the project's packages: pip install scikit-learn python-crfsuite
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.labels.quality import chunk_files, sentiment_files
from charlm.corpus.conll import tagged_sentences
from charlm.corpus.labelled import STANDARD, labelled_texts
from charlm.engines.tag_scores import TagScore

STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0)  # of scikit-learn's logistic regression; less is smoother
ROUNDS = 100  # of L-BFGS
NEUTRAL = 2  # the class between negative and positive ones


def rivals(folder: Path, data: Path) -> dict[str, Any]:
    """Logistic regression for sentiment, and a CRF with hand-written features for chunks."""
    files = sentiment_files(data)
    regression = {classes: _regression(of) for classes, of in files.items()}
    return {
        "logistic regression": regression,
        "phrases": _phrases(data),
        "crfsuite": _crfsuite(chunk_files(data)),
    }


def _phrases(data: Path) -> dict[str, float]:
    """Logistic regression on all labelled phrases, each once; the best one on the roots of dev."""
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    start = time.monotonic()
    phrases = sorted({phrase for tree in _trees(data, "train") for phrase in tree})
    texts, labels = ([pair[k] for pair in phrases] for k in (0, 1))
    roots = {part: [tree[-1] for tree in _trees(data, part)] for part in ("dev", "test")}
    (dev, dev_labels), (test, test_labels) = (
        ([text for text, _ in of], [label for _, label in of]) for of in roots.values()
    )
    words = {"tokenizer": str.split, "token_pattern": None}
    models = [
        make_pipeline(counter, LogisticRegression(C=c, max_iter=200)).fit(texts, labels)
        for counter in (
            CountVectorizer(**words, ngram_range=(1, 2), binary=True),
            TfidfVectorizer(**words, ngram_range=(1, 2), sublinear_tf=True),
        )
        for c in (0.3, 1.0, 3.0)
    ]
    best = max(models, key=lambda model: model.score(dev, dev_labels))
    p, truth = best.predict_proba(test), np.array([int(label) for label in test_labels])
    polar = truth != NEUTRAL
    positive = p[:, NEUTRAL + 1 :].sum(axis=1) > p[:, :NEUTRAL].sum(axis=1)
    pairs = [pair for tree in _trees(data, "test") for pair in tree]
    nodes = best.score([text for text, _ in pairs], [label for _, label in pairs])
    return {
        "root_accuracy": float((p.argmax(axis=1) == truth).mean()),
        "root_accuracy_binary": float((positive == (truth > NEUTRAL))[polar].mean()),
        "node_accuracy": float(nodes),
        "seconds": time.monotonic() - start,
    }


def _trees(data: Path, part: str) -> list[list[tuple[str, str]]]:
    """For each tree the words and the label of every node, the root last."""
    trees = []
    for line in (data / f"sst.{part}.txt").read_text(encoding="utf-8").splitlines():
        nodes: list[tuple[str, str]] = []
        opened: list[tuple[str, list[str]]] = []
        for piece in re.findall(r"\(\d|\)|[^ ()]+", line.lower()):
            if piece[0] == "(":
                opened.append((piece[1], []))
            elif piece != ")":
                opened[-1][1].append(piece)
            else:
                label, words = opened.pop()
                nodes.append((" ".join(words), label))
                if opened:
                    opened[-1][1].extend(words)
        trees.append(nodes)
    return trees


def _regression(files: dict[str, Path]) -> dict[str, float]:
    """On words, or words and pairs of them; the best one on the validation part."""
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.pipeline import make_pipeline

    start = time.monotonic()
    (texts, labels), (dev, dev_labels), (test, test_labels) = (
        _labelled(files[part]) for part in ("train", "dev", "test")
    )
    words = {"tokenizer": str.split, "token_pattern": None}
    counters = [
        CountVectorizer(**words),
        CountVectorizer(**words, binary=True),
        TfidfVectorizer(**words, sublinear_tf=True),
        TfidfVectorizer(**words, sublinear_tf=True, ngram_range=(1, 2)),
    ]
    models = [
        make_pipeline(counter, LogisticRegression(C=c, max_iter=1000)).fit(texts, labels)
        for counter in counters
        for c in STRENGTHS
    ]
    best = max(models, key=lambda model: model.score(dev, dev_labels))
    seconds = time.monotonic() - start
    answers = best.predict(test)
    return {
        "accuracy": float(np.mean(answers == np.array(test_labels))),
        "macro_f1": float(f1_score(test_labels, answers, average="macro")),
        "seconds": seconds,
    }


def _labelled(path: Path) -> tuple[list[str], list[str]]:
    texts: list[str] = []
    labels: list[str] = []
    for some_texts, some_labels in labelled_texts(
        iter([path.read_text(encoding="utf-8")]), STANDARD
    ):
        texts += some_texts
        labels += some_labels
    return texts, labels


def _crfsuite(files: dict[str, Path]) -> dict[str, float]:
    """A linear-chain CRF on the words, trained on all sentences that the tagger sees in training
    and validation: it chooses nothing."""
    import pycrfsuite

    start = time.monotonic()
    trainer = pycrfsuite.Trainer(verbose=False)
    trainer.set_params({"c1": 0.1, "c2": 0.1, "max_iterations": ROUNDS})
    training = [pair for part in ("train", "valid") for pair in _tagged(files[part])]
    for words, tags in training:
        trainer.append([_features(words, k) for k in range(len(words))], tags)
    trainer.train("crfsuite.model")
    seconds = time.monotonic() - start
    tagger = pycrfsuite.Tagger()
    tagger.open("crfsuite.model")
    test = _tagged(files["test"])
    start = time.monotonic()
    found = [tagger.tag([_features(words, k) for k in range(len(words))]) for words, _ in test]
    per_second = len(test) / (time.monotonic() - start)
    seen = {word for words, _ in training for word in words}
    unseen = [[word not in seen for word in words] for words, _ in test]
    score = TagScore.of([tags for _, tags in test], found, unseen, 0.0, are_chunks=True)
    figures = {name: value for name, value in score.figures().items() if isinstance(value, float)}
    return figures | {"seconds": seconds, "sentences a second": per_second}


def _tagged(path: Path) -> list[tuple[list[str], list[str]]]:
    return list(tagged_sentences(iter([path.read_text(encoding="utf-8")]), STANDARD))


def _features(words: Sequence[str], k: int) -> list[str]:
    """Of the word k of a sentence: itself, its ends, its shape, and two neighbours on each side."""
    return [f"{name}={value}" for name, value in _named_features(words, k)]


def _named_features(words: Sequence[str], k: int) -> Iterator[tuple[str, object]]:
    word = words[k]
    yield "bias", 1
    yield "word", word
    near = [words[j] if 0 <= j < len(words) else "" for j in range(k - 2, k + 3)]
    for j, neighbour in enumerate(near):
        yield f"word {j - 2}", neighbour.lower()
    for j in range(1, 4):
        yield f"shape {j - 2}", re.sub(r"(.)\1+", r"\1", _shape(near[j]))
        for n in range(1, 5):
            yield f"end {j - 2} {n}", near[j][-n:].lower()
            yield f"start {j - 2} {n}", near[j][:n].lower()
    for j in range(4):
        yield f"pair {j - 2}", (near[j].lower(), near[j + 1].lower())
    for j in range(3):
        yield f"ends {j - 2}", tuple(each[-2:].lower() for each in near[j : j + 3])


def _shape(word: str) -> str:
    return re.sub("[a-z]", "x", re.sub("[A-Z]", "X", re.sub("[0-9]", "0", word)))
