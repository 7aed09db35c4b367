"""Run folders: where models are written, and which one is meant."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

from charlm.errors import ModelError
from charlm.files import write_text
from charlm.model.file import MODEL_FILE

RUNS = Path("runs")
LAST = RUNS / ".last"
VARIABLE = "CHARLM_MODEL"


def find_model(named: str | Path | None = None) -> Path:
    """The model file that is meant.

    `named` is the file or its run folder; without it $CHARLM_MODEL, else the run that was
    trained last from this directory. Raises ModelError, saying what was looked for and where.
    """
    if named is None:
        named = os.environ.get(VARIABLE) or _last_run()
    path = Path(named)
    if path.is_dir():
        if not (path / MODEL_FILE).is_file():
            raise ModelError(
                f"{path}: no {MODEL_FILE} in this folder; train a model, or name another"
            )
        return path / MODEL_FILE
    if not path.is_file():
        raise ModelError(f"{path}: no such model; name a {MODEL_FILE} or its folder with --model")
    return path


def _last_run() -> Path:
    if LAST.is_file():
        folder = Path(LAST.read_text(encoding="utf-8").strip())
        if (folder / MODEL_FILE).is_file():
            return folder
    raise ModelError(
        f"no model found: looked for --model, ${VARIABLE} and the last run in "
        f"{RUNS.resolve()}; train one with `charlm train CORPUS`"
    )


def remember(folder: Path) -> None:
    """Make this the run that was trained last from this directory, if it can be written to."""
    with suppress(OSError):
        RUNS.mkdir(exist_ok=True)
        write_text(LAST, f"{folder}\n")


def make_free_folder(folder: Path) -> Path:
    """Make the folder, or the first of FOLDER-2, FOLDER-3, … that does not exist yet."""
    candidates = chain([folder], (folder.with_name(f"{folder.name}-{k}") for k in count(2)))
    while True:
        candidate = next(candidates)
        with suppress(FileExistsError):
            candidate.mkdir(parents=True)
            return candidate


def runs_of(name: str) -> Iterator[Path]:
    """The run folders that bear this corpus's name, newest first."""
    named = re.compile(re.escape(name) + r"(-\d+)?")
    there = RUNS.iterdir() if RUNS.is_dir() else ()
    folders = [path for path in there if path.is_dir() and named.fullmatch(path.name)]
    yield from sorted(folders, key=lambda p: p.stat().st_mtime, reverse=True)
