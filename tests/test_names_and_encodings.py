"""Names of files, encodings and streams that are not UTF-8."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from charlm import LanguageModel
from conftest import Command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object, stdin: bytes = b"", **environment: str) -> tuple[int, bytes, bytes]:
    """The exit code, stdout and stderr of a command in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-m", "charlm", *map(str, arguments)], input=stdin, capture_output=True,
        check=False, timeout=120, env={**os.environ, **environment},
    )  # fmt: skip
    return ran.returncode, ran.stdout, ran.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are UTF-8 there")
def test_a_file_whose_name_is_not_utf_8_is_trained_on(
    folder: Path, charlm_command: Command
) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    Path(name).write_text("the cat sat on the mat\n" * 50, encoding="utf-8")
    options = ["--steps", 2, "--hidden", 8, "--quiet"]
    assert charlm_command("train", name, *options).text == "runs/caf\ufffd/model.safetensors\n"
    out = os.fsdecode(b"r\xe9")
    assert charlm_command("train", name, *options, "--out", out).code == 0
    ran = charlm_command("info", "--json")  # of the run trained last
    assert json.loads(ran.text)["card"]["corpus"] == "caf\ufffd"
    assert charlm_command("filter", name, "--max", 99).text == Path(name).read_text("utf-8")


@pytest.mark.parametrize("encoding", ["rot13", "hex", "base64", "zlib", "undefined", "nonsense"])
def test_an_encoding_of_no_text_is_one_line(
    folder: Path, charlm_command: Command, encoding: str
) -> None:
    Path("a.txt").write_text("the cat\n" * 50, encoding="utf-8")
    error = charlm_command("train", "a.txt", "--encoding", encoding).error
    assert error.startswith(f"--encoding {encoding}: no encoding of text; try utf-8")
    error = charlm_command("train", "a.txt", "--encoding", "punycode").error
    assert error.startswith("a.txt, line 1: not punycode text")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_results_are_utf_8_in_a_pipe(model: LanguageModel, encoding: str) -> None:
    text = "the cät Ωя"
    arguments = ["-m", model.path, text]
    code, stdout, _ = run("score", *arguments, PYTHONIOENCODING=encoding)
    assert code == 0 and stdout.decode().splitlines()[1].endswith(f"\t{text}")
    _, stdout, _ = run("score", *arguments, "--format", "json", PYTHONIOENCODING=encoding)
    assert json.loads(stdout)["text"] == text
    _, stdout, _ = run(
        "sample", "-m", model.path, "--prime", text, "--length", 1, PYTHONIOENCODING=encoding
    )
    assert stdout.decode().startswith(text)


def test_bytes_that_are_not_utf_8_are_scored_and_written_as_they_were(
    charlm_command: Command, model: LanguageModel
) -> None:
    arguments = ["score", "-m", model.path]
    ran = charlm_command(*arguments, stdin=b"the c\xe4t\nthe cat\n")
    rows = [line.split(b"\t") for line in ran.stdout.splitlines()]
    assert [row[-1] for row in rows[1:]] == [b"the c\xe4t", b"the cat"]
    assert [row[6] for row in rows[1:]] == [b"1", b"0"]
    assert float(rows[1][2]) == pytest.approx(model.score("the c\udce4t").bits, rel=1e-4)
    record = json.loads(charlm_command(*arguments, "--format", "json", stdin=b"\xe4\n").text)
    assert record["text"] == "\udce4"
    for text in ("the cat\n".encode("utf-16"), "я\n".encode("utf-16"), "a\n".encode("utf-16-le")):
        assert "utf-16" in charlm_command(*arguments, stdin=text * 99).error
        assert (
            "utf-16" in charlm_command("filter", *arguments[1:], "--max", 9, stdin=text * 99).error
        )


def test_the_lines_of_a_file_are_compared(
    charlm_command: Command, model: LanguageModel, folder: Path
) -> None:
    sentences = ["the cat sat", "the cat sad", "a bird"]
    Path("a.txt").write_text("\n".join([*sentences, "", ""]), encoding="utf-8")
    named = charlm_command("compare", "-m", model.path, *sentences)
    assert charlm_command("compare", "-m", model.path, "--file", "a.txt") == named
    assert charlm_command("compare", "-m", model.path, stdin=Path("a.txt").read_bytes()) == named
    assert "not both" in charlm_command("compare", "a", "b", "--file", "a.txt").error
    Path("a.txt").write_text("a bird\n", encoding="utf-8")
    assert "one sentence" in charlm_command("compare", "--file", "a.txt").error
