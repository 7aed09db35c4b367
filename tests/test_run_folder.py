"""Run folders: what is left of a run that was killed, and how the next one goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import charlm
from charlm.corpus.reading import Corpus
from charlm.errors import InputError, ModelError, OptionError, Stopped
from charlm.training.checkpoint import Checkpoint
from charlm.training.folder import Folder
from charlm.training.loop import Loop
from charlm.training.options import TrainOptions
from charlm.training.plan import Plan
from conftest import stopped_after

SMALL: dict[str, Any] = {"hidden": 16, "bptt": 16, "batch": 4, "quiet": True, "precision": "fp32"}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield


def leave_behind(corpus: Path, out: Path | None, force: bool = False, **options: Any) -> Path:
    """What a run leaves that is killed before its first checkpoint."""
    plan = Plan(TrainOptions(**options), Corpus([corpus]).stats().sha256)
    folder = Folder.make("corpus", out, force, plan)
    for name in ("train.tokens", ".train.lines.4711.part", ".tmpAbC12"):
        (folder.path / name).write_bytes(b"half")
    folder.release()
    return folder.path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_a_killed_run_left_is_in_nobodys_way(corpus: Path) -> None:
    whole = charlm.train(corpus, out="whole", steps=2, **SMALL).path.parent
    ways: list[dict[str, Any]] = [{}, {"force": True}, {"resume": True}]
    for how in ways:
        out = leave_behind(corpus, Path("out"), steps=2, hidden=8)
        options: dict[str, Any] = {"quiet": True} if "resume" in how else {**SMALL, "steps": 2}
        model = charlm.train(corpus, out=out, **how, **options)
        assert model.config.hidden == (8 if "resume" in how else 16)  # resumed as it was started
        assert names(out) == names(whole)
        for path in sorted(out.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    leave_behind(corpus, None, steps=2, hidden=8)
    assert charlm.train(corpus, steps=2, **SMALL).path.parent == Path("runs/corpus")
    leave_behind(corpus, None, steps=2, hidden=8)
    resumed = charlm.train(corpus, resume=True, quiet=True)
    assert resumed.path.parent == Path("runs/corpus-2") and resumed.config.hidden == 8


def test_a_run_that_starts_anew_is_still_the_same_run(corpus: Path, tmp_path: Path) -> None:
    out = leave_behind(corpus, Path("out"), steps=2, hidden=8)
    with pytest.raises(OptionError, match="`hidden=9`: the run was started with 8"):
        charlm.train(corpus, out=out, resume=True, hidden=9)
    other = tmp_path / "other.txt"
    other.write_text("another text\n" * 20, encoding="utf-8")
    with pytest.raises(InputError, match="was trained on another text"):
        charlm.train(other, out=out, resume=True)
    longer = charlm.train(corpus, out=out, resume=True, quiet=True, epochs=1)
    assert "1 epochs" in longer.card.trained


def test_a_folder_with_files_of_the_user_is_never_cleared(corpus: Path) -> None:
    leave_behind(corpus, Path("mine"), steps=2)
    Path("mine/poem.txt").touch()
    before = names(Path("mine"))
    with pytest.raises(InputError, match="mine exists"):
        charlm.train(corpus, out="mine", steps=2, **SMALL)
    with pytest.raises(InputError, match="mine is not a run folder and is not replaced"):
        charlm.train(corpus, out="mine", force=True, steps=2, **SMALL)
    with pytest.raises(InputError, match="mine exists"):
        charlm.train(corpus, out="mine", resume=True, quiet=True)
    assert names(Path("mine")) == before


def test_two_trainings_do_not_write_to_one_folder(corpus: Path) -> None:
    plan = Plan(TrainOptions(), "")
    first = Folder.make("corpus", Path("out"), False, plan)
    for force in (False, True):
        with pytest.raises(InputError, match="another training writes to it"):
            charlm.train(corpus, out="out", steps=2, force=force, **SMALL)
    assert Folder.make("corpus", Path("runs/corpus"), False, plan).path.exists()
    assert Folder.make("corpus", None, False, plan).path == Path("runs/corpus-2")
    first.release()
    charlm.train(corpus, out="out", steps=2, **SMALL)
    locked = Folder(Path("out"))
    locked.lock()
    with pytest.raises(InputError, match="another training writes to it"):
        charlm.train(corpus, out="out", resume=True, steps=4, quiet=True)
    locked.release()


def test_a_resumed_run_reads_its_folder_only_when_nobody_else_can_write_to_it(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    charlm.train(corpus, out="out", steps=2, **SMALL)
    load, loaded = Checkpoint.load, []

    def watched(path: Path) -> Checkpoint:
        with pytest.raises(InputError, match="another training writes to it"):
            Folder(Path("out")).lock()
        loaded.append(path)
        return load(path)

    monkeypatch.setattr(Checkpoint, "load", watched)
    charlm.train(corpus, out="out", resume=True, steps=4, quiet=True)
    assert len(loaded) == 1


def test_a_signal_writes_the_checkpoint_and_the_model_once(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    for name in ("save_checkpoint", "save_model"):
        save = getattr(Folder, name)

        def watched(self: Folder, content: Any, name: str = name, save: Any = save) -> None:
            written.append(name)
            save(self, content)

        monkeypatch.setattr(Folder, name, watched)
    monkeypatch.setattr("charlm.training.saver.SECONDS_BETWEEN_CHECKPOINTS", 1e9)
    stopped_after(9, monkeypatch)
    with pytest.raises(Stopped):
        charlm.train(corpus, out="out", steps=24, **SMALL)
    # The first step is followed by a checkpoint; then the signal comes.
    assert written == ["save_checkpoint", "save_checkpoint", "save_model"]


def test_a_run_that_was_stopped_after_its_last_step_makes_no_other(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    charlm.train(corpus, out="whole", steps=12, **SMALL)
    with monkeypatch.context() as patch:
        stopped_after(11, patch)  # it is noticed in the next step
        with pytest.raises(Stopped):
            charlm.train(corpus, out="parts", steps=12, **SMALL)
    assert Folder(Path("parts")).load_checkpoint().state.step == 12
    charlm.train(corpus, out="parts", resume=True, quiet=True)
    expected, found = (load_file(f"{run}/model.safetensors") for run in ("whole", "parts"))
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name])


def test_the_plan_says_what_a_run_is(corpus: Path) -> None:
    model = charlm.train(corpus, out="out", steps=3, **SMALL)
    values = json.loads(Path("out/run.json").read_text(encoding="utf-8"))
    assert values["options"]["steps"] == 3 and values["finished"]
    assert values["recipe"]["model"]["hidden"] == 16 and values["corpus"]["name"] == "corpus"
    plan = Folder(Path("out")).plan
    assert plan and plan.recipe and plan.recipe.model == model.config
    assert plan.sha256 == model.card.corpus_sha256


def test_a_checkpoint_is_written_long_before_the_first_evaluation(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**SMALL, "steps": 36, "dropout": 0.3}
    charlm.train(corpus, out="whole", **options)
    update = Loop._update

    def failing(self: Loop, *arguments: Any) -> None:
        update(self, *arguments)
        if self.step == 3:
            raise RuntimeError("the machine failed")

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_update", failing)
        patch.setattr("charlm.training.saver.SECONDS_BETWEEN_CHECKPOINTS", 0)
        patch.setattr("charlm.training.saver.CHECKPOINTING", 1e9)
        patch.setattr("charlm.training.saver.MOST_CHECKPOINTING", 1e9)
        with pytest.raises(RuntimeError):
            charlm.train(corpus, out="parts", **options)
    assert Folder(Path("parts")).load_checkpoint().state.step == 2
    with pytest.raises(ModelError, match="continue its training with `resume`"):
        charlm.load("parts")
    charlm.train(corpus, out="parts", resume=True, quiet=True)
    expected, found = (load_file(f"{run}/model.safetensors") for run in ("whole", "parts"))
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name])


@pytest.mark.parametrize(("seconds", "between"), [(0.001, 2), (0.1, 10), (0.5, 30), (3, 150)])
def test_checkpoints_are_as_frequent_as_they_are_cheap(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, between: float
) -> None:
    now = [0.0]
    monkeypatch.setattr("charlm.training.saver.time.monotonic", lambda: now[0])
    saved: list[float] = []

    def save(self: Folder, checkpoint: Any) -> None:
        saved.append(now[0])
        now[0] += seconds

    update = Loop._update

    def slow(self: Loop, *arguments: Any) -> None:
        update(self, *arguments)
        now[0] += between / 4

    monkeypatch.setattr(Folder, "save_checkpoint", save)
    monkeypatch.setattr(Loop, "_update", slow)
    charlm.train(corpus, steps=11, **SMALL)
    assert saved[0] == between / 4 and 1 <= (saved[1] - saved[0] - seconds) / between < 1.3


def test_the_run_that_is_replaced_is_there_until_the_new_one_is(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at the only moment at which neither has the name."""
    charlm.train(corpus, out="out", steps=2, **SMALL)
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if self.name == "out.new":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            charlm.train(corpus, out="out", force=True, steps=2, **{**SMALL, "hidden": 8})
    assert not Path("out").exists()
    assert charlm.load("out").config.hidden == 16
    assert charlm.load("out.new").config.hidden == 8
    charlm.train(corpus, out="out", force=True, steps=2, **{**SMALL, "hidden": 9})
    assert charlm.load("out").config.hidden == 9
    assert names(Path()) == {"out", "runs"}


