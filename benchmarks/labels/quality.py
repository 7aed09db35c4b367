"""How good classifiers and taggers are, and what each ingredient brings."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.project import charlm

SEEDS = (1, 2, 3)
MINUTES, FEWER_MINUTES = 10, 2
BRACKETS = {"-LRB-": "(", "-RRB-": ")", "\\/": "/"}
POLARITY = {"0": "negative", "1": "negative", "3": "positive", "4": "positive"}
Scores = dict[str, float]


def sentiment_files(data: Path) -> dict[str, dict[str, Path]]:
    """Sentences with the label of the root, five classes and two, as text TAB label."""
    files: dict[str, dict[str, Path]] = {"five": {}, "two": {}}
    for part in ("train", "dev", "test"):
        lines = (data / f"sst.{part}.txt").read_text(encoding="utf-8").splitlines()
        for classes, of in files.items():
            of[part] = Path(f"sentiment-{classes}.{part}.tsv").resolve()
            rows = (sentence(line, classes) for line in lines)
            of[part].write_text("".join(filter(None, rows)), encoding="utf-8")
    return files


def sentence(tree: str, classes: str) -> str | None:
    """The words of a tree, a TAB and its label; None for a neutral one among two classes."""
    words = " ".join(re.findall(r" ([^()\s]+)\)", tree))
    for written, meant in BRACKETS.items():
        words = words.replace(written, meant)
    label = tree[1] if classes == "five" else POLARITY.get(tree[1])
    return f"{words}\t{label}\n" if label else None


def chunk_files(data: Path) -> dict[str, Path]:
    """The training, the validation and the test part."""
    text = (data / "chunks.train.conll").read_text(encoding="utf-8")
    sentences = text.strip().split("\n\n")
    parts = {
        "train": [s for k, s in enumerate(sentences) if k % 10],
        "valid": sentences[::10],
    }
    files = {"test": data / "chunks.test.conll"}
    for part, kept in parts.items():
        files[part] = Path(f"chunks.{part}.conll").resolve()
        files[part].write_text("\n\n".join(kept) + "\n\n", encoding="utf-8")
    return files


def trained(
    task: str, train: Path, valid: Path, test: Path, *options: object, alone: bool = False
) -> dict[str, Scores]:
    """Train a model and measure it on a test part.

    alone:  the network without the linear half, too
    """
    start = time.monotonic()
    charlm(
        ".", "train", train, "--task", task, "--valid", valid, "--out", "run", "--force", "--quiet",
        *options,
    )  # fmt: skip
    seconds = time.monotonic() - start
    measured = {"whole": evaluated(test) | {"seconds": seconds}}
    if alone:
        measured["network"] = evaluated(test, "--network-only")
    return measured


def evaluated(test: Path, *options: object) -> Scores:
    """The figures of the model on a test part."""
    line = charlm(".", "evaluate", test, "--model", "run", "--format", "json", *options)
    figures = json.loads(line)
    return {name: value for name, value in figures.items() if isinstance(value, float)}


def sentiment(folder: Path, data: Path) -> Any:
    """Both sets of classes, three seeds."""
    return {
        classes: [
            trained(
                "classify", files["train"], files["dev"], files["test"], "--minutes", MINUTES,
                "--seed", seed, alone=True,
            )
            for seed in SEEDS
        ]
        for classes, files in sentiment_files(data).items()
    }  # fmt: skip


def _varied(
    task: str,
    files: tuple[Path, Path, Path],
    variants: Mapping[str, Sequence[object]],
    minutes: float,
) -> Any:
    """The figures of each variant on the test part, and on the validation part as `valid_…`."""

    def run(seed: int, options: Sequence[object]) -> Scores:
        figures = trained(task, *files, "--minutes", minutes, "--seed", seed, *options)["whole"]
        return figures | {f"valid_{name}": value for name, value in evaluated(files[1]).items()}

    return {name: [run(seed, options) for seed in SEEDS] for name, options in variants.items()}


def readouts(folder: Path, data: Path) -> Any:
    """Every readout, and other networks, on the five classes."""
    files = sentiment_files(data)["five"]
    variants: dict[str, Sequence[object]] = {
        readout: ("--readout", readout) for readout in ("last", "mean", "max", "attention")
    }
    variants |= {
        "one direction": ("--directions", 1),
        "two layers": ("--layers", 2),
        "gru": ("--cell", "gru"),
        "without the linear half": ("--ngram", "none"),
    }
    return _varied("classify", (files["train"], files["dev"], files["test"]), variants, MINUTES)


def start(folder: Path, data: Path) -> Any:
    """From a language model of the training sentences, and without one, on the five classes."""
    files = sentiment_files(data)["five"]
    lines = files["train"].read_text(encoding="utf-8").splitlines()
    texts = Path("texts.txt")
    texts.write_text("".join(f"{line.split(chr(9))[0]}\n" for line in lines), encoding="utf-8")
    for task in ("lm", "fill"):
        charlm(
            ".", "train", texts, "--task", task, "--level", "word", "--lines", "--hidden", 128,
            "--minutes", 3, "--out", task, "--quiet", "--force",
        )  # fmt: skip
    variants: dict[str, Sequence[object]] = {
        "from random weights": (),
        "from a language model": ("--from", "lm"),
        "from a fill model": ("--from", "fill"),
        "from a fill model, frozen": ("--from", "fill", "--freeze"),
    }
    return _varied("classify", (files["train"], files["dev"], files["test"]), variants, MINUTES)


def tree_files(data: Path) -> tuple[Path, Path, Path]:
    """The training, the validation and the test part."""
    train, dev, test = (data / f"sst.{part}.txt" for part in ("train", "dev", "test"))
    return train, dev, test


def trees(folder: Path, data: Path) -> Any:
    """Three seeds. Training ends by itself; a run with three times the minutes shows that."""
    train, dev, test = tree_files(data)
    return {
        minutes: [
            trained(
                "tree", train, dev, test, "--minutes", minutes, "--seed", seed, alone=True
            )
            for seed in seeds
        ]
        for minutes, seeds in ((MINUTES, SEEDS), (3 * MINUTES, SEEDS[:1]))
    }  # fmt: skip


def compositions(folder: Path, data: Path) -> Any:
    """Other cells at the nodes of trees."""
    variants: dict[str, Sequence[object]] = {
        "lstm": (),
        "rnn": ("--cell", "rnn"),
        "gru": ("--cell", "gru"),
    }
    return _varied("tree", tree_files(data), variants, MINUTES)


def chunks(folder: Path, data: Path) -> Any:
    """Three seeds, in ten minutes each at most."""
    files = chunk_files(data)
    return [
        trained(
            "tag", files["train"], files["valid"], files["test"], "--minutes", MINUTES,
            "--seed", seed, alone=True,
        )
        for seed in SEEDS
    ]  # fmt: skip


WITHOUT: dict[str, Sequence[object]] = {
    "nothing": (),
    "characters": ("--characters", "none"),
    "the second layer": ("--layers", 1),
    "the residual connection": ("--no-residual",),
    "the CRF": ("--no-crf",),
    "the second direction": ("--directions", 1),
    "the linear half": ("--ngram", "none"),
    "dropout of tokens": ("--token-dropout", 0),
}


def without(folder: Path, data: Path) -> Any:
    """Each ingredient of the tagger taken away in turn, in fewer minutes."""
    files = chunk_files(data)
    return _varied("tag", (files["train"], files["valid"], files["test"]), WITHOUT, FEWER_MINUTES)
