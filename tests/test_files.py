"""Files that are complete or absent."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from charlm.errors import InputError
from charlm.files import replacing
from charlm.training import metrics


@pytest.fixture
def umask() -> Iterator[int]:
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def test_files_have_the_mode_of_the_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "model.safetensors"
    with replacing(path) as temporary:
        save_file({"a": np.zeros(3)}, temporary)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "out.txt: the disk is full; free some"),
        (OSError(errno.EROFS, "Read-only file system"), "out.txt: the disk is read-only; write"),
        (SafetensorError("I/O error: No space left (os error 28)"), "out.txt: the disk is full"),
        (SafetensorError("odd"), "out.txt: odd"),
    ],
)
def test_what_cannot_be_written_is_one_line_and_leaves_nothing(
    tmp_path: Path, error: Exception, words: str
) -> None:
    (tmp_path / "out.txt").write_text("before", encoding="utf-8")
    with pytest.raises(InputError, match=words), replacing(tmp_path / "out.txt") as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "before"


@pytest.mark.parametrize("end", ['{"step": 3, "va', "\x00\x00", "3\n", "\udcff"])
def test_metrics_are_read_up_to_a_line_that_was_cut_off(tmp_path: Path, end: str) -> None:
    path = tmp_path / metrics.METRICS
    assert metrics.read(path) == []
    metrics.add(path, {"step": 1})
    metrics.add(path, {"step": 2})
    with path.open("ab") as file:
        file.write(end.encode("utf-8", "surrogateescape"))
    assert metrics.read(path) == [{"step": 1}, {"step": 2}]
