"""The folder of a run: what is written there, and what a resumed run reads."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

from charlm import runs
from charlm.errors import CharlmError, InputError
from charlm.files import write_text
from charlm.model.file import MODEL_FILE, ModelFile
from charlm.training.checkpoint import Checkpoint, RunInfo
from charlm.training.trainer import Progress

CHECKPOINT = Path("checkpoint") / "state.safetensors"
METRICS = "metrics.jsonl"


class RunFolder:
    """The files of one run.

    path:    where they are written
    target:  the folder of the run that this one replaces when it is complete; None for no other
    """

    def __init__(self, path: Path, target: Path | None = None) -> None:
        self.path, self.target = path, target

    @classmethod
    def make(cls, name: str, out: Path | None, force: bool) -> RunFolder:
        """Make the folder of a new run.

        name:   of the corpus
        out:    the folder; None for runs/NAME or the next free runs/NAME-2 …
        force:  if `out` exists, write beside it and replace it in the end

        Raises InputError if `out` exists, or if it exists and is not the folder of a run.
        """
        if out is None:
            return cls(_make_free(runs.RUNS / name))
        check_target(out, force)
        try:
            out.mkdir(parents=True)
        except FileExistsError:
            if not force:
                raise _exists(out) from None  # another training has made it just now
            return cls(_make_free(out.with_name(f"{out.name}.new")), target=out)
        return cls(out)

    @property
    def name(self) -> Path:
        """The path that the folder has in the end."""
        return self.target or self.path

    def info(self) -> RunInfo | None:
        """What the run is; None if there is no readable checkpoint."""
        try:
            return RunInfo.load(self.path / CHECKPOINT)
        except CharlmError:
            return None

    def load_checkpoint(self) -> Checkpoint:
        """The saved state; see `Checkpoint.load` for errors."""
        return Checkpoint.load(self.path / CHECKPOINT)

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Replace the saved state."""
        checkpoint.save(self.path / CHECKPOINT)

    def save_model(self, file: ModelFile) -> None:
        """Replace the model file."""
        file.save(self.path / MODEL_FILE)

    def add_metrics(self, p: Progress) -> None:
        """Add a line to the metrics, after an evaluation."""
        values = dataclasses.asdict(p)
        line = {
            **{name: values[name] for name in ("step", "epoch", "seconds")},
            "train_nats_per_token": p.train_loss,
            "valid_nats_per_token": p.valid_loss,
            "learning_rate": p.learning_rate,
            "tokens_per_second": p.tokens_per_second,
        }
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def drop_metrics_after(self, step: int) -> None:
        """Drop the metrics of steps that were done after the checkpoint: they will be repeated."""
        path, kept = self.path / METRICS, []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                kept += [line] if json.loads(line)["step"] <= step else []
            except ValueError:  # the last line was cut off
                break
        write_text(path, "".join(f"{line}\n" for line in kept))

    def complete(self) -> Path:
        """Put the complete run in its final place, and remember it as the last run."""
        if self.target:
            shutil.rmtree(self.target)
            self.path.rename(self.target)
        runs.remember(self.name)
        return self.name

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def check_target(out: Path | None, force: bool) -> None:
    """Raise InputError if a new run cannot be written to `out`."""
    if out is None or not out.exists():
        return
    if not force:
        raise _exists(out)
    if not (out / MODEL_FILE).is_file() and not (out / CHECKPOINT).is_file():
        raise InputError(f"{out} is not a run folder and is not replaced; use another `out`")


def runs_of(name: str) -> Iterator[RunFolder]:
    """The run folders of the corpus with this name, newest first."""
    pattern = re.compile(re.escape(name) + r"(-\d+)?")
    paths = runs.RUNS.iterdir() if runs.RUNS.is_dir() else ()
    folders = [path for path in paths if path.is_dir() and pattern.fullmatch(path.name)]
    for path in sorted(folders, key=lambda p: p.stat().st_mtime, reverse=True):
        yield RunFolder(path)


def _make_free(path: Path) -> Path:
    """Make the folder, or the first of PATH-2, PATH-3, … that does not exist."""
    candidates = chain([path], (path.with_name(f"{path.name}-{k}") for k in count(2)))
    while True:
        candidate = next(candidates)
        with suppress(FileExistsError):
            candidate.mkdir(parents=True)
            return candidate


def _exists(out: Path) -> InputError:
    return InputError(
        f"{out} exists; add `force` to replace it, `resume` to continue it, or use another `out`"
    )
