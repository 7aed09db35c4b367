"""What several tests share: a text, a small trained model, the examples of docstrings."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import charlm
from charlm import LanguageModel
from charlm.training.trainer import Trainer

TEXT = "".join(
    f"{who} {what} {where}\n"
    for who in ("the cat", "the dog", "a bird", "my aunt")
    for what in ("sat", "slept", "sang", "waited")
    for where in ("on the mat", "in the sun", "by the door", "at home", "all day")
)


def shuffled(text: str, seed: int = 0) -> str:
    lines = text.splitlines(keepends=True)
    random.Random(seed).shuffle(lines)
    return "".join(lines)


def stopped_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send a SIGINT after this number of training steps."""
    update = Trainer._update

    def counting(self: Trainer, *arguments: Any) -> None:
        update(self, *arguments)
        if self.step == steps:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "_update", counting)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 80 short lines."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text(shuffled(TEXT), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def model(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A character model of the corpus that has learnt something."""
    folder = tmp_path_factory.mktemp("runs")
    previous = Path.cwd()
    os.chdir(folder)  # the pointer to the last run is written where training is started
    try:
        return charlm.train(
            corpus, out=folder / "model", lines=True, steps=150, hidden=32, bptt=24, quiet=True
        )
    finally:
        os.chdir(previous)


@pytest.fixture(autouse=True)
def examples(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """The names of the examples in docstrings: `charlm`, a small `model` and a corpus.txt."""
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    request.getfixturevalue("doctest_namespace").update(
        charlm=charlm, model=request.getfixturevalue("model")
    )
    shutil.copy(request.getfixturevalue("corpus"), tmp_path / "corpus.txt")
    previous = Path.cwd()
    os.chdir(tmp_path)
    yield
    os.chdir(previous)
