"""The folder of a run: what is written there, and what a resumed run reads."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, count
from pathlib import Path
from typing import Any

from charlm import runs
from charlm.errors import InputError, ModelError
from charlm.files import PART, file_error
from charlm.model.file import MODEL_FILE, Card, ModelFile
from charlm.training import metrics
from charlm.training.checkpoint import Checkpoint
from charlm.training.plan import PLAN, Plan

try:
    import fcntl
except ImportError:  # not on Windows: a folder that is in use is not noticed there
    fcntl = None  # type: ignore[assignment]

CHECKPOINT = Path("checkpoint") / "state.safetensors"
# What a run writes before its first checkpoint, and what earlier versions did.
WRITTEN_FIRST = {PLAN, metrics.METRICS, CHECKPOINT.parent.name, "words.json"}
OWN_FILE = re.compile(r"(train|valid)(-\w+)?\.(tokens|lines)|events\.out\.tfevents\..*")
LEFT_BEHIND = re.compile(rf"\..*\{PART}|\.tmp\w+")  # by a process that was killed while it wrote


class Folder:
    """The files of one run.

    path:    where they are written
    plan:    what the run does; None for a folder without a plan
    target:  the folder of the run that this one replaces when it is complete; None for no other
    """

    def __init__(self, path: Path) -> None:
        self.path, self.plan, self._lock = path, Plan.read(path), -1

    @property
    def target(self) -> Path | None:
        # Once the folder is in its place, it has the name that it replaces.
        if self.plan and self.plan.replaces not in (None, self.path.name):
            return self.path.with_name(str(self.plan.replaces))
        return None

    def __getstate__(self) -> dict[str, Any]:
        """Pickled without the lock, which this process keeps."""
        return {**vars(self), "_lock": -1}

    @classmethod
    def make(cls, name: str, out: Path | None, force: bool, plan: Plan) -> Folder:
        """Make the folder of a new run, or clear what a killed run has left of one, and lock it.

        name:   of the corpus
        out:    the folder; None for runs/NAME or the next free runs/NAME-2 …
        force:  if `out` holds a run, write beside it and replace it in the end

        Raises InputError if `out` cannot be used.
        """
        check_target(out, force)
        if out is None:
            candidates: Iterable[Path] = _numbered(runs.RUNS / name)
        elif force and out.exists() and not is_left_behind(out):
            plan = dataclasses.replace(plan, replaces=out.name)
            candidates = _numbered(out.with_name(f"{out.name}.new"))
        else:
            candidates = [out]
        for path in candidates:
            folder = cls(path)
            if folder._take():
                folder.write_plan(plan)
                return folder
        raise _exists(path)  # another training has made it just now

    @classmethod
    def locked(cls, path: Path) -> Folder:
        """The folder of an earlier run, which other processes cannot write to until `release`.

        Raises InputError if one writes to it, ModelError for a folder without a run.
        """
        runs.restore(path)
        folder = cls(path)
        if path.is_dir():
            folder.lock()
            folder.plan = Plan.read(path)  # it may have changed until now
        if not folder.plan:
            folder.release()
            if (path / PLAN).exists():
                raise ModelError(
                    f"{path / PLAN} is damaged, or of a later version: upgrade charlm, or train "
                    "anew"
                )
            raise ModelError(f"{path}: no run to resume in this folder; name another or train anew")
        return folder

    def check_left_behind(self) -> None:
        """Raise InputError unless the folder may be cleared, see `is_left_behind`."""
        if not is_left_behind(self.path):
            raise _exists(self.path)

    def write_plan(self, plan: Plan) -> None:
        """Write the plan, or its changes."""
        plan.write(self.path)
        self.plan = plan

    def _take(self) -> bool:
        """Make the folder, or empty what was left behind, and lock it. False if it is in use."""
        try:
            self.path.mkdir(parents=True)
        except FileExistsError:
            pass
        except OSError as error:
            raise file_error(error, self.path) from error
        if not is_left_behind(self.path) or not self._try_lock():
            return False
        self.clear()
        return True

    def clear(self) -> None:
        """Remove all files in the folder, last the plan, by which the others are known."""
        for path in sorted(self.path.iterdir(), key=lambda path: path.name == PLAN):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def lock(self) -> None:
        """Keep other processes out, until `release`. Raises InputError if one writes to it."""
        if not self._try_lock():
            raise _in_use(self.path)

    def remove_unfinished_files(self) -> None:
        """Remove what a process was writing when it was killed."""
        for path in (*self.path.glob(".*"), *(self.path / CHECKPOINT).parent.glob(".*")):
            if LEFT_BEHIND.fullmatch(path.name):
                path.unlink()

    def release(self) -> None:
        """Let other processes write to the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _try_lock(self) -> bool:
        if fcntl is None:
            return True
        self._lock = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        except OSError:  # this file system has no locks
            pass
        return True

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a saved state."""
        return (self.path / CHECKPOINT).is_file()

    def load_checkpoint(self) -> Checkpoint:
        """The saved state; see `Checkpoint.load` for errors."""
        return Checkpoint.load(self.path / CHECKPOINT)

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Replace the saved state."""
        checkpoint.save(self.path / CHECKPOINT)

    def save_model(self, file: ModelFile) -> None:
        """Replace the model file."""
        file.save(self.path / MODEL_FILE)

    def add_metrics(self, record: Mapping[str, Any]) -> None:
        """Add a line to the metrics, after an evaluation."""
        metrics.add(self.path / metrics.METRICS, record)

    def add_model_metrics(self, step: int, card: Card, predicted: str) -> None:
        """Add the figures of the model that is written to the last line, that of its step.

        Its loss is that of the best weights together with the n-grams or the linear half.
        """
        path = self.path / metrics.METRICS
        lines = metrics.read(path)
        if lines and lines[-1]["step"] == step:
            lines[-1] |= {f"model_nats_per_{predicted}": card.valid_nats, **card.figures}
            metrics.write(path, lines)

    def drop_metrics_after(self, step: int) -> None:
        """Drop the metrics of steps that were done after the checkpoint: they will be repeated."""
        path = self.path / metrics.METRICS
        metrics.write(path, (line for line in metrics.read(path) if line["step"] <= step))

    def complete(self) -> Path:
        """Put the complete run in its final place, and remember it as the last run.

        Earlier attempts to replace the same run are removed. There is no moment at which neither
        the old run nor the new one is complete on disk; see `runs.restore` for the moment at which
        neither has the name.
        """
        final = self.target or self.path
        if self.target and self.plan:
            for other in attempts(self.target):
                is_earlier = other.plan and other.plan.started < self.plan.started
                if is_earlier and other._try_lock():
                    other.remove()
            _replace(self.target, self.path)
        runs.remember(final)
        return final

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.release()