def test_an_unfinished_replacement_is_continued_or_replaced(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    charlm.train(corpus, out="out", steps=2, **SMALL)
    for steps in (40, 50):
        with monkeypatch.context() as patch:
            stopped_after(20, patch)
            with pytest.raises(Stopped, match=r"--out out\.new"):
                charlm.train(corpus, out="out", force=True, steps=steps, **SMALL)
    assert charlm.load("out").card.trained.endswith("2 steps")
    charlm.train(corpus, out="out.new", resume=True)
    assert charlm.load("out").card.trained.endswith("40 steps")
    assert names(Path()) == {"out", "out.new-2", "runs"}  # which was begun later
    capsys.readouterr()
    charlm.train(corpus, out="out.new-2", resume=True)
    assert "note: resuming after step 21" in capsys.readouterr().err
    assert charlm.load("out").card.trained.endswith("50 steps")
    assert names(Path()) == {"out", "runs"}
    with monkeypatch.context() as patch:
        stopped_after(20, patch)
        with pytest.raises(Stopped):
            charlm.train(corpus, out="out", force=True, steps=40, **SMALL)
    charlm.train(corpus, out="out", force=True, steps=3, **{**SMALL, "quiet": False})
    notes = capsys.readouterr().err
    assert (
        "out.new is an unfinished run of this corpus; `force` will replace it, too. Continue"
        in notes
    )
    assert charlm.load("out").card.trained.endswith("3 steps")
    assert names(Path()) == {"out", "runs"}


def test_a_signal_while_old_runs_are_read_stops_at_once(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    charlm.train(corpus, steps=2, **SMALL)

    def interrupted(path: Path) -> Plan:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the signal came too late")

    monkeypatch.setattr(Plan, "read", interrupted)
    with pytest.raises(Stopped, match="stopped at once; nothing was saved"):
        charlm.train(corpus, steps=2, **SMALL)
    assert names(Path("runs")) == {".last", "corpus"}


def test_no_handler_of_errors_catches_the_signal(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*arguments: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception:
            raise AssertionError("caught as an error") from None

    monkeypatch.setattr("charlm.training.dataset.split", read)
    with pytest.raises(Stopped) as stopped:
        charlm.train(corpus, steps=2, **SMALL)
    assert stopped.value.exit_code == 143


def test_a_killed_process_blocks_nothing(corpus: Path) -> None:
    """A process that is killed while it writes its first files."""
    program = (
        "import os, signal, sys, charlm, charlm.training.dataset as data\n"
        "data.encode = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"charlm.train({str(corpus)!r}, out='out', steps=5, hidden=8, quiet=True)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL and names(Path("out")) == {"run.json"}
    assert json.loads(Path("out/run.json").read_text("utf-8"))["options"]["steps"] == 5
    assert "5 steps" in charlm.train(corpus, out="out", resume=True, quiet=True).card.trained
