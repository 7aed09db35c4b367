"""One to many: a label starts a text. Are the samples of the label's kind?"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import charlm
from benchmarks.project import SENTENCES
from charlm import TextClassifier, Transducer

TEXTS, HELD_OUT, SAMPLES = 1500, 200, 100  # of each kind
MINUTES = 2
SEEDS = (1, 2, 3)


def kinds(folder: Path, data: Path) -> Any:
    """How often a classifier of the true texts finds the label of held-out texts, and of samples.

    Four kinds of lines: plays, news, the sentences of this project, and first names.
    """
    texts = dict(_texts(data))
    train = [(kind, text) for kind, of in texts.items() for text in of[HELD_OUT:]]
    random.Random(0).shuffle(train)
    Path("kinds.tsv").write_text("".join(f"{k}\t{t}\n" for k, t in train), encoding="utf-8")
    Path("texts.tsv").write_text("".join(f"{t}\t{k}\n" for k, t in train), encoding="utf-8")
    judge = charlm.train("texts.tsv", kind=TextClassifier, minutes=1, out="judge", quiet=True)
    held_out = {kind: _share(judge, of[:HELD_OUT], kind) for kind, of in texts.items()}
    return {
        "held-out texts": held_out,
        "samples": [dict(_sampled(judge, sorted(texts), seed)) for seed in SEEDS],
    }


def _texts(data: Path) -> Iterator[tuple[str, list[str]]]:
    files = {
        "play": data / "tinyshakespeare.txt",
        "news": data / "ptb.train.txt",
        "sentence": SENTENCES,
        "name": data / "names.txt",
    }
    for kind, file in files.items():
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        lines = sorted({line for line in lines if line and not line.endswith(":")})
        yield kind, random.Random(1).sample(lines, TEXTS)


def _sampled(judge: TextClassifier, labels: list[str], seed: int) -> Iterator[tuple[str, float]]:
    model = charlm.train(
        "kinds.tsv", kind=Transducer, source_level="label", minutes=MINUTES, seed=seed,
        out=f"writer-{seed}", quiet=True,
    )  # fmt: skip
    for label in labels:
        given = model.given(label)
        samples = [given.sample(temperature=1.0, seed=k).strip() for k in range(SAMPLES)]
        yield label, _share(judge, samples, label)


def _share(judge: TextClassifier, texts: list[str], label: str) -> float:
    """How often the classifier finds this label."""
    return sum(best[0].label == label for best in judge.predict(texts)) / len(texts)
