"""What is told of a training while it goes on: callbacks, and scalars for TensorBoard."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import charlm
from charlm.errors import OptionError, Stopped
from charlm.training.folder import is_left_behind
from conftest import Command, stopped_after
from tests.processes import free_port


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


SMALL: dict[str, Any] = {"hidden": 8, "quiet": True, "precision": "fp32"}


def metrics(run: str) -> list[dict[str, Any]]:
    text = (Path(run) / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def scalars(run: str) -> dict[str, list[tuple[int, float]]]:
    """The steps and values of each scalar, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(run)
    events.Reload()
    names = events.Tags()["scalars"]
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in names}


def test_a_callback_gets_the_lines_of_the_metrics(corpus: Path) -> None:
    records: list[dict[str, Any]] = []
    model = charlm.train(corpus, out="run", steps=24, callbacks=[records.append], **SMALL)
    *lines, last = metrics("run")
    assert len(records) == 12 and records[:-1] == lines
    model_loss = last["model_nats_per_token"]
    assert records[-1] == {name: last[name] for name in records[-1]} and "step" in records[-1]
    assert model_loss == model.card.valid_nats and "model_nats_per_token" not in records[-1]


def test_a_callback_ends_the_training_and_what_was_learnt_is_kept(corpus: Path) -> None:
    steps: list[int] = []

    def enough(record: dict[str, Any]) -> bool:
        steps.append(record["step"])
        record.clear()  # its own copy
        return len(steps) == 3

    model = charlm.train(corpus, out="run", steps=48, callbacks=[enough], **SMALL)
    assert steps == [line["step"] for line in metrics("run")] == [4, 8, 12]
    assert charlm.load("run").card == model.card
    assert metrics("run")[-1]["model_nats_per_token"] == model.card.valid_nats
    with pytest.raises(OptionError, match="the run is finished; to train on, give it more"):
        charlm.train(corpus, out="run", resume=True, quiet=True)
    charlm.train(corpus, out="run", resume=True, steps=60, callbacks=[enough], quiet=True)
    assert steps[3] == 15 and metrics("run")[-1]["step"] == 60


@pytest.mark.parametrize("callbacks", [print, [3], [print, None], "print"])
def test_what_is_no_list_of_functions_is_refused_at_once(corpus: Path, callbacks: Any) -> None:
    with pytest.raises(TypeError, match=r"takes a list of functions as `callbacks`, such as \[pri"):
        charlm.train(corpus, out="run", steps=24, callbacks=callbacks, **SMALL)
    assert not Path("run").exists()


def test_the_error_of_a_callback_is_an_error_of_the_training(corpus: Path) -> None:
    def broken(record: dict[str, Any]) -> None:
        raise ValueError("no place for it")

    with pytest.raises(ValueError, match="no place for it"):
        charlm.train(corpus, out="run", steps=24, callbacks=[broken], **SMALL)
    charlm.train(corpus, out="run", resume=True, quiet=True)
    assert metrics("run")[-1]["step"] == 24


def test_tensorboard_reads_the_metrics_of_a_run_also_of_one_that_was_resumed(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stopped_after(15, patch)
        with pytest.raises(Stopped):
            charlm.train(corpus, out="run", steps=24, tensorboard=True, **SMALL)
    charlm.train(corpus, out="run", resume=True, tensorboard=True, quiet=True)
    read, lines = scalars("run"), metrics("run")
    assert [line["step"] for line in lines] == [*range(2, 25, 2)]
    assert set(read) == set(lines[0]) - {"step"}
    for name, values in read.items():
        assert [step for step, _ in values] == [line["step"] for line in lines], name
        expected = [line[name] for line in lines]
        assert [value for _, value in values] == pytest.approx(expected, rel=1e-6), name


def test_a_run_that_was_killed_at_once_is_left_behind_with_its_events(corpus: Path) -> None:
    charlm.train(corpus, out="run", steps=1, tensorboard=True, **SMALL)
    events = [path.name for path in Path("run").iterdir() if path.name.startswith("events")]
    assert len(events) == 1
    for path in Path("run").iterdir():
        if path.name not in ("run.json", *events) and path.is_file():
            path.unlink()
    Path("run/checkpoint/state.safetensors").unlink()
    assert is_left_behind(Path("run"))
    Path("run/notes.txt").touch()
    assert not is_left_behind(Path("run"))


def test_without_tensorboard_the_command_says_so_at_once(
    corpus: Path, charlm_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec

    def absent(name: str, *arguments: Any) -> Any:
        return None if name == "tensorboard" else find_spec(name, *arguments)

    monkeypatch.setattr("charlm.training.tensorboard.find_spec", absent)
    error = charlm_command("train", corpus, "--out", "run", "--tensorboard").error
    assert error == "--tensorboard needs tensorboard; install it with `pip install tensorboard`"
    assert not Path("run").exists()


PROGRAM = """
import os, sys, charlm
steps = []
def enough(record):
    steps.append(record["step"])
    return len(steps) == 2
model = charlm.train(sys.argv[1], out="run", steps=24, hidden=8, batch=4, precision="fp32",
    threads=1, quiet=True, tensorboard=True, callbacks=[enough])
print(steps, model.card.valid_nats)
"""


@pytest.mark.slow
def test_of_several_processes_the_first_one_calls_and_all_end(corpus: Path) -> None:
    address = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, corpus],
            env={**os.environ, **address, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    first, second = (process.communicate(timeout=120)[0] for process in processes)
    loss = metrics("run")[-1]["model_nats_per_token"]
    assert (first, second) == (f"[2, 4] {loss}\n", f"[] {loss}\n")
    assert len([*Path("run").glob("events.*")]) == 1 and len(scalars("run")["epoch"]) == 2
