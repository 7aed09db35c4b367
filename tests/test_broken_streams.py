"""Commands whose output has no reader or no space, and whose input is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from charlm import LanguageModel
from conftest import Command

FULL = Path("/dev/full")
# FILE is the name of the input. Each of its lines is one that the command can read.
COMMANDS = {
    "score": (["score", "--file", "FILE", "--words"], "the cat sat"),
    "compare": (["compare", "the cat", "a cat"], None),
    "filter": (["filter", "FILE", "--max", "99"], "the cat sat"),
    "pairs": (["pairs", "FILE"], "the cat sat\tthe cat sad"),
    "rescore": (["rescore", "FILE"], "0 ||| the cat ||| ||| -1"),
    "copied": (["copied", "FILE", "--corpus", "FILE"], "the cat sat on the mat"),
    "evaluate": (["evaluate", "FILE", "--format", "srilm"], "the cat sat"),
}
READING = [name for name, (_, line) in COMMANDS.items() if line]


@pytest.fixture
def arguments(request: pytest.FixtureRequest, model: LanguageModel, tmp_path: Path) -> list[str]:
    """The arguments of a command, with a file of a thousand lines."""
    given, line = COMMANDS[request.param]
    (tmp_path / "FILE").write_text(f"{line}\n" * 1000, encoding="utf-8")
    named = [str(tmp_path / "FILE") if argument == "FILE" else argument for argument in given]
    return named if request.param == "copied" else [*named, "-m", str(model.path)]


def notes(arguments: list[str], stdout: int) -> tuple[int, list[str]]:
    """The exit code and the lines on stderr, but for the name of the model."""
    ran = subprocess.run(
        [sys.executable, "-m", "charlm", *arguments], stdout=stdout, stderr=subprocess.PIPE,
        text=True, check=False, timeout=120, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    lines = ran.stderr.splitlines()
    return ran.returncode, [line for line in lines if not line.startswith("model: ")]


@pytest.mark.parametrize("arguments", COMMANDS, indirect=True)
def test_a_closed_pipe_is_not_mentioned(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code, found = notes(arguments, writer)
    os.close(writer)
    assert code in (0, 1) and [n for n in found if "are in the corpus" not in n] == []


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", COMMANDS, indirect=True)
def test_a_full_disk_is_one_line(arguments: list[str]) -> None:
    with FULL.open("w") as full:
        code, found = notes(arguments, full.fileno())
    assert code == 1 and found[-1] == "charlm: the disk is full; free some space"
    assert [n for n in found[:-1] if "are in the corpus" not in n] == []


@pytest.mark.parametrize("arguments", READING, indirect=True)
def test_a_missing_file_is_one_line(
    charlm_command: Command, arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "FILE").unlink()
    assert charlm_command(*arguments).error.startswith(f"{tmp_path / 'FILE'}: no such file; ")


@pytest.mark.parametrize("arguments", READING, indirect=True)
def test_a_text_that_cannot_be_decoded_is_one_line(
    charlm_command: Command, arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "FILE").write_bytes(b"\xff\n")
    if arguments[0] == "filter":  # lines stay as they are
        assert charlm_command(*arguments).stdout == b"\xff\n"
        return
    if arguments[0] in ("score", "rescore"):  # a byte is an unknown character, unless it is strict
        ran = charlm_command(*arguments)
        assert "1 lines are not utf-8" in ran.notes[0] and "--encoding" in ran.notes[0]
        arguments = [*arguments, "--strict"]
    error = charlm_command(*arguments).error
    assert error.startswith(f"{tmp_path / 'FILE'}, line 1: not utf-8 text; name its --encoding")


@pytest.mark.parametrize("arguments", READING, indirect=True)
def test_an_empty_file_is_an_empty_result(
    charlm_command: Command, arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "FILE").write_bytes(b"")
    ran = charlm_command(*arguments)
    if arguments[0] == "evaluate":
        assert ran.error.endswith("the file is empty; there is nothing to measure")
    else:
        heading = "length\tline\tcorpus\tcorpus_line\ttext\n" if arguments[0] == "copied" else ""
        assert ran.text == heading
