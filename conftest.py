"""What several tests share: a text, a small trained model, the examples of docstrings."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings

import charlm
from charlm import LanguageModel
from charlm.cli import run as run_command_line
from charlm.engines.text_model import TextModel
from charlm.model.mixture import Predictors
from charlm.model.prediction import Predictor
from charlm.tokenizer import Tokenizer
from charlm.training.loop import Loop

# Other tests keep the machine busy meanwhile.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

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
    update = Loop._update

    def counting(self: Loop, *arguments: Any) -> None:
        update(self, *arguments)
        if self.step == steps:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Loop, "_update", counting)


class OnePredictor(Predictors):
    """The same predictor for all work."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def for_tokens(self, tokens: int) -> Predictor:
        return self.predictor

    @property
    def numpy(self) -> Predictor:
        return self.predictor


def text_model_of(
    predictor: Predictor, tokenizer: Tokenizer, independent_lines: bool = False
) -> TextModel:
    predictors = OnePredictor(predictor)
    return TextModel(predictors, tokenizer, independent_lines=independent_lines)


@pytest.fixture(autouse=True, scope="session")
def short_measurements() -> Iterator[None]:
    """Trainings measure the speed of the machine by small batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("charlm.training.machine.PROBE_SHAPE", (4, 4))
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow tests come first, so that at the end no process waits for one of them."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 80 short lines."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text(shuffled(TEXT), encoding="utf-8")
    return path


Trained = Callable[..., Any]


@pytest.fixture(scope="session")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A function of options that returns a model of the corpus, trained with these options.

    Each model is trained once, whatever number of tests and of pytest's processes use it, so no
    test may change it or its files.
    """
    folder, models = shared_folder(tmp_path_factory), dict[str, Any]()

    def train(**options: Any) -> Any:
        name = hashlib.sha256(repr(sorted(options.items())).encode()).hexdigest()[:8]
        if name not in models:
            path = made_once(
                folder / name / "model",
                lambda out: charlm.train(corpus, out=out, quiet=True, **options),
            )
            models[name] = charlm.load(path)
        return models[name]

    return train


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder for what all processes of this test run share."""
    parallel = "PYTEST_XDIST_WORKER" in os.environ
    folder = factory.getbasetemp().parent if parallel else factory.getbasetemp()
    return folder / "shared"


def made_once(path: Path, make: Callable[[Path], object]) -> Path:
    """The path, made by the first process that asks for it. The other processes wait for that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock, pytest.MonkeyPatch.context() as cwd:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cwd.chdir(path.parent)  # the pointer to the last run is written where training is started
        if not path.exists():
            make(path)
    return path


@pytest.fixture(scope="session")
def model(trained: Trained) -> LanguageModel:
    """A character model of the corpus that has learnt something."""
    found: LanguageModel = trained(lines=True, steps=150, hidden=32, bptt=24)
    return found


class Ran(NamedTuple):
    """What a command did. notes: its lines on stderr, but for the name of the model"""

    code: int
    stdout: bytes
    notes: list[str]

    @property
    def text(self) -> str:
        """What it wrote, for a command that succeeded."""
        assert self.code == 0, self.notes
        return self.stdout.decode()

    @property
    def rows(self) -> list[list[str]]:
        """The rows of TSV."""
        return [line.split("\t") for line in self.text.splitlines()]

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The objects of JSON lines."""
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def error(self) -> str:
        """The message of a command that failed, which is its only note."""
        assert self.code == 1 and len(self.notes) == 1, self.notes
        return self.notes[0].removeprefix("charlm: ")


Command = Callable[..., Ran]


@pytest.fixture
def charlm_command(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Command:
    """A function that runs a command in this process: its arguments, and `stdin` in bytes."""

    def command(*arguments: object, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "argv", ["charlm", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            code = run_command_line()
        except SystemExit as exit:
            code = int(exit.code or 0)
        stdout, stderr = capsysbinary.readouterr()
        lines = stderr.decode("utf-8", "replace").splitlines()
        return Ran(code, stdout, [line for line in lines if not line.startswith("model: ")])

    return command


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
