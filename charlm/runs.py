"""Which model is meant when none, a file or a folder is named."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from charlm.errors import ModelError
from charlm.files import write_text
from charlm.model.file import MODEL_FILE

RUNS = Path("runs")
LAST = RUNS / ".last"
VARIABLE = "CHARLM_MODEL"


def find_model(name: str | Path | None = None) -> Path:
    """The path of a model file.

    name:  the file or its run folder; None for $CHARLM_MODEL, then the run that was trained last
           from this directory

    Raises ModelError, saying where it looked.
    """
    if name is None:
        name = os.environ.get(VARIABLE) or _last_run()
    path = Path(name)
    restore(path)
    if path.is_dir():
        if not (path / MODEL_FILE).is_file():
            raise ModelError(
                f"{path}: no {MODEL_FILE} in this folder; train a model, continue its training "
                "with `resume`, or name another"
            )
        return path / MODEL_FILE
    if not path.is_file():
        raise ModelError(f"{path}: no such model; name a {MODEL_FILE} or its folder with `model`")
    return path


def remember(folder: Path) -> None:
    """Remember this run as the last one from this directory, if the directory can be written."""
    with suppress(OSError):
        RUNS.mkdir(exist_ok=True)
        write_text(LAST, f"{folder}\n")


def replaced(folder: Path) -> Path:
    """Where a run folder is for the moment in which another one takes its place."""
    return folder.with_name(f".{folder.name}.replaced")


def restore(folder: Path) -> None:
    """Give a run folder its name back, if the process that replaced it was killed meanwhile."""
    if not folder.exists() and replaced(folder).is_dir():
        replaced(folder).rename(folder)


def _last_run() -> Path:
    if LAST.is_file():
        folder = Path(LAST.read_text(encoding="utf-8", errors="surrogateescape").strip())
        restore(folder)
        if (folder / MODEL_FILE).is_file():
            return folder
    raise ModelError(
        f"no model: looked for `model`, ${VARIABLE} and the last run in {RUNS.resolve()}; train "
        "one with `charlm train CORPUS`"
    )