def _replace(target: Path, path: Path) -> None:
    """Give a folder the name of another, which is removed."""
    replaced = runs.replaced(target)
    while True:
        if target.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            target.rename(replaced)
        try:
            path.rename(target)
            break
        except OSError:
            if not target.exists():  # otherwise another process has just restored it
                raise
    shutil.rmtree(replaced, ignore_errors=True)


def check_target(out: Path | None, force: bool) -> None:
    """Raise InputError if a new run cannot be written to `out`."""
    if out is None:
        return
    runs.restore(out)
    if not out.exists():
        return
    if not is_left_behind(out):
        if not force:
            raise _exists(out)
        if not _is_run(out):
            raise InputError(f"{out} is not a run folder and is not replaced; use another `out`")
    folder = Folder(out)
    if not folder._try_lock():
        raise _in_use(out)
    folder.release()


def is_left_behind(path: Path) -> bool:
    """Whether the folder is empty, or holds only what a run writes before its first checkpoint.

    A run that is just beginning looks the same, but has locked its folder.
    """
    if not path.is_dir() or _is_run(path):
        return False
    names = [child.name for child in path.iterdir() if not LEFT_BEHIND.fullmatch(child.name)]
    own = all(name in WRITTEN_FIRST or OWN_FILE.fullmatch(name) for name in names)
    return not names or (PLAN in names and own)


def attempts(target: Path) -> Iterator[Folder]:
    """The runs that replace this one when they are complete."""
    for path in sorted(target.parent.glob("*")):
        folder = Folder(path)
        if folder.target == target:
            yield folder


def runs_of(name: str) -> Iterator[Folder]:
    """The run folders of the corpus with this name, newest first."""
    pattern = re.compile(re.escape(name) + r"(-\d+)?")
    paths = runs.RUNS.iterdir() if runs.RUNS.is_dir() else ()
    folders = [path for path in paths if path.is_dir() and pattern.fullmatch(path.name)]
    for path in sorted(folders, key=lambda p: p.stat().st_mtime, reverse=True):
        yield Folder(path)


def _is_run(path: Path) -> bool:
    return (path / MODEL_FILE).is_file() or (path / CHECKPOINT).is_file()


def _numbered(path: Path) -> Iterator[Path]:
    """The path, PATH-2, PATH-3, …"""
    return chain([path], (path.with_name(f"{path.name}-{k}") for k in count(2)))


def _exists(out: Path) -> InputError:
    return InputError(
        f"{out} exists; add `force` to replace it, `resume` to continue it, or use another `out`"
    )


def _in_use(out: Path) -> InputError:
    return InputError(f"{out}: another training writes to it; wait for it, or use another `out`")
